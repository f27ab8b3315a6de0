//! One lane of the pool: one opener and one scanner, one file at a time.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sensor_abi::name::is_hub_code;
use sensor_abi::record::PATH_BYTES_MAX;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::cache::Key;
use super::frame::{self, FrameError};
use super::pool::{Answer, Confinements, Event, Job, Line, Outcome, Read, Shared};
use super::spawn::{Role, Worker};
use super::wire::{FromOpener, FromScanner, Mode, NotRead, OpenRequest, Opened, Raw, ToOpener, ToScanner, Unscannable};

/// Finding and opening a file; only a file system that never answers takes longer.
const OPEN_MAX: Duration = Duration::from_secs(5);
/// Places that may claim to hold one file; each costs the daemon a question.
const CANDIDATES_MAX: usize = 16;
/// Waits between starts that fail, doubled each time. A child that a file killed is replaced at once: its content cost
/// its own cgroup a turn, and others must not wait for that.
const START_RETRY_MIN: Duration = Duration::from_millis(100);
const START_RETRY_MAX: Duration = Duration::from_secs(10);

/// What one file may take.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    pub wall: Duration,
    /// CPU time of the scanner, s.
    pub cpu_s: u64,
}

/// What a lane is told once.
#[derive(Debug, Clone)]
pub struct LaneConfig {
    pub program: PathBuf,
    pub line: Line,
    pub sniff: Budget,
    pub scan: Budget,
    pub read_remote: bool,
    /// See [`super::pool::PoolConfig::hash`].
    pub hash: bool,
    /// Children of the background that had nothing to do for so long are ended; the next file starts new ones.
    pub idle_max: Duration,
}

impl LaneConfig {
    fn budget(&self, mode: Mode) -> Budget {
        match (self.line, mode) {
            (Line::First, _) | (_, Mode::Sniff) => self.sniff,
            (_, Mode::Full) => self.scan,
        }
    }
}

/// The two children of a lane. They live and die together: a descriptor on its way between them belongs to one file.
#[derive(Debug)]
pub struct Pair {
    opener: Worker,
    scanner: Worker,
}

impl Pair {
    pub async fn start(program: &Path) -> Result<(Self, Confinements), FrameError> {
        let (to_scanner, from_opener) = std::os::unix::net::UnixStream::pair()?;
        let mut opener = Worker::spawn(program, Role::Open, Some(to_scanner.into())).map_err(FrameError::Io)?;
        let mut scanner = Worker::spawn(program, Role::Scan, Some(from_opener.into())).map_err(FrameError::Io)?;
        let confinements =
            Confinements { open: opener.hello(Role::Open).await?, scan: scanner.hello(Role::Scan).await? };
        Ok((Self { opener, scanner }, confinements))
    }

    fn ended(&mut self) -> bool {
        self.opener.ended() || self.scanner.ended()
    }

    fn make_way(&self) {
        self.opener.make_way();
        self.scanner.make_way();
    }

    pub async fn stop(self) {
        self.scanner.stop().await;
        self.opener.stop().await;
    }
}

/// Why a pair has to be replaced, and how far the file had come.
#[derive(Debug)]
enum Fault {
    TimedOut,
    /// Its content was not touched yet.
    Opening(FrameError),
    Scanning(FrameError),
}

pub struct Lane {
    pub config: LaneConfig,
    pub shared: Arc<Shared>,
    pub events: mpsc::UnboundedSender<Event>,
    pair: Option<Pair>,
    failed_starts: u32,
    next_id: u64,
}

impl Lane {
    pub fn new(config: LaneConfig, shared: Arc<Shared>, events: mpsc::UnboundedSender<Event>) -> Self {
        Self { config, shared, events, pair: None, failed_starts: 0, next_id: 0 }
    }

    /// Serves the lane's queue until the pool shuts down; then kills and reaps the children.
    pub async fn run(mut self) {
        let mut shutdown = self.shared.shutdown.subscribe();
        tokio::select! {
            () = self.serve() => {}
            _ = shutdown.wait_for(|down| *down) => {}
        }
        self.stop().await;
    }

