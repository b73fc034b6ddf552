//! The projector: after every commit it publishes the comments to the readers and writes the scores to the boards.
//!
//! Batches arrive in the order of their commits. For each batch the projector publishes the comments, then projects
//! the scores with the batch's offsets, in the generation in which the batch was committed. Batches that wait are
//! merged into one, so that a video that changed in several of them is written to the boards once. If the boards
//! report that they are behind or of another generation, or if a batch was missed, everything is repaired from the
//! archive ([`crate::repair`]).
//!
//! Each declared board has a projector and a store of its own ([`RankingStore::declared_board`]), with offsets of its
//! own: a new board is filled from the archive while the others go on. The projector of a declared board publishes no
//! comments. A board with windows has one such store for each window ([`windowed`]).

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use liverank_adapters::archive::ArchiveMeta;
use liverank_adapters::ranking_store::{BatchProjection, DescribedVideo, ProjectionOutcome};
use liverank_adapters::{Backends, RankingStore, StoreError};
use liverank_core::boards::{DeclaredBoard, DeclaredBoards};
use liverank_core::counting::VideoState;
use liverank_core::trace::TraceContext;
use liverank_core::windows::WindowKey;
use liverank_core::{Comment, CommentId, VideoId};
use liverank_runtime::{ServiceContext, now_ms};
use tokio::sync::{mpsc, watch};

use crate::STORE_RETRY_BACKOFF;
use crate::committed::CommittedBatch;
use crate::metrics::ConsumerMetrics;
use crate::projection::{self, ProjectionTarget};
use crate::repair::{self, RepairError, no_archive_error};
use crate::stores::{ARCHIVE, RANKING};
use crate::traces;

mod windowed;

use windowed::WindowedBoardProjector;

/// Maximum number of batches that wait for the projector; each may be tens of megabytes. Waiting batches are merged
/// into one.
const MAX_BATCHES_WAITING: usize = 4;
/// Interval of comparing the boards with the archive when nothing happens, so that boards that were emptied are soon
/// filled again.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Interval of telling the store which declared boards are wanted.
const DECLARE_WANTED_EVERY: Duration = Duration::from_mins(1);
/// Time after which a declared board that no consumer wants is removed. The time is longer than an update of all
/// consumers usually takes, during which some consumers know the board and some do not, and longer than a consumer is
/// usually away.
const UNWANTED_AFTER: Duration = Duration::from_mins(10);

/// The counter's end of the queue to the projectors of all boards.
pub struct ProjectionQueue {
    batches: mpsc::Sender<CommittedBatch>,
    owned_partitions: watch::Sender<Vec<u32>>,
    /// A number that grows with each batch that has something to export.
    export_signal: watch::Sender<u64>,
    missed_batch: Arc<AtomicBool>,
    boards_unavailable: Arc<AtomicBool>,
    metrics: ConsumerMetrics,
    /// The queues to the projectors of declared boards.
    declared_queues: Vec<Self>,
}

impl ProjectionQueue {
    /// Hands a batch over to the projectors. Waits while a projector is busy, but not while its boards' store is
    /// unavailable: counting continues without the boards, and they are repaired when the store is available again.
    pub async fn send_batch(&self, done: CommittedBatch) {
        let copies: Vec<CommittedBatch> = self.declared_queues.iter().map(|_| done.for_declared()).collect();
        self.send_to_projector(done).await;
        for (declared, copy) in self.declared_queues.iter().zip(copies) {
            declared.send_to_projector(copy).await;
        }
        self.metrics.waiting_batches.set((MAX_BATCHES_WAITING - self.batches.capacity()) as i64);
    }

    async fn send_to_projector(&self, done: CommittedBatch) {
        let sent = match self.batches.try_send(done) {
            Err(mpsc::error::TrySendError::Full(done)) if !self.boards_unavailable.load(Relaxed) => {
                self.batches.send(done).await.is_ok()
            }
            sent => sent.is_ok(),
        };
        if !sent {
            self.missed_batch.store(true, Relaxed);
        }
    }

    /// Notes for the projectors that a batch may have been committed that they did not get, so that they compare the
    /// boards with the archive.
    pub fn note_missed_batch(&self) {
        self.missed_batch.store(true, Relaxed);
        self.declared_queues.iter().for_each(Self::note_missed_batch);
    }

