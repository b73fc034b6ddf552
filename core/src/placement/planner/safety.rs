//! The changes that safety demands at once: viewers without a reader are placed, and readers that are to be emptied are
//! emptied.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::heat;
use super::model::Model;
use super::shares::PlacementSlot;
use crate::placement::plan::{ChangeKind, OrderReason, ReachedLimit};
use crate::placement::situation::ReaderAvailability;

/// The open readers, emptiest first: by the part of their capacity in use, then by videos, then by position.
struct EmptiestReaders(BinaryHeap<Reverse<(u64, u32, u32)>>);

impl EmptiestReaders {
    fn new(model: &Model) -> Self {
        Self(model.open_readers().map(|reader| Reverse(Self::emptiness_key(model, reader))).collect())
    }

    fn emptiness_key(model: &Model, reader: u32) -> (u64, u32, u32) {
        let seat = &model.readers[reader as usize];
        // The bits of two numbers that are not negative compare as the numbers do.
        ((seat.viewers_planned as f64 / seat.capacity as f64).to_bits(), seat.video_count, reader)
    }

    /// Returns the reader for this many viewers of a video: the emptiest by capacity or, if they do not fit there, the
    /// one with the most room.
    fn find_reader(&mut self, model: &Model, video: u32, viewers: u64) -> Option<u32> {
        let fits = |reader: u32| {
            let seat = &model.readers[reader as usize];
            seat.viewers_planned < seat.capacity
                && viewers <= seat.room_up_to(u64::MAX).min(seat.video_viewers_limit)
                && !model.is_video_on_reader(video, reader)
        };
        while let Some(mut top) = self.0.peek_mut() {
            let reader = top.0.2;
            let now = Self::emptiness_key(model, reader);
            if top.0 == now {
                break;
            }
            // Loads only grow during the search, so a key that is out of date is too small.
            top.0 = now;
        }
        let emptiest = self.0.peek().map(|top| top.0.2).filter(|&reader| fits(reader));
        emptiest.or_else(|| {
            let roomy = model.open_readers().filter(|&reader| fits(reader));
            roomy.max_by_key(|&reader| (model.readers[reader as usize].room_up_to(u64::MAX), Reverse(reader)))
        })
    }
}

/// Places every video without a reader on one reader, or on several if one is not enough: the largest video first, onto
/// the emptiest reader (longest processing time first: Graham, 1969). No viewer is moved, so the placing costs no
/// budget.
pub(super) fn place_unserved(model: &mut Model) {
    let nowhere = |video: &u32| model.videos[*video as usize].placement == PlacementSlot::Unplaced;
    let unserved = (0..model.videos.len() as u32).filter(nowhere);
    let mut unserved: Vec<(Reverse<u64>, u32)> =
        unserved.map(|video| (Reverse(model.videos[video as usize].viewer_count), video)).collect();
    if unserved.is_empty() {
        return;
    }
    unserved.sort_unstable();
    model.changed_videos.reserve(unserved.len());
    let mut emptiest = EmptiestReaders::new(model);
    for (Reverse(waiting), video) in unserved {
        let why = OrderReason::Unserved { waiting };
        if let Some(reader) = emptiest.find_reader(model, video, waiting) {
            model.move_viewers(video, None, reader, waiting, why);
        } else if heat::room_for(model, video) < waiting
            || model.open_readers().all(|reader| is_full(model, reader))
        {
            let because = if model.open_readers().next().is_none() {
                ReachedLimit::NoOpenReader
            } else {
                ReachedLimit::Capacity
            };
            model.note_rejected(ChangeKind::Place, Some(video), None, waiting, because);
        } else {
            let left =
                heat::spread_viewers(model, video, None, waiting, &why, heat::FillLimit::FairShareFirst);
            if left > 0 {
                // The readers with the most room take it, beyond the limit of one video on one reader.
                model.undo_placement(video);
                heat::spread_viewers(model, video, None, waiting, &why, heat::FillLimit::WholeCapacity);
            }
        }
    }
}

