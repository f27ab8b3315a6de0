//! From the object to the attach plan: what is probed, which rung each hook gets, and what is lost where it isn't the
//! best one. Chosen by trying, never by version numbers.

mod attach;
mod batch;
pub mod btf;
mod folds;
mod held;
mod hooks;
mod network;
pub mod pin;
pub mod plan;
mod preempt;
mod reading;
mod resume;
mod rings;
mod slots;
#[cfg(test)]
mod stack;
mod suffix;
mod system;
mod tracepoint;
mod verify;
mod without_loops;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aya::maps::{HashMap as BpfHashMap, Map, MapData, PerCpuArray};
use aya::programs::ProgramError;
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use sensor_abi::config::{ARGUMENTS_MAX, Config};
use sensor_abi::counter::{Counter, LOSS, LossKey};
use sensor_abi::identity::InodeKey;
use sensor_abi::mark::{InodeInfo, class, inode_slot, verdict};
use sensor_abi::record::SCRATCHES;
use thiserror::Error;
use zerocopy::{FromBytes, IntoBytes};

use self::attach::Attacher;
use self::btf::{BtfError, Layout};
use self::held::Held;
use self::hooks::SECURITY_HOOKS;
use self::pin::{PinError, Pins};
use self::plan::{BestRung, Plan, Rung};
pub use self::reading::Reading;
pub use self::rings::Rings;
use self::slots::Slots;
use self::without_loops::without_loops;

/// The kernel half, built from `sensor-ebpf/` by `cargo xtask build-ebpf`.
static OBJECT: &[u8] = include_bytes_aligned!(env!("SENSOR_EBPF_OBJECT"));

#[derive(Debug, Error)]
pub enum LoadError {
    #[error(transparent)]
    Btf(#[from] BtfError),
    #[error("the kernel refused the maps: {0}. Run as root, or with CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN")]
    Object(String),
    #[error("no cgroup2 file system is mounted: `mount -t cgroup2 none /sys/fs/cgroup/unified`")]
    NoCgroup,
    #[error("the kernel half can't be loaded, as no thread can be made: {0}")]
    Thread(std::io::Error),
    #[error("no hook could be attached:\n{}", .0.reasons())]
    Nothing(Plan),
    #[error(transparent)]
    Taken(PinError),
    #[error("{0} suffixes of file names are too many for the kernel's table")]
    Suffixes(usize),
    #[error("map {0} is missing from the kernel object")]
    Map(&'static str),
    #[error(transparent)]
    MapAccess(#[from] aya::maps::MapError),
}

/// How long a held descriptor keeps the load window open, ns.
const LOAD_WINDOW_NS: u64 = 120_000_000_000;

/// Candidates that one cgroup may cause in a second.
const CANDIDATES_PER_S: u32 = 200;

/// Entries of the tables that are read at most: a walk of a table that changes meanwhile may begin again.
const LOSSES_MAX: usize = 2_048;

/// Where `struct pt_regs` keeps the arguments of a function, bytes (arch/x86/include/asm/ptrace.h; the order of System V:
/// rdi, rsi, rdx, rcx, r8, r9).
#[cfg(target_arch = "x86_64")]
const ARGUMENT_REGISTERS: [u32; ARGUMENTS_MAX] = [112, 104, 96, 88, 72, 64];
/// The same (arch/arm64/include/asm/ptrace.h: x0 to x5 come first).
#[cfg(target_arch = "aarch64")]
const ARGUMENT_REGISTERS: [u32; ARGUMENTS_MAX] = [0, 8, 16, 24, 32, 40];

/// What a load is asked to do.
#[derive(Debug, Clone, Copy)]
pub struct Wishes {
    pub candidates_per_s: u32,
    pub load_window_ns: u64,
    /// Nobody has to hear at once that a file was opened that is known to be clean.
    pub quiet_opens: bool,
    /// Rungs above it are left out: tests of the others, and a way out on a host where a better one misbehaves.
    pub best_rung: BestRung,
    /// Processes that can be marked at once; one for every pid where it isn't said.
    pub marks_max: Option<u32>,
}

/// Tables that are written once, before anything is attached.
#[derive(Debug, Clone, Default)]
pub struct Tables {
    /// Names that are a reason to look at a file ([`sensor_abi::mark::suffix`]).
    pub suffixes: Vec<(u64, u8)>,
    /// Names of files that give a payload away ([`sensor_abi::act::place`]).
    pub names: Vec<(u64, u8)>,
    /// Names of programs that open files for others.
    pub carriers: Vec<(u64, u8)>,
}

impl Default for Wishes {
    fn default() -> Self {
        Self {
            candidates_per_s: CANDIDATES_PER_S,
            load_window_ns: LOAD_WINDOW_NS,
            quiet_opens: true,
            best_rung: BestRung::Lsm,
            marks_max: None,
        }
    }
}

/// The loaded kernel half. Dropping it detaches everything but pinned links, which [`Kernel::detach`] lets go of: they are
/// there to outlive a crash.
pub struct Kernel {
    held: Held,
    pins: Option<Pins>,
    counters: PerCpuArray<MapData, u64>,
    slots: Slots,
    inodes: BpfHashMap<MapData, [u8; 16], [u8; 32]>,
    inodes_malicious: BpfHashMap<MapData, [u8; 16], [u8; 32]>,
    exes: BpfHashMap<MapData, [u8; 16], u8>,
    folds: MapData,
    losses: BpfHashMap<MapData, [u8; 16], u64>,
}

/// What the hooks recorded of the sensor's own opens: how it proves that it looked at the right file.
pub struct OwnOpens {
    map: BpfHashMap<MapData, u32, [u8; 16]>,
}

impl std::fmt::Debug for OwnOpens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OwnOpens")
    }
}

impl OwnOpens {
    /// Was `expected` the last model-like file that our process `tgid` opened? The record is taken out, so that it can't
    /// stand in for a later open that was missed. `None` where there is none.
    pub fn confirm(&mut self, tgid: u32, expected: &InodeKey) -> Option<bool> {
        let raw = self.map.get(&tgid, 0).ok()?;
        let _ = self.map.remove(&tgid);
        Some(raw == bytes::<_, 16>(expected))
    }
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Kernel")
    }
}