    /// Returns a receiver of the partitions that this consumer owns; it is notified of changes.
    pub fn watch_owned_partitions(&self) -> watch::Receiver<Vec<u32>> {
        self.owned_partitions.subscribe()
    }

    /// Notes that a batch was committed that has something to export.
    pub fn note_exportable(&self) {
        self.export_signal.send_modify(|told| *told += 1);
    }

    /// Returns a receiver that changes with each batch that has something to export: a comment, a moderator's action
    /// or a held comment.
    pub fn watch_exportable(&self) -> watch::Receiver<u64> {
        self.export_signal.subscribe()
    }

    /// Sets the partitions that this consumer owns; the projectors then compare all of them with the archive. Returns
    /// whether the partitions changed.
    pub fn set_owned_partitions(&self, partitions: Vec<u32>) -> bool {
        for declared in &self.declared_queues {
            declared.set_owned_partitions(partitions.clone());
        }
        let before = self.owned_partitions.send_replace(partitions);
        before != *self.owned_partitions.borrow()
    }
}

/// Returns the projectors, each to be run as a task, and the queue to them. There is one projector for the built-in
/// boards and one for each declared board. The projectors end when the queue is dropped and empty. `partitions` is the
/// number of the log's partitions.
pub fn start_projector(
    backends: &Backends,
    boards: &DeclaredBoards,
    partitions: u32,
    shell: &ServiceContext,
    metrics: &ConsumerMetrics,
) -> (Vec<impl Future<Output = ()> + Send + 'static + use<>>, ProjectionQueue) {
    let one =
        |board: Option<&DeclaredBoard>| start_board_projector(backends, board, partitions, shell, metrics);
    let (projector, mut feed) = one(None);
    let mut projectors = vec![projector.run()];
    for board in boards {
        let (projector, declared) = one(Some(board));
        projectors.push(projector.run());
        feed.declared_queues.push(declared);
    }
    (projectors, feed)
}

fn start_board_projector(
    backends: &Backends,
    board: Option<&DeclaredBoard>,
    partition_count: u32,
    shell: &ServiceContext,
    metrics: &ConsumerMetrics,
) -> (ProjectorTask, ProjectionQueue) {
    let (batches, waiting) = mpsc::channel(MAX_BATCHES_WAITING);
    let (owned, owned_seen) = watch::channel(Vec::new());
    let missed = Arc::new(AtomicBool::new(false));
    let away = Arc::new(AtomicBool::new(false));
    let ranking = match board {
        Some(board) => backends.ranking.declared_board(&board.store_key()),
        None => Arc::clone(&backends.ranking),
    };
    let projector = BoardProjector {
        backends: backends.clone(),
        ranking,
        declared_board: board.cloned(),
        window: None,
        partition_count,
        last_repair_generation: 0,
        shell: shell.clone(),
        metrics: metrics.clone(),
        owned_partitions: owned_seen.clone(),
        missed_batch: Arc::clone(&missed),
        boards_unavailable: Arc::clone(&away),
        stores_to_note: board.is_none().then_some(RANKING).into_iter().collect(),
        seen_offsets: BTreeMap::new(),
        noted_generation: None,
    };
    let boards = match board {
        Some(board) if board.windows().is_some() => {
            ProjectedBoards::Windowed(Box::new(WindowedBoardProjector::new(projector)))
        }
        _ => ProjectedBoards::One(Box::new(projector)),
    };
    let task = ProjectorTask { boards, batches: waiting, unmerged_batch: None, owned_partitions: owned_seen };
    let (declared_queues, export_signal) = (Vec::new(), watch::Sender::new(0));
    (
        task,
        ProjectionQueue {
            batches,
            owned_partitions: owned,
            export_signal,
            missed_batch: missed,
            boards_unavailable: away,
            metrics: metrics.clone(),
            declared_queues,
        },
    )
}

/// Tells the ranking store once a minute which declared boards are wanted; boards that no consumer wants any more are
/// removed. Never returns.
pub async fn keep_boards_marked_as_wanted(backends: Backends, boards: DeclaredBoards) {
    let mut again = tokio::time::interval(DECLARE_WANTED_EVERY);
    again.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        again.tick().await;
        let wanted = boards.store_keys((backends.clock)());
        match backends.ranking.retain_declared_boards(&wanted, UNWANTED_AFTER).await {
            Ok(removed) => {
                for key in removed {
                    tracing::info!(key, "a board that is not declared any more has been removed");
                }
            }
            // The projectors report a store that is away; the wanted boards are told again in the next turn.
            Err(error) => tracing::debug!(%error, "which boards are wanted was not noted"),
        }
    }
}

