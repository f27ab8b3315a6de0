//! What a file is: identity, content stamp, name key, and its path as its mount namespace sees it.

use core::ffi::{c_long, c_void};

use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_probe_read_kernel_str};
use sensor_abi::config::ABSENT;
use sensor_abi::identity::{ContentStamp, InodeKey};
use sensor_abi::name::{KEY_BYTES, suffix_key};
use sensor_abi::record::{COMPONENT_BYTES_MAX, PATH_STEPS_MAX, PATH_STEPS_UNROLLED_MAX, writers};

use crate::emit::forget;
use crate::field::{Address, Checked, Reach, field, member, offset, read};
use crate::maps::{SCRATCH, SCRATCH_BYTES};
use crate::repeat::{self, repeat};

/// `include/linux/fs.h`: FMODE_READ.
pub const FMODE_READ: u32 = 0x1;
/// FMODE_WRITE.
pub const FMODE_WRITE: u32 = 0x2;
/// FMODE_PATH: no access to the content.
pub const FMODE_PATH: u32 = 0x4000;
/// FMODE_CREATED: this very open made the file.
pub const FMODE_CREATED: u32 = 0x10_0000;
/// FMODE_NOACCOUNT: overlayfs' second, inner open.
pub const FMODE_NOACCOUNT: u32 = 0x2000_0000;
/// FMODE_BACKING (6.6): a `struct backing_file`, which says what it stands for.
pub const FMODE_BACKING: u32 = 0x200_0000;
/// __FMODE_EXEC, in `f_flags`: opened by an exec, program and interpreter alike.
pub const FMODE_EXEC: u32 = 0x20;
/// O_TRUNC; gone from `f_flags` once the open is over.
pub const O_TRUNC: u32 = 0x200;

/// `include/linux/fs.h`: I_CTIME_QUERIED; from 6.13 `i_ctime_nsec` says in its top bit that somebody asked for the time.
const CTIME_QUERIED: u32 = 1 << 31;

/// `include/uapi/linux/stat.h`: runs as whoever owns it.
pub const S_ISUID: u16 = 0o4_000;
const S_IFMT: u16 = 0o170_000;
const S_IFREG: u16 = 0o100_000;

/// Set in [`write_path`]'s answer where the path lacks its beginning.
pub const TRUNCATED: u64 = 1 << 32;

/// A name in a tree of mounts, and the inode that it names.
#[derive(Clone, Copy)]
pub struct Place {
    pub dentry: Address,
    pub mnt: Address,
    pub inode: Address,
}

#[inline(always)]
pub fn place_of<R: Reach>(file: Address) -> Option<Place> {
    Some(Place {
        dentry: member!(R, file, file_path_dentry, Address)?,
        mnt: member!(R, file, file_path_mnt, Address)?,
        inode: member!(R, file, file_inode, Address)?,
    })
}

/// The place of a mapped file: of overlayfs, whose inner file is what is mapped, the outer one.
#[inline(always)]
pub fn place_of_mapped(file: Address, mode: u32) -> Option<Place> {
    if mode & FMODE_BACKING == 0 || offset!(backing_path_dentry) == ABSENT {
        return place_of::<Checked>(file);
    }
    let dentry: Address = field!(file, backing_path_dentry, Address)?;
    Some(Place { dentry, mnt: field!(file, backing_path_mnt, Address)?, inode: field!(dentry, dentry_inode, Address)? })
}

/// What descriptor `fd` of `task` is open on; a negative number is one that nothing is open on.
#[inline(always)]
pub fn of_descriptor(task: Address, fd: u32) -> Option<Address> {
    let files: Address = field!(task, task_files, Address)?;
    let fdt: Address = field!(files, files_fdt, Address)?;
    if fd >= field!(fdt, fdt_max_fds, u32)? {
        return None;
    }
    let descriptors: Address = field!(fdt, fdt_fd, Address)?;
    let file: Address = read(descriptors, fd * 8)?;
    (!file.is_null()).then_some(file)
}

#[inline(always)]
pub fn is_regular<R: Reach>(inode: Address) -> bool {
    matches!(member!(R, inode, inode_mode, u16), Some(mode) if mode & S_IFMT == S_IFREG)
}

/// A program that runs as whoever owns it.
#[inline(always)]
pub fn is_set_user_id(mode: u16) -> bool {
    mode & S_IFMT == S_IFREG && mode & S_ISUID != 0
}

#[inline(always)]
pub fn key_of<R: Reach>(inode: Address) -> Option<InodeKey> {
    let sb: Address = member!(R, inode, inode_sb, Address)?;
    Some(InodeKey {
        ino: member!(R, inode, inode_ino, u64)?,
        dev: member!(R, sb, sb_dev, u32)?,
        generation: member!(R, inode, inode_generation, u32)?,
    })
}

