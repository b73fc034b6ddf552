//! The environment of the tests: embedded stores, a bus whose failures the test controls, a manager, readers, and
//! viewers who read over real sockets.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use liverank_adapters::archive::embedded::EmbeddedArchive;
use liverank_adapters::assignment_store::ReaderRecord;
use liverank_adapters::assignment_store::embedded::EmbeddedAssignments;
use liverank_adapters::comment_bus::embedded::EmbeddedBus;
use liverank_adapters::comment_bus::{ChannelHead, Delivery, Subscription};
use liverank_adapters::event_log::embedded::EmbeddedLog;
use liverank_adapters::ranking_store::embedded::EmbeddedRanking;
use liverank_adapters::{Archive, Backends, CommentBus, StoreError, clock};
use liverank_core::comment::{Comment, CommentEpoch};
use liverank_core::counting::{Batch, CountingRules, LogRecord, OffsetRange};
use liverank_core::event::{CommentBody, Interaction, Kind};
use liverank_core::handover::HandOver;
use liverank_core::trace::TraceContext;
use liverank_core::{CommentId, ReaderId, UserId, VideoId};
use liverank_protocol::{HeartbeatAnswer, Route, RouteReader};
use liverank_reader::Config;
use liverank_runtime::{Problem, ServiceContext};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// The longest time that a condition may take before a test fails.
pub const DEADLINE: Duration = Duration::from_secs(20);

pub fn video(id: &str) -> VideoId {
    VideoId::parse(id).unwrap()
}

/// Polls until `holds` returns true; fails with the name `what` after `DEADLINE`.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds().await {
        assert!(Instant::now() < deadline, "{what} did not happen in time");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// An embedded bus that can be made unavailable or emptied, can deliver comments that were not published, and knows how
/// many channels are subscribed.
#[derive(Default)]
pub struct TestBus {
    inner: Mutex<Arc<EmbeddedBus>>,
    listeners: Mutex<Vec<mpsc::Sender<Delivery>>>,
    pub is_unavailable: AtomicBool,
    pub subscribed: Arc<AtomicU64>,
}

impl TestBus {
    fn inner_bus(&self) -> Arc<EmbeddedBus> {
        Arc::clone(&self.inner.lock().unwrap())
    }

    /// Makes the bus lose all data and subscriptions without reporting it.
    pub fn empty(&self) {
        *self.inner.lock().unwrap() = Arc::default();
    }

    /// Delivers a comment to all subscribers without keeping it.
    pub async fn deliver(&self, numbering: &CommentEpoch, comment: &Comment) {
        let listeners = self.listeners.lock().unwrap().clone();
        for listener in listeners {
            let delivery =
                Delivery::Comment { numbering: numbering.clone(), comment: comment.clone(), trace: None };
            listener.send(delivery).await.unwrap();
        }
    }

    fn answer_or_away<T>(&self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        if self.is_unavailable.load(Ordering::Relaxed) {
            return Err(StoreError::unavailable("bus", "told to be away"));
        }
        answer
    }
}

struct CountedSubscription(Box<dyn Subscription>, Arc<AtomicU64>);

#[async_trait]
impl Subscription for CountedSubscription {
    async fn subscribe(&self, video: &VideoId) -> Result<(), StoreError> {
        self.0.subscribe(video).await?;
        self.1.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn unsubscribe(&self, video: &VideoId) -> Result<(), StoreError> {
        self.0.unsubscribe(video).await?;
        self.1.fetch_sub(1, Ordering::Relaxed);
        Ok(())
    }
}

#[async_trait]
impl CommentBus for TestBus {
    async fn publish_traced(
        &self,
        numbering: &CommentEpoch,
        comments: &[Comment],
        traces: &[(CommentId, TraceContext)],
    ) -> Result<(), StoreError> {
        self.inner_bus().publish_traced(numbering, comments, traces).await
    }

