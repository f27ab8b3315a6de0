//! Files to look at that nobody waits for: the scanner gets them one by one, beside its work for those who wait.
//!
//! Whoever imported a big library has hundreds of files open and mapped when the sensor comes, each of which could be a
//! model; a training loop reads its data faster than anybody looks at it. In the queues of loads that happen now they
//! would leave no place, and delay what has to be read before its process ends. Which file it was is known: its process
//! may be gone by the time that it is looked at, the file seldom is. Whoever acts on one has it looked at at once.

use crate::watch::{Look, Put};
use crate::worker::pool::{Answer, Outcome};
use crate::worker::queue::{FairQueue, QueueLimits};
use crate::worker::wire::NotRead;

/// Files that can wait: in all, and of one cgroup (of those found at the start, one process). For one that finds no place
/// here, nobody is asked until somebody who has it acts, or opens it again.
const PUTS: QueueLimits = QueueLimits { per_cgroup_max: 4_096, total_max: 8_192 };

/// What can wait, until the scanner has nothing else to do: one file at a time, and each cgroup in its turn.
#[derive(Debug)]
pub struct Backlog {
    queue: FairQueue<Put>,
    /// Whose file is being looked at ([`Look::turn`]).
    busy: Option<u64>,
    /// Files that found no place, without a claim to be looked at.
    pub postponed: u64,
    /// Files that found no place and had one ([`Put::is_owed`]).
    pub owed: u64,
}

impl Backlog {
    pub fn new() -> Self {
        Self { queue: FairQueue::new(PUTS), busy: None, postponed: 0, owed: 0 }
    }

    /// Gives back what finds no place.
    #[must_use]
    pub fn push(&mut self, put: Put) -> Option<Put> {
        let displaced = self.queue.push(put.turn, put)?;
        *if displaced.is_owed { &mut self.owed } else { &mut self.postponed } += 1;
        Some(displaced)
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

/// What had no place in the scanner's queue.
pub fn displaced(outcome: &Outcome) -> Option<Look> {
    let Outcome { job, answer } = outcome;
    (*answer == Answer::NotRead(NotRead::Overflow)).then(|| Look {
        inode: job.inode.into(),
        stamp: job.stamp,
        path: job.path.clone(),
        opener: job.pid,
        fd: job.fd,
        cgroup: job.cgroup,
        cacheable: job.cacheable,
        fs_magic: job.fs_magic,
        named: job.named,
    })
}

#[cfg(test)]
mod tests {
    use sensor_abi::identity::ContentStamp;

    use super::*;
    use crate::event::InodeKey;

    fn put(turn: u64, ino: u64) -> Put {
        let stamp = ContentStamp { size: 1, ctime_s: 0, ctime_ns: 0, reserved: 0 };
        Put { inode: InodeKey { dev: 1, generation: 0, ino }, stamp, turn, is_owed: false }
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

    fn outcome(look: Look, answer: Answer) -> Outcome {
        Outcome { job: super::super::looks::first(look, 1, crate::worker::pool::Line::Background, false), answer }
    }

    #[test]
    fn one_file_at_a_time_and_cgroups_take_turns() {
        let mut backlog = Backlog::new();
        for ino in 0..3 {
            assert_eq!(backlog.push(put(1, ino)), None);
        }
        assert_eq!(backlog.push(put(2, 9)), None);
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
            assert_eq!(backlog.push(put(1, ino)), None);
        }
        let next = backlog.next(|put| (put.inode.ino == 2).then(|| look(put)));
        assert_eq!(next.map(|look| look.inode.ino), Some(2));
    }

    #[test]
    fn who_takes_too_long_is_served_last() {
        let mut backlog = Backlog::new();
        for ino in 0..3 {
            assert_eq!(backlog.push(put(1, ino)), None);
            assert_eq!(backlog.push(put(2, 10 + ino)), None);
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
    fn what_finds_no_place_is_asked_for_again_as_it_was() {
        let named = Look { named: true, ..look(put(3, 1)) };
        assert_eq!(displaced(&outcome(named.clone(), Answer::NotRead(NotRead::Overflow))), Some(named.clone()));
        assert_eq!(displaced(&outcome(named, Answer::NotRead(NotRead::Gone))), None);
    }

    #[test]
    fn what_is_owed_and_finds_no_place_here_is_a_loss() {
        let mut backlog = Backlog::new();
        for ino in 0..PUTS.per_cgroup_max as u64 {
            assert_eq!(backlog.push(Put { is_owed: true, ..put(1, ino) }), None);
        }
        assert_eq!((backlog.owed, backlog.postponed), (0, 0));
        let owed = Put { is_owed: true, ..put(1, 5_000) };
        assert_eq!(backlog.push(owed), Some(owed));
        assert!(backlog.push(put(1, 5_001)).is_some());
        assert_eq!(backlog.push(Put { is_owed: true, ..put(2, 5_002) }), None);
        assert_eq!((backlog.owed, backlog.postponed), (1, 1), "another cgroup has its own place");
    }
}
