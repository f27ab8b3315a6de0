//! `--format json`: one object for the whole run, schema `sensor.scan-run/1`; written piece by piece.

use std::io;

use super::{Examined, Summary, Write, file_json};
use crate::escape;

pub struct Json<W> {
    out: W,
    files: u64,
}

const START: &str = r#"{"schema":"sensor.scan-run/1","files":["#;

impl<W: io::Write> Json<W> {
    pub fn new(out: W) -> Self {
        Self { out, files: 0 }
    }
}

impl<W: io::Write> Write for Json<W> {
    fn file(&mut self, examined: &Examined) -> io::Result<()> {
        let file = file_json(&examined.report, &examined.path, examined.sha256.as_deref());
        let start = if self.files == 0 { START } else { "," };
        self.files += 1;
        self.out.write_all(start.as_bytes())?;
        self.out.write_all(b"\n")?;
        self.out.write_all(&escape::json(&file)?)
    }

    fn end(&mut self, summary: &Summary) -> io::Result<()> {
        if self.files == 0 {
            write!(self.out, "{START}")?;
        }
        writeln!(self.out, "\n],\"summary\":{}}}", serde_json::to_string(summary)?)?;
        self.out.flush()
    }
}
