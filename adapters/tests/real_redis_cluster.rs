//! Tests of the stores on a real Redis Cluster: the conformance suites, and what only a cluster can do: move slots and
//! lose one node of several.

// Helpers of tests are tests: they panic with the reason.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use liverank_adapters::assignment_store::{AssignmentStore, redis::RedisAssignments};
use liverank_adapters::comment_bus::{ChannelHead, CommentBus, Delivery, redis::RedisBus};
use liverank_adapters::ranking_store::{BoardChange, RankingStore, redis::RedisRanking};
use liverank_adapters::redis_link::{RedisConfig, RedisLink};
use liverank_core::comment::{Comment, CommentEpoch};
use liverank_core::handover::ReaderShare;
use liverank_core::{ReaderId, VideoId};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, FromRedisValue, cmd};
use retry::retry;
use tokio::sync::{RwLock, mpsc};

#[path = "support/retry.rs"]
mod retry;

const TEST_TIMEOUT: Duration = Duration::from_secs(30);

/// A lock: tests that move slots or take nodes away have the cluster alone.
static CLUSTER_UNDISTURBED: RwLock<()> = RwLock::const_new(());

fn cluster_urls() -> String {
    std::env::var("LIVERANK_TEST_REDIS_CLUSTER")
        .expect("start the real parts: testbed/testbed up redis-cluster, and eval \"$(testbed/testbed env)\"")
}

fn fresh_prefix() -> String {
    format!("test-{:016x}:", rand::random::<u64>())
}

async fn link() -> Arc<RedisLink> {
    link_with_prefix(&fresh_prefix()).await
}

/// Returns a link that has connected to all nodes: on a busy machine that takes longer than a caller waits for it.
async fn link_with_prefix(prefix: &str) -> Arc<RedisLink> {
    let link = RedisLink::new(RedisConfig {
        url: cluster_urls().into(),
        is_cluster: true,
        prefix: prefix.to_owned(),
        ca_file: None,
    });
    let link = link.unwrap();
    let bus = RedisBus::new(Arc::clone(&link));
    let on_all_nodes: Vec<VideoId> = (0..40).map(|number| video(&format!("video-{number}"))).collect();
    retry(TEST_TIMEOUT, async || bus.channel_heads(&on_all_nodes).await).await.unwrap();
    link
}

fn video(id: &str) -> VideoId {
    VideoId::parse(id).unwrap()
}

fn comment_epoch() -> CommentEpoch {
    CommentEpoch::parse("n1").unwrap()
}

fn comment(id: &str, seq: u64) -> Comment {
    let json = serde_json::json!({"id": format!("c{seq}"), "userid": "u", "videoid": id, "comment": "hé",
        "timestamp": 1_800_000_000_000_i64, "seq": seq});
    serde_json::from_value(json).unwrap()
}

fn delivery(id: &str, seq: u64) -> Delivery {
    Delivery::Comment { numbering: comment_epoch(), comment: comment(id, seq), trace: None }
}

async fn next_item<T>(receiver: &mut mpsc::Receiver<T>) -> T {
    tokio::time::timeout(TEST_TIMEOUT, receiver.recv()).await.expect("arrives in time").expect("goes on")
}

/// An operator's connection to a node.
struct ClusterNode {
    connection: MultiplexedConnection,
    url: String,
    id: String,
}

