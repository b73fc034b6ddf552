//! The boards: a projection of the archive that can be thrown away and made again.
//!
//! Promises of every implementation, checked by `adapters-testkit/src/ranking_store.rs`:
//! 1. [`RankingStore::project_batch`] is one atomic step. It takes effect only in its own generation and only where no
//!    earlier batch is missing; replays and zombies change nothing, for entries are absolute, and each has the revision of
//!    its video: a later one stands, whether its scores are higher or lower.
//! 2. Whoever subscribed hears of every change once, in the order of versions `v+1, v+2, …`; a hole in the versions
//!    means that something was missed and a fresh [`RankingStore::boards_snapshot`] is due.
//! 3. A later generation replaces an earlier one as a whole: the earlier one is served until the later one is complete.
//! 4. Lists are in the order of [`liverank_core::ranking`].
//! 5. Metadata stand beside the boards, of each video the latest: whoever subscribed hears of which video another one is
//!    there, and finds it when asking.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use liverank_core::counting::OffsetRange;
use liverank_core::ranking::RankedVideo;
use liverank_core::trace::TraceContext;
use liverank_core::{Metadata, UserId, VideoId};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::StoreError;

pub mod embedded;
pub mod redis;

/// Changes kept for a subscriber who is slow: seconds' worth at the pace of batches, and little memory where each is small.
pub const CHANGE_QUEUE_LENGTH: usize = 256;

/// The two boards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BuiltInBoard {
    /// The board that is ordered by score.
    Global,
    /// The board that is ordered by decayed score. Its numbers are logarithms ([`liverank_core::trending`]).
    Trending,
}

/// One video as the boards hold it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BoardEntry {
    /// The video.
    #[serde(rename = "v")]
    pub video_id: VideoId,
    /// Its owner.
    #[serde(rename = "u")]
    pub owner: UserId,
    /// Its score, in points.
    #[serde(rename = "s")]
    pub score: f64,
    /// Its decayed score as a logarithm; `None` before its first event of weight.
    #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
    pub trending: Option<f64>,
    /// Which state of the video this is ([`liverank_core::counting::VideoState::revision`]): an earlier one never takes the
    /// place of a later one. 0 where a former release put it there.
    #[serde(rename = "n", default)]
    pub revision: u64,
    /// Whether the video was taken off the boards; then it has no scores.
    #[serde(rename = "x", default)]
    pub removed: bool,
}

/// What an app says of a video, as of one state of that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// The video.
    pub video_id: VideoId,
    /// Which state of the video this is, as in [`BoardEntry`].
    pub revision: u64,
    /// Its metadata; `None` where nothing is said of it.
    pub metadata: Option<Metadata>,
}

/// The changes that one batch makes on the boards.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchProjection {
    /// The generation the scores belong to.
    pub generation: u64,
    /// The stretch of the log that the batch covered.
    pub offset_ranges: Vec<OffsetRange>,
    /// The videos it changed, as they are now.
    pub entries: Vec<BoardEntry>,
    /// The spans of those of its events that are recorded: at most [`liverank_core::trace::MAX_TRACES_PER_BATCH`].
    pub traces: Vec<TraceContext>,
}

/// The result of a projection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProjectionOutcome {
    /// It is in, or was already.
    Applied,
    /// The store is empty, older than the batch's start, or of an earlier generation: nothing was written, it has to be
    /// repaired from the archive.
    Behind,
    /// The store is of a later generation, or on its way to one: whoever sent this must look at the archive again.
    Superseded,
}

/// Where the projection stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProjectionCheckpoint {
    /// Its generation; `None` where the store is empty.
    pub generation: Option<u64>,
    /// The next offset of each partition it knows, ascending by partition.
    pub offsets: Vec<(u32, u64)>,
}

/// Where a page of a board goes on: after this video, as it stood then.
#[derive(Debug, Clone, PartialEq)]
pub struct BoardCursor {
    /// Its score on the board.
    pub score: f64,
    /// The video.
    pub video_id: VideoId,
}

/// Where a page of a board begins.
#[derive(Debug, Clone, PartialEq)]
pub enum PageStart {
    /// The page begins at the best video.
    Best,
    /// After this place, which need not be taken any more.
    After(BoardCursor),
    /// So that this video is in the middle ([`liverank_core::ranking::first_index_around`]).
    Around(VideoId),
}

impl PageStart {
    /// The page after the one that ends with `last`.
    pub fn after(last: &RankedVideo) -> Self {
        Self::After(BoardCursor { score: last.score, video_id: last.video_id.clone() })
    }
}

/// A page of a board, and where on the board it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BoardPage {
    /// Its videos, best first.
    pub lines: Vec<RankedVideo>,
    /// The rank of the first of them; the best video has rank 1.
    pub first_rank: u64,
    /// How many videos are on the board.
    pub total: u64,
}

/// Where a video stands on a board.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BoardPlace {
    /// Its rank, the best being 1; `None` where it is not on the board.
    pub rank: Option<u64>,
    /// How many videos are on the board.
    pub total: u64,
}

/// Where a video stands on both boards.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PlacesOfVideo {
    /// The place on [`BuiltInBoard::Global`].
    pub global: BoardPlace,
    /// The place on [`BuiltInBoard::Trending`].
    pub trending: BoardPlace,
}

