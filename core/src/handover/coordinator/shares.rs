//! How many of a video's viewers each of its readers is to have.

use super::view::{ClusterView, FULL_USAGE_THOUSANDTHS};
use crate::handover::{AssignedReaders, ReaderShare};
use crate::{ReaderId, VideoId};

pub(super) fn is_full(sight: &impl ClusterView, reader: &ReaderId) -> bool {
    sight.usage_thousandths(reader) >= FULL_USAGE_THOUSANDTHS
}

pub(super) fn viewers_at_reader(sight: &impl ClusterView, reader: &ReaderId, video: &VideoId) -> u64 {
    sight.held_video(reader, video).map_or(0, |held| held.viewers)
}

pub(super) fn total_viewers(sight: &impl ClusterView, video: &VideoId, assigned: &AssignedReaders) -> u64 {
    let here = assigned.readers.iter().map(|share| viewers_at_reader(sight, &share.reader, video)).sum();
    sight.viewers(video).max(here)
}

/// Returns the number of a video's viewers that a reader has to serve by its share; `u64::MAX` for the only reader of a
/// video.
pub(super) fn viewers_of_share(assigned: &AssignedReaders, share: &ReaderShare, total: u64) -> u64 {
    let weights: u64 = assigned.readers.iter().map(|share| u64::from(share.weight)).sum();
    if assigned.readers.len() == 1 {
        return u64::MAX;
    }
    (total * u64::from(share.weight)).div_ceil(weights.max(1))
}

/// Returns the number of viewers that a reader lacks to have its share.
pub(super) fn missing_viewers(
    sight: &impl ClusterView,
    video: &VideoId,
    assigned: &AssignedReaders,
    share: &ReaderShare,
    total: u64,
) -> u64 {
    viewers_of_share(assigned, share, total).saturating_sub(viewers_at_reader(sight, &share.reader, video))
}

/// The divisor that gives the number of viewers beyond its share that a reader may get from gateways in its own zone: a
/// twentieth of the share. A reader sheds viewers from a fifth more than its share on, and gateways may send a reader a tenth
/// before that is reported ([`is_preferred_for_zone`](crate::handover::routing::is_preferred_for_zone)); so nobody is
/// moved again because of the preference.
const SPARE_DIVISOR: u64 = 20;

/// Returns the number of viewers that a reader may get from gateways in its own zone, beyond those that it lacks of its
/// share; 0 for the only reader of a video, which gets all viewers anyway.
pub(super) fn spare_viewers(
    sight: &impl ClusterView,
    video: &VideoId,
    assigned: &AssignedReaders,
    share: &ReaderShare,
    total: u64,
) -> u64 {
    if assigned.readers.len() == 1 {
        return 0;
    }
    let part = viewers_of_share(assigned, share, total);
    let beyond = viewers_at_reader(sight, &share.reader, video).saturating_sub(part);
    (part / SPARE_DIVISOR).saturating_sub(beyond)
}

/// Returns two numbers of viewers of a video at a reader: the number that the reader keeps when it sheds viewers (its
/// share and a tenth more, or 10 viewers if that is more), and the number above which it begins to shed viewers (its
/// share and twice that margin). The margins avoid reconnects for small or random imbalances.
pub(super) fn viewers_to_keep(assigned: &AssignedReaders, share: &ReaderShare, total: u64) -> (u64, u64) {
    let part = viewers_of_share(assigned, share, total);
    let slack = (part / 10).max(10);
    (part.saturating_add(slack), part.saturating_add(slack.saturating_mul(2)))
}
