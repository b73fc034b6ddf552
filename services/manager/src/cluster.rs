//! What this manager knows, and what it decides from it: where a video goes, who serves it, which videos have to move.
//! Plain decisions on plain data; time is an argument.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use liverank_adapters::assignment_store::{
    CordonLevel, MAX_EPOCH, PlannerOrders, ReaderCordon, ReaderRecord, VideoAssignment,
};
use liverank_core::handover::coordinator::{self, ClusterView, HandOverPace, HeartbeatOutcome};
use liverank_core::handover::peak::RecentPeak;
use liverank_core::handover::reserved::ReservedCapacity;
use liverank_core::handover::{AssignedReaders, ElapsedTime, HeldVideo, ReaderShare};
use liverank_core::placement::{ReaderOccupancy, least_occupied_reader};
use liverank_core::{ReaderId, VideoId};
use liverank_protocol::RouteReader;
use liverank_runtime::identity::sent::pass_key;

use crate::liveness::{HoldReason, ReaderSighting, ReaderStatus, ReaderWatch, ReadersVerdict};
use crate::view::AssignmentView;
use overdue::DrainClock;
use unserved::UnservedViewers;

pub mod drains;
pub mod overdue;
pub mod report;
pub mod unserved;
pub mod watched;

/// Assignments kept: several times the 90,000 concurrent streams that the comments seed expects.
pub const MAX_ASSIGNMENTS: usize = 1_000_000;
/// Videos that one heartbeat is answered to hand over: at any pace, more than a second's work. The rest comes with later
/// answers.
const MAX_VIDEOS_AN_ANSWER: usize = 1_000;
/// Seconds in which a reader sheds what it has above its share of a video, at the fastest: twice what a viewer takes to be
/// counted where it went. Faster, the reader that has most room would be sent more than it has before it could say so.
const SHED_SECONDS: u64 = 4;
/// And not slower than this part of what it keeps, a second: those who are on the way, for two seconds, are then fewer
/// than the tenth that a reader keeps above its share, and the last ones do not take as long as all others.
const MIN_VIEWERS_SHED: u64 = 20;

/// The silence of a reader after which its viewers are where they are: it is silent for some seconds before it is gone, and then
/// nobody is without a stream for more than ten. Counted for longer, they would fill readers in which they are already.
const LOST_VIEWERS_BACK_AFTER: Duration = Duration::from_secs(15);

/// What is to be done for a video to have a reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VideoDecision {
    /// Nothing: this is in force, and fit to be used.
    Serve(VideoAssignment),
    /// It is to be given to these readers, if its epoch still is `expected` (`None`: it has none).
    Assign {
        /// The epoch that is in force; `None`: the video has no assignment.
        expected: Option<u64>,
        /// The readers that are to serve the video.
        readers: Vec<ReaderShare>,
        /// The new epoch is to be above this.
        seen: u64,
    },
    /// No reader takes videos.
    NoReader,
    /// There are as many assignments as there may be.
    Full,
}

/// Where a video is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
struct VideoAudience {
    viewers: u64,
    /// The reader with the most of them, and how many it has.
    largest_reader: (u64, ReaderId),
    /// Whether some of them are being sent to another reader.
    handed_over: bool,
    /// The most viewers lately.
    peak: RecentPeak,
}

/// Viewers that are to go to another reader and have not gone yet.
#[derive(Debug, Default)]
pub struct PendingHandovers {
    /// How many viewers, of all videos.
    pub viewers: u64,
    /// Their numbers, by the video that they watch.
    pub videos: HashMap<VideoId, u64>,
    /// When they were counted.
    pub counted_at: Option<Instant>,
}

/// All that this manager knows of readers, videos and planners.
#[derive(Debug, Default)]
pub struct KnownCluster {
    /// The assignments.
    pub assignment_view: AssignmentView,
    /// The readers.
    pub reader_watch: ReaderWatch,
    /// The planner's term and the cordons.
    pub orders: PlannerOrders,
    /// Where each video that is watched is watched.
    audiences: HashMap<VideoId, VideoAudience>,
    /// When the readers were first looked at.
    origin: Option<Instant>,
    /// The last decision about which readers are gone.
    verdict: ReadersVerdict,
    /// Viewers to come.
    pub promised_viewers: ReservedCapacity,
    /// Viewers to go.
    pub pending_hand_overs: PendingHandovers,
    /// Viewers for whom there is no reader.
    pub unserved_viewers: UnservedViewers,
    /// Since when readers are being emptied.
    pub drain_clock: DrainClock,
}

