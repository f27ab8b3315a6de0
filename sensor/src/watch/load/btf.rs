//! Offsets of kernel structure members, read from the running kernel's BTF.
//!
//! Rust programs carry no CO-RE relocations, so the offsets are looked up once here and handed to the programs as
//! constants. Source: Documentation/bpf/btf.rst (section 2, type encoding).

use std::collections::HashMap;

use sensor_abi::config::{ABSENT, Offsets};
use thiserror::Error;
use zerocopy::FromBytes;

/// Where the kernel shows its BTF.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

#[derive(Debug, Error)]
pub enum BtfError {
    #[error("the kernel shows no type information at {VMLINUX} (it has to be built with CONFIG_DEBUG_INFO_BTF)")]
    Absent(#[from] std::io::Error),
    #[error("the kernel's type information is malformed at byte {0}")]
    Malformed(usize),
    #[error("the kernel's type information lacks {0}.{1}")]
    Member(&'static str, &'static str),
}

/// Members that may be absent: what stands in for them is decided in the program.
const OPTIONAL: [(&str, &str); 8] = [
    ("inode", "i_ctime_nsec"),
    ("backing_file", "user_path.mnt"),
    ("backing_file", "user_path.dentry"),
    ("tcp_sock", "is_mptcp"),
    // Where unix sockets are a module, the kernel's own type information lacks them.
    ("unix_sock", "peer"),
    ("unix_sock", "addr"),
    ("unix_address", "len"),
    ("unix_address", "name"),
];

const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_FUNC: u32 = 12;
/// Typedefs and qualifiers: what they name is one step further.
const KIND_ALIAS: [u32; 5] = [8, 9, 10, 11, 18];
/// Anonymous members nest this deep at most.
const DEPTH_MAX: u32 = 8;

/// What the programs have to know of the running kernel.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    pub offsets: Offsets,
    /// The kernel has `bpf_loop` (kernel/bpf/bpf_iter.c, 5.17).
    pub has_loop: bool,
    /// The kernel has `bpf_get_current_task_btf` (kernel/trace/bpf_trace.c, 5.11).
    pub has_known_task: bool,
}

/// Reads it.
pub fn layout() -> Result<Layout, BtfError> {
    let bytes = std::fs::read(VMLINUX)?;
    resolve(&bytes)
}

fn resolve(bytes: &[u8]) -> Result<Layout, BtfError> {
    let btf = Btf::index(bytes)?;
    let mut out = Vec::with_capacity(Offsets::SOURCE.len() * 4);
    for (type_name, spellings) in Offsets::SOURCE {
        let offset = spellings.iter().find_map(|member| btf.member(type_name, member));
        let offset = match offset {
            Some(offset) => offset,
            None if OPTIONAL.contains(&(type_name, spellings[0])) => ABSENT,
            None => return Err(BtfError::Member(type_name, spellings[0])),
        };
        out.extend_from_slice(&offset.to_ne_bytes());
    }
    let offsets = Offsets::read_from_bytes(&out).map_err(|_| BtfError::Malformed(0))?;
    Ok(Layout { offsets, has_loop: btf.has_loop, has_known_task: btf.has_known_task })
}

struct Btf<'a> {
    bytes: &'a [u8],
    strings: usize,
    /// Type id - 1 -> position of its `struct btf_type`.
    types: Vec<u32>,
    structs: HashMap<&'static str, usize>,
    has_loop: bool,
    has_known_task: bool,
}

