//! A simulation of operator, managers, viewers and Kubernetes cluster on virtual time. Leaders die between any two
//! steps, stores lag, writes fail, managers fall silent or contradict each other; whatever happens, the invariants in
//! [`SimulationRun::check_invariants`] hold.

use std::collections::BTreeSet;

use super::world::{ManagerAnswers, START_TIME, SimulatedCluster};
use liverank_core::handover::CordonLevel;

use crate::readers::{
    Decision, DecisionAction, DrainReason, FallbackSetting, ReaderMemory, ReaderSettings, ReaderStep,
    RoundInput, RoundOutcome, decide_round,
};

struct SimulationRun {
    cluster: SimulatedCluster,
    memory: ReaderMemory,
    /// The time until which there is no leader.
    vacant: i64,
    last_outcome: Option<RoundOutcome>,
    status: Option<Decision>,
    decisions: Vec<Decision>,
    /// The percentages of rounds that end with the leader's death after some steps, and of writes that fail.
    deaths: u64,
    failures: u64,
    /// Number of steps of the last call of `run_for`.
    steps: usize,
    /// Whether it is checked that no viewer is moved more than once in an upgrade.
    once: bool,
}

fn settings() -> ReaderSettings {
    ReaderSettings {
        min: 2,
        max: 8,
        viewers_per_reader: 100,
        hot_video_viewers: 80,
        viewers_per_minute: 6_000,
        down_stabilisation_ms: 30_000,
        drain_timeout_ms: 120_000,
        ready_timeout_ms: 20_000,
        ..ReaderSettings::default()
    }
}

impl SimulationRun {
    fn new(settings: ReaderSettings, seed: u64) -> Self {
        Self {
            cluster: SimulatedCluster::new(settings, seed),
            memory: ReaderMemory::new(START_TIME, None, None),
            vacant: 0,
            last_outcome: None,
            status: None,
            decisions: Vec::new(),
            deaths: 0,
            failures: 0,
            steps: 0,
            once: false,
        }
    }

    /// Runs the simulation for `seconds` seconds.
    fn run_for(&mut self, seconds: u32) {
        self.steps = 0;
        for second in 0..seconds {
            self.cluster.advance_a_second();
            if second % 2 == 0 && self.cluster.now >= self.vacant {
                self.run_round();
            }
        }
    }

    fn run_round(&mut self) {
        let seen = self.cluster.seen();
        let outcome = decide_round(&seen, &mut self.memory);
        let again = decide_round(&seen, &mut self.memory.clone());
        assert_eq!(
            again.steps.iter().filter(|step| !matches!(step, ReaderStep::Moves { .. })).collect::<Vec<_>>(),
            outcome.steps.iter().filter(|step| !matches!(step, ReaderStep::Moves { .. })).collect::<Vec<_>>(),
            "planning is idempotent"
        );
        assert!(again.decisions.is_empty(), "told twice: {:?}", again.decisions);
        self.check_invariants(&seen, &outcome);
        self.decisions.extend(outcome.decisions.iter().cloned());
        let dies = self.cluster.random_below(100) < self.deaths;
        let most = if dies {
            self.cluster.random_below(outcome.steps.len() as u64 + 1) as usize
        } else {
            usize::MAX
        };
        self.steps += outcome.steps.len();
        for it in outcome.steps.iter().take(most) {
            if self.cluster.random_below(100) >= self.failures {
                self.check_step(it, &outcome);
                self.cluster.apply_step(it);
            }
        }
        if dies {
            let wanted = self.last_outcome.as_ref().map(|last| last.facts.desired);
            self.vacant = self.cluster.now + self.cluster.random_below(16) as i64 * 1000;
            self.memory = ReaderMemory::new(self.cluster.now, self.status.as_ref(), wanted);
        } else {
            self.status = outcome.decisions.last().cloned().or(self.status.take());
            self.last_outcome = Some(outcome);
        }
    }

