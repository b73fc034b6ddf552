//! Tests of the archive on a real MongoDB. `testbed/testbed up` starts one; `testbed/testbed env` prints its address.
#![allow(clippy::unwrap_used, reason = "a test's panic is its answer")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use futures::future::join_all;
use liverank_adapters::Archive;
use liverank_adapters::archive::mongodb::{MongoArchive, MongoConfig};
use liverank_adapters::archive::{CommentPage, CommitError};
use liverank_adapters_testkit::archive;
use liverank_core::counting::{Batch, CountingRules, LogRecord, OffsetRange};
use liverank_core::digest::identity_digest;
use liverank_core::{Interaction, UserId, VideoId};
use mongodb::Client;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, Document, doc};
use proxy::{Mode, Proxy};
use retry::retry;
use serde_json::json;

#[path = "support/own_server.rs"]
mod own_server;
#[path = "support/proxy.rs"]
mod proxy;
#[path = "support/retry.rs"]
mod retry;

const TEST_TIMEOUT: Duration = Duration::from_mins(1);

fn mongodb_uri() -> String {
    std::env::var("LIVERANK_TEST_MONGODB")
        .expect("LIVERANK_TEST_MONGODB is not set; start the real parts: testbed/testbed up")
}

/// Returns the configuration of a database that no other test uses.
fn fresh_database() -> MongoConfig {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros();
    let mut config = MongoConfig::new(mongodb_uri());
    let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    config.database = format!("test-{now}-{process}-{count}");
    config
}

/// Returns an archive that has not been opened, and has its connection: on a busy machine it takes longer than a query
/// waits for it.
async fn connected_archive(config: &MongoConfig) -> MongoArchive {
    let archive = MongoArchive::new(config.clone()).await.unwrap();
    retry(TEST_TIMEOUT, async || archive.archive_meta().await).await.unwrap();
    archive
}

async fn open_archive(config: &MongoConfig) -> MongoArchive {
    let archive = connected_archive(config).await;
    retry(TEST_TIMEOUT, async || archive.open(&CountingRules::default()).await).await.unwrap();
    archive
}

async fn documents(config: &MongoConfig, collection: &str) -> Vec<Document> {
    use futures::TryStreamExt;
    let client = Client::with_uri_str(mongodb_uri()).await.unwrap();
    let found = client.database(&config.database).collection(collection).find(doc! {}).await.unwrap();
    found.try_collect().await.unwrap()
}

fn record(partition: u32, offset: u64, value: &serde_json::Value) -> LogRecord {
    let broker_time = 1_700_000_000_000 + offset as i64;
    let event = Interaction::from_log(value.to_string().as_bytes(), broker_time).unwrap();
    LogRecord { partition, offset, broker_time, event }
}

