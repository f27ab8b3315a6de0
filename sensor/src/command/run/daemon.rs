//! The daemon's one loop: everything that can happen, in one place.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::time::{ClockId, clock_gettime};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::backlog::Backlog;
use super::looks::{self, Questions, Reply};
use crate::alert::{Alert, Host};
use crate::config::settings::{Settings, Target};
use crate::event::{Loss, Role};
use crate::health::{self, Counts, Instance, ReadyFile, Status};
use crate::heap;
use crate::judge::Judge;
use crate::policy::{Policy, formats};
use crate::sink::{Output, Sink, file, stdout};
use crate::watch::load::plan::BestRung;
use crate::watch::load::{Reading, Tables, Wishes};
use crate::watch::record::Executable;
use crate::watch::{Ask, Decide, Deciders, Keeping, Look, Network, Put, Wanted, Watch, boottime_ns};
use crate::worker::child::locate::is_local;
use crate::worker::pool::{Answer, Job, Line, Outcome, PoolConfig, ScanPool};
use crate::worker::wire::NotRead;

/// How often time alone is looked at: losses, counts that are due, the wall clock.
const TICK: Duration = Duration::from_secs(1);
/// How long what is queued may take to leave at the end.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// Destinations that a status names.
const SENT_SHOWN_MAX: usize = 32;
/// How long somebody who asks for the status may take to read it.
const STATUS_WAIT: Duration = Duration::from_secs(2);

/// How long the start waits for the children that look at files.
const STAND_READY_MAX: Duration = Duration::from_secs(2);

/// In the run directory: what the models of kept marks are.
const MODELS: &str = "models.jsonl";

/// What the daemon starts with.
#[derive(Debug)]
pub struct Setup {
    /// Of the kernel, begun as early as can be.
    pub reading: Reading,
    pub settings: Settings,
    pub policy: Arc<Policy>,
    pub instance: Instance,
    pub ready: Option<ReadyFile>,
    pub best_rung: BestRung,
    pub marks_max: Option<u32>,
    /// Folder of the BPF file system where marks and links are kept.
    pub pin_dir: PathBuf,
}

/// What the loop works on.
struct Daemon {
    watch: Watch,
    pool: ScanPool,
    backlog: Backlog,
    processes: Questions,
    judge: Judge,
    sinks: Vec<Sink>,
    started: Instant,
    alerts: u64,
    scans: u64,
    looks: u64,
    /// Files that claim to be models, that somebody acted on, and that found no place with the scanner.
    unread: u64,
    unread_told: u64,
}

