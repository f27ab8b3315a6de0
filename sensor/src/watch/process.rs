//! Who is who: executable, arguments and ancestors of every process that an alert may have to name.
//!
//! Filled by the kernel's records; what happened before the sensor started, and programs that carry no load, come from
//! the process worker's reading of /proc. Never reads /proc itself: that can block for ever.

mod view;

use std::collections::VecDeque;
use std::sync::Arc;

use sensor_abi::record::UNKNOWN_UID;

use self::view::{View, Views};
use super::record::{Argv, Header};
use crate::event::{Artifact, Bytes, Lineage, Process, TaskKey};
use crate::table::Map;

/// Processes that are remembered; the oldest entries give way.
const ENTRIES_MAX: usize = 16_384;
/// Bytes of paths and arguments that are remembered, in all.
const TEXT_BYTES_MAX: usize = 12 << 20;
/// Ancestors that an alert names.
const ANCESTORS_MAX: usize = 16;
/// `/proc/PID/stat` gives a start in clock ticks (USER_HZ, 100 on every architecture that this is built for).
pub const TICK_NS: u64 = 10_000_000;

/// A process at the precision that /proc has, so that both sources name it alike. Two processes with one pid cannot
/// start within one tick of each other: pids are handed out in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Id {
    tgid: u32,
    start_ticks: u64,
}

impl From<TaskKey> for Id {
    fn from(key: TaskKey) -> Self {
        Self { tgid: key.tgid, start_ticks: key.start_boottime_ns / TICK_NS }
    }
}

#[derive(Debug, Clone)]
struct Entry {
    key: TaskKey,
    /// Who created it, as far as it is known; kept when it is given to another parent.
    parent: Option<TaskKey>,
    exe: Bytes,
    argv: Argv,
    uid: Option<u32>,
    /// Somebody said what it runs.
    told: bool,
    /// The process worker was asked.
    asked: bool,
    /// It runs what its creator ran when it was forked.
    inherits: bool,
    script: Script,
    /// `comm` as it was before the process loaded anything; empty where nobody said it.
    comm: [u8; 16],
}

/// Is what an interpreter runs a script that reads files for a living?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Script {
    No,
    /// It is called so; whose it is, is being asked.
    Perhaps,
    Reader,
}

/// What the process worker says of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub tgid: u32,
    pub start_ticks: u64,
    pub parent_tgid: u32,
    pub exe: Bytes,
    pub argv: Argv,
    pub uid: Option<u32>,
    /// The script that it runs, if any, is root's.
    pub script_is_roots: bool,
}

/// The table.
#[derive(Debug, Default)]
pub struct Processes {
    entries: Map<Id, Entry>,
    order: VecDeque<Id>,
    /// Those of `order` that ended, in the order of their ends.
    gone: VecDeque<Id>,
    /// The process that last started under a pid.
    latest: Map<u32, TaskKey>,
    text_bytes: usize,
    /// Wall clock minus boot clock, ns.
    boot_unix_ns: i128,
    views: Views,
}

/// Two looks at two clocks are never at the same time: less than this is no news, ns.
const CLOCK_STEP_NS: u128 = 10_000;

impl Processes {
    /// Wall clock minus boot clock, ns.
    pub fn boot_unix_ns(&self) -> i128 {
        self.boot_unix_ns
    }

    /// It may have been set since.
    pub fn set_clock(&mut self, boot_unix_ns: i128) {
        if self.boot_unix_ns.abs_diff(boot_unix_ns) >= CLOCK_STEP_NS {
            self.boot_unix_ns = boot_unix_ns;
            self.views.changed();
        }
    }

    /// The acting process runs `exe` with `argv`.
    pub fn runs(&mut self, header: &Header, exe: &[u8], argv: &Argv) {
        self.views.changed();
        let entry = self.entry(header.task);
        entry.parent.get_or_insert(header.parent);
        entry.uid = Some(header.uid).filter(|uid| *uid != UNKNOWN_UID).or(entry.uid);
        let before = text_len(entry);
        let keep_argv = argv.args.is_empty() && entry.exe == exe;
        entry.exe = exe.to_vec();
        entry.inherits = false;
        entry.script = Script::No;
        if !keep_argv {
            entry.argv = argv.clone();
        }
        // Of a process that was found and not seen, the arguments are still to be asked for.
        let unheard = argv.args.is_empty() && argv.truncated;
        entry.told = !exe.is_empty() && !unheard;
        let after = text_len(entry);
        self.account(before, after);
    }

