//! One connection over HTTP/1, from its first request to its end.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;
use tower_service::Service;

use super::clock::HEAD_TIMEOUT;
use super::exchange::RequestExchange;
use super::hijack::Socket;
use super::places::Place;
use super::proxy_protocol::{self, ProxiedSource};
use super::stream::Stream;
use crate::http_args::HttpSettings;

/// The time for which bytes that a client still sends are read and thrown away, after an answer that did not wait for
/// the whole request. To close with unread bytes would reset the connection, and the client would never read the
/// answer.
const LINGER_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest pause between two reads of the bytes that a client still sends after its answer, before the connection
/// is closed.
const LINGER_READ_TIMEOUT: Duration = Duration::from_secs(3);

/// The result with which a connection leaves hyper because a handler has taken over its socket.
#[derive(Debug, thiserror::Error)]
#[error("the handler goes on with the socket")]
struct SocketHandedOver;

/// Serves one connection until it ends, or a handler takes over its socket. After `shutdown`, the connection ends as
/// soon as its answer in flight has been sent.
pub(super) async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    place: Place,
    router: Router,
    settings: HttpSettings,
    shutdown: CancellationToken,
) {
    let keep_alive = settings.keep_alive;
    let Place { permit, mut share } = place;
    let opened = tokio::select! {
        opened = open_stream(stream, peer, &settings) => opened,
        () = shutdown.cancelled() => None,
        () = share.leave_signal.cancelled() => None,
    };
    let Some((stream, peer)) = opened else { return };
    share.move_to_address(peer.ip());
    let socket = Socket::new(stream, permit, Instant::now(), keep_alive);
    let unread = Arc::new(AtomicBool::new(false));
    let (own, half_read) = (socket.clone(), Arc::clone(&unread));
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let exchange = RequestExchange::new(peer, request.headers(), &settings, own.clone());
        let bodiless = request.method() == Method::HEAD;
        let (mut parts, body) = request.into_parts();
        own.with_timer(super::clock::ConnectionTimer::note_request_head);
        half_read.store(!hyper::body::Body::is_end_stream(&body), Ordering::Relaxed);
        let upload = CountedBody { body, exchange: exchange.clone(), is_unread: Arc::clone(&half_read) };
        parts.extensions.insert(ConnectInfo(peer));
        parts.extensions.insert(exchange.clone());
        let (answer, socket) =
            (router.clone().call(hyper::Request::from_parts(parts, Body::new(upload))), own.clone());
        async move {
            let mut answer: Response = answer.await.unwrap_or_else(|never| match never {});
            if !bodiless && socket.hand_over_if_hijacked(&mut answer) {
                return Err(SocketHandedOver);
            }
            close_after_unread_body(&mut answer);
            let sized = answer.headers().contains_key(header::CONTENT_LENGTH)
                || hyper::body::Body::size_hint(answer.body()).exact().is_some();
            socket.with_timer(|clock| clock.note_answer_begun(sized));
            Ok(answer.map(|body| AnswerBody { body, socket, _exchange: exchange }))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // The connection's own clock does that: it tells a head that is arriving from a connection that is idle.
        .header_read_timeout(None)
        // A client that has sent its request and shut down its sending side gets its answer.
        .half_close(true)
        // The default of 400 KiB a connection is for large uploads; requests to liverank are small.
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(socket.clone()), service)
        .with_upgrades();
    let let_finish = |connection: Pin<&mut _>| http1::UpgradeableConnection::graceful_shutdown(connection);
    let served =
        drive_connection(pin!(connection), let_finish, &socket, keep_alive, shutdown, &share.leave_signal)
            .await;
    // An error here is caused by the peer, and is not logged: that could be a log line for each request.
    if served.is_some_and(|ended| ended.is_err() || unread.load(Ordering::Relaxed)) {
        discard_until_closed(&socket).await;
    }
}

