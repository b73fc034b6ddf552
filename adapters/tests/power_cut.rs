//! Tests that acknowledged writes survive a power cut, at whatever moment it comes.
//!
//! The disk under test loses what was not synced, or keeps a random part of it. It fails after a random number of
//! writes, so that cuts fall before, into and after every step of a commit. The tests also check themselves: on a disk
//! that only pretends to sync, they must find the loss.
#![allow(clippy::unwrap_used, reason = "a test: the panic is its answer")]

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use liverank_adapters::archive::embedded::EmbeddedArchive;
use liverank_adapters::archive::{Archive, CommentPage, CommitError};
use liverank_adapters::clock;
use liverank_adapters::event_log::embedded::EmbeddedLog;
use liverank_adapters::event_log::{CREATED_PARTITION_COUNT, ConsumerEvent, EventLog, ReadStart};
use liverank_core::counting::{Batch, CountingRules, LogRecord, OffsetRange, apply_batch};
use liverank_core::{Comment, Interaction};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;

#[path = "support/medium.rs"]
#[allow(dead_code, reason = "each test file uses its part of it")]
mod medium;

use medium::Medium;

/// The number of disks, each with its own random seed.
const SEEDS_RUN: u64 = 40;
/// The number of power cuts of each disk.
const CUTS_A_DISK: usize = 4;

/// The largest number of appends of a task, or of batches, between two cuts: after it the power fails, also on a disk
/// that nobody writes to.
const MAX_WRITES_A_LIFE: usize = 300;

/// Returns the disk after a cut: every other time, a part of what was not synced survives.
fn cut_power(medium: &Medium, dice: &mut StdRng) -> Medium {
    let survivors = dice.random::<bool>().then(|| dice.random());
    medium.cut_power(survivors)
}

type AcknowledgedRecords = BTreeMap<(u32, u64), String>;

