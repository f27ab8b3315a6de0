//! The attach plan: what each hook got, why not better, and what is lost by it, in words.

use serde::Serialize;

/// How a hook is attached, from the best down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rung {
    /// BPF LSM: every way to the operation, and it could be refused there.
    Lsm,
    /// A typed tracepoint inside the kernel's own function.
    TpBtf,
    /// A cgroup socket program: every process, and it could be refused there.
    Cgroup,
    /// A tracepoint at the system call's edge.
    Tracepoint,
    /// One walk at start.
    Iterator,
}

impl Rung {
    /// The word of the JSON output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lsm => "lsm",
            Self::TpBtf => "tp_btf",
            Self::Cgroup => "cgroup",
            Self::Tracepoint => "tracepoint",
            Self::Iterator => "iterator",
        }
    }
}

/// One hook of the plan.
#[derive(Debug, Clone, Serialize)]
pub struct Hook {
    /// What it sees.
    pub event: &'static str,
    /// What it got; `None` where nothing could be attached.
    pub rung: Option<Rung>,
    /// Without it the sensor is degraded: it misses whole kinds of acts on every host.
    pub required: bool,
    /// It was seen to run.
    pub proven: bool,
    pub why_not_better: Vec<String>,
    /// What this host does not see because of it; empty where nothing is lost.
    pub lost: String,
}

impl Hook {
    /// Nothing attached yet; `lost` is what that costs.
    pub fn new(event: &'static str, required: bool, lost: &str) -> Self {
        Self { event, rung: None, required, proven: false, why_not_better: Vec::new(), lost: lost.to_owned() }
    }

    /// A rung was tried; it costs what `lost` says ("" where nothing).
    pub fn settle(&mut self, rung: Rung, attached: Result<(), String>, lost: &str) {
        match attached {
            Ok(()) => {
                self.rung = Some(rung);
                lost.clone_into(&mut self.lost);
            }
            Err(why) => self.why_not_better.push(format!("{}: {why}", rung.name())),
        }
    }
}

/// All hooks.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Plan {
    pub hooks: Vec<Hook>,
}

impl Plan {
    pub fn hook_mut(&mut self, event: &str) -> Option<&mut Hook> {
        self.hooks.iter_mut().find(|hook| hook.event == event)
    }

    /// What `event` got.
    pub fn rung(&self, event: &str) -> Option<Rung> {
        self.hooks.iter().find(|hook| hook.event == event)?.rung
    }

    /// Required hooks that got nothing.
    pub fn missing(&self) -> impl Iterator<Item = &Hook> {
        self.hooks.iter().filter(|hook| hook.required && hook.rung.is_none())
    }

    /// Why hooks got nothing, or less than the best, one per line.
    pub fn reasons(&self) -> String {
        let mut text = String::new();
        for hook in &self.hooks {
            for why in &hook.why_not_better {
                text.push_str(&format!("  {}: {why}\n", hook.event));
            }
        }
        text
    }
}
