//! What a person sees.

use std::sync::Arc;

use super::*;
use crate::alert::Host;
use crate::event::{Act, Lineage, Loss, Model, ModelFinding};
use crate::judge::Judge;
use crate::policy::Policy;
use crate::policy::destination::Network;
use crate::policy::testing::{act_with, connect, exec, process};

fn judge() -> Judge {
    let host = Host { name: "node-1".into(), boot_id: "b".into(), kernel: "6.12.0".into() };
    Judge::new(Arc::new(Policy::load(&[], Network::default()).unwrap()), host)
}

fn bad(model: &mut Model) {
    model.verdict = Verdict::Malicious;
    model.size = 1_300_000;
    model.findings = (1..8)
        .map(|i| ModelFinding {
            id: format!("SNS-10{i}"),
            severity: "critical".into(),
            title: "calls os.system".into(),
        })
        .collect();
}

fn shell() -> Act {
    let mut act = act_with(exec("/usr/bin/dash", &["sh", "-c", "id; curl x"]), |artifact, model| {
        artifact.in_window = true;
        artifact.basis = Some(Basis::Held);
        bad(model);
    });
    act.lineage = Arc::new(Lineage {
        process: process(5, "/usr/bin/dash", &["sh", "-c", "id; curl x"]),
        ancestors: vec![
            process(1, "/usr/bin/python3.11", &["python3", "load.py"]),
            process(2, "/usr/bin/bash", &["bash"]),
        ],
        cgroup_id: 1,
    });
    act
}

#[test]
fn an_alert_reads_from_what_happened_to_the_details() {
    let alerts = judge().act(shell(), 0);
    let shown = render(&alerts[0], false);
    let expected = "\
CRITICAL  /usr/bin/dash -c 'id; curl x' was started (pid 5) during the load of /models/1.pt (malicious)
  rule      A shell was started after a model was loaded (shell-after-load)
  when      2026-09-21T14:13:20.123456789Z
  process   /usr/bin/dash -c 'id; curl x' (pid 5)  uid 1000
            └ started by /usr/bin/python3.11 load.py (pid 1)
              └ started by /usr/bin/bash (pid 2)
  model     /models/1.pt
            malicious, torch-zip, 1.2 MiB, inode 1 on 8:1
            critical SNS-101 calls os.system
            critical SNS-102 calls os.system
            critical SNS-103 calls os.system
            critical SNS-104 calls os.system
            critical SNS-105 calls os.system
            and 2 more: sensor scan /models/1.pt
  timeline         +0 ms  pid 1  opened /models/1.pt (malicious)
                  +13 ms  pid 5  started /usr/bin/dash -c 'id; curl x'
";
    let (body, incident) = shown.split_at(shown.find("  incident ").unwrap());
    assert_eq!(body, expected);
    assert!(incident.ends_with(" on node-1  T1204.002 T1059.004 AML.T0011.000 AML.T0050\n\n"), "{incident}");
}

#[test]
fn colour_is_only_there_when_it_is_wanted() {
    let alerts = judge().act(shell(), 0);
    assert!(!render(&alerts[0], false).contains('\x1b'));
    let coloured = render(&alerts[0], true);
    assert!(coloured.starts_with("\x1b[1;97;41mCRITICAL\x1b[0m"));
    let mut plain = coloured;
    for code in ["\x1b[1;97;41m", "\x1b[2m", "\x1b[0m"] {
        plain = plain.replace(code, "");
    }
    assert_eq!(plain, render(&alerts[0], false));
}

#[test]
fn the_other_kinds_have_their_sentence() {
    let first_line = |act: Act| render(&judge().act(act, 0)[0], false).lines().next().unwrap().to_owned();
    let open = act_with(crate::event::ActKind::ModelOpen, |_, model| bad(model));
    assert_eq!(first_line(open), "HIGH  python3.11 (pid 1) opened /models/1.pt (malicious)");
    let connect = act_with(connect("2001:db8::1", 443), |artifact, _| artifact.since_ns = 1);
    assert_eq!(
        first_line(connect),
        "MEDIUM  python3.11 (pid 1) connected to [2001:db8::1]:443 (tcp) after the load of /models/1.pt (clean)"
    );
    let loss = Loss { time_unix_ns: 0, reason: "ring_full", cgroup: None, count: 3 };
    let shown = render(&judge().loss(loss, 0)[0], false);
    assert!(
        shown.starts_with("MEDIUM  the sensor lost something: ring_full, 3 times; what happened there was not seen\n")
    );
    assert!(!shown.contains("process") && !shown.contains("model  "));
}

#[test]
fn a_long_command_line_is_cut_for_the_eye() {
    let argv = Argv { argv: vec!["x".into(), "é".repeat(1000)], argv_b64: None, argv_truncated: None };
    let shown = command("/bin/x", None, &argv);
    assert_eq!(shown.chars().count(), COMMAND_CHARS_MAX + 1);
    assert!(shown.ends_with('…'));
}

#[test]
fn a_long_line_of_ancestors_is_cut_for_the_eye() {
    let mut act = shell();
    let ancestors = (10..20).map(|pid| process(pid, "/usr/bin/bash", &["bash"])).collect();
    act.lineage = Arc::new(Lineage { ancestors, ..(*act.lineage).clone() });
    let shown = render(&judge().act(act, 0)[0], false);
    assert_eq!(shown.matches("started by").count(), ANCESTORS_SHOWN_MAX);
    assert!(shown.contains("└ and 4 more\n"), "{shown}");
}

#[test]
fn sizes_are_readable() {
    let cases = [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1 << 30, "1.0 GiB"),
        (u64::MAX, "16777215.9 TiB"),
    ];
    for (bytes, shown) in cases {
        assert_eq!(size(bytes), shown);
    }
}
