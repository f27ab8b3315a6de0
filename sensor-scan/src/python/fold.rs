//! Calls whose result follows from constants: the ways in which source hides a text or a name.

use std::io::Read as _;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};

use super::value::{CONSTANT_BYTES_MAX, DECODED, ITEMS_MAX, Value, What, module_of};
use crate::format::compressed::codec::Codec;
use crate::source::MemorySource;

/// What a call of `module.name` gives; `None` where nothing better than "unknown" is known.
pub fn function(module: &str, name: &str, arguments: &[Value]) -> Option<Value> {
    let first = arguments.first();
    let origin = arguments.iter().fold(0, |all, argument| all | argument.origin);
    let found = match (module, name) {
        ("builtins", "chr") => {
            let code = first?.as_number()?;
            Value::text(char::from_u32(u32::try_from(code).ok()?)?.to_string())
        }
        ("builtins", "ord") => match &first?.what {
            What::Text(text) => Value::number(i64::from(u32::from(text.chars().next()?))),
            What::Bytes(bytes) => Value::number(i64::from(*bytes.first()?)),
            _ => return None,
        },
        ("builtins", "str") => match &first?.what {
            What::Text(_) => first?.clone(),
            What::Bytes(bytes) => Value::text(String::from_utf8_lossy(bytes)),
            What::Number(number) => Value::text(number.to_string()),
            _ => return None,
        },
        ("builtins", "int") => match &first?.what {
            What::Number(_) => first?.clone(),
            What::Text(text) => {
                let radix = arguments.get(1).and_then(Value::as_number).unwrap_or(10);
                let digits = text.trim().trim_start_matches("0x").trim_start_matches("0b").trim_start_matches("0o");
                Value::number(
                    i64::from_str_radix(digits, u32::try_from(radix).ok().filter(|r| (2..=36).contains(r))?).ok()?,
                )
            }
            _ => return None,
        },
        ("builtins", "bytes" | "bytearray") => match &first?.what {
            What::Text(text) => Value::bytes(text.as_bytes()),
            What::Bytes(_) => first?.clone(),
            What::List(items) => Value::bytes(&numbers(items)?),
            _ => return None,
        },
        ("builtins", "list" | "tuple" | "set" | "iter" | "sorted" | "memoryview") => first?.clone(),
        ("builtins", "reversed") => first?.slice([None, None, Some(-1)]),
        ("builtins", "bytes.fromhex" | "bytearray.fromhex") => {
            Value::bytes(&hexadecimal(&first?.as_text()?)?).with(DECODED)
        }
        ("builtins", "range") => {
            let bounds: Option<Vec<i64>> = arguments.iter().map(Value::as_number).collect();
            let (start, stop, step) = match bounds?[..] {
                [stop] => (0, stop, 1),
                [start, stop] => (start, stop, 1),
                [start, stop, step] if step > 0 => (start, stop, step),
                _ => return None,
            };
            if stop.saturating_sub(start) / step > ITEMS_MAX as i64 {
                return None;
            }
            let mut items = Vec::new();
            let mut at = start;
            while at < stop {
                items.push(Value::number(at));
                at = at.checked_add(step)?;
            }
            Value::list(items)
        }
        ("builtins", "map") => {
            let (What::Global(module, name), What::List(items)) = (&first?.what, &arguments.get(1)?.what) else {
                return None;
            };
            let mapped: Option<Vec<Value>> =
                items.iter().map(|item| function(module, name, std::slice::from_ref(item))).collect();
            Value::list(mapped?)
        }
        ("builtins", "__import__") | ("importlib", "import_module") => {
            let name = first?.as_text()?;
            // `__import__("a.b")` gives `a`.
            let top = name.split('.').next().unwrap_or(&name).to_owned();
            module_of(if module == "builtins" && arguments.len() < 4 { &top } else { &name })
        }
        ("builtins", "getattr") => {
            let name = arguments.get(1)?;
            match name.as_text() {
                Some(name) => first?.attribute(&name),
                None => match &first?.what {
                    What::Global(module, path) if path.is_empty() => {
                        Value::global(module, "?").with(super::value::DYNAMIC)
                    }
                    _ => return None,
                },
            }
        }
        ("builtins", "vars") => match &first.map(|first| &first.what) {
            Some(What::Global(module, path)) if path.is_empty() => Value::global(module, "__dict__"),
            None => Value::global("builtins", "globals()"),
            _ => return None,
        },
        ("pkgutil", "resolve_name") | ("pydoc", "locate") => {
            let path = first?.as_text()?.replace(':', ".");
            let (module, name) = path.rsplit_once('.')?;
            module_of(module).attribute(name)
        }
        ("operator", "attrgetter()") => return None,
        ("base64", name) if name.ends_with("decode") || name == "decodebytes" || name == "decodestring" => {
            decode_base(name, &first?.as_text()?)?.with(DECODED)
        }
        ("binascii", "a2b_base64") => decode_base("b64decode", &first?.as_text()?)?.with(DECODED),
        ("binascii", "unhexlify" | "a2b_hex") => Value::bytes(&hexadecimal(&first?.as_text()?)?).with(DECODED),
        ("codecs", "decode" | "encode") => {
            let codec = arguments.get(1).and_then(Value::as_text).unwrap_or_default();
            coded(first?, &codec)?
        }
        ("zlib", "decompress") => decompressed(first?, &[Codec::Zlib, Codec::Deflate, Codec::Gzip])?,
        ("gzip", "decompress") => decompressed(first?, &[Codec::Gzip])?,
        ("bz2", "decompress") => decompressed(first?, &[Codec::Bzip2])?,
        ("lzma", "decompress") => decompressed(first?, &[Codec::Xz, Codec::Lzma])?,
        ("os", "path.join") | ("posixpath", "join") => {
            let parts: Option<Vec<String>> = arguments.iter().map(Value::as_text).collect();
            let parts = parts?;
            let from = parts.iter().rposition(|part| part.starts_with('/')).unwrap_or(0);
            Value::text(parts[from..].join("/"))
        }
        ("os" | "posixpath", "path.expanduser" | "expanduser" | "path.abspath" | "abspath") => first?.clone(),
        ("pathlib", "Path" | "PosixPath" | "PurePath") => return None,
        _ => return None,
    };
    Some(found.with(origin))
}

