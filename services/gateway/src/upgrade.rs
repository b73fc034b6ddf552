//! The tunnel of `WebSockets`: the handshake goes to a replica of the websocket service, and from then on bytes are
//! copied both ways.
//!
//! The tunnel knows where frames end. So if the gateway has to end a connection, or the service behind it is gone, the
//! tunnel sends the client a close frame of its own. A browser whose connection is cut without a close frame is told no
//! reason (1006), and libraries treat that as a failure.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use liverank_core::canary;
use liverank_runtime::server::RequestExchange;
use liverank_runtime::streams::StreamPermit;
use liverank_runtime::websocket::{self, FrameFollower, check_handshake, set_upgrade_headers};
use liverank_runtime::{Problem, problem};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::Gateway;
use crate::auth::Caller;
use crate::auth::session::{TokenEndFuture, token_end_of_caller};
use crate::proxy::{add_identity, relay_response, send_to_replicas};
use crate::upstream::strip_hop_by_hop_headers;
use liverank_runtime::process::confine_panics;

/// Maximum time after the 101 until the connections of both ends can carry frames.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(5);
/// The size in bytes of the buffer from the client to the service: clients send almost nothing.
const TO_SERVICE_BUFFER_BYTES: usize = 1024;
/// The size in bytes of the buffer from the service to the client: lists come in large frames.
const TO_CLIENT_BUFFER_BYTES: usize = 16 * 1024;
/// Maximum time for the rest of a frame before a close frame: the frame under way is a list, and the client reads it.
const UNFINISHED_FRAME_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum wait for the client's answer to a close frame: closing at once could discard the frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Answers `GET /ws/videos` with a WebSocket of ranked lists.
pub(crate) async fn open_list_websocket(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    exchange: RequestExchange,
    request: Request,
) -> Result<Response, Problem> {
    upgrade_to_websocket(&gateway, &caller, &exchange, request).await
}

/// Answers `GET /ws/user/{user_id}` with a WebSocket of one owner's lists. An invalid user id passes, because the
/// service refuses it.
pub(crate) async fn open_user_list_websocket(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    exchange: RequestExchange,
    user: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    if let Ok(Path(user)) = user {
        caller.expect_user("user_id", &user)?;
        canary::refuse_canary_user("user_id", &user)?;
    }
    upgrade_to_websocket(&gateway, &caller, &exchange, request).await
}

async fn upgrade_to_websocket(
    gateway: &Arc<Gateway>,
    caller: &Caller,
    exchange: &RequestExchange,
    mut request: Request,
) -> Result<Response, Problem> {
    let client = hyper::upgrade::on(&mut request);
    let (parts, _) = request.into_parts();
    if let Err(refused) = check_handshake(&parts, &gateway.origins) {
        if parts.headers.contains_key(header::UPGRADE) {
            return Ok(*refused);
        }
        return answer_without_handshake(gateway, caller, exchange, parts).await;
    }
    let place = gateway.limits.count_stream(caller)?;
    let Some(stay) = gateway.streams.admit_stream(exchange.client()) else {
        return Err(Problem::part_unavailable("there is no room for another WebSocket here: try again")
            .with_retry_after(problem::STORE_RETRY_AFTER));
    };
    let mut parts = build_service_request(gateway, caller, exchange, parts);
    set_upgrade_headers(&mut parts.headers);
    let mut response = send_to_replicas(gateway, &gateway.websocket, &parts, &Bytes::new()).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(refused_response(relay_response(response)));
    }
    let service = hyper::upgrade::on(&mut response);
    let session = token_end_of_caller(gateway, caller);
    gateway.streams.stream_tasks.spawn(confine_panics(async move {
        run_tunnel(client, service, stay, session).await;
        drop(place);
    }));
    let (mut parts, _) = response.into_parts();
    strip_hop_by_hop_headers(&mut parts.headers);
    set_upgrade_headers(&mut parts.headers);
    Ok(Response::from_parts(parts, Body::empty()))
}

/// Answers a request without a WebSocket handshake. A browser's script is not told why a handshake was refused, so it
/// asks again without one. The service then answers what is wrong with the request, or 426 if nothing is.
async fn answer_without_handshake(
    gateway: &Gateway,
    caller: &Caller,
    exchange: &RequestExchange,
    parts: Parts,
) -> Result<Response, Problem> {
    let parts = build_service_request(gateway, caller, exchange, parts);
    Ok(refused_response(relay_response(
        send_to_replicas(gateway, &gateway.websocket, &parts, &Bytes::new()).await?,
    )))
}

/// Returns the head of the request to the service, without the headers that belong to the client's connection.
fn build_service_request(
    gateway: &Gateway,
    caller: &Caller,
    exchange: &RequestExchange,
    mut parts: Parts,
) -> Parts {
    strip_hop_by_hop_headers(&mut parts.headers);
    exchange.set_forwarded_header(&mut parts.headers);
    add_identity(gateway, &gateway.websocket, caller, &mut parts);
    parts.headers.remove(header::HOST);
    parts
}

/// Returns the service's refusal of a handshake; a 426 gets the headers of this connection.
fn refused_response(mut response: Response) -> Response {
    if response.status() == StatusCode::UPGRADE_REQUIRED {
        set_upgrade_headers(response.headers_mut());
    }
    response
}

/// Copies bytes both ways until either end closes, or until the gateway has to end this connection.
async fn run_tunnel(client: OnUpgrade, service: OnUpgrade, stay: StreamPermit, session: TokenEndFuture) {
    let both = async { tokio::try_join!(client, service) };
    let Ok(Ok((client, service))) = tokio::time::timeout(UPGRADE_TIMEOUT, both).await else { return };
    copy_both_ways(TokioIo::new(client), TokioIo::new(service), stay, session).await;
}

