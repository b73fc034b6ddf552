//! The metadata of the videos in lists that ask for them: read once for all lists, and cached until they change.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use liverank_adapters::RankingStore;
use liverank_core::ranking::RankedVideo;
use liverank_core::{Metadata, VideoId};
use prometheus_client::metrics::gauge::Gauge;

/// The maximum number of videos whose metadata are cached. All lists that may ask for metadata have fewer different
/// videos: 18 boards of a thousand each, and the lists around videos. So at this bound only videos that are in no list
/// any more are dropped. The metadata of a video take at most 4 KB, so the whole cache takes at most 128 MB.
const MAX_CACHED_VIDEOS: usize = 32_768;

/// The cache of videos' metadata.
pub(crate) struct MetadataCache {
    /// The ranking store, which has the metadata beside its boards.
    store: Arc<dyn RankingStore>,
    state: Mutex<CacheState>,
    gauge: Gauge,
}

#[derive(Default)]
struct CacheState {
    videos: HashMap<VideoId, CachedMetadata>,
    /// The number of the last read from the store.
    last_read_number: u64,
}

/// The state of a video's metadata in the cache.
#[derive(Debug, Clone, PartialEq)]
enum CachedMetadata {
    /// The read of this number is running. The read's result is cached only if the video is still in this state:
    /// otherwise the video's metadata changed meanwhile, or a later read began.
    BeingRead(u64),
    /// The video's present metadata; `None` if the video has none.
    Known(Option<Metadata>),
}

/// The metadata of each line of a list.
#[derive(Debug, PartialEq)]
pub(crate) struct LineMetadata {
    pub(crate) by_line: Vec<Option<Metadata>>,
    /// Whether all metadata could be read. Metadata that could not be read are left out of `by_line`, and have to be
    /// asked for again.
    pub(crate) is_whole: bool,
}

impl MetadataCache {
    pub(crate) fn new(store: Arc<dyn RankingStore>, gauge: Gauge) -> Self {
        Self { store, state: Mutex::default(), gauge }
    }

    /// Returns the metadata of these lines; reads those that are not cached from the store.
    pub(crate) async fn metadata_of(&self, lines: &[RankedVideo]) -> LineMetadata {
        let (mut by_line, unknown, reading) = self.plan_read(lines);
        if unknown.is_empty() {
            return LineMetadata { by_line, is_whole: true };
        }
        let asked: Vec<VideoId> = unknown.iter().map(|at| lines[*at].video_id.clone()).collect();
        match self.store.metadata(&asked).await {
            Ok(found) => {
                self.cache_result(asked, &found, reading);
                for (at, metadata) in unknown.into_iter().zip(found) {
                    by_line[at] = metadata;
                }
                LineMetadata { by_line, is_whole: true }
            }
            // The service's health already says that the store is unavailable.
            Err(_) => LineMetadata { by_line, is_whole: false },
        }
    }

    /// Returns the cached metadata of these lines, the indices of the lines whose metadata are not cached, and the
    /// number of the read that is to fetch them.
    fn plan_read(&self, lines: &[RankedVideo]) -> (Vec<Option<Metadata>>, Vec<usize>, u64) {
        let mut held = self.lock_cache();
        let mut unknown = Vec::new();
        let mut known = Vec::with_capacity(lines.len());
        for (at, line) in lines.iter().enumerate() {
            if let Some(CachedMetadata::Known(metadata)) = held.videos.get(&line.video_id) {
                known.push(metadata.clone());
            } else {
                known.push(None);
                unknown.push(at);
            }
        }
        if held.videos.len() + unknown.len() > MAX_CACHED_VIDEOS {
            held.videos.clear();
        }
        held.last_read_number += 1;
        let reading = held.last_read_number;
        let ids = unknown.iter().map(|at| lines[*at].video_id.clone());
        held.videos.extend(ids.map(|id| (id, CachedMetadata::BeingRead(reading))));
        self.update_gauge(&held);
        (known, unknown, reading)
    }