    /// Checks what must never happen in a round.
    fn check_invariants(&self, seen: &RoundInput, outcome: &RoundOutcome) {
        let (steps, settings) = (&outcome.steps, &seen.settings);
        let unknown = self.cluster.answers != ManagerAnswers::Well;
        for step in steps {
            let shrinks = matches!(
                step,
                ReaderStep::DeleteReader { .. } | ReaderStep::Moves { .. } | ReaderStep::Cordon { .. }
            ) || matches!(step, ReaderStep::Annotate { drain: Some(_), .. });
            assert!(!(unknown && shrinks && !settings.are_comments_off()), "acts on unknown load: {step:?}");
        }
        assert!(
            !unknown || settings.are_comments_off() || outcome.facts.desired >= settings.min,
            "below the least"
        );
        let upgrades = outcome.facts.progressing.iter().any(|fact| fact.reason == "Upgrading");
        assert!(
            !upgrades || !steps.iter().any(|step| matches!(step, ReaderStep::Moves { .. })),
            "moves for balance in an upgrade"
        );
        for decision in &outcome.decisions {
            assert!(decision.reason.len() <= Decision::MAX_REASON_BYTES && !decision.reason.is_empty());
        }
        if self.once {
            let moved = self.cluster.viewers.iter().map(|viewer| viewer.moved).max();
            assert!(moved <= Some(1), "a viewer was moved {moved:?} times in one upgrade");
        }
    }

    fn check_step(&self, step: &ReaderStep, outcome: &RoundOutcome) {
        let (world, settings) = (&self.cluster, &self.cluster.settings);
        match step {
            ReaderStep::DeleteReader { name, uid, forced } => {
                let Some(reader) = world.readers.get(name).filter(|reader| reader.uid == *uid) else {
                    return;
                };
                if settings.are_comments_off() {
                    return;
                }
                let drain = reader.drain.unwrap_or_else(|| panic!("{name} goes without having been emptied"));
                let cordon = world.cordons.get(name);
                assert_eq!(cordon, Some(&CordonLevel::Removed), "{name} goes, and the managers do not know");
                let viewers = world.viewers.iter().filter(|viewer| viewer.at.as_ref() == Some(name)).count();
                let late = world.now - drain.since.unwrap() > settings.drain_timeout_ms;
                assert!(
                    viewers == 0 || (*forced && late && settings.force),
                    "{name} goes with {viewers} viewers"
                );
                let others =
                    world.readers.iter().filter(|(other, it)| *other != name && it.drain.is_none()).count();
                assert!(others as u32 >= settings.min.min(outcome.facts.desired), "fewer than the least");
            }
            ReaderStep::CreateReader { name } if !world.readers.contains_key(name) => {
                assert!(
                    !world.orphans.contains_key(name),
                    "{name} is made anew while its pod is still there"
                );
                let counts = |why: Option<DrainReason>| why.is_none_or(|why| why == DrainReason::Upgrade);
                let here =
                    world.readers.values().filter(|it| counts(it.drain.map(|drain| drain.why))).count();
                let most = outcome.facts.desired + settings.max_surge;
                assert!(
                    (here as u32) < most,
                    "{here} readers, {} wanted, and one more",
                    outcome.facts.desired
                );
            }
            _ => {}
        }
    }

    /// Runs until nothing is left to be done, and checks that nothing is done or reported for a while; decisions are
    /// made only at transitions.
    fn run_until_at_rest(&mut self) {
        let told = self.decisions.len();
        let orders = self.cluster.ordered;
        self.run_for(60);
        assert_eq!(self.steps, 0, "no rest: {:?}", self.last_outcome.as_ref().map(|last| &last.steps));
        assert_eq!(
            (self.decisions.len(), self.cluster.ordered),
            (told, orders),
            "{:?}",
            self.decisions.last()
        );
    }

    fn reader_count(&self) -> usize {
        self.cluster.readers.len()
    }

