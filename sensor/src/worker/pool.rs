//! Daemon side of the scans: files go in with [`ScanPool::submit`], answers come out of [`ScanPool::next`].
//!
//! Three lanes, one pair of children each: a first look (which format is it?) never waits for a full scan, and neither
//! waits for what nobody waits for ([`Line::Background`]). In a lane, cgroups take turns. Those of loads
//! stand ready; those of the background are started when there is something to do, and ended when there isn't.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sensor_abi::identity::{ContentStamp, InodeKey};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::cache::{Cache, Key};
use super::frame::FrameError;
use super::lane::{Budget, Lane, LaneConfig, Pair};
use super::queue::{FairQueue, QueueLimits};
use super::wire::{Confinement, Landlock, Mode, NotRead, ScanReport, Unscannable};

/// Verdicts that are remembered.
const CACHE_ENTRIES_MAX: usize = 4096;
/// Memory for them, bytes.
const CACHE_BYTES_MAX: usize = 2 << 20;
/// CPU time of one sniff, s; it reads 64 KiB.
const SNIFF_CPU_S: u64 = 2;

/// How the pool works.
#[derive(Debug, Clone)]
pub struct PoolConfig {
    /// This binary. `/proc/self/exe` is the running one, also after an upgrade.
    pub program: PathBuf,
    /// Wall time of one sniff.
    pub sniff_max: Duration,
    /// Wall time of one scan; the scanner gives up by itself after three quarters of it.
    pub scan_max: Duration,
    /// CPU time of one scan, s.
    pub scan_cpu_s: u64,
    /// Read files on network file systems and FUSE.
    pub read_remote: bool,
    /// Compute the SHA-256 of every file that is scanned whole: some rule asks for it.
    pub hash: bool,
    /// Of each lane.
    pub queue: QueueLimits,
    pub idle_max: Duration,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            program: "/proc/self/exe".into(),
            sniff_max: Duration::from_secs(5),
            scan_max: Duration::from_secs(120),
            scan_cpu_s: 60,
            read_remote: true,
            hash: false,
            queue: QueueLimits { per_cgroup_max: 128, urgent_max: 1_024, total_max: 2_048 },
            idle_max: Duration::from_secs(30),
        }
    }
}

/// One file to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The caller's, given back with the answer.
    pub tag: u64,
    pub mode: Mode,
    pub line: Line,
    /// Whose turn it takes.
    pub cgroup: u64,
    /// Who opened the file, and where it had it.
    pub pid: u32,
    pub fd: Option<u32>,
    /// As the opener's mount namespace sees it; empty where its beginning isn't known. Its last part is a hint to the
    /// scanner.
    pub path: Vec<u8>,
    pub inode: InodeKey,
    /// At the open.
    pub stamp: ContentStamp,
    /// No writer holds the file (`inode.i_writecount`): an earlier answer holds, and this one may be kept.
    pub cacheable: bool,
    /// `super_block.s_magic`, as the kernel half saw it; 0 where it isn't known. Given back with the answer.
    pub fs_magic: u64,
    /// Its name or place says that it may be a model. Given back with the answer.
    pub named: bool,
    /// It goes before others of its cgroup: somebody who has it acted, or it is gone with its process.
    pub urgent: bool,
}

/// What came of a [`Job`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub job: Job,
    pub answer: Answer,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Read(Read),
    /// Not the content's doing: the third row of the severity table.
    NotRead(NotRead),
    /// The content's doing: the second row.
    Unscannable(Unscannable),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    pub report: Arc<ScanReport>,
    /// The file isn't, or did not stay, what it was at the open. Its worst is to be believed, a clean word is not: the
    /// third row.
    pub changed: bool,
    /// The file system may show the loader other bytes than us: a clean word counts as the third row.
    pub remote: bool,
    pub cached: bool,
    /// What the file is called, where the job didn't say and it was found out.
    pub path: Vec<u8>,
}

/// How far the two children of a lane could lock themselves in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confinements {
    pub open: Confinement,
    pub scan: Confinement,
}

