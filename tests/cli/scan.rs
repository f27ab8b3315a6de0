//! Flags, shapes of output, exit statuses.

use std::process::Stdio;

use serde_json::Value;

use crate::support::{BENIGN, MALICIOUS, TRUNCATED, file, scan, scan_with_input, sensor, valid_run};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

#[test]
fn the_status_follows_the_worst_verdict_and_the_flags() {
    let folder = folder();
    let bad = file(folder.path(), "bad.pkl", MALICIOUS);
    let good = file(folder.path(), "good.pkl", BENIGN);
    let cut = file(folder.path(), "cut.pkl", TRUNCATED);
    let text = |path: &std::path::Path| path.to_str().expect("UTF-8").to_owned();
    let (bad, good, cut) = (text(&bad), text(&good), text(&cut));
    for (arguments, status) in [
        (vec![good.as_str()], 0),
        (vec![bad.as_str()], 1),
        (vec![bad.as_str(), cut.as_str()], 1),
        (vec![good.as_str(), bad.as_str()], 1),
        (vec!["--allow-unscannable", cut.as_str(), good.as_str()], 0),
        (vec!["/nonexistent/model.pt"], 2),
        (vec!["--allow-unscannable", "/nonexistent/model.pt"], 2),
        (vec!["/nonexistent/model.pt", bad.as_str()], 1),
    ] {
        assert_eq!(scan(&arguments).status, Some(status), "{arguments:?}");
    }
    assert_eq!(scan(&[cut.as_str()]).status, Some(2), "an incomplete file is not clean");
    let empty = self::folder();
    assert_eq!(scan(&[empty.path()]).status, Some(2), "nothing was examined");
}

