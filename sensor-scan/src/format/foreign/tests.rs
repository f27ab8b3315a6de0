//! One model of each framework, without and with what calls code.

use crate::format::protobuf::testing::{bytes, number};
use crate::source::MemorySource;
use crate::{Limits, Policy, Verdict, scan as scan_file};

fn judged(bytes: &[u8], name: &str) -> (&'static str, Verdict) {
    let report = scan_file(&MemorySource::new(bytes, name.as_bytes()), &Limits::default(), &Policy::standard());
    (report.format, report.verdict)
}

#[test]
fn paddle_and_caffe() {
    let program = |operator: &str| {
        bytes(
            1,
            [number(1, 0), number(2, 0), bytes(4, [bytes(3, "feed")].concat()), bytes(4, bytes(3, operator))].concat(),
        )
    };
    assert_eq!(judged(&program("relu"), "m.pdmodel"), ("paddle", Verdict::Clean));
    assert_eq!(judged(&program("py_func"), "x"), ("paddle", Verdict::Suspicious));
    let layer = |kind: &str| [bytes(1, "net"), bytes(100, [bytes(1, "l"), bytes(2, kind)].concat())].concat();
    assert_eq!(judged(&layer("Convolution"), "m.caffemodel"), ("caffe", Verdict::Clean));
    assert_eq!(judged(&layer("Python"), "m.caffemodel"), ("caffe", Verdict::Suspicious));
    let text = |kind: &str| format!("name: \"net\"\nlayer {{\n  name: \"a\"\n  type : \"{kind}\"\n}}\n");
    assert_eq!(judged(text("ReLU").as_bytes(), "m.prototxt"), ("caffe", Verdict::Clean));
    assert_eq!(judged(text("Python").as_bytes(), "m.prototxt"), ("caffe", Verdict::Suspicious));
}

#[test]
fn coreml() {
    let model = |kind: u64, body: &[u8]| [number(1, 4), bytes(2, bytes(1, bytes(1, "x"))), bytes(kind, body)].concat();
    let layer = bytes(1, [bytes(1, "l"), bytes(500, [bytes(10, "Evil")].concat())].concat());
    assert_eq!(judged(&model(500, &bytes(1, bytes(1, "l"))), "m.mlmodel"), ("coreml", Verdict::Clean));
    assert_eq!(judged(&model(500, &layer), "m.mlmodel"), ("coreml", Verdict::Suspicious));
    assert_eq!(judged(&model(403, &layer), "x"), ("coreml", Verdict::Suspicious));
    assert_eq!(judged(&model(555, &bytes(1, "Evil")), "x"), ("coreml", Verdict::Suspicious));
    assert_eq!(judged(&model(202, &bytes(1, model(500, &layer))), "x"), ("coreml", Verdict::Suspicious));
    assert_eq!(judged(&model(201, &bytes(1, bytes(1, model(500, &layer)))), "x"), ("coreml", Verdict::Suspicious));
}

#[test]
fn names_and_signatures() {
    let wide = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    assert_eq!(judged(&wide("BCN BVersion NativeUserFunction /tmp/x.so"), "m"), ("cntk", Verdict::Suspicious));
    assert_eq!(judged(&wide("BCN BVersion BNodeList source .sorted"), "m.dnn"), ("cntk", Verdict::Clean));
    let lua = b"\x04\0\0\0\x01\0\0\0\x03\0\0\0V 1\x0d\0\0\0nn.Sequential";
    assert_eq!(judged(lua, "m.t7"), ("torch7", Verdict::Clean));
    assert_eq!(judged(&[lua.as_slice(), b"\x1bLJ\x01"].concat(), "m"), ("torch7", Verdict::Suspicious));
    assert_eq!(judged(b"\x08\0\0\0ET12\x04\0\0\0\0\0\0\0", "m.pte"), ("executorch", Verdict::Clean));
}

/// Files that are not clean, for the properties that hold for every format.
pub fn samples() -> Vec<Vec<u8>> {
    let layer = bytes(1, [bytes(1, "l"), bytes(500, bytes(10, "Evil"))].concat());
    vec![
        bytes(1, [number(1, 0), bytes(4, bytes(3, "py_func"))].concat()),
        [number(1, 4), bytes(2, bytes(1, bytes(1, "x"))), bytes(500, layer)].concat(),
        b"\x04\0\0\0\x01\0\0\0\x03\0\0\0V 1\x0d\0\0\0nn.Sequential\x1bLJ\x01".to_vec(),
    ]
}
