//! A board with windows: a store for each window that runs or is kept, with a projector for each.
//!
//! A window's board changes where something happens in that window, or where more of a video changes than its counts: its owner, its
//! metadata, whether it is on boards at all. What it shows is read from the archive then. All others have nothing of a batch but the
//! offsets, and those of windows that have ended are noted together, every few seconds.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use liverank_adapters::StoreError;
use liverank_adapters::archive::ArchiveMeta;
use liverank_adapters::ranking_store::{BatchProjection, BoardEntry};
use liverank_core::windows::{Window, WindowKey};
use liverank_core::{Millis, VideoId};

use super::{AheadOfBoards, BoardProjector, Changed, CommittedBatch};

/// The projectors of a board's windows.
pub(super) struct WindowedBoard {
    /// What they are made from: it projects nothing itself.
    pattern: BoardProjector,
    /// The projectors of the windows, by the time when the window begins.
    windows: BTreeMap<Millis, WindowProjector>,
}

struct WindowProjector {
    window: Window,
    board: BoardProjector,
    /// What was committed and changes nothing here, and is not noted yet.
    held: Option<CommittedBatch>,
}

impl WindowedBoard {
    pub(super) fn new(pattern: BoardProjector) -> Self {
        Self { pattern, windows: BTreeMap::new() }
    }

    /// Begins the windows that have begun, and lets go of those that are not kept any more.
    fn roll(&mut self) {
        let Some((declared, windows)) =
            self.pattern.board.as_ref().and_then(|board| Some((board, board.windows()?)))
        else {
            return;
        };
        let now = (self.pattern.backends.clock)();
        let wanted = windows.kind.running_and_kept(now, windows.keep);
        self.windows.retain(|start, _| wanted.iter().any(|window| window.start == *start));
        for window in wanted {
            let ranking = || self.pattern.backends.ranking.declared_board(&declared.key_of(&window));
            let key = || WindowKey { kind: windows.kind.clone(), start: window.start };
            self.windows.entry(window.start).or_insert_with(|| WindowProjector {
                window,
                board: BoardProjector {
                    ranking: ranking(),
                    window: Some(key()),
                    // It may be there already, from before this process or from another one.
                    missed: Arc::new(AtomicBool::new(false)),
                    ..self.pattern.another()
                },
                held: None,
            });
        }
        if self.pattern.missed.swap(false, Relaxed) {
            self.windows.values().for_each(|window| window.board.missed());
        }
    }

    pub(super) async fn follow_batch(&mut self, done: CommittedBatch) {
        self.roll();
        let now = (self.pattern.backends.clock)();
        // The one that runs is looked at by most.
        for window in self.windows.values_mut().rev() {
            window.follow_batch(&done, now).await;
        }
    }

    /// Notes what is held everywhere.
    pub(super) async fn note_held(&mut self) {
        for window in self.windows.values_mut() {
            window.note_held().await;
        }
    }

    pub(super) async fn compare(&mut self, new_partitions: bool, is_idle: bool) {
        self.roll();
        for window in self.windows.values_mut().rev() {
            if new_partitions {
                window.held = None;
            }
            window.note_held().await;
            window.board.compare_boards(new_partitions, is_idle).await;
        }
    }
}

impl WindowProjector {
    async fn follow_batch(&mut self, done: &CommittedBatch, now: Millis) {
        let changed = self.changed(&done.changed);
        let own = done.without_effects();
        if changed.is_empty() && self.window.end <= now {
            self.hold(own).await;
            return;
        }
        self.note_held().await;
        match self.entries(changed, &own.archive_meta).await {
            Ok(entries) => project(&mut self.board, own, entries).await,
            Err(error) => {
                // It is filled from the archive when that is back.
                self.board.missed();
                self.board.note_away(&error);
            }
        }
    }

    /// Returns the videos that may have changed on this board.
    fn changed(&self, changed: &Changed) -> HashSet<VideoId> {
        let Some(own) = &self.board.window else { return HashSet::new() };
        let here = changed.windows.iter().filter(|change| change.window == *own);
        here.map(|change| &change.video).chain(&changed.restated).cloned().collect()
    }

    async fn entries(
        &self,
        changed: HashSet<VideoId>,
        meta: &ArchiveMeta,
    ) -> Result<Vec<BoardEntry>, StoreError> {
        let Some(window) = self.board.window.as_ref().filter(|_| !changed.is_empty()) else {
            return Ok(Vec::new());
        };
        let ids: Vec<VideoId> = changed.into_iter().collect();
        let videos = self.board.backends.archive.window_videos(window, &ids).await?;
        Ok(self.board.target().board_entries(&videos, &meta.counting_rules))
    }

    async fn hold(&mut self, next: CommittedBatch) {
        let apart = match &mut self.held {
            None => Some(next),
            Some(held) => held.merge_batch(next).err().map(|next| *next),
        };
        if let Some(next) = apart {
            self.note_held().await;
            self.held = Some(next);
        }
    }

    async fn note_held(&mut self) {
        if let Some(held) = self.held.take() {
            project(&mut self.board, held, Vec::new()).await;
        }
    }
}

async fn project(board: &mut BoardProjector, done: CommittedBatch, entries: Vec<BoardEntry>) {
    let CommittedBatch { offset_ranges: spans, archive_meta: meta, committed_at: committed, .. } = done;
    let projection =
        BatchProjection { generation: meta.generation, offset_ranges: spans, entries, traces: Vec::new() };
    board.project(&meta, AheadOfBoards::default(), &projection, committed).await;
}
