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
        Self { output, shape, min_severity, counts: Counts::default() }
    }

    /// Delivers an alert that is loud enough. An error is counted, and logged when it is the first after a success.
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

    fn count(&mut self, result: io::Result<()>) {
        match result {
            Ok(()) => {
                if self.counts.failed > 0 && self.counts.delivered == 0 {
                    tracing::info!(sink = self.name(), "the sink takes alerts");
                }
                self.counts.delivered += 1;
            }
            Err(error) => {
                self.counts.failed += 1;
                // 1, 2, 4, 8 …: a full disk must not fill the log.
                if self.counts.failed.is_power_of_two() {
                    tracing::error!(
                        sink = self.name(),
                        failed = self.counts.failed,
                        "an alert was not delivered: {error}"
                    );
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
