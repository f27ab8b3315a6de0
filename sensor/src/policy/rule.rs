//! Detections: what, who, where, within, unless; then how loud, what to call it, what to do. Files `rules/*.yaml`, typed:
//! an unknown key is an error with its line and column.

use std::path::Path;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;

use super::destination::{Class, within_domain};
use super::exception::{DestinationPattern, Exception};
use super::files::{Entry, What};
use super::program::Kind;
use crate::event::{Action, Artifact, ContentClass, Destination, EventKind, Role, Severity, Verdict};

/// Largest rule file, bytes.
pub const RULE_FILE_BYTES_MAX: u64 = 1 << 20;

/// One file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleFile {
    #[serde(default)]
    pub rules: Vec<Spanned<Rule>>,
    /// Exceptions to rules of any file.
    #[serde(default)]
    pub exceptions: Vec<Spanned<Exception>>,
    /// More files that give a payload away.
    #[serde(default)]
    pub files: Vec<Spanned<Entry>>,
}

/// One detection.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Permanent: lower-case words joined by `-`.
    pub id: String,
    /// One sentence for a person.
    pub name: String,
    pub what: Vec<EventKind>,
    /// With `exec`: the kinds of program.
    #[serde(default)]
    pub program: Vec<Kind>,
    /// With `file`: what the file is.
    #[serde(default)]
    pub file: Vec<What>,
    #[serde(default)]
    pub who: Who,
    /// With a destination.
    #[serde(default, rename = "where")]
    pub place: Place,
    /// Longest time since the load; a process born in the load is always within.
    #[serde(default, deserialize_with = "duration")]
    pub within: Option<Duration>,
    #[serde(default)]
    pub unless: Vec<Exception>,
    /// What the rule is worth by itself, for catalogues (`rule.severity`).
    pub nominal: Severity,
    #[serde(default)]
    pub severity: SeverityBy,
    #[serde(default)]
    pub attack: Vec<String>,
    #[serde(default)]
    pub atlas: Vec<String>,
    #[serde(default = "alert")]
    pub action: Action,
}

fn alert() -> Action {
    Action::Alert
}

/// What decides how loud an alert of this rule is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SeverityBy {
    /// The table.
    #[default]
    Table,
    /// Nothing else.
    Fixed(Severity),
    /// The table, this many steps louder (negative: quieter).
    Step(i8),
}

/// Which loads. An empty list is any.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Who {
    pub class: Vec<ContentClass>,
    pub verdict: Vec<Verdict>,
    pub role: Vec<Role>,
    /// Globs of `model.repo`.
    pub repo: Vec<super::exception::Pattern>,
}

/// Which destinations: each list that isn't empty has to have one that fits.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Place {
    pub class: Vec<Class>,
    pub cidr: Vec<super::exception::Net>,
    pub port: Vec<u16>,
    /// The domain and everything below it.
    pub domain: Vec<String>,
}

impl Rule {
    /// Is this rule about such an act at all?
    pub fn is_about(&self, kind: EventKind, program: Option<Kind>, file: Option<What>, role: Role) -> bool {
        self.what.contains(&kind)
            && any_or(&self.program, |wanted| Some(*wanted) == program)
            && any_or(&self.file, |wanted| Some(*wanted) == file)
            && any_or(&self.who.role, |wanted| *wanted == role)
    }

    /// Does the destination fit? An act without one fits a rule without conditions on it.
    pub fn fits_place(&self, destination: Option<(&Destination, Class)>) -> bool {
        let Some((destination, class)) = destination else { return self.place.is_any() };
        self.place.fits(destination, class)
    }

    /// Does the load fit?
    pub fn fits_load(&self, artifact: &Artifact) -> bool {
        let model = &artifact.model;
        any_or(&self.who.class, |class| *class == model.class)
            && any_or(&self.who.verdict, |verdict| *verdict == model.verdict)
            && any_or(&self.who.repo, |repo| model.repo.as_deref().is_some_and(|text| repo.is_match(text.as_bytes())))
            && self.within.is_none_or(|within| {
                artifact.in_window || artifact.born || u128::from(artifact.since_ns) <= within.as_nanos()
            })
    }

    /// Does it make an alert of the open of a clean file? By the table there is none.
    pub fn tells_clean_opens(&self) -> bool {
        self.what.contains(&EventKind::ModelOpen)
            && matches!(self.severity, SeverityBy::Fixed(_))
            && any_or(&self.who.verdict, |wanted| *wanted == Verdict::Clean)
    }

    /// Moves what the table says as this rule wants it.
    pub fn severity_from(&self, table: Severity) -> Severity {
        match self.severity {
            SeverityBy::Table => table,
            SeverityBy::Fixed(severity) => severity,
            SeverityBy::Step(steps) => table.moved(steps),
        }
    }

    /// `rule.severity` of an alert.
    pub fn nominal_severity(&self) -> Severity {
        match self.severity {
            SeverityBy::Fixed(severity) => severity,
            _ => self.nominal,
        }
    }

