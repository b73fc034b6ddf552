//! What this manager knows, and what it decides from it: where a video goes, who serves it, which videos have to move.
//! Plain decisions on plain data; time is an argument.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use liverank_adapters::assignment_store::{Assignment, Closing, Cordon, MAX_EPOCH, Orders, ReaderRecord};
use liverank_core::handover::coordinator::{self, Answer, ClusterView, Pace};
use liverank_core::handover::peak::Peak;
use liverank_core::handover::reserved::ReservedCapacity;
use liverank_core::handover::{Assigned, Held, Share, Time};
use liverank_core::placement::{ReaderLoad, place};
use liverank_core::{ReaderId, VideoId};
use liverank_protocol::RouteReader;
use liverank_runtime::identity::sent::pass_key;

use crate::liveness::{Hold, ReaderStatus, Sighting, Verdict, Watch};
use crate::view::View;
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
pub enum Decision {
    /// Nothing: this is in force, and fit to be used.
    Serve(Assignment),
    /// It is to be given to these readers, if its epoch still is `expected` (`None`: it has none).
    Assign {
        /// The epoch that is in force; `None`: the video has no assignment.
        expected: Option<u64>,
        /// The readers that are to serve the video.
        readers: Vec<Share>,
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
    most: (u64, ReaderId),
    /// Whether some of them are being sent to another reader.
    handed_over: bool,
    /// The most viewers lately.
    peak: Peak,
}

/// Viewers that are to go to another reader and have not gone yet.
#[derive(Debug, Default)]
pub struct PendingHandovers {
    /// How many viewers, of all videos.
    pub viewers: u64,
    /// By the video they watch.
    pub videos: HashMap<VideoId, u64>,
    /// When they were counted.
    pub at: Option<Instant>,
}

/// What this manager knows.
#[derive(Debug, Default)]
pub struct Cluster {
    /// The assignments.
    pub view: View,
    /// The readers.
    pub watch: Watch,
    /// The planner's term and the cordons.
    pub orders: Orders,
    /// Where each video that is watched is watched.
    audiences: HashMap<VideoId, VideoAudience>,
    /// When the readers were first looked at.
    origin: Option<Instant>,
    /// The last decision about which readers are gone.
    verdict: Verdict,
    /// Viewers to come.
    pub promises: ReservedCapacity,
    /// Viewers to go.
    pub owed: PendingHandovers,
    /// Viewers for whom there is no reader.
    pub unserved: UnservedViewers,
    /// Since when readers are being emptied.
    pub drain_clock: DrainClock,
}

/// What a manager sees at a time, as the protocol asks for it.
pub struct Seen<'a> {
    /// The cluster as this manager knows it.
    pub cluster: &'a Cluster,
    /// The moment for which the view holds.
    pub now: Instant,
}

impl ClusterView for Seen<'_> {
    fn assigned(&self, video: &VideoId) -> Option<&Assigned> {
        self.cluster.view.assigned(video)
    }

    fn standing(&self, reader: &ReaderId) -> Option<ReaderStatus> {
        self.cluster.standing(self.now, reader)
    }

    fn address(&self, reader: &ReaderId) -> Option<String> {
        self.cluster.watch.get(reader).map(|sighting| sighting.record.public_url.clone())
    }

    fn held(&self, reader: &ReaderId, video: &VideoId) -> Option<&Held> {
        self.cluster.watch.get(reader).filter(|sighting| sighting.is_young(self.now))?.held(video)
    }

    fn usage(&self, reader: &ReaderId) -> u64 {
        self.cluster.usage(reader)
    }

    fn room(&self, reader: &ReaderId) -> u64 {
        self.cluster.room(reader)
    }

    fn is_open(&self, reader: &ReaderId) -> bool {
        self.cluster.is_open(reader)
    }

    fn viewers(&self, video: &VideoId) -> u64 {
        self.cluster.audiences.get(video).map_or(0, |audience| audience.peak.most())
    }
}

