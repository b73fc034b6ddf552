//! The front door's `/connect`: a viewer's comment stream that stays open when the video moves to another reader.
//!
//! The stream is passed through from the reader that serves the video. If that reader ends the stream, dies, or says
//! that another reader serves the video, the gateway connects the viewer to the right reader and resumes after the
//! last event that was passed on, without the client noticing. A valid request is always answered with a stream,
//! because a browser would give up for good on any other answer.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use liverank_core::event::required_text;
use liverank_core::stream_events::{EVENTS_PARAMETER, StreamEvents};
use liverank_core::{StreamPosition, UserId, VideoId, canary};
use liverank_runtime::Problem;
use liverank_runtime::body::JsonObject;
use liverank_runtime::params::{QueryParams, last_event_id};
use liverank_runtime::server::RequestExchange;
use liverank_runtime::streams::{self, accepts_event_streams_only, event_stream};

use crate::Gateway;
use crate::auth::Caller;
use crate::auth::session::{TokenEndFuture, token_end_of_caller};

mod held;
mod reader;
mod routes;
pub(crate) mod scan;
mod viewer;

pub(crate) use held::HeldViewers;
pub(crate) use routes::RouteCache;
use viewer::ViewerStream;

/// A viewer's request for a comment stream: the user, the video and the last event that the client has.
pub(crate) struct StreamRequest {
    user_id: UserId,
    video_id: VideoId,
    /// True if the client asked by `POST`. A client that posts cannot resume, so the reader tells it of gaps in another
    /// way.
    is_post: bool,
    /// The types of events that the client asks for beside comments.
    requested_events: StreamEvents,
    /// The id of the last event that the client has; empty if it has none.
    last_id: String,
    /// Completes when the viewer's token is not valid any more, which ends the stream.
    token_end: TokenEndFuture,
}

/// The query parameters that `GET /connect` accepts. The last two are other spellings of `last_event_id`, which
/// replacements of a browser's `EventSource` use.
const CONNECT_PARAMETERS: [&str; 6] =
    ["userid", "videoid", EVENTS_PARAMETER, "last_event_id", "lastEventId", "lastEventID"];

/// Answers `GET /connect?userid=&videoid=&events=&last_event_id=` with a comment stream.
pub(crate) async fn connect_by_get(
    State(gateway): State<Arc<Gateway>>,
    caller: Result<Caller, Problem>,
    exchange: RequestExchange,
    params: QueryParams,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let caller = match caller {
        Ok(caller) => caller,
        // The keys to check the token are not known yet, so the viewer gets a stream that tells it to come back.
        Err(refused) if is_temporary(&refused) && accepts_event_streams_only(&headers) => {
            return Ok(turned_away_response(&gateway));
        }
        Err(refused) => return Err(refused),
    };
    params.expect_only(&CONNECT_PARAMETERS)?;
    let watch = StreamRequest {
        user_id: UserId::parse_field("userid", params.required_text("userid")?)?,
        video_id: canary::parse_outside_id("videoid", params.required_text("videoid")?)?,
        is_post: false,
        requested_events: StreamEvents::parse(params.optional_text(EVENTS_PARAMETER)?)?,
        last_id: readable_last_event_id(&headers, &params),
        token_end: token_end_of_caller(&gateway, &caller),
    };
    caller.expect_user("userid", watch.user_id.as_str())?;
    if gateway.manager.replicas.is_none() {
        return Err(gateway.manager.absent_problem());
    }
    Ok(open_stream(gateway, watch, &caller, exchange).await)
}

/// Returns true if the same request may be accepted a moment later (503).
fn is_temporary(refused: &Problem) -> bool {
    refused.status() == StatusCode::SERVICE_UNAVAILABLE
}

/// Answers `POST /connect {"userid","videoid"}` with a comment stream.
pub(crate) async fn connect_by_post(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    exchange: RequestExchange,
    params: QueryParams,
    headers: HeaderMap,
    body: JsonObject,
) -> Result<Response, Problem> {
    params.expect_only(&CONNECT_PARAMETERS)?;
    let JsonObject(body) = body;
    let watch = StreamRequest {
        user_id: UserId::parse_field("userid", required_text(&body, "userid")?)?,
        video_id: canary::parse_outside_id("videoid", required_text(&body, "videoid")?)?,
        is_post: true,
        requested_events: StreamEvents::parse(params.optional_text(EVENTS_PARAMETER)?)?,
        last_id: readable_last_event_id(&headers, &params),
        token_end: token_end_of_caller(&gateway, &caller),
    };
    caller.expect_user("userid", watch.user_id.as_str())?;
    if gateway.manager.replicas.is_none() {
        return Err(gateway.manager.absent_problem());
    }
    Ok(open_stream(gateway, watch, &caller, exchange).await)
}

