//! The whole system on real parts, under a steady load, while everything dies that can: and every event counts exactly
//! once.
//!
//! | module | does |
//! |---|---|
//! | [`schedule`] | which faults come when, from the seed (pure) |
//! | [`parts`] | Kafka, Redis and three mongods of our own |
//! | [`ports`] | where they listen |
//! | [`proxy`] | the network between them and our processes |
//! | [`system`] | several of each of our processes |
//! | [`clock`] | their clocks |
//! | [`traffic`] | the load, and the viewers |
//! | [`inject`] | carries faults out |
//! | [`disk`] | the full disk, under a process of its own |
//! | [`rest`] | waits for rest, and compares |
//! | [`mongo`], [`redis`], [`kafka`] | look into the stores with other eyes than the system's |
//! | [`report`] | says how it went |

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
mod ports;
mod proxy;
mod redis;
mod report;
mod rest;
mod schedule;
mod system;
mod traffic;

use disk::SmallDisk;
use inject::FaultBench;
use kafka::FaultTopic;
use parts::RealParts;
use report::RunStory;
use rest::SystemExaminer;
use schedule::{FaultKind, FaultSchedule, PlannedFault};
use system::FaultSystem;
use traffic::{SystemTraffic, TrafficLoad};

/// Partitions of the log.
const PARTITION_COUNT: usize = 12;
/// How long posts may take to be acknowledged, and the system to come to rest, after the last fault of a round.
const REST_TIMEOUT: Duration = Duration::from_mins(2);
/// How long lists may take to follow the boards.
const LISTS_TIMEOUT: Duration = Duration::from_secs(15);
/// The load goes on for so long between the last fault of a round and its end, so that rest is not all that heals.
const LOAD_AFTER_FAULTS: Duration = Duration::from_millis(500);

/// Faults, under load, on real parts.
#[derive(Debug, Parser)]
struct FaultsArgs {
    /// Which faults come when depends on it alone.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// So many faults.
    #[arg(long, default_value_t = 230)]
    faults: usize,
    /// Of these kinds.
    #[arg(long, value_delimiter = ',', value_enum)]
    kinds: Vec<FaultKind>,
    /// No new round after so many seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// Faults a round; after each the system comes to rest and everything is compared.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=1000))]
    round: u32,
    /// Where logs and data go; removed in the end where all was right and this was not given.
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Writes the numbers to this file as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    #[command(flatten)]
    load: TrafficLoad,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = FaultsArgs::parse();
    let story = RunStory::new(args.seed);
    let kept = args.directory.is_some();
    let directory = args
        .directory
        .clone()
        .unwrap_or_else(|| std::env::temp_dir().join(format!("liverank-faults-{}", std::process::id())));
    let kinds = if args.kinds.is_empty() { FaultKind::all_kinds().to_vec() } else { args.kinds.clone() };
    story.say_line(&format!("seed {}; logs in {}", args.seed, directory.display()));
    let run = run_schedule(&args, &kinds, &directory, &story);
    let outcome = tokio::select! {
        outcome = run => outcome,
        () = wait_for_end_signal() => Err(anyhow::anyhow!("asked to end")),
    };
    let outcome = outcome.and_then(|()| {
        let remarks = story.all_remarks();
        ensure!(remarks.is_empty(), "all counts are right; {}", remarks.join("; "));
        Ok(())
    });
    let right = outcome.is_ok();
    if let Err(error) = &outcome {
        story.note_wrong_round(story.round_count() + 1, &[format!("{error:#}")]);
    }
    let numbers = story.print_end(right);
    let written = args.json.as_ref().map(|file| std::fs::write(file, format!("{numbers:#}\n")));
    if let Some(Err(error)) = written {
        story.say_line(&format!("the numbers cannot be written: {error}"));
    }
    if right && !kept {
        // What cannot be removed does no harm there.
        let _ = std::fs::remove_dir_all(&directory);
    } else {
        story.say_line(&format!("logs are in {}", directory.display()));
    }
    story.print_tally(right);
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

/// Runs the schedule.
async fn run_schedule(
    args: &FaultsArgs,
    kinds: &[FaultKind],
    directory: &Path,
    story: &RunStory,
) -> anyhow::Result<()> {
    ensure!(!kinds.is_empty(), "no kinds of faults");
    std::fs::create_dir_all(directory)?;
    story.say_line(&format!("the binary is {}", liverank_e2e::binary_path().display()));
    let prefix = "f-";
    let parts = RealParts::start_parts(directory.join("parts")).await.context("starting the parts")?;
    story.say_line("Kafka, Redis and MongoDB are up");
    let system = FaultSystem::start_system(&parts, prefix, directory).await.context("starting the system")?;
    let topic =
        FaultTopic::open_topic(parts.kafka_port(), &format!("{prefix}video_interactions"), PARTITION_COUNT)
            .await?;
    let traffic =
        Arc::new(SystemTraffic::new("v", &system.gateways, &system.managers, &args.load, args.seed)?);
    traffic.create_videos_and_connect(REST_TIMEOUT).await?;
    traffic.start_generators(&args.load, Some(topic.clone()));
    let disk = if kinds.contains(&FaultKind::DiskFull) {
        Some(SmallDisk::start(directory, args.seed).await?)
    } else {
        None
    };
    story.say_line("the system is up, and its viewers are connected");
    let bench = FaultBench { parts: &parts, system: &system, traffic: &traffic, disk: disk.as_ref(), story };
    let examiner =
        SystemExaminer { parts: &parts, system: &system, traffic: &traffic, topic: &topic, prefix };
    let mut schedule = FaultSchedule::new(args.seed, kinds, args.round as usize);
    let began = Instant::now();
    for round in 1.. {
        let left = args.faults.saturating_sub(story.fault_count() as usize);
        let late = args.seconds.is_some_and(|seconds| began.elapsed().as_secs() >= seconds);
        if left == 0 || late {
            break;
        }
        run_round(round, schedule.next_round(left), &bench, &examiner, story).await?;
    }
    system.run_verify().await?;
    story.say_line("liverank verify finds nothing, either");
    if let Some(disk) = &disk {
        disk.compare_acknowledged().await.context("the embedded stores")?;
    }
    Ok(())
}

/// Lets a round of faults happen, and compares everything when all is at rest.
async fn run_round(
    round: usize,
    groups: Vec<Vec<PlannedFault>>,
    bench: &FaultBench<'_>,
    examiner: &SystemExaminer<'_>,
    story: &RunStory,
) -> anyhow::Result<()> {
    bench.parts.copy_redis().await?;
    bench.traffic.resume_load();
    for group in &groups {
        let faults = group.iter().map(|fault| async move {
            tokio::time::sleep(fault.after).await;
            let began = Instant::now();
            let words = bench.carry_out_fault(fault).await?;
            story.note_fault(fault.kind, began, &words);
            anyhow::Ok(())
        });
        futures::future::try_join_all(faults).await?;
    }
    tokio::time::sleep(LOAD_AFTER_FAULTS).await;
    let began = Instant::now();
    bench.traffic.pause_load(REST_TIMEOUT).await?;
    examiner.wait_until_at_rest(REST_TIMEOUT).await?;
    let rest = began.elapsed();
    let different = examiner.compare_all(LISTS_TIMEOUT).await?;
    bench.system.check_all_run().await?;
    ensure!(different.is_empty(), "{}", different.join("\n"));
    story.note_right_round(round, rest, bench.traffic.record.counts.sent.load(Relaxed));
    Ok(())
}
