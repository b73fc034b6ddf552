//! The archive in one file on this machine, for one process.
//!
//! A batch is read, decided by the core and written in one transaction, which returns once it is on the disk. There is
//! one writer at a time, so what a batch has read cannot have changed when the batch is written.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use liverank_core::counting::{Batch, CountingRules, NumberedComment, VideoState};
use liverank_core::decays::Decay;
use liverank_core::windows::{WindowKey, WindowKind};
use liverank_core::{Comment, CommentId, Metadata, Millis, UserId, VideoId};
use redb::{Database, DatabaseError};
use tokio::sync::Mutex;

use super::{
    Archive, ArchiveMeta, ArchivePosition, ArchiveRebuild, CommentPage, CommitError, CommitResult,
    ModerationArchive,
};
use crate::StoreError;
use crate::redb_file::{DatabaseOpener, FileFailure, RedbFile};

mod meta;
mod moderation;
mod moderation_rows;
mod moderation_writing;
mod reading;
mod rebuilding;
mod reports;
mod rows;
mod tables;
mod windows;
mod writing;

use tables::{PART_NAME, Tables};

/// The name of the archive's file in the data directory.
pub const ARCHIVE_FILE_NAME: &str = "archive.redb";
/// The number of identities that one call forgets, which takes the writer a few milliseconds, about as long as a batch.
const IDENTITIES_FORGOTTEN_AT_ONCE: usize = 1000;
/// The number of counts of windows that one call forgets, which takes the writer a few milliseconds.
const COUNTS_FORGOTTEN_AT_ONCE: usize = 1000;

/// The archive in one file on this machine, for one process.
pub struct EmbeddedArchive {
    file: Arc<RedbFile>,
    /// The random id of this archive among those that claimed partitions.
    claimant_id: u64,
    tables: &'static Tables,
    /// The lock that a task holds while it writes: other writers wait for it as tasks, without blocking a thread.
    writer_lock: Arc<Mutex<()>>,
}

impl EmbeddedArchive {
    /// Opens the archive in `dir`; creates the directory and the file if they are absent.
    ///
    /// Returns an error with the reason if the file is in use by another process, cannot be written, is damaged or has
    /// another format.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        Ok(Self::from_file(RedbFile::open(tables::ARCHIVE_FILE_KIND, dir, ARCHIVE_FILE_NAME)?))
    }

    /// Opens an archive on the database that `open` returns; `open` is called again after every failure, and errors
    /// call the archive `name`. Tests use it to replace the disk.
    pub fn open_on_medium(
        name: &str,
        open: impl Fn() -> Result<Database, DatabaseError> + Send + Sync + 'static,
    ) -> Result<Self, StoreError> {
        let open: DatabaseOpener = Box::new(move |_| Ok(open()?));
        Ok(Self::from_file(RedbFile::open_with(tables::ARCHIVE_FILE_KIND, name.to_owned(), open)?))
    }

    fn from_file(file: RedbFile) -> Self {
        Self {
            file: Arc::new(file),
            claimant_id: rand::random(),
            tables: &tables::LIVE_TABLES,
            writer_lock: Arc::default(),
        }
    }

    /// Returns an archive on the same file with another claimant id, or with other tables.
    fn with_claimant_and_tables(&self, me: u64, tables: &'static Tables) -> Self {
        Self {
            file: Arc::clone(&self.file),
            claimant_id: me,
            tables,
            writer_lock: Arc::clone(&self.writer_lock),
        }
    }

    async fn read_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Database, &Tables) -> Result<T, FileFailure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (file, tables) = (Arc::clone(&self.file), self.tables);
        run_blocking(move || file.with_database(|database, _| work(database, tables))).await
    }

    async fn write_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Database, &Tables) -> Result<T, FileFailure> + Send + 'static,
    ) -> Result<T, StoreError> {
        // Held to the end of the work, also if the caller no longer waits for it.
        let turn = Arc::clone(&self.writer_lock).lock_owned().await;
        let (file, tables) = (Arc::clone(&self.file), self.tables);
        run_blocking(move || {
            let _turn = turn;
            file.with_database(|database, _| work(database, tables))
        })
        .await
    }
}

/// Runs blocking work on a thread on which it may block.
async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(StoreError::unavailable(PART_NAME, format!("its thread ended: {error}"))))
}

#[async_trait]
impl Archive for EmbeddedArchive {
    async fn open(&self, wanted: &CountingRules) -> Result<ArchiveMeta, StoreError> {
        if let Some(meta) = self.archive_meta().await? {
            return Ok(meta);
        }
        let (wanted, bits) = (*wanted, rand::random());
        self.write_blocking(move |database, tables| writing::create_meta(database, tables, &wanted, bits))
            .await
    }

    async fn archive_meta(&self) -> Result<Option<ArchiveMeta>, StoreError> {
        self.read_blocking(reading::read_meta).await
    }

    async fn claim_partitions(&self, partitions: &[u32]) -> Result<Vec<ArchivePosition>, StoreError> {
        let (partitions, me) = (partitions.to_vec(), self.claimant_id);
        self.write_blocking(move |database, tables| {
            writing::claim_partitions(database, tables, &partitions, me)
        })
        .await
    }

    async fn partition_positions(&self, partitions: &[u32]) -> Result<Vec<ArchivePosition>, StoreError> {
        let partitions = partitions.to_vec();
        self.read_blocking(move |database, tables| reading::read_offsets(database, tables, &partitions)).await
    }