/// The boards that one projector task serves.
enum ProjectedBoards {
    /// The built-in boards, or one declared board without windows.
    One(Box<BoardProjector>),
    /// A declared board with a store for each window.
    Windowed(Box<WindowedBoardProjector>),
}

impl ProjectedBoards {
    async fn follow_batch(&mut self, done: CommittedBatch) {
        match self {
            Self::One(board) => board.follow_batch(done).await,
            Self::Windowed(board) => board.follow_batch(done).await,
        }
    }

    /// Writes the offsets that are held back; called when no batch will come any more.
    async fn finish(&mut self) {
        match self {
            Self::One(_) => {}
            Self::Windowed(board) => board.write_deferred_offsets().await,
        }
    }

    /// Compares the boards with the archive. `is_idle` tells that no batch is on its way to the boards.
    async fn compare_with_archive(&mut self, new_partitions: bool, is_idle: bool) {
        match self {
            Self::One(board) => board.compare_boards(new_partitions, is_idle).await,
            Self::Windowed(board) => board.compare_with_archive(new_partitions, is_idle).await,
        }
    }
}

struct ProjectorTask {
    boards: ProjectedBoards,
    batches: mpsc::Receiver<CommittedBatch>,
    /// A committed batch that could not be merged with those before it.
    unmerged_batch: Option<CommittedBatch>,
    owned_partitions: watch::Receiver<Vec<u32>>,
}

impl ProjectorTask {
    async fn run(mut self) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                done = self.batches.recv() => match done {
                    Some(done) => self.follow_waiting(done).await,
                    None => return self.boards.finish().await,
                },
                changed = self.owned_partitions.changed() => if changed.is_ok() {
                    self.compare_with_archive(true).await;
                },
                _ = look.tick() => self.compare_with_archive(false).await,
            }
        }
    }

    async fn compare_with_archive(&mut self, new_partitions: bool) {
        let is_idle = self.batches.is_empty() && self.unmerged_batch.is_none();
        self.boards.compare_with_archive(new_partitions, is_idle).await;
    }

    /// Projects a batch and the batches that wait behind it, merged where possible.
    async fn follow_waiting(&mut self, first: CommittedBatch) {
        let mut next = Some(first);
        while let Some(mut done) = next {
            while let Ok(more) = self.batches.try_recv() {
                if let Err(more) = done.merge_batch(more) {
                    self.unmerged_batch = Some(*more);
                    break;
                }
            }
            self.boards.follow_batch(done).await;
            next = self.unmerged_batch.take();
        }
    }
}

/// The parts of a batch that are written to the stores before the boards' offsets move behind the batch.
#[derive(Default)]
struct PreBoardWrites<'a> {
    comments: Vec<Comment>,
    traces: &'a [(CommentId, TraceContext)],
    described: Vec<DescribedVideo>,
}

/// Returns the metadata of those videos that are in `described`.
fn metadata_of(described: &[VideoId], videos: &[VideoState]) -> Vec<DescribedVideo> {
    if described.is_empty() {
        return Vec::new();
    }
    let described: HashSet<&VideoId> = described.iter().collect();
    videos.iter().filter(|video| described.contains(&video.video_id)).map(projection::to_described).collect()
}

struct BoardProjector {
    backends: Backends,
    /// The store of the boards that are projected.
    ranking: Arc<dyn RankingStore>,
    /// The declared board that is projected; `None` for the built-in boards.
    declared_board: Option<DeclaredBoard>,
    /// The window of the board that is projected; `None` if the store is not of a window.
    window: Option<WindowKey>,
    partition_count: u32,
    /// The generation of the last repair. Batches committed in an earlier generation are already in the boards.
    last_repair_generation: u64,
    shell: ServiceContext,
    metrics: ConsumerMetrics,
    owned_partitions: watch::Receiver<Vec<u32>>,
    missed_batch: Arc<AtomicBool>,
    boards_unavailable: Arc<AtomicBool>,
    /// The stores whose success is noted in the process's health with the next success: those that failed since the last
    /// one; at first the boards' store.
    stores_to_note: BTreeSet<&'static str>,
    /// The archive's offsets at the last comparison.
    seen_offsets: BTreeMap<u32, u64>,
    /// The generation whose half-life is noted on the boards.
    noted_generation: Option<u64>,
}

