//! The state of the whole system, as a gateway gathers it.

use std::collections::BTreeMap;

use liverank_core::Millis;
use serde::{Deserialize, Serialize};

use crate::Overview;

/// Answer of the gateway's `GET /operate`, of limited size. The console and `liverank top` show it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SystemState {
    /// The time of the answer, in milliseconds since 1970.
    pub at: Millis,
    /// The readers, the videos and the moves, merged from the answers of several managers; null if no manager answers.
    pub placement: Option<Overview>,
    /// The lag of counting and of the boards behind the log; null if a store does not answer.
    pub lag: Option<SystemLag>,
    /// The weights by which events count, as [`Weights::to_json`](liverank_core::score::Weights::to_json) writes them; null if the archive does not answer. Gateways of earlier
    /// releases leave this field out.
    #[serde(default)]
    pub weights: Option<serde_json::Value>,
    /// Counts that only grow, by name. A count that is not known is left out.
    pub counts: BTreeMap<String, u64>,
    /// The growth of each count per second, by name; null if a rate is not known.
    pub rates: BTreeMap<String, Option<f64>>,
    /// Number of streams that are open at this gateway.
    pub streams: i64,
    /// The stores, managers and services, and whether each answers.
    pub parts: Vec<PartState>,
    /// The state of the demo; null if this system has none.
    pub demo: Option<DemoState>,
    /// The age of records when the boards show them; null if none was measured yet.
    pub freshness: Option<BoardFreshness>,
}

/// The lag of counting and of the boards behind the log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemLag {
    /// Number of records of the log that are not counted yet.
    pub records: u64,
    /// The time for which the oldest uncounted record has waited, in milliseconds; null if the log has no partition.
    pub waited_ms: Option<Millis>,
    /// Number of records that are counted and not on the boards yet.
    pub projection: u64,
    /// The partitions, those with the longest wait first; limited in number.
    pub partitions: Vec<LagOfPartition>,
}

/// The lag of counting and of the boards behind one partition of the log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LagOfPartition {
    /// The number of the partition.
    pub partition: u32,
    /// Number of records of the partition that are not counted yet.
    pub records: u64,
    /// The time for which the oldest uncounted record has waited, in milliseconds.
    pub waited_ms: Millis,
    /// Number of records that are counted and not on the boards yet.
    pub projection: u64,
}

/// A store, a manager or a service, and whether it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartState {
    /// The name of the part, such as `log`, `comment` or `manager HOST:PORT`.
    pub name: String,
    /// Whether the part does not answer.
    pub away: bool,
    /// The reason for which the part is away; null if it answers.
    pub detail: Option<String>,
}

/// The state of the demo.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DemoState {
    /// Whether the demo runs.
    pub running: bool,
    /// The step that the demo is at, as a sentence.
    pub step: String,
    /// Seconds until the demo ends by itself.
    pub seconds_left: u64,
}

/// The age of records when the boards show them, over the last samples.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoardFreshness {
    /// Number of samples.
    pub samples: u64,
    /// The median of the ages, in milliseconds.
    pub median_ms: u64,
    /// The greatest age, in milliseconds.
    pub worst_ms: u64,
}
