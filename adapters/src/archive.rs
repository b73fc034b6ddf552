//! The archive: counts, owners and comments, and the offsets of the log up to which they are counted, changed
//! together.
//!
//! Promises of every implementation, checked by `adapters-testkit/src/archive.rs`:
//! 1. [`Archive::commit_batch`] applies a batch wholly and durably or not at all, by
//!    [`liverank_core::counting::apply_moderated_batch`], and only if the archive's next offset in each of the batch's
//!    partitions is the `first` offset of the batch's range.
//! 2. What was read by a commit cannot have changed when it takes effect: two writers of one video serialise.
//! 3. Comments of a video are numbered 1, 2, 3, … without a hole or a repeat.
//! 4. A consumer that claims a partition soon ends the commits that the former owner has under way in it. The
//!    former owner commits to this partition no more, even if the offset fits.
//! 5. Counts by window, and the decayed scores of boards with a decay of their own, change with the counts of
//!    their videos. If releases that know neither have counted in between, the archive says which of them are
//!    incomplete ([`liverank_core::windows::CountedWindowKind`], [`liverank_core::decays::CountedDecay`]).
//! 6. An `event_id` or comment identity that is repeated within 24 h of the log's time counts once, across
//!    partitions.

use async_trait::async_trait;
use liverank_core::comment::{Comment, CommentEpoch};
use liverank_core::counting::{
    Batch, BatchEffects, CountingRules, CountingSetup, NumberedComment, RecordFingerprint, VideoState,
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
    AuditPosition, ENTRIES_READ_PER_CALL, EntryPosition, ModerationArchive, ReportPosition, ReportQueue,
    StoredAuditEntry, UnknownRecord, UserEntries, pinned_comment,
};
pub use rebuild::{
    ArchiveRebuild, ArchiveReplay, ArchiveSnapshot, CommentTally, Progress, RebuildError, ReplayFinish,
    StoredVideo, WindowCount,
};

/// The archive's settings that are fixed for its life, or until a rebuild.
#[derive(Debug, Clone, PartialEq)]
pub struct ArchiveMeta {
    /// The comment epoch to which the sequence numbers of the archive's comments belong.
    pub comment_epoch: CommentEpoch,
    /// The generation of the archive's scores. A projection of another generation is void.
    pub generation: u64,
    /// The rules by which events count in this generation; not necessarily those that the configuration asks
    /// for.
    pub counting_rules: CountingRules,
    /// The kinds of windows that are counted.
    pub windows: CountedWindows,
    /// The decays that are counted beside the decay of the counting rules.
    pub decays: CountedDecays,
}

impl ArchiveMeta {
    /// Returns the rules, windows and decays by which the archive counts.
    pub const fn counting_setup(&self) -> CountingSetup<'_> {
        CountingSetup { rules: &self.counting_rules, windows: &self.windows, decays: &self.decays }
    }
}

/// The position up to which the archive has counted a partition of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ArchivePosition {
    /// The next offset to count: 0 if nothing was applied yet.
    pub next_offset: u64,
    /// The fingerprint of the record at offset `next_offset - 1`, by which the log is recognised. `None` if the batch
    /// that ended there had no fingerprint.
    pub last_record: Option<RecordFingerprint>,
}

/// The result of a commit that took effect.
#[derive(Debug, Clone, PartialEq)]
pub struct CommitResult {
    /// The batch's videos, comments and counts as they are after the commit.
    pub batch_effects: BatchEffects,
    /// The meta data in force when the commit took effect: the rules that counted, and the generation and
    /// comment epoch of the effects.
    pub meta_in_force: ArchiveMeta,
    /// True if the archive stores a document of its own for each event's identity. Callers that see `true` also bound
    /// the number of identities in a batch.
    pub stores_identity_documents: bool,
}

/// The reason why a batch was not applied, or, for [`CommitError::Store`], why it is unknown whether it was applied. A
/// batch is never applied in part.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    /// The archive's offset in this partition is not the one at which the batch begins: another consumer has committed
    /// here, or this consumer lost the answer to its own commit. Claim the partition again, if it still is this
    /// consumer's, and go on from the archive's offset.
    #[error("partition {partition} stands at offset {actual}, not at {expected}")]
    PositionMismatch {
        /// The partition whose next offset is another one.
        partition: u32,
        /// The first offset of the batch in the partition.
        expected: u64,
        /// The archive's next offset in the partition.
        actual: u64,
    },
    /// Another consumer has claimed this partition after this archive claimed it. Ask the log who owns the partition
    /// before claiming it again, or two consumers would go on taking it from each other.
    #[error("partition {partition} was taken up by another consumer")]
    TakenOver {
        /// The partition that another consumer has claimed.
        partition: u32,
    },
    /// The store failed. It is unknown whether the batch was applied: read the positions again.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The part of a video's comments to read, and its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommentPage {
    /// Comments with sequence numbers less than this (`u64::MAX`: the newest), newest first.
    Before(u64),
    /// Comments with sequence numbers greater than this, oldest first.
    After(u64),
}

/// The store of counts, comments and the offsets up to which the log is counted.
#[async_trait]
pub trait Archive: Send + Sync {
    /// Connects, creates what is absent (`wanted` become the rules of a new archive), and returns the meta data in
    /// force. Callers may call `open` again, and several processes may call it at once.
    async fn open(&self, wanted: &CountingRules) -> Result<ArchiveMeta, StoreError>;

