//! Files to look at that nobody waits for: the scanner gets them one by one, beside its work for those who wait.
//!
//! Whoever imported a big library has hundreds of files open and mapped when the sensor comes, each of which could be a
//! model; a training loop reads its data faster than anybody looks at it. In the queues of loads that happen now they
//! would leave no place, and delay what has to be read before its process ends. Which file it was is known: its process
//! may be gone by the time that it is looked at, the file seldom is. Whoever acts on one has it looked at at once.

use crate::watch::{Look, MODELS_MAX, Put};
use crate::worker::queue::{FairQueue, QueueLimits};

/// Files that can wait: as many as are remembered. One cgroup may have all of it that nobody else wants. For a file that
/// finds no place here, nobody is asked until somebody who has it acts, or opens it again.
const PUTS: QueueLimits = QueueLimits { per_cgroup_max: MODELS_MAX, urgent_max: 0, total_max: MODELS_MAX };

/// What can wait, until the scanner has nothing else to do: one file at a time, and each cgroup in its turn.
#[derive(Debug)]
pub struct Backlog {
    queue: FairQueue<Put>,
    /// Whose file is being looked at ([`Look::turn`]).
    busy: Option<u64>,
}

impl Backlog {
    pub fn new() -> Self {
        Self { queue: FairQueue::new(PUTS), busy: None }
    }

    /// Gives back what finds no place. `waits`: is it still to be looked at?
    #[must_use]
    pub fn push(&mut self, put: Put, waits: impl Fn(&Put) -> bool) -> Option<Put> {
        let displaced = self.queue.push(put.turn, put)?;
        // What was forgotten meanwhile came before it.
        if !self.queue.shed(displaced.turn, |first| !waits(first)) {
            return Some(displaced);
        }
        self.queue.push(displaced.turn, displaced)
    }

    /// The next one, where none is being looked at.
    pub fn next(&mut self, take: impl FnMut(Put) -> Option<Look>) -> Option<Look> {
        if self.busy.is_some() {
            return None;
        }
        let look = std::iter::from_fn(|| self.queue.pop()).find_map(take);
        self.busy = look.as_ref().map(Look::turn);
        look
    }

    /// Nothing more is to be done for the file that was handed out. Who has files that take too long is served last.
    pub fn done(&mut self, too_long: bool) {
        if let Some(turn) = self.busy.take() {
            self.queue.set_slow(turn, too_long);
        }
    }
}

#[cfg(test)]
mod tests {
    use sensor_abi::identity::ContentStamp;

    use super::*;
    use crate::event::InodeKey;

    fn put(turn: u64, ino: u64) -> Put {
        let stamp = ContentStamp { size: 1, ctime_s: 0, ctime_ns: 0, reserved: 0 };
        Put { inode: InodeKey { dev: 1, generation: 0, ino }, stamp, turn }
    }

    fn look(put: Put) -> Look {
        Look {
            inode: put.inode,
            stamp: put.stamp,
            path: Vec::new(),
            opener: 7,
            fd: None,
            cgroup: put.turn,
            cacheable: true,
            fs_magic: 0,
            named: false,
        }
    }

    #[test]
    fn one_file_at_a_time_and_cgroups_take_turns() {
        let mut backlog = Backlog::new();
        for ino in 0..3 {
            assert_eq!(backlog.push(put(1, ino), |_| true), None);
        }
        assert_eq!(backlog.push(put(2, 9), |_| true), None);
        let mut order = Vec::new();
        while let Some(next) = backlog.next(|put| Some(look(put))) {
            assert_eq!(backlog.next(|put| Some(look(put))), None, "one is being looked at");
            order.push(next.inode.ino);
            backlog.done(false);
        }
        assert_eq!(order, [0, 9, 1, 2]);
    }

    #[test]
    fn what_somebody_asked_for_meanwhile_is_passed_over() {
        let mut backlog = Backlog::new();
        for ino in 0..3 {
            assert_eq!(backlog.push(put(1, ino), |_| true), None);
        }
        let next = backlog.next(|put| (put.inode.ino == 2).then(|| look(put)));
        assert_eq!(next.map(|look| look.inode.ino), Some(2));
    }

    #[test]
    fn who_takes_too_long_is_served_last() {
        let mut backlog = Backlog::new();
        for ino in 0..3 {
            assert_eq!(backlog.push(put(1, ino), |_| true), None);
            assert_eq!(backlog.push(put(2, 10 + ino), |_| true), None);
        }
        assert!(backlog.next(|put| Some(look(put))).is_some());
        backlog.done(true);
        let mut order = Vec::new();
        while let Some(next) = backlog.next(|put| Some(look(put))) {
            order.push(next.turn());
            backlog.done(false);
        }
        assert_eq!(order, [2, 2, 2, 1, 1]);
    }

    #[test]
    fn a_data_set_may_have_all_places_and_makes_way_for_others() {
        let mut backlog = Backlog::new();
        let last = MODELS_MAX as u64 - 1;
        for ino in 0..=last {
            assert_eq!(backlog.push(put(1, ino), |_| true), None);
        }
        assert_eq!(backlog.push(put(1, 10_000), |_| true), Some(put(1, 10_000)));
        assert_eq!(backlog.push(put(2, 10_001), |_| true), Some(put(1, last)));
        let forgotten = |first: &Put| first.inode.ino > 1;
        assert_eq!(backlog.push(put(1, 10_002), forgotten), None);
        assert_eq!(backlog.push(put(1, 10_003), forgotten), None);
        assert_eq!(backlog.push(put(1, 10_004), forgotten), Some(put(1, 10_004)), "two were forgotten");
    }
}
