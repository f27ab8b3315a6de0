//! ZIP files, as every reader would see them: by the central directory, by the local headers, and between the two.
//!
//! What the archive means (a torch checkpoint, arrays, anything) is decided in [`flavour`]; what a member holds is
//! decided by its content. References: APPNOTE.TXT, CPython's `zipfile`, miniz as torch uses it.

mod check;
pub mod directory;
mod flavour;
mod header;
mod member;

pub use check::escape;
pub use flavour::quick;

use crate::context::{Context, Piece};
use crate::finding::{Finding, Severity};
use crate::format::{self, Seen};
use crate::report::Content;
use crate::slice::{Slice, is_zero};
use crate::source::Source;
use directory::Directory;
use flavour::Flavour;

pub const MAGIC: &[u8; 4] = &header::LOCAL;
pub const EMPTY_MAGIC: &[u8; 4] = &header::END;

/// Archives in one file of a distributed checkpoint.
const PARTS_MAX: usize = 100_000;
/// Bytes between members that are searched for hidden headers, over the whole file.
const GAP_BYTES_MAX: u64 = 256 << 20;

/// How an archive that does not start the file ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    None,
    /// A directory, and then something else.
    Near,
    /// A directory at the very end.
    Exact,
}

/// Whether a reader that seeks from the end would find an archive, looking at `search_bytes` and one entry.
pub fn ending(piece: &Piece<'_>, search_bytes: usize) -> Ending {
    let directory = directory::parse(piece.source, search_bytes.min(directory::END_SEARCH_BYTES), 1);
    match directory.end {
        Some(end) if !directory.entries.is_empty() => {
            let behind = end.at + header::END_BYTES as u64 + end.comment_bytes;
            if behind == piece.source.len() { Ending::Exact } else { Ending::Near }
        }
        _ => Ending::None,
    }
}

pub fn scan(piece: &Piece<'_>, context: &mut Context<'_>) -> Seen {
    if piece.source.name().to_ascii_lowercase().ends_with(b".distcp")
        && let Some(parts) = parts(piece.source)
    {
        return checkpoint(piece, &parts, context);
    }
    archive(piece, context)
}

/// Archives one behind the other, each with an end record of its own and none before or behind: how torch's distributed
/// checkpoints hold tensors. `None` where the file is anything else.
fn parts(source: &dyn Source) -> Option<Vec<(u64, u64)>> {
    let mut parts = Vec::new();
    let mut end = source.len();
    while end > 0 {
        let before = Slice::new(source, 0, end, b"");
        let directory = directory::parse(&before, header::END_BYTES, 1);
        let found = directory.end.filter(|found| !directory.entries.is_empty() && found.comment_bytes == 0)?;
        if found.at + header::END_BYTES as u64 != end || parts.len() >= PARTS_MAX {
            return None;
        }
        parts.push((directory.shift, end));
        end = directory.shift;
    }
    parts.reverse();
    (parts.len() > 1).then_some(parts)
}

/// Reads each part as the archive that its reader is given.
fn checkpoint(piece: &Piece<'_>, parts: &[(u64, u64)], context: &mut Context<'_>) -> Seen {
    let mut seen = Flavour::Plain.seen();
    for (index, (start, end)) in parts.iter().enumerate() {
        let name = format::member(piece.member.as_deref(), format!("part {index}").as_bytes());
        let slice = Slice::new(piece.source, *start, end - start, b"");
        let part = Piece { source: &slice, start: 0, end: slice.len(), member: Some(name) };
        seen = archive(&part, context);
    }
    seen
}

/// Where the names of an archive without a directory are looked for.
const LOCALS_BYTES: usize = 1 << 20;

fn archive(piece: &Piece<'_>, context: &mut Context<'_>) -> Seen {
    let directory = directory::parse(piece.source, directory::END_SEARCH_BYTES, context.members_left);
    let names = || directory.entries.iter().map(|entry| entry.header().name.as_slice());
    let flavour = if directory.entries.is_empty() {
        // Only local headers: they say as well what was packed.
        quick(piece, LOCALS_BYTES, 0)
    } else {
        flavour::of(names())
    };
    whole(piece, &directory, context);
    check::names(piece, &directory.entries, context);

    let mut content = flavour.seen().content;
    let mut raise = |seen: Option<Seen>| {
        if seen.is_some_and(|seen| seen.content == Content::Code) {
            content = Content::Code;
        }
    };
    for entry in &directory.entries {
        check::headers(piece, entry, flavour, context);
        raise(member::scan(piece, entry, entry.header(), entry.data_at, flavour, context));
        check::storages(piece, &directory.entries, entry, context);
        // A reader that believes the local header sees other bytes.
        if let (Some(central), Some(local)) = (&entry.central, &entry.local)
            && check::reads_differ(central, local)
        {
            raise(member::scan(piece, entry, local, entry.data_at, flavour, context));
        }
    }
    if !directory.cut {
        between(piece, &directory, flavour, context);
    }
    Seen { content, ..flavour.seen() }
}

