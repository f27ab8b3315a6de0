//! `cargo xtask vm --kernel all`: every way in and out on every kernel and rung, and the table that the docs show.
//!
//! The runtime cases `paths::` do it and judge it (a way is seen, or `doctor` says that it is lost); here their lines are
//! put together. A kernel that can't be had is said loudly, stands in the table, and is an error in CI.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Result, bail};

use super::kernel::{Kernel, SERIES};
use super::machine::{self, Job};
use super::{Options, test_binary};
use crate::tool::{cargo, is_ci, root, target};

const TABLE: &str = "docs/KERNELS.md";

/// With `bpf` in `lsm=`, and which cases. Without it the best rung is fentry.
const BOOTS: [(bool, &[&str]); 2] =
    [(true, &["paths::lsm", "paths::kprobe", "paths::tracepoint"]), (false, &["paths::lsm"])];

/// Way -> column -> (rung, outcome); columns and ways in the order in which they came.
#[derive(Debug, Default)]
struct Table {
    columns: Vec<String>,
    ways: Vec<String>,
    cells: BTreeMap<(String, String), (String, String)>,
    missing: Vec<String>,
}

pub fn run(options: &Options) -> Result<()> {
    let binary = test_binary("runtime", cargo())?;
    let mut table = Table::default();
    let mut failed = Vec::new();
    for series in SERIES {
        let kernel = match Kernel::get(series) {
            Ok(kernel) => kernel,
            Err(error) => {
                eprintln!("SKIPPED: kernel {series} can't be had: {error:#}");
                table.missing.push(format!("{series}: {error}"));
                continue;
            }
        };
        for (bpf_lsm, cases) in BOOTS {
            let output = target().join(format!("vm-paths-{series}-{bpf_lsm}.log"));
            let words: Vec<String> = [binary.as_str()].iter().chain(cases).map(|word| (*word).to_owned()).collect();
            let status = machine::run(&Job {
                series,
                words: &words,
                time_limit_s: options.time_limit,
                memory_mib: options.memory,
                kvm: options.kvm,
                output: Some(&output),
                bpf_lsm,
            });
            let status = status.map_err(|error| format!("{error:#}")).and_then(|status| match status {
                0 => Ok(()),
                status => Err(format!("status {status}")),
            });
            if let Err(why) = status {
                failed.push(format!("{series}, {} bpf in lsm=: {why}", if bpf_lsm { "with" } else { "without" }));
            }
            let said = fs::read_to_string(&output).unwrap_or_default();
            table.take(&kernel.release, &said);
        }
    }
    let path = root().join(TABLE);
    fs::create_dir_all(path.parent().unwrap_or(&path))?;
    fs::write(&path, table.text())?;
    println!("{TABLE} is written.");
    if !failed.is_empty() {
        bail!("{}", failed.join("\n"));
    }
    if is_ci() && !table.missing.is_empty() {
        bail!("kernels that can't be had:\n{}", table.missing.join("\n"));
    }
    Ok(())
}

impl Table {
    /// Takes the lines `PATH`, rung asked for, way, hook, rung, outcome.
    fn take(&mut self, release: &str, said: &str) {
        // `6.12.117+deb12-cloud-amd64` is `6.12`.
        let series = release.splitn(3, '.').take(2).collect::<Vec<_>>().join(".");
        let lines: Vec<Vec<&str>> = said
            .lines()
            .filter_map(|line| line.trim_end().strip_prefix("PATH\t"))
            .map(|line| line.split('\t').collect())
            .filter(|fields: &Vec<&str>| fields.len() == 5)
            .collect();
        for fields in &lines {
            let [asked, way, _, rung, outcome] = fields[..] else { continue };
            // What the column is named by: the rung that the open got where this one was asked for.
            let open = lines.iter().find(|line| line[0] == asked && line[2] == "open").map_or("none", |line| line[3]);
            let column = format!("{series} {open}");
            if !self.columns.contains(&column) {
                self.columns.push(column.clone());
            }
            if !self.ways.iter().any(|known| known == way) {
                self.ways.push(way.to_owned());
            }
            self.cells.insert((way.to_owned(), column), (rung.to_owned(), outcome.to_owned()));
        }
    }

    fn text(&self) -> String {
        let mut text = "# What is seen on which kernel\n\n\
            Written by `cargo xtask vm --kernel all`; not to be edited. A column is a kernel and the rung of the attach ladder \
            that\nits security hooks got; a cell is the rung that saw the way. **lost** is what `sensor doctor` says there, and a \
            test holds\nit to that in both directions. *not here*: the kernel has no such call.\n\n|"
            .to_owned();
        text.push_str(" way |");
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
                    None => "not tried".to_owned(),
                };
                text.push_str(&format!(" {cell} |"));
            }
            text.push('\n');
        }
        for missing in &self.missing {
            text.push_str(&format!("\nNot tried, the kernel can't be had: {missing}\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn lines_become_a_table() {
        let mut table = Table::default();
        table.take("6.12.117+deb12-cloud-amd64", "noise\nPATH\tlsm\topen\topen\tfentry\tseen\r\n");
        table.take(
            "5.10.0-46-cloud-amd64",
            "PATH\tlsm\topen\topen\ttracepoint\tseen\nPATH\tlsm\traw\tsocket\tnone\tlost\n",
        );
        let text = table.text();
        assert!(text.contains("| way | 6.12 fentry | 5.10 tracepoint |"), "{text}");
        assert!(text.contains("| open | fentry | tracepoint |"), "{text}");
        assert!(text.contains("| raw | not tried | **lost** |"), "{text}");
    }
}
