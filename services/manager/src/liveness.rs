//! Which readers are alive, which are gone, and whether this manager may act on it. Time is an argument throughout.
//!
//! A reader is alive as long as its beat changes, as seen on this manager's own monotonic clock. One whose beat has not
//! changed for [`SUSPECT_AFTER`] is suspect and takes no new viewers; it is gone once a direct probe fails as well.
//!
//! Three things keep a manager from taking its own troubles for the readers':
//! 1. Silence is counted only while it looks: time in which it did not see the store (the store was away, or the
//!    process stood still) is nobody's silence.
//! 2. It acts only on a view younger than [`STALE_AFTER`].
//! 3. It does not act while more than max(1, a third) of the readers seem gone: then it is more likely cut off itself.
//!    Readers that stay gone are forgotten after [`FORGET_AFTER`], so that this cannot last for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use liverank_adapters::assignment_store::ReaderRecord;
use liverank_core::handover::Held;
pub use liverank_core::handover::coordinator::ReaderStatus;
use liverank_core::{ReaderId, VideoId};

/// Silence after which a reader is suspect: three heartbeats.
pub const SUSPECT_AFTER: Duration = Duration::from_secs(3);
/// Silence after which a reader counts among those that seem gone. Readers that a network takes away together fall
/// silent up to a heartbeat apart: the first must not be acted on before the others show.
pub const MISSING_AFTER: Duration = Duration::from_secs(2);
/// Age from which a view is too old to act on: three polls.
pub const STALE_AFTER: Duration = Duration::from_millis(1_500);
/// How often a suspect is probed.
pub const PROBE_EVERY: Duration = Duration::from_secs(1);
/// How long a gone reader is remembered, for people to see.
pub const FORGET_AFTER: Duration = Duration::from_mins(1);
/// How long a manager must have looked without a break before it takes a reader it never saw for one that is no more:
/// several heartbeats.
pub const SETTLED_AFTER: Duration = Duration::from_secs(5);

/// Why nothing is moved although readers seem gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// The view is too old to act on.
    Stale,
    /// So many readers seem gone that it is more likely this manager that is cut off.
    TooMany {
        /// Readers that seem gone.
        missing: usize,
        /// Readers in all.
        readers: usize,
    },
}

/// What to do about readers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Readers whose videos others are to take over.
    pub leaving: BTreeSet<ReaderId>,
    /// Why some are not among them.
    pub hold: Option<Hold>,
}

/// What is known of one reader.
#[derive(Debug, Clone)]
pub struct Sighting {
    /// As it last reported itself; its videos in the order of their names.
    pub record: ReaderRecord,
    /// When it last told this manager itself.
    heard: Option<Instant>,
    /// When this record came.
    since: Instant,
    /// The beat that the store held at the last poll that had one.
    polled_beat: Option<u64>,
    /// When its beat was last seen to change, moved forward over the time in which nobody looked.
    changed: Instant,
    /// Whether it was seen alive, rather than found in the store at this manager's start.
    proven: bool,
    /// When it was last probed in this silence, and whether it answered.
    probe: Option<(Instant, bool)>,
}

/// What is known of all readers.
#[derive(Debug, Default)]
pub struct Watch {
    readers: BTreeMap<ReaderId, Sighting>,
    /// When the store was last asked with success.
    polled: Option<Instant>,
    /// Since when it was asked without a break.
    looking_since: Option<Instant>,
}

impl Watch {
    /// Notes what the store holds. `asked` is when it was asked: what it answered is at least as new.
    pub fn observe(&mut self, asked: Instant, records: Vec<ReaderRecord>) {
        let first = self.polled.is_none();
        let blind = self.polled.map(|polled| asked.saturating_duration_since(polled));
        if blind.is_none_or(|blind| blind > STALE_AFTER) {
            self.looking_since = Some(asked);
            for sighting in self.readers.values_mut() {
                sighting.changed = (sighting.changed + blind.unwrap_or_default()).min(asked);
                sighting.probe = None;
            }
        }
        for record in records {
            self.observe_one(asked, record, first);
        }
        self.polled = Some(asked);
    }

