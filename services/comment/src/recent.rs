//! A map of recent entries, limited in their number and their age.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::{Duration, Instant};

/// A map that keeps at most `max_entries` entries, each for at most `max_age`; the oldest entries are evicted first.
#[derive(Debug)]
pub struct RecentEntries<K, V> {
    max_entries: usize,
    max_age: Duration,
    entries: HashMap<K, (u64, Instant, V)>,
    /// Keys in the order of insertion, each with the number of the insertion; keys removed or replaced since are
    /// recognised by their number and skipped.
    insertion_order: VecDeque<(u64, K)>,
    last_insertion_number: u64,
}

impl<K: Eq + Hash + Clone, V> RecentEntries<K, V> {
    /// Makes an empty map.
    pub fn new(most: usize, max_age: Duration) -> Self {
        Self {
            max_entries: most,
            max_age,
            entries: HashMap::new(),
            insertion_order: VecDeque::new(),
            last_insertion_number: 0,
        }
    }

    /// Returns the value that is stored under `key`, unless it is too old.
    pub fn get(&self, now: Instant, key: &K) -> Option<&V> {
        let (_, since, value) = self.entries.get(key)?;
        (now.saturating_duration_since(*since) < self.max_age).then_some(value)
    }

    /// Stores `value` under `key`, with the age counted from `now`.
    pub fn insert(&mut self, now: Instant, key: K, value: V) {
        self.last_insertion_number += 1;
        self.entries.insert(key.clone(), (self.last_insertion_number, now, value));
        self.insertion_order.push_back((self.last_insertion_number, key));
        while self.insertion_order.len() > self.max_entries {
            let Some((turn, key)) = self.insertion_order.pop_front() else { break };
            if self.entries.get(&key).is_some_and(|(current, ..)| *current == turn) {
                self.entries.remove(&key);
            }
        }
    }

    /// Removes `key`.
    pub fn remove(&mut self, key: &K) {
        self.entries.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEPT_FOR: Duration = Duration::from_mins(1);

    #[test]
    fn old_entries_are_forgotten() {
        let (mut recent, now) = (RecentEntries::new(10, KEPT_FOR), Instant::now());
        recent.insert(now, "a", 1);
        assert_eq!(recent.get(now + KEPT_FOR / 2, &"a"), Some(&1));
        assert_eq!(recent.get(now + KEPT_FOR, &"a"), None);
        recent.insert(now + KEPT_FOR, "a", 2);
        assert_eq!(recent.get(now + KEPT_FOR, &"a"), Some(&2));
        recent.remove(&"a");
        assert_eq!(recent.get(now + KEPT_FOR, &"a"), None);
    }

    #[test]
    fn the_map_never_grows_past_its_bound() {
        let (mut recent, now) = (RecentEntries::new(3, KEPT_FOR), Instant::now());
        for key in 0..100 {
            recent.insert(now, key % 7, key);
            assert!(recent.entries.len() <= 3 && recent.insertion_order.len() <= 3);
        }
        // The last three: 97, 98, 99 under 6, 0, 1.
        assert_eq!([6, 0, 1].map(|key| recent.get(now, &key).copied()), [Some(97), Some(98), Some(99)]);
    }

    #[test]
    fn a_replaced_key_is_kept_for_its_new_time() {
        let (mut recent, now) = (RecentEntries::new(2, KEPT_FOR), Instant::now());
        for key in ["a", "a", "b"] {
            recent.insert(now, key, key);
        }
        assert!(recent.get(now, &"a").is_some() && recent.get(now, &"b").is_some());
    }
}
