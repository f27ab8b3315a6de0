//! Lengths, texts and typed values of the metadata.

use super::Malformed;
use crate::window::Window;

/// llama.cpp refuses longer texts.
const TEXT_BYTES_MAX: u64 = 1 << 30;
/// llama.cpp refuses longer arrays.
const ELEMENTS_MAX: u64 = 1 << 30;
/// Bytes of a text that are kept: chat templates are the longest that matter.
const TEXT_BYTES_KEPT: usize = 1 << 20;
/// Texts of an array that are kept: vocabularies have hundreds of thousands, templates come in handfuls.
const TEXTS_KEPT: usize = 64;

pub enum Value {
    Number(u64),
    Text(String),
    Texts(Vec<String>),
    Other,
}

pub struct Reader<'w, 's> {
    window: &'w Window<'s>,
    pub at: u64,
    big_endian: bool,
    version: u32,
}

impl<'w, 's> Reader<'w, 's> {
    /// Starts behind magic and version.
    pub fn new(window: &'w Window<'s>) -> Result<Self, Malformed> {
        let version = window.array(4).ok_or(Malformed::new(4, "GGUF ends within its header"))?;
        let (little, big) = (u32::from_le_bytes(version), u32::from_be_bytes(version));
        let big_endian = little & 0xffff == 0;
        let version = if big_endian { big } else { little };
        if !(1..=3).contains(&version) {
            return Err(Malformed::new(4, "GGUF version is none that is known"));
        }
        Ok(Self { window, at: 8, big_endian, version })
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let mut bytes = self.window.array(self.at).ok_or(Malformed::new(self.at, "GGUF ends within its metadata"))?;
        if self.big_endian {
            bytes.reverse();
        }
        self.at += N as u64;
        Ok(bytes)
    }

    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    /// Counts and lengths had 32 bits in version 1.
    pub fn count(&mut self) -> Result<u64, Malformed> {
        if self.version == 1 { self.u32().map(u64::from) } else { self.u64() }
    }

    /// Steps over a text and returns where it is.
    fn range(&mut self) -> Result<(u64, u64), Malformed> {
        let at = self.at;
        let len = self.count()?;
        let start = self.at;
        match start.checked_add(len) {
            Some(end) if len <= TEXT_BYTES_MAX && end <= self.window.len() => {
                self.at = end;
                Ok((start, end))
            }
            _ => Err(Malformed::new(at, "GGUF text is longer than the file or than llama.cpp allows")),
        }
    }

    pub fn text(&mut self) -> Result<String, Malformed> {
        let (start, end) = self.range()?;
        Ok(self.window.text(start, end, TEXT_BYTES_KEPT))
    }

    pub fn value(&mut self) -> Result<Value, Malformed> {
        let at = self.at;
        match self.u32()? {
            8 => self.text().map(Value::Text),
            9 => self.elements(at),
            kind => match width(kind) {
                Some(width) => {
                    let number = match width {
                        4 => self.u32()?.into(),
                        8 => self.u64()?,
                        _ => {
                            let number = self.window.uint(self.at, width);
                            self.at += u64::from(width);
                            number.ok_or(Malformed::new(at, "GGUF ends within its metadata"))?
                        }
                    };
                    Ok(Value::Number(number))
                }
                None => Err(Malformed::new(at, "GGUF value of a type that is not known")),
            },
        }
    }

    fn elements(&mut self, at: u64) -> Result<Value, Malformed> {
        let kind = self.u32()?;
        let count = self.count()?;
        if kind == 9 {
            return Err(Malformed::new(at, "GGUF array of arrays, which llama.cpp refuses"));
        }
        if kind == 8 {
            if count > ELEMENTS_MAX || count > self.window.len().saturating_sub(self.at) / 4 {
                return Err(Malformed::new(at, "GGUF array is longer than the file or than llama.cpp allows"));
            }
            let mut texts = Vec::new();
            for index in 0..count {
                let (start, end) = self.range()?;
                // The first ones, and whatever is long enough to be more than a token.
                if index < TEXTS_KEPT as u64 || end - start > 256 && texts.len() < 2 * TEXTS_KEPT {
                    texts.push(self.window.text(start, end, 4 << 10));
                }
            }
            return Ok(Value::Texts(texts));
        }
        let Some(width) = width(kind) else {
            return Err(Malformed::new(at, "GGUF array of a type that is not known"));
        };
        match count.checked_mul(width.into()).and_then(|bytes| self.at.checked_add(bytes)) {
            Some(end) if count <= ELEMENTS_MAX && end <= self.window.len() => self.at = end,
            _ => return Err(Malformed::new(at, "GGUF array is longer than the file or than llama.cpp allows")),
        }
        Ok(Value::Other)
    }
}

/// Bytes of a number or truth value, by its type.
fn width(kind: u32) -> Option<u8> {
    Some(match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        10..=12 => 8,
        _ => return None,
    })
}
