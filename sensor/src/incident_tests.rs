//! When an incident speaks, and what it never forgets to count.

use super::*;
use crate::event::Severity::{Critical, High, Low, Medium};
use crate::event::Verdict;
use crate::policy::testing::{act, act_with, artifact, connect, exec, key, model, send};

const SECOND_NS: u64 = 1_000_000_000;

fn sighting(act: &Arc<Act>, severity: Severity) -> Sighting {
    Sighting {
        key: Key { origin: Some(act.artifacts[0].opener), rule: "rule".into(), object: Object::of(act, 0) },
        subject: Subject::Act { act: Arc::clone(act), decides: 0 },
        severity,
        action: Action::Alert,
        time_unix_ns: act.time_unix_ns,
        times: 1,
    }
}

fn to(ip: &str) -> Arc<Act> {
    Arc::new(act(connect(ip, 443)))
}

#[test]
fn the_object_is_the_network_the_program_or_the_file() {
    let object = |kind| Object::of(&act(kind), 0);
    assert_eq!(object(connect("192.0.2.1", 443)), object(send("192.0.2.200", 80)));
    assert_ne!(object(connect("192.0.2.1", 443)), object(connect("192.0.3.1", 443)));
    assert_eq!(object(connect("::ffff:192.0.2.1", 443)), object(connect("192.0.2.9", 443)));
    assert_eq!(object(connect("2001:db8::1", 1)), object(connect("2001:db8::ffff:1", 1)));
    assert_ne!(object(connect("2001:db8::1", 1)), object(connect("2001:db8:0:1::1", 1)));
    assert_eq!(object(exec("/bin/sh", &["sh", "-c", "a"])), object(exec("/bin/sh", &["sh", "-c", "b"])));
    assert_ne!(object(exec("/bin/sh", &["sh"])), object(exec("/bin/bash", &["sh"])));
    assert_ne!(object(exec("", &["sh"])), object(exec("", &["bash"])));
    assert_eq!(object(ActKind::ModelOpen), Object::Model(model(1).inode));
}

#[test]
fn a_line_is_due_at_the_first_and_at_powers_of_ten() {
    let mut incidents = Incidents::new("boot");
    let act = to("192.0.2.1");
    let mut told = Vec::new();
    for _ in 0..1500 {
        told.extend(incidents.see(sighting(&act, High), SECOND_NS).into_iter().map(|line| line.count));
    }
    assert_eq!(told, [1, 10, 100, 1000]);
}

#[test]
fn numbers_that_come_at_once_cross_powers_of_ten_too() {
    let cases = [(1, 9, false), (9, 10, true), (0, 10, true), (10, 99, false), (5, 12, true), (99, 5000, true)];
    for (before, after, crosses) in cases {
        assert_eq!(crosses_power_of_ten(before, after), crosses, "{before} to {after}");
    }
}

#[test]
fn a_line_is_due_when_the_severity_rises_and_the_incident_stays_that_loud() {
    let mut incidents = Incidents::new("boot");
    let act = to("192.0.2.1");
    let mut see = |severity| {
        incidents.see(sighting(&act, severity), SECOND_NS).into_iter().map(|line| line.severity).collect::<Vec<_>>()
    };
    assert_eq!(see(Low), [Low]);
    assert_eq!(see(Low), []);
    assert_eq!(see(High), [High]);
    assert_eq!(see(Low), []);
    assert_eq!(see(High), []);
    assert_eq!(see(Critical), [Critical]);
}

#[test]
fn a_line_shows_the_act_that_its_severity_is_of_and_the_time_of_the_latest() {
    let mut incidents = Incidents::new("boot");
    let (bad, good) = (to("192.0.2.1"), to("192.0.2.2"));
    let later = Arc::new(Act { time_unix_ns: bad.time_unix_ns + 5, ..(*good).clone() });
    incidents.see(sighting(&bad, Critical), SECOND_NS);
    let lines: Vec<Line> = (0..9).flat_map(|_| incidents.see(sighting(&later, Medium), SECOND_NS)).collect();
    assert_eq!(lines.iter().map(|line| (line.count, line.severity)).collect::<Vec<_>>(), [(10, Critical)]);
    assert!(matches!(&lines[0].subject, Subject::Act { act, .. } if Arc::ptr_eq(act, &bad)), "{:?}", lines[0].subject);
    assert_eq!(lines[0].time_unix_ns, later.time_unix_ns);
    // What is as loud replaces it.
    let again = incidents.see(Sighting { action: Action::Deny, ..sighting(&later, Critical) }, SECOND_NS);
    assert!(matches!(&again[0].subject, Subject::Act { act, .. } if Arc::ptr_eq(act, &later)));
}

