//! What this manager knows, and what it decides from it: where a video goes, who serves it, which videos have to move.
//! Plain decisions on plain data; time is an argument.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use liverank_adapters::assignment_store::{MAX_EPOCH, ReaderRecord};
use liverank_core::placement::{Assignment, ReaderLoad, place};
use liverank_core::{ReaderId, VideoId};
use liverank_shell::wire::{Load, Moved, ReaderState, RouteReader};

use crate::liveness::{Hold, Sighting, Standing, Verdict, Watch};
use crate::promises::Promises;
use crate::view::View;

/// Assignments kept: several times the 90,000 concurrent streams that the comments seed expects.
pub const MAX_ASSIGNMENTS: usize = 1_000_000;

/// What is to be done for a video to have a reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Nothing: this is in force, and fit to be used.
    Serve(Assignment),
    /// It is to be given to these readers, if its epoch still is `expected` (`None`: it has none).
    Assign {
        /// What is in force.
        expected: Option<u64>,
        /// Who is to serve it.
        readers: Vec<ReaderId>,
    },
    /// No reader takes videos.
    NoReader,
    /// There are as many assignments as there may be.
    Full,
}

/// Where a video is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Audience {
    viewers: u64,
    /// The reader with the most of them, and how many it has.
    most: (u64, ReaderId),
}

/// What this manager knows.
#[derive(Debug, Default)]
pub struct Cluster {
    /// The assignments.
    pub view: View,
    /// The readers.
    pub watch: Watch,
    /// Where each video that is watched is watched.
    audiences: HashMap<VideoId, Audience>,
    /// What was last decided about readers.
    verdict: Verdict,
    /// Viewers to come.
    pub promises: Promises,
}

impl Cluster {
    /// Notes what the store holds of the readers.
    pub fn observe(&mut self, asked: Instant, records: Vec<ReaderRecord>) {
        self.watch.observe(asked, records);
        self.promises.expire(asked);
        self.audiences = audiences(&self.watch);
        self.judge(asked);
    }

    /// Notes a heartbeat that came to this manager itself.
    pub fn heard(&mut self, now: Instant, record: ReaderRecord) {
        self.watch.heard(now, record);
        self.judge(now);
    }

    /// Decides about readers anew, and answers why nothing is moved where something should be.
    pub fn judge(&mut self, now: Instant) -> Option<Hold> {
        let view = &self.view;
        self.verdict = self.watch.verdict(now, |reader| view.videos_of(reader) > 0);
        self.verdict.hold
    }

    /// What is to be done for `video` to have a reader.
    pub fn decide(&self, now: Instant, video: &VideoId) -> Decision {
        let Some(current) = self.view.get(video) else {
            if self.view.len() >= MAX_ASSIGNMENTS {
                return Decision::Full;
            }
            return match self.choose(video) {
                Some(reader) => Decision::Assign { expected: None, readers: vec![reader] },
                None => Decision::NoReader,
            };
        };
        let staying: Vec<ReaderId> =
            current.readers.iter().filter(|reader| !self.is_leaving(now, reader)).cloned().collect();
        if staying.len() == current.readers.len() {
            return Decision::Serve(current.clone());
        }
        let readers = if staying.is_empty() { self.choose(video).into_iter().collect() } else { staying };
        if readers.is_empty() {
            return Decision::Serve(current.clone());
        }
        Decision::Assign { expected: Some(current.epoch), readers }
    }

    /// Whether others are to take over what a reader serves. Never on a stale view.
    fn is_leaving(&self, now: Instant, reader: &ReaderId) -> bool {
        match self.watch.standing(reader) {
            Some(_) => self.watch.is_fresh(now) && self.verdict.leaving.contains(reader),
            None => self.watch.is_settled(now),
        }
    }

    /// The reader for a video: the one where most of its viewers are already, else the least loaded.
    fn choose(&self, video: &VideoId) -> Option<ReaderId> {
        let loads: Vec<ReaderLoad> = self
            .watch
            .open()
            .map(|sighting| {
                let record = &sighting.record;
                ReaderLoad {
                    id: record.id.clone(),
                    viewers: record.viewers.saturating_add(self.promises.to(&record.id)),
                    videos: self.view.videos_of(&record.id),
                    capacity: record.capacity,
                    open: true,
                }
            })
            .collect();
        let watched_at = self.audiences.get(video).map(|audience| &audience.most.1);
        loads
            .iter()
            .map(|load| &load.id)
            .find(|id| Some(*id) == watched_at)
            .or_else(|| place(&loads))
            .cloned()
    }

    /// The highest epoch that anybody has seen: the next one must be greater.
    pub fn highest_epoch(&self) -> u64 {
        let readers = self.watch.highest_epoch();
        // One that cannot have been minted is somebody's mistake, which must not stop all placement.
        let readers = if readers < MAX_EPOCH { readers } else { 0 };
        readers.max(self.view.highest_epoch())
    }

