//! Every cell of the table, every sentence that moves one.

use std::sync::Arc;

use super::Column::{Later, Soon, Window};
use super::Effect::*;
use super::*;
use crate::event::Severity::{Critical, High, Info, Low, Medium};
use crate::policy::testing::{artifact, key, model};

const ROWS: [Row; 4] = [Row::Malicious, Row::Suspicious, Row::Code, Row::Data];
const COLUMNS: [Column; 3] = [Window, Soon, Later];

fn table() -> Table {
    Table::embedded().unwrap()
}

/// The twelve cells of an effect, rows from malicious to data.
fn check(effects: &[Effect], expected: [[Severity; 3]; 4]) {
    check_known(effects, false, expected);
}

fn check_known(effects: &[Effect], known_service: bool, expected: [[Severity; 3]; 4]) {
    for effect in effects {
        for (row, cells) in ROWS.into_iter().zip(expected) {
            for (column, cell) in COLUMNS.into_iter().zip(cells) {
                let got = table().cell(row, column, *effect, known_service);
                assert_eq!(got, cell, "{effect:?} in row {row:?}, column {column:?}");
            }
        }
    }
}

#[test]
fn base_cells_are_programs_and_public_destinations() {
    check(
        &[Program, Public],
        [[Critical, Critical, High], [Critical, High, Medium], [High, Medium, Info], [Low, Info, Info]],
    );
}

#[test]
fn a_shell_is_a_base_cell_but_for_data_where_only_a_parser_exploit_starts_one() {
    check(
        &[Shell, Interpreter, UnixControl, ImportDangerous],
        [[Critical, Critical, High], [Critical, High, Medium], [High, Medium, Info], [Medium, Low, Low]],
    );
}

#[test]
fn metadata_and_what_else_no_model_needs_is_one_step_louder_but_for_data() {
    check(
        &[Metadata, Credential, Persistence, Ptrace, Kmod, Mount, Privilege],
        [[Critical, Critical, Critical], [Critical, Critical, High], [Critical, High, Low], [Medium, Low, Low]],
    );
}

#[test]
fn what_client_libraries_read_in_ordinary_use_tells_only_inside_the_window() {
    check(
        &[Token],
        [[Critical, Critical, Critical], [Critical, Critical, High], [Critical, Low, Info], [Low, Info, Info]],
    );
}

#[test]
fn processes_of_one_program_share_memory_but_not_inside_a_load() {
    check(
        &[Peer],
        [[Critical, Critical, Critical], [Critical, Critical, High], [Critical, Info, Info], [Low, Info, Info]],
    );
}

#[test]
fn what_people_start_themselves_tells_only_inside_the_window() {
    check(&[Usual], [[Critical, Critical, High], [Critical, High, Medium], [High, Info, Info], [Low, Info, Info]]);
}

#[test]
fn namespaces_are_a_base_cell() {
    check(
        &[Namespace],
        [[Critical, Critical, High], [Critical, High, Medium], [High, Medium, Info], [Medium, Low, Low]],
    );
}

#[test]
fn private_is_one_step_quieter_where_nothing_was_found() {
    check(&[Private], [[Critical, Critical, High], [Critical, High, Medium], [Medium, Low, Info], [Info, Info, Info]]);
}

#[test]
fn cluster_loopback_link_local_bind_accept_and_other_unix_sockets_are_two_steps_quieter_where_nothing_was_found() {
    check(
        &[Cluster, Loopback, LinkLocal, Bind, Accept, Unix],
        [[Critical, Critical, High], [Critical, High, Medium], [Low, Info, Info], [Info, Info, Info]],
    );
}

#[test]
fn ordinary_tools_and_names_asked_of_the_resolver_are_info_where_nothing_was_found() {
    check(
        &[Ordinary, Dns],
        [[Critical, Critical, High], [Critical, High, Medium], [Info, Info, Info], [Info, Info, Info]],
    );
}

#[test]
fn some_effects_are_the_same_everywhere() {
    for (effect, severity) in [(Tamper, Critical), (Loss, Medium), (Import, Info)] {
        check(&[effect], [[severity; 3]; 4]);
    }
}

