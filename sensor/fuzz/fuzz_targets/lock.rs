//! Text of a `models.lock`, whatever it looks like: what is read leads nowhere out of its folder, and stays the same when
//! it is written.
#![no_main]
#![allow(dead_code, reason = "the sensor is a program: its modules are taken in by their files")]

#[path = "../../src/lock.rs"]
mod lock;

use std::path::Component;

use lock::Lock;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(read) = Lock::parse(text) else { return };
    for path in read.0.keys() {
        assert!(path.components().all(|part| matches!(part, Component::Normal(_))), "{}", path.display());
    }
    let written = read.text().expect("what was read can be written");
    assert_eq!(Lock::parse(&written).expect("what was written can be read"), read);
});