    /// Watched or unwatched videos that have to move, the most watched first, at most `most` of them.
    pub fn to_move(&self, now: Instant, most: usize) -> Vec<VideoId> {
        if !self.view.readers().any(|reader| self.is_leaving(now, reader))
            || self.watch.open().next().is_none()
        {
            return Vec::new();
        }
        let mut videos: Vec<(u64, &VideoId)> = self
            .view
            .all()
            .filter(|assignment| assignment.readers.iter().any(|reader| self.is_leaving(now, reader)))
            .map(|assignment| (self.viewers(&assignment.video_id), &assignment.video_id))
            .collect();
        videos.sort_unstable_by(|a, b| b.cmp(a));
        videos.into_iter().take(most).map(|(_, video)| video.clone()).collect()
    }

    /// Videos that are watched and that nobody was given: the store has lost them. At most `most` of them.
    pub fn to_adopt(&self, now: Instant, most: usize) -> Vec<VideoId> {
        if !self.view.is_loaded() || !self.watch.is_fresh(now) {
            return Vec::new();
        }
        self.audiences.keys().filter(|video| self.view.get(video).is_none()).take(most).cloned().collect()
    }

    /// Notes which videos are watched, and answers those that are not in use any more, at most `most` of them.
    pub fn to_remove(&mut self, now: Instant, idle: Duration, most: usize) -> Vec<(VideoId, u64)> {
        if !self.view.is_loaded() || !self.watch.is_settled(now) {
            return Vec::new();
        }
        for video in self.audiences.keys() {
            self.view.touch(now, video);
        }
        self.view.unused(now, idle, most)
    }

    /// Viewers of a video, as live readers last reported them.
    pub fn viewers(&self, video: &VideoId) -> u64 {
        self.audiences.get(video).map_or(0, |audience| audience.viewers)
    }

    /// An assignment's readers as others reach them, the best first: alive ones, then the least loaded.
    pub fn reach(&self, assignment: &Assignment) -> Vec<RouteReader> {
        let mut known: Vec<&Sighting> =
            assignment.readers.iter().filter_map(|reader| self.watch.get(reader)).collect();
        known.sort_by_key(|sighting| {
            let record = &sighting.record;
            (self.watch.standing_of(sighting), record.viewers.saturating_mul(1_000) / record.capacity.max(1))
        });
        known.into_iter().map(|sighting| route_reader(&sighting.record)).collect()
    }

    /// Of the videos that a reader reports viewers of, those that others serve now.
    pub fn moved(&self, record: &ReaderRecord) -> Vec<Moved> {
        let elsewhere = |(video, _): &(VideoId, u64)| {
            let assignment = self.view.get(video)?;
            if assignment.readers.contains(&record.id) {
                return None;
            }
            let takes = |reader: &&RouteReader| self.watch.standing(&reader.id) == Some(Standing::Alive);
            let reader_url = self.reach(assignment).iter().find(takes)?.public_url.clone();
            Some(Moved { videoid: video.clone(), epoch: assignment.epoch, reader_url })
        };
        record.videos.iter().filter_map(elsewhere).collect()
    }

    /// Everything about readers' load.
    pub fn load(&self) -> Load {
        let reader = |sighting: &Sighting| {
            let record = sighting.record.clone();
            ReaderState {
                id: record.id,
                public_url: record.public_url,
                internal_url: record.internal_url,
                state: self.watch.standing_of(sighting).name().to_owned(),
                silent_ms: self.watch.silence(sighting).as_millis() as u64,
                viewers: record.viewers,
                capacity: record.capacity,
                videos: record.videos,
            }
        };
        Load { readers: self.watch.all().map(reader).collect(), videos: self.view.len() as u64 }
    }
}

fn route_reader(record: &ReaderRecord) -> RouteReader {
    RouteReader {
        id: record.id.clone(),
        public_url: record.public_url.clone(),
        internal_url: record.internal_url.clone(),
    }
}

fn audiences(watch: &Watch) -> HashMap<VideoId, Audience> {
    let mut audiences: HashMap<VideoId, Audience> = HashMap::new();
    for sighting in watch.all().filter(|sighting| watch.standing_of(sighting) != Standing::Gone) {
        let reader = &sighting.record.id;
        for (video, viewers) in sighting.record.videos.iter().filter(|(_, viewers)| *viewers > 0) {
            let first = || Audience { viewers: 0, most: (0, reader.clone()) };
            let audience = audiences.entry(video.clone()).or_insert_with(first);
            audience.viewers += viewers;
            if *viewers > audience.most.0 {
                audience.most = (*viewers, reader.clone());
            }
        }
    }
    audiences
}

#[cfg(test)]
mod tests;
