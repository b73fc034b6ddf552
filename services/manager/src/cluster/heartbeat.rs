//! The answer to a reader's heartbeat: the viewers whom the reader has to hand over, and the pace.

use std::collections::HashMap;
use std::time::Instant;

use liverank_adapters::assignment_store::ReaderRecord;
use liverank_core::VideoId;
use liverank_core::handover::HeldVideo;
use liverank_core::handover::coordinator::{self, HandOverPace, HeartbeatOutcome};

use super::KnownCluster;
use crate::liveness::{ReaderLiveness, ReaderStatus};

/// The maximum number of videos that the answer to one heartbeat orders to hand over: at any pace more than a second's
/// work. The answers to later heartbeats order the remaining videos.
const MAX_VIDEOS_AN_ANSWER: usize = 1_000;
/// The shortest time, in seconds, in which a reader hands over the viewers that it has above its share of a video:
/// twice the time until a viewer is counted at its new reader. In a shorter time, the reader with the most room would
/// get more viewers than it has room for before it could report them.
const MIN_SHED_SECONDS: u64 = 4;
/// A reader that has viewers above its share of a video hands over, each second, at least the number that it keeps
/// divided by this. The viewers on their way, for two seconds, are then fewer than the tenth that a reader may keep
/// above its share, and the last viewers do not take as long as all others.
const MIN_SHED_DIVISOR: u64 = 20;

/// The viewers that have an order to go to another reader and have not gone yet.
#[derive(Debug, Default)]
pub struct PendingHandovers {
    /// The number of viewers of all videos that have not gone yet and for whom there is room.
    pub viewers: u64,
    /// The number of viewers that have not gone yet, by video, including those for whom there is no room.
    pub viewers_by_video: HashMap<VideoId, u64>,
    /// The time of the count.
    pub counted_at: Option<Instant>,
}

impl KnownCluster {
    /// Counts the viewers that are to go to another reader now.
    pub(super) fn count_pending_handovers(&self, now: Instant) -> PendingHandovers {
        let seen = self.view_at(now);
        let mut all = PendingHandovers { counted_at: Some(now), ..PendingHandovers::default() };
        let there = |sighting: &&ReaderLiveness| self.reader_watch.status_of(sighting) != ReaderStatus::Gone;
        for sighting in self.reader_watch.all_readers().filter(there) {
            let record = &sighting.last_record;
            let answer =
                coordinator::answer_heartbeat(&seen, &record.id, &record.videos, &HandOverPace::UNLIMITED);
            for (video, viewers) in videos_of_answer(&answer, &record.videos) {
                *all.viewers_by_video.entry(video.clone()).or_default() += viewers;
                all.viewers += viewers;
            }
            // They use nothing of the budget while they wait for room.
            for (video, viewers) in answer.videos_without_room {
                *all.viewers_by_video.entry(video).or_default() += viewers;
            }
        }
        all
    }

    /// Returns the answer to a reader's heartbeat. The pace of its hand-overs keeps all hand-overs together within
    /// `per_minute` viewers, unless the reader leaves by itself and has less time than that.
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
                (true, keep) => part.div_ceil(MIN_SHED_SECONDS).max((keep / MIN_SHED_DIVISOR).min(part)),
                // There is room for no more of them.
                (false, _) => part.div_ceil(MIN_SHED_SECONDS),
            };
            let pace = pace.min(slowly).clamp(1, u64::from(u32::MAX)).min(left);
            left -= pace;
            order.pace = pace as u32;
            pace > 0
        });
        answer
    }
}

/// Returns the number of viewers of a video in `held`, which must be sorted by the videos' names.
fn viewers_in(held: &[HeldVideo], video: &VideoId) -> u64 {
    held.binary_search_by(|held| held.video.cmp(video)).map_or(0, |at| held[at].viewers)
}

/// Returns each video of an answer with the number of viewers that are to go; `held` must be sorted by the videos'
/// names.
fn videos_of_answer<'a>(
    answer: &'a HeartbeatOutcome,
    held: &'a [HeldVideo],
) -> impl Iterator<Item = (&'a VideoId, u64)> {
    let going = answer.hand_overs.iter().map(|order| (&order.video, order.keep));
    let waiting = answer.warm_up_requests.iter().map(|(_, video)| (video, 0));
    going.chain(waiting).map(|(video, keep)| (video, viewers_in(held, video).saturating_sub(keep)))
}
