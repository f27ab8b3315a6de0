//! Files with a known verdict through the built binary: the project's own, written by `generate.py`, and the folder that
//! `SENSOR_CORPUS` names (subfolders `malicious` and `benign`, each with a `manifest.csv`).
//!
//! A part that can't run is skipped loudly, and is a failure where the variable `CI` is set.

#[path = "../cli/support.rs"]
#[allow(dead_code, reason = "shared with the tests of the command line, which use all of it")]
mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// One row of a manifest.
#[derive(Debug, Clone)]
struct Sample {
    file: String,
    class: String,
    expected: String,
}

/// How bad the worst line of a sample is; a sample may be a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Clean,
    Unscannable,
    Suspicious,
    Malicious,
}

/// Classes of malicious samples whose formats have readers.
const READ_MALICIOUS: &[&str] = &[
    "archive",
    "budget",
    "broken",
    "class",
    "container",
    "encoding",
    "extension",
    "gadget",
    "gguf",
    "hf-config",
    "joblib",
    "keras",
    "multi",
    "numpy",
    "onnx",
    "opcode",
    "other-format",
    "parser",
    "polyglot",
    "safetensors",
    "tensorflow",
    "torch",
    "zip",
];
/// Formats of benign samples that have readers.
const READ_BENIGN: &[&str] = &[
    "pickle",
    "pickle-zst",
    "joblib",
    "npy",
    "npz",
    "torch-zip",
    "torchscript",
    "safetensors",
    "gguf",
    "onnx",
    "onnx-dir",
    "keras-h5",
    "keras-v3",
    "skops",
    "cbm",
    "cat-json",
    "xgb-ubj",
    "lgb-txt",
    "savedmodel",
    "tflite",
    "pmml",
    "hf-dir",
    "tar",
    "zip",
    "mar",
    "gzip",
];

fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"))
}

fn skip(why: &str) {
    assert!(!in_ci(), "{why}");
    eprintln!("SKIPPED: {why}");
}

/// Rows of a CSV file by the names of its columns; fields may be quoted.
fn rows(text: &str) -> Vec<BTreeMap<String, String>> {
    let mut lines = Vec::new();
    let (mut row, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '"' if quoted && chars.peek() == Some(&'"') => field.extend(chars.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut field)),
            '\r' if !quoted => {}
            '\n' if !quoted => {
                row.push(std::mem::take(&mut field));
                lines.push(std::mem::take(&mut row));
            }
            char => field.push(char),
        }
    }
    let names = lines.remove(0);
    lines.into_iter().map(|row| names.iter().cloned().zip(row).collect()).collect()
}

fn manifest(folder: &Path, class: &str) -> Vec<Sample> {
    let text = std::fs::read_to_string(folder.join("manifest.csv")).expect("a manifest.csv");
    let field = |row: &BTreeMap<String, String>, name: &str| row.get(name).cloned().unwrap_or_default();
    rows(&text)
        .iter()
        .map(|row| Sample { file: field(row, "file"), class: field(row, class), expected: field(row, "expected") })
        .collect()
}

/// Scans a folder with the binary; every line is held to the schema.
fn verdicts(folder: &Path) -> Vec<(PathBuf, Verdict)> {
    let ran = support::scan(&["--format".as_ref(), "jsonl".as_ref(), "--all".as_ref(), folder.as_os_str()]);
    assert_eq!(ran.stderr, "");
    let verdict = |line: &Value| match line["verdict"].as_str() {
        Some("clean") => Verdict::Clean,
        Some("unscannable") => Verdict::Unscannable,
        Some("suspicious") => Verdict::Suspicious,
        Some("malicious") => Verdict::Malicious,
        other => panic!("verdict {other:?}"),
    };
    let path = |line: &Value| PathBuf::from(line["path"].as_str().expect("a path"));
    ran.lines().iter().map(|line| (path(line), verdict(line))).collect()
}

