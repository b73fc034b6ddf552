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
use redis::{FromRedisValue, cmd};
use tokio::sync::mpsc;

#[path = "real_redis/boards_format.rs"]
mod boards_format;
#[path = "real_redis/epochs.rs"]
mod epochs;

const TEST_TIMEOUT: Duration = Duration::from_secs(20);

fn redis_url() -> String {
    std::env::var("LIVERANK_TEST_REDIS")
        .expect("start the real parts: testbed/testbed up, and eval \"$(testbed/testbed env)\"")
}

/// Returns a link with a random prefix; `db` separates the tests that lose data and connections from all others.
fn link(db: u8) -> Arc<RedisLink> {
    let url = format!("{}/{db}", redis_url().trim_end_matches('/'));
    let prefix = format!("test-{:016x}:", rand::random::<u64>());
    RedisLink::new(RedisConfig { url, cluster: false, prefix, ca_file: None }).unwrap()
}

/// Returns a link to an empty database, and an operator's connection to it. All databases share their channels: the
/// prefix separates those.
async fn link_to_empty_database(db: u8, prefix: &str) -> (Arc<RedisLink>, RedisAdmin) {
    let url = format!("{}/{db}", redis_url().trim_end_matches('/'));
    let mut admin = RedisAdmin::new(db).await;
    admin.flush_database().await;
    let link = RedisLink::new(RedisConfig { url, cluster: false, prefix: prefix.to_owned(), ca_file: None });
    (link.unwrap(), admin)
}

/// An operator's connection to Redis.
struct RedisAdmin {
    connection: MultiplexedConnection,
    db: u8,
}

