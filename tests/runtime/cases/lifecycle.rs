//! The daemon's own life: signals, refusals, one instance, what `status` and `doctor` say.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::actor::Actor;
use crate::alert::Alerts;
use crate::daemon::{self, Daemon};
use crate::harness::{CONFIG, Case};
use crate::lab::{self, Room, SENSOR};
use crate::model::Content;

/// `run`, `scan` and the others could not do their job.
const COULD_NOT: i32 = 2;

pub fn cases() -> Vec<Case> {
    vec![
        Case::shared("lifecycle::second_instance", |room| {
            let (mut command, ready_file) = daemon::command(&room.dir, CONFIG)?;
            let sentence = refused(room, &mut command)?;
            ensure!(sentence.contains("another sensor"), "it doesn't say that there is another one: {sentence}");
            ensure!(!ready_file.exists(), "the second instance says that it is ready");
            let first = room.lab.dir.join(crate::harness::SHARED_DAEMON).join("ready");
            ensure!(first.exists(), "the second instance took the first one's ready file");
            Ok(|_: &Alerts| Ok(()))
        }),
        Case::shared("lifecycle::status_while_it_runs", |room| {
            room.run(lab::sensor().arg("status"))?;
            let told = lab::json_output(&["status"], "status")?;
            ensure!(told["degraded"].as_array().is_some_and(Vec::is_empty), "degraded: {told}");
            Ok(|_: &Alerts| Ok(()))
        }),
        Case::shared("lifecycle::doctor_while_it_runs", |room| {
            doctor(room)?;
            Ok(|_: &Alerts| Ok(()))
        }),
        Case::alone("lifecycle::doctor", doctor),
        Case::alone("lifecycle::status_follows_it", |room| {
            let status =
                || -> Result<Option<i32>> { Ok(Actor::start(lab::sensor().arg("status"))?.finish()?.status.code()) };
            ensure!(status()? == Some(COULD_NOT), "status is not 2 before");
            let daemon = Daemon::start(&room.dir.join("daemon"), CONFIG)?;
            ensure!(status()? == Some(0), "status is not 0 while it runs: {}", daemon.stderr());
            // A program is started with more descriptors than are looked at.
            let code = "import resource, subprocess\nresource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))\n\
                        for fd in range(100, 5000):\n  os.dup2(0, fd)\nsubprocess.run(['true'], close_fds=False, check=True)";
            room.run_python(code, &room.dir)?;
            let told = lab::json_output(&["status"], "status")?;
            ensure!(told["losses"]["descriptor_walk_cut"].as_u64() >= Some(1), "{told}");
            let ready_file = daemon.ready_file.clone();
            daemon.stop(Signal::TERM)?;
            ensure!(status()? == Some(COULD_NOT), "status is not 2 afterwards");
            ensure!(!ready_file.exists(), "the ready file stays behind");
            Ok(())
        }),
        Case::alone("lifecycle::sigterm_in_a_burst", sigterm_in_a_burst),
        Case::alone("lifecycle::sigint", |room| {
            let stopped = Daemon::start(&room.dir.join("daemon"), CONFIG)?.stop(Signal::INT)?;
            ensure!(stopped.status.code() == Some(130), "{} at SIGINT\n{}", stopped.status, stopped.stderr);
            Ok(())
        }),
        Case::alone("refusal::not_root", |room| {
            // Where anybody may run it, and write.
            let copy = room.dir.join("sensor");
            std::fs::copy(SENSOR, &copy)?;
            let (command, _) = daemon::command(&room.dir.join("daemon"), CONFIG)?;
            std::os::unix::fs::chown(room.dir.join("daemon"), Some(65534), Some(65534))?;
            let mut other = lab::without_settings(Command::new("setpriv"));
            other.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]);
            let sentence = refused(room, other.arg(copy).args(command.get_args()))?;
            ensure!(sentence.contains("root") || sentence.contains("CAP_"), "it doesn't say what it needs: {sentence}");
            Ok(())
        }),
        Case::alone("refusal::no_btf", |room| {
            let (command, _) = daemon::command(&room.dir.join("daemon"), CONFIG)?;
            let mut other = lab::without_settings(Command::new("unshare"));
            other.args(["--mount", "sh", "-c", "mount -t tmpfs none /sys/kernel/btf && exec \"$@\"", "sh"]);
            let sentence = refused(room, other.arg(SENSOR).args(command.get_args()))?;
            ensure!(sentence.contains("BTF"), "it doesn't say what is missing: {sentence}");
            Ok(())
        }),
        Case::alone("refusal::unwritable_ready_file", |room| {
            let mut command = lab::sensor();
            command.args(["run", "--ready-file", "/proc/no-such-folder/ready"]);
            let sentence = refused(room, &mut command)?;
            ensure!(sentence.contains("/proc/no-such-folder"), "it doesn't say which file: {sentence}");
            Ok(())
        }),
        Case::alone("refusal::broken_rule_file", |room| {
            let rules = room.dir.join("rules");
            std::fs::create_dir(&rules)?;
            std::fs::write(rules.join("broken.yaml"), "rules: [ {id: : }\n")?;
            let (mut command, _) = daemon::command(&room.dir.join("daemon"), CONFIG)?;
            let sentence = refused(room, command.arg("--rules").arg(&rules))?;
            ensure!(sentence.contains("broken.yaml"), "it doesn't say which file: {sentence}");
            Ok(())
        }),
        Case::alone("refusal::missing_rule_folder", |room| {
            let (mut command, _) = daemon::command(&room.dir.join("daemon"), CONFIG)?;
            let sentence = refused(room, command.arg("--rules").arg(room.dir.join("no-such-rules")))?;
            ensure!(sentence.contains("no-such-rules"), "it doesn't say which folder: {sentence}");
            Ok(())
        }),
        Case::alone("refusal::unknown_key_in_the_configuration", |room| {
            let (mut command, _) = daemon::command(&room.dir.join("daemon"), "colour = \"red\"\n")?;
            let sentence = refused(room, &mut command)?;
            ensure!(sentence.contains("colour"), "it doesn't say which key: {sentence}");
            Ok(())
        }),
        Case::alone("refusal::missing_configuration", |room| {
            let (mut command, _) = daemon::command(&room.dir.join("daemon"), CONFIG)?;
            std::fs::remove_file(room.dir.join("daemon/sensor.toml"))?;
            let sentence = refused(room, &mut command)?;
            ensure!(sentence.contains("sensor.toml"), "it doesn't say which file: {sentence}");
            Ok(())
        }),
    ]
}

