//! From act to alert: the policy judges, incidents fold, the timeline tells the story, and what is due becomes an
//! [`Alert`]. Pure and synchronous; clocks are arguments.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::alert::{
    self, Alert, AlertModel, AlertProcess, Argv, Detail, Event, Host, Moment, MomentDetail, Program, Remembered, Shared,
};
use crate::event::{
    Act, ActKind, Action, Basis, Bytes, Deed, Destination, EventKind, Family, Lineage, Loss, Model, OPEN_UNJUDGED,
    Proto, TaskKey, Verdict,
};
use crate::incident::{self, Incidents, Key, Line, Object, Sighting, Subject};
use crate::policy::{Judgement, Notice, Policy, rule};
use crate::table::Set;
use crate::timeline::{self, MOMENT_ARGV_MAX, MOMENT_TEXT_BYTES_MAX, Story, Timelines, What};
use crate::waiting::WaitingRoom;

/// Acts that made no alert and wait for the verdict of their model: as many as may wait to be judged at all, since on a
/// busy machine all of those can leave without one.
pub const WAITING_MAX: usize = 4_096;
/// How long such an act waits, ns.
pub const WAITING_NS_MAX: u64 = 600 * 1_000_000_000;

/// Waiting acts of one model that a new one is compared with, the latest first: an equal one only adds to its count.
const ALIKE_MAX: usize = 32;

/// Everything between an act and its alert.
#[derive(Debug)]
pub struct Judge {
    policy: Arc<Policy>,
    host: Shared<Host>,
    /// The rules as alerts name them, in the policy's order.
    rules: Vec<Shared<alert::Rule>>,
    processes: Remembered<TaskKey, Lineage, AlertProcess>,
    models: Remembered<u64, Model, AlertModel>,
    incidents: Incidents,
    timelines: Timelines,
    waiting: WaitingRoom<u64, Arc<Act>>,
    /// Acts that gave way in `waiting` since they were reported last, and opens of models that did.
    waiting_evicted: u64,
    opens_evicted: u64,
    /// What gave way anywhere since the start, per reason.
    lost: BTreeMap<&'static str, u64>,
    /// Notices that were given.
    noticed: Set<Notice>,
}

impl Judge {
    pub fn new(policy: Arc<Policy>, host: Host) -> Self {
        let incidents = Incidents::new(&host.boot_id);
        let rules = policy.rules().iter().map(|rule| Shared::new(rule_part(rule))).collect();
        Self {
            policy,
            host: Shared::new(host),
            rules,
            processes: Remembered::default(),
            models: Remembered::default(),
            incidents,
            timelines: Timelines::default(),
            waiting: WaitingRoom::new(WAITING_MAX),
            waiting_evicted: 0,
            opens_evicted: 0,
            lost: BTreeMap::new(),
            noticed: Set::default(),
        }
    }

    /// Judges an act. Whoever calls has waited for the verdict as long as it wants to. `now_ns`: boot-time clock.
    pub fn act(&mut self, act: Act, now_ns: u64) -> Vec<Alert> {
        let sight = self.policy.sight(&act);
        let judgements = self.policy.judge(&act);
        let act = Arc::new(act);
        self.record(&act, sight.kind, &judgements);
        if judgements.is_empty() && !sight.timeline_only {
            self.wait(Arc::clone(&act));
        }
        let mut lines = Vec::new();
        for judgement in judgements {
            if let Some(sighting) = sighting(&act, &judgement) {
                lines.extend(self.incidents.see(sighting, now_ns));
            }
        }
        self.finish(lines, act.time_unix_ns, now_ns)
    }

