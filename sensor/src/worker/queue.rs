//! A bounded queue that serves cgroups in turn, so that one container's flood delays its own files only. A cgroup whose
//! files run into the deadline (a file system that never answers) is served when nobody else waits.

use std::collections::{HashMap, VecDeque};

/// Slow cgroups that are remembered; the one that was slow longest ago is forgiven first.
const SLOW_MAX: usize = 256;

/// Limits of a [`FairQueue`], in entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// Of what isn't urgent.
    pub per_cgroup_max: usize,
    /// Of what is, of one cgroup.
    pub urgent_max: usize,
    pub total_max: usize,
}

#[derive(Debug)]
pub struct FairQueue<T> {
    limits: QueueLimits,
    waiting: HashMap<u64, Waiting<T>>,
    /// Every cgroup that has something waiting, once; the front is served next.
    turn: VecDeque<u64>,
    slow: VecDeque<u64>,
    len: usize,
}

/// What one cgroup has waiting.
#[derive(Debug)]
struct Waiting<T> {
    items: VecDeque<T>,
    /// So many of them, at the front, are urgent.
    urgent: usize,
}

impl<T> Waiting<T> {
    fn first(&mut self) -> Option<T> {
        self.urgent = self.urgent.saturating_sub(1);
        self.items.pop_front()
    }

    fn last(&mut self) -> Option<T> {
        let item = self.items.pop_back();
        self.urgent = self.urgent.min(self.items.len());
        item
    }
}

impl<T> FairQueue<T> {
    pub fn new(limits: QueueLimits) -> Self {
        Self { limits, waiting: HashMap::new(), turn: VecDeque::new(), slow: VecDeque::new(), len: 0 }
    }

    /// Queues `item`, and gives back what has no place: `item` itself where its cgroup has too much waiting that isn't
    /// urgent, else, when the whole queue is full, the newest entry of the cgroup that has most.
    #[must_use]
    pub fn push(&mut self, cgroup: u64, item: T) -> Option<T> {
        self.enter(cgroup, item, false)
    }

    /// Queues `item` before all of its cgroup's that aren't urgent, and gives back what has no place: `item` itself where
    /// its cgroup has too much waiting that is urgent, else as [`Self::push`], or the newest of its cgroup that isn't urgent.
    #[must_use]
    pub fn push_urgent(&mut self, cgroup: u64, item: T) -> Option<T> {
        self.enter(cgroup, item, true)
    }

    fn enter(&mut self, cgroup: u64, item: T, urgent: bool) -> Option<T> {
        let (own, own_urgent) =
            self.waiting.get(&cgroup).map_or((0, 0), |waiting| (waiting.items.len(), waiting.urgent));
        let is_full = match urgent {
            true => own_urgent >= self.limits.urgent_max,
            false => own - own_urgent >= self.limits.per_cgroup_max,
        };
        if is_full {
            return Some(item);
        }
        let mut displaced = None;
        if self.len >= self.limits.total_max {
            let lens = self.waiting.iter().map(|(id, waiting)| (*id, waiting.items.len()));
            match lens.max_by_key(|(_, len)| *len) {
                Some((id, len)) if len > own + 1 => displaced = self.take(id, Waiting::last),
                _ if urgent && own_urgent < own => displaced = self.take(cgroup, Waiting::last),
                _ => return Some(item),
            }
        }
        if !self.waiting.contains_key(&cgroup) {
            self.turn.push_back(cgroup);
        }
        let waiting = self.waiting.entry(cgroup).or_insert_with(|| Waiting { items: VecDeque::new(), urgent: 0 });
        if urgent {
            waiting.items.insert(waiting.urgent, item);
            waiting.urgent += 1;
        } else {
            waiting.items.push_back(item);
        }
        self.len += 1;
        displaced
    }

    /// Makes the first of `cgroup` that is `wanted` and not urgent the last of those that are, where there is place.
    pub fn hurry(&mut self, cgroup: u64, wanted: impl Fn(&T) -> bool) -> Option<&mut T> {
        let waiting = self.waiting.get_mut(&cgroup).filter(|waiting| waiting.urgent < self.limits.urgent_max)?;
        let at = (waiting.urgent..waiting.items.len()).find(|at| waiting.items.get(*at).is_some_and(&wanted))?;
        let item = waiting.items.remove(at)?;
        waiting.items.insert(waiting.urgent, item);
        waiting.urgent += 1;
        waiting.items.get_mut(waiting.urgent - 1)
    }

    /// Takes out what comes first of `cgroup` as long as it is `stale`. True where something was.
    pub fn shed(&mut self, cgroup: u64, stale: impl Fn(&T) -> bool) -> bool {
        let mut any = false;
        while self.waiting.get(&cgroup).and_then(|waiting| waiting.items.front()).is_some_and(&stale) {
            any |= self.take(cgroup, Waiting::first).is_some();
        }
        any
    }

    /// From now on `cgroup` is served last, or in turn again.
    pub fn set_slow(&mut self, cgroup: u64, slow: bool) {
        self.slow.retain(|id| *id != cgroup);
        if slow {
            self.slow.push_back(cgroup);
            if self.slow.len() > SLOW_MAX {
                self.slow.pop_front();
            }
        }
    }

