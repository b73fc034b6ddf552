use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use liverank_adapters::ranking_store::{
    BatchProjection, BoardChange, BoardEntry, BoardPage, BoardsSnapshot, BuiltInBoard, BuiltInBoardPlaces,
    CHANGE_QUEUE_LENGTH, DescribedVideo, PageStart, ProjectionCheckpoint, ProjectionOutcome,
};
use liverank_adapters::{RankingStore, StoreError};
use liverank_core::{Metadata, Millis, VideoId};
use tokio::sync::mpsc;

/// A ranking store whose subscribers miss some changes, because a publication may be lost.
pub struct Lossy {
    inner: Arc<dyn RankingStore>,
    loses: fn(&BoardChange) -> bool,
}

impl Lossy {
    pub fn new(inner: Arc<dyn RankingStore>, loses: fn(&BoardChange) -> bool) -> Self {
        Self { inner, loses }
    }
}

#[async_trait]
impl RankingStore for Lossy {
    fn store_name(&self) -> &'static str {
        self.inner.store_name()
    }

    async fn project_batch(&self, projection: &BatchProjection) -> Result<ProjectionOutcome, StoreError> {
        self.inner.project_batch(projection).await
    }

    async fn checkpoint(&self) -> Result<ProjectionCheckpoint, StoreError> {
        self.inner.checkpoint().await
    }

    async fn write_snapshot(
        &self,
        generation: u64,
        entries: &[BoardEntry],
    ) -> Result<ProjectionOutcome, StoreError> {
        self.inner.write_snapshot(generation, entries).await
    }

    async fn commit_snapshot(
        &self,
        generation: u64,
        offsets: &[(u32, u64)],
    ) -> Result<ProjectionOutcome, StoreError> {
        self.inner.commit_snapshot(generation, offsets).await
    }

    async fn retire_idle(&self, generation: u64, line: f64) -> Result<u64, StoreError> {
        self.inner.retire_idle(generation, line).await
    }

    async fn idle_threshold(&self) -> Result<Option<f64>, StoreError> {
        self.inner.idle_threshold().await
    }

    async fn note_half_life(&self, generation: u64, millis: u64) -> Result<(), StoreError> {
        self.inner.note_half_life(generation, millis).await
    }

    async fn noted_half_life(&self) -> Result<Option<u64>, StoreError> {
        self.inner.noted_half_life().await
    }

    async fn board_page(
        &self,
        board: BuiltInBoard,
        start: &PageStart,
        limit: usize,
    ) -> Result<Option<BoardPage>, StoreError> {
        self.inner.board_page(board, start, limit).await
    }

    async fn ranks_of_video(&self, video: &VideoId) -> Result<BuiltInBoardPlaces, StoreError> {
        self.inner.ranks_of_video(video).await
    }

    async fn boards_snapshot(&self) -> Result<BoardsSnapshot, StoreError> {
        self.inner.boards_snapshot().await
    }

    async fn subscribe_changes(&self) -> Result<mpsc::Receiver<BoardChange>, StoreError> {
        let mut all = self.inner.subscribe_changes().await?;
        let (sender, receiver) = mpsc::channel(CHANGE_QUEUE_LENGTH);
        let loses = self.loses;
        tokio::spawn(async move {
            while let Some(change) = all.recv().await {
                if !loses(&change) && sender.send(change).await.is_err() {
                    return;
                }
            }
        });
        Ok(receiver)
    }

    async fn put_metadata(&self, generation: u64, videos: &[DescribedVideo]) -> Result<(), StoreError> {
        self.inner.put_metadata(generation, videos).await
    }

    async fn metadata(&self, videos: &[VideoId]) -> Result<Vec<Option<Metadata>>, StoreError> {
        self.inner.metadata(videos).await
    }

    async fn note_metadata_complete(&self) -> Result<(), StoreError> {
        self.inner.note_metadata_complete().await
    }

    async fn is_metadata_complete(&self) -> Result<bool, StoreError> {
        self.inner.is_metadata_complete().await
    }

    fn declared_board(&self, key: &str) -> Arc<dyn RankingStore> {
        self.inner.declared_board(key)
    }

    async fn retain_declared_boards(
        &self,
        wanted: &[String],
        unwanted_after: Duration,
    ) -> Result<Vec<String>, StoreError> {
        self.inner.retain_declared_boards(wanted, unwanted_after).await
    }

    async fn wanted_boards(&self, together: Duration) -> Result<Vec<String>, StoreError> {
        self.inner.wanted_boards(together).await
    }

    async fn store_time(&self) -> Result<Option<Millis>, StoreError> {
        self.inner.store_time().await
    }
}
