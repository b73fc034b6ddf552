//! The metrics of the gateway.

use std::collections::BTreeMap;
use std::time::Instant;

use liverank_runtime::label_values;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::auth::session::{TokenEnd, TokenEndLabels};
use crate::canary::CanaryMetrics;
use crate::freshness::Freshness;

label_values! {
    /// The outcome of a posted interaction.
    pub(crate) enum AppendOutcome {
        /// The log has stored the interaction.
        Acknowledged = "acknowledged",
        /// The interaction is not valid.
        Invalid = "invalid",
        /// The log did not acknowledge the interaction.
        Unavailable = "unavailable",
        /// The interaction was refused because too many requests were in flight.
        Shed = "shed",
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InteractionLabels {
    reason: AppendOutcome,
}

label_values! {
    /// The reason for which a viewer had to be connected to a reader again.
    pub(crate) enum RerouteReason {
        /// The reader ended the stream or sent the viewer elsewhere: after a move, a drain or a death of the reader.
        Ended = "ended",
        /// No reader accepted the viewer.
        Unreachable = "unreachable",
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RerouteLabels {
    reason: RerouteReason,
}

/// The times, in seconds, that viewers were without a stream.
#[derive(Debug)]
pub(crate) struct InterruptionTimes(Histogram);

impl Default for InterruptionTimes {
    fn default() -> Self {
        Self(Histogram::new(exponential_buckets(0.01, 2.0, 13)))
    }
}

impl InterruptionTimes {
    /// Records an interruption that began at `since` and is over now.
    pub(crate) fn note_end(&self, since: Instant) {
        self.0.observe(since.elapsed().as_secs_f64());
    }
}

/// The gateway's metrics.
#[derive(Default)]
pub(crate) struct GatewayMetrics {
    interactions: Family<InteractionLabels, Counter>,
    reroutes: Family<RerouteLabels, Counter>,
    /// Times, in seconds, that viewers were without a stream while they were taken from one reader to another.
    pub(crate) interruptions: InterruptionTimes,
    /// Number of viewers who were told to come back, because no reader was found in time or there was no room.
    pub(crate) turned_away_viewers: Counter,
    /// Number of requests without a valid token.
    pub(crate) auth_failures: Counter,
    sessions_ended: Family<TokenEndLabels, Counter>,
    /// Time of interactions until the boards show them.
    pub(crate) freshness: Freshness,
    /// The metrics of the canary.
    pub(crate) canary: CanaryMetrics,
    /// Number of requests that were refused because their caller sends too many.
    pub(crate) requests_limited: Counter,
    /// Number of videos that were refused because their caller has brought too many.
    pub(crate) new_videos_refused: Counter,
    /// Number of streams and `WebSockets` open now.
    pub(crate) open_streams: Gauge,
}

impl GatewayMetrics {
    pub(crate) fn registered(registry: &mut Registry) -> Self {
        let new = Self::default();
        registry.register("interactions", "Interactions by what became of them", new.interactions.clone());
        registry.register("reroutes", "Viewers taken to a reader again, by why", new.reroutes.clone());
        let interrupted =
            "Time a viewer was without a stream, from one reader's end to the next one's beginning";
        registry.register("stream_interruption_seconds", interrupted, new.interruptions.0.clone());
        registry.register("turned_away", "Viewers asked to come back later", new.turned_away_viewers.clone());
        let fresh = "From a request with an interaction to the boards showing it, for one each 2 s at most";
        registry.register("board_freshness_seconds", fresh, new.freshness.histogram.clone());
        new.canary.register(registry);
        let failures = new.auth_failures.clone();
        registry.register("auth_failures", "Requests without a valid token", failures);
        let ended = new.sessions_ended.clone();
        // There from the start: the first of them is an increase, and the reference of metrics has it.
        for reason in [TokenEnd::Expired, TokenEnd::Revoked] {
            drop(ended.get_or_create(&TokenEndLabels { reason }));
        }
        registry.register(
            "sessions_ended",
            "Streams ended because their token is good no more, by why",
            ended,
        );
        registry.register("limited", "Requests of callers that send too many", new.requests_limited.clone());
        let refused = new.new_videos_refused.clone();
        registry.register(
            "new_videos_refused",
            "Requests that name a new video too many of one caller",
            refused,
        );
        registry.register("streams", "Comment streams and WebSockets open", new.open_streams.clone());
        new
    }

    pub(crate) fn count_interaction(&self, reason: AppendOutcome) {
        self.interactions.get_or_create(&InteractionLabels { reason }).inc();
    }

    /// Returns the counts for the operate page: acknowledged interactions, and every kind of refusal.
    pub(crate) fn counts(&self) -> BTreeMap<&'static str, u64> {
        let interactions = |reason| self.interactions.get_or_create(&InteractionLabels { reason }).get();
        BTreeMap::from([
            ("acknowledged", interactions(AppendOutcome::Acknowledged)),
            ("refused_invalid", interactions(AppendOutcome::Invalid)),
            ("refused_unavailable", interactions(AppendOutcome::Unavailable)),
            ("refused_overload", interactions(AppendOutcome::Shed)),
            ("refused_limited", self.requests_limited.get()),
            ("refused_token", self.auth_failures.get()),
            ("refused_viewers", self.turned_away_viewers.get()),
        ])
    }

    pub(crate) fn count_ended_session(&self, reason: TokenEnd) {
        self.sessions_ended.get_or_create(&TokenEndLabels { reason }).inc();
    }

    pub(crate) fn count_reroute(&self, reason: RerouteReason) {
        self.reroutes.get_or_create(&RerouteLabels { reason }).inc();
    }
}
