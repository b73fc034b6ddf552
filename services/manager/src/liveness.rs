//! Which readers are alive, which are gone, and whether this manager may act on it. Time is an argument throughout.
//!
//! A reader is alive as long as its beat changes, as seen on this manager's own monotonic clock. One whose beat has not
//! changed for [`SUSPECT_AFTER_SILENCE`] is suspect and takes no new viewers; it is gone once a direct probe fails as well.
//!
//! A heartbeat says that a reader can reach the managers, and not that anybody can reach it. So a reader to which viewers
//! are sent is probed as well: where its name does not resolve, its address refuses, or somebody else answers there,
//! twice in a row, it is unreachable, and its videos go elsewhere like those of a reader that is gone. One that merely
//! answers late is not: it may have much to do. One that a manager found in the store at its start is probed at once.
//! Who is refused need not be silent for so long: two probes, a second apart, say more than missing heartbeats.
//!
//! Four things keep a manager from taking its own troubles for the readers':
//! 1. Silence is counted only while it looks: time in which it did not see the store (the store was away, or the
//!    process stood still) is nobody's silence. So is a probe that failed: it counts once the store was seen after it.
//! 2. It acts only on a view younger than [`VIEW_STALE_AFTER`].
//! 3. The more often it is late itself, the longer it waits for readers ([`LocalHealth`], ADR 022).
//! 4. It does not act while more than max(1, a third) of the readers seem gone: then it is more likely cut off itself.
//!    Readers that stay gone are forgotten after [`FORGET_GONE_READER_AFTER`], so that this cannot last for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use liverank_adapters::assignment_store::ReaderRecord;
use liverank_core::handover::HeldVideo;
pub use liverank_core::handover::coordinator::ReaderStatus;
use liverank_core::handover::local_health::{LocalHealth, paused_time};
use liverank_core::{ReaderId, VideoId};

/// How often the readers' heartbeats are looked at: twice a beat.
pub const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How often readers report themselves: a heartbeat that waited longer was given up by its reader.
pub const HEARTBEAT_EVERY: Duration = Duration::from_secs(1);
/// Silence after which a reader is suspect: three heartbeats. A manager that is late itself waits longer.
pub const SUSPECT_AFTER_SILENCE: Duration = Duration::from_secs(3);
/// Silence after which a reader counts among those that seem gone. Readers that a network takes away together fall
/// silent up to a heartbeat apart: the first must not be acted on before the others show.
pub const MISSING_AFTER_SILENCE: Duration = Duration::from_secs(2);
/// How long the store may take to answer for the orders and the readers: each as long as it is waited for.
const LONGEST_QUESTION: Duration = Duration::from_secs(4);
/// Age from which a view is too old to act on: three polls.
pub const VIEW_STALE_AFTER: Duration = Duration::from_millis(1_500);
/// How often a suspect is probed.
pub const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// How long a gone reader is remembered, for people to see.
pub const FORGET_GONE_READER_AFTER: Duration = Duration::from_mins(1);
/// How long a manager must have looked without a break before it takes a reader it never saw for one that is no more:
/// as long as a silent one takes to be suspect.
pub const SETTLED_AFTER_WATCHING: Duration = SUSPECT_AFTER_SILENCE;
/// Failed probes in a row after which a reader that reports itself is unreachable: one may be a connection that was cut.
const UNREACHABLE_AFTER: u32 = 2;
/// How long a reader that was removed is remembered after its last heartbeat: several of these are missing by then.
pub const FORGET_REMOVED_READER_AFTER: Duration = Duration::from_secs(5);

/// The result of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// The reader answered.
    Answered,
    /// Nothing can be reached at its address, or somebody else.
    Unreachable,
    /// No answer in time.
    Late,
}

/// Why a process may not report itself under a reader's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameTaken {
    /// The one before it still has viewers, who are being handed over.
    #[error("the process before this one has viewers still: wait until it has none")]
    StillLeaving,
    /// A later one reports itself.
    #[error("a later process reports itself under this name: leave")]
    Overtaken,
}

/// Why nothing is moved although readers seem gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldReason {
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

/// The actions that readers' silence asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadersVerdict {
    /// Readers whose videos others are to take over.
    pub readers_to_replace: BTreeSet<ReaderId>,
    /// Why some are not among them.
    pub hold_reason: Option<HoldReason>,
}

