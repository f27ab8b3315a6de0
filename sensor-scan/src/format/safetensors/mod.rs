//! safetensors: a length, a JSON header, raw tensors. It can't run code; what is checked is whether it is what it says.
//!
//! Reference: the `safetensors` crate's `SafeTensors::read_metadata`, and the format's README.

mod header;

use serde_json::Value as Json;

use crate::context::{Context, Piece};
use crate::finding::{Finding, Severity};
use crate::format::{self, Seen, text};
use crate::report::Content;
use crate::slice::read;
use header::{Entries, Header, Value};

/// Tensors whose first bytes are looked at.
const TENSORS_LOOKED_AT: usize = 10_000;
/// Pickles from protocol 2 on, and ELF.
const STARTS: [&[u8]; 5] = [b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"\x7fELF"];
/// The reference refuses longer headers.
const HEADER_BYTES_MAX: u64 = 100_000_000;
/// Longer headers are not parsed here; the largest known model needs some 10 MB.
const HEADER_BYTES_PARSED_MAX: u64 = 64 << 20;

pub fn scan(piece: &Piece<'_>, context: &mut Context<'_>) -> Seen {
    let len = piece.source.len();
    let fixed = read(piece.source, 0, 8);
    let header_bytes = fixed.first_chunk().map_or(u64::MAX, |bytes| u64::from_le_bytes(*bytes));
    let mut report = |severity, title: &str, detail: &str| {
        let finding = Finding::new("SNS-491", severity, title).member(piece.member.as_deref());
        context.report(if detail.is_empty() { finding } else { finding.text("detail", detail) });
    };

    let data_at = header_bytes.saturating_add(8);
    if header_bytes > HEADER_BYTES_MAX || data_at > len {
        report(
            Severity::Medium,
            "safetensors header is longer than the format or the file allows",
            &header_bytes.to_string(),
        );
        format::tail(piece, 8.min(len), context);
        return SEEN;
    }
    if header_bytes > HEADER_BYTES_PARSED_MAX {
        context.limit_reached("header_bytes", HEADER_BYTES_PARSED_MAX, piece.member.as_deref(), Some(8));
        return SEEN;
    }
    let text = read(piece.source, 8, header_bytes as usize);
    if text.first() != Some(&b'{') {
        report(Severity::Medium, "safetensors header does not start with a brace", "");
    }
    let header: Header = match serde_json::from_slice(&text) {
        Ok(header) => header,
        Err(error) => {
            report(Severity::Medium, "safetensors header is not the JSON that the format asks for", &error.to_string());
            format::tail(piece, data_at, context);
            return SEEN;
        }
    };
    for (severity, title, detail) in problems(&header, len - data_at) {
        report(severity, title, &detail);
    }
    let end = data_at.saturating_add(tensors(&header).filter_map(|(_, tensor)| tensor.data_end()).max().unwrap_or(0));
    if let Some(Value::Object(metadata)) = header.get("__metadata__") {
        for (key, value) in &metadata.0 {
            if let Json::String(value) = value {
                text::scan(&format!("__metadata__.{key}"), value, piece.member.as_deref(), context);
            }
        }
    }
    starts(piece, &header, data_at, context);
    if end < len {
        format::tail(piece, end, context);
    }
    SEEN
}

/// Tensors whose data starts like something that a loader executes: numbers are data, but who copies them out to a file
/// has the other thing.
fn starts(piece: &Piece<'_>, header: &Header, data_at: u64, context: &mut Context<'_>) {
    for (name, tensor) in tensors(header).take(TENSORS_LOOKED_AT) {
        let Some((start, end)) = tensor.offsets() else { continue };
        let (start, end) = (data_at.saturating_add(start), data_at.saturating_add(end).min(piece.source.len()));
        if start >= end || !STARTS.iter().any(|magic| read(piece.source, start, magic.len()) == *magic) {
            continue;
        }
        let member = format::member(piece.member.as_deref(), name.as_bytes());
        let data = Piece { source: piece.source, start, end, member: Some(member) };
        format::storage(&data, context);
    }
}

const SEEN: Seen = Seen { format: "safetensors", content: Content::Data };

/// Bits of an element, for the types that the reference knows.
fn bits(dtype: &str) -> Option<u64> {
    Some(match dtype {
        "F4" => 4,
        "F6_E2M3" | "F6_E3M2" => 6,
        "BOOL" | "U8" | "I8" | "F8_E5M2" | "F8_E4M3" | "F8_E8M0" | "F8_E5M2FNUZ" | "F8_E4M3FNUZ" => 8,
        "I16" | "U16" | "F16" | "BF16" => 16,
        "I32" | "U32" | "F32" => 32,
        "I64" | "U64" | "F64" | "C64" => 64,
        _ => return None,
    })
}

struct Tensor<'a>(&'a Entries<Json>);

