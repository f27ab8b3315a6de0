//! The committed figures, `tests/vm/overhead.toml`: what a change is held against, what has to be reached, and why it was
//! allowed to cost more.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::Rung;
use super::figures::Figures;
use crate::tool::root;

/// A figure may be this much above the committed one …
const TOLERANCE_PERCENT: i64 = 5;
/// … or this much, where a few instructions are more than that.
const TOLERANCE_INSTRUCTIONS: i64 = 12;

/// What these cost differs so much from build to build: another layout of memory is another draw of the kernel's free
/// lists and hashes (`--seed` shows others).
const ALLOCATING: [&str; 4] = ["fork", "fork.marked", "exec", "exec.marked"];
const ALLOCATING_TOLERANCE_INSTRUCTIONS: i64 = 3_000;

/// Memory is taken in larger pieces than 5 % of little: the same sensor, built on two hosts, differs by this much.
const TOLERANCE_KIB: i64 = 512;
/// What is left of a burst depends on how much of it came at once: builds of one source differ by this much.
const BURST_TOLERANCE_KIB: i64 = 4_096;

const HEADER: &str = "\
# What the sensor adds to operations and spends by itself, as `cargo xtask bench overhead` measures it.
# `cargo xtask bench overhead --check` fails where a figure is more than 5 % above the one here, or above its goal.
# Written by `cargo xtask bench overhead --accept WHY`; goals are edited by hand.
";

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// The series of Debian's cloud kernel that the figures are of.
    pub kernel: String,
    /// What has to be reached, on the best rung.
    goal: BTreeMap<String, i64>,
    lsm: BTreeMap<String, i64>,
    restricted: BTreeMap<String, i64>,
    /// What was spent on purpose, the latest last.
    #[serde(default)]
    spent: Vec<Spent>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Spent {
    why: String,
    figures: Vec<String>,
}

impl Baseline {
    pub fn read() -> Result<Self> {
        let file = file();
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        toml::from_str(&text).with_context(|| file.display().to_string())
    }

    pub fn figure(&self, rung: Rung, name: &str) -> Option<i64> {
        self.of(rung).get(name).copied()
    }

    pub fn goal(&self, rung: Rung, name: &str) -> Option<i64> {
        self.goal.get(name).copied().filter(|_| rung == Rung::Lsm)
    }

    fn of(&self, rung: Rung) -> &BTreeMap<String, i64> {
        match rung {
            Rung::Lsm => &self.lsm,
            Rung::Restricted => &self.restricted,
        }
    }

    /// What is wrong with these figures, in words; says what has become cheaper.
    pub fn compare(&self, figures: &Figures) -> Vec<String> {
        let rung = figures.rung;
        let mut wrong = Vec::new();
        for (name, figure) in figures.compared() {
            match self.figure(rung, name) {
                None => wrong.push(format!("{}: {name} is {figure}, and no figure is committed", rung.name())),
                Some(before) if figure > limit(name, before) => {
                    wrong.push(format!("{}: {name} is {figure}, committed are {before}", rung.name()));
                }
                Some(before) if before > limit(name, figure) => {
                    println!("{}: {name} has become cheaper: {figure}, committed are {before}", rung.name());
                }
                Some(_) => {}
            }
            // A goal that was never reached is no news; one that was, is held.
            let reached = |goal: &i64| self.figure(rung, name).is_some_and(|before| before <= *goal);
            if let Some(goal) = self.goal(rung, name).filter(|goal| figure > *goal && reached(goal)) {
                wrong.push(format!("{}: {name} is {figure}, and its goal is {goal}", rung.name()));
            }
        }
        for name in self.of(rung).keys().filter(|name| !figures.named.contains_key(*name)) {
            wrong.push(format!("{}: {name} is committed, and was not measured", rung.name()));
        }
        wrong
    }

    /// Makes these the committed figures.
    pub fn accept(&mut self, all: &[Figures], why: &str) -> Result<()> {
        self.take(all, why)?;
        Ok(fs::write(file(), format!("{HEADER}\n{}", toml::to_string(self)?))?)
    }

