//! Decides which readers are alive, which are gone, and whether this manager may act on it. The current time is an
//! argument throughout.
//!
//! A reader is alive as long as its beat changes, as seen on this manager's own monotonic clock. A reader whose beat
//! has not changed for [`SUSPECT_AFTER_SILENCE`] is suspect and gets no new viewers; it is gone once a direct probe
//! fails as well.
//!
//! A heartbeat shows that a reader can reach the managers, and not that anybody can reach the reader. So a reader to
//! which viewers are sent is probed as well. If, twice in a row, its name does not resolve, its address refuses the
//! connection, or another process answers there, the reader is unreachable, and its videos are given to other readers
//! like those of a reader that is gone. A reader that merely answers late is not unreachable: it may be overloaded. A
//! reader that a manager found in the store at its start is probed at once. An unreachable reader need not be silent
//! for as long as a suspect one: two probes, a second apart, prove more than missing heartbeats.
//!
//! Four rules keep a manager from taking its own failures for the readers':
//!
//! 1. Silence is counted only while the manager polls: time in which it did not reach the store (the store was
//!    unavailable, or the process was suspended) counts as nobody's silence. The same holds for a failed probe: it
//!    counts once the store was reached after it.
//! 2. The manager acts only on a view younger than [`VIEW_STALE_AFTER`].
//! 3. The more often the manager is late itself, the longer it waits for readers ([`LocalHealth`], ADR 022).
//! 4. The manager does not act while more than max(1, a third) of the readers seem gone: then it is more likely cut off
//!    itself. Readers that stay gone are forgotten after [`FORGET_GONE_READER_AFTER`], so that this cannot last for
//!    ever.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use liverank_adapters::assignment_store::ReaderRecord;
use liverank_core::handover::HeldVideo;
pub use liverank_core::handover::coordinator::ReaderStatus;
use liverank_core::handover::local_health::{LocalHealth, paused_time};
use liverank_core::{ReaderId, VideoId};

/// The time between two polls of the readers' heartbeats in the store: two polls a heartbeat.
pub const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// The time between two heartbeats of a reader: a reader gives up a heartbeat that took longer.
pub const HEARTBEAT_EVERY: Duration = Duration::from_secs(1);
/// The silence after which a reader is suspect: three heartbeats. A manager that is late itself waits longer.
pub const SUSPECT_AFTER_SILENCE: Duration = Duration::from_secs(3);
/// The silence after which a reader counts among those that seem gone. Readers that a network failure cuts off together
/// fall silent up to a heartbeat apart: the manager must not act on the first before the others show.
pub const MISSING_AFTER_SILENCE: Duration = Duration::from_secs(2);
/// The longest time that one poll may take: the store may take its full timeout for the orders and again for the
/// readers.
const LONGEST_QUESTION: Duration = Duration::from_secs(4);
/// The age from which a view is too old to act on: three polls.
pub const VIEW_STALE_AFTER: Duration = Duration::from_millis(1_500);
/// The time between two probes of a suspect reader.
pub const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// The time for which a reader that is gone is remembered, for people to see.
pub const FORGET_GONE_READER_AFTER: Duration = Duration::from_mins(1);
/// The time for which a manager must have polled without a break before it takes a reader that it never saw for one
/// that does not exist: as long as a silent reader takes to be suspect.
pub const SETTLED_AFTER_WATCHING: Duration = SUSPECT_AFTER_SILENCE;
/// The number of failed probes in a row after which a reader that sends heartbeats is unreachable: a single one may be
/// a connection that was cut.
const UNREACHABLE_AFTER: u32 = 2;
/// The time after its last heartbeat for which a removed reader is remembered: several heartbeats are missing by then.
pub const FORGET_REMOVED_READER_AFTER: Duration = Duration::from_secs(5);

/// The result of probing a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// The reader answered.
    Answered,
    /// Nothing can be reached at the reader's address, or another process answers there.
    Unreachable,
    /// The reader did not answer in time.
    Late,
}

/// The reason for which a process may not send heartbeats under a reader's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameTaken {
    /// The previous process of that name still has viewers, who are being handed over.
    #[error("the process before this one has viewers still: wait until it has none")]
    StillLeaving,
    /// A later process of that name sends heartbeats.
    #[error("a later process reports itself under this name: leave")]
    Overtaken,
}

/// The reason for which nothing is moved although readers seem gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldReason {
    /// The view is too old to act on.
    Stale,
    /// So many readers seem gone that it is more likely this manager that is cut off.
    TooMany {
        /// The number of readers that seem gone.
        missing: usize,
        /// The number of all readers that are counted.
        readers: usize,
    },
}

