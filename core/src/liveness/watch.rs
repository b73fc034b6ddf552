//! What polls of the store, heartbeats and probes show of all readers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::probe::ProbeOutcome;
use super::reader::ReaderLiveness;
use super::report::{ReaderReport, is_later, sort_held_videos};
use super::time_limits::{
    FORGET_GONE_READER_AFTER, FORGET_REMOVED_READER_AFTER, HEARTBEAT_EVERY, LOOK_INTERVAL, MAX_POLL_TIME,
    PROBE_INTERVAL, SETTLED_AFTER_WATCHING, SUSPECT_AFTER_SILENCE, VIEW_STALE_AFTER,
};
use crate::handover::HeldVideo;
use crate::handover::coordinator::ReaderStatus;
use crate::handover::local_health::{LocalHealth, paused_time};
use crate::{ReaderId, VideoId};

/// All readers, as their heartbeats and probes show them.
#[derive(Debug)]
pub struct ReaderWatch<R> {
    pub(super) readers: BTreeMap<ReaderId, ReaderLiveness<R>>,
    /// The time of the last successful poll of the store.
    last_polled_at: Option<Instant>,
    /// The time since which the store has been polled without a break.
    polling_since: Option<Instant>,
    /// The time of the last poll, successful or not.
    store_asked_at: Option<Instant>,
    /// The time at which the last poll ended, with an answer or a timeout.
    poll_ended_at: Option<Instant>,
    /// The time at which this process continued after it had been suspended.
    pub(super) resumed_at: Option<Instant>,
    /// The time at which this manager first noted a lateness of its own.
    lateness_origin: Option<Instant>,
    /// The delay of this manager's own clock ticks; the manager waits longer for readers by it.
    local_health: LocalHealth,
}

impl<R> Default for ReaderWatch<R> {
    fn default() -> Self {
        Self {
            readers: BTreeMap::new(),
            last_polled_at: None,
            polling_since: None,
            store_asked_at: None,
            poll_ended_at: None,
            resumed_at: None,
            lateness_origin: None,
            local_health: LocalHealth::default(),
        }
    }
}

impl<R: ReaderReport> ReaderWatch<R> {
    /// Notes the readers' records in the store. `asked` is the time at which the store was asked; its answer is at
    /// least as new.
    pub fn note_records(&mut self, asked: Instant, records: Vec<R>) {
        let first = self.last_polled_at.is_none();
        let blind = self.last_polled_at.map(|polled| asked.saturating_duration_since(polled));
        self.discount_own_delay(asked, blind.unwrap_or_default());
        if blind.is_none_or(|blind| blind > VIEW_STALE_AFTER) {
            self.polling_since = Some(asked);
            for sighting in self.readers.values_mut() {
                sighting.discount_silence(blind.unwrap_or_default(), asked);
                (sighting.last_silence_probe, sighting.unconfirmed_failure_at) = (None, None);
            }
        }
        for sighting in self.readers.values_mut() {
            if sighting.unconfirmed_failure_at.take_if(|sent| *sent <= asked).is_some() {
                sighting.failed_probes = sighting.failed_probes.saturating_add(1);
            }
        }
        let is_break = blind.is_none_or(|blind| blind > VIEW_STALE_AFTER);
        for record in records {
            self.note_polled_record(asked, record, first, is_break);
        }
        self.last_polled_at = Some(asked);
    }

    /// Notes that the store is about to be polled for the readers. If the poll comes late, this manager is late itself,
    /// and its next actions may be late too. A poll that the store does not answer is no sign of lateness. A break in
    /// the polling is none either: polls before the break do not count any more.
    pub fn note_poll_begun(&mut self, now: Instant) {
        let stood_still = self.has_not_polled(now);
        let last = self.store_asked_at.replace(now).unwrap_or(now);
        if stood_still {
            self.resumed_at = Some(now);
        }
        if now.saturating_duration_since(last) > VIEW_STALE_AFTER {
            self.polling_since = Some(now);
            return;
        }
        // The poll was due after the usual interval, or when the previous poll ended.
        let due =
            self.poll_ended_at.map_or(last + LOOK_INTERVAL, |answered| answered.max(last + LOOK_INTERVAL));
        self.note_lateness(
            now,
            paused_time(LOOK_INTERVAL + now.saturating_duration_since(due), LOOK_INTERVAL),
        );
    }

