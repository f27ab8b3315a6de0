//! B-trees of version 2, which list links, attributes and chunks.

use super::file::File;

/// Records of one tree.
const RECORDS_MAX: usize = 200_000;
/// Nodes in each other.
const DEPTH_MAX: u64 = 16;

/// What the records of a tree are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    pub kind: u64,
    /// Bytes of one record.
    pub record_bytes: u64,
}

/// Offsets of the records of the tree at `tree`, in no order; `None` where it can't be read to its end (what was found
/// stands).
pub fn records(file: &File<'_, '_>, tree: u64, records: &mut Vec<u64>) -> Option<Form> {
    let mut cursor = file.at(tree);
    cursor.signature(b"BTHD")?;
    cursor.skip(1)?;
    let kind = cursor.uint(1)?;
    let node_bytes = cursor.uint(4)?;
    let record_bytes = cursor.uint(2)?;
    let depth = cursor.uint(2)?;
    cursor.skip(2)?;
    let root = cursor.optional_address()?;
    let count = cursor.uint(2)?;
    if record_bytes == 0 || depth > DEPTH_MAX || node_bytes > 1 << 24 {
        return None;
    }
    // Sizes of counts in the pointers to children, level by level.
    let width = |limit: u64| (limit.max(1).ilog2() / 8 + 1) as u8;
    let leaf_max = node_bytes.checked_sub(10)? / record_bytes;
    let count_bytes = width(leaf_max);
    let mut sums = vec![leaf_max];
    for level in 1..=depth {
        let below = *sums.last()?;
        let pointer =
            u64::from(file.offset_bytes) + u64::from(count_bytes) + if level > 1 { width(below).into() } else { 0 };
        let own = node_bytes.checked_sub(10 + pointer)? / (record_bytes + pointer);
        sums.push((own + 1).checked_mul(below)?.checked_add(own)?);
    }
    let mut queue = vec![(root, count, depth)];
    while let Some((node, count, depth)) = queue.pop() {
        let Some(node) = node else { continue };
        let mut cursor = file.at(node);
        cursor.signature(if depth == 0 { b"BTLF" } else { b"BTIN" })?;
        cursor.skip(2)?;
        for _ in 0..count {
            if records.len() >= RECORDS_MAX {
                return None;
            }
            records.push(cursor.at);
            cursor.skip(record_bytes)?;
        }
        if depth > 0 {
            for _ in 0..=count {
                let child = cursor.optional_address()?;
                let below = cursor.uint(count_bytes)?;
                if depth > 1 {
                    cursor.skip(width(*sums.get(depth as usize - 1)?).into())?;
                }
                if queue.len() + records.len() >= RECORDS_MAX {
                    return None;
                }
                queue.push((child, below, depth - 1));
            }
        }
    }
    Some(Form { kind, record_bytes })
}
