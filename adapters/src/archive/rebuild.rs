//! What an archive can do besides serving: start a generation, score anew, be counted anew from the log, and be looked
//! at as of one moment.
//!
//! Promises of every implementation, checked by `adapters-testkit/src/archive/rebuilds.rs`, while consumers go on committing:
//! 1. A commit lies wholly before or wholly after a change of [`ArchiveMeta`]: it counts by one set of rules, and says which.
//! 2. A rebuild that died leaves an archive that serves; whoever comes next finishes it or begins it anew.
//! 3. Nothing of what was committed is lost by a rebuild, and nothing counts twice.

use async_trait::async_trait;
use liverank_core::counting::{CountingRules, MarkKey, UniqueMark, VideoState};
use liverank_core::score::Counters;
use liverank_core::windows::WindowKey;
use liverank_core::{Millis, VideoId};

use super::{Archive, ArchiveMeta, ArchivePosition};
use crate::StoreError;

/// Told how much is done, and of how much (an estimate, and possibly less than what is done in the end).
pub type Progress<'a> = &'a (dyn Fn(u64, u64) + Send + Sync);

/// Why a rebuild did not happen. What was in force still is.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RebuildError {
    /// It cannot be done as asked. The text says why, and what to do instead.
    #[error("{0}")]
    Refused(String),
    /// The store failed: asking again goes on, or begins anew.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A video as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredVideo {
    /// The state of the video.
    pub state: VideoState,
    /// The score that clients of the database read, in points. Where none is stored, the one that follows.
    pub score: f64,
}

/// The comments of a video, as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommentTally {
    /// The video.
    pub video_id: VideoId,
    /// How many comments the video has.
    pub comment_count: u64,
    /// The largest number among them. Numbers are unique, so there is no hole where it equals the count.
    pub highest_seq: u64,
}

/// An archive as of one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct ArchiveCut {
    /// The meta data that were in force at that moment.
    pub meta: ArchiveMeta,
    /// Where each partition stood that the archive knows, in ascending order.
    pub positions: Vec<(u32, ArchivePosition)>,
    /// All videos, in byte order of their ids.
    pub videos: Vec<StoredVideo>,
    /// All videos that have comments, in byte order of their ids.
    pub comments: Vec<CommentTally>,
    /// All counts by window.
    pub windows: Vec<WindowCount>,
}

/// What happened to a video in a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowCount {
    /// The window.
    pub window: WindowKey,
    /// The video.
    pub video: VideoId,
    /// How often each thing happened.
    pub counters: Counters,
}

/// The outcome of an attempt to finish a replay.
#[derive(Debug, Clone, PartialEq)]
pub enum ReplayFinish {
    /// Consumers have counted further than the replay: count up to these offsets (exclusive), and finish again. The
    /// consumers have been asked to wait, and do so for a few seconds.
    Behind(Vec<(u32, u64)>),
    /// The new archive is the archive.
    Done {
        /// The meta data that are in force now.
        meta: ArchiveMeta,
        /// Whether the comments are numbered otherwise than before, so that readers' positions are void.
        renumbered: bool,
    },
}

/// The log being counted anew, beside the archive that serves.
#[async_trait]
pub trait ArchiveReplay: Send + Sync {
    /// The archive to count into: take its partitions up, go on from where it stands, and commit, as with any.
    fn archive(&self) -> &dyn Archive;

    /// Puts what was counted in the archive's place, unless that stands further in some partition.
    /// With `anyway` also then: for a log that ends before the archive does, since it is another one.
    async fn put_in_place(&self, anyway: bool, progress: Progress<'_>) -> Result<ReplayFinish, StoreError>;

    /// Throws away what was counted.
    async fn discard_replay(&self) -> Result<(), StoreError>;
}

/// Makes an archive's scores or counts anew; see [`Archive::rebuild_archive`].
#[async_trait]
pub trait ArchiveRebuild: Send + Sync {
    /// Starts a new generation with the same rules, which makes every projection void.
    async fn bump_generation(&self) -> Result<ArchiveMeta, StoreError>;

    /// Scores all videos by other rules, in a new generation. Counts stay; so does trending, unless the half-life
    /// changes: then it starts anew. Types that count once per user from now on may be added: what counted before is
    /// nobody's, and stays. Refused where counts do not tell ([`CountingRules::check_rescore`]).
    async fn rescore_videos(
        &self,
        rules: &CountingRules,
        progress: Progress<'_>,
    ) -> Result<ArchiveMeta, RebuildError>;

    /// Begins an empty archive of the next generation beside this one, or one that starts as a copy of the archive
    /// `from` (MongoDB: a database on the same servers; embedded: a directory) that nobody writes to. Refused where
    /// that could not be scored by these rules. The same windows are counted as here. A replay that was begun before is thrown away.
    async fn begin_replay(
        &self,
        rules: &CountingRules,
        from: Option<&str>,
        progress: Progress<'_>,
    ) -> Result<Box<dyn ArchiveReplay>, RebuildError>;

    /// This archive, or the one named as in [`ArchiveRebuild::begin_replay`], as of one moment. All of it is held in memory: some
    /// 500 bytes a video.
    async fn read_cut(&self, of: Option<&str>) -> Result<ArchiveCut, StoreError>;

    /// Which of these identities ([`liverank_core::counting::identity_of_event`]) the archive remembers, and since when: this
    /// one, or the one named as in [`ArchiveRebuild::begin_replay`].
    async fn known_identities(
        &self,
        of: Option<&str>,
        identities: &[String],
    ) -> Result<Vec<(String, Millis)>, StoreError>;

    /// Which of these marks are set, and what they say: in this archive, or in the one named as in [`ArchiveRebuild::begin_replay`].
    async fn set_marks(
        &self,
        of: Option<&str>,
        keys: &[MarkKey],
    ) -> Result<Vec<(MarkKey, UniqueMark)>, StoreError>;
}
