//! Answers that continue on the raw socket: a handler that writes for hours needs neither a task nor HTTP's buffers for
//! it.
//!
//! The handler puts a [`Hijack`] into the extensions of its answer. The answer goes through every layer as any other
//! does. Then the socket is taken away from hyper, and the handler's function is called with the socket and the encoded
//! head. Everything that is written after the head is the answer's body, until the socket is closed.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, Response, StatusCode, header};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use rustls::ServerConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;

use super::clock::ConnectionTimer;
use super::stream::Stream;

/// A connection's socket after it was taken away from hyper.
#[derive(Debug)]
pub struct RawConnection {
    /// The socket: non-blocking, and not registered with the async runtime any more. Nothing of the answer has been
    /// written to it.
    pub socket: std::net::TcpStream,
    /// The TLS state if the connection uses TLS. All reads and writes have to go through it, and it may hold bytes that
    /// are not sent yet.
    pub tls_state: Option<Box<ServerConnection>>,
    /// The answer's head: status and headers, encoded, with the blank line after them.
    pub answer_head: Vec<u8>,
    /// The connection's place within the port's limit; it must be kept for as long as the socket.
    pub slot: ConnectionSlot,
}

/// The place of a connection within the limit of its port; free again when this is dropped.
pub type ConnectionSlot = OwnedSemaphorePermit;

type HijackHandler = Box<dyn FnOnce(RawConnection) + Send>;

/// An extension of an answer by which its handler takes over the socket of the connection. All clones share one
/// handler, which is called at most once.
#[derive(Clone)]
pub struct Hijack(Arc<Mutex<Option<HijackHandler>>>);

