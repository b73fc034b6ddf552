//! Which videos are watched most.

use std::cmp::Reverse;

use liverank_core::{ReaderId, VideoId, canary};
use serde::Serialize;

use super::KnownCluster;

/// A video, for people to look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WatchedVideo {
    /// The video.
    pub videoid: VideoId,
    /// Viewers connected now.
    pub viewers: u64,
    /// Its readers, those that still hand it over left out.
    pub readers: Vec<ReaderId>,
    /// Whether some of its viewers are still to be handed over.
    pub moving: bool,
}

/// Readers that are named of one video: a hot one may have hundreds.
const MAX_READERS_SHOWN: usize = 16;

impl KnownCluster {
    /// How many videos have viewers.
    pub fn watched_count(&self) -> usize {
        self.audiences.len()
    }

    /// How many videos are assigned, the system's own left out.
    pub fn registered_count(&self) -> usize {
        self.assignment_view.len() - usize::from(self.assignment_view.get(&canary::video()).is_some())
    }

    /// The videos with most viewers, at most `most` of them.
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
            moving: self.pending_hand_overs.videos.contains_key(video),
        };
        all.into_iter().map(shown).collect()
    }
}
