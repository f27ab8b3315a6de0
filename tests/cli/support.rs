//! What the tests share: running the binary, files to scan, and the schema.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// `os.system("true")`, protocol 2.
pub const MALICIOUS: &[u8] = b"\x80\x02cposix\nsystem\nq\x00X\x04\x00\x00\x00trueq\x01\x85q\x02Rq\x03.";
/// `{"a": 1}`, protocol 2.
pub const BENIGN: &[u8] = b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01K\x01s.";
/// Ends before STOP, without having done anything.
pub const TRUNCATED: &[u8] = b"\x80\x02}q\x00K\x01";

pub fn sensor() -> Command {
    Command::new(env!("CARGO_BIN_EXE_sensor"))
}

pub struct Ran {
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// The lines of `--format jsonl`, each held to the schema.
    pub fn lines(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).inspect(valid).collect()
    }

    pub fn line(&self) -> Value {
        let mut lines = self.lines();
        assert_eq!(lines.len(), 1, "{}", self.stdout);
        lines.remove(0)
    }
}

fn ran(output: Output) -> Ran {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is UTF-8");
    Ran { status: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Runs `sensor scan` with `arguments`.
pub fn scan<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) -> Ran {
    ran(sensor().arg("scan").args(arguments).stdin(Stdio::null()).output().expect("the binary runs"))
}

/// Runs `sensor scan` with `arguments` and `input` on its standard input.
pub fn scan_with_input(arguments: &[&str], input: &[u8]) -> Ran {
    let mut child = sensor()
        .arg("scan")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut stdin = child.stdin.take().expect("standard input is a pipe");
    // The scanner may stop reading at its limit.
    let _ = stdin.write_all(input);
    drop(stdin);
    ran(child.wait_with_output().expect("the binary ends"))
}

pub fn file(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, bytes).expect("the file is written");
    path
}

/// Panics unless a line is what `schemas/scan.schema.json` says.
pub fn valid(line: &Value) {
    let schema: Value =
        serde_json::from_str(include_str!("../../schemas/scan.schema.json")).expect("the schema is JSON");
    let validator = jsonschema::validator_for(&schema).expect("the schema is one");
    if let Err(error) = validator.validate(line) {
        panic!("{error} at {}: {line}", error.instance_path());
    }
}
