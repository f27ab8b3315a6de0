//! `sensor status`: is a sensor running here, and does it see what it should?

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use serde_json::Value;

use super::Format;
use crate::{escape, health};

/// Is a sensor running on this host, and does it see what it should?
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sensor status                  for people and for readiness probes
  sensor status --alive          for liveness probes: a restart would not bring a lost hook back
  sensor status --format json    everything (schemas/status.schema.json)

Exit status: 0 every required hook is attached, 1 degraded, 2 no sensor answers.")]
pub struct Args {
    /// A degraded sensor counts as well: 0 wherever one answers
    #[arg(long)]
    alive: bool,
    /// How to say it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub fn run(args: Args) -> ExitCode {
    let answer = health::ask().map_err(|error| match error.kind() {
        ErrorKind::PermissionDenied => "you may not ask it: run `sensor status` with sudo".to_owned(),
        _ => format!("no sensor answers on this host: {error}. `sensor run` starts one"),
    });
    let parsed = answer.and_then(|text| {
        let status =
            serde_json::from_str::<Value>(&text).map_err(|error| format!("its answer is malformed: {error}"))?;
        Ok((text, status))
    });
    let (text, status) = match parsed {
        Ok(both) => both,
        Err(error) => {
            eprintln!("sensor: {error}");
            return ExitCode::from(2);
        }
    };
    let text = if args.format == Format::Json { text } else { human(&status) };
    // A closed pipe ends the output, not the answer.
    let _ = std::io::stdout().write_all(text.as_bytes());
    let degraded = status["degraded"].as_array().is_none_or(|reasons| !reasons.is_empty());
    if degraded && !args.alive { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn human(status: &Value) -> String {
    let word = |value: &Value| match value {
        Value::String(text) => escape::terminal(text.as_bytes()),
        Value::Null => "none".to_owned(),
        other => other.to_string(),
    };
    let mut text = format!(
        "sensor {} runs as pid {} since {} s\n",
        word(&status["version"]),
        word(&status["pid"]),
        word(&status["uptime_s"])
    );
    if status["degraded"].as_array().is_some_and(Vec::is_empty) {
        text.push_str("every required hook is attached\n");
    }
    for reason in status["degraded"].as_array().into_iter().flatten() {
        text.push_str(&format!("degraded: {}\n", word(reason)));
    }
    text.push_str("\nhooks\n");
    for hook in status["plan"]["hooks"].as_array().into_iter().flatten() {
        text.push_str(&format!("  {:16}{}\n", word(&hook["event"]), word(&hook["rung"])));
    }
    for (title, key) in [("counts", "counts"), ("losses", "losses")] {
        let Some(entries) = status[key].as_object().filter(|entries| !entries.is_empty()) else { continue };
        text.push_str(&format!("\n{title}\n"));
        for (name, value) in entries {
            text.push_str(&format!("  {:24}{}\n", word(&Value::String(name.clone())), word(value)));
        }
    }
    text
}
