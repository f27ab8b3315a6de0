//! What the demo plays on: a folder, two network namespaces with a cable between them, and a janitor who clears up.
//!
//! The namespaces have no name: the kernel removes them, and the cable, with the last process in them. So nothing is
//! left behind, whatever ends the demo.

use std::fs;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::tool::run;

/// TEST-NET-3 (RFC 5737): routed nowhere, and counted as public by the sensor.
pub const LISTENER: &str = "203.0.113.80";
pub const PORT: &str = "443";
const LOADER: &str = "203.0.113.7";
const NAMESPACE_LIMIT: Duration = Duration::from_secs(10);

pub struct Stage {
    pub folder: PathBuf,
    janitor: Child,
    diary: Option<ChildStdin>,
}

impl Stage {
    pub fn new() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("sensor-demo-{}", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&folder).with_context(|| folder.display().to_string())?;
        let mut janitor = Command::new("sh")
            .args(["-c", include_str!("janitor.sh"), "janitor"])
            .arg(&folder)
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .context("sh")?;
        let diary = janitor.stdin.take();
        Ok(Self { folder, janitor, diary })
    }

    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.folder.join(name);
        fs::write(&path, text)?;
        Ok(path)
    }

    pub fn start(&mut self, command: &mut Command) -> Result<Child> {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().with_context(|| format!("{name} could not be started"))?;
        self.note("start", &child)?;
        Ok(child)
    }

    /// Waits for a child that was started here.
    pub fn wait(&mut self, mut child: Child) -> Result<ExitStatus> {
        // Told first: afterwards the number may be another process's.
        self.note("end", &child)?;
        Ok(child.wait()?)
    }

    fn note(&mut self, what: &str, child: &Child) -> Result<()> {
        let diary = self.diary.as_mut().context("the janitor has no standard input")?;
        Ok(writeln!(diary, "{what} {}", child.id())?)
    }

    /// Starts a program in a network namespace of its own; it has to wait for a line on its standard input.
    pub fn apart(&mut self, words: &[&str]) -> Result<Child> {
        let mut unshare = Command::new("unshare");
        unshare.args(["--net", "--"]).args(words).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = self.start(&mut unshare)?;
        let ours = fs::read_link("/proc/self/ns/net")?;
        let started = Instant::now();
        while fs::read_link(format!("/proc/{}/ns/net", child.id())).is_ok_and(|theirs| theirs == ours) {
            if child.try_wait()?.is_some() || started.elapsed() > NAMESPACE_LIMIT {
                bail!("no network namespace could be made: `unshare --net` failed");
            }
            sleep(Duration::from_millis(5));
        }
        Ok(child)
    }

    /// Lays the cable and gives both ends their address.
    pub fn connect(&self, listener: &Child, loader: &Child) -> Result<()> {
        let (listener, loader) = (listener.id().to_string(), loader.id().to_string());
        run(Command::new("ip")
            .args(["link", "add", "name", "cable", "netns", &listener, "type", "veth"])
            .args(["peer", "name", "cable", "netns", &loader]))
        .context("no pair of interfaces (veth) could be made")?;
        for (pid, address) in [(&listener, LISTENER), (&loader, LOADER)] {
            let inside =
                |words: &[&str]| run(Command::new("nsenter").args(["--target", pid, "--net", "--", "ip"]).args(words));
            inside(&["address", "add", &format!("{address}/24"), "dev", "cable"])?;
            inside(&["link", "set", "cable", "up"])?;
            inside(&["link", "set", "lo", "up"])?;
        }
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Its end is the janitor's sign.
        self.diary = None;
        let _ = self.janitor.wait();
    }
}
