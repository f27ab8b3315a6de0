//! Files made to hang, fool or overwhelm the scanner, or the terminal of the person who runs it.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::process::Stdio;
use std::time::Duration;

use crate::support::{BENIGN, MALICIOUS, file, scan, sensor};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn fifo(path: &std::path::Path) {
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).expect("a FIFO");
}

#[test]
fn a_fifo_or_a_device_is_skipped_and_says_so() {
    let folder = folder();
    fifo(&folder.path().join("model.pt"));
    for path in [folder.path().to_owned(), folder.path().join("model.pt"), "/dev/zero".into(), "/dev/tty".into()] {
        let ran = scan(&[OsStr::new("--format"), OsStr::new("jsonl"), path.as_os_str()]);
        let line = ran.line();
        assert_eq!((ran.status, &line["verdict"]), (Some(2), &"unscannable".into()), "{}", path.display());
        assert_eq!(line["coverage"]["complete"], false);
    }
}

#[test]
fn a_fifo_behind_a_link_does_not_block_either() {
    let folder = folder();
    fifo(&folder.path().join("pipe"));
    symlink(folder.path().join("pipe"), folder.path().join("model.pt")).expect("a link");
    let ran = scan(&[OsStr::new("--format"), OsStr::new("jsonl"), folder.path().as_os_str()]);
    assert_eq!((ran.status, &ran.line()["verdict"]), (Some(2), &"unscannable".into()));
}

#[test]
fn links_out_of_the_tree_are_a_line_of_their_own() {
    let (outside, folder) = (folder(), folder());
    let target = file(outside.path(), "secret.pkl", MALICIOUS);
    symlink(&target, folder.path().join("model.pkl")).expect("a link");
    let ran = scan(&[OsStr::new("--format"), OsStr::new("jsonl"), folder.path().as_os_str()]);
    let line = ran.line();
    assert_eq!((ran.status, &line["verdict"]), (Some(2), &"unscannable".into()));
    // Named, it is what the person means.
    let named = scan(&[OsStr::new("--format"), OsStr::new("jsonl"), folder.path().join("model.pkl").as_os_str()]);
    assert_eq!(named.line()["verdict"], "malicious");
}

#[test]
fn a_sparse_terabyte_ends_within_the_test() {
    let folder = folder();
    let sparse = |name: &str, start: &[u8]| {
        let path = file(folder.path(), name, start);
        // A file system with a smaller limit still gives a file that nobody wants to read whole.
        let opened = File::options().write(true).open(&path).expect("it opens");
        opened.set_len(1 << 40).or_else(|_| opened.set_len(1 << 34)).expect("a sparse file");
        path
    };
    let npy = b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }                                                            \n";
    let paths = [
        sparse("zeros.pt", b""),
        sparse("array.npy", npy),
        sparse("pickle.pkl", MALICIOUS),
        sparse("archive.zip", b"PK\x03\x04\x14\0\0\0\0\0"),
        sparse("st.safetensors", b"\x02\0\0\0\0\0\0\0{}"),
    ];
    for path in paths {
        let mut child = sensor()
            .args(["scan", "--format", "jsonl"])
            .arg(&path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary runs");
        // A watchdog, not a measurement: reading a terabyte would take many minutes.
        let patience = Duration::from_secs(100);
        let started = std::time::Instant::now();
        while child.try_wait().expect("it can be waited for").is_none() {
            if started.elapsed() > patience {
                child.kill().expect("it can be killed");
                panic!("{} is being read whole", path.display());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let output = child.wait_with_output().expect("it has ended");
        let line: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a line");
        assert_ne!(line["verdict"], "clean", "{line}");
    }
}

#[test]
fn a_long_path_of_control_characters_is_harmless_and_exact() {
    let folder = folder();
    // Components of 200 bytes up to a path of some 4,000 bytes, with an escape sequence and a direction override.
    let part = format!("\x1b]0;owned\x07\n\r\u{202e}{}", "x".repeat(180));
    let mut path = folder.path().to_owned();
    while path.as_os_str().len() + part.len() + 12 < 4_000 {
        path.push(&part);
    }
    std::fs::create_dir_all(&path).expect("a deep folder");
    let path = file(&path, "model.pkl", MALICIOUS);
    for format in ["human", "jsonl", "json"] {
        let ran = scan(&[OsStr::new("--explain"), OsStr::new("--format"), OsStr::new(format), path.as_os_str()]);
        assert_eq!(ran.status, Some(1));
        let hostile = |char: &char| (char.is_control() && *char != '\n') || *char == '\u{202e}';
        assert_eq!(ran.stdout.chars().find(hostile), None, "{format}");
        if format == "jsonl" {
            assert_eq!(ran.line()["path"], path.to_str().expect("UTF-8"));
        }
    }
}

#[test]
fn a_name_that_is_not_utf8_is_exact_in_base64() {
    let folder = folder();
    let path = folder.path().join(OsStr::from_bytes(b"\xff\xfe.pkl"));
    std::fs::write(&path, BENIGN).expect("a file");
    let line = scan(&[OsStr::new("--format"), OsStr::new("jsonl"), folder.path().as_os_str()]).line();
    assert!(line["path"].as_str().is_some_and(|path| path.ends_with("\u{fffd}\u{fffd}.pkl")));
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, path.as_os_str().as_bytes());
    assert_eq!(line["path_b64"], encoded);
}

#[test]
fn a_file_that_cannot_be_read_is_not_clean() {
    let folder = folder();
    let ran = scan(&[folder.path().join("nothing.pt")]);
    assert_eq!(ran.status, Some(2));
    assert!(ran.stdout.contains("can't be opened"), "{}", ran.stdout);
}

#[test]
fn a_report_that_cannot_be_written_is_not_a_success() {
    let folder = folder();
    let good = file(folder.path(), "good.pkl", BENIGN);
    for format in ["human", "jsonl", "json", "sarif", "cyclonedx"] {
        let full = File::options().write(true).open("/dev/full").expect("/dev/full");
        let mut command = sensor();
        let ran = command.args(["scan", "--format", format]).arg(&good).stdout(full).output().expect("the binary runs");
        let said = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.code() == Some(2) && said.contains("standard output"), "{format}: {:?} {said}", ran.status);
    }
}
