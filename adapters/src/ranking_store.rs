//! The store of the boards: a projection of the archive that can be discarded and made again.
//!
//! Promises of every implementation, checked by `adapters-testkit/src/ranking_store.rs`:
//! 1. [`RankingStore::project_batch`] is one atomic step. It takes effect only in its own generation and only if no
//!    earlier batch is missing. Replays and zombies change nothing: entries are absolute, and each has the revision of
//!    its video. The later revision stays, whether its scores are higher or lower.
//! 2. Every subscriber receives every change once, in the order of versions `v+1, v+2, …`; a gap in the versions means
//!    that a change was missed and that [`RankingStore::boards_snapshot`] must be called again.
//! 3. A later generation replaces an earlier one as a whole: the earlier one is served until the later one is
//!    complete.
//! 4. Lists are in the order of [`liverank_core::ranking`].
//! 5. Idle videos leave the boards ([`RankingStore::retire_idle`]); an event brings a video back.
//! 6. Metadata are stored beside the boards, the latest of each video. Subscribers are told which videos have other
//!    metadata now, and can read them from then on.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use liverank_core::counting::OffsetRange;
use liverank_core::ranking::RankedVideo;
use liverank_core::trace::TraceContext;
use liverank_core::{Metadata, Millis, UserId, VideoId};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::StoreError;

pub mod embedded;
pub mod redis;

/// The number of changes kept for a subscriber that is slow: some seconds of batches, and little memory because each
/// change is small.
pub const CHANGE_QUEUE_LENGTH: usize = 256;

/// The largest number of videos that one call of [`RankingStore::retire_idle`] takes off the boards: it takes a store a
/// few milliseconds, during which other calls wait.
pub const RETIRED_PER_CALL: usize = 500;

/// The two boards that every installation has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BuiltInBoard {
    /// The board that is ordered by score.
    Global,
    /// The board that is ordered by decayed score. The scores of this board are logarithms
    /// ([`liverank_core::trending`]).
    Trending,
}

/// One video as the boards hold it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BoardEntry {
    /// The video of this entry.
    #[serde(rename = "v")]
    pub video_id: VideoId,
    /// The owner of the video.
    #[serde(rename = "u")]
    pub owner: UserId,
    /// The score of the video, in points.
    #[serde(rename = "s")]
    pub score: f64,
    /// The decayed score of the video as a logarithm; `None` before its first event with a weight.
    #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
    pub trending: Option<f64>,
    /// The revision of the video's state ([`liverank_core::counting::VideoState::revision`]): an earlier revision
    /// never replaces a later one. The revision is 0 if an earlier release wrote this entry.
    #[serde(rename = "n", default)]
    pub revision: u64,
    /// True if the video was taken off the boards; then it has no scores.
    #[serde(rename = "x", default)]
    pub removed: bool,
}

/// The metadata that an app gave for a video, as of one revision of the video.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedVideo {
    /// The video that is described.
    pub video_id: VideoId,
    /// The revision of the video's state, as in [`BoardEntry`].
    pub revision: u64,
    /// The metadata of the video; `None` if the app gave none.
    pub metadata: Option<Metadata>,
}

/// The changes that one batch makes on the boards.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchProjection {
    /// The generation to which the scores belong.
    pub generation: u64,
    /// The offset ranges of the log that the batch covered.
    pub offset_ranges: Vec<OffsetRange>,
    /// The videos that the batch changed, as they are now.
    pub entries: Vec<BoardEntry>,
    /// The trace spans of the batch's recorded events: at most [`liverank_core::trace::MAX_TRACES_PER_BATCH`].
    pub traces: Vec<TraceContext>,
}

impl BatchProjection {
    /// Returns the time at which the log took the newest record of the batch, by the broker's clock; `None` if the batch
    /// covers no record.
    pub fn logged_at(&self) -> Option<Millis> {
        let last = self.offset_ranges.iter().filter_map(|range| range.last_record.as_ref());
        last.map(|record| record.broker_time).max()
    }
}

/// The result of projecting a batch onto the boards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProjectionOutcome {
    /// The projection is on the boards, or was already.
    Applied,
    /// The store is empty, its offset is before the batch's start, or it is of an earlier generation: nothing was
    /// written, the store has to be repaired from the archive.
    Behind,
    /// The store is of a later generation, or a later one is being written: the caller must read the archive's meta
    /// data again.
    Superseded,
}

/// The generation of the boards and the offsets up to which they show the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProjectionCheckpoint {
    /// The generation of the boards; `None` if the store is empty.
    pub generation: Option<u64>,
    /// The next offset of each partition that the store knows, ascending by partition.
    pub offsets: Vec<(u32, u64)>,
}