    async fn new_subscription(
        &self,
    ) -> Result<(Box<dyn Subscription>, mpsc::Receiver<Delivery>), StoreError> {
        let (subscription, mut deliveries) =
            self.answer_or_away(self.inner_bus().new_subscription().await)?;
        let (sender, receiver) = mpsc::channel(1024);
        self.listeners.lock().unwrap().push(sender.clone());
        tokio::spawn(async move {
            while let Some(delivery) = deliveries.recv().await {
                if sender.send(delivery).await.is_err() {
                    return;
                }
            }
        });
        Ok((Box::new(CountedSubscription(subscription, Arc::clone(&self.subscribed))), receiver))
    }

    async fn recent_comments(
        &self,
        numbering: &CommentEpoch,
        video: &VideoId,
        after: u64,
        limit: usize,
    ) -> Result<Option<Vec<Comment>>, StoreError> {
        self.answer_or_away(self.inner_bus().recent_comments(numbering, video, after, limit).await)
    }

    async fn channel_heads(&self, videos: &[VideoId]) -> Result<Vec<Option<ChannelHead>>, StoreError> {
        self.answer_or_away(self.inner_bus().channel_heads(videos).await)
    }
}

/// The stores, and the part of the consumer: it numbers posted comments and publishes them.
pub struct World {
    pub backends: Backends,
    pub bus: Arc<TestBus>,
    pub archive: Arc<dyn Archive>,
    pub numbering: CommentEpoch,
    offset: tokio::sync::Mutex<u64>,
    _directory: tempfile::TempDir,
}

impl World {
    pub async fn new() -> Self {
        let mut world = Self::unopened();
        world.open().await;
        world
    }

    /// Makes an environment whose archive no consumer has opened yet.
    pub fn unopened() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let bus = Arc::new(TestBus::default());
        let archive: Arc<dyn Archive> = Arc::new(EmbeddedArchive::open(directory.path()).unwrap());
        let backends = Backends {
            log: Arc::new(EmbeddedLog::open(directory.path(), clock::system_clock()).unwrap()),
            archive: Arc::clone(&archive),
            ranking: Arc::new(EmbeddedRanking::new()),
            comments: Arc::clone(&bus) as Arc<dyn CommentBus>,
            assignments: Arc::new(EmbeddedAssignments::new()),
            clock: clock::system_clock(),
        };
        Self {
            backends,
            bus,
            archive,
            numbering: CommentEpoch::parse("none").unwrap(),
            offset: tokio::sync::Mutex::default(),
            _directory: directory,
        }
    }

    /// Opens the archive, as the first consumer does.
    pub async fn open(&mut self) {
        self.numbering = self.archive.open(&CountingRules::default()).await.unwrap().comment_epoch;
    }

    /// Writes `count` comments to the archive in one batch. Returns them without publishing them.
    pub async fn archived(&self, id: &str, count: u64) -> Vec<Comment> {
        let mut offset = self.offset.lock().await;
        let record = |offset| LogRecord {
            partition: 0,
            offset,
            broker_time: 1_700_000_000_000,
            event: Interaction {
                video_id: video(id),
                user_id: UserId::parse("poster").unwrap(),
                kind: Kind::Comment,
                watch_ms: 0,
                timestamp: 1_700_000_000_000,
                event_id: None,
                owner_id: None,
                comment: Some(CommentBody {
                    comment_id: CommentId::parse(&format!("c{offset}")).unwrap(),
                    text: format!("comment {offset}"),
                    reply_to: None,
                }),
                moderation: None,
            },
        };
        let next = *offset + count;
        let spans = vec![OffsetRange { partition: 0, first: *offset, next, last_record: None }];
        let batch = Batch { offset_ranges: spans, records: (*offset..next).map(record).collect() };
        let committed = self.archive.commit_batch(&batch).await.unwrap();
        *offset = next;
        committed.batch_effects.comments.into_iter().map(|numbered| numbered.comment).collect()
    }

    pub async fn publish(&self, comments: &[Comment]) {
        self.bus.publish_comments(&self.numbering, comments).await.unwrap();
    }

    /// Writes `count` comments to the archive and publishes them.
    pub async fn post(&self, id: &str, count: u64) -> Vec<Comment> {
        let comments = self.archived(id, count).await;
        self.publish(&comments).await;
        comments
    }
}

