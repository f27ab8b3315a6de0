//! The reader of tensorflow, whatever the bytes look like.
#![no_main]

use sensor_scan::format::{door, tensorflow};
use sensor_scan::source::MemorySource;
use sensor_scan::{Context, Limits, Piece};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (source, limits) = (MemorySource::new(bytes, b"x"), Limits::default());
    let piece = Piece { source: &source, start: 0, end: bytes.len() as u64, member: None };
    use sensor_scan::format::tensorflow::Kind;
    for kind in [Kind::SavedModel, Kind::MetaGraph, Kind::GraphDef] {
        tensorflow::scan(&piece, kind, &mut Context::new(&limits, door));
    }
});
