//! `cargo xtask demo`: a booby-trapped checkpoint is scanned, loaded, and caught; everything in it is real.

mod stage;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::tool::{as_root, cargo, found, is_root, root, run as run_command, target};
use stage::{LISTENER, PORT, Stage};

/// Load a booby-trapped checkpoint, and see what the sensor says
///
/// Writes a checkpoint whose pickle starts a shell and connects out, scans it, starts the sensor, and loads the
/// checkpoint with Python. The connection goes to a listener on a documentation address (203.0.113.0/24) in a network
/// namespace of the demo's own; nothing leaves the machine, and nothing is left behind. Needs Rust, a C linker,
/// Python 3, iproute2 and root (for the kernel programs; sudo is used where you aren't root). Exits 0 only if the
/// alerts came.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// A sensor that is built already
    #[arg(long, value_name = "FILE")]
    sensor: Option<PathBuf>,
}

/// Every hook is attached within this time; the goal is half a second, an emulated machine takes longer.
const START_LIMIT: Duration = Duration::from_secs(90);
const ALERTS_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);
const LOADER: &str = "read -r go && exec python3 -I \"$0\" \"$1\"";

pub fn run(options: &Options) -> Result<()> {
    for (program, package) in [("python3", "python3"), ("ip", "iproute2"), ("unshare", "util-linux")] {
        if !found(program) {
            bail!("{program} is missing: install {package}, or run `cargo xtask setup --for test`");
        }
    }
    let sensor = match &options.sensor {
        Some(sensor) => sensor.clone(),
        None => build()?,
    };
    if is_root() {
        return play(&sensor);
    }
    if !found("sudo") {
        bail!("loading kernel programs needs root, and there is no sudo: run `cargo xtask demo` as root");
    }
    println!("Loading kernel programs needs root: sudo may ask for your password.");
    run_command(as_root(std::env::current_exe()?).args(["demo", "--sensor"]).arg(&sensor))
}

fn build() -> Result<PathBuf> {
    println!("Building the sensor; the first time takes a minute or two.");
    run_command(cargo().args(["build", "--quiet", "--workspace", "--locked", "--bin", "sensor"]).current_dir(root()))?;
    Ok(target().join("debug/sensor"))
}

fn play(sensor: &Path) -> Result<()> {
    let mut stage = Stage::new()?;
    let checkpoint = stage.folder.join("resnet-tiny.pt");
    let write = stage.write("checkpoint.py", include_str!("checkpoint.py"))?;
    run_command(Command::new("python3").arg("-I").arg(write).arg(&checkpoint).args([LISTENER, PORT]))?;

    title("The checkpoint, before anything loads it");
    command(&format!("sensor scan {}", checkpoint.display()));
    let scan = Command::new(sensor).arg("scan").arg(&checkpoint).status().context("sensor scan")?;
    if scan.code() != Some(1) {
        bail!("`sensor scan` should have found the checkpoint malicious (status 1), and ended with {scan}");
    }

    title("The sensor starts");
    command("sensor run");
    let (daemon, words) = start(&mut stage, sensor)?;

    title("Python loads the checkpoint");
    command(&format!("python3 -c 'pickle.load(open(\"{}\", \"rb\"))'", checkpoint.display()));
    load(&mut stage, &checkpoint)?;

    title("What the sensor says");
    let came = alerts(&stage.folder.join("alerts.jsonl"), &checkpoint)?;
    stop(&mut stage, daemon)?;
    show(words, &checkpoint)?;

    title("What came of it");
    let mut missing = false;
    for (what, came) in &came {
        println!("  {}  {what}", if *came { "seen   " } else { "MISSING" });
        missing |= !came;
    }
    if missing {
        bail!("not every alert came");
    }
    Ok(())
}

/// Prints the alerts about the checkpoint. What else this machine does is no part of the demo, but is not hidden either.
fn show(words: Receiver<String>, checkpoint: &Path) -> Result<()> {
    let text = words.into_iter().collect::<Vec<_>>().join("\n");
    let path = checkpoint.display().to_string();
    let (ours, others): (Vec<&str>, Vec<&str>) = text
        .split("\n\n")
        .map(str::trim_end)
        .filter(|alert| !alert.is_empty())
        .partition(|alert| alert.contains(&path));
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", ours.join("\n\n"))?;
    if !others.is_empty() {
        writeln!(out, "\n({} more, about other processes of this machine)", others.len())?;
    }
    Ok(())
}

fn title(text: &str) {
    println!("\n=== {text}");
}

fn command(text: &str) {
    println!("$ {text}");
}

