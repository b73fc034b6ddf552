//! What services say of their health to whoever asks; a reader says it to managers that probe it, too.

use serde::{Deserialize, Serialize};

use crate::MaybeUnknown;

/// Answer of a reader's `GET /health`, in the comments seed's shape. A manager's probe reads it: what answers at a reader's address
/// and names another reader is not that reader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReaderHealth {
    /// Whether the reader takes viewers as usual.
    pub status: MaybeUnknown<ReaderHealthStatus>,
    /// The name of the service, always `reader`.
    pub service: String,
    /// The id of the reader; absent if the program that answers does not name one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    /// Number of connected viewers, without those of the system itself.
    pub active_connections: u64,
    /// The busiest channels to which the reader is subscribed.
    pub subscribed_topics: Vec<String>,
    /// Number of comments written to viewers since the reader's start.
    pub messages_sent: u64,
}

/// Whether a reader takes viewers as usual.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReaderHealthStatus {
    /// The reader takes viewers as usual.
    Healthy,
    /// The reader is handing over its viewers, and ends then.
    Draining,
}

/// Answer of a manager's `GET /health`, in the comments seed's shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManagerHealth {
    /// The members that every service's answer has.
    #[serde(flatten)]
    pub service: ServiceHealth,
    /// Number of videos assigned to readers.
    pub registered_videos: u64,
    /// The URLs at which viewers reach the readers that accept viewers.
    pub available_reader_apis: Vec<String>,
    /// Number of registrations answered since the manager started.
    pub registration_count: u64,
}

/// Answer of a websocket service's `GET /health`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebsocketHealth {
    /// The members that every service's answer has.
    #[serde(flatten)]
    pub service: ServiceHealth,
    /// Number of open connections.
    pub connections: i64,
    /// Number of videos on the ranking board.
    pub videos: u64,
}

/// Answer of `GET /health` of every other service, and the members that the answers of all services have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceHealth {
    /// Whether the service works. A service that does not work gives no answer.
    pub status: MaybeUnknown<ServiceHealthStatus>,
    /// The name of the service, such as `gateway`.
    pub service: String,
}

/// Whether a service works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceHealthStatus {
    /// The service works.
    Healthy,
}

impl ServiceHealth {
    /// Returns the answer of the service with this name.
    pub fn healthy(service: &str) -> Self {
        Self { status: ServiceHealthStatus::Healthy.into(), service: service.to_owned() }
    }
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
