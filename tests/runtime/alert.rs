//! The alerts of one daemon: held to the schema as they come, then asked by the cases.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::lab::{self, Room};
use crate::schema::Schema;

/// Place of a severity, from the quietest to the loudest.
fn loudness(severity: &str) -> Option<usize> {
    ["info", "low", "medium", "high", "critical"].iter().position(|name| *name == severity)
}

/// One line of the daemon's standard output.
#[derive(Debug, Clone)]
pub struct Alert {
    pub line: String,
    pub json: Value,
}

impl Alert {
    /// The value at a JSON pointer; null where there is none.
    pub fn at(&self, pointer: &str) -> &Value {
        self.json.pointer(pointer).unwrap_or(&Value::Null)
    }

    pub fn text(&self, pointer: &str) -> &str {
        self.at(pointer).as_str().unwrap_or_default()
    }

    /// The value at `pointer` is `wanted`.
    pub fn is(&self, pointer: &str, wanted: impl Into<Value>) -> Result<&Self> {
        let wanted = wanted.into();
        ensure!(self.at(pointer) == &wanted, "{pointer} is {} and not {wanted} in\n{}", self.at(pointer), self.line);
        Ok(self)
    }

    /// Is it of a stranger on this machine? Of another sensor, which looks at what our actors load as this one does (a
    /// worker of the sensor under test has these tests among its ancestors), or of another run of these tests.
    pub fn is_of_a_stranger(&self) -> bool {
        let own = Value::from(std::process::id());
        let ancestors = self.at("/process/ancestors").as_array().map(Vec::as_slice).unwrap_or_default();
        let sensor = self.text("/process/exe").ends_with("/sensor");
        lab::is_of_another_run(self.text("/model/path"))
            || (sensor && !ancestors.iter().any(|ancestor| ancestor["pid"] == own))
    }

    /// The model's path is `path`.
    pub fn names(&self, path: &Path) -> Result<&Self> {
        let path = path.to_str().context("for paths that are text")?;
        self.is("/model/path", path)
    }
}

/// A set of alerts, in the order in which they came.
#[derive(Debug, Clone, Default)]
pub struct Alerts(pub Vec<Alert>);

impl Alerts {
    /// Those that name a room's folder or one of its ports: of its model, its programs, its connections.
    pub fn of(&self, room: &Room<'_>) -> Self {
        self.about(&room.dir.display().to_string(), &room.ports())
    }

    /// Those that name something in the folder `dir` or connect to one of `ports`.
    pub fn about(&self, dir: &str, ports: &[u16]) -> Self {
        let inside = format!("{dir}/");
        self.filter(|alert| {
            alert.line.contains(&inside)
                || alert.at("/event/port").as_u64().is_some_and(|port| ports.iter().any(|own| u64::from(*own) == port))
        })
    }

    pub fn filter(&self, wanted: impl Fn(&Alert) -> bool) -> Self {
        Self(self.0.iter().filter(|alert| wanted(alert)).cloned().collect())
    }

    pub fn kind(&self, kind: &str) -> Self {
        self.filter(|alert| alert.text("/event/kind") == kind)
    }

    pub fn port(&self, port: u16) -> Self {
        self.filter(|alert| alert.at("/event/port") == &Value::from(port))
    }

    /// The last word: a later line of an incident replaces an earlier one.
    pub fn last(&self, what: &str) -> Result<&Alert> {
        self.0.last().with_context(|| format!("there is no alert: {what}"))
    }

    pub fn none(&self, what: &str) -> Result<()> {
        if let Some(first) = self.0.first() {
            bail!("{what}, but there are {} alerts, the first:\n{}", self.0.len(), first.line);
        }
        Ok(())
    }

    /// None is louder than `limit`.
    pub fn none_above(&self, limit: &str, what: &str) -> Result<()> {
        let limit = loudness(limit);
        self.filter(|alert| loudness(alert.text("/severity")) > limit).none(what)
    }
}

/// One line of standard output as an alert; an error says what is wrong with it.
pub fn read(line: &[u8], schema: &Schema) -> Result<Alert> {
    let line = std::str::from_utf8(line).context("a line of the output is not UTF-8")?.to_owned();
    ensure!(!line.contains(|c: char| c.is_control()), "control characters in a line of the output: {line:?}");
    let json = schema.read(&line)?;
    Ok(Alert { line, json })
}
