//! Reports for other programs, held to the schemas that their standards publish.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{BENIGN, MALICIOUS, TRUNCATED, file, scan};

/// Where the published schemas are; `cargo xtask setup` puts them below target/.
fn published() -> Option<PathBuf> {
    let folder = std::env::var_os("SENSOR_REPORT_SCHEMAS").map(PathBuf::from);
    let ci = std::env::var("CI").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"));
    assert!(
        folder.is_some() || !ci,
        "SENSOR_REPORT_SCHEMAS is not set: run `cargo xtask setup`, `cargo xtask test cli`"
    );
    if folder.is_none() {
        eprintln!("SKIPPED: SENSOR_REPORT_SCHEMAS is not set");
    }
    folder
}

fn read(folder: &Path, name: &str) -> Value {
    let text = std::fs::read_to_string(folder.join(name)).expect(name);
    serde_json::from_str(&text).expect(name)
}

/// The schema of SARIF, without the one pattern in it that is no regular expression (an unescaped `]`).
fn sarif(folder: &Path) -> Value {
    let mut schema = read(folder, "sarif.json");
    for part in ["run", "toolComponent"] {
        if let Some(language) = schema["definitions"][part]["properties"]["language"].as_object_mut() {
            language.remove("pattern");
        }
    }
    schema
}

fn hold(value: &Value, schema: &Value, others: &[(&str, Value)]) {
    let mut registry = jsonschema::Registry::new();
    for (uri, other) in others {
        registry = registry.add(*uri, jsonschema::Draft::Draft7.create_resource(other.clone())).expect(uri);
    }
    let registry = registry.prepare().expect("the schemas fit together");
    let validator = jsonschema::options().with_registry(&registry).build(schema).expect("the schema is one");
    let faults: Vec<String> =
        validator.iter_errors(value).map(|error| format!("{error} at {}", error.instance_path())).collect();
    assert!(faults.is_empty(), "{faults:#?}");
}

/// A folder with a malicious, a clean, a cut and an oddly named file, in a hub's cache.
fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let inside = folder.path().join("models--rnistralai--x/snapshots/0123");
    std::fs::create_dir_all(&inside).expect("folders");
    file(&inside, "bad.pkl", MALICIOUS);
    file(&inside, "good.pkl", BENIGN);
    file(&inside, "cut.pkl", TRUNCATED);
    file(&inside, "od d#%\u{202e}.pkl", MALICIOUS);
    (folder, inside)
}

fn report(format: &str) -> Value {
    let (_keep, inside) = folder();
    let ran = scan(&["--format".as_ref(), format.as_ref(), inside.as_os_str()]);
    assert_eq!(ran.status, Some(1), "{}", ran.stderr);
    serde_json::from_str(&ran.stdout).expect("one JSON document")
}

#[test]
fn sarif_is_what_the_standard_says() {
    let log = report("sarif");
    let run = &log["runs"][0];
    let results = run["results"].as_array().expect("results");
    let rules = run["tool"]["driver"]["rules"].as_array().expect("rules");
    assert!(results.iter().any(|result| result["ruleId"] == "SNS-101" && result["level"] == "error"));
    assert!(results.iter().any(|result| result["ruleId"] == "SNS-704"), "the repository imitates another");
    for result in results {
        let index = usize::try_from(result["ruleIndex"].as_u64().expect("an index")).expect("small");
        assert_eq!(rules[index]["id"], result["ruleId"]);
        let uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"].as_str().expect("a URI");
        assert!(uri.is_ascii() && uri.starts_with("file:///") && !uri.contains(' '), "{uri}");
    }
    let unread = run["invocations"][0]["toolExecutionNotifications"].as_array().expect("notifications");
    assert_eq!(unread.len(), 1, "the cut file");
    if let Some(folder) = published() {
        hold(&log, &sarif(&folder), &[]);
    }
}

#[test]
fn sarif_of_nothing_bad_is_whole() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let good = file(folder.path(), "good.pkl", BENIGN);
    let ran = scan(&["--format".as_ref(), "sarif".as_ref(), good.as_os_str()]);
    let log: Value = serde_json::from_str(&ran.stdout).expect("one JSON document");
    assert_eq!((ran.status, log["runs"][0]["results"].as_array().map(Vec::len)), (Some(0), Some(0)));
    if let Some(folder) = published() {
        hold(&log, &sarif(&folder), &[]);
    }
}

#[test]
fn cyclonedx_is_what_the_standard_says() {
    let bom = report("cyclonedx");
    let components = bom["components"].as_array().expect("components");
    assert_eq!(components.len(), 4);
    for component in components {
        assert_eq!(component["type"], "machine-learning-model");
        assert_eq!(component["hashes"][0]["content"].as_str().map(str::len), Some(64), "hashes without --hash");
        assert_eq!(component["purl"], "pkg:huggingface/rnistralai/x@0123");
    }
    let bad = components.iter().find(|component| component["name"] == "bad.pkl").expect("the bad one");
    let vulnerabilities = bom["vulnerabilities"].as_array().expect("vulnerabilities");
    assert!(
        vulnerabilities.iter().any(|found| found["id"] == "SNS-101" && found["affects"][0]["ref"] == bad["bom-ref"])
    );
    if let Some(folder) = published() {
        let others = [
            ("http://cyclonedx.org/schema/spdx.SNAPSHOT.schema.json", read(&folder, "spdx.json")),
            ("http://cyclonedx.org/schema/jsf-0.82.SNAPSHOT.schema.json", read(&folder, "jsf.json")),
        ];
        hold(&bom, &read(&folder, "cyclonedx.json"), &others);
    }
}
