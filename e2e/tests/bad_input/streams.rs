//! A test of streams that are never read while many comments are posted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{StreamExt, stream};
use liverank_e2e::patient::answer_of;
use liverank_e2e::raw;
use liverank_e2e::up::PublicPort::{Gateway, Reader, Websocket};
use liverank_e2e::up::{PublicPort, Up};
use liverank_e2e::wait;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{MAX_LIKE_TIME, WAIT_TIMEOUT, check_unmoved};

/// The number of unread streams of each kind at each port.
const UNREAD_STREAMS: usize = 20;
/// The number of comments that are posted, of 16 KiB each: together more than the buffers of any socket hold.
const COMMENT_COUNT: usize = 400;
/// The most memory that all unread streams may cost: a quarter of what they would cost if each kept what it could not
/// send.
const MAX_GROWTH_KIB: u64 = 100 * 1024;
/// The time limit until unread streams are ended; the servers' own limits are 20 s without a byte, and 30 s without
/// the kernel's acknowledgement.
const ENDED_TIMEOUT: Duration = Duration::from_mins(2);
/// The most other files that may be open: streams that are read, and idle connections.
const MAX_OTHER_FILES: usize = 30;
/// The first character of the comments that the viewer counts. Comments from before it came have another one: on a busy
/// machine some of them arrive only then.
const COUNTED_START: char = '\u{1f4fa}';

async fn open_unread(up: &Up, door: PublicPort, request: &[u8]) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    for _ in 0..UNREAD_STREAMS {
        let mut stream = raw::connect_with_small_buffer(up.address(door)).await.expect("a connection");
        stream.write_all(request).await.expect("sending the request");
        streams.push(stream);
    }
    streams
}

/// Opens a stream and reads it in a task, which counts the comments whose text begins with [`COUNTED_START`], and the
/// reported gaps.
async fn reading_viewer(
    up: &Up,
    counted: Arc<AtomicU64>,
    gaps: Arc<AtomicU64>,
) -> tokio::task::JoinHandle<()> {
    let url = format!("{}/connect?userid=live&videoid=crowded", up.url(Gateway));
    let mut response = answer_of(reqwest::Client::new().get(url)).await;
    assert_eq!(response.status(), 200);
    let first = response.chunk().await.expect("a stream that goes on").expect("a greeting");
    assert!(String::from_utf8_lossy(&first).contains("connected"), "{first:?}");
    tokio::spawn(async move {
        let mut rest = Vec::new();
        while let Ok(Some(chunk)) = response.chunk().await {
            rest.extend_from_slice(&chunk);
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                let data =
                    line.strip_prefix(b"data: ").and_then(|data| serde_json::from_slice::<Value>(data).ok());
                let is_counted = |text: &str| text.starts_with(COUNTED_START);
                if data.is_some_and(|data| data["comment"].as_str().is_some_and(is_counted)) {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
                gaps.fetch_add(u64::from(line.starts_with(b"event: gap")), Ordering::Relaxed);
            }
        }
    })
}

/// Opens a WebSocket and reads it in a task, which counts the bytes.
async fn reading_watcher(up: &Up, bytes: Arc<AtomicU64>) -> tokio::task::JoinHandle<()> {
    let mut stream = TcpStream::connect(up.address(Gateway)).await.expect("a connection");
    let answer = raw::send_and_read(&mut stream, &raw::handshake("/ws/videos?limit=10")).await;
    let answer = answer.expect("an answer to the handshake");
    assert_eq!(answer.status, 101, "{answer:?}");
    tokio::spawn(async move {
        let mut buffer = [0; 16 * 1024];
        while let Ok(count) = stream.read(&mut buffer).await {
            if count == 0 {
                break;
            }
            bytes.fetch_add(count as u64, Ordering::Relaxed);
        }
    })
}

