//! The shipped rules over acts: which rule speaks, how loud, and for which file.

use super::testing::{act, act_with, artifact, connect, destination, exec, key, process, send};
use super::*;
use crate::event::Severity::{Critical, High, Info, Low, Medium};
use crate::event::{ContentClass, Lineage, Model, Verdict};

fn policy() -> Policy {
    with_files(&[])
}

fn with_files(more: &[(&str, &str)]) -> Policy {
    try_with_files(more).unwrap()
}

fn try_with_files(more: &[(&str, &str)]) -> Result<Policy, PolicyError> {
    let files: Vec<(String, String)> =
        EMBEDDED.iter().chain(more).map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    let network = Network {
        cluster: vec!["10.96.0.0/12".parse().unwrap()],
        resolvers: vec!["10.96.0.10".parse().unwrap(), "8.8.8.8".parse().unwrap(), "169.254.169.254".parse().unwrap()],
        hosts: Vec::new(),
    };
    Policy::from_files(&files, network)
}

fn judged(act: &Act) -> Vec<(String, Severity)> {
    policy().judge(act).into_iter().map(|judgement| (judgement.rule.id.clone(), judgement.severity)).collect()
}

fn one(act: &Act) -> (String, Severity) {
    let judged = judged(act);
    assert_eq!(judged.len(), 1, "{judged:?}");
    judged.into_iter().next().unwrap()
}

fn expect(act: &Act, rule: &str, severity: Severity) {
    assert_eq!(one(act), (rule.to_owned(), severity));
}

fn in_window(kind: ActKind, verdict: Verdict) -> Act {
    act_with(kind, |artifact, model| {
        artifact.in_window = true;
        model.verdict = verdict;
    })
}

#[test]
fn the_embedded_set_is_whole() {
    let ids: Vec<String> = policy().rules().iter().map(|rule| rule.id.clone()).collect();
    assert_eq!(
        ids,
        [
            "bytes-after-load",
            "credential-read-after-load",
            "token-read-after-load",
            "persistence-after-load",
            "process-memory-after-load",
            "loss",
            "malicious-model-opened",
            "suspicious-model-opened",
            "egress-after-load",
            "metadata-after-load",
            "dns-after-load",
            "listener-after-load",
            "accept-after-load",
            "unix-after-load",
            "shell-after-load",
            "interpreter-after-load",
            "memory-program-after-load",
            "program-after-load",
            "ptrace-after-load",
            "kernel-code-after-load",
            "mount-after-load",
            "privilege-after-load",
            "namespace-after-load",
        ]
    );
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../rules");
    assert_eq!(rule::read_folder(&folder).unwrap().len(), EMBEDDED.len(), "a rule file isn't embedded");
    assert!(policy().notices(0).is_empty());
}

#[test]
fn every_kind_of_program_has_its_rule() {
    expect(&in_window(exec("/usr/bin/dash", &["sh", "-c", "id"]), Verdict::Malicious), "shell-after-load", Critical);
    expect(&in_window(exec("/usr/bin/perl", &["perl", "-e", "1"]), Verdict::Clean), "interpreter-after-load", High);
    expect(&in_window(exec("/usr/bin/id", &["id"]), Verdict::Suspicious), "program-after-load", Critical);
    expect(&in_window(exec("/usr/sbin/ldconfig", &["ldconfig", "-p"]), Verdict::Clean), "program-after-load", Info);
    expect(
        &in_window(exec("/usr/sbin/ldconfig", &["ldconfig", "-p"]), Verdict::Malicious),
        "program-after-load",
        Critical,
    );
}

#[test]
fn every_destination_has_its_rule() {
    let cases = [
        (connect("192.0.2.1", 443), "egress-after-load", High),
        (send("2001:db8::1", 53), "egress-after-load", High),
        (connect("192.168.1.1", 443), "egress-after-load", Medium),
        (connect("10.96.0.1", 443), "egress-after-load", Low),
        (connect("127.0.0.1", 443), "egress-after-load", Low),
        (connect("169.254.1.1", 443), "egress-after-load", Low),
        (connect("169.254.169.254", 80), "metadata-after-load", Critical),
        (connect("::ffff:169.254.169.254", 80), "metadata-after-load", Critical),
        (send("fd00:ec2::254", 80), "metadata-after-load", Critical),
    ];
    for (kind, rule, severity) in cases {
        expect(&in_window(kind, Verdict::Clean), rule, severity);
    }
}