impl ClusterNode {
    async fn connect(url: &str) -> Self {
        let client = redis::Client::open(url).unwrap();
        // By default an operator would wait for an answer for half a second.
        let patient = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(TEST_TIMEOUT))
            .set_response_timeout(Some(TEST_TIMEOUT));
        let mut connection = client.get_multiplexed_async_connection_with_config(&patient).await.unwrap();
        let id = cmd("CLUSTER").arg("MYID").query_async(&mut connection).await.unwrap();
        Self { connection, url: url.to_owned(), id }
    }

    async fn all_nodes() -> Vec<Self> {
        futures::future::join_all(cluster_urls().split(',').map(Self::connect)).await
    }

    async fn run_command<T: FromRedisValue>(&mut self, words: &[&str]) -> T {
        let answer = cmd(words[0]).arg(&words[1..]).query_async(&mut self.connection).await;
        answer.unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    fn node_port(&self) -> &str {
        self.url.rsplit_once(':').unwrap().1
    }

    /// Stops the node for a while; it comes back with its data.
    async fn restart_after(&mut self, after: Duration) {
        let after = after.as_millis().to_string();
        let gone = cmd("DEBUG").arg("RESTART").arg(after).query_async::<()>(&mut self.connection).await;
        assert!(gone.is_err(), "it answers, and so goes on");
    }
}

/// Returns the indexes of the node that holds the slot of `key`, and of another one.
async fn holder_and_other(nodes: &mut [ClusterNode], key: &str) -> (usize, usize) {
    let slot: u16 = nodes[0].run_command(&["CLUSTER", "KEYSLOT", key]).await;
    let ranges: Vec<(u16, u16, Vec<redis::Value>)> = nodes[0].run_command(&["CLUSTER", "SLOTS"]).await;
    let range = ranges.into_iter().find(|range| (range.0..=range.1).contains(&slot)).expect("is held");
    let redis::Value::Int(port) = range.2[1] else { panic!("a port") };
    let holder = nodes.iter().position(|node| node.node_port() == port.to_string()).unwrap();
    (holder, (holder + 1) % nodes.len())
}

/// Returns a video whose channel is held by the node `at`.
async fn video_held_by(nodes: &mut [ClusterNode], at: usize) -> String {
    for number in 0.. {
        let id = format!("video-{number}");
        if holder_and_other(nodes, &format!("{{{id}}}")).await.0 == at {
            return id;
        }
    }
    unreachable!("slots are spread")
}

