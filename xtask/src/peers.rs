//! `cargo xtask peers`: the samples in other scanners' test suites, as far as packages carry them, held to what we expect.
//!
//! The list, `peers/samples.toml`, is facts only: package, version, where in it, and the verdict that we stand by. The
//! samples themselves are downloaded and made below target/; none is committed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use crate::tool::{cargo, output, run as run_command, target};

const LIST: &str = include_str!("peers/samples.toml");
const GENERATE_PY: &str = include_str!("peers/generate.py");

/// Scan the samples of other scanners' test suites
///
/// Downloads the listed versions of their source packages by pip, lets those that make their samples make them (in an
/// environment of its own, without running their scanners), and compares verdicts with the list. All of it below target/.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask peers
  cargo xtask peers --sensor target/release/sensor --verbose")]
pub struct Options {
    /// A sensor that is built already
    #[arg(long, value_name = "FILE")]
    sensor: Option<PathBuf>,
    /// Every sample with its verdict
    #[arg(long)]
    verbose: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    package: Vec<Package>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Package {
    name: String,
    version: String,
    /// What its samples need to be made.
    #[serde(default)]
    needs: Vec<String>,
    #[serde(default)]
    files: Vec<Files>,
    #[serde(default)]
    generated: Vec<Generated>,
}

/// Members of the package below one folder.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Files {
    below: String,
    expect: Vec<Expect>,
}

/// Samples that the package's own code makes; see generate.py.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Generated {
    kind: String,
    file: String,
    #[serde(default)]
    name: String,
    expect: Vec<Expect>,
}

/// Of all samples that fit one of the names, the first entry that fits counts.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    /// `*` stands for anything.
    names: Vec<String>,
    verdict: Expected,
    why: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Expected {
    Clean,
    /// Suspicious or malicious.
    Suspicious,
    Malicious,
    /// Anything but clean.
    NotClean,
    /// No loader does anything with it, and nothing is claimed of it.
    Any,
}

impl Expected {
    fn holds(self, verdict: &str) -> bool {
        match self {
            Self::Clean => verdict == "clean",
            Self::Suspicious => matches!(verdict, "suspicious" | "malicious"),
            Self::Malicious => verdict == "malicious",
            Self::NotClean => verdict != "clean",
            Self::Any => true,
        }
    }
}

pub fn run(options: &Options) -> Result<()> {
    let list: List = toml::from_str(LIST).context("peers/samples.toml")?;
    let sensor = match &options.sensor {
        Some(sensor) => sensor.clone(),
        None => {
            run_command(cargo().args(["build", "--quiet", "--locked", "--package", "sensor", "--bin", "sensor"]))?;
            target().join("debug/sensor")
        }
    };
    let (mut total, mut wrong) = (0, 0);
    println!("{:32} {:>8} {:>8}", "", "samples", "as expected");
    for package in &list.package {
        let source = source(package)?;
        for files in &package.files {
            let folder = source.join(&files.below);
            let (count, bad) = judge(&sensor, &folder, &files.expect, options.verbose)?;
            (total, wrong) = (total + count, wrong + bad);
            row(&format!("{} {}", package.name, files.below), count, bad);
        }
        for generated in &package.generated {
            let folder = generate(package, generated, &source)?;
            let (count, bad) = judge(&sensor, &folder, &generated.expect, options.verbose)?;
            (total, wrong) = (total + count, wrong + bad);
            row(&format!("{} {}", package.name, generated.file), count, bad);
        }
    }
    if wrong > 0 {
        bail!("{wrong} of {total} samples are judged otherwise than listed");
    }
    println!("{total} samples, all judged as listed");
    Ok(())
}

fn row(name: &str, count: usize, bad: usize) {
    println!("{name:60} {count:>8} {:>8}", count - bad);
}

fn folder() -> PathBuf {
    target().join("peers")
}

