//! Between the watch and the workers: its questions as their jobs, their answers as its words.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sensor_abi::name::is_hub_code;
use tokio::sync::{Notify, mpsc};

use crate::event::{ContentClass, ModelFinding, Verdict};
use crate::watch::record::Argv;
use crate::watch::{Look, TICK_NS, Told, Word};
use crate::worker::child::locate::is_network;
use crate::worker::pool::{Answer, Job, Line, Outcome};
use crate::worker::process::{ProcessReader, Seen};
use crate::worker::queue::{FairQueue, QueueLimits};
use crate::worker::wire::{self, Content, Mode, NotRead, Unscannable};

/// The scanner's format of what no reader accepts.
const OTHER: &str = "other";

/// How the name of a compiled Python program ends.
const COMPILED: &[u8] = b".pyc";

/// How long all processes of one look may take to be read.
const PROCESSES_MAX: Duration = Duration::from_secs(5);

/// A file that isn't larger is read whole at the first look. What a process has in its memory alone may be gone with it
/// before a second.
const SMALL_BYTES: u64 = 64 << 10;

/// The first look at a file: which format is it?
pub fn first(look: Look, tag: u64, line: Line, urgent: bool) -> Job {
    Job {
        tag,
        mode: if look.stamp.size <= SMALL_BYTES { Mode::Full } else { Mode::Sniff },
        line,
        cgroup: look.cgroup,
        pid: look.opener,
        fd: look.fd,
        path: look.path,
        inode: look.inode.into(),
        stamp: look.stamp,
        cacheable: look.cacheable,
        fs_magic: look.fs_magic,
        named: look.named,
        urgent,
    }
}

/// What is to be looked at by a job that found no place.
pub fn again(job: Job) -> Look {
    Look {
        inode: job.inode.into(),
        stamp: job.stamp,
        path: job.path,
        opener: job.pid,
        fd: job.fd,
        cgroup: job.cgroup,
        cacheable: job.cacheable,
        fs_magic: job.fs_magic,
        named: job.named,
    }
}

/// The answer in the watch's words, and the job that follows it.
pub fn word(outcome: Outcome) -> (Word, Option<Job>) {
    let Outcome { mut job, answer } = outcome;
    match answer {
        Answer::Read(read) => {
            if job.path.is_empty() {
                job.path.clone_from(&read.path);
            }
            // Where the loader may have read other bytes than the scanner, its good word is worth nothing; its bad one is.
            let unsure = read.changed || read.remote || !job.cacheable;
            let class = match read.report.content {
                // A program is no model's content, but this one is what the model runs. A compiled one was imported before,
                // and its source looked at then; what isn't a program at all is judged as what it is.
                Content::NotModel | Content::Unknown if is_hub_code(&job.path) => {
                    if job.path.ends_with(COMPILED) {
                        let title = "not read: it is compiled Python, and the scanner reads its source".to_owned();
                        let finding = ModelFinding { id: "SNS-903".into(), severity: "info".into(), title };
                        return (Word::NotRead { finding, is_lost: false }, None);
                    }
                    ContentClass::Code
                }
                Content::Code => ContentClass::Code,
                Content::Data => ContentClass::Data,
                // Nothing but its content could have said so, and doesn't.
                Content::NotModel | Content::Unknown if !job.named => return (Word::NotModel, None),
                // Only its name says model, and no reader accepts it: the content decides.
                Content::Unknown if read.report.format != OTHER => ContentClass::Unknown,
                // A file server of the cluster shows everybody the same text; a FUSE server shows whom it likes what it likes.
                Content::NotModel | Content::Unknown
                    if read.changed || !job.cacheable || (read.remote && !is_network(job.fs_magic)) =>
                {
                    return (Word::NotRead { finding: not_read(NotRead::Swapped), is_lost: read.changed }, None);
                }
                Content::NotModel | Content::Unknown => return (Word::NotModel, None),
            };
            let format = Some(read.report.format.clone());
            let Some(verdict) = read.report.verdict else {
                let line = if job.line == Line::Background { job.line } else { Line::Scans };
                let full = Job { mode: Mode::Full, line, ..job };
                // Data that could be code by now is judged as code until the whole word is there.
                let class = if unsure { ContentClass::Code } else { class };
                return (Word::Sniffed { class, format }, Some(full));
            };
            let (class, verdict) = match verdict {
                wire::Verdict::Clean if unsure => (ContentClass::Code, Verdict::NotRead),
                wire::Verdict::Clean => (class, Verdict::Clean),
                wire::Verdict::Suspicious => (class, Verdict::Suspicious),
                wire::Verdict::Malicious => (class, Verdict::Malicious),
                wire::Verdict::Unscannable => (class, Verdict::Unscannable),
            };
            let findings = read.report.findings.clone();
            // Of bytes that may not be the loader's, a hash proves nothing.
            let sha256 = read.report.sha256.clone().filter(|_| !unsure);
            (
                Word::Judged {
                    class,
                    format,
                    verdict,
                    findings,
                    all_globals_safe: read.report.all_globals_safe,
                    sha256,
                    is_another: read.changed,
                },
                None,
            )
        }
        Answer::NotRead(reason) => {
            let is_lost = matches!(reason, NotRead::Gone | NotRead::Swapped);
            (Word::NotRead { finding: not_read(reason), is_lost }, None)
        }
        Answer::Unscannable(reason) => {
            let judged = Word::Judged {
                class: ContentClass::Unknown,
                format: None,
                verdict: Verdict::Unscannable,
                findings: vec![unscannable(reason)],
                all_globals_safe: false,
                sha256: None,
                is_another: false,
            };
            (judged, None)
        }
    }
}

