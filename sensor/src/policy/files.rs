//! Files that give a payload away: credentials to read, places to stay in to write, other processes' memory. Data:
//! `rules/files.toml`, and `files` in rule files.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use globset::{GlobSet, GlobSetBuilder};
use sensor_abi::act::{NAMES_MAX, access, place};
use sensor_abi::name::{key_of_name, suffix_len};
use serde::Deserialize;

use super::program::glob_of;
use super::severity::Effect;
use crate::event::Access;

const EMBEDDED: &str = include_str!("../../../rules/files.toml");

/// What a file is to a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// A secret that no library reads inside a loader's process.
    Credential,
    /// A secret that client libraries read in ordinary use.
    Token,
    /// Runs again without the loader.
    Persistence,
    /// Another process's memory.
    Memory,
}

impl What {
    /// The effect that the severity table knows it by.
    pub fn effect(self) -> Effect {
        match self {
            Self::Credential => Effect::Credential,
            Self::Token => Effect::Token,
            Self::Persistence => Effect::Persistence,
            Self::Memory => Effect::Ptrace,
        }
    }

    fn is_by(self, access: Access) -> bool {
        match self {
            Self::Credential | Self::Token => access == Access::Read,
            Self::Persistence => access == Access::Write,
            Self::Memory => true,
        }
    }

    fn bits(self) -> u8 {
        match self {
            Self::Credential | Self::Token => access::READ,
            Self::Persistence => access::WRITE,
            Self::Memory => access::READ | access::WRITE,
        }
    }
}

/// One entry of the list.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Permanent: lower-case words joined by `-`.
    pub id: String,
    pub what: What,
    #[serde(default)]
    pub attack: Vec<String>,
    pub path: Vec<String>,
    /// Globs of names.
    #[serde(default)]
    pub never: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    file: Vec<Entry>,
}

/// The list, ready to use.
#[derive(Debug, Clone)]
pub struct Files {
    groups: Vec<Group>,
    names: BTreeMap<u64, u8>,
}

/// One entry, compiled.
#[derive(Debug, Clone)]
pub struct Group {
    pub id: String,
    pub what: What,
    pub attack: Vec<String>,
    paths: GlobSet,
    never: GlobSet,
}

impl Files {
    /// The entries that the program carries.
    ///
    /// # Errors
    /// What is wrong with them; a test holds that nothing is.
    pub fn embedded() -> Result<Self, String> {
        let file: File = toml::from_str(EMBEDDED).map_err(|error| format!("files.toml: {error}"))?;
        let mut files = Self { groups: Vec::new(), names: BTreeMap::new() };
        for entry in file.file {
            files.add(entry).map_err(|error| format!("files.toml: {error}"))?;
        }
        Ok(files)
    }

    /// One more entry.
    ///
    /// # Errors
    /// Which part of it can't work, and why.
    pub fn add(&mut self, entry: Entry) -> Result<(), String> {
        let id_ok = !entry.id.is_empty()
            && entry.id.bytes().all(|byte| byte.is_ascii_lowercase() || b"-0123456789".contains(&byte));
        if !id_ok {
            return Err(format!("{:?}: `id` has to be lower-case words joined by `-`", entry.id));
        }
        if self.groups.iter().any(|group| group.id == entry.id) {
            return Err(format!("{:?} is there already: give this one another id", entry.id));
        }
        for path in &entry.path {
            for (key, shift) in keys(path)? {
                *self.names.entry(key).or_default() |= entry.what.bits() << shift;
            }
        }
        let folders: Vec<String> = match entry.what {
            What::Persistence | What::Credential => entry.path.iter().filter_map(|path| folder_of(path)).collect(),
            _ => Vec::new(),
        };
        for (key, _) in folders.iter().filter_map(|folder| key(folder.rsplit('/').next()?)) {
            *self.names.entry(key).or_default() |= entry.what.bits() << place::FILE;
        }
        if self.names.len() > NAMES_MAX as usize {
            return Err(format!("more than {NAMES_MAX} names: leave some out"));
        }
        let paths = entry.path.iter().chain(&folders);
        let paths = paths.map(|path| path.strip_prefix('~').map_or(path.clone(), |rest| format!("/**{rest}")));
        let group = Group {
            paths: globs(paths).map_err(|error| format!("{:?}: {error}", entry.id))?,
            never: globs(entry.never.into_iter()).map_err(|error| format!("{:?}: {error}", entry.id))?,
            id: entry.id,
            what: entry.what,
            attack: entry.attack,
        };
        self.groups.push(group);
        Ok(())
    }

    /// Keys and meanings ([`place`]) for the kernel's table of names.
    pub fn names(&self) -> Vec<(u64, u8)> {
        self.names.iter().map(|(key, bits)| (*key, *bits)).collect()
    }

