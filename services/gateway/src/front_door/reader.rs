//! One attempt to reach a reader for a viewer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::{HeaderValue, Method, Request, StatusCode, header};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use liverank_core::{UserId, VideoId};
use liverank_shell::peer::join;
use liverank_shell::wire::RouteReader;
use reqwest::Url;
use serde_json::json;

use crate::Gateway;

/// How long a reader may take to begin the stream: it may have to fetch what the viewer missed.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// What one attempt needs to know.
pub(super) struct Attempt {
    pub(super) gateway: Arc<Gateway>,
    pub(super) user_id: UserId,
    pub(super) video_id: VideoId,
    pub(super) posted: bool,
    pub(super) last_id: String,
    /// Attempts that failed before this one.
    pub(super) failures: u32,
    /// Routes asked for before this are known to be wrong.
    pub(super) since: Option<Instant>,
    /// How long to wait first.
    pub(super) pause: Duration,
}

impl Attempt {
    /// The stream of the reader that serves the video, or `None`.
    pub(super) async fn run(self) -> Option<Incoming> {
        tokio::time::sleep(self.pause).await;
        let gateway = &self.gateway;
        let route = gateway.routes.find(&gateway.manager, &self.video_id, self.since).await?;
        // The best reader first; after failures the others in turn, for a hot video has several.
        let reader = &route.readers[self.failures as usize % route.readers.len()];
        let sent = gateway.client.request(self.request(reader)?);
        let response = tokio::time::timeout(ANSWER_TIMEOUT, sent).await.ok()?.ok()?;
        // A 307 says that it does not serve the video any more; the managers know who does.
        (response.status() == StatusCode::OK).then(|| response.into_body())
    }

    fn request(&self, reader: &RouteReader) -> Option<Request<Full<Bytes>>> {
        let mut url = join(&Url::parse(&reader.internal_url).ok()?, &["connect"]);
        let (user, video) = (self.user_id.as_str(), self.video_id.as_str());
        let mut request = if self.posted {
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
        *request.uri_mut() = url.as_str().parse().ok()?;
        if !self.last_id.is_empty() {
            request.headers_mut().insert("last-event-id", HeaderValue::from_str(&self.last_id).ok()?);
        }
        Some(request)
    }
}
