//! How loud an act is: the table of `rules/severity.toml`, looked up cell by cell. Nothing else decides severity but a
//! rule that says so.

use std::collections::HashMap;

use serde::Deserialize;

use crate::event::{Artifact, Basis, ContentClass, Destroyed, Model, Severity, TaskKey, Verdict};

const EMBEDDED: &str = include_str!("../../../rules/severity.toml");

/// What the scan said: the table's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Row {
    Malicious,
    Suspicious,
    /// A clean file that can run code; no answer yet; not read.
    Code,
    /// Its format runs nothing.
    Data,
}

impl Row {
    /// `Pending` counts as clean, `NotRead` as clean and able to run code, whatever its name says.
    pub fn of(model: &Model) -> Self {
        match (model.verdict, model.class) {
            (Verdict::Malicious, _) => Self::Malicious,
            (Verdict::Suspicious | Verdict::Unscannable, _) => Self::Suspicious,
            (Verdict::Clean | Verdict::Pending, ContentClass::Data) => Self::Data,
            (Verdict::Clean | Verdict::Pending | Verdict::NotRead, _) => Self::Code,
        }
    }

    /// Steps quieter count only for files that nothing was found in.
    pub fn is_lenient(self) -> bool {
        matches!(self, Self::Code | Self::Data)
    }
}

/// When: the table's columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Column {
    Window,
    Soon,
    Later,
}

/// What was done, and where to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    Shell,
    Interpreter,
    Program,
    Ordinary,
    Usual,
    Public,
    Private,
    Cluster,
    Loopback,
    LinkLocal,
    Metadata,
    Bind,
    Accept,
    UnixControl,
    Unix,
    Dns,
    Credential,
    /// A credential that client libraries read in ordinary use.
    Token,
    Persistence,
    Ptrace,
    /// Memory of a process that runs the same program.
    Peer,
    Kmod,
    Mount,
    Privilege,
    Namespace,
    ImportDangerous,
    Import,
    Tamper,
    Loss,
    /// Files were opened faster than they may be looked at, and nobody acted on them.
    LossUntouched,
}

impl Effect {
    const ALL: [Self; 30] = [
        Self::Shell,
        Self::Interpreter,
        Self::Program,
        Self::Ordinary,
        Self::Usual,
        Self::Public,
        Self::Private,
        Self::Cluster,
        Self::Loopback,
        Self::LinkLocal,
        Self::Metadata,
        Self::Bind,
        Self::Accept,
        Self::UnixControl,
        Self::Unix,
        Self::Dns,
        Self::Credential,
        Self::Token,
        Self::Persistence,
        Self::Ptrace,
        Self::Peer,
        Self::Kmod,
        Self::Mount,
        Self::Privilege,
        Self::Namespace,
        Self::ImportDangerous,
        Self::Import,
        Self::Tamper,
        Self::Loss,
        Self::LossUntouched,
    ];
}

