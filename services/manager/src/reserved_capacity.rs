//! Viewers to come, who are in no reader's report yet: one for each video given out lately, and those of a dead reader.
//! Counting them keeps a burst of registrations, or a crowd that comes back, from going to one reader.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use liverank_core::ReaderId;

/// How long a registration counts as a viewer to come: by then the reader reports it, or it was none.
pub const HOLDS_FOR: Duration = Duration::from_secs(5);
/// Registrations remembered: what a manager answers in that time, and more.
const MOST: usize = 100_000;

/// Who was promised how many viewers.
#[derive(Debug, Default)]
pub struct ReservedCapacity {
    given: VecDeque<(Instant, ReaderId, u64)>,
    counts: HashMap<ReaderId, u64>,
}

impl ReservedCapacity {
    /// Notes that `viewers` are on their way to `reader`.
    pub fn give(&mut self, now: Instant, reader: &ReaderId, viewers: u64) {
        self.expire(now);
        while self.given.len() >= MOST {
            self.forget_first();
        }
        self.given.push_back((now, reader.clone(), viewers));
        *self.counts.entry(reader.clone()).or_default() += viewers;
    }

    /// Lets go of those that hold no longer.
    pub fn expire(&mut self, now: Instant) {
        while self.given.front().is_some_and(|(at, ..)| now.saturating_duration_since(*at) >= HOLDS_FOR) {
            self.forget_first();
        }
    }

    /// Viewers that a reader is to expect.
    pub fn to(&self, reader: &ReaderId) -> u64 {
        self.counts.get(reader).copied().unwrap_or(0)
    }

    fn forget_first(&mut self) {
        let Some((_, reader, viewers)) = self.given.pop_front() else { return };
        if let Some(count) = self.counts.get_mut(&reader) {
            *count -= viewers;
            if *count == 0 {
                self.counts.remove(&reader);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promises_hold_for_a_time_and_within_a_bound() {
        let (mut promises, now) = (ReservedCapacity::default(), Instant::now());
        let reader = ReaderId::parse("a").unwrap();
        promises.give(now, &reader, 1);
        promises.give(now + HOLDS_FOR / 2, &reader, 5);
        assert_eq!(promises.to(&reader), 6);
        promises.expire(now + HOLDS_FOR);
        assert_eq!(promises.to(&reader), 5);
        promises.expire(now + HOLDS_FOR * 2);
        assert!(promises.counts.is_empty() && promises.given.is_empty());
        for _ in 0..=MOST {
            promises.give(now, &reader, 1);
        }
        assert_eq!(promises.to(&reader), MOST as u64);
    }
}
