//! Where a tensor's data lies outside the model: keys and values of `external_data`.

use super::{TEXT_BYTES_MAX, report};
use crate::context::Context;
use crate::finding::Severity;
use crate::format::protobuf::Message;
use crate::format::text;

/// What onnxruntime writes in place of a path for tensors in its own memory: from a file, any address.
const MEMORY_ADDRESS: &str = "_ORT_MEM_ADDR_";
/// Keys of one tensor that are looked at.
const KEYS_MAX: usize = 1000;

/// Judges the entries of one tensor; `external` says that the tensor is marked as stored elsewhere.
pub fn scan(tensor: Message<'_, '_>, member: Option<&[u8]>, context: &mut Context<'_>) {
    for entry in tensor.each(13).take(KEYS_MAX) {
        let text_of = |number| entry.last(number).map(|text| text.text(TEXT_BYTES_MAX)).unwrap_or_default();
        let (key, value) = (text_of(1), text_of(2));
        let mut found = |id, severity, title: &str, detail: (&'static str, &str)| {
            report(id, severity, title, member, entry.start, context, detail);
        };
        match key.as_str() {
            "location" => {
                if value.contains(MEMORY_ADDRESS) {
                    found(
                        "SNS-461",
                        Severity::High,
                        "tensor data at an address of the reader's memory",
                        ("location", &value),
                    );
                } else if let Some(why) = text::leaves(&value) {
                    // A backslash is an ordinary letter but on Windows.
                    let everywhere = text::leaves(&value.replace('\\', "_")).is_some();
                    let severity = if everywhere { Severity::High } else { Severity::Medium };
                    found(
                        "SNS-461",
                        severity,
                        &format!("tensor data outside the model's folder: {why}"),
                        ("location", &value),
                    );
                }
            }
            "offset" | "length" => {
                if value.trim().parse::<u64>().is_err() {
                    found("SNS-461", Severity::Medium, "tensor data at a place that is no number", ("value", &value));
                }
            }
            "checksum" => {}
            _ => {
                let title = "a key of external data that the format does not know";
                found("SNS-463", Severity::Medium, title, ("key", &key));
                if text::leaves(&value).is_some() {
                    found(
                        "SNS-461",
                        Severity::Medium,
                        "a path under an unknown key of external data",
                        ("value", &value),
                    );
                }
            }
        }
    }
}
