//! A comment service on embedded stores that can be made unavailable, with a manager and a statistics service that
//! record the requests they get.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::routing::{get, post};
use axum::{Json, Router};
use liverank_adapters::archive::embedded::EmbeddedArchive;
use liverank_adapters::archive::{
    ArchiveMeta, ArchivePosition, ArchiveRebuild, CommentPage, CommitError, CommitResult, ModerationArchive,
};
use liverank_adapters::event_log::embedded::EmbeddedLog;
use liverank_adapters::event_log::{
    AppendError, ConsumerEvent, DeadLetter, DeadLetterFilter, DeadLetterReader, LogConsumer, LogReader,
    RawRecord, ReadRange, ReadStart, RecordPosition, RecordRetention,
};
use liverank_adapters::{Archive, EventLog, StoreError, clock};
use liverank_comment::Config;
use liverank_comment::hook::HookArgs;
use liverank_core::comment::random_comment_id;
use liverank_core::counting::{Batch, CountingRules, LogRecord, NumberedComment, OffsetRange, VideoState};
use liverank_core::decays::Decay;
use liverank_core::moderation::{ActorRole, Moderation, ModerationAction};
use liverank_core::trace::TraceContext;
use liverank_core::windows::{WindowKey, WindowKind};
use liverank_core::{Comment, CommentId, Interaction, Metadata, Millis, UserId, VideoId};
use liverank_runtime::peer::ManagerUrls;
use liverank_runtime::{HttpSettings, Identity, ServiceContext};
use reqwest::{Client, Response, Url};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

/// The longest time that a condition may take to come true.
const CONDITION_TIMEOUT: Duration = Duration::from_secs(20);