/// What a method of a constant gives.
pub fn method(of: &Value, name: &str, arguments: &[Value]) -> Option<Value> {
    let first = arguments.first();
    let origin = arguments.iter().fold(of.origin, |all, argument| all | argument.origin);
    let found = match (&of.what, name) {
        (What::Text(text), "join") => {
            let What::List(items) = &first?.what else { return None };
            let parts: Option<Vec<String>> = items.iter().map(Value::as_text).collect();
            let parts = parts?;
            if parts.iter().map(|part| part.len() + text.len()).sum::<usize>() > CONSTANT_BYTES_MAX {
                return None;
            }
            Value::text(parts.join(text))
        }
        (What::Bytes(bytes), "join") => {
            let What::List(items) = &first?.what else { return None };
            let parts: Option<Vec<Vec<u8>>> = items
                .iter()
                .map(|item| if let What::Bytes(part) = &item.what { Some(part.to_vec()) } else { None })
                .collect();
            Value::bytes(&parts?.join(&**bytes))
        }
        (What::Text(_) | What::Bytes(_), "decode" | "encode") => {
            let codec = first.and_then(Value::as_text).unwrap_or_default();
            coded(of, &codec)?
        }
        (What::Text(text), "replace") => {
            let (from, to) = (first?.as_text()?, arguments.get(1)?.as_text()?);
            if from.is_empty() || text.matches(&from).count().saturating_mul(to.len()) > CONSTANT_BYTES_MAX {
                return None;
            }
            Value::text(text.replace(&from, &to))
        }
        (What::Text(text), "lower" | "casefold") => Value::text(text.to_lowercase()),
        (What::Text(text), "upper") => Value::text(text.to_uppercase()),
        (What::Text(text), "swapcase") => Value::text(
            text.chars()
                .map(|c| if c.is_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() })
                .collect::<String>(),
        ),
        (What::Text(text), "strip") if arguments.is_empty() => Value::text(text.trim()),
        (What::Bytes(bytes), "strip") => Value::bytes(bytes.trim_ascii()),
        (What::Bytes(bytes), "hex") => Value::text(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
        (What::Text(text), "split") => {
            let parts: Vec<Value> = match first.and_then(Value::as_text) {
                Some(separator) if !separator.is_empty() => text.split(&separator).map(Value::text).collect(),
                _ => text.split_whitespace().map(Value::text).collect(),
            };
            Value::list(parts)
        }
        (What::Text(text), "format") => {
            let mut out = text.to_string();
            for (index, argument) in arguments.iter().take(64).enumerate() {
                let value = argument.as_text().or_else(|| argument.as_number().map(|number| number.to_string()))?;
                let numbered = format!("{{{index}}}");
                out = if out.contains(&numbered) {
                    out.replace(&numbered, &value)
                } else {
                    out.replacen("{}", &value, 1)
                };
                if out.len() > CONSTANT_BYTES_MAX {
                    return None;
                }
            }
            Value::text(out)
        }
        _ => return None,
    };
    Some(found.with(origin))
}

