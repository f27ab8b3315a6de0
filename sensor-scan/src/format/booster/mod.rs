//! Gradient boosters: XGBoost (JSON, UBJSON, binary), LightGBM (text), CatBoost (`CBM1`, JSON).
//!
//! They are data. What is looked at: texts that wrappers evaluate or unpickle, and whether the bytes are what they say.

mod catboost;
mod ubjson;

use crate::context::{Context, Piece};
use crate::finding::{Finding, Severity};
use crate::format::json::Json;
use crate::format::{self, Seen, text};
use crate::report::Content;
use crate::slice::read;

pub use catboost::{MAGIC as CATBOOST_MAGIC, scan as scan_catboost};
pub use ubjson::{claims as claims_ubjson, scan as scan_ubjson};

/// Bytes at both ends of a large model that are searched for texts.
const ENDS_BYTES: usize = 4 << 20;

/// One text of a booster; a payload is reported under the boosters' own id.
fn judge(key: &str, value: &str, member: Option<&[u8]>, context: &mut Context<'_>) {
    if text::active(value).is_some() {
        let finding = Finding::new("SNS-495", Severity::Medium, "a text of the booster is code");
        let finding = finding.member(member).text("key", key).text("value", value);
        context.report(finding.loaders(&["wrappers that evaluate it"]));
        return;
    }
    // scikit-learn wrappers put JSON into an attribute.
    if value.starts_with('{')
        && let Ok(json) = Json::parse(value.as_bytes())
    {
        texts(&json, member, context);
        return;
    }
    text::scan(key, value, member, context);
}

fn texts(json: &Json, member: Option<&[u8]>, context: &mut Context<'_>) {
    let mut found: Vec<(&str, &str)> = Vec::new();
    json.walk(&mut |key, value| found.extend(value.str().filter(|text| text.len() > 8).map(|text| (key, text))));
    for (key, value) in found {
        // Nested JSON of nested JSON is text again: one level is what wrappers write.
        if value.starts_with('{') || text::active(value).is_none() {
            text::scan(key, value, member, context);
        } else {
            judge(key, value, member, context);
        }
    }
}

/// `None`: no booster.
pub fn scan_json(json: &Json, member: Option<&[u8]>, context: &mut Context<'_>) -> Option<Seen> {
    let format =
        if json.get("learner").is_some() || json.get("Model").is_some_and(|model| model.get("learner").is_some()) {
            "xgboost"
        } else if json.get("oblivious_trees").is_some()
            || json.get("features_info").is_some() && json.get("model_info").is_some()
        {
            "catboost"
        } else if json.get("tree_info").is_some() && json.get("feature_names").is_some() {
            "lightgbm"
        } else {
            return None;
        };
    texts(json, member, context);
    for (key, value) in
        json.get("learner").and_then(|learner| learner.get("attributes")).map(Json::entries).unwrap_or_default()
    {
        if let Some(value) = value.str() {
            judge(key, value, member, context);
        }
    }
    Some(Seen { format, content: Content::Data })
}

/// A JSON text that is too large for a tree: recognised by its first keys; the texts at its ends are looked at.
pub fn scan_large_json(piece: &Piece<'_>, context: &mut Context<'_>) -> Option<Seen> {
    let head = read(piece.source, 0, ENDS_BYTES);
    let head = String::from_utf8_lossy(&head);
    let start: String = head.chars().take(4096).filter(|char| !char.is_whitespace()).collect();
    let format = if start.contains("\"learner\":{") {
        "xgboost"
    } else if start.contains("\"features_info\":") || start.contains("\"oblivious_trees\":") {
        "catboost"
    } else {
        return None;
    };
    let tail = read(piece.source, piece.source.len().saturating_sub(ENDS_BYTES as u64), ENDS_BYTES);
    for part in [head.as_ref(), &String::from_utf8_lossy(&tail)] {
        judge("text", part, piece.member.as_deref(), context);
    }
    context.limit_reached("json_bytes", format::json::TEXT_BYTES_MAX as u64, piece.member.as_deref(), None);
    Some(Seen { format, content: Content::Data })
}

/// Whether the text is a LightGBM model.
pub fn claims_lightgbm(head: &[u8]) -> bool {
    head.starts_with(b"tree\nversion=v") || head.starts_with(b"tree\r\nversion=v")
}

/// LightGBM's own text: `key=value` lines, trees, parameters.
pub fn scan_lightgbm(piece: &Piece<'_>, context: &mut Context<'_>) -> Seen {
    const LINE_BYTES_MAX: usize = 1 << 20;
    let mut line: Vec<u8> = Vec::new();
    let member = piece.member.as_deref();
    crate::slice::for_each_piece(piece.source, 0, piece.source.len(), |_, bytes| {
        for byte in bytes {
            if *byte == b'\n' {
                lightgbm_line(&line, member, context);
                line.clear();
            } else if line.len() < LINE_BYTES_MAX {
                line.push(*byte);
            }
        }
        !context.expired()
    });
    lightgbm_line(&line, member, context);
    Seen { format: "lightgbm", content: Content::Data }
}

fn lightgbm_line(line: &[u8], member: Option<&[u8]>, context: &mut Context<'_>) {
    // Lines of numbers need no look.
    let letters = line.iter().filter(|byte| byte.is_ascii_alphabetic()).count();
    if letters < 8 {
        return;
    }
    let line = String::from_utf8_lossy(line);
    let (key, value) = line.split_once('=').unwrap_or(("text", &line));
    judge(key, value, member, context);
}

/// Whether the bytes are XGBoost's binary format, which versions before 3.1 write.
pub fn claims_xgboost_binary(head: &[u8]) -> bool {
    head.starts_with(b"binf")
        || head.starts_with(b"bs64")
        // LearnerModelParam: 136 bytes, then the objective's and the booster's name, each with its length.
        || head.len() > 160 && name_at(head, 136).is_some_and(|(name, next)| {
            (name.contains(':') || name.starts_with("rank") || name.starts_with("count"))
                && name_at(head, next).is_some_and(|(name, _)| matches!(name, "gbtree" | "gblinear" | "dart"))
        })
}

fn name_at(head: &[u8], at: usize) -> Option<(&str, usize)> {
    let length = u64::from_le_bytes(*head.get(at..)?.first_chunk()?);
    let end = at + 8 + usize::try_from(length).ok().filter(|length| (1..64).contains(length))?;
    Some((std::str::from_utf8(head.get(at + 8..end)?).ok()?, end))
}

/// XGBoost's binary format: trees as raw structures, attributes as texts at the end.
pub fn scan_xgboost_binary(piece: &Piece<'_>, context: &mut Context<'_>) -> Seen {
    let tail = read(piece.source, piece.source.len().saturating_sub(64 << 10), 64 << 10);
    for part in tail.split(|byte| !(byte.is_ascii_graphic() || *byte == b' ')).filter(|part| part.len() > 8) {
        judge("attributes", &String::from_utf8_lossy(part), piece.member.as_deref(), context);
    }
    Seen { format: "xgboost", content: Content::Data }
}

#[cfg(test)]
pub mod tests;
