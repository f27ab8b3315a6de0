//! One folder per format: readers that turn bytes into findings. Here: who gets to read, and what is said of the rest.

pub mod booster;
pub mod compressed;
pub mod executable;
pub mod flatbuffer;
pub mod foreign;
pub mod gguf;
pub mod hdf5;
pub mod jinja;
pub mod json;
pub mod json_model;
pub mod keras;
pub mod marshal;
pub mod msgpack;
pub mod npy;
pub mod onnx;
pub mod pickle;
pub mod protobuf;
pub mod pt2;
pub mod rds;
pub mod repository;
pub mod safetensors;
pub mod sevenz;
pub mod skops;
pub mod stream;
pub mod tar;
pub mod tensorflow;
pub mod text;
pub mod tflite;
pub mod torch_legacy;
pub mod xml;
pub mod zip;

use crate::context::{Context, Piece};
use crate::finding::{Finding, Severity};
use crate::name;
use crate::report::Content;
use crate::slice::{Slice, zeros_end};
use crate::sniff::{self, Otherwise, Reader};
use crate::source::Source;

/// What a reader made of its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// As in [`crate::Report::format`].
    pub format: &'static str,
    pub content: Content,
}

impl Seen {
    /// Nothing that any reader accepts.
    pub const OTHER: Self = Self { format: "other", content: Content::NotModel };
}

/// Bytes behind the end of a format that are looked at.
const TAIL_BYTES_MAX: u64 = 256 << 20;
/// Suffixes of source that somebody may execute after unpacking.
const SCRIPTS: [&[u8]; 8] = [b".py", b".sh", b".bat", b".ps1", b".js", b".pyc", b".rb", b".pl"];

/// Reads a piece by everybody who accepts it: the door for bytes found within other formats.
pub fn door(piece: &Piece<'_>, context: &mut Context<'_>) -> bool {
    whole(piece, |piece| read(piece, &sniff::readers(piece, zip::directory::END_SEARCH_BYTES), context)).is_some()
}

/// Reads a piece, and says something of it also where nobody accepts it.
pub fn content(piece: &Piece<'_>, context: &mut Context<'_>) -> Seen {
    whole(piece, |piece| {
        let readers = sniff::readers(piece, zip::directory::END_SEARCH_BYTES);
        // A name that loaders and people look for counts beside whatever else the bytes are.
        let named = repository::scan(piece, context);
        if !readers.is_empty() {
            executable::beside(piece, context);
        }
        read(piece, &readers, context).or(named).unwrap_or_else(|| rest(piece, false, context))
    })
}

/// A member of an archive: like [`content`], one level deeper if there is anything to read.
pub fn member_content(piece: &Piece<'_>, context: &mut Context<'_>) -> Option<Seen> {
    whole(piece, |piece| {
        let readers = sniff::readers(piece, zip::directory::END_SEARCH_BYTES);
        let seen = if readers.is_empty() {
            None
        } else {
            context.deeper(piece.member.as_deref(), |context| read(piece, &readers, context))?
        };
        let named = repository::scan(piece, context);
        if !readers.is_empty() {
            executable::beside(piece, context);
        }
        Some(seen.or(named).unwrap_or_else(|| rest(piece, true, context)))
    })
}

/// Raw tensor data, which no loader interprets: only what could be nothing but an attack is reported.
pub fn storage(piece: &Piece<'_>, context: &mut Context<'_>) -> Option<Seen> {
    whole(piece, |piece| {
        if let Otherwise::Executable(kind @ ("elf" | "pe" | "mach-o")) = sniff::otherwise(piece.source) {
            let finding = Finding::new("SNS-310", Severity::Medium, "an executable stands where tensor data belongs");
            context.report(finding.member(piece.member.as_deref()).text("kind", kind));
        }
        if !stream::looks_like_strictly(piece) {
            return None;
        }
        // Numbers may look like opcodes by accident, but not like a call.
        let (seen, findings) = context.isolated(|context| stream::scan(piece, context));
        let grave =
            findings.iter().any(|finding| finding.severity >= Severity::Medium && finding.id.starts_with("SNS-1"));
        if grave {
            findings.into_iter().for_each(|finding| context.report(finding));
        }
        seen.filter(|_| grave)
    })
}