    /// What the file at `path` is to one who uses it so.
    pub fn group(&self, path: &[u8], access: Access) -> Option<&Group> {
        // A path that lacks its beginning can still be one below any folder.
        let path = path.strip_prefix("…".as_bytes()).unwrap_or(path);
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
        let (path, name) = (OsStr::from_bytes(path), OsStr::from_bytes(name));
        self.groups
            .iter()
            .find(|group| group.what.is_by(access) && group.paths.is_match(path) && !group.never.is_match(name))
    }
}

fn globs(texts: impl Iterator<Item = String>) -> Result<GlobSet, globset::Error> {
    let mut builder = GlobSetBuilder::new();
    for text in texts {
        builder.add(glob_of(&text, true)?);
    }
    builder.build()
}

/// The folder of what `path` stands for, which can be put in place as a whole, by rename or as a link. `None` where it has
/// no name of its own, or is everybody's (`/etc`, a home).
fn folder_of(path: &str) -> Option<String> {
    let (folder, _) = path.rsplit_once('/')?;
    let (above, name) = folder.rsplit_once('/')?;
    (!above.is_empty() && !name.contains(['*', '?'])).then(|| folder.to_owned())
}

/// The names that the kernel has to know for `path`, and where each stands: the most telling one.
fn keys(path: &str) -> Result<Vec<(u64, u32)>, String> {
    let wrong = |why: &str| Err(format!("{path:?} {why}"));
    if !path.starts_with('/') && !path.starts_with("~/") {
        return wrong("begins with neither `/` nor `~/`");
    }
    if path.contains(['{', '[', '\\']) {
        return wrong("has to be written without `{`, `[` and `\\`");
    }
    let mut from_leaf = path.rsplit('/');
    let (leaf, folder, above) = (from_leaf.next().unwrap_or(""), from_leaf.next(), from_leaf.next());
    let folder_key = folder.and_then(key);
    if leaf == "**" {
        return match folder_key {
            Some((key, _)) => Ok(vec![(key, place::FOLDER), (key, place::ABOVE)]),
            None => wrong("has no name before its `**`"),
        };
    }
    let leaf_key = key(leaf);
    let chosen = match (leaf_key, folder_key, above.and_then(key)) {
        (Some((key, true)), ..) => (key, place::FILE),
        (_, Some((key, _)), _) => (key, place::FOLDER),
        (_, _, Some((key, _))) => (key, place::ABOVE),
        (Some((key, false)), ..) => (key, place::FILE),
        (None, None, None) => return wrong("has no name among its last three parts that is long enough to look for"),
    };
    Ok(vec![chosen])
}

/// A suffix as long as this (`.keytab`) is rare enough to be looked for alone; `.json` isn't.
const TELLING_SUFFIX_LEN: usize = 7;

