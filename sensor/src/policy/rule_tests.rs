//! Rule files: what they may say, and what is said about them.

use super::*;
use crate::event::Proto;
use crate::policy::testing::{act_with, artifact, destination, exec};

const MINIMAL: &str = "rules:\n  - id: a\n    name: A\n    what: [exec]\n    nominal: low\n";

fn fault(text: &str) -> String {
    parse("t.yaml", text).unwrap_err()
}

fn rule(more: &str) -> Rule {
    let text = format!("{MINIMAL}{more}");
    match parse("t.yaml", &text) {
        Ok(file) => file.rules.into_iter().next().unwrap().value,
        Err(error) => panic!("{error}\n{text}"),
    }
}

#[test]
fn everything_that_exists_can_be_written() {
    let text = r#"
rules:
  - id: my-rule
    name: Something happened
    what: [exec, connect]
    program: [shell, interpreter, unexpected, ordinary]
    who:
      class: [code, data, unknown]
      verdict: [clean, suspicious, malicious, unscannable, pending, not_read]
      role: [loader, reader]
      repo: ["org/*"]
    where:
      class: [metadata, loopback, link-local, cluster, private, public]
      cidr: [192.0.2.0/24, "2001:db8::/32", 198.51.100.7]
      port: [443]
      domain: [example.org]
    within: 5m
    unless:
      - path: /models/**
        exe: /usr/bin/*
        image: "registry.example/*"
        sha256: 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
        destination: { cidr: 10.0.0.0/8, port: 80, domain: example.org }
        reason: because
        expires: 2027-06-30
    nominal: medium
    severity: { step: -1 }
    attack: [T1204.002]
    atlas: [AML.T0011.000]
    action: alert
exceptions:
  - rules: [my-rule]
    path: /x
    reason: because
    expires: 2027-06-30
"#;
    let file = parse("t.yaml", text).unwrap();
    let rule = &file.rules[0].value;
    assert_eq!(rule.within, Some(Duration::from_secs(300)));
    assert_eq!(rule.severity, SeverityBy::Step(-1));
    assert_eq!((rule.unless.len(), file.exceptions.len()), (1, 1));
}

#[test]
fn a_fault_is_named_with_file_line_and_column() {
    let cases = [
        (format!("{MINIMAL}    colour: red\n"), "t.yaml:6:5: ", "colour"),
        (format!("{MINIMAL}    within: soon\n"), "t.yaml:6:13: ", "\"soon\" is no time"),
        (format!("{MINIMAL}    who:\n      class: [evil]\n"), "t.yaml:7:15: ", "evil"),
        (format!("{MINIMAL}    where:\n      cidr: [10.0.0.0/99]\n"), "t.yaml:7:14: ", "is no network"),
        (
            format!("{MINIMAL}    unless:\n      - path: '[a'\n        reason: r\n        expires: 2027-01-01\n"),
            "t.yaml:7:15: ",
            "is no glob",
        ),
        (
            format!("{MINIMAL}    unless:\n      - path: /a\n        reason: r\n        expires: someday\n"),
            "t.yaml:9:18: ",
            "is no day",
        ),
        (format!("{MINIMAL}    unless:\n      - path: /a\n        reason: r\n"), "t.yaml:8:", "expires"),
        (format!("{MINIMAL}    unless:\n      - path: /a\n        expires: 2027-01-01\n"), "t.yaml:8:", "reason"),
        ("rules:\n  - id: a\n    name: A\n".into(), "t.yaml:3:", "what"),
        ("rule: []\n".into(), "t.yaml:1:1: ", "rule"),
        ("rules: [\n".into(), "t.yaml:", ""),
        (MINIMAL.replace("id: a", "id: A B"), "t.yaml:2:5: ", "`id` has to be"),
        (MINIMAL.replace("[exec]", "[]"), "t.yaml:2:5: ", "`what` names no kind"),
        (MINIMAL.replace("[exec]", "[connect]\n    program: [shell]"), "t.yaml:2:5: ", "`program` needs `exec`"),
        (format!("{MINIMAL}    where: {{ port: [1] }}\n"), "t.yaml:2:5: ", "`where` needs"),
        (format!("{MINIMAL}    action: deny\n"), "t.yaml:2:5: ", "only observes"),
        ("exceptions:\n  - reason: r\n    expires: 2027-01-01\n".into(), "t.yaml:2:5: ", "needs a condition"),
        (
            "exceptions:\n  - path: /a\n    reason: ' '\n    expires: 2027-01-01\n".into(),
            "t.yaml:2:5: ",
            "needs a `reason`",
        ),
        (
            "exceptions:\n  - sha256: abc\n    reason: r\n    expires: 2027-01-01\n".into(),
            "t.yaml:2:5: ",
            "64 hexadecimal",
        ),
        (
            "exceptions:\n  - destination: {}\n    reason: r\n    expires: 2027-01-01\n".into(),
            "t.yaml:2:5: ",
            "needs a condition",
        ),
        (
            format!(
                "{MINIMAL}    unless:\n      - path: /a\n        rules: [a]\n        reason: r\n        expires: 2027-01-01\n"
            ),
            "t.yaml:2:5: ",
            "for that rule",
        ),
    ];
    for (text, place, message) in cases {
        let fault = fault(&text);
        assert!(fault.starts_with(place) && fault.contains(message), "{fault}\n  should be {place}…{message}\n{text}");
    }
}

#[test]
fn severity_is_the_tables_unless_the_rule_says_so() {
    assert_eq!(rule("").severity_from(Severity::Medium), Severity::Medium);
    assert_eq!(rule("    severity: table\n").severity_from(Severity::Medium), Severity::Medium);
    assert_eq!(rule("    severity: { fixed: critical }\n").severity_from(Severity::Info), Severity::Critical);
    assert_eq!(rule("    severity: { fixed: critical }\n").nominal_severity(), Severity::Critical);
    assert_eq!(rule("    severity: { step: 2 }\n").severity_from(Severity::Medium), Severity::Critical);
    assert_eq!(rule("    severity: { step: -9 }\n").severity_from(Severity::Medium), Severity::Info);
    assert_eq!(rule("    severity: { step: -9 }\n").nominal_severity(), Severity::Low);
}

#[test]
fn a_rule_is_about_kinds_programs_and_roles() {
    let any = rule("");
    assert!(any.is_about(EventKind::Exec, Some(Kind::Shell), None, Role::Loader));
    assert!(!any.is_about(EventKind::Connect, None, None, Role::Loader));
    let shells = rule("    program: [shell]\n    who: { role: [loader] }\n");
    assert!(shells.is_about(EventKind::Exec, Some(Kind::Shell), None, Role::Loader));
    assert!(!shells.is_about(EventKind::Exec, Some(Kind::Interpreter), None, Role::Loader));
    assert!(!shells.is_about(EventKind::Exec, Some(Kind::Shell), None, Role::Reader));
}

#[test]
fn only_a_rule_that_names_opens_and_its_severity_tells_of_clean_ones() {
    let opens = |more: &str| {
        let text = format!("rules:\n  - id: a\n    name: A\n    what: [exec, model_open]\n    nominal: low\n{more}");
        parse("t.yaml", &text).unwrap().rules[0].value.tells_clean_opens()
    };
    assert!(opens("    severity: { fixed: low }\n"));
    assert!(opens("    severity: { fixed: low }\n    who: { verdict: [malicious, clean] }\n"));
    assert!(!opens("    severity: { fixed: low }\n    who: { verdict: [malicious] }\n"));
    assert!(!opens(""), "the table has no alert for it");
    assert!(!rule("    severity: { fixed: low }\n").tells_clean_opens(), "not about opens");
}

#[test]
fn who_is_the_file_and_the_time_since_its_load() {
    let fits = |more: &str, change: fn(&mut Artifact, &mut crate::event::Model)| {
        rule(more).fits_load(&act_with(exec("/bin/sh", &[]), change).artifacts[0])
    };
    assert!(fits("", |_, _| {}));
    assert!(fits("    who: { verdict: [malicious] }\n", |_, model| model.verdict = Verdict::Malicious));
    assert!(!fits("    who: { verdict: [malicious] }\n", |_, _| {}));
    assert!(!fits("    who: { class: [data] }\n", |_, _| {}));
    assert!(fits("    who: { repo: ['org/*'] }\n", |_, model| model.repo = Some("org/name".into())));
    assert!(!fits("    who: { repo: ['org/*'] }\n", |_, _| {}));
    assert!(fits("    within: 30s\n", |artifact, _| artifact.since_ns = 30_000_000_000));
    assert!(!fits("    within: 30s\n", |artifact, _| artifact.since_ns = 30_000_000_001));
    assert!(fits("    within: 30s\n", |artifact, _| artifact.born = true));
}

#[test]
fn where_needs_one_of_each_list_that_is_given() {
    let of = |conditions: &str| {
        let text = MINIMAL.replace("[exec]", "[connect]") + &format!("    where: {conditions}\n");
        let file = parse("t.yaml", &text).unwrap();
        file.rules[0].value.fits_place(Some((&destination("192.0.2.9", 443, Proto::Tcp), Class::Public)))
    };
    assert!(of("{ class: [private, public] }"));
    assert!(!of("{ class: [private] }"));
    assert!(of("{ cidr: [10.0.0.0/8, 192.0.2.0/24] }"));
    assert!(!of("{ cidr: [10.0.0.0/8] }"));
    assert!(of("{ class: [public], port: [80, 443] }"));
    assert!(!of("{ class: [public], port: [80] }"));
    // No name is known of it.
    assert!(!of("{ domain: [example.org] }"));
}

#[test]
fn an_exception_needs_all_its_conditions_and_ends_with_its_day() {
    let exception = |conditions: &str| {
        let text = format!("exceptions:\n  - {{ {conditions}, reason: r, expires: 2027-06-30 }}\n");
        parse("t.yaml", &text).unwrap().exceptions.remove(0).value
    };
    let hash = "ab".repeat(32);
    let act = act_with(exec("/usr/bin/id", &["id"]), |_, model| {
        model.path = b"/models/good/1.pt".to_vec();
        model.sha256 = Some("ab".repeat(32));
    });
    let applies = |conditions: &str| exception(conditions).applies(&act, &act.artifacts[0]);
    assert!(applies("path: /models/good/*.pt"));
    assert!(!applies("path: /models/*.pt"));
    assert!(applies("path: '/models/**'"));
    assert!(applies("exe: /usr/bin/id"));
    assert!(!applies("exe: /usr/bin/python3.11"));
    assert!(applies(&format!("sha256: {}", hash.to_uppercase())));
    assert!(applies(&format!("sha256: {hash}, exe: /usr/bin/id")));
    assert!(!applies(&format!("sha256: {hash}, exe: /usr/bin/env")));
    // Not known, so not excused.
    assert!(!applies("image: '*'"));
    assert!(!applies("destination: { port: 443 }"));
    let mut unknown = artifact(2);
    std::sync::Arc::make_mut(&mut unknown.model).sha256 = None;
    assert!(!exception(&format!("sha256: {hash}")).applies(&act, &unknown));

    let mut late = act.clone();
    late.time_unix_ns = 1_814_399_999_999_999_999; // 2027-06-30T23:59:59.999999999Z
    assert!(exception("exe: /usr/bin/id").applies(&late, &late.artifacts[0]));
    late.time_unix_ns += 1;
    assert!(!exception("exe: /usr/bin/id").applies(&late, &late.artifacts[0]));
    assert!(exception("exe: /usr/bin/id").is_expired(late.time_unix_ns));
}

#[test]
fn a_folder_is_read_in_order_and_links_of_a_config_map_are_followed() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("..2026_11_25");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("b.yaml"), "b").unwrap();
    std::os::unix::fs::symlink("..2026_11_25/b.yaml", folder.path().join("b.yaml")).unwrap();
    std::fs::write(folder.path().join("a.yml"), "a").unwrap();
    std::fs::write(folder.path().join("README"), "no").unwrap();
    std::fs::write(folder.path().join(".hidden.yaml"), "no").unwrap();
    let texts: Vec<String> = read_folder(folder.path()).unwrap().into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["a", "b"]);

    let gone = folder.path().join("gone");
    assert!(read_folder(&gone).unwrap_err().contains(gone.to_str().unwrap()));
    std::fs::create_dir(folder.path().join("c.yaml")).unwrap();
    assert!(read_folder(folder.path()).unwrap_err().contains("is no regular file"));
}
