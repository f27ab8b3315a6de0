//! Any bytes through the door: no panic, and never clean where something was left unread.
#![no_main]

use sensor_scan::source::MemorySource;
use sensor_scan::{Limits, Policy, Verdict, scan, sniff};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let source = MemorySource::new(bytes, b"model.bin");
    sniff(&source);
    let report = scan(&source, &Limits::default(), &Policy::standard());
    assert!(report.verdict != Verdict::Clean || report.coverage.complete);
});