impl Confinements {
    /// Starts a pair of children, asks them, and ends them: for `sensor doctor`.
    pub async fn probe(program: &Path) -> Result<Self, FrameError> {
        let (pair, confinements) = Pair::start(program).await?;
        pair.stop().await;
        Ok(confinements)
    }

    /// One line a child.
    pub fn words(&self) -> Vec<String> {
        let say = |who: &str, how: Confinement| {
            let landlock = match how.landlock {
                Landlock::Full => "Landlock",
                Landlock::Partial => "Landlock in part (an older kernel)",
                Landlock::Absent => "no Landlock (not in this kernel, or not in its lsm=)",
                Landlock::NotForThisRole => "no Landlock (it has to look into other processes)",
            };
            let seccomp = if how.seccomp { "seccomp" } else { "no seccomp" };
            let capabilities =
                if how.capabilities { "only the capabilities that it needs" } else { "all capabilities" };
            format!("{who}: {landlock}, {seccomp}, {capabilities}")
        };
        vec![say("opener", self.open), say("scanner", self.scan)]
    }
}

/// From the lanes to [`ScanPool::next`].
#[derive(Debug)]
pub enum Event {
    Outcome(Outcome),
    Confirm { opener_pid: u32, expected: InodeKey, answer: oneshot::Sender<Option<bool>> },
}

/// What submitter and lanes share.
#[derive(Debug)]
pub struct Shared {
    first: Lined,
    scans: Lined,
    /// Sniffs and scans.
    background: Lined,
    cache: Mutex<Cache>,
    confinements: Mutex<Option<Confinements>>,
    pub shutdown: watch::Sender<bool>,
    /// The children of the first look were started, or could not be.
    pub stands_ready: watch::Sender<bool>,
}

/// Where a file waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// The first look, which has to be quick.
    First,
    /// Whole scans.
    Scans,
    /// Nobody waits for these: children of the lowest priority look at them, in either mode.
    Background,
}

/// A queue and the bell for it.
#[derive(Debug)]
struct Lined {
    queue: Mutex<FairQueue<Job>>,
    bell: Notify,
}

impl Lined {
    fn new(limits: QueueLimits) -> Self {
        Self { queue: Mutex::new(FairQueue::new(limits)), bell: Notify::new() }
    }
}

/// A panic while a lock was held leaves nothing half-done in these structures.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn line(&self, line: Line) -> &Lined {
        match line {
            Line::First => &self.first,
            Line::Scans => &self.scans,
            Line::Background => &self.background,
        }
    }

    /// Waits for the next file of a lane. Cancel-safe: what is taken out is returned in the same breath.
    pub async fn next_job(&self, line: Line) -> Job {
        let lane = self.line(line);
        loop {
            let rung = lane.bell.notified();
            if let Some(job) = lock(&lane.queue).pop() {
                return job;
            }
            rung.await;
        }
    }

    pub fn cached(&self, key: &Key) -> Option<Arc<ScanReport>> {
        lock(&self.cache).get(key)
    }

    pub fn keep(&self, key: Key, report: Arc<ScanReport>) {
        lock(&self.cache).insert(key, report);
    }

    /// Notes whether a cgroup's file ran into its deadline: such a cgroup waits behind all others in that lane.
    pub fn took_too_long(&self, job: &Job, did: bool) {
        lock(&self.line(job.line).queue).set_slow(job.cgroup, did);
    }

    pub fn set_confinements(&self, confinements: Confinements) {
        *lock(&self.confinements) = Some(confinements);
    }
}

/// The scans of the daemon. Lives in a tokio runtime whose thread outlives it (see [`super::spawn::Worker::spawn`]).
#[derive(Debug)]
pub struct ScanPool {
    shared: Arc<Shared>,
    events: mpsc::UnboundedReceiver<Event>,
    answers: mpsc::UnboundedSender<Event>,
    lanes: Vec<JoinHandle<()>>,
}

