//! Pickle: what a stream calls with what, found by interpreting it symbolically.
//!
//! Nothing is imported or executed. The machine knows all opcodes of all protocols; values are symbols; calls are judged
//! by the table of [`crate::rule::globals`]. A stream is judged as the union of what its readers would do (C from memory,
//! C from a stream, pure Python, torch, joblib), and by what ran before it broke.

mod array;
mod attribute;
mod budget;
mod call;
mod code;
mod cursor;
mod describe;
mod effect;
mod fold;
mod grade;
mod machine;
mod memo;
mod nested;
mod odd;
mod opcode;
mod operand;
mod payload;
mod resolve;
mod resync;
mod run;
mod setstate;
mod sniff;
mod state;
mod tensor;
mod value;

#[cfg(test)]
mod tests;

use crate::context::{Context, Piece};
use crate::finding::{Evidence, Finding, Severity};
use crate::source::Source;
use cursor::{Break, Frames};
use machine::{Machine, Mode};

pub use payload::is_active_name as acts_by_name;
pub use sniff::looks_like;

/// Streams in one input that are read one by one; what comes after is reported as not read.
const STREAMS_MAX: u64 = 100_000;

/// The pickle of torch's magic number, 0x1950a86a20f9469cfc6c, as `torch.save` wrote it before 1.6.
pub const TORCH_LEGACY_MAGIC: &[u8; 14] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";

/// Which loader reads the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    Plain,
    /// `data.pkl` and the like in a torch archive: persistent ids are legal.
    TorchZip,
    /// One of the five streams of a torch file before 1.6.
    TorchLegacy,
    /// Raw arrays stand between opcodes.
    Joblib,
    /// Behind the header of an `.npy` file.
    NumpyObject,
}

impl Dialect {
    /// Who executes the stream.
    pub fn loaders(self) -> &'static [&'static str] {
        match self {
            Self::Plain => &["pickle.load", "torch.load(weights_only=False)", "numpy.load(allow_pickle=True)"],
            Self::TorchZip | Self::TorchLegacy => &["torch.load(weights_only=False)"],
            Self::Joblib => &["joblib.load"],
            Self::NumpyObject => &["numpy.load(allow_pickle=True)"],
        }
    }

    fn persistent_ids_are_legal(self) -> bool {
        matches!(self, Self::TorchZip | Self::TorchLegacy)
    }
}

/// A range of bytes to be read as a pickle.
#[derive(Clone)]
pub struct Stream<'a> {
    pub source: &'a dyn Source,
    /// First byte.
    pub start: u64,
    /// Behind the last byte.
    pub end: u64,
    pub dialect: Dialect,
    /// As in [`Finding::member`].
    pub member: Option<Vec<u8>>,
}

impl<'a> Stream<'a> {
    /// A piece, read as what its first bytes say: torch's old files start with their magic number as a pickle.
    pub fn sniffed(piece: &Piece<'a>) -> Self {
        let mut head = [0; TORCH_LEGACY_MAGIC.len()];
        let read = piece.source.read_at(piece.start, &mut head).unwrap_or(0);
        let legacy = read == head.len() && head == *TORCH_LEGACY_MAGIC;
        Self::of(piece, if legacy { Dialect::TorchLegacy } else { Dialect::Plain })
    }

    /// A piece, read as what `dialect` says.
    pub fn of(piece: &Piece<'a>, dialect: Dialect) -> Self {
        let Piece { source, start, end, member } = piece.clone();
        Self { source, start, end, dialect, member }
    }
}

/// Where and how a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Offset behind STOP, or where the stream broke.
    pub end: u64,
    /// It started with PROTO, or reached STOP, or imported something before it broke: somebody meant it as a pickle.
    /// Nothing is reported of a stream that is not plausible.
    pub plausible: bool,
    /// STOP was reached.
    pub stopped: bool,
    pub opcodes: u64,
    /// Globals that were imported.
    pub imports: u64,
    /// Streams that were read (for [`scan_all`]; else 1).
    pub streams: u64,
    /// The result, where it is an integer that fits (the magic number of torch's old files does not: see `long`).
    pub integer: Option<u32>,
    /// The result, where it is a LONG1 of at most 16 bytes, little endian, zero-extended.
    pub long: Option<u128>,
}

/// Reads one stream up to its STOP.
pub fn scan(stream: &Stream<'_>, context: &mut Context<'_>) -> Outcome {
    let mut outcomes = run(stream, context, false);
    outcomes.streams = 1;
    outcomes
}

/// Reads streams back to back up to the end of the range, as loops around `pickle.load` do. What stands between them or
/// behind them is reported.
pub fn scan_all(stream: &Stream<'_>, context: &mut Context<'_>) -> Outcome {
    run(stream, context, true)
}

/// Looks for a payload in bytes that no reader is known to start at; true where there is one.
pub fn sweep(stream: &Stream<'_>, context: &mut Context<'_>) -> bool {
    resync::sweep(stream, context, stream.start)
}

