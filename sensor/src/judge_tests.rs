//! From act to alert, and every alert held to its schema.

use serde_json::Value;

use super::*;
use crate::event::{ModelFinding, Role, Severity};
use crate::policy::destination::Network;
use crate::policy::testing::{act, act_with, artifact, connect, destination, exec, key, model, process, send};
use crate::sink::Shape;

const SECOND_NS: u64 = 1_000_000_000;

fn judge() -> Judge {
    let policy = Policy::load(&[], Network::default()).unwrap();
    let host = Host { name: "node-1".into(), boot_id: "b".into(), kernel: "6.12.0".into() };
    Judge::new(Arc::new(policy), host)
}

/// The schema, closed: a key that it doesn't name is an error here, though consumers ignore such keys.
fn schema() -> jsonschema::Validator {
    fn close(value: &mut Value) {
        match value {
            Value::Object(object) => {
                if object.get("type") == Some(&"object".into()) && object.contains_key("properties") {
                    object.insert("additionalProperties".into(), false.into());
                }
                object.values_mut().for_each(close);
            }
            Value::Array(items) => items.iter_mut().for_each(close),
            _ => {}
        }
    }
    let mut schema: Value = serde_json::from_str(include_str!("../../schemas/alert.schema.json")).unwrap();
    close(&mut schema);
    jsonschema::validator_for(&schema).unwrap()
}

