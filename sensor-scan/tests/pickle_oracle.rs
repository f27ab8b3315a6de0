//! CPython itself as the oracle: every global that any of its unpicklers imports is in our trace; torch's and joblib's
//! readers, too, where the interpreter has them.
//!
//! The interpreter is `SENSOR_PYTHON`, or `python3`. Nothing dangerous runs: the child records each import by an audit
//! hook, refuses all but a few harmless ones, and refuses whatever else acts on the machine; its memory, files and
//! processes are limited by the kernel. `SENSOR_READERS` names readers that may not be missing.

mod random;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use random::Random;
use sensor_scan::format::pickle::{self, Dialect, Stream};
use sensor_scan::source::MemorySource;
use sensor_scan::{Context, Limits};

/// Programs that are compared, where `SENSOR_PROGRAMS` says nothing else.
const PROGRAMS: u64 = 5_000;

fn programs() -> u64 {
    random::number("SENSOR_PROGRAMS").unwrap_or(PROGRAMS)
}

/// Of so many programs, torch and joblib read one: they are slow.
const PROGRAMS_PER_FRAMEWORK: u64 = 10;

const CHILD: &str = r#"
import sys, io, pickle, base64, zipfile, warnings, resource
warnings.filterwarnings('ignore')
SAFE = {('collections', 'OrderedDict'), ('builtins', 'set'), ('builtins', 'dict'), ('builtins', 'list'),
        ('builtins', 'str'), ('builtins', 'int'), ('datetime', 'timedelta'), ('copyreg', '_reconstructor'),
        ('builtins', 'object'), ('argparse', 'Namespace'), ('_codecs', 'encode'), ('builtins', 'bytearray'),
        ('collections', 'deque')}
import collections, datetime, copyreg, argparse, _codecs
class Unbuffered(io.RawIOBase):
    def __init__(self, data): self.inner = io.BytesIO(data)
    def readable(self): return True
    def readinto(self, view):
        data = self.inner.read(len(view)); view[:len(data)] = data; return len(data)
def again(unpickler):
    for _ in range(4): unpickler.load()
plain = [lambda b: pickle.loads(b), lambda b: again(pickle.Unpickler(io.BytesIO(b))),
         lambda b: pickle.Unpickler(Unbuffered(b)).load(),
         lambda b: again(pickle._Unpickler(io.BytesIO(b))), lambda b: pickle.loads(b, encoding='bytes')]
readers = {'plain': plain}
try:
    import joblib
    readers['joblib'] = [lambda b: joblib.load(io.BytesIO(b))]
except ImportError: pass
try:
    import torch
    def archive(b):
        out = io.BytesIO()
        with zipfile.ZipFile(out, 'w') as z:
            for name, data in (('data.pkl', b), ('version', b'3\n'), ('byteorder', b'little')): z.writestr('m/' + name, data)
        out.seek(0)
        return out
    LEGACY = b'\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}q\x00.'
    readers['torch-zip'] = [lambda b: torch.load(archive(b), weights_only=False)]
    readers['torch-legacy'] = [lambda b: torch.load(io.BytesIO(LEGACY + b + b'\x80\x02]q\x00.'), weights_only=False)]
except ImportError: pass
seen = None
ACTS = ('os.', 'subprocess.', 'socket.', 'ctypes.', 'shutil.', 'ftplib.', 'urllib.', 'pty.', 'signal.', 'winreg.', 'exec', 'open')
def hook(event, args):
    if seen is None: return
    if event == 'pickle.find_class':
        # At the end of the input a name is empty, and importing '' is a ValueError: nothing is.
        if args[0]: seen.add(args)
        if args not in SAFE: raise RuntimeError('refused')
    elif event.startswith(ACTS) and not (event == 'open' and args[1] in ('r', 'rb', None)):
        raise RuntimeError('refused')
