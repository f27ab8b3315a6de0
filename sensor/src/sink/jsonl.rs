//! Shape `native`: one JSON object per line.

use crate::alert::{Alert, SCHEMA};
use crate::escape;

/// The line, with its end.
pub fn render(alert: &Alert) -> Vec<u8> {
    // An alert has no map with keys that aren't text: this cannot fail. Were it to, the line says so instead of being
    // missing.
    let mut line = escape::json(alert)
        .unwrap_or_else(|error| format!("{{\"schema\":\"{SCHEMA}\",\"error\":\"{error}\"}}").into_bytes());
    line.push(b'\n');
    line
}
