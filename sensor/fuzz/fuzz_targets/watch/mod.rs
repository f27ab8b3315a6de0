//! The rooms of `sensor/src/watch` that read bytes.

#[path = "../../../src/watch/decode.rs"]
pub mod decode;
#[path = "../../../src/watch/record.rs"]
pub mod record;