/// The alert as a consumer gets it, after it was held to the schema.
fn json(alert: &Alert) -> Value {
    let line = String::from_utf8(Shape::Native.render(alert, false)).unwrap();
    assert!(line.ends_with('\n') && line.matches('\n').count() == 1);
    let value: Value = serde_json::from_str(&line).unwrap();
    let errors: Vec<String> =
        schema().iter_errors(&value).map(|error| format!("{} {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?}\n{line}");
    value
}

fn one(alerts: Vec<Alert>) -> Value {
    assert_eq!(alerts.len(), 1);
    json(&alerts[0])
}

fn malicious(model: &mut Model) {
    model.verdict = Verdict::Malicious;
    model.sha256 = Some("ab".repeat(32));
    model.findings =
        vec![ModelFinding { id: "SNS-101".into(), severity: "critical".into(), title: "calls os.system".into() }];
}

#[test]
fn the_schema_says_no_where_it_should() {
    let good = one(judge().act(act(connect("192.0.2.1", 443)), 0));
    let broken: [fn(&mut Value); 6] = [
        |alert| alert["severity"] = "loud".into(),
        |alert| alert["unknown"] = 1.into(),
        |alert| alert["model"]["ino"] = 12.into(),
        |alert| alert["event"].as_object_mut().unwrap().remove("proto").map(|_| ()).unwrap(),
        |alert| alert["time"] = "yesterday".into(),
        |alert| alert["timeline"][0]["t_ms"] = 0.5.into(),
    ];
    assert!(schema().is_valid(&good));
    for breakage in broken {
        let mut bad = good.clone();
        breakage(&mut bad);
        assert!(!schema().is_valid(&bad), "{bad}");
    }
}

#[test]
fn a_shell_in_the_load_is_one_whole_alert() {
    let mut act = act_with(exec("/usr/bin/dash", &["sh", "-c", "id"]), |artifact, model| {
        artifact.born = true;
        artifact.basis = Some(Basis::Born);
        malicious(model);
    });
    act.lineage = Arc::new(Lineage {
        process: process(5, "/usr/bin/dash", &["sh", "-c", "id"]),
        ancestors: vec![
            process(1, "/usr/bin/python3.11", &["python3", "load.py"]),
            process(2, "/usr/bin/bash", &["bash"]),
        ],
        cgroup_id: 1,
    });
    let alert = one(judge().act(act, 0));
    assert_eq!(alert["schema"], "sensor.alert/1");
    assert_eq!(alert["time"], "2026-09-21T14:13:20.123456789Z");
    assert_eq!(alert["severity"], "critical");
    assert_eq!(alert["rule"]["id"], "shell-after-load");
    assert_eq!(alert["rule"]["severity"], "high");
    assert_eq!(alert["action"], "alert");
    assert!(alert.get("update").is_none());
    assert_eq!(alert["event"]["kind"], "exec");
    assert_eq!(alert["event"]["in_load"], true);
    assert_eq!(alert["event"]["basis"], "born");
    assert_eq!(alert["event"]["argv"], serde_json::json!(["sh", "-c", "id"]));
    assert_eq!(alert["process"]["pid"], 5);
    assert_eq!(alert["process"]["start_boottime_ns"], 105);
    assert_eq!(alert["process"]["ancestors"][0]["exe"], "/usr/bin/python3.11");
    assert_eq!(alert["process"]["ancestors"][1]["pid"], 2);
    assert_eq!(alert["model"]["path"], "/models/1.pt");
    assert_eq!(alert["model"]["dev"], "8:1");
    assert_eq!(alert["model"]["ino"], "1");
    assert_eq!(alert["model"]["findings"][0]["id"], "SNS-101");
    assert!(alert["container"].is_null() && alert["k8s"].is_null());
    assert_eq!(alert["incident"]["count"], 1);
    assert_eq!(alert["timeline"][0]["kind"], "model_open");
    assert_eq!(alert["timeline"][0]["t_ms"], 0);
    assert_eq!(alert["timeline"][1]["t_ms"], 13);
    assert_eq!(alert["timeline"][1]["pid"], 5);
    assert_eq!(alert["host"]["kernel"], "6.12.0");
}

#[test]
fn the_fields_stand_in_the_order_of_the_contract() {
    let line =
        String::from_utf8(Shape::Native.render(&judge().act(act(connect("192.0.2.1", 443)), 0)[0], false)).unwrap();
    let order = [
        "schema",
        "id",
        "time",
        "severity",
        "rule",
        "action",
        "event",
        "process",
        "model",
        "container",
        "k8s",
        "incident",
        "timeline",
        "host",
    ];
    let places: Vec<usize> = order.iter().map(|name| line.find(&format!("\"{name}\":")).unwrap()).collect();
    assert!(places.is_sorted(), "{line}");
    assert!(line.starts_with("{\"schema\":\"sensor.alert/1\",\"id\":"));
}

#[test]
fn a_connection_carries_where_it_goes() {
    let mut to = destination("::ffff:192.0.2.1", 443, Proto::Tcp);
    to.domain = Some("evil.example".into());
    let event = one(judge().act(act(ActKind::Connect(to)), 0))["event"].clone();
    assert_eq!(
        event,
        serde_json::json!({"kind": "connect", "in_load": false, "ip": "192.0.2.1", "port": 443, "proto": "tcp",
                           "family": "inet6", "domain": "evil.example"})
    );
    let v6 = one(judge().act(act(send("2001:db8::1", 9)), 0))["event"].clone();
    assert_eq!((&v6["ip"], &v6["proto"], &v6["kind"]), (&"2001:db8::1".into(), &"udp".into(), &"send".into()));
}

#[test]
fn loss_has_no_process_and_says_how_much() {
    let mut judge = judge();
    let loss = |count| Loss { time_unix_ns: 1_790_000_000_000_000_000, reason: "ring_full", cgroup: None, count };
    let alert = one(judge.loss(loss(7), 0));
    assert!(alert["process"].is_null() && alert["model"].is_null());
    assert_eq!(
        alert["event"],
        serde_json::json!({"kind": "loss", "in_load": false, "reason": "ring_full", "count": 7})
    );
    assert_eq!((&alert["severity"], &alert["incident"]["count"]), (&"medium".into(), &7.into()));
    assert!(judge.loss(loss(2), 1).is_empty());
    assert!(judge.loss(loss(0), 1).is_empty());
    assert_eq!(one(judge.loss(loss(1), 2))["event"]["count"], 10);
}

#[test]
fn a_late_verdict_raises_the_alert_of_the_same_incident() {
    let mut judge = judge();
    let pending = act_with(connect("192.0.2.1", 443), |artifact, model| {
        artifact.in_window = true;
        artifact.basis = Some(Basis::Held);
        model.verdict = Verdict::Pending;
    });
    let first = one(judge.act(pending, 0));
    assert_eq!((&first["severity"], &first["model"]["verdict"]), (&"high".into(), &"pending".into()));
    let mut bad = model(1);
    malicious(&mut bad);
    let bad = Arc::new(bad);
    let raised = one(judge.verdict(Arc::clone(&bad), SECOND_NS));
    assert_eq!(raised["update"], true);
    assert_eq!((&raised["severity"], &raised["model"]["verdict"]), (&"critical".into(), &"malicious".into()));
    assert_eq!(raised["incident"]["id"], first["incident"]["id"]);
    assert_eq!(raised["incident"]["count"], 1);
    assert_ne!(raised["id"], first["id"]);
    assert_eq!(raised["timeline"][0]["verdict"], "malicious");
    assert!(judge.verdict(bad, 2 * SECOND_NS).is_empty(), "it was said");
}

#[test]
fn a_late_verdict_that_is_good_says_nothing() {
    let mut judge = judge();
    let pending = act_with(connect("192.0.2.1", 443), |_, model| model.verdict = Verdict::Pending);
    judge.act(pending, 0);
    assert!(judge.verdict(Arc::new(model(1)), SECOND_NS).is_empty());
}

#[test]
fn a_load_whose_verdict_comes_late_is_said_then() {
    for verdict in [Verdict::Pending, Verdict::NotRead] {
        let mut judge = judge();
        let open = act_with(ActKind::ModelOpen, |_, model| model.verdict = verdict);
        assert!(judge.act(open.clone(), 0).is_empty());
        assert!(judge.act(open, 0).is_empty());
        let mut bad = model(1);
        malicious(&mut bad);
        let alert = one(judge.verdict(Arc::new(bad), SECOND_NS));
        assert_eq!((&alert["rule"]["id"], &alert["severity"]), (&"malicious-model-opened".into(), &"high".into()));
        assert!(alert.get("update").is_none(), "there was no earlier line");
        assert!(judge.waiting.len() == 0);
    }
}

#[test]
fn a_clean_load_says_nothing_and_waits_for_nothing() {
    let mut judge = judge();
    assert!(judge.act(act(ActKind::ModelOpen), 0).is_empty());
    assert!(judge.waiting.len() == 0);
}

/// A load of a file of its own, whose verdict isn't known yet.
fn unread_load(ino: u64) -> Act {
    let mut act = act_with(ActKind::ModelOpen, |_, model| {
        *model = crate::policy::testing::model(ino);
        model.verdict = Verdict::Pending;
    });
    act.time_boottime_ns = SECOND_NS;
    act
}

/// A data set of thousands of files, on a machine that is too busy to look at them in time.
#[test]
fn all_that_waited_to_be_judged_may_wait_for_verdicts() {
    /// Of the room before this one (`watch::correlate`).
    const WAITED_MAX: u64 = 4_096;
    let mut judge = judge();
    for ino in 0..WAITED_MAX {
        assert_eq!(judge.act(unread_load(ino), SECOND_NS).len(), 0, "load {ino}");
    }
}

#[test]
fn loads_that_wait_too_long_are_forgotten_and_too_many_are_counted() {
    let mut judge = judge();
    // No rule speaks of such a file.
    let reads = ActKind::File { path: b"/x".to_vec(), access: crate::event::Access::Read };
    assert!(judge.act(Act { kind: reads, ..unread_load(0) }, SECOND_NS).is_empty());
    for ino in 1..WAITING_MAX as u64 {
        assert!(judge.act(unread_load(ino), SECOND_NS).is_empty());
    }
    for (ino, reason, severity) in
        [(u64::MAX - 1, "verdict_wait_table_full", "medium"), (u64::MAX, "open_unjudged", "low")]
    {
        let alert = one(judge.act(unread_load(ino), SECOND_NS));
        assert_eq!((&alert["event"]["reason"], &alert["severity"]), (&reason.into(), &severity.into()));
        assert_eq!(judge.loss_sums()[reason], 1);
    }
    judge.tick(0, SECOND_NS + WAITING_NS_MAX);
    assert!(judge.waiting.len() == 0);
}

#[test]
fn everything_after_a_load_stands_in_its_timeline_even_what_no_rule_speaks_of() {
    let mut judge = judge();
    judge.act(act(ActKind::ModelOpen), 0);
    let quiet = ActKind::Connect(destination("192.0.2.1", 9, Proto::Udp));
    assert!(judge.act(act(quiet), 0).is_empty());
    let mut later = act(exec("/usr/bin/id", &["id"]));
    later.time_boottime_ns += 7_000_000;
    let mut inherited = artifact(2);
    inherited.opener = key(9);
    inherited.opened_boottime_ns = 0;
    later.artifacts.push(inherited);
    // The latest of equals decides, so the story is that of process 1.
    let alert = one(judge.act(later, 0));
    let told: Vec<(&str, i64)> = alert["timeline"]
        .as_array()
        .unwrap()
        .iter()
        .map(|moment| (moment["kind"].as_str().unwrap(), moment["t_ms"].as_i64().unwrap()))
        .collect();
    assert_eq!(told, [("model_open", -1), ("model_open", 0), ("connect", 13), ("exec", 20)]);
    assert_eq!(alert["timeline"][2]["proto"], "udp");
}

#[test]
fn repeats_are_told_by_count_with_the_time_of_the_latest() {
    let mut judge = judge();
    let at = |i: u64| {
        let mut act = act(connect("192.0.2.1", 443));
        act.time_unix_ns += i128::from(i) * 1_000_000_000;
        act
    };
    let alerts: Vec<Alert> = (0..10).flat_map(|i| judge.act(at(i), i)).collect();
    assert_eq!(alerts.len(), 2);
    let (first, tenth) = (json(&alerts[0]), json(&alerts[1]));
    assert_eq!(tenth["incident"]["count"], 10);
    assert_eq!(tenth["time"], "2026-09-21T14:13:29.123456789Z");
    assert_eq!(tenth["incident"]["last_seen"], tenth["time"]);
    assert_eq!(tenth["incident"]["first_seen"], first["time"]);
    judge.act(at(10), 10);
    assert_eq!(one(judge.drain(11))["incident"]["count"], 11);
    judge.act(at(11), 12);
    assert_eq!(one(judge.tick(0, 61 * SECOND_NS))["incident"]["count"], 12);
}

#[test]
fn hostile_bytes_stay_valid_and_exact() {
    let mut act = act_with(exec("/tmp/\x1b[2J\u{202e}x", &["a\nb"]), |_, model| {
        model.path = [b"/m/\xff\x1b]0;x\x07".to_vec(), vec![b'a'; 4000]].concat();
        model.findings = (0..40)
            .map(|i| ModelFinding { id: format!("SNS-{i:03}"), severity: "info".into(), title: "\u{9b}".into() })
            .collect();
    });
    if let ActKind::Exec { argv, .. } = &mut act.kind {
        argv.push(b"\xc3\x28".to_vec());
        argv.push(vec![b'x'; 10_000]);
    }
    let alerts = judge().act(act, 0);
    let line = Shape::Native.render(&alerts[0], false);
    assert!(!line[..line.len() - 1].iter().any(u8::is_ascii_control));
    let alert = json(&alerts[0]);
    assert!(alert["model"]["path_b64"].is_string() && alert["event"]["argv_b64"].is_array());
    assert_eq!(alert["event"]["argv_truncated"], true);
    assert_eq!(alert["model"]["findings"].as_array().unwrap().len(), alert::FINDINGS_MAX);
    assert_eq!(alert["model"]["findings_omitted"], 8);
    let shown = Shape::Human.render(&alerts[0], false);
    let shown = String::from_utf8(shown).unwrap();
    assert!(shown.chars().all(|c| c == '\n' || !(c.is_control() || crate::escape::deceives(c))), "{shown}");
    assert!(shown.contains("\\xff\\x1b]0;x\\x07"), "{shown}");
}

#[test]
fn files_beyond_the_load_set_are_counted() {
    let mut many = act(connect("192.0.2.1", 443));
    many.artifacts_omitted = 3;
    let alerts = judge().act(many, 0);
    assert_eq!(json(&alerts[0])["models_omitted"], 3);
    let shown = String::from_utf8(Shape::Human.render(&alerts[0], false)).unwrap();
    assert!(shown.contains("and 3 more files in the same load"), "{shown}");
}

#[test]
fn a_reader_is_recorded_as_info() {
    let mut read = act_with(ActKind::ModelOpen, |_, model| malicious(model));
    read.role = Role::Reader;
    let alerts = judge().act(read, 0);
    assert_eq!(alerts[0].severity, Severity::Info);
    json(&alerts[0]);
}

#[test]
fn a_notice_is_given_once() {
    let folder = tempfile::tempdir().unwrap();
    let exception = "exceptions:\n  - {exe: /x, rules: [loss], reason: old, expires: 2020-01-31}\n";
    std::fs::write(folder.path().join("mine.yaml"), exception).unwrap();
    let policy = Policy::load(&[folder.path().to_owned()], Network::default()).unwrap();
    let mut judge = Judge::new(Arc::new(policy), Host::default());
    assert!(judge.notices(0).is_empty(), "it is 1970");
    assert_eq!(judge.notices(1_790_000_000_000_000_000).len(), 1);
    assert!(judge.notices(1_790_000_000_000_000_001).is_empty());
}
