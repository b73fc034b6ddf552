use std::time::Duration;

use liverank_adapters::export_topics::ExportRecord;
use liverank_core::ranking::{RankedVideo, RankingDelta};
use liverank_core::windows::{WindowKind, WindowUnit};
use liverank_core::{UserId, VideoId};
use proptest::prelude::*;
use serde_json::Value;
use tokio::time::Instant;

use super::super::fixtures;
use super::results::{WindowResult, record_of_result};
use super::steps::{BoardState, ExportStep, NamedWindow, SNAPSHOT_EVERY, next_step, record_of_step};

fn line(id: u8, score: i8) -> RankedVideo {
    let (video_id, user_id) = (VideoId::parse(&format!("v{id}")), UserId::parse("o"));
    RankedVideo { video_id: video_id.unwrap(), score: f64::from(score) / 3.0, user_id: user_id.unwrap() }
}

/// A reader of the exported topic, as `docs/export.md` describes it: the state that it has of a board.
#[derive(Default)]
struct Reader {
    run: String,
    n: u64,
    lines: Vec<RankedVideo>,
    total: u64,
}

impl Reader {
    fn apply(&mut self, record: &ExportRecord) {
        let value: Value = serde_json::from_str(&record.value).unwrap();
        let (run, n) = (value["run"].as_str().unwrap(), value["n"].as_u64().unwrap());
        if value["type"] == "snapshot" {
            self.lines = serde_json::from_value(value["lines"].clone()).unwrap();
        } else {
            assert_eq!((run, n), (self.run.as_str(), self.n + 1), "a delta follows on what is there");
            let delta: RankingDelta = serde_json::from_value(value.clone()).unwrap();
            self.lines = delta.applied_to(&self.lines);
        }
        run.clone_into(&mut self.run);
        self.n = n;
        self.total = value["total"].as_u64().unwrap();
    }
}

proptest! {
    /// For any sequence of board states, and with another exporter beginning at any time.
    #[test]
    fn a_reader_of_all_records_has_the_board(
        lists in proptest::collection::vec(
            (proptest::collection::btree_map(0..8_u8, -9..9_i8, 0..8), any::<bool>(), 0..400_u64), 1..20,
        ),
    ) {
        let (mut reader, mut exported, mut run, mut now) = (Reader::default(), None, 0, Instant::now());
        for (lines, begins, seconds) in lists {
            if begins {
                (exported, run) = (None, run + 1);
            }
            now += Duration::from_secs(seconds);
            let lines = RankingDelta { remove: Vec::new(), set: lines.into_iter().map(|(id, score)| line(id, score)).collect() };
            let videos = lines.applied_to(&[]);
            let state = BoardState { total: videos.len() as u64 + 5, videos, ..BoardState::default() };
            if let Some((next, step)) = next_step(exported.as_ref(), state.clone(), now) {
                reader.apply(&record_of_step("global", &run.to_string(), 0, &next, &step));
                exported = Some(next);
            }
            prop_assert_eq!((&reader.lines, reader.total), (&state.videos, state.total));
        }
    }
}

fn hour(at: i64) -> NamedWindow {
    let kind = WindowKind::new(WindowUnit::Hour, "UTC").unwrap();
    NamedWindow::of(&kind, &kind.window_of(at))
}

#[test]
fn nothing_is_written_of_a_board_that_stands_still_until_a_snapshot_is_due() {
    let start = Instant::now();
    let state = |score, half_life_ms| BoardState {
        videos: vec![line(1, score)],
        total: 1,
        half_life_ms,
        window: None,
    };
    let (exported, step) = next_step(None, state(1, Some(5)), start).unwrap();
    assert_eq!(step, ExportStep::Snapshot);
    let later = start + SNAPSHOT_EVERY - Duration::from_secs(1);
    assert!(next_step(Some(&exported), state(1, Some(5)), later).is_none());
    let (next, step) = next_step(Some(&exported), state(2, Some(5)), later).unwrap();
    assert!(matches!(step, ExportStep::Delta(_)) && next.deltas_since_snapshot == 1, "{step:?}");
    let (_, step) = next_step(Some(&next), state(2, Some(5)), start + SNAPSHOT_EVERY).unwrap();
    assert_eq!(step, ExportStep::Snapshot, "as often, whatever came between");
    let (_, step) = next_step(Some(&exported), state(1, Some(6)), later).unwrap();
    assert_eq!(step, ExportStep::Snapshot, "scores of another half-life are other scores");
}

#[test]
fn a_window_that_begins_is_written_whole() {
    let (start, at) = (Instant::now(), 1_700_000_000_000);
    let state = |window, score| BoardState {
        videos: vec![line(1, score)],
        total: 1,
        half_life_ms: None,
        window: Some(hour(window)),
    };
    let (first, _) = next_step(None, state(at, 1), start).unwrap();
    let (second, step) = next_step(Some(&first), state(at, 2), start).unwrap();
    assert!(matches!(step, ExportStep::Delta(_)), "{step:?}");
    let (third, step) = next_step(Some(&second), state(at + 3_600_000, 2), start).unwrap();
    assert_eq!(
        (step, third.deltas_since_snapshot),
        (ExportStep::Snapshot, 0),
        "the next one has nothing of the one before"
    );
}

#[test]
fn exported_boards_have_fixtures() {
    let state = |score, window| BoardState {
        videos: vec![line(1, score)],
        total: 9,
        half_life_ms: Some(21_600_000),
        window,
    };
    let (now, at) = (Instant::now(), 1_700_000_000_250);
    let (snapshot, first) = next_step(None, state(3, None), now).unwrap();
    let (delta, second) = next_step(Some(&snapshot), state(6, None), now).unwrap();
    let (window, third) = next_step(None, state(3, Some(hour(at))), now).unwrap();
    let result = WindowResult {
        board: "trending",
        window: hour(at),
        is_whole: Some(true),
        videos: vec![line(1, 3)],
        total: 9,
    };
    for (name, record) in [
        ("export-board-snapshot", record_of_step("trending", "9f3c", at, &snapshot, &first)),
        ("export-board-delta", record_of_step("trending", "9f3c", at, &delta, &second)),
        ("export-board-window", record_of_step("trending", "9f3c", at, &window, &third)),
        ("export-board-result", record_of_result(&result, at)),
    ] {
        let written: Value = serde_json::from_str(&record.value).unwrap();
        let read = |value: &Value| -> Result<_, String> {
            let member = |name: &str| value.get(name).cloned().ok_or_else(|| format!("no {name}"));
            Ok((
                member("type")?,
                member("board")?,
                member("version")?,
                member("timestamp")?,
                member("total")?,
            ))
        };
        let today = read(&written).unwrap();
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
        let write = |_: &_| written.clone();
        fixtures::check(&fixtures::Format { directory, name, write, read }, &today);
    }
}
