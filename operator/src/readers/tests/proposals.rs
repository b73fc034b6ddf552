//! Tests of plans that wait: nothing is done without approval, a plan is carried out as it was reported, and an
//! approval is good once.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::scene::{decided_actions, input_with_viewers, memory, settings, steps_in_words};
use crate::readers::{
    PlanSubject, Proposal, ReaderMemory, ReaderSettings, ReaderStep, RebalanceSetting, RoundInput,
    RoundOutcome, ScalingSetting, decide_round,
};
use liverank_core::handover::coordinator::ReaderStatus;

fn scaling_needs_approval() -> ReaderSettings {
    ReaderSettings {
        scaling: ScalingSetting::Proposal,
        min: 1,
        max: 10,
        rebalance: RebalanceSetting::Paused,
        ..settings()
    }
}

fn rebalance_needs_approval() -> ReaderSettings {
    ReaderSettings { rebalance: RebalanceSetting::Proposal, ..settings() }
}

fn proposal_about(outcome: &RoundOutcome, subject: PlanSubject) -> &Proposal {
    let found: Vec<_> = outcome.proposals.iter().filter(|it| it.subject == subject).collect();
    let [one] = &found[..] else { panic!("{:?}", outcome.proposals) };
    one
}

/// Returns an input in which one reader has two videos and the other one none.
fn uneven_load() -> RoundInput {
    let mut seen =
        input_with_viewers(ReaderSettings { replicas: 2, ..rebalance_needs_approval() }, &[600, 100]);
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

/// Runs rounds until the one that plans moves, and returns its result.
fn planning_round(seen: &mut RoundInput, memory: &mut ReaderMemory) -> RoundOutcome {
    decide_round(seen, memory);
    seen.advance(5_000);
    decide_round(seen, memory)
}

fn proposed_moves(outcome: &RoundOutcome) -> Vec<String> {
    let all = outcome.steps.iter().filter_map(|step| match step {
        ReaderStep::Moves { moves } => Some(moves.iter().map(|it| it.videoid.to_string())),
        _ => None,
    });
    all.flatten().collect()
}

#[test]
fn readers_are_added_when_the_plan_is_approved() {
    let (mut seen, mut memory) = (input_with_viewers(scaling_needs_approval(), &[900, 900, 900]), memory());
    let outcome = decide_round(&seen, &mut memory);
    assert!(outcome.steps.is_empty(), "{:?}", steps_in_words(&outcome));
    assert_eq!(decided_actions(&outcome), ["Propose"]);
    let told = proposal_about(&outcome, PlanSubject::Scaling).clone();
    assert_eq!(told.steps, ["create 1 readers"]);
    assert_eq!(told.viewers_moved, 675, "a fourth reader is filled to the mean");
    seen.advance(2_000);
    let outcome = decide_round(&seen, &mut memory);
    assert_eq!(proposal_about(&outcome, PlanSubject::Scaling), &told, "the same, and not told again");
    assert!(outcome.decisions.is_empty());
    seen.approved.insert(told.id);
    seen.advance(2_000);
    let outcome = decide_round(&seen, &mut memory);
    assert_eq!(steps_in_words(&outcome), ["create x-reader-3"]);
    assert!(outcome.proposals.is_empty());
}

#[test]
fn the_cost_of_removing_readers_counts_viewers_of_the_cheapest() {
    let settings = ReaderSettings { down_stabilisation_ms: 0, ..scaling_needs_approval() };
    let (mut seen, mut memory) = (input_with_viewers(settings, &[30, 10, 20]), memory());
    for _ in 0..3 {
        decide_round(&seen, &mut memory);
        seen.advance(60_000);
    }
    let outcome = decide_round(&seen, &mut memory);
    let told = proposal_about(&outcome, PlanSubject::Scaling).clone();
    assert_eq!((told.viewers_moved, told.steps), (10, vec!["empty and remove 1 readers".to_owned()]));
    assert!(outcome.steps.is_empty());
    seen.approved.insert(told.id);
    seen.advance(2_000);
    assert_eq!(steps_in_words(&decide_round(&seen, &mut memory)), ["empty x-reader-1 (scale-down)"]);
}

#[test]
fn approved_moves_are_carried_out_once_as_proposed() {
    let (mut seen, mut memory) = (uneven_load(), memory());
    let outcome = planning_round(&mut seen, &mut memory);
    assert!(proposed_moves(&outcome).is_empty());
    let told = proposal_about(&outcome, PlanSubject::Rebalance).clone();
    assert!(told.viewers_moved > 0 && !told.steps.is_empty(), "{told:?}");
    seen.approved.insert(told.id.clone());
    seen.advance(5_000);
    let outcome = decide_round(&seen, &mut memory);
    let ordered = proposed_moves(&outcome);
    assert_eq!(ordered.len(), told.steps.len());
    assert!(ordered.iter().zip(&told.steps).all(|(video, step)| step.starts_with(&format!("{video}: "))));
    // The same approval again has no effect on the next plan: another plan has another id.
    for _ in 0..30 {
        seen.advance(5_000);
        let outcome = decide_round(&seen, &mut memory);
        assert!(proposed_moves(&outcome).is_empty());
        assert!(outcome.proposals.iter().all(|it| it.id != told.id));
    }
}

/// A change of the input that withdraws the plan, with its name.
type SeenChange = (&'static str, fn(&mut RoundInput));

#[test]
fn a_plan_is_withdrawn_when_what_it_was_made_from_has_changed() {
    let changes: [SeenChange; 5] = [
        ("an epoch", |seen| {
            for heard in &mut seen.managers {
                heard.load.assignments.as_mut().unwrap().iter_mut().for_each(|it| it.epoch += 1);
            }
        }),
        ("a reader", |seen| seen.change_state(1, |state| state.state = ReaderStatus::Draining.into())),
        ("viewers", |seen| {
            for heard in &mut seen.managers {
                for state in &mut heard.load.readers {
                    state.viewers *= 2;
                    state.videos.iter_mut().for_each(|(_, viewers)| *viewers *= 2);
                }
            }
        }),
        ("the load", |seen| seen.managers.clear()),
        ("an hour", |seen| seen.advance(super::super::proposal::PLAN_EXPIRES_AFTER_MS)),
    ];
    for (what, change) in changes {
        let (mut seen, mut memory) = (uneven_load(), memory());
        let told = proposal_about(&planning_round(&mut seen, &mut memory), PlanSubject::Rebalance).clone();
        change(&mut seen);
        seen.approved.insert(told.id.clone());
        for _ in 0..4 {
            seen.advance(5_000);
            let outcome = decide_round(&seen, &mut memory);
            assert!(proposed_moves(&outcome).is_empty(), "{what}: {:?}", steps_in_words(&outcome));
            assert!(what == "the load" || outcome.proposals.iter().all(|it| it.id != told.id), "{what}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever viewers do and whichever old ids are approved: without the id of the waiting plan nothing moves and no
    /// reader is added or removed, and no two plans have one id.
    #[test]
    fn nothing_is_done_without_approval_of_the_plan_s_id(
        rounds in prop::collection::vec((prop::collection::vec(0_u64..1_500, 3), 1_i64..120_000, any::<bool>()), 1..30),
    ) {
        let settings = ReaderSettings { rebalance: RebalanceSetting::Proposal, down_stabilisation_ms: 0, ..scaling_needs_approval() };
        let (mut seen, mut memory) = (input_with_viewers(settings, &[500, 500, 500]), memory());
        let (mut names, mut last) = (BTreeSet::new(), BTreeSet::new());
        for (viewers, ms, repeats) in rounds {
            seen.advance(ms);
            for (at, viewers) in viewers.into_iter().enumerate() {
                seen.change_state(at, |state| {
                    state.viewers = viewers;
                    state.videos[0].1 = viewers;
                });
            }
            if repeats {
                // Old ids, and one that no plan ever had.
                seen.approved = names.difference(&last).cloned().collect();
                seen.approved.insert("0000000000".to_owned());
            }
            let outcome = decide_round(&seen, &mut memory);
            prop_assert!(outcome.steps.is_empty(), "{:?}", steps_in_words(&outcome));
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
