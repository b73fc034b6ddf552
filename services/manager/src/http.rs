//! The manager's HTTP endpoints: `register` and `resolve` of the comments seed, and those for our own processes.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use liverank_core::epoch::{check_count, check_epoch, is_plausible_epoch};
use liverank_core::event::required_text;
use liverank_core::handover::coordinator::ReaderStatus;
use liverank_core::json::to_whole_number;
use liverank_core::{Invalid, VideoId, canary};
use liverank_protocol::access::{CalledService, CallerRole, KnownCaller};
use liverank_protocol::{
    ClusterLoad, HeartbeatAnswer, MAX_VIDEOS_PER_VIEWERS_REQUEST, ManagerHealth, ReaderRecord,
    RegisterAction, RegisterAnswer, ResolveAnswer, Route, RouteReader, RouteRequest, ServiceHealth,
    ViewersAnswer, ViewersOfVideos, ViewersRequest,
};
use liverank_runtime::body::{self, JsonObject};
use liverank_runtime::identity::guard::{OptionalCaller, RoutesByAccess};
use liverank_runtime::origins::AllowedOrigins;
use liverank_runtime::params::{PathVideo, QueryParams};
use liverank_runtime::problem::PortOwner;
use liverank_runtime::server::RequestExchange;
use liverank_runtime::{Problem, cors, now_micros, server};
use reqwest::Url;
use serde_json::{Map, Value};

use crate::manager::EnsuredAssignment;
use crate::registrations::Registrant;
use crate::{Manager, carry, peaks};

mod orders;
mod overview;
mod registering;

/// The maximum size of a heartbeat, in bytes: 60,000 videos with ids of the greatest length, each of 350 bytes. A reader
/// of the usual capacity has at most 20,000 that are watched, and 10,000 that are not. A reader whose heartbeat is refused
/// as too long sends a shorter one.
const MAX_HEARTBEAT_BYTES: usize = 24 * 1024 * 1024;

/// The maximum size of a request for viewers, in bytes: the maximum number of ids, of the greatest length, each
/// character escaped.
const MAX_VIEWERS_BYTES: usize = 1024 * 1024;

/// The maximum number of videos that other readers are asked to keep ready, or that are assigned anew, after one
/// heartbeat. The next heartbeat triggers the rest.
const MAX_VIDEOS_AFTER_HEARTBEAT: usize = 16;
/// The maximum length of a reader's ticket, in bytes.
const MAX_TICKET_BYTES: usize = 256;
/// The maximum length of a reader's address, in bytes.
const MAX_URL_BYTES: usize = 2_048;

/// Returns the router of all endpoints of a manager.
pub fn router(manager: Arc<Manager>, origins: Arc<AllowedOrigins>) -> Router {
    let (public, internal) = RoutesByAccess::of_service(CalledService::Manager)
        .post("/register", post(post_register))
        .get("/resolve/{videoid}", get(get_resolve))
        .get("/health", get(get_health))
        .post("/route", post(post_route))
        .get("/viewers/{videoid}", get(get_viewers))
        .post("/heartbeat", post(post_heartbeat))
        .post("/viewers", post(post_viewers))
        .get("/load", get(get_load))
        .get("/moves", get(orders::get_moves))
        .get("/cordons", get(orders::get_cordons))
        .get("/plan", get(orders::get_plan))
        .get("/overview", get(overview::get_overview))
        .post("/what-if", post(overview::post_what_if))
        .post("/term", post(orders::post_term))
        .post("/moves", post(orders::post_moves))
        .post("/cordons", post(orders::post_cordons))
        .into_guarded_routers(&manager.identity, None);
    let public = server::with_problem_fallbacks(PortOwner::Service(CalledService::Manager), public)
        .layer(from_fn_with_state(origins, cors::answer_cross_origin));
    public.merge(server::with_method_fallback(internal)).with_state(manager)
}

async fn post_register(
    State(manager): State<Arc<Manager>>,
    exchange: RequestExchange,
    headers: HeaderMap,
    query: QueryParams,
    JsonObject(body): JsonObject,
) -> Result<Json<RegisterAnswer>, Problem> {
    query.expect_only(&[])?;
    let video = canary::parse_outside_id("videoid", required_text(&body, "videoid")?)?;
    let caller = manager.identity.caller_of_request(&headers, CalledService::Manager).ok().flatten();
    // Everybody may register, so a token that is of no use here is as none.
    let is_gateway = caller.is_some_and(|caller| caller.role() == CallerRole::Gateway);
    let registrant = (!is_gateway).then(|| Registrant::new(exchange.client(), None));
    let ensured = registering::ensure_within_share(&manager, &video, 0, registrant).await?;
    manager.metrics.registrations_answered.inc();
    let action = if ensured.is_new { RegisterAction::Registered } else { RegisterAction::Existing };
    let reader_url = best_reader(&manager, &ensured)?.public_url;
    Ok(Json(RegisterAnswer { videoid: video, reader_url, action: action.into() }))
}

