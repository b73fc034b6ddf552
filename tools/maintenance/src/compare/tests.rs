use std::collections::HashSet;

use liverank_core::decays::{CountedDecay, Decay, DecayedScore, DecayedScores};
use liverank_core::moderation::ActorRole;
use proptest::prelude::*;

use super::*;

fn state(video: &str, counters: Counters) -> VideoState {
    VideoState {
        video_id: VideoId::parse(video).unwrap(),
        owner: UserId::parse("owner").unwrap(),
        is_owner_given: false,
        last_seq: counters.comments as u64,
        trending_log2: (1.0 + counters.score(&CountingRules::default().weights) as f64).log2(),
        decayed_scores: [score(3)].into_iter().collect(),
        revision_corrections: 0,
        metadata: None,
        removed_by: None,
        counters,
    }
}

fn score(event_count: u64) -> DecayedScore {
    DecayedScore { decay: decay(), log2: 12.5, event_count }
}

fn decay() -> Decay {
    Decay::new(60, None).unwrap()
}

fn follows(includes_trending: bool) -> ComparableScores {
    let counted = CountedDecay { decay: decay(), run: 1, complete_after: None };
    ComparableScores { includes_trending, decays: [counted].into_iter().collect() }
}

fn kept(state: &VideoState) -> ArchivedVideo {
    let weights = CountingRules::default().weights;
    ArchivedVideo {
        score: points_of_thousandths(state.counters.score(&weights)),
        comment_count: state.last_seq,
        highest_seq: state.last_seq,
        state: state.clone(),
    }
}

fn told(state: &VideoState) -> VideoByLog {
    VideoByLog {
        counted_state: state.clone(),
        other_owners: HashSet::new(),
        is_ambiguous: false,
        has_ambiguous_times: false,
    }
}

fn board(state: &VideoState) -> BoardEntry {
    BoardEntry {
        video_id: state.video_id.clone(),
        owner: state.owner.clone(),
        score: points_of_thousandths(state.counters.score(&CountingRules::default().weights)),
        trending: state.trending_log2.is_finite().then_some(state.trending_log2),
        revision: state.revision(),
        removed: false,
    }
}

fn differing_fields(differences: &[StoreDifference]) -> Vec<&'static str> {
    differences.iter().map(|difference| difference.field).collect()
}

fn any_counters() -> impl Strategy<Value = Counters> {
    proptest::collection::vec(0..1000i64, 7).prop_map(|n| Counters {
        views: n[0],
        likes: n[1],
        comments: n[2],
        shares: n[3],
        watch_ms: n[4],
        watch_short: n[5],
        watch_long: n[6],
    })
}

/// Makes one value of an archived video wrong.
type SpoilVideo = fn(&mut ArchivedVideo);

/// Each value that may be wrong in the archive, with the name of the field that must be reported.
const SPOILED_FIELDS: [(&str, SpoilVideo); 11] = [
    ("views", |kept| kept.state.counters.views += 1),
    ("likes", |kept| kept.state.counters.likes -= 1),
    ("comments", |kept| kept.state.counters.comments += 7),
    ("shares", |kept| kept.state.counters.shares += 1),
    ("watch_time_total_ms", |kept| kept.state.counters.watch_ms += 1),
    ("watch_short", |kept| kept.state.counters.watch_short += 1),
    ("watch_long", |kept| kept.state.counters.watch_long += 1),
    ("last_seq", |kept| kept.state.last_seq += 1),
    ("owner_given", |kept| kept.state.is_owner_given = true),
    ("trending", |kept| kept.state.trending_log2 += 1e-3),
    ("score by a half-life", |kept| kept.state.decayed_scores = DecayedScores::default()),
];

#[test]
fn every_counter_is_among_what_may_be_wrong() {
    let counters = |kept: &ArchivedVideo| serde_json::to_value(kept.state.counters).unwrap();
    let right = kept(&state("v", Counters::default()));
    for (name, value) in counters(&right).as_object().unwrap() {
        let is_spoiled = SPOILED_FIELDS.iter().any(|(_, spoil)| {
            let mut wrong = kept(&right.state);
            spoil(&mut wrong);
            counters(&wrong)[name] != *value
        });
        assert!(is_spoiled, "SPOILED_FIELDS has nothing that makes {name} wrong");
    }
}

