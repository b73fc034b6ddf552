//! Requests that other services answer, through the gateway.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::extract::{Path, Request};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite;

use crate::support::{System, nowhere, problem, serve};

/// Answers every request with a description of the request.
async fn echo_request(request: Request) -> impl IntoResponse {
    let headers = request.headers().clone();
    let uri = request.uri().to_string();
    let method = request.method().to_string();
    let body = axum::body::to_bytes(request.into_body(), usize::MAX).await.unwrap();
    let seen = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let answer = json!({ "method": method, "uri": uri, "body": String::from_utf8(body.to_vec()).unwrap(),
        "content-type": seen("content-type"), "x-hop": seen("x-hop"), "x-end": seen("x-end") });
    (StatusCode::CREATED, [("x-answer", "1"), ("keep-alive", "timeout=5")], Json(answer))
}

#[tokio::test]
async fn requests_reach_the_service_that_answers_them_as_they_came() {
    let [comment, manager, statistics] = [(); 3].map(|()| Router::new().fallback(echo_request));
    let (comment, manager, statistics) =
        (serve(comment).await, serve(manager).await, serve(statistics).await);
    let system = System::start(&[
        "--comment-url",
        &comment,
        "--manager-url",
        &manager,
        "--statistics-url",
        &statistics,
    ])
    .await;
    let cases = [
        ("POST", "/comment"),
        ("GET", "/comments/a%2Fb?before=5&limit=x%20y"),
        ("POST", "/register"),
        ("GET", "/resolve/a%20b"),
        ("GET", "/statistics?full=true"),
        ("POST", "/comment-api-statistics"),
        ("POST", "/reader-api-statistics"),
        ("POST", "/reader-api-manager-statistics"),
        ("POST", "/client-statistics"),
    ];
    for (method, path) in cases {
        let body = if method == "POST" { "{\"a\": 1}" } else { "" };
        let request = system
            .http
            .request(method.parse().unwrap(), system.url(path))
            .header("content-type", "text/x")
            .header("connection", "x-hop")
            .header("x-hop", "1")
            .header("x-end", "2");
        let response = request.body(body).send().await.unwrap();
        assert_eq!(response.status(), 201, "{path}");
        assert_eq!(response.headers()["x-answer"], "1");
        assert!(!response.headers().contains_key("keep-alive"));
        assert_eq!(response.headers()["access-control-allow-origin"], "*");
        assert_eq!(
            response.json::<Value>().await.unwrap(),
            json!({ "method": method, "uri": path, "body": body, "content-type": "text/x", "x-hop": null, "x-end": "2" })
        );
    }
}

#[tokio::test]
async fn an_error_of_the_service_is_passed_on() {
    let manager = Router::new().route(
        "/resolve/{id}",
        get(|Path(id): Path<String>| async move {
            liverank_runtime::Problem::not_found("nobody serves it").with_member("videoid", id)
        }),
    );
    let system = System::start(&["--manager-url", &serve(manager).await]).await;
    assert_eq!(problem(system.get("/resolve/cat").await, 404).await["videoid"], "cat");
}

#[tokio::test]
async fn a_replica_that_cannot_be_reached_costs_nothing() {
    let alive = serve(Router::new().fallback(echo_request)).await;
    let system = System::start(&["--comment-url", &format!("{},{alive}", nowhere())]).await;
    for _ in 0..3 {
        assert_eq!(system.post("/comment", "{}").await.status(), 201);
    }
}

#[tokio::test]
async fn a_service_that_is_away_is_503() {
    let system = System::start(&[]).await;
    problem(system.post("/comment", "{}").await, 503).await;
    problem(system.get("/comments/cat").await, 503).await;
    problem(system.get("/statistics").await, 503).await;
    problem(system.get("/resolve/cat").await, 503).await;
    assert!(system.shell.health.readiness().1.dependencies["comment"].contains("refused"));
}

/// Starts a service that reads requests and closes the connection without an answer. Returns its URL.
async fn dying_service(hits: Arc<AtomicUsize>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            hits.fetch_add(1, SeqCst);
            let _ = stream.read(&mut [0; 4096]).await;
        }
    });
    url
}

