//! Tests of the embedded log: the promises of every log, and failures that only a file can have.
#![allow(clippy::unwrap_used, reason = "a test: the panic is its answer")]

use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::future::join_all;
use liverank_adapters::StoreError;
use liverank_adapters::clock::{self, Clock};
use liverank_adapters::event_log::embedded::{EmbeddedLog, LOG_FILE_NAME};
use liverank_adapters::event_log::{
    AppendError, CREATED_PARTITION_COUNT, ConsumerEvent, DeadLetter, EventLog, LogConsumer, RawRecord,
    ReadStart, RecordPosition, StoredDeadLetter,
};
use liverank_adapters_testkit::event_log;
use redb::{Database, TableDefinition};
use tempfile::TempDir;

#[path = "support/medium.rs"]
#[allow(dead_code, reason = "each test file uses its part of it")]
mod medium;

use medium::Medium;

fn open_log(dir: &Path) -> EmbeddedLog {
    EmbeddedLog::open(dir, clock::system_clock()).unwrap()
}

fn open_error(dir: &Path) -> StoreError {
    EmbeddedLog::open(dir, clock::system_clock()).err().expect("it cannot be opened")
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_log_passes_the_event_log_suite() {
    let dirs = Mutex::new(Vec::new());
    event_log::suite(async || {
        let dir = TempDir::new().unwrap();
        let log: Arc<dyn EventLog> = Arc::new(open_log(dir.path()));
        dirs.lock().unwrap().push(dir);
        log
    })
    .await;
}

/// Reads all records of the log, in the order of their positions.
async fn read_all(log: &dyn EventLog) -> Vec<RawRecord> {
    let mut consumer = log.join_consumer_group().await.unwrap();
    let count: u64 = log.end_offsets().await.unwrap().iter().sum();
    let start: Vec<_> = (0..CREATED_PARTITION_COUNT).map(|at| ReadStart::without_previous(at, 0)).collect();
    assert!(matches!(poll_once(&mut *consumer).await, ConsumerEvent::Assigned(all) if all.len() == 12));
    consumer.start_partitions(&start).await.unwrap();
    let mut records = Vec::new();
    while records.len() < count as usize {
        match poll_once(&mut *consumer).await {
            ConsumerEvent::Records(more) => records.extend(more),
            other => panic!("{other:?} after {} of {count}", records.len()),
        }
    }
    records.sort_by_key(|record| (record.partition, record.offset));
    records
}

async fn poll_once(consumer: &mut dyn LogConsumer) -> ConsumerEvent {
    consumer.next_event(1000, Duration::from_secs(20)).await.unwrap()
}

#[tokio::test]
async fn acknowledged_records_survive_reopening() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("new").join("data");
    let log = open_log(&data);
    for at in 0..100 {
        log.append(format!("k{}", at % 7).as_bytes(), at.to_string().into_bytes()).await.unwrap();
    }
    let before = read_all(&log).await;
    drop(log);
    let log = open_log(&data);
    assert_eq!(read_all(&log).await, before);
    let place = log.append(b"k1", b"next".to_vec()).await.unwrap();
    let last = before.iter().rfind(|record| record.partition == place.partition).unwrap();
    assert_eq!(place.offset, last.offset + 1, "offsets go on where they were");
}

#[tokio::test]
async fn records_without_a_key_go_to_the_partitions_in_turn() {
    let dir = TempDir::new().unwrap();
    let log = open_log(dir.path());
    let places = join_all((0..24).map(|_| log.append(b"", b"v".to_vec()))).await;
    let mut partitions: Vec<u32> = places.into_iter().map(|place| place.unwrap().partition).collect();
    partitions.sort_unstable();
    assert_eq!(partitions, (0..24).map(|at| at / 2).collect::<Vec<u32>>());
    assert!(read_all(&log).await.iter().all(|record| record.key.is_none()));
}

#[tokio::test]
async fn the_log_s_time_stands_still_when_the_clock_goes_back() {
    let dir = TempDir::new().unwrap();
    let now = Arc::new(AtomicI64::new(1000));
    let hands = Arc::clone(&now);
    let clock: Clock = Arc::new(move || hands.load(Ordering::Relaxed));
    let times = async |log: &EmbeddedLog| -> Vec<i64> {
        read_all(log).await.iter().map(|record| record.broker_time).collect()
    };
    let log = EmbeddedLog::open(dir.path(), Arc::clone(&clock)).unwrap();
    for time in [1000, 900, 1100] {
        now.store(time, Ordering::Relaxed);
        log.append(b"k", b"v".to_vec()).await.unwrap();
    }
    assert_eq!(times(&log).await, [1000, 1000, 1100]);
    drop(log);
    now.store(500, Ordering::Relaxed);
    let log = EmbeddedLog::open(dir.path(), clock).unwrap();
    log.append(b"k", b"v".to_vec()).await.unwrap();
    assert_eq!(times(&log).await, [1000, 1000, 1100, 1100], "nor after a restart");
}

