//! Sink `file`: appends to a file. Whoever rotates it renames it; the next alert opens a new one.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Alerts name paths, arguments and users: not for everybody.
const MODE: u32 = 0o640;

/// A file that alerts are appended to.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: std::fs::File,
    /// `(st_dev, st_ino)`
    identity: (u64, u64),
    /// A write stopped inside a line: the next begins with a line end, so that only one line is lost.
    torn: bool,
}

impl File {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// It can't be opened: better said at the start than at the first alert.
    pub fn new(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), open: Some(open(path)?) })
    }

    /// As [`Self::new`], but a write waits for a pipe's reader.
    #[cfg(test)]
    pub fn blocking(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).open(path)?;
        let metadata = file.metadata()?;
        let identity = (metadata.dev(), metadata.ino());
        Ok(Self { path: path.to_owned(), open: Some(Open { file, identity, torn: false }) })
    }

    /// Appends one alert as a whole, or says why not. The next one tries again.
    ///
    /// # Errors
    /// No space, no folder, no permission.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let current = std::fs::metadata(&self.path).ok().map(|metadata| (metadata.dev(), metadata.ino()));
        if self.open.as_ref().is_some_and(|open| Some(open.identity) != current) {
            self.open = None;
        }
        let open = match &mut self.open {
            Some(open) => open,
            None => self.open.insert(open(&self.path)?),
        };
        if open.torn {
            open.file.write_all(b"\n")?;
            open.torn = false;
        }
        append(&mut open.file, bytes, &mut open.torn)
    }
}

/// Writes all of `bytes`; `torn` says whether only some of them went out.
fn append(to: &mut impl Write, bytes: &[u8], torn: &mut bool) -> io::Result<()> {
    let mut left = bytes;
    while !left.is_empty() {
        match to.write(left) {
            Ok(0) => {
                *torn = left.len() < bytes.len();
                return Err(io::ErrorKind::WriteZero.into());
            }
            Ok(written) => left = &left[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                *torn = left.len() < bytes.len();
                return Err(error);
            }
        }
    }
    Ok(())
}

fn open(path: &Path) -> io::Result<Open> {
    // O_NONBLOCK: a FIFO without a reader in the file's place is an error, not the end of all alerts.
    let nonblock = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().append(true).create(true).mode(MODE).custom_flags(nonblock).open(path)?;
    let metadata = file.metadata()?;
    Ok(Open { file, identity: (metadata.dev(), metadata.ino()), torn: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renamed_file_is_left_alone_and_a_new_one_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alerts.jsonl");
        let mut file = File::new(&path).unwrap();
        file.write(b"one\n").unwrap();
        std::fs::rename(&path, folder.path().join("alerts.jsonl.1")).unwrap();
        file.write(b"two\n").unwrap();
        file.write(b"three\n").unwrap();
        assert_eq!(std::fs::read(folder.path().join("alerts.jsonl.1")).unwrap(), b"one\n");
        assert_eq!(std::fs::read(&path).unwrap(), b"two\nthree\n");
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o007, 0);
    }

    #[test]
    fn an_existing_file_is_appended_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alerts.jsonl");
        std::fs::write(&path, "before\n").unwrap();
        File::new(&path).unwrap().write(b"after\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"before\nafter\n");
    }

    #[test]
    fn a_full_device_is_an_error_each_time_and_nothing_else() {
        let mut file = File::new(Path::new("/dev/full")).unwrap();
        for _ in 0..3 {
            let error = file.write(b"one\n").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        }
    }

    #[test]
    fn a_folder_that_is_gone_is_an_error_until_it_is_back() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        let path = inner.join("alerts.jsonl");
        std::fs::create_dir(&inner).unwrap();
        let mut file = File::new(&path).unwrap();
        std::fs::remove_dir_all(&inner).unwrap();
        assert!(file.write(b"lost\n").is_err());
        std::fs::create_dir(&inner).unwrap();
        file.write(b"kept\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"kept\n");
    }

    #[test]
    fn a_line_that_was_cut_is_ended_before_the_next() {
        struct Small(Vec<u8>, usize);
        impl Write for Small {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let taken = bytes.len().min(self.1);
                self.1 -= taken;
                self.0.extend_from_slice(&bytes[..taken]);
                if taken == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(taken) }
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut torn = false;
        let mut small = Small(Vec::new(), 3);
        assert!(append(&mut small, b"one line\n", &mut torn).is_err());
        assert!(torn);
        torn = false;
        assert!(append(&mut small, b"none of it\n", &mut torn).is_err());
        assert!(!torn);
        assert_eq!(small.0, b"one");
    }
}
