//! The readers to which viewers of a video connect.

use liverank_core::secret::Secret;
use liverank_core::{ReaderId, VideoId, ZoneId};
use serde::{Deserialize, Serialize};

/// Answer of the manager's `POST /route {"videoid", "epoch"?}`: the readers to which viewers of a video connect. The
/// request registers a video that has no reader yet. The answer is never older than the epoch that the request names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The video whose viewers are routed.
    pub videoid: VideoId,
    /// The epoch of the video's assignment.
    pub epoch: u64,
    /// The readers of the video, best first; at least one. The first reader is drawn again for each answer, in
    /// proportion to the viewers that the readers lack of their shares; if none lacks any, by load, with the power of
    /// two choices.
    pub readers: Vec<RouteReader>,
    /// Whether the manager has not reached the store for some seconds. If true, the readers may have changed
    /// meanwhile, and another manager may know better. Managers of earlier releases leave this field out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
}

/// A reader of a video, with the URLs at which viewers and gateways reach it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteReader {
    /// The id of the reader.
    pub id: ReaderId,
    /// The URL at which viewers reach the reader.
    pub public_url: String,
    /// The URL at which gateways reach the reader.
    pub internal_url: String,
    /// The part of the reader's capacity in use, in thousandths. Viewers that are on their way to the reader are
    /// included.
    #[serde(default)]
    pub load: u64,
    /// Whether the reader accepts viewers of this video: it is alive, is not full, and does not hand over viewers of
    /// the video.
    #[serde(default = "default_true")]
    pub takes: bool,
    /// The number of viewers of this video that the reader should get: the viewers that it lacks of its share, as far
    /// as it has free places.
    #[serde(default)]
    pub wanted: u64,
    /// The number of viewers beyond `wanted` that the reader may get from gateways in its own zone. Managers of earlier
    /// releases leave this field out.
    #[serde(default)]
    pub spare: u64,
    /// The zone of the reader; `None` if it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<ZoneId>,
    /// The key with which a gateway signs passes for its viewers. A pass is good at this reader alone. Only gateways are told the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pass_key: Option<Secret>,
}

const fn default_true() -> bool {
    true
}
