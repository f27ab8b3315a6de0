//! Acts of one kind become one incident, and an incident speaks only when there is something new to say.
//!
//! A line is due when an incident opens, when its severity rises, at each deny or kill, at counts 10, 100, 1000 …, and
//! after a minute with a new count. Nothing is folded without its count. Knows nothing of rules, alerts or sinks.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use sha2::{Digest, Sha256};

use crate::event::{Act, ActKind, Action, Destination, EventKind, Family, InodeKey, Loss, Model, Severity, TaskKey};
use crate::table::Map;

/// Incidents that are open at the same time. Full: the sixteenth that was quiet for longest gives way.
pub const INCIDENTS_MAX: usize = 4096;
/// Incidents of one origin and rule; what goes beyond is one incident of its own, [`Object::Rest`], with its count.
pub const INCIDENTS_PER_ORIGIN_RULE_MAX: u32 = 128;
/// Acts that an incident keeps to be judged again: one per model file.
pub const ACTS_PER_INCIDENT_MAX: usize = 8;
/// A new count is told after this long, ns.
pub const REPEAT_AFTER_NS: u64 = 60 * 1_000_000_000;
/// An incident that nothing was added to for so long is over, ns; what comes later is a new one.
pub const QUIET_NS_MAX: u64 = 3600 * 1_000_000_000;
/// How often those that are over are looked for, ns.
const SWEEP_EVERY_NS: u64 = 60 * 1_000_000_000;

/// Length of an incident's id: 128 bits in hexadecimal.
const ID_BYTES: usize = 32;

/// What an incident is about, beside origin and rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Object {
    /// Destinations of one /24 (IPv4) or /64 (IPv6).
    Net(IpNet),
    /// Destinations without an address.
    Family(Family),
    /// Local port.
    Port(u16),
    /// Path of the program.
    Program(Vec<u8>),
    /// Path of a unix socket.
    Path(Vec<u8>),
    Model(InodeKey),
    /// Path of a file that was read or written.
    File(Vec<u8>),
    /// Acts on the system, by their kind.
    System(EventKind),
    /// Why something was lost, and of which cgroup.
    Loss(&'static str, Option<u64>),
    /// All that is beyond [`INCIDENTS_PER_ORIGIN_RULE_MAX`].
    Rest,
}

impl Object {
    /// The object of an act; `decides` is the artifact that decides.
    pub fn of(act: &Act, decides: usize) -> Self {
        match &act.kind {
            ActKind::ModelOpen => {
                act.artifacts.get(decides).map_or(Self::Rest, |artifact| Self::Model(artifact.model.inode))
            }
            ActKind::Exec { exe, argv, .. } if exe.is_empty() => {
                Self::Program(argv.first().cloned().unwrap_or_default())
            }
            ActKind::Exec { exe, .. } => Self::Program(exe.clone()),
            ActKind::Connect(to) | ActKind::Send(to) | ActKind::Egress { to, .. } => Self::of_destination(to),
            ActKind::Bind(at) => Self::Port(at.port.unwrap_or(0)),
            // Whoever comes, it is the same door.
            ActKind::Accept { at, .. } => Self::Port(at.port.unwrap_or(0)),
            ActKind::Unix { path } => Self::Path(path.clone()),
            ActKind::File { path, .. } => Self::File(path.clone()),
            ActKind::System(deed) => Self::System(deed.kind),
        }
    }

    fn of_destination(destination: &Destination) -> Self {
        let net = destination.ip.map(|ip| ip.to_canonical()).and_then(|ip| {
            let bits = if matches!(ip, IpAddr::V4(_)) { 24 } else { 64 };
            IpNet::new(ip, bits).ok()
        });
        net.map_or(Self::Family(destination.family), |net| Self::Net(net.trunc()))
    }
}

/// Names an incident while it is open.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// Who opened the model; `None` for a loss.
    pub origin: Option<TaskKey>,
    /// Id of the rule.
    pub rule: Arc<str>,
    pub object: Object,
}