/// Returns a video in an otherwise empty slot: a node does not release a slot that holds keys of another test.
async fn video_in_own_slot(nodes: &mut [ClusterNode]) -> String {
    loop {
        let id = format!("moving-{:016x}", rand::random::<u64>());
        let key = format!("{{{id}}}");
        let slot: u16 = nodes[0].run_command(&["CLUSTER", "KEYSLOT", &key]).await;
        let (holder, _) = holder_and_other(nodes, &key).await;
        if nodes[holder].run_command::<u64>(&["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()]).await == 0 {
            return id;
        }
    }
}

/// Publishes until it succeeds: a node that has just come back refuses for a moment.
async fn publish_until_taken(bus: &RedisBus, comment: Comment) {
    let started = Instant::now();
    while let Err(error) = bus.publish_comments(&comment_epoch(), std::slice::from_ref(&comment)).await {
        assert!(error.is_transient() && started.elapsed() < TEST_TIMEOUT, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_cluster_ranking_passes_the_ranking_store_suite() {
    let _calm = CLUSTER_UNDISTURBED.read().await;
    let fresh = || async { Arc::new(RedisRanking::new(link().await)) as Arc<dyn RankingStore> };
    liverank_adapters_testkit::ranking_store::suite(fresh).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_cluster_bus_passes_the_comment_bus_suite() {
    let _calm = CLUSTER_UNDISTURBED.read().await;
    let fresh = || async { Arc::new(RedisBus::new(link().await)) as Arc<dyn CommentBus> };
    liverank_adapters_testkit::comment_bus::suite(fresh).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_cluster_assignments_pass_the_assignment_store_suite() {
    let _calm = CLUSTER_UNDISTURBED.read().await;
    let fresh = || async { Arc::new(RedisAssignments::new(link().await)) as Arc<dyn AssignmentStore> };
    liverank_adapters_testkit::assignment_store::suite(fresh).await;
}

#[tokio::test]
async fn a_wrong_node_address_is_an_error() {
    let _calm = CLUSTER_UNDISTURBED.read().await;
    let single = std::env::var("LIVERANK_TEST_REDIS").expect("testbed/testbed up redis");
    let link = RedisLink::new(RedisConfig {
        url: single.into(),
        is_cluster: true,
        prefix: fresh_prefix(),
        ca_file: None,
    });
    let boards = RedisRanking::new(link.unwrap());
    let error = retry(TEST_TIMEOUT, async || boards.checkpoint().await).await.unwrap_err();
    assert!(!error.is_transient() && error.to_string().contains("cluster support disabled"), "{error}");
    // A cluster that is configured as a single Redis: two of its three nodes do not hold the key.
    let (mut told, prefix) = (0, fresh_prefix());
    for url in cluster_urls().split(',') {
        let config =
            RedisConfig { url: url.into(), is_cluster: false, prefix: prefix.clone(), ca_file: None };
        let boards = RedisRanking::new(RedisLink::new(config).unwrap());
        if let Err(error) = retry(TEST_TIMEOUT, async || boards.checkpoint().await).await {
            assert!(!error.is_transient() && error.to_string().contains("it is a cluster"), "{error}");
            told += 1;
        }
    }
    assert_eq!(told, 2);
}

#[tokio::test]
async fn comments_go_by_sharded_channels_and_streams_in_one_slot() {
    let _calm = CLUSTER_UNDISTURBED.read().await;
    let prefix = fresh_prefix();
    let bus = RedisBus::new(link_with_prefix(&prefix).await);
    let (subscription, mut deliveries) = bus.new_subscription().await.unwrap();
    subscription.subscribe(&video("v")).await.unwrap();
    let channel = format!("{prefix}video:{{v}}");
    let mut nodes = ClusterNode::all_nodes().await;
    let (holder, _) = holder_and_other(&mut nodes, &channel).await;
    let heard: (String, u64) = nodes[holder].run_command(&["PUBSUB", "SHARDNUMSUB", &channel]).await;
    assert_eq!(heard, (channel, 1));
    bus.publish_comments(&comment_epoch(), &[comment("v", 1)]).await.unwrap();
    assert_eq!(next_item(&mut deliveries).await, delivery("v", 1));
    assert_eq!(nodes[holder].run_command::<u64>(&["EXISTS", &format!("{prefix}comments:{{v}}")]).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_follows_a_slot_that_moves() {
    let _alone = CLUSTER_UNDISTURBED.write().await;
    let prefix = fresh_prefix();
    let bus = RedisBus::new(link_with_prefix(&prefix).await);
    let (subscription, mut deliveries) = bus.new_subscription().await.unwrap();
    let mut nodes = ClusterNode::all_nodes().await;
    let moving = &video_in_own_slot(&mut nodes).await;
    let staying = video_held_by(&mut nodes, 0).await;
    for id in [moving, &staying] {
        subscription.subscribe(&video(id)).await.unwrap();
    }
    let (mut seq, mut unheard) = (0, Duration::ZERO);
    for _ in 0..3 {
        seq += 1;
        publish_until_taken(&bus, comment(moving, seq)).await;
        assert_eq!(next_item(&mut deliveries).await, delivery(moving, seq));
        let key = format!("{prefix}comments:{{{moving}}}");
        let slot = nodes[0].run_command::<u16>(&["CLUSTER", "KEYSLOT", &key]).await.to_string();
        let (from, to) = holder_and_other(&mut nodes, &key).await;
        let (from_id, to_id, to_port) =
            (nodes[from].id.clone(), nodes[to].id.clone(), nodes[to].node_port().to_owned());
        nodes[to].run_command::<()>(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]).await;
        nodes[from].run_command::<()>(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]).await;
        // A key that is still on the old node is served there, and its comments are published there.
        seq += 1;
        bus.publish_comments(&comment_epoch(), &[comment(moving, seq)]).await.unwrap();
        assert_eq!(next_item(&mut deliveries).await, delivery(moving, seq));
        nodes[from].run_command::<()>(&["MIGRATE", "127.0.0.1", &to_port, &key, "0", "5000"]).await;
        // A key that has moved is requested where it is: reads, and writes to it together with others.
        let last = bus.recent_comments(&comment_epoch(), &video(moving), seq - 1, 10).await.unwrap();
        assert_eq!(last, Some(vec![comment(moving, seq)]));
        seq += 1;
        bus.publish_comments(&comment_epoch(), &[comment(moving, seq), comment(&staying, seq)])
            .await
            .unwrap();
        assert_eq!(next_item(&mut deliveries).await, delivery(&staying, seq));
        let heads = bus.channel_heads(&[video(moving), video(&staying)]).await.unwrap();
        assert_eq!(
            heads,
            [
                Some(ChannelHead { comment_epoch: comment_epoch(), seq }),
                Some(ChannelHead { comment_epoch: comment_epoch(), seq })
            ]
        );
        for at in [to, from, (to + 1) % 3] {
            nodes[at].run_command::<()>(&["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]).await;
        }
        let moved = Instant::now();
        assert_eq!(
            next_item(&mut deliveries).await,
            Delivery::Reset,
            "what was told where nobody listened is lost"
        );
        unheard += moved.elapsed();
    }
    seq += 1;
    publish_until_taken(&bus, comment(moving, seq)).await;
    assert_eq!(next_item(&mut deliveries).await, delivery(moving, seq));
    // By the node's message, not by the check every 5 s, for which three moves would wait at least twice.
    assert!(unheard < Duration::from_secs(8), "{unheard:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_node_affects_only_its_slots_and_comes_back() {
    let _alone = CLUSTER_UNDISTURBED.write().await;
    let link = link().await;
    let (bus, boards) = (RedisBus::new(Arc::clone(&link)), RedisRanking::new(link));
    boards.commit_snapshot(1, &[]).await.unwrap();
    let mut changes = boards.subscribe_changes().await.unwrap();
    assert_eq!(next_item(&mut changes).await, BoardChange::Reset);
    let mut nodes = ClusterNode::all_nodes().await;
    let (gone, stays) = holder_and_other(&mut nodes, "{boards}").await;
    let (there, elsewhere) = (video_held_by(&mut nodes, gone).await, video_held_by(&mut nodes, stays).await);
    let (subscription, mut deliveries) = bus.new_subscription().await.unwrap();
    for id in [&there, &elsewhere] {
        subscription.subscribe(&video(id)).await.unwrap();
        bus.publish_comments(&comment_epoch(), &[comment(id, 1)]).await.unwrap();
        assert_eq!(next_item(&mut deliveries).await, delivery(id, 1));
    }

    // Longer than a busy machine stops everything.
    nodes[gone].restart_after(Duration::from_secs(12)).await;
    let error = bus.publish_comments(&comment_epoch(), &[comment(&there, 2)]).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    let error = boards.checkpoint().await.unwrap_err();
    assert!(error.is_transient() && error.to_string().starts_with("redis is unavailable"), "{error}");
    let started = Instant::now();
    for seq in 2..=50 {
        bus.publish_comments(&comment_epoch(), &[comment(&elsewhere, seq)]).await.unwrap();
        assert_eq!(next_item(&mut deliveries).await, delivery(&elsewhere, seq));
    }
    // Each publication that waited for the lost node would take a second.
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());

    // The node comes back with its data, and all its channels are received again, after the reset.
    publish_until_taken(&bus, comment(&there, 2)).await;
    assert_eq!(
        bus.recent_comments(&comment_epoch(), &video(&there), 0, 10).await.unwrap().map(|all| all.len()),
        Some(2)
    );
    let mut heard = next_item(&mut deliveries).await;
    while heard == delivery(&there, 2) {
        heard = next_item(&mut deliveries).await;
    }
    assert_eq!(heard, Delivery::Reset);
    publish_until_taken(&bus, comment(&there, 3)).await;
    while heard != delivery(&there, 3) {
        heard = next_item(&mut deliveries).await;
    }
    assert_eq!(next_item(&mut changes).await, BoardChange::Reset);
    assert_eq!(boards.checkpoint().await.unwrap().generation, Some(1));
    subscription.unsubscribe(&video(&there)).await.unwrap();
}

/// While a node is away, whoever needs it reads the slots' owners again and again; that is no reason to break off the
/// loads from another node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn assignments_are_loaded_while_the_node_of_others_is_away() {
    const ASSIGNMENTS: usize = 20_000;
    let _alone = CLUSTER_UNDISTURBED.write().await;
    let prefix = fresh_prefix();
    let link = link_with_prefix(&prefix).await;
    let (bus, store) = (RedisBus::new(Arc::clone(&link)), RedisAssignments::new(link));
    let mut nodes = ClusterNode::all_nodes().await;
    let readers = [ReaderShare { reader: ReaderId::parse("r").unwrap(), weight: 1 }];
    for chunk in (0..ASSIGNMENTS).collect::<Vec<_>>().chunks(500) {
        let assigned = chunk.iter().map(|number| {
            let (store, readers, video) = (&store, &readers, video(&format!("v{number}")));
            async move { store.assign_video(&video, None, readers, 0, None).await.unwrap() }
        });
        futures::future::join_all(assigned).await;
    }
    let (stays, gone) = holder_and_other(&mut nodes, "{assignments}").await;
    let there = video_held_by(&mut nodes, gone).await;
    bus.publish_comments(&comment_epoch(), &[comment(&there, 1)]).await.unwrap();
    nodes[gone].restart_after(Duration::from_secs(4)).await;
    let asking = tokio::spawn(async move { publish_until_taken(&bus, comment(&there, 2)).await });
    let mut loads = 0;
    while !asking.is_finished() {
        let loaded = store.load_assignments().await.unwrap();
        assert_eq!(loaded.assignments.len(), ASSIGNMENTS);
        loads += 1;
    }
    asking.await.unwrap();
    assert!(loads > 1, "the node was away for the time of several loads");
    nodes[stays].run_command::<()>(&["DEL", &format!("{prefix}{{assignments}}:assignments")]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_subscriptions_are_renewed_channel_by_channel() {
    let _alone = CLUSTER_UNDISTURBED.write().await;
    let bus = RedisBus::new(link().await);
    let (subscription, mut deliveries) = bus.new_subscription().await.unwrap();
    let ids: Vec<String> = (0..1200).map(|at| format!("v{at}")).collect();
    let subscribed = ids.iter().map(|id| {
        let subscription = &subscription;
        async move { subscription.subscribe(&video(id)).await }
    });
    for result in futures::future::join_all(subscribed).await {
        result.unwrap();
    }
    let mut nodes = ClusterNode::all_nodes().await;
    for round in 1..=2 {
        for node in &mut nodes {
            assert_eq!(
                node.run_command::<usize>(&["CLIENT", "KILL", "TYPE", "pubsub"]).await,
                1,
                "one subscription a node"
            );
        }
        // Each node's part is reported when its subscription is active again; then everything is received, on every
        // channel.
        let mut resets = 0;
        let started = Instant::now();
        let mut heard = std::collections::HashSet::new();
        while heard.len() < ids.len() {
            assert!(started.elapsed() < TEST_TIMEOUT, "{} of {}", heard.len(), ids.len());
            let seq = round * 1000 + started.elapsed().as_millis() as u64 + 1;
            let missing = ids.iter().filter(|id| !heard.contains(*id));
            let comments: Vec<Comment> = missing.take(300).map(|id| comment(id, seq)).collect();
            bus.publish_comments(&comment_epoch(), &comments).await.unwrap();
            let pause = Duration::from_millis(200);
            while let Ok(Some(delivery)) = tokio::time::timeout(pause, deliveries.recv()).await {
                match delivery {
                    Delivery::Reset => resets += 1,
                    Delivery::Comment { comment, .. } => drop(heard.insert(comment.video_id.to_string())),
                }
            }
        }
        assert!((1..=3).contains(&resets), "{resets} losses told");
    }
}