async fn get_resolve(
    State(manager): State<Arc<Manager>>,
    PathVideo(video): PathVideo,
    query: QueryParams,
) -> Result<Json<ResolveAnswer>, Problem> {
    query.expect_only(&[])?;
    let known = manager.cluster().assignment_view.get(&video).cloned();
    let known = match known {
        // Another manager may have registered the video just now.
        None => registering::look_up_in_store(&manager, &video).await,
        known => known,
    };
    let Some(assignment) = known else {
        if !manager.cluster().assignment_view.is_loaded() {
            return Err(Problem::part_unavailable("the assignments are not known yet: try again"));
        }
        return Err(Problem::not_found("no reader serves this video: register it")
            .with_member("videoid", video.as_str()));
    };
    // As in a route: if the video's readers are gone or full, it is given another one.
    let ensured = manager
        .ensure_assigned(&video, 0)
        .await
        .unwrap_or_else(|_| EnsuredAssignment::already_in_force(assignment));
    let reader_url = best_reader(&manager, &ensured)?.public_url;
    Ok(Json(ResolveAnswer { videoid: video, reader_url }))
}

fn best_reader(manager: &Manager, ensured: &EnsuredAssignment) -> Result<RouteReader, Problem> {
    readers_for_viewer(manager, ensured).map(|mut readers| readers.swap_remove(0))
}

/// Returns an assignment's readers for a new viewer, the best first, and counts the viewer at the first one. Returns at
/// least one reader, or an error if none has reported itself.
fn readers_for_viewer(manager: &Manager, ensured: &EnsuredAssignment) -> Result<Vec<RouteReader>, Problem> {
    let now = Instant::now();
    let assignment = &ensured.assignment;
    let mut cluster = manager.cluster();
    if ensured.is_viewer_counted {
        cluster.release_asking_viewer(assignment.readers());
    }
    cluster.assignment_view.note_use(now, &assignment.video_id);
    let readers = cluster.routes_of(now, assignment, rand::random());
    let Some(first) = readers.first() else {
        drop(cluster);
        manager.note_unserved(&assignment.video_id);
        return Err(Problem::part_unavailable("the video's reader has not reported itself yet: try again"));
    };
    if cluster.reader_status(now, &first.id) > Some(ReaderStatus::Draining) {
        // There is no other reader; viewers who are sent to this one may find nobody.
        cluster.unserved_viewers.note_unserved(now, &assignment.video_id);
        manager.metrics.requests_unserved.inc();
    }
    let is_counted = ensured.is_viewer_counted || assignment.readers().len() > 1;
    cluster.note_viewer_sent(now, &first.id, is_counted);
    Ok(readers)
}

/// Reads the body of a request for a route. An epoch may be written as a decimal number whose fraction is zero, such as
/// `3.0`.
///
/// # Errors
/// 400 names the field that is wrong.
fn read_route_request(body: &Map<String, Value>) -> Result<RouteRequest, Problem> {
    let videoid = VideoId::parse_field("videoid", required_text(body, "videoid")?)?;
    let epoch = match body.get("epoch") {
        None | Some(Value::Null) => None,
        Some(epoch) => Some(check_epoch("epoch", to_whole_number(epoch).unwrap_or(u64::MAX), now_micros())?),
    };
    let viewer_address = match body.get("viewer_address") {
        None | Some(Value::Null) => None,
        Some(address) => {
            let address = address.as_str().and_then(|text| text.parse().ok());
            Some(address.ok_or_else(|| Invalid::new("viewer_address", "must be an IP address"))?)
        }
    };
    Ok(RouteRequest { videoid, epoch, viewer_address })
}

