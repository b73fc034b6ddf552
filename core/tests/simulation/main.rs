//! The simulation of the whole hand-over protocol on virtual time: managers, readers, viewers and planners around the
//! machines of `liverank_core::handover`. The store fails over and comes back empty; the network loses, delays,
//! repeats and reorders messages; processes die half way. Readers are removed while their processes linger, with or
//! without notice to the managers, and managers are replaced meanwhile. Managers are starved of processor time, and
//! the machine stops and goes on. A run is a function of its seed.
//!
//! The simulation checks after every step: each epoch was minted for one assignment; nobody acts on an epoch older
//! than one it has heard of; no viewer is sent to a reader that is not warm; no reader that is alive is taken for
//! gone; no viewer is without a stream for more than 10 s; each viewer is sent every comment once and in order, with
//! gaps only if it was away for longer than a ring reaches back. When all is calm, all processes agree and each viewer
//! has every comment.
//!
//! A failing seed prints the end of its trace. To run one seed alone:
//! `LIVERANK_SEED=17 cargo test --release -p liverank-core --test simulation one_seed -- --nocapture`

mod checks;
mod manager;
mod net;
mod planner;
mod reader;
mod rng;
mod room;
mod store;
mod view;
mod viewer;
mod world;

use std::ops::Range;

use checks::Counts;
use world::World;

/// The number of seeds that are run by default. Without optimisation, a run takes ten times as long.
const SEEDS_RUN: u64 = if cfg!(debug_assertions) { 200 } else { 2_500 };
/// The number of trace lines that are shown of a failing seed.
const TRACE_LINES_SHOWN: usize = 150;

/// Returns the seeds to run: the first [`SEEDS_RUN`], or those that `LIVERANK_SEEDS=2500..20000` names.
fn seeds_to_run() -> Range<u64> {
    let Some(named) = variable_value("LIVERANK_SEEDS") else { return 0..SEEDS_RUN };
    let (from, to) = named.split_once("..").expect("FROM..TO");
    from.parse().expect("a number")..to.parse().expect("a number")
}

#[expect(clippy::disallowed_methods, reason = "a person names seeds; the simulation itself asks nothing")]
fn variable_value(variable: &str) -> Option<String> {
    std::env::var(variable).ok()
}

fn explain_violation(seed: u64, violation: &str) -> String {
    let mut world = World::new(seed, true);
    let _ = world.run();
    let trace = world.trace();
    let from = trace.len().saturating_sub(TRACE_LINES_SHOWN);
    format!("seed {seed}: {violation}\nthe trace before it:\n{}", trace[from..].join("\n"))
}

#[test]
fn nothing_is_lost_repeated_or_left_behind_for_any_seed() {
    let mut all = Counts::default();
    let mut failed = Vec::new();
    let seeds = seeds_to_run();
    let count = seeds.end - seeds.start;
    for seed in seeds {
        match World::new(seed, false).run() {
            Ok(counts) => all.add(&counts),
            Err(violation) => failed.push((seed, violation)),
        }
    }
    if let Some((seed, violation)) = failed.first() {
        let others: Vec<String> = failed.iter().map(|(seed, what)| format!("seed {seed}: {what}")).collect();
        panic!(
            "{}\n{} of {count} seeds:\n{}",
            explain_violation(*seed, violation),
            failed.len(),
            others.join("\n")
        );
    }
    println!("{count} seeds: {all:#?}");
    // A run in which nothing happened would prove nothing.
    for (what, times, at_least) in [
        ("viewers handed over", all.handed_over, count),
        ("viewers over a reader's share moved", all.shed, count / 10),
        ("resumes before any comment", all.before_any_comment, count / 2),
        ("gaps", all.gaps, count / 50),
        ("orders carried out", all.swaps, count),
        ("races lost", all.races_lost, count / 50),
        ("videos of dead readers given to others", all.reassigned, count / 4),
        ("assignments lost by the store and minted anew", all.reminted, count / 20),
        ("words of an older epoch", all.old_words, count / 500),
        ("drains", all.drains, count / 4),
        ("readers removed by word of the operator", all.removals, count / 20),
        ("readers whose address leads nowhere", all.unreachable, count / 20),
        ("readers that end before their record does", all.early_ends, count / 50),
        ("managers replaced while a reader leaves", all.managers_replaced, count / 20),
        ("managers that stand still", all.managers_paused, count / 20),
        ("managers that starve", all.managers_starved, count / 20),
        ("machines that stop", all.machine_stops, count / 20),
        ("readers that leave while the others are full", all.crowded_leaves, count / 100),
        ("viewers refused by full readers", all.refused_full, count / 20),
    ] {
        assert!(times >= at_least, "{what}: {times} in {count} seeds, which shows nothing");
    }
}

/// Two runs of the same seed are equal.
#[test]
fn a_simulation_run_is_determined_by_its_seed() {
    let traced = || {
        let mut world = World::new(3, true);
        let _ = world.run();
        world.trace()
    };
    assert_eq!(traced(), traced());
}

/// Runs one seed and prints its whole trace, for a person to read.
#[test]
fn run_one_seed() {
    let seed = variable_value("LIVERANK_SEED").map_or(0, |seed| seed.parse().expect("a number"));
    let mut world = World::new(seed, true);
    let outcome = world.run();
    println!("{}", world.trace().join("\n"));
    println!("seed {seed}: {outcome:#?}");
    outcome.expect("no violation");
}
