//! The metrics of the WebSocket service.

use std::sync::Arc;

use liverank_runtime::{Metrics, label_values};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::freshness::ListFreshness;

/// The reason for which a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DisconnectReason {
    /// The client closed the connection, with this close status.
    ClosedByClient(u16),
    /// The connection broke.
    ConnectionBroken,
    /// The client violated the protocol; the close status says how.
    ProtocolError(u16),
    /// The client sent nothing, not even a pong, for too long.
    Silent,
    /// The client accepts no data, or accepts it too slowly.
    ClientStalled,
    /// This process is about to end.
    Restart,
}

label_values! {
    /// The reason in the label of the metric.
    enum DisconnectLabel {
        Left = "left",
        Gone = "gone",
        Wrong = "wrong",
        Silent = "silent",
        Stuck = "stuck",
        Restart = "restart",
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: DisconnectLabel,
}

/// The metrics of the WebSocket service. Cheap to clone: all clones share the same counters.
#[derive(Clone, Default)]
pub(crate) struct WebsocketMetrics {
    /// The number of clients connected now.
    pub(crate) open_connections: Gauge,
    /// Lists and deltas sent to clients.
    pub(crate) messages_sent: Counter,
    /// Lists and deltas encoded, each once for all its watchers.
    pub(crate) lists_encoded: Counter,
    /// Snapshots of the ranking read from the store.
    pub(crate) snapshots_taken: Counter,
    /// The number of different lists that are watched.
    pub(crate) watched_lists: Gauge,
    /// The number of videos whose metadata are cached.
    pub(crate) cached_metadata_videos: Gauge,
    /// The age of an event's record at the time at which a client is sent a list that contains it.
    pub(crate) freshness: Arc<ListFreshness>,
    disconnects: Family<ReasonLabel, Counter>,
}

impl WebsocketMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let all = Self::default();
        metrics.register("websocket", |registry| {
            registry.register("connections", "Clients connected", all.open_connections.clone());
            registry.register("messages", "Lists and deltas sent", all.messages_sent.clone());
            registry.register("encodes", "Lists and deltas encoded", all.lists_encoded.clone());
            registry.register("snapshots", "Snapshots of the ranking taken", all.snapshots_taken.clone());
            registry.register("lists", "Different lists watched", all.watched_lists.clone());
            let help = "Videos of which metadata are held for lists that ask for them";
            registry.register("described_videos", help, all.cached_metadata_videos.clone());
            let help = "From the log taking a record to a client being sent a list with it, for one each 2 s at most";
            registry.register("list_freshness_seconds", help, all.freshness.histogram.clone());
            registry.register("disconnects", "Connections that ended, by reason", all.disconnects.clone());
        });
        all
    }

    pub(crate) fn count_disconnect(&self, end: DisconnectReason) {
        let reason = match end {
            DisconnectReason::ClosedByClient(_) => DisconnectLabel::Left,
            DisconnectReason::ConnectionBroken => DisconnectLabel::Gone,
            DisconnectReason::ProtocolError(_) => DisconnectLabel::Wrong,
            DisconnectReason::Silent => DisconnectLabel::Silent,
            DisconnectReason::ClientStalled => DisconnectLabel::Stuck,
            DisconnectReason::Restart => DisconnectLabel::Restart,
        };
        self.disconnects.get_or_create(&ReasonLabel { reason }).inc();
    }
}
