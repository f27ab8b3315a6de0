//! Acts that are neither a load, a program nor a packet: the one record that they all become.
//!
//! What sends is a function of its own, with numbers for arguments: the verifier looks at it once and not at each call,
//! and its stack isn't part of every hook's.

use aya_ebpf::helpers::generated::bpf_probe_read_user_str;
use sensor_abi::act::{Act, CUT_BASE, CUT_PATH, TEXT, call};
use sensor_abi::record::{COMPONENT_BYTES_MAX, PATH_BYTES_MAX, kind};

use crate::emit::{self, Area};
use crate::field::{Address, field};
use crate::maps::{RING_BULK, RING_PRIORITY, SCRATCH_BYTES};
use crate::{file, introduce, loader};

/// Somewhere in the tree of mounts: the kernel's `struct path`.
#[derive(Clone, Copy)]
pub struct Path {
    pub dentry: Address,
    pub mount: Address,
}

impl Path {
    pub const NOWHERE: Self = Self { dentry: core::ptr::null(), mount: core::ptr::null() };

    /// What a `struct path` points to.
    #[inline(always)]
    pub fn of_path(path: Address) -> Option<Self> {
        Some(Self { dentry: field!(path, path_dentry, Address)?, mount: field!(path, path_mnt, Address)? })
    }

    #[inline(always)]
    pub fn of_file(file: Address) -> Option<Self> {
        Some(Self { dentry: field!(file, file_path_dentry, Address)?, mount: field!(file, file_path_mnt, Address)? })
    }
}

/// Tells userspace of an act of the current process, if it carries a load. `target` is another process, or 0.
#[inline(always)]
pub fn tell(call: u16, target: u32, number: u64, path: Path) {
    introduce::sensor_introduce_current();
    sensor_tell(u64::from(call) | u64::from(target) << 32, number, path.dentry as u64, path.mount as u64);
}

/// The same, with a path as the call named it: `text` in the caller's memory, taken from the folder `base`.
#[inline(always)]
pub fn tell_text(call: u16, text: u64, base: Path) {
    introduce::sensor_introduce_current();
    sensor_tell_text(u64::from(call), text, base.dentry as u64, base.mount as u64);
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sensor_tell(what: u64, number: u64, dentry: u64, mount: u64) -> u64 {
    let Some((area, start)) = begin(what as u16, (what >> 32) as u32, number) else { return 0 };
    let mut end = start;
    if dentry != 0 {
        let path = file::write_path_at(area.bytes(), start, dentry as Address, mount as Address, PATH_BYTES_MAX as u64);
        end = emit::forget(path);
    }
    let record: *mut Act = area.record();
    // SAFETY: the area is larger than the record's fixed part.
    unsafe {
        (*record).path_len = ((end & 0xffff) - start) as u16;
        (*record).flags = (end >> 32 & 1) as u16 * CUT_PATH;
    }
    // What decides how others are judged is no flood's to displace.
    if what as u16 == call::DESTROY {
        area.send(&RING_PRIORITY, end & 0xffff);
    } else {
        area.send(&RING_BULK, end & 0xffff);
    }
    1
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sensor_tell_text(call: u64, text: u64, dentry: u64, mount: u64) -> u64 {
    let Some((area, start)) = begin(call as u16, 0, 0) else { return 0 };
    let at = emit::forget(start) as usize & (SCRATCH_BYTES / 2 - 1);
    // SAFETY: `at` is below half the area and the path at most a quarter of it; the helper checks the source.
    let written = unsafe {
        bpf_probe_read_user_str(area.bytes().add(at).cast(), PATH_BYTES_MAX as u32, text as *const core::ffi::c_void)
    };
    let path_end = emit::forget(start + (written.max(0) as u64 & (2 * PATH_BYTES_MAX as u64 - 1)));
    let base = file::write_path_at(area.bytes(), path_end, dentry as Address, mount as Address, PATH_BYTES_MAX as u64);
    let end = emit::forget(base);
    let record: *mut Act = area.record();
    // SAFETY: the area is larger than the record's fixed part.
    unsafe {
        (*record).path_len = (path_end - start) as u16;
        (*record).base_len = ((end & 0xffff) - path_end) as u16;
        (*record).flags = TEXT | (end >> 32 & 1) as u16 * CUT_BASE;
    }
    area.send(&RING_BULK, end & 0xffff);
    1
}

/// All but the paths, and where they begin; `None` where the process carries no load that counts.
#[inline(always)]
fn begin(call: u16, target: u32, number: u64) -> Option<(Area, u64)> {
    let loader = loader::introduced()?;
    let held = loader.held();
    let area = Area::claim()?;
    let record: *mut Act = area.record();
    // SAFETY: the area is larger than the record's fixed part.
    let artifacts = unsafe {
        (*record).number = number;
        (*record).target = target;
        (*record).call = call;
        (*record).path_len = 0;
        (*record).base_len = 0;
        (*record).flags = 0;
        (*record).reserved = 0;
        loader.write(kind::ACT, held, &raw mut (*record).header, &raw mut (*record).load)
    };
    let start = emit::write_artifacts(area.bytes(), size_of::<Act>() as u64, loader.set, artifacts);
    Some((area, emit::forget(start)))
}

// The artifacts, a text, and a path with its last component: all fit.
const _: () = assert!(size_of::<Act>() + 640 + 2 * PATH_BYTES_MAX + COMPONENT_BYTES_MAX < SCRATCH_BYTES);
