//! The forgetting of old identities: events' identities that nobody can repeat any more are deleted from the archive.
//! Windows that are not kept ([`windows`]) and half-lives that no board has ([`decays`]) are deleted in the same turn,
//! and videos that nobody interacts with leave the boards ([`idle`]).
//!
//! A repeat of an event is recognised within a window of the log's time. So an identity may be deleted once every
//! event that is still to be counted, on any partition and by any consumer, is younger than the identity by that
//! window. A partition that lags keeps its identities, however far the other partitions are.

use std::time::Duration;

use liverank_adapters::archive::ArchivePosition;
use liverank_adapters::{Backends, StoreError};
use liverank_core::Millis;
use liverank_core::boards::DeclaredBoards;
use liverank_core::counting::REPEAT_WINDOW_MS;
use liverank_runtime::ServiceContext;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::{decays, idle, windows};

/// Interval of deleting old identities.
const FORGET_EVERY: Duration = Duration::from_mins(1);
/// Maximum time of deleting in one turn; what is left is deleted in the next turn, a minute later.
const MAX_DELETION_TIME: Duration = Duration::from_secs(20);
/// Pause between two deletions, so that commits are not held up.
const PAUSE_BETWEEN_DELETIONS: Duration = Duration::from_millis(50);
/// Allowed difference between the clocks of brokers, in milliseconds: each partition may have another broker.
const MAX_CLOCK_DIFFERENCE_MS: Millis = 3600 * 1000;

/// Deletes old identities, windows and half-lives until shutdown, and removes from the boards the videos that were idle
/// for `idle_for`. Only the process that owns partition 0 does it, because one process is enough.
pub async fn run(
    backends: Backends,
    boards: DeclaredBoards,
    idle_for: Duration,
    owned: watch::Receiver<Vec<u32>>,
    shell: ServiceContext,
) {
    let started = Instant::now();
    loop {
        tokio::select! {
            () = shell.shutdown.cancelled() => return,
            () = tokio::time::sleep(FORGET_EVERY) => {}
        }
        if owned.borrow().contains(&0) {
            // A store that is away shows with the next commit; whatever was not deleted now is deleted next time.
            if let Err(error) = forget_identities(&backends, &shell).await {
                tracing::debug!(%error, "old identities were not forgotten");
            }
            let until = Instant::now() + MAX_DELETION_TIME;
            if let Err(error) =
                windows::forget_old_windows(&backends, &boards, started.elapsed(), until).await
            {
                tracing::debug!(%error, "old windows were not forgotten");
            }
            if let Err(error) = decays::forget_unknown(&backends, &boards, started.elapsed()).await {
                tracing::debug!(%error, "half-lives that no board has were not forgotten");
            }
            let until = Instant::now() + MAX_DELETION_TIME;
            // Each of its calls is whole by itself: a process that is to end does not wait for the others.
            let retired = tokio::select! {
                () = shell.shutdown.cancelled() => return,
                retired = idle::remove_idle_videos(&backends, &boards, idle_for, until) => retired,
            };
            if let Err(error) = retired {
                tracing::debug!(%error, "idle videos were not taken off the boards");
            }
        }
    }
}

async fn forget_identities(backends: &Backends, shell: &ServiceContext) -> Result<(), StoreError> {
    // The log's end offsets are read first: records that came after them are younger than those counted by then.
    let ends = backends.log.end_offsets().await?;
    let partitions: Vec<u32> = (0..ends.len() as u32).collect();
    let positions = backends.archive.partition_positions(&partitions).await?;
    let Some(watermark) = oldest_needed_time(&ends, &positions) else { return Ok(()) };
    let until = Instant::now() + MAX_DELETION_TIME;
    while backends.archive.forget_identities_before(watermark).await? > 0 {
        if shell.shutdown.is_cancelled() || Instant::now() > until {
            return Ok(());
        }
        tokio::time::sleep(PAUSE_BETWEEN_DELETIONS).await;
    }
    Ok(())
}

/// Returns the time of the log before which identities can be deleted: no repeat of an event seen earlier has to be
/// recognised. Returns `None` if the time cannot be determined. `ends` must be read before `positions`.
pub fn oldest_needed_time(ends: &[u64], positions: &[ArchivePosition]) -> Option<Millis> {
    let counted_to = |position: &ArchivePosition| position.last_record.map(|mark| mark.broker_time);
    let newest = positions.iter().filter_map(counted_to).max()?;
    let mut still_to_come = newest;
    for (end, position) in ends.iter().zip(positions) {
        // A partition that is counted to its end gets no records older than those counted elsewhere, except by the
        // difference of clocks.
        if position.next_offset < *end {
            still_to_come = still_to_come.min(counted_to(position)?);
        }
    }
    Some(still_to_come - REPEAT_WINDOW_MS - MAX_CLOCK_DIFFERENCE_MS)
}

#[cfg(test)]
mod tests {
    use liverank_core::counting::RecordFingerprint;

    use super::*;

    const REPEAT_DAY: Millis = REPEAT_WINDOW_MS;

    fn position_at(next: u64, day: Millis) -> ArchivePosition {
        ArchivePosition {
            next_offset: next,
            last_record: Some(RecordFingerprint { broker_time: day * REPEAT_DAY, digest: 0 }),
        }
    }

    #[test]
    fn identities_are_kept_for_a_lagging_partition() {
        let forgotten = |ends: &[u64], positions: &[ArchivePosition]| {
            oldest_needed_time(ends, positions).map(|time| (time + MAX_CLOCK_DIFFERENCE_MS) / REPEAT_DAY)
        };
        assert_eq!(
            forgotten(&[10, 10], &[position_at(10, 9), position_at(10, 2)]),
            Some(8),
            "one at its end holds nothing up"
        );
        assert_eq!(forgotten(&[10, 11], &[position_at(10, 9), position_at(10, 2)]), Some(1));
        let never = ArchivePosition::default();
        assert_eq!(forgotten(&[10, 0], &[position_at(10, 9), never]), Some(8), "an empty partition");
        assert_eq!(
            forgotten(&[10, 1], &[position_at(10, 9), never]),
            None,
            "nobody knows how old its first record is"
        );
        assert_eq!(forgotten(&[0, 0], &[never, never]), None);
    }
}