/// Starts the sensor: what a person reads on its standard output, and the same alerts as JSON in a file.
fn start(stage: &mut Stage, sensor: &Path) -> Result<(Child, Receiver<String>)> {
    let file = Value::from(stage.folder.join("alerts.jsonl").display().to_string());
    let config = stage.write("sensor.toml", &format!("[[sink]]\ntype = \"file\"\npath = {file}\n"))?;
    let ready = stage.folder.join("ready");
    let started = Instant::now();
    let mut command = Command::new(sensor);
    // The configuration is the demo's alone.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"SENSOR_")) {
        command.env_remove(name);
    }
    let mut daemon = stage.start(
        command
            .args(["run", "--output", "human", "--config"])
            .arg(&config)
            .arg("--ready-file")
            .arg(&ready)
            .stdin(Stdio::null())
            .stdout(Stdio::piped()),
    )?;
    let words = lines(daemon.stdout.take());
    while !ready.exists() {
        if let Some(status) = daemon.try_wait()? {
            bail!(
                "the sensor ended with {status}; its reason stands above (`sensor doctor` says what this host allows)"
            );
        }
        if started.elapsed() > START_LIMIT {
            bail!("the sensor was not ready after {} s", START_LIMIT.as_secs());
        }
        sleep(POLL);
    }
    println!("ready after {} ms", started.elapsed().as_millis());
    Ok((daemon, words))
}

/// A child's lines, read as they come so that it never waits for us.
fn lines(output: Option<ChildStdout>) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in output.into_iter().flat_map(|output| BufReader::new(output).lines()).map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// Loads the checkpoint in one namespace while a listener waits in another.
fn load(stage: &mut Stage, checkpoint: &Path) -> Result<()> {
    let listen = stage.write("listener.py", include_str!("listener.py"))?.display().to_string();
    let load = stage.write("loader.py", include_str!("loader.py"))?.display().to_string();
    let mut listener = stage.apart(&["python3", "-I", &listen, LISTENER, PORT])?;
    let mut loader = stage.apart(&["sh", "-c", LOADER, &load, &checkpoint.display().to_string()])?;
    stage.connect(&listener, &loader)?;

    let heard = lines(listener.stdout.take());
    let mut gate = listener.stdin.take().context("no standard input")?;
    writeln!(gate)?;
    if heard.recv_timeout(START_LIMIT).as_deref() != Ok("ready") {
        bail!("the listener did not start");
    }
    let told = lines(loader.stdout.take());
    writeln!(loader.stdin.take().context("no standard input")?)?;
    let status = stage.wait(loader)?;
    for line in told {
        println!("{line}");
    }
    // The listener ends with its input.
    drop(gate);
    stage.wait(listener)?;
    let heard: Vec<String> = heard.into_iter().collect();
    for line in &heard {
        println!("{line}");
    }
    if !status.success() || heard.is_empty() {
        bail!("the checkpoint was not loaded, or its connection did not arrive ({status})");
    }
    Ok(())
}

/// Waits for the alerts; says for each whether it came.
fn alerts(file: &Path, checkpoint: &Path) -> Result<Vec<(&'static str, bool)>> {
    let started = Instant::now();
    loop {
        let text = fs::read_to_string(file).unwrap_or_default();
        let all: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let came = judge(&all, checkpoint);
        if came.iter().all(|(_, came)| *came) || started.elapsed() > ALERTS_LIMIT {
            return Ok(came);
        }
        sleep(POLL);
    }
}

/// What has to be among the alerts, all of it about this very checkpoint and loud.
fn judge(alerts: &[Value], checkpoint: &Path) -> Vec<(&'static str, bool)> {
    let path = checkpoint.display().to_string();
    let any = |kind: &str, fits: &dyn Fn(&Value) -> bool| {
        alerts.iter().any(|alert| {
            alert["event"]["kind"] == kind
                && alert["model"]["path"] == path.as_str()
                && alert["model"]["verdict"] == "malicious"
                && matches!(alert["severity"].as_str(), Some("high" | "critical"))
                && fits(&alert["event"])
        })
    };
    let port: u64 = PORT.parse().unwrap_or_default();
    vec![
        ("a malicious model was opened", any("model_open", &|_| true)),
        ("a shell was started by the load", any("exec", &|event| event["in_load"] == true)),
        (
            "a connection to 203.0.113.80 was made by the load",
            any("connect", &|event| event["ip"] == LISTENER && event["port"] == port && event["in_load"] == true),
        ),
    ]
}

/// Everything queued is printed at SIGTERM, and the status is 0.
fn stop(stage: &mut Stage, daemon: Child) -> Result<()> {
    let pid = i32::try_from(daemon.id()).ok().and_then(Pid::from_raw).context("no pid")?;
    kill_process(pid, Signal::TERM)?;
    let status = stage.wait(daemon)?;
    if !status.success() {
        bail!("the sensor ended with {status} at SIGTERM");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_loud_alerts_about_this_checkpoint_count() {
        let alert = |path: &str, severity: &str| {
            json!({ "severity": severity, "event": { "kind": "exec", "in_load": true },
                    "model": { "path": path, "verdict": "malicious" } })
        };
        let came = |alert: Value| judge(&[alert], Path::new("/a.pt"))[1].1;
        assert!(came(alert("/a.pt", "critical")));
        assert!(!came(alert("/b.pt", "critical")));
        assert!(!came(alert("/a.pt", "low")));
    }

    #[test]
    fn the_listener_is_at_the_address_that_is_announced() {
        assert!(judge(&[], Path::new("/"))[2].0.contains(LISTENER));
    }
}
