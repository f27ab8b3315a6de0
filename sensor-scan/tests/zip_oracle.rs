//! Other zip readers as the oracle: whatever any of them takes out of an archive was scanned.
//!
//! Archives are generated with the tricks that make readers disagree; every place that content can hide in holds a pickle
//! of its own that calls a function of its own name. Readers: Python's zipfile (`SENSOR_PYTHON`, or `python3`), and
//! Info-ZIP, 7-Zip and libarchive where they are installed.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use sensor_scan::source::MemorySource;
use sensor_scan::{Limits, Policy, scan};

/// Archives that are compared, where `SENSOR_PROGRAMS` says nothing else (it counts pickles: a hundredth of them).
const ARCHIVES: u64 = 60;

fn archives() -> u64 {
    let programs = std::env::var("SENSOR_PROGRAMS").ok().and_then(|text| text.parse::<u64>().ok());
    programs.map_or(ARCHIVES, |programs| (programs / 100).max(ARCHIVES))
}

/// Xorshift, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
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
    for member in 0..random.below(4) + 1 {
        let bytes = fresh();
        let name = match random.below(6) {
            0 => "same.pkl".to_owned(),
            1 => "SAME.PKL".to_owned(),
            _ => format!("m{member}.pkl"),
        };
        let local_name = if random.below(5) == 0 { format!("other{member}.pkl") } else { name.clone() };
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
        if random.below(6) == 0 {
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

const PYTHON: &str = r"
import sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as archive:
    for info in archive.infolist():
        for what in (info, info.filename):
            try: sys.stdout.buffer.write(archive.read(what, pwd=b'x'))
            except Exception: pass
";

/// What every reader that is there takes out, by its name.
fn taken_out(file: &Path) -> Vec<(&'static str, BTreeSet<u64>)> {
    let python = std::env::var("SENSOR_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let file = file.to_str().expect("UTF-8");
    let readers: [(&str, &str, &[&str]); 4] = [
        ("zipfile", &python, &["-I", "-c", PYTHON, file]),
        ("unzip", "unzip", &["-p", "-P", "x", file]),
        ("7z", "7z", &["e", "-so", "-px", file]),
        ("libarchive", "bsdtar", &["-xOf", file]),
    ];
    readers
        .into_iter()
        .filter_map(|(name, program, arguments)| {
            let mut command = Command::new(program);
            let output = command.args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
            Some((name, marks(&output.stdout)))
        })
        .collect()
}

#[test]
fn whatever_a_reader_takes_out_was_scanned() {
    let ci = std::env::var("CI").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"));
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    let mut next = 0;
    let mut seen = std::collections::BTreeMap::new();
    for seed in 1..=archives() {
        let bytes = archive(&mut Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1), &mut next);
        file.as_file_mut().set_len(0).expect("emptied");
        std::io::Seek::rewind(file.as_file_mut()).expect("rewound");
        file.write_all(&bytes).expect("written");
        let report = scan(&MemorySource::new(&bytes, b"m.zip"), &Limits::default(), &Policy::standard());
        let ours: BTreeSet<u64> = report.findings.iter().flat_map(|finding| marks(finding.title.as_bytes())).collect();
        for (reader, taken) in taken_out(file.path()) {
            *seen.entry(reader).or_insert(0) += taken.len();
            let missed: Vec<_> = taken.difference(&ours).collect();
            assert!(
                missed.is_empty(),
                "archive {seed}: {reader} takes out {missed:?}, the report has {ours:?}: {report:#?}"
            );
        }
    }
    eprintln!("taken out: {seen:?}");
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
