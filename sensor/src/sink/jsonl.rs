//! Shape `native`: one JSON object per line.
//!
//! Put together and not serialised as a whole: most of an alert (who acted, the model, what is told again) was written for
//! an earlier one, and is copied.

use serde::Serialize;

use crate::alert::{Alert, Incident, SCHEMA, Shared};
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
    // Named one by one, so that none is forgotten.
    let Alert {
        schema,
        id,
        time,
        severity,
        rule,
        action,
        update,
        event,
        process,
        model,
        models_omitted,
        container: (),
        k8s: (),
        incident: Incident { id: incident_id, count, first_seen, last_seen },
        timeline,
        timeline_omitted,
        host,
    } = alert;
    let process = process.as_ref().map_or("null", Shared::json);
    let model = model.as_ref().map_or("null", Shared::json);
    let told: usize = timeline.iter().map(|moment| moment.json().len() + 1).sum();
    let shared = rule.json().len() + process.len() + model.len() + host.json().len() + told;
    let mut bytes = Vec::with_capacity(OWN_BYTES + shared);

    let mut line = Object::new(&mut bytes);
    line.plain("schema", schema);
    line.plain("id", id);
    line.plain("time", time);
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
    let mut incident = line.object("incident");
    incident.plain("id", incident_id);
    incident.json("count", count)?;
    incident.plain("first_seen", first_seen);
    incident.plain("last_seen", last_seen);
    incident.end();
    line.copy_all("timeline", timeline.iter().map(Shared::json));
    line.json_if_any("timeline_omitted", timeline_omitted)?;
    line.copy("host", host.json());
    line.end();
    Ok(bytes)
}

/// A JSON object that is being written.
struct Object<'a> {
    out: &'a mut Vec<u8>,
    /// What goes before the next name.
    before: u8,
}

impl<'a> Object<'a> {
    fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, before: b'{' }
    }

    /// `name` needs no escape.
    fn name(&mut self, name: &'static str) {
        self.out.extend_from_slice(&[self.before, b'"']);
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.before = b',';
    }

    /// Text of the sensor's own making (numbers, times), which needs no escape.
    fn plain(&mut self, name: &'static str, text: &str) {
        self.name(name);
        self.out.push(b'"');
        self.out.extend_from_slice(text.as_bytes());
        self.out.push(b'"');
    }

    fn json(&mut self, name: &'static str, value: &impl Serialize) -> serde_json::Result<()> {
        self.name(name);
        escape::json_behind(self.out, value)
    }

    fn json_if_any(&mut self, name: &'static str, value: &Option<impl Serialize>) -> serde_json::Result<()> {
        value.as_ref().map_or(Ok(()), |value| self.json(name, value))
    }

    /// What is JSON already.
    fn copy(&mut self, name: &'static str, json: &str) {
        self.name(name);
        self.out.extend_from_slice(json.as_bytes());
    }

    /// A list of what is JSON already.
    fn copy_all<'b>(&mut self, name: &'static str, all: impl Iterator<Item = &'b str>) {
        self.name(name);
        self.out.push(b'[');
        for (i, json) in all.enumerate() {
            if i > 0 {
                self.out.push(b',');
            }
            self.out.extend_from_slice(json.as_bytes());
        }
        self.out.push(b']');
    }

    fn object(&mut self, name: &'static str) -> Object<'_> {
        self.name(name);
        Object::new(self.out)
    }

    fn end(self) {
        self.out.push(b'}');
    }
}
