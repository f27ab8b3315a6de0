//! What must not be heard: those who never load, who write, who only read, and what ordinary loads do.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use super::real::emulated;
use crate::actor::Actor;
use crate::alert::Alerts;
use crate::cgroup::Cgroup;
use crate::daemon::{Daemon, wait_for_file};
use crate::harness::{CONFIG, Case};
use crate::lab::Room;
use crate::model::Content;
use crate::namespace::{LOOPBACK4, PUBLIC4, PUBLIC6};

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::shared("quiet::never_loaded_a_model", |room| {
            let (four, six, datagram) = (room.tcp(PUBLIC4)?, room.tcp(PUBLIC6)?, room.udp(PUBLIC4)?);
            let code = format!(
                "tcp({})\nchild(lambda: tcp({}))\ngrandchild(lambda: udp({}))\nshell()",
                four.python(),
                six.python(),
                datagram.python()
            );
            // Its argument is of this case, and isn't there.
            room.run_python(&code, &room.dir.join("nothing"))?.what("shell")?;
            for listener in [four, six, datagram] {
                listener.was_reached()?;
            }
            Ok(silent(room))
        }),
        Case::shared("quiet::writes_a_checkpoint", |room| {
            let listener = room.tcp(PUBLIC4)?;
            let write = "with open(MODEL, 'wb') as file:\n  pickle.dump({'epoch': 1}, file)\n";
            let code = format!("{write}tcp({})\nshell()", listener.python());
            room.run_python(&code, &room.dir.join("checkpoint.pt"))?;
            listener.was_reached()?;
            Ok(silent(room))
        }),
        Case::shared("quiet::rewrites_a_checkpoint", |room| {
            let listener = room.tcp(PUBLIC4)?;
            let model = room.model("checkpoint.pt", Content::Payload("pass"))?;
            let open = "descriptor = os.open(MODEL, os.O_RDWR | os.O_TRUNC)\nos.write(descriptor, pickle.dumps(3))\n";
            let code = format!("{open}tcp({})\nos.close(descriptor)\nshell()", listener.python());
            room.run_python(&code, &model)?;
            listener.was_reached()?;
            Ok(silent(room))
        }),
        Case::shared("quiet::the_pid_of_a_loader_is_used_again", pid_reuse),
        Case::shared("quiet::python_reads_its_path_files", |room| {
            // Text that is named as a model is: every Python with such a file opens it at its start.
            std::fs::write(room.dir.join("paths.pth"), "/nonexistent\n")?;
            let listener = room.tcp(PUBLIC4)?;
            let code = format!("import site\nsite.addsitedir({:?})\ntcp({})\nshell()", room.dir, listener.python());
            room.run_python(&code, &room.dir.join("nothing"))?;
            listener.was_reached()?;
            Ok(silent(room))
        }),
        // What libraries run at an import, after a clean load (`platform`, h5py, torch).
        ordinary("uname", "import platform\nplatform.uname().processor\n"),
        ordinary(
            "ldconfig",
            "import subprocess\nsubprocess.run(['/sbin/ldconfig', '-p'], stdout=subprocess.DEVNULL)\n",
        ),
        // Scripts of the system's, and what a shell is given to start and nothing else.
        ordinary("which", "import subprocess\nsubprocess.run(['which', 'nvcc'])\n"),
        ordinary("command_line", "os.system('uname -m')\nos.popen('lscpu 2>/dev/null').read()\n"),
        // What people's own programs start. (Whether there is a pip doesn't matter: its start is the act.)
        ordinary("usual_tools", USUAL),
        ordinary("find_library", "import ctypes.util\nctypes.util.find_library('m')\n"),
        ordinary("fork_workers", WORKERS_FORK),
        ordinary("spawn_workers", WORKERS_SPAWN),
        Case::shared("quiet::uname_inside_a_load", |room| {
            let model = room.model("model.pkl", Content::CleanPickle)?;
            let code = "with open(MODEL, 'rb') as file:\n  pickle.load(file)\n  os.popen('uname -p').read()\n";
            room.run_python(code, &model)?;
            Ok(below_medium(room))
        }),
        // By a shell, which opens nothing; the other end never answers.
        Case::shared("quiet::reader_curl_uploads", |room| {
            let model = room.model("model.pkl", Content::Shell("true"))?;
            let listener = room.tcp(PUBLIC4)?;
            let url = format!("http://{}:{}/", listener.host(), listener.port());
            let upload = "curl --silent --max-time 1 --upload-file \"$1\" \"$2\"; test $? -eq 28";
            room.run(Command::new("sh").args(["-c", upload, "sh"]).arg(&model).arg(url))?;
            let request = listener.received(4)?;
            ensure!(request.starts_with(b"PUT "), "curl sent {:?}", String::from_utf8_lossy(&request));
            let (dir, port) = (format!("{}/", room.dir.display()), listener.port());
            Ok(move |alerts: &Alerts| {
                alerts.port(port).none_above("info", "a tool that uploads models did")?;
                alerts.filter(|alert| alert.line.contains(&dir)).none_above("info", "it only read the model")
            })
        }),
        Case::shared("quiet::workers_over_loopback", |room| {
            let model = room.model("model.pkl", Content::CleanPickle)?;
            let listener = room.tcp(LOOPBACK4)?;
            room.run_python(&format!("load()\nchild(lambda: tcp({}))", listener.python()), &model)?;
            listener.was_reached()?;
            Ok(below_medium(room))
        }),
    ];
    cases.push(Case::shared("quiet::telemetry_from_before_a_load", telemetry));
    cases.push(Case::shared("quiet::reader_rsync_daemon", rsync_daemon));
    cases.push(Case::alone("quiet::reader_script", reader_script));
    cases.push(Case::alone("quiet::reader_script_of_a_known_file", reader_script_of_a_known_file));
    // An emulated processor is no match for the loop that reads it: there the ring runs full.
    if !emulated() {
        cases.push(Case::alone("quiet::a_data_set_of_small_files", data_set));
    }
    for (name, program, arguments) in READERS {
        cases.push(Case::shared(format!("quiet::reader_{name}"), move |room| {
            let model = room.model("model.pkl", Content::Shell("true"))?;
            let mut command = Command::new(program);
            for argument in arguments {
                command.arg(argument.replace("MODEL", model.to_str().context("a path that is text")?));
            }
            room.run(command.current_dir(&room.dir))?;
            let dir = format!("{}/", room.dir.display());
            Ok(move |alerts: &Alerts| {
                alerts.filter(|alert| alert.line.contains(&dir)).none_above("info", "it only read the model")
            })
        }));
    }
    cases
}

