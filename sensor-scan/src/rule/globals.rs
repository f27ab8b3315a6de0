//! What importing and calling a Python name does: the one table for scan, load time and run time.
//!
//! The data is `rules/globals.toml` (judgements) and `rules/aliases.toml` (which module shows which other one as an
//! attribute; generated offline); `build.rs` turns both into the sorted tables below. Unknown is never silently safe.

/// A judgement on one use of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    Safe,
    Unknown,
    Risky,
    Dangerous,
}

impl Level {
    pub fn name(self) -> &'static str {
        match self {
            Self::Safe => "safe",
            Self::Unknown => "unknown",
            Self::Risky => "risky",
            Self::Dangerous => "dangerous",
        }
    }
}

/// What happens when the callable runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    None,
    ExecCommand,
    ExecCode,
    Import,
    Attribute,
    Deserialise,
    FileRead,
    FileWrite,
    Network,
    Process,
    Credentials,
    Native,
    Hook,
    Exhaust,
    /// Calls what it is given.
    Trampoline,
}

impl Effect {
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::ExecCommand => "exec-command",
            Self::ExecCode => "exec-code",
            Self::Import => "import",
            Self::Attribute => "attribute",
            Self::Deserialise => "deserialise",
            Self::FileRead => "file-read",
            Self::FileWrite => "file-write",
            Self::Network => "network",
            Self::Process => "process",
            Self::Credentials => "credentials",
            Self::Native => "native",
            Self::Hook => "hook",
            Self::Exhaust => "exhaust",
            Self::Trampoline => "trampoline",
        }
    }

    /// For a person: "runs a command".
    pub fn phrase(self) -> &'static str {
        match self {
            Self::None => "does nothing harmful",
            Self::ExecCommand => "runs a command",
            Self::ExecCode => "runs code",
            Self::Import => "imports a module",
            Self::Attribute => "reaches through attributes",
            Self::Deserialise => "deserialises again",
            Self::FileRead => "reads files",
            Self::FileWrite => "writes or deletes files",
            Self::Network => "connects to the network",
            Self::Process => "acts on processes or the interpreter",
            Self::Credentials => "reads credentials or the environment",
            Self::Native => "runs native code",
            Self::Hook => "installs a hook that runs later",
            Self::Exhaust => "exhausts the reader",
            Self::Trampoline => "calls what it is given",
        }
    }
}

/// What the arguments of a call mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Does {
    /// Nothing beyond the effect.
    Plain,
    /// Calls argument `callable` with the sequence in argument `with`.
    Calls {
        callable: u8,
        with: u8,
    },
    /// Calls argument `callable` with the arguments behind it, now or later.
    CallsRest {
        callable: u8,
    },
    /// Calls argument `callable` with elements of the others (`map`, `reduce`).
    CallsEach {
        callable: u8,
    },
    /// `functools.partial`.
    Partial,
    /// `cls.__new__(cls, *args)`.
    NewObject,
    /// `copyreg._reconstructor(cls, base, state)`: calls `base.__init__`.
    Reconstructor,
    GetAttribute,
    AttrGetter,
    MethodCaller,
    /// Imports the module named by argument 0.
    Import,
    /// Resolves a dotted name to an object: `pkgutil.resolve_name`.
    Resolve,
    /// The same from a module and a name: how ufuncs are pickled.
    ResolvePair,
    AddExtension,
    /// `type(name, bases, namespace)` and other makers of classes.
    MakeClass,
    /// The same, as cloudpickle and dill write a user's class by value.
    MakeOwnClass,
    /// `setattr(object, name, value)`.
    SetAttribute,
    /// Deserialises constant bytes in argument 0, or a file object made of them.
    Loads,
    /// The same, as part of what a framework writes.
    LoadsOwn,
    /// Wraps bytes as a file.
    BytesFile,
    /// `types.CodeType`, `dill._dill._create_code`.
    MakeCode,
    /// Makes a function from a code object in argument 0.
    MakeFunction,
    /// A type by its name in `types`: `cloudpickle._builtin_type`.
    TypeByName,
    /// `open(path, mode)`: mode in argument 1.
    Open,
    /// Opens a path or URL in argument 0 for reading.
    ReadPath,
    Encode,
    Decode,
    FromBase64,
    FromHex,
    Decompress,
    /// `str.join(separator, parts)`.
    Join,
    /// `operator.add`, `str.__add__`.
    Concatenate,
    /// Gives back argument 0 as it is: `str`, `bytes` of a constant.
    Identity,
    /// Compiles the regular expression in argument 0.
    Regex,
    /// The import alone has the effect.
    RunsAtImport,
    /// Allocates as much as an argument says.
    Allocates,
    /// Its result grows with the value of an argument, not with its size: powers, products, factorials.
    Grows,
    /// Reads the iterables that it is given to their end.
    Consumes,
    /// Makes an iterator without an end.
    Endless,
}

/// One line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Judgement where the name is only imported.
    pub imported: Level,
    /// Judgement where it is called.
    pub called: Level,
    pub effect: Effect,
    pub does: Does,
    pub reason: &'static str,
    /// Where it is known from.
    pub source: &'static str,
}

/// Names of one module, sorted; patterns (`*.write_text`, `read_*`, `<class>`, `*`) in order of their strictness.
struct Module {
    exact: &'static [(&'static str, u16)],
    patterns: &'static [(&'static str, u16)],
}

include!(concat!(env!("OUT_DIR"), "/globals.rs"));

fn find<T: Copy>(table: &'static [(&'static str, T)], key: &str) -> Option<T> {
    table
        .binary_search_by(|(name, _)| (*name).cmp(key))
        .ok()
        .and_then(|index| table.get(index))
        .map(|(_, value)| *value)
}

