//! Balance: overloaded readers give viewers, then underloaded ones get some, within the tolerance and the budget.
//!
//! Each step lowers the sum by which readers are above or below their tolerance, and never makes a reader leave it:
//! that is why planning ends, and why planning again finds nothing.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::model::Model;
use super::shares::PlacementSlot;
use super::size_index::{IndexedVideo, SizeIndex};
use crate::placement::plan::{ChangeKind, OrderReason, ReachedLimit};

/// The most readers that are tried as partners of an exchange: those that can take, or give, the most.
pub(super) const MAX_PARTNERS: usize = 8;

pub(super) struct Balancer<'m, 'a> {
    pub(super) model: &'m mut Model<'a>,
    /// For each reader, its videos that are on no other reader, until [`Self::size_index`] indexes them at the first
    /// use.
    unindexed_videos: Vec<Vec<(u64, u32)>>,
    pub(super) size_indexes: Vec<Option<SizeIndex>>,
    /// For each reader, its videos that are on several readers.
    pub(super) spread_videos: Vec<Vec<u32>>,
    /// For each reader, the number of its viewers of resting videos.
    resting_viewers: Vec<u64>,
}

/// Evens out the readers whose load is outside the tolerance.
pub(super) fn balance(model: &mut Model) {
    let mut over: Vec<u32> = model.open_readers().filter(|&reader| is_overloaded(model, reader)).collect();
    let mut under: Vec<u32> = model.open_readers().filter(|&reader| is_underloaded(model, reader)).collect();
    if over.is_empty() && under.is_empty() {
        return;
    }
    over.sort_by_key(|&reader| {
        let seat = &model.readers[reader as usize];
        (Reverse(seat.viewers_planned - seat.fair_share), reader)
    });
    under.sort_by_key(|&reader| {
        let seat = &model.readers[reader as usize];
        (Reverse(seat.fair_share - seat.viewers_planned), reader)
    });
    let mut balancer = Balancer::new(model);
    balancer.relieve_overloaded(&over);
    balancer.fill_underloaded(&under);
}

fn is_overloaded(model: &Model, reader: u32) -> bool {
    let seat = &model.readers[reader as usize];
    seat.viewers_planned > seat.overloaded_above
}

fn is_underloaded(model: &Model, reader: u32) -> bool {
    let seat = &model.readers[reader as usize];
    seat.viewers_planned < seat.underloaded_below
}

impl<'m, 'a> Balancer<'m, 'a> {
    fn new(model: &'m mut Model<'a>) -> Self {
        let readers = model.readers.len();
        let mut unindexed_videos: Vec<Vec<(u64, u32)>> = vec![Vec::new(); readers];
        let mut several = vec![Vec::new(); readers];
        let mut resting_viewers = vec![0; readers];
        for (reader, seat) in model.readers.iter().enumerate().filter(|(_, seat)| seat.is_open()) {
            unindexed_videos[reader].reserve_exact(seat.video_count as usize);
        }
        for (at, planned) in model.videos.iter().enumerate() {
            let (video, viewers) = (at as u32, planned.viewer_count);
            if viewers == 0 {
                continue;
            }
            let rests = model.is_resting(video);
            match &planned.placement {
                PlacementSlot::Unplaced => {}
                PlacementSlot::One(reader) if rests => resting_viewers[*reader as usize] += viewers,
                PlacementSlot::One(reader) => unindexed_videos[*reader as usize].push((viewers, video)),
                PlacementSlot::Several(parts) => {
                    for &(reader, part) in parts {
                        if rests {
                            resting_viewers[reader as usize] += part;
                        } else {
                            several[reader as usize].push(video);
                        }
                    }
                }
            }
        }
        let size_indexes = (0..readers).map(|_| None).collect();
        Self { model, unindexed_videos, size_indexes, spread_videos: several, resting_viewers }
    }

