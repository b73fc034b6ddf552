//! The rules, one by one.

use proptest::prelude::*;

use super::scene::{
    NOW, decided_actions, input_with_viewers, memory, reader, reader_name, settings, steps_in_words,
};
use crate::readers::{
    DrainWhy, ReaderMemory, ReaderSelfReport, ReaderSettings, ReaderStep, RebalanceSetting, RoundInput,
    ScalingSetting, answer_what_if, decide_round, explain, round_to_two_digits,
};
use liverank_core::handover::Closing;
use liverank_core::handover::coordinator::ReaderStatus;

fn fixed_replicas(replicas: u32) -> ReaderSettings {
    ReaderSettings { replicas, ..settings() }
}

#[test]
fn new_readers_get_the_lowest_free_names() {
    let mut seen = input_with_viewers(fixed_replicas(5), &[10, 10, 10]);
    seen.readers.remove(1);
    // The managers remember one, and one is closed still.
    seen.change_state(1, |state| state.state = ReaderStatus::Gone.into());
    seen.set_cordon(3, Closing::Closed);
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
    // Its pod is still there.
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
    // It is heard before it is seen: it is still the same one.
    seen.readers.push(reader(3));
    assert!(decide_round(&seen, &mut memory).steps.is_empty());
}

#[test]
fn the_cheapest_reader_is_removed_first() {
    let going = |change: &dyn Fn(&mut RoundInput)| {
        let mut seen = input_with_viewers(fixed_replicas(2), &[50, 20, 90]);
        change(&mut seen);
        let outcome = seen.first_round();
        (steps_in_words(&outcome), decided_actions(&outcome))
    };
    assert_eq!(going(&|_| ()), (vec!["empty x-reader-1 (scale-down)".to_owned()], vec!["ScaleDown"]));
    // One that does not serve, and that nobody can be at.
    let (steps, _) = going(&|seen| {
        seen.readers[2].pod.as_mut().unwrap().ready = false;
        seen.change_state(2, |state| {
            (state.fresh, state.assigned) = (false, 0);
            state.state = ReaderStatus::Gone.into();
        });
    });
    assert_eq!(steps, ["empty x-reader-2 (scale-down)"]);
    // One that would be replaced anyway.
    let (steps, _) = going(&|seen| {
        seen.readers[0].template = "t0".to_owned();
        seen.held = Some("manager is being rolled".to_owned());
        // What an upgrade that waits has brought up beyond the wanted number stays.
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
    // One reader's report is old; one leaves by itself; too many who were moved failed; it is paused.
    held(&|seen| seen.change_state(0, |state| state.fresh = false));
    held(&|seen| seen.change_state(0, |state| state.state = ReaderStatus::Draining.into()));
    held(&|seen| seen.readers[0].pod.as_mut().unwrap().terminating = true);
    held(&|seen| seen.change_state(0, |state| (state.reconnects, state.reconnect_errors) = (40, 3)));
    held(&|seen| seen.settings.scale_in = false);
    held(&|seen| seen.settings.paused = true);
    // Few reconnects say nothing.
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
        (steps_in_words(&second), &second.ask),
        (vec!["cordon x-reader-1: draining".to_owned()], &vec![reader_name(1)])
    );
    seen.set_cordon(1, Closing::Draining);
    assert!(decide_round(&seen, &mut memory).steps.is_empty());
    // A new leader finds the same.
    assert!(decide_round(&seen, &mut super::scene::memory()).steps.is_empty());
}

#[test]
fn a_reader_is_removed_when_all_managers_report_it_empty_for_a_while() {
    let emptied = |change: &dyn Fn(&mut RoundInput)| {
        let mut seen = input_with_viewers(fixed_replicas(2), &[50, 0, 90]);
        seen.set_drain(1, DrainWhy::ScaleDown, 60_000);
        seen.set_empty(1);
        change(&mut seen);
        steps_in_words(&seen.second_round())
    };
    let gone = ["cordon x-reader-1: removed"];
    assert_eq!(emptied(&|_| ()), gone);
    // Every manager has to know before it goes, and then it stays so.
    let told = |seen: &mut RoundInput, manager: usize| {
        let cordon = &mut seen.managers[manager].load.cordons[0].cordon;
        *cordon = Some(Closing::Removed.into());
    };
    assert_eq!(emptied(&|seen| told(seen, 0)), gone);
    let both = |seen: &mut RoundInput| (0..2).for_each(|manager| told(seen, manager));
    assert_eq!(emptied(&both), ["remove x-reader-1"]);
    let mut seen = input_with_viewers(fixed_replicas(2), &[50, 0, 90]);
    seen.set_drain(1, DrainWhy::ScaleDown, 60_000);
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
    // Asked before it was to be emptied.
    stays(&|seen| seen.readers[1].drain.as_mut().unwrap().since = Some(NOW + 60_000));
    // One manager has not heard of it.
    let cordon = ["cordon x-reader-1: draining"];
    assert_eq!(emptied(&|seen| seen.managers[1].load.cordons.clear()), cordon);
    // One that does not run has nobody to ask.
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
    // The leader who annotated it was an hour behind this one, or ahead of it.
    for ago in [3_600_000, -3_600_000] {
        let rebalance = RebalanceSetting::Paused;
        let mut seen =
            input_with_viewers(ReaderSettings { force: true, rebalance, ..fixed_replicas(2) }, &[50, 20, 90]);
        seen.set_drain(1, DrainWhy::ScaleDown, ago);
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
    // One that is empty goes, however far ahead the other's clock was.
    let mut seen = input_with_viewers(
        ReaderSettings { rebalance: RebalanceSetting::Paused, ..fixed_replicas(2) },
        &[50, 0, 90],
    );
    seen.set_drain(1, DrainWhy::ScaleDown, -3_600_000);
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
        seen.set_drain(1, DrainWhy::ScaleDown, 901_000);
        change(&mut seen);
        let mut memory = memory();
        // By the clock of the leader who sees it.
        let since = seen.readers[1].drain.and_then(|drain| drain.since);
        memory.draining.extend(since.map(|since| ("uid-1".to_owned(), since)));
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
    // A drain that does not say since when begins now.
    assert_eq!(
        late(true, &|seen| seen.readers[1].drain.as_mut().unwrap().since = None).0,
        ["empty x-reader-1 (scale-down)"]
    );
}

#[test]
fn an_upgrade_surges_cordons_drains_and_halts() {
    let mut seen = input_with_viewers(fixed_replicas(3), &[50, 20, 90]);
    seen.template = "t2".to_owned();
    let outcome = seen.first_round();
    assert_eq!(
        (steps_in_words(&outcome), decided_actions(&outcome)),
        (
            [
                "create x-reader-3",
                "cordon x-reader-0: closed",
                "cordon x-reader-1: closed",
                "cordon x-reader-2: closed"
            ]
            .map(str::to_owned)
            .to_vec(),
            vec!["Upgrade", "ScaleUp"]
        )
    );
    assert_eq!(
        steps_in_words(
            &RoundInput { held: Some("manager is being rolled".to_owned()), ..seen.clone() }.first_round()
        ),
        [""; 0]
    );
    (0..3).for_each(|at| seen.set_cordon(at, Closing::Closed));
    // The new one is there and ready, but no manager has heard it.
    let mut new = reader(3);
    new.template = "t2".to_owned();
    seen.readers.push(new);
    assert_eq!(steps_in_words(&seen.first_round()), [""; 0]);
    seen.managers.iter_mut().for_each(|heard| heard.load.readers.push(super::scene::state(3, 0)));
    assert_eq!(steps_in_words(&seen.first_round()), ["empty x-reader-1 (upgrade)"]);
    // It is not ready for longer than it may take.
    let pod = seen.readers[3].pod.as_mut().unwrap();
    (pod.ready, pod.reason) = (false, Some("CrashLoopBackOff".to_owned()));
    let since = std::mem::replace(&mut pod.since, NOW - 5_000);
    seen.readers[3].created = NOW - 5_000;
    assert_eq!(steps_in_words(&seen.first_round()), [""; 0], "it may come yet");
    (seen.readers[3].created, seen.readers[3].pod.as_mut().unwrap().since) = (since, since);
    seen.managers.iter_mut().for_each(|heard| heard.load.cordons.clear());
    seen.set_drain(1, DrainWhy::Upgrade, 60_000);
    let outcome = seen.first_round();
    assert_eq!(
        (steps_in_words(&outcome), decided_actions(&outcome)),
        (vec!["keep x-reader-1".to_owned()], vec!["Halt", "Keep"])
    );
    assert!(outcome.facts.degraded[0].message.contains("CrashLoopBackOff"), "{:?}", outcome.facts.degraded);
    // Another template than the broken one: that one goes, nobody ever was there.
    seen.template = "t3".to_owned();
    seen.readers[3].pod.as_mut().unwrap().since = NOW - 5_000;
    seen.readers[1].drain = None;
    seen.managers.iter_mut().for_each(|heard| {
        heard.load.cordons.clear();
        heard.load.readers.pop();
    });
    assert_eq!(steps_in_words(&seen.first_round()), ["empty x-reader-3 (upgrade)"]);
}

#[test]
fn a_new_reader_counts_when_every_manager_hears_it() {
    let mut seen = input_with_viewers(fixed_replicas(2), &[50, 20, 0]);
    seen.template = "t2".to_owned();
    seen.readers[2].template = "t2".to_owned();
    assert_eq!(steps_in_words(&seen.first_round())[0], "empty x-reader-1 (upgrade)");
    seen.managers[1].load.readers.pop();
    // The old ones are closed, and nobody is emptied yet.
    assert_eq!(
        steps_in_words(&seen.first_round()),
        ["cordon x-reader-0: closed", "cordon x-reader-1: closed"]
    );
}

#[test]
fn a_superseded_upgrade_removes_its_surge_readers_first() {
    // Three are wanted, four of two old templates serve: there is no room for a new one.
    let mut seen = input_with_viewers(fixed_replicas(3), &[50, 20, 90, 30]);
    seen.template = "t3".to_owned();
    seen.readers[3].template = "t2".to_owned();
    assert_eq!(steps_in_words(&seen.first_round()), ["empty x-reader-1 (upgrade)"]);
    // One that is dead goes before the new one serves, but never below what is wanted.
    let mut seen = input_with_viewers(fixed_replicas(3), &[50, 0, 90]);
    seen.template = "t2".to_owned();
    seen.readers[1].pod = None;
    seen.managers.iter_mut().for_each(|heard| drop(heard.load.readers.remove(1)));
    let steps = [
        "create x-reader-3",
        "empty x-reader-1 (upgrade)",
        "cordon x-reader-0: closed",
        "cordon x-reader-1: closed",
        "cordon x-reader-2: closed",
    ];
    assert_eq!(steps_in_words(&seen.first_round()), steps);
    let mut seen = input_with_viewers(fixed_replicas(2), &[50, 20]);
    seen.template = "t2".to_owned();
    seen.readers[1].template = "t2".to_owned();
    seen.settings.max_surge = 0;
    seen.readers[0].pod.as_mut().unwrap().ready = false;
    assert_eq!(steps_in_words(&seen.first_round()), ["cordon x-reader-0: closed"]);
}

#[test]
fn readers_with_most_viewers_are_kept_and_new_before_old() {
    let mut seen = input_with_viewers(fixed_replicas(2), &[50, 20, 90]);
    seen.set_drain(1, DrainWhy::ScaleDown, 60_000);
    seen.set_drain(2, DrainWhy::ScaleDown, 60_000);
    assert_eq!(steps_in_words(&seen.first_round()), ["keep x-reader-2"]);
    seen.readers[2].template = "t0".to_owned();
    assert_eq!(steps_in_words(&seen.first_round()), ["keep x-reader-1"]);
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
fn returning_to_the_old_template_calls_the_upgrade_off() {
    let mut seen = input_with_viewers(fixed_replicas(3), &[50, 20, 90, 0]);
    seen.readers[3].template = "t2".to_owned();
    seen.set_drain(0, DrainWhy::Upgrade, 60_000);
    seen.set_cordon(1, Closing::Closed);
    let outcome = seen.first_round();
    // The surplus reader has the template that nobody wants now.
    let steps = [
        "keep x-reader-0",
        "empty x-reader-3 (upgrade)",
        "cordon x-reader-1: open",
        "cordon x-reader-3: closed",
    ];
    assert_eq!(steps_in_words(&outcome), steps);
}

#[test]
fn a_drain_by_hand_is_carried_out_and_replaced() {
    let mut seen = input_with_viewers(fixed_replicas(3), &[50, 0, 90]);
    seen.set_drain(1, DrainWhy::parse("because I say so"), 60_000);
    seen.set_empty(1);
    assert_eq!(steps_in_words(&seen.second_round()), ["create x-reader-3", "cordon x-reader-1: removed"]);
    seen.managers.iter_mut().for_each(|heard| heard.load.cordons.clear());
    seen.set_cordon(1, Closing::Removed);
    assert_eq!(steps_in_words(&seen.second_round()), ["create x-reader-3", "remove x-reader-1"]);
    for why in [DrainWhy::ScaleDown, DrainWhy::Upgrade, DrainWhy::ByHand] {
        assert_eq!(DrainWhy::parse(why.as_str()), why);
    }
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
        // The bucket of a new leader fills first.
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
    // Nor does the next leader say it again.
    let mut next = ReaderMemory::new(NOW, first.decisions.last(), None);
    assert!(decide_round(&seen, &mut next).decisions.is_empty());
}

#[test]
fn a_new_leader_does_not_count_surge_readers_as_wanted() {
    let auto = ReaderSettings { scaling: ScalingSetting::Auto, max: 50, ..settings() };
    let mut seen = input_with_viewers(auto, &[500, 500, 500, 0]);
    seen.readers[3].template = "t2".to_owned();
    seen.template = "t2".to_owned();
    let desired = |last| decide_round(&seen, &mut ReaderMemory::new(NOW, None, last)).facts.desired;
    assert_eq!((desired(Some(3)), desired(Some(1)), desired(Some(9)), desired(None)), (3, 3, 4, 4));
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

fn any_seen() -> impl Strategy<Value = RoundInput> {
    let one = (0_u64..1_200, 0_u8..4, 0_u8..4, 0_u8..6, 0_i64..2_000_000);
    let readers = prop::collection::vec(one, 0..7);
    (readers, 0_u32..8, 0_u8..3, any::<[bool; 6]>()).prop_map(|(readers, wanted, mode, flags)| {
        let viewers: Vec<u64> = readers.iter().map(|it| it.0).collect();
        let scaling = [ScalingSetting::Auto, ScalingSetting::Manual, ScalingSetting::DryRun][mode as usize];
        let [scale_in, force, fresh, contradicts, held, upgrade] = flags;
        let mut seen = input_with_viewers(
            ReaderSettings { scaling, scale_in, force, ..fixed_replicas(wanted) },
            &viewers,
        );
        if upgrade {
            seen.template = "t2".to_owned();
        }
        seen.held = held.then(|| "manager is being rolled".to_owned());
        seen.managers[1].load.fresh = fresh;
        for (at, (viewers, kind, state_at, why, ago)) in readers.into_iter().enumerate() {
            let pod = seen.readers[at].pod.as_mut().unwrap();
            (pod.ready, pod.terminating) = (kind != 0, kind == 1);
            if kind == 2 {
                seen.readers[at].template = "t2".to_owned();
            }
            let state =
                [ReaderStatus::Alive, ReaderStatus::Alive, ReaderStatus::Gone, ReaderStatus::Draining];
            let state = state[state_at as usize];
            seen.change_state(at, |it| it.state = state.into());
            match why {
                0 => seen.set_drain(at, DrainWhy::ScaleDown, ago),
                1 => seen.set_drain(at, DrainWhy::Upgrade, ago),
                2 => seen.set_drain(at, DrainWhy::ByHand, ago),
                _ => {}
            }
            if viewers < 200 {
                seen.set_empty(at);
            }
            if contradicts {
                seen.managers[0].load.readers[at].viewers += 700;
            }
        }
        seen
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_round_keeps_the_invariants(seen in any_seen()) {
        let mut memory = memory();
        let first = decide_round(&seen, &mut memory);
        // What the first round calls off may halt the second; then it is told once, and asked for until it is seen.
        let settled = (0..2).map(|_| decide_round(&seen, &mut memory)).last().unwrap();
        let again = decide_round(&seen, &mut memory);
        prop_assert!(again.decisions.is_empty(), "{:?}", again.decisions);
        let lasting = |steps: &[ReaderStep]| steps.iter().filter(|it| !matches!(it, ReaderStep::Moves { .. })).cloned().collect::<Vec<_>>();
        prop_assert_eq!(lasting(&settled.steps), lasting(&again.steps));
        if seen.settings.are_comments_off() {
            return Ok(());
        }
        let (one, other) = (&seen.managers[0].load, &seen.managers[1].load);
        let differ = one.readers.iter().zip(&other.readers).any(|(a, b)| a.state != ReaderStatus::Gone && a.viewers != b.viewers);
        let contradict = other.fresh && differ;
        let empties = |step: &&ReaderStep| matches!(step, ReaderStep::Annotate { drain: Some(_), .. });
        let mut names: Vec<&str> = Vec::new();
        for step in &first.steps {
            match step {
                ReaderStep::DeleteReader { name, forced, .. } => {
                    let reader = seen.readers.iter().find(|reader| reader.name == *name).unwrap();
                    prop_assert!(*forced && seen.settings.force && reader.drain.is_some(), "nothing has been empty for a while yet");
                }
                ReaderStep::CreateReader { name } => {
                    prop_assert!(seen.readers.iter().all(|reader| reader.name != *name));
                    names.push(name);
                }
                _ => {}
            }
        }
        let acts = |it: &ReaderStep| empties(&it) || matches!(it, ReaderStep::Moves { .. } | ReaderStep::DeleteReader { .. });
        prop_assert!(!contradict || !first.steps.iter().any(acts), "acts on what contradicts itself");
        prop_assert!(seen.settings.scaling != ScalingSetting::Auto || first.facts.desired >= seen.settings.min);
        let active = seen.readers.iter().filter(|reader| reader.drain.is_none()).count();
        let was_active = |it: &&ReaderStep| {
            let ReaderStep::Annotate { name, .. } = it else { return false };
            seen.readers.iter().any(|reader| reader.name == *name && reader.drain.is_none())
        };
        let going = first.steps.iter().filter(|it| empties(it) && was_active(it)).count();
        let kept = first.steps.iter().filter(|it| matches!(it, ReaderStep::Annotate { drain: None, .. })).count();
        let wanted = first.facts.desired as usize;
        let left = active + names.len() + kept - going;
        prop_assert!(going == 0 || left >= wanted, "{left} < {wanted}");
        let replaced = seen.readers.iter().filter(|reader| reader.drain.is_none_or(|drain| drain.why == DrainWhy::Upgrade)).count();
        prop_assert!(names.is_empty() || replaced + names.len() <= (wanted + seen.settings.max_surge as usize).max(active + going), "more than the surge");
    }
}

#[test]
fn a_reader_without_a_deployment_is_removed_as_long_as_anything_is_left_of_it() {
    let mut seen = input_with_viewers(fixed_replicas(2), &[50, 20, 0]);
    seen.readers.pop();
    let removed = ["cordon x-reader-2: removed"];
    // A manager remembers it, whatever it says of it; or its pod is ending.
    assert_eq!(steps_in_words(&seen.first_round()), removed);
    seen.managers.iter_mut().for_each(|heard| drop(heard.load.readers.pop()));
    assert_eq!(steps_in_words(&seen.first_round()), [""; 0]);
    seen.orphans.insert(reader_name(2), false);
    assert_eq!(steps_in_words(&seen.first_round()), removed);
    seen.set_cordon(2, Closing::Removed);
    assert_eq!(steps_in_words(&seen.first_round()), [""; 0]);
    // Somebody edited its labels: it is brought back.
    seen.orphans.insert(reader_name(2), true);
    assert_eq!(steps_in_words(&seen.first_round()), [""; 0]);
    // Nothing is left.
    seen.orphans.clear();
    assert_eq!(steps_in_words(&seen.first_round()), ["cordon x-reader-2: open"]);
}

#[test]
fn unserved_viewers_degrade_the_status() {
    let mut seen = input_with_viewers(fixed_replicas(3), &[50, 20, 90]);
    let unserved = |since_ms| liverank_protocol::Unserved { requests: 40, since_ms, video: None };
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

/// The reader that gets a part of the hot video, where the readers are in these zones.
fn next_reader_of_a_hot_video(zones: [Option<&str>; 4]) -> String {
    let settings = ReaderSettings { hot_video_viewers: 200, tolerance_percent: 100, ..fixed_replicas(4) };
    let mut seen = input_with_viewers(settings, &[240, 190, 190, 190]);
    for (reader, zone) in seen.readers.iter_mut().zip(zones) {
        reader.pod.as_mut().unwrap().zone = zone.map(str::to_owned);
    }
    // The bucket of a new leader fills first.
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
