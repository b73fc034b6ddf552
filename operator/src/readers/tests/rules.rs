//! Tests of the rules of scaling, balancing and reporting, one by one.

use super::scene::{
    NOW, decided_actions, fixed_replicas, input_with_viewers, memory, reader, reader_name, settings, state,
    steps_in_words,
};
use crate::readers::balance::situation;
use crate::readers::{
    ReaderMemory, ReaderSettings, ReaderStep, RebalanceSetting, RoundInput, ScalingSetting, answer_what_if,
    decide_round, explain, round_to_two_digits,
};
use liverank_core::handover::CordonLevel;
use liverank_core::handover::coordinator::ReaderStatus;
use liverank_protocol::{ClusterLoad, UnlistedVideos};

#[test]
fn new_readers_get_the_lowest_free_names() {
    let mut seen = input_with_viewers(fixed_replicas(5), &[10, 10, 10]);
    seen.readers.remove(1);
    // The managers remember one reader, and another one still has a cordon.
    seen.change_state(1, |state| state.state = ReaderStatus::Gone.into());
    seen.set_cordon(3, CordonLevel::Closed);
    let outcome = seen.first_round();
    assert_eq!(
        steps_in_words(&outcome),
        [
            "create x-reader-4",
            "create x-reader-5",
            "create x-reader-6",
            "cordon x-reader-1: removed",
            "cordon x-reader-3: open"
        ]
    );
    assert_eq!(decided_actions(&outcome), ["ScaleUp"]);
    // The pod of the deleted reader is still there.
    seen.orphans.insert(reader_name(4), false);
    assert_eq!(
        steps_in_words(&seen.first_round())[..4],
        ["create x-reader-5", "create x-reader-6", "create x-reader-7", "cordon x-reader-1: removed"]
    );
}

#[test]
fn a_write_is_repeated_until_seen_and_announced_once() {
    let (mut seen, mut memory) = (input_with_viewers(fixed_replicas(4), &[10, 10, 10]), memory());
    let first = decide_round(&seen, &mut memory);
    seen.advance(2_000);
    let second = decide_round(&seen, &mut memory);
    assert_eq!(
        (steps_in_words(&first), steps_in_words(&second)),
        (vec!["create x-reader-3".to_owned()], vec!["create x-reader-3".to_owned()])
    );
    assert_eq!((first.decisions.len(), second.decisions.len()), (1, 0));
    // The managers hear the reader before its Deployment is observed: it is still the same one.
    seen.readers.push(reader(3));
    assert!(decide_round(&seen, &mut memory).steps.is_empty());
}

#[test]
fn no_reader_is_added_while_load_decisions_are_on_hold() {
    let auto = ReaderSettings { scaling: ScalingSetting::Auto, ..settings() };
    let mut seen = input_with_viewers(auto, &[990, 990, 990]);
    assert_eq!(seen.first_round().facts.desired, 4);
    seen.managers[1].load.hold = Some("cut off".to_owned());
    assert_eq!(seen.first_round().facts.desired, 3);
}

#[test]
fn viewers_are_rebalanced_unless_paused_dry_run_or_forbidden() {
    let uneven = |change: &dyn Fn(&mut RoundInput)| {
        let mut seen = input_with_viewers(fixed_replicas(2), &[600, 0]);
        // Two videos on the first reader, none on the second.
        for heard in &mut seen.managers {
            let load = &mut heard.load;
            let other = load.readers[1].videos[0].0.clone();
            load.readers[0].videos = vec![(load.readers[0].videos[0].0.clone(), 300), (other, 300)];
            load.assignments.as_mut().unwrap()[1].readers[0].reader = load.readers[0].id.clone();
        }
        change(&mut seen);
        // The move budget of a new leader has to fill first.
        let mut memory = memory();
        decide_round(&RoundInput { now: NOW - 60_000, managers: Vec::new(), ..seen.clone() }, &mut memory);
        let outcome = decide_round(&seen, &mut memory);
        seen.advance(6_000);
        let again = decide_round(&seen, &mut memory);
        let moves: Vec<_> = outcome
            .steps
            .iter()
            .filter_map(|step| match step {
                ReaderStep::Moves { moves } => Some(moves.clone()),
                _ => None,
            })
            .flatten()
            .collect();
        (moves, decided_actions(&outcome).contains(&"Rebalance"), again.steps.len())
    };
    let (moves, told, again) = uneven(&|_| ());
    assert_eq!((moves.len(), moves[0].expected, told, again), (1, 7, true, 0), "{moves:?}");
    let none = |change: &dyn Fn(&mut RoundInput)| {
        let (moves, told, _) = uneven(change);
        assert!(moves.is_empty(), "{moves:?}");
        told
    };
    assert!(none(&|seen| seen.settings.rebalance = RebalanceSetting::DryRun));
    assert!(!none(&|seen| seen.settings.rebalance = RebalanceSetting::Paused));
    assert!(!none(&|seen| seen.managers[1].load.hold = Some("cut off".to_owned())));
    assert!(!none(&|seen| seen.managers.iter_mut().for_each(|heard| heard.load.assignments = None)));
    assert!(!none(&|seen| seen.managers.iter_mut().for_each(|heard| heard.load.in_flight = 20_000)));
    assert!(!none(&|seen| seen.template = "t2".to_owned()));
    assert!(
        !none(&|seen| seen.change_state(0, |state| (state.reconnects, state.reconnect_errors) = (40, 3)))
    );
}

