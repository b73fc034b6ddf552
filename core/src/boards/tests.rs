use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::counting::{CountingRules, VideoState};
use crate::decays::{DecayedScore, DecayedScores};
use crate::moderation::ActorRole;
use crate::score::{Counters, Weights};
use crate::windows::{WindowKind, WindowUnit};
use crate::{Metadata, UserId, VideoId};

fn one(value: &Value) -> DeclaredBoard {
    DeclaredBoards::from_json(&json!([value])).unwrap().0[0].clone()
}

fn video(counters: Counters, trending_log2: f64, category: Option<&str>) -> VideoState {
    VideoState {
        video_id: VideoId::parse("v").unwrap(),
        owner: UserId::parse("o").unwrap(),
        is_owner_given: false,
        counters,
        last_seq: 0,
        trending_log2,
        revision_corrections: 0,
        decayed_scores: DecayedScores::default(),
        metadata: category.map(|it| Metadata::from_value(&json!({"category": it, "title": "t"})).unwrap()),
        removed_by: None,
    }
}

fn is_on(board: &DeclaredBoard, video: &VideoState) -> bool {
    !board.state_on_board(video.clone(), &CountingRules::default()).is_off_boards()
}

#[test]
fn a_board_with_weights_keeps_its_key_when_there_are_more_weights() {
    let board = one(&json!({"name": "a", "weights": {"like": 1}}));
    assert_eq!(
        board.store_key(),
        "a:98c4c4a1bdad581c",
        "the text of BoardWeights is a part of stored names: write a new weight last and only where it is not 0, or all boards with weights are filled anew"
    );
    // A release before the newest weight stored its decays so.
    let stored = "60 0 1000 0 0 0 0";
    assert_eq!(
        Decay::parse(stored).map(|decay| decay.to_string()),
        Ok(stored.to_owned()),
        "BoardWeights::from_str reads texts without a new weight as 0"
    );
}

#[test]
fn every_weight_of_all_boards_is_one_that_a_board_can_declare() {
    let all = serde_json::to_value(Weights::default()).unwrap();
    let documented =
        include_str!("../../../docs/rankings.md").lines().find(|line| line.starts_with("| `weights` |"));
    for name in all.as_object().unwrap().keys().filter(|name| *name != "watch_threshold_ms") {
        let declared = DeclaredBoards::from_json(&json!([{"name": "a", "weights": {name.as_str(): 1}}]));
        let declared =
            declared.unwrap_or_else(|error| panic!("BoardWeights::read has to read {name}: {error}"));
        let weights = declared.0[0].rules_of_board(&CountingRules::default()).weights;
        let weights = serde_json::to_value(weights).unwrap();
        assert_eq!(weights[name], json!(1000), "BoardWeights::read leaves out {name}");
        let is_documented = documented.is_some_and(|line| line.contains(&format!("`{name}`")));
        assert!(is_documented, "docs/rankings.md has no {name} among the weights of a board");
    }
}

