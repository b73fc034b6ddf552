//! A simulation of operator, managers, viewers and Kubernetes cluster on virtual time. Leaders die between any two
//! steps, stores lag, writes fail, managers fall silent or contradict each other; whatever happens, the invariants in
//! [`SimulationRun::check_invariants`] hold.

use std::collections::BTreeSet;

use super::world::{ManagerAnswers, START_TIME, SimulatedCluster};
use liverank_core::handover::CordonLevel;

use crate::readers::{
    Action, Decision, DrainWhy, FallbackSetting, ReaderMemory, ReaderSettings, ReaderStep, RoundInput,
    RoundOutcome, decide_round,
};

struct SimulationRun {
    world: SimulatedCluster,
    memory: ReaderMemory,
    /// The time until which there is no leader.
    vacant: i64,
    last: Option<RoundOutcome>,
    status: Option<Decision>,
    told: Vec<Decision>,
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
            world: SimulatedCluster::new(settings, seed),
            memory: ReaderMemory::new(START_TIME, None, None),
            vacant: 0,
            last: None,
            status: None,
            told: Vec::new(),
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
            self.world.advance_a_second();
            if second % 2 == 0 && self.world.now >= self.vacant {
                self.run_round();
            }
        }
    }

    fn run_round(&mut self) {
        let seen = self.world.seen();
        let outcome = decide_round(&seen, &mut self.memory);
        let again = decide_round(&seen, &mut self.memory.clone());
        assert_eq!(
            again.steps.iter().filter(|step| !matches!(step, ReaderStep::Moves { .. })).collect::<Vec<_>>(),
            outcome.steps.iter().filter(|step| !matches!(step, ReaderStep::Moves { .. })).collect::<Vec<_>>(),
            "planning is idempotent"
        );
        assert!(again.decisions.is_empty(), "told twice: {:?}", again.decisions);
        self.check_invariants(&seen, &outcome);
        self.told.extend(outcome.decisions.iter().cloned());
        let dies = self.world.random_below(100) < self.deaths;
        let most =
            if dies { self.world.random_below(outcome.steps.len() as u64 + 1) as usize } else { usize::MAX };
        self.steps += outcome.steps.len();
        for it in outcome.steps.iter().take(most) {
            if self.world.random_below(100) >= self.failures {
                self.check_step(it, &outcome);
                self.world.apply_step(it);
            }
        }
        if dies {
            let wanted = self.last.as_ref().map(|last| last.facts.desired);
            self.vacant = self.world.now + self.world.random_below(16) as i64 * 1000;
            self.memory = ReaderMemory::new(self.world.now, self.status.as_ref(), wanted);
        } else {
            self.status = outcome.decisions.last().cloned().or(self.status.take());
            self.last = Some(outcome);
        }
    }

    /// Checks what must never happen in a round.
    fn check_invariants(&self, seen: &RoundInput, outcome: &RoundOutcome) {
        let (steps, settings) = (&outcome.steps, &seen.settings);
        let unknown = self.world.answers != ManagerAnswers::Well;
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
            let moved = self.world.viewers.iter().map(|viewer| viewer.moved).max();
            assert!(moved <= Some(1), "a viewer was moved {moved:?} times in one upgrade");
        }
    }

    fn check_step(&self, step: &ReaderStep, outcome: &RoundOutcome) {
        let (world, settings) = (&self.world, &self.world.settings);
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
                let counts = |why: Option<DrainWhy>| why.is_none_or(|why| why == DrainWhy::Upgrade);
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
        let told = self.told.len();
        let orders = self.world.ordered;
        self.run_for(60);
        assert_eq!(self.steps, 0, "no rest: {:?}", self.last.as_ref().map(|last| &last.steps));
        assert_eq!((self.told.len(), self.world.ordered), (told, orders), "{:?}", self.told.last());
    }

    fn reader_count(&self) -> usize {
        self.world.readers.len()
    }

    fn reader_templates(&self) -> BTreeSet<&str> {
        self.world.readers.values().map(|reader| reader.template.as_str()).collect()
    }

    fn actions(&self) -> Vec<Action> {
        self.told.iter().map(|decision| decision.action).collect()
    }

    fn degraded_reasons(&self) -> Vec<&str> {
        self.last.iter().flat_map(|last| &last.facts.degraded).map(|fact| fact.reason.as_str()).collect()
    }

    fn count_actions(&self, action: Action) -> usize {
        self.told.iter().filter(|decision| decision.action == action).count()
    }

    fn served_viewers(&self) -> usize {
        self.world
            .viewers
            .iter()
            .filter(|viewer| viewer.at.is_some() && viewer.arrives <= self.world.now)
            .count()
    }
}

/// Returns a run with as many readers as this many viewers need at the target of four fifths.
fn settled_run(seed: u64, viewers: usize) -> SimulationRun {
    let mut run = SimulationRun::new(settings(), seed);
    run.run_for(20);
    run.world.set_audience(viewers);
    run.run_for(240);
    run.run_until_at_rest();
    run
}

