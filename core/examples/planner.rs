//! Measures the planner: how evenly it loads the readers in chaos, and the time it takes.
//!
//! `cargo run --release --package liverank-core --example planner [all|chaos|cost] [seed]`.

#[path = "../tests/support/chaos.rs"]
#[allow(dead_code, reason = "shared with others, who use other parts of it")]
mod chaos;

use std::time::Instant;

use chaos::{Chaos, Round, heavy_tail, percentile};
use liverank_core::placement::{
    PlacementReader, PlacementVideo, PlanLimits, ReaderAvailability, Situation, ViewerMoveBudget, make_plan,
};
use liverank_core::{ReaderId, VideoId};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

fn main() {
    let which = std::env::args().nth(1);
    if which.as_deref() != Some("cost") {
        print_chaos_tables();
    }
    if which.as_deref() != Some("chaos") {
        measure_cost();
    }
}

fn print_chaos_tables() {
    let seed = std::env::args().nth(2).and_then(|seed| seed.parse().ok()).unwrap_or(1);
    println!("chaos: 1,000 rounds, 100 readers (80 to 120), 5,000 videos; max/mean\n");
    let header = ["p50", "p95", "p99", "max", "p50 before", "moved a round p50", "p95", "orders p50"];
    println!("{:<42}{}", "", header.map(|name| format!("{name:>18}")).join(""));
    let default = PlanLimits::default();
    for (name, limits) in [
        ("tolerance 1 %, no budget", chaos::tight()),
        ("tolerance 10 %, no budget", PlanLimits { budget: ViewerMoveBudget::without_limit(), ..default }),
        ("tolerance 10 %, 20,000 viewers a minute", default),
    ] {
        let run = chaos::run(&Chaos { seed, rounds: 1000, videos: 5000, limits }, |_, _| {});
        print_row(name, &run);
        if std::env::args().any(|arg| arg == "--events") {
            for event in ["start", "drift", "viral", "join", "leave", "die"] {
                let of: Vec<&Round> = run.iter().filter(|round| round.event == event).collect();
                let moved: u64 = of.iter().map(|round| round.moved).sum::<u64>() / of.len().max(1) as u64;
                let worst = of.iter().map(|round| round.after).max().unwrap_or(0);
                println!("    {event:<8}{:>5} rounds, {moved:>8} moved on average, worst {worst}", of.len());
            }
        }
        let viewers: u64 = run.iter().map(|round| round.viewers).sum::<u64>() / run.len() as u64;
        println!("    {viewers} viewers on average");
    }
}

fn print_row(name: &str, run: &[Round]) {
    let of = |field: fn(&Round) -> u64, per_mille| {
        percentile(&mut run.iter().map(field).collect::<Vec<u64>>(), per_mille)
    };
    let ratio = |millionths: u64| format!("{:>18.4}", millionths as f64 / 1e6);
    let count = |number: u64| format!("{number:>18}");
    let cells = [
        ratio(of(|round| round.after, 500)),
        ratio(of(|round| round.after, 950)),
        ratio(of(|round| round.after, 990)),
        ratio(of(|round| round.after, 1000)),
        ratio(of(|round| round.before, 500)),
        count(of(|round| round.moved, 500)),
        count(of(|round| round.moved, 950)),
        count(of(|round| round.orders as u64, 500)),
    ];
    println!("{name:<42}{}", cells.join(""));
}

/// Measures the time to place 90,000 videos with about 2,000,000 viewers on 200 readers from nothing, and to plan again
/// after every video's viewers changed by up to a fifth and one reader drained. Both times are compared with the time
/// to sort as many pairs.
fn measure_cost() {
    let mut random = StdRng::seed_from_u64(7);
    let situation = large_situation(&mut random);
    let limits = PlanLimits { budget: ViewerMoveBudget::without_limit(), ..PlanLimits::default() };
    let mut pairs: Vec<(u64, u32)> =
        situation.videos.iter().zip(0..).map(|(video, at)| (video.viewers(), at)).collect();
    pairs.shuffle(&mut random);
    let first = make_plan(&situation, &limits);
    let mut settled = situation.clone();
    settled.apply_plan(&first, 0);
    let shaken = change_situation(&settled, &mut random);

    let mut times: [Vec<u64>; 5] = Default::default();
    let mut result = [0_u64; 4];
    let tight = chaos::tight();
    for _ in 0..11 {
        let mut sorted = pairs.clone();
        times[0].push(measure_nanos(|| sorted.sort_unstable()));
        assert!(sorted.is_sorted());
        for (at, (situation, limits)) in
            [(&situation, &limits), (&settled, &limits), (&shaken, &limits), (&shaken, &tight)]
                .into_iter()
                .enumerate()
        {
            times[at + 1]
                .push(measure_nanos(|| result[at] = make_plan(situation, limits).orders.len() as u64));
        }
    }
    let medians = times.each_mut().map(|times| percentile(times, 500));
    println!("\ncost: 90,000 streams, {} viewers, 200 readers; medians of 11", first.before.viewers);
    println!("{:<44}{:>10.3} ms", "unstable sort of the pairs", medians[0] as f64 / 1e6);
    let names = [
        "placed from nothing",
        "nothing to do",
        "a reader gone, all loads shaken",
        "the same at tolerance 1 %",
    ];
    for (at, name) in names.into_iter().enumerate() {
        let ratio = medians[at + 1] as f64 / medians[0] as f64;
        let time = medians[at + 1] as f64 / 1e6;
        println!("{name:<44}{time:>10.3} ms {ratio:>8.1} sorts {:>8} orders", result[at]);
        assert!(ratio < 30.0, "planning costs less than 30 sorts");
    }
}

#[allow(clippy::disallowed_methods, reason = "it measures time")]
fn measure_nanos(work: impl FnOnce()) -> u64 {
    let start = Instant::now();
    work();
    start.elapsed().as_nanos() as u64
}

fn large_situation(random: &mut StdRng) -> Situation {
    let readers = (0..200).map(|at| PlacementReader {
        id: ReaderId::parse(&format!("reader-{at:03}")).expect("short and plain"),
        capacity: 20_000,
        standing: ReaderAvailability::Open,
    });
    let videos = (0..90_000_u32).map(|at| PlacementVideo {
        id: VideoId::parse(&format!("video-{at:05}")).expect("short and plain"),
        epoch: 0,
        changed: 0,
        waiting: if at % 45_000 == 7 { 100_000 + u64::from(at) } else { heavy_tail(random) * 7 / 10 },
        moving: false,
        parts: Vec::new(),
    });
    Situation { now: 1_800_000_000_000, readers: readers.collect(), videos: videos.collect() }
}

/// Changes every video's viewers by up to a fifth, and drains one reader.
fn change_situation(settled: &Situation, random: &mut StdRng) -> Situation {
    use rand::RngExt;
    let mut shaken = settled.clone();
    shaken.readers[17].standing = ReaderAvailability::Draining;
    for part in shaken.videos.iter_mut().flat_map(|video| &mut video.parts) {
        part.viewers = (part.viewers as f64 * random.random_range(0.8..1.2)) as u64;
    }
    shaken
}
