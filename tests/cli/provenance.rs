//! `pin` and `verify`, policies, and `rules`.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::support::{BENIGN, MALICIOUS, file, scan, sensor};

/// Runs a verb in a folder; status, standard output, standard error.
fn run(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = sensor().args(arguments).current_dir(folder).stdin(Stdio::null()).output().expect("the binary runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn mismatches(folder: &Path, arguments: &[&str]) -> Vec<(String, String)> {
    let all: Vec<&str> = ["verify", "--format", "json"].iter().chain(arguments).copied().collect();
    let (status, out, error) = run(folder, &all);
    let outcome: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{error}"));
    let found: Vec<(String, String)> = outcome["mismatches"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| {
            (entry["what"].as_str().expect("text").to_owned(), entry["path"].as_str().expect("text").to_owned())
        })
        .collect();
    assert_eq!(status, Some(i32::from(!found.is_empty())), "{out}");
    found
}

fn pair(what: &str, path: &str) -> (String, String) {
    (what.to_owned(), path.to_owned())
}

#[test]
fn what_was_pinned_is_held() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let here = folder.path();
    std::fs::create_dir(here.join("models")).expect("a folder");
    file(&here.join("models"), "a.pkl", BENIGN);
    file(&here.join("models"), "b.pkl", BENIGN);
    file(&here.join("models"), "notes.txt", b"no model");
    file(&here.join("models"), "bad.pkl", MALICIOUS);

    let (status, _, error) = run(here, &["pin", "models"]);
    assert_eq!(status, Some(1), "a malicious file is never pinned: {error}");
    assert!(error.contains("bad.pkl") && error.contains("malicious"), "{error}");
    std::fs::remove_file(here.join("models/bad.pkl")).expect("removed");
    let (status, out, error) = run(here, &["pin", "models"]);
    assert_eq!((status, error.as_str()), (Some(0), ""), "{out}");
    let lock = std::fs::read_to_string(here.join("models.lock")).expect("the lock");
    assert!(lock.contains("models/a.pkl") && lock.contains("verdict = \"clean\"") && !lock.contains("notes"), "{lock}");
    assert_eq!(mismatches(here, &[]), []);
    assert_eq!(mismatches(here, &["models"]), []);

    // Same size, other bytes.
    let mut other = BENIGN.to_vec();
    other[8] ^= 1;
    file(&here.join("models"), "a.pkl", &other);
    std::fs::remove_file(here.join("models/b.pkl")).expect("removed");
    file(&here.join("models"), "c.pt", BENIGN);
    let expected = [pair("changed", "models/a.pkl"), pair("missing", "models/b.pkl")];
    assert_eq!(mismatches(here, &[]), expected);
    let expected = [expected[0].clone(), expected[1].clone(), pair("not_pinned", "models/c.pt")];
    assert_eq!(mismatches(here, &["models"]), expected);

    // Pinned anew: what is gone leaves the lock, what is new enters it.
    assert_eq!(run(here, &["pin", "models"]).0, Some(0));
    assert_eq!(mismatches(here, &["models"]), []);

    // A link that leads out isn't followed, whatever it leads to.
    let outside = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(outside.path(), &other).expect("written");
    std::fs::remove_file(here.join("models/a.pkl")).expect("removed");
    std::os::unix::fs::symlink(outside.path(), here.join("models/a.pkl")).expect("a link");
    assert_eq!(mismatches(here, &[]), [pair("refused", "models/a.pkl")]);
}

#[test]
fn a_lock_that_cannot_be_used_is_2() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (status, _, error) = run(folder.path(), &["verify"]);
    assert!(status == Some(2) && error.contains("sensor pin"), "{error}");
    let hash = "0".repeat(64);
    let text = format!("version=1\n[[file]]\npath='../x'\nsize=1\nsha256='{hash}'\nformat=''\nverdict=''\n");
    file(folder.path(), "models.lock", text.as_bytes());
    let (status, _, error) = run(folder.path(), &["verify"]);
    assert!(status == Some(2) && error.contains("../x"), "{error}");
    let (status, _, error) = run(folder.path(), &["pin", "/"]);
    assert!(status == Some(2), "{error}");
}