    /// The acting process was seen.
    pub fn seen(&mut self, header: &Header) {
        let entry = self.entry(header.task);
        let uid = Some(header.uid).filter(|uid| *uid != UNKNOWN_UID).or(entry.uid);
        if entry.parent.is_none() || entry.uid != uid {
            entry.parent.get_or_insert(header.parent);
            entry.uid = uid;
            self.views.changed();
        }
    }

    /// The acting process opens what it is going to load, and will be introduced later; `comm` as it is now.
    pub fn opens(&mut self, header: &Header, comm: [u8; 16]) {
        self.seen(header);
        let entry = self.entry(header.task);
        if entry.comm == [0; 16] {
            entry.comm = comm;
        }
    }

    /// Are these arguments those of the script that the process was started for, as its `comm` said before it loaded
    /// anything? What is loaded writes what it likes where the arguments are. (fs/exec.c: begin_new_exec takes the base name
    /// of the script, TASK_COMM_LEN bytes with a NUL.)
    pub fn was_started_as(&self, task: TaskKey, argv: &Argv) -> bool {
        let Some(entry) = self.entries.get(&Id::from(task)) else { return false };
        let comm = entry.comm.split(|byte| *byte == 0).next().unwrap_or_default();
        let is_it = |arg: &Bytes| {
            let name = arg.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            name.get(..name.len().min(entry.comm.len() - 1)) == Some(comm)
        };
        !comm.is_empty() && argv.args.iter().skip(1).take(2).any(is_it)
    }

    /// `header.task` made `child`, which runs the same program until it says otherwise.
    pub fn forked(&mut self, header: &Header, child: TaskKey) {
        self.seen(header);
        if self.entries.contains_key(&Id::from(child)) {
            self.views.changed();
        }
        let parent = self.entry(header.task).clone();
        let entry = self.entry(child);
        let before = text_len(entry);
        *entry =
            Entry { key: child, parent: Some(header.task), asked: false, inherits: true, script: Script::No, ..parent };
        let after = text_len(entry);
        self.account(before, after);
    }

    /// The acting process runs another program, and nobody said which: what it ran before is no longer true. It is asked
    /// for when somebody has to know.
    pub fn changed(&mut self, header: &Header) {
        self.seen(header);
        let entry = self.entry(header.task);
        let before = text_len(entry);
        *entry = Entry { key: entry.key, parent: entry.parent, uid: entry.uid, ..unknown(header.task) };
        let after = text_len(entry);
        self.views.changed();
        self.account(before, after);
    }

    /// The process is gone: it is the first to give way, behind those that went before it.
    pub fn exited(&mut self, header: &Header) {
        let id = Id::from(header.task);
        if self.entries.contains_key(&id) {
            self.gone.push_back(id);
        }
    }

    /// The chain above a process, nearest first.
    pub fn descends(&mut self, task: TaskKey, ancestors: &[TaskKey]) {
        let mut below = task;
        for ancestor in ancestors {
            self.entry(below).parent.get_or_insert(*ancestor);
            self.entry(*ancestor);
            below = *ancestor;
        }
        self.views.changed();
    }

    /// What /proc says. The kernel's word is newer where there is one.
    pub fn told(&mut self, told: Told) {
        self.views.changed();
        let key = TaskKey { tgid: told.tgid, start_boottime_ns: told.start_ticks * TICK_NS };
        let parent = self.latest.get(&told.parent_tgid).copied();
        let entry = self.entry(key);
        if entry.parent.is_none() {
            entry.parent = parent;
        }
        entry.uid = entry.uid.or(told.uid);
        if entry.told {
            return;
        }
        if entry.script == Script::Perhaps {
            entry.script = if told.script_is_roots { Script::Reader } else { Script::No };
        }
        let before = text_len(entry);
        entry.exe = told.exe;
        entry.argv = told.argv;
        entry.told = true;
        entry.inherits = false;
        let after = text_len(entry);
        self.account(before, after);
    }

    /// The process runs a script that is called like one that reads files for a living: it has to be asked whose the
    /// script is, and what it does waits for that.
    pub fn may_be_reader(&mut self, task: TaskKey) {
        self.views.changed();
        let entry = self.entry(task);
        if entry.script == Script::No {
            entry.script = Script::Perhaps;
            (entry.told, entry.asked) = (false, false);
        }
    }

