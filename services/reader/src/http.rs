//! A reader's public port: streams and health.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{OriginalUri, State};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use axum::routing::{get, post};
use liverank_core::comment::Position;
use liverank_core::epoch::is_plausible;
use liverank_core::event::required_text;
use liverank_core::stream_events::{EVENTS_PARAMETER, StreamEvents};
use liverank_core::{Invalid, UserId, VideoId, canary};
use liverank_protocol::access::Service;
use liverank_protocol::{ASSIGNMENT_EPOCH_HEADER, STREAM_EVENTS_HEADER};
use liverank_runtime::body::JsonObject;
use liverank_runtime::identity::guard::Routes;
use liverank_runtime::identity::{self, sent};
use liverank_runtime::origins::Origins;
use liverank_runtime::params::{Params, last_event_id};
use liverank_runtime::server::Hijack;
use liverank_runtime::streams::{event_stream, takes_streams_only};
use liverank_runtime::{Problem, cors, now_micros, server};
use serde_json::{Value, json};

use crate::Reader;
use crate::entry::{StreamFilter, UserKey};
use crate::fanout::{Joining, Viewer};
use crate::hub::ViewerGuard;
use crate::metrics::{CommentSource, Outcome};
use crate::placement::Verdict;
use crate::ring::Cursor;
use crate::sse::{self, Form};
use crate::{refusal, warm};

/// Viewers come back after this long, in ms, each after its own time: a crowd that was sent away does not come back as
/// one.
const RETRY_MS: std::ops::RangeInclusive<u64> = 1000..=3000;
/// Channels named in `/health`.
const MAX_TOPICS_SHOWN: usize = 100;

/// The public endpoints.
pub fn router(reader: Arc<Reader>, origins: Arc<Origins>) -> Router {
    let (public, internal) = Routes::of(Service::Reader)
        .get("/connect", get(connect_get))
        .post("/connect", post(connect_post))
        .get("/health", get(get_health))
        .post("/warm", post(warm::warm_video))
        .guarded(&reader.identity, Some(reader.ticket.clone()));
    let public =
        server::with_fallbacks(public).layer(axum::middleware::from_fn_with_state(origins, cors::share));
    public.merge(server::with_method_fallback(internal)).with_state(reader)
}

/// Who wants to watch what, and where it stands.
struct ConnectRequest {
    user: UserId,
    video: VideoId,
    last_event_id: Option<String>,
    /// The epoch under which a gateway sent it here.
    sent_under: Option<u64>,
    /// What it asks for beside comments.
    events: StreamEvents,
    form: Form,
    /// Whether it gives up for good on any answer but a stream or a redirect.
    streams_only: bool,
}

impl ConnectRequest {
    /// Where viewers come by gateways only: whether a gateway sent this one. The system's own video is for gateways alone,
    /// which always show a pass.
    fn check_gateway_pass(self, reader: &Reader, headers: &HeaderMap) -> Result<Self, Problem> {
        let by_gateway =
            || sent::check_pass(&reader.pass_key, headers, &self.user, &self.video, identity::seconds());
        if reader.identity.viewers_by_gateway() {
            by_gateway()?;
        } else if canary::is(&self.video) && by_gateway().is_err() {
            canary::refuse("videoid", &self.video)?;
        }
        Ok(self)
    }
}

async fn connect_get(
    State(reader): State<Arc<Reader>>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    query: Params,
) -> Result<Response, Problem> {
    query.only(&["userid", "videoid", "last_event_id", "lastEventId", "lastEventID", EVENTS_PARAMETER])?;
    let request = ConnectRequest {
        user: UserId::parse_field("userid", query.required("userid")?)?,
        video: VideoId::parse_field("videoid", query.required("videoid")?)?,
        last_event_id: last_event_id(&headers, &query),
        sent_under: assignment_epoch_header(&headers),
        events: events(&headers, &query)?,
        form: Form::Resuming,
        streams_only: takes_streams_only(&headers),
    };
    connect_viewer(&reader, request.check_gateway_pass(&reader, &headers)?, &uri).await
}

async fn connect_post(
    State(reader): State<Arc<Reader>>,
    OriginalUri(uri): OriginalUri,
    query: Params,
    headers: HeaderMap,
    JsonObject(body): JsonObject,
) -> Result<Response, Problem> {
    let request = ConnectRequest {
        user: UserId::parse_field("userid", required_text(&body, "userid")?)?,
        video: VideoId::parse_field("videoid", required_text(&body, "videoid")?)?,
        last_event_id: last_event_id(&headers, &query),
        sent_under: assignment_epoch_header(&headers),
        events: events(&headers, &query)?,
        form: Form::Plain,
        streams_only: false,
    };
    connect_viewer(&reader, request.check_gateway_pass(&reader, &headers)?, &uri).await
}

