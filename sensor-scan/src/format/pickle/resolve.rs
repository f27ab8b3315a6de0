//! Names to objects: what `module.name` really is, however it is spelled.

use std::collections::HashMap;

use super::cursor::{Break, Range};
use super::machine::{Machine, NAME_BYTES_MAX};
use super::value::{Flags, Id, Moved, Node, What};
use crate::finding::{Evidence, Severity};
use crate::rule::globals::{self, Does, Level, Rule};

/// Distinct globals that are told apart in one stream; more share one unknown entry.
const GLOBALS_MAX: usize = 500_000;

/// How a name leads to its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// It is defined there.
    Direct,
    /// Through the module map of Python 2.
    Python2,
    /// Through another module's attribute.
    Path,
    /// Through a dunder attribute that leads out of the object.
    Dunder,
}

/// One global.
#[derive(Debug)]
pub struct Global {
    /// As the stream writes it.
    pub written: (Box<str>, Box<str>),
    /// Where it is defined, under the table's names.
    pub module: Box<str>,
    pub path: Box<str>,
    pub rule: Option<&'static Rule>,
    /// The rule spells the name out.
    pub exact: bool,
    pub via: Via,
    /// It is a module itself.
    pub is_module: bool,
    /// A known package that the root of the module only looks like.
    pub imitates: Option<&'static str>,
    /// First import.
    pub at: u64,
    /// A finding names it already, or it needs none.
    pub settled: bool,
}

impl Global {
    /// For a person: `os.system`.
    pub fn name(&self) -> String {
        if self.path.is_empty() { self.module.to_string() } else { format!("{}.{}", self.module, self.path) }
    }

    pub fn is_class(&self) -> bool {
        globals::is_class_name(&self.path)
    }

    fn flags(&self) -> Flags {
        let tainted = self.is_module
            || matches!(self.via, Via::Dunder)
            || self.rule.is_some_and(|rule| {
                rule.called == Level::Dangerous || rule.imported == Level::Dangerous || rule.does == Does::AddExtension
            });
        if tainted {
            Flags::DANGEROUS.with(Flags::CALLABLE)
        } else if self.is_class() || self.rule.is_some_and(|rule| rule.imported == Level::Safe) {
            Flags::NONE
        } else {
            Flags::CALLABLE
        }
    }
}

/// The globals of one machine.
#[derive(Debug, Default)]
pub struct Globals {
    entries: Vec<Global>,
    by_name: HashMap<(Box<str>, Box<str>), Id>,
    /// STACK_GLOBAL by its operands' nodes, so that names are read once.
    by_operands: HashMap<(Id, Id), Id>,
    imports: u64,
    known: bool,
}

impl Globals {
    pub fn get(&self, index: u32) -> Option<&Global> {
        self.entries.get(index as usize)
    }

    pub fn get_mut(&mut self, index: u32) -> Option<&mut Global> {
        self.entries.get_mut(index as usize)
    }

    /// Was anything imported that the table, or its packages, know of?
    pub fn known(&self) -> bool {
        self.known
    }

    pub fn imports(&self) -> u64 {
        self.imports
    }

    /// Nodes were moved.
    pub fn moved(&mut self, moved: &Moved) {
        self.by_operands.clear();
        for id in self.by_name.values_mut() {
            *id = moved.new_place(*id);
        }
    }

    /// Nodes were thrown away.
    pub fn forget(&mut self) {
        self.entries.clear();
        self.by_name.clear();
        self.by_operands.clear();
    }
}

/// Attributes of any object that lead out of it.
fn is_dunder(segment: &str) -> bool {
    segment.len() > 4
        && segment.starts_with("__")
        && segment.ends_with("__")
        && !matches!(
            segment,
            "__main__"
                | "__init__"
                | "__new__"
                | "__name__"
                | "__doc__"
                | "__torch__"
                | "__newobj__"
                | "__newobj_ex__"
                | "__import__"
                | "__build_class__"
                | "__call__"
                | "__getattribute__"
                | "__getattr__"
                | "__setattr__"
                | "__reduce__"
                | "__reduce_ex__"
                | "__add__"
                | "__bit_generator_ctor"
                | "__setstate__"
        )
}

/// Classes with small letters whose instances a stream makes.
fn is_small_class(path: &str) -> bool {
    matches!(path, "ndarray" | "array" | "deque" | "bytearray" | "recarray" | "matrix" | "defaultdict" | "memoryview")
}

/// Where a name leads.
pub struct Resolved {
    pub module: String,
    pub path: String,
    pub via: Via,
    pub is_module: bool,
}

