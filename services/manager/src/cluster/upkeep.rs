//! Finds the videos that a manager has to handle without an order: those whose reader is gone, those that the store has
//! lost, and those that nobody watches any more.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use liverank_core::{ReaderId, VideoId};

use super::KnownCluster;
use super::audiences::VideoAudience;
use crate::adoptions::AdoptionBudgets;
use crate::liveness::ReaderStatus;

impl KnownCluster {
    /// Returns up to `most` videos with a reader that is gone, the most watched first.
    pub fn videos_to_move(&self, now: Instant, most: usize) -> Vec<VideoId> {
        let gone = |reader: &ReaderId| self.reader_status(now, reader) == Some(ReaderStatus::Gone);
        let leaving: HashSet<&ReaderId> =
            self.assignment_view.readers().filter(|reader| gone(reader)).collect();
        if leaving.is_empty() || self.least_loaded_of(&HashMap::new(), |_| true).is_none() {
            return Vec::new();
        }
        let mut videos: Vec<(u64, &VideoId)> = self
            .assignment_view
            .all_assignments()
            .filter(|assignment| assignment.readers().iter().any(|share| leaving.contains(&share.reader)))
            .map(|assignment| (self.viewer_count_of(&assignment.video_id), &assignment.video_id))
            .collect();
        videos.sort_unstable_by(|a, b| b.cmp(a));
        videos.into_iter().take(most).map(|(_, video)| video.clone()).collect()
    }

    /// Returns up to `most` videos that are watched but have no assignment, because the store has lost it, each with the
    /// reader in whose budget it counts. Videos of readers whose budget is used up are left out.
    pub fn videos_to_adopt(
        &self,
        now: Instant,
        most: usize,
        budgets: &AdoptionBudgets,
    ) -> Vec<(VideoId, ReaderId)> {
        if !self.assignment_view.is_loaded() || !self.reader_watch.is_view_recent(now) {
            return Vec::new();
        }
        let lost = self.audiences.iter().filter(|(video, _)| self.assignment_view.get(video).is_none());
        lost.filter_map(|(video, audience)| {
            Some((video.clone(), self.reader_to_charge(video, audience, budgets)?.clone()))
        })
        .take(most)
        .collect()
    }

    /// Returns the reader in whose budget a watched video counts if the video is adopted: the one with most of its
    /// viewers, or another one that reports some if that one has used up its budget. So a reader that claims to have the
    /// viewers of others cannot keep their video from being adopted. `None` if no reader of the video has room.
    fn reader_to_charge<'a>(
        &'a self,
        video: &VideoId,
        audience: &'a VideoAudience,
        budgets: &AdoptionBudgets,
    ) -> Option<&'a ReaderId> {
        let (viewers, largest) = &audience.largest_reader;
        if budgets.has_room(largest) {
            return Some(largest);
        }
        // Looking through all readers is for the few videos that several report.
        if *viewers == audience.viewers {
            return None;
        }
        let live = self
            .reader_watch
            .all_readers()
            .filter(|sighting| self.reader_watch.status_of(sighting) != ReaderStatus::Gone);
        live.filter(|sighting| sighting.held_video(video).is_some_and(|held| held.viewers > 0))
            .map(|sighting| &sighting.last_record.id)
            .find(|reader| budgets.has_room(reader))
    }

    /// Notes which videos are watched, and returns up to `most` videos that have not been in use for `idle`, with their
    /// epochs.
    pub fn videos_to_remove(&mut self, now: Instant, idle: Duration, most: usize) -> Vec<(VideoId, u64)> {
        if !self.assignment_view.is_loaded() || !self.reader_watch.is_settled(now) {
            return Vec::new();
        }
        for video in self.audiences.keys() {
            self.assignment_view.note_use(now, video);
        }
        self.assignment_view.unused_videos(now, idle, most)
    }
}
