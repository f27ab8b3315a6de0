//! Calls: what is called with what, and what comes of it.

use super::grade::is_exception;
use super::machine::Machine;
use super::opcode as op;
use super::payload::Look;
use super::resolve::Via;
use super::value::{Flags, Id, Kind, Node, What};
use crate::finding::Severity;
use crate::rule::globals::{self, Does, Effect, Level, Rule};

/// Callables that call callables: deeper chains are judged as unresolved.
const CHAIN_MAX: u32 = 24;

impl Machine<'_, '_, '_> {
    /// A call by any opcode; gives the result.
    pub(super) fn call(&mut self, callee: Id, args: Id, kwargs: Id) -> Id {
        let args = if kwargs == Id::NONE { args } else { self.with_keywords(args, kwargs) };
        self.invoke(callee, args, 0)
    }

    /// The values of keyword arguments behind the others: which one a name stands for is not known here.
    fn with_keywords(&mut self, args: Id, kwargs: Id) -> Id {
        let mut all = match self.arena.node(args) {
            Some(Node::Tuple { .. } | Node::Box { .. }) => self.arena.children(args).to_vec(),
            _ => vec![args],
        };
        match self.arena.shared(kwargs) {
            Some((Kind::Dict, _)) => all.extend(self.arena.children(kwargs).chunks(2).filter_map(|pair| pair.last())),
            _ => all.push(kwargs),
        }
        self.arena.tuple(&all)
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
            _ if callee == Id::LOST => {
                self.lost_matters();
                Id::UNKNOWN
            }
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
            && (exact || new_object || !self.acts_when_made(index, args))
        {
            if flags.has(Flags::DANGEROUS) {
                self.report_stored(callee, args);
            } else if !exact && !new_object {
                self.check_unlisted_arguments(callee, args);
            }
            if self.stream.dialect.persistent_ids_are_legal() {
                self.check_rebuilt(index, args);
            }
            return self.arena.object(What::Result, callee, args, flags.of_instance());
        }
        if args == Id::LOST || self.arena.children(args).contains(&Id::LOST) {
            // With what it is called decides, and that is gone.
            self.lost_matters();
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
                } else if self.acts_when_made(index, args) {
                    self.report_acting_class(callee, index, args);
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
            Does::Plain | Does::RunsAtImport => None,
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
            Does::ResolvePair => Some(self.resolve_pair(callee, index, rule, args)),
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
            Does::SetAttribute => self.set_attribute(callee, index, rule, args),
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
                const ALLOCATED_BYTES_ODD: u64 = 1 << 30;
                if self.largest(args).is_none_or(|size| size >= ALLOCATED_BYTES_ODD) {
                    self.report_206(format!("{} allocates what a huge argument says", self.name_of(callee)));
                }
                self.note_endless(callee, args);
                None
            }
            Does::Grows => {
                const FACTOR_ODD: u64 = 1 << 20;
                if self.largest(args).is_none_or(|factor| factor >= FACTOR_ODD) {
                    self.report_206(format!("{} computes with a huge argument", self.name_of(callee)));
                }
                None
            }
            Does::Consumes => {
                self.note_endless(callee, args);
                None
            }
            Does::Endless => None,
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

    /// Nothing but classes whose names the table vouches for: what makes a class of classes gets no more.
    fn classes_only(&self, args: Id) -> bool {
        let is_class = |value: Id| {
            let class = self.arena.as_global(value).and_then(|index| self.globals.get(index));
            class.is_some_and(|class| class.is_class() && class.rule.is_some_and(|rule| rule.imported == Level::Safe))
        };
        let args = self.arena.children(args);
        !args.is_empty()
            && args.iter().all(|&arg| {
                let bases = self.arena.children(arg);
                is_class(arg) || (!bases.is_empty() && bases.iter().all(|&base| is_class(base)))
            })
    }

    /// A callee that cannot be told.
    pub(super) fn unresolved(&mut self, callee: Id, args: Id, text: &str) -> Id {
        let plain_instance = self.arena.as_object(callee).is_some_and(|object| {
            matches!(object.what, What::Result | What::Attr) && !object.flags.has(Flags::DANGEROUS.with(Flags::UNKNOWN))
        });
        // Calling an instance of an unknown class with plain data is odd; everything else may be anything.
        // What a maker gave may be a class, which then makes its instance.
        let maker = self.arena.as_object(callee).and_then(|object| self.arena.as_global(object.callee));
        let made = maker
            .and_then(|index| self.globals.get(index))
            .is_some_and(|maker| maker.via == Via::Direct && globals::is_rebuild_name(&maker.path));
        let handed = self.arena.flags(args).has(Flags::DANGEROUS.with(Flags::FUNCTION));
        let severity = if plain_instance && !handed && self.worst_look(args).0 == Look::Plain {
            if made || self.classes_only(args) { Severity::Low } else { Severity::Medium }
        } else {
            Severity::High
        };
        self.context.all_globals_safe = false;
        self.effects |= severity >= Severity::Medium;
        if self.context.only_counts("SNS-102", severity) {
            return Id::UNKNOWN;
        }
        let mut finding = self.finding("SNS-102", severity, text);
        self.add_call(&mut finding, callee, args);
        self.context.report(finding);
        Id::UNKNOWN
    }
}