/// Bytes behind the end of a format: padding, or something that another reader takes.
pub fn tail(piece: &Piece<'_>, at: u64, context: &mut Context<'_>) {
    let end = piece.source.len();
    let looked = end.min(at.saturating_add(TAIL_BYTES_MAX));
    if looked < end {
        context.limit_reached("tail_bytes", TAIL_BYTES_MAX, piece.member.as_deref(), Some(looked));
    }
    let at = zeros_end(piece.source, at, looked);
    if at == looked {
        return;
    }
    let rest = Piece { source: piece.source, start: at, end, member: piece.member.clone() };
    let same = whole(&rest, |rest| sniff::readers(rest, 0)) == whole(piece, |piece| sniff::readers(piece, 0));
    let accepted = gap(piece, at, end, context);
    // One array or one compressed stream behind the other is an ordinary thing.
    if !(same && accepted) {
        let title = if accepted {
            "another format behind the end of the file's own"
        } else {
            "bytes behind the end of the format"
        };
        let finding = Finding::new("SNS-307", Severity::Medium, title).member(piece.member.as_deref()).at(at);
        context.report(finding.number("bytes", end - at));
    }
    if !accepted {
        pickle::sweep(&pickle::Stream::of(&rest, pickle::Dialect::Plain), context);
    }
}

/// Reads bytes that no format accounts for as whatever accepts them.
pub fn gap(piece: &Piece<'_>, start: u64, end: u64, context: &mut Context<'_>) -> bool {
    let name = member(piece.member.as_deref(), format!("bytes {start} to {end}").as_bytes());
    context.nested(&Piece { source: piece.source, start, end, member: Some(name) })
}

/// A model format that is recognised and not read.
pub fn unsupported(piece: &Piece<'_>, format: &'static str, context: &mut Context<'_>) {
    let finding = Finding::new("SNS-902", Severity::Low, format!("format {format} is not supported yet"));
    context.report(finding.member(piece.member.as_deref()).text("format", format));
}

/// Calls `inner` with a piece that starts at 0 of its own source.
fn whole<T>(piece: &Piece<'_>, inner: impl FnOnce(&Piece<'_>) -> T) -> T {
    if piece.start == 0 && piece.end == piece.source.len() {
        return inner(piece);
    }
    let len = piece.end.saturating_sub(piece.start);
    let name = piece.member.as_deref().map_or(piece.source.name(), file_name);
    let slice = Slice::new(piece.source, piece.start, len, name);
    inner(&Piece { source: &slice, start: 0, end: slice.len(), member: piece.member.clone() })
}

fn read(piece: &Piece<'_>, readers: &[Reader], context: &mut Context<'_>) -> Option<Seen> {
    let mut seen: Vec<Seen> = Vec::new();
    for reader in readers {
        if context.expired() {
            break;
        }
        seen.extend(match reader {
            Reader::Npy => Some(npy::scan(piece, context)),
            Reader::Safetensors => Some(safetensors::scan(piece, context)),
            Reader::Zip => Some(zip::scan(piece, context)),
            Reader::Tar => Some(tar::scan(piece, context)),
            Reader::SevenZ => Some(sevenz::scan(piece, context)),
            Reader::TorchLegacy => torch_legacy::scan(piece, context),
            Reader::Pickle => stream::scan(piece, context),
            Reader::Compressed(codec) => compressed::scan(piece, *codec, context),
            Reader::OldJoblib => compressed::scan_old_joblib(piece, context),
            Reader::Gguf => Some(gguf::scan(piece, context)),
            Reader::Onnx => Some(onnx::scan(piece, context)),
            Reader::Jinja => jinja::scan(piece, context),
            Reader::Hdf5 => Some(hdf5::scan(piece, context)),
            Reader::KerasMetadata => Some(keras::scan(piece, context)),
            Reader::TensorFlow(kind) => Some(tensorflow::scan(piece, *kind, context)),
            Reader::TensorFlowText => tensorflow::scan_text(piece, context),
            Reader::TfLite => Some(tflite::scan(piece, context)),
            Reader::MsgPack => msgpack::scan(piece, context),
            Reader::Rds => Some(rds::scan(piece, context)),
            Reader::Xml => xml::scan(piece, context),
            Reader::Foreign(kind) => Some(foreign::scan(piece, *kind, context)),
            Reader::JsonModel => json_model::scan(piece, context),
            Reader::CatBoost => Some(booster::scan_catboost(piece, context)),
            Reader::Ubjson => Some(booster::scan_ubjson(piece, context)),
            Reader::LightGbm => Some(booster::scan_lightgbm(piece, context)),
            Reader::XgboostBinary => Some(booster::scan_xgboost_binary(piece, context)),
        });
    }
    // TFLite appends an archive of labels to the model, which is how its metadata are specified.
    if let [first, second, ..] = seen[..]
        && (first.format, second.format) != ("tflite", "zip")
    {
        let finding =
            Finding::new("SNS-307", Severity::Medium, "the same bytes are two formats: readers see different files");
        let finding = finding.text("first", first.format).text("second", second.format);
        context.report(finding.member(piece.member.as_deref()).at(0));
    }
    seen.first().copied()
}

