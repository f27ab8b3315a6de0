//! What a megabyte of hostile text may cost: one worker's memory, whatever it says.

use std::process::Command;

use sensor_scan::source::MemorySource;
use sensor_scan::{Limits, Policy, scan};

/// Of one worker, without a decoder's window.
const MEMORY_KIB_MAX: u32 = 64 << 10;
/// The longest source that is read to its end.
const SOURCE_BYTES: usize = 1 << 20;

fn repeated(start: &str, part: &str, end: &str) -> Vec<u8> {
    let times = (SOURCE_BYTES - start.len() - end.len()) / part.len();
    [start, &part.repeat(times), end].concat().into_bytes()
}

fn numbered(line: impl Fn(usize) -> String) -> Vec<u8> {
    let mut text: String = (0..SOURCE_BYTES / 8).map(line).collect();
    text.truncate(SOURCE_BYTES);
    text.into_bytes()
}

/// One file at a time takes memory.
type Make = fn() -> Vec<u8>;

/// Many small parts of every kind that a parser keeps.
fn hostile() -> Vec<(&'static str, Make)> {
    vec![
        ("x.py", || repeated("", "a;", "")),
        ("x.py", || repeated("a", "+b", "")),
        ("x.py", || repeated("x=", "chr(65)+", "''")),
        ("x.py", || repeated("", "\"a\" \"b\" ", "")),
        ("x.py", || repeated("", "f'{a}';", "")),
        ("x.py", || repeated("x={", "a:b,", "}")),
        ("x.py", || numbered(|n| format!("a{n}={n}\n"))),
        ("x.py", || numbered(|n| format!("def f{n}(a):return g{n}(a)\n"))),
        ("config.json", || repeated("[", "{},", "0]")),
        ("config.yaml", || repeated("", "a: b\n", "")),
        ("chat_template.jinja", || repeated("{{a", "~b", "}}")),
    ]
}

#[test]
fn a_megabyte_of_text_is_read_within_a_worker_s_memory() {
    let own = std::env::current_exe().expect("this test");
    let script = format!("ulimit -d {MEMORY_KIB_MAX} && exec \"$0\" --exact --ignored --nocapture with_little_memory");
    let output = Command::new("sh").args(["-c", &script]).arg(own).output().expect("a shell");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{:?}\n{said}", output.status);
    assert!(said.contains("1 passed"), "{said}");
}

#[test]
#[ignore = "started by the test above, with a limit on its memory"]
fn with_little_memory() {
    for (name, bytes) in hostile() {
        let bytes = bytes();
        eprintln!("{name}: {}", bytes[..20].escape_ascii());
        scan(&MemorySource::new(&bytes, name.as_bytes()), &Limits::default(), &Policy::standard());
    }
}
