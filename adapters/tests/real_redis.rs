//! Tests of the stores on a real Redis: the conformance suites, and failures that only a real one can have: lost
//! connections and data.

// Helpers of tests are tests: they panic with the reason.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use liverank_adapters::assignment_store::{
    self, AssignmentStore, MAX_EPOCH, SwapOutcome, TermGrant, redis::RedisAssignments,
};
use liverank_adapters::comment_bus::{
    ChannelHead, CommentBus, Delivery, KEPT_COMMENTS_PER_VIDEO, KEPT_SECONDS, redis::RedisBus,
};
use liverank_adapters::ranking_store::{
    self, BatchProjection, BoardChange, BoardEntry, ProjectionCheckpoint, ProjectionOutcome, RankingStore,
    redis::RedisRanking,
};
use liverank_adapters::redis_link::{RedisConfig, RedisLink};
use liverank_core::comment::{Comment, CommentEpoch};
use liverank_core::counting::OffsetRange;
use liverank_core::handover::ReaderShare;
use liverank_core::{ReaderId, UserId, VideoId};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, FromRedisValue, cmd};
use retry::retry;
use tokio::sync::{Mutex, MutexGuard, mpsc};

#[path = "real_redis/authorities.rs"]
mod authorities;
#[path = "real_redis/boards_format.rs"]
mod boards_format;
#[path = "real_redis/epochs.rs"]
mod epochs;
#[path = "real_redis/loading.rs"]
mod loading;
#[path = "real_redis/logins.rs"]
mod logins;
#[path = "real_redis/losses.rs"]
mod losses;
#[path = "real_redis/lost_epochs.rs"]
mod lost_epochs;
#[path = "support/own_server.rs"]
mod own_server;
#[path = "real_redis/ranks.rs"]
mod ranks;
#[path = "real_redis/repairs.rs"]
mod repairs;
#[path = "support/retry.rs"]
mod retry;

const TEST_TIMEOUT: Duration = Duration::from_secs(20);

/// Locks of Redis's databases, by their numbers. A test that empties a database has the database alone: Redis has 16
/// databases, fewer than there are such tests, and tests run side by side.
static DATABASES_ALONE: [Mutex<()>; 16] = [const { Mutex::const_new(()) }; 16];

fn redis_url() -> String {
    std::env::var("LIVERANK_TEST_REDIS")
        .expect("start the real parts: testbed/testbed up, and eval \"$(testbed/testbed env)\"")
}

/// Waits until a link has its connection: on a busy machine it takes longer than a caller waits for it.
async fn connected(link: Arc<RedisLink>) -> Arc<RedisLink> {
    let boards = RedisRanking::new(Arc::clone(&link));
    retry(TEST_TIMEOUT, async || boards.checkpoint().await).await.unwrap();
    link
}

/// Returns a link with a random prefix; `db` separates the tests that lose data and connections from all others.
async fn link(db: u8) -> Arc<RedisLink> {
    let url = format!("{}/{db}", redis_url().trim_end_matches('/'));
    let prefix = format!("test-{:016x}:", rand::random::<u64>());
    let link = RedisLink::new(RedisConfig { url: url.into(), is_cluster: false, prefix, ca_file: None });
    connected(link.unwrap()).await
}

/// Returns a link to an empty database, and an operator's connection to it. No other test gets the database while the
/// operator's connection lives. All databases share their channels, which the prefix separates.
async fn link_to_empty_database(db: u8, prefix: &str) -> (Arc<RedisLink>, RedisAdmin) {
    let url = format!("{}/{db}", redis_url().trim_end_matches('/'));
    let alone = DATABASES_ALONE[usize::from(db)].lock().await;
    let mut admin = RedisAdmin { alone: Some(alone), ..RedisAdmin::new(db).await };
    admin.flush_database().await;
    let link = RedisLink::new(RedisConfig {
        url: url.into(),
        is_cluster: false,
        prefix: prefix.to_owned(),
        ca_file: None,
    });
    (connected(link.unwrap()).await, admin)
}

