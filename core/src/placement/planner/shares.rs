//! The readers on which a video is placed, and conversions between numbers of viewers and shares.

use crate::placement::situation::{PlacementVideo, VideoPart, WHOLE_SHARE};

/// The readers on which a video is placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PlacementSlot {
    Unplaced,
    One(u32),
    /// Two or more readers, each with its viewers of the video, sorted by reader.
    Several(Vec<(u32, u64)>),
}

/// Returns the readers of a placement with their viewers, sorted by reader.
pub(super) fn parts_of(placement: &PlacementSlot, viewers: u64) -> Vec<(u32, u64)> {
    match placement {
        PlacementSlot::Unplaced => Vec::new(),
        PlacementSlot::One(reader) => vec![(*reader, viewers)],
        PlacementSlot::Several(parts) => parts.clone(),
    }
}

/// Returns the readers at which the viewers of a video on several readers count. Viewers count where they are. Viewers
/// that wait, or are still on a reader that is no longer assigned, count by the shares; during a hand-over, all
/// viewers do.
pub(super) fn counted_viewers(video: &PlacementVideo, viewers: u64, readers: usize) -> Vec<(u32, u64)> {
    let mut assigned: Vec<VideoPart> = video.parts.clone();
    assigned.retain(|part| part.share > 0 && part.reader < readers);
    assigned.sort_by_key(|part| part.reader);
    let there: u64 = if video.moving { 0 } else { assigned.iter().map(|part| part.viewers).sum() };
    let shares: Vec<u64> = assigned.iter().map(|part| u64::from(part.share)).collect();
    let rest = apportion_by_weights(viewers - there, &shares);
    let counted = assigned.iter().zip(rest).map(|(part, rest)| {
        let here = if video.moving { 0 } else { part.viewers };
        (part.reader as u32, here + rest)
    });
    counted.collect()
}

/// Divides `total` into whole numbers in proportion to the weights (largest remainders, then the first); they sum to
/// `total`.
fn apportion_by_weights(total: u64, weights: &[u64]) -> Vec<u64> {
    let sum: u128 = weights.iter().map(|&weight| u128::from(weight)).sum::<u128>().max(1);
    let exact = |weight: u64| u128::from(total) * u128::from(weight);
    let mut pieces: Vec<u64> = weights.iter().map(|&weight| (exact(weight) / sum) as u64).collect();
    let missing = (total - pieces.iter().sum::<u64>()) as usize;
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by_key(|&at| std::cmp::Reverse(exact(weights[at]) % sum));
    for &at in order.iter().cycle().take(missing.min(weights.len())) {
        pieces[at] += 1;
    }
    pieces
}

/// Returns the parts of a placement with their shares: in proportion to the viewers, each at least a millionth,
/// summing to the whole.
pub(super) fn parts_with_shares(placement: &PlacementSlot, viewers: u64) -> Vec<VideoPart> {
    let parts = match placement {
        PlacementSlot::Unplaced => return Vec::new(),
        PlacementSlot::One(reader) => {
            return vec![VideoPart { reader: *reader as usize, viewers, share: WHOLE_SHARE }];
        }
        PlacementSlot::Several(parts) => parts,
    };
    let none = parts.iter().all(|part| part.1 == 0);
    let weights: Vec<u64> = parts.iter().map(|part| if none { 1 } else { part.1 }).collect();
    // One millionth is set aside for each part first, so that no part is without a share.
    let each = apportion_by_weights(u64::from(WHOLE_SHARE) - parts.len() as u64, &weights);
    let part = |(&(reader, viewers), share): (&(u32, u64), u64)| VideoPart {
        reader: reader as usize,
        viewers,
        share: share as u32 + 1,
    };
    parts.iter().zip(each).map(part).collect()
}