/// Resolves a name as far as tables can.
pub fn resolve(module: &str, name: &str) -> Resolved {
    let mut via = Via::Direct;
    let mut module = module.to_owned();
    let mut name = name.to_owned();
    if let Some((to_module, to_name)) = globals::python2(&module, &name) {
        via = Via::Python2;
        module = to_module.to_owned();
        if let Some(to_name) = to_name {
            name = to_name.to_owned();
        }
    }
    if let Some(twin) = globals::canonical_module(&module) {
        module = twin;
    }
    let mut rest: &str = &name;
    let mut dunder = false;
    // A path: as long as its first segment is a module, go there.
    loop {
        let (segment, behind) = match rest.split_once('.') {
            Some((segment, behind)) => (segment, Some(behind)),
            None => (rest, None),
        };
        let listed_here = globals::lookup(&module, segment).is_some_and(|(_, exact)| exact);
        let target = match globals::alias(&module, segment) {
            Some(target) => Some(target.to_owned()),
            None if listed_here => None,
            None => module_named(&module, segment, behind.is_some()),
        };
        let Some(target) = target else { break };
        via = Via::Path;
        if let Some((home, object)) = target.split_once(':') {
            module = globals::canonical_module(home).unwrap_or_else(|| home.to_owned());
            let path = behind.map_or_else(|| object.to_owned(), |behind| format!("{object}.{behind}"));
            return finish(module, path, via);
        }
        module = globals::canonical_module(&target).unwrap_or(target);
        match behind {
            Some(behind) => rest = behind,
            None => return Resolved { module, path: String::new(), via, is_module: true },
        }
    }
    if rest.split('.').any(is_dunder) {
        dunder = true;
    }
    let path = rest.to_owned();
    if dunder {
        return Resolved { module, path, via: Via::Dunder, is_module: false };
    }
    finish(module, path, via)
}

fn finish(module: String, path: String, via: Via) -> Resolved {
    let via = if path.split('.').any(is_dunder) { Via::Dunder } else { via };
    Resolved { module, path, via, is_module: false }
}

/// The module that an attribute of a module most likely is: a submodule, or an imported top-level one.
fn module_named(module: &str, segment: &str, has_more: bool) -> Option<String> {
    if segment.is_empty() {
        return None;
    }
    if module.rsplit('.').next() == Some(segment) {
        // `socket.socket`, `datetime.datetime`: a class of the module's own name.
        return None;
    }
    let below = format!("{module}.{segment}");
    if globals::is_known_module(&below) && (has_more || globals::lookup(module, segment).is_none()) {
        return Some(below);
    }
    let bare = segment.trim_start_matches('_');
    // `os`, `_os`, `sys`: imported modules show under their own names. Names that are also ordinary attributes (`code`,
    // `types`, `copy`) only count where the path goes on.
    let plain = matches!(
        bare,
        "os" | "sys"
            | "subprocess"
            | "builtins"
            | "socket"
            | "shutil"
            | "importlib"
            | "ctypes"
            | "runpy"
            | "pickle"
            | "posix"
            | "nt"
            | "io"
            | "threading"
            | "multiprocessing"
            | "pty"
            | "marshal"
            | "tempfile"
    );
    if plain || (has_more && (globals::is_stdlib(bare) || globals::is_stdlib(segment))) {
        return Some(if globals::is_stdlib(bare) { bare } else { segment }.to_owned());
    }
    let framework = match segment {
        "np" => "numpy",
        "pd" => "pandas",
        "torch" | "numpy" | "pandas" | "sklearn" | "scipy" | "joblib" | "tensorflow" | "keras" | "transformers" => {
            segment
        }
        _ => return None,
    };
    has_more.then(|| framework.to_owned())
}

