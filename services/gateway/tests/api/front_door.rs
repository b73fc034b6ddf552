//! A viewer's stream at the front door, while readers move, die and refuse viewers.

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

use crate::support::{PROMPT_TIMEOUT, System, serve};

/// The fake reader's answer to the next viewer.
enum ReaderAct {
    /// Accepts the viewer, with a stream of what the test sends.
    Stream(mpsc::UnboundedReceiver<Result<Bytes, std::io::Error>>),
    /// Redirects the viewer, because another reader serves the video.
    Elsewhere,
    /// Refuses the viewer, because the reader is full.
    Full,
}

/// A request as a fake reader received it.
#[derive(Debug)]
struct SeenRequest {
    method: String,
    query: String,
    last_event_id: Option<String>,
    sent_under: Option<String>,
    events: Option<String>,
    zone: Option<String>,
    body: Value,
}

#[derive(Default)]
struct FakeReaderState {
    acts: VecDeque<ReaderAct>,
    seen_requests: Vec<SeenRequest>,
}

/// A fake reader, whose answers the test sets.
#[derive(Clone, Default)]
struct FakeReader(Arc<Mutex<FakeReaderState>>);

impl FakeReader {
    async fn start(&self) -> String {
        serve(Router::new().route("/connect", any(answer_connect)).with_state(self.clone())).await
    }

    /// Makes the reader accept the next viewer. What is sent on the returned channel goes to the viewer; dropping the
    /// channel ends the stream.
    fn next_stream(&self) -> mpsc::UnboundedSender<Result<Bytes, std::io::Error>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.act_next(ReaderAct::Stream(receiver));
        sender
    }

    fn act_next(&self, act: ReaderAct) {
        self.0.lock().unwrap().acts.push_back(act);
    }

    fn seen(&self) -> Vec<SeenRequest> {
        std::mem::take(&mut self.0.lock().unwrap().seen_requests)
    }
}

async fn answer_connect(State(reader): State<FakeReader>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 65536).await.unwrap();
    let seen = SeenRequest {
        method: parts.method.to_string(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        last_event_id: parts.headers.get("last-event-id").map(|id| id.to_str().unwrap().to_owned()),
        sent_under: parts.headers.get("liverank-epoch").map(|epoch| epoch.to_str().unwrap().to_owned()),
        events: parts.headers.get("liverank-events").map(|asked| asked.to_str().unwrap().to_owned()),
        zone: parts.headers.get("liverank-zone").map(|zone| zone.to_str().unwrap().to_owned()),
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    };
    let mut state = reader.0.lock().unwrap();
    state.seen_requests.push(seen);
    match state.acts.pop_front() {
        Some(ReaderAct::Stream(receiver)) => {
            let bytes = receiver_stream(receiver);
            ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(bytes)).into_response()
        }
        Some(ReaderAct::Elsewhere) => {
            (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, "http://192.0.2.1/connect")]).into_response()
        }
        Some(ReaderAct::Full) | None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

fn receiver_stream<T>(receiver: mpsc::UnboundedReceiver<T>) -> impl futures::Stream<Item = T> {
    futures::stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) })
}

/// A fake manager that sends all viewers to one reader, which the test sets.
#[derive(Clone, Default)]
struct FakeManager(Arc<Mutex<Option<String>>>);

/// A fake manager that names all readers, in an order that differs for each answer, as real managers do. The first
/// answer names only the first reader, because the others come later. Each later answer begins one reader further back,
/// so that a viewer who takes the next place at each attempt would be sent to the first reader again and again.
struct RotatingManager {
    readers: Vec<String>,
    request_count: usize,
}

async fn answer_rotating_route(
    State(manager): State<Arc<Mutex<RotatingManager>>>,
    Json(body): Json<Value>,
) -> Response {
    let mut manager = manager.lock().unwrap();
    let (count, asked) = (manager.readers.len(), manager.request_count);
    manager.request_count += 1;
    let named = if asked == 0 { 1 } else { count };
    let reader = |place: usize| {
        let at = (place + count - asked % count) % count;
        json!({ "id": format!("r{at}"), "public_url": "http://192.0.2.1", "internal_url": manager.readers[at] })
    };
    let readers: Vec<Value> = (0..named).map(reader).collect();
    Json(json!({ "videoid": body["videoid"], "epoch": 1, "readers": readers })).into_response()
}

impl FakeManager {
    async fn start(&self) -> String {
        let router = Router::new().route("/route", post(answer_route)).with_state(self.clone());
        serve(router).await
    }

