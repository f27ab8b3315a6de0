//! What archives do to bytes before they compress them: branches of programs made absolute, differences.

use std::io::Read;

use lzma_rust2::filter::bcj::BcjReader;
use lzma_rust2::filter::delta::DeltaReader;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// Differences to the byte this far before.
    Delta(usize),
    X86,
    PowerPc,
    Ia64,
    Arm,
    ArmThumb,
    Sparc,
    Arm64,
    RiscV,
}

impl Filter {
    /// By the id that 7z archives give it, in its short and in its long form.
    pub fn of_sevenz(id: &[u8], properties: &[u8]) -> Option<Self> {
        Some(match id {
            [0x03] => Self::Delta(usize::from(*properties.first()?) + 1),
            [0x04] | [0x03, 0x03, 0x01, 0x03] => Self::X86,
            [0x05] | [0x03, 0x03, 0x02, 0x05] => Self::PowerPc,
            [0x06] | [0x03, 0x03, 0x04, 0x01] => Self::Ia64,
            [0x07] | [0x03, 0x03, 0x05, 0x01] => Self::Arm,
            [0x08] | [0x03, 0x03, 0x07, 0x01] => Self::ArmThumb,
            [0x09] | [0x03, 0x03, 0x08, 0x05] => Self::Sparc,
            [0x0a] => Self::Arm64,
            [0x0b] => Self::RiscV,
            _ => return None,
        })
    }

    /// Undoes it.
    pub fn over<'a>(self, reader: Box<dyn Read + 'a>) -> Box<dyn Read + 'a> {
        match self {
            Self::Delta(distance) => Box::new(DeltaReader::new(reader, distance)),
            Self::X86 => Box::new(BcjReader::new_x86(reader, 0)),
            Self::PowerPc => Box::new(BcjReader::new_ppc(reader, 0)),
            Self::Ia64 => Box::new(BcjReader::new_ia64(reader, 0)),
            Self::Arm => Box::new(BcjReader::new_arm(reader, 0)),
            Self::ArmThumb => Box::new(BcjReader::new_arm_thumb(reader, 0)),
            Self::Sparc => Box::new(BcjReader::new_sparc(reader, 0)),
            Self::Arm64 => Box::new(BcjReader::new_arm64(reader, 0)),
            Self::RiscV => Box::new(BcjReader::new_riscv(reader, 0)),
        }
    }
}
