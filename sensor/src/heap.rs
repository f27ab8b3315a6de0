//! How much memory the daemon keeps of what it once needed.

#![expect(unsafe_code, reason = "the allocator is not asked by a safe call")]

/// All threads share one heap, before the first of them is started. Few things are done at once here, and each heap more
/// is megabytes of free memory that the others can't use (mallopt(3): M_ARENA_MAX).
pub fn share() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes numbers; no other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// What was freed goes back. The start reads tens of megabytes of the kernel's types and keeps almost nothing of them,
/// but the little that stays keeps the allocator from giving back what is around it (malloc_trim(3)).
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes a number; the allocator locks its own structures.
    unsafe {
        libc::malloc_trim(0);
    }
}
