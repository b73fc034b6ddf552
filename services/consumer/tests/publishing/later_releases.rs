//! A record of a later release makes its own partition wait, and is not a dead letter.

use std::path::Path;
use std::sync::Arc;

use super::*;

const NEWER_RECORD_JSON: &str = r#"{"video_id":"a","user_id":"u","type":"save","format":99}"#;

fn backends(directory: &Path) -> Backends {
    Backends {
        log: Arc::new(EmbeddedLog::open(directory, clock::system_clock()).unwrap()),
        archive: Arc::new(EmbeddedArchive::open(directory).unwrap()),
        ranking: Arc::new(EmbeddedRanking::new()),
        comments: Arc::new(EmbeddedBus::new()),
        assignments: Arc::new(EmbeddedAssignments::new()),
        clock: clock::system_clock(),
    }
}

fn view_json(video: &str) -> String {
    json!({"video_id": video, "user_id": "u", "type": "view"}).to_string()
}

/// Runs a consumer until `done` returns true for the text of its metrics.
async fn consume_until(config: Config, backends: &Backends, done: impl AsyncFn(&str) -> bool) {
    let shell = ServiceContext::new(Duration::from_secs(1));
    let consumer = tokio::spawn(liverank_consumer::run(config, backends.clone(), shell.clone()));
    let deadline = Instant::now() + TEST_TIMEOUT;
    while !done(&shell.metrics.encode_text()).await {
        assert!(Instant::now() < deadline, "{}", shell.metrics.encode_text());
        assert!(!consumer.is_finished(), "the consumer ended");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    shell.shutdown.cancel();
    consumer.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_record_of_a_later_release_waits_and_is_a_dead_letter_only_where_that_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let backends = backends(directory.path());
    // The two videos are on two different partitions.
    for (video, value) in [
        ("a", view_json("a")),
        ("a", NEWER_RECORD_JSON.to_owned()),
        ("a", view_json("a")),
        ("v1", view_json("v1")),
    ] {
        backends.log.append(video.as_bytes(), value.into_bytes()).await.unwrap();
    }
    let left = async || {
        let ends = backends.log.end_offsets().await.unwrap();
        let partitions: Vec<u32> = (0..ends.len() as u32).collect();
        let counted = backends.archive.partition_positions(&partitions).await.unwrap();
        ends.iter().sum::<u64>() - counted.iter().map(|position| position.next_offset).sum::<u64>()
    };
    let dead_letters =
        async || backends.log.read_dead_letters(None).await.unwrap().next_dead_letters(10).await.unwrap();

    consume_until(Config::default(), &backends, async |metrics| {
        metrics.contains("liverank_consumer_partitions_waiting 1\n") && left().await == 2
    })
    .await;
    assert_eq!(dead_letters().await, []);

    // Another consumer of the same release waits at the same record.
    backends.log.append(b"v1", view_json("v1").into_bytes()).await.unwrap();
    consume_until(Config::default(), &backends, async |metrics| {
        metrics.contains("liverank_consumer_partitions_waiting 1\n") && left().await == 2
    })
    .await;
    assert_eq!(dead_letters().await, []);

    let config = Config { dead_letter_newer_formats: true, ..Config::default() };
    consume_until(config, &backends, async |metrics| {
        metrics.contains("liverank_consumer_partitions_waiting 0\n") && left().await == 0
    })
    .await;
    let letters = dead_letters().await;
    assert_eq!((letters.len(), &letters[0].value[..]), (1, NEWER_RECORD_JSON.as_bytes()));
    assert!(letters[0].reason.contains("format 99"), "{}", letters[0].reason);
}
