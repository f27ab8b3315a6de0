//! The figures of one rung, as a table for people, as JSON, and as names with numbers.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::Rung;
use super::baseline::Baseline;

/// What one boot said.
#[derive(Debug)]
pub struct Figures {
    /// `uname -r`
    release: String,
    pub rung: Rung,
    answer: Value,
    /// Name -> figure. An operation is `open` for what is added to it, `open.marked` for that in a process that carries a
    /// load; the rest is what [`OTHERS`] says.
    pub named: BTreeMap<String, i64>,
}

/// Name, where the guest says it, what it is.
const OTHERS: [(&str, &str, &str); 13] = [
    ("event", "/daemon/single/per_event", "instructions of the daemon per event that is printed, one at a time"),
    ("event.user", "/daemon/single/user", "  of them outside the kernel"),
    ("event.burst", "/daemon/burst/per_event", "the same, a hundred at a time"),
    ("event.folded", "/daemon/folded/per_event", "per event that only adds to a count, a hundred at a time"),
    (
        "event.first",
        "/daemon/single/first",
        "a process's first, its open and identity included, to within a second of idling",
    ),
    ("idle", "/daemon/idle_per_s", "instructions of the daemon per second in which nothing happens"),
    ("ready", "/ready_instructions", "instructions from start to every hook attached, by all"),
    ("memory_kib", "/rss_kib", "RssAnon of the daemon, idle, KiB"),
    ("memory_burst_kib", "/rss_burst_kib", "RssAnon of the daemon after all events, KiB"),
    ("maps_bytes", "/maps_bytes", "kernel memory of the maps"),
    ("rings_bytes", "/rings_bytes", "  of it rings"),
    ("programs", "/programs", "kernel programs"),
    ("maps", "/maps", "maps"),
];
/// Divided by clock ticks, lost among what is spent anyway, or by what falls into it: too coarse to be compared.
const COARSE: [&str; 4] = ["event.user", "event.first", "idle", "ready"];

impl Figures {
    pub fn new(release: &str, rung: Rung, answer: Value) -> Result<Self> {
        let mut named = BTreeMap::new();
        for (name, figures) in operations(&answer)? {
            for (key, suffix) in [("added", ""), ("added_marked", ".marked")] {
                named.insert(format!("{name}{suffix}"), figures[key].as_i64().context("no figure of an operation")?);
            }
        }
        for (name, pointer, what) in OTHERS {
            let figure = answer.pointer(pointer).and_then(Value::as_i64);
            named.insert(name.to_owned(), figure.with_context(|| format!("the guest did not say: {what}"))?);
        }
        Ok(Self { release: release.to_owned(), rung, answer, named })
    }

    /// Those that are compared with the committed ones.
    pub fn compared(&self) -> impl Iterator<Item = (&String, i64)> {
        self.named.iter().filter(|(name, _)| !COARSE.contains(&name.as_str())).map(|(name, figure)| (name, *figure))
    }

    pub fn print(&self, baseline: &Baseline) {
        let known = |name: &str| {
            let figure = baseline.figure(self.rung, name).map_or(String::new(), |figure| figure.to_string());
            let goal = baseline.goal(self.rung, name).map_or(String::new(), |goal| goal.to_string());
            (figure, goal)
        };
        println!("\nLinux {}, {} rung: instructions", self.release, self.rung.name());
        println!("{:<14} {:>9} {:>9} {:>9} {:>9} {:>9}", "operation", "base", "added", "in git", "goal", "by loader");
        for (name, figures) in operations(&self.answer).into_iter().flatten() {
            let (figure, goal) = known(name);
            println!(
                "{name:<14} {:>9} {:>+9} {figure:>9} {goal:>9} {:>+9}",
                figures["base"],
                self.named[name],
                self.named[&format!("{name}.marked")]
            );
        }
        println!("{:<14} {:>19} {:>9} {:>9}", "", "", "in git", "goal");
        for (name, _, what) in OTHERS {
            let (figure, goal) = known(name);
            println!("{name:<17} {:>16} {figure:>9} {goal:>9}  {what}", self.named[name]);
        }
    }

