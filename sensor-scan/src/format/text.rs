//! Texts that a format carries as data, and that some consumers evaluate, unpickle or instantiate.
//!
//! Prose about code is not code: only a call of something that acts, an attribute walk, an encoded pickle or a named
//! callable is reported.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::context::{Context, Piece};
use crate::finding::{Finding, Severity};
use crate::format::json::Json;
use crate::format::{self, stream};
use crate::source::MemorySource;

/// The shortest pickle that calls something takes some twenty bytes.
const ENCODED_BYTES_MIN: usize = 24;
/// Nothing shorter does anything.
const TEXT_BYTES_MIN: usize = 6;
/// Longer texts are looked at up to here.
const TEXT_BYTES_MAX: usize = 1 << 20;

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_allow_trailing_bits(true)
    .with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// Judges one text of a file's metadata; `key` says which.
pub fn scan(key: &str, value: &str, member: Option<&[u8]>, context: &mut Context<'_>) {
    let value = cut(value);
    if value.len() < TEXT_BYTES_MIN {
        return;
    }
    if let Some(bytes) = decoded(value)
        && holds_pickle(&bytes, &format::member(member, key.as_bytes()), context)
    {
        let finding = Finding::new("SNS-110", Severity::Medium, "a pickle is hidden in the metadata");
        context.report(finding.member(member).text("key", key));
        return;
    }
    if let Some(what) = active(value) {
        let finding = Finding::new("SNS-521", Severity::Medium, "the metadata holds code");
        let finding = finding.member(member).text("key", key).text("value", value).text("what", what);
        context.report(finding.loaders(&["a consumer that evaluates metadata"]));
    } else if has_target(value) {
        let finding = Finding::new("SNS-521", Severity::Medium, "the metadata names a callable to be instantiated");
        context
            .report(finding.member(member).text("key", key).text("value", value).loaders(&["hydra.utils.instantiate"]));
    }
}

/// Whether decoded bytes are a pickle or an archive; what is in it is reported. Words decode to bytes that are opcodes by
/// accident, but not to a call: without a magic number only that counts.
pub fn holds_pickle(bytes: &[u8], member: &[u8], context: &mut Context<'_>) -> bool {
    let source = MemorySource::new(bytes, b"");
    let piece = Piece { source: &source, start: 0, end: bytes.len() as u64, member: Some(member.to_vec()) };
    let marked = matches!(bytes, [0x80, 2..=5, ..]) || bytes.starts_with(b"PK\x03\x04");
    if !marked && !stream::looks_like(&piece) {
        return false;
    }
    let (accepted, findings) = context.isolated(|context| context.nested(&piece));
    let grave = findings.iter().any(|finding| finding.severity >= Severity::Medium && finding.id.starts_with("SNS-1"));
    let found = accepted && (marked || grave);
    if found {
        findings.into_iter().for_each(|finding| context.report(finding));
    }
    found
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// What a text is as base64 (either alphabet, line breaks, any padding) or hexadecimal.
pub fn decoded(text: &str) -> Option<Vec<u8>> {
    if text.len() < ENCODED_BYTES_MIN {
        return None;
    }
    // Most texts fail at the first blank between words.
    let head = text.trim_start().bytes().take(ENCODED_BYTES_MIN);
    if !head.clone().all(|byte| byte.is_ascii_alphanumeric() || b"+/=-_\r\n".contains(&byte)) {
        return None;
    }
    let compact: String = text.split_ascii_whitespace().collect();
    if compact.len() < ENCODED_BYTES_MIN {
        return None;
    }
    hexadecimal(&compact).or_else(|| STANDARD.decode(&compact).or_else(|_| URL_SAFE.decode(&compact)).ok())
}

fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|char| Some(char.to_digit(16)? as u8)).collect();
    digits
        .filter(|digits| digits.len() % 2 == 0)
        .map(|digits| digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect())
}