    fn reader_templates(&self) -> BTreeSet<&str> {
        self.cluster.readers.values().map(|reader| reader.template.as_str()).collect()
    }

    fn actions(&self) -> Vec<DecisionAction> {
        self.decisions.iter().map(|decision| decision.action).collect()
    }

    fn degraded_reasons(&self) -> Vec<&str> {
        self.last_outcome
            .iter()
            .flat_map(|last| &last.facts.degraded)
            .map(|fact| fact.reason.as_str())
            .collect()
    }

    fn count_actions(&self, action: DecisionAction) -> usize {
        self.decisions.iter().filter(|decision| decision.action == action).count()
    }

    fn served_viewers(&self) -> usize {
        self.cluster
            .viewers
            .iter()
            .filter(|viewer| viewer.at.is_some() && viewer.arrives_at <= self.cluster.now)
            .count()
    }
}

/// Returns a run with as many readers as this many viewers need at the target of four fifths.
fn settled_run(seed: u64, viewers: usize) -> SimulationRun {
    let mut run = SimulationRun::new(settings(), seed);
    run.run_for(20);
    run.cluster.set_audience(viewers);
    run.run_for(240);
    run.run_until_at_rest();
    run
}

#[test]
fn readers_follow_demand_up_and_down_and_come_to_rest() {
    let mut run = settled_run(1, 400);
    assert_eq!((run.reader_count(), run.served_viewers()), (5, 400), "400 viewers at 80 a reader");
    assert!(run.cluster.ordered > 0, "the hot video was spread");
    run.decisions.clear();
    run.cluster.set_audience(100);
    run.run_for(400);
    assert_eq!(run.reader_count(), 2);
    assert_eq!(
        (run.count_actions(DecisionAction::ScaleDown), run.count_actions(DecisionAction::Remove)),
        (3, 3),
        "{:?}",
        run.actions()
    );
    assert!(run.cluster.cordons.is_empty(), "{:?}", run.cluster.cordons);
    run.run_until_at_rest();
    assert!(run.degraded_reasons().is_empty());
}

#[test]
fn demand_that_returns_calls_a_drain_off() {
    let mut run = settled_run(2, 400);
    run.cluster.set_audience(230);
    // No viewer follows, so that the drain lasts.
    run.cluster.viewers.iter_mut().for_each(|viewer| viewer.stuck = true);
    run.run_for(60);
    let draining =
        |run: &SimulationRun| run.cluster.readers.values().filter(|reader| reader.drain.is_some()).count();
    assert_eq!(draining(&run), 1);
    run.cluster.set_audience(400);
    run.run_for(10);
    assert_eq!((draining(&run), run.reader_count()), (0, 5));
    assert!(run.cluster.cordons.is_empty());
    assert_eq!(run.count_actions(DecisionAction::Keep), 1, "{:?}", run.actions());
}

#[test]
fn an_upgrade_moves_each_viewer_once_whoever_leads() {
    for seed in 1..=4 {
        let mut run = settled_run(seed, 400);
        run.once = true;
        run.deaths = if seed % 2 == 0 { 10 } else { 0 };
        run.cluster.lag = seed as usize % 3;
        run.cluster.change_template("t2");
        run.run_for(800);
        run.deaths = 0;
        run.run_for(60);
        assert_eq!(run.reader_templates().into_iter().collect::<Vec<_>>(), ["t2"], "seed {seed}");
        let moved = run.cluster.viewers.iter().filter(|viewer| viewer.moved == 1).count();
        assert_eq!((run.reader_count(), run.served_viewers(), moved), (5, 400, 400), "seed {seed}");
        assert!(run.cluster.cordons.is_empty());
        run.once = false;
        run.run_for(120);
        run.run_until_at_rest();
    }
}