    /// What the kernel counts of each program, for one operation. The way to a program and back is not in it.
    pub fn print_programs(&self) {
        println!("\n{:<14} {:<16} {:>9} {:>13}", "operation", "program", "runs", "instructions");
        for operation in self.answer["ops_programs"].as_array().into_iter().flatten() {
            let times = operation["times"].as_f64().unwrap_or(1.0);
            for program in operation["programs"].as_array().into_iter().flatten() {
                let each = |key: &str| program[key].as_f64().unwrap_or(0.0) / times;
                println!(
                    "{:<14} {:<16} {:>9.2} {:>13.0}",
                    operation["name"].as_str().unwrap_or_default(),
                    program["name"].as_str().unwrap_or_default(),
                    each("runs"),
                    each("instructions")
                );
            }
        }
    }

    fn json(&self) -> Map<String, Value> {
        let milliseconds = |instructions: i64| instructions / 1_000_000;
        let mut all = Map::new();
        all.insert("kernel".to_owned(), json!(self.release));
        all.insert("rung".to_owned(), json!(self.rung.name()));
        let ops: Map<String, Value> = operations(&self.answer)
            .into_iter()
            .flatten()
            .map(|(name, op)| {
                let figures = ["base", "added", "added_marked"].map(|key| (key.to_owned(), op[key].clone()));
                (name.to_owned(), Value::Object(figures.into_iter().collect()))
            })
            .collect();
        all.insert("ops".to_owned(), Value::Object(ops));
        all.insert("rss_kib".to_owned(), json!(self.named["memory_kib"]));
        // One instruction a nanosecond.
        all.insert("ready_ms".to_owned(), json!(milliseconds(self.named["ready"])));
        all.insert("daemon_instructions_per_event".to_owned(), json!(self.named["event"]));
        for key in ["daemon", "rss_burst_kib", "programs", "maps", "maps_bytes", "rings_bytes"] {
            all.insert(key.to_owned(), self.answer[key].clone());
        }
        all
    }
}

/// Each operation with its figures, in the guest's order.
fn operations(answer: &Value) -> Result<impl Iterator<Item = (&str, &Value)>> {
    let ops = answer["ops"].as_array().context("the guest measured no operation")?;
    Ok(ops.iter().filter_map(|op| Some((op["name"].as_str()?, op))))
}

/// All rungs as one document: the first one's figures, the others below their names.
pub fn json(all: &[Figures]) -> Value {
    let Some((first, others)) = all.split_first() else { return Value::Null };
    let mut document = first.json();
    for other in others {
        document.insert(other.rung.name().to_owned(), Value::Object(other.json()));
    }
    Value::Object(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Value {
        json!({
            "ops": [{ "name": "open", "base": 6653, "added": 461, "added_marked": 700 }],
            "daemon": {
                "single": { "per_event": 50_000, "user": 30_000, "kernel": 20_000, "first": 900_000 },
                "burst": { "per_event": 40_000 }, "folded": { "per_event": 9_000 }, "idle_per_s": 10_000,
            },
            "rss_kib": 9_000, "rss_burst_kib": 12_000, "ready_instructions": 812_345_678, "programs": 16, "maps": 14,
            "maps_bytes": 10_000_000, "rings_bytes": 1_572_864,
        })
    }

    #[test]
    fn the_document_has_the_shape_that_others_rely_on() {
        let figures = |rung| Figures::new("6.12.1", rung, answer()).unwrap();
        let document = json(&[figures(Rung::Lsm), figures(Rung::Restricted)]);
        assert_eq!(document["kernel"], "6.12.1");
        assert_eq!(document["rung"], "lsm");
        assert_eq!(document["ops"]["open"]["base"], 6653);
        assert_eq!(document["ops"]["open"]["added"], 461);
        assert_eq!(document["rss_kib"], 9_000);
        assert_eq!(document["ready_ms"], 812);
        assert_eq!(document["daemon_instructions_per_event"], 50_000);
        assert_eq!(document["restricted"]["rung"], "restricted");
    }

    #[test]
    fn a_figure_that_the_guest_did_not_say_is_an_error() {
        let mut answer = answer();
        answer["maps"].take();
        assert!(Figures::new("6.12.1", Rung::Lsm, answer).is_err());
    }
}
