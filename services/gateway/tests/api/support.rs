//! The support of the gateway's tests: a gateway on a port of its own, with embedded stores behind it.

use std::future::IntoFuture;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use clap::Parser;
use liverank_adapters::archive::embedded::EmbeddedArchive;
use liverank_adapters::assignment_store::embedded::EmbeddedAssignments;
use liverank_adapters::clock;
use liverank_adapters::comment_bus::embedded::EmbeddedBus;
use liverank_adapters::event_log::embedded::EmbeddedLog;
use liverank_adapters::event_log::{
    AppendError, DeadLetter, DeadLetterFilter, DeadLetterReader, LogConsumer, LogReader, ReadRange,
    RecordPosition, RecordRetention,
};
use liverank_adapters::ranking_store::embedded::EmbeddedRanking;
use liverank_adapters::{Backends, EventLog, StoreError};
use liverank_core::Interaction;
use liverank_core::counting::{Batch, CountingRules, LogRecord, OffsetRange};
use liverank_core::trace::TraceContext;
use liverank_gateway::Config;
use liverank_runtime::ServiceContext;
use reqwest::{Client, Url};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Maximum time that a test waits for something that should happen at once.
pub const PROMPT_TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Parser)]
struct GatewayCli {
    #[command(flatten)]
    config: Config,
}

/// A gateway that runs in the test's process, with its stores.
pub struct System {
    pub url: Url,
    pub http: Client,
    pub shell: ServiceContext,
    pub backends: Backends,
    pub log: Arc<SpyLog>,
    running: JoinHandle<anyhow::Result<()>>,
    _dir: tempfile::TempDir,
}

impl System {
    /// Commits these records to the archive, as the consumer does.
    pub async fn count(&self, values: impl IntoIterator<Item = Value>) {
        let archive = &self.backends.archive;
        archive.open(&CountingRules::default()).await.unwrap();
        let (from, now) =
            (archive.partition_positions(&[0]).await.unwrap()[0].next_offset, liverank_runtime::now_ms());
        let records: Vec<LogRecord> = values
            .into_iter()
            .zip(from..)
            .map(|(value, offset)| {
                let event = Interaction::from_log(value.to_string().as_bytes(), now).unwrap();
                LogRecord { partition: 0, offset, broker_time: now + offset as i64, event }
            })
            .collect();
        let span =
            OffsetRange { partition: 0, first: from, next: from + records.len() as u64, last_record: None };
        archive.commit_batch(&Batch { offset_ranges: vec![span], records }).await.unwrap();
    }

    /// Starts a gateway with these flags; services whose URL is not given are away.
    pub async fn start(flags: &[&str]) -> Self {
        Self::start_with(flags, |_| {}).await
    }

    /// Starts a gateway as [`System::start`] does, with settings that have no flag.
    pub async fn start_with(flags: &[&str], set: impl FnOnce(&mut Config)) -> Self {
        let nowhere = nowhere();
        let mut args = vec!["gateway".to_owned()];
        for service in ["manager", "comment", "websocket", "statistics"] {
            let flag = format!("--{service}-url");
            if !flags.contains(&flag.as_str()) {
                args.extend([flag, nowhere.clone()]);
            }
        }
        args.extend(flags.iter().map(ToString::to_string));
        let mut config = GatewayCli::parse_from(args).config;
        set(&mut config);
        let dir = tempfile::tempdir().unwrap();
        let (backends, log) = backends(dir.path());
        backends.log.open().await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let shell = ServiceContext::new(Duration::from_secs(3));
        let running = tokio::spawn(liverank_gateway::run(config, backends.clone(), listener, shell.clone()));
        let http = Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap();
        Self { url, http, shell, backends, log, running, _dir: dir }
    }

    /// Runs another gateway on the same stores, which has to end by itself. Returns its result.
    pub async fn beside(&self, flags: &[&str], listener: TcpListener) -> anyhow::Result<()> {
        let config = GatewayCli::parse_from(["gateway"].iter().chain(flags)).config;
        let shell = ServiceContext::new(Duration::from_secs(3));
        let running = liverank_gateway::run(config, self.backends.clone(), listener, shell);
        tokio::time::timeout(PROMPT_TIMEOUT, running).await.expect("ends by itself")
    }