/// The archive as a whole: no directory, entries missing, bytes before it.
fn whole(piece: &Piece<'_>, directory: &Directory, context: &mut Context<'_>) {
    let member = piece.member.as_deref();
    if directory.cut {
        context.limit_reached("members_max", context.limits.members_max, member, Some(directory.start));
    }
    match directory.end {
        None => {
            let title = "zip file without a central directory: truncated, or read by its local headers only";
            context.report(Finding::new("SNS-903", Severity::Low, title).member(member));
        }
        Some(end) if directory.missing > 0 && !directory.cut => {
            let finding = Finding::new("SNS-301", Severity::Medium, "zip directory lacks entries that its end counts");
            context.report(finding.member(member).at(end.at).number("missing", directory.missing));
        }
        Some(_) => {}
    }
    if let Some(end) = directory.end.filter(|end| end.disagrees) {
        let title = "zip end records disagree: readers find different directories";
        context.report(Finding::new("SNS-301", Severity::Medium, title).member(member).at(end.at));
    }
    let in_member = |at: &u64| directory.entries.iter().any(|entry| (entry.data_at..entry.data_end()).contains(at));
    if let Some(other) = directory.other_ends.iter().find(|at| !in_member(at)) {
        let title = "zip file with several directories: readers find different ones";
        context.report(Finding::new("SNS-301", Severity::Medium, title).member(member).at(*other));
    }
    if directory.shift > 0 {
        let title =
            "zip file with bytes put before it: zipfile reads it, readers of the first bytes see something else";
        let finding = Finding::new("SNS-307", Severity::Medium, title);
        context.report(finding.member(member).at(0).number("bytes", directory.shift));
    }
}

/// What no entry covers: hidden members, prefixes, suffixes, and anything else that is not zero.
fn between(piece: &Piece<'_>, directory: &Directory, flavour: Flavour, context: &mut Context<'_>) {
    let len = piece.source.len();
    let mut ranges: Vec<(u64, u64)> = directory.entries.iter().map(|entry| member::extent(piece, entry)).collect();
    let (_, overlap) = directory::gaps(ranges.clone(), len);
    if overlap {
        let finding = Finding::new("SNS-306", Severity::Medium, "zip members overlap");
        context.report(finding.member(piece.member.as_deref()));
    }
    if let Some(end) = directory.end {
        ranges.push((directory.start.min(end.at), end.at + header::END_BYTES as u64));
    }
    let (gaps, _) = directory::gaps(ranges, len);
    let mut left = GAP_BYTES_MAX;
    for (start, end) in gaps {
        if context.expired() {
            return;
        }
        if end - start > left {
            context.limit_reached("gap_bytes", GAP_BYTES_MAX, piece.member.as_deref(), Some(start));
        }
        let end = end.min(start + left);
        left -= end - start;
        if !is_zero(piece.source, start, end) {
            gap(piece, start, end, directory, flavour, context);
        }
    }
}

fn gap(piece: &Piece<'_>, start: u64, end: u64, directory: &Directory, flavour: Flavour, context: &mut Context<'_>) {
    let member = piece.member.as_deref();
    let room = usize::try_from(context.members_left).unwrap_or(usize::MAX).min(10_000);
    let (hidden, _) = directory::hidden(piece.source, start, end, room);
    let mut behind = start;
    for entry in &hidden {
        if entry.header_at < behind {
            continue; // inside the data of the one before
        }
        if directory.end.is_some() {
            let finding =
                Finding::new("SNS-306", Severity::Medium, "zip member that the central directory does not name");
            context.report(finding.member(member).at(entry.header_at).text("name", &entry.header().name));
        }
        behind = member::scan_hidden(piece, entry, end, flavour, context);
    }
    if !hidden.is_empty() {
        return;
    }
    let comment = directory.end.is_some_and(|found| start == found.at + header::END_BYTES as u64);
    let inside_comment = comment && directory.end.is_some_and(|found| end <= start + found.comment_bytes);
    let accepted = start > 0 && format::gap(piece, start, end, context);
    if inside_comment && !accepted {
        return; // An archive comment is an ordinary thing.
    }
    // What lies before the archive was reported with the directory; who reads the first bytes reads the whole file.
    if start > 0 || directory.shift == 0 {
        let finding = Finding::new("SNS-307", Severity::Medium, "bytes of a zip file that no member covers");
        context.report(finding.member(member).at(start).number("bytes", end - start));
    }
}

/// Names as torch's miniz and Windows compare them: case folded, one kind of separator, cut at NUL.
fn folded(name: &[u8]) -> Vec<u8> {
    name.iter()
        .take_while(|byte| **byte != 0)
        .map(|byte| if *byte == b'\\' { b'/' } else { byte.to_ascii_lowercase() })
        .collect()
}

#[cfg(test)]
mod tests;
