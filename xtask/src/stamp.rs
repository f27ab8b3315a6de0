//! The stamp beside the kernel object: what it was built from and with. The object is committed so that a plain
//! `cargo build` needs nothing but stable Rust; the stamp is what keeps it honest.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::tool::sha256;

/// The object, relative to the root of the workspace.
pub const OBJECT: &str = "sensor-ebpf/object/sensor.bpf.o";
const STAMP: &str = "sensor-ebpf/object/sensor.bpf.toml";
/// The crates whose sources make the object.
const CRATES: [&str; 2] = ["sensor-ebpf", "sensor-abi"];

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stamp {
    /// SHA-256 of the object beside this file.
    pub object: String,
    /// SHA-256 over everything of ours that decides the object: see [`sources`].
    pub sources: String,
    /// The programs that made it; bytes can be compared only where all are equal.
    pub tools: BTreeMap<String, String>,
}

impl Stamp {
    pub fn read(root: &Path) -> Result<Self> {
        let path = root.join(STAMP);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        toml::from_str(&text).with_context(|| path.display().to_string())
    }

    pub fn write(&self, root: &Path) -> Result<()> {
        let text =
            format!("# Written by `cargo xtask build-ebpf`: never edit by hand.\n{}", toml::to_string_pretty(self)?);
        Ok(fs::write(root.join(STAMP), text)?)
    }
}

/// A hash of what decides the object's bytes and is kept in this repository: the two crates' manifests and sources, the
/// release profile, and the locked versions of every crate that they draw in.
pub fn sources(root: &Path) -> Result<String> {
    let mut parts = String::new();
    let mut add = |name: &str, bytes: &[u8]| parts.push_str(&format!("{name} {}\n", sha256(bytes)));

    let workspace: toml::Table = toml::from_str(&fs::read_to_string(root.join("Cargo.toml"))?)?;
    let at = |keys: &[&str]| -> Result<String> {
        let (first, rest) = keys.split_first().context("no key")?;
        let mut value = workspace.get(*first).with_context(|| format!("Cargo.toml has no {first}"))?;
        for key in rest {
            value = value.get(key).with_context(|| format!("Cargo.toml has no {key}"))?;
        }
        Ok(value.to_string())
    };
    for keys in
        [&["profile", "release"][..], &["workspace", "package", "version"], &["workspace", "package", "edition"]]
    {
        add(&keys.join("."), at(keys)?.as_bytes());
    }
    for name in ["aya-ebpf", "zerocopy"] {
        add(name, at(&["workspace", "dependencies", name])?.as_bytes());
    }

    add("Cargo.lock", locked(&fs::read_to_string(root.join("Cargo.lock"))?)?.as_bytes());
    for name in CRATES {
        let folder = root.join(name);
        let mut files = vec![folder.join("Cargo.toml")];
        walk(&folder.join("src"), &mut files)?;
        files.sort();
        for file in files {
            let relative = file.strip_prefix(root)?.display().to_string();
            add(&relative, &fs::read(&file)?);
        }
    }
    Ok(sha256(parts.as_bytes()))
}

/// The lock file's entries that the kernel crate reaches, one per line.
fn locked(text: &str) -> Result<String> {
    #[derive(Deserialize)]
    struct Lock {
        package: Vec<Package>,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
        version: String,
        checksum: Option<String>,
        #[serde(default)]
        dependencies: Vec<String>,
    }
    let lock: Lock = toml::from_str(text)?;
    let mut seen = BTreeSet::new();
    let mut lines = BTreeSet::new();
    let mut queue = vec![CRATES[0].to_owned()];
    while let Some(wanted) = queue.pop() {
        if !seen.insert(wanted.clone()) {
            continue;
        }
        // "name" where one version is locked, "name version" where there are several.
        let mut words = wanted.split(' ');
        let (name, version) = (words.next(), words.next());
        let package = lock
            .package
            .iter()
            .find(|p| Some(p.name.as_str()) == name && version.is_none_or(|version| p.version == version));
        let Some(package) = package else { bail!("Cargo.lock has no package {wanted}") };
        lines.insert(format!(
            "{} {} {}\n",
            package.name,
            package.version,
            package.checksum.as_deref().unwrap_or("path")
        ));
        queue.extend(package.dependencies.iter().cloned());
    }
    Ok(lines.into_iter().collect())
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool::root;

    #[test]
    fn the_committed_object_was_built_from_these_sources() {
        let root = root();
        let stamp = Stamp::read(&root).unwrap();
        assert_eq!(
            stamp.sources,
            sources(&root).unwrap(),
            "the sources of the kernel half changed since {OBJECT} was built: run `cargo xtask build-ebpf` and commit the object"
        );
    }

    #[test]
    fn the_committed_object_is_the_one_of_the_stamp() {
        let root = root();
        let stamp = Stamp::read(&root).unwrap();
        assert_eq!(
            stamp.object,
            sha256(&fs::read(root.join(OBJECT)).unwrap()),
            "{OBJECT} is not the one that its stamp names: run `cargo xtask build-ebpf` and commit both"
        );
    }

    #[test]
    fn only_what_the_kernel_half_reaches_counts() {
        let lock = "[[package]]\nname='sensor-ebpf'\nversion='1'\ndependencies=['a', 'b 2']\n\
                    [[package]]\nname='a'\nversion='1'\nchecksum='x'\n\
                    [[package]]\nname='b'\nversion='1'\nchecksum='y'\n\
                    [[package]]\nname='b'\nversion='2'\nchecksum='z'\n";
        assert_eq!(locked(lock).unwrap(), "a 1 x\nb 2 z\nsensor-ebpf 1 path\n");
        assert!(locked("[[package]]\nname='sensor-ebpf'\nversion='1'\ndependencies=['gone']\n").is_err());
    }
}
