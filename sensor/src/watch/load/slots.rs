//! Which inode numbers the kernel looks up at all.
//!
//! What is in the map only grows, so what was seen there once is remembered here. Each call of bpf(2) that is saved is one
//! less inside which this process can be preempted: meanwhile no kprobe and no tracepoint runs on that CPU
//! (kernel/bpf/syscall.c: bpf_disable_instrumentation).

use aya::Ebpf;
use aya::maps::{Array, MapData, MapError};
use sensor_abi::mark::{INODE_SLOTS, SLOT_KNOWN, SLOT_MALICIOUS};

use super::LoadError;

pub struct Slots {
    map: Array<MapData, u64>,
    /// Per slot, the bits that were seen in the map.
    seen: Vec<u8>,
}

const KNOWN: u8 = 1;
const MALICIOUS: u8 = 2;

impl Slots {
    pub fn take_from(ebpf: &mut Ebpf) -> Result<Self, LoadError> {
        let map = ebpf.take_map("INODE_SLOTS").ok_or(LoadError::Map("INODE_SLOTS"))?;
        Ok(Self { map: Array::try_from(map)?, seen: vec![0; INODE_SLOTS as usize] })
    }

    /// A file of this slot is about to be known, as a malicious one or not. Can there be a malicious one of it?
    pub fn fill(&mut self, slot: u32, is_malicious: bool) -> Result<bool, MapError> {
        let seen = &mut self.seen[slot as usize];
        if *seen == 0 || (is_malicious && *seen & MALICIOUS == 0) {
            let value = self.map.get(&slot, 0)?;
            // Any multiple of it is as good.
            let known = if value < SLOT_KNOWN { value | SLOT_KNOWN } else { value };
            let wanted = if is_malicious { known | SLOT_MALICIOUS } else { known };
            if wanted != value {
                self.map.set(slot, wanted, 0)?;
            }
            *seen = KNOWN | if wanted & SLOT_MALICIOUS != 0 { MALICIOUS } else { 0 };
        }
        Ok(*seen & MALICIOUS != 0)
    }
}
