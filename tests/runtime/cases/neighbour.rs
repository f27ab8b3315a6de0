//! Somebody else's cgroup programs, on the root and on child cgroups, attached before the sensor and after it: each goes
//! on working beside the other.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::bpf::{How, Refusal};
use crate::cgroup::{self, Cgroup};
use crate::daemon::Daemon;
use crate::harness::{CONFIG, Case};
use crate::lab::Room;
use crate::model::Content;
use crate::namespace::PUBLIC4;

/// Documentation addresses that others refuse; nothing else on the machine goes there. (In another network than what is
/// allowed: each network is an incident of its own.)
const REFUSED: [Ipv4Addr; 5] = [
    Ipv4Addr::new(198, 51, 100, 91),
    Ipv4Addr::new(198, 51, 100, 92),
    Ipv4Addr::new(198, 51, 100, 93),
    Ipv4Addr::new(198, 51, 100, 94),
    Ipv4Addr::new(198, 51, 100, 95),
];

pub fn cases() -> Vec<Case> {
    vec![Case::alone("neighbour::cgroup_programs_of_others", run)]
}

fn run(room: &Room<'_>) -> Result<()> {
    let root = cgroup::root()?;
    let (shared, exclusive) = (Cgroup::new("shared")?, Cgroup::new("exclusive")?);
    let _before = [
        Refusal::attach(&root, REFUSED[0], How::Multi).context("on the root, before the sensor")?,
        Refusal::attach(shared.path(), REFUSED[1], How::Link).context("on a child, before the sensor")?,
    ];
    let daemon = Daemon::start(&room.dir.join("daemon"), CONFIG)?;
    let _after = [
        Refusal::attach(&root, REFUSED[2], How::Link).context("on the root, after the sensor")?,
        Refusal::attach(shared.path(), REFUSED[3], How::Multi).context("on a child, after the sensor")?,
        Refusal::attach(exclusive.path(), REFUSED[4], How::Exclusive).context("alone on a child, after the sensor")?,
    ];
    let mut reached = Vec::new();
    for (child, refused) in [(&shared, &[0, 1, 2, 3][..]), (&exclusive, &[0, 2, 4])] {
        reached.push(acts(room, child, refused, true)?);
    }
    let stopped = daemon.stop(Signal::TERM)?;
    for (port, model) in reached {
        let connects = stopped.alerts.kind("connect").port(port);
        connects.last("the connection that nobody refused")?.names(&model)?.is("/severity", "critical")?;
    }
    // The sensor is gone; the others are still there.
    for (child, refused) in [(&shared, &[0, 1, 2, 3][..]), (&exclusive, &[0, 2, 4])] {
        acts(room, child, refused, false)?;
    }
    Ok(())
}

/// In the cgroup `child`, from a payload or from a program that loads nothing: tries each of the refused addresses, which
/// has to fail, and one that nobody refuses. Gives that one's port, and the model.
fn acts(room: &Room<'_>, child: &Cgroup, refused: &[usize], payload: bool) -> Result<(u16, PathBuf)> {
    let listener = room.tcp(PUBLIC4)?;
    let addresses: Vec<String> = refused.iter().map(|i| REFUSED[*i].to_string()).collect();
    let try_all = format!(
        "
for host in {addresses:?}:
  with socket.socket() as attempt:
    try:
      attempt.connect((host, {}))
    except PermissionError:
      say(refused=host)
tcp({})
",
        listener.port(),
        listener.python()
    );
    let name = child.path().file_name().and_then(|name| name.to_str()).context("the cgroup's name")?;
    let model = room.model(&format!("{name}.pkl"), Content::Payload(&try_all))?;
    let join = child.join();
    let what = if payload { "load()" } else { try_all.as_str() };
    let finished = room.run_python(&format!("{join}{what}"), &model)?;
    let told: Vec<&str> = finished.said.iter().filter_map(|line| line.get("refused")?.as_str()).collect();
    ensure!(told == addresses, "of {addresses:?} only {told:?} were refused");
    listener.was_reached()?;
    Ok((listener.port(), model))
}
