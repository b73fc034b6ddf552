//! The reports to planners on the readers and the assignments.

use std::time::Instant;

use liverank_adapters::assignment_store::{PlannerTerm, ReaderCordon, VideoAssignment};
use liverank_protocol::{ClusterLoad, CordonRequest, CordonsAnswer, ReaderState, TermState, VideoState};

use super::KnownCluster;
use crate::liveness::{HoldReason, ReaderSighting};

/// Returns a planner's term in the form of the API.
pub fn term_state(term: &PlannerTerm) -> TermState {
    TermState { term: term.term, holder: term.holder.clone(), lease: term.lease.clone() }
}

fn hold_text(hold: HoldReason) -> String {
    match hold {
        HoldReason::Stale => "this manager does not see the store".to_owned(),
        HoldReason::TooMany { missing, readers } => {
            format!("{missing} of {readers} readers seem gone: more likely this manager is cut off")
        }
    }
}

impl KnownCluster {
    /// Returns the readers' load. `detailed`: also all assignments, and the videos of each reader.
    pub fn cluster_load(&self, now: Instant, per_minute: u64, detailed: bool) -> ClusterLoad {
        ClusterLoad {
            readers: self
                .reader_watch
                .all_sightings()
                .map(|sighting| self.reader_state(now, sighting, detailed))
                .collect(),
            videos: self.assignment_view.len() as u64,
            assignments: detailed.then(|| self.video_states(now)),
            term: self.orders.planner_term.as_ref().map(term_state),
            fresh: self.reader_watch.is_fresh(now) && self.assignment_view.is_loaded(),
            hold: self.hold_reason(now).map(hold_text),
            highest_epoch: self.highest_epoch(),
            viewers_per_minute: per_minute,
            in_flight: self.pending_hand_overs.viewers,
            cordons: self.cordons_answer().cordons,
            unserved: self.unserved_viewers.unserved_lately(now),
        }
    }

    /// Returns the cordons in force.
    pub fn cordons_answer(&self) -> CordonsAnswer {
        let cordon = |it: &ReaderCordon| CordonRequest {
            reader: it.reader.clone(),
            cordon: Some(it.closing.into()),
            why: it.why.clone(),
        };
        CordonsAnswer { cordons: self.orders.cordons.iter().map(cordon).collect() }
    }

    fn reader_state(&self, now: Instant, sighting: &ReaderSighting, detailed: bool) -> ReaderState {
        let record = &sighting.last_record;
        let silence = self.reader_watch.silence_of(sighting);
        let watched = record.videos.iter().filter(|held| detailed && held.viewers > 0);
        ReaderState {
            id: record.id.clone(),
            public_url: record.public_url.clone(),
            internal_url: record.internal_url.clone(),
            state: self.reader_watch.status_of(sighting).into(),
            cordon: self.cordon_level(&record.id).map(Into::into),
            silent_ms: silence.as_millis() as u64,
            fresh: self.reader_watch.is_fresh(now) && silence < crate::liveness::SUSPECT_AFTER_SILENCE,
            unreachable: sighting.is_unreachable(),
            drain_overdue: self.is_drain_overdue(now, &record.id),
            grace_ms: record.grace_ms,
            viewers: record.viewers,
            capacity: record.capacity,
            assigned: self.assignment_view.video_count_of(&record.id),
            highest_epoch: record.highest_epoch,
            reconnects: record.reconnects,
            reconnect_errors: record.reconnect_errors,
            videos: watched.map(|held| (held.video.clone(), held.viewers)).collect(),
        }
    }

    fn video_states(&self, now: Instant) -> Vec<VideoState> {
        let state = |assignment: &VideoAssignment| {
            let video = &assignment.video_id;
            let changed = self.assignment_view.changed_at(video).map(|at| now.saturating_duration_since(at));
            VideoState {
                videoid: video.clone(),
                epoch: assignment.epoch(),
                readers: assignment.readers().to_vec(),
                viewers: self.viewers(video),
                changed_ms: changed.unwrap_or_default().as_millis() as u64,
                moving: self.pending_hand_overs.videos.contains_key(video),
            }
        };
        self.assignment_view.all_assignments().map(state).collect()
    }
}
