//! Where acts wait: each with the time at which it leaves whatever is known, and what it waits for.
//!
//! Nobody is looked at in vain: what arrives, what something was said about, and what is due, is asked once each. Where
//! the room is full, the cgroup that has most in it gives up its oldest, so that a flood hurries its own acts only.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hash;

use crate::table::Map;

/// When a guest has to leave, and its number.
type Ticket = (u64, u64);

#[derive(Debug)]
struct Guest<K, T> {
    cgroup: u64,
    topics: Vec<K>,
    item: T,
}

/// `K` is what a guest waits to hear of.
#[derive(Debug)]
pub struct WaitingRoom<K, T> {
    /// Who came since the last [`Self::leave`], and may be gone with it: a seat is more work than most stay for.
    arrived: Vec<(Ticket, Guest<K, T>)>,
    guests: BTreeMap<Ticket, Guest<K, T>>,
    by_cgroup: Map<u64, BTreeSet<Ticket>>,
    by_topic: Map<K, BTreeSet<Ticket>>,
    /// Who may be able to leave.
    stirred: BTreeSet<Ticket>,
    next: u64,
    guests_max: usize,
}

impl<K: Eq + Hash + Clone, T> WaitingRoom<K, T> {
    pub fn new(guests_max: usize) -> Self {
        Self {
            arrived: Vec::new(),
            guests: BTreeMap::new(),
            by_cgroup: Map::default(),
            by_topic: Map::default(),
            stirred: BTreeSet::new(),
            next: 0,
            guests_max,
        }
    }

    pub fn len(&self) -> usize {
        self.arrived.len() + self.guests.len()
    }

    /// Lets `item` in; it is asked once at the next [`Self::leave`].
    pub fn enter(&mut self, cgroup: u64, deadline_ns: u64, topics: Vec<K>, item: T) {
        self.next += 1;
        self.arrived.push(((deadline_ns, self.next), Guest { cgroup, topics, item }));
    }

    fn seat(&mut self, ticket: Ticket, guest: Guest<K, T>) {
        self.by_cgroup.entry(guest.cgroup).or_default().insert(ticket);
        for topic in &guest.topics {
            self.by_topic.entry(topic.clone()).or_default().insert(ticket);
        }
        self.guests.insert(ticket, guest);
    }

    fn seat_all(&mut self) {
        for (ticket, guest) in std::mem::take(&mut self.arrived) {
            self.seat(ticket, guest);
        }
    }

    /// Something was said of `topic`.
    pub fn stir(&mut self, topic: &K) {
        if let Some(tickets) = self.by_topic.get(topic) {
            self.stirred.extend(tickets);
        }
    }

    /// Something was said that may concern everybody.
    pub fn stir_all(&mut self) {
        self.stirred.extend(self.guests.keys());
    }

    /// Those who leave now: who can, who has to, and who is too many.
    pub fn leave(&mut self, now_ns: u64, can: impl Fn(&T) -> bool) -> Vec<T> {
        let mut left = Vec::new();
        for ticket in std::mem::take(&mut self.stirred) {
            if self.guests.get(&ticket).is_some_and(|guest| can(&guest.item)) {
                left.extend(self.remove(ticket));
            }
        }
        let mut arrived = std::mem::take(&mut self.arrived);
        for (ticket, guest) in arrived.drain(..) {
            if can(&guest.item) {
                left.push(guest.item);
            } else {
                self.seat(ticket, guest);
            }
        }
        // Their list is kept: the next will come.
        self.arrived = arrived;
        left.extend(self.overdue(now_ns));
        left.extend(self.excess());
        left
    }

    /// Those who have to leave by now.
    pub fn overdue(&mut self, now_ns: u64) -> Vec<T> {
        self.seat_all();
        let mut left = Vec::new();
        while let Some(ticket) = self.guests.keys().next().copied().filter(|(deadline, _)| *deadline <= now_ns) {
            left.extend(self.remove(ticket));
        }
        left
    }

    /// Those who are too many.
    pub fn excess(&mut self) -> Vec<T> {
        self.seat_all();
        let mut left = Vec::new();
        while self.guests.len() > self.guests_max {
            let crowd = self.by_cgroup.values().max_by_key(|tickets| tickets.len());
            let Some(oldest) = crowd.and_then(|tickets| tickets.first().copied()) else { break };
            left.extend(self.remove(oldest));
        }
        left
    }

