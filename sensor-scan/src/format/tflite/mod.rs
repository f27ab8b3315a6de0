//! TensorFlow Lite: a flatbuffer with `TFL3` behind its first offset. Its own operators compute; operators by name are
//! native code that the host registers, `Flex…` are those of TensorFlow itself (file access included).
//!
//! Reference: TensorFlow's `lite/schema/schema.fbs`.

use crate::context::{Context, Piece};
use crate::finding::{Finding, Severity};
use crate::format::flatbuffer::Table;
use crate::format::{Seen, stream, text};
use crate::report::Content;
use crate::window::Window;

const SEEN: Seen = Seen { format: "tflite", content: Content::Data };
/// Operators, buffers and the like of one model.
const ENTRIES_MAX: u64 = 200_000;
const TEXT_BYTES_MAX: usize = 64 << 10;

/// Operators by name that Google's own libraries register.
const KNOWN: &[&str] = &[
    "TFLite_Detection_PostProcess",
    "Convolution2DTransposeBias",
    "MaxPoolingWithArgmax2D",
    "MaxUnpooling2D",
    "Mfcc",
    "AudioSpectrogram",
    "AudioMicrofrontend",
    "Landmarks2TransformMatrix",
    "Transform",
    "TFSentencepiece",
    "NGrams",
    "ngrams",
    "SequenceStringProjection",
    "RFFT",
    "Rfft",
    "Irfft",
    "Multinomial",
    "Random",
    "HashtableLookup",
    "ExtractFeatures",
    "Normalize",
    "Predict",
    "odml.",
    "edgetpu-custom-op",
    "RaggedTensorToTensor",
    "WhitespaceTokenize",
];

/// Whether the file's identifier says so.
pub fn claims(head: &[u8]) -> bool {
    head.get(4..8) == Some(b"TFL3")
}

pub fn scan(piece: &Piece<'_>, context: &mut Context<'_>) -> Seen {
    let window = Window::new(piece.source);
    if read(piece, &window, context).is_none() {
        let finding = Finding::new("SNS-451", Severity::Medium, "TFLite flatbuffer whose offsets lead outside");
        context.report(finding.member(piece.member.as_deref()).loaders(&["tflite runtime"]));
        context.incomplete();
    }
    SEEN
}

fn read(piece: &Piece<'_>, window: &Window<'_>, context: &mut Context<'_>) -> Option<()> {
    let member = piece.member.as_deref();
    let model = Table::root(window)?;
    for operator in model.tables(1, ENTRIES_MAX)? {
        if let Some(name) = operator.text(1, 1024) {
            custom(&name, member, context);
        } else if operator.field(1).is_some() {
            return None;
        }
    }
    model.tables(2, ENTRIES_MAX)?;
    if let Some(description) = model.text(3, TEXT_BYTES_MAX) {
        text::scan("description", &description, member, context);
    }
    for entry in model.tables(6, ENTRIES_MAX)? {
        if let Some(name) = entry.text(0, 1024) {
            text::scan("metadata", &name, member, context);
        }
    }
    // Constants of tensors and contents of metadata; large models keep theirs behind the flatbuffer.
    for (index, buffer) in model.tables(4, ENTRIES_MAX)?.iter().enumerate() {
        if index % 1024 == 0 && context.expired() {
            return Some(());
        }
        if let Some((start, end)) = buffer.bytes(0) {
            self::buffer(piece, window, start, end, context);
        } else if buffer.field(0).is_some() {
            return None;
        }
    }
    Some(())
}

fn custom(name: &str, member: Option<&[u8]>, context: &mut Context<'_>) {
    let (severity, title) = match name.strip_prefix("Flex") {
        Some(operator) if crate::format::tensorflow::acts(operator) => {
            (Severity::Medium, "an operator of TensorFlow that touches files, addresses or Python")
        }
        Some(_) => (Severity::Info, "an operator of TensorFlow"),
        None if KNOWN.iter().any(|known| name.starts_with(known)) => (Severity::Info, "a custom operator"),
        None => (Severity::Medium, "a custom operator, which is native code of the host"),
    };
    let finding = Finding::new("SNS-451", severity, title).member(member).text("operator", name);
    context.report(finding.loaders(&["tflite runtime with the operator registered"]));
}

fn buffer(piece: &Piece<'_>, window: &Window<'_>, start: u64, end: u64, context: &mut Context<'_>) {
    let head = window.bytes(start, end, 16);
    let data = Piece { source: piece.source, start, end, member: piece.member.clone() };
    let pickle = matches!(head[..], [0x80, 2..=5, ..]) && stream::looks_like_strictly(&data);
    if pickle || head.starts_with(b"PK\x03\x04") || head.starts_with(b"\x7fELF") {
        crate::format::storage(&data, context);
    }
}

#[cfg(test)]
pub mod tests {
    use crate::source::MemorySource;
    use crate::{Limits, Policy, Verdict, scan as scan_file};

    /// A model with one operator code of this name.
    fn model(operator: &str) -> Vec<u8> {
        // root → model table (field 1: operator codes) → vector of one → table (field 1: custom code) → text.
        let mut bytes = vec![20, 0, 0, 0];
        bytes.extend(b"TFL3");
        bytes.extend([8, 0, 8, 0, 0, 0, 4, 0, 0, 0, 0, 0]); // vtable at 8: two fields, the second at 4
        bytes.extend(12_i32.to_le_bytes()); // the table at 20
        bytes.extend(4_u32.to_le_bytes()); // → vector at 28
        bytes.extend(1_u32.to_le_bytes());
        bytes.extend(12_u32.to_le_bytes()); // → table at 44
        bytes.extend([8, 0, 8, 0, 0, 0, 4, 0]); // vtable at 36
        bytes.extend(8_i32.to_le_bytes()); // the table at 44
        bytes.extend(4_u32.to_le_bytes()); // → text at 52
        bytes.extend((operator.len() as u32).to_le_bytes());
        bytes.extend(operator.as_bytes());
        bytes.push(0);
        bytes
    }

    fn judged(bytes: &[u8]) -> Verdict {
        let report = scan_file(&MemorySource::new(bytes, b"m.tflite"), &Limits::default(), &Policy::standard());
        assert_eq!(report.format, "tflite");
        report.verdict
    }

    #[test]
    fn operators_by_name() {
        for (name, verdict) in [
            ("FlexErf", Verdict::Clean),
            ("TFLite_Detection_PostProcess", Verdict::Clean),
            ("FlexWriteFile", Verdict::Suspicious),
            ("FlexPyFunc", Verdict::Suspicious),
            ("EvilOp", Verdict::Suspicious),
        ] {
            assert_eq!(judged(&model(name)), verdict, "{name}");
        }
    }

    #[test]
    fn offsets_that_lead_outside() {
        let good = model("FlexErf");
        for at in [0, 20, 24, 32, 44, 48, 52] {
            let mut bytes = good.clone();
            bytes[at..at + 4].copy_from_slice(&0x7fff_fff0_u32.to_le_bytes());
            assert_eq!(judged(&bytes), Verdict::Suspicious, "{at}");
        }
        assert_eq!(judged(&good[..10]), Verdict::Suspicious);
    }

    /// Files that are not clean, for the properties that hold for every format.
    pub fn samples() -> Vec<Vec<u8>> {
        vec![model("FlexWriteFile")]
    }
}
