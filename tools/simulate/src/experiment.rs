//! Runs one policy through a scenario and measures the readers' load.

use std::time::Instant;

use liverank_core::Millis;

use crate::policy::PolicyName;
use crate::scenario::Scenario;
use crate::world::World;

/// The result of one policy in a scenario.
#[derive(Debug, Clone)]
pub struct PolicyOutcome {
    /// The policy that was measured.
    pub policy: PolicyName,
    /// The measurement after each tick; the first is that of the beginning.
    pub samples: Vec<WorldSample>,
    /// The state of the world at the end.
    pub final_world: World,
}

/// A measurement of the world after one tick.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WorldSample {
    /// The simulated time in seconds since the beginning.
    pub seconds: f64,
    /// The viewers of the fullest reader divided by the mean of all readers.
    pub max_over_mean: f64,
    /// The number of viewers of the reader at the 99th percentile.
    pub p99_load: u64,
    /// The number of viewers above the capacity of their readers, in all.
    pub over_capacity: u64,
    /// The number of viewers that have a reader.
    pub viewers: u64,
    /// The number of viewers that the policy moved in this tick.
    pub moved: u64,
    /// The number of viewers that lost their reader in this tick because it died.
    pub lost: u64,
    /// The computing time of the policy in this tick, in milliseconds.
    pub plan_ms: f64,
}

/// Runs `policy` through `scenario`; `step` is called after each tick.
pub fn run(scenario: &Scenario, policy: PolicyName, seed: u64, mut step: impl FnMut()) -> PolicyOutcome {
    let mut world = World::new(scenario);
    let mut acting = policy.create_policy(scenario, seed);
    let mut act = |world: &mut World, now: Millis, lost: u64| {
        let began = Instant::now();
        let moved = acting.place_videos(world, now);
        measure_world(world, scenario.capacity, now, moved, lost, began.elapsed().as_secs_f64() * 1000.0)
    };
    let mut samples = vec![act(&mut world, 0, 0)];
    let tick_ms = scenario.traffic.tick_length().as_millis() as Millis;
    for (at, tick) in scenario.traffic.ticks(&scenario.video_audiences, seed).enumerate() {
        world.apply_changes(&tick.changes);
        let lost = tick.dead_readers.iter().map(|reader| world.fail_reader(*reader)).sum();
        for reader in tick.returned_readers {
            world.restore_reader(reader);
        }
        samples.push(act(&mut world, (at as Millis + 1) * tick_ms, lost));
        step();
    }
    PolicyOutcome { policy, samples, final_world: world }
}

fn measure_world(
    world: &World,
    capacity: u64,
    now: Millis,
    moved: u64,
    lost: u64,
    plan_ms: f64,
) -> WorldSample {
    let mut loads = world.reader_loads();
    loads.sort_unstable();
    let viewers: u64 = loads.iter().sum();
    let mean = viewers as f64 / loads.len().max(1) as f64;
    let most = loads.last().copied().unwrap_or_default();
    WorldSample {
        seconds: now as f64 / 1000.0,
        max_over_mean: if mean > 0.0 { most as f64 / mean } else { 1.0 },
        p99_load: percentile(&loads, 0.99),
        over_capacity: loads.iter().map(|load| load.saturating_sub(capacity)).sum(),
        viewers,
        moved,
        lost,
        plan_ms,
    }
}

/// Returns the nearest-rank percentile of ascending values, `part` from 0 to 1; the default value if there are none.
pub fn percentile<T: Copy + Default>(ascending: &[T], part: f64) -> T {
    let rank = (part * ascending.len() as f64).ceil() as usize;
    ascending.get(rank.max(1) - 1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::scenario::ScenarioName;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let values: Vec<u64> = (1..=100).collect();
        assert_eq!(
            (percentile(&values, 0.5), percentile(&values, 0.99), percentile(&values, 1.0)),
            (50, 99, 100)
        );
        assert_eq!(percentile::<u64>(&[], 0.5), 0);
    }

    #[test]
    fn on_the_seed_s_simulation_the_planner_beats_every_other_policy() {
        let scenario = Scenario::built_in(ScenarioName::Seed, Duration::from_mins(20));
        let worst = |policy| {
            let outcome = run(&scenario, policy, 1, || ());
            // For a moment after a reader dies or a video goes viral, every policy is out of balance.
            let mut course: Vec<f64> = outcome.samples.iter().map(|moment| moment.max_over_mean).collect();
            course.sort_by(f64::total_cmp);
            (outcome.samples[0].max_over_mean, percentile(&course, 0.95))
        };
        let (first, planner) = worst(PolicyName::Planner);
        assert!(first <= 1.1, "{first}");
        for other in &PolicyName::ALL[..4] {
            let (_, other_worst) = worst(*other);
            assert!(planner < other_worst, "{planner} is not less than {other_worst} of {other:?}");
        }
        let (seeds, _) = worst(PolicyName::RoundRobin);
        assert!((seeds - 2.8).abs() < 0.001, "{seeds}");
    }
}
