//! Models by hand, with a path or a text in every place that the schema has.

use crate::format::protobuf::testing::{bytes, number};
use crate::source::MemorySource;
use crate::{Limits, Verdict, scan as scan_file};

fn entry(key: &str, value: &str) -> Vec<u8> {
    [bytes(1, key), bytes(2, value)].concat()
}

fn tensor(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut tensor = [number(1, 4), number(2, 1), bytes(8, "w")].concat();
    entries.iter().for_each(|(key, value)| tensor.extend(bytes(13, entry(key, value))));
    [tensor, number(14, 1)].concat()
}

fn node(operator: &str, more: &[u8]) -> Vec<u8> {
    [bytes(1, "x"), bytes(2, "y"), bytes(4, operator), more.to_vec()].concat()
}

fn graph(more: &[u8]) -> Vec<u8> {
    [bytes(1, node("Relu", &[])), bytes(2, "g"), more.to_vec()].concat()
}

fn model(graph: &[u8], more: &[u8]) -> Vec<u8> {
    [number(1, 8), bytes(2, "pytorch"), bytes(7, graph), bytes(8, number(2, 17)), more.to_vec()].concat()
}

fn judged(bytes: &[u8]) -> Verdict {
    let report = scan_file(&MemorySource::new(bytes, b"m.onnx"), &Limits::default(), &crate::Policy::standard());
    assert_eq!(report.format, "onnx");
    report.verdict
}

#[test]
fn ordinary_models() {
    let external = tensor(&[("location", "m.onnx.data"), ("offset", "0"), ("length", "16"), ("checksum", "ab")]);
    for bytes in [
        model(&graph(&[]), &[]),
        model(&graph(&bytes(5, external)), &[]),
        model(&graph(&[]), &bytes(14, entry("description", "call model.eval() first"))),
        model(&graph(&bytes(1, node("Gelu", &bytes(7, "com.microsoft")))), &[]),
        model(
            &graph(&bytes(1, node("Block", &bytes(7, "my.layers")))),
            &bytes(25, [bytes(1, "Block"), bytes(7, node("Relu", &[])), bytes(10, "my.layers")].concat()),
        ),
    ] {
        assert_eq!(judged(&bytes), Verdict::Clean);
    }
}

/// The same tensor in every place that can hold one.
fn placed(tensor: &[u8]) -> Vec<Vec<u8>> {
    let attribute = |number| bytes(1, node("Constant", &bytes(5, [bytes(1, "value"), bytes(number, tensor)].concat())));
    let sub = |number| {
        bytes(1, node("If", &bytes(5, [bytes(1, "then_branch"), bytes(number, graph(&bytes(5, tensor)))].concat())))
    };
    let sparse = [bytes(1, tensor), bytes(2, b"")].concat();
    vec![
        model(&graph(&bytes(5, tensor)), &[]),
        model(&graph(&attribute(5)), &[]),
        model(&graph(&attribute(10)), &[]),
        model(&graph(&sub(6)), &[]),
        model(&graph(&sub(11)), &[]),
        model(&graph(&bytes(15, &sparse)), &[]),
        model(&graph(&bytes(1, node("C", &bytes(5, bytes(22, &sparse))))), &[]),
        model(&graph(&[]), &bytes(20, bytes(1, graph(&bytes(5, tensor))))),
        model(&graph(&[]), &bytes(20, bytes(2, graph(&bytes(5, tensor))))),
        model(&graph(&[]), &bytes(25, [bytes(1, "f"), bytes(7, node("C", &bytes(5, bytes(5, tensor))))].concat())),
        // Behind fields that the schema does not have.
        [bytes(99, vec![0; 70_000]), model(&graph(&bytes(5, tensor)), &[])].concat(),
    ]
}

#[test]
fn paths_that_leave_in_every_place() {
    for location in ["../../etc/passwd", "/etc/passwd", "a/../../x", "file:///etc/passwd", "*/_ORT_MEM_ADDR_/*", "~/x"]
    {
        for bytes in placed(&tensor(&[("location", location), ("offset", "0")])) {
            assert_eq!(judged(&bytes), Verdict::Malicious, "{location}");
        }
    }
    for entries in [
        &[("location", "..\\..\\x")][..],
        &[("location", "w.bin"), ("__class__", "x")],
        &[("location", "w.bin"), ("Location", "/etc/passwd")],
        &[("location", "w.bin"), ("basepath", "/etc")],
        &[("location", "w.bin"), ("offset", "-1")],
    ] {
        for bytes in placed(&tensor(entries)) {
            assert!(matches!(judged(&bytes), Verdict::Suspicious | Verdict::Malicious), "{entries:?}");
        }
    }
}

#[test]
fn code_and_native_operators() {
    let payload = "__import__('os').system('id')";
    for bytes in [
        model(&graph(&[]), &bytes(14, entry("post_load", payload))),
        model(&graph(&[]), &bytes(6, payload)),
        model(&graph(&bytes(10, payload)), &[]),
        model(&graph(&bytes(1, node("C", &bytes(5, [bytes(1, "s"), bytes(4, payload)].concat())))), &[]),
        model(&graph(&bytes(1, node("Evil", &bytes(7, "evil.ops")))), &[]),
        model(&graph(&bytes(1, node("PyOp", &bytes(7, "ai.onnx.contrib")))), &[]),
        [model(&graph(&[]), &[]), b"\x7fELF\x02\x01\x01\0\0\0".to_vec()].concat(),
    ] {
        assert_eq!(judged(&bytes), Verdict::Suspicious);
    }
    let pickle = b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x02id\x85R.";
    let raw = [number(2, 2), bytes(8, "w"), bytes(9, pickle)].concat();
    assert_eq!(judged(&model(&graph(&bytes(5, raw)), &[])), Verdict::Malicious);
    let mut deep = graph(&[]);
    for _ in 0..100 {
        deep = graph(&bytes(1, node("If", &bytes(5, bytes(6, deep)))));
    }
    assert_eq!(judged(&model(&deep, &[])), Verdict::Unscannable);
}

/// Files that are not clean, for the properties that hold for every format.
pub fn samples() -> Vec<Vec<u8>> {
    placed(&tensor(&[("location", "../../etc/passwd"), ("offset", "0")]))
}
