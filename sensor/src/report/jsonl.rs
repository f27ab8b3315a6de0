//! `--format jsonl`: one object a line, written as soon as it is known.

use std::io;

use super::{Examined, Summary, Write, file_json};
use crate::escape;

pub struct Jsonl<W>(pub W);

impl<W: io::Write> Write for Jsonl<W> {
    fn file(&mut self, examined: &Examined) -> io::Result<()> {
        let line = file_json(&examined.report, &examined.path, examined.sha256.as_deref());
        self.0.write_all(&escape::json(&line)?)?;
        self.0.write_all(b"\n")?;
        self.0.flush()
    }

    fn end(&mut self, _summary: &Summary) -> io::Result<()> {
        self.0.flush()
    }
}
