//! Placement: the choice of readers for videos.
//!
//! [`least_occupied_reader`] finds a reader for one video at once, on request. [`plan`](planner::make_plan) considers
//! all readers and all videos and returns the changes to make: its problem, wanted properties and method are in
//! `docs/planner.md`. [`what_if`](what_if::forecast) plans for a hypothetical system with other readers or other
//! loads.

pub mod plan;
pub mod planner;
pub mod situation;
pub mod what_if;
pub mod zones;

pub use plan::{ChangeKind, OrderReason, Plan, PlannedOrder, ReachedLimit, RejectedChange, ViewerBalance};
pub use planner::{make_plan, plan_in_zones};
pub use situation::{
    PlacementReader, PlacementVideo, PlanLimits, ReaderAvailability, Situation, VideoPart, ViewerMoveBudget,
    WHOLE_SHARE,
};
pub use zones::ReaderZones;

use crate::ReaderId;

/// The load of a reader, by which [`least_occupied_reader`] chooses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReaderOccupancy {
    /// The reader.
    pub id: ReaderId,
    /// The number of viewers connected to the reader now.
    pub viewer_count: u64,
    /// The number of videos assigned to the reader now.
    pub video_count: u64,
    /// The number of viewers that the reader can hold; at least 1.
    pub capacity: u64,
    /// Whether the reader accepts new videos: it is alive, and not draining.
    pub is_open: bool,
}

/// Returns the reader for a video that has none: the open reader with the smallest part of its capacity in use, then
/// with the fewest videos, then with the lowest id. A full reader is chosen only if all are full. `None` if no reader
/// is open.
pub fn least_occupied_reader(readers: &[ReaderOccupancy]) -> Option<&ReaderId> {
    let usage =
        |reader: &ReaderOccupancy| (reader.viewer_count.saturating_mul(1_000_000)) / reader.capacity.max(1);
    readers
        .iter()
        .filter(|reader| reader.is_open)
        .min_by(|a, b| (usage(a), a.video_count, &a.id).cmp(&(usage(b), b.video_count, &b.id)))
        .map(|reader| &reader.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(id: &str, viewer_count: u64, video_count: u64, capacity: u64, open: bool) -> ReaderOccupancy {
        ReaderOccupancy {
            id: ReaderId::parse(id).unwrap(),
            viewer_count,
            video_count,
            capacity,
            is_open: open,
        }
    }

    fn chosen_reader(readers: &[ReaderOccupancy]) -> Option<&str> {
        least_occupied_reader(readers).map(ReaderId::as_str)
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