impl BoardProjector {
    /// Publishes and projects one batch, or repairs the boards from the archive. Retries until the stores are
    /// available.
    async fn follow_batch(&mut self, done: CommittedBatch) {
        let CommittedBatch {
            offset_ranges: spans,
            board_changes,
            new_comments,
            described_videos,
            archive_meta: meta,
            committed_at: committed,
            traced_records,
        } = done;
        let described = metadata_of(&described_videos, &board_changes.videos);
        let traces = traces::contexts_for_comments(&traced_records, &new_comments);
        let comments: Vec<Comment> = new_comments.into_iter().map(|numbered| numbered.comment).collect();
        let projection = BatchProjection {
            generation: meta.generation,
            offset_ranges: spans,
            entries: self.projection_target().board_entries(&board_changes.videos, &meta.counting_rules),
            traces: traces::contexts_for_boards(&traced_records),
        };
        let ahead = PreBoardWrites { comments, traces: &traces, described };
        self.project(&meta, ahead, &projection, committed).await;
    }

    async fn project(
        &mut self,
        meta: &ArchiveMeta,
        mut ahead: PreBoardWrites<'_>,
        projection: &BatchProjection,
        committed: Instant,
    ) {
        for failures in 0.. {
            let error = match self.publish_and_project(meta, &mut ahead, projection).await {
                Ok(ProjectionOutcome::Applied) if !self.missed_batch.load(Relaxed) => {
                    self.note_boards_available();
                    if self.declared_board.is_none() {
                        self.metrics.project_seconds.observe(committed.elapsed().as_secs_f64());
                        self.metrics.lag_metrics.note_projected(
                            &projection.offset_ranges,
                            &projection.traces,
                            now_ms(),
                        );
                    }
                    return;
                }
                Ok(_) => match self.repair_boards().await {
                    Ok(()) => return self.note_boards_available(),
                    // A person has to look at the boards; the comments of later batches are still published.
                    Err(error @ RepairError::BoardsAhead { .. }) => return self.note_boards_ahead(&error),
                    Err(RepairError::Store(error)) => error,
                },
                Err(error) => error,
            };
            self.note_boards_unavailable(&error);
            if !STORE_RETRY_BACKOFF.pause_after(failures, &self.shell).await {
                return; // The next consumer of the partitions finds the boards behind, and repairs them.
            }
        }
    }

    async fn publish_and_project(
        &self,
        meta: &ArchiveMeta,
        ahead: &mut PreBoardWrites<'_>,
        projection: &BatchProjection,
    ) -> Result<ProjectionOutcome, StoreError> {
        let PreBoardWrites { comments, traces, described } = ahead;
        if !comments.is_empty() {
            self.backends.comments.publish_traced(&meta.comment_epoch, comments, traces).await?;
            comments.clear();
        }
        if projection.generation < self.last_repair_generation {
            return Ok(ProjectionOutcome::Applied);
        }
        if !described.is_empty() {
            self.ranking.put_metadata(projection.generation, described).await?;
            described.clear();
        }
        self.ranking.project_batch(projection).await
    }

    /// Returns a projector of the same board, with no state of earlier batches or repairs.
    fn copy_without_state(&self) -> Self {
        Self {
            backends: self.backends.clone(),
            ranking: Arc::clone(&self.ranking),
            declared_board: self.declared_board.clone(),
            window: self.window.clone(),
            partition_count: self.partition_count,
            last_repair_generation: 0,
            shell: self.shell.clone(),
            metrics: self.metrics.clone(),
            owned_partitions: self.owned_partitions.clone(),
            missed_batch: Arc::clone(&self.missed_batch),
            boards_unavailable: Arc::clone(&self.boards_unavailable),
            stores_to_note: BTreeSet::new(),
            seen_offsets: BTreeMap::new(),
            noted_generation: None,
        }
    }

