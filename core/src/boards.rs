//! Declared boards: which videos are on such a board, and by what they are ordered.
//!
//! A declared board depends on what the archive stores of a video and on nothing else: its counters, its decayed
//! score, its metadata. So a declared board can be filled from the archive at any time, and a video's line on it
//! follows from the state of that video alone. [`DeclaredBoard::state_on_board`] and [`DeclaredBoard::rules_of_board`]
//! say what a video looks like on the board; from then on the video is handled as on any other board. A board with
//! windows is one board per window, made of the counters of that window.

use std::sync::Arc;

use serde_json::Value;

use crate::decays::{Decay, MAX_DECAYS};
use crate::windows::MAX_WINDOW_KINDS;
use crate::{Invalid, Millis};

mod board;
mod members;
mod order;
pub(crate) mod weights;
mod windows;

pub use board::{BUILT_IN_BOARDS, DeclaredBoard, MAX_MINIMUM_POINTS, MAX_NAME_CHARS};
pub use order::BoardOrder;
pub use weights::BoardWeights;
pub use windows::{BoardWindows, DEFAULT_KEPT_WINDOWS, MAX_KEPT_WINDOWS};

/// The most boards that may be declared: each is one more write to the store of boards with every batch, and one more
/// list of all its videos in the memory of each WebSocket service.
pub const MAX_BOARDS: usize = 16;
/// The most ended windows that all boards together keep: each consumer reads each of them every few seconds.
pub const MAX_KEPT_WINDOWS_OF_ALL_BOARDS: usize = 64;

/// The declared boards, in the order of their declaration. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeclaredBoards(Arc<[DeclaredBoard]>);

impl DeclaredBoards {
    /// Reads a declaration: a list of boards, each with `name` and, if given, `order`, `weights`, `category`,
    /// `minimum`, `halfLifeMinutes`, `window`, `timeZone` and `keep`.
    ///
    /// # Errors
    /// The error's reason names the wrong board and its wrong member. The error's `field` is always `boards`.
    pub fn from_json(value: &Value) -> Result<Self, Invalid> {
        let Value::Array(given) = value else { return Err(Invalid::new("boards", "must be a list")) };
        if given.len() > MAX_BOARDS {
            let wrong = format!("must be at most {MAX_BOARDS}, and are {}", given.len());
            return Err(Invalid::new("boards", wrong));
        }
        let mut boards: Vec<DeclaredBoard> = Vec::with_capacity(given.len());
        for (at, value) in given.iter().enumerate() {
            let wrong = |Invalid { field, reason }| {
                let whole = field == members::WHOLE_BOARD_FIELD;
                let what = if whole { String::new() } else { format!("{field} of ") };
                Invalid::new("boards", format!("{what}board {} {reason}", at + 1))
            };
            let board = DeclaredBoard::from_json(value).map_err(wrong)?;
            if boards.iter().any(|other| other.name() == board.name()) {
                return Err(wrong(Invalid::new("name", "must be one that no other board has")));
            }
            boards.push(board);
        }
        let declared = Self(boards.into());
        declared.check_windows()?;
        declared.check_decays()?;
        Ok(declared)
    }

    fn check_windows(&self) -> Result<(), Invalid> {
        let kinds = self.window_kinds().len();
        if kinds > MAX_WINDOW_KINDS {
            let wrong = format!(
                "window and timeZone of all boards must make at most {MAX_WINDOW_KINDS} pairs, and make {kinds}"
            );
            return Err(Invalid::new("boards", wrong));
        }
        let kept: usize =
            self.iter().filter_map(DeclaredBoard::windows).map(|windows| windows.kept_count).sum();
        if kept > MAX_KEPT_WINDOWS_OF_ALL_BOARDS {
            let wrong = format!(
                "keep of all boards must be at most {MAX_KEPT_WINDOWS_OF_ALL_BOARDS} together, and is {kept}"
            );
            return Err(Invalid::new("boards", wrong));
        }
        Ok(())
    }

    fn check_decays(&self) -> Result<(), Invalid> {
        let decays = self.decays().len();
        if decays > MAX_DECAYS {
            let wrong = format!(
                "halfLifeMinutes of all boards, with the weights beside it, must make at most {MAX_DECAYS} pairs, and make \
                 {decays}"
            );
            return Err(Invalid::new("boards", wrong));
        }
        Ok(())
    }

    /// Returns the decays of boards with a half-life of their own, each once.
    pub fn decays(&self) -> Vec<Decay> {
        let mut decays: Vec<Decay> = Vec::new();
        for decay in self.iter().filter_map(DeclaredBoard::decay) {
            if !decays.contains(&decay) {
                decays.push(decay);
            }
        }
        decays
    }

    /// Returns the kinds of windows that boards have, each once, with the largest `keep` of any board.
    pub fn window_kinds(&self) -> Vec<BoardWindows> {
        let mut kinds: Vec<BoardWindows> = Vec::new();
        for windows in self.iter().filter_map(DeclaredBoard::windows) {
            match kinds.iter_mut().find(|known| known.kind == windows.kind) {
                Some(known) => known.kept_count = known.kept_count.max(windows.kept_count),
                None => kinds.push(windows.clone()),
            }
        }
        kinds
    }

    /// Returns the names under which stores keep the boards at the time `now`: one for each board without windows, and
    /// one for each running or kept window of the others.
    pub fn store_keys(&self, now: Millis) -> Vec<String> {
        let of = |board: &DeclaredBoard| match board.windows() {
            None => vec![board.store_key()],
            Some(BoardWindows { kind, kept_count }) => kind
                .running_and_kept_windows(now, *kept_count)
                .iter()
                .map(|window| board.store_key_of_window(window))
                .collect(),
        };
        self.iter().flat_map(of).collect()
    }

    /// Returns the boards in the order of their declaration.
    pub fn iter(&self) -> std::slice::Iter<'_, DeclaredBoard> {
        self.0.iter()
    }

    /// Whether no board is declared.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the index of the board with this name.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.iter().position(|board| board.name() == name)
    }

    /// Makes the error for a name that no board has: it lists the names that there are.
    pub fn unknown_board_error(&self) -> Invalid {
        let names: Vec<&str> =
            BUILT_IN_BOARDS.into_iter().chain(self.iter().map(DeclaredBoard::name)).collect();
        let (last, others) = names.split_last().expect("two are built in");
        Invalid::new("board", format!("must be {} or {last}", others.join(", ")))
    }
}

impl<'a> IntoIterator for &'a DeclaredBoards {
    type Item = &'a DeclaredBoard;
    type IntoIter = std::slice::Iter<'a, DeclaredBoard>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests;
