//! Which reader serves which video, the readers' heartbeats, and who plans: what the managers share.
//!
//! Promises of every implementation, checked by `adapters-testkit/src/assignment_store.rs`:
//! 1. An assignment changes by compare-and-set of its epoch only; of two managers that try, one wins.
//! 2. Epochs only grow, over all videos, and are greater than every epoch that a caller says it has seen; also where the
//!    store has lost what it held, or falls back to a copy. The same holds for terms. What cannot have been minted
//!    ([`liverank_core::epoch`]) is refused, and where it is stored already, it is as if it were not there.
//! 3. Whoever subscribed hears of every change; a hole in the versions means that a fresh [`AssignmentStore::load_assignments`] is
//!    due.
//! 4. What is done under a term is refused once a later one has begun, in the same atomic step. A term later than the
//!    store's own is believed: the store has lost it.

use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use liverank_core::epoch::is_plausible_epoch;
pub use liverank_core::handover::CordonLevel;
use liverank_core::handover::{AssignedReaders, PlannerLease, ReaderShare};
use liverank_core::{ReaderId, VideoId};
pub use liverank_protocol::ReaderRecord;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::StoreError;

pub use liverank_core::epoch::MAX_EPOCH;

pub mod embedded;
pub mod redis;

/// Changes kept for a subscriber who is slow: as many videos as change hands when a reader fails.
pub const CHANGE_QUEUE: usize = 1024;

fn now_micros() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_micros() as u64)
}

/// An error for an epoch or term that cannot have been minted by now: believed, it would be the last one.
fn check_epoch_is_possible(part: &'static str, seen: u64) -> Result<(), StoreError> {
    if is_plausible_epoch(seen, now_micros()) {
        return Ok(());
    }
    let reason = format!("epoch or term {seen} was seen, above any that can have been minted");
    Err(StoreError::unusable(part, reason))
}

/// Which readers serve a video, under which epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoAssignment {
    /// The video.
    pub video_id: VideoId,
    /// Its readers and its epoch.
    pub assigned_readers: AssignedReaders,
}

impl VideoAssignment {
    /// Of two assignments of a video the one with the greater epoch is in force.
    pub const fn epoch(&self) -> u64 {
        self.assigned_readers.epoch
    }

    /// Its readers, at least one.
    pub fn readers(&self) -> &[ReaderShare] {
        &self.assigned_readers.readers
    }
}

/// All assignments at one version of the store.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AssignmentSnapshot {
    /// Changes of later versions apply to it.
    pub version: u64,
    /// Every assignment.
    pub assignments: Vec<VideoAssignment>,
}

/// The outcome of a compare-and-set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SwapOutcome {
    /// Done; this is in force now (after [`AssignmentStore::remove_assignment`]: was in force).
    Stored(VideoAssignment),
    /// Somebody else was first; this is in force (`None`: it has been removed).
    Conflict(Option<VideoAssignment>),
    /// It was ordered under a term that is over; this one has begun.
    Fenced(u64),
}

/// Who plans. It holds on as long as `beat` changes, on the observer's own clock, and until somebody mints a later one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannerTerm {
    /// Of two planners, the one with the greater term is in office.
    pub term: u64,
    /// Its name; empty for one whose name the store has lost.
    pub holder: String,
    /// The lease shown last, by this planner or one before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<PlannerLease>,
    /// Differs with every [`AssignmentStore::renew_term`].
    pub beat: u64,
}

/// What became of a try to begin a term or to hold on to one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TermGrant {
    /// This is in force now.
    Held(PlannerTerm),
    /// The term of another planner is in force (`None`: no term is).
    Lost(Option<PlannerTerm>),
}

/// A reader that takes no new videos because a planner said so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReaderCordon {
    /// The reader.
    pub reader: ReaderId,
    /// The way in which the reader is closed.
    pub closing: CordonLevel,
    /// The reason, in the planner's words.
    pub why: String,
}

/// The planner's term and its cordons.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlannerOrders {
    /// The term of the planner; `None`: nobody plans.
    pub planner_term: Option<PlannerTerm>,
    /// The closed readers, in the order of their names.
    pub cordons: Vec<ReaderCordon>,
}

/// A change, as subscribers hear it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AssignmentChange {
    /// This is in force now.
    Assigned {
        /// One more than the version before.
        version: u64,
        /// The assignment.
        assignment: VideoAssignment,
    },
    /// The video is no longer assigned.
    Removed {
        /// One more than the version before.
        version: u64,
        /// The video.
        video_id: VideoId,
    },
    /// Changes may have been missed: load again.
    Reset,
}

/// The store of assignments, heartbeats, terms and cordons that all managers share.
#[async_trait]
pub trait AssignmentStore: Send + Sync {
    /// Reads all assignments.
    async fn load_assignments(&self) -> Result<AssignmentSnapshot, StoreError>;

    /// Gives `video` to `readers` if its assignment still has epoch `expected` (`None`: has none). The new epoch is
    /// greater than all before it and than `seen`, the highest epoch that the caller or any reader knows; a `seen` that
    /// cannot have been minted is refused as [`StoreError::Unusable`]. `term`: the planner's whose order
    /// this is; `None` for what a manager does by itself.
    async fn assign_video(
        &self,
        video: &VideoId,
        expected: Option<u64>,
        readers: &[ReaderShare],
        seen: u64,
        term: Option<u64>,
    ) -> Result<SwapOutcome, StoreError>;

    /// Removes an assignment if it still has epoch `expected`.
    async fn remove_assignment(&self, video: &VideoId, expected: u64) -> Result<SwapOutcome, StoreError>;

    /// Notes a reader's heartbeat.
    async fn note_heartbeat(&self, reader: &ReaderRecord) -> Result<(), StoreError>;

    /// The readers as they last reported.
    async fn reader_records(&self) -> Result<Vec<ReaderRecord>, StoreError>;

    /// Forgets a reader that is gone, if its last heartbeat still is `beat`.
    async fn forget_reader(&self, reader: &ReaderId, beat: u64) -> Result<(), StoreError>;

    /// Reads the planner's term and which readers are closed.
    async fn planner_orders(&self) -> Result<PlannerOrders, StoreError>;

    /// Begins a term of `holder`, later than all before it and than `seen`, if the term in force still is `expected`
    /// (0: none). Without a `lease`, the one shown last stays: one who comes back with an older one is still known.
    async fn mint_term(
        &self,
        holder: &str,
        lease: Option<&PlannerLease>,
        expected: u64,
        seen: u64,
    ) -> Result<TermGrant, StoreError>;

    /// Shows that the planner of `term` is still there: its `beat` is any number that it did not say before. A lease
    /// that is known stays where `term` has none.
    async fn renew_term(&self, term: &PlannerTerm) -> Result<TermGrant, StoreError>;

    /// Closes a reader, or (`None`) opens it again. Returns `Some` with the term in force where `term` is over.
    async fn set_cordon(
        &self,
        term: u64,
        reader: &ReaderId,
        cordon: Option<&ReaderCordon>,
    ) -> Result<Option<u64>, StoreError>;

    /// Changes from now on. The first item is always [`AssignmentChange::Reset`]; one who reads too slowly gets it again.
    /// Reconnects by itself while the receiver lives.
    async fn subscribe_changes(&self) -> Result<mpsc::Receiver<AssignmentChange>, StoreError>;
}
