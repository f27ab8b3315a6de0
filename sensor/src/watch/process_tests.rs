//! Who is who, by what the kernel and /proc say.

use super::*;

fn key(tgid: u32, start_boottime_ns: u64) -> TaskKey {
    TaskKey { tgid, start_boottime_ns }
}

fn header(task: TaskKey, parent: TaskKey) -> Header {
    Header { tid: task.tgid, time_ns: 0, task, parent, cgroup: 1, uid: 1000 }
}

fn argv(args: &[&str]) -> Argv {
    Argv { args: args.iter().map(|arg| arg.as_bytes().to_vec()).collect(), truncated: false }
}

#[test]
fn a_daemon_that_was_given_to_init_keeps_its_creator() {
    let mut processes = Processes::default();
    let (init, python, daemon) = (key(1, 0), key(50, 5_000_000_007), key(51, 6_000_000_009));
    processes.runs(&header(python, init), b"/usr/bin/python3", &argv(&["python3", "x.py"]));
    processes.forked(&header(python, init), daemon);
    processes.seen(&header(daemon, init));
    let lineage = processes.lineage(daemon, 1);
    assert_eq!(lineage.process.exe, b"/usr/bin/python3");
    assert_eq!(lineage.ancestors[0].key, python);
}

#[test]
fn a_child_forked_before_its_creator_was_read_shows_its_creators_arguments() {
    let mut processes = Processes::default();
    let (python, child) = (key(50, 5_000_000_007), key(51, 6_000_000_009));
    let unheard = Argv { args: vec![], truncated: true };
    processes.runs(&header(python, key(1, 0)), b"/usr/bin/python3", &unheard);
    processes.forked(&header(python, key(1, 0)), child);
    let exe = b"/usr/bin/python3".to_vec();
    let argv = argv(&["python3", "x.py"]);
    processes.told(Told { tgid: 50, start_ticks: 500, parent_tgid: 1, exe, argv, uid: None, script_is_roots: false });
    assert_eq!(processes.lineage(child, 1).process.argv.len(), 2);
    assert_eq!(processes.ask(child, 1), [51, 1], "and it is asked for itself");
}

#[test]
fn what_a_process_was_forked_with_makes_it_nobodys_peer() {
    let mut processes = Processes::default();
    let (python, child) = (key(50, 5_000_000_007), key(51, 6_000_000_009));
    processes.runs(&header(python, key(1, 0)), b"/usr/bin/python3", &argv(&["python3", "x.py"]));
    processes.forked(&header(python, key(1, 0)), child);
    let loader = processes.lineage(python, 1).process.clone();
    assert!(processes.is_peer(&loader, 50));
    assert!(!processes.is_peer(&loader, 51), "it may run something else by now");
    assert!(processes.is_told(51));
    assert_eq!((processes.doubt(50), processes.doubt(51), processes.doubt(51)), (None, Some(51), None));
    assert!(!processes.is_told(51));
    let told = |exe: &[u8]| Told {
        tgid: 51,
        start_ticks: 600,
        parent_tgid: 50,
        exe: exe.to_vec(),
        argv: argv(&["x"]),
        uid: Some(1000),
        script_is_roots: false,
    };
    let mut another = Processes::default();
    another.runs(&header(python, key(1, 0)), b"/usr/bin/python3", &argv(&["python3", "x.py"]));
    another.forked(&header(python, key(1, 0)), child);
    another.doubt(51);
    another.told(told(b"/usr/bin/python3"));
    assert!(another.is_told(51) && another.is_peer(&loader, 51), "a worker that was forked");
    processes.told(told(b"/usr/bin/vault"));
    assert!(processes.is_told(51) && !processes.is_peer(&loader, 51));
}

#[test]
fn who_is_unheard_of_is_asked_for_before_it_is_a_peer_or_none() {
    let mut processes = Processes::default();
    let python = key(50, 5_000_000_007);
    processes.runs(&header(python, key(1, 0)), b"/usr/bin/python3", &argv(&["python3", "x.py"]));
    let loader = processes.lineage(python, 1).process.clone();
    assert_eq!((processes.doubt(77), processes.doubt(77)), (Some(77), None));
    assert!(!processes.is_told(77) && !processes.is_peer(&loader, 77));
    let (exe, argv) = (b"/usr/bin/python3".to_vec(), argv(&["python3"]));
    let uid = Some(1000);
    processes.told(Told { tgid: 77, start_ticks: 400, parent_tgid: 1, exe, argv, uid, script_is_roots: false });
    assert!(processes.is_told(77) && processes.is_peer(&loader, 77));
    processes.doubt(78);
    processes.gone(78);
    assert!(processes.is_told(78), "there is no answer to wait for");
}