#[inline(always)]
pub fn stamp_of<R: Reach>(inode: Address) -> Option<ContentStamp> {
    let ns = offset!(inode_ctime_ns);
    let ctime_s: i64 = member!(R, inode, inode_ctime_s, i64)?;
    let ctime_ns: u32 = if ns == ABSENT {
        // A `timespec64`: the nanoseconds stand behind the seconds.
        R::read(inode, offset!(inode_ctime_s) + 8)?
    } else {
        R::read(inode, ns)?
    };
    let ctime_ns = ctime_ns & !CTIME_QUERIED;
    Some(ContentStamp { size: member!(R, inode, inode_size, u64)?, ctime_s, ctime_ns, reserved: 0 })
}

#[inline(always)]
pub fn is_same_content(a: &ContentStamp, b: &ContentStamp) -> bool {
    a.size == b.size && a.ctime_s == b.ctime_s && a.ctime_ns == b.ctime_ns
}

/// Who could change the content now. Bits of [`writers`].
#[inline(always)]
pub fn writers_of<R: Reach>(inode: Address) -> u32 {
    let mut found = 0;
    // Negative where writing is denied (a running executable).
    if member!(R, inode, inode_writecount, i32).is_some_and(|count| count > 0) {
        found |= writers::OPEN;
    }
    let mapping = member!(R, inode, inode_mapping, Address);
    let writable = mapping.and_then(|mapping| member!(R, mapping, mapping_writable, i32));
    if writable.is_some_and(|count| count > 0) {
        found |= writers::MAPPED;
    }
    found
}

/// A name, as the hooks look at it.
pub struct Name {
    pub text: Address,
    pub len: u32,
}

#[inline(always)]
pub fn name_of<R: Reach>(dentry: Address) -> Option<Name> {
    Some(Name { text: member!(R, dentry, dentry_name, Address)?, len: member!(R, dentry, dentry_name_len, u32)? })
}

/// Key of the eight bytes that end `skip` bytes before the end of `dentry`'s name.
#[inline(always)]
pub fn tail_key<R: Reach>(dentry: Address, name: &Name, skip: u32) -> Option<u64> {
    if name.len <= skip {
        return None;
    }
    let len = name.len - skip;
    let start = len.saturating_sub(KEY_BYTES as u32);
    let bytes = if R::KNOWN && len < INLINE_NAME_BYTES_MIN && name.text == inline_name(dentry) {
        inline_bytes::<R>(dentry, start)?
    } else {
        // Names live in at least 32 inline bytes or a longer allocation: eight bytes are always readable.
        read(name.text, start)?
    };
    let missing = (KEY_BYTES as u32).saturating_sub(len);
    Some(suffix_key(bytes << (missing * 8)))
}

/// Bytes that every kernel has for short names inside a `struct dentry`: DNAME_INLINE_LEN.
const INLINE_NAME_BYTES_MIN: u32 = 32;

#[inline(always)]
fn inline_name(dentry: Address) -> Address {
    dentry.wrapping_add(offset!(dentry_inline_name) as usize)
}

/// Eight bytes of an inline name, from `start` on. The verifier takes no offsets that it doesn't know, so words are read
/// and put together.
#[inline(always)]
fn inline_bytes<R: Reach>(dentry: Address, start: u32) -> Option<u64> {
    let word = |index: u32| R::read::<u64>(dentry, offset!(dentry_inline_name) + 8 * index);
    let (low, high) = match start / 8 {
        0 => (word(0)?, word(1)?),
        1 => (word(1)?, word(2)?),
        _ => (word(2)?, word(3)?),
    };
    let shift = start % 8 * 8;
    Some(low >> shift | high << 1 << (63 - shift))
}

/// Writes the path's components into `bytes` from `start` on, leaf first, each ended by NUL, at most `bytes_max` of
/// them and one more component, and returns where it ended, with [`TRUNCATED`] where components are missing.
///
/// The walk crosses mounts up to the root of the mount tree that the file was reached through (`fs/d_path.c`:
/// `prepend_path`), so a container's path is the container's own.
#[inline(always)]
pub fn write_path(bytes: *mut u8, start: u64, file: Address, bytes_max: u64) -> u64 {
    match place_of::<Checked>(file) {
        Some(place) => write_path_at(bytes, start, place.dentry, place.mnt, bytes_max),
        None => start | TRUNCATED,
    }
}

/// Components that are written at once.
const SHORT_NAMES_MAX: usize = 6;

