//! One member: its bytes decoded as a reader would, and handed to whoever understands them.

use super::directory::Entry;
use super::flavour::{Flavour, Role};
use super::header::{self, FLAG_DESCRIPTOR, FLAG_ENCRYPTED, Header, METHOD_DEFLATED, METHOD_STORED};
use crate::context::{Context, Piece};
use crate::decoded::{Decoded, End};
use crate::finding::{Finding, Severity};
use crate::format::compressed::{self, codec::Codec};
use crate::format::{self, Seen, executable, pt2, repository, stream};
use crate::report::Content;
use crate::slice::{Slice, for_each_piece, read};
use crate::source::Source;

/// A stored member's checksum is computed where it is read anyway, or is this small.
const CHECKSUM_BYTES_MAX: u64 = 1 << 20;

/// Scans the data at `data_at` as `header` describes it.
pub fn scan(
    piece: &Piece<'_>,
    entry: &Entry,
    header: &Header,
    data_at: u64,
    flavour: Flavour,
    context: &mut Context<'_>,
) -> Option<Seen> {
    let name = format::member(piece.member.as_deref(), &header.name);
    if context.members_left == 0 {
        context.limit_reached("members_max", context.limits.members_max, Some(&name), None);
        return None;
    }
    context.members_left -= 1;
    if context.expired() || header.packed == 0 {
        return None;
    }
    let packed = Slice::new(piece.source, data_at, header.packed, format::file_name(&header.name));
    if packed.len() < header.packed {
        let finding = Finding::new("SNS-903", Severity::Low, "zip member ends behind the file").member(Some(&name));
        context.report(finding.number("bytes_missing", header.packed - packed.len()));
    }
    let role = flavour.role(&header.name);
    let encrypted = header.flags & FLAG_ENCRYPTED != 0;
    let Some(codec) = codec(header.method) else {
        if header.method == METHOD_STORED {
            let wanted = entry.header().crc;
            let small = packed.len() <= CHECKSUM_BYTES_MAX || role == Role::TorchPickle;
            let right = !small || checksum(&packed) == wanted;
            if encrypted && !right {
                report_encrypted(&name, context);
                // Readers that ignore the mark, and the sum, take the data as it is.
                return content(&packed, &name, (role, flavour), context);
            }
            verdict_on_container(&name, flavour, encrypted, right, context);
            return content(&packed, &name, (role, flavour), context);
        }
        let finding = Finding::new("SNS-311", Severity::Medium, "zip member with a method that no reader here knows");
        context.report(finding.member(Some(&name)).number("method", header.method.into()));
        context.incomplete();
        // A reader that takes the data as it is.
        return content(&packed, &name, (role, flavour), context);
    };
    let decoded = Decoded::new(codec, &packed, format::file_name(&header.name), compressed::allowance(context));
    let broken = matches!(decoded.end, End::Broken(_));
    if encrypted && (broken || decoded.crc != entry.header().crc) {
        report_encrypted(&name, context);
        return if broken { None } else { content(&decoded, &name, (role, flavour), context) };
    }
    compressed::report_end(&decoded, &name, context);
    if role == Role::TorchPickle && matches!(decoded.end, End::Ratio(_)) {
        // Weights may be zeros, the description of them never is.
        let finding =
            Finding::new("SNS-309", Severity::High, "a pickle that decodes to a suspicious multiple of its size");
        context.report(finding.member(Some(&name)).number("decoded_bytes", decoded.len()).loaders(&["torch.load"]));
    }
    let right = decoded.end != End::Complete || decoded.crc == entry.header().crc;
    verdict_on_container(&name, flavour, encrypted, right, context);
    if decoded.is_empty() && broken {
        // A reader of the other header may take the data as it is.
        return content(&packed, &name, (role, flavour), context);
    }
    content(&decoded, &name, (role, flavour), context)
}

fn codec(method: u16) -> Option<Codec> {
    Some(match method {
        METHOD_DEFLATED => Codec::Deflate,
        12 => Codec::Bzip2,
        14 => Codec::ZipLzma,
        93 => Codec::Zstd,
        95 => Codec::Xz,
        _ => return None,
    })
}

fn report_encrypted(name: &[u8], context: &mut Context<'_>) {
    context.report(Finding::new("SNS-904", Severity::Low, "zip member is encrypted").member(Some(name)));
}

/// The data is readable: what its headers claim against that is a difference between readers.
fn verdict_on_container(name: &[u8], flavour: Flavour, encrypted: bool, right: bool, context: &mut Context<'_>) {
    if encrypted {
        let title = "zip member is marked as encrypted and is not: zipfile refuses it, old torch reads it";
        context.report(Finding::new("SNS-303", Severity::Medium, title).member(Some(name)));
    }
    if !right {
        // torch neither checks sums nor, on request, computes them.
        let severity = if flavour == Flavour::Torch { Severity::Low } else { Severity::Medium };
        let title = "zip member whose checksum is wrong: zipfile refuses it, torch reads it";
        context.report(Finding::new("SNS-304", severity, title).member(Some(name)));
    }
}

fn checksum(source: &dyn Source) -> u32 {
    let mut crc = flate2::Crc::new();
    for_each_piece(source, 0, source.len(), |_, bytes| {
        crc.update(bytes);
        true
    });
    crc.sum()
}