/// Assigns a video that has no assignment, or whose assignment Redis has lost, and returns the epoch that was minted for
/// it. `seen` is the greatest epoch that the asker has seen.
async fn assign_minted(store: &RedisAssignments, id: &str, seen: u64) -> u64 {
    match store.assign_video(&video(id), None, &[reader_share("r")], seen, None).await.unwrap() {
        SwapOutcome::Stored(stored) => stored.epoch(),
        other => panic!("nobody else is here, not {other:?}"),
    }
}

/// Mints a planner's term after the term `expected`, and returns it.
async fn mint_term(store: &RedisAssignments, expected: u64, seen: u64) -> u64 {
    match store.mint_term("p", None, expected, seen).await.unwrap() {
        TermGrant::Held(term) => term.term,
        TermGrant::Lost(other) => panic!("nobody else is here, not {other:?}"),
    }
}

/// An operator's connection to Redis.
struct RedisAdmin {
    connection: MultiplexedConnection,
    db: u8,
    /// The lock of the database; `None` for a database that no test empties.
    #[expect(dead_code, reason = "it is held, and released on drop")]
    alone: Option<MutexGuard<'static, ()>>,
}

impl RedisAdmin {
    async fn new(db: u8) -> Self {
        let client = redis::Client::open(format!("{}/{db}", redis_url().trim_end_matches('/'))).unwrap();
        // By default an operator would wait for an answer for half a second.
        let patient = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(TEST_TIMEOUT))
            .set_response_timeout(Some(TEST_TIMEOUT));
        let connection = client.get_multiplexed_async_connection_with_config(&patient).await.unwrap();
        Self { connection, db, alone: None }
    }

    async fn run_command<T: FromRedisValue>(&mut self, words: &[&str]) -> T {
        cmd(words[0]).arg(&words[1..]).query_async(&mut self.connection).await.unwrap()
    }

    /// Subscribes to a channel.
    async fn subscribe_channel(&self, channel: &str) -> redis::aio::PubSub {
        let client = redis::Client::open(redis_url()).unwrap();
        let mut subscriber = client.get_async_pubsub().await.unwrap();
        subscriber.subscribe(channel).await.unwrap();
        subscriber
    }

    /// Receives the next message of a subscription.
    async fn next_message(subscriber: &mut redis::aio::PubSub) -> Vec<u8> {
        let told = tokio::time::timeout(TEST_TIMEOUT, subscriber.on_message().next()).await;
        told.expect("said in time").expect("goes on").get_payload_bytes().to_vec()
    }

    async fn flush_database(&mut self) {
        self.run_command::<()>(&["FLUSHDB"]).await;
    }

    /// Closes the other connections to this database for which `passes` returns true; returns how many.
    async fn kill_connections(&mut self, passes: fn(&str) -> bool) -> usize {
        let own: u64 = self.run_command(&["CLIENT", "ID"]).await;
        let clients: String = self.run_command(&["CLIENT", "LIST"]).await;
        let mut killed = 0;
        for client in clients.lines() {
            let field = |name: &str| client.split(' ').find_map(|field| field.strip_prefix(name)).unwrap();
            if field("db=") == self.db.to_string() && field("id=") != own.to_string() && passes(field("sub="))
            {
                let gone: usize = self.run_command(&["CLIENT", "KILL", "ID", field("id=")]).await;
                killed += gone;
            }
        }
        killed
    }
}

async fn next_item<T>(receiver: &mut mpsc::Receiver<T>) -> T {
    tokio::time::timeout(TEST_TIMEOUT, receiver.recv()).await.expect("arrives in time").expect("goes on")
}

fn video(id: &str) -> VideoId {
    VideoId::parse(id).unwrap()
}

fn reader_share(id: &str) -> ReaderShare {
    ReaderShare { reader: ReaderId::parse(id).unwrap(), weight: 1 }
}

fn entry(id: &str, score: f64) -> BoardEntry {
    let owner = UserId::parse("owner").unwrap();
    BoardEntry {
        video_id: video(id),
        owner,
        score,
        trending: Some(score),
        revision: score as u64,
        removed: false,
    }
}

fn projection_of(from: u64, next: u64, entries: Vec<BoardEntry>) -> BatchProjection {
    BatchProjection {
        generation: 1,
        offset_ranges: vec![OffsetRange { partition: 0, first: from, next, last_record: None }],
        entries,
        traces: Vec::new(),
    }
}