/// The position at which a page of a board continues: after this video, with the score that it had then.
#[derive(Debug, Clone, PartialEq)]
pub struct BoardCursor {
    /// The score that the video had on the board.
    pub score: f64,
    /// The video after which the page continues.
    pub video_id: VideoId,
}

/// The position at which a page of a board begins.
#[derive(Debug, Clone, PartialEq)]
pub enum PageStart {
    /// The page begins at the best video.
    Best,
    /// The page begins after this position, even if no video is there any more.
    After(BoardCursor),
    /// The page has this video in its middle ([`liverank_core::ranking::first_index_around`]).
    Around(VideoId),
}

impl PageStart {
    /// Returns the start of the page after the one that ends with `last`.
    pub fn after(last: &RankedVideo) -> Self {
        Self::After(BoardCursor { score: last.score, video_id: last.video_id.clone() })
    }
}

/// A page of a board, and its position on the board.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BoardPage {
    /// The videos of the page, best first.
    pub videos: Vec<RankedVideo>,
    /// The rank of the first video of the page; the best video of the board has rank 1.
    pub first_rank: u64,
    /// The number of videos on the board.
    pub total: u64,
}

/// The rank of a video on a board.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BoardPlace {
    /// The rank of the video, the best being 1; `None` if the video is not on the board.
    pub rank: Option<u64>,
    /// The number of videos on the board.
    pub total: u64,
}

/// The ranks of a video on both boards.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BuiltInBoardPlaces {
    /// The rank on [`BuiltInBoard::Global`].
    pub global: BoardPlace,
    /// The rank on [`BuiltInBoard::Trending`].
    pub trending: BoardPlace,
}

/// A change of the boards, as subscribers receive it.
#[derive(Debug, Clone, PartialEq)]
pub enum BoardChange {
    /// Entries of the boards, or metadata of videos, have changed.
    Changed {
        /// The boards' version after the change: one more than the version before.
        version: u64,
        /// The changed entries, as they are now.
        entries: Vec<BoardEntry>,
        /// The videos that have other metadata now ([`RankingStore::metadata`]).
        described: Vec<VideoId>,
        /// The trace spans of the events that made the change, if these are recorded.
        traces: Vec<TraceContext>,
        /// The time at which the log took the newest record that made the change, by the broker's clock; `None` if it is
        /// not known, and for metadata.
        logged_at: Option<Millis>,
    },
    /// Changes may have been missed (a lost connection, an overflow, a repair, a new generation): read a snapshot.
    Reset,
}

/// The entries of both boards at one version.
#[derive(Debug, Clone, PartialEq)]
pub struct BoardsSnapshot {
    /// The version of the snapshot: changes of later versions apply to it; 0 for an empty store.
    pub version: u64,
    /// The entries of all videos, in no particular order.
    pub entries: Vec<BoardEntry>,
}

/// The store of the two boards, of declared boards and of videos' metadata.
#[async_trait]
pub trait RankingStore: Send + Sync {
    /// Returns the name of the store in its errors ([`StoreError::store_name`]) and in the health of the processes that
    /// use it.
    fn store_name(&self) -> &'static str;

    /// Puts a batch's result on the boards, stores its offsets and notifies the subscribers. Subscribers also receive
    /// each later state of the canary ([`liverank_core::canary`]), which is on no board.
    async fn project_batch(&self, projection: &BatchProjection) -> Result<ProjectionOutcome, StoreError>;

    /// Reads the generation of the boards and the offsets up to which they show the log.
    async fn checkpoint(&self) -> Result<ProjectionCheckpoint, StoreError>;

    /// Writes entries of a repair. If the store is empty the entries are on the boards at once, because a part of a
    /// list is better than none. In the generation that is in force later revisions stay, and ordinary projections go
    /// on meanwhile. If an earlier generation is in force, it goes on being served, and accepts its own projections,
    /// while the later generation is gathered without being shown until [`RankingStore::commit_snapshot`]. Several
    /// processes may gather the same generation.
    ///
    /// Returns [`ProjectionOutcome::Superseded`] if a later generation is in force or is being gathered: nothing was
    /// written, read the archive's meta data again. Never returns [`ProjectionOutcome::Behind`]. After any error of
    /// this method or of [`RankingStore::commit_snapshot`] the repair has to begin again with the first entry; a pause
    /// of more than ten minutes between two calls is such an error. Each process does one repair at a time.
    async fn write_snapshot(
        &self,
        generation: u64,
        entries: &[BoardEntry],
    ) -> Result<ProjectionOutcome, StoreError>;

    /// Ends a repair: puts the gathered generation in force, stores that everything before these offsets is on the
    /// boards, and tells subscribers to read a snapshot. Offsets only move up within a generation. Returns the same
    /// outcomes as [`RankingStore::write_snapshot`].
    async fn commit_snapshot(
        &self,
        generation: u64,
        offsets: &[(u32, u64)],
    ) -> Result<ProjectionOutcome, StoreError>;

