//! The test agents that run in pods inside the cluster. The audience agent watches and posts comments as clients do,
//! by the names of cluster DNS. The attendant agent, one on each node, reads the memory of containers there and kills
//! their processes. The unresponsive agent keeps its clients waiting. The harness outside the cluster calls both agents through the API server's proxy, so it needs no network
//! route to pods or Services.

use std::collections::BTreeMap;
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
pub mod unresponsive;
pub mod viewer;

use audience::ClusterAudience;
use poster::{PostedCounts, WantedPosting};
use viewer::ConnectMode;

/// The TCP port on which both kinds of agent (audience and attendant) listen in their pods.
pub const AGENT_PORT: u16 = 7000;

/// The viewers of one video that the harness asks the audience agent for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedCrowd {
    /// The id of the video that the crowd watches.
    pub video: String,
    /// The number of viewers.
    pub viewers: usize,
    /// The way the viewers connect: through the gateway or directly to readers.
    pub way: ConnectMode,
    /// The most viewers that arrive in a second.
    pub arrivals: usize,
    /// The address of the gateway's pod through which the viewers come; `None`: through the gateway's Service.
    #[serde(default)]
    pub gateway: Option<SocketAddr>,
}

/// The ranked list that the harness waits for, over HTTP or on a WebSocket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WantedList {
    /// The id and the score of each wanted video, in the order of the list. Other videos may stand between these: those of
    /// earlier scenarios.
    pub lines: Vec<(String, f64)>,
    /// The time limit until a WebSocket has pushed the list, in milliseconds.
    pub within_ms: u64,
}

impl WantedList {
    /// Returns the id and the score of each wanted video that `list` has, in the order of `list`.
    pub fn lines_of(&self, list: &Value) -> Vec<(String, f64)> {
        let line = |video: &Value| Some((video["video_id"].as_str()?.to_owned(), video["score"].as_f64()?));
        let lines = list.as_array().into_iter().flatten().filter_map(line);
        lines.filter(|(id, _)| self.lines.iter().any(|(wanted, _)| wanted == id)).collect()
    }

    /// Whether `list` has the wanted videos with their scores, in the wanted order.
    pub fn is_in(&self, list: &Value) -> bool {
        self.lines_of(list) == self.lines
    }
}

/// What the viewers of an audience saw since the last `POST /forget`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudienceReport {
    /// The number of viewers that were asked for.
    pub viewers: usize,
    /// The number of viewers with an open stream on which a greeting came.
    pub connected: usize,
    /// Some of the viewers without a stream, each with the reason why its last stream ended.
    pub without: Vec<String>,
    /// The number of comments that all viewers received.
    pub comments: u64,
    /// The number of streams that ended and were opened again.
    pub reconnects: u64,
    /// The number of direct viewers that went from one reader to another at least once.
    pub moved: usize,
    /// The greatest number of moves that one direct viewer made.
    pub most_moves: u64,
    /// The viewer that made `most_moves` moves, with the description of each move.
    pub most_moves_in_words: String,
    /// The number of direct viewers that made more than one move.
    pub moved_twice: usize,
    /// The longest time that any viewer was without a stream, in milliseconds.
    pub longest_away_ms: u64,
    /// The viewer that was longest without a stream, with the result of each of its attempts to connect.
    pub longest_attempts: String,
    /// The first faults that viewers noted, in words: missing comments, repeated comments, another comment epoch.
    pub faults: Vec<String>,
    /// The number of all faults, also of those that `faults` leaves out.
    pub fault_count: u64,
}

/// The answer to the question whether every viewer has every comment that was posted.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SettledAnswer {
    /// The number of viewers whose last comment is the last comment of their video.
    pub level: usize,
    /// What is still missing, in words (the first findings only); empty if every viewer has every comment.
    pub wrong: Vec<String>,
}

/// Serves the audience agent on `listen` until the pod ends.
pub async fn run_audience(listen: SocketAddr, gateway: Url) -> anyhow::Result<()> {
    let audience = ClusterAudience::new(gateway)?;
    let router = Router::new()
        .route("/crowds/{name}", put(set_crowd))
        .route("/crowds/{name}/readers", get(crowd_by_reader))
        .route("/posting", put(set_posting).get(posted))
        .route("/report", get(report))
        .route("/forget", post(post_forget))
        .route("/settled", get(settled))
        .route("/pushed", post(wait_for_pushed_list))
        .route("/over-tls", post(ask_over_tls))
        .route("/over-tls/comment/{video}", post(comment_over_tls))
        .route("/healthz", get(|| async { "ok" }))
        .with_state(audience);
    Ok(axum::serve(TcpListener::bind(listen).await?, router).await?)
}

/// Serves the attendant agent, which reads the memory of containers and kills their processes, until the pod ends.
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

async fn crowd_by_reader(
    State(audience): SharedAudience,
    Path(name): Path<String>,
) -> Json<BTreeMap<String, usize>> {
    Json(audience.crowd_by_reader(&name))
}

async fn set_posting(State(audience): SharedAudience, Json(posting): Json<WantedPosting>) {
    audience.poster.set_posting(posting);
}

async fn posted(State(audience): SharedAudience) -> Json<PostedCounts> {
    Json(audience.poster.posted_counts())
}

async fn report(State(audience): SharedAudience) -> Json<AudienceReport> {
    Json(audience.report())
}

async fn post_forget(State(audience): SharedAudience) {
    audience.forget_events();
}

async fn settled(State(audience): SharedAudience) -> Json<SettledAnswer> {
    Json(audience.check_settled().await)
}

async fn wait_for_pushed_list(
    State(audience): SharedAudience,
    Json(wanted): Json<WantedList>,
) -> Result<Json<Value>, RefusedAnswer> {
    audience.wait_for_pushed_list(&wanted).await.map(Json).map_err(|error| refused(&error))
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
