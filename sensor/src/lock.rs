//! `models.lock`: which files were judged, what was in them and where they came from; read, written, and checked.
//!
//! Paths are relative to the folder of the lock and never lead out of it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use serde::{Deserialize, Serialize};

/// The name that `sensor pin` and `sensor verify` look for.
pub const NAME: &str = "models.lock";
/// Largest lock, bytes.
const LOCK_BYTES_MAX: u64 = 256 << 20;
const VERSION: u32 = 1;
const HEAD: &str = "\
# Written by `sensor pin`, checked by `sensor verify`. A change here is a change of what runs: review it like code.
";

/// What is known of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Relative to the folder of the lock; lossy where it isn't UTF-8.
    path: String,
    /// The exact bytes, only where they aren't UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path_b64: Option<String>,
    /// Bytes.
    pub size: u64,
    /// Lower-case hexadecimal.
    pub sha256: String,
    pub format: String,
    /// The scanner's word when it was pinned.
    pub verdict: String,
    /// From the layout of a hub's cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LockFile {
    version: u32,
    #[serde(default, rename = "file")]
    files: Vec<Entry>,
}

/// A lock: entries by path, in the order of their bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lock(pub BTreeMap<PathBuf, Entry>);

/// Why a lock can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Syntax(String),
    #[error("version {0} is not known to this sensor: use a newer one")]
    Version(u32),
    #[error("the path {0:?} is no plain path below the lock's folder")]
    Escapes(String),
    #[error("the path {0:?} stands there twice")]
    Twice(String),
    #[error("the hash of {0:?} is no SHA-256")]
    Hash(String),
}

impl Entry {
    pub fn new(path: &Path, size: u64, sha256: String) -> Self {
        let bytes = path.as_os_str().as_bytes();
        let path_b64 = std::str::from_utf8(bytes).is_err().then(|| STANDARD.encode(bytes));
        Self {
            path: String::from_utf8_lossy(bytes).into_owned(),
            path_b64,
            size,
            sha256,
            format: String::new(),
            verdict: String::new(),
            repo: None,
            revision: None,
        }
    }

    fn exact_path(&self) -> Option<PathBuf> {
        let path = match &self.path_b64 {
            None => PathBuf::from(&self.path),
            Some(text) => PathBuf::from(OsStr::from_bytes(&STANDARD.decode(text).ok()?)),
        };
        is_plain(&path).then_some(path)
    }
}

/// The folder that a lock's paths are relative to.
pub fn folder_of(lock: &Path) -> &Path {
    lock.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The path of a file as it stands in the lock of folder `base`, which has no links in it. The file's own name may be a
/// link: what it is called is what is pinned.
///
/// # Errors
/// Where it isn't below the folder, in words.
pub fn inside(path: &Path, base: &Path) -> Result<PathBuf, String> {
    let outside = || format!("it is not below the lock's folder {}", base.display());
    let name = path.file_name().ok_or_else(outside)?;
    let folder = folder_of(path).canonicalize().map_err(|error| error.to_string())?;
    let inside = folder.join(name).strip_prefix(base).map(Path::to_owned).map_err(|_| outside())?;
    if is_plain(&inside) { Ok(inside) } else { Err(outside()) }
}

/// Nothing but names: no root, no `..`, no `.`, no NUL.
fn is_plain(path: &Path) -> bool {
    let plain = path.components().all(|component| matches!(component, Component::Normal(_)));
    plain && !path.as_os_str().is_empty() && !path.as_os_str().as_bytes().contains(&0)
}

impl Lock {
    /// # Errors
    /// The first fault. A lock with a fault is no lock.
    pub fn read(file: &Path) -> Result<Self, LockError> {
        let mut text = String::new();
        if File::open(file)?.take(LOCK_BYTES_MAX + 1).read_to_string(&mut text)? as u64 > LOCK_BYTES_MAX {
            return Err(LockError::Syntax("longer than 256 MiB".to_owned()));
        }
        Self::parse(&text)
    }

    pub fn parse(text: &str) -> Result<Self, LockError> {
        let read: LockFile =
            toml::from_str(text).map_err(|error| LockError::Syntax(error.to_string().trim_end().to_owned()))?;
        if read.version != VERSION {
            return Err(LockError::Version(read.version));
        }
        let mut entries = BTreeMap::new();
        for entry in read.files {
            let name = entry.path.clone();
            let Some(path) = entry.exact_path() else { return Err(LockError::Escapes(name)) };
            if entry.sha256.len() != 64 || !entry.sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(LockError::Hash(name));
            }
            if entries.insert(path, entry).is_some() {
                return Err(LockError::Twice(name));
            }
        }
        Ok(Self(entries))
    }

    pub fn text(&self) -> Result<String, LockError> {
        let file = LockFile { version: VERSION, files: self.0.values().cloned().collect() };
        let body = toml::to_string(&file).map_err(|error| LockError::Syntax(error.to_string()))?;
        Ok(format!("{HEAD}{body}"))
    }

    /// Replaces the lock as a whole, or leaves the old one.
    ///
    /// # Errors
    /// Of writing beside it, or of renaming.
    pub fn write(&self, file: &Path) -> Result<(), LockError> {
        let text = self.text()?;
        let beside = file.with_extension(format!("lock.{}", std::process::id()));
        let written = (|| {
            let mut new = File::options().write(true).create_new(true).open(&beside)?;
            new.write_all(text.as_bytes())?;
            new.sync_all()?;
            std::fs::rename(&beside, file)
        })();
        if written.is_err() {
            let _ = std::fs::remove_file(&beside);
        }
        Ok(written?)
    }
}

