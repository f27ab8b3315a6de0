//! What holds for every format: damage is no panic and never makes a file clean that was not read to its end, and more
//! bytes behind a file make it no better.

use proptest::prelude::*;

use super::{booster, foreign, gguf, hdf5, keras, msgpack, onnx, rds, tensorflow, tflite, xml};
use crate::source::MemorySource;
use crate::{Limits, Policy, Report, Verdict, scan, sniff};

fn samples() -> Vec<Vec<u8>> {
    [
        booster::tests::samples(),
        foreign::tests::samples(),
        gguf::tests::samples(),
        hdf5::tests::samples(),
        keras::config::tests::samples(),
        msgpack::tests::samples(),
        onnx::tests::samples(),
        rds::tests::samples(),
        tensorflow::tests::samples(),
        tflite::tests::samples(),
        xml::tests::samples(),
    ]
    .concat()
}

fn report(bytes: &[u8]) -> Report {
    let source = MemorySource::new(bytes, b"model.bin");
    sniff(&source);
    scan(&source, &Limits::default(), &Policy::standard())
}

fn badness(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Clean => 0,
        Verdict::Unscannable => 1,
        Verdict::Suspicious => 2,
        Verdict::Malicious => 3,
    }
}

fn holds(report: &Report) {
    assert!(report.verdict != Verdict::Clean || report.coverage.complete, "{report:?}");
}

#[test]
fn the_samples_are_not_clean() {
    for bytes in samples() {
        let report = report(&bytes);
        assert!(badness(report.verdict) >= 2, "{report:?}");
    }
}

#[test]
fn every_prefix_is_read_without_panic() {
    for bytes in samples() {
        let step = (bytes.len() / 200).max(1);
        for end in (0..bytes.len()).step_by(step) {
            holds(&report(&bytes[..end]));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_bytes_are_read_without_panic(
        index in 0_usize..1000,
        damage in prop::collection::vec((0_usize..100_000, any::<u8>()), 1..6),
    ) {
        let samples = samples();
        let mut bytes = samples[index % samples.len()].clone();
        for (at, value) in damage {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        holds(&report(&bytes));
    }

    #[test]
    fn more_bytes_make_no_file_better(index in 0_usize..1000, junk in prop::collection::vec(any::<u8>(), 1..64)) {
        let samples = samples();
        let bytes = &samples[index % samples.len()];
        let before = report(bytes).verdict;
        let after = report(&[bytes.as_slice(), &junk].concat()).verdict;
        prop_assert!(badness(after) >= badness(before).min(2), "{before:?} → {after:?}");
    }

    #[test]
    fn bytes_behind_a_magic_are_read_without_panic(index in 0_usize..16, rest in prop::collection::vec(any::<u8>(), 0..300)) {
        const STARTS: [&[u8]; 16] = [
            b"GGUF\x03\0\0\0", b"\x89HDF\r\n\x1a\n\0\0\0\0\0\x08\x08\0", b"\x89HDF\r\n\x1a\n\x02\x08\x08\0", b"\x1c\0\0\0TFL3", b"CBM1",
            b"{L\0\0\0\0\0\0\0\x07learner{", b"X\n\0\0\0\x03", b"RDX2\nX\n", b"A\n2\n", b"\x81\xa6params", b"<?xml version=\"1.0\"?><PMML>",
            b"{\"class_name\":\"x\",\"config\":", b"B\0C\0N\0", b"\x08\x08\x3a\x10\x0a\x06\x22\x04Relu", b"\x0a\x08\x0a\x01a\x12\x03Add",
            b"tree\nversion=v4\n",
        ];
        holds(&report(&[STARTS[index], &rest].concat()));
    }
}
