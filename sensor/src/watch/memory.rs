//! What the models of kept marks are, for the next sensor: the kernel remembers numbers of files, and no names.
//!
//! A file of one JSON object a line, written as the scanner speaks, so that nothing is lost by kill -9; it is where the
//! running sensor keeps its lock, and like the marks it doesn't outlive the machine. Bounded: when it has grown too
//! large, it begins anew with what is known now.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use sensor_abi::identity::ContentStamp;
use serde::{Deserialize, Serialize};

use super::record::Remembered;
use crate::event::{ContentClass, InodeKey, ModelFinding, Verdict};

/// Size at which the file begins anew, bytes.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// Longest line that is read, bytes: a path of 4,096 bytes and every finding.
const LINE_BYTES_MAX: u64 = 64 << 10;
/// Lines that are read.
const LINES_MAX: usize = 65_536;

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    ino: u64,
    dev: u32,
    generation: u32,
    size: u64,
    ctime_s: i64,
    ctime_ns: u32,
    path_b64: String,
    format: Option<String>,
    class: ContentClass,
    verdict: Verdict,
    findings: Vec<ModelFinding>,
    all_globals_safe: bool,
    sha256: Option<String>,
}

/// The file.
#[derive(Debug)]
pub struct Memory {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Memory {
    /// Opens it; what is in it is given back where `resumed` says that there are marks that it belongs to, else thrown
    /// away. Later lines of one file count.
    pub fn open(path: &Path, resumed: bool) -> io::Result<(Self, Vec<Remembered>)> {
        let known = if resumed { read(path) } else { Vec::new() };
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(path)?;
        if !resumed {
            file.set_len(0)?;
        }
        let bytes = file.metadata()?.len();
        Ok((Self { path: path.to_owned(), file, bytes }, known))
    }

    /// Adds what was found out; `all` is what is known now, for when the file begins anew.
    pub fn keep<'a>(
        &mut self,
        learned: &Remembered,
        all: impl FnOnce() -> Box<dyn Iterator<Item = Remembered> + 'a>,
    ) -> io::Result<()> {
        if self.bytes > FILE_BYTES_MAX {
            self.file.set_len(0)?;
            self.bytes = 0;
            for known in all() {
                if self.bytes < FILE_BYTES_MAX / 2 {
                    self.write(&known)?;
                }
            }
        }
        self.write(learned)
    }

    fn write(&mut self, what: &Remembered) -> io::Result<()> {
        let mut text = serde_json::to_string(&line(what))?;
        text.push('\n');
        self.file
            .write_all(text.as_bytes())
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", self.path.display())))?;
        self.bytes += text.len() as u64;
        Ok(())
    }
}

fn read(path: &Path) -> Vec<Remembered> {
    let Ok(file) = File::open(path) else { return Vec::new() };
    let mut known = Vec::new();
    let mut reader = BufReader::new(file);
    for _ in 0..LINES_MAX {
        let mut text = Vec::new();
        match (&mut reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut text) {
            Ok(0) | Err(_) => break,
            // The last line of a sensor that was killed may be half a line.
            Ok(_) => known.extend(serde_json::from_slice(&text).ok().and_then(remembered)),
        }
    }
    known
}

fn line(what: &Remembered) -> Line {
    Line {
        ino: what.inode.ino,
        dev: what.inode.dev,
        generation: what.inode.generation,
        size: what.stamp.size,
        ctime_s: what.stamp.ctime_s,
        ctime_ns: what.stamp.ctime_ns,
        path_b64: BASE64.encode(&what.path),
        format: what.format.clone(),
        class: what.class,
        verdict: what.verdict,
        findings: what.findings.clone(),
        all_globals_safe: what.all_globals_safe,
        sha256: what.sha256.clone(),
    }
}

fn remembered(line: Line) -> Option<Remembered> {
    Some(Remembered {
        inode: InodeKey { ino: line.ino, dev: line.dev, generation: line.generation },
        stamp: ContentStamp { size: line.size, ctime_s: line.ctime_s, ctime_ns: line.ctime_ns, reserved: 0 },
        path: BASE64.decode(line.path_b64).ok()?,
        format: line.format,
        class: line.class,
        // Whoever waited for it is gone: it is looked at again when it is opened again.
        verdict: if line.verdict == Verdict::Pending { Verdict::NotRead } else { line.verdict },
        findings: line.findings,
        all_globals_safe: line.all_globals_safe,
        sha256: line.sha256,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(ino: u64, verdict: Verdict) -> Remembered {
        Remembered {
            inode: InodeKey { dev: 1, generation: 2, ino },
            stamp: ContentStamp { size: 3, ctime_s: 4, ctime_ns: 5, reserved: 0 },
            path: b"/srv/\xff\n.pt".to_vec(),
            format: Some("pickle".into()),
            class: ContentClass::Code,
            verdict,
            findings: vec![ModelFinding { id: "SNS-101".into(), severity: "high".into(), title: "t".into() }],
            all_globals_safe: false,
            sha256: None,
        }
    }

    #[test]
    fn what_was_kept_is_there_again_and_half_a_line_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("models");
        let (mut memory, known) = Memory::open(&path, true).unwrap();
        assert!(known.is_empty());
        memory.keep(&model(1, Verdict::Malicious), || unreachable!("there is room")).unwrap();
        memory.keep(&model(2, Verdict::NotRead), || unreachable!("there is room")).unwrap();
        memory.file.write_all(b"{\"ino\":").unwrap();
        let (_, known) = Memory::open(&path, true).unwrap();
        assert_eq!(known, [model(1, Verdict::Malicious), model(2, Verdict::NotRead)]);
        let (memory, known) = Memory::open(&path, false).unwrap();
        assert_eq!((memory.bytes, known.len()), (0, 0), "no marks, no memory");
    }

    #[test]
    fn the_file_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("models");
        let (mut memory, _) = Memory::open(&path, true).unwrap();
        memory.bytes = FILE_BYTES_MAX + 1;
        let all = || -> Box<dyn Iterator<Item = Remembered>> {
            Box::new((0..).map(|ino| model(ino, Verdict::Clean)).take(100_000))
        };
        memory.keep(&model(7, Verdict::Malicious), all).unwrap();
        assert!(memory.bytes <= FILE_BYTES_MAX / 2 + 2 * LINE_BYTES_MAX);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), memory.bytes);
        assert_eq!(read(&path).last(), Some(&model(7, Verdict::Malicious)));
    }
}
