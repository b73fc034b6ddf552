//! Compares the metadata of videos beside the boards with the archive, while both change.

use std::time::Duration;

use anyhow::Context;
use futures::{StreamExt, TryStreamExt, stream};
use liverank_adapters::Backends;
use liverank_adapters::ranking_store::DescribedVideo;
use liverank_consumer::projection::to_described;
use liverank_core::counting::VideoState;
use liverank_core::{Metadata, VideoId, canary};
use serde_json::json;

use crate::compare::StoreDifference;

/// Number of videos that are read in one request.
const PAGE_VIDEOS: usize = 1000;
/// Number of videos of the archive that are read at the same time, each by a request of its own.
const MAX_READS_AT_ONCE: usize = 16;
/// The number of times that videos that differ are compared again: metadata that were changed a moment ago are on their
/// way to the boards.
const MAX_ROUNDS: usize = 10;
/// The pause between two rounds of the comparison.
const PAUSE_BETWEEN_ROUNDS: Duration = Duration::from_millis(300);
/// The most videos that are compared again. If more videos differ, the store has lost their metadata, because never so
/// many changes are on their way at once.
const MAX_COMPARED_AGAIN: usize = 2000;
/// The most characters of metadata in a difference. A report of a million differences stays within a gigabyte.
const MAX_TEXT_CHARS: usize = 200;

/// Compares the metadata of every video of the archive with those beside the boards. Returns the differences, or the
/// reason why nothing is compared: earlier releases did not store all metadata beside the boards.
///
/// # Errors
/// A store is away.
pub async fn compare_metadata(backends: &Backends) -> anyhow::Result<Result<Vec<StoreDifference>, String>> {
    if !backends.ranking.is_metadata_complete().await.context("reading the boards")? {
        let why =
            "the metadata of videos are not all there: `liverank rebuild redis` puts them beside the boards";
        return Ok(Err(why.to_owned()));
    }
    let mut differences = Vec::new();
    let mut after: Option<VideoId> = None;
    loop {
        let page = backends.archive.videos_after(after.as_ref(), PAGE_VIDEOS).await;
        let page = page.context("reading the archive")?;
        let Some(last) = page.last() else { break };
        after = Some(last.video_id.clone());
        let expected =
            page.iter().filter(|video| !canary::is_canary(&video.video_id)).map(to_described).collect();
        differences.extend(differences_now(backends, expected).await?);
    }
    for _ in 0..MAX_ROUNDS {
        if differences.is_empty() || differences.len() > MAX_COMPARED_AGAIN {
            break;
        }
        tokio::time::sleep(PAUSE_BETWEEN_ROUNDS).await;
        let again: Vec<VideoId> = differences.into_iter().map(|difference| difference.video_id).collect();
        differences = differences_now(backends, read_expected(backends, &again).await?).await?;
    }
    Ok(Ok(differences))
}

/// Reads the metadata that the archive has of these videos.
async fn read_expected(backends: &Backends, videos: &[VideoId]) -> anyhow::Result<Vec<DescribedVideo>> {
    let reads = stream::iter(videos.iter().map(|id| backends.archive.video(id)));
    let states: Vec<Option<VideoState>> =
        reads.buffer_unordered(MAX_READS_AT_ONCE).try_collect().await.context("reading the archive")?;
    Ok(states.iter().flatten().map(to_described).collect())
}

/// Returns the differences between `expected` and the metadata that are stored beside the boards now.
async fn differences_now(
    backends: &Backends,
    expected: Vec<DescribedVideo>,
) -> anyhow::Result<Vec<StoreDifference>> {
    let ids: Vec<VideoId> = expected.iter().map(|video| video.video_id.clone()).collect();
    let found = backends.ranking.metadata(&ids).await.context("reading the boards")?;
    let both = expected.into_iter().zip(found);
    let differing = both.filter(|(expected, found)| expected.metadata != *found);
    Ok(differing.map(|(expected, found)| metadata_difference(expected, found.as_ref())).collect())
}

fn metadata_difference(expected: DescribedVideo, found: Option<&Metadata>) -> StoreDifference {
    let text = |metadata: Option<&Metadata>| json!(metadata.map(|it| shorten(it.as_str())));
    StoreDifference {
        video_id: expected.video_id,
        field: "metadata",
        by: "archive",
        expected: text(expected.metadata.as_ref()),
        at: "boards",
        board: None,
        window: None,
        found: text(found),
    }
}

/// The first [`MAX_TEXT_CHARS`] characters, with `…` where some are left out.
fn shorten(text: &str) -> String {
    match text.char_indices().nth(MAX_TEXT_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
