//! Every reader as a function of bytes: what the fuzz targets call, and what the tests replay their seeds through.
//!
//! None may panic, and none may call a file clean of which something was left unread.

use sensor_scan::format::{self, door, foreign, tensorflow};
use sensor_scan::source::MemorySource;
use sensor_scan::{Context, Limits, Piece, Policy, Verdict};

type Reader = fn(&[u8]);

/// A fuzz target's name, and what it runs.
const READERS: &[(&str, Reader)] = &[
    ("booster", booster),
    ("compressed", compressed),
    ("executable", executable),
    ("foreign", foreign),
    ("gguf", gguf),
    ("hdf5", hdf5),
    ("jinja", jinja),
    ("joblib", joblib),
    ("json_model", json_model),
    ("keras", keras),
    ("marshal", marshal),
    ("msgpack", msgpack),
    ("npy", npy),
    ("onnx", onnx),
    ("pickle", pickle),
    ("python", python),
    ("rds", rds),
    ("repository", repository),
    ("safetensors", safetensors),
    ("scan", scan),
    ("sevenz", sevenz),
    ("shell", shell),
    ("skops", skops),
    ("tar", tar),
    ("tensorflow", tensorflow),
    ("text", text),
    ("tflite", tflite),
    ("torch_legacy", torch_legacy),
    ("xml", xml),
    ("yaml", yaml),
    ("zip", zip),
];

/// Runs what the fuzz target of that name runs.
pub fn run(name: &str, bytes: &[u8]) {
    let (_, reader) = READERS.iter().find(|(reader, _)| *reader == name).expect("a line in READERS");
    reader(bytes);
}

/// Lets one reader read a file of these bytes under a name.
fn read_as<T>(name: &[u8], bytes: &[u8], reader: impl FnOnce(&Piece<'_>, &mut Context<'_>) -> T) {
    let (source, limits) = (MemorySource::new(bytes, name), Limits::default());
    let piece = Piece { source: &source, start: 0, end: bytes.len() as u64, member: None };
    reader(&piece, &mut Context::new(&limits, door));
}

fn read<T>(bytes: &[u8], reader: impl FnOnce(&Piece<'_>, &mut Context<'_>) -> T) {
    read_as(b"x", bytes, reader);
}

/// Through the door, as a file of that name.
fn scan_as(name: &[u8], bytes: &[u8]) {
    let source = MemorySource::new(bytes, name);
    sensor_scan::sniff(&source);
    let report = sensor_scan::scan(&source, &Limits::default(), &Policy::standard());
    assert!(report.verdict != Verdict::Clean || report.coverage.complete, "{report:?}");
}

fn booster(bytes: &[u8]) {
    read(bytes, |piece, context| {
        format::booster::scan_catboost(piece, context);
        format::booster::scan_ubjson(piece, context);
        format::booster::scan_lightgbm(piece, context);
        format::booster::scan_xgboost_binary(piece, context);
    });
}

/// The last byte picks the decompressor.
fn compressed(bytes: &[u8]) {
    use format::compressed::codec::Codec;
    let codecs = [
        Codec::Deflate,
        Codec::Zlib,
        Codec::Gzip,
        Codec::Bzip2,
        Codec::Xz,
        Codec::Lzma,
        Codec::ZipLzma,
        Codec::Lz4,
        Codec::Zstd,
        Codec::RawLzma { props: 0x5d, dictionary: 1 << 20, bytes: 1 << 16 },
        Codec::RawLzma2 { dictionary: 1 << 20 },
    ];
    let Some((last, rest)) = bytes.split_last() else { return };
    read(rest, |piece, context| match codecs.get(usize::from(*last) % (codecs.len() + 1)) {
        Some(codec) => format::compressed::scan(piece, *codec, context),
        None => format::compressed::scan_old_joblib(piece, context),
    });
}

fn executable(bytes: &[u8]) {
    read(bytes, |piece, context| {
        format::executable::kind(bytes);
        format::executable::beside(piece, context);
        format::executable::ape(piece, context);
        format::executable::engine(piece, "tensorrt", context);
        format::executable::loose(piece, "elf", context);
    });
}

fn foreign(bytes: &[u8]) {
    use foreign::Kind;
    let kinds = [Kind::Paddle, Kind::Caffe, Kind::Prototxt, Kind::Cntk, Kind::Torch7, Kind::CoreMl, Kind::Executorch];
    for kind in kinds {
        read(bytes, |piece, context| foreign::scan(piece, kind, context));
    }
}

fn gguf(bytes: &[u8]) {
    read(bytes, format::gguf::scan);
}