/// Appends from many tasks until the power fails; adds the acknowledged records to `acknowledged`.
async fn append_until_dark(
    medium: &Medium,
    life: usize,
    acknowledged: &Arc<Mutex<AcknowledgedRecords>>,
) -> Result<(), String> {
    let disk = medium.clone();
    // The power may fail while the log is being opened.
    let Ok(log) = EmbeddedLog::open_on_medium("disk", move || disk.database(), clock::system_clock()) else {
        return Ok(());
    };
    let log = Arc::new(log);
    let tasks: Vec<_> = (0..16)
        .map(|task| {
            let (log, acknowledged) = (Arc::clone(&log), Arc::clone(acknowledged));
            tokio::spawn(async move {
                for at in 0..MAX_WRITES_A_LIFE {
                    let value = format!("{life}/{task}/{at}");
                    let Ok(place) =
                        log.append(format!("key {task}").as_bytes(), value.clone().into_bytes()).await
                    else {
                        return Ok(());
                    };
                    let at = (place.partition, place.offset);
                    if let Some(before) = acknowledged.lock().unwrap().insert(at, value.clone()) {
                        return Err(format!("{at:?} was acknowledged for {before}, and again for {value}"));
                    }
                }
                Ok(())
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap()?;
    }
    // Before the log closes its file, which would write what it had buffered.
    medium.power_for(0);
    Ok(())
}

/// Reads all records of the log, by position.
async fn read_all(medium: &Medium) -> Result<AcknowledgedRecords, String> {
    let disk = medium.clone();
    let log = EmbeddedLog::open_on_medium("disk", move || disk.database(), clock::system_clock())
        .map_err(|error| format!("does not open after a cut: {error}"))?;
    let count = log.end_offsets().await.unwrap().iter().sum::<u64>() as usize;
    let mut consumer = log.join_consumer_group().await.unwrap();
    let mut held = AcknowledgedRecords::new();
    while held.len() < count {
        match consumer.next_event(1000, Duration::from_secs(20)).await.map_err(|error| error.to_string())? {
            ConsumerEvent::Assigned(_) => {
                consumer
                    .start_partitions(
                        &(0..CREATED_PARTITION_COUNT)
                            .map(|at| ReadStart::without_previous(at, 0))
                            .collect::<Vec<_>>(),
                    )
                    .await
                    .unwrap();
            }
            ConsumerEvent::Records(records) => held.extend(records.into_iter().map(|record| {
                let value = String::from_utf8(record.value.to_vec()).unwrap();
                ((record.partition, record.offset), value)
            })),
            other => return Err(format!("{other:?} after {} of {count}", held.len())),
        }
    }
    Ok(held)
}

/// Appends, cuts the power and compares, several times; returns the number of acknowledged appends.
async fn log_through_cuts(mut medium: Medium, seed: u64) -> Result<usize, String> {
    let mut dice = StdRng::seed_from_u64(seed);
    let acknowledged = Arc::new(Mutex::new(AcknowledgedRecords::new()));
    for life in 0..CUTS_A_DISK {
        medium.power_for(dice.random_range(1..400));
        append_until_dark(&medium, life, &acknowledged).await?;
        medium = cut_power(&medium, &mut dice);
        let held = read_all(&medium).await?;
        for (place, value) in acknowledged.lock().unwrap().iter() {
            if held.get(place) != Some(value) {
                return Err(format!("{value} was acknowledged at {place:?}, there is {:?}", held.get(place)));
            }
        }
        let mut places = HashMap::new();
        for (place, value) in &held {
            if let Some(other) = places.insert(value, place) {
                return Err(format!("{value} is at {other:?} and at {place:?}"));
            }
        }
        // Reading opened another log, which closed its file in good order.
        medium = medium.cut_power(None);
    }
    Ok(acknowledged.lock().unwrap().len())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_append_survives() {
    let mut acknowledged = 0;
    for seed in 0..SEEDS_RUN {
        acknowledged +=
            log_through_cuts(Medium::default(), seed).await.unwrap_or_else(|loss| panic!("{seed}: {loss}"));
    }
    assert!(acknowledged > 1000, "cuts that leave no time for appends prove nothing: {acknowledged}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_test_detects_a_log_on_a_disk_that_does_not_sync() {
    for seed in 0..SEEDS_RUN {
        match log_through_cuts(Medium::lying(), seed).await {
            Err(loss) if loss.contains("acknowledged") => return,
            _ => {}
        }
    }
    panic!("acknowledged appends were lost, and nobody noticed");
}

/// Returns the batch that begins at this offset. Length and contents depend on the offset alone, so that any missing
/// part of it is noticed.
fn batch(from: u64) -> Batch {
    let mut dice = StdRng::seed_from_u64(from);
    let next = from + dice.random_range(1..30);
    let records = (from..next).map(|offset| {
        let video = format!("v{}", dice.random_range(0..5));
        let value = if dice.random() {
            json!({"video_id": video, "user_id": "u", "type": "comment", "comment_id": format!("c{offset}"),
                "comment": format!("number {offset}")})
        } else {
            json!({"video_id": video, "user_id": "u", "type": "like", "event_id": format!("e{offset}")})
        };
        let broker_time = 1_700_000_000_000 + offset as i64;
        LogRecord {
            partition: 0,
            offset,
            broker_time,
            event: Interaction::parse(&value, broker_time).unwrap(),
        }
    });
    let records = records.collect();
    Batch { offset_ranges: vec![OffsetRange { partition: 0, first: from, next, last_record: None }], records }
}

/// Commits until the power fails; returns the offset after the last acknowledged batch.
async fn commit_until_dark(medium: &Medium, mut acknowledged: u64) -> Result<u64, String> {
    let disk = medium.clone();
    let Ok(archive) = EmbeddedArchive::open_on_medium("disk", move || disk.database()) else {
        return Ok(acknowledged);
    };
    if archive.open(&CountingRules::default()).await.is_err() {
        return Ok(acknowledged);
    }
    let Ok(offsets) = archive.partition_positions(&[0]).await else { return Ok(acknowledged) };
    let mut next = offsets[0].next_offset;
    for _ in 0..MAX_WRITES_A_LIFE {
        let batch = batch(next);
        match archive.commit_batch(&batch).await {
            Ok(_) => {
                next = batch.offset_ranges[0].next;
                acknowledged = next;
            }
            Err(CommitError::Store(_)) => return Ok(acknowledged),
            Err(fenced) => return Err(fenced.to_string()),
        }
    }
    // Before the archive closes its file, which would write what it had buffered.
    medium.power_for(0);
    Ok(acknowledged)
}

/// Checks that the archive holds whole batches only, among them all that were acknowledged.
async fn check_archive(medium: &Medium, acknowledged: u64) -> Result<(), String> {
    let disk = medium.clone();
    let archive = EmbeddedArchive::open_on_medium("disk", move || disk.database())
        .map_err(|error| format!("does not open after a cut: {error}"))?;
    let held = archive.partition_positions(&[0]).await.map_err(|error| error.to_string())?[0].next_offset;
    if held < acknowledged {
        return Err(format!("acknowledged up to {acknowledged}, held up to {held}"));
    }
    let mut records = Vec::new();
    while (records.len() as u64) < held {
        records.extend(batch(records.len() as u64).records);
    }
    if records.len() as u64 != held {
        return Err(format!("held up to {held}, which is inside of a batch"));
    }
    let expected = apply_batch(&records, [], [], &CountingRules::default());
    let videos = archive.videos_after(None, 100).await.map_err(|error| error.to_string())?;
    if videos != expected.videos {
        return Err(format!("at {held}, there is {videos:?}, not {:?}", expected.videos));
    }
    for state in &videos {
        let comments = archive.comments(&state.video_id, CommentPage::After(0), 100_000).await.unwrap();
        let wanted: Vec<Comment> = (expected.comments.iter().map(|one| one.comment.clone()))
            .filter(|comment| comment.video_id == state.video_id)
            .collect();
        if comments != wanted {
            return Err(format!("at {held}, the comments of {} are not those of the log", state.video_id));
        }
    }
    let placed = archive.comments_from(0, 0, 100_000).await.map_err(|error| error.to_string())?;
    if placed != expected.comments {
        return Err(format!("at {held}, the places of the comments are not those of the log"));
    }
    Ok(())
}

async fn archive_through_cuts(mut medium: Medium, seed: u64) -> Result<u64, String> {
    let mut dice = StdRng::seed_from_u64(seed);
    let mut acknowledged = 0;
    for _ in 0..CUTS_A_DISK {
        medium.power_for(dice.random_range(1..800));
        acknowledged = commit_until_dark(&medium, acknowledged).await?;
        medium = cut_power(&medium, &mut dice);
        check_archive(&medium, acknowledged).await?;
        medium = medium.cut_power(None);
    }
    Ok(acknowledged)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_batch_survives_whole() {
    let mut acknowledged = 0;
    for seed in 0..SEEDS_RUN {
        acknowledged += archive_through_cuts(Medium::default(), seed)
            .await
            .unwrap_or_else(|loss| panic!("{seed}: {loss}"));
    }
    assert!(acknowledged > 1000, "cuts that leave no time for batches prove nothing: {acknowledged}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_test_detects_an_archive_on_a_disk_that_does_not_sync() {
    for seed in 0..SEEDS_RUN {
        match archive_through_cuts(Medium::lying(), seed).await {
            Err(loss) if loss.contains("acknowledged") => return,
            _ => {}
        }
    }
    panic!("acknowledged batches were lost, and nobody noticed");
}