#[test]
fn readers_that_do_not_come_up_halt_an_upgrade_until_the_template_is_mended() {
    let mut run = settled_run(3, 240);
    run.cluster.broken = Some("t2".to_owned());
    run.cluster.change_template("t2");
    run.run_for(300);
    assert_eq!(run.reader_count(), 4, "three that serve and the broken one");
    assert_eq!(run.degraded_reasons(), ["UpgradeHalted"]);
    assert!(run.cluster.cordons.is_empty(), "what serves takes new videos again");
    assert_eq!(
        (run.count_actions(DecisionAction::Upgrade), run.count_actions(DecisionAction::Halt)),
        (1, 1),
        "{:?}",
        run.actions()
    );
    run.run_until_at_rest();
    run.cluster.change_template("t3");
    run.once = true;
    run.run_for(300);
    assert_eq!((run.reader_templates().into_iter().collect::<Vec<_>>(), run.reader_count()), (vec!["t3"], 3));
    assert_eq!(run.count_actions(DecisionAction::Upgraded), 1, "{:?}", run.actions());
    assert!(run.degraded_reasons().is_empty());
    run.once = false;
    run.run_for(60);
    run.run_until_at_rest();
}

#[test]
fn reconnect_errors_halt_an_upgrade_and_it_goes_on_after_a_rest() {
    let mut run = settled_run(4, 240);
    run.cluster.change_template("t2");
    run.cluster.failing = 40;
    run.run_for(120);
    assert_eq!(run.degraded_reasons(), ["UpgradeHalted"]);
    assert!(run.cluster.readers.values().all(|reader| reader.drain.is_none()));
    assert!(run.cluster.cordons.is_empty());
    run.cluster.failing = 0;
    run.run_for(120);
    assert_eq!(run.degraded_reasons(), ["UpgradeHalted"], "it rests for five minutes");
    run.run_for(500);
    assert_eq!((run.reader_templates().into_iter().collect::<Vec<_>>(), run.reader_count()), (vec!["t2"], 3));
    let told: Vec<DecisionAction> = run
        .actions()
        .into_iter()
        .filter(|it| matches!(it, DecisionAction::Halt | DecisionAction::Resume | DecisionAction::Upgraded))
        .collect();
    assert_eq!(told, [DecisionAction::Halt, DecisionAction::Resume, DecisionAction::Upgraded]);
}

#[test]
fn unknown_load_is_not_treated_as_zero() {
    for answers in [
        ManagerAnswers::Silent,
        ManagerAnswers::Blind,
        ManagerAnswers::Holding,
        ManagerAnswers::Contradicting,
    ] {
        let mut run = settled_run(5, 400);
        run.cluster.set_audience(100);
        run.run_for(20);
        run.cluster.answers = answers;
        run.run_for(600);
        assert_eq!(run.reader_count(), 5, "{answers:?}");
        assert_eq!(run.decisions.last().unwrap().action, DecisionAction::Hold);
        assert_eq!(run.degraded_reasons().len(), 1);
        run.run_until_at_rest();
        run.cluster.answers = ManagerAnswers::Well;
        run.run_for(500);
        assert_eq!(run.reader_count(), 2, "{answers:?}");
        assert!(run.actions().contains(&DecisionAction::Resume));
        run.run_until_at_rest();
    }
}

