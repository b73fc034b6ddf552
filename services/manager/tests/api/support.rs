//! Managers over real sockets on one embedded store that can be made unavailable, and readers that send heartbeats,
//! answer probes and can be killed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use axum::extract::State as Shared;
use axum::http::{HeaderMap, StatusCode as Status};
use axum::routing::{get, post};
use axum::{Json, Router};
use liverank_adapters::assignment_store::embedded::EmbeddedAssignments;
use liverank_adapters::assignment_store::{
    AssignmentChange, AssignmentSnapshot, PlannerOrders, PlannerTerm, ReaderCordon, ReaderRecord,
    SwapOutcome, TermGrant,
};
use liverank_adapters::{AssignmentStore, StoreError};
use liverank_core::handover::{HandOver, HeldVideo, PlannerLease, ReaderShare};
use liverank_core::secret::Secret;
use liverank_core::{ReaderId, VideoId};
use liverank_manager::Config;
use liverank_protocol::access::{CalledService, KnownCaller};
use liverank_protocol::{HeartbeatAnswer, WarmRequest, ZonedViewers};
use liverank_runtime::identity::local::KeyRing;
use liverank_runtime::{HttpSettings, Identity, ServiceContext};
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle, JoinSet};

/// The longest time that a condition may take to come true.
pub const CONDITION_TIMEOUT: Duration = Duration::from_mins(1);

/// The time that reading all assignments takes if loads are slow: longer than a store may take for anything else.
const SLOW_LOAD_DELAY: Duration = Duration::from_secs(10);
/// The delay of change notifications if they are slow: longer than a query takes.
const SLOW_NOTIFICATION_DELAY: Duration = Duration::from_millis(200);

/// The time that assigning a video takes if assignments are slow: within it, all requests of a test have come.
const SLOW_ASSIGNMENT_DELAY: Duration = Duration::from_millis(300);

/// Waits until `holds` returns true; returns how long that took, and fails after `CONDITION_TIMEOUT`.
pub async fn until(what: &str, holds: impl AsyncFn() -> bool) -> Duration {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < CONDITION_TIMEOUT, "did not come true: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    start.elapsed()
}

/// The keys of all processes in these tests, derived from one secret.
pub fn keys() -> KeyRing {
    KeyRing::from_secret(&[b't'; 32]).unwrap()
}

/// Returns a token with which `caller` authenticates at a manager.
pub fn token(caller: &str) -> String {
    let caller: KnownCaller = caller.parse().unwrap();
    let seconds = liverank_runtime::now_micros() / 1_000_000;
    keys().token_source(&caller).unwrap().sign_token(CalledService::Manager, seconds, 3_600)
}

/// Returns a caller that may call `path`, for tests in which the caller does not matter.
fn usual_caller_of(path: &str) -> &'static str {
    match path.split(['?', '/']).nth(1).unwrap_or_default() {
        "route" => "gateway",
        "term" | "moves" | "cordons" => "operator",
        "heartbeat" => "reader/r",
        _ => "cli",
    }
}

/// Returns the lease of the planner in these tests.
pub fn a_lease() -> Value {
    json!({"uid": "a-lease-of-the-tests", "transitions": 1})
}

pub fn video(name: &str) -> VideoId {
    VideoId::parse(name).unwrap()
}

pub struct Manager {
    pub base: String,
    pub client: Client,
    shell: ServiceContext,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Manager {
    pub async fn start(store: &Arc<StoreWithSwitch>) -> Self {
        Self::with(store, Config::default()).await
    }

    pub async fn with(store: &Arc<StoreWithSwitch>, config: Config) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let mut shell = ServiceContext::new(Duration::from_secs(1));
        shell.identity = Identity::with_keys(keys());
        let store: Arc<dyn AssignmentStore> = Arc::clone(store) as _;
        let task = tokio::spawn(liverank_manager::run(config, store, vec![listener], shell.clone()));
        // A test is silent for as long as the server keeps an idle connection: reusing one would be a race with its end.
        let client = Client::builder().pool_max_idle_per_host(0).build().unwrap();
        Self { base, client, shell, task }
    }

    /// Ends the manager as `kill -9` would: none of its tasks runs on.
    pub fn kill(&self) {
        self.task.abort();
    }

