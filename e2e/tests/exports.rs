//! A test of exports on real stores: consumers and stores are killed again and again under load and moderation, and a
//! consumer of committed records must find each exported thing exactly once, as the archive has it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bson::{Document, doc};
use liverank_e2e::cluster::Cluster;
use liverank_e2e::patient::answer_of;
use liverank_e2e::wait;
use own_stores::OwnStores;
use rand::RngExt;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

#[allow(dead_code, reason = "the fault tests use the rest")]
#[path = "../faults/kafka.rs"]
mod kafka;
#[allow(dead_code, reason = "the fault tests use the rest")]
#[path = "../faults/mongo.rs"]
mod mongo;

#[path = "exports/boards.rs"]
mod boards;
#[path = "exports/own_stores.rs"]
mod own_stores;

/// The number of times that a consumer is killed.
const KILLS: usize = 30;
/// After so many kills of consumers a store is killed, each store in turn.
const KILLS_A_STORE: usize = 5;
/// The stores that are killed, in turn.
const STORES: [&str; 3] = ["kafka", "mongodb", "redis"];
/// The time for which a killed store stays down: longer than a transaction usually takes, shorter than its time limit.
const STORE_DOWN_TIME: Duration = Duration::from_secs(2);
/// The pause of a client whose request was refused because a store is down.
const REFUSED_PAUSE: Duration = Duration::from_millis(50);
/// The time in milliseconds for which a killed consumer stays down, and for which the next one runs before it is
/// killed: between "has not begun to export" and "has exported something".
const PAUSE_MS: std::ops::Range<u64> = 100..1_500;
/// The time for which the load continues after the last kill: boards are exported once a second.
const LOAD_AFTER_KILLS: Duration = Duration::from_secs(10);
/// The time limit until all that was counted is exported.
const REST_TIMEOUT: Duration = Duration::from_mins(2);
/// The number of partitions of the log.
const PARTITION_COUNT: usize = 12;
/// A comment is moderated when so many later comments have been posted.
const MODERATED_LATER: usize = 300;
/// The number of clients that post at the same time, each to a video of its own.
const POSTERS: usize = 4;

/// An exported thing: the partition and the offset of the log from which it comes, and its kind.
type ExportId = (i64, i64, &'static str);

/// Posts comments, deletes and pins some, bans users and decides on held comments, until `over`. Returns the number of
/// accepted posts and actions.
async fn post_and_moderate(gateway: String, number: usize, over: &AtomicBool) -> usize {
    let (client, video) = (Client::new(), format!("video-{number}"));
    let (mut posted, mut waiting) = (Vec::new(), VecDeque::new());
    let mut done = 0;
    while !over.load(Relaxed) {
        let nth = posted.len();
        let user = format!("user-{}", nth % 7);
        let body = json!({"userid": user, "videoid": video, "comment": format!("text {nth}")});
        let Ok(answer) = client.post(format!("{gateway}/comment")).json(&body).send().await else {
            tokio::time::sleep(REFUSED_PAUSE).await;
            continue;
        };
        let status = answer.status();
        let is_full = status == StatusCode::TOO_MANY_REQUESTS;
        if !is_full && !status.is_success() {
            // A store is down: the comment may have been accepted or not, and is not moderated.
            tokio::time::sleep(REFUSED_PAUSE).await;
            continue;
        }
        if !is_full {
            let answer: Value = answer.json().await.expect("JSON");
            let id = answer["comment"]["id"].as_str().or_else(|| answer["id"].as_str());
            let id = id.unwrap_or_else(|| panic!("no id: {status} {answer}")).to_owned();
            if status == StatusCode::ACCEPTED {
                waiting.push_back(id.clone());
            }
            posted.push(id);
        }
        // A held comment that is not counted yet cannot be decided on; the decision is tried again later.
        if (is_full || waiting.len() > MODERATED_LATER)
            && let Some(id) = waiting.pop_front()
        {
            let outcome = if nth.is_multiple_of(4) { "release" } else { "reject" };
            let body = json!({"videoid": video, "id": id, "outcome": outcome});
            let answer = client.post(format!("{gateway}/moderation/held")).json(&body).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                done += 1;
            } else {
                waiting.push_back(id);
            }
        }
        let Some(id) = posted.get(nth.saturating_sub(MODERATED_LATER)).filter(|_| !is_full) else { continue };
        let action = match nth % 6 {
            0 => client.delete(format!("{gateway}/comments/{video}/{id}?reason=test")),
            1 => client.post(format!("{gateway}/moderation/pins")).json(&json!({"videoid": video, "id": id})),
            3 => {
                let body = json!({"userid": format!("troll-{number}-{nth}"), "reason": "spam"});
                client.post(format!("{gateway}/moderation/bans")).json(&body)
            }
            _ => continue,
        };
        done += usize::from(action.send().await.is_ok_and(|answer| answer.status().is_success()));
    }
    done + posted.len()
}

