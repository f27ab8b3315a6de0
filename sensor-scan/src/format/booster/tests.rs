//! Boosters as their libraries write them, with and without a payload.

use crate::source::MemorySource;
use crate::{Limits, Verdict, scan as scan_file};

fn judged(bytes: &[u8]) -> (&'static str, Verdict) {
    let report = scan_file(&MemorySource::new(bytes, b"model"), &Limits::default(), &crate::Policy::standard());
    (report.format, report.verdict)
}

const PAYLOAD: &str = "__import__('os').system('id')";

fn key(name: &str) -> Vec<u8> {
    [b"L".as_slice(), &(name.len() as u64).to_be_bytes(), name.as_bytes()].concat()
}

/// `{"learner": {"attributes": {"note": value}, "data": [1, 2, 3]}}`
fn ubjson(value: &str) -> Vec<u8> {
    let mut bytes = [b"{".as_slice(), &key("learner"), b"{", &key("attributes"), b"{", &key("note")].concat();
    bytes.extend([b"S".as_slice(), &key(value), b"}", &key("data"), b"[$l#L"].concat());
    bytes.extend([3_u64.to_be_bytes().as_slice(), &[0; 12], &key("one"), b"[i\x01T]", b"}}"].concat());
    bytes
}

#[test]
fn xgboost() {
    assert_eq!(judged(&ubjson("quantile")), ("xgboost", Verdict::Clean));
    assert_eq!(judged(&ubjson(PAYLOAD)), ("xgboost", Verdict::Suspicious));
    assert_eq!(judged(&ubjson("x")[..60]).1, Verdict::Suspicious);
    let json = |value: &str| {
        format!(r#"{{"learner": {{"attributes": {{"a": "{value}"}}, "x": [1, NaN]}}, "version": [3, 0, 0]}}"#)
    };
    assert_eq!(judged(json("scikit").as_bytes()), ("xgboost", Verdict::Clean));
    assert_eq!(judged(json(PAYLOAD).as_bytes()), ("xgboost", Verdict::Suspicious));
}

#[test]
fn lightgbm_and_catboost() {
    let text = |value: &str| {
        format!(
            "tree\nversion=v4\nnum_class=1\nfeature_names=a b\n\nTree=0\nleaf_value=1 2\nend of trees\n\nparameters:\n[boosting: {value}]\n"
        )
    };
    assert_eq!(judged(text("gbdt").as_bytes()), ("lightgbm", Verdict::Clean));
    assert_eq!(judged(text(PAYLOAD).as_bytes()), ("lightgbm", Verdict::Suspicious));
    let cbm = |value: &str| {
        let mut core = 8_u32.to_le_bytes().to_vec();
        core.extend([0; 12]);
        core.extend(value.as_bytes());
        [b"CBM1".as_slice(), &(core.len() as u32).to_le_bytes(), &core].concat()
    };
    assert_eq!(judged(&cbm(r#"{"loss_function":{"type":"RMSE"}}"#)), ("catboost", Verdict::Clean));
    assert_eq!(judged(&cbm(PAYLOAD)), ("catboost", Verdict::Suspicious));
    assert_eq!(judged(b"CBM1\xff\xff\0\0abcd"), ("catboost", Verdict::Suspicious));
}

/// Files that are not clean, for the properties that hold for every format.
pub fn samples() -> Vec<Vec<u8>> {
    let text = format!("tree\nversion=v4\nnum_class=1\n\nparameters:\n[boosting: {PAYLOAD}]\n");
    vec![ubjson(PAYLOAD), text.into_bytes()]
}
