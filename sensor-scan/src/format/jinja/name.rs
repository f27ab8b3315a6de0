//! Names and texts that give a template away.

/// Attributes that jinja2's sandbox refuses beside those with two underscores, and modules' own.
const INTERNAL: &[&str] = &[
    "mro",
    "func_globals",
    "func_code",
    "func_closure",
    "func_defaults",
    "im_class",
    "im_func",
    "im_self",
    "gi_frame",
    "gi_code",
    "cr_frame",
    "cr_code",
    "cr_await",
    "ag_frame",
    "ag_code",
    "ag_await",
    "f_globals",
    "f_locals",
    "f_builtins",
    "f_back",
    "f_code",
    "tb_frame",
    "tb_next",
    "_module",
    "_TemplateReference__context",
];

/// Methods that run, open or import something, whatever they are reached from.
const ACTIONS: &[&str] = &[
    "popen",
    "system",
    "check_output",
    "check_call",
    "getoutput",
    "Popen",
    "spawn",
    "execve",
    "eval",
    "exec",
    "import_module",
    "load_module",
    "urlopen",
    "from_pyfile",
    "from_object",
    "import_string",
    "rmtree",
    "unlink",
];

/// Globals of Jinja and Flask that chat templates have no use for, and attacks start from.
pub const ANCHORS: &[&str] =
    &["lipsum", "cycler", "joiner", "self", "request", "config", "url_for", "get_flashed_messages"];

/// Attributes by which walks lead from an object to the interpreter.
pub const WALKED: &[&str] = &[
    "__class__",
    "__globals__",
    "__builtins__",
    "__subclasses__",
    "__init__",
    "__import__",
    "__base__",
    "__bases__",
    "__mro__",
    "__dict__",
    "__getattribute__",
    "__getitem__",
    "__self__",
    "__func__",
    "__code__",
    "__loader__",
    "__module__",
];

/// Stands for what is not known within a text; no text of a template has it.
pub const HIDDEN: char = '\u{ffff}';

/// A first or last part of a name with two underscores.
pub fn is_half(text: &str) -> bool {
    let halves = text.starts_with("__") != text.ends_with("__");
    halves && text.len() <= 20 && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// A short text of a name's characters.
pub fn is_word(text: &str) -> bool {
    let plain = |char: char| char.is_ascii_alphanumeric() || char == '_' || char == HIDDEN;
    text.len() <= 32 && text.chars().all(plain)
}

/// An internal attribute's name between two parts that are not known.
pub fn is_masked(name: &str) -> bool {
    let inner = name.strip_prefix(HIDDEN).and_then(|rest| rest.strip_suffix(HIDDEN));
    inner.is_some_and(|inner| WALKED.contains(&format!("__{}__", inner.trim_matches('_')).as_str()))
}

pub fn is_dunder(name: &str) -> bool {
    name.len() > 4
        && name.starts_with("__")
        && name.ends_with("__")
        && name[2..name.len() - 2].bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && name.bytes().any(|byte| byte != b'_')
}

/// Further attributes that every object, function, class or module of Python may have.
const PYTHON: &[&str] = &[
    "__add__",
    "__annotations__",
    "__builtin__",
    "__call__",
    "__cause__",
    "__closure__",
    "__context__",
    "__debug__",
    "__defaults__",
    "__delattr__",
    "__delitem__",
    "__dir__",
    "__doc__",
    "__enter__",
    "__eq__",
    "__exit__",
    "__file__",
    "__format__",
    "__get__",
    "__getattr__",
    "__hash__",
    "__init_subclass__",
    "__iter__",
    "__kwdefaults__",
    "__len__",
    "__main__",
    "__mod__",
    "__name__",
    "__new__",
    "__next__",
    "__path__",
    "__qualname__",
    "__reduce__",
    "__reduce_ex__",
    "__repr__",
    "__set__",
    "__setattr__",
    "__setitem__",
    "__setstate__",
    "__slots__",
    "__spec__",
    "__str__",
    "__subclasshook__",
    "__traceback__",
    "__weakref__",
    "__wrapped__",
];

/// A name that Python itself gives to attributes. Marks of a prompt have two underscores as well (`__media__`), and are
/// only told apart as long as nothing is reached by them.
pub fn is_of_python(text: &str) -> bool {
    WALKED.contains(&text) || PYTHON.contains(&text)
}

/// An attribute that leads out of the template's data.
pub fn is_internal(name: &str) -> bool {
    is_dunder(name) || INTERNAL.contains(&name)
}

pub fn is_action(name: &str) -> bool {
    ACTIONS.contains(&name)
}

/// A text that names an internal attribute: as a whole, as a step of a dotted path, or in a format field.
pub fn names_internal(text: &str) -> bool {
    if text.len() > 4096 {
        return false;
    }
    let steps = text.split(['.', '[', ']', '{', '}', '!', ':']);
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.[]{}!:0".contains(&byte));
    let field = text.contains('{') && text.contains('}');
    (plain || field) && steps.clone().any(is_dunder) && (steps.count() > 1 || is_of_python(text))
}

/// Texts by which a prompt is overridden rather than formatted.
pub fn overrides_instructions(text: &str) -> bool {
    let text = text.to_lowercase();
    let what =
        ["previous instructions", "prior instructions", "above instructions", "system prompt", "your instructions"];
    ["ignore ", "disregard ", "forget ", "override "]
        .iter()
        .filter_map(|verb| text.find(verb).map(|at| &text[at..]))
        .any(|rest| what.iter().any(|what| rest.find(what).is_some_and(|at| at < 40)))
}

/// Words as a user writes them, where templates test for markup (`</think>`, `[INST]`, `/no_think`) or for keys of parts.
pub fn is_plain_phrase(text: &str) -> bool {
    const KEYS: &[&str] = &[
        "text",
        "image",
        "images",
        "image_url",
        "video",
        "video_url",
        "audio",
        "audio_url",
        "input_audio",
        "type",
        "file",
        "tool_calls",
        "tool_call",
        "name",
        "arguments",
        "role",
        "content",
        "thinking",
        "reasoning",
        "reasoning_content",
        "system",
        "user",
        "assistant",
        "tool",
        "function",
    ];
    let text = text.trim();
    let plain =
        |c: char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_' | '.' | ',' | '\'' | '?' | '!' | '@' | '/');
    text.chars().filter(|c| c.is_alphabetic()).count() >= 3
        && text.chars().all(plain)
        && !text.starts_with(['/', '-'])
        && !KEYS.contains(&text)
        && !text.contains("think")
}
