//! Models and parts of models that are JSON texts, told by their own keys: Keras configurations, boosters, orbax
//! metadata, MXNet symbols, skops schemas, shard lists. Other JSON is no model.

mod other;

use crate::context::{Context, Piece};
use crate::format::json::{self, Json, TEXT_BYTES_MAX};
use crate::format::{Seen, booster, keras, skops};
use crate::report::Content;
use crate::slice::read;

/// Whether the bytes may be a JSON object.
pub fn claims(head: &[u8]) -> bool {
    let plain = json::narrow(head);
    let head = plain.as_deref().unwrap_or(head);
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let mut bytes = head.iter().filter(|byte| !byte.is_ascii_whitespace());
    bytes.next() == Some(&b'{') && matches!(bytes.next(), Some(b'"' | b'}'))
}

/// `None`: JSON of another kind, or no JSON.
pub fn scan(piece: &Piece<'_>, context: &mut Context<'_>) -> Option<Seen> {
    let member = piece.member.as_deref();
    let text = read(piece.source, 0, TEXT_BYTES_MAX + 1);
    if text.len() > TEXT_BYTES_MAX {
        // Boosters of this size are common; their texts stand at both ends, the numbers between them.
        return booster::scan_large_json(piece, context);
    }
    let Ok(json) = Json::parse(&text) else {
        return keras::config::scan_text(&text, member, context).then_some(KERAS);
    };
    if keras::config::is_config(&json) {
        keras::config::scan(&json, member, context);
        return Some(KERAS);
    }
    if skops::is_schema(&json) {
        skops::scan(&json, member, context);
        return Some(Seen { format: "skops-schema", content: Content::Code });
    }
    booster::scan_json(&json, member, context).or_else(|| other::scan(&json, piece, context))
}

const KERAS: Seen = Seen { format: "keras-config", content: Content::Code };
