//! Other zip readers as the oracle: whatever any of them takes out of an archive was scanned.
//!
//! Archives are generated with the tricks that make readers disagree; every place that content can hide in holds a pickle
//! of its own that calls a function of its own name. Readers: Python's zipfile (`SENSOR_PYTHON`, or `python3`), torch's
//! own where that interpreter has it, and Info-ZIP, 7-Zip and libarchive where they are installed.

mod random;

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use random::Random;
use sensor_scan::source::MemorySource;
use sensor_scan::{Limits, Policy, scan};

/// Archives that are compared, where `SENSOR_ARCHIVES` says nothing else.
const ARCHIVES: u64 = 60;

fn archives() -> u64 {
    random::number("SENSOR_ARCHIVES").unwrap_or(ARCHIVES)
}

/// `hidden.run_markNx(N)`, protocol 0, in a text that no reader changes.
fn payload(mark: u64) -> Vec<u8> {
    format!("chidden\nrun_mark{mark}x\n(I{mark}\ntR.").into_bytes()
}

/// Marks in what a reader took out.
fn marks(bytes: &[u8]) -> BTreeSet<u64> {
    let text = String::from_utf8_lossy(bytes);
    text.split("run_mark").skip(1).filter_map(|rest| rest.split('x').next()?.parse().ok()).collect()
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

fn header(out: &mut Vec<u8>, numbers: &[(u64, usize)]) {
    for &(number, bytes) in numbers {
        out.extend(&number.to_le_bytes()[..bytes]);
    }
}

/// An archive of stored members, with tricks; `next` numbers the payloads.
fn archive(random: &mut Random, next: &mut u64) -> Vec<u8> {
    let mut fresh = || {
        *next += 1;
        payload(*next)
    };
    let mut out = Vec::new();
    if random.below(4) == 0 {
        out.extend(fresh()); // a prefix that is a pickle by itself
    }
    let base = if random.below(2) == 0 { out.len() } else { 0 };
    let mut central = Vec::new();
    let mut entries = 0u64;
    // As torch writes them: all members in one folder, one of which tells the version.
    let torch = random.below(2) == 0;
    for member in 0..random.below(4) + 1 + u64::from(torch) {
        let version = torch && member == 0;
        let bytes = if version { b"3\n".to_vec() } else { fresh() };
        let name = match random.below(8) {
            _ if version => "version".to_owned(),
            0 => "same.pkl".to_owned(),
            1 => "SAME.PKL".to_owned(),
            2 if torch => "data.pkl".to_owned(),
            3 if torch => "DATA.pkl".to_owned(),
            4 if torch => format!("data/{member}"),
            _ => format!("m{member}.pkl"),
        };
        let name = if torch { format!("top/{name}") } else { name };
        let local_name = if random.below(5) == 0 && !version { format!("other{member}.pkl") } else { name.clone() };
        let flags = if random.below(6) == 0 { 1 } else { 0 };
        let crc = if random.below(6) == 0 { 0 } else { u64::from(crc32(&bytes)) };
        let (size, at) = (bytes.len() as u64, (out.len() - base) as u64);
        // APPNOTE 4.3.7: local file header.
        let local_size = if random.below(6) == 0 { 0 } else { size };
        header(
            &mut out,
            &[(0x0403_4b50, 4), (20, 2), (0, 2), (0, 2), (0, 4), (crc, 4), (local_size, 4), (local_size, 4)],
        );
        header(&mut out, &[(local_name.len() as u64, 2), (0, 2)]);
        out.extend(local_name.as_bytes());
        out.extend(&bytes);
        if random.below(5) == 0 {
            out.extend(fresh()); // between members
        }
        if random.below(6) == 0 && !version {
            continue; // only in the local headers
        }
        entries += 1;
        // APPNOTE 4.3.12: central directory header.
        header(&mut central, &[(0x0201_4b50, 4), (20, 2), (20, 2), (flags, 2), (0, 2), (0, 4), (crc, 4), (size, 4)]);
        header(&mut central, &[(size, 4), (name.len() as u64, 2), (0, 2), (0, 2), (0, 2), (0, 2), (0, 4), (at, 4)]);
        central.extend(name.as_bytes());
    }
    let directory = (out.len() - base) as u64;
    out.extend(&central);
    // APPNOTE 4.3.16: end of central directory record.
    let comment = if random.below(5) == 0 { fresh() } else { Vec::new() };
    header(&mut out, &[(0x0605_4b50, 4), (0, 2), (0, 2), (entries, 2), (entries, 2), (central.len() as u64, 4)]);
    header(&mut out, &[(directory, 4), (comment.len() as u64, 2)]);
    out.extend(comment);
    if random.below(6) == 0 {
        out.extend(fresh()); // behind the end
    }
    out
}

/// Reads paths, and answers with the marks that each reader takes out.
const PYTHON: &str = r"
import sys, re, zipfile, warnings
warnings.filterwarnings('ignore')
def python(path, out):
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            for what in (info, info.filename):
                try: out.append(archive.read(what, pwd=b'x'))
                except Exception: pass
readers = {'zipfile': python}
try:
    import torch
    def records(path, out):
        reader = torch._C.PyTorchFileReader(path)
        for name in reader.get_all_records() + ['data.pkl', 'same.pkl', 'DATA.PKL', 'm1.pkl']:
            try: out.append(reader.get_record(name))
            except Exception: pass
    readers['torch'] = records
except ImportError: pass
for line in sys.stdin:
    answers = []
    for name, reader in readers.items():
        out = []
        try: reader(line.rstrip('\n'), out)
        except Exception: pass
        answers.append(name + ':' + ','.join(mark.decode() for mark in re.findall(rb'run_mark(\d+)x', b'\n'.join(out))))
    print(' '.join(answers), flush=True)
";

/// The readers of a Python, started once.
struct Python {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Python {
    fn start() -> Self {
        let python = std::env::var("SENSOR_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let mut command = Command::new(&python);
        let command = command.args(["-I", "-c", PYTHON]).env("OMP_NUM_THREADS", "1");
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("{python}: {error}: set SENSOR_PYTHON"));
        let stdin = child.stdin.take().expect("piped above");
        let lines = BufReader::new(child.stdout.take().expect("piped above")).lines();
        Self { child, stdin, lines }
    }

    fn taken_out(&mut self, file: &str) -> Vec<(String, BTreeSet<u64>)> {
        writeln!(self.stdin, "{file}").expect("the interpreter reads");
        let line = self.lines.next().expect("the interpreter answers").expect("text");
        let answer = |word: &str| {
            let (reader, marks) = word.split_once(':').expect("a reader and its marks");
            (reader.to_owned(), marks.split(',').filter_map(|mark| mark.parse().ok()).collect())
        };
        line.split(' ').map(answer).collect()
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What every other reader that is there takes out, by its name.
fn taken_out(file: &str) -> Vec<(String, BTreeSet<u64>)> {
    let readers: [(&str, &str, &[&str]); 3] = [
        ("unzip", "unzip", &["-p", "-P", "x", file]),
        ("7z", "7z", &["e", "-so", "-px", file]),
        ("libarchive", "bsdtar", &["-xOf", file]),
    ];
    readers
        .into_iter()
        .filter_map(|(name, program, arguments)| {
            let mut command = Command::new(program);
            let output = command.args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
            Some((name.to_owned(), marks(&output.stdout)))
        })
        .collect()
}

#[test]
fn whatever_a_reader_takes_out_was_scanned() {
    let ci = random::in_ci();
    let mut python = Python::start();
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    let mut next = 0;
    let mut seen = std::collections::BTreeMap::new();
    for seed in 1..=archives() {
        let bytes = archive(&mut Random::new(seed), &mut next);
        file.as_file_mut().set_len(0).expect("emptied");
        std::io::Seek::rewind(file.as_file_mut()).expect("rewound");
        file.write_all(&bytes).expect("written");
        let report = scan(&MemorySource::new(&bytes, b"m.zip"), &Limits::default(), &Policy::standard());
        let ours: BTreeSet<u64> = report.findings.iter().flat_map(|finding| marks(finding.title.as_bytes())).collect();
        let path = file.path().to_str().expect("UTF-8");
        for (reader, taken) in python.taken_out(path).into_iter().chain(taken_out(path)) {
            *seen.entry(reader.clone()).or_insert(0) += taken.len();
            let missed: Vec<_> = taken.difference(&ours).collect();
            assert!(
                missed.is_empty(),
                "archive {seed}: {reader} takes out {missed:?}, the report has {ours:?}: {report:#?}"
            );
        }
    }
    println!("taken out of {} archives: {seen:?}", archives());
    for wanted in std::env::var("SENSOR_READERS").unwrap_or_default().split_whitespace() {
        assert!(wanted != "torch-zip" || seen.contains_key("torch"), "the interpreter has no torch");
    }
    assert!(
        seen.get("zipfile").is_some_and(|count| *count as u64 > archives()),
        "Python's zipfile takes out too little"
    );
    for reader in ["unzip", "7z", "libarchive"] {
        assert!(seen.contains_key(reader) || !ci, "{reader} is not installed: run `cargo xtask setup --for test`");
        if !seen.contains_key(reader) {
            eprintln!("SKIPPED: {reader} is not installed");
        }
    }
}
