//! Ways in and out, one by one, on each rung of the attach ladder: a way is seen, or `doctor` says that it is lost.
//!
//! Both directions are held: what is declared lost and is seen all the same is a word too many. Each way prints one line
//! (`PATH`, rung asked for, way, hook, rung, outcome), from which `cargo xtask vm --kernel all` makes a table. What else
//! has to be right in the alert of each way is for the other cases; the truth here is that the payload's call succeeded.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use super::ways_in::under;
use crate::alert::{Alert, Alerts};
use crate::daemon::{self, Daemon};
use crate::harness::{CONFIG, Case};
use crate::lab::{self, Room};
use crate::model::Content;
use crate::namespace::PUBLIC4;

/// One way.
struct Way {
    name: &'static str,
    /// The plan's hook that sees it.
    hook: &'static str,
    /// Words of `doctor` where that hook's rung doesn't see this way all the same; "" where every rung does.
    lost_words: &'static str,
    does: Does,
}

enum Does {
    /// This expression gives a descriptor of the model, whose payload connects.
    Opens(&'static str),
    /// A shell opens the model for the program that it starts.
    Inherits,
    /// The payload does this, and an alert of this kind tells, which meets the condition.
    Acts(&'static str, &'static str, fn(&Alert) -> bool),
}

const fn opens(name: &'static str, hook: &'static str, lost_words: &'static str, expression: &'static str) -> Way {
    Way { name, hook, lost_words, does: Does::Opens(expression) }
}

const fn acts(
    name: &'static str,
    hook: &'static str,
    code: &'static str,
    kind: &'static str,
    is: fn(&Alert) -> bool,
) -> Way {
    Way { name, hook, lost_words: "", does: Does::Acts(code, kind, is) }
}

fn any(_: &Alert) -> bool {
    true
}

#[rustfmt::skip]
const WAYS: &[Way] = &[
    opens("openat", "open", "", "os.open(MODEL, os.O_RDONLY)"),
    opens("open", "open", "", "ways.old_open(MODEL)"),
    opens("openat2", "open", "", "ways.openat2(MODEL)"),
    opens("open_by_handle_at", "open", "", "ways.open_by_handle_at(MODEL)"),
    opens("open of an O_PATH descriptor", "open", "", "ways.o_path(MODEL)"),
    opens("open by io_uring", "open", "io_uring", "ways.io_uring(MODEL)"),
    opens("open by a 32-bit call", "open", "32-bit", "ways.ia32(MODEL)"),
    opens("descriptor over a unix socket", "receive", "over a socket", "ways.scm_rights(MODEL)"),
    opens("descriptor by pidfd_getfd", "receive", "", "ways.pidfd_getfd(MODEL)"),
    Way { name: "descriptor by a shell's redirection", hook: "inherit", lost_words: "", does: Does::Inherits },
    acts("TCP, IPv4", "connect4", "ear = listening(HOST, PORT); tcp(HOST, PORT)", "connect", any),
    acts("TCP, IPv6", "connect6", "ear = listening(HOST6, PORT); tcp(HOST6, PORT)", "connect", any),
    acts("TCP by io_uring", "connect4", "ear = listening(HOST, PORT); sockets.uring_connect(HOST, PORT)", "connect", any),
    acts("TCP Fast Open", "connect4", "ear = listening(HOST, PORT); sockets.fast_open(HOST, PORT)", "connect", any),
    acts("MPTCP", "connect4", "ear = listening(HOST, PORT); sockets.mptcp(HOST, PORT)", "connect", any),
    acts("TCP under SMC", "connect4", "ear = listening(HOST, PORT); sockets.smc(HOST, PORT)", "connect", any),
    acts("TCP of a child", "fork", "ear = listening(HOST, PORT); child(lambda: tcp(HOST, PORT))", "connect", any),
    acts("UDP, IPv4", "sendmsg4", "udp(HOST, PORT)", "send", any),
    acts("UDP, IPv6", "sendmsg6", "udp(HOST6, PORT)", "send", any),
    acts("UDP by io_uring", "sendmsg4", "sockets.uring_sendmsg(HOST, PORT)", "send", any),
    acts("UDP of a connected socket", "socket_sendmsg", "sockets.udp_connected(HOST, PORT)", "send", any),
    acts("raw socket", "packet_out", "sockets.icmp(HOST)", "send", |alert| alert.text("/event/proto") == "icmp"),
    acts("packet socket", "socket_sendmsg", "sockets.packet('lo')", "send", |alert| alert.text("/event/family") == "packet"),
    acts("vsock", "socket_connect", "sockets.vsock(1, 1234)", "connect", |alert| alert.text("/event/family") == "vsock"),
    acts("unix socket", "unix", "ear = socket.socket(1); ear.bind('s'); ear.listen(); sockets.unix('s')", "unix", any),
    acts("datagram to a unix socket", "unix_datagram", "ear = socket.socket(1, 2); ear.bind('d'); sockets.unix_datagram('d')", "unix", any),
    acts("listening socket", "tcp", "ear = listening(HOST, PORT)", "bind", any),
    acts("UDP socket that waits, IPv4", "bind4", "socket.socket(2, 2).bind((HOST, PORT))", "bind", any),
    acts("UDP socket that waits, IPv6", "bind6", "socket.socket(10, 2).bind((HOST6, PORT))", "bind", any),
    acts("accepted connection", "accept", "door = listening(HOST, PORT); tcp(HOST, PORT); door.accept()", "accept", any),
    acts("name asked of a resolver", "packet_out", "socket.socket(2, 2).sendto(QUESTION, (RESOLVER, 53))", "dns", any),
    acts("program", "exec", "os.system(':')", "exec", any),
    acts("program in the loader's place", "exec_window", "os.execv('/bin/true', ['true'])", "exec", |alert| alert.at("/event/in_load") == true),
    acts("rename into place", "rename", "open('n', 'w').close(); os.rename('n', '.bashrc')", "file", any),
    acts("link into place", "link", "open('m', 'w').close(); os.link('m', '.profile')", "file", any),
    acts("symlink into place", "symlink", "os.symlink('m', '.zshrc')", "file", any),
    acts("secret read", "open", "os.mkdir('.ssh'); open('.ssh/id_rsa', 'w').write('x'); open('.ssh/id_rsa').read()", "file", |alert| alert.text("/event/access") == "read"),
    acts("written where it runs", "open", "open('.bash_profile', 'w').write('x')", "file", |alert| alert.text("/event/access") == "write"),
    acts("secret gets another name", "rename", "os.mkdir('.aws'); open('.aws/credentials', 'w').write('x'); os.rename('.aws/credentials', 'renamed')", "file", |alert| alert.text("/event/access") == "read"),
    acts("secret gets a second name", "link", "os.mkdir('.azure'); open('.azure/msal_token_cache.json', 'w').write('x'); os.link('.azure/msal_token_cache.json', 'linked')", "file", |alert| alert.text("/event/access") == "read"),
    acts("set-user-id", "chmod", "open('runs-as-root', 'w').close(); os.chmod('runs-as-root', 0o4755)", "privilege", |alert| alert.text("/event/op") == "set_user_id"),
    acts("file capabilities", "file_capabilities", "open('capable', 'w').close(); os.setxattr('capable', 'security.capability', bytes.fromhex('0100000200040000000000000000000000000000'))", "privilege", |alert| alert.text("/event/op") == "set_capabilities"),
    acts("BPF program", "bpf", "call({'x86_64': 321, 'aarch64': 280}, 5, bytes(128), 128)", "privilege", |alert| alert.text("/event/op") == "load_bpf"),
    acts("AF_XDP socket", "xdp", "s = socket.socket(44, 3); paths.libc.bind(s.fileno(), bytes([44]) + bytes(15), 16)", "privilege", |alert| alert.text("/event/op") == "bind_xdp"),
    acts("another process's memory", "ptrace", "paths.read_memory(os.getppid())", "ptrace", any),
    acts("kernel module from a file", "module_file", "open('x.ko', 'w').write('x'); call({'x86_64': 313, 'aarch64': 273}, os.open('x.ko', 0), b'', 0)", "kmod", any),
    acts("kernel module from memory", "module_data", "call({'x86_64': 175, 'aarch64': 105}, bytes(64), 64, b'')", "kmod", any),
    acts("mount", "mount", "paths.mount()", "mount", any),
    acts("moved mount", "move_mount", "paths.move_mount()", "mount", any),
    acts("another root", "pivot_root", "call({'x86_64': 155, 'aarch64': 41}, b'.', b'.')", "mount", |alert| alert.text("/event/op") == "pivot_root"),
    acts("setuid to root", "privilege", "os.seteuid(65534); os.seteuid(0)", "privilege", any),
    acts("unshare", "namespace", "paths.libc.unshare(0x4000000)", "namespace", any),
    acts("setns", "namespace", "paths.libc.setns(os.open('/proc/self/ns/uts', 0), 0x4000000)", "namespace", any),
];

/// Names in the payloads; `PORT` is each way's own. A question for the address of `example.org` (RFC 1035, section 4).
const NAMES: [(&str, &str); 4] = [
    ("HOST6", "'2001:db8::7'"),
    ("HOST", "'203.0.113.7'"),
    ("RESOLVER", "'198.51.100.53'"),
    ("QUESTION", "bytes.fromhex('000101000001000000000000076578616d706c65036f72670000010001')"),
];

const SEEN: &str = "seen";
const LOST: &str = "lost";
const NOT_HERE: &str = "not here";

/// Ways that are gone at once: most of their time is Python's start.
const WAYS_AT_ONCE: usize = 4;

/// Loads beside those that keep their CPU busy with opens, so that it is taken from one in the middle of an open.
const LOADS: usize = 12;
const BESIDE_BUSY: &str = "
import signal
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
busy = []
try:
  for number in range(8):
    path = f'busy-{number}.pkl'
    with open(path, 'wb') as file:
      file.write(bytes([0x80, 4]) + b'N.')
    busy.append(os.fork())
    if busy[-1] == 0:
      while True:
        os.close(os.open(path, os.O_RDONLY))
  for number in range(LOADS):
    pid = os.fork()
    if pid == 0:
      with open(f'{number}.pkl', 'rb') as file:
        pickle.load(file)
      os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
finally:
  for pid in busy:
    os.kill(pid, signal.SIGKILL)
";

pub fn cases() -> Vec<Case> {
    let rungs = ["lsm", "fentry", "kprobe", "tracepoint"];
    let mut cases: Vec<Case> =
        rungs.map(|rung| Case::alone(format!("paths::{rung}"), move |room| every_way(room, rung))).into();
    cases.push(Case::alone("paths::beside_busy_tasks", beside_busy_tasks));
    cases
}

/// Below LSM: the rung that this kernel takes there leaves no load out, whoever else opens files on that CPU.
fn beside_busy_tasks(room: &Room<'_>) -> Result<()> {
    let (mut command, ready_file) = daemon::command(&room.dir.join("daemon"), CONFIG)?;
    let daemon = Daemon::start_as(command.args(["--best-rung", "fentry"]), ready_file)?;
    let listener = room.tcp(PUBLIC4)?;
    let models = (0..LOADS)
        .map(|number| room.model(&format!("{number}.pkl"), Content::Payload(&format!("tcp({})", listener.python()))));
    let models = models.collect::<Result<Vec<PathBuf>>>()?;
    room.run(&mut room.python(&BESIDE_BUSY.replace("LOADS", &LOADS.to_string()), &[]))?;
    listener.was_reached()?;
    let alerts = daemon.stop(Signal::TERM)?.alerts;
    let connects = alerts.kind("connect").port(listener.port());
    let is_told = |model: &PathBuf| connects.0.iter().any(|alert| alert.text("/model/path") == model.to_string_lossy());
    let lost = models.iter().filter(|model| !is_told(model)).count();
    ensure!(lost == 0, "{lost} of {LOADS} loads were not seen\n{}", losses(&alerts).join("\n"));
    Ok(())
}

fn losses(alerts: &Alerts) -> Vec<String> {
    alerts.kind("loss").0.iter().map(|alert| alert.at("/event").to_string()).collect()
}

/// What a way left behind.
struct Taken {
    model: PathBuf,
    port: u16,
    /// This kernel has no such call.
    is_absent: bool,
}

fn every_way(room: &Room<'_>, best_rung: &str) -> Result<()> {
    let said = lab::json_output(&["doctor", "--best-rung", best_rung], "doctor")?;
    let hooks = said["hooks"].as_array().context("doctor names its hooks")?;
    let hook =
        |event: &str| hooks.iter().find(|hook| hook["event"] == event).with_context(|| format!("no hook {event}"));
    if best_rung != "lsm" && hook("open")?["rung"] == lab::rung("open")? {
        println!("paths::{best_rung}: this kernel gives what paths::lsm shows");
        return Ok(());
    }
    let is_as_said = |way: &Way, outcome: &str| -> Result<bool> {
        Ok(outcome == NOT_HERE || (outcome == LOST) == is_declared_lost(hook(way.hook)?, way))
    };
    let (mut outcomes, mut said_lost) = go(room, best_rung, "all", (0..WAYS.len()).collect())?;
    // Where a program was left out, the sensor counts it (`loss`), but not of which way: those are gone once more.
    let mut again = Vec::new();
    for (index, way) in WAYS.iter().enumerate() {
        if !is_as_said(way, outcomes[&index])? && said_lost.iter().any(|loss| loss.contains("program_skipped")) {
            again.push(index);
        }
    }
    if !again.is_empty() {
        let names: Vec<_> = again.iter().map(|index| WAYS[*index].name).collect();
        println!("paths::{best_rung}: once more, as programs were left out: {}", names.join(", "));
        let (outcomes_again, said_lost_again) = go(room, best_rung, "again", again)?;
        outcomes.extend(outcomes_again);
        said_lost = said_lost_again;
    }
    let mut wrong = Vec::new();
    for (index, way) in WAYS.iter().enumerate() {
        let (hook, outcome) = (hook(way.hook)?, outcomes[&index]);
        let rung = hook["rung"].as_str().unwrap_or("none");
        let is_as_said = is_as_said(way, outcome)?;
        if !is_as_said {
            wrong.push(format!("{} on rung {rung} is {outcome}; doctor says {}", way.name, hook["lost"]));
        }
        let unsaid = if is_as_said { "" } else { ", which doctor denies" };
        println!("PATH\t{best_rung}\t{}\t{}\t{rung}\t{outcome}{unsaid}", way.name, way.hook);
    }
    ensure!(wrong.is_empty(), "{}", [wrong, said_lost].concat().join("\n"));
    Ok(())
}

/// Goes these ways under a daemon of their own: what came of each, and what the sensor said that it lost.
fn go(
    room: &Room<'_>,
    best_rung: &str,
    name: &str,
    ways: Vec<usize>,
) -> Result<(BTreeMap<usize, &'static str>, Vec<String>)> {
    let room = &room.lab.room(&format!("paths::{best_rung}::{name}"))?;
    let (mut command, ready_file) = daemon::command(&room.dir.join("daemon"), CONFIG)?;
    let daemon = Daemon::start_as(command.args(["--best-rung", best_rung]), ready_file)?;
    let taken = take_all(room, &ways)?;
    let alerts = daemon.stop(Signal::TERM)?.alerts;
    let outcomes = ways.iter().zip(&taken).map(|(index, taken)| (*index, outcome(&alerts, &WAYS[*index], taken)));
    Ok((outcomes.collect(), losses(&alerts)))
}

fn is_declared_lost(hook: &Value, way: &Way) -> bool {
    let lost = hook["lost"].as_str().unwrap_or_default();
    hook["rung"].is_null() || (!way.lost_words.is_empty() && lost.contains(way.lost_words))
}

/// Goes these ways, a few at once.
fn take_all(room: &Room<'_>, ways: &[usize]) -> Result<Vec<Taken>> {
    let next = AtomicUsize::new(0);
    let taken = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..WAYS_AT_ONCE {
            scope.spawn(|| {
                while let Some(index) = ways.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let one = take(room, &WAYS[*index], *index).context(WAYS[*index].name);
                    taken.lock().unwrap_or_else(PoisonError::into_inner).push((*index, one));
                }
            });
        }
    });
    let mut taken = taken.into_inner().unwrap_or_else(PoisonError::into_inner);
    taken.sort_by_key(|(index, _)| *index);
    taken.into_iter().map(|(_, one)| one).collect()
}