#[test]
fn while_the_load_is_unknown_there_are_as_many_readers_as_the_fallback_says() {
    for answers in [
        ManagerAnswers::Silent,
        ManagerAnswers::Blind,
        ManagerAnswers::Holding,
        ManagerAnswers::Contradicting,
    ] {
        let mut run = settled_run(5, 200);
        let before = run.reader_count();
        run.cluster.settings.fallback = Some(FallbackSetting { readers: 5, after_ms: 60_000, grows: false });
        run.cluster.answers = answers;
        run.run_for(40);
        assert_eq!(run.reader_count(), before, "{answers:?}: not at once");
        run.run_for(60);
        assert_eq!(run.reader_count(), 5, "{answers:?}");
        assert!(run.decisions.iter().any(|told| told.bound_by == ["Fallback"]), "{:?}", run.actions());
        run.deaths = 20;
        run.run_for(200);
        assert_eq!(run.reader_count(), 5, "{answers:?}: whoever leads");
        run.deaths = 0;
        run.cluster.answers = ManagerAnswers::Well;
        run.run_for(500);
        assert_eq!(run.reader_count(), before, "{answers:?}: when it is known again, it decides");
        assert_eq!(run.served_viewers(), 200);
        run.run_until_at_rest();
    }
    // The fallback removes no reader, and asks for no more readers than the maximum.
    let mut run = settled_run(5, 400);
    run.cluster.settings.fallback = Some(FallbackSetting { readers: 1, after_ms: 10_000, grows: false });
    run.cluster.answers = ManagerAnswers::Silent;
    run.run_for(200);
    assert_eq!(run.reader_count(), 5);
    run.cluster.settings.fallback = Some(FallbackSetting { readers: 90, after_ms: 10_000, grows: false });
    run.run_for(60);
    assert_eq!(run.reader_count(), 8);
}

#[test]
fn a_fallback_that_grows_adds_a_reader_for_each_period_without_the_load() {
    let mut run = settled_run(5, 200);
    let before = run.reader_count();
    // A number below the readers that are there: growing begins with these.
    run.cluster.settings.fallback = Some(FallbackSetting { readers: 1, after_ms: 60_000, grows: true });
    run.cluster.answers = ManagerAnswers::Silent;
    run.run_for(100);
    assert_eq!(run.reader_count(), before, "the first period is that of the number itself");
    run.run_for(60);
    assert_eq!(run.reader_count(), before + 1);
    run.run_for(60);
    assert_eq!(run.reader_count(), before + 2);
    run.run_for(1200);
    assert_eq!(run.reader_count(), run.cluster.settings.max as usize, "no more than the maximum");
    run.cluster.answers = ManagerAnswers::Well;
    run.run_for(900);
    assert_eq!(run.reader_count(), before, "when it is known again, it decides");
    run.run_until_at_rest();
}

#[test]
fn adding_readers_can_be_paused() {
    let mut run = settled_run(5, 200);
    let before = run.reader_count();
    run.cluster.settings.scale_out = false;
    run.cluster.settings.fallback = Some(FallbackSetting { readers: 7, after_ms: 10_000, grows: false });
    run.cluster.set_audience(600);
    run.run_for(100);
    assert_eq!(run.reader_count(), before);
    let said = run.last_outcome.as_ref().unwrap().facts.autoscaling.reason.clone();
    assert_eq!(said, "ScaleOutPaused");
    run.cluster.answers = ManagerAnswers::Silent;
    run.run_for(100);
    assert_eq!(run.reader_count(), before, "the fallback adds readers, too");
    run.cluster.answers = ManagerAnswers::Well;
    run.cluster.settings.scale_out = true;
    run.run_for(200);
    assert!(run.reader_count() > before);
}

#[test]
fn a_drain_that_takes_too_long_is_held_or_forced() {
    let mut run = settled_run(6, 400);
    run.cluster.set_audience(230);
    run.cluster.viewers.iter_mut().for_each(|viewer| viewer.stuck = true);
    run.run_for(400);
    assert_eq!((run.reader_count(), run.degraded_reasons()), (5, vec!["DrainOverdue"]));
    assert_eq!(run.decisions.last().unwrap().action, DecisionAction::Hold);
    run.run_until_at_rest();
    run.cluster.settings.force = true;
    run.run_for(10);
    assert_eq!(run.reader_count(), 4);
    assert!(run.actions().contains(&DecisionAction::Force));
}

