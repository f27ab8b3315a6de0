//! Python source beside a model: alone, or named by a configuration whose loader imports it.

use crate::context::{Context, Piece};
use crate::finding::{Finding, Severity};
use crate::format::{self, file_name, marshal};
use crate::python::{self, Role};
use crate::slice::read;
use crate::source::{MemorySource, Sibling, Source, parts_below};

/// Files that one configuration leads to.
const FILES_MAX: usize = 64;

/// A source file by itself.
pub fn file(piece: &Piece<'_>, bytes: &[u8], context: &mut Context<'_>) {
    let role = match role(piece.source.name(), piece.member.as_deref()) {
        Role::Loose if piece.source.is_models_code() => Role::Likely,
        role => role,
    };
    let seen = python::judge(bytes, role);
    let member = piece.member.as_deref();
    let loaders: &[&str] = match role {
        Role::Named | Role::Likely => {
            &["transformers or diffusers with trust_remote_code=True", "the server that the package is for"]
        }
        Role::Loose => &["whoever runs or imports it"],
    };
    for found in &seen.found {
        let title = format!("Python source {} {}", found.what, found.when());
        let finding = Finding::new("SNS-541", found.severity, title).member(member);
        let finding = finding.number("line", found.line.into()).loaders(loaders);
        context.report(if found.detail.is_empty() { finding } else { finding.text("argument", &found.detail) });
    }
    rest(piece, &seen, role, context);
}

/// A line that `site` runs at the start of every Python, where the file is in its folder.
pub fn is_path_line(line: &[u8]) -> bool {
    line.starts_with(b"import ") || line.starts_with(b"import\t")
}

/// A `.pth` file of text: the lines that are run, as source.
pub fn path_file(piece: &Piece<'_>, text: &str, context: &mut Context<'_>) {
    let lines: Vec<&str> = text.lines().filter(|line| is_path_line(line.as_bytes())).collect();
    let seen = python::judge(lines.join("\n").as_bytes(), Role::Named);
    let member = piece.member.as_deref();
    let loaders = &["every Python in whose site-packages it is put"];
    // Installers put such files down as well: what the lines do decides.
    let title = "a text that every start of Python runs stands where a model would";
    context.report(Finding::new("SNS-541", Severity::Low, title).member(member).loaders(loaders));
    for found in &seen.found {
        let title = format!("a line that every start of Python runs {}", found.what);
        let finding = Finding::new("SNS-541", found.severity, title).member(member).loaders(loaders);
        context.report(if found.detail.is_empty() { finding } else { finding.text("argument", &found.detail) });
    }
}

/// Names of functions that run commands or code, of which bytecode is judged: classes, paths and the like are everywhere.
const RUNS: [&str; 9] =
    ["system", "popen", "Popen", "check_output", "check_call", "eval", "exec", "__import__", "import_module"];

/// Bytecode: only its names can be judged, not when what they are for runs.
pub fn compiled(piece: &Piece<'_>, bytes: &[u8], context: &mut Context<'_>) {
    /// PEP 552; 12 and 8 bytes before Python 3.7 and 3.3.
    const HEADERS_BYTES: [usize; 3] = [16, 12, 8];
    let code = HEADERS_BYTES.iter().find_map(|header| marshal::code(bytes.get(*header..)?));
    let Some(code) = code else { return };
    let name = code.names.iter().find(|name| RUNS.contains(&name.as_str()));
    // A cached file (`x.cpython-311.pyc`) is looked for only where its source is, and held against it; but for one whose
    // flags say that it is not to be checked.
    let unchecked = bytes.get(4..8) == Some(&[1, 0, 0, 0]);
    let cached = piece.source.name().windows(9).any(|part| part == b".cpython-") && !unchecked;
    let severity = match name {
        Some(_) if !cached => Severity::Medium,
        Some(_) => Severity::Low,
        None => Severity::Info,
    };
    let finding = Finding::new("SNS-541", severity, "compiled Python whose source is not what runs");
    let finding = finding.member(piece.member.as_deref()).loaders(&["whoever imports it"]);
    context.report(if let Some(name) = name { finding.text("name", name) } else { finding });
}

