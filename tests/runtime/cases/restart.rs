//! What outlives a sensor: marks, what their models are, and after kill -9 the attachments too.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use aya::maps::{HashMap, Map, MapData};
use rustix::process::Signal;
use sensor_abi::mark::Mark;

use crate::actor::Actor;
use crate::daemon::{self, Daemon};
use crate::harness::{CONFIG, Case};
use crate::lab::Room;
use crate::model::Content;
use crate::namespace::{BPF_FS, PUBLIC4};

pub fn cases() -> Vec<Case> {
    vec![
        Case::alone("restart::marks_outlive_a_clean_end", |room| survives(room, End::Clean)),
        Case::alone("restart::marks_and_forks_outlive_kill_9", |room| survives(room, End::Killed)),
        Case::alone("restart::marks_of_processes_that_ended_meanwhile_are_freed", stale),
        Case::alone("restart::a_foreign_map_is_replaced_and_said", foreign),
        Case::alone("restart::an_older_folder_is_dropped_and_said", older),
        Case::alone("restart::a_clean_end_leaves_maps_and_nothing_attached", clean_end),
        Case::alone("restart::a_second_sensor_by_another_run_directory_leaves", second),
    ]
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Clean,
    Killed,
}

/// A case's own pins.
fn pins(room: &Room<'_>) -> PathBuf {
    let name = room.dir.file_name().unwrap_or_default();
    Path::new(BPF_FS).join(name)
}

fn start(room: &Room<'_>) -> Result<Daemon> {
    let (mut command, ready_file) = daemon::command(&room.dir.join("daemon"), CONFIG)?;
    command.arg("--pin-dir").arg(pins(room));
    Daemon::start_as(&mut command, ready_file)
}

/// The one folder of the running version.
fn folder(room: &Room<'_>) -> Result<PathBuf> {
    let mut entries = std::fs::read_dir(pins(room))?;
    let entry = entries.next().context("nothing is pinned")??;
    ensure!(entries.next().is_none(), "more than one folder in {}", pins(room).display());
    Ok(entry.path())
}

/// A process loads a malicious file and closes it; the sensor ends and another starts; then the process, or a child that
/// was forked in between, connects: the alert names the file and what it is.
fn survives(room: &Room<'_>, end: End) -> Result<()> {
    let first = room.tcp(PUBLIC4)?;
    let second = room.tcp(PUBLIC4)?;
    let model = room.model("model.pkl", Content::Payload(&format!("tcp({})", first.python())))?;
    let mut daemon = start(room)?;
    // Forked before the end of the first sensor or after it; it acts under the second one.
    let code = format!(
        "
load()
go()
if os.fork() == 0:
  say(forked=True)
  sys.stdin.readline()
  tcp({})
  os._exit(0)
os.wait()
",
        second.python()
    );
    let mut actor = Actor::start(&mut room.python(&code, &[&model]))?;
    first.was_reached()?;
    daemon.wait_for("the payload's connection", |alert| {
        alert.at("/event/port") == first.port() && alert.text("/model/verdict") == "malicious"
    })?;
    actor.wait_said("waiting")?;
    match end {
        End::Clean => {
            // Nobody passes marks on after a clean end: the child is older.
            actor.tell("go")?;
            actor.wait_said("forked")?;
            daemon.stop(Signal::TERM)?;
        }
        End::Killed => {
            daemon.kill()?;
            std::fs::remove_file(&daemon.ready_file).context("the ready file of a killed one")?;
            actor.tell("go")?;
            actor.wait_said("forked")?;
        }
    }
    let daemon = start(room)?;
    actor.tell("go")?;
    second.was_reached()?;
    actor.finish()?.succeeded()?;
    let alert =
        daemon.wait_for("the connection under the second sensor", |alert| alert.at("/event/port") == second.port())?;
    alert.names(&model)?.is("/model/verdict", "malicious")?;
    let stopped = daemon.stop(Signal::TERM)?;
    stopped.alerts.kind("loss").none("nothing was lost")
}

/// The processes that have a mark in the pinned table.
fn marked(room: &Room<'_>) -> Result<Vec<u32>> {
    let map = Map::from_map_data(MapData::from_pin(folder(room)?.join("TASKS"))?)?;
    let marks = HashMap::<_, u32, [u8; size_of::<Mark>()]>::try_from(&map)?;
    Ok(marks.keys().collect::<Result<_, _>>()?)
}

/// Pins a table of `count` marks of another layout.
fn pin_other_marks(path: &Path, count: u32) -> Result<()> {
    let mut marks = HashMap::<MapData, u32, [u8; 40]>::create(16, 0)?;
    for tgid in 1..=count {
        marks.insert(tgid, [0; 40], 0)?;
    }
    Ok(marks.pin(path)?)
}

/// Links that are pinned, by their numbers, which end their names.
fn pinned_links(room: &Room<'_>) -> Result<Vec<u32>> {
    let mut links = Vec::new();
    for entry in std::fs::read_dir(folder(room)?)? {
        for link in std::fs::read_dir(entry?.path()).into_iter().flatten() {
            let name = link?.file_name();
            let number = name.to_str().and_then(|name| name.rsplit('-').next()?.parse().ok());
            links.push(number.with_context(|| format!("no number in {name:?}"))?);
        }
    }
    Ok(links)
}