fn not_read(reason: NotRead) -> ModelFinding {
    let (id, why) = match reason {
        NotRead::Gone => ("SNS-903", "it was closed, and no path that is known leads to it"),
        NotRead::Swapped => ("SNS-903", "another file stands in its place"),
        NotRead::NotRegular => ("SNS-903", "no regular file stands in its place"),
        NotRead::Remote => ("SNS-903", "it is on a network file system, which the configuration says not to read"),
        NotRead::Denied => ("SNS-903", "the kernel refused to open it"),
        NotRead::TimedOut => ("SNS-905", "it took too long"),
        NotRead::Overflow => ("SNS-901", "too many files waited"),
        NotRead::WorkerFailed => ("SNS-903", "the scanner could not be started"),
    };
    ModelFinding { id: id.into(), severity: "info".into(), title: format!("not read: {why}") }
}

fn unscannable(reason: Unscannable) -> ModelFinding {
    let (id, why) = match reason {
        Unscannable::Died => ("SNS-901", "the scanner ran out of memory or crashed on it"),
        Unscannable::CpuTime => ("SNS-905", "it used up the scanner's time"),
        Unscannable::BadAnswer => ("SNS-903", "the scanner's answer made no sense"),
    };
    ModelFinding { id: id.into(), severity: "info".into(), title: format!("not read to the end: {why}") }
}

/// What the process worker was asked, and what it said.
#[derive(Debug)]
pub enum Reply {
    Told(Told),
    /// There is no answer to wait for.
    Gone(u32),
}

/// Processes that wait to be read, in all and of one cgroup. One that finds no place is shown as far as it is known.
const QUESTIONS: QueueLimits = QueueLimits { per_cgroup_max: 512, urgent_max: 0, total_max: 2_048 };
/// A process that takes longer doesn't want to be read: its cgroup is served last from then on.
const PROCESS_SLOW: Duration = Duration::from_millis(250);
/// Answers on their way to the loop; the reader waits for it.
const REPLIES_MAX: usize = 256;

/// Where the loop leaves its questions about processes: cgroups take turns.
#[derive(Debug, Clone)]
pub struct Questions {
    shared: Arc<Lined>,
}

/// For whom a process is asked about, and which: a queue of them and the bell for it.
#[derive(Debug)]
struct Lined {
    queue: Mutex<FairQueue<(u64, u32)>>,
    bell: Notify,
}

impl Questions {
    fn new() -> Self {
        Self { shared: Arc::new(Lined { queue: Mutex::new(FairQueue::new(QUESTIONS)), bell: Notify::new() }) }
    }

    /// Asks about `pids`, for a process of `cgroup`. Gives back those that had no place.
    #[must_use]
    pub fn ask(&self, cgroup: u64, pids: Vec<u32>) -> Vec<u32> {
        let mut queue = self.queue();
        let displaced = pids.into_iter().filter_map(|pid| queue.push(cgroup, (cgroup, pid))).map(|(_, pid)| pid);
        let displaced = displaced.collect();
        self.shared.bell.notify_one();
        displaced
    }

    fn queue(&self) -> MutexGuard<'_, FairQueue<(u64, u32)>> {
        self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next process, and for whom it is read; waits where there is none.
    async fn next(&self) -> (u64, u32) {
        loop {
            let question = self.queue().pop();
            if let Some(question) = question {
                return question;
            }
            self.shared.bell.notified().await;
        }
    }
}

/// Reads processes in a task of its own, so that a process that won't be read holds nobody up. It starts with all of
/// them; ends with the receiver.
pub fn read_processes() -> (Questions, mpsc::Receiver<Reply>) {
    let questions = Questions::new();
    let asked = questions.clone();
    let (reply, replies) = mpsc::channel(REPLIES_MAX);
    tokio::spawn(async move {
        let mut reader = ProcessReader::new(PathBuf::from("/proc/self/exe"), PROCESSES_MAX);
        match reader.seed().await {
            Ok(mut seed) => {
                if seed.unread + seed.omitted > 0 {
                    tracing::warn!(seed.unread, seed.omitted, "processes that could not be read at the start");
                }
                // Parents first.
                seed.processes.sort_by_key(|seen| seen.listed.start_ticks);
                for seen in seed.processes {
                    let _ = reply.send(Reply::Told(told(seen))).await;
                }
            }
            Err(error) => tracing::warn!("the processes that run already could not be read: {error}"),
        }
        loop {
            let (cgroup, pid) = tokio::select! {
                question = asked.next() => question,
                () = reply.closed() => break,
            };
            let begun = Instant::now();
            match reader.lookup(&[pid]).await {
                Ok(seen) => {
                    for seen in seen {
                        let _ = reply.send(Reply::Told(told(seen))).await;
                    }
                }
                Err(error) => tracing::warn!("a process could not be read: {error}"),
            }
            asked.queue().set_slow(cgroup, begun.elapsed() > PROCESS_SLOW);
            let _ = reply.send(Reply::Gone(pid)).await;
        }
        reader.stop().await;
    });
    (questions, replies)
}

fn told(seen: Seen) -> Told {
    let start_ticks = seen.start_boottime_ns() / TICK_NS;
    let (exe, argv, script_is_roots) = match seen.details {
        Some(details) => (details.exe.0, Argv::split(&details.argv.0, details.argv_truncated), details.script_is_roots),
        None => (Vec::new(), Argv::default(), false),
    };
    let (parent_tgid, uid) = (seen.listed.ppid, seen.listed.uid);
    Told { tgid: seen.listed.pid, start_ticks, parent_tgid, uid, exe, argv, script_is_roots }
}
