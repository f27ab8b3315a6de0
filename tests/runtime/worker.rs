//! The daemon's children, as real processes of the real binary: that they are locked in, open the right file and no
//! other, are ended when they hang or lie, and leave nothing behind.

#[allow(dead_code, reason = "the vocabulary of the whole daemon")]
#[path = "../../sensor/src/event.rs"]
mod event;
#[allow(dead_code, reason = "the child side runs in the binary")]
#[path = "../../sensor/src/hash.rs"]
mod hash;
#[allow(dead_code, reason = "the child side runs in the binary")]
#[path = "../../sensor/src/worker/mod.rs"]
mod worker;

#[path = "worker/confinement.rs"]
mod confinement;
#[path = "worker/fixture.rs"]
mod fixture;
#[path = "worker/lies.rs"]
mod lies;
#[path = "worker/opening.rs"]
mod opening;
#[path = "worker/processes.rs"]
mod processes;
#[path = "worker/turns.rs"]
mod turns;
