//! `cargo xtask bench overhead`: what the sensor adds to the machine's work, in instructions.
//!
//! Instructions are counted by an emulated machine whose chance comes from a seed, so the figures of one build are the same
//! in every boot and on every host, and a change of a few percent is a change of the code. The guest's half is
//! `xtask/src/bin/overhead/`.

mod baseline;
mod figures;
mod machine;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::setup;
use crate::vm::arch::Arch;
use crate::vm::kernel::Kernel;
use baseline::Baseline;
use figures::Figures;
use machine::Programs;

/// What the sensor adds to every operation, and spends on an event, in instructions
///
/// An emulated machine with one CPU counts them: the same figures on every host, in every boot. Each rung is one boot, in
/// which all is measured without the sensor, beside it, and by a process that loaded a model.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask bench overhead\n  cargo xtask bench overhead --kernel 6.1 --json overhead.json\n  \
                  cargo xtask bench overhead --check\n  cargo xtask bench overhead --seed 2\n  cargo xtask bench overhead --accept 'the exec hook walks descriptors'"
)]
pub struct Options {
    /// Series of Debian's cloud kernel
    #[arg(long, default_value = setup::KERNEL)]
    kernel: String,
    /// Only this rung of the ladder
    #[arg(long, value_enum)]
    rung: Option<Rung>,
    /// Show which kernel programs ran in each operation of a process that carries nothing, and what they spent
    #[arg(long)]
    programs: bool,
    /// Write the figures to a file as well
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fail where a figure is more than 5 % above the committed one, or above its goal
    #[arg(long)]
    check: bool,
    /// Make these figures the committed ones; the reason stays beside them
    #[arg(long, value_name = "WHY", conflicts_with_all = ["check", "rung", "seed"])]
    accept: Option<String>,
    /// Another draw of what the machine draws by lot: free lists and hashes, which forks and execs depend on
    #[arg(long, value_name = "N", default_value_t = SEED)]
    seed: u32,
    /// A sensor that is built already (static)
    #[arg(long, value_name = "FILE")]
    sensor: Option<PathBuf>,
    /// Give a boot up after this long
    #[arg(long, value_name = "SECONDS", default_value_t = TIME_LIMIT_S)]
    time_limit: u64,
}

/// Boots that are still running then are given up.
const TIME_LIMIT_S: u64 = 480;
/// The committed figures' draw.
const SEED: u32 = 1;

/// Where the hooks are attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Rung {
    /// The best one.
    Lsm,
    /// What a locked-down host allows.
    Restricted,
}

impl Rung {
    pub const ALL: [Self; 2] = [Self::Lsm, Self::Restricted];

    pub fn name(self) -> &'static str {
        match self {
            Self::Lsm => "lsm",
            Self::Restricted => "restricted",
        }
    }

    /// What `sensor run` is told.
    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Lsm => &[],
            Self::Restricted => &["--best-rung", "tracepoint"],
        }
    }
}

/// Holds the best rung against the committed figures: a part of `cargo xtask test`.
pub fn check() -> Result<()> {
    run(&Options {
        kernel: setup::KERNEL.to_owned(),
        rung: Some(Rung::Lsm),
        programs: false,
        json: None,
        check: true,
        accept: None,
        seed: SEED,
        sensor: None,
        time_limit: TIME_LIMIT_S,
    })
}

pub fn run(options: &Options) -> Result<()> {
    if let Some(missing) = Arch::Amd64.missing() {
        bail!("{missing}");
    }
    let mut baseline = Baseline::read()?;
    if (options.check || options.accept.is_some()) && baseline.kernel != options.kernel {
        bail!("the committed figures are those of {}", baseline.kernel);
    }
    let programs = Programs::build(options.sensor.as_deref())?;
    let kernel = Kernel::get(&options.kernel)?;
    let limit = Duration::from_secs(options.time_limit);
    let mut all = Vec::new();
    for rung in Rung::ALL.into_iter().filter(|rung| options.rung.is_none_or(|only| only == *rung)) {
        let answer = machine::measure(&kernel, &programs, rung.flags(), options.seed, limit)?;
        let figures = Figures::new(&kernel.release, rung, answer)?;
        figures.print(&baseline);
        if options.programs {
            figures.print_programs();
        }
        all.push(figures);
    }
    if let Some(file) = &options.json {
        fs::write(file, figures::json(&all).to_string() + "\n")?;
    }
    if let Some(why) = &options.accept {
        return baseline.accept(&all, why);
    }
    if options.check {
        let wrong: Vec<String> = all.iter().flat_map(|figures| baseline.compare(figures)).collect();
        if !wrong.is_empty() {
            bail!(
                "{}\nA change that spends this on purpose edits the committed figures: `cargo xtask bench overhead \
                 --accept WHY`",
                wrong.join("\n")
            );
        }
    }
    Ok(())
}