/// Calls that act, in Python and in what else a consumer may hand a text to. A word counts only where no letter, digit
/// or dot stands before it: `model.eval()` is none of them.
const CALLS: &[&str] = &[
    "os.system(",
    "os.popen(",
    "os.exec",
    "os.spawn",
    "os.remove(",
    "os.unlink(",
    "subprocess.",
    "eval(",
    "exec(",
    "compile(",
    "__import__(",
    "importlib.import_module(",
    "pty.spawn(",
    "socket.socket(",
    "pickle.loads(",
    "marshal.loads(",
    "shutil.rmtree(",
    "ctypes.CDLL(",
    "runpy.run_",
    "builtins.",
    "urllib.request.urlopen(",
    "requests.get(",
    "requests.post(",
    "open('/",
    "open(\"/",
    "open('~",
    "child_process",
    "java.lang.Runtime",
    "Runtime.getRuntime(",
    "ProcessBuilder(",
    "ActiveXObject(",
    "WScript.Shell",
    "/dev/tcp/",
    "powershell -",
    "powershell.exe",
    "cmd.exe /c",
    "cmd /c ",
    "bash -c",
    "bash -i",
    "sh -c",
    "nc -e",
    "<script",
    "javascript:",
];
/// Statements: at the start of a line or behind a semicolon, the module as a whole word.
const IMPORTED: &[&str] =
    &["os", "subprocess", "socket", "pty", "ctypes", "shutil", "builtins", "importlib", "runpy", "pickle", "marshal"];

/// The part of a text that would act if somebody evaluated it.
pub fn active(text: &str) -> Option<&str> {
    // Every pattern below has one of these, and most texts have none.
    let worth = |byte: u8| matches!(byte, b'(' | b'/' | b'<' | b'|' | b'_' | b':' | b'-' | b'.');
    if !text.bytes().any(worth) && !text.contains("import ") {
        return None;
    }
    let whole_word = |at: usize| {
        !text[..at].chars().next_back().is_some_and(|before| before.is_alphanumeric() || matches!(before, '_' | '.'))
    };
    for call in CALLS {
        for (at, _) in text.match_indices(call) {
            let behind = &text[at + call.len()..];
            let acts = if call.ends_with('(') {
                !behind.trim_start().starts_with(')')
            } else if call.ends_with('.') {
                let name = behind.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
                name > 0 && behind[name..].trim_start().starts_with('(')
            } else {
                true
            };
            if whole_word(at) && acts {
                return Some(call.trim_end_matches('('));
            }
        }
    }
    for (at, _) in text.match_indices("import ") {
        let line = text[..at].rsplit(['\n', ';']).next().unwrap_or_default().trim();
        let module = if line.is_empty() { &text[at + 7..] } else { line.strip_prefix("from ").unwrap_or_default() };
        let module = module.trim_start();
        let root = module.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
        if IMPORTED.contains(&&module[..root]) {
            return Some("import");
        }
    }
    if pipes_download(text) {
        return Some("download piped into a shell");
    }
    dunder(text)
}

/// `curl … | sh` and its siblings.
pub fn pipes_download(text: &str) -> bool {
    text.lines().any(|line| {
        let fetches = ["curl ", "wget ", "iwr ", "Invoke-WebRequest"].iter().any(|word| line.contains(word));
        let shells = ["sh", "bash", "zsh", "python", "python3", "sudo", "iex", "perl"];
        fetches
            && line.split('|').skip(1).any(|part| {
                let first = part.trim_start().split([' ', ';']).next().unwrap_or_default();
                shells.contains(&first.rsplit('/').next().unwrap_or_default())
            })
    })
}

/// A Python expression that calls a name between two double underscores, or walks through one: `__import__('os')`,
/// `().__class__.__bases__`.
fn dunder(value: &str) -> Option<&str> {
    let mut rest = value;
    while let Some(at) = rest.find("__") {
        rest = &rest[at + 2..];
        let name_len = rest.bytes().take_while(|byte| byte.is_ascii_lowercase()).count();
        if name_len > 0
            && let Some(behind) = rest[name_len..].strip_prefix("__")
            && behind.trim_start().starts_with(['(', '.', '['])
        {
            return Some(&rest[..name_len]);
        }
    }
    None
}

