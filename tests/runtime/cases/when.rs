//! When: what acts inside a load is told from what acts beside it and after it, and on what that rests.

use anyhow::Result;
use rustix::process::Signal;
use serde_json::Value;

use crate::alert::Alerts;
use crate::daemon::Daemon;
use crate::harness::{CONFIG, Case};
use crate::lab::Room;
use crate::model::Content;
use crate::namespace::PUBLIC4;

/// Who acts when, `TCP` standing for the connection: name, `in_load`, `basis`, and the code that loads a pickle whose
/// payload is `PAYLOAD`.
struct Moment {
    name: &'static str,
    in_load: bool,
    basis: Option<&'static str>,
    payload: &'static str,
    code: &'static str,
}

const fn moment(
    name: &'static str,
    in_load: bool,
    basis: Option<&'static str>,
    payload: &'static str,
    code: &'static str,
) -> Moment {
    Moment { name, in_load, basis, payload, code }
}

/// A thread that was there before the load: it acts when it is told to, and says that it has.
const TELEMETRY: &str = "
asked, done = threading.Event(), threading.Event()
def report():
  asked.wait()
  TCP
  done.set()
threading.Thread(target=report, daemon=True).start()
";

const MOMENTS: [Moment; 11] = [
    moment("in_the_load", true, Some("held"), "TCP", "load()"),
    moment("a_thread_of_the_load", true, Some("held"), "thread(lambda: TCP)", "load()"),
    moment("a_thread_of_a_thread_of_the_load", true, Some("held"), "thread(lambda: thread(lambda: TCP))", "load()"),
    moment("a_child_of_the_load", true, Some("born"), "child(lambda: TCP)", "load()"),
    moment(
        "a_later_child_of_a_child_of_the_load",
        true,
        Some("born"),
        "
read, write = os.pipe()
if os.fork() == 0:
  os.close(write)
  os.read(read, 1)
  child(lambda: TCP)
  os._exit(0)
os.close(read)",
        "load()",
    ),
    moment("after_the_load", false, None, "pass", "load()\nTCP"),
    moment("a_thread_after_the_load", false, None, "pass", "load()\nthread(lambda: TCP)"),
    moment(
        "a_thread_from_before",
        false,
        None,
        "asked.set()\ndone.wait()",
        "TELEMETRYwith open(MODEL, 'rb') as file:\n  asked.set()\n  done.wait()",
    ),
    // Opened again while a thread of the first load goes on, as torch.load(mmap=True) does.
    moment(
        "a_thread_of_the_load_and_the_file_is_opened_again",
        true,
        Some("held"),
        "pass",
        "
start, done = threading.Event(), threading.Event()
def work():
  start.wait()
  TCP
  done.set()
with open(MODEL, 'rb') as file:
  threading.Thread(target=work).start()
  with open(MODEL, 'rb') as again:
    start.set()
    done.wait()",
    ),
    moment(
        "a_moved_descriptor",
        true,
        Some("held"),
        "pass",
        "file = os.open(MODEL, os.O_RDONLY)\nos.dup2(file, 1000)\nos.close(file)\nTCP",
    ),
    moment(
        "a_descriptor_beyond_the_walk",
        false,
        Some("cut"),
        "pass",
        "
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
file = os.open(MODEL, os.O_RDONLY)
for other in range(100, 5000):
  os.dup2(0, other)
os.dup2(file, 5000)
os.close(file)
TCP",
    ),
];

pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = MOMENTS
        .into_iter()
        .map(|moment| Case::shared(format!("when::{}", moment.name), move |room| run(room, &moment)))
        .collect();
    cases.push(Case::alone("when::an_archive_is_held_open_beyond_the_limit", beyond_the_limit));
    cases
}

fn run(room: &Room<'_>, moment: &Moment) -> Result<impl FnOnce(&Alerts) -> Result<()> + use<>> {
    let listener = room.tcp(PUBLIC4)?;
    let filled = |code: &str| {
        let code = code.replace("TELEMETRY", TELEMETRY);
        code.replace("TCP", &format!("tcp({})", listener.python()))
    };
    let model = room.model("model.pkl", Content::Payload(&filled(moment.payload)))?;
    room.run_python(&filled(moment.code), &model)?;
    listener.was_reached()?;
    let (in_load, basis) = (moment.in_load, moment.basis);
    Ok(move |alerts: &Alerts| {
        let acts = alerts.kind("connect").port(listener.port());
        let alert = acts.last("the connection")?;
        alert.names(&model)?.is("/model/verdict", "malicious")?;
        alert.is("/event/in_load", in_load)?.is("/event/basis", basis.map_or(Value::Null, Value::from))?;
        Ok(())
    })
}

/// `h5py.File` and `np.load` of an archive keep it open: after the limit nobody is inside any more.
fn beyond_the_limit(room: &Room<'_>) -> Result<()> {
    let daemon = Daemon::start(&room.dir.join("daemon"), &format!("{CONFIG}[limits]\nload_window_s = 2\n"))?;
    let (inside, outside) = (room.tcp(PUBLIC4)?, room.tcp(PUBLIC4)?);
    let model = room.model("model.pkl", Content::Payload("pass"))?;
    // The passage of time is the subject here.
    let code = format!(
        "import time\nwith open(MODEL, 'rb') as file:\n  tcp({})\n  time.sleep(3)\n  child(lambda: tcp({}))",
        inside.python(),
        outside.python()
    );
    room.run_python(&code, &model)?;
    inside.was_reached()?;
    outside.was_reached()?;
    let alerts = daemon.stop(Signal::TERM)?.alerts;
    alerts.kind("connect").port(inside.port()).last("the first connection")?.is("/event/in_load", true)?;
    alerts.kind("connect").port(outside.port()).last("the second connection")?.is("/event/in_load", false)?;
    Ok(())
}
