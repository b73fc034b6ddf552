//! The metadata that an app gives a video are stored beside the boards after every commit.
#![allow(clippy::unwrap_used, reason = "a test: the panic is its answer")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use liverank_adapters::archive::embedded::EmbeddedArchive;
use liverank_adapters::assignment_store::embedded::EmbeddedAssignments;
use liverank_adapters::comment_bus::embedded::EmbeddedBus;
use liverank_adapters::event_log::embedded::EmbeddedLog;
use liverank_adapters::ranking_store::embedded::EmbeddedRanking;
use liverank_adapters::{Backends, clock};
use liverank_consumer::Config;
use liverank_core::VideoId;
use liverank_runtime::ServiceContext;
use serde_json::{Value, json};

const TEST_TIMEOUT: Duration = Duration::from_secs(30);

struct Consumer {
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
    shell: ServiceContext,
}

impl Consumer {
    fn start(backends: &Backends) -> Self {
        let shell = ServiceContext::new(Duration::from_secs(5));
        let task = tokio::spawn(liverank_consumer::run(Config::default(), backends.clone(), shell.clone()));
        Self { task, shell }
    }

    async fn end(self) {
        self.shell.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }
}

async fn append(backends: &Backends, record: &Value) {
    let video = record["video_id"].as_str().unwrap();
    backends.log.append(video.as_bytes(), record.to_string().into_bytes()).await.unwrap();
}

async fn put(backends: &Backends, video: &str, nth: usize, title: &str) {
    let record = json!({ "type": "moderation", "version": 2, "video_id": video, "user_id": "app", "timestamp": 5,
        "event_id": format!("{video}-{nth}"),
        "moderation": { "action": "put_video", "metadata": { "title": title }, "role": "service" } });
    append(backends, &record).await;
}

async fn remove(backends: &Backends, video: &str, nth: usize) {
    let record = json!({ "type": "moderation", "version": 2, "video_id": video, "user_id": "app", "timestamp": 6,
        "event_id": format!("{video}-{nth}"), "moderation": { "action": "remove_video", "role": "service" } });
    append(backends, &record).await;
}

/// Waits until exactly these titles are stored beside the boards.
async fn wait_for_titles(backends: &Backends, titles: &[(&str, Option<&str>)]) {
    let ids: Vec<VideoId> = titles.iter().map(|(id, _)| VideoId::parse(id).unwrap()).collect();
    let end = Instant::now() + TEST_TIMEOUT;
    loop {
        let found = backends.ranking.metadata(&ids).await.unwrap();
        let title = |metadata: &Option<liverank_core::Metadata>| {
            metadata.as_ref().map(|it| it.to_value()["title"].as_str().unwrap().to_owned())
        };
        let found: Vec<Option<String>> = found.iter().map(title).collect();
        let is_so = found.iter().map(Option::as_deref).eq(titles.iter().map(|(_, title)| *title));
        if is_so && backends.ranking.is_metadata_complete().await.unwrap() {
            return;
        }
        assert!(Instant::now() < end, "{found:?}, not {titles:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn metadata_are_put_beside_the_boards_and_found_again_where_they_were_lost() {
    let directory = tempfile::tempdir().unwrap();
    let mut backends = Backends {
        log: Arc::new(EmbeddedLog::open(directory.path(), clock::system_clock()).unwrap()),
        archive: Arc::new(EmbeddedArchive::open(directory.path()).unwrap()),
        ranking: Arc::new(EmbeddedRanking::new()),
        comments: Arc::new(EmbeddedBus::new()),
        assignments: Arc::new(EmbeddedAssignments::new()),
        clock: clock::system_clock(),
    };
    let consumer = Consumer::start(&backends);
    append(&backends, &json!({"video_id": "viewed", "user_id": "u", "type": "view"})).await;
    put(&backends, "a", 1, "Cats").await;
    wait_for_titles(&backends, &[("a", Some("Cats")), ("viewed", None)]).await;
    put(&backends, "a", 2, "All cats").await;
    put(&backends, "b", 1, "Dogs").await;
    let titles = [("a", Some("All cats")), ("b", Some("Dogs"))];
    wait_for_titles(&backends, &titles).await;
    consumer.end().await;

    // The store of the boards lost everything.
    let before = std::mem::replace(&mut backends.ranking, Arc::new(EmbeddedRanking::new()));
    let consumer = Consumer::start(&backends);
    wait_for_titles(&backends, &titles).await;
    consumer.end().await;

    // The store was filled by an earlier release, which stored no metadata there.
    backends.ranking = Arc::new(EmbeddedRanking::new());
    backends.ranking.write_snapshot(1, &before.boards_snapshot().await.unwrap().entries).await.unwrap();
    backends.ranking.commit_snapshot(1, &before.checkpoint().await.unwrap().offsets).await.unwrap();
    let consumer = Consumer::start(&backends);
    wait_for_titles(&backends, &titles).await;
    // A later generation of scores has the metadata, too.
    backends.archive.rebuild_archive().bump_generation().await.unwrap();
    put(&backends, "b", 2, "All dogs").await;
    wait_for_titles(&backends, &[("a", Some("All cats")), ("b", Some("All dogs"))]).await;
    // A video that is on no board has no metadata beside the boards until it is put back; a store that is filled anew
    // has none, either.
    remove(&backends, "b", 3).await;
    wait_for_titles(&backends, &[("a", Some("All cats")), ("b", None)]).await;
    let removed = VideoId::parse("b").unwrap();
    assert!(
        backends.archive.video(&removed).await.unwrap().unwrap().metadata.is_some(),
        "the archive keeps it"
    );
    consumer.end().await;
    backends.ranking = Arc::new(EmbeddedRanking::new());
    let consumer = Consumer::start(&backends);
    wait_for_titles(&backends, &[("a", Some("All cats")), ("b", None)]).await;
    put(&backends, "b", 4, "Dogs again").await;
    wait_for_titles(&backends, &[("a", Some("All cats")), ("b", Some("Dogs again"))]).await;
    consumer.end().await;
}
