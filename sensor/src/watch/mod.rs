//! The runtime half, in walking order: load, ring, decode, process, correlate. Here they meet; none knows another.
//!
//! Records come in from the kernel, [`Act`]s go out to the policy; what has to be asked of others (the scanner, the
//! process worker) goes out as [`Ask`]s and comes back through [`Watch::word`] and [`Watch::told`].

mod correlate;
mod deciders;
mod decode;
mod deed;
mod dns;
pub mod load;
mod looks;
mod memory;
mod network;
mod process;
pub mod record;
mod ring;
mod sockets;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use sensor_abi::counter::{Counter, LOSS, SKIPPED};
use sensor_abi::mark::role;
use sensor_abi::record::FOLD_TAKE_NS;

use self::correlate::{Correlator, Pending, Ready};
pub use sensor_abi::ABI_VERSION;

pub use self::correlate::{Look, MODELS_MAX, Put, Sums, Wanted, Word};
pub use self::deciders::{Decide, Deciders};
use self::load::plan::{Plan, Rung};
use self::load::{Kernel, LoadError, OwnOpens, Reading, Tables, Wishes};
use self::memory::Memory;
use self::network::destination;
pub use self::network::{Network, Sent};
use self::process::Processes;
pub use self::process::{TICK_NS, Told};
use self::record::{Argv, Header, Load, LoadArtifact, Open, Record, Repeats, Who};
use self::ring::Stream;
use crate::event::{Act, ActKind, Destination, InodeKey, Lineage, Loss, OPEN_UNJUDGED, Role};

/// How often the kernel is asked how many runs it left out: it answers by a file for each program, most of what a second
/// without events costs.
const SKIPPED_EVERY_NS: u64 = 10_000_000_000;
/// Records that are taken from one ring before somebody else gets a turn.
const BATCH_RECORDS_MAX: usize = 512;

/// What others are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    Look(Wanted),
    /// What do these processes run? `cgroup`: of whoever acted.
    Processes {
        cgroup: u64,
        pids: Vec<u32>,
    },
}

/// What outlives the sensor, and where.
#[derive(Debug, Clone)]
pub struct Keeping {
    /// Folder of the BPF file system: marks and links.
    pub pins: PathBuf,
    /// File: what the models of kept marks are.
    pub models: PathBuf,
}

/// The runtime half.
pub struct Watch {
    kernel: Kernel,
    stream: Stream,
    plan: Plan,
    joined: Joined,
    malformed: u64,
    memory: Option<Memory>,
    told_losses: BTreeMap<(&'static str, Option<u64>), u64>,
    /// Runs that the kernel left out, as it said at that time.
    skipped: u64,
    skipped_read_ns: u64,
}

/// What the records are joined with; apart from the rings, so that both can be held at once.
struct Joined {
    processes: Processes,
    correlator: Correlator,
    network: Network,
    /// Datagrams to port 53 are told by their packets, with the name that they ask for.
    packets_tell_dns: bool,
    /// What raw sockets send is told by its packets.
    packets_tell_raw: bool,
    deciders: Deciders,
    asks: Vec<Ask>,
    /// Roles that the kernel has to hear.
    roles: Vec<(InodeKey, Role)>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("plan", &self.plan).finish_non_exhaustive()
    }
}

/// CLOCK_BOOTTIME, ns.
pub fn boottime_ns() -> u64 {
    ns(ClockId::Boottime) as u64
}

fn ns(clock: ClockId) -> i128 {
    let time = clock_gettime(clock);
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}

