//! What an act is worth: rules say which acts matter, the severity table says how loud they are.
//!
//! Pure: an act goes in, judgements come out. Knows nothing of incidents, alerts or sinks.

pub mod destination;
pub mod exception;
pub mod files;
pub mod formats;
pub mod program;
pub mod rule;
pub mod severity;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use destination::{Class, Destinations, Network};
use exception::Exception;
use files::{Files, What};
use program::{Kind, Programs, Started};
use rule::{Rule, RuleFile};
use severity::{Effect, Row, Table};

use crate::event::{Act, ActKind, Artifact, Deed, Destination, EventKind, OPEN_UNJUDGED, Proto, Role, Severity};

/// The rules that the program carries: `(file name, text)`.
const EMBEDDED: [(&str, &str); 8] = [
    ("bytes-after-load.yaml", include_str!("../../../rules/bytes-after-load.yaml")),
    ("file-after-load.yaml", include_str!("../../../rules/file-after-load.yaml")),
    ("loss.yaml", include_str!("../../../rules/loss.yaml")),
    ("model-opened.yaml", include_str!("../../../rules/model-opened.yaml")),
    ("network-after-load.yaml", include_str!("../../../rules/network-after-load.yaml")),
    ("sockets-after-load.yaml", include_str!("../../../rules/sockets-after-load.yaml")),
    ("program-after-load.yaml", include_str!("../../../rules/program-after-load.yaml")),
    ("system-after-load.yaml", include_str!("../../../rules/system-after-load.yaml")),
];

/// Rules that a set may hold.
pub const RULES_MAX: usize = 1024;
/// Exceptions that a set may hold.
pub const EXCEPTIONS_MAX: usize = 4096;

/// Why a policy could not be made. Each says which file, where, and what to change.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error("{0}")]
    Rule(String),
    #[error("{file}: the rule {id} is there already, in {first}; give this one another id")]
    Twice { file: String, id: String, first: String },
    #[error("{file}: the exception is for the rule {id}, which isn't there")]
    NoSuchRule { file: String, id: String },
    #[error("more than {RULES_MAX} rules, or {EXCEPTIONS_MAX} exceptions: remove some")]
    TooMany,
    #[error("embedded data: {0}")]
    Embedded(String),
}

/// Bytes that a connection of a file that nothing was found in has to carry before they are worth an alert.
pub const EGRESS_BYTES_MIN: u64 = 1 << 20;

/// What one rule says of one act.
#[derive(Debug, Clone)]
pub struct Judgement {
    pub rule: Arc<Rule>,
    pub severity: Severity,
    /// Index of the artifact that decides: the loudest, of equals the latest.
    pub decides: usize,
}

/// What the policy sees in an act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sight {
    pub kind: EventKind,
    /// `None` for an open.
    effect: Option<Effect>,
    program: Option<Kind>,
    class: Option<Class>,
    file: Option<What>,
    known_service: bool,
    /// A UDP connect sends nothing: it stands in the timeline, no rule sees it.
    pub timeline_only: bool,
}

/// An exception that no longer applies, or never can.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Notice {
    pub rule: String,
    pub message: String,
}

/// The table, the lists, and the rules.
#[derive(Debug)]
pub struct Policy {
    table: Table,
    destinations: Destinations,
    programs: Programs,
    files: Files,
    rules: Vec<Arc<Rule>>,
    /// The same by what they are about, at the kind's number: an act meets no others.
    about: Vec<Vec<Arc<Rule>>>,
}

impl Policy {
    /// The embedded set, and the `*.yaml` files of `folders` added to it.
    ///
    /// # Errors
    /// The first fault, with its file, line and column.
    pub fn load(folders: &[PathBuf], network: Network) -> Result<Self, PolicyError> {
        let mut files: Vec<(String, String)> =
            EMBEDDED.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        for folder in folders {
            files.extend(rule::read_folder(folder).map_err(PolicyError::Rule)?);
        }
        Self::from_files(&files, network)
    }