/// The folder of a lock: files are opened below it, by names that can't lead out of it.
#[derive(Debug)]
pub struct Folder(OwnedFd);

impl Folder {
    /// # Errors
    /// Of opening it.
    pub fn of(lock: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open(folder_of(lock), flags, Mode::empty())?))
    }

    /// A regular file below the folder, and its size. Links are followed as long as they stay below (a hub's cache is
    /// made of links).
    ///
    /// # Errors
    /// `EXDEV` where a link leads out, and where it is no regular file, in words.
    pub fn open(&self, path: &Path) -> io::Result<(File, u64)> {
        // Neither waits for a FIFO's writer nor takes a terminal.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let below = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let opened = rustix::fs::openat2(&self.0, path, flags, Mode::empty(), below).map_err(|error| match error {
            rustix::io::Errno::XDEV => io::Error::other("it leads out of the lock's folder"),
            error => error.into(),
        })?;
        let found = rustix::fs::fstat(&opened)?;
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            return Err(io::Error::other("it is no regular file"));
        }
        Ok((File::from(opened), u64::try_from(found.st_size).unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(path: &Path) -> Entry {
        Entry { format: "pickle".to_owned(), verdict: "clean".to_owned(), ..Entry::new(path, 3, "a".repeat(64)) }
    }

    #[test]
    fn a_lock_is_read_as_it_was_written() {
        let paths = [Path::new("a/b.pt"), Path::new("z \"quoted\"\n.pt"), Path::new(OsStr::from_bytes(b"\xff.pt"))];
        let lock = Lock(paths.map(|path| (path.to_owned(), entry(path))).into_iter().collect());
        assert_eq!(Lock::parse(&lock.text().unwrap()).unwrap(), lock);
    }

    #[test]
    fn faults_are_refused() {
        let one = |path: &str, hash: &str| {
            format!("version=1\n[[file]]\npath='{path}'\nsize=1\nsha256='{hash}'\nformat=''\nverdict=''\n")
        };
        let good = "0".repeat(64);
        assert!(Lock::parse(&one("a.pt", &good)).is_ok());
        for path in ["/etc/passwd", "../a.pt", "a/../../b", "", "./a.pt"] {
            assert!(matches!(Lock::parse(&one(path, &good)), Err(LockError::Escapes(_))), "{path}");
        }
        assert!(matches!(Lock::parse(&one("a.pt", "00")), Err(LockError::Hash(_))));
        assert!(matches!(Lock::parse("version=2"), Err(LockError::Version(2))));
        assert!(matches!(Lock::parse("version=1\nmore=1"), Err(LockError::Syntax(_))));
        let twice = format!("{}{}", one("a.pt", &good), one("a.pt", &good).replace("version=1\n", ""));
        assert!(matches!(Lock::parse(&twice), Err(LockError::Twice(_))));
    }

    #[test]
    fn links_that_lead_out_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let outside = tempfile::NamedTempFile::new().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("real"), "abc").unwrap();
        std::os::unix::fs::symlink("real", at("inside")).unwrap();
        std::os::unix::fs::symlink(outside.path(), at("outside")).unwrap();
        let below = Folder::of(&at(NAME)).unwrap();
        assert_eq!(below.open(Path::new("inside")).unwrap().1, 3);
        assert!(below.open(Path::new("outside")).unwrap_err().to_string().contains("leads out"));
        assert!(below.open(Path::new("../x")).is_err());
        rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe"), Mode::from_raw_mode(0o600)).unwrap();
        assert!(below.open(Path::new("pipe")).unwrap_err().to_string().contains("no regular file"));
    }

    #[test]
    fn seeds_of_the_fuzz_target_are_read_or_refused() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/lock");
        let read = |entry: io::Result<std::fs::DirEntry>| std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let texts: Vec<String> = std::fs::read_dir(folder).unwrap().map(read).collect();
        let locks: Vec<Lock> = texts.iter().filter_map(|text| Lock::parse(text).ok()).collect();
        assert!(!locks.is_empty() && locks.len() < texts.len(), "{} of {}", locks.len(), texts.len());
        for lock in locks {
            assert!(lock.0.keys().all(|path| is_plain(path)));
            assert_eq!(Lock::parse(&lock.text().unwrap()).unwrap(), lock);
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_reader(text in ".{0,300}") {
            let _ = Lock::parse(&text);
        }
    }
}
