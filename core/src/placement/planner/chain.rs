//! Chains: the viewers that are too many on one reader are passed through a second reader to others.
//!
//! A reader with a few large videos can be too full by an amount that none of its videos has, while the free room is
//! in small amounts on many readers. Then neither a move nor an exchange of two videos helps. A chain helps, as giving
//! change does with coins: a partner with small videos takes the excess, either as viewers of a hot video that both
//! serve or as a large video in exchange for several smaller ones, and gives away as much in small videos to readers
//! with room. The whole chain is computed before any of it is carried out, so that no reader is left outside the
//! tolerance by half a chain.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::balance::{Balancer, MAX_PARTNERS};
use super::size_index::{IndexedVideo, SizeIndex};
use crate::placement::plan::OrderReason;

/// The videos that leave a reader, each with the reader that gets it.
type VideoRoutes = Vec<(IndexedVideo, u32)>;

/// The most videos of a reader that are tried, the smallest sufficient ones first: a larger one only moves more
/// viewers.
const MAX_VIDEOS_TRIED: usize = 8;

/// An exchange of a large video, or of a reader's whole part of a hot one, for several smaller videos.
struct VideoExchange {
    large: (u64, u32),
    small: Vec<IndexedVideo>,
}

impl Balancer<'_, '_> {
    /// Moves an overloaded reader's excess, or a part of it, through another reader. Returns whether that worked.
    pub(super) fn pass_excess_on(&mut self, giver: u32, why: &OrderReason) -> bool {
        self.pass_hot_viewers(giver, why) || [1, 4].iter().any(|part| self.pass_exchange(giver, *part, why))
    }

    /// Passes viewers of a hot video to a partner that serves the video or may do so. Returns whether that worked.
    fn pass_hot_viewers(&mut self, giver: u32, why: &OrderReason) -> bool {
        let fine = self.readers_with_most_videos(giver);
        for video in self.spread_videos[giver as usize].clone() {
            let mut partners: Vec<u32> =
                self.model.viewers_by_reader(video).into_iter().map(|part| part.0).collect();
            if self.model.may_spread(video) {
                partners.extend(&fine);
            }
            for partner in partners {
                if partner != giver && self.pass_hot_through(partner, giver, video, why) {
                    return true;
                }
            }
        }
        false
    }

    fn pass_hot_through(&mut self, partner: u32, giver: u32, video: u32, why: &OrderReason) -> bool {
        let seat = &self.model.readers[partner as usize];
        let (open, room) = (seat.is_open(), seat.room_up_to(seat.overloaded_above));
        let limit = seat.video_viewers_limit.saturating_sub(self.model.viewers_on(video, partner));
        let excess =
            self.viewers_outside_tolerance(giver).min(limit).min(self.model.viewers_on(video, giver));
        // A partner that is overloaded itself is no help.
        if !open || excess == 0 || seat.viewers_planned > seat.usable_capacity() {
            return false;
        }
        let routes = self.find_routes(partner, giver, excess.saturating_sub(room), &[]);
        let out: u64 = routes.iter().map(|route| route.0.viewer_count).sum();
        let amount = excess.min(room + out);
        // Less than an eighth of the excess is not worth changing another reader.
        if amount < self.viewers_outside_tolerance(giver).div_ceil(8)
            || !self.take_budget_with_routes(amount, &routes)
        {
            return false;
        }
        self.carry_out_routes(partner, &routes, why);
        self.model.move_viewers(video, Some(giver), partner, amount, why.clone());
        true
    }

    /// Returns the readers with the most videos; these are the readers with small videos.
    fn readers_with_most_videos(&self, giver: u32) -> Vec<u32> {
        let mut partners: Vec<u32> = self.model.open_readers().filter(|&reader| reader != giver).collect();
        partners.sort_by_key(|&reader| (Reverse(self.model.readers[reader as usize].video_count), reader));
        partners.truncate(MAX_PARTNERS);
        partners
    }

    /// Exchanges a large video for several smaller ones, so that at least one `part`-th of the excess leaves the
    /// giver. Returns whether that worked.
    fn pass_exchange(&mut self, giver: u32, part: u64, why: &OrderReason) -> bool {
        for partner in self.readers_with_most_videos(giver) {
            let seat = &self.model.readers[giver as usize];
            // The videos that come back must not come to a reader that is over its capacity even after the exchange.
            let least = self
                .viewers_outside_tolerance(giver)
                .div_ceil(part)
                .max(seat.viewers_planned.saturating_sub(seat.capacity));
            let most = seat.viewers_planned - seat.lower_target;
            let mut large = self.large_videos(giver, partner);
            large.retain(|large| large.0 >= least);
            let tried = find_exchanges(&large, self.size_index(partner), least, most);
            if tried.iter().any(|change| self.try_exchange(giver, partner, change, why)) {
                return true;
            }
        }
        false
    }

