//! Properties that hold in every round, whatever is observed.

use proptest::prelude::*;

use super::scene::{fixed_replicas, input_with_viewers, memory};
use crate::readers::{DrainReason, ReaderSettings, ReaderStep, RoundInput, ScalingSetting, decide_round};
use liverank_core::handover::coordinator::ReaderStatus;

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
                0 => seen.set_drain(at, DrainReason::ScaleDown, ago),
                1 => seen.set_drain(at, DrainReason::Upgrade, ago),
                2 => seen.set_drain(at, DrainReason::ByHand, ago),
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
        // A drain that the first round calls off may halt the second; then it is reported once, and requested until it
        // is observed.
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
        let replaced = seen.readers.iter().filter(|reader| reader.drain.is_none_or(|drain| drain.why == DrainReason::Upgrade)).count();
        prop_assert!(names.is_empty() || replaced + names.len() <= (wanted + seen.settings.max_surge as usize).max(active + going), "more than the surge");
    }
}
