//! What the scanner said before, for as long as the file is the same.
//!
//! The key is the inode and its stamp. `ctime` stands for `mtime` too: whatever sets one sets the other, and only
//! `mtime` can be forged by utimes(2). A shared writable mapping changes neither, which is why nothing is kept or used
//! while a writer holds the file ([`super::pool::Job::cacheable`]).

use std::collections::HashMap;
use std::sync::Arc;

use super::wire::{Identity, Mode, ScanReport, Stamp};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    pub identity: Identity,
    pub stamp: Stamp,
    pub mode: Mode,
}

/// Least recently used goes first; bounded in entries and, roughly, in bytes.
#[derive(Debug)]
pub struct Cache {
    entries: HashMap<Key, Entry>,
    entries_max: usize,
    bytes_max: usize,
    bytes: usize,
    clock: u64,
}

#[derive(Debug)]
struct Entry {
    report: Arc<ScanReport>,
    bytes: usize,
    used: u64,
}

impl Cache {
    pub fn new(entries_max: usize, bytes_max: usize) -> Self {
        Self { entries: HashMap::new(), entries_max, bytes_max, bytes: 0, clock: 0 }
    }

    pub fn get(&mut self, key: &Key) -> Option<Arc<ScanReport>> {
        self.clock += 1;
        let entry = self.entries.get_mut(key)?;
        entry.used = self.clock;
        Some(Arc::clone(&entry.report))
    }

    pub fn insert(&mut self, key: Key, report: Arc<ScanReport>) {
        self.clock += 1;
        let bytes = size_of::<(Key, Entry, ScanReport)>()
            + report
                .findings
                .iter()
                .map(|f| size_of_val(f) + f.id.len() + f.severity.len() + f.title.len())
                .sum::<usize>();
        if let Some(old) = self.entries.insert(key, Entry { report, bytes, used: self.clock }) {
            self.bytes -= old.bytes;
        }
        self.bytes += bytes;
        while self.entries.len() > self.entries_max || self.bytes > self.bytes_max {
            // A walk over a few thousand entries, once per file that was scanned: less than the scan's first read.
            let Some(oldest) = self.entries.iter().min_by_key(|(_, entry)| entry.used).map(|(key, _)| *key) else {
                return;
            };
            if let Some(entry) = self.entries.remove(&oldest) {
                self.bytes -= entry.bytes;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::wire::{Content, Verdict};

    fn key(ino: u64, size: u64) -> Key {
        Key {
            identity: Identity { ino, dev: 1, generation: 0 },
            stamp: Stamp { size, ctime_s: 0, ctime_ns: 0 },
            mode: Mode::Full,
        }
    }

    fn report(size: u64) -> Arc<ScanReport> {
        Arc::new(ScanReport {
            format: "pickle".into(),
            content: Content::Code,
            verdict: Some(Verdict::Clean),
            sha256: None,
            all_globals_safe: true,
            findings: Vec::new(),
            findings_omitted: 0,
            size,
            elapsed_us: 0,
        })
    }

    #[test]
    fn a_changed_stamp_another_inode_and_another_mode_are_other_files() {
        let mut cache = Cache::new(8, 1 << 20);
        cache.insert(key(1, 10), report(10));
        assert!(cache.get(&key(1, 10)).is_some());
        assert!(cache.get(&key(1, 11)).is_none());
        assert!(cache.get(&key(2, 10)).is_none());
        assert!(cache.get(&Key { mode: Mode::Sniff, ..key(1, 10) }).is_none());
    }

    #[test]
    fn the_least_used_gives_way_in_entries_and_in_bytes() {
        let mut cache = Cache::new(2, 1 << 20);
        cache.insert(key(1, 0), report(0));
        cache.insert(key(2, 0), report(0));
        assert!(cache.get(&key(1, 0)).is_some());
        cache.insert(key(3, 0), report(0));
        assert!(cache.get(&key(2, 0)).is_none());
        assert!(cache.get(&key(1, 0)).is_some() && cache.get(&key(3, 0)).is_some());

        let mut cache = Cache::new(100, 1);
        cache.insert(key(1, 0), report(0));
        assert!(cache.get(&key(1, 0)).is_none());
        assert_eq!(cache.bytes, 0);
    }
}
