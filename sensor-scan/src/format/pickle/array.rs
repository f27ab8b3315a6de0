//! Raw arrays between opcodes, as joblib writes them behind the BUILD of a `NumpyArrayWrapper`.

use super::cursor::Break;
use super::machine::Machine;
use super::value::{Id, Object};
use super::{Dialect, Stream, scan};

/// Dimensions that are multiplied.
const DIMENSIONS_MAX: usize = 64;

/// What is known of a dtype.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Item {
    /// Bytes of one element.
    Size(u64),
    /// Elements are Python objects: a nested pickle.
    Objects,
}

impl Machine<'_, '_, '_> {
    pub(super) fn is_wrapped_array(&self, object: &Object) -> bool {
        self.arena
            .as_global(object.callee)
            .and_then(|index| self.globals.get(index))
            .is_some_and(|class| &*class.path == "NumpyArrayWrapper" && class.module.ends_with("numpy_pickle"))
    }

    /// The wrapper has its state: the array follows.
    pub(super) fn array(&mut self, state: Id) -> Result<(), Break> {
        self.wrapped_array = true;
        if !self.mode.arrays {
            return Ok(());
        }
        let pairs: Vec<Id> = self.arena.children(state).to_vec();
        let (mut shape, mut dtype, mut alignment) = (None, None, None);
        for pair in pairs.chunks_exact(2) {
            let &[key, value] = pair else { continue };
            match self.string_of(key).as_deref() {
                Some("shape") => shape = Some(value),
                Some("dtype") => dtype = Some(value),
                Some("numpy_array_alignment_bytes") => alignment = Some(value),
                _ => {}
            }
        }
        let (Some(shape), Some(dtype)) = (shape, dtype) else { return Err(Break::Operand) };
        match self.item(dtype).ok_or(Break::Operand)? {
            Item::Objects => self.nested_objects(),
            Item::Size(item) => {
                let mut bytes = item;
                for &dimension in self.arena.children(shape).iter().take(DIMENSIONS_MAX) {
                    let dimension = dimension.as_int().ok_or(Break::Operand)?;
                    bytes = bytes.checked_mul(u64::from(dimension)).ok_or(Break::Operand)?;
                }
                self.cursor.reset_frames();
                if alignment.is_some_and(|alignment| alignment != Id::NONE) {
                    let pad = self.cursor.byte()?;
                    self.cursor.skip(u64::from(pad))?;
                }
                self.cursor.skip(bytes)?;
                Ok(())
            }
        }
    }

    fn nested_objects(&mut self) -> Result<(), Break> {
        let start = self.cursor.position();
        let stream = Stream {
            source: self.stream.source,
            start,
            end: self.cursor.end(),
            dialect: Dialect::NumpyObject,
            member: self.stream.member.clone(),
        };
        let member = stream.member.clone();
        let outcome = self.context.deeper(member.as_deref(), |context| scan(&stream, context)).ok_or(Break::Limit)?;
        if !outcome.stopped {
            return Err(Break::Operand);
        }
        self.cursor.reset_frames();
        self.cursor.seek(outcome.end);
        Ok(())
    }

    /// Size of an element of `numpy.dtype(text, align, copy)` with its state.
    fn item(&mut self, dtype: Id) -> Option<Item> {
        let object = self.arena.as_object(dtype).copied()?;
        let maker = self.arena.as_global(object.callee).and_then(|index| self.globals.get(index));
        if maker.is_some_and(|maker| maker.path.contains("stringdtype") || maker.path.contains("StringDType")) {
            return Some(Item::Objects);
        }
        let text = *self.arena.children(object.args).first()?;
        let text = self.string_of(text)?;
        let text = text.trim_start_matches(['<', '>', '=', '|']);
        let (kind, digits) = text.split_at_checked(1)?;
        let state: Vec<Id> = self.arena.children(object.state).to_vec();
        let number = digits.split('[').next().unwrap_or_default();
        Some(match kind {
            "O" => Item::Objects,
            "?" => Item::Size(1),
            "V" => {
                // Structured: (version, order, subarray, names, fields, size, alignment, flags); the flag 1 is "has objects".
                let flags = state.get(7).and_then(|flags| flags.as_int()).unwrap_or(0);
                if flags & 1 != 0 {
                    return Some(Item::Objects);
                }
                let size = state.get(5).and_then(|size| size.as_int()).map(u64::from);
                Item::Size(size.filter(|&size| size > 0).or_else(|| number.parse().ok())?)
            }
            "U" => Item::Size(number.parse::<u64>().ok()?.checked_mul(4)?),
            "b" | "B" | "i" | "u" | "f" | "c" | "S" | "a" | "M" | "m" => {
                let size: u64 = number.parse().ok()?;
                Item::Size(size)
            }
            _ => return None,
        })
    }
}