#[test]
fn each_deny_and_kill_is_a_line() {
    let mut incidents = Incidents::new("boot");
    let act = to("192.0.2.1");
    for action in [Action::Deny, Action::Deny, Action::Kill] {
        let lines = incidents.see(Sighting { action, ..sighting(&act, High) }, SECOND_NS);
        assert_eq!(lines.iter().map(|line| line.action).collect::<Vec<_>>(), [action]);
    }
}

#[test]
fn a_new_count_is_told_after_a_minute_and_an_old_one_never_again() {
    let mut incidents = Incidents::new("boot");
    let act = to("192.0.2.1");
    assert_eq!(incidents.see(sighting(&act, High), 0).len(), 1);
    assert!(incidents.tick(REPEAT_AFTER_NS).is_empty(), "there is no new count");
    assert!(incidents.see(sighting(&act, High), SECOND_NS).is_empty());
    assert!(incidents.see(sighting(&act, High), 2 * SECOND_NS).is_empty());
    assert!(incidents.tick(REPEAT_AFTER_NS - 1).is_empty());
    assert_eq!(incidents.tick(REPEAT_AFTER_NS).iter().map(|line| line.count).collect::<Vec<_>>(), [3]);
    assert!(incidents.tick(2 * REPEAT_AFTER_NS).is_empty());
    // Without a tick, the next sighting after a minute tells it.
    assert_eq!(incidents.see(sighting(&act, High), 3 * REPEAT_AFTER_NS)[0].count, 4);
}

#[test]
fn the_end_of_the_program_tells_the_rest() {
    let mut incidents = Incidents::new("boot");
    let act = to("192.0.2.1");
    for _ in 0..5 {
        incidents.see(sighting(&act, High), 0);
    }
    assert_eq!(incidents.drain(1).iter().map(|line| line.count).collect::<Vec<_>>(), [5]);
    assert!(incidents.drain(2).is_empty());
}

#[test]
fn origins_rules_and_objects_are_incidents_of_their_own() {
    let mut incidents = Incidents::new("boot");
    let one = to("192.0.2.1");
    let base = sighting(&one, High);
    let mut other_origin = base.clone();
    other_origin.key.origin = Some(key(7));
    let mut other_rule = base.clone();
    other_rule.key.rule = "other".into();
    let mut ids = std::collections::HashSet::new();
    for sighting in [base, other_origin, other_rule, sighting(&to("198.51.100.1"), High)] {
        let lines = incidents.see(sighting, 0);
        assert_eq!(lines.len(), 1);
        assert!(ids.insert(lines[0].incident_id.clone()));
        assert_eq!(lines[0].id, format!("{}-1", lines[0].incident_id));
    }
}

#[test]
fn ids_differ_between_boots() {
    let id = |salt| Incidents::new(salt).see(sighting(&to("192.0.2.1"), High), 0).remove(0).id;
    assert_eq!(id("a"), id("a"));
    assert_ne!(id("a"), id("b"));
}

#[test]
fn a_quiet_incident_is_over_and_the_next_is_a_new_one() {
    let mut incidents = Incidents::new("boot");
    let act = to("192.0.2.1");
    let first = incidents.see(sighting(&act, High), 0).remove(0);
    incidents.tick(QUIET_NS_MAX);
    let second = incidents.see(sighting(&act, High), QUIET_NS_MAX + 1).remove(0);
    assert_ne!(first.incident_id, second.incident_id);
    assert_eq!((second.count, incidents.take_evicted()), (1, 0));
}

