//! The check that a window that has ended is final: no record can come into it any more, and its list has all that
//! came.

use liverank_core::Millis;
use liverank_core::windows::{PartitionProgress, Window, windows_final_until};

use crate::archive::{ArchiveMeta, ArchivePosition};
use crate::clock::ComparedClocks;
use crate::{Backends, RankingStore, StoreError};

/// The progress of counting over all partitions of the log, read at one moment.
#[derive(Debug, Clone)]
pub struct CountingProgress {
    /// The time in milliseconds since 1970: windows that ended before it are final.
    final_before: Millis,
    /// The next offset of each partition that is to be counted.
    next_offsets: Vec<u64>,
    /// The archive's meta data in force; `None` if no consumer has opened the archive yet.
    pub meta: Option<ArchiveMeta>,
}

impl CountingProgress {
    /// Reads the progress from the log and the archive.
    ///
    /// # Errors
    /// The log or the archive cannot be reached.
    pub async fn read_progress(backends: &Backends) -> Result<Self, StoreError> {
        // The reads are in this order: the clocks, the log's ends, the counted offsets.
        let now = ComparedClocks::read(backends).await?.earliest;
        let ends = backends.log.end_offsets().await?;
        let partitions: Vec<u32> = (0..ends.len() as u32).collect();
        let positions = backends.archive.partition_positions(&partitions).await?;
        let of_partition = |(end, position): (&u64, &ArchivePosition)| PartitionProgress {
            last_counted_time: position.last_record.map(|record| record.broker_time),
            is_at_end: position.next_offset >= *end,
        };
        let progress: Vec<PartitionProgress> = ends.iter().zip(&positions).map(of_partition).collect();
        let meta = backends.archive.archive_meta().await?;
        let next_offsets = positions.iter().map(|position| position.next_offset).collect();
        Ok(Self { final_before: windows_final_until(now, &progress), next_offsets, meta })
    }

    /// Returns true if a window is final and `list` shows everything that was counted in it. The progress must have
    /// been read before this call.
    ///
    /// # Errors
    /// The list's store cannot be reached.
    pub async fn is_final(&self, window: &Window, list: &dyn RankingStore) -> Result<bool, StoreError> {
        if self.final_before < window.end {
            return Ok(false);
        }
        let standing = list.checkpoint().await?;
        let stands = |partition: u32| {
            let found = standing.offsets.iter().find(|(known, _)| *known == partition);
            found.map_or(0, |(_, offset)| *offset)
        };
        let has = (0..).zip(&self.next_offsets).all(|(partition, next)| stands(partition) >= *next);
        // A log of which nothing was ever counted needs no list.
        let is_empty = self.next_offsets.iter().all(|next| *next == 0);
        let generation = self.meta.as_ref().map(|meta| meta.generation);
        Ok(is_empty || (has && standing.generation == generation))
    }
}