    /// Returns the URL of a path at the gateway.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url.as_str().trim_end_matches('/'))
    }

    pub async fn get(&self, path: &str) -> reqwest::Response {
        self.http.get(self.url(path)).send().await.unwrap()
    }

    /// Posts JSON as the ranking seed's clients do: without a content type.
    pub async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> reqwest::Response {
        self.http.post(self.url(path)).body(body).send().await.unwrap()
    }

    pub async fn json(&self, path: &str) -> Value {
        let response = self.get(path).await;
        assert_eq!(response.status(), 200, "{path}");
        response.json().await.unwrap()
    }

    /// Waits until the gateway ends by itself. Returns its result.
    pub async fn wait_until_ended(self) -> anyhow::Result<()> {
        tokio::time::timeout(PROMPT_TIMEOUT, self.running).await.expect("ends by itself").unwrap()
    }

    /// Asks the gateway to end, and waits until it has ended.
    pub async fn end(self) {
        self.shell.shutdown.cancel();
        tokio::time::timeout(PROMPT_TIMEOUT, self.running).await.expect("drains in time").unwrap().unwrap();
    }
}

fn backends(dir: &std::path::Path) -> (Backends, Arc<SpyLog>) {
    let clock = clock::system_clock();
    let log = Arc::new(SpyLog::new(EmbeddedLog::open(dir, clock).unwrap()));
    let backends = Backends {
        log: Arc::clone(&log) as Arc<dyn EventLog>,
        archive: Arc::new(EmbeddedArchive::open(dir).unwrap()),
        ranking: Arc::new(EmbeddedRanking::new()),
        comments: Arc::new(EmbeddedBus::new()),
        assignments: Arc::new(EmbeddedAssignments::new()),
        clock: clock::system_clock(),
    };
    (backends, log)
}

/// Maximum number of appends under way in a [`SpyLog`]: more than any test has.
const ALL: u32 = 1 << 16;

/// The embedded log with its appended records visible; the test can make appends fail or wait.
pub struct SpyLog {
    inner: EmbeddedLog,
    appended: Mutex<Vec<(String, Value)>>,
    broken: AtomicBool,
    gate: Semaphore,
    append_count: AtomicUsize,
}

impl SpyLog {
    fn new(inner: EmbeddedLog) -> Self {
        let gate = Semaphore::new(ALL as usize);
        Self {
            inner,
            appended: Mutex::default(),
            broken: AtomicBool::new(false),
            gate,
            append_count: AtomicUsize::new(0),
        }
    }

    /// Returns the keys and values of the records that the log acknowledged.
    pub fn appended(&self) -> Vec<(String, Value)> {
        self.appended.lock().unwrap().clone()
    }

    pub fn break_down(&self, broken: bool) {
        self.broken.store(broken, SeqCst);
    }

    /// Returns the number of appends that were asked for, including those that wait.
    pub fn append_count(&self) -> usize {
        self.append_count.load(SeqCst)
    }

    /// Makes appends wait until the returned permit is dropped.
    pub fn hold(&self) -> tokio::sync::SemaphorePermit<'_> {
        self.gate.try_acquire_many(ALL).unwrap()
    }
}

#[async_trait]
impl EventLog for SpyLog {
    async fn open(&self) -> Result<(), StoreError> {
        self.inner.open().await
    }

    async fn append_traced(
        &self,
        key: &[u8],
        value: Vec<u8>,
        trace: Option<TraceContext>,
    ) -> Result<RecordPosition, AppendError> {
        self.append_count.fetch_add(1, SeqCst);
        let _pass = self.gate.acquire().await.unwrap();
        if self.broken.load(SeqCst) {
            return Err(StoreError::unavailable("kafka", "connection refused").into());
        }
        let place = self.inner.append_traced(key, value.clone(), trace).await?;
        let key = String::from_utf8(key.to_vec()).unwrap();
        self.appended.lock().unwrap().push((key, serde_json::from_slice(&value).unwrap()));
        Ok(place)
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
        if self.broken.load(SeqCst) {
            return Err(StoreError::unavailable("kafka", "connection refused"));
        }
        self.inner.check_writable()
    }
}

/// Starts a service with this router. Returns its URL.
pub async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, router).into_future());
    url
}

/// Returns a URL at which connections are refused. A port that was free a moment ago would not do: tests run side by
/// side, and another one may be given the port.
pub fn nowhere() -> String {
    "http://127.0.0.1:9".to_owned()
}

/// Waits until `check` returns true; `what` is shown if it does not in time.
pub async fn eventually(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PROMPT_TIMEOUT;
    while !check().await {
        assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Checks that `response` is an error response in the format of section 5 of the design, and returns its body.
pub async fn problem(response: reqwest::Response, status: u16) -> Value {
    assert_eq!(response.status().as_u16(), status, "{}", response.url());
    let headers = response.headers();
    assert_eq!(headers["content-type"], "application/problem+json");
    assert_eq!(headers["access-control-allow-origin"], "*");
    if matches!(status, 429 | 503) {
        assert!(headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
    }
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["status"], status);
    assert_eq!(body["error"], body["detail"]);
    assert!(!body["detail"].as_str().unwrap().is_empty());
    body
}