    /// Did nobody but readers open these? Else what they opened is taken out: it is no load of their children either.
    pub fn were_only_read(&self, artifacts: &mut Vec<Artifact>) -> bool {
        let is_load = |artifact: &Artifact| !self.is_reader(artifact.opener);
        if artifacts.iter().any(is_load) {
            artifacts.retain(is_load);
            return false;
        }
        true
    }

    /// Does the process run a script that reads files for a living?
    fn is_reader(&self, task: TaskKey) -> bool {
        self.entries.get(&Id::from(task)).is_some_and(|entry| entry.script == Script::Reader)
    }

    /// The worker had no answer: there is none to wait for.
    pub fn gone(&mut self, tgid: u32) {
        if let Some(key) = self.latest.get(&tgid).copied() {
            self.entry(key).told = true;
            self.views.changed();
        }
    }

    /// Processes in the chain of `task` that nobody has been asked about.
    pub fn ask(&mut self, task: TaskKey, cgroup: u64) -> Vec<u32> {
        self.ask_from(0, task, cgroup)
    }

    /// The same of those above `task`.
    pub fn ask_above(&mut self, task: TaskKey, cgroup: u64) -> Vec<u32> {
        self.ask_from(1, task, cgroup)
    }

    fn ask_from(&mut self, generations: usize, task: TaskKey, cgroup: u64) -> Vec<u32> {
        if self.views.get(task, cgroup).is_some_and(|view| view.is_known) {
            return Vec::new();
        }
        let mut wanted = Vec::new();
        for id in self.chain(task).into_iter().skip(generations) {
            // An ancestor that was forgotten meanwhile is asked for again.
            let entry = self.entry(TaskKey { tgid: id.tgid, start_boottime_ns: id.start_ticks * TICK_NS });
            if !entry.told && !entry.asked {
                entry.asked = true;
                wanted.push(id.tgid);
            }
        }
        if !wanted.is_empty() {
            // Some of them may have had no entry.
            self.views.changed();
        }
        wanted
    }

    /// Process `tgid` is reached into: what it runs decides. Its number again, where that has to be asked: of one that
    /// nobody has heard of, or that was made by a process without a load, nobody said what it runs by now.
    pub fn doubt(&mut self, tgid: u32) -> Option<u32> {
        let is_new = !self.latest.contains_key(&tgid);
        // When it started is not known yet; whatever is told of it is later.
        let key = *self.latest.entry(tgid).or_insert(TaskKey { tgid, start_boottime_ns: 0 });
        let entry = self.entry(key);
        entry.inherits |= is_new;
        if !entry.inherits {
            return None;
        }
        entry.told = false;
        let is_first = !std::mem::replace(&mut entry.asked, true);
        self.views.changed();
        is_first.then_some(tgid)
    }

    /// Is everything known of the process that last started under `tgid` that can be?
    pub fn is_told(&self, tgid: u32) -> bool {
        let entry = self.latest.get(&tgid).and_then(|key| self.entries.get(&Id::from(*key)));
        entry.is_none_or(|entry| !entry.inherits || entry.told)
    }

    /// Does the process that last started under `tgid` run the very program that `process` runs, for the same user? What
    /// it was forked with is no proof.
    pub fn is_peer(&self, process: &Process, tgid: u32) -> bool {
        let other = self.latest.get(&tgid).and_then(|key| self.entries.get(&Id::from(*key)));
        !process.exe.is_empty()
            && other.is_some_and(|other| !other.inherits && other.exe == process.exe && other.uid == process.uid)
    }

    /// Is everything known of the chain of `task` that can be?
    pub fn is_known(&self, task: TaskKey, cgroup: u64) -> bool {
        let view = self.views.get(task, cgroup);
        view.map_or_else(|| self.is_chain_told(&self.chain(task)), |view| view.is_known)
    }

    fn is_chain_told(&self, chain: &[Id]) -> bool {
        chain.iter().all(|id| self.entries.get(id).is_none_or(|entry| entry.told))
    }