impl Watch {
    /// Loads the kernel half and attaches it. Needs a tokio runtime.
    ///
    /// `reading` was begun before. An act waits `scan_wait` for its file's verdict.
    pub fn start(
        reading: Reading,
        wishes: Wishes,
        tables: &Tables,
        scan_wait: Duration,
        network: Network,
        deciders: Deciders,
        keeping: &Keeping,
    ) -> Result<(Self, OwnOpens), LoadError> {
        let (kernel, rings, own_opens, plan) = Kernel::load(reading, wishes, tables, load::keep(&keeping.pins))?;
        let reactor = |error: std::io::Error| LoadError::Object(error.to_string());
        let scan_wait_ns = u64::try_from(scan_wait.as_nanos()).unwrap_or(u64::MAX);
        let mut joined = Joined {
            processes: Processes::default(),
            correlator: Correlator::new(scan_wait_ns),
            network,
            packets_tell_dns: plan.rung("packet_out").is_some(),
            // The typed tracepoint isn't told where a raw socket's datagram goes.
            packets_tell_raw: matches!(plan.rung("socket_sendmsg"), None | Some(Rung::TpBtf)),
            deciders,
            asks: Vec::new(),
            roles: Vec::new(),
        };
        let memory = match Memory::open(&keeping.models, kernel.resumed().0) {
            Ok((memory, known)) => {
                known.into_iter().for_each(|known| joined.correlator.recall(known));
                Some(memory)
            }
            Err(error) => {
                tracing::warn!("what models are is not kept over a restart: {}: {error}", keeping.models.display());
                None
            }
        };
        let mut watch = Self {
            kernel,
            memory,
            stream: Stream::new(rings.priority, rings.bulk).map_err(reactor)?,
            plan,
            joined,
            malformed: 0,
            told_losses: BTreeMap::new(),
            skipped: 0,
            skipped_read_ns: 0,
        };
        watch.set_clock();
        for record in rings.early {
            watch.malformed += watch.joined.take_bytes(&record);
        }
        watch.tell_roles();
        Ok((watch, own_opens))
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The wall clock may have been set since.
    pub fn set_clock(&mut self) {
        self.joined.processes.set_clock(ns(ClockId::Realtime) - ns(ClockId::Boottime));
    }

    /// Resolves when the kernel has sent something. Cancel-safe.
    pub async fn readable(&self) -> std::io::Result<()> {
        self.stream.readable().await
    }

    /// Takes a batch of records. True where more may be there.
    pub fn take(&mut self) -> bool {
        let Self { stream, joined, malformed, .. } = self;
        let more = stream.take(boottime_ns(), BATCH_RECORDS_MAX, |bytes| *malformed += joined.take_bytes(bytes));
        self.tell_roles();
        more
    }

    /// Takes the counts of acts that were folded in the kernel and get no more; `all`: of every one, when no hook is
    /// attached any more. To be called about once a second.
    pub fn take_folds(&mut self, all: bool) {
        let before_ns = if all { u64::MAX } else { boottime_ns().saturating_sub(FOLD_TAKE_NS) };
        match self.kernel.take_folds(before_ns) {
            Ok(folds) => {
                for fold in folds {
                    self.malformed += self.joined.take_bytes(&fold);
                }
            }
            Err(error) => tracing::warn!(%error, "the counts of equal acts could not be read"),
        }
        self.tell_roles();
    }

    fn tell_roles(&mut self) {
        for (exe, role) in self.joined.roles.drain(..) {
            let code = if role == Role::Reader { role::READER } else { role::LOADER };
            if let Err(error) = self.kernel.set_role(exe.into(), code) {
                tracing::warn!(%error, "a role could not be told to the kernel");
            }
        }
    }

    /// What others have to be asked because of the records taken so far.
    pub fn asks(&mut self) -> Vec<Ask> {
        let mut asks = std::mem::take(&mut self.joined.asks);
        asks.retain(|ask| !matches!(ask, Ask::Look(Wanted::Now(look)) if self.was_told(look)));
        asks
    }

    /// The process worker's word.
    pub fn told(&mut self, told: Told) {
        self.joined.processes.told(told);
        self.joined.correlator.told();
    }

    /// The process worker has no word on this process.
    pub fn gone(&mut self, tgid: u32) {
        self.joined.processes.gone(tgid);
        self.joined.correlator.told();
    }

    /// Detaches every hook. What was sent before can still be taken.
    pub fn detach(&mut self) {
        self.skipped = self.kernel.skipped();
        self.skipped_read_ns = u64::MAX;
        self.kernel.detach();
    }

    /// Acts that have waited enough.
    pub fn due(&mut self) -> Vec<Act> {
        let Joined { processes, correlator, .. } = &mut self.joined;
        let is_known = |pending: &Pending| {
            processes.is_known(pending.header.task, pending.header.cgroup)
                && pending.kind.target().is_none_or(|tgid| processes.is_told(tgid))
        };
        let ready = correlator.due(boottime_ns(), is_known);
        ready.into_iter().map(|ready| self.joined.act(ready)).collect()
    }

    /// Everything that still waits, as it is.
    pub fn flush(&mut self) -> Vec<Act> {
        let ready = self.joined.correlator.flush();
        ready.into_iter().map(|ready| self.joined.act(ready)).collect()
    }

    /// How long until the next act has to leave.
    pub fn next_due(&self) -> Option<Duration> {
        let deadline = self.joined.correlator.next_deadline_ns()?;
        Some(Duration::from_nanos(deadline.saturating_sub(boottime_ns())))
    }

    /// What was lost since the last call, per reason and cgroup.
    pub fn losses(&mut self) -> Vec<Loss> {
        let time_unix_ns = ns(ClockId::Realtime);
        let now_ns = boottime_ns();
        if now_ns.saturating_sub(self.skipped_read_ns) >= SKIPPED_EVERY_NS {
            self.skipped = self.kernel.skipped();
            self.skipped_read_ns = now_ns;
        }
        let of_cgroups = self.kernel.losses_by_cgroup();
        let mut losses = Vec::new();
        for (reason, sum) in self.loss_sums() {
            let named = of_cgroups.range((reason, 0)..=(reason, u64::MAX)).map(|((_, id), sum)| (Some(*id), *sum));
            let mut parts: Vec<_> = named.collect();
            let named_sum: u64 = parts.iter().map(|(_, sum)| *sum).sum();
            // What the table of cgroups had no room for, and what nobody can be named for.
            parts.push((None, sum.saturating_sub(named_sum)));
            for (cgroup, sum) in parts {
                let before = self.told_losses.get(&(reason, cgroup)).copied().unwrap_or(0);
                if sum > before {
                    self.told_losses.insert((reason, cgroup), sum);
                    losses.push(Loss { time_unix_ns, reason, cgroup, count: sum - before });
                }
            }
        }
        losses
    }

    /// What was lost since the start, per reason.
    pub fn loss_sums(&self) -> BTreeMap<&'static str, u64> {
        let kernel = LOSS.iter().map(|(counter, reason)| (*reason, self.kernel.counter(*counter)));
        let own = [
            ("record_malformed", self.malformed),
            ("model_table_full", self.joined.correlator.missed.acted),
            (OPEN_UNJUDGED, self.joined.correlator.missed.opened),
            ("program_skipped", self.skipped),
            ("marks_dropped", self.kernel.resumed().1),
        ];
        kernel.chain(own).filter(|(_, sum)| *sum > 0).collect()
    }

