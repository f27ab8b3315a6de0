//! Shape `native`: one JSON object per line.
//!
//! Put together and not serialised as a whole: most of an alert (who acted, the model, what is told again) was written for
//! an earlier one, and is copied.

use serde::Serialize;

use crate::alert::{Alert, SCHEMA, Shared};
use crate::escape;

/// Room for all but the shared parts of most alerts, bytes.
const OWN_BYTES: usize = 1024;

/// The line, with its end.
pub fn render(alert: &Alert) -> Vec<u8> {
    // An alert has no map with keys that aren't text: this cannot fail. Were it to, the line says so instead of being
    // missing.
    let mut line =
        object(alert).unwrap_or_else(|error| format!("{{\"schema\":\"{SCHEMA}\",\"error\":\"{error}\"}}").into_bytes());
    line.push(b'\n');
    line
}

/// The fields in the order of the contract.
fn object(alert: &Alert) -> serde_json::Result<Vec<u8>> {
    // Named one by one, so that none is forgotten here.
    let Alert { schema, id, time, severity, rule, action, update, event, process, model, models_omitted, .. } = alert;
    let Alert { container: (), k8s: (), incident, timeline, timeline_omitted, host, .. } = alert;
    let process = process.as_ref().map_or("null", Shared::json);
    let model = model.as_ref().map_or("null", Shared::json);
    let told: usize = timeline.iter().map(|moment| moment.json().len() + 1).sum();
    let shared = rule.json().len() + process.len() + model.len() + host.json().len() + told;
    let mut line = Object(Vec::with_capacity(OWN_BYTES + shared));
    line.json("schema", schema)?;
    line.json("id", id)?;
    line.json("time", time)?;
    line.json("severity", severity)?;
    line.copy("rule", rule.json());
    line.json("action", action)?;
    line.json_if_any("update", update)?;
    line.json("event", event)?;
    line.copy("process", process);
    line.copy("model", model);
    line.json_if_any("models_omitted", models_omitted)?;
    line.copy("container", "null");
    line.copy("k8s", "null");
    line.json("incident", incident)?;
    line.copy_all("timeline", timeline.iter().map(Shared::json));
    line.json_if_any("timeline_omitted", timeline_omitted)?;
    line.copy("host", host.json());
    Ok(line.end())
}

/// A JSON object that is being written.
struct Object(Vec<u8>);

impl Object {
    /// `name` needs no escape.
    fn name(&mut self, name: &'static str) {
        self.0.extend_from_slice(if self.0.is_empty() { b"{\"" } else { b",\"" });
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    fn json(&mut self, name: &'static str, value: &impl Serialize) -> serde_json::Result<()> {
        self.name(name);
        escape::json_behind(&mut self.0, value)
    }

    fn json_if_any(&mut self, name: &'static str, value: &Option<impl Serialize>) -> serde_json::Result<()> {
        value.as_ref().map_or(Ok(()), |value| self.json(name, value))
    }

    /// What is JSON already.
    fn copy(&mut self, name: &'static str, json: &str) {
        self.name(name);
        self.0.extend_from_slice(json.as_bytes());
    }

    /// A list of what is JSON already.
    fn copy_all<'a>(&mut self, name: &'static str, all: impl Iterator<Item = &'a str>) {
        self.name(name);
        self.0.push(b'[');
        for (i, json) in all.enumerate() {
            if i > 0 {
                self.0.push(b',');
            }
            self.0.extend_from_slice(json.as_bytes());
        }
        self.0.push(b']');
    }

    fn end(mut self) -> Vec<u8> {
        self.0.push(b'}');
        self.0
    }
}
