//! A payload acts on the system itself: on other processes, mounts, the kernel, its privileges, its namespaces. The truth
//! is the system's own: the other process saw it, the mount is there, the user is another.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use super::payload::Trace;
use crate::actor::{Actor, Finished};
use crate::alert::{Alert, Alerts};
use crate::daemon::Daemon;
use crate::harness::{CONFIG, Case};
use crate::lab::Room;
use crate::model::Content;

/// A process of no loader, which says where its secret is, and when told what has become of it.
const VICTIM: &str = r#"
import ctypes, os
secret = ctypes.create_string_buffer(b"hunter2", 16)
say(victim=os.getpid(), address=ctypes.addressof(secret))
sys.stdin.readline()
say(secret=secret.value.decode(), tracer=[l for l in open("/proc/self/status") if l.startswith("TracerPid")][0].split()[1])
"#;

/// What a payload needs to make calls that Python hasn't.
const LIBC: &str = r#"
import ctypes, os, time
libc = ctypes.CDLL(None, use_errno=True)
"#;

struct Reach {
    name: &'static str,
    code: &'static str,
    /// What the victim's secret is afterwards.
    secret: &'static str,
    op: &'static [&'static str],
}

/// LSM sees that another process is reached into, not by which call.
const REACHES: [Reach; 4] = [
    Reach {
        name: "attach",
        code: "say(did=libc.ptrace(16, PID, 0, 0)); os.waitpid(PID, 0x40000000); say(tracing=os.getpid()); time.sleep(0.2)",
        secret: "hunter2",
        op: &["attach", "access"],
    },
    Reach {
        name: "read_memory",
        code: "b = ctypes.create_string_buffer(7); one, other = (ctypes.c_ulong * 2)(ctypes.addressof(b), 7), (ctypes.c_ulong * 2)(ADDRESS, 7); libc.process_vm_readv(PID, one, 1, other, 1, 0); say(read=b.raw.decode())",
        secret: "hunter2",
        op: &["read_memory", "access"],
    },
    Reach {
        name: "write_memory",
        code: "b = ctypes.create_string_buffer(b'changed', 7); one, other = (ctypes.c_ulong * 2)(ctypes.addressof(b), 7), (ctypes.c_ulong * 2)(ADDRESS, 7); libc.process_vm_writev(PID, one, 1, other, 1, 0)",
        secret: "changed",
        op: &["write_memory", "access"],
    },
    Reach {
        name: "take_descriptor",
        code: "p = os.pidfd_open(PID); say(took=libc.syscall(438, p, 1, 0) >= 0)",
        secret: "hunter2",
        op: &["take_descriptor", "access"],
    },
];

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for reach in REACHES {
        cases.push(Case::shared(format!("system::{}", reach.name), move |room| {
            let (victim, truth) = reach_into(room, reach.code)?;
            ensure!(victim.what("secret")?["secret"] == reach.secret, "{victim:?} {truth:?}");
            match reach.name {
                "attach" => ensure!(truth.what("did")?["did"] == 0, "it could not attach: {truth:?}"),
                "read_memory" => ensure!(truth.what("read")?["read"] == "hunter2", "it read something else: {truth:?}"),
                "take_descriptor" => ensure!(truth.what("took")?["took"] == true, "it took nothing: {truth:?}"),
                _ => {}
            }
            let room = Trace::of(room);
            Ok(move |alerts: &Alerts| {
                let alert = of_kind(alerts, &room, "ptrace")?;
                ensure!(reach.op.contains(&alert.text("/event/op")), "another op in\n{}", alert.line);
                // A descriptor names its process only to the kernel.
                if alert.text("/event/op") != "take_descriptor" {
                    alert.is("/event/target_pid", victim.what("victim")?["victim"].clone())?;
                }
                Ok(())
            })
        }));
    }
    cases.push(Case::shared("system::memory_as_a_file", |room| {
        let code = "f = open(f'/proc/{PID}/mem', 'r+b', 0); f.seek(ADDRESS); f.write(b'changed')";
        let (victim, _) = reach_into(room, code)?;
        ensure!(victim.what("secret")?["secret"] == "changed", "{victim:?}");
        let room = Trace::of(room);
        Ok(move |alerts: &Alerts| {
            let alert = of_kind(alerts, &room, "file")?;
            alert.is("/event/file", "process-memory")?;
            alert.is("/event/path", format!("/proc/{}/mem", victim.what("victim")?["victim"]))?;
            Ok(())
        })
    }));
    cases.push(Case::shared("system::mount", |room| {
        let at = room.dir.join("mounted");
        std::fs::create_dir(&at)?;
        let code = format!("{LIBC}\nsay(did=libc.mount(b'none', {at:?}.encode(), b'tmpfs', 0, None))");
        let model = room.model("model.pkl", Content::Payload(&code))?;
        let truth = room.run_python("load()", &model)?;
        ensure!(truth.what("did")?["did"] == 0, "it mounted nothing: {truth:?}");
        let mounts = std::fs::read_to_string("/proc/self/mounts")?;
        ensure!(mounts.contains(at.to_str().context("text")?), "nothing is mounted there");
        rustix::mount::unmount(&at, rustix::mount::UnmountFlags::empty())?;
        let room = Trace::of(room);
        Ok(move |alerts: &Alerts| {
            of_kind(alerts, &room, "mount")?.is("/event/op", "mount")?.is("/event/path", at.to_str()).map(|_| ())
        })
    }));
    cases.push(Case::shared("system::unshare", |room| {
        let code = "before = os.readlink('/proc/self/ns/uts')\nlibc.unshare(0x4000000)\nsay(new=before != os.readlink('/proc/self/ns/uts'))";
        let truth = pay(room, code)?;
        ensure!(truth.what("new")?["new"] == true, "it has no namespace of its own: {truth:?}");
        let room = Trace::of(room);
        Ok(move |alerts: &Alerts| {
            let alert = of_kind_at(alerts, &room, "namespace", "critical")?;
            alert.is("/event/op", "unshare")?.is("/event/namespaces", Value::from(vec!["uts"])).map(|_| ())
        })
    }));
    cases.push(Case::shared("system::setns", |room| {
        let truth = pay(room, "say(did=libc.setns(os.open('/proc/self/ns/uts', 0), 0x4000000))")?;
        ensure!(truth.what("did")?["did"] == 0, "it entered nothing: {truth:?}");
        let room = Trace::of(room);
        Ok(move |alerts: &Alerts| {
            of_kind_at(alerts, &room, "namespace", "critical")?.is("/event/op", "enter").map(|_| ())
        })
    }));
    cases.push(Case::shared("system::clone_into_namespaces", |room| {
        let number = "{'x86_64': 56, 'aarch64': 220}[os.uname().machine]";
        let code = format!(
            "before = os.readlink('/proc/self/ns/uts')\npid = libc.syscall({number}, 0x4000000 | 17, 0, 0, 0, 0)\n\
             if pid == 0:\n  say(new=before != os.readlink('/proc/self/ns/uts'), child=os.getpid())\n  os._exit(0)\nos.waitpid(pid, 0)"
        );
        let truth = pay(room, &code)?;
        ensure!(truth.what("new")?["new"] == true, "the child has no namespace of its own: {truth:?}");
        let room = Trace::of(room);
        Ok(move |alerts: &Alerts| {
            let alert = of_kind_at(alerts, &room, "namespace", "critical")?;
            alert.is("/event/op", "clone")?.is("/event/namespaces", Value::from(vec!["uts"]))?;
            alert.is("/event/target_pid", truth.what("child")?["child"].clone()).map(|_| ())
        })
    }));
    cases.push(Case::shared("system::becomes_root_again", |room| {
        let truth = pay(room, "os.seteuid(65534)\nos.seteuid(0)\nsay(euid=os.geteuid())")?;
        ensure!(truth.what("euid")?["euid"] == 0, "{truth:?}");
        let room = Trace::of(room);
        Ok(move |alerts: &Alerts| of_kind(alerts, &room, "privilege")?.is("/event/op", "setuid").map(|_| ()))
    }));
    cases.push(Case::shared("system::setuid_program", |room| {
        let id = room.dir.join("its-id");
        room.run(Command::new("cp").arg("/usr/bin/id").arg(&id))?;
        std::fs::set_permissions(&id, std::os::unix::fs::PermissionsExt::from_mode(0o4755))?;
        let code = format!("child(lambda: (os.setuid(65534), os.execv({id:?}, ['its-id', '-u'])))");
        let truth = pay(room, &code)?;
        ensure!(truth.said.contains(&Value::from(0)), "it is not root: {truth:?}");
        let room = Trace::of(room);
        Ok(move |alerts: &Alerts| {
            of_kind(alerts, &room, "privilege")?.is("/event/op", "exec")?.is("/event/path", id.to_str()).map(|_| ())
        })
    }));
    for (name, code, op) in [
        ("set_user_id", "shutil.copy('/usr/bin/id', 'x'); os.chmod('x', 0o4755)", "set_user_id"),
        (
            "set_user_id_by_descriptor",
            "fd = os.open('x', os.O_CREAT | os.O_RDWR); os.fchmod(fd, 0o4755)",
            "set_user_id",
        ),
        ("made_with_set_user_id", "os.umask(0); os.open('x', os.O_CREAT | os.O_RDWR, 0o4755)", "set_user_id"),
        (
            "set_capabilities",
            "open('x', 'w').close(); os.setxattr('x', 'security.capability', bytes.fromhex('0100000200040000000000000000000000000000'))",
            "set_capabilities",
        ),
    ] {
        cases.push(Case::shared(format!("system::{name}"), move |room| {
            let check = "say(mode=os.stat('x').st_mode, attributes=os.listxattr('x'))";
            let truth = pay(room, &format!("import shutil\n{code}\n{check}"))?;
            let truth = truth.what("mode")?;
            let has_it = match op {
                "set_user_id" => truth["mode"].as_u64().is_some_and(|mode| mode & 0o4000 != 0),
                _ => truth["attributes"].as_array().is_some_and(|names| names.contains(&"security.capability".into())),
            };
            ensure!(has_it, "the program was given nothing: {truth:?}");
            let path = room.dir.join("x");
            let room = Trace::of(room);
            Ok(move |alerts: &Alerts| {
                let alert = of_kind(alerts, &room, "privilege")?;
                let told = alert.is("/event/op", op)?.text("/event/path");
                ensure!(path.ends_with(told.trim_start_matches("…/")), "{told} is not {}", path.display());
                Ok(())
            })
        }));
    }
    cases.push(Case::shared("system::modes_and_attributes_that_are_nobodys_privilege", |room| {
        let code = "load()\nopen('x', 'w').close()\nos.chmod('x', 0o755)\nos.mkdir('d', 0o2755)\nos.chmod('d', 0o2775)\n\
                    os.setxattr('x', 'trusted.note', b'1')\nimport socket\nsocket.socket().bind(('127.0.0.1', 0))";
        let model = room.model("model.pkl", Content::CleanPickle)?;
        room.run_python(code, &model)?;
        let room = Trace::of(room);
        Ok(move |alerts: &Alerts| alerts.filter(|alert| room.own(alert)).kind("privilege").none("that is ordinary"))
    }));
    cases.push(Case::shared("system::bpf_program", |room| {
        // `r0 = 0; exit` for a socket filter; kernels before 5.11 take its memory from what may be locked.
        let number = "{'x86_64': 321, 'aarch64': 280}[os.uname().machine]";
        let code = format!(
            "import contextlib, resource\nwith contextlib.suppress(ValueError):\n  \
             resource.setrlimit(resource.RLIMIT_MEMLOCK, (-1, -1))\n\
             code = (ctypes.c_ulong * 2)(0xb7, 0x95)\nname = ctypes.create_string_buffer(b'GPL')\n\
             attr = (ctypes.c_ulong * 16)(1 | 2 << 32, ctypes.addressof(code), ctypes.addressof(name))\n\
             say(fd=libc.syscall({number}, 5, ctypes.c_void_p(ctypes.addressof(attr)), 128))"
        );
        let truth = pay(room, &code)?;
        ensure!(truth.what("fd")?["fd"].as_i64() > Some(0), "the kernel has no program: {truth:?}");
        let room = Trace::of(room);
        Ok(move |alerts: &Alerts| of_kind(alerts, &room, "privilege")?.is("/event/op", "load_bpf").map(|_| ()))
    }));
    cases.push(Case::shared("system::xdp_socket", |room| {
        // struct sockaddr_xdp: of no device, so that the kernel refuses; that it was tried is the act.
        let code = "s = libc.socket(44, 3, 0)\na = ctypes.create_string_buffer(bytes([44, 0]) + bytes(14), 16)\n\
                    say(socket=s, bound=libc.bind(s, a, 16))";
        let truth = pay(room, code)?;
        let truth = truth.what("socket")?;
        let has_family = truth["socket"].as_i64() > Some(0);
        ensure!(!has_family || truth["bound"] == -1, "bound to no device: {truth:?}");
        let room = Trace::of(room);
        Ok(move |alerts: &Alerts| match has_family {
            true => of_kind(alerts, &room, "privilege")?.is("/event/op", "bind_xdp").map(|_| ()),
            false => alerts.filter(|alert| room.own(alert)).kind("privilege").none("this kernel has no such sockets"),
        })
    }));
    cases.push(Case::shared("system::kernel_module", |room| {
        let module = room.dir.join("x.ko");
        std::fs::write(&module, b"no module")?;
        let number = "{'x86_64': 313, 'aarch64': 273}[os.uname().machine]";
        let code = format!(
            "r = libc.syscall({number}, os.open({module:?}, 0), b'', 0)\nsay(did=r, why=os.strerror(ctypes.get_errno()))"
        );
        let truth = pay(room, &code)?;
        let has_modules = truth.what("why")?["why"] != "Function not implemented";
        let room = Trace::of(room);
        Ok(move |alerts: &Alerts| {
            if !has_modules {
                return alerts.filter(|alert| room.own(alert)).kind("kmod").none("this kernel loads no modules");
            }
            of_kind(alerts, &room, "kmod")?.is("/event/op", "load")?.is("/event/path", module.to_str()).map(|_| ())
        })
    }));
    cases.push(Case::shared("system::memory_of_the_same_program", |room| {
        let mut victim = Actor::start(&mut room.python(VICTIM, &[Path::new("/nothing")]))?;
        let said = victim.wait_said("victim")?;
        let model = room.model("model.pkl", Content::CleanPickle)?;
        write_while_loading(room, &model, victim, &said)?;
        let room = Trace::of(room);
        Ok(move |alerts: &Alerts| of_kind(alerts, &room, "ptrace").map(|_| ()))
    }));
    cases.push(Case::alone("system::memory_of_whom_a_python_started", started_by_a_python));
    cases
}

