//! What an expression is worth as far as that is known without running it: constants folded, names resolved to what was
//! imported, and of everything else where it came from.

use std::rc::Rc;

use crate::rule::globals;
use crate::shell;

/// Longest constant that is kept.
pub const CONSTANT_BYTES_MAX: usize = 1 << 20;
/// Items of a constant list.
pub const ITEMS_MAX: usize = 20_000;
/// Constant lists in each other.
const NESTED_MAX: u8 = 8;

/// Where something came from; bits.
pub type Origin = u8;
/// Was encoded: base64, compressed, reversed.
pub const DECODED: Origin = 1;
/// Came over the network.
pub const NETWORK: Origin = 2;
/// The whole environment, or a file of secrets.
pub const SECRET: Origin = 4;
/// One variable of the environment.
pub const VARIABLE: Origin = 8;
/// A name that is only known when it runs was looked up in a module.
pub const DYNAMIC: Origin = 16;
/// A path that is made of parts, and leads to what others run later.
pub const PLACE: Origin = 32;

#[derive(Debug, Clone)]
pub struct Value {
    pub what: What,
    pub origin: Origin,
    /// Lists in lists.
    nested: u8,
}

#[derive(Debug, Clone)]
pub enum What {
    Unknown,
    Text(Rc<str>),
    Bytes(Rc<[u8]>),
    Number(i64),
    List(Rc<[Value]>),
    /// `name` in `module`; empty for the module itself. What a call of it gives is `name()`.
    Global(Rc<str>, Rc<str>),
    /// A function or class of this source.
    Scope(usize),
    Lambda(super::tree::Id),
}

impl Value {
    pub const UNKNOWN: Self = Self::new(What::Unknown);

    pub const fn new(what: What) -> Self {
        Self { what, origin: 0, nested: 0 }
    }

    pub fn from_origin(origin: Origin) -> Self {
        Self::UNKNOWN.with(origin)
    }

    pub fn text(text: impl AsRef<str>) -> Self {
        let text = text.as_ref();
        if text.len() > CONSTANT_BYTES_MAX { Self::UNKNOWN } else { Self::new(What::Text(text.into())) }
    }

    pub fn bytes(bytes: &[u8]) -> Self {
        if bytes.len() > CONSTANT_BYTES_MAX { Self::UNKNOWN } else { Self::new(What::Bytes(bytes.into())) }
    }

    pub fn number(number: i64) -> Self {
        Self::new(What::Number(number))
    }

    pub fn list(items: Vec<Self>) -> Self {
        let origin = items.iter().fold(0, |all, item| all | item.origin);
        let nested = items.iter().map(|item| item.nested).max().unwrap_or(0) + 1;
        if items.len() > ITEMS_MAX || nested > NESTED_MAX {
            return Self::from_origin(origin);
        }
        Self { what: What::List(items.into()), origin, nested }
    }

    pub fn global(module: &str, name: &str) -> Self {
        Self::new(What::Global(module.into(), name.into()))
    }

    #[must_use]
    pub fn with(mut self, origin: Origin) -> Self {
        self.origin |= origin;
        self
    }

    /// What it takes in memory.
    pub fn size(&self) -> usize {
        match &self.what {
            What::Text(text) => text.len(),
            What::Bytes(bytes) => bytes.len(),
            What::List(items) => items.len() * size_of::<Self>(),
            _ => 0,
        }
    }

    pub fn is_unknown(&self) -> bool {
        matches!(self.what, What::Unknown)
    }