fn hdf5(bytes: &[u8]) {
    read(bytes, format::hdf5::scan);
}

fn jinja(bytes: &[u8]) {
    read(bytes, format::jinja::scan);
    read(bytes, |_, context| {
        format::jinja::scan_text("chat_template", &String::from_utf8_lossy(bytes), None, context);
    });
}

fn joblib(bytes: &[u8]) {
    dialect(bytes, format::pickle::Dialect::Joblib);
}

fn json_model(bytes: &[u8]) {
    read(bytes, format::json_model::scan);
}

fn keras(bytes: &[u8]) {
    read(bytes, format::keras::scan);
}

fn marshal(bytes: &[u8]) {
    format::marshal::looks_like(bytes);
    if let Some(code) = format::marshal::code(bytes) {
        code.severity();
    }
}

fn msgpack(bytes: &[u8]) {
    read(bytes, format::msgpack::scan);
}

fn npy(bytes: &[u8]) {
    read(bytes, |piece, context| {
        format::npy::content(piece);
        format::npy::scan(piece, context);
    });
}

fn onnx(bytes: &[u8]) {
    read(bytes, format::onnx::scan);
}

fn pickle(bytes: &[u8]) {
    dialect(bytes, format::pickle::Dialect::Plain);
}

fn dialect(bytes: &[u8], dialect: format::pickle::Dialect) {
    read_as(b"x.pkl", bytes, |piece, context| {
        let stream = format::pickle::Stream::of(piece, dialect);
        format::pickle::scan_all(&stream, context);
        format::pickle::sweep(&stream, context);
    });
}

fn python(bytes: &[u8]) {
    read_as(b"modeling_x.py", bytes, format::repository::scan);
}

fn rds(bytes: &[u8]) {
    read(bytes, format::rds::scan);
}

/// Files that are read because of their names: the last byte picks one.
fn repository(bytes: &[u8]) {
    let names: [&[u8]; 10] = [
        b"config.json",
        b"model_index.json",
        b"modules.json",
        b"tokenizer_config.json",
        b"adapter_config.json",
        b"model.safetensors.index.json",
        b"MLmodel",
        b"x.ipynb",
        b"requirements.txt",
        b"pyproject.toml",
    ];
    let Some((last, bytes)) = bytes.split_last() else { return };
    let name = names.get(usize::from(*last) % names.len()).copied().unwrap_or_default();
    read_as(name, bytes, format::repository::scan);
}

fn safetensors(bytes: &[u8]) {
    read(bytes, format::safetensors::scan);
}

fn scan(bytes: &[u8]) {
    scan_as(b"model.bin", bytes);
}

fn sevenz(bytes: &[u8]) {
    read(bytes, format::sevenz::scan);
}

/// Commands stand in instructions and notebooks.
fn shell(bytes: &[u8]) {
    let text = [b"```bash\n", bytes, b"\n```\n"].concat();
    read_as(b"README.md", &text, format::repository::scan);
    let script = [b"#!/bin/sh\n", bytes].concat();
    read_as(b"x.llamafile", &[b"MZqFpD='", &script[..]].concat(), |piece, context| {
        format::executable::ape(piece, context);
    });
}

fn skops(bytes: &[u8]) {
    let Ok(json) = format::json::Json::parse(bytes) else { return };
    read(bytes, |_, context| {
        format::skops::is_schema(&json);
        format::skops::scan(&json, None, context);
    });
}

fn tar(bytes: &[u8]) {
    read(bytes, format::tar::scan);
}

fn tensorflow(bytes: &[u8]) {
    use tensorflow::Kind;
    for kind in [Kind::SavedModel, Kind::MetaGraph, Kind::GraphDef] {
        read(bytes, |piece, context| tensorflow::scan(piece, kind, context));
    }
    read(bytes, tensorflow::scan_text);
}

/// Texts that stand as values in metadata.
fn text(bytes: &[u8]) {
    read(bytes, |_, context| {
        format::text::scan("x", &String::from_utf8_lossy(bytes), None, context);
        format::text::holds_pickle(bytes, b"x", context);
    });
}

fn tflite(bytes: &[u8]) {
    read(bytes, format::tflite::scan);
}

fn torch_legacy(bytes: &[u8]) {
    read(bytes, format::torch_legacy::scan);
}

fn xml(bytes: &[u8]) {
    read(bytes, format::xml::scan);
}

fn yaml(bytes: &[u8]) {
    read_as(b"x.yaml", bytes, format::repository::scan);
}

fn zip(bytes: &[u8]) {
    read(bytes, format::zip::scan);
}