/// A Python that loaded nothing starts another program: that runs what it runs, and not what its creator does. A loader
/// that runs the creator's program and writes into it is no peer of it.
fn started_by_a_python(room: &Room<'_>) -> Result<()> {
    let daemon = Daemon::start(&room.dir.join("daemon"), CONFIG)?;
    let copy = another_python(room)?;
    std::fs::write(room.dir.join("paths.pth"), "/nonexistent\n")?;
    let start = format!(
        "import site, subprocess\nsite.addsitedir({:?})\ngo()\nos.environ['PYTHONHOME'] = {:?}\n\
         subprocess.run([{copy:?}, '-c', 'from acts import *\\n' + sys.argv[1]], check=True)",
        room.dir,
        home_of_python(room)?,
    );
    let mut victim = Actor::start(&mut room.python(&start, &[Path::new(VICTIM)]))?;
    victim.wait_said("waiting")?;
    // Behind it, so that by now it is known that the path file is no model.
    let behind = room.model("behind.pkl", Content::Payload("pass"))?;
    room.run_python("load()", &behind)?;
    daemon.wait_for("a model that was opened later", |alert| {
        alert.names(&behind).is_ok() && alert.text("/model/verdict") == "malicious"
    })?;
    victim.tell("go")?;
    let said = victim.wait_said("victim")?;
    let model = room.model("model.pkl", Content::CleanPickle)?;
    write_while_loading(room, &model, victim, &said)?;
    let stopped = daemon.stop(Signal::TERM)?;
    let of_model = stopped.alerts.filter(|alert| alert.names(&model).is_ok());
    let alert = of_kind(&of_model, &Trace::of(room), "ptrace")?;
    alert.is("/event/target_pid", said["victim"].clone()).map(|_| ())
}