    /// Moves excess viewers off the overloaded readers.
    fn relieve_overloaded(&mut self, over: &[u32]) {
        let room = |model: &Model, reader: u32| {
            let seat = &model.readers[reader as usize];
            seat.room_up_to(seat.upper_target)
        };
        let open: Vec<u32> = self.model.open_readers().collect();
        let mut takers: BinaryHeap<(u64, Reverse<u32>)> =
            open.iter().map(|&reader| (room(self.model, reader), Reverse(reader))).collect();
        for &giver in over {
            let seat = &self.model.readers[giver as usize];
            let why = OrderReason::Over {
                reader: giver as usize,
                load: seat.viewers_planned,
                fair: seat.fair_share,
                most: seat.overloaded_above,
            };
            self.shift_shared_viewers(giver, true, &why);
            while self.viewers_outside_tolerance(giver) > 0 {
                let Some(taker) = top_reader(&mut takers, |reader| room(self.model, reader)) else { break };
                if self.move_one_video(giver, taker, giver, &why) {
                    continue;
                }
                let settled = !is_overloaded(self.model, giver);
                if settled
                    || !(self.exchange_videos(giver, true) || self.spread_hot_to(giver, taker, giver, &why))
                {
                    break;
                }
            }
            while is_overloaded(self.model, giver) && self.pass_excess_on(giver, &why) {}
            if is_overloaded(self.model, giver) {
                self.note_reader_outside_tolerance(giver);
            }
        }
    }

    /// Moves viewers to the underloaded readers.
    fn fill_underloaded(&mut self, under: &[u32]) {
        let spare = |model: &Model, reader: u32| {
            let seat = &model.readers[reader as usize];
            seat.viewers_planned.saturating_sub(seat.lower_target)
        };
        let open: Vec<u32> = self.model.open_readers().collect();
        let mut givers: BinaryHeap<(u64, Reverse<u32>)> =
            open.iter().map(|&reader| (spare(self.model, reader), Reverse(reader))).collect();
        let mut aside = Vec::new();
        for &taker in under {
            let seat = &self.model.readers[taker as usize];
            // The reader may have got viewers from overloaded readers meanwhile, and may now have more than it needs.
            if seat.viewers_planned >= seat.lower_target {
                continue;
            }
            let why = OrderReason::Under {
                reader: taker as usize,
                load: seat.viewers_planned,
                fair: seat.fair_share,
                least: seat.underloaded_below,
            };
            self.shift_shared_viewers(taker, false, &why);
            while self.viewers_outside_tolerance(taker) > 0 {
                let Some(giver) = top_reader(&mut givers, |reader| spare(self.model, reader)) else { break };
                if !self.move_one_video(giver, taker, taker, &why) {
                    // This giver has no video of a size that fits; the next one may have.
                    aside.extend(givers.pop());
                }
            }
            givers.extend(aside.drain(..));
            while is_underloaded(self.model, taker) && self.exchange_videos(taker, false) {}
            while is_underloaded(self.model, taker) && self.supply_from_hot_videos(taker, &why) {}
            if is_underloaded(self.model, taker) {
                self.note_reader_outside_tolerance(taker);
            }
        }
    }

    /// Returns the number of viewers by which a reader is still outside half the tolerance.
    pub(super) fn viewers_outside_tolerance(&self, reader: u32) -> u64 {
        let seat = &self.model.readers[reader as usize];
        seat.viewers_planned
            .saturating_sub(seat.upper_target)
            .max(seat.lower_target.saturating_sub(seat.viewers_planned))
    }

    /// Returns the least and the greatest number of viewers that may go from `giver` to `taker`, so that `needy`, one
    /// of the two, comes within its tolerance and the other one stays within its own.
    fn viewers_reader_may_give(&self, giver: u32, taker: u32, needy: u32) -> (u64, u64) {
        let (from, to) = (&self.model.readers[giver as usize], &self.model.readers[taker as usize]);
        (
            self.viewers_outside_tolerance(needy),
            from.viewers_planned.saturating_sub(from.lower_target).min(to.room_up_to(to.upper_target)),
        )
    }

    /// Moves one video: the smallest that is enough, or else the largest that fits. Returns whether one was moved.
    fn move_one_video(&mut self, giver: u32, taker: u32, needy: u32, why: &OrderReason) -> bool {
        if giver == taker {
            return false;
        }
        let (need, most) = self.viewers_reader_may_give(giver, taker, needy);
        let most = most.min(self.model.readers[taker as usize].video_viewers_limit);
        let left = self.model.budget_left();
        let videos = self.size_index(giver);
        let found =
            videos.smallest_between(need.max(1), most).or_else(|| videos.largest_between(1, most.min(need)));
        let found = match found {
            Some(item) if item.viewer_count > left => {
                videos.largest_between(1, most.min(need).min(left)).or(found)
            }
            found => found,
        };
        let Some(IndexedVideo { index_slot: slot, viewer_count, video }) = found else { return false };
        if !self.model.take_from_budget(viewer_count) {
            return false;
        }
        self.size_index(giver).remove_slot(slot);
        self.model.move_viewers(video, Some(giver), taker, viewer_count, why.clone());
        true
    }

