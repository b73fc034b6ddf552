//! Managers over real sockets on one embedded store that can be taken away, and readers that beat, answer probes and
//! can be killed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use axum::routing::get;
use axum::{Json, Router};
use liverank_adapters::assignment_store::embedded::EmbeddedAssignments;
use liverank_adapters::assignment_store::{Change, ReaderRecord, State, Swapped};
use liverank_adapters::{AssignmentStore, StoreError};
use liverank_core::{ReaderId, VideoId};
use liverank_manager::Config;
use liverank_shell::Shell;
use liverank_shell::wire::{HeartbeatAnswer, Moved};
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// How long anything may take to come true.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How long news take where they are slow: longer than it takes to ask.
const NEWS_TAKE: Duration = Duration::from_millis(200);

/// Waits until `holds`, and answers how long that took.
pub async fn until(what: &str, holds: impl AsyncFn() -> bool) -> Duration {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < PATIENCE, "did not come true: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    start.elapsed()
}

pub fn video(name: &str) -> VideoId {
    VideoId::parse(name).unwrap()
}

pub struct Manager {
    pub base: String,
    pub client: Client,
    shell: Shell,
}

impl Manager {
    pub async fn start(store: &Arc<StoreWithSwitch>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let shell = Shell::new(Duration::from_secs(1));
        let config = Config { statistics_url: vec![] };
        let store: Arc<dyn AssignmentStore> = Arc::clone(store) as _;
        tokio::spawn(liverank_manager::serve(config, store, listener, shell.clone()));
        // A test is silent for as long as the server keeps an idle connection: reusing one would be a race with its end.
        let client = Client::builder().pool_max_idle_per_host(0).build().unwrap();
        Self { base, client, shell }
    }

    pub async fn get(&self, path: &str) -> Response {
        self.client.get(format!("{}{path}", self.base)).send().await.unwrap()
    }

    pub async fn send(&self, path: &str, body: &Value) -> Response {
        self.client.post(format!("{}{path}", self.base)).json(body).send().await.unwrap()
    }

    pub async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        let answer = self.send(path, body).await;
        (answer.status(), answer.json().await.unwrap())
    }

    /// Registers a video, and answers its reader's address and the action.
    pub async fn register(&self, video: &str) -> (String, String) {
        let (status, body) = self.post("/register", &json!({"videoid": video})).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let text = |member: &str| body[member].as_str().unwrap().to_owned();
        assert_eq!(text("videoid"), video);
        (text("readerUrl"), text("action"))
    }

    /// The address of a video's reader, if it has one.
    pub async fn resolve(&self, video: &str) -> Option<String> {
        let answer = self.get(&format!("/resolve/{video}")).await;
        let found = answer.status() == StatusCode::OK;
        let body: Value = answer.json().await.unwrap();
        found.then(|| body["readerUrl"].as_str().unwrap().to_owned())
    }

    /// Waits until the manager knows `count` readers that take viewers.
    pub async fn knows(&self, count: usize) {
        until("the manager knows its readers", async || {
            let health: Value = self.get("/health").await.json().await.unwrap();
            health["availableReaderApis"].as_array().unwrap().len() == count
        })
        .await;
    }

    /// A reader's state, as `/load` tells it.
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

/// What a reader reports, and what it heard.
#[derive(Default)]
pub struct Told {
    pub videos: Vec<(VideoId, u64)>,
    pub draining: bool,
    pub moved: Vec<Moved>,
}

pub struct Reader {
    pub id: String,
    pub url: String,
    pub told: Arc<Mutex<Told>>,
    /// Whether its heartbeats leave it.
    pub connected: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

impl Reader {
    /// Starts a reader that beats to `managers`, the first that answers.
    pub async fn start(id: &str, managers: &[&Manager]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let told = Arc::new(Mutex::new(Told::default()));
        let connected = Arc::new(AtomicBool::new(true));
        let health = json!({"status": "healthy", "service": "reader", "instanceId": id});
        let router = Router::new().route("/health", get(move || async move { Json(health) }));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            liverank_shell::server::serve_until_dropped(listener, router).await.unwrap();
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
        };
        tasks.spawn(beat(record, managers, Arc::clone(&told), Arc::clone(&connected)));
        Self { id: id.to_owned(), url, told, connected, tasks }
    }

