//! From the object to the attach plan: what is probed, which rung each hook gets, and what is lost where it isn't the
//! best one. Chosen by trying, never by version numbers.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use aya::maps::{HashMap as BpfHashMap, MapData, PerCpuArray, RingBuf};
use aya::programs::{BtfTracePoint, CgroupAttachMode, CgroupSockAddr, Iter, Lsm, ProgramError, TracePoint};
use aya::{Btf, Ebpf, EbpfLoader, include_bytes_aligned};
use sensor_abi::config::{Config, Offsets};
use sensor_abi::counter::{COUNTERS, Counter};
use sensor_abi::identity::InodeKey;
use sensor_abi::mark::{InodeInfo, verdict};
use thiserror::Error;
use zerocopy::IntoBytes;

use super::btf::{self, BtfError};
use super::plan::{Hook, Plan, Rung};
use super::tracepoint::{self, Tracefs, TracepointLink};

/// The kernel half, built from `sensor-ebpf/` by `cargo xtask build-ebpf`; `build.rs` says which file it is.
static OBJECT: &[u8] = include_bytes_aligned!(env!("SENSOR_EBPF_OBJECT"));

#[derive(Debug, Error)]
pub enum LoadError {
    #[error("{0}")]
    Btf(#[from] BtfError),
    #[error("the kernel refused the maps: {0}. Run as root, or with CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN")]
    Object(String),
    #[error("no cgroup2 file system is mounted: `mount -t cgroup2 none /sys/fs/cgroup/unified`")]
    NoCgroup,
    #[error("no hook could be attached:\n{0}")]
    Nothing(String),
    #[error("map {0} is missing from the kernel object")]
    Map(&'static str),
    #[error("{0}")]
    Map2(#[from] aya::maps::MapError),
}

/// What a load is asked to do.
#[derive(Debug, Clone, Copy)]
pub struct Wishes {
    pub candidates_per_s: u32,
    pub load_window_ns: u64,
    /// Leave LSM programs out: tests of the restricted rung, and a way out on a host where they misbehave.
    pub without_lsm: bool,
}

/// The loaded kernel half. Dropping it detaches everything.
pub struct Kernel {
    ebpf: Ebpf,
    _tracepoints: Vec<TracepointLink>,
    counters: PerCpuArray<MapData, u64>,
    inodes: BpfHashMap<MapData, [u8; 16], [u8; 32]>,
    inodes_malicious: BpfHashMap<MapData, [u8; 16], [u8; 32]>,
    exes: BpfHashMap<MapData, [u8; 16], u8>,
    own_opens: BpfHashMap<MapData, u32, [u8; 16]>,
}

/// The two streams of records.
pub struct Rings {
    pub priority: RingBuf<MapData>,
    pub bulk: RingBuf<MapData>,
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Kernel")
    }
}

impl Kernel {
    /// Loads, attaches what can be attached, proves it, and says what came of it.
    pub fn load(wishes: Wishes, suffixes: &[(u64, u8)]) -> Result<(Self, Rings, Plan), LoadError> {
        let offsets = btf::offsets()?;
        let btf = Btf::from_sys_fs().map_err(|e| LoadError::Object(e.to_string()))?;
        let mut ebpf = create(&btf, offsets, wishes)?;

        let mut map = take_hash::<u64, u8>(&mut ebpf, "SUFFIXES")?;
        for (key, class) in suffixes {
            map.insert(key, class, 0)?;
        }

        let mut attacher = Attacher { ebpf: &mut ebpf, btf: &btf, tracefs: None, tracepoints: Vec::new() };
        let cgroup = cgroup2().ok_or(LoadError::NoCgroup)?;
        let mut plan = Plan::default();
        plan.hooks.push(attacher.process("fork", "sched_process_fork"));
        plan.hooks.push(attacher.process("exec", "sched_process_exec"));
        plan.hooks.push(attacher.process("exit", "sched_process_exit"));
        plan.hooks.push(attacher.cgroup("connect4", &cgroup));
        plan.hooks.push(attacher.cgroup("connect6", &cgroup));
        plan.hooks.push(attacher.cgroup("sendmsg4", &cgroup));
        plan.hooks.push(attacher.cgroup("sendmsg6", &cgroup));
        plan.hooks.push(attacher.other_sockets("socket_connect", wishes.without_lsm));
        plan.hooks.push(attacher.other_sockets("socket_sendmsg", wishes.without_lsm));
        let exec_window = attacher.exec_window(wishes.without_lsm);
        plan.hooks.push(exec_window);
        let open = attacher.open(wishes.without_lsm);
        plan.hooks.push(open);
        let tracepoints = attacher.tracepoints;

        let rings = Rings {
            priority: RingBuf::try_from(ebpf.take_map("RING_PRIORITY").ok_or(LoadError::Map("RING_PRIORITY"))?)?,
            bulk: RingBuf::try_from(ebpf.take_map("RING_BULK").ok_or(LoadError::Map("RING_BULK"))?)?,
        };
        let counters = PerCpuArray::try_from(ebpf.take_map("COUNTERS").ok_or(LoadError::Map("COUNTERS"))?)?;
        let inodes = take_hash(&mut ebpf, "INODES")?;
        let inodes_malicious = take_hash(&mut ebpf, "INODES_MALICIOUS")?;
        let exes = take_hash(&mut ebpf, "EXES")?;
        let own_opens = take_hash(&mut ebpf, "OWN_OPENS")?;
        let mut kernel = Self { ebpf, _tracepoints: tracepoints, counters, inodes, inodes_malicious, exes, own_opens };
        kernel.prove(&mut plan);
        plan.hooks.push(kernel.walk(&btf));
        if plan.hooks.iter().all(|hook| hook.rung.is_none()) {
            return Err(LoadError::Nothing(plan.reasons()));
        }
        Ok((kernel, rings, plan))
    }

    /// Runs every hook that the sensor can trigger by itself, and takes back the word of those that did not count it:
    /// an LSM program loads and attaches without an error where `bpf` isn't in `lsm=`, and never runs.
    fn prove(&mut self, plan: &mut Plan) {
        let before = self.counters();
        let _ = std::fs::File::open("/proc/self/status");
        for address in ["127.0.0.1:0", "[::1]:0"] {
            if let Ok(socket) = UdpSocket::bind(address) {
                if let Ok(own) = socket.local_addr() {
                    let _ = socket.send_to(b"", own);
                    let _ = socket.connect(own);
                }
            }
        }
        let after = self.counters();
        let ran = |counter: Counter| after[counter as usize] > before[counter as usize];
        for (event, counter) in
            [("open", Counter::CanaryOpen), ("connect4", Counter::CanaryConnect), ("sendmsg4", Counter::CanarySend)]
        {
            if let Some(hook) = plan.hooks.iter_mut().find(|hook| hook.event == event) {
                hook.proven = hook.rung.is_some() && ran(counter);
                if hook.rung.is_some() && !hook.proven {
                    hook.rung = None;
                    hook.why_not_better.push("attached, but the kernel never runs it".to_owned());
                }
            }
        }
    }

    /// Looks at what was open and mapped before the hooks were in place.
    fn walk(&mut self, btf: &Btf) -> Hook {
        let mut hook = Hook::new("found", "a model that was open or mapped before the sensor started is not known");
        for (name, partial) in [
            ("task_file", "models that were open before the start"),
            ("task_vma", "models that were mapped before the start"),
        ] {
            let walked = (|| -> Result<(), ProgramError> {
                let program: &mut Iter = self.ebpf.program_mut(name).ok_or(not_found(name))?.try_into()?;
                program.load(name, btf)?;
                let id = program.attach()?;
                let mut file =
                    program.take_link(id)?.into_file().map_err(|e| ProgramError::IOError(io::Error::other(e)))?;
                io::copy(&mut file, &mut io::sink()).map_err(ProgramError::IOError)?;
                Ok(())
            })();
            match walked {
                Ok(()) => {
                    hook.rung = Some(Rung::Iterator);
                    hook.proven = true;
                }
                Err(error) => {
                    hook.why_not_better.push(format!("iter/{name}: {} ({partial} are not known)", say(&error)))
                }
            }
        }
        hook
    }

    /// All counters, summed over CPUs, in [`Counter`] order.
    pub fn counters(&self) -> [u64; COUNTERS as usize] {
        let mut sums = [0; COUNTERS as usize];
        for (index, sum) in sums.iter_mut().enumerate() {
            if let Ok(values) = self.counters.get(&(index as u32), 0) {
                *sum = values.iter().sum();
            }
        }
        sums
    }

    /// Tells the kernel what an inode's content is.
    pub fn set_inode(&mut self, key: InodeKey, info: InodeInfo) -> Result<(), aya::maps::MapError> {
        let (key, value) = (bytes(&key), bytes(&info));
        if info.verdict == verdict::MALICIOUS {
            self.inodes_malicious.insert(key, value, 0)?;
        } else {
            let _ = self.inodes_malicious.remove(&key);
        }
        self.inodes.insert(key, value, 0)
    }

    /// Tells the kernel what role an executable has.
    pub fn set_role(&mut self, exe: InodeKey, role: u8) -> Result<(), aya::maps::MapError> {
        self.exes.insert(bytes(&exe), role, 0)
    }

    /// The inode of the last model-named regular file that a process of our own opened, as the hooks saw it.
    pub fn own_open(&self, tgid: u32) -> Option<InodeKey> {
        let raw = self.own_opens.get(&tgid, 0).ok()?;
        zerocopy::FromBytes::read_from_bytes(&raw).ok()
    }
}

/// The bytes of a fixed-size plain structure.
fn bytes<T: IntoBytes + zerocopy::Immutable, const N: usize>(value: &T) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(value.as_bytes());
    out
}

fn take_hash<K: aya::Pod, V: aya::Pod>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<BpfHashMap<MapData, K, V>, LoadError> {
    Ok(BpfHashMap::try_from(ebpf.take_map(name).ok_or(LoadError::Map(name))?)?)
}

fn create(btf: &Btf, offsets: Offsets, wishes: Wishes) -> Result<Ebpf, LoadError> {
    let config = Config {
        own_tgid: std::process::id(),
        candidates_per_s: wishes.candidates_per_s,
        load_window_ns: wishes.load_window_ns,
    };
    EbpfLoader::new()
        .btf(Some(btf))
        .override_global("OFFSETS", offsets.as_bytes(), true)
        .override_global("CONFIG", config.as_bytes(), true)
        .map_max_entries("TASKS", tasks_max())
        .load(OBJECT)
        .map_err(|e| LoadError::Object(chain(&e)))
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
        if std::env::var_os("SENSOR_VLOG").is_some() {
            let t = verifier_log.to_string();
            eprintln!("{}", &t[t.len().saturating_sub(3000)..]);
        }
        tracing::debug!(%verifier_log, "the verifier's word");
        return format!("the kernel refused to load it: {io_error}");
    }
    chain(error)
}

