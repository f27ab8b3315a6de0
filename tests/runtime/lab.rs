//! What all cases share (an interpreter, a writer of model files, ports), and a room for each of them.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;

use crate::actor::{Actor, Finished, STEP_LIMIT};
use crate::helper::SENT;
use crate::model::{Content, Writer};
use crate::schema::Schema;

/// First port that is given to a listener: below the ephemeral range, each is given once.
const FIRST_PORT: u16 = 20_000;

/// The binary under test.
pub const SENSOR: &str = env!("CARGO_BIN_EXE_sensor");

/// Begins the name of every run's folder; this run's process id follows.
const FOLDER: &str = "sensor-runtime-";

/// What this run's folder is to be named.
pub fn folder_prefix() -> String {
    format!("{FOLDER}{}-", std::process::id())
}

/// Does a path lead into the folder of another run of these tests?
pub fn is_of_another_run(path: &str) -> bool {
    path.contains(FOLDER) && !path.contains(&folder_prefix())
}

/// The binary under test, with none of the variables that would configure it.
pub fn sensor() -> Command {
    without_settings(Command::new(SENSOR))
}

/// A command whose process has no variable that the sensor could take for its own.
pub fn without_settings(mut command: Command) -> Command {
    for (variable, _) in std::env::vars_os() {
        if variable.as_encoded_bytes().starts_with(b"SENSOR_") {
            command.env_remove(variable);
        }
    }
    command
}

pub struct Lab {
    pub dir: PathBuf,
    /// The real interpreter, no version manager's shim.
    pub python: PathBuf,
    /// This binary, as a program that is no Python.
    pub helper: PathBuf,
    writer: Writer,
    libraries: OnceLock<Result<Libraries, String>>,
    next_port: AtomicU16,
    /// What `sensor doctor` says that this host doesn't see, one hook's words each.
    lost: Vec<String>,
}

impl Lab {
    pub fn new(dir: &Path) -> Result<Self> {
        let python = python()?;
        let writer = Writer::start(&python, &scripts().join("payload.py"))?;
        let helper = std::env::current_exe().context("this binary's own path")?;
        let next_port = AtomicU16::new(FIRST_PORT);
        Ok(Self { dir: dir.to_owned(), python, helper, writer, libraries: OnceLock::new(), next_port, lost: lost()? })
    }

    /// The Python that has the libraries of machine learning.
    pub fn libraries(&self) -> Result<&Libraries> {
        self.libraries
            .get_or_init(|| Libraries::find().map_err(|error| format!("{error:#}")))
            .as_ref()
            .map_err(|error| anyhow!("{error}"))
    }

    /// Does `sensor doctor` say, in these words, that something isn't seen here?
    pub fn loses(&self, words: &str) -> bool {
        self.lost.iter().any(|lost| lost.contains(words))
    }

    /// A folder and a record for the case `name`.
    pub fn room(&self, name: &str) -> Result<Room<'_>> {
        let folder: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let dir = self.dir.join(folder);
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(Room { lab: self, dir, ports: Mutex::default() })
    }
}

/// A Python with the libraries whose loads are shown.
pub struct Libraries {
    pub python: PathBuf,
}

impl Libraries {
    /// `SENSOR_TEST_PYTHON`, else the distribution's.
    fn find() -> Result<Self> {
        let python = std::env::var_os("SENSOR_TEST_PYTHON").map_or("/usr/bin/python3".into(), PathBuf::from);
        let output = Command::new(&python).args(["-c", "import torch, sklearn, joblib, numpy, h5py"]).output()?;
        ensure!(
            output.status.success(),
            "{} has not all of torch, sklearn, joblib, numpy, h5py (`cargo xtask setup --for test`): {}",
            python.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(Self { python })
    }

    /// Writes a model as they do. A process of its own each time: what it has mapped is hundreds of files that every
    /// sensor which starts beside it has to look at.
    fn write(&self, path: &Path, content: Content<'_>) -> Result<()> {
        Writer::start(&self.python, &scripts().join("libraries.py"))?.write(path, content)
    }
}

/// Runs `sensor ARGUMENTS --format json` and holds its output to a schema.
pub fn json_output(arguments: &[&str], schema: &str) -> Result<Value> {
    let output = sensor().args(arguments).args(["--format", "json"]).output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "sensor {arguments:?}: {}\n{error}", output.status);
    Schema::named(schema)?.read(&String::from_utf8(output.stdout)?)
}

/// How the hook `event` is attached on this machine, as `doctor` says; empty where it isn't.
pub fn rung(event: &str) -> Result<String> {
    let hook = hooks()?.iter().find(|hook| hook["event"] == event).with_context(|| format!("no hook {event}"))?;
    Ok(hook["rung"].as_str().unwrap_or_default().to_owned())
}

fn lost() -> Result<Vec<String>> {
    Ok(hooks()?.iter().filter_map(|hook| Some(hook["lost"].as_str()?.to_owned())).collect())
}

/// The hooks that `sensor doctor` names. Asked once: it loads and attaches every one of them.
fn hooks() -> Result<&'static [Value]> {
    static TOLD: OnceLock<Value> = OnceLock::new();
    if TOLD.get().is_none() {
        let told = json_output(&["doctor"], "doctor")?;
        let _ = TOLD.set(told);
    }
    let hooks = TOLD.get().and_then(|told| told["hooks"].as_array()).context("doctor names its hooks")?;
    Ok(hooks)
}

