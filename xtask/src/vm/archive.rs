//! Debian's package archive, as apt sees it: this machine's own view, or another suite or processor's.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::arch::Arch;
use crate::tool::{found, output, run, target};

/// Options that give apt its view.
#[derive(Debug, Default)]
pub struct Archive {
    options: Vec<String>,
}

impl Archive {
    /// What this machine is configured for.
    pub fn own() -> Result<Self> {
        if !found("apt-get") || !found("dpkg") {
            bail!("test machines run Debian's packages: this needs apt-get and dpkg");
        }
        Ok(Self::default())
    }

    /// A suite of the archive that this machine's Debian comes from, and nothing else. Its lists are kept below target/;
    /// the machine's own configuration isn't touched.
    pub fn suite(suite: &str, arch: Arch) -> Result<Self> {
        Self::own()?;
        let known = output(Command::new("apt-get").args(["indextargets", "--format", "$(ORIGIN) $(REPO_URI)"]))?;
        let mirror =
            known.lines().find_map(|line| line.strip_prefix("Debian ").filter(|uri| !uri.contains("security")));
        let mirror = mirror.context("this machine's apt knows no archive of Debian: run `apt-get update`")?;
        let arch = arch.name();
        let folder = target().join("apt").join(format!("{suite}-{arch}"));
        for part in ["lists/partial", "cache/archives/partial", "parts"] {
            fs::create_dir_all(folder.join(part))?;
        }
        let mut sources = format!("deb [arch={arch}] {mirror} {suite} main\n");
        if !suite.contains('-') {
            let security = mirror.trim_end_matches('/').to_owned() + "-security";
            sources.push_str(&format!("deb [arch={arch}] {security} {suite}-security main\n"));
        }
        fs::write(folder.join("sources.list"), sources)?;
        // No package is installed there.
        fs::write(folder.join("status"), "")?;
        let mut options: Vec<String> = [
            ("Dir::Etc::sourcelist", "sources.list"),
            ("Dir::Etc::sourceparts", "parts"),
            ("Dir::State::lists", "lists"),
            ("Dir::State::status", "status"),
            ("Dir::Cache", "cache"),
        ]
        .iter()
        .map(|(name, path)| format!("{name}={}", folder.join(path).display()))
        .collect();
        options.extend([
            format!("APT::Architecture={arch}"),
            format!("APT::Architectures::={arch}"),
            "Debug::NoLocking=true".to_owned(),
        ]);
        let options = options.into_iter().flat_map(|option| ["-o".to_owned(), option]).collect();
        let archive = Self { options };
        run(archive.apt("apt-get").args(["update", "-qq"]))
            .with_context(|| format!("Debian's suite {suite} for {arch} can't be had here"))?;
        Ok(archive)
    }

    /// Names of packages that begin so, one a line.
    pub fn names(&self, prefix: &str) -> Result<String> {
        output(self.apt("apt-cache").args(["pkgnames", prefix]))
    }

    /// Unpacks these packages into `folder`: none of their scripts is run.
    pub fn unpack(&self, packages: &[String], folder: &Path) -> Result<()> {
        let parcels = self.parcels(folder)?;
        run(self.apt("apt-get").args(["download", "-qq"]).args(packages).current_dir(&parcels))?;
        open(&parcels, folder)
    }

    /// The same, with everything that they depend on.
    pub fn unpack_all(&self, packages: &[&str], folder: &Path) -> Result<()> {
        let parcels = self.parcels(folder)?;
        let cache = format!("Dir::Cache::archives={}", parcels.display());
        fs::create_dir_all(parcels.join("partial"))?;
        run(self
            .apt("apt-get")
            .args(["-o", &cache, "-o", "APT::Install-Recommends=false"])
            .args(["install", "-qq", "--yes", "--download-only"])
            .args(packages)
            .stdout(std::process::Stdio::null()))?;
        open(&parcels, folder)
    }

    /// An empty folder for what is downloaded, in a new one at `folder`.
    fn parcels(&self, folder: &Path) -> Result<std::path::PathBuf> {
        let _ = fs::remove_dir_all(folder);
        let parcels = folder.join("parcels");
        fs::create_dir_all(&parcels)?;
        Ok(parcels)
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(&self.options).args(["-o", "APT::Sandbox::User=root"]);
        command
    }
}

/// Unpacks all that was downloaded, and removes it.
fn open(parcels: &Path, folder: &Path) -> Result<()> {
    for entry in fs::read_dir(parcels)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            run(Command::new("dpkg").arg("-x").arg(&path).arg(folder))?;
        }
    }
    Ok(fs::remove_dir_all(parcels)?)
}