    fn send_viewers_to(&self, reader: &str) {
        *self.0.lock().unwrap() = Some(reader.to_owned());
    }
}

async fn answer_route(State(manager): State<FakeManager>, Json(body): Json<Value>) -> Response {
    match &*manager.0.lock().unwrap() {
        None => liverank_runtime::Problem::part_unavailable("no reader is open").into_response(),
        Some(reader) => Json(json!({ "videoid": body["videoid"], "epoch": 1,
            "readers": [{ "id": "r", "public_url": "http://192.0.2.1", "internal_url": reader }] }))
        .into_response(),
    }
}

fn connected_event(at: u32) -> String {
    format!(
        "retry: 1000\nid: n-{at}\ndata: {{\"type\":\"connected\",\"userid\":\"u\",\"videoid\":\"v\"}}\n\n"
    )
}

fn comment_event(seq: u32) -> String {
    format!("id: n-{seq}\ndata: {{\"id\":\"c{seq}\",\"seq\":{seq}}}\n\n")
}

fn send_text(to: &mpsc::UnboundedSender<Result<Bytes, std::io::Error>>, text: &str) {
    to.send(Ok(Bytes::copy_from_slice(text.as_bytes()))).expect("somebody listens");
}

/// A viewer's end of a stream.
struct StreamView {
    stream: futures::stream::BoxStream<'static, reqwest::Result<Bytes>>,
    text: String,
}

impl StreamView {
    async fn open(request: reqwest::RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream; charset=utf-8");
        assert_eq!(response.headers()["cache-control"], "no-store");
        Self { stream: response.bytes_stream().boxed(), text: String::new() }
    }

    /// Reads the stream until its text contains `what`.
    async fn read_until(&mut self, what: &str) {
        let read = async {
            while !self.text.contains(what) {
                let bytes = self.stream.next().await.expect("the stream goes on").expect("and is whole");
                self.text.push_str(str::from_utf8(&bytes).unwrap());
            }
        };
        tokio::time::timeout(PROMPT_TIMEOUT, read).await.unwrap_or_else(|_| panic!("no {what:?} in time"));
    }

    /// Reads the stream to an orderly end, and returns its text.
    async fn read_to_end(mut self) -> String {
        let read = async {
            while let Some(bytes) = self.stream.next().await {
                self.text.push_str(str::from_utf8(&bytes.expect("an orderly end")).unwrap());
            }
        };
        tokio::time::timeout(PROMPT_TIMEOUT, read).await.expect("an end in time");
        self.text
    }

    /// Returns the ids of the comments so far, in order.
    fn comment_ids(&self) -> Vec<String> {
        let events = self.text.split("\n\n").filter(|event| event.contains("\"seq\""));
        events
            .map(|event| event.lines().find_map(|line| line.strip_prefix("id: ")).unwrap().to_owned())
            .collect()
    }

    fn greeting_count(&self) -> usize {
        self.text.matches("\"connected\"").count()
    }
}

struct FrontDoorStage {
    system: System,
    manager: FakeManager,
    first: FakeReader,
    second: FakeReader,
    urls: [String; 2],
}

impl FrontDoorStage {
    async fn set_stage(flags: &[&str]) -> Self {
        let (manager, first, second) = (FakeManager::default(), FakeReader::default(), FakeReader::default());
        let urls = [first.start().await, second.start().await];
        manager.send_viewers_to(&urls[0]);
        let manager_url = manager.start().await;
        let system = System::start(&[&["--manager-url", manager_url.as_str()], flags].concat()).await;
        Self { system, manager, first, second, urls }
    }

    fn get_stream(&self) -> reqwest::RequestBuilder {
        self.system.http.get(self.system.url("/connect?userid=u&videoid=v"))
    }
}

#[tokio::test]
async fn a_viewer_follows_a_move_without_noticing() {
    let stage = FrontDoorStage::set_stage(&[]).await;
    let (first, second) = (stage.first.next_stream(), stage.second.next_stream());
    send_text(&first, &(connected_event(0) + &comment_event(1)));
    let mut view = StreamView::open(stage.get_stream()).await;
    view.read_until("c1").await;
    // Sends half an event, then the rest of it with half of the next event.
    send_text(&first, "id: n-2\ndata: {\"id\":\"c2\",");
    send_text(&first, "\"seq\":2}\n\n: beat\n\nid: n-3\ndata: {\"id\"");
    view.read_until("beat").await;
    stage.manager.send_viewers_to(&stage.urls[1]);
    drop(first);
    send_text(&second, &(connected_event(2) + &comment_event(3)));
    send_text(&second, &comment_event(4));
    view.read_until("c4").await;
    assert_eq!(view.comment_ids(), ["n-1", "n-2", "n-3", "n-4"]);
    assert_eq!(view.greeting_count(), 1);
    let seen = stage.first.seen().remove(0);
    assert_eq!((seen.query.as_str(), seen.last_event_id), ("userid=u&videoid=v", None));
    assert_eq!(seen.sent_under.as_deref(), Some("1"));
    assert_eq!(stage.second.seen()[0].last_event_id.as_deref(), Some("n-2"));
}

