//! `sensor scan`: judge model files before anything loads them.

mod examine;
mod folder;
mod list;
mod policy;

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use sensor_scan::Verdict;

use crate::escape;
use crate::lookalike::{LIST_BYTES_MAX, WellKnown};
use crate::report::cyclonedx::CycloneDx;
use crate::report::human::{Detail, Human};
use crate::report::json::Json;
use crate::report::jsonl::Jsonl;
use crate::report::sarif::Sarif;
use crate::report::{Examined, Summary, Write};
use crate::walk::{self, Target};
use examine::Outcome;
use policy::{Choice, Judge};

/// Containers nest, and each level of a reader takes some stack.
const STACK_BYTES: usize = 16 << 20;
/// A bar that comes and goes within moments is noise.
const PROGRESS_FILES_MIN: usize = 16;

/// Judge model files before anything loads them.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{MORE}\n{}", env!("CARGO_PKG_REPOSITORY")))]
pub struct Args {
    /// Files and directories; `-` is standard input.
    #[arg(required_unless_present = "files_from")]
    pub paths: Vec<PathBuf>,

    /// Shape of the output.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub format: Format,

    /// The mildest verdict that makes the exit status 1.
    #[arg(long, value_enum, default_value_t = FailOn::Malicious, value_name = "VERDICT")]
    pub fail_on: FailOn,

    /// Files that are examined at the same time [default: number of processors].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub jobs: Option<u16>,

    /// Compute the SHA-256 of every file (reads all of it).
    #[arg(long)]
    pub hash: bool,

    /// Show the evidence of every finding: the calls as reconstructed, and who would execute them.
    #[arg(long)]
    pub explain: bool,

    /// List also the files of a directory that are no models.
    #[arg(long)]
    pub all: bool,

    /// Read further paths from a file, one a line, or separated by NUL; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    pub files_from: Option<PathBuf>,

    /// Files that could not be read completely don't make the exit status 2.
    #[arg(long)]
    pub allow_unscannable: bool,

    /// How files are judged: `standard`, `strict` (no benefit of the doubt), or a policy file (`sensor rules show policy`).
    #[arg(long, value_name = "POLICY", default_value = "standard", value_parser = Choice::parse)]
    pub policy: Choice,

    /// Owners and models that others imitate, instead of the list that the program carries (rules/well-known.toml).
    #[arg(long, value_name = "FILE")]
    pub well_known: Option<PathBuf>,

    /// How much of standard input is kept in memory, in bytes or with K, M or G.
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = list::size)]
    pub max_stdin: u64,
}

const EXAMPLES: &str = "\
Examples:
  sensor scan model.pt                        one file
  sensor scan ~/.cache/huggingface/hub        everything below a directory
  sensor scan --explain suspect.pkl           why: calls, arguments, loaders
  sensor scan --format jsonl --fail-on suspicious models/ > report.jsonl
  find . -name '*.pt' -print0 | sensor scan --files-from -
  curl -s https://example.com/model.pt | sensor scan -

Exit status:
  0  nothing at or above --fail-on
  1  a file is at or above --fail-on
  2  a file could not be read completely, nothing was examined, or the job could not be done";

const MORE: &str = "\
Verdicts:
  malicious    something acts when the file is loaded or used: runs, writes, connects, loads more
  suspicious   nothing that acts was seen, but what no framework writes, or what loaders disagree about
  unscannable  could not be read to its end, and what was read says nothing worse; never `clean`
  clean        read to its end; the notes say what has to be installed to load it

Nothing is imported, executed, written or fetched: readers are the sensor's own, and content decides, not the name.
Read are pickle, torch (zip, legacy, tar, TorchScript, .pt2, distributed checkpoints), joblib, npy and npz, safetensors,
Keras and HDF5, TensorFlow, TFLite, ONNX, GGUF, Jinja, skops, XGBoost, LightGBM, CatBoost, PMML, OpenVINO, CoreML,
MessagePack, R data, Paddle, Caffe, CNTK, Torch7, ExecuTorch, SentencePiece; zip, tar, 7z, gz, bz2, xz, zstd and lz4 in
each other; and beside them Python source, notebooks, configurations, requirements and instructions of a repository.
Recognised and not read (unscannable): ggml, TensorRT engines, llamafile, rar.

A file may cost 120 s, 4 GiB decoded, 200,000 members, 16 levels; memory stays below 128 MiB for each job. These limits,
what your own package's classes may do, and exceptions with an expiry stand in a policy file (--policy FILE):
`sensor rules show policy` prints one with every key.

What a finding means, how it is abused and what to do: `sensor rules show SNS-101`. To keep what was judged:
`sensor pin models/`, later `sensor verify`. A hook for pre-commit and snippets for CI are in the repository:";

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For a person.
    Human,
    /// One JSON object a line and file.
    Jsonl,
    /// One JSON object for the run.
    Json,
    /// SARIF 2.1.0, for code scanning services and editors.
    Sarif,
    /// CycloneDX 1.6, a bill of materials of models; implies --hash.
    Cyclonedx,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum FailOn {
    Suspicious,
    Malicious,
}

