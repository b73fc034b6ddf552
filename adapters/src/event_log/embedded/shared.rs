//! The state that the committer, the consumers, the readers and the log itself share.

use tokio::sync::watch;

use super::super::CREATED_PARTITION_COUNT;
use super::group::ConsumerGroup;
use super::traces::RecordTraces;
use crate::StoreError;
use crate::redb_file::RedbFile;

/// The largest record that is accepted, key and value together, in bytes: as Kafka's default.
pub const MAX_RECORD_BYTES: usize = 1 << 20;
/// The name of the log in errors.
pub const PART_NAME: &str = "event log";

/// The state that the committer, the consumers and the log itself share.
pub struct SharedLog {
    pub file: RedbFile,
    pub group: ConsumerGroup,
    pub signal: watch::Sender<ConsumerSignal>,
    pub traces: RecordTraces,
}

/// The values whose changes consumers wait for.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConsumerSignal {
    /// The offset after the last durable record of each partition.
    pub durable_ends: [u64; CREATED_PARTITION_COUNT as usize],
    /// A number that grows with each change of the partitions' owners.
    pub ownership_change_count: u64,
}

impl SharedLog {
    /// Wakes the consumers: partitions may have other owners.
    pub fn signal_consumers(&self) {
        self.signal.send_modify(|signal| signal.ownership_change_count += 1);
    }
}

/// Runs blocking work on a thread on which it may block.
pub async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(StoreError::unavailable(PART_NAME, format!("its reader ended: {error}"))))
}