    pub(super) fn size_index(&mut self, reader: u32) -> &mut SizeIndex {
        let reader = reader as usize;
        let unindexed = &mut self.unindexed_videos[reader];
        self.size_indexes[reader].get_or_insert_with(|| SizeIndex::new(std::mem::take(unindexed)))
    }

    /// Shifts viewers of videos that are already on several readers. Such shifts can have the exact size needed, and no
    /// reader has to get a video ready first.
    fn shift_shared_viewers(&mut self, needy: u32, relieves: bool, why: &OrderReason) {
        for video in self.spread_videos[needy as usize].clone() {
            for (other, _) in self.model.viewers_by_reader(video) {
                let need = self.viewers_outside_tolerance(needy);
                if need == 0 {
                    return;
                }
                if other == needy || !self.model.readers[other as usize].is_open() {
                    continue;
                }
                let (giver, taker) = if relieves { (needy, other) } else { (other, needy) };
                let (from, to) = (&self.model.readers[giver as usize], &self.model.readers[taker as usize]);
                // Both go up to their fair shares only: a reader within its tolerance is not pushed to its edge for
                // another's sake.
                let most = if relieves {
                    to.room_up_to(to.fair_share)
                } else {
                    from.viewers_planned.saturating_sub(from.fair_share)
                };
                let limit = to.video_viewers_limit.saturating_sub(self.model.viewers_on(video, taker));
                let part = self.model.viewers_on(video, giver);
                let amount = need.min(most).min(limit).min(part).min(self.model.budget_left());
                if amount > 0 && self.model.take_from_budget(amount) {
                    self.model.move_viewers(video, Some(giver), taker, amount, why.clone());
                }
            }
        }
    }

    /// Exchanges a video of an overloaded reader for a smaller one (or the reverse for an underloaded one), with the
    /// readers that can take or give most. Of all sufficient pairs, about the one with the fewest viewers is
    /// exchanged. Returns whether a pair was exchanged.
    fn exchange_videos(&mut self, needy: u32, relieves: bool) -> bool {
        let mut partners: Vec<u32> = self.model.open_readers().filter(|&reader| reader != needy).collect();
        partners.sort_by_key(|&reader| {
            let seat = &self.model.readers[reader as usize];
            let above = seat.viewers_above_fair();
            (if relieves { above } else { -above }, reader)
        });
        partners.truncate(MAX_PARTNERS);
        // First an exchange that is enough at once is tried, then one that achieves at least a quarter of that.
        [1, 4]
            .iter()
            .any(|part| partners.iter().any(|&partner| self.exchange_with(needy, partner, relieves, *part)))
    }

    fn exchange_with(&mut self, needy: u32, partner: u32, relieves: bool, part: u64) -> bool {
        let (giver, taker) = if relieves { (needy, partner) } else { (partner, needy) };
        let (need, most) = self.viewers_reader_may_give(giver, taker, needy);
        // The video that comes back must not come to a reader that is over its capacity even after the exchange.
        let seat = &self.model.readers[giver as usize];
        let need = need.div_ceil(part).max(seat.viewers_planned.saturating_sub(seat.capacity)).max(1);
        if need > most {
            return false;
        }
        let limit = self.model.readers[taker as usize].video_viewers_limit;
        let back_limit = self.model.readers[giver as usize].video_viewers_limit;
        let (mut large, mut small) = (self.take_size_index(giver), self.take_size_index(taker));
        let pair = cheapest_pair(&mut large, &mut small, need, most, limit, back_limit);
        let done = pair.is_some_and(|(there, back)| {
            let admitted = self.model.take_from_budget(there.viewer_count.saturating_add(back.viewer_count));
            if admitted {
                let seat = &self.model.readers[needy as usize];
                let (load, fair) = (seat.viewers_planned, seat.fair_share);
                let why = |with: u32| OrderReason::Exchange {
                    with: with as usize,
                    reader: needy as usize,
                    load,
                    fair,
                };
                large.remove_slot(there.index_slot);
                small.remove_slot(back.index_slot);
                self.model.move_viewers(back.video, Some(taker), giver, back.viewer_count, why(there.video));
                self.model.move_viewers(there.video, Some(giver), taker, there.viewer_count, why(back.video));
            }
            admitted
        });
        self.size_indexes[giver as usize] = Some(large);
        self.size_indexes[taker as usize] = Some(small);
        done
    }

