//! The store that the managers share: which reader serves which video, the readers' heartbeats, and which planner
//! decides.
//!
//! Promises of every implementation, checked by `adapters-testkit/src/assignment_store.rs`:
//! 1. An assignment changes only by compare-and-set of its epoch; of two managers that try, one wins.
//! 2. Epochs only grow, over all videos, and are greater than every epoch that a caller says it has seen; also if the
//!    store has lost its data, or falls back to a copy. The same holds for terms. An epoch that cannot have been
//!    minted ([`liverank_core::epoch`]) is refused; if one is stored already, the store acts as if it were not there.
//! 3. Every subscriber receives every change; a gap in the versions means that [`AssignmentStore::load_assignments`]
//!    must be called again.
//! 4. A peak of viewers is only ever raised, whoever raises it. Where there are too many, the lowest are forgotten.
//! 5. An operation under a term is refused once a later term has begun, in the same atomic step. A term later than the
//!    store's own is accepted as true: the store has lost it.

use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use liverank_core::epoch::is_plausible_epoch;
pub use liverank_core::handover::CordonLevel;
use liverank_core::handover::{AssignedReaders, PlannerLease, ReaderShare};
use liverank_core::{ReaderId, VideoId};
pub use liverank_protocol::{ReaderRecord, ZonedViewers};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::StoreError;

pub use liverank_core::epoch::MAX_EPOCH;

pub mod embedded;
pub mod redis;

/// The number of changes kept for a subscriber that is slow: as many videos as change readers when a reader fails.
pub const CHANGE_QUEUE_LENGTH: usize = 1024;

/// The largest number of videos whose peak (the most viewers that the video ever had at once) is kept: as many as there
/// may be assignments. A peak takes some hundred bytes, and every video that somebody ever watched has a peak, so
/// without a bound callers could make the store grow for ever.
pub const MAX_VIEWER_PEAKS: usize = 1_000_000;

fn now_micros() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_micros() as u64)
}

/// Returns an error for an epoch or term that cannot have been minted by now: if it were accepted, no later one could
/// be minted.
fn check_epoch_is_possible(part: &'static str, seen: u64) -> Result<(), StoreError> {
    if is_plausible_epoch(seen, now_micros()) {
        return Ok(());
    }
    let reason = format!("epoch or term {seen} was seen, above any that can have been minted");
    Err(StoreError::unusable(part, reason))
}

/// The readers that serve a video, and the epoch of this assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoAssignment {
    /// The assigned video.
    pub video_id: VideoId,
    /// The video's readers and the assignment epoch.
    pub assigned_readers: AssignedReaders,
}

impl VideoAssignment {
    /// Returns the assignment epoch. Of two assignments of a video, the one with the greater epoch is in force.
    pub const fn epoch(&self) -> u64 {
        self.assigned_readers.epoch
    }

    /// Returns the readers of the video, at least one.
    pub fn readers(&self) -> &[ReaderShare] {
        &self.assigned_readers.readers
    }
}

/// All assignments, and a version of the store whose changes are all among them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AssignmentSnapshot {
    /// The version of the snapshot: changes of later versions apply to it.
    pub version: u64,
    /// All assignments at this version or a later one.
    pub assignments: Vec<VideoAssignment>,
}

/// The outcome of a compare-and-set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SwapOutcome {
    /// The compare-and-set succeeded; this assignment is in force now (after [`AssignmentStore::remove_assignment`]:
    /// was in force).
    Stored(VideoAssignment),
    /// Another manager was first; this assignment is in force (`None`: it has been removed).
    Conflict(Option<VideoAssignment>),
    /// The change was ordered under a term that is over; this is the term that has begun.
    Fenced(u64),
}

/// The term of a planner, during which that planner decides on moves. The term lasts as long as `beat` changes, by the
/// observer's own clock, and until a later term is minted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannerTerm {
    /// The number of the term. Of two planners, the one with the greater term decides on moves.
    pub term: u64,
    /// The name of the planner; empty if the store has lost it.
    pub holder: String,
    /// The lease that this planner, or an earlier one, gave last when it began or renewed its term.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<PlannerLease>,
    /// A number that differs with every [`AssignmentStore::renew_term`].
    pub beat: u64,
}

/// The outcome of an attempt to begin or to renew a term.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TermGrant {
    /// The attempt succeeded; this term is in force now.
    Held(PlannerTerm),
    /// The term of another planner is in force (`None`: no term is).
    Lost(Option<PlannerTerm>),
}

/// A planner's order that a reader gets no new videos.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReaderCordon {
    /// The cordoned reader.
    pub reader: ReaderId,
    /// The level of the order: no new videos, or also the loss of those that the reader has.
    pub closing: CordonLevel,
    /// The reason, in the planner's words.
    pub why: String,
}