    /// A model's verdict came (or changed): what was judged without it is judged again, and what became louder is said.
    pub fn verdict(&mut self, model: Arc<Model>, now_ns: u64) -> Vec<Alert> {
        self.timelines.learn(&model);
        let mut again: Vec<(Option<Key>, Arc<Act>)> =
            self.incidents.learn(&model).into_iter().map(|(key, act)| (Some(key), act)).collect();
        for mut act in self.waiting.take(&model.sight) {
            incident::learn(&mut act, &model);
            again.push((None, Arc::clone(&act)));
            self.wait(act);
        }
        let mut lines = Vec::new();
        let mut latest_unix_ns = 0;
        for (key, act) in again {
            latest_unix_ns = act.time_unix_ns.max(latest_unix_ns);
            for judgement in self.policy.judge(&act) {
                let Some(mut sighting) = sighting(&act, &judgement) else { continue };
                // The incident that is open already is the one that is raised, even where another opener decides now.
                if let Some(key) = key.as_ref().filter(|key| *key.rule == *judgement.rule.id) {
                    sighting.key = key.clone();
                }
                lines.extend(self.incidents.raise(sighting, now_ns));
            }
        }
        self.finish(lines, latest_unix_ns, now_ns)
    }

    /// Something wasn't seen.
    pub fn loss(&mut self, loss: Loss, now_ns: u64) -> Vec<Alert> {
        let lines = self.see_loss(&loss, now_ns);
        lines.into_iter().map(|line| self.alert(line)).collect()
    }

    /// What time alone makes due: counts after a minute. Call it about once a second. `now_unix_ns`: wall clock.
    pub fn tick(&mut self, now_unix_ns: i128, now_ns: u64) -> Vec<Alert> {
        let lines = self.incidents.tick(now_ns);
        let alerts = self.finish(lines, now_unix_ns, now_ns);
        self.timelines.forget(now_ns.saturating_sub(incident::QUIET_NS_MAX));
        self.waiting.overdue(now_ns);
        alerts
    }

    /// The counts that no line has told: at the end of the program.
    pub fn drain(&mut self, now_ns: u64) -> Vec<Alert> {
        let lines = self.incidents.drain(now_ns);
        lines.into_iter().map(|line| self.alert(line)).collect()
    }