/// One reader as its heartbeats and probes show it.
#[derive(Debug, Clone)]
pub struct ReaderSighting {
    /// As it last reported itself; its videos in the order of their names.
    pub last_record: ReaderRecord,
    /// When it last told this manager itself.
    heard_here_at: Option<Instant>,
    /// When this record came.
    record_came_at: Instant,
    /// The beat that the store held at the last poll that had one.
    polled_beat: Option<u64>,
    /// When its beat was last seen to change, moved forward over the time in which nobody looked.
    changed: Instant,
    /// Whether it was seen alive, rather than found in the store at this manager's start.
    proven: bool,
    /// When it was last probed in this silence, and whether it answered.
    probe: Option<(Instant, bool)>,
    /// When it was last probed at all.
    tried: Option<Instant>,
    /// When viewers were last sent there.
    viewers_sent_at: Option<Instant>,
    /// Probes in a row that did not reach it, and after each of which the store was seen.
    unreached: u32,
    /// When a probe was sent that did not reach it, where the store was not seen since.
    refused: Option<Instant>,
}

/// All readers as their heartbeats and probes show them.
#[derive(Debug, Default)]
pub struct ReaderWatch {
    readers: BTreeMap<ReaderId, ReaderSighting>,
    /// When the store was last asked with success.
    polled: Option<Instant>,
    /// Since when the store has been asked for readers without a break.
    looking_since: Option<Instant>,
    /// When it was last asked, with success or not.
    store_asked_at: Option<Instant>,
    /// When that question was over.
    answered: Option<Instant>,
    /// When this process went on after it had stood still.
    went_on: Option<Instant>,
    /// When this manager first noted how late it is.
    origin: Option<Instant>,
    /// How well this manager itself runs.
    health: LocalHealth,
}

impl ReaderWatch {
    /// Notes what the store holds. `asked` is when it was asked: what it answered is at least as new.
    pub fn note_records(&mut self, asked: Instant, records: Vec<ReaderRecord>) {
        let first = self.polled.is_none();
        let blind = self.polled.map(|polled| asked.saturating_duration_since(polled));
        self.excuse_own_delay(asked, blind.unwrap_or_default());
        if blind.is_none_or(|blind| blind > VIEW_STALE_AFTER) {
            self.looking_since = Some(asked);
            for sighting in self.readers.values_mut() {
                sighting.excuse(blind.unwrap_or_default(), asked);
                (sighting.probe, sighting.refused) = (None, None);
            }
        }
        for sighting in self.readers.values_mut() {
            if sighting.refused.take_if(|sent| *sent <= asked).is_some() {
                sighting.unreached = sighting.unreached.saturating_add(1);
            }
        }
        let is_break = blind.is_none_or(|blind| blind > VIEW_STALE_AFTER);
        for record in records {
            self.observe_one(asked, record, first, is_break);
        }
        self.polled = Some(asked);
    }

    /// Notes that the store is about to be asked for the readers. Where that comes late, this manager is late itself, and what
    /// follows may be late, too. A question that is not answered says nothing of the kind: it only is no look. Nor does a
    /// break: what was before it counts no more.
    pub fn note_asking(&mut self, now: Instant) {
        let stood_still = self.has_not_looked(now);
        let last = self.store_asked_at.replace(now).unwrap_or(now);
        if stood_still {
            self.went_on = Some(now);
        }
        if now.saturating_duration_since(last) > VIEW_STALE_AFTER {
            self.looking_since = Some(now);
            return;
        }
        // It was due after the usual time, or when the answer to the one before it was no longer waited for.
        let due = self.answered.map_or(last + LOOK_INTERVAL, |answered| answered.max(last + LOOK_INTERVAL));
        self.note_lateness(
            now,
            paused_time(LOOK_INTERVAL + now.saturating_duration_since(due), LOOK_INTERVAL),
        );
    }

    /// Whether this process stood still a moment ago: a heartbeat that comes now may have waited for it to go on, and its reader
    /// may have died meanwhile. It is not to be believed, nor shared with the other managers.
    pub fn stood_still(&self, now: Instant) -> bool {
        let went_on = |at: Instant| now.saturating_duration_since(at) <= HEARTBEAT_EVERY;
        self.has_not_looked(now) || self.went_on.is_some_and(went_on)
    }

