//! This process's copy of the ranking in memory: a snapshot, and every change since.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use anyhow::Context;
use liverank_adapters::ranking_store::BoardChange;
use liverank_adapters::{RankingStore, StoreError};
use liverank_core::{UserId, VideoId};
use liverank_protocol::roles::Role;
use liverank_runtime::ServiceContext;
use liverank_runtime::traces::RecordedSpan;
use tokio::sync::mpsc;

use crate::FollowedBoard;
use crate::boards::{ApplyOutcome, Boards};
use crate::descriptions::MetadataCache;
use crate::metrics::WebsocketMetrics;
use crate::pace::ListPacer;

/// The shortest time between two snapshots, whatever goes wrong, because a snapshot reads the whole ranking.
const SNAPSHOT_INTERVAL: Duration = Duration::from_millis(250);
/// The time without changes after which the store is probed: short, so that the health report soon says why a list does
/// not change.
const QUIET_BEFORE_PROBE: Duration = Duration::from_secs(3);
/// The first and the longest wait between two tries of an unavailable store; each wait is twice the one before.
const RETRY_RANGE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// The maximum number of changes applied at once: lists are notified once of all of them.
const MAX_CHANGES_AT_ONCE: usize = 64;

/// The boards in memory, and whether they have been read yet.
#[derive(Default)]
pub(crate) struct BoardsMirror {
    boards: RwLock<Boards>,
    loaded: AtomicBool,
}

impl BoardsMirror {
    /// Returns the current boards, under a read lock: not to be held for long.
    pub(crate) fn boards(&self) -> RwLockReadGuard<'_, Boards> {
        self.boards.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_boards(&self) -> RwLockWriteGuard<'_, Boards> {
        self.boards.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of videos on the global board.
    pub(crate) fn len(&self) -> usize {
        self.boards().len()
    }

    /// Whether the first snapshot has been read: before, the boards are unknown, which is not the same as empty.
    pub(crate) fn is_loaded(&self) -> bool {
        self.loaded.load(Ordering::Acquire)
    }
}

/// Follows a store's boards until dropped. Returns only an error that does not pass by itself. The service counts as
/// started when the boards of `all` have been read. Metadata are announced with the changes of the built-in boards:
/// `descriptions` is given for those only.
pub(crate) async fn follow_boards(
    followed_board: &FollowedBoard,
    all: &[&FollowedBoard],
    descriptions: Option<&MetadataCache>,
    ranking: &dyn RankingStore,
    shell: &ServiceContext,
    metrics: &WebsocketMetrics,
) -> anyhow::Result<()> {
    let pace = ListPacer::new(SNAPSHOT_INTERVAL);
    let mut session =
        MirrorSession { followed_board, followed_boards: all, descriptions, ranking, shell, metrics, pace };
    let mut failures = 0;
    loop {
        match ranking.subscribe_changes().await {
            Ok(mut changes) => {
                failures = 0;
                session.process_changes(&mut changes).await?;
                // The channel ends only with its store; should it end otherwise, this pause avoids a busy loop.
                tokio::time::sleep(RETRY_RANGE.0).await;
            }
            Err(error) => session.wait_while_unavailable(&error, &mut failures).await?,
        }
    }
}

struct MirrorSession<'a> {
    followed_board: &'a FollowedBoard,
    followed_boards: &'a [&'a FollowedBoard],
    descriptions: Option<&'a MetadataCache>,
    ranking: &'a dyn RankingStore,
    shell: &'a ServiceContext,
    metrics: &'a WebsocketMetrics,
    pace: ListPacer,
}