impl Machine<'_, '_, '_> {
    pub(super) fn global_of_ranges(&mut self, module: Range, name: Range) -> Id {
        let module = self.cursor.bytes(module, NAME_BYTES_MAX);
        let name = self.cursor.bytes(name, NAME_BYTES_MAX);
        self.global(&String::from_utf8_lossy(&module), &String::from_utf8_lossy(&name))
    }

    /// STACK_GLOBAL.
    pub(super) fn global_of_values(&mut self, module: Id, name: Id) -> Result<Id, Break> {
        if let Some(&known) = self.globals.by_operands.get(&(module, name)) {
            self.globals.imports += 1;
            return Ok(known);
        }
        let texts = (self.text_of(module), self.text_of(name));
        let id = match texts {
            (Some(module), Some(name)) => {
                self.global(&String::from_utf8_lossy(&module), &String::from_utf8_lossy(&name))
            }
            _ if self.arena.full() && (module == Id::LOST || name == Id::LOST) => {
                // No room was left for the texts: the last two are the operands of any ordinary producer.
                let [module, name] = self.recent_texts();
                self.global_of_ranges(module, name);
                return Ok(Id::UNKNOWN);
            }
            _ if module == Id::LOST || name == Id::LOST => {
                self.lost_matters();
                return Ok(Id::UNKNOWN);
            }
            _ => {
                // Every reader wants two plain texts: an instance of a listed class is none, and the stream breaks here.
                let instance = |value: Id| {
                    let class = self.arena.as_object(value).filter(|object| object.what == What::Result)?.callee;
                    let class = self.globals.get(self.arena.as_global(class)?)?;
                    Some(class.is_class() && class.rule.is_some_and(|rule| rule.imported == Level::Safe))
                };
                let computed = |value: Id| {
                    let global = self.arena.as_global(value).and_then(|index| self.globals.get(index));
                    value == Id::UNKNOWN
                        || self.arena.as_object(value).is_some() && instance(value) != Some(true)
                        || global.is_some_and(|global| !global.is_class())
                };
                if !computed(module) && !computed(name) {
                    return Err(Break::Operand);
                }
                self.globals.imports += 1;
                self.context.all_globals_safe = false;
                let text = "a global whose name is computed in a way that cannot be followed";
                let mut finding = self.finding("SNS-102", Severity::High, text);
                finding.evidence.insert("module", Evidence::Text(self.describe(module)));
                finding.evidence.insert("name", Evidence::Text(self.describe(name)));
                self.context.report(finding);
                return Ok(Id::UNKNOWN);
            }
        };
        if self.globals.by_operands.len() < GLOBALS_MAX {
            self.globals.by_operands.insert((module, name), id);
        }
        Ok(id)
    }

    /// A global that the stream imports, by its names as it writes them.
    pub(super) fn global(&mut self, module: &str, name: &str) -> Id {
        self.globals.imports += 1;
        let before = self.globals.entries.len();
        let id = self.global_by_name(module, name);
        if self.globals.entries.len() > before {
            self.context.trace(module, name);
        }
        id
    }

    /// A global that is reached without the stream importing it.
    pub(super) fn global_by_name(&mut self, module: &str, name: &str) -> Id {
        let key = (Box::from(module), Box::from(name));
        if let Some(&known) = self.globals.by_name.get(&key) {
            return known;
        }
        if self.globals.entries.len() >= GLOBALS_MAX {
            let at = self.at;
            let member = self.stream.member.clone();
            self.context.limit_reached("globals_max", GLOBALS_MAX as u64, member.as_deref(), Some(at));
            return Id::UNKNOWN;
        }
        let resolved = resolve(module, name);
        let found = if resolved.is_module || resolved.via == Via::Dunder {
            None
        } else {
            let policy = self.context.policy;
            policy
                .lookup(&resolved.module, &resolved.path)
                .or_else(|| globals::lookup(&resolved.module, &resolved.path))
        };
        let global = Global {
            written: key.clone(),
            module: resolved.module.into(),
            path: resolved.path.into(),
            rule: found.map(|(rule, _)| rule),
            exact: found.is_some_and(|(_, exact)| exact),
            via: resolved.via,
            is_module: resolved.is_module,
            imitates: super::payload::imitated_root(module),
            at: self.at,
            settled: false,
        };
        let root = global.module.split('.').next().unwrap_or_default();
        self.globals.known |= global.rule.is_some() || globals::is_known_module(root);
        let index = self.globals.entries.len() as u32;
        self.arena.global_flags.push(global.flags());
        self.globals.entries.push(global);
        let id = self.arena.global(index);
        self.globals.by_name.insert(key, id);
        self.judge_import(index);
        id
    }

    /// What the import alone says.
    fn judge_import(&mut self, index: u32) {
        let Some(global) = self.globals.get(index) else { return };
        if global.rule.is_none_or(|rule| rule.imported != Level::Safe) {
            self.context.all_globals_safe = false;
        }
        let name = global.name();
        let written = format!("{}.{}", global.written.0, global.written.1);
        if let Some(imitated) = global.imitates {
            let text = format!("{} looks like {imitated}, but is not", global.written.0);
            let severity = if global.written.0.is_ascii() { Severity::Medium } else { Severity::High };
            let mut finding = self.finding("SNS-113", severity, text);
            finding.evidence.insert("global", Evidence::Text(written.clone()));
            self.context.report(finding);
        }
        let Some(global) = self.globals.get(index) else { return };
        if let Some(rule) = global.rule.filter(|rule| rule.does == Does::RunsAtImport) {
            let text = format!("{written} is imported: the import alone {}", rule.effect.phrase());
            let mut finding = self.finding("SNS-101", Severity::High, text);
            finding.evidence.insert("global", Evidence::Text(written.clone()));
            finding.evidence.insert("reason", Evidence::Text(rule.reason.to_owned()));
            self.context.report(finding);
        }
        if global.written.0.ends_with(".__main__") {
            let text = format!("{} is imported: that runs the program it is", global.written.0);
            let mut finding = self.finding("SNS-101", Severity::High, text);
            finding.evidence.insert("global", Evidence::Text(written.clone()));
            self.context.report(finding);
        }
        let Some(global) = self.globals.get(index) else { return };
        let bad = global.rule.is_some_and(|rule| rule.called >= Level::Risky);
        match global.via {
            Via::Python2 if bad => {
                let text = format!("{written} is the Python 2 name of {name}");
                let mut finding = self.finding("SNS-114", Severity::Low, text);
                finding.evidence.insert("global", Evidence::Text(written));
                self.context.report(finding);
            }
            Via::Path | Via::Dunder => {
                let text = format!("{written} reaches {name} through another object");
                // dill names the module of a function so; what is done with it is judged where it is done.
                let own = &*global.path == "__dict__"
                    && !globals::is_stdlib(global.module.split('.').next().unwrap_or_default());
                let severity = if own { Severity::Low } else { Severity::Medium };
                let mut finding = self.finding("SNS-105", severity, text);
                finding.evidence.insert("global", Evidence::Text(written));
                finding.evidence.insert("resolved", Evidence::Text(name));
                self.context.report(finding);
            }
            _ => {}
        }
    }

    /// Dangerous globals that were imported and never called: SNS-104.
    pub(super) fn report_references(&mut self) {
        let mut findings = Vec::new();
        for global in self.globals.entries.iter_mut().filter(|global| !global.settled) {
            global.settled = true;
            let Some(rule) = global.rule else { continue };
            let worst = rule.called.max(rule.imported);
            let severity = match worst {
                Level::Dangerous => Severity::Medium,
                Level::Risky => Severity::Low,
                _ => continue,
            };
            let name = global.name();
            let text = format!("{name} is imported, but not called: it {}", rule.effect.phrase());
            let mut finding = crate::finding::Finding::new("SNS-104", severity, text);
            finding.offset = Some(global.at);
            finding.member.clone_from(&self.stream.member);
            finding.loaders = self.stream.dialect.loaders().to_vec();
            finding.evidence.insert("global", Evidence::Text(name));
            finding.evidence.insert("effect", Evidence::Text(rule.effect.name().to_owned()));
            finding.evidence.insert("reason", Evidence::Text(rule.reason.to_owned()));
            findings.push(finding);
        }
        findings.into_iter().for_each(|finding| self.context.report(finding));
    }

    /// Attribute `name` of a value, as far as it can be followed.
    pub(super) fn attribute(&mut self, base: Id, name: &str) -> Id {
        if let Some(value) = self.set_attribute_of(base, name) {
            return value;
        }
        let home = match self.arena.node(base) {
            Some(Node::Global { index }) => self.globals.get(index).map(|global| {
                let path = if global.path.is_empty() { name.to_owned() } else { format!("{}.{name}", global.path) };
                (global.module.to_string(), path)
            }),
            Some(Node::Object { .. }) => match self.arena.as_object(base).copied() {
                Some(object) if object.what == What::Module => self
                    .text_of(object.args)
                    .map(|module| (String::from_utf8_lossy(&module).into_owned(), name.to_owned())),
                Some(object) if object.what == What::Result => match self.arena.as_global(object.callee) {
                    // An instance's method is its class's.
                    Some(index) => self
                        .globals
                        .get(index)
                        .filter(|global| global.is_class() || is_small_class(&global.path))
                        .map(|class| (class.module.to_string(), format!("{}.{name}", class.path))),
                    None => None,
                },
                _ => None,
            },
            Some(Node::Text { .. } | Node::Owned { .. }) => Some(("builtins".to_owned(), format!("str.{name}"))),
            Some(Node::Box { kind, .. }) => {
                let class = match kind {
                    super::value::Kind::List => "list",
                    super::value::Kind::Dict => "dict",
                    super::value::Kind::Set => "set",
                };
                Some(("builtins".to_owned(), format!("{class}.{name}")))
            }
            _ => None,
        };
        match home {
            Some((module, path)) => self.global_by_name(&module, &path),
            None => {
                let flags = self.arena.flags(base).with(Flags::CALLABLE);
                let text = self.arena.owned_text(super::value::Text::Str, name.as_bytes().to_vec());
                self.arena.object(What::Attr, base, text, flags)
            }
        }
    }
}
