//! The records of a ZIP file (APPNOTE.TXT 6.3.10), each parsed from bytes that may lie.

/// Local file header, central directory header, end of central directory and its two ZIP64 companions.
pub const LOCAL: [u8; 4] = *b"PK\x03\x04";
pub const CENTRAL: [u8; 4] = *b"PK\x01\x02";
pub const END: [u8; 4] = *b"PK\x05\x06";
pub const END64: [u8; 4] = *b"PK\x06\x06";
pub const LOCATOR64: [u8; 4] = *b"PK\x06\x07";
pub const DESCRIPTOR: [u8; 4] = *b"PK\x07\x08";

pub const LOCAL_BYTES: usize = 30;
pub const CENTRAL_BYTES: usize = 46;
pub const END_BYTES: usize = 22;
pub const END64_BYTES: usize = 56;
pub const LOCATOR64_BYTES: usize = 20;

/// General purpose bits: encrypted, patched data, strong encryption; sizes follow the data.
pub const FLAG_ENCRYPTED: u16 = 0x1;
pub const FLAG_DESCRIPTOR: u16 = 0x8;
pub const FLAG_PATCHED: u16 = 0x20;
pub const FLAG_STRONG: u16 = 0x40;
/// The name is UTF-8.
pub const FLAG_UTF8: u16 = 0x800;

pub const METHOD_STORED: u16 = 0;
pub const METHOD_DEFLATED: u16 = 8;

const EXTRA_ZIP64: u16 = 1;
const EXTRA_UNICODE_PATH: u16 = 0x7075;

/// What a local and a central header both say about a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// As written: not necessarily UTF-8, nor free of NUL, `\` or `..`.
    pub name: Vec<u8>,
    pub flags: u16,
    pub method: u16,
    pub crc: u32,
    /// Encoded and decoded bytes.
    pub packed: u64,
    pub size: u64,
    /// Central header only: offset of the local header, upper half of the external attributes (Unix mode).
    pub local_at: u64,
    pub mode: u16,
    /// Bytes that the header takes, names and extra fields included.
    pub bytes: u64,
    /// The name of the Unicode path extra field, which Info-ZIP and 7-Zip prefer and others don't know (APPNOTE 4.6.9).
    pub other_name: Option<Vec<u8>>,
}

impl Header {
    /// S_IFLNK in the Unix mode.
    pub fn is_link(&self) -> bool {
        self.mode & 0o170_000 == 0o120_000
    }
}

pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

pub fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// Parses a local header that starts at `bytes[0]`; `None` where it isn't one or is cut.
pub fn local(bytes: &[u8]) -> Option<Header> {
    if bytes.get(..4)? != LOCAL {
        return None;
    }
    let (name_len, extra_len) = (usize::from(u16_at(bytes, 26)?), usize::from(u16_at(bytes, 28)?));
    let end = LOCAL_BYTES + name_len + extra_len;
    let mut header = Header {
        name: bytes.get(LOCAL_BYTES..LOCAL_BYTES + name_len)?.to_vec(),
        flags: u16_at(bytes, 6)?,
        method: u16_at(bytes, 8)?,
        crc: u32_at(bytes, 14)?,
        packed: u32_at(bytes, 18)?.into(),
        size: u32_at(bytes, 22)?.into(),
        local_at: 0,
        mode: 0,
        bytes: end as u64,
        other_name: None,
    };
    widen(&mut header, bytes.get(LOCAL_BYTES + name_len..end)?);
    Some(header)
}

