//! Configurations with code, names and paths in every place that keras deserialises.

use crate::source::MemorySource;
use crate::{Limits, Verdict, scan as scan_file};

/// `lambda x: (exec("…"), x)[1]` by CPython 3.11.
const ACTS: &str = "4wEAAAAAAAAAAAAAAAMAAAADAAAA8yQAAACXAHQBAAAAAAAAAAAAAGQBpgEAAKsBAAAAAAAAAABwAXwAUwApAk56RW9wZW4oJy90bXAvbWxzY2FuX2NhbmFyeS9rZXJhc19sYW1iZGFfYXNfYWN0aXZhdGlvbl9fdjMnLCd3JykuY2xvc2UoKSkB2gRleGVjKQHaAXhzAQAAACD6AzxsPvoIPGxhbWJkYT5yBQAAAAEAAABzFQAAAIAAjSTQD1bRClfUClfQClzQW1yAAPMAAAAA";

fn judged(config: &str) -> Verdict {
    let report = scan_file(
        &MemorySource::new(config.as_bytes(), b"config.json"),
        &Limits::default(),
        &crate::Policy::standard(),
    );
    assert_eq!(report.format, "keras-config", "{config}");
    report.verdict
}

/// The object in every place of a model's configuration.
fn placed(object: &str) -> Vec<String> {
    let dense = r#""module": "keras.layers", "class_name": "Dense", "config": {"name": "d", "units": 1"#;
    let model = |layers: &str, more: &str| {
        format!(
            r#"{{"module": "keras", "class_name": "Sequential", "config": {{"name": "s", "layers": [{layers}]}}, "registered_name": null{more}}}"#
        )
    };
    vec![
        model(object, ""),
        model(&format!(r#"{{{dense}, "activation": {object}}}}}"#), ""),
        model(&format!(r#"{{{dense}, "kernel_initializer": {object}}}}}"#), ""),
        model(
            &format!(r#"{{"class_name": "Bidirectional", "module": "keras.layers", "config": {{"layer": {object}}}}}"#),
            "",
        ),
        model(&format!(r#"{{"class_name": "RNN", "module": "keras.layers", "config": {{"cell": [{object}]}}}}"#), ""),
        model(&model(object, ""), ""),
        model("", &format!(r#", "compile_config": {{"loss": {object}, "optimizer": "adam"}}"#)),
        model("", &format!(r#", "compile_config": {{"loss": {{"a": [{object}]}}, "metrics": []}}"#)),
        model("", &format!(r#", "build_config": {{"input_shape": {object}}}"#)),
        object.to_owned(),
    ]
}

#[test]
fn code_in_every_place() {
    let lambda =
        format!(r#"{{"class_name": "__lambda__", "config": {{"code": "{ACTS}", "defaults": null, "closure": null}}}}"#);
    let legacy = format!(
        r#"{{"class_name": "Lambda", "config": {{"function": ["{ACTS}", null, null], "function_type": "lambda", "module": "m"}}}}"#
    );
    let shape = format!(
        r#"{{"class_name": "Lambda", "config": {{"output_shape": ["{ACTS}", null, null], "output_shape_type": "lambda"}}}}"#
    );
    let wrapped =
        format!(r#"{{"class_name": "__lambda__", "config": {{"code": "{}\n{}"}}}}"#, &ACTS[..60], &ACTS[60..])
            .replace('\n', "\\n");
    let escaped = lambda.replace("__lambda__", "\\u005f_lambda__").replace("exec", "\\u0065xec");
    let broken = r#"{"class_name": "__lambda__", "config": {"code": "not even base64"}}"#.to_owned();
    let typed = r#"{"class_name": "Lambda", "config": {"function": ["?"], "function_type": "lambda"}}"#.to_owned();
    for object in [lambda, legacy, shape, wrapped, escaped, broken, typed] {
        for config in placed(&object) {
            assert_eq!(judged(&config), Verdict::Malicious, "{config}");
        }
    }
}

#[test]
fn names_and_paths_in_every_place() {
    for object in [
        r#"{"module": "os", "class_name": "function", "config": "system", "registered_name": "function", "inbound_nodes": [{"args": ["id"]}]}"#,
        r#"{"module": "subprocess", "class_name": "Popen", "config": {"args": ["id"]}}"#,
        r#"{"class_name": "os.system", "config": "id"}"#,
        r#"{"module": "builtins", "class_name": "function", "config": "eval"}"#,
        r#"{"module": "my", "class_name": "function", "config": "os.system"}"#,
        r#"{"module": "keras", "class_name": "X", "config": {}, "registered_name": "subprocess>Popen"}"#,
        r#"{"module": "keras.utils", "class_name": "function", "config": "get_file"}"#,
        r#"{"module": "keras.src.saving", "class_name": "function", "config": "load_model"}"#,
        r#"{"module": "keras.config", "class_name": "function", "config": "enable_unsafe_deserialization"}"#,
        r#"{"class_name": "Lambda", "config": {"function": "system", "function_type": "function", "module": "posix"}}"#,
        r#"{"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "x"}}"#,
        r#"{"module": "keras.layers", "class_name": "TorchModuleWrapper", "config": {"module": "AAAA"}}"#,
        r#"{"module": "keras.layers", "class_name": "StringLookup", "config": {"vocabulary": "/etc/passwd"}}"#,
        r#"{"module": "keras.layers", "class_name": "TextVectorization", "config": {"vocabulary": "http://127.0.0.1/x"}}"#,
        r#"{"module": "keras.layers", "class_name": "IntegerLookup", "config": {"vocabulary": "../../x"}}"#,
    ] {
        for config in placed(object) {
            assert_eq!(judged(&config), Verdict::Malicious, "{config}");
        }
    }
}

#[test]
fn ordinary_objects() {
    for object in [
        r#"{"module": "keras.layers", "class_name": "Dense", "config": {"activation": "relu"}, "registered_name": null}"#,
        r#"{"module": "builtins", "class_name": "function", "config": "my_loss", "registered_name": "function"}"#,
        r#"{"module": "my_project.layers", "class_name": "Attention", "config": {}, "registered_name": "my>Attention"}"#,
        r#"{"module": "keras.layers", "class_name": "StringLookup", "config": {"vocabulary": ["a", "b"], "mask_token": null}}"#,
        r#"{"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float32"}}"#,
        r#"{"class_name": "KerasLayer", "module": "tensorflow_hub", "config": {"handle": "https://tfhub.dev/x/1"}}"#,
        r#"{"class_name": "__tensor__", "config": {"value": [1.0, NaN], "dtype": "float32"}}"#,
        r#"{"class_name": "Orthogonal", "config": {"gain": 1.0, "seed": null, "shared_object_id": 3}}"#,
    ] {
        for config in placed(object) {
            assert_eq!(judged(&config), Verdict::Clean, "{config}");
        }
    }
}

/// Files that are not clean, for the properties that hold for every format.
pub fn samples() -> Vec<Vec<u8>> {
    let lambda = format!(r#"{{"class_name": "__lambda__", "config": {{"code": "{ACTS}"}}}}"#);
    placed(&lambda).into_iter().take(2).map(String::into_bytes).collect()
}
