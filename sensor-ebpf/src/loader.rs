//! Who acts: a process that carries a load, loads for itself, and so is reported.

use sensor_abi::identity::TaskKey;
use sensor_abi::mark::{LoadSet, Mark, role};
use sensor_abi::record::{Header, Load};

use crate::field::{Address, Checked, field};
use crate::maps::LOAD_SETS;
use crate::task::Who;
use crate::{emit, introduce, mark, task, window};

/// A process whose acts are reported.
pub struct Loader {
    pub mark: *mut Mark,
    pub set: *mut LoadSet,
    pub task: Address,
    pub key: TaskKey,
    who: Who,
}

/// Has the current process a mark, whatever it is worth? One look-up, before anything else is read: all that an act costs
/// everybody else.
#[inline(always)]
pub fn current_is_marked() -> bool {
    is_marked(task::current_tgid())
}

/// The same of process `tgid`.
#[inline(always)]
pub fn is_marked(tgid: u32) -> bool {
    mark::of(tgid).is_some()
}

/// The current process, if it carries a load and loads for itself; introduced, if it wasn't.
#[inline(always)]
pub fn current() -> Option<Loader> {
    let loader = introduced()?;
    // SAFETY: a live map value, the mark of the current task.
    unsafe { introduce::first(loader.mark, loader.task) };
    Some(loader)
}

/// The same where somebody saw to its introduction.
#[inline(always)]
pub fn introduced() -> Option<Loader> {
    let (mark, task, key) = mark::find_current()?;
    let who = task::who_is_current();
    reported(mark, task, key, who)
}

/// The same for programs that have no helpers to ask who is current.
#[inline(always)]
pub fn from_memory() -> Option<Loader> {
    let task = task::current();
    let mark = mark::of(field!(task, task_tgid, u32)?)?;
    let key = task::key_of::<Checked>(task)?;
    // SAFETY: a live map value.
    if unsafe { (*mark).start_boottime_ns } != key.start_boottime_ns {
        return None;
    }
    let loader = reported(mark, task, key, task::who(task))?;
    // SAFETY: as above, the mark of the current task.
    unsafe { introduce::first(mark, task) };
    Some(loader)
}

#[inline(always)]
fn reported(mark: *mut Mark, task: Address, key: TaskKey, who: Who) -> Option<Loader> {
    // SAFETY: a live map value.
    if matches!(unsafe { mark::role_of(mark) }, role::READER | role::OWN) {
        return None;
    }
    // SAFETY: as above.
    let id = unsafe { (*mark).set };
    let set = LOAD_SETS.get_ptr_mut(id)?;
    if mark::sensor_counts(id) == 0 {
        return None;
    }
    Some(Loader { mark, set, task, key, who })
}

impl Loader {
    /// Which artifacts are held now, as [`window::held`].
    #[inline(always)]
    pub fn held(&self) -> u64 {
        // SAFETY: a live map value.
        window::held(self.task, unsafe { (*self.mark).set }, self.key.start_boottime_ns)
    }

    /// Writes header and load of a record, and gives the number of artifacts that belong behind its fixed part.
    ///
    /// # Safety
    /// Both point to writable memory of their size.
    #[inline(always)]
    pub unsafe fn write(&self, kind: u16, held: u64, header: *mut Header, load: *mut Load) -> u64 {
        let thread_ms = task::thread_ms(self.task, self.key);
        // SAFETY: the caller's promise; mark and set are live map values.
        unsafe {
            task::write_header_of::<Checked>(header, kind, self.task, self.key, self.who, task::now_ns());
            emit::write_load(load, self.mark, self.set, held as u8, (held >> 8) as u8, thread_ms)
        }
    }
}
