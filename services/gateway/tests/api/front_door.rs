//! A viewer's stream at the front door, while readers move, die and refuse.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, post};
use axum::{Json, Router};
use bytes::Bytes;
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::support::{SOON, System, serve};

/// What a fake reader does with the next viewer.
enum Act {
    /// Sends these bytes, then goes on with what the test says.
    Stream(mpsc::UnboundedReceiver<Result<Bytes, std::io::Error>>),
    /// Says that another reader serves the video.
    Elsewhere,
    /// Is too full.
    Full,
}

/// A request as a reader saw it.
#[derive(Debug)]
struct Seen {
    method: String,
    query: String,
    last_event_id: Option<String>,
    sent_under: Option<String>,
    events: Option<String>,
    body: Value,
}

#[derive(Default)]
struct ReaderState {
    acts: VecDeque<Act>,
    seen: Vec<Seen>,
}

/// A reader whose part the test plays.
#[derive(Clone, Default)]
struct Reader(Arc<Mutex<ReaderState>>);

impl Reader {
    async fn start(&self) -> String {
        serve(Router::new().route("/connect", any(connect)).with_state(self.clone())).await
    }

    /// Takes the next viewer; what is sent here goes to it, and dropping it ends the stream.
    fn stream(&self) -> mpsc::UnboundedSender<Result<Bytes, std::io::Error>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.then(Act::Stream(receiver));
        sender
    }

    fn then(&self, act: Act) {
        self.0.lock().unwrap().acts.push_back(act);
    }

    fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.0.lock().unwrap().seen)
    }
}

async fn connect(State(reader): State<Reader>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 65536).await.unwrap();
    let seen = Seen {
        method: parts.method.to_string(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        last_event_id: parts.headers.get("last-event-id").map(|id| id.to_str().unwrap().to_owned()),
        sent_under: parts.headers.get("liverank-epoch").map(|epoch| epoch.to_str().unwrap().to_owned()),
        events: parts.headers.get("liverank-events").map(|asked| asked.to_str().unwrap().to_owned()),
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    };
    let mut state = reader.0.lock().unwrap();
    state.seen.push(seen);
    match state.acts.pop_front() {
        Some(Act::Stream(receiver)) => {
            let bytes = told(receiver);
            ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(bytes)).into_response()
        }
        Some(Act::Elsewhere) => {
            (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, "http://192.0.2.1/connect")]).into_response()
        }
        Some(Act::Full) | None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

fn told<T>(receiver: mpsc::UnboundedReceiver<T>) -> impl futures::Stream<Item = T> {
    futures::stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) })
}

/// A manager that sends everybody to the reader it is told.
#[derive(Clone, Default)]
struct Manager(Arc<Mutex<Option<String>>>);

impl Manager {
    async fn start(&self) -> String {
        let router = Router::new().route("/route", post(route)).with_state(self.clone());
        serve(router).await
    }

    fn send_to(&self, reader: &str) {
        *self.0.lock().unwrap() = Some(reader.to_owned());
    }
}

async fn route(State(manager): State<Manager>, Json(body): Json<Value>) -> Response {
    match &*manager.0.lock().unwrap() {
        None => liverank_runtime::Problem::unavailable("no reader is open").into_response(),
        Some(reader) => Json(json!({ "videoid": body["videoid"], "epoch": 1,
            "readers": [{ "id": "r", "public_url": "http://192.0.2.1", "internal_url": reader }] }))
        .into_response(),
    }
}

fn connected(at: u32) -> String {
    format!(
        "retry: 1000\nid: n-{at}\ndata: {{\"type\":\"connected\",\"userid\":\"u\",\"videoid\":\"v\"}}\n\n"
    )
}

fn comment(seq: u32) -> String {
    format!("id: n-{seq}\ndata: {{\"id\":\"c{seq}\",\"seq\":{seq}}}\n\n")
}

fn say(to: &mpsc::UnboundedSender<Result<Bytes, std::io::Error>>, text: &str) {
    to.send(Ok(Bytes::copy_from_slice(text.as_bytes()))).expect("somebody listens");
}

/// A viewer's end of a stream.
struct View {
    stream: futures::stream::BoxStream<'static, reqwest::Result<Bytes>>,
    text: String,
}

impl View {
    async fn open(request: reqwest::RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream; charset=utf-8");
        assert_eq!(response.headers()["cache-control"], "no-store");
        Self { stream: response.bytes_stream().boxed(), text: String::new() }
    }

    /// Reads until the text contains this.
    async fn until(&mut self, what: &str) {
        let read = async {
            while !self.text.contains(what) {
                let bytes = self.stream.next().await.expect("the stream goes on").expect("and is whole");
                self.text.push_str(str::from_utf8(&bytes).unwrap());
            }
        };
        tokio::time::timeout(SOON, read).await.unwrap_or_else(|_| panic!("no {what:?} in time"));
    }

