//! A loop that the verifier looks at once (`bpf_loop`, 5.17), and a short one that it unrolls where the kernel hasn't it.
//!
//! Which of the two is a load-time constant, so that the verifier never sees the other.

use core::ffi::{c_long, c_void};

use aya_ebpf::helpers::generated::bpf_loop;

use crate::emit::forget;
use crate::field::config;

/// What a step answers.
pub const GO_ON: c_long = 0;
pub const STOP: c_long = 1;

/// One step: its number from 0, and what the loop works on.
pub type Step = unsafe extern "C" fn(u32, *mut c_void) -> c_long;

/// Runs `step` until it answers [`STOP`], at most `times`, or `UNROLLED_MAX` times where the loop is unrolled.
///
/// # Safety
/// `step` accepts a pointer to `T`.
#[inline(always)]
pub unsafe fn repeat<T, const UNROLLED_MAX: u32>(times: u32, on: &mut T, step: Step) {
    let context: *mut c_void = (&raw mut *on).cast();
    // SAFETY: the caller's promise; the helper calls `step` with the context that it is given, on this stack.
    unsafe {
        if config!(has_loop) != 0 {
            bpf_loop(times, step as *mut c_void, context, 0);
        } else {
            for i in 0..UNROLLED_MAX {
                // Forgotten at each turn, so that the compiler can't make one limit of two: the verifier counts the
                // turns by the one that it knows.
                if i >= forget(u64::from(times)) as u32 || step(i, context) != GO_ON {
                    break;
                }
            }
        }
    }
}