/// `format % values`.
pub fn percent(format: &str, values: &Value) -> Option<Value> {
    let values: &[Value] = match &values.what {
        What::List(items) => items,
        _ => std::slice::from_ref(values),
    };
    let mut values = values.iter();
    let (mut out, mut rest) = (String::new(), format);
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let behind = &rest[at + 1..];
        let kind = behind.chars().next()?;
        match kind {
            '%' => out.push('%'),
            's' | 'r' | 'd' | 'i' => {
                let value = values.next()?;
                out.push_str(&value.as_text().or_else(|| value.as_number().map(|number| number.to_string()))?);
            }
            'c' => {
                let value = values.next()?;
                match value.as_number() {
                    Some(code) => out.push(char::from_u32(u32::try_from(code).ok()?)?),
                    None => out.push_str(&value.as_text()?),
                }
            }
            _ => return None,
        }
        if out.len() > CONSTANT_BYTES_MAX {
            return None;
        }
        rest = &behind[kind.len_utf8()..];
    }
    out.push_str(rest);
    Some(Value::text(out))
}

fn numbers(items: &[Value]) -> Option<Vec<u8>> {
    items.iter().map(|item| item.as_number().and_then(|number| u8::try_from(number).ok())).collect()
}

fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().filter(|char| !char.is_whitespace()).map(|char| Some(char.to_digit(16)? as u8)).collect();
    let digits = digits?;
    (digits.len() % 2 == 0).then(|| digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

fn decode_base(name: &str, text: &str) -> Option<Value> {
    let lenient = GeneralPurposeConfig::new()
        .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    // As Python: what is not in the alphabet is left out.
    let compact: String = text.chars().filter(|c| c.is_ascii_alphanumeric() || "+/-_".contains(*c)).collect();
    let bytes = match name {
        "b64decode" | "standard_b64decode" | "decodebytes" | "decodestring" | "urlsafe_b64decode" => {
            let plain = compact.replace('-', "+").replace('_', "/");
            GeneralPurpose::new(&alphabet::STANDARD, lenient).decode(plain).ok()?
        }
        "b16decode" => hexadecimal(text)?,
        "b32decode" => base32(text)?,
        "b85decode" | "a85decode" => base85(name == "a85decode", text)?,
        _ => return None,
    };
    Some(Value::bytes(&bytes))
}

fn base32(text: &str) -> Option<Vec<u8>> {
    let (mut out, mut bits, mut held) = (Vec::new(), 0_u32, 0_u64);
    for char in text.to_ascii_uppercase().chars().filter(|char| *char != '=' && !char.is_whitespace()) {
        let value = match char {
            'A'..='Z' => u64::from(u32::from(char) - u32::from('A')),
            '2'..='7' => u64::from(u32::from(char) - u32::from('2')) + 26,
            _ => return None,
        };
        held = (held << 5 | value) & 0xffff;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            out.push((held >> bits) as u8);
        }
    }
    Some(out)
}