/// What a line is about.
#[derive(Debug, Clone)]
pub enum Subject {
    Act { act: Arc<Act>, decides: usize },
    Loss { reason: &'static str, cgroup: Option<u64> },
}

/// One thing that was seen and judged.
#[derive(Debug, Clone)]
pub struct Sighting {
    pub key: Key,
    pub subject: Subject,
    pub severity: Severity,
    /// What was done about it.
    pub action: Action,
    /// Wall clock, ns since the epoch.
    pub time_unix_ns: i128,
    /// How many times at once (losses and folded acts come in numbers).
    pub times: u64,
}

/// What has to be said now.
#[derive(Debug, Clone)]
pub struct Line {
    /// One per line: the incident's id and the number of its line.
    pub id: String,
    pub incident_id: String,
    pub origin: Option<TaskKey>,
    pub rule: Arc<str>,
    pub subject: Subject,
    pub severity: Severity,
    pub action: Action,
    /// A late verdict raised what an earlier line said.
    pub update: bool,
    /// Of the latest act, which need not be the one that is shown.
    pub time_unix_ns: i128,
    pub count: u64,
    pub first_seen_unix_ns: i128,
    pub last_seen_unix_ns: i128,
}

#[derive(Debug)]
struct Incident {
    id: String,
    /// The loudest so far; what lines say.
    severity: Severity,
    action: Action,
    /// The latest of those that were that loud: a line's model has to be the one that decided its severity.
    loudest: Subject,
    /// Of the latest sighting.
    time_unix_ns: i128,
    /// The most telling act per model file, to be judged again when its verdict comes.
    acts: Vec<(u64, Arc<Act>)>,
    count: u64,
    told_count: u64,
    told_ns: u64,
    lines: u64,
    first_seen_unix_ns: i128,
    last_seen_unix_ns: i128,
    last_seen_ns: u64,
    /// Number of its latest sighting: a clock that never shows the same time twice.
    turn: u64,
}

/// Open incidents.
#[derive(Debug, Default)]
pub struct Incidents {
    open: Map<Key, Incident>,
    per_origin_rule: Map<(Option<TaskKey>, Arc<str>), u32>,
    /// Makes ids differ between hosts and boots.
    salt: u128,
    turn: u64,
    evicted: u64,
    swept_ns: u64,
    /// Before then no new count has to be told.
    repeats_due_ns: u64,
}

impl Incidents {
    /// `salt`: something that no other boot of any host has (its boot id).
    pub fn new(salt: &str) -> Self {
        let hash: [u8; 32] = Sha256::digest(salt).into();
        let salt = hash.iter().take(16).fold(0, |salt, byte| salt << 8 | u128::from(*byte));
        Self { salt, ..Self::default() }
    }

    /// Counts a sighting; the lines that are due, in order. `now_ns`: boot-time clock.
    pub fn see(&mut self, sighting: Sighting, now_ns: u64) -> Vec<Line> {
        let mut lines = self.make_room(now_ns);
        let key = self.bounded(sighting.key.clone());
        self.turn += 1;
        let turn = self.turn;
        let Some(incident) = self.open.get_mut(&key) else {
            lines.push(self.open(key, sighting, now_ns));
            return lines;
        };
        let before = incident.count;
        incident.count = incident.count.saturating_add(sighting.times);
        incident.last_seen_unix_ns = incident.last_seen_unix_ns.max(sighting.time_unix_ns);
        incident.last_seen_ns = incident.last_seen_ns.max(now_ns);
        incident.turn = turn;
        incident.keep(&sighting.subject);
        incident.time_unix_ns = sighting.time_unix_ns;
        incident.action = sighting.action;
        let rose = sighting.severity > incident.severity;
        if sighting.severity >= incident.severity {
            incident.severity = sighting.severity;
            incident.loudest = sighting.subject;
        }
        let due = rose
            || sighting.action != Action::Alert
            || crosses_power_of_ten(before, incident.count)
            || now_ns.saturating_sub(incident.told_ns) >= REPEAT_AFTER_NS;
        if due {
            lines.push(incident.line(&key, false, now_ns));
        } else {
            self.repeats_due_ns = self.repeats_due_ns.min(incident.told_ns.saturating_add(REPEAT_AFTER_NS));
        }
        lines
    }

