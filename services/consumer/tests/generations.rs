//! A consumer that runs while a new generation begins continues in the new generation, without a restart.
#![allow(clippy::unwrap_used, reason = "a test: the panic is its answer")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use liverank_adapters::archive::embedded::EmbeddedArchive;
use liverank_adapters::assignment_store::embedded::EmbeddedAssignments;
use liverank_adapters::comment_bus::embedded::EmbeddedBus;
use liverank_adapters::event_log::embedded::EmbeddedLog;
use liverank_adapters::ranking_store::embedded::EmbeddedRanking;
use liverank_adapters::ranking_store::{BatchProjection, ProjectionOutcome};
use liverank_adapters::{Backends, RankingStore, clock};
use liverank_consumer::Config;
use liverank_core::boards::DeclaredBoards;
use liverank_core::counting::CountingRules;
use liverank_core::score::Weights;
use liverank_runtime::ServiceContext;
use liverank_runtime::boards::BoardsArgs;
use serde_json::{Value, json};

const TEST_TIMEOUT: Duration = Duration::from_secs(30);

fn backends(directory: &std::path::Path) -> Backends {
    Backends {
        log: Arc::new(EmbeddedLog::open(directory, clock::system_clock()).unwrap()),
        archive: Arc::new(EmbeddedArchive::open(directory).unwrap()),
        ranking: Arc::new(EmbeddedRanking::new()),
        comments: Arc::new(EmbeddedBus::new()),
        assignments: Arc::new(EmbeddedAssignments::new()),
        clock: clock::system_clock(),
    }
}

