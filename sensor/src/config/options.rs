//! The configuration as it was written: the file, then the environment over it. Nothing is resolved here.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};

use super::ConfigError;
use crate::event::Severity;

/// What begins the name of a variable that sets an option.
const PREFIX: &str = "SENSOR_";

/// Every option that the environment can set, as the path of its key. A list of sinks is not one: it has no names.
const SCALARS: [&[&str]; 6] = [
    &["mode"],
    &["rules"],
    &["scan_wait_ms"],
    &["network", "cluster"],
    &["limits", "candidates_per_s"],
    &["limits", "load_window_s"],
];

/// `sensor.toml`. An unknown key is an error.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// `observe`
    pub mode: Option<Mode>,
    /// Folders of rule files, added to the embedded set.
    pub rules: Option<Vec<PathBuf>>,
    /// How long an alert waits for the scanner's verdict, ms.
    pub scan_wait_ms: Option<u64>,
    pub sink: Vec<SinkOptions>,
    pub network: NetworkOptions,
    pub limits: LimitOptions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    Observe,
    Enforce,
}

/// One `[[sink]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SinkOptions {
    #[serde(rename = "type")]
    pub kind: SinkKind,
    /// With `file`.
    pub path: Option<PathBuf>,
    /// With the types that send.
    pub address: Option<String>,
    pub shape: Option<ShapeName>,
    pub min_severity: Option<Severity>,
}

/// All that the contract names; not all exist yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SinkKind {
    Stdout,
    File,
    Journald,
    Syslog,
    Webhook,
    SplunkHec,
    Elasticsearch,
    Kafka,
    Otlp,
}

/// All that the contract names, and `human`; not all exist yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShapeName {
    Human,
    Native,
    Ecs,
    Ocsf,
    Cef,
    Falco,
}

/// `[network]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkOptions {
    /// Networks that count as the cluster.
    pub cluster: Option<Vec<String>>,
}

/// `[limits]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitOptions {
    /// Unknown files that one cgroup may have looked at per second; 0 is no limit.
    pub candidates_per_s: Option<u32>,
    /// Longest load window after an open, s.
    pub load_window_s: Option<u64>,
}

/// Reads the file: `path` where it is given (then it has to be there), else the default one if it is there.
///
/// # Errors
/// It can't be read, or says something that isn't understood.
pub fn read(path: Option<&Path>) -> Result<Option<(PathBuf, String)>, ConfigError> {
    let given = path.is_some();
    let path = path.unwrap_or(Path::new(super::DEFAULT_PATH)).to_owned();
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some((path, text))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !given => Ok(None),
        Err(error) => Err(ConfigError::Read { path, error }),
    }
}

/// The file's options with the environment's over them. The second part are warnings: variables that are none of ours
/// (Kubernetes injects `SENSOR_PORT…` for a Service of that name).
///
/// # Errors
/// An unknown key or a wrong value in the file (with line and column); a known variable with a wrong value.
pub fn merge(
    file: Option<(&Path, &str)>,
    environment: impl Iterator<Item = (OsString, OsString)>,
) -> Result<(Options, Vec<String>), ConfigError> {
    let mut table = Table::new();
    if let Some((path, text)) = file {
        // The typed reading first: only it knows the place of a fault.
        toml::from_str::<Options>(text).map_err(|error| in_file(path, text, &error))?;
        table = toml::from_str(text).map_err(|error| in_file(path, text, &error))?;
    }
    let mut warnings = Vec::new();
    let mut variables: Vec<(OsString, OsString)> = environment.collect();
    variables.sort();
    for (variable, value) in variables {
        let Some(variable) = variable.to_str().filter(|variable| variable.starts_with(PREFIX)) else { continue };
        let Some(path) = path_of(variable) else {
            warnings.push(format!("environment variable {variable} sets no option of the sensor: ignored"));
            continue;
        };
        set(&mut table, variable, path, &value)?;
    }
    let options = Options::deserialize(table).map_err(|error| ConfigError::Value(error.to_string()))?;
    Ok((options, warnings))
}

/// `SENSOR_SECTION__KEY` as the path of a key.
fn path_of(variable: &str) -> Option<&'static [&'static str]> {
    let name = variable.strip_prefix(PREFIX)?;
    SCALARS.into_iter().find(|path| path.join("__").to_uppercase() == name)
}

fn set(table: &mut Table, variable: &str, path: &'static [&'static str], value: &OsString) -> Result<(), ConfigError> {
    let failed = |message: String| ConfigError::Variable { variable: variable.to_owned(), message };
    let text = value.to_str().ok_or_else(|| failed("its value isn't UTF-8".into()))?;
    let no_literal = || {
        failed(format!("{text:?} is no TOML value; text needs quotes of its own, for example {variable}='\"observe\"'"))
    };
    // The newline ends the literal, so that a value cannot go on as another key.
    if text.contains(['\n', '\r']) {
        return Err(no_literal());
    }
    let literal: Table = toml::from_str(&format!("value = {text}\n")).map_err(|_| no_literal())?;
    let value = literal.get("value").cloned().ok_or_else(no_literal)?;
    // Alone first, so that a wrong value names its variable.
    Options::deserialize(nested(path, value.clone())).map_err(|error| failed(error.message().to_owned()))?;
    merge_into(table, nested(path, value));
    Ok(())
}

/// A table that holds one value at a path.
fn nested(path: &[&str], value: Value) -> Table {
    let Some((key, sections)) = path.split_last() else { return Table::new() };
    let mut table = Table::from_iter([((*key).to_owned(), value)]);
    for section in sections.iter().rev() {
        table = Table::from_iter([((*section).to_owned(), Value::Table(table))]);
    }
    table
}

/// Puts the values of `over` into `table`, section by section.
fn merge_into(table: &mut Table, over: Table) {
    for (key, value) in over {
        match (table.get_mut(&key), value) {
            (Some(Value::Table(section)), Value::Table(over)) => merge_into(section, over),
            (_, value) => {
                table.insert(key, value);
            }
        }
    }
}

fn in_file(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let place = error.span().and_then(|span| text.get(..span.start)).map_or(String::new(), |before| {
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        format!(":{line}:{column}")
    });
    ConfigError::File { path: path.to_owned(), place, message: error.message().to_owned() }
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
