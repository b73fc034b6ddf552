//! The manager's endpoints: the comments seed's `register` and `resolve`, and what our own processes ask.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use liverank_core::epoch::{check_count, check_epoch, is_plausible_epoch};
use liverank_core::event::required_text;
use liverank_core::handover::coordinator::ReaderStatus;
use liverank_core::json::whole_number;
use liverank_core::{Invalid, VideoId, canary};
use liverank_protocol::access::{CalledService, CallerRole, KnownCaller};
use liverank_protocol::{
    ClusterLoad, HeartbeatAnswer, MAX_VIDEOS_PER_VIEWERS_REQUEST, ReaderRecord, RegisterAction,
    RegisterAnswer, ResolveAnswer, Route, RouteReader, RouteRequest, ViewersAnswer, ViewersOfVideos,
    ViewersRequest,
};
use liverank_runtime::body::{self, JsonObject};
use liverank_runtime::identity::guard::{CallerIfKnown, GuardedRoutes};
use liverank_runtime::origins::AllowedOrigins;
use liverank_runtime::params::{PathVideo, QueryParams};
use liverank_runtime::{Problem, cors, now_micros, server};
use reqwest::Url;
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use crate::manager::EnsuredAssignment;
use crate::{Manager, carry};

mod orders;
mod overview;

/// The largest heartbeat: 30,000 watched videos with ids of usual length.
const MAX_HEARTBEAT_BYTES: usize = 8 * 1024 * 1024;

/// The largest question for viewers: as many ids as there may be, of the greatest length, each character escaped.
const MAX_VIEWERS_BYTES: usize = 1024 * 1024;

/// How long the store may take for a video that is not known here: what is known is the answer then.
const LOOK_UP_WITHIN: Duration = Duration::from_millis(500);
/// Videos that other readers are asked to hold ready, or that are decided anew, after one heartbeat. The next one brings
/// the rest.
const MAX_VIDEOS_AFTER_HEARTBEAT: usize = 16;
/// The longest ticket of a reader.
const MAX_TICKET_BYTES: usize = 256;
/// The longest address of a reader.
const MAX_URL_BYTES: usize = 2_048;

/// The endpoints.
pub fn router(manager: Arc<Manager>, origins: Arc<AllowedOrigins>) -> Router {
    let (public, internal) = GuardedRoutes::of_service(CalledService::Manager)
        .post("/register", post(post_register))
        .get("/resolve/{videoid}", get(get_resolve))
        .get("/health", get(get_health))
        .post("/route", post(route))
        .get("/viewers/{videoid}", get(viewers))
        .post("/heartbeat", post(heartbeat))
        .post("/viewers", post(post_viewers))
        .get("/load", get(load))
        .get("/moves", get(orders::moves_shown))
        .get("/cordons", get(orders::cordons_shown))
        .get("/plan", get(orders::plan))
        .get("/overview", get(overview::overview))
        .post("/what-if", post(overview::answer_what_if))
        .post("/term", post(orders::term))
        .post("/moves", post(orders::moves))
        .post("/cordons", post(orders::cordons))
        .into_guarded_routers(&manager.identity, None);
    let public =
        server::with_problem_fallbacks(public).layer(from_fn_with_state(origins, cors::answer_cross_origin));
    public.merge(server::with_method_fallback(internal)).with_state(manager)
}

async fn post_register(
    State(manager): State<Arc<Manager>>,
    JsonObject(body): JsonObject,
) -> Result<Json<RegisterAnswer>, Problem> {
    let video = canary::parse_outside_id("videoid", required_text(&body, "videoid")?)?;
    let ensured = note_if_unserved(&manager, &video, manager.ensure_assigned(&video, 0).await)?;
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
        // Another manager may have registered it just now.
        None => timeout(LOOK_UP_WITHIN, manager.look_up_assignment(&video)).await.unwrap_or_default(),
        known => known,
    };
    let Some(assignment) = known else {
        if !manager.cluster().assignment_view.is_loaded() {
            return Err(Problem::part_unavailable("the assignments are not known yet: try again"));
        }
        return Err(Problem::not_found("no reader serves this video: register it")
            .with_member("videoid", video.as_str()));
    };
    // As in a route: where its readers are gone or full, it is given another one.
    let ensured =
        manager.ensure_assigned(&video, 0).await.unwrap_or_else(|_| EnsuredAssignment::in_force(assignment));
    let reader_url = best_reader(&manager, &ensured)?.public_url;
    Ok(Json(ResolveAnswer { videoid: video, reader_url }))
}

/// Notes a request that no reader could be named for.
fn note_if_unserved<T, E>(manager: &Manager, video: &VideoId, answer: Result<T, E>) -> Result<T, E> {
    if answer.is_err() {
        manager.note_unserved(video);
    }
    answer
}

fn best_reader(manager: &Manager, ensured: &EnsuredAssignment) -> Result<RouteReader, Problem> {
    readers_for_viewer(manager, ensured).map(|mut readers| readers.swap_remove(0))
}

/// An assignment's readers, the best first, for a viewer who is to come; at least one.
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
        // There is no other; whoever is sent there may find nobody.
        cluster.unserved_viewers.note_unserved(now, &assignment.video_id);
        manager.metrics.requests_unserved.inc();
    }
    let is_counted = ensured.is_viewer_counted || assignment.readers().len() > 1;
    cluster.note_viewer_sent(now, &first.id, is_counted);
    Ok(readers)
}

