//! Frameworks whose models are read only for operators and classes that call code of the host: Paddle, Caffe, CNTK,
//! Torch7, CoreML, ExecuTorch. And SentencePiece's vocabularies, which lie beside many models and only hold words.

mod coreml;
mod words;

use crate::context::{Context, Piece};
use crate::finding::{Finding, Severity};
use crate::format::protobuf::Message;
use crate::format::{self, Seen, text};
use crate::report::Content;
use crate::window::Window;

/// Which framework the bytes are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Paddle,
    Caffe,
    Prototxt,
    Cntk,
    Torch7,
    CoreMl,
    Executorch,
    SentencePiece,
}

const MESSAGES_LOOKED_AT: usize = 64;
/// Pieces that the smallest vocabulary has.
const PIECES_MIN: usize = 4;

/// By magic number or structure; a name counts where the format has neither.
pub fn claims(window: &Window<'_>, head: &[u8], name: &[u8]) -> Option<Kind> {
    let name = name.to_ascii_lowercase();
    if head.starts_with(b"B\0C\0N\0") || name.ends_with(b".dnn") {
        return Some(Kind::Cntk);
    }
    if head.starts_with(b"\x04\0\0\0\x01\0\0\0\x03\0\0\0V 1")
        || head.starts_with(b"4\n1\n3\nV 1\n")
        || name.ends_with(b".t7")
    {
        return Some(Kind::Torch7);
    }
    if head.get(4..8).is_some_and(|magic| magic.starts_with(b"ET1") || magic.starts_with(b"ET0")) {
        return Some(Kind::Executorch);
    }
    if name.ends_with(b".prototxt") {
        return Some(Kind::Prototxt);
    }
    let whole = Message::whole(window);
    if is_paddle(whole) {
        return Some(Kind::Paddle);
    }
    if coreml::claims(whole) {
        return Some(Kind::CoreMl);
    }
    if is_sentencepiece(whole) {
        return Some(Kind::SentencePiece);
    }
    (name.ends_with(b".caffemodel")).then_some(Kind::Caffe)
}

/// ModelProto: pieces, of which each has a text and a score.
fn is_sentencepiece(model: Message<'_, '_>) -> bool {
    let first: Vec<_> = model.fields().take(PIECES_MIN).collect();
    first.len() == PIECES_MIN
        && first.iter().all(|field| {
            let Some(piece) = field.message().filter(|_| field.number == 1) else { return false };
            let mut fields = piece.fields();
            let text = fields.next().is_some_and(|field| field.number == 1 && field.message().is_some());
            text && fields.next().is_some_and(|field| field.number == 2 && field.number().is_some())
        })
}

/// ProgramDesc: blocks with an index and operators whose type is a word.
fn is_paddle(program: Message<'_, '_>) -> bool {
    program.fields().take(MESSAGES_LOOKED_AT).filter(|field| field.number == 1).filter_map(|field| field.message()).any(
        |block| {
            let numbered = block.fields().take(2).any(|field| field.number == 1 && field.number().is_some());
            let operator = block.each(4).next().and_then(|operator| operator.last(3));
            numbered && operator.is_some_and(|kind| is_word(&kind.text(256)))
        },
    )
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.".contains(&byte))
}

pub fn scan(piece: &Piece<'_>, kind: Kind, context: &mut Context<'_>) -> Seen {
    let window = Window::new(piece.source);
    let whole = Message::whole(&window);
    match kind {
        Kind::Paddle => paddle(piece, whole, context),
        Kind::Caffe => caffe(piece, whole, context),
        Kind::Prototxt => words::prototxt(piece, context),
        Kind::Cntk => words::cntk(piece, context),
        Kind::Torch7 => words::torch7(piece, context),
        Kind::CoreMl => coreml::scan(piece, whole, context),
        Kind::Executorch => words::executorch(piece, &window, context),
        Kind::SentencePiece => {
            let mut fields = whole.fields();
            fields.by_ref().for_each(drop);
            if fields.is_broken() {
                format::tail(piece, fields.at(), context);
            }
        }
    }
    let (format, content) = kind.seen();
    Seen { format, content }
}

impl Kind {
    /// Name of the format, and what it can do.
    pub fn seen(self) -> (&'static str, Content) {
        match self {
            Self::Paddle => ("paddle", Content::Code),
            Self::Caffe | Self::Prototxt => ("caffe", Content::Code),
            Self::Cntk => ("cntk", Content::Code),
            Self::Torch7 => ("torch7", Content::Code),
            Self::CoreMl => ("coreml", Content::Data),
            Self::Executorch => ("executorch", Content::Data),
            Self::SentencePiece => ("sentencepiece", Content::Data),
        }
    }
}

fn report(
    id: &'static str,
    severity: Severity,
    title: &str,
    detail: &str,
    piece: &Piece<'_>,
    context: &mut Context<'_>,
) {
    let finding = Finding::new(id, severity, title).member(piece.member.as_deref());
    context.report(finding.text("name", detail));
}

fn paddle(piece: &Piece<'_>, program: Message<'_, '_>, context: &mut Context<'_>) {
    let mut fields = program.fields();
    for block in fields.by_ref().filter(|field| field.number == 1).filter_map(|field| field.message()) {
        for operator in block.each(4) {
            if context.expired() {
                return;
            }
            let kind = operator.last(3).map(|kind| kind.text(256)).unwrap_or_default();
            if matches!(
                kind.as_str(),
                "py_func"
                    | "py_layer"
                    | "custom_op"
                    | "load_lib"
                    | "load"
                    | "load_combine"
                    | "save"
                    | "save_combine"
                    | "print"
            ) {
                let severity = if matches!(kind.as_str(), "py_func" | "py_layer" | "load_lib") {
                    Severity::Medium
                } else {
                    Severity::Info
                };
                report("SNS-624", severity, "an operator that calls code or files of the host", &kind, piece, context);
            }
            // Attributes: a name, a type, and texts.
            for attribute in operator.each(4) {
                for value in attribute.each(5).chain(attribute.each(8)) {
                    let value = value.text(64 << 10);
                    let path = matches!(kind.as_str(), "load" | "load_combine" | "save" | "save_combine");
                    if path && text::leaves(&value).is_some() {
                        report(
                            "SNS-624",
                            Severity::Medium,
                            "an operator with a file outside the model's folder",
                            &value,
                            piece,
                            context,
                        );
                    }
                    text::scan("attribute", &value, piece.member.as_deref(), context);
                }
            }
        }
    }
    if fields.is_broken() {
        format::tail(piece, fields.at(), context);
    }
}

/// NetParameter: layers of both generations, with a type and a Python parameter.
fn caffe(piece: &Piece<'_>, net: Message<'_, '_>, context: &mut Context<'_>) {
    for layer in net.each(100).chain(net.each(2)) {
        let python = layer.last(2).is_some_and(|kind| kind.text(64) == "Python");
        for parameter in layer.each(130) {
            let text_of = |number| parameter.last(number).map(|text| text.text(1024)).unwrap_or_default();
            let name = format!("{}.{}", text_of(1), text_of(2));
            report("SNS-624", Severity::Medium, "a layer of Python code", &name, piece, context);
        }
        if python {
            report("SNS-624", Severity::Medium, "a layer of Python code", "Python", piece, context);
        }
    }
}

#[cfg(test)]
pub mod tests;