#[tokio::test]
async fn a_reader_is_told_the_gateway_s_own_zone_and_never_the_viewer_s() {
    for (flags, told) in [(&["--zone", "eu-1a"][..], Some("eu-1a")), (&[][..], None)] {
        let stage = FrontDoorStage::set_stage(flags).await;
        let stream = stage.first.next_stream();
        send_text(&stream, &connected_event(0));
        let request = stage.get_stream().header("liverank-zone", "eu-1z");
        StreamView::open(request).await.read_until("connected").await;
        assert_eq!(stage.first.seen().remove(0).zone.as_deref(), told);
    }
}

#[tokio::test]
async fn a_reader_that_dies_in_the_middle_of_an_event_costs_nothing() {
    let stage = FrontDoorStage::set_stage(&[]).await;
    let first = stage.first.next_stream();
    send_text(&first, &(connected_event(7) + "id: n-8\ndata: {"));
    let mut view = StreamView::open(stage.get_stream()).await;
    view.read_until("connected").await;
    let second = stage.second.next_stream();
    send_text(&second, &(connected_event(7) + &comment_event(8)));
    stage.manager.send_viewers_to(&stage.urls[1]);
    first.send(Err(std::io::Error::other("killed"))).unwrap();
    view.read_until("c8").await;
    assert_eq!((view.comment_ids(), view.greeting_count()), (vec!["n-8".to_owned()], 1));
    assert_eq!(stage.second.seen()[0].last_event_id.as_deref(), Some("n-7"));
    assert!(!view.text.contains("data: {id"), "half an event went by");
}

#[tokio::test]
async fn a_redirect_is_followed_by_the_door_and_not_by_the_viewer() {
    let stage = FrontDoorStage::set_stage(&[]).await;
    stage.first.act_next(ReaderAct::Elsewhere);
    stage.first.act_next(ReaderAct::Full);
    let stream = stage.first.next_stream();
    send_text(&stream, &connected_event(0));
    let mut view = StreamView::open(stage.get_stream()).await;
    view.read_until("connected").await;
    assert_eq!(stage.first.seen().len(), 3);
}

#[tokio::test]
async fn a_browser_resumes_at_its_last_event_id() {
    let stage = FrontDoorStage::set_stage(&[]).await;
    let url = stage.system.url("/connect?userid=u&videoid=a%20b%26c&last_event_id=n-4");
    let cases = [(None, "n-4"), (Some("n-5"), "n-5"), (Some("nonsense"), "unreadable")];
    for (header, expected) in cases {
        let stream = stage.first.next_stream();
        send_text(&stream, &connected_event(5));
        let request = stage.system.http.get(&url);
        let request = header.into_iter().fold(request, |request, id| request.header("last-event-id", id));
        StreamView::open(request).await.read_until("connected").await;
        let seen = stage.first.seen().remove(0);
        assert_eq!(seen.query, "userid=u&videoid=a+b%26c");
        assert_eq!(seen.last_event_id.as_deref(), Some(expected));
    }
}

#[tokio::test]
async fn a_client_that_connects_by_post_follows_a_move() {
    let stage = FrontDoorStage::set_stage(&[]).await;
    let (first, second) = (stage.first.next_stream(), stage.second.next_stream());
    send_text(&first, &(connected_event(0) + &comment_event(1)));
    let request = stage.system.http.post(stage.system.url("/connect"));
    let mut view = StreamView::open(request.json(&json!({ "userid": "u", "videoid": "v" }))).await;
    view.read_until("c1").await;
    stage.manager.send_viewers_to(&stage.urls[1]);
    drop(first);
    send_text(&second, &(connected_event(1) + &comment_event(2)));
    view.read_until("c2").await;
    assert_eq!((view.comment_ids().len(), view.greeting_count()), (2, 1));
    let seen = stage.second.seen().remove(0);
    assert_eq!((seen.method.as_str(), seen.last_event_id.as_deref()), ("POST", Some("n-1")));
    assert_eq!(seen.body, json!({ "userid": "u", "videoid": "v" }));
}

