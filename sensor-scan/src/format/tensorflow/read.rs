//! Values of attributes and tensors that may be paths.

use super::TEXT_BYTES_MAX;
use crate::format::protobuf::Message;

/// Texts of one tensor or list that are kept.
const TEXTS_MAX: usize = 64;
/// `DT_STRING`.
const STRING: u64 = 7;

/// Texts of a TensorProto of strings; `None`: of another type.
pub fn tensor(tensor: Message<'_, '_>) -> Option<Vec<String>> {
    let kind = tensor.fields().filter(|field| field.number == 1).filter_map(|field| field.number()).last()?;
    if kind != STRING {
        return None;
    }
    let mut texts: Vec<String> = tensor.each(8).take(TEXTS_MAX).map(|text| text.text(TEXT_BYTES_MAX)).collect();
    if texts.is_empty()
        && let Some(content) = tensor.last(4)
    {
        texts = packed(&content.bytes(TEXT_BYTES_MAX));
    }
    Some(texts)
}

/// `tensor_content` of strings: lengths as varints, then the bytes of all.
fn packed(bytes: &[u8]) -> Vec<String> {
    // How many there are says the shape; for the paths that matter it is one.
    let mut length = 0_usize;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        length |= usize::from(byte & 0x7f).checked_shl(7 * at as u32).unwrap_or(0);
        at += 1;
        if byte & 0x80 == 0 || at > 4 {
            break;
        }
    }
    match bytes.get(at..at.saturating_add(length)) {
        Some(text) if at + length == bytes.len() => vec![String::from_utf8_lossy(text).into_owned()],
        _ => vec![String::from_utf8_lossy(bytes).into_owned()],
    }
}

/// Texts of an AttrValue: one, a list, or a tensor of them.
pub fn texts(value: Message<'_, '_>) -> Vec<String> {
    let mut texts = Vec::new();
    for field in value.fields() {
        let Some(message) = field.message() else { continue };
        match field.number {
            1 => texts.extend(message.each(2).take(TEXTS_MAX).map(|text| text.text(TEXT_BYTES_MAX))),
            2 => texts.push(message.text(TEXT_BYTES_MAX)),
            8 => texts.extend(tensor(message).unwrap_or_default()),
            _ => {}
        }
    }
    texts
}

/// Names of functions in an AttrValue.
pub fn functions(value: Message<'_, '_>) -> Vec<String> {
    let name = |function: Message<'_, '_>| function.last(1).map(|name| name.text(1024));
    let single = value.each(10).filter_map(name);
    let listed = value.each(1).flat_map(|list| list.each(9)).filter_map(name);
    single.chain(listed).take(TEXTS_MAX).collect()
}
