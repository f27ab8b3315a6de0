//! Alerts go out. A sink sees alerts only; an error of one is counted and stops nothing.

pub mod file;
pub mod human;
pub mod jsonl;
mod queue;
pub mod stdout;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::mpsc;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::alert::Alert;
use crate::event::Severity;

/// What an alert looks like outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// For a person.
    Human,
    /// One JSON object per line, `sensor.alert/1`.
    Native,
}

impl Shape {
    /// The bytes of one alert, its last line end included. `colour`: the reader is a terminal that wants it.
    pub fn render(self, alert: &Alert, colour: bool) -> Vec<u8> {
        match self {
            Self::Human => human::render(alert, colour).into_bytes(),
            Self::Native => jsonl::render(alert),
        }
    }
}

/// Where alerts go.
#[derive(Debug)]
pub enum Output {
    Stdout(stdout::Stdout),
    File(file::File),
}

impl Output {
    /// For logs and metrics.
    fn name(&self) -> &'static str {
        match self {
            Self::Stdout(_) => "stdout",
            Self::File(_) => "file",
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout(stdout) => stdout.write(bytes),
            Self::File(file) => file.write(bytes),
        }
    }
}

/// Bytes of alerts that wait for a slow output; beyond, an alert is dropped and counted.
const QUEUED_BYTES_MAX: usize = 8 << 20;

/// One sink: an output with a thread of its own, a shape, and what it wants to hear. A reader that doesn't read, or a
/// disk that doesn't answer, holds up its own sink and nothing else.
#[derive(Debug)]
pub struct Sink {
    name: &'static str,
    shape: Shape,
    min_severity: Severity,
    colour: bool,
    queue: queue::Writer,
    tally: Arc<Tally>,
    /// Disconnected once everything that was queued is written.
    done: mpsc::Receiver<()>,
}

/// What became of the alerts that a sink wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub delivered: u64,
    /// Not delivered, for whatever reason.
    pub failed: u64,
}

#[derive(Debug, Default)]
struct Tally {
    queued_bytes: AtomicUsize,
    delivered: AtomicU64,
    failed: AtomicU64,
}

impl Tally {
    /// Counts, and logs failures at 1, 2, 4, 8 …: a full disk must not fill the log.
    fn count(&self, name: &str, result: io::Result<()>) {
        let Err(error) = result else {
            self.delivered.fetch_add(1, Relaxed);
            return;
        };
        let failed = self.failed.fetch_add(1, Relaxed) + 1;
        if failed.is_power_of_two() {
            tracing::error!(sink = name, failed, "an alert was not delivered: {error}");
        }
    }
}

impl Sink {
    /// # Errors
    /// No thread can be had.
    pub fn new(mut output: Output, shape: Shape, min_severity: Severity) -> io::Result<Self> {
        let (queue, queued) = queue::queue();
        let (working, done) = mpsc::channel();
        let tally = Arc::new(Tally::default());
        let name = output.name();
        let colour = matches!(&output, Output::Stdout(stdout) if stdout.wants_colour());
        let shared = Arc::clone(&tally);
        std::thread::Builder::new().name(format!("sink-{name}")).spawn(move || {
            while let Some(bytes) = queued.receive() {
                let result = output.write(&bytes);
                shared.queued_bytes.fetch_sub(bytes.len(), Relaxed);
                shared.count(name, result);
            }
            drop(working);
        })?;
        Ok(Self { name, shape, min_severity, colour, queue, tally, done })
    }

    /// Hands an alert that is loud enough to the output. Never waits.
    pub fn deliver(&mut self, alert: &Alert) {
        if alert.severity < self.min_severity {
            return;
        }
        let bytes = self.shape.render(alert, self.colour);
        if self.tally.queued_bytes.fetch_add(bytes.len(), Relaxed) + bytes.len() > QUEUED_BYTES_MAX {
            self.tally.queued_bytes.fetch_sub(bytes.len(), Relaxed);
            self.tally.count(self.name, Err(io::Error::other("the output is too slow, and its queue is full")));
            return;
        }
        if !self.queue.send(bytes) {
            self.tally.count(self.name, Err(io::Error::other("the sink's thread is gone")));
        }
    }

    /// So far.
    pub fn counts(&self) -> Counts {
        Counts { delivered: self.tally.delivered.load(Relaxed), failed: self.tally.failed.load(Relaxed) }
    }

    /// Waits until everything is written, at most until `until`.
    pub fn close(self, until: Instant) -> Counts {
        let Self { queue, done, tally, .. } = self;
        drop(queue);
        let _ = done.recv_timeout(until.saturating_duration_since(Instant::now()));
        Counts { delivered: tally.delivered.load(Relaxed), failed: tally.failed.load(Relaxed) }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::alert::Host;
    use crate::judge::Judge;
    use crate::policy::Policy;
    use crate::policy::destination::Network;
    use crate::policy::testing::{act, connect};

    /// An hour after the load of a clean file: info.
    fn info() -> Alert {
        let policy = Policy::load(&[], Network::default()).unwrap();
        Judge::new(Arc::new(policy), Host::default()).act(act(connect("192.0.2.1", 443)), 0).remove(0)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn a_sink_hears_what_is_loud_enough() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alerts");
        let mut sink = Sink::new(Output::File(file::File::new(&path).unwrap()), Shape::Native, Severity::Low).unwrap();
        let mut alert = info();
        sink.deliver(&alert);
        alert.severity = Severity::Low;
        sink.deliver(&alert);
        assert_eq!(sink.close(soon()), Counts { delivered: 1, failed: 0 });
        assert_eq!(std::fs::read(&path).unwrap(), Shape::Native.render(&alert, false));
    }

    #[test]
    fn what_could_not_be_delivered_is_counted_and_stops_nothing() {
        let full = file::File::new(Path::new("/dev/full")).unwrap();
        let mut sink = Sink::new(Output::File(full), Shape::Human, Severity::Info).unwrap();
        for _ in 0..3 {
            sink.deliver(&info());
        }
        assert_eq!(sink.close(soon()), Counts { delivered: 0, failed: 3 });
    }

    #[test]
    fn an_output_that_takes_nothing_holds_nobody_up() {
        // A pipe that nobody reads, with room for a few alerts.
        let (reader, writer) = io::pipe().unwrap();
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&writer));
        let stuck = file::File::blocking(Path::new(&path)).unwrap();
        let mut sink = Sink::new(Output::File(stuck), Shape::Native, Severity::Info).unwrap();
        let alert = info();
        let len = Shape::Native.render(&alert, false).len();
        for _ in 0..QUEUED_BYTES_MAX / len + 100 {
            sink.deliver(&alert);
        }
        assert!(sink.counts().failed > 0);
        sink.close(Instant::now() + Duration::from_millis(10));
        drop(reader);
    }
}
