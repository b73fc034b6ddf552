//! The input of the planner: readers, videos, limits and the budget.
//!
//! Readers are identified by their position in [`Situation::readers`], videos by theirs in [`Situation::videos`], so
//! that a plan over 90,000 videos compares integers and not names. [`Situation::sorted_by_name`] makes the positions
//! the same for everybody who has the same facts, whatever the order in which they were collected.

use serde::{Deserialize, Serialize};

use crate::handover::ReaderShare;
use crate::{Millis, ReaderId, VideoId};

/// The share of a whole video: shares are millionths, so that a share of a million viewers is exact to one viewer.
pub const WHOLE_SHARE: u32 = 1_000_000;

/// The situation of the system, from which a plan is made; the same situation and limits always give the same plan.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Situation {
    /// The time of the situation, in milliseconds since the Unix epoch.
    pub now: Millis,
    /// The readers that are alive. A dead reader is left out, together with its parts of videos.
    pub readers: Vec<PlacementReader>,
    /// The videos that are assigned or have viewers.
    pub videos: Vec<PlacementVideo>,
}

/// A reader, as the planner sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacementReader {
    /// The id of the reader.
    pub id: ReaderId,
    /// The number of viewers that the reader can hold; 0 counts as 1. Fair shares are in proportion to the capacity.
    pub capacity: u64,
    /// The reader's availability: open, closed or draining.
    pub standing: ReaderAvailability,
}

/// The availability of a reader: whether the reader accepts viewers, and whether it keeps those that it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReaderAvailability {
    /// The reader accepts viewers.
    Open,
    /// The reader accepts no viewers and keeps those that it has: it is suspect, or too young to be known. A closed
    /// reader does not count in fair shares.
    Closed,
    /// The reader accepts no viewers and is to be emptied: it is cordoned, or it is shutting down.
    Draining,
}

/// A video, as the planner sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacementVideo {
    /// The id of the video.
    pub id: VideoId,
    /// The epoch of the video's assignment, which orders name as the epoch that they replace; 0 if the video has no
    /// assignment.
    pub epoch: u64,
    /// The time at which the video's assignment last changed. Until [`PlanLimits::rest_ms`] after that time, only
    /// drains change the video.
    pub changed: Millis,
    /// The number of viewers who have no reader now: theirs has died, or they are on their way. Waiting viewers count
    /// at the video's readers.
    pub waiting: u64,
    /// Whether a hand-over of the video is under way. Meanwhile the video's viewers count at the readers they go to,
    /// by the shares, and only drains change the video.
    pub moving: bool,
    /// The video's readers, and former readers that still have viewers of it to hand over (with a share of 0).
    pub parts: Vec<VideoPart>,
}

/// The part of a video that one reader has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VideoPart {
    /// The position of the reader in [`Situation::readers`].
    pub reader: usize,
    /// The number of the video's viewers on the reader: now in a [`Situation`], and in an order the number that it
    /// leads to.
    pub viewers: u64,
    /// The reader's share of the video's viewers, in millionths ([`WHOLE_SHARE`]); 0 if the video is no longer
    /// assigned to the reader.
    pub share: u32,
}

/// The limits that a plan keeps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanLimits {
    /// The most viewers of one video on one reader; a video with more is spread over several readers.
    pub hot_video_viewers: u64,
    /// The tolerance around a reader's fair share, in thousandths of that share: only outside it are viewers moved for
    /// balance. Viewers are then moved until the reader is within half the tolerance.
    pub tolerance: u32,
    /// The least tolerance in viewers: for balance, nothing is moved if a reader differs by fewer viewers than this
    /// from its fair share. In a small system, a tenth of a fair share may be less than one viewer.
    pub floor_viewers: u64,
    /// The part of the hot-video limit, in thousandths, at which a video is joined: its viewers must fit into one
    /// reader fewer, each with at most this part of the limit. The part is below 1,000, so that a video at the limit
    /// is not split and joined in turn.
    pub join_below: u32,
    /// The most readers of one video: each of them gets every comment of the video.
    pub max_readers_per_video: usize,
    /// The time for which an assignment is not changed again, in milliseconds, because reports about the change need
    /// time to arrive. Drains and viewers without a reader are exempt.
    pub rest_ms: Millis,
    /// Whether to move viewers for balance and heat. If false, only what safety demands is done: viewers without a
    /// reader, and drains.
    pub rebalance: bool,
    /// The number of viewers that may be moved.
    pub budget: ViewerMoveBudget,
}

