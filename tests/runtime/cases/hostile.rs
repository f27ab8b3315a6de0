//! Files that are made to hang, fool or garble: no hang (the last load is still seen), the right file, valid JSON.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::process::Signal;

use crate::actor::Actor;
use crate::alert::Alerts;
use crate::daemon::{self, Daemon};
use crate::harness::{CONFIG, Case};
use crate::lab::{Listener, Room};
use crate::model::Content;
use crate::namespace::PUBLIC4;

/// Size of the sparse file.
const TERABYTE: u64 = 1 << 40;
/// Length of the long path: what open(2) takes, less what the temporary folder's name may vary by.
const LONG_PATH_BYTES: usize = 4_000;

/// A component of the long path: an escape sequence that clears a terminal, quotes, a newline, bytes that are no UTF-8, a
/// right-to-left override.
const UGLY: &[u8] = b"\x1b[2J\"'\\\n\t\x07\xff\xfe\xe2\x80\xae%s\x7f\xc2\x9b31m {}\r";

pub fn cases() -> Vec<Case> {
    vec![
        Case::shared("hostile::fifo", |room| {
            let path = room.dir.join("model.pt");
            mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
            no_model(room, path, "os.open(MODEL, os.O_RDONLY | os.O_NONBLOCK)")
        }),
        Case::shared("hostile::device", |room| {
            let path = room.dir.join("model.pt");
            mknodat(CWD, &path, FileType::CharacterDevice, Mode::from_raw_mode(0o600), makedev(1, 5))?;
            no_model(room, path, "os.read(os.open(MODEL, os.O_RDONLY), 16)")
        }),
        Case::shared("hostile::sparse_terabyte", |room| {
            let listener = room.tcp(PUBLIC4)?;
            let model = room.model("model.pt", Content::Payload(&format!("tcp({})", listener.python())))?;
            OpenOptions::new().write(true).open(&model)?.set_len(TERABYTE).context("a sparse terabyte")?;
            room.run_python("load()", &model)?;
            listener.was_reached()?;
            let port = listener.port();
            Ok(move |alerts: &Alerts| {
                let acts = alerts.kind("connect").port(port);
                let alert = acts.last("a load of a sparse terabyte")?;
                alert.names(&model)?.is("/model/verdict", "malicious")?.is("/severity", "critical")?;
                alert.is("/model/size", TERABYTE)?;
                Ok(())
            })
        }),
        Case::shared("hostile::a_link_is_swapped", |room| {
            let listener = room.tcp(PUBLIC4)?;
            let model = swap_on_open(room, &listener)?;
            room.run_python(&format!("{LINK}{SWAP}"), &model)?;
            listener.was_reached()?;
            let path = room.dir.join("malicious.pkl");
            // The loader is gone at once, and nothing leads to the file any more but the name that its opener saw.
            Ok(move |alerts: &Alerts| {
                let acts = alerts.kind("connect").port(listener.port());
                let alert = acts.last("a load of a file that was swapped")?;
                alert.names(&path)?;
                ensure!(alert.text("/model/verdict") != "clean", "the other file was scanned:\n{}", alert.line);
                Ok(())
            })
        }),
        Case::alone("hostile::what_was_opened_is_scanned_and_not_what_has_its_name", |room| {
            let daemon = Daemon::start(&room.dir.join("daemon"), CONFIG)?;
            for (make, swap, name) in [
                (LINK, SWAP, "malicious.pkl"),
                ("os.rename('malicious.pkl', MODEL)\nos.link('innocent.pkl', 'other')\n", SWAP, "model.pkl"),
                ("os.rename('malicious.pkl', MODEL)\n", REMOVE, "model.pkl"),
            ] {
                let listener = room.tcp(PUBLIC4)?;
                let model = swap_on_open(room, &listener)?;
                let mut loader = Actor::start(&mut room.python(&format!("{make}{swap}  go()\n"), &[&model]))?;
                loader.wait_said("waiting")?;
                listener.was_reached()?;
                // The loader keeps it open, as one does that goes on to load.
                let alert = daemon.wait_for("a load of a file that is no longer there", |alert| {
                    alert.text("/event/kind") == "connect" && alert.at("/event/port") == listener.port()
                })?;
                let path = room.dir.join(name);
                let path = path.to_str().context("text")?;
                ensure!(alert.text("/model/path").starts_with(path), "another path than {path}:\n{}", alert.line);
                alert.is("/model/verdict", "malicious")?.is("/severity", "critical")?;
                loader.tell("go")?;
                loader.finish()?.succeeded()?;
                std::fs::remove_file(&model).or_else(|error| match error.kind() {
                    std::io::ErrorKind::NotFound => Ok(()),
                    _ => Err(error),
                })?;
            }
            daemon.stop(Signal::TERM)?;
            Ok(())
        }),
        Case::shared("hostile::long_ugly_path", |room| {
            let listener = room.tcp(PUBLIC4)?;
            let path = ugly_path(room, LONG_PATH_BYTES)?;
            room.write_at(&path, Content::Payload(&format!("tcp({})", listener.python())))?;
            room.run_python("load()", &path)?;
            listener.was_reached()?;
            let port = listener.port();
            Ok(move |alerts: &Alerts| {
                let acts = alerts.kind("connect").port(port);
                let alert = acts.last("a load by a long path")?;
                alert.is("/model/path_b64", STANDARD.encode(path.as_os_str().as_bytes()))?;
                alert.is("/model/path", String::from_utf8_lossy(path.as_os_str().as_bytes()).as_ref())?;
                alert.is("/model/verdict", "malicious")?.is("/severity", "critical")?;
                Ok(())
            })
        }),
        Case::alone("hostile::a_terminal_shows_an_ugly_path_safely", |room| {
            let listener = room.tcp(PUBLIC4)?;
            let path = ugly_path(room, 400)?;
            room.write_at(&path, Content::Payload(&format!("tcp({})", listener.python())))?;
            let (mut command, ready_file) = daemon::command(&room.dir.join("daemon"), CONFIG)?;
            command.args(["--output", "human"]);
            let mut sensor = Actor::start(&mut command)?;
            daemon::wait_for_file(&ready_file, || sensor.is_running())?;
            room.run_python("load()", &path)?;
            listener.was_reached()?;
            sensor.signal(Signal::TERM)?;
            let shown = sensor.finish()?.succeeded()?;
            let text: Vec<&str> = shown.said.iter().filter_map(|line| line.as_str()).collect();
            let text = text.join("\n");
            ensure!(text.contains(PUBLIC4) && text.contains("model.pkl"), "the connection is not shown:\n{text}");
            let unsafe_char = |c: char| {
                (c.is_control() && c != '\n') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            };
            ensure!(!text.contains(unsafe_char), "control or bidi characters: {text:?}");
            Ok(())
        }),
    ]
}