    pub async fn get(&self, path: &str) -> Response {
        let request = self.client.get(format!("{}{path}", self.base));
        request.bearer_auth(token(usual_caller_of(path))).send().await.unwrap()
    }

    pub async fn send(&self, path: &str, body: &Value) -> Response {
        self.send_as(usual_caller_of(path), path, body).await
    }

    pub async fn send_as(&self, caller: &str, path: &str, body: &Value) -> Response {
        let request = self.client.post(format!("{}{path}", self.base)).bearer_auth(token(caller));
        request.json(body).send().await.unwrap()
    }

    pub async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        let answer = self.send(path, body).await;
        (answer.status(), answer.json().await.unwrap())
    }

    /// Posts an order; adds the lease of these tests if the order has none.
    pub async fn order(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        let mut body = body.clone();
        if body.get("lease").is_none() {
            body["lease"] = a_lease();
        }
        let answer = self.send_as("operator", path, &body).await;
        (answer.status(), answer.json().await.unwrap())
    }

    /// Begins a planner's term that follows the one in force, and returns the new term's number.
    pub async fn term(&self, holder: &str) -> u64 {
        let (status, answer) = self.order("/term", &json!({"holder": holder})).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer["term"].as_u64().unwrap()
    }

    /// Returns the metrics as the manager's admin port shows them.
    pub fn metrics(&self) -> String {
        self.shell.metrics.encode_text()
    }

    pub async fn json(&self, path: &str) -> Value {
        self.get(path).await.json().await.unwrap()
    }

    /// Returns the epoch of a video; registers the video if it is new.
    pub async fn epoch(&self, video: &str) -> u64 {
        self.post("/route", &json!({"videoid": video})).await.1["epoch"].as_u64().unwrap()
    }

    /// Registers a video. Returns its reader's address and the action.
    pub async fn register(&self, video: &str) -> (String, String) {
        let (status, body) = self.post("/register", &json!({"videoid": video})).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let text = |member: &str| body[member].as_str().unwrap().to_owned();
        assert_eq!(text("videoid"), video);
        (text("readerUrl"), text("action"))
    }

    /// Returns the address of a video's reader; `None` if the video has none.
    pub async fn resolve(&self, video: &str) -> Option<String> {
        let answer = self.get(&format!("/resolve/{video}")).await;
        let found = answer.status() == StatusCode::OK;
        let body: Value = answer.json().await.unwrap();
        found.then(|| body["readerUrl"].as_str().unwrap().to_owned())
    }

    /// Waits until the manager knows `count` readers that accept viewers.
    pub async fn knows(&self, count: usize) {
        until("the manager knows its readers", async || {
            let health: Value = self.get("/health").await.json().await.unwrap();
            health["availableReaderApis"].as_array().unwrap().len() == count
        })
        .await;
    }

    /// Returns a reader's state as `/load` names it; `None` if the reader is not listed.
    pub async fn state_of(&self, reader: &str) -> Option<String> {
        let load: Value = self.get("/load").await.json().await.unwrap();
        let readers = load["readers"].as_array().unwrap().iter();
        let mut found = readers.filter(|state| state["id"] == reader);
        found.next().map(|state| state["state"].as_str().unwrap().to_owned())
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.shell.shutdown.cancel();
    }
}

/// The state of a test's reader: what it reports, and what it was told.
#[derive(Default)]
pub struct Told {
    /// The videos that the reader reports. Viewers that the reader is ordered to hand over leave it at once.
    pub videos: BTreeMap<VideoId, HeldVideo>,
    pub draining: bool,
    pub grace_ms: u64,
    /// The hand-over orders in the last heartbeat's answer.
    pub hand_over: Vec<HandOver>,
    /// All hand-over orders that the reader ever got, each with the number of the video's viewers at that time.
    pub handed: Vec<(HandOver, u64)>,
    /// True if the reader ignores requests to keep a video ready.
    pub is_cold: bool,
    /// The reader to which the viewers go that this one hands over; `None`: they go nowhere.
    pub heir: Option<Arc<Mutex<Told>>>,
    pub is_dead: bool,
    /// The number of viewers for whom other readers have space, by the last heartbeat's answer.
    pub room_elsewhere: Option<u64>,
    /// The number of heartbeats that were answered.
    pub answers: u64,
    /// The authorisation headers of the requests that the reader got.
    pub asked_with: Vec<String>,
}

