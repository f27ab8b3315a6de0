//! Graphs by hand: every operator with every origin of its operand.

use crate::format::protobuf::testing::{bytes, number};
use crate::source::MemorySource;
use crate::{Limits, Policy, Verdict, scan as scan_file};

fn attribute(key: &str, value: &[u8]) -> Vec<u8> {
    bytes(5, [bytes(1, key), bytes(2, value)].concat())
}

fn node(name: &str, operator: &str, inputs: &[&str], more: &[u8]) -> Vec<u8> {
    let mut node = [bytes(1, name), bytes(2, operator)].concat();
    inputs.iter().for_each(|input| node.extend(bytes(3, input)));
    [node, more.to_vec()].concat()
}

fn constant(name: &str, text: &str) -> Vec<u8> {
    node(name, "Const", &[], &attribute("value", &bytes(8, [number(1, 7), bytes(8, text)].concat())))
}

fn graph(nodes: &[Vec<u8>]) -> Vec<u8> {
    nodes.iter().flat_map(|node| bytes(1, node)).collect()
}

fn function(name: &str, arguments: &[&str], nodes: &[Vec<u8>]) -> Vec<u8> {
    let mut signature = bytes(1, name);
    arguments.iter().for_each(|argument| signature.extend(bytes(2, bytes(1, argument))));
    let nodes: Vec<u8> = nodes.iter().flat_map(|node| bytes(3, node)).collect();
    [bytes(1, signature), nodes].concat()
}

fn saved_model(graph: &[u8], more: &[u8]) -> Vec<u8> {
    let info = bytes(4, "serve");
    [number(1, 1), bytes(2, [bytes(1, info), bytes(2, graph), more.to_vec()].concat())].concat()
}

fn judged(bytes: &[u8]) -> (&'static str, Verdict) {
    let report = scan_file(&MemorySource::new(bytes, b"saved_model.pb"), &Limits::default(), &Policy::standard());
    (report.format, report.verdict)
}

/// The same nodes as a graph, a saved graph, a function of one.
fn placed(nodes: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let plain = graph(nodes);
    let library = bytes(2, bytes(1, function("f", &[], nodes)));
    let quiet = graph(&[constant("c", "x")]);
    vec![
        plain.clone(),
        saved_model(&plain, &[]),
        saved_model(&[quiet, library.clone()].concat(), &[]),
        // A MetaGraphDef alone, and behind a field that the schema does not have.
        [bytes(1, bytes(4, "serve")), bytes(2, &plain)].concat(),
        [bytes(77, [0; 5000]), saved_model(&plain, &[])].concat(),
        library,
    ]
}

const PATH: &str = "/tmp/x";

#[test]
fn constant_paths_through_every_operator() {
    let chains: &[&[Vec<u8>]] = &[
        &[constant("p", PATH)],
        &[constant("c", PATH), node("p", "Identity", &["c"], &[])],
        &[
            constant("a", "/tmp"),
            constant("b", "x"),
            node("p", "StringJoin", &["a", "b"], &attribute("separator", &bytes(2, "/"))),
        ],
        &[constant("a", "/tm"), constant("b", "p/x"), node("p", "AddV2", &["a", "b"], &[])],
        &[constant("a", "/tmp/"), node("b", "Placeholder", &[], &[]), node("p", "StringJoin", &["a:0", "b"], &[])],
        &[node("b", "Placeholder", &[], &[]), constant("a", "/../../x"), node("p", "StringJoin", &["b", "a"], &[])],
        &[constant("a", PATH), node("b", "ExpandDims", &["a", "z"], &[]), node("p", "Pack", &["b", "^q"], &[])],
    ];
    for (operator, index) in [
        ("WriteFile", 0),
        ("ReadFile", 0),
        ("MatchingFiles", 0),
        ("SaveV2", 0),
        ("RestoreV2", 0),
        ("MergeV2Checkpoints", 1),
        ("TextLineDataset", 0),
        ("InitializeTableFromTextFileV2", 1),
        ("CreateSummaryFileWriter", 1),
        ("SqlDataset", 1),
        ("Save", 0),
        ("CacheDatasetV2", 1),
        ("RpcClient", 0),
    ] {
        for chain in chains {
            let inputs = &["d", "p"][1 - index..];
            let mut nodes = chain.to_vec();
            nodes.push(node("d", "Placeholder", &[], &[]));
            nodes.push(node("op", operator, inputs, &[]));
            for bytes in placed(&nodes) {
                assert_eq!(judged(&bytes).1, Verdict::Malicious, "{operator}");
            }
        }
    }
}

