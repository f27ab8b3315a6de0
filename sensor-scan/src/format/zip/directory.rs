//! Where the members of a ZIP file are: by its central directory, by its local headers, and between them.

use super::header::{self, End, Header};
use crate::slice::{for_each_piece, read};
use crate::source::Source;

/// A comment is at most 65,535 bytes, so the end record starts in the last 65,557.
pub const END_SEARCH_BYTES: usize = 65_535 + header::END_BYTES;
/// A comment may hold things that look like end records.
const CANDIDATES_MAX: u32 = 16;
/// Most local headers fit, with their names and extra fields, in one read of this size.
const LOCAL_READ_BYTES: usize = 512;
/// Longest header: name, extra field and comment of 65,535 bytes each.
const HEADER_BYTES_MAX: usize = header::CENTRAL_BYTES + 3 * 65_535;

/// A member as its two headers describe it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// `None`: only a local header was found.
    pub central: Option<Header>,
    /// `None`: nothing like a local header is where the central one points.
    pub local: Option<Header>,
    /// Offset of the local header, and of the data behind it.
    pub header_at: u64,
    pub data_at: u64,
}

impl Entry {
    /// The header that miniz (torch) and `zipfile` believe: the central one.
    pub fn header(&self) -> &Header {
        match (&self.central, &self.local) {
            (Some(header), _) | (None, Some(header)) => header,
            (None, None) => unreachable!("an entry has at least one header"),
        }
    }

    /// First byte behind the data, by the central header.
    pub fn data_end(&self) -> u64 {
        self.data_at.saturating_add(self.header().packed)
    }
}

/// The members of the central directory.
#[derive(Debug, Default)]
pub struct Directory {
    pub end: Option<End>,
    /// Offset of the first central header.
    pub start: u64,
    /// How far the offsets are off: bytes put before the archive.
    pub shift: u64,
    pub entries: Vec<Entry>,
    /// Entries that could not be parsed, or that the end record counts and the directory lacks.
    pub missing: u64,
    /// The limit of members was hit.
    pub cut: bool,
    /// Other end records that have a directory: archives in members, or what another reader takes.
    pub other_ends: Vec<u64>,
}

/// Finds the last end record of which the directory parses; falls back to no directory at all.
///
/// At most [`END_SEARCH_BYTES`] and [`CANDIDATES_MAX`] end records are looked at.
pub fn parse(source: &dyn Source, search_bytes: usize, members_max: u64) -> Directory {
    let tail_at = source.len().saturating_sub(search_bytes as u64);
    let tail = read(source, tail_at, search_bytes);
    let mut best = Directory::default();
    let mut candidates = 0;
    for at in (0..tail.len().saturating_sub(header::END_BYTES - 1)).rev() {
        if tail[at] != b'P' {
            continue;
        }
        let Some(end) = header::end(&tail[at..], tail_at + at as u64) else { continue };
        candidates += 1;
        if candidates > CANDIDATES_MAX {
            break;
        }
        // A record within the comment of another one is another reader's: the rest of its directory is told.
        if best.end.is_some_and(|end| !best.entries.is_empty() && end.at != tail_at + at as u64) {
            let other = walk(source, with_zip64(source, end), 1);
            if !other.entries.is_empty() && other.start != best.start {
                best.other_ends.push(tail_at + at as u64);
            }
            continue;
        }
        let directory = walk(source, with_zip64(source, end), members_max);
        let good = !directory.entries.is_empty() || directory.missing == 0;
        if good || best.end.is_none() {
            best = directory;
        }
        if good && best.entries.is_empty() {
            break;
        }
    }
    best
}

fn with_zip64(source: &dyn Source, end: End) -> End {
    let locator_at = match end.at.checked_sub(header::LOCATOR64_BYTES as u64) {
        Some(at) => at,
        None => return end,
    };
    let Some(offset) = header::locator64(&read(source, locator_at, header::LOCATOR64_BYTES)) else { return end };
    // As written, or right before the locator: what is left when bytes were put before the archive.
    let behind = locator_at.saturating_sub(header::END64_BYTES as u64);
    [offset, behind]
        .into_iter()
        .find_map(|at| header::end64(&read(source, at, header::END64_BYTES), at, end))
        .unwrap_or(end)
}

