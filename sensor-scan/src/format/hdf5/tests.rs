//! Files laid out by hand: the oldest and the newest structures, with a value in each place.

use crate::source::MemorySource;
use crate::{Limits, Verdict, scan as scan_file};

const CONFIG: &str = r#"{"class_name": "Lambda", "config": {"function": ["?"], "function_type": "lambda"}}"#;

/// A version 2 superblock and a root group of the new kind with these messages.
fn file(messages: &[(u8, Vec<u8>)], behind: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for (kind, message) in messages {
        body.push(*kind);
        body.extend((message.len() as u16).to_le_bytes());
        body.push(0);
        body.extend(message);
    }
    let mut header = b"OHDR\x02\x02".to_vec();
    header.extend((body.len() as u32).to_le_bytes());
    header.extend(body);
    header.extend([0; 4]);
    let mut bytes = [super::file::MAGIC.as_slice(), &[2, 8, 8, 0]].concat();
    let end = 48 + header.len() as u64 + behind.len() as u64;
    for address in [0, u64::MAX, end, 48] {
        bytes.extend(address.to_le_bytes());
    }
    bytes.extend([0; 4]);
    bytes.extend(header);
    bytes.extend(behind);
    bytes
}

/// An attribute (version 3) with a text of a fixed length.
fn attribute(name: &str, value: &[u8]) -> Vec<u8> {
    let mut datatype = vec![0x13, 0, 0, 0];
    datatype.extend((value.len() as u32).to_le_bytes());
    let dataspace = [2, 0, 0, 0];
    let mut message = vec![3, 0];
    for bytes in [name.len() + 1, datatype.len(), dataspace.len()] {
        message.extend((bytes as u16).to_le_bytes());
    }
    message.push(0);
    message.extend(name.as_bytes());
    message.push(0);
    message.extend(datatype);
    message.extend(dataspace);
    message.extend(value);
    message
}

fn judged(bytes: &[u8]) -> (Verdict, Vec<&'static str>) {
    let report = scan_file(&MemorySource::new(bytes, b"m.h5"), &Limits::default(), &crate::Policy::standard());
    assert_eq!(report.format, "hdf5");
    (report.verdict, report.findings.iter().map(|finding| finding.id).collect())
}

const ATTRIBUTE: u8 = 0x0c;
const LINK: u8 = 0x06;

fn external(file: &str) -> Vec<u8> {
    let target = [&[0], file.as_bytes(), b"\0/x\0"].concat();
    [&[1, 0x08, 64, 1, b'l'], (target.len() as u16).to_le_bytes().as_slice(), &target].concat()
}

#[test]
fn attributes() {
    let ordinary = attribute("model_config", br#"{"class_name": "Sequential", "config": {"layers": []}}"#);
    assert_eq!(judged(&file(&[(ATTRIBUTE, ordinary)], b"")), (Verdict::Clean, vec![]));
    assert_eq!(judged(&file(&[], b"")), (Verdict::Clean, vec![]));
    for name in ["model_config", "training_config", "x"] {
        let bytes = file(&[(ATTRIBUTE, attribute(name, CONFIG.as_bytes()))], b"");
        assert_eq!(judged(&bytes).0, Verdict::Malicious, "{name}");
        // A user block before the superblock.
        for block in [512, 1024, 4096] {
            assert_eq!(judged(&[vec![0; block], bytes.clone()].concat()).0, Verdict::Malicious, "{name}");
        }
    }
    let pickle = attribute("x", b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x02id\x85R.");
    assert_eq!(judged(&file(&[(ATTRIBUTE, pickle)], b"")).0, Verdict::Malicious);
}

#[test]
fn texts_in_a_global_heap() {
    let mut heap = b"GCOL\x01\0\0\0".to_vec();
    let size = 16 + 16 + CONFIG.len().next_multiple_of(8) as u64;
    heap.extend(size.to_le_bytes());
    heap.extend([1, 0, 1, 0, 0, 0, 0, 0]);
    heap.extend((CONFIG.len() as u64).to_le_bytes());
    heap.extend(CONFIG.as_bytes());
    heap.resize(size as usize, 0);
    // Nobody refers to it in a way that is followed.
    assert_eq!(judged(&file(&[], &heap)).0, Verdict::Malicious);
}

#[test]
fn other_files() {
    for (name, verdict) in
        [("x.h5", Verdict::Suspicious), ("/etc/passwd", Verdict::Malicious), ("../x", Verdict::Malicious)]
    {
        assert_eq!(judged(&file(&[(LINK, external(name))], b"")), (verdict, vec!["SNS-425"]), "{name}");
    }
    let soft = [&[1, 0x08, 1, 1, b'l', 2, 0][..], b"/x"].concat();
    assert_eq!(judged(&file(&[(LINK, soft)], b"")).0, Verdict::Clean);
    // A link to itself.
    let hard = [&[1, 0, 1, b'l'][..], &48_u64.to_le_bytes()].concat();
    assert_eq!(judged(&file(&[(LINK, hard)], b"")).0, Verdict::Clean);
    let away = [&[1, 0, 1, b'l'][..], &1_u64.to_le_bytes()].concat();
    assert_eq!(judged(&file(&[(LINK, away)], b"")).0, Verdict::Unscannable);
}

/// Files that are not clean, for the properties that hold for every format.
pub fn samples() -> Vec<Vec<u8>> {
    vec![file(&[(ATTRIBUTE, attribute("model_config", CONFIG.as_bytes())), (LINK, external("/etc/passwd"))], b"")]
}
