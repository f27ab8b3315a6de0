//! Lanes and queues: who waits for whom.

use crate::fixture::{PICKLE, ask_watched, config, hasty, job_of, next, read, write};
use crate::worker::pool::{Answer, Job, Line, PoolConfig, ScanPool};
use crate::worker::queue::QueueLimits;
use crate::worker::wire::{Mode, NotRead};

#[tokio::test]
async fn a_sniff_does_not_wait_for_a_scan() {
    let folder = tempfile::tempdir().unwrap();
    let (file, path) = write(folder.path(), "model.pkl", PICKLE);
    let mut pool = ScanPool::new(PoolConfig { scan_max: hasty(crate::fixture::SENSOR).scan_max, ..config() });
    let scan = Job { cacheable: false, ..job_of(&file, &path) };
    let mut opener = 0;
    read(ask_watched(&mut pool, scan.clone(), |pid| opener = pid, None).await);
    // From now on the lane of scans is stuck.
    let opener = i32::try_from(opener).ok().and_then(rustix::process::Pid::from_raw).unwrap();
    rustix::process::kill_process(opener, rustix::process::Signal::STOP).unwrap();
    let sniff = Job { mode: Mode::Sniff, line: Line::First, tag: 8, ..scan.clone() };
    assert_eq!((pool.submit(scan), pool.submit(sniff)), (None, None));
    let mut answers = Vec::new();
    while answers.len() < 2 {
        let outcome = next(&mut pool).await;
        answers.push((outcome.job.tag, outcome.answer));
    }
    assert_eq!(answers[1], (7, Answer::NotRead(NotRead::TimedOut)));
    let (tag, sniffed) = answers.swap_remove(0);
    let report = read(sniffed).report;
    assert_eq!((tag, report.format.as_str(), report.verdict), (8, "pickle", None));
    pool.shutdown().await;
}

#[tokio::test]
async fn a_flood_loses_its_own_files_and_each_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let (file, path) = write(folder.path(), "model.pkl", PICKLE);
    let (other, other_path) = write(folder.path(), "other.pkl", PICKLE);
    let queue = QueueLimits { per_cgroup_max: 2, urgent_max: 2, total_max: 8 };
    let mut pool = ScanPool::new(PoolConfig { queue, ..config() });
    let job = |tag, cgroup| Job { tag, cgroup, cacheable: false, ..job_of(&file, &path) };
    // No lane runs before this test waits for the first time.
    let displaced: Vec<u64> = (0..5).filter_map(|tag| pool.submit(job(tag, 1))).map(|job| job.tag).collect();
    assert_eq!(displaced, [2, 3, 4]);
    assert_eq!(pool.submit(job(9, 2)), None);
    let late = Job { cgroup: 2, tag: 10, cacheable: false, ..job_of(&other, &other_path) };
    assert_eq!(pool.submit(late.clone()), None);
    pool.hurry(2, late.inode, late.stamp);
    let mut order = Vec::new();
    for _ in 0..4 {
        let outcome = next(&mut pool).await;
        read(outcome.answer);
        order.push(outcome.job.tag);
    }
    assert_eq!(order, [0, 10, 1, 9], "the quiet cgroup is served second, and first what is urgent there");
    pool.shutdown().await;
}

#[tokio::test]
async fn idle_children_of_the_background_are_ended_and_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let (file, path) = write(folder.path(), "model.pkl", PICKLE);
    let mut pool = ScanPool::new(PoolConfig { idle_max: std::time::Duration::from_millis(1), ..config() });
    assert_eq!(pool.confinements(), None, "none was started yet");
    for _ in 0..2 {
        let mut opener = 0;
        let job = Job { line: Line::Background, cacheable: false, ..job_of(&file, &path) };
        read(ask_watched(&mut pool, job, |pid| opener = pid, None).await);
        while std::path::Path::new(&format!("/proc/{opener}")).exists() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }
    assert!(pool.confinements().is_some_and(|held| held.scan.seccomp && held.open.seccomp));
    pool.shutdown().await;
}
