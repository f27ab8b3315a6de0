//! Python source, read without running it: tokens, expressions, statements, and what a module does when it is imported.
//!
//! An own parser, because it reads hostile source: bounded in depth and in memory, and going on behind what it doesn't
//! understand. References: the Python language reference, CPython's `Lib/tokenize.py` and `Grammar/python.gram`.

mod acts;
mod effect;
mod evaluate;
mod expression;
mod fold;
mod judge;
mod module;
mod statement;
mod token;
mod tree;
mod value;

#[cfg(test)]
mod tests;

use crate::finding::Severity;
use judge::{Budget, Judge, When};
use module::{Action, MODULE, Module};
use value::Value;

/// Longer sources are not judged to their end.
pub const SOURCE_BYTES_MAX: usize = 1 << 20;

/// Who runs a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A loader imports it, because a configuration says so.
    Named,
    /// A loader may import it, going by its name or by where it lies.
    Likely,
    /// It lies beside the model: a script that somebody may start.
    Loose,
}

/// Something that a source does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub severity: Severity,
    pub line: u32,
    /// For a person: "runs a command".
    pub what: String,
    /// The command, the path, the URL, as far as it is constant.
    pub detail: String,
    when: When,
}

impl Found {
    /// For a person: when it runs.
    pub fn when(&self) -> &'static str {
        match self.when {
            When::Import => "when it is imported",
            When::Use => "when what it defines is used",
            When::Body => "in a function",
            When::Script => "when it is started as a script",
        }
    }
}

/// What is known of a source.
#[derive(Debug)]
pub struct Seen {
    /// Worst first.
    pub found: Vec<Found>,
    /// Constant bytes that it unpickles, and where.
    pub pickles: Vec<(u32, Vec<u8>)>,
    /// Modules of the same folder that it imports: `from .name import`.
    pub neighbours: Vec<String>,
    /// Line of which something was not understood, if there is one.
    pub odd_line: Option<u32>,
    /// Too long or nested too deep to be read to its end.
    pub cut: bool,
    /// Python reads the file in an encoding in which the text is another one than it seems.
    pub encoding: Option<String>,
}

/// Judges a source.
pub fn judge(source: &[u8], role: Role) -> Seen {
    let cut = source.len() > SOURCE_BYTES_MAX;
    let text = String::from_utf8_lossy(&source[..source.len().min(SOURCE_BYTES_MAX)]);
    let mut left = Budget::FULL;
    let mut seen = inner(&text, role, When::Import, 0, Vec::new(), &mut left);
    seen.cut |= cut || left.folded_bytes == 0 || left.repeats == 0;
    seen.encoding = encoding(&text);
    seen
}

/// The same for source within source, which runs when `outer` does and sees `names`.
fn inner(text: &str, role: Role, outer: When, depth: u32, names: Vec<(String, Value)>, left: &mut Budget) -> Seen {
    let module = Module::parse(text);
    let mut judge = Judge::new(&module, role, depth, *left);
    judge.names.extend(names.into_iter().map(|(name, value)| ((MODULE, name), value)));
    judge.run(outer);
    *left = judge.left;
    let (mut found, pickles) = (judge.found, judge.pickles);
    found.sort_by(|a, b| b.severity.cmp(&a.severity).then(a.line.cmp(&b.line)));
    let mut neighbours: Vec<String> = module
        .statements
        .iter()
        .filter_map(|statement| match &statement.action {
            Action::From(from) => {
                let path = from.module.strip_prefix('.')?;
                let path = if path.is_empty() { from.what.as_str() } else { path };
                (!path.starts_with('.')).then(|| path.to_owned())
            }
            _ => None,
        })
        .collect();
    neighbours.sort_unstable();
    neighbours.dedup();
    let odd_line = (module.odd_lines > 0).then_some(module.odd_line);
    Seen { found, pickles, neighbours, odd_line, cut: module.cut, encoding: None }
}

/// PEP 263: the first two lines may name an encoding; some of them turn a comment into code.
fn encoding(text: &str) -> Option<String> {
    const HIDING: &[&str] = &[
        "utf-7",
        "utf7",
        "unicode-escape",
        "raw-unicode-escape",
        "rot13",
        "rot-13",
        "hex",
        "base64",
        "punycode",
        "idna",
        "zlib",
        "bz2",
        "uu",
        "quopri",
        "mbcs",
        "undefined",
    ];
    let line = text.lines().take(2).find(|line| line.trim_start().starts_with('#') && line.contains("coding"))?;
    let at = line.find("coding")? + "coding".len();
    let rest = line[at..].strip_prefix([':', '='])?.trim_start();
    let name: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect();
    let plain = name.to_ascii_lowercase().replace('_', "-");
    // EBCDIC and the wide encodings look like nothing that is read here.
    let other = ["utf-16", "utf-32", "cp037", "cp500", "cp273", "cp424", "cp875", "cp1026", "cp1140"];
    (HIDING.contains(&plain.as_str()) || other.iter().any(|start| plain.starts_with(start))).then_some(name)
}
