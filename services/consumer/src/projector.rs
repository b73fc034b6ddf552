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

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use liverank_adapters::archive::ArchiveMeta;
use liverank_adapters::ranking_store::{BatchProjection, Described, ProjectionOutcome};
use liverank_adapters::{Backends, RankingStore, StoreError};
use liverank_core::boards::{DeclaredBoard, DeclaredBoards};
use liverank_core::counting::{BatchEffects, NumberedComment, OffsetRange, VideoState};
use liverank_core::trace::TraceContext;
use liverank_core::windows::{WindowChange, WindowKey};
use liverank_core::{Comment, CommentId, VideoId};
use liverank_runtime::{ServiceContext, now_ms};
use tokio::sync::{mpsc, watch};

use crate::STORE_RETRY_BACKOFF;
use crate::metrics::ConsumerMetrics;
use crate::projection::{self, ProjectionTarget};
use crate::repair::{self, RepairError, no_archive_error};
use crate::traces::{self, TracedRecord};

mod windowed;

use windowed::WindowedBoard;

/// Maximum number of batches that wait for the projector; each may be tens of megabytes. Waiting batches are merged
/// into one.
const MAX_BATCHES_WAITING: usize = 4;
/// Interval of comparing the boards with the archive when nothing happens, so that boards that were emptied are soon
/// filled again.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Interval of telling the store which declared boards are wanted.
const KEEP_EVERY: Duration = Duration::from_mins(1);
/// Time after which a declared board that no consumer wants is removed. The time is longer than an update of all
/// consumers usually takes, during which some consumers know the board and some do not, and longer than a consumer is
/// usually away.
const UNWANTED_AFTER: Duration = Duration::from_mins(10);

/// The changes of a batch that boards show. The projectors of all boards share them.
#[derive(Debug, Clone, Default)]
pub struct Changed {
    videos: Vec<VideoState>,
    windows: Vec<WindowChange>,
    restated: Vec<VideoId>,
}

impl Changed {
    /// Separates a batch's effects into the changes for boards and the new comments.
    pub fn of(effects: BatchEffects) -> (Self, Vec<NumberedComment>) {
        let BatchEffects { videos, windows, restated, comments, .. } = effects;
        (Self { videos, windows, restated }, comments)
    }

    /// Adds the changes of a later batch; the later state of a video replaces the earlier one.
    fn extend(&mut self, next: Self) {
        let changed: HashSet<&VideoId> = next.videos.iter().map(|state| &state.video_id).collect();
        self.videos.retain(|state| !changed.contains(&state.video_id));
        self.videos.extend(next.videos);
        self.windows.extend(next.windows);
        self.restated.extend(next.restated);
    }
}

/// A batch that the archive committed, as the projector gets it.
pub struct CommittedBatch {
    /// The offset ranges of the log that the batch covered.
    pub offset_ranges: Vec<OffsetRange>,
    /// The changes of the batch that boards show.
    pub changed: Arc<Changed>,
    /// The new comments of the batch.
    pub comments: Vec<NumberedComment>,
    /// The videos whose metadata the batch set or removed; their metadata are stored beside the boards.
    pub described: Vec<VideoId>,
    /// The archive's meta document that was in force at the commit.
    pub archive_meta: ArchiveMeta,
    /// The time of the commit.
    pub committed_at: Instant,
    /// The records of the batch for which spans are recorded.
    pub traced_records: Vec<TracedRecord>,
}

impl CommittedBatch {
    /// Returns a copy with only the parts that a declared board needs.
    fn for_declared(&self) -> Self {
        Self { changed: Arc::clone(&self.changed), ..self.without_effects() }
    }

    /// Returns a copy with the offset ranges and the meta document, and without any effects.
    fn without_effects(&self) -> Self {
        Self {
            offset_ranges: self.offset_ranges.clone(),
            changed: Arc::default(),
            comments: Vec::new(),
            described: Vec::new(),
            archive_meta: self.archive_meta.clone(),
            committed_at: self.committed_at,
            traced_records: Vec::new(),
        }
    }

