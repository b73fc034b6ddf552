//! What the planner looks at.
//!
//! Readers are named by their position in [`Situation::readers`], videos by theirs in [`Situation::videos`]: a plan over
//! 90,000 videos then compares integers and not names. [`Situation::in_name_order`] makes positions the same for everybody who
//! knows the same facts, whatever order they were gathered in.

use serde::{Deserialize, Serialize};

use crate::handover::ReaderShare;
use crate::{Millis, ReaderId, VideoId};

/// A whole: shares are parts in a million, so that a share of a million viewers is exact to the viewer.
pub const WHOLE_SHARE: u32 = 1_000_000;

/// Everything a plan is made from; the same situation and limits give the same plan, always and everywhere.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Situation {
    /// The time of the situation.
    pub now: Millis,
    /// Every reader that lives. A dead one is left out, together with the parts of videos it held.
    pub readers: Vec<PlacementReader>,
    /// Every video that is assigned or has viewers.
    pub videos: Vec<PlacementVideo>,
}

/// A reader, as the planner sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacementReader {
    /// Its name.
    pub id: ReaderId,
    /// Viewers it can hold; 0 counts as 1. Readers carry viewers in proportion to it.
    pub capacity: u64,
    /// Whether the reader takes viewers.
    pub standing: ReaderAvailability,
}

/// Whether a reader takes viewers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReaderAvailability {
    /// Takes viewers.
    Open,
    /// Takes none and keeps what it has: under suspicion, or too young to know. It does not count in a fair share.
    Closed,
    /// Takes none and is to be emptied: cordoned, or on its way out.
    Draining,
}

/// A video, as the planner sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacementVideo {
    /// Its name.
    pub id: VideoId,
    /// The epoch of its assignment, which orders repeat as the one they expect; 0 where it has none.
    pub epoch: u64,
    /// When its assignment last changed; it is left alone for [`PlanLimits::rest_ms`] after it, but for drains.
    pub changed: Millis,
    /// Viewers with no reader at all now: of a dead one, or on their way. They count where the video is served.
    pub waiting: u64,
    /// A hand-over is under way: its viewers count where they are going, by the shares, and it is left alone but for drains.
    pub moving: bool,
    /// Its readers, and those that still have viewers of it to hand over (their share is 0).
    pub parts: Vec<VideoPart>,
}

/// One reader's part of a video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VideoPart {
    /// The reader's position in [`Situation::readers`].
    pub reader: usize,
    /// Viewers there: now in a [`Situation`], and in an order what it leads to.
    pub viewers: u64,
    /// What it is to hold of the video's viewers, in millionths ([`WHOLE_SHARE`]); 0 where it is not assigned to it any more.
    pub share: u32,
}

/// The limits that a plan keeps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanLimits {
    /// A video with more viewers than this on one reader is spread over several.
    pub hot_video_viewers: u64,
    /// How far a reader may be from its fair share before viewers are moved for balance, in thousandths of that share.
    /// What is moved is moved to within half of it.
    pub tolerance: u32,
    /// Nothing is moved for balance where a reader is off by fewer viewers than this, whatever the tolerance says:
    /// on a small system a tenth of a fair share is nobody.
    pub floor_viewers: u64,
    /// A video is drawn together when its viewers fit into one reader fewer with this much of the limit in use, in
    /// thousandths; below 1,000, so that a video at the limit is not split and joined in turn.
    pub join_below: u32,
    /// The most readers a video is spread over: each gets every comment of it.
    pub max_readers_per_video: usize,
    /// How long an assignment is left alone after a change, except by drains and for the sake of viewers without a
    /// reader, in milliseconds: the reports of it need time to arrive.
    pub rest_ms: Millis,
    /// False: only what safety asks for (viewers without a reader, drains), nothing for balance or heat.
    pub rebalance: bool,
    /// How many viewers may be moved.
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

/// The number of viewers that may be moved: a bucket that fills at the permitted rate. To place viewers without a reader takes
/// nothing out of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewerMoveBudget {
    /// What is in the bucket now. A plan moves no more, except that a full bucket admits one order larger than itself
    /// when nothing else is moved (it would otherwise never be); whoever keeps the bucket then lets it go below zero.
    pub available: u64,
    /// What it holds when full: usually what may be moved in a minute.
    pub full: u64,
}

impl ViewerMoveBudget {
    /// A full bucket of this size.
    pub const fn full_bucket(viewers: u64) -> Self {
        Self { available: viewers, full: viewers }
    }

    /// No limit at all.
    pub const fn without_limit() -> Self {
        Self::full_bucket(u64::MAX)
    }
}

impl Situation {
    /// The same facts with readers and videos in the order of their names and parts in the order of readers, so that
    /// everybody who gathered them plans the same. Parts of readers that are not there become waiting viewers, several
    /// parts on one reader become one.
    #[must_use]
    pub fn in_name_order(mut self) -> Self {
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

    /// What the situation is once a plan for it has been carried out at `now`: every viewer where the plan leads it.
    /// For simulations and for tests; epochs grow by one.
    pub fn apply_plan(&mut self, plan: &super::Plan, now: Millis) {
        for order in &plan.orders {
            let video = &mut self.videos[order.video];
            video.parts.clone_from(&order.to);
            video.waiting = 0;
            video.epoch += 1;
            video.changed = now;
        }
    }

    /// Parts as the readers of an assignment, weighted in millionths. Those without a share are left out.
    pub fn shares_of_parts(&self, parts: &[VideoPart]) -> Vec<ReaderShare> {
        let share = |part: &VideoPart| ReaderShare {
            reader: self.readers[part.reader].id.clone(),
            weight: part.share,
        };
        parts.iter().filter(|part| part.share > 0).map(share).collect()
    }
}

impl PlacementVideo {
    /// Gives the parts the shares of an assignment, and those that are none of it none. `index` finds readers in the
    /// situation; those that are not there are passed over.
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

    /// All its viewers, wherever they are.
    pub fn viewers(&self) -> u64 {
        self.parts.iter().fold(self.waiting, |sum, part| sum.saturating_add(part.viewers))
    }
}