    async fn serve(&mut self) {
        loop {
            // What is only in the memory of its process is gone with it: who looks at it stands ready.
            if self.config.line != Line::Background {
                self.start().await;
            }
            if self.config.line == Line::First {
                self.shared.stands_ready.send_replace(true);
            }
            let Ok(job) = timeout(self.config.idle_max, self.shared.next_job(self.config.line)).await else {
                if self.config.line == Line::Background {
                    self.stop().await;
                }
                continue;
            };
            let answer = self.answer(&job).await;
            if self.events.send(Event::Outcome(Outcome { job, answer })).is_err() {
                return;
            }
        }
    }

    async fn stop(&mut self) {
        if let Some(pair) = self.pair.take() {
            pair.stop().await;
        }
    }

    async fn answer(&mut self, job: &Job) -> Answer {
        let key = Key { identity: job.inode.into(), stamp: job.stamp.into(), mode: job.mode };
        if job.cacheable {
            // An equal file may have been answered for while this one waited.
            if let Some(report) = self.shared.cached(&key) {
                return Answer::Read(Read { report, changed: false, remote: false, cached: true, path: Vec::new() });
            }
        }
        if !self.start().await {
            return Answer::NotRead(NotRead::WorkerFailed);
        }
        let Some(pair) = self.pair.as_mut() else { return Answer::NotRead(NotRead::WorkerFailed) };
        self.next_id += 1;
        let attempt = Attempt { id: self.next_id, job, config: &self.config, events: &self.events };
        let answer = match attempt.run(pair).await {
            Ok(answer) => answer,
            Err(fault) => self.post_mortem(fault).await,
        };
        self.shared.took_too_long(job, answer == Answer::NotRead(NotRead::TimedOut));
        if let Answer::Read(read) = &answer
            && job.cacheable
            && !read.changed
            && !read.remote
        {
            self.shared.keep(key, Arc::clone(&read.report));
        }
        answer
    }

    /// Sees to it that there is a pair of living children.
    async fn start(&mut self) -> bool {
        if self.pair.as_mut().is_some_and(Pair::ended) {
            self.stop().await;
        }
        if self.pair.is_some() {
            return true;
        }
        match Pair::start(&self.config.program).await {
            Ok((pair, confinements)) => {
                self.failed_starts = 0;
                if self.config.line == Line::Background {
                    pair.make_way();
                }
                self.shared.set_confinements(confinements);
                self.pair = Some(pair);
                true
            }
            Err(error) => {
                tracing::warn!(%error, "a scan worker did not start");
                sleep((START_RETRY_MIN * 2u32.saturating_pow(self.failed_starts)).min(START_RETRY_MAX)).await;
                self.failed_starts = (self.failed_starts + 1).min(16);
                false
            }
        }
    }

    /// Why did it fail? Ends what is left of the pair.
    async fn post_mortem(&mut self, fault: Fault) -> Answer {
        let Some(Pair { opener, scanner }) = self.pair.take() else { return Answer::NotRead(NotRead::WorkerFailed) };
        opener.stop().await;
        let answer = match &fault {
            Fault::Scanning(FrameError::Closed | FrameError::Io(_)) => {
                let signal = scanner.reap().await.and_then(|status| status.signal());
                let by_cpu_time = signal == Some(libc::SIGXCPU);
                Answer::Unscannable(if by_cpu_time { Unscannable::CpuTime } else { Unscannable::Died })
            }
            fault => {
                scanner.stop().await;
                match fault {
                    Fault::TimedOut => Answer::NotRead(NotRead::TimedOut),
                    Fault::Opening(error) => {
                        tracing::warn!(%error, "an opener failed");
                        Answer::NotRead(NotRead::WorkerFailed)
                    }
                    Fault::Scanning(error) => {
                        tracing::warn!(%error, "a scanner's answer made no sense");
                        Answer::Unscannable(Unscannable::BadAnswer)
                    }
                }
            }
        };
        tracing::info!(?answer, "scan workers are replaced");
        answer
    }
}

/// One file on its way through a pair.
struct Attempt<'a> {
    id: u64,
    job: &'a Job,
    config: &'a LaneConfig,
    events: &'a mpsc::UnboundedSender<Event>,
}

