//! Calls: what is called with what, and what comes of it.

use super::grade::is_exception;
use super::machine::Machine;
use super::opcode as op;
use super::payload::Look;
use super::resolve::Via;
use super::value::{Flags, Id, Node, What};
use crate::finding::Severity;
use crate::rule::globals::{Does, Effect, Level, Rule};

/// Callables that call callables: deeper chains are judged as unresolved.
const CHAIN_MAX: u32 = 24;

impl Machine<'_, '_, '_> {
    /// A call by any opcode; gives the result.
    pub(super) fn call(&mut self, callee: Id, args: Id, kwargs: Id) -> Id {
        let args = if kwargs == Id::NONE { args } else { self.arena.tuple(&[args, kwargs]) };
        self.invoke(callee, args, 0)
    }

    /// A call, possibly through other calls; `chain` counts them.
    pub(super) fn invoke(&mut self, callee: Id, args: Id, chain: u32) -> Id {
        if chain > CHAIN_MAX {
            return self.unresolved(callee, args, "a chain of calls that is too long to follow");
        }
        match self.arena.node(callee) {
            Some(Node::Global { index }) => self.call_global(callee, index, args, chain),
            Some(Node::Object { .. }) => self.call_object(callee, args, chain),
            _ if callee == Id::UNKNOWN => self.unresolved(callee, args, "what is called cannot be resolved"),
            // Data is not callable: every reader raises here.
            _ => Id::UNKNOWN,
        }
    }

    fn call_global(&mut self, callee: Id, index: u32, args: Id, chain: u32) -> Id {
        let Some(global) = self.globals.get(index) else { return Id::UNKNOWN };
        let (rule, exact, via) = (global.rule, global.exact, global.via);
        let new_object = matches!(self.opcode, op::NEWOBJ | op::NEWOBJ_EX);
        let flags = self.arena.flags(args);
        // The common case first: a listed class or maker, plain arguments.
        if let Some(rule) = rule
            && rule.does == Does::Plain
            && via != Via::Dunder
            && (rule.called == Level::Safe || (new_object && rule.imported == Level::Safe))
        {
            if flags.has(Flags::DANGEROUS) {
                self.report_stored(callee, args);
            } else if !exact && !new_object {
                self.check_unlisted_arguments(callee, args);
            }
            return self.arena.object(What::Result, callee, args, flags.of_instance());
        }
        if via == Via::Dunder {
            let text = format!("{} is called: it leads out of its object", self.name_of(callee));
            let mut finding = self.finding("SNS-105", Severity::High, text);
            self.add_call(&mut finding, callee, args);
            self.settle(index, finding);
            return Id::UNKNOWN;
        }
        let class = self.globals.get(index).is_some_and(super::resolve::Global::is_class);
        let Some(rule) = rule else { return self.call_unlisted(callee, index, args, new_object) };
        // A pattern says what the functions of a module do; its exceptions are values, and a class that is only made
        // without its constructor has done nothing yet.
        let is_value = class && !exact && is_exception(&self.name_of(callee));
        let bare = new_object && rule.called < Level::Dangerous && (class || self.arena.children(args).is_empty());
        if (rule.does == Does::Plain && is_value) || bare {
            return self.call_unlisted(callee, index, args, new_object);
        }
        self.call_listed(callee, index, rule, args, chain)
    }

    fn call_listed(&mut self, callee: Id, index: u32, rule: &'static Rule, args: Id, chain: u32) -> Id {
        if rule.called != Level::Safe {
            self.context.all_globals_safe = false;
        }
        if let Some(result) = self.meaning(callee, index, rule, args, chain) {
            return result;
        }
        match rule.called {
            Level::Dangerous | Level::Risky => {
                self.report_effect(callee, index, rule, args);
                let taint = if rule.called == Level::Dangerous { Flags::DANGEROUS } else { Flags::UNKNOWN };
                let flags = self.arena.flags(args).with(taint);
                self.arena.object(What::Result, callee, args, flags)
            }
            Level::Unknown => {
                self.call_unlisted(callee, index, args, matches!(self.opcode, op::NEWOBJ | op::NEWOBJ_EX))
            }
            Level::Safe => {
                let flags = self.arena.flags(args);
                if flags.has(Flags::DANGEROUS) {
                    self.report_stored(callee, args);
                }
                self.arena.object(What::Result, callee, args, flags.of_instance())
            }
        }
    }

    /// What the rule says of the arguments; `None`: nothing special, judge by the level.
    fn meaning(&mut self, callee: Id, index: u32, rule: &'static Rule, args: Id, chain: u32) -> Option<Id> {
        let argument = |machine: &Self, n: usize| machine.arena.children(args).get(n).copied();
        let first = argument(self, 0);
        match rule.does {
            Does::Plain => None,
            Does::Calls { callable, with } => {
                let (Some(inner), Some(with)) =
                    (argument(self, usize::from(callable)), argument(self, usize::from(with)))
                else {
                    return Some(self.unresolved(callee, args, "a call whose arguments cannot be resolved"));
                };
                self.settle_quietly(index);
                Some(self.invoke(inner, with, chain + 1))
            }
            Does::CallsRest { callable } => {
                let at = usize::from(callable);
                let inner = argument(self, at)?;
                let rest = self.arena.children(args).get(at + 1..).unwrap_or_default().to_vec();
                let rest = self.arena.tuple(&rest);
                self.invoke(inner, rest, chain + 1);
                None
            }
            Does::CallsEach { callable } => {
                let inner = argument(self, usize::from(callable))?;
                let rest: Vec<Id> =
                    self.arena.children(args).get(usize::from(callable) + 1..).unwrap_or_default().to_vec();
                // Elements of the first iterable are what the function gets.
                let elements = rest.first().map(|&first| self.arena.children(first).to_vec()).unwrap_or_default();
                let elements = if elements.is_empty() { rest } else { elements };
                let elements = self.arena.tuple(&elements);
                let before = self.context.worst();
                self.invoke(inner, elements, chain + 1);
                if self.context.worst() >= Some(Severity::High) && self.context.worst() != before {
                    self.settle_quietly(index);
                    return Some(Id::UNKNOWN);
                }
                // How type unions are pickled: `reduce(operator.or_, types)`.
                let pure = self.arena.as_global(inner).and_then(|index| self.globals.get(index)).is_some_and(|inner| {
                    &*inner.module == "operator" && inner.rule.is_some_and(|rule| rule.effect == Effect::None)
                });
                if pure {
                    self.settle_quietly(index);
                    let flags = self.arena.flags(args);
                    return Some(self.arena.object(What::Result, callee, args, flags.of_instance()));
                }
                None
            }
            Does::Partial => {
                let inner = first?;
                let rest = self.arena.children(args).get(1..).unwrap_or_default().to_vec();
                let rest = self.arena.tuple(&rest);
                let flags = self.arena.flags(inner).with(self.arena.flags(rest)).with(Flags::CALLABLE);
                if flags.has(Flags::DANGEROUS) {
                    // Kept for later is as good as called.
                    self.invoke(inner, rest, chain + 1);
                }
                Some(self.arena.object(What::Partial, inner, rest, flags))
            }
            Does::NewObject => {
                let inner = first?;
                let rest = self.arena.children(args).get(1..).unwrap_or_default().to_vec();
                let rest = self.arena.tuple(&rest);
                let opcode = std::mem::replace(&mut self.opcode, op::NEWOBJ);
                let result = self.invoke(inner, rest, chain + 1);
                self.opcode = opcode;
                Some(result)
            }
            Does::Reconstructor => {
                let [class, base, state] = *self.arena.children(args) else { return None };
                let plain = self.arena.as_global(base).and_then(|index| self.globals.get(index)).is_some_and(|base| {
                    &*base.module == "builtins" && base.rule.is_some_and(|rule| rule.called == Level::Safe)
                });
                if !plain {
                    let with = self.arena.tuple(&[state]);
                    self.invoke(base, with, chain + 1);
                }
                let opcode = std::mem::replace(&mut self.opcode, op::NEWOBJ);
                let with = if state == Id::NONE { Vec::new() } else { vec![state] };
                let with = self.arena.tuple(&with);
                let result = self.invoke(class, with, chain + 1);
                self.opcode = opcode;
                Some(result)
            }
            Does::GetAttribute => Some(self.get_attribute(callee, index, args)),
            Does::AttrGetter => {
                self.settle_quietly(index);
                let flags = self.check_attribute_names(callee, args);
                Some(self.arena.object(What::AttrGetter, callee, args, flags.with(Flags::CALLABLE)))
            }
            Does::MethodCaller => {
                self.settle_quietly(index);
                let flags = self.check_attribute_names(callee, args).with(self.arena.flags(args));
                Some(self.arena.object(What::MethodCaller, callee, args, flags.with(Flags::CALLABLE)))
            }
            Does::Import => Some(self.import(callee, index, rule, args)),
            Does::Resolve => Some(self.resolve_text(callee, index, rule, args)),
            Does::AddExtension => {
                let [module, name, code] = *self.arena.children(args) else { return None };
                let (module, name) = (self.string_of(module)?, self.string_of(name)?);
                let target = self.global(&module, &name);
                if let Some(code) = code.as_int() {
                    self.extensions.insert(code, target);
                }
                let text = format!("the extension registry is filled: a number now names {module}.{name}");
                let mut finding = self.finding("SNS-108", Severity::High, text);
                self.add_call(&mut finding, callee, args);
                self.settle(index, finding);
                Some(Id::NONE)
            }
            Does::MakeClass => self.make_class(callee, args),
            Does::MakeOwnClass => Some(self.make_own_class(callee, index, args)),
            Does::SetAttribute => self.set_attribute(callee, index, args),
            Does::Loads | Does::LoadsOwn => Some(self.loads(callee, index, rule, args)),
            Does::BytesFile => {
                let flags = self.arena.flags(args);
                Some(self.arena.object(What::File, callee, first.unwrap_or(Id::NONE), flags))
            }
            Does::MakeCode => Some(self.make_code(callee, index, rule, args)),
            Does::MakeFunction => Some(self.make_function(callee, index, rule, args)),
            Does::TypeByName => {
                let name = first.and_then(|name| self.string_of(name))?;
                self.settle_quietly(index);
                Some(self.global_by_name("cloudpickle", &format!("_builtin_type.{name}")))
            }
            Does::Open => Some(self.open(callee, index, rule, args)),
            Does::ReadPath => Some(self.read_path(callee, index, rule, args)),
            Does::Encode
            | Does::Decode
            | Does::FromBase64
            | Does::FromHex
            | Does::Decompress
            | Does::Join
            | Does::Concatenate
            | Does::Identity => {
                self.settle_quietly(index);
                Some(self.fold(rule.does, args))
            }
            Does::Regex => {
                let pattern = first.and_then(|pattern| self.string_of(pattern));
                if pattern.is_some_and(|pattern| super::fold::explodes(&pattern)) {
                    self.report_206("a regular expression with nested repetition, which can run for ever".to_owned());
                }
                None
            }
            Does::Allocates => {
                const ALLOCATED_BYTES_ODD: u32 = 1 << 30;
                let size = first.and_then(Id::as_int);
                if size.is_some_and(|size| size >= ALLOCATED_BYTES_ODD) || first == Some(Id::DATA) {
                    self.report_206(format!("{} allocates what a huge argument says", self.name_of(callee)));
                }
                None
            }
        }
    }

    fn call_object(&mut self, callee: Id, args: Id, chain: u32) -> Id {
        let Some(object) = self.arena.as_object(callee).copied() else { return Id::UNKNOWN };
        match object.what {
            What::Partial => {
                let mut all = self.arena.children(object.args).to_vec();
                all.extend_from_slice(self.arena.children(args));
                let all = self.arena.tuple(&all);
                self.invoke(object.callee, all, chain + 1)
            }
            What::AttrGetter => {
                let target = self.arena.children(args).first().copied();
                let name = self.arena.children(object.args).first().copied().and_then(|name| self.string_of(name));
                let (Some(target), Some(name)) = (target, name) else {
                    return self.unresolved(callee, args, "an attribute whose name is computed");
                };
                self.walk(target, &name)
            }
            What::MethodCaller => {
                let target = self.arena.children(args).first().copied();
                let parts = self.arena.children(object.args).to_vec();
                let name = parts.first().and_then(|&name| self.string_of(name));
                let (Some(target), Some(name)) = (target, name) else {
                    return self.unresolved(callee, args, "a method whose name is computed");
                };
                let method = self.walk(target, &name);
                let with = self.arena.tuple(parts.get(1..).unwrap_or_default());
                self.invoke(method, with, chain + 1)
            }
            What::Function => {
                let text = "a function that the stream brings along is called while loading";
                let mut finding = self.finding("SNS-111", Severity::High, text);
                self.add_call(&mut finding, callee, args);
                self.context.report(finding);
                self.effects = true;
                Id::UNKNOWN
            }
            What::Class => {
                let flags = object.flags.with(self.arena.flags(args));
                self.arena.object(What::Result, callee, args, flags)
            }
            What::Module | What::Code | What::File | What::Persistent if object.flags == Flags::NONE => Id::UNKNOWN,
            _ => self.unresolved(callee, args, "the result of a call is called"),
        }
    }

    /// A callee that cannot be told.
    pub(super) fn unresolved(&mut self, callee: Id, args: Id, text: &str) -> Id {
        let plain_instance = self.arena.as_object(callee).is_some_and(|object| {
            matches!(object.what, What::Result | What::Attr) && !object.flags.has(Flags::DANGEROUS.with(Flags::UNKNOWN))
        });
        // Calling an instance of an unknown class with plain data is odd; everything else may be anything.
        let severity =
            if plain_instance && self.worst_look(args).0 == Look::Plain { Severity::Medium } else { Severity::High };
        let mut finding = self.finding("SNS-102", severity, text);
        self.add_call(&mut finding, callee, args);
        self.context.report(finding);
        self.context.all_globals_safe = false;
        self.effects = true;
        Id::UNKNOWN
    }
