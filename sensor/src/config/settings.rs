//! What the configuration means: checked, with defaults, ready to use.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::ConfigError;
use super::options::{self, Mode, Options, ShapeName, SinkKind, SinkOptions};
use crate::event::Severity;
use crate::policy::destination::Network;
use crate::sink::Shape;

/// Default of `scan_wait_ms`.
pub const SCAN_WAIT_MS: u64 = 500;
/// Longest `scan_wait_ms`: an alert that waits longer is none.
pub const SCAN_WAIT_MS_MAX: u64 = 60_000;
/// Default of `limits.candidates_per_s`.
pub const CANDIDATES_PER_S: u32 = 1000;
/// Default of `limits.load_window_s`, and the longest.
pub const LOAD_WINDOW_S: u64 = 120;
/// Resolvers that are read from `/etc/resolv.conf`; libc uses three.
pub const RESOLVERS_MAX: usize = 16;
/// Addresses whose names are read from `/etc/hosts`.
pub const HOSTS_MAX: usize = 1_024;

/// Settings of `sensor run`.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Folders of rule files.
    pub rules: Vec<PathBuf>,
    pub sinks: Vec<SinkSettings>,
    pub network: Network,
    pub scan_wait: Duration,
    pub limits: Limits,
}

/// One sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkSettings {
    pub target: Target,
    pub shape: Shape,
    pub min_severity: Severity,
}

/// Where a sink writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Stdout,
    File(PathBuf),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub candidates_per_s: u32,
    pub load_window: Duration,
}

/// What the command line says; it wins.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    pub config: Option<PathBuf>,
    pub rules: Vec<PathBuf>,
    pub mode: Option<Mode>,
    /// `--output`: replaces a sink on standard output.
    pub output: Option<Shape>,
}

impl Settings {
    /// Reads the file and the environment. The second part are warnings for the log.
    ///
    /// # Errors
    /// One sentence that says where, and what to change.
    pub fn load(
        flags: &Flags,
        environment: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<(Self, Vec<String>), ConfigError> {
        let file = options::read(flags.config.as_deref())?;
        let file = file.as_ref().map(|(path, text)| (path.as_path(), text.as_str()));
        let (options, warnings) = options::merge(file, environment)?;
        let resolvers = std::fs::read_to_string("/etc/resolv.conf").map(|text| resolvers(&text)).unwrap_or_default();
        let mut settings = Self::resolve(options, flags, resolvers, std::io::stdout().is_terminal())?;
        settings.network.hosts = std::fs::read_to_string("/etc/hosts").map(|text| hosts(&text)).unwrap_or_default();
        Ok((settings, warnings))
    }

    fn resolve(
        options: Options,
        flags: &Flags,
        resolvers: Vec<IpAddr>,
        stdout_is_terminal: bool,
    ) -> Result<Self, ConfigError> {
        if flags.mode.or(options.mode) == Some(Mode::Enforce) {
            return Err(ConfigError::Value(
                "this version only observes, prevention comes later: set mode = \"observe\", or leave it out".into(),
            ));
        }
        let scan_wait_ms = options.scan_wait_ms.unwrap_or(SCAN_WAIT_MS);
        within("scan_wait_ms", scan_wait_ms, 0, SCAN_WAIT_MS_MAX)?;
        let load_window_s = options.limits.load_window_s.unwrap_or(LOAD_WINDOW_S);
        within("limits.load_window_s", load_window_s, 1, LOAD_WINDOW_S)?;
        let cluster = options.network.cluster.unwrap_or_default();
        let cluster = cluster
            .iter()
            .map(|text| {
                text.parse().map_err(|_| {
                    ConfigError::Value(format!("network.cluster: {text:?} is no network such as 10.96.0.0/12"))
                })
            })
            .collect::<Result<_, _>>()?;
        let rules = if flags.rules.is_empty() { options.rules.unwrap_or_default() } else { flags.rules.clone() };
        Ok(Self {
            rules,
            sinks: sinks(&options.sink, flags.output, stdout_is_terminal)?,
            network: Network { cluster, resolvers, hosts: Vec::new() },
            scan_wait: Duration::from_millis(scan_wait_ms),
            limits: Limits {
                candidates_per_s: options.limits.candidates_per_s.unwrap_or(CANDIDATES_PER_S),
                load_window: Duration::from_secs(load_window_s),
            },
        })
    }
}

fn within(name: &str, value: u64, least: u64, most: u64) -> Result<(), ConfigError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(ConfigError::Value(format!("{name} is {value}, but has to be from {least} to {most}")))
}

