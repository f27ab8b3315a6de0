//! The real libraries: what acts inside their loads is told so, and what they do by themselves stays quiet.

use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Result, bail, ensure};

use super::quiet::below_medium;
use super::ways_in::Loud;
use crate::actor::Actor;
use crate::alert::Alerts;
use crate::harness::{Case, Check, ci};
use crate::lab::Room;
use crate::model::Content;
use crate::namespace::{LOOPBACK4, PRIVATE4, PUBLIC4};

/// How a library loads what its own function wrote: name, file, that function, and the load.
const LOADS: [(&str, &str, &str, &str); 8] = [
    ("torch", "model.pt", "torch.save", TORCH),
    ("torch_legacy", "model.bin", "torch.save, legacy", TORCH),
    ("joblib", "model.joblib", "joblib.dump", "import joblib\njoblib.load(MODEL)"),
    ("joblib_compressed", "model.joblib", "joblib.dump, compressed", "import joblib\njoblib.load(MODEL)"),
    ("joblib_mapped", "model.joblib", "joblib.dump", "import joblib\njoblib.load(MODEL, mmap_mode='r')"),
    (
        "sklearn_by_pickle",
        "model.pkl",
        "joblib.dump",
        "import sklearn.pipeline\nimport joblib\njoblib.load(open(MODEL, 'rb'))",
    ),
    ("numpy", "model.npy", "np.save", "import numpy\nnumpy.load(MODEL, allow_pickle=True)"),
    ("numpy_archive", "model.npz", "np.savez", "import numpy\nnumpy.load(MODEL, allow_pickle=True)['arr_0']"),
];

/// Since 2.6 torch.load refuses code where nobody asks for it.
const TORCH: &str =
    "import torch\ntry:\n  torch.load(MODEL, weights_only=False)\nexcept TypeError:\n  torch.load(MODEL)";

/// Where the payload acts from: functions of `acts.py`.
const PLACES: [&str; 3] = ["here", "thread", "grandchild"];

/// What ordinary work does with clean models: name, file, the function that wrote it, and the code. `TCP` is a connection
/// that is listened to: on this host, or in a private network.
const ORDINARY: [(&str, &str, &str, &str, &str); 8] = [
    ("import_torch", "model.pt", "torch.save", LOOPBACK4, "import torch\ntorch.zeros(3).sum()"),
    ("training", "model.pt", "torch.save", PRIVATE4, TRAINING),
    ("shards_with_telemetry", "model.bin", "torch.save", PRIVATE4, SHARDS),
    ("loky", "model.joblib", "joblib.dump", LOOPBACK4, LOKY),
    ("pools", "model.joblib", "joblib.dump", LOOPBACK4, POOLS),
    ("archives_held_open", "model.npz", "np.savez, plain", PRIVATE4, HELD),
    ("compiler", "model.joblib", "joblib.dump", LOOPBACK4, COMPILER),
    ("server_for_everybody", "model.joblib", "joblib.dump", PUBLIC4, SERVER),
];

const TRAINING: &str = "
import torch
from torch.utils.data import DataLoader, TensorDataset
state = torch.load(MODEL)
model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
model.load_state_dict(state['model'])
step = torch.optim.Adam(model.parameters())
for method in 'fork', 'forkserver':
  data = TensorDataset(torch.randn(32, 4), torch.randn(32, 2))
  for x, y in DataLoader(data, batch_size=8, num_workers=2, multiprocessing_context=method):
    step.zero_grad()
    ((model(x) - y) ** 2).mean().backward()
    step.step()
torch.save(model.state_dict(), 'trained.pt')
TCP
";
/// The age of a thread is known to the millisecond, so those that are to be older than the loads get a few.
const SHARDS: &str = "
import shutil, time, torch
begun, over = threading.Barrier(3), threading.Event()
def report(begun, *hosts):
  datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
  begun.wait()
  while not over.is_set():
    for host in hosts:
      datagram.sendto(b'loads:1|c', (host, 8125))
near = '10.20.30.40', '127.0.0.1'
for hosts in near, ('203.0.113.7',):
  threading.Thread(target=report, args=(begun, *hosts)).start()
begun.wait()
time.sleep(0.01)
for i in range(4):
  shard = f'pytorch_model-{i:05}-of-00004.bin'
  shutil.copy(MODEL, shard)
  torch.load(shard)
  TCP
  started = threading.Barrier(2)
  threading.Thread(target=report, args=(started, *near)).start()
  started.wait()
over.set()
";
const LOKY: &str = "
import joblib, numpy
from sklearn.model_selection import GridSearchCV
model = joblib.load(MODEL)
joblib.load(MODEL, mmap_mode='r')
joblib.cpu_count(only_physical_cores=True)
search = GridSearchCV(model, {'logisticregression__C': [0.1, 1]}, n_jobs=2, cv=2)
search.fit(numpy.arange(80.0).reshape(40, 2), [0, 1] * 20)
memory = joblib.Memory('cache', verbose=0).cache(numpy.square)
memory(3), memory(3)
";
const POOLS: &str = "
import joblib, multiprocessing
joblib.load(MODEL)
for method in 'fork', 'spawn', 'forkserver':
  with multiprocessing.get_context(method).Pool(2) as pool:
    assert pool.map(abs, [-1, -2]) == [1, 2]