    fn projection_target(&self) -> ProjectionTarget<'_> {
        ProjectionTarget {
            ranking_store: &*self.ranking,
            declared_board: self.declared_board.as_ref(),
            window: self.window.as_ref(),
        }
    }

    fn note_boards_ahead(&mut self, error: &RepairError) {
        self.note_missed_batch();
        self.note_boards_unavailable(&StoreError::unavailable(self.ranking.store_name(), error));
    }

    fn note_missed_batch(&self) {
        self.missed_batch.store(true, Relaxed);
    }

    fn note_boards_unavailable(&mut self, error: &StoreError) {
        self.boards_unavailable.store(true, Relaxed);
        let store = if error.store_name() == self.ranking.store_name() { RANKING } else { ARCHIVE };
        self.stores_to_note.insert(store);
        self.shell.health.note_dependency(store, Err(error.to_string()));
    }

    fn note_boards_available(&mut self) {
        self.boards_unavailable.store(false, Relaxed);
        for store in std::mem::take(&mut self.stores_to_note) {
            self.shell.health.note_dependency(store, Ok(()));
        }
    }

    /// Compares the boards with the archive, independently of batches, and repairs the boards if they are behind.
    async fn compare_boards(&mut self, new_partitions: bool, is_idle: bool) {
        if new_partitions {
            // No batch of a new partition is on its way from this consumer: whatever the boards lack, they lack.
            self.seen_offsets.clear();
        }
        let looked = match self.is_behind(new_partitions, is_idle).await {
            Ok(false) => Ok(()),
            Ok(true) => self.repair_boards().await,
            Err(error) => Err(error.into()),
        };
        match looked {
            Ok(()) => self.note_boards_available(),
            Err(error @ RepairError::BoardsAhead { .. }) => self.note_boards_ahead(&error),
            Err(RepairError::Store(error)) => self.note_boards_unavailable(&error),
        }
    }

    async fn is_behind(&mut self, new_partitions: bool, is_idle: bool) -> Result<bool, StoreError> {
        if self.missed_batch.load(Relaxed) {
            return Ok(true);
        }
        let owned = self.owned_partitions.borrow().clone();
        let offsets = self.backends.archive.partition_positions(&owned).await?;
        let now: BTreeMap<u32, u64> =
            owned.into_iter().zip(offsets.iter().map(|position| position.next_offset)).collect();
        // A batch may be committed and not be in the queue yet: only what the archive had at the last comparison
        // counts as missing.
        let before = std::mem::replace(&mut self.seen_offsets, now.clone());
        let expected = if new_partitions { now } else { before };
        if !is_idle {
            return Ok(false);
        }
        let meta = self.backends.archive.archive_meta().await?.ok_or_else(no_archive_error)?;
        let standing = self.ranking.checkpoint().await?;
        let current = standing.generation == Some(meta.generation);
        if current && self.noted_generation != Some(meta.generation) {
            // Boards that were filled by an earlier release have no half-life noted.
            let half_life = self.projection_target().half_life_ms(&meta.counting_rules);
            self.ranking.note_half_life(meta.generation, half_life).await?;
            self.noted_generation = Some(meta.generation);
        }
        if current && self.declared_board.is_none() && !self.ranking.is_metadata_complete().await? {
            // The boards were filled by an earlier release, or Redis lost a part of its data.
            return Ok(true);
        }
        let known: BTreeMap<u32, u64> = standing.offsets.into_iter().collect();
        Ok(expected.iter().any(|(partition, offset)| {
            *offset > 0 && (!current || known.get(partition).is_none_or(|stands| stands < offset))
        }))
    }

    /// Publishes missing comments and fills the boards from the archive, for the partitions that this consumer owns.
    async fn repair_boards(&mut self) -> Result<(), RepairError> {
        let started = Instant::now();
        self.missed_batch.store(false, Relaxed);
        let owned = self.owned_partitions.borrow().clone();
        let repaired = repair::repair_target(
            &self.backends,
            self.projection_target(),
            &owned,
            self.partition_count,
            &|_| (),
        )
        .await;
        let repaired = repaired.inspect_err(|_| self.note_missed_batch())?;
        self.last_repair_generation = repaired.archive_meta.generation;
        self.metrics.board_repairs.inc();
        if repaired.video_count == 0 && repaired.comment_count == 0 {
            // A new system, or a board whose archive is empty: nothing was missing.
            return Ok(());
        }
        tracing::info!(
            board = self.declared_board.as_ref().map(DeclaredBoard::name),
            videos = repaired.video_count,
            comments = repaired.comment_count,
            generation = repaired.archive_meta.generation,
            ms = started.elapsed().as_millis() as u64,
            "the boards were empty, behind or of an earlier generation, and have been filled from the archive"
        );
        Ok(())
    }
}