    /// A constant as text; bytes too, and a list of words as a command line.
    pub fn as_text(&self) -> Option<String> {
        match &self.what {
            What::Text(text) => Some(text.to_string()),
            What::Bytes(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            _ => None,
        }
    }

    /// A command: a text, or a list that starts with one.
    pub fn as_command(&self) -> Option<String> {
        let What::List(items) = &self.what else { return self.as_text() };
        let first = items.first()?.as_text()?;
        let rest = items.iter().skip(1).take(64).map(|item| item.as_text().unwrap_or_else(|| "{}".to_owned()));
        let words: Vec<String> = std::iter::once(first.clone()).chain(rest).collect();
        // `["sh", "-c", "a command"]`
        let shell = matches!(first.rsplit('/').next(), Some("sh" | "bash" | "zsh" | "dash"));
        match words.get(1) {
            Some(flag) if shell && flag.starts_with('-') && flag.contains('c') => words.get(2).cloned(),
            _ => Some(words.join(" ")),
        }
    }

    pub fn as_number(&self) -> Option<i64> {
        match self.what {
            What::Number(number) => Some(number),
            _ => None,
        }
    }

    /// `.name` of it.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Self {
        let What::Global(module, path) = &self.what else {
            return Self::from_origin(self.origin);
        };
        if path.is_empty() {
            if let Some(found) = known(module, name) {
                return found.with(self.origin);
            }
            return Self::global(module, name).with(self.origin);
        }
        if path.len() > 200 {
            return Self::from_origin(self.origin);
        }
        // `sys.modules["os"]`, `os.__dict__["system"]`, `vars(os)`: see `item`.
        Self::global(module, &format!("{path}.{name}")).with(self.origin)
    }

    /// What a call of it gives, where nothing better is known.
    #[must_use]
    /// Something of `pathlib`, whose parts are not kept.
    pub fn is_path(&self) -> bool {
        matches!(&self.what, What::Global(module, _) if &**module == "pathlib")
    }

    /// Whether it leads to what others run, as a part of a path.
    pub fn place(&self) -> Origin {
        if self.as_text().is_some_and(|text| shell::startup_path(&text)) { PLACE } else { 0 }
    }

    pub fn called(&self) -> Self {
        match &self.what {
            What::Global(module, path) if !path.is_empty() && path.len() <= 200 => {
                Self::global(module, &format!("{path}()")).with(self.origin)
            }
            _ => Self::from_origin(self.origin),
        }
    }

    /// `[key]` of it.
    #[must_use]
    pub fn item(&self, key: &Self) -> Self {
        let origin = self.origin | key.origin;
        match (&self.what, &key.what) {
            (What::Global(module, path), What::Text(key)) => match (&**module, &**path) {
                ("sys", "modules") => module_of(key).with(origin),
                ("builtins", "globals()" | "locals()" | "vars()" | "__dict__") => match &**key {
                    "__builtins__" => Self::global("builtins", ""),
                    name => Self::global("builtins", name),
                }
                .with(origin),
                (_, "__dict__") => Self::global(module, "").attribute(key).with(origin),
                ("os", "environ") => Self::from_origin(origin | VARIABLE),
                ("builtins", "") => self.attribute(key).with(origin),
                (_, path) if path.ends_with("__globals__") || path.ends_with("__builtins__") => {
                    if &**key == "__builtins__" { Self::global("builtins", "") } else { Self::global("builtins", key) }
                        .with(origin)
                }
                _ => Self::from_origin(origin),
            },
            (What::Global(module, path), _)
                if path.is_empty() || path.ends_with("__dict__") || path.contains("vars()") =>
            {
                Self::global(module, "?").with(origin | DYNAMIC)
            }
            (What::List(items), What::Number(index)) => {
                let len = items.len() as i64;
                let at = if *index < 0 { index + len } else { *index };
                usize::try_from(at).ok().and_then(|at| items.get(at).cloned()).unwrap_or(Self::UNKNOWN).with(origin)
            }
            (What::Text(text), What::Number(index)) => {
                let len = text.chars().count() as i64;
                let at = if *index < 0 { index + len } else { *index };
                match usize::try_from(at).ok().and_then(|at| text.chars().nth(at)) {
                    Some(char) => Self::text(char.to_string()).with(origin),
                    None => Self::from_origin(origin),
                }
            }
            (What::Bytes(bytes), What::Number(index)) => {
                let at = if *index < 0 { index + bytes.len() as i64 } else { *index };
                match usize::try_from(at).ok().and_then(|at| bytes.get(at)) {
                    Some(byte) => Self::number(i64::from(*byte)).with(origin),
                    None => Self::from_origin(origin),
                }
            }
            _ => Self::from_origin(origin),
        }
    }

