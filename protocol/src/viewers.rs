//! How many viewers videos have, over all readers.

use liverank_core::VideoId;
use serde::{Deserialize, Serialize};

/// Answer of the manager's `GET /viewers/{videoid}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewersAnswer {
    /// The video whose viewers were counted.
    pub videoid: VideoId,
    /// Number of viewers connected now, as last reported by live readers.
    pub viewers: u64,
    /// The most viewers that were connected at the same time, for five seconds on end; absent if the store does not answer
    /// in time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak: Option<u64>,
}

/// Maximum number of videos in one [`ViewersRequest`]: one page of a list.
pub const MAX_VIDEOS_PER_VIEWERS_REQUEST: usize = 1000;

/// Body of the manager's `POST /viewers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewersRequest {
    /// The videos whose viewers are asked for, at most [`MAX_VIDEOS_PER_VIEWERS_REQUEST`].
    pub videos: Vec<VideoId>,
    /// Whether the answer is to have the videos' peaks, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub peaks: bool,
}

/// Answer of the manager's `POST /viewers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewersOfVideos {
    /// Number of viewers connected now for each video, as last reported by live readers, in the order of the request.
    pub viewers: Vec<u64>,
    /// The most viewers that each video had, as [`ViewersAnswer::peak`]; absent unless asked for, and if the store does not
    /// answer in time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peaks: Option<Vec<u64>>,
}
