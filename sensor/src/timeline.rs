//! What happened since the load, per origin: the story that every alert of a load tells.
//!
//! Bounded: the first moments and the latest are kept, what gave way is counted.

use std::cell::OnceCell;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::alert::{self, Shared};
use crate::event::{Access, Act, ActKind, Artifact, Bytes, Deed, Destination, EventKind, Model, Proto, TaskKey};
use crate::table::Map;

/// Loads that are told at the same time.
pub const STORIES_MAX: usize = 1024;
/// Moments of one story: an alert with all of them is a line of about 4 KiB, which every log shipper takes.
pub const MOMENTS_MAX: usize = 32;
/// Of them, the first ones that never give way.
pub const MOMENTS_FIRST: usize = 12;
/// Bytes of one text in a moment; an alert's own event has the whole.
pub const MOMENT_TEXT_BYTES_MAX: usize = 256;
/// How often stories that are over are looked for, ns.
const FORGET_EVERY_NS: u64 = 60 * 1_000_000_000;
/// Arguments of a moment.
pub const MOMENT_ARGV_MAX: usize = 16;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    pub boottime_ns: u64,
    pub pid: u32,
    pub what: What,
    /// Times that the same happened; later ones are folded into the first.
    pub count: u64,
    /// Until it changes.
    pub told: Told,
}

/// A moment as alerts tell it, once one has. No part of what it is.
#[derive(Debug, Clone, Default)]
pub struct Told(OnceCell<Shared<alert::Moment>>);

impl Told {
    /// What was told before, or what `tell` says now.
    #[inline]
    pub fn get_or_tell(&self, tell: impl FnOnce() -> alert::Moment) -> Shared<alert::Moment> {
        self.0.get_or_init(|| Shared::new(tell())).clone()
    }
}

impl PartialEq for Told {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Told {}

/// What happened, in little.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    Load {
        sight: u64,
        model: Arc<Model>,
    },
    Exec {
        exe: Bytes,
        argv: Vec<Bytes>,
        cut: bool,
    },
    Network {
        kind: EventKind,
        proto: Proto,
        ip: Option<IpAddr>,
        port: Option<u16>,
        peer: Option<SocketAddr>,
    },
    Unix {
        path: Bytes,
    },
    /// All that went to one destination.
    Egress {
        proto: Proto,
        ip: Option<IpAddr>,
        port: Option<u16>,
        bytes: u64,
    },
    File {
        path: Bytes,
        access: Access,
    },
    System {
        kind: EventKind,
        op: &'static str,
        path: Bytes,
        target: Option<u32>,
    },
}

impl What {
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Load { sight: a, .. }, Self::Load { sight: b, .. }) => a == b,
            (a, b) => a == b,
        }
    }
}

/// The story of one origin, as an alert tells it.
#[derive(Debug, Clone, Default)]
pub struct Story {
    /// The first load by the origin itself: time zero.
    pub first_load_ns: u64,
    /// In the order of time.
    pub moments: Vec<Moment>,
    /// Moments that gave way.
    pub omitted: u64,
    touched_ns: u64,
    /// Number of its latest act: a clock that never shows the same time twice.
    turn: u64,
}

/// All stories.
#[derive(Debug, Default)]
pub struct Timelines {
    stories: Map<TaskKey, Story>,
    /// Stories that gave way since the last [`Timelines::take_evicted`].
    evicted: u64,
    turn: u64,
    forgot_ns: u64,
}

impl Timelines {
    /// Adds an act, and the loads that it carries, to the story of `origin`.
    pub fn record(&mut self, origin: TaskKey, act: &Act, kind: EventKind) {
        if !self.stories.contains_key(&origin) {
            self.make_room();
        }
        self.turn += 1;
        let story = self.stories.entry(origin).or_default();
        story.turn = self.turn;
        story.touched_ns = story.touched_ns.max(act.time_boottime_ns);
        for artifact in &act.artifacts {
            story.load(origin, artifact);
        }
        let pid = act.lineage.process.key.tgid;
        let what = match &act.kind {
            // The load itself: it is among the artifacts.
            ActKind::ModelOpen => return,
            ActKind::Exec { exe, argv, argv_truncated } => little_exec(exe, argv, *argv_truncated),
            ActKind::Connect(to) | ActKind::Send(to) | ActKind::Bind(to) => network(kind, to, None),
            ActKind::Accept { at, peer } => network(kind, at, Some(*peer)),
            ActKind::Unix { path } => What::Unix { path: little(path) },
            ActKind::Egress { to, more, .. } => {
                return story.egress(act.time_boottime_ns, pid, to, *more);
            }
            ActKind::File { path, access } => What::File { path: little(path), access: *access },
            ActKind::System(Deed { kind, op, path, target, .. }) => {
                What::System { kind: *kind, op, path: little(path), target: *target }
            }
        };
        story.add(Moment { boottime_ns: act.time_boottime_ns, pid, what, count: act.times, told: Told::default() });
    }

