//! Plans that wait: nothing is done without a word, what is done is what was told, and a word is good once.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::scene::{actions, memory, scene, settings, words};
use crate::readers::{Memory, Outcome, Proposal, Rebalance, Scaling, Seen, Settings, Step, Subject, step};
use liverank_core::handover::coordinator::ReaderStatus;

fn scaling() -> Settings {
    Settings { scaling: Scaling::Proposal, min: 1, max: 10, rebalance: Rebalance::Paused, ..settings() }
}

fn rebalance() -> Settings {
    Settings { rebalance: Rebalance::Proposal, ..settings() }
}

fn one(outcome: &Outcome, subject: Subject) -> &Proposal {
    let found: Vec<_> = outcome.proposals.iter().filter(|it| it.subject == subject).collect();
    let [one] = &found[..] else { panic!("{:?}", outcome.proposals) };
    one
}

/// A second reader of two videos, beside one that has none.
fn uneven() -> Seen {
    let mut seen = scene(Settings { replicas: 2, ..rebalance() }, &[600, 100]);
    let more = liverank_core::VideoId::parse("w").unwrap();
    for heard in &mut seen.managers {
        let load = &mut heard.load;
        load.readers[0].videos = vec![(load.readers[0].videos[0].0.clone(), 300), (more.clone(), 300)];
        let mut second = load.assignments.as_ref().unwrap()[0].clone();
        second.videoid = more.clone();
        second.viewers = 300;
        load.assignments.as_mut().unwrap()[0].viewers = 300;
        load.assignments.as_mut().unwrap().push(second);
    }
    seen
}

/// The round in which assignments are looked at.
fn planned(seen: &mut Seen, memory: &mut Memory) -> Outcome {
    step(seen, memory);
    seen.later(5_000);
    step(seen, memory)
}

fn moves(outcome: &Outcome) -> Vec<String> {
    let all = outcome.steps.iter().filter_map(|step| match step {
        Step::Moves { moves } => Some(moves.iter().map(|it| it.videoid.to_string())),
        _ => None,
    });
    all.flatten().collect()
}

#[test]
fn more_readers_come_when_somebody_says_so() {
    let (mut seen, mut memory) = (scene(scaling(), &[900, 900, 900]), memory());
    let outcome = step(&seen, &mut memory);
    assert!(outcome.steps.is_empty(), "{:?}", words(&outcome));
    assert_eq!(actions(&outcome), ["Propose"]);
    let told = one(&outcome, Subject::Scaling).clone();
    assert_eq!(told.steps, ["create 1 readers"]);
    assert_eq!(told.viewers_moved, 675, "a fourth reader is filled to the mean");
    seen.later(2_000);
    let outcome = step(&seen, &mut memory);
    assert_eq!(one(&outcome, Subject::Scaling), &told, "the same, and not told again");
    assert!(outcome.decisions.is_empty());
    seen.approved.insert(told.id);
    seen.later(2_000);
    let outcome = step(&seen, &mut memory);
    assert_eq!(words(&outcome), ["create x-reader-3"]);
    assert!(outcome.proposals.is_empty());
}

#[test]
fn the_cost_of_fewer_readers_is_who_is_at_the_cheapest() {
    let settings = Settings { down_stabilisation_ms: 0, ..scaling() };
    let (mut seen, mut memory) = (scene(settings, &[30, 10, 20]), memory());
    for _ in 0..3 {
        step(&seen, &mut memory);
        seen.later(60_000);
    }
    let outcome = step(&seen, &mut memory);
    let told = one(&outcome, Subject::Scaling).clone();
    assert_eq!((told.viewers_moved, told.steps), (10, vec!["empty and remove 1 readers".to_owned()]));
    assert!(outcome.steps.is_empty());
    seen.approved.insert(told.id);
    seen.later(2_000);
    assert_eq!(words(&step(&seen, &mut memory)), ["empty x-reader-1 (scale-down)"]);
}

