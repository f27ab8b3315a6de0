//! Is it the very file that the process opened? Nothing that stands in its place may be read, or hold the opener up.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::fixture::{PICKLE, ask, ask_confirmed, config, job, job_of, read, write};
use crate::worker::pool::{Answer, Job, ScanPool};
use crate::worker::wire::{self, NotRead};

#[tokio::test]
async fn a_descriptor_leads_to_its_file_whatever_happened_to_the_path() {
    let folder = tempfile::tempdir().unwrap();
    let (file, path) = write(folder.path(), "model.pkl", PICKLE);
    let job = job_of(&file, &path);
    fs::rename(&path, folder.path().join("elsewhere")).unwrap();
    symlink("/etc/passwd", &path).unwrap();
    let mut pool = ScanPool::new(config());
    // The rename set a new change time: only our own record can say that it is the same file.
    let seen = read(ask_confirmed(&mut pool, job, Some(true)).await);
    assert_eq!((seen.report.size, seen.report.format.as_str()), (PICKLE.len() as u64, "pickle"));
    assert!(seen.changed && !seen.remote && !seen.cached);
    pool.shutdown().await;
}

#[tokio::test]
async fn a_descriptor_that_moved_is_found_by_its_inode() {
    let folder = tempfile::tempdir().unwrap();
    let (file, path) = write(folder.path(), "model.pkl", PICKLE);
    let (other, _) = write(folder.path(), "other.pkl", b"\x80\x04\x88.");
    let mut moved = job(&file, &path);
    moved.fd = Some(other.as_raw_fd() as u32);
    moved.path.clear();
    let mut pool = ScanPool::new(config());
    let seen = read(ask(&mut pool, moved).await);
    assert_eq!(seen.report.size, PICKLE.len() as u64);
    assert!(!seen.changed);
    // Nobody had said what it is called.
    assert_eq!(seen.path, path.as_os_str().as_bytes());
    pool.shutdown().await;
}

#[tokio::test]
async fn a_closed_and_mapped_file_is_found_by_its_mapping() {
    if !rustix::process::geteuid().is_root() {
        let forced = std::env::var("CI").is_ok_and(|ci| !matches!(ci.as_str(), "" | "0" | "false"));
        assert!(!forced, "links of /proc/PID/map_files are for root: run this test as root");
        eprintln!("SKIPPED: links of /proc/PID/map_files are for root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.bin");
    fs::copy("/bin/sleep", &path).unwrap();
    let mut running = Command::new(&path).arg("600").stdout(Stdio::null()).spawn().unwrap();
    let file = File::open(&path).unwrap();
    // Only the mapping of its program leads there any more.
    fs::remove_file(&path).unwrap();
    let mapped = Job { pid: running.id(), ..job(&file, &path) };
    drop(file);
    let mut pool = ScanPool::new(config());
    let answer = ask(&mut pool, mapped).await;
    running.kill().unwrap();
    running.wait().unwrap();
    assert!(!read(answer).changed);
    pool.shutdown().await;
}

#[tokio::test]
async fn a_path_is_followed_and_confirmed() {
    let folder = tempfile::tempdir().unwrap();
    let (file, path) = write(folder.path(), "model.pkl", PICKLE);
    let expected = job(&file, &path);
    drop(file);
    let mut pool = ScanPool::new(config());
    assert_eq!(
        ask_confirmed(&mut pool, expected.clone(), Some(false)).await,
        Answer::NotRead(NotRead::Swapped),
        "our own record outweighs a number that agrees"
    );
    assert!(!read(ask(&mut pool, expected.clone()).await).cached);
    assert!(read(ask(&mut pool, expected.clone()).await).cached);

    let writer = Job { cacheable: false, ..expected.clone() };
    assert!(!read(ask(&mut pool, writer).await).cached, "a writer holds it");

    let mut elsewhere = expected.clone();
    elsewhere.cacheable = false;
    elsewhere.inode.dev += 1;
    assert_eq!(ask(&mut pool, elsewhere).await, Answer::NotRead(NotRead::Swapped), "an equal number on another device");

    OpenOptions::new().append(true).open(&path).unwrap().write_all(b"more").unwrap();
    let changed = Job { cacheable: false, ..expected };
    assert_eq!(
        ask(&mut pool, changed.clone()).await,
        Answer::NotRead(NotRead::Swapped),
        "changed, and no record of it"
    );
    assert!(read(ask_confirmed(&mut pool, changed, Some(true)).await).changed);
    pool.shutdown().await;
}

#[tokio::test]
async fn what_changed_is_not_remembered() {
    let folder = tempfile::tempdir().unwrap();
    let (file, path) = write(folder.path(), "model.pkl", PICKLE);
    let stale = job(&file, &path);
    OpenOptions::new().append(true).open(&path).unwrap().write_all(b"more").unwrap();
    let mut pool = ScanPool::new(config());
    for _ in 0..2 {
        let seen = read(ask_confirmed(&mut pool, stale.clone(), Some(true)).await);
        assert!(seen.changed && !seen.cached);
    }
    pool.shutdown().await;
}

#[tokio::test]
async fn what_stands_in_the_place_is_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    let (file, path) = write(folder.path(), "model.pt", PICKLE);
    let expected = job(&file, &path);
    drop(file);
    let (_other, other) = write(folder.path(), "other.pt", b"\x80\x04\x88.");
    let replace_by_link = |target: PathBuf| {
        fs::remove_file(&path).unwrap();
        symlink(target, &path).unwrap();
    };
    let mut pool = ScanPool::new(config());

    replace_by_link(other);
    assert_eq!(ask(&mut pool, expected.clone()).await, Answer::NotRead(NotRead::Swapped));
    // A FIFO that nobody writes to blocks whoever opens it; reading a terminal or /dev/zero never ends.
    fs::remove_file(&path).unwrap();
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    assert_eq!(ask(&mut pool, expected.clone()).await, Answer::NotRead(NotRead::NotRegular));
    replace_by_link("/dev/zero".into());
    assert_eq!(ask(&mut pool, expected.clone()).await, Answer::NotRead(NotRead::NotRegular));
    replace_by_link("/proc/self/fd/0".into());
    assert_eq!(ask(&mut pool, expected.clone()).await, Answer::NotRead(NotRead::Gone), "magic links are not followed");
    replace_by_link(path.clone());
    assert_eq!(ask(&mut pool, expected.clone()).await, Answer::NotRead(NotRead::Gone), "a loop");
    fs::remove_file(&path).unwrap();
    assert_eq!(ask(&mut pool, expected).await, Answer::NotRead(NotRead::Gone));
    pool.shutdown().await;
}

