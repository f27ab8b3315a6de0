//! A kernel's hash map read, and emptied, many entries at a time: a system call for each entry is most of what it costs.
//!
//! Source: include/uapi/linux/bpf.h (BPF_MAP_LOOKUP_BATCH, BPF_MAP_DELETE_BATCH, Linux 5.6), kernel/bpf/hashtab.c
//! (__htab_map_lookup_and_delete_batch).

#![expect(unsafe_code, reason = "BPF_MAP_LOOKUP_BATCH and BPF_MAP_DELETE_BATCH have no safe wrapper")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use aya_obj::generated::bpf_cmd;

/// Entries that are asked for at once. More than one bucket of a map with a keyed hash ever holds.
const ENTRIES: usize = 64;

/// The part `batch` of `union bpf_attr`.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// Keys of `K` bytes and values of `V`, in the same order.
#[derive(Debug)]
pub struct Entries<const K: usize, const V: usize> {
    pub keys: Vec<[u8; K]>,
    pub values: Vec<[u8; V]>,
    /// Where the next ones begin, if there are more.
    pub next: Option<u32>,
}

/// The entries of a hash map from `from` on. `K` and `V` have to be what the map was made with: a map of another shape is
/// refused when it is loaded.
///
/// # Errors
/// The kernel has no such call, or a bucket has too many entries.
pub fn entries<const K: usize, const V: usize>(map: BorrowedFd<'_>, from: Option<u32>) -> io::Result<Entries<K, V>> {
    let mut keys: Vec<[u8; K]> = Vec::with_capacity(ENTRIES);
    let mut values: Vec<[u8; V]> = Vec::with_capacity(ENTRIES);
    let (from, mut next) = (from.as_ref().map_or(std::ptr::null(), std::ptr::from_ref), 0u32);
    let mut attributes = Attributes {
        in_batch: from as u64,
        out_batch: &raw mut next as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count: ENTRIES as u32,
        map_fd: map.as_raw_fd() as u32,
        ..Attributes::default()
    };
    // SAFETY: all that the attributes name lives until the call returns, and has room for `count` keys and values.
    let done = unsafe { call(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attributes) };
    let next = match done {
        Ok(()) => Some(next),
        // That was the last of them.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => None,
        Err(error) => return Err(error),
    };
    let count = (attributes.count as usize).min(ENTRIES);
    // SAFETY: the kernel wrote so many of each, and any bytes are a key and a value.
    unsafe {
        keys.set_len(count);
        values.set_len(count);
    }
    Ok(Entries { keys, values, next })
}

/// Takes entries out of a hash map; one that isn't there any more ends it.
///
/// # Errors
/// The kernel has no such call; an entry is gone.
pub fn remove<const K: usize>(map: BorrowedFd<'_>, keys: &[[u8; K]]) -> io::Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    let mut attributes = Attributes {
        keys: keys.as_ptr() as u64,
        count: u32::try_from(keys.len()).map_err(io::Error::other)?,
        map_fd: map.as_raw_fd() as u32,
        ..Attributes::default()
    };
    // SAFETY: the keys live until the call returns, and there are `count`.
    unsafe { call(bpf_cmd::BPF_MAP_DELETE_BATCH, &mut attributes) }
}

/// # Safety
/// What the attributes name lives, and has room for what the command writes there.
unsafe fn call(command: bpf_cmd, attributes: &mut Attributes) -> io::Result<()> {
    // SAFETY: the caller's promise; the size is that of the attributes.
    let done = unsafe {
        libc::syscall(libc::SYS_bpf, command as libc::c_long, std::ptr::from_mut(attributes), size_of::<Attributes>())
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
