//! Which readers are alive: the rule of [`liverank_core::liveness`], for the records that readers send.

use liverank_adapters::assignment_store::ReaderRecord;
use liverank_core::liveness;

pub use liverank_core::handover::coordinator::ReaderStatus;
pub use liverank_core::liveness::{
    HoldReason, LATE_ANSWER_TIMEOUT, LOOK_INTERVAL, PROBE_INTERVAL, PROBE_TIMEOUT, ProbeOutcome,
    ReadersVerdict, SUSPECT_AFTER_SILENCE,
};

/// All readers, as their heartbeats and probes show them to this manager.
pub type ReaderWatch = liveness::ReaderWatch<ReaderRecord>;
/// One reader, as its heartbeats and probes show it to this manager.
pub type ReaderLiveness = liveness::ReaderLiveness<ReaderRecord>;
