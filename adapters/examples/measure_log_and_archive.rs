//! Measures the duration of appends and commits on the real stores:
//! `cargo run --release --example measure_log_and_archive`, with the environment that `testbed/testbed env` prints.
//! Prints the results to the standard output.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures::future::join_all;
use liverank_adapters::archive::mongodb::{MongoArchive, MongoConfig};
use liverank_adapters::event_log::kafka::{KafkaConfig, KafkaLog};
use liverank_adapters::event_log::{ConsumerEvent, ReadStart};
use liverank_adapters::{Archive, EventLog};
use liverank_core::Interaction;
use liverank_core::counting::{Batch, CountingRules, LogRecord, OffsetRange};
use mongodb::bson::doc;
use serde_json::json;

const RUN_TIME: Duration = Duration::from_secs(5);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    tokio::runtime::Runtime::new()?.block_on(async {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis();
        measure_appends(&format!("measure-{now}")).await?;
        measure_commits(&format!("measure-{now}")).await?;
        measure_unique_commits(&format!("measure-{now}-once")).await
    })
}

fn percentile(sorted: &[Duration], share: f64) -> Duration {
    sorted[((sorted.len() - 1) as f64 * share) as usize]
}

async fn measure_appends(name: &str) -> Result<(), Box<dyn std::error::Error>> {
    let mut config = KafkaConfig::new(std::env::var("LIVERANK_TEST_KAFKA")?);
    config.topic = name.to_owned();
    config.group = name.to_owned();
    let log = Arc::new(KafkaLog::new(config)?);
    log.open().await?;
    for appenders in [1, 64, 1024] {
        let end = Instant::now() + RUN_TIME;
        let tasks = (0..appenders).map(|at| {
            let log = Arc::clone(&log);
            tokio::spawn(async move {
                let mut took = Vec::new();
                while Instant::now() < end {
                    let video = format!("video-{}", (at * 31 + took.len()) % 300);
                    let value = json!({"video_id": video, "user_id": format!("user-{at}"), "type": "watch_time",
                        "watch_time": 2.5, "timestamp": 1_700_000_000, "event_id": format!("{at}-{}", took.len())});
                    let begun = Instant::now();
                    let appended = log.append(video.as_bytes(), value.to_string().into_bytes()).await;
                    appended.map_err(|error| error.to_string())?;
                    took.push(begun.elapsed());
                }
                Ok::<_, String>(took)
            })
        });
        let mut took = Vec::new();
        for task in join_all(tasks).await {
            took.extend(task??);
        }
        took.sort();
        println!(
            "append, {appenders} at once: p50 {:?} p99 {:?} max {:?}, {:.0}/s",
            percentile(&took, 0.5),
            percentile(&took, 0.99),
            percentile(&took, 1.0),
            took.len() as f64 / RUN_TIME.as_secs_f64()
        );
    }
    measure_reads(&log).await
}

async fn measure_reads(log: &KafkaLog) -> Result<(), Box<dyn std::error::Error>> {
    let begun = Instant::now();
    let total: u64 = log.end_offsets().await?.iter().sum();
    println!("end offsets: {:?}", begun.elapsed());
    let begun = Instant::now();
    let mut consumer = log.join_consumer_group().await?;
    let (mut first, mut seen) = (None, 0);
    while seen < total {
        match consumer.next_event(20_000, Duration::from_millis(200)).await? {
            ConsumerEvent::Assigned(partitions) => {
                let offsets: Vec<_> =
                    partitions.into_iter().map(|at| ReadStart::without_previous(at, 0)).collect();
                println!("assigned after {:?}", begun.elapsed());
                consumer.start_partitions(&offsets).await?;
                first = Some(Instant::now());
            }
            ConsumerEvent::Records(records) => seen += records.len() as u64,
            ConsumerEvent::Revoked(_) | ConsumerEvent::Idle => {}
        }
    }
    let took = first.map_or(Duration::ZERO, |first| first.elapsed());
    println!("read {seen} records in {took:?}: {:.0}/s", seen as f64 / took.as_secs_f64());
    Ok(())
}

