//! What is exported to other systems, on the real parts: consumers are killed again and again under load and moderation, and a
//! reader of committed records finds each thing once, as the archive has it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
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
#[path = "../faults/kafka.rs"]
mod kafka;
#[allow(dead_code, reason = "the fault tests use the rest")]
#[path = "../faults/mongo.rs"]
mod mongo;

/// How often a consumer is killed.
const KILLS: usize = 30;
/// How long one that was killed is left dead, and the next one alive, in milliseconds: from before it has begun to export to after it
/// has told something.
const PAUSE_MS: std::ops::Range<u64> = 100..1_500;
/// The load goes on for so long when nobody is killed any more: boards are told of once a second.
const LOAD_AFTER_KILLS: Duration = Duration::from_secs(10);
/// How long what is counted may take to be exported.
const REST_TIMEOUT: Duration = Duration::from_mins(2);
/// Partitions of the log.
const PARTITION_COUNT: usize = 12;
/// How many comments later one is moderated.
const MODERATED_LATER: usize = 300;
/// How many post at once, and about how many videos.
const POSTERS: usize = 4;

/// A thing that is exported: where in the log it comes from, and what it is.
type Told = (i64, i64, &'static str);

/// Posts comments, deletes and pins some, bans users and decides on what waits, until `over`. Returns how often it did something.
async fn post_and_moderate(gateway: String, number: usize, over: &AtomicBool) -> usize {
    let (client, video) = (Client::new(), format!("video-{number}"));
    let (mut posted, mut waiting) = (Vec::new(), VecDeque::new());
    let mut done = 0;
    while !over.load(Relaxed) {
        let nth = posted.len();
        let user = format!("user-{}", nth % 7);
        let body = json!({"userid": user, "videoid": video, "comment": format!("text {nth}")});
        let answer = client.post(format!("{gateway}/comment")).json(&body).send().await.expect("an answer");
        let status = answer.status();
        let is_full = status == StatusCode::TOO_MANY_REQUESTS;
        if !is_full {
            let answer: Value = answer.json().await.expect("JSON");
            let id = answer["comment"]["id"].as_str().or_else(|| answer["id"].as_str());
            let id = id.unwrap_or_else(|| panic!("no id: {status} {answer}")).to_owned();
            if status == StatusCode::ACCEPTED {
                waiting.push_back(id.clone());
            }
            posted.push(id);
        }
        // What is not counted yet cannot be moderated: it is tried again.
        if (is_full || waiting.len() > MODERATED_LATER)
            && let Some(id) = waiting.pop_front()
        {
            let outcome = if nth.is_multiple_of(4) { "release" } else { "reject" };
            let body = json!({"videoid": video, "id": id, "outcome": outcome});
            let answer = client.post(format!("{gateway}/moderation/held")).json(&body).send().await;
            if answer.expect("an answer").status().is_success() {
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
        done += usize::from(action.send().await.expect("an answer").status().is_success());
    }
    done + posted.len()
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

fn port_of(address: &str) -> u16 {
    let host = address.trim_start_matches("mongodb://").split(['/', ',']).next().unwrap_or_default();
    host.rsplit(':').next().and_then(|port| port.parse().ok()).expect("an address with a port")
}

async fn find(cluster: &Cluster, collection: &str) -> Vec<Document> {
    let set = mongo::ReplicaSet::new(vec![port_of(&Stores::from_environment().mongodb)]);
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

/// Waits until the consumers have counted all that was posted: the archive stands at the end of the log.
async fn wait_until_counted(cluster: &Cluster) {
    let port = port_of(&Stores::from_environment().kafka);
    let log = format!("{}video_interactions", cluster.prefix);
    let log = kafka::Topic::open(port, &log, PARTITION_COUNT).await.expect("the log");
    wait::until("all counted", REST_TIMEOUT, || async {
        let ends: i64 = log.ends().await.ok()?.iter().sum();
        let offsets = find(cluster, "offsets").await;
        let next = |offset: &Document| offset.get_i64("next").ok();
        (offsets.iter().filter_map(next).sum::<i64>() == ends).then_some(())
    })
    .await;
}

/// A reader of the topic of boards: the list of each, by the video, its owner and its score.
#[derive(Default)]
struct BoardReader {
    run: String,
    n: u64,
    lines: BTreeMap<String, Value>,
    snapshots: usize,
    deltas: usize,
}

impl BoardReader {
    fn apply(&mut self, record: &Value) {
        let set = |lines: &Value| -> Vec<(String, Value)> {
            let id = |line: &Value| line["video_id"].as_str().expect("a video").to_owned();
            lines.as_array().expect("lines").iter().map(|line| (id(line), line.clone())).collect()
        };
        let (run, n) = (record["run"].as_str().expect("a run"), record["n"].as_u64().expect("a number"));
        if record["type"] == "snapshot" {
            self.lines = set(&record["lines"]).into_iter().collect();
            self.snapshots += 1;
        } else {
            assert_eq!((run, n), (self.run.as_str(), self.n + 1), "a delta is missing, or there twice");
            for gone in record["remove"].as_array().expect("videos") {
                self.lines.remove(gone.as_str().expect("a video")).expect("one that was there");
            }
            self.lines.extend(set(&record["set"]));
            self.deltas += 1;
        }
        run.clone_into(&mut self.run);
        self.n = n;
    }

    /// Videos and scores, best first.
    fn list(&self) -> Vec<(String, f64)> {
        let mut list: Vec<(String, f64)> = self
            .lines
            .iter()
            .map(|(id, line)| (id.clone(), line["score"].as_f64().expect("a score")))
            .collect();
        list.sort_by(|(a, one), (b, other)| other.total_cmp(one).then_with(|| b.cmp(a)));
        list
    }
}

/// Who applies all that was told of the boards has them.
async fn compare_boards(cluster: &Cluster, topic: &str) {
    wait::until("the boards as they are", REST_TIMEOUT, || async {
        let mut boards: BTreeMap<String, BoardReader> = BTreeMap::new();
        for record in read_topic(topic).await {
            boards.entry(record.key).or_default().apply(&record.value);
        }
        for (name, board) in &boards {
            let url = format!("{}/videos?board={name}&limit=100", cluster.gateways[0]);
            let list = wait::json(&url, REST_TIMEOUT).await;
            let line = |line: &Value| Some((line["video_id"].as_str()?.to_owned(), line["score"].as_f64()?));
            let served: Vec<(String, f64)> = list["videos"].as_array()?.iter().filter_map(line).collect();
            let ids = |list: &[(String, f64)]| list.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>();
            let is_equal =
                if name == "global" { board.list() == served } else { ids(&board.list()) == ids(&served) };
            println!("{name}: {} snapshots, {} deltas, equal: {is_equal}", board.snapshots, board.deltas);
            (is_equal && served.len() >= POSTERS && board.deltas > 0).then_some(())?;
        }
        (boards.len() == 2).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_exported_once_and_in_order_whatever_is_killed() {
    let (topic, boards) =
        (format!("exports-{}", std::process::id()), format!("exports-{}-boards", std::process::id()));
    let flags = ["--export-comments", &topic, "--export-boards", &boards];
    let mut cluster = Cluster::start_with_consumers(&Stores::from_environment(), &flags).await;
    hold_all(&cluster.gateways[0]).await;
    let over = Arc::new(AtomicBool::new(false));
    let posters: Vec<_> = (0..POSTERS)
        .map(|poster| {
            let (gateway, over) = (cluster.gateways[poster % 2].clone(), Arc::clone(&over));
            tokio::spawn(async move { post_and_moderate(gateway, poster, &over).await })
        })
        .collect();
    kill_consumers(&mut cluster).await;
    tokio::time::sleep(LOAD_AFTER_KILLS).await;
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
    compare_boards(&cluster, &boards).await;
}

fn assert_once_and_in_order(found: &[Exported], expected: &BTreeSet<Told>) {
    let told: BTreeSet<Told> = found.iter().map(Exported::told).collect();
    assert_eq!(told.len(), found.len(), "something is there twice");
    let more = told.difference(expected).find(|(_, _, kind)| *kind != "held");
    assert_eq!(more, None, "the archive does not have it");
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