<<<<<<< HEAD

    /// A function or class that no table knows, or that is listed without a judgement.
    fn call_unlisted(&mut self, callee: Id, index: u32, args: Id, new_object: bool) -> Id {
        self.context.all_globals_safe = false;
        let flags = self.arena.flags(args);
        let Some(global) = self.globals.get(index) else { return Id::UNKNOWN };
        let module = global.module.to_string();
        let path = global.path.to_string();
        let root = module.split('.').next().unwrap_or_default();
        let class = globals::is_class_name(&path);
        let (is_module, imitates, via) = (global.is_module, global.imitates.is_some(), global.via);
        let listed = global.rule.is_some();
        let old_instance = class && matches!(self.opcode, op::INST | op::OBJ) && self.arena.children(args).is_empty();
        if is_module {
            return Id::UNKNOWN;
        }
        if (new_object || old_instance) && !imitates && via == Via::Direct {
            self.unknown_class(callee, index, args, class);
            return self.arena.object(What::Result, callee, args, flags.of_instance());
        }
        let (look, text) = self.worst_look(args);
        self.look_at_bytes(args);
        let stdlib = globals::is_stdlib(root);
        let rebuild = globals::is_rebuild_name(&path);
        let exception = class && ["Error", "Exception", "Warning"].iter().any(|end| path.ends_with(end));
        let active = payload::is_active_name(&path);
        let severity = if flags.has(Flags::DANGEROUS) || imitates {
            Severity::High
        } else if flags.has(Flags::FUNCTION)
            && !class
            && !module.starts_with("cloudpickle")
            && !module.starts_with("dill")
        {
            Severity::High
        } else if exception {
            Severity::Low
        } else {
            match look {
                Look::Command | Look::Code | Look::Url if class && listed => Severity::Medium,
                Look::Command | Look::Code | Look::Url | Look::Host | Look::Name => Severity::High,
                Look::Path | Look::Encoded if class => Severity::Medium,
                Look::Path => Severity::High,
                Look::Encoded => Severity::Medium,
                Look::Plain if listed && !active => Severity::Low,
                Look::Plain if rebuild => Severity::Low,
                Look::Plain if via != Via::Direct => Severity::Medium,
                Look::Plain if root == "__main__" => Severity::Medium,
                Look::Plain if stdlib => Severity::Medium,
                Look::Plain if class && !active => Severity::Low,
                Look::Plain if active => Severity::Medium,
                Look::Plain if flags.has(Flags::CALLABLE.with(Flags::UNKNOWN)) => Severity::Medium,
                Look::Plain if globals::is_known_module(root) && !self.arena.children(args).is_empty() => Severity::Low,
                Look::Plain => Severity::Low,
            }
        };
        let what = if class { "class" } else { "function" };
        let title = match look {
            Look::Plain => format!("unknown {what} {} is called", self.name_of(callee)),
            _ => format!("unknown {what} {} is called with {}", self.name_of(callee), look.phrase()),
        };
        let mut finding = self.finding("SNS-103", severity, title);
        self.add_call(&mut finding, callee, args);
        if let Some(text) = text {
            finding.evidence.insert("payload", Evidence::Text(text));
        }
        self.settle(index, finding);
        let flags = if severity >= Severity::High { flags.with(Flags::UNKNOWN) } else { flags.of_instance() };
        self.arena.object(What::Result, callee, args, flags)
    }

    /// A class of which an instance is made without its constructor.
    fn unknown_class(&mut self, callee: Id, index: u32, args: Id, class: bool) {
        let flags = self.arena.flags(args);
        let (severity, text) = if flags.has(Flags::DANGEROUS) {
            (Severity::High, "is made with a dangerous callable")
        } else if class {
            (Severity::Info, "is not known: loading needs it installed")
        } else {
            (Severity::Low, "is not known and not named like a class")
        };
        let settled = self.globals.get(index).is_some_and(|global| global.settled);
        if settled && severity < Severity::High {
            return;
        }
        let mut finding = self.finding("SNS-112", severity, format!("class {} {text}", self.name_of(callee)));
        if severity >= Severity::High {
            self.add_call(&mut finding, callee, args);
        } else {
            finding.evidence.insert("class", Evidence::Text(self.name_of(callee)));
        }
        self.settle(index, finding);
    }

    /// A listed class that is given something it has no use for.
    fn check_unlisted_arguments(&mut self, callee: Id, args: Id) {
        let only_text = self
            .arena
            .children(args)
            .iter()
            .any(|&arg| matches!(self.arena.node(arg), Some(Node::Text { .. } | Node::Owned { .. })));
        if !only_text {
            return;
        }
        let (look, text) = self.worst_look(args);
        if !matches!(look, Look::Command | Look::Code | Look::Url | Look::Name) {
            return;
        }
        let path = self.name_of(callee);
        if ["Error", "Exception", "Warning"].iter().any(|end| path.ends_with(end)) {
            return;
        }
        let mut finding = self.finding("SNS-103", Severity::Medium, format!("{path} is called with {}", look.phrase()));
        self.add_call(&mut finding, callee, args);
        if let Some(text) = text {
            finding.evidence.insert("payload", Evidence::Text(text));
        }
        self.context.report(finding);
    }

    /// A dangerous callable is handed to something harmless that keeps it.
    pub(super) fn report_stored(&mut self, keeper: Id, value: Id) {
        let text = format!("a dangerous callable is kept in {}", self.describe(keeper));
        let mut finding = self.finding("SNS-115", Severity::High, text);
        finding.evidence.insert("value", Evidence::Text(self.describe(value)));
        self.context.report(finding);
        self.effects = true;
    }

    /// SNS-101: the effect of a listed callable.
    pub(super) fn report_effect(&mut self, callee: Id, index: u32, rule: &'static Rule, args: Id) {
        let severity = match rule.called {
            Level::Dangerous => Severity::Critical,
            _ if self.arena.flags(args).has(Flags::DANGEROUS.with(Flags::FUNCTION)) => Severity::High,
            _ => Severity::Medium,
        };
        self.report_effect_as(callee, index, rule, args, severity, rule.effect);
    }

    pub(super) fn report_effect_as(
        &mut self,
        callee: Id,
        index: u32,
        rule: &'static Rule,
        args: Id,
        severity: Severity,
        effect: Effect,
    ) {
        let id = if effect == Effect::Deserialise { "SNS-110" } else { "SNS-101" };
        let mut finding =
            self.finding(id, severity, format!("{} is called: {}", self.name_of(callee), effect.phrase()));
        self.add_call(&mut finding, callee, args);
        finding.evidence.insert("effect", Evidence::Text(effect.name().to_owned()));
        finding.evidence.insert("reason", Evidence::Text(rule.reason.to_owned()));
        self.settle(index, finding);
    }

    pub(super) fn settle(&mut self, index: u32, finding: Finding) {
        self.effects |= finding.severity >= Severity::Medium;
        self.context.report(finding);
        self.settle_quietly(index);
    }

    pub(super) fn settle_quietly(&mut self, index: u32) {
        if let Some(global) = self.globals.get_mut(index) {
            global.settled = true;
        }
    }

    pub(super) fn add_call(&self, finding: &mut Finding, callee: Id, args: Id) {
        finding.evidence.insert("callee", Evidence::Text(self.describe(callee)));
        if let Some(global) = self.arena.as_global(callee).and_then(|index| self.globals.get(index)) {
            let written = format!("{}.{}", global.written.0, global.written.1);
            if written != global.name() {
                finding.evidence.insert("written", Evidence::Text(written));
            }
        }
        finding.evidence.insert("arguments", Evidence::Text(self.describe(args)));
    }

    pub(super) fn name_of(&self, callee: Id) -> String {
        self.describe(callee)
    }

    // --- Attributes, imports, classes -------------------------------------------------------------------------------

    fn get_attribute(&mut self, callee: Id, index: u32, args: Id) -> Id {
        self.settle_quietly(index);
        let (base, name) = match *self.arena.children(args) {
            [base, name] | [base, name, _] => (base, name),
            _ => return self.unresolved(callee, args, "an attribute access whose arguments cannot be resolved"),
        };
        let Some(name) = self.string_of(name) else {
            return self.unresolved(callee, args, "an attribute whose name is computed");
        };
        let module_base = self.arena.as_object(base).is_some_and(|object| object.what == What::Module)
            || self
                .arena
                .as_global(base)
                .and_then(|index| self.globals.get(index))
                .is_some_and(|global| global.is_module);
        let dunder = name.starts_with("__") && name.ends_with("__");
        let tainted = self.arena.flags(base).has(Flags::DANGEROUS);
        if module_base || dunder || tainted || base == Id::UNKNOWN || name.contains('.') {
            let severity = if base == Id::UNKNOWN || (dunder && name != "__init__" && name != "__new__") || tainted {
                Severity::High
            } else {
                Severity::Medium
            };
            let text = format!("attribute {name} of {} is reached while loading", self.describe(base));
            let mut finding = self.finding("SNS-105", severity, text);
            self.add_call(&mut finding, callee, args);
            self.context.report(finding);
        }
        self.walk(base, &name)
    }

    /// Follows a dotted path of attributes.
    fn walk(&mut self, base: Id, path: &str) -> Id {
        path.split('.').take(16).fold(base, |base, name| self.attribute(base, name))
    }

    /// Names of `attrgetter` and `methodcaller`: a path or a dunder name leads out of the object.
    fn check_attribute_names(&mut self, callee: Id, args: Id) -> Flags {
        let mut flags = Flags::NONE;
        for name in self.arena.children(args).to_vec().into_iter().take(16) {
            match self.string_of(name) {
                Some(name) if name.contains("__") || name.contains('.') => {
                    let severity = if name.contains("__") { Severity::High } else { Severity::Medium };
                    let text = format!("attribute {name} is reached by {}", self.name_of(callee));
                    let mut finding = self.finding("SNS-105", severity, text);
                    self.add_call(&mut finding, callee, args);
                    self.context.report(finding);
                    flags = flags.with(Flags::DANGEROUS);
                }
                Some(_) => {}
                None if self.arena.flags(name).has(Flags::UNKNOWN) => flags = flags.with(Flags::DANGEROUS),
                None => {}
            }
        }
        flags
    }

    fn import(&mut self, callee: Id, index: u32, rule: &'static Rule, args: Id) -> Id {
        let name = self.arena.children(args).first().copied();
        let Some(module) = name.and_then(|name| self.string_of(name)) else {
            return self.unresolved(callee, args, "a module whose name is computed is imported");
        };
        // cloudpickle writes the modules that a function uses; only what they are matters.
        let root = module.split('.').next().unwrap_or_default();
        let canonical = globals::canonical_module(&module).unwrap_or_else(|| module.clone());
        let harmful = globals::lookup(&canonical, "*").is_some_and(|(rule, _)| rule.imported == Level::Dangerous)
            || matches!(canonical.as_str(), "os" | "builtins" | "sys" | "importlib");
        let known = globals::is_known_module(root);
        let severity = match rule.called {
            Level::Dangerous => Severity::Critical,
            _ if harmful => Severity::High,
            _ if known => Severity::Low,
            _ => Severity::Medium,
        };
        self.report_effect_as(callee, index, rule, args, severity, Effect::Import);
        if severity == Severity::Medium {
            self.unknown_module.get_or_insert((self.at, self.opcode));
        }
        self.context.trace(&module, "");
        let text = self.arena.owned_text(Text::Str, module.into_bytes());
        let flags = if severity >= Severity::High { Flags::DANGEROUS } else { Flags::NONE };
        self.arena.object(What::Module, callee, text, flags)
    }

    /// A string that is turned into an object.
    fn resolve_text(&mut self, callee: Id, index: u32, rule: &'static Rule, args: Id) -> Id {
        let texts: Vec<Option<String>> =
            self.arena.children(args).to_vec().into_iter().take(4).map(|arg| self.string_of(arg)).collect();
        self.report_effect(callee, index, rule, args);
        match texts.iter().flatten().next() {
            Some(text) => {
                let (module, name) = text.split_once(':').or_else(|| text.rsplit_once('.')).unwrap_or((text, ""));
                let (module, name) = (module.to_owned(), name.to_owned());
                if name.is_empty() {
                    let text = self.arena.owned_text(Text::Str, module.into_bytes());
                    self.arena.object(What::Module, callee, text, Flags::DANGEROUS)
                } else {
                    self.global_by_name(&module, &name)
                }
            }
            None => Id::UNKNOWN,
        }
    }

    fn make_class(&mut self, callee: Id, args: Id) -> Option<Id> {
        let children = self.arena.children(args).to_vec();
        let [.., namespace] = children.as_slice() else { return Some(Id::UNKNOWN) };
        if children.len() < 3 {
            // `type(x)`: the class of a value.
            let flags = self.arena.flags(args);
            return Some(self.arena.object(What::Attr, callee, args, flags));
        }
        let flags = self.arena.flags(*namespace);
        let severity = if flags.has(Flags::DANGEROUS.with(Flags::UNKNOWN).with(Flags::FUNCTION)) {
            Severity::Critical
        } else if flags.has(Flags::CALLABLE) {
            Severity::High
        } else {
            Severity::Medium
        };
        let text = "a class is made while loading; later opcodes call its methods";
        let mut finding = self.finding("SNS-107", severity, text);
        self.add_call(&mut finding, callee, args);
        self.context.report(finding);
        self.context.all_globals_safe = false;
        self.effects = true;
        Some(self.arena.object(What::Class, callee, args, flags))
    }

    // --- Files ------------------------------------------------------------------------------------------------------

    fn open(&mut self, callee: Id, index: u32, rule: &'static Rule, args: Id) -> Id {
        let mut texts = Vec::new();
        for arg in self.arena.children(args).to_vec().into_iter().take(8) {
            match self.arena.node(arg) {
                // Keyword arguments of NEWOBJ_EX, or the tuple in front of them.
                Some(Node::Tuple { .. } | Node::Box { .. }) => {
                    let inner = self.arena.children(arg).to_vec();
                    texts.extend(inner.into_iter().take(8).map(|inner| self.string_of(inner)));
                }
                _ => texts.push(self.string_of(arg)),
            }
        }
        let modes: Vec<&String> = texts.iter().skip(1).flatten().collect();
        let is_mode = |text: &String| text.len() <= 8 && text.bytes().all(|b| b"rwaxbtU+:|*gz2xz".contains(&b));
        let writes = modes.iter().any(|mode| is_mode(mode) && mode.bytes().any(|b| b"wax+".contains(&b)));
        let reads = texts.len() == 1 || modes.iter().any(|mode| is_mode(mode));
        let unknown = texts.iter().any(Option::is_none) && !writes && modes.is_empty() && texts.len() > 1;
        let url =
            texts.first().and_then(Option::as_ref).is_some_and(|path| payload::look(path.as_bytes()) == Look::Url);
        let (severity, effect) = if writes || unknown || (!reads && texts.len() != 1) {
            (Severity::Critical, Effect::FileWrite)
        } else if url {
            (Severity::Critical, Effect::Network)
        } else {
            (Severity::Medium, Effect::FileRead)
        };
        self.report_effect_as(callee, index, rule, args, severity, effect);
        self.arena.object(What::Result, callee, args, Flags::UNKNOWN)
    }

    fn read_path(&mut self, callee: Id, index: u32, rule: &'static Rule, args: Id) -> Id {
        let (look, _) = self.worst_look(args);
        let (severity, effect) = match look {
            Look::Url | Look::Host => (Severity::Critical, Effect::Network),
            Look::Command | Look::Code => (Severity::High, rule.effect),
            _ => (Severity::Medium, rule.effect),
        };
        self.report_effect_as(callee, index, rule, args, severity, effect);
        let flags = self.arena.flags(args);
        self.arena.object(What::Result, callee, args, flags)
    }

    // --- Looking at values ------------------------------------------------------------------------------------------

    /// The worst look of any text in a value, and that text.
    pub(super) fn worst_look(&mut self, value: Id) -> (Look, Option<String>) {
        let mut worst = (Look::Plain, None);
        let mut queue = vec![value];
        let mut seen = 0;
        while let Some(value) = queue.pop() {
            seen += 1;
            if seen > LOOK_VALUES_MAX {
                break;
            }
            match self.arena.node(value) {
                Some(Node::Text { .. } | Node::Owned { .. }) => {
                    let Some(bytes) = self.text_up_to(value, LOOK_BYTES_MAX) else { continue };
                    let look = payload::look(&bytes);
                    if look > worst.0 {
                        worst = (look, Some(cut(&bytes)));
                    }
                }
                Some(Node::Tuple { .. } | Node::Box { .. }) => {
                    queue.extend(self.arena.children(value).iter().take(64).copied());
                }
                Some(Node::Object { .. }) => {
                    if let Some(object) = self.arena.as_object(value).filter(|object| object.what == What::Result) {
                        queue.push(object.args);
                    }
                }
                _ => {}
            }
        }
        worst
    }

    /// Text of a value, whole (up to [`NAME_BYTES_MAX`] bytes); `None` where it is no constant text.
    pub(super) fn text_of(&mut self, value: Id) -> Option<Vec<u8>> {
        match self.arena.node(value)? {
            Node::Text { len, .. } if len as usize > NAME_BYTES_MAX => None,
            _ => self.text_up_to(value, NAME_BYTES_MAX),
        }
    }

    pub(super) fn string_of(&mut self, value: Id) -> Option<String> {
        self.text_of(value).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The first bytes of a constant text.
    pub(super) fn text_up_to(&mut self, value: Id, max: usize) -> Option<Vec<u8>> {
        match self.arena.node(value)? {
            Node::Text { text, len, start } => {
                let range = super::cursor::Range { start, len: u64::from(len) };
                let bytes = self.cursor.bytes(range, max);
                Some(if text == Text::BytesAsUtf8 { super::fold::latin1(&bytes) } else { bytes })
            }
            Node::Owned { index, .. } => {
                let bytes = self.arena.owned(index);
                Some(bytes.get(..max.min(bytes.len())).unwrap_or_default().to_vec())
            }
            _ => None,
        }
    }

    /// A value for a person, cut.
    pub(super) fn describe(&self, value: Id) -> String {
        let mut out = String::new();
        self.describe_into(value, 0, &mut out);
        out
    }

    fn describe_into(&self, value: Id, depth: u32, out: &mut String) {
        if out.len() > DESCRIBE_CHARS_MAX {
            if !out.ends_with('…') {
                out.push('…');
            }
            return;
        }
        match self.arena.node(value) {
            None => out.push_str(&match value {
                Id::NONE => "None".to_owned(),
                Id::TRUE => "True".to_owned(),
                Id::FALSE => "False".to_owned(),
                Id::DATA => "data".to_owned(),
                Id::BUFFER => "buffer".to_owned(),
                other => other.as_int().map_or_else(|| "?".to_owned(), |int| int.to_string()),
            }),
            Some(Node::Text { len, start, .. }) => {
                let range = super::cursor::Range { start, len: u64::from(len) };
                let bytes = self.cursor.bytes_apart(range, DESCRIBE_CHARS_MAX);
                out.push_str(&format!("{:?}", String::from_utf8_lossy(&bytes)));
            }
            Some(Node::Owned { index, .. }) => {
                let bytes = self.arena.owned(index);
                let bytes = bytes.get(..DESCRIBE_CHARS_MAX.min(bytes.len())).unwrap_or_default();
                out.push_str(&format!("{:?}", String::from_utf8_lossy(bytes)));
            }
            Some(Node::Global { index }) => match self.globals.get(index) {
                Some(global) => out.push_str(&global.name()),
                None => out.push('?'),
            },
            Some(Node::Tuple { .. } | Node::Box { .. }) => {
                let (open, close) = match self.arena.shared(value) {
                    None => ('(', ')'),
                    Some((Kind::List, _)) => ('[', ']'),
                    Some(_) => ('{', '}'),
                };
                out.push(open);
                if depth < 4 {
                    for (n, &child) in self.arena.children(value).iter().take(16).enumerate() {
                        if n > 0 {
                            out.push_str(", ");
                        }
                        self.describe_into(child, depth + 1, out);
                    }
                } else {
                    out.push('…');
                }
                out.push(close);
            }
            Some(Node::Object { .. }) => match self.arena.as_object(value) {
                Some(object) if depth < 4 => {
                    match object.what {
                        What::Module => out.push_str("module "),
                        What::Function => out.push_str("function "),
                        What::Code => out.push_str("code "),
                        What::Class => out.push_str("class "),
                        What::Persistent => out.push_str("persistent "),
                        What::Result if object.callee != Id::NONE => self.describe_into(object.callee, depth + 1, out),
                        What::Attr if object.callee != Id::NONE => {
                            self.describe_into(object.callee, depth + 1, out);
                            out.push('.');
                        }
                        What::Partial => {
                            out.push_str("partial ");
                            self.describe_into(object.callee, depth + 1, out);
                        }
                        What::AttrGetter => out.push_str("attrgetter"),
                        What::MethodCaller => out.push_str("methodcaller"),
                        _ => {}
                    }
                    self.describe_into(object.args, depth + 1, out);
                }
                _ => out.push('…'),
            },
        }
    }
}

/// The start of a text for evidence.
fn cut(bytes: &[u8]) -> String {
    let kept = bytes.get(..DESCRIBE_CHARS_MAX.min(bytes.len())).unwrap_or_default();
    String::from_utf8_lossy(kept).into_owned()
=======
>>>>>>> pickle
}
