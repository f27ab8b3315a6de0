//! Files to look at that nobody waits for: the scanner gets them one by one, beside its work for those who wait.
//!
//! Whoever imported a big library has hundreds of files open and mapped when the sensor comes, each of which could be a
//! model. In the queues of loads that happen now they would leave no place, and delay what has to be read before its
//! process ends.

use crate::event::InodeKey;
use crate::watch::{Look, Put};
use crate::worker::pool::{Answer, Outcome};
use crate::worker::queue::{FairQueue, QueueLimits};
use crate::worker::wire::NotRead;

/// Files that can wait: in all, and of one process. For one that finds no place here, nobody is asked until somebody who
/// has it acts.
const PUTS: QueueLimits = QueueLimits { per_cgroup_max: 4_096, total_max: 8_192 };

/// What can wait, until the scanner has nothing else to do: one file at a time, processes take turns.
#[derive(Debug)]
pub struct Backlog {
    queue: FairQueue<Put>,
    busy: bool,
    /// Files that found no place.
    pub postponed: u64,
}

impl Backlog {
    pub fn new() -> Self {
        Self { queue: FairQueue::new(PUTS), busy: false, postponed: 0 }
    }

    pub fn push(&mut self, put: Put) {
        self.postponed += u64::from(self.queue.push(u64::from(put.tgid), put).is_some());
    }

    /// The next one, where none is being looked at.
    pub fn next(&mut self, take: impl FnMut(Put) -> Option<Look>) -> Option<Look> {
        if self.busy {
            return None;
        }
        let look = std::iter::from_fn(|| self.queue.pop()).find_map(take);
        self.busy = look.is_some();
        look
    }

    /// Nothing more is to be done for a file of process `tgid`. Who has files that take too long is served last.
    pub fn done(&mut self, tgid: u32, too_long: bool) {
        self.busy = false;
        self.queue.set_slow(u64::from(tgid), too_long);
    }
}

/// What had no place in the scanner's queue, and makes no claim to be a model: it can wait, too. (What makes one has its
/// answer: it was not read, and that is said.)
pub fn put_off(outcome: &Outcome) -> Option<Look> {
    let Outcome { job, answer } = outcome;
    (*answer == Answer::NotRead(NotRead::Overflow) && !job.named).then(|| Look {
        inode: InodeKey { dev: job.inode.dev, generation: job.inode.generation, ino: job.inode.ino },
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

    fn put(tgid: u32, ino: u64) -> Put {
        let stamp = ContentStamp { size: 1, ctime_s: 0, ctime_ns: 0, reserved: 0 };
        Put { inode: InodeKey { dev: 1, generation: 0, ino }, stamp, tgid }
    }

    fn look(put: Put) -> Look {
        Look {
            inode: put.inode,
            stamp: put.stamp,
            path: Vec::new(),
            opener: put.tgid,
            fd: None,
            cgroup: 0,
            cacheable: true,
            fs_magic: 0,
            named: false,
        }
    }

    fn outcome(look: Look, answer: Answer) -> Outcome {
        Outcome { job: super::super::looks::first(look, 1, crate::worker::pool::Line::Background), answer }
    }

    #[test]
    fn one_file_at_a_time_and_processes_take_turns() {
        let mut backlog = Backlog::new();
        for ino in 0..3 {
            backlog.push(put(1, ino));
        }
        backlog.push(put(2, 9));
        let mut order = Vec::new();
        while let Some(next) = backlog.next(|put| Some(look(put))) {
            assert_eq!(backlog.next(|put| Some(look(put))), None, "one is being looked at");
            order.push(next.inode.ino);
            backlog.done(next.opener, false);
        }
        assert_eq!(order, [0, 9, 1, 2]);
    }

    #[test]
    fn what_somebody_asked_for_meanwhile_is_passed_over() {
        let mut backlog = Backlog::new();
        for ino in 0..3 {
            backlog.push(put(1, ino));
        }
        let next = backlog.next(|put| (put.inode.ino == 2).then(|| look(put)));
        assert_eq!(next.map(|look| look.inode.ino), Some(2));
    }

    #[test]
    fn who_takes_too_long_is_served_last() {
        let mut backlog = Backlog::new();
        for ino in 0..3 {
            backlog.push(put(1, ino));
            backlog.push(put(2, 10 + ino));
        }
        let first = backlog.next(|put| Some(look(put))).unwrap();
        backlog.done(first.opener, true);
        let mut order = Vec::new();
        while let Some(next) = backlog.next(|put| Some(look(put))) {
            order.push(next.opener);
            backlog.done(2, false);
        }
        assert_eq!(order, [2, 2, 2, 1, 1]);
    }

    #[test]
    fn what_finds_no_place_and_claims_nothing_can_wait() {
        let unnamed = look(put(1, 1));
        assert_eq!(put_off(&outcome(unnamed.clone(), Answer::NotRead(NotRead::Overflow))), Some(unnamed.clone()));
        assert_eq!(put_off(&outcome(unnamed.clone(), Answer::NotRead(NotRead::Gone))), None);
        let named = Look { named: true, ..unnamed };
        assert_eq!(put_off(&outcome(named, Answer::NotRead(NotRead::Overflow))), None, "this one's answer is said");
    }
}
