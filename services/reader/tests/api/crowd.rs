//! Tests with many viewers, many comments a second, and viewers who do not read.

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
