//! Streams end together with the token by which they were opened; the roles in a token limit what it may do.

use std::path::Path;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::routing::get;
use futures::StreamExt;
use serde_json::{Value, json};
use tokio_tungstenite::MaybeTlsStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::auth::{INVALID, Key, OTHER, VIEW, check_refused, claims, now, post_with, system};
use crate::support::{PROMPT_TIMEOUT, System, eventually, serve};

/// Time, in seconds, for which a token is still accepted after it has expired: the allowed difference between two
/// clocks.
const LEEWAY_SECONDS: i64 = 30;

/// Time within which a revocation ends the streams of a token.
const REVOKED_WITHIN: Duration = Duration::from_secs(2);
/// Number of tries in which streams must end within [`REVOKED_WITHIN`] once: on a busy machine some end later, and a
/// gateway that looks too seldom is late in each.
const REVOKED_TRIES: usize = 4;

fn token_with(key: &Key, more: &Value) -> String {
    let mut claims = claims("ana");
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    key.sign(&key.header(), &claims)
}

/// Starts a service whose `WebSockets` send nothing and stay open. Returns its URL.
async fn silent_websocket_service() -> String {
    let stay = async |upgrade: WebSocketUpgrade| {
        upgrade.on_upgrade(async |mut socket| while socket.recv().await.is_some() {})
    };
    serve(Router::new().route("/ws/videos", get(stay))).await
}

type ClientSocket = tokio_tungstenite::WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>;

async fn open_lists(system: &System, token: &str) -> ClientSocket {
    let url = system.url(&format!("/ws/videos?access_token={token}")).replacen("http", "ws", 1);
    tokio_tungstenite::connect_async(url).await.unwrap().0
}

async fn open_comments(system: &System, token: &str) -> reqwest::Response {
    let stream = system.get(&format!("/connect?userid=ana&videoid=cat&access_token={token}")).await;
    assert_eq!(stream.status(), 200);
    stream
}

/// Checks that both streams end and tell the reason: by the last event, and by the close frame.
async fn expect_ended(stream: reqwest::Response, mut socket: ClientSocket, reason: &str) {
    let text = tokio::time::timeout(PROMPT_TIMEOUT, stream.text()).await.expect("the stream ends").unwrap();
    let event = format!(
        "event: unauthorized\ndata: {{\"type\":\"unauthorized\",\"reason\":\"{reason}\"}}\n\nretry: "
    );
    assert!(text.contains(&event), "{text}");
    let closed = tokio::time::timeout(PROMPT_TIMEOUT, socket.next()).await.expect("the WebSocket ends");
    let Some(Ok(Message::Close(Some(frame)))) = closed else { panic!("{closed:?}") };
    assert_eq!((frame.code, frame.reason.as_str()), (CloseCode::Library(4401), reason));
}

#[tokio::test]
async fn streams_end_with_their_token_and_say_so() {
    let (key, behind) = (Key::ed("d"), silent_websocket_service().await);
    let (system, _directory) = system(&[&key], &["--websocket-url", &behind]).await;
    // Long enough for both streams to begin with it on a busy machine.
    let short = token_with(&key, &json!({ "exp": now() - LEEWAY_SECONDS + 6 }));
    let (stream, socket) = (open_comments(&system, &short).await, open_lists(&system, &short).await);
    let longer = token_with(&key, &json!({}));
    let (mut other, mut other_lists) =
        (open_comments(&system, &longer).await, open_lists(&system, &longer).await);
    expect_ended(stream, socket, "expired").await;
    let waits = tokio::time::timeout(Duration::from_millis(300), other_lists.next()).await;
    assert!(waits.is_err(), "a token that is good keeps its streams: {waits:?}");
    while let Ok(part) = tokio::time::timeout(Duration::from_millis(300), other.chunk()).await {
        assert!(part.unwrap().is_some(), "a token that is good keeps its streams");
    }
    let again = system.get(&format!("/connect?userid=ana&videoid=cat&access_token={short}")).await;
    check_refused(again, 401, INVALID).await;
}

/// Replaces the file with a new list by renaming, as editors and the kubelet do.
fn write_revoked_list(file: &Path, list: &Value) {
    let next = file.with_extension("next");
    std::fs::write(&next, json!({ "revoked": list }).to_string()).unwrap();
    std::fs::rename(next, file).unwrap();
}