#[tokio::test]
async fn a_post_that_may_have_been_done_is_not_repeated() {
    let (hits, reached) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&reached);
    let second = Router::new().route(
        "/comment",
        post(async move || {
            counter.fetch_add(1, SeqCst);
            "done"
        }),
    );
    let second = second.route("/comments/{id}", get(async || "read"));
    let urls = format!("{},{}", dying_service(Arc::clone(&hits)).await, serve(second).await);
    let system = System::start(&["--comment-url", &urls]).await;
    problem(system.post("/comment", "{}").await, 503).await;
    assert_eq!((hits.load(SeqCst), reached.load(SeqCst)), (1, 0));
    let system = System::start(&["--comment-url", &urls]).await;
    assert_eq!(system.get("/comments/cat").await.text().await.unwrap(), "read");
    // The `GET` may also be tried again at the same replica, if the connection was closed before the request was
    // written.
    assert!(hits.load(SeqCst) >= 2, "reading may be tried again");
}

/// Accepts a WebSocket, sends the request's URI on it, and then sends every message back.
async fn echo_websocket(
    upgrade: WebSocketUpgrade,
    headers: HeaderMap,
    request: Request,
) -> axum::response::Response {
    assert!(headers.contains_key("sec-websocket-key"));
    let asked = request.uri().to_string();
    upgrade.on_upgrade(async move |mut socket| {
        socket.send(Message::Text(asked.into())).await.unwrap();
        while let Some(Ok(message)) = socket.recv().await {
            if let Message::Text(_) = message {
                socket.send(message).await.unwrap();
            }
        }
    })
}

fn websocket_url(system: &System, path: &str) -> String {
    system.url(path).replacen("http", "ws", 1)
}

#[tokio::test]
async fn websockets_go_through_and_end_with_the_gateway() {
    let service =
        Router::new().route("/ws/videos", get(echo_websocket)).route("/ws/user/{id}", get(echo_websocket));
    let urls = format!("{},{}", nowhere(), serve(service).await);
    let system = System::start(&["--websocket-url", &urls]).await;
    let mut open = Vec::new();
    for path in ["/ws/videos?limit=5&mode=delta", "/ws/user/a%20b"] {
        let (mut socket, _) = tokio_tungstenite::connect_async(websocket_url(&system, path)).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap().into_text().unwrap(), path);
        let large = "x".repeat(100_000);
        socket.send(tungstenite::Message::text(large.clone())).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap().into_text().unwrap(), large);
        open.push(socket);
    }
    system.end().await;
    for mut socket in open {
        assert!(!matches!(socket.next().await, Some(Ok(tungstenite::Message::Text(_)))));
    }
}

#[tokio::test]
async fn a_request_without_handshake_is_refused() {
    // Like the websocket service: an error in the request comes before the missing handshake.
    let refusing = Router::new().fallback(async |request: Request| {
        if request.uri().query().is_some() {
            return liverank_runtime::Problem::from(liverank_core::Invalid::new("limit", "must be a number"));
        }
        assert!(!request.headers().contains_key("upgrade"));
        liverank_runtime::Problem::new(StatusCode::UPGRADE_REQUIRED, "this is a WebSocket")
    });
    let system = System::start(&["--websocket-url", &serve(refusing).await]).await;
    let plain = system.get("/ws/videos").await;
    assert_eq!(plain.headers()["upgrade"], "websocket");
    problem(plain, 426).await;
    // A browser's script is not told why a handshake failed, so it asks like this.
    problem(system.get("/ws/videos?limit=x").await, 400).await;
    let refused =
        tokio_tungstenite::connect_async(websocket_url(&system, "/ws/videos?limit=x")).await.unwrap_err();
    let tungstenite::Error::Http(response) = refused else { panic!("{refused}") };
    assert_eq!(response.status().as_u16(), 400);
}

#[tokio::test]
async fn websockets_without_a_service_are_503() {
    let system = System::start(&[]).await;
    let refused = tokio_tungstenite::connect_async(websocket_url(&system, "/ws/videos")).await.unwrap_err();
    let tungstenite::Error::Http(response) = refused else { panic!("{refused}") };
    assert_eq!(response.status().as_u16(), 503);
    assert!(response.headers().contains_key("retry-after"));
}
