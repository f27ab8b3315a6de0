//! Rules of the house that no compiler holds: who imports whom, where `unsafe` may stand, how long a file may be.
//!
//! A new edge in the import table is a decision about the architecture: it is made here, in the table, with a reason
//! that a reviewer sees, and ARCHITECTURE.md follows it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Which of our crates a crate may depend on. Who isn't named may depend on none.
const CRATES: &[(&str, &[&str])] = &[
    ("sensor-abi", &[]),
    ("sensor-ebpf", &["sensor-abi"]),
    ("sensor-scan", &[]),
    ("sensor", &["sensor-abi", "sensor-scan"]),
    ("xtask", &[]),
];

/// Which rooms of `sensor/src` a room may import; `*` is any. A room is a file or folder there, or one of `watch/`.
const ROOMS: &[(&str, &[&str])] = &[
    ("main", &["*"]),
    ("cli", &["command", "watch"]),
    // A verb wires rooms together, and nothing imports a verb.
    ("command", &["*"]),
    // The vocabulary: what happened, in our words.
    ("event", &[]),
    ("escape", &[]),
    ("table", &[]),
    // What `scan` is given: folders, links, and files that may be pipes or devices.
    ("open", &[]),
    ("hub", &[]),
    ("hash", &[]),
    ("walk", &["open"]),
    ("heap", &[]),
    // What was judged once, and what a name pretends to be.
    ("lock", &[]),
    ("lookalike", &[]),
    ("config", &["event", "policy", "sink"]),
    // From an act to an alert.
    ("policy", &["event"]),
    ("timeline", &["alert", "event", "table"]),
    // Where acts wait: in `watch` for what the scanner says, in `judge` for what it says too late.
    ("waiting", &["table"]),
    ("incident", &["event", "table"]),
    ("alert", &["escape", "event", "table"]),
    ("judge", &["alert", "event", "incident", "policy", "table", "timeline", "waiting"]),
    // The confined children that read hostile bytes.
    ("worker", &["event", "hash"]),
    // The kernel's side. `watch/mod.rs` alone knows its rooms; they share the decoded record and nothing else.
    (
        "watch",
        &[
            "event",
            "hub",
            "watch::correlate",
            "watch::deciders",
            "watch::decode",
            "watch::deed",
            "watch::dns",
            "watch::load",
            "watch::looks",
            "watch::memory",
            "watch::network",
            "watch::process",
            "watch::record",
            "watch::ring",
            "watch::sockets",
        ],
    ),
    ("watch::load", &[]),
    ("watch::ring", &[]),
    ("watch::memory", &["event", "watch::record"]),
    ("watch::record", &["event"]),
    ("watch::deciders", &["event", "watch::record"]),
    ("watch::decode", &["event", "watch::record"]),
    ("watch::deed", &["event", "watch::record"]),
    ("watch::dns", &[]),
    // Parts of `watch/mod.rs` of their own: they wire the rooms of looks and of sockets.
    ("watch::looks", &["event", "watch", "watch::boottime_ns", "watch::correlate"]),
    ("watch::sockets", &["event", "watch", "watch::dns", "watch::network", "watch::record"]),
    ("watch::network", &["event", "table", "watch::record"]),
    ("watch::process", &["event", "table", "watch::record"]),
    ("watch::correlate", &["event", "hub", "table", "waiting", "watch::record"]),
    // Out of the house: they see what they print and nothing of how it came about.
    ("sink", &["alert", "escape", "event"]),
    ("report", &["alert", "escape", "event", "hub"]),
    ("health", &["watch", "watch::load"]),
];

/// Foreign crates that only some rooms may use, and why.
const FENCED: &[(&str, &[&str], &str)] = &[
    ("aya", &["watch"], "the loader is replaceable only while nobody else knows it"),
    ("aya_obj", &["watch"], "the loader is replaceable only while nobody else knows it"),
    ("sensor_abi", &["watch", "policy", "worker", "command"], "who shows or judges speaks the vocabulary of `event`"),
    (
        "sensor_scan",
        &["command", "hash", "report", "walk", "worker"],
        "hostile bytes are read by `scan` or in the confined child, never in the daemon",
    ),
    ("landlock", &["worker"], "confinement is in one place"),
    ("seccompiler", &["worker"], "confinement is in one place"),
    ("clap", &["main", "cli", "command", "worker"], "the command line is in one place"),
];