impl RedisAdmin {
    async fn new(db: u8) -> Self {
        let client = redis::Client::open(format!("{}/{db}", redis_url().trim_end_matches('/'))).unwrap();
        Self { connection: client.get_multiplexed_async_connection().await.unwrap(), db }
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
    let fresh = || async { Arc::new(RedisRanking::new(link(0))) as Arc<dyn RankingStore> };
    liverank_adapters_testkit::ranking_store::suite(fresh).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_bus_passes_the_comment_bus_suite() {
    let fresh = || async { Arc::new(RedisBus::new(link(0))) as Arc<dyn CommentBus> };
    liverank_adapters_testkit::comment_bus::suite(fresh).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_assignments_pass_the_assignment_store_suite() {
    let fresh = || async { Arc::new(RedisAssignments::new(link(0))) as Arc<dyn AssignmentStore> };
    liverank_adapters_testkit::assignment_store::suite(fresh).await;
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
    store.keep_declared_boards(&[], Duration::ZERO).await.unwrap();
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
    store.keep_declared_boards(&wanted, Duration::ZERO).await.unwrap();
    let own: BTreeSet<String> = keys().await.difference(&before).cloned().collect();
    let list = "t2:ranking:declared";
    let is_own = |key: &String| key.starts_with("t2:board:cats:0123456789abcdef:") || key == list;
    assert!(own.len() > 10 && own.contains(list) && own.iter().all(is_own), "{own:?}");
    assert_eq!(store.keep_declared_boards(&[], Duration::ZERO).await.unwrap(), wanted);
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
async fn a_lost_subscription_is_reported_and_renewed() {
    let (link, mut redis) = link_to_empty_database(13, "t13:").await;
    let (ranking, bus) = (RedisRanking::new(Arc::clone(&link)), RedisBus::new(Arc::clone(&link)));
    let assignments = RedisAssignments::new(link);
    ranking.commit_snapshot(1, &[]).await.unwrap();
    let mut changes = ranking.subscribe_changes().await.unwrap();
    assert_eq!(next_item(&mut changes).await, BoardChange::Reset);
    let mut assigned = assignments.subscribe_changes().await.unwrap();
    assert_eq!(next_item(&mut assigned).await, assignment_store::AssignmentChange::Reset);
    let (subscription, mut deliveries) = bus.new_subscription().await.unwrap();
    for at in 0..1200 {
        subscription.subscribe(&video(&format!("v{at}"))).await.unwrap();
    }
    for round in 0..3_u32 {
        assert_eq!(redis.kill_connections(|subscribed| subscribed != "0").await, 3, "three subscriptions");
        assert_eq!(next_item(&mut changes).await, BoardChange::Reset);
        assert_eq!(next_item(&mut assigned).await, assignment_store::AssignmentChange::Reset);
        assert_eq!(next_item(&mut deliveries).await, Delivery::Reset);
        // From here on everything is received again, on every channel.
        let from = u64::from(round);
        ranking
            .project_batch(&projection_of(from, from + 1, vec![entry("v", f64::from(round + 1))]))
            .await
            .unwrap();
        assert!(matches!(next_item(&mut changes).await, BoardChange::Changed { .. }));
        assignments
            .assign_video(&video(&format!("v{round}")), None, &[reader_share("r")], 0, None)
            .await
            .unwrap();
        assert!(matches!(
            next_item(&mut assigned).await,
            assignment_store::AssignmentChange::Assigned { .. }
        ));
        for at in [0, 499, 500, 1199] {
            let comment = comment(&format!("v{at}"), from + 1);
            bus.publish_comments(&comment_epoch(), std::slice::from_ref(&comment)).await.unwrap();
            let heard = Delivery::Comment { numbering: comment_epoch(), comment, trace: None };
            assert_eq!(next_item(&mut deliveries).await, heard);
        }
        subscription.subscribe(&video(&format!("late {round}"))).await.unwrap();
    }
}

#[tokio::test]
async fn a_lost_connection_is_replaced() {
    let (link, mut redis) = link_to_empty_database(14, "t14:").await;
    let store = RedisRanking::new(link);
    store.commit_snapshot(1, &[]).await.unwrap();
    for round in 0..5_u64 {
        assert_eq!(redis.kill_connections(|_| true).await, 1, "one connection");
        // A command that was under way may fail; within a moment all succeed.
        let started = Instant::now();
        let projection = projection_of(round, round + 1, vec![entry("v", round as f64)]);
        loop {
            match store.project_batch(&projection).await {
                Ok(projected) => break assert_eq!(projected, ProjectionOutcome::Applied),
                Err(error) => assert!(error.is_transient() && started.elapsed() < TEST_TIMEOUT, "{error}"),
            }
        }
    }
    assert_eq!(store.checkpoint().await.unwrap().offsets, [(0, 5)]);
}

#[tokio::test]
async fn a_redis_that_comes_back_empty_is_noticed() {
    let (link, mut redis) = link_to_empty_database(15, "t15:").await;
    let (ranking, bus) = (RedisRanking::new(Arc::clone(&link)), RedisBus::new(Arc::clone(&link)));
    ranking.commit_snapshot(1, &[]).await.unwrap();
    ranking.project_batch(&projection_of(0, 1, vec![entry("v", 1.0)])).await.unwrap();
    let version = ranking.boards_snapshot().await.unwrap().version;
    let mut changes = ranking.subscribe_changes().await.unwrap();
    assert_eq!(next_item(&mut changes).await, BoardChange::Reset);
    bus.publish_comments(&comment_epoch(), &comments("v", 1..=3)).await.unwrap();

    redis.flush_database().await;
    assert_eq!(ranking.checkpoint().await.unwrap(), ProjectionCheckpoint::default());
    assert_eq!(
        ranking.project_batch(&projection_of(1, 2, vec![entry("v", 2.0)])).await.unwrap(),
        ProjectionOutcome::Behind
    );
    let keys: u64 = redis.run_command(&["DBSIZE"]).await;
    assert_eq!((keys, ranking.boards_snapshot().await.unwrap().version), (0, 0), "nothing was written");
    assert_eq!(bus.channel_heads(&[video("v")]).await.unwrap(), [None]);
    bus.publish_comments(&comment_epoch(), &comments("v", 4..=4)).await.unwrap();
    assert_eq!(
        bus.channel_heads(&[video("v")]).await.unwrap(),
        [Some(ChannelHead { comment_epoch: comment_epoch(), seq: 4 })]
    );
    assert_eq!(bus.recent_comments(&comment_epoch(), &video("v"), 2, 10).await.unwrap(), None);

    ranking.write_snapshot(1, &[entry("v", 2.0)]).await.unwrap();
    ranking.commit_snapshot(1, &[(0, 2)]).await.unwrap();
    assert_eq!(next_item(&mut changes).await, BoardChange::Reset, "the new beginning");
    assert_eq!(next_item(&mut changes).await, BoardChange::Reset, "the end of the repair");
    assert!(
        ranking.boards_snapshot().await.unwrap().version > version + 1,
        "nobody takes its versions for the old ones"
    );
    assert_eq!(
        ranking.project_batch(&projection_of(2, 3, vec![entry("v", 3.0)])).await.unwrap(),
        ProjectionOutcome::Applied
    );
}

#[tokio::test]
async fn a_repair_that_lost_its_first_steps_does_not_count() {
    let (link, mut redis) = link_to_empty_database(10, "t10:").await;
    let store = RedisRanking::new(Arc::clone(&link));
    let entries = [entry("a", 1.0), entry("b", 2.0)];
    store.write_snapshot(1, &entries[..1]).await.unwrap();
    redis.flush_database().await;
    let error = store.write_snapshot(1, &entries[1..]).await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("begin again"), "{error}");
    assert_eq!(store.checkpoint().await.unwrap(), ProjectionCheckpoint::default());
    // Begun again, the repair succeeds; and a loss just before its end is noticed, too.
    store.write_snapshot(1, &entries).await.unwrap();
    redis.flush_database().await;
    assert!(store.commit_snapshot(1, &[(0, 9)]).await.is_err_and(|error| error.is_transient()));
    assert_eq!(store.checkpoint().await.unwrap(), ProjectionCheckpoint::default());
    // The loss is noticed also if another process began a repair meanwhile.
    store.write_snapshot(1, &entries[..1]).await.unwrap();
    redis.flush_database().await;
    RedisRanking::new(link).write_snapshot(1, &entries[1..]).await.unwrap();
    assert!(store.write_snapshot(1, &entries[1..]).await.is_err_and(|error| error.is_transient()));
    store.write_snapshot(1, &entries).await.unwrap();
    store.commit_snapshot(1, &[(0, 9)]).await.unwrap();
    assert_eq!(
        store.checkpoint().await.unwrap(),
        ProjectionCheckpoint { generation: Some(1), offsets: vec![(0, 9)] }
    );
    assert_eq!(store.boards_snapshot().await.unwrap().entries.len(), 2);
}

/// Returns boards of generation 1 for two processes that are to fill generation 2.
async fn two_repairs_under_way(db: u8, prefix: &str) -> (RedisRanking, RedisRanking, RedisAdmin) {
    let (link, redis) = link_to_empty_database(db, prefix).await;
    let (first, second) = (RedisRanking::new(Arc::clone(&link)), RedisRanking::new(link));
    first.commit_snapshot(1, &[]).await.unwrap();
    first.project_batch(&projection_of(0, 1, vec![entry("old", 9.0)])).await.unwrap();
    (first, second, redis)
}

#[tokio::test]
async fn two_concurrent_repairs_of_a_generation_are_safe() {
    let (first, second, mut redis) = two_repairs_under_way(6, "t6:").await;
    first.write_snapshot(2, &[entry("a", 1.0), entry("b", 2.0)]).await.unwrap();
    second.write_snapshot(2, &[entry("a", 1.5)]).await.unwrap();
    first.write_snapshot(2, &[entry("c", 3.0)]).await.unwrap();
    assert_eq!(first.commit_snapshot(2, &[(0, 1), (1, 7)]).await.unwrap(), ProjectionOutcome::Applied);
    let told = |store: Vec<BoardEntry>| {
        let mut told: Vec<_> =
            store.into_iter().map(|entry| (entry.video_id.to_string(), entry.score)).collect();
        told.sort_by(|a, b| a.0.cmp(&b.0));
        told
    };
    let line = |id: &str, score: f64| (id.to_owned(), score);
    let snapshot = first.boards_snapshot().await.unwrap();
    assert_eq!(told(snapshot.entries), [line("a", 1.5), line("b", 2.0), line("c", 3.0)]);
    // The slower repair goes on where it was, with the generation in force now, and knows other offsets.
    assert_eq!(
        second.write_snapshot(2, &[entry("b", 2.0), entry("c", 4.0)]).await.unwrap(),
        ProjectionOutcome::Applied
    );
    assert_eq!(second.commit_snapshot(2, &[(1, 5), (2, 3)]).await.unwrap(), ProjectionOutcome::Applied);
    let snapshot = second.boards_snapshot().await.unwrap();
    assert_eq!(told(snapshot.entries), [line("a", 1.5), line("b", 2.0), line("c", 4.0)]);
    let standing = second.checkpoint().await.unwrap();
    assert_eq!(standing, ProjectionCheckpoint { generation: Some(2), offsets: vec![(0, 1), (1, 7), (2, 3)] });
    let mut keys: Vec<String> = redis.run_command(&["KEYS", "*"]).await;
    keys.sort();
    let kept = ["global_ranking", "ranking:owners", "ranking:projection", "ranking:revisions", "trending"];
    assert_eq!(keys, kept.map(|name| format!("t6:{name}")));
    for key in keys {
        assert_eq!(redis.run_command::<i64>(&["TTL", &key]).await, -1, "{key} in force does not expire");
    }
}

#[tokio::test]
async fn an_unfinished_repair_expires_and_is_never_served() {
    let (first, second, mut redis) = two_repairs_under_way(5, "t5:").await;
    first.write_snapshot(2, &[entry("a", 1.0)]).await.unwrap();
    let mut left: Vec<String> = redis.run_command(&["KEYS", "t5:ranking:next*"]).await;
    left.extend(redis.run_command::<Vec<String>>(&["KEYS", "t5:ranking:steps:*"]).await);
    assert_eq!(left.len(), 6, "{left:?}");
    for key in &left {
        let seconds: i64 = redis.run_command(&["TTL", key]).await;
        assert!((1..=600).contains(&seconds), "{key} expires in {seconds} s");
    }
    // As if the shadow had expired, wholly or in part, while its repair paused, and another repair has begun anew
    // meanwhile.
    let one = |name: &str| vec![format!("t5:ranking:next:{name}")];
    for gone in [left[..5].to_vec(), one("global"), one("owners"), one("revisions")] {
        first.write_snapshot(2, &[entry("a", 1.0)]).await.unwrap();
        let words: Vec<&str> = ["DEL"].into_iter().chain(gone.iter().map(String::as_str)).collect();
        redis.run_command::<u64>(&words).await;
        let error = first.commit_snapshot(2, &[(0, 1)]).await.unwrap_err();
        assert!(error.is_transient() && error.to_string().contains("begin again"), "{error}");
        first.write_snapshot(2, &[entry("a", 1.0)]).await.unwrap();
        redis.run_command::<u64>(&words).await;
        // The second repair may have written a part before, too.
        if second.write_snapshot(2, &[entry("b", 1.0)]).await.is_err() {
            second.write_snapshot(2, &[entry("b", 1.0)]).await.unwrap();
        }
        assert!(first.write_snapshot(2, &[entry("c", 1.0)]).await.is_err_and(|error| error.is_transient()));
        assert_eq!(first.checkpoint().await.unwrap().generation, Some(1));
        assert_eq!(first.boards_snapshot().await.unwrap().entries, [entry("old", 9.0)]);
    }
    first.write_snapshot(2, &[entry("a", 1.0), entry("b", 1.0)]).await.unwrap();
    first.commit_snapshot(2, &[(0, 1)]).await.unwrap();
    assert_eq!(first.boards_snapshot().await.unwrap().entries.len(), 2);
}

#[tokio::test]
async fn epochs_and_terms_survive_a_redis_that_comes_back_empty_or_old() {
    let (link, mut redis) = link_to_empty_database(9, "t9:").await;
    let store = RedisAssignments::new(link);
    let readers = [reader_share("r")];
    let assign = async |video_id: &str, seen| match store
        .assign_video(&video(video_id), None, &readers, seen, None)
        .await
        .unwrap()
    {
        SwapOutcome::Stored(stored) => stored.epoch(),
        other => panic!("nobody else is here, not {other:?}"),
    };
    let mint = async |expected, seen| match store.mint_term("p", None, expected, seen).await.unwrap() {
        TermGrant::Held(term) => term.term,
        TermGrant::Lost(other) => panic!("nobody else is here, not {other:?}"),
    };
    let (old, old_term) = (assign("v", 40).await, mint(0, 0).await);
    let before = store.load_assignments().await.unwrap().version;
    // Redis is empty, and nobody is left who has seen an epoch.
    redis.flush_database().await;
    let after = store.load_assignments().await.unwrap();
    assert!(after.assignments.is_empty() && after.version > before + 1, "{before} and {}", after.version);
    let (first, first_term) = (old, old_term);
    let (old, old_term) = (assign("v", 0).await, mint(0, 0).await);
    assert!(old > first && old_term > first_term);
    let copy: Vec<String> = redis.run_command(&["HGETALL", "t9:assignments:state"]).await;
    let (lost, lost_term) = (assign("lost", 0).await, mint(old_term, 0).await);
    // Redis is a copy without the last changes: epochs that were minted and lost are not minted again.
    let other_server = |text: &String| if text.len() == 40 { "another".to_owned() } else { text.clone() };
    let copy: Vec<String> = copy.iter().map(other_server).collect();
    let copy: Vec<&str> = copy.iter().map(String::as_str).collect();
    redis.flush_database().await;
    redis.run_command::<u64>(&[&["HSET", "t9:assignments:state"], &copy[..]].concat()).await;
    let (next, next_term) = (assign("v", 0).await, mint(old_term, 0).await);
    assert!(next > lost + 50_000_000 && lost > old, "{next} after {lost}: also where its clock is behind");
    assert!(next_term > lost_term + 50_000_000 && lost_term > old_term);
    // Redis's clock went back: those that are left report the epochs that they have seen.
    let ahead = next + 3_600_000_000;
    redis.flush_database().await;
    assert!(assign("v", ahead).await > ahead);
    assert!(mint(0, ahead).await > ahead);
    // The first caller after that may not know the epochs that the next caller has seen, nor the next one those minted
    // for the first.
    redis.flush_database().await;
    let (low, low_term) = (assign("w", 0).await, mint(0, 0).await);
    let (ahead, ahead_term) = (low + 3_600_000_000, low_term + 3_600_000_000);
    assert!(assign("v", ahead).await > ahead + 50_000_000);
    assert!(mint(low_term, ahead_term).await > ahead_term + 50_000_000);
}

/// An earlier release accepted any epoch: one heartbeat with the highest number that exists stopped every later
/// assignment.
#[tokio::test]
async fn an_epoch_that_was_never_minted_is_healed() {
    let (link, mut redis) = link_to_empty_database(5, "t5:").await;
    let store = RedisAssignments::new(link);
    let never = MAX_EPOCH.to_string();
    let poisoned = format!(r#"{{"format":1,"epoch":{never},"readers":[{{"reader":"evil","weight":1}}]}}"#);
    redis
        .run_command::<u64>(&[
            "HSET",
            "t5:assignments:state",
            "format",
            "1",
            "version",
            "7",
            "epoch",
            &never,
            "term",
            &never,
        ])
        .await;
    redis.run_command::<u64>(&["HSET", "t5:assignments", "poisoned", &poisoned]).await;
    let record = format!(
        r#"7 {{"format":1,"id":"evil","public_url":"http://e","internal_url":"http://e","beat":7,"capacity":1,"viewers":0,"draining":false,"highest_epoch":{},"videos":[{{"video":"v","viewers":1,"epoch":{never},"ready":true}}],"messages_sent":0}}"#,
        MAX_EPOCH - 1
    );
    redis.run_command::<u64>(&["HSET", "t5:readers", "evil", &record]).await;

    let evil = &store.reader_records().await.unwrap()[0];
    assert_eq!(
        (evil.highest_epoch, evil.videos[0].epoch),
        (0, 0),
        "what a reader says of it is not believed"
    );
    assert_eq!(store.load_assignments().await.unwrap().assignments, [], "nor what was assigned under it");
    assert_eq!(store.planner_orders().await.unwrap().planner_term, None);
    // A video is assigned, then the poisoned one again, moved and released, as if the wrong epoch had never been.
    let assign = async |id: &str, expected| {
        store.assign_video(&video(id), expected, &[reader_share("r")], 0, None).await.unwrap()
    };
    let mut epochs = Vec::new();
    for id in ["new", "poisoned"] {
        let SwapOutcome::Stored(stored) = assign(id, None).await else { panic!("{id} is not stored") };
        let SwapOutcome::Stored(moved) = assign(id, Some(stored.epoch())).await else {
            panic!("{id} is not moved")
        };
        epochs.extend([stored.epoch(), moved.epoch()]);
    }
    assert!(epochs.is_sorted() && epochs[3] < MAX_EPOCH / 2, "{epochs:?}");
    let loaded = store.load_assignments().await.unwrap();
    assert_eq!(loaded.assignments.len(), 2);
    let SwapOutcome::Stored(_) = store.remove_assignment(&video("poisoned"), epochs[3]).await.unwrap() else {
        panic!("it stays")
    };
    let TermGrant::Held(term) = store.mint_term("p", None, 0, 0).await.unwrap() else { panic!("no term") };
    assert!(term.term < MAX_EPOCH / 2);
    let ordered = store
        .assign_video(&video("new"), Some(epochs[1]), &[reader_share("r")], 0, Some(term.term))
        .await
        .unwrap();
    assert!(matches!(ordered, SwapOutcome::Stored(_)), "{ordered:?}");
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_batch_that_lost_its_first_steps_does_not_count() {
    const ENTRY_COUNT: usize = 20_000;
    let (link, mut redis) = link_to_empty_database(7, "t7:").await;
    let entries: Vec<_> = (0..ENTRY_COUNT).map(|at| entry(&format!("v{at}"), 1.0)).collect();
    let projection = Arc::new(projection_of(0, 1, entries));
    // As if the boards had been lost and begun again between two steps; chance decides between which.
    let lose = "redis.call('FLUSHDB') return redis.call('HSET', 't7:ranking:projection', 'generation', '1')";
    for _ in 0..20 {
        redis.flush_database().await;
        let store = Arc::new(RedisRanking::new(Arc::clone(&link)));
        store.commit_snapshot(1, &[]).await.unwrap();
        let (projecting, projection) = (Arc::clone(&store), Arc::clone(&projection));
        let projected = tokio::spawn(async move { projecting.project_batch(&projection).await });
        while redis.run_command::<usize>(&["ZCARD", "t7:global_ranking"]).await == 0 {}
        redis.run_command::<usize>(&["EVAL", lose, "0"]).await;
        match projected.await.unwrap() {
            Err(error) => {
                assert!(error.is_transient(), "{error}");
                let standing = store.checkpoint().await.unwrap();
                return assert_eq!(standing, ProjectionCheckpoint { generation: Some(1), offsets: vec![] });
            }
            // The loss came after the batch's end.
            Ok(_) => {
                assert!(store.checkpoint().await.unwrap().offsets.is_empty(), "a part counts for the whole");
            }
        }
    }
    panic!("a batch of 20 steps was over before the first of them was seen, 20 times");
}

#[tokio::test]
async fn wrong_credentials_are_an_error_at_once() {
    let url = redis_url().replace("redis://", "redis://nobody:hunter2@");
    let link = RedisLink::new(RedisConfig { url, cluster: false, prefix: String::new(), ca_file: None });
    let error = RedisRanking::new(link.unwrap()).checkpoint().await.unwrap_err();
    assert!(!error.is_transient() && !error.to_string().contains("hunter2"), "{error}");
}
