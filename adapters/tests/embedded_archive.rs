//! Tests of the embedded archive: the promises of every archive, and failures that only a file can have.
#![allow(clippy::unwrap_used, reason = "a test: the panic is its answer")]

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use liverank_adapters::archive::embedded::{ARCHIVE_FILE_NAME, EmbeddedArchive};
use liverank_adapters::archive::{Archive, CommentPage, CommitError, ReplayFinish};
use liverank_adapters_testkit::archive;
use liverank_core::counting::{Batch, CountingRules, LogRecord, OffsetRange};
use liverank_core::{Interaction, VideoId};
use redb::{Database, TableDefinition};
use serde_json::json;
use tempfile::TempDir;

#[path = "support/medium.rs"]
#[allow(dead_code, reason = "each test file uses its part of it")]
mod medium;

use medium::Medium;

const BEGIN_TIME: i64 = 1_700_000_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn embedded_archive_passes_the_archive_suite() {
    let dirs = Mutex::new(Vec::new());
    archive::suite(async || {
        let dir = TempDir::new().unwrap();
        let archive: Arc<dyn Archive> = Arc::new(EmbeddedArchive::open(dir.path()).unwrap());
        dirs.lock().unwrap().push(dir);
        archive
    })
    .await;
}

/// Returns a batch with a comment at this offset of partition 0.
fn batch(offset: u64) -> Batch {
    let value = json!({"video_id": "v", "user_id": "u", "type": "comment", "comment_id": format!("c{offset}"),
        "comment": format!("number {offset}")});
    let event = Interaction::parse(&value, BEGIN_TIME).unwrap();
    let record = LogRecord { partition: 0, offset, broker_time: BEGIN_TIME + offset as i64, event };
    Batch {
        offset_ranges: vec![OffsetRange { partition: 0, first: offset, next: offset + 1, last_record: None }],
        records: vec![record],
    }
}

fn video() -> VideoId {
    VideoId::parse("v").unwrap()
}

fn open_error(dir: &Path) -> String {
    let error = EmbeddedArchive::open(dir).err().expect("it cannot be opened");
    assert!(!error.is_transient(), "{error}");
    error.to_string()
}

#[tokio::test]
async fn committed_batches_survive_reopening() {
    let dir = TempDir::new().unwrap();
    let archive = EmbeddedArchive::open(dir.path()).unwrap();
    let meta = archive.open(&CountingRules::default()).await.unwrap();
    for offset in 0..20 {
        archive.commit_batch(&batch(offset)).await.unwrap();
    }
    let state = archive.video(&video()).await.unwrap();
    let comments = archive.comments(&video(), CommentPage::After(0), 100).await.unwrap();
    assert_eq!(comments.len(), 20);
    drop(archive);
    let archive = EmbeddedArchive::open(dir.path()).unwrap();
    assert_eq!(archive.archive_meta().await.unwrap(), Some(meta));
    assert_eq!(archive.video(&video()).await.unwrap(), state);
    assert_eq!(archive.comments(&video(), CommentPage::After(0), 100).await.unwrap(), comments);
    assert_eq!(archive.partition_positions(&[0]).await.unwrap()[0].next_offset, 20);
    let next = archive.commit_batch(&batch(20)).await.unwrap();
    assert_eq!(next.batch_effects.comments[0].comment.seq, 21);
}

#[tokio::test]
async fn a_file_that_is_no_archive_is_refused_by_name() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join(ARCHIVE_FILE_NAME);
    let archive = EmbeddedArchive::open(dir.path()).unwrap();
    let in_use = open_error(dir.path());
    assert!(in_use.contains("in use by another process") && in_use.contains(ARCHIVE_FILE_NAME), "{in_use}");
    drop(archive);

    let database = Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction
        .open_table(TableDefinition::<&str, u64>::new("format"))
        .unwrap()
        .insert("version", 9)
        .unwrap();
    transaction.commit().unwrap();
    drop(database);
    let newer = open_error(dir.path());
    assert!(newer.contains("format 9") && newer.contains(ARCHIVE_FILE_NAME), "{newer}");

    std::fs::write(&path, vec![0x5A; 100_000]).unwrap();
    let foreign = open_error(dir.path());
    assert!(foreign.contains("is damaged") && foreign.contains(ARCHIVE_FILE_NAME), "{foreign}");
    let nowhere = open_error(&path);
    assert!(nowhere.contains("not a directory") && nowhere.contains(ARCHIVE_FILE_NAME), "{nowhere}");
}