fn comment_epoch() -> CommentEpoch {
    CommentEpoch::parse("n1").unwrap()
}

fn comment(id: &str, seq: u64) -> Comment {
    let json = serde_json::json!({"id": format!("c{seq}"), "userid": "u", "videoid": id, "comment": "hé",
        "timestamp": 1_800_000_000_000_i64, "seq": seq});
    serde_json::from_value(json).unwrap()
}

fn comments(id: &str, seqs: impl IntoIterator<Item = u64>) -> Vec<Comment> {
    seqs.into_iter().map(|seq| comment(id, seq)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_ranking_passes_the_ranking_store_suite() {
    let fresh = || async { Arc::new(RedisRanking::new(link(0).await)) as Arc<dyn RankingStore> };
    liverank_adapters_testkit::ranking_store::suite(fresh).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_bus_passes_the_comment_bus_suite() {
    let fresh = || async { Arc::new(RedisBus::new(link(0).await)) as Arc<dyn CommentBus> };
    liverank_adapters_testkit::comment_bus::suite(fresh).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_assignments_pass_the_assignment_store_suite() {
    let fresh = || async { Arc::new(RedisAssignments::new(link(0).await)) as Arc<dyn AssignmentStore> };
    liverank_adapters_testkit::assignment_store::suite(fresh).await;
}

#[tokio::test]
async fn redis_keeps_the_greatest_peaks_of_viewers() {
    let store = RedisAssignments::new(link(0).await).with_max_peaks(2);
    let ids = ["a", "b", "c"].map(|id| VideoId::parse(id).unwrap());
    let [a, b, c] = ids.clone();
    store.raise_viewer_peaks(&[(a.clone(), 3), (b, 9)]).await.unwrap();
    store.raise_viewer_peaks(&[(c.clone(), 5)]).await.unwrap();
    assert_eq!(store.viewer_peaks(&ids).await.unwrap(), [None, Some(9), Some(5)]);
    store.raise_viewer_peaks(&[(a, 6), (c, 1)]).await.unwrap();
    assert_eq!(store.viewer_peaks(&ids).await.unwrap(), [Some(6), Some(9), None]);
}

#[tokio::test]
async fn keys_and_messages_in_redis_are_those_of_the_design() {
    let (link, mut redis) = link_to_empty_database(11, "").await;
    let store = RedisRanking::new(Arc::clone(&link));
    store.commit_snapshot(1, &[]).await.unwrap();
    store.project_batch(&projection_of(0, 1, vec![entry("a", 0.1 + 0.2), entry("b", 1e15)])).await.unwrap();
    let board: Vec<(String, f64)> =
        redis.run_command(&["ZREVRANGE", "global_ranking", "0", "-1", "WITHSCORES"]).await;
    assert_eq!(board, [("b".to_owned(), 1e15), ("a".to_owned(), 0.1 + 0.2)]);

    let client = redis::Client::open(redis_url()).unwrap();
    let (mut sink, mut stream) = client.get_async_pubsub().await.unwrap().split();
    sink.subscribe("video:v").await.unwrap();
    RedisBus::new(link).publish_comments(&comment_epoch(), &comments("v", 1..=1)).await.unwrap();
    let told =
        tokio::time::timeout(TEST_TIMEOUT, futures::StreamExt::next(&mut stream)).await.unwrap().unwrap();
    let json: serde_json::Value = serde_json::from_slice(told.get_payload_bytes()).unwrap();
    assert_eq!((&json["videoid"], &json["comment"], &json["seq"]), (&"v".into(), &"hé".into(), &1.into()));
}

/// Declared boards have keys of their own, and none if none is declared.
#[tokio::test]
async fn declared_boards_leave_nothing_behind() {
    let (link, mut redis) = link_to_empty_database(2, "t2:").await;
    let store = RedisRanking::new(link);
    store.commit_snapshot(1, &[]).await.unwrap();
    store.project_batch(&projection_of(0, 1, vec![entry("a", 1.0)])).await.unwrap();
    store.retain_declared_boards(&[], Duration::ZERO).await.unwrap();
    // The key that counts the steps of a repair expires by itself.
    let mut keys = async || -> BTreeSet<String> {
        let keys: Vec<String> = redis.run_command(&["KEYS", "*"]).await;
        keys.into_iter().filter(|key| !key.contains("ranking:steps:")).collect()
    };
    let before = keys().await;
    assert!(before.iter().all(|key| !key.contains("declared") && !key.contains("board:")), "{before:?}");
    let wanted = ["cats:0123456789abcdef".to_owned()];
    let board = store.declared_board(&wanted[0]);
    board.write_snapshot(1, &[entry("a", 1.0)]).await.unwrap();
    board.commit_snapshot(1, &[(0, 1)]).await.unwrap();
    board.note_half_life(1, 7).await.unwrap();
    board.write_snapshot(2, &[entry("a", 1.0)]).await.unwrap();
    store.retain_declared_boards(&wanted, Duration::ZERO).await.unwrap();
    let own: BTreeSet<String> = keys().await.difference(&before).cloned().collect();
    let list = "t2:ranking:declared";
    let is_own = |key: &String| key.starts_with("t2:board:cats:0123456789abcdef:") || key == list;
    assert!(own.len() > 10 && own.contains(list) && own.iter().all(is_own), "{own:?}");
    assert_eq!(store.retain_declared_boards(&[], Duration::ZERO).await.unwrap(), wanted);
    assert_eq!(keys().await, before);
}

#[tokio::test]
async fn streams_are_bounded_in_length_and_time() {
    let (link, mut redis) = link_to_empty_database(12, "t12:").await;
    let bus = RedisBus::new(link);
    bus.publish_comments(&comment_epoch(), &comments("v", 1..=5 * KEPT_COMMENTS_PER_VIDEO as u64))
        .await
        .unwrap();
    let length: usize = redis.run_command(&["XLEN", "t12:comments:v"]).await;
    assert!((KEPT_COMMENTS_PER_VIDEO..2 * KEPT_COMMENTS_PER_VIDEO).contains(&length), "{length}");
    let left: u64 = redis.run_command(&["TTL", "t12:comments:v"]).await;
    assert!(left <= KEPT_SECONDS && left > KEPT_SECONDS - 60, "{left}");
    // A gap that another program made is noticed, too.
    redis.run_command::<u64>(&["XDEL", "t12:comments:v", "4998-0"]).await;
    assert_eq!(bus.recent_comments(&comment_epoch(), &video("v"), 4996, 100).await.unwrap(), None);
    let rest = bus.recent_comments(&comment_epoch(), &video("v"), 4998, 100).await.unwrap();
    assert_eq!(rest, Some(comments("v", 4999..=5000)));
}

#[tokio::test]
async fn keys_of_another_program_are_not_taken_for_ours() {
    let (link, mut redis) = link_to_empty_database(8, "t8:").await;
    redis.run_command::<()>(&["SET", "t8:global_ranking", "text"]).await;
    let (boards, best) = (RedisRanking::new(Arc::clone(&link)), ranking_store::PageStart::Best);
    let error = boards.board_page(ranking_store::BuiltInBoard::Global, &best, 5).await.unwrap_err();
    assert!(!error.is_transient(), "{error}");
    redis.run_command::<u64>(&["HSET", "t8:ranking:projection", "format", "2", "generation", "1"]).await;
    assert!(
        RedisRanking::new(Arc::clone(&link)).checkpoint().await.is_err_and(|error| !error.is_transient())
    );
    redis
        .run_command::<u64>(&["HSET", "t8:assignments", "v", r#"{"format":2,"epoch":1,"readers":[]}"#])
        .await;
    assert!(RedisAssignments::new(link).load_assignments().await.is_err_and(|error| !error.is_transient()));
}

#[tokio::test]
async fn wrong_credentials_are_an_error_at_once() {
    let url = redis_url().replace("redis://", "redis://nobody:hunter2@");
    let link = RedisLink::new(RedisConfig {
        url: url.into(),
        is_cluster: false,
        prefix: String::new(),
        ca_file: None,
    });
    let boards = RedisRanking::new(link.unwrap());
    let error = retry(TEST_TIMEOUT, async || boards.checkpoint().await).await.unwrap_err();
    assert!(!error.is_transient() && !error.to_string().contains("hunter2"), "{error}");
}