/// A Python loads `model` and meanwhile writes into the victim, which `said` where; the victim ends, and has seen it.
fn write_while_loading(room: &Room<'_>, model: &Path, mut victim: Actor, said: &Value) -> Result<()> {
    let code = REACHES.iter().find(|reach| reach.name == "write_memory").context("the way")?.code.replace("; ", "\n  ");
    let code = format!(
        "{LIBC}\nPID, ADDRESS = {}, {}\nwith open(MODEL, 'rb') as file:\n  pickle.load(file)\n  {code}",
        said["victim"], said["address"]
    );
    room.run_python(&code, model)?;
    victim.tell("what has become of it?")?;
    let victim = victim.finish()?.succeeded()?;
    ensure!(victim.what("secret")?["secret"] == "changed", "{victim:?}");
    Ok(())
}

/// A copy of the interpreter: two processes of one program share memory in ordinary use.
fn another_python(room: &Room<'_>) -> Result<PathBuf> {
    let copy = room.dir.join("another-python");
    // By a process of its own: whoever is forked from this one while it is written would keep it busy.
    room.run(Command::new("cp").args([&room.lab.python, &copy]))?;
    Ok(copy)
}

fn home_of_python<'a>(room: &Room<'a>) -> Result<&'a Path> {
    room.lab.python.parent().and_then(Path::parent).context("the interpreter's home")
}