    fn take(&mut self, all: &[Figures], why: &str) -> Result<()> {
        if why.trim().is_empty() {
            bail!("--accept needs a reason");
        }
        let mut risen = Vec::new();
        for figures in all {
            let rung = figures.rung;
            let new: BTreeMap<String, i64> = figures.compared().map(|(name, figure)| (name.clone(), figure)).collect();
            for (name, figure) in &new {
                match self.figure(rung, name) {
                    Some(before) if *figure > limit(name, before) => {
                        risen.push(format!("{} {name}: {before} -> {figure}", rung.name()));
                    }
                    _ => {}
                }
            }
            match rung {
                Rung::Lsm => self.lsm = new,
                Rung::Restricted => self.restricted = new,
            }
        }
        if !risen.is_empty() {
            self.spent.push(Spent { why: why.to_owned(), figures: risen });
        }
        Ok(())
    }
}

/// The highest figure that counts as no rise.
fn limit(name: &str, committed: i64) -> i64 {
    let least = match name {
        _ if ALLOCATING.contains(&name) => ALLOCATING_TOLERANCE_INSTRUCTIONS,
        "memory_burst_kib" => BURST_TOLERANCE_KIB,
        "memory_kib" => TOLERANCE_KIB,
        _ => TOLERANCE_INSTRUCTIONS,
    };
    committed + (committed * TOLERANCE_PERCENT / 100).max(least)
}

fn file() -> PathBuf {
    root().join("tests/vm/overhead.toml")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn figures(open: i64) -> Figures {
        let spent = json!({ "per_event": 100, "user": 60, "first": 100 });
        let answer: Value = json!({
            "ops": [{ "name": "open", "base": 6653, "added": open, "added_marked": 500 }],
            "daemon": { "single": spent, "burst": spent, "folded": spent, "idle_per_s": 100 },
            "rss_kib": 100, "rss_burst_kib": 100, "ready_instructions": 100, "programs": 16, "maps": 14,
            "maps_bytes": 100, "rings_bytes": 100,
        });
        Figures::new("6.12.1", Rung::Lsm, answer).unwrap()
    }

    fn baseline() -> Baseline {
        let goal = BTreeMap::from([("open".to_owned(), 500)]);
        let mut baseline = Baseline {
            kernel: "6.12".to_owned(),
            goal,
            lsm: BTreeMap::new(),
            restricted: BTreeMap::new(),
            spent: Vec::new(),
        };
        baseline.take(&[figures(460)], "the first").unwrap();
        baseline
    }

    #[test]
    fn five_percent_more_is_a_rise() {
        let baseline = baseline();
        assert_eq!(baseline.compare(&figures(483)), Vec::<String>::new());
        assert_eq!(baseline.compare(&figures(484)).len(), 1);
        assert_eq!(baseline.compare(&figures(300)), Vec::<String>::new());
    }

    #[test]
    fn little_memory_has_a_tolerance_of_its_own() {
        assert_eq!(limit("memory_kib", 5_372), 5_884);
        assert_eq!(limit("memory_burst_kib", 15_812), 19_908);
    }

    #[test]
    fn a_goal_that_was_reached_is_held() {
        let mut baseline = baseline();
        baseline.take(&[figures(490)], "on purpose").unwrap();
        assert_eq!(baseline.compare(&figures(500)), Vec::<String>::new());
        assert_eq!(baseline.compare(&figures(501)).len(), 1, "within 5 %, and above the goal");
        baseline.take(&[figures(501)], "it can't be had").unwrap();
        assert_eq!(baseline.compare(&figures(501)), Vec::<String>::new());
    }

    #[test]
    fn what_is_spent_keeps_its_reason() {
        let mut baseline = baseline();
        assert!(baseline.take(&[figures(490)], " ").is_err());
        baseline.take(&[figures(490)], "one walk more").unwrap();
        assert_eq!(baseline.spent.len(), 1);
        assert_eq!(baseline.spent[0].why, "one walk more");
        assert_eq!(baseline.spent[0].figures, ["lsm open: 460 -> 490"]);
        baseline.take(&[figures(300)], "cheaper").unwrap();
        assert_eq!(baseline.spent.len(), 1);
    }

    #[test]
    fn the_committed_file_can_be_read() {
        assert_eq!(Baseline::read().unwrap().kernel, crate::setup::KERNEL);
    }
}
