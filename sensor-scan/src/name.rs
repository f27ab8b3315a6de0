//! What a file's name claims it is. Only ever a hint: it decides where no reader is sure, and may turn out a lie.

use crate::report::Content;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// A format that has a reader.
    Format(&'static str),
    /// A pickle or a container of pickles: these suffixes are used for each other.
    Pickled,
    /// A model format without a reader so far.
    Unsupported(&'static str, Content),
    /// Used for models, but also for anything else.
    Vague,
}

/// Claim of a file name (without folder), by its last suffix; a suffix that only says "compressed" or "old" is skipped.
pub fn claim(name: &[u8]) -> Option<Claim> {
    let lower = name.to_ascii_lowercase();
    let mut parts: Vec<&[u8]> = lower.split(|byte| *byte == b'.').collect();
    while parts.len() > 2 && parts.last().is_some_and(|suffix| SKIPPED.contains(suffix)) {
        parts.pop();
    }
    let suffix = parts.last().filter(|_| parts.len() > 1)?;
    CLAIMS.iter().find(|(known, _)| known.as_bytes() == *suffix).map(|(_, claim)| *claim)
}

/// Whether a file of this name (without folder) may be meant as a model.
pub fn is_model_name(name: &[u8]) -> bool {
    claim(name).is_some()
}

/// Whether a file that is `format` may well be called so.
pub fn agrees(name: &[u8], format: &str) -> bool {
    if BY_NAME.contains(&format) {
        return true; // recognised by their names
    }
    let lower = name.to_ascii_lowercase();
    let data = DATA.iter().any(|suffix| lower.ends_with(suffix.as_bytes()));
    match claim(name) {
        Some(Claim::Format("npz")) => matches!(format, "npz"),
        Some(Claim::Format(claimed)) => claimed == format,
        Some(Claim::Unsupported(claimed, _)) => claimed == format,
        Some(Claim::Pickled | Claim::Vague) => true,
        None => !data || TEXTS.contains(&format),
    }
}

/// Raw tensors that another file of the model describes: ONNX's external data, parts of TensorFlow checkpoints.
pub fn is_raw_weights(name: &[u8]) -> bool {
    let lower = name.to_ascii_lowercase();
    let ends = |suffix: &[u8]| lower.ends_with(suffix);
    [&b".onnx.data"[..], b".onnx_data", b".onnx.bin", b".onnx.weights", b".onnx_data_1"]
        .iter()
        .any(|suffix| ends(suffix))
        || lower.windows(6).any(|window| window == b".data-")
        // TensorFlow.js: `group1-shard1of4.bin`.
        || lower.starts_with(b"group") && lower.windows(6).any(|window| window == b"-shard")
}

const SKIPPED: &[&[u8]] = &[
    b"gz",
    b"bz2",
    b"xz",
    b"lzma",
    b"lz4",
    b"zst",
    b"zstd",
    b"zlib",
    b"z",
    b"tmp",
    b"part",
    b"bak",
    b"old",
    b"orig",
    b"incomplete",
];

/// Models that are texts, and are called like any other text.
const TEXTS: &[&str] = &[
    "xgboost",
    "catboost",
    "lightgbm",
    "keras-config",
    "skops-schema",
    "orbax",
    "mxnet-symbol",
    "jinja",
    "pmml",
    "openvino",
    "tf-graph",
    "caffe",
];

/// Files of a repository that are read because of their names.
const BY_NAME: &[&str] = &["json", "yaml", "python", "notebook", "markdown", "script", "requirements", "shard-index"];

/// Suffixes of things that are no models at all.
const DATA: &[&str] = &[
    ".json", ".md", ".txt", ".cfg", ".yaml", ".yml", ".toml", ".ini", ".csv", ".png", ".jpg", ".jpeg", ".gif", ".pdf",
    ".html", ".xml", ".py", ".sh",
];

const CLAIMS: &[(&str, Claim)] = &[
    ("safetensors", Claim::Format("safetensors")),
    ("npy", Claim::Format("npy")),
    ("npz", Claim::Format("npz")),
    ("pt", Claim::Pickled),
    ("pth", Claim::Pickled),
    ("ckpt", Claim::Pickled),
    ("pkl", Claim::Pickled),
    ("pickle", Claim::Pickled),
    ("pickl", Claim::Pickled),
    ("cpkl", Claim::Pickled),
    ("joblib", Claim::Pickled),
    ("dill", Claim::Pickled),
    ("ptl", Claim::Pickled),
    ("pt2", Claim::Pickled),
    ("pdparams", Claim::Pickled),
    ("pdopt", Claim::Pickled),
    ("mar", Claim::Pickled),
    ("distcp", Claim::Pickled),
    ("nemo", Claim::Pickled),
    ("bin", Claim::Vague),
    ("sav", Claim::Vague),
    ("p", Claim::Vague),
    ("pk", Claim::Vague),
    ("th", Claim::Vague),
    ("dat", Claim::Vague),
    ("data", Claim::Vague),
    ("model", Claim::Vague),
    ("h5", Claim::Format("hdf5")),
    ("hdf5", Claim::Format("hdf5")),
    ("keras", Claim::Format("keras")),
    ("skops", Claim::Format("skops")),
    ("pb", Claim::Vague),
    ("onnx", Claim::Format("onnx")),
    ("gguf", Claim::Format("gguf")),
    ("ggml", Claim::Unsupported("ggml", Content::Data)),
    ("tflite", Claim::Format("tflite")),
    ("pte", Claim::Format("executorch")),
    ("msgpack", Claim::Format("msgpack")),
    ("cbm", Claim::Format("catboost")),
    ("ubj", Claim::Format("xgboost")),
    ("pmml", Claim::Format("pmml")),
    ("mlmodel", Claim::Format("coreml")),
    ("engine", Claim::Format("tensorrt")),
    ("plan", Claim::Format("tensorrt")),
    ("rds", Claim::Format("rds")),
    ("rdata", Claim::Format("rds")),
    ("t7", Claim::Format("torch7")),
    ("pdmodel", Claim::Format("paddle")),
    ("pdiparams", Claim::Unsupported("paddle", Content::Data)),
    ("llamafile", Claim::Unsupported("llamafile", Content::Code)),
    ("dnn", Claim::Format("cntk")),
    ("trt", Claim::Format("tensorrt")),
    ("rknn", Claim::Unsupported("rknn", Content::Data)),
    ("neff", Claim::Unsupported("neff", Content::Code)),
    ("mnn", Claim::Unsupported("mnn", Content::Data)),
    ("dlc", Claim::Unsupported("dlc", Content::Data)),
    ("hef", Claim::Unsupported("hef", Content::Code)),
    ("mindir", Claim::Unsupported("mindspore", Content::Data)),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_suffix_that_says_something_counts() {
        assert_eq!(claim(b"a.PT"), Some(Claim::Pickled));
        assert_eq!(claim(b"a.npy.gz"), Some(Claim::Format("npy")));
        assert_eq!(claim(b"a.pkl.tmp.gz"), Some(Claim::Pickled));
        assert_eq!(claim(b"a.gz"), None);
        assert_eq!(claim(b"pt"), None);
        assert_eq!(claim(b"\xff.bin"), Some(Claim::Vague));
        assert_eq!(claim(b""), None);
    }

    #[test]
    fn names_that_lie() {
        assert!(!agrees(b"model.safetensors", "pickle"));
        assert!(!agrees(b"README.md", "pickle"));
        assert!(!agrees(b"x.npy", "pickle"));
        assert!(agrees(b"x.bin", "torch-zip"));
        assert!(agrees(b"x", "pickle"));
    }
}