pub async fn run(setup: Setup) -> anyhow::Result<ExitCode> {
    let Setup { reading, settings, policy, instance, ready, best_rung, marks_max, pin_dir } = setup;
    let mut seldom = seldom(UnixListener::from_std(instance.listen()?)?)?;
    let mut sinks = Vec::new();
    for sink in &settings.sinks {
        let output = match &sink.target {
            Target::Stdout => Output::Stdout(stdout::Stdout::new()),
            Target::File(path) => {
                let file = file::File::new(path);
                Output::File(file.with_context(|| format!("the alert file {} can't be opened", path.display()))?)
            }
        };
        sinks.push(Sink::new(output, sink.shape, sink.min_severity)?);
    }
    let host = Host::read().context("this host's name and boot id can't be read")?;
    let tables = Tables {
        suffixes: formats::suffixes().map_err(anyhow::Error::msg)?,
        names: policy.files().names(),
        carriers: policy.programs().carriers(),
    };
    let wishes = Wishes {
        candidates_per_s: settings.limits.candidates_per_s,
        load_window_ns: u64::try_from(settings.limits.load_window.as_nanos())?,
        quiet_opens: !policy.tells_clean_opens(),
        best_rung,
        marks_max,
    };
    // Beside the loading, which takes as long: who runs already is known when the first alert is written.
    let (processes, mut replies) = looks::read_processes();
    let (scan_wait, deciders) = (settings.scan_wait, deciders(&policy));
    let network = Network::new(settings.network.resolvers.clone(), settings.network.hosts.clone());
    let keeping = Keeping { pins: pin_dir, models: Path::new(health::RUN_DIR).join(MODELS) };
    let started = tokio::task::spawn_blocking(move || {
        Watch::start(reading, wishes, &tables, scan_wait, network, deciders, &keeping)
    });
    let (watch, mut own_opens) = started.await??;
    heap::give_back();
    say_plan(&watch);
    let rules = policy.rules().len();
    let exceptions = policy.exceptions_len();
    let mut daemon = Daemon {
        watch,
        pool: ScanPool::new(PoolConfig { hash: policy.wants_sha256(), ..PoolConfig::default() }),
        backlog: Backlog::new(),
        processes,
        judge: Judge::new(policy, host),
        sinks,
        started: Instant::now(),
        alerts: 0,
        scans: 0,
        looks: 0,
        unread: 0,
        unread_told: 0,
    };
    let _ = tokio::time::timeout(STAND_READY_MAX, daemon.pool.stand_ready()).await;
    if let Some(ready) = &ready {
        ready.touch().inspect_err(|_| daemon.watch.detach())?;
    }
    tracing::info!(rules, exceptions, sinks = settings.sinks.len(), "watching");
    health::notify_systemd("READY=1");

    let mut tick_at = Instant::now();
    let mut more = false;
    let mut alarm = std::pin::pin!(tokio::time::sleep_until(tick_at.into()));
    let code = loop {
        let wake_at = daemon.watch.next_due().map_or(tick_at, |due| tick_at.min(Instant::now() + due));
        // Setting it is as much work as many an event.
        if alarm.deadline() != wake_at.into() {
            alarm.as_mut().reset(wake_at.into());
        }
        tokio::select! {
            biased;
            Some(event) = seldom.recv() => match event {
                Seldom::End(code) => break code,
                Seldom::Status(stream) => daemon.say_status(stream),
            },
            outcome = daemon.pool.next(|tgid, expected| own_opens.confirm(tgid, expected)) => daemon.looked(outcome),
            Some(reply) = replies.recv() => daemon.replied(reply),
            () = &mut alarm => {}
            readable = daemon.watch.readable() => readable?,
            () = tokio::task::yield_now(), if more => {}
        }
        if Instant::now() >= tick_at {
            tick_at = Instant::now() + TICK;
            daemon.tick();
        }
        more = daemon.step();
    };

    health::notify_systemd("STOPPING=1");
    drop(ready);
    daemon.watch.detach();
    let until = Instant::now() + DRAIN_MAX;
    loop {
        let more = daemon.step();
        if !more && daemon.watch.waiting_len() == 0 {
            break;
        }
        let wait = if more { Duration::ZERO } else { daemon.watch.next_due().unwrap_or(Duration::ZERO) };
        tokio::select! {
            outcome = daemon.pool.next(|tgid, expected| own_opens.confirm(tgid, expected)) => daemon.looked(outcome),
            Some(reply) = replies.recv() => daemon.replied(reply),
            () = tokio::time::sleep(wait) => {}
            () = tokio::time::sleep_until(until.into()) => break,
        }
    }
    daemon.finish(until).await;
    tracing::info!("ended");
    Ok(code)
}

/// What comes seldom.
enum Seldom {
    End(ExitCode),
    /// Somebody asks how it is.
    Status(tokio::net::UnixStream),
}

/// All that comes seldom, by one way: each way that the loop waits on costs something at every event.
fn seldom(status: UnixListener) -> std::io::Result<mpsc::Receiver<Seldom>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let (events, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            let event = tokio::select! {
                biased;
                _ = terminate.recv() => Seldom::End(ExitCode::SUCCESS),
                _ = interrupt.recv() => Seldom::End(ExitCode::from(130)),
                _ = hangup.recv() => Seldom::End(ExitCode::from(129)),
                Ok((stream, _)) = status.accept() => Seldom::Status(stream),
            };
            if events.send(event).await.is_err() {
                break;
            }
        }
    });
    Ok(receiver)
}

