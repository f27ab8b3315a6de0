//! Ways in and out, one by one, on each rung of the attach ladder: a way is seen, or `doctor` says that it is lost.
//!
//! Both directions are held: what is declared lost and is seen all the same is a word too many. Each way prints one line
//! (`PATH`, rung asked for, way, hook, rung, outcome), from which `cargo xtask vm --kernel all` makes a table.

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use crate::alert::{Alert, Alerts};
use crate::daemon::{self, Daemon};
use crate::harness::{CONFIG, Case};
use crate::lab::{self, Room};
use crate::model::Content;
use crate::namespace::{PUBLIC4, PUBLIC6};

/// One way.
struct Way {
    name: &'static str,
    /// The plan's hook that sees it.
    hook: &'static str,
    /// A word of what `doctor` says when that hook's rung doesn't see this way; "" where every rung does.
    lost_word: &'static str,
    does: Does,
}

enum Does {
    /// A function of `paths.py` opens the model, whose payload connects.
    Opens(&'static str),
    /// The payload does this, and an alert of this kind tells; `HOST` and `PORT` stand for a listener's.
    Acts(&'static str, &'static str, fn(&Alert) -> bool),
}

const fn opens(name: &'static str, function: &'static str, lost_word: &'static str) -> Way {
    Way { name, hook: "open", lost_word, does: Does::Opens(function) }
}

const fn acts(
    name: &'static str,
    hook: &'static str,
    code: &'static str,
    kind: &'static str,
    is: fn(&Alert) -> bool,
) -> Way {
    Way { name, hook, lost_word: "", does: Does::Acts(code, kind, is) }
}

fn is_any(_: &Alert) -> bool {
    true
}

const WAYS: &[Way] = &[
    opens("open by openat", "openat", ""),
    opens("open by open", "open_", ""),
    opens("open by openat2", "openat2", ""),
    opens("open by open_by_handle_at", "open_by_handle_at", "open_by_handle_at"),
    opens("open by io_uring", "io_uring_openat", "io_uring"),
    opens("open by a 32-bit call", "ia32_open", "32-bit"),
    acts("TCP connect, IPv4", "connect4", "tcp('203.0.113.7', PORT)", "connect", is_any),
    acts("TCP connect, IPv6", "connect6", "tcp('2001:db8::7', PORT)", "connect", is_any),
    acts("UDP sendto, IPv4", "sendmsg4", "udp('203.0.113.7', PORT)", "send", is_any),
    acts("UDP sendto, IPv6", "sendmsg6", "udp('2001:db8::7', PORT)", "send", is_any),
    acts(
        "UDP send on a connected socket",
        "socket_sendmsg",
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('203.0.113.7', PORT)); s.send(b'x')",
        "send",
        is_any,
    ),
    acts(
        "ICMP by a raw socket",
        "socket_sendmsg",
        "s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP); \
         s.sendto(b'\\x08\\0\\xf7\\xff\\0\\0\\0\\0', ('203.0.113.7', 0))",
        "send",
        |alert| alert.text("/event/proto") == "icmp",
    ),
    acts(
        "frame by a packet socket",
        "socket_sendmsg",
        "s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(('lo', 0)); s.send(bytes(64))",
        "send",
        |alert| alert.text("/event/family") == "packet",
    ),
    acts("a shell", "exec", "os.system(':')", "exec", |alert| alert.text("/event/exe").ends_with("sh")),
    acts("exec in place, as part of the load", "exec_window", "os.execv('/bin/true', ['true'])", "exec", |alert| {
        alert.at("/event/in_load") == true
    }),
];

pub fn cases() -> Vec<Case> {
    ["lsm", "fentry", "kprobe", "tracepoint"]
        .map(|rung| Case::alone(format!("paths::{rung}"), move |room| every_way(room, rung)))
        .into()
}

/// What a way left behind.
struct Taken {
    way: &'static Way,
    model: std::path::PathBuf,
    port: u16,
    /// Why it could not be gone here.
    skipped: Option<String>,
}

fn every_way(room: &Room<'_>, best_rung: &str) -> Result<()> {
    let said = room.run(lab::sensor().args(["doctor", "--format", "json", "--best-rung", best_rung]))?;
    let plan = said.what("hooks")?["hooks"].clone();
    let (mut command, ready_file) = daemon::command(&room.dir.join("daemon"), CONFIG)?;
    let daemon = Daemon::start_as(command.args(["--best-rung", best_rung]), ready_file)?;
    let mut taken = Vec::new();
    for (index, way) in WAYS.iter().enumerate() {
        taken.push(take(room, way, index).with_context(|| way.name)?);
    }
    let alerts = daemon.stop(Signal::TERM)?.alerts;
    let mut wrong = Vec::new();
    for taken in &taken {
        let hooks = plan.as_array().context("no hooks")?;
        let hook = hooks.iter().find(|hook| hook["event"] == taken.way.hook).context(taken.way.hook)?;
        let outcome = outcome(&alerts, taken);
        let rung = hook["rung"].as_str().unwrap_or("none");
        println!("PATH\t{best_rung}\t{}\t{}\t{rung}\t{outcome}", taken.way.name, taken.way.hook);
        if outcome != "not here" && (outcome == "lost") != is_declared_lost(hook, taken.way) {
            wrong.push(format!("{} on rung {rung} is {outcome}; doctor says {:?}", taken.way.name, hook["lost"]));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

fn is_declared_lost(hook: &Value, way: &Way) -> bool {
    let lost = hook["lost"].as_str().unwrap_or_default();
    hook["rung"].is_null() || (!way.lost_word.is_empty() && lost.contains(way.lost_word))
}

fn take(room: &Room<'_>, way: &'static Way, index: usize) -> Result<Taken> {
    let (payload, code, port) = match way.does {
        Does::Opens(function) => {
            let listener = room.tcp(PUBLIC4)?;
            let payload = format!("tcp({})", listener.python());
            let code = format!("import paths\npaths.load(paths.{function})");
            // The truth about an open is that its payload arrived; that needs the listener until then.
            let model = room.model(&format!("{index}.pkl"), Content::Payload(&payload))?;
            let said = room.run_python(&code, &model)?;
            let skipped = said.what("skipped").ok().map(|why| why["skipped"].to_string());
            if skipped.is_none() {
                listener.was_reached()?;
            }
            return Ok(Taken { way, model, port: listener.port(), skipped });
        }
        Does::Acts(code, ..) => (code, "load()", room.port()),
    };
    let host = if payload.contains("2001:") { PUBLIC6 } else { PUBLIC4 };
    let listener = if payload.contains("tcp(") { Some(std::net::TcpListener::bind((host, port))?) } else { None };
    let model = room.model(
        &format!("{index}.pkl"),
        Content::Payload(&format!("import os, socket\n{}", payload.replace("PORT", &port.to_string()))),
    )?;
    room.run_python(code, &model)?;
    drop(listener);
    Ok(Taken { way, model, port, skipped: None })
}

fn outcome(alerts: &Alerts, taken: &Taken) -> &'static str {
    if taken.skipped.is_some() {
        return "not here";
    }
    let of_model = alerts.filter(|alert| alert.text("/model/path") == taken.model.to_string_lossy());
    let seen = match taken.way.does {
        Does::Opens(_) => of_model.kind("connect").port(taken.port).last("").is_ok(),
        Does::Acts(code, kind, is) => {
            let those = of_model.kind(kind).filter(is);
            if code.contains("PORT") { those.port(taken.port).last("").is_ok() } else { those.last("").is_ok() }
        }
    };
    if seen { "seen" } else { "lost" }
}