/// The actions that follow from the readers' silence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadersVerdict {
    /// Readers whose videos have to be given to other readers.
    pub readers_to_replace: BTreeSet<ReaderId>,
    /// The reason for which readers that seem gone are not among them; `None` if there is no such reason.
    pub hold_reason: Option<HoldReason>,
}

/// One reader, as its heartbeats and probes show it.
#[derive(Debug, Clone)]
pub struct ReaderSighting {
    /// The reader's last heartbeat, with its videos in the order of their names.
    pub last_record: ReaderRecord,
    /// The time of the last heartbeat that the reader sent to this manager itself.
    heard_here_at: Option<Instant>,
    /// The time at which `last_record` arrived.
    record_came_at: Instant,
    /// The reader's beat in the store at the last poll that returned one.
    polled_beat: Option<u64>,
    /// The time at which the reader's beat was last seen to change, moved forward by the time in which this manager did
    /// not poll.
    changed: Instant,
    /// Whether this manager has seen the reader alive, rather than only found it in the store at its start.
    proven: bool,
    /// The time of the last probe in the current silence, and whether the reader answered it.
    probe: Option<(Instant, bool)>,
    /// The time of the last probe of any kind.
    tried: Option<Instant>,
    /// The time at which viewers were last sent to the reader.
    viewers_sent_at: Option<Instant>,
    /// The number of probes in a row that did not reach the reader and after each of which the store was reached.
    unreached: u32,
    /// The time of a probe that did not reach the reader, if the store has not been reached since.
    refused: Option<Instant>,
}

/// All readers, as their heartbeats and probes show them.
#[derive(Debug, Default)]
pub struct ReaderWatch {
    readers: BTreeMap<ReaderId, ReaderSighting>,
    /// The time of the last successful poll of the store.
    polled: Option<Instant>,
    /// The time since which the store has been polled without a break.
    looking_since: Option<Instant>,
    /// The time of the last poll, successful or not.
    store_asked_at: Option<Instant>,
    /// The time at which the last poll ended, with an answer or a timeout.
    answered: Option<Instant>,
    /// The time at which this process continued after it had been suspended.
    went_on: Option<Instant>,
    /// The time at which this manager first noted a lateness of its own.
    origin: Option<Instant>,
    /// How late this manager itself is, by which it waits longer for readers.
    health: LocalHealth,
}

impl ReaderWatch {
    /// Notes the readers' records in the store. `asked` is the time at which the store was asked; its answer is at
    /// least as new.
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

