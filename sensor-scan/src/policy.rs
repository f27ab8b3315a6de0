//! What the caller knows better than the table of Python names, and how strict he wants to be.

use crate::finding::Severity;
use crate::rule::globals::{Does, Effect, Level, Rule, matches};

/// The standard policy, for contexts that nobody gave one.
pub(crate) static STANDARD: Policy = Policy { strict: false, names: Vec::new() };

/// How one file is judged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// Low findings make a file suspicious, and so does a global that is not listed as safe in the use it is put to.
    pub strict: bool,
    names: Vec<Names>,
}

/// Python names that the caller judges himself; the table of the scanner is not asked about them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// `a.b` is that module; `a.b.**` is that package and everything below it.
    pub modules: Vec<String>,
    /// As in `rules/globals.toml`: exact, with `*` at either end, `<class>`, `<rebuild>`, or `*`.
    pub names: Vec<String>,
    pub level: Level,
}

impl Policy {
    /// The table, and nothing else.
    pub fn standard() -> Self {
        Self::default()
    }

    /// The table, and no benefit of the doubt.
    pub fn strict() -> Self {
        Self { strict: true, names: Vec::new() }
    }

    /// Adds names; among several that fit, the first added decides.
    pub fn judge(&mut self, names: Names) {
        self.names.push(names);
    }

    /// The mildest severity that makes a file suspicious.
    pub(crate) fn suspicious_from(&self) -> Severity {
        if self.strict { Severity::Low } else { Severity::Medium }
    }

    /// The caller's word on a resolved name; the flag says that it spells the name out.
    pub(crate) fn lookup(&self, module: &str, name: &str) -> Option<(&'static Rule, bool)> {
        self.names.iter().find_map(|names| {
            if !names.modules.iter().any(|pattern| is_in(module, pattern)) {
                return None;
            }
            let pattern = names.names.iter().find(|pattern| matches(pattern, name))?;
            Some((by_level(names.level), pattern == name))
        })
    }
}

fn is_in(module: &str, pattern: &str) -> bool {
    match pattern.strip_suffix(".**") {
        Some(package) => module.strip_prefix(package).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')),
        None => module == pattern,
    }
}

fn by_level(level: Level) -> &'static Rule {
    const fn rule(level: Level, effect: Effect) -> Rule {
        let (reason, source) = ("judged by the policy", "policy");
        Rule { imported: level, called: level, effect, does: Does::Plain, reason, source }
    }
    static SAFE: Rule = rule(Level::Safe, Effect::None);
    static UNKNOWN: Rule = rule(Level::Unknown, Effect::None);
    static RISKY: Rule = rule(Level::Risky, Effect::ExecCode);
    static DANGEROUS: Rule = rule(Level::Dangerous, Effect::ExecCode);
    match level {
        Level::Safe => &SAFE,
        Level::Unknown => &UNKNOWN,
        Level::Risky => &RISKY,
        Level::Dangerous => &DANGEROUS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::MemorySource;
    use crate::{Limits, Verdict, scan};

    /// `ours.build.run(5)`, protocol 0.
    const OURS: &[u8] = b"cours.build\nrun\n(I5\ntR.";
    const SYSTEM: &[u8] = b"cos\nsystem\n(S'id'\ntR.";

    fn verdict(bytes: &[u8], policy: &Policy) -> Verdict {
        scan(&MemorySource::new(bytes, b"m.pkl"), &Limits::default(), policy).verdict
    }

    fn with(module: &str, name: &str, level: Level) -> Policy {
        let mut policy = Policy::standard();
        policy.judge(Names { modules: vec![module.to_owned()], names: vec![name.to_owned()], level });
        policy
    }

    #[test]
    fn the_callers_word_comes_before_the_table() {
        assert_eq!(verdict(OURS, &Policy::standard()), Verdict::Suspicious);
        assert_eq!(verdict(OURS, &with("ours.build", "run", Level::Safe)), Verdict::Clean);
        assert_eq!(verdict(OURS, &with("ours.**", "*", Level::Safe)), Verdict::Clean);
        assert_eq!(verdict(OURS, &with("our.**", "*", Level::Safe)), Verdict::Suspicious, "a package, not a prefix");
        assert_eq!(verdict(OURS, &with("ours", "*", Level::Safe)), Verdict::Suspicious, "that module alone");
        assert_eq!(verdict(OURS, &with("ours.**", "run", Level::Dangerous)), Verdict::Malicious);
        assert_eq!(verdict(SYSTEM, &with("ours.**", "*", Level::Safe)), Verdict::Malicious);
    }

    #[test]
    fn strict_gives_no_benefit_of_the_doubt() {
        // An instance of an unknown class: a note by default.
        let unknown: &[u8] = b"\x80\x02cours.model\nNet\n)\x81}b.";
        assert_eq!(verdict(unknown, &Policy::standard()), Verdict::Clean);
        assert_eq!(verdict(unknown, &Policy::strict()), Verdict::Suspicious);
        assert_eq!(verdict(b"\x80\x02ccollections\nOrderedDict\n)R.", &Policy::strict()), Verdict::Clean);
        assert_eq!(verdict(b"\x80\x02}.", &Policy::strict()), Verdict::Clean);
    }
}