    fn observe_one(&mut self, asked: Instant, mut record: ReaderRecord, first: bool) {
        let beat = record.beat;
        let Some(known) = self.readers.get_mut(&record.id) else {
            sort(&mut record);
            let polled_beat = Some(beat);
            let sighting = Sighting {
                record,
                heard: None,
                since: asked,
                polled_beat,
                changed: asked,
                proven: !first,
                probe: None,
            };
            self.readers.insert(sighting.record.id.clone(), sighting);
            return;
        };
        // What the store holds unchanged may be older than what the reader told this manager itself, and what it told
        // may be what the store holds now: neither is news.
        let changed = known.polled_beat.replace(beat) != Some(beat);
        if changed && known.record.beat != beat {
            known.saw(asked, record);
        }
    }

    /// Notes a heartbeat that came to this manager itself.
    pub fn heard(&mut self, now: Instant, mut record: ReaderRecord) {
        let heard = Some(now);
        if let Some(known) = self.readers.get_mut(&record.id) {
            known.saw(now, record);
            known.heard = heard;
        } else {
            sort(&mut record);
            let sighting = Sighting {
                record,
                heard,
                since: now,
                polled_beat: None,
                changed: now,
                proven: true,
                probe: None,
            };
            self.readers.insert(sighting.record.id.clone(), sighting);
        }
    }

    /// Whether a reader reports to this manager itself: then it is this one that carries out what the reader asks for.
    pub fn reports_here(&self, now: Instant, reader: &ReaderId) -> bool {
        let heard = self.get(reader).and_then(|sighting| sighting.heard);
        heard.is_some_and(|heard| now.saturating_duration_since(heard) < SUSPECT_AFTER)
    }

    /// Notes that a reader holds a video ready, ahead of its report.
    pub fn ready(&mut self, reader: &ReaderId, video: &VideoId) {
        let Some(sighting) = self.readers.get_mut(reader) else { return };
        let videos = &mut sighting.record.videos;
        match videos.binary_search_by(|held| held.video.cmp(video)) {
            Ok(at) => videos[at].ready = true,
            Err(at) => videos.insert(
                at,
                Held { video: video.clone(), viewers: 0, epoch: 0, ready: true, shedding: false },
            ),
        }
    }

    /// Readers to probe now, with the beat to hand back to [`Watch::probed`].
    pub fn to_probe(&self, now: Instant) -> Vec<&Sighting> {
        let due = |sighting: &&Sighting| {
            let last = sighting.probe.map(|(at, _)| now.saturating_duration_since(at));
            self.silence(sighting) >= SUSPECT_AFTER && last.is_none_or(|last| last >= PROBE_EVERY)
        };
        self.readers.values().filter(due).collect()
    }

    /// Notes whether a reader answered a probe that was sent when its beat was `beat`.
    pub fn probed(&mut self, sent: Instant, reader: &ReaderId, beat: u64, answered: bool) {
        if let Some(sighting) = self.readers.get_mut(reader).filter(|sighting| sighting.record.beat == beat) {
            sighting.probe = Some((sent, answered));
        }
    }

    /// Whether the view is new enough to act on.
    pub fn is_fresh(&self, now: Instant) -> bool {
        self.polled.is_some_and(|polled| now.saturating_duration_since(polled) <= STALE_AFTER)
    }

    /// Whether it was looked at for so long that a reader never seen is no more.
    pub fn is_settled(&self, now: Instant) -> bool {
        let since = self.looking_since.filter(|_| self.is_fresh(now));
        since.is_some_and(|since| now.saturating_duration_since(since) >= SETTLED_AFTER)
    }

    /// What to do about readers; `serves` tells whether a reader has videos.
    pub fn verdict(&self, now: Instant, serves: impl Fn(&ReaderId) -> bool) -> Verdict {
        if !self.is_fresh(now) {
            return Verdict { leaving: BTreeSet::new(), hold: Some(Hold::Stale) };
        }
        // One that said it was leaving is expected to fall silent, and one that was dealt with is history: neither
        // says anything about how well this manager sees.
        let counted: Vec<&Sighting> = self
            .readers
            .values()
            .filter(|sighting| {
                self.standing_of(sighting) != ReaderStatus::Gone || serves(&sighting.record.id)
            })
            .collect();
        let missing = counted.iter().filter(|sighting| self.seems_gone(sighting)).count();
        let too_many = missing > (counted.len() / 3).max(1);
        let leaving = self.readers.values().filter(|sighting| {
            sighting.record.draining || (self.standing_of(sighting) == ReaderStatus::Gone && !too_many)
        });
        Verdict {
            leaving: leaving.map(|sighting| sighting.record.id.clone()).collect(),
            hold: too_many.then_some(Hold::TooMany { missing, readers: counted.len() }),
        }
    }