    /// What gave way since the start, per reason; each was told by an alert.
    pub fn loss_sums(&self) -> &BTreeMap<&'static str, u64> {
        &self.lost
    }

    /// What the operator should know about the rules (exceptions that are over), each once; for the log. Ask at the
    /// start and now and then.
    pub fn notices(&mut self, now_unix_ns: i128) -> Vec<Notice> {
        let mut notices = self.policy.notices(now_unix_ns);
        notices.retain(|notice| self.noticed.insert(notice.clone()));
        notices
    }

    /// The story goes to whoever loaded what decides; without a judgement, to the opener of the latest artifact.
    fn record(&mut self, act: &Act, kind: EventKind, judgements: &[Judgement]) {
        let mut origins: Vec<TaskKey> = judgements.iter().filter_map(|judgement| origin(act, judgement)).collect();
        if origins.is_empty() {
            let latest = act.artifacts.iter().max_by_key(|artifact| artifact.opened_boottime_ns);
            origins.extend(latest.map(|artifact| artifact.opener));
        }
        origins.sort_unstable();
        origins.dedup();
        for origin in origins {
            self.timelines.record(origin, act, kind);
        }
    }

    /// Keeps an act for the verdicts that are still to come; nothing where there is none.
    fn wait(&mut self, act: Arc<Act>) {
        let sights = |act: &Act| -> Vec<u64> { act.artifacts.iter().map(|artifact| artifact.model.sight).collect() };
        let pending = act.artifacts.iter().map(|artifact| &artifact.model).filter(|model| undecided(model));
        let pending: Vec<u64> = pending.map(|model| model.sight).collect();
        let Some(first) = pending.first() else { return };
        let is_same = |known: &Arc<Act>| {
            known.kind == act.kind
                && known.lineage.process.key == act.lineage.process.key
                && sights(known) == sights(&act)
        };
        if let Some(known) = self.waiting.find_mut(first, ALIKE_MAX, is_same) {
            let known = Arc::make_mut(known);
            known.times = known.times.saturating_add(act.times);
            return;
        }
        let deadline_ns = act.time_boottime_ns.saturating_add(WAITING_NS_MAX);
        self.waiting.enter(act.lineage.cgroup_id, deadline_ns, pending, act);
        for act in self.waiting.excess() {
            let is_open = act.kind == ActKind::ModelOpen;
            *if is_open { &mut self.opens_evicted } else { &mut self.waiting_evicted } += act.times;
        }
    }

    fn see_loss(&mut self, loss: &Loss, now_ns: u64) -> Vec<Line> {
        let mut lines = Vec::new();
        if loss.count == 0 {
            return lines;
        }
        for (rule, severity) in self.policy.judge_loss(loss.reason) {
            let sighting = incident::sighting_of_loss(loss, rule.id.as_str().into(), severity);
            lines.extend(self.incidents.see(sighting, now_ns));
        }
        lines
    }

    /// Lines become alerts, and what gave way on the way is said too.
    fn finish(&mut self, mut lines: Vec<Line>, time_unix_ns: i128, now_ns: u64) -> Vec<Alert> {
        let losses = [
            ("incident_table_full", self.incidents.take_evicted()),
            ("timeline_table_full", self.timelines.take_evicted()),
            ("verdict_wait_table_full", std::mem::take(&mut self.waiting_evicted)),
            (OPEN_UNJUDGED, std::mem::take(&mut self.opens_evicted)),
        ];
        for (reason, count) in losses {
            if count > 0 {
                *self.lost.entry(reason).or_default() += count;
                lines.extend(self.see_loss(&Loss { time_unix_ns, reason, cgroup: None, count }, now_ns));
            }
        }
        lines.into_iter().map(|line| self.alert(line)).collect()
    }

    fn alert(&mut self, line: Line) -> Alert {
        let (event, process, model) = match &line.subject {
            Subject::Act { act, decides } => self.parts(act, *decides),
            Subject::Loss { reason, cgroup } => {
                let cgroup = cgroup.map(|id| id.to_string());
                let detail = Detail::Loss { reason, cgroup, count: line.count };
                (Event { kind: EventKind::Loss, in_load: false, basis: None, detail }, None, None)
            }
        };
        let (time_unix_ns, models_omitted) = match &line.subject {
            Subject::Act { act, .. } => (line.time_unix_ns, Some(act.artifacts_omitted).filter(|omitted| *omitted > 0)),
            Subject::Loss { .. } => (line.last_seen_unix_ns, None),
        };
        let story = line.origin.and_then(|origin| self.timelines.story(origin));
        let time = alert::time(time_unix_ns);
        // Most lines are about one act.
        let same_or_own = |unix_ns: i128| if unix_ns == time_unix_ns { time.clone() } else { alert::time(unix_ns) };
        let (first_seen, last_seen) = (same_or_own(line.first_seen_unix_ns), same_or_own(line.last_seen_unix_ns));
        Alert {
            schema: alert::SCHEMA,
            time,
            severity: line.severity,
            rule: self.rule(&line),
            action: line.action,
            update: line.update.then_some(true),
            event,
            process,
            model,
            models_omitted,
            container: (),
            k8s: (),
            id: line.id,
            incident: alert::Incident { id: line.incident_id, count: line.count, first_seen, last_seen },
            timeline: story.map(moments).unwrap_or_default(),
            timeline_omitted: story.map(|story| story.omitted).filter(|omitted| *omitted > 0),
            host: self.host.clone(),
        }
    }

    fn rule(&self, line: &Line) -> Shared<alert::Rule> {
        let known = self.rules.iter().find(|rule| *rule.id == *line.rule);
        let techniques = match &line.subject {
            Subject::Act { act, .. } => self.policy.techniques(act),
            Subject::Loss { .. } => &[],
        };
        if let Some(known) = known
            && techniques.iter().all(|id| known.attack.contains(id))
        {
            return known.clone();
        }
        let mut attack = known.map(|rule| rule.attack.clone()).unwrap_or_default();
        let more = techniques.iter().filter(|id| !attack.contains(id)).cloned();
        attack.extend(more.collect::<Vec<_>>());
        Shared::new(alert::Rule {
            id: line.rule.to_string(),
            name: known.map(|rule| rule.name.clone()).unwrap_or_default(),
            severity: known.map_or(crate::event::Severity::Medium, |rule| rule.severity),
            attack,
            atlas: known.map(|rule| rule.atlas.clone()).unwrap_or_default(),
        })
    }

    fn parts(
        &mut self,
        act: &Act,
        decides: usize,
    ) -> (Event, Option<Shared<AlertProcess>>, Option<Shared<AlertModel>>) {
        let artifact = act.artifacts.get(decides);
        let in_load = artifact
            .is_some_and(|artifact| artifact.born || (artifact.in_window && artifact.basis != Some(Basis::Cut)));
        let event = Event {
            kind: self.policy.sight(act).kind,
            in_load,
            basis: artifact.and_then(|artifact| artifact.basis),
            detail: self.detail(&act.kind),
        };
        let process = self.processes.get(act.lineage.process.key, &act.lineage, process_part);
        let model = artifact.map(|artifact| &artifact.model);
        let model = model.map(|model| self.models.get(model.sight, model, AlertModel::new));
        (event, Some(process), model)
    }

    fn detail(&self, kind: &ActKind) -> Detail {
        match kind {
            ActKind::ModelOpen => Detail::Open {},
            ActKind::Exec { exe, argv, argv_truncated } => {
                let (exe, exe_b64) = alert::text(exe);
                Detail::Exec { exe, exe_b64, argv: Argv::new(argv, *argv_truncated, alert::ARGV_BYTES_MAX) }
            }
            ActKind::Connect(to) | ActKind::Send(to) | ActKind::Bind(to) => network(to, None, None),
            ActKind::Accept { at, peer } => network(at, Some(*peer), None),
            ActKind::Egress { to, bytes, .. } => network(to, None, Some(*bytes)),
            ActKind::Unix { path } => {
                let (path, path_b64) = alert::text(path);
                Detail::Unix { path, path_b64, family: Family::Unix }
            }
            ActKind::File { path, access } => {
                let file = self.policy.files().group(path, *access).map_or(String::new(), |group| group.id.clone());
                let (path, path_b64) = alert::text(path);
                Detail::File { path, path_b64, access: *access, file }
            }
            ActKind::System(Deed { op, path, target, namespaces, .. }) => {
                let (path, path_b64) = alert::some_text(path);
                Detail::System { op, path, path_b64, target_pid: *target, namespaces: namespaces.clone() }
            }
        }
    }
}

