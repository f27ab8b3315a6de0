//! `cargo xtask fuzz` and `cargo xtask differential`: what takes longer than a test run may.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::tool::{cargo, found, root, run as run_command, target};

/// Fuzz every parser of hostile bytes for a while
///
/// Coverage-guided, by libFuzzer through cargo-fuzz (`cargo install cargo-fuzz`). The compiler is the stable one; the
/// sanitizers are switched on by RUSTC_BOOTSTRAP. What was found is kept below target/fuzz, and fails the run.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask fuzz                             one minute a target
  cargo xtask fuzz --seconds 600 pickle zip
  SENSOR_CORPUS=../corpus cargo xtask fuzz     begins with the samples of a corpus")]
pub struct Options {
    /// Only these; all where none is named
    targets: Vec<String>,
    /// For each target
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
}

/// Folders with a `fuzz_targets`.
const FOLDERS: [&str; 2] = ["sensor-scan/fuzz", "sensor/fuzz"];
/// Larger inputs only slow a fuzzer down.
const INPUT_BYTES_MAX: u64 = 1 << 16;
/// One input: far beyond what any takes.
const INPUT_SECONDS_MAX: u32 = 20;
/// The scanner's own limit with a decoder's window, and what the sanitizer adds.
const MEMORY_MIB_MAX: u32 = 1_024;

pub fn run(options: &Options) -> Result<()> {
    if !found("cargo-fuzz") {
        bail!("cargo-fuzz is missing: `cargo install cargo-fuzz`");
    }
    let mut failed = Vec::new();
    let mut ran = 0;
    for folder in FOLDERS.map(|folder| root().join(folder)).iter().filter(|folder| folder.is_dir()) {
        for name in names(folder)? {
            if options.targets.is_empty() || options.targets.contains(&name) {
                println!("\n=== {name}, {} s", options.seconds);
                ran += 1;
                if let Err(error) = fuzz(folder, &name, options.seconds) {
                    println!("{error:#}");
                    failed.push(name);
                }
            }
        }
    }
    if ran == 0 {
        bail!("no such target");
    }
    if !failed.is_empty() {
        bail!("something was found by {}: the inputs are below target/fuzz", failed.join(", "));
    }
    println!("\n{ran} targets, nothing found");
    Ok(())
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder.join("fuzz_targets"))? {
        let path = entry?.path();
        if let Some(name) = path.file_stem().and_then(|name| name.to_str()) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn fuzz(folder: &Path, name: &str, seconds: u32) -> Result<()> {
    let work = target().join("fuzz").join(name);
    let (inputs, artifacts) = (work.join("inputs"), work.join("artifacts"));
    fs::create_dir_all(&inputs)?;
    fs::create_dir_all(&artifacts)?;
    let mut command = cargo();
    command.args(["fuzz", "run", "--fuzz-dir"]).arg(folder).arg(name).arg(&inputs);
    if let Some(seeds) = seeds()? {
        command.arg(seeds);
    }
    command
        .arg("--")
        .args([format!("-max_total_time={seconds}"), format!("-timeout={INPUT_SECONDS_MAX}")])
        .args([format!("-rss_limit_mb={MEMORY_MIB_MAX}"), format!("-max_len={INPUT_BYTES_MAX}")])
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg("-print_final_stats=1")
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_DIR", target().join("fuzz-build"));
    run_command(&mut command)
}

/// The small samples of the corpus that SENSOR_CORPUS names, in one folder: libFuzzer doesn't follow deep trees.
fn seeds() -> Result<Option<PathBuf>> {
    let Some(corpus) = std::env::var_os("SENSOR_CORPUS").map(PathBuf::from) else { return Ok(None) };
    let folder = target().join("fuzz").join("seeds");
    if folder.is_dir() {
        return Ok(Some(folder));
    }
    fs::create_dir_all(&folder)?;
    for part in ["malicious", "benign"] {
        let part = corpus.join(part);
        for entry in fs::read_dir(&part).with_context(|| part.display().to_string())? {
            let entry = entry?;
            let found = entry.metadata()?;
            if found.is_file() && found.len() <= INPUT_BYTES_MAX {
                fs::copy(entry.path(), folder.join(entry.file_name()))?;
            }
        }
    }
    Ok(Some(folder))
}

/// Compare the scanner with the readers themselves, on many generated programs
///
/// The tests do the same with a few thousand.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask differential\n  cargo xtask differential --programs 1000000")]
pub struct Differential {
    /// Pickles that are generated and loaded by every reader
    #[arg(long, default_value_t = 100_000)]
    programs: u64,
}

pub fn differential(options: &Differential) -> Result<()> {
    let mut command = cargo();
    command
        .args(["test", "--locked", "--release", "-p", "sensor-scan", "--test", "pickle_oracle", "--test", "zip_oracle"])
        .args(["--", "--nocapture"])
        .env("SENSOR_PROGRAMS", options.programs.to_string());
    run_command(&mut command)
}