async fn post_route(
    State(manager): State<Arc<Manager>>,
    Extension(OptionalCaller(caller)): Extension<OptionalCaller>,
    exchange: RequestExchange,
    JsonObject(body): JsonObject,
) -> Result<Json<Route>, Problem> {
    let RouteRequest { videoid: video, epoch, viewer_address } = read_route_request(&body)?;
    let is_gateway = caller.as_ref().is_some_and(|caller| caller.role() == CallerRole::Gateway);
    let registrant = (!is_gateway).then(|| {
        // A reader that does not say for whom it asks, as one of an earlier release, asks for itself.
        let address = viewer_address.unwrap_or_else(|| exchange.client());
        Registrant::new(address, caller.as_ref().and_then(KnownCaller::reader_id).cloned())
    });
    let ensured = registering::ensure_within_share(&manager, &video, epoch.unwrap_or(0), registrant).await?;
    let mut readers = readers_for_viewer(&manager, &ensured)?;
    if !is_gateway {
        // A reader has no use for pass keys, because readers send viewers to each other by redirects; and a stolen
        // reader identity must not permit watching as anybody.
        for reader in &mut readers {
            reader.pass_key = None;
        }
    }
    let stale = !manager.cluster().reader_watch.is_view_recent(Instant::now());
    Ok(Json(Route { videoid: video, epoch: ensured.assignment.epoch(), readers, stale }))
}

async fn get_viewers(
    State(manager): State<Arc<Manager>>,
    PathVideo(video): PathVideo,
) -> Json<ViewersAnswer> {
    let peak = peaks::read_peaks(&manager, std::slice::from_ref(&video))
        .await
        .and_then(|peaks| peaks.first().copied());
    let viewers = manager.cluster().viewer_count_of(&video);
    Json(ViewersAnswer { videoid: video, viewers, peak })
}

async fn post_viewers(
    State(manager): State<Arc<Manager>>,
    headers: HeaderMap,
    sent: Body,
) -> Result<Json<ViewersOfVideos>, Problem> {
    body::expect_json(&headers)?;
    let read = body::read_body(&headers, sent, MAX_VIEWERS_BYTES).await?;
    let ViewersRequest { videos, peaks } = serde_json::from_slice(&read)
        .map_err(|error| Invalid::new("videos", format!("must be a list of ids of videos: {error}")))?;
    if videos.len() > MAX_VIDEOS_PER_VIEWERS_REQUEST {
        return Err(
            Invalid::new("videos", format!("must be at most {MAX_VIDEOS_PER_VIEWERS_REQUEST}")).into()
        );
    }
    let peaks = if peaks { peaks::read_peaks(&manager, &videos).await } else { None };
    let cluster = manager.cluster();
    Ok(Json(ViewersOfVideos {
        viewers: videos.iter().map(|video| cluster.viewer_count_of(video)).collect(),
        peaks,
    }))
}

async fn get_load(
    State(manager): State<Arc<Manager>>,
    query: QueryParams,
) -> Result<Json<ClusterLoad>, Problem> {
    let detailed = query.optional_text("assignments")?.is_none() || query.optional_flag("assignments")?;
    let per_minute = manager.config.max_viewers_moved_per_minute;
    Ok(Json(manager.cluster().cluster_load(Instant::now(), per_minute, detailed)))
}

async fn post_heartbeat(
    State(manager): State<Arc<Manager>>,
    Extension(OptionalCaller(caller)): Extension<OptionalCaller>,
    headers: HeaderMap,
    sent: Body,
) -> Result<Json<HeartbeatAnswer>, Problem> {
    body::expect_json(&headers)?;
    let record = read_heartbeat(&body::read_body(&headers, sent, MAX_HEARTBEAT_BYTES).await?)?;
    expect_own_record(&manager, caller.as_ref(), &record)?;
    manager.metrics.heartbeats_heard.inc();
    {
        let (mut cluster, now) = (manager.cluster(), Instant::now());
        if cluster.reader_watch.was_suspended(now) {
            return Err(Problem::part_unavailable("this manager stood still for a while: tell another one"));
        }
        if let Some(taken) = cluster.reader_watch.name_refusal(&record) {
            return Err(Problem::new(StatusCode::CONFLICT, taken.to_string()));
        }
        if cluster.reader_watch.is_outdated(&record) {
            return Err(Problem::part_unavailable(
                "a later heartbeat of this reader has come: send the next one",
            ));
        }
        cluster.note_heartbeat(now, record.clone());
    }
    // Refused if the store could not be told: the reader then asks another manager, which may reach the store.
    let began = Instant::now();
    let shared = manager.ask_store(manager.assignment_store.note_heartbeat(&record)).await;
    shared.map_err(|error| Problem::part_unavailable(format!("{error}: try again")))?;
    let now = Instant::now();
    manager.cluster().reader_watch.note_lateness(now, now.saturating_duration_since(began));
    let per_minute = manager.config.max_viewers_moved_per_minute;
    let (answer, viewers_elsewhere, room_elsewhere) = {
        let (cluster, now) = (manager.cluster(), Instant::now());
        let room = record.draining.then(|| cluster.room_elsewhere(now, &record.id));
        (cluster.answer_heartbeat(now, &record, per_minute), cluster.viewers_elsewhere(&record), room)
    };
    let hand_over = answer.hand_overs;
    for (reader, video) in answer.warm_up_requests.into_iter().take(MAX_VIDEOS_AFTER_HEARTBEAT) {
        let manager = Arc::clone(&manager);
        tokio::spawn(async move { carry::ask_to_warm(&manager, &reader, &video).await });
    }
    let crowded = answer.videos_without_room.into_iter().map(|(video, _)| (video, 0));
    for (video, known) in answer.outdated_videos.into_iter().chain(crowded).take(MAX_VIDEOS_AFTER_HEARTBEAT) {
        let manager = Arc::clone(&manager);
        tokio::spawn(async move { manager.ensure_assigned(&video, known).await });
    }
    Ok(Json(HeartbeatAnswer { hand_over, viewers_elsewhere, room_elsewhere }))
}

