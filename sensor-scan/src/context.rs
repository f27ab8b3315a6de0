//! What all readers of one file share: budgets, the deadline, the sink of findings, and the door to nested content.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::finding::{Evidence, Finding, Severity};
use crate::limits::Limits;
use crate::policy::{self, Policy};
use crate::source::Source;

/// Globals that the trace keeps; what comes after is still judged, but not traced.
const TRACE_MAX: usize = 100_000;
/// Storages of one torch pickle that are held against the archive; checkpoints have some thousands.
const STORAGES_MAX: usize = 100_000;

/// A range of bytes that may be anything, handed to whoever finds out.
#[derive(Clone)]
pub struct Piece<'a> {
    pub source: &'a dyn Source,
    /// First byte.
    pub start: u64,
    /// Behind the last byte.
    pub end: u64,
    /// Name of the piece as in [`Finding::member`].
    pub member: Option<Vec<u8>>,
}

/// Scans a piece by content with every reader that accepts it; says whether any did.
///
/// The depth is already accounted for by [`Context::nested`].
pub type Door = fn(&Piece<'_>, &mut Context<'_>) -> bool;

/// A global as a stream writes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TracedGlobal {
    pub module: String,
    pub name: String,
}

/// A storage as a torch pickle declares it: the archive's record of that key has to hold the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredStorage {
    pub key: Vec<u8>,
    pub bytes: u64,
}

/// What all readers of one file share.
pub struct Context<'a> {
    pub limits: &'a Limits,
    pub policy: &'a Policy,
    /// Pickle opcodes that may still be interpreted.
    pub opcodes_left: u64,
    /// Container members that may still be opened.
    pub members_left: u64,
    /// Bytes that may still be decoded from compressed data.
    pub decoded_bytes_left: u64,
    /// Nested streams that may still be opened.
    pub nested_streams_left: u64,
    /// Bytes read from the file.
    pub bytes_read: u64,
    /// Cleared by the first global that is not listed as safe in the use that it is put to.
    pub all_globals_safe: bool,
    door: Door,
    depth: u32,
    deadline: Instant,
    expired: bool,
    /// No finding so far says that something was not read.
    complete: bool,
    /// Something else does.
    left_unread: bool,
    sink: Sink,
    trace: Vec<TracedGlobal>,
    storages: Vec<DeclaredStorage>,
}

impl<'a> Context<'a> {
    /// `door` is what nested content is handed to.
    pub fn new(limits: &'a Limits, door: Door) -> Self {
        Self {
            limits,
            policy: &policy::STANDARD,
            opcodes_left: limits.opcodes_max,
            members_left: limits.members_max,
            decoded_bytes_left: limits.decoded_bytes_max,
            nested_streams_left: limits.nested_streams_max,
            bytes_read: 0,
            all_globals_safe: true,
            door,
            depth: 0,
            deadline: Instant::now() + limits.time_max,
            expired: false,
            complete: true,
            left_unread: false,
            sink: Sink::default(),
            trace: Vec::new(),
            storages: Vec::new(),
        }
    }

