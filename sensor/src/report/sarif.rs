//! `--format sarif`: SARIF 2.1.0 (OASIS), for code scanning services and editors. Results are written as they come;
//! the rules that they name stand behind them.

use std::collections::BTreeMap;
use std::io;

use sensor_scan::rule::{self, Manual};
use sensor_scan::{Finding, Severity, Verdict};
use serde_json::{Value, json};

use super::{Examined, Summary, Write, evidence_json, text};
use crate::escape;

const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";
const HOME: &str = env!("CARGO_PKG_REPOSITORY");

pub struct Sarif<W> {
    out: W,
    results: u64,
    /// Every rule that was named: its place in the list, and its worst severity in this run.
    rules: BTreeMap<&'static str, (usize, Severity)>,
    unread: Vec<Value>,
}

/// Files of which it is said one by one that they were not read completely; the summary counts the rest.
const UNREAD_MAX: usize = 1_000;

impl<W: io::Write> Sarif<W> {
    pub fn new(out: W) -> Self {
        Self { out, results: 0, rules: BTreeMap::new(), unread: Vec::new() }
    }

    fn result(&mut self, examined: &Examined, finding: &Finding) -> Value {
        let next = self.rules.len();
        let (index, worst) = self.rules.entry(finding.id).or_insert((next, finding.severity));
        *worst = (*worst).max(finding.severity);
        let uri = uri(&examined.path);
        let mut physical = json!({ "artifactLocation": { "uri": uri } });
        let mut location = serde_json::Map::new();
        match (&finding.member, finding.offset) {
            // An offset within a decoded member is none of the file.
            (None, Some(offset)) => physical["region"] = json!({ "byteOffset": offset, "byteLength": 1 }),
            (Some(member), _) => {
                let name = text(member).0;
                location.insert("logicalLocations".into(), json!([{ "fullyQualifiedName": name, "kind": "member" }]));
            }
            (None, None) => {}
        }
        location.insert("physicalLocation".into(), physical);
        let evidence: BTreeMap<&str, Value> =
            finding.evidence.iter().map(|(key, value)| (*key, json!(evidence_json(value)))).collect();
        let report = &examined.report;
        json!({
            "ruleId": finding.id,
            "ruleIndex": index,
            "level": level(finding, report.verdict),
            "message": { "text": finding.title },
            "locations": [location],
            "partialFingerprints": { "sensorFinding/v1": fingerprint(&uri, finding) },
            "properties": {
                "severity": finding.severity.name(),
                "verdict": report.verdict.name(),
                "format": report.format,
                "sha256": examined.sha256,
                "offset": finding.offset,
                "opcode": finding.opcode,
                "loaders": finding.loaders,
                "evidence": evidence,
            },
        })
    }
}

impl<W: io::Write> Write for Sarif<W> {
    fn file(&mut self, examined: &Examined) -> io::Result<()> {
        if !examined.report.coverage.complete && self.unread.len() < UNREAD_MAX {
            let message = format!("{} was not read completely", text(&examined.path).0);
            let at = json!({ "physicalLocation": { "artifactLocation": { "uri": uri(&examined.path) } } });
            self.unread.push(json!({ "level": "warning", "message": { "text": message }, "locations": [at] }));
        }
        // Notes drown what decided.
        for finding in examined.report.findings.iter().filter(|finding| finding.severity > Severity::Info) {
            let result = self.result(examined, finding);
            if self.results == 0 {
                write!(self.out, r#"{{"$schema":"{SCHEMA}","version":"2.1.0","runs":[{{"results":["#)?;
            } else {
                self.out.write_all(b",")?;
            }
            self.results += 1;
            self.out.write_all(b"\n")?;
            self.out.write_all(&escape::json(&result)?)?;
        }
        Ok(())
    }

    fn end(&mut self, summary: &Summary) -> io::Result<()> {
        if self.results == 0 {
            write!(self.out, r#"{{"$schema":"{SCHEMA}","version":"2.1.0","runs":[{{"results":["#)?;
        }
        let mut named: Vec<(usize, &str, Severity)> =
            self.rules.iter().map(|(id, (index, worst))| (*index, *id, *worst)).collect();
        named.sort_unstable();
        let rules: Vec<Value> = named.into_iter().map(|(_, id, worst)| describe(id, worst)).collect();
        let tool = json!({ "driver": {
            "name": "sensor",
            "semanticVersion": env!("CARGO_PKG_VERSION"),
            "informationUri": HOME,
            "rules": rules,
        } });
        let invocation = json!({
            "executionSuccessful": summary.files > 0,
            "toolExecutionNotifications": self.unread,
            "properties": summary,
        });
        self.out.write_all(b"\n],\"tool\":")?;
        self.out.write_all(&escape::json(&tool)?)?;
        self.out.write_all(b",\"invocations\":[")?;
        self.out.write_all(&escape::json(&invocation)?)?;
        self.out.write_all(b"],\"columnKind\":\"unicodeCodePoints\"}]}\n")?;
        self.out.flush()
    }
}

/// One entry of the list of rules; `security-severity` is what code scanning services sort by (0 to 10).
fn describe(id: &str, worst: Severity) -> Value {
    let score = match worst {
        Severity::Critical => "9.5",
        Severity::High => "8.0",
        Severity::Medium => "5.0",
        Severity::Low => "2.0",
        Severity::Info => "0.0",
    };
    let Some(manual) = rule::manual(id) else { return json!({ "id": id }) };
    let Manual { title, what, executes, abuse, fix, benign, attack, atlas, .. } = manual;
    let tags: Vec<&str> = ["security"].iter().chain(attack.iter()).chain(atlas.iter()).copied().collect();
    let help = format!(
        "{what}\n\nWho executes it: {executes}\n\nAbuse: {abuse}\n\nWhat to do: {fix}\n\nHarmless when: {benign}"
    );
    json!({
        "id": id,
        "shortDescription": { "text": title },
        "fullDescription": { "text": what },
        "help": { "text": help },
        "properties": { "tags": tags, "security-severity": score },
    })
}

fn level(finding: &Finding, verdict: Verdict) -> &'static str {
    match finding.severity {
        Severity::Critical | Severity::High => "error",
        Severity::Medium => "warning",
        _ if finding.is_coverage() && verdict == Verdict::Unscannable => "warning",
        _ => "note",
    }
}

/// What stays the same when the file is scanned again: not its place, which moves with the bytes before it.
fn fingerprint(uri: &str, finding: &Finding) -> String {
    use sha2::{Digest as _, Sha256};
    let mut hash = Sha256::new();
    let member = finding.member.as_deref().unwrap_or_default();
    for part in [finding.id.as_bytes(), uri.as_bytes(), member, finding.title.as_bytes()] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// A path as a URI reference (RFC 3986): what isn't unreserved is percent-encoded, byte by byte.
pub fn uri(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len() + 8);
    if path.starts_with(b"/") {
        text.push_str("file://");
    } else if path.split(|byte| *byte == b'/').next().is_some_and(|first| first.contains(&b':')) {
        // Else the first segment would be read as a scheme.
        text.push_str("./");
    }
    for byte in path {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => text.push(char::from(*byte)),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::uri;

    #[test]
    fn paths_become_uri_references() {
        assert_eq!(uri(b"models/a b.pt"), "models/a%20b.pt");
        assert_eq!(uri(b"/x/\xff#?%.pt"), "file:///x/%FF%23%3F%25.pt");
        assert_eq!(uri(b"a:b/c"), "./a%3Ab/c");
        assert_eq!(uri(b"-"), "-");
    }
}