    /// Whether this process has not asked the store for so long that it cannot have run, whether or not the store answers.
    fn has_not_looked(&self, now: Instant) -> bool {
        let Some(asked) = self.store_asked_at else { return false };
        let is_over = self.answered.filter(|answered| *answered >= asked);
        let idle_since = is_over.unwrap_or(asked + LONGEST_QUESTION);
        now.saturating_duration_since(idle_since) > VIEW_STALE_AFTER
    }

    /// Notes that the store's answer to the question for the readers came, or is waited for no longer.
    pub fn answered(&mut self, now: Instant) {
        self.answered = Some(now);
    }

    /// A look that came late, though not so late that it is a break: what is missing is nobody's silence.
    fn excuse_own_delay(&mut self, asked: Instant, since_last: Duration) {
        if since_last > VIEW_STALE_AFTER {
            return;
        }
        let pause = paused_time(since_last, LOOK_INTERVAL);
        for sighting in self.readers.values_mut() {
            sighting.excuse(pause, asked);
        }
    }

    /// Notes that some work of this manager was done `late`: a question for the readers, or the answer to a heartbeat.
    pub fn note_lateness(&mut self, now: Instant, late: Duration) {
        let origin = *self.origin.get_or_insert(now);
        self.health.note_lateness(now.saturating_duration_since(origin), late);
    }

    /// How long this manager waits for what one would wait for so long that is never late itself.
    pub fn stretched_wait(&self, time: Duration) -> Duration {
        self.health.stretched_wait(time)
    }

    fn observe_one(&mut self, asked: Instant, mut record: ReaderRecord, first: bool, is_break: bool) {
        let (beat, polled) = (record.beat, self.polled);
        let Some(known) = self.readers.get_mut(&record.id) else {
            // It may have stood there for long.
            arrange_held(&mut record, false);
            let polled_beat = Some(beat);
            let sighting =
                ReaderSighting { polled_beat, proven: !first, ..ReaderSighting::new(asked, record) };
            self.readers.insert(sighting.last_record.id.clone(), sighting);
            return;
        };
        // What the store holds unchanged may be older than what the reader told this manager itself, and what it told
        // may be what the store holds now: neither is news.
        let changed = known.polled_beat.replace(beat) != Some(beat);
        let silence = polled.map_or(Duration::ZERO, |polled| polled.saturating_duration_since(known.changed));
        if changed && is_later(&record, &known.last_record) {
            known.note_record(asked, record, !is_break);
        } else if changed
            && record.incarnation < known.last_record.incarnation
            && silence >= SUSPECT_AFTER_SILENCE
        {
            // An old copy of the store, or a process on a machine whose clock was set back: its next heartbeat tells.
            arrange_held(&mut record, false);
            known.last_record = record;
        }
    }

    /// Notes a heartbeat that came to this manager itself.
    pub fn note_heartbeat(&mut self, now: Instant, mut record: ReaderRecord) {
        let (heard, is_current) = (Some(now), self.is_awake(now));
        if let Some(known) = self.readers.get_mut(&record.id) {
            known.note_record(now, record, is_current);
            known.heard_here_at = heard;
        } else {
            arrange_held(&mut record, is_current);
            let sighting = ReaderSighting { heard_here_at: heard, ..ReaderSighting::new(now, record) };
            self.readers.insert(sighting.last_record.id.clone(), sighting);
        }
    }

    /// Whether what comes now was said just now: this process has looked without a break for longer than a heartbeat may have
    /// waited for it.
    fn is_awake(&self, now: Instant) -> bool {
        let within = |since: Option<Instant>, time| {
            since.is_some_and(|since| now.saturating_duration_since(since) <= time)
        };
        within(self.store_asked_at, VIEW_STALE_AFTER)
            && self.looking_since.is_some()
            && !within(self.looking_since, HEARTBEAT_EVERY)
    }

    /// Whether a reader reports to this manager itself: then it is this one that carries out what the reader asks for.
    pub fn reports_here(&self, now: Instant, reader: &ReaderId) -> bool {
        let heard = self.get(reader).and_then(|sighting| sighting.heard_here_at);
        heard.is_some_and(|heard| now.saturating_duration_since(heard) < SUSPECT_AFTER_SILENCE)
    }

