//! `sensor run`: watch this host.

mod backlog;
mod daemon;
mod looks;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use rustix::thread::CapabilitySet;
use tracing_subscriber::EnvFilter;

use crate::config::options::Mode;
use crate::config::settings::{Flags, Settings};
use crate::health::{Instance, ReadyFile};
use crate::heap;
use crate::policy::Policy;
use crate::sink::Shape;
use crate::watch::load::Reading;
use crate::watch::load::plan::BestRung;

/// Watch this host: report what processes do after they loaded a model
///
/// Alerts go to standard output (or where the configuration says), logs to standard error (`RUST_LOG=debug` for more).
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sudo sensor run                                  alerts for a person, on the terminal
  sudo sensor run --output jsonl                   one JSON object per line (schemas/alert.schema.json)
  sudo sensor run --config my.toml --rules rules/  other settings, more rules

Configuration: flag, then environment (SENSOR_SECTION__KEY, values as in TOML: SENSOR_RULES='[\"/etc/sensor/rules\"]'),
then file (/etc/sensor/sensor.toml; deploy/sensor.toml explains every key), then default.

SIGTERM, SIGINT and SIGHUP end it after what is queued was written. New rules need a restart.

Exit status: 0 ended by SIGTERM, 130 by SIGINT, 129 by SIGHUP, 2 if it could not start.")]
pub struct Args {
    /// Configuration file instead of /etc/sensor/sensor.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of rule files, added to the embedded ones; may be repeated
    #[arg(long, value_name = "DIR")]
    rules: Vec<PathBuf>,
    /// Only report, or also prevent
    #[arg(long, value_enum)]
    mode: Option<ModeArg>,
    /// What alerts on standard output look like [default: human on a terminal, else jsonl]
    #[arg(long, value_enum)]
    output: Option<OutputArg>,
    /// File that appears once every hook is attached, and goes at exit
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// Leave better rungs of the attach ladder out, as on a host that refuses them
    #[arg(long, hide = true, default_value = "lsm")]
    best_rung: BestRung,
    /// Most processes that can be marked at once, instead of one for every pid
    #[arg(long, hide = true)]
    marks_max: Option<u32>,
    /// Where marks and links are kept over a restart
    #[arg(long, hide = true, value_name = "DIR", default_value = PIN_DIR)]
    pin_dir: PathBuf,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum ModeArg {
    Observe,
    Enforce,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum OutputArg {
    Human,
    Jsonl,
}

/// A folder of the BPF file system: every host's systemd mounts it.
pub const PIN_DIR: &str = "/sys/fs/bpf/sensor";

/// The exit status of a job that could not be done.
const FAILED: u8 = 2;

pub fn run(args: Args) -> ExitCode {
    let filter = EnvFilter::try_from_env("RUST_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_target(false).with_ansi(colour);
    log.with_writer(std::io::stderr).init();
    match start(args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("sensor: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

fn start(args: Args) -> anyhow::Result<ExitCode> {
    heap::share();
    let reading = Reading::begin()?;
    let flags = Flags {
        config: args.config,
        rules: args.rules,
        mode: args.mode.map(|mode| match mode {
            ModeArg::Observe => Mode::Observe,
            ModeArg::Enforce => Mode::Enforce,
        }),
        output: args.output.map(|output| match output {
            OutputArg::Human => Shape::Human,
            OutputArg::Jsonl => Shape::Native,
        }),
    };
    let (settings, warnings) = Settings::load(&flags, std::env::vars_os())?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let policy = Arc::new(Policy::load(&settings.rules, settings.network.clone())?);
    require_privilege()?;
    let instance = Instance::acquire()?;
    let ready = args.ready_file.as_deref().map(ReadyFile::claim).transpose()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let Args { best_rung, marks_max, pin_dir, .. } = args;
    let setup = daemon::Setup { reading, settings, policy, instance, ready, best_rung, marks_max, pin_dir };
    runtime.block_on(daemon::run(setup))
}

/// One sentence now instead of the kernel's EPERM later.
fn require_privilege() -> anyhow::Result<()> {
    let held = rustix::thread::capabilities(None)?.effective;
    let needed = CapabilitySet::BPF | CapabilitySet::PERFMON | CapabilitySet::NET_ADMIN;
    anyhow::ensure!(
        held.contains(CapabilitySet::SYS_ADMIN) || held.contains(needed),
        "the kernel programs need root, or CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN: run it with sudo"
    );
    Ok(())
}
