//! Which lists there are: what each is cut from, how often it goes out, and which are bounded together.

use std::time::Duration;

use liverank_adapters::ranking_store::BuiltInBoard;
use liverank_core::{UserId, VideoId};

use crate::pace::MIN_INTERVAL;
use crate::published::Shape;

/// The lengths that lists are computed in. A client's list is cut from the shortest that is long enough, so that made-up
/// limits cost no computing: there are as many lists as there are lengths, and always room for each.
pub(crate) const LIST_LENGTHS: [usize; 4] = [100, 1_000, 10_000, MAX_LINES];
/// The longest list of a board, also where all is asked for: some 6 MB.
pub(crate) const MAX_LINES: usize = 100_000;
/// The longest list of an owner.
pub(crate) const MAX_OWNED: usize = 10_000;
/// Limits of delta lists beside [`LIST_LENGTHS`] that always have room: what pages show.
pub(crate) const USUAL_LIMITS: [usize; 5] = [5, 10, 20, 50, 500];
/// Other delta lists watched at once, and their lines together. A change of a list cannot be cut from that of a longer one,
/// so each of these is computed by itself.
pub(crate) const MAX_ODD: (usize, usize) = (64, 50_000);
/// Lists around a video that are watched at once, by different videos, boards or lengths: nobody shares them, and each is
/// looked at whenever a board changes. With 100 lines each, looking at all of them takes a fifth of a core.
pub(crate) const MAX_AROUND: usize = 2000;
/// Between two states of a list around a video: it is watched by few, so that it may cost less.
const AROUND_INTERVAL: Duration = Duration::from_millis(500);
/// The longest list with metadata: of at most 4 KB each it has 4 MB. `GET /videos` has no longer ones.
pub(crate) const MAX_DESCRIBED: usize = 1000;
/// As [`MAX_ODD`], of lists with metadata.
pub(crate) const MAX_ODD_DESCRIBED: (usize, usize) = (64, 5000);
/// Lists around videos with metadata that are watched at once, and their lines together: with as long metadata as there may be, 20 MB.
pub(crate) const MAX_AROUND_DESCRIBED: (usize, usize) = (MAX_AROUND, 5000);
/// Between two states of a whole list with metadata, each of which may be megabytes.
const DESCRIBED_INTERVAL: Duration = Duration::from_millis(500);

/// The list that a client watches.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// The best of a board (`None`: all).
    Board(BuiltInBoard, Option<usize>, Shape),
    /// An owner's best videos.
    Owner(UserId, Option<usize>),
    /// The lines of a board that have a video in their middle.
    Around(BuiltInBoard, VideoId, usize),
    /// One of a board, with the metadata of each video; of at most [`MAX_DESCRIBED`] lines.
    Described(Box<Self>),
}

/// A kind of lists that few watch, so that each is computed for a few clients only: of these there is not always room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scarce {
    OddDelta,
    Around,
    OddDescribedDelta,
    DescribedAround,
}

impl Scarce {
    /// The most that are watched at once, and their lines together.
    pub(crate) const fn most(self) -> (usize, usize) {
        match self {
            Self::OddDelta => MAX_ODD,
            Self::Around => (MAX_AROUND, usize::MAX),
            Self::OddDescribedDelta => MAX_ODD_DESCRIBED,
            Self::DescribedAround => MAX_AROUND_DESCRIBED,
        }
    }
}

impl Key {
    /// The list that this one is cut from, and to how many lines.
    pub(crate) fn shared_key(self) -> (Self, Option<usize>) {
        let cut = |limit: usize| {
            (LIST_LENGTHS.into_iter().find(|length| *length >= limit).unwrap_or(MAX_LINES), limit)
        };
        match self {
            Self::Board(board, limit, Shape::List) => {
                let (length, limit) = cut(limit.unwrap_or(MAX_LINES).min(MAX_LINES));
                (Self::Board(board, Some(length), Shape::List), (limit < length).then_some(limit))
            }
            Self::Board(board, limit, shape) => {
                (Self::Board(board, Some(limit.unwrap_or(MAX_LINES).min(MAX_LINES)), shape), None)
            }
            Self::Owner(owner, limit) => {
                let (length, limit) = cut(limit.unwrap_or(MAX_OWNED).min(MAX_OWNED));
                (Self::Owner(owner, Some(length)), (limit < length).then_some(limit))
            }
            Self::Around(..) => (self, None),
            Self::Described(list) => {
                let (shared, cut) = list.shared_key();
                (Self::Described(Box::new(shared)), cut)
            }
        }
    }

    /// The kind and the lines of a list that is computed for a few clients only; `None` for those that are shared.
    pub(crate) fn scarce(&self) -> Option<(Scarce, usize)> {
        match self {
            Self::Board(_, Some(limit), Shape::Delta) => {
                let is_usual = LIST_LENGTHS.contains(limit) || USUAL_LIMITS.contains(limit);
                (!is_usual).then_some((Scarce::OddDelta, *limit))
            }
            Self::Board(..) | Self::Owner(..) => None,
            Self::Around(_, _, limit) => Some((Scarce::Around, *limit)),
            Self::Described(list) => list.scarce().map(|(kind, lines)| match kind {
                Scarce::Around | Scarce::DescribedAround => (Scarce::DescribedAround, lines),
                Scarce::OddDelta | Scarce::OddDescribedDelta => (Scarce::OddDescribedDelta, lines),
            }),
        }
    }

    pub(crate) const fn shape(&self) -> Shape {
        match self {
            Self::Board(_, _, shape) => *shape,
            Self::Owner(..) => Shape::Owned,
            Self::Around(..) => Shape::Around,
            Self::Described(list) => list.shape(),
        }
    }

    /// The least time between two states of the list.
    pub(crate) fn min_interval(&self) -> Duration {
        match self {
            Self::Around(..) => AROUND_INTERVAL,
            Self::Board(..) | Self::Owner(..) => MIN_INTERVAL,
            Self::Described(list) => match list.shape() {
                Shape::Delta => list.min_interval(),
                Shape::List | Shape::Owned | Shape::Around => DESCRIBED_INTERVAL,
            },
        }
    }
}
