//! 7z archives: no framework opens them, people do; a 7z file under a torch name was how two malicious models got past
//! every scanner of the hub. Every member is looked at by content.
//!
//! Copy, LZMA, LZMA2, PPMd, Deflate, BZip2 and Zstandard are decoded, and what archivers do to programs and tables before
//! (BCJ, delta); BCJ2, which puts four streams together and is for programs alone, and encryption are not.
//! Reference: 7zFormat.txt of the LZMA SDK.

mod header;

use crate::context::{Context, Piece};
use crate::decoded::{Decoded, End};
use crate::finding::{Finding, Severity};
use crate::format::compressed::{self, codec::Codec, filter::Filter};
use crate::format::zip::escape;
use crate::format::{self, Seen};
use crate::report::Content;
use crate::slice::{Slice, read};
use crate::source::Source;
use header::{Coder, File, Folder, Header};

pub const MAGIC: &[u8; 6] = b"7z\xbc\xaf\x27\x1c";

const SIGNATURE_BYTES: u64 = 32;
/// A header, packed or not.
const HEADER_BYTES_MAX: u64 = 32 << 20;
/// Headers that are packed in each other.
const HEADERS_MAX: u32 = 4;

pub fn scan(piece: &Piece<'_>, context: &mut Context<'_>) -> Seen {
    let mut archive = Archive { piece, code: false };
    match archive.header(context) {
        Some((folders, files, end)) => {
            archive.members(&folders, &files, context);
            if end < piece.source.len() {
                format::tail(piece, end, context);
            }
        }
        None => {
            let finding = Finding::new("SNS-903", Severity::Low, "7z archive whose header is broken or not supported");
            context.report(finding.member(piece.member.as_deref()).at(0));
        }
    }
    Seen { format: "7z", content: if archive.code { Content::Code } else { Content::Unknown } }
}

struct Archive<'a, 'b> {
    piece: &'a Piece<'b>,
    code: bool,
}

/// How a folder is decoded.
enum Coding {
    Coded(Codec, Vec<Filter>),
    Encrypted,
    /// By whom it would have to be.
    Unsupported(String),
}

const AES: [u8; 4] = [0x06, 0xf1, 0x07, 0x01];
const BCJ2: [u8; 4] = [0x03, 0x03, 0x01, 0x1b];

fn coding(folder: &Folder) -> Coding {
    if folder.coders.iter().any(|coder| coder.id == AES) {
        return Coding::Encrypted;
    }
    let Some(chain) = folder.chain() else {
        let bcj2 = folder.coders.iter().any(|coder| coder.id == BCJ2);
        return Coding::Unsupported(if bcj2 { "BCJ2".to_owned() } else { "several streams".to_owned() });
    };
    let (mut codec, mut filters) = (None, Vec::new());
    for coder in chain {
        if let Some(filter) = Filter::of_sevenz(&coder.id, &coder.properties) {
            filters.push(filter);
        } else if let (Some(found), true) = (codec_of(coder, folder.size), codec.is_none() && filters.is_empty()) {
            codec = Some(found);
        } else {
            let id: String = coder.id.iter().map(|byte| format!("{byte:02x}")).collect();
            return Coding::Unsupported(id);
        }
    }
    Coding::Coded(codec.unwrap_or(Codec::Stored), filters)
}

fn codec_of(coder: &Coder, size: u64) -> Option<Codec> {
    Some(match (coder.id.as_slice(), coder.properties.as_slice()) {
        ([0x00], _) => Codec::Stored,
        ([0x03, 0x01, 0x01], [props, size_bytes @ ..]) => {
            let dictionary = u32::from_le_bytes(size_bytes.try_into().ok()?);
            Codec::RawLzma { props: *props, dictionary, bytes: size }
        }
        ([0x21], [exponent]) if *exponent <= 40 => {
            let dictionary = match *exponent {
                40 => u32::MAX,
                exponent => (2 | u32::from(exponent & 1)) << (exponent / 2 + 11),
            };
            Codec::RawLzma2 { dictionary }
        }
        ([0x03, 0x04, 0x01], [order, memory @ ..]) => {
            let memory = u32::from_le_bytes(memory.try_into().ok()?);
            Codec::RawPpmd { order: u32::from(*order), memory, bytes: size }
        }
        ([0x04, 0x01, 0x08], _) => Codec::Deflate,
        ([0x04, 0x02, 0x02], _) => Codec::Bzip2,
        ([0x04, 0xf7, 0x11, 0x01], _) => Codec::Zstd,
        _ => return None,
    })
}

