//! Every WebSocket, passed through: the handshake goes to a replica, and from there on bytes are copied both ways.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use liverank_runtime::Problem;

use crate::Gateway;
use crate::auth::Caller;
use crate::proxy::{relay, send};
use crate::upstream::strip_hop;
use liverank_runtime::process::confined;
use liverank_runtime::streams::StreamPermit;

/// How long both ends may take to hand over their connection after the 101.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(5);
/// Buffers of one connection: clients say almost nothing, lists come in large frames.
const TO_SERVICE_BYTES: usize = 1024;
const TO_CLIENT_BYTES: usize = 16 * 1024;

/// `GET /ws/videos`.
pub(crate) async fn to_lists(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    to_websocket(&gateway, &caller, request).await
}

/// `GET /ws/user/{user_id}`. One who is none is the service's to refuse.
pub(crate) async fn to_lists_of_a_user(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    user: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    if let Ok(Path(user)) = user {
        caller.expect("user_id", &user)?;
    }
    to_websocket(&gateway, &caller, request).await
}

async fn to_websocket(gateway: &Gateway, caller: &Caller, mut request: Request) -> Result<Response, Problem> {
    if !wants_websocket(&request) {
        return asked_without_handshake(gateway, caller, request).await;
    }
    let Some(stay) = gateway.streams.enter() else {
        return Err(Problem::unavailable("there is no room for another WebSocket here: try again"));
    };
    let client = hyper::upgrade::on(&mut request);
    let mut parts = for_the_service(caller, request);
    ask_for_websocket(&mut parts.headers);
    let mut response = send(gateway, &gateway.websocket, &parts, &Bytes::new()).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(refused(relay(response)));
    }
    let service = hyper::upgrade::on(&mut response);
    gateway.streams.tasks.spawn(confined(tunnel(client, service, stay)));
    let (mut parts, _) = response.into_parts();
    strip_hop(&mut parts.headers);
    ask_for_websocket(&mut parts.headers);
    Ok(Response::from_parts(parts, Body::empty()))
}

/// A browser's script is not told why a handshake was refused. It asks again without one, and the service says what is
/// wrong with the request, or that nothing is (426).
async fn asked_without_handshake(
    gateway: &Gateway,
    caller: &Caller,
    request: Request,
) -> Result<Response, Problem> {
    let parts = for_the_service(caller, request);
    Ok(refused(relay(send(gateway, &gateway.websocket, &parts, &Bytes::new()).await?)))
}

/// The head of a request without what belongs to this hop.
fn for_the_service(caller: &Caller, request: Request) -> Parts {
    let (mut parts, _) = request.into_parts();
    caller.strip(&mut parts.headers, &mut parts.uri);
    strip_hop(&mut parts.headers);
    parts.headers.remove(header::HOST);
    parts
}

fn wants_websocket(request: &Request) -> bool {
    let upgrade = request.headers().get(header::UPGRADE);
    request.method() == Method::GET
        && upgrade.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// A refusal of the service's, with what it says of this hop, if anything.
fn refused(mut response: Response) -> Response {
    if response.status() == StatusCode::UPGRADE_REQUIRED {
        ask_for_websocket(response.headers_mut());
    }
    response
}

/// The two headers of a handshake that belong to one hop.
fn ask_for_websocket(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

/// Copies until either end closes, or until it is this connection's turn to leave.
async fn tunnel(client: OnUpgrade, service: OnUpgrade, mut stay: StreamPermit) {
    let both = async { tokio::try_join!(client, service) };
    let Ok(Ok((client, service))) = tokio::time::timeout(HANDOVER_TIMEOUT, both).await else { return };
    let io = |upgraded: Upgraded| TokioIo::new(upgraded);
    let (mut client, mut service) = (io(client), io(service));
    let copied = tokio::io::copy_bidirectional_with_sizes(
        &mut client,
        &mut service,
        TO_SERVICE_BYTES,
        TO_CLIENT_BYTES,
    );
    // Either way both ends close: whoever still wants lists connects again, elsewhere.
    tokio::select! {
        _ = copied => {}
        () = stay.leave.as_mut() => {}
    }
}
