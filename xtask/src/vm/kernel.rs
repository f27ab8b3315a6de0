//! Debian's kernels, taken from the package archive and unpacked below target/: nothing is installed on the host.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::tool::{found, output, run, target};

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
    /// Was it downloaded before?
    pub fn is_there(series: &str) -> bool {
        folder(series).join("complete").is_file()
    }

    /// The newest cloud kernel of a series (`6.12`), downloaded where it isn't there yet.
    pub fn get(series: &str) -> Result<Self> {
        let folder = folder(series);
        if !Self::is_there(series) {
            download(series, &folder)?;
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

fn folder(series: &str) -> PathBuf {
    target().join("kernel").join(series)
}

/// The series of the matrix: what Debian's releases ship, from the oldest that is still supported on. `newest` is what
/// the backports of the current one have.
pub const SERIES: [&str; 4] = ["5.10", "6.1", "6.12", NEWEST];
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

fn download(series: &str, folder: &PathBuf) -> Result<()> {
    if !found("apt-get") || !found("dpkg") {
        bail!("test kernels are Debian packages: this needs apt-get and dpkg");
    }
    let prefix = if series == NEWEST { "linux-image-".to_owned() } else { format!("linux-image-{series}.") };
    let names = |archive: &[String]| output(Command::new("apt-cache").args(archive).args(["pkgnames", &prefix]));
    let mut archive = Vec::new();
    let mut package = if series == NEWEST { None } else { newest(&names(&archive)?) };
    if let (None, Some(suite)) = (&package, suite(series)) {
        archive = other_archive(suite)?;
        package = newest(&names(&archive)?);
    }
    let package = package.with_context(|| {
        format!("no package {prefix}*-cloud-amd64 in this machine's archives, nor in Debian's that should have it")
    })?;
    println!("kernel {series}: {package}");
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder)?;
    let release = package.trim_start_matches("linux-image-");
    // From 7.2 on the package is empty: the kernel and its modules are in packages of their own.
    let parts = ["linux-binary-", "linux-modules-"].map(|part| format!("{part}{release}"));
    let known = output(Command::new("apt-cache").args(&archive).args(["pkgnames", "linux-"]))?;
    let parts = parts.iter().filter(|part| known.lines().any(|name| name == *part));
    run(Command::new("apt-get")
        .args(&archive)
        .args(["download", "-qq", "-o", "APT::Sandbox::User=root", &package])
        .args(parts)
        .current_dir(folder))?;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            run(Command::new("dpkg").arg("-x").arg(&path).arg(folder))?;
            fs::remove_file(&path)?;
        }
    }
    // Debian 13 keeps modules below usr/.
    if !folder.join("lib").exists() && folder.join("usr/lib/modules").is_dir() {
        std::os::unix::fs::symlink("usr/lib", folder.join("lib"))?;
    }
    run(Command::new("/sbin/depmod").arg("-b").arg(folder).arg(release))?;
    Ok(fs::write(folder.join("complete"), &package)?)
}

/// Options that show apt another suite of the archive that this machine's Debian comes from, and nothing else. Its lists
/// are kept below target/; the machine's own configuration isn't touched.
fn other_archive(suite: &str) -> Result<Vec<String>> {
    let known = output(Command::new("apt-get").args(["indextargets", "--format", "$(ORIGIN) $(REPO_URI)"]))?;
    let mirror = known.lines().find_map(|line| line.strip_prefix("Debian ").filter(|uri| !uri.contains("security")));
    let mirror = mirror.context("this machine's apt knows no archive of Debian: run `apt-get update`")?;
    let folder = target().join("kernel/apt").join(suite);
    for part in ["lists/partial", "cache/archives/partial", "parts"] {
        fs::create_dir_all(folder.join(part))?;
    }
    let mut sources = format!("deb {mirror} {suite} main\n");
    if !suite.contains('-') {
        let security = mirror.trim_end_matches('/').to_owned() + "-security";
        sources.push_str(&format!("deb {security} {suite}-security main\n"));
    }
    fs::write(folder.join("sources.list"), sources)?;
    let options: Vec<String> = [
        ("Dir::Etc::sourcelist", "sources.list"),
        ("Dir::Etc::sourceparts", "parts"),
        ("Dir::State::lists", "lists"),
        ("Dir::Cache", "cache"),
    ]
    .iter()
    .flat_map(|(name, path)| ["-o".to_owned(), format!("{name}={}", folder.join(path).display())])
    .collect();
    run(Command::new("apt-get").args(&options).args(["update", "-qq", "-o", "APT::Sandbox::User=root"]))
        .with_context(|| format!("Debian's suite {suite} can't be had here"))?;
    Ok(options)
}

/// The signed cloud kernel with the highest version among package names.
fn newest(names: &str) -> Option<String> {
    names.lines().filter(|name| name.ends_with("-cloud-amd64")).max_by_key(|name| numbers(name)).map(str::to_owned)
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
                     linux-image-6.12.200+deb12-cloud-amd64-dbg\nlinux-image-6.12.200+deb12-amd64\n";
        assert_eq!(newest(names).as_deref(), Some("linux-image-6.12.107+deb12-cloud-amd64"));
        assert_eq!(newest(""), None);
    }
}
