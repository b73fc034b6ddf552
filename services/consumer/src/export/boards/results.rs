//! The results of windows that ended: which of them are to be exported, and the record of each. No I/O.
//!
//! A result is written in one transaction with a note that says so. An exporter that begins finds the note, so each
//! result is exported once. A board without a note was never exported: its results begin with the window that runs at
//! that time.

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

/// Maximum number of boards in a note: the declared ones, and as many that another consumer may know while the
/// declaration changes. With the longest names the note has 3,200 bytes of the 4,096 that Kafka's offset metadata may
/// have.
const MAX_NOTED_BOARDS: usize = 32;

/// For each board, the time up to which the results of its windows are exported: the end of the last exported window.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResultsNote(BTreeMap<String, Millis>);

/// The windows of one board whose results are to be exported.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DueResults {
    /// The windows that ended and are still kept, oldest first.
    pub windows: Vec<Window>,
    /// Whether further windows ended whose results were never exported and that are not kept any more.
    pub is_incomplete: bool,
}

impl ResultsNote {
    /// Parses a committed note; returns an empty note if there is none or if it cannot be read.
    pub fn parse(note: Option<&str>) -> Self {
        let read = |text: &str| -> Option<BTreeMap<String, Millis>> {
            let Ok(Value::Object(boards)) = serde_json::from_str(text) else { return None };
            boards.into_iter().map(|(name, until)| Some((name, until.as_i64()?))).collect()
        };
        Self(note.and_then(read).unwrap_or_default())
    }

    /// Returns the text of the note, as it is committed.
    pub fn to_text(&self) -> String {
        json!(self.0).to_string()
    }

    /// Returns the key of a board in the note of what was exported. The key contains the kind of windows, because windows of another unit
    /// or time zone are different windows.
    fn board_key(board: &str, windows: &BoardWindows) -> String {
        format!("{board} {}", windows.kind)
    }

    /// Notes for each of these boards that is new the time from which its results are exported. Of all other boards the
    /// oldest are removed until the note is small enough.
    pub fn note_new_boards(&mut self, boards: &[(&str, &BoardWindows)], now: Millis) {
        let names: Vec<String> =
            boards.iter().map(|(board, windows)| Self::board_key(board, windows)).collect();
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

    /// Returns the windows of a board that have ended and whose results are to be exported once they are final.
    pub fn due_results(&self, board: &str, windows: &BoardWindows, now: Millis) -> DueResults {
        let Some(from) = self.0.get(&Self::board_key(board, windows)).copied() else {
            return DueResults::default();
        };
        let mut kept = windows.kind.running_and_kept_windows(now, windows.kept_count);
        kept.remove(0);
        kept.reverse();
        let is_incomplete = kept.first().is_some_and(|oldest| from < oldest.start);
        kept.retain(|window| window.start >= from);
        DueResults { windows: kept, is_incomplete }
    }

    /// Notes that the results of the board are exported up to and including this window.
    pub fn note_result(&mut self, board: &str, windows: &BoardWindows, window: &Window) {
        self.0.insert(Self::board_key(board, windows), window.end);
    }
}

/// The result of a window that has ended.
pub struct WindowResult<'a> {
    /// The name of the board.
    pub board: &'a str,
    /// The window that has ended.
    pub window: NamedWindow,
    /// Whether the window's list covers everything that happened in the window; `None` if the archive does not count
    /// windows of this kind.
    pub is_whole: Option<bool>,
    /// The best videos of the window.
    pub videos: Vec<RankedVideo>,
    /// Number of videos on the board in this window.
    pub total: u64,
}

/// Returns the exported record of a result.
pub fn record_of_result(result: &WindowResult<'_>, now: Millis) -> ExportRecord {
    let WindowResult { board, window, is_whole, videos, total } = result;
    let value = json!({
        "version": VERSION, "type": "result", "board": board, "window": window.to_json(), "whole": is_whole,
        "timestamp": format_time(now), "total": total, "lines": videos,
    });
    ExportRecord { key: (*board).to_owned(), value: value.to_string() }
}

#[cfg(test)]
mod tests;