fn stale(room: &Room<'_>) -> Result<()> {
    let model = room.model("model.pkl", Content::CleanPickle)?;
    let daemon = start(room)?;
    let code = "load()\nsay(pid=os.getpid())\ngo()\n";
    let mut ends = Actor::start(&mut room.python(code, &[&model]))?;
    let gone = ends.wait_said("pid")?["pid"].as_u64().context("a pid")?;
    let mut stays = Actor::start(&mut room.python(code, &[&model]))?;
    let here = stays.wait_said("pid")?["pid"].as_u64().context("a pid")?;
    daemon.stop(Signal::TERM)?;
    let before = marked(room)?;
    ensure!(before.contains(&(gone as u32)) && before.contains(&(here as u32)), "not marked: {before:?}");
    ends.tell("go")?;
    ends.finish()?.succeeded()?;
    start(room)?.stop(Signal::TERM)?;
    let after = marked(room)?;
    ensure!(!after.contains(&(gone as u32)), "the mark of a process that ended is still there");
    ensure!(after.contains(&(here as u32)), "the mark of a process that lives is gone");
    stays.tell("go")?;
    stays.finish()?.succeeded()?;
    Ok(())
}

/// A map of the right name and another shape.
fn foreign(room: &Room<'_>) -> Result<()> {
    start(room)?.stop(Signal::TERM)?;
    let tasks = folder(room)?.join("TASKS");
    std::fs::remove_file(&tasks)?;
    pin_other_marks(&tasks, 3)?;
    let daemon = start(room)?;
    let loss = daemon.wait_for("the marks that could not be used", |alert| {
        alert.text("/event/kind") == "loss" && alert.text("/event/reason") == "marks_dropped"
    })?;
    loss.is("/event/count", 3)?;
    // And the new one works.
    loads(room, &daemon)?;
    daemon.stop(Signal::TERM)?;
    Ok(())
}

/// A folder of another version, with marks.
fn older(room: &Room<'_>) -> Result<()> {
    start(room)?.stop(Signal::TERM)?;
    let other = pins(room).join("abi0-000000000000");
    std::fs::create_dir(&other)?;
    pin_other_marks(&other.join("TASKS"), 2)?;
    let daemon = start(room)?;
    let loss = daemon.wait_for("the marks of another version", |alert| {
        alert.text("/event/kind") == "loss" && alert.text("/event/reason") == "marks_dropped"
    })?;
    loss.is("/event/count", 2)?;
    ensure!(!other.exists(), "the other version's folder is still there");
    loads(room, &daemon)?;
    daemon.stop(Signal::TERM)?;
    Ok(())
}

/// A load is seen.
fn loads(room: &Room<'_>, daemon: &Daemon) -> Result<()> {
    let listener = room.tcp(PUBLIC4)?;
    let model = room.model("seen.pkl", Content::Payload(&format!("tcp({})", listener.python())))?;
    room.run_python("load()", &model)?;
    listener.was_reached()?;
    daemon.wait_for("a load", |alert| alert.at("/event/port") == listener.port())?.names(&model)?;
    Ok(())
}

fn clean_end(room: &Room<'_>) -> Result<()> {
    let daemon = start(room)?;
    let links = pinned_links(room)?;
    ensure!(!links.is_empty(), "no link is pinned while it runs");
    daemon.stop(Signal::TERM)?;
    ensure!(pinned_links(room)?.is_empty(), "a link is still pinned");
    ensure!(folder(room)?.join("TASKS").exists(), "the marks are gone");
    let alive: Vec<u32> = aya::programs::loaded_links().filter_map(|link| Some(link.ok()?.id())).collect();
    let left: Vec<u32> = links.into_iter().filter(|id| alive.contains(id)).collect();
    ensure!(left.is_empty(), "links {left:?} are still attached");
    Ok(())
}

/// A run directory of its own, as a container has: the folder of pins tells that somebody is there.
fn second(room: &Room<'_>) -> Result<()> {
    let daemon = start(room)?;
    let (sensor, _) = daemon::command(&room.dir.join("second"), CONFIG)?;
    let mut words = vec![sensor.get_program().to_owned()];
    words.extend(sensor.get_args().map(ToOwned::to_owned));
    words.extend(["--pin-dir".into(), pins(room).into_os_string()]);
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "sh", "-c", "mount -t tmpfs tmpfs /run && exec \"$@\"", "sh"]).args(words);
    let finished = Actor::start(&mut crate::lab::without_settings(command))?.finish()?;
    ensure!(finished.status.code() == Some(2), "{}\n{}", finished.status, finished.stderr);
    ensure!(finished.stderr.contains("another sensor"), "it doesn't say why: {}", finished.stderr);
    loads(room, &daemon)?;
    daemon.stop(Signal::TERM)?;
    Ok(())
}
