//! The proxy: passes requests on to the services that answer them, so that a browser needs only one origin.
//!
//! A request's body is read completely first (it is small), so that a slow client keeps none of our connections busy,
//! and a replica that cannot be reached costs only another attempt. Answers are streamed.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{Method, header};
use axum::response::Response;
use bytes::Bytes;
use futures::TryStreamExt;
use http_body_util::{BodyDataStream, Full};
use hyper::body::{Body as _, Incoming};
use liverank_core::VideoId;
use liverank_protocol::access::CalledService;
use liverank_runtime::Problem;
use liverank_runtime::body::{MAX_BODY_BYTES, read_body};
use liverank_runtime::identity::sent;
use liverank_runtime::params::QueryParams;
use liverank_runtime::peer::root_cause;
use liverank_runtime::server::RequestExchange;
use serde_json::Value;

use crate::Gateway;
use crate::auth::{Caller, strip_tokens};
use crate::dependency::PeerService;
use crate::interact::{reserve_place, reserve_place_in};
use crate::upstream::{join_target, strip_hop_by_hop_headers};

/// Maximum time for a service to begin its answer: longer than the service itself waits for the log.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum size of a report in bytes, as the statistics service accepts it.
const MAX_REPORT_BYTES: usize = 2 * 1024 * 1024;
/// Maximum pause of a service within its answer.
const ANSWER_PAUSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Passes a comment on to the comment service.
pub(crate) async fn forward_comment(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    exchange: RequestExchange,
    request: Request,
) -> Result<Response, Problem> {
    let (mut parts, body) = request.into_parts();
    let body = read_whole_body(&parts, body, MAX_BODY_BYTES).await?;
    caller.expect_author(&body)?;
    gateway.limits.count_events(&caller, &exchange, 1)?;
    admit_video(&gateway, &caller, &exchange, &body).await?;
    add_identity(&gateway, &gateway.comment, &caller, &mut parts);
    forward_to_peer(&gateway, &gateway.comment, &exchange, parts, &body).await
}

/// Passes a read request on to the comment service. A token is optional; with a token, the answer also has the comments
/// that only the token's user may see.
pub(crate) async fn forward_to_comment_service(
    State(gateway): State<Arc<Gateway>>,
    exchange: RequestExchange,
    request: Request,
) -> Result<Response, Problem> {
    let (mut parts, body) = request.into_parts();
    let body = read_whole_body(&parts, body, MAX_BODY_BYTES).await?;
    let caller = Caller::of_anybody(&parts, &gateway).await;
    reserve_place_in(&gateway.comment_page_room, &exchange)?;
    add_identity(&gateway, &gateway.comment, &caller, &mut parts);
    forward_to_peer(&gateway, &gateway.comment, &exchange, parts, &body).await
}

/// Passes a request on to a manager.
pub(crate) async fn forward_to_manager(
    State(gateway): State<Arc<Gateway>>,
    exchange: RequestExchange,
    request: Request,
) -> Result<Response, Problem> {
    forward_request(&gateway, &gateway.manager, &exchange, request).await
}

/// Passes the registration of a video on to a manager.
pub(crate) async fn forward_registration(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    exchange: RequestExchange,
    request: Request,
) -> Result<Response, Problem> {
    let (mut parts, body) = request.into_parts();
    let body = read_whole_body(&parts, body, MAX_BODY_BYTES).await?;
    admit_video(&gateway, &caller, &exchange, &body).await?;
    add_identity(&gateway, &gateway.manager, &caller, &mut parts);
    // By the token a manager knows that the video is in somebody's budget here, and not in the one of strangers.
    let token = gateway.identity.authorization_header(CalledService::Manager);
    parts.headers.extend(token.map(|token| (header::AUTHORIZATION, token)));
    forward_to_peer(&gateway, &gateway.manager, &exchange, parts, &body).await
}

/// Checks that the caller may name the body's video, which may be a new one. A body without a video passes, because
/// the service refuses it.
async fn admit_video(
    gateway: &Gateway,
    caller: &Caller,
    exchange: &RequestExchange,
    body: &[u8],
) -> Result<(), Problem> {
    if !gateway.new_video_limits.has_limit() {
        return Ok(());
    }
    // The body is parsed as the services parse it: if a member is there twice, the last one counts.
    let named = serde_json::from_slice::<Value>(body).ok();
    match named.and_then(|named| VideoId::parse(named.get("videoid")?.as_str()?).ok()) {
        Some(video) => gateway.new_video_limits.admit(gateway, caller, exchange, &video).await,
        None => Ok(()),
    }
}

