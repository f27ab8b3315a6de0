//! What the configuration changes: exceptions, limits, the lower rung.

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use sha2::{Digest, Sha256};

use crate::actor::Actor;
use crate::daemon::{self, Daemon, Stopped};
use crate::harness::{CONFIG, Case};
use crate::lab::Room;
use crate::model::Content;
use crate::namespace::{PUBLIC4, PUBLIC6};

/// Different model files that are opened while one may be looked at per second.
const FLOOD: usize = 40;

pub fn cases() -> Vec<Case> {
    vec![
        Case::alone("settings::an_exception_by_path", |room| {
            let rules = room.dir.join("rules");
            std::fs::create_dir(&rules)?;
            let excused = format!("{}/excused*", room.dir.display());
            let text = format!(
                "exceptions:\n  - path: {excused:?}\n    reason: the tests know it\n    expires: 2999-12-31\n    \
                 rules: [egress-after-load, bytes-after-load, malicious-model-opened]\n"
            );
            std::fs::write(rules.join("site.yaml"), text)?;
            let (mut command, ready_file) = daemon::command(&room.dir.join("daemon"), CONFIG)?;
            let daemon = Daemon::start_as(command.arg("--rules").arg(&rules), ready_file)?;
            let mut ports = Vec::new();
            for name in ["excused.pkl", "other.pkl"] {
                let listener = room.tcp(PUBLIC4)?;
                let model = room.model(name, Content::Payload(&format!("tcp({})", listener.python())))?;
                room.run_python("load()", &model)?;
                listener.was_reached()?;
                ports.push(listener.port());
            }
            let stopped = ended(daemon)?;
            stopped.alerts.kind("connect").port(ports[1]).last("nothing excuses the other file")?;
            stopped.alerts.port(ports[0]).none("the exception covers this file")
        }),
        Case::alone("settings::an_exception_by_content", |room| {
            let rules = room.dir.join("rules");
            std::fs::create_dir(&rules)?;
            let listeners = [room.tcp(PUBLIC4)?, room.tcp(PUBLIC4)?];
            let mut models = Vec::new();
            for (listener, name) in listeners.iter().zip(["excused.pkl", "other.pkl"]) {
                models.push(room.model(name, Content::Payload(&format!("tcp({})", listener.python())))?);
            }
            let hash = Sha256::digest(std::fs::read(&models[0])?);
            let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
            let text =
                format!("exceptions:\n  - sha256: {hash}\n    reason: the tests know it\n    expires: 2999-12-31\n");
            std::fs::write(rules.join("site.yaml"), text)?;
            let (mut command, ready_file) = daemon::command(&room.dir.join("daemon"), CONFIG)?;
            let daemon = Daemon::start_as(command.arg("--rules").arg(&rules), ready_file)?;
            for (listener, model) in listeners.iter().zip(&models) {
                room.run_python("load()", model)?;
                listener.was_reached()?;
            }
            let stopped = ended(daemon)?;
            stopped.alerts.kind("connect").port(listeners[1].port()).last("nothing excuses the other file")?;
            stopped.alerts.port(listeners[0].port()).none("the exception covers this content")
        }),
        Case::alone("settings::what_was_not_looked_at_is_counted", |room| {
            let config = format!("{CONFIG}[limits]\ncandidates_per_s = 1\n");
            let daemon = Daemon::start(&room.dir.join("daemon"), &config)?;
            for i in 0..FLOOD {
                room.model(&format!("{i}.pkl"), Content::CleanPickle)?;
                room.model(&format!("part-{i}"), Content::CleanPickle)?;
            }
            let listener = room.tcp(PUBLIC4)?;
            let payload = format!("import time\ntcp({})\ntime.sleep(2)", listener.python());
            let last = room.model("last.pkl", Content::Payload(&payload))?;
            let code =
                format!("for i in range({FLOOD}):\n  load(f'{{i}}.pkl')\n  load(f'part-{{i}}')\nload('last.pkl')");
            room.run_python(&code, &room.dir)?;
            listener.was_reached()?;
            let stopped = ended(daemon)?;
            // Its open was not announced: it is found when it acts, and so is its name.
            let connections = stopped.alerts.kind("connect").port(listener.port());
            connections.last("the connection")?.names(&last)?.is("/model/verdict", "malicious")?;
            for reason in ["candidate_rate", "unknown_name_rate"] {
                let losses = stopped.alerts.kind("loss").filter(|alert| alert.text("/event/reason") == reason);
                let loss = losses.last("files were opened faster than they may be looked at")?;
                loss.is("/severity", "low")?.is("/process", serde_json::Value::Null)?;
                ensure!(loss.at("/event/count").as_u64().is_some_and(|count| count > 0), "no count:\n{}", loss.line);
            }
            Ok(())
        }),
        Case::alone("settings::a_first_model_is_told_beyond_the_limit", first_of_many),
        Case::alone("settings::a_rule_about_clean_opens", every_open_is_told),
        Case::alone("settings::rung_fentry", |room| on_rung(room, "fentry")),
        Case::alone("settings::rung_kprobe", |room| on_rung(room, "kprobe")),
        // What a locked-down kernel leaves: also where there is more.
        Case::alone("settings::rung_tracepoint", |room| on_rung(room, "tracepoint")),
    ]
}

