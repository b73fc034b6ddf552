//! The videos with most viewers, for people to look at.

use std::cmp::Reverse;

use liverank_core::{VideoId, canary};
use liverank_protocol::WatchedVideo;

use super::KnownCluster;

/// The maximum number of readers named for one video: a video with very many viewers may have hundreds.
const MAX_READERS_SHOWN: usize = 16;

impl KnownCluster {
    /// Returns the number of assigned videos, without the canary.
    pub fn registered_count(&self) -> usize {
        self.assignment_view.len() - usize::from(self.assignment_view.get(&canary::video()).is_some())
    }

    /// Returns the videos with most viewers, at most `most` of them.
    pub fn hottest_videos(&self, most: usize) -> Vec<WatchedVideo> {
        let shown = self.audiences.iter().filter(|(video, _)| !canary::is_canary(video));
        let mut all: Vec<(u64, &VideoId)> =
            shown.map(|(video, audience)| (audience.viewers, video)).collect();
        let heat = |(viewers, video): &(u64, &VideoId)| (Reverse(*viewers), video.as_str().to_owned());
        if all.len() > most {
            all.select_nth_unstable_by_key(most, |(viewers, _)| Reverse(*viewers));
            all.truncate(most);
        }
        all.sort_by_cached_key(heat);
        let shown = |(viewers, video): (u64, &VideoId)| WatchedVideo {
            videoid: video.clone(),
            viewers,
            readers: self
                .assignment_view
                .get(video)
                .map(|assignment| {
                    let readers = assignment.readers().iter().take(MAX_READERS_SHOWN);
                    readers.map(|share| share.reader.clone()).collect()
                })
                .unwrap_or_default(),
            moving: self.pending_hand_overs.viewers_by_video.contains_key(video),
        };
        all.into_iter().map(shown).collect()
    }
}
