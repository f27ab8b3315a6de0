//! `sensor doctor`: what this host can see and prevent, and why not more.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;

use super::Format;
use super::run::PIN_DIR;
use crate::escape;
use crate::watch::load::pin::Pins;
use crate::watch::load::plan::{BestRung, Hook, Plan, RungState};
use crate::watch::load::{Kernel, LoadError, Reading, Tables, Wishes};
use crate::worker::pool::Confinements;

/// What this host can see and prevent, and why not more
///
/// Loads and attaches every program for a moment, lets each prove itself, and detaches them again. A sensor that runs
/// meanwhile is not disturbed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sensor doctor                  what is seen here, and what is lost and why
  sensor doctor --format json    the same, for machines (schemas/doctor.schema.json)

Exit status: 0, or 2 if nothing can be attached.")]
pub struct Args {
    /// How to say it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Leave better rungs of the attach ladder out, as on a host that refuses them
    #[arg(long, hide = true, default_value = "lsm")]
    best_rung: BestRung,
    /// Where marks and links would be kept
    #[arg(long, hide = true, value_name = "DIR", default_value = PIN_DIR)]
    pin_dir: PathBuf,
}

/// What no host sees with this version.
const NOT_COVERED: &[&str] = &[
    "loads without a file (a pickle from the network, a pipe or memory): not covered yet",
    "what a loader makes a model of itself, out of bytes that no reader knows, such as encrypted ones",
    "models that are called like text, source, pictures or tables (rules/formats.toml), and, where no CPython opens them, by \
     names that say nothing, wherever they lie (`/mnt/models` too)",
    "files that say nothing by their names, while their cgroup opens more of those in a second than are looked at (a quarter \
     of limits.candidates_per_s; alert: unknown_name_rate)",
    "what was in a file that says nothing by its name, and that its loader removes before it is read",
    "code that comes with a model and is imported from elsewhere than the hubs' caches (`transformers_modules`, `torch/hub`), \
     or from a volume that is mounted as such a folder itself",
    "what a process that was there before the load does for a loader, asked over a pipe or shared memory",
    "names that were resolved before the load, or by another process, and the length of datagrams on unconnected sockets",
    "what leaves by TCP connections that the process had before the load",
];

/// What this version prevents.
const PREVENTION: &str = "nothing: this version observes";

#[derive(Debug, Serialize)]
struct Report<'a> {
    schema: &'static str,
    version: &'static str,
    kernel: String,
    /// What kept every program out; null where something attached.
    error: Option<String>,
    /// Which rungs run here, for hooks on the kernel's security functions.
    ladder: &'a [RungState],
    hooks: &'a [Hook],
    /// How the children that read hostile bytes are locked in.
    confinement: Vec<String>,
    /// What is lost when the sensor ends or is killed; empty where marks and attachments outlive it.
    not_kept: &'a [String],
    not_covered: &'a [&'static str],
    prevention: &'static str,
}

pub fn run(args: Args) -> ExitCode {
    let wishes = Wishes { best_rung: args.best_rung, ..Wishes::default() };
    let loaded = Reading::begin()
        .and_then(|reading| Kernel::load(reading, wishes, &Tables::default(), Pins::probe(&args.pin_dir)));
    let (plan, error) = match loaded {
        Ok((_kernel, _rings, _own_opens, plan)) => (plan, None),
        Err(LoadError::Nothing(plan)) => {
            let error = LoadError::Nothing(plan.clone()).to_string();
            (plan, Some(error))
        }
        Err(error) => (Plan::default(), Some(format!("{:#}", anyhow::Error::from(error)))),
    };
    let nothing = error.is_some();
    let report = Report {
        schema: "sensor.doctor/1",
        version: env!("CARGO_PKG_VERSION"),
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        error,
        ladder: &plan.ladder,
        hooks: &plan.hooks,
        confinement: confinement(),
        not_kept: &plan.not_kept,
        not_covered: NOT_COVERED,
        prevention: PREVENTION,
    };
    let text = match args.format {
        Format::Human => human(&report),
        Format::Json => serde_json::to_string(&report).unwrap_or_default() + "\n",
    };
    // A closed pipe ends the output, not the answer.
    let _ = std::io::stdout().write_all(text.as_bytes());
    if nothing { ExitCode::from(2) } else { ExitCode::SUCCESS }
}

fn confinement() -> Vec<String> {
    let probed =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string()).and_then(
            |runtime| {
                let probe = Confinements::probe(Path::new("/proc/self/exe"));
                runtime.block_on(probe).map_err(|error| error.to_string())
            },
        );
    match probed {
        Ok(both) => both.words(),
        Err(error) => vec![format!("the children can't be started, so no file is looked at: {error}")],
    }
}

fn human(report: &Report<'_>) -> String {
    let mut text = format!("sensor {} on Linux {}\n\n", report.version, escape::terminal(report.kernel.as_bytes()));
    if let Some(error) = &report.error {
        text.push_str(&format!("Nothing can be attached: {error}\n\n"));
    }
    if !report.hooks.is_empty() {
        let attached = report.hooks.iter().filter(|hook| hook.rung.is_some()).count();
        let missing = report.hooks.iter().filter(|hook| hook.required && hook.rung.is_none()).count();
        let losses = report.hooks.iter().filter(|hook| !hook.lost.is_empty()).count();
        let required =
            if missing == 0 { "every required one".to_owned() } else { format!("{missing} required ones not") };
        text.push_str(&format!("{attached} of {} hooks can be attached, {required}; ", report.hooks.len()));
        text.push_str(&format!("{losses} of them see less than they could (\"lost\").\n\n"));
    }
    for state in report.ladder {
        let says = state.why_not.as_ref().map_or("runs here".to_owned(), |why| format!("not here: {why}"));
        text.push_str(&format!("rung {:12}{}\n", state.rung.name(), escape::terminal(says.as_bytes())));
    }
    if !report.ladder.is_empty() {
        text.push('\n');
    }
    for hook in report.hooks {
        let rung = hook.rung.map_or("none", |rung| rung.name());
        let proven = if hook.proven { "seen to run" } else { "" };
        text.push_str(format!("{:18}{rung:12}{proven}", hook.event).trim_end());
        text.push('\n');
        for why in &hook.why_not_better {
            text.push_str(&format!("    not better: {}\n", escape::terminal(why.as_bytes())));
        }
        if !hook.lost.is_empty() {
            text.push_str(&format!("    lost: {}\n", hook.lost));
        }
    }
    text.push_str("\nChildren that read hostile bytes:\n");
    for line in &report.confinement {
        text.push_str(&format!("    {}\n", escape::terminal(line.as_bytes())));
    }
    if report.error.is_none() || !report.not_kept.is_empty() {
        text.push_str("\nOver a restart, an upgrade or kill -9 of the sensor:\n");
    }
    for line in report.not_kept {
        text.push_str(&format!("    lost: {}\n", escape::terminal(line.as_bytes())));
    }
    if report.error.is_none() && report.not_kept.is_empty() {
        text.push_str("    marks are kept, and passed on meanwhile\n");
    }
    text.push_str("\nOn every host:\n");
    for line in report.not_covered {
        text.push_str(&format!("    {line}\n"));
    }
    text.push_str(&format!("\nPrevents: {}\n", report.prevention));
    text
}
