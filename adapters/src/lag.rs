//! The lag of counting and of the boards behind the log.
//!
//! The lag is computed from the stores' own offsets: the log gives the end of each partition, the archive the next
//! offset to count, the boards the offset up to which they show the log. The age of a backlog is counted from the
//! first observation that saw it, so it depends on no record's own time. Only the backlog at the first observation of
//! a process is taken to be as old as the last record that was counted.

use std::collections::{BTreeMap, VecDeque};

use liverank_core::Millis;

use crate::archive::ArchivePosition;
use crate::{Backends, StoreError};

/// The number of observations kept of a partition: half an hour of a growing backlog. If there are more, every second
/// observation is removed, which costs precision but never the age of the oldest record.
const MAX_OBSERVATIONS: usize = 900;

/// The offsets of one partition: the end of the log, what was counted, and what is on the boards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LagOffsets {
    /// The offset after the last record in the log.
    pub log_end: u64,
    /// The archive's position: records before it were counted.
    pub counted_to: ArchivePosition,
    /// The offset up to which the boards show the partition.
    pub shown_to: u64,
}

/// The offsets of several partitions, by partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OffsetsByPartition(pub Vec<(u32, LagOffsets)>);

impl OffsetsByPartition {
    /// Reads the offsets of these partitions: boards first, then archive, then log. In this order, progress made
    /// during the reading never hides a lag.
    ///
    /// # Errors
    /// A store cannot be reached.
    pub async fn read_offsets(backends: &Backends, partitions: &[u32]) -> Result<Self, StoreError> {
        if partitions.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let shown: BTreeMap<u32, u64> = backends.ranking.checkpoint().await?.offsets.into_iter().collect();
        let counted = backends.archive.partition_positions(partitions).await?;
        let ends = backends.log.end_offsets().await?;
        let offset = |(partition, counted): (&u32, ArchivePosition)| {
            let end = *ends.get(*partition as usize)?;
            Some((
                *partition,
                LagOffsets {
                    log_end: end,
                    counted_to: counted,
                    shown_to: shown.get(partition).copied().unwrap_or(0),
                },
            ))
        };
        Ok(Self(partitions.iter().zip(counted).filter_map(offset).collect()))
    }
}

/// The lag of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionLag {
    /// The number of records of the log that are not counted yet.
    pub uncounted_record_count: u64,
    /// The time for which the oldest uncounted record has waited, in milliseconds.
    pub oldest_wait_ms: Millis,
    /// The number of records that are counted but not on the boards yet.
    pub unprojected_record_count: u64,
}

/// The backlog of one partition: the ends of the log that were observed and are not counted yet, oldest first, each
/// with the time since when a record before that end has waited.
#[derive(Debug, Default)]
pub struct PartitionBacklog {
    observed_ends: VecDeque<(u64, Millis)>,
    was_observed: bool,
}

impl PartitionBacklog {
    /// Computes the lag of the partition from its offsets at `now`, and stores the observation.
    pub fn lag_at(&mut self, at: &LagOffsets, now: Millis) -> PartitionLag {
        let next = at.counted_to.next_offset;
        while self.observed_ends.front().is_some_and(|(end, _)| *end <= next) {
            self.observed_ends.pop_front();
        }
        let is_new = self.observed_ends.back().map_or(at.log_end > next, |(end, _)| at.log_end > *end);
        if is_new {
            let found = at.counted_to.last_record.filter(|_| !self.was_observed).map(|last| last.broker_time);
            self.observed_ends.push_back((at.log_end, found.unwrap_or(now)));
        }
        self.was_observed = true;
        if self.observed_ends.len() > MAX_OBSERVATIONS {
            let mut number = 0_usize;
            self.observed_ends.retain(|_| {
                number += 1;
                number % 2 == 1
            });
        }
        PartitionLag {
            uncounted_record_count: at.log_end.saturating_sub(next),
            oldest_wait_ms: self
                .observed_ends
                .front()
                .map_or(0, |(_, since)| now.saturating_sub(*since).max(0)),
            unprojected_record_count: next.saturating_sub(at.shown_to),
        }
    }
}

#[cfg(test)]
mod tests {
    use liverank_core::counting::RecordFingerprint;

    use super::*;

    fn offsets_at(end: u64, next: u64, shown: u64) -> LagOffsets {
        LagOffsets {
            log_end: end,
            counted_to: ArchivePosition { next_offset: next, last_record: None },
            shown_to: shown,
        }
    }

    #[test]
    fn a_backlog_is_as_old_as_its_oldest_record() {
        let mut backlog = PartitionBacklog::default();
        let mut look = |end, next, now| backlog.lag_at(&offsets_at(end, next, next), now);
        assert_eq!(
            look(10, 10, 0),
            PartitionLag { uncounted_record_count: 0, oldest_wait_ms: 0, unprojected_record_count: 0 }
        );
        assert_eq!(
            look(15, 10, 1_000),
            PartitionLag { uncounted_record_count: 5, oldest_wait_ms: 0, unprojected_record_count: 0 }
        );
        assert_eq!(
            look(20, 12, 3_000),
            PartitionLag { uncounted_record_count: 8, oldest_wait_ms: 2_000, unprojected_record_count: 0 },
            "12 came before 1 s"
        );
        assert_eq!(
            look(20, 15, 5_000),
            PartitionLag { uncounted_record_count: 5, oldest_wait_ms: 2_000, unprojected_record_count: 0 },
            "15 came before 3 s"
        );
        assert_eq!(
            look(20, 20, 6_000),
            PartitionLag { uncounted_record_count: 0, oldest_wait_ms: 0, unprojected_record_count: 0 }
        );
        assert_eq!(
            look(21, 20, 9_000),
            PartitionLag { uncounted_record_count: 1, oldest_wait_ms: 0, unprojected_record_count: 0 }
        );
    }

    #[test]
    fn a_backlog_from_before_the_start_is_as_old_as_the_last_counted_record() {
        let last = Some(RecordFingerprint { broker_time: 1_000, digest: 0 });
        let found = LagOffsets {
            log_end: 9,
            counted_to: ArchivePosition { next_offset: 4, last_record: last },
            shown_to: 1,
        };
        let mut backlog = PartitionBacklog::default();
        assert_eq!(
            backlog.lag_at(&found, 61_000),
            PartitionLag { uncounted_record_count: 5, oldest_wait_ms: 60_000, unprojected_record_count: 3 }
        );
        let counted =
            LagOffsets { counted_to: ArchivePosition { next_offset: 9, last_record: last }, ..found };
        assert_eq!(backlog.lag_at(&counted, 62_000).oldest_wait_ms, 0);
        let more = LagOffsets { log_end: 10, ..counted };
        assert_eq!(backlog.lag_at(&more, 63_000).oldest_wait_ms, 0, "only what was there at the start");
    }

    #[test]
    fn a_backlog_that_grows_for_ever_takes_bounded_memory_and_keeps_its_age() {
        let mut backlog = PartitionBacklog::default();
        backlog.lag_at(&offsets_at(0, 0, 0), 0);
        for second in 1..100_000 {
            let lag = backlog.lag_at(&offsets_at(second, 0, 0), second as Millis * 1_000);
            assert_eq!(lag.oldest_wait_ms, (second as Millis - 1) * 1_000);
            assert!(backlog.observed_ends.len() <= MAX_OBSERVATIONS);
        }
    }
}