fn not_found(name: &str) -> ProgramError {
    ProgramError::IOError(io::Error::new(io::ErrorKind::NotFound, format!("no program {name} in the object")))
}

/// Tries rungs from the best down.
struct Attacher<'a> {
    ebpf: &'a mut Ebpf,
    btf: &'a Btf,
    tracefs: Option<Result<Tracefs, String>>,
    tracepoints: Vec<TracepointLink>,
}

impl Attacher<'_> {
    fn process(&mut self, event: &'static str, name: &'static str) -> Hook {
        let mut hook = Hook::new(
            event,
            match event {
                "fork" => "children of a loader are not followed",
                "exec" => "programs that a loader starts are not seen",
                _ => "marks are not freed: the table fills up and says so",
            },
        );
        let attached = (|| -> Result<(), ProgramError> {
            let program: &mut BtfTracePoint = self.ebpf.program_mut(name).ok_or(not_found(name))?.try_into()?;
            program.load(name, self.btf)?;
            program.attach()?;
            Ok(())
        })();
        hook.settle(Rung::TpBtf, attached.map_err(|e| say(&e)));
        hook
    }

    fn cgroup(&mut self, name: &'static str, cgroup: &Path) -> Hook {
        let mut hook = Hook::new(
            name,
            match name {
                "connect4" => "IPv4 connections are not seen",
                "connect6" => "IPv6 connections are not seen",
                "sendmsg4" => "IPv4 datagrams on unconnected sockets are not seen",
                _ => "IPv6 datagrams on unconnected sockets are not seen",
            },
        );
        let attached = (|| -> Result<(), ProgramError> {
            let root = std::fs::File::open(cgroup).map_err(ProgramError::IOError)?;
            let program: &mut CgroupSockAddr = self.ebpf.program_mut(name).ok_or(not_found(name))?.try_into()?;
            program.load()?;
            // A link is always one of many, whatever this mode says; the old attach call would push others out.
            program.attach(root, CgroupAttachMode::Single)?;
            Ok(())
        })();
        hook.settle(Rung::Cgroup, attached.map_err(|e| say(&e)));
        hook
    }

    fn lsm(&mut self, name: &'static str) -> Result<(), String> {
        let attached = (|| -> Result<(), ProgramError> {
            let program: &mut Lsm = self.ebpf.program_mut(name).ok_or(not_found(name))?.try_into()?;
            program.load(name, self.btf)?;
            program.attach()?;
            Ok(())
        })();
        attached.map_err(|e| say(&e))
    }

    fn detach_lsm(&mut self, name: &str) {
        if let Some(program) = self.ebpf.program_mut(name) {
            if let Ok(program) = <&mut Lsm>::try_from(program) {
                let _ = program.unload();
            }
        }
    }

    fn tracepoint(&mut self, program: &str, category: &str, names: &[&str]) -> Result<Vec<String>, String> {
        let tracefs = self.tracefs.get_or_insert_with(|| Tracefs::open().map_err(|e| format!("tracefs: {e}")));
        let tracefs = tracefs.as_ref().map_err(Clone::clone)?;
        let loaded: &mut TracePoint = self
            .ebpf
            .program_mut(program)
            .ok_or_else(|| format!("no program {program} in the object"))?
            .try_into()
            .map_err(|e: ProgramError| say(&e))?;
        if loaded.fd().is_err() {
            loaded.load().map_err(|e| say(&e))?;
        }
        let fd = loaded.fd().map_err(|e| say(&e))?;
        let mut missing = Vec::new();
        for name in names {
            match tracefs.id(category, name).and_then(|id| tracepoint::attach(fd.as_fd(), id)) {
                Ok(link) => self.tracepoints.push(link),
                Err(error) => missing.push(format!("{category}/{name}: {error}")),
            }
        }
        if missing.len() == names.len() { Err(missing.join("; ")) } else { Ok(missing) }
    }

    /// `file_open`, proven by an open of our own; else the exits of the open calls.
    fn open(&mut self, without_lsm: bool) -> Hook {
        let mut hook = Hook::new("open", "loads are not seen at all");
        hook.best = Rung::Lsm;
        match self.lsm_unless(without_lsm, "file_open") {
            Ok(()) if self.lsm_runs() => {
                hook.rung = Some(Rung::Lsm);
                return hook;
            }
            Ok(()) => {
                self.detach_lsm("file_open");
                hook.why_not_better
                    .push("LSM: it attached but never ran; put `bpf` into the kernel's `lsm=` parameter".to_owned());
            }
            Err(why) => hook.why_not_better.push(format!("LSM: {why}")),
        }
        match self.tracepoint("sys_exit_open", "syscalls", &["sys_exit_openat", "sys_exit_open", "sys_exit_openat2"]) {
            Ok(missing) => {
                hook.rung = Some(Rung::Tracepoint);
                hook.lost = "opens by io_uring, open_by_handle_at and 32-bit calls are not seen".to_owned();
                hook.why_not_better.extend(missing);
            }
            Err(why) => hook.why_not_better.push(format!("tracepoint: {why}")),
        }
        hook
    }

    fn lsm_unless(&mut self, without: bool, name: &'static str) -> Result<(), String> {
        if without { Err("switched off".to_owned()) } else { self.lsm(name) }
    }

    /// Does the LSM program see an open of our own?
    fn lsm_runs(&mut self) -> bool {
        let sum = |ebpf: &Ebpf| -> u64 {
            let Some(map) = ebpf.map("COUNTERS") else { return 0 };
            let Ok(counters) = PerCpuArray::<_, u64>::try_from(map) else { return 0 };
            counters.get(&(Counter::CanaryOpen as u32), 0).map(|values| values.iter().sum()).unwrap_or(0)
        };
        let before = sum(self.ebpf);
        let _ = std::fs::File::open("/proc/self/status");
        sum(self.ebpf) > before
    }

    fn exec_window(&mut self, without_lsm: bool) -> Hook {
        let mut hook =
            Hook::new("exec-window", "a program that a loader runs in its own place counts as shortly after the load");
        hook.best = Rung::Lsm;
        match self.lsm_unless(without_lsm, "bprm_check_security") {
            Ok(()) if self.exec_lsm_runs() => {
                hook.rung = Some(Rung::Lsm);
                return hook;
            }
            Ok(()) => {
                self.detach_lsm("bprm_check_security");
                hook.why_not_better.push("LSM: it attached but never ran".to_owned());
            }
            Err(why) => hook.why_not_better.push(format!("LSM: {why}")),
        }
        match self.tracepoint("sys_enter_execve", "syscalls", &["sys_enter_execve", "sys_enter_execveat"]) {
            Ok(missing) => {
                hook.rung = Some(Rung::Tracepoint);
                hook.lost.clear();
                hook.why_not_better.extend(missing);
            }
            Err(why) => hook.why_not_better.push(format!("tracepoint: {why}")),
        }
        hook
    }

    /// An exec of our own that fails after the hook has run: a file that is no program.
    fn exec_lsm_runs(&mut self) -> bool {
        let sum = |ebpf: &Ebpf| -> u64 {
            let Some(map) = ebpf.map("COUNTERS") else { return 0 };
            let Ok(counters) = PerCpuArray::<_, u64>::try_from(map) else { return 0 };
            counters.get(&(Counter::CanaryExecLsm as u32), 0).map(|values| values.iter().sum()).unwrap_or(0)
        };
        let before = sum(self.ebpf);
        let _ = std::process::Command::new("/proc/self/exe")
            .arg("--version")
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status();
        sum(self.ebpf) > before
    }

    fn other_sockets(&mut self, name: &'static str, without_lsm: bool) -> Hook {
        let mut hook = Hook::new(
            name,
            if name == "socket_connect" {
                "connections of vsock sockets are not seen"
            } else {
                "raw and packet sockets are not seen"
            },
        );
        hook.best = Rung::Lsm;
        let attached = self.lsm_unless(without_lsm, name);
        hook.settle(Rung::Lsm, attached);
        hook
    }
}
