//! The alert's parts; the whole is held to its schema in `judge_tests.rs`.

use super::*;
use crate::policy::testing::{model, process};

#[test]
fn time_is_rfc_3339_with_nanoseconds() {
    assert_eq!(time(1_790_000_000_123_456_789), "2026-09-21T14:13:20.123456789Z");
    assert_eq!(time(0), "1970-01-01T00:00:00.000000000Z");
    assert_eq!(time(1_500_000_000), "1970-01-01T00:00:01.500000000Z");
    // Nonsense is a time, not a panic.
    assert!(time(i128::MAX).starts_with("9999-"));
    assert!(time(i128::MIN).ends_with('Z'));
}

#[test]
fn a_device_is_major_and_minor_and_an_inode_a_string() {
    let mut model = model(u64::MAX);
    model.inode.dev = 259 << 20 | 5;
    let model = AlertModel::new(&model);
    assert_eq!(model.dev, "259:5");
    assert_eq!(model.ino, "18446744073709551615");
}

#[test]
fn bytes_that_are_not_text_are_exact_beside_the_lossy_field() {
    assert_eq!(text(b"/m/a.pt"), ("/m/a.pt".into(), None));
    let (lossy, base64) = text(b"/m/\xff.pt");
    assert_eq!(lossy, "/m/\u{fffd}.pt");
    assert_eq!(&*exact(&lossy, base64.as_deref()), b"/m/\xff.pt");

    let argv = Argv::new(&[b"sh".to_vec(), b"\xfe".to_vec()], false, ARGV_BYTES_MAX);
    assert_eq!(argv.argv, ["sh", "\u{fffd}"]);
    assert_eq!(argv.exact().map(Cow::into_owned).collect::<Vec<_>>(), [b"sh".to_vec(), b"\xfe".to_vec()]);
    assert!(Argv::new(&[b"sh".to_vec()], false, ARGV_BYTES_MAX).argv_b64.is_none());
}

#[test]
fn arguments_end_at_their_limit_and_say_so() {
    let argv = |lengths: &[usize], limit| {
        let argv: Vec<Bytes> = lengths.iter().map(|length| vec![b'a'; *length]).collect();
        let argv = Argv::new(&argv, false, limit);
        (argv.argv.iter().map(String::len).collect::<Vec<_>>(), argv.argv_truncated)
    };
    assert_eq!(argv(&[2, 3], 10), (vec![2, 3], None));
    assert_eq!(argv(&[10], 10), (vec![10], None));
    assert_eq!(argv(&[11], 10), (vec![10], Some(true)));
    assert_eq!(argv(&[4, 20, 1], 10), (vec![4, 5], Some(true)));
    // A list of empty arguments ends too.
    assert_eq!(argv(&[0; 10_000], ARGV_BYTES_MAX).0.len(), ARGV_BYTES_MAX);
    assert_eq!(argv(&[0; 10_000], ARGV_BYTES_MAX).1, Some(true));
    // What was cut in the kernel stays cut.
    assert_eq!(Argv::new(&[b"x".to_vec()], true, 10).argv_truncated, Some(true));
}

#[test]
fn an_unknown_program_is_empty_and_not_missing() {
    let mut process = process(7, "", &[]);
    process.uid = None;
    let json = serde_json::to_value(Program::new(&process, ARGV_BYTES_MAX)).unwrap();
    assert_eq!(json["exe"], "");
    assert_eq!(json["argv"], serde_json::json!([]));
}