    /// The same, judged by another policy than the standard one.
    #[must_use]
    pub fn judged_by(mut self, policy: &'a Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Takes a finding. Of each id the worst [`Limits::findings_per_id_max`] are kept, the rest is counted. The same
    /// finding at the same place, from another reader's point of view, is taken once, at its worst severity.
    pub fn report(&mut self, finding: Finding) {
        if finding.is_coverage() {
            self.complete = false;
        }
        self.sink.take(finding, self.limits.findings_per_id_max);
    }

    /// One more finding of this id and severity would only be counted: whoever has many need not describe them.
    pub fn only_counts(&mut self, id: &'static str, severity: Severity) -> bool {
        self.sink.only_counts(id, severity, self.limits.findings_per_id_max)
    }

    /// Something was left unread without a finding of its own (who calls this has reported one that says so).
    pub fn incomplete(&mut self) {
        self.left_unread = true;
    }

    /// No range has been left unread so far.
    pub fn complete(&self) -> bool {
        self.complete && !self.left_unread
    }

    /// The time is up; reported once as SNS-905. Cheap enough for every few thousand steps, not for every step.
    pub fn expired(&mut self) -> bool {
        if !self.expired && Instant::now() >= self.deadline {
            self.expired = true;
            let mut finding = Finding::new("SNS-905", Severity::Medium, "the time for this file is used up");
            let seconds = self.limits.time_max.as_secs();
            finding.evidence.insert("seconds", Evidence::Number(seconds));
            self.report(finding);
        }
        self.expired
    }

    /// Containers and streams around the present one.
    pub fn depth(&self) -> u32 {
        self.depth
    }

    /// Hands a piece to the [`Door`], one level deeper; says whether a reader accepted it. A limit is a finding.
    pub fn nested(&mut self, piece: &Piece<'_>) -> bool {
        let door = self.door;
        self.deeper(piece.member.as_deref(), |context| door(piece, context)).unwrap_or(false)
    }

    /// Runs `inner` one level deeper; `None` where the depth or the number of nested streams is used up (SNS-901).
    pub fn deeper<T>(&mut self, member: Option<&[u8]>, inner: impl FnOnce(&mut Self) -> T) -> Option<T> {
        let (limit, value) = if self.depth >= self.limits.depth_max {
            ("depth_max", u64::from(self.limits.depth_max))
        } else if self.nested_streams_left == 0 {
            ("nested_streams_max", self.limits.nested_streams_max)
        } else {
            self.depth += 1;
            self.nested_streams_left -= 1;
            let result = inner(self);
            self.depth -= 1;
            return Some(result);
        };
        self.limit_reached(limit, value, member, None);
        None
    }

    /// Reports SNS-901 for a limit by the name of its field in [`Limits`].
    pub fn limit_reached(&mut self, limit: &'static str, value: u64, member: Option<&[u8]>, offset: Option<u64>) {
        let mut finding = Finding::new("SNS-901", Severity::Medium, format!("limit {limit} reached"));
        finding.member = member.map(<[u8]>::to_vec);
        finding.offset = offset;
        finding.evidence.insert("limit", Evidence::Text(limit.to_owned()));
        finding.evidence.insert("value", Evidence::Number(value));
        self.report(finding);
    }

    /// Runs `inner` with a sink of its own and returns what it found instead of reporting it: who drops a finding of
    /// coverage, because the bytes were nothing that a reader means, drops what it says of the file, too. Budgets and the
    /// trace stay shared, and that a budget is used up is always reported.
    pub fn isolated<T>(&mut self, inner: impl FnOnce(&mut Self) -> T) -> (T, Vec<Finding>) {
        let outer = std::mem::take(&mut self.sink);
        let complete = std::mem::replace(&mut self.complete, true);
        let result = inner(self);
        let inner = std::mem::replace(&mut self.sink, outer);
        self.complete = complete;
        let (used_up, found): (Vec<_>, Vec<_>) = inner.into_findings().into_iter().partition(Finding::is_limit);
        used_up.into_iter().for_each(|finding| self.report(finding));
        (result, found)
    }

    /// Notes that a stream imports a global.
    pub fn trace(&mut self, module: &str, name: &str) {
        if self.trace.len() < TRACE_MAX {
            self.trace.push(TracedGlobal { module: module.to_owned(), name: name.to_owned() });
        }
    }

    /// Notes that a pickle of a torch archive declares a storage.
    pub fn declare_storage(&mut self, storage: DeclaredStorage) {
        if self.storages.len() < STORAGES_MAX {
            self.storages.push(storage);
        }
    }

    /// The storages that were declared since this was last asked.
    pub fn take_storages(&mut self) -> Vec<DeclaredStorage> {
        std::mem::take(&mut self.storages)
    }

    /// Globals in the order in which the streams import them, once per stream.
    pub fn traced(&self) -> &[TracedGlobal] {
        &self.trace
    }

    /// Severity of the worst finding so far, coverage findings left out.
    pub fn worst(&self) -> Option<Severity> {
        self.sink.worst()
    }

    /// Everything that was found: worst first, then by position.
    pub fn into_findings(self) -> Vec<Finding> {
        self.sink.into_findings()
    }
}

/// Findings, bounded per id.
#[derive(Debug, Default)]
struct Sink {
    kept: BTreeMap<&'static str, Vec<Finding>>,
    dropped: BTreeMap<&'static str, u64>,
}

impl Sink {
    fn take(&mut self, finding: Finding, kept_max: usize) {
        let kept = self.kept.entry(finding.id).or_default();
        let same = |other: &&mut Finding| {
            other.offset == finding.offset && other.member == finding.member && other.title == finding.title
        };
        if let Some(same) = kept.iter_mut().find(same) {
            if finding.severity > same.severity {
                *same = finding;
            }
            return;
        }
        if kept.len() < kept_max.max(1) {
            kept.push(finding);
            return;
        }
        *self.dropped.entry(finding.id).or_default() += 1;
        if let Some(mildest) = kept.iter_mut().min_by_key(|kept| kept.severity)
            && mildest.severity < finding.severity
        {
            *mildest = finding;
        }
    }

