//! What the tests of this folder share: a pool with short limits, files to scan, scripts that play a child.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sensor_abi::identity::{ContentStamp, InodeKey};

use crate::worker::child::mountinfo;
use crate::worker::pool::{Answer, Job, Line, Outcome, PoolConfig, Read, ScanPool};
use crate::worker::wire::Mode;

pub const SENSOR: &str = env!("CARGO_BIN_EXE_sensor");

/// A pickle of `None`.
pub const PICKLE: &[u8] = b"\x80\x04N.";

/// Limits long enough for a busy machine, and the real binary.
pub fn config() -> PoolConfig {
    PoolConfig { program: SENSOR.into(), ..PoolConfig::default() }
}

/// As [`config`], for files that are known to run into the deadline.
pub fn hasty(program: impl Into<PathBuf>) -> PoolConfig {
    let max = Duration::from_secs(1);
    PoolConfig { program: program.into(), sniff_max: max, scan_max: max, ..PoolConfig::default() }
}

/// A job for `file` as the kernel would describe it, opened by this process; by path only.
pub fn job(file: &File, path: &Path) -> Job {
    let meta = file.metadata().expect("a file can be described");
    Job {
        tag: 7,
        mode: Mode::Full,
        line: Line::Scans,
        cgroup: 1,
        pid: std::process::id(),
        fd: None,
        path: path.as_os_str().as_bytes().to_vec(),
        inode: InodeKey {
            ino: meta.ino(),
            dev: mountinfo::device_of(file.as_fd(), std::process::id()).expect("the mount is listed"),
            generation: 0,
        },
        stamp: ContentStamp {
            size: meta.len(),
            ctime_s: meta.ctime(),
            ctime_ns: meta.ctime_nsec() as u32,
            reserved: 0,
        },
        cacheable: true,
        fs_magic: 0,
        named: true,
        urgent: false,
    }
}

/// As [`job`], by the open descriptor.
pub fn job_of(file: &File, path: &Path) -> Job {
    Job { fd: Some(file.as_raw_fd() as u32), ..job(file, path) }
}

/// A file called `name` in `folder`.
pub fn write(folder: &Path, name: &str, content: &[u8]) -> (File, PathBuf) {
    let path = folder.join(name);
    std::fs::write(&path, content).expect("the folder can be written to");
    (File::open(&path).expect("it was just made"), path)
}

/// Submits one job and waits for its answer; there is no record of our own open.
pub async fn ask(pool: &mut ScanPool, job: Job) -> Answer {
    ask_confirmed(pool, job, None).await
}

/// As [`ask`], with what the record of our own open would say.
pub async fn ask_confirmed(pool: &mut ScanPool, job: Job, confirmed: Option<bool>) -> Answer {
    ask_watched(pool, job, |_| {}, confirmed).await
}

/// As [`ask_confirmed`]; `watch` sees the opener's pid before the question is settled.
pub async fn ask_watched(pool: &mut ScanPool, job: Job, mut watch: impl FnMut(u32), confirmed: Option<bool>) -> Answer {
    assert_eq!(pool.submit(job.clone()), None);
    let outcome = pool
        .next(|opener, _| {
            watch(opener);
            confirmed
        })
        .await;
    assert_eq!(outcome.job, job);
    outcome.answer
}

/// The next outcome, whosever it is; no question is answered by a record.
pub async fn next(pool: &mut ScanPool) -> Outcome {
    pool.next(|_, _| None).await
}

/// The report of a file that was read.
#[track_caller]
pub fn read(answer: Answer) -> Read {
    match answer {
        Answer::Read(read) => read,
        other => panic!("not read: {other:?}"),
    }
}

/// A program that plays one child by a shell script, and is the real one for every other role.
pub fn impostor(folder: &Path, role: &str, script: &str) -> PathBuf {
    let path = folder.join("impostor");
    let text = format!("#!/bin/sh\nif [ \"$2\" != {role} ]; then exec '{SENSOR}' \"$@\"; fi\n{script}\n");
    std::fs::write(&path, text).expect("the folder can be written to");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).expect("it is ours");
    path
}

/// A shell line that says `json` on the channel as one frame.
pub fn say(json: &str) -> String {
    let len: String = (json.len() as u32).to_le_bytes().iter().map(|byte| format!("\\{byte:03o}")).collect();
    // The channel is standard input: a socket goes both ways.
    format!("printf '{len}%s' '{json}' >&0")
}

pub const HELLO: &str = r#"{"hello":{"landlock":"full","seccomp":true,"capabilities":true}}"#;
