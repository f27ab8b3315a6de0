//! Sink `stdout`: what log shippers and people read.

use std::io::{self, IsTerminal, Write};

/// Standard output. A reader that went away ends the output, not the sensor.
#[derive(Debug, Default)]
pub struct Stdout {
    closed: bool,
    colour: bool,
}

impl Stdout {
    pub fn new() -> Self {
        // https://no-color.org: any value but an empty one.
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { closed: false, colour: io::stdout().is_terminal() && !no_colour }
    }

    pub fn wants_colour(&self) -> bool {
        self.colour
    }

    /// Writes one alert as a whole.
    ///
    /// # Errors
    /// The pipe is closed, now or before; the device is full.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut stdout = io::stdout().lock();
        let result = stdout.write_all(bytes).and_then(|()| stdout.flush());
        self.closed = matches!(&result, Err(error) if error.kind() == io::ErrorKind::BrokenPipe);
        result
    }
}
