//! `cargo xtask vm --kernel all`: every way in and out on every kernel and rung, and the table that the docs show; and on
//! the best rung of each who did it, when, and what exactly is said.
//!
//! The runtime cases `paths::` go the ways and judge them (a way is seen, or `doctor` says that it is lost); here their
//! lines are put together. A kernel that can't be had is said loudly, stands in the table, and is an error in CI.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Result, bail};

use super::arch::Arch;
use super::kernel::{Kernel, NEWEST};
use super::machine::{self, Job};
use super::{Options, test_binary_for};
use crate::tool::{cargo, is_ci, root, target};

const TABLE: &str = "docs/KERNELS.md";

/// What Debian's releases ship, from the oldest that is still supported on, and one other processor.
const MACHINES: [(&str, Arch); 5] =
    [("5.10", Arch::Amd64), ("6.1", Arch::Amd64), ("6.12", Arch::Amd64), (NEWEST, Arch::Amd64), ("6.12", Arch::Arm64)];

/// One boot of a machine, and the cases that run in it.
struct Boot {
    name: &'static str,
    bpf_lsm: bool,
    cases: &'static [&'static str],
}

/// Without `bpf` in `lsm=` the best rung is fentry; kprobe where the kernel preempts its own code.
const BOOTS: [Boot; 3] = [
    Boot { name: "paths", bpf_lsm: true, cases: &["paths::lsm", "paths::kprobe", "paths::tracepoint"] },
    Boot {
        name: "paths-no-bpf",
        bpf_lsm: false,
        cases: &["paths::lsm", "paths::beside_busy_tasks", "who::beside_busy_forks"],
    },
    Boot { name: DETAILS, bpf_lsm: true, cases: &DETAILED },
];

/// The boot whose cases are about what is said of an act.
const DETAILS: &str = "details";
const DETAILED: [&str; 9] =
    ["files::", "network::", "payload::", "prior::", "programs::", "system::", "ways_in::", "when::", "who::"];

/// What one machine showed, boot by boot.
#[derive(Debug, Default)]
struct Table {
    kernel: String,
    /// The rung that the open got, with and without `bpf` in `lsm=`.
    columns: Vec<String>,
    /// In the order in which they came.
    ways: Vec<String>,
    /// (way, column) -> (rung, outcome)
    cells: BTreeMap<(String, String), (String, String)>,
    /// How the boot [`DETAILS`] ended.
    details: Option<String>,
    /// Cases that failed first.
    again: Vec<String>,
}

const ALL_HOLD: &str = "all hold";

/// How the tests of one output ended.
fn ends(said: &str) -> Vec<&str> {
    said.lines().filter_map(|line| line.trim_end().strip_prefix("test result: ")).collect()
}

fn all_hold(ends: &[&str]) -> bool {
    ends.iter().all(|end| end.starts_with("ok"))
}

pub fn run(options: &Options) -> Result<()> {
    let mut tables = Vec::new();
    let (mut missing, mut failed) = (Vec::new(), Vec::new());
    for (series, arch) in MACHINES {
        let name = format!("{series} {}", arch.name());
        let built = Kernel::get_for(series, arch)
            .and_then(|kernel| Ok((kernel, if options.table_only { String::new() } else { binary(arch)? })));
        let (kernel, binary) = match built {
            Ok(built) => built,
            Err(error) => {
                eprintln!("SKIPPED: {name} can't be had: {error:#}");
                missing.push(format!("{name}: {error:#}"));
                continue;
            }
        };
        let mut table = Table { kernel: kernel.release, ..Table::default() };
        for boot in &BOOTS {
            let what = format!("{name}, {}, {} bpf in lsm=", boot.name, if boot.bpf_lsm { "with" } else { "without" });
            // What runs `cases`, and where its output goes: the first try, and the second.
            let try_cases = |cases: &[&str], end: &str| -> (String, Option<String>) {
                let output = target().join(format!("vm-{series}-{}-{}{end}.log", arch.name(), boot.name));
                let mut why = None;
                if !options.table_only {
                    println!("{what}{end}");
                    let words: Vec<String> =
                        [binary.as_str()].iter().chain(cases).map(|word| (*word).to_owned()).collect();
                    let status = machine::run(&Job {
                        series,
                        arch,
                        words: &words,
                        time_limit_s: options.time_limit,
                        processors: options.processors,
                        memory_mib: options.memory,
                        kvm: options.kvm,
                        output: Some(&output),
                        bpf_lsm: boot.bpf_lsm,
                    });
                    why = match status {
                        Ok(0) => None,
                        Ok(status) => Some(format!("{what}: status {status}")),
                        Err(error) => Some(format!("{what}: {error:#}")),
                    };
                }
                (fs::read_to_string(&output).unwrap_or_default(), why)
            };
            let (said, mut why) = try_cases(boot.cases, "");
            table.take(boot, &said);
            // A slow machine keeps some case waiting too long, now and then.
            let again = failed_cases(&said);
            if !again.is_empty() {
                let cases: Vec<&str> = ["--exact"].into_iter().chain(again).collect();
                let said;
                (said, why) = try_cases(&cases, "-again");
                table.take_again(boot, &said);
            }
            failed.extend(why);
        }
        tables.push(table);
    }
    let path = root().join(TABLE);
    fs::create_dir_all(path.parent().unwrap_or(&path))?;
    fs::write(&path, text(&tables, &missing))?;
    println!("{TABLE} is written.");
    if !failed.is_empty() {
        bail!("{}", failed.join("\n"));
    }
    if is_ci() && !missing.is_empty() {
        bail!("machines that can't be had:\n{}", missing.join("\n"));
    }
    Ok(())
}

