//! One `sensor run`: started with a configuration of its own, its alerts collected, stopped by a signal.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

use crate::actor::STEP_LIMIT;
use crate::alert::{self, Alert, Alerts};
use crate::lab;
use crate::schema::Schema;

/// What its two outputs said so far.
#[derive(Default)]
struct Heard {
    alerts: Alerts,
    /// Lines that are no alert by the schema, and why.
    faults: Vec<String>,
    stderr: String,
    ended: bool,
}

#[derive(Default)]
struct Ear {
    heard: Mutex<Heard>,
    news: Condvar,
}

pub struct Daemon {
    child: Child,
    pub ready_file: PathBuf,
    ear: Arc<Ear>,
    threads: Vec<JoinHandle<()>>,
}

/// What a daemon left behind.
pub struct Stopped {
    pub status: ExitStatus,
    pub alerts: Alerts,
    pub stderr: String,
}

/// `sensor run` with the configuration `config`, its files in `dir`.
pub fn command(dir: &Path, config: &str) -> Result<(Command, PathBuf)> {
    std::fs::create_dir_all(dir)?;
    let config_file = dir.join("sensor.toml");
    std::fs::write(&config_file, config)?;
    let ready_file = dir.join("ready");
    let mut command = lab::sensor();
    command.arg("run").arg("--config").arg(config_file).arg("--ready-file").arg(&ready_file);
    Ok((command, ready_file))
}

impl Daemon {
    /// Starts it and waits until every hook is attached.
    pub fn start(dir: &Path, config: &str) -> Result<Self> {
        let (mut command, ready_file) = command(dir, config)?;
        Self::start_as(&mut command, ready_file)
    }

    /// The same, by a command that [`command`] began.
    pub fn start_as(command: &mut Command, ready_file: PathBuf) -> Result<Self> {
        let mut daemon = Self::spawn(command.args(["--output", "jsonl"]), ready_file)?;
        daemon.wait_ready()?;
        Ok(daemon)
    }

    fn spawn(command: &mut Command, ready_file: PathBuf) -> Result<Self> {
        let schema = Schema::named("alert")?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        #[expect(unsafe_code, reason = "runs between fork and exec")]
        // SAFETY: one prctl(2), which is async-signal-safe. (No daemon stays behind when the tests are killed.)
        unsafe {
            command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::TERM))?));
        }
        let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let stdout = child.stdout.take().context("no stdout")?;
        let stderr = child.stderr.take().context("no stderr")?;
        let ear = Arc::new(Ear::default());
        let threads = vec![
            std::thread::spawn({
                let ear = Arc::clone(&ear);
                move || ear.hear_alerts(stdout, &schema)
            }),
            std::thread::spawn({
                let ear = Arc::clone(&ear);
                move || ear.hear_errors(stderr)
            }),
        ];
        Ok(Self { child, ready_file, ear, threads })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn wait_ready(&mut self) -> Result<()> {
        let child = &mut self.child;
        let ready = wait_for_file(&self.ready_file, || matches!(child.try_wait(), Ok(None)));
        ready.with_context(|| format!("sensor run: {}", self.stderr()))
    }

    /// Waits for an alert.
    pub fn wait_for(&self, what: &str, wanted: impl Fn(&Alert) -> bool) -> Result<Alert> {
        let deadline = Instant::now() + STEP_LIMIT;
        let mut heard = self.ear.lock();
        loop {
            if let Some(alert) = heard.alerts.0.iter().find(|alert| wanted(alert)) {
                return Ok(alert.clone());
            }
            ensure!(!heard.ended, "sensor run ended while it was to say: {what}\n{}", heard.stderr);
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let last: Vec<&str> = heard.alerts.0.iter().rev().take(20).map(|alert| alert.line.as_str()).collect();
                bail!("no alert in {STEP_LIMIT:?}: {what}; the last ones:\n{}\n{}", last.join("\n"), heard.stderr);
            }
            heard = self.ear.news.wait_timeout(heard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("its pid")?;
        kill_process(pid, signal).context("cannot signal sensor run")
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Signals it and waits for its end; every line that it printed has to be an alert by the schema.
    pub fn stop(mut self, signal: Signal) -> Result<Stopped> {
        self.signal(signal)?;
        let deadline = Instant::now() + STEP_LIMIT;
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            ensure!(Instant::now() < deadline, "sensor run had not ended {STEP_LIMIT:?} after the signal");
            std::thread::sleep(Duration::from_millis(10));
        };
        for thread in self.threads.drain(..) {
            thread.join().map_err(|_| anyhow::anyhow!("a reader of the output panicked"))?;
        }
        let heard = std::mem::take(&mut *self.ear.lock());
        ensure!(heard.faults.is_empty(), "lines that are no alert:\n{}", heard.faults.join("\n"));
        Ok(Stopped { status, alerts: heard.alerts, stderr: heard.stderr })
    }

    /// What it said so far.
    pub fn alerts(&self) -> Alerts {
        self.ear.lock().alerts.clone()
    }

    pub fn stderr(&self) -> String {
        self.ear.lock().stderr.clone()
    }
}

/// Waits until a daemon has written its ready file.
pub fn wait_for_file(ready_file: &Path, mut runs: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + STEP_LIMIT;
    while !ready_file.exists() {
        ensure!(runs(), "it ended before it was ready");
        ensure!(Instant::now() < deadline, "it was not ready after {STEP_LIMIT:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ear {
    fn lock(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear_alerts(&self, stdout: impl Read, schema: &Schema) {
        for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
            let read = alert::read(&line, schema);
            let mut heard = self.lock();
            match read {
                Ok(alert) if alert.is_of_a_stranger() => {}
                Ok(alert) => heard.alerts.0.push(alert),
                Err(error) => heard.faults.push(format!("{error:#}")),
            }
            self.news.notify_all();
        }
        self.lock().ended = true;
        self.news.notify_all();
    }

    fn hear_errors(&self, stderr: impl Read) {
        for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
            let mut heard = self.lock();
            heard.stderr.push_str(&String::from_utf8_lossy(&line));
            heard.stderr.push('\n');
        }
    }
}
