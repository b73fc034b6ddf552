//! Chooses the readers that serve a video, and the reader to which each viewer is sent.

use std::collections::HashMap;
use std::time::Instant;

use liverank_adapters::assignment_store::{CordonLevel, VideoAssignment};
use liverank_core::handover::coordinator;
use liverank_core::handover::{AssignedReaders, ReaderShare};
use liverank_core::placement::{ReaderOccupancy, least_occupied_reader};
use liverank_core::{ReaderId, VideoId};
use liverank_protocol::RouteReader;
use liverank_runtime::identity::sent::pass_key;

use super::KnownCluster;
use crate::liveness::ReaderLiveness;

/// The maximum number of assignments: several times the 90,000 concurrent streams that the comments seed expects.
pub const MAX_ASSIGNMENTS: usize = 1_000_000;

/// The next step by which a video gets a reader, as a manager decides it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VideoDecision {
    /// No step is needed: this assignment is in force and can be used.
    UseCurrent(VideoAssignment),
    /// The video has to be assigned to these readers, if its epoch still is `expected` (`None`: it has no assignment).
    Assign {
        /// The epoch that is in force; `None`: the video has no assignment.
        expected: Option<u64>,
        /// The readers that are to serve the video.
        readers: Vec<ReaderShare>,
        /// The new epoch has to be greater than this one.
        seen: u64,
    },
    /// No reader takes videos.
    NoReader,
    /// The maximum number of assignments is reached.
    TooManyAssignments,
}

impl KnownCluster {
    /// Returns the next step by which `video` gets a reader, for a caller that has heard of its epoch `known`.
    pub fn decide_readers(&self, now: Instant, video: &VideoId, known: u64) -> VideoDecision {
        let current = self.assignment_view.get(video);
        if current.is_none() && self.assignment_view.len() >= MAX_ASSIGNMENTS {
            return VideoDecision::TooManyAssignments;
        }
        let decision = coordinator::decide_need(
            &self.view_at(now),
            video,
            known,
            |besides| self.choose_reader(video, besides),
            |assigned| self.roomiest_other_reader(assigned),
        );
        match (decision, current) {
            (coordinator::VideoNeed::AlreadyServed, Some(current)) => {
                VideoDecision::UseCurrent(current.clone())
            }
            (coordinator::VideoNeed::Assign { expected, readers, seen }, _) => {
                VideoDecision::Assign { expected, readers, seen: seen.max(self.highest_epoch()) }
            }
            _ => VideoDecision::NoReader,
        }
    }

    /// Decides as [`KnownCluster::decide_readers`] does, and counts the viewers that will come with the video from now
    /// on: many videos are decided before the first of them is stored, and otherwise all viewers of a dead reader would
    /// go to the least loaded reader. If the assignment is not stored after all, the count expires soon.
    pub fn decide_and_count(&mut self, now: Instant, video: &VideoId, known: u64) -> VideoDecision {
        let decision = self.decide_readers(now, video, known);
        if let VideoDecision::Assign { readers, .. } = &decision {
            self.reserve_for_viewers(now, video, readers);
        }
        decision
    }

    /// Counts the viewers that will come to a video's new readers.
    pub fn reserve_for_viewers(&mut self, now: Instant, video: &VideoId, readers: &[ReaderShare]) {
        let coming = self.lost_viewers(video) / readers.len().max(1) as u64;
        let time = self.time_since_first_read(now);
        for share in readers {
            self.reserved_capacity.reserve(time, &share.reader, coming.max(1));
        }
    }

    /// Counts one viewer less at each of a video's new readers: the viewer who asked for the video and was counted by
    /// [`KnownCluster::decide_and_count`]. The reader for this viewer is chosen next, and the choice must not fail
    /// because of the place that was counted for the viewer itself.
    pub fn release_asking_viewer(&mut self, readers: &[ReaderShare]) {
        for share in readers {
            self.reserved_capacity.note_arrived(&share.reader, 1);
        }
    }

