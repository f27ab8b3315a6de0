//! Which program is what: shells, interpreters, tools that frameworks start by themselves, programs that read files for
//! a living. Data: `rules/programs.toml`.

mod command_line;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};
use serde::Deserialize;

use self::command_line::{Entry, Line, plain_commands, script_of};
use super::severity::Effect;
use crate::event::Bytes;

const EMBEDDED: &str = include_str!("../../../rules/programs.toml");

/// What was started, as rules name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Shell,
    Interpreter,
    /// No file at all: memfd_create(2).
    Memory,
    /// A framework's own tool, with exactly the arguments that it is known to have.
    Ordinary,
    /// What people's own programs start, but no load does.
    Usual,
    /// Anything else.
    Unexpected,
}

impl Kind {
    /// The effect that the severity table knows it by.
    pub fn effect(self) -> Effect {
        match self {
            // Whoever hides a program has a reason.
            Self::Shell | Self::Memory => Effect::Shell,
            Self::Interpreter => Effect::Interpreter,
            Self::Ordinary => Effect::Ordinary,
            Self::Usual => Effect::Usual,
            Self::Unexpected => Effect::Program,
        }
    }
}

/// mm/memfd.c: what the names of such files begin with.
const MEMFD: &[u8] = b"memfd:";

/// A program as it was started.
#[derive(Debug, Clone, Copy)]
pub struct Started<'a> {
    /// Path of the executable.
    pub exe: &'a [u8],
    pub argv: &'a [Bytes],
    /// The arguments are not complete: nothing is exact about them.
    pub argv_truncated: bool,
    /// Path of the executable of the nearest ancestor that is no shell of the system's; empty where it isn't known.
    pub parent_exe: &'a [u8],
}

/// The lists.
#[derive(Debug, Clone)]
pub struct Programs {
    shells: GlobSet,
    interpreters: GlobSet,
    /// Globs of paths: programs of the system.
    system: GlobSet,
    readers: GlobSet,
    managers: GlobSet,
    carriers: Vec<String>,
    ordinary: Vec<Line>,
    usual: Vec<Line>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    shells: Vec<String>,
    carriers: Vec<String>,
    interpreters: Vec<String>,
    readers: Vec<String>,
    managers: Vec<String>,
    system_folders: Vec<String>,
    ordinary: Vec<Entry>,
    usual: Vec<Entry>,
}

impl Programs {
    /// The lists that the program carries.
    ///
    /// # Errors
    /// What is wrong with them; a test holds that nothing is.
    pub fn embedded() -> Result<Self, String> {
        Self::parse(EMBEDDED).map_err(|error| format!("programs.toml: {error}"))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        let system: Vec<String> = file.system_folders.iter().map(|folder| format!("{folder}/*")).collect();
        let lines = |entries: Vec<Entry>| -> Result<Vec<Line>, globset::Error> {
            entries.into_iter().map(|entry| Line::parse(entry, &system)).collect()
        };
        let build = || -> Result<Self, globset::Error> {
            Ok(Self {
                shells: names(&file.shells)?,
                interpreters: names(&file.interpreters)?,
                system: paths(&system)?,
                readers: names(&file.readers)?,
                managers: names(&file.managers)?,
                carriers: file.carriers,
                ordinary: lines(file.ordinary)?,
                usual: lines(file.usual)?,
            })
        };
        build().map_err(|error| error.to_string())
    }

    /// What was started?
    pub fn kind(&self, started: Started<'_>) -> Kind {
        let name = name_of(started);
        if let Some(kind) = self.known_line(name, started) {
            kind
        } else if self.shells.is_match(path(name)) {
            Kind::Shell
        } else if self.interpreters.is_match(path(name)) {
            Kind::Interpreter
        } else if self.is_hidden_shell(started) {
            Kind::Shell
        } else if name.starts_with(MEMFD) {
            Kind::Memory
        } else {
            Kind::Unexpected
        }
    }

    /// Is it a framework's own tool, or a usual one? A script of the system's is what its name says, whoever interprets it;
    /// and so is what a shell is given to start and nothing else: there each program is seen again, as itself.
    fn known_line(&self, name: &[u8], started: Started<'_>) -> Option<Kind> {
        if started.argv_truncated {
            return None;
        }
        if let Some(kind) = self.listed(name, started) {
            return Some(kind);
        }
        let is_shell = self.shells.is_match(path(name));
        if !self.system.is_match(path(started.exe)) || !(is_shell || self.interpreters.is_match(path(name))) {
            return None;
        }
        if let [_, flag, command] = started.argv
            && is_shell
            && flag == b"-c"
        {
            let commands = plain_commands(command)?;
            let kinds: Option<Vec<Kind>> = commands.iter().map(|words| self.listed_in_shell(words, started)).collect();
            let all_ordinary = kinds?.iter().all(|kind| *kind == Kind::Ordinary);
            return Some(if all_ordinary { Kind::Ordinary } else { Kind::Usual });
        }
        let script = script_of(started.argv)?;
        let exe = script.first().filter(|exe| self.system.is_match(path(exe)))?;
        self.listed(base_name(exe), Started { exe, argv: script, parent_exe: b"", ..started })
    }

