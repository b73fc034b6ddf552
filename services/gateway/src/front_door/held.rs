//! The numbers of viewers that this gateway holds, by their video and reader.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use liverank_core::{ReaderId, VideoId};

type ViewersByReader = HashMap<(VideoId, ReaderId), u64>;

/// The number of viewers whose streams this gateway holds, for each video and reader. There are no more entries than
/// streams.
#[derive(Default)]
pub(crate) struct HeldViewers(Arc<Mutex<ViewersByReader>>);

/// A viewer whose stream is open, counted until this is dropped.
pub(super) struct HeldViewer {
    counts: Arc<Mutex<ViewersByReader>>,
    key: (VideoId, ReaderId),
}

impl HeldViewers {
    /// Counts one more viewer of `video` at `reader`.
    pub(super) fn add(&self, video: &VideoId, reader: &ReaderId) -> HeldViewer {
        let key = (video.clone(), reader.clone());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(key.clone()).or_default() += 1;
        HeldViewer { counts: Arc::clone(&self.0), key }
    }

    /// Returns the number of viewers of `video` at `reader`.
    pub(super) fn count(&self, video: &VideoId, reader: &ReaderId) -> u64 {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.get(&(video.clone(), reader.clone())).copied().unwrap_or(0)
    }
}

impl Drop for HeldViewer {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let left = counts.get_mut(&self.key).map_or(0, |count| {
            *count -= 1;
            *count
        });
        if left == 0 {
            counts.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn viewers_are_counted_until_their_streams_end() {
        let held = HeldViewers::default();
        let (video, reader) = (VideoId::parse("v").unwrap(), ReaderId::parse("r").unwrap());
        let two = [held.add(&video, &reader), held.add(&video, &reader)];
        assert_eq!(held.count(&video, &reader), 2);
        assert_eq!(held.count(&VideoId::parse("w").unwrap(), &reader), 0);
        drop(two);
        assert_eq!(held.count(&video, &reader), 0);
        assert!(held.0.lock().unwrap().is_empty(), "nothing is left of it");
    }
}
