//! The scanner's word comes late, or never: the alert doesn't wait for it, and a worse word raises it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::alert::Alert;
use crate::daemon::Daemon;
use crate::harness::Case;
use crate::lab::Room;
use crate::model::Content;
use crate::namespace::PUBLIC4;

/// An alert waits this long and no longer.
const CONFIG: &str = "scan_wait_ms = 500\n";

pub fn cases() -> Vec<Case> {
    vec![
        Case::alone("verdict::late", |room| {
            let (daemon, held) = with_held_scanner(room)?;
            let (model, act) = malicious_load(room, "late.pkl")?;
            let early = daemon.wait_for("the connection, while the scanner is stopped", &act)?;
            // Nobody looked at the content yet, and a name alone is no accusation: judged as data.
            early.names(&model)?.is("/model/verdict", "pending")?.is("/model/class", "data")?.is("/severity", "low")?;
            held.release(Signal::CONT)?;
            let update = daemon.wait_for("the same, with the verdict", |alert| {
                act(alert) && alert.text("/model/verdict") != "pending"
            })?;
            update.is("/model/verdict", "malicious")?.is("/severity", "critical")?.is("/update", true)?;
            update.is("/incident/id", early.at("/incident/id").clone())?;
            ended(daemon)
        }),
        Case::alone("verdict::never", |room| {
            let (daemon, held) = with_held_scanner(room)?;
            let (model, act) = malicious_load(room, "never.pkl")?;
            daemon.wait_for("the connection, while the scanner is stopped", &act)?.names(&model)?;
            held.release(Signal::KILL)?;
            let end = daemon.wait_for("the same, without a verdict", |alert| {
                act(alert) && alert.text("/model/verdict") != "pending"
            })?;
            end.is("/model/verdict", "unscannable")?.is("/severity", "critical")?.is("/update", true)?;
            // Another scanner does the next one's work.
            let (next, act) = malicious_load(room, "next.pkl")?;
            let alert = daemon
                .wait_for("the next load, judged", |alert| act(alert) && alert.text("/model/verdict") == "malicious")?;
            alert.names(&next)?.is("/severity", "critical")?;
            ended(daemon)
        }),
    ]
}

/// Loads a new malicious pickle that connects out; gives its path and what its alert looks like.
fn malicious_load(room: &Room<'_>, name: &str) -> Result<(PathBuf, impl Fn(&Alert) -> bool + use<>)> {
    let listener = room.tcp(PUBLIC4)?;
    let model = room.model(name, Content::Payload(&format!("tcp({})", listener.python())))?;
    room.run_python("load()", &model)?;
    listener.was_reached()?;
    let port = listener.port();
    Ok((model, move |alert: &Alert| {
        alert.text("/event/kind") == "connect" && alert.at("/event/port").as_u64() == Some(port.into())
    }))
}

/// A daemon whose scanners are stopped.
fn with_held_scanner(room: &Room<'_>) -> Result<(Daemon, Held)> {
    let daemon = Daemon::start(&room.dir.join("daemon"), CONFIG)?;
    // It starts them when there is something to scan.
    let (_, act) = malicious_load(room, "first.pkl")?;
    daemon.wait_for("a load, judged", |alert| act(alert) && alert.text("/model/verdict") == "malicious")?;
    let held = Held(scanners(daemon.pid())?);
    ensure!(!held.0.is_empty(), "the daemon has no scanner");
    held.signal(Signal::STOP)?;
    Ok((daemon, held))
}

fn ended(daemon: Daemon) -> Result<()> {
    let stopped = daemon.stop(Signal::TERM)?;
    ensure!(stopped.status.code() == Some(0), "{}\n{}", stopped.status, stopped.stderr);
    Ok(())
}

/// The scanners among the children of `daemon`.
fn scanners(daemon: u32) -> Result<Vec<Pid>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")?.filter_map(Result::ok) {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw) else {
            continue;
        };
        if is_scanner(&entry.path(), daemon).unwrap_or(false) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// `sensor worker scan`, a child of `daemon`; none where it is gone meanwhile.
fn is_scanner(proc: &Path, daemon: u32) -> Option<bool> {
    let status = std::fs::read_to_string(proc.join("status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim();
    let command = std::fs::read(proc.join("cmdline")).ok()?;
    let words: Vec<&[u8]> = command.split(|byte| *byte == 0).collect();
    Some(parent == daemon.to_string() && words.contains(&&b"worker"[..]) && words.contains(&&b"scan"[..]))
}

/// Processes that are stopped; they go on when dropped.
struct Held(Vec<Pid>);

impl Held {
    fn signal(&self, signal: Signal) -> Result<()> {
        for pid in &self.0 {
            kill_process(*pid, signal).context("a scanner")?;
        }
        Ok(())
    }

    fn release(mut self, signal: Signal) -> Result<()> {
        let result = self.signal(signal);
        self.0.clear();
        result
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // They may be gone.
        let _ = self.signal(Signal::CONT);
    }
}