/// Returns the ticket that the reader `id` of these tests gives its managers.
pub fn ticket(id: &str) -> String {
    format!("ticket-of-{id}")
}

pub struct Reader {
    pub id: String,
    pub url: String,
    pub told: Arc<Mutex<Told>>,
    /// True while the reader's heartbeats reach the managers.
    pub connected: Arc<AtomicBool>,
    /// The server that answers at the reader's address.
    server: AbortHandle,
    tasks: JoinSet<()>,
}

impl Reader {
    /// Starts a reader that sends its heartbeats to the first of `managers` that answers.
    pub async fn start(id: &str, managers: &[&Manager]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let told = Arc::new(Mutex::new(Told::default()));
        let connected = Arc::new(AtomicBool::new(true));
        let health = json!({"status": "healthy", "service": "reader", "instanceId": id});
        let living = Arc::clone(&told);
        let answer = move || async move {
            if living.lock().unwrap().is_dead {
                std::future::pending::<()>().await;
            }
            Json(health)
        };
        let router = Router::new()
            .route("/health", get(answer))
            .route("/warm", post(answer_warm))
            .with_state(Arc::clone(&told));
        let mut tasks = JoinSet::new();
        let server = tasks.spawn(async move {
            liverank_runtime::server::serve_until_dropped(listener, router, HttpSettings::default())
                .await
                .unwrap();
        });
        let managers = managers.iter().map(|manager| manager.base.clone()).collect();
        let record = ReaderRecord {
            id: ReaderId::parse(id).unwrap(),
            public_url: url.clone(),
            internal_url: url.clone(),
            beat: 0,
            capacity: 1_000,
            viewers: 0,
            draining: false,
            highest_epoch: 0,
            videos: Vec::new(),
            messages_sent: 0,
            grace_ms: 0,
            reconnects: 0,
            reconnect_errors: 0,
            incarnation: 1,
            zone: None,
            viewers_by_zone: ZonedViewers::default(),
            ticket: Some(Secret::new(ticket(id))),
        };
        tasks.spawn(send_heartbeats(record, managers, Arc::clone(&told), Arc::clone(&connected)));
        Self { id: id.to_owned(), url, told, connected, server, tasks }
    }

    /// Closes the reader's address; the reader continues to send heartbeats.
    pub fn hide(&self) {
        self.server.abort();
    }

    /// Ends the reader as `kill -9` would: open connections are no longer answered, either.
    pub async fn kill(&mut self) {
        self.told.lock().unwrap().is_dead = true;
        self.tasks.shutdown().await;
    }

    /// Makes the reader hang like an overloaded machine: its address accepts connections, and nothing answers on them.
    pub fn freeze(&self) {
        self.told.lock().unwrap().is_dead = true;
        self.connected.store(false, Relaxed);
    }

    pub fn watch(&self, name: &str, viewers: u64) {
        let held = HeldVideo { video: video(name), viewers, epoch: 0, ready: true, shedding: false };
        self.told.lock().unwrap().videos.insert(held.video.clone(), held);
    }

    pub fn viewers(&self, name: &str) -> u64 {
        self.told.lock().unwrap().videos.get(&video(name)).map_or(0, |held| held.viewers)
    }

    pub fn drain(&self) {
        self.told.lock().unwrap().draining = true;
    }

    pub fn hand_over(&self) -> Vec<HandOver> {
        self.told.lock().unwrap().hand_over.clone()
    }
}

async fn answer_warm(
    Shared(told): Shared<Arc<Mutex<Told>>>,
    headers: HeaderMap,
    Json(asked): Json<WarmRequest>,
) -> (Status, Json<Value>) {
    let mut told = told.lock().unwrap();
    let shown = headers.get("authorization").map_or("", |shown| shown.to_str().unwrap());
    told.asked_with.push(shown.to_owned());
    if told.is_cold {
        return (Status::SERVICE_UNAVAILABLE, Json(json!({})));
    }
    let held = HeldVideo {
        video: asked.videoid.clone(),
        viewers: 0,
        epoch: asked.epoch,
        ready: true,
        shedding: false,
    };
    told.videos.entry(asked.videoid.clone()).or_insert(held);
    (Status::OK, Json(json!({"videoid": asked.videoid})))
}

