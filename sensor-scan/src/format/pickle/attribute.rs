//! Callables that reach objects by name, and those that make or change classes.

use super::machine::Machine;
use super::resolve::Via;
use super::value::{Flags, Id, Text, What};
use crate::finding::Severity;
use crate::rule::globals::{self, Effect, Level, Rule};

impl Machine<'_, '_, '_> {
    pub(super) fn get_attribute(&mut self, callee: Id, index: u32, args: Id) -> Id {
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
        // How an enumeration's `__new__` is pickled, and protocols 2 and 3 call one with keywords.
        let constructor = matches!(name.as_str(), "__new__" | "__init__")
            && self.arena.as_global(base).and_then(|index| self.globals.get(index)).is_some_and(|base| {
                let plain = match base.rule {
                    Some(rule) => rule.imported == Level::Safe,
                    None => base.is_class() && base.imitates.is_none(),
                };
                base.via == Via::Direct && plain
            });
        let dunder = dunder && !constructor;
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
    pub(super) fn walk(&mut self, base: Id, path: &str) -> Id {
        path.split('.').take(16).fold(base, |base, name| self.attribute(base, name))
    }

    /// Names of `attrgetter` and `methodcaller`: a path or a dunder name leads out of the object.
    pub(super) fn check_attribute_names(&mut self, callee: Id, args: Id) -> Flags {
        let mut flags = Flags::NONE;
        for name in self.arena.children(args).to_vec().into_iter().take(16) {
            match self.string_of(name) {
                Some(name) if name.contains("__") || name.contains('.') => {
                    let severity = if name.contains("__") { Severity::High } else { Severity::Low };
                    let text = format!("attribute {name} is reached by {}", self.name_of(callee));
                    let mut finding = self.finding("SNS-105", severity, text);
                    self.add_call(&mut finding, callee, args);
                    self.context.report(finding);
                    if severity >= Severity::High {
                        flags = flags.with(Flags::DANGEROUS);
                    }
                }
                Some(_) => {}
                None if self.arena.flags(name).has(Flags::UNKNOWN) => flags = flags.with(Flags::DANGEROUS),
                None => {}
            }
        }
        flags
    }

    pub(super) fn import(&mut self, callee: Id, index: u32, rule: &'static Rule, args: Id) -> Id {
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
        // `os.system` instead of a module: dill resolves it.
        let mut parent = canonical.as_str();
        let mut harmful = harmful;
        while let Some((shorter, last)) = parent.rsplit_once('.') {
            harmful |= globals::lookup(shorter, last).is_some_and(|(rule, _)| rule.called == Level::Dangerous);
            parent = shorter;
        }
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
        if let Some((parent, name)) = module.rsplit_once('.')
            && !globals::is_known_module(&module)
            && globals::is_known_module(parent)
        {
            return self.global_by_name(parent, name);
        }
        let text = self.arena.owned_text(Text::Str, module.into_bytes());
        let flags = if severity >= Severity::High { Flags::DANGEROUS } else { Flags::NONE };
        self.arena.object(What::Module, callee, text, flags)
    }

    /// A string that is turned into an object.
    pub(super) fn resolve_text(&mut self, callee: Id, index: u32, rule: &'static Rule, args: Id) -> Id {
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

    /// A module and a name that are turned into an object: judged by what they name.
    pub(super) fn resolve_pair(&mut self, callee: Id, index: u32, rule: &'static Rule, args: Id) -> Id {
        let texts: Vec<Option<String>> =
            self.arena.children(args).to_vec().into_iter().take(2).map(|arg| self.string_of(arg)).collect();
        let [Some(module), Some(name)] = texts.as_slice() else {
            return self.unresolved(callee, args, "an object whose name is computed");
        };
        let target = self.global(module, name);
        let root = module.split('.').next().unwrap_or_default();
        let severity = if self.arena.flags(target).has(Flags::DANGEROUS) {
            Severity::Critical
        } else if globals::is_known_root(root) {
            Severity::Info
        } else {
            Severity::Medium
        };
        self.report_effect_as(callee, index, rule, args, severity, Effect::Import);
        target
    }

    pub(super) fn make_class(&mut self, callee: Id, args: Id) -> Option<Id> {
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

    /// A user's class by value: its methods run when it is used.
    pub(super) fn make_own_class(&mut self, callee: Id, index: u32, args: Id) -> Id {
        let flags = self.arena.flags(args);
        let severity = if flags.has(Flags::DANGEROUS) {
            Severity::Critical
        } else if flags.has(Flags::UNKNOWN) {
            Severity::Medium
        } else {
            Severity::Low
        };
        let mut finding = self.finding("SNS-111", severity, "a class is made by value while loading");
        self.add_call(&mut finding, callee, args);
        self.settle(index, finding);
        self.made_function = true;
        self.arena.object(What::Class, callee, args, flags.of_instance())
    }

    /// `setattr`: on an object that the stream made, with plain data, it is how dill finishes it.
    pub(super) fn set_attribute(&mut self, callee: Id, index: u32, rule: &'static Rule, args: Id) -> Option<Id> {
        let (target, value) = match *self.arena.children(args) {
            [target, _, value] => (target, value),
            _ => (Id::UNKNOWN, Id::UNKNOWN),
        };
        let own = self.arena.as_object(target).is_some_and(|object| {
            matches!(object.what, What::Class | What::Function | What::Result)
                && !object.flags.has(Flags::DANGEROUS.with(Flags::UNKNOWN))
        });
        if !own || self.arena.flags(value).has(Flags::DANGEROUS.with(Flags::UNKNOWN)) {
            self.report_effect_as(callee, index, rule, args, Severity::Critical, rule.effect);
            return Some(Id::NONE);
        }
        let mut finding = self.finding("SNS-106", Severity::Low, "an attribute of an object by value is set");
        self.add_call(&mut finding, callee, args);
        self.settle(index, finding);
        Some(Id::NONE)
    }
}