    /// The first that `wanted` says yes to, among the latest `guests_max` that wait to hear of `topic`.
    pub fn find_mut(&mut self, topic: &K, guests_max: usize, wanted: impl Fn(&T) -> bool) -> Option<&mut T> {
        self.seat_all();
        let tickets = self.by_topic.get(topic)?.iter().rev().take(guests_max);
        let ticket = tickets.copied().find(|at| self.guests.get(at).is_some_and(|guest| wanted(&guest.item)))?;
        self.guests.get_mut(&ticket).map(|guest| &mut guest.item)
    }

    /// Takes out all that wait to hear of `topic`.
    pub fn take(&mut self, topic: &K) -> Vec<T> {
        self.seat_all();
        let tickets = self.by_topic.get(topic).cloned().unwrap_or_default();
        tickets.into_iter().filter_map(|ticket| self.remove(ticket)).collect()
    }

    /// When the next guest has to leave, ns.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        let seated = self.guests.first_key_value().map(|((deadline, _), _)| *deadline);
        self.arrived.iter().map(|((deadline, _), _)| *deadline).chain(seated).min()
    }

    fn remove(&mut self, ticket: Ticket) -> Option<T> {
        let Guest { cgroup, topics, item } = self.guests.remove(&ticket)?;
        forget(&mut self.by_cgroup, &cgroup, ticket);
        for topic in &topics {
            forget(&mut self.by_topic, topic, ticket);
        }
        self.stirred.remove(&ticket);
        Some(item)
    }
}

/// Takes a ticket off a list, and an empty list off the table.
fn forget<K: Eq + Hash>(lists: &mut Map<K, BTreeSet<Ticket>>, key: &K, ticket: Ticket) {
    if let Some(list) = lists.get_mut(key) {
        list.remove(&ticket);
        if list.is_empty() {
            lists.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn who_waits_is_asked_when_it_arrives_and_when_it_is_spoken_of() {
        let mut room = WaitingRoom::new(8);
        room.enter(1, 100, vec!["a"], 1);
        room.enter(1, 100, vec!["b"], 2);
        assert!(room.leave(0, |_| false).is_empty());
        assert!(room.leave(0, |_| true).is_empty(), "nothing was said since");
        room.stir(&"b");
        assert_eq!(room.leave(0, |_| true), [2]);
        room.stir_all();
        assert_eq!(room.leave(0, |_| true), [1]);
        assert!(room.by_cgroup.is_empty() && room.by_topic.is_empty() && room.stirred.is_empty());
    }

    #[test]
    fn who_waits_for_a_topic_is_found_and_taken() {
        let mut room = WaitingRoom::new(8);
        room.enter(1, 100, vec!["a", "b"], 1);
        room.enter(1, 100, vec!["b"], 2);
        assert_eq!(room.find_mut(&"b", 8, |_| true), Some(&mut 2));
        assert_eq!(room.find_mut(&"b", 1, |item| *item == 1), None, "that one is too far back");
        assert_eq!(room.take(&"b"), [1, 2]);
        assert!(room.by_cgroup.is_empty() && room.by_topic.is_empty() && room.stirred.is_empty());
    }

    #[test]
    fn a_flood_hurries_its_own_and_nobody_else() {
        let mut room = WaitingRoom::new(4);
        room.enter(2, 50, vec![()], (2, 0));
        for n in 0..6 {
            room.enter(1, 100 + n, vec![()], (1, n));
        }
        assert_eq!(room.leave(0, |_| false), [(1, 0), (1, 1), (1, 2)]);
        assert_eq!(room.next_deadline_ns(), Some(50));
        assert_eq!(room.leave(50, |_| false), [(2, 0)]);
    }

    proptest! {
        #[test]
        fn everybody_leaves_once_and_the_room_is_never_too_full(
            guests in proptest::collection::vec((0u64..4, 0u64..50, 0u8..4, 0u8..8), 0..64)
        ) {
            let mut room = WaitingRoom::new(8);
            let mut left = Vec::new();
            for (number, (cgroup, deadline, topic, said)) in guests.iter().enumerate() {
                room.enter(*cgroup, *deadline, vec![*topic], number);
                room.stir(said);
                left.extend(room.leave(number as u64, |item| item % 3 == 0));
                prop_assert!(room.len() <= 8);
            }
            left.extend(room.leave(u64::MAX, |_| false));
            left.sort_unstable();
            prop_assert_eq!(left, (0..guests.len()).collect::<Vec<_>>());
            prop_assert!(room.by_cgroup.is_empty() && room.by_topic.is_empty() && room.stirred.is_empty());
        }
    }
}
