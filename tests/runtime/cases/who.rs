//! Whoever descends from a load carries it: however it was made, wherever it went, whatever it runs now.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

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

/// Forks that a loader makes before it acts.
const FORKS: u32 = 50_000;

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
    cases.push(Case::alone("who::after_fifty_thousand_forks", after_many_forks));
    cases.push(Case::alone("who::more_processes_than_marks", more_processes_than_marks));
    cases
}

/// The helper loads, makes children that end at once, and acts itself: it is still the loader, and of the children nothing
/// is left.
fn after_many_forks(room: &Room<'_>) -> Result<()> {
    let daemon = Daemon::start(&room.dir.join("daemon"), CONFIG)?;
    let listener = room.tcp(PUBLIC4)?;
    let model = room.model("model.pkl", Content::Payload("pass"))?;
    room.run(&mut forks(room, FORKS, &listener.address.to_string(), &model))?;
    listener.was_reached()?;
    let port = listener.port();
    daemon.wait_for("the connection", |alert| alert.at("/event/port") == &Value::from(port))?;
    let stopped = daemon.stop(Signal::TERM)?;
    Loud { port, model: Some(model), in_load: Some(true) }.check(&stopped.alerts)?;
    let full = stopped.alerts.kind("loss").filter(|alert| alert.text("/event/reason") == "task_table_full");
    full.none("no mark is left of a child that ended")
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

/// A table that is full says so, and forgets nobody who is in it.
fn more_processes_than_marks(room: &Room<'_>) -> Result<()> {
    let (mut command, ready_file) = daemon::command(&room.dir.join("daemon"), CONFIG)?;
    // A table of another size than its neighbours': kept elsewhere.
    command.args(["--marks-max", &MARKS.to_string(), "--pin-dir", "/sys/fs/bpf/few-marks"]);
    let daemon = Daemon::start_as(&mut command, ready_file)?;
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
