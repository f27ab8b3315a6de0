//! `--format cyclonedx`: a bill of materials of models (CycloneDX 1.6, ML-BOM): every model file a component with its
//! hash, every finding that decides something a vulnerability of it.

use std::io;

use jiff::Timestamp;
use sensor_scan::{Finding, Severity};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::sarif::uri;
use super::{Examined, Summary, Write, text};
use crate::{escape, hub};

pub struct CycloneDx<W> {
    out: W,
    components: u64,
    vulnerabilities: Vec<Value>,
    left_out: u64,
    serial: Sha256,
}

/// Findings that stand in one document.
const VULNERABILITIES_MAX: usize = 100_000;
/// CWE-502, deserialization of untrusted data; of the other findings nothing as exact is said.
const CWE_DESERIALIZATION: u32 = 502;

impl<W: io::Write> CycloneDx<W> {
    pub fn new(out: W) -> Self {
        Self { out, components: 0, vulnerabilities: Vec::new(), left_out: 0, serial: Sha256::new() }
    }

    fn vulnerability(&mut self, reference: &str, finding: &Finding) {
        if self.vulnerabilities.len() >= VULNERABILITIES_MAX {
            self.left_out += 1;
            return;
        }
        let mut detail = String::new();
        if let Some(member) = &finding.member {
            detail.push_str(&format!("in {}; ", text(member).0));
        }
        if let Some(offset) = finding.offset {
            detail.push_str(&format!("at {offset}; "));
        }
        if !finding.loaders.is_empty() {
            detail.push_str(&format!("runs with {}", finding.loaders.join(", ")));
        }
        let mut entry = json!({
            "bom-ref": format!("finding-{}", self.vulnerabilities.len()),
            "id": finding.id,
            "source": { "name": "sensor" },
            "ratings": [{ "severity": finding.severity.name(), "method": "other" }],
            "description": finding.title,
            "affects": [{ "ref": reference }],
        });
        if finding.id.starts_with("SNS-1") {
            entry["cwes"] = json!([CWE_DESERIALIZATION]);
        }
        let detail = detail.trim_end_matches("; ");
        if !detail.is_empty() {
            entry["detail"] = json!(detail);
        }
        if let Some(fix) = sensor_scan::rule::manual(finding.id).map(|manual| manual.fix) {
            entry["recommendation"] = json!(fix);
        }
        self.vulnerabilities.push(entry);
    }
}

const START: &str = r#"{"bomFormat":"CycloneDX","specVersion":"1.6","version":1,"components":["#;

impl<W: io::Write> Write for CycloneDx<W> {
    fn file(&mut self, examined: &Examined) -> io::Result<()> {
        let report = &examined.report;
        let reference = format!("file-{}", self.components);
        let path = text(&examined.path).0;
        let name = path.rsplit('/').find(|part| !part.is_empty()).unwrap_or(&path).to_owned();
        self.serial.update(&examined.path);
        self.serial.update(examined.sha256.as_deref().unwrap_or_default());
        let property = |name: &str, value: String| json!({ "name": format!("sensor:{name}"), "value": value });
        let mut component = json!({
            "type": "machine-learning-model",
            "bom-ref": reference,
            "name": name,
            "properties": [
                property("path", path),
                property("uri", uri(&examined.path)),
                property("format", report.format.to_owned()),
                property("size", report.size.to_string()),
                property("verdict", report.verdict.name().to_owned()),
                property("complete", report.coverage.complete.to_string()),
            ],
        });
        if let Some(sha256) = &examined.sha256 {
            component["hashes"] = json!([{ "alg": "SHA-256", "content": sha256 }]);
        }
        if let Some((repo, revision)) = hub::identity(&examined.path) {
            // https://github.com/package-url/purl-spec: type huggingface
            let revision_part = revision.as_deref().map(|revision| format!("@{}", uri(revision.as_bytes())));
            component["purl"] =
                json!(format!("pkg:huggingface/{}{}", uri(repo.as_bytes()), revision_part.unwrap_or_default()));
            if let Some(revision) = revision {
                component["version"] = json!(revision);
            }
        }
        self.out.write_all(if self.components == 0 { START } else { "," }.as_bytes())?;
        self.components += 1;
        self.out.write_all(b"\n")?;
        self.out.write_all(&escape::json(&component)?)?;
        for finding in &report.findings {
            if finding.severity >= Severity::Medium || (finding.is_coverage() && !report.coverage.complete) {
                self.vulnerability(&reference, finding);
            }
        }
        Ok(())
    }

    fn end(&mut self, summary: &Summary) -> io::Result<()> {
        if self.components == 0 {
            write!(self.out, "{START}")?;
        }
        let now = Timestamp::now();
        let mut serial = self.serial.clone();
        serial.update(now.as_nanosecond().to_le_bytes());
        let metadata = json!({
            // Seconds, as RFC 3339 has it everywhere.
            "timestamp": now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "tools": { "components": [{
                "type": "application",
                "name": "sensor",
                "version": env!("CARGO_PKG_VERSION"),
            }] },
            "properties": [
                { "name": "sensor:files", "value": summary.files.to_string() },
                { "name": "sensor:findings_left_out", "value": self.left_out.to_string() },
            ],
        });
        self.out.write_all(b"\n],\"vulnerabilities\":")?;
        self.out.write_all(&escape::json(&self.vulnerabilities)?)?;
        self.out.write_all(b",\"metadata\":")?;
        self.out.write_all(&escape::json(&metadata)?)?;
        writeln!(self.out, ",\"serialNumber\":\"urn:uuid:{}\"}}", uuid(&serial.finalize()))?;
        self.out.flush()
    }
}

/// A UUID of version 8 (RFC 9562: the bits are the maker's own) from a hash.
fn uuid(hash: &[u8]) -> String {
    let mut bytes = [0u8; 16];
    for (to, from) in bytes.iter_mut().zip(hash) {
        *to = *from;
    }
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::uuid;

    #[test]
    fn a_hash_becomes_a_uuid() {
        assert_eq!(uuid(&[0xff; 32]), "ffffffff-ffff-8fff-bfff-ffffffffffff");
    }
}
