//! CPython itself as the oracle: every global that any of its unpicklers imports is in our trace.
//!
//! The interpreter is `SENSOR_PYTHON`, or `python3`. Nothing dangerous runs: the child records each import by an audit
//! hook, and refuses all but a few harmless ones.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use sensor_scan::format::pickle::{self, Dialect, Stream};
use sensor_scan::source::MemorySource;
use sensor_scan::{Context, Limits};

/// Programs that are compared, where `SENSOR_PROGRAMS` says nothing else.
const PROGRAMS: u64 = 5_000;

fn programs() -> u64 {
    std::env::var("SENSOR_PROGRAMS").ok().and_then(|text| text.parse().ok()).unwrap_or(PROGRAMS)
}

const CHILD: &str = r#"
import sys, io, pickle, base64
SAFE = {('collections', 'OrderedDict'), ('builtins', 'set'), ('builtins', 'dict'), ('builtins', 'list'),
        ('builtins', 'str'), ('builtins', 'int'), ('datetime', 'timedelta'), ('copyreg', '_reconstructor'),
        ('builtins', 'object'), ('argparse', 'Namespace'), ('_codecs', 'encode')}
import collections, datetime, copyreg, argparse, _codecs
seen = None
def hook(event, args):
    if event == 'pickle.find_class' and seen is not None:
        seen.add(args)
        if args not in SAFE:
            raise RuntimeError('refused')
sys.addaudithook(hook)
class Unbuffered(io.RawIOBase):
    def __init__(self, data): self.inner = io.BytesIO(data)
    def readable(self): return True
    def readinto(self, view):
        data = self.inner.read(len(view)); view[:len(data)] = data; return len(data)
readers = [lambda b: pickle.loads(b), lambda b: pickle.Unpickler(io.BytesIO(b)).load(),
           lambda b: pickle.Unpickler(Unbuffered(b)).load(),
           lambda b: pickle._Unpickler(io.BytesIO(b)).load(), lambda b: pickle.loads(b, encoding='bytes')]
sys.setrecursionlimit(3000)
for line in sys.stdin:
    data = base64.b64decode(line)
    seen = set()
    for reader in readers:
        try: reader(data)
        except BaseException: pass
    found, seen = seen, None
    clean = [(m, n) for m, n in found if isinstance(m, str) and isinstance(n, str)]
    hexed = [m.encode('utf-8', 'surrogatepass').hex() + ':' + n.encode('utf-8', 'surrogatepass').hex() for m, n in clean]
    print(' '.join(hexed))
"#;

/// A small deterministic generator (xorshift), so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len() as u64) as usize]
    }
}

const MODULES: &[&str] =
    &["collections", "builtins", "os", "datetime", "copyreg", "argparse", "_codecs", "a.b", "commands"];
const NAMES: &[&str] = &[
    "OrderedDict",
    "set",
    "dict",
    "list",
    "str",
    "system",
    "timedelta",
    "_reconstructor",
    "object",
    "Namespace",
    "encode",
    "x.y",
];

fn text(out: &mut Vec<u8>, random: &mut Random, text: &str) {
    let bytes = text.as_bytes();
    match random.below(7) {
        0 => out.extend([&[0x8c, bytes.len() as u8], bytes].concat()),
        1 => out.extend([&b"X"[..], &(bytes.len() as u32).to_le_bytes(), bytes].concat()),
        2 => out.extend([&[0x8d], &(bytes.len() as u64).to_le_bytes()[..], bytes].concat()),
        3 => out.extend(format!("V{text}\n").bytes()),
        4 => out.extend(format!("S'{text}'\n").bytes()),
        5 => out.extend([&[b'U', bytes.len() as u8], bytes].concat()),
        _ => out.extend([&[0x8c, bytes.len() as u8], bytes].concat()),
    }
}