    async fn commit_batch(&self, batch: &Batch) -> Result<CommitResult, CommitError> {
        let (batch, me) = (batch.clone(), self.claimant_id);
        self.write_blocking(move |database, tables| writing::commit_batch(database, tables, &batch, me))
            .await?
    }

    async fn video(&self, id: &VideoId) -> Result<Option<VideoState>, StoreError> {
        let ids = vec![id.clone()];
        Ok(self
            .read_blocking(move |database, tables| reading::read_videos(database, tables, &ids))
            .await?
            .pop()
            .flatten())
    }

    async fn videos_after(
        &self,
        after: Option<&VideoId>,
        limit: usize,
    ) -> Result<Vec<VideoState>, StoreError> {
        let after = after.cloned();
        self.read_blocking(move |database, tables| {
            reading::videos_after(database, tables, after.as_ref(), limit)
        })
        .await
    }

    async fn comments(
        &self,
        video: &VideoId,
        page: CommentPage,
        limit: usize,
    ) -> Result<Vec<Comment>, StoreError> {
        let video = video.clone();
        self.read_blocking(move |database, tables| {
            reading::read_comments(database, tables, &video, page, limit)
        })
        .await
    }

    async fn newest_comment(&self, video: &VideoId, id: &CommentId) -> Result<Option<Comment>, StoreError> {
        let (video, id) = (video.clone(), id.clone());
        self.read_blocking(move |database, tables| reading::read_comment(database, tables, &video, &id)).await
    }

    async fn comments_from(
        &self,
        partition: u32,
        offset: u64,
        limit: usize,
    ) -> Result<Vec<NumberedComment>, StoreError> {
        self.read_blocking(move |database, tables| {
            reading::comments_from(database, tables, partition, offset, limit)
        })
        .await
    }

    async fn set_counted_windows(&self, kinds: &[WindowKind]) -> Result<ArchiveMeta, StoreError> {
        let kinds = kinds.to_vec();
        self.write_blocking(move |database, tables| windows::set_counted_windows(database, tables, &kinds))
            .await
    }

    async fn set_counted_decays(&self, decays: &[Decay]) -> Result<ArchiveMeta, StoreError> {
        let decays = decays.to_vec();
        self.write_blocking(move |database, tables| windows::set_counted_decays(database, tables, &decays))
            .await
    }

    async fn window_videos(
        &self,
        window: &WindowKey,
        ids: &[VideoId],
    ) -> Result<Vec<VideoState>, StoreError> {
        let (window, ids) = (window.clone(), ids.to_vec());
        self.read_blocking(move |database, tables| {
            windows::read_window_videos(database, tables, &window, &ids)
        })
        .await
    }

    async fn window_videos_after(
        &self,
        window: &WindowKey,
        after: Option<&VideoId>,
        limit: usize,
    ) -> Result<Vec<VideoState>, StoreError> {
        let (window, after) = (window.clone(), after.cloned());
        self.read_blocking(move |database, tables| {
            windows::read_window_videos_after(database, tables, &window, after.as_ref(), limit)
        })
        .await
    }

    async fn forget_windows(&self, kind: &WindowKind, start: Millis) -> Result<u64, StoreError> {
        let kind = kind.clone();
        self.write_blocking(move |database, tables| {
            windows::delete_old_windows(database, tables, &kind, start, COUNTS_FORGOTTEN_AT_ONCE)
        })
        .await
    }

    async fn last_seqs(&self, videos: &[VideoId]) -> Result<Vec<u64>, StoreError> {
        let videos = videos.to_vec();
        let states = self
            .read_blocking(move |database, tables| reading::read_videos(database, tables, &videos))
            .await?;
        Ok(states.into_iter().map(|state| state.map_or(0, |state| state.last_seq)).collect())
    }

    async fn videos_metadata(&self, videos: &[VideoId]) -> Result<Vec<Option<Metadata>>, StoreError> {
        let videos = videos.to_vec();
        let states = self
            .read_blocking(move |database, tables| reading::read_videos(database, tables, &videos))
            .await?;
        Ok(states.into_iter().map(|state| state.and_then(|state| state.metadata)).collect())
    }

    async fn videos_watch_ms(&self, videos: &[VideoId]) -> Result<Vec<Option<i64>>, StoreError> {
        let videos = videos.to_vec();
        let states = self
            .read_blocking(move |database, tables| reading::read_videos(database, tables, &videos))
            .await?;
        Ok(states.into_iter().map(|state| state.map(|state| state.counters.watch_ms)).collect())
    }

    async fn video_owners(&self, videos: &[VideoId]) -> Result<Vec<Option<UserId>>, StoreError> {
        let videos = videos.to_vec();
        let states = self
            .read_blocking(move |database, tables| reading::read_videos(database, tables, &videos))
            .await?;
        Ok(states.into_iter().map(|state| state.map(|state| state.owner)).collect())
    }

    async fn forget_identities_before(&self, watermark: Millis) -> Result<u64, StoreError> {
        self.write_blocking(move |database, tables| {
            writing::forget_identities(database, tables, watermark, IDENTITIES_FORGOTTEN_AT_ONCE)
        })
        .await
    }

    fn moderation_archive(&self) -> &dyn ModerationArchive {
        self
    }

    fn rebuild_archive(&self) -> &dyn ArchiveRebuild {
        self
    }

    async fn comment_count(&self) -> Result<u64, StoreError> {
        self.read_blocking(reading::comment_count).await
    }

    async fn store_time(&self) -> Result<Option<Millis>, StoreError> {
        Ok(None)
    }
}
