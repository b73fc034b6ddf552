//! The exporter of boards: writes the best videos of each board to a topic for other systems, as snapshots and as
//! changes since.
//!
//! One consumer exports the boards, the owner of partition 0. The exporter remembers what it wrote last for as long as
//! it runs. An exporter that begins writes a snapshot, which replaces all records before it, so nothing is missing
//! that was lost with an earlier exporter. For a board with windows, the exporter writes the running window, and the
//! result of each window that has ended ([`results`]).

use std::sync::Arc;
use std::time::Duration;

use liverank_adapters::export_topics::{ExportError, ExportRecord, ExportSource, ExportWriter};
use liverank_adapters::ranking_store::{BoardPage, BuiltInBoard, PageStart};
use liverank_adapters::window_progress::CountingProgress;
use liverank_adapters::{Backends, RankingStore, StoreError};
use liverank_core::boards::{BoardOrder, BoardWindows, DeclaredBoard, DeclaredBoards};
use liverank_core::windows::Window;
use liverank_core::{Millis, comment};
use liverank_runtime::{ServiceContext, now_ms};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use super::metrics::ExportMetrics;
use super::{RENEW_EVERY, topics};
use crate::STORE_RETRY_BACKOFF;
use results::{ResultsNote, WindowResult, record_of_result};
use steps::{BoardState, ExportedState, NamedWindow, next_step, record_of_step};

mod results;
mod steps;

/// Number of videos of a board that are exported: as many as a list shows; a record is then about ten kilobytes.
pub const EXPORTED_VIDEOS_PER_BOARD: usize = 100;
/// Interval of looking at the boards: a delta covers the changes of one second.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A board that is exported.
struct ExportedBoard {
    name: String,
    order: BuiltInBoard,
    source: BoardSource,
    /// The state that the current writer wrote last; `None` if it has written none.
    last_exported: Option<ExportedState>,
}

/// The store from which an exported board is read.
enum BoardSource {
    Store(Arc<dyn RankingStore>),
    /// A board with windows: each window has a store of its own.
    Windows(Box<DeclaredBoard>),
}

/// Exports the boards until shutdown, while partition 0 is owned.
pub async fn run(
    backends: Backends,
    boards: DeclaredBoards,
    topic: String,
    owned: watch::Receiver<Vec<u32>>,
    metrics: ExportMetrics,
    shell: ServiceContext,
) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut exporter = BoardsExporter::new(backends, &boards, topic, metrics);
    let mut failures = 0;
    loop {
        tokio::select! {
            () = shell.shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if !owned.borrow().contains(&0) {
            exporter.writer = None;
            // The consumer that owns partition 0 now reports on the export.
            shell.health.note_dependency("export_boards", Ok(()));
            continue;
        }
        let outcome = exporter.export().await;
        if let Err(error) = &outcome {
            exporter.metrics.failed_turns.inc();
            if matches!(error, ExportError::TakenOver) {
                tracing::info!("another consumer exports the boards");
            }
        }
        failures = if outcome.is_ok() { 0 } else { failures + 1 };
        // A failure of the export does not stop counting.
        shell.health.note_dependency("export_boards", outcome.map_err(|error| error.to_string()));
        if failures > 0 && !STORE_RETRY_BACKOFF.pause_after(failures, &shell).await {
            return;
        }
    }
}

struct BoardsExporter {
    backends: Backends,
    topic: String,
    boards: Vec<ExportedBoard>,
    metrics: ExportMetrics,
    /// The writer to the topic; absent until the exporter has begun, and after the writer's own error.
    writer: Option<Box<dyn ExportWriter>>,
    /// A random id of this exporter's run: a reader of the topic sees by it whether it has all deltas.
    run_id: String,
    /// The note of exported results that was committed last, and the time of the commit.
    committed_note: (ResultsNote, Instant),
}