/// What a crash leaves; last of all, because it would be in the way of whoever comes next.
pub fn after_a_crash() -> Vec<Case> {
    vec![Case::alone("lifecycle::killed_and_started_again", |room| {
        // What a killed one left (socket, lock) is in nobody's way.
        let mut daemon = Daemon::start(&room.dir.join("daemon"), CONFIG)?;
        daemon.kill()?;
        std::fs::remove_file(&daemon.ready_file).context("the ready file of a killed one")?;
        let stopped = Daemon::start(&room.dir.join("daemon"), CONFIG)?.stop(Signal::TERM)?;
        ensure!(stopped.status.code() == Some(0), "{}\n{}", stopped.status, stopped.stderr);
        Ok(())
    })]
}

/// Runs a `sensor run` that cannot: status 2, nothing on standard output, one sentence on standard error.
fn refused(room: &Room<'_>, command: &mut Command) -> Result<String> {
    let finished = Actor::start(command.current_dir(&room.dir))?.finish()?;
    ensure!(finished.status.code() == Some(COULD_NOT), "{} and not 2\n{}", finished.status, finished.stderr);
    ensure!(finished.said.is_empty(), "it printed {:?}", finished.said);
    let sentence = finished.stderr.trim_end();
    ensure!(!sentence.is_empty() && sentence.lines().count() == 1, "not one sentence:\n{sentence}");
    Ok(sentence.to_owned())
}

/// `doctor` says what this host can see, to people and to programs. Every hook that is required was seen to run; what
/// another one's absence costs is said.
fn doctor(room: &Room<'_>) -> Result<()> {
    let human = room.run(lab::sensor().arg("doctor"))?;
    ensure!(!human.said.is_empty(), "doctor says nothing");
    let told = lab::json_output(&["doctor"], "doctor")?;
    ensure!(told["error"].is_null(), "{told}");
    let hooks = told["hooks"].as_array().context("hooks")?;
    for hook in hooks {
        if hook["required"] == true {
            ensure!(!hook["rung"].is_null() && hook["proven"] == true, "a hook is missing or never ran: {hook}");
        } else if hook["rung"].is_null() {
            ensure!(hook["lost"] != "", "it doesn't say what is lost by it: {hook}");
        }
    }
    // Where BPF LSM is on, the best rung is used.
    if std::fs::read_to_string("/sys/kernel/security/lsm").is_ok_and(|list| list.split(',').any(|lsm| lsm == "bpf")) {
        ensure!(hooks.iter().any(|hook| hook["rung"] == "lsm"), "BPF LSM is on and isn't used: {told}");
    }
    Ok(())
}

/// Connections of the burst: one to each of that many private networks.
const BURST: usize = 1000;
/// The daemon is told to end when this many were made: fewer than one loader's incidents that get lines of their own.
const BEFORE_SIGNAL: usize = 100;

/// A payload connects to one network after the other; in the middle of it the daemon is told to end. Whatever happened
/// before the signal was sent is printed.
fn sigterm_in_a_burst(room: &Room<'_>) -> Result<()> {
    let daemon = Daemon::start(&room.dir.join("daemon"), CONFIG)?;
    // Nobody listens there: the refused attempt is an act as well.
    let burst = format!(
        "
for i in range({BURST}):
  with socket.socket() as attempt:
    attempt.connect_ex((f'10.{{i // 256}}.{{i % 256}}.1', 9))
  if i == {BEFORE_SIGNAL}:
    say(middle=True)
"
    );
    let model = room.model("model.pkl", Content::Payload(&burst))?;
    let mut actor = Actor::start(&mut room.python("load()", &[&model]))?;
    actor.wait_said("middle")?;
    let stopped = daemon.stop(Signal::TERM)?;
    actor.finish()?.succeeded()?;
    ensure!(stopped.status.code() == Some(0), "{} at SIGTERM\n{}", stopped.status, stopped.stderr);
    let mut acts = stopped.alerts.kind("connect");
    // The whole host is watched: what others do here meanwhile isn't this case's.
    acts.0.retain(|alert| alert.names(Path::new(&model)).is_ok());
    let seen: std::collections::HashSet<&str> = acts.0.iter().map(|alert| alert.text("/event/ip")).collect();
    let missing: Vec<String> = (0..BEFORE_SIGNAL)
        .map(|i| format!("10.{}.{}.1", i / 256, i % 256))
        .filter(|ip| !seen.contains(ip.as_str()))
        .collect();
    let losses: Vec<String> = stopped.alerts.kind("loss").0.into_iter().map(|alert| alert.line).collect();
    ensure!(
        missing.is_empty(),
        "{} of {BEFORE_SIGNAL} connections from before the signal were not printed: {missing:?}\nlosses: {losses:?}\n{}",
        missing.len(),
        stopped.stderr
    );
    Ok(())
}