fn process_part(lineage: &Lineage) -> AlertProcess {
    let Lineage { process, ancestors, .. } = lineage;
    AlertProcess {
        program: Program::new(process, alert::ARGV_BYTES_MAX),
        start_boottime_ns: process.key.start_boottime_ns,
        uid: process.uid,
        ancestors: ancestors
            .iter()
            .take(alert::ANCESTORS_MAX)
            .map(|ancestor| Program::new(ancestor, alert::ANCESTOR_ARGV_BYTES_MAX))
            .collect(),
    }
}

fn rule_part(rule: &rule::Rule) -> alert::Rule {
    alert::Rule {
        id: rule.id.clone(),
        name: rule.name.clone(),
        severity: rule.nominal_severity(),
        attack: rule.attack.clone(),
        atlas: rule.atlas.clone(),
    }
}

/// No verdict yet, or none to be had for now.
fn undecided(model: &Model) -> bool {
    matches!(model.verdict, Verdict::Pending | Verdict::NotRead)
}

fn origin(act: &Act, judgement: &Judgement) -> Option<TaskKey> {
    act.artifacts.get(judgement.decides).map(|artifact| artifact.opener)
}

fn sighting(act: &Arc<Act>, judgement: &Judgement) -> Option<Sighting> {
    Some(Sighting {
        key: Key {
            origin: Some(origin(act, judgement)?),
            rule: judgement.rule.id.as_str().into(),
            object: Object::of(act, judgement.decides),
        },
        subject: Subject::Act { act: Arc::clone(act), decides: judgement.decides },
        severity: judgement.severity,
        // Nothing is prevented yet, so nothing else can have been done.
        action: Action::Alert,
        time_unix_ns: act.time_unix_ns,
        times: act.times,
    })
}

