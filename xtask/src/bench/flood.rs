//! `cargo xtask bench flood`: does the sensor keep up with a loader that does nothing but act?
//!
//! What was done is what the generator counted; what the sensor says is the last count of each incident, and what its
//! `loss` alerts count. The two have to agree to the last one.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::{available_parallelism, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{again_as_root, sensor};
use crate::tool::is_root;

/// Datagrams of a process that loaded a model, each to another address: what was counted, lost, and what it took
///
/// The generator has a processor for itself where there are two, and a network namespace of its own. The static release
/// build, as `cargo xtask image` makes it. Needs root (sudo is used where you aren't), python3, `ip`, `unshare` and
/// `taskset`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask bench flood\n  cargo xtask bench flood --rate 50000 --seconds 10")]
pub struct Options {
    /// Events per second
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    rate: u32,
    /// For how long
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Write the figures to a file as well
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// A sensor that is built already
    #[arg(long, value_name = "FILE")]
    sensor: Option<PathBuf>,
}

const START_LIMIT: Duration = Duration::from_secs(30);
/// What waits in the daemon when the generator ends has to be told by then.
const END_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// Loads a malicious model that does nothing, so that every act is told, then sends empty datagrams at an even pace, each
/// to another address of 10.0.0.0/8, which is local here. Many in one call (`sendmmsg`): Python alone is too slow.
const GENERATOR: &str = r#"
import ctypes, pickle, socket, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(1, 9)
model, rate, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
class Call:
    def __reduce__(self):
        return exec, ("pass",)
with open(model, "wb") as file:
    pickle.dump(Call(), file)
with open(model, "rb") as file:
    pickle.load(file)
time.sleep(2)
datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
AT_ONCE = 64
# struct sockaddr_in, and struct mmsghdr: the address, no data, no control messages.
addresses = ctypes.create_string_buffer(16 * AT_ONCE)
messages = ctypes.create_string_buffer(64 * AT_ONCE)
for i in range(AT_ONCE):
    struct.pack_into("=H", addresses, 16 * i, socket.AF_INET)
    struct.pack_into("=QI", messages, 64 * i, ctypes.addressof(addresses) + 16 * i, 16)
done, begun = 0, time.monotonic()
while done < rate * seconds:
    due = min(int((time.monotonic() - begun) * rate) + 1, rate * seconds)
    while done < due:
        count = min(due - done, AT_ONCE)
        for i in range(count):
            struct.pack_into(">HI", addresses, 16 * i + 2, 9, 10 << 24 | done + i & 0xffffff)
        sent = libc.sendmmsg(datagram.fileno(), messages, count, 0)
        if sent < 1:
            sys.exit(f"sendmmsg: errno {ctypes.get_errno()}")
        done += sent
    time.sleep(0.001)
print(done, time.monotonic() - begun)
"#;

