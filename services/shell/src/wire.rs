//! What our own processes say to each other over HTTP. Public formats stand in the `OpenAPI` document; so do these.

use liverank_core::{ReaderId, VideoId};
use serde::{Deserialize, Serialize};

/// Answer of the manager's `POST /route {"videoid"}`: where viewers of a video go. Registers a video that nobody
/// serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The video.
    pub videoid: VideoId,
    /// The assignment's epoch.
    pub epoch: u64,
    /// Its readers, best first; at least one.
    pub readers: Vec<RouteReader>,
}

/// A reader as others reach it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteReader {
    /// Its name.
    pub id: ReaderId,
    /// Where viewers reach it.
    pub public_url: String,
    /// Where gateways reach it.
    pub internal_url: String,
}

/// Answer of the manager's `POST /heartbeat`, whose body is an `adapters::assignment_store::ReaderRecord`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatAnswer {
    /// Videos that the reader reported viewers of and that others serve now: its viewers there are to be sent away.
    pub moved: Vec<Moved>,
}

/// A video that another reader serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// The video.
    pub videoid: VideoId,
    /// Under this epoch.
    pub epoch: u64,
    /// Where its viewers go.
    pub reader_url: String,
}

/// Answer of the manager's `GET /viewers/{videoid}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Viewers {
    /// The video.
    pub videoid: VideoId,
    /// Viewers connected now, as last reported by live readers.
    pub viewers: u64,
}

/// Answer of the manager's `GET /load`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Every reader known.
    pub readers: Vec<ReaderState>,
    /// Videos assigned.
    pub videos: u64,
}

/// A reader as the manager sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReaderState {
    /// Its name.
    pub id: ReaderId,
    /// Where viewers reach it.
    pub public_url: String,
    /// Where gateways and managers reach it.
    pub internal_url: String,
    /// `alive`, `suspect`, `draining` or `gone`.
    pub state: String,
    /// Milliseconds since its last heartbeat, by the manager's clock.
    pub silent_ms: u64,
    /// Viewers connected.
    pub viewers: u64,
    /// Viewers it can hold.
    pub capacity: u64,
    /// Viewers of each video that has any.
    pub videos: Vec<(VideoId, u64)>,
}

/// What a comment service reports to `POST /comment-api-statistics`, as the comments seed's did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommentReport {
    /// Which comment service, where there are several; ours always say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    /// Comments accepted since its start.
    pub total_comments: u64,
    /// Of each video, the busiest only.
    pub comments_by_video: std::collections::BTreeMap<String, u64>,
    /// Videos commented on.
    pub active_topics: Vec<String>,
    /// Readers listening to each topic, where known.
    pub topic_subscribers: std::collections::BTreeMap<String, u64>,
}

/// What a reader reports to `POST /reader-api-statistics`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReaderReport {
    /// Its name.
    pub instance_id: String,
    /// Viewers connected.
    pub active_connections: u64,
    /// The channels it listens to, the busiest only.
    pub subscribed_topics: Vec<String>,
    /// Comments written to viewers since its start.
    pub messages_sent: u64,
}

/// What a manager reports to `POST /reader-api-manager-statistics`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManagerReport {
    /// Which manager, where there are several; ours always say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    /// `ReaderApiManager`.
    pub service: String,
    /// Videos assigned.
    pub registered_videos: u64,
    /// Readers that take viewers.
    pub available_reader_apis: Vec<String>,
    /// Registrations answered since its start.
    pub registration_count: u64,
    /// Video to reader, a bounded part of it.
    pub video_mappings: std::collections::BTreeMap<String, String>,
}
