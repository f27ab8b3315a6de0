//! Daemon side of the process reader: what runs on this machine, however much it would rather not be looked at.
//!
//! `/proc/PID/cmdline` is the process's own memory; it can lie on a file system that never answers. So each process has
//! [`STEP_MAX`] to be read; a reader that takes longer is killed, that one process stays unknown, and another reader
//! goes on behind it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use super::frame::{self, FrameError};
use super::spawn::{Role, Worker};
use super::wire::{Details, FromReader, Listed, PIDS_MAX, ToReader};

/// Between two frames: a process that keeps its reader waiting longer is given up.
const STEP_MAX: Duration = Duration::from_millis(500);
/// Processes taken from one listing; a reader that sends more is broken.
const LISTED_MAX: usize = 65_536;

/// One process, as far as it let itself be read.
///
/// `listed.start_ticks` is all that /proc tells of its start: compare a kernel's figure in ticks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub listed: Listed,
    /// `None`: it ended meanwhile, or could not be read in time.
    pub details: Option<Details>,
}

impl Seen {
    /// Start since boot, ns, rounded down to a clock tick (10 ms).
    pub fn start_boottime_ns(&self) -> u64 {
        let ns = u128::from(self.listed.start_ticks) * 1_000_000_000 / u128::from(self.listed.ticks_per_s.max(1));
        u64::try_from(ns).unwrap_or(u64::MAX)
    }
}

/// What a look at all processes brought.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seed {
    pub processes: Vec<Seen>,
    /// Processes whose executable and arguments could not be read in time.
    pub unread: u64,
    /// Processes beyond the limit, not listed at all.
    pub omitted: u64,
}

/// Reads processes through a child that it starts when needed and kills when it is stuck.
#[derive(Debug)]
pub struct ProcessReader {
    program: PathBuf,
    total_max: Duration,
    worker: Option<Worker>,
}

impl ProcessReader {
    /// `program`: this binary (`/proc/self/exe`). `total_max`: for one call, all stuck processes together.
    pub fn new(program: impl Into<PathBuf>, total_max: Duration) -> Self {
        Self { program: program.into(), total_max, worker: None }
    }

    /// All processes. Errors: the reader can't be started or speaks nonsense; what it said before that is lost.
    pub async fn seed(&mut self) -> Result<Seed, FrameError> {
        let until = Instant::now() + self.total_max;
        let (listed, omitted) = self.list(until).await?;
        let pids: Vec<u32> = listed.iter().map(|process| process.pid).collect();
        let (mut read, unread) = self.read(&pids, until).await?;
        // Where nothing was read, the list still tells who its parent is.
        let processes = listed
            .into_iter()
            .map(|listed| read.remove(&listed.pid).unwrap_or(Seen { listed, details: None }))
            .collect();
        Ok(Seed { processes, unread, omitted })
    }

    /// These processes. One that isn't in the answer is gone, or was not reached in time.
    pub async fn lookup(&mut self, pids: &[u32]) -> Result<Vec<Seen>, FrameError> {
        let (read, _) = self.read(pids, Instant::now() + self.total_max).await?;
        Ok(read.into_values().collect())
    }

    /// Ends the child.
    pub async fn stop(&mut self) {
        if let Some(worker) = self.worker.take() {
            worker.stop().await;
        }
    }

    async fn list(&mut self, until: Instant) -> Result<(Vec<Listed>, u64), FrameError> {
        let worker = self.worker().await?;
        let listing = async {
            frame::send(&mut worker.channel, &ToReader::List).await?;
            let mut listed = Vec::new();
            loop {
                match frame::receive(&mut worker.channel).await? {
                    FromReader::Listed(process) if listed.len() < LISTED_MAX => listed.push(process),
                    FromReader::End { omitted } => return Ok((listed, omitted)),
                    _ => return Err(FrameError::Invalid("no part of a list")),
                }
            }
        };
        let listed = timeout_at(until, listing).await.unwrap_or(Err(FrameError::Invalid("no list in time")));
        if listed.is_err() {
            self.stop().await;
        }
        listed
    }

    async fn read(&mut self, pids: &[u32], until: Instant) -> Result<(HashMap<u32, Seen>, u64), FrameError> {
        let mut seen = HashMap::new();
        let (mut unread, mut rest) = (0, pids);
        while !rest.is_empty() && Instant::now() < until {
            let chunk = &rest[..rest.len().min(PIDS_MAX)];
            let worker = self.worker().await?;
            let (answered, ended) = read_some(worker, chunk, &mut seen, until).await;
            rest = &rest[answered..];
            match ended {
                Ok(()) => {}
                Err(Ended::Stuck) => {
                    self.stop().await;
                    unread += 1;
                    rest = rest.get(1..).unwrap_or_default();
                }
                Err(Ended::Broken(error)) => {
                    self.stop().await;
                    return Err(error);
                }
            }
        }
        Ok((seen, unread + rest.len() as u64))
    }

    async fn worker(&mut self) -> Result<&mut Worker, FrameError> {
        if self.worker.as_mut().is_some_and(Worker::ended) {
            self.worker = None;
        }
        if self.worker.is_none() {
            let mut worker = Worker::spawn(&self.program, Role::Process, None).map_err(FrameError::Io)?;
            worker.hello(Role::Process).await?;
            self.worker = Some(worker);
        }
        self.worker.as_mut().ok_or(FrameError::Closed)
    }
}

enum Ended {
    /// It waits for the process behind the last one that it answered for.
    Stuck,
    Broken(FrameError),
}

/// Asks for `pids` and takes what comes; how many were answered for, and how it ended.
async fn read_some(
    worker: &mut Worker,
    pids: &[u32],
    seen: &mut HashMap<u32, Seen>,
    until: Instant,
) -> (usize, Result<(), Ended>) {
    let request = ToReader::Read { pids: pids.to_vec() };
    let mut answered = 0;
    match timeout(STEP_MAX, frame::send(&mut worker.channel, &request)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return (0, Err(Ended::Broken(error))),
        Err(_) => return (0, Err(Ended::Stuck)),
    }
    loop {
        let step = (Instant::now() + STEP_MAX).min(until);
        let said = match timeout_at(step, frame::receive(&mut worker.channel)).await {
            Ok(Ok(said)) => said,
            Ok(Err(error)) => return (answered, Err(Ended::Broken(error))),
            Err(_) => return (answered, Err(Ended::Stuck)),
        };
        match (said, pids.get(answered)) {
            (FromReader::Listed(listed), Some(pid)) if listed.pid == *pid => {
                seen.insert(*pid, Seen { listed, details: None });
            }
            (FromReader::Read(read), Some(pid)) if read.pid == *pid => {
                if let Some(process) = seen.get_mut(pid).filter(|p| p.listed.start_ticks == read.start_ticks) {
                    process.details = Some(read);
                }
                answered += 1;
            }
            (FromReader::Gone { pid: gone }, Some(pid)) if gone == *pid => answered += 1,
            (FromReader::End { omitted: 0 }, None) => return (answered, Ok(())),
            _ => return (answered, Err(Ended::Broken(FrameError::Invalid("not the process that was asked for")))),
        }
    }
}
