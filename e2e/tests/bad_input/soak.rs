//! A long run of all bad input at once: memory must not grow.
//!
//! The memory of a process just after its start says little, because allocators, caches and pools fill up first. So
//! the same bad input is sent in two phases, and memory may not grow in the second one. Valid requests that are stored
//! are left out: the stores' caches grow with what they store, up to their own limits, which says nothing about bad
//! input.

use std::time::{Duration, Instant};

use futures::future::join_all;
use liverank_e2e::raw;
use liverank_e2e::up::PublicPort::{Gateway, Reader, Websocket};
use liverank_e2e::up::{PublicPort, Up};
use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::case::Case;
use crate::{MAX_LIKE_TIME, check_unmoved};

/// The number of clients that send one bad request after the other.
const SENDER_COUNT: usize = 8;
/// The number of connections that are opened and left half-open in each round.
const HALF_OPEN_CONNECTIONS: usize = 20;
/// The pause of a client after each request: together they send fast enough and leave processor time to the server.
const SENDER_PAUSE: Duration = Duration::from_millis(10);
/// The duration of each phase, in seconds. `LIVERANK_TEST_ABUSE_SECONDS` overrides it,
/// `LIVERANK_TEST_ABUSE_WARM_UP_SECONDS` that of the first phase alone.
const DEFAULT_SECONDS: u64 = 40;
/// The pause between two likes of the ordinary client. What is stored is cached: 3,000 likes and comments cost 3 MiB
/// without any bad input, so more of them would dominate the measurement.
const NOW_AND_THEN: Duration = Duration::from_secs(5);

/// The results of one phase.
#[derive(Debug, Default)]
struct PhaseTally {
    requests: usize,
    slowest: Duration,
}

async fn send_bad_requests(up: &Up, cases: &[Case], first: usize, end: Instant) -> usize {
    let mut sent = 0;
    for case in cases.iter().cycle().skip(first) {
        if Instant::now() > end {
            break;
        }
        if let Some(wrong) = case.wrong(up).await {
            panic!("after {sent} requests: {wrong}");
        }
        sent += 1;
        tokio::time::sleep(SENDER_PAUSE).await;
    }
    sent
}

/// Leaves connections in the middle of a head, of a body, and before any byte; half of them end with a reset.
async fn leave_half_open(up: &Up, end: Instant) {
    while Instant::now() < end {
        let mut kept = Vec::new();
        for number in 0..HALF_OPEN_CONNECTIONS {
            let Ok(mut stream) =
                raw::connect_with_small_buffer(up.address(PublicPort::ALL[number % PublicPort::ALL.len()]))
                    .await
            else {
                continue;
            };
            let text: &[u8] = match number % 3 {
                0 => b"",
                1 => b"GET /health HTTP/1.1\r\nHo",
                _ => b"POST /comment HTTP/1.1\r\nContent-Length: 60000\r\n\r\n{\"userid\":\"",
            };
            let _ = stream.write_all(text).await;
            if number % 2 == 0 {
                let _ = stream.set_zero_linger();
            }
            kept.push(stream);
        }
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
}

/// Opens streams, does not read them, and closes them.
async fn open_unread_streams(up: &Up, end: Instant) {
    let watch = raw::request("GET", "/connect?userid=deaf&videoid=v", &[], b"");
    let list = raw::handshake("/ws/videos?mode=delta");
    while Instant::now() < end {
        let mut kept = Vec::new();
        for (door, request) in [(Gateway, &watch), (Reader, &watch), (Gateway, &list), (Websocket, &list)] {
            for _ in 0..5 {
                let Ok(mut stream) = raw::connect_with_small_buffer(up.address(door)).await else { continue };
                let _ = stream.write_all(request).await;
                kept.push(stream);
            }
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
}

/// Sends likes and comments as an ordinary client; returns the time that the slowest like took.
async fn like_in_between(up: &Up, end: Instant) -> Duration {
    let mut slowest = Duration::ZERO;
    while Instant::now() < end {
        slowest = slowest.max(up.round_trip().await);
        let comment = json!({"userid": "ann", "videoid": "v", "comment": "hello"});
        assert_eq!(up.post("/comment", &comment).await.0, 201);
        tokio::time::sleep(NOW_AND_THEN.min(end.saturating_duration_since(Instant::now()))).await;
    }
    slowest
}

async fn run_abuse(up: &Up, cases: &[Case], time: Duration) -> PhaseTally {
    let end = Instant::now() + time;
    let senders = (0..SENDER_COUNT)
        .map(|sender_number| send_bad_requests(up, cases, sender_number * cases.len() / SENDER_COUNT, end));
    let (sent, slowest, (), ()) = tokio::join!(
        join_all(senders),
        like_in_between(up, end),
        leave_half_open(up, end),
        open_unread_streams(up, end)
    );
    PhaseTally { requests: sent.iter().sum(), slowest }
}

/// Returns the least resident memory during 12 s after all clients are gone, in KiB; that is longer than any request
/// may last. Returns earlier once the memory is at most `enough` KiB.
async fn settled_memory_kib(up: &Up, enough: u64) -> u64 {
    let mut least = u64::MAX;
    for _ in 0..24 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        least = least.min(up.process.resident_kib());
        if least <= enough {
            break;
        }
    }
    least
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_stays_where_it_is_under_continuous_abuse() {
    let from_environment = |name: &str| {
        let text = std::env::var(name).ok()?;
        Some(Duration::from_secs(text.parse().unwrap_or_else(|_| panic!("{name} is a number"))))
    };
    let time =
        from_environment("LIVERANK_TEST_ABUSE_SECONDS").unwrap_or(Duration::from_secs(DEFAULT_SECONDS));
    let warm_up = from_environment("LIVERANK_TEST_ABUSE_WARM_UP_SECONDS").unwrap_or(time);
    let mut up = Up::start().await;
    up.round_trip().await;
    let lines = up.log_lines();
    let cases: Vec<Case> = crate::cases().into_iter().filter(|case| !case.is_stored()).collect();
    let fresh = up.process.resident_kib();
    let first = run_abuse(&up, &cases, warm_up).await;
    let before = settled_memory_kib(&up, 0).await;
    let bound = before + before / 10;
    let second = run_abuse(&up, &cases, time).await;
    let after = settled_memory_kib(&up, bound).await;
    eprintln!(
        "resident: {fresh} KiB fresh, {before} KiB after {} bad requests, {after} KiB after {} more in \
         {time:?}; the slowest like took {:?}",
        first.requests,
        second.requests,
        first.slowest.max(second.slowest)
    );
    assert!(second.requests > 100, "{second:?}");
    assert!(second.slowest < MAX_LIKE_TIME, "{second:?}");
    assert!(after <= bound, "{before} KiB before and {after} KiB after {time:?} of bad input");
    check_unmoved(&mut up, lines).await;
}
