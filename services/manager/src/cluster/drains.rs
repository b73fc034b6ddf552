//! The orders that move videos off a reader that is to be emptied, to other readers.

use std::collections::HashMap;
use std::time::Instant;

use liverank_core::handover::coordinator::{self, AssignmentOrder, ReaderStatus};
use liverank_core::{ReaderId, VideoId};

use super::KnownCluster;
use crate::liveness::ReaderLiveness;

/// The maximum number of orders begun at one look: as many videos as readers can make ready until the next look.
const MAX_ORDERS_A_LOOK: usize = 250;
/// As many viewers may be in hand-over at the same time as the budget permits in this number of seconds: enough that no
/// hand-over waits for the next look or a reader's report.
pub const DRAIN_HAND_OVER_SECONDS: u64 = 10;

/// A video that is to leave a reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrainMove {
    /// The order that moves the video.
    pub order: AssignmentOrder,
    /// The reader that the video leaves.
    pub reader: ReaderId,
    /// The number of viewers that go with the video.
    pub viewers: u64,
}

impl KnownCluster {
    /// Returns the moves that take videos away from readers that are to be emptied and that report to this manager, the
    /// most watched videos first. The moves are of no more viewers than the budget permits, except that a reader which
    /// leaves by itself is emptied within half of its grace time. `is_moving`: whether a video is being moved already.
    /// `uncounted`: the viewers of running moves that are not in the count of pending hand-overs.
    pub fn drain_moves(
        &self,
        now: Instant,
        per_minute: u64,
        uncounted: u64,
        is_moving: impl Fn(&VideoId) -> bool,
    ) -> Vec<DrainMove> {
        let to_empty = |sighting: &&ReaderLiveness| {
            let reader = &sighting.last_record.id;
            self.reader_status(now, reader).is_some_and(ReaderStatus::must_be_emptied)
                && self.reader_watch.reports_here(now, reader)
        };
        let mut leaving: HashMap<&ReaderId, u64> = HashMap::new();
        for sighting in self.reader_watch.all_readers().filter(to_empty) {
            leaving.insert(&sighting.last_record.id, self.movable_viewers(sighting, per_minute, uncounted));
        }
        if leaving.is_empty() {
            return Vec::new();
        }
        let mut served: Vec<(u64, &ReaderId, &VideoId)> = Vec::new();
        for assignment in self.assignment_view.all_assignments() {
            let from = assignment.readers().iter().find(|share| leaving.contains_key(&share.reader));
            if let Some(share) = from.filter(|_| !is_moving(&assignment.video_id)) {
                let here =
                    self.reader_watch.get(&share.reader).and_then(|it| it.held_video(&assignment.video_id));
                served.push((here.map_or(0, |held| held.viewers), &share.reader, &assignment.video_id));
            }
        }
        served.sort_unstable_by(|a, b| b.cmp(a));
        let mut coming = HashMap::new();
        let mut drains = Vec::new();
        for (viewers, reader, video) in served {
            let Some(room) = leaving.get_mut(reader).filter(|room| **room > 0 || viewers == 0) else {
                continue;
            };
            let Some(order) = self.order_without_drained(now, video, viewers, &mut coming) else { continue };
            *room = room.saturating_sub(viewers);
            drains.push(DrainMove { order, reader: reader.clone(), viewers });
            if drains.len() >= MAX_ORDERS_A_LOOK {
                break;
            }
        }
        drains
    }

    /// Returns the number of a reader's viewers whose move may begin now.
    fn movable_viewers(&self, sighting: &ReaderLiveness, per_minute: u64, uncounted: u64) -> u64 {
        let record = &sighting.last_record;
        let under_way = self.pending_hand_overs.viewers + uncounted;
        let budget =
            per_minute.saturating_mul(DRAIN_HAND_OVER_SECONDS).div_ceil(60).saturating_sub(under_way);
        if !record.draining || record.grace_ms == 0 {
            return budget;
        }
        let needed = record.viewers.saturating_mul(2_000 * DRAIN_HAND_OVER_SECONDS / 2) / record.grace_ms;
        // At least one: viewers leave at the pace with which the reader's heartbeats are answered, however many moves
        // have begun.
        budget.max(needed).max(1)
    }

    /// Returns the order that moves a video off all readers that are to be emptied, to other readers if there are any.
    /// `coming` counts the viewers that earlier orders bring to each reader.
    fn order_without_drained(
        &self,
        now: Instant,
        video: &VideoId,
        viewers: u64,
        coming: &mut HashMap<ReaderId, u64>,
    ) -> Option<AssignmentOrder> {
        let leaves = |reader: &ReaderId| self.reader_status(now, reader) == Some(ReaderStatus::Leaving);
        let current = self.assignment_view.assigned_readers(video)?;
        // A cordoned reader would be emptied next: it gets only videos that cannot stay where they are.
        let is_urgent = current.readers.iter().any(|share| leaves(&share.reader));
        coordinator::order_to_empty_readers(&self.view_at(now), video, |besides| {
            let fits = |reader: &ReaderId| {
                besides.iter().all(|share| share.reader != *reader)
                    && (is_urgent || self.is_reader_open(reader))
                    && self.room_of_reader(reader) > coming.get(reader).copied().unwrap_or(0)
            };
            let taker = self.least_loaded_of(coming, fits)?;
            *coming.entry(taker.clone()).or_default() += viewers.max(1);
            Some(taker)
        })
    }
}
