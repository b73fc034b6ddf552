//! Counts the comments that this process has accepted since its start, for the statistics service; by video only for
//! the busiest videos.

use std::collections::{BTreeMap, HashMap};

use liverank_core::VideoId;
use liverank_protocol::CommentServiceReport;

/// The maximum number of videos in a report.
const MAX_REPORTED: usize = 1_000;
/// The maximum number of videos counted, so that a video that grows busy has the time to be noticed: above this, all
/// but the busiest `MAX_REPORTED` are forgotten.
const MAX_COUNTED: usize = 4 * MAX_REPORTED;

/// Counts comments, in all and by video.
#[derive(Debug, Default)]
pub struct CommentTally {
    total_comments: u64,
    by_video: HashMap<VideoId, u64>,
}

impl CommentTally {
    /// Counts one comment on a video.
    pub fn count_comment(&mut self, video: &VideoId) {
        self.total_comments += 1;
        *self.by_video.entry(video.clone()).or_default() += 1;
        if self.by_video.len() > MAX_COUNTED {
            self.by_video =
                busiest_videos(&self.by_video).into_iter().map(|(video, n)| (video.clone(), n)).collect();
        }
    }

    /// Returns the report of this process, called `instance`, for the statistics service.
    pub fn to_report(&self, instance: &str) -> CommentServiceReport {
        let busiest = busiest_videos(&self.by_video);
        let names = || busiest.iter().map(|(video, _)| video.as_str().to_owned());
        CommentServiceReport {
            instance_id: Some(instance.to_owned()),
            total_comments: self.total_comments,
            comments_by_video: names().zip(busiest.iter().map(|(_, count)| *count)).collect(),
            active_topics: names().collect(),
            // Only readers know the subscribers.
            topic_subscribers: BTreeMap::new(),
        }
    }
}

fn busiest_videos(by_video: &HashMap<VideoId, u64>) -> Vec<(&VideoId, u64)> {
    let mut videos: Vec<_> = by_video.iter().map(|(video, count)| (video, *count)).collect();
    videos.sort_by(|(a, busy), (b, busier)| busier.cmp(busy).then(a.cmp(b)));
    videos.truncate(MAX_REPORTED);
    videos
}

#[cfg(test)]
mod tests {
    use super::*;

    fn video(number: usize) -> VideoId {
        VideoId::parse(&format!("v{number:05}")).unwrap()
    }

    #[test]
    fn the_busiest_are_reported_and_all_are_counted() {
        let mut tally = CommentTally::default();
        for _ in 0..3 {
            tally.count_comment(&video(77_777));
        }
        for number in 0..10_000 {
            tally.count_comment(&video(number));
            assert!(tally.by_video.len() <= MAX_COUNTED);
        }
        let report = tally.to_report("one");
        assert_eq!(report.total_comments, 10_003);
        assert_eq!(report.comments_by_video.len(), MAX_REPORTED);
        assert_eq!(report.comments_by_video["v77777"], 3);
        assert_eq!(report.active_topics[0], "v77777");
    }
}
