//! The archive: counts, owners and comments, and the offsets of the log that they stand at, changed together.
//!
//! Promises of every implementation, checked by `adapters-testkit/src/archive.rs`:
//! 1. [`Archive::commit_batch`] applies a batch wholly and durably or not at all, by
//!    [`liverank_core::counting::apply_moderated_batch`], and only if the archive stands at the batch's `from` offset in each of its partitions.
//! 2. What was read by a commit cannot have changed when it takes effect: two writers of one video serialise.
//! 3. Comments of a video are numbered 1, 2, 3, … without a hole or a repeat.
//! 4. Who takes a partition up ends what its former owner has under way there, soon, and the former owner commits to
//!    it no more, not even where the offset fits.
//! 5. Counts by window, and decayed scores of boards' own, change with the counts of their videos, also where releases that know
//!    neither have counted in between: then it is said what lacks something ([`liverank_core::windows::CountedKind`],
//!    [`liverank_core::decays::CountedDecay`]).
//! 6. An `event_id` or comment identity repeated within 24 h of the log's time counts once, across partitions.

use async_trait::async_trait;
use liverank_core::comment::{Comment, CommentEpoch};
use liverank_core::counting::{
    Batch, BatchEffects, CountingRules, InForce, NumberedComment, RecordFingerprint, VideoState,
};
use liverank_core::decays::{CountedDecays, Decay};
use liverank_core::windows::{CountedWindows, WindowKey, WindowKind};
use liverank_core::{CommentId, Metadata, Millis, UserId, VideoId};

use crate::StoreError;

pub mod embedded;
mod moderation;
pub mod mongodb;
mod numbering;
mod rebuild;

pub use moderation::{
    AuditLine, AuditPosition, ENTRIES_READ_PER_CALL, EntryPosition, ModerationArchive, ReportPosition,
    ReportQueue, UnknownRecord, UserEntries, pinned_comment,
};
pub use rebuild::{
    ArchiveCut, ArchiveRebuild, ArchiveReplay, CommentTally, Progress, RebuildError, ReplayFinish,
    StoredVideo, WindowCount,
};

/// What is fixed for an archive's life, or until a rebuild.
#[derive(Debug, Clone, PartialEq)]
pub struct ArchiveMeta {
    /// Which count of comments its numbers belong to.
    pub comment_epoch: CommentEpoch,
    /// Which generation of scores it holds: a projection of another generation is void.
    pub generation: u64,
    /// How events count in this generation. Not necessarily what the configuration asks for.
    pub counting_rules: CountingRules,
    /// The windows that are counted.
    pub windows: CountedWindows,
    /// The decays that are counted beside that of the rules.
    pub decays: CountedDecays,
}

impl ArchiveMeta {
    /// By what the archive counts.
    pub const fn in_force(&self) -> InForce<'_> {
        InForce { rules: &self.counting_rules, windows: &self.windows, decays: &self.decays }
    }
}

/// Where the archive stands in a partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ArchivePosition {
    /// The offset to go on from: 0 where nothing was applied yet.
    pub next_offset: u64,
    /// The mark of the record at offset `next - 1`, by which the log is known again. `None` where the batch gave none.
    pub last_record: Option<RecordFingerprint>,
}

/// What a commit did.
#[derive(Debug, Clone, PartialEq)]
pub struct CommitResult {
    /// Videos, comments and counts as they are now.
    pub batch_effects: BatchEffects,
    /// What was in force when it took effect: the rules that counted, and the generation and numbering of the effects.
    pub meta_in_force: ArchiveMeta,
    /// Whether the identity of each event takes room of its own in the archive. Batches are to be bounded by that, too.
    pub identity_documents: bool,
}

/// Why a batch was not applied. Nothing of it was.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    /// The archive stands elsewhere in this partition: another consumer was here, or this one lost its answer. Take it
    /// up again, if it still is this consumer's, and go on from there.
    #[error("partition {partition} stands at offset {actual}, not at {expected}")]
    PositionMismatch {
        /// The partition.
        partition: u32,
        /// Where the batch wanted to start.
        expected: u64,
        /// Where the archive stands.
        actual: u64,
    },
    /// Another consumer took this partition up since. Ask the log whose it is before taking it up again, or two would
    /// go on taking it from each other.
    #[error("partition {partition} was taken up by another consumer")]
    TakenOver {
        /// The partition.
        partition: u32,
    },
    /// The store failed. Unknown whether the batch was applied: ask for the offsets again.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Which comments of a video to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommentPage {
    /// Comments numbered less than this (`u64::MAX`: the newest), newest first.
    Before(u64),
    /// Comments numbered more than this, oldest first.
    After(u64),
}

