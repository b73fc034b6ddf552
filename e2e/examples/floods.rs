//! A benchmark, started by `bench/floods`: latencies of ordinary clients while one host floods the system, compared
//! with latencies without a flood.
//!
//! Run it by `cargo run --release -p liverank-e2e --example floods -- [seconds of each flood] [name of one flood]`,
//! with the binary in `LIVERANK_BIN`.
//! Prints a line for each flood: p50 and p99 of the ordinary clients' requests, the ratio of p99 to p99 before the
//! flood, and memory before, at most and afterwards. The exit code is 1 if a request of an ordinary client was
//! refused, or if memory exceeded its bound.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use liverank_e2e::floods::{Flood, OrdinaryClientResults, measure_ordinary_client};
use liverank_e2e::up::{PublicPort, Up};

/// The bound on the resident memory of the whole system in one process, in MiB.
const MAX_MEMORY_MIB: u64 = 1024;
/// The wait after a flood before memory is read again: by then connections are closed and buffers returned.
const REST_AFTER_FLOOD: Duration = Duration::from_secs(12);

/// Measures requests of ordinary clients until `end`; returns their results, and the greatest memory of the system, in
/// MiB.
async fn measure_others(up: &Up, end: Instant) -> (OrdinaryClientResults, u64) {
    let mut most = 0;
    let looking = async {
        while Instant::now() < end {
            most = up.process.resident_kib().max(most);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let (served, ()) = tokio::join!(measure_ordinary_client(up.address(PublicPort::Gateway), end), looking);
    (served, most / 1024)
}

fn quantile_millis(served: &OrdinaryClientResults, part: f64) -> f64 {
    served.quantile(part).as_secs_f64() * 1e3
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let seconds = std::env::args().nth(1).map_or(Ok(120), |text| text.parse()).context("seconds")?;
    let time = Duration::from_secs(seconds);
    let only = std::env::args().nth(2);
    let floods: Vec<Flood> = Flood::ALL
        .into_iter()
        .filter(|flood| only.as_ref().is_none_or(|only| flood.name() == only))
        .collect();
    ensure!(!floods.is_empty(), "no flood is called so: {}", Flood::ALL.map(Flood::name).join(", "));
    let mut wrong = Vec::new();
    println!(
        "{:<28} {:>9} {:>8} {:>8} {:>7} {:>20}",
        "flood", "requests", "p50 ms", "p99 ms", "ratio", "MiB before/most/after"
    );
    for flood in floods {
        // Each flood gets a new system, so that it is not affected by what the flood before it left.
        let up = Up::start().await;
        up.round_trip().await;
        let before = up.process.resident_kib() / 1024;
        let (calm, _) = measure_others(&up, Instant::now() + time / 4).await;
        let end = Instant::now() + time;
        let (began, (served, most)) =
            tokio::join!(flood.run(up.address(PublicPort::Gateway), end), measure_others(&up, end));
        up.round_trip().await;
        tokio::time::sleep(REST_AFTER_FLOOD).await;
        let after = up.process.resident_kib() / 1024;
        let ratio = quantile_millis(&served, 0.99) / quantile_millis(&calm, 0.99).max(0.1);
        println!(
            "{:<28} {:>9} {:>8.1} {:>8.1} {ratio:>7.2} {:>20}",
            flood.name(),
            served.times.len(),
            quantile_millis(&served, 0.5),
            quantile_millis(&served, 0.99),
            format!("{before}/{most}/{after}")
        );
        println!(
            "  calm: p50 {:.1} ms, p99 {:.1} ms; the flood began {began} times",
            quantile_millis(&calm, 0.5),
            quantile_millis(&calm, 0.99)
        );
        if let Some(first) = served.wrong.first() {
            wrong.push(format!(
                "{}: {} others were refused, the first with {first}",
                flood.name(),
                served.wrong.len()
            ));
        }
        if most > MAX_MEMORY_MIB {
            wrong.push(format!("{}: {most} MiB", flood.name()));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}
