//! Tests of when a reader is emptied, and when it is removed.

use super::scene::{
    NOW, decided_actions, fixed_replicas, input_with_viewers, memory, reader_name, steps_in_words,
};
use crate::readers::{
    DrainReason, ReaderSelfReport, ReaderSettings, ReaderStep, RebalanceSetting, RoundInput, decide_round,
};
use liverank_core::handover::CordonLevel;
use liverank_core::handover::coordinator::ReaderStatus;

#[test]
fn the_cheapest_reader_is_removed_first() {
    let going = |change: &dyn Fn(&mut RoundInput)| {
        let mut seen = input_with_viewers(fixed_replicas(2), &[50, 20, 90]);
        change(&mut seen);
        let outcome = seen.first_round();
        (steps_in_words(&outcome), decided_actions(&outcome))
    };
    assert_eq!(going(&|_| ()), (vec!["empty x-reader-1 (scale-down)".to_owned()], vec!["ScaleDown"]));
    // A reader that does not serve and has no viewers.
    let (steps, _) = going(&|seen| {
        seen.readers[2].pod.as_mut().unwrap().ready = false;
        seen.change_state(2, |state| {
            (state.fresh, state.assigned) = (false, 0);
            state.state = ReaderStatus::Gone.into();
        });
    });
    assert_eq!(steps, ["empty x-reader-2 (scale-down)"]);
    // A reader that would be replaced anyway.
    let (steps, _) = going(&|seen| {
        seen.readers[0].template = "t0".to_owned();
        seen.held = Some("manager is being rolled".to_owned());
        // Readers that a waiting upgrade has started beyond the wanted number stay.
        seen.settings.replicas = 1;
    });
    assert_eq!(steps, ["empty x-reader-0 (scale-down)"]);
}

#[test]
fn no_reader_is_drained_while_the_load_is_unknown() {
    let held = |change: &dyn Fn(&mut RoundInput)| {
        let mut seen = input_with_viewers(fixed_replicas(2), &[50, 20, 90]);
        change(&mut seen);
        let outcome = seen.first_round();
        assert!(outcome.steps.is_empty() && outcome.decisions.is_empty(), "{outcome:?}");
    };
    held(&|seen| seen.managers.clear());
    held(&|seen| seen.managers.iter_mut().for_each(|heard| heard.at -= 10_000));
    held(&|seen| seen.managers.iter_mut().for_each(|heard| heard.at = NOW + 1));
    held(&|seen| seen.managers.iter_mut().for_each(|heard| heard.load.fresh = false));
    held(&|seen| seen.managers[1].load.hold = Some("cut off".to_owned()));
    held(&|seen| seen.managers[0].load.readers[0].viewers = 500);
    held(&|seen| seen.managers[0].load.readers[0].state = ReaderStatus::Gone.into());
    // One reader's report is old; one ends by itself; too many viewers who were moved failed; scaling in or everything
    // is paused.
    held(&|seen| seen.change_state(0, |state| state.fresh = false));
    held(&|seen| seen.change_state(0, |state| state.state = ReaderStatus::Draining.into()));
    held(&|seen| seen.readers[0].pod.as_mut().unwrap().terminating = true);
    held(&|seen| seen.change_state(0, |state| (state.reconnects, state.reconnect_errors) = (40, 3)));
    held(&|seen| seen.settings.scale_in = false);
    held(&|seen| seen.settings.paused = true);
    // Few reconnects are ignored.
    let mut seen = input_with_viewers(fixed_replicas(2), &[50, 20, 90]);
    seen.change_state(0, |state| (state.reconnects, state.reconnect_errors) = (19, 19));
    assert_eq!(seen.first_round().steps.len(), 1);
}

#[test]
fn the_managers_are_told_once_the_annotation_is_seen() {
    let (mut seen, mut memory) = (input_with_viewers(fixed_replicas(2), &[50, 20, 90]), memory());
    let first = decide_round(&seen, &mut memory);
    let Some(ReaderStep::Annotate { drain, .. }) = first.steps.first() else { panic!("{first:?}") };
    seen.readers[1].drain = *drain;
    let second = decide_round(&seen, &mut memory);
    assert_eq!(
        (steps_in_words(&second), &second.readers_to_ask),
        (vec!["cordon x-reader-1: draining".to_owned()], &vec![reader_name(1)])
    );
    seen.set_cordon(1, CordonLevel::Draining);
    assert!(decide_round(&seen, &mut memory).steps.is_empty());
    // A new leader comes to the same result.
    assert!(decide_round(&seen, &mut super::scene::memory()).steps.is_empty());
}

