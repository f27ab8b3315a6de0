//! CoreML: custom models and layers name a class of the host's application.
//!
//! Reference: Apple's `Model.proto` and `NeuralNetwork.proto`.

use super::report;
use crate::context::{Context, Piece};
use crate::finding::Severity;
use crate::format::protobuf::{Field, Message};
use crate::format::{self, text};

/// Models in pipelines in pipelines.
const DEPTH_MAX: u32 = 16;

/// A version, a description, and one of the model types.
pub fn claims(model: Message<'_, '_>) -> bool {
    let fields: Vec<Field<'_, '_>> = model.fields().take(64).collect();
    let version = fields
        .iter()
        .any(|field| field.number == 1 && field.number().is_some_and(|version| (1..100).contains(&version)));
    let kind = fields.iter().any(|field| field.message().is_some() && is_kind(field.number));
    let described = fields.iter().any(|field| field.number == 2 && field.message().is_some());
    version && kind && described
}

fn is_kind(number: u64) -> bool {
    matches!(number, 200..=202 | 300..=304 | 400..=404 | 500..=502 | 555..=560 | 600..=610 | 900 | 2000..=2010 | 3000)
}

pub fn scan(piece: &Piece<'_>, model: Message<'_, '_>, context: &mut Context<'_>) {
    let end = walk(piece, model, 0, context);
    if let Some(at) = end {
        format::tail(piece, at, context);
    }
}

/// One model; where it is malformed, says from where on.
fn walk(piece: &Piece<'_>, model: Message<'_, '_>, depth: u32, context: &mut Context<'_>) -> Option<u64> {
    let mut fields = model.fields();
    for field in fields.by_ref() {
        if context.expired() || depth > DEPTH_MAX {
            return None;
        }
        let Some(message) = field.message() else { continue };
        match field.number {
            2 => metadata(piece, message, context),
            200 | 201 => {
                for model in message.each(1).flat_map(|pipeline| pipeline.each(1)) {
                    walk(piece, model, depth + 1, context);
                }
            }
            202 => message.each(1).for_each(|model| {
                walk(piece, model, depth + 1, context);
            }),
            303 | 403 | 500 => {
                for layer in message.each(1) {
                    for custom in layer.each(500) {
                        class(piece, "a custom layer, whose class the host brings", custom, context);
                    }
                }
            }
            555 => class(piece, "a custom model, whose class the host brings", message, context),
            _ => {}
        }
    }
    fields.is_broken().then(|| fields.at())
}

fn class(piece: &Piece<'_>, title: &str, custom: Message<'_, '_>, context: &mut Context<'_>) {
    // Layers have the name in field 10, models in field 1.
    let name = custom.last(10).filter(|name| !name.text(256).is_empty()).or_else(|| custom.last(1));
    let name = name.map(|name| name.text(256)).unwrap_or_default();
    report("SNS-623", Severity::Medium, title, &name, piece, context);
}

/// ModelDescription → Metadata → texts of the author's own.
fn metadata(piece: &Piece<'_>, description: Message<'_, '_>, context: &mut Context<'_>) {
    for metadata in description.each(100) {
        for field in metadata.fields() {
            let Some(message) = field.message() else { continue };
            let value = if field.number == 100 { message.last(2) } else { Some(message) };
            if let Some(value) = value {
                text::scan("metadata", &value.text(64 << 10), piece.member.as_deref(), context);
            }
        }
    }
}
