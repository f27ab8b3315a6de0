//! Putting a record together in a scratch area and sending it: one way out for every hook.

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_probe_read_user};
use aya_ebpf::maps::RingBuf;
use sensor_abi::counter::Counter;
use sensor_abi::mark::{Artifact, LOAD_SET_ARTIFACTS_MAX, LoadSet, Mark};
use sensor_abi::record::{ARGV_BYTES_MAX, FOLD_NS, Fold, FoldKey, Header, Load, SCRATCHES};

use crate::field::{Address, Reach, member};
use crate::maps::{
    BPF_NOEXIST, BULK_BYTES, FOLDS, PRIORITY_BYTES, RING_PRIORITY, SCRATCH, SCRATCH_BYTES, SHARES, Scratch, UNHEARD,
    count, lose, sensor_lose,
};
use crate::task::now_ns;

/// Records that a cgroup may send per second while a ring is half full, and at once: with 64 cgroups in need the other
/// half holds a burst of each.
const SHARE_PER_S: u64 = 1_000;
const SHARE_BURST: u64 = 32;

/// `include/uapi/linux/bpf.h`
const BPF_RB_AVAIL_DATA: u64 = 0;
const BPF_RB_NO_WAKEUP: u64 = 1;
const BPF_RB_FORCE_WAKEUP: u64 = 2;

/// Part of a ring that may be full of what nobody was woken for: 1 / this.
const QUIET_SHARE: u64 = 4;

/// Adds to a number in a map without asking for the result: BPF_ATOMIC | BPF_ADD without BPF_FETCH, which every kernel
/// has. (The target's `core` has no read-modify-write atomics.)
///
/// # Safety
/// `number` is eight-byte aligned and inside a live map value.
#[inline(always)]
pub unsafe fn atomic_add(number: *mut u64, by: i64) {
    // SAFETY: the caller's promise.
    unsafe { core::arch::asm!("lock *(u64 *)({} + 0) += {}", in(reg) number, in(reg) by) };
}

/// The same number, of which the verifier knows nothing any more: neither its range nor where it came from.
///
/// Verifiers before 6.4 take all numbers of a program for precise once they follow one back across a call or a loop,
/// and then find hardly two states alike: what was a thousand steps becomes a million. So what a call or a loop
/// answered, and what bounds a copy, is forgotten before it is masked and used.
#[inline(always)]
pub fn forget(number: u64) -> u64 {
    let mut slot = number;
    // An atomic addition on the stack leaves bytes that could be any; a load by another register than the frame's ends
    // the search for where they came from.
    // SAFETY: the slot is eight-byte aligned and lives.
    unsafe {
        atomic_add(&raw mut slot, 0);
        let known;
        core::arch::asm!("{} = *(u64 *)({} + 0)", out(reg) known, in(reg) &raw const slot);
        known
    }
}

/// A scratch area of this CPU that nobody else is using. Given back by [`Area::release`].
pub struct Area(*mut Scratch);

impl Area {
    /// `None` where programs that preempted each other hold them all: the record is counted as lost.
    #[inline(always)]
    pub fn claim() -> Option<Self> {
        // SAFETY: no arguments, no memory. Programs stay on their CPU.
        let first = unsafe { bpf_get_smp_processor_id() } * SCRATCHES;
        for i in 0..SCRATCHES {
            let index = first + i;
            let scratch = SCRATCH.get_ptr_mut(index)?;
            // Add first, look then: of two that meet here at most one reads its own 1. (An add without a result is the
            // one atomic that every kernel has.)
            // SAFETY: a live map value, eight-byte aligned; volatile, because another program may change it.
            unsafe {
                atomic_add(&raw mut (*scratch).busy, 1);
                if core::ptr::read_volatile(&raw const (*scratch).busy) == 1 {
                    (*scratch).index = u64::from(index);
                    return Some(Self(scratch));
                }
                atomic_add(&raw mut (*scratch).busy, -1);
            }
        }
        lose(Counter::ScratchBusy);
        None
    }

    /// What [`Self::claimed`] finds it by.
    #[inline(always)]
    pub fn index(&self) -> u32 {
        // SAFETY: the field of a live map value.
        unsafe { (*self.0).index as u32 }
    }

    /// The area that another function of this program claimed.
    #[inline(always)]
    pub fn claimed(index: u32) -> Option<Self> {
        SCRATCH.get_ptr_mut(index).map(Self)
    }

    #[inline(always)]
    pub fn release(self) {
        // SAFETY: a live map value, eight-byte aligned.
        unsafe { atomic_add(&raw mut (*self.0).busy, -1) };
    }

