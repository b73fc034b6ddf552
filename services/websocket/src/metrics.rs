//! The metrics of the WebSocket service.

use liverank_runtime::{Metrics, label_values};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::connection::End;

label_values! {
    /// The reason for which a connection ended.
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
    pub(crate) described_videos: Gauge,
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
            registry.register("described_videos", help, all.described_videos.clone());
            registry.register("disconnects", "Connections that ended, by reason", all.disconnects.clone());
        });
        all
    }

    pub(crate) fn count_disconnect(&self, end: End) {
        let reason = match end {
            End::Left(_) => DisconnectLabel::Left,
            End::Gone => DisconnectLabel::Gone,
            End::Wrong(_) => DisconnectLabel::Wrong,
            End::Silent => DisconnectLabel::Silent,
            End::Stuck => DisconnectLabel::Stuck,
            End::Restart => DisconnectLabel::Restart,
        };
        self.disconnects.get_or_create(&ReasonLabel { reason }).inc();
    }
}
