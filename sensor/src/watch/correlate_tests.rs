//! Tests of the correlator, without a kernel: acts and verdicts in every order.

use super::super::record::LoadArtifact;
use super::known::DESTROYED_NS_MAX;
use super::*;
use crate::event::{Destroyed, Lineage, ModelFinding, Process, TaskKey};

const MODEL: InodeKey = InodeKey { dev: 1, generation: 0, ino: 7 };
const TASK: TaskKey = TaskKey { tgid: 50, start_boottime_ns: 5 };
const STAMP: ContentStamp = ContentStamp { size: 100, ctime_s: 1, ctime_ns: 2, reserved: 0 };
const WAIT: u64 = 500;

fn header(time_ns: u64) -> Header {
    Header { tid: 50, time_ns, task: TASK, parent: TaskKey { tgid: 1, start_boottime_ns: 0 }, cgroup: 1, uid: 0 }
}

fn open() -> Open {
    Open {
        header: header(10),
        inode: MODEL,
        stamp: STAMP,
        path: b"/srv/models--acme--net/blobs/x.pt".to_vec(),
        exe: MODEL,
        fd: Some(3),
        writers: 0,
        fs_magic: 0,
        named: true,
        found: false,
        role: role::UNDECIDED,
        is_quiet: false,
        comm: [0; 16],
    }
}

fn act(time_ns: u64) -> Pending {
    let artifact = LoadArtifact {
        inode: MODEL,
        stamp: STAMP,
        opener: TASK,
        opened_ns: 10,
        named: true,
        held_ns: 15,
        born: false,
        held: true,
        cut: false,
        bystander: false,
    };
    let load = Load { exe: MODEL, role: role::LOADER, artifacts: vec![artifact], omitted: 0 };
    let process = Process { key: TASK, start_unix_ns: 0, exe: vec![], argv: vec![], argv_truncated: false, uid: None };
    let who = Arc::new(Lineage { process, ancestors: vec![], cgroup_id: 1 });
    Pending { header: header(time_ns), kind: ActKind::ModelOpen, load, repeats: Repeats::once(time_ns), who }
}

fn judged(verdict: Verdict) -> Word {
    Word::Judged {
        class: ContentClass::Code,
        format: Some("pickle".into()),
        verdict,
        findings: vec![],
        all_globals_safe: false,
        sha256: None,
        is_another: false,
    }
}

/// The file has to be looked at, at once.
fn now(wanted: Option<Wanted>) -> Look {
    match wanted {
        Some(Wanted::Now(look)) => look,
        other => panic!("{other:?}"),
    }
}

/// These have to be looked at first.
fn urgent(wanted: Vec<Wanted>) -> Vec<Look> {
    let look = |wanted| match wanted {
        Wanted::Urgent(look) => look,
        other => panic!("{other:?}"),
    };
    wanted.into_iter().map(look).collect()
}

/// The file has to be looked at, and has time.
fn sometime(wanted: Option<Wanted>) -> Put {
    match wanted {
        Some(Wanted::Sometime(put)) => put,
        other => panic!("{other:?}"),
    }
}

fn connects(time_ns: u64) -> Pending {
    Pending { kind: ActKind::Unix { path: b"@x".to_vec() }, ..act(time_ns) }
}

