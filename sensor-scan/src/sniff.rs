//! Content → every reader that would accept the bytes. A name is a hint, used only where no reader is sure.

use crate::context::Piece;
use crate::format::compressed::{self, codec::Codec};
use crate::format::{
    booster, foreign, gguf, hdf5, jinja, json_model, keras, msgpack, npy, onnx, rds, sevenz, stream, tar, tensorflow,
    tflite, torch_legacy, xml, zip,
};
use crate::name::{self, Claim};
use crate::report::Content;
use crate::slice::read;
use crate::source::Source;
use crate::window::Window;

/// Bytes that decide, from the start.
const HEAD_BYTES: usize = 4 << 10;
/// Bytes from the end that the quick look may read.
const TAIL_BYTES: usize = 48 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    Npy,
    Safetensors,
    Zip,
    Tar,
    SevenZ,
    TorchLegacy,
    Pickle,
    Compressed(Codec),
    /// joblib before 0.9: a length as text, then zlib.
    OldJoblib,
    Gguf,
    Onnx,
    Jinja,
    Hdf5,
    /// `keras_metadata.pb`.
    KerasMetadata,
    /// JSON, of which some is a model.
    JsonModel,
    CatBoost,
    Ubjson,
    LightGbm,
    XgboostBinary,
    TensorFlow(tensorflow::Kind),
    /// The same graphs as text.
    TensorFlowText,
    TfLite,
    MsgPack,
    Rds,
    /// XML, of which some is a model.
    Xml,
    Foreign(foreign::Kind),
}

