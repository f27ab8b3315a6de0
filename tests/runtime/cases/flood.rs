//! Floods: nothing is lost that isn't counted, the counts are exact, and nobody's flood takes another's place.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use super::real::emulated;
use crate::actor::Actor;
use crate::alert::Alerts;
use crate::cgroup::Cgroup;
use crate::daemon::Daemon;
use crate::harness::{CONFIG, Case};
use crate::lab::Room;
use crate::model::Content;
use crate::namespace::PUBLIC4;

/// Connections of the burst.
const BURST: u64 = 100_000;
/// Connections to one place, and to another.
const SAME: u64 = 5_000;

pub fn cases() -> Vec<Case> {
    let mut cases = all();
    // An emulated processor needs all of its time for the flood: how others fare beside it is shown on a real one.
    if emulated() {
        eprintln!("left out on an emulated processor: floods of candidates and opens");
        cases.truncate(REAL_PROCESSOR_FROM);
    }
    cases
}

/// Cases from here on need a real processor.
const REAL_PROCESSOR_FROM: usize = 4;

fn all() -> Vec<Case> {
    vec![
        Case::alone("flood::equal_acts_are_counted_exactly", equal_acts),
        Case::alone("flood::a_burst_loses_nothing_that_is_not_counted", burst),
        Case::alone("flood::of_connects_leaves_room_for_others", |room| {
            others(
                room,
                "connects",
                "with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:\n  i = 0\n  while True:\n    i += 1\n    datagram.connect((f'10.{i >> 16 & 255}.{i >> 8 & 255}.{i & 255}', 9))\n",
            )
        }),
        Case::alone("flood::of_forks_leaves_room_for_others", |room| {
            others(room, "forks", "while True:\n  pid = os.fork()\n  if pid == 0: os._exit(0)\n  os.waitpid(pid, 0)\n")
        }),
        Case::alone("flood::of_candidates_leaves_room_for_others", |room| {
            let make = "i = 0\nwhile True:\n  i += 1\n  name = f'flood-{i}.pt'\n  open(name, 'wb').write(b'\\x80\\x04N.' + str(i).encode())\n  open(name, 'rb').close()\n  os.unlink(name)\n";
            others(room, "candidates", make)
        }),
        Case::alone("flood::of_opens_leaves_room_for_others", |room| {
            others(room, "opens", "while True:\n  open(MODEL, 'rb').close()\n")
        }),
    ]
}

/// What the daemon says of a model's connections and datagrams: the last count of each incident, summed.
fn counted(alerts: &Alerts, model: &Path) -> Result<u64> {
    let mut counts = HashMap::new();
    for alert in &alerts.0 {
        if matches!(alert.text("/event/kind"), "connect" | "send") && alert.names(model).is_ok() {
            let count = alert.at("/incident/count").as_u64().context("a count")?;
            counts.insert(alert.text("/incident/id").to_owned(), count);
        }
    }
    Ok(counts.values().sum())
}

/// What it says that it lost of a cgroup.
fn lost(alerts: &Alerts, cgroup: &str) -> Result<HashMap<String, u64>> {
    let mut counts = HashMap::new();
    for alert in &alerts.kind("loss").0 {
        if alert.text("/event/cgroup") == cgroup {
            let count = alert.at("/event/count").as_u64().context("a count")?;
            counts.insert(alert.text("/event/reason").to_owned(), count);
        }
    }
    Ok(counts)
}

/// A process that has loaded a malicious file, in a cgroup of its own, waits for a word and then runs `code`. The
/// payload made one connection, which the daemon has told.
fn loaded<'a>(room: &Room<'a>, daemon: &Daemon, cgroup: &Cgroup, code: &str) -> Result<(Actor, std::path::PathBuf)> {
    let listener = room.tcp(PUBLIC4)?;
    let model = room.model("model.pkl", Content::Payload(&format!("tcp({})", listener.python())))?;
    // PR_SET_PDEATHSIG: no flood outlives the tests.
    let code = format!("ctypes.CDLL(None).prctl(1, 9)\n{}load()\ngo()\n{code}", cgroup.join());
    let mut actor = Actor::start(&mut room.python(&code, &[&model]))?;
    actor.wait_said("waiting")?;
    listener.was_reached()?;
    daemon.wait_for("the payload's connection", |alert| {
        alert.at("/event/port") == listener.port() && alert.text("/model/verdict") == "malicious"
    })?;
    Ok((actor, model))
}