#[test]
fn a_known_name_is_one_step_quieter_where_nothing_was_found_and_lowers_nothing_else() {
    check_known(
        &[Public],
        true,
        [[Critical, Critical, High], [Critical, High, Medium], [Medium, Low, Info], [Info, Info, Info]],
    );
}

#[test]
fn a_known_name_never_takes_a_file_that_can_run_code_below_medium_in_the_window() {
    // Private alone is medium there: the name takes nothing off. Cluster alone is low: the name adds nothing.
    assert_eq!(table().cell(Row::Code, Window, Private, true), Medium);
    assert_eq!(table().cell(Row::Code, Window, Cluster, true), Low);
    assert_eq!(table().cell(Row::Code, Soon, Private, true), Info);
}

#[test]
fn the_row_is_what_the_scan_said_of_the_file() {
    use crate::event::ContentClass::{Code, Data, Unknown};
    use crate::event::Verdict::{Clean, Malicious, NotRead, Pending, Suspicious, Unscannable};
    let cases = [
        (Malicious, Code, Row::Malicious),
        (Malicious, Data, Row::Malicious),
        (Malicious, Unknown, Row::Malicious),
        (Suspicious, Code, Row::Suspicious),
        (Suspicious, Data, Row::Suspicious),
        (Unscannable, Code, Row::Suspicious),
        (Unscannable, Unknown, Row::Suspicious),
        (Clean, Code, Row::Code),
        (Clean, Unknown, Row::Code),
        (Clean, Data, Row::Data),
        (Pending, Code, Row::Code),
        (Pending, Unknown, Row::Code),
        // The content is known to be data although the scan isn't through.
        (Pending, Data, Row::Data),
        (NotRead, Code, Row::Code),
        (NotRead, Unknown, Row::Code),
        // A file that may change under the reader is never known to be data.
        (NotRead, Data, Row::Code),
    ];
    for (verdict, class, row) in cases {
        assert_eq!(Row::of(&Model { verdict, class, ..model(1) }), row, "{verdict:?} {class:?}");
    }
}

/// The column for an artifact that `change` made; the acting process is 1, the opener too.
fn column(row: Row, effect: Effect, change: impl FnOnce(&mut Artifact)) -> Column {
    let mut artifact = artifact(1);
    change(&mut artifact);
    table().column(row, &artifact, key(1), effect)
}

#[test]
fn the_column_is_the_time_since_the_load() {
    for row in ROWS {
        assert_eq!(column(row, Public, |a| a.in_window = true), Window);
        assert_eq!(column(row, Public, |a| a.since_ns = 0), Soon);
        assert_eq!(column(row, Public, |a| a.since_ns = 30_000_000_000), Soon);
        assert_eq!(column(row, Public, |a| a.since_ns = 30_000_000_001), Later);
    }
}

#[test]
fn a_walk_that_was_cut_counts_as_shortly_after() {
    for row in ROWS {
        let cut = |in_window| {
            column(row, Public, |a| {
                a.in_window = in_window;
                a.basis = Some(Basis::Cut);
            })
        };
        assert_eq!(cut(true), Soon);
        assert_eq!(cut(false), Soon);
    }
}

/// The column of a child that was born in the load, an hour later.
fn born(row: Row, effect: Effect, safe: bool) -> Column {
    column(row, effect, |a| {
        a.born = true;
        a.basis = Some(Basis::Born);
        a.opener = key(9);
        Arc::make_mut(&mut a.model).all_globals_safe = safe;
    })
}

#[test]
fn born_in_the_load_is_the_window_for_ever_in_the_first_two_rows() {
    for effect in [Shell, Program, Public, Cluster, Metadata, Ordinary] {
        for safe in [false, true] {
            assert_eq!(born(Row::Malicious, effect, safe), Window);
            assert_eq!(born(Row::Suspicious, effect, safe), Window);
        }
    }
}

#[test]
fn born_in_the_load_of_a_clean_file_is_the_window_for_what_no_worker_does_else_shortly_after() {
    for effect in [Shell, Interpreter, Credential, Metadata, Persistence, Public] {
        assert_eq!(born(Row::Code, effect, false), Window, "{effect:?}");
    }
    for effect in [Program, Ordinary, Private, Cluster, Loopback, LinkLocal, Bind, Accept, Ptrace, Kmod, Mount] {
        assert_eq!(born(Row::Code, effect, false), Soon, "{effect:?}");
    }
}