pub fn run(flood: &Options) -> Result<()> {
    let sensor = sensor(flood.sensor.as_deref())?;
    if !is_root() {
        let words = ["flood", "--rate", &flood.rate.to_string(), "--seconds", &flood.seconds.to_string()];
        return again_as_root(&words, &sensor, flood.json.as_deref());
    }
    let folder = std::env::temp_dir().join(format!("sensor-flood-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let measured = measure(flood, &sensor, &folder);
    let _ = fs::remove_dir_all(&folder);
    let figures = measured?;
    figures.report(flood);
    if let Some(file) = &flood.json {
        fs::write(file, figures.json().to_string()).with_context(|| file.display().to_string())?;
    }
    ensure!(
        figures.counted + figures.lost.values().sum::<u64>() == figures.done,
        "what was counted and what was lost are not together what was done"
    );
    Ok(())
}

struct Figures {
    /// Datagrams that were sent.
    done: u64,
    seconds: f64,
    counted: u64,
    /// Per reason.
    lost: HashMap<String, u64>,
    /// CPU time of the daemon, s.
    cpu_s: f64,
    /// Largest RssAnon of the daemon that was seen, KiB.
    rss_kib: u64,
    alerts: usize,
}

fn measure(flood: &Options, sensor: &Path, folder: &Path) -> Result<Figures> {
    let (ready, output, config) = (folder.join("ready"), folder.join("alerts"), folder.join("config"));
    let model = folder.join("model.pkl");
    fs::write(&config, "")?;
    let two = available_parallelism().is_ok_and(|count| count.get() > 1);
    let mut daemon = on_processor(two.then_some("0"), sensor)
        .args(["run", "--output", "jsonl", "--config"])
        .arg(&config)
        .arg("--ready-file")
        .arg(&ready)
        .stdin(Stdio::null())
        .stdout(File::create(&output)?)
        .stderr(File::create(folder.join("errors"))?)
        .spawn()
        .with_context(|| sensor.display().to_string())?;
    let told = drive(flood, &mut daemon, &ready, &model, two.then_some("1"));
    let (cpu_s, pid) = (cpu_s(daemon.id()), Pid::from_child(&daemon));
    let _ = kill_process(pid, Signal::TERM);
    let deadline = Instant::now() + END_LIMIT;
    let status = loop {
        match daemon.try_wait()? {
            Some(status) => break status,
            None if Instant::now() > deadline => {
                let _ = daemon.kill();
                bail!("the sensor had not ended {END_LIMIT:?} after SIGTERM");
            }
            None => sleep(POLL),
        }
    };
    let (done, seconds, rss_kib) = told?;
    if !status.success() {
        bail!("the sensor ended with {status}:\n{}", fs::read_to_string(folder.join("errors")).unwrap_or_default());
    }
    let (counted, lost, alerts) = said(&output, &model)?;
    Ok(Figures { done, seconds, counted, lost, cpu_s: cpu_s?, rss_kib, alerts })
}

fn on_processor(number: Option<&str>, program: impl AsRef<std::ffi::OsStr>) -> Command {
    match number {
        Some(number) => {
            let mut command = Command::new("taskset");
            command.args(["--cpu-list", number]).arg(program);
            command
        }
        None => Command::new(program),
    }
}

/// Lets the generator act; what it did, in how many seconds, and the daemon's memory meanwhile, KiB.
fn drive(
    flood: &Options,
    daemon: &mut Child,
    ready: &Path,
    model: &Path,
    processor: Option<&str>,
) -> Result<(u64, f64, u64)> {
    let started = Instant::now();
    while !ready.exists() {
        if let Some(status) = daemon.try_wait()? {
            bail!("the sensor ended with {status}: `sensor run` by hand says why");
        }
        if started.elapsed() > START_LIMIT {
            bail!("the sensor was not ready after {} s", START_LIMIT.as_secs());
        }
        sleep(POLL);
    }
    let net = "ip link set lo up && ip route add local 10.0.0.0/8 dev lo && exec \"$@\"";
    let mut generator = on_processor(processor, "unshare");
    generator.args(["--net", "--", "sh", "-c", net, "sh", "python3", "-c", GENERATOR]).arg(model);
    let mut generator = generator
        .args([flood.rate.to_string(), flood.seconds.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("unshare or taskset")?;
    let mut rss_kib = 0;
    while generator.try_wait()?.is_none() {
        rss_kib = rss_kib.max(anonymous_kib(daemon.id()).unwrap_or(0));
        sleep(POLL);
    }
    let said = generator.wait_with_output()?;
    ensure!(said.status.success(), "the generator ended with {}", said.status);
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let (done, seconds) = said.trim().split_once(' ').context("what the generator did")?;
    Ok((done.parse()?, seconds.parse()?, rss_kib))
}

/// What the daemon's alerts count of the generator's datagrams, and as lost.
fn said(output: &Path, model: &Path) -> Result<(u64, HashMap<String, u64>, usize)> {
    let model = model.to_str().context("a folder that is text")?;
    let (mut counts, mut lost, mut alerts) = (HashMap::new(), HashMap::new(), 0);
    for line in BufReader::new(File::open(output)?).lines() {
        let alert: Value = serde_json::from_str(&line?)?;
        alerts += 1;
        let count = alert["incident"]["count"].as_u64().unwrap_or(0);
        match alert["event"]["kind"].as_str() {
            Some("send" | "connect") if alert["model"]["path"] == model => {
                counts.insert(alert["incident"]["id"].to_string(), count);
            }
            Some("loss") => {
                let reason = alert["event"]["reason"].as_str().unwrap_or_default().to_owned();
                let key = (reason, alert["event"]["cgroup"].to_string());
                lost.insert(key, alert["event"]["count"].as_u64().unwrap_or(0));
            }
            _ => {}
        }
    }
    let mut by_reason = HashMap::new();
    for ((reason, _), count) in lost {
        *by_reason.entry(reason).or_default() += count;
    }
    Ok((counts.values().sum(), by_reason, alerts))
}

/// User and system time of a process and its children that ended (`/proc/PID/stat`: utime, stime), s.
fn cpu_s(pid: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = text.rsplit_once(')').context("/proc/PID/stat")?.1.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    // USER_HZ is 100 on every architecture that the sensor is built for.
    Ok((ticks(11) + ticks(12)) / 100.0)
}

/// RssAnon of `/proc/PID/status`, KiB.
fn anonymous_kib(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("RssAnon:")?.split_whitespace().next()?.parse().ok())
}

impl Figures {
    fn report(&self, flood: &Options) {
        let rate = self.done as f64 / self.seconds;
        println!("{:<34} {:>12}   wanted {}", "events", self.done, u64::from(flood.rate) * u64::from(flood.seconds));
        println!("{:<34} {rate:>12.0}   wanted {}", "events per second", flood.rate);
        println!("{:<34} {:>12}", "counted by alerts", self.counted);
        println!("{:<34} {:>12}   goal 0", "lost, and counted as lost", self.lost.values().sum::<u64>());
        for (reason, count) in &self.lost {
            println!("  {reason:<32} {count:>12}");
        }
        println!("{:<34} {:>12}", "alerts", self.alerts);
        println!("{:<34} {:>12.1}", "daemon's CPU time, s", self.cpu_s);
        println!("{:<34} {:>12.1}", "  per event, µs", self.cpu_s * 1e6 / self.done.max(1) as f64);
        println!("{:<34} {:>12.1}   goal 20", "its anonymous memory at most, MiB", self.rss_kib as f64 / 1024.0);
    }

    fn json(&self) -> Value {
        json!({ "schema": "sensor.bench-flood/1", "done": self.done, "seconds": self.seconds, "counted": self.counted,
                "lost": self.lost, "alerts": self.alerts, "cpu_s": self.cpu_s, "rss_anon_max_kib": self.rss_kib })
    }
}