/// One effect's steps; `rules/severity.toml` says what each means.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Modifier {
    louder: i8,
    quieter: i8,
    outside: i8,
    bystander: i8,
    info: bool,
    grave: bool,
    born: bool,
    fixed: Option<Severity>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rows {
    malicious: [Severity; 3],
    suspicious: [Severity; 3],
    code: [Severity; 3],
    data: [Severity; 3],
    data_grave: [Severity; 3],
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct KnownService {
    quieter: i8,
    floor: Severity,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelOpen {
    malicious: Severity,
    suspicious: Severity,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reader {
    most: Severity,
}

/// The table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    soon_s: u64,
    row: Rows,
    effect: HashMap<Effect, Modifier>,
    known_service: KnownService,
    model_open: ModelOpen,
    reader: Reader,
}

impl Table {
    /// The table that the program carries.
    ///
    /// # Errors
    /// What is wrong with it, and where; a test holds that nothing is.
    pub fn embedded() -> Result<Self, String> {
        let table: Self = toml::from_str(EMBEDDED).map_err(|error| format!("severity.toml: {error}"))?;
        match Effect::ALL.iter().find(|effect| !table.effect.contains_key(effect)) {
            Some(missing) => Err(format!("severity.toml: no entry for the effect {missing:?}")),
            None => Ok(table),
        }
    }

    /// The column of an act of process `acting` for one artifact.
    ///
    /// In the load window: this process acts inside it, or was born in it (rows 1 and 2: for ever; row 3: for grave
    /// effects, else "shortly after"; where every global of the file is safe, "shortly after" for all: workers are
    /// forked under an `open` that nobody closes; row 4: shortly after the load, for grave effects, since a shell is a child
    /// before it is a shell). A descriptor walk that was cut counts as "shortly after".
    pub fn column(&self, row: Row, artifact: &Artifact, acting: TaskKey, effect: Effect) -> Column {
        let cut = artifact.basis == Some(Basis::Cut);
        let in_window = artifact.in_window && !cut && artifact.basis != Some(Basis::Born);
        let born = artifact.born;
        let soon = artifact.since_ns <= self.soon_s.saturating_mul(1_000_000_000);
        let inherited_safe = born && artifact.model.all_globals_safe && artifact.opener != acting;
        let by_birth = match row {
            Row::Malicious | Row::Suspicious if born => Column::Window,
            Row::Code if born && self.modifier(effect).born && !artifact.model.all_globals_safe => Column::Window,
            Row::Code if born => Column::Soon,
            Row::Data if born && soon && self.modifier(effect).grave => Column::Window,
            _ => Column::Later,
        };
        let by_time = if in_window && !(row == Row::Code && inherited_safe) {
            Column::Window
        } else if cut || in_window || soon {
            Column::Soon
        } else {
            Column::Later
        };
        by_birth.min(by_time)
    }

    /// How loud an act of process `acting` is for one artifact. `known_service`: the destination is a service known by name.
    ///
    /// A file that its loader took away before anybody could read it counts as suspicious, for acts that a clean one's
    /// payload would do, and none else: programs rewrite their own caches and checkpoints all day, and then talk to their
    /// like. Whoever did that when the load was over is never louder than a suspicious file is later.
    pub fn severity(&self, artifact: &Artifact, acting: TaskKey, effect: Effect, known_service: bool) -> Severity {
        let row = Row::of(&artifact.model);
        let column = self.column(row, artifact, acting, effect);
        let is_aside = artifact.bystander && row == Row::Code && column == Column::Soon;
        let quieter = if is_aside { self.modifier(effect).bystander } else { 0 };
        let told = self.cell(row, column, effect, known_service).moved(-quieter);
        let (suspicious, column, known_service) = match artifact.model.destroyed {
            Some(Destroyed::InLoad) if row == Row::Code => {
                (Row::Suspicious, self.column(Row::Suspicious, artifact, acting, effect), false)
            }
            Some(Destroyed::Afterwards) if row == Row::Code => (Row::Suspicious, Column::Later, known_service),
            _ => return told,
        };
        if self.cell(row, Column::Window, effect, known_service) < Severity::High {
            return told;
        }
        told.max(self.cell(suspicious, column, effect, known_service))
    }

    /// One cell. `known_service`: the destination is a service known by name.
    pub fn cell(&self, row: Row, column: Column, effect: Effect, known_service: bool) -> Severity {
        let modifier = self.modifier(effect);
        if let Some(fixed) = modifier.fixed {
            return fixed;
        }
        if row.is_lenient() && modifier.info {
            return Severity::Info;
        }
        let column_index = column as usize;
        let base = match row {
            Row::Malicious => self.row.malicious[column_index],
            Row::Suspicious => self.row.suspicious[column_index],
            Row::Code => self.row.code[column_index],
            Row::Data if modifier.grave => return self.row.data_grave[column_index],
            Row::Data => self.row.data[column_index],
        };
        let louder = if row == Row::Data { base } else { base.moved(modifier.louder) };
        if !row.is_lenient() {
            return louder;
        }
        let outside = if column == Column::Window { 0 } else { modifier.outside };
        let placed = louder.moved(-modifier.quieter - outside);
        if !known_service {
            return placed;
        }
        let named = placed.moved(-self.known_service.quieter);
        if row == Row::Code && column == Column::Window {
            // The floor holds for the name's step alone: it makes nothing louder than it is without the name.
            named.max(placed.min(self.known_service.floor))
        } else {
            named
        }
    }

    /// How loud the open of such a file is by itself; `None` makes no alert.
    pub fn model_open(&self, row: Row) -> Option<Severity> {
        match row {
            Row::Malicious => Some(self.model_open.malicious),
            Row::Suspicious => Some(self.model_open.suspicious),
            Row::Code | Row::Data => None,
        }
    }

    /// How loud an act of a process that reads files for a living may be at most.
    pub fn reader_most(&self) -> Severity {
        self.reader.most
    }

    fn modifier(&self, effect: Effect) -> Modifier {
        self.effect.get(&effect).copied().unwrap_or_default()
    }
}

#[cfg(test)]
#[path = "severity_tests.rs"]
mod tests;
