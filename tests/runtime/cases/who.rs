//! Whoever descends from a load carries it: however it was made, wherever it went, whatever it runs now.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use super::real::emulated;
use super::ways_in::Loud;
use crate::actor::Actor;
use crate::alert::Alerts;
use crate::daemon::{self, Daemon};
use crate::harness::{CONFIG, Case};
use crate::lab::Room;
use crate::model::Content;
use crate::namespace::PUBLIC4;

/// Functions of `places.py`: each makes somebody who runs the helper or acts, and says who it is (`{"acted": PID}`).
const PLACES: [&str; 8] = [
    "session",
    "shared_memory",
    "exec_from_a_thread",
    "through_a_shell",
    "static_program",
    "network_namespace",
    "pid_namespace",
    "mount_namespace",
];

/// Forks that a loader makes before it acts, many more than there are marks; an emulated processor takes as long for the
/// second number as a real one for the first.
const FORKS: [u32; 2] = [50_000, 5_000];
/// Marks that the table is given meanwhile.
const MARKS_OF_MANY_FORKS: u32 = 1_024;

pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = PLACES
        .into_iter()
        .map(|place| {
            Case::shared(format!("who::{place}"), move |room| {
                let listener = room.tcp(PUBLIC4)?;
                let code = format!("import places\nplaces.{place}({})", listener.python());
                let model = room.model("model.pkl", Content::Payload(&code))?;
                let truth = room.run_python("load()", &model)?;
                let acted = truth.what("acted")?["acted"].clone();
                // What a listener of its own heard, it says.
                if ["network_namespace", "static_program"].contains(&place) {
                    truth.what("heard")?;
                } else {
                    listener.was_reached()?;
                }
                let port = listener.port();
                let loud = Loud { port, model: Some(model), in_load: Some(true) };
                Ok(move |alerts: &Alerts| {
                    let acts = alerts.kind("connect").port(port);
                    acts.last("the connection")?.is("/process/pid", acted)?;
                    loud.check(alerts)
                })
            })
        })
        .collect();
    cases.push(Case::shared("who::twenty_seconds_later", |room| {
        // The passage of time is the subject here, not a wait for something to happen.
        let listener = room.tcp(PUBLIC4)?;
        let model = room.model("model.pkl", Content::Payload("pass"))?;
        let code = format!("import time\nload()\ntime.sleep(20)\nchild(lambda: tcp({}))", listener.python());
        room.run_python(&code, &model)?;
        listener.was_reached()?;
        Ok(Loud { port: listener.port(), model: Some(model), in_load: Some(false) }.judge())
    }));
    cases.push(Case::alone("who::started_by_a_python_that_loaded_nothing", after_path_files));
    cases.push(Case::alone("who::loads_what_is_known_to_be_clean", loads_what_is_known));
    cases.push(Case::alone("who::after_fifty_thousand_forks", after_many_forks));
    cases.push(Case::alone("who::more_processes_than_marks", more_processes_than_marks));
    cases.push(Case::alone("who::beside_busy_forks", beside_busy_forks));
    cases
}

/// What is done by those who load a file that is known to be clean: by whom, and how.
const LOADERS_OF_WHAT_IS_KNOWN: [(&str, &str); 5] = [
    ("itself", "load()\n{act}"),
    ("a thread", "load()\nthread(lambda: {act})"),
    ("a child", "load()\nchild(lambda: {act})"),
    ("a grandchild", "load()\ngrandchild(lambda: {act})"),
    ("another program", "load()\nos.execv(sys.executable, [sys.executable, '-c', 'from acts import *\\n{act}'])"),
];

