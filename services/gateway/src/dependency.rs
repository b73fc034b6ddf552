//! The stores and services that the gateway needs, each with a flag that says if it was unavailable at its last use.
//! Only changes are noted, so that a request touches one atomic flag.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use liverank_adapters::StoreError;
use liverank_protocol::access::CalledService;
use liverank_runtime::peer::{PeerClient, PeerError, ServiceReplicas};
use liverank_runtime::{Health, Problem};
use reqwest::Url;

use crate::Gateway;

/// Interval of asking a store or service that was away again, so that `/readyz` is right although no request asks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Pause between two tries to open the log: each try waits for the brokers itself, and sends them a few requests.
const REOPEN_INTERVAL: Duration = Duration::from_secs(2);

/// A store or service that requests need, with the flag whether it is away.
pub(crate) struct Dependency {
    health: Health,
    /// The name of the store or service in the process's health. All roles use the same names.
    name: &'static str,
    away_flag: AtomicBool,
    /// True if the process's health has the store or service.
    noted_flag: AtomicBool,
}

impl Dependency {
    /// Returns a dependency that is not away. The dependency's name appears in the process's health from its first
    /// answer or error on.
    pub(crate) const fn new(health: Health, name: &'static str) -> Self {
        Self { health, name, away_flag: AtomicBool::new(false), noted_flag: AtomicBool::new(false) }
    }

    /// Notes that the store or service answered.
    pub(crate) fn note_answered(&self) {
        let back = self.away_flag.load(Relaxed) && self.away_flag.swap(false, Relaxed);
        let first = !self.noted_flag.load(Relaxed) && !self.noted_flag.swap(true, Relaxed);
        if back || first {
            self.health.note_dependency(self.name, Ok(()));
        }
    }

    /// Notes that the store or service is away, for this reason.
    pub(crate) fn note_failed(&self, reason: impl Into<String>) {
        self.noted_flag.store(true, Relaxed);
        if !self.away_flag.swap(true, Relaxed) {
            self.health.note_dependency(self.name, Err(reason.into()));
        }
    }

    /// Notes a store's answer or failure, and turns a failure into a 503.
    pub(crate) fn note_result<T>(&self, result: Result<T, StoreError>) -> Result<T, Problem> {
        result.inspect(|_| self.note_answered()).map_err(|error| {
            self.note_failed(error.to_string());
            Problem::part_unavailable(format!("{} is away: try again", error.store_name()))
        })
    }

    /// Returns true if the store or service was away when it was last needed.
    pub(crate) fn is_away(&self) -> bool {
        self.away_flag.load(Relaxed)
    }

    /// Returns true if the store or service is to be asked although no request needs it: it was away, or nothing is
    /// known about it yet.
    pub(crate) fn needs_check(&self) -> bool {
        self.is_away() || !self.noted_flag.load(Relaxed)
    }
}

/// One of our services, which may have several replicas.
pub(crate) struct PeerService {
    pub(crate) name: &'static str,
    /// The service that gets the gateway's own token with each request if viewers need tokens; `None` for other
    /// services.
    pub(crate) called_service: Option<CalledService>,
    pub(crate) replicas: Option<ServiceReplicas>,
    pub(crate) dependency: Dependency,
}

impl PeerService {
    pub(crate) fn new(name: &'static str, peers: &PeerClient, urls: Vec<Url>, health: Health) -> Self {
        let replicas = ServiceReplicas::new(peers.clone(), urls);
        let called_service = [CalledService::Comment, CalledService::Websocket]
            .into_iter()
            .find(|service| service.name() == name);
        Self { name, called_service, replicas, dependency: Dependency::new(health, name) }
    }

    /// The URLs of the replicas: the preferred one, which answered last, comes first.
    pub(crate) fn urls_in_order(&self) -> impl Iterator<Item = &Url> {
        let urls = self.replicas.as_ref().map_or(&[][..], ServiceReplicas::urls);
        let preferred = self.replicas.as_ref().map(ServiceReplicas::preferred_url);
        let start = urls.iter().position(|url| Some(url) == preferred).unwrap_or(0);
        urls[start..].iter().chain(&urls[..start])
    }

    /// Notes that a replica did not answer, so that the next request asks another replica first.
    pub(crate) fn note_unanswered(&self, url: &Url) {
        if let Some(replicas) = &self.replicas {
            replicas.prefer_another_than(url);
        }
    }

    /// Returns the 404 for requests that need this service, in a system that does not have it.
    pub(crate) fn absent_problem(&self) -> Problem {
        Problem::not_found(format!("this system has no {} service", self.name))
    }

    /// Notes that no replica answers, and returns the 503 for the request.
    pub(crate) fn away_problem(&self, reason: impl Into<String>) -> Problem {
        self.dependency.note_failed(reason);
        Problem::part_unavailable(format!("the {} service is away: try again", self.name))
    }

    async fn probe_peer(&self) {
        let Some(replicas) = self.replicas.as_ref().filter(|_| self.dependency.is_away()) else { return };
        match replicas.get::<serde::de::IgnoredAny>(&["health"]).await {
            Ok(_) | Err(PeerError::Refused { .. }) => self.dependency.note_answered(),
            Err(PeerError::Unavailable(_)) => {}
        }
    }
}

/// Opens the log, and tries again for as long as that fails, so that a gateway that starts before all consumers has
/// topics to write to. Posts are answered 503 until the log is open; all other requests are served meanwhile. Each new
/// reason of a failure is logged once. Never returns.
pub(crate) async fn run_log_opener(gateway: Arc<Gateway>) {
    let mut told = String::new();
    while let Err(error) = gateway.backends.log.open().await {
        let reason = error.to_string();
        if reason != told {
            tracing::warn!(part = error.store_name(), reason, "the log cannot be opened: trying again");
            told = reason;
        }
        tokio::time::sleep(REOPEN_INTERVAL).await;
    }
    std::future::pending::<()>().await;
}

/// Asks each store until it answers for the first time, and each store or service that is away until it is back; notes the health that the log reports of itself.
/// Never returns.
pub(crate) async fn watch_dependencies(gateway: Arc<Gateway>) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let backends = &gateway.backends;
    loop {
        ticks.tick().await;
        let _ = gateway.log_dependency.note_result(backends.log.check_writable());
        if gateway.ranking_dependency.needs_check() {
            let _ = gateway.ranking_dependency.note_result(backends.ranking.checkpoint().await);
        }
        if gateway.archive_dependency.needs_check() {
            let _ = gateway.archive_dependency.note_result(backends.archive.archive_meta().await);
        }
        for peer in [&gateway.manager, &gateway.comment, &gateway.websocket, &gateway.statistics] {
            peer.probe_peer().await;
        }
    }
}
