//! `/connect` at the front door: a viewer's comment stream that stays, wherever the video moves.
//!
//! The stream goes through to the reader that serves the video. When that reader ends it, dies, or says that the video
//! is elsewhere, the viewer is taken to the right one and resumes after the last event that went by, without noticing.
//! A valid request is always answered with a stream: a browser would give up for good on anything else.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use liverank_core::event::required_text;
use liverank_core::{Invalid, Position, UserId, VideoId};
use liverank_runtime::Problem;
use liverank_runtime::body::JsonObject;
use liverank_runtime::params::Params;

use crate::Gateway;
use crate::auth::Caller;

mod reader;
mod routes;
mod scan;
mod viewer;

pub(crate) use routes::RouteCache;
use viewer::Viewer;

/// Who watches what, from where, and how they asked.
pub(crate) struct Watch {
    user_id: UserId,
    video_id: VideoId,
    /// Clients that post cannot resume: the reader tells them of gaps in another way.
    posted: bool,
    /// The last event that the client has; empty for one that has none.
    last_id: String,
}

/// What `GET /connect` takes. The last two are what stand-ins for a browser's `EventSource` call the third; they stay
/// unread, as such a stand-in also sends the header.
const CONNECT_PARAMETERS: [&str; 5] = ["userid", "videoid", "last_event_id", "lastEventId", "lastEventID"];

/// `GET /connect?userid=&videoid=&last_event_id=`.
pub(crate) async fn by_get(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    params: Params,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    params.only(&CONNECT_PARAMETERS)?;
    let needed = |name| params.get(name).ok_or_else(|| Invalid::missing(name));
    let watch = Watch {
        user_id: UserId::parse_field("userid", needed("userid")?)?,
        video_id: VideoId::parse_field("videoid", needed("videoid")?)?,
        posted: false,
        // A browser that reconnects sends the header, and still the URL that it started with.
        last_id: last_event_id(headers.get("last-event-id"), params.get("last_event_id")),
    };
    caller.expect("userid", watch.user_id.as_str())?;
    if gateway.manager.replicas.is_none() {
        return Err(gateway.manager.absent());
    }
    Ok(stream(gateway, watch))
}

/// `POST /connect {"userid","videoid"}`.
pub(crate) async fn by_post(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    headers: HeaderMap,
    body: JsonObject,
) -> Result<Response, Problem> {
    let JsonObject(body) = body;
    let watch = Watch {
        user_id: UserId::parse_field("userid", required_text(&body, "userid")?)?,
        video_id: VideoId::parse_field("videoid", required_text(&body, "videoid")?)?,
        posted: true,
        last_id: last_event_id(headers.get("last-event-id"), None),
    };
    caller.expect("userid", watch.user_id.as_str())?;
    if gateway.manager.replicas.is_none() {
        return Err(gateway.manager.absent());
    }
    Ok(stream(gateway, watch))
}

/// Stands for every id that is none: the reader answers it with a `gap`, as it does any other bad id.
const UNREADABLE: &str = "unreadable";

fn last_event_id(header: Option<&HeaderValue>, param: Option<&str>) -> String {
    let header = header.map(|value| String::from_utf8_lossy(value.as_bytes()));
    let text = header.as_deref().filter(|text| !text.is_empty()).or(param).unwrap_or_default();
    if text.is_empty() || Position::parse(text).is_ok() { text.to_owned() } else { UNREADABLE.to_owned() }
}

fn stream(gateway: Arc<Gateway>, watch: Watch) -> Response {
    let body = if let Some(stay) = gateway.streams.enter() {
        let viewer = Viewer::new(gateway, watch, stay);
        Body::from_stream(futures::stream::unfold(viewer, Viewer::next))
    } else {
        gateway.metrics.turned_away.inc();
        Body::from(come_back())
    };
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // For proxies before us that would wait for more of it.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, body).into_response()
}

/// When a client that is sent away may come back: soon enough to miss little, spread enough not to come all at once.
const COME_BACK: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(3));

/// The last words of a stream that ends early.
fn come_back() -> Bytes {
    let millis = rand::random_range(COME_BACK.0.as_millis()..=COME_BACK.1.as_millis());
    Bytes::from(format!("retry: {millis}\n\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_comes_before_the_parameter() {
        let header = |text: &'static str| HeaderValue::from_static(text);
        assert_eq!(last_event_id(Some(&header("n-2")), Some("n-1")), "n-2");
        assert_eq!(last_event_id(Some(&header("")), Some("n-1")), "n-1");
        assert_eq!(last_event_id(None, None), "");
    }

    #[test]
    fn what_is_no_id_is_passed_on_as_one_that_is_none() {
        assert_eq!(last_event_id(None, Some("x\r\nhost: y")), UNREADABLE);
        assert_eq!(last_event_id(None, Some(&"9".repeat(5000))), UNREADABLE);
        let raw = HeaderValue::from_bytes(&[0xff]).unwrap();
        assert_eq!(last_event_id(Some(&raw), None), UNREADABLE);
    }
}
