//! `sensor pin`: write down what was judged, so that `sensor verify` can say that it is still the same.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use sensor_scan::source::FileSource;
use sensor_scan::{Limits, Policy, Verdict};

use crate::lock::{self, Entry, Folder, Lock, LockError};
use crate::walk::{self, Target};
use crate::{escape, hash, hub};

/// Write or update models.lock: hash, size, format, verdict and origin of every model
///
/// Files that are pinned already are scanned and hashed anew; entries below the given paths whose file is gone are
/// removed. A malicious file is never pinned.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sensor pin models/                    all models below a folder, into ./models.lock
  sensor pin --lock ci/models.lock x.pt
  sensor verify                         later: is everything as it was?

Exit status: 0; 1 if a file is malicious and was left out; 2 if a file could not be read completely or pinned.")]
pub struct Args {
    /// Files and directories below the lock's folder
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// The lock to write
    #[arg(long, value_name = "FILE", default_value = lock::NAME)]
    lock: PathBuf,
}

/// What became of one file.
enum Pinned {
    Entry(Entry),
    /// No model, and nobody named it.
    Other,
    Malicious,
    Incomplete(Entry),
    Failed(String),
}

pub fn run(args: Args) -> ExitCode {
    match pin(&args) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("sensor: {}: {error}", shown(&args.lock));
            ExitCode::from(2)
        }
    }
}

fn pin(args: &Args) -> Result<ExitCode, LockError> {
    let base = lock::folder_of(&args.lock).canonicalize()?;
    let mut lock = if args.lock.exists() { Lock::read(&args.lock)? } else { Lock::default() };
    let before = lock.clone();
    let (mut malicious, mut undone) = (false, false);
    // What is below the given paths is seen anew.
    for path in &args.paths {
        if let Ok(Ok(path)) = path.canonicalize().map(|path| path.strip_prefix(&base).map(Path::to_owned)) {
            lock.0.retain(|entry, _| !entry.starts_with(&path));
        }
    }
    let folder = Folder::of(&args.lock)?;
    for target in walk::targets(&args.paths) {
        let (path, named) = match target {
            Target::File { path, named } => (path, named),
            Target::Stdin => {
                eprintln!("sensor: standard input has no path to pin");
                undone = true;
                continue;
            }
            Target::Skipped { path, why } | Target::Failed { path, why } => {
                eprintln!("sensor: {}: {why}", shown(&path));
                undone = true;
                continue;
            }
        };
        let inside = match lock::inside(&path, &base) {
            Ok(inside) => inside,
            Err(why) => {
                eprintln!("sensor: {}: {}", shown(&path), escape::terminal(why.as_bytes()));
                undone = true;
                continue;
            }
        };
        match judge(&folder, &inside, &path, named) {
            Pinned::Other => {}
            Pinned::Entry(entry) => {
                lock.0.insert(inside, entry);
            }
            Pinned::Incomplete(entry) => {
                eprintln!("sensor: {}: not read completely: pinned as {}", shown(&path), entry.verdict);
                undone = true;
                lock.0.insert(inside, entry);
            }
            Pinned::Malicious => {
                eprintln!("sensor: {}: malicious, and not pinned: see `sensor scan --explain`", shown(&path));
                malicious = true;
            }
            Pinned::Failed(why) => {
                eprintln!("sensor: {}: {why}", shown(&path));
                undone = true;
            }
        }
    }
    lock.write(&args.lock)?;
    let added = lock.0.keys().filter(|path| !before.0.contains_key(*path)).count();
    let removed = before.0.keys().filter(|path| !lock.0.contains_key(*path)).count();
    let changed = lock.0.iter().filter(|(path, entry)| before.0.get(*path).is_some_and(|old| old != *entry)).count();
    println!("{}: {} files: {added} added, {changed} changed, {removed} removed", shown(&args.lock), lock.0.len());
    Ok(ExitCode::from(match (malicious, undone) {
        (true, _) => 1,
        (false, true) => 2,
        (false, false) => 0,
    }))
}

fn judge(folder: &Folder, inside: &Path, path: &Path, named: bool) -> Pinned {
    let (file, size) = match folder.open(inside) {
        Ok(opened) => opened,
        Err(error) => return Pinned::Failed(error.to_string()),
    };
    let source = match FileSource::new(file, path.file_name().unwrap_or_default().as_bytes()) {
        Ok(source) => source,
        Err(error) => return Pinned::Failed(error.to_string()),
    };
    let report = sensor_scan::scan(&source, &Limits::default(), &Policy::standard());
    if report.format == "other" && report.verdict == Verdict::Clean && !named {
        return Pinned::Other;
    }
    if report.verdict == Verdict::Malicious {
        return Pinned::Malicious;
    }
    let Some(sha256) = hash::sha256(&source, None) else {
        return Pinned::Failed("it could not be read to its end".to_owned());
    };
    let mut entry = Entry::new(inside, size, sha256);
    report.format.clone_into(&mut entry.format);
    report.verdict.name().clone_into(&mut entry.verdict);
    if let Some((repo, revision)) = hub::identity(path.as_os_str().as_bytes()) {
        (entry.repo, entry.revision) = (Some(repo), revision);
    }
    if report.coverage.complete { Pinned::Entry(entry) } else { Pinned::Incomplete(entry) }
}

fn shown(path: &Path) -> String {
    escape::terminal(path.as_os_str().as_bytes())
}