#[tokio::test]
async fn only_the_owner_of_a_partition_commits_to_it() {
    let dir = TempDir::new().unwrap();
    let archive = EmbeddedArchive::open(dir.path()).unwrap();
    archive.open(&CountingRules::default()).await.unwrap();
    archive.claim_partitions(&[0]).await.unwrap();
    archive.commit_batch(&batch(0)).await.unwrap();
    drop(archive);
    let archive = EmbeddedArchive::open(dir.path()).unwrap();
    let refused = archive.commit_batch(&batch(1)).await;
    assert!(matches!(refused, Err(CommitError::TakenOver { partition: 0 })), "{refused:?}");
    assert_eq!(archive.claim_partitions(&[0]).await.unwrap()[0].next_offset, 1);
    archive.commit_batch(&batch(1)).await.unwrap();
}

#[tokio::test]
async fn a_replay_starts_from_a_copy_in_another_directory() {
    let (old, dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let copy = EmbeddedArchive::open(old.path()).unwrap();
    copy.open(&CountingRules::default()).await.unwrap();
    let archive = EmbeddedArchive::open(dir.path()).unwrap();
    archive.open(&CountingRules::default()).await.unwrap();
    for archive in [&copy, &archive] {
        archive.commit_batch(&archive::copied::copied_batch()).await.unwrap();
    }
    for offset in 0..5 {
        if offset < 3 {
            copy.commit_batch(&batch(offset)).await.unwrap();
        }
        archive.commit_batch(&batch(offset)).await.unwrap();
    }
    drop(copy);
    let before = archive.rebuild_archive().read_snapshot(None).await.unwrap();
    let path = old.path().to_str().unwrap();
    let replay = archive
        .rebuild_archive()
        .begin_replay(&CountingRules::default(), Some(path), &|_, _| {})
        .await
        .unwrap();
    assert_eq!(replay.archive().partition_positions(&[0]).await.unwrap()[0].next_offset, 3);
    for offset in 3..5 {
        replay.archive().commit_batch(&batch(offset)).await.unwrap();
    }
    let done = replay.swap_in(false, &|_, _| {}).await.unwrap();
    assert!(matches!(&done, ReplayFinish::Done { renumbered: false, .. }), "{done:?}");
    archive::copied::check_copied_data(&archive).await;
    let after = archive.rebuild_archive().read_snapshot(None).await.unwrap();
    assert_eq!(
        (after.videos, after.comment_tallies, after.positions),
        (before.videos, before.comment_tallies, before.positions)
    );
    let nowhere =
        archive.rebuild_archive().begin_replay(&CountingRules::default(), Some("/nowhere"), &|_, _| {}).await;
    assert!(nowhere.err().expect("there is none").to_string().contains("/nowhere"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_survived() {
    let medium = Medium::default();
    let disk = medium.clone();
    let archive = EmbeddedArchive::open_on_medium("disk/archive.redb", move || disk.database()).unwrap();
    archive.open(&CountingRules::default()).await.unwrap();
    archive.commit_batch(&batch(0)).await.unwrap();
    medium.fill();
    let error = archive.commit_batch(&batch(1)).await.unwrap_err();
    assert!(matches!(&error, CommitError::Store(error) if error.is_transient()), "{error:?}");
    assert!(error.to_string().contains("disk/archive.redb cannot be written: the disk is full"), "{error}");
    assert!(archive.partition_positions(&[0]).await.is_err(), "what is closed cannot be read either");
    medium.empty();
    let begun = Instant::now();
    let offset = loop {
        match archive.partition_positions(&[0]).await {
            Ok(offsets) => break offsets[0].next_offset,
            Err(error) => assert!(begun.elapsed() < Duration::from_secs(20), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    for offset in offset..5 {
        archive.commit_batch(&batch(offset)).await.unwrap();
    }
    let seqs: Vec<u64> = archive
        .comments(&video(), CommentPage::After(0), 10)
        .await
        .unwrap()
        .iter()
        .map(|comment| comment.seq)
        .collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5], "nothing twice, nothing missing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_with_a_dropped_caller_is_whole_or_absent() {
    let dir = TempDir::new().unwrap();
    let archive = EmbeddedArchive::open(dir.path()).unwrap();
    archive.open(&CountingRules::default()).await.unwrap();
    for round in 0..200 {
        let from = archive.partition_positions(&[0]).await.unwrap()[0].next_offset;
        let batch = batch(from);
        drop(tokio::time::timeout(Duration::from_micros(round * 20), archive.commit_batch(&batch)).await);
    }
    // Writers queue up: when this commit is done, all before it are.
    let from = loop {
        let from = archive.partition_positions(&[0]).await.unwrap()[0].next_offset;
        match archive.commit_batch(&batch(from)).await {
            Ok(_) => break from,
            Err(CommitError::PositionMismatch { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(
        archive.video(&video()).await.unwrap().unwrap().last_seq,
        from + 1,
        "counts and offsets agree"
    );
    assert_eq!(archive.comments(&video(), CommentPage::After(0), 1000).await.unwrap().len() as u64, from + 1);
}
