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
    #[error("the kernel's type information can't be read: {0}")]
    Unread(String),
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
const KIND_FWD: u32 = 7;
const KIND_TYPEDEF: u32 = 8;
const KIND_FUNC: u32 = 12;
/// `struct btf_header`.
const HEADER_BYTES: u32 = 24;
/// What programs are attached to, by kind and the beginning of the name: security functions and their LSM hooks, what
/// iterators are called with, typed tracepoints, and what makes or enters namespaces (`system.rs`).
const ATTACHABLE: [(u32, &[u8]); 7] = [
    (KIND_FUNC, b"security_"),
    (KIND_FUNC, b"bpf_lsm_"),
    (KIND_FUNC, b"bpf_iter_"),
    (KIND_TYPEDEF, b"btf_trace_"),
    (KIND_FUNC, b"ksys_unshare"),
    (KIND_FUNC, b"__x64_sys_setns"),
    (KIND_FUNC, b"__arm64_sys_setns"),
];
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

/// The bytes of [`VMLINUX`], and where its types begin.
pub struct Index<'a> {
    bytes: &'a [u8],
    strings: &'a [u8],
    /// Type id - 1 -> position of its `struct btf_type`.
    types: Vec<u32>,
    structs: HashMap<&'static str, usize>,
    has_loop: bool,
    has_known_task: bool,
}

impl<'a> Index<'a> {
    /// Finds them, and looks at nothing in them but names.
    pub fn of(bytes: &'a [u8]) -> Result<Self, BtfError> {
        let header = word(bytes, 4)? as usize;
        let types = header + word(bytes, 8)? as usize;
        let types_end = types + word(bytes, 12)? as usize;
        let strings = header + word(bytes, 16)? as usize;
        let strings_end = strings + word(bytes, 20)? as usize;
        let mut index = Self {
            bytes,
            strings: bytes.get(strings..strings_end).ok_or(BtfError::Malformed(strings))?,
            types: Vec::new(),
            structs: HashMap::new(),
            has_loop: false,
            has_known_task: false,
        };
        let mut at = types;
        while at < types_end {
            index.types.push(at as u32);
            let info = word(bytes, at + 4)?;
            if kind(info) == KIND_STRUCT {
                let name = index.text(word(bytes, at)?);
                if let Some((known, _)) = Offsets::SOURCE.iter().find(|(t, _)| t.as_bytes() == name) {
                    index.structs.entry(known).or_insert(at);
                }
            }
            if kind(info) == KIND_FUNC {
                let name = index.text(word(bytes, at)?);
                index.has_loop |= name == b"bpf_loop";
                index.has_known_task |= name == b"bpf_get_current_task_btf";
            }
            at += 12 + tail(info).ok_or(BtfError::Malformed(at))?;
        }
        Ok(index)
    }

    /// Looks up what the programs have to know.
    pub fn layout(&self) -> Result<Layout, BtfError> {
        let mut out = Vec::with_capacity(Offsets::SOURCE.len() * 4);
        for (type_name, spellings) in Offsets::SOURCE {
            let offset = spellings.iter().find_map(|member| self.member(type_name, member));
            let offset = match offset {
                Some(offset) => offset,
                None if OPTIONAL.contains(&(type_name, spellings[0])) => ABSENT,
                None => return Err(BtfError::Member(type_name, spellings[0])),
            };
            out.extend_from_slice(&offset.to_ne_bytes());
        }
        let offsets = Offsets::read_from_bytes(&out).map_err(|_| BtfError::Malformed(0))?;
        Ok(Layout { offsets, has_loop: self.has_loop, has_known_task: self.has_known_task })
    }

    /// The same types under the same ids, of which those have names that a program can be attached to, and all others are
    /// empty: who looks for one of them need not read, nor keep, the other megabytes.
    pub fn outline(&self) -> Result<Vec<u8>, BtfError> {
        let mut types = Vec::with_capacity(self.types.len() * 12);
        let mut strings = vec![0];
        for at in &self.types {
            let at = *at as usize;
            let info = word(self.bytes, at + 4)?;
            let name = word(self.bytes, at)?;
            let mut of_kind = ATTACHABLE.iter().filter(|(known, _)| *known == kind(info));
            let is_kept = of_kind.any(|(_, prefix)| self.rest(name).starts_with(prefix));
            let entry = if is_kept {
                let offset = strings.len() as u32;
                strings.extend_from_slice(self.text(name));
                strings.push(0);
                [offset, info, word(self.bytes, at + 8)?]
            } else {
                [0, KIND_FWD << 24, 0]
            };
            entry.iter().for_each(|word| types.extend_from_slice(&word.to_ne_bytes()));
        }
        let lens = [HEADER_BYTES, 0, types.len() as u32, types.len() as u32, strings.len() as u32];
        let mut out = self.bytes[..4].to_vec();
        lens.iter().for_each(|word| out.extend_from_slice(&word.to_ne_bytes()));
        out.extend_from_slice(&types);
        out.extend_from_slice(&strings);
        Ok(out)
    }

    /// A string, and all behind it.
    fn rest(&self, offset: u32) -> &'a [u8] {
        self.strings.get(offset as usize..).unwrap_or_default()
    }

    fn text(&self, offset: u32) -> &'a [u8] {
        let rest = self.rest(offset);
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
    use aya_obj::btf::BtfKind;

    use super::*;

    #[test]
    fn garbage_is_an_error_and_no_panic() {
        for len in 0..64 {
            for byte in [0, 0xff] {
                let bytes = vec![byte; len];
                let index = Index::of(&bytes);
                assert!(index.and_then(|index| index.layout()).is_err());
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    const SETNS: &str = "__x64_sys_setns";
    #[cfg(target_arch = "aarch64")]
    const SETNS: &str = "__arm64_sys_setns";

    #[test]
    fn what_programs_are_attached_to_has_the_same_id_in_the_outline() {
        let Ok(bytes) = std::fs::read(VMLINUX) else {
            assert!(std::env::var_os("CI").is_none(), "this kernel shows no types");
            return;
        };
        let whole = aya::Btf::parse(&bytes, aya::Endianness::default()).unwrap();
        let outline = Index::of(&bytes).unwrap().outline().unwrap();
        let outline = aya::Btf::parse(&outline, aya::Endianness::default()).unwrap();
        for (name, kind) in [
            ("security_file_open", BtfKind::Func),
            ("security_socket_connect", BtfKind::Func),
            ("bpf_lsm_file_open", BtfKind::Func),
            ("ksys_unshare", BtfKind::Func),
            (SETNS, BtfKind::Func),
            ("bpf_iter_task_file", BtfKind::Func),
            ("bpf_iter_task_vma", BtfKind::Func),
            ("btf_trace_sched_process_fork", BtfKind::Typedef),
            ("btf_trace_sock_send_length", BtfKind::Typedef),
        ] {
            let id = whole.id_by_type_name_kind(name, kind).ok();
            assert_eq!(outline.id_by_type_name_kind(name, kind).ok(), id, "{name}");
            assert!(id.is_some() || name.contains("lsm"), "{name}");
        }
        assert!(outline.id_by_type_name_kind("vfs_read", BtfKind::Func).is_err(), "nobody asks for it");
    }
}
