//! The runtime half, in walking order: load, ring, decode, process, correlate.

pub mod decode;
pub mod load;
mod process;
mod correlate;
pub mod record;
pub mod ring;
