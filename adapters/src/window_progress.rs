//! Whether a window that has ended is final: no record can come into it any more, and its list has all that came.

use liverank_core::Millis;
use liverank_core::windows::{PartitionProgress, Window, final_before};

use crate::archive::{ArchiveMeta, ArchivePosition};
use crate::{Backends, RankingStore, StoreError};

/// How far all of the log is counted.
#[derive(Debug, Clone)]
pub struct CountingProgress {
    /// Windows that ended before then are final.
    final_before: Millis,
    /// The next offset of each partition.
    counted: Vec<u64>,
    /// What is in force in the archive.
    pub meta: Option<ArchiveMeta>,
}

impl CountingProgress {
    /// Asks the log and the archive.
    ///
    /// # Errors
    /// One of them is away.
    pub async fn read_progress(backends: &Backends) -> Result<Self, StoreError> {
        // In this order: the clock, what the log has, what is counted.
        let now = (backends.clock)();
        let ends = backends.log.end_offsets().await?;
        let partitions: Vec<u32> = (0..ends.len() as u32).collect();
        let positions = backends.archive.partition_positions(&partitions).await?;
        let of_partition = |(end, position): (&u64, &ArchivePosition)| PartitionProgress {
            counted: position.last_record.map(|record| record.broker_time),
            at_end: position.next_offset >= *end,
        };
        let progress: Vec<PartitionProgress> = ends.iter().zip(&positions).map(of_partition).collect();
        let meta = backends.archive.archive_meta().await?;
        let counted = positions.iter().map(|position| position.next_offset).collect();
        Ok(Self { final_before: final_before(now, &progress), counted, meta })
    }

    /// Whether a window is final, and its list has all of it. What is counted was asked for before what the list has.
    ///
    /// # Errors
    /// The list's store is away.
    pub async fn is_final(&self, window: &Window, list: &dyn RankingStore) -> Result<bool, StoreError> {
        if self.final_before < window.end {
            return Ok(false);
        }
        let standing = list.checkpoint().await?;
        let stands = |partition: u32| {
            let found = standing.offsets.iter().find(|(known, _)| *known == partition);
            found.map_or(0, |(_, offset)| *offset)
        };
        let has = (0..).zip(&self.counted).all(|(partition, next)| stands(partition) >= *next);
        // Where nothing was ever counted there is nothing to have.
        let is_empty = self.counted.iter().all(|next| *next == 0);
        let generation = self.meta.as_ref().map(|meta| meta.generation);
        Ok(is_empty || (has && standing.generation == generation))
    }
}