    /// The story of `origin` so far.
    pub fn story(&self, origin: TaskKey) -> Option<&Story> {
        self.stories.get(&origin)
    }

    /// A verdict came: every story tells it from now on.
    pub fn learn(&mut self, model: &Arc<Model>) {
        for story in self.stories.values_mut() {
            for moment in &mut story.moments {
                if let What::Load { sight, model: known } = &mut moment.what
                    && *sight == model.sight
                {
                    *known = Arc::clone(model);
                    moment.told = Told::default();
                }
            }
        }
    }

    /// Forgets stories that nothing was added to since `before_ns`; looks for them once in [`FORGET_EVERY_NS`].
    pub fn forget(&mut self, before_ns: u64) {
        if before_ns.saturating_sub(self.forgot_ns) < FORGET_EVERY_NS {
            return;
        }
        self.forgot_ns = before_ns;
        self.stories.retain(|_, story| story.touched_ns >= before_ns);
    }

    /// How many stories gave way since the last call.
    pub fn take_evicted(&mut self) -> u64 {
        std::mem::take(&mut self.evicted)
    }

    /// Where the table is full, the sixteenth that was quiet for longest gives way.
    fn make_room(&mut self) {
        if self.stories.len() < STORIES_MAX {
            return;
        }
        let mut turns: Vec<u64> = self.stories.values().map(|story| story.turn).collect();
        let (_, limit, _) = turns.select_nth_unstable(STORIES_MAX / 16);
        let limit = *limit;
        let before = self.stories.len();
        self.stories.retain(|_, story| story.turn > limit);
        self.evicted += (before - self.stories.len()) as u64;
    }
}

impl Story {
    fn load(&mut self, origin: TaskKey, artifact: &Artifact) {
        if artifact.opener == origin && (self.first_load_ns == 0 || artifact.opened_boottime_ns < self.first_load_ns) {
            self.first_load_ns = artifact.opened_boottime_ns;
            // All of them count from there.
            self.moments.iter_mut().for_each(|moment| moment.told = Told::default());
        }
        let known = self
            .moments
            .iter_mut()
            .find(|moment| matches!(&moment.what, What::Load { sight, .. } if *sight == artifact.model.sight));
        match known {
            Some(moment) => {
                if let What::Load { model, .. } = &mut moment.what
                    && !Arc::ptr_eq(model, &artifact.model)
                {
                    *model = Arc::clone(&artifact.model);
                    moment.told = Told::default();
                }
            }
            None => self.insert(Moment {
                boottime_ns: artifact.opened_boottime_ns,
                pid: artifact.opener.tgid,
                what: What::Load { sight: artifact.model.sight, model: Arc::clone(&artifact.model) },
                count: 1,
                told: Told::default(),
            }),
        }
    }

    /// One moment per process and destination, with the sum of what its connections carried away.
    fn egress(&mut self, boottime_ns: u64, pid: u32, to: &Destination, more: u64) {
        for moment in self.moments.iter_mut().filter(|moment| moment.pid == pid) {
            if let What::Egress { proto, ip, port, bytes } = &mut moment.what
                && (*proto, *ip, *port) == (to.proto, to.ip, to.port)
            {
                *bytes = bytes.saturating_add(more);
                moment.told = Told::default();
                return;
            }
        }
        let what = What::Egress { proto: to.proto, ip: to.ip, port: to.port, bytes: more };
        self.insert(Moment { boottime_ns, pid, what, count: 1, told: Told::default() });
    }

    fn add(&mut self, moment: Moment) {
        match self.moments.iter_mut().find(|known| known.pid == moment.pid && known.what.is_same(&moment.what)) {
            Some(known) => {
                known.count = known.count.saturating_add(moment.count);
                known.told = Told::default();
            }
            None => self.insert(moment),
        }
    }