    /// Notes that a reader holds a video ready, ahead of its report.
    pub fn note_ready(&mut self, reader: &ReaderId, video: &VideoId) {
        let Some(sighting) = self.readers.get_mut(reader) else { return };
        let videos = &mut sighting.last_record.videos;
        match videos.binary_search_by(|held| held.video.cmp(video)) {
            Ok(at) => videos[at].ready = true,
            Err(at) => videos.insert(
                at,
                HeldVideo { video: video.clone(), viewers: 0, epoch: 0, ready: true, shedding: false },
            ),
        }
    }

    /// Notes that viewers are being sent to a reader.
    pub fn note_viewer_sent(&mut self, now: Instant, reader: &ReaderId) {
        if let Some(sighting) = self.readers.get_mut(reader) {
            sighting.viewers_sent_at = Some(now);
        }
    }

    /// Readers to probe now, with the beat to hand back to [`ReaderWatch::note_probe`]: the silent, those found at the start, and
    /// those to which viewers are sent or that could not be reached.
    pub fn readers_to_probe(&self, now: Instant) -> Vec<&ReaderSighting> {
        let due = |sighting: &&ReaderSighting| {
            let is_silent = self.silence_of(sighting) >= SUSPECT_AFTER_SILENCE;
            let is_refused = sighting.unreached > 0 || sighting.refused.is_some();
            let in_doubt = !sighting.proven || is_refused || sighting.viewers_sent_at > sighting.tried;
            let last = if is_silent { sighting.probe.map(|(at, _)| at) } else { sighting.tried };
            let is_time = last.is_none_or(|last| now.saturating_duration_since(last) >= PROBE_INTERVAL);
            (is_silent || in_doubt) && is_time
        };
        self.readers.values().filter(due).collect()
    }

    /// Notes what a probe came to that was sent when the reader's beat was `beat`.
    pub fn note_probe(&mut self, sent: Instant, reader: &ReaderId, beat: u64, outcome: ProbeOutcome) {
        let Some(sighting) = self.readers.get_mut(reader) else { return };
        sighting.tried = Some(sent);
        match outcome {
            ProbeOutcome::Answered => (sighting.unreached, sighting.refused) = (0, None),
            ProbeOutcome::Unreachable => sighting.refused = Some(sent),
            ProbeOutcome::Late => {}
        }
        if sighting.last_record.beat == beat {
            sighting.probe = Some((sent, outcome == ProbeOutcome::Answered));
        }
    }

    /// Why the process that reports `record` may not do so. A pod that is told to end is replaced at once, under the same
    /// name: two processes in one record would pass for a reader that leaves and comes back every second.
    pub fn name_taken(&self, record: &ReaderRecord) -> Option<NameTaken> {
        let known = self.readers.get(&record.id)?;
        let (before, now) = (known.last_record.incarnation, record.incarnation);
        if before == now || before == 0 || now == 0 || self.silence_of(known) >= SUSPECT_AFTER_SILENCE {
            return None;
        }
        let has_viewers = known.last_record.draining && known.last_record.viewers > 0;
        match () {
            () if now < before => Some(NameTaken::Overtaken),
            () if has_viewers => Some(NameTaken::StillLeaving),
            () => None,
        }
    }

    /// Whether the view is new enough to act on.
    pub fn is_fresh(&self, now: Instant) -> bool {
        self.polled.is_some_and(|polled| now.saturating_duration_since(polled) <= VIEW_STALE_AFTER)
    }

    /// Whether it was looked at for so long that a reader never seen is no more.
    pub fn is_settled(&self, now: Instant) -> bool {
        let since = self.looking_since.filter(|_| self.is_fresh(now));
        since.is_some_and(|since| {
            now.saturating_duration_since(since) >= self.stretched_wait(SETTLED_AFTER_WATCHING)
        })
    }

