//! What the gateway counts.

use liverank_runtime::label_values;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::auth::session::{TokenEnd, TokenEndLabels};

label_values! {
    /// What became of an interaction.
    pub(crate) enum AppendOutcome {
        /// The log has it.
        Acknowledged = "acknowledged",
        /// It cannot be read.
        Invalid = "invalid",
        /// The log did not acknowledge it.
        Unavailable = "unavailable",
        /// Too many requests were in flight.
        Shed = "shed",
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InteractionLabels {
    reason: AppendOutcome,
}

label_values! {
    /// Why a viewer was taken to a reader again.
    pub(crate) enum RerouteReason {
        /// The reader ended the stream or sent it elsewhere: a move, a drain or a death.
        Ended = "ended",
        /// No reader took the viewer.
        Unreachable = "unreachable",
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RerouteLabels {
    reason: RerouteReason,
}

/// The gateway's metrics.
#[derive(Debug, Default)]
pub(crate) struct GatewayMetrics {
    interactions: Family<InteractionLabels, Counter>,
    reroutes: Family<RerouteLabels, Counter>,
    /// Viewers who were asked to come back because no reader was found in time, or there was no room.
    pub(crate) turned_away: Counter,
    /// Requests without a valid token.
    pub(crate) auth_failures: Counter,
    sessions_ended: Family<TokenEndLabels, Counter>,
    /// Requests of callers that send too many.
    pub(crate) limited: Counter,
    /// Streams and `WebSockets` open now.
    pub(crate) streams: Gauge,
}

impl GatewayMetrics {
    pub(crate) fn registered(registry: &mut Registry) -> Self {
        let new = Self::default();
        registry.register("interactions", "Interactions by what became of them", new.interactions.clone());
        registry.register("reroutes", "Viewers taken to a reader again, by why", new.reroutes.clone());
        registry.register("turned_away", "Viewers asked to come back later", new.turned_away.clone());
        let failures = new.auth_failures.clone();
        registry.register("auth_failures", "Requests without a valid token", failures);
        let ended = new.sessions_ended.clone();
        registry.register(
            "sessions_ended",
            "Streams ended because their token is good no more, by why",
            ended,
        );
        registry.register("limited", "Requests of callers that send too many", new.limited.clone());
        registry.register("streams", "Comment streams and WebSockets open", new.streams.clone());
        new
    }

    pub(crate) fn interaction(&self, reason: AppendOutcome) {
        self.interactions.get_or_create(&InteractionLabels { reason }).inc();
    }

    pub(crate) fn session_ended(&self, reason: TokenEnd) {
        self.sessions_ended.get_or_create(&TokenEndLabels { reason }).inc();
    }

    pub(crate) fn reroute(&self, reason: RerouteReason) {
        self.reroutes.get_or_create(&RerouteLabels { reason }).inc();
    }
}