impl Daemon {
    /// Takes what the kernel sent, asks what has to be asked, lets go what has waited enough. True where more is there.
    fn step(&mut self) -> bool {
        let more = self.watch.take();
        for ask in self.watch.asks() {
            match ask {
                Ask::Look(Wanted::Now(look)) => self.look(look, Line::First, false),
                Ask::Look(Wanted::Urgent(look)) => self.look(look, Line::First, true),
                Ask::Look(Wanted::Sooner(put)) => self.pool.hurry(put.turn, put.inode.into(), put.stamp),
                Ask::Look(Wanted::Sometime(put)) => self.later(put),
                Ask::Processes { cgroup, pids } => {
                    for pid in self.processes.ask(cgroup, pids) {
                        // No place to ask in: it is shown as far as it is known.
                        self.watch.gone(pid);
                    }
                }
            }
        }
        if let Some(look) = self.backlog.next(|put| self.watch.take_put(&put)) {
            self.look(look, Line::Background, false);
        }
        for model in self.watch.unread() {
            let alerts = self.judge.verdict(model, boottime_ns());
            self.deliver(alerts);
        }
        let acts = self.watch.due();
        self.judge_all(acts);
        more
    }

    fn later(&mut self, put: Put) {
        if let Some(displaced) = self.backlog.push(put, |put| self.watch.waits(put)) {
            self.watch.dropped(&displaced);
        }
    }

    fn look(&mut self, look: Look, line: Line, urgent: bool) {
        let job = self.first_look(look, line, urgent);
        self.submit(job);
    }

    fn first_look(&mut self, look: Look, line: Line, urgent: bool) -> Job {
        self.looks += 1;
        looks::first(look, self.looks, line, urgent)
    }

    /// Hands a file to the scanner. What finds no place there, at once: nothing waits in vain for it.
    fn submit(&mut self, mut job: Job) {
        while let Some(displaced) = self.pool.submit(job) {
            if displaced.urgent {
                self.unread += u64::from(displaced.named);
                return self.looked(Outcome { job: displaced, answer: Answer::NotRead(NotRead::Overflow) });
            }
            match self.watch.put_off(looks::again(displaced)) {
                Some(Wanted::Now(look) | Wanted::Urgent(look)) => job = self.first_look(look, Line::First, true),
                Some(Wanted::Sooner(put) | Wanted::Sometime(put)) => return self.later(put),
                None => return,
            }
        }
    }

    fn judge_all(&mut self, acts: Vec<crate::event::Act>) {
        for act in acts {
            let alerts = self.judge.act(act, boottime_ns());
            self.deliver(alerts);
        }
    }

    fn looked(&mut self, outcome: Outcome) {
        let Outcome { job, answer } = &outcome;
        let had_time = (job.line == Line::Background).then(|| *answer == Answer::NotRead(NotRead::TimedOut));
        let (inode, stamp) = (job.inode.into(), job.stamp);
        if let Answer::Read(read) = answer {
            self.watch.called(inode, stamp, &read.path);
        }
        let (word, next) = looks::word(outcome);
        // Before what follows: the next job may find no place, and then the file waits again.
        if let Some(model) = self.watch.word(inode, stamp, word) {
            let alerts = self.judge.verdict(model, boottime_ns());
            self.deliver(alerts);
        }
        if let Some(mut job) = next {
            job.urgent |= self.watch.is_awaited(inode, stamp);
            self.submit(job);
        } else {
            self.scans += 1;
            if let Some(too_long) = had_time {
                self.backlog.done(too_long);
            }
        }
    }

    fn replied(&mut self, reply: Reply) {
        match reply {
            Reply::Told(told) => self.watch.told(told),
            Reply::Gone(tgid) => self.watch.gone(tgid),
        }
    }

    fn tick(&mut self) {
        self.watch.set_clock();
        self.watch.take_folds(false);
        self.say_losses();
        for notice in self.judge.notices(unix_ns()) {
            tracing::warn!(rule = notice.rule, "{}", notice.message);
        }
        let alerts = self.judge.tick(unix_ns(), boottime_ns());
        self.deliver(alerts);
    }

    fn say_losses(&mut self) {
        let mut losses = self.watch.losses();
        let count = self.unread - self.unread_told;
        if count > 0 {
            losses.push(Loss { time_unix_ns: unix_ns(), reason: "scan_queue_full", cgroup: None, count });
            self.unread_told += count;
        }
        for loss in losses {
            let alerts = self.judge.loss(loss, boottime_ns());
            self.deliver(alerts);
        }
    }

    fn deliver(&mut self, alerts: Vec<Alert>) {
        self.alerts += alerts.len() as u64;
        for alert in &alerts {
            self.sinks.iter_mut().for_each(|sink| sink.deliver(alert));
        }
    }

