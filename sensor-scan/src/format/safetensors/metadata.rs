//! Texts of `__metadata__`: data for safetensors, but some consumers evaluate, unpickle or instantiate them.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

use crate::context::{Context, Piece};
use crate::finding::{Finding, Severity};
use crate::format::{self, stream};
use crate::source::MemorySource;

/// The shortest pickle that calls something takes some twenty bytes.
const ENCODED_BYTES_MIN: usize = 24;

pub fn scan(key: &str, value: &str, member: Option<&[u8]>, context: &mut Context<'_>) {
    let compact: String = value.split_ascii_whitespace().collect();
    if compact.len() >= ENCODED_BYTES_MIN
        && let Ok(bytes) = STANDARD.decode(&compact).or_else(|_| URL_SAFE.decode(&compact))
    {
        let source = MemorySource::new(&bytes, key.as_bytes());
        let name = format::member(member, format!("__metadata__.{key}").as_bytes());
        let piece = Piece { source: &source, start: 0, end: bytes.len() as u64, member: Some(name) };
        if stream::looks_like(&piece) {
            context.nested(&piece);
            let finding = Finding::new("SNS-110", Severity::Medium, "a pickle is hidden in the metadata");
            context.report(finding.member(member).text("key", key));
            return;
        }
    }
    if is_call(value) {
        let finding = Finding::new("SNS-521", Severity::Medium, "the metadata holds Python code");
        context.report(
            finding
                .member(member)
                .text("key", key)
                .text("value", value)
                .loaders(&["a consumer that evaluates metadata"]),
        );
    } else if has_target(value) {
        let finding = Finding::new("SNS-521", Severity::Medium, "the metadata names a callable to be instantiated");
        context
            .report(finding.member(member).text("key", key).text("value", value).loaders(&["hydra.utils.instantiate"]));
    }
}

/// A Python expression that calls a name between two double underscores, or walks through one: `__import__('os')`,
/// `().__class__.__bases__`.
fn is_call(value: &str) -> bool {
    let mut rest = value;
    while let Some(at) = rest.find("__") {
        rest = &rest[at + 2..];
        let name_len = rest.bytes().take_while(|byte| byte.is_ascii_lowercase()).count();
        if name_len > 0
            && let Some(behind) = rest[name_len..].strip_prefix("__")
            && behind.trim_start().starts_with(['(', '.', '['])
        {
            return true;
        }
    }
    false
}

/// A JSON object with Hydra's `_target_` at any depth.
fn has_target(value: &str) -> bool {
    fn walk(value: &serde_json::Value) -> bool {
        match value {
            serde_json::Value::Object(map) => map.iter().any(|(key, value)| key == "_target_" || walk(value)),
            serde_json::Value::Array(items) => items.iter().any(walk),
            _ => false,
        }
    }
    value.trim_start().starts_with(['{', '[']) && serde_json::from_str(value).is_ok_and(|value| walk(&value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_and_targets_are_told_from_prose() {
        assert!(is_call("__import__('os').system('id')"));
        assert!(is_call("().__class__.__bases__[0]"));
        assert!(!is_call("weights of __main__ model, see __init__ of the class"));
        assert!(!is_call("pt"));
        assert!(has_target(r#"{"model": [{"_target_": "os.system", "command": "id"}]}"#));
        assert!(!has_target(r#"{"target": "_target_"}"#));
    }
}
