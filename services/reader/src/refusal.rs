//! The answers to viewers whom this reader does not accept.
//!
//! Gateways and our own clients read the status: 503 if the reader is full, 307 if another reader has the video. A
//! browser's `EventSource` never comes back after a 503. So a client that accepts only streams is answered with a
//! stream that ends at once and says when to come back. If another reader of the video accepts viewers, such a client
//! is redirected there, because by itself it would always come back to this reader.

use std::ops::RangeInclusive;
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use liverank_core::VideoId;
use liverank_core::handover::leaving::LAST_PHASE_VIEWERS_PER_SECOND;
use liverank_core::limits::RateQuota;
use liverank_runtime::Problem;
use liverank_runtime::streams::{event_stream, reconnect_event};

use crate::RunningReader;
use crate::metrics::ConnectOutcome;

/// The time after which a full or leaving reader asks clients to come back.
const FULL_RETRY: Duration = Duration::from_secs(2);
/// The time after which a client may ask for a new video again: the managers count an address's new videos by the hour,
/// so that soon after the limit is reached little changes.
const NEW_VIDEO_RETRY: Duration = Duration::from_mins(1);
/// The same time for browsers, in ms, each after a random time.
const BROWSER_NEW_VIDEO_RETRY_MS: RangeInclusive<u64> = 45_000..=75_000;
/// The range of times, in ms, after which refused browsers come back to this same reader, each after a random one:
/// 20,000 browsers make 5,000 requests a second. With the two seconds for which a reader trusts a manager's answer,
/// space at another reader is found within 8 s.
const BROWSER_RETRY_MS: RangeInclusive<u64> = 2_000..=6_000;
/// The maximum number of viewers whom a full reader redirects to other readers in a second: as many as a reader that is
/// about to end sends away ([`LAST_PHASE_VIEWERS_PER_SECOND`]). Two readers that became full a moment ago may each
/// believe that the other has space, and a browser follows twenty redirects in a row.
pub const REDIRECT_QUOTA: RateQuota =
    RateQuota::new(LAST_PHASE_VIEWERS_PER_SECOND, LAST_PHASE_VIEWERS_PER_SECOND);

/// Returns the answer of a full reader: a redirect to another reader of the video for browsers if one accepts viewers,
/// otherwise a refusal. Tells the managers that the reader is full.
pub fn full_response(
    reader: &RunningReader,
    streams_only: bool,
    video: &VideoId,
    uri: &Uri,
) -> Result<Response, Problem> {
    reader.note_full();
    let other = || reader.placement.other_accepting_reader(video).filter(|_| reader.may_redirect());
    match streams_only.then(other).flatten() {
        Some(url) => redirect_response(reader, streams_only, &url, uri),
        None => refusal_response(reader, streams_only, "this reader is full"),
    }
}

/// Returns the answer of a reader that leaves and knows no other reader of the video.
pub fn leaving_response(reader: &RunningReader, streams_only: bool) -> Result<Response, Problem> {
    refusal_response(reader, streams_only, "this reader is leaving; resolve the video again")
}

/// Returns the answer to a viewer from whose address too many new videos were asked for.
pub fn new_videos_response(reader: &RunningReader, streams_only: bool) -> Result<Response, Problem> {
    reader.hub.metrics.count_connect(ConnectOutcome::Refused);
    if streams_only {
        return Ok(event_stream(reconnect_event(BROWSER_NEW_VIDEO_RETRY_MS)));
    }
    let why = "too many new videos are asked for from this address: watch known ones, or come back later";
    Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, why).with_retry_after(NEW_VIDEO_RETRY))
}

/// Returns the redirect to another reader that serves the video, at its public address `url`.
pub fn redirect_response(
    reader: &RunningReader,
    streams_only: bool,
    url: &str,
    uri: &Uri,
) -> Result<Response, Problem> {
    let path = uri.path_and_query().map_or("/connect", |path| path.as_str());
    let Ok(location) = HeaderValue::try_from(format!("{}{path}", url.trim_end_matches('/'))) else {
        return refusal_response(
            reader,
            streams_only,
            "the video's reader has an address that cannot be named",
        );
    };
    reader.hub.metrics.count_connect(ConnectOutcome::Redirected);
    let mut response = StatusCode::TEMPORARY_REDIRECT.into_response();
    response.headers_mut().insert(header::LOCATION, location);
    // Not to be cached, because the reader of a video can change at any time.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn refusal_response(reader: &RunningReader, streams_only: bool, why: &str) -> Result<Response, Problem> {
    reader.hub.metrics.count_connect(ConnectOutcome::Refused);
    if streams_only {
        return Ok(event_stream(reconnect_event(BROWSER_RETRY_MS)));
    }
    Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, why).with_retry_after(FULL_RETRY))
}
