//! The fault tests: the whole system on real stores, under a steady load, while processes, stores, networks, clocks
//! and disks fail. Afterwards every event must count exactly once.
//!
//! | module | does |
//! |---|---|
//! | [`schedule`] | draws the faults and their times from the seed (pure) |
//! | [`parts`] | runs Kafka, Redis and three mongods of the test's own |
//! | [`proxy`] | is the network between the stores and our processes |
//! | [`system`] | runs several processes of each role |
//! | [`clock`] | makes the processes' clocks jump |
//! | [`traffic`] | posts the load and runs the viewers |
//! | [`inject`] | carries out faults |
//! | [`disk`] | fills the disk of a separate process |
//! | [`rest`] | waits until the system is at rest, and compares it with the load |
//! | [`mongo`], [`redis`], [`kafka`] | read the stores by clients other than the system's |
//! | [`report`] | prints what happened |

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

mod clock;
mod disk;
mod inject;
mod kafka;
mod mongo;
mod parts;
mod proxy;
mod redis;
mod report;
mod rest;
mod schedule;
mod system;
mod traffic;

use disk::Disk;
use inject::Bench;
use kafka::Topic;
use parts::Parts;
use report::Story;
use rest::Examiner;
use schedule::{Fault, Kind, Schedule};
use system::System;
use traffic::{Load, Traffic};

/// The number of partitions of the log.
const PARTITION_COUNT: usize = 12;
/// The time limit, after the last fault of a round, until all posts are acknowledged, and until the system is at rest.
const REST_TIMEOUT: Duration = Duration::from_mins(2);
/// The time limit until ranked lists show what is on the boards.
const LISTS_TIMEOUT: Duration = Duration::from_secs(15);
/// The time between the last fault of a round and the end of the load, so that the system also recovers under load.
const LOAD_AFTER_FAULTS: Duration = Duration::from_millis(500);

/// Runs faults under load, on real stores.
#[derive(Debug, Parser)]
struct FaultsArgs {
    /// The seed, on which alone the schedule of the faults depends.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The number of faults.
    #[arg(long, default_value_t = 230)]
    faults: usize,
    /// Only faults of these kinds.
    #[arg(long, value_delimiter = ',', value_enum)]
    kinds: Vec<Kind>,
    /// No new round after so many seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// Faults a round; after each the system comes to rest and everything is compared.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=1000))]
    round: u32,
    /// Directory of logs and data; removed in the end if all was right and this was not given.
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Writes the numbers to this file as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    #[command(flatten)]
    load: Load,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = FaultsArgs::parse();
    let story = Story::new(args.seed);
    let kept = args.directory.is_some();
    let directory = args
        .directory
        .clone()
        .unwrap_or_else(|| std::env::temp_dir().join(format!("liverank-faults-{}", std::process::id())));
    let kinds = if args.kinds.is_empty() { Kind::all().to_vec() } else { args.kinds.clone() };
    story.say(&format!("seed {}; logs in {}", args.seed, directory.display()));
    let run = run_schedule(&args, &kinds, &directory, &story);
    let outcome = tokio::select! {
        outcome = run => outcome,
        () = wait_for_end_signal() => Err(anyhow::anyhow!("asked to end")),
    };
    let outcome = outcome.and_then(|()| {
        let remarks = story.remarks();
        ensure!(remarks.is_empty(), "all counts are right; {}", remarks.join("; "));
        Ok(())
    });
    let right = outcome.is_ok();
    if let Err(error) = &outcome {
        story.wrong(story.rounds() + 1, &[format!("{error:#}")]);
    }
    let numbers = story.end(right);
    let written = args.json.as_ref().map(|file| std::fs::write(file, format!("{numbers:#}\n")));
    if let Some(Err(error)) = written {
        story.say(&format!("the numbers cannot be written: {error}"));
    }
    if right && !kept {
        // Files that cannot be removed do no harm in the temporary directory.
        let _ = std::fs::remove_dir_all(&directory);
    } else {
        story.say(&format!("logs are in {}", directory.display()));
    }
    story.tally(right);
    if right { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn wait_for_end_signal() {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// Starts the stores and the system, runs rounds of faults until the number or the time is reached, and verifies the
/// end.
async fn run_schedule(
    args: &FaultsArgs,
    kinds: &[Kind],
    directory: &Path,
    story: &Story,
) -> anyhow::Result<()> {
    ensure!(!kinds.is_empty(), "no kinds of faults");
    std::fs::create_dir_all(directory)?;
    story.say(&format!("the binary is {}", liverank_e2e::binary().display()));
    let prefix = "f-";
    let parts = Parts::start(directory.join("parts")).await.context("starting the parts")?;
    story.say("Kafka, Redis and MongoDB are up");
    let system = System::start(&parts, prefix, directory).await.context("starting the system")?;
    let topic =
        Topic::open(parts.kafka_port(), &format!("{prefix}video_interactions"), PARTITION_COUNT).await?;
    let traffic = Arc::new(Traffic::new("v", &system.gateways, &system.managers, &args.load, args.seed)?);
    traffic.begin(REST_TIMEOUT).await?;
    traffic.generate(&args.load, Some(topic.clone()));
    let disk =
        if kinds.contains(&Kind::DiskFull) { Some(Disk::start(directory, args.seed).await?) } else { None };
    story.say("the system is up, and its viewers are connected");
    let bench = Bench { parts: &parts, system: &system, traffic: &traffic, disk: disk.as_ref(), story };
    let examiner = Examiner { parts: &parts, system: &system, traffic: &traffic, topic: &topic, prefix };
    let mut schedule = Schedule::new(args.seed, kinds, args.round as usize);
    let began = Instant::now();
    for round in 1.. {
        let left = args.faults.saturating_sub(story.faults() as usize);
        let late = args.seconds.is_some_and(|seconds| began.elapsed().as_secs() >= seconds);
        if left == 0 || late {
            break;
        }
        run_round(round, schedule.round(left), &bench, &examiner, story).await?;
    }
    system.verify().await?;
    story.say("liverank verify finds nothing, either");
    if let Some(disk) = &disk {
        disk.compare().await.context("the embedded stores")?;
    }
    Ok(())
}

/// Carries out a round of faults, waits until the system is at rest, and compares everything with the load.
async fn run_round(
    round: usize,
    groups: Vec<Vec<Fault>>,
    bench: &Bench<'_>,
    examiner: &Examiner<'_>,
    story: &Story,
) -> anyhow::Result<()> {
    bench.parts.copy_redis().await?;
    bench.traffic.on();
    for group in &groups {
        let faults = group.iter().map(|fault| async move {
            tokio::time::sleep(fault.after).await;
            let began = Instant::now();
            let words = bench.carry_out(fault).await?;
            story.fault(fault.kind, began, &words);
            anyhow::Ok(())
        });
        futures::future::try_join_all(faults).await?;
    }
    tokio::time::sleep(LOAD_AFTER_FAULTS).await;
    let began = Instant::now();
    bench.traffic.off(REST_TIMEOUT).await?;
    examiner.rest(REST_TIMEOUT).await?;
    let rest = began.elapsed();
    let different = examiner.compare(LISTS_TIMEOUT).await?;
    bench.system.check().await?;
    ensure!(different.is_empty(), "{}", different.join("\n"));
    story.right(round, rest, bench.traffic.record.counts.sent.load(Relaxed));
    Ok(())
}
