//! The half-lives that boards declare for themselves, and which of them the archive counts.

use std::time::Duration;

use liverank_adapters::archive::ArchiveMeta;
use liverank_adapters::{Backends, StoreError};
use liverank_core::boards::DeclaredBoards;
use liverank_core::decays::Decay;
use liverank_runtime::ServiceContext;

use crate::pace::retry_until_done;
use crate::repair::no_archive_error;
use crate::stores::ARCHIVE;
use crate::windows::UNKNOWN_KINDS_KEPT_FOR;

/// Makes the archive count the decays of these boards, and retries for as long as the archive is away. Decays of
/// boards that are not in `boards` continue to be counted.
pub async fn declare_decays(
    backends: &Backends,
    boards: &DeclaredBoards,
    shell: &ServiceContext,
) -> anyhow::Result<()> {
    if boards.decays().is_empty() {
        return Ok(());
    }
    let declared = || async { add_missing_decays(backends, boards).await.map(drop) };
    retry_until_done(shell, ARCHIVE, "declaring half-lives", declared).await.map(drop)
}

async fn add_missing_decays(backends: &Backends, boards: &DeclaredBoards) -> Result<ArchiveMeta, StoreError> {
    let meta = backends.archive.archive_meta().await?.ok_or_else(no_archive_error)?;
    let mut decays: Vec<Decay> = meta.decays.iter().map(|counted| counted.decay).collect();
    let before = decays.len();
    for decay in boards.decays() {
        if !decays.contains(&decay) {
            decays.push(decay);
        }
    }
    if decays.len() == before {
        return Ok(meta);
    }
    let meta = backends.archive.set_counted_decays(&decays).await?;
    let minutes: Vec<u64> = meta.decays.iter().map(|counted| counted.decay.half_life_minutes()).collect();
    tracing::info!(?minutes, "scores by half-lives of boards' own are counted");
    Ok(meta)
}

/// Makes the archive stop counting decays that no board declares. Only one consumer at a time calls this function,
/// again and again. `running` is the time for which this consumer has run; nothing is removed before it is long
/// enough.
pub async fn forget_unknown(
    backends: &Backends,
    boards: &DeclaredBoards,
    running: Duration,
) -> Result<(), StoreError> {
    let counted = add_missing_decays(backends, boards).await?.decays;
    let known = boards.decays();
    if running >= UNKNOWN_KINDS_KEPT_FOR && counted.iter().any(|counted| !known.contains(&counted.decay)) {
        backends.archive.set_counted_decays(&known).await?;
        tracing::info!("scores by half-lives that no board has any more are counted no more");
    }
    Ok(())
}
