//! The two streams of records, and what the first of them sent before anybody reads it.

use aya::Ebpf;
use aya::maps::{MapData, RingBuf};

use super::LoadError;

/// Records that are taken out while the sensor starts; each is about half a KiB.
const EARLY_MAX: usize = 16_384;

pub struct Rings {
    pub priority: RingBuf<MapData>,
    pub bulk: RingBuf<MapData>,
    /// Of the first, in its order: what the walk at the start sends can be more than the ring holds.
    pub early: Vec<Vec<u8>>,
}

impl Rings {
    pub fn take_from(ebpf: &mut Ebpf) -> Result<Self, LoadError> {
        let mut ring = |name| -> Result<RingBuf<MapData>, LoadError> {
            Ok(RingBuf::try_from(ebpf.take_map(name).ok_or(LoadError::Map(name))?)?)
        };
        Ok(Self { priority: ring("RING_PRIORITY")?, bulk: ring("RING_BULK")?, early: Vec::new() })
    }

    /// Takes out what is there.
    pub fn take_early(&mut self) {
        while self.early.len() < EARLY_MAX {
            let Some(record) = self.priority.next() else { break };
            self.early.push(record.to_vec());
        }
    }
}
