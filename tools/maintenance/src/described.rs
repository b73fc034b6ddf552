//! Compares the metadata of videos beside the boards with the archive, while both change.

use std::time::Duration;

use anyhow::Context;
use liverank_adapters::Backends;
use liverank_adapters::ranking_store::Described;
use liverank_consumer::repair::described;
use liverank_core::{Metadata, VideoId, canary};
use serde_json::json;

use crate::compare::StoreDifference;

/// The number of videos that are read at once.
const PAGE_VIDEOS: usize = 1000;
/// The number of times that differences are checked again: metadata that was just changed is still on its way to the
/// boards.
const MAX_ROUNDS: usize = 10;
/// The time between two rounds of the comparison.
const PAUSE_BETWEEN_ROUNDS: Duration = Duration::from_millis(300);

/// Compares the metadata of every video of the archive. Boards that were filled by an earlier release do not have all
/// metadata: then nothing is compared, and the inner `Err` says why.
pub async fn compare_metadata(backends: &Backends) -> anyhow::Result<Result<Vec<StoreDifference>, String>> {
    if !backends.ranking.is_described().await.context("reading the boards")? {
        let why =
            "the metadata of videos are not all there: `liverank rebuild redis` puts them beside the boards";
        return Ok(Err(why.to_owned()));
    }
    let mut differing = Vec::new();
    let mut after: Option<VideoId> = None;
    loop {
        let page = backends.archive.videos_after(after.as_ref(), PAGE_VIDEOS).await;
        let page = page.context("reading the archive")?;
        let Some(last) = page.last() else { break };
        after = Some(last.video_id.clone());
        let expected =
            page.iter().filter(|video| !canary::is_canary(&video.video_id)).map(described).collect();
        differing.extend(differing_now(backends, expected).await?);
    }
    for _ in 0..MAX_ROUNDS {
        if differing.is_empty() {
            break;
        }
        tokio::time::sleep(PAUSE_BETWEEN_ROUNDS).await;
        let mut expected = Vec::new();
        for (before, _) in &differing {
            let video = backends.archive.video(&before.video_id).await.context("reading the archive")?;
            expected.extend(video.as_ref().map(described));
        }
        differing = differing_now(backends, expected).await?;
    }
    Ok(Ok(differing.into_iter().map(|(expected, found)| difference(expected, found)).collect()))
}

/// Returns the videos whose metadata beside the boards differs from `expected`, with the metadata found there.
async fn differing_now(
    backends: &Backends,
    expected: Vec<Described>,
) -> anyhow::Result<Vec<(Described, Option<Metadata>)>> {
    let ids: Vec<VideoId> = expected.iter().map(|video| video.video_id.clone()).collect();
    let found = backends.ranking.metadata(&ids).await.context("reading the boards")?;
    let both = expected.into_iter().zip(found);
    Ok(both.filter(|(expected, found)| expected.metadata != *found).collect())
}

fn difference(expected: Described, found: Option<Metadata>) -> StoreDifference {
    let text = |metadata: Option<Metadata>| json!(metadata.as_ref().map(Metadata::as_str));
    StoreDifference {
        video_id: expected.video_id,
        field: "metadata",
        by: "archive",
        expected: text(expected.metadata),
        at: "boards",
        board: None,
        window: None,
        found: text(found),
    }
}

#[cfg(test)]
mod tests;
