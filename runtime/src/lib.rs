//! The parts that every liverank process has in common: logs, metrics, the admin port, the HTTP server with its limits
//! and error answers, configuration, clients for the other services, and an orderly shutdown.
//!
//! A service is a library with a function `run(config, …, listener, shell)`; the argument `shell` is a
//! [`ServiceContext`].

pub mod admin;
pub mod boards;
pub mod body;
pub mod client;
pub mod comment_json;
pub mod config;
pub mod cors;
pub mod duration;
pub mod exit;
#[cfg(feature = "failpoints")]
pub mod failpoints;
pub mod follow;
pub mod free_shares;
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
pub mod plain_help;
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
pub mod traced_histogram;
pub mod traces;
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
pub use traced_histogram::TracedHistogram;
pub use traces::Tracer;

/// The context that a running service gets from its process: the shutdown signal, and the places where the service
/// reports its health, metrics and spans. Cheap to clone.
#[derive(Clone)]
pub struct ServiceContext {
    /// Cancelled when the process is asked to end. The service then stops accepting work, finishes the work that it has
    /// accepted, and tells open streams that it ends.
    pub shutdown: CancellationToken,
    /// The time that the service has to finish its work, counted from the cancellation of `shutdown`; work that is left
    /// after that is dropped.
    pub drain_time: Duration,
    /// The state that `/readyz` and `/livez` report.
    pub health: Health,
    /// The metrics that `/metrics` writes.
    pub metrics: Metrics,
    /// The identity of this process: the tokens that it shows to other liverank processes, and the check of theirs.
    pub identity: Identity,
    /// The settings of the HTTP ports of this process.
    pub http_settings: HttpSettings,
    /// The TLS settings with which this process connects to other liverank processes.
    pub peer_tls: PeerTls,
    /// The tracer that records and exports the spans of this process.
    pub tracer: Tracer,
    /// Makes supervised tasks panic on demand, for tests.
    #[cfg(feature = "failpoints")]
    pub failpoints: failpoints::Failpoints,
}

impl ServiceContext {
    /// Creates a context for a process or a test. Nothing cancels `shutdown` by itself, and the identity is empty: no
    /// tokens are sent or checked.
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

    /// Returns a client for other liverank services. The client uses TLS for addresses that begin with `https`.
    pub fn peer_client(&self) -> PeerClient {
        PeerClient::over_tls(&self.peer_tls)
    }
}

/// Returns the current time in milliseconds since the Unix epoch; 0 if the clock is before 1970.
pub fn now_ms() -> Millis {
    // No machine of use has a clock before 1970, so 0 is as good as any answer.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as Millis)
}

/// Returns the current time in microseconds since the Unix epoch; 0 if the clock is before 1970. Assignment epochs and
/// terms of planners are made from this number.
pub fn now_micros() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_micros() as u64)
}
