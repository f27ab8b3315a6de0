//! What the kernel half counted of equal acts, taken out of its table.

use std::io;
use std::os::fd::AsFd;

use aya::maps::MapData;
use sensor_abi::record::{Fold, FoldKey, Net};
use zerocopy::FromBytes;

use super::batch;

/// Folds that are taken at once at most: a walk of a table that changes meanwhile may begin again.
const FOLDS_MAX: usize = 1_024;

/// Takes the folds whose first act was before `before_ns` out of `map`; those that counted something.
pub fn take(map: &MapData, before_ns: u64) -> io::Result<Vec<Vec<u8>>> {
    const KEY: usize = size_of::<FoldKey>();
    let map = map.fd().as_fd();
    let (mut taken, mut over, mut from) = (Vec::new(), Vec::new(), None);
    loop {
        let entries = batch::entries::<KEY, { size_of::<Fold>() }>(map, from)?;
        for (key, bytes) in entries.keys.iter().zip(&entries.values) {
            let Ok((fixed, _)) = Net::read_from_prefix(bytes) else { continue };
            if fixed.header.time_ns < before_ns {
                over.push(*key);
                if fixed.times > 0 {
                    taken.push(bytes.to_vec());
                }
            }
        }
        from = entries.next;
        if from.is_none() || over.len() >= FOLDS_MAX {
            break;
        }
    }
    // Nobody adds to them, and nobody but this takes them out.
    batch::remove(map, &over)?;
    Ok(taken)
}
