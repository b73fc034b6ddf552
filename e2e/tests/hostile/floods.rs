//! A test with a flood of each kind by one host, for a few seconds each: other clients are served, memory stays within
//! a bound, and afterwards the system is as before. `bench/floods` measures how well the others are served.

use std::time::{Duration, Instant};

use liverank_e2e::floods::{Flood, OrdinaryClientResults, measure_ordinary_client};
use liverank_e2e::up::{PublicPort, Up};
use liverank_e2e::wait;

/// The duration of a flood.
const FLOOD_TIME: Duration = Duration::from_secs(2);
/// The number of answers that others must get during a flood.
const MIN_ANSWERS: usize = 4;
/// The number of floods of a kind in which others must get so many: a busy machine may answer few requests in the time of
/// one.
const MAX_FLOODS: usize = 10;
/// The bound on the resident memory of the whole system in one process, in MiB.
const MAX_MEMORY_MIB: u64 = 400;
/// The time limit until the system is as before.
const RECOVERY_TIMEOUT: Duration = Duration::from_mins(1);
/// The number of open files by which the process may exceed its number from before the flood, once the flood's
/// connections are closed: connections between the system's own parts.
const MAX_OTHER_FILES: usize = 64;

/// Floods the system and measures ordinary clients meanwhile. Returns their results, the number of beginnings of the
/// flood, and the greatest memory in MiB.
async fn run_under_flood(up: &Up, flood: Flood) -> (OrdinaryClientResults, usize, u64) {
    let end = Instant::now() + FLOOD_TIME;
    let (gateway, mut most) = (up.address(PublicPort::Gateway), 0);
    let looking = async {
        while Instant::now() < end {
            most = up.process.resident_kib().max(most);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let (began, served, ()) =
        tokio::join!(flood.run(gateway, end), measure_ordinary_client(gateway, end), looking);
    (served, began, most / 1024)
}

#[tokio::test]
async fn one_host_keeps_nobody_else_from_being_served() {
    let up = Up::start().await;
    up.round_trip().await;
    let before = up.process.open_files();
    for flood in Flood::ALL {
        let name = flood.name();
        let (mut served, mut began, mut most) = run_under_flood(&up, flood).await;
        for _ in 1..MAX_FLOODS {
            if served.times.len() >= MIN_ANSWERS {
                break;
            }
            let again = run_under_flood(&up, flood).await;
            served.times.extend(again.0.times);
            served.times.sort_unstable();
            served.wrong.extend(again.0.wrong);
            (began, most) = (began + again.1, most.max(again.2));
        }
        println!(
            "{name}: began {began} times; others: {} requests, p50 {:?}, slowest {:?}; {most} MiB",
            served.times.len(),
            served.quantile(0.5),
            served.quantile(1.0)
        );
        assert!(began >= 8, "{name}: there was no flood");
        assert!(served.wrong.is_empty(), "{name}: others were told {:?}", served.wrong);
        assert!(served.times.len() >= MIN_ANSWERS, "{name}: others had {} answers", served.times.len());
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