    /// Returns the meta data in force; `None` if no consumer has opened this archive yet.
    async fn archive_meta(&self) -> Result<Option<ArchiveMeta>, StoreError>;

    /// Makes this archive (this value, in this process) the only one that may commit to these partitions, and
    /// ends what their former owner has under way. Returns the position of each partition from which to go
    /// on, in the order of `partitions`. Everybody may commit to a partition that nobody has claimed yet.
    async fn claim_partitions(&self, partitions: &[u32]) -> Result<Vec<ArchivePosition>, StoreError>;

    /// Returns the archive's position in each of the partitions, in the order of `partitions`.
    async fn partition_positions(&self, partitions: &[u32]) -> Result<Vec<ArchivePosition>, StoreError>;

    /// Applies a batch. Retries conflicts with other writers by itself, for a bounded time.
    async fn commit_batch(&self, batch: &Batch) -> Result<CommitResult, CommitError>;

    /// Reads the state of one video; `None` if the archive does not have the video.
    async fn video(&self, id: &VideoId) -> Result<Option<VideoState>, StoreError>;

    /// Reads up to `limit` videos with ids after `after`, in ascending byte order: for going through all
    /// videos page by page.
    async fn videos_after(
        &self,
        after: Option<&VideoId>,
        limit: usize,
    ) -> Result<Vec<VideoState>, StoreError>;

    /// Reads up to `limit` entries of a video's channel: comments, what is left of removed comments, and
    /// deletions.
    async fn comments(
        &self,
        video: &VideoId,
        page: CommentPage,
        limit: usize,
    ) -> Result<Vec<Comment>, StoreError>;

    /// Reads the newest comment with this identity, if it is archived; a removed comment comes without its
    /// text.
    async fn newest_comment(&self, video: &VideoId, id: &CommentId) -> Result<Option<Comment>, StoreError>;

    /// Reads up to `limit` comments that came from `partition` at `offset` or later, in log order: for
    /// publishing comments again if it is not certain that they were published.
    async fn comments_from(
        &self,
        partition: u32,
        offset: u64,
        limit: usize,
    ) -> Result<Vec<NumberedComment>, StoreError>;

    /// Makes the archive count these kinds of windows from now on, and no others. Counts of other kinds stay until they
    /// are forgotten.
    async fn set_counted_windows(&self, kinds: &[WindowKind]) -> Result<ArchiveMeta, StoreError>;

    /// Makes the archive count these decays from now on, and no others.
    async fn set_counted_decays(&self, decays: &[Decay]) -> Result<ArchiveMeta, StoreError>;

    /// Reads those of these videos to which something has happened in a window, with their counts within the
    /// window ([`VideoState::with_window_counters`]). Counts may be newer than the state of their video, never
    /// older.
    async fn window_videos(&self, window: &WindowKey, ids: &[VideoId])
    -> Result<Vec<VideoState>, StoreError>;

    /// Reads up to `limit` videos with ids after `after` to which something has happened in a window, in
    /// ascending byte order of their ids and with their counts within the window.
    async fn window_videos_after(
        &self,
        window: &WindowKey,
        after: Option<&VideoId>,
        limit: usize,
    ) -> Result<Vec<VideoState>, StoreError>;

    /// Forgets the counts of windows of this kind that begin before `start`. Each call does a bounded amount of work,
    /// and returns how many counts it removed.
    async fn forget_windows(&self, kind: &WindowKind, start: Millis) -> Result<u64, StoreError>;

    /// Returns the sequence number of the last comment of each video, in the order of `videos`; 0 for a video
    /// without comments.
    async fn last_seqs(&self, videos: &[VideoId]) -> Result<Vec<u64>, StoreError>;

    /// Returns the metadata that apps gave for these videos, in the order of `videos`.
    async fn videos_metadata(&self, videos: &[VideoId]) -> Result<Vec<Option<Metadata>>, StoreError>;

    /// Returns how long these videos were watched in all, in milliseconds, in the order of `videos`.
    async fn videos_watch_ms(&self, videos: &[VideoId]) -> Result<Vec<Option<i64>>, StoreError>;

    /// Returns the owners of these videos, in the order of `videos`.
    async fn video_owners(&self, videos: &[VideoId]) -> Result<Vec<Option<UserId>>, StoreError>;

    /// Forgets identities first seen before `watermark` of the log's time. Each call does a bounded amount of work, and
    /// returns how many identities it removed.
    async fn forget_identities_before(&self, watermark: Millis) -> Result<u64, StoreError>;

    /// Returns the part of this archive that holds the restrictions in force and the audit log.
    fn moderation_archive(&self) -> &dyn ModerationArchive;

    /// Returns the part of this archive that rebuilds it: new generations, rescores, replays and snapshots.
    fn rebuild_archive(&self) -> &dyn ArchiveRebuild;

    /// Returns how many comments are stored, approximately.
    async fn comment_count(&self) -> Result<u64, StoreError>;

    /// Returns the time by the store's own clock; `None` if the store has no clock beside the caller's.
    async fn store_time(&self) -> Result<Option<Millis>, StoreError>;
}
