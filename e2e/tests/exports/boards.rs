//! Checks of the topic of boards: the boards' snapshots and deltas, and the results of windows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use liverank_core::windows::{WindowKind, WindowUnit};
use liverank_e2e::cluster::Cluster;
use liverank_e2e::patient::answer_of;
use liverank_e2e::wait;
use liverank_runtime::now_ms;
use rand::RngExt;
use serde_json::{Value, json};

use super::own_stores::OwnStores;
use super::{PARTITION_COUNT, PAUSE_MS, POSTERS, REST_TIMEOUT, kafka, read_topic};

/// The declaration of a board with hourly windows, beside the two boards that always exist.
pub(super) const DECLARED: &str = r#"[{"name": "this-hour", "window": "hour", "keep": 4}]"#;
const WINDOWED: &str = "this-hour";
/// The time by which clocks are set ahead, in seconds: for them the current hour has ended, so long ago that its result is
/// final once all events are counted.
const LATER_SECONDS: i64 = 64 * 60;
/// The number of events that come after the consumers' clocks were set ahead, and before the log's.
const LATE_EVENTS: usize = 20;
/// The least time in milliseconds until the end of the hour when the check of results begins: it takes half a minute, and
/// on a busy machine some times as long.
const MIN_LEFT_MS: i64 = 150_000;
/// The number of times that a consumer is killed while the result is written.
const KILLS: usize = 8;

/// A consumer of the topic of boards: the current lines of one board by their video, made from its snapshots and
/// deltas.
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

    /// Returns videos and scores, the best first.
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

/// Checks that a consumer that applies all exported records has the boards as the API serves them; of a board with
/// windows, the current window.
pub(super) async fn compare_boards(cluster: &Cluster, stores: &OwnStores, topic: &str) {
    wait::until("the boards as they are", REST_TIMEOUT, || async {
        let mut boards: BTreeMap<String, BoardReader> = BTreeMap::new();
        for record in read_topic(stores, topic).await {
            if record.value["type"] != "result" {
                boards.entry(record.key).or_default().apply(&record.value);
            }
        }
        for (name, board) in &boards {
            let url = format!("{}/videos?board={name}&limit=100", cluster.gateways[0]);
            let list = wait::json(&url, REST_TIMEOUT).await;
            let line = |line: &Value| Some((line["video_id"].as_str()?.to_owned(), line["score"].as_f64()?));
            let served: Vec<(String, f64)> = list["videos"].as_array()?.iter().filter_map(line).collect();
            let ids = |list: &[(String, f64)]| list.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>();
            let is_equal =
                if name == "trending" { ids(&board.list()) == ids(&served) } else { board.list() == served };
            println!("{name}: {} snapshots, {} deltas, equal: {is_equal}", board.snapshots, board.deltas);
            // A new hour may have begun meanwhile, with an empty window.
            let is_filled = served.len() >= POSTERS || name == WINDOWED;
            (is_equal && is_filled && board.deltas > 0).then_some(())?;
        }
        (boards.len() == 3).then_some(())
    })
    .await;
}

/// Returns the exported results by the names of their windows, and the number of runs of the exporter of boards: it begins
/// a new run when it starts. Panics if a result is there twice.
async fn results_and_runs(stores: &OwnStores, topic: &str) -> (BTreeMap<String, Value>, usize) {
    let (mut found, mut runs) = (BTreeMap::new(), BTreeSet::new());
    for record in read_topic(stores, topic).await {
        runs.extend(record.value["run"].as_str().map(str::to_owned));
        if record.value["type"] == "result" {
            assert_eq!(record.key, WINDOWED);
            let name = record.value["window"]["name"].as_str().expect("a name").to_owned();
            let before = found.insert(name, record.value);
            assert_eq!(before, None, "a result is there twice");
        }
    }
    (found, runs.len())
}

