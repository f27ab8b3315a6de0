//! The scanner's word comes late, or never: the alert doesn't wait for it, and a worse word raises it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::alert::Alert;
use crate::daemon::Daemon;
use crate::harness::Case;
use crate::lab::{Listener, Room};
use crate::model::Content;
use crate::namespace::{PRIVATE4, PUBLIC4};

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
        Case::alone("verdict::destroyed_before_it_was_read", destroyed),
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

/// How a payload takes its own file away, while it is loaded.
const DESTROYED: [(&str, &str); 6] = [
    ("unlinked", "os.unlink(MODEL)"),
    ("unlinked-by-a-child", "child(lambda: os.unlink(MODEL))"),
    ("replaced", "open('new', 'wb').write(b'N.'); os.replace('new', MODEL)"),
    ("moved", "os.rename(MODEL, 'elsewhere.bin')"),
    ("cut", "os.truncate(MODEL, 0)"),
    ("rewritten", "f = open(MODEL, 'r+b'); f.write(b'N.'); f.truncate(); f.close()"),
];

/// A payload that is faster than the scanner takes its file away, and acts. A program does the same to what it has loaded,
/// and talks to its like.
fn destroyed(room: &Room<'_>) -> Result<()> {
    let daemon = with_scanner(room)?;
    // One by one: what finds and opens files is taken for dead after a few seconds.
    let load = |code: &str, model: &Path, listener: &Listener| {
        let held = Held::of(&daemon, &["open", "scan"])?;
        room.run_python(code, model)?;
        listener.was_reached()?;
        held.release(Signal::CONT)
    };
    let mut loads = Vec::new();
    for (name, code) in DESTROYED {
        let listener = room.tcp(PUBLIC4)?;
        let code = format!("import os\n{code}\ntcp({})", listener.python());
        let model = room.model(&format!("{name}.pkl"), Content::Payload(&code))?;
        load("load()", &model, &listener)?;
        loads.push((listener.port(), model));
    }
    let rewrites = "value = load()\nwith open(MODEL, 'wb') as file: pickle.dump((value, 1), file)";
    let mut ordinary = Vec::new();
    for (name, host) in [("to-its-like", PRIVATE4), ("outside", PUBLIC4)] {
        let listener = room.tcp(host)?;
        let model = room.model(&format!("{name}.pkl"), Content::CleanPickle)?;
        load(&format!("{rewrites}\ntcp({})", listener.python()), &model, &listener)?;
        ordinary.push(listener.port());
    }
    for (port, model) in &loads {
        let is_it = |alert: &Alert| alert.at("/event/port") == *port && alert.text("/severity") == "critical";
        let alert = daemon.wait_for("a payload that took its file away", is_it)?;
        alert.names(model)?.is("/model/verdict", "pending")?.is("/model/findings/0/severity", "high")?;
    }
    let alerts = daemon.stop(Signal::TERM)?.alerts;
    let [to_its_like, outside] = ordinary[..] else { bail!("two of them") };
    alerts.port(to_its_like).none_above("low", "its own cache is its own to write")?;
    alerts.port(outside).none_above("medium", "as loud as before that is known")
}

/// A daemon whose scanners are stopped.
fn with_held_scanner(room: &Room<'_>) -> Result<(Daemon, Held)> {
    let daemon = with_scanner(room)?;
    let held = Held::of(&daemon, &["scan"])?;
    Ok((daemon, held))
}

/// A daemon that has its scanners.
fn with_scanner(room: &Room<'_>) -> Result<Daemon> {
    let daemon = Daemon::start(&room.dir.join("daemon"), CONFIG)?;
    // It starts them when there is something to scan.
    let (_, act) = malicious_load(room, "first.pkl")?;
    daemon.wait_for("a load, judged", |alert| act(alert) && alert.text("/model/verdict") == "malicious")?;
    Ok(daemon)
}

fn ended(daemon: Daemon) -> Result<()> {
    let stopped = daemon.stop(Signal::TERM)?;
    ensure!(stopped.status.code() == Some(0), "{}\n{}", stopped.status, stopped.stderr);
    Ok(())
}

/// The workers of these roles among the children of `daemon`.
fn workers(daemon: u32, roles: &[&str]) -> Result<Vec<Pid>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")?.filter_map(Result::ok) {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw) else {
            continue;
        };
        if roles.iter().any(|role| is_worker(&entry.path(), daemon, role).unwrap_or(false)) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// `sensor worker ROLE`, a child of `daemon`; none where it is gone meanwhile.
fn is_worker(proc: &Path, daemon: u32, role: &str) -> Option<bool> {
    let status = std::fs::read_to_string(proc.join("status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim();
    let command = std::fs::read(proc.join("cmdline")).ok()?;
    let words: Vec<&[u8]> = command.split(|byte| *byte == 0).collect();
    Some(parent == daemon.to_string() && words.contains(&&b"worker"[..]) && words.contains(&role.as_bytes()))
}

/// Processes that are stopped; they go on when dropped.
struct Held(Vec<Pid>);

impl Held {
    /// Stops the daemon's workers of these roles.
    fn of(daemon: &Daemon, roles: &[&str]) -> Result<Self> {
        let held = Self(workers(daemon.pid(), roles)?);
        ensure!(held.0.len() >= roles.len(), "the daemon has no such workers");
        held.signal(Signal::STOP)?;
        Ok(held)
    }

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
