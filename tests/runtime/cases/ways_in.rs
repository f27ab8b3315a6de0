//! Every way by which a model gets into a process sets a mark that names the right file; what isn't a load sets none.
//!
//! What this host's kernel doesn't show is what `doctor` says is lost: then there is no alert, and else there is one.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::mount::{MountFlags, mount, mount_bind};
use rustix::process::Signal;
use serde_json::Value;

use crate::actor::Actor;
use crate::alert::{Alert, Alerts};
use crate::daemon::Daemon;
use crate::harness::{CONFIG, Case};
use crate::lab::{Listener, Room};
use crate::model::Content;
use crate::namespace::PUBLIC4;

/// Calls that open a file: functions of `ways.py`, and the words of `doctor` where one isn't seen.
const CALLS: [(&str, Option<&str>); 9] = [
    ("old_open", None),
    ("openat2", None),
    ("read_write", None),
    ("o_path", None),
    ("open_by_handle_at", Some("open_by_handle_at")),
    ("io_uring", Some("io_uring")),
    ("ia32", Some("by 32-bit calls are not seen")),
    ("scm_rights", Some("over a socket")),
    ("pidfd_getfd", Some("passes on")),
];

/// How a program is started with a model: `MODEL` opened as a descriptor by another program.
const INHERITED: [(&str, u32, &[&str]); 4] = [
    ("shell_redirection", 0, &["sh", "-c", "exec \"$@\" < \"$MODEL\"", "sh"]),
    ("shell_child", 7, &["sh", "-c", "\"$@\" 7< \"$MODEL\"; true", "sh"]),
    ("through_wrappers", 0, &["sh", "-c", "nice -n 0 env \"$@\" < \"$MODEL\"", "sh"]),
    ("high_number", 200, &["bash", "-c", "exec 200< \"$MODEL\"; \"$@\"; true", "bash"]),
];

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (way, lost) in CALLS {
        cases.push(Case::shared(format!("ways_in::{way}"), move |room| {
            if way == "ia32" && !cfg!(target_arch = "x86_64") {
                return Ok(Loud::nothing().judge());
            }
            let listener = room.tcp(PUBLIC4)?;
            let model = payload(room, "model.pkl", &listener)?;
            let seen = lost.is_none_or(|words| !room.lab.loses(words));
            // Where its kernel has no such call, this program ends by a signal, and there is nothing to lose.
            if !seen && way == "ia32" {
                return Ok(Loud::nothing().judge());
            }
            room.run_python(&by(way), &model)?;
            listener.was_reached()?;
            Ok(Loud { port: listener.port(), model: seen.then_some(model), in_load: Some(true) }.judge())
        }));
    }
    for (name, number, words) in INHERITED {
        cases.push(Case::shared(format!("ways_in::inherited_by_{name}"), move |room| {
            let listener = room.tcp(PUBLIC4)?;
            let model = payload(room, "model.pkl", &listener)?;
            let python = room.python(&format!("pickle.load(os.fdopen({number}, 'rb'))"), &[]);
            room.run(under(words, &python).env("MODEL", &model))?;
            listener.was_reached()?;
            let dir = format!("{}/", room.dir.display());
            let loud = Loud { port: listener.port(), model: Some(model), in_load: Some(true) };
            Ok(move |alerts: &Alerts| {
                let execs = alerts.kind("exec").filter(|alert| alert.line.contains(&dir));
                execs.none("the shell only carried the file")?;
                loud.check(alerts)
            })
        }));
    }
    cases.push(Case::shared("ways_in::unknown_name", |room| by_name(room, "weights", "load()")));
    cases.push(Case::shared("ways_in::unknown_suffix", |room| by_name(room, "model.v2-final", "load()")));
    cases.push(Case::shared("ways_in::ollama_blob", |room| {
        let blobs = room.dir.join("blobs");
        std::fs::create_dir(&blobs)?;
        store(room, &blobs.join(format!("sha256-{}", "0123456789abcdef".repeat(4))))
    }));
    cases.push(Case::shared("ways_in::oci_blob", |room| {
        let blobs = room.dir.join("blobs/sha256");
        std::fs::create_dir_all(&blobs)?;
        store(room, &blobs.join("0123456789abcdef".repeat(4)))
    }));
    // What isn't a program is judged as what it is, whatever it is called.
    cases.push(Case::shared("ways_in::pickle_called_like_a_hubs_program", |room| {
        let folder = room.dir.join("transformers_modules");
        std::fs::create_dir(&folder)?;
        let (listener, model) = (room.tcp(PUBLIC4)?, folder.join("x.pyc"));
        room.write_at(&model, Content::Payload(&format!("tcp({})", listener.python())))?;
        room.run_python("load()", &model)?;
        listener.was_reached()?;
        Ok(Loud { port: listener.port(), model: Some(model), in_load: Some(true) }.judge())
    }));
    // The code that a model brings along is a program of the hub's, whether or not weights follow. It is read and closed
    // before it runs.
    for (name, place) in [
        ("transformers_modules", "transformers_modules/org/name/0f3a/modeling_x.py"),
        ("torch_hub", "torch/hub/org_name_main/hubconf.py"),
    ] {
        cases.push(Case::shared(format!("ways_in::code_in_{name}"), move |room| {
            let listener = room.tcp(PUBLIC4)?;
            let code = room.dir.join(place);
            std::fs::create_dir_all(code.parent().unwrap_or(&room.dir))?;
            let (host, port) = (listener.host(), listener.port());
            std::fs::write(&code, format!("import acts\nacts.tcp('{host}', {port})\n"))?;
            room.run_python(
                "import importlib.util\nspec = importlib.util.spec_from_file_location('x', MODEL)\n\
                 spec.loader.exec_module(importlib.util.module_from_spec(spec))\n",
                &code,
            )?;
            listener.was_reached()?;
            Ok(move |alerts: &Alerts| {
                let acts = alerts.kind("connect").port(port);
                let alert = acts.last("what the code did")?.is("/model/class", "code")?;
                alert.is("/model/path", String::from_utf8_lossy(code.as_os_str().as_bytes()).as_ref()).map(|_| ())
            })
        }));
    }
    // One that only another file of the model imports, and whose name says nothing, is read as the source that it is.
    cases.push(Case::shared("ways_in::helper_in_transformers_modules", |room| {
        let folder = room.dir.join("transformers_modules/org/name/0f3a");
        std::fs::create_dir_all(&folder)?;
        let did = room.dir.join("did");
        std::fs::write(folder.join("modeling_x.py"), "from . import util\n")?;
        std::fs::write(folder.join("util.py"), format!("import os\nos.system('touch {}')\n", did.display()))?;
        let import = "import importlib\nsys.path.insert(0, MODEL)\nimportlib.import_module('0f3a.modeling_x')\n";
        room.run_python(import, folder.parent().unwrap_or(&folder))?;
        ensure!(did.exists(), "its code did not run");
        let util = folder.join("util.py");
        let dir = format!("{}/", room.dir.display());
        Ok(move |alerts: &Alerts| {
            let of_room = alerts.kind("exec").filter(|alert| alert.line.contains(&dir));
            let alert = of_room.last("what the code ran")?.names(&util)?;
            alert.is("/model/verdict", "malicious")?.is("/model/format", "python").map(|_| ())
        })
    }));
    cases.push(Case::shared("ways_in::memfd", |room| {
        let listener = room.tcp(PUBLIC4)?;
        let content = payload(room, "content.txt", &listener)?;
        room.run_python(&by("memfd"), &content)?;
        listener.was_reached()?;
        Ok(Loud { port: listener.port(), model: Some(PathBuf::from("/memfd:copy")), in_load: Some(true) }.judge())
    }));
    for (name, code) in [
        (
            "mapped",
            "file = open(MODEL, 'rb')\nview = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)\nfile.close()\npickle.loads(view)",
        ),
        ("loaded_by_a_thread", "thread(load)"),
    ] {
        cases.push(Case::shared(format!("ways_in::{name}"), move |room| by_name(room, "model.pkl", code)));
    }
    cases.push(Case::shared("ways_in::opened_by_a_thread", |room| {
        let listener = room.tcp(PUBLIC4)?;
        let model = room.model("model.pkl", Content::Payload("pass"))?;
        room.run_python(
            &format!("files = []\nthread(lambda: files.append(open(MODEL, 'rb')))\ntcp({})", listener.python()),
            &model,
        )?;
        listener.was_reached()?;
        // It isn't the thread that loads.
        Ok(Loud { port: listener.port(), model: Some(model), in_load: Some(false) }.judge())
    }));
    for (name, rename) in [("hard_link", false), ("rename", true)] {
        cases.push(Case::shared(format!("ways_in::{name}_of_a_file_seen_before"), move |room| {
            let listener = room.tcp(PUBLIC4)?;
            let model = room.model("model.pkl", Content::Payload("pass"))?;
            room.run_python("load()", &model)?;
            let alias = room.dir.join("alias");
            if rename {
                std::fs::rename(&model, &alias)?;
            } else {
                std::fs::hard_link(&model, &alias)?;
            }
            // A program that is no Python: its name alone would say nothing.
            let address = listener.address.to_string();
            room.run(Command::new(&room.lab.helper).args(["helper-load", "tcp", &address]).arg(&alias))?;
            listener.was_reached()?;
            Ok(Loud { port: listener.port(), model: Some(alias), in_load: Some(true) }.judge())
        }));
    }
    cases.push(Case::shared("ways_in::overlayfs_is_one_load", |room| {
        let (lower, other, merged) = (room.dir.join("lower"), room.dir.join("other"), room.dir.join("merged"));
        for folder in [&lower, &other, &merged] {
            std::fs::create_dir(folder)?;
        }
        let listener = room.tcp(PUBLIC4)?;
        payload(room, "lower/model.pkl", &listener)?;
        let data = std::ffi::CString::new(format!("lowerdir={}:{}", lower.display(), other.display()))?;
        mount("overlay", &merged, "overlay", MountFlags::empty(), Some(data.as_c_str())).context("an overlay")?;
        let model = merged.join("model.pkl");
        room.run_python("load()", &model)?;
        listener.was_reached()?;
        let inner = lower.display().to_string();
        let dir = format!("{}/", room.dir.display());
        let loud = Loud { port: listener.port(), model: Some(model), in_load: Some(true) };
        Ok(move |alerts: &Alerts| {
            alerts.filter(|alert| alert.line.contains(&inner)).none("the inner file is nobody's load")?;
            let opens = alerts.kind("model_open").filter(|alert| alert.line.contains(&dir));
            ensure!(opens.0.len() == 1, "{} opens were reported", opens.0.len());
            loud.check(alerts)
        })
    }));
    cases.push(Case::shared("ways_in::bind_mount", |room| {
        let (real, bound) = (room.dir.join("real"), room.dir.join("bound"));
        std::fs::create_dir(&real)?;
        std::fs::create_dir(&bound)?;
        let listener = room.tcp(PUBLIC4)?;
        payload(room, "real/model.pkl", &listener)?;
        mount_bind(&real, &bound)?;
        let model = bound.join("model.pkl");
        room.run_python("load()", &model)?;
        listener.was_reached()?;
        Ok(Loud { port: listener.port(), model: Some(model), in_load: Some(true) }.judge())
    }));
    cases.push(Case::alone("ways_in::another_mount_namespace", another_mount_namespace));
    for (name, code) in [
        ("folder", "os.mkdir(MODEL)\nos.open(MODEL, os.O_RDONLY | os.O_DIRECTORY)"),
        (
            "stat",
            "open(MODEL, 'wb').write(b'x' * 64)\nos.stat(MODEL)\nos.access(MODEL, os.R_OK)\nos.open(MODEL, os.O_PATH)",
        ),
        ("write_only", "open(MODEL, 'wb').write(b'x' * 64)\nopen(MODEL, 'ab').write(b'x')"),
        ("write_and_read", "file = open(MODEL, 'w+b')\nfile.write(b'x' * 64)\nfile.seek(0)\nfile.read()"),
    ] {
        cases.push(Case::shared(format!("ways_in::no_load_by_{name}"), move |room| {
            let listener = room.tcp(PUBLIC4)?;
            room.run_python(&format!("{code}\ntcp({})\nshell()", listener.python()), &room.dir.join("model.pt"))?;
            listener.was_reached()?;
            Ok(quiet(room))
        }));
    }
    cases.push(Case::shared("ways_in::no_model_by_an_unknown_name", |room| {
        // What CPython reads all day: no name accuses it, and neither does its content.
        let file = room.dir.join("notes");
        std::fs::write(&file, "These are notes, and no model.\n".repeat(10))?;
        let listener = room.tcp(PUBLIC4)?;
        let code = format!("with open(MODEL, 'rb') as file:\n  file.read()\n  tcp({})\n  shell()", listener.python());
        room.run_python(&code, &file)?;
        listener.was_reached()?;
        Ok(quiet(room))
    }));
    cases
}