#[test]
fn a_policy_file_decides_what_the_table_does_not_know() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let model = file(folder.path(), "ours.pkl", b"cours.build\nrun\n(I5\ntR.");
    let names = "[[names]]\nmodules = ['ours.**']\nnames = ['*']\njudgement = 'safe'\nreason = 'our package'\n";
    let policy = file(folder.path(), "policy.toml", names.as_bytes());
    let verdict = |policy: &str| {
        let ran =
            scan(&["--format".as_ref(), "jsonl".as_ref(), "--policy".as_ref(), policy.as_ref(), model.as_os_str()]);
        ran.line()["verdict"].as_str().expect("a verdict").to_owned()
    };
    assert_eq!(verdict("standard"), "suspicious");
    assert_eq!(verdict(policy.to_str().expect("UTF-8")), "clean");
    let wrong = file(folder.path(), "wrong.toml", b"[[names]]\nmodule = 'x'\n");
    let ran = scan(&["--policy".as_ref(), wrong.as_os_str(), model.as_os_str()]);
    assert!(
        ran.status == Some(2) && ran.stderr.contains("wrong.toml") && ran.stderr.contains("line 2"),
        "{}",
        ran.stderr
    );
    assert_eq!(scan(&["--policy".as_ref(), "/nonexistent".as_ref(), model.as_os_str()]).status, Some(2));
}

#[test]
fn rules_are_listed_explained_and_checked() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let here = folder.path();
    let (status, list, _) = run(here, &["rules", "list"]);
    assert!(status == Some(0) && list.contains("SNS-101") && list.contains("egress-after-load"), "{list}");
    let (status, page, _) = run(here, &["rules", "show", "sns-101"]);
    assert!(status == Some(0) && page.contains("What to do") && page.contains("ATT&CK"), "{page}");
    let (status, page, _) = run(here, &["rules", "show", "egress-after-load"]);
    assert!(status == Some(0) && page.contains("connect"), "{page}");
    let (status, _, error) = run(here, &["rules", "show", "SNS-000"]);
    assert!(status == Some(2) && error.contains("rules list"), "{error}");
    let (_, json, _) = run(here, &["rules", "list", "--format", "json"]);
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["schema"], "sensor.rules/1");

    assert_eq!(run(here, &["rules", "check"]).0, Some(0));
    std::fs::create_dir(here.join("rules")).expect("a folder");
    file(&here.join("rules"), "x.yaml", b"rules:\n  - id: x\n    nonsense: 1\n");
    let (status, _, error) = run(here, &["rules", "check", "rules"]);
    assert!(status == Some(1) && error.contains("x.yaml:"), "{error}");
}

#[test]
fn the_hook_definition_runs_the_scan() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.pre-commit-hooks.yaml"))
        .expect("the hook definition");
    let hooks: Vec<Value> = serde_saphyr::from_str(&text).expect("YAML");
    let hook = hooks.iter().find(|hook| hook["id"] == "sensor-scan").expect("the hook");
    let entry = hook["entry"].as_str().expect("text");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (bad, good) = (file(folder.path(), "bad.pkl", MALICIOUS), file(folder.path(), "good.pkl", BENIGN));
    let words: Vec<&str> = entry.split_whitespace().collect();
    assert_eq!(words.first(), Some(&"sensor"));
    let status = |path: &Path| {
        sensor().args(&words[1..]).arg(path).stdin(Stdio::null()).output().expect("the binary runs").status.code()
    };
    assert_eq!((status(&bad), status(&good)), (Some(1), Some(0)));
    let pattern = hook["files"].as_str().expect("a pattern");
    for suffix in ["safetensors", "pkl", "gguf", "keras", "onnx"] {
        assert!(pattern.contains(suffix), "{suffix}");
    }
}
