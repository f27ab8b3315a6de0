//! Hash tables of everything between a record and its alert: an event is some dozens of look-ups.
//!
//! Keys come from strangers (addresses, paths, numbers of processes). The hash is keyed at random at each start, and what
//! a table holds is bounded by whoever has it; nobody outside sees an order or a hash.

/// A hash map.
pub type Map<K, V> = std::collections::HashMap<K, V, foldhash::quality::RandomState>;
/// A hash set.
pub type Set<K> = std::collections::HashSet<K, foldhash::quality::RandomState>;