    fn from_files(files: &[(String, String)], network: Network) -> Result<Self, PolicyError> {
        let mut rules: Vec<Rule> = Vec::new();
        let mut first_in: HashMap<String, String> = HashMap::new();
        let mut scoped: Vec<(String, Exception)> = Vec::new();
        let mut known_files = Files::embedded().map_err(PolicyError::Embedded)?;
        for (name, text) in files {
            let RuleFile { rules: more, exceptions, files: entries } =
                rule::parse(name, text).map_err(PolicyError::Rule)?;
            for entry in entries {
                let place = entry.referenced;
                let at = |error| PolicyError::Rule(format!("{name}:{}:{}: {error}", place.line(), place.column()));
                known_files.add(entry.value).map_err(at)?;
            }
            for rule in more {
                let rule = rule.value;
                if let Some(first) = first_in.insert(rule.id.clone(), name.clone()) {
                    return Err(PolicyError::Twice { file: name.clone(), id: rule.id, first });
                }
                rules.push(rule);
            }
            scoped.extend(exceptions.into_iter().map(|exception| (name.clone(), exception.value)));
        }
        for (file, exception) in scoped {
            let ids = &exception.rules;
            if let Some(id) = ids.iter().find(|id| !first_in.contains_key(*id)) {
                return Err(PolicyError::NoSuchRule { file, id: id.clone() });
            }
            for rule in rules.iter_mut().filter(|rule| ids.is_empty() || ids.contains(&rule.id)) {
                rule.unless.push(exception.clone());
            }
        }
        if rules.len() > RULES_MAX || rules.iter().map(|rule| rule.unless.len()).sum::<usize>() > EXCEPTIONS_MAX {
            return Err(PolicyError::TooMany);
        }
        let rules: Vec<Arc<Rule>> = rules.into_iter().map(Arc::new).collect();
        Ok(Self {
            table: Table::embedded().map_err(PolicyError::Embedded)?,
            destinations: Destinations::embedded(network).map_err(PolicyError::Embedded)?,
            programs: Programs::embedded().map_err(PolicyError::Embedded)?,
            files: known_files,
            about: by_kind(&rules),
            rules,
        })
    }

    /// The lists of programs, for whoever decides roles.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// The files that give a payload away, for whoever watches them.
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// Techniques that an act's own object adds to those of its rule.
    pub fn techniques(&self, act: &Act) -> &[String] {
        match &act.kind {
            ActKind::File { path, access } => self.files.group(path, *access).map_or(&[], |group| &group.attack),
            _ => &[],
        }
    }

    /// Exceptions over all rules, by their reasons.
    pub fn exceptions_len(&self) -> usize {
        // One exception can stand under many rules.
        let reasons: HashSet<&str> =
            self.rules.iter().flat_map(|rule| &rule.unless).map(|exception| exception.reason.as_str()).collect();
        reasons.len()
    }

    /// Does an exception name a file by its hash? Then every model that is scanned has to be hashed.
    pub fn wants_sha256(&self) -> bool {
        self.rules.iter().flat_map(|rule| &rule.unless).any(|exception| exception.sha256.is_some())
    }

    /// Can the open of a clean file be an alert by itself?
    pub fn tells_clean_opens(&self) -> bool {
        self.rules.iter().any(|rule| rule.tells_clean_opens())
    }

    /// All rules, in the order of their files.
    pub fn rules(&self) -> &[Arc<Rule>] {
        &self.rules
    }

    /// Exceptions that are over at `unix_ns`, and those that can't apply in this version.
    pub fn notices(&self, unix_ns: i128) -> Vec<Notice> {
        let each = |rule: &Arc<Rule>, exception: &Exception| {
            let message = if exception.is_expired(unix_ns) {
                format!(
                    "an exception expired on {} and no longer applies: {}",
                    exception.expires.date, exception.reason
                )
            } else if exception.image.is_some() {
                format!("container images aren't known yet, so an exception never applies: {}", exception.reason)
            } else {
                return None;
            };
            Some(Notice { rule: rule.id.clone(), message })
        };
        let mut notices: Vec<Notice> = Vec::new();
        for notice in self.rules.iter().flat_map(|rule| rule.unless.iter().filter_map(move |e| each(rule, e))) {
            // One exception can stand under many rules: it is said once.
            if !notices.iter().any(|said| said.message == notice.message) {
                notices.push(notice);
            }
        }
        notices
    }