impl Told {
    fn follow_hand_overs(&mut self, hand_over: Vec<HandOver>) {
        // Four heartbeats a second are answered, and the pace of an order is for a second.
        self.answers += 1;
        let due = if self.answers.is_multiple_of(4) { &hand_over[..] } else { &[] };
        for order in due {
            if let Some(held) = self.videos.get_mut(&order.video) {
                self.handed.push((order.clone(), held.viewers));
                let leaving = held.viewers.saturating_sub(order.keep).min(u64::from(order.pace));
                held.viewers -= leaving;
                if let Some(heir) = &self.heir {
                    let mut heir = heir.lock().unwrap();
                    heir.videos.get_mut(&order.video).unwrap().viewers += leaving;
                }
            }
        }
        for held in self.videos.values_mut() {
            held.shedding = hand_over.iter().any(|order| order.here && order.video == held.video);
        }
        self.hand_over = hand_over;
    }
}

async fn send_heartbeats(
    mut record: ReaderRecord,
    managers: Vec<String>,
    told: Arc<Mutex<Told>>,
    connected: Arc<AtomicBool>,
) {
    let client = Client::new();
    let mut ticks = tokio::time::interval(Duration::from_millis(250));
    loop {
        ticks.tick().await;
        record.beat += 1;
        {
            let told = told.lock().unwrap();
            (record.draining, record.grace_ms) = (told.draining, told.grace_ms);
            record.videos = told.videos.values().cloned().collect();
            record.viewers = record.videos.iter().map(|held| held.viewers).sum();
        }
        if !connected.load(Relaxed) {
            continue;
        }
        for manager in &managers {
            let Ok(answer) = client
                .post(format!("{manager}/heartbeat"))
                .bearer_auth(token(&format!("reader/{}", record.id)))
                .json(&record)
                .send()
                .await
            else {
                continue;
            };
            if let Ok(answer) = answer.json::<HeartbeatAnswer>().await {
                let mut told = told.lock().unwrap();
                told.room_elsewhere = answer.room_elsewhere;
                told.follow_hand_overs(answer.hand_over);
                break;
            }
        }
    }
}

/// A store that a test can make unavailable, wholly or in part, and can empty.
#[derive(Default)]
pub struct StoreWithSwitch {
    inner: Mutex<Arc<EmbeddedAssignments>>,
    pub is_unavailable: AtomicBool,
    /// Whether the readers' heartbeats cannot be read, while all else can.
    pub blind: AtomicBool,
    /// Whether change notifications are delayed by [`SLOW_NOTIFICATION_DELAY`], as over a network.
    pub slow_news: AtomicBool,
    /// The number of polls that failed because the store was blind or unavailable.
    pub vain_polls: AtomicU64,
    /// The number of compare-and-sets that took effect.
    pub assigned: AtomicU64,
    /// Whether assigning a video takes [`SLOW_ASSIGNMENT_DELAY`].
    pub slow_assignments: AtomicBool,
    /// Whether reading all assignments takes [`SLOW_LOAD_DELAY`].
    pub slow_loads: AtomicBool,
    /// Whether reading all assignments fails.
    pub failing_loads: AtomicBool,
    /// The number of times that all assignments were read.
    pub loads: AtomicU64,
    /// Whether change notifications are lost on their way; as on a connection that broke without a sign.
    pub lose_news: Arc<AtomicBool>,
}

impl StoreWithSwitch {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Loses all data, as a Redis without a disk does.
    pub fn lose_everything(&self) {
        *self.inner.lock().unwrap() = Arc::default();
    }

    fn inner_store(&self) -> Result<Arc<EmbeddedAssignments>, StoreError> {
        if self.is_unavailable.load(Relaxed) {
            return Err(StoreError::unavailable("redis", "switched off by the test"));
        }
        Ok(Arc::clone(&self.inner.lock().unwrap()))
    }
}

