//! A manager's side: what a video needs, how an order is carried out, what a heartbeat is answered.
//!
//! An order to change a video's readers goes in three steps: the new ones are asked to hold it ready; when all do, the
//! compare-and-set; from then on heartbeats are answered with whom to hand over. A manager that dies after the first
//! step has changed nothing; after the second, every other one answers the heartbeats.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::routing::choose_by_wanted;
use super::{AssignedReaders, ElapsedTime, HandOver, HeldVideo, ReaderShare};
use crate::{ReaderId, VideoId};

/// How long new readers may take to hold a video ready: what is missing is fetched in far less.
pub const WARM_UP_TIMEOUT: Duration = Duration::from_secs(5);
/// How often they are asked again: a message may be lost.
pub const WARM_UP_RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// How long the compare-and-set may take before the order is given up: the store's own time limit is shorter.
pub const SWAP_TIMEOUT: Duration = Duration::from_secs(5);
/// Readers that a video may come to have because those it has are full: more than that is a planner's business.
const MAX_READERS_WHEN_FULL: usize = 16;
/// The part of its capacity, in thousandths, from which on a reader refuses viewers.
pub const FULL_USAGE_THOUSANDTHS: u64 = 1_000;
/// The most viewers that are said to be wanted at one reader: the only reader of a video wants all who come. Numbers in
/// messages stay below 2^53, above which JSON readers may round them.
pub const MAX_WANTED: u64 = u32::MAX as u64;
/// Orders in progress at once: more than a planner gives in a round.
pub const MAX_ORDERS_IN_PROGRESS: usize = 10_000;

/// Whether a reader is there, as far as a manager sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReaderStatus {
    /// It sends heartbeats.
    Alive,
    /// It sends heartbeats, and is to be emptied. It serves what it has until that is elsewhere.
    Draining,
    /// It said itself that it leaves. Nobody is sent there where any other reader can take the video.
    Leaving,
    /// It sends none, and may still serve its viewers: it gets no new ones.
    Suspect,
    /// It sends none and does not answer a probe: others are to serve its videos.
    Gone,
}

impl ReaderStatus {
    /// Whether viewers who come may be sent to a reader: it sends heartbeats and has not said that it leaves.
    pub const fn takes_viewers(self) -> bool {
        matches!(self, Self::Alive | Self::Draining)
    }

    /// Whether what a reader serves is to be moved elsewhere while it still serves it.
    pub const fn is_emptied(self) -> bool {
        matches!(self, Self::Draining | Self::Leaving)
    }
}

impl std::fmt::Display for ReaderStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Alive => "alive",
            Self::Draining => "draining",
            Self::Leaving => "leaving",
            Self::Suspect => "suspect",
            Self::Gone => "gone",
        })
    }
}

/// The cluster as a manager knows it. All methods are look-ups without side effects.
pub trait ClusterView {
    /// Returns the assignment of a video that is in force.
    fn assigned_readers(&self, video: &VideoId) -> Option<&AssignedReaders>;
    /// Returns the status of a reader. [`ReaderStatus::Gone`] only where the manager may act on it.
    fn reader_status(&self, reader: &ReaderId) -> Option<ReaderStatus>;
    /// Returns the URL at which viewers reach a reader.
    fn viewer_url(&self, reader: &ReaderId) -> Option<String>;
    /// What a reader last said of a video, where that was not longer ago than makes a reader suspect, by the clock: time in
    /// which the manager could not look counts here, for viewers would be sent to who knows whom. It is ready only where the
    /// manager knows that it said so lately: what was found in the store may be of any age, and what came after a break in
    /// which the manager did not look may have waited all the time.
    fn held_video(&self, reader: &ReaderId, video: &VideoId) -> Option<&HeldVideo>;
    /// The part of its capacity that a reader uses, in thousandths; see [`FULL_USAGE_THOUSANDTHS`].
    fn usage_thousandths(&self, reader: &ReaderId) -> u64;
    /// The number of viewers whom a reader can still take, those on their way to it not counted where it can be known.
    fn room(&self, reader: &ReaderId) -> u64;
    /// The capacity that a reader reported, and how many viewers it has by that report.
    fn reported_usage(&self, reader: &ReaderId) -> (u64, u64);
    /// Whether viewers are better sent to a reader than to one that is closed: a closed one keeps what it has, but is
    /// likely to be emptied soon, and who goes there would be moved twice.
    fn is_open(&self, reader: &ReaderId) -> bool;
    /// Viewers of a video at all readers, also at those that it was taken from: the most there were lately, by
    /// [`RecentPeak`](super::peak::RecentPeak), for those on their way are in nobody's report.
    fn viewers(&self, video: &VideoId) -> u64;
}