/// A manager that answers as the test says.
#[derive(Default)]
pub struct Manager {
    pub routes: Mutex<HashMap<VideoId, Route>>,
    pub heartbeats: Mutex<VecDeque<ReaderRecord>>,
    pub hand_over: Mutex<Vec<HandOver>>,
    pub elsewhere: Mutex<Vec<(VideoId, u64)>>,
    /// The number of viewers for whom the manager says that other readers have space; `None`: it does not say.
    pub room: Mutex<Option<u64>>,
    /// Whether the manager says that the viewer's address has used its share of new videos, for videos that it does not
    /// know.
    pub is_share_used: AtomicBool,
    /// The addresses of the viewers for whom the reader asked, one for each question.
    pub asked_for: Mutex<Vec<Option<String>>>,
    /// Whether the manager refuses the first heartbeat of each beat as too long.
    pub takes_short_ones_only: AtomicBool,
    /// The number (`beat`) of the last heartbeat that was refused.
    pub refused_beat: AtomicU64,
}

impl Manager {
    pub async fn start() -> (Arc<Self>, String) {
        let manager = Arc::<Self>::default();
        let router = Router::new()
            .route("/route", post(route))
            .route("/heartbeat", post(heartbeat))
            .with_state(Arc::clone(&manager));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (manager, url)
    }

    pub fn assign(&self, id: &str, epoch: u64, readers: &[(&str, &str)]) {
        self.assign_full(id, epoch, readers, &[]);
    }

    /// Assigns a video to readers, some of which (`full`) accept no viewers.
    pub fn assign_full(&self, id: &str, epoch: u64, readers: &[(&str, &str)], full: &[&str]) {
        let reader = |(id, url): &(&str, &str)| RouteReader {
            id: ReaderId::parse(id).unwrap(),
            public_url: (*url).into(),
            internal_url: (*url).into(),
            load: 0,
            takes: !full.contains(id),
            wanted: 0,
            spare: 0,
            zone: None,
            pass_key: None,
        };
        let route =
            Route { videoid: video(id), epoch, readers: readers.iter().map(reader).collect(), stale: false };
        self.routes.lock().unwrap().insert(video(id), route);
    }

    /// Orders from now on that viewers of this video beyond `keep` go to the reader at `to`.
    pub fn hand_over(&self, id: &str, epoch: u64, to: &str, here: bool, keep: u64) {
        let order = HandOver { video: video(id), epoch, to: to.into(), here, keep, pace: 100 };
        self.hand_over.lock().unwrap().push(order);
    }

    pub fn last_heartbeat(&self) -> Option<ReaderRecord> {
        self.heartbeats.lock().unwrap().back().cloned()
    }
}

async fn route(State(manager): State<Arc<Manager>>, Json(body): Json<Value>) -> Result<Json<Route>, Problem> {
    let id = video(body["videoid"].as_str().unwrap());
    let viewer = body.get("viewer_address").map(|address| address.as_str().unwrap().to_owned());
    manager.asked_for.lock().unwrap().push(viewer);
    let known = manager.routes.lock().unwrap().get(&id).cloned();
    known.map(Json).ok_or_else(|| {
        if manager.is_share_used.load(Ordering::Relaxed) {
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "too many new videos")
        } else {
            Problem::part_unavailable("not assigned")
        }
    })
}

async fn heartbeat(
    State(manager): State<Arc<Manager>>,
    Json(record): Json<ReaderRecord>,
) -> Result<Json<HeartbeatAnswer>, Problem> {
    if manager.takes_short_ones_only.load(Ordering::Relaxed)
        && manager.refused_beat.swap(record.beat, Ordering::Relaxed) != record.beat
    {
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too long"));
    }
    let mut hand_over = manager.hand_over.lock().unwrap().clone();
    // A manager never tells a reader to hand viewers over to itself.
    hand_over.retain(|order| {
        let port = |url: &str| url.rsplit(':').next().map(ToOwned::to_owned);
        port(&order.to) != port(&record.public_url)
            && record.videos.iter().any(|held| held.video == order.video)
    });
    let mut heartbeats = manager.heartbeats.lock().unwrap();
    heartbeats.push_back(record);
    if heartbeats.len() > 100 {
        heartbeats.pop_front();
    }
    let viewers_elsewhere = manager.elsewhere.lock().unwrap().clone();
    let room_elsewhere = *manager.room.lock().unwrap();
    Ok(Json(HeartbeatAnswer { hand_over, viewers_elsewhere, room_elsewhere }))
}