impl<'b> Archive<'_, 'b> {
    /// Folders and files, and where the archive ends.
    fn header(&self, context: &mut Context<'_>) -> Option<(Vec<Folder>, Vec<File>, u64)> {
        let start = read(self.piece.source, 0, SIGNATURE_BYTES as usize);
        let number = |at: usize| Some(u64::from_le_bytes(start.get(at..at + 8)?.try_into().ok()?));
        let (at, size) = (number(12)?.checked_add(SIGNATURE_BYTES)?, number(20)?);
        let end = at.checked_add(size)?;
        if size > HEADER_BYTES_MAX {
            context.limit_reached("header_bytes", HEADER_BYTES_MAX, self.piece.member.as_deref(), Some(at));
            return None;
        }
        let mut bytes = read(self.piece.source, at, size as usize);
        for _ in 0..HEADERS_MAX {
            match header::parse(&bytes)? {
                Header::Plain { folders, files } => return Some((folders, files, end)),
                Header::Encoded(folders) => bytes = self.unpacked(folders.first()?, context)?,
            }
        }
        None
    }

    fn unpacked(&self, folder: &Folder, context: &mut Context<'_>) -> Option<Vec<u8>> {
        if folder.size > HEADER_BYTES_MAX {
            context.limit_reached("header_bytes", HEADER_BYTES_MAX, self.piece.member.as_deref(), None);
            return None;
        }
        let packed = self.packed(folder)?;
        match coding(folder) {
            Coding::Coded(codec, filters) => {
                let decoded = Decoded::filtered(codec, filters, &packed, b"", compressed::allowance(context));
                context.decoded_bytes_left = context.decoded_bytes_left.saturating_sub(decoded.len());
                Some(read(&decoded, 0, folder.size as usize))
            }
            Coding::Encrypted => {
                let finding = Finding::new("SNS-904", Severity::Low, "7z archive whose list of members is encrypted");
                context.report(finding.member(self.piece.member.as_deref()));
                None
            }
            Coding::Unsupported(_) => None,
        }
    }

    fn packed(&self, folder: &Folder) -> Option<Slice<'b>> {
        let at = folder.packed_at.checked_add(SIGNATURE_BYTES)?;
        Some(Slice::new(self.piece.source, at, folder.packed, b""))
    }

    fn members(&mut self, folders: &[Folder], files: &[File], context: &mut Context<'_>) {
        let mut with_data = files.iter().filter(|file| file.has_stream);
        for folder in folders {
            if context.expired() {
                return;
            }
            let members: Vec<Option<&File>> = folder.streams.iter().map(|_| with_data.next()).collect();
            let Some(packed) = self.packed(folder) else { continue };
            let first = members.iter().flatten().next().map_or(&b"?"[..], |file| &file.name);
            let name = format::member(self.piece.member.as_deref(), first);
            match coding(folder) {
                Coding::Coded(Codec::Stored, filters) if filters.is_empty() => {
                    self.folder(&packed, folder, &members, context);
                }
                Coding::Coded(codec, filters) => {
                    let allowance = compressed::allowance(context);
                    let mut decoded = Decoded::filtered(codec, filters, &packed, b"", allowance);
                    if matches!(decoded.end, End::Broken(_)) && decoded.len() >= folder.size {
                        decoded.end = End::Complete; // the coder has no end of its own
                    }
                    compressed::report_end(&decoded, &name, context);
                    self.folder(&decoded, folder, &members, context);
                }
                Coding::Encrypted => {
                    let finding = Finding::new("SNS-904", Severity::Low, "7z member is encrypted");
                    context.report(finding.member(Some(&name)));
                }
                Coding::Unsupported(coder) => {
                    let finding =
                        Finding::new("SNS-902", Severity::Low, "7z member with a coder that is not supported");
                    context.report(finding.member(Some(&name)).text("coder", coder));
                }
            }
        }
        for file in files.iter().filter(|file| !file.has_stream) {
            self.path(file, context);
        }
    }

    fn folder(&mut self, source: &dyn Source, folder: &Folder, members: &[Option<&File>], context: &mut Context<'_>) {
        let mut at = 0_u64;
        for (size, file) in folder.streams.iter().zip(members) {
            if context.members_left == 0 {
                let member = self.piece.member.as_deref();
                context.limit_reached("members_max", context.limits.members_max, member, None);
                return;
            }
            context.members_left -= 1;
            let raw = file.map_or(&b"?"[..], |file| &file.name);
            if let Some(file) = file {
                self.path(file, context);
            }
            let name = format::member(self.piece.member.as_deref(), raw);
            let slice = Slice::new(source, at, *size, format::file_name(raw));
            if slice.len() < *size {
                let finding =
                    Finding::new("SNS-903", Severity::Low, "archive ends within a member").member(Some(&name));
                context.report(finding.number("bytes_missing", *size - slice.len()));
            }
            let piece = Piece { source: &slice, start: 0, end: slice.len(), member: Some(name) };
            self.code |= format::member_content(&piece, context).is_some_and(|seen| seen.content == Content::Code);
            at = at.saturating_add(*size);
        }
    }

    fn path(&self, file: &File, context: &mut Context<'_>) {
        let name = format::member(self.piece.member.as_deref(), &file.name);
        let title = escape(&file.name).or(file.is_link().then_some("archive member is a symbolic link"));
        if let Some(title) = title {
            let finding = Finding::new("SNS-305", Severity::Medium, title).member(Some(&name));
            context.report(finding.text("name", &file.name).loaders(&["extraction"]));
        }
    }
}

#[cfg(test)]
mod tests;
