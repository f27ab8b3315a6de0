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
fn arrays_are_data_and_a_keras_configuration_is_code() {
    let content = |bytes: &[u8]| {
        let source = MemorySource::new(bytes, b"x.h5");
        scan_file(&source, &Limits::default(), &crate::Policy::standard()).content
    };
    let arrays = file(&[(ATTRIBUTE, attribute("units", b"metres"))], b"");
    assert_eq!(content(&arrays), crate::Content::Data);
    let config = br#"{"class_name": "Sequential", "config": {"layers": []}}"#;
    let keras = file(&[(ATTRIBUTE, attribute("model_config", config))], b"");
    assert_eq!(content(&keras), crate::Content::Code);
    assert_eq!(content(&arrays[..arrays.len() - 1]), crate::Content::Code, "not read to its end");
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

/// A dataset of bytes in one chunk of 64: the root carries its messages. `blocks` gets where it starts and returns the
/// index's blocks, the chunk at their end.
fn in_chunks(layout: &[u8], blocks: impl Fn(u64) -> Vec<u8>) -> Vec<u8> {
    const BYTES: [u8; 8] = [0x10, 0, 0, 0, 1, 0, 0, 0];
    let messages = |address: u64| {
        let layout = [layout, &address.to_le_bytes()].concat();
        [(0x03, BYTES.to_vec()), (0x08, layout)]
    };
    let start = file(&messages(0), b"").len() as u64;
    file(&messages(start), &blocks(start))
}

#[test]
fn chunks_are_found_by_every_index() {
    let mut chunk = b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x02id\x85R.".to_vec();
    chunk.resize(64, 0);
    let le = u64::to_le_bytes;
    let none = [0xff; 8];
    let fixed = |start: u64| {
        let (block, data) = (start + 28, start + 28 + 26);
        [&b"FAHD\0\0\x08\x0a"[..], &le(1), &le(block), &[0; 4], b"FADB\0\0", &le(start), &le(data), &[0; 4], &chunk]
            .concat()
    };
    // The chunk hangs on the index block itself, on a data block, or on a secondary block.
    let extensible = |level: usize| {
        let chunk = chunk.clone();
        move |start: u64| {
            let header =
                |index: u64| [&b"EAHD\0\0\x08\x20\x04\x10\x04\x0a"[..], &[0; 48], &le(index), &[0; 4]].concat();
            let index = start + header(0).len() as u64;
            let after = index + 14 + 8 * (4 + 6 + 25) + 4;
            let block =
                [&b"EADB\0\0"[..], &le(start), &[0; 4], &le(after + 18 + 8 * 64 + 4), &none.repeat(63), &[0; 4]]
                    .concat();
            let mut places = none.repeat(4 + 6 + 25);
            let behind = match level {
                0 => {
                    places[..8].copy_from_slice(&le(after));
                    Vec::new()
                }
                1 => {
                    places[32..40].copy_from_slice(&le(after));
                    block
                }
                _ => {
                    places[80..88].copy_from_slice(&le(after + block.len() as u64 + 64));
                    let secondary = [&b"EASB\0\0"[..], &le(start), &[0; 4], &le(after), &none.repeat(3)].concat();
                    [block, chunk.clone(), secondary].concat()
                }
            };
            let chunk = if level == 2 { &[][..] } else { &chunk };
            [&header(index)[..], b"EAIB\0\0", &le(start), &places, &[0; 4], &behind, chunk].concat()
        }
    };
    let tree = |start: u64| {
        let (leaf, data) = (start + 38, start + 38 + 26);
        let head =
            [&b"BTHD\0\x0a"[..], &[0, 2, 0, 0], &[16, 0], &[0, 0], &[100, 40], &le(leaf), &[1, 0], &le(1), &[0; 4]]
                .concat();
        [&head[..], b"BTLF\0\x0a", &le(data), &le(0), &[0; 4], &chunk].concat()
    };
    let layout = |index: &[u8]| [&[4, 2, 0, 2, 1, 64, 1], index].concat();
    let growing: [u8; 6] = [4, 32, 4, 16, 4, 10];
    let single = |_| chunk.clone();
    for (name, bytes) in [
        ("single", in_chunks(&layout(&[1]), single)),
        ("implicit", in_chunks(&layout(&[2]), single)),
        ("fixed array", in_chunks(&layout(&[3, 10]), fixed)),
        ("index block", in_chunks(&layout(&growing), extensible(0))),
        ("data block", in_chunks(&layout(&growing), extensible(1))),
        ("secondary block", in_chunks(&layout(&growing), extensible(2))),
        ("tree", in_chunks(&layout(&[5, 0, 2, 0, 0, 100, 40]), tree)),
    ] {
        let (verdict, ids) = judged(&bytes);
        assert_eq!(verdict, Verdict::Malicious, "{name}: {ids:?}");
        // Cut within the index, nothing is clean.
        let head = bytes.len() - chunk.len() - 20;
        if name != "single" && name != "implicit" {
            assert_ne!(judged(&bytes[..head]).0, Verdict::Clean, "{name}");
        }
    }
}

/// Files that are not clean, for the properties that hold for every format.
pub fn samples() -> Vec<Vec<u8>> {
    vec![file(&[(ATTRIBUTE, attribute("model_config", CONFIG.as_bytes())), (LINK, external("/etc/passwd"))], b"")]
}
