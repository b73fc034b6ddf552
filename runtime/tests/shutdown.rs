//! Tests which connections a server waits for when it shuts down.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use liverank_protocol::access::CalledService;
use liverank_runtime::{ServiceContext, server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// The time within which the server must end: less than the ten seconds that a connection has for its first request,
/// and far less than the drain time.
const END_TIMEOUT: Duration = Duration::from_secs(5);

static REQUEST_ARRIVED: Notify = Notify::const_new();
static ANSWER_NOW: Notify = Notify::const_new();

async fn start_server() -> (ServiceContext, SocketAddr, JoinHandle<anyhow::Result<()>>) {
    let context = ServiceContext::new(Duration::from_mins(10));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let slow = || async {
        REQUEST_ARRIVED.notify_one();
        ANSWER_NOW.notified().await;
        "answered"
    };
    let router = Router::new().route("/well", get(|| async { "well" })).route("/slow", get(slow));
    let serving = context.clone();
    (
        context,
        address,
        tokio::spawn(async move {
            server::serve_until_shutdown(CalledService::Reader, listener, router, &serving).await
        }),
    )
}

async fn send_request(connection: &mut TcpStream, path: &str) {
    let head = format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n");
    connection.write_all(head.as_bytes()).await.unwrap();
}

/// Reads from the connection until the bytes end with `end`.
async fn read_to(connection: &mut TcpStream, end: &str) {
    let mut read = Vec::new();
    while !read.ends_with(end.as_bytes()) {
        read.push(connection.read_u8().await.unwrap());
    }
}

#[tokio::test]
async fn connections_that_ask_for_nothing_do_not_keep_a_server_and_a_request_does() {
    let (context, address, served) = start_server().await;
    let mut opened_in_advance = TcpStream::connect(address).await.unwrap();
    let mut kept_alive = TcpStream::connect(address).await.unwrap();
    send_request(&mut kept_alive, "/well").await;
    read_to(&mut kept_alive, "well").await;
    let mut waiting = TcpStream::connect(address).await.unwrap();
    send_request(&mut waiting, "/slow").await;
    // By now all three connections are accepted, because they are accepted in the order in which they came.
    REQUEST_ARRIVED.notified().await;
    context.shutdown.cancel();
    for connection in [&mut opened_in_advance, &mut kept_alive] {
        let rest = tokio::time::timeout(END_TIMEOUT, connection.read(&mut [0; 16])).await;
        assert_eq!(rest.expect("it is closed").unwrap(), 0);
    }
    assert!(!served.is_finished(), "a request is on its way");
    ANSWER_NOW.notify_one();
    read_to(&mut waiting, "answered").await;
    tokio::time::timeout(END_TIMEOUT, served).await.expect("nothing is left").unwrap().unwrap();
}