    /// Merges `next` into this batch. Returns `next` as the error if records lie between the two, or the archive's meta document changed.
    fn merge_batch(&mut self, next: Self) -> Result<(), Box<Self>> {
        let follows = |span: &OffsetRange| {
            let before = self.offset_ranges.iter().find(|before| before.partition == span.partition);
            before.is_none_or(|before| before.next == span.first)
        };
        if next.archive_meta != self.archive_meta || !next.offset_ranges.iter().all(follows) {
            return Err(Box::new(next));
        }
        for span in next.offset_ranges {
            match self.offset_ranges.iter_mut().find(|before| before.partition == span.partition) {
                Some(before) => before.next = span.next,
                None => self.offset_ranges.push(span),
            }
        }
        // The changes are copied only if the projector of another board still uses them.
        Arc::make_mut(&mut self.changed).extend(Arc::unwrap_or_clone(next.changed));
        self.comments.extend(next.comments);
        self.described.extend(next.described);
        self.traced_records.extend(next.traced_records);
        Ok(())
    }
}

/// The counter's end of the queue to the projectors of all boards.
pub struct ProjectionQueue {
    batches: mpsc::Sender<CommittedBatch>,
    set_owned_partitions: watch::Sender<Vec<u32>>,
    /// A number that is raised with each batch that has something to export.
    told: watch::Sender<u64>,
    note_missed_batch: Arc<AtomicBool>,
    boards_away: Arc<AtomicBool>,
    metrics: ConsumerMetrics,
    /// The queues to the projectors of declared boards.
    declared: Vec<Self>,
}

impl ProjectionQueue {
    /// Hands a batch over to the projectors. Waits while a projector is at work, but not while its boards are away:
    /// counting goes on without the boards, and they are repaired when they are back.
    pub async fn hand_over_batch(&self, done: CommittedBatch) {
        let copies: Vec<CommittedBatch> = self.declared.iter().map(|_| done.for_declared()).collect();
        self.hand_over(done).await;
        for (declared, copy) in self.declared.iter().zip(copies) {
            declared.hand_over(copy).await;
        }
        self.metrics.waiting_batches.set((MAX_BATCHES_WAITING - self.batches.capacity()) as i64);
    }

    async fn hand_over(&self, done: CommittedBatch) {
        let sent = match self.batches.try_send(done) {
            Err(mpsc::error::TrySendError::Full(done)) if !self.boards_away.load(Relaxed) => {
                self.batches.send(done).await.is_ok()
            }
            sent => sent.is_ok(),
        };
        if !sent {
            self.note_missed_batch.store(true, Relaxed);
        }
    }

    /// Tells the projectors that a batch may have been committed that they did not get.
    pub fn missed(&self) {
        self.note_missed_batch.store(true, Relaxed);
        self.declared.iter().for_each(Self::missed);
    }

    /// Returns a receiver of the partitions that this consumer owns; it is notified of changes.
    pub fn watch_owned_partitions(&self) -> watch::Receiver<Vec<u32>> {
        self.set_owned_partitions.subscribe()
    }

    /// Notes that a batch was committed that has something to export.
    pub fn note_exportable(&self) {
        self.told.send_modify(|told| *told += 1);
    }

    /// Returns a receiver that changes with each batch that has something to export: a comment, a moderator's action
    /// or a held comment.
    pub fn watch_told(&self) -> watch::Receiver<u64> {
        self.told.subscribe()
    }