/// Drives a connection to its end; `let_finish` makes it stop after the current answer. Returns `None` if the
/// connection was ended from outside: a time limit ran out, another client needed its place, or it had no request after
/// `shutdown`.
async fn drive_connection<C: Future>(
    mut connection: Pin<&mut C>,
    let_finish: fn(Pin<&mut C>),
    socket: &Socket,
    keep_alive: Duration,
    shutdown: CancellationToken,
    leave: &CancellationToken,
) -> Option<C::Output> {
    let mut clock = pin!(tokio::time::sleep(keep_alive));
    let mut shutdown = pin!(shutdown.cancelled_owned());
    let mut leave = pin!(leave.cancelled());
    let (mut leaving, mut makes_room) = (false, false);
    poll_fn(|context| {
        loop {
            if let Poll::Ready(ended) = connection.as_mut().poll(context) {
                return Poll::Ready(Some(ended));
            }
            makes_room = makes_room || leave.as_mut().poll(context).is_ready();
            if !leaving && (makes_room || shutdown.as_mut().poll(context).is_ready()) {
                leaving = true;
                let_finish(connection.as_mut());
                continue;
            }
            // To make room for another client, a connection is closed even while a head arrives: sending one slowly may
            // be a trick to keep the place.
            if makes_room && socket.with_timer(|clock| clock.has_no_request()) {
                return Poll::Ready(None);
            }
            // hyper waits for the first request of a connection that has sent none yet. A connection that a browser or
            // a pool has opened in advance would keep this process alive for as long as a head may take.
            if leaving && socket.with_timer(|clock| clock.is_idle()) {
                return Poll::Ready(None);
            }
            return poll_overdue(socket, clock.as_mut(), context).map(|()| None);
        }
    })
    .await
}

/// Prepares the byte stream on which HTTP is spoken: reads the PROXY protocol's header and makes the TLS handshake,
/// where either is configured. Returns the stream and the client's address; `None` if either failed.
async fn open_stream(
    mut stream: TcpStream,
    peer: SocketAddr,
    settings: &HttpSettings,
) -> Option<(Stream, SocketAddr)> {
    let mut client = peer;
    let address = peer.ip().to_canonical();
    if settings.proxy_protocol_from.iter().any(|balancers| balancers.contains(&address)) {
        let said = tokio::time::timeout(HEAD_TIMEOUT, proxy_protocol::read_header(&mut stream)).await;
        if let ProxiedSource::Client(said) = said.ok()?.ok()? {
            client = said;
        }
    }
    match &settings.tls {
        None => Some((Stream::Plain(stream), client)),
        Some(tls) => Some((Stream::tls(tls.accept(stream).await?), client)),
    }
}

/// Polls the time limits of a connection; the result is ready when one of them has run out. Everything that changes the
/// connection's clock happens within the connection's own poll, so no extra wake-up is needed.
fn poll_overdue(socket: &Socket, mut timer: Pin<&mut Sleep>, context: &mut Context<'_>) -> Poll<()> {
    loop {
        let Some(at) = socket.with_timer(|clock| clock.next_check()) else { return Poll::Pending };
        if timer.deadline().into_std() != at {
            timer.as_mut().reset(at.into());
        }
        ready!(timer.as_mut().poll(context));
        if socket.with_timer(|clock| clock.is_overdue(Instant::now())) {
            return Poll::Ready(());
        }
    }
}

/// Adds `Connection: close` to answers that did not wait for the rest of the request's body, because no other request
/// can follow on the connection.
fn close_after_unread_body(answer: &mut Response) {
    if matches!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT) {
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

/// Reads from the socket and throws the bytes away until the client has closed, too, or the time is up.
async fn discard_until_closed(socket: &Socket) {
    let rest = async {
        let mut bytes = vec![0; 16 * 1024];
        while let Ok(Ok(1..)) = tokio::time::timeout(LINGER_READ_TIMEOUT, socket.read(&mut bytes)).await {}
    };
    let _ = tokio::time::timeout(LINGER_TIMEOUT, rest).await;
}

/// The error of a request body for whose bytes the process has no room.
#[derive(Debug, thiserror::Error)]
#[error("too many bytes of requests are held here")]
pub(crate) struct UploadLimitReached;

/// A request's body that counts its bytes against the process's limit as they arrive.
struct CountedBody {
    body: Incoming,
    exchange: RequestExchange,
    is_unread: Arc<AtomicBool>,
}

impl hyper::body::Body for CountedBody {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if self.body.is_end_stream() || frame.is_none() {
            self.is_unread.store(false, Ordering::Relaxed);
        }
        Poll::Ready(frame.map(|frame| {
            let frame = frame?;
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            if self.exchange.reserve_upload_bytes(bytes) { Ok(frame) } else { Err(UploadLimitReached.into()) }
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body. When it is dropped, the connection is free for the next request, and everything that was held for
/// the current request is released.
struct AnswerBody {
    body: Body,
    socket: Socket,
    _exchange: RequestExchange,
}

impl hyper::body::Body for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        self.socket.with_timer(|clock| clock.note_answer_given(Instant::now()));
    }
}