/// What a video needs in order to have readers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VideoNeed {
    /// Nothing: what is in force is fit to be used.
    Serve,
    /// A compare-and-set: these readers, if its epoch still is `expected` (`None`: it has none).
    Assign {
        /// The epoch that is in force; `None`: the video has no assignment.
        expected: Option<u64>,
        /// The readers that are to serve the video.
        readers: Vec<ReaderShare>,
        /// The store is to mint above this, and above all else that the manager knows of.
        seen: u64,
    },
    /// No reader takes videos.
    NoReader,
}

/// What `video` needs, asked by somebody who has heard of epoch `known` for it (0: of none). Where that is later than
/// what this manager sees, it has not heard yet (the compare-and-set then fails and tells it) or the store has lost it
/// (then the same readers get an epoch above). Nobody is ever answered with an older epoch than it knows.
///
/// `choose` names a reader for the video beside those that it is given, `relief` one with room beside those that serve the
/// video and are full: whoever would be refused otherwise is served at once, whether or not anybody plans.
///
/// A reader that is gone serves nothing. Where some have said that they leave and none of the rest takes viewers, for all
/// leave or are silent, others take the places of those that leave now: a move would first wait until these hold the video
/// ready, and whoever asks meanwhile would be sent to a reader that may end at any moment. Those who are there already are
/// handed over once the new ones are ready.
pub fn decide_need(
    sight: &impl ClusterView,
    video: &VideoId,
    known: u64,
    mut choose: impl FnMut(&[ReaderShare]) -> Option<ReaderId>,
    relief: impl FnOnce(&AssignedReaders) -> Option<ReaderId>,
) -> VideoNeed {
    let Some(current) = sight.assigned_readers(video) else {
        return choose(&[]).map_or(VideoNeed::NoReader, |reader| VideoNeed::Assign {
            expected: None,
            readers: vec![ReaderShare { reader, weight: 1 }],
            seen: known,
        });
    };
    let expected = Some(current.epoch);
    let readers = usable_readers(sight, current, &mut choose);
    if readers != current.readers || known > current.epoch {
        return VideoNeed::Assign { expected, readers, seen: known.max(current.epoch) };
    }
    let is_full = current.readers.len() < MAX_READERS_WHEN_FULL
        && current.readers.iter().all(|share| is_full(sight, &share.reader));
    match is_full.then(|| relief(current)).flatten() {
        Some(reader) => VideoNeed::Assign {
            expected,
            readers: shares_with_one_more(current, reader),
            seen: current.epoch,
        },
        None => VideoNeed::Serve,
    }
}

/// A video's readers without those that are gone; others in place of those that leave, where none is left that takes
/// viewers. One that is silent keeps its place: it may still serve.
fn usable_readers(
    sight: &impl ClusterView,
    current: &AssignedReaders,
    choose: &mut impl FnMut(&[ReaderShare]) -> Option<ReaderId>,
) -> Vec<ReaderShare> {
    let standing = |share: &ReaderShare| sight.reader_status(&share.reader);
    let here = current.readers.iter().filter(|share| standing(share) != Some(ReaderStatus::Gone));
    let here: Vec<ReaderShare> = here.cloned().collect();
    if here.iter().any(|share| standing(share).is_some_and(ReaderStatus::takes_viewers)) {
        return here;
    }
    let leaves = |share: &ReaderShare| standing(share) == Some(ReaderStatus::Leaving);
    let (leaving, mut readers): (Vec<ReaderShare>, Vec<ReaderShare>) = here.iter().cloned().partition(leaves);
    let staying = readers.len();
    let weights = if here.is_empty() { vec![1] } else { leaving.iter().map(|share| share.weight).collect() };
    for weight in weights {
        // One that leaves still serves its viewers, and a full one would refuse them.
        let chosen = choose(&readers).filter(|reader| here.is_empty() || !is_full(sight, reader));
        if let Some(reader) = chosen {
            readers.push(ReaderShare { reader, weight });
        }
    }
    match (readers.len() > staying, here.is_empty()) {
        (true, _) => readers,
        (false, false) => here,
        (false, true) => current.readers.clone(),
    }
}