/// The planner's term and its cordons.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlannerOrders {
    /// The term of the planner; `None`: nobody plans.
    pub planner_term: Option<PlannerTerm>,
    /// The cordoned readers, in the order of their names.
    pub cordons: Vec<ReaderCordon>,
}

/// A change of the assignments, as subscribers receive it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AssignmentChange {
    /// A video has a new assignment, which is in force now.
    Assigned {
        /// The store's version after the change: one more than the version before.
        version: u64,
        /// The assignment in force.
        assignment: VideoAssignment,
    },
    /// The video is no longer assigned.
    Removed {
        /// The store's version after the change: one more than the version before.
        version: u64,
        /// The video that is no longer assigned.
        video_id: VideoId,
    },
    /// Changes may have been missed: load the assignments again.
    Reset,
}

/// The store of assignments, heartbeats, terms and cordons that all managers share.
#[async_trait]
pub trait AssignmentStore: Send + Sync {
    /// Reads the store's version. Every change counts it up by one, so a caller that knows a snapshot of this version, or
    /// has applied all changes up to it, knows all assignments.
    async fn assignments_version(&self) -> Result<u64, StoreError>;

    /// Reads all assignments and the store's version. Assignments may be newer than the version if they change
    /// meanwhile; applying the changes after the version leads to what is in force.
    async fn load_assignments(&self) -> Result<AssignmentSnapshot, StoreError>;

    /// Gives `video` to `readers` if its assignment still has epoch `expected` (`None`: it has no assignment). The new
    /// epoch is greater than all before it and than `seen`, the highest epoch that the caller or any reader knows. A
    /// `seen` that cannot have been minted is refused as [`StoreError::Unusable`]. `term` is the term of the planner
    /// that ordered this; `None` for what a manager does without an order.
    async fn assign_video(
        &self,
        video: &VideoId,
        expected: Option<u64>,
        readers: &[ReaderShare],
        seen: u64,
        term: Option<u64>,
    ) -> Result<SwapOutcome, StoreError>;

    /// Removes a video's assignment if it still has epoch `expected`.
    async fn remove_assignment(&self, video: &VideoId, expected: u64) -> Result<SwapOutcome, StoreError>;

    /// Stores a reader's heartbeat.
    async fn note_heartbeat(&self, reader: &ReaderRecord) -> Result<(), StoreError>;

    /// Returns the readers as they last reported themselves.
    async fn reader_records(&self) -> Result<Vec<ReaderRecord>, StoreError>;

    /// Removes a reader that is gone, if its last heartbeat still is `beat`.
    async fn forget_reader(&self, reader: &ReaderId, beat: u64) -> Result<(), StoreError>;

    /// Reads the planner's term and its cordons.
    async fn planner_orders(&self) -> Result<PlannerOrders, StoreError>;

    /// Begins a term of `holder`, later than all before it and than `seen`, if the term in force still is `expected`
    /// (0: none). Without a `lease`, the lease that was shown last stays, so that a planner that returns with an older
    /// lease is recognised.
    async fn mint_term(
        &self,
        holder: &str,
        lease: Option<&PlannerLease>,
        expected: u64,
        seen: u64,
    ) -> Result<TermGrant, StoreError>;

    /// Renews a term: its planner is still there. `beat` is any number that the planner did not give before. If `term`
    /// has no lease, the stored lease stays.
    async fn renew_term(&self, term: &PlannerTerm) -> Result<TermGrant, StoreError>;

    /// Cordons a reader, or (`None`) lifts its cordon. Returns `Some` with the term in force if `term` is over.
    async fn set_cordon(
        &self,
        term: u64,
        reader: &ReaderId,
        cordon: Option<&ReaderCordon>,
    ) -> Result<Option<u64>, StoreError>;

    /// Raises the peaks of viewers of these videos to these numbers, where those that are stored are less. Where there
    /// are more than [`MAX_VIEWER_PEAKS`] afterwards, the lowest are forgotten.
    async fn raise_viewer_peaks(&self, peaks: &[(VideoId, u64)]) -> Result<(), StoreError>;

    /// Returns the peak of viewers of each video; `None` for one of which none is stored.
    async fn viewer_peaks(&self, videos: &[VideoId]) -> Result<Vec<Option<u64>>, StoreError>;

    /// Returns a channel of the changes from now on. The first item is always [`AssignmentChange::Reset`]; a
    /// subscriber that reads too slowly gets it again. The subscription reconnects by itself while the receiver lives.
    async fn subscribe_changes(&self) -> Result<mpsc::Receiver<AssignmentChange>, StoreError>;
}
