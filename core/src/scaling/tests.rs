use proptest::prelude::*;

use super::*;
use crate::ReaderId;

const NOW: Millis = 1_800_000_000_000;

fn reader_id(at: u32) -> ReaderId {
    ReaderId::parse(&format!("r{at}")).unwrap()
}

/// Inputs of `readers` readers with `viewers` viewers each, all reported a second ago.
fn even_load(readers: u32, viewers: u64) -> ScalingInputs {
    let report = |at| ReaderLoadReport { reader: reader_id(at), viewers, at: NOW - 1000 };
    ScalingInputs {
        now: NOW,
        current: readers,
        readers: (0..readers).map(reader_id).collect(),
        reports: (0..readers).map(report).collect(),
        history: Vec::new(),
    }
}

/// The same inputs with a history as long as the window: a decision every ten seconds.
fn with_settled_history(mut inputs: ScalingInputs, raw: u32) -> ScalingInputs {
    let past =
        |ago: i64| PastDecision { at: NOW - ago * 10_000, raw, desired: inputs.current, viewers: None };
    inputs.history = (1..=31).map(past).collect();
    inputs
}

fn policy() -> ScalingPolicy {
    ScalingPolicy { max: 50, ..ScalingPolicy::default() }
}

#[test]
fn more_viewers_than_the_target_ask_for_more_readers() {
    // The target of each reader is 8,000 of 10,000: 2 × 24,000 viewers over 16,000 need 3 readers.
    let decision = decide_reader_count(&even_load(2, 24_000), &policy());
    assert_eq!((decision.action, decision.desired, decision.raw), (ScalingAction::Up, 3, 3));
    assert_eq!(decide_reader_count(&even_load(3, 16_000), &policy()).action, ScalingAction::Hold);
    assert_eq!(decide_reader_count(&even_load(3, 16_100), &policy()).bound_by, [ScalingLimit::Tolerance]);
}

#[test]
fn scale_up_needs_one_fresh_report_and_last_known_counts() {
    let mut inputs = even_load(4, 15_000);
    inputs.reports.iter_mut().skip(1).for_each(|report| report.at = NOW - 60_000);
    inputs.reports[0].viewers = 60_000;
    let decision = decide_reader_count(&inputs, &policy());
    assert_eq!((decision.desired, decision.fresh, decision.viewers), (7, 1, 105_000));
    inputs.reports[0].at = NOW - 60_000;
    let decision = decide_reader_count(&inputs, &policy());
    assert_eq!((decision.action, decision.bound_by), (ScalingAction::Hold, vec![ScalingLimit::Stale]));
}

#[test]
fn scale_down_waits_for_all_reports_and_for_the_window() {
    let calm = with_settled_history(even_load(5, 1000), 1);
    let decision = decide_reader_count(&calm, &policy());
    assert_eq!((decision.action, decision.desired), (ScalingAction::Down, 4), "{}", decision.explain());
    let held = |change: &dyn Fn(&mut ScalingInputs), because: ScalingLimit| {
        let mut inputs = calm.clone();
        change(&mut inputs);
        let decision = decide_reader_count(&inputs, &policy());
        assert_eq!(decision.action, ScalingAction::Hold, "{because:?}");
        assert!(decision.bound_by.contains(&because), "{}", decision.explain());
    };
    held(&|inputs| inputs.reports[2].at = NOW - 10_001, ScalingLimit::Stale);
    held(&|inputs| inputs.reports[2].at = NOW + 1, ScalingLimit::Stale);
    held(&|inputs| drop(inputs.reports.pop()), ScalingLimit::Stale);
    held(&|inputs| drop(inputs.readers.pop()), ScalingLimit::Stale);
    held(&|inputs| inputs.history[20].raw = 5, ScalingLimit::Stabilisation);
    held(&|inputs| inputs.history.truncate(20), ScalingLimit::ShortHistory);
    let other = ReaderLoadReport { reader: reader_id(0), viewers: 3000, at: NOW };
    held(&|inputs| inputs.reports.push(other.clone()), ScalingLimit::Contradiction);
    held(
        &|inputs| {
            inputs.readers.push(reader_id(9));
            inputs.reports.push(ReaderLoadReport { reader: reader_id(9), viewers: 5, at: NOW });
        },
        ScalingLimit::Draining,
    );
    assert_eq!(
        decide_reader_count(&calm, &ScalingPolicy { scale_in: false, ..policy() }).bound_by.last(),
        Some(&ScalingLimit::ScaleInPaused)
    );
}

#[test]
fn paused_scale_up_still_keeps_the_minimum() {
    let paused = ScalingPolicy { scale_out: false, ..policy() };
    let decision = decide_reader_count(&even_load(3, 40_000), &paused);
    assert_eq!((decision.action, decision.desired, decision.raw), (ScalingAction::Hold, 3, 8));
    assert_eq!(
        (decision.bound_by, decision.rejected),
        (vec![ScalingLimit::ScaleOutPaused], vec![(8, ScalingLimit::ScaleOutPaused)])
    );
    assert_eq!(decide_reader_count(&even_load(1, 40_000), &paused).desired, 2);
    // The other direction is not paused.
    assert_eq!(
        decide_reader_count(&with_settled_history(even_load(5, 1000), 1), &paused).action,
        ScalingAction::Down
    );
}

