//! How viewers follow their video from one reader to another: without a comment lost, repeated or out of order.
//!
//! Three machines, none of which knows a clock, a socket or a store. Messages are data, time is a [`Duration`] since an
//! origin of the caller's (any monotonic clock, a different one in each process), randomness is an argument:
//!
//! | machine | lives in | decides |
//! |---|---|---|
//! | [`coordinator`] | a manager | what has to be done for a video to have readers; how an order is carried out; what a heartbeat is answered |
//! | [`reader_agent`] | a reader | whether a viewer is taken, sent on or has to wait for a manager's word; who is closed, and how fast |
//! | [`viewer_session`] | whoever watches: a gateway for its viewer | where it stands, what it does when its stream ends |
//!
//! Nothing here is done once and hoped for: every heartbeat is answered with all that its reader is to do, from what is
//! in force and what was reported. A lost message, a manager that died half way and a target that came back cold are
//! therefore all the same case: the next answer is right again.
//!
//! Invariants, checked at every step by the simulation in `tests/simulation`:
//! 1. An epoch belongs to one assignment of one video, for ever ([`crate::epoch`]).
//! 2. Nobody acts on an epoch older than one it has heard of, and nobody is answered with one ([`coordinator::decide_need`]).
//! 3. No reader closes a viewer for a move before the reader that it goes to holds the video's ring.
//! 4. A viewer is given every comment once and in order; what it misses for being away too long is named by a gap
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

/// A reader of a video and its part of the viewers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReaderShare {
    /// The reader.
    pub reader: ReaderId,
    /// Its part, in proportion to the sum over the video's readers; at least 1.
    pub weight: u32,
}

/// How a planner keeps a reader from taking videos.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CordonLevel {
    /// It is given no new videos, where another reader can be.
    Closed,
    /// It is given no new videos, and the managers move those that it has to other readers.
    Draining,
    /// It has been taken away, or is about to be: it serves nothing from now on, whatever its process still reports.
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
    /// A reader's part, where it is one of them.
    pub fn share_of(&self, reader: &ReaderId) -> Option<&ReaderShare> {
        self.readers.iter().find(|share| share.reader == *reader)
    }

    /// Whether a reader that reports this has viewers of the video who are to go to others, for the video was taken from it.
    pub fn must_hand_over(&self, reader: &ReaderId, held: &HeldVideo) -> bool {
        held.viewers > 0 && self.share_of(reader).is_none()
    }
}

/// What a reader says of a video in a heartbeat: every video that it has viewers of or holds ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldVideo {
    /// The video.
    pub video: VideoId,
    /// Viewers connected.
    pub viewers: u64,
    /// The highest epoch it has heard of for this video; 0 for none.
    pub epoch: u64,
    /// Whether its ring stands: subscribed, and filled from the stream or the archive.
    pub ready: bool,
    /// Whether it is sending viewers elsewhere that are more than its share: once begun, that goes on further than to where
    /// it would begin.
    #[serde(default)]
    pub shedding: bool,
}

/// A heartbeat's answer: viewers that the reader is to send elsewhere. Every answer lists all of them, so what is not
/// listed any more is not to be done any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandOver {
    /// The video.
    pub video: VideoId,
    /// The epoch of the assignment.
    pub epoch: u64,
    /// The reader to go to: its address for viewers.
    pub to: String,
    /// Whether the one who is told still is one of the video's readers, and merely has more than its share.
    pub here: bool,
    /// The number of viewers that stay with this reader.
    pub keep: u64,
    /// Viewers a second, at most.
    pub pace: u32,
}

/// By what a planner outside is in office: who of its replicas may plan is decided elsewhere, by a lease that changes
/// hands. Of two planners that show the same lease, the one who saw more of its transitions is the later one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannerLease {
    /// Which lease: never given to another one.
    pub uid: String,
    /// How often it has changed hands, as the planner saw when it took it.
    pub transitions: u64,
}

impl PlannerLease {
    /// Whether `self` was taken after `other`, where both are the same lease. Of two different ones nothing is known.
    pub fn is_later_than(&self, other: &Self) -> bool {
        self.uid == other.uid && self.transitions > other.transitions
    }
}

/// A manager's word on who serves a video, as a reader takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignmentNotice {
    /// The epoch of the assignment.
    pub epoch: u64,
    /// Whether this reader is one of them.
    pub here: bool,
    /// The address of the best of the others.
    pub elsewhere: Option<String>,
    /// Whether that one takes viewers: it has room and does not leave.
    pub elsewhere_takes: bool,
}

/// Time since an origin of the caller's.
pub type ElapsedTime = Duration;
