//! `cargo xtask fuzz`: every parser of hostile bytes, for longer than a test run may take.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::tool::{cargo, found, root, run as run_command, target};

/// Fuzz every parser of hostile bytes for a while
///
/// Coverage-guided, by libFuzzer through cargo-fuzz (`cargo install cargo-fuzz`). The compiler is the stable one; the
/// sanitizers are switched on by RUSTC_BOOTSTRAP. A run begins with the seeds of the repository and with what earlier
/// runs found; what breaks a parser is kept below target/fuzz, and fails the run.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask fuzz                             one minute a target
  cargo xtask fuzz --seconds 600 pickle zip
  cargo xtask fuzz --keep                      then the seeds anew, from all that was found
  SENSOR_CORPUS=../corpus cargo xtask fuzz     begins with the samples of a corpus, too")]
pub struct Options {
    /// Only these; all where none is named
    targets: Vec<String>,
    /// For each target; 0 runs what is there and looks for nothing new
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Write the few small inputs that reach most as the repository's seeds
    #[arg(long)]
    keep: bool,
}

/// Folders with a `fuzz_targets`.
const FOLDERS: [&str; 2] = ["sensor-scan/fuzz", "sensor/fuzz"];
/// Larger inputs only slow a fuzzer down.
const INPUT_BYTES_MAX: u64 = 1 << 16;
/// One input, under the sanitizer: far beyond what any takes.
const INPUT_SECONDS_MAX: u32 = 20;
/// The scanner's own limit with a decoder's window, and what the sanitizer adds.
const MEMORY_MIB_MAX: u32 = 1_024;
/// The seeds of one target in the repository: of each file, and of all.
const SEED_BYTES_MAX: u64 = 2 << 10;
const SEEDS_BYTES_MAX: u64 = 8 << 10;

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
                if let Err(error) = Target::new(folder, &name).run(options) {
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
    for path in files(&folder.join("fuzz_targets"))? {
        names.extend(path.file_stem().and_then(|name| name.to_str()).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

/// The files of a folder; none where there is no folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    if folder.is_dir() {
        for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_file() {
                paths.push(path);
            }
        }
    }
    Ok(paths)
}

/// One fuzz target, and where its inputs are.
struct Target<'a> {
    folder: &'a Path,
    name: &'a str,
    /// What runs of this machine found.
    inputs: PathBuf,
    artifacts: PathBuf,
    /// In the repository.
    seeds: PathBuf,
}

impl<'a> Target<'a> {
    fn new(folder: &'a Path, name: &'a str) -> Self {
        let work = target().join("fuzz").join(name);
        let (inputs, artifacts) = (work.join("inputs"), work.join("artifacts"));
        Self { folder, name, inputs, artifacts, seeds: folder.join("seeds").join(name) }
    }

    fn run(&self, options: &Options) -> Result<()> {
        fs::create_dir_all(&self.inputs)?;
        fs::create_dir_all(&self.artifacts)?;
        let mut command = self.command();
        command.arg(&self.inputs);
        if self.seeds.is_dir() {
            command.arg(&self.seeds);
        }
        if let Some(samples) = samples()? {
            command.arg(samples);
        }
        command
            .arg("--")
            .args([format!("-max_total_time={}", options.seconds.max(1)), format!("-timeout={INPUT_SECONDS_MAX}")])
            .args([format!("-rss_limit_mb={MEMORY_MIB_MAX}"), format!("-max_len={INPUT_BYTES_MAX}")])
            .arg(format!("-artifact_prefix={}/", self.artifacts.display()))
            .arg("-print_final_stats=1");
        if options.seconds == 0 {
            command.arg("-runs=0");
        }
        run_command(&mut command)?;
        if options.keep { self.keep() } else { Ok(()) }
    }

    fn command(&self) -> Command {
        let mut command = cargo();
        command.args(["fuzz", "run", "--fuzz-dir"]).arg(self.folder).arg(self.name);
        command.env("RUSTC_BOOTSTRAP", "1").env("CARGO_TARGET_DIR", target().join("fuzz-build"));
        command
    }

    /// The smallest set of inputs that reaches every place that any reaches, as far as the room for it goes.
    fn keep(&self) -> Result<()> {
        let fresh = target().join("fuzz").join(self.name).join("kept");
        if fresh.is_dir() {
            fs::remove_dir_all(&fresh)?;
        }
        fs::create_dir_all(&fresh)?;
        let mut command = self.command();
        command.arg(&fresh).arg(&self.inputs);
        if self.seeds.is_dir() {
            command.arg(&self.seeds);
        }
        if let Some(samples) = samples()? {
            command.arg(samples);
        }
        let small = format!("-max_len={SEED_BYTES_MAX}");
        command.args(["--", "-set_cover_merge=1", "-use_counters=0", &small]);
        run_command(&mut command)?;
        if self.seeds.is_dir() {
            fs::remove_dir_all(&self.seeds)?;
        }
        fs::create_dir_all(&self.seeds)?;
        let mut kept = Vec::new();
        for path in files(&fresh)? {
            kept.push((path.metadata()?.len(), path));
        }
        kept.sort();
        let mut total = 0;
        for (bytes, path) in kept {
            total += bytes;
            if total > SEEDS_BYTES_MAX {
                break;
            }
            let name = path.file_name().context("a file has a name")?;
            fs::copy(&path, self.seeds.join(name))?;
        }
        Ok(())
    }
}

/// The small samples of the corpus that SENSOR_CORPUS names, in one folder: libFuzzer doesn't follow deep trees.
fn samples() -> Result<Option<PathBuf>> {
    let Some(corpus) = std::env::var_os("SENSOR_CORPUS").map(PathBuf::from) else { return Ok(None) };
    let folder = target().join("fuzz").join("samples");
    if folder.is_dir() {
        return Ok(Some(folder));
    }
    fs::create_dir_all(&folder)?;
    for part in ["malicious", "benign"] {
        for path in files(&corpus.join(part))? {
            if let Some(name) =
                path.file_name().filter(|_| path.metadata().is_ok_and(|found| found.len() <= INPUT_BYTES_MAX))
            {
                fs::copy(&path, folder.join(name))?;
            }
        }
    }
    Ok(Some(folder))
}
