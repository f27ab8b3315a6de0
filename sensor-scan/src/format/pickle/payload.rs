//! What a text that is handed to an unknown callable looks like: a command, code, a place.
//!
//! This never judges a file by the words in it: it only grades calls of functions that no table knows.

use crate::rule::globals;

/// What a text looks like, mildest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Look {
    Plain,
    /// A path of the file system.
    Path,
    /// Long base64 or hexadecimal.
    Encoded,
    /// A name of something dangerous.
    Name,
    Host,
    Url,
    Code,
    Command,
}

impl Look {
    pub fn phrase(self) -> &'static str {
        match self {
            Self::Plain => "plain data",
            Self::Path => "a path",
            Self::Encoded => "encoded bytes",
            Self::Name => "the name of a dangerous function or module",
            Self::Host => "a host",
            Self::Url => "a URL",
            Self::Code => "code",
            Self::Command => "a command",
        }
    }
}

const COMMANDS: &[&str] = &[
    "bash",
    "cat",
    "chmod",
    "chown",
    "cmd",
    "cmd.exe",
    "cp",
    "curl",
    "dd",
    "echo",
    "env",
    "id",
    "kill",
    "ln",
    "ls",
    "mkdir",
    "mv",
    "nc",
    "ncat",
    "netcat",
    "nohup",
    "perl",
    "php",
    "ping",
    "pip",
    "pip3",
    "powershell",
    "powershell.exe",
    "python",
    "python2",
    "python3",
    "rm",
    "ruby",
    "scp",
    "sh",
    "socat",
    "ssh",
    "sudo",
    "tar",
    "touch",
    "uname",
    "wget",
    "whoami",
    "zsh",
    "calc",
    "calc.exe",
    "open",
    "xterm",
    "xcalc",
    "osascript",
    "base64",
    "mkfifo",
    "tee",
    "head",
    "sleep",
    "export",
    "sed",
    "awk",
    "find",
    "printf",
    "test",
    "true",
    "ifconfig",
    "ip",
    "hostname",
    "nslookup",
    "dig",
    "certutil",
    "mshta",
    "notepad",
];

const CODE: &[&str] = &[
    "import ",
    "__import__",
    "eval(",
    "exec(",
    "open(",
    "os.",
    "sys.",
    "subprocess",
    "lambda ",
    "lambda:",
    "print(",
    "compile(",
    "getattr(",
    "globals(",
    "__builtins__",
    "__class__",
    "__subclasses__",
    "socket.",
    ".system(",
    ".popen(",
    "def ",
    "class ",
    ").read()",
    ".write(",
    ".decode(",
];

/// What a text looks like.
pub fn look(text: &[u8]) -> Look {
    let Ok(text) = std::str::from_utf8(text) else { return Look::Plain };
    let trimmed = text.trim();
    if trimmed.len() < 2 {
        return Look::Plain;
    }
    let first = trimmed.split_whitespace().next().unwrap_or_default();
    let program = first.rsplit(['/', '\\']).next().unwrap_or_default();
    let has_more = first.len() < trimmed.len();
    let is_command = COMMANDS.binary_search_by(|known| known.cmp(&program)).is_ok() || COMMANDS.contains(&program);
    if is_command && (has_more || first.contains('/')) && trimmed.len() < 2048 {
        return Look::Command;
    }
    if matches!(trimmed, "sh" | "bash" | "whoami" | "id" | "calc.exe" | "calc" | "powershell" | "cmd.exe") {
        return Look::Command;
    }
    if ["; ", " && ", " || ", " | ", "$(", "`", " >/", " > /", " 2>&1", "/dev/tcp/"]
        .iter()
        .any(|meta| trimmed.contains(meta))
        && trimmed.contains(['/', '-', '$'])
        && trimmed.len() < 2048
    {
        return Look::Command;
    }
    if CODE.iter().any(|word| trimmed.contains(word)) && trimmed.contains(['(', ';', '\n', ' ']) {
        return Look::Code;
    }
    if let Some((scheme, rest)) = trimmed.split_once("://")
        && !rest.is_empty()
        && scheme.len() < 16
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    {
        return Look::Url;
    }
    if is_host(trimmed) {
        return Look::Host;
    }
    if names_danger(trimmed) {
        return Look::Name;
    }
    let absolute = trimmed.starts_with('/') && trimmed.len() > 2
        || trimmed.starts_with("~/")
        || trimmed.starts_with("../")
        || trimmed.starts_with("./")
        || trimmed.starts_with("\\\\")
        || trimmed.get(1..3).is_some_and(|drive| drive == ":\\" || drive == ":/");
    if absolute && !trimmed.contains('\n') && trimmed.len() < 1024 {
        return Look::Path;
    }
    let encoded = trimmed.len() >= 40
        && trimmed.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=' | b'-' | b'_'))
        && trimmed.bytes().any(|b| b.is_ascii_uppercase())
        && trimmed.bytes().any(|b| b.is_ascii_digit());
    if encoded { Look::Encoded } else { Look::Plain }
}

fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() => (host, true),
        _ => (text, false),
    };
    let dotted_quad = host.split('.').count() == 4 && host.split('.').all(|part| part.parse::<u8>().is_ok());
    dotted_quad && host != "0.0.0.0" || (port && (host == "localhost" || host.contains('.')))
}

/// A dotted name, or one with a colon, of something that the table calls dangerous.
fn names_danger(text: &str) -> bool {
    if text.len() > 128 || !text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | ':')) {
        return false;
    }
    let text = text.replace(':', ".");
    if matches!(
        text.as_str(),
        "os" | "subprocess" | "posix" | "nt" | "pty" | "runpy" | "ctypes" | "builtins" | "importlib" | "socket"
    ) {
        return true;
    }
    let Some((module, name)) = text.rsplit_once('.') else { return false };
    let known = globals::is_known_module(module);
    known
        && globals::lookup(&globals::canonical_module(module).unwrap_or_else(|| module.to_owned()), name)
            .is_some_and(|(rule, _)| rule.called == globals::Level::Dangerous)
}

/// Does a name say that the function runs, loads, writes or fetches something?
pub fn is_active_name(path: &str) -> bool {
    const WORDS: &[&str] = &[
        "run",
        "exec",
        "execute",
        "eval",
        "system",
        "popen",
        "spawn",
        "shell",
        "command",
        "cmd",
        "call",
        "load",
        "loads",
        "import",
        "open",
        "read",
        "write",
        "save",
        "dump",
        "download",
        "fetch",
        "urlopen",
        "request",
        "connect",
        "send",
        "install",
        "launch",
        "start",
        "compile",
        "script",
        "invoke",
        "apply",
        "unpickle",
        "deserialize",
        "instantiate",
        "pretrained",
        "checkpoint",
        "remove",
        "delete",
        "unlink",
        "kill",
        "upload",
        "listen",
        "serve",
        "getoutput",
        "decode",
        "evaluate",
        "source",
        "main",
        "entry",
        "process",
        "subprocess",
        "thread",
        "hook",
        "register",
        "rmtree",
        "mkdir",
        "mkdirp",
        "makedirs",
        "extract",
        "extractall",
        "unzip",
        "untar",
        "urlretrieve",
        "restore",
        "retrieve",
        "subimport",
        "login",
        "cython",
    ];
    path.rsplit('.').next().unwrap_or(path).split('_').any(|word| WORDS.contains(&word.to_ascii_lowercase().as_str()))
}

/// Is it a part of a package that is there for people and tests: its functions start, install, fetch and show things?
pub fn is_tool_module(module: &str) -> bool {
    const SEGMENTS: &[&str] = &[
        "benchmarks",
        "bin",
        "cli",
        "cmd",
        "command",
        "commands",
        "conftest",
        "console",
        "download",
        "downloader",
        "examples",
        "launch",
        "launcher",
        "launchers",
        "main__",
        "process",
        "runtests",
        "scripts",
        "server",
        "shell",
        "subprocess",
        "test",
        "testing",
        "tests",
        "tools",
    ];
    module.split('.').skip(1).any(|segment| SEGMENTS.binary_search(&segment.trim_start_matches('_')).is_ok())
}

