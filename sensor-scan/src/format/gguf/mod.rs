//! GGUF: key-value metadata and raw tensors, as llama.cpp writes them. It can't run code by itself; its chat templates
//! are rendered by whoever serves the model, and its counts and lengths have overrun parsers (CVE-2024-21802, -21825,
//! -21836, -23496, -23605, CVE-2025-53630).
//!
//! Reference: the GGUF specification in ggml, versions 1 to 3, and the limits of llama.cpp's `gguf.cpp`.

mod tensor;
mod value;

use std::collections::BTreeSet;

use crate::context::{Context, Piece};
use crate::finding::{Finding, Severity};
use crate::format::{self, Seen, jinja, text};
use crate::report::Content;
use crate::window::Window;
use value::{Reader, Value};

pub const MAGIC: &[u8] = b"GGUF";

const SEEN: Seen = Seen { format: "gguf", content: Content::Data };
/// Keys that are looked at; the largest known models have about 50.
const KEYS_MAX: u64 = 100_000;

/// Why the rest of the file can't be read.
pub struct Malformed {
    at: u64,
    title: &'static str,
}

impl Malformed {
    fn new(at: u64, title: &'static str) -> Self {
        Self { at, title }
    }
}

pub fn scan(piece: &Piece<'_>, context: &mut Context<'_>) -> Seen {
    let window = Window::new(piece.source);
    if let Err(malformed) = whole(piece, &window, context) {
        let finding = Finding::new("SNS-481", Severity::Medium, malformed.title).member(piece.member.as_deref());
        context.report(finding.at(malformed.at).loaders(LOADERS));
        context.incomplete();
    }
    SEEN
}

const LOADERS: &[&str] = &["llama.cpp and its bindings"];

fn whole(piece: &Piece<'_>, window: &Window<'_>, context: &mut Context<'_>) -> Result<(), Malformed> {
    let mut reader = Reader::new(window)?;
    let (tensors, keys) = (reader.count()?, reader.count()?);
    // A key takes a length, a type and a value; a tensor a name, dimensions, a type and an offset.
    let left = window.len().saturating_sub(reader.at);
    if keys > left / 12 || tensors > left / 20 {
        return Err(Malformed::new(8, "GGUF counts more tensors or keys than the file has room for"));
    }
    let mut names = BTreeSet::new();
    let mut alignment = 32;
    for index in 0..keys {
        if index % 256 == 0 && context.expired() {
            return Ok(());
        }
        let at = reader.at;
        let key = reader.text()?;
        let value = reader.value()?;
        if index >= KEYS_MAX {
            context.limit_reached("keys_max", KEYS_MAX, piece.member.as_deref(), Some(at));
            return Ok(());
        }
        if !names.insert(key.clone()) {
            report(piece, at, "GGUF has a key twice, which llama.cpp refuses", &key, context);
        }
        if key == "general.alignment"
            && let Value::Number(number) = value
        {
            alignment = number;
        }
        texts(piece, &key, &value, context);
    }
    if !alignment.is_power_of_two() || alignment > 1 << 30 {
        report(piece, 0, "GGUF alignment is no power of two", &alignment.to_string(), context);
        alignment = 32;
    }
    let end = tensor::scan(piece, &mut reader, tensors, alignment, context)?;
    if end < window.len() {
        format::tail(piece, end, context);
    }
    Ok(())
}

fn report(piece: &Piece<'_>, at: u64, title: &str, detail: &str, context: &mut Context<'_>) {
    let finding = Finding::new("SNS-481", Severity::Medium, title).member(piece.member.as_deref());
    context.report(finding.at(at).text("detail", detail).loaders(LOADERS));
}

/// Templates are judged as such, other texts as what a consumer may evaluate.
fn texts(piece: &Piece<'_>, key: &str, value: &Value, context: &mut Context<'_>) {
    let member = piece.member.as_deref();
    let values = match value {
        Value::Text(text) => std::slice::from_ref(text),
        Value::Texts(texts) => texts,
        Value::Number(_) | Value::Other => return,
    };
    for value in values {
        if key.contains("template") || jinja::is_template(value) {
            jinja::scan_text(key, value, member, context);
        } else if matches!(values, [_]) || value.len() > 64 {
            text::scan(key, value, member, context);
        }
    }
}

#[cfg(test)]
pub mod tests;