#[test]
fn every_wrong_member_is_named_with_its_board() {
    for (board, word) in [
        (json!("cats"), "board 1 must be an object"),
        (json!({}), "name of board 1 is required"),
        (json!({"name": "Cats"}), "name of board 1"),
        (json!({"name": "2cats"}), "name of board 1"),
        (json!({"name": "c".repeat(33)}), "name of board 1"),
        (json!({"name": "a:b"}), "name of board 1"),
        (json!({"name": "global"}), "name of board 1"),
        (json!({"name": "a", "order": "best"}), "order of board 1"),
        (json!({"name": "a", "half_life": 3}), "board 1 has the member \"half_life\""),
        (json!({"name": "a", "halfLifeMinutes": 60}), "halfLifeMinutes of board 1 goes together"),
        (
            json!({"name": "a", "order": "trending", "halfLifeMinutes": 0}),
            "halfLifeMinutes of board 1 must be",
        ),
        (
            json!({"name": "a", "order": "trending", "halfLifeMinutes": 525_601}),
            "halfLifeMinutes of board 1 must be",
        ),
        (
            json!({"name": "a", "order": "trending", "halfLifeMinutes": 1.5}),
            "halfLifeMinutes of board 1 must be",
        ),
        (
            json!({"name": "a", "order": "trending", "halfLifeMinutes": "2h"}),
            "halfLifeMinutes of board 1 must be",
        ),
        (
            json!({"name": "a", "window": "day", "halfLifeMinutes": 60}),
            "halfLifeMinutes of board 1 cannot go together with window",
        ),
        (json!({"name": "a", "weights": 3}), "weights of board 1"),
        (json!({"name": "a", "weights": {}}), "weights of board 1"),
        (json!({"name": "a", "weights": {"like": 0}}), "weights of board 1"),
        (json!({"name": "a", "weights": {"likes": 1}}), "\"likes\""),
        (json!({"name": "a", "weights": {"like": 1001}}), "weights.like of board 1"),
        (json!({"name": "a", "weights": {"like": 0.0001}}), "weights.like of board 1"),
        (json!({"name": "a", "weights": {"like": "1"}}), "weights.like of board 1"),
        (json!({"name": "a", "order": "trending", "weights": {"like": 1}}), "weights of board 1"),
        (json!({"name": "a", "category": " "}), "category of board 1"),
        (json!({"name": "a", "category": "c".repeat(65)}), "category of board 1"),
        (json!({"name": "a", "minimum": -1}), "minimum of board 1"),
        (json!({"name": "a", "minimum": 2e9}), "minimum of board 1"),
        (json!({"name": "a", "window": "month"}), "window of board 1"),
        (json!({"name": "a", "window": 24}), "window of board 1"),
        (json!({"name": "a", "window": "day", "order": "trending"}), "window of board 1 cannot go together"),
        (json!({"name": "a", "window": "day", "timeZone": "Europe/Bonn"}), "timeZone of board 1"),
        (json!({"name": "a", "timeZone": "UTC"}), "timeZone of board 1"),
        (json!({"name": "a", "keep": 3}), "keep of board 1"),
        (json!({"name": "a", "window": "day", "keep": 1.5}), "keep of board 1"),
        (json!({"name": "a", "window": "day", "keep": 32}), "keep of board 1"),
    ] {
        let error = DeclaredBoards::from_json(&json!([board.clone()])).unwrap_err();
        assert_eq!(error.field, "boards");
        assert!(error.reason.contains(word), "{board}: {}", error.reason);
    }
    let twice = DeclaredBoards::from_json(&json!([{"name": "a"}, {"name": "a", "minimum": 1}])).unwrap_err();
    assert!(twice.reason.contains("name of board 2"), "{}", twice.reason);
    let many: Vec<Value> = (0..=MAX_BOARDS).map(|at| json!({"name": format!("b{at}")})).collect();
    assert!(DeclaredBoards::from_json(&Value::Array(many)).is_err());
    assert!(DeclaredBoards::from_json(&json!({"name": "a"})).is_err());
}

#[test]
fn windows_of_all_boards_are_bounded_together() {
    let declared = |boards: Vec<Value>| DeclaredBoards::from_json(&Value::Array(boards));
    let board = |at: usize, zone: &str, keep: usize| json!({"name": format!("b{at}"), "window": "day", "timeZone": zone, "keep": keep});
    let zones = ["UTC", "Europe/Berlin", "Asia/Tokyo", "America/Lima", "Asia/Kolkata"];
    let of = |zones: &[&str]| zones.iter().enumerate().map(|(at, zone)| board(at, zone, 1)).collect();
    assert!(declared(of(&zones[..4])).is_ok());
    let error = declared(of(&zones)).unwrap_err();
    assert!(error.reason.contains("timeZone of all boards"), "{}", error.reason);
    let kept = |last| declared(vec![board(0, "UTC", 31), board(1, "UTC", 31), board(2, "UTC", last)]);
    assert_eq!(kept(2).unwrap().window_kinds(), [BoardWindows { kind: utc_days(), kept_count: 31 }]);
    assert!(kept(3).unwrap_err().reason.contains("keep of all boards"));
}

