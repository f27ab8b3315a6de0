//! Somebody else's cgroup programs, on the root and on child cgroups, attached before the sensor and after it: each goes
//! on working beside the other.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::bpf::{How, Refusal};
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
    let root = cgroup2()?;
    let (shared, exclusive) = (Child::new(&root, "shared")?, Child::new(&root, "exclusive")?);
    let _before = [
        Refusal::attach(&root, REFUSED[0], How::Multi).context("on the root, before the sensor")?,
        Refusal::attach(&shared.0, REFUSED[1], How::Link).context("on a child, before the sensor")?,
    ];
    let daemon = Daemon::start(&room.dir.join("daemon"), CONFIG)?;
    let _after = [
        Refusal::attach(&root, REFUSED[2], How::Link).context("on the root, after the sensor")?,
        Refusal::attach(&shared.0, REFUSED[3], How::Multi).context("on a child, after the sensor")?,
        Refusal::attach(&exclusive.0, REFUSED[4], How::Exclusive).context("alone on a child, after the sensor")?,
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
fn acts(room: &Room<'_>, child: &Child, refused: &[usize], payload: bool) -> Result<(u16, PathBuf)> {
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
    let name = child.0.file_name().and_then(|name| name.to_str()).context("the cgroup's name")?;
    let model = room.model(&format!("{name}.pkl"), Content::Payload(&try_all))?;
    let join = format!("with open({:?}, 'w') as file:\n  file.write(str(os.getpid()))\n", child.0.join("cgroup.procs"));
    let what = if payload { "load()" } else { try_all.as_str() };
    let finished = room.run_python(&format!("{join}{what}"), &model)?;
    let told: Vec<&str> = finished.said.iter().filter_map(|line| line.get("refused")?.as_str()).collect();
    ensure!(told == addresses, "of {addresses:?} only {told:?} were refused");
    listener.was_reached()?;
    Ok((listener.port(), model))
}

/// Where the cgroup v2 hierarchy is mounted.
fn cgroup2() -> Result<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/mounts")?;
    let mut fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let mount = fields.find(|fields| fields.get(2) == Some(&"cgroup2")).context("no cgroup2 is mounted")?;
    Ok(PathBuf::from(mount[1]))
}

/// A child cgroup, removed when dropped.
struct Child(PathBuf);

impl Child {
    fn new(root: &Path, name: &str) -> Result<Self> {
        let path = root.join(format!("sensor-test-{}-{name}", std::process::id()));
        std::fs::create_dir(&path).with_context(|| format!("cannot make the cgroup {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Empty by now; a failure leaves an empty cgroup behind.
        let _ = std::fs::remove_dir(&self.0);
    }
}