/// The connection of a malicious pickle: critical, and named by the path by which its process knows the file.
pub struct Loud {
    pub port: u16,
    /// `None` where this host doesn't see it.
    pub model: Option<PathBuf>,
    pub in_load: Option<bool>,
}

impl Loud {
    fn nothing() -> Self {
        Self { port: 0, model: None, in_load: None }
    }

    pub fn judge(self) -> impl FnOnce(&Alerts) -> Result<()> + use<> {
        move |alerts: &Alerts| self.check(alerts)
    }

    pub fn check(self, alerts: &Alerts) -> Result<()> {
        let acts = alerts.kind("connect").port(self.port);
        let Some(model) = self.model else { return acts.none("doctor says that this way isn't seen") };
        let alert: &Alert = acts.last("the payload's connection")?;
        alert.is("/severity", "critical")?.is("/model/verdict", "malicious")?;
        alert.is("/model/path", String::from_utf8_lossy(model.as_os_str().as_bytes()).as_ref())?;
        if let Some(in_load) = self.in_load {
            alert.is("/event/in_load", in_load)?;
        }
        Ok(())
    }
}

/// Loads what the function `way` of `ways.py` gives.
fn by(way: &str) -> String {
    format!("import ways\nwith os.fdopen(ways.{way}(MODEL), 'rb') as file:\n  pickle.load(file)")
}

