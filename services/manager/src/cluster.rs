//! Holds all that this manager knows of readers, videos and planners, and makes the decisions that follow from it.
//! Plain decisions on plain data; time is an argument.
//!
//! | module | decides |
//! |---|---|
//! | this one | what is known: records, heartbeats, cordons; which readers are there, open and how full |
//! | `audiences` | where each video is watched |
//! | `choice` | which readers a video is given |
//! | `drains`, [`overdue`] | how readers are emptied, and which take too long for it |
//! | `heartbeat` | which viewers a reader hands over |
//! | [`load`] | which viewers are load: all but the canary's |
//! | [`listed`], [`report`], [`unserved`], [`watched`] | what planners and people are shown |
//! | `upkeep` | which videos need another reader, or none any more |

use std::collections::HashMap;
use std::time::Instant;

use liverank_adapters::assignment_store::{
    CordonLevel, MAX_EPOCH, PlannerOrders, ReaderCordon, ReaderRecord,
};
use liverank_core::handover::coordinator::{self, ClusterView};
use liverank_core::handover::reserved::ReservedCapacity;
use liverank_core::handover::{AssignedReaders, ElapsedTime, HeldVideo};
use liverank_core::{ReaderId, VideoId};

use crate::liveness::{HoldReason, ReaderLiveness, ReaderStatus, ReaderWatch, ReadersVerdict};
use crate::view::AssignmentView;
use audiences::{VideoAudience, updated_audiences};
use overdue::DrainClock;
use unserved::UnservedViewers;

mod audiences;
mod choice;
mod heartbeat;
mod upkeep;

pub use choice::{MAX_ASSIGNMENTS, VideoDecision};
pub use heartbeat::PendingHandovers;

pub mod drains;
pub mod listed;
pub mod load;
pub mod overdue;
pub mod report;
pub mod unserved;
pub mod watched;

/// All that this manager knows of readers, videos and planners.
#[derive(Debug, Default)]
pub struct KnownCluster {
    /// All assignments, as far as the store's changes have arrived here.
    pub assignment_view: AssignmentView,
    /// The readers, as their heartbeats and probes show them.
    pub reader_watch: ReaderWatch,
    /// The planner's term and the cordons.
    pub planner_orders: PlannerOrders,
    /// The viewers of each watched video.
    audiences: HashMap<VideoId, VideoAudience>,
    /// The time at which this manager first read the readers' records.
    first_read_at: Option<Instant>,
    /// The last decision about which readers are gone.
    readers_verdict: ReadersVerdict,
    /// The viewers that are expected at readers and have not arrived.
    pub reserved_capacity: ReservedCapacity,
    /// The viewers that have an order to go to another reader.
    pub pending_hand_overs: PendingHandovers,
    /// The requests of viewers for whom there is no reader.
    pub unserved_viewers: UnservedViewers,
    /// The time since which each drained reader is being emptied.
    pub drain_clock: DrainClock,
}

/// The cluster as one manager sees it at one moment.
pub struct ClusterAtTime<'a> {
    /// The cluster as this manager knows it.
    pub cluster: &'a KnownCluster,
    /// The moment for which the view holds.
    pub now: Instant,
}

impl ClusterView for ClusterAtTime<'_> {
    fn assigned_readers(&self, video: &VideoId) -> Option<&AssignedReaders> {
        self.cluster.assignment_view.assigned_readers(video)
    }

    fn reader_status(&self, reader: &ReaderId) -> Option<ReaderStatus> {
        self.cluster.reader_status(self.now, reader)
    }

    fn viewer_url(&self, reader: &ReaderId) -> Option<String> {
        self.cluster.reader_watch.get(reader).map(|sighting| sighting.last_record.public_url.clone())
    }

    fn held_video(&self, reader: &ReaderId, video: &VideoId) -> Option<&HeldVideo> {
        self.cluster
            .reader_watch
            .get(reader)
            .filter(|sighting| sighting.has_recent_record(self.now))?
            .held_video(video)
    }

    fn usage_thousandths(&self, reader: &ReaderId) -> u64 {
        self.cluster.reader_usage_thousandths(reader)
    }

    fn room(&self, reader: &ReaderId) -> u64 {
        self.cluster.room_of_reader(reader)
    }

    fn reported_usage(&self, reader: &ReaderId) -> (u64, u64) {
        let record = self.cluster.reader_watch.get(reader).map(|sighting| &sighting.last_record);
        record.map_or((0, 0), |record| (record.capacity, record.viewers))
    }

    fn is_open(&self, reader: &ReaderId) -> bool {
        self.cluster.is_reader_open(reader)
    }

    fn viewers(&self, video: &VideoId) -> u64 {
        self.cluster.audiences.get(video).map_or(0, |audience| audience.peak.greatest())
    }
}

