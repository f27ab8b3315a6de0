//! Looks at files: which can wait, and what came of them.

use std::sync::Arc;

use sensor_abi::identity::ContentStamp;
use sensor_abi::mark::{InodeInfo, class, verdict};

use super::correlate::{Look, Put, Tell, Wanted, Word};
use super::{Watch, boottime_ns};
use crate::event::{ContentClass, InodeKey, Model, Verdict};

impl Watch {
    /// The scanner's word on a file. Gives the model back where an act left before its verdict.
    pub fn word(&mut self, inode: InodeKey, stamp: ContentStamp, word: Word) -> Option<Arc<Model>> {
        let (tell, late) = self.joined.correlator.looked(inode, stamp, word)?;
        let Tell { inode, stamp, class, verdict, named } = tell;
        let info = InodeInfo { stamp, class, verdict, named: u8::from(named), reserved: [0; 5] };
        if let Err(error) = self.kernel.set_inode(inode.into(), info) {
            tracing::warn!(%error, "a verdict could not be told to the kernel");
        }
        let Self { memory, joined, .. } = self;
        if let Some((file, learned)) = memory.as_mut().zip(joined.correlator.known(inode, stamp))
            && let Err(error) = file.keep(&learned, || Box::new(joined.correlator.all_known()))
        {
            tracing::warn!(%error, "what a model is could not be kept for the next start");
            *memory = None;
        }
        late
    }

    /// What a file is called whose open was not announced.
    pub fn called(&mut self, inode: InodeKey, stamp: ContentStamp, path: &[u8]) {
        self.joined.correlator.called((inode, stamp), path);
    }

    /// Models that were taken away by who loaded them, and that the scanner had found gone before.
    pub fn unread(&mut self) -> Vec<Arc<Model>> {
        std::mem::take(&mut self.joined.correlator.unread)
    }

    /// The time has come to look at what could wait, if nobody asked for it meanwhile.
    pub fn take_put(&mut self, put: &Put) -> Option<Look> {
        self.joined.correlator.take(put, boottime_ns())
    }

    /// There is no place for this look now. Says what is to become of it, if anything.
    pub fn put_off(&mut self, look: Look) -> Option<Wanted> {
        self.joined.correlator.put_off(look)
    }

    /// Did somebody act who has this file, and waits for its verdict?
    pub fn is_awaited(&self, inode: InodeKey, stamp: ContentStamp) -> bool {
        self.joined.correlator.is_awaited((inode, stamp))
    }

    /// Is this file still one that can wait?
    pub fn waits(&self, put: &Put) -> bool {
        self.joined.correlator.waits(put)
    }

    /// There is no place for what can wait, either.
    pub fn dropped(&mut self, put: &Put) {
        self.joined.correlator.dropped(put);
    }

    /// A file that was opened again, and forgotten here since the kernel was told that nothing can come of it, is not looked
    /// at once more: there are data sets of more files than are remembered here, and each is read once in every round.
    pub(super) fn was_told(&mut self, look: &Look) -> bool {
        let info = self.kernel.inode(look.inode.into());
        let is_harmless = |info: InodeInfo| {
            (info.stamp, info.class, info.verdict) == (look.stamp, class::DATA, verdict::CLEAN) && look.cacheable
        };
        if !info.is_some_and(is_harmless) {
            return false;
        }
        let word = Word::Judged {
            class: ContentClass::Data,
            format: None,
            verdict: Verdict::Clean,
            findings: Vec::new(),
            all_globals_safe: true,
            sha256: None,
            is_another: false,
        };
        self.joined.correlator.looked(look.inode, look.stamp, word);
        true
    }
}
