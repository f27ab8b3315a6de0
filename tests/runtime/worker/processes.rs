//! The process reader: right about what it reads, and given up where it is stuck.

use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::fixture::{HELLO, SENSOR, impostor, say};
use crate::worker::process::ProcessReader;

const TOTAL_MAX: Duration = Duration::from_secs(60);

#[tokio::test]
async fn all_processes_are_described() {
    let odd = ["-c", "read x", "a b", "", "\u{1b}[2J\n"];
    let mut child = Command::new("/bin/sh").args(odd).stdin(Stdio::piped()).spawn().unwrap();
    let mut reader = ProcessReader::new(SENSOR, TOTAL_MAX);
    let seed = reader.seed().await.unwrap();
    let looked_up = reader.lookup(&[child.id(), u32::MAX >> 1]).await.unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    reader.stop().await;

    assert_eq!((seed.unread, seed.omitted), (0, 0));
    let seen = |pid| seed.processes.iter().find(|process| process.listed.pid == pid).cloned();
    let own = seen(std::process::id()).expect("this process is listed");
    let exe = std::env::current_exe().unwrap();
    assert_eq!(own.details.as_ref().map(|details| details.exe.0.as_slice()), Some(exe.as_os_str().as_bytes()));
    assert!(own.listed.start_ticks > 0 && own.start_boottime_ns() > 0);

    let theirs = seen(child.id()).expect("the child is listed");
    assert_eq!(theirs.listed.ppid, std::process::id());
    assert_eq!(theirs.listed.uid, Some(rustix::process::getuid().as_raw()));
    let argv: Vec<u8> = ["/bin/sh"].iter().chain(&odd).flat_map(|text| text.bytes().chain([0])).collect();
    assert_eq!(theirs.details.as_ref().map(|details| &details.argv.0), Some(&argv));
    assert_eq!(looked_up, [theirs], "the missing one is left out");
}

#[tokio::test]
async fn a_long_argv_is_cut_and_says_so() {
    let long = "x".repeat(10_000);
    let mut child = Command::new("/bin/sh").args(["-c", "read x", &long]).stdin(Stdio::piped()).spawn().unwrap();
    let mut reader = ProcessReader::new(SENSOR, TOTAL_MAX);
    let seen = reader.lookup(&[child.id()]).await.unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    reader.stop().await;
    let details = seen[0].details.as_ref().unwrap();
    assert_eq!((details.argv.0.len(), details.argv_truncated), (4096, true));
}

#[tokio::test]
async fn a_process_that_keeps_its_reader_waiting_stays_unknown() {
    let folder = tempfile::tempdir().unwrap();
    let listed = |pid: u32| {
        format!(r#"{{"listed":{{"pid":{pid},"ppid":1,"start_ticks":5,"ticks_per_s":100,"uid":0,"cgroup_id":0}}}}"#)
    };
    // Every reader lists two processes, and is stuck at the first that it is asked about.
    let script =
        [say(HELLO), say(&listed(11)), say(&listed(12)), say(r#"{"end":{"omitted":0}}"#), "exec sleep 600".to_owned()];
    let program = impostor(folder.path(), "process", &script.join("\n"));
    let mut reader = ProcessReader::new(program, TOTAL_MAX);
    let error = reader.seed().await.map(|seed| (seed.unread, seed.processes.len()));
    reader.stop().await;
    // The second reader answers about 11 when 12 is asked for: it is not believed.
    assert!(matches!(error, Err(crate::worker::frame::FrameError::Invalid(_))), "{error:?}");

    let one = [say(HELLO), say(&listed(11)), say(r#"{"end":{"omitted":0}}"#), "exec sleep 600".to_owned()];
    let program = impostor(folder.path(), "process", &one.join("\n"));
    let mut reader = ProcessReader::new(program, TOTAL_MAX);
    let seed = reader.seed().await.unwrap();
    reader.stop().await;
    assert_eq!((seed.unread, seed.processes.len()), (1, 1));
    assert_eq!(seed.processes[0].details, None);
    assert_eq!(seed.processes[0].listed.ppid, 1);
}
