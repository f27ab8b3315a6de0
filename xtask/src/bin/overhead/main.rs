//! What `cargo xtask bench overhead` runs inside its machine: every operation without the sensor, beside it, and in a
//! process that carries a load; then what the sensor spends on an event.
//!
//! `overhead [FLAG OF sensor run…]`, as root, with `/sensor`, loopback that owns 11.0.0.0/8, and nothing else running.
//! Its last line of output is one JSON object. Instructions are what a machine under `-icount shift=0` counts.

#![expect(unsafe_code, reason = "system calls without a safe wrapper, in kernel.rs")]

mod child;
mod kernel;
mod operation;
mod program;
mod sensor;

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, UdpSocket};
use std::process::{Command, ExitCode};
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use kernel::instructions;
use operation::{Bench, MODEL, OPERATIONS, PLAIN};
use sensor::{ALERTS, Sensor, Spent};

/// Longer than the sensor needs for anything that it still has to do: time that passes idle costs nothing here.
const SETTLE: Duration = Duration::from_secs(3);
/// Looks at a sensor that has nothing to do, each as long as [`SETTLE`]: some things it does once in many seconds.
const IDLE_TIMES: usize = 21;
/// For each event: the sensor has said all that it has to say of one before the next comes.
const PAUSE: Duration = Duration::from_millis(5);

/// Loaders, and destinations of each, below the sensor's limit of open incidents per loader: every event is an alert.
const LOADERS: u32 = 100;
const DESTINATIONS: u32 = 100;
const EVENTS: u32 = LOADERS * DESTINATIONS;
/// Events of a busy host that come together.
const BURST: u32 = 100;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let figures = match words.as_slice() {
        [OPERATIONS_ONLY, held] => holding(held).map(Value::from),
        flags => measure(flags),
    };
    match figures {
        Ok(figures) => {
            println!("{figures}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{}", json!({ "error": error.to_string() }));
            ExitCode::FAILURE
        }
    }
}

fn measure(flags: &[&str]) -> io::Result<Value> {
    let bench = Bench::new()?;
    println!("without the sensor");
    // The first round is thrown away: the kernel's own caches fill.
    operations(PLAIN)?;
    let base = operations(MODEL)?;
    println!("beside the sensor");
    let sensor = Sensor::start(flags)?;
    sleep(SETTLE);
    let (idle_kib, kept) = (sensor.anonymous_kib()?, sensor.kept()?);
    let unmarked = operations(PLAIN)?;
    println!("by a loader");
    let marked = operations(MODEL)?;
    println!("by program");
    let programs = child::ask(|| program::of_operations(&bench))?;
    println!("what the sensor spends");
    let mut idle = Vec::new();
    for _ in 0..IDLE_TIMES {
        idle.push(spent(&sensor, || {
            sleep(SETTLE);
            Ok(())
        })?);
    }
    let mut idle: Vec<u64> = idle.iter().map(|spent| spent.all).collect();
    idle.sort_unstable();
    let idle_per_s = idle.iter().sum::<u64>() / (SETTLE.as_secs() * idle.len() as u64);
    let sensor = Watched { idle_per_s, idle_while_settling: idle[IDLE_TIMES / 2], sensor };
    let single = alerts(&sensor, 1)?;
    let burst = alerts(&sensor, BURST)?;
    let folded = loader(&sensor, 0, EVENTS, BURST)?;
    let burst_kib = sensor.sensor.anonymous_kib()?;
    println!("twenty minutes later");
    later()?;
    let (ready, idle_per_s) = (sensor.sensor.ready, sensor.idle_per_s);
    sensor.sensor.stop()?;
    println!("without the sensor again");
    sleep(SETTLE);
    // The kernel's allocators are not as they were: what a fork costs lies between.
    let after = operations(MODEL)?;
    let base: Vec<u64> = base.iter().zip(after).map(|(before, after)| before.midpoint(after)).collect();

    let mut ops = Vec::new();
    for (i, (name, _)) in OPERATIONS.iter().enumerate() {
        let added = |with: &[u64]| with.get(i).map(|with| *with as i64 - base[i] as i64);
        ops.push(json!({ "name": name, "base": base[i], "added": added(&unmarked), "added_marked": added(&marked) }));
    }
    Ok(json!({
        "ops": ops,
        "ops_programs": programs,
        "daemon": {
            "single": single.json(), "burst": burst.json(), "folded": folded.json(),
            "idle_per_s": idle_per_s,
        },
        "rss_kib": idle_kib, "rss_burst_kib": burst_kib, "ready_instructions": ready,
        "programs": kept.programs, "maps": kept.maps, "maps_bytes": kept.maps_bytes, "rings_bytes": kept.rings_bytes,
    }))
}

