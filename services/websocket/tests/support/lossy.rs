use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use liverank_adapters::ranking_store::{
    Board, BoardEntry, BoardPage, CHANGE_QUEUE, Change, Described, PageStart, Places, Projected, Projection,
    ProjectionCheckpoint, Snapshot,
};
use liverank_adapters::{RankingStore, StoreError};
use liverank_core::{Metadata, VideoId};
use tokio::sync::mpsc;

/// A ranking whose subscribers miss some changes, as a publish may get lost.
pub struct Lossy {
    inner: Arc<dyn RankingStore>,
    loses: fn(&Change) -> bool,
}

impl Lossy {
    pub fn new(inner: Arc<dyn RankingStore>, loses: fn(&Change) -> bool) -> Self {
        Self { inner, loses }
    }
}

#[async_trait]
impl RankingStore for Lossy {
    async fn project(&self, projection: &Projection) -> Result<Projected, StoreError> {
        self.inner.project(projection).await
    }

    async fn standing(&self) -> Result<ProjectionCheckpoint, StoreError> {
        self.inner.standing().await
    }

    async fn restore(&self, generation: u64, entries: &[BoardEntry]) -> Result<Projected, StoreError> {
        self.inner.restore(generation, entries).await
    }

    async fn restored(&self, generation: u64, offsets: &[(u32, u64)]) -> Result<Projected, StoreError> {
        self.inner.restored(generation, offsets).await
    }

    async fn note_half_life(&self, generation: u64, millis: u64) -> Result<(), StoreError> {
        self.inner.note_half_life(generation, millis).await
    }

    async fn half_life(&self) -> Result<Option<u64>, StoreError> {
        self.inner.half_life().await
    }

    async fn page(
        &self,
        board: Board,
        start: &PageStart,
        limit: usize,
    ) -> Result<Option<BoardPage>, StoreError> {
        self.inner.page(board, start, limit).await
    }

    async fn places(&self, video: &VideoId) -> Result<Places, StoreError> {
        self.inner.places(video).await
    }

    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.inner.snapshot().await
    }

    async fn changes(&self) -> Result<mpsc::Receiver<Change>, StoreError> {
        let mut all = self.inner.changes().await?;
        let (sender, receiver) = mpsc::channel(CHANGE_QUEUE);
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

    async fn describe(&self, generation: u64, videos: &[Described]) -> Result<(), StoreError> {
        self.inner.describe(generation, videos).await
    }

    async fn metadata(&self, videos: &[VideoId]) -> Result<Vec<Option<Metadata>>, StoreError> {
        self.inner.metadata(videos).await
    }

    async fn note_described(&self) -> Result<(), StoreError> {
        self.inner.note_described().await
    }

    async fn is_described(&self) -> Result<bool, StoreError> {
        self.inner.is_described().await
    }

    fn declared(&self, key: &str) -> Arc<dyn RankingStore> {
        self.inner.declared(key)
    }

    async fn keep_declared(
        &self,
        wanted: &[String],
        unwanted_after: Duration,
    ) -> Result<Vec<String>, StoreError> {
        self.inner.keep_declared(wanted, unwanted_after).await
    }
}