fn content(
    source: &dyn Source,
    name: &[u8],
    (role, flavour): (Role, Flavour),
    context: &mut Context<'_>,
) -> Option<Seen> {
    let piece = Piece { source, start: 0, end: source.len(), member: Some(name.to_vec()) };
    match role {
        Role::TorchPickle => {
            context.deeper(Some(name), |context| stream::torch(&piece, context));
            Some(Seen { format: "pickle", content: Content::Code })
        }
        Role::TorchStorage => format::storage(&piece, context),
        Role::Exported(pt2::Part::Program) => {
            pt2::program(&piece, context);
            None
        }
        // Some weights are torch files of their own.
        Role::Exported(pt2::Part::Weights) if !read(source, 0, 4).starts_with(super::MAGIC) => {
            format::storage(&piece, context)
        }
        Role::Any if flavour == Flavour::Exported => exported(&piece, context),
        Role::Exported(pt2::Part::Weights) => format::member_content(&piece, context),
        Role::TorchCode => {
            code(&piece, context);
            None
        }
        Role::Any => format::member_content(&piece, context),
    }
}

/// A member of an exported program: libraries are what some of them are for, and said to be.
fn exported(piece: &Piece<'_>, context: &mut Context<'_>) -> Option<Seen> {
    let Some(kind) = executable::kind(&read(piece.source, 0, 4 << 10)) else {
        return format::member_content(piece, context);
    };
    pt2::library(piece, kind, context);
    let (seen, findings) = context.isolated(|context| format::member_content(piece, context));
    findings.into_iter().filter(|finding| finding.id != "SNS-310").for_each(|finding| context.report(finding));
    seen
}

/// TorchScript's own dialect stands in `code/`; anything else is a package, of which the importer executes the source.
fn code(piece: &Piece<'_>, context: &mut Context<'_>) {
    const SOURCE_BYTES_MAX: usize = 4 << 20;
    let member = piece.member.as_deref();
    let script = member.is_some_and(|name| name.windows(6).any(|window| window == b"/code/"));
    if !script {
        let title = "torch package with Python source, which its importer executes";
        let finding = Finding::new("SNS-403", Severity::Medium, title).member(member);
        context.report(finding.loaders(&["torch.package.PackageImporter"]));
        repository::source(piece, context);
        return;
    }
    let text = read(piece.source, 0, SOURCE_BYTES_MAX);
    if piece.source.len() > text.len() as u64 {
        context.limit_reached("source_bytes", SOURCE_BYTES_MAX as u64, member, None);
    }
    // The serializer never writes an import statement; Python source that does was put there by hand.
    let foreign = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_start).find(|line| {
        line.starts_with(b"import ") && !line.starts_with(b"import __torch__")
            || line.starts_with(b"from ") && line.windows(8).any(|window| window == b" import ")
    });
    if let Some(line) = foreign {
        let title = "TorchScript source with an import that torch never writes";
        context.report(Finding::new("SNS-402", Severity::Medium, title).member(member).text("line", line));
    }
    for line in text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii) {
        let line_text = String::from_utf8_lossy(&line[..line.len().min(1 << 10)]);
        if let Some((_, severity, what)) = SCRIPT_EFFECTS.iter().find(|(call, ..)| line_text.contains(call)) {
            let finding = Finding::new("SNS-402", *severity, format!("TorchScript source that {what}"));
            context.report(
                finding.member(member).text("line", line).loaders(&["torch.jit.load, when the method is called"]),
            );
        }
    }
}

/// Operators of TorchScript that reach files.
const SCRIPT_EFFECTS: &[(&str, Severity, &str)] = &[
    ("torch.save(", Severity::High, "writes a file"),
    ("aten.save(", Severity::High, "writes a file"),
    ("image.write_file(", Severity::High, "writes a file"),
    ("write_png(", Severity::High, "writes a file"),
    ("write_jpeg(", Severity::High, "writes a file"),
    ("torch.from_file(", Severity::High, "maps a file"),
    ("aten.from_file(", Severity::High, "maps a file"),
    ("image.read_file(", Severity::Medium, "reads a file"),
];

/// Header, data and data descriptor of an entry as a range of the file.
pub fn extent(piece: &Piece<'_>, entry: &Entry) -> (u64, u64) {
    let end = entry.data_end();
    (entry.header_at, end.saturating_add(descriptor_bytes(piece, entry, end)))
}

/// Length of the data descriptor at `at`: with or without a signature, sizes of 4 or 8 bytes (APPNOTE 4.3.9).
fn descriptor_bytes(piece: &Piece<'_>, entry: &Entry, at: u64) -> u64 {
    let flags = |header: &Option<Header>| header.as_ref().map_or(0, |header| header.flags);
    if (flags(&entry.central) | flags(&entry.local)) & FLAG_DESCRIPTOR == 0 {
        return 0;
    }
    let bytes = read(piece.source, at, 24);
    let signature = if bytes.starts_with(&header::DESCRIPTOR) { 4 } else { 0 };
    let said = entry.header();
    if header::u32_at(&bytes, signature) != Some(said.crc) {
        return 0;
    }
    let narrow = header::u32_at(&bytes, signature + 4).map(u64::from) == Some(said.packed)
        && header::u32_at(&bytes, signature + 8).map(u64::from) == Some(said.size);
    signature as u64 + if narrow { 12 } else { 20 }
}

/// Scans a member that only its local header names, in a gap that ends at `end`; returns the offset behind it.
pub fn scan_hidden(piece: &Piece<'_>, entry: &Entry, end: u64, flavour: Flavour, context: &mut Context<'_>) -> u64 {
    let mut header = entry.header().clone();
    if header.flags & FLAG_DESCRIPTOR != 0 && header.packed == 0 {
        header.packed = end.saturating_sub(entry.data_at);
    }
    scan(piece, entry, &header, entry.data_at, flavour, context);
    entry.data_at.saturating_add(header.packed)
}