impl Kernel {
    /// Loads, attaches what can be attached, proves it, and says what came of it.
    ///
    /// `reading` was begun before; `pins` is where marks and links are kept.
    pub fn load(
        reading: Reading,
        wishes: Wishes,
        tables: &Tables,
        pins: Keep,
    ) -> Result<(Self, Rings, OwnOpens, Plan), LoadError> {
        let (layout, loader, types) = reading.layout()?;
        let (mut pins, mut not_kept) = match pins {
            Ok(pins) => (Some(pins), Vec::new()),
            Err(PinError::Taken(root)) => return Err(LoadError::Taken(PinError::Taken(root))),
            Err(error) => (None, vec![format!("marks are lost when the sensor ends: {error}")]),
        };
        let mut ebpf = create(loader, layout, wishes, tables, pins.as_ref())?;
        if pins.as_ref().is_some_and(|pins| pins.stale) {
            resume::sweep(&mut ebpf)?;
        }
        for (name, entries) in [("NAMES", &tables.names), ("CARRIERS", &tables.carriers)] {
            let mut map: BpfHashMap<_, u64, u8> =
                BpfHashMap::try_from(ebpf.map_mut(name).ok_or(LoadError::Map(name))?)?;
            for (key, class) in entries {
                map.insert(key, class, 0)?;
            }
        }

        let types = types.end()?;
        let cgroup = cgroup2().ok_or(LoadError::NoCgroup)?;
        let mut rings = Rings::take_from(&mut ebpf)?;
        let mut attacher = Attacher {
            ebpf: &mut ebpf,
            btf: &types,
            tracefs: None,
            attachments: Vec::new(),
            attached: Vec::new(),
            best_rung: wishes.best_rung,
            preempts: preempt::preempts(),
            ladder: Vec::new(),
        };
        attacher.describe_calls()?;
        attacher.load();
        let mut hooks = vec![
            attacher.process("fork", "sched_process_fork", "children of a loader are not followed"),
            attacher.process("exec", "sched_process_exec", "programs that a loader starts are not seen"),
            attacher.inherit(),
            attacher.process("exit", "sched_process_exit", "marks are not freed: the table fills up and says so"),
        ];
        hooks.extend(attacher.connects(&cgroup));
        hooks.extend(attacher.on_root(&cgroup));
        hooks.extend(SECURITY_HOOKS.iter().map(|hook| attacher.security(hook)));
        let mut plan = Plan { not_kept: Vec::new(), ladder: Vec::new(), hooks };
        plan.hooks.push(attacher.namespace());
        // After the hooks: what was opened before them is found, what comes after them is seen.
        plan.hooks.push(attacher.found(|| rings.take_early()));
        plan.ladder = attacher.ladder;
        let attachments = attacher.attachments;
        for (name, program) in ebpf.programs() {
            if let Ok(info) = program.info() {
                tracing::debug!(name, verified = info.verified_instruction_count(), "what the verifier looked at");
            }
        }
        prove(&ebpf, &mut plan);
        if plan.hooks.iter().all(|hook| hook.rung.is_none()) {
            plan.not_kept = not_kept;
            return Err(LoadError::Nothing(plan));
        }

        let own_opens = take_hash(&mut ebpf, "OWN_OPENS")?;
        let counters = PerCpuArray::try_from(ebpf.take_map("COUNTERS").ok_or(LoadError::Map("COUNTERS"))?)?;
        let slots = Slots::take_from(&mut ebpf)?;
        let inodes = take_hash(&mut ebpf, "INODES")?;
        let inodes_malicious = take_hash(&mut ebpf, "INODES_MALICIOUS")?;
        let exes = take_hash(&mut ebpf, "EXES")?;
        let losses = take_hash(&mut ebpf, "LOSSES")?;
        let Some(Map::HashMap(folds)) = ebpf.take_map("FOLDS") else { return Err(LoadError::Map("FOLDS")) };

        // A start that fails leaves nothing attached: what can fail after this lets go of the links again.
        if let Some(pins) = &mut pins {
            match pins.pin_links(&ebpf) {
                Ok(names) if names.is_empty() => {}
                Ok(names) => not_kept.push(format!("while no sensor runs, nobody sees: {}", names.join(", "))),
                Err(error) => not_kept.push(format!("while no sensor runs, marks are not passed on: {error}")),
            }
            pins.retire();
        }
        plan.not_kept = not_kept;

        let held = Held::of(ebpf, attachments).map_err(|error| {
            pins.iter().for_each(Pins::release);
            LoadError::Object(error.to_string())
        })?;
        let kernel = Self { held, pins, counters, slots, inodes, inodes_malicious, exes, folds, losses };
        Ok((kernel, rings, OwnOpens { map: own_opens }, plan))
    }

