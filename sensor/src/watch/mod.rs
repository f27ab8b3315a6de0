//! The runtime half, in walking order: load, ring, decode, process, correlate.

mod correlate;
pub mod decode;
pub mod load;
mod process;
pub mod record;
pub mod ring;