/// Parses a central header that starts at `bytes[0]`; `None` where it isn't one or is cut.
pub fn central(bytes: &[u8]) -> Option<Header> {
    if bytes.get(..4)? != CENTRAL {
        return None;
    }
    let (name_len, extra_len) = (usize::from(u16_at(bytes, 28)?), usize::from(u16_at(bytes, 30)?));
    let comment_len = usize::from(u16_at(bytes, 32)?);
    let name_end = CENTRAL_BYTES + name_len;
    let mut header = Header {
        name: bytes.get(CENTRAL_BYTES..name_end)?.to_vec(),
        flags: u16_at(bytes, 8)?,
        method: u16_at(bytes, 10)?,
        crc: u32_at(bytes, 16)?,
        packed: u32_at(bytes, 20)?.into(),
        size: u32_at(bytes, 24)?.into(),
        local_at: u32_at(bytes, 42)?.into(),
        mode: (u32_at(bytes, 38)? >> 16) as u16,
        bytes: (name_end + extra_len + comment_len) as u64,
        other_name: None,
    };
    widen(&mut header, bytes.get(name_end..name_end + extra_len)?);
    Some(header)
}

/// Replaces fields that say `0xFFFF_FFFF` by those of the ZIP64 extra field, in the order of APPNOTE 4.5.3.
fn widen(header: &mut Header, mut extra: &[u8]) {
    const SATURATED: u64 = 0xFFFF_FFFF;
    let mut widened = false;
    while let (Some(id), Some(len)) = (u16_at(extra, 0), u16_at(extra, 2)) {
        let Some(body) = extra.get(4..4 + usize::from(len)) else { return };
        if id == EXTRA_UNICODE_PATH {
            // Version and checksum of the other name, then the name.
            header.other_name = body.get(5..).map(<[u8]>::to_vec);
        }
        if id == EXTRA_ZIP64 && !widened {
            widened = true;
            let mut at = 0;
            for field in [&mut header.size, &mut header.packed, &mut header.local_at] {
                if *field == SATURATED
                    && let Some(value) = u64_at(body, at)
                {
                    *field = value;
                    at += 8;
                }
            }
        }
        extra = &extra[4 + usize::from(len)..];
    }
}

/// The end of central directory record, ZIP64 already folded in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Where the record lies, and where the directory has to end for a reader that trusts its size.
    pub at: u64,
    pub directory_end: u64,
    /// As written.
    pub directory_at: u64,
    pub directory_bytes: u64,
    pub entries: u64,
    pub comment_bytes: u64,
    /// The ZIP64 record says something else than the plain one, where that isn't saturated: readers differ.
    pub disagrees: bool,
}

/// Parses the end record at `bytes[0]`, which lies at `at` of the file.
pub fn end(bytes: &[u8], at: u64) -> Option<End> {
    if bytes.get(..4)? != END {
        return None;
    }
    Some(End {
        at,
        directory_end: at,
        directory_at: u32_at(bytes, 16)?.into(),
        directory_bytes: u32_at(bytes, 12)?.into(),
        entries: u16_at(bytes, 10)?.into(),
        comment_bytes: u16_at(bytes, 20)?.into(),
        disagrees: false,
    })
}

/// Offset of the ZIP64 end record, from the locator at `bytes[0]`.
pub fn locator64(bytes: &[u8]) -> Option<u64> {
    if bytes.get(..4)? != LOCATOR64 {
        return None;
    }
    u64_at(bytes, 8)
}

/// Takes the sizes of the ZIP64 end record at `bytes[0]`, which lies at `at` of the file.
pub fn end64(bytes: &[u8], at: u64, end: End) -> Option<End> {
    if bytes.get(..4)? != END64 {
        return None;
    }
    let (entries, directory_bytes, directory_at) = (u64_at(bytes, 32)?, u64_at(bytes, 40)?, u64_at(bytes, 48)?);
    let differs = |plain: u64, wide: u64, saturated: u64| plain != saturated && plain != wide;
    let disagrees = differs(end.entries, entries, 0xFFFF)
        || differs(end.directory_bytes, directory_bytes, 0xFFFF_FFFF)
        || differs(end.directory_at, directory_at, 0xFFFF_FFFF);
    Some(End { directory_end: at, entries, directory_bytes, directory_at, disagrees, ..end })
}
