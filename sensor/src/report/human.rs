//! `--format human`: for a person at a terminal.

use std::io;

use anstyle::{AnsiColor, Style};
use sensor_scan::{Evidence, Finding, Severity, Verdict};

use super::{Examined, Summary, Write};
use crate::escape;

/// What is shown beside the verdicts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Detail {
    /// Evidence and loaders of every finding, notes on clean files too.
    pub explain: bool,
}

/// Findings that are shown of one file unless everything is asked for.
const FINDINGS_SHOWN_MAX: usize = 8;

pub struct Human<W> {
    out: W,
    detail: Detail,
}

impl<W: io::Write> Human<W> {
    /// `out` removes the colours where it is no terminal.
    pub fn new(out: W, detail: Detail) -> Self {
        Self { out, detail }
    }

    fn finding(&mut self, finding: &Finding) -> io::Result<()> {
        let style = severity_style(finding.severity);
        write!(
            self.out,
            "    {style}{:8}{style:#}  {}  {}",
            finding.severity.name(),
            finding.id,
            escape::terminal(finding.title.as_bytes())
        )?;
        let dim = Style::new().dimmed();
        write!(self.out, "{dim}")?;
        if let Some(member) = &finding.member {
            write!(self.out, "  in {}", escape::terminal(member))?;
        }
        if let Some(offset) = finding.offset {
            write!(self.out, "  at {offset}")?;
        }
        if let Some(opcode) = finding.opcode {
            write!(self.out, "  {opcode}")?;
        }
        writeln!(self.out, "{dim:#}")?;
        if self.detail.explain {
            for (key, value) in &finding.evidence {
                writeln!(self.out, "              {key}: {}", evidence(value))?;
            }
            if !finding.loaders.is_empty() {
                writeln!(self.out, "              runs with: {}", finding.loaders.join(", "))?;
            }
        }
        Ok(())
    }
}

impl<W: io::Write> Write for Human<W> {
    fn file(&mut self, examined: &Examined) -> io::Result<()> {
        let report = &examined.report;
        let style = verdict_style(report.verdict);
        write!(self.out, "{style}{:11}{style:#}  {}  ", report.verdict.name(), escape::terminal(&examined.path))?;
        write!(self.out, "({}, {}", report.format, size(report.size))?;
        if !report.coverage.complete && report.verdict != Verdict::Unscannable {
            write!(self.out, ", not read completely")?;
        }
        let notes = report.findings.len();
        if report.verdict == Verdict::Clean && notes > 0 && !self.detail.explain {
            write!(self.out, ", {notes} {}", if notes == 1 { "note" } else { "notes" })?;
        }
        writeln!(self.out, ")")?;
        if let Some(sha256) = &examined.sha256 {
            writeln!(self.out, "    sha256 {sha256}")?;
        }
        if self.detail.explain {
            report.findings.iter().try_for_each(|finding| self.finding(finding))?;
        } else if report.verdict != Verdict::Clean {
            // Notes only drown what decided.
            let telling = |finding: &&Finding| finding.severity >= Severity::Medium || finding.is_coverage();
            let findings: Vec<&Finding> = report.findings.iter().filter(telling).collect();
            findings.iter().take(FINDINGS_SHOWN_MAX).try_for_each(|finding| self.finding(finding))?;
            let left = report.findings.len() - findings.len().min(FINDINGS_SHOWN_MAX);
            if left > 0 {
                writeln!(self.out, "    … and {left} more: --explain shows all, with evidence")?;
            }
        }
        self.out.flush()
    }

    fn end(&mut self, summary: &Summary) -> io::Result<()> {
        let Summary { files, malicious, suspicious, unscannable, clean, incomplete, not_listed, .. } = *summary;
        let noun = if files == 1 { "file" } else { "files" };
        write!(
            self.out,
            "{files} {noun}: {malicious} malicious, {suspicious} suspicious, {unscannable} unscannable, {clean} clean"
        )?;
        if not_listed > 0 {
            write!(self.out, " (of which {not_listed} no models: --all lists them)")?;
        }
        if incomplete > unscannable {
            write!(self.out, "; {incomplete} not read completely")?;
        }
        writeln!(self.out)?;
        self.out.flush()
    }
}

fn evidence(evidence: &Evidence) -> String {
    match evidence {
        Evidence::Text(text) => escape::terminal(text.as_bytes()),
        Evidence::Number(number) => number.to_string(),
        Evidence::List(items) => {
            items.iter().map(|item| escape::terminal(item.as_bytes())).collect::<Vec<_>>().join(" → ")
        }
    }
}

fn verdict_style(verdict: Verdict) -> Style {
    match verdict {
        Verdict::Clean => AnsiColor::Green.on_default(),
        Verdict::Suspicious => AnsiColor::Yellow.on_default().bold(),
        Verdict::Malicious => AnsiColor::Red.on_default().bold(),
        Verdict::Unscannable => AnsiColor::Magenta.on_default().bold(),
    }
}

fn severity_style(severity: Severity) -> Style {
    match severity {
        Severity::Critical | Severity::High => AnsiColor::Red.on_default(),
        Severity::Medium => AnsiColor::Yellow.on_default(),
        Severity::Info | Severity::Low => Style::new(),
    }
}

/// Bytes with a binary unit, one decimal.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut scaled = bytes as f64;
    let mut unit = "bytes";
    for next in UNITS {
        if scaled < 1024.0 {
            break;
        }
        scaled /= 1024.0;
        unit = next;
    }
    if unit == "bytes" { format!("{bytes} bytes") } else { format!("{scaled:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_read_well() {
        assert_eq!([size(0), size(1023), size(1024), size(5 << 40)], ["0 bytes", "1023 bytes", "1.0 KiB", "5.0 TiB"]);
        assert_eq!(size(u64::MAX), "16.0 EiB");
    }
}