/// The first components of a path, as far as the verifier knows where they are and their names are short: for a quarter of
/// what [`write_path_at`] takes, which goes on at the folder that is answered, behind the end that is.
#[inline(always)]
pub fn write_short_names<R: Reach>(bytes: *mut u8, start: u64, dentry: Address, mnt: Address) -> (u64, Address) {
    let (mut end, mut at) = (start, dentry);
    if !R::KNOWN {
        return (end, at);
    }
    let Some(root) = member!(R, mnt, vfsmount_root, Address) else { return (end, at) };
    for _ in 0..SHORT_NAMES_MAX {
        if at == root {
            break;
        }
        let Some(name) = name_of::<R>(at) else { break };
        let Some(parent) = member!(R, at, dentry_parent, Address) else { break };
        if parent == at || name.len >= INLINE_NAME_BYTES_MIN || name.text != inline_name(at) {
            break;
        }
        // Forgotten, so that the verifier goes on once, and not once for each length.
        let len = forget(u64::from(name.len));
        // SAFETY: the names that are written at once end far below the area's.
        unsafe {
            let to = bytes.add(end as usize & (SCRATCH_BYTES / 2 - 1));
            for word in 0..INLINE_NAME_BYTES_MIN / 8 {
                if u64::from(8 * word) > len {
                    break;
                }
                let text = R::read::<u64>(at, offset!(dentry_inline_name) + 8 * word).unwrap_or(0);
                store(to.add(8 * word as usize), text);
            }
            to.add(forget(len) as usize & (INLINE_NAME_BYTES_MIN as usize - 1)).write(0);
        }
        end = forget(end + len + 1);
        at = parent;
    }
    (end, at)
}

/// [`write_path`] of a [`Place`].
#[inline(always)]
pub fn write_path_at(bytes: *mut u8, start: u64, dentry: Address, vfsmount: Address, bytes_max: u64) -> u64 {
    // SAFETY: the bytes of a scratch area, before which its index stands.
    let area = unsafe { *bytes.cast::<u64>().sub(1) };
    sensor_write_path(area, start, dentry as u64, vfsmount as u64, bytes_max)
}

/// [`write_path_at`], as a function that the verifier checks once and not at each call: numbers in, a number out.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sensor_write_path(area: u64, start: u64, dentry: u64, vfsmount: u64, bytes_max: u64) -> u64 {
    let Some(scratch) = SCRATCH.get_ptr_mut(area as u32) else { return start | TRUNCATED };
    // SAFETY: the field of a live map value.
    let bytes = unsafe { (&raw mut (*scratch).bytes).cast() };
    let mount = (vfsmount as Address).wrapping_sub(offset!(mount_mnt) as usize);
    // Where nobody knows the mount, the path lacks what stands before the file system's root.
    let [above, point, root] = links_of(mount).unwrap_or([core::ptr::null(); 3]);
    let mut climb = Climb {
        dentry: dentry as Address,
        mount,
        above,
        point,
        root,
        bytes,
        end: start,
        last: start + bytes_max,
        truncated: TRUNCATED,
    };
    // SAFETY: the step takes a `Climb`.
    unsafe { repeat::<_, PATH_STEPS_UNROLLED_MAX>(PATH_STEPS_MAX, &mut climb, climb_step) };
    climb.end | climb.truncated
}

/// What [`write_path`] works on.
#[repr(C)]
struct Climb {
    dentry: Address,
    /// A `struct mount`, and [`links_of`] it.
    mount: Address,
    above: Address,
    point: Address,
    root: Address,
    bytes: *mut u8,
    /// Where the next component goes.
    end: u64,
    /// Where the last one may begin.
    last: u64,
    /// [`TRUNCATED`] until the root is reached.
    truncated: u64,
}

/// One component, or one mount, up.
unsafe extern "C" fn climb_step(_: u32, climb: *mut c_void) -> c_long {
    // SAFETY: `repeat` hands over what `write_path` gave it, on the stack of the caller.
    let climb = unsafe { &mut *climb.cast::<Climb>() };
    if climb.dentry == climb.root {
        if climb.above == climb.mount {
            climb.truncated = 0;
            return repeat::STOP;
        }
        climb.dentry = climb.point;
        climb.mount = climb.above;
        let Some([above, point, root]) = links_of(climb.mount) else { return repeat::STOP };
        (climb.above, climb.point, climb.root) = (above, point, root);
        return repeat::GO_ON;
    }
    let at = climb.end as usize & (SCRATCH_BYTES - 1);
    if climb.end > climb.last || at > SCRATCH_BYTES - COMPONENT_BYTES_MAX {
        return repeat::STOP;
    }
    // SAFETY: `at` leaves room for the longest component.
    let (parent, written) = match unsafe { write_name(climb.bytes, at, climb.dentry) } {
        Some((parent, written)) if written > 0 => (parent, written),
        _ => return repeat::STOP,
    };
    if climb.dentry == parent {
        // In no tree: a memfd, whose name is all that there is, or what open_by_handle_at found with no name yet ("/").
        if written as u64 > 2 {
            climb.end = (climb.end + written as u64) & (SCRATCH_BYTES as u64 - 1);
            climb.truncated = 0;
        }
        return repeat::STOP;
    }
    climb.end = (climb.end + written as u64) & (SCRATCH_BYTES as u64 - 1);
    climb.dentry = parent;
    repeat::GO_ON
}

