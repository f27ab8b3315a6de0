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

fn download(series: &str, folder: &PathBuf) -> Result<()> {
    if !found("apt-get") || !found("dpkg") {
        bail!("test kernels are Debian packages: this needs apt-get and dpkg");
    }
    let package = newest(&output(Command::new("apt-cache").args(["pkgnames", &format!("linux-image-{series}.")]))?)
        .with_context(|| {
            format!(
                "the package archive has no linux-image-{series}.*-cloud-amd64. Run `apt-get update`; \
                 Debian 12 has 6.1 and 6.12, Debian 13 has 6.12"
            )
        })?;
    println!("kernel {series}: {package}");
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder)?;
    run(Command::new("apt-get")
        .args(["download", "-qq", "-o", "APT::Sandbox::User=root", &package])
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
    let release = package.trim_start_matches("linux-image-");
    run(Command::new("/sbin/depmod").arg("-b").arg(folder).arg(release))?;
    Ok(fs::write(folder.join("complete"), package)?)
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
