//! What a planner is told of the readers and the assignments.

use std::time::Instant;

use liverank_adapters::assignment_store::{Assignment, Cordon, Term};
use liverank_protocol::{CordonRequest, Cordons, Load, ReaderState, TermState, VideoState};

use super::Cluster;
use crate::liveness::{Hold, Sighting};

/// The planner's term in the form that is sent.
pub fn term_state(term: &Term) -> TermState {
    TermState { term: term.term, holder: term.holder.clone(), lease: term.lease.clone() }
}

fn hold_text(hold: Hold) -> String {
    match hold {
        Hold::Stale => "this manager does not see the store".to_owned(),
        Hold::TooMany { missing, readers } => {
            format!("{missing} of {readers} readers seem gone: more likely this manager is cut off")
        }
    }
}

impl Cluster {
    /// Everything about readers' load; `detailed`: with all assignments, and each reader's videos.
    pub fn load(&self, now: Instant, per_minute: u64, detailed: bool) -> Load {
        Load {
            readers: self.watch.all().map(|sighting| self.reader_state(now, sighting, detailed)).collect(),
            videos: self.view.len() as u64,
            assignments: detailed.then(|| self.video_states(now)),
            term: self.orders.term.as_ref().map(term_state),
            fresh: self.watch.is_fresh(now) && self.view.is_loaded(),
            hold: self.hold(now).map(hold_text),
            highest_epoch: self.highest_epoch(),
            viewers_per_minute: per_minute,
            in_flight: self.owed.viewers,
            cordons: self.cordons().cordons,
            unserved: self.unserved.unserved_lately(now),
        }
    }

    /// Which readers are closed.
    pub fn cordons(&self) -> Cordons {
        let cordon = |it: &Cordon| CordonRequest {
            reader: it.reader.clone(),
            cordon: Some(it.closing.into()),
            why: it.why.clone(),
        };
        Cordons { cordons: self.orders.cordons.iter().map(cordon).collect() }
    }

    fn reader_state(&self, now: Instant, sighting: &Sighting, detailed: bool) -> ReaderState {
        let record = &sighting.record;
        let silence = self.watch.silence(sighting);
        let watched = record.videos.iter().filter(|held| detailed && held.viewers > 0);
        ReaderState {
            id: record.id.clone(),
            public_url: record.public_url.clone(),
            internal_url: record.internal_url.clone(),
            state: self.watch.standing_of(sighting).into(),
            cordon: self.closing(&record.id).map(Into::into),
            silent_ms: silence.as_millis() as u64,
            fresh: self.watch.is_fresh(now) && silence < crate::liveness::SUSPECT_AFTER,
            unreachable: sighting.is_unreachable(),
            drain_overdue: self.is_drain_overdue(now, &record.id),
            grace_ms: record.grace_ms,
            viewers: record.viewers,
            capacity: record.capacity,
            assigned: self.view.videos_of(&record.id),
            highest_epoch: record.highest_epoch,
            reconnects: record.reconnects,
            reconnect_errors: record.reconnect_errors,
            videos: watched.map(|held| (held.video.clone(), held.viewers)).collect(),
        }
    }

    fn video_states(&self, now: Instant) -> Vec<VideoState> {
        let state = |assignment: &Assignment| {
            let video = &assignment.video_id;
            let changed = self.view.changed(video).map(|at| now.saturating_duration_since(at));
            VideoState {
                videoid: video.clone(),
                epoch: assignment.epoch(),
                readers: assignment.readers().to_vec(),
                viewers: self.viewers(video),
                changed_ms: changed.unwrap_or_default().as_millis() as u64,
                moving: self.owed.videos.contains_key(video),
            }
        };
        self.view.all().map(state).collect()
    }
}
