//! Splits videos that have too many viewers for one reader, and joins videos that have cooled.

use std::cmp::Reverse;

use super::model::{Model, ReaderLoad};
use super::shares::PlacementSlot;
use crate::placement::plan::{ChangeKind, OrderReason, ReachedLimit};

/// The limit up to which readers are filled when a video is spread onto them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FillLimit {
    /// Readers are filled up to their fair share first, then up to their capacity; a later balancing step evens out the
    /// rest.
    FairShareFirst,
    /// Readers are filled up to their capacity, with any number of viewers of one video.
    WholeCapacity,
}

/// Returns the number of the video's viewers for which open readers have room, within the number of readers that the
/// video may have.
pub(super) fn room_for(model: &Model, video: u32) -> u64 {
    let mut rooms: Vec<u64> = Vec::new();
    let mut beside = 0_u64;
    for reader in model.open_readers() {
        let room = model.readers[reader as usize].room_up_to(u64::MAX);
        if model.is_video_on_reader(video, reader) {
            beside += room;
        } else {
            rooms.push(room);
        }
    }
    rooms.sort_unstable_by_key(|&room| Reverse(room));
    let more = model.limits.max_readers_per_video.max(1).saturating_sub(model.reader_count(video));
    rooms.iter().take(more).fold(beside, |sum, room| sum.saturating_add(*room))
}

/// Spreads `amount` of a video's viewers, from a reader or waiting ones, over open readers: those that serve it first,
/// then those furthest below their fair share. Returns the number of viewers for which there was no room.
pub(super) fn spread_viewers(
    model: &mut Model,
    video: u32,
    from: Option<u32>,
    amount: u64,
    why: &OrderReason,
    reach: FillLimit,
) -> u64 {
    let mut left = amount;
    if reach == FillLimit::FairShareFirst {
        left = fill_readers_with(model, video, from, left, why, reach, &|model, reader| {
            let seat = &model.readers[reader as usize];
            let room = seat
                .room_up_to(seat.upper_target)
                .min(seat.spread_target().saturating_sub(model.viewers_on(video, reader)));
            if room >= amount || room > min_useful_viewers(seat) { room } else { 0 }
        });
        left = fill_readers_with(model, video, from, left, why, reach, &|model, reader| {
            let seat = &model.readers[reader as usize];
            let room = seat
                .room_up_to(u64::MAX)
                .min(seat.video_viewers_limit.saturating_sub(model.viewers_on(video, reader)));
            // If full readers took small amounts, balance would have to make room for them again and again.
            if room >= amount || room > min_useful_viewers(seat) { room } else { 0 }
        });
    } else {
        left = fill_readers_with(model, video, from, left, why, reach, &|model, reader| {
            model.readers[reader as usize].room_up_to(u64::MAX)
        });
    }
    left
}

/// Returns the number of viewers that a reader must be able to take more than, so that it is worth to give it a part of
/// a hot video: a twentieth of the reader's limit for one video, and at least ten.
fn min_useful_viewers(seat: &ReaderLoad) -> u64 {
    (seat.video_viewers_limit / 20).max(10)
}

fn fill_readers_with(
    model: &mut Model,
    video: u32,
    from: Option<u32>,
    amount: u64,
    why: &OrderReason,
    reach: FillLimit,
    room: &dyn Fn(&Model, u32) -> u64,
) -> u64 {
    if amount == 0 {
        return 0;
    }
    let mut takers: Vec<u32> = model.open_readers().filter(|&reader| Some(reader) != from).collect();
    takers.sort_by_cached_key(|&reader| {
        let seat = &model.readers[reader as usize];
        let above = seat.viewers_above_fair();
        let key =
            if reach == FillLimit::WholeCapacity { -i128::from(seat.room_up_to(u64::MAX)) } else { above };
        (!model.is_video_on_reader(video, reader), key, reader)
    });
    let mut left = amount;
    for at in 0..takers.len() {
        let nearest = at + next_taker(model, video, &takers[at..], &|reader| room(model, reader).min(left));
        takers[at..=nearest].rotate_right(1);
        let reader = takers[at];
        let may = model.is_video_on_reader(video, reader)
            || model.reader_count(video) < model.limits.max_readers_per_video.max(1);
        let give = room(model, reader).min(left);
        if give == 0 || !may {
            continue;
        }
        model.move_viewers(video, from, reader, give, why.clone());
        left -= give;
        if left == 0 {
            break;
        }
    }
    left
}

/// Returns the index of the reader in `line` that takes viewers next: the first one, or one in a zone where the video
/// has fewer readers, if its load differs by at most half the tolerance and it takes as many viewers.
fn next_taker(model: &Model, video: u32, line: &[u32], takes: &dyn Fn(u32) -> u64) -> usize {
    let first = line[0];
    if model.zones.is_empty() || model.is_video_on_reader(video, first) {
        return 0;
    }
    let wanted = takes(first);
    let seat = &model.readers[first as usize];
    let most = seat.viewers_above_fair() + i128::from(seat.upper_target.saturating_sub(seat.fair_share));
    let is_as_good = |reader: u32| {
        let above = model.readers[reader as usize].viewers_above_fair();
        reader == first || (above <= most && takes(reader) >= wanted)
    };
    let choice = line.iter().enumerate().filter(|(_, reader)| is_as_good(**reader));
    let choice = choice.min_by_key(|(at, reader)| (model.readers_in_zone_of(video, **reader), *at));
    choice.map_or(0, |(at, _)| at)
}