    /// Faults that the types can't say.
    fn fault(&self) -> Option<String> {
        let has = |kinds: &[EventKind]| self.what.iter().any(|kind| kinds.contains(kind));
        let id_ok = !self.id.is_empty()
            && self.id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if !id_ok {
            return Some("`id` has to be lower-case words joined by `-`".into());
        }
        if self.what.is_empty() {
            return Some("`what` names no kind of event, so the rule would never apply".into());
        }
        if !self.program.is_empty() && !has(&[EventKind::Exec]) {
            return Some("`program` needs `exec` in `what`".into());
        }
        if !self.file.is_empty() && !has(&[EventKind::File]) {
            return Some("`file` needs `file` in `what`".into());
        }
        let placed = [
            EventKind::Connect,
            EventKind::Send,
            EventKind::Dns,
            EventKind::Bind,
            EventKind::Accept,
            EventKind::Egress,
        ];
        if !self.place.is_any() && !has(&placed) {
            return Some("`where` needs `connect`, `send`, `dns`, `bind`, `accept` or `egress` in `what`".into());
        }
        if self.action != Action::Alert {
            return Some("this version only observes: `action` can be `alert`".into());
        }
        if self.unless.iter().any(|exception| !exception.rules.is_empty()) {
            return Some("an exception inside a rule is for that rule: `rules` belongs under `exceptions`".into());
        }
        self.unless.iter().find_map(Exception::fault)
    }
}

impl Place {
    fn is_any(&self) -> bool {
        self.class.is_empty() && self.cidr.is_empty() && self.port.is_empty() && self.domain.is_empty()
    }

    fn fits(&self, destination: &Destination, class: Class) -> bool {
        any_or(&self.class, |wanted| *wanted == class)
            && any_or(&self.cidr, |net| destination.ip.is_some_and(|ip| net.contains(ip)))
            && any_or(&self.port, |port| Some(*port) == destination.port)
            && any_or(&self.domain, |suffix| {
                destination.domain.as_deref().is_some_and(|domain| within_domain(domain, suffix))
            })
    }
}

impl DestinationPattern {
    /// All that is given has to fit.
    pub fn fits(&self, destination: &Destination) -> bool {
        self.cidr.is_none_or(|net| destination.ip.is_some_and(|ip| net.contains(ip)))
            && self.port.is_none_or(|port| Some(port) == destination.port)
            && self
                .domain
                .as_deref()
                .is_none_or(|suffix| destination.domain.as_deref().is_some_and(|domain| within_domain(domain, suffix)))
    }
}

/// An empty list is any.
fn any_or<T>(list: &[T], fits: impl FnMut(&T) -> bool) -> bool {
    list.is_empty() || list.iter().any(fits)
}

/// Reads one file; `name` is for errors.
///
/// # Errors
/// One line: file, line, column, what is wrong.
pub fn parse(name: &str, text: &str) -> Result<RuleFile, String> {
    let file: RuleFile = serde_saphyr::from_str(text).map_err(|error| {
        let message = error.without_snippet().to_string();
        let Some(place) = error.location() else { return format!("{name}: {message}") };
        let (line, column) = (place.line(), place.column());
        // The place comes first, where editors look, and not twice.
        let message = message.replace(&format!(" at line {line}, column {column}"), "");
        format!("{name}:{line}:{column}: {message}")
    })?;
    let rules = file.rules.iter().map(|rule| (rule.value.fault(), rule.referenced));
    let exceptions = file.exceptions.iter().map(|exception| (exception.value.fault(), exception.referenced));
    for (fault, place) in rules.chain(exceptions) {
        if let Some(fault) = fault {
            return Err(format!("{name}:{}:{}: {fault}", place.line(), place.column()));
        }
    }
    Ok(file)
}

/// Reads the `*.yaml` and `*.yml` files of a folder, in order of name; `(file name, text)`.
///
/// # Errors
/// What could not be read.
pub fn read_folder(folder: &Path) -> Result<Vec<(String, String)>, String> {
    let failed = |path: &Path, error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|error| failed(folder, error))? {
        let path = entry.map_err(|error| failed(folder, error))?.path();
        // ConfigMap volumes keep their files in folders that begin with `..`, and link to them.
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            paths.push(path);
        }
    }
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let metadata = std::fs::metadata(&path).map_err(|error| failed(&path, error))?;
            if !metadata.is_file() || metadata.len() > RULE_FILE_BYTES_MAX {
                return Err(format!("{} is no regular file of at most {RULE_FILE_BYTES_MAX} bytes", path.display()));
            }
            let text = std::fs::read_to_string(&path).map_err(|error| failed(&path, error))?;
            Ok((path.display().to_string(), text))
        })
        .collect()
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let parsed: jiff::SignedDuration =
        text.parse().map_err(|_| D::Error::custom(format!("{text:?} is no time such as 30s or 5m")))?;
    Duration::try_from(parsed).map(Some).map_err(|_| D::Error::custom("a time cannot be negative"))
}

#[cfg(test)]
#[path = "rule_tests.rs"]
mod tests;
