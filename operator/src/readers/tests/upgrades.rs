//! Tests of the replacement of readers when their template changes.

use super::scene::{
    NOW, decided_actions, fixed_replicas, input_with_viewers, reader, settings, steps_in_words,
};
use crate::readers::{DrainReason, ReaderMemory, ReaderSettings, RoundInput, ScalingSetting, decide_round};
use liverank_core::handover::CordonLevel;

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
    (0..3).for_each(|at| seen.set_cordon(at, CordonLevel::Closed));
    // The new reader exists and is ready, but no manager has heard it.
    let mut new = reader(3);
    new.template = "t2".to_owned();
    seen.readers.push(new);
    assert_eq!(steps_in_words(&seen.first_round()), [""; 0]);
    seen.managers.iter_mut().for_each(|heard| heard.load.readers.push(super::scene::state(3, 0)));
    assert_eq!(steps_in_words(&seen.first_round()), ["empty x-reader-1 (upgrade)"]);
    // The new reader has not been ready for longer than permitted.
    let pod = seen.readers[3].pod.as_mut().unwrap();
    (pod.ready, pod.reason) = (false, Some("CrashLoopBackOff".to_owned()));
    let since = std::mem::replace(&mut pod.since, NOW - 5_000);
    seen.readers[3].created = NOW - 5_000;
    assert_eq!(steps_in_words(&seen.first_round()), [""; 0], "it may come yet");
    (seen.readers[3].created, seen.readers[3].pod.as_mut().unwrap().since) = (since, since);
    seen.managers.iter_mut().for_each(|heard| heard.load.cordons.clear());
    seen.set_drain(1, DrainReason::Upgrade, 60_000);
    let outcome = seen.first_round();
    assert_eq!(
        (steps_in_words(&outcome), decided_actions(&outcome)),
        (vec!["keep x-reader-1".to_owned()], vec!["Halt", "Keep"])
    );
    assert!(outcome.facts.degraded[0].message.contains("CrashLoopBackOff"), "{:?}", outcome.facts.degraded);
    // A new template replaces the broken one: the broken reader is removed; it never had viewers.
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
    // The old readers are closed, and none is emptied yet.
    assert_eq!(
        steps_in_words(&seen.first_round()),
        ["cordon x-reader-0: closed", "cordon x-reader-1: closed"]
    );
}

#[test]
fn a_superseded_upgrade_removes_its_surge_readers_first() {
    // Three readers are wanted, and four with two old templates serve: there is no room for a new one.
    let mut seen = input_with_viewers(fixed_replicas(3), &[50, 20, 90, 30]);
    seen.template = "t3".to_owned();
    seen.readers[3].template = "t2".to_owned();
    assert_eq!(steps_in_words(&seen.first_round()), ["empty x-reader-1 (upgrade)"]);
    // A dead reader is removed before the new one serves, but never below the wanted number.
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
fn the_next_reader_is_emptied_once_the_viewers_of_the_last_one_may_be_back() {
    let mut seen = input_with_viewers(fixed_replicas(2), &[50, 20, 0]);
    seen.template = "t2".to_owned();
    seen.readers[2].template = "t2".to_owned();
    seen.set_drain(1, DrainReason::Upgrade, 1_000);
    let mut memory = super::scene::memory();
    let next_is_emptied = |seen: &RoundInput, memory: &mut ReaderMemory| {
        steps_in_words(&decide_round(seen, memory)).contains(&"empty x-reader-0 (upgrade)".to_owned())
    };
    assert!(!next_is_emptied(&seen, &mut memory), "there are two readers, as many as are wanted");
    // The old reader is gone, and the second new one serves.
    seen.readers.remove(1);
    seen.managers.iter_mut().for_each(|heard| drop(heard.load.readers.remove(1)));
    let mut new = reader(3);
    new.template = "t2".to_owned();
    seen.readers.push(new);
    seen.managers.iter_mut().for_each(|heard| heard.load.readers.push(super::scene::state(3, 0)));
    seen.advance(9_000);
    assert!(!next_is_emptied(&seen, &mut memory), "its viewers may be on their way");
    assert!(next_is_emptied(&seen, &mut super::scene::memory()), "a new leader knows of none");
    seen.advance(1_000);
    assert!(next_is_emptied(&seen, &mut memory));
}

#[test]
fn readers_with_most_viewers_are_kept_and_new_before_old() {
    let mut seen = input_with_viewers(fixed_replicas(2), &[50, 20, 90]);
    seen.set_drain(1, DrainReason::ScaleDown, 60_000);
    seen.set_drain(2, DrainReason::ScaleDown, 60_000);
    assert_eq!(steps_in_words(&seen.first_round()), ["keep x-reader-2"]);
    seen.readers[2].template = "t0".to_owned();
    assert_eq!(steps_in_words(&seen.first_round()), ["keep x-reader-1"]);
}

#[test]
fn returning_to_the_old_template_calls_the_upgrade_off() {
    let mut seen = input_with_viewers(fixed_replicas(3), &[50, 20, 90, 0]);
    seen.readers[3].template = "t2".to_owned();
    seen.set_drain(0, DrainReason::Upgrade, 60_000);
    seen.set_cordon(1, CordonLevel::Closed);
    let outcome = seen.first_round();
    // The surplus reader has the template that is not wanted any more.
    let steps = [
        "keep x-reader-0",
        "empty x-reader-3 (upgrade)",
        "cordon x-reader-1: open",
        "cordon x-reader-3: closed",
    ];
    assert_eq!(steps_in_words(&outcome), steps);
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
