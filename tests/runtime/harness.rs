//! Runs the cases: before the daemon, under it, judged after it, and those with a daemon of their own.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, anyhow};
use rustix::process::Signal;

use crate::alert::Alerts;
use crate::daemon::{Daemon, Stopped};
use crate::lab::{self, Lab, Room};
use crate::model::Content;
use crate::{cases, namespace};

/// Judges what a case did by all that the daemon said.
pub type Check = Box<dyn FnOnce(&Alerts) -> Result<()> + Send>;
type Act = Step<Check>;
/// One step of a case, in its room.
type Step<T> = Box<dyn FnOnce(&Room<'_>) -> Result<T> + Send>;

/// What a case does, and when.
pub enum Body {
    /// Acts under the shared daemon.
    Shared(Act),
    /// Begins before the shared daemon starts, acts under it.
    Before(Step<Act>),
    /// Starts its own daemons, alone.
    Alone(Step<()>),
}

pub struct Case {
    pub name: String,
    pub body: Body,
}

impl Case {
    pub fn shared<C>(name: impl Into<String>, act: impl FnOnce(&Room<'_>) -> Result<C> + Send + 'static) -> Self
    where
        C: FnOnce(&Alerts) -> Result<()> + Send + 'static,
    {
        Self { name: name.into(), body: Body::Shared(Box::new(|room| Ok(Box::new(act(room)?)))) }
    }

    pub fn before<A, C>(name: impl Into<String>, begin: impl FnOnce(&Room<'_>) -> Result<A> + Send + 'static) -> Self
    where
        A: FnOnce(&Room<'_>) -> Result<C> + Send + 'static,
        C: FnOnce(&Alerts) -> Result<()> + Send + 'static,
    {
        let body = Body::Before(Box::new(|room| {
            let act = begin(room)?;
            Ok(Box::new(|room| Ok(Box::new(act(room)?))))
        }));
        Self { name: name.into(), body }
    }

    pub fn alone(name: impl Into<String>, run: impl FnOnce(&Room<'_>) -> Result<()> + Send + 'static) -> Self {
        Self { name: name.into(), body: Body::Alone(Box::new(run)) }
    }
}

/// The shared daemon's configuration. A long wait for the scanner, so that a slow machine gives the same alerts as a
/// fast one.
pub const CONFIG: &str = "scan_wait_ms = 20000\n";

/// The shared daemon's folder among those of the cases.
pub const SHARED_DAEMON: &str = "shared-daemon";

/// Actors that run side by side: most of their time is Python's start.
const ACTORS_AT_ONCE: usize = 6;

pub fn main(arguments: &[String]) -> ExitCode {
    let options = Options::parse(arguments);
    let cases: Vec<Case> = cases::all().into_iter().filter(|case| options.selects(&case.name)).collect();
    let cases = options.shard.deal(cases);
    if options.list {
        for case in &cases {
            println!("{}: test", case.name);
        }
        return ExitCode::SUCCESS;
    }
    if let Some(reason) = cannot_run() {
        eprintln!("SKIPPED: the runtime tests did not run: {reason}");
        return if ci() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    println!("\nrunning {} tests", cases.len());
    match run(cases, options.keep) {
        Ok((passed, 0)) => {
            println!("\ntest result: ok. {passed} passed; 0 failed\n");
            ExitCode::SUCCESS
        }
        Ok((passed, failed)) => {
            println!("\ntest result: FAILED. {passed} passed; {failed} failed\n");
            ExitCode::FAILURE
        }
        Err(error) => {
            println!("\ntest result: FAILED. {error:#}\n");
            ExitCode::FAILURE
        }
    }
}

struct Options {
    filters: Vec<String>,
    skipped: Vec<String>,
    shard: Shard,
    exact: bool,
    list: bool,
    keep: bool,
}

impl Options {
    /// As much of the standard test harness's command line as makes sense here; its other flags are passed over.
    fn parse(arguments: &[String]) -> Self {
        let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
        let filters = arguments.iter().filter(|argument| !argument.starts_with('-')).cloned().collect();
        let skipped =
            arguments.iter().filter_map(|argument| argument.strip_prefix("--skip=")).map(str::to_owned).collect();
        let shard = arguments.iter().find_map(|argument| argument.strip_prefix("--shard="));
        let shard = shard.map_or(Shard::ALL, |text| Shard::parse(text).expect("--shard=NUMBER/COUNT"));
        Self { filters, skipped, shard, exact: has("--exact"), list: has("--list"), keep: has("--keep") }
    }

    fn selects(&self, name: &str) -> bool {
        let matches = |filter: &String| if self.exact { name == filter } else { name.contains(filter.as_str()) };
        let skip = |skipped: &String| name.contains(skipped.as_str());
        (self.filters.is_empty() || self.filters.iter().any(matches)) && !self.skipped.iter().any(skip)
    }
}

/// One machine's share of the cases, where several run them.
#[derive(Clone, Copy)]
struct Shard {
    /// From 0.
    number: usize,
    count: usize,
}

impl Shard {
    const ALL: Self = Self { number: 0, count: 1 };

    /// What the cases under the shared daemon take together, in starts of a daemon.
    const SHARED_WEIGHT: usize = 26;
    /// The same of a case that goes every way in and out, and of another with daemons of its own.
    const PATHS_WEIGHT: usize = 5;
    const ALONE_WEIGHT: usize = 1;

    /// `1/2` is the first of two.
    fn parse(text: &str) -> Option<Self> {
        let (number, count) = text.split_once('/')?;
        let (number, count) = (number.parse::<usize>().ok()?, count.parse().ok()?);
        (1..=count).contains(&number).then(|| Self { number: number - 1, count })
    }

    /// Cases under the shared daemon stay together, in the first shard; of the others each goes where least is.
    fn deal(self, cases: Vec<Case>) -> Vec<Case> {
        let mut loads = vec![0; self.count];
        loads[0] = Self::SHARED_WEIGHT;
        let mut is_ours = |case: &Case| {
            let Body::Alone(_) = case.body else { return self.number == 0 };
            let is_long = case.name.starts_with("paths::");
            let least = (0..self.count).min_by_key(|shard| loads[*shard]).unwrap_or_default();
            loads[least] += if is_long { Self::PATHS_WEIGHT } else { Self::ALONE_WEIGHT };
            least == self.number
        };
        cases.into_iter().filter(|case| is_ours(case)).collect()
    }
}

fn cannot_run() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("loading kernel programs needs root".into());
    }
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Some("this kernel has no BTF (/sys/kernel/btf/vmlinux)".into());
    }
    None
}

/// In CI what can't run is a failure.
pub fn ci() -> bool {
    std::env::var("CI").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"))
}

/// Runs all, prints each result, gives the numbers of those that passed and failed.
fn run(cases: Vec<Case>, keep: bool) -> Result<(usize, usize)> {
    namespace::enter()?;
    let mut dir = tempfile::Builder::new().prefix(&lab::folder_prefix()).tempdir()?;
    dir.disable_cleanup(keep);
    // Other users are among the actors.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(dir.path(), open)?;
    let lab = Lab::new(dir.path())?;
    let (alone, shared): (Vec<_>, Vec<_>) = cases.into_iter().partition(|case| matches!(case.body, Body::Alone(_)));
    let mut tally = Tally::default();
    if !shared.is_empty() {
        run_shared(&lab, shared, &mut tally)?;
    }
    for case in alone {
        let room = lab.room(&case.name)?;
        if let Body::Alone(run) = case.body {
            tally.report(&case.name, guarded(|| run(&room)), String::new);
        }
    }
    if keep {
        println!("kept: {}", dir.path().display());
    }
    Ok((tally.passed, tally.failed))
}

/// A case between two steps.
struct Stand<'a, T> {
    name: String,
    room: Room<'a>,
    next: Result<T>,
}

fn run_shared(lab: &Lab, cases: Vec<Case>, tally: &mut Tally) -> Result<()> {
    let mut steps: Vec<Stand<'_, Act>> = Vec::new();
    for case in cases {
        let room = lab.room(&case.name)?;
        let next = match case.body {
            Body::Before(begin) => guarded(|| begin(&room)).context("before the daemon's start"),
            Body::Shared(act) => Ok(act),
            Body::Alone(_) => continue,
        };
        steps.push(Stand { name: case.name, room, next });
    }
    let daemon = Daemon::start(&lab.dir.join(SHARED_DAEMON), CONFIG)?;
    let checks = act_all(steps);
    let (alerts, stderr) = match end(lab, daemon) {
        Ok(stopped) => {
            tally.report("the_shared_daemon", Ok(()), String::new);
            (stopped.alerts, stopped.stderr)
        }
        Err((error, alerts, stderr)) => {
            tally.report("the_shared_daemon", Err(error), || tail(&stderr));
            (alerts, stderr)
        }
    };
    for Stand { name, room, next } in checks {
        let result = next.and_then(|check| guarded(|| check(&alerts)));
        tally.report(&name, result, || explain(&alerts.of(&room), &stderr));
    }
    Ok(())
}

/// Lets all act, a few at once.
fn act_all(steps: Vec<Stand<'_, Act>>) -> Vec<Stand<'_, Check>> {
    let count = steps.len();
    let queue: Mutex<VecDeque<_>> = Mutex::new(steps.into_iter().enumerate().collect());
    let done = Mutex::new(Vec::with_capacity(count));
    std::thread::scope(|scope| {
        for _ in 0..ACTORS_AT_ONCE {
            scope.spawn(|| {
                loop {
                    let step = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some((index, Stand { name, room, next })) = step else { break };
                    let next = next.and_then(|act| guarded(|| act(&room)).context("while it acted"));
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((index, Stand { name, room, next }));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, step)| step).collect()
}

/// The daemon is alive after all that (a last load is seen), prints everything, and ends with status 0.
fn end(lab: &Lab, daemon: Daemon) -> Result<Stopped, (anyhow::Error, Alerts, String)> {
    let last_word = last_load(lab, &daemon);
    let before = (daemon.alerts(), daemon.stderr());
    match last_word.and_then(|()| daemon.stop(Signal::TERM)) {
        Ok(stopped) if stopped.status.code() == Some(0) => Ok(stopped),
        Ok(stopped) => Err((anyhow!("it ended with {} at SIGTERM", stopped.status), stopped.alerts, stopped.stderr)),
        Err(error) => Err((error, before.0, before.1)),
    }
}

fn last_load(lab: &Lab, daemon: &Daemon) -> Result<()> {
    let room = lab.room("the last load")?;
    let model = room.model("last.pkl", Content::Shell("true"))?;
    room.run_python("load()", &model)?;
    let path = model.to_str().context("a path that is text")?;
    daemon.wait_for("the last load's shell", |alert| {
        alert.text("/event/kind") == "exec" && alert.text("/model/path") == path
    })?;
    Ok(())
}

/// A panic is a failure of the case, not of the run.
fn guarded<T>(run: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(anyhow!("panicked: {}", text.unwrap_or_default()))
    })
}

fn explain(alerts: &Alerts, stderr: &str) -> String {
    let mut text = format!("its alerts ({}):\n", alerts.0.len());
    for alert in &alerts.0 {
        text.push_str(&alert.line);
        text.push('\n');
    }
    text + &tail(stderr)
}

/// The last lines of the daemon's standard error.
fn tail(stderr: &str) -> String {
    let lines: Vec<&str> = stderr.lines().collect();
    let from = lines.len().saturating_sub(30);
    format!("the daemon's standard error ends with:\n{}\n", lines[from..].join("\n"))
}

#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
}

impl Tally {
    fn report(&mut self, name: &str, result: Result<()>, more: impl FnOnce() -> String) {
        match result {
            Ok(()) => {
                self.passed += 1;
                println!("test {name} ... ok");
            }
            Err(error) => {
                self.failed += 1;
                println!("test {name} ... FAILED\n---- {name}: {error:#}\n{}----", more());
            }
        }
    }
}
