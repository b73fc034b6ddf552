//! The projectors of a board with windows: a store and a projector for each window that runs or is kept.
//!
//! A window's list changes if something happens in that window, or if more than the counts of a video change: its
//! owner, its metadata, or whether it is on boards at all. The window's values of such videos are then read from the
//! archive. All other windows get only the offsets of a batch. The offsets of windows that have ended are written
//! together, every few seconds.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use liverank_adapters::StoreError;
use liverank_adapters::archive::ArchiveMeta;
use liverank_adapters::ranking_store::{BatchProjection, BoardEntry};
use liverank_core::windows::{Window, WindowKey};
use liverank_core::{Millis, VideoId};

use super::{BoardProjector, PreBoardWrites};
use crate::committed::{BoardChanges, CommittedBatch};

/// The projectors of all windows of a board.
pub(super) struct WindowedBoardProjector {
    /// The projector of which each window's projector is a copy; it projects nothing itself.
    prototype: BoardProjector,
    /// The projectors of the windows, by the start of the window.
    windows: BTreeMap<Millis, WindowProjector>,
}

struct WindowProjector {
    window: Window,
    projector: BoardProjector,
    /// A committed batch that changes nothing in this window and whose offsets are not written yet.
    deferred_batch: Option<CommittedBatch>,
}

impl WindowedBoardProjector {
    pub(super) fn new(prototype: BoardProjector) -> Self {
        Self { prototype, windows: BTreeMap::new() }
    }

    /// Adds projectors for windows that have begun, and removes those of windows that are not kept any more.
    fn update_windows(&mut self) {
        let Some((declared, windows)) =
            self.prototype.declared_board.as_ref().and_then(|board| Some((board, board.windows()?)))
        else {
            return;
        };
        let now = (self.prototype.backends.clock)();
        let wanted = windows.kind.running_and_kept_windows(now, windows.kept_count);
        self.windows.retain(|start, _| wanted.iter().any(|window| window.start == *start));
        for window in wanted {
            let ranking =
                || self.prototype.backends.ranking.declared_board(&declared.store_key_of_window(&window));
            let key = || WindowKey { kind: windows.kind.clone(), start: window.start };
            self.windows.entry(window.start).or_insert_with(|| WindowProjector {
                window,
                projector: BoardProjector {
                    ranking: ranking(),
                    window: Some(key()),
                    // The window's list may be filled already, by this process earlier or by another one.
                    missed_batch: Arc::new(AtomicBool::new(false)),
                    ..self.prototype.copy_without_state()
                },
                deferred_batch: None,
            });
        }
        if self.prototype.missed_batch.swap(false, Relaxed) {
            self.windows.values().for_each(|window| window.projector.note_missed_batch());
        }
    }

    pub(super) async fn follow_batch(&mut self, done: CommittedBatch) {
        self.update_windows();
        let now = (self.prototype.backends.clock)();
        // The running window comes first, because most viewers look at it.
        for window in self.windows.values_mut().rev() {
            window.follow_batch(&done, now).await;
        }
    }

    /// Writes the offsets that are held back for each window.
    pub(super) async fn write_deferred_offsets(&mut self) {
        for window in self.windows.values_mut() {
            window.write_deferred_offsets().await;
        }
    }

    pub(super) async fn compare_with_archive(&mut self, new_partitions: bool, is_idle: bool) {
        self.update_windows();
        for window in self.windows.values_mut().rev() {
            if new_partitions {
                window.deferred_batch = None;
            }
            window.write_deferred_offsets().await;
            window.projector.compare_boards(new_partitions, is_idle).await;
        }
    }
}

impl WindowProjector {
    async fn follow_batch(&mut self, done: &CommittedBatch, now: Millis) {
        let changed = self.changed_videos(&done.board_changes);
        let own = done.without_effects();
        if changed.is_empty() && self.window.end <= now {
            self.defer_offsets(own).await;
            return;
        }
        self.write_deferred_offsets().await;
        match self.entries(changed, &own.archive_meta).await {
            Ok(entries) => project(&mut self.projector, own, entries).await,
            Err(error) => {
                // The window's list is filled from the archive when the archive is back.
                self.projector.note_missed_batch();
                self.projector.note_boards_unavailable(&error);
            }
        }
    }

    /// Returns the videos that may have changed in this window.
    fn changed_videos(&self, changed: &BoardChanges) -> HashSet<VideoId> {
        let Some(own) = &self.projector.window else { return HashSet::new() };
        let here = changed.windows.iter().filter(|change| change.window == *own);
        here.map(|change| &change.video).chain(&changed.restated).cloned().collect()
    }

    async fn entries(
        &self,
        changed: HashSet<VideoId>,
        meta: &ArchiveMeta,
    ) -> Result<Vec<BoardEntry>, StoreError> {
        let Some(window) = self.projector.window.as_ref().filter(|_| !changed.is_empty()) else {
            return Ok(Vec::new());
        };
        let ids: Vec<VideoId> = changed.into_iter().collect();
        let videos = self.projector.backends.archive.window_videos(window, &ids).await?;
        Ok(self.projector.projection_target().board_entries(&videos, &meta.counting_rules))
    }

    async fn defer_offsets(&mut self, next: CommittedBatch) {
        let apart = match &mut self.deferred_batch {
            None => Some(next),
            Some(held) => held.merge_batch(next).err().map(|next| *next),
        };
        if let Some(next) = apart {
            self.write_deferred_offsets().await;
            self.deferred_batch = Some(next);
        }
    }

    async fn write_deferred_offsets(&mut self) {
        if let Some(held) = self.deferred_batch.take() {
            project(&mut self.projector, held, Vec::new()).await;
        }
    }
}

async fn project(board: &mut BoardProjector, done: CommittedBatch, entries: Vec<BoardEntry>) {
    let CommittedBatch { offset_ranges: spans, archive_meta: meta, committed_at: committed, .. } = done;
    let projection =
        BatchProjection { generation: meta.generation, offset_ranges: spans, entries, traces: Vec::new() };
    board.project(&meta, PreBoardWrites::default(), &projection, committed).await;
}
