//! The next step by which a video gets or keeps readers.

use super::orders::AssignmentOrder;
use super::shares::{is_full, total_viewers, viewers_at_reader, viewers_of_share, viewers_to_keep};
use super::view::{ClusterView, ReaderStatus};
use crate::handover::{AssignedReaders, ReaderShare};
use crate::{ReaderId, VideoId};

/// The most readers that a manager gives a video by itself because the video's readers are full. Only a planner gives
/// it more.
const MAX_READERS_WHEN_FULL: usize = 16;

/// The next step by which a video gets or keeps readers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VideoNeed {
    /// The video needs no step: its readers under the assignment in force can serve it.
    AlreadyServed,
    /// The manager has to assign these readers by a compare-and-set, which succeeds only while the video's epoch is
    /// `expected` (`None`: the video has no assignment).
    Assign {
        /// The epoch that is in force; `None`: the video has no assignment.
        expected: Option<u64>,
        /// The readers that are to serve the video.
        readers: Vec<ReaderShare>,
        /// The lower bound of the new epoch: the store has to choose a greater one, also greater than all epochs that
        /// the manager knows.
        seen: u64,
    },
    /// No reader takes videos.
    NoReader,
}

/// Decides the next step for `video`, on behalf of a caller that knows the assignment epoch `known` of the video (0 for
/// none). If `known` is later than the epoch that this manager sees, either the manager has not heard of it yet (then
/// the compare-and-set fails and tells the manager), or the store has lost it (then the same readers get a greater
/// epoch). No caller is ever answered with an older epoch than the one that it knows.
///
/// `choose` returns a further reader for the video beside the ones that it is given. `relief` returns a reader with
/// room if all readers of the video are full, so that new viewers are served at once even if there is no planner.
///
/// A reader that is gone is replaced. If some readers are shutting down and none of the others takes viewers, new
/// readers take the places of the leaving ones at once. A move would first wait until the new readers hold the video
/// ready, and meanwhile new viewers would be sent to a reader that may end at any moment. The viewers at the leaving
/// readers are handed over as soon as the new readers hold the video ready.
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
        None => VideoNeed::AlreadyServed,
    }
}

/// Returns the readers of a video without those that are gone. If none of the remaining readers takes viewers, other
/// readers replace those that are shutting down. A reader that is only silent keeps its place, because it may still
/// serve its viewers.
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

/// Returns the order that moves a video away from those of its readers that have to be emptied; `None` if there are no
/// such readers, or if no other reader can take the video. `choose` returns a further reader for the video beside the
/// ones that it is given.
///
/// The reader that replaces another one gets its share, and must have room. If the viewers are distributed otherwise
/// than the shares say, the shares are set to the distribution of the viewers, so that emptying one reader moves no
/// viewers of the other readers.
pub fn order_to_empty_readers(
    sight: &impl ClusterView,
    video: &VideoId,
    mut choose: impl FnMut(&[ReaderShare]) -> Option<ReaderId>,
) -> Option<AssignmentOrder> {
    let current = sight.assigned_readers(video)?;
    let shares = shares_by_viewers(sight, video, current);
    let leaves =
        |share: &ReaderShare| sight.reader_status(&share.reader).is_some_and(ReaderStatus::must_be_emptied);
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

/// Returns the shares of a video. If a reader has more viewers than its share allows ([`viewers_to_keep`]), the weights
/// are the present numbers of viewers instead. A reader that has less than its share keeps the weight of its share,
/// because the missing viewers may be on their way.
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

/// Returns the readers of a video and one more, which gets a tenth of the video: so little that no other reader sheds
/// viewers for it. The planner decides on further changes.
fn shares_with_one_more(current: &AssignedReaders, more: ReaderId) -> Vec<ReaderShare> {
    /// The sum of all weights of the returned shares: large enough to represent any ratio of weights.
    const SHARE_UNITS: u32 = 1_000_000;
    let all: u64 = current.readers.iter().map(|share| u64::from(share.weight)).sum();
    let rest = u64::from(SHARE_UNITS - SHARE_UNITS / 10);
    let weight = |share: &ReaderShare| (u64::from(share.weight) * rest / all.max(1)).max(1) as u32;
    let staying = current.readers.iter().map(|share| ReaderShare { weight: weight(share), ..share.clone() });
    staying.chain([ReaderShare { reader: more, weight: SHARE_UNITS / 10 }]).collect()
}
