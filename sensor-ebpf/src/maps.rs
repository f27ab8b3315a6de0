//! Every map of the kernel half: bounded, and what happens when it is full stands beside it.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf};
use sensor_abi::act::{CALLS_MAX, NAMES_MAX, Shape};
use sensor_abi::counter::{COUNTERS as COUNTERS_LEN, Counter, LossKey};
use sensor_abi::identity::InodeKey;
use sensor_abi::mark::{
    BornThread, Flow, INODE_SLOTS as INODE_SLOTS_LEN, InodeInfo, LoadSet, Mark, TASK_SLOTS as TASK_SLOTS_LEN,
};
use sensor_abi::name::{SUFFIX_SLOTS, Suffix};
use sensor_abi::record::{Fold, FoldKey, RECORD_BYTES_MAX, SCRATCHES};

use crate::emit::atomic_add;
use crate::task;

/// tgid -> mark. Not LRU: a fork flood must not launder. Full: `TasksFull`, and the child is unmarked.
/// Userspace sizes it to the machine's pid_max.
#[map]
pub static TASKS: HashMap<u32, Mark> = HashMap::with_max_entries(32_768, 0);

/// How many of `TASKS` and `PYTHONS` have such a process id ([`sensor_abi::mark::task_slot`]; `slot.rs`).
#[map]
pub static TASK_SLOTS: Array<u64> = Array::with_max_entries(TASK_SLOTS_LEN, 0);

/// Load-set id -> set. Full: `LoadSetsFull`, no mark is set.
#[map]
pub static LOAD_SETS: HashMap<u64, LoadSet> = HashMap::with_max_entries(8_192, 0);

/// What is known of an inode's content. LRU: forgetting means looking again.
#[map]
pub static INODES: LruHashMap<InodeKey, InodeInfo> = LruHashMap::with_max_entries(16_384, 0);

/// Inodes judged malicious: no flood evicts them. Written by userspace only.
#[map]
pub static INODES_MALICIOUS: HashMap<InodeKey, InodeInfo> = HashMap::with_max_entries(4_096, 0);

/// Which of the two above ever held a file with such an inode number ([`sensor_abi::mark::inode_slot`]): for almost every
/// file it is neither, and this look-up costs next to nothing. Never cleared: a number too many costs time and nothing else.
#[map]
pub static INODE_SLOTS: Array<u64> = Array::with_max_entries(INODE_SLOTS_LEN, 0);

/// Executable -> role, decided by userspace. LRU: forgetting means asking again.
#[map]
pub static EXES: LruHashMap<InodeKey, u8> = LruHashMap::with_max_entries(4_096, 0);

/// The executable that was last found to be a loader's, on each CPU: those who load models mostly run one program, and this
/// look-up costs a sixth. Two programs that write here at once leave two halves, which at worst make a reader a loader.
#[map]
pub static LOADER_LAST: PerCpuArray<InodeKey> = PerCpuArray::with_max_entries(1, 0);

/// Last 8 bytes of a name, case folded, digits as `0`, masked from the last dot -> class, by
/// [`sensor_abi::name::suffix_slot`]. Written at start.
#[map]
pub static SUFFIXES: Array<Suffix> = Array::with_max_entries(SUFFIX_SLOTS, 0);

/// Base names of programs that open files for others: shells, and what starts another program in its own place. Keyed as
/// `SUFFIXES`. Written at start.
#[map]
pub static CARRIERS: HashMap<u64, u8> = HashMap::with_max_entries(64, 0);

/// tgid -> this process is a CPython. Full: `PythonsFull`, and files whose names say nothing are not looked at.
#[map]
pub static PYTHONS: HashMap<u32, u8> = HashMap::with_max_entries(16_384, 0);

/// tid -> thread made inside a load window. Full: `ThreadsFull`, and it counts as made outside.
#[map]
pub static THREADS: HashMap<u32, BornThread> = HashMap::with_max_entries(4_096, 0);

/// Key of a name, as in `SUFFIXES` -> what it means when a marked process opens a file of that name or below such a
/// folder ([`sensor_abi::act::place`]). Written at start.
#[map]
pub static NAMES: HashMap<u64, u8> = HashMap::with_max_entries(NAMES_MAX, 0);

/// Last regular file that a process of the sensor's own opened: how userspace proves that it scanned the right inode.
#[map]
pub static OWN_OPENS: LruHashMap<u32, InodeKey> = LruHashMap::with_max_entries(256, 0);

/// Number of a system call -> what its arguments say. Written at start.
#[map]
pub static CALLS: HashMap<u32, Shape> = HashMap::with_max_entries(CALLS_MAX, 0);

/// What a thread that is about to exec has, and may have no longer or have more of afterwards.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Before {
    /// Artifacts that it holds: close-on-exec hides them later.
    pub held: u32,
    /// Its effective user.
    pub euid: u32,
    /// Its permitted capabilities.
    pub permitted: u64,
}

/// Thread that is about to exec -> what it has. LRU: forgetting is an exec judged as shortly after the load.
#[map]
pub static EXEC_BEFORE: LruHashMap<u32, Before> = LruHashMap::with_max_entries(1_024, 0);

