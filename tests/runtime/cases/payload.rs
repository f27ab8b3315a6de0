//! A malicious pickle acts while it is loaded, from every place that it can act from: each is critical, names the file,
//! and names who did it.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use crate::actor::{Actor, Finished};
use crate::alert::{Alert, Alerts};
use crate::daemon::Daemon;
use crate::harness::{CONFIG, Case};
use crate::lab::{Listener, Room};
use crate::model::Content;
use crate::namespace::{PUBLIC4, PUBLIC6};

/// What the payload does over the network: name, transport, address that it uses, address that hears it.
const CALLS: [(&str, &str, &str, &str); 5] = [
    ("tcp4", "tcp", PUBLIC4, PUBLIC4),
    ("tcp6", "tcp", PUBLIC6, PUBLIC6),
    ("tcp4_mapped", "tcp", "::ffff:203.0.113.7", PUBLIC4),
    ("udp4", "udp", PUBLIC4, PUBLIC4),
    ("udp6", "udp", PUBLIC6, PUBLIC6),
];

/// Where it acts from: functions of `acts.py`.
const PLACES: [&str; 6] = ["here", "child", "grandchild", "daemon", "thread", "orphan_thread"];

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for place in PLACES {
        for (name, transport, to, at) in CALLS {
            cases.push(Case::shared(format!("payload::{name}_from_{place}"), move |room| {
                let listener = listen(room, transport, at)?;
                let code = format!("{place}(lambda: {transport}({to:?}, {}))", listener.port());
                let model = room.model("model.pkl", Content::Payload(&code))?;
                let truth = room.run_python("load()", &model)?;
                listener.was_reached()?;
                let room = Trace::of(room);
                Ok(move |alerts: &Alerts| {
                    let alert = call_alert(alerts, &room, transport, &listener, &model)?;
                    acted_by(alert, truth.what("did")?)?;
                    loaded_by(alert, &truth)
                })
            }));
        }
        cases.push(Case::shared(format!("payload::shell_from_{place}"), move |room| {
            let model = room.model("model.pkl", Content::Payload(&format!("{place}(shell)")))?;
            let truth = room.run_python("load()", &model)?;
            let room = Trace::of(room);
            Ok(move |alerts: &Alerts| {
                let alert = shell_alert(alerts, &room, &model, &truth)?.clone();
                loaded_by(&alert, &truth)
            })
        }));
    }
    for place in ["replaced", "spawned"] {
        for (name, transport, to, at) in CALLS {
            cases.push(Case::shared(format!("payload::{name}_from_program_{place}"), move |room| {
                let listener = listen(room, transport, at)?;
                let address = match to.contains(':') {
                    true => format!("[{to}]:{}", listener.port()),
                    false => format!("{to}:{}", listener.port()),
                };
                let code = format!("{place}({transport:?}, {address:?})");
                let model = room.model("model.pkl", Content::Payload(&code))?;
                let truth = room.run_python("load()", &model)?;
                listener.was_reached()?;
                let helper = room.lab.helper.to_str().context("a path that is text")?.to_owned();
                let room = Trace::of(room);
                Ok(move |alerts: &Alerts| {
                    let argv = Value::from(vec![helper.as_str(), "helper-act", transport, &address]);
                    let pid = truth.what("did")?["pid"].clone();
                    let exec = alerts.filter(|alert| room.own(alert) && alert.at("/process/pid") == &pid).kind("exec");
                    loud(exec.last("the helper was started")?, &model)?
                        .is("/event/exe", helper.as_str())?
                        .is("/event/argv", argv.clone())?;
                    let alert = call_alert(alerts, &room, transport, &listener, &model)?;
                    alert.is("/process/pid", pid)?.is("/process/exe", helper.as_str())?.is("/process/argv", argv)?;
                    Ok(())
                })
            }));
        }
    }
    cases.push(Case::shared("payload::os_system", |room| {
        let command = r#"echo '{"did":true,"shell":'$$'}'"#;
        let model = room.model("model.pt", Content::Shell(command))?;
        let truth = room.run_python("load()", &model)?;
        let room = Trace::of(room);
        Ok(move |alerts: &Alerts| {
            shell_alert(alerts, &room, &model, &truth)?.is("/event/argv", Value::from(vec!["sh", "-c", command]))?;
            Ok(())
        })
    }));
    cases.push(Case::alone("payload::under_a_shell", |room| {
        let daemon = Daemon::start(&room.dir.join("daemon"), CONFIG)?;
        let listener = room.tcp(PUBLIC4)?;
        let model = room.model("model.pkl", Content::Payload(&format!("tcp({})", listener.python())))?;
        let mut command = Command::new("/bin/sh");
        let python = room.python("load()", &[&model]);
        // The shell stays until the alert is there, as the shell of a person or of a container does.
        command.arg("-c").arg("\"$@\"; read line").arg("a-shell").arg(python.get_program()).args(python.get_args());
        command.current_dir(&room.dir).envs(python.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let mut shell = Actor::start(&mut command)?;
        let did = shell.wait_said("did")?;
        listener.was_reached()?;
        let found = daemon.wait_for("the connection", |alert| alert.at("/event/port") == listener.port())?;
        shell.tell("go on")?;
        shell.finish()?.succeeded()?;
        daemon.stop(Signal::TERM)?;
        acted_by(&found, &did)?;
        let parent = &did["ancestors"][0];
        ensure!(parent["argv"][0] == "/bin/sh", "the shell did not stay: {did}");
        loud(&found, &model)?;
        Ok(())
    }));
    cases.push(Case::shared("payload::as_another_user", |room| {
        let listener = room.tcp(PUBLIC4)?;
        let model = room.model("model.pkl", Content::Payload(&format!("tcp({})", listener.python())))?;
        let truth = room.run_python("import os\nos.setuid(65534)\nload()", &model)?;
        listener.was_reached()?;
        let room = Trace::of(room);
        Ok(move |alerts: &Alerts| {
            let alert = call_alert(alerts, &room, "tcp", &listener, &model)?;
            acted_by(alert, truth.what("did")?)?;
            alert.is("/process/uid", 65534)?;
            Ok(())
        })
    }));
    cases.push(Case::shared("payload::a_copy_is_loaded", |room| {
        let listener = room.tcp(PUBLIC4)?;
        let original = room.model("original.pkl", Content::Payload(&format!("tcp({})", listener.python())))?;
        let copy = room.dir.join("copy.pkl");
        room.run(Command::new("cp").args([&original, &copy]))?;
        room.run_python("load()", &copy)?;
        listener.was_reached()?;
        let room = Trace::of(room);
        Ok(move |alerts: &Alerts| call_alert(alerts, &room, "tcp", &listener, &copy).map(|_| ()))
    }));
    cases.push(Case::shared("payload::in_a_torch_checkpoint", |room| {
        let listener = room.tcp(PUBLIC4)?;
        let model = room.model("model.pt", Content::Torch(&format!("tcp({})", listener.python())))?;
        room.run_python("load_torch()", &model)?;
        listener.was_reached()?;
        let room = Trace::of(room);
        Ok(move |alerts: &Alerts| {
            call_alert_of(alerts, &room, "tcp", &listener, &model)?.is("/model/format", "torch-zip").map(|_| ())
        })
    }));
    cases.push(Case::shared("payload::in_a_hub_cache", |room| {
        // The name that is opened is a link; the file behind it has a hash for a name and no suffix.
        let cache = room.dir.join("models--org--name");
        let (blobs, snapshot) = (cache.join("blobs"), cache.join("snapshots/0123abcd"));
        std::fs::create_dir_all(&blobs)?;
        std::fs::create_dir_all(&snapshot)?;
        let listener = room.tcp(PUBLIC4)?;
        let blob = blobs.join("0123456789abcdef".repeat(4));
        room.write_at(&blob, Content::Payload(&format!("tcp({})", listener.python())))?;
        let link = snapshot.join("pytorch_model.bin");
        std::os::unix::fs::symlink(&blob, &link)?;
        room.run_python("load()", &link)?;
        listener.was_reached()?;
        let room = Trace::of(room);
        Ok(move |alerts: &Alerts| {
            call_alert(alerts, &room, "tcp", &listener, &blob)?.is("/model/repo", "org/name").map(|_| ())
        })
    }));
    cases.push(Case::shared("payload::two_models", |room| {
        // The loudest of the two is the one that the alert names.
        let listener = room.tcp(PUBLIC4)?;
        let bad = room.model("bad.pkl", Content::Payload(&format!("tcp({})", listener.python())))?;
        let good = room.model("good.pkl", Content::CleanPickle)?;
        room.run(&mut room.python("load(sys.argv[2])\nload()\n", &[&bad, &good]))?;
        listener.was_reached()?;
        let room = Trace::of(room);
        Ok(move |alerts: &Alerts| call_alert(alerts, &room, "tcp", &listener, &bad).map(|_| ()))
    }));
    cases
}

