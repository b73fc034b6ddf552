//! The operations of an archive besides serving: to start a generation, to score videos anew, to count the
//! log anew, and to read the archive as of one moment.
//!
//! Promises of every implementation, checked by `adapters-testkit/src/archive/rebuilds.rs`, while consumers go on committing:
//! 1. A commit lies wholly before or wholly after a change of [`ArchiveMeta`]: the commit counts by one set
//!    of rules, and says by which.
//! 2. A rebuild that died leaves an archive that serves; the next rebuild finishes the dead one or begins it
//!    anew.
//! 3. A rebuild loses nothing that was committed, and counts nothing twice.

use async_trait::async_trait;
use liverank_core::counting::{CountingRules, MarkKey, UniqueMark, VideoState};
use liverank_core::score::Counters;
use liverank_core::windows::WindowKey;
use liverank_core::{Millis, VideoId};

use super::{Archive, ArchiveMeta, ArchivePosition};
use crate::StoreError;

/// A callback that is told how much of a rebuild is done, and of how much (an estimate, and possibly less
/// than what is done in the end).
pub type Progress<'a> = &'a (dyn Fn(u64, u64) + Send + Sync);

/// The reason why a rebuild did not happen. The archive in force did not change.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RebuildError {
    /// The rebuild cannot be done as asked. The text gives the reason, and says what to do instead.
    #[error("{0}")]
    Refused(String),
    /// The store failed: asking for the rebuild again goes on with it, or begins it anew.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A video as the archive stores it.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredVideo {
    /// The state of the video.
    pub state: VideoState,
    /// The score that clients of the database read, in points. If none is stored, it is computed from the
    /// state.
    pub score: f64,
}

/// The number of comments of a video and their highest sequence number, as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommentTally {
    /// The video that has these comments.
    pub video_id: VideoId,
    /// The number of comments of the video.
    pub comment_count: u64,
    /// The highest sequence number of the video's comments. Numbers are unique, so there is no hole if it
    /// equals `comment_count`.
    pub highest_seq: u64,
}

/// The contents of an archive as of one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct ArchiveSnapshot {
    /// The meta data that were in force at that moment.
    pub meta: ArchiveMeta,
    /// The position in each partition that the archive knows, in ascending order of partitions.
    pub positions: Vec<(u32, ArchivePosition)>,
    /// All videos, in byte order of their ids.
    pub videos: Vec<StoredVideo>,
    /// All videos that have comments, in byte order of their ids.
    pub comment_tallies: Vec<CommentTally>,
    /// The counters of all videos in all windows.
    pub window_counts: Vec<WindowCount>,
}

/// The counters of a video in one window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowCount {
    /// The window in which the interactions happened.
    pub window: WindowKey,
    /// The video to which the interactions happened.
    pub video: VideoId,
    /// The number of interactions of each kind with the video within the window.
    pub counters: Counters,
}

/// The outcome of an attempt to finish a replay.
#[derive(Debug, Clone, PartialEq)]
pub enum ReplayFinish {
    /// Consumers have counted further than the replay: count up to these offsets (exclusive, by partition),
    /// and finish again. The consumers have been asked to wait, and do so for a few seconds.
    Behind(Vec<(u32, u64)>),
    /// The replayed archive has taken the place of the one that served.
    Done {
        /// The meta data in force after the replay.
        meta: ArchiveMeta,
        /// True if the comments are numbered otherwise than before, so that readers' positions are void.
        renumbered: bool,
    },
}

/// A replay: the log is counted anew into a second archive, beside the archive that serves.
#[async_trait]
pub trait ArchiveReplay: Send + Sync {
    /// Returns the archive to count into: claim its partitions, go on from its positions, and commit, as with
    /// any archive.
    fn archive(&self) -> &dyn Archive;

    /// Puts the replayed archive in the place of the one that serves, unless the latter has counted further in some
    /// partition. With `anyway` the replayed archive is put in place even if the serving one has counted further:
    /// another log than the one that was counted may end at an earlier offset.
    async fn swap_in(&self, anyway: bool, progress: Progress<'_>) -> Result<ReplayFinish, StoreError>;

    /// Discards the replayed archive with everything that was counted into it.
    async fn discard_replay(&self) -> Result<(), StoreError>;
}

/// Makes an archive's scores or counts anew; see [`Archive::rebuild_archive`].
#[async_trait]
pub trait ArchiveRebuild: Send + Sync {
    /// Starts a new generation with the same rules, which makes every projection void.
    async fn bump_generation(&self) -> Result<ArchiveMeta, StoreError>;

    /// Scores all videos by other rules, in a new generation. Counts stay unchanged. Trending scores stay, too, unless
    /// the half-life changes: then they start anew. Types that count once per user from now on may be added: events
    /// that counted before are attributed to no user, and stay counted. Returns [`RebuildError::Refused`] if the scores
    /// by these rules cannot be computed from the stored counts ([`CountingRules::check_rescore`]).
    async fn rescore_videos(
        &self,
        rules: &CountingRules,
        progress: Progress<'_>,
    ) -> Result<ArchiveMeta, RebuildError>;

    /// Begins an empty archive of the next generation beside this one, or one that starts as a copy of the archive
    /// `from` (MongoDB: a database on the same servers; embedded: a directory) that nobody writes to. Returns
    /// [`RebuildError::Refused`] if the copy could not be scored by `rules`. The new archive counts the same windows as
    /// this one. A replay that was begun before is discarded.
    async fn begin_replay(
        &self,
        rules: &CountingRules,
        from: Option<&str>,
        progress: Progress<'_>,
    ) -> Result<Box<dyn ArchiveReplay>, RebuildError>;

    /// Reads this archive, or the one that `of` names as in [`ArchiveRebuild::begin_replay`], as of one
    /// moment. The whole result is held in memory: some 500 bytes a video.
    async fn read_snapshot(&self, of: Option<&str>) -> Result<ArchiveSnapshot, StoreError>;

    /// Returns those of these identities ([`liverank_core::counting::identity_of_event`]) that the archive remembers,
    /// each with the time at which it was first seen. The identities are looked up in this archive, or in the one that
    /// `of` names as in [`ArchiveRebuild::begin_replay`].
    async fn known_identities(
        &self,
        of: Option<&str>,
        identities: &[String],
    ) -> Result<Vec<(String, Millis)>, StoreError>;

    /// Returns those of these marks that are set, each with its contents: in this archive, or in the one that
    /// `of` names as in [`ArchiveRebuild::begin_replay`].
    async fn read_marks(
        &self,
        of: Option<&str>,
        keys: &[MarkKey],
    ) -> Result<Vec<(MarkKey, UniqueMark)>, StoreError>;
}