#[test]
fn a_reader_is_removed_when_all_managers_report_it_empty_for_a_while() {
    let emptied = |change: &dyn Fn(&mut RoundInput)| {
        let mut seen = input_with_viewers(fixed_replicas(2), &[50, 0, 90]);
        seen.set_drain(1, DrainReason::ScaleDown, 60_000);
        seen.set_empty(1);
        change(&mut seen);
        steps_in_words(&seen.second_round())
    };
    let gone = ["cordon x-reader-1: removed"];
    assert_eq!(emptied(&|_| ()), gone);
    // Every manager has to know the cordon before the reader is deleted, and then the cordon stays.
    let told = |seen: &mut RoundInput, manager: usize| {
        let cordon = &mut seen.managers[manager].load.cordons[0].cordon;
        *cordon = Some(CordonLevel::Removed.into());
    };
    assert_eq!(emptied(&|seen| told(seen, 0)), gone);
    let both = |seen: &mut RoundInput| (0..2).for_each(|manager| told(seen, manager));
    assert_eq!(emptied(&both), ["remove x-reader-1"]);
    let mut seen = input_with_viewers(fixed_replicas(2), &[50, 0, 90]);
    seen.set_drain(1, DrainReason::ScaleDown, 60_000);
    seen.set_empty(1);
    assert!(seen.first_round().steps.is_empty(), "whoever is on the way arrives first");
    let stays = |change: &dyn Fn(&mut RoundInput)| assert_eq!(emptied(change), [""; 0]);
    stays(&|seen| seen.readers[1].own = None);
    stays(&|seen| seen.readers[1].own = Some(ReaderSelfReport { viewers: 1, at: NOW }));
    stays(&|seen| seen.readers[1].own = Some(ReaderSelfReport { viewers: 0, at: NOW - 10_001 }));
    stays(&|seen| seen.managers[1].load.readers[1].viewers = 1);
    stays(&|seen| seen.managers[1].load.readers[1].assigned = 1);
    stays(&|seen| seen.change_state(1, |state| state.fresh = false));
    stays(&|seen| seen.managers.clear());
    // The reader was queried before its drain began.
    stays(&|seen| seen.readers[1].drain.as_mut().unwrap().since = Some(NOW + 60_000));
    // One manager has not heard of the cordon.
    let cordon = ["cordon x-reader-1: draining"];
    assert_eq!(emptied(&|seen| seen.managers[1].load.cordons.clear()), cordon);
    // A reader that does not run cannot be queried.
    let down = |seen: &mut RoundInput| {
        seen.readers[1].pod = None;
        seen.readers[1].own = None;
    };
    assert_eq!(
        emptied(&|seen| {
            down(seen);
            seen.change_state(1, |state| state.state = ReaderStatus::Gone.into());
        }),
        gone
    );
    stays(&|seen| down(seen));
}

#[test]
fn different_clocks_of_two_leaders_remove_no_reader() {
    // The clock of the leader that annotated the reader was an hour behind this one's, or ahead of it.
    for ago in [3_600_000, -3_600_000] {
        let rebalance = RebalanceSetting::Paused;
        let mut seen =
            input_with_viewers(ReaderSettings { force: true, rebalance, ..fixed_replicas(2) }, &[50, 20, 90]);
        seen.set_drain(1, DrainReason::ScaleDown, ago);
        let mut memory = memory();
        for _ in 0..449 {
            assert_eq!(
                steps_in_words(&decide_round(&seen, &mut memory)),
                [""; 0],
                "{ago}: {} s",
                (seen.now - NOW) / 1000
            );
            seen.advance(2_000);
        }
        seen.advance(4_000);
        assert_eq!(steps_in_words(&decide_round(&seen, &mut memory)), ["cordon x-reader-1: removed"]);
        seen.set_removed(1);
        assert_eq!(
            steps_in_words(&decide_round(&seen, &mut memory)),
            ["remove x-reader-1 although it may have viewers"]
        );
    }
    // An empty reader is removed, however far ahead the other leader's clock was.
    let mut seen = input_with_viewers(
        ReaderSettings { rebalance: RebalanceSetting::Paused, ..fixed_replicas(2) },
        &[50, 0, 90],
    );
    seen.set_drain(1, DrainReason::ScaleDown, -3_600_000);
    seen.set_empty(1);
    let mut memory = memory();
    for _ in 0..3 {
        decide_round(&seen, &mut memory);
        seen.advance(4_000);
    }
    assert_eq!(steps_in_words(&decide_round(&seen, &mut memory)), ["cordon x-reader-1: removed"]);
    seen.set_removed(1);
    assert_eq!(steps_in_words(&decide_round(&seen, &mut memory)), ["remove x-reader-1"]);
}