    /// What was passed over since the start, per reason, without a claim to be a model.
    pub fn skipped_sums(&self) -> BTreeMap<&'static str, u64> {
        let sums = SKIPPED.iter().map(|(counter, reason)| (*reason, self.kernel.counter(*counter)));
        let sums = sums.chain([("look_postponed", self.joined.correlator.missed.others)]);
        sums.filter(|(_, sum)| *sum > 0).collect()
    }

    /// Records that the kernel half sent.
    pub fn records(&self) -> u64 {
        self.kernel.counter(Counter::Sent)
    }

    pub fn records_malformed(&self) -> u64 {
        self.malformed
    }

    pub fn sums(&self) -> Sums {
        self.joined.correlator.sums
    }

    /// Bytes that marked processes sent, as far as they are known.
    pub fn bytes_sent(&self) -> u64 {
        self.joined.network.bytes()
    }

    /// Where most of them went, at most `max` destinations.
    pub fn sent_most(&self, max: usize) -> Vec<Sent> {
        self.joined.network.most(max)
    }

    pub fn waiting_len(&self) -> usize {
        self.joined.correlator.waiting_len()
    }

    pub fn models_len(&self) -> usize {
        self.joined.correlator.models_len()
    }
}

impl Joined {
    /// Takes a record's bytes, or those of a fold. 1 where they are none.
    fn take_bytes(&mut self, bytes: &[u8]) -> u64 {
        match decode::decode(bytes) {
            Ok(record) => {
                self.take(record);
                0
            }
            Err(error) => {
                tracing::warn!(%error, "a record that can't be read");
                1
            }
        }
    }