#[test]
fn an_owner_is_right_that_some_order_of_the_partitions_makes() {
    let right = state("v", Counters { views: 1, ..Counters::default() });
    let (mut told, mut kept) = (told(&right), kept(&right));
    kept.state.owner = UserId::parse("other").unwrap();
    assert_eq!(
        differing_fields(&differences_with_log(Some(&told), Some(&kept), &follows(true))),
        ["user_id"]
    );
    told.other_owners.insert(kept.state.owner.clone());
    assert_eq!(differences_with_log(Some(&told), Some(&kept), &follows(true)), []);
}

#[test]
fn a_video_that_is_in_one_place_only_is_named() {
    let right = state("v", Counters::default());
    let by_log = differences_with_log(Some(&told(&right)), None, &follows(true));
    assert_eq!((differing_fields(&by_log), &by_log[0].expected), (vec!["there"], &json!(true)));
    let by_archive = differences_with_log(None, Some(&kept(&right)), &follows(true));
    assert_eq!((differing_fields(&by_archive), &by_archive[0].found), (vec!["there"], &json!(true)));
    let rules = CountingRules::default();
    assert!(matches!(
        compare_with_boards(Some(&right), None, Some(&right), &rules),
        BoardVideoVerdict::Wrong(_)
    ));
    assert!(matches!(
        compare_with_boards(None, Some(&board(&right)), None, &rules),
        BoardVideoVerdict::Wrong(_)
    ));
    assert_eq!(compare_with_boards(None, None, Some(&right), &rules), BoardVideoVerdict::Moving);
}

#[test]
fn differences_from_partition_order_are_no_difference() {
    let right = state("v", Counters { views: 1, ..Counters::default() });
    let mut told = told(&right);
    let mut kept = kept(&right);
    kept.state.trending_log2 += 1.0;
    told.has_ambiguous_times = true;
    assert_eq!(differences_with_log(Some(&told), Some(&kept), &follows(true)), []);
    kept.state.counters.views += 1;
    assert_eq!(differing_fields(&differences_with_log(Some(&told), Some(&kept), &follows(true))), ["views"]);
    told.is_ambiguous = true;
    assert_eq!(differences_with_log(Some(&told), Some(&kept), &follows(true)), []);
}

#[test]
fn a_score_beside_the_counters_that_the_rules_do_not_make_is_named() {
    let mut wrong = kept(&state("v", Counters { watch_long: 2, comments: 1, ..Counters::default() }));
    assert_eq!(archive_contradictions(&wrong, &CountingRules::default()), []);
    wrong.score += 1.0;
    wrong.comment_count -= 1;
    wrong.highest_seq += 1;
    assert_eq!(
        differing_fields(&archive_contradictions(&wrong, &CountingRules::default())),
        ["score", "stored comments", "highest comment number"]
    );
}

#[test]
fn a_removed_video_must_be_on_no_board() {
    let rules = CountingRules::default();
    let on = state("v", Counters { views: 3, ..Counters::default() });
    let off = VideoState { removed_by: Some(ActorRole::Service), revision_corrections: 1, ..on.clone() };
    let compare = |before, board, after| compare_with_boards(Some(before), board, Some(after), &rules);
    assert_eq!(compare(&off, None, &off), BoardVideoVerdict::Right);
    let shown = board(&on);
    assert!(matches!(compare(&off, Some(&shown), &off), BoardVideoVerdict::Wrong(_)));
    assert!(matches!(compare(&on, None, &on), BoardVideoVerdict::Wrong(_)));
    assert_eq!(compare(&on, None, &off), BoardVideoVerdict::Moving);
    let mut log = told(&on);
    log.counted_state = off;
    assert_eq!(
        differing_fields(&differences_with_log(Some(&log), Some(&kept(&on)), &follows(true))),
        ["removed"]
    );
}

#[test]
fn the_canary_is_on_no_board_and_has_no_comments() {
    let rules = CountingRules::default();
    let canary = state(canary::CANARY_ID, Counters { views: 3, comments: 2, ..Counters::default() });
    let compare = |board| compare_with_boards(Some(&canary), board, Some(&canary), &rules);
    assert_eq!(compare(None), BoardVideoVerdict::Right);
    assert!(matches!(compare(Some(&board(&canary))), BoardVideoVerdict::Wrong(_)));
    assert_eq!(
        archive_contradictions(&ArchivedVideo { comment_count: 0, highest_seq: 0, ..kept(&canary) }, &rules),
        []
    );
    // The canary's counts are compared as those of any other video.
    let fewer = state(canary::CANARY_ID, Counters { views: 2, comments: 2, ..Counters::default() });
    assert_eq!(
        differing_fields(&differences_with_log(Some(&told(&canary)), Some(&kept(&fewer)), &follows(false))),
        ["views"]
    );
}

