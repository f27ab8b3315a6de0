//! Acts that are neither a load, a program nor a packet: who acts, and the one record that they all become.

use aya_ebpf::helpers::generated::bpf_probe_read_user_str;
use sensor_abi::act::{Act, CUT_BASE, CUT_PATH, TEXT};
use sensor_abi::identity::TaskKey;
use sensor_abi::mark::{LoadSet, Mark, role};
use sensor_abi::record::{COMPONENT_BYTES_MAX, PATH_BYTES_MAX, kind};

use crate::emit::{self, Area};
use crate::field::{Address, field};
use crate::maps::{LOAD_SETS, RING_BULK, SCRATCH_BYTES};
use crate::{file, mark, task};

/// The current process, where it carries a load that counts.
pub struct Actor {
    pub task: Address,
    pub key: TaskKey,
    mark: *mut Mark,
    set: *mut LoadSet,
}

impl Actor {
    /// One look-up for everybody who carries none.
    #[inline(always)]
    pub fn current() -> Option<Self> {
        let (mark, task, key) = mark::find_current()?;
        // SAFETY: a live map value.
        if matches!(unsafe { mark::role_of(mark) }, role::READER | role::OWN) {
            return None;
        }
        // SAFETY: as above.
        let id = unsafe { (*mark).set };
        let set = LOAD_SETS.get_ptr_mut(id)?;
        (mark::sensor_counts(id) != 0).then_some(Self { task, key, mark, set })
    }

    /// Tells userspace. A path is a place in the tree of mounts.
    #[inline(always)]
    pub fn tell(&self, call: u16, target: TaskKey, numbers: [u64; 4], path: Option<Place>) -> Option<()> {
        let area = Area::claim()?;
        // SAFETY: the area is fresh.
        let start = unsafe { self.begin(&area, call, target, numbers) };
        let end = match path {
            Some(at) => file::write_path_at(area.bytes(), start, at.dentry, at.mount, PATH_BYTES_MAX as u64),
            None => start,
        };
        let record: *mut Act = area.record();
        // SAFETY: the area is larger than the record's fixed part.
        unsafe {
            (*record).path_len = ((end & 0xffff) - start) as u16;
            (*record).flags = (end >> 32 & 1) as u16 * CUT_PATH;
        }
        area.send(&RING_BULK, end & 0xffff);
        Some(())
    }

    /// Tells userspace of a path as the call named it: `text` in the caller's memory, taken from the folder `base`.
    #[inline(always)]
    pub fn tell_text(&self, call: u16, numbers: [u64; 4], text: u64, base: Place) -> Option<()> {
        let area = Area::claim()?;
        // SAFETY: the area is fresh.
        let start = unsafe { self.begin(&area, call, NOBODY, numbers) };
        let at = start as usize & (SCRATCH_BYTES / 2 - 1);
        // SAFETY: `at` is below half the area and the path at most a quarter of it; the helper checks the source.
        let written = unsafe {
            bpf_probe_read_user_str(
                area.bytes().add(at).cast(),
                PATH_BYTES_MAX as u32,
                text as *const core::ffi::c_void,
            )
        };
        let path_end = start + (written.max(0) as u64 & (2 * PATH_BYTES_MAX as u64 - 1));
        let end = file::write_path_at(area.bytes(), path_end, base.dentry, base.mount, PATH_BYTES_MAX as u64);
        let record: *mut Act = area.record();
        // SAFETY: the area is larger than the record's fixed part.
        unsafe {
            (*record).path_len = (path_end - start) as u16;
            (*record).base_len = ((end & 0xffff) - path_end) as u16;
            (*record).flags = TEXT | (end >> 32 & 1) as u16 * CUT_BASE;
        }
        area.send(&RING_BULK, end & 0xffff);
        Some(())
    }

    /// Writes all but the paths, and returns where they begin.
    ///
    /// # Safety
    /// Nobody else uses the area.
    #[inline(always)]
    pub unsafe fn begin(&self, area: &Area, call: u16, target: TaskKey, numbers: [u64; 4]) -> u64 {
        // SAFETY: two live map values.
        let held = mark::held(self.task, unsafe { (*self.mark).set }, self.key.start_boottime_ns);
        let record: *mut Act = area.record();
        // SAFETY: the area is larger than the record's fixed part; mark and set are live map values.
        let artifacts = unsafe {
            task::write_header(&raw mut (*record).header, kind::ACT, self.task, self.key);
            (*record).target = target;
            (*record).numbers = numbers;
            (*record).call = call;
            (*record).path_len = 0;
            (*record).base_len = 0;
            (*record).flags = 0;
            emit::write_load(&raw mut (*record).load, self.mark, self.set, held as u8, (held >> 8) as u8)
        };
        emit::write_artifacts(area.bytes(), size_of::<Act>() as u64, self.set, artifacts)
    }
}

/// Somewhere in the tree of mounts.
#[derive(Clone, Copy)]
pub struct Place {
    pub dentry: Address,
    pub mount: Address,
}

impl Place {
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

/// No other process.
pub const NOBODY: TaskKey = TaskKey { start_boottime_ns: 0, tgid: 0, reserved: 0 };

// The artifacts, a text, and a path with its last component: all fit.
const _: () = assert!(size_of::<Act>() + 640 + 2 * PATH_BYTES_MAX + COMPONENT_BYTES_MAX < SCRATCH_BYTES);
