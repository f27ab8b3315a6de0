//! Marks that an earlier sensor left, while nobody was there to free those of processes that ended: they are freed now.
//!
//! Only where no program of an earlier sensor is attached any more, and before ours are: nothing else changes them.

use std::collections::HashMap;
use std::path::Path;

use aya::Ebpf;
use aya::maps::{Array, HashMap as BpfHashMap, MapError};
use sensor_abi::mark::{LoadSet, Mark, role, task_slot};
use zerocopy::{FromBytes, IntoBytes};

const MARK: usize = size_of::<Mark>();
const LOAD_SET: usize = size_of::<LoadSet>();
/// `/proc/PID/stat` counts in ticks of 10 ms (USER_HZ, 100 on every architecture that this is built for).
const TICK_NS: u64 = 10_000_000;
/// Entries that are read at most.
const MARKS_MAX: usize = 262_144;

/// Removes the marks of processes that are gone, and the load sets that nobody names any more. Gives how many marks stay.
pub fn sweep(ebpf: &mut Ebpf) -> Result<usize, MapError> {
    let mut living: HashMap<u64, i64> = HashMap::new();
    let mut stay = 0;
    let mut gone: HashMap<u32, u64> = HashMap::new();
    if let Some(map) = ebpf.map_mut("TASKS") {
        let mut tasks = BpfHashMap::<_, u32, [u8; MARK]>::try_from(map)?;
        let marks: Vec<(u32, [u8; MARK])> = tasks.iter().take(MARKS_MAX).flatten().collect();
        for (tgid, bytes) in marks {
            match Mark::read_from_bytes(&bytes) {
                Ok(mark) if mark.role != role::OWN && lives(tgid, mark.start_boottime_ns) => {
                    *living.entry(mark.set).or_default() += 1;
                    stay += 1;
                }
                _ if tasks.remove(&tgid).is_ok() => *gone.entry(task_slot(tgid)).or_default() += 1,
                _ => {}
            }
        }
    }
    if let Some(map) = ebpf.map_mut("PYTHONS") {
        let mut pythons = BpfHashMap::<_, u32, u8>::try_from(map)?;
        let tgids: Vec<u32> = pythons.keys().take(MARKS_MAX).flatten().collect();
        for tgid in tgids {
            if !Path::new(&format!("/proc/{tgid}")).exists() && pythons.remove(&tgid).is_ok() {
                *gone.entry(task_slot(tgid)).or_default() += 1;
            }
        }
    }
    if let Some(map) = ebpf.map_mut("TASK_SLOTS") {
        let mut slots = Array::<_, u64>::try_from(map)?;
        for (slot, marks) in gone {
            let left = slots.get(&slot, 0)?.saturating_sub(marks);
            slots.set(slot, left, 0)?;
        }
    }
    if let Some(map) = ebpf.map_mut("LOAD_SETS") {
        let mut sets = BpfHashMap::<_, u64, [u8; LOAD_SET]>::try_from(map)?;
        let ids: Vec<u64> = sets.keys().take(MARKS_MAX).flatten().collect();
        for id in ids {
            let set = sets.get(&id, 0).ok().and_then(|bytes| LoadSet::read_from_bytes(&bytes).ok());
            match (living.get(&id), set) {
                (Some(refs), Some(mut set)) => {
                    set.refs = *refs;
                    let mut bytes = [0; LOAD_SET];
                    bytes.copy_from_slice(set.as_bytes());
                    sets.insert(id, bytes, 0)?;
                }
                _ => drop(sets.remove(&id)),
            }
        }
    }
    Ok(stay)
}

/// Is the process with this pid the one that started then? (proc_pid_stat(5), field 22; its name may hold anything, and
/// ends with the last parenthesis.)
fn lives(tgid: u32, start_boottime_ns: u64) -> bool {
    let Ok(text) = std::fs::read(format!("/proc/{tgid}/stat")) else { return false };
    started(&text) == Some(start_boottime_ns / TICK_NS)
}

fn started(stat: &[u8]) -> Option<u64> {
    let behind_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    std::str::from_utf8(stat.get(behind_name..)?).ok()?.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_found_behind_any_name() {
        let stat = b"7 (a) b (\xff)) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 3141 5 6";
        assert_eq!(started(stat), Some(3141));
        assert_eq!(started(b"7 (a"), None);
        assert_eq!(started(b""), None);
    }

    #[test]
    fn this_process_lives_and_no_earlier_one_with_its_pid_does() {
        let own = started(&std::fs::read("/proc/self/stat").unwrap()).unwrap() * TICK_NS;
        assert!(lives(std::process::id(), own));
        assert!(!lives(std::process::id(), own + TICK_NS));
    }
}