    /// A counter, summed over CPUs.
    pub fn counter(&self, counter: Counter) -> u64 {
        self.counters.get(&(counter as u32), 0).map_or(0, |values| values.iter().sum())
    }

    /// What was lost of whom: reason and cgroup.
    pub fn losses_by_cgroup(&self) -> BTreeMap<(&'static str, u64), u64> {
        let mut losses = BTreeMap::new();
        for entry in self.losses.iter().take(LOSSES_MAX) {
            let Ok((key, count)) = entry else { break };
            let Ok(key) = LossKey::read_from_bytes(&key) else { continue };
            let reason = LOSS.iter().find(|(counter, _)| *counter as u32 == key.counter).map(|(_, reason)| *reason);
            losses.extend(reason.map(|reason| ((reason, key.cgroup), count)));
        }
        losses
    }

    /// See [`Held::skipped`].
    pub fn skipped(&self) -> u64 {
        self.held.skipped()
    }

    /// Takes the folds whose first act was before `before_ns` out of the table; those that counted something.
    pub fn take_folds(&mut self, before_ns: u64) -> std::io::Result<Vec<Vec<u8>>> {
        folds::take(&self.folds, before_ns)
    }

    /// What the kernel knows of an inode's content.
    pub fn inode(&self, key: InodeKey) -> Option<InodeInfo> {
        let info = self.inodes.get(&bytes(&key), 0).ok()?;
        InodeInfo::read_from_bytes(&info).ok()
    }