/// A clean file is loaded, and told with the first act; from then on it is known, and its opens wake nobody. Whoever loads
/// it and acts is told as completely as the first, with those above him.
fn loads_what_is_known(room: &Room<'_>) -> Result<()> {
    let daemon = Daemon::start(&room.dir.join("daemon"), CONFIG)?;
    let first = room.tcp(PUBLIC4)?;
    let model = room.model("model.pkl", Content::CleanPickle)?;
    room.run_python(&format!("load()\ntcp({})", first.python()), &model)?;
    let of_first = daemon.wait_for("the first connection", |alert| alert.at("/event/port") == first.port())?;
    of_first.names(&model)?.is("/model/verdict", "clean")?;
    let mut acted = Vec::new();
    for (by, code) in LOADERS_OF_WHAT_IS_KNOWN {
        let listener = room.tcp(PUBLIC4)?;
        let act = format!("tcp({})", listener.python().replace('\'', "\""));
        let truth = room.run_python(&code.replace("{act}", &act), &model)?;
        listener.was_reached()?;
        daemon.wait_for(by, |alert| alert.at("/event/port") == listener.port())?;
        acted.push((by, listener.port(), truth.what("did")?.clone()));
    }
    let stopped = daemon.stop(Signal::TERM)?;
    for (by, port, did) in acted {
        let acts = stopped.alerts.kind("connect").port(port);
        let alert = acts.last(by)?;
        alert.names(&model).context(by)?;
        let above = did["ancestors"].as_array().context("its ancestors")?;
        for field in ["pid", "exe", "argv"] {
            alert.is(&format!("/process/{field}"), did[field].clone()).context(by)?;
            for (i, ancestor) in above.iter().take(3).enumerate() {
                alert.is(&format!("/process/ancestors/{i}/{field}"), ancestor[field].clone()).context(by)?;
            }
        }
    }
    Ok(())
}

/// The helper loads, makes children that end at once, and acts itself: it is still the loader, and of the children nothing
/// is left.
fn after_many_forks(room: &Room<'_>) -> Result<()> {
    let daemon = few_marks(room, MARKS_OF_MANY_FORKS)?;
    let listener = room.tcp(PUBLIC4)?;
    let model = room.model("model.pkl", Content::Payload("pass"))?;
    room.run(&mut forks(room, FORKS[usize::from(emulated())], &listener.address.to_string(), &model))?;
    listener.was_reached()?;
    let port = listener.port();
    daemon.wait_for("the connection", |alert| alert.at("/event/port") == &Value::from(port))?;
    let stopped = daemon.stop(Signal::TERM)?;
    Loud { port, model: Some(model), in_load: Some(true) }.check(&stopped.alerts)?;
    let full = stopped.alerts.kind("loss").filter(|alert| alert.text("/event/reason") == "task_table_full");
    full.none("no mark is left of a child that ended")
}

/// Children that connect, one after the other, while children of others keep that CPU busy with forks, so that it is taken
/// from one in the middle of a fork. The last alert of an incident names the hundredth act.
const CHILDREN: u64 = 100;
const BESIDE_BUSY_FORKS: &str = "
import signal
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
load()
busy = []
try:
  for _ in range(8):
    busy.append(os.fork())
    if busy[-1] == 0:
      while True:
        child = os.fork()
        if child == 0:
          os._exit(0)
        os.waitpid(child, 0)
  for _ in range(CHILDREN):
    pid = os.fork()
    if pid == 0:
      ACT
      os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
finally:
  for pid in busy:
    os.kill(pid, signal.SIGKILL)
";

/// No child of a loader is left out, whoever else forks on that CPU.
fn beside_busy_forks(room: &Room<'_>) -> Result<()> {
    let daemon = Daemon::start(&room.dir.join("daemon"), CONFIG)?;
    let listener = room.tcp(PUBLIC4)?;
    let model = room.model("model.pkl", Content::Payload("pass"))?;
    let code = BESIDE_BUSY_FORKS.replace("CHILDREN", &CHILDREN.to_string());
    room.run_python(&code.replace("ACT", &format!("tcp({})", listener.python())), &model)?;
    listener.was_reached()?;
    let alerts = daemon.stop(Signal::TERM)?.alerts;
    let connects = alerts.kind("connect").port(listener.port());
    let counts: Vec<_> = connects.0.iter().filter_map(|alert| alert.at("/incident/count").as_u64()).collect();
    ensure!(counts.iter().max() == Some(&CHILDREN), "{CHILDREN} children connected, told of were {counts:?}");
    Ok(())
}