#[test]
fn a_datagram_to_the_resolver_is_dns_and_info_but_for_a_bad_file() {
    for (verdict, severity) in [(Verdict::Clean, Info), (Verdict::Pending, Info), (Verdict::Suspicious, Critical)] {
        let act = in_window(send("8.8.8.8", 53), verdict);
        assert_eq!(policy().sight(&act).kind, EventKind::Dns);
        expect(&act, "dns-after-load", severity);
    }
    // Some clouds resolve at the metadata address; its other ports are what they are.
    expect(&in_window(send("169.254.169.254", 53), Verdict::Clean), "dns-after-load", Info);
    expect(&in_window(connect("169.254.169.254", 53), Verdict::Clean), "metadata-after-load", Critical);
    // Another port, another address, a stream: not a question to the resolver.
    for kind in [send("8.8.8.8", 54), send("8.8.4.4", 53), connect("8.8.8.8", 53)] {
        expect(&in_window(kind, Verdict::Clean), "egress-after-load", High);
    }
}

#[test]
fn doors_and_sockets_of_the_host_are_quiet_but_for_a_bad_file() {
    let at = destination("0.0.0.0", 4444, Proto::Tcp);
    let peer = "203.0.113.9:50000".parse().unwrap();
    let unix = |path: &str| ActKind::Unix { path: path.into() };
    let cases = [
        (ActKind::Bind(at.clone()), "listener-after-load", Low),
        (ActKind::Accept { at, peer }, "accept-after-load", Low),
        (unix("/run/nscd/socket"), "unix-after-load", Low),
        (unix("/var/run/docker.sock"), "unix-after-load", High),
        (unix("@/tmp/dbus-Xyz"), "unix-after-load", High),
    ];
    for (kind, rule, clean) in cases {
        expect(&in_window(kind.clone(), Verdict::Clean), rule, clean);
        expect(&in_window(kind, Verdict::Malicious), rule, Critical);
    }
}

#[test]
fn bytes_are_told_where_they_go_and_a_little_of_a_clean_file_is_not() {
    let carried = |bytes, accepted| {
        let to = destination("192.0.2.1", 443, Proto::Tcp);
        ActKind::Egress { to, bytes, more: bytes, accepted }
    };
    let left = |bytes| carried(bytes, false);
    expect(&in_window(left(EGRESS_BYTES_MIN), Verdict::Clean), "bytes-after-load", High);
    assert!(judged(&in_window(left(EGRESS_BYTES_MIN - 1), Verdict::Clean)).is_empty());
    expect(&in_window(left(1), Verdict::Suspicious), "bytes-after-load", Critical);
    // A server answers those who ask it.
    expect(&in_window(carried(EGRESS_BYTES_MIN, true), Verdict::Clean), "bytes-after-load", Low);
    expect(&in_window(carried(1, true), Verdict::Malicious), "bytes-after-load", Critical);
}

#[test]
fn the_name_that_a_resolver_is_asked_for_lowers_nothing() {
    let mut to = destination("203.0.113.53", 53, Proto::Udp);
    to.domain = Some("huggingface.co".into());
    expect(&in_window(ActKind::Send(to), Verdict::Clean), "egress-after-load", High);
}

#[test]
fn a_udp_connect_sends_nothing_and_no_rule_speaks() {
    let act = in_window(ActKind::Connect(destination("192.0.2.1", 443, Proto::Udp)), Verdict::Malicious);
    assert!(policy().sight(&act).timeline_only);
    assert!(judged(&act).is_empty());
}

#[test]
fn a_known_name_makes_a_clean_files_connect_quieter_and_no_other() {
    let named = |verdict| {
        let mut to = destination("192.0.2.1", 443, Proto::Tcp);
        to.domain = Some("cdn-lfs.huggingface.co".into());
        in_window(ActKind::Connect(to), verdict)
    };
    expect(&named(Verdict::Clean), "egress-after-load", Medium);
    expect(&named(Verdict::Suspicious), "egress-after-load", Critical);
}

#[test]
fn the_open_is_loud_by_what_the_scan_found() {
    let open = |verdict| judged(&act_with(ActKind::ModelOpen, |_, model| model.verdict = verdict));
    assert_eq!(open(Verdict::Malicious), [("malicious-model-opened".to_owned(), High)]);
    assert_eq!(open(Verdict::Suspicious), [("suspicious-model-opened".to_owned(), Low)]);
    assert_eq!(open(Verdict::Unscannable), [("suspicious-model-opened".to_owned(), Low)]);
    for quiet in [Verdict::Clean, Verdict::Pending, Verdict::NotRead] {
        assert!(open(quiet).is_empty());
    }
}

#[test]
fn an_open_is_about_the_file_that_was_opened_and_no_earlier_one() {
    let mut act = act_with(ActKind::ModelOpen, |_, model| model.verdict = Verdict::Malicious);
    let mut later = artifact(2);
    later.opened_boottime_ns = 2_000;
    act.artifacts.push(later);
    assert!(judged(&act).is_empty());
}