    /// Sets the partitions that this consumer owns; the projectors then compare all of them with the archive. Returns
    /// whether they are others than before.
    pub fn owned(&self, partitions: Vec<u32>) -> bool {
        for declared in &self.declared {
            declared.owned(partitions.clone());
        }
        let before = self.set_owned_partitions.send_replace(partitions);
        before != *self.set_owned_partitions.borrow()
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
    let one = |board: Option<&DeclaredBoard>| start_one(backends, board, partitions, shell, metrics);
    let (projector, mut feed) = one(None);
    let mut projectors = vec![projector.run()];
    for board in boards {
        let (projector, declared) = one(Some(board));
        projectors.push(projector.run());
        feed.declared.push(declared);
    }
    (projectors, feed)
}

fn start_one(
    backends: &Backends,
    board: Option<&DeclaredBoard>,
    partitions: u32,
    shell: &ServiceContext,
    metrics: &ConsumerMetrics,
) -> (ProjectorTask, ProjectionQueue) {
    let (batches, waiting) = mpsc::channel(MAX_BATCHES_WAITING);
    let (owned, owned_seen) = watch::channel(Vec::new());
    let missed = Arc::new(AtomicBool::new(false));
    let away = Arc::new(AtomicBool::new(false));
    let ranking = match board {
        Some(board) => backends.ranking.declared_board(&board.key()),
        None => Arc::clone(&backends.ranking),
    };
    let projector = BoardProjector {
        backends: backends.clone(),
        ranking,
        board: board.cloned(),
        window: None,
        partitions,
        repaired_to: 0,
        shell: shell.clone(),
        metrics: metrics.clone(),
        owned: owned_seen.clone(),
        missed: Arc::clone(&missed),
        boards_away: Arc::clone(&away),
        away_part: None,
        seen_offsets: BTreeMap::new(),
        noted: None,
    };
    let boards = match board {
        Some(board) if board.windows().is_some() => Boards::Windowed(Box::new(WindowedBoard::new(projector))),
        _ => Boards::One(Box::new(projector)),
    };
    let task = ProjectorTask { boards, waiting, apart: None, owned: owned_seen };
    let (declared, told) = (Vec::new(), watch::Sender::new(0));
    (
        task,
        ProjectionQueue {
            batches,
            set_owned_partitions: owned,
            told,
            note_missed_batch: missed,
            boards_away: away,
            metrics: metrics.clone(),
            declared,
        },
    )
}

/// Tells the ranking store once a minute which declared boards are wanted; boards that no consumer wants any more are
/// removed. Never returns.
pub async fn keep_declared_boards(backends: Backends, boards: DeclaredBoards) {
    let mut again = tokio::time::interval(KEEP_EVERY);
    again.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        again.tick().await;
        let wanted = boards.keys((backends.clock)());
        match backends.ranking.keep_declared_boards(&wanted, UNWANTED_AFTER).await {
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
enum Boards {
    /// The built-in boards, or one declared board without windows.
    One(Box<BoardProjector>),
    /// A declared board with a store for each window.
    Windowed(Box<WindowedBoard>),
}

impl Boards {
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
            Self::Windowed(board) => board.note_held().await,
        }
    }

    /// Compares the boards with the archive. `is_idle` tells that no batch is on its way to the boards.
    async fn compare(&mut self, new_partitions: bool, is_idle: bool) {
        match self {
            Self::One(board) => board.compare_boards(new_partitions, is_idle).await,
            Self::Windowed(board) => board.compare(new_partitions, is_idle).await,
        }
    }
}

struct ProjectorTask {
    boards: Boards,
    waiting: mpsc::Receiver<CommittedBatch>,
    /// A committed batch that could not be merged with those before it.
    apart: Option<CommittedBatch>,
    owned: watch::Receiver<Vec<u32>>,
}

impl ProjectorTask {
    async fn run(mut self) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                done = self.waiting.recv() => match done {
                    Some(done) => self.follow_waiting(done).await,
                    None => return self.boards.finish().await,
                },
                changed = self.owned.changed() => if changed.is_ok() {
                    self.compare(true).await;
                },
                _ = look.tick() => self.compare(false).await,
            }
        }
    }

    async fn compare(&mut self, new_partitions: bool) {
        let is_idle = self.waiting.is_empty() && self.apart.is_none();
        self.boards.compare(new_partitions, is_idle).await;
    }

    /// Projects a batch and the batches that wait behind it, merged where possible.
    async fn follow_waiting(&mut self, first: CommittedBatch) {
        let mut next = Some(first);
        while let Some(mut done) = next {
            while let Ok(more) = self.waiting.try_recv() {
                if let Err(more) = done.merge_batch(more) {
                    self.apart = Some(*more);
                    break;
                }
            }
            self.boards.follow_batch(done).await;
            next = self.apart.take();
        }
    }
}

/// The parts of a batch that are written to the stores before the boards' offsets move behind the batch.
#[derive(Default)]
struct AheadOfBoards<'a> {
    comments: Vec<Comment>,
    traces: &'a [(CommentId, TraceContext)],
    described: Vec<Described>,
}

/// Returns the metadata of those videos that are in `described`.
fn metadata_of(described: &[VideoId], videos: &[VideoState]) -> Vec<Described> {
    if described.is_empty() {
        return Vec::new();
    }
    let described: HashSet<&VideoId> = described.iter().collect();
    videos.iter().filter(|video| described.contains(&video.video_id)).map(projection::described).collect()
}

struct BoardProjector {
    backends: Backends,
    /// The store of the boards that are projected.
    ranking: Arc<dyn RankingStore>,
    /// The declared board that is projected; `None` for the built-in boards.
    board: Option<DeclaredBoard>,
    /// The window of the board that is projected; `None` if the store is not of a window.
    window: Option<WindowKey>,
    partitions: u32,
    /// The generation of the last repair. Batches committed in an earlier generation are already in the boards.
    repaired_to: u64,
    shell: ServiceContext,
    metrics: ConsumerMetrics,
    owned: watch::Receiver<Vec<u32>>,
    missed: Arc<AtomicBool>,
    boards_away: Arc<AtomicBool>,
    away_part: Option<&'static str>,
    /// The archive's offsets at the last comparison.
    seen_offsets: BTreeMap<u32, u64>,
    /// The generation whose half-life is noted on the boards.
    noted: Option<u64>,
}