fn payload(room: &Room<'_>, name: &str, listener: &Listener) -> Result<PathBuf> {
    room.model(name, Content::Payload(&format!("tcp({})", listener.python())))
}

/// A malicious pickle called `name`, loaded by `code` in Python.
fn by_name(room: &Room<'_>, name: &str, code: &str) -> Result<impl FnOnce(&Alerts) -> Result<()> + use<>> {
    let listener = room.tcp(PUBLIC4)?;
    let model = payload(room, name, &listener)?;
    room.run_python(code, &model)?;
    listener.was_reached()?;
    Ok(Loud { port: listener.port(), model: Some(model), in_load: Some(true) }.judge())
}

/// A malicious pickle in a store of blobs, loaded by a program that is no Python.
fn store(room: &Room<'_>, blob: &Path) -> Result<impl FnOnce(&Alerts) -> Result<()> + use<>> {
    let listener = room.tcp(PUBLIC4)?;
    room.write_at(blob, Content::Payload("pass"))?;
    let address = listener.address.to_string();
    room.run(Command::new(&room.lab.helper).args(["helper-load", "tcp", &address]).arg(blob))?;
    listener.was_reached()?;
    Ok(Loud { port: listener.port(), model: Some(blob.to_owned()), in_load: Some(true) }.judge())
}

