//! Tests a board with windows as clients see it: a day is running, then ended, then final, by a clock that the test
//! sets.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use clap::{Args, Command};
use futures::StreamExt;
use liverank_adapters::Backends;
use liverank_adapters::archive::embedded::EmbeddedArchive;
use liverank_adapters::assignment_store::embedded::EmbeddedAssignments;
use liverank_adapters::comment_bus::embedded::EmbeddedBus;
use liverank_adapters::event_log::embedded::EmbeddedLog;
use liverank_adapters::ranking_store::embedded::EmbeddedRanking;
use liverank_runtime::{ServiceContext, server};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

const CONDITION_TIMEOUT: Duration = Duration::from_secs(30);
/// An address at which nothing listens.
const NOBODY: &str = "http://127.0.0.1:9";
/// Midnight in Berlin, in milliseconds since 1970, at the end of the day on which clocks are set back, which has 25
/// hours.
const MIDNIGHT: i64 = 1_792_969_200_000;
const HOUR: i64 = 3_600_000;
const BOARDS: &str = r#"[{"name": "today", "window": "day", "timeZone": "Europe/Berlin", "keep": 1,
    "weights": {"like": 1}, "minimum": 1}]"#;

fn settings<C: Args>(flags: &[&str]) -> C {
    let command = C::augment_args(Command::new("test").no_binary_name(true));
    C::from_arg_matches(&command.try_get_matches_from(flags).unwrap()).unwrap()
}

/// A consumer, a gateway and a WebSocket service on embedded stores, which all use one clock.
struct System {
    clock: Arc<AtomicI64>,
    gateway: String,
    websocket: String,
    backends: Backends,
    consumer: tokio::task::JoinHandle<anyhow::Result<()>>,
    _directory: tempfile::TempDir,
}

