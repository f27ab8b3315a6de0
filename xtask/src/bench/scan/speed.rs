//! What a scan costs: start, opcodes, a large torch file, a folder, memory; each beside a baseline of the same run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::folder;
use super::peer::{Peer, alone};
use crate::tool::{is_root, output, run};

const SAMPLES_PY: &str = include_str!("samples.py");
const PICKLE_BYTES: u64 = 50_000_000;
const ZIP_BYTES: u64 = 1 << 30;
const START_RUNS: usize = 200;
const PEER_RUNS: usize = 5;
const LARGE_RUNS: usize = 5;
const FOLDER_FILES: usize = 2_000;
/// `os.system("true")`, protocol 2.
const SMALL: &[u8] = b"\x80\x02cposix\nsystem\nq\x00X\x04\x00\x00\x00trueq\x01\x85q\x02Rq\x03.";
/// `{"a": 1}`, protocol 2.
const HARMLESS: &[u8] = b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01K\x01s.";
/// Prints the peak of the memory of what it runs, KiB.
const PEAK_PY: &str = "import resource,subprocess,sys; subprocess.run(sys.argv[1:],stdout=subprocess.DEVNULL,\
    stderr=subprocess.DEVNULL); print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)";

pub fn measure(sensor: &Path, peers: &[Peer]) -> Result<Value> {
    let folder = folder().join("samples");
    fs::create_dir_all(&folder)?;
    let mut figures = serde_json::Map::new();
    figures.insert("start".into(), start(sensor, peers, &folder)?);
    let counts = samples(&folder)?;
    figures.insert("opcodes".into(), opcodes(sensor, peers, &folder, &counts)?);
    figures.insert("torch_zip".into(), torch_zip(sensor, peers, &folder)?);
    figures.insert("folder".into(), many(sensor, peers, &folder)?);
    fs::remove_dir_all(&folder)?;
    Ok(figures.into())
}

