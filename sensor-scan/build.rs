//! Compiles `rules/globals.toml` and `rules/aliases.toml` into sorted static tables.
//!
//! A wrong entry fails the build with its line: the table decides verdicts, so nothing in it is skipped silently.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, process};

use serde::Deserialize;
use toml::Spanned;

const LEVELS: &[(&str, &str)] =
    &[("safe", "Safe"), ("unknown", "Unknown"), ("risky", "Risky"), ("dangerous", "Dangerous")];

const EFFECTS: &[(&str, &str)] = &[
    ("none", "None"),
    ("exec-command", "ExecCommand"),
    ("exec-code", "ExecCode"),
    ("import", "Import"),
    ("attribute", "Attribute"),
    ("deserialise", "Deserialise"),
    ("file-read", "FileRead"),
    ("file-write", "FileWrite"),
    ("network", "Network"),
    ("process", "Process"),
    ("credentials", "Credentials"),
    ("native", "Native"),
    ("hook", "Hook"),
    ("exhaust", "Exhaust"),
    ("trampoline", "Trampoline"),
];

const DOES: &[(&str, &str)] = &[
    ("plain", "Plain"),
    ("partial", "Partial"),
    ("new-object", "NewObject"),
    ("reconstructor", "Reconstructor"),
    ("getattr", "GetAttribute"),
    ("attrgetter", "AttrGetter"),
    ("methodcaller", "MethodCaller"),
    ("import", "Import"),
    ("resolve", "Resolve"),
    ("add-extension", "AddExtension"),
    ("make-class", "MakeClass"),
    ("make-own-class", "MakeOwnClass"),
    ("setattr", "SetAttribute"),
    ("loads", "Loads"),
    ("loads-own", "LoadsOwn"),
    ("bytes-file", "BytesFile"),
    ("make-code", "MakeCode"),
    ("make-function", "MakeFunction"),
    ("type-by-name", "TypeByName"),
    ("open", "Open"),
    ("read-path", "ReadPath"),
    ("encode", "Encode"),
    ("decode", "Decode"),
    ("from-base64", "FromBase64"),
    ("from-hex", "FromHex"),
    ("decompress", "Decompress"),
    ("join", "Join"),
    ("concatenate", "Concatenate"),
    ("identity", "Identity"),
    ("regex", "Regex"),
    ("resolve-pair", "ResolvePair"),
    ("allocates", "Allocates"),
    ("grows", "Grows"),
    ("consumes", "Consumes"),
    ("endless", "Endless"),
    ("runs-at-import", "RunsAtImport"),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Globals {
    twins: BTreeMap<String, String>,
    group: Vec<Spanned<Group>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    modules: Vec<Spanned<String>>,
    names: Vec<Spanned<String>>,
    imported: Spanned<String>,
    called: Spanned<String>,
    effect: Spanned<String>,
    #[serde(default)]
    does: Option<Spanned<String>>,
    reason: String,
    source: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Aliases {
    stdlib: Vec<String>,
    python2_modules: BTreeMap<String, String>,
    python2_names: BTreeMap<String, String>,
    aliases: BTreeMap<String, String>,
}

#[derive(Default)]
struct Names {
    exact: BTreeMap<String, usize>,
    patterns: Vec<(String, usize)>,
}

/// One file of rules, for messages with a line.
struct File {
    path: PathBuf,
    text: String,
}

impl File {
    fn read(path: &Path) -> Self {
        println!("cargo::rerun-if-changed={}", path.display());
        match fs::read_to_string(path) {
            Ok(text) => Self { path: path.to_owned(), text },
            Err(error) => fail(&format!("{}: {error}", path.display())),
        }
    }

    fn parse<T: serde::de::DeserializeOwned>(&self) -> T {
        match toml::from_str(&self.text) {
            Ok(value) => value,
            Err(error) => fail(&format!("{}: {error}", self.path.display())),
        }
    }

    fn fail_at(&self, offset: usize, message: &str) -> ! {
        let line = self.text.get(..offset).map_or(0, |before| before.matches('\n').count()) + 1;
        fail(&format!("{}:{line}: {message}", self.path.display()))
    }

    fn word(&self, what: &str, word: &Spanned<String>, table: &[(&str, &'static str)]) -> &'static str {
        match table.iter().find(|(name, _)| name == word.get_ref()) {
            Some((_, variant)) => variant,
            None => {
                let known: Vec<&str> = table.iter().map(|(name, _)| *name).collect();
                let text = format!("`{}` is no {what}; write one of {}", word.get_ref(), known.join(", "));
                self.fail_at(word.span().start, &text)
            }
        }
    }

    fn does(&self, word: &Spanned<String>) -> String {
        let text = word.get_ref();
        let number = |digits: &str| -> u8 {
            digits.parse().unwrap_or_else(|_| {
                self.fail_at(word.span().start, &format!("`{text}`: `{digits}` is no argument number"))
            })
        };
        let parts: Vec<&str> = text.split(':').collect();
        match parts.as_slice() {
            ["call", callable, with] => {
                format!("Does::Calls {{ callable: {}, with: {} }}", number(callable), number(with))
            }
            ["call-rest", callable] => format!("Does::CallsRest {{ callable: {} }}", number(callable)),
            ["call-each", callable] => format!("Does::CallsEach {{ callable: {} }}", number(callable)),
            _ => format!("Does::{}", self.word("meaning of arguments", word, DOES)),
        }
    }
}

fn fail(message: &str) -> ! {
    println!("cargo::error={message}");
    process::exit(1)
}

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let rules = root.join("../rules");
    let mut out = String::new();
    globals(&File::read(&rules.join("globals.toml")), &mut out);
    aliases(&File::read(&rules.join("aliases.toml")), &mut out);
    let target = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("globals.rs");
    if let Err(error) = fs::write(&target, out) {
        fail(&format!("{}: {error}", target.display()));
    }
    println!("cargo::rerun-if-changed=build.rs");
}

fn globals(file: &File, out: &mut String) {
    let table: Globals = file.parse();
    let mut modules: BTreeMap<String, Names> = BTreeMap::new();
    let mut trees: BTreeMap<String, Names> = BTreeMap::new();
    let mut rules = String::new();
    for (index, group) in table.group.iter().enumerate() {
        let at = group.span().start;
        let group = group.get_ref();
        if group.reason.trim().is_empty() || group.source.trim().is_empty() {
            file.fail_at(at, "an entry needs a reason and a source");
        }
        if group.modules.is_empty() || group.names.is_empty() {
            file.fail_at(at, "an entry needs modules and names");
        }
        let does = group.does.as_ref().map_or_else(|| "Does::Plain".to_owned(), |does| file.does(does));
        let _ = writeln!(
            rules,
            "    Rule {{ imported: Level::{}, called: Level::{}, effect: Effect::{}, does: {does}, reason: {:?}, source: {:?} }},",
            file.word("level", &group.imported, LEVELS),
            file.word("level", &group.called, LEVELS),
            file.word("effect", &group.effect, EFFECTS),
            group.reason,
            group.source,
        );
        for module in &group.modules {
            let (tree, key) = match module.get_ref().strip_suffix(".**") {
                Some(key) => (true, key),
                None => (false, module.get_ref().as_str()),
            };
            let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-');
            if key.is_empty() || !key.chars().all(plain) {
                let text = format!("`{}` is no module; write `a.b` or `a.b.**`", module.get_ref());
                file.fail_at(module.span().start, &text);
            }
            if table.twins.contains_key(key) {
                let text = format!("`{key}` is a twin: write the entry for `{}`", table.twins[key]);
                file.fail_at(module.span().start, &text);
            }
            let names = if tree { &mut trees } else { &mut modules }.entry(key.to_owned()).or_default();
            for name in &group.names {
                add(file, key, names, name, index);
            }
        }
    }
    let _ = writeln!(out, "static RULES: &[Rule] = &[\n{rules}];");
    for (name, table) in [("MODULES", &mut modules), ("TREES", &mut trees)] {
        let _ = writeln!(out, "static {name}: &[(&str, Module)] = &[");
        for (module, names) in table {
            names.patterns.sort_by_key(|(pattern, _)| strictness(pattern));
            let exact: Vec<(&String, &usize)> = names.exact.iter().collect();
            let _ = writeln!(out, "    ({module:?}, Module {{ exact: &{exact:?}, patterns: &{:?} }}),", names.patterns);
        }
        let _ = writeln!(out, "];");
    }
    let twins: Vec<(&String, &String)> = table.twins.iter().collect();
    let _ = writeln!(out, "static TWINS: &[(&str, &str)] = &{twins:?};");
    let mut roots: Vec<&str> =
        modules.keys().chain(trees.keys()).filter_map(|module| module.split('.').next()).collect();
    roots.sort_unstable();
    roots.dedup();
    let _ = writeln!(out, "static ROOTS: &[&str] = &{roots:?};");
}

fn add(file: &File, module: &str, names: &mut Names, name: &Spanned<String>, rule: usize) {
    let text = name.get_ref();
    let pattern = text.contains('*') || text.starts_with('<');
    if pattern {
        let inner = text.strip_prefix('*').unwrap_or(text);
        let inner = inner.strip_suffix('*').unwrap_or(inner);
        if inner.contains('*') || (text.starts_with('<') && !matches!(text.as_str(), "<class>" | "<rebuild>")) {
            let message = format!("`{text}` is no pattern; write `*`, `x*`, `*x`, `*x*`, `<class>` or `<rebuild>`");
            file.fail_at(name.span().start, &message);
        }
        if names.patterns.iter().any(|(known, _)| known == text) {
            file.fail_at(name.span().start, &format!("`{module}` `{text}` is listed twice"));
        }
        names.patterns.push((text.clone(), rule));
    } else if text.is_empty() || text.contains(char::is_whitespace) {
        file.fail_at(name.span().start, &format!("`{text}` is no name"));
    } else if names.exact.insert(text.clone(), rule).is_some() {
        file.fail_at(name.span().start, &format!("`{module}` `{text}` is listed twice"));
    }
}

/// Longer literal parts first, then shapes, then everything.
fn strictness(pattern: &str) -> (u8, usize) {
    match pattern {
        "*" => (3, 0),
        "<class>" => (2, 0),
        "<rebuild>" => (1, 0),
        other => (0, usize::MAX - other.len()),
    }
}

fn aliases(file: &File, out: &mut String) {
    let table: Aliases = file.parse();
    let mut stdlib = table.stdlib;
    stdlib.sort();
    stdlib.dedup();
    let _ = writeln!(out, "static STDLIB: &[&str] = &{stdlib:?};");
    let modules: Vec<(&String, &String)> = table.python2_modules.iter().collect();
    let _ = writeln!(out, "static PYTHON2_MODULES: &[(&str, &str)] = &{modules:?};");
    let split = |text: &str| -> (String, String) {
        match text.rsplit_once(':') {
            Some((module, name)) if !module.is_empty() && !name.is_empty() => (module.to_owned(), name.to_owned()),
            _ => file.fail_at(file.text.find(text).unwrap_or(0), &format!("`{text}`: write `module:name`")),
        }
    };
    let mut names: Vec<(String, String, String, String)> = Vec::new();
    for (from, to) in &table.python2_names {
        let ((module, name), (to_module, to_name)) = (split(from), split(to));
        names.push((module, name, to_module, to_name));
    }
    names.sort();
    let _ = writeln!(out, "static PYTHON2_NAMES: &[(&str, &str, &str, &str)] = &{names:?};");
    let mut aliases: Vec<(String, String, &String)> = Vec::new();
    for (from, to) in &table.aliases {
        let (module, attribute) = split(from);
        aliases.push((module, attribute, to));
    }
    aliases.sort();
    let _ = writeln!(out, "static ALIASES: &[(&str, &str, &str)] = &{aliases:?};");
}