impl System {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(AtomicI64::new(MIDNIGHT - HOUR));
        let shared = Arc::clone(&clock);
        let time: liverank_adapters::Clock = Arc::new(move || shared.load(SeqCst));
        let backends = Backends {
            log: Arc::new(EmbeddedLog::open(directory.path(), Arc::clone(&time)).unwrap()),
            archive: Arc::new(EmbeddedArchive::open(directory.path()).unwrap()),
            ranking: Arc::new(EmbeddedRanking::new()),
            comments: Arc::new(EmbeddedBus::new()),
            assignments: Arc::new(EmbeddedAssignments::new()),
            clock: time,
        };
        let bind =
            async || server::bind_listener(([127, 0, 0, 1], 0).into(), "the test", "--listen").await.unwrap();
        let (front, socket) = (bind().await, bind().await);
        let (gateway, websocket) = (front.local_addr().unwrap(), socket.local_addr().unwrap());
        let consumer = consume(&backends);
        let flags =
            ["--boards", BOARDS, "--moderation-open", "--canary-seconds", "0", "--manager-url", NOBODY];
        tokio::spawn(liverank_gateway::run(settings(&flags), backends.clone(), front, context()));
        let flags = settings(&["--boards", BOARDS]);
        let (ranking, clock_of_windows) = (Arc::clone(&backends.ranking), Arc::clone(&backends.clock));
        tokio::spawn(liverank_websocket::run(flags, ranking, clock_of_windows, socket, context()));
        let (gateway, websocket) = (format!("http://{gateway}"), format!("ws://{websocket}"));
        Self { clock, gateway, websocket, backends, consumer, _directory: directory }
    }

    /// Kills the consumer.
    async fn kill_consumer(&mut self) {
        self.consumer.abort();
        let ended = (&mut self.consumer).await;
        assert!(ended.is_err_and(|error| error.is_cancelled()), "it ended by itself");
    }

    /// Posts an interaction of the user `who` with the timestamp `at`.
    async fn post(&self, who: &str, what: &str, video: &str, at: i64) {
        let event = json!({"video_id": video, "user_id": who, "type": what, "timestamp": at as f64 / 1000.0});
        let url = format!("{}/interact", self.gateway);
        let posted = reqwest::Client::new().post(url).body(event.to_string()).send().await.unwrap();
        assert_eq!(posted.status(), 202, "{event}: {}", posted.text().await.unwrap());
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let answer = reqwest::get(format!("{}{path}", self.gateway)).await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// Waits until a list has exactly these lines, and returns what the answer says of its window.
    async fn shows(&self, query: &str, expected: &[(&str, i64)]) -> Value {
        let path = format!("/videos?board=today{query}");
        self.until(&path, |list| lines(&list["videos"]) == to_lines(expected)).await["window"].clone()
    }

    /// Returns the windows of the board, as `GET /boards` lists them.
    async fn listed(&self) -> Value {
        let (status, boards) = self.get("/boards").await;
        assert_eq!(status, 200, "{boards}");
        let boards = boards["boards"].as_array().unwrap();
        boards.iter().find(|board| board["name"] == "today").unwrap()["windows"].clone()
    }

    async fn until(&self, path: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + CONDITION_TIMEOUT;
        loop {
            let (_, found) = self.get(path).await;
            if is_so(&found) {
                return found;
            }
            assert!(Instant::now() < end, "{path}: {found}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn context() -> ServiceContext {
    ServiceContext::new(Duration::from_millis(200))
}

fn consume(backends: &Backends) -> tokio::task::JoinHandle<anyhow::Result<()>> {
    let consumer = settings(&["--boards", BOARDS, "--unique", "like"]);
    tokio::spawn(liverank_consumer::run(consumer, backends.clone(), context()))
}

fn to_lines(expected: &[(&str, i64)]) -> Vec<(String, i64)> {
    expected.iter().map(|(id, score)| ((*id).to_owned(), *score)).collect()
}

fn lines(list: &Value) -> Vec<(String, i64)> {
    let line = |line: &Value| {
        let score = line["score"].as_f64().unwrap_or(f64::NAN);
        (line["video_id"].as_str().unwrap_or_default().to_owned(), score as i64)
    };
    list.as_array().into_iter().flatten().map(line).collect()
}

/// Connects a WebSocket, trying again until the service has read the boards.
async fn connect(
    url: &str,
) -> tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>> {
    let end = Instant::now() + CONDITION_TIMEOUT;
    loop {
        match tokio_tungstenite::connect_async(url).await {
            Ok((socket, _)) => return socket,
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn socket_shows(socket: &mut (impl StreamExt<Item = Message> + Unpin), expected: &[(&str, i64)]) {
    let shown = async {
        while let Some(message) = socket.next().await {
            let Message::Text(text) = message else { continue };
            if lines(&serde_json::from_str(&text).unwrap()) == to_lines(expected) {
                return;
            }
        }
        panic!("the socket ended");
    };
    tokio::time::timeout(CONDITION_TIMEOUT, shown).await.unwrap_or_else(|_| panic!("never {expected:?}"));
}

#[tokio::test]
async fn a_day_ends_exactly_and_its_result_is_kept() {
    let mut system = System::start().await;
    let url = format!("{}/ws/videos?board=today", system.websocket);
    let socket = connect(&url).await;
    let mut socket = socket.filter_map(|message| std::future::ready(message.ok())).boxed();
    let (evening, morning) = (MIDNIGHT - HOUR, MIDNIGHT + 30_000);

    for (who, video) in [("ana", "a"), ("ben", "a"), ("ana", "b"), ("ana", "a")] {
        system.post(who, "like", video, evening).await;
    }
    system.post("ana", "view", "viewed", evening).await;
    let window = system.shows("", &[("a", 2), ("b", 1)]).await;
    let day = json!({"name": "2026-10-25", "start": MIDNIGHT - 25 * HOUR, "end": MIDNIGHT});
    let is = |window: &Value, state: &str| {
        let mut expected = day.clone();
        (expected["state"], expected["whole"]) = (json!(state), json!(true));
        *window == expected
    };
    assert!(is(&window, "running"), "{window}");
    let listed = system.listed().await;
    assert_eq!((&listed["unit"], &listed["time_zone"]), (&json!("day"), &json!("Europe/Berlin")));
    assert!(is(&listed["running"], "running"), "{listed}");
    // Nothing happened on the day before, and the system knows that its window is complete.
    let before = &listed["ended"];
    assert_eq!((before.as_array().map(Vec::len), &before[0]["whole"]), (Some(1), &json!(true)), "{before}");
    socket_shows(&mut socket, &[("a", 2), ("b", 1)]).await;
    system.post("ana", "unlike", "b", evening).await;
    system.shows("", &[("a", 2)]).await;
    system.until("/videos/a", |video| video["ranks"]["today"] == json!({"rank": 1, "total": 1})).await;

    // Half a minute into the next day, an event of the day before arrives late, and a like is taken back that counted
    // on that day. No consumer runs then; the next one continues.
    system.kill_consumer().await;
    system.clock.store(morning, SeqCst);
    system.post("cem", "like", "b", MIDNIGHT - 1).await;
    system.post("ben", "unlike", "a", morning).await;
    system.post("ana", "like", "c", morning).await;
    system.consumer = consume(&system.backends);
    let window = system.shows("&window=2026-10-25", &[("a", 2), ("b", 1)]).await;
    assert!(is(&window, "ended"), "{window}");
    let window = system.shows("", &[("c", 1)]).await;
    assert_eq!((&window["name"], &window["state"]), (&json!("2026-10-26"), &json!("running")));
    socket_shows(&mut socket, &[("c", 1)]).await;
    system.until("/videos/a", |video| video["likes"] == 1).await;

    // Minutes later the day is final: an event that arrives now counts for the window of a minute ago.
    system.clock.store(MIDNIGHT + HOUR, SeqCst);
    let path = "/videos?board=today&window=2026-10-25";
    system.until(path, |list| is(&list["window"], "final")).await;
    let listed = system.listed().await;
    assert!(is(&listed["ended"][0], "final"), "{listed}");
    assert_eq!((&listed["running"]["name"], &listed["ended"][1]), (&json!("2026-10-26"), &Value::Null));
    system.post("dan", "like", "a", MIDNIGHT - 1).await;
    system.shows("", &[("c", 1), ("a", 1)]).await;
    system.shows("&window=2026-10-25", &[("a", 2), ("b", 1)]).await;

    // A video that was taken off the boards is on none of them.
    let url = format!("{}/videos/b", system.gateway);
    let deleted = reqwest::Client::new().delete(url).send().await.unwrap();
    assert_eq!(deleted.status(), 202, "{}", deleted.text().await.unwrap());
    system.shows("&window=2026-10-25", &[("a", 2)]).await;
    windows_that_are_not_there_are_refused(&system).await;
}

async fn windows_that_are_not_there_are_refused(system: &System) {
    for (query, status) in [
        ("board=today&window=2026-10-24", 404),
        ("board=today&window=2026-10-27", 404),
        ("board=today&window=25.10.", 400),
        ("board=global&window=2026-10-25", 400),
    ] {
        let (found, problem) = system.get(&format!("/videos?{query}")).await;
        assert_eq!((found, &problem["field"]), (status, &json!("window")), "{query}: {problem}");
    }
}