/// Waits until `holds` returns true; fails after `CONDITION_TIMEOUT`.
pub async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + CONDITION_TIMEOUT;
    while !holds().await {
        assert!(Instant::now() < deadline, "did not come true: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub struct Service {
    base: String,
    pub client: Client,
    pub log: Arc<LogWithSwitch>,
    pub archive: Arc<ArchiveWithSwitch>,
    pub manager_away: Arc<AtomicBool>,
    neighbours: FakeServices,
    neighbour_url: Url,
    pub shell: ServiceContext,
    /// The file with the system's rules of comments; used from the next restart on.
    pub rules_file: Option<PathBuf>,
    pub hook: HookArgs,
    /// The service's identity, and the callers that it knows; used from the next restart on.
    pub identity: Identity,
    pub directory: TempDir,
}

impl Service {
    pub async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let log = Arc::new(LogWithSwitch {
            inner: EmbeddedLog::open(directory.path(), clock::system_clock()).unwrap(),
            is_unavailable: AtomicBool::new(false),
        });
        let archive = Arc::new(ArchiveWithSwitch {
            inner: EmbeddedArchive::open(directory.path()).unwrap(),
            is_unavailable: AtomicBool::new(false),
        });
        archive.open(&CountingRules::default()).await.unwrap();
        let neighbours = FakeServices::default();
        let neighbour_url = neighbours.start().await;
        let mut service = Self {
            base: String::new(),
            client: Client::new(),
            log,
            archive,
            manager_away: Arc::clone(&neighbours.manager_away),
            neighbours,
            neighbour_url,
            shell: ServiceContext::new(Duration::from_secs(1)),
            rules_file: None,
            hook: HookArgs::default(),
            identity: Identity::default(),
            directory,
        };
        service.restart().await;
        service
    }

    /// Starts a new process of the comment service on the same stores; it remembers nothing of the one before.
    pub async fn restart(&mut self) {
        self.shell.shutdown.cancel();
        self.shell =
            ServiceContext { identity: self.identity.clone(), ..ServiceContext::new(Duration::from_secs(1)) };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(self.serve(listener));
    }

    /// Returns the error with which a comment service on these stores fails to start.
    pub async fn refused_start(&self) -> anyhow::Error {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.serve(listener).await.unwrap_err()
    }

    fn serve(&self, listener: TcpListener) -> impl Future<Output = anyhow::Result<()>> + use<> {
        let config = Config {
            managers: ManagerUrls { manager_url: vec![self.neighbour_url.clone()] },
            statistics_url: vec![self.neighbour_url.clone()],
            comment_rules_file: self.rules_file.clone(),
            hook: self.hook.clone(),
        };
        let (log, archive) = (Arc::clone(&self.log), Arc::clone(&self.archive));
        liverank_comment::run(config, log, archive, listener, self.shell.clone())
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub async fn send(&self, body: &Value) -> Response {
        self.client.post(self.url("/comment")).json(body).send().await.unwrap()
    }

    pub async fn post(&self, body: &Value) -> (StatusCode, Value) {
        let answer = self.send(body).await;
        (answer.status(), answer.json().await.unwrap())
    }

    pub async fn get(&self, path: &str) -> Response {
        self.client.get(self.url(path)).send().await.unwrap()
    }

    /// Returns the videos that the manager was asked to register, in order.
    pub fn registered(&self) -> Vec<String> {
        self.neighbours.registered.lock().unwrap().clone()
    }

    /// Returns the reports that the statistics service got.
    pub fn reports(&self) -> Vec<Value> {
        self.neighbours.reports.lock().unwrap().clone()
    }

    pub async fn log_length(&self) -> u64 {
        self.log.end_offsets().await.unwrap().into_iter().sum()
    }

    /// Returns the log's records, of which there must be `count`.
    pub async fn records(&self, count: usize) -> Vec<RawRecord> {
        let mut consumer = self.log.join_consumer_group().await.unwrap();
        let mut records = Vec::new();
        let deadline = Instant::now() + CONDITION_TIMEOUT;
        while records.len() < count {
            assert!(Instant::now() < deadline, "the log has {} records of {count}", records.len());
            match consumer.next_event(100, Duration::from_millis(100)).await.unwrap() {
                ConsumerEvent::Assigned(partitions) => {
                    let starts: Vec<ReadStart> =
                        partitions.into_iter().map(|p| ReadStart::without_previous(p, 0)).collect();
                    consumer.start_partitions(&starts).await.unwrap();
                }
                ConsumerEvent::Records(more) => records.extend(more),
                ConsumerEvent::Revoked(_) | ConsumerEvent::Idle => {}
            }
        }
        assert_eq!(self.log_length().await, count as u64);
        records
    }

    /// Writes a moderator's action to the log.
    pub async fn moderate(&self, video: Option<&str>, action: ModerationAction) {
        let moderation = Moderation { action, role: ActorRole::Moderator, reason: None };
        let (user, id) =
            (UserId::parse("mod").unwrap(), random_comment_id(rand::random()).as_str().parse().unwrap());
        let video = video.map(|id| VideoId::parse(id).unwrap());
        let record = moderation.into_record(user, video, id, liverank_runtime::now_ms());
        self.log.append(record.video_id.as_str().as_bytes(), record.to_json()).await.unwrap();
    }

    /// Writes all records of the log to the archive, as the consumer does.
    pub async fn archive_all(&self) {
        let ends = self.log.end_offsets().await.unwrap();
        let count = ends.iter().sum::<u64>() as usize;
        let partitions: Vec<u32> = (0..ends.len() as u32).collect();
        let stands = self.archive.partition_positions(&partitions).await.unwrap();
        let from = |partition: u32| stands[partition as usize].next_offset;
        let new = (0u32..).zip(ends).filter(|(partition, end)| *end > from(*partition));
        let span =
            |(partition, next)| OffsetRange { partition, first: from(partition), next, last_record: None };
        let spans = new.map(span).collect();
        let records = self.records(count).await.into_iter();
        let records = records.filter(|raw| raw.offset >= from(raw.partition)).map(|raw| LogRecord {
            partition: raw.partition,
            offset: raw.offset,
            broker_time: raw.broker_time,
            event: Interaction::from_log(&raw.value, raw.broker_time).unwrap(),
        });
        self.archive.commit_batch(&Batch { offset_ranges: spans, records: records.collect() }).await.unwrap();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.shell.shutdown.cancel();
    }
}

/// A manager and a statistics service at one address.
#[derive(Clone, Default)]
struct FakeServices {
    registered: Arc<Mutex<Vec<String>>>,
    reports: Arc<Mutex<Vec<Value>>>,
    manager_away: Arc<AtomicBool>,
}

impl FakeServices {
    async fn start(&self) -> Url {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let router = Router::new()
            .route("/register", post(register))
            .route("/comment-api-statistics", post(report))
            .route("/statistics", get(statistics))
            .with_state(self.clone());
        tokio::spawn(liverank_runtime::server::serve_until_dropped(
            listener,
            router,
            HttpSettings::default(),
        ));
        url
    }
}

async fn register(
    State(neighbours): State<FakeServices>,
    Json(body): Json<Value>,
) -> (StatusCode, Json<Value>) {
    let video = body["videoid"].as_str().unwrap().to_owned();
    let answer = json!({"videoid": video, "readerUrl": "http://127.0.0.1:9", "action": "registered"});
    neighbours.registered.lock().unwrap().push(video);
    if neighbours.manager_away.load(Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"error": "away"})));
    }
    (StatusCode::OK, Json(answer))
}

