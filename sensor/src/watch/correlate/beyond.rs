//! Files that a process opened beyond what its load set in the kernel has room for.
//!
//! A full set gives up what nobody has judged yet, and that may be the worst of all. Every open is told, so what an act's
//! set has lost is put back here: what was found bad meanwhile, and what is still to be judged.

use std::collections::VecDeque;

use super::Sight;
use crate::event::TaskKey;
use crate::table::Map;
use crate::watch::record::{Load, LoadArtifact, Open};

/// Processes whose files are remembered; the one that opened its first longest ago gives way.
const OPENERS_MAX: usize = 512;
/// Files of one process that are remembered; the one that was opened longest ago gives way. (The act says how many its
/// set has lost.)
const FILES_MAX: usize = 32;

#[derive(Debug, Default)]
pub struct Beyond {
    by_opener: Map<TaskKey, VecDeque<LoadArtifact>>,
    order: VecDeque<TaskKey>,
}

impl Beyond {
    /// A file was opened. `is_fine`: it was judged, and there is nothing that a load set would have to keep.
    pub fn opened(&mut self, open: &Open, is_bad: impl Fn(Sight) -> bool, is_fine: impl Fn(Sight) -> bool) {
        let opener = open.header.task;
        if !self.by_opener.contains_key(&opener) {
            if self.order.len() >= OPENERS_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.by_opener.remove(&oldest);
            }
            self.order.push_back(opener);
        }
        let files = self.by_opener.entry(opener).or_default();
        if files.len() >= FILES_MAX {
            files.retain(|file| !is_fine((file.inode, file.stamp)));
        }
        if files.len() >= FILES_MAX {
            let oldest = files.iter().position(|file| !is_bad((file.inode, file.stamp)));
            files.remove(oldest.unwrap_or(FILES_MAX - 1));
        }
        files.push_back(LoadArtifact {
            inode: open.inode,
            stamp: open.stamp,
            opener,
            opened_ns: open.header.time_ns,
            named: open.named,
            held_ns: open.header.time_ns,
            born: false,
            held: false,
            cut: false,
            bystander: false,
        });
    }

    /// Puts back what the load of an act of `task` has lost. What a process opened after it made `task` is none of its.
    pub fn put_back(&self, load: &mut Load, task: TaskKey, is_fine: impl Fn(Sight) -> bool) {
        let mut openers: Vec<TaskKey> = load.artifacts.iter().map(|artifact| artifact.opener).collect();
        openers.sort_unstable();
        openers.dedup();
        for file in openers.iter().filter_map(|opener| self.by_opener.get(opener)).flatten() {
            let is_there = |artifact: &LoadArtifact| (artifact.inode, artifact.stamp) == (file.inode, file.stamp);
            let own = file.opener == task || file.opened_ns <= task.start_boottime_ns;
            if own && !is_fine((file.inode, file.stamp)) && !load.artifacts.iter().any(is_there) {
                load.artifacts.push(file.clone());
            }
        }
    }
}