#[test]
fn a_score_may_fall_where_something_was_taken_back() {
    let rules = CountingRules::default();
    let before = state("v", Counters { views: 3, likes: 1, ..Counters::default() });
    let mut after = state("v", Counters { views: 3, likes: 0, ..Counters::default() });
    after.revision_corrections = 2;
    let compare = |board: &BoardEntry| compare_with_boards(Some(&before), Some(board), Some(&after), &rules);
    assert_eq!(compare(&board(&after)), BoardVideoVerdict::Right);
    assert_eq!(compare(&board(&before)), BoardVideoVerdict::Moving);
    let wrong = BoardEntry { score: 1.0, ..board(&after) };
    assert!(
        matches!(compare(&wrong), BoardVideoVerdict::Wrong(_)),
        "of the latest state each number is known"
    );
}

proptest! {
    #[test]
    fn equal_stores_have_no_difference_and_each_wrong_thing_is_named_alone(
        counters in proptest::collection::vec(any_counters(), 1..20),
        (victim, wrong) in (any::<prop::sample::Index>(), 0..SPOILED_FIELDS.len()),
    ) {
        let states: Vec<_> = counters.into_iter().enumerate().map(|(at, counters)| state(&format!("v{at}"), counters)).collect();
        let by_id = |state: &VideoState| state.video_id.clone();
        let log: BTreeMap<_, _> = states.iter().map(|state| (by_id(state), told(state))).collect();
        let mut archive: BTreeMap<_, _> = states.iter().map(|state| (by_id(state), kept(state))).collect();
        prop_assert_eq!(compare_log_and_archive(&log, &archive, &follows(true)), vec![]);
        let victim = by_id(&states[victim.index(states.len())]);
        let (field, spoil) = SPOILED_FIELDS[wrong];
        spoil(archive.get_mut(&victim).unwrap());
        let found = compare_log_and_archive(&log, &archive, &follows(true));
        prop_assert_eq!(differing_fields(&found), vec![field]);
        prop_assert_eq!(&found[0].video_id, &victim);
    }

    /// The boards' state of a changing video is right exactly if it lies between the archive's two states.
    #[test]
    fn a_moving_video_is_wrong_only_outside_of_the_two_looks(
        counters in any_counters(), grown in any_counters(), share in 0.0..=1.0f64, off in 1..100i64,
    ) {
        let rules = CountingRules::default();
        let before = state("v", counters);
        let after = state("v", Counters {
            views: counters.views + grown.views + 1, likes: counters.likes + grown.likes, ..counters
        });
        let mut between = board(&after);
        let (least, most) = (board(&before).score, between.score);
        between.score = (least + (most - least) * share).round();
        between.trending = board(&before).trending;
        between.revision = before.revision();
        prop_assert_ne!(compare_with_boards(Some(&before), Some(&between), Some(&after), &rules), BoardVideoVerdict::Right);
        prop_assert_eq!(compare_with_boards(Some(&before), Some(&between), Some(&after), &rules), BoardVideoVerdict::Moving);
        prop_assert_eq!(compare_with_boards(Some(&after), Some(&board(&after)), Some(&after), &rules), BoardVideoVerdict::Right);
        prop_assert_eq!(compare_with_boards(None, Some(&board(&after)), Some(&after), &rules), BoardVideoVerdict::Right);
        for wrong in [least - off as f64, most + off as f64] {
            let outside = BoardEntry { score: wrong, ..between.clone() };
            let verdict = compare_with_boards(Some(&before), Some(&outside), Some(&after), &rules);
            prop_assert!(matches!(verdict, BoardVideoVerdict::Wrong(_)), "{verdict:?}");
        }
        let stale = BoardEntry { score: most - 1.0, ..board(&after) };
        prop_assert!(matches!(compare_with_boards(Some(&after), Some(&stale), Some(&after), &rules), BoardVideoVerdict::Wrong(_)));
    }
}