/// What a tool does that reads models: its arguments are the file, a host and a port.
const READ_AND_SEND: &str = "
import socket, sys
with open(sys.argv[1], 'rb') as file:
  file.read()
with socket.create_connection((sys.argv[2], int(sys.argv[3]))) as connection:
  connection.sendall(b'seen')
";

/// A Python program that can be executed.
fn write_script(room: &Room<'_>, path: &Path, code: &str) -> Result<()> {
    std::fs::write(path, format!("#!{}\n{code}", room.lab.python.display()))?;
    Ok(std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?)
}

/// A script that reads files for a living reads one that is known to be clean, and is no loader. Who says so of himself
/// after his load is one all the same: what is loaded can write over its process's arguments.
fn reader_script_of_a_known_file(room: &Room<'_>) -> Result<()> {
    let daemon = Daemon::start(&room.dir.join("daemon"), CONFIG)?;
    let (first, read, forged) = (room.tcp(PUBLIC4)?, room.tcp(PUBLIC4)?, room.tcp(PUBLIC4)?);
    let model = room.model("model.pkl", Content::CleanPickle)?;
    room.run_python(&format!("load()\ntcp({})", first.python()), &model)?;
    daemon.wait_for("the first connection", |alert| alert.at("/event/port") == first.port())?;

    let script = room.dir.join("s3cmd");
    write_script(room, &script, READ_AND_SEND)?;
    let status = Command::new(&script).arg(&model).arg(read.host()).arg(read.port().to_string()).status()?;
    ensure!(status.success(), "the script failed");
    read.was_reached()?;

    let code = format!(
        "
import ctypes
load()
with open('/proc/self/stat') as file: start, end = map(int, file.read().rsplit(')', 1)[1].split()[45:47])
words = sys.executable.encode() + b'\\0' + {:?}.encode() + b'\\0'
ctypes.memmove(start, words.ljust(end - start, b'\\0'), end - start)
tcp({})
",
        script.display().to_string(),
        forged.python()
    );
    room.run_python(&code, &model)?;
    forged.was_reached()?;
    daemon.wait_for("the forger", |alert| alert.at("/event/port") == forged.port())?;
    let stopped = daemon.stop(Signal::TERM)?;
    stopped.alerts.port(read.port()).none_above("info", "it only read the model")?;
    let alert = stopped.alerts.kind("connect").port(forged.port()).last("the forger's connection")?.clone();
    alert.is("/process/argv/1", script.display().to_string())?.is("/severity", "medium")?;
    Ok(())
}