/// The key of all names that a component stands for, if they share one; and is it more than a suffix?
fn key(component: &str) -> Option<(u64, bool)> {
    if component.is_empty() || component == "~" {
        return None;
    }
    let tail = component.rsplit(['*', '?']).next().unwrap_or("");
    let key = key_of_name(tail.as_bytes());
    let suffix = suffix_len(key);
    let is_whole = tail.len() == component.len();
    if !is_whole && tail.len() < sensor_abi::name::KEY_BYTES && suffix == 0 {
        return None;
    }
    Some((key, suffix == 0 || suffix >= TELLING_SUFFIX_LEN || (is_whole && suffix == tail.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(path: &str, access: Access) -> Option<String> {
        Files::embedded().unwrap().group(path.as_bytes(), access).map(|group| group.id.clone())
    }

    #[test]
    fn files_are_known_in_any_home_and_by_what_is_done_to_them() {
        use Access::{Read, Write};
        let cases = [
            ("/root/.ssh/id_ed25519", Read, Some("ssh-key")),
            ("/home/a/.ssh/deploy", Read, Some("ssh-key")),
            ("/home/a/.ssh/id_rsa.pub", Read, None),
            ("/home/a/.ssh/known_hosts", Read, None),
            ("/home/a/.ssh/id_rsa", Write, None),
            ("/home/a/.ssh/authorized_keys", Write, Some("ssh-access")),
            ("/home/a/.ssh/authorized_keys", Read, None),
            ("/etc/shadow", Read, Some("password-hashes")),
            ("/srv/etc/shadow", Read, None),
            ("/proc/1/environ", Read, Some("process-environment")),
            ("/run/secrets/kubernetes.io/serviceaccount/..2026_11_25/token", Read, Some("kubernetes-token")),
            ("/data/hf/.cache/huggingface/token", Read, Some("hub-token")),
            ("/root/.cache/huggingface/hub/models--a--b/refs/main", Read, None),
            ("/root/.aws/credentials", Read, Some("cloud-credential")),
            ("/home/a/.config/gcloud/application_default_credentials.json", Read, Some("cloud-credential")),
            ("/home/a/.netrc", Read, Some("netrc")),
            ("/var/spool/cron/crontabs/root", Write, Some("cron")),
            ("/etc/cron.d/x", Write, Some("cron")),
            ("/home/a/.bashrc", Write, Some("shell-startup")),
            ("/home/a/.bashrc", Read, None),
            ("/home/a/.config/systemd/user/default.target.wants/x.service", Write, Some("systemd-unit")),
            ("/venv/lib/python3.11/site-packages/x.pth", Write, Some("python-startup")),
            ("/venv/lib/python3.11/site-packages/x.py", Write, None),
            ("/models/x.pth", Write, None),
            ("/usr/lib/python3/dist-packages/sitecustomize.py", Write, Some("python-startup")),
            ("/etc/ld.so.preload", Write, Some("library-preload")),
            ("/home/a/.config/autostart/x.desktop", Write, Some("desktop-autostart")),
            ("/proc/77/mem", Write, Some("process-memory")),
            ("…/.ssh/id_rsa", Read, Some("ssh-key")),
            // A whole folder is put in place.
            ("/home/a/.ssh", Write, Some("ssh-access")),
            ("/home/a/.ssh", Read, Some("ssh-key")),
            ("/home/a/.config/systemd/user", Write, Some("systemd-unit")),
            ("/etc/cron.d", Write, Some("cron")),
            ("/etc", Write, None),
            ("/home/a", Write, None),
            ("/home/a/repo/.git/hooks/pre-commit", Write, Some("tool-startup")),
            ("/home/a/repo/.git/hooks/pre-commit.sample", Write, None),
            ("/home/a/.gitconfig", Write, Some("tool-startup")),
            ("/home/a/repo/.git/config", Write, None),
        ];
        for (path, access, expected) in cases {
            assert_eq!(id(path, access).as_deref(), expected, "{path} {access:?}");
        }
    }

    /// What the kernel would do with a path: look at three names.
    fn kernel_sends(names: &[(u64, u8)], path: &str, access: u8) -> bool {
        let parts: Vec<&str> = path.rsplit('/').collect();
        let bits = |part: usize, shift: u32| {
            let key = parts.get(part).map(|name| key_of_name(name.as_bytes()));
            names.iter().find(|(known, _)| Some(*known) == key).map_or(0, |(_, bits)| bits >> shift & 3)
        };
        (bits(0, place::FILE) | bits(1, place::FOLDER) | bits(2, place::ABOVE)) & access != 0
    }

    #[test]
    fn the_kernel_sends_whatever_the_list_means() {
        let file: File = toml::from_str(EMBEDDED).unwrap();
        let files = Files::embedded().unwrap();
        let names = files.names();
        for entry in &file.file {
            for path in &entry.path {
                let real = |path: &str| path.strip_prefix('~').map_or(path.to_owned(), |rest| format!("/home/a{rest}"));
                let file = real(path).replace("**", "b/file").replace('*', "wild");
                assert!(kernel_sends(&names, &file, entry.what.bits()), "{path}");
                if let Some(folder) = folder_of(path).filter(|_| entry.what == What::Persistence) {
                    assert!(kernel_sends(&names, &real(&folder), access::WRITE), "{folder}");
                }
            }
        }
        let ordinary = [
            "/usr/lib/python3/dist-packages/torch/nn/modules/module.py",
            "/root/.cache/huggingface/hub/models--a--b/snapshots/1/config.json",
            "/home/a/project/config.json",
            "/home/a/project/config.yaml",
            "/etc/resolv.conf",
            "/proc/self/maps",
        ];
        for path in ordinary {
            assert!(!kernel_sends(&names, path, access::READ), "{path}");
        }
    }

    #[test]
    fn a_path_that_cannot_be_looked_for_is_refused() {
        for path in ["relative/x", "/**", "/a/{b,c}", "~/*/*", "/*x", "~/**"] {
            assert!(keys(path).is_err(), "{path}");
        }
        assert_eq!(keys("~/.ssh/*").unwrap(), [(key_of_name(b".ssh"), place::FOLDER)]);
        assert_eq!(keys("/etc/shadow").unwrap(), [(key_of_name(b"shadow"), place::FILE)]);
        assert_eq!(keys("~/site-packages/*.pth").unwrap(), [(key_of_name(b"site-packages"), place::FOLDER)]);
        assert_eq!(keys("~/firefox/*/x.json").unwrap(), [(key_of_name(b"firefox"), place::ABOVE)]);
    }
}