/// Where the kernel, or another process, is on the other side.
const UNSAFE: &[&str] = &[
    "sensor-ebpf/src/",
    "sensor/src/heap.rs",
    "sensor/src/watch/load/batch.rs",
    "sensor/src/watch/load/pin.rs",
    "sensor/src/watch/load/reading.rs",
    "sensor/src/watch/load/tracepoint.rs",
    "sensor/src/watch/ring.rs",
    "sensor/src/worker/",
    "tests/runtime/",
    "xtask/src/bin/overhead/",
];

/// Where the unit tests begin that stand at the end of a file.
const UNIT_TESTS: &str = "#[cfg(test)]\nmod tests {";

/// About 500: a dozen screens. Tests may be longer, because a list of cases has no second idea.
const LINES_MAX: usize = 520;
const TEST_LINES_MAX: usize = 800;
/// Longer files, and why they are one piece: tables.
const LONGER: &[(&str, &str)] = &[];

#[test]
fn crates_depend_only_on_whom_they_may() {
    let mut wrong = Vec::new();
    for name in members() {
        let Some((_, allowed)) = CRATES.iter().find(|(member, _)| *member == name) else {
            wrong.push(format!("{name} is a new crate: say in CRATES whom it may depend on"));
            continue;
        };
        let manifest = manifest(&format!("{name}/Cargo.toml"));
        for table in dependency_tables(&manifest) {
            for dependency in table.keys().filter(|dependency| CRATES.iter().any(|(member, _)| member == dependency)) {
                if !allowed.contains(&dependency.as_str()) {
                    wrong.push(format!("{name} must not depend on {dependency}"));
                }
            }
        }
    }
    nothing(&wrong);
}

#[test]
fn versions_and_lints_stand_in_one_place() {
    let mut wrong = Vec::new();
    for name in members() {
        let manifest = manifest(&format!("{name}/Cargo.toml"));
        let inherits =
            |value: Option<&toml::Value>| value.and_then(|value| value.get("workspace")) == Some(&true.into());
        if !inherits(manifest.get("lints")) {
            wrong.push(format!("{name}/Cargo.toml: `[lints] workspace = true` is missing"));
        }
        for key in ["version", "edition", "rust-version"] {
            if !inherits(manifest.get("package").and_then(|package| package.get(key))) {
                wrong.push(format!("{name}/Cargo.toml: `{key}.workspace = true` is missing"));
            }
        }
        for table in dependency_tables(&manifest) {
            for (dependency, value) in table {
                if !inherits(Some(value)) {
                    wrong.push(format!("{name}/Cargo.toml: {dependency} has to say `workspace = true`"));
                }
            }
        }
    }
    nothing(&wrong);
}

#[test]
fn rooms_import_only_whom_they_may() {
    let mut wrong = Vec::new();
    for file in sources("sensor/src").iter().filter(|file| !file.is_test()) {
        let module = module_of(&file.name);
        let room = room_of(&module);
        let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
            wrong.push(format!("{}: `{room}` is a new room: say in ROOMS whom it may import", file.name));
            continue;
        };
        for path in paths(&file.code, &module) {
            let other = room_of(&path);
            let inside = other == room || other == "main";
            // A room of `watch/` reaches its parent's re-exports only to climb to a sibling: that counts as well.
            if !inside && !allowed.contains(&"*") && !allowed.contains(&other.as_str()) {
                wrong.push(format!("{}: `{room}` must not import `{}`", file.name, path.join("::")));
            }
        }
        for (name, rooms, why) in FENCED {
            let fenced = rooms.iter().any(|fence| room == *fence || room.starts_with(&format!("{fence}::")));
            if !fenced && uses(&file.code, name) {
                wrong.push(format!("{}: `{name}` belongs to {rooms:?} alone: {why}", file.name));
            }
        }
    }
    nothing(&wrong);
}

#[test]
fn every_file_says_what_it_is_for() {
    let wrong: Vec<String> = everything()
        .iter()
        .filter(|file| !file.text.starts_with("//!"))
        .map(|file| format!("{}: the first line has to be a `//!` comment that says what the file is for", file.name))
        .collect();
    nothing(&wrong);
}

#[test]
fn nothing_is_left_for_later() {
    let mut wrong = Vec::new();
    for file in everything().iter().filter(|file| file.name != "tests/tidy.rs") {
        for word in ["todo!", "unimplemented!", "TODO", "FIXME"] {
            if file.text.contains(word) {
                wrong.push(format!("{}: {word}", file.name));
            }
        }
    }
    nothing(&wrong);
}

#[test]
fn unsafe_stands_only_at_the_kernel_boundary() {
    let mut wrong = Vec::new();
    for file in everything() {
        if mentions(&file.code, "unsafe") && !UNSAFE.iter().any(|allowed| file.name.starts_with(allowed)) {
            wrong.push(format!("{}: `unsafe` may stand only in {UNSAFE:?}", file.name));
        }
    }
    nothing(&wrong);
}