/// The order that takes a video from those of its readers that are to be emptied; `None` where there are none, or nobody
/// could take it. `choose` names a reader for the video beside those that it is given.
///
/// Whoever takes a reader's place is given its part, and has room. Where viewers lie otherwise than the parts say, the parts follow the
/// viewers: emptying one reader moves nobody at the others.
pub fn order_off_emptied_readers(
    sight: &impl ClusterView,
    video: &VideoId,
    mut choose: impl FnMut(&[ReaderShare]) -> Option<ReaderId>,
) -> Option<AssignmentOrder> {
    let current = sight.assigned_readers(video)?;
    let shares = shares_by_viewers(sight, video, current);
    let leaves =
        |share: &ReaderShare| sight.reader_status(&share.reader).is_some_and(ReaderStatus::is_emptied);
    let (leaving, mut readers): (Vec<ReaderShare>, Vec<ReaderShare>) = shares.into_iter().partition(leaves);
    if leaving.is_empty() {
        return None;
    }
    for gone in leaving {
        if let Some(reader) = choose(&readers).filter(|reader| !is_full(sight, reader)) {
            readers.push(ReaderShare { reader, weight: gone.weight });
        }
    }
    let order = AssignmentOrder { video: video.clone(), expected_epoch: current.epoch, readers };
    (!order.readers.is_empty()).then_some(order)
}

/// A video's shares, with the weights that its viewers lie by where one of its readers has more than its part and the
/// slack. A reader that lacks viewers keeps its part of them: they may be on their way.
fn shares_by_viewers(
    sight: &impl ClusterView,
    video: &VideoId,
    assigned: &AssignedReaders,
) -> Vec<ReaderShare> {
    let total = total_viewers(sight, video, assigned);
    let even = |share: &&ReaderShare| {
        viewers_at_reader(sight, &share.reader, video) <= viewers_to_keep(assigned, share, total).0
    };
    if assigned.readers.iter().all(|share| even(&share)) {
        return assigned.readers.clone();
    }
    let weight = |share: &ReaderShare| {
        let claim =
            viewers_at_reader(sight, &share.reader, video).max(viewers_of_share(assigned, share, total));
        claim.clamp(1, u64::from(u32::MAX / MAX_READERS_WHEN_FULL as u32)) as u32
    };
    let shares = assigned.readers.iter();
    shares.map(|share| ReaderShare { weight: weight(share), ..share.clone() }).collect()
}

/// The readers of a video and one more, which is given a tenth: so little that none of the others sheds anybody for it.
/// Whoever plans sees to the rest.
fn shares_with_one_more(current: &AssignedReaders, more: ReaderId) -> Vec<ReaderShare> {
    /// Fine enough for any weights.
    const SHARE_UNITS: u32 = 1_000_000;
    let all: u64 = current.readers.iter().map(|share| u64::from(share.weight)).sum();
    let rest = u64::from(SHARE_UNITS - SHARE_UNITS / 10);
    let weight = |share: &ReaderShare| (u64::from(share.weight) * rest / all.max(1)).max(1) as u32;
    let staying = current.readers.iter().map(|share| ReaderShare { weight: weight(share), ..share.clone() });
    staying.chain([ReaderShare { reader: more, weight: SHARE_UNITS / 10 }]).collect()
}

fn is_full(sight: &impl ClusterView, reader: &ReaderId) -> bool {
    sight.usage_thousandths(reader) >= FULL_USAGE_THOUSANDTHS
}

/// A reader of a video, for viewers who come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReaderToJoin {
    /// The reader.
    pub reader: ReaderId,
    /// How many viewers are to come to it: what it lacks of its share, as far as it has places. 0 where it lacks none, and
    /// where other readers of the video are better: alive, open and not full. At most [`MAX_WANTED`].
    pub wanted: u64,
    /// Whether a gateway may send viewers to it before it has tried others: no reader of the video is better, and it is alive,
    /// not full, and told to send none of its viewers of the video away.
    pub takes: bool,
}

