//! Targets for the bytes of a connection: HTTP requests, headers of the PROXY protocol, compressed bodies.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, mpsc};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use liverank_protocol::access::CalledService;
use liverank_runtime::body::{self, JsonObject, MAX_BODY_BYTES};
use liverank_runtime::origins::AllowedOrigins;
use liverank_runtime::params::QueryParams;
use liverank_runtime::problem::PortOwner;
use liverank_runtime::server::proxy_protocol;
use liverank_runtime::server::{self, Hijack, RequestExchange};
use liverank_runtime::websocket::check_handshake;
use liverank_runtime::{Problem, ServiceContext};
use tokio::io::AsyncWriteExt;

/// The server's time limits in this target: longer than anything that does not wait for its client.
const SERVER_TIMEOUT: Duration = Duration::from_secs(20);
/// The greatest length of the answer to one request of this target, in bytes.
const MAX_ANSWER_BYTES: usize = 4096;
/// The least length of a request, in bytes.
const MIN_REQUEST_BYTES: usize = 16;

thread_local! {
    static RUNTIME: tokio::runtime::Runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
}

/// Runs a future to its end on the current thread; it must not wait for anything else.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.with(|runtime| runtime.block_on(future))
}

pub(crate) fn proxy_protocol(bytes: &[u8]) {
    let mut rest = bytes;
    if block_on(proxy_protocol::read_header(&mut rest)).is_err() {
        return;
    }
    // The bytes after the header are neither read nor of influence.
    let (header, followed) = bytes.split_at(bytes.len() - rest.len());
    assert!(header.len() <= 16 + 4096 && rest == followed);
    let mut alone = header;
    assert!(block_on(proxy_protocol::read_header(&mut alone)).is_ok() && alone.is_empty());
}

pub(crate) fn gzip(bytes: &[u8]) {
    let headers = HeaderMap::from_iter([(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"))]);
    match block_on(body::read_body(&headers, Body::from(bytes.to_vec()), MAX_BODY_BYTES)) {
        Ok(read) => assert!(read.len() <= MAX_BODY_BYTES),
        Err(problem) => assert!(problem.detail().len() <= 1024, "{}", problem.detail()),
    }
}

async fn hijack_echo() -> Response {
    let mut answer = "dropped".into_response();
    answer.extensions_mut().insert(Hijack::new(|bare| {
        tokio::spawn(async move {
            let Ok(mut socket) = tokio::net::TcpStream::from_std(bare.socket) else { return };
            let _ = socket.write_all(&bare.answer_head).await;
            let _ = socket.write_all(b"bare").await;
            drop(bare.slot);
        });
    }));
    answer
}

async fn echo_body(
    exchange: RequestExchange,
    params: QueryParams,
    JsonObject(body): JsonObject,
) -> Result<Response, Problem> {
    params.expect_only(&["videoid"])?;
    Ok(format!("{} members from {}", body.len(), exchange.client()).into_response())
}

async fn websocket_handshake(request: Request) -> Response {
    let (parts, _) = request.into_parts();
    match check_handshake(&parts, &AllowedOrigins::default()) {
        Ok(_) => "a handshake".into_response(),
        Err(refused) => *refused,
    }
}

/// The name of the server's thread, by which its panics are recognised.
const SERVER_THREAD_NAME: &str = "served";
/// The number of panics of the server's thread. The server confines a panic to its connection, so the target would not
/// notice it otherwise.
static PANIC_COUNT: AtomicUsize = AtomicUsize::new(0);

fn count_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().name() == Some(SERVER_THREAD_NAME) {
            PANIC_COUNT.fetch_add(1, Ordering::SeqCst);
        }
        before(panic);
    }));
}

/// The address of a server in this process with routes for plain requests, bodies, WebSocket handshakes and hijacked
/// sockets; it starts at the first use.
static SERVER_ADDRESS: LazyLock<SocketAddr> = LazyLock::new(|| {
    let (tell, told) = mpsc::channel();
    count_panics();
    let serve = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let router = Router::new()
                .route("/plain", get("plain"))
                .route("/bare", get(hijack_echo))
                .route("/body", post(echo_body))
                .route("/ws", get(websocket_handshake));
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
            tell.send(listener.local_addr().expect("it listens")).expect("somebody waits for it");
            let shell = ServiceContext::new(SERVER_TIMEOUT);
            server::serve_until_shutdown(
                CalledService::Gateway,
                listener,
                server::with_problem_fallbacks(PortOwner::Service(CalledService::Gateway), router),
                &shell,
            )
            .await
        })
    };
    std::thread::Builder::new().name(SERVER_THREAD_NAME.to_owned()).spawn(serve).expect("a thread");
    told.recv().expect("the server is there")
});

pub(crate) fn http(bytes: &[u8]) {
    let mut client = TcpStream::connect(*SERVER_ADDRESS).expect("the server takes connections");
    client.set_read_timeout(Some(SERVER_TIMEOUT)).expect("a time");
    // The server may have closed the connection already, because it need not read a request that it refuses.
    let _ = client.write_all(bytes).and_then(|()| client.shutdown(Shutdown::Write));
    let mut answers = Vec::new();
    let read = client.read_to_end(&mut answers);
    let kind = read.as_ref().err().map(std::io::Error::kind);
    assert!(
        !matches!(kind, Some(std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)),
        "who sent all that it sends is left without an answer or an end"
    );
    assert_eq!(PANIC_COUNT.load(Ordering::SeqCst), 0, "the server panicked");
    assert!(answers.is_empty() || answers.starts_with(b"HTTP/1."), "{}", answers.escape_ascii());
    let most = (1 + bytes.len() / MIN_REQUEST_BYTES) * MAX_ANSWER_BYTES;
    assert!(answers.len() <= most, "{} bytes for {}", answers.len(), bytes.len());
}