#[async_trait]
impl AssignmentStore for StoreWithSwitch {
    async fn assignments_version(&self) -> Result<u64, StoreError> {
        self.inner_store()?.assignments_version().await
    }
    async fn load_assignments(&self) -> Result<AssignmentSnapshot, StoreError> {
        self.loads.fetch_add(1, Relaxed);
        if self.failing_loads.load(Relaxed) {
            return Err(StoreError::unavailable("redis", "the test lets no load succeed"));
        }
        let loaded = self.inner_store()?.load_assignments().await;
        if self.slow_loads.load(Relaxed) {
            tokio::time::sleep(SLOW_LOAD_DELAY).await;
        }
        loaded
    }
    async fn assign_video(
        &self,
        video: &VideoId,
        expected: Option<u64>,
        readers: &[ReaderShare],
        seen: u64,
        term: Option<u64>,
    ) -> Result<SwapOutcome, StoreError> {
        if self.slow_assignments.load(Relaxed) {
            tokio::time::sleep(SLOW_ASSIGNMENT_DELAY).await;
        }
        let swapped = self.inner_store()?.assign_video(video, expected, readers, seen, term).await?;
        if matches!(swapped, SwapOutcome::Stored(_)) {
            self.assigned.fetch_add(1, Relaxed);
        }
        Ok(swapped)
    }
    async fn remove_assignment(&self, video: &VideoId, expected: u64) -> Result<SwapOutcome, StoreError> {
        self.inner_store()?.remove_assignment(video, expected).await
    }
    async fn note_heartbeat(&self, reader: &ReaderRecord) -> Result<(), StoreError> {
        self.inner_store()?.note_heartbeat(reader).await
    }
    async fn reader_records(&self) -> Result<Vec<ReaderRecord>, StoreError> {
        if self.blind.load(Relaxed) || self.is_unavailable.load(Relaxed) {
            self.vain_polls.fetch_add(1, Relaxed);
            return Err(StoreError::unavailable("redis", "switched off by the test"));
        }
        self.inner_store()?.reader_records().await
    }
    async fn forget_reader(&self, reader: &ReaderId, beat: u64) -> Result<(), StoreError> {
        self.inner_store()?.forget_reader(reader, beat).await
    }
    async fn raise_viewer_peaks(&self, peaks: &[(VideoId, u64)]) -> Result<(), StoreError> {
        self.inner_store()?.raise_viewer_peaks(peaks).await
    }
    async fn viewer_peaks(&self, videos: &[VideoId]) -> Result<Vec<Option<u64>>, StoreError> {
        self.inner_store()?.viewer_peaks(videos).await
    }
    async fn planner_orders(&self) -> Result<PlannerOrders, StoreError> {
        // A manager's poll begins with this query: if it fails, the manager makes no further one.
        if self.is_unavailable.load(Relaxed) {
            self.vain_polls.fetch_add(1, Relaxed);
        }
        self.inner_store()?.planner_orders().await
    }
    async fn mint_term(
        &self,
        holder: &str,
        lease: Option<&PlannerLease>,
        expected: u64,
        seen: u64,
    ) -> Result<TermGrant, StoreError> {
        self.inner_store()?.mint_term(holder, lease, expected, seen).await
    }
    async fn renew_term(&self, term: &PlannerTerm) -> Result<TermGrant, StoreError> {
        self.inner_store()?.renew_term(term).await
    }
    async fn set_cordon(
        &self,
        term: u64,
        reader: &ReaderId,
        cordon: Option<&ReaderCordon>,
    ) -> Result<Option<u64>, StoreError> {
        self.inner_store()?.set_cordon(term, reader, cordon).await
    }
    async fn subscribe_changes(&self) -> Result<mpsc::Receiver<AssignmentChange>, StoreError> {
        let mut changes = self.inner_store()?.subscribe_changes().await?;
        let delay = if self.slow_news.load(Relaxed) { SLOW_NOTIFICATION_DELAY } else { Duration::ZERO };
        let lost = Arc::clone(&self.lose_news);
        let (sender, late) = mpsc::channel(16);
        tokio::spawn(async move {
            while let Some(change) = changes.recv().await {
                if lost.load(Relaxed) {
                    continue;
                }
                tokio::time::sleep(delay).await;
                if sender.send(change).await.is_err() {
                    return;
                }
            }
        });
        Ok(late)
    }
}