/// A video's readers for a viewer who comes, the best first: one of those that are alive, open and not full, drawn by
/// what each lacks of its share and has places for ([`choose_by_wanted`](super::routing::choose_by_wanted)). By that a crowd
/// that comes fills all of them evenly, and none beyond its share before it can say that it is full; those for whom one has no
/// place go to the others. Then the others, the less used first. `lots` are random.
pub fn readers_to_join(
    sight: &impl ClusterView,
    video: &VideoId,
    assigned: &AssignedReaders,
    lots: [u32; 2],
) -> Vec<ReaderToJoin> {
    let total = total_viewers(sight, video, assigned);
    let rank = |share: &ReaderShare| {
        let standing = sight.reader_status(&share.reader).unwrap_or(ReaderStatus::Gone);
        (standing, is_full(sight, &share.reader), !sight.is_open(&share.reader))
    };
    let lacking = |share: &ReaderShare| missing_viewers(sight, video, assigned, share, total);
    let mut shares: Vec<&ReaderShare> = assigned.readers.iter().collect();
    shares.sort_by_key(|share| (rank(share), lacking(share) == 0, sight.usage_thousandths(&share.reader)));
    let best = shares.iter().take_while(|share| rank(share) == rank(shares[0]));
    let wants: Vec<(u64, u64)> =
        best.map(|share| (lacking(share), last_places(sight, &share.reader))).collect();
    let wanted = viewers_to_come(&wants);
    let usage = shares.iter().map(|share| sight.usage_thousandths(&share.reader));
    let options: Vec<(u64, u64)> = wanted.iter().copied().zip(usage).collect();
    let to_join = |(at, share): (usize, &&ReaderShare)| {
        let (standing, is_full, _) = rank(share);
        let is_best = at < wanted.len() && standing == ReaderStatus::Alive && !is_full;
        ReaderToJoin {
            reader: share.reader.clone(),
            wanted: wanted.get(at).copied().unwrap_or(0).min(MAX_WANTED),
            takes: is_best && !sends_viewers_away(sight, &share.reader, video),
        }
    };
    let mut readers: Vec<ReaderToJoin> = shares.iter().enumerate().map(to_join).collect();
    if let Some(chosen) = choose_by_wanted(&options, lots) {
        let chosen = readers.remove(chosen);
        readers.insert(0, chosen);
    }
    readers
}

/// Whether a reader is told to send some of its viewers of `video` to another reader.
fn sends_viewers_away(sight: &impl ClusterView, reader: &ReaderId, video: &VideoId) -> bool {
    let held = sight.held_video(reader, video).map(std::slice::from_ref);
    let answer = answer_heartbeat(sight, reader, held.unwrap_or_default(), &HandOverPace::UNLIMITED);
    !answer.hand_overs.is_empty() || !answer.to_warm.is_empty()
}

/// The places of a reader that is nearly full, as it reported; of any other one as many as may be. Who is on the way is not taken
/// off: that is part of what a reader lacks, too. A fiftieth less than its share is no reason for a reader to shed viewers.
fn last_places(sight: &impl ClusterView, reader: &ReaderId) -> u64 {
    let (capacity, viewers) = sight.reported_usage(reader);
    let places = capacity.saturating_sub(viewers);
    if places > capacity / 50 { u64::MAX } else { places }
}

/// How many viewers each reader is to be sent: what it lacks of its share, as far as it has places (`wants`: both). Those for
/// whom there is none go to the others by the places that they have left. Without that a reader whose last places come and go is
/// sent all whom it lacks, and refuses them, while another one that has its share is half empty.
fn viewers_to_come(wants: &[(u64, u64)]) -> Vec<u64> {
    let placed = |(lacks, places): &(u64, u64)| u128::from(*lacks.min(places));
    let unplaced: u128 = wants.iter().map(|want| u128::from(want.0) - placed(want)).sum();
    let left: u128 = wants.iter().map(|want| u128::from(want.1) - placed(want)).sum();
    let count = |want: &(u64, u64)| {
        let more = unplaced.min(left).saturating_mul(u128::from(want.1) - placed(want)) / left.max(1);
        u64::try_from(placed(want) + more).unwrap_or(u64::MAX)
    };
    wants.iter().map(count).collect()
}

/// The speed at which viewers are handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandOverPace {
    /// All of a video's viewers are handed over in about this time,
    pub target_duration: Duration,
    /// but not slower than so many a second,
    pub min_per_second: u32,
    /// nor faster than so many.
    pub max_per_second: u32,
}

