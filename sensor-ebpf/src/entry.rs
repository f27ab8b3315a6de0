//! One hook, three programs: the body is written once, and each rung of the attach ladder enters it its own way.

use aya_ebpf::helpers::bpf_probe_read_kernel;

use crate::field::{CONFIG, Checked, Direct, Reach, loaded};

/// Where a program's arguments are.
pub trait Entry {
    /// How what they point to is read.
    type Reach: Reach;
    /// Argument `index` of the kernel function; 0 where it can't be read.
    fn argument(ctx: *const u64, index: usize) -> u64;
}

/// BPF LSM and fentry: the context is the arguments.
pub struct Typed;

impl Entry for Typed {
    type Reach = Direct;

    #[inline(always)]
    fn argument(ctx: *const u64, index: usize) -> u64 {
        // SAFETY: the verifier refuses a program whose context has no such argument.
        unsafe { *ctx.add(index) }
    }
}

/// kprobe: the context is the registers, whose order differs per architecture.
pub struct Registers;

impl Entry for Registers {
    type Reach = Checked;

    #[inline(always)]
    fn argument(ctx: *const u64, index: usize) -> u64 {
        let at = loaded(&CONFIG.argument_registers[index]) as usize;
        // By helper: verifiers before 6.x refuse a context that was moved, even by a number that they know.
        // SAFETY: the helper checks the address.
        unsafe { bpf_probe_read_kernel(ctx.wrapping_byte_add(at)) }.unwrap_or(0)
    }
}

/// Declares a hook on kernel function `security_NAME`, which LSM hook `NAME` sees too.
///
/// Makes the programs `lsm_NAME`, `fentry_NAME` and `kprobe_NAME`; userspace attaches one of them (`watch/load/attach.rs`
/// has a line for each hook). The body is an expression whose value is dropped; in it, `E` is the [`Entry`]. On the LSM rung it doesn't run where an
/// earlier module refused; none of the programs refuses anything itself. A function that can't refuse is declared `-> void`.
macro_rules! security_hook {
    // Behind the arguments stands what the modules before decided.
    (@refused $ctx:expr, $arguments:expr) => { Typed::argument($ctx, $arguments) as i32 };
    (@refused void $ctx:expr, $arguments:expr) => { 0 };
    ($(#[$meta:meta])* fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $void:ident)? $body:block) => {
        $(#[$meta])*
        mod $name {
            #[allow(unused_imports, reason = "a hook may need nothing of its file")]
            use super::*;
            use $crate::entry::{Entry, Registers, Typed};

            #[inline(always)]
            fn entered<E: Entry>(ctx: *const u64) {
                #[expect(non_camel_case_types, reason = "their numbers are the positions of the arguments")]
                enum Position { $($argument),* }
                $(let $argument = E::argument(ctx, Position::$argument as usize) as $type;)*
                let _ = $body;
            }

            #[allow(dead_code, reason = "a function that returns nothing has nothing behind its arguments")]
            const ARGUMENTS: usize = [$(stringify!($argument)),*].len();

            #[unsafe(export_name = concat!("lsm_", stringify!($name)))]
            #[unsafe(link_section = concat!("lsm/", stringify!($name)))]
            extern "C" fn lsm(ctx: *const u64) -> i32 {
                let refused = security_hook!(@refused $($void)? ctx, ARGUMENTS);
                if refused != 0 {
                    return refused;
                }
                entered::<Typed>(ctx);
                0
            }

            #[unsafe(export_name = concat!("fentry_", stringify!($name)))]
            #[unsafe(link_section = concat!("fentry/security_", stringify!($name)))]
            extern "C" fn fentry(ctx: *const u64) -> i32 {
                entered::<Typed>(ctx);
                0
            }

            #[unsafe(export_name = concat!("kprobe_", stringify!($name)))]
            #[unsafe(link_section = concat!("kprobe/security_", stringify!($name)))]
            extern "C" fn kprobe(ctx: *const u64) -> i32 {
                entered::<Registers>(ctx);
                0
            }
        }
    };
}
pub(crate) use security_hook;