impl ScanPool {
    /// Starts the lanes.
    pub fn new(config: PoolConfig) -> Self {
        let (answers, events) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            first: Lined::new(config.queue),
            scans: Lined::new(config.queue),
            background: Lined::new(config.queue),
            cache: Mutex::new(Cache::new(CACHE_ENTRIES_MAX, CACHE_BYTES_MAX)),
            confinements: Mutex::new(None),
            shutdown: watch::Sender::new(false),
            stands_ready: watch::Sender::new(false),
        });
        let lanes = [Line::First, Line::Scans, Line::Background].map(|line| {
            let config = LaneConfig {
                program: config.program.clone(),
                line,
                sniff: Budget { wall: config.sniff_max, cpu_s: SNIFF_CPU_S },
                scan: Budget { wall: config.scan_max, cpu_s: config.scan_cpu_s },
                read_remote: config.read_remote,
                hash: config.hash,
                idle_max: config.idle_max,
            };
            tokio::spawn(Lane::new(config, Arc::clone(&shared), answers.clone()).run())
        });
        let lanes = lanes.into();
        Self { shared, events, answers, lanes }
    }

    /// Waits until somebody stands ready for the first look.
    pub async fn stand_ready(&self) {
        let _ = self.shared.stands_ready.subscribe().wait_for(|ready| *ready).await;
    }

    /// Takes a file in, and gives back one that has no place. Every other has exactly one [`Outcome`], at once where it is
    /// known already ([`Read::cached`]).
    #[must_use]
    pub fn submit(&mut self, job: Job) -> Option<Job> {
        if job.cacheable {
            let key = Key { identity: job.inode.into(), stamp: job.stamp.into(), mode: job.mode };
            if let Some(report) = self.shared.cached(&key) {
                let answer =
                    Answer::Read(Read { report, changed: false, remote: false, cached: true, path: Vec::new() });
                // The receiving end is a field of this very structure.
                let _ = self.answers.send(Event::Outcome(Outcome { job, answer }));
                return None;
            }
        }
        let lane = self.shared.line(job.line);
        let displaced = match job.urgent {
            true => lock(&lane.queue).push_urgent(job.cgroup, job),
            false => lock(&lane.queue).push(job.cgroup, job),
        };
        lane.bell.notify_one();
        displaced
    }

    /// Somebody acted who has this file: if it waits, it goes before others of its cgroup.
    pub fn hurry(&mut self, cgroup: u64, inode: InodeKey, stamp: ContentStamp) {
        for line in [Line::First, Line::Scans] {
            let mut queue = lock(&self.shared.line(line).queue);
            if let Some(job) = queue.hurry(cgroup, |job| (job.inode, job.stamp) == (inode, stamp)) {
                job.urgent = true;
            }
        }
    }

    /// The next answer; waits where there is none, for ever if nothing was submitted. Cancel-safe.
    ///
    /// It has to be polled for scans to go on: meanwhile it passes the opener's questions to `confirm(opener's pid,
    /// expected inode)`, which tells from the record of our own open hook whether the opener just opened that inode;
    /// `None` where there is no record. Records of earlier opens must not stand in for a missing one: whoever keeps
    /// them removes each as it is asked for.
    pub async fn next(&mut self, mut confirm: impl FnMut(u32, &InodeKey) -> Option<bool>) -> Outcome {
        loop {
            match self.events.recv().await {
                Some(Event::Outcome(outcome)) => return outcome,
                Some(Event::Confirm { opener_pid, expected, answer }) => {
                    // Where nobody waits any more, the deadline passed.
                    let _ = answer.send(confirm(opener_pid, &expected));
                }
                // Can't be: this structure holds a sender.
                None => std::future::pending().await,
            }
        }
    }

    /// How far the last children could lock themselves in; `None` before the first were started.
    pub fn confinements(&self) -> Option<Confinements> {
        *lock(&self.shared.confinements)
    }

    /// Kills and reaps every child. Files that were waiting have no outcome.
    pub async fn shutdown(mut self) {
        self.shared.shutdown.send_replace(true);
        for lane in std::mem::take(&mut self.lanes) {
            let _ = lane.await;
        }
    }
}

impl Drop for ScanPool {
    /// Without [`Self::shutdown`]: the children are killed, and reaped when the runtime gets to it.
    fn drop(&mut self) {
        self.shared.shutdown.send_replace(true);
    }
}
