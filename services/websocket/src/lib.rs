//! The WebSocket service: pushes ranked lists as they change.
//!
//! | module | does |
//! |---|---|
//! | `router` | takes the handshake and reads what is asked for |
//! | `mirror` | follows the ranking, so that a list costs no store anything |
//! | `boards` | both boards in memory |
//! | `lists` | which lists are watched; each is computed, paced and encoded once for all who watch it |
//! | `published` | one state of a list, as frames |
//! | `pace` | first change at once, then at most ten a second |
//! | `connection`, `frame` | one client: frames out, liveness, and what it may say |
//!
//! It keeps nothing but the mirror: any number may run side by side.

use std::sync::Arc;
use std::time::Duration;

use liverank_adapters::{Backends, RankingStore};
use liverank_protocol::access;
use liverank_runtime::origins::Origins;
use liverank_runtime::streams::Streams;
use liverank_runtime::{Identity, ServiceContext, Tasks, server};
use tokio::net::TcpListener;

mod boards;
mod connection;
pub mod frame;
mod handshake;
mod lists;
pub mod measure;
mod metrics;
mod mirror;
mod pace;
mod published;
mod router;

use lists::AllLists;
use metrics::WebsocketMetrics;
use mirror::BoardsMirror;

/// How the WebSocket service is set up.
#[derive(Debug, Clone, clap::Args)]
pub struct Config {
    /// Most `WebSockets` open at once; fewer where the limit of open files says so.
    #[arg(long, env = "LIVERANK_MAX_WEBSOCKETS", default_value_t = 50_000)]
    pub max_websockets: usize,
    /// How long clients may take.
    #[arg(skip)]
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self { max_websockets: 50_000, limits: Limits::default() }
    }
}

/// How long a client may take before it counts as gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Between pings.
    pub ping: Duration,
    /// Without a word from the client, not even a pong.
    pub silence: Duration,
    /// Without taking a single byte of a message.
    pub stall: Duration,
    /// For one message in all: who takes bytes one by one keeps an old list in memory.
    pub message: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Proxies close what is idle for 60 s or less; three pings may get lost.
            ping: Duration::from_secs(20),
            silence: Duration::from_secs(65),
            stall: Duration::from_secs(20),
            // A list of 6 MB at 1 Mbit/s.
            message: Duration::from_mins(1),
        }
    }
}

/// What every request and connection is given.
pub(crate) struct WebsocketService {
    lists: Arc<AllLists>,
    mirror: Arc<BoardsMirror>,
    streams: Streams,
    origins: Arc<Origins>,
    limits: Limits,
    identity: Identity,
    metrics: WebsocketMetrics,
}

/// Serves until shutdown; then clients are sent away in turn, within the drain.
pub async fn run(
    config: Config,
    backends: Backends,
    listener: TcpListener,
    shell: ServiceContext,
) -> anyhow::Result<()> {
    serve(config, backends.ranking, listener, shell).await
}

/// [`run`], with the one store that it needs.
pub async fn serve(
    config: Config,
    ranking: Arc<dyn RankingStore>,
    listener: TcpListener,
    shell: ServiceContext,
) -> anyhow::Result<()> {
    let metrics = WebsocketMetrics::new(&shell.metrics);
    let mirror = Arc::new(BoardsMirror::default());
    let lists = Arc::new(AllLists::new(Arc::clone(&mirror), metrics.clone()));
    let service = Arc::new(WebsocketService {
        lists: Arc::clone(&lists),
        mirror: Arc::clone(&mirror),
        streams: Streams::new(config.max_websockets, &shell, metrics.connections.clone()),
        origins: Arc::clone(&shell.http.origins),
        limits: config.limits,
        identity: shell.identity.clone(),
        metrics: metrics.clone(),
    });
    shell.health.starting("ranking");
    let tasks = Tasks::new(&shell);
    let followed = mirror::follow_ranking(&mirror, &lists, &*ranking, &shell, &metrics);
    let followed = tasks.inside("follow_ranking", followed);
    let router = router::new(Arc::clone(&service), &shell.identity);
    let served = server::serve(access::Service::Websocket, listener, router, &shell);
    let drained = service.streams.drained();
    // The boards go on moving while clients leave.
    let (followed, served, ()) = tokio::join!(
        async {
            tokio::select! {
                followed = followed => {
                    // Without the ranking there is nothing to serve: the process ends, in order.
                    shell.shutdown.cancel();
                    followed
                }
                () = service.streams.drained() => Ok(()),
            }
        },
        served,
        drained,
    );
    followed?;
    served
}