impl Default for PlanLimits {
    fn default() -> Self {
        Self {
            hot_video_viewers: 15_000,
            tolerance: 100,
            floor_viewers: 25,
            join_below: 700,
            max_readers_per_video: 500,
            rest_ms: 30_000,
            rebalance: true,
            budget: ViewerMoveBudget::full_bucket(20_000),
        }
    }
}

/// The budget of viewers that may be moved: a bucket that fills at the permitted rate. Placing viewers who have no
/// reader takes nothing from the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewerMoveBudget {
    /// The number of viewers in the bucket now. A plan moves no more than this, with one exception: a full bucket
    /// admits one order larger than itself, if nothing else is moved (otherwise such an order would never be
    /// possible). The keeper of the bucket then lets its level go below zero.
    pub available: u64,
    /// The number of viewers in a full bucket: usually the number that may be moved in a minute.
    pub full: u64,
}

impl ViewerMoveBudget {
    /// Makes a full bucket of this size.
    pub const fn full_bucket(viewers: u64) -> Self {
        Self { available: viewers, full: viewers }
    }

    /// Makes a budget without a limit.
    pub const fn without_limit() -> Self {
        Self::full_bucket(u64::MAX)
    }
}

impl Situation {
    /// Returns the same facts with readers and videos sorted by name and parts sorted by reader, so that everybody who
    /// collected them plans the same. Parts of unknown readers become waiting viewers, and several parts on one reader
    /// become one.
    #[must_use]
    pub fn sorted_by_name(mut self) -> Self {
        let mut order: Vec<usize> = (0..self.readers.len()).collect();
        order.sort_by(|&a, &b| self.readers[a].id.cmp(&self.readers[b].id));
        let mut at = vec![0; order.len()];
        for (new, &old) in order.iter().enumerate() {
            at[old] = new;
        }
        self.readers = order.iter().map(|&old| self.readers[old].clone()).collect();
        self.videos.sort_by(|a, b| a.id.cmp(&b.id));
        for video in &mut self.videos {
            let parts = std::mem::take(&mut video.parts);
            for part in parts {
                match at.get(part.reader) {
                    Some(&reader) => video.parts.push(VideoPart { reader, ..part }),
                    None => video.waiting += part.viewers,
                }
            }
            video.parts.sort_by_key(|part| part.reader);
            video.parts.dedup_by(|next, kept| {
                let same = next.reader == kept.reader;
                if same {
                    kept.viewers += next.viewers;
                    kept.share = kept.share.saturating_add(next.share).min(WHOLE_SHARE);
                }
                same
            });
        }
        self
    }

    /// Converts parts to the readers of an assignment, with weights in millionths. Parts without a share are left out.
    pub fn shares_of_parts(&self, parts: &[VideoPart]) -> Vec<ReaderShare> {
        let share = |part: &VideoPart| ReaderShare {
            reader: self.readers[part.reader].id.clone(),
            weight: part.share,
        };
        parts.iter().filter(|part| part.share > 0).map(share).collect()
    }
}

impl PlacementVideo {
    /// Sets the shares of the video's parts to those of an assignment, and to 0 for readers that are not in the
    /// assignment. `index` returns the position of a reader in the situation; readers without a position are ignored.
    pub fn set_shares(&mut self, shares: &[ReaderShare], index: impl Fn(&ReaderId) -> Option<usize>) {
        self.parts.iter_mut().for_each(|part| part.share = 0);
        let all: u64 = shares.iter().map(|share| u64::from(share.weight)).sum();
        for share in shares {
            let Some(reader) = index(&share.reader) else { continue };
            let millionths =
                (u64::from(share.weight) * u64::from(WHOLE_SHARE)).checked_div(all).unwrap_or(0) as u32;
            match self.parts.iter_mut().find(|part| part.reader == reader) {
                Some(part) => part.share = millionths,
                None => self.parts.push(VideoPart { reader, viewers: 0, share: millionths }),
            }
        }
        self.parts.sort_by_key(|part| part.reader);
    }

    /// Returns the number of all viewers of the video, on any reader or waiting.
    pub fn viewers(&self) -> u64 {
        self.parts.iter().fold(self.waiting, |sum, part| sum.saturating_add(part.viewers))
    }
}
