//! Giving memory back to the kernel.

#![expect(unsafe_code, reason = "the allocator is not asked by a safe call")]

/// What was freed goes back. The start reads tens of megabytes of the kernel's types and keeps almost nothing of them,
/// but the little that stays keeps the allocator from giving back what is around it (malloc_trim(3)).
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes a number; the allocator locks its own structures.
    unsafe {
        libc::malloc_trim(0);
    }
}