/// What of a room outlives its act.
pub struct Trace {
    dir: String,
}

impl Trace {
    pub fn of(room: &Room<'_>) -> Self {
        Self { dir: format!("{}/", room.dir.display()) }
    }

    /// The alert is about a model of this room.
    pub fn own(&self, alert: &Alert) -> bool {
        alert.text("/model/path").starts_with(&self.dir)
    }
}

fn listen(room: &Room<'_>, transport: &str, host: &str) -> Result<Listener> {
    if transport == "tcp" { room.tcp(host) } else { room.udp(host) }
}

/// Critical, inside the load, and about this malicious pickle.
fn loud<'a>(alert: &'a Alert, model: &Path) -> Result<&'a Alert> {
    alert.is("/schema", "sensor.alert/1")?.is("/action", "alert")?;
    alert.is("/severity", "critical")?.is("/event/in_load", true)?;
    alert.names(model)?.is("/model/verdict", "malicious")?.is("/model/class", "code")?;
    let dangerous = |finding: &Value| finding["severity"] == "critical" || finding["severity"] == "high";
    let findings = alert.at("/model/findings").as_array().cloned().unwrap_or_default();
    ensure!(findings.iter().any(dangerous), "no finding says why the model is malicious:\n{}", alert.line);
    Ok(alert)
}