/// Letters of other scripts that look like Latin ones.
fn confusable(c: char) -> Option<char> {
    Some(match c {
        'а' | 'ɑ' | 'α' => 'a',
        'ь' | 'Ь' => 'b',
        'с' | 'ϲ' => 'c',
        'ԁ' => 'd',
        'е' | 'ё' | 'ҽ' => 'e',
        'ɡ' => 'g',
        'һ' => 'h',
        'і' | 'ı' | 'ι' => 'i',
        'ј' => 'j',
        'κ' | 'к' => 'k',
        'ӏ' => 'l',
        'м' => 'm',
        'ո' | 'п' => 'n',
        'о' | 'ο' | 'օ' => 'o',
        'р' | 'ρ' => 'p',
        'ԛ' => 'q',
        'г' => 'r',
        'ѕ' => 's',
        'т' | 'τ' => 't',
        'υ' | 'ս' => 'u',
        'ν' | 'ѵ' => 'v',
        'ԝ' | 'ω' => 'w',
        'х' | 'χ' => 'x',
        'у' | 'γ' => 'y',
        'ᴢ' => 'z',
        '０'..='９' | 'ａ'..='ｚ' | 'Ａ'..='Ｚ' => char::from_u32(c as u32 - 0xfee0)?,
        _ => return None,
    })
}

/// Packages that are worth imitating.
const IMITATED: &[&str] = &[
    "torch",
    "numpy",
    "sklearn",
    "pandas",
    "tensorflow",
    "keras",
    "transformers",
    "joblib",
    "scipy",
    "xgboost",
    "lightgbm",
    "catboost",
    "collections",
    "builtins",
    "subprocess",
    "diffusers",
    "tokenizers",
    "torchvision",
    "datetime",
    "pathlib",
];

/// The known package that a module's root imitates: by letters of other scripts, or by one letter more, less or other.
pub fn imitated_root(module: &str) -> Option<&'static str> {
    let root = module.split('.').next().unwrap_or(module);
    if root.len() > 64 {
        return None;
    }
    if !root.is_ascii() {
        let latin: String = root.chars().map(|c| confusable(c).unwrap_or(c)).collect();
        return globals::known_roots().find(|known| **known == latin);
    }
    if root.len() < 5 || globals::is_known_root(root) {
        return None;
    }
    // `transformer.py` and `tokenizer.py` are what people call their own modules.
    let singular = |a: &str, b: &str| a.strip_suffix('s') == Some(b) || b.strip_suffix('s') == Some(a);
    IMITATED.iter().copied().find(|known| {
        let one_digit =
            root.strip_prefix(known).is_some_and(|rest| rest.len() == 1 && rest.bytes().all(|b| b.is_ascii_digit()));
        one_digit || (!singular(root, known) && one_edit(root.as_bytes(), known.as_bytes()))
    })
}

/// One letter inserted, left out, changed, or two neighbours swapped.
fn one_edit(a: &[u8], b: &[u8]) -> bool {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let same = short.iter().zip(long).take_while(|(x, y)| x == y).count();
    let (short, long) = (short.get(same..).unwrap_or_default(), long.get(same..).unwrap_or_default());
    match long.len() - short.len() {
        0 => match (short, long) {
            ([_, rest @ ..], [_, other @ ..]) if rest == other => true,
            ([x, y, rest @ ..], [v, w, other @ ..]) => x == w && y == v && rest == other,
            _ => false,
        },
        1 => long.get(1..).is_some_and(|rest| rest == short),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks() {
        assert_eq!(look(b"touch /tmp/x"), Look::Command);
        assert_eq!(look(b"curl http://a | sh"), Look::Command);
        assert_eq!(look(b"open('/tmp/x','w')"), Look::Code);
        assert_eq!(look(b"http://127.0.0.1:9/"), Look::Url);
        assert_eq!(look(b"/etc/passwd"), Look::Path);
        assert_eq!(look(b"os.system"), Look::Name);
        assert_eq!(look(b"10.0.0.1"), Look::Host);
        for plain in
            ["minkowski", "large_string", "cuda:0", "utf-8", "relu", "euclidean", "(?u)\\b\\w\\w+\\b", "float32", "/"]
        {
            assert_eq!(look(plain.as_bytes()), Look::Plain, "{plain}");
        }
    }

    #[test]
    fn imitations() {
        assert_eq!(imitated_root("tоrch._utils"), Some("torch"));
        assert_eq!(imitated_root("numpyy.core"), Some("numpy"));
        assert_eq!(imitated_root("torch2.nn"), Some("torch"));
        assert_eq!(imitated_root("skleanr"), Some("sklearn"));
        assert_eq!(imitated_root("torch.nn"), None);
        assert_eq!(imitated_root("mynet"), None);
        assert_eq!(imitated_root("transformer.model"), None);
        assert_eq!(imitated_root("scipy"), None);
    }
}
