//! The results of windows that ended: which of them are exported, and what is said of one. Pure.
//!
//! A result is written in one transaction with a note that says so. Who begins finds the note, so that each is there once. Without
//! a note of a board nobody has exported it: its results begin with the window that runs then.

use std::collections::BTreeMap;

use liverank_adapters::export_topics::ExportRecord;
use liverank_core::Millis;
use liverank_core::boards::BoardWindows;
use liverank_core::ranking::RankedVideo;
use liverank_core::windows::Window;
use liverank_runtime::comment_json::format_time;
use serde_json::{Value, json};

use super::steps::NamedWindow;
use crate::export::records::VERSION;

/// Boards that a note names at most: those that are declared, and as many that another consumer may know while the declaration
/// changes. With the longest names it has 3,200 bytes of the 4,096 that there may be.
const MAX_NOTED_BOARDS: usize = 32;

/// Up to which window the results of each board are exported.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResultsNote(BTreeMap<String, Millis>);

/// Windows of a board whose results are to be exported.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DueResults {
    /// Those that ended and are kept, the oldest first.
    pub windows: Vec<Window>,
    /// Whether there were others that are not kept any more.
    pub is_incomplete: bool,
}

impl ResultsNote {
    /// What was noted; nothing where that cannot be read.
    pub fn read(note: Option<&str>) -> Self {
        let read = |text: &str| -> Option<BTreeMap<String, Millis>> {
            let Ok(Value::Object(boards)) = serde_json::from_str(text) else { return None };
            boards.into_iter().map(|(name, until)| Some((name, until.as_i64()?))).collect()
        };
        Self(note.and_then(read).unwrap_or_default())
    }

    /// As it is noted.
    pub fn text(&self) -> String {
        json!(self.0).to_string()
    }

    /// Windows of another unit or time zone are other ones.
    fn name_of(board: &str, windows: &BoardWindows) -> String {
        format!("{board} {}", windows.kind)
    }

    /// Notes where the results of each of these boards begin, if that is not noted. Of other boards the oldest are forgotten.
    pub fn begin_boards(&mut self, boards: &[(&str, &BoardWindows)], now: Millis) {
        let names: Vec<String> =
            boards.iter().map(|(board, windows)| Self::name_of(board, windows)).collect();
        for (name, (_, windows)) in names.iter().zip(boards) {
            self.0.entry(name.clone()).or_insert_with(|| windows.kind.window_of(now).start);
        }
        while self.0.len() > MAX_NOTED_BOARDS {
            let others = self.0.iter().filter(|(name, _)| !names.contains(name));
            let Some(oldest) = others.min_by_key(|(_, until)| **until).map(|(name, _)| name.clone()) else {
                return;
            };
            self.0.remove(&oldest);
        }
    }

    /// Which results of a board are to be exported, as far as they are final.
    pub fn due_results(&self, board: &str, windows: &BoardWindows, now: Millis) -> DueResults {
        let Some(from) = self.0.get(&Self::name_of(board, windows)).copied() else {
            return DueResults::default();
        };
        let mut kept = windows.kind.running_and_kept(now, windows.keep);
        kept.remove(0);
        kept.reverse();
        let is_incomplete = kept.first().is_some_and(|oldest| from < oldest.start);
        kept.retain(|window| window.start >= from);
        DueResults { windows: kept, is_incomplete }
    }

    /// Notes that the result of a window is exported, and of those before it.
    pub fn note_result(&mut self, board: &str, windows: &BoardWindows, window: &Window) {
        self.0.insert(Self::name_of(board, windows), window.end);
    }
}

/// What a window came to.
pub struct WindowResult<'a> {
    /// The name of its board.
    pub board: &'a str,
    /// Which window.
    pub window: NamedWindow,
    /// Whether all that happened in it is counted in it; unknown where the archive does not count such windows.
    pub is_whole: Option<bool>,
    /// Its best videos.
    pub lines: Vec<RankedVideo>,
    /// How many it has.
    pub total: u64,
}

/// The record of a result.
pub fn record_of_result(result: &WindowResult<'_>, now: Millis) -> ExportRecord {
    let WindowResult { board, window, is_whole, lines, total } = result;
    let value = json!({
        "version": VERSION, "type": "result", "board": board, "window": window.to_json(), "whole": is_whole,
        "timestamp": format_time(now), "total": total, "lines": lines,
    });
    ExportRecord { key: (*board).to_owned(), value: value.to_string() }
}

#[cfg(test)]
mod tests;
