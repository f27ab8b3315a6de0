//! The runtime half, in walking order: load, ring, decode, process, correlate.

pub mod load;