#[test]
fn files_are_short_enough_to_read() {
    let mut wrong = Vec::new();
    for file in everything() {
        let lines = file.text.split(UNIT_TESTS).next().unwrap_or_default().lines().count();
        let max = if file.is_test() { TEST_LINES_MAX } else { LINES_MAX };
        match (lines > max, LONGER.iter().any(|(name, _)| *name == file.name)) {
            (true, false) => wrong.push(format!("{} has {lines} lines: more than {max} is two ideas", file.name)),
            (false, true) => wrong.push(format!("{} is short enough now: take it out of LONGER", file.name)),
            _ => {}
        }
    }
    for (name, _) in LONGER {
        if !root().join(name).is_file() {
            wrong.push(format!("{name} is gone: take it out of LONGER"));
        }
    }
    nothing(&wrong);
}

#[test]
fn paths_are_found_in_every_form() {
    let module = ["watch".to_owned(), "decode".to_owned()];
    let found = |code: &str| -> Vec<String> { paths(code, &module).iter().map(|path| path.join("::")).collect() };
    assert_eq!(found("use crate::event::{Bytes, Key};"), ["event::Bytes", "event::Key"]);
    assert_eq!(found("use crate::{a, b::{self, c}, d as e};"), ["a", "b::self", "b::c", "d"]);
    assert_eq!(found("fn f(x: super::record::Header) {}"), ["watch::record::Header"]);
    assert_eq!(found("use super::super::event;"), ["event"]);
    assert_eq!(found("mod tests { use super::*; }"), ["watch::*"]);
    assert_eq!(strip("a /* b */ \"c // d\" 'e' // f\ng 'h h"), "a  \"\" ' ' \ng 'h h");
    assert_eq!(room_of(&["watch".to_owned(), "load".to_owned(), "plan".to_owned()]), "watch::load");
    assert_eq!(room_of(&["watch".to_owned(), "Watch".to_owned()]), "watch");
}