/// A reader that runs in the test's process.
pub struct Running {
    pub url: String,
    pub address: String,
    pub shell: ServiceContext,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    pub async fn start(world: &World, config: Config) -> Self {
        Self::with_drain(world, config, Duration::from_secs(4)).await
    }

    pub async fn with_drain(world: &World, config: Config, drain: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shell = ServiceContext::new(drain);
        let Backends { archive, comments, .. } = world.backends.clone();
        let task = tokio::spawn(liverank_reader::run(config, archive, comments, listener, shell.clone()));
        Self { url: format!("http://{address}"), address, shell, task }
    }

    /// Sends the shutdown signal and waits until the reader has ended.
    pub async fn drained(self) {
        self.shell.shutdown.cancel();
        tokio::time::timeout(DEADLINE, self.task).await.expect("drains in time").unwrap().unwrap();
    }

    pub async fn health(&self) -> Value {
        reqwest::get(format!("{}/health", self.url)).await.unwrap().json().await.unwrap()
    }

    /// Returns the value of a metric, summed over all its labels.
    pub fn metric(&self, name: &str) -> u64 {
        let text = self.shell.metrics.encode_text();
        let lines = text.lines().filter(|line| {
            line.strip_prefix("liverank_reader_")
                .and_then(|line| line.strip_prefix(name))
                .is_some_and(|rest| rest.starts_with([' ', '{']))
        });
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
    }
}

pub fn config(id: &str) -> Config {
    Config { reader_id: Some(ReaderId::parse(id).unwrap()), ..Config::default() }
}

pub fn config_with(id: &str, manager: &str) -> Config {
    Config { manager_url: vec![manager.parse().unwrap()], ..config(id) }
}

/// One event of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    pub id: Option<String>,
    pub kind: Option<String>,
    pub retry: Option<u64>,
    pub data: String,
}

impl Event {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap()
    }
}

/// A viewer who reads a stream over a socket of its own.
pub struct Viewer {
    socket: TcpStream,
    pub head: String,
    text: String,
    raw: Vec<u8>,
    /// The texts of the comment lines in the stream (lines that begin with a colon).
    pub remarks: Vec<String>,
    pub ended: bool,
    /// The id of the last event that had one.
    pub last_id: String,
}

impl Viewer {
    pub async fn get(address: &str, video: &str, last_event_id: Option<&str>) -> Self {
        let header = last_event_id.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        Self::ask(
            address,
            &format!("GET /connect?userid=u&videoid={video} HTTP/1.1\r\nHost: t\r\n{header}\r\n"),
        )
        .await
    }

    /// Connects a viewer who asks for `events`, by the address or, as a gateway does, by a header.
    pub async fn asking(address: &str, video: &str, events: &str, by_header: bool) -> Self {
        let (query, header) = if by_header {
            (String::new(), format!("Liverank-Events: {events}\r\n"))
        } else {
            (format!("&events={events}"), String::new())
        };
        let line =
            format!("GET /connect?userid=u&videoid={video}{query} HTTP/1.1\r\nHost: t\r\n{header}\r\n");
        Self::ask(address, &line).await
    }

    /// Connects a viewer as a browser's `EventSource` does.
    pub async fn browser(address: &str, video: &str, last_event_id: Option<&str>) -> Self {
        let header = last_event_id.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        let line = format!("GET /connect?userid=u&videoid={video} HTTP/1.1\r\nHost: t\r\n");
        Self::ask(address, &format!("{line}Accept: text/event-stream\r\nConnection: close\r\n{header}\r\n"))
            .await
    }

    /// Returns the time in ms after which a stream that ends at once says that the client may come back: the refusal
    /// for browsers.
    pub async fn asked_back_after(mut self) -> u64 {
        assert_eq!(self.status(), 200, "{}", self.head);
        assert_eq!(self.header("content-type"), Some("text/event-stream; charset=utf-8"));
        let events = self.rest().await;
        assert_eq!(events.len(), 1, "{events:?}");
        assert_eq!(events[0], Event { retry: events[0].retry, ..Event::default() }, "no id, no data");
        events[0].retry.unwrap()
    }