/// First argument of the process that does the operations; the second is the file that it holds.
const OPERATIONS_ONLY: &str = "--operations";

/// Every operation, by a process that holds a file. A program of its own, so that its memory is laid out alike in all
/// rounds: what a fork costs depends on it.
fn operations(held: &str) -> io::Result<Vec<u64>> {
    let output = Command::new("/proc/self/exe").args([OPERATIONS_ONLY, held]).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let answer: Value = serde_json::from_str(text.trim()).map_err(|_| io::Error::other(text))?;
    Ok(numbers(&answer))
}

/// What that process does.
fn holding(held: &str) -> io::Result<Vec<u64>> {
    let bench = Bench::new()?;
    let _held = File::open(held)?;
    sleep(SETTLE);
    bench.measure()
}

/// The sensor, and what it spends where nothing happens: no event's doing.
struct Watched {
    sensor: Sensor,
    idle_per_s: u64,
    /// In most periods as long as [`SETTLE`].
    idle_while_settling: u64,
}

impl Watched {
    /// What events that `act` causes cost.
    fn spent(&self, act: impl FnOnce() -> io::Result<()>) -> io::Result<Spent> {
        let before = instructions();
        let mut spent = spent(&self.sensor, act)?;
        // One instruction a nanosecond.
        let idle = self.idle_per_s * (instructions() - before) / 1_000_000_000;
        spent.all = spent.all.saturating_sub(idle);
        Ok(spent)
    }
}

/// What events cost the sensor.
#[derive(Debug, Default)]
struct Cost {
    /// All but the first of each loader.
    spent: Spent,
    events: u32,
    /// The first of most loaders, its open included.
    first: u64,
}

impl Cost {
    fn json(&self) -> Value {
        let Spent { all, user_ticks, kernel_ticks } = self.spent;
        let per_event = all / u64::from(self.events.max(1));
        let user = per_event * user_ticks / (user_ticks + kernel_ticks).max(1);
        json!({ "per_event": per_event, "user": user, "kernel": per_event - user, "first": self.first })
    }
}

/// Events that each become an alert, `together` at once; the alerts are counted.
fn alerts(sensor: &Watched, together: u32) -> io::Result<Cost> {
    let before = printed()?;
    let mut sum = Cost::default();
    let mut firsts = Vec::new();
    for i in 0..LOADERS {
        let cost = loader(sensor, i, DESTINATIONS, together)?;
        sum.spent = Spent {
            all: sum.spent.all + cost.spent.all,
            user_ticks: sum.spent.user_ticks + cost.spent.user_ticks,
            kernel_ticks: sum.spent.kernel_ticks + cost.spent.kernel_ticks,
        };
        sum.events += cost.events;
        firsts.push(cost.first);
    }
    firsts.sort_unstable();
    sum.first = firsts[firsts.len() / 2];
    let printed = printed()? - before;
    if printed < EVENTS as usize {
        return Err(io::Error::other(format!("{EVENTS} events were {printed} alerts")));
    }
    Ok(sum)
}

