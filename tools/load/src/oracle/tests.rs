//! Tests the oracle with each kind of fault and with each way of being right, because an oracle that cannot fail is
//! worth nothing.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn position_at(seq: u64) -> StreamPosition {
    StreamPosition { comment_epoch: CommentEpoch::parse("n").unwrap(), seq }
}

fn viewer(start: u64) -> ViewerLog {
    let mut log = ViewerLog::new("viewer".into(), false);
    log.note_first_connection(Some(&position_at(start)), false);
    log
}

fn wrongs(faults: &[FoundFault]) -> Vec<(OracleFaultKind, u64)> {
    faults.iter().map(|fault| (fault.kind, fault.event_count)).collect()
}

/// Returns the faults of a viewer that starts at `start` and is sent comments in this order, if the video has `head`
/// comments.
fn faults_for(start: u64, seqs: &[u64], head: u64) -> Vec<(OracleFaultKind, u64)> {
    let mut log = viewer(start);
    let mut faults: Vec<FoundFault> =
        seqs.iter().filter_map(|seq| log.note_comment(&position_at(*seq))).collect();
    faults.extend(log.check(head));
    assert_eq!(log.has_everything_up_to(head), log.check(head).is_empty());
    wrongs(&faults)
}

#[test]
fn comments_in_order_are_no_fault() {
    assert_eq!(faults_for(0, &[1, 2, 3], 3), []);
    assert_eq!(faults_for(7, &[8, 9], 9), []);
    assert_eq!(faults_for(5, &[], 5), []);
}

#[test]
fn a_missing_comment_is_caught_wherever_it_is_missing() {
    assert_eq!(faults_for(0, &[2, 3], 3), [(OracleFaultKind::Missing, 1)]);
    assert_eq!(faults_for(0, &[1, 4], 4), [(OracleFaultKind::Missing, 2)]);
    assert_eq!(faults_for(0, &[1, 2], 3), [(OracleFaultKind::Missing, 1)]);
    assert_eq!(faults_for(0, &[], 2), [(OracleFaultKind::Missing, 2)]);
    assert_eq!(
        faults_for(0, &[2, 4, 5], 6),
        [(OracleFaultKind::Missing, 1), (OracleFaultKind::Missing, 1), (OracleFaultKind::Missing, 1)]
    );
}

#[test]
fn a_repeated_comment_is_caught() {
    assert_eq!(faults_for(0, &[1, 1, 2], 2), [(OracleFaultKind::Repeated, 1)]);
    assert_eq!(faults_for(0, &[1, 2, 3, 2], 3), [(OracleFaultKind::Repeated, 1)]);
    assert_eq!(faults_for(4, &[4, 5], 5), [(OracleFaultKind::Repeated, 1)]);
}

#[test]
fn order_is_checked_and_a_late_one_is_not_missing_as_well() {
    assert_eq!(faults_for(0, &[1, 3, 2, 4], 4), [(OracleFaultKind::OutOfOrder, 1)]);
    assert_eq!(faults_for(0, &[5, 3, 1, 2, 4], 5).len(), 4);
    assert_eq!(
        faults_for(0, &[3, 2, 2, 1], 3),
        [(OracleFaultKind::OutOfOrder, 1), (OracleFaultKind::Repeated, 1), (OracleFaultKind::OutOfOrder, 1)]
    );
}

#[test]
fn a_comment_beyond_the_head_is_caught() {
    assert_eq!(faults_for(0, &[1, 2, 3], 2), [(OracleFaultKind::Different, 1)]);
}

#[test]
fn a_gap_is_a_fault_of_its_own_unless_the_viewer_was_slow() {
    let mut log = viewer(0);
    log.note_comment(&position_at(1));
    let fault = log.note_gap(2, 5).unwrap();
    assert_eq!((fault.kind, fault.event_count), (OracleFaultKind::Gap, 4));
    assert!(log.note_comment(&position_at(6)).is_none() && log.has_everything_up_to(6));

    let mut slow = ViewerLog::new("slow".into(), true);
    slow.note_first_connection(Some(&position_at(0)), false);
    assert_eq!(slow.note_gap(1, 5), None);
    assert_eq!(
        (slow.skipped_count, slow.note_comment(&position_at(6)), slow.has_everything_up_to(6)),
        (5, None, true)
    );
    assert_eq!(slow.note_comment(&position_at(8)), None);
    assert_eq!(
        wrongs(&slow.check(8)),
        [(OracleFaultKind::Missing, 1)],
        "a hole without a gap is missing also for the slow"
    );
}

#[test]
fn comments_from_before_a_viewer_connected_are_not_expected() {
    let mut late = viewer(100);
    assert!(late.has_everything_up_to(100));
    late.note_comment(&position_at(101));
    late.note_first_connection(Some(&position_at(500)), false);
    assert_eq!(wrongs(&late.check(101)), [], "a later connection does not move it");
}

