//! Floods of every sort by one host, a few seconds each: others are served, memory has a bound, and when it is over all is as
//! before. How well others are served is measured by `bench/floods`.

use std::time::{Duration, Instant};

use liverank_e2e::floods::{Flood, Served, others};
use liverank_e2e::up::{Door, Up};
use liverank_e2e::wait;

/// How long each flood goes on.
const FLOOD_TIME: Duration = Duration::from_secs(2);
/// Of the whole system in one process, whatever one host does.
const MAX_MEMORY_MIB: u64 = 400;
/// How long the system may take to be as before.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(20);
/// Files that may be open besides those from before: connections of its own parts to each other.
const MAX_OTHER_FILES: usize = 64;

/// How others were served meanwhile, how often the flood began, and the most memory.
async fn run_under_flood(up: &Up, flood: Flood) -> (Served, usize, u64) {
    let end = Instant::now() + FLOOD_TIME;
    let (gateway, mut most) = (up.address(Door::Gateway), 0);
    let looking = async {
        while Instant::now() < end {
            most = up.process.resident_kib().max(most);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let (began, served, ()) = tokio::join!(flood.run(gateway, end), others(gateway, end), looking);
    (served, began, most / 1024)
}

#[tokio::test]
async fn one_host_keeps_nobody_else_from_being_served() {
    let up = Up::start().await;
    up.round_trip().await;
    let before = up.process.open_files();
    for flood in Flood::ALL {
        let name = flood.name();
        let (served, began, most) = run_under_flood(&up, flood).await;
        println!(
            "{name}: began {began} times; others: {} requests, p50 {:?}, slowest {:?}; {most} MiB",
            served.times.len(),
            served.quantile(0.5),
            served.quantile(1.0)
        );
        assert!(began >= 8, "{name}: there was no flood");
        assert!(served.wrong.is_empty(), "{name}: others were told {:?}", served.wrong);
        assert!(served.times.len() >= 4, "{name}: others had {} answers", served.times.len());
        assert!(most <= MAX_MEMORY_MIB, "{name}: {most} MiB");
        let over = Instant::now();
        up.round_trip().await;
        wait::until(&format!("after {name}: its connections are closed"), RECOVERY_TIMEOUT, || async {
            (up.process.open_files() <= before + MAX_OTHER_FILES).then_some(())
        })
        .await;
        println!("  as before after {:?}", over.elapsed());
    }
}