    /// In the order of time: acts wait for verdicts, so they come late.
    fn insert(&mut self, moment: Moment) {
        let at = self.moments.partition_point(|known| known.boottime_ns <= moment.boottime_ns);
        self.moments.insert(at, moment);
        if self.moments.len() > MOMENTS_MAX {
            let gone = self.moments.remove(MOMENTS_FIRST);
            self.omitted += gone.count;
        }
    }
}

fn little(text: &[u8]) -> Bytes {
    text[..text.len().min(MOMENT_TEXT_BYTES_MAX)].to_vec()
}

fn network(kind: EventKind, to: &Destination, peer: Option<SocketAddr>) -> What {
    What::Network { kind, proto: to.proto, ip: to.ip, port: to.port, peer }
}

fn little_exec(exe: &[u8], argv: &[Bytes], truncated: bool) -> What {
    let cut =
        truncated || argv.len() > MOMENT_ARGV_MAX || argv.iter().any(|argument| argument.len() > MOMENT_TEXT_BYTES_MAX);
    What::Exec {
        exe: little(exe),
        argv: argv.iter().take(MOMENT_ARGV_MAX).map(|argument| little(argument)).collect(),
        cut,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::testing::{act, artifact, connect, exec, key};

    fn record(timelines: &mut Timelines, act: &Act, kind: EventKind) {
        timelines.record(key(1), act, kind);
    }

    #[test]
    fn moments_stand_in_the_order_of_time_and_repeats_are_counted() {
        let mut timelines = Timelines::default();
        let mut late = act(exec("/bin/sh", &["sh"]));
        late.time_boottime_ns = 5_000;
        let mut early = act(connect("192.0.2.1", 443));
        early.time_boottime_ns = 4_000;
        record(&mut timelines, &late, EventKind::Exec);
        record(&mut timelines, &early, EventKind::Connect);
        record(&mut timelines, &early, EventKind::Connect);
        let story = timelines.story(key(1)).unwrap();
        let told: Vec<(u64, u64)> = story.moments.iter().map(|moment| (moment.boottime_ns, moment.count)).collect();
        assert_eq!(told, [(1_000, 1), (4_000, 2), (5_000, 1)]);
        assert_eq!(story.first_load_ns, 1_000);
    }

    #[test]
    fn time_zero_is_the_origins_own_first_load() {
        let mut timelines = Timelines::default();
        let mut act = act(exec("/bin/sh", &["sh"]));
        let mut inherited = artifact(2);
        inherited.opener = key(9);
        inherited.opened_boottime_ns = 10;
        act.artifacts.push(inherited);
        record(&mut timelines, &act, EventKind::Exec);
        let story = timelines.story(key(1)).unwrap();
        assert_eq!(story.first_load_ns, 1_000);
        assert_eq!(story.moments[0].boottime_ns, 10);
    }

    #[test]
    fn a_long_story_keeps_its_beginning_and_its_end_and_counts_the_rest() {
        let mut timelines = Timelines::default();
        for i in 0..200_u16 {
            let mut act = act(connect("192.0.2.1", i));
            act.time_boottime_ns = 2_000 + u64::from(i);
            record(&mut timelines, &act, EventKind::Connect);
        }
        let story = timelines.story(key(1)).unwrap();
        assert_eq!(story.moments.len(), MOMENTS_MAX);
        assert_eq!(story.omitted, 201 - MOMENTS_MAX as u64);
        assert_eq!(story.moments[0].boottime_ns, 1_000);
        assert_eq!(story.moments.last().unwrap().boottime_ns, 2_199);
    }

    #[test]
    fn a_flood_of_loads_makes_the_quietest_stories_give_way_and_is_counted() {
        let mut timelines = Timelines::default();
        for i in 0..(2 * STORIES_MAX as u32) {
            let mut act = act(exec("/bin/sh", &["sh"]));
            act.time_boottime_ns = 2_000 + u64::from(i);
            timelines.record(key(i), &act, EventKind::Exec);
        }
        assert!(timelines.stories.len() <= STORIES_MAX);
        assert_eq!(timelines.take_evicted() as usize, 2 * STORIES_MAX - timelines.stories.len());
        assert_eq!(timelines.take_evicted(), 0);
        assert!(timelines.story(key(2 * STORIES_MAX as u32 - 1)).is_some());
    }
}
