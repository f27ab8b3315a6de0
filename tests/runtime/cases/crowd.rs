//! Beside processes that have hundreds of files open or mapped, as everyone has that imported a big library: a model that
//! is loaded meanwhile is judged as if it were alone, and nothing is lost.

use std::path::Path;

use anyhow::{Context, Result};
use rustix::process::Signal;

use super::real::emulated;
use super::ways_in::Loud;
use crate::actor::Actor;
use crate::daemon::Daemon;
use crate::harness::{CONFIG, Case};
use crate::lab::Room;
use crate::model::Content;
use crate::namespace::PUBLIC4;

/// More than a cgroup's place in the scanner's queue, and than a second's looks at files of unknown names.
const LIBRARIES: usize = 600;
/// More than a cgroup's place in the scanner's queue, and, found open and mapped, than half of a ring holds.
const ARRAYS: usize = 1_000;

/// Maps every file of the folder `MODEL`, and keeps some open; some are mapped as code is.
const MAPS: &str = "
import resource
# Python keeps a descriptor for each mapping.
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
kept = []
for number, name in enumerate(sorted(os.listdir(MODEL))):
  file = os.open(os.path.join(MODEL, name), os.O_RDONLY)
  kept.append(mmap.mmap(file, 0, prot=mmap.PROT_READ))
  if number % 3 == 0:
    kept.append(mmap.mmap(file, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_EXEC))
  os.close(file)
for number in os.listdir('/proc/self/fd'):
  path = os.path.realpath(f'/proc/self/fd/{number}')
  if path.startswith(MODEL + '/') and hash(path) % 4:
    os.close(int(number))
go()
";

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::alone("crowd::nobody", |room| loads(room, start(room)?)),
        Case::alone("crowd::libraries_mapped_before_the_start", |room| {
            let folder = libraries(room)?;
            before(room, &mut room.python(MAPS, &[&folder]))
        }),
        Case::alone("crowd::arrays_mapped_before_the_start", |room| {
            let folder = room.dir.join("arrays");
            std::fs::create_dir(&folder)?;
            let array = std::fs::read(room.model("array.npy", Content::Array)?)?;
            for number in 0..ARRAYS {
                std::fs::write(folder.join(format!("{number}.npy")), &array)?;
            }
            before(room, &mut room.python(MAPS, &[&folder]))
        }),
        Case::alone("crowd::libraries_opened_under_it", |room| {
            let folder = libraries(room)?;
            let daemon = start(room)?;
            let mut other = Actor::start(&mut room.python(MAPS, &[&folder]))?;
            other.wait_said("waiting")?;
            loads(room, daemon)?;
            other.tell("go")?;
            other.finish()?.succeeded()?;
            Ok(())
        }),
    ];
    // Importing it there takes a minute.
    if !emulated() {
        cases.push(Case::alone("crowd::torch_imported_before_the_start", |room| {
            let python = &room.lab.libraries()?.python;
            before(room, &mut room.python_of(python, "import torch, sklearn, h5py\ngo()", &[]))
        }));
    }
    cases
}

fn start(room: &Room<'_>) -> Result<Daemon> {
    Daemon::start(&room.dir.join("daemon"), CONFIG)
}

/// Files that are named as the dynamic loader's are, and look like them.
fn libraries(room: &Room<'_>) -> Result<std::path::PathBuf> {
    let folder = room.dir.join("libraries");
    std::fs::create_dir(&folder)?;
    let mut content = vec![0; 8 << 10];
    content[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    for number in 0..LIBRARIES {
        let name = match number % 3 {
            0 => format!("lib{number}.so.4.8.0"),
            1 => format!("lib{number}.so.535.104.05"),
            _ => format!("lib{number}.so.20220623.0.0"),
        };
        std::fs::write(folder.join(name), &content)?;
    }
    Ok(folder)
}

/// The `crowd` is there when the sensor starts.
fn before(room: &Room<'_>, crowd: &mut std::process::Command) -> Result<()> {
    let mut crowd = Actor::start(crowd)?;
    crowd.wait_said("waiting")?;
    loads(room, start(room)?)?;
    crowd.tell("go")?;
    crowd.finish()?.succeeded()?;
    Ok(())
}

/// A process loads a malicious pickle that no name gives away, and ends with it: its content can be seen only at once.
fn loads(room: &Room<'_>, daemon: Daemon) -> Result<()> {
    let listener = room.tcp(PUBLIC4)?;
    let content = room.model("content.txt", Content::Payload(&format!("tcp({})", listener.python())))?;
    let load = "import ways\nwith os.fdopen(ways.memfd(MODEL), 'rb') as file:\n  pickle.load(file)";
    room.run_python(load, &content)?;
    listener.was_reached()?;
    let port = listener.port();
    daemon.wait_for("the payload's connection", |alert| alert.at("/event/port") == port)?;
    let alerts = daemon.stop(Signal::TERM)?.alerts;
    alerts.kind("loss").none("everything was seen")?;
    let copy = Path::new("/memfd:copy").to_owned();
    Loud { port, model: Some(copy), in_load: Some(true) }.check(&alerts).context("the model in memory")
}
