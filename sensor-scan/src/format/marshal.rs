//! Python's marshalled code objects: the names and texts that they hold, over all versions' layouts.
//!
//! Reference: CPython's `Python/marshal.c` and the fields of code objects: 2.x has four numbers before the bytecode, 3.0 to
//! 3.7 and 3.11 on have five, 3.8 to 3.10 six.

use crate::finding::Severity;
use crate::format::text;

/// Code objects, tuples and the like in each other; CPython refuses more than 2,000.
const DEPTH_MAX: u32 = 64;
/// Values of one object, over all layouts that are tried.
const VALUES_MAX: u32 = 100_000;

/// What a code object uses.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Code {
    /// Names of globals, attributes and variables, its own and those of the functions in it.
    pub names: Vec<String>,
    /// Constant texts and bytes.
    pub texts: Vec<String>,
}

/// Names that mean an effect in whatever code they stand: commands, code, imports, files, network, attribute walks.
const EFFECTS: &[&str] = &[
    "system",
    "popen",
    "Popen",
    "check_output",
    "check_call",
    "getoutput",
    "getstatusoutput",
    "spawn",
    "spawnl",
    "spawnv",
    "execv",
    "execve",
    "execl",
    "execvp",
    "fork",
    "kill",
    "eval",
    "exec",
    "compile",
    "open",
    "fdopen",
    "import_module",
    "socket",
    "create_connection",
    "urlopen",
    "urlretrieve",
    "subprocess",
    "ctypes",
    "CDLL",
    "pty",
    "marshal",
    "pickle",
    "loads",
    "rmtree",
    "unlink",
    "remove",
    "rename",
    "makedirs",
    "putenv",
    "environ",
    "getenv",
    "b64decode",
    "startfile",
    "posix_spawn",
    "run_module",
    "run_path",
    "os",
    "sys",
    "posix",
    "nt",
    "getattr",
    "setattr",
    "globals",
    "locals",
    "vars",
    "requests",
    "shutil",
    "importlib",
    "builtins",
    "breakpoint",
    "input",
    "codecs",
    "runpy",
    "http",
    "urllib",
    "threading",
    "multiprocessing",
    "gfile",
    "read_file",
    "write_file",
    "py_function",
    "numpy_function",
    "get_file",
    "load_model",
    "load_op_library",
    "load_library",
    "fromfile",
    "tofile",
    "savetxt",
    "func_load",
    "enable_unsafe_deserialization",
    "write_bytes",
    "write_text",
    "read_text",
    "read_bytes",
    "Path",
    "copyfile",
    "connect",
    "send",
    "recv",
    "exit",
    "_exit",
    "abort",
    "help",
    "memoryview",
    "platform",
    "glob",
];

impl Code {
    /// How bad it is that somebody calls the code, and the name or text that decides.
    pub fn severity(&self) -> (Severity, Option<&str>) {
        let acts = |name: &&String| EFFECTS.contains(&name.as_str()) || is_internal(name);
        if let Some(name) = self.names.iter().find(acts) {
            return (Severity::Critical, Some(name));
        }
        if let Some(text) = self.texts.iter().find(|text| is_internal(text) || text::active(text).is_some()) {
            return (Severity::Critical, Some(text));
        }
        (Severity::Medium, None)
    }
}

/// A name between two double underscores, but for those that every module has.
fn is_internal(name: &str) -> bool {
    name.len() > 4
        && name.starts_with("__")
        && name.ends_with("__")
        && !matches!(name, "__name__" | "__main__" | "__doc__" | "__file__" | "__class_getitem__")
}

/// Whether the bytes start like a marshalled code object.
pub fn looks_like(bytes: &[u8]) -> bool {
    matches!(bytes.first(), Some(b'c' | 0xe3)) && bytes.len() > 40 && layouts(bytes, 1).next().is_some()
}