#[test]
fn half_lives_of_all_boards_are_bounded_together_and_shared() {
    let board = |at: u64, minutes: u64, weights: Value| json!({"name": format!("b{at}"), "order": "trending", "halfLifeMinutes": minutes, "weights": weights});
    let declared = |boards: Vec<Value>| DeclaredBoards::from_json(&Value::Array(boards));
    let likes = json!({"like": 1});
    let shared = vec![
        board(0, 60, Value::Null),
        board(1, 60, Value::Null),
        board(2, 60, likes.clone()),
        board(3, 90, likes.clone()),
        board(4, 30, likes.clone()),
    ];
    let decays = declared(shared.clone()).unwrap().decays();
    let names: Vec<String> = decays.iter().map(Decay::to_string).collect();
    assert_eq!(names, ["60", "60 0 1000 0 0 0 0", "90 0 1000 0 0 0 0", "30 0 1000 0 0 0 0"]);
    let fifth = declared(shared.into_iter().chain([board(5, 31, likes)]).collect()).unwrap_err();
    assert!(fifth.reason.contains("halfLifeMinutes of all boards"), "{}", fifth.reason);
}

#[test]
fn a_board_with_a_half_life_shows_its_own_decayed_score() {
    let board =
        one(&json!({"name": "a", "order": "trending", "halfLifeMinutes": 90, "weights": {"like": 2}}));
    let decay = board.decay().unwrap();
    let (likes, mut state) =
        (Counters { likes: 3, views: 9, ..Counters::default() }, video(Counters::default(), 7.0, None));
    state.counters = likes;
    assert!(
        board.state_on_board(state.clone(), &CountingRules::default()).is_off_boards(),
        "nothing of it has decayed yet"
    );
    state.decayed_scores = [DecayedScore { decay, log2: 5.5, event_count: 3 }].into_iter().collect();
    let shown = board.state_on_board(state, &CountingRules::default());
    assert_eq!((shown.trending_log2.to_bits(), shown.is_off_boards()), (5.5_f64.to_bits(), false));
    let rules = board.rules_of_board(&CountingRules::default());
    assert_eq!((rules.half_life_ms, likes.score(&rules.weights)), (90 * 60_000, 6000));
}

fn utc_days() -> WindowKind {
    WindowKind::new(WindowUnit::Day, "UTC").unwrap()
}

#[test]
fn each_window_of_a_board_has_a_key_of_its_own() {
    let board = one(&json!({"name": "a", "window": "day", "keep": 2}));
    assert_eq!(board.windows(), Some(&BoardWindows { kind: utc_days(), kept_count: 2 }));
    let (now, day) = (1_700_000_000_000, 86_400_000);
    let keys = DeclaredBoards(vec![board.clone(), one(&json!({"name": "b"}))].into()).store_keys(now);
    let window = |at| board.store_key_of_window(&utc_days().window_of(at));
    let plain = one(&json!({"name": "b"})).store_key();
    assert_eq!(keys, [window(now), window(now - day), window(now - 2 * day), plain]);
    let others = [
        json!({"name": "a"}),
        json!({"name": "a", "window": "week"}),
        json!({"name": "a", "window": "day", "timeZone": "Europe/Berlin"}),
        json!({"name": "a", "window": "day", "category": "x"}),
    ];
    for other in others {
        let other = one(&other);
        let window = other.windows().map(|windows| windows.kind.window_of(now));
        let key = window.map_or_else(|| other.store_key(), |window| other.store_key_of_window(&window));
        assert!(!keys.contains(&key), "{other:?}");
    }
    // The number of kept windows does not make another board.
    let kept = one(&json!({"name": "a", "window": "day", "timeZone": "utc", "keep": 0}));
    assert_eq!(kept.store_key_of_window(&utc_days().window_of(now)), window(now));
}

#[test]
fn who_asks_for_a_board_that_is_not_there_is_told_which_are() {
    let names = |value: Value| DeclaredBoards::from_json(&value).unwrap().unknown_board_error().reason;
    assert_eq!(names(json!([])), "must be global or trending");
    assert_eq!(names(json!([{"name": "cats"}])), "must be global, trending or cats");
}