/// What a viewer asks for: by the address, or by the header of the gateway that it comes through.
fn events(headers: &HeaderMap, query: &Params) -> Result<StreamEvents, Invalid> {
    match headers.get(STREAM_EVENTS_HEADER).and_then(|value| value.to_str().ok()) {
        // A gateway of the next release may know more events than this reader.
        Some(asked) => Ok(StreamEvents::parse_known(asked)),
        None => StreamEvents::parse(query.text(EVENTS_PARAMETER)?),
    }
}

fn assignment_epoch_header(headers: &HeaderMap) -> Option<u64> {
    let epoch = headers.get(ASSIGNMENT_EPOCH_HEADER)?.to_str().ok()?.parse().ok()?;
    // Anybody can write the header: one that was never minted is none.
    is_plausible(epoch, now_micros()).then_some(epoch)
}

async fn connect_viewer(
    reader: &Arc<Reader>,
    request: ConnectRequest,
    uri: &Uri,
) -> Result<Response, Problem> {
    reader.hub.turn().await;
    let (video, back) = (&request.video, request.last_event_id.as_deref());
    let came_back = |in_vain| {
        if back.is_some() {
            reader.reconnects.count(Instant::now(), in_vain);
        }
    };
    let mut seat = match reader.placement.verdict(video, request.sent_under).await {
        // Too little room is no sign that moves go wrong: moves are what makes room, and planners halt them on such signs.
        Verdict::Here => match reader.hub.enter(video) {
            Some(seat) => seat,
            None => return refusal::full(reader, request.streams_only, video, uri),
        },
        Verdict::Elsewhere(url) => return refusal::elsewhere(reader, request.streams_only, &url, uri),
        Verdict::Nowhere => {
            came_back(true);
            return refusal::leaving(reader, request.streams_only);
        }
    };
    seat.ask(request.events);
    let (cursor, whole) = starting_cursor(&seat, back).await;
    came_back(!whole);
    reader.hub.metrics.answered(Outcome::Stream);
    let greeting = sse::connected_event(
        &request.user,
        video,
        reader.hub.settings.id.as_str(),
        rand::random_range(RETRY_MS),
        seat.room.position(&cursor).as_ref(),
    );
    Ok(stream_response(seat, cursor, &request, &greeting))
}

/// Where a viewer begins, and whether it will miss nothing. Fetches what it missed into the room's ring.
async fn starting_cursor(seat: &ViewerGuard, last_event_id: Option<&str>) -> (Cursor, bool) {
    let (hub, room) = (seat.hub(), &seat.room);
    hub.open(room).await;
    match last_event_id.map(Position::parse) {
        None => (room.now(), true),
        Some(Ok(position)) => match hub.backfill_for_resume(room, &position).await {
            Some(found) => (room.resume(position), found != CommentSource::Gap),
            None => (Cursor::Lost, false),
        },
        Some(Err(_)) => (Cursor::Lost, false),
    }
}

/// An answer after which the viewer's socket goes to the thread that writes to it.
fn stream_response(seat: ViewerGuard, cursor: Cursor, request: &ConnectRequest, greeting: &[u8]) -> Response {
    let form = request.form;
    let asked = StreamFilter { events: request.events, user: UserKey::of(&request.user) };
    let mut response = event_stream(Body::empty());
    let greeting = greeting.to_vec();
    response.extensions_mut().insert(Hijack::new(move |mut bare| {
        let hub = Arc::clone(seat.hub());
        let mut first = std::mem::take(&mut bare.head);
        first.extend_from_slice(&greeting);
        let viewer = Viewer::new(seat, cursor, form, first.into()).asking(asked);
        hub.fanout.join(Joining { viewer, bare });
    }));
    response
}

async fn get_health(State(reader): State<Arc<Reader>>) -> axum::Json<Value> {
    axum::Json(json!({
        "status": if reader.is_draining() { "draining" } else { "healthy" },
        "service": "reader",
        "instanceId": reader.hub.settings.id,
        "activeConnections": reader.hub.viewers_from_outside(),
        "subscribedTopics": reader.channel_names(MAX_TOPICS_SHOWN),
        "messagesSent": reader.hub.metrics.messages.get(),
    }))
}