async fn report(State(neighbours): State<FakeServices>, Json(body): Json<Value>) -> Json<Value> {
    neighbours.reports.lock().unwrap().push(body);
    Json(json!({"success": true}))
}

async fn statistics(uri: Uri) -> Json<Value> {
    Json(json!({"query": uri.query()}))
}

fn gone(part: &'static str) -> StoreError {
    StoreError::unavailable(part, "switched off by the test")
}

/// A log that a test can make unavailable.
pub struct LogWithSwitch {
    inner: EmbeddedLog,
    pub is_unavailable: AtomicBool,
}

impl LogWithSwitch {
    fn here(&self) -> Result<(), StoreError> {
        if self.is_unavailable.load(Relaxed) { Err(gone("log")) } else { Ok(()) }
    }
}

#[async_trait]
impl EventLog for LogWithSwitch {
    async fn open(&self) -> Result<(), StoreError> {
        self.here()?;
        self.inner.open().await
    }
    async fn append_traced(
        &self,
        key: &[u8],
        value: Vec<u8>,
        trace: Option<TraceContext>,
    ) -> Result<RecordPosition, AppendError> {
        self.here()?;
        self.inner.append_traced(key, value, trace).await
    }
    async fn append_dead_letter(&self, letter: &DeadLetter) -> Result<(), StoreError> {
        self.inner.append_dead_letter(letter).await
    }
    async fn join_consumer_group(&self) -> Result<Box<dyn LogConsumer>, StoreError> {
        self.inner.join_consumer_group().await
    }
    async fn end_offsets(&self) -> Result<Vec<u64>, StoreError> {
        self.inner.end_offsets().await
    }
    async fn first_offsets(&self) -> Result<Vec<u64>, StoreError> {
        self.inner.first_offsets().await
    }
    async fn read_ranges(&self, stretches: &[ReadRange]) -> Result<Box<dyn LogReader>, StoreError> {
        self.inner.read_ranges(stretches).await
    }
    async fn read_dead_letters(
        &self,
        only: Option<RecordPosition>,
    ) -> Result<Box<dyn DeadLetterReader>, StoreError> {
        self.inner.read_dead_letters(only).await
    }
    async fn remove_dead_letters(&self, is_meant: DeadLetterFilter<'_>) -> Result<u64, StoreError> {
        self.inner.remove_dead_letters(is_meant).await
    }
    async fn record_retention(&self) -> Result<RecordRetention, StoreError> {
        self.inner.record_retention().await
    }
    fn check_writable(&self) -> Result<(), StoreError> {
        self.here()
    }
}

/// An archive that a test can make unavailable: it then never answers, as if the network were broken.
pub struct ArchiveWithSwitch {
    inner: EmbeddedArchive,
    pub is_unavailable: AtomicBool,
}

impl ArchiveWithSwitch {
    async fn here(&self) {
        if self.is_unavailable.load(Relaxed) {
            std::future::pending::<()>().await;
        }
    }
}

