//! What planners read of a manager: the readers, their videos and their viewers.

use liverank_core::handover::coordinator::ReaderStatus;
use liverank_core::handover::{CordonLevel, ReaderShare};
use liverank_core::{ReaderId, VideoId, ZoneId};
use serde::{Deserialize, Serialize};

use crate::{CordonRequest, MaybeUnknown, TermState, ZonedViewers};

/// Answer of the manager's `GET /load`: the state of the cluster by which a planner decides.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterLoad {
    /// Every reader that the manager knows.
    pub readers: Vec<ReaderState>,
    /// Number of videos that are assigned to readers.
    pub videos: u64,
    /// The assignments; absent if the request did not ask for them. All assignments are listed, unless they take more
    /// than [`MAX_LOAD_BYTES`]: then only those of the videos that matter most are listed, and `unlisted` says what is
    /// left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignments: Option<Vec<AssignedVideoState>>,
    /// The term of the planner; absent if there never was a planner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<TermState>,
    /// Whether this manager reaches the store; if not, the answer is what the manager last read from it.
    pub fresh: bool,
    /// The reason for which nothing is moved although something should be; absent if nothing is held back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<String>,
    /// The highest assignment epoch that any process has heard of.
    pub highest_epoch: u64,
    /// Maximum number of viewers that may be moved in a minute.
    pub viewers_per_minute: u64,
    /// Number of viewers that are to be handed over and are still at their old reader.
    pub in_flight: u64,
    /// The cordons of all closed readers, also of readers that do not report.
    #[serde(default)]
    pub cordons: Vec<CordonRequest>,
    /// Requests of viewers who could not be sent to any reader that accepts them; absent if there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unserved: Option<UnservedRequests>,
    /// The videos that are left out because the answer would be too long; absent if all are there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unlisted: Option<UnlistedVideos>,
}

/// The maximum number of bytes of a [`ClusterLoad`] as JSON: 15 MiB, so that planners, which read 16 MiB, read it whole.
pub const MAX_LOAD_BYTES: usize = 15 * 1024 * 1024;

/// The videos that a [`ClusterLoad`] leaves out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnlistedVideos {
    /// Number of videos that are left out, with viewers and without.
    pub videos: u64,
    /// Number of viewers of the omitted videos at each reader that has any: these viewers take up room that a planner
    /// must not give to others.
    pub viewers: Vec<(ReaderId, u64)>,
}

/// Viewers for whom a manager found no reader.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnservedRequests {
    /// Number of requests in the last ten seconds for which no reader could be named.
    pub requests: u64,
    /// Milliseconds since the first such request. Pauses of less than ten seconds between requests do not start a new
    /// count.
    pub since_ms: u64,
    /// One of the videos that the requests asked for.
    pub video: Option<VideoId>,
}

/// The state of a reader as the manager knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReaderState {
    /// The id of the reader.
    pub id: ReaderId,
    /// The URL at which viewers reach the reader.
    pub public_url: String,
    /// The URL at which gateways and managers reach the reader.
    pub internal_url: String,
    /// The reader's status by its heartbeats, by the manager's clock.
    pub state: MaybeUnknown<ReaderStatus>,
    /// The cordon that a planner set on the reader; absent if the reader is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cordon: Option<MaybeUnknown<CordonLevel>>,
    /// Milliseconds since the reader's last heartbeat, by the manager's clock.
    pub silent_ms: u64,
    /// Whether the reader's last report is new enough to plan with it.
    pub fresh: bool,
    /// Whether the reader sends heartbeats but cannot be reached at its URL.
    #[serde(default)]
    pub unreachable: bool,
    /// Whether the reader still has viewers after the time limit of a drain. Only set if the planner in the managers
    /// drains the reader.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drain_overdue: bool,
    /// Milliseconds until the reader ends, while it is leaving on its own; 0 if unknown.
    pub grace_ms: u64,
    /// Number of viewers connected to the reader, without those of the canary (the system's own video).
    pub viewers: u64,
    /// The zone of the reader; absent if it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<ZoneId>,
    /// The viewers by the zones of their gateways; absent if no viewer's gateway named its zone.
    #[serde(default, skip_serializing_if = "ZonedViewers::is_empty")]
    pub viewers_by_zone: ZonedViewers,
    /// Maximum number of viewers that the reader can hold.
    pub capacity: u64,
    /// Number of videos assigned to the reader.
    pub assigned: u64,
    /// The highest assignment epoch that the reader has heard of.
    pub highest_epoch: u64,
    /// Number of viewers who came to the reader in the last minute and had been connected to some reader before.
    pub reconnects: u64,
    /// Number of `reconnects` by viewers whom a leaving reader sent away, or who missed a comment. Viewers whom a full
    /// reader refused are not counted.
    pub reconnect_errors: u64,
    /// Number of viewers of each video that has any at the reader, without the canary.
    pub videos: Vec<(VideoId, u64)>,
}

/// The state of a video's assignment as the manager knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignedVideoState {
    /// The assigned video.
    pub videoid: VideoId,
    /// The epoch of the assignment; an order has to name it as the expected one.
    pub epoch: u64,
    /// The readers of the video and their shares.
    pub readers: Vec<ReaderShare>,
    /// Number of viewers at the video's readers, and at readers that still hand them over; 0 for the canary.
    pub viewers: u64,
    /// Milliseconds since this manager saw the assignment change.
    pub changed_ms: u64,
    /// Whether the video is being moved.
    pub moving: bool,
}