    fn listed(&self, name: &[u8], started: Started<'_>) -> Option<Kind> {
        let ordinary = self.ordinary.iter().any(|line| line.is(name, started)).then_some(Kind::Ordinary);
        ordinary.or_else(|| self.usual.iter().any(|line| line.is(name, started)).then_some(Kind::Usual))
    }

    /// One of the commands that a shell was given. Where its program really is, is asked of itself; the shell makes it no
    /// louder outside a load.
    fn listed_in_shell(&self, words: &[Bytes], shell: Started<'_>) -> Option<Kind> {
        let first = words.first()?;
        let exe = if first.contains(&b'/') { first.clone() } else { [&b"/usr/bin/"[..], first].concat() };
        let name = base_name(first);
        let usual = || self.usual.iter().any(|line| line.is_called(name, words)).then_some(Kind::Usual);
        self.listed(name, Started { exe: &exe, argv: words, parent_exe: b"", ..shell }).or_else(usual)
    }

    /// Is it a shell of the system's?
    pub fn is_system_shell(&self, exe: &[u8]) -> bool {
        self.system.is_match(path(exe)) && self.shells.is_match(path(base_name(exe)))
    }

    /// Is a program outside the system's folders called as a shell is? A copy of one, or of busybox, under another name.
    fn is_hidden_shell(&self, started: Started<'_>) -> bool {
        let is_shell = |argument: &Bytes| {
            let name = base_name(argument);
            self.shells.is_match(path(name.strip_prefix(b"-").unwrap_or(name)))
        };
        let first = started.argv.get(1);
        !self.system.is_match(path(started.exe))
            && (started.argv.first().is_some_and(is_shell)
                || first.is_some_and(|argument| argument == b"-c" || is_shell(argument)))
    }

    /// Is a program (or script) of this name on the reader list? Who owns it is the caller's to check.
    pub fn is_reader(&self, name: &[u8]) -> bool {
        self.readers.is_match(path(base_name(name)))
    }

    /// Is `exe` an interpreter that was started for a script on the reader list? As the kernel does it where a file begins
    /// with `#!` (fs/binfmt_script.c): the script's path stands behind at most one flag. Who owns it is the caller's to
    /// check.
    pub fn is_reader_script(&self, exe: &[u8], argv: &[Bytes]) -> bool {
        self.interpreters.is_match(path(base_name(exe)))
            && script_of(argv).and_then(<[_]>::first).is_some_and(|script| self.is_reader(script))
    }

    /// Keys of the names of programs that open files for others, for the kernel's table.
    pub fn carriers(&self) -> Vec<(u64, u8)> {
        self.carriers.iter().map(|name| (sensor_abi::name::key_of_name(name.as_bytes()), 1)).collect()
    }

    /// May the kernel take a program of this name for one of those?
    pub fn is_carrier(&self, exe: &[u8]) -> bool {
        let key = sensor_abi::name::key_of_name(base_name(exe));
        self.carriers().iter().any(|(carrier, _)| *carrier == key)
    }

    /// Is a program of this name on the list of managers?
    pub fn is_manager(&self, name: &[u8]) -> bool {
        self.managers.is_match(path(base_name(name)))
    }
}

/// The name that a started program is known by: that of its executable, else what it was called as.
fn name_of<'a>(started: Started<'a>) -> &'a [u8] {
    let path = if started.exe.is_empty() { started.argv.first().map_or(&[][..], Vec::as_slice) } else { started.exe };
    base_name(path)
}

/// Last component; the kernel's mark of a file that is gone is no part of the name.
fn base_name(path: &[u8]) -> &[u8] {
    let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

fn path(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}

/// Globs of whole names or arguments: `*` crosses everything.
fn names(globs: &[String]) -> Result<GlobSet, globset::Error> {
    set(globs, false)
}

/// Globs of paths: `*` stays within a component.
pub fn paths(globs: &[String]) -> Result<GlobSet, globset::Error> {
    set(globs, true)
}

fn set(globs: &[String], literal_separator: bool) -> Result<GlobSet, globset::Error> {
    let mut builder = GlobSetBuilder::new();
    for glob in globs {
        builder.add(glob_of(glob, literal_separator)?);
    }
    builder.build()
}

/// One glob, case-sensitive.
pub fn glob_of(text: &str, literal_separator: bool) -> Result<Glob, globset::Error> {
    GlobBuilder::new(text).literal_separator(literal_separator).backslash_escape(true).build()
}

#[cfg(test)]
#[path = "program_tests.rs"]
mod tests;