sys.addaudithook(hook)
sys.setrecursionlimit(3000)
GIB = 1 << 30
resource.setrlimit(resource.RLIMIT_AS, (8 * GIB, 8 * GIB))
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
print(' '.join(readers), flush=True)
def hexed(pairs):
    return ' '.join(m.encode('utf-8', 'surrogatepass').hex() + ':' + n.encode('utf-8', 'surrogatepass').hex()
                    for m, n in pairs if isinstance(m, str) and isinstance(n, str))
for number, line in enumerate(sys.stdin):
    data = base64.b64decode(line)
    for name, ways in readers.items():
        if name != 'plain' and number % EVERY: continue
        seen = set()
        for way in ways:
            try: way(data)
            except BaseException: pass
        found, seen = seen, None
        print(number + 1, name, hexed(found))
    print('done')
"#;

fn pick<'a, T: ?Sized>(random: &mut Random, from: &[&'a T]) -> &'a T {
    from[random.below(from.len() as u64) as usize]
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
    "FloatStorage",
    "deque",
    "bytearray",
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
    let mut random = Random::new(seed);
    let mut out = Vec::new();
    if random.below(4) > 0 {
        out.extend([0x80, random.below(6) as u8]);
    }
    for _ in 0..random.below(24) + 2 {
        match random.below(30) {
            0 | 1 => {
                let (module, name) = (pick(&mut random, MODULES), pick(&mut random, NAMES));
                text(&mut out, &mut random, module);
                if random.below(4) == 0 {
                    out.extend(b"(N1");
                }
                text(&mut out, &mut random, name);
                out.push(0x93);
            }
            2 | 3 => out.extend(format!("c{}\n{}\n", pick(&mut random, MODULES), pick(&mut random, NAMES)).bytes()),
            4 => out.extend(format!("(i{}\n{}\n", pick(&mut random, MODULES), pick(&mut random, NAMES)).bytes()),
            5 => out.extend(b")R"),
            6 => out.extend(b")\x81"),
            7 => out.extend(b"}b"),
            8 => out.push(0x94),
            9 => out.extend([b'q', random.below(4) as u8]),
            10 => out.extend([b'h', random.below(4) as u8]),
            11 => out.extend(format!("p{}\n", random.below(5)).bytes()),
            12 => out.extend(format!("g{}\n", random.below(5)).bytes()),
            13 => out.extend(b"K\x01\x85"),
            14 => out.extend(pick(
                &mut random,
                &[
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
                ],
            )),
            15 => {
                out.push(0x95);
                out.extend((random.below(40)).to_le_bytes());
            }
            16 => out.extend(pick(
                &mut random,
                &[&b"I01\n"[..], b"I 7\n", b"I0x10\n", b"L5L\n", b"F1.5\n", b"Fnan\n", b"\x8a\x01\x05", b"M\x01\x00"],
            )),
            17 => {
                let name = pick(&mut random, NAMES);
                text(&mut out, &mut random, name);
            }
            18 => out.extend([0x80, random.below(6) as u8]),
            19 => {
                let module = pick(&mut random, MODULES);
                text(&mut out, &mut random, module);
                out.push(0x94);
            }
            20 => out.extend(b"0"),
            21 => out.extend([&b"r"[..], &(random.below(400) as u32).to_le_bytes()].concat()),
            22 => out.extend([&b"j"[..], &(random.below(400) as u32).to_le_bytes()].concat()),
            23 => out.extend(pick(
                &mut random,
                &[
                    &b"\x8f"[..],
                    b"\x90",
                    b"\x91",
                    b"\x92",
                    b"\x82\x01",
                    b"\x83\x01\x00",
                    b"\x84\x01\x00\x00\x00",
                    b"\x85",
                    b"\x86",
                    b"\x87",
                    b"\x88",
                    b"\x89",
                    b"\x97",
                    b"\x98",
                    b"Q",
                    b"Pid\n",
                ],
            )),
            24 => out.extend(pick(
                &mut random,
                &[
                    &b"C\x02ab"[..],
                    b"B\x02\x00\x00\x00ab",
                    b"\x8e\x02\x00\x00\x00\x00\x00\x00\x00ab",
                    b"\x96\x02\x00\x00\x00\x00\x00\x00\x00ab",
                    b"G\x3f\xf0\x00\x00\x00\x00\x00\x00",
                    b"\x8b\x02\x00\x00\x00\x05\x00",
                    b"J\xff\xff\xff\xff",
                    b"I0\n",
                    b"L-1\n",
                    b"S'o\\x73'\n",
                    b"S\"os\"\n",
                    b"V\\u006fs\n",
                    b"Vo\\\n",
                ],
            )),
            25 => out.extend(b"}}\x92"),
            26 => out.extend(b"(NN\x90"),
            27 => out.extend(b"N}\x86b"),
            28 if random.below(3) == 0 => out.push(b'.'),
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

fn traced(reader: &str, program: &[u8]) -> BTreeSet<(String, String)> {
    let limits = Limits::default();
    let mut context = Context::new(&limits, |_, _| false);
    let legacy: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}q\x00.";
    let (dialect, bytes) = match reader {
        "plain" => (Dialect::Plain, program.to_vec()),
        "joblib" => (Dialect::Joblib, program.to_vec()),
        "torch-zip" => (Dialect::TorchZip, program.to_vec()),
        "torch-legacy" => (Dialect::TorchLegacy, [legacy, program, b"\x80\x02]q\x00."].concat()),
        other => panic!("the child has a reader that nobody asked for: {other}"),
    };
    let source = MemorySource::new(&bytes, b"");
    let stream = Stream { source: &source, start: 0, end: bytes.len() as u64, dialect, member: None };
    pickle::scan_all(&stream, &mut context);
    context.traced().iter().map(|global| (global.module.clone(), global.name.clone())).collect()
}

#[test]
fn every_global_that_cpython_imports_is_traced() {
    let python = std::env::var("SENSOR_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = CHILD.replace("EVERY", &PROGRAMS_PER_FRAMEWORK.to_string());
    let child = Command::new(&python)
        .args(["-I", "-c", &script])
        .env("OMP_NUM_THREADS", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            assert!(!random::in_ci(), "{python}: {error}: set SENSOR_PYTHON to a CPython interpreter");
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
    let mut lines = BufReader::new(child.stdout.take().expect("piped above")).lines().map_while(Result::ok);
    let readers = lines.next().unwrap_or_default();
    for wanted in std::env::var("SENSOR_READERS").unwrap_or_default().split_whitespace() {
        assert!(readers.split(' ').any(|reader| reader == wanted), "{python} has no {wanted}, only {readers}");
    }
    let (mut imports, mut read, mut done) = (BTreeMap::<String, u64>::new(), BTreeMap::<String, u64>::new(), 0);
    for line in lines {
        if line == "done" {
            done += 1;
            continue;
        }
        let mut words = line.split_whitespace();
        let (Some(seed), Some(reader)) = (words.next().and_then(|seed| seed.parse().ok()), words.next()) else {
            panic!("the child wrote {line:?}");
        };
        let bytes = program(seed);
        let ours = traced(reader, &bytes);
        *read.entry(reader.to_owned()).or_default() += 1;
        for pair in words {
            let (module, name) = pair.split_once(':').expect("the child writes pairs");
            let pair = (unhex(module), unhex(name));
            *imports.entry(reader.to_owned()).or_default() += 1;
            assert!(
                ours.contains(&pair),
                "program {seed}: {reader} imports {pair:?}, we saw {ours:?} in {}",
                bytes.escape_ascii()
            );
        }
    }
    writer.join().expect("the writer does not panic");
    let status = child.wait().expect("the child was started");
    assert_eq!(done, programs(), "the interpreter stopped early: {status:?}");
    println!("programs read: {read:?}; globals imported: {imports:?}");
    assert!(imports["plain"] > programs() / 4, "the programs import too little to compare: {imports:?}");
}
