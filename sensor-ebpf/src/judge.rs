//! Is a file worth a look? By its name, by its place, and by what was seen before; the content is userspace's to read.

use core::ffi::{c_long, c_void};

use sensor_abi::identity::InodeKey;
use sensor_abi::mark::{InodeInfo, SLOT_KNOWN, SLOT_MALICIOUS, class, inode_slot, suffix};
use sensor_abi::name::{
    HUB_FOLDER_BYTES, HubFolder, LIBRARY_BYTES, hub_folder, is_hub_folder_len, is_library, suffix_len, suffix_slot,
};
use sensor_abi::record::reason;

use crate::emit::{atomic_add, forget};
use crate::field::{Address, Checked, Reach, config, field, member, number, read};
use crate::file::{self, Name};
use crate::maps::{INODE_SLOTS, INODES, INODES_MALICIOUS, SUFFIXES};
use crate::program;
use crate::repeat::{self, repeat};

/// Is this name, its place, or the inode a reason to look? The order is that of cost. What process `tgid` opens for
/// reading alone, and CPython runs there, is looked at whatever its name, if that isn't one of the harmless: they are what
/// CPython opens thousands of at every start, and a program that unpickles one was written to do it. The versions behind
/// a library's name make it no less one.
#[inline(always)]
pub fn why<R: Reach>(dentry: Address, inode: Address, tgid: u32, reads_only: bool) -> Option<u8> {
    if R::KNOWN {
        return judged::<R>(dentry, inode, tgid, reads_only);
    }
    let judged = sensor_why(number(dentry), number(inode), u64::from(tgid), u64::from(reads_only));
    (judged != 0).then_some((judged >> 1) as u8)
}

/// [`why`] of any address; the answer, one bit up, stands over a one. A function of its own, so that the verifier goes
/// through it once and not for every way to its call: in a loop over descriptors that was most of all it had to do.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sensor_why(dentry: u64, inode: u64, tgid: u64, reads_only: u64) -> u64 {
    judged::<Checked>(dentry as Address, inode as Address, tgid as u32, reads_only != 0)
        .map_or(0, |reason| u64::from(reason) << 1 | 1)
}

#[inline(always)]
fn judged<R: Reach>(dentry: Address, inode: Address, tgid: u32, reads_only: bool) -> Option<u8> {
    let name = file::name_of::<R>(dentry)?;
    let class = class_of_name::<R>(dentry, &name, tgid)?;
    let reason = if class == suffix::MODEL {
        reason::NAME
    } else if place_is_store(dentry, &name) {
        reason::PATH_SHAPE
    } else if let Some(reason) = known_inode::<R>(inode) {
        reason
    } else if class == suffix::HARMLESS || !reads_only || !program::is_python(tgid) {
        return None;
    } else if class == suffix::PROGRAM {
        (sensor_is_hub_code(number(dentry)) != 0).then_some(reason::PATH_SHAPE)?
    } else {
        (may_be_model(inode) && sensor_is_library(number(name.text), name.len.into()) == 0)
            .then_some(reason::UNKNOWN_NAME)?
    };
    file::is_regular::<R>(inode).then_some(reason)
}

/// Of [`suffix`]; 0 where the name says nothing.
#[inline(always)]
fn class_of_name<R: Reach>(dentry: Address, name: &Name, tgid: u32) -> Option<u8> {
    let key = file::tail_key::<R>(dentry, name, 0)?;
    match class_of_key(key) {
        suffix::STRIP => {
            // `libpython3.11.so.1.0`: an interpreter inside another program.
            if program::is_python_name(name) {
                program::set_python(tgid);
            }
            let Some(key) = file::tail_key::<Checked>(dentry, name, suffix_len(key) as u32) else { return Some(0) };
            let class = class_of_key(key);
            Some(if class == suffix::STRIP { 0 } else { class })
        }
        class => Some(class),
    }
}

#[inline(always)]
fn class_of_key(key: u64) -> u8 {
    // SAFETY: a live map value.
    match SUFFIXES.get_ptr(suffix_slot(key, config!(suffix_multiplier))).map(|suffix| unsafe { &*suffix }) {
        Some(suffix) if suffix.key == key => suffix.class as u8,
        _ => 0,
    }
}

/// Smallest file that is looked at for its content alone, bytes.
const UNKNOWN_BYTES_MIN: u64 = 16;

/// File systems whose files are the kernel's words (include/uapi/linux/magic.h).
#[inline(always)]
fn is_pseudo(magic: u64) -> bool {
    matches!(
        magic,
        0x9FA0          // proc
        | 0x6265_6572   // sysfs
        | 0x0027_E0EB   // cgroup
        | 0x6367_7270   // cgroup2
        | 0x6462_6720   // debugfs
        | 0x7472_6163   // tracefs
        | 0x7363_6673   // securityfs
        | 0xCAFE_4A11   // bpf
        | 0xF97C_FF8C   // selinuxfs
        | 0xDE5E_81E4   // efivarfs
        | 0x6165_676C   // pstore
        | 0x6E73_6673 // nsfs
    )
}

/// [`is_library`] of the name at `text`. A function that the verifier checks once and not at each call: numbers in, a
/// number out.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sensor_is_library(text: u64, len: u64) -> u64 {
    let start = len.saturating_sub(LIBRARY_BYTES as u64) as u32;
    // Names live in at least 32 inline bytes or a longer allocation.
    let Some(words) = read::<[u64; LIBRARY_BYTES / 8]>(text as Address, start) else { return 0 };
    u64::from(is_library(words, len as usize))
}