/// A program that is likely to run for a while: each step mostly fits the stack.
fn program(seed: u64) -> Vec<u8> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut out = Vec::new();
    if random.below(4) > 0 {
        out.extend([0x80, random.below(6) as u8]);
    }
    for _ in 0..random.below(24) + 2 {
        match random.below(22) {
            0 | 1 => {
                let (module, name) = (random.pick(MODULES), random.pick(NAMES));
                text(&mut out, &mut random, module);
                if random.below(4) == 0 {
                    out.extend(b"(N1");
                }
                text(&mut out, &mut random, name);
                out.push(0x93);
            }
            2 | 3 => out.extend(format!("c{}\n{}\n", random.pick(MODULES), random.pick(NAMES)).bytes()),
            4 => out.extend(format!("(i{}\n{}\n", random.pick(MODULES), random.pick(NAMES)).bytes()),
            5 => out.extend(b")R"),
            6 => out.extend(b")\x81"),
            7 => out.extend(b"}b"),
            8 => out.push(0x94),
            9 => out.extend([b'q', random.below(4) as u8]),
            10 => out.extend([b'h', random.below(4) as u8]),
            11 => out.extend(format!("p{}\n", random.below(5)).bytes()),
            12 => out.extend(format!("g{}\n", random.below(5)).bytes()),
            13 => out.extend(b"K\x01\x85"),
            14 => out.extend(random.pick(&[
                &b"N"[..],
                b"]",
                b"}",
                b")",
                b"(",
                b"t",
                b"l",
                b"0",
                b"2",
                b"1",
                b"a",
                b"e",
                b"u",
                b"s",
                b"d",
                b"R",
                b"o",
            ])),
            15 => {
                out.push(0x95);
                out.extend((random.below(40)).to_le_bytes());
            }
            16 => out.extend(random.pick(&[
                &b"I01\n"[..],
                b"I 7\n",
                b"I0x10\n",
                b"L5L\n",
                b"F1.5\n",
                b"Fnan\n",
                b"\x8a\x01\x05",
                b"M\x01\x00",
            ])),
            17 => {
                let name = random.pick(NAMES);
                text(&mut out, &mut random, name);
            }
            18 => out.extend([0x80, random.below(6) as u8]),
            19 => {
                let module = random.pick(MODULES);
                text(&mut out, &mut random, module);
                out.push(0x94);
            }
            20 => out.extend(b"0"),
            _ => out.push(random.below(256) as u8),
        }
    }
    out.push(b'.');
    out
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let value = chunk.iter().fold(0u32, |value, &byte| (value << 8) | u32::from(byte)) << (8 * (3 - chunk.len()));
        for n in 0..4 {
            if n <= chunk.len() {
                out.push(char::from(ALPHABET[(value >> (18 - 6 * n)) as usize & 63]));
            } else {
                out.push('=');
            }
        }
    }
    out
}

fn unhex(text: &str) -> String {
    let bytes: Vec<u8> =
        (0..text.len() / 2).filter_map(|n| u8::from_str_radix(text.get(2 * n..2 * n + 2)?, 16).ok()).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn traced(bytes: &[u8]) -> BTreeSet<(String, String)> {
    let limits = Limits::default();
    let mut context = Context::new(&limits, |_, _| false);
    let source = MemorySource::new(bytes, b"");
    let stream = Stream { source: &source, start: 0, end: bytes.len() as u64, dialect: Dialect::Plain, member: None };
    pickle::scan_all(&stream, &mut context);
    context.traced().iter().map(|global| (global.module.clone(), global.name.clone())).collect()
}

fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"))
}

#[test]
fn every_global_that_cpython_imports_is_traced() {
    let python = std::env::var("SENSOR_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let child = Command::new(&python)
        .args(["-I", "-c", CHILD])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            assert!(!in_ci(), "{python}: {error}: set SENSOR_PYTHON to a CPython interpreter");
            eprintln!("skipped: {python}: {error}");
            return;
        }
    };
    let mut stdin = child.stdin.take().expect("piped above");
    let writer = std::thread::spawn(move || {
        for seed in 1..=programs() {
            if writeln!(stdin, "{}", base64(&program(seed))).is_err() {
                break;
            }
        }
    });
    let output = child.wait_with_output().expect("the child was started");
    writer.join().expect("the writer does not panic");
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(lines.len() as u64, programs(), "the interpreter stopped early: {:?}", output.status);
    let mut imports = 0;
    for (seed, line) in (1..=programs()).zip(lines) {
        let bytes = program(seed);
        let ours = traced(&bytes);
        for pair in line.split_whitespace() {
            let (module, name) = pair.split_once(':').expect("the child writes pairs");
            let pair = (unhex(module), unhex(name));
            imports += 1;
            assert!(ours.contains(&pair), "program {seed}: CPython imports {pair:?}, we saw {ours:?} in {bytes:?}");
        }
    }
    assert!(imports > programs() / 4, "the programs import too little to compare: {imports}");
}
