//! The result of the planner: orders, reasons, and what stood in the way.

use serde::{Deserialize, Serialize};

use super::situation::{Situation, VideoPart};

/// Orders, what they achieve, and what stood in the way of more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// At most one a video, in the order in which they are to be carried out: viewers without a reader, drains, splits,
    /// joins, then what balance asks for, most urgent first.
    pub orders: Vec<PlannedOrder>,
    /// The balance of the viewers before the plan.
    pub before: ViewerBalance,
    /// How they lie once the orders are carried out.
    pub after: ViewerBalance,
    /// Viewers that the orders move, without those that have no reader to begin with.
    pub moved: u64,
    /// What kept the plan from doing more, each once.
    pub bound_by: Vec<MetLimit>,
    /// What was wanted and is not in the plan: the largest of each reason, at most [`Plan::MAX_REJECTED`].
    pub rejected: Vec<RejectedChange>,
}

impl Plan {
    /// What was not done is listed up to here: it is for people to read.
    pub const MAX_REJECTED: usize = 32;
}

/// One change of one video's readers: a compare-and-set from the epoch it expects, then a hand-over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedOrder {
    /// The video's position in [`Situation::videos`].
    pub video: usize,
    /// The epoch it expects to replace.
    pub epoch: u64,
    /// What kind of change it is.
    pub kind: ChangeKind,
    /// What the video has now, in the order of readers, without those that only still hand over. The viewers are
    /// those the planner counted: waiting ones, and ones on their way, where they are going.
    pub from: Vec<VideoPart>,
    /// What it is to have, in the order of readers; shares sum to [`super::situation::WHOLE_SHARE`] and none is 0.
    pub to: Vec<VideoPart>,
    /// Viewers that leave a reader.
    pub moved: u64,
    /// The reason of the order.
    pub why: OrderReason,
}

/// The kinds of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// A video without a reader gets one, or several.
    Place,
    /// Away from a reader that is to be emptied.
    Drain,
    /// The video gets more readers.
    Split,
    /// The video gets fewer readers.
    Join,
    /// The video, or a part of it, moves to other readers; their number stays.
    Move,
    /// One of two videos that change places, because neither could move alone.
    Swap,
    /// The same readers get other shares of the video.
    Reshare,
}

impl ChangeKind {
    /// Its name, as in JSON and in metrics' labels.
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

/// Why an order is there, with the numbers it rests on. [`PlannedOrder::explain`] has it in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OrderReason {
    /// No reader served it.
    Unserved {
        /// Viewers that wait for a reader.
        waiting: u64,
    },
    /// A reader is to be emptied.
    Emptying {
        /// The position of that reader in the situation.
        reader: usize,
        /// Viewers it had when the plan began.
        load: u64,
    },
    /// Too many of its viewers on one reader.
    Hot {
        /// The reader with the most of them.
        reader: usize,
        /// The number of those viewers.
        viewers: u64,
        /// The number of viewers of a video that one reader may have.
        limit: u64,
        /// Whether the limit is the reader's fair share with the tolerance (and not the one set for hot videos).
        by_share: bool,
    },
    /// It has cooled: fewer readers will do.
    Cooled {
        /// All viewers of the video.
        viewers: u64,
        /// It is drawn onto one reader fewer at or below this.
        below: u64,
    },
    /// A reader has more than its fair share and the tolerance, or more than it can hold.
    Over {
        /// The position of that reader in the situation.
        reader: usize,
        /// Viewers it had when this was decided.
        load: u64,
        /// The reader's fair share of all viewers.
        fair: u64,
        /// The greatest number of viewers within the tolerance.
        most: u64,
    },
    /// A reader has less than its fair share without the tolerance.
    Under {
        /// The position of that reader in the situation.
        reader: usize,
        /// Viewers it had when this was decided.
        load: u64,
        /// The reader's fair share of all viewers.
        fair: u64,
        /// The least number of viewers within the tolerance.
        least: u64,
    },
    /// As the reason beside it, in exchange for another video.
    Exchange {
        /// The position of the video that is exchanged for it.
        with: usize,
        /// The overloaded or underloaded reader.
        reader: usize,
        /// Viewers it had when this was decided.
        load: u64,
        /// The reader's fair share of all viewers.
        fair: u64,
    },
}