/// The archive.
#[async_trait]
pub trait Archive: Send + Sync {
    /// Connects, creates what is absent (`wanted` become the rules of a new archive), and returns what is in force.
    /// May be called again, by several processes at once.
    async fn open(&self, wanted: &CountingRules) -> Result<ArchiveMeta, StoreError>;

    /// What is in force, or `None` where no consumer has opened this archive yet.
    async fn archive_meta(&self) -> Result<Option<ArchiveMeta>, StoreError>;

    /// Makes this archive (this value, in this process) the only one that may commit to these partitions, ends what
    /// their former owner has under way, and answers where to go on, in their order. A partition that nobody took up
    /// yet is open to all.
    async fn claim_partitions(&self, partitions: &[u32]) -> Result<Vec<ArchivePosition>, StoreError>;

    /// Where each of the partitions stands, in their order.
    async fn partition_positions(&self, partitions: &[u32]) -> Result<Vec<ArchivePosition>, StoreError>;

    /// Applies a batch. Retries conflicts with other writers by itself, within a bound.
    async fn commit_batch(&self, batch: &Batch) -> Result<CommitResult, CommitError>;

    /// One video.
    async fn video(&self, id: &VideoId) -> Result<Option<VideoState>, StoreError>;

    /// Up to `limit` videos with ids after `after`, in ascending byte order: for walking through all of them.
    async fn videos_after(
        &self,
        after: Option<&VideoId>,
        limit: usize,
    ) -> Result<Vec<VideoState>, StoreError>;

    /// Up to `limit` entries of a video's channel: comments, what is left of removed ones, and deletions.
    async fn comments(
        &self,
        video: &VideoId,
        page: CommentPage,
        limit: usize,
    ) -> Result<Vec<Comment>, StoreError>;

    /// The newest comment of this identity, if it is archived; a removed one without its text.
    async fn newest_comment(&self, video: &VideoId, id: &CommentId) -> Result<Option<Comment>, StoreError>;

    /// Up to `limit` comments that came from `partition` at `offset` or later, in log order: for publishing again what
    /// may not have been.
    async fn comments_from(
        &self,
        partition: u32,
        offset: u64,
        limit: usize,
    ) -> Result<Vec<NumberedComment>, StoreError>;

    /// Counts these kinds of windows from now on, and no others; what is counted of others stays until it is forgotten.
    async fn count_windows(&self, kinds: &[WindowKind]) -> Result<ArchiveMeta, StoreError>;

    /// Counts these decays from now on, and no others.
    async fn count_decays(&self, decays: &[Decay]) -> Result<ArchiveMeta, StoreError>;

    /// Those of these videos to which something has happened in a window, as they are within it
    /// ([`VideoState::within_window`]). Counts may be newer than the video that they are of, never older.
    async fn window_videos(&self, window: &WindowKey, ids: &[VideoId])
    -> Result<Vec<VideoState>, StoreError>;

    /// The same, of up to `limit` videos with ids after `after`, in ascending byte order.
    async fn window_videos_after(
        &self,
        window: &WindowKey,
        after: Option<&VideoId>,
        limit: usize,
    ) -> Result<Vec<VideoState>, StoreError>;

    /// Forgets what is counted in windows of this kind that begin before `start`. Bounded work a call; returns how many counts went.
    async fn forget_windows(&self, kind: &WindowKind, start: Millis) -> Result<u64, StoreError>;

    /// The number of the last comment of each video, in their order; 0 where there is none.
    async fn last_seqs(&self, videos: &[VideoId]) -> Result<Vec<u64>, StoreError>;

    /// What apps say of these videos, in their order.
    async fn videos_metadata(&self, videos: &[VideoId]) -> Result<Vec<Option<Metadata>>, StoreError>;

    /// The owners of these videos, in their order.
    async fn video_owners(&self, videos: &[VideoId]) -> Result<Vec<Option<UserId>>, StoreError>;

    /// Forgets identities first seen before `watermark` of the log's time. Bounded work a call; returns how many went.
    async fn forget_identities_before(&self, watermark: Millis) -> Result<u64, StoreError>;

    /// The restrictions in force and the audit log.
    fn moderation_archive(&self) -> &dyn ModerationArchive;

    /// What this archive can do besides serving.
    fn rebuild_archive(&self) -> &dyn ArchiveRebuild;

    /// How many comments are stored, roughly.
    async fn comment_count(&self) -> Result<u64, StoreError>;
}
