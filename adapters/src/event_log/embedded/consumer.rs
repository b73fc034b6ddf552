//! A member of the embedded log's consumer group.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::super::{ConsumerEvent, LogConsumer, RawRecord, ReadStart};
use super::reading::check_starts;
use super::records::{StoredRange, read_records};
use super::shared::{ConsumerSignal, SharedLog, run_blocking};
use crate::StoreError;

/// A member of the consumer group; leaves the group when it is dropped.
pub struct EmbeddedConsumer {
    shared: Arc<SharedLog>,
    id: u64,
    /// The next offset of each partition that the member holds and was told to start.
    positions: BTreeMap<u32, u64>,
    signal: watch::Receiver<ConsumerSignal>,
    /// The partition to read first in the next call, so that a partition with many records does not starve the others.
    partition_to_read_first: u32,
}

impl EmbeddedConsumer {
    pub fn join(shared: Arc<SharedLog>) -> Self {
        let signal = shared.signal.subscribe();
        let id = shared.group.add_member();
        shared.signal_consumers();
        Self { shared, id, positions: BTreeMap::new(), signal, partition_to_read_first: 0 }
    }

    /// Returns the partitions that were revoked or assigned since the last call, if there are any.
    fn pending_rebalance(&mut self) -> Option<ConsumerEvent> {
        let gone = self.shared.group.release_surplus(self.id);
        if !gone.is_empty() {
            self.positions.retain(|partition, _| !gone.contains(partition));
            self.shared.signal_consumers();
            return Some(ConsumerEvent::Revoked(gone));
        }
        let taken = self.shared.group.take_assigned(self.id);
        (!taken.is_empty()).then_some(ConsumerEvent::Assigned(taken))
    }

    /// Returns the ranges that can be read, beginning with the partition whose turn it is.
    fn readable_ranges(&self, signal: &ConsumerSignal) -> Vec<StoredRange> {
        let later = self.positions.range(self.partition_to_read_first..);
        let earlier = self.positions.range(..self.partition_to_read_first);
        later
            .chain(earlier)
            .map(|(partition, from)| StoredRange {
                partition: *partition,
                first_offset: *from,
                end_offset: signal.durable_ends[*partition as usize],
            })
            .filter(|extent| extent.first_offset < extent.end_offset)
            .collect()
    }

    fn advance_positions(&mut self, records: &[RawRecord]) {
        for record in records {
            self.positions.insert(record.partition, record.offset + 1);
        }
        self.partition_to_read_first = records.last().map_or(0, |record| record.partition + 1);
    }
}

#[async_trait]
impl LogConsumer for EmbeddedConsumer {
    /// Returns the next event. The future may be dropped at any time: positions move only when the records are
    /// returned.
    async fn next_event(
        &mut self,
        max_records: usize,
        max_wait: Duration,
    ) -> Result<ConsumerEvent, StoreError> {
        let deadline = Instant::now() + max_wait;
        loop {
            let signal = *self.signal.borrow_and_update();
            if let Some(change) = self.pending_rebalance() {
                return Ok(change);
            }
            let extents = self.readable_ranges(&signal);
            if !extents.is_empty() {
                let shared = Arc::clone(&self.shared);
                let limit = max_records.max(1);
                let reading =
                    move || shared.file.with_database(|database, _| read_records(database, &extents, limit));
                let mut records = run_blocking(reading).await?;
                self.shared.traces.attach_to(&mut records);
                self.advance_positions(&records);
                return Ok(ConsumerEvent::Records(records));
            }
            if timeout_at(deadline, self.signal.changed()).await.is_err() {
                return Ok(ConsumerEvent::Idle);
            }
        }
    }

    async fn start_partitions(&mut self, starts: &[ReadStart]) -> Result<(), StoreError> {
        let owned = starts.iter().filter(|start| self.shared.group.holds_partition(self.id, start.partition));
        let owned: Vec<ReadStart> = owned.copied().collect();
        // Nothing of these partitions is read until their starts are checked.
        self.positions.retain(|partition, _| owned.iter().all(|start| start.partition != *partition));
        check_starts(&self.shared, owned.clone()).await?;
        self.positions.extend(owned.iter().map(|start| (start.partition, start.offset)));
        Ok(())
    }

    /// Does nothing: only this process could ask for the group's progress, and this process knows it already.
    async fn report_offsets(&mut self, _offsets: &[(u32, u64)]) {}
}

impl Drop for EmbeddedConsumer {
    fn drop(&mut self) {
        self.shared.group.remove_member(self.id);
        self.shared.signal_consumers();
    }
}