fn judged(folder: &Path, class: &str) -> Vec<(Sample, Verdict)> {
    let verdicts = verdicts(folder);
    let worst = |sample: &Sample| {
        let at = folder.join(&sample.file);
        verdicts.iter().filter(|(path, _)| path.starts_with(&at)).map(|(_, verdict)| *verdict).max()
    };
    manifest(folder, class)
        .into_iter()
        .map(|sample| {
            let verdict = worst(&sample).unwrap_or_else(|| panic!("{} was not scanned", sample.file));
            (sample, verdict)
        })
        .collect()
}

/// Prints how many of each class got which verdict.
fn print(title: &str, judged: &[(Sample, Verdict)]) {
    let mut classes: BTreeMap<&str, [u32; 4]> = BTreeMap::new();
    for (sample, verdict) in judged {
        classes.entry(&sample.class).or_default()[*verdict as usize] += 1;
    }
    eprintln!("{title:32} {:>6} {:>12} {:>11} {:>10}", "clean", "unscannable", "suspicious", "malicious");
    for (class, [clean, unscannable, suspicious, malicious]) in classes {
        eprintln!("{class:32} {clean:>6} {unscannable:>12} {suspicious:>11} {malicious:>10}");
    }
}

#[test]
fn the_own_corpus_is_judged_as_its_manifest_says() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/corpus/generate.py");
    match Command::new("python3").arg(script).arg(folder.path()).status() {
        Ok(status) => assert!(status.success(), "generate.py failed"),
        Err(error) => return skip(&format!("python3, which writes the corpus: {error}")),
    }
    let malicious = judged(&folder.path().join("malicious"), "class");
    let benign = judged(&folder.path().join("benign"), "class");
    print("malicious", &malicious);
    print("benign", &benign);
    assert!(malicious.len() > 300 && benign.len() > 150, "the corpus is there");
    for (sample, verdict) in &malicious {
        let least = if sample.expected == "malicious" { Verdict::Malicious } else { Verdict::Suspicious };
        assert!(*verdict >= least, "{sample:?} is {verdict:?}");
    }
    for (sample, verdict) in &benign {
        assert_eq!(*verdict, Verdict::Clean, "{sample:?}");
    }
}

#[test]
fn the_corpus_of_the_environment_is_judged_well_enough() {
    let Some(folder) = std::env::var_os("SENSOR_CORPUS").map(PathBuf::from) else {
        return skip("the variable SENSOR_CORPUS names no folder with samples");
    };
    let malicious = judged(&folder.join("malicious"), "class");
    let benign = judged(&folder.join("benign"), "format");
    print("malicious", &malicious);
    print("benign", &benign);

    let read = |sample: &Sample| READ_MALICIOUS.iter().any(|class| sample.class.starts_with(class));
    let (attacks, missed): (u32, u32) = malicious
        .iter()
        .filter(|(sample, _)| read(sample) && sample.expected != "benign-control")
        .inspect(|(sample, verdict)| {
            if *verdict < Verdict::Suspicious {
                eprintln!("missed: {} is {verdict:?}", sample.file);
            }
        })
        .fold((0, 0), |(all, missed), (_, verdict)| (all + 1, missed + u32::from(*verdict < Verdict::Suspicious)));
    let ordinary: Vec<_> = benign.iter().filter(|(sample, _)| READ_BENIGN.contains(&sample.class.as_str())).collect();
    let wrong: Vec<_> = ordinary.iter().filter(|(_, verdict)| *verdict != Verdict::Clean).collect();
    wrong.iter().for_each(|(sample, verdict)| eprintln!("false alarm: {} is {verdict:?}", sample.file));
    eprintln!("recall {}/{attacks}, false alarms {}/{}", attacks - missed, wrong.len(), ordinary.len());

    assert!(attacks > 100 && ordinary.len() > 50, "the corpus is there");
    assert!(missed * 10 <= attacks, "at least 90 % of the attacks are suspicious or worse");
    assert!(wrong.len() * 20 <= ordinary.len(), "at most 5 % of the ordinary files are not clean");
    assert!(benign.iter().all(|(_, verdict)| *verdict < Verdict::Malicious), "no ordinary file is malicious");
}
