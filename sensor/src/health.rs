//! One sensor per host, and how it says that it is alive: instance lock, ready file, status socket, systemd.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use serde::Serialize;
use thiserror::Error;

use crate::watch::Sums;
use crate::watch::load::plan::Plan;

/// Where the running sensor is found.
pub const RUN_DIR: &str = "/run/sensor";
const LOCK: &str = "/run/sensor/sensor.lock";
const SOCKET: &str = "/run/sensor/sensor.sock";
/// How long a sensor that was killed may take to let go of the lock.
const DYING_MAX: Duration = Duration::from_secs(5);
/// Longest status that is read, bytes.
const STATUS_BYTES_MAX: u64 = 1 << 20;
/// How long `sensor status` waits for an answer.
const STATUS_WAIT: Duration = Duration::from_secs(5);

#[derive(Debug, Error)]
pub enum HealthError {
    #[error("another sensor runs on this host{0}; stop it first (`sensor status` shows it)")]
    SecondInstance(String),
    #[error("{path}: {error}. The sensor needs to write there")]
    File { path: PathBuf, error: io::Error },
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> HealthError {
    let path = path.to_owned();
    |error| HealthError::File { path, error }
}

/// Holds the host's one place for a sensor until it is dropped.
#[derive(Debug)]
pub struct Instance {
    _lock: File,
}

impl Instance {
    /// # Errors
    /// Another sensor has it, or the run directory can't be written.
    pub fn acquire() -> Result<Self, HealthError> {
        let dir = Path::new(RUN_DIR);
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(dir).map_err(at(dir))?;
        let path = Path::new(LOCK);
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)
            .map_err(at(path))?;
        let until = Instant::now() + DYING_MAX;
        while flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut pid = String::new();
            lock.rewind().map_err(at(path))?;
            let _ = (&mut lock).take(16).read_to_string(&mut pid);
            let holder = pid.trim().parse::<u32>().ok();
            let lives = holder.is_none_or(|pid| Path::new(&format!("/proc/{pid}/exe")).read_link().is_ok());
            if lives || Instant::now() > until {
                let pid = holder.map_or(String::new(), |pid| format!(" (pid {pid})"));
                return Err(HealthError::SecondInstance(pid));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        lock.set_len(0).map_err(at(path))?;
        writeln!(lock, "{}", std::process::id()).map_err(at(path))?;
        Ok(Self { _lock: lock })
    }

    /// The socket that `sensor status` asks at. Only the holder of the lock may call this.
    pub fn listen(&self) -> Result<std::os::unix::net::UnixListener, HealthError> {
        let path = Path::new(SOCKET);
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(path)(error)),
            _ => {}
        }
        let listener = std::os::unix::net::UnixListener::bind(path).map_err(at(path))?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(at(path))?;
        listener.set_nonblocking(true).map_err(at(path))?;
        Ok(listener)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(SOCKET);
    }
}

/// A file that exists while every hook of the plan is attached.
#[derive(Debug)]
pub struct ReadyFile {
    path: PathBuf,
}

impl ReadyFile {
    /// Removes what an earlier run left, and proves that it can be written when the time comes.
    pub fn claim(path: &Path) -> Result<Self, HealthError> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(path)(error)),
            _ => {}
        }
        let draft = draft_of(path);
        File::create_new(&draft).map_err(at(path))?;
        std::fs::remove_file(&draft).map_err(at(path))?;
        Ok(Self { path: path.to_owned() })
    }

    /// Appears whole or not at all.
    pub fn touch(&self) -> Result<(), HealthError> {
        let draft = draft_of(&self.path);
        let _ = std::fs::remove_file(&draft);
        let mut file = File::create_new(&draft).map_err(at(&self.path))?;
        writeln!(file, "{}", std::process::id()).map_err(at(&self.path))?;
        std::fs::rename(&draft, &self.path).map_err(at(&self.path))
    }
}

impl Drop for ReadyFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn draft_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    PathBuf::from(name)
}

/// Tells systemd, where it asked (sd_notify(3), `NOTIFY_SOCKET`).
pub fn notify_systemd(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let Ok(socket) = UnixDatagram::unbound() else { return };
    let name = path.as_encoded_bytes();
    let sent = if let Some(abstract_name) = name.strip_prefix(b"@") {
        use std::os::linux::net::SocketAddrExt;
        std::os::unix::net::SocketAddr::from_abstract_name(abstract_name)
            .and_then(|address| socket.send_to_addr(state.as_bytes(), &address))
    } else {
        socket.send_to(state.as_bytes(), &path)
    };
    if let Err(error) = sent {
        tracing::warn!(%error, "systemd could not be told");
    }
}

/// What the running sensor says of itself: `schemas/status.schema.json`.
#[derive(Debug, Serialize)]
pub struct Status<'a> {
    pub schema: &'static str,
    pub version: &'static str,
    pub pid: u32,
    pub uptime_s: u64,
    /// Why it sees less than this kind of host allows; empty where all is well.
    pub degraded: Vec<String>,
    pub plan: &'a Plan,
    /// How the children that read hostile bytes are locked in.
    pub confinement: Vec<String>,
    pub counts: Counts,
    /// Where most of the bytes went.
    pub sent: Vec<crate::watch::Sent>,
    /// What was not seen, per reason, since the start.
    pub losses: std::collections::BTreeMap<&'static str, u64>,
}

/// Sums since the start, and what is held now.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Counts {
    /// Records that the kernel half sent.
    pub records: u64,
    /// Records that could not be decoded.
    pub records_malformed: u64,
    pub alerts: u64,
    /// Alerts that a sink could not take.
    pub alerts_failed: u64,
    pub scans: u64,
    /// Models that are known now.
    pub models: usize,
    /// Acts that wait for a verdict now.
    pub waiting: usize,
    /// Bytes that processes with a load sent: what their connections carried, and datagrams whose length is known.
    pub bytes_sent: u64,
    #[serde(flatten)]
    pub sums: Sums,
}

/// The running sensor's status as it is sent, or why there is none.
pub fn ask() -> io::Result<String> {
    let socket = UnixStream::connect(SOCKET)?;
    socket.set_read_timeout(Some(STATUS_WAIT))?;
    let mut text = String::new();
    (&socket).take(STATUS_BYTES_MAX).read_to_string(&mut text)?;
    if text.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection without a word"));
    }
    Ok(text)
}
