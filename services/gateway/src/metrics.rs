//! What the gateway counts.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What became of an interaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum AppendOutcome {
    /// The log has it.
    Acknowledged,
    /// It is not one.
    Invalid,
    /// The log did not acknowledge it.
    Unavailable,
    /// Too much was in flight.
    Shed,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FateLabel {
    fate: AppendOutcome,
}

/// Why a viewer was taken to a reader again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Cause {
    /// The reader ended the stream or sent it elsewhere: a move, a drain or a death.
    Ended,
    /// No reader took the viewer.
    Unreachable,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabel {
    cause: Cause,
}

/// The gateway's metrics.
#[derive(Debug, Default)]
pub(crate) struct GatewayMetrics {
    interactions: Family<FateLabel, Counter>,
    reroutes: Family<CauseLabel, Counter>,
    /// Viewers who were asked to come back because no reader was found in time, or there was no room.
    pub(crate) turned_away: Counter,
    /// Requests without a valid token.
    pub(crate) unknown_callers: Counter,
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
        let callers = new.unknown_callers.clone();
        registry.register("unknown_callers", "Requests without a valid token", callers);
        registry.register("limited", "Requests of callers that send too many", new.limited.clone());
        registry.register("streams", "Comment streams and WebSockets open", new.streams.clone());
        new
    }

    pub(crate) fn interaction(&self, fate: AppendOutcome) {
        self.interactions.get_or_create(&FateLabel { fate }).inc();
    }

    pub(crate) fn reroute(&self, cause: Cause) {
        self.reroutes.get_or_create(&CauseLabel { cause }).inc();
    }
}