    /// Readers that take new videos. One that was only found in the store, and not seen alive yet, does so only where
    /// there is no other.
    pub fn open(&self) -> impl Iterator<Item = &Sighting> {
        let alive = |sighting: &&Sighting| self.standing_of(sighting) == ReaderStatus::Alive;
        let any_proven = self.readers.values().filter(alive).any(|sighting| sighting.proven);
        self.readers.values().filter(move |sighting| alive(sighting) && (sighting.proven || !any_proven))
    }

    /// Every reader.
    pub fn all(&self) -> impl Iterator<Item = &Sighting> {
        self.readers.values()
    }

    /// One reader.
    pub fn get(&self, reader: &ReaderId) -> Option<&Sighting> {
        self.readers.get(reader)
    }

    /// How a reader stands; `None` for one that is not known.
    pub fn standing(&self, reader: &ReaderId) -> Option<ReaderStatus> {
        self.readers.get(reader).map(|sighting| self.standing_of(sighting))
    }

    /// How a reader stands.
    pub fn standing_of(&self, sighting: &Sighting) -> ReaderStatus {
        let is_silent = self.silence(sighting) >= SUSPECT_AFTER;
        match sighting.probe {
            Some((_, false)) if is_silent => ReaderStatus::Gone,
            _ if is_silent => ReaderStatus::Suspect,
            _ if sighting.record.draining => ReaderStatus::Draining,
            _ => ReaderStatus::Alive,
        }
    }

    /// For how long a reader has been silent while this manager looked.
    pub fn silence(&self, sighting: &Sighting) -> Duration {
        self.polled.map(|polled| polled.saturating_duration_since(sighting.changed)).unwrap_or_default()
    }

    /// The highest epoch that any reader has seen.
    pub fn highest_epoch(&self) -> u64 {
        self.readers.values().map(|sighting| sighting.record.highest_epoch).max().unwrap_or(0)
    }

    /// Readers that have been gone for long enough to be forgotten, with their last beat in the store.
    pub fn to_forget(&self, now: Instant) -> Vec<(ReaderId, u64)> {
        if !self.is_fresh(now) {
            return Vec::new();
        }
        let long_gone = |sighting: &&Sighting| {
            self.standing_of(sighting) == ReaderStatus::Gone && self.silence(sighting) >= FORGET_AFTER
        };
        let beat = |sighting: &Sighting| sighting.polled_beat.unwrap_or(sighting.record.beat);
        self.readers
            .values()
            .filter(long_gone)
            .map(|sighting| (sighting.record.id.clone(), beat(sighting)))
            .collect()
    }

    /// Forgets a reader that still is gone.
    pub fn forget(&mut self, reader: &ReaderId) {
        if self.standing(reader) == Some(ReaderStatus::Gone) {
            self.readers.remove(reader);
        }
    }

    fn seems_gone(&self, sighting: &Sighting) -> bool {
        let answered = matches!(sighting.probe, Some((_, true)));
        !sighting.record.draining && !answered && self.silence(sighting) >= MISSING_AFTER
    }
}

fn sort(record: &mut ReaderRecord) {
    record.videos.sort_unstable_by(|a, b| a.video.cmp(&b.video));
}

impl Sighting {
    /// Whether what it said is young enough to send viewers there. By the clock: time in which this manager did not look
    /// counts, for nobody knows what has become of the reader meanwhile.
    pub fn is_young(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) < SUSPECT_AFTER
    }

    /// What it last said of a video.
    pub fn held(&self, video: &VideoId) -> Option<&Held> {
        let videos = &self.record.videos;
        videos.binary_search_by(|held| held.video.cmp(video)).ok().map(|at| &videos[at])
    }

    fn saw(&mut self, now: Instant, mut record: ReaderRecord) {
        sort(&mut record);
        (self.record, self.changed, self.proven, self.probe) = (record, now, true, None);
        self.since = now;
    }
}

#[cfg(test)]
mod tests;