pub fn run(mut args: Args) -> ExitCode {
    let started = Instant::now();
    // A bill of materials without hashes identifies nothing.
    args.hash |= args.format == Format::Cyclonedx;
    let mut paths = args.paths.clone();
    if let Some(file) = &args.files_from {
        match list::read(file) {
            Ok(mut more) => paths.append(&mut more),
            Err(error) => {
                eprintln!("sensor: list of files {}: {error}", escape::terminal(file.as_os_str().as_encoded_bytes()));
                return ExitCode::from(2);
            }
        }
    }
    let judge = match Judge::of(&args.policy) {
        Ok(judge) => judge,
        Err(error) => {
            eprintln!("sensor: {error}");
            return ExitCode::from(2);
        }
    };
    let well_known = args.well_known.as_ref().map(|file| {
        let text = list::text(file, LIST_BYTES_MAX).map_err(|error| error.to_string());
        text.and_then(|text| WellKnown::parse(&text))
            .map_err(|error| format!("{}: {error}", escape::terminal(file.as_os_str().as_encoded_bytes())))
    });
    let well_known = match well_known.transpose() {
        Ok(well_known) => well_known,
        Err(error) => {
            eprintln!("sensor: {error}");
            return ExitCode::from(2);
        }
    };
    for expired in judge.expired() {
        eprintln!("sensor: {expired}");
    }
    let targets = walk::targets(&paths);
    let progress = progress(&args, targets.len());
    let mut output = Output { writer: Some(writer(&args)), progress, failed: false };
    let mut tally = Tally::default();
    let run = examine::Run { args: &args, judge: &judge, well_known };
    examine_all(&run, &targets, |target, outcome| tally.take(&args, target, outcome, &mut output));
    tally.summary.elapsed_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    output.end(&tally.summary);
    tally.failed |= output.failed;
    tally.status(&args)
}

fn writer(args: &Args) -> Box<dyn Write> {
    match args.format {
        Format::Human => Box::new(Human::new(anstream::stdout().lock(), Detail { explain: args.explain })),
        Format::Jsonl => Box::new(Jsonl(io::stdout().lock())),
        Format::Json => Box::new(Json::new(io::BufWriter::new(io::stdout().lock()))),
        Format::Sarif => Box::new(Sarif::new(io::BufWriter::new(io::stdout().lock()))),
        Format::Cyclonedx => Box::new(CycloneDx::new(io::BufWriter::new(io::stdout().lock()))),
    }
}

/// Work that takes long shows that it goes on, to a person at a terminal.
fn progress(args: &Args, files: usize) -> indicatif::ProgressBar {
    let watched = args.format == Format::Human && io::stderr().is_terminal() && files >= PROGRESS_FILES_MIN;
    if !watched {
        return indicatif::ProgressBar::hidden();
    }
    let style = indicatif::ProgressStyle::with_template("{pos}/{len} files  {elapsed}  {wide_bar}");
    let bar = indicatif::ProgressBar::new(files as u64);
    style.map(|style| bar.clone().with_style(style)).unwrap_or(bar)
}

/// Standard output, until it is closed.
struct Output {
    writer: Option<Box<dyn Write>>,
    progress: indicatif::ProgressBar,
    /// Something of the report was lost.
    failed: bool,
}

impl Output {
    fn file(&mut self, examined: &Examined) {
        self.attempt(|writer| writer.file(examined));
    }

    fn end(&mut self, summary: &Summary) {
        self.progress.finish_and_clear();
        self.attempt(|writer| writer.end(summary));
    }

    /// A closed pipe ends the output, and neither the job nor its status; any other error is said once, and the job is
    /// not done.
    fn attempt(&mut self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) {
        let Some(writer) = self.writer.as_mut() else { return };
        let result = self.progress.suspend(|| write(writer.as_mut()));
        if let Err(error) = result {
            self.writer = None;
            if error.kind() != io::ErrorKind::BrokenPipe {
                self.failed = true;
                eprintln!("sensor: standard output: {error}");
            }
        }
    }
}

/// Examines the targets with several threads; calls `each` in the order of `targets`.
fn examine_all(run: &examine::Run<'_>, targets: &[Target], mut each: impl FnMut(&Target, Outcome)) {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = run.args.jobs.map_or(processors, usize::from).min(targets.len());
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            let (sender, next) = (sender.clone(), &next);
            let work = move || {
                while let Some((index, target)) = take(targets, next) {
                    if sender.send((index, examine::target(target, run))).is_err() {
                        return;
                    }
                }
            };
            let started = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work);
            if let Err(error) = started {
                eprintln!("sensor: fewer threads than asked for: {error}");
                break;
            }
        }
        drop(sender);
        let mut waiting = BTreeMap::new();
        let mut due = 0;
        for (index, outcome) in receiver {
            waiting.insert(index, outcome);
            while let Some(outcome) = waiting.remove(&due) {
                each(&targets[due], outcome);
                due += 1;
            }
        }
    });
}

fn take<'a>(targets: &'a [Target], next: &AtomicUsize) -> Option<(usize, &'a Target)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    targets.get(index).map(|target| (index, target))
}

/// What decides the exit status.
#[derive(Debug, Default)]
struct Tally {
    summary: Summary,
    failed: bool,
}

impl Tally {
    fn take(&mut self, args: &Args, target: &Target, outcome: Outcome, output: &mut Output) {
        output.progress.inc(1);
        let examined = outcome.examined;
        self.failed |= outcome.failed;
        self.summary.count(&examined.report);
        // Files that are no models, and that nobody named.
        let other = examined.report.format == "other" && examined.report.verdict == Verdict::Clean;
        if other && !args.all && matches!(target, Target::File { named: false, .. }) {
            self.summary.not_listed += 1;
        } else {
            output.file(&examined);
        }
    }

    fn status(&self, args: &Args) -> ExitCode {
        let Summary { files, suspicious, malicious, incomplete, .. } = self.summary;
        let bad = malicious > 0 || (args.fail_on == FailOn::Suspicious && suspicious > 0);
        let undone = self.failed || files == 0 || (incomplete > 0 && !args.allow_unscannable);
        ExitCode::from(match (bad, undone) {
            (true, _) => 1,
            (false, true) => 2,
            (false, false) => 0,
        })
    }
}
