//! What the options mean.

use std::path::Path;

use super::*;

fn resolve(text: &str, flags: &Flags, terminal: bool) -> Result<Settings, String> {
    let (options, _) = options::merge(Some((Path::new("t.toml"), text)), std::iter::empty()).unwrap();
    Settings::resolve(options, flags, Vec::new(), terminal).map_err(|error| error.to_string())
}

fn stdout(shape: Shape) -> SinkSettings {
    SinkSettings { target: Target::Stdout, shape, min_severity: Severity::Low }
}

#[test]
fn nothing_written_means_the_defaults() {
    let settings = resolve("", &Flags::default(), true).unwrap();
    assert_eq!(settings.sinks, [stdout(Shape::Human)]);
    assert_eq!(settings.scan_wait, Duration::from_millis(500));
    assert_eq!(settings.limits.load_window, Duration::from_secs(120));
    assert!(settings.rules.is_empty() && settings.network.cluster.is_empty());
    assert_eq!(resolve("", &Flags::default(), false).unwrap().sinks, [stdout(Shape::Native)]);
}

#[test]
fn output_replaces_a_sink_on_standard_output() {
    let file = "[[sink]]\ntype = 'file'\npath = '/x'\n";
    let both = format!("{file}[[sink]]\ntype = 'stdout'\nmin_severity = 'high'\n");
    let flags = Flags { output: Some(Shape::Human), ..Flags::default() };
    let file_sink =
        SinkSettings { target: Target::File("/x".into()), shape: Shape::Native, min_severity: Severity::Low };
    assert_eq!(resolve(file, &Flags::default(), true).unwrap().sinks, std::slice::from_ref(&file_sink));
    assert_eq!(resolve(file, &flags, true).unwrap().sinks, [file_sink.clone(), stdout(Shape::Human)]);
    let replaced = SinkSettings { min_severity: Severity::High, ..stdout(Shape::Human) };
    assert_eq!(resolve(&both, &flags, true).unwrap().sinks, [file_sink, replaced]);
}

#[test]
fn a_flag_wins_over_the_file() {
    let flags = Flags { rules: vec!["/flag".into()], mode: Some(Mode::Observe), ..Flags::default() };
    let settings = resolve("mode = 'enforce'\nrules = ['/file']\n", &flags, true).unwrap();
    assert_eq!(settings.rules, [PathBuf::from("/flag")]);
}

#[test]
fn what_does_not_exist_yet_is_said_in_one_sentence() {
    let cases = [
        ("mode = 'enforce'", "only observes"),
        ("[[sink]]\ntype = 'syslog'\naddress = 'tcp://127.0.0.1:6514'", "sink 1: this version has the types"),
        ("[[sink]]\ntype = 'otlp'", "sink 1: this version has the types"),
        ("[[sink]]\ntype = 'stdout'\n[[sink]]\ntype = 'file'", "sink 2: a file needs a path"),
        ("[[sink]]\ntype = 'stdout'\nshape = 'ecs'", "sink 1: this version has the shapes"),
        ("[[sink]]\ntype = 'stdout'\npath = '/x'", "sink 1: standard output has no path"),
        ("[[sink]]\ntype = 'file'\npath = '/x'\naddress = 'y'", "sink 1: stdout and file have no address"),
        ("[[sink]]\ntype = 'stdout'\n[[sink]]\ntype = 'stdout'", "two sinks"),
        ("scan_wait_ms = 60001", "scan_wait_ms is 60001"),
        ("[limits]\nload_window_s = 0", "limits.load_window_s is 0"),
        ("[network]\ncluster = ['10.0.0.0/33']", "network.cluster: \"10.0.0.0/33\""),
    ];
    for (text, expected) in cases {
        let error = resolve(text, &Flags::default(), true).unwrap_err();
        assert!(error.contains(expected), "{error}\n  should contain\n{expected}");
    }
}

#[test]
fn resolvers_come_from_resolv_conf() {
    let text = "# nameserver 1.1.1.1\nnameserver 127.0.0.53\n nameserver\tfe80::1%eth0 # x\nnameserver\nsearch x\nnameserver no\n";
    let expected: Vec<IpAddr> = vec!["127.0.0.53".parse().unwrap(), "fe80::1".parse().unwrap()];
    assert_eq!(resolvers(text), expected);
}

#[test]
fn names_come_from_hosts() {
    let text = "127.0.0.1 localhost\n# 203.0.113.8 no.example\n\n203.0.113.9\tHub.example other.example # x\n203.0.113.7\n\
                ::ffff:203.0.113.6 v4.example\n2001:db8::1 v6.example\n0.0.0.0 ads.example\nx y\n";
    let expected = [("203.0.113.9", "hub.example"), ("203.0.113.6", "v4.example"), ("2001:db8::1", "v6.example")];
    assert_eq!(hosts(text), expected.map(|(ip, name)| (ip.parse().unwrap(), name.to_owned())));
}

#[test]
fn the_shipped_file_says_the_defaults_and_its_examples_are_understood() {
    let shipped = include_str!("../../../deploy/sensor.toml");
    let [shown, default] = [shipped, ""].map(|text| resolve(text, &Flags::default(), false).unwrap());
    assert_eq!(format!("{shown:?}"), format!("{default:?}"));
    let sinks = shipped.replace("# [[sink]]", "[[sink]]").replace("\n#\n", "\n\n");
    let keys = ["type", "shape", "path", "min_severity"];
    let sinks = keys.iter().fold(sinks, |text, key| text.replace(&format!("# {key} = "), &format!("{key} = ")));
    // Tables end the top level: they go last.
    let at = sinks.find("[[sink]]").unwrap();
    let end = sinks.find("[network]").unwrap();
    let text = format!("{}{}\n{}", &sinks[..at], &sinks[end..], &sinks[at..end]);
    assert_eq!(resolve(&text, &Flags::default(), false).unwrap().sinks.len(), 2);
}