#[async_trait]
impl Archive for ArchiveWithSwitch {
    async fn open(&self, wanted: &CountingRules) -> Result<ArchiveMeta, StoreError> {
        self.inner.open(wanted).await
    }
    async fn archive_meta(&self) -> Result<Option<ArchiveMeta>, StoreError> {
        self.here().await;
        self.inner.archive_meta().await
    }
    async fn claim_partitions(&self, partitions: &[u32]) -> Result<Vec<ArchivePosition>, StoreError> {
        self.inner.claim_partitions(partitions).await
    }
    fn moderation_archive(&self) -> &dyn ModerationArchive {
        self.inner.moderation_archive()
    }
    fn rebuild_archive(&self) -> &dyn ArchiveRebuild {
        self.inner.rebuild_archive()
    }
    async fn partition_positions(&self, partitions: &[u32]) -> Result<Vec<ArchivePosition>, StoreError> {
        self.inner.partition_positions(partitions).await
    }
    async fn commit_batch(&self, batch: &Batch) -> Result<CommitResult, CommitError> {
        self.inner.commit_batch(batch).await
    }
    async fn video(&self, id: &VideoId) -> Result<Option<VideoState>, StoreError> {
        self.inner.video(id).await
    }
    async fn videos_after(
        &self,
        after: Option<&VideoId>,
        limit: usize,
    ) -> Result<Vec<VideoState>, StoreError> {
        self.inner.videos_after(after, limit).await
    }
    async fn comments(
        &self,
        video: &VideoId,
        page: CommentPage,
        limit: usize,
    ) -> Result<Vec<Comment>, StoreError> {
        self.here().await;
        self.inner.comments(video, page, limit).await
    }
    async fn newest_comment(&self, video: &VideoId, id: &CommentId) -> Result<Option<Comment>, StoreError> {
        self.here().await;
        self.inner.newest_comment(video, id).await
    }
    async fn comments_from(
        &self,
        partition: u32,
        offset: u64,
        limit: usize,
    ) -> Result<Vec<NumberedComment>, StoreError> {
        self.inner.comments_from(partition, offset, limit).await
    }
    async fn set_counted_windows(&self, kinds: &[WindowKind]) -> Result<ArchiveMeta, StoreError> {
        self.inner.set_counted_windows(kinds).await
    }
    async fn set_counted_decays(&self, decays: &[Decay]) -> Result<ArchiveMeta, StoreError> {
        self.inner.set_counted_decays(decays).await
    }
    async fn window_videos(
        &self,
        window: &WindowKey,
        ids: &[VideoId],
    ) -> Result<Vec<VideoState>, StoreError> {
        self.inner.window_videos(window, ids).await
    }
    async fn window_videos_after(
        &self,
        window: &WindowKey,
        after: Option<&VideoId>,
        limit: usize,
    ) -> Result<Vec<VideoState>, StoreError> {
        self.inner.window_videos_after(window, after, limit).await
    }
    async fn forget_windows(&self, kind: &WindowKind, start: Millis) -> Result<u64, StoreError> {
        self.inner.forget_windows(kind, start).await
    }
    async fn last_seqs(&self, videos: &[VideoId]) -> Result<Vec<u64>, StoreError> {
        self.inner.last_seqs(videos).await
    }
    async fn videos_metadata(&self, videos: &[VideoId]) -> Result<Vec<Option<Metadata>>, StoreError> {
        self.inner.videos_metadata(videos).await
    }

    async fn videos_watch_ms(&self, videos: &[VideoId]) -> Result<Vec<Option<i64>>, StoreError> {
        self.here().await;
        self.inner.videos_watch_ms(videos).await
    }

    async fn video_owners(&self, videos: &[VideoId]) -> Result<Vec<Option<UserId>>, StoreError> {
        self.here().await;
        self.inner.video_owners(videos).await
    }
    async fn forget_identities_before(&self, watermark: Millis) -> Result<u64, StoreError> {
        self.inner.forget_identities_before(watermark).await
    }
    async fn comment_count(&self) -> Result<u64, StoreError> {
        self.inner.comment_count().await
    }
    async fn store_time(&self) -> Result<Option<Millis>, StoreError> {
        self.inner.store_time().await
    }
}
