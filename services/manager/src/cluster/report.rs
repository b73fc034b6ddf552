//! The reports to planners on the readers and the assignments.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use liverank_adapters::assignment_store::{PlannerTerm, ReaderCordon, VideoAssignment};
use liverank_core::{ReaderId, ZoneId};
use liverank_protocol::{
    AssignedVideoState, ClusterLoad, CordonRequest, CordonsAnswer, MAX_LOAD_BYTES, ReaderState, TermState,
    UnlistedVideos,
};

use super::KnownCluster;
use super::listed::bytes_as_json;
use super::load::{viewers_without_canary, watched_videos};
use crate::liveness::{HoldReason, ReaderLiveness};

/// The bytes that an answer needs for each reader with viewers of videos that are not listed: the reader's id, each
/// character escaped, and a number.
const UNLISTED_BYTES_A_READER: usize = 2 * 256 + 32;

/// Returns a planner's term in the form of the API.
pub fn term_state(term: &PlannerTerm) -> TermState {
    TermState { term: term.term, holder: term.holder.clone(), lease: term.lease.clone() }
}

/// Returns, in words, the reason for which nothing is moved.
pub fn hold_text(hold: HoldReason) -> String {
    match hold {
        HoldReason::Stale => "this manager does not see the store".to_owned(),
        HoldReason::TooManyGone { missing, readers } => {
            format!("{missing} of {readers} readers seem gone: more likely this manager is cut off")
        }
    }
}

impl KnownCluster {
    /// Returns the readers' load. `detailed`: also the assignments, and the videos of each reader, as far as the answer
    /// stays within [`MAX_LOAD_BYTES`].
    pub fn cluster_load(&self, now: Instant, per_minute: u64, detailed: bool) -> ClusterLoad {
        let mut load = ClusterLoad {
            readers: self
                .reader_watch
                .all_readers()
                .map(|sighting| self.reader_state(now, sighting))
                .collect(),
            videos: self.assignment_view.len() as u64,
            assignments: None,
            term: self.planner_orders.planner_term.as_ref().map(term_state),
            fresh: self.reader_watch.is_view_recent(now) && self.assignment_view.is_loaded(),
            hold: self.hold_reason(now).map(hold_text),
            highest_epoch: self.highest_epoch(),
            viewers_per_minute: per_minute,
            in_flight: self.pending_hand_overs.viewers,
            cordons: self.cordons_answer().cordons,
            unserved: self.unserved_viewers.recent_unserved_requests(now),
            unlisted: None,
        };
        if detailed {
            self.list_videos(now, &mut load, MAX_LOAD_BYTES);
        }
        load
    }

    /// Adds the assignments and the readers' videos to `load`, as far as it stays within `max_bytes`, and what is left
    /// out.
    pub fn list_videos(&self, now: Instant, load: &mut ClusterLoad, max_bytes: usize) {
        let unlisted_bytes = load.readers.len() * UNLISTED_BYTES_A_READER;
        let listed = self.videos_within(max_bytes.saturating_sub(bytes_as_json(load) + unlisted_bytes));
        let (mut unlisted, mut unlisted_ids) = (UnlistedVideos::default(), HashSet::new());
        for reader in &mut load.readers {
            let Some(sighting) = self.reader_watch.get(&reader.id) else { continue };
            let mut left_out = 0;
            for held in watched_videos(sighting) {
                if listed.contains(&held.video) {
                    reader.videos.push((held.video.clone(), held.viewers));
                } else {
                    left_out += held.viewers;
                    unlisted_ids.insert(&held.video);
                }
            }
            if left_out > 0 {
                unlisted.viewers.push((reader.id.clone(), left_out));
            }
        }
        let all = self.assignment_view.all_assignments();
        let (shown, left): (Vec<_>, Vec<_>) = all.partition(|it| listed.contains(&it.video_id));
        unlisted_ids.extend(left.into_iter().map(|assignment| &assignment.video_id));
        unlisted.videos = unlisted_ids.len() as u64;
        load.assignments = Some(shown.into_iter().map(|it| self.video_state(now, it)).collect());
        load.unlisted = (unlisted.videos > 0).then_some(unlisted);
    }

    /// Returns the zones of the readers that know theirs.
    pub fn reader_zones(&self) -> HashMap<ReaderId, ZoneId> {
        let records = self.reader_watch.all_readers().map(|sighting| &sighting.last_record);
        records.filter_map(|record| Some((record.id.clone(), record.zone.clone()?))).collect()
    }

    /// Returns the cordons in force.
    pub fn cordons_answer(&self) -> CordonsAnswer {
        let cordon = |it: &ReaderCordon| CordonRequest {
            reader: it.reader.clone(),
            cordon: Some(it.closing.into()),
            why: it.why.clone(),
        };
        CordonsAnswer { cordons: self.planner_orders.cordons.iter().map(cordon).collect() }
    }

    /// Returns the state of a reader, without its videos.
    fn reader_state(&self, now: Instant, sighting: &ReaderLiveness) -> ReaderState {
        let record = &sighting.last_record;
        let silence = self.reader_watch.silence_of(sighting);
        ReaderState {
            id: record.id.clone(),
            public_url: record.public_url.clone(),
            internal_url: record.internal_url.clone(),
            state: self.reader_watch.status_of(sighting).into(),
            cordon: self.cordon_level(&record.id).map(Into::into),
            silent_ms: silence.as_millis() as u64,
            fresh: self.reader_watch.is_view_recent(now) && silence < crate::liveness::SUSPECT_AFTER_SILENCE,
            unreachable: sighting.is_unreachable(),
            drain_overdue: self.is_drain_overdue(now, &record.id),
            grace_ms: record.grace_ms,
            viewers: viewers_without_canary(sighting),
            zone: record.zone.clone(),
            viewers_by_zone: record.viewers_by_zone,
            capacity: record.capacity,
            assigned: self.assignment_view.video_count_of(&record.id),
            highest_epoch: record.highest_epoch,
            reconnects: record.reconnects,
            reconnect_errors: record.reconnect_errors,
            videos: Vec::new(),
        }
    }

    fn video_state(&self, now: Instant, assignment: &VideoAssignment) -> AssignedVideoState {
        let video = &assignment.video_id;
        let changed = self.assignment_view.changed_at(video).map(|at| now.saturating_duration_since(at));
        AssignedVideoState {
            videoid: video.clone(),
            epoch: assignment.epoch(),
            readers: assignment.readers().to_vec(),
            viewers: self.load_of_video(video),
            changed_ms: changed.unwrap_or_default().as_millis() as u64,
            moving: self.pending_hand_overs.viewers_by_video.contains_key(video),
        }
    }
}
