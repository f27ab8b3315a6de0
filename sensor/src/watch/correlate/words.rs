//! What is said between the correlator and those who look at files, and what it counts.

use sensor_abi::identity::ContentStamp;

use crate::event::{ContentClass, InodeKey, ModelFinding, Verdict};

/// What the scanner is asked to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    pub inode: InodeKey,
    pub stamp: ContentStamp,
    pub path: Vec<u8>,
    /// The process that has it open, and under which number where that is known.
    pub opener: u32,
    pub fd: Option<u32>,
    pub cgroup: u64,
    /// Nobody could change the content: an earlier verdict holds, and this one may be kept.
    pub cacheable: bool,
    /// `super_block.s_magic`; 0 where it isn't known.
    pub fs_magic: u64,
    /// Its name or place says that it may be a model.
    pub named: bool,
}

impl Look {
    /// Is it in the memory of its processes alone (memfd_create(2), mm/memfd.c), and gone with them?
    pub fn is_in_memory(&self) -> bool {
        self.path.starts_with(b"/memfd:")
    }

    /// Who takes turns with others: its cgroup; of what was found at the start, whose is not known, the process. (Where the
    /// two numbers meet, two of them share a turn.)
    pub fn turn(&self) -> u64 {
        if self.cgroup == 0 { u64::from(self.opener) } else { self.cgroup }
    }
}

/// What is to be looked at, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// It was opened.
    Now(Look),
    /// Somebody who has it acted, and the act waits for it; or it is gone with its process.
    Urgent(Look),
    /// Somebody who has it acted while the look at it was asked for already.
    Sooner(Put),
    /// When nobody waits for anything else ([`super::Correlator::take`]).
    Sometime(Put),
}

/// A file that is known already, and whose turn it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Put {
    pub inode: InodeKey,
    pub stamp: ContentStamp,
    /// [`Look::turn`]
    pub turn: u64,
}

/// Sums for `sensor status`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Sums {
    /// Acts handed on.
    pub acts: u64,
    /// Acts whose files turned out to be no models.
    pub acts_without_model: u64,
    /// Acts that left before their file's verdict was known.
    pub acts_before_verdict: u64,
    /// Acts judged as data because not even the kind of their file was known in time.
    pub acts_provisional: u64,
}

/// Files that nobody looked at, or will.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Missed {
    /// Forgotten, although somebody who had them acted.
    pub acted: u64,
    /// Opened while the sensor watched, and called like a model. Nobody who had them has acted: who does has them looked at.
    pub opened: u64,
    /// The others that found no place to wait in.
    pub others: u64,
}

/// The scanner's word, as far as it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// What kind of content it is.
    Sniffed { class: ContentClass, format: Option<String> },
    /// No model.
    NotModel,
    /// The verdict.
    Judged {
        class: ContentClass,
        format: Option<String>,
        verdict: Verdict,
        findings: Vec<ModelFinding>,
        all_globals_safe: bool,
        /// Lower-case hexadecimal; only where it was computed.
        sha256: Option<String>,
        /// What was judged isn't what was opened.
        is_another: bool,
    },
    /// Not read, for a reason that isn't its content. `is_lost`: what was opened is no longer there.
    NotRead { finding: ModelFinding, is_lost: bool },
}

/// What to tell the kernel of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tell {
    pub inode: InodeKey,
    pub stamp: ContentStamp,
    /// [`sensor_abi::mark::class`]
    pub class: u8,
    /// [`sensor_abi::mark::verdict`]
    pub verdict: u8,
    /// Its name or place says that it may be a model.
    pub named: bool,
}
