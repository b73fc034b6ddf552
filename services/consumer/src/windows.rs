//! The windows that the archive counts for declared boards, and the deletion of windows that no board keeps.

use std::time::Duration;

use liverank_adapters::archive::ArchiveMeta;
use liverank_adapters::{Backends, StoreError};
use liverank_core::Millis;
use liverank_core::boards::{BoardWindows, DeclaredBoards};
use liverank_core::windows::WindowKind;
use liverank_runtime::ServiceContext;
use tokio::time::Instant;

use crate::pace::retry_until_done;
use crate::repair::no_archive_error;
use crate::stores::ARCHIVE;

/// Time for which kinds of windows and half-lives are still counted that this consumer does not know. The time is
/// longer than an update of all consumers usually takes, during which some consumers know a kind and some do not.
pub(crate) const UNKNOWN_KINDS_KEPT_FOR: Duration = Duration::from_mins(10);
/// Pause between two deletions, so that commits are not held up.
const PAUSE_BETWEEN_DELETIONS: Duration = Duration::from_millis(50);

/// Makes the archive count the windows of these boards, and retries for as long as the archive is away. Windows of
/// boards that are not in `boards` continue to be counted.
pub async fn declare_windows(
    backends: &Backends,
    boards: &DeclaredBoards,
    shell: &ServiceContext,
) -> anyhow::Result<()> {
    if boards.window_kinds().is_empty() {
        return Ok(());
    }
    let declared = || add_missing_windows(backends, boards);
    retry_until_done(shell, ARCHIVE, "declaring windows", declared).await.map(drop)
}

async fn add_missing_windows(backends: &Backends, boards: &DeclaredBoards) -> Result<(), StoreError> {
    let meta = read_archive_meta(backends).await?;
    let mut kinds: Vec<WindowKind> = meta.windows.iter().map(|counted| counted.kind.clone()).collect();
    let before = kinds.len();
    for BoardWindows { kind, .. } in boards.window_kinds() {
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    if kinds.len() > before {
        let meta = backends.archive.set_counted_windows(&kinds).await?;
        let kinds: Vec<String> = meta.windows.iter().map(|counted| counted.kind.to_string()).collect();
        tracing::info!(?kinds, "windows are counted");
    }
    Ok(())
}

async fn read_archive_meta(backends: &Backends) -> Result<ArchiveMeta, StoreError> {
    backends.archive.archive_meta().await?.ok_or_else(no_archive_error)
}

/// Deletes the counters of windows that no board keeps any more, by the time of the newest counted record, and makes
/// the archive stop counting kinds of windows that no board has. Only one consumer at a time calls this function, again
/// and again; one call ends at the time `until`. `running` is the time for which this consumer has run.
pub async fn forget_old_windows(
    backends: &Backends,
    boards: &DeclaredBoards,
    running: Duration,
    until: Instant,
) -> Result<(), StoreError> {
    add_missing_windows(backends, boards).await?;
    let meta = read_archive_meta(backends).await?;
    if meta.windows.is_empty() {
        return Ok(());
    }
    let known = boards.window_kinds();
    let Some(newest) = newest_counted_time(backends).await? else { return Ok(()) };
    // A clock that is ahead must not forget a window that still runs: only a rebuild would bring its counts back.
    let now = newest.min((backends.clock)());
    let (kept, unknown): (Vec<_>, Vec<_>) = meta
        .windows
        .iter()
        .map(|counted| (counted.kind.clone(), known.iter().find(|windows| windows.kind == counted.kind)))
        .partition(|(_, known)| known.is_some());
    if !unknown.is_empty() && running >= UNKNOWN_KINDS_KEPT_FOR {
        let kinds: Vec<WindowKind> = kept.iter().map(|(kind, _)| kind.clone()).collect();
        backends.archive.set_counted_windows(&kinds).await?;
        for (kind, _) in &unknown {
            tracing::info!(%kind, "windows that no board has any more are counted no more");
            forget_windows_before(backends, kind, Millis::MAX, until).await?;
        }
    }
    for (kind, windows) in kept {
        let keep = windows.map_or(0, |windows| windows.kept_count);
        if let Some(oldest) = kind.running_and_kept_windows(now, keep).last() {
            forget_windows_before(backends, &kind, oldest.start, until).await?;
        }
    }
    Ok(())
}

/// Returns the time at which the log took the newest record that is counted; `None` if nothing is counted.
pub(crate) async fn newest_counted_time(backends: &Backends) -> Result<Option<Millis>, StoreError> {
    let ends = backends.log.end_offsets().await?;
    let partitions: Vec<u32> = (0..ends.len() as u32).collect();
    let positions = backends.archive.partition_positions(&partitions).await?;
    Ok(positions.iter().filter_map(|position| position.last_record.map(|record| record.broker_time)).max())
}

async fn forget_windows_before(
    backends: &Backends,
    kind: &WindowKind,
    start: Millis,
    until: Instant,
) -> Result<(), StoreError> {
    while backends.archive.forget_windows(kind, start).await? > 0 && Instant::now() < until {
        tokio::time::sleep(PAUSE_BETWEEN_DELETIONS).await;
    }
    Ok(())
}
