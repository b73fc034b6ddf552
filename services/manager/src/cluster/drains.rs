//! Which videos leave a reader that is to be emptied, and where they go.

use std::collections::HashMap;
use std::time::Instant;

use liverank_core::handover::coordinator::{self, AssignmentOrder, ReaderStatus};
use liverank_core::{ReaderId, VideoId};

use super::KnownCluster;
use crate::liveness::ReaderSighting;

/// Orders begun at one look: what the readers can warm until the next.
const MAX_ORDERS_A_LOOK: usize = 250;
/// Seconds' worth of hand-overs that may be under way: enough that none waits for the next look or a reader's report.
pub const DRAIN_HAND_OVER_SECONDS: u64 = 10;

/// A video that is to leave a reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrainMove {
    /// The order that moves the video.
    pub order: AssignmentOrder,
    /// Which reader it leaves.
    pub reader: ReaderId,
    /// Viewers that go with it.
    pub viewers: u64,
}

impl KnownCluster {
    /// What is to leave readers that are to be emptied and that report to this manager, the most watched videos first;
    /// no more viewers than the budget has room for, except that one which leaves by itself is emptied in half of its
    /// grace. `is_moving`: orders for these are being carried out already, of `uncounted` viewers.
    pub fn drain_moves(
        &self,
        now: Instant,
        per_minute: u64,
        uncounted: u64,
        is_moving: impl Fn(&VideoId) -> bool,
    ) -> Vec<DrainMove> {
        let to_empty = |sighting: &&ReaderSighting| {
            let reader = &sighting.last_record.id;
            self.reader_status(now, reader).is_some_and(ReaderStatus::is_emptied)
                && self.reader_watch.reports_here(now, reader)
        };
        let mut leaving: HashMap<&ReaderId, u64> = HashMap::new();
        for sighting in self.reader_watch.all_sightings().filter(to_empty) {
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

    /// Viewers of a reader that may be set on their way now.
    fn movable_viewers(&self, sighting: &ReaderSighting, per_minute: u64, uncounted: u64) -> u64 {
        let record = &sighting.last_record;
        let under_way = self.pending_hand_overs.viewers + uncounted;
        let budget =
            per_minute.saturating_mul(DRAIN_HAND_OVER_SECONDS).div_ceil(60).saturating_sub(under_way);
        if !record.draining || record.grace_ms == 0 {
            return budget;
        }
        let needed = record.viewers.saturating_mul(2_000 * DRAIN_HAND_OVER_SECONDS / 2) / record.grace_ms;
        // At the pace that its heartbeats are answered with, however many are set on their way.
        budget.max(needed).max(1)
    }

    /// The order that takes a video from all readers that are to be emptied: others take their places, where there are
    /// any. `coming` counts what the orders before this one brought to whom.
    fn order_without_drained(
        &self,
        now: Instant,
        video: &VideoId,
        viewers: u64,
        coming: &mut HashMap<ReaderId, u64>,
    ) -> Option<AssignmentOrder> {
        let leaves = |reader: &ReaderId| self.reader_status(now, reader) == Some(ReaderStatus::Leaving);
        let current = self.assignment_view.assigned_readers(video)?;
        // A reader that is closed would be emptied next: it takes only what cannot stay where it is.
        let is_urgent = current.readers.iter().any(|share| leaves(&share.reader));
        coordinator::order_off_emptied_readers(&self.view_at(now), video, |besides| {
            let fits = |reader: &ReaderId| {
                besides.iter().all(|share| share.reader != *reader)
                    && (is_urgent || self.is_open(reader))
                    && self.room(reader) > coming.get(reader).copied().unwrap_or(0)
            };
            let taker = self.least_loaded_of(coming, fits)?;
            *coming.entry(taker.clone()).or_default() += viewers.max(1);
            Some(taker)
        })
    }
}
