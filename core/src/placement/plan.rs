//! The result of the planner: orders, their reasons, and what limited the plan.

use serde::{Deserialize, Serialize};

use super::situation::{Situation, VideoPart};
use crate::Millis;

/// A plan: its orders, their effect, and the limits that kept it from doing more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The orders, at most one per video, in the order in which they are to be carried out: viewers without a reader,
    /// drains, splits, joins, then moves for balance, most urgent first.
    pub orders: Vec<PlannedOrder>,
    /// The balance of the viewers before the plan.
    pub before: ViewerBalance,
    /// The balance of the viewers after the orders were carried out.
    pub after: ViewerBalance,
    /// The number of viewers that the orders move, without those that had no reader before.
    pub moved: u64,
    /// The limits that kept the plan from doing more, each once.
    pub bound_by: Vec<ReachedLimit>,
    /// The changes that were wanted and are not in the plan: the largest ones by viewers, at most
    /// [`Plan::MAX_REJECTED`].
    pub rejected: Vec<RejectedChange>,
}

impl Plan {
    /// The most rejected changes that a plan lists: they are for people to read.
    pub const MAX_REJECTED: usize = 32;
}

impl Situation {
    /// Changes the situation to the one after `plan` was carried out at `now`: every viewer is where the plan puts it.
    /// For simulations and for tests; epochs grow by one.
    pub fn apply_plan(&mut self, plan: &Plan, now: Millis) {
        for order in &plan.orders {
            let video = &mut self.videos[order.video];
            video.parts.clone_from(&order.to);
            video.waiting = 0;
            video.epoch += 1;
            video.changed = now;
        }
    }
}

/// An order of the planner: one change of one video's readers. An order is a compare-and-set from the epoch that it
/// expects, then a hand-over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedOrder {
    /// The position of the video in [`Situation::videos`].
    pub video: usize,
    /// The epoch of the assignment that the order expects to replace.
    pub epoch: u64,
    /// The kind of the change.
    pub kind: ChangeKind,
    /// The parts that the video has now, sorted by reader, without readers that only hand over what they still have.
    /// Waiting viewers and viewers on their way are counted at the readers they go to.
    pub from: Vec<VideoPart>,
    /// The parts that the video is to have, sorted by reader; their shares sum to [`super::situation::WHOLE_SHARE`],
    /// and none is 0.
    pub to: Vec<VideoPart>,
    /// The number of viewers that leave a reader.
    pub moved: u64,
    /// The reason of the order.
    pub why: OrderReason,
}

/// The kind of a change to a video's readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// A video without a reader gets one, or several.
    Place,
    /// Viewers of the video leave a reader that is to be emptied.
    Drain,
    /// The video gets more readers.
    Split,
    /// The video gets fewer readers.
    Join,
    /// The video, or a part of it, moves to other readers; their number stays the same.
    Move,
    /// The video changes places with another video, because neither could move alone.
    Swap,
    /// The video's readers stay the same, their shares of it change.
    Reshare,
}

impl ChangeKind {
    /// Returns the kind's name in JSON and in labels of metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Place => "place",
            Self::Drain => "drain",
            Self::Split => "split",
            Self::Join => "join",
            Self::Move => "move",
            Self::Swap => "swap",
            Self::Reshare => "reshare",
        }
    }
}

impl std::fmt::Display for ChangeKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The reason of an order, with the numbers it is based on. [`PlannedOrder::explain`] puts it into words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OrderReason {
    /// No reader served the video.
    Unserved {
        /// The number of viewers that wait for a reader.
        waiting: u64,
    },
    /// A reader of the video is to be emptied.
    Emptying {
        /// The position of that reader in the situation.
        reader: usize,
        /// The number of viewers that the reader had when the plan began.
        load: u64,
    },
    /// Too many viewers of the video are on one reader.
    Hot {
        /// The position of the reader with the most viewers of the video.
        reader: usize,
        /// The number of the video's viewers on that reader.
        viewers: u64,
        /// The most viewers of one video that this reader may have.
        limit: u64,
        /// Whether the limit comes from the reader's fair share with the tolerance, and not from the setting for hot
        /// videos.
        by_share: bool,
    },
    /// The video has cooled: fewer readers are enough for it.
    Cooled {
        /// The number of all viewers of the video.
        viewers: u64,
        /// The number of viewers at or below which the video is joined onto one reader fewer.
        below: u64,
    },
    /// A reader has more viewers than its fair share with the tolerance, or than it can hold.
    Over {
        /// The position of that reader in the situation.
        reader: usize,
        /// The number of viewers that the reader had when this was decided.
        load: u64,
        /// The reader's fair share of all viewers.
        fair: u64,
        /// The greatest number of viewers within the tolerance.
        most: u64,
    },
    /// A reader has fewer viewers than its fair share without the tolerance.
    Under {
        /// The position of that reader in the situation.
        reader: usize,
        /// The number of viewers that the reader had when this was decided.
        load: u64,
        /// The reader's fair share of all viewers.
        fair: u64,
        /// The least number of viewers within the tolerance.
        least: u64,
    },
    /// A reader is above or below its fair share, and the video is exchanged for another one.
    Exchange {
        /// The position of the other video in the situation.
        with: usize,
        /// The position of the overloaded or underloaded reader in the situation.
        reader: usize,
        /// The number of viewers that the reader had when this was decided.
        load: u64,
        /// The reader's fair share of all viewers.
        fair: u64,
    },
}