/// What a manager sees at a time, as the protocol asks for it.
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
            .filter(|sighting| sighting.is_recent(self.now))?
            .held_video(video)
    }

    fn usage_thousandths(&self, reader: &ReaderId) -> u64 {
        self.cluster.usage_thousandths(reader)
    }

    fn room(&self, reader: &ReaderId) -> u64 {
        self.cluster.room(reader)
    }

    fn reported_usage(&self, reader: &ReaderId) -> (u64, u64) {
        let record = self.cluster.reader_watch.get(reader).map(|sighting| &sighting.last_record);
        record.map_or((0, 0), |record| (record.capacity, record.viewers))
    }

    fn is_open(&self, reader: &ReaderId) -> bool {
        self.cluster.is_open(reader)
    }

    fn viewers(&self, video: &VideoId) -> u64 {
        self.cluster.audiences.get(video).map_or(0, |audience| audience.peak.greatest())
    }
}

impl KnownCluster {
    /// A cluster of which nothing is known yet.
    pub fn new(drain_clock: DrainClock) -> Self {
        Self { drain_clock, ..Self::default() }
    }

    /// Returns the view of the cluster at `now`, for the decisions in core.
    pub const fn view_at(&self, now: Instant) -> ClusterAtTime<'_> {
        ClusterAtTime { cluster: self, now }
    }

    /// Notes what the store holds of the readers.
    pub fn note_records(&mut self, asked: Instant, records: Vec<ReaderRecord>) {
        self.note_arrivals(&records);
        self.reader_watch.note_records(asked, records);
        let since = self.time(asked);
        self.promised_viewers.expire(since);
        self.audiences = audiences(&self.reader_watch, &self.assignment_view, since, &self.audiences);
        self.judge_readers(asked);
        self.pending_hand_overs = self.count_pending_handovers(asked);
        self.note_drains(asked);
    }

    /// Notes a heartbeat that came to this manager itself.
    pub fn note_heartbeat(&mut self, now: Instant, record: ReaderRecord) {
        self.note_arrivals(std::slice::from_ref(&record));
        self.reader_watch.note_heartbeat(now, record);
        self.judge_readers(now);
    }

    /// Time since this manager first looked.
    fn time(&mut self, now: Instant) -> ElapsedTime {
        now.saturating_duration_since(*self.origin.get_or_insert(now))
    }

    /// Viewers whom readers report now and did not before are expected no more.
    fn note_arrivals(&mut self, records: &[ReaderRecord]) {
        for record in records {
            let Some(known) = self.reader_watch.get(&record.id) else { continue };
            self.promised_viewers
                .note_arrived(&record.id, record.viewers.saturating_sub(known.last_record.viewers));
        }
    }

    /// Notes that a viewer is being sent to a reader. `is_counted`: the viewer counts towards the reader's load until it has
    /// arrived. A full reader counts nobody: it refuses whoever comes, and each who asks in vain would make it seem full for
    /// some seconds more, also after it has room again.
    pub fn note_viewer_sent(&mut self, now: Instant, reader: &ReaderId, is_counted: bool) {
        self.reader_watch.note_viewer_sent(now, reader);
        if is_counted && self.usage_thousandths(reader) < coordinator::FULL_USAGE_THOUSANDTHS {
            // The next one is sent by what will be.
            let time = self.time(now);
            self.promised_viewers.reserve(time, reader, 1);
        }
    }

    /// Decides about readers anew, and answers why nothing is moved where something should be.
    pub fn judge_readers(&mut self, now: Instant) -> Option<HoldReason> {
        self.verdict = self.verdict_at(now);
        self.verdict.hold_reason
    }

    fn verdict_at(&self, now: Instant) -> ReadersVerdict {
        let removed = |reader: &ReaderId| self.cordon_level(reader) == Some(CordonLevel::Removed);
        self.reader_watch.judge_readers(
            now,
            |reader| self.assignment_view.video_count_of(reader) > 0,
            removed,
        )
    }

    /// How a reader stands. One that its operator removed is gone, whatever it reports. Any other is gone only where this
    /// manager may act on it: never on a stale view, and not while so many seem gone that it is more likely cut off itself.
    pub fn reader_status(&self, now: Instant, reader: &ReaderId) -> Option<ReaderStatus> {
        let closing = self.cordon_level(reader);
        if closing == Some(CordonLevel::Removed) {
            return Some(ReaderStatus::Gone);
        }
        let Some(sighting) = self.reader_watch.get(reader) else {
            return self.reader_watch.is_settled(now).then_some(ReaderStatus::Gone);
        };
        let may_act = || self.reader_watch.is_fresh(now) && self.verdict.readers_to_replace.contains(reader);
        let is_lost =
            || self.reader_watch.status_of(sighting) == ReaderStatus::Gone || sighting.is_unreachable();
        Some(match self.reader_watch.status_of(sighting) {
            _ if is_lost() && may_act() => ReaderStatus::Gone,
            // Silent or not: it said that it leaves, and its end is expected.
            _ if sighting.last_record.draining => ReaderStatus::Leaving,
            ReaderStatus::Alive if closing == Some(CordonLevel::Draining) => ReaderStatus::Draining,
            ReaderStatus::Alive => ReaderStatus::Alive,
            ReaderStatus::Draining | ReaderStatus::Leaving => ReaderStatus::Leaving,
            ReaderStatus::Gone | ReaderStatus::Suspect => ReaderStatus::Suspect,
        })
    }

    /// Returns how a planner closed a reader.
    pub fn cordon_level(&self, reader: &ReaderId) -> Option<CordonLevel> {
        let found = self.orders.cordons.binary_search_by(|cordon| cordon.reader.cmp(reader));
        found.ok().map(|at| self.orders.cordons[at].closing)
    }

    /// Notes a cordon that took effect, ahead of the next poll.
    pub fn note_cordon(&mut self, reader: &ReaderId, cordon: Option<ReaderCordon>) {
        let cordons = &mut self.orders.cordons;
        cordons.retain(|known| known.reader != *reader);
        cordons.extend(cordon);
        cordons.sort_by(|a, b| a.reader.cmp(&b.reader));
    }

    /// Readers that take new videos.
    pub fn open_readers(&self) -> impl Iterator<Item = &ReaderSighting> {
        self.reader_watch.open_readers_among(|reader| self.cordon_level(reader).is_none())
    }

    /// Whether a reader takes new videos.
    pub fn is_open(&self, reader: &ReaderId) -> bool {
        self.reader_watch.reader_status(reader) == Some(ReaderStatus::Alive)
            && self.cordon_level(reader).is_none()
    }

    /// The part of its capacity that a reader uses, viewers on their way included, in thousandths.
    pub fn usage_thousandths(&self, reader: &ReaderId) -> u64 {
        let Some(sighting) = self.reader_watch.get(reader) else { return u64::MAX };
        let viewers = sighting.last_record.viewers.saturating_add(self.promised_viewers.reserved_for(reader));
        viewers.saturating_mul(1_000) / sighting.last_record.capacity.max(1)
    }

    /// Viewers whom a reader can still take, those who are known to be on their way counted.
    pub fn room(&self, reader: &ReaderId) -> u64 {
        let Some(sighting) = self.reader_watch.get(reader) else { return 0 };
        let viewers = sighting.last_record.viewers.saturating_add(self.promised_viewers.reserved_for(reader));
        sighting.last_record.capacity.saturating_sub(viewers)
    }

    /// Viewers of a reader that leaves for whom others have room: an even part of it, where several leave.
    pub fn room_elsewhere(&self, now: Instant, leaving: &ReaderId) -> u64 {
        let others = self.open_readers().filter(|sighting| sighting.last_record.id != *leaving);
        let room: u64 = others.map(|sighting| self.room(&sighting.last_record.id)).sum();
        let leaves = |sighting: &&ReaderSighting| {
            sighting.last_record.viewers > 0
                && self.reader_status(now, &sighting.last_record.id) == Some(ReaderStatus::Leaving)
        };
        room / (self.reader_watch.all_sightings().filter(leaves).count() as u64).max(1)
    }

    /// Readers to be forgotten, with their last beat in the store.
    pub fn readers_to_forget(&self, now: Instant) -> Vec<(ReaderId, u64)> {
        self.reader_watch
            .readers_to_forget(now, |reader| self.cordon_level(reader) == Some(CordonLevel::Removed))
    }

    /// Why nothing is moved where something should be.
    pub fn hold_reason(&self, now: Instant) -> Option<HoldReason> {
        self.verdict_at(now).hold_reason
    }

    /// What is to be done for `video` to have a reader, asked by somebody who has heard of epoch `known` for it.
    pub fn decide_readers(&self, now: Instant, video: &VideoId, known: u64) -> VideoDecision {
        let current = self.assignment_view.get(video);
        if current.is_none() && self.assignment_view.len() >= MAX_ASSIGNMENTS {
            return VideoDecision::Full;
        }
        let decision = coordinator::decide_need(
            &self.view_at(now),
            video,
            known,
            |besides| self.choose_reader(video, besides),
            |assigned| self.roomiest_other_reader(assigned),
        );
        match (decision, current) {
            (coordinator::VideoNeed::Serve, Some(current)) => VideoDecision::Serve(current.clone()),
            (coordinator::VideoNeed::Assign { expected, readers, seen }, _) => {
                VideoDecision::Assign { expected, readers, seen: seen.max(self.highest_epoch()) }
            }
            _ => VideoDecision::NoReader,
        }
    }

    /// The same, and counts the viewers that come with it from now on: many videos are decided before the first of them is
    /// stored, and a dead reader's whole crowd would go to the one reader that has the least to do. Where it is not stored
    /// after all, that is forgotten soon.
    pub fn decide_and_count(&mut self, now: Instant, video: &VideoId, known: u64) -> VideoDecision {
        let decision = self.decide_readers(now, video, known);
        if let VideoDecision::Assign { readers, .. } = &decision {
            self.promise_viewers(now, video, readers);
        }
        decision
    }

    /// Counts the viewers who come to a video's new readers.
    pub fn promise_viewers(&mut self, now: Instant, video: &VideoId, readers: &[ReaderShare]) {
        let coming = self.lost_viewers(video) / readers.len().max(1) as u64;
        let time = self.time(now);
        for share in readers {
            self.promised_viewers.reserve(time, &share.reader, coming.max(1));
        }
    }

    /// Counts one viewer less at each of a video's new readers: the viewer who asked for the video and was counted by
    /// [`KnownCluster::decide_and_count`]. Where it goes is decided now, and must not fail for its own place.
    pub fn release_asking_viewer(&mut self, readers: &[ReaderShare]) {
        for share in readers {
            self.promised_viewers.note_arrived(&share.reader, 1);
        }
    }

    /// The reader for a video beside some: the one where most of its viewers are already and that has room, else the least
    /// loaded. Where no reader takes new videos, one that is closed does: it is alive, and nobody else is there.
    fn choose_reader(&self, video: &VideoId, besides: &[ReaderShare]) -> Option<ReaderId> {
        let is_beside = |reader: &ReaderId| besides.iter().all(|share| share.reader != *reader);
        let watched_at = self.audiences.get(video).map(|audience| &audience.largest_reader.1);
        watched_at
            .filter(|reader| self.is_open(reader) && is_beside(reader) && self.room(reader) > 0)
            .cloned()
            .or_else(|| self.least_loaded_of(&HashMap::new(), is_beside))
    }

    /// The least loaded of the readers that take new videos and that `fits` allows. `coming`: viewers who come to each
    /// beside what is known.
    fn least_loaded_of(
        &self,
        coming: &HashMap<ReaderId, u64>,
        fits: impl Fn(&ReaderId) -> bool,
    ) -> Option<ReaderId> {
        let loads = |closed_too: bool| {
            let takes = |reader: &ReaderId| {
                let closing = self.cordon_level(reader);
                fits(reader) && (closing.is_none() || (closed_too && closing == Some(CordonLevel::Closed)))
            };
            self.reader_watch
                .open_readers_among(takes)
                .map(|sighting| self.load_of(sighting, coming))
                .collect::<Vec<ReaderOccupancy>>()
        };
        least_occupied_reader(&loads(false)).or(least_occupied_reader(&loads(true))).cloned()
    }

    /// The reader with the most room beside those that serve a video.
    fn roomiest_other_reader(&self, assigned: &AssignedReaders) -> Option<ReaderId> {
        let beside = |sighting: &&ReaderSighting| {
            let reader = &sighting.last_record.id;
            assigned.share_of(reader).is_none()
                && self.usage_thousandths(reader) < coordinator::FULL_USAGE_THOUSANDTHS
        };
        let least = self
            .open_readers()
            .filter(beside)
            .min_by_key(|sighting| self.usage_thousandths(&sighting.last_record.id));
        least.map(|sighting| sighting.last_record.id.clone())
    }

    fn load_of(&self, sighting: &ReaderSighting, coming: &HashMap<ReaderId, u64>) -> ReaderOccupancy {
        let record = &sighting.last_record;
        let coming = coming.get(&record.id).copied().unwrap_or(0);
        ReaderOccupancy {
            id: record.id.clone(),
            viewers: record
                .viewers
                .saturating_add(self.promised_viewers.reserved_for(&record.id))
                .saturating_add(coming),
            videos: self.assignment_view.video_count_of(&record.id),
            capacity: record.capacity,
            is_open: true,
        }
    }

    /// The highest epoch that anybody has seen: the next one must be greater.
    pub fn highest_epoch(&self) -> u64 {
        let readers = self.reader_watch.highest_epoch();
        // One that cannot have been minted is somebody's mistake, which must not stop all placement.
        let readers = if readers < MAX_EPOCH { readers } else { 0 };
        readers.max(self.assignment_view.highest_epoch())
    }

    /// Videos of which a reader is gone, the most watched first, at most `most` of them.
    pub fn videos_to_move(&self, now: Instant, most: usize) -> Vec<VideoId> {
        let gone = |reader: &ReaderId| self.reader_status(now, reader) == Some(ReaderStatus::Gone);
        let leaving: HashSet<&ReaderId> =
            self.assignment_view.readers().filter(|reader| gone(reader)).collect();
        if leaving.is_empty() || self.least_loaded_of(&HashMap::new(), |_| true).is_none() {
            return Vec::new();
        }
        let mut videos: Vec<(u64, &VideoId)> = self
            .assignment_view
            .all_assignments()
            .filter(|assignment| assignment.readers().iter().any(|share| leaving.contains(&share.reader)))
            .map(|assignment| (self.viewers(&assignment.video_id), &assignment.video_id))
            .collect();
        videos.sort_unstable_by(|a, b| b.cmp(a));
        videos.into_iter().take(most).map(|(_, video)| video.clone()).collect()
    }

    /// Videos that are watched and that nobody was given: the store has lost them. At most `most` of them.
    pub fn videos_to_adopt(&self, now: Instant, most: usize) -> Vec<VideoId> {
        if !self.assignment_view.is_loaded() || !self.reader_watch.is_fresh(now) {
            return Vec::new();
        }
        self.audiences
            .keys()
            .filter(|video| self.assignment_view.get(video).is_none())
            .take(most)
            .cloned()
            .collect()
    }

    /// Notes which videos are watched, and answers those that are not in use any more, at most `most` of them.
    pub fn videos_to_remove(&mut self, now: Instant, idle: Duration, most: usize) -> Vec<(VideoId, u64)> {
        if !self.assignment_view.is_loaded() || !self.reader_watch.is_settled(now) {
            return Vec::new();
        }
        for video in self.audiences.keys() {
            self.assignment_view.note_use(now, video);
        }
        self.assignment_view.unused_videos(now, idle, most)
    }

    /// Viewers of a video, as live readers last reported them.
    pub fn viewers(&self, video: &VideoId) -> u64 {
        self.audiences.get(video).map_or(0, |audience| audience.viewers)
    }

    /// Viewers that other live readers have of the videos that this one serves and has viewers of, where there are any. No more
    /// of them than the heartbeat has. That it has viewers it merely says: of videos that it does not serve it hears nothing.
    pub fn viewers_elsewhere(&self, record: &ReaderRecord) -> Vec<(VideoId, u64)> {
        let all_here =
            |audience: &VideoAudience| audience.largest_reader == (audience.viewers, record.id.clone());
        let serves = |video: &VideoId| {
            let assigned = self.assignment_view.assigned_readers(video);
            assigned.is_some_and(|assigned| assigned.share_of(&record.id).is_some())
        };
        let watched = record.videos.iter().filter(|held| held.viewers > 0).map(|held| &held.video);
        let watched = watched.filter(|video| serves(video));
        // Looking through all readers is for the few videos that have several.
        let split = watched.filter(|video| self.audiences.get(*video).is_some_and(|it| !all_here(it)));
        let others = |sighting: &&ReaderSighting| {
            sighting.last_record.id != record.id
                && self.reader_watch.status_of(sighting) != ReaderStatus::Gone
        };
        let elsewhere = |video: &VideoId| -> u64 {
            let held = self
                .reader_watch
                .all_sightings()
                .filter(others)
                .filter_map(|sighting| sighting.held_video(video));
            held.map(|held| held.viewers).sum()
        };
        split.map(|video| (video.clone(), elsewhere(video))).filter(|(_, viewers)| *viewers > 0).collect()
    }

    /// An assignment's readers as others reach them, the best first; `lots` are random.
    pub fn routes_of(&self, now: Instant, assignment: &VideoAssignment, lots: [u32; 2]) -> Vec<RouteReader> {
        let (seen, video) = (self.view_at(now), &assignment.video_id);
        let readers = coordinator::readers_to_join(&seen, video, &assignment.assigned_readers, lots);
        let known = readers.iter().filter_map(|it| Some((self.reader_watch.get(&it.reader)?, it)));
        known
            .map(|(sighting, join)| {
                let record = &sighting.last_record;
                RouteReader {
                    id: record.id.clone(),
                    public_url: record.public_url.clone(),
                    internal_url: record.internal_url.clone(),
                    load: self.usage_thousandths(&record.id),
                    takes: join.takes,
                    wanted: join.wanted,
                    pass_key: record.ticket.as_ref().map(pass_key),
                }
            })
            .collect()
    }

    /// Viewers of a video that readers had that were gone lately: they are on their way to wherever it is served.
    pub fn lost_viewers(&self, video: &VideoId) -> u64 {
        let gone = self.reader_watch.all_sightings().filter(|sighting| {
            self.reader_watch.status_of(sighting) == ReaderStatus::Gone
                && self.reader_watch.silence_of(sighting) < LOST_VIEWERS_BACK_AFTER
        });
        gone.filter_map(|sighting| sighting.held_video(video)).map(|held| held.viewers).sum()
    }

    fn count_pending_handovers(&self, now: Instant) -> PendingHandovers {
        let seen = self.view_at(now);
        let mut all = PendingHandovers { counted_at: Some(now), ..PendingHandovers::default() };
        let there = |sighting: &&ReaderSighting| self.reader_watch.status_of(sighting) != ReaderStatus::Gone;
        for sighting in self.reader_watch.all_sightings().filter(there) {
            let record = &sighting.last_record;
            let answer =
                coordinator::answer_heartbeat(&seen, &record.id, &record.videos, &HandOverPace::UNLIMITED);
            for (video, viewers) in videos_of_answer(&answer, &record.videos) {
                *all.videos.entry(video.clone()).or_default() += viewers;
                all.viewers += viewers;
            }
            // They use nothing of the budget while they wait for room.
            for (video, viewers) in answer.no_room {
                *all.videos.entry(video).or_default() += viewers;
            }
        }
        all
    }

    /// What a reader's heartbeat leads to, at a pace that keeps all hand-overs together within `per_minute` viewers,
    /// except where the reader leaves by itself and has less time than that.
    pub fn answer_heartbeat(&self, now: Instant, record: &ReaderRecord, per_minute: u64) -> HeartbeatOutcome {
        let videos =
            self.reader_watch.get(&record.id).map_or(&record.videos, |sighting| &sighting.last_record.videos);
        let mut answer =
            coordinator::answer_heartbeat(&self.view_at(now), &record.id, videos, &HandOverPace::UNLIMITED);
        let own: u64 = videos_of_answer(&answer, videos).map(|(_, viewers)| viewers).sum();
        let even =
            (per_minute.saturating_mul(own) / own.max(self.pending_hand_overs.viewers).max(1)).div_ceil(60);
        // Half of the grace: the rest is for what goes wrong.
        let needed = own.saturating_mul(2_000).checked_div(record.grace_ms).unwrap_or(0);
        let rate = if record.draining { even.max(needed) } else { even }.max(1);
        let viewers = |video: &VideoId| viewers_in(videos, video);
        answer
            .hand_overs
            .sort_by_key(|order| std::cmp::Reverse(viewers(&order.video).saturating_sub(order.keep)));
        let mut left = rate;
        answer.hand_overs.truncate(MAX_VIDEOS_AN_ANSWER);
        answer.hand_overs.retain_mut(|order| {
            let part = viewers(&order.video).saturating_sub(order.keep);
            let pace = (u128::from(rate) * u128::from(part)).div_ceil(u128::from(own.max(1))) as u64;
            // Who is on the way is in nobody's report for a while: a reader that only sheds some does so slowly, or whoever
            // takes them would be given too many.
            let slowly = match (order.here, order.keep) {
                (_, 0) => part,
                (true, keep) => part.div_ceil(SHED_SECONDS).max((keep / MIN_VIEWERS_SHED).min(part)),
                // There is room for no more of them.
                (false, _) => part.div_ceil(SHED_SECONDS),
            };
            let pace = pace.min(slowly).clamp(1, u64::from(u32::MAX)).min(left);
            left -= pace;
            order.pace = pace as u32;
            pace > 0
        });
        answer
    }
}

