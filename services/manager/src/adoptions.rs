//! The limit of videos that readers bring in by their reports: a watched video that has no assignment gets one, because
//! the store may have lost it.
//!
//! Whoever has a reader's stolen credential can report viewers of invented videos, other ones in each heartbeat. So each
//! reader has a budget of its own.
//!
//! Pure: time is an argument.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use liverank_core::ReaderId;

/// The number of videos that are given an assignment within [`BUDGET_PERIOD`] because one reader reports viewers of them:
/// as many as a reader has places for videos, so that after a loss of the store all videos of all readers come back. A
/// reader that was taken over holds a tenth of all assignments at most, because videos that nobody watches lose theirs
/// after an hour.
const MAX_ADOPTED_VIDEOS: u32 = 50_000;
/// The time after which all budgets are full again.
const BUDGET_PERIOD: Duration = Duration::from_hours(1);

/// The budgets of all readers.
#[derive(Debug)]
pub struct AdoptionBudgets {
    /// The number of videos of each reader that were adopted in this period.
    adopted_by_reader: HashMap<ReaderId, u32>,
    period_began: Instant,
}

impl AdoptionBudgets {
    /// Makes full budgets.
    pub fn new(now: Instant) -> Self {
        Self { adopted_by_reader: HashMap::new(), period_began: now }
    }

    /// Fills all budgets if the period is over.
    pub fn refill(&mut self, now: Instant) {
        if now.saturating_duration_since(self.period_began) >= BUDGET_PERIOD {
            *self = Self::new(now);
        }
    }

    /// Returns true if a video that this reader reports may be adopted.
    pub fn has_room(&self, reader: &ReaderId) -> bool {
        self.adopted_by_reader.get(reader).is_none_or(|adopted| *adopted < MAX_ADOPTED_VIDEOS)
    }

    /// Counts a video that was adopted because of this reader.
    pub fn count_adopted(&mut self, reader: ReaderId) {
        *self.adopted_by_reader.entry(reader).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reader_brings_in_as_many_videos_an_hour_as_it_has_places() {
        let start = Instant::now();
        let mut budgets = AdoptionBudgets::new(start);
        let [reader, other] = ["r", "other"].map(|id| ReaderId::parse(id).unwrap());
        for _ in 0..50_000 {
            assert!(budgets.has_room(&reader));
            budgets.count_adopted(reader.clone());
        }
        budgets.refill(start + Duration::from_mins(59));
        assert!(!budgets.has_room(&reader) && budgets.has_room(&other));
        budgets.refill(start + BUDGET_PERIOD);
        assert!(budgets.has_room(&reader));
    }
}