/// The balance of a situation: how evenly the viewers are spread over the open readers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewerBalance {
    /// The number of all viewers, on any reader or waiting.
    pub viewers: u64,
    /// The number of viewers on readers that are to be emptied.
    pub on_draining: u64,
    /// The number of viewers without a reader.
    pub waiting: u64,
    /// The number of open readers.
    pub readers: usize,
    /// The number of open readers whose load is outside the tolerance.
    pub outside: usize,
    /// The fullest open reader's load over its fair share, in millionths; 0 without viewers or readers.
    pub max_over_mean: u64,
    /// The emptiest open reader's load over its fair share, in millionths; 0 without viewers or readers.
    pub min_over_mean: u64,
    /// The sum of the viewers above fair shares: the least number that has to move for perfect balance.
    pub excess: u64,
    /// The greatest part of its capacity that any open reader has in use, in thousandths.
    pub max_utilisation: u64,
}

/// A limit that kept a plan from doing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ReachedLimit {
    /// The budget of viewers that may be moved is spent.
    Budget,
    /// The readers have no more capacity.
    Capacity,
    /// No reader is open.
    NoOpenReader,
    /// Videos must not be changed yet: they were changed a short time ago, or are still being moved.
    Rest,
    /// Videos are too large to even the readers out, and too small to be split.
    Granularity,
    /// Videos are on as many readers as a video may have.
    MaxReaders,
    /// Rebalancing is paused: only what safety demands is done.
    SafetyOnly,
}

/// A change that was wanted and is not in the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedChange {
    /// The kind of the change.
    pub kind: ChangeKind,
    /// The position of the video, if the change is about one.
    pub video: Option<usize>,
    /// The position of the reader, if the change is about one.
    pub reader: Option<usize>,
    /// The number of viewers that the change concerns.
    pub viewers: u64,
    /// The limit that prevented the change.
    pub because: ReachedLimit,
}

impl PlannedOrder {
    /// Describes the reason of the order in words and numbers.
    pub fn explain(&self, situation: &Situation) -> String {
        let reader = |at: &usize| situation.readers[*at].id.as_str();
        match &self.why {
            OrderReason::Unserved { waiting } => format!("no reader serves it; {waiting} viewers wait"),
            OrderReason::Emptying { reader: at, load } => {
                format!("{} with {load} viewers is to be emptied", reader(at))
            }
            OrderReason::Hot { reader: at, viewers, limit, by_share } => {
                let limit_of =
                    if *by_share { "its fair share with the tolerance is" } else { "a hot video may have" };
                format!("{viewers} of its viewers are on {}; {limit_of} {limit}", reader(at))
            }
            OrderReason::Cooled { viewers, below } => {
                format!("it has cooled to {viewers} viewers; one reader fewer will do up to {below}")
            }
            OrderReason::Over { reader: at, load, fair, most } => {
                format!("{} has {load} viewers; its fair share is {fair}, the most {most}", reader(at))
            }
            OrderReason::Under { reader: at, load, fair, least } => {
                format!("{} has {load} viewers; its fair share is {fair}, the least {least}", reader(at))
            }
            OrderReason::Exchange { with, reader: at, load, fair } => {
                let with = situation.videos[*with].id.as_str();
                let reader = reader(at);
                format!(
                    "{reader} has {load} viewers, its fair share is {fair}; changes places with video {with}"
                )
            }
        }
    }
}

impl RejectedChange {
    /// Describes the change that was not made, and the reason, in words and numbers.
    pub fn explain(&self, situation: &Situation) -> String {
        let video = self.video.map(|at| format!(" of video {}", situation.videos[at].id)).unwrap_or_default();
        let reader = self.reader.map(|at| format!(" on {}", situation.readers[at].id)).unwrap_or_default();
        let because = match self.because {
            ReachedLimit::Budget => "the budget of viewers to move is spent",
            ReachedLimit::Capacity => "no open reader has room",
            ReachedLimit::NoOpenReader => "no reader is open",
            ReachedLimit::Rest => "the videos changed a moment ago",
            ReachedLimit::Granularity => "no video or exchange of videos is of the size needed",
            ReachedLimit::MaxReaders => "it is on as many readers as a video may have",
            ReachedLimit::SafetyOnly => "rebalancing is paused",
        };
        format!("no {}{video}{reader}, {} viewers: {because}", self.kind.as_str(), self.viewers)
    }
}