/// Names the field that is wrong. An epoch may be written with a fraction of nothing.
fn read_route_request(body: &Map<String, Value>) -> Result<RouteRequest, Problem> {
    let videoid = VideoId::parse_field("videoid", required_text(body, "videoid")?)?;
    let epoch = match body.get("epoch") {
        None | Some(Value::Null) => None,
        Some(epoch) => Some(check_epoch("epoch", whole_number(epoch).unwrap_or(u64::MAX), now_micros())?),
    };
    Ok(RouteRequest { videoid, epoch })
}

async fn route(
    State(manager): State<Arc<Manager>>,
    Extension(asking): Extension<CallerIfKnown>,
    JsonObject(body): JsonObject,
) -> Result<Json<Route>, Problem> {
    let RouteRequest { videoid: video, epoch } = read_route_request(&body)?;
    let known = epoch.unwrap_or(0);
    let ensured = note_if_unserved(&manager, &video, manager.ensure_assigned(&video, known).await)?;
    let mut readers = readers_for_viewer(&manager, &ensured)?;
    if !asking.has_role_of(&[CallerRole::Gateway]) {
        // Of no use to a reader, which sends viewers to each other by redirects; one that was stolen must not watch as anybody.
        for reader in &mut readers {
            reader.pass_key = None;
        }
    }
    let stale = !manager.cluster().reader_watch.is_fresh(Instant::now());
    Ok(Json(Route { videoid: video, epoch: ensured.assignment.epoch(), readers, stale }))
}

async fn viewers(State(manager): State<Arc<Manager>>, PathVideo(video): PathVideo) -> Json<ViewersAnswer> {
    let viewers = manager.cluster().viewers(&video);
    Json(ViewersAnswer { videoid: video, viewers })
}

async fn post_viewers(
    State(manager): State<Arc<Manager>>,
    headers: HeaderMap,
    sent: Body,
) -> Result<Json<ViewersOfVideos>, Problem> {
    body::expect_json(&headers)?;
    let read = body::read(&headers, sent, MAX_VIEWERS_BYTES).await?;
    let ViewersRequest { videos } = serde_json::from_slice(&read)
        .map_err(|error| Invalid::new("videos", format!("must be a list of ids of videos: {error}")))?;
    if videos.len() > MAX_VIDEOS_PER_VIEWERS_REQUEST {
        return Err(
            Invalid::new("videos", format!("must be at most {MAX_VIDEOS_PER_VIEWERS_REQUEST}")).into()
        );
    }
    let cluster = manager.cluster();
    Ok(Json(ViewersOfVideos { viewers: videos.iter().map(|video| cluster.viewers(video)).collect() }))
}

async fn load(State(manager): State<Arc<Manager>>, query: QueryParams) -> Result<Json<ClusterLoad>, Problem> {
    let detailed = query.optional_text("assignments")?.is_none() || query.optional_flag("assignments")?;
    let per_minute = manager.config.max_viewers_moved_per_minute;
    Ok(Json(manager.cluster().cluster_load(Instant::now(), per_minute, detailed)))
}

async fn heartbeat(
    State(manager): State<Arc<Manager>>,
    Extension(CallerIfKnown(caller)): Extension<CallerIfKnown>,
    headers: HeaderMap,
    sent: Body,
) -> Result<Json<HeartbeatAnswer>, Problem> {
    body::expect_json(&headers)?;
    let record = read_heartbeat(&body::read(&headers, sent, MAX_HEARTBEAT_BYTES).await?)?;
    expect_own_record(&manager, caller.as_ref(), &record)?;
    manager.metrics.heartbeats_heard.inc();
    {
        let (mut cluster, now) = (manager.cluster(), Instant::now());
        if cluster.reader_watch.stood_still(now) {
            return Err(Problem::part_unavailable("this manager stood still for a while: tell another one"));
        }
        if let Some(taken) = cluster.reader_watch.name_taken(&record) {
            return Err(Problem::new(StatusCode::CONFLICT, taken.to_string()));
        }
        cluster.note_heartbeat(now, record.clone());
    }
    // Refused where it could not be shared: the reader then asks another manager, which may reach the store.
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
    for (reader, video) in answer.to_warm.into_iter().take(MAX_VIDEOS_AFTER_HEARTBEAT) {
        let manager = Arc::clone(&manager);
        tokio::spawn(async move { carry::ask_to_warm(&manager, &reader, &video).await });
    }
    let crowded = answer.no_room.into_iter().map(|(video, _)| (video, 0));
    for (video, known) in answer.outdated_videos.into_iter().chain(crowded).take(MAX_VIDEOS_AFTER_HEARTBEAT) {
        let manager = Arc::clone(&manager);
        tokio::spawn(async move { manager.ensure_assigned(&video, known).await });
    }
    Ok(Json(HeartbeatAnswer { hand_over, viewers_elsewhere, room_elsewhere }))
}

/// 403 for a reader that speaks for another one, or says that it is where it is not.
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

/// Reads a heartbeat, and judges all that can be judged without knowing who sent it.
///
/// # Errors
/// Names the field that is wrong.
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

async fn get_health(State(manager): State<Arc<Manager>>) -> Json<Value> {
    let cluster = manager.cluster();
    let readers: Vec<&str> =
        cluster.open_readers().map(|sighting| sighting.last_record.public_url.as_str()).collect();
    Json(json!({
        "status": "healthy",
        "service": "manager",
        "registeredVideos": cluster.registered_count(),
        "availableReaderApis": readers,
        "registrationCount": manager.metrics.registrations_answered.get(),
    }))
}