    /// Notes that the store is about to be polled for the readers. If the poll comes late, this manager is late itself,
    /// and its next actions may be late too. A poll that the store does not answer is no sign of lateness. A break in
    /// the polling is none either: polls before the break do not count any more.
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
        // The poll was due after the usual interval, or when the previous poll ended.
        let due = self.answered.map_or(last + LOOK_INTERVAL, |answered| answered.max(last + LOOK_INTERVAL));
        self.note_lateness(
            now,
            paused_time(LOOK_INTERVAL + now.saturating_duration_since(due), LOOK_INTERVAL),
        );
    }

    /// Whether this process was suspended a moment ago. A heartbeat that arrives then may have waited for the process,
    /// and its reader may have died meanwhile; so the heartbeat must be neither trusted nor shared with the other
    /// managers.
    pub fn stood_still(&self, now: Instant) -> bool {
        let went_on = |at: Instant| now.saturating_duration_since(at) <= HEARTBEAT_EVERY;
        self.has_not_looked(now) || self.went_on.is_some_and(went_on)
    }

    /// Whether this process has not polled the store for so long that it must have been suspended, whether or not the
    /// store answers.
    fn has_not_looked(&self, now: Instant) -> bool {
        let Some(asked) = self.store_asked_at else { return false };
        let is_over = self.answered.filter(|answered| *answered >= asked);
        let idle_since = is_over.unwrap_or(asked + LONGEST_QUESTION);
        now.saturating_duration_since(idle_since) > VIEW_STALE_AFTER
    }

    /// Notes that a poll for the readers ended, with the store's answer or a timeout.
    pub fn answered(&mut self, now: Instant) {
        self.answered = Some(now);
    }

    /// Does not count the time of a late poll as the readers' silence, if the poll was not so late that it is a break.
    fn excuse_own_delay(&mut self, asked: Instant, since_last: Duration) {
        if since_last > VIEW_STALE_AFTER {
            return;
        }
        let pause = paused_time(since_last, LOOK_INTERVAL);
        for sighting in self.readers.values_mut() {
            sighting.excuse(pause, asked);
        }
    }

    /// Notes that a task of this manager was done `late` by that time: a poll for the readers, or the answer to a
    /// heartbeat.
    pub fn note_lateness(&mut self, now: Instant, late: Duration) {
        let origin = *self.origin.get_or_insert(now);
        self.health.note_lateness(now.saturating_duration_since(origin), late);
    }

    /// Returns the time that this manager waits instead of `time`: longer the more often it is late itself.
    pub fn stretched_wait(&self, time: Duration) -> Duration {
        self.health.stretched_wait(time)
    }

    fn observe_one(&mut self, asked: Instant, mut record: ReaderRecord, first: bool, is_break: bool) {
        let (beat, polled) = (record.beat, self.polled);
        let Some(known) = self.readers.get_mut(&record.id) else {
            // The record may have been in the store for long.
            arrange_held(&mut record, false);
            let polled_beat = Some(beat);
            let sighting =
                ReaderSighting { polled_beat, proven: !first, ..ReaderSighting::new(asked, record) };
            self.readers.insert(sighting.last_record.id.clone(), sighting);
            return;
        };
        // A record that is unchanged in the store may be older than the reader's own heartbeat to this manager, and
        // that heartbeat may be what the store has now: neither is news.
        let changed = known.polled_beat.replace(beat) != Some(beat);
        let silence = polled.map_or(Duration::ZERO, |polled| polled.saturating_duration_since(known.changed));
        if changed && is_later(&record, &known.last_record) {
            known.note_record(asked, record, !is_break);
        } else if changed
            && record.incarnation < known.last_record.incarnation
            && silence >= SUSPECT_AFTER_SILENCE
        {
            // An old copy of the store, or a process on a machine whose clock was set back: the next heartbeat shows
            // which.
            arrange_held(&mut record, false);
            known.last_record = record;
        }
    }

    /// Notes a heartbeat that the reader sent to this manager itself.
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

    /// Whether a heartbeat that arrives now was sent just now: this process has polled without a break for longer than
    /// a heartbeat can have waited for it.
    fn is_awake(&self, now: Instant) -> bool {
        let within = |since: Option<Instant>, time| {
            since.is_some_and(|since| now.saturating_duration_since(since) <= time)
        };
        within(self.store_asked_at, VIEW_STALE_AFTER)
            && self.looking_since.is_some()
            && !within(self.looking_since, HEARTBEAT_EVERY)
    }

    /// Whether a reader sends its heartbeats to this manager: then this manager carries out what the reader needs.
    pub fn reports_here(&self, now: Instant, reader: &ReaderId) -> bool {
        let heard = self.get(reader).and_then(|sighting| sighting.heard_here_at);
        heard.is_some_and(|heard| now.saturating_duration_since(heard) < SUSPECT_AFTER_SILENCE)
    }

    /// Notes that a reader keeps a video ready, before its next heartbeat says so.
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

    /// Notes that a viewer is being sent to a reader.
    pub fn note_viewer_sent(&mut self, now: Instant, reader: &ReaderId) {
        if let Some(sighting) = self.readers.get_mut(reader) {
            sighting.viewers_sent_at = Some(now);
        }
    }

    /// Returns the readers to probe now: silent ones, those found in the store at the start, those to which viewers are
    /// sent, and those that could not be reached. Their beat has to be passed to [`ReaderWatch::note_probe`].
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

    /// Notes the outcome of a probe that was sent when the reader's beat was `beat`.
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

    /// Returns the reason for which the process that sends `record` may not use its name; `None` if it may. A pod that
    /// is told to end is replaced at once under the same name: two processes with one record would look like a reader
    /// that leaves and comes back every second.
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

    /// Whether the view is young enough to act on.
    pub fn is_fresh(&self, now: Instant) -> bool {
        self.polled.is_some_and(|polled| now.saturating_duration_since(polled) <= VIEW_STALE_AFTER)
    }

    /// Whether the readers were polled without a break for so long that a reader never seen does not exist.
    pub fn is_settled(&self, now: Instant) -> bool {
        let since = self.looking_since.filter(|_| self.is_fresh(now));
        since.is_some_and(|since| {
            now.saturating_duration_since(since) >= self.stretched_wait(SETTLED_AFTER_WATCHING)
        })
    }

    /// Decides which readers are to be replaced. `serves`: whether a reader has videos. `removed`: whether a planner
    /// removed a reader.
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
        // A reader that said it was leaving, or was removed, is expected to fall silent, and a lost reader without
        // videos was already replaced: neither shows anything about this manager's own connection.
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

    /// Returns the readers that accept new videos. A reader that was found in the store and not yet seen alive is
    /// returned only if there is no other.
    pub fn open_readers(&self) -> impl Iterator<Item = &ReaderSighting> {
        self.open_readers_among(|_| true)
    }

    /// Returns the readers that accept new videos, among those that `fits` permits.
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

    /// Returns all readers.
    pub fn all_sightings(&self) -> impl Iterator<Item = &ReaderSighting> {
        self.readers.values()
    }

    /// Returns what is known of one reader.
    pub fn get(&self, reader: &ReaderId) -> Option<&ReaderSighting> {
        self.readers.get(reader)
    }

    /// Returns the status of a reader; `None` if the reader is not known.
    pub fn reader_status(&self, reader: &ReaderId) -> Option<ReaderStatus> {
        self.readers.get(reader).map(|sighting| self.status_of(sighting))
    }

    /// Returns the status of a reader by its silence, probes and heartbeats.
    pub fn status_of(&self, sighting: &ReaderSighting) -> ReaderStatus {
        let is_silent = self.silence_of(sighting) >= self.stretched_wait(SUSPECT_AFTER_SILENCE);
        match sighting.probe {
            Some((_, false)) if is_silent => ReaderStatus::Gone,
            _ if is_silent => ReaderStatus::Suspect,
            _ if sighting.last_record.draining => ReaderStatus::Draining,
            // The reader was found in the store at the start and does not answer: it may have ended after its last
            // record.
            Some((_, false)) if !sighting.proven => ReaderStatus::Suspect,
            _ if sighting.is_unreachable() => ReaderStatus::Suspect,
            _ => ReaderStatus::Alive,
        }
    }

    /// Returns for how long a reader has been silent while this manager polled.
    pub fn silence_of(&self, sighting: &ReaderSighting) -> Duration {
        self.polled.map(|polled| polled.saturating_duration_since(sighting.changed)).unwrap_or_default()
    }

    /// Returns the longest silence of any reader that has not left.
    pub fn longest_silence(&self) -> Duration {
        let has_left =
            |sighting: &ReaderSighting| sighting.last_record.draining && sighting.last_record.viewers == 0;
        let here = self.all_sightings().filter(|sighting| !has_left(sighting));
        here.map(|sighting| self.silence_of(sighting)).max().unwrap_or_default()
    }

    /// Returns the highest assignment epoch that any reader has seen.
    pub fn highest_epoch(&self) -> u64 {
        self.readers.values().map(|sighting| sighting.last_record.highest_epoch).max().unwrap_or(0)
    }

    /// Returns the readers that have been gone for long enough to be forgotten, each with its last beat in the store.
    /// `removed`: whether a planner removed a reader; removed readers are forgotten earlier, because nobody needs to
    /// see them.
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

    /// Forgets a reader that [`ReaderWatch::readers_to_forget`] returned, unless it has sent a heartbeat since.
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