#[test]
fn another_program_that_nobody_named_is_asked_for() {
    let mut processes = Processes::default();
    let python = key(50, 5_000_000_007);
    processes.runs(&header(python, key(40, 0)), b"/usr/bin/python3", &argv(&["python3", "x.py"]));
    assert!(processes.is_known(python, 1) || processes.ask(python, 1) == [40]);
    processes.changed(&header(python, key(40, 0)));
    let lineage = processes.lineage(python, 1);
    assert!(lineage.process.exe.is_empty() && lineage.process.argv.is_empty());
    assert!(processes.ask(python, 1).contains(&50));
    assert_eq!(processes.lineage(python, 1).ancestors[0].key.tgid, 40);
}

#[test]
fn proc_and_the_kernel_name_a_process_alike() {
    let mut processes = Processes::default();
    let (shell, python) = (key(40, 3_141_592_653), key(50, 5_000_000_007));
    processes.descends(python, &[shell]);
    assert_eq!(processes.ask(python, 1), [50, 40]);
    assert!(processes.ask(python, 1).is_empty());
    assert!(!processes.is_known(python, 1));
    for (tgid, start_ticks) in [(40, 314), (50, 500)] {
        let exe = b"/bin/x".to_vec();
        let (argv, uid) = (argv(&["x"]), Some(0));
        processes.told(Told { tgid, start_ticks, parent_tgid: 0, exe, argv, uid, script_is_roots: false });
    }
    assert!(processes.is_known(python, 1));
    assert_eq!(processes.lineage(python, 1).ancestors[0].exe, b"/bin/x");
    assert_eq!(processes.lineage(python, 1).ancestors[0].key, shell);
}

#[test]
fn a_reused_pid_is_another_process() {
    let mut processes = Processes::default();
    let (old, new) = (key(50, 1_000_000_000), key(50, 9_000_000_000));
    processes.runs(&header(old, key(1, 0)), b"/usr/bin/python3", &argv(&["python3"]));
    processes.seen(&header(new, key(1, 0)));
    assert!(processes.lineage(new, 1).process.exe.is_empty());
}

#[test]
fn a_reader_is_the_script_that_root_owns_until_something_else_runs() {
    let mut processes = Processes::default();
    let (python, child) = (key(50, 5_000_000_007), key(51, 6_000_000_009));
    let runs = |processes: &mut Processes| {
        processes.runs(&header(python, key(1, 0)), b"/usr/bin/python3", &argv(&["python3", "/usr/bin/s3cmd"]));
    };
    let told = |script_is_roots| {
        let (exe, argv) = (b"/usr/bin/python3".to_vec(), argv(&["python3", "/usr/bin/s3cmd"]));
        Told { tgid: 50, start_ticks: 500, parent_tgid: 1, exe, argv, uid: None, script_is_roots }
    };
    for is_roots in [false, true] {
        runs(&mut processes);
        processes.may_be_reader(python);
        assert!(!processes.is_known(python, 1) && !processes.is_reader(python));
        assert!(processes.ask(python, 1).contains(&50));
        processes.told(told(is_roots));
        assert_eq!(processes.is_reader(python), is_roots);
    }
    processes.forked(&header(python, key(1, 0)), child);
    assert!(!processes.is_reader(child));
    runs(&mut processes);
    assert!(!processes.is_reader(python));
}

#[test]
fn a_loop_of_parents_ends() {
    let mut processes = Processes::default();
    processes.descends(key(1, 10_000_000), &[key(2, 20_000_000), key(1, 10_000_000)]);
    assert_eq!(processes.lineage(key(1, 10_000_000), 1).ancestors.len(), 1);
}

#[test]
fn a_long_lived_loader_keeps_its_ancestors_while_its_children_come_and_go() {
    let mut processes = Processes::default();
    let (shell, python) = (key(40, 3_141_592_653), key(50, 5_000_000_007));
    processes.runs(&header(shell, key(1, 10_000_000)), b"/bin/sh", &argv(&["sh"]));
    processes.runs(&header(python, shell), b"/usr/bin/python3", &argv(&["python3"]));
    for i in 0..(3 * ENTRIES_MAX as u64) {
        let child = key(100 + i as u32, 6_000_000_000 + i * TICK_NS);
        processes.forked(&header(python, shell), child);
        processes.exited(&header(child, python));
    }
    assert_eq!(processes.lineage(python, 1).ancestors[0].exe, b"/bin/sh");
    assert!(processes.order.len() <= 2 * ENTRIES_MAX && processes.gone.len() <= ENTRIES_MAX);
    assert_eq!(processes.text_bytes, processes.entries.values().map(text_len).sum::<usize>());
}

#[test]
fn the_table_is_bounded() {
    let mut processes = Processes::default();
    for pid in 0..(ENTRIES_MAX as u32 + 100) {
        processes.runs(&header(key(pid + 1, u64::from(pid) * TICK_NS), key(0, 0)), b"/x", &argv(&["y"]));
    }
    assert_eq!(processes.entries.len(), ENTRIES_MAX);
    assert!(processes.text_bytes <= TEXT_BYTES_MAX);
    assert_eq!(processes.text_bytes, processes.entries.values().map(text_len).sum::<usize>());
}
