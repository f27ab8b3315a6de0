//! The other scanners, each in an environment of its own, and the corpus that all of them judge.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::folder;
use crate::tool::{found, is_root, run};

pub const PEERS: [&str; 4] = ["picklescan", "modelscan", "fickling", "modelaudit"];
const PEERS_PY: &str = include_str!("peers.py");
/// Per sample, seconds.
const TIME_MAX_S: u32 = 120;

/// One file or folder of a corpus.
#[derive(Debug)]
pub struct Sample {
    pub path: PathBuf,
    pub malicious: bool,
    pub expected: String,
    /// `kind` of a benign sample.
    pub kind: String,
}

/// What one scanner said of one sample.
#[derive(Debug, Clone, Copy, Default)]
pub struct Judged {
    pub flagged: bool,
    /// Only ours tells suspicious from malicious; of the others the same as `flagged`.
    pub malicious: bool,
    pub failed: bool,
    pub seconds: f64,
}

/// Both manifests of a corpus.
pub fn samples(corpus: &Path) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for (name, malicious) in [("malicious", true), ("benign", false)] {
        let folder = corpus.join(name);
        let text = fs::read_to_string(folder.join("manifest.csv"))
            .with_context(|| format!("{} has no manifest.csv", folder.display()))?;
        let mut lines = text.lines();
        let head = fields(lines.next().unwrap_or_default());
        for line in lines.filter(|line| !line.is_empty()) {
            let row: BTreeMap<&str, String> = head.iter().map(String::as_str).zip(fields(line)).collect();
            let value = |key: &str| row.get(key).cloned().unwrap_or_default();
            if value("expected") == "benign-control" {
                continue;
            }
            samples.push(Sample {
                path: folder.join(value("file")),
                malicious,
                expected: value("expected"),
                kind: value("kind"),
            });
        }
    }
    Ok(samples)
}

/// The fields of a line of CSV (RFC 4180; no line breaks in fields).
fn fields(line: &str) -> Vec<String> {
    let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                field.push('"');
                chars.next();
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            _ => field.push(c),
        }
    }
    fields.push(field);
    fields
}

/// Our own word on every sample. A sample may be a folder: its worst file counts.
pub fn ours(sensor: &Path, samples: &[Sample]) -> Result<Vec<Judged>> {
    samples
        .iter()
        .map(|sample| {
            let ran = Command::new(sensor).args(["scan", "--all", "--format", "jsonl"]).arg(&sample.path).output()?;
            let mut judged = Judged::default();
            for line in String::from_utf8_lossy(&ran.stdout).lines() {
                let line: Value = serde_json::from_str(line)?;
                let verdict = line["verdict"].as_str().unwrap_or_default();
                judged.malicious |= verdict == "malicious";
                judged.flagged |= matches!(verdict, "malicious" | "suspicious");
                judged.failed |= verdict == "unscannable";
                judged.seconds += line["elapsed_us"].as_f64().unwrap_or_default() / 1e6;
            }
            Ok(judged)
        })
        .collect()
}

/// A peer that is installed.
pub struct Peer {
    pub name: &'static str,
    environment: PathBuf,
}

impl Peer {
    /// Installs it where it isn't there yet.
    pub fn get(name: &'static str) -> Result<Self> {
        let environment = folder().join(name);
        let complete = environment.join("complete");
        if !complete.is_file() {
            println!("Installing {name} below target/.");
            run(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
            // fickling imports typing_extensions without asking for it.
            run(Command::new(environment.join("bin/pip")).args(["install", "--quiet", name, "typing_extensions"]))?;
            fs::write(complete, "")?;
        }
        Ok(Self { name, environment })
    }

    /// Its command line.
    pub fn program(&self) -> PathBuf {
        self.environment.join("bin").join(self.name)
    }

    /// Samples in one process, one after the other, without a network.
    pub fn judge(&self, samples: &[Sample]) -> Result<Vec<Judged>> {
        let paths: Vec<&Path> = samples.iter().map(|sample| sample.path.as_path()).collect();
        self.judge_paths(&paths)
    }

    pub fn judge_paths(&self, paths: &[&Path]) -> Result<Vec<Judged>> {
        let mut command = alone(&self.environment.join("bin/python"));
        command.args(["-c", PEERS_PY, self.name, &TIME_MAX_S.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut input = child.stdin.take().context("its input")?;
        let lines: String = paths.iter().map(|path| format!("{}\n", path.display())).collect();
        let feeder = std::thread::spawn(move || input.write_all(lines.as_bytes()));
        let output = child.wait_with_output()?;
        let _ = feeder.join();
        let judged: Vec<Judged> = String::from_utf8_lossy(&output.stdout)
            .lines()
            .map(|line| -> Result<Judged> {
                let line: Value = serde_json::from_str(line)?;
                let flagged = line["flagged"].as_bool().unwrap_or_default();
                let (failed, seconds) =
                    (line["failed"].as_bool().unwrap_or(true), line["seconds"].as_f64().unwrap_or_default());
                Ok(Judged { flagged, malicious: flagged, failed, seconds })
            })
            .collect::<Result<_>>()?;
        if judged.len() != paths.len() {
            bail!("{} answered for {} of {} samples: {}", self.name, judged.len(), paths.len(), output.status);
        }
        Ok(judged)
    }
}

/// A program without a network, where we may take it away.
pub fn alone(program: &Path) -> Command {
    if is_root() && found("unshare") {
        let mut command = Command::new("unshare");
        command.arg("--net").arg(program);
        return command;
    }
    Command::new(program)
}

#[cfg(test)]
mod tests {
    use super::fields;

    #[test]
    fn fields_of_a_line() {
        assert_eq!(fields(r#"a,"b,""c""",,d"#), ["a", "b,\"c\"", "", "d"]);
    }
}