fn forks(room: &Room<'_>, count: u32, address: &str, model: &Path) -> Command {
    let mut command = Command::new(&room.lab.helper);
    command.args(["helper-forks", &count.to_string(), address]).arg(model);
    command
}

/// Marks that the table is given.
const MARKS: u32 = 64;
/// Children of the loader that live at once.
const LIVING: u32 = 200;

/// A Python that only opened its path files, as each does at its start, becomes another program, which starts one that
/// loads: each is named as what it is then.
fn after_path_files(room: &Room<'_>) -> Result<()> {
    let daemon = Daemon::start(&room.dir.join("daemon"), CONFIG)?;
    let listener = room.tcp(PUBLIC4)?;
    std::fs::write(room.dir.join("paths.pth"), "/nonexistent\n")?;
    let model = room.model("model.pkl", Content::Payload(&format!("tcp({})", listener.python())))?;
    let code = format!(
        r#"
import site
site.addsitedir({:?})
go()
start = "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'from acts import *\\nload()', sys.argv[1]], check=True)"
os.execv(sys.executable, [sys.executable, '-c', start, MODEL])
"#,
        room.dir
    );
    let mut starter = Actor::start(&mut room.python(&code, &[&model]))?;
    starter.wait_said("waiting")?;
    // Behind it, so that by now it is known that the path file is no model.
    let behind = room.model("behind.pkl", Content::Shell("true"))?;
    room.run_python("load()", &behind)?;
    daemon.wait_for("a model that was opened later", |alert| {
        alert.names(&behind).is_ok() && alert.text("/model/verdict") == "malicious"
    })?;
    starter.tell("go")?;
    let truth = starter.finish()?.succeeded()?;
    listener.was_reached()?;
    let stopped = daemon.stop(Signal::TERM)?;
    let did = truth.what("did")?;
    let acts = stopped.alerts.kind("connect").port(listener.port());
    let alert = acts.last("the connection")?;
    for field in ["pid", "exe", "argv"] {
        alert.is(&format!("/process/{field}"), did[field].clone())?;
        alert.is(&format!("/process/ancestors/0/{field}"), did["ancestors"][0][field].clone())?;
    }
    Loud { port: listener.port(), model: Some(model), in_load: Some(true) }.check(&stopped.alerts)
}

/// A daemon whose table of marks is small: kept elsewhere than its neighbours'.
fn few_marks(room: &Room<'_>, marks: u32) -> Result<Daemon> {
    let (mut command, ready_file) = daemon::command(&room.dir.join("daemon"), CONFIG)?;
    command.args(["--marks-max", &marks.to_string(), "--pin-dir", &format!("/sys/fs/bpf/marks-{marks}")]);
    Daemon::start_as(&mut command, ready_file)
}

/// A table that is full says so, and forgets nobody who is in it.
fn more_processes_than_marks(room: &Room<'_>) -> Result<()> {
    let daemon = few_marks(room, MARKS)?;
    let listener = room.tcp(PUBLIC4)?;
    let model = room.model("model.pkl", Content::Payload("pass"))?;
    let code = format!(
        "
load()
read, write = os.pipe()
for i in range({LIVING}):
  if os.fork() == 0:
    os.close(write)
    os.read(read, 1)
    os._exit(0)
tcp({})
go()
",
        listener.python()
    );
    let mut loader = Actor::start(&mut room.python(&code, &[&model]))?;
    loader.wait_said("waiting")?;
    listener.was_reached()?;
    let port = listener.port();
    daemon.wait_for("the connection", |alert| alert.at("/event/port") == &Value::from(port))?;
    let loss = daemon.wait_for("the table is full", |alert| alert.text("/event/reason") == "task_table_full")?;
    let lost = loss.at("/event/count").as_u64().context("a count")?;
    ensure!(lost >= 1, "no count: {}", loss.line);
    loader.tell("go")?;
    loader.finish()?.succeeded()?;
    let stopped = daemon.stop(Signal::TERM)?;
    Loud { port, model: Some(model), in_load: Some(false) }.check(&stopped.alerts)
}
