//! ONNX: a protobuf graph. It can't run code by itself, but it names files for tensor data, operators of native
//! libraries, and texts that tools evaluate.
//!
//! What is touched by whom: `external_data.location` is opened by every loader (onnx < 1.21 let paths leave the folder:
//! CVE-2022-25882, CVE-2024-27318, CVE-2026-27489, -34446, -34447); unknown keys of it became attributes of an object
//! (onnx < 1.21); operators of a custom domain need a library that the host registers.
//! Reference: `onnx.proto`, IR version 13.

mod external;
mod graph;

use crate::context::{Context, Piece};
use crate::finding::{Finding, Severity};
use crate::format::protobuf::Message;
use crate::format::{self, Seen, text};
use crate::report::Content;
use crate::window::Window;
use graph::Walk;

const SEEN: Seen = Seen { format: "onnx", content: Content::Data };
/// Bytes of a name, a path or a text of the metadata that are looked at.
pub const TEXT_BYTES_MAX: usize = 64 << 10;
/// Fields at the top that are looked at before a file is taken for something else.
const FIELDS_LOOKED_AT: usize = 4_096;

/// Whether the bytes are a `ModelProto`: a graph with nodes or tensors among fields that the schema has.
pub fn claims(window: &Window<'_>) -> bool {
    let mut version = false;
    for field in Message::whole(window).fields().take(FIELDS_LOOKED_AT) {
        match (field.number, field.number()) {
            (1, Some(number)) => version = (1..1000).contains(&number),
            (7, None) if field.message().is_some_and(is_graph) => return true,
            (25, None) if version && field.message().is_some_and(is_function) => return true,
            _ => {}
        }
    }
    false
}

/// Nodes have an operator, tensors a type; anything else of these numbers is another schema.
fn is_graph(graph: Message<'_, '_>) -> bool {
    let mut fields = graph.fields();
    let mut known = false;
    for field in fields.by_ref().take(64) {
        match (field.number, field.message()) {
            (1, Some(node)) => {
                let Some(operator) = node.last(4) else { continue };
                if !is_identifier(&operator.text(256)) {
                    return false;
                }
                known = true;
            }
            (5, Some(tensor)) => known |= tensor.fields().any(|field| field.number == 2 && field.number().is_some()),
            (11 | 12, Some(value)) => known |= value.fields().any(|field| field.number == 1),
            (2 | 10, Some(_)) => {}
            (3 | 4 | 6..=9, _) => return false,
            _ => {}
        }
    }
    known && !fields.is_broken()
}

fn is_function(function: Message<'_, '_>) -> bool {
    function.last(1).is_some_and(|name| is_identifier(&name.text(256))) && function.each(7).next().is_some()
}

fn is_identifier(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "_.:-+/<>".contains(c))
}

pub fn scan(piece: &Piece<'_>, context: &mut Context<'_>) -> Seen {
    let window = Window::new(piece.source);
    let mut walk = Walk::new(piece.member.as_deref(), context);
    let mut fields = Message::whole(&window).fields();
    for field in fields.by_ref() {
        let Some(message) = field.message() else { continue };
        match field.number {
            7 => walk.graph(message, 0),
            8 => walk.imports(message),
            14 => walk.metadata("metadata_props", message),
            2 | 3 | 4 | 6 => walk.text(
                ["", "", "producer_name", "producer_version", "domain", "", "doc_string"][field.number as usize],
                message,
            ),
            20 => [1, 2].iter().for_each(|number| message.each(*number).for_each(|graph| walk.graph(graph, 0))),
            25 => walk.function(message),
            _ => {}
        }
    }
    walk.finish();
    if fields.is_broken() {
        format::tail(piece, fields.at(), context);
    }
    SEEN
}

/// One text of a model, as what a consumer may evaluate.
fn judge_text(key: &str, value: &str, member: Option<&[u8]>, context: &mut Context<'_>) {
    text::scan(key, value, member, context);
}

fn report(
    id: &'static str,
    severity: Severity,
    title: &str,
    member: Option<&[u8]>,
    at: u64,
    context: &mut Context<'_>,
    detail: (&'static str, &str),
) {
    let loaders: &[&str] = match id {
        "SNS-462" => &["onnxruntime with the library registered"],
        "SNS-463" => &["onnx.load (onnx < 1.21)"],
        _ => &["onnx.load (onnx < 1.21)", "runtimes with a reader of their own"],
    };
    context.report(Finding::new(id, severity, title).member(member).at(at).text(detail.0, detail.1).loaders(loaders));
}

#[cfg(test)]
pub mod tests;
