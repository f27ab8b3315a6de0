//! The attach plan: what each hook got, why not better, and what is lost by it, in words.

use serde::Serialize;

/// How a hook is attached, from the best down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rung {
    /// BPF LSM: every way to the operation, and it could be refused there.
    Lsm,
    /// The entry of the kernel's own function, by a trampoline: sees the same, without `bpf` in `lsm=` too.
    Fentry,
    /// The same by a breakpoint: where there are no trampolines.
    Kprobe,
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
            Self::Fentry => "fentry",
            Self::Kprobe => "kprobe",
            Self::TpBtf => "tp_btf",
            Self::Cgroup => "cgroup",
            Self::Tracepoint => "tracepoint",
            Self::Iterator => "iterator",
        }
    }
}

/// The best rung that hooks on the kernel's security functions may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum BestRung {
    #[default]
    Lsm,
    Fentry,
    Kprobe,
    Tracepoint,
}

impl std::str::FromStr for BestRung {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "lsm" => Ok(Self::Lsm),
            "fentry" => Ok(Self::Fentry),
            "kprobe" => Ok(Self::Kprobe),
            "tracepoint" => Ok(Self::Tracepoint),
            _ => Err("lsm, fentry, kprobe or tracepoint".to_owned()),
        }
    }
}

impl BestRung {
    /// May `rung` be tried?
    pub fn allows(self, rung: Rung) -> bool {
        let place = match rung {
            Rung::Lsm => Self::Lsm,
            Rung::Fentry => Self::Fentry,
            Rung::Kprobe => Self::Kprobe,
            Rung::TpBtf | Rung::Cgroup | Rung::Tracepoint | Rung::Iterator => Self::Tracepoint,
        };
        self <= place
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
    /// What it would be without the hook.
    #[serde(skip)]
    without: String,
}

impl Hook {
    /// Nothing attached yet; `lost` is what that costs.
    pub fn new(event: &'static str, required: bool, lost: &str) -> Self {
        Self {
            event,
            rung: None,
            required,
            proven: false,
            why_not_better: Vec::new(),
            lost: lost.to_owned(),
            without: lost.to_owned(),
        }
    }

    /// What was attached turned out to be worth nothing.
    pub fn lose(&mut self, why: String) {
        self.why_not_better.extend(self.rung.take().map(|rung| format!("{}: {why}", rung.name())));
        self.lost.clone_from(&self.without);
    }

    /// A rung was tried; it costs what `lost` says ("" where nothing).
    pub fn settle(&mut self, rung: Rung, attached: Result<(), String>, lost: &str) {
        tracing::debug!(hook = self.event, rung = rung.name(), ?attached, "tried");
        match attached {
            Ok(()) => {
                self.rung = Some(rung);
                lost.clone_into(&mut self.lost);
            }
            Err(why) => self.why_not_better.push(format!("{}: {why}", rung.name())),
        }
    }
}

/// The rungs of hooks on the kernel's security functions, from the best down; below them some have tracepoints.
pub const SECURITY_RUNGS: [Rung; 3] = [Rung::Lsm, Rung::Fentry, Rung::Kprobe];

/// A rung that was asked whether it runs on this host.
#[derive(Debug, Clone, Serialize)]
pub struct RungState {
    pub rung: Rung,
    /// Why it doesn't, for all hooks; `None` where it was seen to run.
    pub why_not: Option<String>,
}

/// All hooks.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Plan {
    /// What is lost when the sensor ends or is killed, in words; empty where marks outlive it.
    pub not_kept: Vec<String>,
    pub ladder: Vec<RungState>,
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

    /// Why rungs don't run here, and hooks got nothing or less than the best, one per line.
    pub fn reasons(&self) -> String {
        let mut text = String::new();
        for state in &self.ladder {
            if let Some(why) = &state.why_not {
                text.push_str(&format!("  {}: {why}\n", state.rung.name()));
            }
        }
        for hook in &self.hooks {
            for why in &hook.why_not_better {
                text.push_str(&format!("  {}: {why}\n", hook.event));
            }
        }
        text
    }
}