impl HandOverPace {
    /// No limit: for those who look at which orders there are, which do not depend on the pace.
    pub const UNLIMITED: Self =
        Self { target_duration: Duration::from_secs(1), min_per_second: 1, max_per_second: u32::MAX };
}

/// The result of a reader's heartbeat.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct HeartbeatOutcome {
    /// The hand-overs that the reader is told to make.
    pub hand_overs: Vec<HandOver>,
    /// Readers that viewers wait to be sent to, and that do not hold the video ready: to be asked to warm it.
    pub to_warm: Vec<(ReaderId, VideoId)>,
    /// Videos of which the reader has heard a later epoch than is in force here: to be decided anew with it.
    pub outdated_videos: Vec<(VideoId, u64)>,
    /// Videos that were taken from the reader, and the number of its viewers who stay for now, for the video's readers have no
    /// room for them: to be decided anew, so that one with room is added where there is one.
    pub no_room: Vec<(VideoId, u64)>,
}

/// What a reader's heartbeat leads to. Viewers are only ever sent to a reader that is alive, has room and holds the video
/// ready.
pub fn answer_heartbeat(
    sight: &impl ClusterView,
    reader: &ReaderId,
    reports: &[HeldVideo],
    pace: &HandOverPace,
) -> HeartbeatOutcome {
    let mut answer = HeartbeatOutcome::default();
    let mut rooms = BTreeMap::new();
    for held in reports {
        let Some(assigned) = sight.assigned_readers(&held.video) else { continue };
        if held.epoch > assigned.epoch {
            answer.outdated_videos.push((held.video.clone(), held.epoch));
        } else if held.viewers > 0 {
            answer_for_video(&mut answer, &mut rooms, sight, reader, held, assigned, pace);
        }
    }
    answer
}

/// `rooms`: what is left of the room of readers that viewers of other videos are sent to by the same answer.
fn answer_for_video(
    answer: &mut HeartbeatOutcome,
    rooms: &mut BTreeMap<ReaderId, u64>,
    sight: &impl ClusterView,
    reader: &ReaderId,
    held: &HeldVideo,
    assigned: &AssignedReaders,
    pace: &HandOverPace,
) {
    let total = total_viewers(sight, &held.video, assigned).max(held.viewers);
    let mine = assigned.share_of(reader);
    // One that is to be emptied and still serves the video waits for the one that takes its place: until then its viewers
    // would go where they are too many. And nobody is moved for evenness while one of the video's readers is closed,
    // leaves or is silent: whoever is moved now may be moved again when that one is emptied.
    let is_settled = || assigned.readers.iter().all(|share| sight.is_open(&share.reader));
    if mine.is_some() && !is_settled() {
        return;
    }
    let (keep, most) = mine.map_or((0, 0), |share| viewers_to_keep(assigned, share, total));
    if held.viewers <= if held.shedding { keep } else { most } {
        return;
    }
    let alive = |share: &&ReaderShare| {
        share.reader != *reader && sight.reader_status(&share.reader) == Some(ReaderStatus::Alive)
    };
    let fit = |share: &&ReaderShare| {
        let has_room = !is_full(sight, &share.reader);
        let takes = has_room && sight.is_open(&share.reader);
        (takes, has_room, missing_viewers(sight, &held.video, assigned, share, total))
    };
    let Some(target) = assigned.readers.iter().filter(alive).max_by_key(fit) else { return };
    let (takes, _, missing) = fit(&target);
    if mine.is_some() && (missing == 0 || !takes) {
        return;
    }
    // Whoever is refused there is without a stream; here it has one. A reader that must end sends them away in time by itself.
    let room = rooms.entry(target.reader.clone()).or_insert_with(|| sight.room(&target.reader));
    let going = (held.viewers - keep).min(*room);
    if mine.is_none() && going < held.viewers {
        answer.no_room.push((held.video.clone(), held.viewers - going));
    }
    if going == 0 {
        return;
    }
    if !sight.held_video(&target.reader, &held.video).is_some_and(|there| there.ready) {
        answer.to_warm.push((target.reader.clone(), held.video.clone()));
        return;
    }
    let Some(to) = sight.viewer_url(&target.reader) else { return };
    *room -= going;
    let even = going.saturating_mul(1_000) / (pace.target_duration.as_millis() as u64).max(1);
    answer.hand_overs.push(HandOver {
        video: held.video.clone(),
        epoch: assigned.epoch,
        to,
        here: mine.is_some(),
        keep: held.viewers - going,
        pace: (even.min(u64::from(u32::MAX)) as u32).clamp(pace.min_per_second, pace.max_per_second),
    });
}