/// Where a rule makes an alert of it, the open of a file that is known to be clean is told at once, with who opened it.
fn every_open_is_told(room: &Room<'_>) -> Result<()> {
    let rules = room.dir.join("rules");
    std::fs::create_dir(&rules)?;
    std::fs::write(
        rules.join("site.yaml"),
        "rules:\n  - id: model-opened\n    name: A model was opened\n    what: [model_open]\n    nominal: low\n    \
         severity: { fixed: low }\n",
    )?;
    let (mut command, ready_file) = daemon::command(&room.dir.join("daemon"), CONFIG)?;
    let daemon = Daemon::start_as(command.arg("--rules").arg(&rules), ready_file)?;
    let model = room.model("model.pkl", Content::CleanPickle)?;
    for i in 0..3 {
        let mut opener = Actor::start(&mut room.python("say(did='open', **who())\nload()\ngo()", &[&model]))?;
        opener.wait_said("waiting")?;
        let pid = opener.pid();
        let alert = daemon.wait_for("the open", |alert| alert.at("/process/pid") == pid)?;
        opener.tell("go")?;
        let truth = opener.finish()?.succeeded()?;
        let did = truth.what("did")?;
        alert.names(&model)?.is("/event/kind", "model_open")?.is("/model/verdict", "clean")?;
        for field in ["exe", "argv"] {
            alert.is(&format!("/process/{field}"), did[field].clone()).with_context(|| format!("open {i}"))?;
        }
    }
    daemon.stop(Signal::TERM)?;
    Ok(())
}

/// Who it is that loads is known, also where its cgroup opens more files than may be looked at: its first one is told.
fn first_of_many(room: &Room<'_>) -> Result<()> {
    let config = format!("{CONFIG}[limits]\ncandidates_per_s = 1\n");
    let daemon = Daemon::start(&room.dir.join("daemon"), &config)?;
    let flood = "
import ctypes, itertools
ctypes.CDLL(None).prctl(1, 9)
say(flooding=True)
for i in itertools.count():
  with open(f'flood-{i % 64}.pkl', 'wb') as file: pickle.dump(i, file)
  load(f'flood-{i % 64}.pkl')
";
    let mut beside = Actor::start(&mut room.python(flood, &[]))?;
    beside.wait_said("flooding")?;
    let listener = room.tcp(PUBLIC4)?;
    let model = room.model("first.pkl", Content::Payload(&format!("tcp({})", listener.python())))?;
    let truth = room.run_python("load()", &model)?;
    listener.was_reached()?;
    ensure!(beside.is_running(), "the flood ended");
    beside.kill();
    let connections = ended(daemon)?.alerts.kind("connect").port(listener.port());
    let alert = connections.last("the connection")?;
    let did = truth.what("did")?;
    alert.names(&model)?.is("/model/verdict", "malicious")?.is("/process/pid", did["pid"].clone())?;
    alert.is("/process/argv", did["argv"].clone())?;
    Ok(())
}

/// A rung of the attach ladder, or the next one down that this kernel has, sees what the best one sees.
fn on_rung(room: &Room<'_>, best_rung: &str) -> Result<()> {
    let (mut command, ready_file) = daemon::command(&room.dir.join("daemon"), CONFIG)?;
    let daemon = Daemon::start_as(command.args(["--best-rung", best_rung]), ready_file)?;
    let (stream, datagram) = (room.tcp(PUBLIC4)?, room.udp(PUBLIC6)?);
    let payload = format!("tcp({})\nchild(lambda: udp({}))\nshell()", stream.python(), datagram.python());
    let model = room.model("model.pkl", Content::Payload(&payload))?;
    let truth = room.run_python("load()", &model)?;
    stream.was_reached()?;
    datagram.was_reached()?;
    let shell = &truth.what("shell")?["shell"];
    let alerts = ended(daemon)?.alerts;
    for alert in [
        alerts.kind("connect").port(stream.port()).last("the connection")?,
        alerts.kind("send").port(datagram.port()).last("the datagram")?,
        alerts.kind("exec").filter(|alert| alert.at("/process/pid") == shell).last("the shell")?,
    ] {
        alert.names(&model)?.is("/severity", "critical")?.is("/event/in_load", true)?;
    }
    Ok(())
}

/// Stops it, which has to go well.
fn ended(daemon: Daemon) -> Result<Stopped> {
    let stopped = daemon.stop(Signal::TERM)?;
    ensure!(stopped.status.code() == Some(0), "{} at SIGTERM\n{}", stopped.status, stopped.stderr);
    Ok(stopped)
}