/// Whether a record was written after `known`: the store may come back with an old copy, which is no sign of life.
/// Processes count their heartbeats up, from a random number. If one of the records does not say when its process
/// began, every other beat counts as later.
const fn is_later(record: &ReaderRecord, known: &ReaderRecord) -> bool {
    let ahead = record.beat.wrapping_sub(known.beat);
    let is_ahead = ahead != 0 && ahead < u64::MAX / 2;
    match (record.incarnation, known.incarnation) {
        (0, _) | (_, 0) => ahead != 0,
        (now, before) if now == before => is_ahead,
        (now, before) => now > before,
    }
}

/// Sorts a record's videos by name. If the record may be old (`is_current` is false), its videos are marked as not
/// ready, so that no viewers are sent to a reader that may have died since.
fn arrange_held(record: &mut ReaderRecord, is_current: bool) {
    record.videos.sort_unstable_by(|a, b| a.video.cmp(&b.video));
    if !is_current {
        record.videos.iter_mut().for_each(|held| held.ready = false);
    }
}

impl ReaderSighting {
    /// Makes the entry of a reader that sends its first heartbeat now.
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

    /// Whether the reader cannot be reached, whatever its heartbeats say.
    pub const fn is_unreachable(&self) -> bool {
        self.unreached >= UNREACHABLE_AFTER
    }

    /// Whether the last record is young enough for viewers to be sent to the reader. By the clock: time in which this
    /// manager did not poll counts too, because nobody knows what happened to the reader meanwhile.
    pub fn is_recent(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.record_came_at) < SUSPECT_AFTER_SILENCE
    }

    /// Returns the reader's last report on a video.
    pub fn held_video(&self, video: &VideoId) -> Option<&HeldVideo> {
        let videos = &self.last_record.videos;
        videos.binary_search_by(|held| held.video.cmp(video)).ok().map(|at| &videos[at])
    }

    /// Does not count `time` before `asked` as the reader's silence. Heartbeats since `asked` stay in force.
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