#[test]
fn moves_are_carried_out_as_they_were_told_once() {
    let (mut seen, mut memory) = (uneven(), memory());
    let outcome = planned(&mut seen, &mut memory);
    assert!(moves(&outcome).is_empty());
    let told = one(&outcome, Subject::Rebalance).clone();
    assert!(told.viewers_moved > 0 && !told.steps.is_empty(), "{told:?}");
    seen.approved.insert(told.id.clone());
    seen.later(5_000);
    let outcome = step(&seen, &mut memory);
    let ordered = moves(&outcome);
    assert_eq!(ordered.len(), told.steps.len());
    assert!(ordered.iter().zip(&told.steps).all(|(video, step)| step.starts_with(&format!("{video}: "))));
    // The same word again, for what is then wanted: another plan has another name.
    for _ in 0..30 {
        seen.later(5_000);
        let outcome = step(&seen, &mut memory);
        assert!(moves(&outcome).is_empty());
        assert!(outcome.proposals.iter().all(|it| it.id != told.id));
    }
}

/// What changes, and withdraws the plan.
type Change = (&'static str, fn(&mut Seen));

#[test]
fn a_plan_is_withdrawn_when_what_it_was_made_from_has_changed() {
    let changes: [Change; 5] = [
        ("an epoch", |seen| {
            for heard in &mut seen.managers {
                heard.load.assignments.as_mut().unwrap().iter_mut().for_each(|it| it.epoch += 1);
            }
        }),
        ("a reader", |seen| seen.states(1, |state| state.state = ReaderStatus::Draining.into())),
        ("viewers", |seen| {
            for heard in &mut seen.managers {
                for state in &mut heard.load.readers {
                    state.viewers *= 2;
                    state.videos.iter_mut().for_each(|(_, viewers)| *viewers *= 2);
                }
            }
        }),
        ("the load", |seen| seen.managers.clear()),
        ("an hour", |seen| seen.later(super::super::proposal::PLAN_EXPIRES_AFTER_MS)),
    ];
    for (what, change) in changes {
        let (mut seen, mut memory) = (uneven(), memory());
        let told = one(&planned(&mut seen, &mut memory), Subject::Rebalance).clone();
        change(&mut seen);
        seen.approved.insert(told.id.clone());
        for _ in 0..4 {
            seen.later(5_000);
            let outcome = step(&seen, &mut memory);
            assert!(moves(&outcome).is_empty(), "{what}: {:?}", words(&outcome));
            assert!(what == "the load" || outcome.proposals.iter().all(|it| it.id != told.id), "{what}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever viewers do and whichever old names are said: without the name of the plan that waits nothing moves and no
    /// reader comes or goes, and no two plans have one name.
    #[test]
    fn without_its_name_nothing_is_done(
        rounds in prop::collection::vec((prop::collection::vec(0_u64..1_500, 3), 1_i64..120_000, any::<bool>()), 1..30),
    ) {
        let settings = Settings { rebalance: Rebalance::Proposal, down_stabilisation_ms: 0, ..scaling() };
        let (mut seen, mut memory) = (scene(settings, &[500, 500, 500]), memory());
        let (mut names, mut last) = (BTreeSet::new(), BTreeSet::new());
        for (viewers, ms, repeats) in rounds {
            seen.later(ms);
            for (at, viewers) in viewers.into_iter().enumerate() {
                seen.states(at, |state| {
                    state.viewers = viewers;
                    state.videos[0].1 = viewers;
                });
            }
            if repeats {
                // Old names, and one that was never given.
                seen.approved = names.difference(&last).cloned().collect();
                seen.approved.insert("0000000000".to_owned());
            }
            let outcome = step(&seen, &mut memory);
            prop_assert!(outcome.steps.is_empty(), "{:?}", words(&outcome));
            let now: BTreeSet<String> = outcome.proposals.iter().map(|it| it.id.clone()).collect();
            for proposal in &outcome.proposals {
                prop_assert!(proposal.expires > seen.now && proposal.made <= seen.now);
                let is_new = proposal.made == seen.now;
                prop_assert!(!is_new || names.insert(proposal.id.clone()), "a name twice");
            }
            last = now;
        }
    }
}