#[test]
fn operators_that_need_no_path() {
    for (operator, more, verdict) in [
        ("PyFunc", vec![], Verdict::Malicious),
        ("EagerPyFunc", vec![], Verdict::Malicious),
        ("PrintV2", attribute("output_stream", &bytes(2, "file:///tmp/x")), Verdict::Malicious),
        ("PrintV2", attribute("output_stream", &bytes(2, "stderr")), Verdict::Clean),
        ("DebugIdentityV2", attribute("debug_urls", &bytes(1, bytes(2, "file:///tmp/x"))), Verdict::Malicious),
        ("DebugIdentityV3", attribute("debug_urls", &bytes(1, bytes(2, "grpc://10.0.0.1:1"))), Verdict::Malicious),
        ("DecodeProtoV2", attribute("descriptor_source", &bytes(2, "/etc/passwd")), Verdict::Malicious),
        ("DecodeProtoV2", attribute("descriptor_source", &bytes(2, "local://")), Verdict::Clean),
        ("RecordInput", attribute("file_pattern", &bytes(2, "/etc/*")), Verdict::Malicious),
        ("XlaCustomCallV2", vec![], Verdict::Suspicious),
        ("MatMul", vec![], Verdict::Clean),
    ] {
        for bytes in placed(&[constant("c", "x"), node("op", operator, &["c"], &more)]) {
            assert_eq!(judged(&bytes).1, verdict, "{operator}");
        }
    }
}

#[test]
fn paths_that_the_caller_or_the_loader_gives() {
    for operator in ["SaveV2", "RestoreV2", "InitializeTableFromTextFileV2", "CacheDatasetV2"] {
        let index = usize::from(matches!(operator, "InitializeTableFromTextFileV2" | "CacheDatasetV2"));
        let inputs = &["d", "p"][1 - index..];
        for chain in [
            &[node("p", "Placeholder", &[], &[])][..],
            &[constant("c", "model"), node("p", "PlaceholderWithDefault", &["c"], &[])],
            &[constant("p", "model")],
            &[node("x", "Placeholder", &[], &[]), constant("c", "part"), node("p", "StringJoin", &["x", "c"], &[])],
        ] {
            let mut nodes = chain.to_vec();
            nodes.push(node("d", "Placeholder", &[], &[]));
            nodes.push(node("op", operator, inputs, &[]));
            for bytes in placed(&nodes) {
                assert_eq!(judged(&bytes).1, Verdict::Clean, "{operator}");
            }
        }
    }
    // An asset: the constant is replaced by whoever loads the model.
    let table = graph(&[
        constant("Const", "/build/vocab.txt"),
        node("op", "InitializeTableFromTextFileV2", &["t", "Const"], &[]),
    ]);
    let asset = |file: &str| bytes(6, [bytes(1, bytes(1, "Const:0")), bytes(2, file)].concat());
    assert_eq!(judged(&saved_model(&table, &asset("vocab.txt"))), ("savedmodel", Verdict::Clean));
    assert_eq!(judged(&saved_model(&table, &asset("../../vocab.txt"))).1, Verdict::Malicious);
    assert_eq!(judged(&saved_model(&table, &[])).1, Verdict::Malicious);
}

#[test]
fn arguments_come_from_the_callers() {
    let body = [node("op", "WriteFile", &["path", "text"], &[])];
    let saver = [node("op", "SaveV2", &["path", "n", "s"], &[])];
    let called = |body: &[Vec<u8>], value: Vec<u8>| {
        let call = node("call", "StatefulPartitionedCall", &["p", "t"], &attribute("f", &bytes(10, bytes(1, "f"))));
        let library = bytes(2, bytes(1, function("f", &["path", "text"], body)));
        saved_model(&[graph(&[value, constant("t", "x"), call]), library].concat(), &[])
    };
    assert_eq!(judged(&called(&saver, constant("p", PATH))).1, Verdict::Malicious);
    assert_eq!(judged(&called(&saver, node("p", "Placeholder", &[], &[]))).1, Verdict::Clean);
    assert_eq!(judged(&called(&body, node("p", "Placeholder", &[], &[]))).1, Verdict::Malicious);
    // Functions that call themselves end.
    let own = [
        node("a", "PartitionedCall", &["x"], &attribute("f", &bytes(10, bytes(1, "f")))),
        node("op", "SaveV2", &["x"], &[]),
    ];
    let library = bytes(2, bytes(1, function("f", &["x"], &own)));
    assert_eq!(judged(&saved_model(&[graph(&[constant("c", "x")]), library].concat(), &[])).1, Verdict::Clean);
}

#[test]
fn configurations_in_the_object_graph_and_beside_it() {
    let config = r#"{"class_name": "Lambda", "config": {"function": ["?"], "function_type": "lambda"}}"#;
    let objects = bytes(7, bytes(1, bytes(4, [bytes(1, "_tf_keras_layer"), bytes(3, config)].concat())));
    assert_eq!(judged(&saved_model(&graph(&[constant("c", "x")]), &objects)).1, Verdict::Malicious);
    let metadata = bytes(1, [number(2, 1), bytes(3, "root"), bytes(4, "_tf_keras_layer"), bytes(5, config)].concat());
    assert_eq!(judged(&metadata), ("keras-metadata", Verdict::Malicious));
    let fingerprint = [1_u64, 2, 3, 4, 5].iter().flat_map(|field| number(*field, 1 << 60)).collect::<Vec<u8>>();
    assert_eq!(judged(&fingerprint), ("tf-fingerprint", Verdict::Clean));
}

/// Files that are not clean, for the properties that hold for every format.
pub fn samples() -> Vec<Vec<u8>> {
    placed(&[constant("c", PATH), node("p", "Identity", &["c"], &[]), node("op", "WriteFile", &["p", "c"], &[])])
}
