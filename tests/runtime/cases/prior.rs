//! What was loaded before the sensor came: known while the file is open or mapped.

use std::sync::{Mutex, PoisonError};

use crate::actor::Actor;
use crate::alert::Alerts;
use crate::harness::Case;
use crate::lab::Room;
use crate::model::Content;
use crate::namespace::PUBLIC4;

const HELD: &str = "file = open(MODEL, 'rb')\npickle.load(file)\n";
/// (Python's mapping keeps a descriptor of its own.)
const MAPPED: &str = "
with open(MODEL, 'rb') as file:
  view = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
for number in os.listdir('/proc/self/fd'):
  if os.path.realpath(f'/proc/self/fd/{number}') == MODEL:
    os.close(int(number))
";

pub fn cases() -> Vec<Case> {
    vec![
        earlier("held", HELD, "here", Some((true, "high")), ""),
        // Nothing in the file can act by itself, so being born while it is open is no more than being born soon after.
        earlier("held_child_acts", HELD, "child", Some((true, "medium")), ""),
        earlier("mapped", MAPPED, "here", Some((false, "medium")), "mapped before the sensor started"),
        earlier("gone", "load()\n", "here", None, ""),
    ]
}

/// Loads a clean pickle by `load` before the daemon starts, connects to a public address under it, from `place`. Nothing is
/// `wanted` where `doctor` says `lost`.
fn earlier(
    name: &str,
    load: &'static str,
    place: &'static str,
    wanted: Option<(bool, &'static str)>,
    lost: &'static str,
) -> Case {
    Case::before(format!("prior::{name}"), move |room| {
        let model = room.model("model.pkl", Content::CleanPickle)?;
        let listener = room.tcp(PUBLIC4)?;
        let code = format!("{load}go()\n{place}(lambda: tcp({}))", listener.python());
        let mut actor = Actor::start(&mut room.python(&code, &[&model]))?;
        actor.wait_said("waiting")?;
        let loader = actor.pid();
        // (A case is one closure inside the other; the lock only makes it shareable.)
        let actor = Mutex::new(actor);
        Ok(move |room: &Room<'_>| {
            let mut actor = actor.into_inner().unwrap_or_else(PoisonError::into_inner);
            actor.tell("go")?;
            let truth = actor.finish()?.succeeded()?;
            listener.was_reached()?;
            let (dir, port) = (room.dir.display().to_string(), listener.port());
            let wanted = wanted.filter(|_| lost.is_empty() || !room.lab.loses(lost));
            Ok(move |alerts: &Alerts| {
                let acts = alerts.about(&dir, &[port]);
                let Some((in_load, severity)) = wanted else {
                    return acts.none("the file was closed before, or is not seen here");
                };
                let acts = acts.kind("connect").port(port);
                let alert = acts.last("a load from before the start")?;
                alert.names(&model)?.is("/model/verdict", "clean")?;
                alert.is("/event/in_load", in_load)?.is("/severity", severity)?;
                let did = truth.what("did")?;
                for field in ["pid", "exe", "argv", "uid"] {
                    alert.is(&format!("/process/{field}"), did[field].clone())?;
                }
                let parent = if place == "here" { std::process::id() } else { loader };
                alert.is("/process/ancestors/0/pid", parent)?;
                Ok(())
            })
        })
    })
}
