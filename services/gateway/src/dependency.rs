//! The stores and services that the gateway needs: whether each is away, as requests find. Only changes are noted, so
//! that a request touches one atomic flag.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
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
    /// The name of the store or service. A store's name is known from its first error on.
    name: OnceLock<&'static str>,
    away_flag: AtomicBool,
}

impl Dependency {
    /// Returns a dependency that is not away. The dependency's name appears in the process's health from its first
    /// error on.
    pub(crate) fn new(health: Health) -> Self {
        Self { health, name: OnceLock::new(), away_flag: AtomicBool::new(false) }
    }

    /// Notes that the store or service answered.
    pub(crate) fn answered(&self) {
        if self.away_flag.load(Relaxed)
            && self.away_flag.swap(false, Relaxed)
            && let Some(name) = self.name.get()
        {
            self.health.note_dependency(name, Ok(()));
        }
    }

    /// Notes that the store or service is away, for this reason.
    pub(crate) fn failed(&self, name: &'static str, reason: impl Into<String>) {
        let name = self.name.get_or_init(|| name);
        if !self.away_flag.swap(true, Relaxed) {
            self.health.note_dependency(name, Err(reason.into()));
        }
    }

    /// Notes a store's answer or failure, and turns a failure into a 503.
    pub(crate) fn noted<T>(&self, result: Result<T, StoreError>) -> Result<T, Problem> {
        result.inspect(|_| self.answered()).map_err(|error| {
            self.failed(error.part(), error.to_string());
            Problem::part_unavailable(format!("{} is away: try again", error.part()))
        })
    }

    /// Returns whether the store or service was away when it was last needed.
    pub(crate) fn is_away(&self) -> bool {
        self.away_flag.load(Relaxed)
    }
}

/// One of our services, which may have several replicas.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    /// The service that gets the gateway's own token with each request if viewers need tokens; `None` for other
    /// services.
    pub(crate) takes_viewers: Option<CalledService>,
    pub(crate) replicas: Option<ServiceReplicas>,
    pub(crate) dependency: Dependency,
}

impl Peer {
    pub(crate) fn new(name: &'static str, peers: &PeerClient, urls: Vec<Url>, health: Health) -> Self {
        let replicas = ServiceReplicas::new(peers.clone(), urls);
        let takes_viewers = [CalledService::Comment, CalledService::Websocket]
            .into_iter()
            .find(|service| service.name() == name);
        Self { name, takes_viewers, replicas, dependency: Dependency::new(health) }
    }

    /// The URLs of the replicas: the preferred one, which answered last, comes first.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = &Url> {
        let urls = self.replicas.as_ref().map_or(&[][..], ServiceReplicas::urls);
        let preferred = self.replicas.as_ref().map(ServiceReplicas::preferred);
        let start = urls.iter().position(|url| Some(url) == preferred).unwrap_or(0);
        urls[start..].iter().chain(&urls[..start])
    }

    /// Notes that a replica did not answer, so that the next request asks another replica first.
    pub(crate) fn avoid(&self, url: &Url) {
        if let Some(replicas) = &self.replicas {
            replicas.prefer_another_than(url);
        }
    }

    /// Returns the 404 for requests that need this service, in a system that does not have it.
    pub(crate) fn absent(&self) -> Problem {
        Problem::not_found(format!("this system has no {} service", self.name))
    }

    /// Notes that no replica answers, and returns the 503 for the request.
    pub(crate) fn away(&self, reason: impl Into<String>) -> Problem {
        self.dependency.failed(self.name, reason);
        Problem::part_unavailable(format!("the {} service is away: try again", self.name))
    }

    async fn probe_peer(&self) {
        let Some(replicas) = self.replicas.as_ref().filter(|_| self.dependency.is_away()) else { return };
        match replicas.get::<serde_json::Value>(&["health"]).await {
            Ok(_) | Err(PeerError::Refused { .. }) => self.dependency.answered(),
            Err(PeerError::Unavailable(_)) => {}
        }
    }
}

/// Opens the log, and tries again for as long as that fails, so that a gateway that starts before all consumers has
/// topics to write to. Posts are answered 503 until the log is open; all other requests are served meanwhile. Each new
/// reason of a failure is logged once. Never returns.
pub(crate) async fn open_log(gateway: Arc<Gateway>) {
    let mut told = String::new();
    while let Err(error) = gateway.backends.log.open().await {
        let reason = error.to_string();
        if reason != told {
            tracing::warn!(part = error.part(), reason, "the log cannot be opened: trying again");
            told = reason;
        }
        tokio::time::sleep(REOPEN_INTERVAL).await;
    }
    std::future::pending::<()>().await;
}

/// Asks each store or service that is away until it is back, and notes the health that the log reports of itself.
/// Never returns.
pub(crate) async fn watch(gateway: Arc<Gateway>) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let backends = &gateway.backends;
    loop {
        ticks.tick().await;
        let _ = gateway.log.noted(backends.log.write_health());
        if gateway.ranking.is_away() {
            let _ = gateway.ranking.noted(backends.ranking.checkpoint().await);
        }
        if gateway.archive.is_away() {
            let _ = gateway.archive.noted(backends.archive.archive_meta().await);
        }
        for peer in [&gateway.manager, &gateway.comment, &gateway.websocket, &gateway.statistics] {
            peer.probe_peer().await;
        }
    }
}