/// The package's source, unpacked.
fn source(package: &Package) -> Result<PathBuf> {
    let folder = folder().join(format!("{}-{}", package.name, package.version));
    let complete = folder.join("complete");
    if !complete.is_file() {
        fs::create_dir_all(&folder)?;
        let wanted = format!("{}=={}", package.name, package.version);
        run_command(
            Command::new("python3")
                .args(["-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", &package.name, &wanted])
                .current_dir(&folder),
        )?;
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "gz") {
                run_command(
                    Command::new("tar").args(["--strip-components=1", "-xzf"]).arg(&path).current_dir(&folder),
                )?;
            }
        }
        fs::write(complete, "")?;
    }
    Ok(folder)
}

/// Lets the package's code write its samples; nothing but the listed modules of it is imported.
fn generate(package: &Package, generated: &Generated, source: &Path) -> Result<PathBuf> {
    let environment = folder().join("environment");
    let python = environment.join("bin/python");
    if !python.is_file() {
        run_command(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
    }
    if !package.needs.is_empty() {
        run_command(Command::new(environment.join("bin/pip")).args(["install", "--quiet"]).args(&package.needs))?;
    }
    let samples = folder().join("made").join(format!("{}-{}", package.name, generated.file.replace('/', "-")));
    let samples = samples.join(if generated.name.is_empty() { "calls" } else { &generated.name });
    fs::create_dir_all(&samples)?;
    let name = if generated.name.is_empty() { "-" } else { &generated.name };
    output(
        Command::new(python)
            .args(["-c", GENERATE_PY, &generated.kind, &generated.file, name])
            .arg(&samples)
            .current_dir(source),
    )?;
    Ok(samples)
}

/// Number of samples, and of those judged otherwise than expected, which are printed.
fn judge(sensor: &Path, folder: &Path, expect: &[Expect], verbose: bool) -> Result<(usize, usize)> {
    let mut names = Vec::new();
    below(folder, folder, &mut names)?;
    names.sort();
    let (mut count, mut wrong) = (0, 0);
    for name in names {
        let Some(expected) = expect.iter().find(|expect| expect.names.iter().any(|pattern| fits(pattern, &name)))
        else {
            continue;
        };
        let ran = Command::new(sensor)
            .args(["scan", "--all", "--format", "jsonl", "--"])
            .arg(folder.join(&name))
            .stdin(Stdio::null())
            .output()?;
        let line = String::from_utf8_lossy(&ran.stdout);
        let report: Value = serde_json::from_str(line.trim()).with_context(|| format!("{name}: {line}"))?;
        let verdict = report["verdict"].as_str().unwrap_or_default();
        let holds = expected.verdict.holds(verdict);
        count += 1;
        wrong += usize::from(!holds);
        if verbose || !holds {
            let finding = report["findings"][0]["id"].as_str().unwrap_or("-");
            println!("  {name}: {verdict} ({finding}), expected {:?}: {}", expected.verdict, expected.why);
        }
    }
    if count == 0 {
        bail!("{} holds none of the listed samples", folder.display());
    }
    Ok((count, wrong))
}

/// Relative paths of all files.
fn below(root: &Path, folder: &Path, names: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            below(root, &path, names)?;
        } else {
            names.push(path.strip_prefix(root)?.display().to_string());
        }
    }
    Ok(())
}

/// A pattern in which `*` stands for anything.
fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = name.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name) in
            [("a", "a"), ("a*", "abc"), ("*c", "abc"), ("a*c", "abc"), ("*b*", "abc"), ("a*b*c", "axbyc")]
        {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("a", "ab"), ("b*", "abc"), ("*b", "abc"), ("a*b*d", "axbyc")] {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn the_list_is_whole() {
        let list: List = toml::from_str(LIST).unwrap();
        for package in &list.package {
            let expect = package.files.iter().flat_map(|files| &files.expect);
            for expect in expect.chain(package.generated.iter().flat_map(|generated| &generated.expect)) {
                assert!(!expect.why.is_empty() && !expect.names.is_empty(), "{}", package.name);
            }
        }
    }
}
