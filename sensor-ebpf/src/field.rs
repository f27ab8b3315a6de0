//! Reading kernel structures: offsets come from the running kernel's BTF through `.rodata`, reads are checked.

use aya_ebpf::helpers::bpf_probe_read_kernel;
use sensor_abi::config::{ARGUMENTS_MAX, Config, Offsets};

/// Filled by userspace before the load; the verifier sees constants.
#[unsafe(no_mangle)]
pub static OFFSETS: Offsets = Offsets::ABSENT;

/// Filled by userspace before the load.
#[unsafe(no_mangle)]
pub static CONFIG: Config = Config {
    own_tgid: 0,
    has_loop: 0,
    candidates_per_s: 0,
    has_known_task: 0,
    load_window_ns: 0,
    suffix_multiplier: 0,
    argument_registers: [0; ARGUMENTS_MAX],
    quiet_opens: 0,
    reserved: 0,
};

/// The value that userspace put in the place of the one that was compiled.
#[inline(always)]
pub fn loaded<T: Copy>(constant: &'static T) -> T {
    // SAFETY: a read through a reference; volatile, because the compiler believes in the value in the object.
    unsafe { core::ptr::read_volatile(constant) }
}

/// A kernel address. Never followed without a checked read.
pub type Address = *const u8;

/// An address as a number. What a hook is handed has a type that the verifier knows, and functions that it checks by
/// themselves take numbers only; what was copied has none.
#[inline(always)]
pub fn number(address: Address) -> u64 {
    let typed = address as u64;
    read((&raw const typed).cast(), 0).unwrap_or(0)
}

/// `$offset` of [`Offsets`] on this kernel.
macro_rules! offset {
    ($name:ident) => {
        $crate::field::loaded(&$crate::field::OFFSETS.$name)
    };
}
pub(crate) use offset;

/// One value of [`Config`].
macro_rules! config {
    ($name:ident) => {
        $crate::field::loaded(&$crate::field::CONFIG.$name)
    };
}
pub(crate) use config;

/// The member `$name` of the structure at `$base`, read as `$type`; `None` where the read fails.
macro_rules! field {
    ($base:expr, $name:ident, $type:ty) => {
        $crate::field::read::<$type>($base, $crate::field::offset!($name))
    };
}
pub(crate) use field;

/// How a structure is read that a hook was handed.
pub trait Reach {
    /// The verifier knows what the address points to.
    const KNOWN: bool;
    /// A `T` at `base + offset`.
    fn read<T: Copy>(base: Address, offset: u32) -> Option<T>;
}

/// The verifier knows what the address points to: it is an argument of an LSM, fentry or `tp_btf` program, or a member
/// that was read from one. A plain load, which yields zeros where the address is bad (kernel/bpf/verifier.c:
/// BPF_PROBE_MEM), for a tenth of what a helper costs.
pub struct Direct;

impl Reach for Direct {
    const KNOWN: bool = true;

    #[inline(always)]
    fn read<T: Copy>(base: Address, offset: u32) -> Option<T> {
        // SAFETY: the verifier checks that a member of this size is there. Volatile, so that it is one load of its size.
        Some(unsafe { core::ptr::read_volatile(base.wrapping_add(offset as usize).cast::<T>()) })
    }
}

/// Any address.
pub struct Checked;

impl Reach for Checked {
    const KNOWN: bool = false;

    #[inline(always)]
    fn read<T: Copy>(base: Address, offset: u32) -> Option<T> {
        read(base, offset)
    }
}

/// [`field!`], read as `$reach` does.
macro_rules! member {
    ($reach:ident, $base:expr, $name:ident, $type:ty) => {
        <$reach as $crate::field::Reach>::read::<$type>($base, $crate::field::offset!($name))
    };
}
pub(crate) use member;

/// Reads a `T` at `base + offset`.
#[inline(always)]
pub fn read<T: Copy>(base: Address, offset: u32) -> Option<T> {
    // SAFETY: the helper checks the address; `T` is plain data for which any bytes are valid.
    unsafe { bpf_probe_read_kernel(base.wrapping_add(offset as usize).cast::<T>()).ok() }
}