#[tokio::test]
async fn without_a_reader_a_viewer_is_asked_to_come_back() {
    let system = System::start(&["--reader-wait-seconds", "1"]).await;
    let text = StreamView::open(system.http.get(system.url("/connect?userid=u&videoid=v")))
        .await
        .read_to_end()
        .await;
    let last = text.trim_end().rsplit('\n').next().unwrap();
    assert!(last.strip_prefix("retry: ").unwrap().parse::<u64>().unwrap() >= 500, "{text:?}");
}

#[tokio::test]
async fn a_viewer_waits_for_a_reader_to_come() {
    let stage = FrontDoorStage::set_stage(&[]).await;
    *stage.manager.0.lock().unwrap() = None;
    let stream = stage.first.next_stream();
    send_text(&stream, &connected_event(0));
    let mut view = StreamView::open(stage.get_stream()).await;
    stage.manager.send_viewers_to(&stage.urls[0]);
    view.read_until("connected").await;
}

#[tokio::test]
async fn one_viewer_too_many_is_asked_to_come_back_with_a_stream() {
    let stage = FrontDoorStage::set_stage(&["--gateway-max-streams", "1"]).await;
    let stream = stage.first.next_stream();
    send_text(&stream, &connected_event(0));
    let mut view = StreamView::open(stage.get_stream()).await;
    view.read_until("connected").await;
    assert!(StreamView::open(stage.get_stream()).await.read_to_end().await.starts_with("retry: "));
}

#[tokio::test]
async fn streams_end_in_good_order_with_the_gateway() {
    let stage = FrontDoorStage::set_stage(&[]).await;
    let mut views = Vec::new();
    let mut streams = Vec::new();
    for _ in 0..5 {
        let stream = stage.first.next_stream();
        send_text(&stream, &connected_event(0));
        streams.push(stream);
        let mut view = StreamView::open(stage.get_stream()).await;
        view.read_until("connected").await;
        views.push(view);
    }
    let ended = tokio::spawn(stage.system.end());
    for view in views {
        let text = view.read_to_end().await;
        assert!(
            text.ends_with("\n\n") && text.rsplit("\n\n").nth(1).unwrap().starts_with("retry: "),
            "{text:?}"
        );
    }
    ended.await.unwrap();
}

#[tokio::test]
async fn asked_stream_events_are_passed_to_every_reader() {
    let stage = FrontDoorStage::set_stage(&[]).await;
    let (first, second) = (stage.first.next_stream(), stage.second.next_stream());
    let count = |viewers: u32| format!("event: viewers\ndata: {{\"viewers\":{viewers}}}\n\n");
    send_text(&first, &(connected_event(0) + &count(2) + &comment_event(1)));
    let asking = stage.system.http.get(stage.system.url("/connect?userid=u&videoid=v&events=viewers"));
    let mut view = StreamView::open(asking).await;
    view.read_until("c1").await;
    stage.manager.send_viewers_to(&stage.urls[1]);
    drop(first);
    send_text(&second, &(connected_event(1) + &count(3) + &comment_event(2)));
    view.read_until("c2").await;
    assert!(view.text.contains(&count(2)) && view.text.contains(&count(3)));
    assert_eq!((view.comment_ids(), view.greeting_count()), (vec!["n-1".to_owned(), "n-2".to_owned()], 1));
    for seen in [stage.first.seen().remove(0), stage.second.seen().remove(0)] {
        assert_eq!((seen.query.as_str(), seen.events.as_deref()), ("userid=u&videoid=v", Some("viewers")));
    }
    let wrong = stage.system.get("/connect?userid=u&videoid=v&events=views").await;
    assert_eq!(crate::support::problem(wrong, 400).await["field"], "events");
}

#[tokio::test]
async fn a_viewer_whom_a_full_reader_refuses_is_taken_to_another_reader_next() {
    let (full, open) = (FakeReader::default(), FakeReader::default());
    let readers = vec![full.start().await, open.start().await];
    let manager = Arc::new(Mutex::new(RotatingManager { readers, request_count: 0 }));
    let router = Router::new().route("/route", post(answer_rotating_route)).with_state(Arc::clone(&manager));
    let system = System::start(&["--manager-url", serve(router).await.as_str()]).await;
    let stream = open.next_stream();
    send_text(&stream, &connected_event(0));
    let mut view = StreamView::open(system.http.get(system.url("/connect?userid=u&videoid=v"))).await;
    view.read_until("connected").await;
    assert_eq!((full.seen().len(), open.seen().len(), manager.lock().unwrap().request_count), (1, 1, 2));
}
