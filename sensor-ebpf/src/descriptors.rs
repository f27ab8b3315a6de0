//! A walk over the descriptors that a process has open, by the bitmap of its table: what isn't open costs nothing, 64
//! numbers at once. Source: include/linux/fdtable.h (struct fdtable).

use crate::emit::forget;
use crate::field::{Address, Reach, member, read};

/// Highest word and descriptor that an offset is made of: the verifier has to see an end.
const NUMBER_MASK: u32 = 0xffff;

/// Where the walk is.
#[repr(C)]
pub struct Walk {
    /// `fd` of the table.
    files: Address,
    /// `open_fds` of the table, and its length in words of 64 bits.
    open: Address,
    words: u64,
    /// The word after the one that `bits` are left of.
    next: u64,
    /// Descriptor of that one's bit 0.
    base: u64,
    bits: u64,
}

/// What one step came to.
pub enum Step {
    /// Another word of the bitmap.
    Word,
    Descriptor(u32),
    End,
}

impl Walk {
    /// At the start of `fdt`, a process's `struct fdtable`.
    #[inline(always)]
    pub fn of<R: Reach>(fdt: Address) -> Option<Self> {
        Some(Self {
            files: member!(R, fdt, fdt_fd, Address)?,
            open: member!(R, fdt, fdt_open_fds, Address)?,
            // Of any size, so that a loop is looked at once, and not until its end.
            words: forget(u64::from(member!(R, fdt, fdt_max_fds, u32)? / u64::BITS)),
            next: 0,
            base: 0,
            bits: 0,
        })
    }

    /// Where a loop is unrolled, each turn has to begin alike, or the verifier follows every way through all of them.
    #[inline(always)]
    pub fn forget(&mut self) {
        for number in [&mut self.next, &mut self.base, &mut self.bits] {
            *number = forget(*number);
        }
    }

    #[inline(always)]
    pub fn step(&mut self) -> Step {
        if self.bits == 0 {
            if self.is_through() {
                return Step::End;
            }
            self.bits = read(self.open, (self.next as u32 & NUMBER_MASK) * 8).unwrap_or(0);
            self.base = self.next * u64::from(u64::BITS);
            self.next += 1;
            return Step::Word;
        }
        let fd = self.base + u64::from(self.bits.trailing_zeros());
        self.bits &= self.bits - 1;
        Step::Descriptor(fd as u32)
    }

    /// Every open descriptor was met.
    #[inline(always)]
    pub fn is_through(&self) -> bool {
        self.bits == 0 && self.next >= self.words
    }

    /// The file behind a descriptor; null where it was closed meanwhile.
    #[inline(always)]
    pub fn file(&self, fd: u32) -> Option<Address> {
        read(self.files, (fd & NUMBER_MASK) * 8)
    }
}