#[test]
fn a_viewer_without_a_position_stands_at_the_beginning_of_a_fresh_video_only() {
    let mut fresh = ViewerLog::new("fresh".into(), false);
    fresh.note_first_connection(None, true);
    fresh.note_comment(&position_at(2));
    assert_eq!(wrongs(&fresh.check(2)), [(OracleFaultKind::Missing, 1)]);
    let mut late = ViewerLog::new("late".into(), false);
    late.note_first_connection(None, false);
    assert!(!late.has_position());
    late.note_comment(&position_at(2));
    assert_eq!(late.check(2), []);
    let never = ViewerLog::new("never".into(), false);
    assert_eq!(wrongs(&never.check(0)), [(OracleFaultKind::Different, 1)]);
}

#[test]
fn another_numbering_is_noticed() {
    let mut log = viewer(0);
    let other = StreamPosition { comment_epoch: CommentEpoch::parse("m").unwrap(), seq: 1 };
    assert_eq!(log.note_comment(&other).unwrap().kind, OracleFaultKind::Different);
}

/// Returns an oracle with three comments of video 4, the last of which is not acknowledged.
fn three_comments() -> CommentOracle {
    let comments = CommentOracle::new(4);
    for number in 0..3 {
        comments.note_posted(number, 4, 10 * number as u64);
    }
    comments.note_posted(3, 5, 99);
    comments.note_acknowledged(0);
    comments.note_acknowledged(1);
    comments
}

#[test]
fn a_comment_that_shows_up_has_its_time_and_one_number() {
    let comments = three_comments();
    assert_eq!(comments.note_shown(Some(1), 4, 7), Ok(10));
    assert_eq!(comments.note_shown(Some(1), 4, 7), Ok(10), "to every viewer");
    assert_eq!(comments.note_shown(Some(1), 4, 8).unwrap_err().kind, OracleFaultKind::Repeated);
    assert_eq!(comments.note_shown(Some(3), 4, 9).unwrap_err().kind, OracleFaultKind::Different);
    assert_eq!(comments.note_shown(Some(77), 4, 9).unwrap_err().kind, OracleFaultKind::Different);
    assert_eq!(comments.note_shown(None, 4, 9).unwrap_err().kind, OracleFaultKind::Different);
}

#[test]
fn a_history_has_each_acknowledged_comment_once_and_may_have_the_others() {
    let history = |list: &[(u64, usize)]| -> Vec<(OracleFaultKind, u64)> {
        let list: Vec<_> = list.iter().map(|(seq, number)| (*seq, Some(*number))).collect();
        wrongs(&three_comments().check_history(4, &list))
    };
    assert_eq!(history(&[(1, 1), (2, 0)]), []);
    assert_eq!(history(&[(1, 0), (2, 1), (3, 2)]), [], "what was given up may be there");
    assert_eq!(history(&[(1, 0)]), [(OracleFaultKind::Missing, 1)]);
    assert_eq!(history(&[]), [(OracleFaultKind::Missing, 1), (OracleFaultKind::Missing, 1)]);
    assert_eq!(history(&[(1, 0), (3, 1)]), [(OracleFaultKind::OutOfOrder, 1)], "a hole in the numbers");
    assert_eq!(
        history(&[(1, 0), (2, 1), (3, 1)]),
        [(OracleFaultKind::Repeated, 1), (OracleFaultKind::Repeated, 1)]
    );
    assert_eq!(history(&[(1, 0), (2, 1), (3, 3)]), [(OracleFaultKind::Different, 1)], "another video's");
}

#[test]
fn what_viewers_saw_and_what_the_history_says_must_agree() {
    let comments = three_comments();
    comments.note_shown(Some(0), 4, 2).unwrap();
    comments.note_shown(Some(1), 4, 1).unwrap();
    let faults = comments.check_history(4, &[(1, Some(0)), (2, Some(1))]);
    assert_eq!(wrongs(&faults), [(OracleFaultKind::Repeated, 1), (OracleFaultKind::Repeated, 1)]);
    let comments = three_comments();
    comments.note_shown(Some(2), 4, 3).unwrap();
    let faults = comments.check_history(4, &[(1, Some(0)), (2, Some(1))]);
    assert_eq!(wrongs(&faults), [(OracleFaultKind::Different, 1)], "delivered and not in the history");
}

fn event(kind: Kind, ms: u64) -> PostEvent {
    let action = PostAction::Interact(kind, ms);
    PostEvent {
        id: "e".into(),
        event_index: 0,
        post_after: Duration::ZERO,
        video: 0,
        user_number: 0,
        post_action: action,
    }
}

