//! Code objects and functions by value, as cloudpickle and dill write them: judged by the names they use.

use super::machine::Machine;
use super::value::{Flags, Id, What};
use crate::finding::{Evidence, Severity};
use crate::rule::globals::{self, Level, Rule};

/// Names in a code object that mean an effect wherever they are reached from.
const EFFECTS: &[&str] = &[
    "system",
    "popen",
    "Popen",
    "check_output",
    "check_call",
    "getoutput",
    "getstatusoutput",
    "spawnl",
    "spawnv",
    "execv",
    "execve",
    "execl",
    "execvp",
    "fork",
    "eval",
    "exec",
    "__import__",
    "import_module",
    "socket",
    "create_connection",
    "urlopen",
    "urlretrieve",
    "subprocess",
    "ctypes",
    "CDLL",
    "pty",
    "marshal",
    "rmtree",
    "unlink",
    "remove",
    "putenv",
    "b64decode",
    "__subclasses__",
    "__globals__",
    "__builtins__",
    "startfile",
    "posix_spawn",
    "run_module",
    "run_path",
];
/// Names that are ordinary in functions, but worth a look.
const ODD: &[&str] =
    &["os", "sys", "open", "compile", "getattr", "setattr", "globals", "requests", "pickle", "shutil", "importlib"];

/// Names and constants of a code object that are looked at.
const TEXTS_MAX: usize = 512;

impl Machine<'_, '_, '_> {
    /// `types.CodeType(...)`: the names are a tuple of strings among the arguments, wherever the version puts it.
    pub(super) fn make_code(&mut self, callee: Id, index: u32, rule: &'static Rule, args: Id) -> Id {
        let mut severity = self.code_severity(args);
        if rule.called == Level::Dangerous {
            severity.0 = severity.0.max(Severity::High);
        }
        let text = "a code object is made while loading";
        let mut finding = self.finding("SNS-111", severity.0, text);
        if !severity.1.is_empty() {
            finding.evidence.insert("names", Evidence::List(severity.1));
        }
        self.add_call(&mut finding, callee, args);
        finding.evidence.insert("reason", Evidence::Text(rule.reason.to_owned()));
        self.settle(index, finding);
        let flags = if severity.0 >= Severity::High { Flags::DANGEROUS } else { Flags::FUNCTION };
        self.arena.object(What::Code, callee, args, flags)
    }

    fn code_severity(&mut self, args: Id) -> (Severity, Vec<String>) {
        let mut worst = Severity::Low;
        let mut names = Vec::new();
        let mut queue = vec![args];
        let mut seen = 0;
        while let Some(value) = queue.pop() {
            seen += 1;
            if seen > TEXTS_MAX {
                break;
            }
            if let Some(text) = self.string_of(value) {
                if EFFECTS.contains(&text.as_str()) {
                    worst = Severity::High;
                    names.push(text);
                } else if ODD.contains(&text.as_str()) {
                    worst = worst.max(Severity::Medium);
                    names.push(text);
                } else if super::payload::look(text.as_bytes()) >= super::payload::Look::Code && !text.contains('/') {
                    worst = worst.max(Severity::Medium);
                }
            }
            queue.extend(self.arena.children(value).iter().take(128).copied());
        }
        names.truncate(16);
        (worst, names)
    }

    /// A function from a code object: low by itself, since it runs when it is used.
    pub(super) fn make_function(&mut self, callee: Id, index: u32, rule: &'static Rule, args: Id) -> Id {
        self.made_function = true;
        let code = self.arena.children(args).first().copied();
        let flags = self.flags_but_namespace(args);
        let by_value = code.and_then(|code| self.arena.as_object(code)).is_some_and(|code| code.what == What::Code);
        let severity = if flags.has(Flags::DANGEROUS) {
            Severity::High
        } else if !by_value {
            // The code comes from `marshal.loads` or from somewhere that cannot be seen.
            Severity::High
        } else if rule.called >= Level::Risky {
            Severity::Medium
        } else {
            Severity::Low
        };
        let mut finding = self.finding("SNS-111", severity, "a function is made from a code object while loading");
        self.add_call(&mut finding, callee, args);
        finding.evidence.insert("reason", Evidence::Text(rule.reason.to_owned()));
        self.settle(index, finding);
        let flags = if severity >= Severity::High { Flags::DANGEROUS } else { Flags::FUNCTION };
        self.arena.object(What::Function, callee, args, flags)
    }

    /// Flags of a function's parts. dill names the module that a function was defined in (`mynet.__dict__`), which is what
    /// `__globals__` will be: that leads nowhere but to the module's own names.
    fn flags_but_namespace(&mut self, args: Id) -> Flags {
        let parts = self.arena.children(args).to_vec();
        let own = |index: u32, machine: &Self| {
            machine.globals.get(index).is_some_and(|global| {
                let root = global.module.split('.').next().unwrap_or_default();
                &*global.path == "__dict__" && !globals::is_stdlib(root)
            })
        };
        let namespace = parts.get(1).and_then(|part| self.arena.as_global(*part)).filter(|index| own(*index, self));
        let Some(index) = namespace else { return self.arena.flags(args) };
        self.settle_quietly(index);
        let rest: Vec<Id> = parts.iter().enumerate().filter(|(place, _)| *place != 1).map(|(_, part)| *part).collect();
        self.flags_of(&rest)
    }
}