#[test]
fn another_board_of_the_same_name_has_another_key() {
    let key = |value: Value| one(&value).store_key();
    let keys = [
        key(json!({"name": "a"})),
        key(json!({"name": "a", "minimum": 1})),
        key(json!({"name": "a", "order": "trending"})),
        key(json!({"name": "a", "order": "trending", "halfLifeMinutes": 60})),
        key(json!({"name": "a", "order": "trending", "halfLifeMinutes": 61})),
        key(json!({"name": "a", "order": "trending", "halfLifeMinutes": 60, "weights": {"like": 1}})),
        key(json!({"name": "a", "weights": {"like": 1}})),
        key(json!({"name": "a", "weights": {"view": 1}})),
        key(json!({"name": "a", "category": "x"})),
        key(json!({"name": "b"})),
    ];
    for (at, key) in keys.iter().enumerate() {
        assert!(!keys[..at].contains(key), "{keys:?}");
    }
    assert_eq!(key(json!({"name": "a"})), key(json!({"name": "a", "order": "points", "minimum": 0})));
    // This key is in every Redis that has such a board: another key would be another board, which is filled anew.
    assert_eq!(key(json!({"name": "a"})), KEY_OF_A);
}

const KEY_OF_A: &str = "a:d04adb064166f334";

#[test]
fn a_video_is_on_the_board_of_its_category_from_the_minimum_on() {
    let board = one(&json!({"name": "a", "category": "cats", "minimum": 2.5, "weights": {"like": 0.5}}));
    let likes = |likes, category| video(Counters { likes, ..Counters::default() }, 1.0, category);
    assert!(is_on(&board, &likes(5, Some("cats"))));
    assert!(!is_on(&board, &likes(4, Some("cats"))));
    assert!(!is_on(&board, &likes(5, Some("Cats"))) && !is_on(&board, &likes(5, None)));
    let removed = VideoState { removed_by: Some(ActorRole::Owner), ..likes(5, Some("cats")) };
    assert!(!is_on(&board, &removed));
    let trending = one(&json!({"name": "t", "order": "trending"}));
    assert!(is_on(&trending, &likes(0, None)));
    assert!(!is_on(&trending, &video(Counters::default(), f64::NEG_INFINITY, None)));
}

proptest! {
    /// A video's line follows from its state, and a board without a condition has every video, with the board's
    /// own points.
    #[test]
    fn points_are_the_sum_of_counts_by_the_board_s_weights(
        counts in proptest::array::uniform6(0..1_000_000_i64), weights in proptest::array::uniform6(0..=1_000_000_i64), minimum in 0..1_000_000_i64,
    ) {
        prop_assume!(weights.iter().any(|weight| *weight > 0));
        let [views, likes, comments, shares, watch_short, watch_long] = counts;
        let counters = Counters { views, likes, comments, shares, watch_short, watch_long, watch_ms: 7 };
        let points = weights.map(|weight| weight as f64 / 1000.0);
        let board = one(&json!({"name": "a", "minimum": minimum, "weights": {
            "view": points[0], "like": points[1], "comment": points[2], "share": points[3], "watch_short": points[4], "watch_long": points[5],
        }}));
        let expected: i64 = counts.iter().zip(weights).map(|(count, weight)| count * weight).sum();
        let state = video(counters, 0.0, None);
        prop_assert_eq!(state.counters.score(&board.rules_of_board(&CountingRules::default()).weights), expected);
        let shown = board.state_on_board(state.clone(), &CountingRules::default());
        prop_assert_eq!(shown.is_off_boards(), expected < minimum * 1000);
        prop_assert_eq!(shown.revision(), state.revision());
    }

    #[test]
    fn nothing_that_is_declared_makes_it_panic(text in "\\PC{0,20}", number in any::<f64>()) {
        let _ = DeclaredBoards::from_json(&json!([{"name": text, "category": text, "minimum": number}]));
        let _ = DeclaredBoards::from_json(&json!([{"name": "a", "weights": {"like": number}}]));
    }
}