/// A payload acts; gives what it said.
fn pay(room: &Room<'_>, code: &str) -> Result<Finished> {
    let model = room.model("model.pkl", Content::Payload(&format!("{LIBC}\n{code}")))?;
    room.run_python("load()", &model)
}

/// A payload reaches into a victim; gives what both said.
fn reach_into(room: &Room<'_>, code: &str) -> Result<(Finished, Finished)> {
    let mut victim = Actor::start(&mut room.python(VICTIM, &[Path::new("/nothing")]))?;
    let said = victim.wait_said("victim")?;
    let copy = another_python(room)?;
    let code = format!("{LIBC}\nPID, ADDRESS = {}, {}\n{code}", said["victim"], said["address"]);
    let model = room.model("model.pkl", Content::Payload(&code))?;
    let like = room.python("load()", &[&model]);
    let mut command = Command::new(&copy);
    command.args(like.get_args()).current_dir(&room.dir);
    command.envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("PYTHONHOME", home_of_python(room)?);
    let truth = room.run(&mut command)?;
    victim.tell("what has become of it?")?;
    Ok((victim.finish()?.succeeded()?, truth))
}

/// The last word on what a loader of this room did of this kind: critical, and in the load.
fn of_kind<'a>(alerts: &'a Alerts, room: &Trace, kind: &str) -> Result<&'a Alert> {
    of_kind_at(alerts, room, kind, "critical")
}

fn of_kind_at<'a>(alerts: &'a Alerts, room: &Trace, kind: &str, severity: &str) -> Result<&'a Alert> {
    let alert = alerts.0.iter().rfind(|alert| room.own(alert) && alert.text("/event/kind") == kind);
    let alert = alert.with_context(|| format!("no alert of kind {kind}"))?;
    alert.is("/severity", severity)?.is("/event/in_load", true)
}