/// Cookie of a marked process's TCP socket -> what was told of it. LRU: forgetting means that its bytes aren't counted.
#[map]
pub static FLOWS: LruHashMap<u64, Flow> = LruHashMap::with_max_entries(8_192, 0);

/// Cookies of sockets that a marked process asked a resolver by. LRU: forgetting is a name that isn't known.
#[map]
pub static ASKING: LruHashMap<u64, u8> = LruHashMap::with_max_entries(4_096, 0);

/// Thread in connect(2) -> the socket's descriptor. LRU: left behind by who dies in the call.
#[map]
pub static CONNECTING: LruHashMap<u32, u32> = LruHashMap::with_max_entries(1_024, 0);

/// Thread that has just become another program -> descriptor of a model that it was started with.
#[map]
pub static INHERITED: LruHashMap<u32, u32> = LruHashMap::with_max_entries(1_024, 0);

/// Candidates per cgroup in the current second.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Rate {
    pub second: u64,
    pub count: u64,
}

/// cgroup id -> candidate rate. LRU: forgetting is one second's worth of grace.
#[map]
pub static CANDIDATE_RATES: LruHashMap<u64, Rate> = LruHashMap::with_max_entries(1_024, 0);

/// cgroup id -> when it may send next while a ring is half full (CLOCK_BOOTTIME, ns). LRU: forgetting is one burst's
/// worth of grace.
#[map]
pub static SHARES: LruHashMap<u64, u64> = LruHashMap::with_max_entries(1_024, 0);

/// Equal acts of one second. Full: acts are sent one by one. Emptied by userspace.
#[map]
pub static FOLDS: HashMap<FoldKey, Fold> = HashMap::with_max_entries(512, 0);

/// Whose acts were not seen. Full: counted without a name, in `COUNTERS` alone.
#[map]
pub static LOSSES: HashMap<LossKey, u64> = HashMap::with_max_entries(1_024, 0);

#[map]
pub static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS_LEN, 0);

/// Opens, forks, execs, exits: few, and needed to understand the rest. Full: `RingFull`.
#[map]
pub static RING_PRIORITY: RingBuf = RingBuf::with_byte_size(PRIORITY_BYTES, 0);
pub const PRIORITY_BYTES: u32 = 1024 * 1024;

/// Connections and datagrams. Full: `RingFull`.
#[map]
pub static RING_BULK: RingBuf = RingBuf::with_byte_size(BULK_BYTES, 0);
pub const BULK_BYTES: u32 = 512 * 1024;

/// Not 0: a ring may hold a record that nobody was woken for. The next that is sent wakes, whatever the ring holds; and
/// userspace looks by itself once a second.
#[map]
pub static UNHEARD: Array<u64> = Array::with_max_entries(1, 0);

/// Bytes of a scratch record: the largest one, rounded up so that masked offsets stay inside.
pub const SCRATCH_BYTES: usize = 16 * 1024;
const _: () = assert!(RECORD_BYTES_MAX + 512 <= SCRATCH_BYTES);

/// Where a record is put together. Programs may be preempted by others on their CPU: `busy` says whose turn it is.
#[repr(C)]
pub struct Scratch {
    pub busy: u64,
    /// Which area it is, as its user wrote it.
    pub index: u64,
    pub bytes: [u8; SCRATCH_BYTES],
}

/// [`SCRATCHES`] for each CPU; the loader knows how many there are. Not in the kernel's per-CPU memory, of which there is
/// little: what others take of it at every fork would have to come from farther away.
#[map]
pub static SCRATCH: Array<Scratch> = Array::with_max_entries(SCRATCHES, 0);

/// Next load-set id.
#[map]
pub static NEXT_SET: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Adds one. Exact, also where programs preempt each other.
#[inline(always)]
pub fn count(counter: Counter) {
    if let Some(value) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: a live map value, eight-byte aligned.
        unsafe { atomic_add(value, 1) };
    }
}

/// Something of the current task was not seen, and why.
#[inline(always)]
pub fn lose(counter: Counter) {
    // Not every kind of program has a helper that knows the cgroup.
    sensor_lose(u64::from(counter as u32), task::who(task::current()).cgroup);
}

/// What a marked process does can't be told without this: counted where it could not be read.
#[inline(always)]
pub fn needed<T>(read: Option<T>) -> Option<T> {
    if read.is_none() {
        lose(Counter::ReadFailed);
    }
    read
}

/// [`lose`], as a function that the verifier checks once: losses are rare, and every hook can have them.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sensor_lose(counter: u64, cgroup: u64) -> u64 {
    if let Some(value) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: a live map value, eight-byte aligned.
        unsafe { atomic_add(value, 1) };
    }
    let key = LossKey { cgroup, counter: counter as u32, reserved: 0 };
    if LOSSES.get_ptr_mut(key).is_none() {
        // Of two that meet here one inserts, and both find it.
        let _ = LOSSES.insert(key, 0, BPF_NOEXIST);
    }
    if let Some(value) = LOSSES.get_ptr_mut(key) {
        // SAFETY: as above.
        unsafe { atomic_add(value, 1) };
    }
    0
}

/// `include/uapi/linux/bpf.h`
pub const BPF_NOEXIST: u64 = 1;