impl Hijack {
    /// Creates an extension that calls `then` with the socket after the answer has gone through all layers. `then` is
    /// dropped without a call if the connection ends before that, or the answer has no body.
    pub fn new(then: impl FnOnce(RawConnection) + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Some(Box::new(then)))))
    }

    fn hand_over(&self, bare: RawConnection) {
        if let Some(then) = lock(&self.0).take() {
            then(bare);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The socket of a connection while hyper uses it, and the clock of its time limits. All clones share the socket and
/// the clock.
#[derive(Clone)]
pub(super) struct Socket(Arc<Mutex<SocketState>>);

struct SocketState {
    /// The stream and its place; `None` once a handler has taken over the socket.
    stream: Option<(Stream, ConnectionSlot)>,
    timer: ConnectionTimer,
}

impl Socket {
    pub(super) fn new(stream: Stream, place: ConnectionSlot, now: Instant, keep_alive: Duration) -> Self {
        let timer = ConnectionTimer::new(now, keep_alive);
        Self(Arc::new(Mutex::new(SocketState { stream: Some((stream, place)), timer })))
    }

    /// Calls `act` with the clock of this connection.
    pub(super) fn with_timer<T>(&self, act: impl FnOnce(&mut ConnectionTimer) -> T) -> T {
        act(&mut lock(&self.0).timer)
    }

    /// Completes when the peer has shut down its sending side. Callers may call the method only while nothing else
    /// reads from the socket.
    pub(super) async fn peer_closed_sending(&self) {
        let end = poll_fn(|context| self.with_stream(|stream| stream.get_mut().poll_peek(context)));
        // If bytes of a next request have arrived, the end cannot be seen behind them. An error will be found by the
        // next write.
        if !matches!(end.await, Ok(0)) {
            std::future::pending::<()>().await;
        }
    }

    /// Reads bytes from the peer; returns their number, 0 at the end.
    pub(super) async fn read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        poll_fn(|context| {
            let mut buffer = ReadBuf::new(bytes);
            let read = self.with_stream(|stream| stream.poll_read(context, &mut buffer));
            read.map_ok(|()| buffer.filled().len())
        })
        .await
    }

    /// Hands the socket over to the answer's [`Hijack`], if it has one. Returns `true` if the socket does not belong to
    /// hyper any more.
    pub(super) fn hand_over_if_hijacked<B>(&self, answer: &mut Response<B>) -> bool {
        let Some(takeover) = answer.extensions_mut().remove::<Hijack>() else { return false };
        let Some((stream, place)) = lock(&self.0).stream.take() else { return true };
        // This fails only if the socket is broken, and then nobody can be answered.
        if let Ok((socket, tls)) = stream.into_raw() {
            takeover.hand_over(RawConnection {
                socket,
                tls_state: tls,
                answer_head: encode_answer_head(answer.status(), answer.headers()),
                slot: place,
            });
        }
        true
    }

    fn with_stream<T>(
        &self,
        act: impl FnOnce(Pin<&mut Stream>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match lock(&self.0).stream.as_mut() {
            Some((stream, _)) => act(Pin::new(stream)),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl Socket {
    /// Notes the result of a write in the clock: the bytes that the peer accepted, or that it accepts none for now.
    fn note_write(&self, wrote: &Poll<io::Result<usize>>) {
        match wrote {
            Poll::Pending => self.with_timer(|clock| clock.note_peer_full(Instant::now())),
            Poll::Ready(Ok(bytes)) => self.with_timer(|clock| clock.note_bytes_read_by_peer(*bytes as u64)),
            Poll::Ready(Err(_)) => {}
        }
    }
}

/// Encodes the head of an answer whose body has no length: the body ends with the connection.
fn encode_answer_head(status: StatusCode, headers: &HeaderMap) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status}\r\n").into_bytes();
    for (name, value) in headers.iter().filter(|(name, _)| **name != header::CONTENT_LENGTH) {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    if let Ok(date) = DateTimePrinter::new().timestamp_to_rfc9110_string(&Timestamp::now()) {
        head.extend_from_slice(format!("date: {date}\r\n").as_bytes());
    }
    head.extend_from_slice(b"connection: close\r\n\r\n");
    head
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = self.with_stream(|stream| stream.poll_read(context, buffer));
        if buffer.filled().len() > before {
            self.with_timer(|clock| clock.note_received(Instant::now()));
        }
        read
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = self.with_stream(|stream| stream.poll_write(context, bytes));
        self.note_write(&wrote);
        wrote
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = self.with_stream(|stream| stream.poll_write_vectored(context, slices));
        self.note_write(&wrote);
        wrote
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes when it has nothing left to write, but TLS may still hold bytes.
        let flushed = self.with_stream(|stream| stream.poll_flush(context));
        match flushed {
            Poll::Pending => self.with_timer(|clock| clock.note_peer_full(Instant::now())),
            Poll::Ready(_) => self.with_timer(ConnectionTimer::note_flushed),
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with_stream(|stream| stream.poll_shutdown(context))
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::HeaderValue;
    use axum::middleware::map_response;
    use axum::response::{IntoResponse, Response};
    use axum::routing::get;
    use liverank_protocol::access::CalledService;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::{ServiceContext, server};

    async fn hijacked_answer() -> Response {
        tokio::task::yield_now().await;
        let mut answer = ([(header::CONTENT_TYPE, "text/plain")], "dropped").into_response();
        answer.extensions_mut().insert(Hijack::new(|bare| {
            tokio::spawn(async move {
                let mut socket = TcpStream::from_std(bare.socket).unwrap();
                socket.write_all(&bare.answer_head).await.unwrap();
                socket.write_all(b"bare").await.unwrap();
                drop(bare.slot);
            });
        }));
        answer
    }

    async fn mark_answer(mut answer: Response) -> Response {
        answer.headers_mut().insert("x-layer", HeaderValue::from_static("yes"));
        answer
    }

    async fn answers_to(requests: &str) -> String {
        let router = Router::new()
            .route("/bare", get(hijacked_answer))
            .route("/plain", get("plain"))
            .layer(map_response(mark_answer));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let shell = ServiceContext::new(Duration::from_secs(5));
        let served = shell.clone();
        let serving = tokio::spawn(async move {
            server::serve_until_shutdown(CalledService::Reader, listener, router, &served).await
        });
        client.write_all(requests.as_bytes()).await.unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        shell.shutdown.cancel();
        serving.await.unwrap().unwrap();
        text
    }

    #[tokio::test]
    async fn a_hijacked_answer_passes_the_layers_and_then_takes_the_socket() {
        let text =
            answers_to("GET /plain HTTP/1.1\r\nHost: t\r\n\r\nGET /bare HTTP/1.1\r\nHost: t\r\n\r\n").await;
        let (head, body) = text.rsplit_once("\r\n\r\n").unwrap();
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.contains("\r\n\r\nplain"), "{text}");
        assert_eq!(body, "bare");
        let head = head.rsplit_once("HTTP/1.1 200 OK\r\n").unwrap().1;
        for line in ["content-type: text/plain", "x-layer: yes", "connection: close"] {
            assert!(head.lines().any(|found| found == line), "{line} is not in {head}");
        }
        assert!(head.contains("date: ") && !head.contains("content-length"), "{head}");
    }

    #[tokio::test]
    async fn an_answer_without_a_body_is_not_hijacked() {
        let text = answers_to("HEAD /bare HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n").await;
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("\r\n\r\n"), "{text}");
    }
}