/// A server that hands files out: it reads a malicious model for whoever asks.
/// A thread that was there before the load goes on reporting, to a public address that has no name.
fn telemetry(room: &Room<'_>) -> Result<impl FnOnce(&Alerts) -> Result<()> + use<>> {
    let listener = room.tcp(PUBLIC4)?;
    let model = room.model("model.pkl", Content::CleanPickle)?;
    let code = format!(
        "
import time
asked, done = threading.Event(), threading.Event()
def report():
  asked.wait()
  tcp({})
  done.set()
threading.Thread(target=report, daemon=True).start()
# What a thread's age is told in, several times.
time.sleep(0.005)
with open(MODEL, 'rb') as file:
  pickle.load(file)
  asked.set()
  done.wait()",
        listener.python()
    );
    room.run_python(&code, &model)?;
    listener.was_reached()?;
    let (port, quiet) = (listener.port(), below_medium(room));
    Ok(move |alerts: &Alerts| {
        let acts = alerts.kind("connect").port(port);
        acts.last("the connection")?.names(&model)?.is("/severity", "low")?.is("/event/in_load", false)?;
        quiet(alerts)
    })
}

fn rsync_daemon(room: &Room<'_>) -> Result<impl FnOnce(&Alerts) -> Result<()> + use<>> {
    let (served, config, port) = (room.dir.join("served"), room.dir.join("rsyncd.conf"), room.port());
    std::fs::create_dir(&served)?;
    room.write_at(&served.join("model.pkl"), Content::Shell("true"))?;
    let pid = room.dir.join("rsyncd.pid");
    let text = format!(
        "pid file={}\nuse chroot=no\nuid=0\ngid=0\naddress={LOOPBACK4}\nport={port}\n[models]\npath={}\n",
        pid.display(),
        served.display()
    );
    std::fs::write(&config, text)?;
    // PR_SET_PDEATHSIG by setpriv(1): it doesn't outlive the tests.
    let mut daemon = Command::new("setpriv");
    daemon.args(["--pdeathsig", "TERM", "rsync", "--daemon", "--no-detach", "--config"]).arg(&config);
    let mut daemon = Actor::start(&mut daemon)?;
    wait_for_file(&pid, || daemon.is_running())?;
    let fetch = format!(
        "for i in $(seq 100); do rsync -a rsync://{LOOPBACK4}:{port}/models/ got/ 2>/dev/null && exit; sleep 0.1; done; exit 1"
    );
    room.run(Command::new("sh").args(["-c", &fetch]).current_dir(&room.dir))?;
    daemon.kill();
    ensure!(room.dir.join("got/model.pkl").exists(), "it handed nothing out");
    Ok(below_medium(room))
}

/// Small pickles that are opened at once: more than a cgroup's place in the scanner's queue.
const SHARDS: usize = 250;
/// Arrays that are read as fast as they can be: more than a cgroup may have looked at in a second.
const ARRAYS: usize = 3_000;

