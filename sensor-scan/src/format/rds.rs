//! R's serialisation (`.rds`, `.RData`): data, and the language objects of R, which run when something touches them.
//!
//! Who executes what: a promise that is not evaluated yet runs its expression when it is first looked at; R before 4.4.0
//! did so while it read the file (CVE-2024-27322).
//! Reference: "R Internals", section 1.8, and `serialize.c`.

use crate::context::{Context, Piece};
use crate::finding::{Finding, Severity};
use crate::format::{self, Seen};
use crate::report::Content;
use crate::window::Window;

const SEEN: Seen = Seen { format: "rds", content: Content::Code };
/// Objects in each other.
const DEPTH_MAX: u32 = 400;
const TEXT_BYTES_MAX: usize = 4096;
const LOADERS: &[&str] = &["readRDS, load (R < 4.4.0 while reading, later at first use)"];

/// Functions of R that run, load, read, write or fetch.
const ACTING: &[&str] = &[
    "system",
    "system2",
    "shell",
    "shell.exec",
    "pipe",
    "eval",
    "evalq",
    "eval.parent",
    "parse",
    "source",
    "sys.source",
    "download.file",
    "url",
    "curl",
    "socketConnection",
    "unlink",
    "file.remove",
    "file.copy",
    "file.rename",
    "writeLines",
    "writeBin",
    "sink",
    "readLines",
    "readRDS",
    "load",
    "library",
    "require",
    "loadNamespace",
    "requireNamespace",
    "dyn.load",
    ".Call",
    ".External",
    ".C",
    "do.call",
    "assign",
    "Sys.setenv",
    "Sys.getenv",
    "install.packages",
    "file",
    "exec",
    "run",
    "browseURL",
    "attach",
    "delayedAssign",
    "makeActiveBinding",
    "reg.finalizer",
    "Rscript",
    "dump",
    "saveRDS",
    "save",
    "write",
    "setwd",
    "q",
    "quit",
    "trace",
    "unserialize",
    "deserialize",
];

/// Start of the serialised data behind a header that says which encoding it has.
fn start(head: &[u8]) -> Option<usize> {
    let at = match head.get(..5) {
        Some(b"RDX2\n" | b"RDX3\n" | b"RDA2\n" | b"RDA3\n" | b"RDB2\n" | b"RDB3\n") => 5,
        _ => 0,
    };
    let body = head.get(at..)?;
    let binary = matches!(body, [b'X', b'\n', 0, 0, 0, 2 | 3, ..]) || matches!(body, [b'B', b'\n', 2 | 3, 0, 0, 0, ..]);
    let text = matches!(body, [b'A', b'\n', b'2' | b'3', b'\n', ..]);
    (binary || text || at > 0).then_some(at)
}

pub fn claims(head: &[u8]) -> bool {
    start(head).is_some()
}

pub fn scan(piece: &Piece<'_>, context: &mut Context<'_>) -> Seen {
    let window = Window::new(piece.source);
    let head = window.bytes(0, window.len(), 16);
    let at = start(&head).unwrap_or(0) as u64;
    let mut reader = Reader {
        window: &window,
        at: at + 2,
        form: head.get(at as usize).copied().unwrap_or(b'X'),
        steps: 0,
        names: Vec::new(),
        context,
        piece,
    };
    let read = reader.document();
    let end = reader.at;
    if read.is_none() {
        let finding = Finding::new("SNS-903", Severity::Low, "R data that end early or are malformed");
        context.report(finding.member(piece.member.as_deref()).at(end));
    } else if end < window.len() {
        format::tail(piece, end, context);
    }
    SEEN
}

/// Where a value stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Data,
    /// In a call, a function or a promise.
    Code,
}

struct Reader<'w, 's, 'c, 'l, 'p> {
    window: &'w Window<'s>,
    at: u64,
    /// `X`: big endian, `B`: little endian, `A`: text.
    form: u8,
    steps: u64,
    /// Symbols and texts of the code that is being read.
    names: Vec<String>,
    context: &'c mut Context<'l>,
    piece: &'p Piece<'s>,
}