    /// Tells the kernel what an inode's content is.
    pub fn set_inode(&mut self, key: InodeKey, info: InodeInfo) -> Result<(), aya::maps::MapError> {
        let is_malicious = info.verdict == verdict::MALICIOUS;
        // Before the entry: a hook that finds nothing here doesn't look for it.
        let may_be_malicious = self.slots.fill(inode_slot(key.ino), is_malicious)?;
        let (key, value) = (bytes(&key), bytes(&info));
        self.inodes.insert(key, value, 0)?;
        if is_malicious {
            return self.inodes_malicious.insert(key, value, 0);
        }
        // Not read, or only sniffed: no reason to forget what was found before.
        if may_be_malicious && (info.verdict != verdict::NONE || info.class == class::NOT_MODEL) {
            let _ = self.inodes_malicious.remove(&key);
        }
        Ok(())
    }

    /// Tells the kernel what role an executable has.
    pub fn set_role(&mut self, exe: InodeKey, role: u8) -> Result<(), aya::maps::MapError> {
        self.exes.insert(bytes(&exe), role, 0)
    }

    /// Marks that an earlier sensor left: are they used, and how many could not be?
    pub fn resumed(&self) -> (bool, u64) {
        self.pins.as_ref().map_or((false, 0), |pins| (pins.resumed, pins.marks_dropped))
    }

    /// Detaches every hook; the maps stay.
    pub fn detach(&mut self) {
        if let Some(pins) = &self.pins {
            pins.release();
        }
        self.held.detach();
    }
}

/// The bytes of a fixed-size plain structure.
fn bytes<T: IntoBytes + zerocopy::Immutable, const N: usize>(value: &T) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(value.as_bytes());
    out
}

/// CPUs that this kernel could ever run.
fn cpus() -> Result<u32, LoadError> {
    let (what, error) = match aya::util::nr_cpus() {
        Ok(count) => return Ok(u32::try_from(count).unwrap_or(u32::MAX / SCRATCHES)),
        Err(error) => error,
    };
    Err(LoadError::Object(format!("{what}: {error}")))
}

fn take_hash<K: aya::Pod, V: aya::Pod>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<BpfHashMap<MapData, K, V>, LoadError> {
    Ok(BpfHashMap::try_from(ebpf.take_map(name).ok_or(LoadError::Map(name))?)?)
}

fn create(
    loader: EbpfLoader<'static>,
    layout: Layout,
    wishes: Wishes,
    tables: &Tables,
    pins: Option<&Pins>,
) -> Result<Ebpf, LoadError> {
    let suffix_multiplier = suffix::multiplier(&tables.suffixes)?;
    let config = Config {
        own_tgid: std::process::id(),
        has_loop: u32::from(layout.has_loop),
        candidates_per_s: wishes.candidates_per_s,
        has_known_task: u32::from(layout.has_known_task),
        load_window_ns: wishes.load_window_ns,
        suffix_multiplier,
        argument_registers: ARGUMENT_REGISTERS,
        quiet_opens: u32::from(wishes.quiet_opens),
        reserved: 0,
    };
    let object = match layout.has_loop {
        true => Cow::Borrowed(OBJECT),
        false => Cow::Owned(without_loops(OBJECT).ok_or_else(|| LoadError::Object("not an object".to_owned()))?),
    };
    let mut loader: EbpfLoader<'_> = loader;
    for (name, path) in pins.into_iter().flat_map(Pins::maps) {
        loader.map_pin_path(name, path);
    }
    let mut ebpf = loader
        .override_global("OFFSETS", layout.offsets.as_bytes(), true)
        .override_global("CONFIG", config.as_bytes(), true)
        .map_max_entries("TASKS", wishes.marks_max.unwrap_or_else(tasks_max))
        .map_max_entries("SCRATCH", SCRATCHES * cpus()?)
        .load(&object)
        .map_err(|e| LoadError::Object(chain(&e)))?;
    suffix::write(&mut ebpf, &tables.suffixes, suffix_multiplier)?;
    Ok(ebpf)
}

