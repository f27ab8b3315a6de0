//! The reader of foreign, whatever the bytes look like.
#![no_main]

use sensor_scan::format::{door, foreign};
use sensor_scan::source::MemorySource;
use sensor_scan::{Context, Limits, Piece};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (source, limits) = (MemorySource::new(bytes, b"x"), Limits::default());
    let piece = Piece { source: &source, start: 0, end: bytes.len() as u64, member: None };
    use sensor_scan::format::foreign::Kind;
    for kind in [Kind::Paddle, Kind::Caffe, Kind::Prototxt, Kind::Cntk, Kind::Torch7, Kind::CoreMl, Kind::Executorch] {
        foreign::scan(&piece, kind, &mut Context::new(&limits, door));
    }
});