impl BoardsExporter {
    fn new(backends: Backends, declared: &DeclaredBoards, topic: String, metrics: ExportMetrics) -> Self {
        let built_in = [("global", BuiltInBoard::Global), ("trending", BuiltInBoard::Trending)];
        let built_in = built_in.map(|(name, order)| ExportedBoard {
            name: name.to_owned(),
            order,
            source: BoardSource::Store(Arc::clone(&backends.ranking)),
            last_exported: None,
        });
        let declared = declared.iter().map(|board| ExportedBoard {
            name: board.name().to_owned(),
            order: match board.order() {
                BoardOrder::Trending => BuiltInBoard::Trending,
                BoardOrder::Points => BuiltInBoard::Global,
            },
            source: match board.windows() {
                Some(_) => BoardSource::Windows(Box::new(board.clone())),
                None => BoardSource::Store(backends.ranking.declared_board(&board.store_key())),
            },
            last_exported: None,
        });
        let boards = built_in.into_iter().chain(declared).collect();
        let committed_note = (ResultsNote::default(), Instant::now());
        Self { backends, topic, boards, metrics, writer: None, run_id: String::new(), committed_note }
    }

    /// Writes the changes of all boards, and the results that are due. If a store does not answer, nothing is written
    /// and the writer stays open.
    async fn export(&mut self) -> Result<(), ExportError> {
        let now = (self.backends.clock)();
        let mut states = Vec::with_capacity(self.boards.len());
        for board in &self.boards {
            states.push(board.read_state(&*self.backends.ranking, now).await?);
        }
        if self.writer.is_none() {
            self.open_writer().await?;
        }
        self.write_changes(states, now).await?;
        self.write_results(now).await
    }

    async fn open_writer(&mut self) -> Result<(), ExportError> {
        self.boards.iter_mut().for_each(|board| board.last_exported = None);
        self.run_id = comment::random_comment_id(rand::random()).to_string();
        let source = ExportSource::Boards { has_note: !self.windows().is_empty() };
        let writer = topics(&self.backends)?.open_writer(&self.topic, source).await?;
        self.committed_note = (ResultsNote::parse(writer.committed_note()), Instant::now());
        self.writer = Some(writer);
        Ok(())
    }

    /// The boards that have windows, each by its name.
    fn windows(&self) -> Vec<(&str, &BoardWindows)> {
        self.boards.iter().filter_map(|board| Some((board.name.as_str(), board.windows()?.1))).collect()
    }

    /// Writes the changes of all boards in one transaction. For a new board, the transaction also notes the time from
    /// which the board's results are exported.
    async fn write_changes(&mut self, states: Vec<BoardState>, now: Millis) -> Result<(), ExportError> {
        let (mut records, mut after) = (Vec::new(), Vec::new());
        for (at, (board, state)) in self.boards.iter().zip(states).enumerate() {
            let step = next_step(board.last_exported.as_ref(), state, Instant::now());
            let Some((exported, step)) = step else { continue };
            records.push(record_of_step(&board.name, &self.run_id, now_ms(), &exported, &step));
            after.push((at, exported));
        }
        let mut note = self.committed_note.0.clone();
        note.note_new_boards(&self.windows(), now);
        self.write_records(records, note).await?;
        for (at, exported) in after {
            self.boards[at].last_exported = Some(exported);
        }
        Ok(())
    }