fn base85(ascii: bool, text: &str) -> Option<Vec<u8>> {
    const RFC1924: &str = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~";
    let digits: Option<Vec<u64>> = text
        .chars()
        .filter(|char| !char.is_whitespace())
        .map(|char| {
            let digit = if ascii { u32::from(char).checked_sub(33)? as usize } else { RFC1924.find(char)? };
            (digit < 85).then_some(digit as u64)
        })
        .collect();
    let digits = digits?;
    let mut out = Vec::new();
    for group in digits.chunks(5) {
        let value = (0..5).fold(0_u64, |value, at| value * 85 + group.get(at).copied().unwrap_or(84));
        let bytes = u32::try_from(value).ok()?.to_be_bytes();
        out.extend_from_slice(bytes.get(..group.len().checked_sub(1)?)?);
    }
    Some(out)
}

/// `x.decode(codec)`, `codecs.encode(x, codec)`.
fn coded(value: &Value, codec: &str) -> Option<Value> {
    let codec = codec.to_ascii_lowercase().replace('_', "-");
    let found = match codec.as_str() {
        "rot13" | "rot-13" => {
            let turn = |c: char| match c {
                'a'..='z' => char::from((c as u8 - b'a' + 13) % 26 + b'a'),
                'A'..='Z' => char::from((c as u8 - b'A' + 13) % 26 + b'A'),
                other => other,
            };
            Value::text(value.as_text()?.chars().map(turn).collect::<String>()).with(DECODED)
        }
        "hex" | "hex-codec" => Value::bytes(&hexadecimal(&value.as_text()?)?).with(DECODED),
        "base64" | "base64-codec" => decode_base("b64decode", &value.as_text()?)?.with(DECODED),
        "zlib" | "zip" | "zlib-codec" => decompressed(value, &[Codec::Zlib])?,
        "bz2" | "bz2-codec" => decompressed(value, &[Codec::Bzip2])?,
        _ => match &value.what {
            What::Bytes(bytes) => Value::text(String::from_utf8_lossy(bytes)),
            What::Text(text) => Value::bytes(text.as_bytes()),
            _ => return None,
        },
    };
    Some(found.with(value.origin))
}

fn decompressed(value: &Value, codecs: &[Codec]) -> Option<Value> {
    let What::Bytes(bytes) = &value.what else { return None };
    for codec in codecs {
        let source = MemorySource::new(bytes, b"");
        let mut out = Vec::new();
        let read = codec.open(&source).0.take(CONSTANT_BYTES_MAX as u64 + 1).read_to_end(&mut out);
        if read.is_ok() && !out.is_empty() {
            return Some(Value::bytes(&out).with(DECODED | value.origin));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_undone() {
        let call = |module, name, argument: Value| function(module, name, &[argument]).unwrap().as_text().unwrap();
        assert_eq!(call("base64", "b64decode", Value::text("aGVsbG8")), "hello");
        assert_eq!(call("base64", "b32decode", Value::text("NBSWY3DP")), "hello");
        assert_eq!(call("base64", "b85decode", Value::text("Xk~0{Zv")), "hello");
        assert_eq!(call("base64", "a85decode", Value::text("BOu!rDZ")), "hello");
        assert_eq!(call("builtins", "bytes.fromhex", Value::text("68 65")), "he");
        let rot = function("codecs", "decode", &[Value::text("uryyb"), Value::text("rot13")]).unwrap();
        assert_eq!((rot.as_text().unwrap().as_str(), rot.origin), ("hello", DECODED));
        let list = Value::list(vec![Value::text("a"), Value::text("b")]);
        assert_eq!(method(&Value::text("-"), "join", &[list]).unwrap().as_text().unwrap(), "a-b");
        let values = Value::list(vec![Value::text("o"), Value::number(115)]);
        assert_eq!(percent("%s%c%%", &values).unwrap().as_text().unwrap(), "os%");
    }
}
