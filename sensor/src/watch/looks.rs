//! Looks at files: which can wait, and what came of them.

use std::sync::Arc;

use sensor_abi::identity::ContentStamp;
use sensor_abi::mark::InodeInfo;

use super::correlate::{Look, Put, Tell, Word};
use super::{Watch, abi_inode, boottime_ns};
use crate::event::{InodeKey, Model};

impl Watch {
    /// The scanner's word on a file. Gives the model back where an act left before its verdict.
    pub fn word(&mut self, inode: InodeKey, stamp: ContentStamp, word: Word) -> Option<Arc<Model>> {
        let (tell, late) = self.joined.correlator.looked(inode, stamp, word)?;
        let Tell { inode, stamp, class, verdict, named } = tell;
        let info = InodeInfo { stamp, class, verdict, named: u8::from(named), reserved: [0; 5] };
        if let Err(error) = self.kernel.set_inode(abi_inode(inode), info) {
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

    /// The time has come to look at what could wait, if nobody asked for it meanwhile.
    pub fn take_put(&mut self, put: &Put) -> Option<Look> {
        self.joined.correlator.take(put, boottime_ns())
    }

    /// There is no place for this look now: it can wait.
    pub fn put(&mut self, look: Look) -> Option<Put> {
        self.joined.correlator.put(look)
    }
}