/// The runtime tests for a processor, which must be there to emulate.
fn binary(arch: Arch) -> Result<String> {
    if let Some(missing) = arch.missing() {
        bail!(missing);
    }
    test_binary_for("runtime", cargo(), arch)
}

/// Names in the lines of cases that failed.
fn failed_cases(said: &str) -> Vec<&str> {
    let cases = said.lines().filter_map(|line| line.trim_end().strip_prefix("test ")?.strip_suffix(" ... FAILED"));
    // (The daemon that cases share is none.)
    cases.filter(|case| case.contains("::")).collect()
}

fn text(tables: &[Table], missing: &[String]) -> String {
    let mut text = "# What is seen on which kernel\n\n\
        Written by `cargo xtask vm --kernel all`; not to be edited. A column is the rung of the attach ladder that the open \
        hook\ngot, with or without `bpf` in the kernel's `lsm=`; a cell is the rung of the hook that saw the way. **lost** is \
        what\n`sensor doctor` says there, and a test holds its words to what happens, in both directions. *not here*: this \
        kernel has no\nsuch call or module. Under each table: cases about what is said of an act (who, when, where to, \
        which model), on the best\nrung with `bpf`.\n"
        .to_owned();
    for table in tables {
        text.push_str(&table.text());
    }
    for missing in missing {
        text.push_str(&format!("\nNot tried, it can't be had: {missing}\n"));
    }
    text
}

impl Table {
    /// Takes the lines `PATH`, rung asked for, way, hook, rung, outcome.
    fn take(&mut self, boot: &Boot, said: &str) {
        if boot.name == DETAILS {
            let ends = ends(said);
            self.details =
                (!ends.is_empty()).then(|| if all_hold(&ends) { ALL_HOLD.to_owned() } else { ends.join("; ") });
        }
        let lines: Vec<Vec<&str>> = said
            .lines()
            .filter_map(|line| line.trim_end().strip_prefix("PATH\t"))
            .map(|line| line.split('\t').collect())
            .filter(|fields: &Vec<&str>| fields.len() == 5)
            .collect();
        for fields in &lines {
            let [asked, way, _, rung, outcome] = fields[..] else { continue };
            let open = lines.iter().find(|line| line[0] == asked && line[2] == "open").map_or("none", |line| line[3]);
            let column = format!("{open}{}", if boot.bpf_lsm { "" } else { ", no bpf" });
            if !self.columns.contains(&column) {
                self.columns.push(column.clone());
            }
            if !self.ways.iter().any(|known| known == way) {
                self.ways.push(way.to_owned());
            }
            self.cells.insert((way.to_owned(), column), (rung.to_owned(), outcome.to_owned()));
        }
    }

    /// What those that failed in this boot said when they ran again by themselves.
    fn take_again(&mut self, boot: &Boot, said: &str) {
        let ends = ends(said);
        if ends.is_empty() || !all_hold(&ends) {
            return;
        }
        if boot.name == DETAILS {
            self.details = Some(ALL_HOLD.to_owned());
        } else {
            self.take(boot, said);
        }
        let ran = said.lines().filter_map(|line| line.trim_end().strip_prefix("test ")?.strip_suffix(" ... ok"));
        let bpf = if boot.bpf_lsm { "" } else { ", no bpf" };
        self.again.extend(ran.filter(|case| case.contains("::")).map(|case| format!("`{case}`{bpf}")));
    }

