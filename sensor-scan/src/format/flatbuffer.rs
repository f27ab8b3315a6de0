//! Flatbuffers without a schema: tables, vectors and texts by their offsets, every one checked.
//!
//! Reference: the internals page of FlatBuffers.

use crate::window::Window;

#[derive(Clone, Copy)]
pub struct Table<'w, 's> {
    window: &'w Window<'s>,
    /// Offset in the source.
    at: u64,
    vtable: u64,
    vtable_bytes: u64,
}

impl<'w, 's> Table<'w, 's> {
    /// The table that the first four bytes point to.
    pub fn root(window: &'w Window<'s>) -> Option<Self> {
        Self::at(window, window.u32(0)?.into())
    }

    fn at(window: &'w Window<'s>, at: u64) -> Option<Self> {
        let back = window.u32(at)?.cast_signed();
        let vtable = at.checked_add_signed(-i64::from(back))?;
        let vtable_bytes = u64::from(window.u16(vtable)?);
        let table_bytes = u64::from(window.u16(vtable.checked_add(2)?)?);
        let fits = vtable_bytes >= 4 && vtable + vtable_bytes <= window.len() && at + table_bytes <= window.len();
        (fits && table_bytes >= 4).then_some(Self { window, at, vtable, vtable_bytes })
    }

    /// Where a field lies; `None` where it is left out.
    pub fn field(&self, index: u64) -> Option<u64> {
        let slot = 4 + 2 * index;
        if slot + 2 > self.vtable_bytes {
            return None;
        }
        let offset = self.window.u16(self.vtable + slot)?;
        (offset != 0).then(|| self.at + u64::from(offset))
    }

    fn target(&self, index: u64) -> Option<u64> {
        let at = self.field(index)?;
        at.checked_add(self.window.u32(at)?.into()).filter(|target| *target < self.window.len())
    }

    pub fn text(&self, index: u64, max: usize) -> Option<String> {
        let at = self.target(index)?;
        let len = u64::from(self.window.u32(at)?);
        let end = at.checked_add(4 + len)?;
        (end <= self.window.len()).then(|| self.window.text(at + 4, end, max))
    }

    /// Start and end of the bytes of a vector of bytes.
    pub fn bytes(&self, index: u64) -> Option<(u64, u64)> {
        let at = self.target(index)?;
        let len = u64::from(self.window.u32(at)?);
        (at + 4 + len <= self.window.len()).then_some((at + 4, at + 4 + len))
    }

    /// Tables of a vector; `None` where the vector or one of its tables lies outside.
    pub fn tables(&self, index: u64, max: u64) -> Option<Vec<Self>> {
        if self.field(index).is_none() {
            return Some(Vec::new());
        }
        let at = self.target(index)?;
        let count = u64::from(self.window.u32(at)?);
        if count > max || at + 4 + 4 * count > self.window.len() {
            return None;
        }
        (0..count)
            .map(|index| {
                let slot = at + 4 + 4 * index;
                Self::at(self.window, slot.checked_add(self.window.u32(slot)?.into())?)
            })
            .collect()
    }

    pub fn u8(&self, index: u64) -> Option<u8> {
        self.window.u8(self.field(index)?)
    }
}