fn nothing(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

struct Source {
    /// Relative to the root of the workspace.
    name: String,
    text: String,
    /// The text without comments, strings and the unit tests at its end.
    code: String,
}

impl Source {
    /// A file of unit tests and what they share: it may use whatever it needs for that.
    fn is_test(&self) -> bool {
        self.name.starts_with("tests/")
            || ["_tests.rs", "/tests.rs", "/testing.rs"].iter().any(|end| self.name.ends_with(end))
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in the workspace").to_owned()
}

fn manifest(name: &str) -> toml::Table {
    toml::from_str(&fs::read_to_string(root().join(name)).expect(name)).expect(name)
}

fn members() -> Vec<String> {
    let members = manifest("Cargo.toml")["workspace"]["members"].clone();
    members.as_array().expect("a list").iter().filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

/// Dependencies for the code, the tests and the build, of every platform.
fn dependency_tables(manifest: &toml::Table) -> Vec<&toml::Table> {
    let targets = manifest.get("target").and_then(|targets| targets.as_table());
    let tables = targets.into_iter().flat_map(|targets| targets.values().filter_map(|target| target.as_table()));
    let kinds = ["dependencies", "dev-dependencies", "build-dependencies"];
    std::iter::once(manifest)
        .chain(tables)
        .flat_map(|table| kinds.iter().filter_map(|kind| table.get(*kind)?.as_table()))
        .collect()
}

/// Every Rust file of the workspace.
fn everything() -> Vec<Source> {
    members().iter().map(String::as_str).chain(["tests"]).flat_map(sources).collect()
}

fn sources(folder: &str) -> Vec<Source> {
    let root = root();
    let mut folders = vec![root.join(folder)];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("a folder's entry").path();
            let name = path.strip_prefix(&root).expect("below the root").display().to_string();
            if path.is_dir() {
                if !name.ends_with("/target") && !name.ends_with("/fuzz") {
                    folders.push(path);
                }
            } else if name.ends_with(".rs") {
                let text = fs::read_to_string(&path).expect("text");
                let code = strip(&text);
                let code = code.split(UNIT_TESTS).next().unwrap_or(&code).to_owned();
                sources.push(Source { name, text, code });
            }
        }
    }
    sources.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(!sources.is_empty(), "no source in {folder}");
    sources
}

/// `sensor/src/watch/load/plan.rs` is `watch::load::plan`.
fn module_of(name: &str) -> Vec<String> {
    let name = name.trim_start_matches("sensor/src/").trim_end_matches(".rs").trim_end_matches("/mod");
    name.split('/').map(str::to_owned).collect()
}

/// The room that a path leads to: the first step, below `watch` the second too where that is a room of its own.
fn room_of(path: &[String]) -> String {
    let Some(first) = path.first() else { return "main".to_owned() };
    match path.get(1) {
        Some(second)
            if first == "watch" && second.starts_with(|c: char| c.is_ascii_lowercase()) && second != "self" =>
        {
            format!("watch::{second}")
        }
        _ => first.clone(),
    }
}

/// Every `crate::…` and `super::…` in the code, from the root of the crate, groups taken apart.
fn paths(code: &str, module: &[String]) -> Vec<Vec<String>> {
    let mut found = BTreeSet::new();
    let mut ordered = Vec::new();
    for (start, word) in code.match_indices("crate::").chain(code.match_indices("super::")) {
        // Not `$crate::`, not the second of `super::super::`.
        let before = code[..start].chars().next_back();
        if before.is_some_and(|c| c == ':' || c == '$' || c.is_alphanumeric() || c == '_') {
            continue;
        }
        let mut rest = &code[start..];
        let mut base: Vec<String> = if word == "crate::" { Vec::new() } else { module.to_vec() };
        if let Some(after) = rest.strip_prefix("crate::") {
            rest = after;
        }
        while let Some(after) = rest.strip_prefix("super::") {
            base.pop();
            rest = after;
        }
        let mut each = Vec::new();
        expand(rest, &base, &mut each);
        for path in each {
            if found.insert((start, path.clone())) {
                ordered.push(path);
            }
        }
    }
    ordered
}

/// Takes `a::{b, c::d}` apart; returns what follows it.
fn expand<'a>(text: &'a str, base: &[String], found: &mut Vec<Vec<String>>) -> &'a str {
    let mut path = base.to_vec();
    let mut rest = text;
    loop {
        if let Some(group) = rest.strip_prefix('{') {
            rest = group.trim_start();
            while !rest.is_empty() && !rest.starts_with('}') {
                rest = expand(rest, &path, found).trim_start();
                // ` as name` and the comma.
                let end = rest.find([',', '}']).unwrap_or(rest.len());
                rest = rest[end..].trim_start_matches(',').trim_start();
            }
            return rest.strip_prefix('}').unwrap_or(rest);
        }
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '*')).unwrap_or(rest.len());
        if end == 0 {
            return rest;
        }
        path.push(rest[..end].to_owned());
        rest = &rest[end..];
        let Some(after) = rest.strip_prefix("::") else {
            found.push(path);
            return rest;
        };
        rest = after;
    }
}

/// Does the code name this foreign crate: `name::`, and not as a step of a longer path?
fn uses(code: &str, name: &str) -> bool {
    code.match_indices(&format!("{name}::"))
        .any(|(at, _)| !code[..at].chars().next_back().is_some_and(|c| c == ':' || c == '_' || c.is_alphanumeric()))
}

/// Is `name` a word of the code?
fn mentions(code: &str, name: &str) -> bool {
    let word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    code.match_indices(name)
        .any(|(at, _)| !word(code[..at].chars().next_back()) && !word(code[at + name.len()..].chars().next()))
}

/// The code without comments and without what is in strings and characters.
fn strip(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if rest.starts_with("//") {
            rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
        } else if rest.starts_with("/*") {
            rest = rest.find("*/").map_or("", |end| &rest[end + 2..]);
        } else if let Some(raw) = raw_string(rest) {
            out.push_str("\"\"");
            rest = raw;
        } else if first == '"' {
            let mut escaped = false;
            let end = rest[1..].char_indices().find(|&(_, c)| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            });
            out.push_str("\"\"");
            rest = end.map_or("", |(end, _)| &rest[end + 2..]);
        } else if let Some(after) = character(rest) {
            out.push_str("' '");
            rest = after;
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    out
}

/// What follows a raw string that starts here.
fn raw_string(text: &str) -> Option<&str> {
    let body = text.strip_prefix('r')?;
    let hashes = body.len() - body.trim_start_matches('#').len();
    let body = body[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    Some(body.find(&end).map_or("", |at| &body[at + end.len()..]))
}

/// What follows a character literal that starts here; a lifetime is none.
fn character(text: &str) -> Option<&str> {
    let body = text.strip_prefix('\'')?;
    let mut chars = body.chars();
    if chars.next()? == '\\' {
        return body[1..].char_indices().skip(1).find(|&(_, c)| c == '\'').map(|(at, _)| &body[at + 2..]);
    }
    chars.as_str().strip_prefix('\'')
}