/// Hydra's `_target_` in a JSON object at any depth, or as a key of YAML.
fn has_target(value: &str) -> bool {
    if !value.contains("_target_") && !value.contains('\\') {
        return false;
    }
    let is_key = |line: &str| {
        let key = line.trim_start().trim_start_matches("- ").trim_matches(['"', '\'']);
        key.strip_prefix("_target_").is_some_and(|rest| rest.trim_start_matches(['"', '\'', ' ']).starts_with(':'))
    };
    if value.lines().any(is_key) {
        return true;
    }
    let mut found = false;
    if let Ok(json) = Json::parse(value.as_bytes()) {
        json.walk(&mut |_, value| found |= value.entries().iter().any(|(key, _)| &**key == "_target_"));
    }
    found
}

/// Why a path is no ordinary relative one; `None` where it is.
pub fn leaves(path: &str) -> Option<&'static str> {
    let path = path.trim();
    let slashed = path.replace('\\', "/");
    if path.contains('\0') {
        Some("a NUL, where some readers cut")
    } else if has_scheme(path) {
        Some("a URL")
    } else if slashed.starts_with('/') {
        Some("an absolute path")
    } else if path.starts_with('~') {
        Some("a path of a home folder")
    } else if slashed.split('/').any(|part| part == "..") {
        Some("a path that leaves its folder")
    } else if path.as_bytes().get(1) == Some(&b':') && path.as_bytes()[0].is_ascii_alphabetic() {
        Some("a path with a drive")
    } else {
        None
    }
}

fn has_scheme(path: &str) -> bool {
    path.split_once(':').is_some_and(|(scheme, rest)| {
        scheme.len() > 1
            && scheme.len() < 16
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
            && (rest.starts_with("//") || matches!(scheme, "file" | "data"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_and_targets_are_told_from_prose() {
        for code in [
            "__import__('os').system('id')",
            "().__class__.__bases__[0]",
            "import os; os.system('id')",
            "x = 1\nfrom subprocess import run",
            "lambda: subprocess.run(['id'])",
            "eval(input)",
            "curl http://x/y | bash",
            "sh -c 'id'",
        ] {
            assert!(active(code).is_some(), "{code}");
        }
        for prose in [
            "weights of __main__ model, see __init__ of the class",
            "pt",
            "call model.eval() and evaluate(x), then torch.compile(model)",
            "import this model with transformers; macos.system is nothing",
            "the subprocess. A new one (2nd)",
            "important (os) things",
        ] {
            assert_eq!(active(prose), None, "{prose}");
        }
        assert!(has_target(r#"{"model": [{"_target_": "os.system", "command": "id"}]}"#));
        assert!(has_target(r#"{"model": [{"_targ\u0065t_": "os.system"}]}"#));
        assert!(has_target("model:\n  - _target_: os.system"));
        assert!(!has_target(r#"{"target": "_target_"}"#));
    }

    #[test]
    fn encoded_bytes_are_found_in_every_spelling() {
        let bytes = b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x02id\x85R.".as_slice();
        let standard = STANDARD.encode(bytes);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let wrapped = format!("{}\n{}", &standard[..20], &standard[20..]);
        for text in [&standard, standard.trim_end_matches('='), &URL_SAFE.encode(bytes), &hex, &wrapped] {
            assert_eq!(decoded(text).as_deref(), Some(bytes), "{text}");
        }
        assert_eq!(decoded("a sentence of ordinary words that is long enough"), None);
    }

    #[test]
    fn paths_that_leave() {
        for path in
            ["/etc/passwd", "../x", "a/../../x", "..\\x", "\\\\host\\x", "C:\\x", "file:///x", "s3://b/k", "~/x"]
        {
            assert!(leaves(path).is_some(), "{path}");
        }
        for path in ["w.bin", "a/b/c.bin", "a..b", "model:0", "a/...", ""] {
            assert_eq!(leaves(path), None, "{path}");
        }
    }
}
