//! What is written, and what is said about what was written wrong.

use super::*;

fn merge_text(text: &str, environment: &[(&str, &str)]) -> Result<(Options, Vec<String>), String> {
    let environment = environment.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    merge(Some((Path::new("/etc/sensor/sensor.toml"), text)), environment).map_err(|error| error.to_string())
}

#[test]
fn everything_that_exists_can_be_written() {
    let text = r#"
        mode = "observe"
        rules = ["/etc/sensor/rules"]
        scan_wait_ms = 250
        [[sink]]
        type = "file"
        path = "/var/log/sensor.jsonl"
        shape = "native"
        min_severity = "medium"
        [[sink]]
        type = "stdout"
        shape = "human"
        [network]
        cluster = ["10.96.0.0/12"]
        [limits]
        candidates_per_s = 50
        load_window_s = 60
    "#;
    let (options, warnings) = merge_text(text, &[]).unwrap();
    assert!(warnings.is_empty());
    // No `..`: a new option has to be added here, and to SCALARS if the environment can set it.
    let Options { mode, rules, scan_wait_ms, sink, network: NetworkOptions { cluster }, limits } = options;
    let LimitOptions { candidates_per_s, load_window_s } = limits;
    assert_eq!(mode, Some(Mode::Observe));
    assert_eq!(rules, Some(vec!["/etc/sensor/rules".into()]));
    assert_eq!(scan_wait_ms, Some(250));
    assert_eq!((sink.len(), sink[0].kind, sink[0].min_severity), (2, SinkKind::File, Some(Severity::Medium)));
    assert_eq!(cluster, Some(vec!["10.96.0.0/12".into()]));
    assert_eq!((candidates_per_s, load_window_s), (Some(50), Some(60)));
}

#[test]
fn a_fault_in_the_file_is_named_with_file_line_and_column() {
    let cases = [
        ("mode = \"observe\"\n  mood = 1\n", "/etc/sensor/sensor.toml:2:3: unknown field `mood`"),
        ("[network]\nclusters = []\n", "/etc/sensor/sensor.toml:2:1: unknown field `clusters`"),
        ("[spool]\npath = \"/x\"\n", "/etc/sensor/sensor.toml:1:2: unknown field `spool`"),
        ("scan_wait_ms = \"long\"\n", "/etc/sensor/sensor.toml:1:16: invalid type"),
        ("mode = \"watch\"\n", "/etc/sensor/sensor.toml:1:8: unknown variant `watch`"),
        ("\n[[sink]]\ntype = \"fax\"\n", "/etc/sensor/sensor.toml:3:8: unknown variant `fax`"),
        ("[[sink]]\ntype = \"stdout\"\ncolour = 1\n", "/etc/sensor/sensor.toml:3:1: unknown field `colour`"),
        ("mode = \n", "/etc/sensor/sensor.toml:1:"),
    ];
    for (text, expected) in cases {
        let error = merge_text(text, &[]).unwrap_err();
        assert!(error.starts_with(expected), "{error}\n  should begin with\n{expected}");
    }
}

#[test]
fn every_scalar_can_be_set_by_the_environment_and_wins_over_the_file() {
    let environment = [
        ("SENSOR_MODE", "\"enforce\""),
        ("SENSOR_RULES", "['/a', '/b']"),
        ("SENSOR_SCAN_WAIT_MS", "7"),
        ("SENSOR_NETWORK__CLUSTER", "['10.0.0.0/8']"),
        ("SENSOR_LIMITS__CANDIDATES_PER_S", "9"),
        ("SENSOR_LIMITS__LOAD_WINDOW_S", "11"),
    ];
    assert_eq!(environment.len(), SCALARS.len());
    let text = "mode = 'observe'\nscan_wait_ms = 1\n[limits]\ncandidates_per_s = 1\nload_window_s = 5\n";
    let (options, warnings) = merge_text(text, &environment).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(options.mode, Some(Mode::Enforce));
    assert_eq!(options.rules, Some(vec!["/a".into(), "/b".into()]));
    assert_eq!(options.scan_wait_ms, Some(7));
    assert_eq!(options.network.cluster, Some(vec!["10.0.0.0/8".into()]));
    assert_eq!(options.limits, LimitOptions { candidates_per_s: Some(9), load_window_s: Some(11) });
    // One variable leaves the rest of its section alone.
    let (options, _) = merge_text(text, &environment[4..5]).unwrap();
    assert_eq!(options.limits, LimitOptions { candidates_per_s: Some(9), load_window_s: Some(5) });
}

#[test]
fn a_variable_that_is_none_of_ours_only_warns() {
    let injected = [
        ("SENSOR_PORT", "tcp://10.0.0.1:9478"),
        ("SENSOR_SERVICE_HOST", "10.0.0.1"),
        ("SENSOR_PORT_9478_TCP_PROTO", "tcp"),
        ("SENSOR_NETWORK__OTHER", "1"),
        ("SENSORS", "1"),
        ("PATH", "/bin"),
    ];
    let (options, warnings) = merge_text("", &injected).unwrap();
    assert_eq!(options, Options::default());
    assert_eq!(warnings.len(), 4);
    assert!(warnings.iter().any(|warning| warning.contains("SENSOR_NETWORK__OTHER")));
}

#[test]
fn a_variable_with_a_wrong_value_is_named() {
    let cases = [
        (("SENSOR_MODE", "observe"), "SENSOR_MODE: \"observe\" is no TOML value; text needs quotes"),
        (("SENSOR_MODE", "\"watch\""), "SENSOR_MODE: unknown variant `watch`"),
        (("SENSOR_SCAN_WAIT_MS", "-1"), "SENSOR_SCAN_WAIT_MS: "),
        (("SENSOR_SCAN_WAIT_MS", "1\nmode = 2"), "SENSOR_SCAN_WAIT_MS: "),
        (("SENSOR_SCAN_WAIT_MS", ""), "SENSOR_SCAN_WAIT_MS: "),
    ];
    for (variable, expected) in cases {
        let error = merge_text("", &[variable]).unwrap_err();
        assert!(error.contains(expected), "{error}\n  should contain\n{expected}");
    }
}

#[test]
fn a_file_that_was_asked_for_has_to_be_there() {
    let error = read(Some(Path::new("/does/not/exist.toml"))).unwrap_err().to_string();
    assert!(error.contains("/does/not/exist.toml"), "{error}");
}
