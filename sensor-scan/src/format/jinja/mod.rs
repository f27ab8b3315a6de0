//! Jinja templates: chat templates of tokenizers and GGUF files, and `.jinja` files.
//!
//! A template is code of a small language that runs when somebody renders it. What turns it into Python is an attribute
//! walk from any object (`''.__class__`, `cycler.__init__.__globals__`), by name or by a name that is put together
//! (`'__cla' ~ 'ss__'`, `|attr(…)`, `map(attribute=…)`, `'{0.__class__}'.format(x)`). Consumers that render in
//! jinja2's sandbox refuse these at render time; llama-cpp-python < 0.2.72 and many others do not.
//!
//! The expressions are parsed and constants folded; where a part is no expression, its tokens are looked at one by one.
//! Reference: the template designer documentation of Jinja 3 and `jinja2.sandbox`.

mod build;
mod expression;
mod judge;
mod method;
mod name;
mod run;
mod token;

use crate::context::{Context, Piece};
use crate::finding::{Finding, Severity};
use crate::format::Seen;
use crate::report::Content;
use crate::slice::read;
use judge::Judge;

/// Longer templates are looked at up to here. (The longest known chat templates have 60 KiB.)
const TEMPLATE_BYTES_MAX: usize = 256 << 10;

/// Whether a text has anything for Jinja to do.
pub fn is_template(text: &str) -> bool {
    text.contains("{{") || text.contains("{%")
}

/// Whether a file's name says that it is a template.
pub fn claims(name: &[u8]) -> bool {
    let name = name.to_ascii_lowercase();
    [&b".jinja"[..], b".jinja2", b".j2", b".template"].iter().any(|suffix| name.ends_with(suffix))
}

/// A file that is a template as a whole.
pub fn scan(piece: &Piece<'_>, context: &mut Context<'_>) -> Option<Seen> {
    let bytes = read(piece.source, 0, TEMPLATE_BYTES_MAX);
    let text = String::from_utf8_lossy(&bytes);
    if !is_template(&text) {
        return None;
    }
    if piece.source.len() > bytes.len() as u64 {
        let value = TEMPLATE_BYTES_MAX as u64;
        context.limit_reached("template_bytes", value, piece.member.as_deref(), Some(value));
    }
    scan_text("template", &text, piece.member.as_deref(), context);
    Some(Seen { format: "jinja", content: Content::Data })
}

/// Judges a template; `key` says where it stands in the file.
pub fn scan_text(key: &str, template: &str, member: Option<&[u8]>, context: &mut Context<'_>) {
    let mut cut = template.len().min(TEMPLATE_BYTES_MAX);
    while !template.is_char_boundary(cut) {
        cut -= 1;
    }
    if cut < template.len() {
        context.limit_reached("template_bytes", TEMPLATE_BYTES_MAX as u64, member, None);
    }
    let mut judge = Judge::default();
    judge.template(&template[..cut]);
    for found in judge.found {
        let finding = Finding::new(found.id, found.severity, found.title).member(member).text("key", key);
        let finding = if found.id == "SNS-501" {
            finding.loaders(&["jinja2 without sandbox (llama-cpp-python < 0.2.72 and others)"])
        } else {
            finding.loaders(&["every consumer that renders the template"])
        };
        context.report(finding.text("expression", found.expression));
    }
}

/// What a template does that no chat template needs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    id: &'static str,
    severity: Severity,
    title: &'static str,
    expression: String,
}
