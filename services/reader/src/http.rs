//! A reader's HTTP endpoints: streams, health, and `/warm` for managers.

use std::net::IpAddr;
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
use liverank_runtime::identity::guard::RoutesByAccess;
use liverank_runtime::identity::{self, sent};
use liverank_runtime::origins::AllowedOrigins;
use liverank_runtime::params::{QueryParams, last_event_id};
use liverank_runtime::problem::PortOwner;
use liverank_runtime::server::{Hijack, RequestExchange};
use liverank_runtime::streams::{accepts_event_streams_only, event_stream};
use liverank_runtime::{Problem, cors, now_micros, server};

use crate::RunningReader;
use crate::entry::{StreamFilter, UserKey};
use crate::fanout::{ConnectedViewer, JoiningViewer};
use crate::hub::ViewerGuard;
use crate::metrics::{CommentSource, ConnectOutcome};
use crate::placement::ViewerPlacement;
use crate::ring::RingCursor;
use crate::sse::{self, StreamForm};
use crate::viewer_zone::ViewerZone;
use crate::{refusal, warm};

/// The time in ms after which a viewer whose stream has ended connects again. Each viewer gets a random time, so that a
/// crowd that was sent away does not come back at once.
const RETRY_MS: std::ops::RangeInclusive<u64> = 1000..=3000;
/// The maximum number of channels named in `/health`.
const MAX_CHANNELS_SHOWN: usize = 100;

/// Returns the router of all endpoints of a reader: the public ones and the one for managers.
pub fn router(reader: Arc<RunningReader>, origins: Arc<AllowedOrigins>) -> Router {
    let (public, internal) = RoutesByAccess::of_service(CalledService::Reader)
        .get("/connect", get(connect_get))
        .post("/connect", post(connect_post))
        .get("/health", get(get_health))
        .post("/warm", post(warm::warm_video))
        .into_guarded_routers(&reader.identity, Some(reader.ticket.clone()));
    let public = server::with_problem_fallbacks(PortOwner::Service(CalledService::Reader), public)
        .layer(axum::middleware::from_fn_with_state(origins, cors::answer_cross_origin));
    public.merge(server::with_method_fallback(internal)).with_state(reader)
}

/// A request to connect: the user, the video, and the comment after which the stream is to begin.
struct ConnectRequest {
    user: UserId,
    video: VideoId,
    last_event_id: Option<String>,
    /// The assignment epoch under which a gateway sent the viewer to this reader; `None` if no gateway did.
    assignment_epoch: Option<u64>,
    /// The event types that the viewer asks for beside comments.
    requested_events: StreamEvents,
    form: StreamForm,
    /// True if the client gives up for good on any answer but a stream or a redirect, as browsers do.
    accepts_only_streams: bool,
    /// The address of a viewer who connects directly; `None` if a gateway's pass came with the request.
    direct_address: Option<IpAddr>,
    /// The zone of the viewer's gateway, compared with the reader's.
    zone: ViewerZone,
}

impl ConnectRequest {
    /// Refuses the request if viewers are admitted only through gateways and no gateway's pass comes with it. The
    /// canary, which is the system's own video, always needs a gateway's pass.
    fn check_gateway_pass(self, reader: &RunningReader, headers: &HeaderMap) -> Result<Self, Problem> {
        let by_gateway =
            sent::check_pass(&reader.pass_key, headers, &self.user, &self.video, identity::now_seconds());
        let Err(no_pass) = by_gateway else {
            // Anybody can write the header: it is taken from those alone who show a gateway's pass.
            let zone = ViewerZone::of_gateway(reader.zone.as_ref(), headers);
            return Ok(Self { direct_address: None, zone, ..self });
        };
        if reader.identity.requires_gateway_for_viewers() {
            return Err(no_pass);
        }
        if canary::is_canary(&self.video) {
            canary::refuse_canary_video("videoid", &self.video)?;
        }
        Ok(self)
    }
}

/// The query parameters of a stream's request. A client that posts says in the body who watches what.
const CONNECT_PARAMETERS: [&str; 6] =
    ["userid", "videoid", "last_event_id", "lastEventId", "lastEventID", EVENTS_PARAMETER];

async fn connect_get(
    State(reader): State<Arc<RunningReader>>,
    OriginalUri(uri): OriginalUri,
    exchange: RequestExchange,
    headers: HeaderMap,
    query: QueryParams,
) -> Result<Response, Problem> {
    query.expect_only(&CONNECT_PARAMETERS)?;
    let request = ConnectRequest {
        user: UserId::parse_field("userid", query.required_text("userid")?)?,
        video: VideoId::parse_field("videoid", query.required_text("videoid")?)?,
        last_event_id: last_event_id(&headers, &query),
        assignment_epoch: assignment_epoch_header(&headers),
        requested_events: requested_events(&headers, &query)?,
        form: StreamForm::Resuming,
        accepts_only_streams: accepts_event_streams_only(&headers),
        direct_address: Some(exchange.client()),
        zone: ViewerZone::Unknown,
    };
    connect_viewer(&reader, request.check_gateway_pass(&reader, &headers)?, &uri).await
}