async fn measure_commits(name: &str) -> Result<(), Box<dyn std::error::Error>> {
    let mut config = MongoConfig::new(std::env::var("LIVERANK_TEST_MONGODB")?);
    config.database = name.to_owned();
    let archive = MongoArchive::new(config).await?;
    archive.open(&CountingRules::default()).await?;
    let mut next = 0;
    for (events, videos, share) in
        [(1, 1, 0), (1000, 65, 0), (5000, 162, 0), (20_000, 292, 0), (5000, 162, 10)]
    {
        let mut took = Vec::new();
        for _ in 0..20 {
            let records = (0..events).map(|at| -> Result<LogRecord, liverank_core::Invalid> {
                let offset = next + at;
                let comment = share > 0 && at % share == 0;
                let mut value = json!({"video_id": format!("video-{}", at % videos), "user_id": "user",
                    "type": if comment { "comment" } else { "like" }});
                if comment {
                    value["comment_id"] = json!(format!("c{offset}"));
                    value["comment"] = json!("a comment of some length, as they are");
                } else if share > 0 {
                    value["event_id"] = json!(format!("e{offset}"));
                }
                let event = Interaction::parse(&value, 1_700_000_000_000)?;
                Ok(LogRecord { partition: 0, offset, broker_time: 1_700_000_000_000, event })
            });
            let records = records.collect::<Result<Vec<_>, _>>()?;
            let batch = Batch {
                offset_ranges: vec![OffsetRange {
                    partition: 0,
                    first: next,
                    next: next + events,
                    last_record: None,
                }],
                records,
            };
            let begun = Instant::now();
            archive.commit_batch(&batch).await?;
            took.push(begun.elapsed());
            next += events;
        }
        took.sort();
        let kind = if share > 0 { ", all with an identity, a tenth comments" } else { "" };
        println!(
            "commit {events} events over {videos} videos{kind}: p50 {:?} p90 {:?}",
            percentile(&took, 0.5),
            percentile(&took, 0.9)
        );
    }
    Ok(())
}

/// Measures the cost of likes that count once per user: each by another user, all of them again, and all taken back.
async fn measure_unique_commits(name: &str) -> Result<(), Box<dyn std::error::Error>> {
    const EVENT_COUNT: u64 = 5_000;
    const BATCH_COUNT: u64 = 20;
    for unique in ["", "like"] {
        let mut config = MongoConfig::new(std::env::var("LIVERANK_TEST_MONGODB")?);
        config.database = format!("{name}-{unique}");
        let database = mongodb::Client::with_uri_str(std::env::var("LIVERANK_TEST_MONGODB")?)
            .await?
            .database(&config.database);
        let archive = MongoArchive::new(config).await?;
        archive.open(&CountingRules { unique: unique.parse()?, ..CountingRules::default() }).await?;
        let mut next = 0;
        for kind in ["like", "like", "unlike"] {
            let mut took = Vec::new();
            for batch in 0..BATCH_COUNT {
                let records = (0..EVENT_COUNT).map(|at| -> Result<LogRecord, liverank_core::Invalid> {
                    let value = json!({"video_id": format!("video-{}", at % 162), "user_id": format!("user-{batch}-{at}"),
                        "type": kind});
                    let event = Interaction::parse(&value, 1_700_000_000_000)?;
                    Ok(LogRecord { partition: 0, offset: next + at, broker_time: 1_700_000_000_000, event })
                });
                let records = records.collect::<Result<Vec<_>, _>>()?;
                let span =
                    OffsetRange { partition: 0, first: next, next: next + EVENT_COUNT, last_record: None };
                let begun = Instant::now();
                archive.commit_batch(&Batch { offset_ranges: vec![span], records }).await?;
                took.push(begun.elapsed());
                next += EVENT_COUNT;
            }
            took.sort();
            let sizes = database.run_command(doc! { "collStats": "marks" }).await?;
            println!(
                "once per user {unique:?}, commit {EVENT_COUNT} x {kind}: p50 {:?} p90 {:?}; marks {:?}, bytes {:?}, of indexes {:?}",
                percentile(&took, 0.5),
                percentile(&took, 0.9),
                sizes.get("count"),
                sizes.get("size"),
                sizes.get("totalIndexSize"),
            );
        }
    }
    Ok(())
}
