//! The table of suffixes: made so that each key has one place, and one look of a hook decides.

use aya::Ebpf;
use aya::maps::Array;
use sensor_abi::name::{SUFFIX_SLOTS, suffix_slot};

use super::LoadError;

const MAP: &str = "SUFFIXES";
/// Multipliers that are tried: a few hundred do for all names that the rules have.
const MULTIPLIERS_MAX: u64 = 1 << 16;

/// A number by which no two keys want the same slot; an error where there are too many of them.
pub fn multiplier(suffixes: &[(u64, u8)]) -> Result<u64, LoadError> {
    // Odd numbers all over the range: multiples of the golden ratio (Knuth, The Art of Computer Programming, 6.4).
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut taken = vec![0; SUFFIX_SLOTS as usize];
    let found = (1..=MULTIPLIERS_MAX).find_map(|turn| {
        let multiplier = GOLDEN.wrapping_mul(2 * turn + 1);
        let mut is_free = |key| std::mem::replace(&mut taken[suffix_slot(key, multiplier) as usize], turn) != turn;
        suffixes.iter().all(|(key, _)| is_free(*key)).then_some(multiplier)
    });
    found.ok_or(LoadError::Suffixes(suffixes.len()))
}

/// Writes the table, before anything is attached.
pub fn write(ebpf: &mut Ebpf, suffixes: &[(u64, u8)], multiplier: u64) -> Result<(), LoadError> {
    let mut map: Array<_, [u64; 2]> = Array::try_from(ebpf.map_mut(MAP).ok_or(LoadError::Map(MAP))?)?;
    for (key, class) in suffixes {
        map.set(suffix_slot(*key, multiplier), [*key, u64::from(*class)], 0)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use sensor_abi::name::key_of_name;

    #[test]
    fn every_key_has_a_slot_of_its_own() {
        let suffixes: Vec<(u64, u8)> = (0..250u64).map(|i| (key_of_name(format!(".{i:x}g").as_bytes()), 1)).collect();
        let suffixes: Vec<_> = suffixes.into_iter().collect::<HashSet<_>>().into_iter().collect();
        let multiplier = multiplier(&suffixes).unwrap();
        let slots: HashSet<u32> = suffixes.iter().map(|(key, _)| suffix_slot(*key, multiplier)).collect();
        assert_eq!(slots.len(), suffixes.len());
    }

    #[test]
    fn too_many_keys_have_none() {
        let suffixes: Vec<(u64, u8)> = (1..=u64::from(SUFFIX_SLOTS) + 1).map(|key| (key, 1)).collect();
        assert!(multiplier(&suffixes).is_err());
    }
}
