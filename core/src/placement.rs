//! Which reader serves a video.
//!
//! [`place`] finds a reader for one video at once, when somebody asks for it. [`plan`](planner::plan) looks at all
//! readers and all videos and says what to change: its problem, wanted properties and method are in `docs/planner.md`.
//! [`what_if`](what_if::what_if) asks it about a system that is changed in thought: other readers, other loads.

pub mod plan;
pub mod planner;
pub mod situation;
pub mod what_if;
pub mod zones;

pub use plan::{Balance, Bound, Kind, Order, Plan, Rejected, Why};
pub use planner::{plan, plan_in_zones};
pub use situation::{Budget, Limits, Part, Reader, ReaderAvailability, Situation, Video, WHOLE};
pub use zones::Zones;

use crate::ReaderId;

/// The load of a reader, from which [`place`] chooses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReaderLoad {
    /// The reader.
    pub id: ReaderId,
    /// Viewers connected now.
    pub viewers: u64,
    /// Videos assigned now.
    pub videos: u64,
    /// Viewers it can hold; at least 1.
    pub capacity: u64,
    /// Whether it takes new videos: alive, and not draining.
    pub open: bool,
}

/// The reader for a video that has none: the open one with the least part of its capacity in use, then the fewest
/// videos, then the lowest id; full ones only where all are full. `None` where none is open.
pub fn place(readers: &[ReaderLoad]) -> Option<&ReaderId> {
    let usage = |reader: &ReaderLoad| (reader.viewers.saturating_mul(1_000_000)) / reader.capacity.max(1);
    readers
        .iter()
        .filter(|reader| reader.open)
        .min_by(|a, b| (usage(a), a.videos, &a.id).cmp(&(usage(b), b.videos, &b.id)))
        .map(|reader| &reader.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(id: &str, viewers: u64, videos: u64, capacity: u64, open: bool) -> ReaderLoad {
        ReaderLoad { id: ReaderId::parse(id).unwrap(), viewers, videos, capacity, open }
    }

    fn chosen_reader(readers: &[ReaderLoad]) -> Option<&str> {
        place(readers).map(ReaderId::as_str)
    }

    #[test]
    fn the_least_used_reader_is_chosen_then_fewest_videos_then_name() {
        assert_eq!(chosen_reader(&[reader("a", 50, 0, 100, true), reader("b", 60, 0, 200, true)]), Some("b"));
        assert_eq!(chosen_reader(&[reader("a", 0, 2, 100, true), reader("b", 0, 1, 100, true)]), Some("b"));
        assert_eq!(chosen_reader(&[reader("b", 0, 1, 100, true), reader("a", 0, 1, 100, true)]), Some("a"));
    }

    #[test]
    fn closed_readers_take_nothing() {
        assert_eq!(chosen_reader(&[reader("a", 0, 0, 100, false), reader("b", 99, 9, 100, true)]), Some("b"));
        assert_eq!(chosen_reader(&[reader("a", 0, 0, 100, false)]), None);
        assert_eq!(chosen_reader(&[]), None);
    }
}
