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
        && let Some(bytes) =
            hexadecimal(&compact).or_else(|| STANDARD.decode(&compact).or_else(|_| URL_SAFE.decode(&compact)).ok())
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

fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|char| Some(char.to_digit(16)? as u8)).collect();
    digits
        .filter(|digits| digits.len() % 2 == 0)
        .map(|digits| digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect())
}

/// Hydra's `_target_` in a JSON object at any depth, or as a key of YAML.
fn has_target(value: &str) -> bool {
    fn walk(value: &serde_json::Value) -> bool {
        match value {
            serde_json::Value::Object(map) => map.iter().any(|(key, value)| key == "_target_" || walk(value)),
            serde_json::Value::Array(items) => items.iter().any(walk),
            _ => false,
        }
    }
    let is_key = |line: &str| {
        let key = line.trim_start().trim_start_matches("- ").trim_matches(['"', '\'']);
        key.strip_prefix("_target_").is_some_and(|rest| rest.trim_start_matches(['"', '\'', ' ']).starts_with(':'))
    };
    if value.lines().any(is_key) {
        return true;
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