/// What is said beside its acts: encodings, pickles in it, what was not understood.
fn rest(piece: &Piece<'_>, seen: &python::Seen, role: Role, context: &mut Context<'_>) {
    let member = piece.member.as_deref();
    if let Some(encoding) = &seen.encoding {
        let title = "Python source in an encoding in which the text is another one than it seems";
        context.report(Finding::new("SNS-541", Severity::Medium, title).member(member).text("encoding", encoding));
    }
    for (line, bytes) in &seen.pickles {
        let name = format::member(member, format!("line {line}").as_bytes());
        let source = MemorySource::new(bytes, b"");
        context.nested(&Piece { source: &source, start: 0, end: bytes.len() as u64, member: Some(name) });
    }
    if seen.cut {
        context.limit_reached("source_bytes", python::SOURCE_BYTES_MAX as u64, member, None);
    }
    if let (Some(line), Role::Named | Role::Likely) = (seen.odd_line, role) {
        // Python would refuse it as a whole; an older or newer one may not.
        let finding = Finding::new("SNS-541", Severity::Low, "Python source that is not understood everywhere");
        context.report(finding.member(member).number("line", line.into()));
    }
}

/// Whether a loader imports a file of this name by itself.
fn role(name: &[u8], member: Option<&[u8]>) -> Role {
    const PREFIXES: &[&str] = &[
        "modeling_",
        "modelling_",
        "configuration_",
        "tokenization_",
        "processing_",
        "image_processing_",
        "video_processing_",
        "feature_extraction_",
        "pipeline_",
        "custom_",
        "unet_",
        "scheduling_",
    ];
    const NAMES: &[&str] = &[
        "hubconf.py",
        "handler.py",
        "pipeline.py",
        "generate.py",
        "inference.py",
        "sitecustomize.py",
        "usercustomize.py",
    ];
    let lower = String::from_utf8_lossy(file_name(name)).to_lowercase();
    // Who packs source with a model does it for the program that unpacks it, scripts and tests apart.
    let packed = member.is_some_and(|member| {
        let path = String::from_utf8_lossy(member).to_lowercase();
        !["setup.py", "test", "script", "example", "tool", "train", "bench", "docs/"]
            .iter()
            .any(|part| path.contains(part))
    });
    let named = packed || PREFIXES.iter().any(|prefix| lower.starts_with(prefix)) || NAMES.contains(&lower.as_str());
    if named { Role::Likely } else { Role::Loose }
}

/// What the code does that a configuration names.
#[derive(Debug, PartialEq, Eq)]
pub enum Named {
    /// The worst that it does, in which file and line.
    Does {
        severity: Severity,
        what: String,
        file: String,
        line: u32,
    },
    Harmless,
    Missing,
    /// Nobody here can look.
    Unseen,
    /// The path leaves the repository.
    Escapes,
}

/// Judges `path` (a Python file) and the files of the same folder that it imports.
pub fn named(source: &dyn Source, path: &str, context: &mut Context<'_>) -> Named {
    if parts_below(path).is_none() {
        return Named::Escapes;
    }
    let folder = path.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
    let (mut queue, mut seen) = (vec![path.to_owned()], vec![path.to_owned()]);
    let mut worst: Option<(Severity, String, String, u32)> = None;
    let mut first = true;
    while let Some(path) = queue.pop() {
        let file = match source.sibling(&path) {
            Sibling::Here(file) => file,
            Sibling::Missing if first => return Named::Missing,
            Sibling::Unknown if first => return Named::Unseen,
            _ => continue,
        };
        first = false;
        if context.expired() {
            break;
        }
        let bytes = read(&*file, 0, python::SOURCE_BYTES_MAX + 1);
        context.bytes_read += bytes.len() as u64;
        let judged = python::judge(&bytes, Role::Named);
        if let Some(found) = judged.found.first()
            && worst.as_ref().is_none_or(|(severity, ..)| *severity < found.severity)
        {
            let what = format!("{} {}", found.what, found.when());
            worst = Some((found.severity, what, path.clone(), found.line));
        }
        let hidden = judged.encoding.is_some() || judged.cut;
        if hidden && worst.as_ref().is_none_or(|(severity, ..)| *severity < Severity::Medium) {
            worst = Some((Severity::Medium, "can't be read as what it is".to_owned(), path.clone(), 1));
        }
        for neighbour in judged.neighbours {
            let next = format!("{folder}{}.py", neighbour.replace('.', "/"));
            if seen.len() < FILES_MAX && !seen.contains(&next) {
                seen.push(next.clone());
                queue.push(next);
            }
        }
    }
    match worst {
        Some((severity, what, file, line)) if severity > Severity::Info => Named::Does { severity, what, file, line },
        _ => Named::Harmless,
    }
}