/// Returns a batch of one partition whose next offset is `from`.
fn batch(partition: u32, from: u64, values: &[serde_json::Value]) -> Batch {
    let records: Vec<_> =
        values.iter().zip(from..).map(|(value, offset)| record(partition, offset, value)).collect();
    Batch {
        offset_ranges: vec![OffsetRange {
            partition,
            first: from,
            next: from + values.len() as u64,
            last_record: None,
        }],
        records,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mongodb_archive_passes_the_archive_suite() {
    archive::suite(|| async {
        let archive: Arc<dyn Archive> = Arc::new(connected_archive(&fresh_database()).await);
        archive
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_the_database_find_the_fields_they_know() {
    let config = fresh_database();
    let archive = open_archive(&config).await;
    let event = |kind: &str, extra: serde_json::Value| {
        let mut value = json!({"video_id": "v", "user_id": "u", "type": kind});
        value.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        value
    };
    let values = [
        event("view", json!({})),
        event("like", json!({})),
        event("comment", json!({"comment_id": "c", "comment": "hi", "timestamp": 1_700_000_000})),
        event("share", json!({})),
        event("watch_time", json!({"watch_time": 0.125})),
        event("watch_time", json!({"watch_time": 2.0, "owner_id": "o", "event_id": "e"})),
    ];
    archive.commit_batch(&batch(3, 0, &values)).await.unwrap();
    let mut videos = documents(&config, "videos").await;
    let video = videos.pop().unwrap();
    assert!(videos.is_empty());
    let expected = [
        ("video_id", Bson::from("v")),
        ("user_id", "o".into()),
        ("score", 11.0.into()),
        ("views", 1_i64.into()),
        ("likes", 1_i64.into()),
        ("comments", 1_i64.into()),
        ("shares", 1_i64.into()),
        ("watch_time_total", 2.125.into()),
        ("watch_time_score", 3.0.into()),
        ("watch_short", 1_i64.into()),
        ("watch_long", 1_i64.into()),
        ("last_seq", 1_i64.into()),
    ];
    for (name, value) in expected {
        assert_eq!(video.get(name), Some(&value), "{name} in {video}");
    }
    let comment = documents(&config, "comments").await.pop().unwrap();
    let fields = ["video_id", "user_id", "comment_id", "comment"].map(|name| comment.get_str(name).unwrap());
    assert_eq!(fields, ["v", "u", "c", "hi"]);
    assert_eq!(comment.get_i64("timestamp"), Ok(1_700_000_000_000));
    let seen = documents(&config, "seen").await;
    assert_eq!(seen.len(), 1);
    assert!(seen.iter().all(|seen| seen.get_binary_generic("_id").unwrap().len() == 16));
    let offsets = doc! { "_id": 3_i64, "next": 6_i64, "segmented": 6_i64, "segments": 1_i64, "last": null };
    assert_eq!(documents(&config, "offsets").await, [offsets]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_concurrent_openers_one_decides_the_meta_document() {
    let config = fresh_database();
    let opened = join_all((1..=6).map(|at| {
        let config = config.clone();
        async move {
            let archive = connected_archive(&config).await;
            archive.open(&CountingRules { half_life_ms: at, ..CountingRules::default() }).await
        }
    }));
    let opened = opened.await;
    let first = opened[0].clone().unwrap();
    for meta in opened {
        assert_eq!(meta.unwrap(), first);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_format_and_an_archive_that_is_gone_are_refused() {
    let config = fresh_database();
    let archive = open_archive(&config).await;
    let client = Client::with_uri_str(mongodb_uri()).await.unwrap();
    let meta = client.database(&config.database).collection::<Document>("meta");
    let view = batch(0, 0, &[json!({"video_id": "v", "user_id": "u", "type": "view"})]);
    meta.update_one(doc! {}, doc! { "$set": { "format": 3_i64 } }).await.unwrap();
    let errors = [
        archive.open(&CountingRules::default()).await.unwrap_err(),
        archive.archive_meta().await.unwrap_err(),
    ];
    for error in errors {
        assert!(!error.is_transient() && error.to_string().contains("format 3"), "{error}");
    }
    let refused = archive.commit_batch(&view).await;
    assert!(matches!(&refused, Err(CommitError::Store(error)) if !error.is_transient()), "{refused:?}");
    client.database(&config.database).drop().await.unwrap();
    let refused = archive.commit_batch(&view).await;
    assert!(matches!(&refused, Err(CommitError::Store(error)) if !error.is_transient()), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_beyond_one_command_is_one_transaction() {
    const COUNT: u64 = 6_000;
    const VIDEO_COUNT: u64 = 25_000;
    let archive = open_archive(&fresh_database()).await;
    // More statements than fit into one command, and more bytes: 18 MiB of comments.
    let values: Vec<_> = (0..COUNT)
        .map(|at| {
            json!({"video_id": format!("v{at}"), "user_id": "u", "type": "comment",
                "comment_id": format!("c{at}"), "comment": "x".repeat(3000)})
        })
        .collect();
    let large = batch(0, 0, &values);
    let committed = archive.commit_batch(&large).await.unwrap();
    assert_eq!(
        (committed.batch_effects.counted_event_count, committed.batch_effects.videos.len() as u64),
        (COUNT, COUNT)
    );
    assert_eq!(archive.partition_positions(&[0]).await.unwrap()[0].next_offset, COUNT);
    assert_eq!(archive.comment_count().await.unwrap(), COUNT);
    // The same identities on another partition: all are repeats.
    let again = archive.commit_batch(&batch(1, 0, &values)).await.unwrap();
    assert_eq!(
        (again.batch_effects.counted_event_count, again.batch_effects.repeated_event_count),
        (0, COUNT)
    );
    let ids: Vec<_> =
        values.iter().map(|value| VideoId::parse(value["video_id"].as_str().unwrap()).unwrap()).collect();
    assert!(archive.last_seqs(&ids).await.unwrap().iter().all(|head| *head == 1));
    // Videos with ids of the greatest length: one command with all of their updates would have 20 MiB.
    let long = |prefix: &str, at: u64| format!("{prefix}{at:0>255}");
    let values: Vec<_> = (0..VIDEO_COUNT)
        .map(|at| json!({"video_id": long("v", at), "user_id": long("u", at), "type": "like"}))
        .collect();
    let many = archive.commit_batch(&batch(2, 0, &values)).await.unwrap();
    assert_eq!(many.batch_effects.videos.len() as u64, VIDEO_COUNT);
}

/// Returns a proxy and an archive that connects through it.
async fn through_a_proxy() -> (Proxy, MongoArchive) {
    let uri = mongodb_uri();
    let port = uri.rsplit_once(':').unwrap().1.split('/').next().unwrap().parse().unwrap();
    let proxy = Proxy::before(port, None).await;
    let mut config = fresh_database();
    // Members give their address in their answers; a direct connection does not follow it.
    config.uri = format!("mongodb://127.0.0.1:{}/?directConnection=true", proxy.ports.proxy).into();
    let archive = open_archive(&config).await;
    (proxy, archive)
}

async fn check_outage(mode: Mode) {
    let (proxy, archive) = through_a_proxy().await;
    let view = |from: u64| batch(0, from, &[json!({"video_id": "v", "user_id": "u", "type": "view"})]);
    archive.commit_batch(&view(0)).await.unwrap();
    proxy.set(mode);
    let begun = Instant::now();
    let refused = archive.commit_batch(&view(1)).await;
    assert!(matches!(&refused, Err(CommitError::Store(error)) if error.is_transient()), "{refused:?}");
    let commit_took = begun.elapsed();
    let begun = Instant::now();
    let video = VideoId::parse("v").unwrap();
    for error in [
        archive.video(&video).await.unwrap_err(),
        archive.comments(&video, CommentPage::After(0), 10).await.unwrap_err(),
        archive.partition_positions(&[0]).await.unwrap_err(),
    ] {
        assert!(error.is_transient() && error.store_name() == "mongodb", "{error}");
    }
    let reads_took = begun.elapsed() / 3;
    // A commit has ten seconds. If the connection is cut, it may look for a server twice, for three seconds each. The
    // rest is for a busy machine: without a bound, the driver would wait for half a minute and try again.
    assert!(commit_took < Duration::from_secs(20), "{mode:?}: a commit failed after {commit_took:?}");
    assert!(reads_took < Duration::from_secs(15), "{mode:?}: a read failed after {reads_took:?}");
    proxy.set(Mode::Open);
    let begun = Instant::now();
    let stands = loop {
        match archive.partition_positions(&[0]).await {
            Ok(stands) => break stands[0].next_offset,
            Err(error) => assert!(begun.elapsed() < TEST_TIMEOUT, "it is back: {error}"),
        }
    };
    // It is unknown whether the batch was applied; the archive knows.
    assert!((1..=2).contains(&stands), "{stands}");
    archive.commit_batch(&view(stands)).await.unwrap();
    let held = archive.video(&video).await.unwrap().unwrap();
    assert_eq!(held.counters.views, stands as i64 + 1);
    println!("{mode:?}: commit failed after {commit_took:?}, reads after {reads_took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_server_is_an_error_soon_and_comes_back() {
    check_outage(Mode::Cut).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_is_an_error_soon_and_comes_back() {
    check_outage(Mode::Stalled).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opening_without_a_server_is_an_error() {
    let mut config = fresh_database();
    config.uri = "mongodb://127.0.0.1:1/?replicaSet=rs0".into();
    let begun = Instant::now();
    let archive = MongoArchive::new(config).await.expect("a server that is away is no wrong configuration");
    let error = archive.open(&CountingRules::default()).await.unwrap_err();
    assert!(error.is_transient() && error.store_name() == "mongodb", "{error}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let mut config = fresh_database();
    config.uri = "mongodb://127.0.0.1:1/?noSuchOption=1&tls=maybe".into();
    let error = MongoArchive::new(config).await.unwrap_err();
    assert!(!error.is_transient(), "{error}");
}

/// Releases up to 0.1 stored an event's identity by its id alone, in a document of this form.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn identities_stored_by_an_earlier_release_still_mark_repeats() {
    let config = fresh_database();
    let archive = open_archive(&config).await;
    let digest = identity_digest("e:old").to_vec();
    let seen = doc! { "_id": Binary { subtype: BinarySubtype::Generic, bytes: digest }, "time": 1_700_000_000_000_i64 };
    let client = Client::with_uri_str(mongodb_uri()).await.unwrap();
    let db = client.database(&config.database);
    db.collection("seen").insert_one(seen).await.unwrap();
    let last = doc! { "broker_time": 1_700_000_000_000_i64, "digest": 7_i64 };
    let offset = doc! { "_id": 1_i64, "next": 1_i64, "last": last };
    db.collection("offsets").insert_one(offset).await.unwrap();
    let named = |id: &str| json!({"video_id": "v", "user_id": "u", "type": "view", "event_id": id});
    let effects =
        archive.commit_batch(&batch(0, 0, &[named("old"), named("new")])).await.unwrap().batch_effects;
    assert_eq!((effects.counted_event_count, effects.repeated_event_count), (1, 1));
}

/// Several processes, each with batches of its own, whose transactions conflict on a video.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_processes_count_one_video() {
    let config = fresh_database();
    let archives = join_all((0..3).map(|_| open_archive(&config))).await;
    let owner = UserId::parse("u").unwrap();
    join_all(archives.iter().zip(0..).map(|(archive, partition)| async move {
        for at in 0..20 {
            let values = [
                json!({"video_id": "hot", "user_id": "u", "type": "like"}),
                json!({"video_id": "hot", "user_id": "u", "type": "comment", "comment": "hi",
                    "comment_id": format!("{partition}-{at}")}),
            ];
            archive.commit_batch(&batch(partition, at * 2, &values)).await.unwrap();
        }
    }))
    .await;
    let hot = VideoId::parse("hot").unwrap();
    let held = archives[0].video(&hot).await.unwrap().unwrap();
    assert_eq!((held.counters.likes, held.last_seq, held.owner), (60, 60, owner));
    let comments = archives[1].comments(&hot, CommentPage::After(0), 100).await.unwrap();
    assert_eq!(comments.iter().map(|comment| comment.seq).collect::<Vec<_>>(), (1..=60).collect::<Vec<_>>());
}

#[path = "real_mongodb/credentials.rs"]
mod credentials;
#[path = "real_mongodb/half_lives.rs"]
mod half_lives;
#[path = "real_mongodb/identities.rs"]
mod identities;
#[path = "real_mongodb/own_mongod.rs"]
mod own_mongod;
#[path = "real_mongodb/rebuilds.rs"]
mod rebuilds;
#[path = "real_mongodb/rights.rs"]
mod rights;
#[path = "real_mongodb/states.rs"]
mod states;
#[path = "real_mongodb/take_over.rs"]
mod take_over;