/// Could a file whose name says nothing be a model?
#[inline(always)]
fn may_be_model(inode: Address) -> bool {
    let Some(size) = field!(inode, inode_size, u64) else { return false };
    let magic = field!(inode, inode_sb, Address).and_then(|sb| field!(sb, sb_magic, u64));
    size >= UNKNOWN_BYTES_MIN && magic.is_some_and(|magic| !is_pseudo(magic))
}

/// Lengths of names in a store of blobs: hex of a git sha1, of a sha256, `sha256-` and hex.
const GIT_SHA1_LEN: u32 = 40;
const SHA256_LEN: u32 = 64;
const OLLAMA_LEN: u32 = 71;

/// Hub cache (`models--ORG--NAME/blobs/HASH`), Ollama (`blobs/sha256-HASH`) and OCI layout (`blobs/sha256/HASH`).
#[inline(always)]
fn place_is_store(dentry: Address, name: &Name) -> bool {
    if name.len != SHA256_LEN && name.len != GIT_SHA1_LEN && name.len != OLLAMA_LEN {
        return false;
    }
    let Some(parent) = field!(dentry, dentry_parent, Address) else { return false };
    let Some(parent_name) = file::name_of::<Checked>(parent) else { return false };
    if parent_name.len == 5 {
        return read::<[u8; 5]>(parent_name.text, 0) == Some(*b"blobs");
    }
    if parent_name.len != 6 || read::<[u8; 6]>(parent_name.text, 0) != Some(*b"sha256") {
        return false;
    }
    let Some(above) = field!(parent, dentry_parent, Address) else { return false };
    let Some(above_name) = file::name_of::<Checked>(above) else { return false };
    above_name.len == 5 && read::<[u8; 5]>(above_name.text, 0) == Some(*b"blobs")
}

/// Folders above a file that are looked at.
const FOLDERS_MAX: u32 = 16;
/// The same where the loop has to be unrolled.
const FOLDERS_UNROLLED_MAX: u32 = 8;

/// Is a program kept where the hubs keep the code of models: `transformers_modules`, `diffusers_modules`,
/// `modelscope_modules`, or torch's `torch/hub`? A function that the verifier checks once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sensor_is_hub_code(dentry: u64) -> u64 {
    let mut up = Up { dentry: dentry as Address, in_hub: forget(0), found: forget(0) };
    // SAFETY: the step takes an `Up`.
    unsafe { repeat::<_, FOLDERS_UNROLLED_MAX>(FOLDERS_MAX, &mut up, up_step) };
    forget(up.found)
}

/// What [`sensor_is_hub_code`] works on.
#[repr(C)]
struct Up {
    dentry: Address,
    /// The folder before is called `hub`.
    in_hub: u64,
    found: u64,
}

/// One folder up.
unsafe extern "C" fn up_step(_: u32, up: *mut c_void) -> c_long {
    // SAFETY: `repeat` hands over what `sensor_is_hub_code` gave it, on the stack of the caller.
    let up = unsafe { &mut *up.cast::<Up>() };
    let Some(parent) = field!(up.dentry, dentry_parent, Address) else { return repeat::STOP };
    if parent == up.dentry {
        return repeat::STOP;
    }
    up.dentry = parent;
    let Some(name) = file::name_of::<Checked>(parent) else { return repeat::STOP };
    let mut folder = HubFolder::None;
    if is_hub_folder_len(name.len) {
        // Names live in at least 32 inline bytes or a longer allocation.
        let Some(words) = read::<[u64; HUB_FOLDER_BYTES / 8]>(name.text, 0) else { return repeat::STOP };
        folder = hub_folder(words, name.len);
    }
    match folder {
        HubFolder::Modules => up.found = 1,
        HubFolder::Torch => up.found = up.in_hub,
        HubFolder::Hub | HubFolder::None => {}
    }
    // Forgotten at each turn, so that all turns begin alike.
    up.in_hub = forget(u64::from(folder == HubFolder::Hub));
    if up.found != 0 { repeat::STOP } else { repeat::GO_ON }
}

#[inline(always)]
fn known_inode<R: Reach>(inode: Address) -> Option<u8> {
    let slot = INODE_SLOTS.get_ptr(inode_slot(member!(R, inode, inode_ino, u64)?))?;
    // SAFETY: a live map value.
    if unsafe { *slot } == 0 {
        return None;
    }
    let key = file::key_of::<R>(inode)?;
    let info = lookup(&key)?;
    let is_model = info.class == class::CODE || info.class == class::DATA;
    (is_model || (info.named != 0 && info.class != class::NOT_MODEL)).then_some(reason::INODE)
}

/// What is known of a file's content, or of an earlier one's.
#[inline(always)]
pub fn lookup(key: &InodeKey) -> Option<&'static InodeInfo> {
    // SAFETY: a live map value; volatile, because userspace writes it.
    let slot = unsafe { core::ptr::read_volatile(INODE_SLOTS.get_ptr(inode_slot(key.ino))?) };
    // SAFETY: plain bytes; a value that is replaced meanwhile is old or new, and both were true.
    unsafe {
        if slot & SLOT_MALICIOUS != 0 {
            if let Some(info) = INODES_MALICIOUS.get(key) {
                return Some(info);
            }
        }
        if slot < SLOT_KNOWN { None } else { INODES.get(key) }
    }
}

/// `INODES` is about to hold a file of this number.
#[inline(always)]
pub fn may_know(ino: u64) {
    if let Some(slot) = INODE_SLOTS.get_ptr_mut(inode_slot(ino)) {
        // SAFETY: a live map value, eight-byte aligned. Added, so that what userspace writes meanwhile stays.
        unsafe {
            if core::ptr::read_volatile(slot) < SLOT_KNOWN {
                atomic_add(slot, SLOT_KNOWN as i64);
            }
        }
    }
}