fn network(to: &Destination, peer: Option<SocketAddr>, bytes: Option<u64>) -> Detail {
    Detail::Network {
        ip: to.ip.map(|ip| ip.to_canonical()),
        port: to.port,
        proto: to.proto,
        family: to.family,
        domain: to.domain.clone(),
        peer_ip: peer.map(|peer| peer.ip().to_canonical()),
        peer_port: peer.map(|peer| peer.port()),
        bytes,
    }
}

fn moments(story: &Story) -> Vec<Shared<Moment>> {
    let tell = |moment: &timeline::Moment| moment.told.get_or_tell(|| tell(moment, story.first_load_ns));
    story.moments.iter().map(tell).collect()
}

fn tell(moment: &timeline::Moment, first_load_ns: u64) -> Moment {
    let (kind, detail) = match &moment.what {
        What::Load { model, .. } => {
            let (path, path_b64) = alert::text(&model.path);
            (EventKind::ModelOpen, MomentDetail::Load { path, path_b64, verdict: model.verdict })
        }
        What::Exec { exe, argv, cut } => (EventKind::Exec, exec_moment(exe, argv, *cut)),
        What::Network { kind, proto, ip, port, peer } => (*kind, network_moment(*proto, *ip, *port, *peer, None)),
        What::Egress { proto, ip, port, bytes } => {
            (EventKind::Egress, network_moment(*proto, *ip, *port, None, Some(*bytes)))
        }
        What::Unix { path } => {
            let (path, path_b64) = alert::text(path);
            (EventKind::Unix, MomentDetail::Unix { path, path_b64 })
        }
        What::File { path, access } => {
            let (path, path_b64) = alert::text(path);
            (EventKind::File, MomentDetail::File { path, path_b64, access: *access })
        }
        What::System { kind, op, path, target } => {
            let (path, path_b64) = alert::some_text(path);
            (*kind, MomentDetail::System { op, path, path_b64, target_pid: *target })
        }
    };
    let ns = i128::from(moment.boottime_ns) - i128::from(first_load_ns);
    Moment {
        t_ms: i64::try_from(ns.div_euclid(1_000_000)).unwrap_or(i64::MAX),
        kind,
        pid: moment.pid,
        count: (moment.count > 1).then_some(moment.count),
        detail,
    }
}

fn network_moment(
    proto: Proto,
    ip: Option<IpAddr>,
    port: Option<u16>,
    peer: Option<SocketAddr>,
    bytes: Option<u64>,
) -> MomentDetail {
    MomentDetail::Network {
        ip: ip.map(|ip| ip.to_canonical()),
        port,
        proto,
        peer_ip: peer.map(|peer| peer.ip().to_canonical()),
        peer_port: peer.map(|peer| peer.port()),
        bytes,
    }
}

fn exec_moment(exe: &[u8], argv: &[Bytes], cut: bool) -> MomentDetail {
    let (exe, exe_b64) = alert::text(exe);
    MomentDetail::Exec { exe, exe_b64, argv: Argv::new(argv, cut, MOMENT_ARGV_MAX * (MOMENT_TEXT_BYTES_MAX + 1)) }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