    /// Returns the videos, or whole parts of videos, that `giver` has and `partner` could have instead, the smallest
    /// first.
    fn large_videos(&mut self, giver: u32, partner: u32) -> Vec<(u64, u32)> {
        let mut large: Vec<(u64, u32)> =
            self.size_index(giver).largest_first().map(|item| (item.viewer_count, item.video)).collect();
        let several = self.spread_videos[giver as usize].iter().copied();
        let several = several.filter(|&video| !self.model.is_video_on_reader(video, partner));
        large.extend(
            several.map(|video| (self.model.viewers_on(video, giver), video)).filter(|large| large.0 > 0),
        );
        large.sort_unstable();
        large
    }

    fn try_exchange(&mut self, giver: u32, partner: u32, change: &VideoExchange, why: &OrderReason) -> bool {
        let back: u64 = change.small.iter().map(|item| item.viewer_count).sum();
        let (from, to) = (&self.model.readers[giver as usize], &self.model.readers[partner as usize]);
        if change.large.0 > to.video_viewers_limit
            || change.small.iter().any(|item| item.viewer_count > from.video_viewers_limit)
        {
            return false;
        }
        let over = (to.viewers_planned + change.large.0).saturating_sub(to.usable_capacity() + back);
        let routes = self.find_routes(partner, giver, over, &change.small);
        if routes.iter().map(|route| route.0.viewer_count).sum::<u64>() < over {
            return false;
        }
        if !self.take_budget_with_routes(change.large.0 + back, &routes) {
            return false;
        }
        self.carry_out_routes(partner, &routes, why);
        let small: VideoRoutes = change.small.iter().map(|&item| (item, giver)).collect();
        self.carry_out_routes(partner, &small, why);
        let (viewers, video) = change.large;
        self.size_index(giver).remove(viewers, video);
        self.model.move_viewers(video, Some(giver), partner, viewers, why.clone());
        true
    }

    fn take_budget_with_routes(&mut self, viewers: u64, routes: &[(IndexedVideo, u32)]) -> bool {
        let sum = routes.iter().fold(viewers, |sum, (item, _)| sum.saturating_add(item.viewer_count));
        self.model.take_from_budget(sum)
    }

    /// Finds readers, other than `giver`, that can take about `over` viewers in videos of `from` and stay within their
    /// tolerance; the videos `kept` stay. The result may be a little more than `over` if there are no smaller videos,
    /// and less if there is not enough room.
    fn find_routes(&mut self, from: u32, giver: u32, over: u64, kept: &[IndexedVideo]) -> VideoRoutes {
        let seat = &self.model.readers[from as usize];
        // The reader gives no more than down to the lower half of its tolerance.
        let most = over + (seat.upper_target - seat.lower_target);
        let others = self.model.open_readers().filter(|&reader| reader != from && reader != giver);
        let room = |reader: u32| {
            let seat = &self.model.readers[reader as usize];
            seat.room_up_to(seat.overloaded_above)
        };
        let mut rooms: BinaryHeap<(u64, Reverse<u32>)> =
            others.map(|reader| (room(reader), Reverse(reader))).filter(|room| room.0 > 0).collect();
        let mut routes = Vec::new();
        let mut out = 0;
        for item in self.size_index(from).largest_first() {
            if out >= over {
                break;
            }
            let Some(mut top) = rooms.peek_mut() else { break };
            if item.viewer_count > top.0 || out + item.viewer_count > most || kept.contains(&item) {
                continue;
            }
            out += item.viewer_count;
            routes.push((item, top.1.0));
            top.0 -= item.viewer_count;
        }
        routes
    }

    fn carry_out_routes(&mut self, from: u32, routes: &[(IndexedVideo, u32)], why: &OrderReason) {
        for &(item, to) in routes {
            self.size_index(from).remove_slot(item.index_slot);
            self.model.move_viewers(item.video, Some(from), to, item.viewer_count, why.clone());
        }
    }
}

/// Finds exchanges of a large video for smaller ones by which, on balance, between `least` and `most` viewers leave.
fn find_exchanges(large: &[(u64, u32)], small: &SizeIndex, least: u64, most: u64) -> Vec<VideoExchange> {
    let mut found = Vec::new();
    for &(viewers, video) in large {
        let upper = viewers - least;
        let mut sum = 0;
        let mut back = Vec::new();
        for candidate in small.largest_first() {
            if sum + most >= viewers {
                break;
            }
            if sum + candidate.viewer_count <= upper {
                sum += candidate.viewer_count;
                back.push(candidate);
            }
        }
        if sum + most >= viewers {
            found.push(VideoExchange { large: (viewers, video), small: back });
        }
        if found.len() == MAX_VIDEOS_TRIED {
            break;
        }
    }
    found
}