/// Refuses with 403 a heartbeat that a reader sends for another reader, or that names an address which is not permitted
/// for this reader.
fn expect_own_record(
    manager: &Manager,
    caller: Option<&KnownCaller>,
    record: &ReaderRecord,
) -> Result<(), Problem> {
    let forbidden = |field: &str, detail: String| {
        manager.metrics.heartbeats_refused.inc();
        Problem::new(StatusCode::FORBIDDEN, detail).with_member("field", field)
    };
    if caller.and_then(KnownCaller::reader_id) != Some(&record.id) {
        let detail = format!("id: a reader speaks for itself, and this one is not {}", record.id);
        return Err(forbidden("id", detail));
    }
    for (field, url) in [("public_url", &record.public_url), ("internal_url", &record.internal_url)] {
        if !manager.reader_addresses.may_be_at(&record.id, url) {
            let detail = format!("{field}: reader {} may not be there, says --reader-urls", record.id);
            return Err(forbidden(field, detail));
        }
    }
    Ok(())
}

/// Parses a heartbeat and checks everything that can be checked without knowing the sender.
///
/// # Errors
/// Names the field that is invalid.
pub fn read_heartbeat(json: &[u8]) -> Result<ReaderRecord, Problem> {
    let record: ReaderRecord = serde_json::from_slice(json)
        .map_err(|error| Invalid::new("body", format!("is not a reader's heartbeat: {error}")))?;
    for (field, url) in [("public_url", &record.public_url), ("internal_url", &record.internal_url)] {
        let is_http = url.parse::<Url>().is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
        if !is_http || url.len() > MAX_URL_BYTES {
            return Err(Invalid::new(field, "must be an http address").into());
        }
    }
    let now = now_micros();
    check_epoch("highest_epoch", record.highest_epoch, now)?;
    for held in &record.videos {
        check_epoch("videos.epoch", held.epoch, now)?;
        check_count("videos.viewers", held.viewers)?;
    }
    for (field, count) in [
        ("capacity", record.capacity),
        ("viewers", record.viewers),
        ("grace_ms", record.grace_ms),
        ("reconnects", record.reconnects),
        ("reconnect_errors", record.reconnect_errors),
        ("viewers_by_zone.same", record.viewers_by_zone.same),
        ("viewers_by_zone.other", record.viewers_by_zone.other),
    ] {
        check_count(field, count)?;
    }
    if record.ticket.as_ref().is_some_and(|ticket| ticket.expose().len() > MAX_TICKET_BYTES) {
        return Err(Invalid::new("ticket", format!("must be at most {MAX_TICKET_BYTES} bytes")).into());
    }
    if !is_plausible_epoch(record.incarnation, now) {
        return Err(Invalid::new("incarnation", "is a time that has not come").into());
    }
    Ok(record)
}

async fn get_health(State(manager): State<Arc<Manager>>) -> Json<ManagerHealth> {
    let cluster = manager.cluster();
    let readers = cluster.open_readers().map(|sighting| sighting.last_record.public_url.clone());
    Json(ManagerHealth {
        service: ServiceHealth::healthy("manager"),
        registered_videos: cluster.registered_count() as u64,
        available_reader_apis: readers.collect(),
        registration_count: manager.metrics.registrations_answered.get(),
    })
}