/// Opens what is no regular file, and acts: that is no load.
fn no_model(room: &Room<'_>, path: PathBuf, open: &str) -> Result<impl FnOnce(&Alerts) -> Result<()> + use<>> {
    let listener = room.tcp(PUBLIC4)?;
    room.run_python(&format!("{open}\ntcp({})", listener.python()), &path)?;
    listener.was_reached()?;
    let dir = room.dir.display().to_string();
    Ok(move |alerts: &Alerts| alerts.about(&dir, &[listener.port()]).none("no file was loaded"))
}

/// `MODEL` is a link to the malicious file; `other` one to the innocent one.
const LINK: &str = "os.symlink('malicious.pkl', MODEL)\nos.symlink('innocent.pkl', 'other')\n";
/// `MODEL` is opened, and `other` put into its place before it is read.
const SWAP: &str = "with open(MODEL, 'rb') as file:\n  os.replace('other', MODEL)\n  pickle.load(file)\n";
/// `MODEL` is opened, and removed before it is read.
const REMOVE: &str = "with open(MODEL, 'rb') as file:\n  os.unlink(MODEL)\n  pickle.load(file)\n";

/// Makes `malicious.pkl`, which connects to `listener`, and `innocent.pkl`; gives the path that they take turns at.
fn swap_on_open(room: &Room<'_>, listener: &Listener) -> Result<PathBuf> {
    room.model("malicious.pkl", Content::Payload(&format!("tcp({})", listener.python())))?;
    room.model("innocent.pkl", Content::CleanPickle)?;
    Ok(room.dir.join("model.pkl"))
}

/// A path of ugly folders, about `len` bytes long, with a pickle's name at its end. The folders are made.
fn ugly_path(room: &Room<'_>, len: usize) -> Result<PathBuf> {
    const LEAF: &[u8] = b"model.pkl";
    /// Longest name on common file systems (NAME_MAX).
    const NAME_BYTES_MAX: usize = 255;
    let mut path = room.dir.as_os_str().as_bytes().to_vec();
    while path.len() + 1 + LEAF.len() < len {
        let room_left = (len - path.len() - 2 - LEAF.len()).clamp(1, NAME_BYTES_MAX);
        path.push(b'/');
        path.extend(UGLY.iter().cycle().take(room_left));
    }
    let dir = PathBuf::from(OsStr::from_bytes(&path));
    std::fs::create_dir_all(&dir).context("folders with ugly names")?;
    Ok(dir.join(OsStr::from_bytes(LEAF)))
}
