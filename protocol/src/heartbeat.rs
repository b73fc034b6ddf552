//! What a reader reports of itself.

use liverank_core::ReaderId;
use liverank_core::handover::HeldVideo;
use liverank_core::secret::Secret;
use serde::{Deserialize, Serialize};

/// Body of the manager's `POST /heartbeat`: a reader as it reports itself. Managers share the last one through the store. It is alive as long as `beat` changes, by the observer's own clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReaderRecord {
    /// Its name.
    pub id: ReaderId,
    /// Where viewers reach it (`http://localhost:4001`).
    pub public_url: String,
    /// Where gateways and managers reach it.
    pub internal_url: String,
    /// Differs in every heartbeat; a restarted reader starts from another random number.
    pub beat: u64,
    /// When its process began, in microseconds since 1970: of two processes under one name, the later one counts. 0: not
    /// said.
    #[serde(default)]
    pub incarnation: u64,
    /// Viewers it can hold.
    pub capacity: u64,
    /// Viewers connected.
    pub viewers: u64,
    /// Whether it is leaving and takes no new viewers.
    pub draining: bool,
    /// While the reader is leaving: milliseconds until it ends, even if viewers are left. 0: it did not say.
    #[serde(default)]
    pub grace_ms: u64,
    /// The highest epoch it has seen.
    pub highest_epoch: u64,
    /// Every video that it has viewers of or holds ready.
    pub videos: Vec<HeldVideo>,
    /// Comments written to viewers since its start.
    pub messages_sent: u64,
    /// Viewers who came in the last minute and had been somewhere before.
    #[serde(default)]
    pub reconnects: u64,
    /// Of these, those who were sent away by a reader that leaves, or missed something. A full reader is none of it.
    #[serde(default)]
    pub reconnect_errors: u64,
    /// What managers show this reader when they ask it for something; good nowhere else, and another one after each start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<Secret>,
}
