//! Files as llama.cpp would write them, and what is done to them.

use super::*;
use crate::source::MemorySource;
use crate::{Limits, Verdict, scan as scan_file};

fn text(value: &str) -> Vec<u8> {
    [&(value.len() as u64).to_le_bytes()[..], value.as_bytes()].concat()
}

fn string(key: &str, value: &str) -> Vec<u8> {
    [text(key), 8_u32.to_le_bytes().to_vec(), text(value)].concat()
}

fn file(keys: &[Vec<u8>], tensors: &[(&str, &[u64], u32, u64)], data: &[u8]) -> Vec<u8> {
    let mut bytes = [MAGIC, &3_u32.to_le_bytes()].concat();
    bytes.extend((tensors.len() as u64).to_le_bytes());
    bytes.extend((keys.len() as u64).to_le_bytes());
    keys.iter().for_each(|key| bytes.extend(key));
    for (name, shape, kind, offset) in tensors {
        bytes.extend(text(name));
        bytes.extend((shape.len() as u32).to_le_bytes());
        shape.iter().for_each(|size| bytes.extend(size.to_le_bytes()));
        bytes.extend(kind.to_le_bytes());
        bytes.extend(offset.to_le_bytes());
    }
    bytes.resize(bytes.len().next_multiple_of(32), 0);
    bytes.extend(data);
    bytes
}

fn judged(bytes: &[u8]) -> (Verdict, Vec<&'static str>) {
    let report = scan_file(&MemorySource::new(bytes, b"m.gguf"), &Limits::default(), &crate::Policy::standard());
    assert_eq!(report.format, "gguf");
    (report.verdict, report.findings.iter().map(|finding| finding.id).collect())
}

#[test]
fn ordinary_files() {
    let keys = [
        string("general.architecture", "llama"),
        string("general.description", "call model.eval() first; see https://example.com/"),
        string("tokenizer.chat_template", "{% for m in messages %}{{ m['content'] }}{% endfor %}"),
    ];
    let tensors: &[(&str, &[u64], u32, u64)] = &[("a", &[8, 4], 0, 0), ("b", &[32], 8, 128)];
    assert_eq!(judged(&file(&keys, tensors, &[0x41; 162])), (Verdict::Clean, vec![]));
    // Padding behind the last tensor, and a type that is not known here.
    assert_eq!(judged(&file(&keys, tensors, &[[0x41; 162].as_slice(), &[0; 30]].concat())).0, Verdict::Clean);
    assert_eq!(judged(&file(&[], &[("a", &[8], 99, 0)], &[1; 77])).0, Verdict::Clean);
    assert_eq!(judged(&file(&[], &[], &[])).0, Verdict::Clean);
}

#[test]
fn templates_under_every_key() {
    for key in ["tokenizer.chat_template", "tokenizer.chat_template.tool_use", "general.note"] {
        let keys = [string(key, "{{ cycler.__init__.__globals__.os.popen('id').read() }}")];
        assert_eq!(judged(&file(&keys, &[], &[])).0, Verdict::Malicious, "{key}");
    }
    let mut array = [text("x.templates"), 9_u32.to_le_bytes().to_vec(), 8_u32.to_le_bytes().to_vec()].concat();
    array.extend(1_u64.to_le_bytes());
    array.extend(text("{{ ().__class__ }}"));
    assert_eq!(judged(&file(&[array], &[], &[])).0, Verdict::Malicious);
}

#[test]
fn lies_about_sizes() {
    let long = |count: u64| {
        let mut array = [text("x"), 9_u32.to_le_bytes().to_vec(), 11_u32.to_le_bytes().to_vec()].concat();
        array.extend(count.to_le_bytes());
        array
    };
    let counts = |tensors: u64, keys: u64| {
        [MAGIC, &3_u32.to_le_bytes(), &tensors.to_le_bytes(), &keys.to_le_bytes(), &[0; 64]].concat()
    };
    let nested = [text("x"), 9_u32.to_le_bytes().to_vec(), 9_u32.to_le_bytes().to_vec(), vec![1; 8]].concat();
    let alignment = [text("general.alignment"), 4_u32.to_le_bytes().to_vec(), 33_u32.to_le_bytes().to_vec()].concat();
    for bytes in [
        file(&[long(1 << 61)], &[], &[]),
        file(&[long(1 << 40)], &[], &[]),
        file(&[nested], &[], &[]),
        file(&[[&u64::MAX.to_le_bytes()[..], b"key"].concat()], &[], &[]),
        file(&[[text("x"), 77_u32.to_le_bytes().to_vec()].concat()], &[], &[]),
        file(&[alignment], &[], &[]),
        file(&[string("a", "b"), string("a", "c")], &[], &[]),
        file(&[], &[("a", &[8], 0, 0), ("b", &[8], 0, 16)], &[1; 48]),
        file(&[], &[("a", &[8], 0, 0)], &[1; 16]),
        file(&[], &[("a", &[1 << 40, 1 << 40], 0, 0)], &[1; 16]),
        file(&[], &[("a", &[1, 1, 1, 1, 1], 0, 0)], &[1; 16]),
        file(&[], &[("a", &[8], 0, 0)], &[[1; 32].as_slice(), b"\x80\x04cos\nsystem\n."].concat()),
        counts(1 << 62, 0),
        counts(0, 1 << 62),
        [MAGIC, &9_u32.to_le_bytes(), &[0; 16]].concat(),
    ] {
        assert!(matches!(judged(&bytes).0, Verdict::Suspicious | Verdict::Malicious), "{:?}", judged(&bytes));
    }
}

#[test]
fn the_other_byte_order() {
    let mut bytes = [MAGIC, &3_u32.to_be_bytes(), &0_u64.to_be_bytes(), &1_u64.to_be_bytes()].concat();
    for value in ["tokenizer.chat_template", "{{ x.__class__ }}"] {
        if value.starts_with('{') {
            bytes.extend(8_u32.to_be_bytes());
        }
        bytes.extend((value.len() as u64).to_be_bytes());
        bytes.extend(value.as_bytes());
    }
    assert_eq!(judged(&bytes).0, Verdict::Malicious);
}

/// Files that are not clean, for the properties that hold for every format.
pub fn samples() -> Vec<Vec<u8>> {
    let keys = [string("general.architecture", "llama"), string("tokenizer.chat_template", "{{ x.__class__ }}")];
    vec![file(&keys, &[("a", &[8, 4], 0, 0)], &[0x41; 128])]
}
