//! The pickle machine, whatever the bytes look like.
#![no_main]

use sensor_scan::format::{door, pickle};
use sensor_scan::source::MemorySource;
use sensor_scan::{Context, Limits};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (source, limits) = (MemorySource::new(bytes, b"x.pkl"), Limits::default());
    let stream = pickle::Stream {
        source: &source,
        start: 0,
        end: bytes.len() as u64,
        dialect: pickle::Dialect::Plain,
        member: None,
    };
    pickle::scan_all(&stream, &mut Context::new(&limits, door));
});