impl Reader<'_, '_, '_, '_, '_> {
    fn word(&mut self) -> Option<String> {
        let mut word = String::new();
        loop {
            let byte = self.window.u8(self.at)?;
            self.at += 1;
            match byte {
                b'\n' | b' ' if !word.is_empty() => return Some(word),
                b'\n' | b' ' => {}
                _ if word.len() < 64 => word.push(byte.into()),
                _ => return None,
            }
        }
    }

    fn int(&mut self) -> Option<i64> {
        if self.form == b'A' {
            let word = self.word()?;
            return if word == "NA" { Some(i64::from(i32::MIN)) } else { word.parse().ok() };
        }
        let bytes: [u8; 4] = self.window.array(self.at)?;
        self.at += 4;
        Some(if self.form == b'X' { i32::from_be_bytes(bytes) } else { i32::from_le_bytes(bytes) }.into())
    }

    fn length(&mut self) -> Option<u64> {
        let length = self.int()?;
        if length == -1 {
            let (high, low) = (self.int()?, self.int()?);
            return Some((high as u64 & 0xffff) << 32 | low as u64 & 0xffff_ffff);
        }
        u64::try_from(length).ok()
    }

    fn skip(&mut self, count: u64, bytes: u64) -> Option<()> {
        if self.form == b'A' {
            for _ in 0..count.checked_mul(bytes.div_ceil(8).max(1))? {
                self.word()?;
            }
            return Some(());
        }
        self.at = self.at.checked_add(count.checked_mul(bytes)?).filter(|at| *at <= self.window.len())?;
        Some(())
    }

    fn document(&mut self) -> Option<()> {
        let version = self.int()?;
        self.int()?;
        self.int()?;
        if version == 3 {
            let length = self.length()?;
            if self.form == b'A' {
                self.word()?;
            } else {
                self.skip(length, 1)?;
            }
        }
        self.item(0, Place::Data)
    }

    fn report(&mut self, severity: Severity, title: &str, at: u64, names: &[String]) {
        let finding = Finding::new("SNS-611", severity, title).member(self.piece.member.as_deref()).at(at);
        self.context.report(finding.text("names", names.join(" ")).loaders(LOADERS));
    }

    /// What acts among the names since `from`.
    fn acts(&self, from: usize) -> bool {
        self.names.iter().skip(from).any(|name| ACTING.contains(&name.as_str()))
    }

    fn item(&mut self, depth: u32, place: Place) -> Option<()> {
        let at = self.at;
        let flags = self.int()?;
        self.flagged(flags, at, depth, place)
    }

    fn flagged(&mut self, flags: i64, at: u64, depth: u32, place: Place) -> Option<()> {
        self.steps += 1;
        if depth > DEPTH_MAX || self.steps.is_multiple_of(4096) && self.context.expired() {
            return None;
        }
        let (attributes, tag) = (flags & 0x200 != 0, flags & 0x400 != 0);
        let deeper = depth + 1;
        match flags & 0xff {
            254 | 253 | 252 | 251 | 250 | 242 | 241 => {}
            // A reference; its number may be in the flags.
            255 => {
                if flags >> 8 == 0 {
                    self.int()?;
                }
            }
            247..=249 => {
                self.int()?;
                for _ in 0..self.length()? {
                    self.item(deeper, Place::Data)?;
                }
            }
            1 => self.item(deeper, place)?,
            9 => self.text(place)?,
            2 | 6 | 3 | 5 | 17 | 239 | 240 => self.pairs(flags, at, depth, place)?,
            4 => {
                self.int()?;
                for _ in 0..4 {
                    self.item(deeper, Place::Data)?;
                }
            }
            7 | 8 => {
                let length = self.length()?;
                let name = self.window.text(self.at, self.at.saturating_add(length), 256);
                self.skip(length, 1)?;
                if place == Place::Code {
                    self.names.push(name);
                }
            }
            10 | 13 => {
                let length = self.length()?;
                self.skip(length, 4)?;
            }
            14 => {
                let length = self.length()?;
                self.skip(length, 8)?;
            }
            15 => {
                let length = self.length()?;
                self.skip(length, 16)?;
            }
            16 | 19 | 20 => {
                // Expressions are code that waits.
                let inner = if flags & 0xff == 20 { Place::Code } else { place };
                for _ in 0..self.length()? {
                    self.item(deeper, inner)?;
                }
            }
            21 => {
                self.int()?;
                self.bytecode(deeper)?;
            }
            22 => {
                self.item(deeper, place)?;
                self.item(deeper, place)?;
            }
            23 | 25 => {}
            24 => {
                let length = self.length()?;
                self.skip(length, 1)?;
            }
            238 => {
                for _ in 0..3 {
                    self.item(deeper, place)?;
                }
            }
            _ => return None,
        }
        // Pairs have their attributes first, texts have none to be read here.
        let behind = matches!(flags & 0xff, 4 | 7..=10 | 13..=16 | 19..=25);
        if attributes && behind && !matches!(flags & 0xff, 4 | 9) {
            self.item(deeper, Place::Data)?;
        }
        let _ = tag;
        Some(())
    }

    /// A pair list, a call, a function, a promise: attributes, tag, value, and the rest as a loop.
    fn pairs(&mut self, flags: i64, at: u64, depth: u32, place: Place) -> Option<()> {
        let mut flags = flags;
        let first = flags & 0xff;
        let from = self.names.len();
        let code = matches!(first, 3 | 5 | 6 | 240);
        let place = if code { Place::Code } else { place };
        let mut unbound = false;
        loop {
            if flags & 0x200 != 0 || matches!(flags & 0xff, 239 | 240) {
                self.item(depth + 1, Place::Data)?;
            }
            if flags & 0x400 != 0 {
                self.item(depth + 1, Place::Data)?;
            }
            // The value of a promise is unbound until it was evaluated.
            let next = self.at;
            let value = self.int()?;
            unbound |= flags & 0xff == 5 && value & 0xff == 252;
            self.flagged(value, next, depth + 1, place)?;
            let next = self.at;
            let rest = self.int()?;
            if matches!(rest & 0xff, 2 | 6) && first != 5 {
                flags = rest;
                self.steps += 1;
                if self.steps.is_multiple_of(4096) && self.context.expired() {
                    return None;
                }
                continue;
            }
            self.flagged(rest, next, depth + 1, place)?;
            break;
        }
        if code {
            self.code(first, unbound, at, from);
        }
        Some(())
    }

    fn code(&mut self, kind: i64, unbound: bool, at: u64, from: usize) {
        let acts = self.acts(from);
        let names: Vec<String> = self.names.iter().skip(from).take(32).cloned().collect();
        match kind {
            5 if acts => self.report(Severity::Critical, "a promise that acts when it is looked at", at, &names),
            5 if unbound => self.report(Severity::High, "a promise that runs code when it is looked at", at, &names),
            3 if shells(&names) => {
                self.report(Severity::Medium, "a function of R that runs a command", at, &names);
            }
            3 if acts => self.report(Severity::Low, "a function of R that runs, reads or writes something", at, &names),
            6 | 240 if acts => {
                let severity = if shells(&names) { Severity::Medium } else { Severity::Low };
                self.report(severity, "a call that runs, reads or writes something, kept as data", at, &names);
            }
            _ => {}
        }
        // Names stay for the code around this one, bounded.
        self.names.truncate(4096);
    }

    fn text(&mut self, place: Place) -> Option<()> {
        let length = self.int()?;
        let Ok(length) = u64::try_from(length) else { return Some(()) };
        let start = self.at;
        if self.form == b'A' {
            // Escapes stretch it over an unknown length, up to the end of the line.
            loop {
                let byte = self.window.u8(self.at)?;
                self.at += 1;
                if byte == b'\n' && self.at > start + 1 {
                    break;
                }
            }
        } else {
            self.skip(length, 1)?;
        }
        if place == Place::Code && self.names.len() < 4096 {
            let text = self.window.text(start, self.at, TEXT_BYTES_MAX);
            self.names.push(text.trim().to_owned());
        }
        Some(())
    }

    /// Bytecode: instructions as integers, then constants, some of which are calls with references to each other.
    fn bytecode(&mut self, depth: u32) -> Option<()> {
        self.item(depth + 1, Place::Code)?;
        for _ in 0..self.length()? {
            let kind = self.int()?;
            match kind {
                21 => self.bytecode(depth + 1).filter(|()| depth < DEPTH_MAX)?,
                2 | 6 | 239 | 240 | 243 | 244 => self.language(kind, depth + 1)?,
                _ => self.item(depth + 1, Place::Code)?,
            }
        }
        Some(())
    }

    fn language(&mut self, kind: i64, depth: u32) -> Option<()> {
        let mut kind = kind;
        loop {
            self.steps += 1;
            if depth > DEPTH_MAX || self.steps.is_multiple_of(4096) && self.context.expired() {
                return None;
            }
            match kind {
                243 => return self.int().map(drop),
                2 | 6 | 239 | 240 | 244 => {
                    if kind == 244 {
                        self.int()?;
                        kind = self.int()?;
                    }
                    if matches!(kind, 239 | 240) {
                        self.item(depth + 1, Place::Data)?;
                    }
                    self.item(depth + 1, Place::Data)?;
                    let value = self.int()?;
                    self.language(value, depth + 1)?;
                    kind = self.int()?;
                }
                _ => return self.item(depth + 1, Place::Code),
            }
        }
    }
}