/// What is said of bytes that nobody reads.
fn rest(piece: &Piece<'_>, inside: bool, context: &mut Context<'_>) -> Seen {
    let name = piece.source.name();
    let claim = name::claim(name);
    let member = piece.member.as_deref();
    if piece.source.is_empty() && claim.is_some() && !inside {
        context.report(Finding::new("SNS-903", Severity::Low, "named like a model, but empty"));
        return Seen { format: "other", content: Content::Unknown };
    }
    match sniff::otherwise(piece.source) {
        Otherwise::Unsupported(format, content) => {
            match format {
                "llamafile" => executable::ape(piece, context),
                "tensorrt" => executable::engine(piece, format, context),
                _ => {}
            }
            unsupported(piece, format, context);
            return Seen { format, content };
        }
        Otherwise::LfsPointer => {
            let title = "a Git LFS pointer stands for the model: fetch the file itself, nothing was scanned";
            context.report(Finding::new("SNS-702", Severity::Low, title).member(member));
            return Seen { format: "lfs-pointer", content: Content::NotModel };
        }
        Otherwise::Executable(kind) if kind != "script" && (inside || claim.is_some()) => {
            let finding = Finding::new("SNS-310", Severity::Medium, "an executable stands where a model belongs");
            context.report(finding.member(member).text("kind", kind));
        }
        Otherwise::Unknown if name::is_raw_weights(name) || xml::describes(piece.source) => {
            return storage(piece, context).unwrap_or(Seen { format: "raw-weights", content: Content::Data });
        }
        Otherwise::Executable(kind) if kind != "script" => executable::loose(piece, kind, context),
        Otherwise::Unknown if claim.is_some() => {
            pickle::sweep(&pickle::Stream::of(piece, pickle::Dialect::Plain), context);
            let title = "named like a model, but no reader knows the content";
            context.report(Finding::new("SNS-902", Severity::Low, title).member(member));
            return Seen { format: "other", content: Content::Unknown };
        }
        Otherwise::Text | Otherwise::Executable(_) if inside => {
            let lower = name.to_ascii_lowercase();
            if SCRIPTS.iter().any(|suffix| lower.ends_with(suffix)) {
                context.report(Finding::new("SNS-310", Severity::Info, "source code in the archive").member(member));
            }
        }
        Otherwise::Text | Otherwise::Foreign(_) | Otherwise::Executable(_) if claim.is_some() && !inside => {
            context
                .report(Finding::new("SNS-701", Severity::Info, "named like a model, but it is none").member(member));
        }
        _ => {}
    }
    Seen::OTHER
}

/// A member's name within `outer`: joined by `!/`, a `!` of the name itself as `\!`.
pub fn member(outer: Option<&[u8]>, name: &[u8]) -> Vec<u8> {
    let mut joined = outer.map(<[u8]>::to_vec).unwrap_or_default();
    if outer.is_some() {
        joined.extend(b"!/");
    }
    for byte in name {
        if *byte == b'!' {
            joined.push(b'\\');
        }
        joined.push(*byte);
    }
    joined
}

/// A path's last part, whatever the separator.
pub fn file_name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| matches!(byte, b'/' | b'\\')).next().unwrap_or_default()
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn member_names_join_and_escape() {
        assert_eq!(member(None, b"a/b"), b"a/b");
        assert_eq!(member(Some(b"a.zip"), b"b!/c"), b"a.zip!/b\\!/c");
        assert_eq!(file_name(b"a/b\\c"), b"c");
    }
}
