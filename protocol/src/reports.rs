//! What processes report to the statistics service.

use serde::{Deserialize, Serialize};

/// Report of a comment service to `POST /comment-api-statistics`, in the format of the comments seed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommentServiceReport {
    /// The name of the comment service that reports, if there are several; our comment services always send it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    /// Number of comments accepted since the service started.
    pub total_comments: u64,
    /// Number of comments of each of the busiest videos.
    pub comments_by_video: std::collections::BTreeMap<String, u64>,
    /// The videos that got comments.
    pub active_topics: Vec<String>,
    /// Number of readers subscribed to each topic, if known.
    pub topic_subscribers: std::collections::BTreeMap<String, u64>,
}

/// Report of a reader to `POST /reader-api-statistics`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReaderReport {
    /// The id of the reader.
    pub instance_id: String,
    /// Number of viewers connected to the reader.
    pub active_connections: u64,
    /// Maximum number of viewers that the reader may hold; absent in reports of the seed's readers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<u64>,
    /// The channels to which the reader is subscribed, the busiest only.
    pub subscribed_topics: Vec<String>,
    /// Number of comments written to viewers since the reader started.
    pub messages_sent: u64,
}

/// Report of a manager to `POST /reader-api-manager-statistics`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManagerReport {
    /// The name of the manager that reports, if there are several; our managers always send it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    /// The kind of service that reports: always `ReaderApiManager`, as in the reports of the comments seed (see the
    /// glossary).
    pub service: String,
    /// Number of videos assigned to readers.
    pub registered_videos: u64,
    /// The readers that accept viewers.
    pub available_reader_apis: Vec<String>,
    /// Number of registrations answered since the manager started.
    pub registration_count: u64,
    /// The reader of each video, for a bounded number of videos.
    pub video_mappings: std::collections::BTreeMap<String, String>,
}
