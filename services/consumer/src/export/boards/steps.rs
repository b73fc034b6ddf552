//! The records of a board's changes: decides whether a snapshot or a delta is exported. No I/O.

use std::time::Duration;

use liverank_adapters::export_topics::ExportRecord;
use liverank_core::Millis;
use liverank_core::ranking::{RankedVideo, RankingDelta};
use liverank_core::windows::{Window, WindowKind};
use liverank_runtime::comment_json::format_time;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::export::records::VERSION;

/// Maximum time between two snapshots of a board: a reader that begins anywhere in the topic waits no longer for one.
pub const SNAPSHOT_EVERY: Duration = Duration::from_mins(10);

/// A window of a board with its name, as lists of the API show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedWindow {
    name: String,
    start: Millis,
    end: Millis,
}

impl NamedWindow {
    /// Returns a window with the name that its kind gives it.
    pub fn of(kind: &WindowKind, window: &Window) -> Self {
        Self { name: kind.window_name(window), start: window.start, end: window.end }
    }

    /// Returns the window as JSON, as exported records have it.
    pub fn to_json(&self) -> Value {
        let Self { name, start, end } = self;
        json!({ "name": name, "start": start, "end": end })
    }
}

/// The state of a board at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BoardState {
    /// The best videos of the board.
    pub videos: Vec<RankedVideo>,
    /// Number of videos on the board.
    pub total: u64,
    /// The half-life by which the board's scores decay, in milliseconds; `None` if they do not decay.
    pub half_life_ms: Option<u64>,
    /// The window that runs; `None` if the board has no windows.
    pub window: Option<NamedWindow>,
}

/// The state of a board that was exported last.
#[derive(Debug, Clone)]
pub struct ExportedState {
    /// The board's state when it was exported.
    pub state: BoardState,
    /// Number of deltas since the last snapshot.
    pub deltas_since_snapshot: u64,
    snapshot_at: Instant,
}

/// The next record to export for a board: a snapshot or a delta.
#[derive(Debug, Clone, PartialEq)]
pub enum ExportStep {
    /// The whole list.
    Snapshot,
    /// The changes since the state that was exported last.
    Delta(RankingDelta),
}

/// Returns what to export if the board's state is now `state`, with the exported state after it. Returns `None` if
/// nothing changed and no snapshot is due.
pub fn next_step(
    exported: Option<&ExportedState>,
    state: BoardState,
    now: Instant,
) -> Option<(ExportedState, ExportStep)> {
    let snapshot = |state| {
        Some((ExportedState { state, deltas_since_snapshot: 0, snapshot_at: now }, ExportStep::Snapshot))
    };
    let Some(exported) = exported else { return snapshot(state) };
    let is_due = now.saturating_duration_since(exported.snapshot_at) >= SNAPSHOT_EVERY;
    let before = &exported.state;
    if is_due || before.half_life_ms != state.half_life_ms || before.window != state.window {
        return snapshot(state);
    }
    if *before == state {
        return None;
    }
    let delta = RankingDelta::delta_between(&before.videos, &state.videos);
    let (deltas_since_snapshot, snapshot_at) = (exported.deltas_since_snapshot + 1, exported.snapshot_at);
    Some((ExportedState { state, deltas_since_snapshot, snapshot_at }, ExportStep::Delta(delta)))
}

/// Returns the exported record of a step. A score that decays is exported as the logarithm by which the board is
/// ordered (`docs/export.md`).
pub fn record_of_step(
    board: &str,
    run: &str,
    now: Millis,
    exported: &ExportedState,
    step: &ExportStep,
) -> ExportRecord {
    let ExportedState { state, deltas_since_snapshot, .. } = exported;
    let mut value = json!({
        "version": VERSION, "board": board, "run": run, "n": deltas_since_snapshot, "timestamp": format_time(now), "total": state.total,
    });
    if let Some(window) = &state.window {
        value["window"] = window.to_json();
    }
    match step {
        ExportStep::Snapshot => {
            value["type"] = "snapshot".into();
            value["lines"] = json!(state.videos);
            value["half_life_ms"] = state.half_life_ms.map_or(Value::Null, Value::from);
        }
        ExportStep::Delta(RankingDelta { remove, set }) => {
            value["type"] = "delta".into();
            value["remove"] = json!(remove);
            value["set"] = json!(set);
        }
    }
    ExportRecord { key: board.to_owned(), value: value.to_string() }
}