    /// Writes the results of windows that are final now. The stores are asked once for all boards, and only if a
    /// window has ended whose result is not exported yet.
    async fn write_results(&mut self, now: Millis) -> Result<(), ExportError> {
        let mut note = self.committed_note.0.clone();
        let due = self.windows().into_iter().map(|(name, windows)| note.due_results(name, windows, now));
        let due: Vec<_> = due.collect();
        if due.iter().all(|due| due.windows.is_empty()) {
            return Ok(());
        }
        let progress = CountingProgress::read_progress(&self.backends).await?;
        let mut records = Vec::new();
        let with_windows = self.boards.iter().filter_map(|board| Some((board, board.windows()?)));
        for ((board, (declared, windows)), due) in with_windows.zip(due) {
            for (nth, window) in due.windows.iter().enumerate() {
                let list = self.backends.ranking.declared_board(&declared.store_key_of_window(window));
                if !progress.is_final(window, &*list).await? {
                    break;
                }
                let named = NamedWindow::of(&windows.kind, window);
                if nth == 0 && due.is_incomplete {
                    let (board, window) = (&board.name, &named);
                    tracing::warn!(
                        board,
                        ?window,
                        "results of windows before this one are kept no more, and are not exported"
                    );
                }
                records.push(board.read_result(&*list, named, windows, window, &progress).await?);
                note.note_result(&board.name, windows, window);
            }
        }
        self.write_records(records, note).await
    }

    /// Writes records to the topic. The note of exported results is written with the records if the note has changed,
    /// or if the brokers would soon forget it.
    async fn write_records(
        &mut self,
        records: Vec<ExportRecord>,
        note: ResultsNote,
    ) -> Result<(), ExportError> {
        let (noted, when) = &self.committed_note;
        let has_note = !self.windows().is_empty();
        let is_noted = !has_note || (*noted == note && when.elapsed() < RENEW_EVERY);
        if records.is_empty() && is_noted {
            return Ok(());
        }
        // A writer cannot be used any more after an error of its own.
        let Some(mut writer) = self.writer.take() else { return Ok(()) };
        let count = records.len() as u64;
        if is_noted {
            writer.write(records, None).await?;
        } else {
            writer.write_with_note(records, note.to_text()).await?;
            self.committed_note = (note, Instant::now());
        }
        self.metrics.records.inc_by(count);
        self.writer = Some(writer);
        Ok(())
    }
}

impl ExportedBoard {
    fn windows(&self) -> Option<(&DeclaredBoard, &BoardWindows)> {
        match &self.source {
            BoardSource::Windows(declared) => Some((declared, declared.windows()?)),
            BoardSource::Store(_) => None,
        }
    }

    /// Returns the current state of the board; for a board with windows, of the window that runs.
    async fn read_state(&self, ranking: &dyn RankingStore, now: Millis) -> Result<BoardState, StoreError> {
        let (store, window) = match &self.source {
            BoardSource::Store(store) => (Arc::clone(store), None),
            BoardSource::Windows(declared) => {
                let window = declared.windows().map(|windows| (windows, windows.kind.window_of(now)));
                let key = window.map_or_else(
                    || declared.store_key(),
                    |(_, window)| declared.store_key_of_window(&window),
                );
                let named = window.map(|(windows, window)| NamedWindow::of(&windows.kind, &window));
                (ranking.declared_board(&key), named)
            }
        };
        let BoardPage { videos, total, .. } = best_of_board(&*store, self.order).await?;
        let half_life_ms = match self.order {
            BuiltInBoard::Trending => store.noted_half_life().await?,
            BuiltInBoard::Global => None,
        };
        Ok(BoardState { videos, total, half_life_ms, window })
    }

    async fn read_result(
        &self,
        list: &dyn RankingStore,
        named: NamedWindow,
        windows: &BoardWindows,
        window: &Window,
        progress: &CountingProgress,
    ) -> Result<ExportRecord, StoreError> {
        let BoardPage { videos, total, .. } = best_of_board(list, self.order).await?;
        let meta = progress.meta.as_ref();
        let is_whole =
            meta.map(|meta| meta.windows.find(&windows.kind).is_some_and(|it| it.is_complete(window.start)));
        let result = WindowResult { board: &self.name, window: named, is_whole, videos, total };
        Ok(record_of_result(&result, now_ms()))
    }
}

async fn best_of_board(store: &dyn RankingStore, order: BuiltInBoard) -> Result<BoardPage, StoreError> {
    Ok(store.board_page(order, &PageStart::Best, EXPORTED_VIDEOS_PER_BOARD).await?.unwrap_or_default())
}

#[cfg(test)]
mod tests;