/// Functions that start a shell or a program.
fn shells(names: &[String]) -> bool {
    names.iter().any(|name| matches!(name.as_str(), "system" | "system2" | "shell" | "shell.exec" | "pipe"))
}

#[cfg(test)]
pub mod tests {
    use crate::source::MemorySource;
    use crate::{Limits, Policy, Verdict, scan as scan_file};

    fn ints(values: &[i32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_be_bytes()).collect()
    }

    fn symbol(name: &str) -> Vec<u8> {
        [ints(&[1, 9, name.len() as i32]), name.as_bytes().to_vec()].concat()
    }

    fn text(value: &str) -> Vec<u8> {
        [ints(&[16, 1, 9, value.len() as i32]), value.as_bytes().to_vec()].concat()
    }

    fn call(function: &str, argument: &str) -> Vec<u8> {
        [ints(&[6]), symbol(function), ints(&[2]), text(argument), ints(&[254])].concat()
    }

    fn promise(expression: &[u8]) -> Vec<u8> {
        [ints(&[5 | 0x400, 253, 252]), expression.to_vec()].concat()
    }

    fn file(body: &[u8]) -> Vec<u8> {
        [b"X\n".to_vec(), ints(&[2, 0x4_0000, 0x2_0300]), body.to_vec()].concat()
    }