fn equal_acts(room: &Room<'_>) -> Result<()> {
    let daemon = Daemon::start(&room.dir.join("daemon"), CONFIG)?;
    let cgroup = Cgroup::new("equal")?;
    let code = format!(
        "
datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for address in ('10.1.1.1', '10.2.2.2'):
  for i in range({SAME}):
    datagram.sendto(b'', (address, 9))
"
    );
    let (mut actor, model) = loaded(room, &daemon, &cgroup, &code)?;
    actor.tell("go")?;
    actor.finish()?.succeeded()?;
    let stopped = daemon.stop(Signal::TERM)?;
    let (counted, lost) = (counted(&stopped.alerts, &model)?, lost(&stopped.alerts, &cgroup.id()?)?);
    // And the payload's own.
    ensure!(counted == 2 * SAME + 1, "{counted} counted of {} connections; lost: {lost:?}", 2 * SAME + 1);
    ensure!(lost.is_empty(), "lost: {lost:?}");
    Ok(())
}

fn burst(room: &Room<'_>) -> Result<()> {
    let daemon = Daemon::start(&room.dir.join("daemon"), CONFIG)?;
    let cgroup = Cgroup::new("burst")?;
    // To a place each: none is equal to another.
    let code = format!(
        "
done = 0
for i in range({BURST}):
  with socket.socket() as attempt:
    attempt.connect_ex((f'10.{{i >> 16}}.{{i >> 8 & 255}}.{{i & 255}}', 9))
  done += 1
say(done=done)
"
    );
    let (mut actor, model) = loaded(room, &daemon, &cgroup, &code)?;
    actor.tell("go")?;
    let finished = actor.finish()?.succeeded()?;
    let done = finished.what("done")?["done"].as_u64().context("a number")?;
    let stopped = daemon.stop(Signal::TERM)?;
    let (counted, lost) = (counted(&stopped.alerts, &model)?, lost(&stopped.alerts, &cgroup.id()?)?);
    let missed: u64 = lost.values().sum();
    ensure!(
        counted + missed == done + 1,
        "{done} connections and the payload's: {counted} counted, {missed} lost ({lost:?})\n{}",
        stopped.stderr
    );
    Ok(())
}

/// Loads that are made beside a flood.
const BESIDE: usize = 5;

/// A loader floods in its cgroup; loads in another one, beside it, are seen and judged as if it weren't there.
fn others(room: &Room<'_>, name: &str, flood: &str) -> Result<()> {
    let daemon = Daemon::start(&room.dir.join("daemon"), CONFIG)?;
    let (loud, quiet) = (Cgroup::new(&format!("{name}-loud"))?, Cgroup::new(&format!("{name}-quiet"))?);
    let (mut actor, _) = loaded(room, &daemon, &loud, flood)?;
    actor.tell("go")?;
    for i in 0..BESIDE {
        let listener = room.tcp(PUBLIC4)?;
        let model = room.model(&format!("beside-{i}.pkl"), Content::Payload(&format!("tcp({})", listener.python())))?;
        room.run_python(&format!("{}load()", quiet.join()), &model)?;
        listener.was_reached()?;
        let alert = daemon.wait_for("a load beside a flood", |alert| {
            alert.at("/event/port") == listener.port() && alert.text("/event/kind") == "connect"
        })?;
        alert.names(&model)?.is("/model/verdict", "malicious")?.is("/severity", "critical")?;
        ensure!(!alert.text("/process/exe").is_empty(), "nobody knows who it was:\n{}", alert.line);
    }
    ensure!(actor.is_running(), "the flood ended");
    actor.kill();
    let stopped = daemon.stop(Signal::TERM)?;
    let lost = lost(&stopped.alerts, &quiet.id()?)?;
    ensure!(lost.is_empty(), "of the quiet one was lost: {lost:?}");
    ensure!(stopped.status.code() == Some(0), "{}\n{}", stopped.status, stopped.stderr);
    Ok(())
}