/// Spreads videos with too many viewers on one reader, the hottest first: only the excess leaves the reader.
pub(super) fn split_hot_videos(model: &mut Model) {
    let limit = model
        .open_readers()
        .map(|reader| model.readers[reader as usize].video_viewers_limit)
        .min()
        .unwrap_or(u64::MAX);
    let mut hot: Vec<u32> = (0..model.videos.len() as u32)
        .filter(|&video| {
            model.videos[video as usize].viewer_count > limit
                && model.videos[video as usize].placement != PlacementSlot::Unplaced
        })
        .collect();
    hot.sort_unstable_by_key(|&video| (Reverse(model.videos[video as usize].viewer_count), video));
    for video in hot {
        for (reader, viewers) in model.viewers_by_reader(video) {
            let seat = &model.readers[reader as usize];
            if seat.is_open() && viewers > seat.video_viewers_limit {
                relieve_reader(model, video, reader, viewers);
            }
        }
    }
}

fn relieve_reader(model: &mut Model, video: u32, reader: u32, viewers: u64) {
    let seat = &model.readers[reader as usize];
    let limit = seat.video_viewers_limit;
    let excess = viewers - seat.spread_target();
    if model.is_resting(video) {
        model.note_rejected(ChangeKind::Split, Some(video), Some(reader), excess, ReachedLimit::Rest);
        return;
    }
    let by_share = limit < model.limits.hot_video_viewers;
    let why = OrderReason::Hot { reader: reader as usize, viewers, limit, by_share };
    // Waiting viewers are on no reader: placing them elsewhere moves nobody.
    let waiting = model.waiting_viewers(video);
    let amount = excess.min(model.budget_left().saturating_add(waiting));
    if amount < excess {
        model.note_rejected(
            ChangeKind::Split,
            Some(video),
            Some(reader),
            excess - amount,
            ReachedLimit::Budget,
        );
    }
    let left = spread_viewers(model, video, Some(reader), amount, &why, FillLimit::FairShareFirst);
    // The viewers have been moved already, and their number is within the remaining budget.
    model.take_from_budget((amount - left).saturating_sub(waiting));
    model.take_waiting_viewers(video, amount - left);
    if left > 0 && viewers - (amount - left) > limit {
        let most = model.limits.max_readers_per_video;
        let because =
            if model.reader_count(video) >= most { ReachedLimit::MaxReaders } else { ReachedLimit::Capacity };
        model.note_rejected(ChangeKind::Split, Some(video), Some(reader), left, because);
    }
}

/// Moves videos that have cooled onto fewer readers, the smallest part first.
pub(super) fn join_cooled_videos(model: &mut Model) {
    for video in 0..model.videos.len() as u32 {
        while let PlacementSlot::Several(parts) = &model.videos[video as usize].placement {
            let all_open = parts.iter().all(|part| model.readers[part.0 as usize].is_open());
            let below = model.join_threshold(parts.len());
            let viewers = model.videos[video as usize].viewer_count;
            if viewers > below || !all_open {
                break;
            }
            let &(reader, part) =
                parts.iter().min_by_key(|part| (part.1, part.0)).expect("several is not none");
            if model.is_resting(video) {
                model.note_rejected(ChangeKind::Join, Some(video), Some(reader), part, ReachedLimit::Rest);
                break;
            }
            if !merge_part_of_cooled_video(model, video, reader, part, below) {
                break;
            }
        }
    }
}

/// Moves a cooled video off one reader, to the other readers that serve it. Returns whether that was possible.
fn merge_part_of_cooled_video(model: &mut Model, video: u32, reader: u32, part: u64, below: u64) -> bool {
    let viewers = model.videos[video as usize].viewer_count;
    // A video that has cooled to half of the threshold may take room at others up to their capacity. Until then it
    // waits for room within the tolerance.
    let pressing = viewers <= below / 2;
    let mut rooms: Vec<(u64, u32)> = model
        .viewers_by_reader(video)
        .into_iter()
        .filter(|&(at, _)| at != reader)
        .map(|(at, has)| {
            let seat = &model.readers[at as usize];
            let mark = if pressing { u64::MAX } else { seat.overloaded_above };
            (seat.room_up_to(mark).min(seat.video_viewers_limit.saturating_sub(has)), at)
        })
        .collect();
    rooms.sort_by_key(|&(room, at)| (Reverse(room), at));
    let room = rooms.iter().fold(0_u64, |sum, room| sum.saturating_add(room.0));
    if room < part {
        model.note_rejected(ChangeKind::Join, Some(video), Some(reader), part, ReachedLimit::Capacity);
        return false;
    }
    if !model.take_from_budget(part) {
        model.note_rejected(ChangeKind::Join, Some(video), Some(reader), part, ReachedLimit::Budget);
        return false;
    }
    let why = OrderReason::Cooled { viewers, below };
    let mut left = part;
    for (room, at) in rooms {
        let give = room.min(left);
        left -= give;
        // A part without viewers is dropped as well.
        if give > 0 || part == 0 {
            model.move_viewers(video, Some(reader), at, give, why.clone());
        }
        if left == 0 {
            break;
        }
    }
    true
}