#[tokio::test]
async fn a_process_that_is_gone_leaves_the_path() {
    let folder = tempfile::tempdir().unwrap();
    let (file, path) = write(folder.path(), "model.pkl", PICKLE);
    let mut ended = Command::new("/bin/true").stdout(Stdio::null()).spawn().unwrap();
    ended.wait().unwrap();
    let orphan = Job { pid: ended.id(), ..job_of(&file, &path) };
    let mut pool = ScanPool::new(config());
    assert_eq!(read(ask(&mut pool, orphan).await).report.size, PICKLE.len() as u64);
    pool.shutdown().await;
}

#[tokio::test]
async fn a_sparse_terabyte_gets_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.pt");
    File::create(&path).unwrap().set_len(1 << 40).unwrap();
    let file = File::open(&path).unwrap();
    let mut pool = ScanPool::new(config());
    let answer = ask(&mut pool, job_of(&file, &path)).await;
    assert_ne!(answer, Answer::NotRead(NotRead::TimedOut));
    if let Answer::Read(seen) = answer {
        assert_eq!(seen.report.size, 1 << 40);
        assert_ne!(seen.report.verdict, Some(wire::Verdict::Malicious));
    }
    pool.shutdown().await;
}

#[tokio::test]
async fn a_path_of_4000_bytes_of_control_characters_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let mut path = folder.path().to_path_buf();
    let part = "\u{1b}[2J\n\r\"\\\u{7}".repeat(25);
    while path.as_os_str().len() + 1 + part.len() < 4000 {
        path.push(&part);
    }
    fs::create_dir_all(&path).unwrap();
    let rest = 4000 - path.as_os_str().len() - 1;
    path.push("\u{1}".repeat(rest));
    assert_eq!(path.as_os_str().as_bytes().len(), 4000);
    fs::write(&path, PICKLE).unwrap();
    let file = File::open(&path).unwrap();
    let expected = job(&file, &path);
    drop(file);
    let mut pool = ScanPool::new(config());
    assert_eq!(read(ask(&mut pool, expected).await).report.size, PICKLE.len() as u64);
    pool.shutdown().await;
}

#[tokio::test]
async fn files_that_others_serve_are_read_only_where_that_is_wanted() {
    // No file system that this kernel serves from a disk or memory of its own.
    let path = PathBuf::from("/proc/version");
    let file = File::open(&path).unwrap();
    let served = || Job { cacheable: false, ..job_of(&file, &path) };
    let mut unwilling = ScanPool::new(crate::worker::pool::PoolConfig { read_remote: false, ..config() });
    assert_eq!(ask_confirmed(&mut unwilling, served(), Some(true)).await, Answer::NotRead(NotRead::Remote));
    unwilling.shutdown().await;
    let mut willing = ScanPool::new(config());
    assert!(read(ask_confirmed(&mut willing, served(), Some(true)).await).remote);
    willing.shutdown().await;
}