#[test]
fn without_comments_there_are_no_readers() {
    let mut run = settled_run(7, 200);
    run.cluster.settings.enabled = false;
    run.run_for(10);
    assert_eq!(run.reader_count(), 0);
    // The readers' processes end within 20 s, and no manager remembers them then; but as long as a pod is left, its
    // reader is cordoned as removed.
    run.run_for(30);
    let left =
        |run: &SimulationRun| run.cluster.ending.iter().filter(|(_, end)| **end > run.cluster.now).count();
    assert_eq!(run.cluster.cordons.len(), left(&run), "{:?}", run.cluster.cordons);
    // A pod may take ten minutes to end.
    run.run_for(620);
    assert_eq!((left(&run), run.cluster.cordons.len()), (0, 0));
    run.run_until_at_rest();
    run.cluster.settings.enabled = true;
    run.run_for(120);
    assert_eq!(run.served_viewers(), 200);
    assert!(run.reader_count() >= 2);
}

/// The seeds of the simulations. Each run takes seconds; 1 to 24 were run when this was written.
const SEEDS: std::ops::RangeInclusive<u64> = 1..=5;

/// All kinds of faults at once, for a while; then none, until the system is at rest.
#[test]
fn invariants_hold_and_the_system_comes_to_rest_after_faults() {
    for seed in SEEDS {
        let mut run = SimulationRun::new(settings(), seed);
        run.deaths = seed % 4 * 4;
        run.failures = seed % 3 * 10;
        run.cluster.lag = seed as usize % 3;
        run.cluster.settings.max_surge = 1 + seed as u32 % 2;
        run.cluster.settings.force = seed % 5 == 0;
        run.run_for(20);
        for _ in 0..12 {
            cause_mishap(&mut run);
            let seconds = 5 + run.cluster.random_below(60) as u32;
            run.run_for(seconds);
        }
        end_mishaps(&mut run);
        run.run_for(1_500);
        let wanted = run.last_outcome.as_ref().unwrap().facts.desired;
        assert_eq!(run.reader_count() as u32, wanted, "seed {seed}");
        assert_eq!(
            run.reader_templates().into_iter().collect::<Vec<_>>(),
            [run.cluster.template.as_str()],
            "seed {seed}"
        );
        assert_eq!(run.served_viewers(), run.cluster.viewers.len(), "seed {seed}");
        assert!(run.cluster.cordons.is_empty(), "seed {seed}");
        assert!(run.degraded_reasons().is_empty(), "seed {seed}: {:?}", run.degraded_reasons());
        run.run_until_at_rest();
    }
}

fn cause_mishap(run: &mut SimulationRun) {
    let world = &mut run.cluster;
    match world.random_below(10) {
        0 | 1 => {
            let viewers = world.random_below(500) as usize;
            world.set_audience(viewers);
        }
        2 | 3 => {
            let template = format!("t{}", world.random_below(1_000));
            world.change_template(&template);
        }
        4 => {
            let template = world.template.clone() + "-broken";
            world.broken = Some(template.clone());
            world.change_template(&template);
        }
        5 => {
            let answers = [
                ManagerAnswers::Silent,
                ManagerAnswers::Blind,
                ManagerAnswers::Holding,
                ManagerAnswers::Contradicting,
                ManagerAnswers::Well,
            ];
            world.answers = answers[world.random_below(5) as usize];
        }
        6 => {
            let names: Vec<String> = world.readers.keys().cloned().collect();
            if !names.is_empty() {
                let name = &names[world.random_below(names.len() as u64) as usize];
                world.lose_reader(name);
            }
        }
        7 => world.failing = world.random_below(3) * 20,
        8 => world.settings.scale_in = !world.settings.scale_in,
        _ => {
            let stuck = world.random_below(2) == 0;
            world.viewers.iter_mut().for_each(|viewer| viewer.stuck = stuck);
        }
    }
}

fn end_mishaps(run: &mut SimulationRun) {
    (run.deaths, run.failures) = (0, 0);
    let world = &mut run.cluster;
    world.answers = ManagerAnswers::Well;
    (world.failing, world.broken) = (0, None);
    world.settings.scale_in = true;
    world.viewers.iter_mut().for_each(|viewer| viewer.stuck = false);
    world.change_template("mended");
}
