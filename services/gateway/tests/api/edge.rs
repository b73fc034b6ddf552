//! Clients at the edge: half-closed, slow and compressed requests, requests that are too large, and too many requests.

use std::io::Write;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{PROMPT_TIMEOUT, System, problem};

const EVENT_JSON: &str = r#"{"video_id":"v","user_id":"u","type":"view"}"#;

async fn connect_tcp(system: &System) -> TcpStream {
    let address = system.url.socket_addrs(|| None).unwrap()[0];
    TcpStream::connect(address).await.unwrap()
}

/// Returns everything that comes until the server closes the connection.
async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    tokio::time::timeout(PROMPT_TIMEOUT, stream.read_to_end(&mut bytes)).await.expect("it closes").unwrap();
    String::from_utf8(bytes).unwrap()
}

fn post_request(path: &str, headers: &str, length: usize) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {length}\r\n\r\n")
}

#[tokio::test]
async fn a_half_closed_client_gets_its_answer() {
    let system = System::start(&[]).await;
    for path in ["/interact", "/interactions"] {
        let body = if path == "/interact" { EVENT_JSON.to_owned() } else { format!("[{EVENT_JSON}]") };
        let mut stream = connect_tcp(&system).await;
        // The log is slow, and the client has closed its sending side meanwhile.
        let held = system.log.hold();
        stream.write_all(format!("{}{body}", post_request(path, "", body.len())).as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop(held);
        let answer = read_to_end(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 20"), "{path}: {answer}");
    }
    assert_eq!(system.log.appended().len(), 2);
}

#[tokio::test]
async fn a_413_arrives_however_much_is_still_being_sent() {
    let system = System::start(&[]).await;
    for path in ["/interact", "/interactions", "/comment", "/client-statistics", "/nothing"] {
        let mut stream = connect_tcp(&system).await;
        let length = 3 * 1024 * 1024;
        stream.write_all(post_request(path, "", length).as_bytes()).await.unwrap();
        // The server reads the whole body: there is neither an error nor a reset before the answer is read.
        for _ in 0..48 {
            stream.write_all(&vec![b' '; length / 48]).await.unwrap();
        }
        let answer = read_to_end(&mut stream).await;
        let status = if path == "/nothing" { "404" } else { "413" };
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {answer}");
    }
}

#[tokio::test]
async fn bodies_may_be_compressed_with_gzip() {
    let system = System::start(&[]).await;
    let gzip = |bytes: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let send = |path: &str, coding: &str, body: Vec<u8>| {
        system.http.post(system.url(path)).header("content-encoding", coding).body(body).send()
    };
    assert_eq!(send("/interact", "gzip", gzip(EVENT_JSON.as_bytes())).await.unwrap().status(), 202);
    assert_eq!(
        send("/interactions", "gzip", gzip(format!("[{EVENT_JSON}]").as_bytes())).await.unwrap().status(),
        200
    );
    problem(send("/interactions", "gzip", gzip(&vec![b' '; 10 * 1024 * 1024])).await.unwrap(), 413).await;
    let refused = send("/interact", "br", vec![0; 9]).await.unwrap();
    assert_eq!(refused.headers()["accept-encoding"], "gzip");
    problem(refused, 415).await;
}

#[tokio::test]
async fn a_page_that_closes_sends_plain_text() {
    let system = System::start(&[]).await;
    let send = |path: &str, origin: Option<&'static str>, body: String| {
        let request =
            system.http.post(system.url(path)).header("content-type", "text/plain;charset=UTF-8").body(body);
        origin.into_iter().fold(request, |request, origin| request.header("origin", origin)).send()
    };
    let page = Some("https://example.org");
    assert_eq!(send("/interact", page, EVENT_JSON.into()).await.unwrap().status(), 202);
    assert_eq!(send("/interactions", page, format!("[{EVENT_JSON}]")).await.unwrap().status(), 200);
    problem(send("/interact", None, EVENT_JSON.into()).await.unwrap(), 415).await;
    problem(send("/connect", page, "{}".into()).await.unwrap(), 415).await;
}

#[tokio::test]
async fn an_undecodable_request_id_is_replaced() {
    let system = System::start(&[]).await;
    for (query, field) in [("userid=u&videoid=caf%E9", "videoid"), ("userid=100%&videoid=v", "userid")] {
        let told = problem(system.get(&format!("/connect?{query}")).await, 400).await;
        assert_eq!(told["field"], field, "{query}");
    }
}

#[tokio::test]
async fn batches_that_stall_keep_nobody_waiting() {
    let system = System::start(&[]).await;
    let mut stalled = Vec::new();
    for _ in 0..32 {
        for path in ["/interactions", "/client-statistics"] {
            let mut stream = connect_tcp(&system).await;
            stream.write_all(format!("{}[", post_request(path, "", 1000)).as_bytes()).await.unwrap();
            stalled.push(stream);
        }
    }
    let start = Instant::now();
    for _ in 0..20 {
        let answer = system.post("/interactions", format!("[{EVENT_JSON}]")).await;
        assert_eq!(answer.status(), 200);
    }
    // Far below the ten seconds that a stalled batch has: whoever waited for one of them would wait for that long.
    assert!(start.elapsed() < Duration::from_secs(9), "{:?}", start.elapsed());
    // No statistics service runs, so the answer is 503: the request was let through.
    problem(system.post("/client-statistics", "{}").await, 503).await;
}

#[tokio::test]
async fn one_address_has_its_limits_and_its_streams_come_back() {
    let system = System::start(&["--requests-per-address", "1", "--reader-wait-seconds", "1"]).await;
    let mut refused = None;
    for _ in 0..100 {
        let answer = system.get("/health").await;
        if answer.status() == 429 {
            refused = Some(answer);
            break;
        }
    }
    problem(refused.expect("a limit"), 429).await;
    let stream = system.get("/connect?userid=u&videoid=v").await;
    assert_eq!(stream.status(), 200);
    assert!(stream.text().await.unwrap().starts_with("retry: "));
}

#[tokio::test]
async fn one_user_has_its_limits() {
    let system = System::start(&["--events-per-user", "1"]).await;
    let ten = format!("[{}]", [EVENT_JSON; 10].join(","));
    assert_eq!(system.post("/interactions", ten.clone()).await.status(), 200);
    problem(system.post("/interactions", ten).await, 429).await;
    // Each second brings room for one more event, and on a busy machine some seconds may have passed.
    let mut more = 0;
    let refused = loop {
        let answer = system.post("/interact", EVENT_JSON).await;
        if answer.status() == 429 {
            break answer;
        }
        assert_eq!(answer.status(), 202);
        more += 1;
        assert!(more < 100, "there is no limit");
    };
    problem(refused, 429).await;
    assert_eq!(system.log.appended().len(), 10 + more, "what is refused is not counted");
}

/// The gateway checks the handshake itself, without the service behind it.
#[tokio::test]
async fn a_handshake_is_of_http_1_1() {
    let system = System::start(&[]).await;
    let handshake = "GET /ws/videos HTTP/1.0\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    for (request, status) in [
        (handshake.to_owned(), "426"),
        (handshake.replace("1.0", "1.1").replace("Upgrade: websocket", "Upgrade: foo, websocket"), "503"),
        (handshake.replace("1.0", "1.1").replace("Connection: Upgrade", "Connection: close"), "426"),
    ] {
        let mut stream = connect_tcp(&system).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(str::from_utf8(&answer[9..]).unwrap(), status, "{request}");
    }
}

#[tokio::test]
async fn batch_items_name_what_is_wrong_with_them() {
    let system = System::start(&[]).await;
    let batch =
        format!(r#"[{EVENT_JSON},{{"video_id":"v","user_id":"u","type":"watch_time","watch_time":1e400}}]"#);
    let answer: Value = system.post("/interactions", batch).await.json().await.unwrap();
    assert_eq!((&answer[0]["status"], &answer[1]["status"]), (&202.into(), &400.into()), "{answer}");
    assert_eq!(answer[1]["field"], "watch_time");
}