fn is_full(model: &Model, reader: u32) -> bool {
    model.readers[reader as usize].room_up_to(u64::MAX) == 0
}

/// Moves videos off readers that are to be emptied: the reader closest to empty first, and its largest videos first.
/// Returns whether the budget covered everything.
pub(super) fn drain_readers(model: &mut Model) -> bool {
    let draining =
        |reader: &u32| model.readers[*reader as usize].availability == ReaderAvailability::Draining;
    let mut leaving: Vec<u32> = (0..model.readers.len() as u32).filter(draining).collect();
    leaving.retain(|&reader| model.readers[reader as usize].video_count > 0);
    if leaving.is_empty() {
        return true;
    }
    leaving.sort_by_key(|&reader| (model.readers[reader as usize].viewers_planned, reader));
    let mut held = vec![Vec::new(); model.readers.len()];
    for (video, planned) in model.videos.iter().enumerate() {
        let mut note = |reader: u32, viewers: u64| {
            if draining(&reader) {
                held[reader as usize].push((viewers, video as u32));
            }
        };
        match &planned.placement {
            PlacementSlot::Unplaced => {}
            PlacementSlot::One(reader) => note(*reader, planned.viewer_count),
            PlacementSlot::Several(parts) => {
                for &(reader, viewers) in parts {
                    note(reader, viewers);
                }
            }
        }
    }
    let mut emptiest = EmptiestReaders::new(model);
    let mut covered = true;
    for reader in leaving {
        let mut videos = std::mem::take(&mut held[reader as usize]);
        videos.sort_unstable_by_key(|&(viewers, video)| (Reverse(viewers), video));
        let load = model.readers[reader as usize].viewers_planned;
        let why = OrderReason::Emptying { reader: reader as usize, load };
        for (viewers, video) in videos {
            covered &= move_video_off(model, &mut emptiest, reader, video, viewers, &why);
        }
    }
    covered
}

/// Moves one video's viewers off the reader `from`. Returns false only if the budget did not allow it.
fn move_video_off(
    model: &mut Model,
    emptiest: &mut EmptiestReaders,
    from: u32,
    video: u32,
    viewers: u64,
    why: &OrderReason,
) -> bool {
    let beside = model.viewers_by_reader(video).into_iter().map(|part| part.0);
    // The video's other readers need no warming; they are used if they stay within their tolerance.
    let beside = beside.filter(|&reader| {
        let seat = &model.readers[reader as usize];
        let part = model.viewers_on(video, reader).saturating_add(viewers);
        seat.is_open()
            && viewers <= seat.room_up_to(seat.overloaded_above)
            && seat.viewers_planned < seat.capacity
            && part <= seat.video_viewers_limit
    });
    let beside =
        beside.max_by_key(|&reader| (model.readers[reader as usize].room_up_to(u64::MAX), Reverse(reader)));
    let to = beside.or_else(|| emptiest.find_reader(model, video, viewers));
    if to.is_none() && (viewers == 0 || heat::room_for(model, video) < viewers) {
        let because = if model.open_readers().next().is_none() {
            ReachedLimit::NoOpenReader
        } else {
            ReachedLimit::Capacity
        };
        model.note_rejected(ChangeKind::Drain, Some(video), Some(from), viewers, because);
        return true;
    }
    if !model.take_from_budget(viewers) {
        model.note_rejected(ChangeKind::Drain, Some(video), Some(from), viewers, ReachedLimit::Budget);
        return false;
    }
    if let Some(to) = to {
        model.move_viewers(video, Some(from), to, viewers, why.clone());
    } else {
        // If the video may have few more readers, evenness does not choose them: it would waste some on small amounts.
        let scarce =
            model.reader_count(video) + model.open_readers().count() > model.limits.max_readers_per_video;
        let reach = if scarce { heat::FillLimit::WholeCapacity } else { heat::FillLimit::FairShareFirst };
        let left = heat::spread_viewers(model, video, Some(from), viewers, why, reach);
        heat::spread_viewers(model, video, Some(from), left, why, heat::FillLimit::WholeCapacity);
    }
    true
}
