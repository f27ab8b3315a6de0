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
use crate::daemon;
use crate::harness::{CONFIG, Case};
use crate::lab::Room;
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
            // The link leads to an innocent file as soon as the malicious one is open.
            swapped(room, "os.symlink('innocent.pkl', 'other')", "os.symlink('malicious.pkl', MODEL)", "malicious.pkl")
        }),
        Case::shared("hostile::the_file_is_replaced", |room| {
            let (innocent, malicious) = ("os.link('innocent.pkl', 'other')", "os.rename('malicious.pkl', MODEL)");
            swapped(room, innocent, malicious, "model.pkl")
        }),
        Case::shared("hostile::the_file_is_removed", |room| {
            let listener = room.tcp(PUBLIC4)?;
            let model = room.model("model.pkl", Content::Payload(&format!("tcp({})", listener.python())))?;
            room.run_python("with open(MODEL, 'rb') as file:\n  os.unlink(MODEL)\n  pickle.load(file)", &model)?;
            listener.was_reached()?;
            let port = listener.port();
            Ok(move |alerts: &Alerts| {
                let acts = alerts.kind("connect").port(port);
                let alert = acts.last("a load of a removed file")?;
                ensure!(alert.text("/model/path").contains("/model.pkl"), "another path:\n{}", alert.line);
                Ok(())
            })
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

/// `MODEL` is made by `malicious`, opened, and replaced by `other`, which `innocent` made, before it is read.
fn swapped(
    room: &Room<'_>,
    innocent: &str,
    malicious: &str,
    name: &'static str,
) -> Result<impl FnOnce(&Alerts) -> Result<()> + use<>> {
    let listener = room.tcp(PUBLIC4)?;
    room.model("malicious.pkl", Content::Payload(&format!("tcp({})", listener.python())))?;
    room.model("innocent.pkl", Content::CleanPickle)?;
    let model = room.dir.join("model.pkl");
    let load = "with open(MODEL, 'rb') as file:\n  os.replace('other', MODEL)\n  pickle.load(file)";
    room.run_python(&format!("{innocent}\n{malicious}\n{load}"), &model)?;
    listener.was_reached()?;
    let dir = room.dir.clone();
    Ok(move |alerts: &Alerts| {
        let acts = alerts.kind("connect").port(listener.port());
        let alert = acts.last("a load of a file that was swapped")?;
        let path = alert.text("/model/path");
        ensure!(path.starts_with(dir.join(name).to_str().context("text")?), "another path:\n{}", alert.line);
        alert.is("/model/verdict", "malicious")?.is("/severity", "critical")?;
        Ok(())
    })
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