    /// The process and its ancestors as an alert shows them.
    pub fn lineage(&mut self, task: TaskKey, cgroup_id: u64) -> Arc<Lineage> {
        if let Some(view) = self.views.get(task, cgroup_id) {
            return Arc::clone(&view.lineage);
        }
        let chain = self.chain(task);
        let above = chain.iter().skip(1).filter_map(|id| self.entries.get(id));
        let ancestors = above.map(|entry| shorten(self.shown(entry))).collect();
        let process = match self.entries.get(&Id::from(task)) {
            Some(entry) => self.shown(entry),
            None => self.shown(&unknown(task)),
        };
        let lineage = Arc::new(Lineage { process, ancestors, cgroup_id });
        let view = View { lineage, is_known: self.is_chain_told(&chain) };
        self.views.keep(task, view).lineage
    }

    fn shown(&self, entry: &Entry) -> Process {
        // A child that was forked before anybody said what its creator runs.
        let creator = entry.parent.and_then(|parent| self.entries.get(&Id::from(parent)));
        let same = creator.filter(|creator| entry.inherits && entry.argv.args.is_empty() && creator.exe == entry.exe);
        let argv = same.map_or(&entry.argv, |creator| &creator.argv);
        Process {
            key: entry.key,
            start_unix_ns: self.boot_unix_ns + i128::from(entry.key.start_boottime_ns),
            exe: entry.exe.clone(),
            argv: argv.args.clone(),
            argv_truncated: argv.truncated,
            uid: entry.uid,
        }
    }

    fn chain(&self, task: TaskKey) -> Vec<Id> {
        let mut ids: Vec<Id> = Vec::new();
        let mut at = Some(task);
        while let Some(key) = at {
            let id = Id::from(key);
            if key.tgid == 0 || ids.len() > ANCESTORS_MAX || ids.contains(&id) {
                break;
            }
            ids.push(id);
            at = self.entries.get(&id).and_then(|entry| entry.parent);
        }
        ids
    }

    fn entry(&mut self, key: TaskKey) -> &mut Entry {
        let id = Id::from(key);
        if !self.entries.contains_key(&id) {
            while self.entries.len() >= ENTRIES_MAX || self.text_bytes > TEXT_BYTES_MAX {
                let Some(oldest) = self.gone.pop_front().or_else(|| self.order.pop_front()) else { break };
                if let Some(entry) = self.entries.remove(&oldest) {
                    self.text_bytes -= text_len(&entry);
                    if self.latest.get(&oldest.tgid).is_some_and(|key| Id::from(*key) == oldest) {
                        self.latest.remove(&oldest.tgid);
                    }
                }
            }
            self.order.push_back(id);
            self.text_bytes += text_len(&unknown(key));
            if self.order.len() > 2 * ENTRIES_MAX {
                self.order.retain(|id| self.entries.contains_key(id));
            }
        }
        let entry = self.entries.entry(id).or_insert_with(|| unknown(key));
        if entry.key.start_boottime_ns.is_multiple_of(TICK_NS) && !key.start_boottime_ns.is_multiple_of(TICK_NS) {
            // The kernel's start is the more precise one.
            entry.key = key;
            self.views.changed();
        }
        let latest = self.latest.entry(key.tgid).or_insert(key);
        if latest.start_boottime_ns < key.start_boottime_ns {
            *latest = key;
        }
        entry
    }

    fn account(&mut self, before: usize, after: usize) {
        self.text_bytes = self.text_bytes + after - before;
    }
}

fn unknown(key: TaskKey) -> Entry {
    Entry {
        key,
        parent: None,
        exe: Vec::new(),
        argv: Argv::default(),
        uid: None,
        told: false,
        asked: false,
        inherits: false,
        script: Script::No,
        comm: [0; 16],
    }
}

/// What an entry costs in memory, about.
fn text_len(entry: &Entry) -> usize {
    let args = &entry.argv.args;
    size_of::<Entry>() + entry.exe.len() + args.iter().map(|arg| size_of::<Bytes>() + arg.len()).sum::<usize>()
}

/// Arguments of an ancestor, bytes and number: enough to know it by.
const ANCESTOR_ARGV_BYTES_MAX: usize = 1_024;
const ANCESTOR_ARGS_MAX: usize = 32;

fn shorten(mut process: Process) -> Process {
    let mut bytes = 0;
    let keep = process.argv.iter().take(ANCESTOR_ARGS_MAX).take_while(|arg| {
        bytes += arg.len();
        bytes <= ANCESTOR_ARGV_BYTES_MAX
    });
    let keep = keep.count();
    process.argv_truncated |= keep < process.argv.len();
    process.argv.truncate(keep);
    process
}

#[cfg(test)]
#[path = "process_tests.rs"]
mod tests;
