use liverank_core::windows::{WindowKind, WindowUnit};

use super::*;

const HOUR: Millis = 3_600_000;
/// The beginning of an hour, in milliseconds since 1970.
const START: Millis = 1_700_002_800_000;

fn hours(kept_count: usize) -> BoardWindows {
    BoardWindows { kind: WindowKind::new(WindowUnit::Hour, "UTC").unwrap(), kept_count }
}

fn starts(due: &DueResults) -> Vec<Millis> {
    due.windows.iter().map(|window| window.start).collect()
}

#[test]
fn results_begin_with_the_window_that_runs_and_each_is_due_until_it_is_noted() {
    let (hours, mut note) = (hours(3), ResultsNote::default());
    assert_eq!(note.due_results("a", &hours, START), DueResults::default(), "it has not begun");
    note.note_new_boards(&[("a", &hours)], START + 5);
    assert!(starts(&note.due_results("a", &hours, START + HOUR - 1)).is_empty());
    let due = note.due_results("a", &hours, START + 2 * HOUR);
    assert_eq!((starts(&due), due.is_incomplete), (vec![START, START + HOUR], false), "the oldest first");
    note.note_result("a", &hours, &due.windows[0]);
    // The next exporter reads the note, and begins no board anew.
    let mut read = ResultsNote::parse(Some(&note.to_text()));
    read.note_new_boards(&[("a", &hours)], START + 2 * HOUR);
    assert_eq!(starts(&read.due_results("a", &hours, START + 2 * HOUR)), [START + HOUR]);
    let late = read.due_results("a", &hours, START + 5 * HOUR);
    assert_eq!((starts(&late).len(), late.is_incomplete), (3, true), "one is kept no more");
}

#[test]
fn a_board_that_keeps_no_window_has_no_results() {
    let (hours, mut note) = (hours(0), ResultsNote::default());
    note.note_new_boards(&[("a", &hours)], START);
    assert_eq!(note.due_results("a", &hours, START + 9 * HOUR), DueResults::default());
}

#[test]
fn a_note_forgets_the_oldest_of_boards_that_are_not_declared_and_stays_within_its_bound() {
    let zone = "America/Argentina/ComodRivadavia";
    let windows = BoardWindows { kind: WindowKind::new(WindowUnit::Week, zone).unwrap(), kept_count: 1 };
    let mut note = ResultsNote::default();
    let name = |at: usize| format!("{at:0>32}");
    for at in 0..100 {
        let (own, now) = (name(at), START + at as Millis * 7 * 24 * HOUR);
        note.note_new_boards(&[(&name(0), &windows), (&own, &windows)], now);
    }
    assert!(
        note.to_text().len() <= liverank_adapters::export_topics::MAX_NOTE_BYTES,
        "{}",
        note.to_text().len()
    );
    assert_eq!(note.0.len(), MAX_NOTED_BOARDS);
    assert_eq!(
        starts(&note.due_results(&name(0), &windows, START + 14 * 24 * HOUR)).len(),
        1,
        "it is declared"
    );
}

#[test]
fn a_note_that_cannot_be_read_is_none() {
    for text in [None, Some(""), Some("[]"), Some("{\"a\":\"b\"}")] {
        assert_eq!(ResultsNote::parse(text), ResultsNote::default());
    }
}