fn walk(source: &dyn Source, end: End, members_max: u64) -> Directory {
    // CPython's zipfile: the directory ends where the end record begins; its offset tells what was put before.
    let by_size = end.directory_end.checked_sub(end.directory_bytes);
    let by_offset = Some(end.directory_at).filter(|at| *at < end.directory_end);
    let starts_here = |at: &u64| {
        let bytes = read(source, *at, 4);
        bytes == header::CENTRAL || (end.entries == 0 && *at == end.directory_end)
    };
    let start = by_size.filter(starts_here).or(by_offset.filter(starts_here));
    let mut directory = Directory { end: Some(end), missing: end.entries, ..Directory::default() };
    let Some(start) = start else { return directory };
    directory.start = start;
    directory.shift = start.saturating_sub(end.directory_at);

    // The other way round: what stood before the archive is no part of what is read here.
    let cut = end.directory_at.saturating_sub(start);

    let mut at = start;
    let mut window = (start, Vec::new());
    while at < end.directory_end {
        if directory.entries.len() as u64 >= members_max {
            directory.cut = true;
            break;
        }
        let Some(central) = header_at(source, at, end.directory_end, &mut window) else { break };
        at += central.bytes;
        directory.entries.push(entry(source, central, directory.shift, cut));
    }
    directory.missing = end.entries.saturating_sub(directory.entries.len() as u64);
    directory
}

/// Parses the central header at `at`, reading the directory in large pieces.
fn header_at(source: &dyn Source, at: u64, end: u64, window: &mut (u64, Vec<u8>)) -> Option<Header> {
    let inside = usize::try_from(at - window.0).ok().and_then(|from| window.1.get(from..)).unwrap_or_default();
    if let Some(header) = header::central(inside).filter(|header| header.bytes <= inside.len() as u64) {
        return Some(header);
    }
    let len = (end - at).min(HEADER_BYTES_MAX as u64) as usize;
    *window = (at, read(source, at, len));
    header::central(&window.1)
}

fn entry(source: &dyn Source, central: Header, shift: u64, cut: u64) -> Entry {
    let shifted = central.local_at.saturating_add(shift);
    let mut found = None;
    for at in [Some(shifted), Some(central.local_at), central.local_at.checked_sub(cut)].into_iter().flatten() {
        if let Some(local) = local_at(source, at) {
            found = Some((at, local));
            break;
        }
    }
    match found {
        Some((at, local)) => {
            Entry { header_at: at, data_at: at + local.bytes, central: Some(central), local: Some(local) }
        }
        None => {
            let data_at = shifted.saturating_add((header::LOCAL_BYTES + central.name.len()) as u64);
            Entry { header_at: shifted, data_at, central: Some(central), local: None }
        }
    }
}

/// Parses the local header at `at`.
pub fn local_at(source: &dyn Source, at: u64) -> Option<Header> {
    let bytes = read(source, at, LOCAL_READ_BYTES);
    header::local(&bytes).or_else(|| {
        (bytes.get(..4)? == header::LOCAL && bytes.len() == LOCAL_READ_BYTES)
            .then(|| header::local(&read(source, at, HEADER_BYTES_MAX)))?
    })
}

/// Looks for local headers that the central directory doesn't name, in `start .. end`.
/// Returns them and the offset up to which was looked.
pub fn hidden(source: &dyn Source, start: u64, end: u64, members_max: usize) -> (Vec<Entry>, u64) {
    let mut found: Vec<u64> = Vec::new();
    let mut carry: Vec<u8> = Vec::new();
    let looked = for_each_piece(source, start, end, |at, piece| {
        // A signature may straddle two pieces.
        let base = at - carry.len() as u64;
        carry.extend_from_slice(piece);
        let hits = carry.windows(4).enumerate().filter(|(_, window)| *window == header::LOCAL);
        found.extend(hits.map(|(index, _)| base + index as u64).take(members_max));
        carry.drain(..carry.len().saturating_sub(3));
        found.len() < members_max
    });
    let entries = found.into_iter().filter_map(|at| {
        let local = local_at(source, at)?;
        Some(Entry { header_at: at, data_at: at + local.bytes, central: None, local: Some(local) })
    });
    (entries.collect(), looked)
}

/// The parts of `0 .. len` that nothing of `ranges` covers, and whether two of them overlap.
pub fn gaps(mut ranges: Vec<(u64, u64)>, len: u64) -> (Vec<(u64, u64)>, bool) {
    ranges.sort_unstable();
    let (mut gaps, mut overlap, mut at) = (Vec::new(), false, 0);
    for (start, end) in ranges {
        let (start, end) = (start.min(len), end.min(len));
        if start > at {
            gaps.push((at, start));
        }
        overlap |= start < at && start < end;
        at = at.max(end);
    }
    if at < len {
        gaps.push((at, len));
    }
    (gaps, overlap)
}
