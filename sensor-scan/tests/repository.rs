//! Files that are read because of their names hold any text: no panic, no endless work, and what is nested without end
//! is said, not left out.

use proptest::prelude::*;
use sensor_scan::source::MemorySource;
use sensor_scan::{Limits, Policy, Report, Verdict, scan};

const NAMES: &[&str] = &[
    "modeling_x.py",
    "x.py",
    "config.json",
    "model_index.json",
    "modules.json",
    "adapter_config.json",
    "x.yaml",
    "MLmodel",
    "x.ipynb",
    "README.md",
    "requirements.txt",
    "x.sh",
];

/// Words of all the languages that stand in such files.
const WORDS: &[&str] = &[
    "import ",
    "from ",
    "os",
    ".",
    "system",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "'",
    "\"",
    "'''",
    "\"\"\"",
    "f'",
    "b'",
    "\\",
    "\n",
    "\n    ",
    "\n  ",
    "\t",
    " ",
    "#",
    ":",
    ",",
    "=",
    ":=",
    "+",
    "*",
    "**",
    "%",
    "->",
    "@",
    "lambda",
    "lambda x: ",
    "def f(",
    "class A(",
    "if ",
    " else ",
    "for x in ",
    "while ",
    "with ",
    " as ",
    "try:",
    "except:",
    "return ",
    "yield ",
    "await ",
    "async ",
    "match x:",
    "case _:",
    "exec",
    "eval",
    "base64.b64decode",
    "chr",
    "join",
    "__import__",
    "getattr",
    "0x1f",
    "1e5",
    "1_0",
    "é",
    "\u{1d626}",
    "\u{0}",
    "&a ",
    "*a",
    "!!python/object/apply:os.system ",
    "!<x>",
    "%TAG ! x\n",
    "|\n",
    ">-\n",
    "- ",
    "? ",
    "_target_",
    "os.system",
    "auto_map",
    "b--c.d",
    "```\n",
    "curl x | sh",
    "$ ",
    "`",
    "!touch /x",
    "%%bash\n",
    "cell_type",
    "code",
    "source",
    "cells",
    "--index-url http://x",
    "git+https://x",
    "null",
    "\r\n",
    "\u{feff}",
    "~",
    "$(",
];

fn report(name: &str, bytes: &[u8]) -> Report {
    scan(&MemorySource::new(bytes, name.as_bytes()), &Limits::default(), &Policy::standard())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_words_in_any_order_are_read(name in prop::sample::select(NAMES), words in prop::collection::vec(prop::sample::select(WORDS), 0..120)) {
        let report = report(name, words.concat().as_bytes());
        prop_assert!(report.verdict != Verdict::Clean || report.coverage.complete);
    }

    #[test]
    fn any_bytes_are_read(name in prop::sample::select(NAMES), bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let report = report(name, &bytes);
        prop_assert!(report.verdict != Verdict::Clean || report.coverage.complete);
    }
}

#[test]
fn repetition_is_no_way_to_make_it_slow_or_deep() {
    for name in NAMES {
        for word in WORDS {
            report(name, word.repeat(3_000).as_bytes());
        }
    }
    let deep = format!("x = {}1{}\n", "(".repeat(150), ")".repeat(150));
    assert_ne!(report("modeling_x.py", deep.as_bytes()).verdict, Verdict::Clean);
    let long = format!("x = 1\n{}", "# a comment\n".repeat(100_000));
    assert_ne!(report("modeling_x.py", long.as_bytes()).verdict, Verdict::Clean);
}