async fn append_like(backends: &Backends, video: &str) {
    let event = format!(r#"{{"video_id":"{video}","user_id":"u","type":"like"}}"#);
    backends.log.append(video.as_bytes(), event.into_bytes()).await.unwrap();
}

/// Waits until the boards have this generation and show these scores, best first.
async fn wait_for_boards(backends: &Backends, generation: u64, scores: &[(&str, f64)]) {
    shown(&*backends.ranking, generation, scores).await;
}

async fn shown(ranking: &dyn RankingStore, generation: u64, scores: &[(&str, f64)]) {
    let end = Instant::now() + TEST_TIMEOUT;
    loop {
        let standing = ranking.checkpoint().await.unwrap();
        let mut shown: Vec<(String, f64)> = Vec::new();
        for entry in ranking.boards_snapshot().await.unwrap().entries {
            shown.push((entry.video_id.to_string(), entry.score));
        }
        shown.sort_by(|a, b| b.1.total_cmp(&a.1));
        let right = shown.iter().map(|(id, score)| (id.as_str(), *score)).eq(scores.iter().copied());
        if standing.generation == Some(generation) && right {
            return;
        }
        assert!(Instant::now() < end, "generation {:?}: {shown:?}, not {scores:?}", standing.generation);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_new_generation_is_followed_while_serving() {
    let directory = tempfile::tempdir().unwrap();
    let backends = backends(directory.path());
    let shell = ServiceContext::new(Duration::from_secs(5));
    let consumer = tokio::spawn(liverank_consumer::run(Config::default(), backends.clone(), shell.clone()));
    append_like(&backends, "a").await;
    wait_for_boards(&backends, 1, &[("a", 2.0)]).await;

    // The generation begins once while no events come, and once while some do.
    backends.archive.rebuild_archive().bump_generation().await.unwrap();
    wait_for_boards(&backends, 2, &[("a", 2.0)]).await;
    let rules =
        CountingRules { weights: Weights { like: 5000, ..Weights::default() }, ..CountingRules::default() };
    append_like(&backends, "b").await;
    backends.archive.rebuild_archive().rescore_videos(&rules, &|_, _| ()).await.unwrap();
    append_like(&backends, "b").await;
    wait_for_boards(&backends, 3, &[("b", 10.0), ("a", 5.0)]).await;
    assert!(!consumer.is_finished(), "it ended by itself");

    // A projection of an earlier generation is refused.
    let stale =
        BatchProjection { generation: 2, offset_ranges: Vec::new(), entries: Vec::new(), traces: Vec::new() };
    assert_eq!(backends.ranking.project_batch(&stale).await.unwrap(), ProjectionOutcome::Superseded);
    shell.shutdown.cancel();
    consumer.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_consumer_shows_its_stores_while_all_are_well() {
    let directory = tempfile::tempdir().unwrap();
    let backends = backends(directory.path());
    let shell = ServiceContext::new(Duration::from_secs(5));
    let consumer = tokio::spawn(liverank_consumer::run(Config::default(), backends.clone(), shell.clone()));
    append_like(&backends, "a").await;
    wait_for_boards(&backends, 1, &[("a", 2.0)]).await;
    let end = Instant::now() + TEST_TIMEOUT;
    loop {
        let (_, report) = shell.health.readiness();
        // All roles call them by what they hold.
        let shown: Vec<(&str, &str)> =
            report.dependencies.iter().map(|(name, state)| (*name, state.as_str())).collect();
        if shown == [("archive", "ok"), ("log", "ok"), ("ranking", "ok")] {
            break;
        }
        assert!(Instant::now() < end, "{report:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    shell.shutdown.cancel();
    consumer.await.unwrap().unwrap();
}

/// Boards of a later generation than the archive's cannot be filled: the consumer's health reports it, and counting
/// goes on.
#[tokio::test]
async fn boards_ahead_of_the_archive_are_told_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let backends = backends(directory.path());
    backends.ranking.write_snapshot(7, &[]).await.unwrap();
    backends.ranking.commit_snapshot(7, &[]).await.unwrap();
    let shell = ServiceContext::new(Duration::from_secs(5));
    let consumer = tokio::spawn(liverank_consumer::run(Config::default(), backends.clone(), shell.clone()));
    append_like(&backends, "a").await;
    let end = Instant::now() + TEST_TIMEOUT;
    loop {
        let (_, report) = shell.health.readiness();
        let told = report.dependencies.get("ranking").is_some_and(|state| state.contains("rebuild redis"));
        let counted = backends.archive.partition_positions(&(0..12).collect::<Vec<u32>>()).await.unwrap();
        if told && counted.iter().any(|position| position.next_offset == 1) {
            break;
        }
        assert!(Instant::now() < end, "{report:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(backends.ranking.boards_snapshot().await.unwrap().entries.is_empty());
    assert!(!consumer.is_finished(), "it ended by itself");
    shell.shutdown.cancel();
    consumer.await.unwrap().unwrap();
}

fn declares(boards: &Value) -> (Config, Vec<String>) {
    let keys = DeclaredBoards::from_json(boards)
        .unwrap()
        .iter()
        .map(liverank_core::boards::DeclaredBoard::store_key)
        .collect();
    let boards = BoardsArgs { boards: Some(boards.to_string()), boards_file: None };
    (Config { boards, ..Config::default() }, keys)
}

/// A board that is declared later has the events that were counted before, then follows new events and a new
/// generation. A board that is declared with other settings is another board.
#[tokio::test]
async fn a_declared_board_is_filled_and_followed_while_the_others_serve() {
    let directory = tempfile::tempdir().unwrap();
    let backends = backends(directory.path());
    let post = async |value: Value| {
        let video = value["video_id"].as_str().unwrap().to_owned();
        backends.log.append(video.as_bytes(), value.to_string().into_bytes()).await.unwrap();
    };
    let event = |video: &str, kind: &str| json!({"video_id": video, "user_id": "u", "type": kind});
    let start = |config| {
        let shell = ServiceContext::new(Duration::from_secs(5));
        (tokio::spawn(liverank_consumer::run(config, backends.clone(), shell.clone())), shell)
    };
    let (consumer, shell) = start(Config::default());
    post(event("a", "like")).await;
    post(event("b", "view")).await;
    wait_for_boards(&backends, 1, &[("a", 2.0), ("b", 1.0)]).await;
    shell.shutdown.cancel();
    consumer.await.unwrap().unwrap();

    let weighed = json!([{"name": "viewed", "weights": {"view": 10}, "minimum": 10}, {"name": "hot", "order": "trending"}]);
    let (config, keys) = declares(&weighed);
    let (consumer, shell) = start(config);
    let (viewed, hot) =
        (backends.ranking.declared_board(&keys[0]), backends.ranking.declared_board(&keys[1]));
    shown(&*viewed, 1, &[("b", 10.0)]).await;
    shown(&*hot, 1, &[("a", 2.0), ("b", 1.0)]).await;
    assert_eq!(hot.noted_half_life().await.unwrap(), Some(CountingRules::default().half_life_ms));
    post(event("a", "view")).await;
    post(event("b", "view")).await;
    shown(&*viewed, 1, &[("b", 20.0), ("a", 10.0)]).await;
    wait_for_boards(&backends, 1, &[("a", 3.0), ("b", 2.0)]).await;
    backends.archive.rebuild_archive().bump_generation().await.unwrap();
    shown(&*viewed, 2, &[("b", 20.0), ("a", 10.0)]).await;
    shell.shutdown.cancel();
    consumer.await.unwrap().unwrap();

    // Events happen while the board is not declared; then the same name is declared with other weights.
    let (consumer, shell) = start(Config::default());
    post(event("b", "view")).await;
    post(event("b", "view")).await;
    wait_for_boards(&backends, 2, &[("b", 4.0), ("a", 3.0)]).await;
    assert!(!consumer.is_finished(), "it ended by itself");
    shell.shutdown.cancel();
    consumer.await.unwrap().unwrap();
    let (config, other) = declares(&json!([{"name": "viewed", "weights": {"like": 1}, "minimum": 1}]));
    let (consumer, shell) = start(config);
    shown(&*backends.ranking.declared_board(&other[0]), 2, &[("a", 1.0)]).await;
    shell.shutdown.cancel();
    consumer.await.unwrap().unwrap();
    let (config, _) = declares(&weighed);
    let (consumer, shell) = start(config);
    shown(&*viewed, 2, &[("b", 40.0), ("a", 10.0)]).await;
    shell.shutdown.cancel();
    consumer.await.unwrap().unwrap();
}

/// A half-life that is declared later counts the events from then on, and continues through a restart and a new
/// generation.
#[tokio::test]
async fn a_half_life_that_is_declared_later_begins_with_what_happens_then() {
    let directory = tempfile::tempdir().unwrap();
    let backends = backends(directory.path());
    let start = |config| {
        let shell = ServiceContext::new(Duration::from_secs(5));
        (tokio::spawn(liverank_consumer::run(config, backends.clone(), shell.clone())), shell)
    };
    let (consumer, shell) = start(Config::default());
    append_like(&backends, "a").await;
    wait_for_boards(&backends, 1, &[("a", 2.0)]).await;
    shell.shutdown.cancel();
    consumer.await.unwrap().unwrap();

    let boards =
        json!([{"name": "soon", "order": "trending", "halfLifeMinutes": 60, "weights": {"like": 1}}]);
    let soon = backends.ranking.declared_board(&declares(&boards).1[0]);
    let (consumer, shell) = start(declares(&boards).0);
    shown(&*soon, 1, &[]).await;
    append_like(&backends, "b").await;
    shown(&*soon, 1, &[("b", 1.0)]).await;
    assert_eq!(soon.noted_half_life().await.unwrap(), Some(3_600_000));
    append_like(&backends, "a").await;
    shown(&*soon, 1, &[("a", 2.0), ("b", 1.0)]).await;
    shell.shutdown.cancel();
    consumer.await.unwrap().unwrap();
    let (consumer, shell) = start(declares(&boards).0);
    backends.archive.rebuild_archive().bump_generation().await.unwrap();
    shown(&*soon, 2, &[("a", 2.0), ("b", 1.0)]).await;
    let entries = soon.boards_snapshot().await.unwrap().entries;
    let log2: Vec<f64> = entries.iter().filter_map(|entry| entry.trending).collect();
    assert!(log2.len() == 2 && (log2[0] - log2[1]).abs() < 0.1, "one like of each has decayed: {entries:?}");
    let meta = backends.archive.archive_meta().await.unwrap().unwrap();
    assert!(meta.decays.iter().all(|counted| counted.complete_after.is_some()), "{meta:?}");
    shell.shutdown.cancel();
    consumer.await.unwrap().unwrap();
}
