//! The planner in chaos: checks every plan, and how evenly the planner loads the readers.

#[path = "support/chaos.rs"]
#[allow(dead_code, reason = "shared with others, who use other parts of it")]
mod chaos;

use std::collections::HashSet;

use chaos::{Chaos, percentile};
use liverank_core::placement::{Plan, PlanLimits, ReaderAvailability, Situation, WHOLE_SHARE, make_plan};

/// Checks the properties that every plan must have, in any situation.
fn check_plan(situation: &Situation, plan: &Plan) {
    let mut seen = HashSet::new();
    let mut load = vec![0_i64; situation.readers.len()];
    let mut gains = vec![false; situation.readers.len()];
    for video in &situation.videos {
        video.parts.iter().for_each(|part| load[part.reader] += part.viewers as i64);
    }
    for order in &plan.orders {
        let video = &situation.videos[order.video];
        assert!(seen.insert(order.video), "one order a video");
        assert_eq!(order.epoch, video.epoch);
        assert_eq!(order.to.iter().map(|part| part.share).sum::<u32>(), WHOLE_SHARE);
        assert_eq!(order.to.iter().map(|part| part.viewers).sum::<u64>(), video.viewers());
        video.parts.iter().for_each(|part| load[part.reader] -= part.viewers as i64);
        for part in &order.to {
            load[part.reader] += part.viewers as i64;
            let had = video.parts.iter().find(|had| had.reader == part.reader).map_or(0, |had| had.viewers);
            gains[part.reader] |= part.viewers > had;
            let new = !video.parts.iter().any(|had| had.reader == part.reader);
            assert!(
                !(new || part.viewers > had)
                    || situation.readers[part.reader].standing == ReaderAvailability::Open
            );
        }
        assert!(!order.explain(situation).is_empty());
    }
    for (reader, load) in load.iter().enumerate().filter(|(reader, _)| gains[*reader]) {
        assert!(*load <= situation.readers[reader].capacity as i64, "past its capacity");
    }
}

#[test]
fn a_thousand_chaos_rounds_balance_within_one_per_cent() {
    let limits = chaos::tight();
    let mut rounds = 0;
    let run = chaos::run(&Chaos { seed: 1, rounds: 1000, videos: 5000, limits }, |situation, made| {
        check_plan(situation, made);
        rounds += 1;
        if rounds % 20 == 0 {
            let mut after = situation.clone();
            after.apply_plan(made, 0);
            assert_eq!(make_plan(&after, &limits).orders, [], "planning on its own result changes nothing");
        }
    });
    assert!(run.iter().filter(|round| round.event == "viral").count() > 20);
    assert!(run.iter().filter(|round| round.event == "die").count() > 20);
    let mut after: Vec<u64> = run.iter().map(|round| round.after).collect();
    let mut at = |per_mille| percentile(&mut after, per_mille);
    let (p50, p95, p99) = (at(500), at(950), at(990));
    assert!(p50 <= 1_020_000, "p50 {p50}");
    assert!(p95 <= 1_040_000, "p95 {p95}");
    assert!(p99 <= 1_100_000, "p99 {p99}");
}

#[test]
fn at_the_default_limits_no_round_moves_more_than_its_budget() {
    let limits = PlanLimits::default();
    let run = chaos::run(&Chaos { seed: 2, rounds: 100, videos: 5000, limits }, check_plan);
    for round in run {
        assert!(round.moved <= limits.budget.full || round.orders == 1);
    }
}
