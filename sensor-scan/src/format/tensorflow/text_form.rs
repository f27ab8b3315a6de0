//! Graphs in protobuf's text form (`saved_model.pbtxt`, `.pbtxt`), which TensorFlow loads as well.
//!
//! Operators are looked at one by one; a path counts where it stands as a text in the same file.

use super::op;
use crate::context::{Context, Piece};
use crate::finding::{Finding, Severity};
use crate::format::{Seen, keras, text};
use crate::report::Content;
use crate::slice::read;

/// Bytes that are read.
const TEXT_BYTES_MAX: usize = 64 << 20;
/// Tokens of one file.
const TOKENS_MAX: usize = 20_000_000;

/// A message field in braces, in a file that is named as a graph.
pub fn claims(head: &[u8], name: &[u8]) -> bool {
    let name = name.to_ascii_lowercase();
    (name.ends_with(b".pbtxt") || name.ends_with(b".pbtext") || name.ends_with(b".textproto"))
        && head.contains(&b'{')
        && !head.contains(&0)
}

/// `None`: no graph.
pub fn scan(piece: &Piece<'_>, context: &mut Context<'_>) -> Option<Seen> {
    let bytes = read(piece.source, 0, TEXT_BYTES_MAX);
    let member = piece.member.as_deref();
    if piece.source.len() > bytes.len() as u64 {
        context.limit_reached("text_bytes", TEXT_BYTES_MAX as u64, member, None);
    }
    let mut operators: Vec<(u64, String)> = Vec::new();
    let mut place: Option<String> = None;
    let mut key: &[u8] = b"";
    let mut at = 0;
    let mut nodes = false;
    for _ in 0..TOKENS_MAX {
        let Some(&byte) = bytes.get(at) else { break };
        match byte {
            b'"' | b'\'' => {
                let (value, end) = string(&bytes, at);
                match key {
                    b"op" => operators.push((at as u64, value)),
                    b"metadata" => {
                        keras::config::scan_text(value.as_bytes(), member, context);
                    }
                    b"string_val" | b"s" | b"tensor_content" if text::leaves(&value).is_some() => {
                        place.get_or_insert(value);
                    }
                    _ => {}
                }
                at = end;
            }
            b'#' => at += bytes[at..].iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len()),
            _ if byte.is_ascii_alphabetic() || byte == b'_' => {
                let len = bytes[at..].iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
                key = &bytes[at..at + len];
                nodes |= matches!(key, b"node" | b"node_def" | b"graph_def");
                at += len;
            }
            _ => at += 1,
        }
    }
    if !nodes {
        return None;
    }
    for (at, operator) in operators {
        let Some((id, severity)) = op::by_name(&operator, place.is_some()) else { continue };
        let finding = Finding::new(id, severity, format!("the operator {operator} touches files, addresses or Python"));
        let finding = finding.member(member).at(at).loaders(&["TensorFlow, when the function is called"]);
        context.report(match &place {
            Some(place) if severity >= Severity::Medium => finding.text("place", place),
            _ => finding,
        });
    }
    Some(Seen { format: "tf-graph", content: Content::Code })
}

/// A quoted text with C's escapes, and where it ends.
fn string(bytes: &[u8], start: usize) -> (String, usize) {
    let quote = bytes[start];
    let mut value = Vec::new();
    let mut at = start + 1;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            _ if byte == quote => break,
            b'\\' => {
                let digits: Vec<u8> =
                    bytes[at..].iter().take(3).take_while(|byte| matches!(byte, b'0'..=b'7')).copied().collect();
                if digits.is_empty() {
                    value.extend(bytes.get(at).map(|letter| match letter {
                        b'n' => b'\n',
                        b't' => b'\t',
                        other => *other,
                    }));
                    at += 1;
                } else {
                    at += digits.len();
                    value.push(
                        digits.iter().fold(0_u8, |number, digit| number.wrapping_mul(8).wrapping_add(digit - b'0')),
                    );
                }
            }
            _ => value.push(byte),
        }
    }
    (String::from_utf8_lossy(&value).into_owned(), at)
}

#[cfg(test)]
mod tests {
    use crate::source::MemorySource;
    use crate::{Limits, Policy, Verdict, scan as scan_file};

    fn judged(text: &str) -> (&'static str, Verdict) {
        let report =
            scan_file(&MemorySource::new(text.as_bytes(), b"g.pbtxt"), &Limits::default(), &Policy::standard());
        (report.format, report.verdict)
    }

    #[test]
    fn operators_and_paths() {
        let graph = |operator: &str, path: &str| {
            format!(
                "node {{\n  name: \"p\"\n  op: \"Const\"\n  attr {{ key: \"value\" value {{ tensor {{ string_val: \"{path}\" }} }} }}\n}}\nnode {{ name: \"x\" op: '{operator}' input: \"p\" }}\n"
            )
        };
        assert_eq!(judged(&graph("MatMul", "/tmp/x")), ("tf-graph", Verdict::Clean));
        assert_eq!(judged(&graph("SaveV2", "model")), ("tf-graph", Verdict::Clean));
        assert_eq!(judged(&graph("SaveV2", "\\057tmp/x")), ("tf-graph", Verdict::Malicious));
        assert_eq!(judged(&graph("WriteFile", "x")), ("tf-graph", Verdict::Malicious));
        assert_eq!(judged(&graph("\\127riteFile", "x")), ("tf-graph", Verdict::Malicious));
        assert_eq!(judged(&graph("ReadFile", "x")), ("tf-graph", Verdict::Suspicious));
        assert_eq!(judged("item {\n  id: 1\n  name: \"cat\"\n}\n"), ("other", Verdict::Clean));
    }
}