/// Where the Python files of these tests are.
pub fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/runtime")
}

/// `SENSOR_TEST_PYTHON`, else the `python3` of the path, behind version managers.
fn python() -> Result<PathBuf> {
    let name = std::env::var_os("SENSOR_TEST_PYTHON").unwrap_or_else(|| "python3".into());
    let output = Command::new(&name)
        .args(["-c", "import os; print(os.readlink('/proc/self/exe'))"])
        .output()
        .with_context(|| format!("cannot run {name:?}: install Python 3"))?;
    ensure!(output.status.success(), "{name:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim_end()))
}

/// A case's folder and ports: by them its alerts are told from others'.
pub struct Room<'a> {
    pub lab: &'a Lab,
    pub dir: PathBuf,
    ports: Mutex<Vec<u16>>,
}

impl Room<'_> {
    /// Writes a model file and gives its path.
    pub fn model(&self, name: &str, content: Content<'_>) -> Result<PathBuf> {
        let path = self.dir.join(name);
        self.write_at(&path, content)?;
        Ok(path)
    }

    pub fn write_at(&self, path: &Path, content: Content<'_>) -> Result<()> {
        match content {
            Content::By(..) => self.lab.libraries()?.write(path, content),
            _ => self.lab.writer.write(path, content),
        }
    }

    pub fn port(&self) -> u16 {
        let port = self.lab.next_port.fetch_add(1, Ordering::Relaxed);
        self.ports.lock().unwrap_or_else(PoisonError::into_inner).push(port);
        port
    }

    /// Ports that only this case uses.
    pub fn ports(&self) -> Vec<u16> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn tcp(&self, host: &str) -> Result<Listener> {
        let address = SocketAddr::new(host.parse()?, self.port());
        let socket = TcpListener::bind(address).with_context(|| format!("cannot listen at {address}"))?;
        socket.set_nonblocking(true)?;
        Ok(Listener { address, socket: Socket::Tcp(socket) })
    }

    pub fn udp(&self, host: &str) -> Result<Listener> {
        let address = SocketAddr::new(host.parse()?, self.port());
        let socket = UdpSocket::bind(address).with_context(|| format!("cannot listen at {address}"))?;
        socket.set_nonblocking(true)?;
        Ok(Listener { address, socket: Socket::Udp(socket) })
    }

    /// A Python that runs `code` with everything of `acts.py` in scope; its arguments begin with the model's path.
    pub fn python(&self, code: &str, arguments: &[&Path]) -> Command {
        self.python_of(&self.lab.python, code, arguments)
    }

    /// The same by another interpreter.
    pub fn python_of(&self, python: &Path, code: &str, arguments: &[&Path]) -> Command {
        let mut command = Command::new(python);
        command.arg("-c").arg(format!("from acts import *\n{code}")).args(arguments).current_dir(&self.dir);
        command.env("PYTHONPATH", scripts()).env("PYTHONDONTWRITEBYTECODE", "1").env_remove("PYTHONSTARTUP");
        command.env("SENSOR_TEST_HELPER", &self.lab.helper);
        command
    }

    /// Runs such a Python to its end; it has to succeed.
    pub fn run_python(&self, code: &str, model: &Path) -> Result<Finished> {
        self.run(&mut self.python(code, &[model]))
    }

    /// Runs a command to its end; it has to succeed.
    pub fn run(&self, command: &mut Command) -> Result<Finished> {
        Actor::start(command)?.finish()?.succeeded()
    }
}

/// The truth about the network: what arrived.
pub struct Listener {
    pub address: SocketAddr,
    socket: Socket,
}

enum Socket {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

impl Listener {
    /// As a Python call's arguments: `"203.0.113.7", 20001`.
    pub fn python(&self) -> String {
        format!("{:?}, {}", self.address.ip().to_string(), self.address.port())
    }

    pub fn host(&self) -> String {
        self.address.ip().to_string()
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Something connected here and sent what an act sends.
    pub fn was_reached(&self) -> Result<()> {
        let bytes = self.received(SENT.len())?;
        ensure!(bytes == SENT, "{bytes:?} arrived at {}", self.address);
        Ok(())
    }

    /// What arrived, which is so many bytes or more.
    pub fn received(&self, len_min: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let deadline = Instant::now() + STEP_LIMIT;
        while bytes.len() < len_min {
            match self.take(&mut bytes) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(error) => bail!("nothing arrived at {}: {error}", self.address),
            }
        }
        Ok(bytes)
    }

    fn take(&self, into: &mut Vec<u8>) -> std::io::Result<()> {
        use std::io::Read;
        match &self.socket {
            Socket::Tcp(listener) => {
                let (mut connection, _) = listener.accept()?;
                connection.set_nonblocking(false)?;
                connection.set_read_timeout(Some(STEP_LIMIT))?;
                connection.read_to_end(into).map(|_| ())
            }
            Socket::Udp(socket) => {
                let mut bytes = [0; 64];
                let (len, _) = socket.recv_from(&mut bytes)?;
                into.extend_from_slice(&bytes[..len]);
                Ok(())
            }
        }
    }
}
