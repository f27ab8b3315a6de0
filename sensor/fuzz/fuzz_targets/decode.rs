//! Records of the kernel's rings, whatever the bytes look like: the decoder neither panics nor believes a length.
#![no_main]
#![allow(dead_code, reason = "the sensor is a program: its modules are taken in by their files")]

#[path = "../../src/event.rs"]
mod event;
mod watch;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = watch::decode::decode(bytes);
    // Most bytes are of no known version or kind: the same ones as each kind there is.
    for kind in 0..16u16 {
        let mut bytes = bytes.to_vec();
        if let Some(head) = bytes.get_mut(..4) {
            head[..2].copy_from_slice(&sensor_abi::ABI_VERSION.to_ne_bytes());
            head[2..].copy_from_slice(&kind.to_ne_bytes());
        }
        let _ = watch::decode::decode(&bytes);
    }
});