    /// What to do about readers; `serves` tells whether a reader has videos, `removed` whether it was taken away.
    pub fn judge_readers(
        &self,
        now: Instant,
        serves: impl Fn(&ReaderId) -> bool,
        removed: impl Fn(&ReaderId) -> bool,
    ) -> ReadersVerdict {
        if !self.is_fresh(now) {
            return ReadersVerdict {
                readers_to_replace: BTreeSet::new(),
                hold_reason: Some(HoldReason::Stale),
            };
        }
        let is_lost = |sighting: &ReaderSighting| {
            self.status_of(sighting) == ReaderStatus::Gone || sighting.is_unreachable()
        };
        // One that said it was leaving or was taken away is expected to fall silent, and one that was dealt with is
        // history: neither says anything about how well this manager sees.
        let counted: Vec<&ReaderSighting> = self
            .readers
            .values()
            .filter(|sighting| !removed(&sighting.last_record.id))
            .filter(|sighting| !is_lost(sighting) || serves(&sighting.last_record.id))
            .collect();
        let missing = counted.iter().filter(|sighting| self.seems_gone(sighting)).count();
        let too_many = missing > (counted.len() / 3).max(1);
        let leaving = self
            .readers
            .values()
            .filter(|sighting| sighting.last_record.draining || (is_lost(sighting) && !too_many));
        ReadersVerdict {
            readers_to_replace: leaving.map(|sighting| sighting.last_record.id.clone()).collect(),
            hold_reason: too_many.then_some(HoldReason::TooMany { missing, readers: counted.len() }),
        }
    }

    /// Readers that take new videos. One that was only found in the store, and not seen alive yet, does so only where
    /// there is no other.
    pub fn open_readers(&self) -> impl Iterator<Item = &ReaderSighting> {
        self.open_readers_among(|_| true)
    }

    /// The open readers among those that `fits` allows.
    pub fn open_readers_among(
        &self,
        fits: impl Fn(&ReaderId) -> bool,
    ) -> impl Iterator<Item = &ReaderSighting> {
        let alive = |sighting: &&ReaderSighting| {
            self.status_of(sighting) == ReaderStatus::Alive && fits(&sighting.last_record.id)
        };
        let found: Vec<&ReaderSighting> = self.readers.values().filter(alive).collect();
        let any_proven = found.iter().any(|sighting| sighting.proven);
        found.into_iter().filter(move |sighting| sighting.proven || !any_proven)
    }

    /// Every reader.
    pub fn all_sightings(&self) -> impl Iterator<Item = &ReaderSighting> {
        self.readers.values()
    }

    /// One reader.
    pub fn get(&self, reader: &ReaderId) -> Option<&ReaderSighting> {
        self.readers.get(reader)
    }

    /// How a reader stands; `None` for one that is not known.
    pub fn reader_status(&self, reader: &ReaderId) -> Option<ReaderStatus> {
        self.readers.get(reader).map(|sighting| self.status_of(sighting))
    }

    /// How a reader stands.
    pub fn status_of(&self, sighting: &ReaderSighting) -> ReaderStatus {
        let is_silent = self.silence_of(sighting) >= self.stretched_wait(SUSPECT_AFTER_SILENCE);
        match sighting.probe {
            Some((_, false)) if is_silent => ReaderStatus::Gone,
            _ if is_silent => ReaderStatus::Suspect,
            _ if sighting.last_record.draining => ReaderStatus::Draining,
            // Found at the start, and it does not answer: its record may be older than its end.
            Some((_, false)) if !sighting.proven => ReaderStatus::Suspect,
            _ if sighting.is_unreachable() => ReaderStatus::Suspect,
            _ => ReaderStatus::Alive,
        }
    }

    /// For how long a reader has been silent while this manager looked.
    pub fn silence_of(&self, sighting: &ReaderSighting) -> Duration {
        self.polled.map(|polled| polled.saturating_duration_since(sighting.changed)).unwrap_or_default()
    }

    /// The longest that any reader has been silent, of those that have not left.
    pub fn longest_silence(&self) -> Duration {
        let has_left =
            |sighting: &ReaderSighting| sighting.last_record.draining && sighting.last_record.viewers == 0;
        let here = self.all_sightings().filter(|sighting| !has_left(sighting));
        here.map(|sighting| self.silence_of(sighting)).max().unwrap_or_default()
    }

    /// The highest epoch that any reader has seen.
    pub fn highest_epoch(&self) -> u64 {
        self.readers.values().map(|sighting| sighting.last_record.highest_epoch).max().unwrap_or(0)
    }