#[test]
fn readers_are_info_whatever_they_read() {
    let reader = |kind| Act { role: Role::Reader, ..in_window(kind, Verdict::Malicious) };
    expect(&reader(ActKind::ModelOpen), "malicious-model-opened", Info);
    expect(&reader(connect("192.0.2.1", 443)), "egress-after-load", Info);
    expect(&reader(exec("/bin/sh", &["sh"])), "shell-after-load", Info);
}

#[test]
fn of_several_files_the_loudest_decides_of_equals_the_latest() {
    let model = |ino, verdict| Arc::new(Model { verdict, ..testing::model(ino) });
    let load = |ino, verdict, opened| {
        let mut artifact = artifact(ino);
        artifact.in_window = true;
        artifact.opened_boottime_ns = opened;
        artifact.model = model(ino, verdict);
        artifact
    };
    let decides = |artifacts: Vec<Artifact>| {
        let act = Act { artifacts, ..act(connect("192.0.2.1", 443)) };
        let judgement = policy().judge(&act).remove(0);
        (act.artifacts[judgement.decides].model.inode.ino, judgement.severity)
    };
    let (clean, bad) = (Verdict::Clean, Verdict::Malicious);
    assert_eq!(decides(vec![load(1, bad, 1), load(2, clean, 2)]), (1, Critical));
    assert_eq!(decides(vec![load(1, clean, 1), load(2, bad, 2)]), (2, Critical));
    assert_eq!(decides(vec![load(1, bad, 1), load(2, bad, 2)]), (2, Critical));
    assert_eq!(decides(vec![load(1, bad, 2), load(2, bad, 1)]), (1, Critical));
    // A malicious file of an hour ago is high, a suspicious one in its window critical.
    let mut old = load(1, bad, 1);
    old.in_window = false;
    assert_eq!(decides(vec![old, load(2, Verdict::Suspicious, 2)]), (2, Critical));
}

/// KERNEL.md: what `import torch`, `torch.compile`, DataLoader, transformers, vLLM, NCCL do after a load.
#[test]
fn what_ordinary_workloads_do_after_a_load_stays_below_medium() {
    let python = "/opt/venv/bin/python3.11";
    let programs: &[(&str, &[&str], &str)] = &[
        ("/usr/sbin/ldconfig", &["/sbin/ldconfig", "-p"], python),
        ("/usr/bin/dash", &["/bin/sh", "-c", "uname -p 2> /dev/null"], python),
        ("/usr/bin/uname", &["uname", "-p"], "/usr/bin/dash"),
        ("/usr/bin/x86_64-linux-gnu-g++-12", &["g++", "main.cpp", "-o", "main.so", "-shared", "-fPIC"], python),
        ("/usr/lib/gcc/x86_64-linux-gnu/12/cc1plus", &["cc1plus", "main.cpp"], "/usr/bin/x86_64-linux-gnu-g++-12"),
        ("/usr/bin/x86_64-linux-gnu-as", &["as", "-o", "m.o", "m.s"], "/usr/bin/x86_64-linux-gnu-g++-12"),
        (python, &["python", "-c", "from multiprocessing.resource_tracker import main;main(9)"], python),
    ];
    for verdict in [Verdict::Clean, Verdict::Pending, Verdict::NotRead] {
        for (exe, argv, parent) in programs {
            for (in_window, since_ns) in [(true, 0), (false, 0), (false, u64::MAX)] {
                let mut act = act_with(exec(exe, argv), |artifact, model| {
                    artifact.in_window = in_window;
                    artifact.since_ns = since_ns;
                    model.verdict = verdict;
                });
                act.lineage = Arc::new(Lineage {
                    process: process(5, exe, argv),
                    ancestors: vec![process(1, parent, &["x"])],
                    cgroup_id: 1,
                });
                assert!(one(&act).1 < Medium, "{exe} {argv:?}");
            }
        }
    }
    // Inside the cluster: NCCL, TCPStore, Ray, MPI, OTLP; on the host: nscd, Prometheus.
    for kind in [connect("10.96.3.4", 29500), connect("127.0.0.1", 8265), send("10.96.0.10", 53)] {
        assert!(one(&in_window(kind, Verdict::Clean)).1 < Medium);
    }
    // The hub and usage statistics, once the window is over for an hour, or from a file that is data.
    assert!(one(&act(connect("192.0.2.1", 443))).1 < Medium);
    let data = act_with(connect("192.0.2.1", 443), |artifact, model| {
        artifact.in_window = true;
        model.class = ContentClass::Data;
    });
    assert!(one(&data).1 < Medium);
}