    /// Caches the result of a read, for those videos that still wait for this read.
    fn cache_result(&self, videos: Vec<VideoId>, found: &[Option<Metadata>], reading: u64) {
        let mut held = self.lock_cache();
        for (video, metadata) in videos.into_iter().zip(found) {
            if let Some(slot) =
                held.videos.get_mut(&video).filter(|slot| **slot == CachedMetadata::BeingRead(reading))
            {
                *slot = CachedMetadata::Known(metadata.clone());
            }
        }
    }

    /// Drops the metadata of these videos, because they changed.
    pub(crate) fn invalidate(&self, videos: &[VideoId]) {
        let mut held = self.lock_cache();
        for video in videos {
            held.videos.remove(video);
        }
        self.update_gauge(&held);
    }

    /// Drops all metadata, because any of them may have changed.
    pub(crate) fn forget_all(&self) {
        let mut held = self.lock_cache();
        held.videos.clear();
        self.update_gauge(&held);
    }

    fn update_gauge(&self, held: &CacheState) {
        self.gauge.set(held.videos.len() as i64);
    }

    fn lock_cache(&self) -> MutexGuard<'_, CacheState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use liverank_adapters::ranking_store::DescribedVideo;
    use liverank_adapters::ranking_store::embedded::EmbeddedRanking;
    use liverank_core::UserId;
    use serde_json::json;

    use super::*;

    fn line(id: &str) -> RankedVideo {
        RankedVideo {
            video_id: VideoId::parse(id).unwrap(),
            score: 1.0,
            user_id: UserId::parse("o").unwrap(),
        }
    }

    fn titled(title: &str) -> Option<Metadata> {
        Metadata::from_value(&json!({ "title": title })).ok()
    }

    async fn describe(store: &EmbeddedRanking, id: &str, revision: u64, title: &str) {
        let video_id = VideoId::parse(id).unwrap();
        store
            .put_metadata(1, &[DescribedVideo { video_id, revision, metadata: titled(title) }])
            .await
            .unwrap();
    }

    fn descriptions(store: &Arc<EmbeddedRanking>) -> MetadataCache {
        MetadataCache::new(Arc::clone(store) as Arc<dyn RankingStore>, Gauge::default())
    }

    #[tokio::test]
    async fn metadata_are_read_once_until_they_are_forgotten() {
        let store = Arc::new(EmbeddedRanking::new());
        describe(&store, "a", 1, "first").await;
        let descriptions = descriptions(&store);
        let of = async |id: &str| descriptions.metadata_of(&[line(id)]).await.by_line;
        assert_eq!((of("a").await, of("b").await), (vec![titled("first")], vec![None]));
        describe(&store, "a", 2, "second").await;
        describe(&store, "b", 1, "new").await;
        assert_eq!((of("a").await, of("b").await), (vec![titled("first")], vec![None]));
        descriptions.invalidate(&[line("a").video_id]);
        assert_eq!((of("a").await, of("b").await), (vec![titled("second")], vec![None]));
        descriptions.forget_all();
        assert_eq!(of("b").await, vec![titled("new")]);
    }

    #[tokio::test]
    async fn what_changed_while_it_was_read_is_read_again() {
        let store = Arc::new(EmbeddedRanking::new());
        let descriptions = descriptions(&store);
        let lines = [line("a"), line("b")];
        let (_, unknown, reading) = descriptions.plan_read(&lines);
        assert_eq!(unknown, [0, 1]);
        let ids = lines.iter().map(|line| line.video_id.clone()).collect();
        descriptions.invalidate(&[lines[0].video_id.clone()]);
        descriptions.cache_result(ids, &[titled("old"), titled("kept")], reading);
        describe(&store, "a", 1, "new").await;
        let found = descriptions.metadata_of(&lines).await;
        assert_eq!(found, LineMetadata { by_line: vec![titled("new"), titled("kept")], is_whole: true });
    }

    #[tokio::test]
    async fn no_more_are_held_than_the_bound() {
        let descriptions = descriptions(&Arc::new(EmbeddedRanking::new()));
        for list in 0..40 {
            let lines: Vec<RankedVideo> = (0..1000).map(|at| line(&format!("v{list}-{at}"))).collect();
            descriptions.metadata_of(&lines).await;
            assert!(descriptions.gauge.get() <= MAX_CACHED_VIDEOS as i64);
        }
        assert!(descriptions.gauge.get() > 0);
    }
}