#[test]
fn readers_follow_demand_up_and_down_and_come_to_rest() {
    let mut run = settled_run(1, 400);
    assert_eq!((run.reader_count(), run.served_viewers()), (5, 400), "400 viewers at 80 a reader");
    assert!(run.world.ordered > 0, "the hot video was spread");
    run.told.clear();
    run.world.set_audience(100);
    run.run_for(400);
    assert_eq!(run.reader_count(), 2);
    assert_eq!(
        (run.count_actions(Action::ScaleDown), run.count_actions(Action::Remove)),
        (3, 3),
        "{:?}",
        run.actions()
    );
    assert!(run.world.cordons.is_empty(), "{:?}", run.world.cordons);
    run.run_until_at_rest();
    assert!(run.degraded_reasons().is_empty());
}

#[test]
fn demand_that_returns_calls_a_drain_off() {
    let mut run = settled_run(2, 400);
    run.world.set_audience(230);
    // No viewer follows, so that the drain lasts.
    run.world.viewers.iter_mut().for_each(|viewer| viewer.stuck = true);
    run.run_for(60);
    let draining =
        |run: &SimulationRun| run.world.readers.values().filter(|reader| reader.drain.is_some()).count();
    assert_eq!(draining(&run), 1);
    run.world.set_audience(400);
    run.run_for(10);
    assert_eq!((draining(&run), run.reader_count()), (0, 5));
    assert!(run.world.cordons.is_empty());
    assert_eq!(run.count_actions(Action::Keep), 1, "{:?}", run.actions());
}

#[test]
fn an_upgrade_moves_each_viewer_once_whoever_leads() {
    for seed in 1..=4 {
        let mut run = settled_run(seed, 400);
        run.once = true;
        run.deaths = if seed % 2 == 0 { 10 } else { 0 };
        run.world.lag = seed as usize % 3;
        run.world.change_template("t2");
        run.run_for(800);
        run.deaths = 0;
        run.run_for(60);
        assert_eq!(run.reader_templates().into_iter().collect::<Vec<_>>(), ["t2"], "seed {seed}");
        let moved = run.world.viewers.iter().filter(|viewer| viewer.moved == 1).count();
        assert_eq!((run.reader_count(), run.served_viewers(), moved), (5, 400, 400), "seed {seed}");
        assert!(run.world.cordons.is_empty());
        run.once = false;
        run.run_for(120);
        run.run_until_at_rest();
    }
}

#[test]
fn readers_that_do_not_come_up_halt_an_upgrade_until_the_template_is_mended() {
    let mut run = settled_run(3, 240);
    run.world.broken = Some("t2".to_owned());
    run.world.change_template("t2");
    run.run_for(300);
    assert_eq!(run.reader_count(), 4, "three that serve and the broken one");
    assert_eq!(run.degraded_reasons(), ["UpgradeHalted"]);
    assert!(run.world.cordons.is_empty(), "what serves takes new videos again");
    assert_eq!(
        (run.count_actions(Action::Upgrade), run.count_actions(Action::Halt)),
        (1, 1),
        "{:?}",
        run.actions()
    );
    run.run_until_at_rest();
    run.world.change_template("t3");
    run.once = true;
    run.run_for(300);
    assert_eq!((run.reader_templates().into_iter().collect::<Vec<_>>(), run.reader_count()), (vec!["t3"], 3));
    assert_eq!(run.count_actions(Action::Upgraded), 1, "{:?}", run.actions());
    assert!(run.degraded_reasons().is_empty());
    run.once = false;
    run.run_for(60);
    run.run_until_at_rest();
}

#[test]
fn reconnect_errors_halt_an_upgrade_and_it_goes_on_after_a_rest() {
    let mut run = settled_run(4, 240);
    run.world.change_template("t2");
    run.world.failing = 40;
    run.run_for(120);
    assert_eq!(run.degraded_reasons(), ["UpgradeHalted"]);
    assert!(run.world.readers.values().all(|reader| reader.drain.is_none()));
    assert!(run.world.cordons.is_empty());
    run.world.failing = 0;
    run.run_for(120);
    assert_eq!(run.degraded_reasons(), ["UpgradeHalted"], "it rests for five minutes");
    run.run_for(500);
    assert_eq!((run.reader_templates().into_iter().collect::<Vec<_>>(), run.reader_count()), (vec!["t2"], 3));
    let told: Vec<Action> = run
        .actions()
        .into_iter()
        .filter(|it| matches!(it, Action::Halt | Action::Resume | Action::Upgraded))
        .collect();
    assert_eq!(told, [Action::Halt, Action::Resume, Action::Upgraded]);
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
        run.world.set_audience(100);
        run.run_for(20);
        run.world.answers = answers;
        run.run_for(600);
        assert_eq!(run.reader_count(), 5, "{answers:?}");
        assert_eq!(run.told.last().unwrap().action, Action::Hold);
        assert_eq!(run.degraded_reasons().len(), 1);
        run.run_until_at_rest();
        run.world.answers = ManagerAnswers::Well;
        run.run_for(500);
        assert_eq!(run.reader_count(), 2, "{answers:?}");
        assert!(run.actions().contains(&Action::Resume));
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
        run.world.settings.fallback = Some(FallbackSetting { readers: 5, after_ms: 60_000 });
        run.world.answers = answers;
        run.run_for(40);
        assert_eq!(run.reader_count(), before, "{answers:?}: not at once");
        run.run_for(60);
        assert_eq!(run.reader_count(), 5, "{answers:?}");
        assert!(run.told.iter().any(|told| told.bound_by == ["Fallback"]), "{:?}", run.actions());
        run.deaths = 20;
        run.run_for(200);
        assert_eq!(run.reader_count(), 5, "{answers:?}: whoever leads");
        run.deaths = 0;
        run.world.answers = ManagerAnswers::Well;
        run.run_for(500);
        assert_eq!(run.reader_count(), before, "{answers:?}: when it is known again, it decides");
        assert_eq!(run.served_viewers(), 200);
        run.run_until_at_rest();
    }
    // The fallback removes no reader, and asks for no more readers than the maximum.
    let mut run = settled_run(5, 400);
    run.world.settings.fallback = Some(FallbackSetting { readers: 1, after_ms: 10_000 });
    run.world.answers = ManagerAnswers::Silent;
    run.run_for(200);
    assert_eq!(run.reader_count(), 5);
    run.world.settings.fallback = Some(FallbackSetting { readers: 90, after_ms: 10_000 });
    run.run_for(60);
    assert_eq!(run.reader_count(), 8);
}

