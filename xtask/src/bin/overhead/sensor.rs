//! The sensor beside which everything is measured: started, looked at through /proc, ended.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::kernel::instructions;

const PROGRAM: &str = "/sensor";
const READY: &str = "/tmp/sensor-ready";
pub const ALERTS: &str = "/tmp/sensor-alerts";
const LOG: &str = "/tmp/sensor-log";
const POLL: Duration = Duration::from_millis(1);
const POLLS_MAX: u32 = 60_000;

pub struct Sensor {
    child: Child,
    /// From its start to the ready file, instructions.
    pub ready: u64,
}

/// Time on the CPU of a process and its children, which under `-icount` is instructions.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spent {
    /// `schedstat`, exact.
    pub all: u64,
    /// Of clock ticks: how `all` divides.
    pub user_ticks: u64,
    pub kernel_ticks: u64,
}

/// What the kernel keeps for it.
#[derive(Debug, Default)]
pub struct Kept {
    pub programs: usize,
    pub maps: usize,
    pub maps_bytes: u64,
    pub rings_bytes: u64,
}

impl Sensor {
    /// Starts it and waits until every hook is attached.
    pub fn start(flags: &[&str]) -> io::Result<Self> {
        let before = instructions();
        let mut child = Command::new(PROGRAM)
            .args(["run", "--output", "jsonl", "--ready-file", READY])
            .args(flags)
            .stdin(Stdio::null())
            .stdout(File::create(ALERTS)?)
            .stderr(File::create(LOG)?)
            .spawn()?;
        let mut polls = 0;
        while !Path::new(READY).exists() {
            polls += 1;
            if polls > POLLS_MAX || child.try_wait()?.is_some() {
                return Err(Self::failed("the sensor did not start"));
            }
            sleep(POLL);
        }
        Ok(Self { child, ready: instructions() - before })
    }

    fn failed(what: &str) -> io::Error {
        io::Error::other(format!("{what}: {}", fs::read_to_string(LOG).unwrap_or_default()))
    }

    pub fn stop(mut self) -> io::Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.ok_or_else(|| io::Error::other("no pid"))?, Signal::TERM)?;
        if self.child.wait()?.success() { Ok(()) } else { Err(Self::failed("the sensor did not end well")) }
    }

    /// RssAnon (proc_pid_status(5)), KiB.
    pub fn anonymous_kib(&self) -> io::Result<u64> {
        number(&fs::read_to_string(format!("/proc/{}/status", self.child.id()))?, "RssAnon:")
            .ok_or_else(|| io::Error::other("/proc/PID/status has no RssAnon"))
    }

    pub fn spent(&self) -> io::Result<Spent> {
        let mut spent = Spent::default();
        let mut queue = vec![self.child.id()];
        while let Some(pid) = queue.pop() {
            for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten() {
                let task = task?.path();
                let read = |name: &str| fs::read_to_string(task.join(name)).unwrap_or_default();
                spent.all += word(&read("schedstat"), 0);
                // proc_pid_stat(5): utime and stime are the 14th and 15th, the name in parentheses is the 2nd.
                let stat = read("stat");
                let rest = stat.rsplit(") ").next().unwrap_or_default();
                spent.user_ticks += word(rest, 11);
                spent.kernel_ticks += word(rest, 12);
                queue.extend(read("children").split_whitespace().filter_map(|word| word.parse::<u32>().ok()));
            }
        }
        Ok(spent)
    }

    /// By its descriptors (kernel/bpf/syscall.c: bpf_map_show_fdinfo, bpf_prog_show_fdinfo, bpf_link_show_fdinfo).
    pub fn kept(&self) -> io::Result<Kept> {
        const RINGBUF: u64 = 27;
        let mut programs = BTreeSet::new();
        let mut maps = BTreeMap::new();
        let mut rings_bytes = 0;
        for entry in fs::read_dir(format!("/proc/{}/fdinfo", self.child.id()))? {
            let text = fs::read_to_string(entry?.path()).unwrap_or_default();
            programs.extend(number(&text, "prog_id:"));
            if let (Some(map), Some(bytes)) = (number(&text, "map_id:"), number(&text, "memlock:"))
                && let Some(kind) = number(&text, "map_type:")
                && maps.insert(map, bytes).is_none()
                && kind == RINGBUF
            {
                rings_bytes += number(&text, "max_entries:").unwrap_or(0);
            }
        }
        Ok(Kept { programs: programs.len(), maps: maps.len(), maps_bytes: maps.values().sum(), rings_bytes })
    }
}

/// The number after a name at the start of a line.
fn number(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
}

fn word(text: &str, index: usize) -> u64 {
    text.split_whitespace().nth(index).and_then(|word| word.parse().ok()).unwrap_or(0)
}