    /// Returns a reader for a video that is not among `besides`: the open reader with most of the video's viewers if it
    /// has room, otherwise the least loaded reader. If no open reader is left, a closed one is taken, because it is
    /// alive.
    fn choose_reader(&self, video: &VideoId, besides: &[ReaderShare]) -> Option<ReaderId> {
        let is_beside = |reader: &ReaderId| besides.iter().all(|share| share.reader != *reader);
        let watched_at = self.audiences.get(video).map(|audience| &audience.largest_reader.1);
        watched_at
            .filter(|reader| {
                self.is_reader_open(reader) && is_beside(reader) && self.room_of_reader(reader) > 0
            })
            .cloned()
            .or_else(|| self.least_loaded_of(&HashMap::new(), is_beside))
    }

    /// Returns the least loaded of the readers that take new videos and for which `fits` returns true. `coming` is the
    /// number of further viewers that will come to each reader.
    pub(super) fn least_loaded_of(
        &self,
        coming: &HashMap<ReaderId, u64>,
        fits: impl Fn(&ReaderId) -> bool,
    ) -> Option<ReaderId> {
        let loads = |closed_too: bool| {
            let takes = |reader: &ReaderId| {
                let closing = self.cordon_level(reader);
                fits(reader) && (closing.is_none() || (closed_too && closing == Some(CordonLevel::Closed)))
            };
            self.reader_watch
                .open_readers_among(takes)
                .map(|sighting| self.occupancy_of(sighting, coming))
                .collect::<Vec<ReaderOccupancy>>()
        };
        least_occupied_reader(&loads(false)).or(least_occupied_reader(&loads(true))).cloned()
    }

    /// Returns the reader with the most room that does not serve the video yet.
    fn roomiest_other_reader(&self, assigned: &AssignedReaders) -> Option<ReaderId> {
        let beside = |sighting: &&ReaderLiveness| {
            let reader = &sighting.last_record.id;
            assigned.share_of(reader).is_none()
                && self.reader_usage_thousandths(reader) < coordinator::FULL_USAGE_THOUSANDTHS
        };
        let least = self
            .open_readers()
            .filter(beside)
            .min_by_key(|sighting| self.reader_usage_thousandths(&sighting.last_record.id));
        least.map(|sighting| sighting.last_record.id.clone())
    }

    fn occupancy_of(&self, sighting: &ReaderLiveness, coming: &HashMap<ReaderId, u64>) -> ReaderOccupancy {
        let record = &sighting.last_record;
        let coming = coming.get(&record.id).copied().unwrap_or(0);
        ReaderOccupancy {
            id: record.id.clone(),
            viewer_count: record
                .viewers
                .saturating_add(self.reserved_capacity.reserved_for(&record.id))
                .saturating_add(coming),
            video_count: self.assignment_view.video_count_of(&record.id),
            capacity: record.capacity,
            is_open: true,
        }
    }

    /// Returns an assignment's readers with their addresses, the best first; `lots` are random numbers that decide on
    /// the order.
    pub fn routes_of(&self, now: Instant, assignment: &VideoAssignment, lots: [u32; 2]) -> Vec<RouteReader> {
        let (seen, video) = (self.view_at(now), &assignment.video_id);
        let readers = coordinator::readers_to_join(&seen, video, &assignment.assigned_readers, lots);
        let known = readers.iter().filter_map(|it| Some((self.reader_watch.get(&it.reader)?, it)));
        known
            .map(|(sighting, join)| {
                let record = &sighting.last_record;
                RouteReader {
                    id: record.id.clone(),
                    public_url: record.public_url.clone(),
                    internal_url: record.internal_url.clone(),
                    load: self.reader_usage_thousandths(&record.id),
                    takes: join.takes_viewers,
                    wanted: join.wanted_viewers,
                    spare: join.spare_viewers,
                    zone: record.zone.clone(),
                    pass_key: record.ticket.as_ref().map(pass_key),
                }
            })
            .collect()
    }
}
