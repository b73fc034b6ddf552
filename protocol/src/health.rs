//! What a reader says of itself to whoever asks, managers that probe it among them.

use serde::{Deserialize, Serialize};

use crate::MaybeUnknown;

/// Answer of a reader's `GET /health`, in the comments seed's shape. A manager's probe reads it: what answers at a reader's address
/// and names another reader is not that reader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReaderHealth {
    /// Whether it takes viewers as usual.
    pub status: MaybeUnknown<ReaderHealthStatus>,
    /// `reader`.
    pub service: String,
    /// Its name; none where something answers that does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    /// Viewers connected, but for those of the system itself.
    pub active_connections: u64,
    /// The channels that it listens to, the busiest only.
    pub subscribed_topics: Vec<String>,
    /// Comments written to viewers since its start.
    pub messages_sent: u64,
}

/// Whether a reader takes viewers as usual.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReaderHealthStatus {
    /// It does.
    Healthy,
    /// It is emptying itself, and ends then.
    Draining,
}

impl Default for ReaderHealth {
    fn default() -> Self {
        Self {
            status: ReaderHealthStatus::Healthy.into(),
            service: String::new(),
            instance_id: None,
            active_connections: 0,
            subscribed_topics: Vec::new(),
            messages_sent: 0,
        }
    }
}
