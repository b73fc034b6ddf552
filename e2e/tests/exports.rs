//! What is exported to other systems, on the real parts: consumers are killed again and again under load and moderation, and a
//! reader of committed records finds each thing once, as the archive has it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bson::{Document, doc};
use liverank_e2e::cluster::{Cluster, Stores};
use liverank_e2e::wait;
use rand::RngExt;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

#[allow(dead_code, reason = "the fault tests use the rest")]
#[path = "../faults/mongo.rs"]
mod mongo;

/// How often a consumer is killed.
const KILLS: usize = 30;
/// How long one that was killed is left dead, and the next one alive, in milliseconds: from before it has begun to export to after it
/// has told something.
const PAUSE_MS: std::ops::Range<u64> = 100..1_500;
/// How long what is counted may take to be exported.
const REST_TIMEOUT: Duration = Duration::from_mins(2);
/// How many post at once, and about how many videos.
const POSTERS: usize = 4;

/// A thing that is exported: where in the log it comes from, and what it is.
type Told = (i64, i64, &'static str);

/// Posts comments, deletes and pins some, bans users and releases what waits, until `over`. Returns how often it did something.
async fn post_and_moderate(gateway: String, poster: usize, over: &AtomicBool) -> usize {
    let (client, video) = (Client::new(), format!("video-{poster}"));
    let (mut done, mut nth) = (0, 0_usize);
    while !over.load(Relaxed) {
        nth += 1;
        let body = json!({"userid": format!("user-{}", nth % 7), "videoid": video, "comment": format!("text {nth}")});
        let answer = client.post(format!("{gateway}/comment")).json(&body).send().await.expect("an answer");
        let status = answer.status();
        let answer: Value = answer.json().await.expect("JSON");
        done += usize::from(status.is_success());
        let Some(id) = answer["comment"]["id"].as_str().or_else(|| answer["id"].as_str()) else { continue };
        let action = match nth % 6 {
            0 => client.delete(format!("{gateway}/comments/{video}/{id}?reason=test")),
            1 => client.post(format!("{gateway}/moderation/pins")).json(&json!({"videoid": video, "id": id})),
            2 if status == StatusCode::ACCEPTED => {
                let outcome = if nth % 4 == 0 { "release" } else { "reject" };
                let body = json!({"videoid": video, "id": id, "outcome": outcome});
                client.post(format!("{gateway}/moderation/held")).json(&body)
            }
            3 => {
                let body = json!({"userid": format!("troll-{poster}-{nth}"), "reason": "spam"});
                client.post(format!("{gateway}/moderation/bans")).json(&body)
            }
            _ => continue,
        };
        // What waits may not be counted yet, and is refused then: nothing was done.
        done += usize::from(action.send().await.expect("an answer").status().is_success());
    }
    done
}

/// Holds every comment on the first poster's video.
async fn hold_all(gateway: &str) {
    let body = json!({"videoid": "video-0", "rules": {"hold_all": true}});
    let answer = Client::new().post(format!("{gateway}/moderation/rules")).json(&body).send().await;
    assert_eq!(answer.expect("an answer").status(), StatusCode::ACCEPTED);
}

/// Kills one consumer after the other, so that partitions change hands and transactions stay open.
async fn kill_consumers(cluster: &mut Cluster) {
    for nth in 0..KILLS {
        let name = ["consumer-1", "consumer-2"][nth % 2];
        let pause = || Duration::from_millis(rand::rng().random_range(PAUSE_MS));
        tokio::time::sleep(pause()).await;
        cluster.process(name).kill();
        tokio::time::sleep(pause()).await;
        cluster.process(name).restart();
    }
}

async fn find(cluster: &Cluster, collection: &str) -> Vec<Document> {
    let address = Stores::from_environment().mongodb;
    let host =
        address.trim_start_matches("mongodb://").split(['/', ',']).next().unwrap_or_default().to_owned();
    let port = host.rsplit(':').next().and_then(|port| port.parse().ok()).expect("an address with a port");
    let set = mongo::ReplicaSet::new(vec![port]);
    let mut primary = set.writable(Duration::from_secs(20)).await.expect("a primary").1;
    let database = format!("{}video_db", cluster.prefix);
    primary.find(&database, collection, doc! {}, doc! {}, doc! {}).await.expect("documents")
}

fn place_of(document: &Document) -> (i64, i64) {
    let number = |name: &str| {
        let value = document.get(name).unwrap_or_else(|| panic!("no {name}: {document}"));
        value.as_i64().or_else(|| value.as_i32().map(i64::from)).expect("a number")
    };
    (number("partition"), number("offset"))
}

/// What the archive has, and must be exported. What waits no more need not have been told.
async fn archived(cluster: &Cluster) -> BTreeSet<Told> {
    let mut all = BTreeSet::new();
    for (collection, kind) in [("comments", "entry"), ("moderation", "moderation"), ("held", "held")] {
        let found = find(cluster, collection).await;
        assert!(!found.is_empty(), "{collection}");
        all.extend(found.iter().map(place_of).map(|(partition, offset)| (partition, offset, kind)));
    }
    all
}

/// A record of the topic, as a reader of committed records finds it.
struct Exported {
    /// Its partition in the topic.
    partition: String,
    key: String,
    value: Value,
}

impl Exported {
    fn kind(&self) -> &'static str {
        match self.value["type"].as_str().expect("a type") {
            "held" => "held",
            "moderation" => "moderation",
            "comment" | "removed" | "deleted" | "pinned" | "shadowed" => "entry",
            other => panic!("{other}"),
        }
    }

    fn told(&self) -> Told {
        let number = |name: &str| self.value[name].as_i64().expect("a number");
        (number("partition"), number("offset"), self.kind())
    }
}