fn take(room: &Room<'_>, way: &Way, index: usize) -> Result<Taken> {
    let name = format!("{index}.pkl");
    if let Does::Acts(code, ..) = way.does {
        let port = room.port();
        let mut code = code.replace("PORT", &port.to_string());
        for (name, value) in NAMES {
            code = code.replace(name, value);
        }
        let code = format!(
            "import paths, sockets\nfrom paths import call, listening\n\
             def act():\n  {code}\nglobals().update(paths=paths, sockets=sockets, call=call, listening=listening)\n\
             paths.attempt(act)"
        );
        let model = room.model(&name, Content::Payload(&code))?;
        let said = room.run_python("load()", &model)?;
        return Ok(Taken { model, port, is_absent: said.what("skipped").is_ok() });
    }
    // The truth about an open is that its payload arrived.
    let listener = room.tcp(PUBLIC4)?;
    let model = room.model(&name, Content::Payload(&format!("tcp({})", listener.python())))?;
    let said = match way.does {
        Does::Opens(expression) => {
            let code = format!(
                "import errno, paths, ways\n\
                 opened = paths.attempt(lambda: {expression}, paths.ABSENT | {{errno.EPERM}})\n\
                 if opened is not None:\n  with os.fdopen(opened, 'rb') as file:\n    pickle.load(file)"
            );
            room.run_python(&code, &model)?
        }
        _ => {
            let python = room.python("pickle.load(os.fdopen(0, 'rb'))", &[]);
            room.run(under(&["sh", "-c", "exec \"$@\" < \"$MODEL\"", "sh"], &python).env("MODEL", &model))?
        }
    };
    let is_absent = said.what("skipped").is_ok();
    if !is_absent {
        listener.was_reached()?;
    }
    Ok(Taken { model, port: listener.port(), is_absent })
}

fn outcome(alerts: &Alerts, way: &Way, taken: &Taken) -> &'static str {
    if taken.is_absent {
        return NOT_HERE;
    }
    let of_model = alerts.filter(|alert| alert.text("/model/path") == taken.model.to_string_lossy());
    let those = match way.does {
        Does::Acts(code, kind, is) => {
            let those = of_model.kind(kind).filter(is);
            if code.contains("PORT") { those.port(taken.port) } else { those }
        }
        Does::Opens(_) | Does::Inherits => of_model.kind("connect").port(taken.port),
    };
    if those.0.is_empty() { LOST } else { SEEN }
}