    /// Whether this process has not polled the store for so long that it must have been suspended, whether or not the
    /// store answers.
    pub(super) fn has_not_polled(&self, now: Instant) -> bool {
        let Some(asked) = self.store_asked_at else { return false };
        let is_over = self.poll_ended_at.filter(|answered| *answered >= asked);
        let idle_since = is_over.unwrap_or(asked + MAX_POLL_TIME);
        now.saturating_duration_since(idle_since) > VIEW_STALE_AFTER
    }

    /// Notes that a poll for the readers ended, with the store's answer or a timeout.
    pub fn note_poll_ended(&mut self, now: Instant) {
        self.poll_ended_at = Some(now);
    }

    /// Does not count the time of a late poll as the readers' silence, if the poll was not so late that it is a break.
    fn discount_own_delay(&mut self, asked: Instant, since_last: Duration) {
        if since_last > VIEW_STALE_AFTER {
            return;
        }
        let pause = paused_time(since_last, LOOK_INTERVAL);
        for sighting in self.readers.values_mut() {
            sighting.discount_silence(pause, asked);
        }
    }

    /// Notes that a task of this manager was done `late` by that time: a poll for the readers, or the answer to a
    /// heartbeat.
    pub fn note_lateness(&mut self, now: Instant, late: Duration) {
        let origin = *self.lateness_origin.get_or_insert(now);
        self.local_health.note_lateness(now.saturating_duration_since(origin), late);
    }

    /// Returns the time that this manager waits instead of `time`: longer the more often it is late itself.
    pub fn scaled_wait(&self, time: Duration) -> Duration {
        self.local_health.scaled_wait(time)
    }

    fn note_polled_record(&mut self, asked: Instant, mut record: R, first: bool, is_break: bool) {
        let (beat, polled) = (record.beat(), self.last_polled_at);
        let Some(known) = self.readers.get_mut(record.reader_id()) else {
            // The record may have been in the store for long.
            sort_held_videos(&mut record, false);
            let polled_beat = Some(beat);
            let sighting =
                ReaderLiveness { polled_beat, was_seen_alive: !first, ..ReaderLiveness::new(asked, record) };
            self.readers.insert(sighting.last_record.reader_id().clone(), sighting);
            return;
        };
        // A record that is unchanged in the store may be older than the reader's own heartbeat to this manager, and
        // that heartbeat may be what the store has now: neither is news.
        let changed = known.polled_beat.replace(beat) != Some(beat);
        let silence =
            polled.map_or(Duration::ZERO, |polled| polled.saturating_duration_since(known.beat_changed_at));
        if changed && is_later(&record, &known.last_record) {
            known.note_record(asked, record, !is_break);
        } else if changed
            && record.incarnation() < known.last_record.incarnation()
            && silence >= SUSPECT_AFTER_SILENCE
        {
            // An old copy of the store, or a process on a machine whose clock was set back: the next heartbeat shows
            // which.
            sort_held_videos(&mut record, false);
            known.last_record = record;
        }
    }

    /// Notes a heartbeat that the reader sent to this manager itself.
    pub fn note_heartbeat(&mut self, now: Instant, mut record: R) {
        let (heard, is_current) = (Some(now), self.is_awake(now));
        if let Some(known) = self.readers.get_mut(record.reader_id()) {
            known.note_record(now, record, is_current);
            known.heard_here_at = heard;
        } else {
            sort_held_videos(&mut record, is_current);
            let sighting = ReaderLiveness { heard_here_at: heard, ..ReaderLiveness::new(now, record) };
            self.readers.insert(sighting.last_record.reader_id().clone(), sighting);
        }
    }

    /// Whether a heartbeat that arrives now was sent just now: this process has polled without a break for longer than
    /// a heartbeat can have waited for it.
    fn is_awake(&self, now: Instant) -> bool {
        let within = |since: Option<Instant>, time| {
            since.is_some_and(|since| now.saturating_duration_since(since) <= time)
        };
        within(self.store_asked_at, VIEW_STALE_AFTER)
            && self.polling_since.is_some()
            && !within(self.polling_since, HEARTBEAT_EVERY)
    }