impl Cluster {
    /// A cluster of which nothing is known yet.
    pub fn new(drain_clock: DrainClock) -> Self {
        Self { drain_clock, ..Self::default() }
    }

    /// Returns the view of the cluster at `now`, for the decisions in core.
    pub const fn seen(&self, now: Instant) -> Seen<'_> {
        Seen { cluster: self, now }
    }

    /// Notes what the store holds of the readers.
    pub fn observe(&mut self, asked: Instant, records: Vec<ReaderRecord>) {
        self.note_arrivals(&records);
        self.watch.observe(asked, records);
        let since = self.time(asked);
        self.promises.expire(since);
        self.audiences = audiences(&self.watch, &self.view, since, &self.audiences);
        self.judge(asked);
        self.owed = self.count_pending_handovers(asked);
        self.note_drains(asked);
    }

    /// Notes a heartbeat that came to this manager itself.
    pub fn heard(&mut self, now: Instant, record: ReaderRecord) {
        self.note_arrivals(std::slice::from_ref(&record));
        self.watch.heard(now, record);
        self.judge(now);
    }

    /// Time since this manager first looked.
    fn time(&mut self, now: Instant) -> Time {
        now.saturating_duration_since(*self.origin.get_or_insert(now))
    }

    /// Viewers whom readers report now and did not before are expected no more.
    fn note_arrivals(&mut self, records: &[ReaderRecord]) {
        for record in records {
            let Some(known) = self.watch.get(&record.id) else { continue };
            self.promises.arrived(&record.id, record.viewers.saturating_sub(known.record.viewers));
        }
    }

    /// Notes that a viewer is being sent to a reader.
    pub fn sent(&mut self, now: Instant, reader: &ReaderId, is_one_of_several: bool) {
        self.watch.sent(now, reader);
        if is_one_of_several {
            // The next one is sent by what will be.
            let time = self.time(now);
            self.promises.give(time, reader, 1);
        }
    }

    /// Decides about readers anew, and answers why nothing is moved where something should be.
    pub fn judge(&mut self, now: Instant) -> Option<Hold> {
        self.verdict = self.verdict_at(now);
        self.verdict.hold
    }

    fn verdict_at(&self, now: Instant) -> Verdict {
        let removed = |reader: &ReaderId| self.closing(reader) == Some(Closing::Removed);
        self.watch.verdict(now, |reader| self.view.videos_of(reader) > 0, removed)
    }

    /// How a reader stands. One that its operator removed is gone, whatever it reports. Any other is gone only where this
    /// manager may act on it: never on a stale view, and not while so many seem gone that it is more likely cut off itself.
    pub fn standing(&self, now: Instant, reader: &ReaderId) -> Option<ReaderStatus> {
        let closing = self.closing(reader);
        if closing == Some(Closing::Removed) {
            return Some(ReaderStatus::Gone);
        }
        let Some(sighting) = self.watch.get(reader) else {
            return self.watch.is_settled(now).then_some(ReaderStatus::Gone);
        };
        let may_act = || self.watch.is_fresh(now) && self.verdict.leaving.contains(reader);
        let is_lost = || self.watch.standing_of(sighting) == ReaderStatus::Gone || sighting.is_unreachable();
        Some(match self.watch.standing_of(sighting) {
            _ if is_lost() && may_act() => ReaderStatus::Gone,
            // Silent or not: it said that it leaves, and its end is expected.
            _ if sighting.record.draining => ReaderStatus::Leaving,
            ReaderStatus::Alive if closing == Some(Closing::Draining) => ReaderStatus::Draining,
            ReaderStatus::Alive => ReaderStatus::Alive,
            ReaderStatus::Draining | ReaderStatus::Leaving => ReaderStatus::Leaving,
            ReaderStatus::Gone | ReaderStatus::Suspect => ReaderStatus::Suspect,
        })
    }

    /// In which way a planner closed a reader.
    pub fn closing(&self, reader: &ReaderId) -> Option<Closing> {
        let found = self.orders.cordons.binary_search_by(|cordon| cordon.reader.cmp(reader));
        found.ok().map(|at| self.orders.cordons[at].closing)
    }

    /// Notes a cordon that took effect, ahead of the next poll.
    pub fn cordoned(&mut self, reader: &ReaderId, cordon: Option<Cordon>) {
        let cordons = &mut self.orders.cordons;
        cordons.retain(|known| known.reader != *reader);
        cordons.extend(cordon);
        cordons.sort_by(|a, b| a.reader.cmp(&b.reader));
    }

    /// Readers that take new videos.
    pub fn open(&self) -> impl Iterator<Item = &Sighting> {
        self.watch.open_among(|reader| self.closing(reader).is_none())
    }

    /// Whether a reader takes new videos.
    pub fn is_open(&self, reader: &ReaderId) -> bool {
        self.watch.standing(reader) == Some(ReaderStatus::Alive) && self.closing(reader).is_none()
    }

    /// The part of its capacity that a reader uses, viewers on their way included, in thousandths.
    pub fn usage(&self, reader: &ReaderId) -> u64 {
        let Some(sighting) = self.watch.get(reader) else { return u64::MAX };
        let viewers = sighting.record.viewers.saturating_add(self.promises.to(reader));
        viewers.saturating_mul(1_000) / sighting.record.capacity.max(1)
    }

    /// Viewers whom a reader can still take, those who are known to be on their way counted.
    pub fn room(&self, reader: &ReaderId) -> u64 {
        let Some(sighting) = self.watch.get(reader) else { return 0 };
        let viewers = sighting.record.viewers.saturating_add(self.promises.to(reader));
        sighting.record.capacity.saturating_sub(viewers)
    }

    /// Viewers of a reader that leaves for whom others have room: an even part of it, where several leave.
    pub fn room_elsewhere(&self, now: Instant, leaving: &ReaderId) -> u64 {
        let others = self.open().filter(|sighting| sighting.record.id != *leaving);
        let room: u64 = others.map(|sighting| self.room(&sighting.record.id)).sum();
        let leaves = |sighting: &&Sighting| {
            sighting.record.viewers > 0
                && self.standing(now, &sighting.record.id) == Some(ReaderStatus::Leaving)
        };
        room / (self.watch.all().filter(leaves).count() as u64).max(1)
    }

    /// Readers to be forgotten, with their last beat in the store.
    pub fn to_forget(&self, now: Instant) -> Vec<(ReaderId, u64)> {
        self.watch.to_forget(now, |reader| self.closing(reader) == Some(Closing::Removed))
    }

    /// Why nothing is moved where something should be.
    pub fn hold(&self, now: Instant) -> Option<Hold> {
        self.verdict_at(now).hold
    }

    /// What is to be done for `video` to have a reader, asked by somebody who has heard of epoch `known` for it.
    pub fn decide(&self, now: Instant, video: &VideoId, known: u64) -> Decision {
        let current = self.view.get(video);
        if current.is_none() && self.view.len() >= MAX_ASSIGNMENTS {
            return Decision::Full;
        }
        let decision = coordinator::decide(
            &self.seen(now),
            video,
            known,
            |besides| self.choose_reader(video, besides),
            |assigned| self.roomiest_other_reader(assigned),
        );
        match (decision, current) {
            (coordinator::Decision::Serve, Some(current)) => Decision::Serve(current.clone()),
            (coordinator::Decision::Assign { expected, readers, seen }, _) => {
                Decision::Assign { expected, readers, seen: seen.max(self.highest_epoch()) }
            }
            _ => Decision::NoReader,
        }
    }

    /// The same, and counts the viewers that come with it from now on: many videos are decided before the first of them is
    /// stored, and a dead reader's whole crowd would go to the one reader that has the least to do. Where it is not stored
    /// after all, that is forgotten soon.
    pub fn claim(&mut self, now: Instant, video: &VideoId, known: u64) -> Decision {
        let decision = self.decide(now, video, known);
        if let Decision::Assign { readers, .. } = &decision {
            self.promise(now, video, readers);
        }
        decision
    }

    /// Counts the viewers who come to a video's new readers.
    pub fn promise(&mut self, now: Instant, video: &VideoId, readers: &[Share]) {
        let coming = self.lost(video) / readers.len().max(1) as u64;
        let time = self.time(now);
        for share in readers {
            self.promises.give(time, &share.reader, coming.max(1));
        }
    }

    /// The reader for a video beside some: the one where most of its viewers are already and that has room, else the least
    /// loaded. Where no reader takes new videos, one that is closed does: it is alive, and nobody else is there.
    fn choose_reader(&self, video: &VideoId, besides: &[Share]) -> Option<ReaderId> {
        let is_beside = |reader: &ReaderId| besides.iter().all(|share| share.reader != *reader);
        let watched_at = self.audiences.get(video).map(|audience| &audience.most.1);
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
                let closing = self.closing(reader);
                fits(reader) && (closing.is_none() || (closed_too && closing == Some(Closing::Closed)))
            };
            self.watch
                .open_among(takes)
                .map(|sighting| self.load_of(sighting, coming))
                .collect::<Vec<ReaderLoad>>()
        };
        place(&loads(false)).or(place(&loads(true))).cloned()
    }

    /// The reader with the most room beside those that serve a video.
    fn roomiest_other_reader(&self, assigned: &Assigned) -> Option<ReaderId> {
        let beside = |sighting: &&Sighting| {
            let reader = &sighting.record.id;
            assigned.share(reader).is_none() && self.usage(reader) < coordinator::FULL
        };
        let least = self.open().filter(beside).min_by_key(|sighting| self.usage(&sighting.record.id));
        least.map(|sighting| sighting.record.id.clone())
    }

    fn load_of(&self, sighting: &Sighting, coming: &HashMap<ReaderId, u64>) -> ReaderLoad {
        let record = &sighting.record;
        let coming = coming.get(&record.id).copied().unwrap_or(0);
        ReaderLoad {
            id: record.id.clone(),
            viewers: record.viewers.saturating_add(self.promises.to(&record.id)).saturating_add(coming),
            videos: self.view.videos_of(&record.id),
            capacity: record.capacity,
            open: true,
        }
    }

    /// The highest epoch that anybody has seen: the next one must be greater.
    pub fn highest_epoch(&self) -> u64 {
        let readers = self.watch.highest_epoch();
        // One that cannot have been minted is somebody's mistake, which must not stop all placement.
        let readers = if readers < MAX_EPOCH { readers } else { 0 };
        readers.max(self.view.highest_epoch())
    }

    /// Videos of which a reader is gone, the most watched first, at most `most` of them.
    pub fn to_move(&self, now: Instant, most: usize) -> Vec<VideoId> {
        let gone = |reader: &ReaderId| self.standing(now, reader) == Some(ReaderStatus::Gone);
        let leaving: HashSet<&ReaderId> = self.view.readers().filter(|reader| gone(reader)).collect();
        if leaving.is_empty() || self.least_loaded_of(&HashMap::new(), |_| true).is_none() {
            return Vec::new();
        }
        let mut videos: Vec<(u64, &VideoId)> = self
            .view
            .all()
            .filter(|assignment| assignment.readers().iter().any(|share| leaving.contains(&share.reader)))
            .map(|assignment| (self.viewers(&assignment.video_id), &assignment.video_id))
            .collect();
        videos.sort_unstable_by(|a, b| b.cmp(a));
        videos.into_iter().take(most).map(|(_, video)| video.clone()).collect()
    }

    /// Videos that are watched and that nobody was given: the store has lost them. At most `most` of them.
    pub fn to_adopt(&self, now: Instant, most: usize) -> Vec<VideoId> {
        if !self.view.is_loaded() || !self.watch.is_fresh(now) {
            return Vec::new();
        }
        self.audiences.keys().filter(|video| self.view.get(video).is_none()).take(most).cloned().collect()
    }

    /// Notes which videos are watched, and answers those that are not in use any more, at most `most` of them.
    pub fn to_remove(&mut self, now: Instant, idle: Duration, most: usize) -> Vec<(VideoId, u64)> {
        if !self.view.is_loaded() || !self.watch.is_settled(now) {
            return Vec::new();
        }
        for video in self.audiences.keys() {
            self.view.touch(now, video);
        }
        self.view.unused(now, idle, most)
    }

    /// Viewers of a video, as live readers last reported them.
    pub fn viewers(&self, video: &VideoId) -> u64 {
        self.audiences.get(video).map_or(0, |audience| audience.viewers)
    }

    /// Viewers that other live readers have of the videos that this one has viewers of, where there are any. No more of them
    /// than the heartbeat has.
    pub fn viewers_elsewhere(&self, record: &ReaderRecord) -> Vec<(VideoId, u64)> {
        let all_here = |audience: &VideoAudience| audience.most == (audience.viewers, record.id.clone());
        let watched = record.videos.iter().filter(|held| held.viewers > 0).map(|held| &held.video);
        // Looking through all readers is for the few videos that have several.
        let split = watched.filter(|video| self.audiences.get(*video).is_some_and(|it| !all_here(it)));
        let others = |sighting: &&Sighting| {
            sighting.record.id != record.id && self.watch.standing_of(sighting) != ReaderStatus::Gone
        };
        let elsewhere = |video: &VideoId| -> u64 {
            let held = self.watch.all().filter(others).filter_map(|sighting| sighting.held(video));
            held.map(|held| held.viewers).sum()
        };
        split.map(|video| (video.clone(), elsewhere(video))).filter(|(_, viewers)| *viewers > 0).collect()
    }

    /// An assignment's readers as others reach them, the best first; `lots` are random.
    pub fn reach(&self, now: Instant, assignment: &Assignment, lots: [u32; 2]) -> Vec<RouteReader> {
        let (seen, video) = (self.seen(now), &assignment.video_id);
        let readers = coordinator::route(&seen, video, &assignment.assigned, lots);
        let known = readers.iter().filter_map(|reader| self.watch.get(reader));
        known
            .map(|sighting| {
                let record = &sighting.record;
                let is_alive = self.standing(now, &record.id) == Some(ReaderStatus::Alive);
                let held = sighting.held(video);
                RouteReader {
                    id: record.id.clone(),
                    public_url: record.public_url.clone(),
                    internal_url: record.internal_url.clone(),
                    load: self.usage(&record.id),
                    takes: is_alive
                        && self.usage(&record.id) < coordinator::FULL
                        && held.is_none_or(|held| viewers_to_send_away(&seen, &record.id, held) == 0),
                    pass_key: record.ticket.as_ref().map(pass_key),
                }
            })
            .collect()
    }

    /// Viewers of a video that readers had that were gone lately: they are on their way to wherever it is served.
    pub fn lost(&self, video: &VideoId) -> u64 {
        let gone = self.watch.all().filter(|sighting| {
            self.watch.standing_of(sighting) == ReaderStatus::Gone
                && self.watch.silence(sighting) < LOST_VIEWERS_BACK_AFTER
        });
        gone.filter_map(|sighting| sighting.held(video)).map(|held| held.viewers).sum()
    }

    fn count_pending_handovers(&self, now: Instant) -> PendingHandovers {
        let seen = self.seen(now);
        let mut all = PendingHandovers { at: Some(now), ..PendingHandovers::default() };
        let there = |sighting: &&Sighting| self.watch.standing_of(sighting) != ReaderStatus::Gone;
        for sighting in self.watch.all().filter(there) {
            let record = &sighting.record;
            let answer = coordinator::answer(&seen, &record.id, &record.videos, &UNLIMITED_PACE);
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
    pub fn answer(&self, now: Instant, record: &ReaderRecord, per_minute: u64) -> Answer {
        let videos = self.watch.get(&record.id).map_or(&record.videos, |sighting| &sighting.record.videos);
        let mut answer = coordinator::answer(&self.seen(now), &record.id, videos, &UNLIMITED_PACE);
        let own: u64 = videos_of_answer(&answer, videos).map(|(_, viewers)| viewers).sum();
        let even = (per_minute.saturating_mul(own) / own.max(self.owed.viewers).max(1)).div_ceil(60);
        // Half of the grace: the rest is for what goes wrong.
        let needed = own.saturating_mul(2_000).checked_div(record.grace_ms).unwrap_or(0);
        let rate = if record.draining { even.max(needed) } else { even }.max(1);
        let viewers = |video: &VideoId| viewers_in(videos, video);
        answer
            .hand_over
            .sort_by_key(|order| std::cmp::Reverse(viewers(&order.video).saturating_sub(order.keep)));
        let mut left = rate;
        answer.hand_over.truncate(MAX_VIDEOS_AN_ANSWER);
        answer.hand_over.retain_mut(|order| {
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

/// Asks what is to be handed over, whatever the pace.
const UNLIMITED_PACE: Pace = Pace { within: Duration::from_secs(1), least: 1, most: u32::MAX };

/// Viewers of a video that a reader is to send elsewhere and still has.
fn viewers_to_send_away(seen: &Seen<'_>, reader: &ReaderId, held: &Held) -> u64 {
    let held = std::slice::from_ref(held);
    videos_of_answer(&coordinator::answer(seen, reader, held, &UNLIMITED_PACE), held)
        .map(|(_, viewers)| viewers)
        .sum()
}

/// `held` in the order of the videos' names.
fn viewers_in(held: &[Held], video: &VideoId) -> u64 {
    held.binary_search_by(|held| held.video.cmp(video)).map_or(0, |at| held[at].viewers)
}

/// Videos that an answer is about, and viewers that are to go; `held` in the order of the videos' names.
fn videos_of_answer<'a>(answer: &'a Answer, held: &'a [Held]) -> impl Iterator<Item = (&'a VideoId, u64)> {
    let going = answer.hand_over.iter().map(|order| (&order.video, order.keep));
    let waiting = answer.warm.iter().map(|(_, video)| (video, 0));
    going.chain(waiting).map(|(video, keep)| (video, viewers_in(held, video).saturating_sub(keep)))
}

fn audiences(
    watch: &Watch,
    view: &View,
    now: Time,
    before: &HashMap<VideoId, VideoAudience>,
) -> HashMap<VideoId, VideoAudience> {
    let mut audiences: HashMap<VideoId, VideoAudience> = HashMap::new();
    for sighting in watch.all().filter(|sighting| watch.standing_of(sighting) != ReaderStatus::Gone) {
        let reader = &sighting.record.id;
        for held in sighting.record.videos.iter().filter(|held| held.viewers > 0) {
            let first = || {
                let peak = before.get(&held.video).map_or_else(Peak::default, |audience| audience.peak);
                VideoAudience { viewers: 0, most: (0, reader.clone()), handed_over: false, peak }
            };
            let audience = audiences.entry(held.video.clone()).or_insert_with(first);
            audience.viewers += held.viewers;
            audience.handed_over |=
                view.assigned(&held.video).is_some_and(|assigned| assigned.hands_over(reader, held));
            if held.viewers > audience.most.0 {
                audience.most = (held.viewers, reader.clone());
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
