//! A reader's public port: streams and health.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{OriginalUri, State};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use axum::routing::{get, post};
use liverank_core::comment::StreamPosition;
use liverank_core::epoch::is_plausible_epoch;
use liverank_core::event::required_text;
use liverank_core::stream_events::{EVENTS_PARAMETER, StreamEvents};
use liverank_core::{Invalid, UserId, VideoId, canary};
use liverank_protocol::access::CalledService;
use liverank_protocol::{ASSIGNMENT_EPOCH_HEADER, ReaderHealth, ReaderHealthStatus, STREAM_EVENTS_HEADER};
use liverank_runtime::body::JsonObject;
use liverank_runtime::identity::guard::GuardedRoutes;
use liverank_runtime::identity::{self, sent};
use liverank_runtime::origins::AllowedOrigins;
use liverank_runtime::params::{QueryParams, last_event_id};
use liverank_runtime::server::Hijack;
use liverank_runtime::streams::{event_stream, takes_streams_only};
use liverank_runtime::{Problem, cors, now_micros, server};

use crate::RunningReader;
use crate::entry::{StreamFilter, UserKey};
use crate::fanout::{ConnectedViewer, JoiningViewer};
use crate::hub::ViewerGuard;
use crate::metrics::{CommentSource, ConnectOutcome};
use crate::placement::ViewerPlacement;
use crate::ring::RingCursor;
use crate::sse::{self, StreamForm};
use crate::{refusal, warm};

/// Viewers come back after this long, in ms, each after its own time: a crowd that was sent away does not come back as
/// one.
const RETRY_MS: std::ops::RangeInclusive<u64> = 1000..=3000;
/// Channels named in `/health`.
const MAX_TOPICS_SHOWN: usize = 100;

/// The public endpoints.
pub fn router(reader: Arc<RunningReader>, origins: Arc<AllowedOrigins>) -> Router {
    let (public, internal) = GuardedRoutes::of_service(CalledService::Reader)
        .get("/connect", get(connect_get))
        .post("/connect", post(connect_post))
        .get("/health", get(get_health))
        .post("/warm", post(warm::warm_video))
        .into_guarded_routers(&reader.identity, Some(reader.ticket.clone()));
    let public = server::with_problem_fallbacks(public)
        .layer(axum::middleware::from_fn_with_state(origins, cors::answer_cross_origin));
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
    form: StreamForm,
    /// Whether it gives up for good on any answer but a stream or a redirect.
    streams_only: bool,
}

impl ConnectRequest {
    /// Where viewers come by gateways only: whether a gateway sent this one. The system's own video is for gateways alone,
    /// which always show a pass.
    fn check_gateway_pass(self, reader: &RunningReader, headers: &HeaderMap) -> Result<Self, Problem> {
        let by_gateway =
            || sent::check_pass(&reader.pass_key, headers, &self.user, &self.video, identity::now_seconds());
        if reader.identity.viewers_by_gateway() {
            by_gateway()?;
        } else if canary::is_canary(&self.video) && by_gateway().is_err() {
            canary::refuse_video("videoid", &self.video)?;
        }
        Ok(self)
    }
}

async fn connect_get(
    State(reader): State<Arc<RunningReader>>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    query: QueryParams,
) -> Result<Response, Problem> {
    query.expect_only(&[
        "userid",
        "videoid",
        "last_event_id",
        "lastEventId",
        "lastEventID",
        EVENTS_PARAMETER,
    ])?;
    let request = ConnectRequest {
        user: UserId::parse_field("userid", query.required_text("userid")?)?,
        video: VideoId::parse_field("videoid", query.required_text("videoid")?)?,
        last_event_id: last_event_id(&headers, &query),
        sent_under: assignment_epoch_header(&headers),
        events: events(&headers, &query)?,
        form: StreamForm::Resuming,
        streams_only: takes_streams_only(&headers),
    };
    connect_viewer(&reader, request.check_gateway_pass(&reader, &headers)?, &uri).await
}

async fn connect_post(
    State(reader): State<Arc<RunningReader>>,
    OriginalUri(uri): OriginalUri,
    query: QueryParams,
    headers: HeaderMap,
    JsonObject(body): JsonObject,
) -> Result<Response, Problem> {
    let request = ConnectRequest {
        user: UserId::parse_field("userid", required_text(&body, "userid")?)?,
        video: VideoId::parse_field("videoid", required_text(&body, "videoid")?)?,
        last_event_id: last_event_id(&headers, &query),
        sent_under: assignment_epoch_header(&headers),
        events: events(&headers, &query)?,
        form: StreamForm::Plain,
        streams_only: false,
    };
    connect_viewer(&reader, request.check_gateway_pass(&reader, &headers)?, &uri).await
}