    fn text(&self) -> String {
        if self.ways.is_empty() {
            return format!("\n## {}\n\n*Not tried.*\n", self.kernel);
        }
        let mut text = format!("\n## {}\n\n| way |", self.kernel);
        for column in &self.columns {
            text.push_str(&format!(" {column} |"));
        }
        text.push_str(&format!("\n|{}\n", "---|".repeat(self.columns.len() + 1)));
        for way in &self.ways {
            text.push_str(&format!("| {way} |"));
            for column in &self.columns {
                let cell = match self.cells.get(&(way.clone(), column.clone())) {
                    Some((rung, outcome)) if outcome == "seen" => rung.clone(),
                    Some((_, outcome)) if outcome == "lost" => "**lost**".to_owned(),
                    Some((_, outcome)) => format!("*{outcome}*"),
                    None => "*not tried*".to_owned(),
                };
                text.push_str(&format!(" {cell} |"));
            }
            text.push('\n');
        }
        let groups = DETAILED.map(|group| format!("`{group}`")).join(", ");
        text.push_str(&format!("\n{groups}: {}\n", self.details.as_deref().unwrap_or("*not tried*")));
        if !self.again.is_empty() {
            text.push_str(&format!("\nAt a second try, by itself: {}\n", self.again.join(", ")));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::{BOOTS, Table, failed_cases, text};

    #[test]
    fn lines_become_a_table() {
        let mut table = Table { kernel: "5.10.0-46-cloud-amd64".to_owned(), ..Table::default() };
        let [with, without, details] = &BOOTS;
        table.take(with, "noise\nPATH\tlsm\topenat\topen\tlsm\tseen\r\nPATH\tlsm\tvsock\tsocket\tlsm\tnot here\n");
        table.take(details, "test who::session ... ok\r\n\ntest result: ok. 1 passed; 0 failed\r\n");
        table.take(without, "PATH\tlsm\topenat\topen\tfentry\tseen\nPATH\tlsm\traw\tsocket\tnone\tlost\n");
        let text = text(&[table], &["7.9 amd64: no package".to_owned()]);
        assert!(text.contains("## 5.10.0-46-cloud-amd64"), "{text}");
        assert!(text.contains("| way | lsm | fentry, no bpf |"), "{text}");
        assert!(text.contains("| openat | lsm | fentry |"), "{text}");
        assert!(text.contains("| vsock | *not here* | *not tried* |"), "{text}");
        assert!(text.contains("| raw | *not tried* | **lost** |"), "{text}");
        assert!(text.contains("`who::`: all hold\n"), "{text}");
        assert!(text.contains("can't be had: 7.9 amd64"), "{text}");
        let mut table = Table { kernel: "6.1.0-56-cloud-amd64".to_owned(), ..Table::default() };
        table.take(
            with,
            "PATH\tlsm\topenat\topen\tlsm\tlost\ntest paths::lsm ... FAILED\ntest result: FAILED. 0 passed\n",
        );
        let failed =
            "test who::session ... ok\ntest who::thread ... FAILED\r\ntest result: FAILED. 1 passed; 1 failed\n";
        assert_eq!(failed_cases(failed), ["who::thread"]);
        table.take(details, failed);
        assert!(table.text().contains("`who::`: FAILED. 1 passed; 1 failed\n"));
        table.take_again(details, "test who::thread ... FAILED\ntest result: FAILED. 0 passed; 1 failed\n");
        assert!(table.text().contains("`who::`: FAILED. 1 passed; 1 failed\n"));
        table.take_again(details, "test who::thread ... ok\ntest result: ok. 1 passed; 0 failed\n");
        table.take_again(
            with,
            "PATH\tlsm\topenat\topen\tlsm\tseen\ntest paths::lsm ... ok\ntest result: ok. 1 passed\n",
        );
        let text = table.text();
        assert!(
            text.contains("`who::`: all hold\n\nAt a second try, by itself: `who::thread`, `paths::lsm`\n"),
            "{text}"
        );
        assert!(text.contains("| openat | lsm |"), "{text}");
        let untried = Table { kernel: "6.1.0-56-cloud-amd64".to_owned(), ..Table::default() };
        assert!(super::text(&[untried], &[]).contains("*Not tried.*"));
    }
}