    fn judged(bytes: &[u8]) -> Verdict {
        let report = scan_file(&MemorySource::new(bytes, b"m.rds"), &Limits::default(), &Policy::standard());
        assert_eq!(report.format, "rds");
        report.verdict
    }

    #[test]
    fn promises_wherever_they_stand() {
        let promise = promise(&call("system", "id"));
        let in_list = [ints(&[19, 2]), text("a"), promise.clone()].concat();
        let in_pairs = [ints(&[2 | 0x400]), symbol("x"), promise.clone(), ints(&[254])].concat();
        let in_attributes =
            [ints(&[13 | 0x200, 1, 7, 2 | 0x400]), symbol("names"), promise.clone(), ints(&[254])].concat();
        let in_environment = [ints(&[4, 0, 253, 254]), ints(&[19, 1]), in_pairs.clone(), ints(&[254])].concat();
        for body in [promise, in_list, in_pairs, in_attributes, in_environment] {
            assert_eq!(judged(&file(&body)), Verdict::Malicious);
            assert_eq!(judged(&[b"RDX2\n".to_vec(), file(&body)].concat()), Verdict::Malicious);
        }
        assert_eq!(judged(&file(&self::promise(&call("mean", "x")))), Verdict::Malicious);
        assert_eq!(judged(&file(&call("system", "id"))), Verdict::Suspicious);
    }

    #[test]
    fn ordinary_data() {
        let model = [
            ints(&[19 | 0x200, 2, 14, 1]),
            vec![0; 8],
            call("lm", "y ~ x"),
            ints(&[2 | 0x400]),
            symbol("names"),
            ints(&[16, 2, 9, 1]),
            b"a".to_vec(),
            ints(&[9, -1]),
            ints(&[254]),
        ]
        .concat();
        assert_eq!(judged(&file(&model)), Verdict::Clean);
        assert_eq!(judged(b"A\n2\n262144\n131840\n14\n2\n1.5\nNA\n"), Verdict::Clean);
        assert_eq!(judged(&file(&ints(&[19, 1000, 13]))), Verdict::Unscannable);
        assert_eq!(judged(&file(&ints(&[19, 1]).repeat(100_000))), Verdict::Unscannable);
    }

    /// Files that are not clean, for the properties that hold for every format.
    pub fn samples() -> Vec<Vec<u8>> {
        vec![file(&[ints(&[19, 2]), text("a"), promise(&call("system", "id"))].concat())]
    }
}
