//! What a reader reports of itself, and what it is answered.

use liverank_core::handover::{HandOver, HeldVideo};
use liverank_core::liveness::ReaderReport;
use liverank_core::secret::Secret;
use liverank_core::{ReaderId, VideoId, ZoneId};
use serde::{Deserialize, Serialize};

use crate::ZonedViewers;

/// A reader as it last reported itself. The reader is alive as long as `beat` changes, by the observer's own clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReaderRecord {
    /// The name of the reader.
    pub id: ReaderId,
    /// The URL at which viewers reach the reader (`http://localhost:4001`).
    pub public_url: String,
    /// The URL at which gateways and managers reach the reader.
    pub internal_url: String,
    /// A number that differs in every heartbeat; a restarted reader starts from another random number.
    pub beat: u64,
    /// The time at which the reader's process began, in microseconds since 1970: of two processes under one name, the
    /// later one counts. 0 if the reader did not report it.
    #[serde(default)]
    pub incarnation: u64,
    /// The number of viewers that the reader can hold.
    pub capacity: u64,
    /// The number of viewers that are connected, the canary's included.
    pub viewers: u64,
    /// True if the reader is leaving and accepts no new viewers.
    pub draining: bool,
    /// While the reader is leaving: milliseconds until it ends, even if viewers are left. 0 if the reader did not
    /// report it.
    #[serde(default)]
    pub grace_ms: u64,
    /// The highest epoch that the reader has seen.
    pub highest_epoch: u64,
    /// Every video that the reader has viewers of or keeps ready for viewers, the canary included.
    pub videos: Vec<HeldVideo>,
    /// The number of comments written to viewers since the reader's start.
    pub messages_sent: u64,
    /// The number of viewers who connected in the last minute and had been connected to a reader before.
    #[serde(default)]
    pub reconnects: u64,
    /// The number of `reconnects` by viewers whom a leaving reader sent away, or who missed comments. A full reader
    /// does not cause such a reconnect.
    #[serde(default)]
    pub reconnect_errors: u64,
    /// The zone in which the reader runs; `None` if the reader does not know it, or is of an earlier release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<ZoneId>,
    /// The viewers by the zones of their gateways.
    #[serde(default, skip_serializing_if = "ZonedViewers::is_empty")]
    pub viewers_by_zone: ZonedViewers,
    /// The secret that managers show this reader with their requests; valid nowhere else, and a new one after each
    /// start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<Secret>,
}

impl ReaderReport for ReaderRecord {
    fn reader_id(&self) -> &ReaderId {
        &self.id
    }

    fn beat(&self) -> u64 {
        self.beat
    }

    fn incarnation(&self) -> u64 {
        self.incarnation
    }

    fn is_leaving(&self) -> bool {
        self.draining
    }

    fn viewers(&self) -> u64 {
        self.viewers
    }

    fn highest_epoch(&self) -> u64 {
        self.highest_epoch
    }

    fn held_videos(&self) -> &[HeldVideo] {
        &self.videos
    }

    fn held_videos_mut(&mut self) -> &mut Vec<HeldVideo> {
        &mut self.videos
    }
}

/// Answer of the manager's `POST /heartbeat`, whose body is an `adapters::assignment_store::ReaderRecord`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatAnswer {
    /// All hand-overs that the reader has to do now. A hand-over that is not listed any more has to stop. The paces
    /// (viewers a second) of all hand-overs in one answer may be added up.
    pub hand_over: Vec<HandOver>,
    /// Number of viewers that other readers have, for each video that this reader has viewers of. Videos without
    /// viewers at other readers are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub viewers_elsewhere: Vec<(VideoId, u64)>,
    /// Number of viewers for whom other readers have room now; only for a reader that is leaving. Managers of earlier
    /// releases leave this field out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room_elsewhere: Option<u64>,
}

/// Body of a reader's `POST /warm`: the reader has to load the video's recent comments, because viewers of the video
/// will be sent to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarmRequest {
    /// The video to hold ready.
    pub videoid: VideoId,
    /// The epoch of the video's assignment in force; 0 if it has none.
    #[serde(default)]
    pub epoch: u64,
}

/// Answer of a reader's `POST /warm`, sent when the video's ring of recent comments is loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarmAnswer {
    /// The video that is ready.
    pub videoid: VideoId,
    /// The last comment in the ring, as `epoch-seq` (comment epoch and sequence number); absent if the video has no
    /// comments yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
}