#[test]
fn fail_on_suspicious_is_stricter() {
    let folder = folder();
    // A header that lies: suspicious, no more.
    let mut lie = b"\x3a\0\0\0\0\0\0\0".to_vec();
    lie.extend(br#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}     "#);
    lie.extend([0; 9]);
    let path = file(folder.path(), "lie.safetensors", &lie);
    let path = path.to_str().expect("UTF-8");
    let line = scan(&["--format", "jsonl", path]).line();
    assert_eq!((line["verdict"].as_str(), line["format"].as_str()), (Some("suspicious"), Some("safetensors")));
    assert_eq!(scan(&[path]).status, Some(0));
    assert_eq!(scan(&["--fail-on", "suspicious", path]).status, Some(1));
    assert_eq!(scan(&["--fail-on", "malicious", path]).status, Some(0));
}

#[test]
fn usage_errors_are_2_and_help_shows_examples() {
    assert_eq!(scan::<&str>(&[]).status, Some(2));
    assert_eq!(scan(&["--format", "xml", "x"]).status, Some(2));
    assert_eq!(scan(&["--max-stdin", "lots", "-"]).status, Some(2));
    assert_eq!(scan(&["--jobs", "0", "x"]).status, Some(2));
    let help = scan(&["--help"]);
    assert_eq!(help.status, Some(0));
    for expected in ["Examples:", "sensor scan model.pt", "Exit status:"] {
        assert!(help.stdout.contains(expected), "{expected}");
    }
}

#[test]
fn jsonl_is_one_valid_line_per_file_in_the_order_given() {
    let folder = folder();
    let paths: Vec<_> = (0..20)
        .map(|index| file(folder.path(), &format!("{index:02}.pkl"), if index % 2 == 0 { MALICIOUS } else { BENIGN }))
        .collect();
    let mut arguments = vec!["--format".into(), "jsonl".into(), "--jobs".into(), "4".into()];
    arguments.extend(paths.iter().map(|path| path.clone().into_os_string()));
    let ran = scan(&arguments);
    let lines = ran.lines();
    let seen: Vec<&str> = lines.iter().filter_map(|line| line["path"].as_str()).collect();
    let expected: Vec<&str> = paths.iter().filter_map(|path| path.to_str()).collect();
    assert_eq!(seen, expected);
    assert_eq!(lines[0]["verdict"], "malicious");
    assert_eq!(lines[1]["verdict"], "clean");
    let finding = &lines[0]["findings"][0];
    assert!(finding["id"].as_str().is_some_and(|id| id.starts_with("SNS-1")), "{finding}");
    assert!(lines[0]["coverage"]["bytes_read"].as_u64() >= lines[0]["size"].as_u64());
}

#[test]
fn json_is_one_object_with_a_summary() {
    let folder = folder();
    file(folder.path(), "a.pkl", MALICIOUS);
    file(folder.path(), "b.pkl", BENIGN);
    file(folder.path(), "notes.txt", b"hello");
    let path = folder.path().to_str().expect("UTF-8");
    let run: Value = serde_json::from_str(&scan(&["--format", "json", path]).stdout).expect("one object");
    valid_run(&run);
    let files = run["files"].as_array().expect("an array");
    assert_eq!(files.len(), 2);
    let summary = &run["summary"];
    assert_eq!((&summary["files"], &summary["malicious"], &summary["clean"]), (&3.into(), &1.into(), &2.into()));
    assert_eq!(summary["not_listed"], 1);

    let nothing = self::folder();
    let path = nothing.path().to_str().expect("UTF-8");
    let run: Value = serde_json::from_str(&scan(&["--format", "json", path]).stdout).expect("one object");
    valid_run(&run);
    assert_eq!(run["files"], serde_json::json!([]));
}

#[test]
fn files_that_are_no_models_are_listed_only_when_asked_or_named() {
    let folder = folder();
    file(folder.path(), "a.pkl", BENIGN);
    let notes = file(folder.path(), "notes.txt", b"hello");
    let names = |arguments: &[&str]| -> Vec<String> {
        let lines = scan(arguments).lines();
        lines.iter().filter_map(|line| Some(line["path"].as_str()?.rsplit('/').next()?.to_owned())).collect()
    };
    let path = folder.path().to_str().expect("UTF-8");
    assert_eq!(names(&["--format", "jsonl", path]), ["a.pkl"]);
    assert_eq!(names(&["--format", "jsonl", "--all", path]), ["a.pkl", "notes.txt"]);
    assert_eq!(names(&["--format", "jsonl", notes.to_str().expect("UTF-8")]), ["notes.txt"]);
}

#[test]
fn a_name_or_content_that_claims_a_model_is_never_passed_over() {
    let folder = folder();
    file(folder.path(), "model.pt", &[0xff; 100]);
    file(folder.path(), "weights.bin", b"Rar!\x1a\x07\x01\0aaaaaaaaaaaaaaaaaaaaaaaa");
    file(folder.path(), "no-name", b"\x89HDF\r\n\x1a\nrest");
    file(folder.path(), "pointer.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n");
    let ran = scan(&["--format", "jsonl", folder.path().to_str().expect("UTF-8")]);
    let lines = ran.lines();
    assert_eq!(lines.len(), 4);
    for line in lines {
        assert_eq!((&line["verdict"], &line["coverage"]["complete"]), (&"unscannable".into(), &false.into()), "{line}");
    }
    assert_eq!(ran.status, Some(2));
}

#[test]
fn standard_input_is_scanned_within_its_limit() {
    let ran = scan_with_input(&["--format", "jsonl", "-"], MALICIOUS);
    let line = ran.line();
    assert_eq!((ran.status, &line["path"], &line["verdict"]), (Some(1), &"-".into(), &"malicious".into()));
    assert_eq!(line["size"], MALICIOUS.len());

    let mut long = BENIGN.to_vec();
    long.resize(5_000, b'.');
    let ran = scan_with_input(&["--format", "jsonl", "--max-stdin", "1K", "-"], &long);
    let line = ran.line();
    assert_ne!(line["verdict"], "clean");
    assert_eq!(line["coverage"]["complete"], false);
    assert!(line["findings"].as_array().is_some_and(|all| all.iter().any(|finding| finding["id"] == "SNS-901")));
}

#[test]
fn a_list_of_files_by_line_or_by_nul() {
    let folder = folder();
    let odd = file(folder.path(), "with\nnewline.pkl", MALICIOUS);
    let plain = file(folder.path(), "plain.pkl", BENIGN);
    let (odd, plain) = (odd.to_str().expect("UTF-8"), plain.to_str().expect("UTF-8"));
    let ran = scan_with_input(&["--format", "jsonl", "--files-from", "-"], format!("{odd}\0{plain}\0").as_bytes());
    let lines = ran.lines();
    assert_eq!((&lines[0]["path"], &lines[1]["path"]), (&odd.into(), &plain.into()));
    let list = file(folder.path(), "list", format!("{plain}\n").as_bytes());
    let ran = scan(&["--format", "jsonl", "--files-from", list.to_str().expect("UTF-8")]);
    assert_eq!((ran.status, &ran.line()["path"]), (Some(0), &plain.into()));
    let ran = scan(&["--files-from", "/nonexistent"]);
    assert_eq!(ran.status, Some(2));
    assert!(ran.stderr.contains("/nonexistent"), "{}", ran.stderr);
}

#[test]
fn hash_is_the_sha256_of_the_file() {
    let folder = folder();
    let path = file(folder.path(), "a.npy", b"abc");
    let path = path.to_str().expect("UTF-8");
    let line = scan(&["--format", "jsonl", "--hash", path]).line();
    assert_eq!(line["sha256"], "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_eq!(scan(&["--format", "jsonl", path]).line()["sha256"], Value::Null);
}

#[test]
fn explain_shows_what_is_called_with_what() {
    let folder = folder();
    let path = file(folder.path(), "bad.pkl", MALICIOUS);
    let path = path.to_str().expect("UTF-8");
    let plain = scan(&[path]).stdout;
    assert!(plain.starts_with("malicious") && plain.contains("SNS-1"), "{plain}");
    let explained = scan(&["--explain", path]).stdout;
    assert!(explained.contains("system") && explained.contains("true"), "{explained}");
    assert!(explained.contains("runs with: pickle.load"), "{explained}");
    assert!(!plain.contains('\x1b') && !explained.contains('\x1b'), "no colours outside a terminal");
}

#[test]
fn a_closed_pipe_ends_the_output_and_not_the_status() {
    let folder = folder();
    for index in 0..300 {
        file(folder.path(), &format!("{index:03}.pkl"), BENIGN);
    }
    file(folder.path(), "zzz.pkl", MALICIOUS);
    let mut child = sensor()
        .args(["scan", "--format", "jsonl"])
        .arg(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("the binary ends");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
