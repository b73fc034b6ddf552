//! Requests that make metrics change.

use std::ops::Range;
use std::time::Duration;

use liverank_e2e::identity::token;
use liverank_e2e::patient::{TextStream, answer_of};
use liverank_e2e::up::{PublicPort, Up};
use liverank_e2e::{raw, wait};
use liverank_protocol::access::CalledService;
use serde_json::{Value, json};

const WORK_TIMEOUT: Duration = Duration::from_mins(1);

/// Makes all metrics change that can without a failure: posts and repeated posts, refused posts, a load with viewers
/// of both kinds, and a video that is moved while it is watched.
pub async fn cause_all_metrics(up: &Up) {
    run_load(up).await;
    for _ in 0..2 {
        let like = json!({"video_id": "cats", "user_id": "ann", "type": "like", "event_id": "twice"});
        assert_eq!(up.post("/interact", &like).await.0, 202);
        assert_eq!(up.post("/interact", &json!({"video_id": "cats"})).await.0, 400);
        post_comment(up, "twice").await;
    }
    move_under_a_viewer(up).await;
}

async fn post_comment(up: &Up, key: &str) {
    let comment = json!({"userid": "ben", "videoid": "cats", "comment": "Hello!", "idempotency_key": key});
    let (status, _) = up.post("/comment", &comment).await;
    assert!((200..300).contains(&status), "a comment: {status}");
}

