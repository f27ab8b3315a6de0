//! `cargo xtask test`: everything that has to hold, part by part.
//!
//! A part that can't run on this machine says so and counts as skipped; with the variable CI set it is a failure, so
//! that nothing is ever green because it was not looked at.

mod part;

use std::ffi::OsString;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::tool::is_ci;

/// Run every test: formatting, lints, unit, command line, corpus, host runtime, virtual machine, deployment files
///
/// `cargo xtask setup` installs what the parts need; runtime parts need root and use sudo where you aren't.
/// SENSOR_CORPUS may name a folder of further samples. With CI set (to anything but empty, 0 or false), a part that
/// can't run is a failure.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask test\n  cargo xtask test lint unit\n  cargo xtask test --list")]
pub struct Options {
    /// Only these parts, in their usual order
    #[arg(value_name = "PART", value_parser = clap::builder::PossibleValuesParser::new(part::ALL.iter().map(|part| part.name)))]
    parts: Vec<String>,
    /// Say what there is and do nothing
    #[arg(long)]
    list: bool,
}

/// How a part that ran to its end came out.
enum Outcome {
    Passed,
    /// It could not run here, and this would help.
    Skipped(String),
}

/// What earlier parts found out for later ones.
#[derive(Debug, Default)]
struct Context {
    /// A kernel object that was rebuilt by other tools than the committed one: it is what gets tested then.
    object: Option<OsString>,
    /// Where `setup` put the published schemas of report formats.
    report_schemas: Option<OsString>,
    /// Programs that read reports.
    consumers: Option<OsString>,
}

pub fn run(options: &Options) -> Result<()> {
    if options.list {
        for part in part::ALL {
            println!("{:<8} {}", part.name, part.what);
        }
        return Ok(());
    }
    let mut context = Context::default();
    let mut rows = Vec::new();
    for part in part::ALL {
        if !options.parts.is_empty() && !options.parts.iter().any(|name| name == part.name) {
            continue;
        }
        println!("\n=== {}: {}", part.name, part.what);
        let started = Instant::now();
        let (word, note) = match (part.run)(&mut context) {
            Ok(Outcome::Passed) => ("passed", String::new()),
            Ok(Outcome::Skipped(why)) if is_ci() => ("FAILED", format!("can't run here, and CI is set: {why}")),
            Ok(Outcome::Skipped(why)) => ("SKIPPED", why),
            Err(error) => ("FAILED", format!("{error:#}")),
        };
        let took = started.elapsed();
        println!(
            "=== {}: {word} after {:.1} s{}{note}",
            part.name,
            took.as_secs_f32(),
            if note.is_empty() { "" } else { ": " }
        );
        rows.push(Row { name: part.name, word, took, note });
    }
    summarise(&rows)
}

struct Row {
    name: &'static str,
    word: &'static str,
    took: Duration,
    note: String,
}

fn summarise(rows: &[Row]) -> Result<()> {
    println!();
    for row in rows {
        let note = row.note.lines().next().unwrap_or_default();
        println!("{:<8} {:<8} {:>7.1} s  {note}", row.name, row.word, row.took.as_secs_f32());
    }
    let count = |word: &str| rows.iter().filter(|row| row.word == word).count();
    let (passed, failed, skipped) = (count("passed"), count("FAILED"), count("SKIPPED"));
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    if failed > 0 {
        bail!("not everything holds");
    }
    Ok(())
}
