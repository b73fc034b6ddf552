//! A comment is published after it is stored in the archive, never before, so whoever is told of it can read it from
//! the archive.
#![allow(clippy::unwrap_used, reason = "a test: the panic is its answer")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use liverank_adapters::archive::embedded::EmbeddedArchive;
use liverank_adapters::assignment_store::embedded::EmbeddedAssignments;
use liverank_adapters::comment_bus::embedded::EmbeddedBus;
use liverank_adapters::comment_bus::{ChannelHead, Delivery, Subscription};
use liverank_adapters::event_log::embedded::EmbeddedLog;
use liverank_adapters::ranking_store::embedded::EmbeddedRanking;
use liverank_adapters::{Archive, Backends, CommentBus, EventLog, StoreError, clock};
use liverank_consumer::Config;
use liverank_core::comment::{Comment, CommentEpoch};
use liverank_core::trace::TraceContext;
use liverank_core::{CommentId, VideoId};
use liverank_runtime::ServiceContext;
use serde_json::json;
use tokio::sync::mpsc;

#[path = "publishing/later_releases.rs"]
mod later_releases;

/// Number of comments that the test appends.
const COMMENT_COUNT: usize = 200;
/// Maximum time for all comments to be published.
const TEST_TIMEOUT: Duration = Duration::from_secs(30);

/// A comment bus that checks at each publication whether the archive has the comment.
struct ArchiveCheckingBus {
    bus: EmbeddedBus,
    archive: Arc<EmbeddedArchive>,
    published: Mutex<Vec<u64>>,
    too_early: Mutex<Vec<u64>>,
}

#[async_trait]
impl CommentBus for ArchiveCheckingBus {
    async fn publish_traced(
        &self,
        numbering: &CommentEpoch,
        comments: &[Comment],
        traces: &[(CommentId, TraceContext)],
    ) -> Result<(), StoreError> {
        for comment in comments {
            let head = self.archive.last_seqs(std::slice::from_ref(&comment.video_id)).await?[0];
            if head < comment.seq {
                self.too_early.lock().unwrap().push(comment.seq);
            }
            self.published.lock().unwrap().push(comment.seq);
        }
        self.bus.publish_traced(numbering, comments, traces).await
    }

    async fn new_subscription(
        &self,
    ) -> Result<(Box<dyn Subscription>, mpsc::Receiver<Delivery>), StoreError> {
        self.bus.new_subscription().await
    }

    async fn recent_comments(
        &self,
        numbering: &CommentEpoch,
        video: &VideoId,
        after: u64,
        limit: usize,
    ) -> Result<Option<Vec<Comment>>, StoreError> {
        self.bus.recent_comments(numbering, video, after, limit).await
    }

    async fn channel_heads(&self, videos: &[VideoId]) -> Result<Vec<Option<ChannelHead>>, StoreError> {
        self.bus.channel_heads(videos).await
    }
}

async fn append_comment(log: &EmbeddedLog, nth: usize) {
    let event = json!({
        "video_id": "v", "user_id": "u", "type": "comment", "comment_id": format!("c{nth}"), "comment": "hello",
    });
    log.append(b"v", event.to_string().into_bytes()).await.unwrap();
}

#[tokio::test]
async fn a_comment_is_published_after_it_is_stored() {
    let directory = tempfile::tempdir().unwrap();
    let archive = Arc::new(EmbeddedArchive::open(directory.path()).unwrap());
    let log = Arc::new(EmbeddedLog::open(directory.path(), clock::system_clock()).unwrap());
    let witness = Arc::new(ArchiveCheckingBus {
        bus: EmbeddedBus::new(),
        archive: Arc::clone(&archive),
        published: Mutex::default(),
        too_early: Mutex::default(),
    });
    let backends = Backends {
        log: Arc::clone(&log) as _,
        archive,
        ranking: Arc::new(EmbeddedRanking::new()),
        comments: Arc::clone(&witness) as _,
        assignments: Arc::new(EmbeddedAssignments::new()),
        clock: clock::system_clock(),
    };
    let shell = ServiceContext::new(Duration::from_secs(1));
    let consumer = tokio::spawn(liverank_consumer::run(Config::default(), backends, shell.clone()));
    for nth in 0..COMMENT_COUNT {
        append_comment(&log, nth).await;
    }
    let deadline = Instant::now() + TEST_TIMEOUT;
    while witness.published.lock().unwrap().iter().max() != Some(&(COMMENT_COUNT as u64)) {
        assert!(Instant::now() < deadline, "not all were published: {:?}", witness.published.lock().unwrap());
        assert!(!consumer.is_finished(), "the consumer ended");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    shell.shutdown.cancel();
    consumer.await.unwrap().unwrap();
    assert_eq!(*witness.too_early.lock().unwrap(), [0_u64; 0], "published before they were stored");
}
