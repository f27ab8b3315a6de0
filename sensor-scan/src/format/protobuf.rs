//! Protocol buffers without a schema: fields one by one, nothing held but positions.
//!
//! Reference: the encoding guide of protobuf. A reader here asks for field numbers that it knows and skips the rest, as
//! every protobuf runtime does: unknown fields before, between and behind the known ones hide nothing.

use crate::window::Window;

/// A length-delimited range: a message, a text or bytes, as its reader decides.
#[derive(Clone, Copy)]
pub struct Message<'w, 's> {
    pub window: &'w Window<'s>,
    /// First byte.
    pub start: u64,
    /// Behind the last byte.
    pub end: u64,
}

#[derive(Clone, Copy)]
pub enum Value<'w, 's> {
    Number(u64),
    Message(Message<'w, 's>),
    /// The start or the end of a group, which proto2 had: what is inside follows as fields.
    Group,
}

#[derive(Clone, Copy)]
pub struct Field<'w, 's> {
    pub number: u64,
    /// Offset of the field's key.
    pub at: u64,
    pub value: Value<'w, 's>,
}

impl<'w, 's> Field<'w, 's> {
    /// The range, where the field has one.
    pub fn message(&self) -> Option<Message<'w, 's>> {
        match self.value {
            Value::Message(message) => Some(message),
            Value::Number(_) | Value::Group => None,
        }
    }

    pub fn number(&self) -> Option<u64> {
        match self.value {
            Value::Number(number) => Some(number),
            Value::Message(_) | Value::Group => None,
        }
    }
}

impl<'w, 's> Message<'w, 's> {
    pub fn whole(window: &'w Window<'s>) -> Self {
        Self { window, start: 0, end: window.len() }
    }

    pub fn fields(self) -> Fields<'w, 's> {
        Fields { message: self, at: self.start, broken: false }
    }

    /// The ranges of one field number, in order.
    pub fn each(self, number: u64) -> impl Iterator<Item = Message<'w, 's>> {
        self.fields().filter(move |field| field.number == number).filter_map(|field| field.message())
    }

    /// The last range of one field number: what a runtime keeps of a singular text.
    pub fn last(self, number: u64) -> Option<Message<'w, 's>> {
        self.each(number).last()
    }

    /// As text of at most `max` bytes, what is no UTF-8 replaced.
    pub fn text(&self, max: usize) -> String {
        self.window.text(self.start, self.end, max)
    }

    pub fn bytes(&self, max: usize) -> Vec<u8> {
        self.window.bytes(self.start, self.end, max)
    }

    /// Every field is well formed to the end.
    pub fn is_sound(self) -> bool {
        let mut fields = self.fields();
        fields.by_ref().for_each(drop);
        !fields.broken
    }
}

/// Fields of a message, up to its end or to the first that is malformed.
pub struct Fields<'w, 's> {
    message: Message<'w, 's>,
    at: u64,
    broken: bool,
}

impl Fields<'_, '_> {
    /// Where the first malformed field starts, or the end.
    pub fn at(&self) -> u64 {
        self.at
    }

    pub fn is_broken(&self) -> bool {
        self.broken
    }

    fn varint(&self, at: &mut u64) -> Option<u64> {
        let mut number = 0_u64;
        for index in 0..10 {
            if *at >= self.message.end {
                return None;
            }
            let byte = self.message.window.u8(*at)?;
            *at += 1;
            number |= u64::from(byte & 0x7f).checked_shl(7 * index)?;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }
}

impl<'w, 's> Iterator for Fields<'w, 's> {
    type Item = Field<'w, 's>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.broken || self.at >= self.message.end {
            return None;
        }
        let mut at = self.at;
        let mut one = || {
            let key = self.varint(&mut at)?;
            let window = self.message.window;
            let value = match key & 7 {
                0 => Value::Number(self.varint(&mut at)?),
                1 => {
                    let number = window.u64(at)?;
                    at += 8;
                    Value::Number(number)
                }
                2 => {
                    let len = self.varint(&mut at)?;
                    let start = at;
                    at = at.checked_add(len)?;
                    Value::Message(Message { window, start, end: at })
                }
                3 | 4 => Value::Group,
                5 => {
                    let number = window.u32(at)?;
                    at += 4;
                    Value::Number(number.into())
                }
                _ => return None,
            };
            (key >> 3 > 0 && key >> 3 < 1 << 29 && at <= self.message.end).then_some(Field {
                number: key >> 3,
                at: self.at,
                value,
            })
        };
        match one() {
            Some(field) => {
                self.at = at;
                Some(field)
            }
            None => {
                self.broken = true;
                None
            }
        }
    }
}

#[cfg(test)]
pub mod testing {
    //! Messages for the tests of the formats.

    pub fn varint(mut number: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while number >= 0x80 {
            bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        bytes.push(number as u8);
        bytes
    }

    pub fn number(field: u64, value: u64) -> Vec<u8> {
        [varint(field << 3), varint(value)].concat()
    }

    pub fn bytes(field: u64, value: impl AsRef<[u8]>) -> Vec<u8> {
        let value = value.as_ref();
        [varint(field << 3 | 2), varint(value.len() as u64), value.to_vec()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{bytes, number};
    use super::*;
    use crate::source::MemorySource;

    #[test]
    fn fields_end_where_they_are_malformed() {
        let good = [number(1, 8), bytes(2, "ab"), vec![0x1d, 1, 0, 0, 0]].concat();
        for (tail, broken) in [(&b""[..], false), (b"\x7fELF", true), (b"\x12\x05a", true), (b"\x00", true)] {
            let all = [&good[..], tail].concat();
            let source = MemorySource::new(&all, b"");
            let window = Window::new(&source);
            let mut fields = Message::whole(&window).fields();
            let numbers: Vec<u64> = fields.by_ref().map(|field| field.number).collect();
            assert_eq!((numbers, fields.is_broken(), fields.at()), (vec![1, 2, 3], broken, good.len() as u64));
        }
    }
}
