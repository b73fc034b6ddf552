//! Checks of the topic of boards: the boards' snapshots and deltas, and the results of windows.

use std::collections::BTreeMap;
use std::time::Duration;

use liverank_e2e::cluster::Cluster;
use liverank_e2e::wait;
use rand::RngExt;
use serde_json::Value;

use super::own_stores::OwnStores;
use super::{PAUSE_MS, POSTERS, REST_TIMEOUT, read_topic};

/// The declaration of a board with hourly windows, beside the two boards that always exist.
pub(super) const DECLARED: &str = r#"[{"name": "this-hour", "window": "hour", "keep": 4}]"#;
const WINDOWED: &str = "this-hour";
/// The offset of the consumers' clocks: for them the current hour has ended, so long ago that its result is final once
/// all events are counted.
const LATER: &str = "+64m";
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

/// Returns the exported results by the names of their windows; panics if one is there twice.
async fn results(stores: &OwnStores, topic: &str) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for record in read_topic(stores, topic).await {
        if record.value["type"] == "result" {
            assert_eq!(record.key, WINDOWED);
            let name = record.value["window"]["name"].as_str().expect("a name").to_owned();
            let before = found.insert(name, record.value);
            assert_eq!(before, None, "a result is there twice");
        }
    }
    found
}

/// Returns the number of runs of the exporter of boards: it begins a new run when it starts.
async fn beginnings(stores: &OwnStores, topic: &str) -> usize {
    let mut runs: Vec<String> = read_topic(stores, topic)
        .await
        .iter()
        .filter_map(|record| record.value["run"].as_str().map(str::to_owned))
        .collect();
    runs.sort();
    runs.dedup();
    runs.len()
}

/// Lets the current hour end for the consumers and kills them meanwhile: the window's result must be exported exactly
/// once and equal the served list.
pub(super) async fn compare_results(cluster: &mut Cluster, stores: &OwnStores, topic: &str) {
    let url = format!("{}/videos?board={WINDOWED}&limit=100", cluster.gateways[0]);
    let list = wait::json(&url, REST_TIMEOUT).await;
    let window = list["window"]["name"].as_str().expect("a window").to_owned();
    let said = stores.testbed(&["env"]).await;
    let library = said.lines().find_map(|line| line.strip_prefix("export LIVERANK_TEST_FAKETIME="));
    let library = library.expect("the testbed says where libfaketime is");
    let clock = [("LD_PRELOAD", library), ("FAKETIME", LATER), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")];
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
    wait::until("the result", REST_TIMEOUT, || async {
        results(stores, topic).await.contains_key(&window).then_some(())
    })
    .await;
    let before = beginnings(stores, topic).await;
    for name in ["consumer-1", "consumer-2"] {
        cluster.process(name).kill();
        cluster.process(name).restart();
    }
    wait::until("another exporter", REST_TIMEOUT, || async {
        (beginnings(stores, topic).await > before).then_some(())
    })
    .await;
    let found = results(stores, topic).await;
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