/// Reads a code object; `None` where no version's layout fits.
pub fn code(bytes: &[u8]) -> Option<Code> {
    if !matches!(bytes.first(), Some(b'c' | 0xe3)) {
        return None;
    }
    let mut reader = Reader { bytes, at: 0, values: 0, code: Code::default(), interned: Vec::new() };
    reader.value(0, Place::Other)?;
    Some(reader.code)
}

/// Positions behind the numbers of a code object whose bytecode may follow there, newest layouts first.
fn layouts(bytes: &[u8], at: usize) -> impl Iterator<Item = (usize, usize)> {
    [5_usize, 6, 4].into_iter().filter_map(move |numbers| {
        let code = at.checked_add(4 * numbers)?;
        let kind = bytes.get(code)? & 0x7f;
        let length = u32::from_le_bytes(*bytes.get(code + 1..)?.first_chunk()?) as usize;
        (kind == b's' && length <= bytes.len()).then_some((numbers, code))
    })
}

/// What a value is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Names,
    Constants,
    Other,
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    values: u32,
    code: Code,
    /// Texts by the order in which they were interned, which Python 2 refers to.
    interned: Vec<String>,
}

impl Reader<'_> {
    fn take(&mut self, len: usize) -> Option<&[u8]> {
        let bytes = self.bytes.get(self.at..self.at.checked_add(len)?)?;
        self.at += len;
        Some(bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
    }

    fn length(&mut self, short: bool) -> Option<usize> {
        if short { self.take(1).map(|bytes| bytes[0].into()) } else { self.u32().map(|length| length as usize) }
    }

    fn text(&mut self, len: usize, place: Place, interned: bool) -> Option<()> {
        let text = String::from_utf8_lossy(self.take(len)?).into_owned();
        if interned {
            self.interned.push(text.clone());
        }
        match place {
            Place::Names => self.code.names.push(text),
            Place::Constants => self.code.texts.push(text),
            Place::Other => {}
        }
        Some(())
    }

    fn value(&mut self, depth: u32, place: Place) -> Option<()> {
        self.values += 1;
        if depth > DEPTH_MAX || self.values > VALUES_MAX {
            return None;
        }
        let kind = self.take(1)?[0] & 0x7f;
        match kind {
            b'0' | b'N' | b'F' | b'T' | b'S' | b'.' => {}
            b'i' | b'r' => {
                self.u32()?;
            }
            b'R' => {
                let index = self.u32()? as usize;
                let text = self.interned.get(index)?.clone();
                if place == Place::Names {
                    self.code.names.push(text);
                }
            }
            b'I' | b'g' => {
                self.take(8)?;
            }
            b'y' => {
                self.take(16)?;
            }
            b'f' => {
                let length = self.length(true)?;
                self.take(length)?;
            }
            b'x' => {
                for _ in 0..2 {
                    let length = self.length(true)?;
                    self.take(length)?;
                }
            }
            b'l' => {
                let digits = (self.u32()? as i32).unsigned_abs() as usize;
                self.take(digits.checked_mul(2)?)?;
            }
            b's' | b't' | b'u' | b'a' | b'A' | b'z' | b'Z' => {
                let length = self.length(matches!(kind, b'z' | b'Z'))?;
                self.text(length, place, kind == b't')?;
            }
            b'(' | b')' | b'[' | b'<' | b'>' => {
                let count = self.length(kind == b')')?;
                for _ in 0..count {
                    self.value(depth + 1, place)?;
                }
            }
            b'{' => {
                while self.bytes.get(self.at)? & 0x7f != b'0' {
                    self.value(depth + 1, place)?;
                    self.value(depth + 1, place)?;
                }
                self.at += 1;
            }
            b':' => {
                for _ in 0..3 {
                    self.value(depth + 1, place)?;
                }
            }
            b'c' => self.code_object(depth)?,
            _ => return None,
        }
        Some(())
    }

    fn code_object(&mut self, depth: u32) -> Option<()> {
        let start = self.at;
        let candidates: Vec<(usize, usize)> = layouts(self.bytes, start).collect();
        for (numbers, code) in candidates {
            let (names, texts, interned) = (self.code.names.len(), self.code.texts.len(), self.interned.len());
            self.at = code;
            if self.fields(numbers, depth).is_some() {
                return Some(());
            }
            self.code.names.truncate(names);
            self.code.texts.truncate(texts);
            self.interned.truncate(interned);
        }
        None
    }

    /// Bytecode, constants, names, then variables and places as the version has them.
    fn fields(&mut self, numbers: usize, depth: u32) -> Option<()> {
        use Place::{Constants, Names, Other};
        self.value(depth + 1, Other)?;
        self.value(depth + 1, Constants)?;
        self.value(depth + 1, Names)?;
        // Variables; the second of them is bytes since 3.11.
        self.value(depth + 1, Names)?;
        let new = numbers == 5 && self.bytes.get(self.at)? & 0x7f == b's';
        for _ in 0..4 {
            self.value(depth + 1, Other)?;
        }
        self.u32()?;
        self.value(depth + 1, Other)?;
        if new {
            self.value(depth + 1, Other)?;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;

    use super::*;

    fn decoded(text: &str) -> Vec<u8> {
        base64::engine::general_purpose::STANDARD.decode(text).unwrap()
    }

    #[test]
    fn names_and_texts_of_a_code_object() {
        // lambda x: (exec("…"), x)[1] by CPython 3.11.
        let bytes = decoded(
            "4wEAAAAAAAAAAAAAAAMAAAADAAAA8yQAAACXAHQBAAAAAAAAAAAAAGQBpgEAAKsBAAAAAAAAAABwAXwAUwApAk56RW9wZW4oJy90bXAvbWxz\
             Y2FuX2NhbmFyeS9rZXJhc19sYW1iZGFfYXNfYWN0aXZhdGlvbl9fdjMnLCd3JykuY2xvc2UoKSkB2gRleGVjKQHaAXhzAQAAACD6AzxsPvoI\
             PGxhbWJkYT5yBQAAAAEAAABzFQAAAIAAjSTQD1bRClfUClfQClzQW1yAAPMAAAAA",
        );
        assert!(looks_like(&bytes));
        let code = code(&bytes).unwrap();
        assert_eq!(code.names, ["exec", "x"]);
        assert!(code.texts[0].starts_with("open('/tmp/"));
        assert_eq!(code.severity().0, Severity::Critical);
        for end in 0..bytes.len() {
            assert_eq!(super::code(&bytes[..end]), None, "{end}");
        }
    }

    /// `lambda x: x * 2`, laid out by hand as the versions do.
    fn by_hand(numbers: usize, new: bool) -> Vec<u8> {
        let mut bytes = vec![b'c'];
        bytes.extend([0; 4].repeat(numbers));
        bytes.extend(b"s\x02\0\0\0|\0");
        bytes.extend(b")\x02Ni\x02\0\0\0");
        bytes.extend(b")\x01z\x06square");
        bytes.extend(b")\x01z\x01x");
        bytes.extend(if new { b"s\x01\0\0\0 ".as_slice() } else { b")\0" });
        bytes.extend(if new { b"z\x01f".as_slice() } else { b")\0" });
        bytes.extend(b"z\x01fz\x01f");
        bytes.extend([1, 0, 0, 0]);
        bytes.extend(b"s\0\0\0\0");
        bytes.extend(if new { b"s\0\0\0\0".as_slice() } else { b"" });
        bytes
    }

    #[test]
    fn layouts_of_all_versions() {
        for (numbers, new) in [(4, false), (5, false), (6, false), (5, true)] {
            let code = code(&by_hand(numbers, new)).unwrap();
            assert_eq!(code.names, ["square", "x"], "{numbers} {new}");
            assert_eq!(code.severity(), (Severity::Medium, None));
        }
    }

    #[test]
    fn bombs_end() {
        let mut nested = vec![b'c'];
        for _ in 0..100_000 {
            nested.extend(b")\x01");
        }
        assert_eq!(code(&nested), None);
        assert_eq!(code(&[b'c'; 200]), None);
    }
}
