//! Makes sure that everything in the log is counted: waits for the consumers, or counts the log itself if none runs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use liverank_adapters::Backends;
use liverank_adapters::archive::ArchivePosition;
use liverank_adapters::event_log::ReadRange;
use liverank_consumer::batches::{ClassifiedRecords, WaitingPartition, classify_records};

use crate::progress::CommandProgress;

/// The time between two checks of the consumers' offsets.
const POLL_EVERY: Duration = Duration::from_millis(200);
/// The time without progress after which the log is read to find out if anything is left to count: a partition may end
/// with offsets that have no record.
const CHECK_LOG_AFTER_STALL: Duration = Duration::from_secs(3);
/// The time for which the consumers may make no progress. The timeout is longer than the half minute that a consumer
/// group takes to form anew.
const STALL_TIMEOUT: Duration = Duration::from_mins(1);
/// The number of events in one transaction.
const BATCH_EVENTS: usize = 5_000;

/// Waits until the archive has counted everything that the log has now. If `alone` is true, no consumer runs, and this
/// function counts the rest itself.
pub(super) async fn wait_until_counted(
    backends: &Backends,
    alone: bool,
    progress: &CommandProgress,
) -> anyhow::Result<()> {
    let ends = backends.log.end_offsets().await.context("asking the log where it ends")?;
    if alone {
        count_remaining(backends, &ends).await
    } else {
        wait_for_consumers(backends, &ends, progress).await
    }
}

async fn wait_for_consumers(
    backends: &Backends,
    ends: &[u64],
    progress: &CommandProgress,
) -> anyhow::Result<()> {
    let partitions: Vec<u32> = (0..).take(ends.len()).collect();
    let (mut least, mut since) = (u64::MAX, Instant::now());
    loop {
        let positions = backends
            .archive
            .partition_positions(&partitions)
            .await
            .context("asking how far the log is counted")?;
        let to_go: u64 =
            ends.iter().zip(&positions).map(|(end, at)| end.saturating_sub(at.next_offset)).sum();
        if to_go == 0 {
            return Ok(());
        }
        if to_go < least {
            (least, since) = (to_go, Instant::now());
        }
        if since.elapsed() > CHECK_LOG_AFTER_STALL
            && has_no_records_behind(backends, &positions, ends).await?
        {
            return Ok(());
        }
        if since.elapsed() > STALL_TIMEOUT {
            bail!(
                "the consumers have not counted {to_go} records that are in the log, and stood still for {} s: do they run?",
                STALL_TIMEOUT.as_secs()
            );
        }
        progress.show_progress("waiting for the consumers", 0, to_go);
        tokio::time::sleep(POLL_EVERY).await;
    }
}

/// Returns true if no record lies between these positions and the ends of the partitions.
async fn has_no_records_behind(
    backends: &Backends,
    positions: &[ArchivePosition],
    ends: &[u64],
) -> anyhow::Result<bool> {
    let left = (0..).zip(positions).zip(ends).filter(|((_, at), end)| at.next_offset < **end);
    let left = left.map(|((partition, at), &to)| ReadRange {
        partition,
        first_offset: at.next_offset,
        end_offset: to,
        previous_record: None,
    });
    let mut reader = backends.log.read_ranges(&left.collect::<Vec<_>>()).await.context("reading the log")?;
    Ok(reader.next_records(1).await.context("reading the log")?.is_empty())
}

/// Counts the rest of the log as a consumer does, but without the boards, because embedded boards are made anew at the
/// next start.
async fn count_remaining(backends: &Backends, ends: &[u64]) -> anyhow::Result<()> {
    let partitions: Vec<u32> = (0..).take(ends.len()).collect();
    let positions = backends.archive.claim_partitions(&partitions).await.context("opening the archive")?;
    let mut positions: BTreeMap<u32, ArchivePosition> = partitions.into_iter().zip(positions).collect();
    let stretches = positions.iter().zip(ends).filter(|((_, at), end)| at.next_offset < **end);
    let stretches = stretches.map(|((&partition, at), &to)| ReadRange {
        partition,
        first_offset: at.next_offset,
        end_offset: to,
        previous_record: at.last_record,
    });
    let mut reader =
        backends.log.read_ranges(&stretches.collect::<Vec<_>>()).await.context("reading the log")?;
    loop {
        let records = reader.next_records(BATCH_EVENTS).await.context("reading the log")?;
        if records.is_empty() {
            return Ok(());
        }
        let ClassifiedRecords { batch, unreadable_records: poison, waiting_partitions: waiting, .. } =
            classify_records(&records, &positions, |_| true);
        if let Some(WaitingPartition { partition, offset, format }) = waiting.first() {
            bail!(
                "offset {offset} of partition {partition} is of format {format}, which a later release wrote: erase with that one"
            );
        }
        for letter in &poison {
            backends.log.append_dead_letter(letter).await.context("writing dead letters")?;
        }
        backends.archive.commit_batch(&batch).await.context("counting the log")?;
        for span in &batch.offset_ranges {
            positions.insert(
                span.partition,
                ArchivePosition { next_offset: span.next, last_record: span.last_record },
            );
        }
    }
}
