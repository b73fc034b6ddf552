//! Where viewers of a video go: what managers are asked and what they answer, beside [`Route`](super::Route).

use liverank_core::VideoId;
use serde::{Deserialize, Serialize};

use crate::MaybeUnknown;

/// Body of the manager's `POST /route`, answered by a [`Route`](super::Route).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteRequest {
    /// The video.
    pub videoid: VideoId,
    /// The highest epoch that the asker has heard of for it: the answer is under none that is older. Absent: it has heard of none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
}

/// Body of the manager's `POST /register`, in the comments seed's shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterRequest {
    /// The video.
    pub videoid: VideoId,
}

/// Answer of the manager's `POST /register`, in the comments seed's shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterAnswer {
    /// The video.
    pub videoid: VideoId,
    /// Where viewers reach its reader.
    #[serde(rename = "readerUrl")]
    pub reader_url: String,
    /// What was done.
    pub action: MaybeUnknown<RegisterAction>,
}

/// What a manager did with a video that was registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RegisterAction {
    /// A reader was chosen for it.
    Registered,
    /// It had one.
    Existing,
}

/// Answer of the manager's `GET /resolve/{videoid}`, in the comments seed's shape. 404 where no reader serves the video.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolveAnswer {
    /// The video.
    pub videoid: VideoId,
    /// Where viewers reach its reader.
    #[serde(rename = "readerUrl")]
    pub reader_url: String,
}
