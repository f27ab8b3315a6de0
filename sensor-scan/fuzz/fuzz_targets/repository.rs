//! Files that are read because of their names: the first byte picks the name.
#![no_main]

use sensor_scan::format::{door, repository};
use sensor_scan::source::MemorySource;
use sensor_scan::{Context, Limits, Piece};

const NAMES: [&[u8]; 8] = [
    b"config.json",
    b"model_index.json",
    b"modules.json",
    b"x.yaml",
    b"MLmodel",
    b"x.ipynb",
    b"README.md",
    b"requirements.txt",
];

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let limits = Limits::default();
    let source = MemorySource::new(bytes, NAMES[usize::from(*first) % NAMES.len()]);
    let piece = Piece { source: &source, start: 0, end: bytes.len() as u64, member: None };
    repository::scan(&piece, &mut Context::new(&limits, door));
});