#[tokio::test]
async fn a_revoked_token_lets_nobody_in_and_its_streams_end_within_two_seconds() {
    let (key, behind, directory) =
        (Key::ed("d"), silent_websocket_service().await, tempfile::tempdir().unwrap());
    let file = directory.path().join("revoked.json");
    write_revoked_list(&file, &json!([]));
    let flags = ["--websocket-url", &behind, "--auth-revoked-file", file.to_str().unwrap()];
    let (system, _keys) = system(&[&key], &flags).await;
    let mut took = Vec::new();
    let named = loop {
        let jti = format!("t-1-{}", took.len());
        let named = token_with(&key, &json!({ "jti": jti, "iat": now() - 50 }));
        let (stream, socket) = (open_comments(&system, &named).await, open_lists(&system, &named).await);
        let revoked = Instant::now();
        write_revoked_list(&file, &json!([{ "jti": jti }]));
        expect_ended(stream, socket, "revoked").await;
        took.push(revoked.elapsed());
        if took.last().is_some_and(|last| *last < REVOKED_WITHIN) {
            break named;
        }
        assert!(took.len() < REVOKED_TRIES, "{took:?}");
    };
    let again = post_with(&system, "/interact", &named, VIEW).await;
    let problem = check_refused(again, 401, INVALID).await;
    assert!(problem["detail"].as_str().unwrap().contains("revoked"), "{problem}");
    let other = token_with(&key, &json!({ "jti": "t-2", "iat": now() - 50 }));
    assert_eq!(post_with(&system, "/interact", &other, VIEW).await.status(), 202);

    let stream = open_comments(&system, &other).await;
    let socket = open_lists(&system, &other).await;
    write_revoked_list(&file, &json!([{ "sub": "ana", "issued_before": now() - 20 }]));
    expect_ended(stream, socket, "revoked").await;
    let renewed = token_with(&key, &json!({ "iat": now() }));
    assert_eq!(post_with(&system, "/interact", &renewed, VIEW).await.status(), 202);

    // A file that cannot be read changes nothing, and the process's health reports it.
    std::fs::write(&file, "{").unwrap();
    eventually("the list's fault is told", async || {
        let report = system.shell.health.readiness().1;
        report.dependencies.get("revoked-tokens").is_some_and(|state| state.contains("is no list"))
    })
    .await;
    assert_eq!(post_with(&system, "/interact", &other, VIEW).await.status(), 401);
    assert_eq!(post_with(&system, "/interact", &renewed, VIEW).await.status(), 202);
    let metrics = system.shell.metrics.encode_text();
    let ended =
        format!(r#"liverank_gateway_sessions_ended_total{{reason="revoked"}} {}"#, 2 * took.len() + 2);
    assert!(metrics.contains(&ended), "{ended} is not in {metrics}");
}

/// Counts the moderation records that were not counted yet, as the consumer does, and updates `counted`.
async fn count_moderation(system: &System, counted: &mut usize) {
    let done = system.log.appended().into_iter().map(|(_, value)| value);
    let done: Vec<Value> = done.filter(|value| value["type"] == "moderation").skip(*counted).collect();
    *counted += done.len();
    system.count(done).await;
}

/// Revokes the tokens of one stream after the other until a stream ends in time.
async fn check_revoked_in_time(system: &System, key: &Key, service: &str, counted: &mut usize) {
    let mut took = Vec::new();
    while took.last().is_none_or(|last| *last >= REVOKED_WITHIN) {
        assert!(took.len() < REVOKED_TRIES, "{took:?}");
        let jti = format!("late-{}", took.len());
        let late = token_with(key, &json!({ "jti": jti, "iat": now() - 50 }));
        let (stream, socket) = (open_comments(system, &late).await, open_lists(system, &late).await);
        let url = system.url("/moderation/revocations");
        let answer = system.http.post(url).bearer_auth(service).json(&json!({"jti": jti})).send().await;
        assert_eq!(answer.unwrap().status(), 202);
        count_moderation(system, counted).await;
        let revoked = Instant::now();
        expect_ended(stream, socket, "revoked").await;
        took.push(revoked.elapsed());
    }
}

#[tokio::test]
async fn what_a_service_revokes_is_refused_soon_and_ends_streams_and_can_be_taken_back() {
    let (key, behind) = (Key::ed("d"), silent_websocket_service().await);
    let (system, _directory) = system(&[&key], &["--websocket-url", &behind]).await;
    let service = token_with(&key, &json!({ "roles": ["service"] }));
    let named = token_with(&key, &json!({ "jti": "t-1", "iat": now() - 50 }));
    let other = token_with(&key, &json!({ "jti": "t-2", "iat": now() - 50 }));
    let revoke = async |token: &str, body: &Value| {
        let url = system.url("/moderation/revocations");
        system.http.post(url).bearer_auth(token).json(body).send().await.unwrap()
    };
    for (wrong, field) in [
        (json!({}), "jti"),
        (json!({"jti": "a", "sub": "b"}), "sub"),
        (json!({"sub": "b", "second": 60}), "second"),
        (json!({"sub": ""}), "sub"),
        (json!({"sub": "ana", "seconds": 0}), "seconds"),
    ] {
        let problem: Value = revoke(&service, &wrong).await.json().await.unwrap();
        assert_eq!(problem["field"], field, "{problem}");
    }
    assert_eq!(revoke(&named, &json!({"sub": "ben"})).await.status(), 403, "a viewer revokes nobody's");
    let (stream, socket) = (open_comments(&system, &named).await, open_lists(&system, &named).await);
    let mut counted = 0;
    let answer = revoke(&service, &json!({"jti": "t-1", "seconds": 600, "reason": "stolen"})).await;
    assert_eq!(answer.status(), 202);
    let answer: Value = answer.json().await.unwrap();
    assert!(answer["jti"] == "t-1" && answer["until"].is_string(), "{answer}");
    count_moderation(&system, &mut counted).await;
    let revoked = Instant::now();
    expect_ended(stream, socket, "revoked").await;
    let took = revoked.elapsed();
    let again = post_with(&system, "/interact", &named, VIEW).await;
    check_refused(again, 401, INVALID).await;
    assert_eq!(post_with(&system, "/interact", &other, VIEW).await.status(), 202, "the other is good");

    // All tokens of a user are revoked; tokens issued later are valid. The service's own token has the same user here.
    let (stream, socket) = (open_comments(&system, &other).await, open_lists(&system, &other).await);
    assert_eq!(revoke(&service, &json!({"sub": "ana"})).await.status(), 202);
    count_moderation(&system, &mut counted).await;
    expect_ended(stream, socket, "revoked").await;
    let later = token_with(&key, &json!({ "iat": now() + 5, "roles": ["service"] }));
    assert_eq!(post_with(&system, "/interact", &later, VIEW).await.status(), 202);
    let page: Value = system
        .http
        .get(system.url("/moderation/revocations"))
        .bearer_auth(&later)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let lines = page["revocations"].as_array().unwrap();
    assert_eq!(
        (lines.len(), &lines[0]["jti"], &lines[1]["sub"]),
        (2, &json!("t-1"), &json!("ana")),
        "{page}"
    );
    assert_eq!((&lines[0]["reason"], &lines[0]["by"]), (&json!("stolen"), &json!("ana")));
    let bans = system.http.get(system.url("/moderation/bans")).bearer_auth(&later).send().await.unwrap();
    assert_eq!(bans.json::<Value>().await.unwrap()["bans"], json!([]), "they are no bans");

    let back = system.url("/moderation/revocations?sub=ana");
    assert_eq!(system.http.delete(back).bearer_auth(&later).send().await.unwrap().status(), 202);
    count_moderation(&system, &mut counted).await;
    eventually("the user's tokens are good again", async || {
        post_with(&system, "/interact", &other, VIEW).await.status() == 202
    })
    .await;
    check_refused(post_with(&system, "/interact", &named, VIEW).await, 401, INVALID).await;

    if took >= REVOKED_WITHIN {
        check_revoked_in_time(&system, &key, &service, &mut counted).await;
    }
}

#[tokio::test]
async fn a_missing_revocation_list_refuses_to_start() {
    let key = Key::ed("d");
    let (system, _directory) = system(&[&key], &["--auth-revoked-file", "/nowhere/revoked.json"]).await;
    let error = format!("{:#}", system.wait_until_ended().await.unwrap_err());
    assert!(error.contains("/nowhere/revoked.json"), "{error}");
}

#[tokio::test]
async fn the_roles_of_a_token_limit_what_it_may_do() {
    let key = Key::ed("d");
    let (system, _directory) = system(&[&key], &[]).await;
    let with = |roles: Value| token_with(&key, &json!({ "roles": roles }));
    let watcher = with(json!(["viewer"]));
    check_refused(post_with(&system, "/interact", &watcher, VIEW).await, 403, OTHER).await;
    let comment = r#"{"userid":"ana","videoid":"cat","comment":"hi"}"#;
    check_refused(post_with(&system, "/comment", &watcher, comment).await, 403, OTHER).await;
    open_comments(&system, &watcher).await;

    let owned = r#"{"video_id":"cat","user_id":"ben","type":"view","owner_id":"eve"}"#;
    check_refused(post_with(&system, "/interact", &with(json!(["poster"])), owned).await, 403, OTHER).await;
    let own = owned.replace("ben", "ana");
    assert_eq!(post_with(&system, "/interact", &with(json!("poster")), &own).await.status(), 202);
    assert_eq!(post_with(&system, "/interact", &with(json!("service")), owned).await.status(), 202);
    let owners: Vec<_> =
        system.log.appended().iter().map(|(_, event)| event.get("owner_id").cloned()).collect();
    assert_eq!(owners, [None, Some(json!("eve"))], "a service says whose a video is");
}