async fn copy_both_ways(
    client: impl AsyncRead + AsyncWrite,
    service: impl AsyncRead + AsyncWrite,
    mut stay: StreamPermit,
    mut session: TokenEndFuture,
) {
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_service, mut to_service) = tokio::io::split(service);
    let mut frames = FrameFollower::default();
    let last = {
        let said = async {
            let mut buffer = [0; TO_SERVICE_BUFFER_BYTES];
            loop {
                match from_client.read(&mut buffer).await {
                    Ok(count @ 1..) => to_service.write_all(&buffer[..count]).await?,
                    Ok(0) => break,
                    Err(error) => return Err(error),
                }
            }
            to_service.shutdown().await?;
            // The service answers the shutdown by closing.
            std::future::pending::<std::io::Result<()>>().await
        };
        let lists =
            copy_frames_to_client(&mut from_service, &mut to_client, &mut frames, &mut stay, &mut session);
        tokio::select! {
            last = lists => last.unwrap_or_default(),
            _ = said => return,
        }
    };
    if let Some(last) = last.filter(|_| !frames.has_close_frame())
        && to_client.write_all(&last).await.is_err()
    {
        return;
    }
    let rest = async {
        let _ = to_client.shutdown().await;
        let mut buffer = [0; TO_SERVICE_BUFFER_BYTES];
        while matches!(from_client.read(&mut buffer).await, Ok(1..)) {}
    };
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, rest).await;
}

/// Copies frames from the service to the client, until the service closes, the gateway has to end the connection, or
/// the client's token is not valid any more. Returns the close frame to send; `None` if the last frame that was sent
/// is not whole.
async fn copy_frames_to_client(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    frames: &mut FrameFollower,
    stay: &mut StreamPermit,
    session: &mut TokenEndFuture,
) -> std::io::Result<Option<Bytes>> {
    let restart = websocket::close_frame(websocket::RESTART_STATUS);
    let mut buffer = vec![0; TO_CLIENT_BUFFER_BYTES];
    let last = loop {
        let count = tokio::select! {
            biased;
            () = stay.leave_signal.as_mut() => break restart,
            end = session.as_mut() => break end.close_frame(),
            count = from.read(&mut buffer) => count?,
        };
        if count == 0 {
            return Ok(frames.is_between_frames().then_some(restart));
        }
        frames.pass_all(&buffer[..count]);
        to.write_all(&buffer[..count]).await?;
        to.flush().await?;
    };
    let mut rest = pin!(tokio::time::sleep(UNFINISHED_FRAME_TIMEOUT));
    while !frames.is_between_frames() {
        let count = tokio::select! {
            () = rest.as_mut() => return Ok(None),
            count = from.read(&mut buffer) => count?,
        };
        if count == 0 {
            return Ok(None);
        }
        let end = frames.pass_one_frame(&buffer[..count]);
        to.write_all(&buffer[..end]).await?;
    }
    Ok(Some(last))
}

#[cfg(test)]
mod tests {
    use liverank_runtime::ServiceContext;
    use liverank_runtime::streams::Streams;
    use prometheus_client::metrics::gauge::Gauge;
    use tokio::io::{DuplexStream, duplex};

    use super::*;

    /// Returns a client's end and a service's end of a tunnel, and the context whose shutdown ends the process.
    fn tunnel_ends() -> (DuplexStream, DuplexStream, ServiceContext) {
        let shell = ServiceContext::new(Duration::from_millis(50));
        let streams = Streams::new(1, &shell, Gauge::default());
        let stay = streams.admit_stream([127, 0, 0, 1].into()).unwrap();
        let ((client, near), (service, far)) = (duplex(1 << 20), duplex(1 << 20));
        tokio::spawn(copy_both_ways(near, far, stay, Box::pin(std::future::pending())));
        (client, service, shell)
    }

    async fn read_all(client: &mut DuplexStream) -> Vec<u8> {
        let mut bytes = Vec::new();
        client.read_to_end(&mut bytes).await.unwrap();
        bytes
    }

    const CLOSE_FRAME: &[u8] = &[0x88, 2, 3, 244];

    #[tokio::test(start_paused = true)]
    async fn a_close_frame_comes_after_the_frame_under_way() {
        let (mut client, mut service, shell) = tunnel_ends();
        service.write_all(&[0x81, 4, b'a', b'b']).await.unwrap();
        client.read_exact(&mut [0; 4]).await.unwrap();
        shell.shutdown.cancel();
        tokio::time::sleep(Duration::from_millis(100)).await;
        // The rest of the frame, and another frame, which comes too late.
        service.write_all(&[b'c', b'd', 0x81, 1, b'x']).await.unwrap();
        assert_eq!(read_all(&mut client).await, [&b"cd"[..], CLOSE_FRAME].concat());
    }

    #[tokio::test]
    async fn a_lost_service_sends_one_restart_close_frame() {
        let (mut client, mut service, _shell) = tunnel_ends();
        service.write_all(&[0x81, 1, b'a']).await.unwrap();
        drop(service);
        assert_eq!(read_all(&mut client).await, [&[0x81, 1, b'a'], CLOSE_FRAME].concat());
        let (mut client, mut service, _shell) = tunnel_ends();
        service.write_all(&[0x88, 2, 3, 233]).await.unwrap();
        drop(service);
        assert_eq!(read_all(&mut client).await, [0x88, 2, 3, 233]);
        // A close frame cannot follow half a frame.
        let (mut client, mut service, _shell) = tunnel_ends();
        service.write_all(&[0x81, 9, b'a']).await.unwrap();
        drop(service);
        assert_eq!(read_all(&mut client).await, [0x81, 9, b'a']);
    }
}