    /// Whether a reader sends its heartbeats to this manager: then this manager carries out what the reader needs.
    pub fn reports_here(&self, now: Instant, reader: &ReaderId) -> bool {
        let heard = self.get(reader).and_then(|sighting| sighting.heard_here_at);
        heard.is_some_and(|heard| now.saturating_duration_since(heard) < SUSPECT_AFTER_SILENCE)
    }

    /// Notes that a reader keeps a video ready, before its next heartbeat says so.
    pub fn note_video_ready(&mut self, reader: &ReaderId, video: &VideoId) {
        let Some(sighting) = self.readers.get_mut(reader) else { return };
        let videos = sighting.last_record.held_videos_mut();
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
    /// sent, and those that could not be reached. The caller has to pass the result of each probe to
    /// [`ReaderWatch::note_probe`].
    pub fn readers_to_probe(&self, now: Instant) -> Vec<&ReaderLiveness<R>> {
        let due = |sighting: &&ReaderLiveness<R>| {
            let is_silent = self.silence_of(sighting) >= SUSPECT_AFTER_SILENCE;
            let is_refused = sighting.failed_probes > 0 || sighting.unconfirmed_failure_at.is_some();
            let in_doubt =
                !sighting.was_seen_alive || is_refused || sighting.viewers_sent_at > sighting.last_probe_at;
            let last = if is_silent {
                sighting.last_silence_probe.map(|(at, _)| at)
            } else {
                sighting.last_probe_at
            };
            let is_time = last.is_none_or(|last| now.saturating_duration_since(last) >= PROBE_INTERVAL);
            (is_silent || in_doubt) && is_time
        };
        self.readers.values().filter(due).collect()
    }

    /// Notes the outcome of a probe that was sent when the reader's beat was `beat`.
    pub fn note_probe(&mut self, sent: Instant, reader: &ReaderId, beat: u64, outcome: ProbeOutcome) {
        let Some(sighting) = self.readers.get_mut(reader) else { return };
        sighting.last_probe_at = Some(sent);
        match outcome {
            ProbeOutcome::Answered => (sighting.failed_probes, sighting.unconfirmed_failure_at) = (0, None),
            ProbeOutcome::Unreachable => sighting.unconfirmed_failure_at = Some(sent),
            ProbeOutcome::Late => {}
        }
        if sighting.last_record.beat() == beat {
            sighting.last_silence_probe = Some((sent, outcome == ProbeOutcome::Answered));
        }
    }

    /// Whether the view is young enough to act on.
    pub fn is_view_recent(&self, now: Instant) -> bool {
        self.last_polled_at.is_some_and(|polled| now.saturating_duration_since(polled) <= VIEW_STALE_AFTER)
    }

    /// Whether the store was ever polled: a manager that has just begun has no view yet, which is no loss of one.
    pub const fn was_polled(&self) -> bool {
        self.last_polled_at.is_some()
    }

    /// Whether the readers were polled without a break for so long that a reader never seen does not exist.
    pub fn is_settled(&self, now: Instant) -> bool {
        let since = self.polling_since.filter(|_| self.is_view_recent(now));
        since.is_some_and(|since| {
            now.saturating_duration_since(since) >= self.scaled_wait(SETTLED_AFTER_WATCHING)
        })
    }

    /// Returns the readers that accept new videos. A reader that was found in the store and not yet seen alive is
    /// returned only if there is no other.
    pub fn open_readers(&self) -> impl Iterator<Item = &ReaderLiveness<R>> {
        self.open_readers_among(|_| true)
    }

    /// Returns the readers that accept new videos, among those that `fits` permits.
    pub fn open_readers_among(
        &self,
        fits: impl Fn(&ReaderId) -> bool,
    ) -> impl Iterator<Item = &ReaderLiveness<R>> {
        let alive = |sighting: &&ReaderLiveness<R>| {
            self.status_of(sighting) == ReaderStatus::Alive && fits(sighting.last_record.reader_id())
        };
        let found: Vec<&ReaderLiveness<R>> = self.readers.values().filter(alive).collect();
        let any_proven = found.iter().any(|sighting| sighting.was_seen_alive);
        found.into_iter().filter(move |sighting| sighting.was_seen_alive || !any_proven)
    }

    /// Returns all readers.
    pub fn all_readers(&self) -> impl Iterator<Item = &ReaderLiveness<R>> {
        self.readers.values()
    }

    /// Returns what is known of one reader.
    pub fn get(&self, reader: &ReaderId) -> Option<&ReaderLiveness<R>> {
        self.readers.get(reader)
    }

    /// Returns the status of a reader; `None` if the reader is not known.
    pub fn reader_status(&self, reader: &ReaderId) -> Option<ReaderStatus> {
        self.readers.get(reader).map(|sighting| self.status_of(sighting))
    }

    /// Returns the status of a reader by its silence, probes and heartbeats.
    pub fn status_of(&self, sighting: &ReaderLiveness<R>) -> ReaderStatus {
        let is_silent = self.silence_of(sighting) >= self.scaled_wait(SUSPECT_AFTER_SILENCE);
        match sighting.last_silence_probe {
            Some((_, false)) if is_silent => ReaderStatus::Gone,
            _ if is_silent => ReaderStatus::Suspect,
            _ if sighting.last_record.is_leaving() => ReaderStatus::Draining,
            // The reader was found in the store at the start and does not answer: it may have ended after its last
            // record.
            Some((_, false)) if !sighting.was_seen_alive => ReaderStatus::Suspect,
            _ if sighting.is_unreachable() => ReaderStatus::Suspect,
            _ => ReaderStatus::Alive,
        }
    }

    /// Returns for how long a reader has been silent while this manager polled.
    pub fn silence_of(&self, sighting: &ReaderLiveness<R>) -> Duration {
        self.last_polled_at
            .map(|polled| polled.saturating_duration_since(sighting.beat_changed_at))
            .unwrap_or_default()
    }

    /// Returns the longest silence of any reader that has not left.
    pub fn longest_silence(&self) -> Duration {
        let has_left = |sighting: &ReaderLiveness<R>| {
            sighting.last_record.is_leaving() && sighting.last_record.viewers() == 0
        };
        let here = self.all_readers().filter(|sighting| !has_left(sighting));
        here.map(|sighting| self.silence_of(sighting)).max().unwrap_or_default()
    }

    /// Returns the highest assignment epoch that any reader has seen.
    pub fn highest_epoch(&self) -> u64 {
        self.readers.values().map(|sighting| sighting.last_record.highest_epoch()).max().unwrap_or(0)
    }

    /// Returns the readers that have been gone for long enough to be forgotten, each with its last beat in the store.
    /// `removed`: whether a planner removed a reader; removed readers are forgotten earlier, because nobody needs to
    /// see them.
    pub fn readers_to_forget(
        &self,
        now: Instant,
        removed: impl Fn(&ReaderId) -> bool,
    ) -> Vec<(ReaderId, u64)> {
        if !self.is_view_recent(now) {
            return Vec::new();
        }
        let is_over = |sighting: &&ReaderLiveness<R>| {
            let silence = self.silence_of(sighting);
            let long_gone =
                self.status_of(sighting) == ReaderStatus::Gone && silence >= FORGET_GONE_READER_AFTER;
            long_gone || (removed(sighting.last_record.reader_id()) && silence >= FORGET_REMOVED_READER_AFTER)
        };
        let beat = |sighting: &ReaderLiveness<R>| {
            sighting.polled_beat.unwrap_or_else(|| sighting.last_record.beat())
        };
        self.readers
            .values()
            .filter(is_over)
            .map(|sighting| (sighting.last_record.reader_id().clone(), beat(sighting)))
            .collect()
    }

    /// Forgets a reader that [`ReaderWatch::readers_to_forget`] returned, unless it has sent a heartbeat since.
    pub fn forget_reader(&mut self, reader: &ReaderId) {
        if self.get(reader).is_some_and(|sighting| self.silence_of(sighting) >= SUSPECT_AFTER_SILENCE) {
            self.readers.remove(reader);
        }
    }
}
