//! Programs of `torch.export` (`.pt2`): an archive of a graph in JSON, weights, and perhaps what AOTInductor compiled.
//!
//! Three things in it run: native libraries, which the loader opens; expressions of shapes, which `sympify` evaluates; and
//! operators, which are looked up by their dotted names, attribute by attribute, from `torch`, `math` and `operator` on.
//! Weights marked `use_pickle` are torch files, and read as such. Reference: `torch/_export/serde/serialize.py`, and
//! `torch/export/pt2_archive` of torch 2.15.

use crate::context::{Context, Piece};
use crate::finding::{Finding, Severity};
use crate::format::json::{self, Json};
use crate::format::repository;
use crate::slice::read;

const LOADERS: &[&str] = &["torch.export.load"];
/// ELF's machine for GPU code (NVIDIA), which no system's loader takes.
const MACHINE_CUDA: u16 = 190;

/// What a member is by its name, which is folded; `None` where its content says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The graph.
    Program,
    /// Tensors as raw bytes.
    Weights,
}

/// Whether a name is one that only these archives have; `rest` is what follows the first folder.
pub fn claims(name: &[u8], rest: &[u8]) -> bool {
    rest == b"archive_format" || name == PROGRAM_BEFORE_2_7 || rest.starts_with(b"data/aotinductor/")
}

const PROGRAM_BEFORE_2_7: &[u8] = b"serialized_exported_program.json";

pub fn part(name: &[u8], rest: &[u8]) -> Option<Part> {
    let json = name.ends_with(b".json");
    let folder = |folder: &[u8]| rest.starts_with(folder);
    if name == PROGRAM_BEFORE_2_7 || json && folder(b"models/") {
        Some(Part::Program)
    } else if !name.contains(&b'.') && (folder(b"data/weights/") || folder(b"data/constants/")) {
        Some(Part::Weights)
    } else {
        None
    }
}

/// Reports native code; says whether the member is that.
pub fn library(piece: &Piece<'_>, kind: &'static str, context: &mut Context<'_>) {
    let head = read(piece.source, 0, 20);
    let machine = head.get(18..20).map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]));
    let (severity, title) = if kind == "elf" && machine == Some(MACHINE_CUDA) {
        (Severity::Low, "GPU code of an exported program")
    } else {
        (Severity::Medium, "a native library of an exported program, which its loader opens")
    };
    let finding = Finding::new("SNS-404", severity, title).member(piece.member.as_deref()).text("kind", kind);
    context.report(finding.loaders(&["torch._inductor.aoti_load_package", "torch.export.load"]));
}

/// The graph: operators by their names, and expressions.
pub fn program(piece: &Piece<'_>, context: &mut Context<'_>) {
    let member = piece.member.as_deref();
    let bytes = read(piece.source, 0, json::TEXT_BYTES_MAX);
    if piece.source.len() > bytes.len() as u64 {
        context.limit_reached("text_bytes", json::TEXT_BYTES_MAX as u64, member, None);
    }
    let program = match Json::parse(&bytes) {
        Ok(program) => program,
        Err(broken) => {
            let finding = Finding::new("SNS-903", Severity::Low, "exported program that is no JSON");
            context.report(finding.member(member).at(broken.at as u64).text("reason", broken.why));
            return;
        }
    };
    program.walk(&mut |key, value| {
        let Some(text) = value.str() else { return };
        let found = match key {
            "target" => operator(text).map(|severity| (severity, "an operator that no graph is made of")),
            "expr_str" => expression(text).map(|severity| (severity, "an expression that does more than count")),
            _ => None,
        };
        if let Some((severity, title)) = found {
            let finding = Finding::new("SNS-404", severity, title).member(member).text("text", text);
            context.report(finding.loaders(LOADERS));
        }
    });
}