    /// Counts one more of an id whose kept findings are all at least as severe.
    fn only_counts(&mut self, id: &'static str, severity: Severity, kept_max: usize) -> bool {
        let full = self.kept.get(id).is_some_and(|kept| {
            kept.len() >= kept_max.max(1) && kept.iter().all(|finding| finding.severity >= severity)
        });
        if full {
            *self.dropped.entry(id).or_default() += 1;
        }
        full
    }

    fn worst(&self) -> Option<Severity> {
        self.kept.values().flatten().filter(|finding| !finding.is_coverage()).map(|finding| finding.severity).max()
    }

    fn into_findings(self) -> Vec<Finding> {
        let dropped = self.dropped;
        let mut findings: Vec<Finding> = Vec::new();
        for (id, mut kept) in self.kept {
            kept.sort_by(|a, b| b.severity.cmp(&a.severity).then(a.offset.cmp(&b.offset)));
            if let (Some(more), Some(last)) = (dropped.get(id), kept.last_mut()) {
                last.evidence.insert("more_of_this_id", Evidence::Number(*more));
            }
            findings.append(&mut kept);
        }
        findings.sort_by(|a, b| {
            b.severity.cmp(&a.severity).then_with(|| a.member.cmp(&b.member)).then(a.offset.cmp(&b.offset))
        });
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(severity: Severity, offset: u64) -> Finding {
        let mut finding = Finding::new("SNS-101", severity, "x");
        finding.offset = Some(offset);
        finding
    }

    #[test]
    fn a_flood_of_mild_findings_does_not_hide_a_severe_one() {
        let limits = Limits { findings_per_id_max: 3, ..Limits::default() };
        let mut context = Context::new(&limits, |_, _| false);
        for offset in 0..50 {
            context.report(finding(Severity::Low, offset));
        }
        context.report(finding(Severity::Critical, 99));
        let findings = context.into_findings();
        assert_eq!(findings.len(), 3);
        assert_eq!((findings[0].severity, findings[0].offset), (Severity::Critical, Some(99)));
        assert_eq!(findings[2].evidence.get("more_of_this_id"), Some(&Evidence::Number(48)));
    }

    #[test]
    fn the_same_place_is_reported_once_at_its_worst() {
        let limits = Limits::default();
        let mut context = Context::new(&limits, |_, _| false);
        context.report(finding(Severity::Low, 1));
        context.report(finding(Severity::High, 1));
        context.report(finding(Severity::Low, 1));
        let findings = context.into_findings();
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].severity, Severity::High);
    }

    #[test]
    fn who_drops_what_was_not_read_drops_it_for_the_file_too() {
        let limits = Limits::default();
        let mut context = Context::new(&limits, |_, _| false);
        let (_, found) = context.isolated(|context| context.report(Finding::new("SNS-903", Severity::Low, "x")));
        assert!(context.complete());
        found.into_iter().for_each(|finding| context.report(finding));
        assert!(!context.complete());

        let mut context = Context::new(&limits, |_, _| false);
        let (_, found) = context.isolated(|context| context.limit_reached("members_max", 1, None, None));
        assert_eq!((context.complete(), found), (false, vec![]), "a budget is the file's");
        assert_eq!(context.into_findings()[0].id, "SNS-901");
    }

    #[test]
    fn depth_and_nested_streams_are_limits_with_a_finding() {
        let limits = Limits { depth_max: 2, nested_streams_max: 2, ..Limits::default() };
        let mut context = Context::new(&limits, |_, _| false);
        let inner = context.deeper(None, |context| context.deeper(None, |context| context.deeper(None, |_| ())));
        assert_eq!(inner, Some(Some(None)));
        assert!(!context.complete());
        assert_eq!(context.into_findings()[0].id, "SNS-901");
    }
}
