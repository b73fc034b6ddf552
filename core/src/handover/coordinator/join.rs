//! Which of a video's readers a viewer is sent to.

use super::heartbeat::{HandOverPace, answer_heartbeat};
use super::shares::{is_full, missing_viewers, spare_viewers, total_viewers};
use super::view::{ClusterView, ReaderStatus};
use crate::handover::routing::choose_by_wanted;
use crate::handover::{AssignedReaders, ReaderShare};
use crate::{ReaderId, VideoId};

/// The greatest number of viewers that a manager reports as wanted by a reader; the only reader of a video accepts
/// every new viewer, and would otherwise want unlimited ones. Numbers in messages stay below 2^53, above which JSON
/// readers may round them.
pub const MAX_WANTED_VIEWERS: u64 = u32::MAX as u64;

/// A reader of a video, as it is offered to new viewers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReaderToJoin {
    /// The reader.
    pub reader: ReaderId,
    /// The number of viewers that the reader should get: the viewers that it lacks of its share, as far as it has free
    /// places. The number is 0 if the reader has its share, or if other readers of the video are better, because they
    /// are alive, open and not full. The number is at most `u32::MAX`.
    pub wanted_viewers: u64,
    /// The number of viewers beyond `wanted_viewers` that the reader may get from gateways in its own zone, as far as it has
    /// free places: up to a twentieth more than its share.
    pub spare_viewers: u64,
    /// Whether a gateway may send viewers to the reader before it has tried others: no reader of the video is better,
    /// and the reader is alive, not full, and has no order to send viewers of the video away.
    pub takes_viewers: bool,
}

/// Returns the readers of a video for a new viewer, the best first. The first one is drawn from the readers that are
/// alive, open and not full, in proportion to the viewers that each lacks of its share and has free places for
/// ([`choose_by_wanted`]). So a crowd of new viewers fills these readers evenly, and none beyond its share before it
/// can report that it is full; viewers for whom a reader has no place go to the others. The other readers follow, the
/// less used ones first. `lots` are random.
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
        best.map(|share| (lacking(share), free_places_if_nearly_full(sight, &share.reader))).collect();
    let wanted = viewers_to_send(&wants);
    let usage = shares.iter().map(|share| sight.usage_thousandths(&share.reader));
    let options: Vec<(u64, u64)> = wanted.iter().copied().zip(usage).collect();
    let to_join = |(at, share): (usize, &&ReaderShare)| {
        let (standing, is_full, _) = rank(share);
        let is_best = at < wanted.len() && standing == ReaderStatus::Alive && !is_full;
        let takes_viewers = is_best && !sends_viewers_away(sight, &share.reader, video);
        let wanted_viewers = wanted.get(at).copied().unwrap_or(0).min(MAX_WANTED_VIEWERS);
        let places = free_places_if_nearly_full(sight, &share.reader).saturating_sub(wanted_viewers);
        let spare = spare_viewers(sight, video, assigned, share, total).min(places);
        ReaderToJoin {
            reader: share.reader.clone(),
            wanted_viewers,
            spare_viewers: if takes_viewers { spare.min(MAX_WANTED_VIEWERS) } else { 0 },
            takes_viewers,
        }
    };
    let mut readers: Vec<ReaderToJoin> = shares.iter().enumerate().map(to_join).collect();
    if let Some(chosen) = choose_by_wanted(&options, lots) {
        let chosen = readers.remove(chosen);
        readers.insert(0, chosen);
    }
    readers
}

/// Returns whether a reader has an order to send some of its viewers of `video` to another reader.
fn sends_viewers_away(sight: &impl ClusterView, reader: &ReaderId, video: &VideoId) -> bool {
    let held = sight.held_video(reader, video).map(std::slice::from_ref);
    let answer = answer_heartbeat(sight, reader, held.unwrap_or_default(), &HandOverPace::UNLIMITED);
    !answer.hand_overs.is_empty() || !answer.warm_up_requests.is_empty()
}

/// Returns the number of free places that a reader reported, if the reader is nearly full; else `u64::MAX`. Viewers on
/// their way to the reader are not subtracted, because they are also part of the number of viewers that the reader
/// lacks. A reader is nearly full if at most a fiftieth of its capacity is free.
fn free_places_if_nearly_full(sight: &impl ClusterView, reader: &ReaderId) -> u64 {
    let (capacity, viewers) = sight.reported_usage(reader);
    let places = capacity.saturating_sub(viewers);
    if places > capacity / 50 { u64::MAX } else { places }
}

/// Returns the number of viewers to send to each reader: the viewers that it lacks of its share, as far as it has free
/// places. `wants` has both numbers for each reader. Viewers for whom a reader has no place are divided among the other
/// readers, in proportion to their remaining free places. Otherwise a nearly full reader would be sent all the viewers
/// that it lacks and would refuse most of them, while another reader that has its share is half empty.
pub(super) fn viewers_to_send(wants: &[(u64, u64)]) -> Vec<u64> {
    let placed = |(lacks, places): &(u64, u64)| u128::from(*lacks.min(places));
    let unplaced: u128 = wants.iter().map(|want| u128::from(want.0) - placed(want)).sum();
    let left: u128 = wants.iter().map(|want| u128::from(want.1) - placed(want)).sum();
    let count = |want: &(u64, u64)| {
        let more = unplaced.min(left).saturating_mul(u128::from(want.1) - placed(want)) / left.max(1);
        u64::try_from(placed(want) + more).unwrap_or(u64::MAX)
    };
    wants.iter().map(count).collect()
}
