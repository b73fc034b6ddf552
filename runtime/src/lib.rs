//! The shell around every process, once for all: logs, metrics, the admin port, the HTTP server with its limits and
//! errors, configuration, peers, and an orderly end.
//!
//! A service is a library with `run(config, …, listener, shell)`; [`ServiceContext`] is what it is given to live in.

pub mod admin;
pub mod boards;
pub mod body;
pub mod client;
pub mod comment_json;
pub mod config;
pub mod cors;
pub mod duration;
#[cfg(feature = "failpoints")]
pub mod failpoints;
pub mod follow;
pub mod health;
pub mod http_args;
pub mod http_metrics;
pub mod identity;
pub mod jwt;
pub mod metrics;
pub mod metrics_reference;
pub mod moderation_json;
pub mod network;
pub mod one_line;
pub mod origins;
pub mod output;
pub mod params;
pub mod peer;
pub mod problem;
pub mod process;
pub mod report;
pub mod request_id;
pub mod server;
pub mod shares;
pub mod shutdown;
pub mod streams;
pub mod tasks;
pub mod telemetry;
pub mod tls;
pub mod traces;
pub mod uploads;
pub mod websocket;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use liverank_core::Millis;
use tokio_util::sync::CancellationToken;

pub use health::Health;
pub use http_args::{HttpArgs, HttpSettings};
pub use identity::Identity;
pub use metrics::Metrics;
pub use peer::PeerClient;
pub use problem::Problem;
pub use tasks::Tasks;
pub use tls::PeerTls;
pub use traces::Tracer;

/// What a running service is given: when to end, and where to show how it is. Cheap to clone.
#[derive(Clone)]
pub struct ServiceContext {
    /// Cancelled when the process is asked to end: stop taking work, finish what was taken, tell open streams.
    pub shutdown: CancellationToken,
    /// How long finishing may take, counted from the cancellation; then what is left is dropped.
    pub drain_time: Duration,
    /// What `/readyz` tells.
    pub health: Health,
    /// What `/metrics` tells.
    pub metrics: Metrics,
    /// Who this process is to our others, and how it knows them.
    pub identity: Identity,
    /// How its HTTP ports are run.
    pub http_settings: HttpSettings,
    /// How it knows our others over TLS.
    pub peer_tls: PeerTls,
    /// Where its spans go.
    pub tracer: Tracer,
    /// Makes supervised tasks panic, for tests.
    #[cfg(feature = "failpoints")]
    pub failpoints: failpoints::Failpoints,
}

impl ServiceContext {
    /// A shell for a process or a test: never ends by itself, and has no identity yet.
    pub fn new(drain: Duration) -> Self {
        Self {
            shutdown: CancellationToken::new(),
            drain_time: drain,
            health: Health::default(),
            metrics: Metrics::default(),
            identity: Identity::default(),
            http_settings: HttpSettings::default(),
            peer_tls: PeerTls::default(),
            tracer: Tracer::default(),
            #[cfg(feature = "failpoints")]
            failpoints: failpoints::Failpoints::default(),
        }
    }

    /// A client for our own services, over TLS where their addresses say so.
    pub fn peer_client(&self) -> PeerClient {
        PeerClient::over_tls(&self.peer_tls)
    }
}

/// Now, in milliseconds since the Unix epoch.
pub fn now_ms() -> Millis {
    // A clock before 1970 is nobody's; zero then is as good as any answer.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as Millis)
}

/// Now, in microseconds since the Unix epoch: what epochs and terms are minted from.
pub fn now_micros() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_micros() as u64)
}