#[tokio::test]
async fn dead_letters_are_kept_whole_and_in_order() {
    let dir = TempDir::new().unwrap();
    let letters: Vec<DeadLetter> = (0..5)
        .map(|at| DeadLetter {
            record: RawRecord {
                partition: 3,
                offset: at,
                broker_time: 1_700_000_000_000,
                key: (at % 2 == 0).then(|| "key".into()),
                value: vec![0xFF; at as usize].into(),
                trace: None,
            },
            reason: format!("body: ünreadable {at}"),
        })
        .collect();
    let log = open_log(dir.path());
    for letter in &letters {
        log.append_dead_letter(letter).await.unwrap();
    }
    drop(log);
    let log = open_log(dir.path());
    let found = log.read_dead_letters(None).await.unwrap().next_dead_letters(100).await.unwrap();
    let whole = |letter: &StoredDeadLetter| {
        let origin = letter.origin.unwrap();
        let (RecordPosition { partition, offset }, broker_time) = (origin.log_position, origin.broker_time);
        let (key, value) = (letter.key.clone(), letter.value.clone());
        let record = RawRecord { partition, offset, broker_time, key, value, trace: None };
        DeadLetter { record, reason: letter.reason.clone() }
    };
    assert_eq!(found.iter().map(whole).collect::<Vec<_>>(), letters);
    let third = log
        .read_dead_letters(Some(found[3].letter_position))
        .await
        .unwrap()
        .next_dead_letters(100)
        .await
        .unwrap();
    assert_eq!(third, found[3..4]);
}

#[tokio::test]
async fn a_directory_in_use_is_refused_by_name_and_free_again_after_a_close() {
    let dir = TempDir::new().unwrap();
    let log = open_log(dir.path());
    let error = open_error(dir.path());
    let path = dir.path().join(LOG_FILE_NAME).display().to_string();
    assert!(
        error.to_string().contains(&path) && error.to_string().contains("in use by another process"),
        "{error}"
    );
    assert!(!error.is_transient());
    drop(log);
    open_log(dir.path());
}

#[tokio::test]
async fn a_file_that_is_no_log_is_refused_by_name() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("file"), "x").unwrap();
    let below_a_file = open_error(&dir.path().join("file"));
    assert!(below_a_file.to_string().contains("not a directory"), "{below_a_file}");

    std::fs::write(dir.path().join(LOG_FILE_NAME), vec![0x5A; 100_000]).unwrap();
    let foreign = open_error(dir.path());
    assert!(foreign.to_string().contains("is damaged"), "{foreign}");
    for error in [below_a_file, foreign] {
        assert!(!error.is_transient() && error.to_string().contains(LOG_FILE_NAME), "{error}");
    }
}

#[tokio::test]
async fn a_log_of_another_format_is_refused_and_not_changed() {
    let dir = TempDir::new().unwrap();
    drop(open_log(dir.path()));
    let database = Database::create(dir.path().join(LOG_FILE_NAME)).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction
        .open_table(TableDefinition::<&str, u64>::new("format"))
        .unwrap()
        .insert("version", 2)
        .unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = open_error(dir.path());
    assert!(
        error.to_string().contains("format 2") && error.to_string().contains("run the release"),
        "{error}"
    );
}

#[tokio::test]
async fn a_corrupted_file_never_ends_the_process() {
    let dir = TempDir::new().unwrap();
    let log = open_log(dir.path());
    join_all((0..2000).map(|at| log.append(b"k", vec![at as u8; 200]))).await;
    drop(log);
    let path = dir.path().join(LOG_FILE_NAME);
    let whole = std::fs::read(&path).unwrap();
    for begin in (0..whole.len() - 8192).step_by(whole.len() / 23) {
        let mut hurt = whole.clone();
        hurt[begin..begin + 8192].fill(0xEE);
        std::fs::write(&path, hurt).unwrap();
        // Wherever the file was corrupted: it is refused by name, or usable; a record that cannot be read is an error,
        // no panic.
        match EmbeddedLog::open(dir.path(), clock::system_clock()) {
            Err(error) => assert!(error.to_string().contains(LOG_FILE_NAME), "{error}"),
            Ok(log) => {
                let mut consumer = log.join_consumer_group().await.unwrap();
                poll_once(&mut *consumer).await;
                let start: Vec<_> =
                    (0..CREATED_PARTITION_COUNT).map(|at| ReadStart::without_previous(at, 0)).collect();
                if consumer.start_partitions(&start).await.is_ok() {
                    match consumer.next_event(10_000, Duration::from_millis(50)).await {
                        Ok(_) => {}
                        Err(error) => assert!(error.to_string().contains(LOG_FILE_NAME), "{error}"),
                    }
                }
            }
        }
    }
}

