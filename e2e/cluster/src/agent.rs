//! What runs inside the cluster, in pods of its own: an audience that watches and posts as clients do, by the names that
//! cluster DNS gives, and on each node one who can look at and kill processes of pods. The harness outside speaks to both
//! through the API server's proxy, so that it needs no way to pods or Services of its own.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post, put};
use axum::{Json, Router};
use reqwest::Url;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpListener;

pub mod audience;
pub mod poster;
pub mod processes;
pub mod stream;
pub mod tls;
pub mod viewer;

use audience::ClusterAudience;
use poster::{PostedCounts, WantedPosting};
use viewer::ConnectWay;

/// Where both kinds listen in their pods.
pub const AGENT_PORT: u16 = 7000;

/// Those who watch a video, as the harness wants them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedCrowd {
    /// The video.
    pub video: String,
    /// How many watch it.
    pub viewers: usize,
    /// How they connect.
    pub way: ConnectWay,
    /// How many come in a second, at most.
    pub arrivals: usize,
}

/// What an audience saw since it was asked to forget.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudienceReport {
    /// Viewers there should be.
    pub viewers: usize,
    /// Viewers with a stream that greeted them.
    pub connected: usize,
    /// Some of those who have none, and why.
    pub without: Vec<String>,
    /// Comments received.
    pub comments: u64,
    /// Streams that ended and were begun again.
    pub reconnects: u64,
    /// Of the direct viewers, how many went from one reader to another.
    pub moved: usize,
    /// The most moves that any one of them made.
    pub most_moves: u64,
    /// Who made them, and each of them.
    pub most_moves_in_words: String,
    /// Viewers who made more than one.
    pub moved_twice: usize,
    /// The longest that anybody was without a stream, in ms.
    pub longest_away_ms: u64,
    /// Who that was, and what came of its attempts.
    pub longest_attempts: String,
    /// What was not as it should be: holes, repeats, other numberings. The first of them only.
    pub faults: Vec<String>,
    /// How many there were.
    pub fault_count: u64,
}

/// Whether everybody has everything.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SettledAnswer {
    /// Viewers who stand at the head of their video.
    pub level: usize,
    /// What is not so, in words; the first only.
    pub wrong: Vec<String>,
}

/// Runs the audience until the pod ends.
pub async fn run_audience(listen: SocketAddr, gateway: Url) -> anyhow::Result<()> {
    let audience = ClusterAudience::new(gateway)?;
    let router = Router::new()
        .route("/crowds/{name}", put(set_crowd))
        .route("/posting", put(set_posting).get(posted))
        .route("/report", get(report))
        .route("/forget", post(post_forget))
        .route("/settled", get(settled))
        .route("/pushed", get(get_pushed_list))
        .route("/over-tls", post(ask_over_tls))
        .route("/over-tls/comment/{video}", post(comment_over_tls))
        .route("/healthz", get(|| async { "ok" }))
        .with_state(audience);
    Ok(axum::serve(TcpListener::bind(listen).await?, router).await?)
}

/// Runs the one who looks at processes, until the pod ends.
pub async fn run_attendant(listen: SocketAddr) -> anyhow::Result<()> {
    let router = Router::new()
        .route("/processes/{container}", get(get_memory).delete(post_kill))
        .route("/healthz", get(|| async { "ok" }));
    Ok(axum::serve(TcpListener::bind(listen).await?, router).await?)
}

type SharedAudience = State<Arc<ClusterAudience>>;

async fn set_crowd(
    State(audience): SharedAudience,
    Path(name): Path<String>,
    Json(crowd): Json<WantedCrowd>,
) {
    audience.set_crowd(name, crowd);
}

async fn set_posting(State(audience): SharedAudience, Json(posting): Json<WantedPosting>) {
    audience.poster.set_posting(posting);
}

async fn posted(State(audience): SharedAudience) -> Json<PostedCounts> {
    Json(audience.poster.posted())
}

async fn report(State(audience): SharedAudience) -> Json<AudienceReport> {
    Json(audience.report())
}

async fn post_forget(State(audience): SharedAudience) {
    audience.forget_events();
}

async fn settled(State(audience): SharedAudience) -> Json<SettledAnswer> {
    Json(audience.settled().await)
}

async fn get_pushed_list(State(audience): SharedAudience) -> Result<Json<Value>, RefusedAnswer> {
    audience.first_pushed_list().await.map(Json).map_err(|error| refused(&error))
}

async fn ask_over_tls(Json(asked): Json<tls::TlsRequest>) -> Result<Json<tls::TlsAnswer>, RefusedAnswer> {
    asked.get_once().await.map(Json).map_err(|error| refused(&error))
}

async fn comment_over_tls(
    Path(video): Path<String>,
    Json(asked): Json<tls::TlsRequest>,
) -> Result<Json<Value>, RefusedAnswer> {
    let ms = asked.time_comment(&video).await.map_err(|error| refused(&error))?;
    Ok(Json(json!({"ms": ms})))
}

type RefusedAnswer = (StatusCode, String);

fn refused(error: &anyhow::Error) -> RefusedAnswer {
    (StatusCode::NOT_FOUND, format!("{error:#}"))
}

async fn get_memory(
    Path(container): Path<String>,
) -> Result<Json<processes::ContainerMemory>, RefusedAnswer> {
    processes::memory(&container).map(Json).map_err(|error| refused(&error))
}

async fn post_kill(Path(container): Path<String>) -> Result<Json<Value>, RefusedAnswer> {
    processes::kill_processes(&container)
        .map(|killed| Json(json!({"killed": killed})))
        .map_err(|error| refused(&error))
}