#[test]
fn a_scan_of_many_networks_by_one_origin_is_folded_with_its_count() {
    let mut incidents = Incidents::new("boot");
    let networks = INCIDENTS_PER_ORIGIN_RULE_MAX + 500;
    let mut lines = Vec::new();
    for i in 0..networks {
        let act = to(&format!("198.{}.{}.1", 18 + i / 256, i % 256));
        lines.extend(incidents.see(sighting(&act, High), 0));
    }
    lines.extend(incidents.drain(0));
    // One line per incident, and of the rest those for 1, 10, 100 and the end.
    assert_eq!(lines.len() as u32, INCIDENTS_PER_ORIGIN_RULE_MAX + 4);
    assert_eq!(lines.last().map(|line| line.count), Some(500));
    assert_eq!(incidents.take_evicted(), 0);
}

#[test]
fn a_flood_makes_the_quietest_give_way_with_their_counts_told_and_is_counted() {
    let mut incidents = Incidents::new("boot");
    let act = to("192.0.2.1");
    let of = |origin| {
        let mut sighting = sighting(&act, High);
        sighting.key.origin = Some(key(origin));
        sighting
    };
    incidents.see(of(0), 0);
    incidents.see(of(0), 0);
    let mut lines = Vec::new();
    for origin in 1..=INCIDENTS_MAX as u32 {
        lines.extend(incidents.see(of(origin), 0));
    }
    let repeats: Vec<u64> = lines.iter().map(|line| line.count).filter(|count| *count > 1).collect();
    assert_eq!(repeats, [2], "the count of the first was told when it gave way");
    let evicted = incidents.take_evicted() as usize;
    assert!(evicted > 0 && evicted <= INCIDENTS_MAX / 8, "{evicted}");
    assert_eq!(incidents.open.len(), INCIDENTS_MAX + 1 - evicted);
    assert_eq!(incidents.per_origin_rule.len(), incidents.open.len());
}

#[test]
fn a_late_verdict_raises_with_the_same_id_and_counts_nothing() {
    let mut incidents = Incidents::new("boot");
    let pending = Arc::new(act_with(connect("192.0.2.1", 443), |_, model| model.verdict = Verdict::Pending));
    let first = incidents.see(sighting(&pending, Medium), 0).remove(0);
    let bad = Arc::new(Model { verdict: Verdict::Malicious, ..model(1) });
    let involved = incidents.learn(&bad);
    assert_eq!(involved.len(), 1);
    assert_eq!(involved[0].1.artifacts[0].model.verdict, Verdict::Malicious);
    let line = incidents.raise(sighting(&involved[0].1, Critical), 1).remove(0);
    assert_eq!((line.incident_id, line.update, line.count), (first.incident_id, true, 1));
    assert_eq!(line.severity, Critical);
    assert_ne!(line.id, first.id);
    // Said once.
    assert!(incidents.raise(sighting(&involved[0].1, Critical), 2).is_empty());
    assert!(incidents.learn(&Arc::new(model(99))).is_empty());
}

#[test]
fn the_act_that_is_judged_again_is_the_most_telling_of_its_file() {
    let mut incidents = Incidents::new("boot");
    let with = |in_window, since_ns| {
        Arc::new(act_with(connect("192.0.2.1", 443), |artifact, _| {
            artifact.in_window = in_window;
            artifact.since_ns = since_ns;
        }))
    };
    for act in [with(false, 50), with(true, 5), with(true, 9), with(false, 1)] {
        incidents.see(sighting(&act, Low), 0);
    }
    let (_, act) = incidents.learn(&Arc::new(Model { verdict: Verdict::Malicious, ..model(1) })).remove(0);
    assert_eq!((act.artifacts[0].in_window, act.artifacts[0].since_ns), (true, 5));
}

#[test]
fn every_file_of_an_act_can_be_judged_again() {
    let mut incidents = Incidents::new("boot");
    let mut act = act(connect("192.0.2.1", 443));
    act.artifacts.push(artifact(2));
    incidents.see(sighting(&Arc::new(act), Low), 0);
    for ino in [1, 2] {
        assert_eq!(incidents.learn(&Arc::new(Model { verdict: Verdict::Malicious, ..model(ino) })).len(), 1);
    }
}