/// Looks up a name in the module that defines it; the flag says that the entry spells the name out. Both have to be
/// resolved already (see [`canonical_module`]).
pub fn lookup(module: &str, name: &str) -> Option<(&'static Rule, bool)> {
    let in_table = |table: &'static [(&'static str, Module)], key: &str| -> Option<(&'static Rule, bool)> {
        let index = table.binary_search_by(|(name, _)| (*name).cmp(key)).ok()?;
        let (_, names) = table.get(index)?;
        if let Some(rule) = find(names.exact, name) {
            return RULES.get(usize::from(rule)).map(|rule| (rule, true));
        }
        let (_, rule) = names.patterns.iter().find(|(pattern, _)| matches(pattern, name))?;
        RULES.get(usize::from(*rule)).map(|rule| (rule, false))
    };
    if let Some(rule) = in_table(MODULES, module) {
        return Some(rule);
    }
    let mut tree = module;
    loop {
        if let Some(rule) = in_table(TREES, tree) {
            return Some(rule);
        }
        tree = tree.rsplit_once('.')?.0;
    }
}

/// Does the name match a pattern of the table?
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    match pattern {
        "*" => true,
        "<class>" => is_class_name(name),
        "<rebuild>" => is_rebuild_name(name),
        _ => match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
            (Some(rest), Some(_)) => name.contains(rest.trim_end_matches('*')),
            (Some(suffix), None) => name.ends_with(suffix),
            (None, Some(prefix)) => name.starts_with(prefix),
            (None, None) => pattern == name,
        },
    }
}

/// A plain class by convention: CapWords (a leading underscore is fine), also nested ones.
pub fn is_class_name(name: &str) -> bool {
    !name.is_empty()
        && name.split('.').all(|segment| {
            let bare = segment.trim_start_matches('_');
            bare.starts_with(|first: char| first.is_uppercase())
                && !segment.ends_with("__")
                && bare.chars().all(|c| c.is_alphanumeric() || c == '_')
        })
}

/// A function that frameworks name as the maker of their objects in `__reduce__`.
pub fn is_rebuild_name(name: &str) -> bool {
    const PREFIXES: &[&str] = &[
        "_reconstruct",
        "__reconstruct",
        "reconstruct_",
        "_rebuild",
        "rebuild_",
        "_unpickle",
        "__pyx_unpickle",
        "unpickle_",
        "_new_",
        "__new",
        "_newobj",
        "newObj",
        "_restore",
        "_from_state",
        "_frombuffer",
        "_mareconstruct",
        "_create_from",
        "_create_empty",
        "_make_from",
        "_construct",
        "_recreate",
        "_deserialize_from_state",
    ];
    const SUFFIXES: &[&str] =
        &["_ctor", "_reconstruct", "_reconstructor", "_rebuild", "_unpickle", "_unpickler", "_constructor", "_newobj"];
    let last = name.rsplit('.').next().unwrap_or(name);
    PREFIXES.iter().any(|prefix| last.starts_with(prefix)) || SUFFIXES.iter().any(|suffix| last.ends_with(suffix))
}

/// What `module.attribute` really is, where it is not defined there: a module (`os`), or `module:name`.
pub fn alias(module: &str, attribute: &str) -> Option<&'static str> {
    let index = ALIASES.binary_search_by(|(m, a, _)| (*m, *a).cmp(&(module, attribute))).ok()?;
    ALIASES.get(index).map(|(_, _, target)| *target)
}

/// Python 3's place of a Python 2 name (protocol < 3 with `fix_imports`).
pub fn python2(module: &str, name: &str) -> Option<(&'static str, Option<&'static str>)> {
    if let Ok(index) = PYTHON2_NAMES.binary_search_by(|(m, n, _, _)| (*m, *n).cmp(&(module, name))) {
        return PYTHON2_NAMES.get(index).map(|(_, _, module, name)| (*module, Some(*name)));
    }
    find(PYTHON2_MODULES, module).map(|module| (module, None))
}

/// The name under which the table knows a module: C twins, moved packages.
pub fn canonical_module(module: &str) -> Option<String> {
    // A copy of a package within another one may hold a module that is a twin itself.
    let first = twin(module)?;
    Some(twin(&first).unwrap_or(first))
}

fn twin(module: &str) -> Option<String> {
    if let Some(twin) = find(TWINS, module) {
        return Some(twin.to_owned());
    }
    let mut tree = module;
    while let Some((shorter, _)) = tree.rsplit_once('.') {
        tree = shorter;
        if let Some(twin) = find(TWINS, tree) {
            return Some(format!("{twin}{}", module.get(tree.len()..).unwrap_or_default()));
        }
    }
    None
}

/// Is this the top level of a module of Python's standard library?
pub fn is_stdlib(root: &str) -> bool {
    STDLIB.binary_search(&root).is_ok()
}

/// Does the table know this module, or one below it?
pub fn is_known_module(module: &str) -> bool {
    let below = |table: &'static [(&'static str, Module)]| {
        let at = table.partition_point(|(name, _)| *name < module);
        table.get(at).is_some_and(|(name, _)| {
            name.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    };
    is_stdlib(module) || below(MODULES) || below(TREES)
}

/// Is this the top level of a package that the table has entries for?
pub fn is_known_root(root: &str) -> bool {
    is_stdlib(root) || ROOTS.binary_search(&root).is_ok()
}

/// Top-level packages that the table has entries for, standard library included.
pub fn known_roots() -> impl Iterator<Item = &'static str> {
    STDLIB.iter().copied().chain(ROOTS.iter().copied())
}

/// Every rule of the table, for tests and listings.
pub fn all() -> &'static [Rule] {
    RULES
}