impl<'a> Btf<'a> {
    fn index(bytes: &'a [u8]) -> Result<Self, BtfError> {
        let header = word(bytes, 4)? as usize;
        let types = header + word(bytes, 8)? as usize;
        let types_end = types + word(bytes, 12)? as usize;
        let strings = header + word(bytes, 16)? as usize;
        let mut btf =
            Self { bytes, strings, types: Vec::new(), structs: HashMap::new(), has_loop: false, has_known_task: false };
        let mut at = types;
        while at < types_end {
            btf.types.push(at as u32);
            let info = word(bytes, at + 4)?;
            if kind(info) == KIND_STRUCT {
                let name = btf.text(word(bytes, at)?);
                if let Some((known, _)) = Offsets::SOURCE.iter().find(|(t, _)| t.as_bytes() == name) {
                    btf.structs.entry(known).or_insert(at);
                }
            }
            if kind(info) == KIND_FUNC {
                let name = btf.text(word(bytes, at)?);
                btf.has_loop |= name == b"bpf_loop";
                btf.has_known_task |= name == b"bpf_get_current_task_btf";
            }
            at += 12 + tail(info).ok_or(BtfError::Malformed(at))?;
        }
        Ok(btf)
    }

    fn text(&self, offset: u32) -> &'a [u8] {
        let rest = self.bytes.get(self.strings + offset as usize..).unwrap_or_default();
        &rest[..rest.iter().position(|b| *b == 0).unwrap_or(rest.len())]
    }

    /// Byte offset of `member`, which may be dotted.
    fn member(&self, type_name: &str, member: &str) -> Option<u32> {
        let mut at = *self.structs.get(type_name)?;
        let mut offset = 0;
        for part in member.split('.') {
            let (bits, type_id) = self.find(at, part.as_bytes(), DEPTH_MAX)?;
            offset += bits / 8;
            at = self.resolved(type_id).unwrap_or(0);
        }
        Some(offset)
    }

    /// Bit offset and type of a member, looked for in anonymous members too.
    fn find(&self, at: usize, name: &[u8], depth: u32) -> Option<(u32, u32)> {
        let info = word(self.bytes, at + 4).ok()?;
        if depth == 0 || !matches!(kind(info), KIND_STRUCT | KIND_UNION) {
            return None;
        }
        let bitfields = info >> 31 == 1;
        for i in 0..(info & 0xffff) as usize {
            let entry = at + 12 + i * 12;
            let type_id = word(self.bytes, entry + 4).ok()?;
            let raw = word(self.bytes, entry + 8).ok()?;
            let bits = if bitfields { raw & 0xff_ffff } else { raw };
            let member = self.text(word(self.bytes, entry).ok()?);
            if member == name {
                return Some((bits, type_id));
            }
            if member.is_empty()
                && let Some((inner, found)) = self.resolved(type_id).and_then(|at| self.find(at, name, depth - 1))
            {
                return Some((bits + inner, found));
            }
        }
        None
    }

    /// Position of a type behind typedefs and qualifiers.
    fn resolved(&self, mut type_id: u32) -> Option<usize> {
        for _ in 0..DEPTH_MAX {
            let at = *self.types.get((type_id as usize).checked_sub(1)?)? as usize;
            if !KIND_ALIAS.contains(&kind(word(self.bytes, at + 4).ok()?)) {
                return Some(at);
            }
            type_id = word(self.bytes, at + 8).ok()?;
        }
        None
    }
}

fn kind(info: u32) -> u32 {
    info >> 24 & 0x1f
}

/// Bytes that follow a `struct btf_type` of this kind; `None` for a kind that isn't known.
fn tail(info: u32) -> Option<usize> {
    let len = (info & 0xffff) as usize;
    Some(match kind(info) {
        1 | 14 | 17 => 4,
        2 | 7..=12 | 16 | 18 => 0,
        3 => 12,
        KIND_STRUCT | KIND_UNION | 15 | 19 => len * 12,
        6 | 13 => len * 8,
        _ => return None,
    })
}

fn word(bytes: &[u8], at: usize) -> Result<u32, BtfError> {
    let end = at.checked_add(4).ok_or(BtfError::Malformed(at))?;
    let bytes = bytes.get(at..end).ok_or(BtfError::Malformed(at))?;
    Ok(u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_is_an_error_and_no_panic() {
        for len in 0..64 {
            assert!(resolve(&vec![0xff; len]).is_err());
            assert!(resolve(&vec![0; len]).is_err());
        }
    }
}