    /// A late verdict made `sighting` louder than it was: raises its incident, or opens one where the act alone made
    /// no alert. Counts nothing.
    pub fn raise(&mut self, sighting: Sighting, now_ns: u64) -> Vec<Line> {
        let mut lines = self.make_room(now_ns);
        let key = self.bounded(sighting.key.clone());
        self.turn += 1;
        match self.open.get_mut(&key) {
            None => lines.push(self.open(key, sighting, now_ns)),
            Some(incident) if sighting.severity > incident.severity => {
                incident.severity = sighting.severity;
                incident.loudest = sighting.subject;
                incident.time_unix_ns = sighting.time_unix_ns;
                lines.push(incident.line(&key, true, now_ns));
            }
            Some(_) => {}
        }
        lines
    }

    /// A verdict came: stored acts carry it from now on. Those that involve the file, once each.
    pub fn learn(&mut self, model: &Arc<Model>) -> Vec<(Key, Arc<Act>)> {
        let mut involved = Vec::new();
        for (key, incident) in &mut self.open {
            for (sight, act) in &mut incident.acts {
                learn(act, model);
                if *sight == model.sight {
                    involved.push((key.clone(), Arc::clone(act)));
                }
            }
            if let Subject::Act { act, .. } = &mut incident.loudest {
                learn(act, model);
            }
        }
        involved
    }

    /// What has waited long enough: new counts; incidents that are over are forgotten.
    pub fn tick(&mut self, now_ns: u64) -> Vec<Line> {
        let mut lines = Vec::new();
        if now_ns >= self.repeats_due_ns {
            self.repeats_due_ns = u64::MAX;
            for (key, incident) in self.open.iter_mut().filter(|(_, incident)| incident.count > incident.told_count) {
                let due_ns = incident.told_ns.saturating_add(REPEAT_AFTER_NS);
                if now_ns >= due_ns {
                    lines.push(incident.line(key, false, now_ns));
                } else {
                    self.repeats_due_ns = self.repeats_due_ns.min(due_ns);
                }
            }
        }
        if now_ns.saturating_sub(self.swept_ns) >= SWEEP_EVERY_NS {
            self.swept_ns = now_ns;
            self.remove(|incident| now_ns.saturating_sub(incident.last_seen_ns) >= QUIET_NS_MAX);
        }
        lines
    }

    /// The counts that no line has told yet: for the end of the program.
    pub fn drain(&mut self, now_ns: u64) -> Vec<Line> {
        self.open
            .iter_mut()
            .filter(|(_, incident)| incident.count > incident.told_count)
            .map(|(key, incident)| incident.line(key, false, now_ns))
            .collect()
    }

    /// How many incidents gave way to others since the last call.
    pub fn take_evicted(&mut self) -> u64 {
        std::mem::take(&mut self.evicted)
    }

    fn open(&mut self, key: Key, sighting: Sighting, now_ns: u64) -> Line {
        let mut incident = Incident {
            id: self.id_of(sighting.time_unix_ns),
            severity: sighting.severity,
            action: sighting.action,
            loudest: sighting.subject.clone(),
            time_unix_ns: sighting.time_unix_ns,
            acts: Vec::new(),
            count: sighting.times,
            told_count: 0,
            told_ns: now_ns,
            lines: 0,
            first_seen_unix_ns: sighting.time_unix_ns,
            last_seen_unix_ns: sighting.time_unix_ns,
            last_seen_ns: now_ns,
            turn: self.turn,
        };
        incident.keep(&sighting.subject);
        let line = incident.line(&key, false, now_ns);
        *self.per_origin_rule.entry((key.origin, Arc::clone(&key.rule))).or_default() += 1;
        self.open.insert(key, incident);
        line
    }

    /// The key, or that of the rest where its origin has too many.
    fn bounded(&self, key: Key) -> Key {
        let count = self.per_origin_rule.get(&(key.origin, Arc::clone(&key.rule))).copied().unwrap_or(0);
        if count >= INCIDENTS_PER_ORIGIN_RULE_MAX && !self.open.contains_key(&key) {
            Key { object: Object::Rest, ..key }
        } else {
            key
        }
    }

    /// Where the table is full, the quietest give way; their counts are told first.
    fn make_room(&mut self, now_ns: u64) -> Vec<Line> {
        if self.open.len() < INCIDENTS_MAX {
            return Vec::new();
        }
        let mut turns: Vec<u64> = self.open.values().map(|incident| incident.turn).collect();
        let (_, limit, _) = turns.select_nth_unstable(INCIDENTS_MAX / 16);
        let limit = *limit;
        let lines = self
            .open
            .iter_mut()
            .filter(|(_, incident)| incident.turn <= limit && incident.count > incident.told_count)
            .map(|(key, incident)| incident.line(key, false, now_ns))
            .collect();
        let before = self.open.len();
        self.remove(|incident| incident.turn <= limit);
        self.evicted += (before - self.open.len()) as u64;
        lines
    }