#[test]
fn born_in_the_load_of_a_file_whose_globals_are_all_safe_is_shortly_after() {
    for effect in [Shell, Credential, Metadata, Persistence, Public, Program, Cluster] {
        assert_eq!(born(Row::Code, effect, true), Soon, "{effect:?}");
    }
}

#[test]
fn a_worker_that_inherits_the_descriptor_of_a_safe_file_is_shortly_after_but_a_load_of_its_own_counts() {
    let held = |opener| {
        column(Row::Code, Public, |a| {
            a.in_window = true;
            a.born = true;
            a.basis = Some(Basis::Held);
            a.opener = key(opener);
            Arc::make_mut(&mut a.model).all_globals_safe = true;
        })
    };
    assert_eq!(held(9), Soon);
    assert_eq!(held(1), Window);
}

#[test]
fn born_in_the_load_of_data_is_nothing_later_and_the_window_for_a_shell_that_was_just_started() {
    for effect in [Shell, Public, Metadata] {
        assert_eq!(born(Row::Data, effect, false), Later);
    }
    let fresh = |effect| {
        column(Row::Data, effect, |a| {
            a.born = true;
            a.since_ns = 1_000_000;
        })
    };
    assert_eq!(fresh(Shell), Window);
    assert_eq!(fresh(Public), Soon);
}

#[test]
fn a_thread_from_before_the_load_is_quieter_shortly_after_it_where_the_file_is_clean() {
    let told = |verdict, effect, since_s: u64| {
        let mut artifact = artifact(1);
        artifact.model = Arc::new(Model { verdict, ..model(1) });
        (artifact.bystander, artifact.since_ns) = (true, since_s * 1_000_000_000);
        table().severity(&artifact, key(1), effect, false)
    };
    assert_eq!([0, 60].map(|since_s| told(Verdict::Clean, Public, since_s)), [Low, Info]);
    assert_eq!(told(Verdict::Malicious, Public, 0), Critical);
    assert_eq!(told(Verdict::Suspicious, Public, 0), High);
    for effect in [Shell, Credential, Metadata] {
        assert!(told(Verdict::Clean, effect, 0) >= Medium, "{effect:?}");
    }
}

#[test]
fn the_open_itself_is_loud_only_for_what_the_scan_found() {
    assert_eq!(table().model_open(Row::Malicious), Some(High));
    assert_eq!(table().model_open(Row::Suspicious), Some(Low));
    assert_eq!(table().model_open(Row::Code), None);
    assert_eq!(table().model_open(Row::Data), None);
    assert_eq!(table().reader_most(), Info);
}

#[test]
fn what_its_loader_took_away_unread_is_suspicious_for_what_a_payload_does_and_nothing_else() {
    let table = table();
    let told = |destroyed, in_window, since_s: u64, effect, known| {
        let mut artifact = artifact(1);
        let unread = Model { verdict: Verdict::NotRead, destroyed, ..model(1) };
        artifact.model = Arc::new(unread);
        (artifact.in_window, artifact.since_ns) = (in_window, since_s * 1_000_000_000);
        table.severity(&artifact, key(1), effect, known)
    };
    let (in_load, afterwards) = (Some(Destroyed::InLoad), Some(Destroyed::Afterwards));
    for (effect, destroyed, expected) in [
        (Public, None, [High, Medium, Info]),
        (Public, in_load, [Critical, High, Medium]),
        (Public, afterwards, [High, Medium, Medium]),
        (Shell, in_load, [Critical, High, Medium]),
        (Credential, in_load, [Critical, Critical, High]),
        // Programs that rewrite their own cache talk to their like.
        (Private, in_load, [Medium, Low, Info]),
        (Loopback, afterwards, [Low, Info, Info]),
        (Bind, in_load, [Low, Info, Info]),
        (Ordinary, in_load, [Info, Info, Info]),
    ] {
        let got = [(true, 0), (false, 1), (false, 3_600)].map(|(window, s)| told(destroyed, window, s, effect, false));
        assert_eq!(got, expected, "{effect:?} {destroyed:?}");
    }
    assert_eq!(told(afterwards, false, 1, Public, true), Low, "a service known by name");
    assert_eq!(told(in_load, false, 1, Public, true), told(in_load, false, 1, Public, false));
}