#[test]
fn adding_readers_can_be_paused() {
    let mut run = settled_run(5, 200);
    let before = run.reader_count();
    run.world.settings.scale_out = false;
    run.world.settings.fallback = Some(FallbackSetting { readers: 7, after_ms: 10_000 });
    run.world.set_audience(600);
    run.run_for(100);
    assert_eq!(run.reader_count(), before);
    let said = run.last.as_ref().unwrap().facts.autoscaling.reason.clone();
    assert_eq!(said, "ScaleOutPaused");
    run.world.answers = ManagerAnswers::Silent;
    run.run_for(100);
    assert_eq!(run.reader_count(), before, "the fallback adds readers, too");
    run.world.answers = ManagerAnswers::Well;
    run.world.settings.scale_out = true;
    run.run_for(200);
    assert!(run.reader_count() > before);
}

#[test]
fn a_drain_that_takes_too_long_is_held_or_forced() {
    let mut run = settled_run(6, 400);
    run.world.set_audience(230);
    run.world.viewers.iter_mut().for_each(|viewer| viewer.stuck = true);
    run.run_for(400);
    assert_eq!((run.reader_count(), run.degraded_reasons()), (5, vec!["DrainOverdue"]));
    assert_eq!(run.told.last().unwrap().action, Action::Hold);
    run.run_until_at_rest();
    run.world.settings.force = true;
    run.run_for(10);
    assert_eq!(run.reader_count(), 4);
    assert!(run.actions().contains(&Action::Force));
}

#[test]
fn without_comments_there_are_no_readers() {
    let mut run = settled_run(7, 200);
    run.world.settings.enabled = false;
    run.run_for(10);
    assert_eq!(run.reader_count(), 0);
    // The readers' processes end within 20 s, and no manager remembers them then; but as long as a pod is left, its
    // reader is cordoned as removed.
    run.run_for(30);
    let left = |run: &SimulationRun| run.world.ending.iter().filter(|(_, end)| **end > run.world.now).count();
    assert_eq!(run.world.cordons.len(), left(&run), "{:?}", run.world.cordons);
    // A pod may take ten minutes to end.
    run.run_for(620);
    assert_eq!((left(&run), run.world.cordons.len()), (0, 0));
    run.run_until_at_rest();
    run.world.settings.enabled = true;
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
        run.world.lag = seed as usize % 3;
        run.world.settings.max_surge = 1 + seed as u32 % 2;
        run.world.settings.force = seed % 5 == 0;
        run.run_for(20);
        for _ in 0..12 {
            cause_mishap(&mut run);
            let seconds = 5 + run.world.random_below(60) as u32;
            run.run_for(seconds);
        }
        end_mishaps(&mut run);
        run.run_for(1_500);
        let wanted = run.last.as_ref().unwrap().facts.desired;
        assert_eq!(run.reader_count() as u32, wanted, "seed {seed}");
        assert_eq!(
            run.reader_templates().into_iter().collect::<Vec<_>>(),
            [run.world.template.as_str()],
            "seed {seed}"
        );
        assert_eq!(run.served_viewers(), run.world.viewers.len(), "seed {seed}");
        assert!(run.world.cordons.is_empty(), "seed {seed}");
        assert!(run.degraded_reasons().is_empty(), "seed {seed}: {:?}", run.degraded_reasons());
        run.run_until_at_rest();
    }
}

fn cause_mishap(run: &mut SimulationRun) {
    let world = &mut run.world;
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
    let world = &mut run.world;
    world.answers = ManagerAnswers::Well;
    (world.failing, world.broken) = (0, None);
    world.settings.scale_in = true;
    world.viewers.iter_mut().for_each(|viewer| viewer.stuck = false);
    world.change_template("mended");
}
