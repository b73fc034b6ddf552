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
//! | [`moderator`] | comments, deletes, bans, likes and takes back, and keeps what was acknowledged |
//! | [`inject`] | carries out faults |
//! | [`disk`] | fills the disk of a separate process |
//! | [`rest`] | waits until the system is at rest, and compares it with the load |
//! | [`moderated`] | looks for what the moderator did: bans hold, what was deleted is nowhere |
//! | [`recount`] | counts the log in a way of its own (pure) |
//! | [`declared`] | compares every declared board with that count, and the hour that ended with its result |
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
mod declared;
mod disk;
mod inject;
mod kafka;
mod moderated;
mod moderator;
mod mongo;
mod parts;
mod proxy;
mod recount;
mod redis;
mod report;
mod rest;
mod schedule;
mod system;
mod traffic;

use disk::FullDiskSystem;
use inject::FaultInjector;
use kafka::Topic;
use moderator::Moderator;
use parts::RealStores;
use report::RunReport;
use rest::RestChecker;
use schedule::{Fault, FaultKind, Schedule};
use system::System;
use traffic::{Load, Traffic};

/// The number of partitions of the log.
const PARTITION_COUNT: usize = 12;
/// The time limit, after the last fault of a round, until all posts are acknowledged, and until the system is at rest.
const AT_REST_TIMEOUT: Duration = Duration::from_mins(2);
/// The time limit until ranked lists show what is on the boards.
const LISTS_TIMEOUT: Duration = Duration::from_mins(1);
/// The time between the last fault of a round and the end of the load, so that the system also recovers under load.
const LOAD_AFTER_FAULTS: Duration = Duration::from_millis(500);

/// The time from the beginning of the load until an hour ends: what happened in it comes under the first faults, and half
/// a minute later still. The board of that hour is compared with the log once
/// the hour is final, a minute and a half after the hour's end.
const HOUR_ENDS_AFTER: Duration = Duration::from_secs(3);

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
    kinds: Vec<FaultKind>,
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
    let story = RunReport::new(args.seed);
    let kept = args.directory.is_some();
    let directory = args
        .directory
        .clone()
        .unwrap_or_else(|| std::env::temp_dir().join(format!("liverank-faults-{}", std::process::id())));
    let kinds = if args.kinds.is_empty() { FaultKind::all().to_vec() } else { args.kinds.clone() };
    story.print_line(&format!("seed {}; logs in {}", args.seed, directory.display()));
    let run = run_schedule(&args, &kinds, &directory, &story);
    let outcome = tokio::select! {
        outcome = run => outcome,
        () = wait_for_end_signal() => Err(anyhow::anyhow!("asked to end")),
    };
    let outcome = outcome.and_then(|()| {
        let remarks = story.failures();
        ensure!(remarks.is_empty(), "all counts are right; {}", remarks.join("; "));
        Ok(())
    });
    let right = outcome.is_ok();
    if let Err(error) = &outcome {
        story.report_failed_round(story.passed_rounds() + 1, &[format!("{error:#}")]);
    }
    let numbers = story.finish(right);
    let written = args.json.as_ref().map(|file| std::fs::write(file, format!("{numbers:#}\n")));
    if let Some(Err(error)) = written {
        story.print_line(&format!("the numbers cannot be written: {error}"));
    }
    if right && !kept {
        // Files that cannot be removed do no harm in the temporary directory.
        let _ = std::fs::remove_dir_all(&directory);
    } else {
        story.print_line(&format!("logs are in {}", directory.display()));
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

/// Starts the stores and the system, runs rounds of faults until the number or the time is reached, and verifies the
/// end.
async fn run_schedule(
    args: &FaultsArgs,
    kinds: &[FaultKind],
    directory: &Path,
    report: &RunReport,
) -> anyhow::Result<()> {
    ensure!(!kinds.is_empty(), "no kinds of faults");
    std::fs::create_dir_all(directory)?;
    report.print_line(&format!("the binary is {}", liverank_e2e::binary().display()));
    let prefix = "f-";
    let parts = RealStores::start(directory.join("parts")).await.context("starting the parts")?;
    report.print_line("Kafka, Redis and MongoDB are up");
    let system = System::start(&parts, prefix, directory).await.context("starting the system")?;
    let topic =
        Topic::open(parts.kafka_port(), &format!("{prefix}video_interactions"), PARTITION_COUNT).await?;
    let world = Arc::clone(&system.clock);
    let traffic =
        Arc::new(Traffic::new("v", &system.gateways, &system.managers, &args.load, args.seed, world)?);
    traffic.begin(AT_REST_TIMEOUT).await?;
    let moderator =
        Moderator::begin(&system.gateways, &system.comment_services).await.context("the moderator")?;
    let hour_end_ms = system.end_hour_after(HOUR_ENDS_AFTER)?;
    Arc::clone(&moderator).moderate(Arc::clone(&traffic));
    traffic.generate(&args.load, Some(topic.clone()));
    let disk = if kinds.contains(&FaultKind::DiskFull) {
        Some(FullDiskSystem::start(directory, args.seed).await?)
    } else {
        None
    };
    report.print_line("the system is up, and its viewers are connected");
    let bench =
        FaultInjector { parts: &parts, system: &system, traffic: &traffic, disk: disk.as_ref(), report };
    let examiner = RestChecker { parts: &parts, system: &system, traffic: &traffic, topic: &topic, prefix };
    let mut schedule = Schedule::new(args.seed, kinds, args.round as usize);
    let began = Instant::now();
    for round in 1.. {
        let left = args.faults.saturating_sub(report.fault_count() as usize);
        let late = args.seconds.is_some_and(|seconds| began.elapsed().as_secs() >= seconds);
        if left == 0 || late {
            break;
        }
        run_round(round, schedule.next_round(left), &bench, &examiner, &moderator).await?;
    }
    let sizes = examiner.compare_declared(hour_end_ms, &moderator, LISTS_TIMEOUT).await?;
    report.print_line(&format!("every declared board is as the log makes it: {sizes:?}"));
    system.verify().await?;
    report.print_line("liverank verify finds nothing, either");
    if let Some(disk) = &disk {
        disk.compare().await.context("the embedded stores")?;
    }
    Ok(())
}

/// Carries out a round of faults, waits until the system is at rest, and compares everything with the load.
async fn run_round(
    round: usize,
    groups: Vec<Vec<Fault>>,
    bench: &FaultInjector<'_>,
    examiner: &RestChecker<'_>,
    moderator: &Moderator,
) -> anyhow::Result<()> {
    let story = bench.report;
    bench.parts.copy_redis().await?;
    bench.traffic.turn_on();
    for group in &groups {
        let faults = group.iter().map(|fault| async move {
            tokio::time::sleep(fault.delay).await;
            let began = Instant::now();
            let words = bench.carry_out(fault).await?;
            story.report_fault(fault.kind, began, &words);
            anyhow::Ok(())
        });
        futures::future::try_join_all(faults).await?;
    }
    tokio::time::sleep(LOAD_AFTER_FAULTS).await;
    let began = Instant::now();
    bench.traffic.turn_off(AT_REST_TIMEOUT).await?;
    examiner.wait_until_at_rest(AT_REST_TIMEOUT).await?;
    let rest = began.elapsed();
    let mut different = examiner.compare(LISTS_TIMEOUT).await?;
    different.extend(examiner.compare_moderation(moderator, LISTS_TIMEOUT).await?);
    bench.system.check_all_running().await?;
    ensure!(different.is_empty(), "{}", different.join("\n"));
    story.report_passed_round(round, rest, bench.traffic.record.counts.sent.load(Relaxed));
    Ok(())
}
