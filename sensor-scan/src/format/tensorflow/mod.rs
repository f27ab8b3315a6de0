//! TensorFlow: SavedModel, MetaGraph and GraphDef. A graph is a program whose operators include file and network access.
//!
//! What runs when: operators run when the function that holds them is called, initialisers while the model is loaded. An
//! operator's name says little: every SavedModel that Keras exports saves and restores files, with a path that whoever
//! saves feeds through a placeholder. So paths are followed to where they come from: a constant in the file is the
//! author's choice, a placeholder or an argument is the caller's, an asset is the loader's.
//! Reference: TensorFlow's `saved_model.proto`, `meta_graph.proto`, `graph.proto`, `function.proto`, `op_def` registry.

mod graph;
mod op;
mod origin;
mod read;
mod text_form;

use crate::context::{Context, Piece};
use crate::finding::{Finding, Severity};
use crate::format::protobuf::Message;
use crate::format::{self, Seen, keras, text};
use crate::report::Content;
use crate::window::Window;
use graph::Graph;

pub use op::acts;
pub use text_form::{claims as claims_text, scan as scan_text};

/// Bytes of a path or a name.
const TEXT_BYTES_MAX: usize = 64 << 10;
/// Fields at the top that are looked at before a file is taken for something else.
const FIELDS_LOOKED_AT: usize = 4_096;

/// Which message the file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    SavedModel,
    MetaGraph,
    GraphDef,
    /// `fingerprint.pb` of a SavedModel: five hashes.
    Fingerprint,
}

pub fn claims(window: &Window<'_>) -> Option<Kind> {
    let whole = Message::whole(window);
    let mut numbers_only = true;
    let mut count = 0;
    for field in whole.fields().take(FIELDS_LOOKED_AT) {
        count += 1;
        numbers_only &= field.number <= 8;
        let Some(message) = field.message() else { continue };
        numbers_only &= matches!(field.number, 6 | 7);
        match field.number {
            1 if is_node(message) => return Some(Kind::GraphDef),
            // A MetaGraphDef: what it is about, then the graph.
            2 if is_meta_graph(message) => return Some(Kind::SavedModel),
            2 if is_graph(message) => return Some(Kind::MetaGraph),
            // A library of functions without a graph.
            2 if message.each(1).next().is_some_and(is_function) => return Some(Kind::GraphDef),
            _ => {}
        }
    }
    let small = window.len() < 1024 && (4..=8).contains(&count);
    (small && numbers_only && whole.is_sound()).then_some(Kind::Fingerprint)
}

fn is_node(node: Message<'_, '_>) -> bool {
    let mut operator = false;
    let mut name = false;
    for field in node.fields().take(64) {
        match (field.number, field.message()) {
            (1, Some(text)) => name = is_name(&text.text(256)),
            (2, Some(text)) => operator = is_operator(&text.text(256)),
            (3..=7, Some(_)) | (8.., _) => {}
            _ => return false,
        }
    }
    name && operator
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '.' || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.\\/>-^:@".contains(c))
}

fn is_operator(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_>".contains(c))
}

fn is_graph(graph: Message<'_, '_>) -> bool {
    graph.fields().take(64).any(|field| {
        field.message().is_some_and(|message| match field.number {
            1 => is_node(message),
            2 => message.each(1).next().is_some_and(is_function),
            _ => false,
        })
    })
}

fn is_function(function: Message<'_, '_>) -> bool {
    function.each(1).next().and_then(|signature| signature.last(1)).is_some_and(|name| is_name(&name.text(1024)))
        && function.each(3).next().is_none_or(is_node)
}

fn is_meta_graph(meta: Message<'_, '_>) -> bool {
    meta.fields().take(1000).any(|field| field.number == 2 && field.message().is_some_and(is_graph))
}

pub fn scan(piece: &Piece<'_>, kind: Kind, context: &mut Context<'_>) -> Seen {
    let window = Window::new(piece.source);
    let whole = Message::whole(&window);
    let mut fields = whole.fields();
    match kind {
        Kind::SavedModel => {
            for meta in fields.by_ref().filter(|field| field.number == 2).filter_map(|field| field.message()) {
                meta_graph(piece, meta, context);
            }
        }
        Kind::MetaGraph => {
            fields.by_ref().for_each(drop);
            meta_graph(piece, whole, context);
        }
        Kind::GraphDef => {
            fields.by_ref().for_each(drop);
            judge(piece, whole, &[], context);
        }
        Kind::Fingerprint => return Seen { format: "tf-fingerprint", content: Content::Data },
    }
    if fields.is_broken() {
        format::tail(piece, fields.at(), context);
    }
    let format = match kind {
        Kind::GraphDef => "tf-graph",
        _ => "savedmodel",
    };
    Seen { format, content: Content::Code }
}

/// The graph, its assets, and the configurations that Keras leaves in the object graph.
fn meta_graph(piece: &Piece<'_>, meta: Message<'_, '_>, context: &mut Context<'_>) {
    let member = piece.member.as_deref();
    let mut assets = Vec::new();
    // AssetFileDef: the tensor that is fed, and the file's name.
    for asset in meta.each(6).take(100_000) {
        let name = asset.last(2).map(|name| name.text(TEXT_BYTES_MAX)).unwrap_or_default();
        if let Some(why) = text::leaves(&name) {
            let finding =
                Finding::new("SNS-305", Severity::High, format!("an asset outside the model's folder: {why}"));
            context.report(finding.member(member).text("file", &name).loaders(&["tf.saved_model.load"]));
        }
        assets.extend(asset.last(1).and_then(|tensor| tensor.last(1)).map(|tensor| tensor.text(1024)));
    }
    for graph in meta.each(2) {
        judge(piece, graph, &assets, context);
    }
    // SavedObjectGraph → nodes → SavedUserObject → metadata.
    for object in meta.each(7).flat_map(|objects| objects.each(1)) {
        if context.expired() {
            return;
        }
        for metadata in object.each(4).flat_map(|user| user.each(3)) {
            let bytes = metadata.bytes(4 << 20);
            if !keras::config::scan_text(&bytes, member, context) {
                text::scan("object metadata", &String::from_utf8_lossy(&bytes), member, context);
            }
        }
    }
}

fn judge(piece: &Piece<'_>, graph: Message<'_, '_>, assets: &[String], context: &mut Context<'_>) {
    let Some(graph) = Graph::read(graph, context, piece.member.as_deref()) else { return };
    for finding in op::judge(&graph, assets, piece.member.as_deref(), context) {
        context.report(finding.member(piece.member.as_deref()));
    }
}

#[cfg(test)]
pub mod tests;