    pub async fn post(address: &str, video: &str) -> Self {
        let body = json!({ "userid": "u", "videoid": video }).to_string();
        let length = body.len();
        Self::ask(
            address,
            &format!("POST /connect HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"),
        )
        .await
    }

    pub async fn ask(address: &str, request: &str) -> Self {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        Self::from(socket).await
    }

    /// Makes a viewer of a connection on which a stream has been requested.
    pub async fn from(socket: TcpStream) -> Self {
        let mut viewer = Self {
            socket,
            head: String::new(),
            text: String::new(),
            raw: Vec::new(),
            remarks: Vec::new(),
            ended: false,
            last_id: String::new(),
        };
        while !viewer.take_head() {
            assert!(viewer.read_more().await, "the connection ended before an answer");
        }
        viewer
    }

    pub fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    fn take_head(&mut self) -> bool {
        let Some(end) = self.raw.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
        self.head = String::from_utf8(self.raw.drain(..end + 4).collect()).unwrap();
        true
    }

    /// Reads more bytes; returns `false` at the end of the connection.
    async fn read_more(&mut self) -> bool {
        let read = self.socket.read_buf(&mut self.raw);
        tokio::time::timeout(DEADLINE, read).await.expect("something comes in time").unwrap_or(0) > 0
    }

    /// Moves received bytes into the text: a body without a length is everything until the connection ends.
    fn take_body(&mut self) {
        let whole = match str::from_utf8(&self.raw) {
            Ok(_) => self.raw.len(),
            Err(error) => error.valid_up_to(),
        };
        self.text.push_str(str::from_utf8(&self.raw[..whole]).unwrap());
        self.raw.drain(..whole);
    }

    fn take_event(&mut self) -> Option<Event> {
        let (event, _) = self.text.split_once("\n\n")?;
        let mut parsed = Event::default();
        for line in event.lines() {
            match line.split_once(": ").unwrap_or((line, "")) {
                ("id", id) => parsed.id = Some(id.into()),
                ("event", kind) => parsed.kind = Some(kind.into()),
                ("retry", retry) => parsed.retry = Some(retry.parse().unwrap()),
                ("data", data) => parsed.data = data.into(),
                _ => self.remarks.push(line.into()),
            }
        }
        let length = event.len() + 2;
        self.text.drain(..length);
        if let Some(id) = &parsed.id {
            self.last_id.clone_from(id);
        }
        Some(parsed)
    }

    /// Returns the next event; `None` at the end of the stream. Heartbeats and other comment lines are noted and
    /// skipped.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            // A part of the event may have come together with the response head.
            self.take_body();
            while let Some(event) = self.take_event() {
                if event != Event::default() {
                    return Some(event);
                }
            }
            if self.ended {
                return None;
            }
            self.ended = !self.read_more().await;
        }
    }

    /// Returns the next event with data, which a browser would dispatch: an event without data only changes the last
    /// id.
    pub async fn shown(&mut self) -> Event {
        loop {
            let event = self.next().await.expect("an event, not the end");
            if !event.data.is_empty() {
                return event;
            }
        }
    }

    /// Returns the sequence numbers of the next `count` comments; checks each against its id.
    pub async fn comments(&mut self, count: u64) -> Vec<u64> {
        let mut seqs = Vec::new();
        for _ in 0..count {
            let event = self.shown().await;
            assert_eq!(event.kind, None, "a comment, not {event:?}");
            let seq = event.json()["seq"].as_u64().unwrap();
            assert!(event.id.unwrap().ends_with(&format!("-{seq}")));
            seqs.push(seq);
        }
        seqs
    }

    /// Returns the greeting, which must be the first event.
    pub async fn greeted(&mut self) -> Event {
        let greeting = self.next().await.expect("a greeting");
        assert_eq!(greeting.json()["type"], "connected");
        greeting
    }

    /// Returns all further events until the stream ends.
    pub async fn rest(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }
}
