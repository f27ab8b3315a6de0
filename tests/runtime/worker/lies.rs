//! A scanner that a file took over: it hangs, dies or says what it likes, and the daemon goes on.

use std::path::Path;

use crate::fixture::{
    HELLO, PICKLE, ask, ask_confirmed, ask_watched, config, hasty, impostor, job_of, read, say, write,
};
use crate::worker::pool::{Answer, PoolConfig, ScanPool};
use crate::worker::wire::{NotRead, Unscannable};

const STAMP: &str = r#"{"size":4,"ctime_s":0,"ctime_ns":0}"#;

fn done(id: u64, report: &str) -> String {
    format!(r#"{{"done":{{"id":{id},"before":{STAMP},"after":{STAMP},"report":{report}}}}}"#)
}

fn report(verdict: &str, findings: &str) -> String {
    format!(
        r#"{{"format":"pickle","content":"code","verdict":{verdict},"all_globals_safe":true,"findings":[{findings}],"findings_omitted":0,"size":4,"elapsed_us":1}}"#
    )
}

/// The answer for a good file when the scanner is a script that greets and then does this.
async fn scanned_by(folder: &Path, script: &str) -> Answer {
    let program = impostor(folder, "scan", &format!("{}\n{script}", say(HELLO)));
    let (file, path) = write(folder, "model.pkl", PICKLE);
    let mut pool = ScanPool::new(hasty(program));
    let answer = ask(&mut pool, job_of(&file, &path)).await;
    pool.shutdown().await;
    answer
}

#[tokio::test]
async fn lies_are_told_from_answers() {
    let folder = tempfile::tempdir().unwrap();
    let honest = say(&done(1, &report("\"clean\"", ""))) + "\nread x";
    assert!(read(scanned_by(folder.path(), &honest).await).changed, "its stamps are not the file's");

    let finding = r#"{"id":"SNS-101","severity":"high","title":"x"}"#;
    let bad_finding = r#"{"id":"X","severity":"high","title":"x"}"#;
    let lies = [
        ("an answer about another file", done(2, &report("\"clean\"", ""))),
        ("an unknown verdict", done(1, &report("\"wonderful\"", ""))),
        ("no verdict", done(1, &report("null", ""))),
        ("an unknown finding", done(1, &report("\"clean\"", bad_finding))),
        ("too many findings", done(1, &report("\"malicious\"", &vec![finding; 51].join(",")))),
        ("a second greeting", HELLO.to_owned()),
        ("an unknown field", r#"{"done":{"id":1,"root":true}}"#.to_owned()),
        ("no JSON", "{".to_owned()),
    ];
    for (what, lie) in lies {
        let answer = scanned_by(folder.path(), &format!("{}\nread x", say(&lie))).await;
        assert_eq!(answer, Answer::Unscannable(Unscannable::BadAnswer), "{what}");
    }
    let long = "printf '\\377\\377\\377\\377' >&0\nread x";
    assert_eq!(scanned_by(folder.path(), long).await, Answer::Unscannable(Unscannable::BadAnswer));
}

#[tokio::test]
async fn a_scanner_that_dies_is_told_from_one_that_takes_too_long() {
    let folder = tempfile::tempdir().unwrap();
    // It takes the request first: a child that is dead beforehand is none that a file killed.
    let request = "dd bs=1 count=5 status=none >/dev/null";
    let scanned = async |script: &str| scanned_by(folder.path(), &format!("{request}\n{script}")).await;
    assert_eq!(scanned("exit 101").await, Answer::Unscannable(Unscannable::Died));
    assert_eq!(scanned("kill -SYS $$").await, Answer::Unscannable(Unscannable::Died));
    assert_eq!(scanned("kill -XCPU $$").await, Answer::Unscannable(Unscannable::CpuTime));
    assert_eq!(scanned("exec sleep 600").await, Answer::NotRead(NotRead::TimedOut));
}

#[tokio::test]
async fn children_that_never_start_cost_one_file_each_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let (file, path) = write(folder.path(), "model.pkl", PICKLE);
    for program in ["/nonexistent", "/bin/true"] {
        let mut pool = ScanPool::new(PoolConfig { program: program.into(), ..config() });
        for _ in 0..2 {
            assert_eq!(ask(&mut pool, job_of(&file, &path)).await, Answer::NotRead(NotRead::WorkerFailed), "{program}");
        }
        pool.shutdown().await;
    }
}

#[tokio::test]
async fn a_stopped_child_is_killed_at_the_deadline_and_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let (file, path) = write(folder.path(), "model.pkl", PICKLE);
    let mut pool = ScanPool::new(hasty(crate::fixture::SENSOR));
    let mut stopped = 0;
    let stop = |opener| {
        stopped = opener;
        signal(opener, rustix::process::Signal::STOP);
    };
    let answer = ask_watched(&mut pool, job_of(&file, &path), stop, Some(true)).await;
    assert_eq!(answer, Answer::NotRead(NotRead::TimedOut));
    assert_ne!(stopped, 0);
    assert!(!alive(stopped), "killed and reaped");
    let mut successor = 0;
    read(ask_watched(&mut pool, job_of(&file, &path), |opener| successor = opener, Some(true)).await);
    assert_ne!(successor, stopped);
    pool.shutdown().await;
    assert!(!alive(successor), "shutdown reaps");
}

#[tokio::test]
async fn a_child_that_was_killed_while_idle_is_replaced_unnoticed() {
    let folder = tempfile::tempdir().unwrap();
    let (file, path) = write(folder.path(), "model.pkl", PICKLE);
    let job = crate::worker::pool::Job { cacheable: false, ..job_of(&file, &path) };
    let mut pool = ScanPool::new(config());
    let mut opener = 0;
    read(ask_watched(&mut pool, job.clone(), |pid| opener = pid, None).await);
    signal(opener, rustix::process::Signal::KILL);
    while state(opener).is_some_and(|state| state != 'Z') {
        tokio::task::yield_now().await;
    }
    read(ask_confirmed(&mut pool, job, Some(true)).await);
    pool.shutdown().await;
}

fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).expect("a pid");
    rustix::process::kill_process(pid, signal).expect("a child of ours");
}

fn alive(pid: u32) -> bool {
    state(pid).is_some()
}

/// The letter of proc_pid_stat(5) field 3.
fn state(pid: u32) -> Option<char> {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?.rsplit_once(')')?.1.trim_start().chars().next()
}