#[test]
fn a_rule_may_say_otherwise_than_the_table() {
    let rules = "rules:\n  - {id: loud, name: L, what: [connect], nominal: low, severity: {fixed: critical}}\n  \
                 - {id: quiet, name: Q, what: [connect], nominal: low, severity: {step: -2}}\n";
    let act = in_window(connect("192.0.2.1", 443), Verdict::Clean);
    let judged: Vec<(String, Severity)> = with_files(&[("mine.yaml", rules)])
        .judge(&act)
        .into_iter()
        .map(|judgement| (judgement.rule.id.clone(), judgement.severity))
        .collect();
    assert_eq!(
        judged,
        [("egress-after-load".to_owned(), High), ("loud".to_owned(), Critical), ("quiet".to_owned(), Low)]
    );
}

#[test]
fn an_exception_excuses_one_file_and_not_the_others() {
    let exceptions = "exceptions:\n  - {rules: [egress-after-load], path: /models/1.pt, destination: {port: 443}, \
                      reason: telemetry, expires: 2027-06-30}\n";
    let policy = with_files(&[("mine.yaml", exceptions)]);
    let mut act = in_window(connect("192.0.2.1", 443), Verdict::Clean);
    assert!(policy.judge(&act).is_empty());
    let mut other = artifact(2);
    other.opener = key(9);
    act.artifacts.push(other);
    let judgement = policy.judge(&act).remove(0);
    assert_eq!((judgement.decides, judgement.severity), (1, Info));
    // Another port, another rule.
    assert_eq!(policy.judge(&in_window(connect("192.0.2.1", 80), Verdict::Clean)).len(), 1);
    assert_eq!(policy.judge(&in_window(connect("169.254.169.254", 443), Verdict::Clean)).len(), 1);
}

#[test]
fn an_exception_that_is_over_is_reported_and_one_that_cannot_work_too() {
    let exceptions = "exceptions:\n  - {rules: [loss], exe: /x, reason: old, expires: 2020-01-31}\n  \
                      - {rules: [loss], image: a, reason: pod, expires: 2999-01-01}\n  \
                      - {rules: [loss], exe: /y, reason: fine, expires: 2999-01-01}\n";
    let notices = with_files(&[("mine.yaml", exceptions)]).notices(1_790_000_000_000_000_000);
    assert_eq!(notices.len(), 2);
    assert!(notices[0].message.contains("expired on 2020-01-31") && notices[0].message.contains("old"));
    assert!(notices[1].message.contains("images") && notices[1].rule == "loss");
}

#[test]
fn a_set_that_contradicts_itself_is_refused() {
    let twice = "rules:\n  - {id: loss, name: L, what: [loss], nominal: low}\n";
    let error = try_with_files(&[("mine.yaml", twice)]).unwrap_err().to_string();
    assert!(error.contains("mine.yaml") && error.contains("loss.yaml"), "{error}");
    let nobody = "exceptions:\n  - {rules: [no-such], exe: /x, reason: r, expires: 2999-01-01}\n";
    let error = try_with_files(&[("mine.yaml", nobody)]).unwrap_err().to_string();
    assert!(error.contains("mine.yaml") && error.contains("no-such"), "{error}");
}

#[test]
fn a_rule_that_names_a_kind_twice_speaks_once() {
    let rule = "rules:\n  - {id: mine, name: M, what: [exec, connect, send, connect, connect], nominal: low}\n";
    let judged = with_files(&[("mine.yaml", rule)]).judge(&act(connect("203.0.113.9", 443)));
    assert_eq!(judged.iter().filter(|judgement| judgement.rule.id == "mine").count(), 1);
}

#[test]
fn loss_is_medium_but_of_files_that_nobody_acted_on() {
    let medium = ["ring_full", "scan_queue_full"].map(|reason| (reason, Medium));
    let low = ["candidate_rate", "unknown_name_rate", "open_unjudged"].map(|reason| (reason, Low));
    let losses = medium.into_iter().chain(low);
    for (reason, severity) in losses {
        let judged = policy().judge_loss(reason);
        assert_eq!(judged.len(), 1);
        assert_eq!((judged[0].0.id.as_str(), judged[0].1), ("loss", severity));
    }
}

#[test]
fn the_example_in_the_documentation_is_valid() {
    let text = include_str!("../../../rules/README.md");
    let example = text.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let policy = with_files(&[("README.md", example)]);
    assert!(policy.rules().iter().any(|rule| rule.id == "model-talks-to-pastebin"));
    assert!(policy.notices(1_790_000_000_000_000_000).is_empty());
}