/// A training loop's data: small files, as many and as fast as there are. What is bad among them is found all the same.
fn data_set(room: &Room<'_>) -> Result<()> {
    let listener = room.tcp(LOOPBACK4)?;
    let (shards, arrays) = (room.dir.join("shards"), room.dir.join("arrays"));
    let files = [(&shards, "pkl", Content::CleanPickle, SHARDS), (&arrays, "npy", Content::Array, ARRAYS)];
    for (folder, suffix, content, count) in files {
        std::fs::create_dir(folder)?;
        let content = std::fs::read(room.model(&format!("one.{suffix}"), content)?)?;
        for number in 0..count {
            std::fs::write(folder.join(format!("{number:05}.{suffix}")), &content)?;
        }
    }
    let bad = shards.join("zzz.pkl");
    room.write_at(&bad, Content::Payload("pass"))?;
    let daemon = Daemon::start(&room.dir.join("daemon"), CONFIG)?;
    let cgroup = Cgroup::new("data-set")?;
    let read = "
for folder in ('shards', 'arrays'):
  for name in sorted(os.listdir(folder)):
    with open(os.path.join(folder, name), 'rb') as file:
      file.read()
";
    // (It reads the bad one and runs nothing of it.)
    let code = format!("{}{read}go()\ntcp({})", cgroup.join(), listener.python());
    let mut actor = Actor::start(&mut room.python(&code, &[&room.dir]))?;
    actor.wait_said("waiting")?;
    daemon.wait_for("the open of a malicious file among many", |alert| {
        alert.text("/event/kind") == "model_open" && alert.text("/model/path") == bad.to_str().unwrap_or_default()
    })?;
    actor.tell("go on")?;
    actor.finish()?.succeeded()?;
    listener.was_reached()?;
    let (id, port) = (cgroup.id()?, listener.port());
    let alerts = daemon.stop(Signal::TERM)?.alerts;
    let lost = alerts.filter(|alert| alert.text("/event/kind") == "loss");
    // Of some it isn't known whose they are.
    let lost = lost.filter(|alert| [&id, ""].contains(&alert.text("/event/cgroup")));
    lost.none_above("low", "files that nobody acts on were read")?;
    alerts
        .about(&room.dir.display().to_string(), &[port])
        .filter(|alert| alert.text("/model/verdict") != "malicious")
        .none_above("low", "nothing but the bad file is worth a word")
}

/// A script that is called like a tool which reads models: root's is one, anybody else's is a loader.
fn reader_script(room: &Room<'_>) -> Result<()> {
    let wait = "print('{\"waiting\": true}', flush=True)\nsys.stdin.readline()\n";
    let daemon = Daemon::start(&room.dir.join("daemon"), CONFIG)?;
    let mut readers = Vec::new();
    for owner in [0, 65534] {
        let folder = room.dir.join(format!("owner-{owner}"));
        std::fs::create_dir(&folder)?;
        let (model, script) = (folder.join("model.pkl"), folder.join("s3cmd"));
        room.write_at(&model, Content::Shell("true"))?;
        write_script(room, &script, &format!("{READ_AND_SEND}{wait}"))?;
        std::os::unix::fs::chown(&script, Some(owner), None)?;
        let listener = room.tcp(PUBLIC4)?;
        let mut command = Command::new(&script);
        command.arg(&model).arg(listener.host()).arg(listener.port().to_string());
        let mut reader = Actor::start(&mut command)?;
        reader.wait_said("waiting")?;
        listener.was_reached()?;
        readers.push((reader, listener.port()));
    }
    // Whose the first script is was asked before.
    let (roots, other) = (readers[0].1, readers[1].1);
    daemon.wait_for("the loader's connection", |alert| {
        alert.at("/event/port") == other && alert.text("/severity") == "critical"
    })?;
    for (mut reader, _) in readers {
        reader.tell("go on")?;
        reader.finish()?.succeeded()?;
    }
    let stopped = daemon.stop(Signal::TERM)?;
    stopped.alerts.port(roots).none_above("info", "it only read the model")
}