/// Where marks and links are kept, or why they aren't.
pub type Keep = Result<Pins, PinError>;

/// Takes the folder of this version below `root`.
pub fn keep(root: &Path) -> Keep {
    Pins::take(root, OBJECT)
}

/// Marks that fit: one for every pid that can exist, between 32,768 and 262,144.
fn tasks_max() -> u32 {
    std::fs::read_to_string("/proc/sys/kernel/pid_max")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(32_768u32)
        .clamp(32_768, 262_144)
}

/// The cgroup2 root, wherever it is mounted (hybrid hosts have it below /sys/fs/cgroup).
pub fn cgroup2() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (_, at, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(at.replace("\\040", " ")))
    })
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// A program error without the verifier's pages, which go to the debug log.
fn say(error: &ProgramError) -> String {
    if let ProgramError::LoadError { io_error, verifier_log } = error {
        tracing::debug!(%verifier_log, "the verifier's word");
        return format!("the kernel refused to load it: {io_error}");
    }
    chain(error)
}

/// One counter, summed over CPUs, while the map still belongs to the object.
fn counter(ebpf: &Ebpf, counter: Counter) -> u64 {
    let Some(map) = ebpf.map("COUNTERS") else { return 0 };
    let Ok(counters) = PerCpuArray::<_, u64>::try_from(map) else { return 0 };
    counters.get(&(counter as u32), 0).map(|values| values.iter().sum()).unwrap_or(0)
}

/// A kernel that preempts its own code leaves a program out now and then (`preempt.rs`): one act proves nothing, where the
/// CPUs are busy.
const TRIES: u32 = 5;

/// Acts that the sensor can do by itself, and which hooks have to count them. A hook that doesn't loses its rung.
fn prove(ebpf: &Ebpf, plan: &mut Plan) {
    const CANARIES: [(&str, Counter); 18] = [
        ("open", Counter::CanaryOpen),
        ("connect4", Counter::CanaryConnect),
        ("sendmsg4", Counter::CanarySend),
        ("connect6", Counter::CanaryConnect6),
        ("sendmsg6", Counter::CanarySend6),
        ("bind4", Counter::CanaryBind),
        ("bind6", Counter::CanaryBind6),
        ("tcp", Counter::CanarySockops),
        ("socket_connect", Counter::CanarySocket),
        ("socket_sendmsg", Counter::CanaryLength),
        ("unix", Counter::CanaryUnix),
        ("accept", Counter::CanaryAccept),
        ("fork", Counter::CanaryFork),
        ("exec", Counter::CanaryExec),
        ("exec_window", Counter::CanaryExecWindow),
        ("exit", Counter::CanaryExit),
        ("receive", Counter::CanaryReceive),
        ("inherit", Counter::CanaryInherit),
    ];
    let before = CANARIES.map(|(_, canary)| counter(ebpf, canary));
    for last in (1..=TRIES).map(|tried| tried == TRIES) {
        let _ = std::fs::File::open("/proc/self/status");
        attach::pass_to_ourselves();
        let (ran, tried) = (attach::run_ourselves(), network::try_all());
        let can_prove = |event: &str| match event {
            "fork" | "exec" | "exec_window" | "exit" | "inherit" => ran,
            _ => tried.can_prove(event),
        };
        let mut unproven = 0;
        for ((event, canary), before) in CANARIES.into_iter().zip(before) {
            let Some(hook) = plan.hook_mut(event) else { continue };
            // At the edge of system calls nothing that is passed over a socket is seen.
            if hook.rung.is_none() || (event == "receive" && hook.rung == Some(Rung::Tracepoint)) {
                continue;
            }
            hook.proven = counter(ebpf, canary) > before;
            if !hook.proven && can_prove(event) {
                unproven += 1;
                if last {
                    hook.lose(network::NEVER_RUNS.to_owned());
                }
            }
        }
        if unproven == 0 {
            break;
        }
    }
}