    /// As kill -9 would.
    pub async fn kill(&mut self) {
        self.tasks.shutdown().await;
    }

    pub fn watch(&self, name: &str, viewers: u64) {
        self.told.lock().unwrap().videos.push((video(name), viewers));
    }

    pub fn drain(&self) {
        self.told.lock().unwrap().draining = true;
    }

    pub fn moved(&self) -> Vec<Moved> {
        self.told.lock().unwrap().moved.clone()
    }
}

async fn beat(
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
            (record.draining, record.videos) = (told.draining, told.videos.clone());
            record.viewers = record.videos.iter().map(|(_, viewers)| viewers).sum();
        }
        if !connected.load(Relaxed) {
            continue;
        }
        for manager in &managers {
            let Ok(answer) = client.post(format!("{manager}/heartbeat")).json(&record).send().await else {
                continue;
            };
            if let Ok(answer) = answer.json::<HeartbeatAnswer>().await {
                told.lock().unwrap().moved = answer.moved;
                break;
            }
        }
    }
}

/// A store that can be taken away, in parts, and emptied.
#[derive(Default)]
pub struct StoreWithSwitch {
    inner: Mutex<Arc<EmbeddedAssignments>>,
    pub away: AtomicBool,
    /// Only the readers' heartbeats cannot be read.
    pub blind: AtomicBool,
    /// News of changes takes [`NEWS_TAKE`], as over a network.
    pub slow_news: AtomicBool,
    /// Polls that found it blind or away.
    pub vain_polls: AtomicU64,
    /// Compare-and-sets that took effect.
    pub assigned: AtomicU64,
}

impl StoreWithSwitch {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Loses everything, as a Redis without a disk does.
    pub fn lose_everything(&self) {
        *self.inner.lock().unwrap() = Arc::default();
    }

    fn inner(&self) -> Result<Arc<EmbeddedAssignments>, StoreError> {
        if self.away.load(Relaxed) {
            return Err(StoreError::unavailable("redis", "switched off by the test"));
        }
        Ok(Arc::clone(&self.inner.lock().unwrap()))
    }
}

#[async_trait]
impl AssignmentStore for StoreWithSwitch {
    async fn load(&self) -> Result<State, StoreError> {
        self.inner()?.load().await
    }
    async fn assign(
        &self,
        video: &VideoId,
        expected: Option<u64>,
        readers: &[ReaderId],
        seen: u64,
    ) -> Result<Swapped, StoreError> {
        let swapped = self.inner()?.assign(video, expected, readers, seen).await?;
        if matches!(swapped, Swapped::Stored(_)) {
            self.assigned.fetch_add(1, Relaxed);
        }
        Ok(swapped)
    }
    async fn remove(&self, video: &VideoId, expected: u64) -> Result<Swapped, StoreError> {
        self.inner()?.remove(video, expected).await
    }
    async fn heartbeat(&self, reader: &ReaderRecord) -> Result<(), StoreError> {
        self.inner()?.heartbeat(reader).await
    }
    async fn readers(&self) -> Result<Vec<ReaderRecord>, StoreError> {
        if self.blind.load(Relaxed) || self.away.load(Relaxed) {
            self.vain_polls.fetch_add(1, Relaxed);
            return Err(StoreError::unavailable("redis", "switched off by the test"));
        }
        self.inner()?.readers().await
    }
    async fn forget_reader(&self, reader: &ReaderId, beat: u64) -> Result<(), StoreError> {
        self.inner()?.forget_reader(reader, beat).await
    }
    async fn changes(&self) -> Result<mpsc::Receiver<Change>, StoreError> {
        let mut changes = self.inner()?.changes().await?;
        if !self.slow_news.load(Relaxed) {
            return Ok(changes);
        }
        let (sender, late) = mpsc::channel(16);
        tokio::spawn(async move {
            while let Some(change) = changes.recv().await {
                tokio::time::sleep(NEWS_TAKE).await;
                if sender.send(change).await.is_err() {
                    return;
                }
            }
        });
        Ok(late)
    }
}