/// Kafka's own reader.
async fn read_topic(topic: &str) -> Vec<Exported> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../testbed/testbed");
    let output = tokio::process::Command::new(script).args(["consume", topic]).kill_on_drop(true).output();
    let output =
        tokio::time::timeout(REST_TIMEOUT, output).await.expect("the reader ends").expect("a script");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines()
        .map(|line| {
            let mut parts = line.splitn(4, '\t').map(str::to_owned);
            let mut part = || parts.next().unwrap_or_else(|| panic!("another line: {line}"));
            let (partition, _, key) = (part(), part(), part());
            Exported { partition, key, value: serde_json::from_str(&part()).expect("JSON") }
        })
        .collect()
}

/// What the topic has, once it has all that it must have.
async fn wait_until_exported(topic: &str, expected: &BTreeSet<Told>) -> Vec<Exported> {
    wait::until("everything exported", REST_TIMEOUT, || async {
        let found = read_topic(topic).await;
        let told: BTreeSet<Told> = found.iter().map(Exported::told).collect();
        expected.is_subset(&told).then_some(found)
    })
    .await
}

/// Waits until the consumers have counted all that was posted.
async fn wait_until_counted(cluster: &Cluster) {
    wait::until("all counted", REST_TIMEOUT, || async {
        let said = cluster.command(&["verify", "--json", "--log", "warn"]).await;
        let report: Value = serde_json::from_slice(&said.stdout).ok()?;
        (report["log"]["counted"] == true).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_exported_once_and_in_order_whatever_is_killed() {
    let topic = format!("exports-{}", std::process::id());
    let mut cluster =
        Cluster::start_with_consumers(&Stores::from_environment(), &["--export-comments", &topic]).await;
    hold_all(&cluster.gateways[0]).await;
    let over = Arc::new(AtomicBool::new(false));
    let posters: Vec<_> = (0..POSTERS)
        .map(|poster| {
            let (gateway, over) = (cluster.gateways[poster % 2].clone(), Arc::clone(&over));
            tokio::spawn(async move { post_and_moderate(gateway, poster, &over).await })
        })
        .collect();
    kill_consumers(&mut cluster).await;
    over.store(true, Relaxed);
    let mut done = 0;
    for poster in posters {
        done += poster.await.expect("a poster");
    }
    wait_until_counted(&cluster).await;
    let expected = archived(&cluster).await;
    let found = wait_until_exported(&topic, &expected).await;
    println!(
        "{done} acknowledged, {} in the archive, {} exported, {KILLS} kills",
        expected.len(),
        found.len()
    );
    assert_once_and_in_order(&found, &expected);
    compare_with_channels(&cluster, &found).await;
}

fn assert_once_and_in_order(found: &[Exported], expected: &BTreeSet<Told>) {
    let told: BTreeSet<Told> = found.iter().map(Exported::told).collect();
    assert_eq!(told.len(), found.len(), "something is there twice");
    let more: Vec<&Told> = told.difference(expected).filter(|(_, _, kind)| *kind != "held").collect();
    assert_eq!(more, Vec::<&Told>::new(), "the archive does not have it");
    assert!(expected.is_subset(&told));
    let mut last: BTreeMap<(&str, &str), Told> = BTreeMap::new();
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for record in found {
        let (partition, offset, kind) = record.told();
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

/// The numbers of each channel are there without a hole, and what is not removed says what the API says.
async fn compare_with_channels(cluster: &Cluster, found: &[Exported]) {
    for poster in 0..POSTERS {
        let video = format!("video-{poster}");
        let own = found.iter().filter(|record| record.key == video && record.kind() == "entry");
        let of_id = |record: &Exported| -> Option<u64> {
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