    pub(super) fn take_size_index(&mut self, reader: u32) -> SizeIndex {
        self.size_index(reader);
        self.size_indexes[reader as usize].take().expect("made above")
    }

    /// Moves viewers of a hot video from a reader that has it to one more reader. Returns whether it moved any.
    fn spread_hot_to(&mut self, giver: u32, taker: u32, needy: u32, why: &OrderReason) -> bool {
        let (need, most) = self.viewers_reader_may_give(giver, taker, needy);
        let hot = self.hottest_video(giver, taker);
        let Some((part, video)) = hot else { return false };
        let limit = self.model.readers[taker as usize].video_viewers_limit;
        let amount = need.min(most).min(part).min(limit).min(self.model.budget_left());
        if amount == 0 || !self.model.take_from_budget(amount) {
            return false;
        }
        self.model.move_viewers(video, Some(giver), taker, amount, why.clone());
        if !self.spread_videos[giver as usize].contains(&video) {
            self.spread_videos[giver as usize].push(video);
            // The video must no longer be moved as a whole.
            self.size_index(giver).remove(part, video);
        }
        true
    }

    /// Returns the video with the most viewers on `giver` that may be on one more reader and is not on `taker`.
    fn hottest_video(&mut self, giver: u32, taker: u32) -> Option<(u64, u32)> {
        let model = &*self.model;
        let fits = |video: u32| model.may_spread(video) && !model.is_video_on_reader(video, taker);
        let several = self.spread_videos[giver as usize].iter().copied().filter(|&video| fits(video));
        let several = several.map(|video| (model.viewers_on(video, giver), video)).filter(|hot| hot.0 > 0);
        let several = several.max_by_key(|&(part, video)| (part, Reverse(video)));
        let single =
            self.size_index(giver).largest_between(1, u64::MAX).map(|item| (item.viewer_count, item.video));
        let single = single.filter(|&(_, video)| {
            self.model.may_spread(video)
                && self.model.reader_count(video) == 1
                && self.model.is_video_on_reader(video, giver)
        });
        several.max(single)
    }

    fn supply_from_hot_videos(&mut self, taker: u32, why: &OrderReason) -> bool {
        let mut givers: Vec<u32> = self.model.open_readers().filter(|&reader| reader != taker).collect();
        givers.sort_by_key(|&reader| {
            let seat = &self.model.readers[reader as usize];
            (Reverse(seat.viewers_above_fair()), reader)
        });
        givers.into_iter().any(|giver| self.spread_hot_to(giver, taker, taker, why))
    }

    fn note_reader_outside_tolerance(&mut self, reader: u32) {
        let off = self.viewers_outside_tolerance(reader);
        let because = match () {
            () if self.model.budget_left() == 0
                || self.model.reached_limits.contains(&ReachedLimit::Budget) =>
            {
                ReachedLimit::Budget
            }
            () if self.resting_viewers.iter().any(|&viewers| viewers > 0) => ReachedLimit::Rest,
            () => ReachedLimit::Granularity,
        };
        self.model.note_rejected(ChangeKind::Move, None, Some(reader), off, because);
    }
}

/// Returns the reader on top of the heap, after correcting outdated keys; `None` if its key is 0.
fn top_reader(heap: &mut BinaryHeap<(u64, Reverse<u32>)>, now: impl Fn(u32) -> u64) -> Option<u32> {
    while let Some(mut top) = heap.peek_mut() {
        let reader = top.1.0;
        let key = now(reader);
        if top.0 == key {
            return (key > 0).then_some(reader);
        }
        // Keys that have grown since are found late; this costs a little evenness within the tolerance, and nothing
        // else.
        top.0 = key;
    }
    None
}

/// Returns a large and a small video whose sizes differ by `need..=most`: the smallest large one that has a partner.
fn cheapest_pair(
    large: &mut SizeIndex,
    small: &mut SizeIndex,
    need: u64,
    most: u64,
    limit: u64,
    back_limit: u64,
) -> Option<(IndexedVideo, IndexedVideo)> {
    let mut from = need + 1;
    while let Some(there) = large.smallest_between(from, limit) {
        let (least, upper) =
            (there.viewer_count.saturating_sub(most).max(1), (there.viewer_count - need).min(back_limit));
        if let Some(back) = small.largest_between(least, upper) {
            return Some((there, back));
        }
        // The next video has another size, because those of the same size have no partner either.
        from = there.viewer_count + 1;
    }
    None
}