#[test]
fn a_name_is_not_given_again_while_its_last_pod_ends() {
    let mut seen = input_with_viewers(fixed_replicas(5), &[10, 10, 10]);
    seen.orphans.insert(reader_name(3), false);
    assert_eq!(
        steps_in_words(&seen.first_round()),
        ["create x-reader-4", "create x-reader-5", "cordon x-reader-3: removed"],
        "nobody is sent to what is left of it"
    );
}

#[test]
fn an_overdue_drain_is_held_or_forced_but_never_on_unknown_load() {
    let late = |force: bool, change: &dyn Fn(&mut RoundInput)| {
        let mut seen = input_with_viewers(ReaderSettings { force, ..fixed_replicas(2) }, &[50, 20, 90]);
        seen.set_drain(1, DrainReason::ScaleDown, 901_000);
        change(&mut seen);
        let mut memory = memory();
        // The drain as this leader saw it by its own clock.
        let since = seen.readers[1].drain.and_then(|drain| drain.since);
        memory.draining_since.extend(since.map(|since| ("uid-1".to_owned(), since)));
        let outcome = decide_round(&seen, &mut memory);
        (
            steps_in_words(&outcome),
            decided_actions(&outcome),
            outcome.facts.degraded.into_iter().map(|fact| fact.reason).collect::<Vec<_>>(),
        )
    };
    assert_eq!(late(false, &|_| ()), (vec![], vec!["Hold"], vec!["DrainOverdue".to_owned()]));
    assert_eq!(late(true, &|_| ()), (vec!["cordon x-reader-1: removed".to_owned()], vec!["Force"], vec![]));
    assert_eq!(late(true, &|seen| seen.set_removed(1)).0, ["remove x-reader-1 although it may have viewers"]);
    assert_eq!(late(true, &|seen| seen.managers.clear()).0, [""; 0]);
    assert_eq!(
        late(true, &|seen| seen.readers[1].drain.as_mut().unwrap().since = Some(NOW - 899_000)).0,
        [""; 0]
    );
    // A drain whose annotation names no beginning begins now.
    assert_eq!(
        late(true, &|seen| seen.readers[1].drain.as_mut().unwrap().since = None).0,
        ["empty x-reader-1 (scale-down)"]
    );
}

#[test]
fn a_drain_by_hand_is_carried_out_and_replaced() {
    let mut seen = input_with_viewers(fixed_replicas(3), &[50, 0, 90]);
    seen.set_drain(1, DrainReason::parse("because I say so"), 60_000);
    seen.set_empty(1);
    assert_eq!(steps_in_words(&seen.second_round()), ["create x-reader-3", "cordon x-reader-1: removed"]);
    seen.managers.iter_mut().for_each(|heard| heard.load.cordons.clear());
    seen.set_cordon(1, CordonLevel::Removed);
    assert_eq!(steps_in_words(&seen.second_round()), ["create x-reader-3", "remove x-reader-1"]);
    for why in [DrainReason::ScaleDown, DrainReason::Upgrade, DrainReason::ByHand] {
        assert_eq!(DrainReason::parse(why.as_str()), why);
    }
}

#[test]
fn a_reader_without_a_deployment_is_removed_as_long_as_anything_is_left_of_it() {
    let mut seen = input_with_viewers(fixed_replicas(2), &[50, 20, 0]);
    seen.readers.pop();
    let removed = ["cordon x-reader-2: removed"];
    // A manager remembers the reader, whatever it reports of it; or the reader's pod is ending.
    assert_eq!(steps_in_words(&seen.first_round()), removed);
    seen.managers.iter_mut().for_each(|heard| drop(heard.load.readers.pop()));
    assert_eq!(steps_in_words(&seen.first_round()), [""; 0]);
    seen.orphans.insert(reader_name(2), false);
    assert_eq!(steps_in_words(&seen.first_round()), removed);
    seen.set_cordon(2, CordonLevel::Removed);
    assert_eq!(steps_in_words(&seen.first_round()), [""; 0]);
    // Somebody edited the labels of the reader's Deployment: they are restored.
    seen.orphans.insert(reader_name(2), true);
    assert_eq!(steps_in_words(&seen.first_round()), [""; 0]);
    // Nothing of the reader is left.
    seen.orphans.clear();
    assert_eq!(steps_in_words(&seen.first_round()), ["cordon x-reader-2: open"]);
}
