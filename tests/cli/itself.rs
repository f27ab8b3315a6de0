//! What the binary says of itself.

use crate::support::sensor;

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
