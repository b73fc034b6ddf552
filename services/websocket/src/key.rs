//! The kinds of lists: the longer list from which each is cut, how often each is sent, and the limits on lists that few
//! clients share.

use std::time::Duration;

use liverank_adapters::ranking_store::BuiltInBoard;
use liverank_core::{UserId, VideoId};

use crate::pace::MIN_INTERVAL;
use crate::published::ListFormat;

/// The lengths in which lists are computed. A client's list is cut from the shortest list that is long enough, so that
/// unusual limits cost no computing: there are only as many lists as lengths, and each is always permitted.
pub(crate) const LIST_LENGTHS: [usize; 4] = [100, 1_000, 10_000, MAX_LINES];
/// The maximum number of lines in a list of a board, also if all are asked for: some 6 MB.
pub(crate) const MAX_LINES: usize = 100_000;
/// The maximum number of lines in a list of an owner.
pub(crate) const MAX_OWNER_LIST_LINES: usize = 10_000;
/// Limits of delta lists beside [`LIST_LENGTHS`] that are always permitted: those that pages show.
pub(crate) const USUAL_LIMITS: [usize; 5] = [5, 10, 20, 50, 500];
/// The maximum number of other delta lists watched at the same time, and of their lines together. A list's changes
/// cannot be cut from those of a longer list, so each of these lists is computed by itself.
pub(crate) const MAX_UNUSUAL_DELTAS: (usize, usize) = (64, 50_000);
/// The maximum number of lists around a video watched at the same time, by different videos, boards or lengths: clients
/// rarely share them, and each is computed again whenever its board changes. With 100 lines each, computing all of them
/// takes a fifth of a core.
pub(crate) const MAX_AROUND_LISTS: usize = 2000;
/// The shortest time between two states of a list around a video: longer than for boards, because few clients watch
/// each.
const AROUND_INTERVAL: Duration = Duration::from_millis(500);
/// The maximum number of lines in a list with metadata: at up to 4 KB of metadata each, 4 MB. `GET /videos` has the
/// same limit.
pub(crate) const MAX_LINES_WITH_METADATA: usize = 1000;
/// The maximum number of unusual delta lists with metadata watched at the same time, and of their lines together; see
/// [`MAX_UNUSUAL_DELTAS`].
pub(crate) const MAX_UNUSUAL_DELTAS_WITH_METADATA: (usize, usize) = (64, 5000);
/// The maximum number of lists around a video with metadata watched at the same time, and of their lines together: 20
/// MB with the longest metadata.
pub(crate) const MAX_AROUND_LISTS_WITH_METADATA: (usize, usize) = (MAX_AROUND_LISTS, 5000);
/// The shortest time between two states of a whole list with metadata, each of which may be megabytes.
const METADATA_LIST_INTERVAL: Duration = Duration::from_millis(500);

/// The list that a client watches.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum ListKey {
    /// The best lines of a board (`None`: all).
    Board(BuiltInBoard, Option<usize>, ListFormat),
    /// The best videos of an owner (`None`: all).
    Owner(UserId, Option<usize>),
    /// A number of lines of a board, with a video in their middle.
    Around(BuiltInBoard, VideoId, usize),
    /// A list of a board, with the metadata of each video; at most [`MAX_LINES_WITH_METADATA`] lines.
    WithMetadata(Box<Self>),
}

/// A kind of list that few clients share, so that the number of such lists is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LimitedListKind {
    UnusualDelta,
    Around,
    UnusualDeltaWithMetadata,
    AroundWithMetadata,
}

impl LimitedListKind {
    /// Returns the maximum number of lists of this kind that are watched at the same time, and of their lines together.
    pub(crate) const fn max_lists_and_lines(self) -> (usize, usize) {
        match self {
            Self::UnusualDelta => MAX_UNUSUAL_DELTAS,
            Self::Around => (MAX_AROUND_LISTS, usize::MAX),
            Self::UnusualDeltaWithMetadata => MAX_UNUSUAL_DELTAS_WITH_METADATA,
            Self::AroundWithMetadata => MAX_AROUND_LISTS_WITH_METADATA,
        }
    }
}

impl ListKey {
    /// Returns the list from which this one is cut, and the number of lines to which it is cut; `None` if it is sent
    /// whole.
    pub(crate) fn shared_key(self) -> (Self, Option<usize>) {
        let cut = |limit: usize| {
            (LIST_LENGTHS.into_iter().find(|length| *length >= limit).unwrap_or(MAX_LINES), limit)
        };
        match self {
            Self::Board(board, limit, ListFormat::List) => {
                let (length, limit) = cut(limit.unwrap_or(MAX_LINES).min(MAX_LINES));
                (Self::Board(board, Some(length), ListFormat::List), (limit < length).then_some(limit))
            }
            Self::Board(board, limit, shape) => {
                (Self::Board(board, Some(limit.unwrap_or(MAX_LINES).min(MAX_LINES)), shape), None)
            }
            Self::Owner(owner, limit) => {
                let (length, limit) = cut(limit.unwrap_or(MAX_OWNER_LIST_LINES).min(MAX_OWNER_LIST_LINES));
                (Self::Owner(owner, Some(length)), (limit < length).then_some(limit))
            }
            Self::Around(..) => (self, None),
            Self::WithMetadata(list) => {
                let (shared, cut) = list.shared_key();
                (Self::WithMetadata(Box::new(shared)), cut)
            }
        }
    }

    /// Returns the kind and the number of lines of a list whose kind is limited; `None` for a list that many clients
    /// share.
    pub(crate) fn limited_kind(&self) -> Option<(LimitedListKind, usize)> {
        match self {
            Self::Board(_, Some(limit), ListFormat::Delta) => {
                let is_usual = LIST_LENGTHS.contains(limit) || USUAL_LIMITS.contains(limit);
                (!is_usual).then_some((LimitedListKind::UnusualDelta, *limit))
            }
            Self::Board(..) | Self::Owner(..) => None,
            Self::Around(_, _, limit) => Some((LimitedListKind::Around, *limit)),
            Self::WithMetadata(list) => list.limited_kind().map(|(kind, lines)| match kind {
                LimitedListKind::Around | LimitedListKind::AroundWithMetadata => {
                    (LimitedListKind::AroundWithMetadata, lines)
                }
                LimitedListKind::UnusualDelta | LimitedListKind::UnusualDeltaWithMetadata => {
                    (LimitedListKind::UnusualDeltaWithMetadata, lines)
                }
            }),
        }
    }

    pub(crate) const fn format(&self) -> ListFormat {
        match self {
            Self::Board(_, _, shape) => *shape,
            Self::Owner(..) => ListFormat::OfOwner,
            Self::Around(..) => ListFormat::Around,
            Self::WithMetadata(list) => list.format(),
        }
    }

    /// Returns the shortest time between two states of the list.
    pub(crate) fn min_interval(&self) -> Duration {
        match self {
            Self::Around(..) => AROUND_INTERVAL,
            Self::Board(..) | Self::Owner(..) => MIN_INTERVAL,
            Self::WithMetadata(list) => match list.format() {
                ListFormat::Delta => list.min_interval(),
                ListFormat::List | ListFormat::OfOwner | ListFormat::Around => METADATA_LIST_INTERVAL,
            },
        }
    }
}