    fn take(&mut self, record: Record) {
        match record {
            Record::Open(open) => self.opened(&open),
            Record::Who(who) => self.introduced(&who),
            Record::Fork { header, child } => self.processes.forked(&header, child),
            Record::Exec { header, load, exe: _, path, argv } => {
                self.processes.runs(&header, &path, &argv);
                let Argv { args, truncated } = argv;
                self.acted_once(header, load, ActKind::Exec { exe: path, argv: args, argv_truncated: truncated });
            }
            Record::Exit { header } => {
                self.network.exited(header.task);
                self.processes.exited(&header);
            }
            Record::Unmark { header } => self.processes.changed(&header),
            Record::Net { doing, header, load, net, repeats } => self.networked(doing, header, load, net, repeats),
            Record::Accept { header, load, net, peer } => {
                let Some(at) = destination(net) else { return };
                let from = Destination { ip: Some(peer.ip()), port: Some(peer.port()), ..at.clone() };
                self.network.accepted(net.cookie, &header, &load, &from);
                self.acted_once(header, load, ActKind::Accept { at, peer });
            }
            Record::Unix { header, load, name } => self.acted_once(header, load, ActKind::Unix { path: name }),
            Record::Packet { header, load, net, payload } => self.packet(header, load, net, &payload),
            Record::Answer { time_ns, cookie, from, payload } => {
                if let (Some(from), Some(message)) = (from, dns::parse(&payload))
                    && message.is_answer
                {
                    self.network.answers(cookie, from, &message.name, &message.addresses, time_ns);
                }
            }
            Record::Egress { time_ns, task, cookie, to, bytes, more } => {
                if let Some(flow) = self.network.carried(task, cookie, to, more) {
                    let kind = ActKind::Egress { to: flow.to, bytes, more, accepted: flow.accepted };
                    self.left(flow.header, flow.load, time_ns, kind);
                }
            }
            Record::Act { header, load, act } => {
                if let Some((ino, path)) = deed::taken(&act) {
                    self.correlator.destroyed(&header, &load, ino, path);
                }
                for kind in deed::kinds(act) {
                    let asked = kind.target().and_then(|tgid| self.processes.doubt(tgid));
                    self.asks.extend(asked.map(|tgid| Ask::Processes { cgroup: header.cgroup, pids: vec![tgid] }));
                    if !matches!(&kind, ActKind::File { path, access } if !(self.deciders.telling)(path, *access)) {
                        self.acted(header.clone(), load.clone(), kind, Repeats::once(header.time_ns));
                    }
                }
            }
        }
    }

    fn acted_once(&mut self, header: Header, load: Load, kind: ActKind) {
        let repeats = Repeats::once(header.time_ns);
        self.acted(header, load, kind, repeats);
    }