/// What a viewer asks for: by the address, or by the header of the gateway that it comes through.
fn events(headers: &HeaderMap, query: &QueryParams) -> Result<StreamEvents, Invalid> {
    match headers.get(STREAM_EVENTS_HEADER).and_then(|value| value.to_str().ok()) {
        // A gateway of the next release may know more events than this reader.
        Some(asked) => Ok(StreamEvents::parse_known(asked)),
        None => StreamEvents::parse(query.optional_text(EVENTS_PARAMETER)?),
    }
}

fn assignment_epoch_header(headers: &HeaderMap) -> Option<u64> {
    let epoch = headers.get(ASSIGNMENT_EPOCH_HEADER)?.to_str().ok()?.parse().ok()?;
    // Anybody can write the header: one that was never minted is none.
    is_plausible_epoch(epoch, now_micros()).then_some(epoch)
}

async fn connect_viewer(
    reader: &Arc<RunningReader>,
    request: ConnectRequest,
    uri: &Uri,
) -> Result<Response, Problem> {
    reader.hub.turn().await;
    let (video, back) = (&request.video, request.last_event_id.as_deref());
    let came_back = |in_vain| {
        if back.is_some() {
            reader.reconnects.count_event(Instant::now(), in_vain);
        }
    };
    let mut seat = match reader.placement.place_viewer(video, request.sent_under).await {
        // Too little room is no sign that moves go wrong: moves are what makes room, and planners halt them on such signs.
        ViewerPlacement::Here => match reader.hub.add_viewer(video) {
            Some(seat) => seat,
            None => return refusal::full(reader, request.streams_only, video, uri),
        },
        ViewerPlacement::Elsewhere(url) => {
            return refusal::elsewhere(reader, request.streams_only, &url, uri);
        }
        ViewerPlacement::Nowhere => {
            came_back(true);
            return refusal::leaving(reader, request.streams_only);
        }
    };
    seat.ask_for_events(request.events);
    let (cursor, whole) = starting_cursor(&seat, back).await;
    came_back(!whole);
    reader.hub.metrics.count_connect(ConnectOutcome::Stream);
    let greeting = sse::connected_event(
        &request.user,
        video,
        reader.hub.settings.id.as_str(),
        rand::random_range(RETRY_MS),
        seat.channel.position_of(&cursor).as_ref(),
    );
    Ok(stream_response(seat, cursor, &request, &greeting))
}

/// Where a viewer begins, and whether it will miss nothing. Fetches what it missed into the room's ring.
async fn starting_cursor(seat: &ViewerGuard, last_event_id: Option<&str>) -> (RingCursor, bool) {
    let (hub, room) = (seat.hub(), &seat.channel);
    hub.open_channel(room).await;
    match last_event_id.map(StreamPosition::parse) {
        None => (room.cursor_from_now(), true),
        Some(Ok(position)) => match hub.backfill_for_resume(room, &position).await {
            Some(found) => (room.cursor_from_position(position), found != CommentSource::Gap),
            None => (RingCursor::Lost, false),
        },
        Some(Err(_)) => (RingCursor::Lost, false),
    }
}

/// An answer after which the viewer's socket goes to the thread that writes to it.
fn stream_response(
    seat: ViewerGuard,
    cursor: RingCursor,
    request: &ConnectRequest,
    greeting: &[u8],
) -> Response {
    let form = request.form;
    let asked = StreamFilter { events: request.events, shadowed_user: UserKey::of(&request.user) };
    let mut response = event_stream(Body::empty());
    let greeting = greeting.to_vec();
    response.extensions_mut().insert(Hijack::new(move |mut bare| {
        let hub = Arc::clone(seat.hub());
        let mut first = std::mem::take(&mut bare.answer_head);
        first.extend_from_slice(&greeting);
        let viewer = ConnectedViewer::new(seat, cursor, form, first.into()).with_filter(asked);
        hub.fanout.add_viewer(JoiningViewer { viewer, raw_connection: bare });
    }));
    response
}

async fn get_health(State(reader): State<Arc<RunningReader>>) -> axum::Json<ReaderHealth> {
    let status =
        if reader.is_draining() { ReaderHealthStatus::Draining } else { ReaderHealthStatus::Healthy };
    axum::Json(ReaderHealth {
        status: status.into(),
        service: "reader".to_owned(),
        instance_id: Some(reader.hub.settings.id.to_string()),
        active_connections: reader.hub.viewers_from_outside(),
        subscribed_topics: reader.channel_names(MAX_TOPICS_SHOWN),
        messages_sent: reader.hub.metrics.messages_written.get(),
    })
}