/// All readers' views of the same bytes.
fn run(stream: &Stream<'_>, context: &mut Context<'_>, all: bool) -> Outcome {
    let mode = Mode { frames: Frames::Ignored, arrays: stream.dialect == Dialect::Joblib, all };
    let (first, findings) = context.isolated(|context| Machine::new(stream, context, mode).run());
    let mut outcome = first.outcome;
    outcome.plausible |= first.straddled.is_some();
    if !outcome.plausible {
        // Bytes that start like a pickle by chance hide nothing; bytes that only pretend to be broken do.
        let head = starts_with_proto(stream);
        outcome.plausible = head && resync::sweep(stream, context, outcome.end);
        return outcome;
    }
    // Where raw arrays follow, a reader that does not know of them breaks inside the first one: that is no news.
    let broken_view = first.wrapped_array && !mode.arrays;
    if !outcome.stopped && !broken_view {
        resync::sweep(stream, context, outcome.end);
    }
    if broken_view {
        // A plain reader runs on into the first array's bytes; joblib steps over them.
        let arrays = second_view(stream, context, Mode { arrays: true, ..mode }, false);
        outcome = arrays.unwrap_or(outcome);
        report_view(findings, true, outcome.stopped, context);
        if !outcome.stopped {
            resync::sweep(stream, context, outcome.end);
        }
    } else {
        report_view(findings, false, false, context);
    }
    if let Some(offset) = first.straddled {
        let mut finding = Finding::new(
            "SNS-201",
            Severity::High,
            "an operand crosses the end of its frame: readers from memory and readers from a stream run two programs",
        );
        finding.member.clone_from(&stream.member);
        finding.offset = Some(offset);
        finding.loaders = vec!["pickle.load from io.BytesIO or an unbuffered file", "torch.load(weights_only=False)"];
        context.report(finding);
        second_view(stream, context, Mode { frames: Frames::Dropped, ..mode }, false);
    }
    if mode.arrays && first.wrapped_array {
        second_view(stream, context, Mode { arrays: false, ..mode }, outcome.stopped);
    }
    outcome
}

fn starts_with_proto(stream: &Stream<'_>) -> bool {
    let mut head = [0; 2];
    let read = stream.source.read_at(stream.start, &mut head).unwrap_or(0);
    read == head.len() && matches!(head, [opcode::PROTO, 0..=5])
}

/// The same bytes for another reader: only what it finds counts, not where it breaks.
fn second_view(stream: &Stream<'_>, context: &mut Context<'_>, mode: Mode, whole: bool) -> Option<Outcome> {
    let (run, findings) = context.isolated(|context| Machine::new(stream, context, mode).run());
    report_view(findings, run.wrapped_array && !mode.arrays, whole, context);
    run.outcome.plausible.then_some(run.outcome)
}

/// Reports what one view found; of a view that breaks by design, not how it broke. Where the other view read the whole
/// input, this one ran through arrays, and through their pickles with a memo that is not theirs: what it could not tell
/// there is noise, and only an effect counts.
fn report_view(findings: Vec<Finding>, breaks_by_design: bool, whole: bool, context: &mut Context<'_>) {
    let broken = |finding: &Finding| finding.id.starts_with("SNS-2") || finding.id == "SNS-903";
    let vague = |finding: &Finding| matches!(finding.id, "SNS-102" | "SNS-103" | "SNS-104" | "SNS-112");
    findings
        .into_iter()
        .filter(|finding| !(breaks_by_design && (broken(finding) || whole && vague(finding))))
        .for_each(|finding| context.report(finding));
}

/// Reports how a stream broke, where it had done something before.
fn report_break(stream: &Stream<'_>, context: &mut Context<'_>, at: u64, reason: Break, imports: u64) {
    // Where nothing was imported, nothing has run.
    let ran = if imports > 0 { Severity::Medium } else { Severity::Low };
    let (id, severity, text) = match reason {
        Break::Limit => return,
        Break::Unreadable => ("SNS-903", Severity::Medium, "the bytes could not be read".to_owned()),
        Break::TooLong { length } => (
            "SNS-207",
            Severity::Medium,
            format!("an operand of {length} bytes is longer than what is left of the input"),
        ),
        Break::Truncated if imports == 0 => ("SNS-903", Severity::Medium, "the stream ends before STOP".to_owned()),
        Break::Truncated => ("SNS-202", Severity::Medium, "the stream ends before STOP, after it imported".to_owned()),
        Break::Opcode(byte) => ("SNS-202", ran, format!("the stream breaks: {byte:#04x} is no opcode")),
        Break::Stack => ("SNS-202", ran, "the stream breaks: the stack is empty".to_owned()),
        Break::Memo => ("SNS-202", ran, "the stream breaks: a memo entry was never put".to_owned()),
        Break::Operand => ("SNS-202", ran, "the stream breaks: no reader accepts the operand".to_owned()),
    };
    let mut finding = Finding::new(id, severity, text);
    finding.member.clone_from(&stream.member);
    finding.offset = Some(at);
    finding.loaders = stream.dialect.loaders().to_vec();
    finding.evidence.insert("imports_before", Evidence::Number(imports));
    context.report(finding);
}