    fn remove(&mut self, over: impl Fn(&Incident) -> bool) {
        let counts = &mut self.per_origin_rule;
        self.open.retain(|key, incident| {
            let stays = !over(incident);
            if !stays {
                let name = (key.origin, Arc::clone(&key.rule));
                if let Some(count) = counts.get_mut(&name) {
                    *count -= 1;
                    if *count == 0 {
                        counts.remove(&name);
                    }
                }
            }
            stays
        });
    }

    /// 128 bits that no other incident of this boot has, nor, by the salt's hash, one of another: the wall clock, which
    /// tells this run of the sensor from others, and the turn, which tells incidents of one run apart.
    fn id_of(&self, time_unix_ns: i128) -> String {
        let own = (time_unix_ns as u128 & u128::from(u64::MAX)) << 64 | u128::from(self.turn);
        let mut id = String::with_capacity(ID_BYTES);
        // Writing to a String cannot fail.
        let _ = write!(id, "{:032x}", self.salt ^ own);
        id
    }
}

impl Incident {
    fn line(&mut self, key: &Key, update: bool, now_ns: u64) -> Line {
        self.lines += 1;
        self.told_count = self.count;
        self.told_ns = now_ns;
        let mut id = String::with_capacity(ID_BYTES + 4);
        let _ = write!(id, "{}-{}", self.id, self.lines);
        Line {
            id,
            incident_id: self.id.clone(),
            origin: key.origin,
            rule: Arc::clone(&key.rule),
            subject: self.loudest.clone(),
            severity: self.severity,
            action: self.action,
            update,
            time_unix_ns: self.time_unix_ns,
            count: self.count,
            first_seen_unix_ns: self.first_seen_unix_ns,
            last_seen_unix_ns: self.last_seen_unix_ns,
        }
    }

    /// Keeps, per model file, the act that would be loudest if the file turned out to be bad: inside the window before
    /// outside, born in the load before not, then the one that came sooner after the load.
    fn keep(&mut self, subject: &Subject) {
        let Subject::Act { act, .. } = subject else { return };
        for artifact in &act.artifacts {
            let sight = artifact.model.sight;
            let telling = |act: &Act| {
                act.artifacts
                    .iter()
                    .find(|artifact| artifact.model.sight == sight)
                    .map(|artifact| (!artifact.in_window, !artifact.born, artifact.since_ns))
            };
            if let Some((_, known)) = self.acts.iter_mut().find(|(known, _)| *known == sight) {
                if telling(act) < telling(known) {
                    *known = Arc::clone(act);
                }
            } else if self.acts.len() < ACTS_PER_INCIDENT_MAX {
                self.acts.push((sight, Arc::clone(act)));
            }
        }
    }
}

/// Puts what is known now in the place of what was known when the act happened.
pub fn learn(act: &mut Arc<Act>, model: &Arc<Model>) {
    if act.artifacts.iter().any(|artifact| artifact.model.sight == model.sight && artifact.model != *model) {
        for artifact in &mut Arc::make_mut(act).artifacts {
            if artifact.model.sight == model.sight {
                artifact.model = Arc::clone(model);
            }
        }
    }
}

/// A loss as a sighting.
pub fn sighting_of_loss(loss: &Loss, rule: Arc<str>, severity: Severity) -> Sighting {
    Sighting {
        key: Key { origin: None, rule, object: Object::Loss(loss.reason, loss.cgroup) },
        subject: Subject::Loss { reason: loss.reason, cgroup: loss.cgroup },
        severity,
        action: Action::Alert,
        time_unix_ns: loss.time_unix_ns,
        times: loss.count,
    }
}

/// Did the count reach 10, 100, 1000 … on the way from `before` to `after`?
fn crosses_power_of_ten(before: u64, after: u64) -> bool {
    after >= 10 && before.checked_ilog10().unwrap_or(0) < after.ilog10()
}

#[cfg(test)]
#[path = "incident_tests.rs"]
mod tests;