impl MirrorSession<'_> {
    async fn process_changes(&mut self, changes: &mut mpsc::Receiver<BoardChange>) -> anyhow::Result<()> {
        let mut some = Vec::with_capacity(MAX_CHANGES_AT_ONCE);
        loop {
            tokio::select! {
                heard = changes.recv_many(&mut some, MAX_CHANGES_AT_ONCE) => if heard == 0 { return Ok(()) },
                () = tokio::time::sleep(QUIET_BEFORE_PROBE) => {
                    self.probe_store().await;
                    continue;
                }
            }
            if self.apply_changes(&some) {
                self.read_snapshot().await?;
            }
            some.clear();
        }
    }

    /// Asks the store whether it is available, so that the health report tells a store without changes from an
    /// unavailable one. Reads the half-life if it is not known yet.
    async fn probe_store(&self) {
        let standing = self.ranking.checkpoint().await;
        self.shell.health.note_dependency("ranking", standing.map(drop).map_err(|error| error.to_string()));
        // For boards that an earlier release filled, the half-life is noted later, without a change.
        let known = self.followed_board.mirror.boards().knows_half_life();
        if known {
            return;
        }
        if let Ok(Some(half_life)) = self.ranking.noted_half_life().await {
            self.followed_board.mirror.write_boards().set_half_life(Some(half_life));
            self.followed_board.lists.notify_all_changed();
        }
    }

    /// Applies changes in order; returns whether a snapshot has to be read because changes are missing.
    fn apply_changes(&self, changes: &[BoardChange]) -> bool {
        let mut owners: Vec<&UserId> = Vec::new();
        let mut described_now: Vec<VideoId> = Vec::new();
        let mut lost = false;
        // The spans end when the connected clients have been notified.
        let mut spans: Vec<RecordedSpan> = Vec::new();
        let mut boards = self.followed_board.mirror.write_boards();
        for change in changes {
            let BoardChange::Changed { version, entries, described, traces, logged_at } = change else {
                lost = true;
                break;
            };
            described_now.extend_from_slice(described);
            let shown =
                |trace| self.shell.tracer.continue_trace(Role::Websocket.name(), "websocket show", trace);
            spans.extend(traces.iter().filter_map(shown));
            match boards.apply(*version, entries, *logged_at) {
                // A video's owner is set once, so the list of another owner cannot have changed.
                ApplyOutcome::Applied => owners.extend(entries.iter().map(|entry| &entry.owner)),
                ApplyOutcome::AlreadyApplied => {}
                ApplyOutcome::ChangesMissing => {
                    lost = true;
                    break;
                }
            }
        }
        drop(boards);
        self.followed_board.lists.notify_changed(owners.into_iter());
        if let Some(descriptions) = self.descriptions.filter(|_| !described_now.is_empty()) {
            descriptions.invalidate(&described_now);
            self.notify_metadata_changed();
        }
        drop(spans);
        lost
    }

    /// Requests that lists with metadata are computed again, on all boards.
    fn notify_metadata_changed(&self) {
        self.followed_boards.iter().for_each(|followed| followed.lists.notify_metadata_changed());
    }

    /// Reads a snapshot of all boards, however long the store is unavailable.
    async fn read_snapshot(&mut self) -> anyhow::Result<()> {
        // Metadata that change from here on are announced; earlier announcements may have been missed.
        if let Some(descriptions) = self.descriptions {
            descriptions.forget_all();
        }
        self.pace.wait_until_allowed().await;
        let mut failures = 0;
        let snapshot = loop {
            self.pace.note_sent(Instant::now());
            // The half-life is read first: if a generation begins in between, a change makes us read again.
            let read = async {
                Ok::<_, StoreError>((
                    self.ranking.noted_half_life().await?,
                    self.ranking.boards_snapshot().await?,
                ))
            };
            match read.await {
                Ok(read) => break read,
                Err(error) => self.wait_while_unavailable(&error, &mut failures).await?,
            }
        };
        let (half_life, snapshot) = snapshot;
        self.metrics.snapshots_taken.inc();
        let boards = tokio::task::spawn_blocking(move || Boards::of(&snapshot));
        let mut boards = boards.await.context("building the boards")?;
        boards.set_half_life(half_life);
        let old = std::mem::replace(&mut *self.followed_board.mirror.write_boards(), boards);
        tokio::task::spawn_blocking(move || drop(old)); // A million entries take a while.
        self.followed_board.mirror.loaded.store(true, Ordering::Release);
        if self.followed_boards.iter().all(|followed| followed.mirror.is_loaded()) {
            self.shell.health.note_started("ranking");
        }
        self.shell.health.note_dependency("ranking", Ok(()));
        self.followed_board.lists.notify_all_changed();
        if self.descriptions.is_some() {
            self.notify_metadata_changed();
        }
        Ok(())
    }

    /// Notes that the store is unavailable and waits; returns the error if it does not pass by itself.
    async fn wait_while_unavailable(&self, error: &StoreError, failures: &mut u32) -> anyhow::Result<()> {
        if !error.is_transient() {
            return Err(anyhow::Error::new(error.clone()).context("following the ranking"));
        }
        self.shell.health.note_dependency("ranking", Err(error.to_string()));
        let most = liverank_core::backoff::wait_after_failures(*failures, RETRY_RANGE.0, RETRY_RANGE.1);
        *failures = failures.saturating_add(1);
        tokio::time::sleep(most.mul_f64(rand::random_range(0.5..=1.0))).await;
        Ok(())
    }
}