    /// Takes videos with a decayed score below `line` off the boards, the lowest first and at most
    /// [`RETIRED_PER_CALL`], and tells the subscribers. The revisions of these videos are forgotten, too, so that only
    /// their metadata are left. From then on [`RankingStore::write_snapshot`] and [`RankingStore::project_batch`] bring
    /// no video back whose decayed score is below `line`. `line` does not apply to later generations. The `line` of the
    /// last call applies, even if it is lower than that of an earlier call.
    ///
    /// Returns how many videos were taken off; none if the boards are of another generation.
    async fn retire_idle(&self, generation: u64, line: f64) -> Result<u64, StoreError>;

    /// Returns the decayed score below which videos are idle: the `line` of the last call of
    /// [`RankingStore::retire_idle`] in this generation; `None` if there was no call.
    async fn idle_threshold(&self) -> Result<Option<f64>, StoreError>;

    /// Stores the half-life, in milliseconds, by which the decayed scores of a generation are made. A repair stores the
    /// half-life before it calls [`RankingStore::commit_snapshot`]. Storing it again, or after a later generation,
    /// changes nothing.
    async fn note_half_life(&self, generation: u64, millis: u64) -> Result<(), StoreError>;

    /// Reads the half-life of the decayed scores that are in force, in milliseconds; `None` if it was never stored
    /// because an earlier release filled the boards.
    async fn noted_half_life(&self) -> Result<Option<u64>, StoreError>;

    /// Reads up to `limit` videos of a board from `start` on, best first, in `O(log n + limit)`. Continues at the
    /// right position also if the cursor's video has moved or gone. `None` if the video of [`PageStart::Around`] is
    /// not on the board.
    async fn board_page(
        &self,
        board: BuiltInBoard,
        start: &PageStart,
        limit: usize,
    ) -> Result<Option<BoardPage>, StoreError>;

    /// Reads the ranks of a video on both boards, by the order of lists, in `O(log n)`.
    async fn ranks_of_video(&self, video: &VideoId) -> Result<BuiltInBoardPlaces, StoreError>;

    /// Reads all entries of both boards. Entries may be newer than the version, never older: applying the later
    /// changes, which are absolute, leads to the same result.
    async fn boards_snapshot(&self) -> Result<BoardsSnapshot, StoreError>;

    /// Returns a channel of the changes from now on. The bound of the channel depends on the implementation; a
    /// subscriber that reads too slowly gets [`BoardChange::Reset`]. The first item is always [`BoardChange::Reset`].
    /// The subscription reconnects by itself while the receiver lives.
    async fn subscribe_changes(&self) -> Result<mpsc::Receiver<BoardChange>, StoreError>;

    /// Stores videos' metadata beside the boards, unless a later revision is stored, and tells the subscribers which
    /// videos have other metadata now. Any metadata of a later generation replace those of an earlier one. This method
    /// may be called before the boards have entries.
    async fn put_metadata(&self, generation: u64, videos: &[DescribedVideo]) -> Result<(), StoreError>;

    /// Reads the metadata of each of these videos that [`RankingStore::put_metadata`] stored.
    async fn metadata(&self, videos: &[VideoId]) -> Result<Vec<Option<Metadata>>, StoreError>;

    /// Stores that the metadata of every video in the archive were written beside the boards.
    async fn note_metadata_complete(&self) -> Result<(), StoreError>;

    /// Returns true if [`RankingStore::note_metadata_complete`] was called and the metadata have not been lost since.
    /// Earlier releases write no metadata.
    async fn is_metadata_complete(&self) -> Result<bool, StoreError>;

    /// Returns the store of a declared board, by its key ([`liverank_core::boards::DeclaredBoard::store_key`]): a store
    /// beside this one, which shares nothing with it and makes the same promises. A declared board's store has no
    /// declared boards of its own, and nobody writes metadata to it.
    fn declared_board(&self, key: &str) -> Arc<dyn RankingStore>;

    /// Marks these declared boards as wanted, and removes those that nobody has marked for `unwanted_after`. The call
    /// has to be repeated regularly. Returns the keys of the removed boards.
    async fn retain_declared_boards(
        &self,
        wanted: &[String],
        unwanted_after: Duration,
    ) -> Result<Vec<String>, StoreError>;

    /// Returns the sorted keys of the declared boards that were marked as wanted when a board was last marked, or at
    /// most `together` before. The boards thus stay known while nobody marks any.
    async fn wanted_boards(&self, together: Duration) -> Result<Vec<String>, StoreError>;

    /// Returns the time by the store's own clock; `None` if the store has no clock beside the caller's.
    async fn store_time(&self) -> Result<Option<Millis>, StoreError>;
}