/// An operator's name: from one of three modules on, anything may be reached that they show.
fn operator(path: &str) -> Option<Severity> {
    if path.split('.').any(is_dunder) {
        return Some(Severity::High);
    }
    let mut parts = path.split('.');
    match (parts.next(), parts.next(), parts.next()) {
        (Some("torch"), Some("ops"), Some("load_library" | "import_module")) => Some(Severity::High),
        (Some("torch"), Some("ops" | "_ops" | "_higher_order_ops"), _) => None,
        (Some("torch" | "math" | "_operator"), Some(_), _) => {
            let path = path.strip_prefix('_').unwrap_or(path);
            // What a module of torch shows of another module: `torch.serialization.os.system`.
            let through = path.match_indices('.').map(|(dot, _)| repository::called(&path[dot + 1..]));
            let through = through.flatten().filter(|severity| *severity >= Severity::High).max();
            repository::called(path).max(through)
        }
        // Anything else stays a text.
        _ => None,
    }
}

/// Words of operators as torch writes them may be dunder (`aten.__and__`); what leads out of an object is not.
fn is_dunder(part: &str) -> bool {
    matches!(
        part,
        "__globals__"
            | "__builtins__"
            | "__class__"
            | "__dict__"
            | "__subclasses__"
            | "__init__"
            | "__getattribute__"
            | "__self__"
            | "__func__"
            | "__code__"
            | "__import__"
            | "__loader__"
            | "__spec__"
            | "__reduce__"
            | "__module__"
            | "__call__"
    )
}

/// What `sympify` gets is Python: sympy's own form of an expression has names, calls and numbers, and no attributes.
fn expression(text: &str) -> Option<Severity> {
    let mut outside = String::new();
    let mut quote = None;
    for char in text.chars() {
        match quote {
            Some(end) if char == end => quote = None,
            Some(_) => {}
            None if matches!(char, '\'' | '"') => quote = Some(char),
            None => outside.push(char),
        }
    }
    let attribute =
        outside.as_bytes().windows(2).any(|pair| pair[0] == b'.' && (pair[1].is_ascii_alphabetic() || pair[1] == b'_'));
    if attribute || outside.contains("__") || outside.contains(['[', '{', ';', ':', '\n', '\\', '@']) {
        return Some(Severity::High);
    }
    let words = outside.split(|char: char| !char.is_alphanumeric() && char != '_');
    words.into_iter().any(|word| ACTS.contains(&word)).then_some(Severity::High)
}

/// Names that sympy's evaluation sees beside its own.
const ACTS: &[&str] = &[
    "eval",
    "exec",
    "compile",
    "open",
    "getattr",
    "setattr",
    "delattr",
    "globals",
    "locals",
    "vars",
    "breakpoint",
    "input",
    "exit",
    "quit",
    "lambda",
    "import",
    "lambdify",
    "sympify",
    "parse_expr",
    "preview",
    "source",
    "init_session",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_are_told_by_where_they_lead() {
        for path in [
            "torch.ops.aten.add.Tensor",
            "torch.ops.aten.__and__.Tensor",
            "torch.ops.mylib.custom.default",
            "torch.ops.higher_order.cond",
            "_operator.getitem",
            "_operator.floordiv",
            "math.ceil",
            "torch.sym_max",
            "torch.nn.functional.relu",
            "x",
        ] {
            assert_eq!(operator(path), None, "{path}");
        }
        for path in [
            "torch.os.system",
            "torch.hub.load",
            "torch.serialization.os.popen",
            "torch.ops.aten.__globals__.x",
            "math.__loader__.x",
            "torch.load",
        ] {
            assert!(operator(path) >= Some(Severity::Medium), "{path}: {:?}", operator(path));
        }
    }

    #[test]
    fn expressions_of_shapes_only_count() {
        for text in [
            "Symbol('s77', positive=True, integer=True)",
            "Max(1, s0)",
            "s0*2 + 1",
            "FloorDiv(s1 - 1, 2) + 1",
            "3.5*s0",
            "Mod(s0, 8)",
        ] {
            assert_eq!(expression(text), None, "{text}");
        }
        for text in [
            "__import__('os').system('id')",
            "s0.__class__",
            "Symbol('x').func",
            "eval('1')",
            "(lambda: 0)()",
            "[x for x in s0]",
        ] {
            assert_eq!(expression(text), Some(Severity::High), "{text}");
        }
    }
}
