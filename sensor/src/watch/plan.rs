//! The attach plan: what each hook got, why not better, and what is lost by it, in words.

use serde::Serialize;

/// How a hook is attached, from the best down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Rung {
    /// BPF LSM: every way to the operation, and it can be refused there.
    Lsm,
    /// A typed tracepoint inside the kernel's own function.
    #[serde(rename = "tp_btf")]
    TpBtf,
    /// A cgroup socket program: every process, and it can be refused there.
    Cgroup,
    /// A tracepoint at the system call's edge.
    Tracepoint,
    /// One walk at start.
    Iterator,
}

impl Rung {
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
    /// The best rung there is for it.
    pub best: Rung,
    /// It was seen to run.
    pub proven: bool,
    pub why_not_better: Vec<String>,
    /// What this host does not see because of it; empty where nothing is lost.
    pub lost: String,
}

impl Hook {
    /// Nothing attached yet; `lost` is what that costs.
    pub fn new(event: &'static str, lost: &str) -> Self {
        Self { event, rung: None, best: Rung::TpBtf, proven: false, why_not_better: Vec::new(), lost: lost.to_owned() }
    }

    /// The one rung that the hook has was tried.
    pub fn settle(&mut self, rung: Rung, attached: Result<(), String>) {
        self.best = rung;
        match attached {
            Ok(()) => {
                self.rung = Some(rung);
                self.lost.clear();
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
    /// Hooks that got nothing, or less than the best.
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
