//! The declared boards that are in the store and that a comparison was not told of.
//!
//! The store has of each board its name and a digest of its declaration ([`DeclaredBoard::store_key`]), and not the
//! declaration itself. So a board that is not declared to the comparison cannot be compared, and is named instead.

use std::collections::BTreeMap;
use std::time::Duration;

use liverank_core::Millis;
use liverank_core::boards::{DeclaredBoard, DeclaredBoards};

/// The time within which every consumer marks in the store the boards that are wanted: consumers do so every minute.
pub const BOARDS_MARKED_WITHIN: Duration = Duration::from_mins(3);
/// The number of windows before and after the current ones that are accepted as windows of a board: a consumer whose
/// clock is wrong by up to 25 hours may have begun them.
const CLOCK_ERROR_WINDOWS: usize = 32;

/// Returns the boards in the store that are not among `declared`, by name, each with the reason why it is not compared.
/// `stored` are the keys in the store, and `now` is the time by which windows run.
pub fn undeclared_boards(
    stored: &[String],
    declared: &DeclaredBoards,
    now: Millis,
) -> BTreeMap<String, &'static str> {
    let known: Vec<String> = declared.iter().flat_map(|board| possible_board_keys(board, now)).collect();
    let mut untold = BTreeMap::new();
    for key in stored.iter().filter(|key| !known.contains(key)) {
        let name = key.rsplit_once(':').map_or(key.as_str(), |(name, _)| name);
        let why = if declared.position(name).is_some() {
            "not compared: the consumers have another declaration of it than --boards or --boards-file"
        } else {
            "not compared: a board of this name is declared to the consumers, and not here. Give their --boards or \
             --boards-file"
        };
        untold.insert(name.to_owned(), why);
    }
    untold
}

/// Returns the keys that a board may have in the store: one key, or for a board with windows one key for each window
/// around `now`.
fn possible_board_keys(board: &DeclaredBoard, now: Millis) -> Vec<String> {
    let Some(windows) = board.windows() else { return vec![board.store_key()] };
    let running = windows.kind.window_of(now);
    let later = std::iter::successors(Some(running), |window| Some(windows.kind.window_of(window.end)));
    let earlier = std::iter::successors(Some(running), |window| Some(windows.kind.previous(window)));
    let later = later.skip(1).take(CLOCK_ERROR_WINDOWS);
    let earlier = earlier.take(windows.kept_count + 1 + CLOCK_ERROR_WINDOWS);
    later.chain(earlier).map(|window| board.store_key_of_window(&window)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: Millis = 1_790_000_000_000;
    const HOUR: Millis = 3_600_000;

    fn boards(value: &Value) -> DeclaredBoards {
        DeclaredBoards::from_json(value).unwrap()
    }

    fn untold(stored: &DeclaredBoards, at: Millis, declared: &DeclaredBoards) -> Vec<(String, bool)> {
        let found = undeclared_boards(&stored.store_keys(at), declared, NOW);
        found.into_iter().map(|(name, why)| (name, why.contains("another declaration"))).collect()
    }

    #[test]
    fn a_board_that_nobody_declared_here_is_named_and_so_is_one_of_another_declaration() {
        let all =
            boards(&json!([{"name": "liked", "weights": {"like": 1}}, {"name": "hourly", "window": "hour"}]));
        let none = DeclaredBoards::default();
        assert_eq!(untold(&all, NOW, &all), []);
        assert_eq!(untold(&none, NOW, &all), []);
        assert_eq!(untold(&all, NOW, &none), [("hourly".to_owned(), false), ("liked".to_owned(), false)]);
        let other =
            boards(&json!([{"name": "liked", "weights": {"like": 2}}, {"name": "hourly", "window": "hour"}]));
        assert_eq!(untold(&all, NOW, &other), [("liked".to_owned(), true)]);
    }

    #[test]
    fn windows_that_another_clock_began_are_no_other_board() {
        let hourly = boards(&json!([{"name": "hourly", "window": "hour", "keep": 3}]));
        for hours in [-28, -25, -1, 1, 25] {
            assert_eq!(untold(&hourly, NOW + hours * HOUR, &hourly), [], "{hours}");
        }
        let minimum = boards(&json!([{"name": "hourly", "window": "hour", "keep": 3, "minimum": 1}]));
        assert_eq!(untold(&minimum, NOW, &hourly), [("hourly".to_owned(), true)]);
    }
}