    /// Everything that is still held leaves as it is, by `until` if the outputs take it.
    async fn finish(mut self, until: Instant) {
        while self.watch.take() {}
        self.watch.take_folds(true);
        let acts = self.watch.flush();
        self.judge_all(acts);
        self.say_losses();
        let alerts = self.judge.drain(boottime_ns());
        self.deliver(alerts);
        let _ = tokio::time::timeout_at(until.into(), self.pool.shutdown()).await;
        // The outputs have a moment even if everything else took its time.
        let until = until.max(Instant::now() + Duration::from_millis(200));
        for sink in self.sinks {
            sink.close(until);
        }
    }

    fn say_status(&self, mut stream: tokio::net::UnixStream) {
        let text = match serde_json::to_string(&self.status()) {
            Ok(text) => text + "\n",
            Err(error) => return tracing::error!(%error, "the status can't be written"),
        };
        tokio::spawn(async move {
            let _ = tokio::time::timeout(STATUS_WAIT, stream.write_all(text.as_bytes())).await;
        });
    }

    fn status(&self) -> Status<'_> {
        let mut losses = self.watch.loss_sums();
        if self.unread > 0 {
            losses.insert("scan_queue_full", self.unread);
        }
        losses.extend(self.watch.skipped_sums());
        for (reason, count) in self.judge.loss_sums() {
            *losses.entry(reason).or_default() += count;
        }
        Status {
            schema: "sensor.status/1",
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            uptime_s: self.started.elapsed().as_secs(),
            degraded: self.watch.plan().missing().map(|hook| format!("{}: {}", hook.event, hook.lost)).collect(),
            plan: self.watch.plan(),
            confinement: self.pool.confinements().map(|both| both.words()).unwrap_or_default(),
            counts: Counts {
                records: self.watch.records(),
                records_malformed: self.watch.records_malformed(),
                alerts: self.alerts,
                alerts_failed: self.sinks.iter().map(|sink| sink.counts().failed).sum(),
                scans: self.scans,
                models: self.watch.models_len(),
                waiting: self.watch.waiting_len(),
                bytes_sent: self.watch.bytes_sent(),
                sums: self.watch.sums(),
            },
            sent: self.watch.sent_most(SENT_SHOWN_MAX),
            losses,
        }
    }
}

fn deciders(policy: &Arc<Policy>) -> Deciders {
    let files = policy.files().clone();
    Deciders {
        role: decide(Arc::clone(policy)),
        carries: Box::new({
            let policy = Arc::clone(policy);
            move |exe| policy.programs().is_carrier(&exe.path)
        }),
        script: Box::new({
            let policy = Arc::clone(policy);
            move |exe, argv| is_roots(exe) && policy.programs().is_reader_script(&exe.path, &argv.args)
        }),
        telling: Box::new(move |path, access| files.group(path, access).is_some()),
    }
}

/// Nobody but root could have put it there: a file server in somebody's hand says what it likes of owners.
fn is_roots(exe: &Executable) -> bool {
    let roots = |uid: u32, mode: u32| uid == 0 && mode & 0o022 == 0;
    is_local(exe.fs_magic) && roots(exe.uid, exe.mode) && roots(exe.dir_uid, exe.dir_mode)
}

/// A program is a reader if its name is on the list and it is root's.
fn decide(policy: Arc<Policy>) -> Decide {
    Box::new(move |exe: &Executable| {
        let programs = policy.programs();
        if is_roots(exe) && (programs.is_reader(&exe.path) || programs.is_manager(&exe.path)) {
            Role::Reader
        } else {
            Role::Loader
        }
    })
}

fn say_plan(watch: &Watch) {
    for lost in &watch.plan().not_kept {
        tracing::warn!("{lost}");
    }
    for hook in &watch.plan().hooks {
        let rung = hook.rung.map_or("none", |rung| rung.name());
        if hook.lost.is_empty() {
            tracing::info!(hook = hook.event, rung, "attached");
        } else {
            tracing::warn!(hook = hook.event, rung, "{}", hook.lost);
        }
    }
}

fn unix_ns() -> i128 {
    let time = clock_gettime(ClockId::Realtime);
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}