async fn wait_until<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{what} within 20 s");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_survived() {
    let medium = Medium::default();
    let disk = medium.clone();
    let log =
        EmbeddedLog::open_on_medium("disk/log.redb", move || disk.database(), clock::system_clock()).unwrap();
    let mut acknowledged = vec![log.append(b"k", b"before".to_vec()).await.unwrap()];

    medium.fill();
    let begun = Instant::now();
    let full = log.append(b"k", b"lost".to_vec()).await.unwrap_err();
    assert!(matches!(full, AppendError::Unavailable(StoreError::Unavailable { .. })), "{full:?}");
    assert!(
        full.to_string().contains("disk/log.redb") && full.to_string().contains("the disk is full"),
        "{full}"
    );
    assert!(log.check_writable().is_err(), "health tells it");
    let attempts = medium.openings();
    while begun.elapsed() < Duration::from_millis(2500) || medium.openings() == attempts {
        assert!(begun.elapsed() < Duration::from_secs(20), "it is never tried again");
        assert!(log.append(b"k", b"lost".to_vec()).await.is_err());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let attempts = medium.openings() - attempts;
    let took = begun.elapsed();
    let most = took.as_secs() + 2;
    assert!(attempts <= most, "tried again about once a second, not {attempts} times in {took:?}");

    medium.empty();
    wait_until("health comes back though nobody appends", async || log.check_writable().ok()).await;
    acknowledged.push(log.append(b"k", b"after".to_vec()).await.unwrap());
    let records = read_all(&log).await;
    for (place, value) in acknowledged.iter().zip(["before", "after"]) {
        let held = records.iter().find(|record| record.offset == place.offset).expect("it was acknowledged");
        assert_eq!(held.value, value);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_append_queue_refuses_at_once() {
    let medium = Medium::default();
    let disk = medium.clone();
    let log = EmbeddedLog::open_on_medium("disk", move || disk.database(), clock::system_clock()).unwrap();
    let log = Arc::new(log);
    let stall = medium.stall();
    let appends: Vec<_> = (0..100)
        .map(|_| {
            let log = Arc::clone(&log);
            tokio::spawn(async move { log.append(b"k", vec![0; 1 << 20 >> 1]).await })
        })
        .collect();
    let waiting = async || {
        let probe = log.append(b"k", vec![0; 1 << 20 >> 1]);
        match tokio::time::timeout(Duration::from_millis(20), probe).await {
            Ok(Err(AppendError::Unavailable(error))) => Some(error),
            _ => None,
        }
    };
    let refused = wait_until("64 MiB wait", waiting).await;
    assert!(refused.to_string().contains("too many bytes wait"), "{refused}");
    drop(stall);
    for append in appends {
        match append.await.unwrap() {
            Ok(_) | Err(AppendError::Unavailable(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    log.append(b"k", b"after".to_vec()).await.expect("there is room again");
    let written = log.end_offsets().await.unwrap().iter().sum::<u64>();
    assert!(written >= 127, "64 MiB of half a MiB each had waited and are written, not {written}");
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_on_a_stalled_disk_time_out() {
    let medium = Medium::default();
    let disk = medium.clone();
    let log = EmbeddedLog::open_on_medium("disk", move || disk.database(), clock::system_clock()).unwrap();
    let stall = medium.stall();
    let begun = Instant::now();
    let error = log.append(b"k", b"slow".to_vec()).await.unwrap_err();
    assert!(error.to_string().contains("too long"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(20), "answered after {:?}", begun.elapsed());
    drop(stall);
    let place = log.append(b"k", b"after".to_vec()).await.expect("it goes on where it stood");
    assert_eq!(place.offset, 1, "what was slow is in the log all the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_do_not_see_records_that_are_not_durable() {
    let medium = Medium::default();
    let disk = medium.clone();
    let log = Arc::new(
        EmbeddedLog::open_on_medium("disk", move || disk.database(), clock::system_clock()).unwrap(),
    );
    let mut consumer = log.join_consumer_group().await.unwrap();
    poll_once(&mut *consumer).await;
    consumer
        .start_partitions(
            &(0..CREATED_PARTITION_COUNT).map(|at| ReadStart::without_previous(at, 0)).collect::<Vec<_>>(),
        )
        .await
        .unwrap();
    let stall = medium.stall();
    let writer = Arc::clone(&log);
    let append = tokio::spawn(async move { writer.append(b"k", b"v".to_vec()).await });
    wait_until("the fsync has begun", async || medium.stalled().then_some(())).await;
    assert_eq!(consumer.next_event(10, Duration::from_millis(200)).await.unwrap(), ConsumerEvent::Idle);
    assert_eq!(log.end_offsets().await.unwrap().iter().sum::<u64>(), 0);
    assert!(!append.is_finished(), "an append is not acknowledged before its fsync");
    drop(stall);
    append.await.unwrap().unwrap();
    assert!(matches!(poll_once(&mut *consumer).await, ConsumerEvent::Records(_)));
}