    /// Reads to an orderly end.
    async fn end(mut self) -> String {
        let read = async {
            while let Some(bytes) = self.stream.next().await {
                self.text.push_str(str::from_utf8(&bytes.expect("an orderly end")).unwrap());
            }
        };
        tokio::time::timeout(SOON, read).await.expect("an end in time");
        self.text
    }

    /// The ids of the comments so far, in order.
    fn comments(&self) -> Vec<String> {
        let events = self.text.split("\n\n").filter(|event| event.contains("\"seq\""));
        events
            .map(|event| event.lines().find_map(|line| line.strip_prefix("id: ")).unwrap().to_owned())
            .collect()
    }

    fn greetings(&self) -> usize {
        self.text.matches("\"connected\"").count()
    }
}

struct Stage {
    system: System,
    manager: Manager,
    first: Reader,
    second: Reader,
    urls: [String; 2],
}

impl Stage {
    async fn set(flags: &[&str]) -> Self {
        let (manager, first, second) = (Manager::default(), Reader::default(), Reader::default());
        let urls = [first.start().await, second.start().await];
        manager.send_to(&urls[0]);
        let manager_url = manager.start().await;
        let system = System::start(&[&["--manager-url", manager_url.as_str()], flags].concat()).await;
        Self { system, manager, first, second, urls }
    }

    fn get(&self) -> reqwest::RequestBuilder {
        self.system.http.get(self.system.at("/connect?userid=u&videoid=v"))
    }
}

#[tokio::test]
async fn a_viewer_follows_a_move_without_noticing() {
    let stage = Stage::set(&[]).await;
    let (first, second) = (stage.first.stream(), stage.second.stream());
    say(&first, &(connected(0) + &comment(1)));
    let mut view = View::open(stage.get()).await;
    view.until("c1").await;
    // Half an event, and the rest of it with half of the next.
    say(&first, "id: n-2\ndata: {\"id\":\"c2\",");
    say(&first, "\"seq\":2}\n\n: beat\n\nid: n-3\ndata: {\"id\"");
    view.until("beat").await;
    stage.manager.send_to(&stage.urls[1]);
    drop(first);
    say(&second, &(connected(2) + &comment(3)));
    say(&second, &comment(4));
    view.until("c4").await;
    assert_eq!(view.comments(), ["n-1", "n-2", "n-3", "n-4"]);
    assert_eq!(view.greetings(), 1);
    let seen = stage.first.seen().remove(0);
    assert_eq!((seen.query.as_str(), seen.last_event_id), ("userid=u&videoid=v", None));
    assert_eq!(seen.sent_under.as_deref(), Some("1"));
    assert_eq!(stage.second.seen()[0].last_event_id.as_deref(), Some("n-2"));
}

#[tokio::test]
async fn a_reader_that_dies_in_the_middle_of_an_event_costs_nothing() {
    let stage = Stage::set(&[]).await;
    let first = stage.first.stream();
    say(&first, &(connected(7) + "id: n-8\ndata: {"));
    let mut view = View::open(stage.get()).await;
    view.until("connected").await;
    let second = stage.second.stream();
    say(&second, &(connected(7) + &comment(8)));
    stage.manager.send_to(&stage.urls[1]);
    first.send(Err(std::io::Error::other("killed"))).unwrap();
    view.until("c8").await;
    assert_eq!((view.comments(), view.greetings()), (vec!["n-8".to_owned()], 1));
    assert_eq!(stage.second.seen()[0].last_event_id.as_deref(), Some("n-7"));
    assert!(!view.text.contains("data: {id"), "half an event went by");
}

#[tokio::test]
async fn a_redirect_is_followed_by_the_door_and_not_by_the_viewer() {
    let stage = Stage::set(&[]).await;
    stage.first.then(Act::Elsewhere);
    stage.first.then(Act::Full);
    let stream = stage.first.stream();
    say(&stream, &connected(0));
    let mut view = View::open(stage.get()).await;
    view.until("connected").await;
    assert_eq!(stage.first.seen().len(), 3);
}

#[tokio::test]
async fn a_browser_resumes_where_it_says() {
    let stage = Stage::set(&[]).await;
    let url = stage.system.at("/connect?userid=u&videoid=a%20b%26c&last_event_id=n-4");
    let cases = [(None, "n-4"), (Some("n-5"), "n-5"), (Some("nonsense"), "unreadable")];
    for (header, expected) in cases {
        let stream = stage.first.stream();
        say(&stream, &connected(5));
        let request = stage.system.http.get(&url);
        let request = header.into_iter().fold(request, |request, id| request.header("last-event-id", id));
        View::open(request).await.until("connected").await;
        let seen = stage.first.seen().remove(0);
        assert_eq!(seen.query, "userid=u&videoid=a+b%26c");
        assert_eq!(seen.last_event_id.as_deref(), Some(expected));
    }
}

