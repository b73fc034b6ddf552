//! Which reader serves which video, and the readers' heartbeats: what the managers share.
//!
//! Promises of every implementation, checked by [`conformance`]:
//! 1. An assignment changes by compare-and-set of its epoch only; of two managers that try, one wins.
//! 2. Epochs only grow, over all videos, and are greater than every epoch that a caller says it has seen.
//! 3. Whoever subscribed hears of every change; a hole in the versions means that a fresh [`AssignmentStore::load`] is
//!    due.

use async_trait::async_trait;
use liverank_core::placement::Assignment;
use liverank_core::{ReaderId, VideoId};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::StoreError;

pub mod conformance;
pub mod embedded;
pub mod redis;

/// Changes kept for a subscriber who is slow: as many videos as change hands when a reader fails.
pub const CHANGE_QUEUE: usize = 1024;
/// The greatest epoch: what every part (JSON and Lua among them) holds exactly. A hundred years at a million a second.
pub const MAX_EPOCH: u64 = (1 << 53) - 1;

fn epoch_too_high(part: &'static str, seen: u64) -> StoreError {
    StoreError::unusable(part, format!("epoch {seen} was seen, above any that can have been minted"))
}

/// A reader as it last reported itself. Whether it is alive is told by `beat` changing, on the observer's own clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReaderRecord {
    /// Its name.
    pub id: ReaderId,
    /// Where viewers reach it (`http://localhost:4001`).
    pub public_url: String,
    /// Where gateways and managers reach it.
    pub internal_url: String,
    /// Differs in every heartbeat; a restarted reader starts from another random number.
    pub beat: u64,
    /// Viewers it can hold.
    pub capacity: u64,
    /// Viewers connected.
    pub viewers: u64,
    /// Whether it is leaving and takes no new viewers.
    pub draining: bool,
    /// The highest epoch it has seen.
    pub highest_epoch: u64,
    /// Viewers of each video that has any.
    pub videos: Vec<(VideoId, u64)>,
    /// Comments written to viewers since its start.
    pub messages_sent: u64,
}

/// Everything at a version.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    /// Changes of later versions apply to it.
    pub version: u64,
    /// Every assignment.
    pub assignments: Vec<Assignment>,
}

/// What became of a compare-and-set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Swapped {
    /// Done; this is in force now (after [`AssignmentStore::remove`]: was in force).
    Stored(Assignment),
    /// Somebody else was first; this is in force (`None`: it has been removed).
    Conflict(Option<Assignment>),
}

/// A change, as subscribers hear it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// This is in force now.
    Assigned {
        /// One more than the version before.
        version: u64,
        /// The assignment.
        assignment: Assignment,
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

/// What the managers share.
#[async_trait]
pub trait AssignmentStore: Send + Sync {
    /// Everything.
    async fn load(&self) -> Result<State, StoreError>;

    /// Gives `video` to `readers` if its assignment still has epoch `expected` (`None`: has none). The new epoch is
    /// greater than all before it and than `seen`, the highest epoch that the caller or any reader knows; a `seen` of
    /// [`MAX_EPOCH`] or more cannot be true and is refused as [`StoreError::Unusable`].
    async fn assign(
        &self,
        video: &VideoId,
        expected: Option<u64>,
        readers: &[ReaderId],
        seen: u64,
    ) -> Result<Swapped, StoreError>;

    /// Removes an assignment if it still has epoch `expected`.
    async fn remove(&self, video: &VideoId, expected: u64) -> Result<Swapped, StoreError>;

    /// Notes a reader's heartbeat.
    async fn heartbeat(&self, reader: &ReaderRecord) -> Result<(), StoreError>;

    /// The readers as they last reported.
    async fn readers(&self) -> Result<Vec<ReaderRecord>, StoreError>;

    /// Forgets a reader that is gone, if its last heartbeat still is `beat`.
    async fn forget_reader(&self, reader: &ReaderId, beat: u64) -> Result<(), StoreError>;

    /// Changes from now on. The first item is always [`Change::Reset`]; one who reads too slowly gets it again.
    /// Reconnects by itself while the receiver lives.
    async fn changes(&self) -> Result<mpsc::Receiver<Change>, StoreError>;
}