fn viewers_at_reader(sight: &impl ClusterView, reader: &ReaderId, video: &VideoId) -> u64 {
    sight.held_video(reader, video).map_or(0, |held| held.viewers)
}

fn total_viewers(sight: &impl ClusterView, video: &VideoId, assigned: &AssignedReaders) -> u64 {
    let here = assigned.readers.iter().map(|share| viewers_at_reader(sight, &share.reader, video)).sum();
    sight.viewers(video).max(here)
}

/// Returns the number of a video's viewers that is a reader's share.
fn viewers_of_share(assigned: &AssignedReaders, share: &ReaderShare, total: u64) -> u64 {
    let weights: u64 = assigned.readers.iter().map(|share| u64::from(share.weight)).sum();
    if assigned.readers.len() == 1 {
        return u64::MAX;
    }
    (total * u64::from(share.weight)).div_ceil(weights.max(1))
}

/// Returns the number of viewers that a reader lacks to have its share.
fn missing_viewers(
    sight: &impl ClusterView,
    video: &VideoId,
    assigned: &AssignedReaders,
    share: &ReaderShare,
    total: u64,
) -> u64 {
    viewers_of_share(assigned, share, total).saturating_sub(viewers_at_reader(sight, &share.reader, video))
}

/// Viewers of a video that a reader keeps, and those above which it sheds: its part and a tenth more, or two, so that those
/// who come and go, or went where the chance led them, do not move others; 10 and 20 more at least, below which evenness
/// is worth nobody's reconnect.
fn viewers_to_keep(assigned: &AssignedReaders, share: &ReaderShare, total: u64) -> (u64, u64) {
    let part = viewers_of_share(assigned, share, total);
    let slack = (part / 10).max(10);
    (part.saturating_add(slack), part.saturating_add(slack.saturating_mul(2)))
}

/// An order to change who serves a video.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignmentOrder {
    /// The video.
    pub video: VideoId,
    /// What the one who orders takes to be in force.
    pub expected_epoch: u64,
    /// The readers that are to serve the video.
    pub readers: Vec<ReaderShare>,
}

/// The reason why an order is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OrderRefusal {
    /// A later planner has taken over.
    #[error("term {highest} has begun")]
    OldTerm {
        /// The highest term heard of.
        highest: u64,
    },
    /// Something else is in force (`None`: nothing).
    #[error("the video's epoch is {current:?}")]
    OldEpoch {
        /// The epoch of the assignment that is in force.
        current: Option<u64>,
    },
    /// Another order for the video is being carried out.
    #[error("the video is being moved")]
    VideoBusy,
    /// It names no reader, one twice, one without a share, or one that takes no videos now.
    #[error("not all of the readers can take the video")]
    BadReaders,
    /// As many orders are being carried out as may be.
    #[error("too many orders are being carried out")]
    TooManyOrders,
}

/// A step that a manager takes to carry out an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderStep {
    /// Asks a reader to hold a video ready; its answer goes to [`Coordinator::note_warmed`].
    Warm {
        /// The reader that is asked.
        reader: ReaderId,
        /// The video that the reader is to hold ready.
        video: VideoId,
    },
    /// The compare-and-set; its outcome goes to [`Coordinator::note_swap_done`].
    Swap(AssignmentOrder),
    /// The order is given up; nothing has changed.
    Dropped(AssignmentOrder),
}

#[derive(Debug)]
struct OrderProgress {
    order: AssignmentOrder,
    /// Readers that do not hold it ready yet, and when each was last asked.
    cold: Vec<(ReaderId, Option<ElapsedTime>)>,
    step_deadline: ElapsedTime,
    swapping: bool,
}

/// The orders that a manager is carrying out.
#[derive(Debug, Default)]
pub struct Coordinator {
    highest_term: u64,
    orders: BTreeMap<VideoId, OrderProgress>,
}

impl Coordinator {
    /// Returns the highest term heard of.
    pub const fn term(&self) -> u64 {
        self.highest_term
    }

