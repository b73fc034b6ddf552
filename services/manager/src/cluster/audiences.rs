//! Counts, from the readers' reports, the viewers of each video and the readers at which they are.

use std::collections::HashMap;
use std::time::Duration;

use liverank_adapters::assignment_store::ReaderRecord;
use liverank_core::handover::ElapsedTime;
use liverank_core::handover::peak::RecentPeak;
use liverank_core::{ReaderId, VideoId};

use super::KnownCluster;
use crate::liveness::{ReaderLiveness, ReaderStatus, ReaderWatch};
use crate::view::AssignmentView;

/// The silence of a reader after which its viewers count as having reached other readers: a reader is silent for some
/// seconds before it is gone, and then no viewer is without a stream for more than ten seconds. A longer time would
/// count viewers as coming to readers at which they are already.
const LOST_VIEWERS_COUNTED_FOR: Duration = Duration::from_secs(15);

/// The viewers of one video, by the reports of its readers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct VideoAudience {
    pub(super) viewers: u64,
    /// The reader with the most viewers of the video, and their number.
    pub(super) largest_reader: (u64, ReaderId),
    /// True if some of the viewers are being sent to another reader.
    pub(super) has_hand_over: bool,
    /// The greatest recent number of viewers.
    pub(super) peak: RecentPeak,
}

impl KnownCluster {
    /// Returns the number of a video's viewers by the last reports of live readers.
    pub fn viewer_count_of(&self, video: &VideoId) -> u64 {
        self.audiences.get(video).map_or(0, |audience| audience.viewers)
    }

    /// Returns true if some viewers of a video are being sent to another reader.
    pub fn has_hand_over(&self, video: &VideoId) -> bool {
        self.audiences.get(video).is_some_and(|audience| audience.has_hand_over)
    }

    /// Returns the number of viewers at other live readers for each video that the reader of `record` serves and has
    /// viewers of, if others have any. The list has at most as many videos as the heartbeat. A reader is told nothing
    /// of videos that it does not serve, because it only claims to have viewers of them.
    pub fn viewers_elsewhere(&self, record: &ReaderRecord) -> Vec<(VideoId, u64)> {
        let all_here =
            |audience: &VideoAudience| audience.largest_reader == (audience.viewers, record.id.clone());
        let serves = |video: &VideoId| {
            let assigned = self.assignment_view.assigned_readers(video);
            assigned.is_some_and(|assigned| assigned.share_of(&record.id).is_some())
        };
        let watched = record.videos.iter().filter(|held| held.viewers > 0).map(|held| &held.video);
        let watched = watched.filter(|video| serves(video));
        // Looking through all readers is for the few videos that have several.
        let split = watched.filter(|video| self.audiences.get(*video).is_some_and(|it| !all_here(it)));
        let others = |sighting: &&ReaderLiveness| {
            sighting.last_record.id != record.id
                && self.reader_watch.status_of(sighting) != ReaderStatus::Gone
        };
        let elsewhere = |video: &VideoId| -> u64 {
            let held = self
                .reader_watch
                .all_readers()
                .filter(others)
                .filter_map(|sighting| sighting.held_video(video));
            held.map(|held| held.viewers).sum()
        };
        split.map(|video| (video.clone(), elsewhere(video))).filter(|(_, viewers)| *viewers > 0).collect()
    }

    /// Returns the number of a video's viewers at readers that were lost recently: these viewers are on their way to
    /// other readers of the video.
    pub fn lost_viewers(&self, video: &VideoId) -> u64 {
        let gone = self.reader_watch.all_readers().filter(|sighting| {
            self.reader_watch.status_of(sighting) == ReaderStatus::Gone
                && self.reader_watch.silence_of(sighting) < LOST_VIEWERS_COUNTED_FOR
        });
        gone.filter_map(|sighting| sighting.held_video(video)).map(|held| held.viewers).sum()
    }
}

/// Returns the audience of each watched video, by the reports of readers that are not gone. `before` is the result of
/// the last call.
pub(super) fn updated_audiences(
    watch: &ReaderWatch,
    view: &AssignmentView,
    now: ElapsedTime,
    before: &HashMap<VideoId, VideoAudience>,
) -> HashMap<VideoId, VideoAudience> {
    let mut audiences: HashMap<VideoId, VideoAudience> = HashMap::new();
    for sighting in watch.all_readers().filter(|sighting| watch.status_of(sighting) != ReaderStatus::Gone) {
        let reader = &sighting.last_record.id;
        for held in sighting.last_record.videos.iter().filter(|held| held.viewers > 0) {
            let first = || {
                let peak = before.get(&held.video).map_or_else(RecentPeak::default, |audience| audience.peak);
                VideoAudience { viewers: 0, largest_reader: (0, reader.clone()), has_hand_over: false, peak }
            };
            let audience = audiences.entry(held.video.clone()).or_insert_with(first);
            audience.viewers += held.viewers;
            audience.has_hand_over |= view
                .assigned_readers(&held.video)
                .is_some_and(|assigned| assigned.must_hand_over(reader, held));
            if held.viewers > audience.largest_reader.0 {
                audience.largest_reader = (held.viewers, reader.clone());
            }
        }
    }
    for audience in audiences.values_mut() {
        audience.peak.note_number(now, audience.viewers, audience.has_hand_over);
    }
    audiences
}
