//! What is exported of a board that became another one: pure.

use std::time::Duration;

use liverank_adapters::export_topics::ExportRecord;
use liverank_core::Millis;
use liverank_core::ranking::{RankedVideo, RankingDelta};
use liverank_core::windows::{Window, WindowKind};
use liverank_runtime::comment_json::format_time;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::export::records::VERSION;

/// How often a snapshot is written at the least: a reader that begins anywhere waits no longer for one.
pub const SNAPSHOT_EVERY: Duration = Duration::from_mins(10);

/// A window of a board, as lists of the API name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedWindow {
    name: String,
    start: Millis,
    end: Millis,
}

impl NamedWindow {
    /// This one.
    pub fn of(kind: &WindowKind, window: &Window) -> Self {
        Self { name: kind.name_of(window), start: window.start, end: window.end }
    }

    /// As a record has it.
    pub fn to_json(&self) -> Value {
        let Self { name, start, end } = self;
        json!({ "name": name, "start": start, "end": end })
    }
}

/// What a board is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BoardState {
    /// Its best videos.
    pub lines: Vec<RankedVideo>,
    /// How many it has.
    pub total: u64,
    /// By what its scores decay, where they do.
    pub half_life_ms: Option<u64>,
    /// The window that runs, where it has windows.
    pub window: Option<NamedWindow>,
}

/// What was exported of a board last.
#[derive(Debug, Clone)]
pub struct ExportedState {
    /// The board as it was then.
    pub state: BoardState,
    /// How many deltas followed the snapshot.
    pub deltas: u64,
    snapshot_at: Instant,
}

/// What is to be exported.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// The list as it is.
    Snapshot,
    /// What changed of it.
    Delta(RankingDelta),
}

/// What is to be exported where `state` follows on what was exported; nothing where nothing changed.
pub fn next_step(
    exported: Option<&ExportedState>,
    state: BoardState,
    now: Instant,
) -> Option<(ExportedState, Step)> {
    let snapshot = |state| Some((ExportedState { state, deltas: 0, snapshot_at: now }, Step::Snapshot));
    let Some(exported) = exported else { return snapshot(state) };
    let is_due = now.saturating_duration_since(exported.snapshot_at) >= SNAPSHOT_EVERY;
    let before = &exported.state;
    if is_due || before.half_life_ms != state.half_life_ms || before.window != state.window {
        return snapshot(state);
    }
    if *before == state {
        return None;
    }
    let delta = RankingDelta::delta_between(&before.lines, &state.lines);
    let (deltas, snapshot_at) = (exported.deltas + 1, exported.snapshot_at);
    Some((ExportedState { state, deltas, snapshot_at }, Step::Delta(delta)))
}

/// The record of a step. A score that decays is the logarithm by which the board is ordered (`docs/export.md`).
pub fn record_of_step(
    board: &str,
    run: &str,
    now: Millis,
    exported: &ExportedState,
    step: &Step,
) -> ExportRecord {
    let ExportedState { state, deltas, .. } = exported;
    let mut value = json!({
        "version": VERSION, "board": board, "run": run, "n": deltas, "timestamp": format_time(now), "total": state.total,
    });
    if let Some(window) = &state.window {
        value["window"] = window.to_json();
    }
    match step {
        Step::Snapshot => {
            value["type"] = "snapshot".into();
            value["lines"] = json!(state.lines);
            value["half_life_ms"] = state.half_life_ms.map_or(Value::Null, Value::from);
        }
        Step::Delta(RankingDelta { remove, set }) => {
            value["type"] = "delta".into();
            value["remove"] = json!(remove);
            value["set"] = json!(set);
        }
    }
    ExportRecord { key: board.to_owned(), value: value.to_string() }
}