impl Attempt<'_> {
    async fn run(&self, pair: &mut Pair) -> Result<Answer, Fault> {
        let budget = self.config.budget(self.job.mode);
        let open_max = OPEN_MAX.min(budget.wall);
        let opened = match timeout(open_max, self.open(pair)).await.map_err(|_| Fault::TimedOut)? {
            Ok(Ok(opened)) => opened,
            Ok(Err(reason)) => return Ok(Answer::NotRead(reason)),
            Err(error) => return Err(Fault::Opening(error)),
        };
        let scanned = timeout(budget.wall, self.scan(pair, opened, budget)).await.map_err(|_| Fault::TimedOut)?;
        scanned.map_err(Fault::Scanning)
    }

    /// Has the opener find the file, and confirms it.
    async fn open(&self, pair: &mut Pair) -> Result<Result<Opened, NotRead>, FrameError> {
        let opener = &mut pair.opener;
        let request = OpenRequest {
            id: self.id,
            pid: self.job.pid,
            fd: self.job.fd,
            path: Raw(self.job.path.clone()),
            identity: self.job.inode.into(),
            stamp: self.job.stamp.into(),
            read_remote: self.config.read_remote,
        };
        frame::send(&mut opener.channel, &ToOpener::Open(request)).await?;
        for _ in 0..CANDIDATES_MAX {
            let opened = match frame::receive(&mut opener.channel).await? {
                FromOpener::NotOpened { id, reason } if id == self.id => return Ok(Err(reason)),
                FromOpener::Opened(opened) if opened.id == self.id => opened,
                _ => return Err(FrameError::Invalid("an answer about another file")),
            };
            if opened.path.0.len() > PATH_BYTES_MAX {
                return Err(FrameError::Invalid("a path"));
            }
            if !self.is_the_one(opener.pid, &opened).await {
                frame::send(&mut opener.channel, &ToOpener::Refuse { id: self.id }).await?;
                continue;
            }
            frame::send(&mut opener.channel, &ToOpener::Proceed { id: self.id }).await?;
            return match frame::receive(&mut opener.channel).await? {
                FromOpener::Passed { id } if id == self.id => Ok(Ok(opened)),
                _ => Err(FrameError::Invalid("the file was not passed on")),
            };
        }
        Err(FrameError::Invalid("too many candidates"))
    }

    /// Is what the opener opened the file that the process opened? Our own hook's record of our own open decides;
    /// without one, number, device, size and change time have to agree.
    async fn is_the_one(&self, opener_pid: u32, opened: &Opened) -> bool {
        let (answer, answered) = oneshot::channel();
        let question = Event::Confirm { opener_pid, expected: self.job.inode, answer };
        let confirmed = if self.events.send(question).is_ok() { answered.await.unwrap_or(None) } else { None };
        confirmed.unwrap_or(opened.device_agrees && opened.stamp == self.job.stamp.into())
    }

    async fn scan(&self, pair: &mut Pair, opened: Opened, budget: Budget) -> Result<Answer, FrameError> {
        let path = if self.job.path.is_empty() { &opened.path.0 } else { &self.job.path };
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let request = ToScanner::Scan {
            id: self.id,
            mode: self.job.mode,
            hash: self.config.hash && self.job.mode == Mode::Full,
            name: Raw(name.to_vec()),
            models_code: is_hub_code(path),
            // It should give up by itself before it is killed: then there is a report of what it saw so far.
            time_ms: u64::try_from(budget.wall.as_millis()).unwrap_or(u64::MAX) / 4 * 3,
            cpu_s: budget.cpu_s,
        };
        frame::send(&mut pair.scanner.channel, &request).await?;
        match frame::receive(&mut pair.scanner.channel).await? {
            FromScanner::Done { id, before, after, report } if id == self.id => {
                report.check(self.job.mode)?;
                let expected = self.job.stamp.into();
                let changed = before != expected || after != expected;
                let Opened { remote, path, .. } = opened;
                Ok(Answer::Read(Read { report: Arc::new(report), changed, remote, cached: false, path: path.0 }))
            }
            _ => Err(FrameError::Invalid("an answer about another file")),
        }
    }
}
