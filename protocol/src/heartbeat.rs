//! What a reader reports of itself.

use liverank_core::ReaderId;
use liverank_core::handover::HeldVideo;
use liverank_core::secret::Secret;
use serde::{Deserialize, Serialize};

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
    /// The number of viewers that are connected.
    pub viewers: u64,
    /// True if the reader is leaving and accepts no new viewers.
    pub draining: bool,
    /// While the reader is leaving: milliseconds until it ends, even if viewers are left. 0 if the reader did not
    /// report it.
    #[serde(default)]
    pub grace_ms: u64,
    /// The highest epoch that the reader has seen.
    pub highest_epoch: u64,
    /// Every video that the reader has viewers of or keeps ready for viewers.
    pub videos: Vec<HeldVideo>,
    /// The number of comments written to viewers since the reader's start.
    pub messages_sent: u64,
    /// The number of viewers who connected in the last minute and had been connected to a reader before.
    #[serde(default)]
    pub reconnects: u64,
    /// Those of `reconnects` that were sent away by a leaving reader, or missed comments. A full reader does not cause
    /// such a reconnect.
    #[serde(default)]
    pub reconnect_errors: u64,
    /// The secret that managers show this reader with their requests; valid nowhere else, and a new one after each
    /// start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<Secret>,
}
