//! `sensor verify`: are the files what `sensor pin` wrote down? Offline, without parsing them.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

use sensor_scan::source::FileSource;
use serde::Serialize;

use super::Format;
use crate::lock::{self, Entry, Folder, Lock};
use crate::walk::{self, Target};
use crate::{escape, hash};

/// Check files against models.lock: same bytes, nothing missing, nothing new
///
/// Without paths every file of the lock is checked. With paths, the entries below them, and every model file below them
/// has to be in the lock.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sensor verify                          every file of ./models.lock
  sensor verify models/ && python3 serve.py
  sensor verify --lock /srv/models.lock --format json

Exit status: 0; 1 if a file is changed, missing or not pinned; 2 if the lock can't be used.")]
pub struct Args {
    /// Files and directories below the lock's folder
    paths: Vec<PathBuf>,
    /// The lock to check against
    #[arg(long, value_name = "FILE", default_value = lock::NAME)]
    lock: PathBuf,
    /// Shape of the output
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// One file that isn't as it should be.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Mismatch {
    path: String,
    /// changed, missing, refused, not_pinned
    what: &'static str,
    why: String,
}

#[derive(Debug, Serialize)]
struct Outcome {
    schema: &'static str,
    lock: String,
    /// Files that were compared.
    checked: usize,
    mismatches: Vec<Mismatch>,
}

pub fn run(args: Args) -> ExitCode {
    let opened = Lock::read(&args.lock).map_err(|error| error.to_string());
    let opened = opened.and_then(|lock| Ok((lock, Folder::of(&args.lock).map_err(|error| error.to_string())?)));
    let (lock, folder) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            eprintln!("sensor: {}: {error}; `sensor pin` writes one", shown(&args.lock));
            return ExitCode::from(2);
        }
    };
    let (wanted, mut mismatches) = match select(&args, &lock) {
        Ok(selected) => selected,
        Err(error) => {
            eprintln!("sensor: {error}");
            return ExitCode::from(2);
        }
    };
    let checked = wanted.len();
    mismatches.extend(compare_all(&folder, &wanted));
    mismatches.sort_by(|a, b| a.path.cmp(&b.path));
    let status = u8::from(!mismatches.is_empty());
    let outcome = Outcome { schema: "sensor.verify/1", lock: shown(&args.lock), checked, mismatches };
    // A closed pipe ends the output, not the job.
    let _ = print(args.format, &outcome);
    ExitCode::from(status)
}

/// A file that has to be as the lock says.
type Wanted<'a> = (&'a PathBuf, &'a Entry);

/// The entries that are asked for, and the models below the given paths that the lock doesn't have.
fn select<'a>(args: &Args, lock: &'a Lock) -> Result<(Vec<Wanted<'a>>, Vec<Mismatch>), String> {
    if args.paths.is_empty() {
        return Ok((lock.0.iter().collect(), Vec::new()));
    }
    let base = lock::folder_of(&args.lock);
    let base = base.canonicalize().map_err(|error| format!("{}: {error}", shown(base)))?;
    let mut below = BTreeSet::new();
    for path in &args.paths {
        let found = path.canonicalize().map_err(|error| format!("{}: {error}", shown(path)))?;
        let inside = found.strip_prefix(&base).map_err(|_| format!("{}: not below the lock's folder", shown(path)))?;
        below.insert(inside.to_owned());
    }
    let entries: Vec<_> =
        lock.0.iter().filter(|(path, _)| below.iter().any(|folder| path.starts_with(folder))).collect();
    let mut unknown = Vec::new();
    for target in walk::targets(&args.paths) {
        let (path, why) = match target {
            Target::File { path, .. } => (path, String::new()),
            Target::Skipped { path, why } | Target::Failed { path, why } => (path, why),
            Target::Stdin => return Err("standard input is in no lock".to_owned()),
        };
        if lock::inside(&path, &base).is_ok_and(|inside| lock.0.contains_key(&inside)) {
            continue;
        }
        let name = path.file_name().unwrap_or_default().as_bytes();
        if !why.is_empty() {
            unknown.push(Mismatch { path: shown(&path), what: "refused", why });
        } else if sensor_scan::is_model_name(name) {
            let why = "a model file that is not in the lock".to_owned();
            unknown.push(Mismatch { path: shown(&path), what: "not_pinned", why });
        }
    }
    Ok((entries, unknown))
}

fn compare_all(folder: &Folder, wanted: &[Wanted<'_>]) -> Vec<Mismatch> {
    let next = AtomicUsize::new(0);
    let jobs = std::thread::available_parallelism().map_or(1, usize::from).min(wanted.len());
    std::thread::scope(|scope| {
        let work = || {
            let mut found = Vec::new();
            while let Some((path, entry)) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                found.extend(compare(folder, path, entry));
            }
            found
        };
        let threads: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).flatten().collect()
    })
}

fn compare(folder: &Folder, path: &Path, entry: &Entry) -> Option<Mismatch> {
    let mismatch = |what, why: String| Some(Mismatch { path: shown(path), what, why });
    let (file, size) = match folder.open(path) {
        Ok(opened) => opened,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return mismatch("missing", error.to_string()),
        Err(error) => return mismatch("refused", error.to_string()),
    };
    if size != entry.size {
        return mismatch("changed", format!("{size} bytes, {} were pinned", entry.size));
    }
    let source = match FileSource::new(file, b"") {
        Ok(source) => source,
        Err(error) => return mismatch("refused", error.to_string()),
    };
    match hash::sha256(&source, None) {
        None => mismatch("refused", "it could not be read to its end".to_owned()),
        Some(sha256) if !sha256.eq_ignore_ascii_case(&entry.sha256) => {
            mismatch("changed", format!("sha256 {sha256}, {} was pinned", entry.sha256))
        }
        Some(_) => None,
    }
}

fn print(format: Format, outcome: &Outcome) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    match format {
        Format::Json => {
            out.write_all(&escape::json(outcome)?)?;
            writeln!(out)?;
        }
        Format::Human => {
            for Mismatch { path, what, why } in &outcome.mismatches {
                writeln!(out, "{what:10}  {path}  ({why})")?;
            }
            let Outcome { checked, mismatches, .. } = outcome;
            let bad = mismatches.len();
            writeln!(
                out,
                "{checked} files checked: {}",
                if bad == 0 { "all as pinned".to_owned() } else { format!("{bad} not as pinned") }
            )?;
        }
    }
    out.flush()
}

fn shown(path: &Path) -> String {
    escape::terminal(path.as_os_str().as_bytes())
}