    fn introduced(&mut self, who: &Who) {
        let task = who.header.task;
        self.processes.descends(task, &who.ancestors);
        if who.exe.path.is_empty() {
            return self.processes.seen(&who.header);
        }
        self.processes.runs(&who.header, &who.exe.path, &who.argv);
        if who.role == role::UNDECIDED {
            let decided = (self.deciders.role)(&who.exe);
            self.correlator.decided(who.exe.inode, decided);
            // One that is mounted over another name is called anything.
            if who.exe.mode != u32::MAX && !(self.deciders.carries)(&who.exe) {
                self.roles.push((who.exe.inode, decided));
            }
        }
        let is_credible = !who.is_late || self.processes.was_started_as(task, &who.argv);
        if is_credible && (self.deciders.script)(&who.exe, &who.argv) {
            self.processes.may_be_reader(task);
        }
    }

    fn opened(&mut self, open: &Open) {
        self.asks.extend(self.correlator.opened(open).map(Ask::Look));
        if open.is_quiet {
            self.processes.opens(&open.header, open.comm);
        }
        if open.is_quiet && self.correlator.is_clean((open.inode, open.stamp)) {
            // There is nothing to say, and whoever opened it is introduced with what it does next. Those above it may be
            // gone by then.
            let parents = self.processes.ask_above(open.header.task, open.header.cgroup);
            self.ask_for(open.header.cgroup, parents);
            return;
        }
        let artifact = LoadArtifact {
            inode: open.inode,
            stamp: open.stamp,
            opener: open.header.task,
            opened_ns: open.header.time_ns,
            named: open.named,
            held_ns: open.header.time_ns,
            born: false,
            held: true,
            cut: false,
            bystander: false,
        };
        let load = Load { exe: open.exe, role: open.role, artifacts: vec![artifact], omitted: 0 };
        self.acted_once(open.header.clone(), load, ActKind::ModelOpen);
    }

    fn acted(&mut self, header: Header, load: Load, kind: ActKind, repeats: Repeats) {
        self.processes.seen(&header);
        let wanted = self.processes.ask(header.task, header.cgroup);
        self.ask_for(header.cgroup, wanted);
        // Who it is now: it may run another program by the time that the act leaves.
        let who = self.processes.lineage(header.task, header.cgroup);
        // An open is told when its file was looked at, and not before: however late it is heard of, that comes first.
        let now_ns = if kind == ActKind::ModelOpen { boottime_ns() } else { header.time_ns };
        let wanted = self.correlator.acted(Pending { header, kind, load, repeats, who }, now_ns);
        self.asks.extend(wanted.into_iter().map(Ask::Look));
    }

    fn ask_for(&mut self, cgroup: u64, pids: Vec<u32>) {
        if !pids.is_empty() {
            self.asks.push(Ask::Processes { cgroup, pids });
        }
    }

    fn act(&mut self, ready: Ready) -> Act {
        let Ready { header, mut kind, mut role, mut artifacts, artifacts_omitted, repeats, who } = ready;
        if let ActKind::System(deed) = &mut kind {
            let is_peer = deed.target.is_some_and(|tgid| self.processes.is_peer(&who.process, tgid));
            deed.peer = is_peer && deed.op != "attach";
        }
        if self.processes.were_only_read(&mut artifacts) {
            role = Role::Reader;
        }
        Act {
            time_unix_ns: self.processes.boot_unix_ns() + i128::from(repeats.last_ns),
            time_boottime_ns: repeats.last_ns,
            times: repeats.times,
            kind,
            role,
            lineage: self.lineage(&header, who),
            artifacts,
            artifacts_omitted,
        }
    }

    /// The process as it was when it acted, where that is known, and the latest word on those above it.
    fn lineage(&mut self, header: &Header, then: Arc<Lineage>) -> Arc<Lineage> {
        let latest = self.processes.lineage(header.task, header.cgroup);
        let (process, now) = (&then.process, &latest.process);
        let unknown = process.exe.is_empty() || (process.argv.is_empty() && process.exe == now.exe);
        if unknown || process == now {
            return latest;
        }
        let (process, ancestors) = (process.clone(), latest.ancestors.clone());
        Arc::new(Lineage { process, ancestors, cgroup_id: latest.cgroup_id })
    }
}