/// `held` in the order of the videos' names.
fn viewers_in(held: &[HeldVideo], video: &VideoId) -> u64 {
    held.binary_search_by(|held| held.video.cmp(video)).map_or(0, |at| held[at].viewers)
}

/// Videos that an answer is about, and viewers that are to go; `held` in the order of the videos' names.
fn videos_of_answer<'a>(
    answer: &'a HeartbeatOutcome,
    held: &'a [HeldVideo],
) -> impl Iterator<Item = (&'a VideoId, u64)> {
    let going = answer.hand_overs.iter().map(|order| (&order.video, order.keep));
    let waiting = answer.to_warm.iter().map(|(_, video)| (video, 0));
    going.chain(waiting).map(|(video, keep)| (video, viewers_in(held, video).saturating_sub(keep)))
}

fn audiences(
    watch: &ReaderWatch,
    view: &AssignmentView,
    now: ElapsedTime,
    before: &HashMap<VideoId, VideoAudience>,
) -> HashMap<VideoId, VideoAudience> {
    let mut audiences: HashMap<VideoId, VideoAudience> = HashMap::new();
    for sighting in watch.all_sightings().filter(|sighting| watch.status_of(sighting) != ReaderStatus::Gone) {
        let reader = &sighting.last_record.id;
        for held in sighting.last_record.videos.iter().filter(|held| held.viewers > 0) {
            let first = || {
                let peak = before.get(&held.video).map_or_else(RecentPeak::default, |audience| audience.peak);
                VideoAudience { viewers: 0, largest_reader: (0, reader.clone()), handed_over: false, peak }
            };
            let audience = audiences.entry(held.video.clone()).or_insert_with(first);
            audience.viewers += held.viewers;
            audience.handed_over |= view
                .assigned_readers(&held.video)
                .is_some_and(|assigned| assigned.must_hand_over(reader, held));
            if held.viewers > audience.largest_reader.0 {
                audience.largest_reader = (held.viewers, reader.clone());
            }
        }
    }
    for audience in audiences.values_mut() {
        audience.peak.note(now, audience.viewers, audience.handed_over);
    }
    audiences
}

#[cfg(test)]
mod tests;
