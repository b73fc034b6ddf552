//! Tests with many viewers, many comments a second, and viewers who do not read.

use std::net::SocketAddr;

use liverank_reader::Config;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

use crate::world::{Running, Viewer, World, config, until};

/// Connects a viewer who asks for a stream and then never reads, with a small receive window so that its socket is soon
/// full.
async fn connect_without_reading(address: &str, video: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(address.parse().unwrap()).await.unwrap();
    let request = format!("GET /connect?userid=slow&videoid={video} HTTP/1.1\r\nHost: t\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn a_viewer_that_does_not_read_hurts_nobody_and_gets_a_gap() {
    let world = World::new().await;
    let reader = Running::start(&world, Config { ring_length: 100, ..config("r1") }).await;
    let mut healthy = Viewer::get(&reader.address, "v", None).await;
    healthy.greeted().await;
    let slow = connect_without_reading(&reader.address, "v").await;
    until("both to be there", async || reader.health().await["activeConnections"] == 2).await;
    let mut seen = 0;
    // Far more than sockets buffer: some 230 bytes each comment.
    for _ in 0..300 {
        world.post("v", 100).await;
        let seqs = healthy.comments(100).await;
        assert_eq!(seqs, (seen + 1..=seen + 100).collect::<Vec<_>>());
        seen += 100;
    }
    // The slow viewer was written what its socket accepted; nothing beyond the ring is kept for it.
    let sent = reader.metric("messages_total");
    assert!(sent < 2 * seen, "{sent} of {}", 2 * seen);
    let mut slow = Viewer::from(slow).await;
    slow.greeted().await;
    let (mut at, mut gaps) = (0, 0);
    while at < seen {
        let event = slow.next().await.unwrap();
        let json = event.json();
        if event.kind.as_deref() == Some("gap") {
            assert_eq!(json["from"], at + 1);
            at = json["to"].as_u64().unwrap();
            gaps += 1;
        } else {
            at += 1;
            assert_eq!(json["seq"], at);
        }
    }
    assert!(gaps > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_in_one_room_each_get_everything_once() {
    const VIEWERS: usize = 5_000;
    const COMMENTS: u64 = 40;
    // Both ends of every connection are in this process, so it needs two files for each viewer.
    let files = liverank_runtime::server::raise_file_limit();
    assert!(files > 2 * VIEWERS as u64 + 500, "needs {} open files, may have {files}", 2 * VIEWERS + 500);
    let world = World::new().await;
    let reader = Running::start(&world, config("r1")).await;
    let mut viewers = Vec::new();
    for _ in 0..VIEWERS {
        let mut viewer = Viewer::get(&reader.address, "v", None).await;
        viewer.greeted().await;
        viewers.push(viewer);
    }
    assert_eq!(reader.health().await["activeConnections"], VIEWERS);
    let comments = world.archived("v", COMMENTS).await;
    let posting = async {
        for comment in &comments {
            world.publish(std::slice::from_ref(comment)).await;
            tokio::task::yield_now().await;
        }
    };
    let reading = futures::future::join_all(viewers.iter_mut().map(|viewer| viewer.comments(COMMENTS)));
    let ((), seen) = tokio::join!(posting, reading);
    assert!(seen.iter().all(|seqs| seqs.iter().copied().eq(1..=COMMENTS)));
    // Under load, comments are joined: there are fewer writes than comments.
    let all = VIEWERS as u64 * COMMENTS;
    until("all to be counted", async || reader.metric("messages_total") == all).await;
    let (messages, writes) = (all, reader.metric("socket_writes_total"));
    assert!(writes - (VIEWERS as u64) < messages / 2, "{writes} writes for {messages} comments");
}

/// Connects a viewer from 127.0.0.`host`.
async fn viewer_at(host: u8, address: &str) -> Viewer {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, host], 0))).unwrap();
    let mut stream = socket.connect(address.parse().unwrap()).await.unwrap();
    stream.write_all(b"GET /connect?userid=u&videoid=v HTTP/1.1\r\nHost: t\r\n\r\n").await.unwrap();
    Viewer::from(stream).await
}

#[tokio::test]
async fn a_host_that_holds_all_places_of_a_full_reader_gives_some_to_other_hosts() {
    let world = World::new().await;
    let reader = Running::start(&world, Config { capacity: 4, ..config("r1") }).await;
    let mut hog = Vec::new();
    for _ in 0..4 {
        let mut viewer = viewer_at(1, &reader.address).await;
        viewer.greeted().await;
        hog.push(viewer);
    }
    assert_eq!(viewer_at(1, &reader.address).await.status(), 503, "it has its share");
    let mut guests = Vec::new();
    for _ in 0..2 {
        let mut guest = viewer_at(2, &reader.address).await;
        guest.greeted().await;
        guests.push(guest);
    }
    assert_eq!(viewer_at(2, &reader.address).await.status(), 503, "each has as many now");
    until("two of the first have left", async || reader.health().await["activeConnections"] == 4).await;
    assert_eq!(reader.metric("ended_for_others_total"), 2);
    world.post("v", 1).await;
    for guest in &mut guests {
        assert_eq!(guest.comments(1).await, [1]);
    }
    let ends =
        futures::future::join_all(hog.into_iter().map(async |mut viewer| viewer.next().await.is_none()));
    assert_eq!(ends.await.into_iter().filter(|ended| *ended).count(), 2, "the others see the comment");
}