#[test]
fn dry_runs_are_announced_once_and_change_nothing() {
    let dry = ReaderSettings { scaling: ScalingSetting::DryRun, max: 50, ..fixed_replicas(2) };
    let (mut seen, mut memory) = (input_with_viewers(dry, &[5_000, 5_000]), memory());
    let first = decide_round(&seen, &mut memory);
    assert_eq!((first.steps.len(), decided_actions(&first), first.facts.desired), (0, vec!["ScaleUp"], 2));
    assert!(first.decisions[0].reason.starts_with("dry run: 6 readers"), "{}", first.decisions[0].reason);
    seen.advance(2_000);
    assert!(decide_round(&seen, &mut memory).decisions.is_empty());
    // The next leader does not report it again.
    let mut next = ReaderMemory::new(NOW, first.decisions.last(), None);
    assert!(decide_round(&seen, &mut next).decisions.is_empty());
}

#[test]
fn what_if_forecasts_agree_with_their_moves() {
    let seen = input_with_viewers(fixed_replicas(2), &[500, 400, 300]);
    let load = &seen.managers[0].load;
    let less = answer_what_if(load, &seen.settings, 2).unwrap();
    let viewers: Vec<u64> = less.then.iter().map(|row| row.viewers).collect();
    assert_eq!((less.viewers, viewers.iter().sum::<u64>(), viewers.len()), (1_200, 1_200, 2));
    assert!(less.moved >= 300 && less.seconds >= 1 && less.now.len() == 3, "{less:?}");
    assert!(less.notes.contains(&"emptied and removed: x-reader-2".to_owned()), "{:?}", less.notes);
    let more = answer_what_if(load, &ReaderSettings { hot_video_viewers: 200, ..seen.settings.clone() }, 12)
        .unwrap();
    assert_eq!((more.then.len(), more.imbalance_now_percent), (12, 25));
    assert!(
        more.imbalance_then_percent <= 10 && more.then.iter().any(|row| row.reader == "new-9"),
        "{more:?}"
    );
    assert!(more.notes.contains(&"12 is more than maxReplicas, 10".to_owned()));
    assert!(answer_what_if(load, &seen.settings, 0).is_err());
}

#[test]
fn explain_says_what_would_be_done() {
    let seen = input_with_viewers(fixed_replicas(4), &[500, 400, 300]);
    let explained = explain(&seen);
    assert_eq!(explained.would, ["create x-reader-3"]);
    assert_eq!((explained.readers.len(), explained.facts.ready), (3, 3));
    assert_eq!(explained.scaling, "4 readers, as spec.readers.replicas says");
}

#[test]
fn status_numbers_are_rounded_to_two_digits() {
    let rounded = [0, 9, 99, 101, 1_999, 23_456].map(round_to_two_digits);
    assert_eq!(rounded, [0, 9, 99, 100, 1_900, 23_000]);
}

#[test]
fn unserved_viewers_degrade_the_status() {
    let mut seen = input_with_viewers(fixed_replicas(3), &[50, 20, 90]);
    let unserved = |since_ms| liverank_protocol::UnservedRequests { requests: 40, since_ms, video: None };
    let degraded = |seen: &RoundInput| {
        seen.first_round()
            .facts
            .degraded
            .into_iter()
            .map(|fact| (fact.reason, fact.message))
            .collect::<Vec<_>>()
    };
    seen.managers[1].load.unserved = Some(unserved(9_000));
    assert_eq!(degraded(&seen), []);
    seen.managers[1].load.unserved = Some(unserved(11_000));
    seen.managers[0].load.readers[2].unreachable = true;
    let [(reason, message)] = &degraded(&seen)[..] else { panic!("{:?}", degraded(&seen)) };
    assert_eq!(reason, "ViewersUnserved");
    assert!(message.contains("x-reader-2"), "{message}");
}

/// Returns the reader that gets a part of the hot video if the readers are in these zones.
fn next_reader_of_a_hot_video(zones: [Option<&str>; 4]) -> String {
    let settings = ReaderSettings { hot_video_viewers: 200, tolerance_percent: 100, ..fixed_replicas(4) };
    let mut seen = input_with_viewers(settings, &[240, 190, 190, 190]);
    for (reader, zone) in seen.readers.iter_mut().zip(zones) {
        reader.pod.as_mut().unwrap().zone = zone.map(str::to_owned);
    }
    // The move budget of a new leader has to fill first.
    let mut memory = memory();
    decide_round(&RoundInput { now: NOW - 60_000, managers: Vec::new(), ..seen.clone() }, &mut memory);
    let outcome = decide_round(&seen, &mut memory);
    let moves = outcome.steps.iter().find_map(|step| match step {
        ReaderStep::Moves { moves } => Some(moves.clone()),
        _ => None,
    });
    let hot = moves.expect("it is spread").into_iter().find(|it| it.videoid.as_str() == "v0").unwrap();
    hot.readers.iter().map(|share| share.reader.to_string()).find(|reader| *reader != reader_name(0)).unwrap()
}

#[test]
fn a_hot_videos_next_reader_is_in_another_zone_where_zones_are_known() {
    assert_eq!(next_reader_of_a_hot_video([None; 4]), reader_name(1));
    assert_eq!(next_reader_of_a_hot_video([Some("a"), Some("a"), Some("a"), Some("b")]), reader_name(3));
    assert_eq!(next_reader_of_a_hot_video([Some("a"), None, Some("b"), Some("b")]), reader_name(2));
}

#[test]
fn viewers_of_videos_that_a_load_leaves_out_take_room_at_their_readers() {
    let states = [state(0, 300), state(1, 200)];
    let left_out = UnlistedVideos { videos: 9, viewers: vec![(states[0].id.clone(), 120)] };
    let load = ClusterLoad { readers: states.to_vec(), unlisted: Some(left_out), ..ClusterLoad::default() };
    let planned = situation(&load, NOW);
    let capacities: Vec<u64> = planned.readers.iter().map(|reader| reader.capacity).collect();
    assert_eq!(capacities, [880, 1_000]);
}
