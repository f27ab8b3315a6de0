//! Alerts go out. A sink sees alerts only; an error of one is counted and stops nothing.

pub mod file;
pub mod human;
pub mod jsonl;
pub mod stdout;

use std::io;

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

/// One sink: an output, a shape, and what it wants to hear.
#[derive(Debug)]
pub struct Sink {
    output: Output,
    shape: Shape,
    min_severity: Severity,
    counts: Counts,
    failing: bool,
}

/// What became of the alerts that a sink wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub delivered: u64,
    /// Not delivered, for whatever reason.
    pub failed: u64,
}

impl Sink {
    pub fn new(output: Output, shape: Shape, min_severity: Severity) -> Self {
        Self { output, shape, min_severity, counts: Counts::default(), failing: false }
    }

    /// Delivers an alert that is loud enough. An error is counted.
    pub fn deliver(&mut self, alert: &Alert) {
        if alert.severity < self.min_severity {
            return;
        }
        let result = match &mut self.output {
            Output::Stdout(stdout) => stdout.write(&self.shape.render(alert, stdout.wants_colour())),
            Output::File(file) => file.write(&self.shape.render(alert, false)),
        };
        self.count(result);
    }

    /// A full disk must not fill the log: only a change is worth a line there.
    fn count(&mut self, result: io::Result<()>) {
        match result {
            Ok(()) => {
                self.counts.delivered += 1;
                if std::mem::take(&mut self.failing) {
                    tracing::info!(sink = self.name(), failed = self.counts.failed, "alerts are delivered again");
                }
            }
            Err(error) => {
                self.counts.failed += 1;
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(sink = self.name(), "alerts are not delivered: {error}");
                }
            }
        }
    }

    /// For logs and metrics.
    pub fn name(&self) -> &'static str {
        match self.output {
            Output::Stdout(_) => "stdout",
            Output::File(_) => "file",
        }
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

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

    #[test]
    fn a_sink_hears_what_is_loud_enough() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alerts");
        let mut sink = Sink::new(Output::File(file::File::new(&path).unwrap()), Shape::Native, Severity::Low);
        let mut alert = info();
        sink.deliver(&alert);
        assert_eq!(sink.counts(), Counts::default());
        alert.severity = Severity::Low;
        sink.deliver(&alert);
        assert_eq!(sink.counts(), Counts { delivered: 1, failed: 0 });
        assert_eq!(std::fs::read(&path).unwrap(), Shape::Native.render(&alert, false));
    }

    #[test]
    fn what_could_not_be_delivered_is_counted_and_stops_nothing() {
        let full = file::File::new(Path::new("/dev/full")).unwrap();
        let mut sink = Sink::new(Output::File(full), Shape::Human, Severity::Info);
        for _ in 0..3 {
            sink.deliver(&info());
        }
        assert_eq!(sink.counts(), Counts { delivered: 0, failed: 3 });
    }
}