    /// The first entry of the cgroup whose turn it is.
    pub fn pop(&mut self) -> Option<T> {
        let next = self.turn.iter().position(|id| !self.slow.contains(id)).unwrap_or(0);
        let cgroup = self.turn.remove(next)?;
        let item = self.take(cgroup, Waiting::first);
        if self.waiting.contains_key(&cgroup) {
            self.turn.push_back(cgroup);
        }
        item
    }

    fn take(&mut self, cgroup: u64, end: fn(&mut Waiting<T>) -> Option<T>) -> Option<T> {
        let waiting = self.waiting.get_mut(&cgroup)?;
        let item = end(waiting)?;
        self.len -= 1;
        if waiting.items.is_empty() {
            self.waiting.remove(&cgroup);
            self.turn.retain(|id| *id != cgroup);
        }
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(per_cgroup_max: usize, total_max: usize) -> FairQueue<(u64, u32)> {
        FairQueue::new(QueueLimits { per_cgroup_max, urgent_max: 2, total_max })
    }

    fn drain(queue: &mut FairQueue<(u64, u32)>) -> Vec<(u64, u32)> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn cgroups_take_turns_and_each_keeps_its_order() {
        let mut queue = queue(8, 16);
        for n in 0..3 {
            assert_eq!(queue.push(1, (1, n)), None);
        }
        assert_eq!(queue.push(2, (2, 0)), None);
        assert_eq!(queue.pop(), Some((1, 0)));
        assert_eq!(queue.push(3, (3, 0)), None);
        assert_eq!(drain(&mut queue), [(2, 0), (1, 1), (3, 0), (1, 2)]);
        assert_eq!(queue.len, 0);
        assert!(queue.waiting.is_empty() && queue.turn.is_empty(), "nothing is kept of cgroups that are gone");
    }

    #[test]
    fn slow_cgroups_wait_for_all_others_until_they_are_forgiven() {
        let mut queue = queue(8, 16);
        queue.set_slow(1, true);
        for n in 0..2 {
            assert_eq!(queue.push(1, (1, n)), None);
            assert_eq!(queue.push(2, (2, n)), None);
        }
        assert_eq!(drain(&mut queue), [(2, 0), (2, 1), (1, 0), (1, 1)]);
        queue.set_slow(1, false);
        assert_eq!((queue.push(1, (1, 2)), queue.push(2, (2, 2))), (None, None));
        assert_eq!(queue.pop(), Some((1, 2)));
        for cgroup in 0..1000 {
            queue.set_slow(cgroup, true);
        }
        assert_eq!(queue.slow.len(), SLOW_MAX);
    }

    #[test]
    fn a_full_cgroup_loses_its_own_and_a_full_queue_takes_from_the_longest() {
        let mut queue = queue(3, 4);
        for n in 0..3 {
            assert_eq!(queue.push(1, (1, n)), None);
        }
        assert_eq!(queue.push(1, (1, 3)), Some((1, 3)));
        assert_eq!(queue.push(2, (2, 0)), None);
        assert_eq!(queue.push(3, (3, 0)), Some((1, 2)), "the flood makes room for a newcomer");
        assert_eq!(queue.push(1, (1, 4)), Some((1, 4)), "but not for itself");
        assert_eq!(queue.len, 4);
        assert_eq!(drain(&mut queue), [(1, 0), (2, 0), (3, 0), (1, 1)]);
    }

    #[test]
    fn what_becomes_urgent_goes_before_its_cgroups_others() {
        let mut queue = queue(4, 8);
        for n in 0..4 {
            assert_eq!(queue.push(1, (1, n)), None);
        }
        assert_eq!(queue.push_urgent(1, (1, 10)), None);
        assert_eq!(queue.hurry(1, |item| item.1 == 10), None, "it is urgent already");
        assert_eq!(queue.hurry(1, |item| item.1 == 2), Some(&mut (1, 2)));
        assert_eq!(queue.hurry(1, |item| item.1 == 3), None, "too much of it is urgent");
        assert_eq!(queue.hurry(2, |_| true), None);
        assert_eq!(drain(&mut queue), [(1, 10), (1, 2), (1, 0), (1, 1), (1, 3)]);
        assert!(queue.waiting.is_empty() && queue.turn.is_empty());
    }

    #[test]
    fn what_is_urgent_goes_before_its_cgroups_others_and_nobody_elses() {
        let mut queue = queue(3, 6);
        for n in 0..3 {
            assert_eq!(queue.push(1, (1, n)), None);
        }
        assert_eq!((queue.push(2, (2, 0)), queue.push(2, (2, 1))), (None, None));
        assert_eq!(queue.push_urgent(1, (1, 10)), None, "a place of its own, beside a full cgroup");
        assert_eq!(queue.push_urgent(2, (2, 10)), Some((1, 2)), "all is full, and the other has more");
        assert_eq!(queue.push_urgent(2, (2, 11)), Some((2, 1)), "all is full, and nobody has more to give");
        assert_eq!(queue.push_urgent(2, (2, 12)), Some((2, 12)), "too much of it is urgent");
        assert_eq!(queue.pop(), Some((1, 10)));
        assert_eq!(queue.push_urgent(1, (1, 11)), None);
        assert_eq!(drain(&mut queue), [(2, 10), (1, 11), (2, 11), (1, 0), (2, 0), (1, 1)]);
        assert!(queue.waiting.is_empty() && queue.turn.is_empty());
    }
}