    /// Readers that have been gone for long enough to be forgotten, with their last beat in the store. `removed` tells
    /// which were taken away: of these nobody wants to see anything.
    pub fn readers_to_forget(
        &self,
        now: Instant,
        removed: impl Fn(&ReaderId) -> bool,
    ) -> Vec<(ReaderId, u64)> {
        if !self.is_fresh(now) {
            return Vec::new();
        }
        let is_over = |sighting: &&ReaderSighting| {
            let silence = self.silence_of(sighting);
            let long_gone =
                self.status_of(sighting) == ReaderStatus::Gone && silence >= FORGET_GONE_READER_AFTER;
            long_gone || (removed(&sighting.last_record.id) && silence >= FORGET_REMOVED_READER_AFTER)
        };
        let beat = |sighting: &ReaderSighting| sighting.polled_beat.unwrap_or(sighting.last_record.beat);
        self.readers
            .values()
            .filter(is_over)
            .map(|sighting| (sighting.last_record.id.clone(), beat(sighting)))
            .collect()
    }

    /// Forgets a reader that was found in [`ReaderWatch::readers_to_forget`], unless it has reported itself since.
    pub fn forget_reader(&mut self, reader: &ReaderId) {
        if self.get(reader).is_some_and(|sighting| self.silence_of(sighting) >= SUSPECT_AFTER_SILENCE) {
            self.readers.remove(reader);
        }
    }

    fn seems_gone(&self, sighting: &ReaderSighting) -> bool {
        let answered = matches!(sighting.probe, Some((_, true)));
        let is_silent = !answered && self.silence_of(sighting) >= self.stretched_wait(MISSING_AFTER_SILENCE);
        !sighting.last_record.draining && (is_silent || sighting.is_unreachable())
    }
}

/// Whether a record was written after another one: the store may come back with an old copy, which is no sign of life.
/// Processes count their heartbeats up, from a random number. Of one that does not say when it began, any other is later.
const fn is_later(record: &ReaderRecord, known: &ReaderRecord) -> bool {
    let ahead = record.beat.wrapping_sub(known.beat);
    let is_ahead = ahead != 0 && ahead < u64::MAX / 2;
    match (record.incarnation, known.incarnation) {
        (0, _) | (_, 0) => ahead != 0,
        (now, before) if now == before => is_ahead,
        (now, before) => now > before,
    }
}

/// Puts a record's videos in the order of their names. Where it may have been said at any time, viewers are not sent there by
/// it: a reader that has died since holds nothing ready.
fn arrange_held(record: &mut ReaderRecord, is_current: bool) {
    record.videos.sort_unstable_by(|a, b| a.video.cmp(&b.video));
    if !is_current {
        record.videos.iter_mut().for_each(|held| held.ready = false);
    }
}

impl ReaderSighting {
    /// One that reports itself now.
    const fn new(now: Instant, record: ReaderRecord) -> Self {
        Self {
            last_record: record,
            heard_here_at: None,
            record_came_at: now,
            polled_beat: None,
            changed: now,
            proven: true,
            probe: None,
            tried: None,
            viewers_sent_at: None,
            unreached: 0,
            refused: None,
        }
    }

    /// Whether nobody can reach it, whatever it reports.
    pub const fn is_unreachable(&self) -> bool {
        self.unreached >= UNREACHABLE_AFTER
    }

    /// Whether what it said is young enough to send viewers there. By the clock: time in which this manager did not look
    /// counts, for nobody knows what has become of the reader meanwhile.
    pub fn is_recent(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.record_came_at) < SUSPECT_AFTER_SILENCE
    }

    /// Returns the reader's last report on a video.
    pub fn held_video(&self, video: &VideoId) -> Option<&HeldVideo> {
        let videos = &self.last_record.videos;
        videos.binary_search_by(|held| held.video.cmp(video)).ok().map(|at| &videos[at])
    }

    /// So much of the time up to `asked` is not its silence. What it said itself since then stands.
    fn excuse(&mut self, time: Duration, asked: Instant) {
        self.changed = self.changed.max((self.changed + time).min(asked));
    }

    fn note_record(&mut self, now: Instant, mut record: ReaderRecord, is_current: bool) {
        arrange_held(&mut record, is_current);
        (self.last_record, self.changed, self.proven, self.probe) = (record, now, true, None);
        self.record_came_at = now;
    }
}

#[cfg(test)]
mod tests;