/// The mount that a mount hangs in, the name in there that it covers, and its own root: neighbours in `struct mount`, so
/// that one read gets all.
#[inline(always)]
fn links_of(mount: Address) -> Option<[Address; 3]> {
    let root = offset!(mount_mnt) + offset!(vfsmount_root);
    if offset!(mount_mountpoint) == offset!(mount_parent) + 8 && root == offset!(mount_parent) + 16 {
        return field!(mount, mount_parent, [Address; 3]);
    }
    Some([field!(mount, mount_parent, Address)?, field!(mount, mount_mountpoint, Address)?, read(mount, root)?])
}

/// `struct dentry` from `d_parent` to the first bytes of a name that is kept inside, where the members follow one another
/// like this: on every kernel so far.
#[repr(C)]
struct Named {
    parent: Address,
    hash: u32,
    len: u32,
    text: Address,
    inode: Address,
    inline: [u64; INLINE_NAME_BYTES_MIN as usize / 8],
}

/// Where a [`Named`] is put, from the end of an area: where no record comes.
const NAMED_BYTES_FROM_END: usize = 128;

/// Writes the name of a `dentry` at `at`, ended by NUL. The folder that it is in, and the bytes; none, or a negative number,
/// where it can't be read.
///
/// # Safety
/// `bytes` are those of a scratch area, and `at` leaves room for the longest name.
#[inline(always)]
unsafe fn write_name(bytes: *mut u8, at: usize, dentry: Address) -> Option<(Address, i64)> {
    let base = offset!(dentry_parent);
    let is_known = offset!(dentry_name_len) == base + 12
        && offset!(dentry_name) == base + 16
        && offset!(dentry_inline_name) == base + 32;
    // SAFETY: the caller's promise; the helpers check the source, and write no more than they are told.
    unsafe {
        let to = bytes.add(at);
        if !is_known {
            let (parent, text) = (field!(dentry, dentry_parent, Address)?, field!(dentry, dentry_name, Address)?);
            return Some((parent, bpf_probe_read_kernel_str(to.cast(), COMPONENT_BYTES_MAX as u32, text.cast())));
        }
        // One read for all of it. Not on the stack, of which there is little.
        let named: *mut Named = bytes.add(SCRATCH_BYTES - NAMED_BYTES_FROM_END).cast();
        let from = dentry.wrapping_add(base as usize).cast();
        if bpf_probe_read_kernel(named.cast(), size_of::<Named>() as u32, from) != 0 {
            return None;
        }
        let (parent, text, len) = ((*named).parent, (*named).text, (*named).len);
        if len >= INLINE_NAME_BYTES_MIN || text != inline_name(dentry) {
            return Some((parent, bpf_probe_read_kernel_str(to.cast(), COMPONENT_BYTES_MAX as u32, text.cast())));
        }
        for word in 0..INLINE_NAME_BYTES_MIN as usize / 8 {
            store(to.add(8 * word), (*named).inline[word]);
        }
        let len = len & (INLINE_NAME_BYTES_MIN - 1);
        to.add(len as usize).write(0);
        Some((parent, i64::from(len) + 1))
    }
}

/// Stores eight bytes at any address, as both architectures can: the compiler would make eight stores of it.
///
/// # Safety
/// They are writable.
#[inline(always)]
unsafe fn store(to: *mut u8, word: u64) {
    // SAFETY: the caller's promise.
    unsafe { core::arch::asm!("*(u64 *)({} + 0) = {}", in(reg) to, in(reg) word) };
}

/// The identity of the executable that `task` runs.
#[inline(always)]
pub fn exe_of<R: Reach>(task: Address) -> Option<(Address, InodeKey)> {
    let mm: Address = member!(R, task, task_mm, Address)?;
    let exe: Address = member!(R, mm, mm_exe_file, Address)?;
    if exe.is_null() {
        return None;
    }
    let inode: Address = member!(R, exe, file_inode, Address)?;
    Some((exe, key_of::<R>(inode)?))
}
