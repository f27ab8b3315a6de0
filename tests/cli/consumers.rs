//! Other people's programs over what we write: viewers of SARIF, readers of CycloneDX, pre-commit over the hook definition.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::{BENIGN, MALICIOUS, file, scan};

/// Where the programs are; `cargo xtask setup` puts them below target/.
fn programs() -> Option<PathBuf> {
    let folder = std::env::var_os("SENSOR_CONSUMERS").map(PathBuf::from);
    let ci = std::env::var("CI").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"));
    assert!(folder.is_some() || !ci, "SENSOR_CONSUMERS is not set: run `cargo xtask setup`, `cargo xtask test cli`");
    if folder.is_none() {
        eprintln!("SKIPPED: SENSOR_CONSUMERS is not set");
    }
    folder
}

/// A folder with a malicious and a clean file, and a report of it.
fn report(format: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let models = folder.path().join("models");
    fs::create_dir(&models).expect("a folder");
    file(&models, "bad.pkl", MALICIOUS);
    file(&models, "good.pkl", BENIGN);
    let ran = scan(&["--format".as_ref(), format.as_ref(), models.as_os_str()]);
    assert_eq!(ran.status, Some(1), "{}", ran.stderr);
    let report = file(folder.path(), &format!("report.{format}"), ran.stdout.as_bytes());
    (folder, report)
}

fn succeeded(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}: {text}{}", output.status, String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn sarif_loads_in_a_viewer() {
    let Some(programs) = programs() else { return };
    let (folder, report) = report("sarif");
    let sarif = |arguments: &[&str]| {
        let mut command = Command::new(programs.join("sarif"));
        succeeded(&command.args(arguments).arg(&report).current_dir(folder.path()).output().expect("sarif-tools"))
    };
    let summary = sarif(&["summary"]);
    assert!(summary.contains("error: 1") && summary.contains("SNS-101"), "{summary}");
    sarif(&["html", "--output", "report.html"]);
    let page = fs::read_to_string(folder.path().join("report.html")).expect("a page");
    assert!(page.contains("SNS-101") && page.contains("bad.pkl") && !page.contains("good.pkl"));
    sarif(&["csv", "--output", "report.csv"]);
    let table = fs::read_to_string(folder.path().join("report.csv")).expect("a table");
    assert_eq!(table.lines().filter(|line| line.contains("SNS-101") && line.contains("bad.pkl")).count(), 1, "{table}");
}

/// Validates strictly, then reads the document into the library's own model of it.
const READ_CYCLONEDX: &str = "
import json, sys
from cyclonedx.model.bom import Bom
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
text = open(sys.argv[1]).read()
assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
bom = Bom.from_json(json.loads(text))
print(sorted(part.name for part in bom.components), [found.id for found in bom.vulnerabilities])
";

#[test]
fn cyclonedx_is_read_by_its_library() {
    let Some(programs) = programs() else { return };
    let (_folder, report) = report("cyclonedx");
    let read = Command::new(programs.join("python")).args(["-c", READ_CYCLONEDX]).arg(&report).output();
    assert_eq!(succeeded(&read.expect("Python")).trim(), "['bad.pkl', 'good.pkl'] ['SNS-101']");
}

fn git(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    for (name, value) in [("NAME", "t"), ("EMAIL", "t@localhost")] {
        command.env(format!("GIT_AUTHOR_{name}"), value).env(format!("GIT_COMMITTER_{name}"), value);
    }
    succeeded(&command.args(arguments).current_dir(folder).output().expect("git"))
}

/// The definition as others use it: from a repository, over the files of another one that are about to be committed.
#[test]
fn pre_commit_runs_the_hook() {
    let Some(programs) = programs() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (hooks, work) = (folder.path().join("hooks"), folder.path().join("work"));
    for repository in [&hooks, &work] {
        fs::create_dir(repository).expect("a folder");
        git(repository, &["init", "--quiet"]);
    }
    let definition = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.pre-commit-hooks.yaml");
    fs::copy(definition, hooks.join(".pre-commit-hooks.yaml")).expect("the definition");
    git(&hooks, &["add", "."]);
    git(&hooks, &["commit", "--quiet", "--message", "hooks"]);
    let revision = git(&hooks, &["rev-parse", "HEAD"]);
    let configuration = format!(
        "repos:\n  - repo: {}\n    rev: {}\n    hooks:\n      - id: sensor-scan\n",
        hooks.display(),
        revision.trim()
    );
    file(&work, ".pre-commit-config.yaml", configuration.as_bytes());
    file(&work, "good.pkl", BENIGN);
    file(&work, "notes.txt", MALICIOUS); // not a name that the hook is for
    git(&work, &["add", "."]);
    let run = || {
        let binary = Path::new(env!("CARGO_BIN_EXE_sensor")).parent().expect("a folder");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::iter::once(binary.to_owned()).chain(std::env::split_paths(&path));
        let mut command = Command::new(programs.join("pre-commit"));
        command.args(["run", "--color=never"]).current_dir(&work);
        command.env("PATH", std::env::join_paths(path).expect("a path"));
        command.env("PRE_COMMIT_HOME", folder.path().join("cache")).output().expect("pre-commit")
    };
    let passed = succeeded(&run());
    assert!(passed.contains("Passed"), "{passed}");

    file(&work, "with a blank.pkl", MALICIOUS);
    git(&work, &["add", "."]);
    let refused = run();
    let text = String::from_utf8_lossy(&refused.stdout);
    assert!(!refused.status.success(), "{text}");
    assert!(text.contains("with a blank.pkl") && text.contains("SNS-101") && text.contains("exit code: 1"), "{text}");
}