/// Passes a request on to the statistics service.
pub(crate) async fn forward_to_statistics(
    State(gateway): State<Arc<Gateway>>,
    exchange: RequestExchange,
    request: Request,
) -> Result<Response, Problem> {
    let (mut parts, body) = request.into_parts();
    let body = read_whole_body(&parts, body, MAX_REPORT_BYTES).await?;
    // Whole lists are for those who show the statistics service a token of ours, in a header. Any other token ends here.
    let wants_all =
        parts.method == Method::GET && QueryParams::from_uri(&parts.uri).lossy_text("full") == Some("true");
    if wants_all {
        let shown = parts.headers.get(header::AUTHORIZATION).cloned();
        strip_tokens(&mut parts.headers, &mut parts.uri);
        parts.headers.extend(shown.map(|shown| (header::AUTHORIZATION, shown)));
    } else {
        strip_tokens(&mut parts.headers, &mut parts.uri);
    }
    sent::strip_gateway_headers(&mut parts.headers);
    if parts.method == Method::POST {
        // A report then counts for the client that this gateway names, and not for the gateway.
        let token = gateway.identity.bound_authorization_header(CalledService::Statistics);
        parts.headers.extend(token.map(|token| (header::AUTHORIZATION, token)));
    }
    // The permit is taken only once the body is whole, so that a slow sender does not keep others waiting. The bytes
    // of the body are counted elsewhere as they arrive.
    reserve_place_in(&gateway.statistics_room, &exchange)?;
    forward_to_peer(&gateway, &gateway.statistics, &exchange, parts, &body).await
}

async fn forward_request(
    gateway: &Gateway,
    peer: &PeerService,
    exchange: &RequestExchange,
    request: Request,
) -> Result<Response, Problem> {
    let (mut parts, body) = request.into_parts();
    let body = read_whole_body(&parts, body, MAX_BODY_BYTES).await?;
    add_identity(gateway, peer, &Caller::Anyone, &mut parts);
    forward_to_peer(gateway, peer, exchange, parts, &body).await
}

/// Replaces the viewer's token by headers that name the caller to the service. If viewers need tokens, services accept
/// viewers from gateways only, which show a token of their own.
pub(crate) fn add_identity(gateway: &Gateway, peer: &PeerService, caller: &Caller, parts: &mut Parts) {
    strip_tokens(&mut parts.headers, &mut parts.uri);
    sent::strip_gateway_headers(&mut parts.headers);
    let Some(service) = peer.called_service.filter(|_| gateway.auth.is_some()) else { return };
    if let Some(token) = gateway.identity.authorization_header(service) {
        parts.headers.insert(header::AUTHORIZATION, token);
    }
    if let Caller::User(viewer) = caller {
        sent::set_user_headers(&mut parts.headers, &viewer.user_id, viewer.roles);
    }
}

async fn read_whole_body(parts: &Parts, body: Body, max_bytes: usize) -> Result<Bytes, Problem> {
    if body.is_end_stream() { Ok(Bytes::new()) } else { read_body(&parts.headers, body, max_bytes).await }
}

async fn forward_to_peer(
    gateway: &Gateway,
    peer: &PeerService,
    exchange: &RequestExchange,
    mut parts: Parts,
    body: &Bytes,
) -> Result<Response, Problem> {
    strip_hop_by_hop_headers(&mut parts.headers);
    // Both headers are set anew for the connection to the service.
    parts.headers.remove(header::HOST);
    parts.headers.remove(header::CONTENT_LENGTH);
    // The gateway has decompressed the body.
    parts.headers.remove(header::CONTENT_ENCODING);
    parts.headers.remove(header::EXPECT);
    exchange.set_forwarded_header(&mut parts.headers);
    reserve_place(gateway, exchange)?;
    send_to_replicas(gateway, peer, &parts, body).await.map(relay_response)
}

/// Sends a request to the replicas in turn until one answers. After a failure, only a request that may be sent twice
/// is sent to another replica: one that did not reach the first, or one that changes nothing (`GET`, `HEAD`).
pub(crate) async fn send_to_replicas(
    gateway: &Gateway,
    peer: &PeerService,
    parts: &Parts,
    body: &Bytes,
) -> Result<http::Response<Incoming>, Problem> {
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    if peer.replicas.is_none() {
        return Err(peer.absent_problem());
    }
    let harmless = matches!(parts.method, Method::GET | Method::HEAD);
    let mut reason = String::from("no replica is configured");
    for url in peer.urls_in_order() {
        let Ok(uri) = join_target(url, path) else { continue };
        let mut request = http::Request::new(Full::new(body.clone()));
        *request.method_mut() = parts.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = parts.headers.clone();
        let sent = tokio::time::timeout(ANSWER_TIMEOUT, gateway.upstream_client.request(request)).await;
        let unsent = match sent {
            Ok(Ok(response)) => {
                peer.dependency.note_answered();
                return Ok(response);
            }
            Ok(Err(error)) => {
                reason = root_cause(&error);
                error.is_connect()
            }
            Err(_) => {
                reason = format!("no answer within {} s", ANSWER_TIMEOUT.as_secs());
                false
            }
        };
        peer.note_unanswered(url);
        if !unsent && !harmless {
            break;
        }
    }
    Err(peer.away_problem(reason))
}

/// Returns a service's answer as the gateway's own, streamed.
pub(crate) fn relay_response(response: http::Response<Incoming>) -> Response {
    let (mut parts, body) = response.into_parts();
    strip_hop_by_hop_headers(&mut parts.headers);
    let stream = futures::stream::try_unfold(BodyDataStream::new(body), |mut body| async move {
        let next = tokio::time::timeout(ANSWER_PAUSE_TIMEOUT, body.try_next()).await;
        let next = next.map_err(std::io::Error::from)?.map_err(std::io::Error::other)?;
        Ok::<_, std::io::Error>(next.map(|bytes| (bytes, body)))
    });
    Response::from_parts(parts, Body::from_stream(stream))
}