fn tally() -> CountTally {
    let mut tally = CountTally::default();
    for event in
        [event(Kind::View, 0), event(Kind::View, 0), event(Kind::WatchTime, 2500), event(Kind::Like, 0)]
    {
        tally.note_acknowledged(&event, 2_000);
    }
    tally
}

/// The default weights, written out: a static value has an address that lives long enough.
const WEIGHTS: Option<&Weights> = Some(&Weights {
    view: 1_000,
    like: 2_000,
    comment: 2_000,
    share: 3_000,
    watch_short: 1_000,
    watch_long: 2_000,
    watch_threshold_ms: 2_000,
});

const EXPECTED_COUNTERS: Counters =
    Counters { views: 2, likes: 1, comments: 0, shares: 0, watch_ms: 2500, watch_short: 0, watch_long: 1 };

#[test]
fn counts_that_differ_are_a_fault() {
    assert_eq!(tally().check("v", &EXPECTED_COUNTERS, 6.0, WEIGHTS), []);
    let lost = Counters { views: 0, ..EXPECTED_COUNTERS };
    assert_eq!(wrongs(&tally().check("v", &lost, 4.0, WEIGHTS)), [(OracleFaultKind::Missing, 2)]);
    let twice = Counters { likes: 3, ..EXPECTED_COUNTERS };
    assert_eq!(wrongs(&tally().check("v", &twice, 10.0, WEIGHTS)), [(OracleFaultKind::Repeated, 2)]);
    let moved = Counters { watch_ms: 2499, ..EXPECTED_COUNTERS };
    assert_eq!(wrongs(&tally().check("v", &moved, 6.0, WEIGHTS)), [(OracleFaultKind::Missing, 1)]);
    let other = Counters { shares: 1, ..EXPECTED_COUNTERS };
    assert_eq!(wrongs(&tally().check("v", &other, 9.0, WEIGHTS)), [(OracleFaultKind::Repeated, 1)]);
}

#[test]
fn a_score_is_that_of_the_counts() {
    assert_eq!(
        wrongs(&tally().check("v", &EXPECTED_COUNTERS, 7.0, WEIGHTS)),
        [(OracleFaultKind::Different, 1)]
    );
    assert_eq!(
        wrongs(&tally().check("v", &EXPECTED_COUNTERS, f64::INFINITY, WEIGHTS)),
        [(OracleFaultKind::Different, 1)]
    );
}

#[test]
fn a_score_follows_the_weights_in_force_and_is_not_compared_where_they_are_unknown() {
    let three_a_like = Weights { like: 3_000, ..Weights::default() };
    assert_eq!(tally().check("v", &EXPECTED_COUNTERS, 7.0, Some(&three_a_like)), []);
    assert_eq!(
        wrongs(&tally().check("v", &EXPECTED_COUNTERS, 6.0, Some(&three_a_like))),
        [(OracleFaultKind::Different, 1)]
    );
    assert_eq!(tally().check("v", &EXPECTED_COUNTERS, 99.0, None), []);
}

#[test]
fn a_watch_is_long_from_the_threshold_in_force() {
    let mut tally = CountTally::default();
    tally.note_acknowledged(&event(Kind::WatchTime, 2500), 3_000);
    let short = Counters { watch_ms: 2500, watch_short: 1, ..Counters::default() };
    assert_eq!(tally.check("v", &short, 0.0, None), []);
}

#[test]
fn a_given_up_event_may_count_at_most_once() {
    let mut tally = tally();
    tally.note_unacknowledged(&event(Kind::View, 0), 2_000);
    assert_eq!(tally.check("v", &EXPECTED_COUNTERS, 6.0, WEIGHTS), []);
    assert_eq!(tally.check("v", &Counters { views: 3, ..EXPECTED_COUNTERS }, 7.0, WEIGHTS), []);
    let twice = Counters { views: 4, ..EXPECTED_COUNTERS };
    assert_eq!(wrongs(&tally.check("v", &twice, 8.0, WEIGHTS)), [(OracleFaultKind::Repeated, 1)]);
}

proptest! {
    /// Any single change to a correct delivery is found.
    #[test]
    fn every_single_mistake_is_caught(length in 2usize..40, place in any::<prop::sample::Index>(), kind in 0..3) {
        let mut seqs: Vec<u64> = (1..=length as u64).collect();
        let place = place.index(length - 1);
        let expected = match kind {
            0 => { seqs.remove(place); OracleFaultKind::Missing }
            1 => { seqs.insert(place + 1, seqs[place]); OracleFaultKind::Repeated }
            _ => { seqs.swap(place, place + 1); OracleFaultKind::OutOfOrder }
        };
        prop_assert_eq!(faults_for(0, &seqs, length as u64), [(expected, 1)]);
    }
}
