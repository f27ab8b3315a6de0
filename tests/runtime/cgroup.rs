//! Control groups for actors: by them the sensor tells who lost what, and whose turn it is.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Where the cgroup v2 hierarchy is mounted.
pub fn root() -> Result<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/mounts")?;
    let mut fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let mount = fields.find(|fields| fields.get(2) == Some(&"cgroup2")).context("no cgroup2 is mounted")?;
    Ok(PathBuf::from(mount[1]))
}

/// A child of the root, removed when dropped.
pub struct Cgroup(PathBuf);

impl Cgroup {
    pub fn new(name: &str) -> Result<Self> {
        let path = root()?.join(format!("sensor-test-{}-{name}", std::process::id()));
        std::fs::create_dir(&path).with_context(|| format!("cannot make the cgroup {}", path.display()))?;
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Its id, as alerts have it: the number of its inode.
    pub fn id(&self) -> Result<String> {
        Ok(self.0.metadata()?.ino().to_string())
    }

    /// Python that moves the process that runs it there.
    pub fn join(&self) -> String {
        format!("with open({:?}, 'w') as file:\n  file.write(str(os.getpid()))\n", self.0.join("cgroup.procs"))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Empty by now; a failure leaves an empty cgroup behind.
        let _ = std::fs::remove_dir(&self.0);
    }
}
