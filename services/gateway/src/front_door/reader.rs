//! One attempt to reach a reader for a viewer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::{HeaderValue, Method, Request, StatusCode, header};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use liverank_core::handover::routing::{RouteOption, choose_route_reader};
use liverank_core::stream_events::StreamEvents;
use liverank_core::{ReaderId, UserId, VideoId};
use liverank_protocol::{ASSIGNMENT_EPOCH_HEADER, RouteReader, STREAM_EVENTS_HEADER};
use liverank_runtime::identity::{self, sent};
use liverank_runtime::peer::join_path;
use reqwest::Url;
use serde_json::json;

use crate::Gateway;

/// How long a reader may take to begin the stream: it may have to fetch what the viewer missed.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// An attempt to connect a viewer to a reader.
pub(super) struct Attempt {
    pub(super) gateway: Arc<Gateway>,
    pub(super) user_id: UserId,
    pub(super) video_id: VideoId,
    pub(super) asked_by_post: bool,
    pub(super) events: StreamEvents,
    pub(super) last_id: String,
    /// Which reader: 0 the best, after failures the others in turn.
    pub(super) reader_choice: u32,
    /// The readers that did not take the viewer since it last had a stream.
    pub(super) tried: Vec<ReaderId>,
    /// Routes asked for before this are known to be wrong.
    pub(super) route_asked_after: Option<Instant>,
    /// How long to wait first.
    pub(super) pause_before: Duration,
}

/// What one attempt came to: a stream, or the reader that was asked for one in vain, where one was.
pub(super) type Attempted = Result<Incoming, Option<ReaderId>>;

impl Attempt {
    /// The stream of a reader that serves the video.
    pub(super) async fn run(self) -> Attempted {
        tokio::time::sleep(self.pause_before).await;
        let gateway = &self.gateway;
        let route = gateway.routes.find_route(&gateway.manager, &self.video_id, self.route_asked_after).await;
        let route = route.ok_or(None::<ReaderId>)?;
        let reader = choose_reader(&route.readers, &self.tried, self.reader_choice, rand::random())
            .ok_or(None::<ReaderId>)?;
        self.ask_reader(reader, route.epoch).await.ok_or_else(|| Some(reader.id.clone()))
    }

    async fn ask_reader(&self, reader: &RouteReader, epoch: u64) -> Option<Incoming> {
        let sent = self.gateway.client.request(self.request(reader, epoch)?);
        let response = tokio::time::timeout(ANSWER_TIMEOUT, sent).await.ok()?.ok()?;
        // A 307 says that it does not serve the video any more, and names an address for viewers, which may not be one for
        // us. The managers know who serves it.
        (response.status() == StatusCode::OK).then(|| response.into_body())
    }

    fn request(&self, reader: &RouteReader, epoch: u64) -> Option<Request<Full<Bytes>>> {
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
        if !self.events.is_empty() {
            let events = HeaderValue::from_str(&self.events.to_string()).ok()?;
            request.headers_mut().insert(STREAM_EVENTS_HEADER, events);
        }
        *request.uri_mut() = url.as_str().parse().ok()?;
        if !self.last_id.is_empty() {
            request.headers_mut().insert("last-event-id", HeaderValue::from_str(&self.last_id).ok()?);
        }
        Some(request)
    }
}

/// The reader for the `choice`-th attempt, by [`choose_route_reader`].
fn choose_reader<'a>(
    readers: &'a [RouteReader],
    tried: &[ReaderId],
    choice: u32,
    lots: [u32; 2],
) -> Option<&'a RouteReader> {
    let option = |reader: &'a RouteReader| RouteOption {
        reader: &reader.id,
        takes: reader.takes,
        load: reader.load,
        wanted: reader.wanted,
    };
    let options: Vec<RouteOption<'a>> = readers.iter().map(option).collect();
    choose_route_reader(&options, tried, choice, lots).map(|at| &readers[at])
}