async fn connect_post(
    State(reader): State<Arc<RunningReader>>,
    OriginalUri(uri): OriginalUri,
    exchange: RequestExchange,
    query: QueryParams,
    headers: HeaderMap,
    JsonObject(body): JsonObject,
) -> Result<Response, Problem> {
    query.expect_only(&CONNECT_PARAMETERS)?;
    let request = ConnectRequest {
        user: UserId::parse_field("userid", required_text(&body, "userid")?)?,
        video: VideoId::parse_field("videoid", required_text(&body, "videoid")?)?,
        last_event_id: last_event_id(&headers, &query),
        assignment_epoch: assignment_epoch_header(&headers),
        requested_events: requested_events(&headers, &query)?,
        form: StreamForm::Plain,
        accepts_only_streams: false,
        direct_address: Some(exchange.client()),
        zone: ViewerZone::Unknown,
    };
    connect_viewer(&reader, request.check_gateway_pass(&reader, &headers)?, &uri).await
}

/// Returns the event types that a viewer asks for: from the header of its gateway, or else from the address.
fn requested_events(headers: &HeaderMap, query: &QueryParams) -> Result<StreamEvents, Invalid> {
    match headers.get(STREAM_EVENTS_HEADER).and_then(|value| value.to_str().ok()) {
        // A gateway of the next release may know more events than this reader.
        Some(asked) => Ok(StreamEvents::parse_known(asked)),
        None => StreamEvents::parse(query.optional_text(EVENTS_PARAMETER)?),
    }
}

fn assignment_epoch_header(headers: &HeaderMap) -> Option<u64> {
    let epoch = headers.get(ASSIGNMENT_EPOCH_HEADER)?.to_str().ok()?.parse().ok()?;
    // Anybody can write the header: an epoch that no manager can have issued is ignored.
    is_plausible_epoch(epoch, now_micros()).then_some(epoch)
}

async fn connect_viewer(
    reader: &Arc<RunningReader>,
    request: ConnectRequest,
    uri: &Uri,
) -> Result<Response, Problem> {
    reader.hub.wait_for_admission().await;
    let (video, back) = (&request.video, request.last_event_id.as_deref());
    let came_back = |in_vain| {
        if back.is_some() {
            reader.reconnects.count_event(Instant::now(), in_vain);
        }
    };
    let placement = &reader.placement;
    let placed = placement.place_viewer(video, request.assignment_epoch, request.direct_address).await;
    let mut seat = match placed {
        // A refusal because this reader is full is not counted as a failed reconnect: planners stop moves if reconnects
        // fail, and moves are what makes space.
        ViewerPlacement::Here => match reader.hub.add_viewer(video, request.direct_address, request.zone) {
            Some(seat) => seat,
            None => return refusal::full_response(reader, request.accepts_only_streams, video, uri),
        },
        ViewerPlacement::Elsewhere(url) => {
            return refusal::redirect_response(reader, request.accepts_only_streams, &url, uri);
        }
        ViewerPlacement::Nowhere => {
            came_back(true);
            return refusal::leaving_response(reader, request.accepts_only_streams);
        }
        ViewerPlacement::TooManyNewVideos => {
            return refusal::new_videos_response(reader, request.accepts_only_streams);
        }
    };
    seat.note_requested_events(request.requested_events);
    let (cursor, whole) = fetch_starting_cursor(&seat, back).await;
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

/// Returns the cursor at which a viewer begins, and whether the viewer will miss nothing. Fetches what the viewer
/// missed into the channel's ring.
async fn fetch_starting_cursor(seat: &ViewerGuard, last_event_id: Option<&str>) -> (RingCursor, bool) {
    let (hub, room) = (seat.hub(), &seat.channel);
    hub.open_channel(room).await;
    match last_event_id.map(StreamPosition::parse) {
        None => (room.cursor_from_now(), true),
        Some(Ok(position)) => match hub.backfill_for_resume(room, &position).await {
            Some(found) => (room.cursor_from_position(position), found != CommentSource::Gap),
            None => (RingCursor::UnknownPosition, false),
        },
        Some(Err(_)) => (RingCursor::UnknownPosition, false),
    }
}

/// Returns the response that begins the stream: once its head is sent, the viewer's socket is given to a writing
/// thread.
fn stream_response(
    seat: ViewerGuard,
    cursor: RingCursor,
    request: &ConnectRequest,
    greeting: &[u8],
) -> Response {
    let form = request.form;
    let asked = StreamFilter {
        requested_events: request.requested_events,
        shadowed_user: UserKey::of(&request.user),
    };
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
        active_connections: reader.hub.viewers_without_canary(),
        subscribed_topics: reader.channel_names(MAX_CHANNELS_SHOWN),
        messages_sent: reader.hub.metrics.messages_written.get(),
    })
}
