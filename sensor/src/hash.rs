//! The SHA-256 of a file, read as the scanner reads it.

use std::io;
use std::time::Instant;

use sensor_scan::Source;
use sha2::{Digest as _, Sha256};

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Lower-case hexadecimal; `None` where the file could not be read to its end, or not by `until`.
pub fn sha256(source: &dyn Source, until: Option<Instant>) -> Option<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut at = 0;
    while at < source.len() {
        if until.is_some_and(|until| Instant::now() > until) {
            return None;
        }
        match source.read_at(at, &mut buffer) {
            Ok(read) if read > 0 => {
                hash.update(&buffer[..read]);
                at += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            _ => return None,
        }
    }
    Some(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
