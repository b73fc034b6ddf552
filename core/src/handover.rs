//! Hand-over: how viewers follow their video from one reader to another, without a comment lost, repeated or out of
//! order.
//!
//! Hand-over consists of three state machines, none of which reads a clock, a socket or a store. Messages are data,
//! time is a [`Duration`] since an origin of the caller's (any monotonic clock, a different one in each process),
//! randomness is an argument:
//!
//! | machine | lives in | decides |
//! |---|---|---|
//! | [`coordinator`] | a manager | what changes so that a video has readers; how orders and heartbeats are handled |
//! | [`reader_agent`] | a reader | which viewers are accepted, redirected or wait; which are closed, and how fast |
//! | [`viewer_session`] | a gateway, per viewer | the position in the stream; the next step when the stream ends |
//!
//! No step relies on a message that is sent once: every heartbeat is answered with everything that its reader has to
//! do, computed from the assignments in force and the reports. A lost message, a manager that crashed half way and a
//! target that restarted without state are therefore the same case: the next answer is right again.
//!
//! Invariants, checked at every step by the simulation in `tests/simulation`:
//! 1. An epoch belongs to one assignment of one video, for ever ([`crate::epoch`]).
//! 2. No process acts on an epoch older than one it has heard of, and none is answered with one
//!    ([`coordinator::decide_need`]).
//! 3. No reader closes a viewer for a move before the target reader has filled the video's ring.
//! 4. A viewer gets every comment once and in order; comments missed by being away too long are reported by a gap
//!    ([`resume`]).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{ReaderId, VideoId};

pub mod coordinator;
pub mod leaving;
pub mod local_health;
pub mod peak;
pub mod reader_agent;
pub mod reserved;
pub mod resume;
pub mod routing;
pub mod viewer_session;

/// A reader of a video, with its weight among the video's readers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReaderShare {
    /// The id of the reader.
    pub reader: ReaderId,
    /// The reader's weight, relative to the sum over the video's readers; at least 1.
    pub weight: u32,
}

/// The level of a cordon, by which a planner keeps a reader from getting videos.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CordonLevel {
    /// The reader gets no new videos if another reader can have them.
    Closed,
    /// The reader gets no new videos, and the managers move its videos to other readers.
    Draining,
    /// The reader has been removed, or is about to be: it serves nothing from now on, whatever its process still
    /// reports.
    Removed,
}

impl std::fmt::Display for CordonLevel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Closed => "closed",
            Self::Draining => "draining",
            Self::Removed => "removed",
        })
    }
}

/// The assignment of a video that is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignedReaders {
    /// The epoch of the assignment; see [`crate::epoch`].
    pub epoch: u64,
    /// The readers of the video: at least one, each once.
    pub readers: Vec<ReaderShare>,
}

impl AssignedReaders {
    /// Returns the share of `reader`; `None` if it is not one of the video's readers.
    pub fn share_of(&self, reader: &ReaderId) -> Option<&ReaderShare> {
        self.readers.iter().find(|share| share.reader == *reader)
    }

    /// Whether a reader that reports `held` must hand its viewers over, because the video is no longer assigned to it.
    pub fn must_hand_over(&self, reader: &ReaderId, held: &HeldVideo) -> bool {
        held.viewers > 0 && self.share_of(reader).is_none()
    }
}

/// A reader's report on one video in a heartbeat. A reader reports every video that it has viewers of or keeps ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldVideo {
    /// The video that is reported.
    pub video: VideoId,
    /// The number of viewers connected to the reader.
    pub viewers: u64,
    /// The highest epoch that the reader has heard of for the video; 0 for none.
    pub epoch: u64,
    /// Whether the reader's ring of the video is complete: subscribed, and filled from the stream or the archive.
    pub ready: bool,
    /// Whether the reader is sending viewers above its share elsewhere. Shedding goes on below the excess at which it
    /// begins, so that it does not start and stop in turn.
    #[serde(default)]
    pub shedding: bool,
}

/// A hand-over order in the answer to a heartbeat: viewers that the reader has to send elsewhere. Every answer lists
/// all orders, so an order that is no longer listed is cancelled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandOver {
    /// The video whose viewers are handed over.
    pub video: VideoId,
    /// The epoch of the assignment.
    pub epoch: u64,
    /// The address, for viewers, of the reader to which the viewers go.
    pub to: String,
    /// Whether the reader that gets this order is still one of the video's readers, and only has more than its share.
    pub here: bool,
    /// The number of viewers that stay with this reader.
    pub keep: u64,
    /// The most viewers to send away per second.
    pub pace: u32,
}

/// The leader lease of an external planner: which of the planner's replicas may plan is decided elsewhere, by a lease
/// that changes hands. Of two planners that show the same lease, the one that saw more transitions is the later one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannerLease {
    /// The unique id of the lease, never given to another lease.
    pub uid: String,
    /// The number of times that the lease has changed hands, as the planner saw it when it acquired the lease.
    pub transitions: u64,
}

impl PlannerLease {
    /// Whether `self` was acquired after `other`, if both are the same lease. Two different leases cannot be compared:
    /// `false`.
    pub fn is_later_than(&self, other: &Self) -> bool {
        self.uid == other.uid && self.transitions > other.transitions
    }
}

/// A manager's notice to a reader of who serves a video.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignmentNotice {
    /// The epoch of the assignment.
    pub epoch: u64,
    /// Whether this reader is one of the video's readers.
    pub includes_this_reader: bool,
    /// The address of the best other reader of the video; `None` if there is no other.
    pub other_reader_url: Option<String>,
    /// Whether that other reader accepts viewers: it has room and is not shutting down.
    pub other_accepts_viewers: bool,
}

/// The time since an origin that the caller has chosen.
pub type ElapsedTime = Duration;