/// The sinks; without any, standard output: for a person on a terminal, else JSON.
fn sinks(
    options: &[SinkOptions],
    output: Option<Shape>,
    stdout_is_terminal: bool,
) -> Result<Vec<SinkSettings>, ConfigError> {
    let mut sinks = options.iter().enumerate().map(|(i, sink)| one_sink(i, sink)).collect::<Result<Vec<_>, _>>()?;
    let on_stdout = sinks.iter().position(|sink| sink.target == Target::Stdout);
    if sinks.iter().filter(|sink| sink.target == Target::Stdout).count() > 1 {
        return Err(ConfigError::Value("two sinks write to standard output: remove one".into()));
    }
    let default = if stdout_is_terminal { Shape::Human } else { Shape::Native };
    let stdout = |shape| SinkSettings { target: Target::Stdout, shape, min_severity: Severity::Low };
    match (output, on_stdout) {
        (Some(shape), Some(at)) => sinks[at].shape = shape,
        (Some(shape), None) => sinks.push(stdout(shape)),
        (None, _) if sinks.is_empty() => sinks.push(stdout(default)),
        (None, _) => {}
    }
    Ok(sinks)
}

fn one_sink(index: usize, sink: &SinkOptions) -> Result<SinkSettings, ConfigError> {
    let failed = |message: &str| Err(ConfigError::Value(format!("sink {}: {message}", index + 1)));
    let shape = match sink.shape {
        Some(ShapeName::Human) => Shape::Human,
        Some(ShapeName::Native) | None => Shape::Native,
        Some(ShapeName::Ecs | ShapeName::Ocsf | ShapeName::Cef | ShapeName::Falco) => {
            return failed("this version has the shapes native and human; the others come later");
        }
    };
    if sink.address.is_some() && matches!(sink.kind, SinkKind::Stdout | SinkKind::File) {
        return failed("stdout and file have no address: remove it");
    }
    let target = match (sink.kind, &sink.path) {
        (SinkKind::Stdout, None) => Target::Stdout,
        (SinkKind::Stdout, Some(_)) => return failed("standard output has no path: remove it, or set type = \"file\""),
        (SinkKind::File, Some(path)) => Target::File(path.clone()),
        (SinkKind::File, None) => return failed("a file needs a path: path = \"/var/log/sensor/alerts.jsonl\""),
        (
            SinkKind::Journald
            | SinkKind::Syslog
            | SinkKind::Webhook
            | SinkKind::SplunkHec
            | SinkKind::Elasticsearch
            | SinkKind::Kafka
            | SinkKind::Otlp,
            _,
        ) => return failed("this version has the types stdout and file; the others come later"),
    };
    Ok(SinkSettings { target, shape, min_severity: sink.min_severity.unwrap_or(Severity::Low) })
}

/// The `nameserver` lines of resolv.conf(5).
fn resolvers(text: &str) -> Vec<IpAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            (words.next() == Some("nameserver")).then(|| words.next()).flatten()
        })
        // A link-local one carries its interface: `fe80::1%eth0`.
        .filter_map(|address| address.split('%').next().and_then(|address| address.parse().ok()))
        .take(RESOLVERS_MAX)
        .collect()
}

/// What hosts(5) calls addresses first. Those of this host itself, and those that stand for nowhere, need no name.
fn hosts(text: &str) -> Vec<(IpAddr, String)> {
    let names = text.lines().filter_map(|line| {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let ip: IpAddr = words.next()?.parse().ok()?;
        let name = words.next()?.to_ascii_lowercase();
        (!ip.is_loopback() && !ip.is_unspecified()).then_some((ip.to_canonical(), name))
    });
    names.take(HOSTS_MAX).collect()
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