#[test]
fn decisions_keep_to_step_bounds_and_cooldown() {
    let decision = decide_reader_count(&even_load(2, 200_000), &policy());
    assert_eq!((decision.desired, &decision.bound_by[..]), (6, &[ScalingLimit::UpStep][..]));
    let decision = decide_reader_count(&even_load(2, 200_000), &ScalingPolicy { max: 3, ..policy() });
    assert_eq!((decision.desired, decision.rejected), (3, vec![(25, ScalingLimit::Max)]));
    let mut lately = even_load(6, 200_000);
    for (ago, desired) in [(20_000, 2), (10_000, 6)] {
        lately.history.push(PastDecision { at: NOW - ago, raw: 25, desired, viewers: None });
    }
    assert_eq!(
        decide_reader_count(&lately, &policy()).bound_by,
        [ScalingLimit::Max, ScalingLimit::UpCooldown]
    );
    lately.now += 6000;
    lately.reports.iter_mut().for_each(|report| report.at += 6000);
    assert_eq!(decide_reader_count(&lately, &policy()).desired, 10);
    let none = ScalingInputs { now: NOW, ..ScalingInputs::default() };
    assert_eq!(decide_reader_count(&none, &policy()).desired, 2, "the least there has to be needs no report");
}

#[test]
fn a_rising_trend_is_anticipated_and_a_falling_one_is_not() {
    let mut inputs = even_load(2, 15_000);
    let past = |ago: i64, viewers: u64| PastDecision {
        at: NOW - ago * 10_000,
        raw: 2,
        desired: 2,
        viewers: Some(viewers),
    };
    inputs.history = (1..=6).map(|ago| past(ago, 30_000 - 2000 * ago as u64)).collect();
    let decision = decide_reader_count(&inputs, &policy());
    assert_eq!((decision.rise_per_minute, decision.expected, decision.desired), (12_000, 42_000, 3));
    inputs.history = (1..=6).map(|ago| past(ago, 30_000 + 2000 * ago as u64)).collect();
    assert_eq!(decide_reader_count(&inputs, &policy()).expected, 30_000);
    inputs.history.truncate(2);
    assert_eq!(decide_reader_count(&inputs, &policy()).rise_per_minute, 0);
}

fn any_inputs() -> impl Strategy<Value = ScalingInputs> {
    let report = (0_u32..12, 0_u64..60_000, -2000_i64..40_000);
    let past = (0_i64..400_000, 0_u32..20, 0_u32..20, prop::option::of(0_u64..200_000));
    (1_u32..15, 0_u32..12, prop::collection::vec(report, 0..30), prop::collection::vec(past, 0..20)).prop_map(
        |(current, readers, reports, history)| ScalingInputs {
            now: NOW,
            current,
            readers: (0..readers).map(reader_id).collect(),
            reports: reports
                .into_iter()
                .map(|(reader, viewers, age)| ReaderLoadReport {
                    reader: reader_id(reader),
                    viewers,
                    at: NOW - age,
                })
                .collect(),
            history: history
                .into_iter()
                .map(|(age, raw, desired, viewers)| PastDecision { at: NOW - age, raw, desired, viewers })
                .collect(),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_decision_keeps_the_invariants(inputs in any_inputs()) {
        let policy = ScalingPolicy { max: 12, down_stabilisation_ms: 100_000, ..ScalingPolicy::default() };
        let decision = decide_reader_count(&inputs, &policy);
        let (desired, current) = (decision.desired, inputs.current);
        prop_assert!(!decision.explain().is_empty());
        prop_assert!(desired >= policy.min);
        prop_assert!(desired <= policy.max.max(current));
        prop_assert!(current < policy.min || desired <= current + policy.max_up_step);
        prop_assert!(desired + policy.max_down_step >= current);
        prop_assert!(desired == current || decision.action != ScalingAction::Hold);
        let fresh = |reader: &ReaderId| {
            let mut of = inputs.reports.iter().filter(|report| report.reader == *reader);
            of.any(|report| (0..=policy.report_max_age_ms).contains(&(NOW - report.at)))
        };
        if desired < current {
            prop_assert!(inputs.readers.iter().all(fresh));
            prop_assert!(inputs.history.iter().any(|past| past.at <= NOW - 100_000));
            let window = inputs.history.iter().filter(|past| past.at >= NOW - 100_000);
            prop_assert!(current > policy.max || window.map(|past| past.raw).all(|raw| raw <= desired));
        }
        if desired > current && current >= policy.min {
            prop_assert!(inputs.readers.is_empty() || inputs.readers.iter().any(fresh));
        }
        if desired == current {
            prop_assert!(decision.raw == current || !decision.bound_by.is_empty());
        }
    }

    #[test]
    fn the_order_of_reports_does_not_change_the_decision(inputs in any_inputs()) {
        let mut turned = inputs.clone();
        turned.readers.reverse();
        turned.reports.reverse();
        turned.history.reverse();
        // Two decisions at the same time have no order.
        let mut times: Vec<Millis> = inputs.history.iter().map(|past| past.at).collect();
        times.sort_unstable();
        times.dedup();
        prop_assume!(times.len() == inputs.history.len());
        prop_assert_eq!(decide_reader_count(&inputs, &ScalingPolicy::default()), decide_reader_count(&turned, &ScalingPolicy::default()));
    }

    #[test]
    fn more_viewers_never_mean_fewer_readers(inputs in any_inputs(), more in 0_u64..50_000) {
        let fresh = inputs.reports.iter().position(|report| (0..=10_000).contains(&(NOW - report.at)));
        prop_assume!(fresh.is_some());
        let policy = ScalingPolicy { contradiction: 1000, ..ScalingPolicy::default() };
        let mut greater = inputs.clone();
        greater.reports[fresh.unwrap()].viewers += more;
        prop_assert!(decide_reader_count(&greater, &policy).desired >= decide_reader_count(&inputs, &policy).desired);
    }
}