    /// What is there to see in an act?
    pub fn sight(&self, act: &Act) -> Sight {
        let none = Sight {
            kind: EventKind::ModelOpen,
            effect: None,
            program: None,
            class: None,
            file: None,
            known_service: false,
            timeline_only: false,
        };
        match &act.kind {
            ActKind::ModelOpen => none,
            ActKind::Exec { exe, argv, argv_truncated } => {
                // A shell only carries out what it was given.
                let mut above = act.lineage.ancestors.iter().map(|ancestor| &ancestor.exe[..]);
                let parent_exe = above.find(|exe| !self.programs.is_system_shell(exe)).unwrap_or_default();
                let program = self.programs.kind(Started { exe, argv, argv_truncated: *argv_truncated, parent_exe });
                Sight { kind: EventKind::Exec, effect: Some(program.effect()), program: Some(program), ..none }
            }
            ActKind::Connect(destination) => self.sight_of_destination(destination, EventKind::Connect),
            ActKind::Send(destination) => self.sight_of_destination(destination, EventKind::Send),
            ActKind::Bind(at) => self.sight_of_listener(at, EventKind::Bind, Effect::Bind),
            ActKind::Accept { at, .. } => self.sight_of_listener(at, EventKind::Accept, Effect::Accept),
            ActKind::Unix { path } => {
                let effect = if self.destinations.is_control(path) { Effect::UnixControl } else { Effect::Unix };
                Sight { kind: EventKind::Unix, effect: Some(effect), ..none }
            }
            ActKind::Egress { to, bytes, accepted, .. } => {
                // A little of a file that nothing was found in is what every connection carries: the connection itself
                // was told.
                let is_little = *bytes < EGRESS_BYTES_MIN
                    && act.artifacts.iter().all(|artifact| Row::of(&artifact.model).is_lenient());
                let sight = Sight { timeline_only: is_little, ..self.sight_of_destination(to, EventKind::Egress) };
                // A server's answers are as loud as its being asked, wherever the asker is.
                if *accepted { Sight { effect: Some(Effect::Accept), known_service: false, ..sight } } else { sight }
            }
            ActKind::File { path, access } => {
                let what = self.files.group(path, *access).map(|group| group.what);
                Sight { kind: EventKind::File, effect: what.map(What::effect), file: what, ..none }
            }
            ActKind::System(deed) => Sight { kind: deed.kind, effect: effect_of(deed), ..none },
        }
    }

    /// What waits for others is as loud as the table says of waiting, wherever they are.
    fn sight_of_listener(&self, at: &Destination, kind: EventKind, effect: Effect) -> Sight {
        Sight {
            effect: Some(effect),
            known_service: false,
            timeline_only: false,
            ..self.sight_of_destination(at, kind)
        }
    }

    fn sight_of_destination(&self, destination: &Destination, kind: EventKind) -> Sight {
        let class = self.destinations.class(destination);
        let dns =
            kind == EventKind::Send && destination.proto == Proto::Udp && self.destinations.is_resolver(destination);
        Sight {
            kind: if dns { EventKind::Dns } else { kind },
            effect: Some(if dns { Effect::Dns } else { class.effect() }),
            program: None,
            class: Some(class),
            file: None,
            // What is asked of a resolver is a name of the asker's choice.
            known_service: destination.port != Some(destination::DNS_PORT)
                && self.destinations.is_known_service(destination),
            timeline_only: kind == EventKind::Connect && destination.proto == Proto::Udp,
        }
    }

    /// What every rule that is about this act says of it.
    pub fn judge(&self, act: &Act) -> Vec<Judgement> {
        let sight = self.sight(act);
        if sight.timeline_only {
            return Vec::new();
        }
        self.about(sight.kind).iter().filter_map(|rule| self.judge_by(rule, act, sight)).collect()
    }

    fn about(&self, kind: EventKind) -> &[Arc<Rule>] {
        self.about.get(kind as usize).map_or(&[], Vec::as_slice)
    }

