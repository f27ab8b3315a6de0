//! Files beside the weights: configurations that name code, the code that they name, and instructions that people follow.
//!
//! A finding about the repository belongs to the file that makes a loader act (the configuration) and names the other
//! file in its evidence; the other file is read through [`crate::Source::sibling`]. References: `dynamic_module_utils` of
//! transformers and diffusers, `hydra.utils.instantiate`, PyYAML's constructors, pip's requirements format.

mod code;
mod document;
mod hub;
mod requirement;
mod settings;
mod target;
mod yaml;

use crate::context::{Context, Piece};
use crate::finding::Severity;
use crate::format::{Seen, file_name, json::Json};
use crate::report::Content;
use crate::slice::read;

/// Longer configurations and sources are a limit; data in JSON may be of any size, and is not read.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// What a file is by its name, which is how loaders and people find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Read by a loader by its fixed name.
    Config,
    Json,
    Yaml,
    MlModel,
    Python,
    Notebook,
    Markdown,
    Script,
    Requirements,
    /// What a package is built from.
    Project,
    /// `.pth` is a checkpoint, or text that `site` reads at the start of every Python.
    PathFile,
    Compiled,
}

impl Kind {
    fn of(name: &[u8]) -> Option<Self> {
        let lower = String::from_utf8_lossy(file_name(name)).to_lowercase();
        let suffix = lower.rsplit_once('.').map_or("", |(_, suffix)| suffix);
        Some(match suffix {
            "json" if hub::is_config(&lower) => Self::Config,
            "json" => Self::Json,
            "yaml" | "yml" => Self::Yaml,
            "py" | "pyw" => Self::Python,
            "ipynb" => Self::Notebook,
            "md" | "markdown" | "rst" => Self::Markdown,
            "sh" | "bash" | "bat" | "ps1" => Self::Script,
            "pth" => Self::PathFile,
            "pyc" | "pyo" => Self::Compiled,
            "txt" | "in" if lower.contains("requirements") || lower.contains("constraints") => Self::Requirements,
            _ => match lower.as_str() {
                "mlmodel" => Self::MlModel,
                "readme" | "readme.txt" | "install" | "install.txt" => Self::Markdown,
                "dockerfile" | "makefile" => Self::Script,
                "pyproject.toml" => Self::Project,
                _ => return None,
            },
        })
    }

    fn format(self) -> &'static str {
        match self {
            Self::Config | Self::Json => "json",
            Self::Yaml | Self::MlModel => "yaml",
            Self::Python | Self::PathFile | Self::Compiled => "python",
            Self::Notebook => "notebook",
            Self::Markdown => "markdown",
            Self::Script => "script",
            Self::Requirements | Self::Project => "requirements",
        }
    }
}

/// Reads a file that its name makes part of a repository. `None` where there is nothing to say of it.
pub fn scan(piece: &Piece<'_>, context: &mut Context<'_>) -> Option<Seen> {
    let kind = Kind::of(piece.source.name())?;
    if kind == Kind::PathFile && !is_path_file(piece) {
        return None;
    }
    let bytes = decoded(read(piece.source, 0, TEXT_BYTES_MAX));
    let (_, findings) = context.isolated(|context| {
        if piece.source.len() > bytes.len() as u64 && !matches!(kind, Kind::Json | Kind::Markdown | Kind::Notebook) {
            let value = TEXT_BYTES_MAX as u64;
            context.limit_reached("text_bytes", value, piece.member.as_deref(), Some(value));
        }
        by_kind(kind, piece, &bytes, context);
    });
    let telling = findings.iter().any(|finding| finding.severity >= Severity::Medium || finding.is_coverage());
    findings.into_iter().for_each(|finding| context.report(finding));
    telling.then_some(Seen { format: kind.format(), content: Content::NotModel })
}

/// How bad it is that somebody calls `path`, a dotted name; `None` where nothing is known against it.
pub fn called(path: &str) -> Option<Severity> {
    match target::called(path) {
        target::Target::Dangerous(_) => Some(Severity::High),
        target::Target::Odd => Some(Severity::Medium),
        target::Target::Safe | target::Target::Unknown => None,
    }
}

/// Source in a container of which some importer executes every module.
pub fn source(piece: &Piece<'_>, context: &mut Context<'_>) {
    let bytes = read(piece.source, 0, TEXT_BYTES_MAX + 1);
    code::file(piece, &bytes, context);
}

fn by_kind(kind: Kind, piece: &Piece<'_>, bytes: &[u8], context: &mut Context<'_>) {
    let text = || String::from_utf8_lossy(bytes);
    let name = file_name(piece.source.name()).to_ascii_lowercase();
    match kind {
        Kind::Config | Kind::Json => {
            if bytes.len() < TEXT_BYTES_MAX || kind == Kind::Config {
                match Json::parse(bytes) {
                    Ok(json) => hub::scan(piece, kind == Kind::Config, &json, context),
                    Err(broken) if kind == Kind::Config => hub::broken(piece, broken, context),
                    Err(_) => {}
                }
            }
        }
        Kind::Yaml => {
            settings::scan(piece, &text(), context);
            if name.starts_with(b"environment.") || name.starts_with(b"conda.") {
                requirement::environment(piece, &text(), context);
            }
        }
        Kind::MlModel => {
            settings::scan(piece, &text(), context);
            settings::mlflow(piece, &text(), context);
        }
        Kind::Python => code::file(piece, bytes, context),
        Kind::Notebook => {
            if let Ok(json) = Json::parse(bytes) {
                document::notebook(piece, &json, context);
            }
        }
        Kind::Markdown => document::instructions(piece, &text(), context),
        Kind::Script => document::script(piece, &text(), context),
        Kind::Requirements => requirement::scan(piece, &text(), context),
        Kind::Project => requirement::project(piece, &text(), context),
        Kind::PathFile => code::path_file(piece, &text(), context),
        Kind::Compiled => code::compiled(piece, bytes, context),
    }
}

/// Lines of text, one of which `site` would run.
fn is_path_file(piece: &Piece<'_>) -> bool {
    const HEAD_BYTES: usize = 4096;
    let head = read(piece.source, 0, HEAD_BYTES);
    let text = !head.iter().any(|byte| *byte < b'\t' || *byte == 0x7f);
    text && head.split(|byte| matches!(byte, b'\n' | b'\r')).any(code::is_path_line)
}

/// YAML and JSON may be of two bytes a character, where they start with the mark of it.
fn decoded(bytes: Vec<u8>) -> Vec<u8> {
    let wide: fn([u8; 2]) -> u16 = match bytes.get(..2) {
        Some([0xff, 0xfe]) => u16::from_le_bytes,
        Some([0xfe, 0xff]) => u16::from_be_bytes,
        _ => return bytes,
    };
    let units = bytes.chunks_exact(2).skip(1).map(|pair| wide([pair[0], pair[1]]));
    char::decode_utf16(units).map(|char| char.unwrap_or(char::REPLACEMENT_CHARACTER)).collect::<String>().into_bytes()
}

#[cfg(test)]
mod tests;
