//! What a viewer is answered whom this reader does not take.
//!
//! Gateways and our own clients read the status: 503 for want of room, 307 where another reader has the video. A browser's
//! `EventSource` never comes back after a 503, so whoever takes streams alone is answered with a stream that ends at once and
//! says when to come back; and it is sent to another reader of the video by a redirect where one takes viewers, for by itself
//! it would always come back to this one.

use std::ops::RangeInclusive;
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use liverank_core::VideoId;
use liverank_core::handover::leaving::LAST_PACE;
use liverank_core::limits::RateQuota;
use liverank_runtime::Problem;
use liverank_runtime::streams::{event_stream, reconnect_event};

use crate::RunningReader;
use crate::metrics::ConnectOutcome;

/// How long a full or leaving reader asks to be left alone.
const FULL_RETRY: Duration = Duration::from_secs(2);
/// The same in ms for those who come back by themselves to this very reader, each after its own time: 20,000 of them ask
/// 5,000 times a second. With the two seconds that a manager's word is believed here, room elsewhere is found within 8 s.
const BROWSER_RETRY_MS: RangeInclusive<u64> = 2_000..=6_000;
/// Viewers whom a full reader sends to others in a second: as many as one that must end ([`LAST_PACE`]). Of two readers that
/// became full a moment ago each may take the other for one with room, and a browser follows twenty redirects in a row.
pub const REDIRECTS: RateQuota = RateQuota::new(LAST_PACE, LAST_PACE);

/// The answer of a reader that has no room.
pub fn full(
    reader: &RunningReader,
    streams_only: bool,
    video: &VideoId,
    uri: &Uri,
) -> Result<Response, Problem> {
    reader.note_full();
    let other = || reader.placement.other_that_takes(video).filter(|_| reader.may_redirect());
    match streams_only.then(other).flatten() {
        Some(url) => elsewhere(reader, streams_only, &url, uri),
        None => refuse(reader, streams_only, "this reader is full"),
    }
}

/// The answer of a reader that leaves and does not know of another one.
pub fn leaving(reader: &RunningReader, streams_only: bool) -> Result<Response, Problem> {
    refuse(reader, streams_only, "this reader is leaving; resolve the video again")
}

/// The answer of a reader that another one has the video of.
pub fn elsewhere(
    reader: &RunningReader,
    streams_only: bool,
    url: &str,
    uri: &Uri,
) -> Result<Response, Problem> {
    let path = uri.path_and_query().map_or("/connect", |path| path.as_str());
    let Ok(location) = HeaderValue::try_from(format!("{}{path}", url.trim_end_matches('/'))) else {
        return refuse(reader, streams_only, "the video's reader has an address that cannot be named");
    };
    reader.hub.metrics.count_connect(ConnectOutcome::Redirected);
    let mut response = StatusCode::TEMPORARY_REDIRECT.into_response();
    response.headers_mut().insert(header::LOCATION, location);
    // Where a video is served changes at any time.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn refuse(reader: &RunningReader, streams_only: bool, why: &str) -> Result<Response, Problem> {
    reader.hub.metrics.count_connect(ConnectOutcome::Refused);
    if streams_only {
        return Ok(event_stream(reconnect_event(BROWSER_RETRY_MS)));
    }
    Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, why).retry_after(FULL_RETRY))
}