    /// The same address, of which the verifier knows nothing: the memory of a map keeps no types, and a loop has to begin
    /// with what it goes on with.
    #[inline(always)]
    pub fn untyped(&self, address: Address) -> Address {
        // SAFETY: the end of the area, where no record comes; volatile, because the compiler would know what it reads.
        unsafe {
            let slot: *mut Address = self.bytes().add(SCRATCH_BYTES - size_of::<Address>()).cast();
            core::ptr::write_volatile(slot, address);
            core::ptr::read_volatile(slot)
        }
    }

    #[inline(always)]
    pub fn bytes(&self) -> *mut u8 {
        // SAFETY: the field of a live map value.
        unsafe { (&raw mut (*self.0).bytes).cast() }
    }

    /// The area's beginning as a `T`.
    #[inline(always)]
    pub fn record<T>(&self) -> *mut T {
        const { assert!(size_of::<T>() <= SCRATCH_BYTES && align_of::<T>() <= 8) };
        self.bytes().cast()
    }

    /// Sends the first `len` bytes, which begin with a [`Header`], and releases the area. False where there was no room:
    /// counted.
    #[inline(always)]
    pub fn send(self, ring: &RingBuf, len: u64) -> bool {
        let sent = self.output(ring, len, false);
        self.release();
        sent
    }

    /// [`Self::send`], and nobody is woken for it, unless many of its kind wait: it is heard with the next record, or when
    /// userspace looks by itself, once a second.
    #[inline(always)]
    pub fn send_quietly(self, ring: &RingBuf, len: u64) -> bool {
        let sent = self.output(ring, len, true);
        self.release();
        sent
    }

    /// [`Self::send`], and equal acts of the next second are counted instead of sent. The area holds a [`Fold`].
    #[inline(always)]
    pub fn send_foldable(self, ring: &RingBuf, len: u64, key: &FoldKey) -> bool {
        let sent = self.output(ring, len, false);
        if sent {
            let fold: *mut Fold = self.record();
            // SAFETY: the area is larger than a fold; any bytes are one.
            unsafe {
                (*fold).net.times = 0;
                (*fold).net.bytes = 0;
                // Two that meet here were both sent, and one of them is kept. Full: the next is sent too.
                let _ = FOLDS.insert(key, &*fold, BPF_NOEXIST);
            }
        }
        self.release();
        sent
    }

    #[inline(always)]
    fn output(&self, ring: &RingBuf, len: u64, is_quiet: bool) -> bool {
        let header: *const Header = self.record();
        // SAFETY: the area is larger than a header, and plain bytes.
        let cgroup = unsafe { (*header).cgroup };
        let len = forget(len) as usize & (SCRATCH_BYTES - 1);
        // SAFETY: `len` is below the area's size.
        let bytes = unsafe { core::slice::from_raw_parts(self.bytes().cast_const(), len) };
        let size = u64::from(if core::ptr::eq(ring, &RING_PRIORITY) { PRIORITY_BYTES } else { BULK_BYTES });
        let used = ring.query(BPF_RB_AVAIL_DATA);
        if used > size / 2 && !within_share(cgroup) {
            sensor_lose(Counter::EventShare as u64, cgroup);
            return false;
        }
        let unheard = UNHEARD.get_ptr_mut(0);
        let flags = match unheard {
            // Said before it is there and after it: whoever wakes in between may have woken for nothing. (Programs on other
            // CPUs that meet this one halfway can leave a record to userspace's next look.)
            // SAFETY: a live map value; volatile, because other CPUs look.
            Some(unheard) if is_quiet && used < size / QUIET_SHARE => unsafe {
                core::ptr::write_volatile(unheard, 1);
                BPF_RB_NO_WAKEUP
            },
            // The kernel wakes for a record that comes alone: behind one that nobody has heard of it does not.
            // SAFETY: as above.
            Some(unheard) if unsafe { core::ptr::read_volatile(unheard) } != 0 => unsafe {
                core::ptr::write_volatile(unheard, 0);
                BPF_RB_FORCE_WAKEUP
            },
            _ => 0,
        };
        if ring.output::<[u8]>(bytes, flags).is_err() {
            again(unheard, flags != 0);
            sensor_lose(Counter::RingFull as u64, cgroup);
            return false;
        }
        again(unheard, flags == BPF_RB_NO_WAKEUP);
        count(Counter::Sent);
        true
    }
}

/// There is, or may still be, a record that nobody was woken for.
#[inline(always)]
fn again(unheard: Option<*mut u64>, is: bool) {
    if let (Some(unheard), true) = (unheard, is) {
        // SAFETY: a live map value; volatile, because other CPUs look.
        unsafe { core::ptr::write_volatile(unheard, 1) };
    }
}

