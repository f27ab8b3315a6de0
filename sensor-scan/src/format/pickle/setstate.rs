//! What a known class does with the state that BUILD hands to its `__setstate__`: some unpickle it again, some run it.

use super::machine::Machine;
use super::value::{Id, Node, Object, Text, What};
use super::{Dialect, Stream};
use crate::context::Piece;
use crate::finding::{Evidence, Severity};
use crate::python::{self, Role};

/// Classes that run a text of their state as Python: module, key, and who does it.
const RUNS: &[(&str, &str, &str)] =
    &[("statsmodels.base.data", "formula", "the formula is evaluated again, and its terms are Python")];
/// A state that is bytes is looked through for a payload up to here.
const STATE_BYTES_MAX: u64 = 4 << 20;
/// Parts of a state that are looked at.
const PARTS_MAX: usize = 256;

impl Machine<'_, '_, '_> {
    /// The state of an instance of a class that was made by its name.
    pub(super) fn look_at_state(&mut self, object: &Object, state: Id) {
        let Some(class) = self.arena.as_global(object.callee).and_then(|index| self.globals.get(index)) else { return };
        let module = class.module.clone();
        if let Some((_, key, why)) = RUNS.iter().find(|(runs, ..)| **runs == *module) {
            self.look_at_source(object.callee, state, key, why);
        }
        if &*module != "numpy" {
            self.look_at_state_bytes(state);
        }
    }

    /// What BUILD set as an attribute of an instance.
    pub(super) fn set_attribute_of(&mut self, instance: Id, name: &str) -> Option<Id> {
        let state = self.arena.as_object(instance).filter(|object| object.what == What::Result)?.state;
        // `(state, slots)`, or the state alone.
        let halves = match self.arena.shared(state) {
            Some(_) => vec![state],
            None => self.arena.children(state).to_vec(),
        };
        for half in halves {
            let parts: Vec<Id> = self.arena.children(half).iter().take(PARTS_MAX).copied().collect();
            for pair in parts.chunks_exact(2) {
                let [key, value] = *pair else { continue };
                if self.string_of(key).as_deref() == Some(name) {
                    return Some(value);
                }
            }
        }
        None
    }

    fn look_at_source(&mut self, class: Id, state: Id, key: &str, why: &str) {
        let parts: Vec<Id> = self.arena.children(state).iter().take(PARTS_MAX).copied().collect();
        for pair in parts.chunks_exact(2) {
            let [name, value] = *pair else { continue };
            if self.string_of(name).as_deref() != Some(key) {
                continue;
            }
            let Some(text) = self.whole(value).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()) else {
                continue;
            };
            let seen = python::judge(formula(&text).as_bytes(), Role::Named);
            let worst = seen.found.first().filter(|found| found.severity >= Severity::Medium);
            let Some(what) = worst.map(|found| found.what.as_str()).or_else(|| leaves(&text)) else { continue };
            let title = format!("the state of {} {what}: {why}", self.name_of(class));
            let mut finding = self.finding("SNS-101", Severity::Critical, title);
            finding.evidence.insert("source", Evidence::Text(super::describe::cut(text.as_bytes())));
            self.context.report(finding);
            self.effects = true;
        }
    }

    /// Wrappers of other picklers have bytes as their state, alone or first of a few, and unpickle them.
    fn look_at_state_bytes(&mut self, state: Id) {
        let first = self.arena.children(state).first().copied();
        for value in [Some(state), first.filter(|_| self.arena.shared(state).is_none())].into_iter().flatten() {
            let Some(Node::Text { text: Text::Bytes, start, len }) = self.arena.node(value) else { continue };
            let end = start + u64::from(len);
            if matches!(self.text_up_to(value, 2).as_deref(), Some([0x80, 2..=5])) {
                self.loaded.insert(start);
                let (source, member) = (self.stream.source, self.stream.member.clone());
                self.context.nested(&Piece { source, start, end, member });
            } else if value == state {
                let end = end.min(start + STATE_BYTES_MAX);
                let range = Stream { start, end, dialect: Dialect::Plain, ..self.stream.clone() };
                super::sweep(&range, self.context);
            }
        }
    }
}

/// A formula of patsy as Python source: `~` and `:` stand between expressions.
fn formula(text: &str) -> String {
    let mut source = String::from("import numpy as np\nimport pandas as pd\n[");
    let mut quote = None;
    for char in text.chars() {
        match (quote, char) {
            (Some(open), _) if char == open => quote = None,
            (None, '\'' | '"') => quote = Some(char),
            _ => {}
        }
        source.push(if quote.is_none() && matches!(char, '~' | ':') { ',' } else { char });
    }
    source.push_str("]\n");
    source
}

/// What no term of a formula needs: names that are called, or that something is taken from.
fn leaves(text: &str) -> Option<&'static str> {
    const NAMES: &[&str] = &[
        "os",
        "sys",
        "subprocess",
        "builtins",
        "importlib",
        "popen",
        "system",
        "eval",
        "exec",
        "compile",
        "getattr",
        "open",
        "globals",
        "vars",
    ];
    let is_name = |char: char| char.is_alphanumeric() || char == '_';
    let mut at = 0;
    for word in text.split(|char| !is_name(char)) {
        let behind = text.get(at + word.len()..).unwrap_or_default().trim_start();
        let before = text.get(..at).unwrap_or_default();
        let reached = behind.starts_with(['.', '(']) || before.ends_with('.');
        if reached && (NAMES.contains(&word) || word.len() > 4 && word.starts_with("__") && word.ends_with("__")) {
            return Some("leads out of its expression");
        }
        at += word.len() + text.get(at + word.len()..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
    }
    None
}