/// Sets the rule that every comment on the first client's video is held.
async fn hold_all(gateway: &str) {
    let body = json!({"videoid": "video-0", "rules": {"hold_all": true}});
    let answer = answer_of(Client::new().post(format!("{gateway}/moderation/rules")).json(&body)).await;
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
}

/// Kills one consumer after the other, so that partitions change owners and transactions stay open, and stores in
/// between.
async fn kill_consumers_and_stores(cluster: &mut Cluster, stores: &OwnStores) {
    for nth in 0..KILLS {
        let name = ["consumer-1", "consumer-2"][nth % 2];
        let pause = || Duration::from_millis(rand::rng().random_range(PAUSE_MS));
        tokio::time::sleep(pause()).await;
        cluster.process(name).kill();
        tokio::time::sleep(pause()).await;
        if nth % KILLS_A_STORE == KILLS_A_STORE - 1 {
            let store = STORES[nth / KILLS_A_STORE % STORES.len()];
            stores.testbed(&["kill", store]).await;
            cluster.process(name).restart();
            tokio::time::sleep(STORE_DOWN_TIME).await;
            stores.testbed(&["start", store]).await;
        } else {
            cluster.process(name).restart();
        }
    }
}

async fn find(cluster: &Cluster, stores: &OwnStores, collection: &str) -> Vec<Document> {
    let set = mongo::ReplicaSet::new(vec![stores.port("MONGODB")]);
    let database = format!("{}video_db", cluster.prefix);
    wait::until("documents", REST_TIMEOUT, || async {
        let mut primary = set.wait_for_primary(Duration::from_secs(20)).await.ok()?.1;
        primary.find(&database, collection, doc! {}, doc! {}, doc! {}).await.ok()
    })
    .await
}

fn place_of(document: &Document) -> (i64, i64) {
    let number = |name: &str| {
        let value = document.get(name).unwrap_or_else(|| panic!("no {name}: {document}"));
        value.as_i64().or_else(|| value.as_i32().map(i64::from)).expect("a number")
    };
    (number("partition"), number("offset"))
}

/// Returns the things that the archive has, which must all be exported. Held comments that were decided on need not be
/// exported as held.
async fn archived(cluster: &Cluster, stores: &OwnStores) -> BTreeSet<ExportId> {
    let mut all = BTreeSet::new();
    for (collection, kind) in [("comments", "entry"), ("moderation", "moderation"), ("held", "held")] {
        let found = find(cluster, stores, collection).await;
        assert!(!found.is_empty(), "{collection}");
        all.extend(found.iter().map(place_of).map(|(partition, offset)| (partition, offset, kind)));
    }
    all
}

/// A record of the topic, as a consumer of committed records gets it.
struct ExportedRecord {
    /// The partition of the topic from which the record was read.
    partition: String,
    key: String,
    value: Value,
}

impl ExportedRecord {
    fn kind(&self) -> &'static str {
        match self.value["type"].as_str().expect("a type") {
            "held" => "held",
            "moderation" => "moderation",
            "comment" | "removed" | "deleted" | "pinned" | "shadowed" => "entry",
            other => panic!("{other}"),
        }
    }

    fn export_id(&self) -> ExportId {
        let number = |name: &str| self.value[name].as_i64().expect("a number");
        (number("partition"), number("offset"), self.kind())
    }
}

/// Returns all committed records of a topic, read by Kafka's own console consumer.
async fn read_topic(stores: &OwnStores, topic: &str) -> Vec<ExportedRecord> {
    let text = stores.testbed(&["consume", topic]).await;
    text.lines()
        .map(|line| {
            let mut parts = line.splitn(4, '\t').map(str::to_owned);
            let mut part = || parts.next().unwrap_or_else(|| panic!("another line: {line}"));
            let (partition, _, key) = (part(), part(), part());
            ExportedRecord { partition, key, value: serde_json::from_str(&part()).expect("JSON") }
        })
        .collect()
}

/// Waits until the topic has all that it must have, and returns its records.
async fn wait_until_exported(
    stores: &OwnStores,
    topic: &str,
    expected: &BTreeSet<ExportId>,
) -> Vec<ExportedRecord> {
    wait::until("everything exported", REST_TIMEOUT, || async {
        let found = read_topic(stores, topic).await;
        let told: BTreeSet<ExportId> = found.iter().map(ExportedRecord::export_id).collect();
        expected.is_subset(&told).then_some(found)
    })
    .await
}