/// The second half of a ring is for those who send little: one cgroup's flood takes no other's place.
///
/// A bucket of [`SHARE_BURST`] that [`SHARE_PER_S`] fills, kept as the time at which it is full again.
#[inline(always)]
fn within_share(cgroup: u64) -> bool {
    const INTERVAL_NS: u64 = 1_000_000_000 / SHARE_PER_S;
    let now = now_ns();
    let Some(full_at) = SHARES.get_ptr_mut(cgroup) else {
        return SHARES.insert(cgroup, now + INTERVAL_NS, 0).is_ok();
    };
    // SAFETY: a live map value; a lost update grants one record.
    unsafe {
        let at = (*full_at).max(now);
        if at - now > SHARE_BURST * INTERVAL_NS {
            return false;
        }
        *full_at = at + INTERVAL_NS;
    }
    true
}

/// Was an equal act sent within the last second? Then this one is counted there.
#[inline(always)]
pub fn folded(key: &FoldKey, bytes: u64) -> bool {
    let Some(fold) = FOLDS.get_ptr_mut(key) else { return false };
    let now = now_ns();
    // SAFETY: a live map value, eight-byte aligned; a torn `last_ns` can't be, it is one word.
    unsafe {
        if now.wrapping_sub((*fold).net.header.time_ns) >= FOLD_NS {
            return false;
        }
        atomic_add(&raw mut (*fold).net.times, 1);
        atomic_add(&raw mut (*fold).net.bytes, bytes as i64);
        core::ptr::write_volatile(&raw mut (*fold).net.last_ns, now);
    }
    count(Counter::Folded);
    true
}

/// Writes a load's fixed part and returns how many artifacts it has.
///
/// # Safety
/// `load` points to writable memory of its size; `mark` and `set` are live map values.
#[inline(always)]
pub unsafe fn write_load(
    load: *mut Load,
    mark: *const Mark,
    set: *const LoadSet,
    held: u8,
    cut: u8,
    thread_ms: u32,
) -> u64 {
    // SAFETY: the caller's promise.
    unsafe {
        let artifacts = (*set).count.min(LOAD_SET_ARTIFACTS_MAX as u32);
        (*load).exe = (*mark).exe;
        (*load).role = (*mark).role;
        (*load).born = (*mark).born;
        (*load).held = held;
        (*load).cut = cut;
        (*load).count = artifacts;
        (*load).omitted = (*set).omitted;
        (*load).thread_ms = thread_ms;
        u64::from(artifacts)
    }
}

/// Copies `artifacts` artifacts behind a fixed part of `at` bytes and returns where they end.
#[inline(always)]
pub fn write_artifacts(bytes: *mut u8, at: u64, set: *const LoadSet, artifacts: u64) -> u64 {
    let len = (forget(artifacts) & 15).min(LOAD_SET_ARTIFACTS_MAX as u64) * size_of::<Artifact>() as u64;
    let at_masked = forget(at) as usize & (SCRATCH_BYTES / 2 - 1);
    // SAFETY: `at` is below half the area and `len` at most 640; the source is a live map value.
    unsafe {
        bpf_probe_read_kernel(bytes.add(at_masked).cast(), len as u32, (&raw const (*set).artifacts).cast());
    }
    at + len
}

/// Set in [`write_argv`]'s answer where the arguments were cut or could not be read.
pub const CUT: u64 = 1 << 32;

/// Copies the arguments of the process with address space `mm`, which has to be the current one, to `at` and returns
/// where they end. Source: `mm_struct.arg_start`, NULs between them.
#[inline(always)]
pub fn write_argv<R: Reach>(bytes: *mut u8, at: u64, mm: Address) -> u64 {
    let Some(start) = member!(R, mm, mm_arg_start, u64) else { return at | CUT };
    let Some(end) = member!(R, mm, mm_arg_end, u64) else { return at | CUT };
    let at_masked = forget(at) as usize & (SCRATCH_BYTES - 1);
    if at_masked > SCRATCH_BYTES - ARGV_BYTES_MAX || end <= start {
        return at | CUT;
    }
    let wanted = end - start;
    let mut len = forget(wanted.min(ARGV_BYTES_MAX as u64 - 1));
    // SAFETY: `at_masked` leaves room for the longest argv; the helper checks the source and never faults.
    unsafe {
        let to = bytes.add(at_masked).cast();
        if bpf_probe_read_user(to, len as u32 & (ARGV_BYTES_MAX as u32 - 1), start as *const _) != 0 {
            // A page may be away; what is on the first one is better than nothing.
            len = len.min(ARGV_BYTES_MAX as u64 - (start & (ARGV_BYTES_MAX as u64 - 1)));
            if bpf_probe_read_user(to, len as u32 & (ARGV_BYTES_MAX as u32 - 1), start as *const _) != 0 {
                return at | CUT;
            }
        }
    }
    forget((at + len) | if len < wanted { CUT } else { 0 })
}
