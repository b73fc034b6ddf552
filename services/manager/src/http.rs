//! The manager's endpoints: the comments seed's `register` and `resolve`, and what our own processes ask.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::middleware::from_fn;
use axum::routing::{get, post};
use axum::{Json, Router};
use liverank_adapters::assignment_store::{MAX_EPOCH, ReaderRecord};
use liverank_core::event::required_text;
use liverank_core::placement::Assignment;
use liverank_core::{Invalid, VideoId};
use liverank_shell::body::{self, JsonObject};
use liverank_shell::params::PathVideo;
use liverank_shell::wire::{HeartbeatAnswer, Load, Route, RouteReader, Viewers};
use liverank_shell::{Problem, cors, server};
use reqwest::Url;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::Manager;

/// The largest heartbeat: 30,000 watched videos with ids of usual length.
const MAX_HEARTBEAT_BYTES: usize = 8 * 1024 * 1024;
/// How long the store may take for a video that is not known here: what is known is the answer then.
const LOOK_UP_WITHIN: Duration = Duration::from_millis(500);
/// The longest address of a reader.
const MAX_URL_BYTES: usize = 2_048;

/// The endpoints.
pub fn router(manager: Arc<Manager>) -> Router {
    let router = Router::new()
        .route("/register", post(register))
        .route("/resolve/{videoid}", get(resolve))
        .route("/route", post(route))
        .route("/viewers/{videoid}", get(viewers))
        .route("/load", get(load))
        .route("/heartbeat", post(heartbeat))
        .route("/health", get(health));
    server::with_fallbacks(router).with_state(manager).layer(from_fn(cors::allow_any_origin))
}

async fn register(
    State(manager): State<Arc<Manager>>,
    JsonObject(body): JsonObject,
) -> Result<Json<Value>, Problem> {
    let video = VideoId::parse_field("videoid", required_text(&body, "videoid")?)?;
    let ensured = manager.ensure(&video).await?;
    manager.metrics.registrations.inc();
    let action = if ensured.is_new { "registered" } else { "existing" };
    let reader = best(&manager, &ensured.assignment)?;
    Ok(Json(json!({"videoid": video, "readerUrl": reader.public_url, "action": action})))
}

async fn resolve(
    State(manager): State<Arc<Manager>>,
    PathVideo(video): PathVideo,
) -> Result<Json<Value>, Problem> {
    let known = manager.cluster().view.get(&video).cloned();
    let known = match known {
        // Another manager may have registered it just now.
        None => timeout(LOOK_UP_WITHIN, manager.look_up(&video)).await.unwrap_or_default(),
        known => known,
    };
    let Some(assignment) = known else {
        if !manager.cluster().view.is_loaded() {
            return Err(Problem::unavailable("the assignments are not known yet: try again"));
        }
        return Err(
            Problem::not_found("no reader serves this video: register it").with("videoid", video.as_str())
        );
    };
    let reader = best(&manager, &assignment)?;
    Ok(Json(json!({"videoid": video, "readerUrl": reader.public_url})))
}

fn best(manager: &Manager, assignment: &Assignment) -> Result<RouteReader, Problem> {
    let unknown = || Problem::unavailable("the video's reader has not reported itself yet: try again");
    let mut cluster = manager.cluster();
    cluster.view.touch(Instant::now(), &assignment.video_id);
    cluster.reach(assignment).into_iter().next().ok_or_else(unknown)
}

async fn route(
    State(manager): State<Arc<Manager>>,
    JsonObject(body): JsonObject,
) -> Result<Json<Route>, Problem> {
    let video = VideoId::parse_field("videoid", required_text(&body, "videoid")?)?;
    let assignment = manager.ensure(&video).await?.assignment;
    best(&manager, &assignment)?;
    let readers = manager.cluster().reach(&assignment);
    Ok(Json(Route { videoid: video, epoch: assignment.epoch, readers }))
}

async fn viewers(State(manager): State<Arc<Manager>>, PathVideo(video): PathVideo) -> Json<Viewers> {
    let viewers = manager.cluster().viewers(&video);
    Json(Viewers { videoid: video, viewers })
}

async fn load(State(manager): State<Arc<Manager>>) -> Json<Load> {
    Json(manager.cluster().load())
}

async fn heartbeat(
    State(manager): State<Arc<Manager>>,
    headers: HeaderMap,
    sent: Body,
) -> Result<Json<HeartbeatAnswer>, Problem> {
    body::expect_json(&headers)?;
    let record = read_record(&body::read(sent, MAX_HEARTBEAT_BYTES).await?)?;
    manager.metrics.heartbeats.inc();
    manager.cluster().heard(Instant::now(), record.clone());
    if record.draining {
        manager.sweep_now.notify_one();
    }
    // Refused where it could not be shared: the reader then asks another manager, which may reach the store.
    let shared = manager.ask(manager.store.heartbeat(&record)).await;
    shared.map_err(|error| Problem::unavailable(format!("{error}: try again")))?;
    Ok(Json(HeartbeatAnswer { moved: manager.cluster().moved(&record) }))
}

fn read_record(json: &[u8]) -> Result<ReaderRecord, Problem> {
    let record: ReaderRecord = serde_json::from_slice(json)
        .map_err(|error| Invalid::new("body", format!("is not a reader's heartbeat: {error}")))?;
    for (field, url) in [("public_url", &record.public_url), ("internal_url", &record.internal_url)] {
        let is_http = url.parse::<Url>().is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
        if !is_http || url.len() > MAX_URL_BYTES {
            return Err(Invalid::new(field, "must be an http address").into());
        }
    }
    if record.highest_epoch >= MAX_EPOCH {
        return Err(Invalid::new("highest_epoch", "is above any that can have been minted").into());
    }
    Ok(record)
}

async fn health(State(manager): State<Arc<Manager>>) -> Json<Value> {
    let cluster = manager.cluster();
    let readers: Vec<&str> =
        cluster.watch.open().map(|sighting| sighting.record.public_url.as_str()).collect();
    Json(json!({
        "status": "healthy",
        "service": "manager",
        "registeredVideos": cluster.view.len(),
        "availableReaderApis": readers,
        "registrationCount": manager.metrics.registrations.get(),
    }))
}