impl BoardProjector {
    /// Publishes and projects one batch, or repairs the boards from the archive. Retries for as long as the stores are
    /// away.
    async fn follow_batch(&mut self, done: CommittedBatch) {
        let CommittedBatch {
            offset_ranges: spans,
            changed,
            comments,
            described,
            archive_meta: meta,
            committed_at: committed,
            traced_records,
        } = done;
        let described = metadata_of(&described, &changed.videos);
        let traces = traces::contexts_for_comments(&traced_records, &comments);
        let comments: Vec<Comment> = comments.into_iter().map(|numbered| numbered.comment).collect();
        let projection = BatchProjection {
            generation: meta.generation,
            offset_ranges: spans,
            entries: self.target().board_entries(&changed.videos, &meta.counting_rules),
            traces: traces::contexts_for_boards(&traced_records),
        };
        let ahead = AheadOfBoards { comments, traces: &traces, described };
        self.project(&meta, ahead, &projection, committed).await;
    }

    async fn project(
        &mut self,
        meta: &ArchiveMeta,
        mut ahead: AheadOfBoards<'_>,
        projection: &BatchProjection,
        committed: Instant,
    ) {
        for failures in 0.. {
            let error = match self.publish_and_project(meta, &mut ahead, projection).await {
                Ok(ProjectionOutcome::Applied) if !self.missed.load(Relaxed) => {
                    self.note_back();
                    if self.board.is_none() {
                        self.metrics.project_seconds.observe(committed.elapsed().as_secs_f64());
                        self.metrics.lag_metrics.note_projected(&projection.offset_ranges, now_ms());
                    }
                    return;
                }
                Ok(_) => match self.repair_boards().await {
                    Ok(()) => return self.note_back(),
                    // A person has to look at the boards; the comments of later batches are still published.
                    Err(error @ RepairError::BoardsAhead { .. }) => return self.note_ahead(&error),
                    Err(RepairError::Store(error)) => error,
                },
                Err(error) => error,
            };
            self.note_away(&error);
            if !STORE_RETRY_BACKOFF.pause_after(failures, &self.shell).await {
                return; // The next consumer of the partitions finds the boards behind, and repairs them.
            }
        }
    }

    async fn publish_and_project(
        &self,
        meta: &ArchiveMeta,
        ahead: &mut AheadOfBoards<'_>,
        projection: &BatchProjection,
    ) -> Result<ProjectionOutcome, StoreError> {
        let AheadOfBoards { comments, traces, described } = ahead;
        if !comments.is_empty() {
            self.backends.comments.publish_traced(&meta.comment_epoch, comments, traces).await?;
            comments.clear();
        }
        if projection.generation < self.repaired_to {
            return Ok(ProjectionOutcome::Applied);
        }
        if !described.is_empty() {
            self.ranking.describe(projection.generation, described).await?;
            described.clear();
        }
        self.ranking.project_batch(projection).await
    }

    /// Returns a projector of the same board that has done nothing yet.
    fn another(&self) -> Self {
        Self {
            backends: self.backends.clone(),
            ranking: Arc::clone(&self.ranking),
            board: self.board.clone(),
            window: self.window.clone(),
            partitions: self.partitions,
            repaired_to: 0,
            shell: self.shell.clone(),
            metrics: self.metrics.clone(),
            owned: self.owned.clone(),
            missed: Arc::clone(&self.missed),
            boards_away: Arc::clone(&self.boards_away),
            away_part: None,
            seen_offsets: BTreeMap::new(),
            noted: None,
        }
    }