/// The id that replaces every last event id that cannot be read. The reader answers it with a `gap`, as any other bad
/// id.
const UNREADABLE_ID: &str = "unreadable";

fn readable_last_event_id(headers: &HeaderMap, params: &QueryParams) -> String {
    let id = last_event_id(headers, params).unwrap_or_default();
    if id.is_empty() || StreamPosition::parse(&id).is_ok() { id } else { UNREADABLE_ID.to_owned() }
}

/// Returns the comment stream of the canary, whose viewer is this gateway itself; `None` if the gateway has no room
/// for another stream.
pub(crate) fn canary_stream(gateway: &Arc<Gateway>) -> Option<impl Stream<Item = Bytes> + Send + use<>> {
    let watch = StreamRequest {
        user_id: canary::user(),
        video_id: canary::video(),
        is_post: false,
        requested_events: StreamEvents::default(),
        last_id: String::new(),
        token_end: Box::pin(std::future::pending()),
    };
    let stay = gateway.streams.admit_stream(Ipv4Addr::UNSPECIFIED.into())?;
    let viewer = ViewerStream::new(Arc::clone(gateway), watch, stay, RequestExchange::default());
    Some(futures::stream::unfold(viewer, ViewerStream::next).map(|Ok(bytes)| bytes))
}

async fn open_stream(
    gateway: Arc<Gateway>,
    watch: StreamRequest,
    caller: &Caller,
    exchange: RequestExchange,
) -> Response {
    if gateway.new_video_limits.admit(&gateway, caller, &exchange, &watch.video_id).await.is_err() {
        return turned_away_response(&gateway);
    }
    match gateway.limits.count_stream(caller) {
        Ok(place) => exchange.keep_until_answered(place),
        Err(_) => return turned_away_response(&gateway),
    }
    let body = if let Some(stay) = gateway.streams.admit_stream(exchange.client()) {
        let viewer = ViewerStream::new(gateway, watch, stay, exchange);
        Body::from_stream(futures::stream::unfold(viewer, ViewerStream::next))
    } else {
        return turned_away_response(&gateway);
    };
    event_stream(body)
}

/// Returns a stream that only tells the viewer to reconnect, because there is no room for the viewer now.
pub(crate) fn turned_away_response(gateway: &Gateway) -> Response {
    gateway.metrics.turned_away_viewers.inc();
    event_stream(reconnect_event())
}

/// The time after which a client that is sent away reconnects, in milliseconds, drawn at random: short enough to miss
/// little, spread enough that clients do not all come at once.
const RECONNECT_MS: RangeInclusive<u64> = 500..=3_000;

/// Returns the last event of a stream that ends early: it tells the client when to reconnect.
fn reconnect_event() -> Bytes {
    streams::reconnect_event(RECONNECT_MS)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn an_undecodable_last_event_id_is_passed_on_as_unreadable() {
        let of = |query: &str| {
            readable_last_event_id(
                &HeaderMap::new(),
                &QueryParams::from_uri(&format!("/c?{query}").parse().unwrap()),
            )
        };
        assert_eq!(of("last_event_id=x%0d%0ahost:%20y"), UNREADABLE_ID);
        assert_eq!(of(&format!("lastEventId={}", "9".repeat(5000))), UNREADABLE_ID);
        assert_eq!(of("lastEventID=%ff"), UNREADABLE_ID);
        assert_eq!(of("lastEventId=n-1"), "n-1");
        assert_eq!(of(""), "");
        let raw = HeaderMap::from_iter([(
            "last-event-id".parse().unwrap(),
            HeaderValue::from_bytes(&[0xff]).unwrap(),
        )]);
        assert_eq!(readable_last_event_id(&raw, &QueryParams::default()), UNREADABLE_ID);
    }
}
