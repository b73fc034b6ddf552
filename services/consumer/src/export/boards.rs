//! The best of each board, into a topic for other systems: by snapshots, and by what changed since.
//!
//! One consumer does it, the owner of partition 0. It remembers what it wrote last for as long as it runs; whoever begins
//! writes a snapshot, which takes the place of all before it. So nothing that was lost with a writer is missing.

use std::sync::Arc;
use std::time::Duration;

use liverank_adapters::export_topics::{ExportError, ExportRecord, ExportSource, ExportWriter};
use liverank_adapters::ranking_store::{BoardPage, BuiltInBoard, PageStart};
use liverank_adapters::{Backends, RankingStore};
use liverank_core::boards::{BoardOrder, DeclaredBoards};
use liverank_core::ranking::{RankedVideo, RankingDelta};
use liverank_core::{Millis, comment};
use liverank_runtime::comment_json::format_time;
use liverank_runtime::{ServiceContext, now_ms};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use super::metrics::ExportMetrics;
use super::records::VERSION;
use super::topics;
use crate::STORE_RETRY_BACKOFF;

/// Videos of a board that are told: what a list shows, and a record of some ten kilobytes.
pub const TOP: usize = 100;
/// How often boards are looked at: a delta tells what a second changed.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often a snapshot is written at the least: a reader that begins anywhere waits no longer for one.
const SNAPSHOT_EVERY: Duration = Duration::from_mins(10);

/// A board that is told.
struct ToldBoard {
    name: String,
    order: BuiltInBoard,
    store: Arc<dyn RankingStore>,
    told: Option<Told>,
}

/// What a board is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seen {
    /// Its best videos.
    pub lines: Vec<RankedVideo>,
    /// How many it has.
    pub total: u64,
    /// By what its scores decay, where they do.
    pub half_life_ms: Option<u64>,
}

/// What was told of a board last.
#[derive(Debug, Clone)]
struct Told {
    seen: Seen,
    /// How many deltas followed the snapshot.
    deltas: u64,
    snapshot_at: Instant,
}

/// Tells of the boards until shutdown, while partition 0 is owned.
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
    let mut exporter = BoardsExporter::new(&backends, &boards, topic, metrics);
    let mut failures = 0;
    loop {
        tokio::select! {
            () = shell.shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if !owned.borrow().contains(&0) {
            exporter.writer = None;
            continue;
        }
        let outcome = exporter.tell(&backends).await;
        if let Err(error) = &outcome {
            exporter.writer = None;
            exporter.metrics.failed.inc();
            if matches!(error, ExportError::TakenOver) {
                tracing::info!("another consumer exports the boards");
            }
        }
        failures = if outcome.is_ok() { 0 } else { failures + 1 };
        // Counting goes on without it.
        shell.health.note_dependency("export_boards", outcome.map_err(|error| error.to_string()));
        if failures > 0 && !STORE_RETRY_BACKOFF.pause_after(failures, &shell).await {
            return;
        }
    }
}

struct BoardsExporter {
    topic: String,
    boards: Vec<ToldBoard>,
    metrics: ExportMetrics,
    /// Absent until it has begun, and after an error.
    writer: Option<Box<dyn ExportWriter>>,
    /// Which beginning it is: a reader tells by it whether it has all deltas.
    run: String,
}

impl BoardsExporter {
    fn new(backends: &Backends, declared: &DeclaredBoards, topic: String, metrics: ExportMetrics) -> Self {
        let built_in =
            [("global", BuiltInBoard::Global), ("trending", BuiltInBoard::Trending)].map(|(name, order)| {
                ToldBoard { name: name.to_owned(), order, store: Arc::clone(&backends.ranking), told: None }
            });
        let declared = declared.iter().filter(|board| board.windows().is_none()).map(|board| ToldBoard {
            name: board.name().to_owned(),
            order: if board.order() == BoardOrder::Trending {
                BuiltInBoard::Trending
            } else {
                BuiltInBoard::Global
            },
            store: backends.ranking.declared_board(&board.key()),
            told: None,
        });
        let boards = built_in.into_iter().chain(declared).collect();
        Self { topic, boards, metrics, writer: None, run: String::new() }
    }

    /// Writes what changed of all boards, in one transaction.
    async fn tell(&mut self, backends: &Backends) -> Result<(), ExportError> {
        let mut writer = if let Some(writer) = self.writer.take() {
            writer
        } else {
            self.boards.iter_mut().for_each(|board| board.told = None);
            self.run = comment::random_id(rand::random()).to_string();
            topics(backends)?.begin(&self.topic, ExportSource::Boards).await?
        };
        let (mut records, mut after) = (Vec::new(), Vec::new());
        for (at, board) in self.boards.iter().enumerate() {
            let seen = board.look().await?;
            let step = next_step(board.told.as_ref(), seen, Instant::now());
            let Some((told, what)) = step else { continue };
            records.push(record(&board.name, &self.run, now_ms(), &told, &what));
            after.push((at, told));
        }
        let count = records.len() as u64;
        if count > 0 {
            writer.write(records, None).await?;
            self.metrics.records.inc_by(count);
            for (at, told) in after {
                self.boards[at].told = Some(told);
            }
        }
        self.writer = Some(writer);
        Ok(())
    }
}

impl ToldBoard {
    async fn look(&self) -> Result<Seen, ExportError> {
        let page = self.store.board_page(self.order, &PageStart::Best, TOP).await?;
        let BoardPage { lines, total, .. } = page.unwrap_or_default();
        let half_life_ms = match self.order {
            BuiltInBoard::Trending => self.store.noted_half_life().await?,
            BuiltInBoard::Global => None,
        };
        Ok(Seen { lines, total, half_life_ms })
    }
}

/// What is to be told.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    Snapshot,
    Delta(RankingDelta),
}

/// What is to be told where `seen` follows on what was told; nothing where nothing changed.
fn next_step(told: Option<&Told>, seen: Seen, now: Instant) -> Option<(Told, Step)> {
    let snapshot = |seen| Some((Told { seen, deltas: 0, snapshot_at: now }, Step::Snapshot));
    let Some(told) = told else { return snapshot(seen) };
    let is_due = now.saturating_duration_since(told.snapshot_at) >= SNAPSHOT_EVERY;
    if is_due || told.seen.half_life_ms != seen.half_life_ms {
        return snapshot(seen);
    }
    if told.seen == seen {
        return None;
    }
    let delta = RankingDelta::delta_between(&told.seen.lines, &seen.lines);
    let (deltas, snapshot_at) = (told.deltas + 1, told.snapshot_at);
    Some((Told { seen, deltas, snapshot_at }, Step::Delta(delta)))
}

/// The record of a step. A score that decays is the logarithm by which the board is ordered (`docs/export.md`).
fn record(board: &str, run: &str, now: Millis, told: &Told, step: &Step) -> ExportRecord {
    let mut value = json!({
        "version": VERSION, "board": board, "run": run, "n": told.deltas, "timestamp": format_time(now), "total": told.seen.total,
    });
    match step {
        Step::Snapshot => {
            value["type"] = "snapshot".into();
            value["lines"] = json!(told.seen.lines);
            value["half_life_ms"] = told.seen.half_life_ms.map_or(Value::Null, Value::from);
        }
        Step::Delta(RankingDelta { remove, set }) => {
            value["type"] = "delta".into();
            value["remove"] = json!(remove);
            value["set"] = json!(set);
        }
    }
    ExportRecord { key: board.to_owned(), value: value.to_string() }
}

#[cfg(test)]
mod tests;