/// What bytes are that no reader accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Otherwise {
    Empty,
    /// A model format without a reader so far.
    Unsupported(&'static str, Content),
    /// A Git LFS pointer: the model itself is elsewhere.
    LfsPointer,
    /// ELF, PE, Mach-O.
    Executable(&'static str),
    Text,
    /// An image, a font, a document: surely no model.
    Foreign(&'static str),
    Unknown,
}

/// Every reader that would accept the piece; the first is the primary one. An archive's end is looked for in the last
/// `tail_bytes`.
pub fn readers(piece: &Piece<'_>, tail_bytes: usize) -> Vec<Reader> {
    let head = read(piece.source, 0, HEAD_BYTES);
    let mut readers = Vec::new();
    if head.starts_with(npy::MAGIC) {
        readers.push(Reader::Npy);
    }
    if is_safetensors(&head, piece.source.len()) {
        readers.push(Reader::Safetensors);
    }
    let zip_first = head.starts_with(zip::MAGIC) || head.starts_with(zip::EMPTY_MAGIC);
    if zip_first {
        readers.push(Reader::Zip);
    }
    if tar::claims(&head) {
        readers.push(Reader::Tar);
    }
    if head.starts_with(sevenz::MAGIC) {
        readers.push(Reader::SevenZ);
    }
    if head.starts_with(compressed::OLD_JOBLIB_MAGIC) {
        readers.push(Reader::OldJoblib);
    }
    if readers.is_empty() {
        readers.extend(model(&head, piece));
    }
    let codec = Codec::of(&head);
    readers.extend(codec.filter(|codec| !codec.is_weak()).map(Reader::Compressed));
    if torch_legacy::claims(&head) {
        readers.push(Reader::TorchLegacy);
    } else if !zip_first {
        // (The `P` of an archive would be PERSID, which plain loaders refuse before anything else.) What is something
        // else already, as a safetensors file whose length starts with 0x80, is a pickle only if opcodes follow.
        let pickle = if readers.is_empty() { stream::looks_like(piece) } else { stream::looks_like_strictly(piece) };
        readers.extend(pickle.then_some(Reader::Pickle));
    }
    readers.extend(codec.filter(|codec| codec.is_weak()).map(Reader::Compressed));
    // An archive is found from its end. In a tar file it is a member, which is looked at as such.
    if !zip_first && !readers.contains(&Reader::Tar) {
        match zip::ending(piece, tail_bytes) {
            zip::Ending::Exact => readers.push(Reader::Zip),
            zip::Ending::Near if readers.is_empty() => readers.push(Reader::Zip),
            _ => {}
        }
    }
    if readers.is_empty() && jinja::claims(piece.source.name()) {
        readers.push(Reader::Jinja);
    }
    if readers.is_empty()
        && !head.starts_with(LFS_START)
        && name::claim(piece.source.name()) == Some(Claim::Format("safetensors"))
    {
        readers.push(Reader::Safetensors);
    }
    readers
}

/// Formats that can't be mistaken for each other.
fn model(head: &[u8], piece: &Piece<'_>) -> Option<Reader> {
    let window = Window::new(piece.source);
    let claims: [(Reader, bool); 11] = [
        (Reader::Gguf, head.starts_with(gguf::MAGIC)),
        (Reader::CatBoost, head.starts_with(booster::CATBOOST_MAGIC)),
        (Reader::Ubjson, booster::claims_ubjson(head)),
        (Reader::LightGbm, booster::claims_lightgbm(head)),
        (Reader::XgboostBinary, booster::claims_xgboost_binary(head)),
        (Reader::JsonModel, json_model::claims(head)),
        (Reader::TensorFlowText, tensorflow::claims_text(head, piece.source.name())),
        (Reader::TfLite, tflite::claims(head)),
        (Reader::MsgPack, msgpack::claims(head)),
        (Reader::Rds, rds::claims(head)),
        (Reader::Xml, xml::claims(head)),
    ];
    if let Some((reader, _)) = claims.into_iter().find(|(_, claims)| *claims) {
        return Some(reader);
    }
    if hdf5::claims(&window) {
        return Some(Reader::Hdf5);
    }
    // Formats without a magic number: their first messages have to make sense.
    if onnx::claims(&window) {
        return Some(Reader::Onnx);
    }
    if keras::claims(&window) {
        return Some(Reader::KerasMetadata);
    }
    let graph = tensorflow::claims(&window).map(Reader::TensorFlow);
    graph.or_else(|| foreign::claims(&window, head, piece.source.name()).map(Reader::Foreign))
}

fn is_safetensors(head: &[u8], len: u64) -> bool {
    let Some((length, json)) = head.split_first_chunk() else { return false };
    let fits = u64::from_le_bytes(*length).checked_add(8).is_some_and(|end| end <= len);
    let mut bytes = json.iter().filter(|byte| !byte.is_ascii_whitespace());
    fits && bytes.next() == Some(&b'{') && matches!(bytes.next(), Some(b'"' | b'}'))
}

/// What the bytes are where [`readers`] is empty.
pub fn otherwise(source: &dyn Source) -> Otherwise {
    let head = read(source, 0, HEAD_BYTES);
    if head.is_empty() {
        return Otherwise::Empty;
    }
    if head.starts_with(LFS_START) {
        return Otherwise::LfsPointer;
    }
    if let Some(&(_, _, format, content)) = UNSUPPORTED.iter().find(|(at, magic, ..)| has(&head, *at, magic)) {
        return Otherwise::Unsupported(format, content);
    }
    if let Some(&(_, _, kind)) = EXECUTABLE.iter().find(|(at, magic, _)| has(&head, *at, magic)) {
        return Otherwise::Executable(kind);
    }
    if let Some(&(_, _, kind)) = FOREIGN.iter().find(|(at, magic, _)| has(&head, *at, magic)) {
        return Otherwise::Foreign(kind);
    }
    if let Some(Claim::Unsupported(format, content)) = name::claim(source.name()) {
        return Otherwise::Unsupported(format, content);
    }
    if is_text(&head) { Otherwise::Text } else { Otherwise::Unknown }
}

fn has(head: &[u8], at: usize, magic: &[u8]) -> bool {
    head.get(at..).is_some_and(|rest| rest.starts_with(magic))
}

/// UTF-8 (perhaps cut at the end) without control characters other than white space.
fn is_text(head: &[u8]) -> bool {
    let valid = match std::str::from_utf8(head) {
        Ok(_) => head.len(),
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        Err(_) => return head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff"),
    };
    head[..valid].iter().all(|byte| !byte.is_ascii_control() || byte.is_ascii_whitespace() || *byte == 0x1b)
}

const LFS_START: &[u8] = b"version https://git-lfs";

/// Model formats that are recognised but not read: offset, magic number, name, what they can do.
const UNSUPPORTED: &[(usize, &[u8], &str, Content)] = &[
    (0, b"lmgg", "ggml", Content::Data),
    (0, b"tjgg", "ggml", Content::Data),
    (0, b"fmgg", "ggml", Content::Data),
    (0, b"Rar!\x1a\x07", "rar", Content::Unknown),
    (0, b"MZqFpD='", "llamafile", Content::Code),
    (0, b"jartsr='", "llamafile", Content::Code),
    (0, b"ftrt", "tensorrt", Content::Code),
    (0, b"ptrt", "tensorrt", Content::Code),
];

const EXECUTABLE: &[(usize, &[u8], &str)] = &[
    (0, b"\x7fELF", "elf"),
    (0, b"MZ", "pe"),
    (0, b"\xcf\xfa\xed\xfe", "mach-o"),
    (0, b"\xce\xfa\xed\xfe", "mach-o"),
    (0, b"\xca\xfe\xba\xbe", "mach-o or class"),
    (0, b"\0asm", "wasm"),
    (0, b"#!", "script"),
];

const FOREIGN: &[(usize, &[u8], &str)] = &[
    (0, b"\x89PNG\r\n\x1a\n", "png"),
    (0, b"\xff\xd8\xff", "jpeg"),
    (0, b"GIF8", "gif"),
    (0, b"RIFF", "riff"),
    (0, b"%PDF-", "pdf"),
    (0, b"SQLite format 3\0", "sqlite"),
    (0, b"OggS", "ogg"),
    (0, b"fLaC", "flac"),
    (0, b"ID3", "mp3"),
    (4, b"ftyp", "mp4"),
    (0, b"wOFF", "font"),
    (0, b"wOF2", "font"),
    (0, b"OTTO", "font"),
    (0, b"\0\x01\0\0\0", "font"),
    (0, b"PAR1", "parquet"),
    (0, b"ARROW1", "arrow"),
    // CPython's .pyc: two bytes of version, then CR LF.
    (2, b"\r\n", "pyc"),
];

/// A look at the first 64 KiB and the last 24: which format, and can it run code when it is loaded?
pub fn sniff(source: &dyn Source) -> (&'static str, Content) {
    let piece = Piece { source, start: 0, end: source.len(), member: None };
    let claimed = name::claim(source.name()).is_some();
    match readers(&piece, TAIL_BYTES / 2).first() {
        Some(Reader::Npy) => ("npy", npy::content(&piece)),
        Some(Reader::Safetensors) => ("safetensors", Content::Data),
        Some(Reader::TorchLegacy) => ("torch-legacy", Content::Code),
        Some(Reader::Pickle | Reader::OldJoblib) => ("pickle", Content::Code),
        Some(Reader::Gguf) => ("gguf", Content::Data),
        Some(Reader::Onnx) => ("onnx", Content::Data),
        Some(Reader::Jinja) => ("jinja", Content::Data),
        Some(Reader::Hdf5) => ("hdf5", Content::Code),
        Some(Reader::KerasMetadata) => ("keras-metadata", Content::Code),
        Some(Reader::TensorFlow(tensorflow::Kind::Fingerprint)) => ("tf-fingerprint", Content::NotModel),
        Some(Reader::TensorFlow(_) | Reader::TensorFlowText) => ("savedmodel", Content::Code),
        Some(Reader::TfLite) => ("tflite", Content::Data),
        Some(Reader::MsgPack) => ("msgpack", Content::Data),
        Some(Reader::Rds) => ("rds", Content::Code),
        Some(Reader::Xml) => ("xml", Content::NotModel),
        Some(Reader::Foreign(kind)) => kind.seen(),
        Some(Reader::JsonModel) => ("json", Content::NotModel),
        Some(Reader::CatBoost) => ("catboost", Content::Data),
        Some(Reader::Ubjson | Reader::XgboostBinary) => ("xgboost", Content::Data),
        Some(Reader::LightGbm) => ("lightgbm", Content::Data),
        Some(Reader::Zip) => {
            let seen = zip::quick(&piece, HEAD_BYTES, TAIL_BYTES / 2).seen();
            match seen.content {
                // Arrays of objects can't be told from plain ones by their names.
                Content::Data => (seen.format, Content::Unknown),
                Content::Unknown if !claimed => (seen.format, Content::NotModel),
                content => (seen.format, content),
            }
        }
        Some(Reader::SevenZ) => ("7z", if claimed { Content::Unknown } else { Content::NotModel }),
        Some(Reader::Tar) => ("tar", if claimed { Content::Unknown } else { Content::NotModel }),
        Some(Reader::Compressed(codec)) => (codec.name(), if claimed { Content::Unknown } else { Content::NotModel }),
        None => match otherwise(source) {
            Otherwise::Unsupported(format, content) => (format, content),
            Otherwise::LfsPointer => ("lfs-pointer", Content::NotModel),
            Otherwise::Unknown if claimed => ("other", Content::Unknown),
            _ => ("other", Content::NotModel),
        },
    }
}
