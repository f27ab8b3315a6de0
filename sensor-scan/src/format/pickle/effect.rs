//! Findings about effects, and the callables whose arguments decide which effect it is.

use super::machine::Machine;
use super::payload::{self, Look};
use super::value::{Flags, Id, Node, What};
use crate::finding::{Evidence, Finding, Severity};
use crate::rule::globals::{Effect, Level, Rule};

impl Machine<'_, '_, '_> {
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
        if self.context.only_counts(id, severity) {
            return self.settle_quietly(index);
        }
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

    pub(super) fn open(&mut self, callee: Id, index: u32, rule: &'static Rule, args: Id) -> Id {
        let mut texts = Vec::new();
        for arg in self.arena.children(args).to_vec().into_iter().take(8) {
            match self.arena.node(arg) {
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

    pub(super) fn read_path(&mut self, callee: Id, index: u32, rule: &'static Rule, args: Id) -> Id {
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
}