/// A process opens a model and sends datagrams, to as many networks as there are; it goes on holding the model.
fn loader(sensor: &Watched, number: u32, events: u32, together: u32) -> io::Result<Cost> {
    let answer = child::ask(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        let send = |i: u32| {
            let address = Ipv4Addr::new(11, number as u8, (i % DESTINATIONS) as u8, 1);
            socket.send_to(b"x", (address, 9)).map(drop)
        };
        let mut model = None;
        let first = spent(&sensor.sensor, || {
            model = Some(File::open(MODEL)?);
            send(0)?;
            sleep(SETTLE);
            Ok(())
        })?;
        let first = first.all.saturating_sub(sensor.idle_while_settling);
        let rest = sensor.spent(|| {
            for i in 1..events {
                send(i)?;
                if i % together == 0 {
                    sleep(PAUSE * together);
                }
            }
            sleep(PAUSE * together);
            Ok(())
        })?;
        drop(model);
        Ok(json!([first, rest.all, rest.user_ticks, rest.kernel_ticks]))
    })?;
    let [first, all, user_ticks, kernel_ticks] = numbers(&answer)[..] else {
        return Err(io::Error::other("a loader's answer"));
    };
    Ok(Cost { spent: Spent { all, user_ticks, kernel_ticks }, events: events - 1, first })
}

/// What the sensor spends while something happens.
fn spent(sensor: &Sensor, act: impl FnOnce() -> io::Result<()>) -> io::Result<Spent> {
    let before = sensor.spent()?;
    act()?;
    let after = sensor.spent()?;
    Ok(Spent {
        all: after.all.saturating_sub(before.all),
        user_ticks: after.user_ticks.saturating_sub(before.user_ticks),
        kernel_ticks: after.kernel_ticks.saturating_sub(before.kernel_ticks),
    })
}

/// Twenty minutes, which pass in a moment where nothing else happens.
const LONG: Duration = Duration::from_secs(20 * 60);

/// Marks age by rule and not by accident: long after its load a process is told as the one that it is, and a file that it
/// never closed makes it no load that goes on.
fn later() -> io::Result<()> {
    const CLOSED_LONG_AGO: Ipv4Addr = Ipv4Addr::new(11, 200, 0, 1);
    const HELD_FOR_LONG: Ipv4Addr = Ipv4Addr::new(11, 200, 1, 1);
    /// A pickle that calls `posix.system`: what its loaders do is told at any time.
    const PAYLOAD: &[u8] = b"\x80\x04cposix\nsystem\n\x8c\x04true\x85R.";
    let payload = "/tmp/overhead/payload.pkl";
    std::fs::write(payload, PAYLOAD)?;
    let send = |to: Ipv4Addr| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?.send_to(b"x", (to, 9)).map(drop);
    let pids = child::ask(|| {
        drop(File::open(payload)?);
        let other = child::ask(|| {
            let _held = File::open(payload)?;
            sleep(LONG);
            send(HELD_FOR_LONG)?;
            Ok(json!(std::process::id()))
        })?;
        send(CLOSED_LONG_AGO)?;
        Ok(json!([std::process::id(), other]))
    })?;
    sleep(SETTLE);
    for (to, pid) in [(CLOSED_LONG_AGO, &pids[0]), (HELD_FOR_LONG, &pids[1])] {
        let ip = format!(r#""ip":"{to}","port""#);
        let mut told = Vec::new();
        for line in BufReader::new(File::open(ALERTS)?).lines() {
            let line = line?;
            let event = line.split(r#","process""#).next().unwrap_or_default();
            if event.contains(&ip) {
                told.push(serde_json::from_str::<Value>(&line).map_err(io::Error::other)?);
            }
        }
        let [alert] = told.as_slice() else {
            return Err(io::Error::other(format!("twenty minutes later {to} was told {} times", told.len())));
        };
        let is_right =
            alert["process"]["pid"] == *pid && alert["model"]["path"] == payload && alert["event"]["in_load"] == false;
        if !is_right {
            return Err(io::Error::other(format!("twenty minutes later {to} was told as {alert}")));
        }
    }
    Ok(())
}

/// Alerts about datagrams so far.
fn printed() -> io::Result<usize> {
    let mut count = 0;
    for line in BufReader::new(File::open(ALERTS)?).lines() {
        count += usize::from(line?.contains(r#""kind":"send""#));
    }
    Ok(count)
}

fn numbers(value: &Value) -> Vec<u64> {
    value.as_array().into_iter().flatten().filter_map(Value::as_u64).collect()
}
