//! `cargo xtask bench start`: what the sensor costs before it has anything to do.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{again_as_root, sensor};
use crate::tool::is_root;

/// From start to every hook attached; memory when idle, in the process and in the kernel's maps
///
/// The static release build, as `cargo xtask image` makes it. Needs root (sudo is used where you aren't).
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask bench start\n  cargo xtask bench start --runs 30 --json start.json")]
pub struct Options {
    /// How often to start it
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Write every single figure to a file as well
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// A sensor that is built already
    #[arg(long, value_name = "FILE")]
    sensor: Option<PathBuf>,
}

const START_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_micros(200);
/// What the start itself needed is given back to the kernel by then.
const IDLE_AFTER: Duration = Duration::from_secs(1);
const MIB: f64 = 1024.0 * 1024.0;

pub fn run(start: &Options) -> Result<()> {
    let sensor = sensor(start.sensor.as_deref())?;
    if !is_root() {
        return again_as_root(&["start", "--runs", &start.runs.to_string()], &sensor, start.json.as_deref());
    }
    let mut samples = Vec::new();
    for _ in 0..start.runs {
        samples.push(sample(&sensor)?);
    }
    report(&samples);
    if let Some(file) = &start.json {
        let all: Vec<Value> = samples.iter().map(Sample::json).collect();
        fs::write(file, json!({ "schema": "sensor.bench-start/1", "runs": all }).to_string())
            .with_context(|| file.display().to_string())?;
    }
    Ok(())
}

/// One start.
struct Sample {
    /// From exec to the ready file.
    ready: Duration,
    /// RssAnon of the daemon, bytes.
    anonymous: u64,
    /// RssAnon of the daemon and every child of it, bytes.
    anonymous_all: u64,
    /// What the kernel counts for the maps, bytes.
    maps: u64,
}

impl Sample {
    fn json(&self) -> Value {
        json!({ "ready_us": self.ready.as_micros() as u64, "rss_anon_bytes": self.anonymous,
                "rss_anon_with_children_bytes": self.anonymous_all, "maps_bytes": self.maps })
    }
}

fn sample(sensor: &Path) -> Result<Sample> {
    let folder = std::env::temp_dir().join(format!("sensor-bench-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let ready = folder.join("ready");
    let _ = fs::remove_file(&ready);
    let started = Instant::now();
    let mut daemon = Command::new(sensor)
        .args(["run", "--output", "jsonl", "--ready-file"])
        .arg(&ready)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| sensor.display().to_string())?;
    let sampled = measure(&mut daemon, &ready, started);
    if let Some(pid) = i32::try_from(daemon.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, if sampled.is_ok() { Signal::TERM } else { Signal::KILL });
    }
    let ended = daemon.wait()?;
    let _ = fs::remove_dir_all(&folder);
    let sampled = sampled?;
    if !ended.success() {
        bail!("the sensor ended with {ended} at SIGTERM");
    }
    Ok(sampled)
}

fn measure(daemon: &mut Child, ready: &Path, started: Instant) -> Result<Sample> {
    while !ready.exists() {
        if let Some(status) = daemon.try_wait()? {
            bail!("the sensor ended with {status}: `sensor run` by hand says why");
        }
        if started.elapsed() > START_LIMIT {
            bail!("the sensor was not ready after {} s", START_LIMIT.as_secs());
        }
        sleep(POLL);
    }
    let took = started.elapsed();
    sleep(IDLE_AFTER);
    let pid = daemon.id();
    let anonymous = anonymous(pid)?;
    let children = descendants(pid)?;
    let anonymous_all = anonymous + children.iter().filter_map(|&child| self::anonymous(child).ok()).sum::<u64>();
    Ok(Sample { ready: took, anonymous, anonymous_all, maps: maps(pid)? })
}

/// RssAnon of `/proc/PID/status` (proc_pid_status(5)), bytes.
fn anonymous(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = field(&text, "RssAnon:").context("/proc/PID/status has no RssAnon")?;
    Ok(kib * 1024)
}

/// Every process below one, by the `children` files (CONFIG_PROC_CHILDREN, in every distribution's kernel).
fn descendants(pid: u32) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    let mut queue = vec![pid];
    while let Some(pid) = queue.pop() {
        for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten() {
            let text = fs::read_to_string(task?.path().join("children")).unwrap_or_default();
            let children: Vec<u32> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
            found.extend(&children);
            queue.extend(children);
        }
    }
    Ok(found)
}

/// The memory of every BPF map that the process has a descriptor of, each map once: `memlock` of
/// `/proc/PID/fdinfo/N` (kernel/bpf/syscall.c: bpf_map_show_fdinfo), bytes.
fn maps(pid: u32) -> Result<u64> {
    let mut maps = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        let Ok(text) = fs::read_to_string(entry?.path()) else { continue };
        if let (Some(map), Some(memory), Some(_)) =
            (field(&text, "map_id:"), field(&text, "memlock:"), field(&text, "map_type:"))
        {
            maps.insert(map, memory);
        }
    }
    Ok(maps.values().sum())
}

/// The number after a name at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
}

fn report(samples: &[Sample]) {
    println!("{:<34} {:>10} {:>10} {:>10}   goal", format!("{} starts", samples.len()), "min", "median", "max");
    let row = |what: &str, goal: &str, of: &dyn Fn(&Sample) -> f64| {
        let mut figures: Vec<f64> = samples.iter().map(of).collect();
        figures.sort_by(f64::total_cmp);
        let (min, median, max) = (figures[0], median(&figures), figures[figures.len() - 1]);
        println!("{what:<34} {min:>10.1} {median:>10.1} {max:>10.1}   {goal}");
    };
    row("start to every hook attached, ms", "300", &|sample| sample.ready.as_secs_f64() * 1e3);
    row("anonymous memory idle, MiB", "20", &|sample| sample.anonymous as f64 / MIB);
    row("  with the workers, MiB", "", &|sample| sample.anonymous_all as f64 / MIB);
    row("kernel memory of the maps, MiB", "", &|sample| sample.maps as f64 / MIB);
}

/// Of sorted figures: the middle one, or the mean of the two in the middle.
fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) { (sorted[middle - 1] + sorted[middle]) / 2.0 } else { sorted[middle] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_the_number_after_its_name() {
        let text = "pos:\t0\nmap_type:\t1\nmemlock:\t4096\nmap_id:\t7\n";
        assert_eq!(field(text, "memlock:"), Some(4096));
        assert_eq!(field(text, "lock:"), None);
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(median(&[1.0, 2.0, 4.0, 9.0]), 3.0);
        assert_eq!(median(&[1.0, 2.0, 9.0]), 2.0);
    }

    #[test]
    fn our_own_children_are_found() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let found = descendants(std::process::id()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.contains(&child.id()));
    }
}