/// Milliseconds from start to exit, sorted.
fn timed(runs: usize, mut command: impl FnMut() -> Command) -> Result<Vec<f64>> {
    let mut times = Vec::with_capacity(runs);
    for _ in 0..runs {
        let mut command = command();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let started = Instant::now();
        command.status().with_context(|| crate::tool::line(&command))?;
        times.push(started.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

fn median(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn scan(sensor: &Path, path: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(sensor);
    command.arg("scan").args(more).arg(path);
    command
}

fn start(sensor: &Path, peers: &[Peer], folder: &Path) -> Result<Value> {
    let small = folder.join("start.pkl");
    fs::write(&small, SMALL)?;
    println!("\nFrom start to exit, a small file (median of {START_RUNS} runs; peers of {PEER_RUNS})");
    let base = median(&timed(START_RUNS, || Command::new("/bin/true"))?);
    let ours = median(&timed(START_RUNS, || scan(sensor, &small, &[]))?);
    println!("  /bin/true {base:.2} ms, sensor {ours:.2} ms: {:.1} times as long", ours / base);
    let mut figures =
        serde_json::Map::from_iter([("true_ms".to_owned(), json!(base)), ("sensor_ms".to_owned(), json!(ours))]);
    for peer in peers {
        let time = median(&timed(PEER_RUNS, || peer_scan(peer, &small))?);
        println!("  {} {time:.0} ms: {:.0} times as long as ours", peer.name, time / ours);
        figures.insert(peer.name.to_owned(), json!(time));
    }
    Ok(figures.into())
}

/// A peer's command line over one path.
fn peer_scan(peer: &Peer, path: &Path) -> Command {
    let mut command = alone(&peer.program());
    command.env("PROMPTFOO_DISABLE_TELEMETRY", "1").env("DO_NOT_TRACK", "1");
    match peer.name {
        "picklescan" | "modelscan" => command.arg("-p"),
        "modelaudit" => command.arg("scan"),
        _ => command.arg("--check-safety"),
    };
    command.arg(path);
    command
}

/// `(bytes, opcodes)` of big.pkl and small.pkl.
fn samples(folder: &Path) -> Result<[(u64, u64); 2]> {
    println!("\nWriting a pickle of {} MB and a torch file of 1 GiB.", PICKLE_BYTES / 1_000_000);
    let mut command = Command::new("python3");
    command.args(["-c", SAMPLES_PY]).arg(folder).args([PICKLE_BYTES.to_string(), ZIP_BYTES.to_string()]);
    let text = output(&mut command)?;
    let mut counts = [(0, 0); 2];
    for (line, count) in text.lines().zip(&mut counts) {
        let mut words = line.split(' ').skip(1).map(str::parse::<u64>);
        *count = (words.next().context("bytes")??, words.next().context("opcodes")??);
    }
    Ok(counts)
}

fn opcodes(sensor: &Path, peers: &[Peer], folder: &Path, counts: &[(u64, u64); 2]) -> Result<Value> {
    let [(bytes, large), (_, small)] = *counts;
    let base = median(&timed(LARGE_RUNS, || scan(sensor, &folder.join("start.pkl"), &[]))?);
    let ours = median(&timed(LARGE_RUNS, || scan(sensor, &folder.join("big.pkl"), &[]))?) - base;
    let each = ours * 1e6 / large as f64;
    println!("\nA pickle of {} MB, {large} opcodes (median of {LARGE_RUNS})", bytes / 1_000_000);
    println!("  sensor {ours:.0} ms, {each:.1} ns an opcode");
    let mut figures =
        serde_json::Map::from_iter([("opcodes".to_owned(), json!(large)), ("sensor_ns".to_owned(), json!(each))]);
    for peer in peers {
        let path = folder.join("small.pkl");
        let judged = peer.judge_paths(&[&path, &path])?;
        let Some(last) = judged.last() else { continue };
        let theirs = last.seconds * 1e9 / small as f64;
        let note = if last.failed { " (gave up)" } else { "" };
        println!("  {} {theirs:.0} ns an opcode, on a hundredth{note}: {:.0} times as long", peer.name, theirs / each);
        figures.insert(peer.name.to_owned(), json!(theirs));
    }
    let peak = peak_kib(&scan(sensor, &folder.join("big.pkl"), &[]))?;
    println!("  sensor's memory at most {:.1} MiB", peak / 1024.0);
    figures.insert("sensor_peak_kib".into(), json!(peak));
    Ok(figures.into())
}

fn torch_zip(sensor: &Path, peers: &[Peer], folder: &Path) -> Result<Value> {
    let model = folder.join("model.pt");
    println!("\nA torch file of 1 GiB, 300 members (median of {LARGE_RUNS})");
    if is_root() {
        run(Command::new("sync").stdout(Stdio::null()))?;
        fs::write("/proc/sys/vm/drop_caches", "3")?;
        let cold = median(&timed(1, || scan(sensor, &model, &[]))?);
        println!("  sensor, cold cache {cold:.1} ms (one run)");
    }
    // Warm from here on.
    let openssl = || {
        let mut command = Command::new("openssl");
        command.args(["dgst", "-sha256"]).arg(&model);
        command
    };
    timed(1, openssl)?;
    let plain = median(&timed(LARGE_RUNS, || scan(sensor, &model, &[]))?);
    let base = median(&timed(LARGE_RUNS, openssl)?);
    let hashed = median(&timed(LARGE_RUNS, || scan(sensor, &model, &["--hash"]))?);
    println!("  sensor {plain:.1} ms");
    println!("  openssl dgst -sha256 {base:.0} ms, sensor --hash {hashed:.0} ms: {:.2} times as long", hashed / base);
    let peak = peak_kib(&scan(sensor, &model, &[]))?;
    println!("  sensor's memory at most {:.1} MiB", peak / 1024.0);
    let mut figures = serde_json::Map::from_iter([
        ("sensor_ms".to_owned(), json!(plain)),
        ("sensor_hash_ms".to_owned(), json!(hashed)),
        ("openssl_ms".to_owned(), json!(base)),
        ("sensor_peak_kib".to_owned(), json!(peak)),
    ]);
    for peer in peers {
        let judged = peer.judge_paths(&[&model])?;
        let Some(judged) = judged.first() else { continue };
        let note = if judged.failed { " (gave up)" } else { "" };
        println!("  {} {:.0} ms{note}", peer.name, judged.seconds * 1e3);
        figures.insert(peer.name.to_owned(), json!(judged.seconds * 1e3));
    }
    Ok(figures.into())
}

fn many(sensor: &Path, peers: &[Peer], folder: &Path) -> Result<Value> {
    let models = folder.join("many");
    fs::create_dir_all(&models)?;
    let paths: Vec<PathBuf> = (0..FOLDER_FILES).map(|index| models.join(format!("{index:04}.pkl"))).collect();
    for path in &paths {
        fs::write(path, HARMLESS)?;
    }
    let ours = median(&timed(LARGE_RUNS, || scan(sensor, &models, &[]))?);
    println!("\nA folder of {FOLDER_FILES} files (median of {LARGE_RUNS})\n  sensor {ours:.0} ms");
    let mut figures = serde_json::Map::from_iter([("sensor_ms".to_owned(), json!(ours))]);
    for peer in peers {
        let time = median(&timed(1, || peer_scan(peer, &models))?);
        println!("  {} {time:.0} ms: {:.0} times as long", peer.name, time / ours);
        figures.insert(peer.name.to_owned(), json!(time));
    }
    Ok(figures.into())
}

fn peak_kib(command: &Command) -> Result<f64> {
    let mut wrapped = Command::new("python3");
    wrapped.args(["-c", PEAK_PY]).arg(command.get_program()).args(command.get_args());
    output(&mut wrapped)?.parse().context("a number of KiB")
}
