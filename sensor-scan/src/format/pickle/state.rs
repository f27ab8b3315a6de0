//! Mutation: BUILD, items and elements, on whatever object they hit.

use super::cursor::Break;
use super::machine::Machine;
use super::value::{Flags, Id, Node, What};
use crate::finding::{Evidence, Severity};
use crate::rule::globals::Does;

impl Machine<'_, '_, '_> {
    /// BUILD: `__setstate__`, or attributes by `__dict__` and `setattr`.
    pub(super) fn build(&mut self, target: Id, state: Id) -> Result<(), Break> {
        let flags = self.arena.flags(state);
        match self.arena.node(target) {
            Some(Node::Global { .. }) => self.report_changed(target, state, "attributes of a global are set"),
            Some(Node::Object { .. }) => {
                let Some(object) = self.arena.as_object(target).copied() else { return Ok(()) };
                match object.what {
                    What::Module => self.report_changed(target, state, "attributes of a module are set"),
                    What::Class => self.report_changed(target, state, "attributes of a class are set"),
                    What::Partial => self.build_partial(target, state),
                    What::Persistent | What::Attr if flags.has(Flags::DANGEROUS) => self.report_stored(target, state),
                    What::Result => {
                        if flags.has(Flags::DANGEROUS) {
                            self.report_stored(target, state);
                        }
                        self.look_at_state(&object, state);
                        if self.is_wrapped_array(&object) {
                            self.mark_state(target, state, flags);
                            return self.array(state);
                        }
                    }
                    _ => {}
                }
                self.mark_state(target, state, flags);
            }
            _ if target == Id::UNKNOWN => {
                let text = "state is set on something that cannot be resolved";
                let severity = if flags.has(Flags::DANGEROUS) { Severity::High } else { Severity::Low };
                let mut finding = self.finding("SNS-106", severity, text);
                finding.evidence.insert("state", Evidence::Text(self.describe(state)));
                self.context.report(finding);
            }
            _ => {}
        }
        Ok(())
    }

    fn mark_state(&mut self, target: Id, state: Id, flags: Flags) {
        if let Some(object) = self.arena.as_object_mut(target) {
            object.state = state;
            object.flags = object.flags.with(flags.of_instance());
        }
    }

    /// `partial.__setstate__((function, args, keywords, namespace))`.
    fn build_partial(&mut self, target: Id, state: Id) {
        let (function, args) = match *self.arena.children(state) {
            [function, args, ..] => (function, args),
            _ => return,
        };
        if self.arena.flags(state).has(Flags::DANGEROUS) {
            self.invoke(function, args, 1);
        }
        if let Some(object) = self.arena.as_object_mut(target) {
            object.callee = function;
            object.args = args;
        }
    }

    fn report_changed(&mut self, target: Id, state: Id, text: &str) {
        let mut finding = self.finding("SNS-106", Severity::High, format!("{text}: {}", self.describe(target)));
        finding.evidence.insert("target", Evidence::Text(self.describe(target)));
        finding.evidence.insert("state", Evidence::Text(self.describe(state)));
        self.context.report(finding);
        self.context.all_globals_safe = false;
        self.effects = true;
    }

    /// SETITEM, SETITEMS: keys and values in turn.
    pub(super) fn set_items(&mut self, target: Id, items: &[Id]) {
        if target == Id::LOST {
            return self.change_lost(items);
        }
        if self.stream.dialect.persistent_ids_are_legal() {
            self.check_item_target(target);
        }
        match self.arena.extend(target, items) {
            Some(late) => {
                if late {
                    self.report_late(target, items);
                }
                self.check_size(target);
                self.check_keys(items);
            }
            None => self.change_object(target, items, "items are set on"),
        }
    }

    /// APPEND, APPENDS, ADDITEMS.
    pub(super) fn append(&mut self, target: Id, items: &[Id]) {
        if target == Id::LOST {
            return self.change_lost(items);
        }
        match self.arena.extend(target, items) {
            Some(late) => {
                if late {
                    self.report_late(target, items);
                }
                self.check_size(target);
            }
            None => self.change_object(target, items, "elements are added to"),
        }
    }

    /// A container that was forgotten gets elements: plain data changes nothing.
    fn change_lost(&mut self, items: &[Id]) {
        if self.flags_of(items) != Flags::NONE {
            self.lost_matters();
        }
    }

    /// Keys that are hashed run `__hash__` of what the stream made; the classes themselves are reported where they are
    /// made.
    fn check_keys(&mut self, items: &[Id]) {
        let Some(&key) = items.iter().step_by(2).find(|&&key| {
            self.arena.as_object(key).is_some_and(|object| {
                self.arena.as_object(object.callee).is_some_and(|class| class.what == What::Class)
            })
        }) else {
            return;
        };
        let text = format!("a key's hash is computed by a class that the stream made: {}", self.describe(key));
        let finding = self.finding("SNS-107", Severity::Medium, text);
        self.context.report(finding);
    }

    fn change_object(&mut self, target: Id, items: &[Id], what: &str) {
        let flags = self.flags_of(items);
        let severity = match self.arena.node(target) {
            Some(Node::Global { .. }) => Some(Severity::Critical),
            Some(Node::Object { .. }) => {
                let object = self.arena.as_object(target).copied();
                let dangerous = flags.has(Flags::DANGEROUS);
                if let Some(object) = self.arena.as_object_mut(target) {
                    object.flags = object.flags.with(flags.of_instance());
                }
                match object.map(|object| object.what) {
                    Some(What::Module | What::Class | What::Function | What::Partial) => Some(Severity::High),
                    Some(What::Result) if dangerous => Some(Severity::High),
                    Some(What::Result) => self.tainted_result(object.map_or(Id::NONE, |object| object.callee)),
                    Some(_) if dangerous => Some(Severity::High),
                    _ => None,
                }
            }
            _ if target == Id::UNKNOWN => {
                Some(if flags.has(Flags::DANGEROUS.with(Flags::UNKNOWN)) { Severity::High } else { Severity::Medium })
            }
            _ => None,
        };
        let Some(severity) = severity else { return };
        let mut finding = self.finding("SNS-106", severity, format!("{what} {}", self.describe(target)));
        finding.evidence.insert("target", Evidence::Text(self.describe(target)));
        let shown: Vec<String> = items.iter().take(8).map(|&item| self.describe(item)).collect();
        finding.evidence.insert("items", Evidence::List(shown));
        self.context.report(finding);
        self.context.all_globals_safe = false;
        self.effects = true;
    }

    /// The result of a dangerous call, or an instance of a class that the stream made.
    fn tainted_result(&self, callee: Id) -> Option<Severity> {
        if self.arena.as_object(callee).is_some_and(|class| class.what == What::Class) {
            return Some(Severity::High);
        }
        let rule =
            self.arena.as_global(callee).and_then(|index| self.globals.get(index)).and_then(|global| global.rule)?;
        (rule.called >= crate::rule::globals::Level::Risky || rule.does == Does::GetAttribute)
            .then_some(Severity::Medium)
    }

    fn report_late(&mut self, target: Id, items: &[Id]) {
        let text = "a dangerous callable is put into an object that others hold already";
        let mut finding = self.finding("SNS-115", Severity::High, text);
        finding.evidence.insert("target", Evidence::Text(self.describe(target)));
        let shown: Vec<String> = items.iter().take(8).map(|&item| self.describe(item)).collect();
        finding.evidence.insert("items", Evidence::List(shown));
        self.context.report(finding);
        self.effects = true;
    }
}