/// Makes a thousand videos with long names, so that a list is large.
async fn make_long_lists(up: &Up) {
    let events: Vec<Value> = (0..1000)
        .map(
            |video| json!({"video_id": format!("{video:0>250}"), "user_id": "o".repeat(200), "type": "view"}),
        )
        .collect();
    assert_eq!(up.post("/interactions", &Value::Array(events)).await.0, 200);
    wait::until("a thousand videos in the ranking", WAIT_TIMEOUT, || async {
        (up.get(Gateway, "/videos?limit=1000").await["videos"].as_array()?.len() >= 1000).then_some(())
    })
    .await;
}

/// Posts the comments, whose texts begin with `start`, and likes in between that change every list; none of them may be
/// delayed.
async fn post_comments(up: &Up, start: char) {
    let text = format!("{start}{}", "\u{1f3ac}".repeat(4095));
    let posting = stream::iter(0..COMMENT_COUNT).for_each_concurrent(8, |_| async {
        let key = format!("{:032x}", rand::random::<u128>());
        let comment = json!({"userid": "ann", "videoid": "crowded", "comment": text, "idempotency_key": key});
        assert_eq!(up.post("/comment", &comment).await.0, 201);
    });
    let liking = async {
        for _ in 0..20 {
            let took = up.round_trip().await;
            assert!(took < MAX_LIKE_TIME, "a like took {took:?} among streams that are not read");
        }
    };
    tokio::join!(posting, liking);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_are_never_read_hold_nobody_up_and_are_ended() {
    let mut up = Up::start().await;
    up.round_trip().await;
    make_long_lists(&up).await;
    // Comments fill caches and rings; most of that is done before memory is read.
    post_comments(&up, '\u{1f3ac}').await;
    let [comments, gaps, bytes] = [(); 3].map(|()| Arc::new(AtomicU64::new(0)));
    let reading = [
        reading_viewer(&up, comments.clone(), gaps.clone()).await,
        reading_watcher(&up, bytes.clone()).await,
    ];
    let (lines, memory, files) = (up.log_lines(), up.process.resident_kib(), up.process.open_files());
    let watch = raw::request("GET", "/connect?userid=deaf&videoid=crowded", &[], b"");
    let list = raw::handshake("/ws/videos?limit=all");
    let mut kept = Vec::new();
    for (door, request) in [(Reader, &watch), (Gateway, &watch), (Websocket, &list), (Gateway, &list)] {
        kept.extend(open_unread(&up, door, request).await);
    }
    let viewers = || async { up.get(Reader, "/health").await["activeConnections"].as_u64() };
    let everybody = 2 * UNREAD_STREAMS as u64 + 1;
    wait::until("all viewers", WAIT_TIMEOUT, || async {
        viewers().await.filter(|count| *count == everybody)
    })
    .await;
    post_comments(&up, COUNTED_START).await;
    let all = || async { (comments.load(Ordering::Relaxed) == COMMENT_COUNT as u64).then_some(()) };
    wait::until("every comment at the viewer that reads", WAIT_TIMEOUT, all).await;
    assert_eq!(gaps.load(Ordering::Relaxed), 0, "the viewer that reads misses nothing");
    let grown = up.process.resident_kib().saturating_sub(memory);
    assert!(grown < MAX_GROWTH_KIB, "{} unread streams cost {grown} KiB", kept.len());
    let before = bytes.load(Ordering::Relaxed);
    up.round_trip().await;
    let told = || async { (bytes.load(Ordering::Relaxed) > before).then_some(()) };
    wait::until("a list at the WebSocket that reads", MAX_LIKE_TIME, told).await;
    eprintln!("{} unread streams cost {grown} KiB", kept.len());

    let ended = || async {
        let lists = up.get(Websocket, "/health").await["connections"].as_u64();
        (viewers().await == Some(1) && lists == Some(1) && up.process.open_files() < files + MAX_OTHER_FILES)
            .then_some(())
    };
    wait::until("the end of all streams that are not read", ENDED_TIMEOUT, ended).await;
    assert!(reading.iter().all(|reading| !reading.is_finished()), "those that read stay");
    drop(kept);
    check_unmoved(&mut up, lines).await;
}