#[test]
fn what_was_there_before_has_time_and_its_open_with_it() {
    let mut correlator = Correlator::new(WAIT);
    let put = sometime(correlator.opened(&Open { found: true, ..open() }));
    assert!(correlator.acted(act(10), 10).is_empty());
    assert_eq!(correlator.opened(&Open { found: true, ..open() }), None, "another process has it, too");
    let other = TaskKey { tgid: 51, ..TASK };
    assert!(correlator.acted(Pending { header: Header { task: other, ..header(10) }, ..act(10) }, 10).is_empty());
    assert!(correlator.acted(act(10), 10).is_empty(), "the same again is counted");
    assert!(correlator.due(10 + 2 * WAIT, |_| true).is_empty(), "nobody was asked yet");
    let look = correlator.take(&put, 2_000).expect("nobody asked meanwhile");
    assert_eq!((look.fd, look.cacheable), (Some(3), true));
    assert_eq!(correlator.take(&put, 2_000), None, "once is enough");
    assert!(correlator.due(2_000, |_| true).is_empty());
    correlator.looked(MODEL, STAMP, judged(Verdict::Malicious));
    let ready = correlator.due(2_001, |_| true);
    assert_eq!(ready.iter().map(|ready| ready.repeats.times).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(ready[0].artifacts[0].model.verdict, Verdict::Malicious);
    assert_eq!(correlator.sums.acts_before_verdict, 0);
}

#[test]
fn whoever_acts_or_opens_it_again_ends_the_time_of_what_was_there_before() {
    let found = Open { found: true, ..open() };
    let mut correlator = Correlator::new(WAIT);
    let put = sometime(correlator.opened(&found));
    correlator.acted(act(10), 10);
    let looks = urgent(correlator.acted(connects(20), 20));
    assert_eq!((looks.len(), looks[0].path == found.path, looks[0].cacheable), (1, true, true));
    assert!(correlator.acted(connects(21), 21).is_empty(), "once is enough");
    assert_eq!(correlator.take(&put, 22), None);
    assert_eq!(correlator.due(20 + WAIT, |_| true).len(), 2, "the open and the first act");

    let mut correlator = Correlator::new(WAIT);
    let put = sometime(correlator.opened(&found));
    let again = Open { fd: Some(9), ..open() };
    assert_eq!(now(correlator.opened(&again)).fd, Some(9));
    assert_eq!(correlator.take(&put, 22), None);
}

#[test]
fn a_look_that_found_no_place_has_time() {
    let mut correlator = Correlator::new(WAIT);
    let look = now(correlator.opened(&Open { named: false, ..open() }));
    correlator.acted(act(10), 10);
    let put = sometime(correlator.put_off(look.clone()));
    assert!(correlator.due(10 + 2 * WAIT, |_| true).is_empty(), "its open waits with it");
    assert_eq!(correlator.take(&put, 2_000), Some(look));
    correlator.looked(MODEL, STAMP, judged(Verdict::Malicious));
    assert_eq!(correlator.due(2_001, |_| true)[0].artifacts[0].model.verdict, Verdict::Malicious);
    assert_eq!(correlator.sums.acts_before_verdict, 0);
}

#[test]
fn what_has_a_place_to_wait_keeps_it_when_it_is_opened_again() {
    let mut correlator = Correlator::new(WAIT);
    let look = now(correlator.opened(&open()));
    let put = sometime(correlator.put_off(look));
    assert_eq!(correlator.opened(&Open { fd: Some(8), ..open() }), None);
    assert_eq!(correlator.take(&put, 20).and_then(|look| look.fd), Some(8), "it is asked of who has it now");
    let look = now(correlator.opened(&Open { writers: 1, inode: InodeKey { ino: 8, ..MODEL }, ..open() }));
    let put = sometime(correlator.put_off(look));
    correlator.dropped(&put);
    correlator.dropped(&put);
    assert_eq!(correlator.missed, Missed { opened: 1, others: 1, acted: 0 }, "it claims to be looked at once");
    assert!(correlator.opened(&Open { inode: put.inode, ..open() }).is_some(), "without a place it is asked for again");
}

#[test]
fn what_is_in_memory_alone_has_no_time() {
    let mut correlator = Correlator::new(WAIT);
    let wanted = correlator.opened(&Open { path: b"/memfd:x".to_vec(), named: false, ..open() });
    let Some(Wanted::Urgent(look)) = wanted else { panic!("{wanted:?}") };
    assert_eq!(correlator.put_off(look.clone()), Some(Wanted::Urgent(look)));
}

#[test]
fn what_was_put_off_is_asked_for_at_once_where_somebody_acts_and_then_has_no_time() {
    let mut correlator = Correlator::new(WAIT);
    let look = now(correlator.opened(&open()));
    correlator.acted(act(10), 10);
    let put = sometime(correlator.put_off(look.clone()));
    assert_eq!(urgent(correlator.acted(connects(20), 20)), std::slice::from_ref(&look));
    assert_eq!(correlator.take(&put, 21), None);
    assert_eq!(correlator.put_off(look.clone()), Some(Wanted::Urgent(look)), "somebody waits for it");
    assert!(correlator.due(21, |_| true).is_empty());
    correlator.looked(MODEL, STAMP, judged(Verdict::Malicious));
    let kinds: Vec<ActKind> = correlator.due(22, |_| true).into_iter().map(|ready| ready.kind).collect();
    assert_eq!(kinds, [ActKind::ModelOpen, connects(20).kind]);
}

#[test]
fn what_waits_for_the_scanner_is_hurried_once_where_somebody_acts() {
    let mut correlator = Correlator::new(WAIT);
    correlator.opened(&open());
    assert!(correlator.acted(act(10), 10).is_empty(), "an open is no act");
    let sooner = Wanted::Sooner(Put { inode: MODEL, stamp: STAMP, turn: 1 });
    assert_eq!(correlator.acted(connects(20), 20), [sooner]);
    assert!(correlator.acted(connects(21), 21).is_empty() && correlator.is_awaited((MODEL, STAMP)));
    correlator.looked(MODEL, STAMP, judged(Verdict::Clean));
    assert!(!correlator.is_awaited((MODEL, STAMP)));
    assert!(correlator.acted(connects(22), 22).is_empty(), "nobody looks at it any more");
}

#[test]
fn the_word_of_an_earlier_look_ends_the_time_of_what_was_put_off() {
    let mut correlator = Correlator::new(WAIT);
    let look = now(correlator.opened(&open()));
    let put = sometime(correlator.put_off(look));
    correlator.acted(act(10), 10);
    correlator.looked(MODEL, STAMP, judged(Verdict::Malicious));
    assert!(!correlator.waits(&put));
    assert_eq!(correlator.due(11, |_| true)[0].artifacts[0].model.verdict, Verdict::Malicious);
}

#[test]
fn what_is_known_of_a_files_kind_counts_also_when_the_rest_is_put_off() {
    let mut correlator = Correlator::new(WAIT);
    let look = now(correlator.opened(&open()));
    correlator.looked(MODEL, STAMP, Word::Sniffed { class: ContentClass::Code, format: Some("pickle".into()) });
    correlator.put_off(look);
    correlator.acted(connects(20), 20);
    let ready = correlator.due(20 + WAIT, |_| true);
    assert_eq!(ready[0].artifacts[0].model.class, ContentClass::Code, "no name, but its content says so");
}

#[test]
fn a_data_set_makes_nothing_forgotten_that_matters() {
    let mut correlator = Correlator::new(WAIT);
    let data = Word::Judged {
        class: ContentClass::Data,
        format: Some("npy".into()),
        verdict: Verdict::Clean,
        findings: vec![],
        all_globals_safe: true,
        sha256: None,
        is_another: false,
    };
    correlator.opened(&open());
    correlator.looked(MODEL, STAMP, judged(Verdict::Malicious));
    for ino in 1_000..1_000 + 3 * MODELS_MAX as u64 {
        let array = Open { inode: InodeKey { ino, ..MODEL }, ..open() };
        assert!(correlator.opened(&array).is_some());
        correlator.looked(array.inode, STAMP, data.clone());
    }
    assert_eq!(correlator.models_len(), MODELS_MAX);
    assert_eq!(correlator.known(MODEL, STAMP).map(|known| known.verdict), Some(Verdict::Malicious));
    assert_eq!(correlator.models_order.len(), MODELS_MAX);
    assert_eq!(correlator.missed, Missed::default());
}

/// Opens so many files that nobody looks at: they wait.
fn open_many(correlator: &mut Correlator, files: u64) {
    for ino in 1_000..1_000 + files {
        let array = Open { inode: InodeKey { ino, ..MODEL }, ..open() };
        let look = now(correlator.opened(&array));
        assert!(matches!(correlator.put_off(look), Some(Wanted::Sometime(_))));
    }
}

#[test]
fn what_an_act_waits_for_outlives_opens_that_nobody_looks_at_and_these_are_counted() {
    let mut correlator = Correlator::new(WAIT);
    correlator.opened(&open());
    correlator.acted(connects(20), 20);
    let read = Open { inode: InodeKey { ino: 8, ..MODEL }, ..open() };
    let look = now(correlator.opened(&read));
    let put = sometime(correlator.put_off(look));
    assert!(correlator.take(&put, 20).is_some());
    open_many(&mut correlator, 3 * MODELS_MAX as u64);
    assert_eq!(correlator.missed, Missed { opened: 2 * MODELS_MAX as u64 + 2, ..Missed::default() });
    assert!(correlator.looked(read.inode, STAMP, judged(Verdict::Malicious)).is_some(), "the scanner had it");
    correlator.looked(MODEL, STAMP, judged(Verdict::Malicious));
    assert_eq!(correlator.due(21, |_| true)[0].artifacts[0].model.verdict, Verdict::Malicious);
}

#[test]
fn an_act_whose_file_is_forgotten_is_told_and_its_verdict_is_counted_as_missed() {
    let mut correlator = Correlator::new(WAIT);
    for ino in 1_000..1_001 + MODELS_MAX as u64 {
        let mut act = connects(20);
        act.load.artifacts[0].inode.ino = ino;
        assert_eq!(correlator.acted(act, 20).len(), 1);
    }
    assert_eq!(correlator.missed, Missed { acted: 1, ..Missed::default() });
    let told = correlator.flush();
    assert_eq!(told.len(), MODELS_MAX + 1);
    assert!(told.iter().all(|ready| ready.artifacts[0].model.class == ContentClass::Data));
}

#[test]
fn what_was_seen_of_a_file_counts_although_the_rest_is_gone() {
    let mut correlator = Correlator::new(WAIT);
    correlator.opened(&Open { named: false, ..open() });
    correlator.acted(connects(20), 20);
    correlator.looked(MODEL, STAMP, Word::Sniffed { class: ContentClass::Code, format: Some("pickle".into()) });
    let finding = ModelFinding { id: "SNS-903".into(), severity: "info".into(), title: "x".into() };
    correlator.looked(MODEL, STAMP, Word::NotRead { finding, is_lost: false });
    let model = &correlator.due(21, |_| true)[0].artifacts[0].model;
    assert_eq!((model.class, model.verdict), (ContentClass::Code, Verdict::NotRead));
}

#[test]
fn an_act_waits_for_the_verdict_and_leaves_with_it() {
    let mut correlator = Correlator::new(WAIT);
    let look = now(correlator.opened(&open()));
    assert_eq!(look.fd, Some(3));
    assert_eq!(correlator.opened(&open()), None, "once is enough");
    correlator.acted(act(20), 20);
    assert!(correlator.due(21, |_| true).is_empty());
    let (tell, late) = correlator.looked(MODEL, STAMP, judged(Verdict::Malicious)).unwrap();
    assert_eq!((tell.class, tell.verdict, late), (class::CODE, verdict::MALICIOUS, None));
    let ready = correlator.due(22, |_| true);
    assert_eq!(ready[0].artifacts[0].model.verdict, Verdict::Malicious);
    assert_eq!(ready[0].artifacts[0].model.repo.as_deref(), Some("acme/net"));
    assert_eq!(ready[0].artifacts[0].basis, Some(Basis::Held));
    assert_eq!(ready[0].artifacts[0].since_ns, 5);
}

#[test]
fn an_act_whose_lineage_is_asked_for_waits_too_but_not_for_ever() {
    let mut correlator = Correlator::new(WAIT);
    correlator.opened(&open());
    correlator.looked(MODEL, STAMP, judged(Verdict::Clean));
    correlator.acted(act(20), 20);
    assert!(correlator.due(21, |_| false).is_empty());
    assert_eq!(correlator.due(20 + WAIT, |_| false).len(), 1);
}

#[test]
fn a_late_verdict_follows_the_act_that_could_not_wait() {
    let mut correlator = Correlator::new(WAIT);
    correlator.opened(&open());
    correlator.looked(MODEL, STAMP, Word::Sniffed { class: ContentClass::Code, format: None });
    correlator.acted(act(20), 20);
    let ready = correlator.due(20 + WAIT, |_| true);
    assert_eq!(ready[0].artifacts[0].model.verdict, Verdict::Pending);
    assert_eq!(ready[0].artifacts[0].model.class, ContentClass::Code);
    let (_, late) = correlator.looked(MODEL, STAMP, judged(Verdict::Malicious)).unwrap();
    assert_eq!(late.unwrap().verdict, Verdict::Malicious);
    assert_eq!(correlator.sums.acts_before_verdict, 1);
}

#[test]
fn the_kind_of_a_file_follows_an_act_that_left_before_it() {
    let mut correlator = Correlator::new(WAIT);
    correlator.opened(&open());
    correlator.acted(act(20), 20);
    assert_eq!(correlator.due(20 + WAIT, |_| true)[0].artifacts[0].model.class, ContentClass::Data);
    let sniffed = Word::Sniffed { class: ContentClass::Code, format: None };
    let (_, late) = correlator.looked(MODEL, STAMP, sniffed).unwrap();
    assert_eq!(late.unwrap().class, ContentClass::Code);
    let (_, late) = correlator.looked(MODEL, STAMP, judged(Verdict::Malicious)).unwrap();
    assert_eq!(late.unwrap().verdict, Verdict::Malicious);
}

#[test]
fn what_could_not_be_read_is_tried_again_at_the_next_open() {
    let mut correlator = Correlator::new(WAIT);
    correlator.opened(&open());
    let finding = ModelFinding { id: "SNS-901".into(), severity: "info".into(), title: "x".into() };
    correlator.looked(MODEL, STAMP, Word::NotRead { finding, is_lost: false });
    assert!(correlator.opened(&open()).is_some());
}

#[test]
fn a_name_alone_makes_no_accusation() {
    let mut correlator = Correlator::new(WAIT);
    correlator.opened(&open());
    correlator.acted(act(20), 20);
    let ready = correlator.due(20 + WAIT, |_| true);
    assert_eq!(ready[0].artifacts[0].model.class, ContentClass::Data);
    assert_eq!(correlator.sums.acts_provisional, 1);
}

#[test]
fn an_act_without_a_model_is_dropped() {
    let mut correlator = Correlator::new(WAIT);
    correlator.opened(&open());
    correlator.acted(act(20), 20);
    let (tell, _) = correlator.looked(MODEL, STAMP, Word::NotModel).unwrap();
    assert_eq!(tell.class, class::NOT_MODEL);
    assert!(correlator.due(21, |_| true).is_empty());
    assert_eq!((correlator.waiting_len(), correlator.sums.acts_without_model), (0, 1));
}

#[test]
fn a_changed_file_is_another_content() {
    let mut correlator = Correlator::new(WAIT);
    correlator.opened(&open());
    correlator.acted(act(20), 20);
    let mut changed = open();
    changed.stamp.size += 1;
    assert!(correlator.opened(&changed).is_some());
    correlator.looked(MODEL, changed.stamp, Word::NotModel);
    correlator.looked(MODEL, STAMP, judged(Verdict::Malicious));
    let ready = correlator.due(21, |_| true);
    assert_eq!(ready[0].artifacts[0].model.verdict, Verdict::Malicious, "the content that was loaded decides");
}

#[test]
fn a_file_that_somebody_writes_is_looked_at_again() {
    let mut correlator = Correlator::new(WAIT);
    correlator.opened(&open());
    correlator.looked(MODEL, STAMP, judged(Verdict::Clean));
    let mut written = open();
    written.writers = sensor_abi::record::writers::MAPPED;
    assert!(!now(correlator.opened(&written)).cacheable);
}

#[test]
fn a_file_whose_open_was_not_announced_is_looked_at_when_its_loader_acts() {
    let mut correlator = Correlator::new(WAIT);
    let looks = urgent(correlator.acted(act(20), 20));
    assert_eq!((looks.len(), looks[0].inode, looks[0].opener), (1, MODEL, TASK.tgid));
    assert!(correlator.acted(act(21), 21).is_empty(), "once is enough");
    correlator.called((MODEL, STAMP), b"/home/u/model.pkl");
    correlator.called((MODEL, STAMP), b"/elsewhere");
    correlator.looked(MODEL, STAMP, judged(Verdict::Malicious));
    let ready = correlator.due(22, |_| true);
    assert_eq!(ready[0].artifacts[0].model.path, b"/home/u/model.pkl", "the look found its name, once");
}

#[test]
fn a_flood_of_acts_leaves_instead_of_growing() {
    let mut correlator = Correlator::new(WAIT);
    correlator.opened(&open());
    for _ in 0..WAITING_MAX + 10 {
        correlator.acted(act(20), 20);
    }
    assert_eq!(correlator.due(21, |_| true).len(), 10);
    assert_eq!(correlator.waiting_len(), WAITING_MAX);
}

/// The file with inode number `ino`, opened at a time of its own.
fn open_of(ino: u64) -> Open {
    let inode = InodeKey { ino, ..MODEL };
    Open { inode, header: header(ino), ..open() }
}

#[test]
fn what_a_full_set_gave_up_is_put_back_if_it_is_bad_or_not_judged() {
    let mut correlator = Correlator::new(WAIT);
    let (bad, clean, waits, last) = (101, 102, 103, 104);
    for ino in [bad, clean, waits, last] {
        now(correlator.opened(&open_of(ino)));
    }
    for (ino, verdict) in [(bad, Verdict::Malicious), (clean, Verdict::Clean), (last, Verdict::Clean)] {
        correlator.looked(InodeKey { ino, ..MODEL }, STAMP, judged(verdict));
    }
    let acts = |omitted, task: TaskKey| {
        let mut act = connects(200);
        act.header.task = task;
        act.load.omitted = omitted;
        act.load.artifacts[0].inode.ino = last;
        act
    };
    let inodes = |correlator: &mut Correlator, act| {
        correlator.acted(act, 200);
        let ready = correlator.due(200 + WAIT, |_| true);
        ready[0].artifacts.iter().map(|artifact| artifact.model.inode.ino).collect::<Vec<_>>()
    };
    assert_eq!(inodes(&mut correlator, acts(0, TASK)), [last], "it has lost nothing");
    assert_eq!(inodes(&mut correlator, acts(3, TASK)), [last, bad, waits]);
    let child = |start_boottime_ns| TaskKey { tgid: 51, start_boottime_ns };
    assert_eq!(inodes(&mut correlator, acts(3, child(102))), [last, bad], "what was opened before it was made");
    assert_eq!(inodes(&mut correlator, acts(3, child(90))), [last]);
}

#[test]
fn the_bad_one_is_remembered_however_many_follow() {
    let mut correlator = Correlator::new(WAIT);
    correlator.opened(&open_of(101));
    correlator.looked(InodeKey { ino: 101, ..MODEL }, STAMP, judged(Verdict::Malicious));
    for ino in 1_000..2_000 {
        correlator.opened(&open_of(ino));
        if ino % 2 == 0 {
            correlator.looked(InodeKey { ino, ..MODEL }, STAMP, judged(Verdict::Clean));
        }
    }
    let mut act = connects(3_000);
    act.load.omitted = 990;
    act.load.artifacts[0].inode.ino = 1_999;
    correlator.acted(act, 3_000);
    let ready = correlator.due(3_000 + WAIT, |_| true);
    assert!(ready[0].artifacts.len() < 64);
    assert!(ready[0].artifacts.iter().any(|artifact| artifact.model.verdict == Verdict::Malicious));
}

fn gone() -> Word {
    let finding = ModelFinding { id: "SNS-903".into(), severity: "info".into(), title: "gone".into() };
    Word::NotRead { finding, is_lost: true }
}

#[test]
fn what_its_loader_takes_away_before_it_is_read_is_known_as_that_whichever_is_heard_first() {
    let ino = MODEL.ino;
    for word_first in [false, true] {
        let mut correlator = Correlator::new(WAIT);
        now(correlator.opened(&open()));
        let Pending { header, mut load, .. } = act(20);
        let seen = |correlator: &mut Correlator| {
            correlator.acted(connects(30), 30);
            let [ready] = <[Ready; 1]>::try_from(correlator.due(40, |_| true)).unwrap();
            let model = &ready.artifacts[0].model;
            (model.verdict, model.destroyed, model.findings[0].severity.clone())
        };
        if word_first {
            correlator.looked(MODEL, STAMP, gone());
            assert_eq!(seen(&mut correlator), (Verdict::NotRead, None, "info".into()));
            // Of another inode, of what was opened long before, and by nobody who loads it: no news.
            correlator.destroyed(&header, &load, ino + 1, b"/other");
            let late = Header { time_ns: 10 + DESTROYED_NS_MAX + 1, ..header.clone() };
            correlator.destroyed(&late, &load, ino, b"");
            assert!(correlator.unread.is_empty());
            load.artifacts[0].held = false;
            correlator.destroyed(&header, &load, ino, b"");
            load.artifacts[0].held = true;
            correlator.destroyed(&header, &load, ino, b"");
            let told: Vec<_> = correlator.unread.iter().map(|model| model.destroyed).collect();
            assert_eq!(told, [Some(Destroyed::Afterwards), Some(Destroyed::InLoad)], "the second says more");
        } else {
            correlator.destroyed(&header, &load, ino, b"");
            correlator.looked(MODEL, STAMP, gone());
        }
        let told = correlator.unread.len();
        correlator.destroyed(&header, &load, ino, b"");
        assert_eq!(correlator.unread.len(), told, "once is enough");
        assert_eq!(seen(&mut correlator), (Verdict::NotRead, Some(Destroyed::InLoad), "high".into()));
    }
}

#[test]
fn what_was_read_or_has_another_reason_not_to_be_is_nobodys_doing() {
    let finding = ModelFinding { id: "SNS-905".into(), severity: "info".into(), title: "slow".into() };
    for word in [judged(Verdict::Clean), judged(Verdict::Malicious), Word::NotRead { finding, is_lost: false }] {
        let mut correlator = Correlator::new(WAIT);
        now(correlator.opened(&open()));
        let Pending { header, load, .. } = act(20);
        correlator.destroyed(&header, &load, MODEL.ino, b"");
        correlator.looked(MODEL, STAMP, word);
        correlator.acted(connects(30), 30);
        assert_eq!(correlator.due(40, |_| true)[0].artifacts[0].model.destroyed, None);
    }
}
