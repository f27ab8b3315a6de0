//! Text of a policy file of `sensor scan`, whatever it looks like: its names, patterns and limits meet a file as in a
//! scan.
#![no_main]
#![allow(dead_code, reason = "the sensor is a program: its modules are taken in by their files")]

#[path = "../../src/escape.rs"]
mod escape;
#[path = "../../src/event.rs"]
mod event;
#[path = "../../src/policy/mod.rs"]
mod policy;
mod scan;

use scan::policy::Judge;
use sensor_scan::source::MemorySource;

/// `ours.build.run(5)`, protocol 0: suspicious as far as nobody judges the name.
const OURS: &[u8] = b"cours.build\nrun\n(I5\ntR.";

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(judge) = Judge::from_text(text) else { return };
    judge.expired().for_each(drop);
    for hash in [None, Some("a".repeat(64))] {
        let (path, hash) = (&b"models/m.pkl"[..], hash.as_deref());
        let policy = judge.for_file(path, hash);
        let mut report = sensor_scan::scan(&MemorySource::new(OURS, b"m.pkl"), judge.limits(), &policy);
        judge.excuse(path, hash, &mut report.findings);
        report.judge(&policy);
    }
});
