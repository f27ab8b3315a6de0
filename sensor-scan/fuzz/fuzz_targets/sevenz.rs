//! The reader of 7z archives, whatever the bytes look like.
#![no_main]

use sensor_scan::format::{door, sevenz};
use sensor_scan::source::MemorySource;
use sensor_scan::{Context, Limits, Piece};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (source, limits) = (MemorySource::new(bytes, b"x"), Limits::default());
    let piece = Piece { source: &source, start: 0, end: bytes.len() as u64, member: None };
    sevenz::scan(&piece, &mut Context::new(&limits, door));
});