/// A change of the boards, as subscribers hear it.
#[derive(Debug, Clone, PartialEq)]
pub enum BoardChange {
    /// These videos stand so now.
    Changed {
        /// One more than the version before.
        version: u64,
        /// The videos.
        entries: Vec<BoardEntry>,
        /// Videos of which other metadata are there ([`RankingStore::metadata`]).
        described: Vec<VideoId>,
        /// The spans that brought them, where these are recorded.
        traces: Vec<TraceContext>,
    },
    /// Changes may have been missed (a lost connection, an overflow, a repair, a new generation): take a snapshot.
    Reset,
}

/// All of both boards at a version.
#[derive(Debug, Clone, PartialEq)]
pub struct BoardsSnapshot {
    /// Changes of later versions apply to it; 0 for an empty store.
    pub version: u64,
    /// Every video, in no particular order.
    pub entries: Vec<BoardEntry>,
}

/// The boards.
#[async_trait]
pub trait RankingStore: Send + Sync {
    /// Puts a batch's result on the boards, notes its offsets and tells the subscribers. They also hear of each later state
    /// of the canary ([`liverank_core::canary`]), which is on no board.
    async fn project_batch(&self, projection: &BatchProjection) -> Result<ProjectionOutcome, StoreError>;

    /// Where the projection stands.
    async fn checkpoint(&self) -> Result<ProjectionCheckpoint, StoreError>;

    /// Writes entries of a repair. Where the store is empty they are on the boards at once, for a part of a list is better
    /// than none. In the generation that is in force later revisions stay, and ordinary projections go on meanwhile.
    /// Where an earlier generation is in force it goes on being served, and takes its own projections, while the later
    /// one is gathered out of sight until [`RankingStore::commit_snapshot`]; several may gather the same one.
    ///
    /// [`ProjectionOutcome::Superseded`]: a later generation is in force, or is being gathered; nothing was written, look at the
    /// archive again. Never [`ProjectionOutcome::Behind`]. After any error of this or [`RankingStore::commit_snapshot`] the repair has
    /// to begin again, with the first entry; also after a pause of more than ten minutes, which is such an error. One
    /// repair at a time by each process.
    async fn write_snapshot(
        &self,
        generation: u64,
        entries: &[BoardEntry],
    ) -> Result<ProjectionOutcome, StoreError>;

    /// Ends a repair: puts a generation in force that was gathered, notes that everything before these offsets is on
    /// the boards, and tells subscribers to take a snapshot. Offsets only move up within a generation. Returns as
    /// [`RankingStore::write_snapshot`].
    async fn commit_snapshot(
        &self,
        generation: u64,
        offsets: &[(u32, u64)],
    ) -> Result<ProjectionOutcome, StoreError>;

    /// Notes the half-life that the decayed scores of a generation are made by, in milliseconds. A repair does so before
    /// [`RankingStore::commit_snapshot`]. Noting it again, or after a later generation, changes nothing.
    async fn note_half_life(&self, generation: u64, millis: u64) -> Result<(), StoreError>;

    /// The half-life of the decayed scores that are in force, in milliseconds; `None` where it was never noted: an earlier
    /// release filled the boards.
    async fn noted_half_life(&self) -> Result<Option<u64>, StoreError>;

    /// Up to `limit` videos of a board from `start` on, best first, in `O(log n + limit)`. Goes on at the right place also
    /// when the cursor's video has moved or gone. `None` where the video that it is to be around is not on the board.
    async fn board_page(
        &self,
        board: BuiltInBoard,
        start: &PageStart,
        limit: usize,
    ) -> Result<Option<BoardPage>, StoreError>;

    /// Where a video stands, by the order of lists, in `O(log n)`.
    async fn places_of_video(&self, video: &VideoId) -> Result<PlacesOfVideo, StoreError>;

    /// Everything. Entries may be newer than the version, never older: applying the changes after it, which are absolute,
    /// leads to the same.
    async fn boards_snapshot(&self) -> Result<BoardsSnapshot, StoreError>;

    /// Changes from now on. The channel's bound is the implementation's; one who reads too slowly gets
    /// [`BoardChange::Reset`]. The first item is always [`BoardChange::Reset`]. Reconnects by itself while the receiver lives.
    async fn subscribe_changes(&self) -> Result<mpsc::Receiver<BoardChange>, StoreError>;

    /// Puts metadata beside the boards, where no later one is known, and tells the subscribers of which videos others are there
    /// now. Of a later generation all are later. It can be done before anything is on the boards.
    async fn describe(&self, generation: u64, videos: &[Described]) -> Result<(), StoreError>;

    /// The metadata of each of these videos that [`RankingStore::describe`] put there.
    async fn metadata(&self, videos: &[VideoId]) -> Result<Vec<Option<Metadata>>, StoreError>;

    /// Notes that the metadata of every video that the archive has were put there.
    async fn note_described(&self) -> Result<(), StoreError>;

    /// Whether that was noted, and what was put there has not been lost since. An earlier release puts none there.
    async fn is_described(&self) -> Result<bool, StoreError>;

    /// What holds a declared board, by its key ([`liverank_core::boards::DeclaredBoard::key`]): a store beside this one, that
    /// shares nothing with it and makes the same promises. It has no declared boards of its own, and nobody puts metadata there.
    fn declared_board(&self, key: &str) -> Arc<dyn RankingStore>;

    /// Says that these declared boards are wanted, and removes those of which nobody has said so for `unwanted_after`. It has to
    /// be said again and again. Returns the keys of what was removed.
    async fn keep_declared_boards(
        &self,
        wanted: &[String],
        unwanted_after: Duration,
    ) -> Result<Vec<String>, StoreError>;
}