/// How the viewers lie on the open readers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewerBalance {
    /// Viewers in all, on whatever readers, and those that wait.
    pub viewers: u64,
    /// Viewers on readers that are to be emptied.
    pub on_draining: u64,
    /// Viewers without a reader.
    pub waiting: u64,
    /// Open readers.
    pub readers: usize,
    /// Open readers outside the tolerance.
    pub outside: usize,
    /// The fullest open reader's load over its fair share, in millionths; 0 without viewers or readers.
    pub max_over_mean: u64,
    /// The emptiest open reader's load over its fair share, in millionths; 0 without viewers or readers.
    pub min_over_mean: u64,
    /// Viewers above fair shares, summed: the least that has to move for perfect balance.
    pub excess: u64,
    /// The open reader with the greatest part of its capacity in use: that part, in thousandths.
    pub max_utilisation: u64,
}

/// The limit that kept a plan from doing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MetLimit {
    /// The budget in viewers moved.
    Budget,
    /// The readers' capacity.
    Capacity,
    /// No reader is open.
    NoOpenReader,
    /// Videos at rest after a change, or still moving.
    Rest,
    /// Videos too large to even the readers out, and too small to be split.
    Granularity,
    /// Videos on as many readers as a video may have.
    MaxReaders,
    /// Only safety was asked for.
    SafetyOnly,
}

/// Something wanted that is not in the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedChange {
    /// The kind of change that would have been made.
    pub kind: ChangeKind,
    /// The video, where it is about one.
    pub video: Option<usize>,
    /// The reader, where it is about one.
    pub reader: Option<usize>,
    /// The number of viewers concerned.
    pub viewers: u64,
    /// The limit that stood in the way.
    pub because: MetLimit,
}

impl PlannedOrder {
    /// Describes the reason in words and numbers.
    pub fn explain(&self, situation: &Situation) -> String {
        let reader = |at: &usize| situation.readers[*at].id.as_str();
        match &self.why {
            OrderReason::Unserved { waiting } => format!("no reader serves it; {waiting} viewers wait"),
            OrderReason::Emptying { reader: at, load } => {
                format!("reader {} with {load} viewers is to be emptied", reader(at))
            }
            OrderReason::Hot { reader: at, viewers, limit, by_share } => {
                let limit_of =
                    if *by_share { "its fair share with the tolerance is" } else { "a hot video may have" };
                format!("{viewers} of its viewers are on reader {}; {limit_of} {limit}", reader(at))
            }
            OrderReason::Cooled { viewers, below } => {
                format!("it has cooled to {viewers} viewers; one reader fewer will do below {below}")
            }
            OrderReason::Over { reader: at, load, fair, most } => {
                format!("reader {} has {load} viewers; its fair share is {fair}, the most {most}", reader(at))
            }
            OrderReason::Under { reader: at, load, fair, least } => {
                format!(
                    "reader {} has {load} viewers; its fair share is {fair}, the least {least}",
                    reader(at)
                )
            }
            OrderReason::Exchange { with, reader: at, load, fair } => {
                let with = situation.videos[*with].id.as_str();
                let reader = reader(at);
                format!(
                    "reader {reader} has {load} viewers, its fair share is {fair}; changes places with video {with}"
                )
            }
        }
    }
}

impl RejectedChange {
    /// Describes what was not done and why, in words and numbers.
    pub fn explain(&self, situation: &Situation) -> String {
        let video = self.video.map(|at| format!(" of video {}", situation.videos[at].id)).unwrap_or_default();
        let reader =
            self.reader.map(|at| format!(" on reader {}", situation.readers[at].id)).unwrap_or_default();
        let because = match self.because {
            MetLimit::Budget => "the budget of viewers to move is spent",
            MetLimit::Capacity => "no open reader has room",
            MetLimit::NoOpenReader => "no reader is open",
            MetLimit::Rest => "the videos changed a moment ago",
            MetLimit::Granularity => "no video or exchange of videos is of the size needed",
            MetLimit::MaxReaders => "it is on as many readers as a video may have",
            MetLimit::SafetyOnly => "rebalancing is paused",
        };
        format!("no {}{video}{reader}, {} viewers: {because}", self.kind.as_str(), self.viewers)
    }
}
