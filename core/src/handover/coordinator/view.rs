//! What a manager sees of the cluster: the assignments in force, and the readers as they reported themselves.

use serde::{Deserialize, Serialize};

use crate::handover::{AssignedReaders, HeldVideo};
use crate::{ReaderId, VideoId};

/// The part of its capacity, in thousandths, from which on a reader refuses viewers.
pub const FULL_USAGE_THOUSANDTHS: u64 = 1_000;

/// The availability of a reader, as a manager sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReaderStatus {
    /// The reader sends heartbeats.
    Alive,
    /// The reader sends heartbeats and has to be emptied. The reader serves its videos until other readers have taken
    /// them.
    Draining,
    /// The reader said that it is shutting down. The reader gets viewers only if no other reader can take the video.
    Leaving,
    /// The reader sends no heartbeats, but may still serve its viewers. The reader gets no new viewers.
    Suspect,
    /// The reader sends no heartbeats and does not answer a probe. Other readers have to serve its videos.
    Gone,
}

impl ReaderStatus {
    /// Returns whether new viewers may be sent to the reader: it sends heartbeats and is not shutting down.
    pub const fn takes_viewers(self) -> bool {
        matches!(self, Self::Alive | Self::Draining)
    }

    /// Returns whether the reader's videos have to be moved to other readers while it still serves them.
    pub const fn must_be_emptied(self) -> bool {
        matches!(self, Self::Draining | Self::Leaving)
    }
}

impl std::fmt::Display for ReaderStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Alive => "alive",
            Self::Draining => "draining",
            Self::Leaving => "leaving",
            Self::Suspect => "suspect",
            Self::Gone => "gone",
        })
    }
}

/// The cluster as a manager knows it. All methods are look-ups without side effects.
pub trait ClusterView {
    /// Returns the assignment of a video that is in force.
    fn assigned_readers(&self, video: &VideoId) -> Option<&AssignedReaders>;
    /// Returns the status of a reader. The status is [`ReaderStatus::Gone`] only if the manager may act on it.
    fn reader_status(&self, reader: &ReaderId) -> Option<ReaderStatus>;
    /// Returns the URL at which viewers reach a reader.
    fn viewer_url(&self, reader: &ReaderId) -> Option<String>;
    /// Returns the last report of a reader on a video; `None` if the report is so old, by the clock, that the reader is
    /// suspect. Time in which the manager itself was paused counts, too, because the reader may have gone in that time.
    /// The report has `ready` set only if the manager knows that the reader reported so recently: a report from the
    /// store may have any age, and a report that is read after a pause of the manager may have waited since before the
    /// pause.
    fn held_video(&self, reader: &ReaderId, video: &VideoId) -> Option<&HeldVideo>;
    /// Returns the used part of a reader's capacity, in thousandths; see [`FULL_USAGE_THOUSANDTHS`].
    fn usage_thousandths(&self, reader: &ReaderId) -> u64;
    /// Returns the number of viewers that a reader can still take. Viewers on their way to the reader are subtracted,
    /// as far as they are known.
    fn room(&self, reader: &ReaderId) -> u64;
    /// Returns the capacity of a reader and its number of viewers, both from its last report.
    fn reported_usage(&self, reader: &ReaderId) -> (u64, u64);
    /// Whether a reader is open for new viewers: it is alive and not cordoned. A closed reader keeps its viewers, but
    /// is likely to be emptied soon, so viewers who were sent there would be moved twice.
    fn is_open(&self, reader: &ReaderId) -> bool;
    /// Returns the recent peak ([`RecentPeak`](crate::handover::peak::RecentPeak)) of the number of viewers of a video at
    /// all readers, including readers that the video was taken from. The peak is used because viewers on their way between
    /// readers are in no report.
    fn viewers(&self, video: &VideoId) -> u64;
}