    fn target(&self) -> ProjectionTarget<'_> {
        ProjectionTarget {
            ranking_store: &*self.ranking,
            declared_board: self.board.as_ref(),
            window: self.window.as_ref(),
        }
    }

    fn note_ahead(&mut self, error: &RepairError) {
        self.missed();
        self.note_away(&StoreError::unavailable("redis", error));
    }

    fn missed(&self) {
        self.missed.store(true, Relaxed);
    }

    fn note_away(&mut self, error: &StoreError) {
        self.boards_away.store(true, Relaxed);
        self.away_part = Some(error.part());
        self.shell.health.note_dependency(error.part(), Err(error.to_string()));
    }

    fn note_back(&mut self) {
        self.boards_away.store(false, Relaxed);
        if let Some(part) = self.away_part.take() {
            self.shell.health.note_dependency(part, Ok(()));
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
            Ok(()) => self.note_back(),
            Err(error @ RepairError::BoardsAhead { .. }) => self.note_ahead(&error),
            Err(RepairError::Store(error)) => self.note_away(&error),
        }
    }

    async fn is_behind(&mut self, new_partitions: bool, is_idle: bool) -> Result<bool, StoreError> {
        if self.missed.load(Relaxed) {
            return Ok(true);
        }
        let owned = self.owned.borrow().clone();
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
        if current && self.noted != Some(meta.generation) {
            // Boards that were filled by an earlier release have no half-life noted.
            let half_life = self.target().half_life_ms(&meta.counting_rules);
            self.ranking.note_half_life(meta.generation, half_life).await?;
            self.noted = Some(meta.generation);
        }
        if current && self.board.is_none() && !self.ranking.is_described().await? {
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
        self.missed.store(false, Relaxed);
        let owned = self.owned.borrow().clone();
        let repaired =
            repair::repair_target(&self.backends, self.target(), &owned, self.partitions, &|_| ()).await;
        let repaired = repaired.inspect_err(|_| self.missed())?;
        self.repaired_to = repaired.archive_meta.generation;
        self.metrics.board_repairs.inc();
        tracing::info!(
            board = self.board.as_ref().map(DeclaredBoard::name),
            videos = repaired.videos,
            comments = repaired.comments,
            generation = repaired.archive_meta.generation,
            ms = started.elapsed().as_millis() as u64,
            "the boards were empty, behind or of an earlier generation, and have been filled from the archive"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use liverank_core::UserId;
    use liverank_core::comment::CommentEpoch;
    use liverank_core::counting::{CountingRules, VideoState};
    use liverank_core::decays::{CountedDecays, DecayedScores};
    use liverank_core::score::Counters;
    use liverank_core::windows::CountedWindows;

    use super::*;

    fn batch(generation: u64, spans: &[(u32, u64, u64)], videos: &[(&str, i64)]) -> CommittedBatch {
        let state = |&(id, views): &(&str, i64)| VideoState {
            video_id: VideoId::parse(id).unwrap(),
            owner: UserId::parse("o").unwrap(),
            owner_given: false,
            counters: Counters { views, ..Counters::default() },
            last_seq: 0,
            trending: 0.0,
            decayed: DecayedScores::default(),
            corrections: 0,
            metadata: None,
            removed_by: None,
        };
        let span = |&(partition, from, next): &(u32, u64, u64)| OffsetRange {
            partition,
            first: from,
            next,
            last_record: None,
        };
        CommittedBatch {
            offset_ranges: spans.iter().map(span).collect(),
            changed: Arc::new(Changed { videos: videos.iter().map(state).collect(), ..Changed::default() }),
            comments: Vec::new(),
            described: Vec::new(),
            archive_meta: ArchiveMeta {
                comment_epoch: CommentEpoch::from_bits(1),
                generation,
                counting_rules: CountingRules::default(),
                windows: CountedWindows::default(),
                decays: CountedDecays::default(),
            },
            committed_at: Instant::now(),
            traced_records: Vec::new(),
        }
    }

    #[test]
    fn adjacent_batches_are_merged_with_the_later_states() {
        let mut first = batch(1, &[(0, 0, 5), (1, 3, 4)], &[("a", 1), ("b", 1)]);
        assert!(first.merge_batch(batch(1, &[(0, 5, 9), (2, 7, 8)], &[("b", 2), ("c", 2)])).is_ok());
        let spans: Vec<_> =
            first.offset_ranges.iter().map(|span| (span.partition, span.first, span.next)).collect();
        assert_eq!(spans, [(0, 0, 9), (1, 3, 4), (2, 7, 8)]);
        let videos = first.changed.videos.iter();
        let videos: Vec<_> = videos.map(|state| (state.video_id.as_str(), state.counters.views)).collect();
        assert_eq!(videos, [("a", 1), ("b", 2), ("c", 2)]);
    }

    #[test]
    fn batches_with_a_gap_are_not_merged() {
        let mut first = batch(1, &[(0, 0, 5)], &[("a", 1)]);
        for apart in [batch(1, &[(0, 6, 7)], &[]), batch(2, &[(0, 5, 7)], &[])] {
            let spans = apart.offset_ranges.clone();
            assert_eq!(first.merge_batch(apart).unwrap_err().offset_ranges, spans);
        }
        assert_eq!((first.offset_ranges[0].next, first.changed.videos.len()), (5, 1));
    }
}