/// Runs `liverank load`, which fails if a comment or an event is lost.
async fn run_load(up: &Up) {
    let mut command = tokio::process::Command::new(liverank_e2e::binary());
    command.args(["load", "--target", &up.url(PublicPort::Gateway), "--videos", "5", "--viewers", "20"]);
    command.args(["--ws", "4", "--interactions", "100", "--comments", "20", "--duration", "5s"]);
    let done = command.kill_on_drop(true).output().await.expect("running the load");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// Watches a video through the gateway while a planner moves it to the other reader, and reconnects afterwards.
async fn move_under_a_viewer(up: &Up) {
    let url = format!("{}/connect?userid=ann&videoid=cats", up.url(PublicPort::Gateway));
    let mut stream = TextStream::open(&reqwest::Client::new(), &url).await;
    // The stream must be read, else it would stop.
    let watching = tokio::spawn(async move {
        while !stream.text.contains("after the move") {
            stream.read_on().await;
        }
        stream.text.lines().rev().find_map(|line| line.strip_prefix("id:")).map(|id| id.trim().to_owned())
    });
    let (video, readers) = wait::until("the viewer is seen", WORK_TIMEOUT, || async {
        let load = get_json(up, "load?assignments=true").await;
        let readers = load["readers"].as_array()?.clone();
        let videos = load["assignments"].as_array()?.clone();
        let video = videos.into_iter().find(|video| video["videoid"] == "cats")?;
        (video["viewers"].as_u64()? > 0).then_some((video, readers))
    })
    .await;
    // By then the manager's own planner has run once.
    wait::until("a plan", WORK_TIMEOUT, || async {
        let plan = get_json(up, "plan").await;
        plan["leading"].as_bool().filter(|leading| *leading)
    })
    .await;
    let own = &video["readers"][0]["reader"];
    let other = readers.iter().find(|reader| reader["id"] != *own).expect("another reader")["id"].clone();
    let lease = json!({"uid": "the-test", "transitions": 0});
    let term = post_order(up, "term", &json!({"holder": "the test", "lease": lease})).await.1["term"].clone();
    let to = |expected: &Value| {
        let readers = json!([{"reader": other, "weight": 1}]);
        let video =
            json!({"videoid": "cats", "expected": expected, "why": "to see it measured", "readers": readers});
        json!({"term": term, "lease": lease, "moves": [video]})
    };
    assert_eq!(post_order(up, "moves", &to(&json!(1))).await.0, 409, "an old epoch");
    assert_eq!(post_order(up, "moves", &to(&video["epoch"])).await.0, 202);
    wait::until("the move", WORK_TIMEOUT, || async {
        let moves = get_json(up, "moves").await;
        let state = &moves["moves"][0]["state"];
        // A move whose new reader was not warm in time is given up on a busy machine, and ordered again.
        if *state == "failed" {
            post_order(up, "moves", &to(&video["epoch"])).await;
        }
        (*state == "done").then_some(())
    })
    .await;
    let last = "after the move";
    let comment = json!({"userid": "ben", "videoid": "cats", "comment": last, "idempotency_key": "moved"});
    assert!(up.post("/comment", &comment).await.0 < 300);
    let seen =
        tokio::time::timeout(WORK_TIMEOUT, watching).await.expect("the comment in time").expect("the viewer");
    let id = seen.expect("an id");
    let again = answer_of(reqwest::Client::new().get(&url).header("last-event-id", id)).await;
    assert!(again.status().is_success(), "{}", again.status());
}

async fn get_json(up: &Up, path: &str) -> Value {
    let url = format!("{}/{path}", up.url(PublicPort::Manager));
    let asked =
        reqwest::Client::new().get(url).bearer_auth(token("cli", CalledService::Manager)).send().await;
    asked.expect("an answer").json().await.expect("JSON")
}

async fn post_order(up: &Up, path: &str, body: &Value) -> (u16, Value) {
    let url = format!("{}/{path}", up.url(PublicPort::Manager));
    let operator = token("operator", CalledService::Manager);
    let answer = reqwest::Client::new().post(url).bearer_auth(operator).json(body).send().await;
    let answer = answer.expect("an answer");
    (answer.status().as_u16(), answer.json().await.unwrap_or_default())
}

/// Sends requests with arbitrary ids, paths and methods, as somebody would who wants to create many metric series.
pub async fn send_hostile_requests(up: &Up, numbers: Range<usize>) {
    let client = reqwest::Client::new();
    let front = up.url(PublicPort::Gateway);
    for number in numbers {
        let id = format!("{number}-{}", "%22%0a{x}".repeat(number % 7));
        let like = json!({"video_id": format!("v{number}"), "user_id": format!("u{number}"), "type": "like"});
        assert_eq!(up.post("/interact", &like).await.0, 202);
        for path in [format!("/videos/{id}"), format!("/{id}"), format!("/comments/{id}?limit={number}")] {
            client.get(format!("{front}{path}")).send().await.expect("an answer");
        }
        let method = reqwest::Method::from_bytes(format!("M{number}").as_bytes()).expect("a method");
        client.request(method, format!("{front}/videos")).send().await.expect("an answer");
        let posted = client.post(format!("{front}/register")).json(&json!({"videoid": format!("r{number}")}));
        posted.send().await.expect("an answer");
    }
}

/// Checks that every port refuses outside requests for the canary's video.
pub async fn canary_is_refused(up: &Up) {
    let id = "liverank%3Acanary";
    let watch = format!("/connect?userid=mallory&videoid={id}");
    let body = json!({"userid": "mallory", "videoid": "liverank:canary", "comment": "Buy!"}).to_string();
    let sent =
        |method, path: &str| raw::request(method, path, &["Content-Type: application/json"], body.as_bytes());
    for (door, request) in [
        (PublicPort::Gateway, raw::request("GET", &watch, &[], b"")),
        (PublicPort::Gateway, sent("POST", "/connect")),
        (PublicPort::Gateway, raw::request("GET", &format!("/comments/{id}"), &[], b"")),
        (PublicPort::Gateway, raw::request("GET", &format!("/resolve/{id}"), &[], b"")),
        (PublicPort::Gateway, raw::handshake(&format!("/ws/user/{id}"))),
        (PublicPort::Reader, raw::request("GET", &watch, &[], b"")),
        (PublicPort::Reader, sent("POST", "/connect")),
        (PublicPort::Manager, sent("POST", "/register")),
        (PublicPort::Manager, raw::request("GET", &format!("/resolve/{id}"), &[], b"")),
        (PublicPort::Comment, sent("POST", "/comment")),
        (PublicPort::Comment, raw::request("GET", &format!("/comments/{id}"), &[], b"")),
        (PublicPort::Websocket, raw::handshake(&format!("/ws/user/{id}"))),
    ] {
        let answer = raw::connect_and_exchange(up.address(door), &request).await.expect("an answer");
        let line = String::from_utf8_lossy(&request).lines().next().unwrap_or_default().to_owned();
        assert_eq!(answer.status, 400, "{door:?}: {line}: {}", answer.head);
    }
}
