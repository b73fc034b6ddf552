//! The facts from which a scaling decision is made, as types.

use serde::{Deserialize, Serialize};

use crate::{Millis, ReaderId};

/// The facts from which a scaling decision is made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScalingInputs {
    /// The time of the decision, in milliseconds since the Unix epoch.
    pub now: Millis,
    /// The number of readers that the last decision set, without those being drained.
    pub current: u32,
    /// The readers that should exist, each once; also those being drained, since their viewers go to the others.
    pub readers: Vec<ReaderId>,
    /// The reports on the readers, from any number of managers. Reports on the same reader are compared; reports on
    /// readers that are not listed are ignored.
    pub reports: Vec<ReaderLoadReport>,
    /// The earlier decisions, with the viewers they were made from: at least those of the stabilisation window, in any
    /// order.
    pub history: Vec<PastDecision>,
}

/// A manager's report on the load of a reader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReaderLoadReport {
    /// The reader that the report is about.
    pub reader: ReaderId,
    /// The number of viewers connected to the reader.
    pub viewers: u64,
    /// The time of the measurement. A report from the future counts as old, because some clock is wrong.
    pub at: Millis,
}

/// An earlier scaling decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastDecision {
    /// The time of the decision.
    pub at: Millis,
    /// The number of readers that the reports alone asked for at the time of the decision
    /// ([`ScalingDecision::raw`](super::ScalingDecision::raw)).
    pub raw: u32,
    /// The number of readers that the decision set ([`ScalingDecision::desired`](super::ScalingDecision::desired)).
    pub desired: u32,
    /// The number of viewers that the decision was made for; `None` if not every reader had a fresh report.
    pub viewers: Option<u64>,
}
