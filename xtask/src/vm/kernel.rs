//! Debian's kernels, taken from the package archive and unpacked below target/: nothing is installed on the host.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::arch::Arch;
use super::archive::Archive;
use crate::tool::{run, target};

/// An unpacked kernel package.
#[derive(Debug)]
pub struct Kernel {
    /// The bootable image.
    pub image: PathBuf,
    /// `lib/modules` of the package.
    pub modules: PathBuf,
    /// `uname -r` of it.
    pub release: String,
}

impl Kernel {
    /// Was the host processor's downloaded before?
    pub fn is_there(series: &str) -> bool {
        folder(series, Arch::Amd64).join("complete").is_file()
    }

    /// The newest cloud kernel of a series (`6.12`), downloaded where it isn't there yet.
    pub fn get(series: &str) -> Result<Self> {
        Self::get_for(series, Arch::Amd64)
    }

    /// The same for another processor.
    pub fn get_for(series: &str, arch: Arch) -> Result<Self> {
        let folder = folder(series, arch);
        if !folder.join("complete").is_file() {
            download(series, arch, &folder)?;
        }
        let modules = folder.join("lib/modules");
        let entry = fs::read_dir(&modules)
            .with_context(|| modules.display().to_string())?
            .next()
            .with_context(|| format!("{} is empty: remove {}", modules.display(), folder.display()))??;
        let release = entry.file_name().to_string_lossy().into_owned();
        let images = [folder.join("boot").join(format!("vmlinuz-{release}")), modules.join(&release).join("vmlinuz")];
        let image = images.into_iter().find(|image| image.is_file());
        let image = image.with_context(|| format!("no kernel image below {0}: remove it", folder.display()))?;
        Ok(Self { image, modules, release })
    }

    /// The uncompressed bytes of a module, or nothing where this kernel has it built in.
    pub fn module(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let index = fs::read_to_string(self.modules.join(&self.release).join("modules.dep"))?;
        let path = index.lines().filter_map(|line| line.split(':').next()).find(|path| {
            let file = path.rsplit('/').next().unwrap_or(path);
            file.split(".ko").next() == Some(name)
        });
        let Some(path) = path else { return Ok(None) };
        let path = self.modules.join(&self.release).join(path);
        let unpacker = match path.extension().and_then(|extension| extension.to_str()) {
            Some("xz") => "xz",
            Some("zst") => "zstd",
            _ => return Ok(Some(fs::read(&path)?)),
        };
        let unpacked = Command::new(unpacker).arg("-dc").arg(&path).output().context(unpacker)?;
        if !unpacked.status.success() {
            bail!("{unpacker} can't read {}", path.display());
        }
        Ok(Some(unpacked.stdout))
    }
}

fn folder(series: &str, arch: Arch) -> PathBuf {
    let folder = target().join("kernel");
    if arch == Arch::Amd64 { folder.join(series) } else { folder.join(format!("{series}-{}", arch.name())) }
}

/// What the backports of the current release have.
pub const NEWEST: &str = "newest";

/// The suite of Debian's archive that has a series, for machines whose own release hasn't.
fn suite(series: &str) -> Option<&'static str> {
    match series {
        "5.10" => Some("bullseye"),
        "6.1" => Some("bookworm"),
        "6.12" => Some("trixie"),
        NEWEST => Some("trixie-backports"),
        _ => None,
    }
}

fn download(series: &str, arch: Arch, folder: &Path) -> Result<()> {
    let prefix = if series == NEWEST { "linux-image-".to_owned() } else { format!("linux-image-{series}.") };
    let mut archive = Archive::own()?;
    let is_own = series != NEWEST && arch == Arch::Amd64;
    let mut package = if is_own { newest(&archive.names(&prefix)?, arch) } else { None };
    if let (None, Some(suite)) = (&package, suite(series)) {
        archive = Archive::suite(suite, arch)?;
        package = newest(&archive.names(&prefix)?, arch);
    }
    let package = package.with_context(|| {
        let arch = arch.name();
        format!(
            "no package {prefix}*-cloud-{arch} in this machine's archives (run `apt-get update`), nor in Debian's that \
             should have it"
        )
    })?;
    println!("kernel {series}: {package}");
    let release = package.trim_start_matches("linux-image-");
    // From 7.2 on the package is empty: the kernel and its modules are in packages of their own.
    let parts = ["linux-binary-", "linux-modules-"].map(|part| format!("{part}{release}"));
    let known = archive.names("linux-")?;
    let mut packages = vec![package.clone()];
    packages.extend(parts.into_iter().filter(|part| known.lines().any(|name| name == part)));
    archive.unpack(&packages, folder)?;
    // Debian 13 keeps modules below usr/.
    if !folder.join("lib").exists() && folder.join("usr/lib/modules").is_dir() {
        std::os::unix::fs::symlink("usr/lib", folder.join("lib"))?;
    }
    run(Command::new("/sbin/depmod").arg("-b").arg(folder).arg(release))?;
    Ok(fs::write(folder.join("complete"), &package)?)
}

/// The signed cloud kernel with the highest version among package names.
fn newest(names: &str, arch: Arch) -> Option<String> {
    let end = format!("-cloud-{}", arch.name());
    // A name without a version is of a package that only depends on another.
    let is_kernel = |name: &&str| {
        let release = name.strip_prefix("linux-image-").and_then(|name| name.strip_suffix(&end));
        release.is_some_and(|release| release.starts_with(|c: char| c.is_ascii_digit()))
    };
    names.lines().filter(is_kernel).max_by_key(|name| numbers(name)).map(str::to_owned)
}

/// The numbers in a name, in order: they compare as versions do.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernel_is_the_highest_number_not_the_last_name() {
        let names = "linux-image-6.12.107+deb12-cloud-amd64\nlinux-image-6.12.99+deb12-cloud-amd64\n\
                     linux-image-6.12.200+deb12-cloud-amd64-dbg\nlinux-image-6.12.200+deb12-amd64\nlinux-image-cloud-amd64\n";
        assert_eq!(newest(names, Arch::Amd64).as_deref(), Some("linux-image-6.12.107+deb12-cloud-amd64"));
        assert_eq!(newest(names, Arch::Arm64), None);
        assert_eq!(newest("", Arch::Amd64), None);
    }
}
