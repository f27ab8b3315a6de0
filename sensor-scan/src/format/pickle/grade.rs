//! Callables that no table knows, graded by their names and by what they are given.

use super::describe::cut;
use super::machine::Machine;
use super::opcode as op;
use super::payload::{self, Look};
use super::resolve::Via;
use super::value::{Flags, Id, Node, Text, What};
use crate::finding::{Evidence, Severity};
use crate::rule::globals;

/// Values of an argument that are looked at for payloads.
const LOOK_VALUES_MAX: usize = 256;
/// Bytes of a text that are looked at.
const LOOK_BYTES_MAX: usize = 4096;

impl Machine<'_, '_, '_> {
    /// A function or class that no table knows, or that is listed without a judgement.
    pub(super) fn call_unlisted(&mut self, callee: Id, index: u32, args: Id, new_object: bool) -> Id {
        self.context.all_globals_safe = false;
        let flags = self.arena.flags(args);
        let Some(global) = self.globals.get(index) else { return Id::UNKNOWN };
        let module = global.module.to_string();
        let path = global.path.to_string();
        let root = module.split('.').next().unwrap_or_default();
        let class = globals::is_class_name(&path);
        let (is_module, imitates, via) =
            (global.is_module, global.imitates.is_some() && !global.written.0.is_ascii(), global.via);
        let listed = global.rule.is_some();
        let old_instance = class && matches!(self.opcode, op::INST | op::OBJ) && self.arena.children(args).is_empty();
        if is_module {
            return self.unresolved(callee, args, "a module is called: what its name really is cannot be told");
        }
        if (new_object || old_instance) && !imitates && via == Via::Direct {
            self.unknown_class(callee, index, args, class);
            return self.arena.object(What::Result, callee, args, flags.of_instance());
        }
        let (look, text) = self.worst_look(args);
        self.look_at_bytes(args);
        let stdlib = globals::is_stdlib(root);
        let rebuild = globals::is_rebuild_name(&path);
        let exception = class && is_exception(&path);
        let active = payload::is_active_name(&path);
        let tool = payload::is_tool_module(&module);
        // The makers that frameworks write are listed, or named and shaped like one: any other function of a package
        // that is known has no business in a model.
        // (`dKalmanFilter`: a class of Cython's for one type of number.)
        let last = path.rsplit('.').next().unwrap_or_default();
        let class_like = last.as_bytes().get(1).is_some_and(u8::is_ascii_uppercase);
        let foreign = !class_like && !rebuild && !listed && globals::is_known_root(root);
        let own_function = class || module.starts_with("cloudpickle") || module.starts_with("dill");
        let hands_on = flags.has(Flags::DANGEROUS) || (flags.has(Flags::FUNCTION) && !own_function);
        let severity = if hands_on || imitates {
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
                Look::Plain if root == "__main__" && self.arena.children(args).is_empty() => Severity::Medium,
                Look::Plain if class && !active => Severity::Low,
                Look::Plain if foreign && tool => Severity::High,
                Look::Plain if stdlib => Severity::Medium,
                Look::Plain if active && !class && self.has_text(args) => Severity::High,
                Look::Plain if active => Severity::Medium,
                Look::Plain if flags.has(Flags::CALLABLE.with(Flags::UNKNOWN)) => Severity::Medium,
                Look::Plain if foreign => Severity::Medium,
                Look::Plain => Severity::Low,
            }
        };
        let result = if severity >= Severity::High { flags.with(Flags::UNKNOWN) } else { flags.of_instance() };
        self.effects |= severity >= Severity::Medium;
        if self.context.only_counts("SNS-103", severity) {
            self.settle_quietly(index);
            return self.arena.object(What::Result, callee, args, result);
        }
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
        self.arena.object(What::Result, callee, args, result)
    }

    /// A pattern vouches for a package's data; a class that is named for what it does, and is told where, does it.
    pub(super) fn acts_when_made(&self, index: u32, args: Id) -> bool {
        const ENDS: &[&str] = &[
            "Writer",
            "Client",
            "Server",
            "Store",
            "Tracker",
            "Connection",
            "Socket",
            "Listener",
            "Process",
            "Executor",
            "Runner",
            "Launcher",
            "Thread",
            "Daemon",
        ];
        let named = self.globals.get(index).is_some_and(|global| ENDS.iter().any(|end| global.path.ends_with(end)));
        named && self.has_text(args)
    }

    pub(super) fn report_acting_class(&mut self, callee: Id, index: u32, args: Id) {
        self.context.all_globals_safe = false;
        let text = format!("{} is made, which opens or reaches what it is told", self.name_of(callee));
        let mut finding = self.finding("SNS-103", Severity::Medium, text);
        self.add_call(&mut finding, callee, args);
        self.settle(index, finding);
    }

    /// Is any argument a text? What is loaded, run or fetched is named by one.
    pub(super) fn has_text(&self, args: Id) -> bool {
        let is_text = |id: &Id| match self.arena.node(*id) {
            Some(Node::Text { text, len, .. }) => text == Text::Str && len > 0,
            Some(Node::Owned { text, .. }) => text == Text::Str,
            _ => false,
        };
        self.arena.children(args).iter().any(is_text)
    }

    /// A class of which an instance is made without its constructor.
    pub(super) fn unknown_class(&mut self, callee: Id, index: u32, args: Id, class: bool) {
        let flags = self.arena.flags(args);
        let (severity, text) = if flags.has(Flags::DANGEROUS) {
            (Severity::High, "is made with a dangerous callable")
        } else if class {
            (Severity::Info, "is not known: loading needs it installed")
        } else {
            (Severity::Low, "is not known and not named like a class")
        };
        let settled = self.globals.get(index).is_some_and(|global| global.settled);
        if (settled && severity < Severity::High) || self.context.only_counts("SNS-112", severity) {
            return self.settle_quietly(index);
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
    pub(super) fn check_unlisted_arguments(&mut self, callee: Id, args: Id) {
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
        if is_exception(&path) {
            return;
        }
        let mut finding = self.finding("SNS-103", Severity::Medium, format!("{path} is called with {}", look.phrase()));
        self.add_call(&mut finding, callee, args);
        if let Some(text) = text {
            finding.evidence.insert("payload", Evidence::Text(text));
        }
        self.context.report(finding);
    }

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
}

/// An exception by its name: a value, whatever its text says.
pub fn is_exception(name: &str) -> bool {
    ["Error", "Exception", "Warning", "Err", "Timeout", "Interrupt"].iter().any(|end| name.ends_with(end))
}