/// Posts events that count in a window which has ended for the consumers, and not for the log: no result of the window may
/// be there, because it would lack them.
async fn expect_no_result_while_the_log_takes_events(
    cluster: &Cluster,
    stores: &OwnStores,
    topic: &str,
    window: &str,
) {
    let url = format!("{}/videos?board={WINDOWED}&window={window}", cluster.gateways[0]);
    let total = async || wait::json(&url, REST_TIMEOUT).await["total"].as_u64().expect("a number");
    let before = total().await;
    let hour =
        WindowKind::new(WindowUnit::Hour, "UTC").and_then(|kind| kind.window_named(window)).expect("an hour");
    for nth in 0..LATE_EVENTS {
        // Where the hour has ended meanwhile, the events are late by less than the minute that the log allows.
        let at = now_ms().min(hour.end - 1) as f64 / 1000.0;
        let body = json!({
            "video_id": format!("late-{nth}"), "user_id": "ann", "type": "view", "event_id": "1", "timestamp": at,
        });
        let posted = reqwest::Client::new().post(format!("{}/interact", cluster.gateways[0])).json(&body);
        assert!(answer_of(posted).await.status().is_success());
    }
    wait::until("the late events are shown", REST_TIMEOUT, || async {
        (total().await == before + LATE_EVENTS as u64).then_some(())
    })
    .await;
    assert!(
        !results_and_runs(stores, topic).await.0.contains_key(window),
        "a result while events of its window can come"
    );
}

/// Waits until the current hour lasts long enough for [`compare_results`]: its window may not end for the log before the
/// test says so.
async fn wait_for_time_in_hour() {
    let left = 3_600_000 - now_ms().rem_euclid(3_600_000);
    if left < MIN_LEFT_MS {
        // A few seconds more, so that the next hour has begun for every process.
        tokio::time::sleep(Duration::from_millis(left as u64 + 5_000)).await;
    }
}

/// Lets the current hour end for the consumers alone, then for the log, and kills consumers meanwhile: the window's result
/// must be exported exactly once, not before it has ended for the log, and equal the served list.
pub(super) async fn compare_results(cluster: &mut Cluster, stores: &OwnStores, topic: &str) {
    wait_for_time_in_hour().await;
    let url = format!("{}/videos?board={WINDOWED}&limit=100", cluster.gateways[0]);
    let list = wait::json(&url, REST_TIMEOUT).await;
    let window = list["window"]["name"].as_str().expect("a window").to_owned();
    let said = stores.testbed(&["env"]).await;
    let library = said.lines().find_map(|line| line.strip_prefix("export LIVERANK_TEST_FAKETIME="));
    let library = library.expect("the testbed says where libfaketime is");
    let later = format!("+{LATER_SECONDS}s");
    let clock =
        [("LD_PRELOAD", library), ("FAKETIME", later.as_str()), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")];
    for name in ["consumer-1", "consumer-2"] {
        cluster.process(name).kill();
        cluster.process(name).restart_in(&clock);
    }
    for nth in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(rand::rng().random_range(PAUSE_MS) * 2)).await;
        let name = ["consumer-1", "consumer-2"][nth % 2];
        cluster.process(name).kill();
        cluster.process(name).restart();
    }
    expect_no_result_while_the_log_takes_events(cluster, stores, topic, &window).await;
    let log = format!("{}video_interactions", cluster.prefix);
    let log = kafka::Topic::open(stores.port("KAFKA"), &log, PARTITION_COUNT).await.expect("the log");
    stores.set_clock_ahead(LATER_SECONDS);
    for partition in 0..PARTITION_COUNT {
        let event = json!({"video_id": "video-0", "user_id": format!("later-{partition}"), "type": "view"});
        log.append(partition, event.to_string().into_bytes()).await.expect("an append");
    }
    let before = wait::until("the result", REST_TIMEOUT, || async {
        let (found, runs) = results_and_runs(stores, topic).await;
        found.contains_key(&window).then_some(runs)
    })
    .await;
    for name in ["consumer-1", "consumer-2"] {
        cluster.process(name).kill();
        cluster.process(name).restart();
    }
    let found = wait::until("another exporter", REST_TIMEOUT, || async {
        let (found, runs) = results_and_runs(stores, topic).await;
        (runs > before).then_some(found)
    })
    .await;
    println!("{} results of windows, {before} exporters of boards", found.len());
    let list = wait::json(&format!("{url}&window={window}"), REST_TIMEOUT).await;
    let served = list["videos"].as_array().expect("videos");
    let lines = found[&window]["lines"].as_array().expect("lines");
    assert_eq!(lines.len(), served.len());
    for (line, served) in lines.iter().zip(served) {
        assert_eq!((&line["video_id"], &line["score"]), (&served["video_id"], &served["score"]));
    }
    assert_eq!(found[&window]["total"], list["total"]);
}