/// The alert of the connection or datagram that `listener` heard, which a pickle made.
fn call_alert<'a>(
    alerts: &'a Alerts,
    room: &Trace,
    transport: &str,
    listener: &Listener,
    model: &Path,
) -> Result<&'a Alert> {
    call_alert_of(alerts, room, transport, listener, model)?.is("/model/format", "pickle")
}

/// [`call_alert`], whatever the format.
fn call_alert_of<'a>(
    alerts: &'a Alerts,
    room: &Trace,
    transport: &str,
    listener: &Listener,
    model: &Path,
) -> Result<&'a Alert> {
    let kind = if transport == "tcp" { "connect" } else { "send" };
    let alert = alerts.0.iter().rfind(|alert| {
        room.own(alert) && alert.text("/event/kind") == kind && alert.at("/event/port") == &Value::from(listener.port())
    });
    let alert = alert.with_context(|| format!("no alert of the {kind} to {}", listener.address))?;
    let family = if listener.address.is_ipv4() { "inet" } else { "inet6" };
    alert.is("/event/ip", listener.host())?.is("/event/proto", transport)?.is("/event/family", family)?;
    loud(alert, model)
}

/// The alert of the shell that said its pid.
fn shell_alert<'a>(alerts: &'a Alerts, room: &Trace, model: &Path, truth: &Finished) -> Result<&'a Alert> {
    let pid = &truth.what("shell")?["shell"];
    let alert = alerts
        .0
        .iter()
        .rfind(|alert| room.own(alert) && alert.text("/event/kind") == "exec" && alert.at("/process/pid") == pid);
    let alert = loud(alert.with_context(|| format!("no alert of the shell {pid}"))?, model)?;
    let shell = std::fs::canonicalize("/bin/sh")?;
    alert.is("/event/exe", shell.to_str().context("a path that is text")?)?;
    alert.is("/event/argv/0", "sh")?.is("/event/argv/1", "-c")
}

/// The process of the alert is the one that said so, with its ancestors.
fn acted_by(alert: &Alert, truth: &Value) -> Result<()> {
    for field in ["pid", "exe", "argv", "uid"] {
        alert.is(&format!("/process/{field}"), truth[field].clone())?;
    }
    let ancestors = truth["ancestors"].as_array().context("it names its ancestors")?;
    for (i, ancestor) in ancestors.iter().enumerate().take(3) {
        for field in ["pid", "exe", "argv"] {
            alert.is(&format!("/process/ancestors/{i}/{field}"), ancestor[field].clone())?;
        }
    }
    Ok(())
}

/// A process that was handed to init still shows the loader that made it.
fn loaded_by(alert: &Alert, truth: &Finished) -> Result<()> {
    let Ok(said) = truth.what("loader") else { return Ok(()) };
    let ancestors = alert.at("/process/ancestors").as_array().context("ancestors")?;
    ensure!(
        ancestors.iter().any(|ancestor| ancestor["pid"] == said["loader"]),
        "the loader {} is not among the ancestors:\n{}",
        said["loader"],
        alert.line
    );
    Ok(())
}
