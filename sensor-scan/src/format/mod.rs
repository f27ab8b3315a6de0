//! One folder per format: readers that turn bytes into findings.

pub mod pickle;
