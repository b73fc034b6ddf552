//! Tests of requests that arrive slowly or never end, and of connections that are cut.

use std::io;
use std::time::{Duration, Instant};

use crate::case::authorized;
use futures::future::join_all;
use liverank_e2e::raw::{self, Answer};
use liverank_e2e::up::PublicPort::{Comment, Gateway, Manager, Reader, Statistics};
use liverank_e2e::up::{PublicPort, Up};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::check_unmoved;

/// The time after which the server ends heads and bodies that take longer than 10 s; a busy machine may need more.
const ENDED_WITHIN: std::ops::Range<Duration> = Duration::from_secs(9)..Duration::from_secs(25);

/// Sends `start` and then `byte` once a second as long as the server keeps the connection; returns the answer and the
/// time that it took.
async fn drip_bytes(address: &str, start: &[u8], byte: Option<u8>) -> io::Result<(Answer, Duration)> {
    // The time begins before the connection does: the server's time must not have begun earlier.
    let started = Instant::now();
    let stream = TcpStream::connect(address).await?;
    let (mut read, mut write) = stream.into_split();
    write.write_all(start).await?;
    let dripping = async {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if let Some(byte) = byte {
                let _ = write.write_all(&[byte]).await;
            }
        }
    };
    tokio::select! {
        answer = raw::answer(&mut read) => Ok((answer?, started.elapsed())),
        () = dripping => unreachable!("it never ends"),
    }
}

/// Checks that a connection that never sends a whole head is closed in time, without an answer or with a 408.
async fn check_endless_head(up: &Up, door: PublicPort, start: &[u8], byte: Option<u8>) {
    let what = String::from_utf8_lossy(start);
    let (answer, took) = drip_bytes(up.address(door), start, byte)
        .await
        .unwrap_or_else(|error| panic!("{door:?} {what}: {error}"));
    assert!(matches!(answer.status, 0 | 408), "{door:?} {what}: {answer:?}");
    assert!(ENDED_WITHIN.contains(&took), "{door:?} {what}: after {took:?}");
}

/// Checks that a request whose body never arrives completely is answered with 408 in time.
async fn check_endless_body(up: &Up, door: PublicPort, path: &str, byte: Option<u8>) {
    let head = raw::request_head("POST", path, &["Content-Type: application/json"], 50);
    let mut start = authorized(door, head);
    start.push(b'{');
    let (answer, took) = drip_bytes(up.address(door), &start, byte)
        .await
        .unwrap_or_else(|error| panic!("{door:?} {path}: {error}"));
    assert_eq!(answer.status, 408, "{door:?} {path}: {answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{door:?} {path}");
    assert_eq!(answer.json()["status"], 408, "{door:?} {path}");
    assert!(ENDED_WITHIN.contains(&took), "{door:?} {path}: after {took:?}");
}

#[tokio::test]
async fn half_open_and_slow_requests_are_ended_in_time() {
    let mut up = Up::start().await;
    up.round_trip().await;
    let lines = up.log_lines();
    let heads = PublicPort::ALL.iter().flat_map(|door| {
        let starts: [(&[u8], Option<u8>); 5] = [
            (b"", None),
            (b"GET /hea", None),
            (b"POST /interact HTTP/1.1\r\nHost: liverank\r\n", None),
            (b"GET /health HTTP/1.1\r\nX: ", Some(b'y')),
            (b"", Some(b'G')),
        ];
        starts.map(|(start, byte)| check_endless_head(&up, *door, start, byte))
    });
    let bodies = [
        (Gateway, "/interact"),
        (Gateway, "/interactions"),
        (Gateway, "/comment"),
        (Gateway, "/register"),
        (Gateway, "/connect"),
        (Gateway, "/client-statistics"),
        (Comment, "/comment"),
        (Reader, "/connect"),
        (Manager, "/register"),
        (Manager, "/heartbeat"),
        (Statistics, "/reader-api-statistics"),
    ];
    let bodies = bodies
        .iter()
        .flat_map(|(door, path)| [None, Some(b' ')].map(|byte| check_endless_body(&up, *door, path, byte)));
    let meanwhile = async {
        for _ in 0..5 {
            let took = up.round_trip().await;
            assert!(took < crate::MAX_LIKE_TIME, "a like took {took:?} among slow requests");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::join!(join_all(heads), join_all(bodies), meanwhile);
    check_unmoved(&mut up, lines).await;
}

/// Clients that close the connection in the middle of a request: the server neither waits nor logs a line for each.
#[tokio::test]
async fn half_closed_and_reset_connections_cost_nothing() {
    let mut up = Up::start().await;
    up.round_trip().await;
    let lines = up.log_lines();
    let body = br#"{"video_id":"v","user_id":"u","type":"view"}"#;
    for _ in 0..50 {
        // The client sends less than it announced, and closes its side.
        let mut stream = TcpStream::connect(up.address(Gateway)).await.unwrap();
        stream.write_all(&raw::request_head("POST", "/interact", &[], body.len() + 10)).await.unwrap();
        stream.write_all(body).await.unwrap();
        stream.shutdown().await.unwrap();
        let answer = raw::answer(&mut stream).await.unwrap();
        assert!(matches!(answer.status, 0 | 400), "an event that never came whole: {answer:?}");
        // The client resets the connection in the middle of a second request.
        for door in PublicPort::ALL {
            let mut stream = TcpStream::connect(up.address(door)).await.unwrap();
            stream.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /he").await.unwrap();
            stream.set_zero_linger().unwrap();
        }
    }
    // A connection remains usable until the client closes it: a valid request after a bad one is served.
    let mut stream = TcpStream::connect(up.address(Gateway)).await.unwrap();
    for status in [400, 202, 415, 202] {
        let kind = if status == 415 { "text/plain" } else { "application/json" };
        let body: &[u8] = if status == 400 { b"{" } else { body };
        let head = format!(
            "POST /interact HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let answer = raw::send_and_read(&mut stream, &[head.as_bytes(), body].concat()).await.unwrap();
        assert_eq!(answer.status, status, "{answer:?}");
    }
    check_unmoved(&mut up, lines).await;
}
