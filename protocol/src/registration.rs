//! Where viewers of a video go: what managers are asked and what they answer, beside [`Route`](super::Route).

use std::net::IpAddr;

use liverank_core::VideoId;
use serde::{Deserialize, Serialize};

use crate::MaybeUnknown;

/// Body of the manager's `POST /route`, answered by a [`Route`](super::Route).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteRequest {
    /// The video.
    pub videoid: VideoId,
    /// The highest assignment epoch that the caller knows for the video: the answer has this epoch or a later one.
    /// Absent if the caller knows no epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// The address of the viewer for whom a reader asks, if the viewer connects directly to the reader: a new video counts
    /// for that address, and for the reader. Absent: the viewer comes by a gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub viewer_address: Option<IpAddr>,
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
    /// The URL at which viewers reach the reader of the video.
    #[serde(rename = "readerUrl")]
    pub reader_url: String,
    /// What the manager did with the registration.
    pub action: MaybeUnknown<RegisterAction>,
}

/// The action of a manager on the registration of a video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RegisterAction {
    /// The manager chose a reader for the video.
    Registered,
    /// The video already had a reader.
    Existing,
}

/// Answer of the manager's `GET /resolve/{videoid}`, in the comments seed's shape. The status is 404 if no reader
/// serves the video.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolveAnswer {
    /// The video.
    pub videoid: VideoId,
    /// The URL at which viewers reach the reader of the video.
    #[serde(rename = "readerUrl")]
    pub reader_url: String,
}
