//! One attempt to reach a reader for a viewer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::{HeaderValue, Method, Request, StatusCode, header};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use liverank_core::handover::routing::is_preferred_for_zone;
use liverank_core::stream_events::StreamEvents;
use liverank_core::{ReaderId, UserId, VideoId};
use liverank_protocol::{ASSIGNMENT_EPOCH_HEADER, GATEWAY_ZONE_HEADER, RouteReader, STREAM_EVENTS_HEADER};
use liverank_runtime::identity::{self, sent};
use liverank_runtime::peer::join_path;
use reqwest::Url;
use serde_json::json;

use super::held::HeldViewer;
use crate::Gateway;

/// The time limit within which a reader has to begin the stream. The reader may have to fetch comments that the viewer
/// missed.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// An attempt to connect a viewer to a reader.
pub(super) struct ConnectAttempt {
    pub(super) gateway: Arc<Gateway>,
    pub(super) user_id: UserId,
    pub(super) video_id: VideoId,
    pub(super) asked_by_post: bool,
    pub(super) requested_events: StreamEvents,
    pub(super) last_id: String,
    /// The position of the reader in the route: 0 for the best one, and after failures each of the others in turn.
    pub(super) reader_choice: u32,
    /// The readers that have not accepted the viewer since the viewer last had a stream.
    pub(super) tried_readers: Vec<ReaderId>,
    /// The time before which the gateway's routes are known to be wrong.
    pub(super) min_route_request_time: Option<Instant>,
    /// The pause before the attempt.
    pub(super) pause_before: Duration,
}

/// The comment stream that a reader sends to a viewer through this gateway.
pub(super) struct ReaderStream {
    pub(super) body: Incoming,
    /// Counts the viewer among those that this gateway holds, while the stream exists; `None` if the gateway does not
    /// count them.
    _held_viewer: Option<HeldViewer>,
}

/// The result of an attempt to connect a viewer: the reader's stream, or, as the error, the reader that gave none; the
/// error is `None` if no reader was found.
pub(super) type ConnectResult = Result<ReaderStream, Option<ReaderId>>;

impl ConnectAttempt {
    /// Opens a comment stream at a reader that serves the video.
    pub(super) async fn run(self) -> ConnectResult {
        tokio::time::sleep(self.pause_before).await;
        let gateway = &self.gateway;
        let route =
            gateway.routes.find_route(&gateway.manager, &self.video_id, self.min_route_request_time).await;
        let route = route.ok_or(None::<ReaderId>)?;
        let is_preferred = |reader: &RouteReader, sent| {
            gateway.zone.is_some()
                && gateway.zone == reader.zone
                && is_preferred_for_zone(sent, gateway.held_viewers.count(&self.video_id, &reader.id))
        };
        let reader = route
            .choose_reader(is_preferred, &self.tried_readers, self.reader_choice, rand::random())
            .ok_or(None::<ReaderId>)?;
        let body = self.ask_reader(reader, route.epoch()).await.ok_or_else(|| Some(reader.id.clone()))?;
        let is_counted = gateway.zone.is_some();
        Ok(ReaderStream {
            body,
            _held_viewer: is_counted.then(|| gateway.held_viewers.add(&self.video_id, &reader.id)),
        })
    }

    async fn ask_reader(&self, reader: &RouteReader, epoch: u64) -> Option<Incoming> {
        let sent = self.gateway.upstream_client.request(self.build_request(reader, epoch)?);
        let response = tokio::time::timeout(ANSWER_TIMEOUT, sent).await.ok()?.ok()?;
        // A 307 says that it does not serve the video any more, and names an address for viewers, which may not be one for
        // us. The managers know who serves it.
        (response.status() == StatusCode::OK).then(|| response.into_body())
    }

    fn build_request(&self, reader: &RouteReader, epoch: u64) -> Option<Request<Full<Bytes>>> {
        let mut url = join_path(&Url::parse(&reader.internal_url).ok()?, &["connect"]);
        let (user, video) = (self.user_id.as_str(), self.video_id.as_str());
        let mut request = if self.asked_by_post {
            let body = json!({ "userid": user, "videoid": video }).to_string();
            let mut request = Request::new(Full::from(body));
            *request.method_mut() = Method::POST;
            let json = HeaderValue::from_static("application/json");
            request.headers_mut().insert(header::CONTENT_TYPE, json);
            request
        } else {
            url.query_pairs_mut().append_pair("userid", user).append_pair("videoid", video);
            Request::new(Full::default())
        };
        request.headers_mut().insert(ASSIGNMENT_EPOCH_HEADER, epoch.into());
        if let Some(key) = &reader.pass_key {
            let pass = sent::make_pass(key, &self.user_id, &self.video_id, identity::now_seconds());
            request.headers_mut().insert(sent::PASS_HEADER, pass);
        }
        if let Some(zone) = &self.gateway.zone {
            let zone = HeaderValue::from_bytes(zone.as_str().as_bytes()).ok()?;
            request.headers_mut().insert(GATEWAY_ZONE_HEADER, zone);
        }
        if !self.requested_events.is_empty() {
            let events = HeaderValue::from_str(&self.requested_events.to_string()).ok()?;
            request.headers_mut().insert(STREAM_EVENTS_HEADER, events);
        }
        *request.uri_mut() = url.as_str().parse().ok()?;
        if !self.last_id.is_empty() {
            request.headers_mut().insert("last-event-id", HeaderValue::from_str(&self.last_id).ok()?);
        }
        Some(request)
    }
}