#[tokio::test]
async fn a_client_that_posts_is_taken_along_too() {
    let stage = Stage::set(&[]).await;
    let (first, second) = (stage.first.stream(), stage.second.stream());
    say(&first, &(connected(0) + &comment(1)));
    let request = stage.system.http.post(stage.system.at("/connect"));
    let mut view = View::open(request.json(&json!({ "userid": "u", "videoid": "v" }))).await;
    view.until("c1").await;
    stage.manager.send_to(&stage.urls[1]);
    drop(first);
    say(&second, &(connected(1) + &comment(2)));
    view.until("c2").await;
    assert_eq!((view.comments().len(), view.greetings()), (2, 1));
    let seen = stage.second.seen().remove(0);
    assert_eq!((seen.method.as_str(), seen.last_event_id.as_deref()), ("POST", Some("n-1")));
    assert_eq!(seen.body, json!({ "userid": "u", "videoid": "v" }));
}

#[tokio::test]
async fn without_a_reader_a_viewer_is_asked_to_come_back() {
    let system = System::start(&["--reader-wait-seconds", "1"]).await;
    let text = View::open(system.http.get(system.at("/connect?userid=u&videoid=v"))).await.end().await;
    let last = text.trim_end().rsplit('\n').next().unwrap();
    assert!(last.strip_prefix("retry: ").unwrap().parse::<u64>().unwrap() >= 500, "{text:?}");
}

#[tokio::test]
async fn a_viewer_waits_for_a_reader_to_come() {
    let stage = Stage::set(&[]).await;
    *stage.manager.0.lock().unwrap() = None;
    let stream = stage.first.stream();
    say(&stream, &connected(0));
    let mut view = View::open(stage.get()).await;
    stage.manager.send_to(&stage.urls[0]);
    view.until("connected").await;
}

#[tokio::test]
async fn one_viewer_too_many_is_asked_to_come_back_with_a_stream() {
    let stage = Stage::set(&["--gateway-max-streams", "1"]).await;
    let stream = stage.first.stream();
    say(&stream, &connected(0));
    let mut view = View::open(stage.get()).await;
    view.until("connected").await;
    assert!(View::open(stage.get()).await.end().await.starts_with("retry: "));
}

#[tokio::test]
async fn streams_end_in_good_order_with_the_gateway() {
    let stage = Stage::set(&[]).await;
    let mut views = Vec::new();
    let mut streams = Vec::new();
    for _ in 0..5 {
        let stream = stage.first.stream();
        say(&stream, &connected(0));
        streams.push(stream);
        let mut view = View::open(stage.get()).await;
        view.until("connected").await;
        views.push(view);
    }
    let ended = tokio::spawn(stage.system.end());
    for view in views {
        let text = view.end().await;
        assert!(
            text.ends_with("\n\n") && text.rsplit("\n\n").nth(1).unwrap().starts_with("retry: "),
            "{text:?}"
        );
    }
    ended.await.unwrap();
}

#[tokio::test]
async fn what_a_viewer_asks_for_goes_along_to_every_reader() {
    let stage = Stage::set(&[]).await;
    let (first, second) = (stage.first.stream(), stage.second.stream());
    let count = |viewers: u32| format!("event: viewers\ndata: {{\"viewers\":{viewers}}}\n\n");
    say(&first, &(connected(0) + &count(2) + &comment(1)));
    let asking = stage.system.http.get(stage.system.at("/connect?userid=u&videoid=v&events=viewers"));
    let mut view = View::open(asking).await;
    view.until("c1").await;
    stage.manager.send_to(&stage.urls[1]);
    drop(first);
    say(&second, &(connected(1) + &count(3) + &comment(2)));
    view.until("c2").await;
    assert!(view.text.contains(&count(2)) && view.text.contains(&count(3)));
    assert_eq!((view.comments(), view.greetings()), (vec!["n-1".to_owned(), "n-2".to_owned()], 1));
    for seen in [stage.first.seen().remove(0), stage.second.seen().remove(0)] {
        assert_eq!((seen.query.as_str(), seen.events.as_deref()), ("userid=u&videoid=v", Some("viewers")));
    }
    let wrong = stage.system.get("/connect?userid=u&videoid=v&events=views").await;
    assert_eq!(crate::support::problem(wrong, 400).await["field"], "events");
}
