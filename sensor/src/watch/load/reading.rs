//! What is read of the kernel before anything is loaded: megabytes of its types. That takes as long as a policy takes to
//! compile, so it's begun before, and waited for where it is needed.

#![expect(unsafe_code, reason = "unshare(2) has no safe wrapper")]

use std::sync::mpsc::{Receiver, channel};
use std::thread::{Builder, JoinHandle};

use aya::{Btf, EbpfLoader, Endianness};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::LoadError;
use super::btf::{self, BtfError, Index, Layout};

/// Under way.
pub struct Reading {
    layout: Receiver<Layout>,
    types: JoinHandle<Result<Btf, LoadError>>,
    loader: JoinHandle<EbpfLoader<'static>>,
}

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reading")
    }
}

impl Reading {
    /// Threads begin it.
    pub fn begin() -> Result<Self, LoadError> {
        let (tell, layout) = channel();
        let types = Builder::new().spawn(move || {
            let bytes = std::fs::read(btf::VMLINUX).map_err(BtfError::Absent)?;
            let index = Index::of(&bytes)?;
            // Nobody waits for it where the sensor could not start for another reason.
            let _ = tell.send(index.layout()?);
            let types = Btf::parse(&index.outline()?, Endianness::default());
            types.map_err(|error| LoadError::Btf(BtfError::Unread(error.to_string())))
        });
        let loader = Builder::new().spawn(loader);
        Ok(Self { layout, types: types.map_err(LoadError::Thread)?, loader: loader.map_err(LoadError::Thread)? })
    }

    /// Waits for what maps are made with. The types, which programs are loaded with, may still be under way.
    pub(super) fn layout(self) -> Result<(Layout, EbpfLoader<'static>, Types), LoadError> {
        let types = Types(self.types);
        match self.layout.recv() {
            Ok(layout) => Ok((layout, self.loader.join().map_err(died)?, types)),
            // It ended before it knew.
            Err(_) => Err(types.end().err().unwrap_or_else(|| died(()))),
        }
    }
}

/// [`Index::outline`], under way.
pub(super) struct Types(JoinHandle<Result<Btf, LoadError>>);

impl Types {
    /// Waits for them.
    pub(super) fn end(self) -> Result<Btf, LoadError> {
        self.0.join().map_err(died)?
    }
}

/// A reader that panicked met types that it didn't understand.
fn died<E>(_: E) -> LoadError {
    LoadError::Btf(BtfError::Unread("its reader panicked".to_owned()))
}

/// When it's made it reads all types of the kernel, for relocations that our programs don't have: a quarter of the time that
/// everything before the programs takes. So it is made where it finds none; where that isn't allowed it takes longer.
fn loader() -> EbpfLoader<'static> {
    // SAFETY: from here on this thread has a root folder of its own. Descriptors stay shared.
    if unsafe { unshare_unsafe(UnshareFlags::FS) }.is_ok() {
        let _ = rustix::process::chroot("/proc/self/fdinfo");
    }
    let mut loader = EbpfLoader::new();
    loader.btf(None);
    loader
}