/// `words` and then `command`, in its folder and with its variables.
pub fn under(words: &[&str], command: &Command) -> Command {
    let mut whole = Command::new(words[0]);
    whole.args(&words[1..]).arg(command.get_program()).args(command.get_args());
    whole.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(folder) = command.get_current_dir() {
        whole.current_dir(folder);
    }
    whole
}

/// Nothing of this room is as loud as low.
fn quiet(room: &Room<'_>) -> impl FnOnce(&Alerts) -> Result<()> + use<> {
    let (dir, ports) = (room.dir.display().to_string(), room.ports());
    move |alerts: &Alerts| alerts.about(&dir, &ports).none("nothing was loaded")
}

/// The file is at a path that only the loader's mount namespace has: that path is named, and that file is scanned.
fn another_mount_namespace(room: &Room<'_>) -> Result<()> {
    let daemon = Daemon::start(&room.dir.join("daemon"), CONFIG)?;
    let listener = room.tcp(PUBLIC4)?;
    let original = payload(room, "original.pkl", &listener)?;
    let folder = room.dir.join("private");
    std::fs::create_dir(&folder)?;
    let model = folder.join("model.pkl");
    let python = room.python("load()\ngo()", &[&model]);
    let script = "mount -t tmpfs none \"$FOLDER\" && cp \"$ORIGINAL\" \"$FOLDER/model.pkl\" && exec \"$@\"";
    let mut command = under(&["unshare", "--mount", "sh", "-c", script, "sh"], &python);
    let mut loader = Actor::start(command.env("FOLDER", &folder).env("ORIGINAL", &original))?;
    loader.wait_said("waiting")?;
    listener.was_reached()?;
    ensure!(!model.exists(), "the namespaces are one");
    let alert = daemon.wait_for("the connection", |alert| {
        alert.text("/event/kind") == "connect" && alert.at("/event/port") == &Value::from(listener.port())
    })?;
    alert.names(&model)?.is("/model/verdict", "malicious")?.is("/severity", "critical")?;
    loader.tell("go")?;
    loader.finish()?.succeeded()?;
    daemon.stop(Signal::TERM)?;
    Ok(())
}
