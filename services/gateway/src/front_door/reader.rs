//! One attempt to reach a reader for a viewer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::{HeaderValue, Method, Request, StatusCode, header};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
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

/// The reader for the `choice`-th attempt: one that takes viewers and was not tried yet, else one that was not tried, else
/// one of all in turn. So none is asked twice while another one was not asked. Of several that take viewers it is the less
/// loaded of two that are drawn, for a route is shared by all who come within a second, and the best of it would get them all.
fn choose_reader<'a>(
    readers: &'a [RouteReader],
    tried: &[ReaderId],
    choice: u32,
    lots: [u32; 2],
) -> Option<&'a RouteReader> {
    let is_new = |reader: &&RouteReader| !tried.contains(&reader.id);
    let open: Vec<&RouteReader> = readers.iter().filter(|reader| reader.takes).collect();
    let new: Vec<&RouteReader> = open.iter().copied().filter(is_new).collect();
    if !new.is_empty() {
        return lots.into_iter().map(|lot| new[lot as usize % new.len()]).min_by_key(|reader| reader.load);
    }
    let in_turn = |readers: &[&'a RouteReader]| readers.get(choice as usize % readers.len().max(1)).copied();
    readers
        .iter()
        .find(is_new)
        .or_else(|| in_turn(&open))
        .or_else(|| in_turn(&readers.iter().collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use liverank_core::ReaderId;

    use super::*;

    fn reader(id: &str, load: u64, takes: bool) -> RouteReader {
        let (id, url) = (ReaderId::parse(id).unwrap(), String::new());
        RouteReader { id, public_url: url.clone(), internal_url: url, load, takes, pass_key: None }
    }

    fn chosen(readers: &[RouteReader], tried: &[&str], choice: u32, lots: [u32; 2]) -> String {
        let tried: Vec<ReaderId> = tried.iter().map(|id| ReaderId::parse(id).unwrap()).collect();
        choose_reader(readers, &tried, choice, lots).unwrap().id.as_str().to_owned()
    }

    #[test]
    fn the_less_loaded_of_two_readers_is_tried_first_then_the_others() {
        let readers = [reader("shut", 0, false), reader("busy", 900, true), reader("calm", 100, true)];
        let first = |lots| chosen(&readers, &[], 0, lots);
        assert_eq!([first([0, 1]), first([3, 2]), first([0, 2])], ["calm", "calm", "busy"]);
        assert_eq!(chosen(&readers, &["calm"], 1, [1, 1]), "busy");
        assert_eq!(chosen(&readers, &["calm", "busy"], 2, [1, 1]), "shut");
        let all = ["calm", "busy", "shut"];
        assert_eq!([chosen(&readers, &all, 3, [0, 0]), chosen(&readers, &all, 4, [0, 0])], ["calm", "busy"]);
        let shut = [reader("one", 5, false), reader("two", 0, false)];
        assert_eq!(chosen(&shut, &[], 0, [1, 1]), "one");
        assert_eq!(chosen(&shut, &["one"], 1, [0, 0]), "two");
        assert_eq!(chosen(&shut, &["one", "two"], 2, [0, 0]), "one");
        assert!(choose_reader(&[], &[], 0, [0, 0]).is_none());
    }
}
