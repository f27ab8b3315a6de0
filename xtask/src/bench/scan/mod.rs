//! `cargo xtask bench scan`: the scanner beside its peers: what is found, what is flagged for nothing, and what it costs.
//!
//! Everything is measured in one run on this machine; a figure by itself says little, its ratio to the baseline beside it
//! does. Peers run in environments of their own below target/, without a network.

mod peer;
mod speed;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::tool::target;
use peer::{Judged, PEERS, Sample};

/// The scanner beside its peers: recall, false positives, time, memory
///
/// The static release build. Corpora are folders with `malicious/manifest.csv` and `benign/manifest.csv`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask bench scan --corpus ../corpus\n  cargo xtask bench scan --only-speed --no-peers"
)]
pub struct Options {
    /// A corpus; the variable SENSOR_CORPUS where it isn't given
    #[arg(long, value_name = "DIR", env = "SENSOR_CORPUS")]
    corpus: Option<PathBuf>,
    /// Leave picklescan, modelscan, fickling and modelaudit out
    #[arg(long)]
    no_peers: bool,
    /// Only what it costs
    #[arg(long)]
    only_speed: bool,
    /// A sensor that is built already
    #[arg(long, value_name = "FILE")]
    sensor: Option<PathBuf>,
    /// Write the figures to a file as well
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub fn run(options: &Options) -> Result<()> {
    let sensor = super::sensor(options.sensor.as_deref())?;
    let peers: Vec<peer::Peer> = if options.no_peers {
        Vec::new()
    } else {
        PEERS.iter().map(|name| peer::Peer::get(name)).collect::<Result<_>>()?
    };
    let mut figures = serde_json::Map::new();
    if !options.only_speed {
        let Some(corpus) = &options.corpus else { bail!("which corpus? --corpus DIR, or SENSOR_CORPUS") };
        figures.insert("judgement".into(), judgement(&sensor, &peers, corpus)?);
    }
    figures.insert("speed".into(), speed::measure(&sensor, &peers)?);
    if let Some(file) = &options.json {
        let text = json!({ "schema": "sensor.bench-scan/1", "figures": figures }).to_string();
        fs::write(file, text).with_context(|| file.display().to_string())?;
    }
    Ok(())
}

/// Recall, false positives and time per file, over one corpus.
fn judgement(sensor: &Path, peers: &[peer::Peer], corpus: &Path) -> Result<serde_json::Value> {
    let samples = peer::samples(corpus)?;
    println!("\n{} samples of {}", samples.len(), corpus.display());
    println!("{:12} {:>9} {:>11} {:>9} {:>13} {:>12}", "", "recall", "malicious¹", "flagged²", "median", "failed³");
    let mut rows = vec![("sensor".to_owned(), peer::ours(sensor, &samples)?)];
    for peer in peers {
        rows.push((peer.name.to_owned(), peer.judge(&samples)?));
    }
    let mut figures = serde_json::Map::new();
    for (name, judged) in rows {
        figures.insert(name.clone(), row(&name, &samples, &judged));
    }
    println!("¹ of those expected malicious, judged so  ² benign ones, code left out  ³ crash, time-out, unscannable");
    Ok(figures.into())
}

fn row(name: &str, samples: &[Sample], judged: &[Judged]) -> serde_json::Value {
    let share = |of: &dyn Fn(&Sample) -> bool, hit: &dyn Fn(&Judged) -> bool| {
        let chosen: Vec<&Judged> =
            samples.iter().zip(judged).filter(|(sample, _)| of(sample)).map(|(_, j)| j).collect();
        let hits = chosen.iter().filter(|judged| hit(judged)).count();
        100.0 * hits as f64 / chosen.len().max(1) as f64
    };
    let recall = share(&|sample| sample.malicious, &|judged| judged.flagged);
    let certain = share(&|sample| sample.malicious && sample.expected == "malicious", &|judged| judged.malicious);
    let false_positives = share(&|sample| !sample.malicious && sample.kind != "code", &|judged| judged.flagged);
    let failed = judged.iter().filter(|judged| judged.failed).count();
    let mut seconds: Vec<f64> = judged.iter().map(|judged| judged.seconds).collect();
    seconds.sort_by(f64::total_cmp);
    let median_ms = seconds.get(seconds.len() / 2).copied().unwrap_or_default() * 1e3;
    println!("{name:12} {recall:>8.1}% {certain:>10.1}% {false_positives:>8.1}% {median_ms:>10.3} ms {failed:>12}");
    json!({ "recall": recall, "malicious": certain, "false_positives": false_positives, "median_ms": median_ms, "failed": failed })
}

/// Where peers and large samples are.
fn folder() -> PathBuf {
    target().join("bench-scan")
}