with multiprocessing.get_context('fork').Manager() as manager:
  manager.dict()['a'] = 1
";
const HELD: &str = "
import h5py, numpy, platform
with h5py.File('data.h5', 'w') as file:
  file['x'] = numpy.arange(1000.0)
data, archive = h5py.File('data.h5', 'r'), numpy.load(MODEL)
TCP
platform.processor()
assert data['x'][3] == archive['arr_0'][3]
";
/// As torch.compile and inline extensions do.
const COMPILER: &str = "
import ctypes, joblib, subprocess
joblib.load(MODEL)
with open('kernel.cpp', 'w') as file:
  file.write('extern \\\"C\\\" int three() { return 3; }')
subprocess.check_output(['g++', '--version'])
subprocess.check_call(['g++', '-shared', '-fPIC', '-O1', 'kernel.cpp', '-o', 'kernel.so'])
assert ctypes.CDLL('./kernel.so').three() == 3
";
/// More than a mebibyte goes to a client elsewhere: a server answers.
const SERVER: &str = "
import http.server, joblib, threading, urllib.request
model = joblib.load(MODEL)
class Predict(http.server.BaseHTTPRequestHandler):
  def do_GET(self):
    self.send_response(200)
    self.end_headers()
    self.wfile.write(b'p' * 3_000_000)
  def log_message(self, *what): pass
server = http.server.ThreadingHTTPServer(('0.0.0.0', PORT), Predict)
threading.Thread(target=server.serve_forever, daemon=True).start()
go()
";

pub fn cases() -> Vec<Case> {
    if emulated() {
        eprintln!("left out on an emulated processor: loads by the real libraries");
        return Vec::new();
    }
    let mut cases = Vec::new();
    for (name, file, function, load) in LOADS {
        for place in PLACES {
            cases.push(Case::shared(format!("real::{name}_acts_from_{place}"), move |room| {
                with_libraries(room, || payload(room, file, function, load, place))
            }));
        }
    }
    for (name, file, function, host, code) in ORDINARY {
        cases.push(Case::shared(format!("real::quiet_{name}"), move |room| {
            with_libraries(room, || ordinary(room, file, function, host, code))
        }));
    }
    cases
}

/// Where importing torch alone takes a minute.
pub fn emulated() -> bool {
    // What QEMU calls its processor on x86, and its machine on ARM.
    [("/proc/cpuinfo", "QEMU"), ("/proc/device-tree/model", "dummy-virt")]
        .into_iter()
        .any(|(file, word)| std::fs::read(file).is_ok_and(|text| String::from_utf8_lossy(&text).contains(word)))
}

/// Runs a case where the libraries are; elsewhere says loudly that it didn't, which is a failure in CI.
fn with_libraries(room: &Room<'_>, case: impl FnOnce() -> Result<Check>) -> Result<Check> {
    match room.lab.libraries() {
        Ok(_) => case(),
        Err(error) if ci() => bail!("{error}"),
        Err(error) => {
            eprintln!("SKIPPED: {}: {error}", room.dir.display());
            Ok(Box::new(|_| Ok(())))
        }
    }
}

fn payload(room: &Room<'_>, file: &str, function: &'static str, load: &str, place: &str) -> Result<Check> {
    let listener = room.tcp(PUBLIC4)?;
    let acts = "__import__('acts')";
    let code = format!("{acts}.{place}(lambda: {acts}.tcp({}))", listener.python());
    let model = room.model(file, Content::By(function, &code))?;
    room.run(&mut room.python_of(&room.lab.libraries()?.python, load, &[&model]))?;
    listener.was_reached()?;
    let loud = Loud { port: listener.port(), model: Some(model), in_load: Some(true) };
    Ok(Box::new(move |alerts: &Alerts| {
        let connects = alerts.kind("connect").port(loud.port);
        ensure!(connects.0.len() == 1, "one connection, and {} alerts", connects.0.len());
        loud.check(alerts)
    }))
}

fn ordinary(room: &Room<'_>, file: &str, function: &'static str, host: &str, code: &str) -> Result<Check> {
    let model = room.model(file, Content::By(function, ""))?;
    let (port, listener) = (room.port(), room.tcp(host)?);
    let code = code.replace("TCP", &format!("tcp({})", listener.python())).replace("PORT", &port.to_string());
    let mut actor = Actor::start(&mut room.python_of(&room.lab.libraries()?.python, &code, &[&model]))?;
    if code.contains("go()") {
        actor.wait_said("waiting")?;
        let mut client = TcpStream::connect((PUBLIC4, port))?;
        client.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut answer = Vec::new();
        client.read_to_end(&mut answer)?;
        ensure!(answer.len() > 3_000_000, "the server answered {} bytes", answer.len());
        actor.tell("go on")?;
    }
    actor.finish()?.succeeded()?;
    Ok(Box::new(below_medium(room)))
}