    /// What one rule says: `None` where it isn't about this act, makes no alert of it, or an exception excuses every load.
    fn judge_by(&self, rule: &Arc<Rule>, act: &Act, sight: Sight) -> Option<Judgement> {
        let destination = act.kind.destination();
        if !rule.is_about(sight.kind, sight.program, sight.file, act.role)
            || !rule.fits_place(destination.zip(sight.class))
        {
            return None;
        }
        subjects(act)
            .filter(|(_, artifact)| {
                rule.fits_load(artifact) && !rule.unless.iter().any(|exception| exception.applies(act, artifact))
            })
            .filter_map(|(index, artifact)| {
                Some((self.severity(rule, act, artifact, sight)?, artifact.opened_boottime_ns, index))
            })
            .max_by_key(|(severity, opened, _)| (*severity, *opened))
            .map(|(severity, _, decides)| Judgement { rule: Arc::clone(rule), severity, decides })
    }

    /// How loud the act is for one artifact; `None` is no alert (a later verdict may change that).
    fn severity(&self, rule: &Rule, act: &Act, artifact: &Artifact, sight: Sight) -> Option<Severity> {
        let acting = act.lineage.process.key;
        let table = match sight.effect {
            None => self.table.model_open(Row::of(&artifact.model)),
            Some(effect) => Some(self.table.severity(artifact, acting, effect, sight.known_service)),
        };
        let table = match act.role {
            Role::Reader => table.map(|severity| severity.min(self.table.reader_most())),
            Role::Loader => table,
        };
        match rule.severity {
            rule::SeverityBy::Fixed(severity) => Some(severity),
            _ => table.map(|severity| rule.severity_from(severity)),
        }
    }

    /// The rules about loss, and how loud each is for such a reason.
    pub fn judge_loss(&self, reason: &str) -> Vec<(Arc<Rule>, Severity)> {
        let effect = if UNTOUCHED.contains(&reason) { Effect::LossUntouched } else { Effect::Loss };
        let table = self.table.cell(Row::Code, severity::Column::Later, effect, false);
        let rules = self.about(EventKind::Loss).iter();
        rules.map(|rule| (Arc::clone(rule), rule.severity_from(table))).collect()
    }
}

fn by_kind(rules: &[Arc<Rule>]) -> Vec<Vec<Arc<Rule>>> {
    let mut about: Vec<Vec<Arc<Rule>>> = Vec::new();
    for rule in rules {
        for kind in rule.what.iter().map(|kind| *kind as usize) {
            if about.len() <= kind {
                about.resize_with(kind + 1, Vec::new);
            }
            let those = &mut about[kind];
            // A rule may name a kind twice.
            if !those.last().is_some_and(|last| Arc::ptr_eq(last, rule)) {
                those.push(Arc::clone(rule));
            }
        }
    }
    about
}

/// Losses of files that nobody acted on, before ([`sensor_abi::counter::Counter::CandidateRate`]) and after their open was
/// announced, and of those that nothing but their content could accuse
/// ([`sensor_abi::counter::Counter::UnknownRate`]): data sets are read so every day.
const UNTOUCHED: [&str; 3] = ["candidate_rate", "unknown_name_rate", OPEN_UNJUDGED];

/// What an act on the system is to the severity table.
fn effect_of(deed: &Deed) -> Option<Effect> {
    match deed.kind {
        EventKind::Ptrace if deed.peer => Some(Effect::Peer),
        EventKind::Ptrace => Some(Effect::Ptrace),
        EventKind::Kmod => Some(Effect::Kmod),
        EventKind::Mount => Some(Effect::Mount),
        EventKind::Privilege => Some(Effect::Privilege),
        EventKind::Namespace => Some(Effect::Namespace),
        _ => None,
    }
}

/// The artifacts that an act is about: an open is about the file that was opened, the latest; anything else about all.
fn subjects(act: &Act) -> impl Iterator<Item = (usize, &Artifact)> {
    let opened = matches!(act.kind, ActKind::ModelOpen)
        .then(|| act.artifacts.iter().map(|artifact| artifact.opened_boottime_ns).max())
        .flatten();
    act.artifacts
        .iter()
        .enumerate()
        .filter(move |(_, artifact)| opened.is_none_or(|latest| artifact.opened_boottime_ns == latest))
}

#[cfg(test)]
pub mod testing;

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
