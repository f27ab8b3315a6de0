//! The runtime half, in walking order: load, ring, decode, process, correlate.

pub mod btf;
pub mod load;
pub mod plan;
mod tracepoint;