    /// Hears of a term: when it is minted, or from another manager by way of the store.
    pub fn note_term(&mut self, term: u64) {
        self.highest_term = self.highest_term.max(term);
    }

    /// Whether an order for the video is being carried out.
    pub fn is_moving(&self, video: &VideoId) -> bool {
        self.orders.contains_key(video)
    }

    /// Takes an order; `term` is the planner's, `None` for what the manager does by itself (a reader that leaves).
    /// [`Coordinator::next_steps`] then says what to do.
    pub fn accept_order(
        &mut self,
        now: ElapsedTime,
        term: Option<u64>,
        order: AssignmentOrder,
        sight: &impl ClusterView,
    ) -> Result<(), OrderRefusal> {
        let term = term.unwrap_or(self.highest_term);
        if term < self.highest_term {
            return Err(OrderRefusal::OldTerm { highest: self.highest_term });
        }
        self.highest_term = term;
        let current = sight.assigned_readers(&order.video);
        let epoch = current.map(|current| current.epoch);
        if epoch != Some(order.expected_epoch) {
            return Err(OrderRefusal::OldEpoch { current: epoch });
        }
        if self.orders.contains_key(&order.video) {
            return Err(OrderRefusal::VideoBusy);
        }
        if self.orders.len() >= MAX_ORDERS_IN_PROGRESS {
            return Err(OrderRefusal::TooManyOrders);
        }
        let serves =
            |share: &ReaderShare| current.is_some_and(|current| current.share_of(&share.reader).is_some());
        let takes = |share: &ReaderShare| {
            serves(share) || sight.reader_status(&share.reader) == Some(ReaderStatus::Alive)
        };
        let twice = |at: usize| order.readers[..at].iter().any(|it| it.reader == order.readers[at].reader);
        let is_good = !order.readers.is_empty()
            && order.readers.iter().all(|share| share.weight > 0 && takes(share))
            && !(0..order.readers.len()).any(twice);
        if !is_good {
            return Err(OrderRefusal::BadReaders);
        }
        let cold = order.readers.iter().filter(|share| !serves(share));
        let cold = cold.map(|share| (share.reader.clone(), None)).collect();
        let progress = OrderProgress { cold, step_deadline: now + WARM_UP_TIMEOUT, swapping: false, order };
        self.orders.insert(progress.order.video.clone(), progress);
        Ok(())
    }

    /// A reader says that it holds a video ready.
    pub fn note_warmed(&mut self, video: &VideoId, reader: &ReaderId) {
        if let Some(progress) = self.orders.get_mut(video) {
            progress.cold.retain(|(cold, _)| cold != reader);
        }
    }

    /// What is to be done now. To be asked after every order and answer, and a few times a second.
    pub fn next_steps(&mut self, now: ElapsedTime, sight: &impl ClusterView) -> Vec<OrderStep> {
        let mut steps = Vec::new();
        self.orders.retain(|_, progress| progress.advance_order(now, sight, &mut steps));
        steps
    }

    /// The compare-and-set is done, lost or failed: what is in force is the caller's to know.
    pub fn note_swap_done(&mut self, order: &AssignmentOrder) {
        if self.orders.get(&order.video).is_some_and(|progress| progress.order == *order) {
            self.orders.remove(&order.video);
        }
    }
}

impl OrderProgress {
    /// `false`: the order is over.
    fn advance_order(
        &mut self,
        now: ElapsedTime,
        sight: &impl ClusterView,
        steps: &mut Vec<OrderStep>,
    ) -> bool {
        let in_force = sight.assigned_readers(&self.order.video).map(|current| current.epoch);
        if now >= self.step_deadline || (!self.swapping && in_force != Some(self.order.expected_epoch)) {
            steps.push(OrderStep::Dropped(self.order.clone()));
            return false;
        }
        if self.swapping {
            return true;
        }
        if self.cold.is_empty() {
            (self.swapping, self.step_deadline) = (true, now + SWAP_TIMEOUT);
            steps.push(OrderStep::Swap(self.order.clone()));
            return true;
        }
        for (reader, asked) in &mut self.cold {
            if asked.is_none_or(|asked| now.saturating_sub(asked) >= WARM_UP_RETRY_INTERVAL) {
                *asked = Some(now);
                steps.push(OrderStep::Warm { reader: reader.clone(), video: self.order.video.clone() });
            }
        }
        true
    }
}

#[cfg(test)]
mod tests;