    /// `[start:stop:step]` of it.
    #[must_use]
    pub fn slice(&self, bounds: [Option<i64>; 3]) -> Self {
        fn cut<T: Clone>(items: &[T], [start, stop, step]: [Option<i64>; 3]) -> Vec<T> {
            let (len, step) = (items.len() as i64, step.unwrap_or(1));
            let clamp =
                |bound: i64, low: i64, high: i64| if bound < 0 { (bound + len).max(low) } else { bound.min(high) };
            let mut out = Vec::new();
            if step > 0 {
                let (mut at, stop) =
                    (start.map_or(0, |at| clamp(at, 0, len)), stop.map_or(len, |at| clamp(at, 0, len)));
                while at < stop {
                    out.extend(items.get(at as usize).cloned());
                    at = at.saturating_add(step);
                }
            } else if step < 0 {
                let mut at = start.map_or(len - 1, |at| clamp(at, -1, len - 1));
                let stop = stop.map_or(-1, |at| clamp(at, -1, len - 1));
                while at > stop {
                    out.extend(usize::try_from(at).ok().and_then(|at| items.get(at)).cloned());
                    at = at.saturating_add(step);
                }
            }
            out
        }
        let turned = if bounds[2].is_some_and(|step| step < 0) && !self.is_unknown() { DECODED } else { 0 };
        match &self.what {
            What::Text(text) => {
                let chars: Vec<char> = text.chars().collect();
                Self::text(cut(&chars, bounds).into_iter().collect::<String>())
            }
            What::Bytes(bytes) => Self::bytes(&cut(bytes, bounds)),
            What::List(items) => Self::list(cut(items, bounds)),
            _ => Self::UNKNOWN,
        }
        .with(self.origin | turned)
    }

    /// `self + other`.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        match (&self.what, &other.what) {
            (What::Text(a), What::Text(b)) if a.len() + b.len() <= CONSTANT_BYTES_MAX => Self::text(format!("{a}{b}")),
            (What::Bytes(a), What::Bytes(b)) => Self::bytes(&[&**a, &**b].concat()),
            (What::Number(a), What::Number(b)) => a.checked_add(*b).map_or(Self::UNKNOWN, Self::number),
            (What::List(a), What::List(b)) if a.len() + b.len() <= ITEMS_MAX => Self::list([&**a, &**b].concat()),
            _ => Self::UNKNOWN,
        }
        .with(self.origin | other.origin)
    }
}

/// A module by its dotted name.
pub fn module_of(name: &str) -> Value {
    let name = globals::canonical_module(name).unwrap_or_else(|| name.to_owned());
    Value::global(&name, "")
}

/// An attribute of a module that is a module, or is defined elsewhere.
fn known(module: &str, name: &str) -> Option<Value> {
    if module == "builtins" && name == "__dict__" {
        return Some(Value::global("builtins", "__dict__"));
    }
    if let Some(target) = globals::alias(module, name) {
        return Some(match target.split_once(':') {
            Some((module, name)) => Value::global(module, name),
            None => Value::global(target, ""),
        });
    }
    let inner = format!("{module}.{name}");
    globals::is_known_module(&inner).then(|| Value::global(&inner, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_those_of_python() {
        let text = |bounds| Value::text("abcdef").slice(bounds).as_text().unwrap();
        assert_eq!(text([None, None, Some(-1)]), "fedcba");
        assert_eq!(text([Some(1), Some(-1), None]), "bcde");
        assert_eq!(text([Some(-2), None, None]), "ef");
        assert_eq!(text([None, None, Some(2)]), "ace");
        assert_eq!(text([Some(9), Some(i64::MIN), Some(i64::MIN)]), "f");
        assert_eq!(text([Some(i64::MIN), Some(i64::MAX), Some(i64::MAX)]), "a");
        assert_eq!(text([None, None, Some(0)]), "");
    }

    #[test]
    fn commands_are_read_as_the_shell_gets_them() {
        let list = |words: &[&str]| Value::list(words.iter().map(Value::text).collect()).as_command().unwrap();
        assert_eq!(list(&["git", "log"]), "git log");
        assert_eq!(list(&["/bin/sh", "-c", "a | b"]), "a | b");
    }
}