impl Tensor<'_> {
    fn numbers(&self, key: &str) -> Option<Vec<u64>> {
        self.0.get(key)?.as_array()?.iter().map(Json::as_u64).collect()
    }

    fn offsets(&self) -> Option<(u64, u64)> {
        match self.numbers("data_offsets")?[..] {
            [start, end] if start <= end => Some((start, end)),
            _ => None,
        }
    }

    fn data_end(&self) -> Option<u64> {
        self.offsets().map(|(_, end)| end)
    }

    /// Bytes by dtype and shape; `None`: unknown dtype, no shape, overflow, or not a whole number of bytes.
    fn bytes(&self) -> Option<u64> {
        let bits = bits(self.0.get("dtype")?.as_str()?)?;
        let elements = self.numbers("shape")?.into_iter().try_fold(1_u64, u64::checked_mul)?;
        let bits = elements.checked_mul(bits)?;
        (bits % 8 == 0).then_some(bits / 8)
    }
}

fn tensors(header: &Header) -> impl Iterator<Item = (&str, Tensor<'_>)> {
    header.0.iter().filter(|(name, _)| name != "__metadata__").filter_map(|(name, value)| match value {
        Value::Object(entries) => Some((name.as_str(), Tensor(entries))),
        Value::Null(()) | Value::Other(_) => None,
    })
}

/// What the reference refuses, and what it loads though no writer makes it: the file was made by hand.
fn problems(header: &Header, data_bytes: u64) -> Vec<(Severity, &'static str, String)> {
    let mut problems = Vec::new();
    let mut add = |severity, title, detail: &str| problems.push((severity, title, detail.to_owned()));
    if let Some(name) = header.duplicate() {
        add(Severity::Medium, "safetensors header names a tensor twice", name);
    }
    let mut ranges = Vec::new();
    for (name, value) in &header.0 {
        match value {
            // The reference takes a null for no metadata at all.
            Value::Null(()) if name == "__metadata__" => {}
            Value::Null(()) | Value::Other(_) => {
                add(Severity::Medium, "safetensors header holds something that is no tensor", name);
            }
            Value::Object(metadata) if name == "__metadata__" => {
                if metadata.0.iter().any(|(_, value)| !value.is_string()) {
                    add(Severity::Medium, "safetensors metadata holds something that is no text", "");
                }
            }
            Value::Object(entries) => {
                let tensor = Tensor(entries);
                let (bytes, offsets) = (tensor.bytes(), tensor.offsets());
                match (bytes, offsets) {
                    (Some(bytes), Some((start, end))) if end - start == bytes => ranges.push((start, end, name)),
                    (_, Some((start, end))) => {
                        add(Severity::Medium, "safetensors tensor whose size is not that of its type and shape", name);
                        ranges.push((start, end, name));
                    }
                    (_, None) => add(Severity::Medium, "safetensors tensor without usable offsets", name),
                }
                if entries.duplicate().is_some() {
                    add(Severity::Medium, "safetensors tensor with a key that stands twice", name);
                }
                if entries.0.iter().any(|(key, _)| !matches!(key.as_str(), "dtype" | "shape" | "data_offsets")) {
                    add(Severity::Medium, "safetensors tensor with a key that the format does not know", name);
                }
            }
        }
    }
    ranges.sort_unstable();
    let mut at = 0;
    for (start, end, name) in ranges {
        match start.cmp(&at) {
            std::cmp::Ordering::Less => add(Severity::Medium, "safetensors tensors overlap", name),
            std::cmp::Ordering::Greater => add(Severity::Medium, "safetensors file with a hole before a tensor", name),
            std::cmp::Ordering::Equal => {}
        }
        at = at.max(end);
    }
    if at != data_bytes {
        let title = if at > data_bytes {
            "safetensors tensor beyond the end of the file"
        } else {
            "safetensors file with bytes behind the last tensor"
        };
        add(Severity::Medium, title, &format!("{at} of {data_bytes} bytes"));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn titles(header: &str, data_bytes: u64) -> Vec<(Severity, &'static str)> {
        let header: Header = serde_json::from_str(header).unwrap();
        problems(&header, data_bytes).into_iter().map(|(severity, title, _)| (severity, title)).collect()
    }

    #[test]
    fn a_file_as_the_reference_writes_it_has_no_problems() {
        let header = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},
            "b":{"dtype":"BOOL","shape":[],"data_offsets":[24,25]},"c":{"dtype":"F4","shape":[0],"data_offsets":[25,25]}}"#;
        assert_eq!(titles(header, 25), []);
        assert_eq!(titles("{}", 0), []);
    }

    #[test]
    fn each_lie_is_named() {
        for (header, bytes) in [
            (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}}"#, 8),
            (r#"{"a":{"dtype":"F99","shape":[1],"data_offsets":[0,8]}}"#, 8),
            (r#"{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,8]}}"#, 8),
            (r#"{"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,8]}}"#, 8),
            (r#"{"a":{"dtype":"U8","shape":[8],"data_offsets":[8,0]}}"#, 0),
            (r#"{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}}"#, 9),
            (r#"{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}}"#, 7),
            (r#"{"a":{"dtype":"U8","shape":[8],"data_offsets":[1,9]}}"#, 9),
            (
                r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}"#,
                3,
            ),
            (
                r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#,
                2,
            ),
            (r#"{"__metadata__":{"a":1}}"#, 0),
            (r#"{"a":[]}"#, 0),
        ] {
            assert!(titles(header, bytes).iter().any(|(severity, _)| *severity == Severity::Medium), "{header}");
        }
        let extra = r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1}}"#;
        assert_eq!(titles(extra, 1).first().map(|problem| problem.0), Some(Severity::Medium));
    }
}