/// Waits until the consumers have counted all that was posted, that is until the archive's offsets equal the log's
/// ends.
async fn wait_until_counted(cluster: &Cluster, stores: &OwnStores) {
    let log = format!("{}video_interactions", cluster.prefix);
    let log = kafka::Topic::open(stores.port("KAFKA"), &log, PARTITION_COUNT).await.expect("the log");
    wait::until("all counted", REST_TIMEOUT, || async {
        let ends: i64 = log.end_offsets().await.ok()?.iter().sum();
        let offsets = find(cluster, stores, "offsets").await;
        let next = |offset: &Document| offset.get_i64("next").ok();
        (offsets.iter().filter_map(next).sum::<i64>() == ends).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_exported_once_and_in_order_whatever_is_killed() {
    let (topic, boards_topic) =
        (format!("exports-{}", std::process::id()), format!("exports-{}-boards", std::process::id()));
    let flags = ["--export-comments", &topic, "--export-boards", &boards_topic];
    let stores = OwnStores::start().await;
    let mut cluster = Cluster::start_with_boards_and(&stores.addresses(), boards::DECLARED, &flags).await;
    hold_all(&cluster.gateways[0]).await;
    let over = Arc::new(AtomicBool::new(false));
    let posters: Vec<_> = (0..POSTERS)
        .map(|poster| {
            let (gateway, over) = (cluster.gateways[poster % 2].clone(), Arc::clone(&over));
            tokio::spawn(async move { post_and_moderate(gateway, poster, &over).await })
        })
        .collect();
    kill_consumers_and_stores(&mut cluster, &stores).await;
    tokio::time::sleep(LOAD_AFTER_KILLS).await;
    over.store(true, Relaxed);
    let mut done = 0;
    for poster in posters {
        done += poster.await.expect("a poster");
    }
    wait_until_counted(&cluster, &stores).await;
    let expected = archived(&cluster, &stores).await;
    let found = wait_until_exported(&stores, &topic, &expected).await;
    println!(
        "{done} acknowledged, {} in the archive, {} exported, {KILLS} kills",
        expected.len(),
        found.len()
    );
    assert_once_and_in_order(&found, &expected);
    compare_with_channels(&cluster, &found).await;
    boards::compare_boards(&cluster, &stores, &boards_topic).await;
    boards::compare_results(&mut cluster, &stores, &boards_topic).await;
}

fn assert_once_and_in_order(found: &[ExportedRecord], expected: &BTreeSet<ExportId>) {
    let told: BTreeSet<ExportId> = found.iter().map(ExportedRecord::export_id).collect();
    assert_eq!(told.len(), found.len(), "something is there twice");
    let more = told.difference(expected).find(|(_, _, kind)| *kind != "held");
    assert_eq!(more, None, "the archive does not have it");
    assert!(expected.is_subset(&told));
    let mut last: BTreeMap<(&str, &str), ExportId> = BTreeMap::new();
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for record in found {
        let (partition, offset, kind) = record.export_id();
        let place = (record.partition.as_str(), record.key.as_str());
        if let Some(before) = last.insert(place, (partition, offset, kind)) {
            assert!(
                before.1 <= offset && before.0 == partition,
                "{before:?} before {offset} of {}",
                record.key
            );
        }
        *kinds.entry(record.value["type"].as_str().expect("a type")).or_default() += 1;
    }
    println!("{kinds:?}");
    for kind in ["comment", "deleted", "pinned", "held", "moderation"] {
        assert!(kinds.get(kind).is_some_and(|count| *count > 0), "no {kind}: {kinds:?}");
    }
}

/// Compares the exported comments with each channel: the sequence numbers have no holes, and each comment that the API
/// shows was exported with the same content.
async fn compare_with_channels(cluster: &Cluster, found: &[ExportedRecord]) {
    for poster in 0..POSTERS {
        let video = format!("video-{poster}");
        let own = found.iter().filter(|record| record.key == video && record.kind() == "entry");
        let of_id = |record: &ExportedRecord| -> Option<u64> {
            record.value["id"].as_str()?.rsplit_once('-')?.1.parse().ok()
        };
        let numbers: Vec<u64> = own.clone().map(|record| of_id(record).expect("a number")).collect();
        assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "{video}");
        let url = format!("{}/comments/{video}?limit=100", cluster.gateways[0]);
        let page = wait::json(&url, REST_TIMEOUT).await;
        let told: BTreeMap<&str, &Value> = own
            .filter(|record| record.value["type"] == "comment")
            .filter_map(|record| Some((record.value["data"]["id"].as_str()?, &record.value["data"])))
            .collect();
        let comments = page["comments"].as_array().expect("comments");
        assert!(!comments.is_empty(), "{video}");
        for comment in comments {
            let id = comment["id"].as_str().expect("an id");
            assert_eq!(told.get(id), Some(&comment), "{video}");
        }
    }
}