/// Programs that read models for a living.
const READERS: [(&str, &str, &[&str]); 15] = [
    ("cp", "cp", &["MODEL", "copy.pkl"]),
    ("cat", "cat", &["MODEL"]),
    ("sha256sum", "sha256sum", &["MODEL"]),
    ("tar", "tar", &["cf", "model.tar", "MODEL"]),
    ("tar_gz", "tar", &["czf", "model.tgz", "MODEL"]),
    ("rsync", "rsync", &["-a", "MODEL", "copied.pkl"]),
    ("dd", "dd", &["if=MODEL", "of=raw.pkl", "status=none"]),
    ("gzip", "gzip", &["-k", "MODEL"]),
    ("git", "git", &["hash-object", "--no-filters", "MODEL"]),
    ("scp", "scp", &["MODEL", "copied-too.pkl"]),
    ("openssl", "openssl", &["dgst", "-sha256", "MODEL"]),
    ("xz", "xz", &["-k", "MODEL"]),
    ("base64", "base64", &["MODEL"]),
    ("sort", "sort", &["MODEL"]),
    ("strings", "strings", &["MODEL"]),
];

const USUAL: &str = "
import subprocess
for line in (['df', '-h'], ['free', '-m'], ['ps', 'aux'], [sys.executable, '-m', 'pip', 'list']):
  subprocess.run(line, stdout=subprocess.DEVNULL)
os.system(sys.executable + ' -m pip list')
os.system('df -h > /dev/null')
";

/// As a data loader's: descriptors and results over unix sockets and pipes.
const WORKERS_FORK: &str = "
import multiprocessing
context = multiprocessing.get_context('fork')
with context.Pool(2) as pool:
  assert pool.map(abs, [-1, -2, -3]) == [1, 2, 3]
";
const WORKERS_SPAWN: &str = "
import multiprocessing
context = multiprocessing.get_context('spawn')
with context.Pool(2) as pool:
  assert pool.map(abs, [-1, -2, -3]) == [1, 2, 3]
";

/// After a clean load: nothing that asks for attention.
fn ordinary(name: &'static str, code: &'static str) -> Case {
    Case::shared(format!("quiet::{name}_after_a_load"), move |room| {
        let model = room.model("model.pkl", Content::CleanPickle)?;
        room.run_python(&format!("load()\n{code}"), &model)?;
        Ok(below_medium(room))
    })
}

/// There is no alert of this room.
pub fn silent(room: &Room<'_>) -> impl FnOnce(&Alerts) -> Result<()> + use<> {
    let (dir, ports) = (room.dir.display().to_string(), room.ports());
    move |alerts: &Alerts| alerts.about(&dir, &ports).none("nothing was loaded")
}

/// No alert of this room is as loud as medium.
pub fn below_medium(room: &Room<'_>) -> impl FnOnce(&Alerts) -> Result<()> + use<> {
    let (dir, ports) = (room.dir.display().to_string(), room.ports());
    move |alerts: &Alerts| alerts.about(&dir, &ports).none_above("low", "this is what ordinary loads do")
}

/// One process loads a malicious model and ends; a stranger gets its pid and connects.
fn pid_reuse(room: &Room<'_>) -> Result<impl FnOnce(&Alerts) -> Result<()> + use<>> {
    let listener = room.tcp(PUBLIC4)?;
    let model = room.model("model.pkl", Content::Payload("pass"))?;
    let code = format!(
        "
pid = os.fork()
if pid == 0:
  load()
  os._exit(0)
os.waitpid(pid, 0)
for attempt in range(100000):
  with open('/proc/sys/kernel/ns_last_pid', 'w') as file:
    file.write(str(pid - 1))
  again = os.fork()
  if again == 0:
    if os.getpid() == pid:
      tcp({})
    os._exit(0)
  os.waitpid(again, 0)
  if again == pid:
    say(again=pid)
    break
",
        listener.python()
    );
    room.run_python(&code, &model)?.what("again")?;
    listener.was_reached()?;
    let port = listener.port();
    Ok(move |alerts: &Alerts| alerts.port(port).none("a stranger with a loader's pid connected"))
}
