//! The orders that a manager answers to a reader's heartbeat: the viewers that the reader hands over.

use std::collections::BTreeMap;
use std::time::Duration;

use super::shares::{is_full, missing_viewers, total_viewers, viewers_to_keep};
use super::view::{ClusterView, ReaderStatus};
use crate::handover::{AssignedReaders, HandOver, HeldVideo, ReaderShare};
use crate::{ReaderId, VideoId};

/// The speed at which viewers are handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandOverPace {
    /// The time in which about all viewers of a video are handed over, if the two bounds on the speed allow it.
    pub target_duration: Duration,
    /// The lower bound of the speed, in viewers per second.
    pub min_per_second: u32,
    /// The upper bound of the speed, in viewers per second.
    pub max_per_second: u32,
}

impl HandOverPace {
    /// No limit on the speed. The value serves callers that only need to know which hand-overs are ordered, which does
    /// not depend on the speed.
    pub const UNLIMITED: Self =
        Self { target_duration: Duration::from_secs(1), min_per_second: 1, max_per_second: u32::MAX };
}

/// The result of a reader's heartbeat.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct HeartbeatOutcome {
    /// The hand-overs that the reader is told to make.
    pub hand_overs: Vec<HandOver>,
    /// The readers that must be told to get a video ready, each with the video: viewers are handed over to them as soon
    /// as they have the video ready.
    pub warm_up_requests: Vec<(ReaderId, VideoId)>,
    /// The videos for which the reader knows a later assignment epoch than this manager, each with that epoch: the
    /// manager has to decide about these videos again.
    pub outdated_videos: Vec<(VideoId, u64)>,
    /// The videos that are no longer assigned to the reader, but whose other readers have no room for all its viewers,
    /// each with the number of viewers who stay for now. The manager has to decide about these videos again, and adds a
    /// reader with room if there is one.
    pub videos_without_room: Vec<(VideoId, u64)>,
}

/// Returns the orders that answer a reader's heartbeat. Viewers are sent only to a reader that is alive, has room and
/// holds the video ready.
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

/// Adds to `answer` what the reader has to do about one video that it holds. `rooms` holds the remaining room of each
/// reader to which the same answer already sends viewers.
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
        answer.videos_without_room.push((held.video.clone(), held.viewers - going));
    }
    if going == 0 {
        return;
    }
    if !sight.held_video(&target.reader, &held.video).is_some_and(|there| there.ready) {
        answer.warm_up_requests.push((target.reader.clone(), held.video.clone()));
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
