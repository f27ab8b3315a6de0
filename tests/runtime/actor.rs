//! A program that a case starts: what it says on its standard output, and its end, within a time limit.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;

/// Longest that any one step of an actor may take; an emulated machine is some ten times slower than a real one, and two
/// of them share two processors.
pub const STEP_LIMIT: Duration = Duration::from_secs(480);

pub struct Actor {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Vec<u8>>,
    said: Vec<Value>,
    stderr: JoinHandle<Vec<u8>>,
    command: String,
}

/// What an actor left behind.
#[derive(Debug)]
pub struct Finished {
    pub status: ExitStatus,
    /// Its standard output: JSON lines; others as strings.
    pub said: Vec<Value>,
    pub stderr: String,
    command: String,
}

impl Actor {
    pub fn start(command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("no stdout")?;
        let mut errors = child.stderr.take().context("no stderr")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let stderr = std::thread::spawn(move || {
            let mut text = Vec::new();
            // An error here leaves a shorter text, which is only shown to people.
            let _ = errors.read_to_end(&mut text);
            text
        });
        Ok(Self { child, stdin, lines, said: Vec::new(), stderr, command: format!("{command:?}") })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it says something that has the key `word`, or is that word.
    pub fn wait_said(&mut self, word: &str) -> Result<Value> {
        let deadline = Instant::now() + STEP_LIMIT;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    let value = parse(&line);
                    self.said.push(value.clone());
                    if value.get(word).is_some() || value == *word {
                        return Ok(value);
                    }
                }
                Err(RecvTimeoutError::Timeout) => bail!("{} did not say {word:?} in {STEP_LIMIT:?}", self.command),
                Err(RecvTimeoutError::Disconnected) => {
                    let said = self.said.clone();
                    let stderr = self.take_stderr();
                    bail!("{} ended without saying {word:?}; it said {said:?} and {stderr:?}", self.command)
                }
            }
        }
    }

    /// Gives it one line to read.
    pub fn tell(&mut self, line: &str) -> Result<()> {
        let stdin = self.stdin.as_mut().context("its input is closed")?;
        writeln!(stdin, "{line}").and_then(|()| stdin.flush()).with_context(|| format!("cannot tell {}", self.command))
    }

    /// Waits until it and everything that holds its output is gone.
    pub fn finish(mut self) -> Result<Finished> {
        drop(self.stdin.take());
        let deadline = Instant::now() + STEP_LIMIT;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.said.push(parse(&line)),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    self.kill();
                    bail!("{} had not ended after {STEP_LIMIT:?}; it said {:?}", self.command, self.said);
                }
            }
        }
        let status = self.child.wait()?;
        let stderr = self.take_stderr();
        Ok(Finished {
            status,
            said: std::mem::take(&mut self.said),
            stderr,
            command: std::mem::take(&mut self.command),
        })
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("its pid")?;
        kill_process(pid, signal).with_context(|| format!("cannot signal {}", self.command))
    }

    /// Kills it and its group.
    pub fn kill(&mut self) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // It may be gone already.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }

    fn take_stderr(&mut self) -> String {
        let thread = std::mem::replace(&mut self.stderr, std::thread::spawn(Vec::new));
        String::from_utf8_lossy(&thread.join().unwrap_or_default()).into_owned()
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        if self.is_running() {
            self.kill();
        }
    }
}

impl Finished {
    /// It ended with status 0.
    pub fn succeeded(self) -> Result<Self> {
        ensure!(self.status.success(), "{}: {}\nit said {:?}\n{}", self.command, self.status, self.said, self.stderr);
        Ok(self)
    }

    /// The line that has the key `word`.
    pub fn what(&self, word: &str) -> Result<&Value> {
        self.said.iter().find(|value| value.get(word).is_some()).with_context(|| {
            format!("{} did not say {word:?} but {:?}, and {:?}", self.command, self.said, self.stderr)
        })
    }
}

fn parse(line: &[u8]) -> Value {
    serde_json::from_slice(line).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(line).into_owned()))
}