impl KnownCluster {
    /// Creates the state of a manager that knows nothing of its cluster yet.
    pub fn new(drain_clock: DrainClock) -> Self {
        Self { drain_clock, ..Self::default() }
    }

    /// Returns the view of the cluster at `now`, for the decisions in core.
    pub const fn view_at(&self, now: Instant) -> ClusterAtTime<'_> {
        ClusterAtTime { cluster: self, now }
    }

    /// Notes the readers' records that the store returned to a request made at `asked`.
    pub fn note_records(&mut self, asked: Instant, records: Vec<ReaderRecord>) {
        self.note_arrivals(&records);
        self.reader_watch.note_records(asked, records);
        let since = self.time_since_first_read(asked);
        self.reserved_capacity.expire(since);
        self.audiences = updated_audiences(&self.reader_watch, &self.assignment_view, since, &self.audiences);
        self.decide_about_readers(asked);
        self.pending_hand_overs = self.count_pending_handovers(asked);
        self.note_drains(asked);
    }

    /// Notes a heartbeat that came to this manager itself.
    pub fn note_heartbeat(&mut self, now: Instant, record: ReaderRecord) {
        self.note_arrivals(std::slice::from_ref(&record));
        self.reader_watch.note_heartbeat(now, record);
        self.decide_about_readers(now);
    }

    /// Returns the time since this manager first read the readers' records.
    fn time_since_first_read(&mut self, now: Instant) -> ElapsedTime {
        now.saturating_duration_since(*self.first_read_at.get_or_insert(now))
    }

    /// Counts viewers as arrived once their reader reports them: they are no longer expected.
    fn note_arrivals(&mut self, records: &[ReaderRecord]) {
        for record in records {
            let Some(known) = self.reader_watch.get(&record.id) else { continue };
            self.reserved_capacity
                .note_arrived(&record.id, record.viewers.saturating_sub(known.last_record.viewers));
        }
    }

    /// Notes that a viewer is being sent to a reader. `is_counted`: the viewer counts towards the reader's load until
    /// it has arrived. No viewer is counted at a full reader: the reader refuses every viewer, and each counted one
    /// would make it seem full for some seconds more, also after it has room again.
    pub fn note_viewer_sent(&mut self, now: Instant, reader: &ReaderId, is_counted: bool) {
        self.reader_watch.note_viewer_sent(now, reader);
        if is_counted && self.reader_usage_thousandths(reader) < coordinator::FULL_USAGE_THOUSANDTHS {
            // The next one is sent by what will be.
            let time = self.time_since_first_read(now);
            self.reserved_capacity.reserve(time, reader, 1);
        }
    }

    /// Decides again which readers are gone. Returns the reason for which nothing is moved although something should
    /// be; `None` if there is no such reason.
    pub fn decide_about_readers(&mut self, now: Instant) -> Option<HoldReason> {
        self.readers_verdict = self.verdict_at(now);
        self.readers_verdict.hold_reason
    }

    fn verdict_at(&self, now: Instant) -> ReadersVerdict {
        let removed = |reader: &ReaderId| self.cordon_level(reader) == Some(CordonLevel::Removed);
        self.reader_watch.decide_about_readers(
            now,
            |reader| self.assignment_view.video_count_of(reader) > 0,
            removed,
        )
    }

    /// Returns the status of a reader. A reader that its operator removed is gone, whatever it reports. Any other
    /// reader is gone only if this manager may act on that: never by a stale view, and not while so many readers seem
    /// gone that the manager itself is more likely cut off.
    pub fn reader_status(&self, now: Instant, reader: &ReaderId) -> Option<ReaderStatus> {
        self.reader_watch.status_to_act_on(now, reader, self.cordon_level(reader), &self.readers_verdict)
    }

    /// Returns the level at which a planner cordoned a reader; `None` if the reader is not cordoned.
    pub fn cordon_level(&self, reader: &ReaderId) -> Option<CordonLevel> {
        let found = self.planner_orders.cordons.binary_search_by(|cordon| cordon.reader.cmp(reader));
        found.ok().map(|at| self.planner_orders.cordons[at].closing)
    }

    /// Notes a cordon that took effect, before the next poll of the store reports it; `None`: the cordon was lifted.
    pub fn note_cordon(&mut self, reader: &ReaderId, cordon: Option<ReaderCordon>) {
        let cordons = &mut self.planner_orders.cordons;
        cordons.retain(|known| known.reader != *reader);
        cordons.extend(cordon);
        cordons.sort_by(|a, b| a.reader.cmp(&b.reader));
    }

    /// Returns the readers that take new videos.
    pub fn open_readers(&self) -> impl Iterator<Item = &ReaderLiveness> {
        self.reader_watch.open_readers_among(|reader| self.cordon_level(reader).is_none())
    }

    /// Returns true if a reader takes new videos.
    pub fn is_reader_open(&self, reader: &ReaderId) -> bool {
        self.reader_watch.reader_status(reader) == Some(ReaderStatus::Alive)
            && self.cordon_level(reader).is_none()
    }

    /// Returns the part of its capacity that a reader uses, in thousandths; viewers on their way to the reader are
    /// included.
    pub fn reader_usage_thousandths(&self, reader: &ReaderId) -> u64 {
        let Some(sighting) = self.reader_watch.get(reader) else { return u64::MAX };
        let viewers =
            sighting.last_record.viewers.saturating_add(self.reserved_capacity.reserved_for(reader));
        viewers.saturating_mul(1_000) / sighting.last_record.capacity.max(1)
    }

    /// Returns the number of viewers that a reader can still take; viewers known to be on their way to it count as
    /// arrived.
    pub fn room_of_reader(&self, reader: &ReaderId) -> u64 {
        let Some(sighting) = self.reader_watch.get(reader) else { return 0 };
        let viewers =
            sighting.last_record.viewers.saturating_add(self.reserved_capacity.reserved_for(reader));
        sighting.last_record.capacity.saturating_sub(viewers)
    }

    /// Returns the number of viewers of a leaving reader for whom other readers have room; if several readers leave,
    /// each gets an even part of that room.
    pub fn room_elsewhere(&self, now: Instant, leaving: &ReaderId) -> u64 {
        let others = self.open_readers().filter(|sighting| sighting.last_record.id != *leaving);
        let room: u64 = others.map(|sighting| self.room_of_reader(&sighting.last_record.id)).sum();
        let leaves = |sighting: &&ReaderLiveness| {
            sighting.last_record.viewers > 0
                && self.reader_status(now, &sighting.last_record.id) == Some(ReaderStatus::Leaving)
        };
        room / (self.reader_watch.all_readers().filter(leaves).count() as u64).max(1)
    }

    /// Returns the readers whose records have to be removed, with the last beat of each in the store.
    pub fn readers_to_forget(&self, now: Instant) -> Vec<(ReaderId, u64)> {
        self.reader_watch
            .readers_to_forget(now, |reader| self.cordon_level(reader) == Some(CordonLevel::Removed))
    }

    /// Returns the reason for which nothing is moved although something should be.
    pub fn hold_reason(&self, now: Instant) -> Option<HoldReason> {
        self.verdict_at(now).hold_reason
    }

    /// Returns the highest epoch that any process has seen: the next one must be greater.
    pub fn highest_epoch(&self) -> u64 {
        let readers = self.reader_watch.highest_epoch();
        // One that cannot have been minted is somebody's mistake, which must not stop all placement.
        let readers = if readers < MAX_EPOCH { readers } else { 0 };
        readers.max(self.assignment_view.highest_epoch())
    }
}

#[cfg(test)]
mod tests;
