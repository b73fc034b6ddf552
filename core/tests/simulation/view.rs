//! A simulated manager's view of assignments and readers: which readers are alive, suspect and gone.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use liverank_core::handover::coordinator::{self, ClusterView, FULL_USAGE_THOUSANDTHS, ReaderStatus};
use liverank_core::handover::local_health::{LocalHealth, paused_time};
use liverank_core::handover::peak::RecentPeak;
use liverank_core::handover::{AssignedReaders, HeldVideo, ReaderShare};
use liverank_core::{ReaderId, VideoId};

use crate::net::{CAPACITY, Ms, Record, index};
use crate::reader::HEARTBEAT_INTERVAL;

pub const SUSPECT_AFTER: Ms = 3_000;
/// The interval at which the store is asked for the readers' records.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
const MISSING_AFTER: Ms = 2_000;
const STALE_AFTER: Ms = 1_500;
const PROBE_TIMEOUT: Ms = 500;
/// The time that a manager waits for a probe's answer that may have arrived already when its time was over, in
/// milliseconds.
pub const LAST_LOOK: Ms = 50;
const SETTLED_AFTER: Ms = 3_000;

pub struct Sighting {
    pub record: Record,
    pub changed: Ms,
    /// The time of the reader's last heartbeat by the clock: unlike `changed`, it is not moved by this manager's own
    /// pauses.
    pub said: Ms,
    /// The time at which the reader was last probed during its present silence.
    pub probed: Option<Ms>,
    pub answered: bool,
    /// The state of the time limit of that probe.
    pub probe: ProbeTime,
}

/// The state of a probe's time limit.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum ProbeTime {
    /// The time goes on.
    #[default]
    Running,
    /// The time is over, and the manager checks once more what has arrived: it may have been paused itself.
    LastLook,
    /// The time is over, and so is the last check.
    Over,
}

impl Sighting {
    /// Excuses `time` of the reader's silence before `asked`. Later heartbeats of the reader are not affected.
    fn excuse(&mut self, time: Ms, asked: Ms) {
        self.changed = self.changed.max((self.changed + time).min(asked));
    }
}

/// Whether a reader can be reached at its address, apart from its heartbeats.
#[derive(Default)]
pub struct Reach {
    /// The time at which viewers were last sent to the reader; `tried` is the time of the last test.
    pub sent: Option<Ms>,
    pub tried: Option<Ms>,
    /// The number of failed tests in a row.
    pub failed: u32,
}

impl Reach {
    pub const fn is_lost(&self) -> bool {
        self.failed >= 2
    }
}

/// A manager's view of the cluster.
#[derive(Default)]
pub struct View {
    pub now: Ms,
    pub loaded: bool,
    pub assigned: HashMap<VideoId, AssignedReaders>,
    pub highest_epoch: u64,
    pub readers: BTreeMap<usize, Sighting>,
    pub held: HashMap<(usize, VideoId), HeldVideo>,
    /// The recent peak of the viewers of each video.
    pub peaks: HashMap<VideoId, RecentPeak>,
    pub names: Vec<ReaderId>,
    pub polled: Option<Ms>,
    /// The time at which the store was last asked, with or without success.
    pub asked: Option<Ms>,
    /// The manager's own local health.
    pub health: LocalHealth,
    pub looking_since: Ms,
    /// The time at which this process continued after a pause.
    pub went_on: Option<Ms>,
    pub too_many: bool,
    /// The readers that the operator has removed, as the store says.
    pub removed: BTreeSet<usize>,
    pub reach: BTreeMap<usize, Reach>,
}

impl ClusterView for View {
    fn assigned_readers(&self, video: &VideoId) -> Option<&AssignedReaders> {
        self.assigned.get(video)
    }

    fn reader_status(&self, reader: &ReaderId) -> Option<ReaderStatus> {
        if self.removed.contains(&index(reader.as_str())) {
            return Some(ReaderStatus::Gone);
        }
        let Some(sighting) = self.readers.get(&index(reader.as_str())) else {
            let settled = self.is_fresh() && self.now - self.looking_since >= self.scaled_wait(SETTLED_AFTER);
            return settled.then_some(ReaderStatus::Gone);
        };
        let silent = self.silence_of(sighting) >= self.scaled_wait(SUSPECT_AFTER);
        let unanswered = sighting.probe == ProbeTime::Over;
        let is_lost = (silent && unanswered && !sighting.answered) || self.is_unreachable(sighting);
        let may_act = self.is_fresh() && (!self.too_many || sighting.record.draining);
        Some(match sighting.record.draining {
            _ if is_lost && may_act => ReaderStatus::Gone,
            true => ReaderStatus::Leaving,
            _ if silent || self.is_unreachable(sighting) => ReaderStatus::Suspect,
            false => ReaderStatus::Alive,
        })
    }

    fn viewer_url(&self, reader: &ReaderId) -> Option<String> {
        Some(reader.as_str().to_owned())
    }

    fn held_video(&self, reader: &ReaderId, video: &VideoId) -> Option<&HeldVideo> {
        let key = (index(reader.as_str()), video.clone());
        let is_young = self.readers.get(&key.0).is_some_and(|it| self.now - it.said < SUSPECT_AFTER);
        self.held.get(&key).filter(|_| is_young)
    }

    fn usage_thousandths(&self, reader: &ReaderId) -> u64 {
        let reader = index(reader.as_str());
        let capacity = self.readers.get(&reader).map_or(CAPACITY, |it| it.record.capacity);
        (self.viewers_at(reader) * FULL_USAGE_THOUSANDTHS)
            .checked_div(capacity)
            .unwrap_or(FULL_USAGE_THOUSANDTHS)
    }

    fn room(&self, reader: &ReaderId) -> u64 {
        let reader = index(reader.as_str());
        let capacity = self.readers.get(&reader).map_or(0, |it| it.record.capacity);
        capacity.saturating_sub(self.viewers_at(reader))
    }

    fn reported_usage(&self, reader: &ReaderId) -> (u64, u64) {
        let reader = index(reader.as_str());
        (self.readers.get(&reader).map_or(0, |it| it.record.capacity), self.viewers_at(reader))
    }

    fn is_open(&self, reader: &ReaderId) -> bool {
        self.reader_status(reader) == Some(ReaderStatus::Alive)
    }

    fn viewers(&self, video: &VideoId) -> u64 {
        self.peaks.get(video).map_or(0, RecentPeak::greatest)
    }
}

impl View {
    pub fn is_fresh(&self) -> bool {
        self.polled.is_some_and(|polled| self.now - polled <= STALE_AFTER)
    }

    fn is_unreachable(&self, sighting: &Sighting) -> bool {
        self.reach.get(&sighting.record.reader).is_some_and(Reach::is_lost)
    }

    /// Returns the readers of a video to which viewers are sent, the best first.
    pub fn route(&mut self, video: &VideoId, lots: [u32; 2]) -> Vec<usize> {
        let Some(assigned) = self.assigned.get(video) else { return Vec::new() };
        let readers = coordinator::readers_to_join(self, video, assigned, lots);
        let readers: Vec<usize> = readers.iter().map(|it| index(it.reader.as_str())).collect();
        // A reader without a heartbeat has no known address.
        let readers: Vec<usize> =
            readers.into_iter().filter(|reader| self.readers.contains_key(reader)).collect();
        if let Some(best) = readers.first() {
            self.reach.entry(*best).or_default().sent = Some(self.now);
        }
        readers
    }

    /// Advances the time limits of probes, as `answer_within` in `services/manager/src/sweep.rs` does: answers that
    /// have arrived when the time is over count. Returns whether a last check is needed for any probe.
    pub fn pass_probe_time(&mut self) -> bool {
        let (now, limit) = (self.now, self.scaled_wait(PROBE_TIMEOUT));
        let mut is_to_look = false;
        for sighting in self.readers.values_mut() {
            let passed = sighting.probed.map_or(0, |at| now - at);
            let is_over = sighting.probed.is_some() && passed >= limit;
            sighting.probe = match sighting.probe {
                ProbeTime::Running if is_over => ProbeTime::LastLook,
                ProbeTime::LastLook if passed >= limit + LAST_LOOK => ProbeTime::Over,
                other => other,
            };
            is_to_look |= sighting.probe == ProbeTime::LastLook;
        }
        is_to_look
    }

    /// Notes that the store is asked for the readers' records. A question that comes late is the manager's own delay;
    /// one that is not answered is not.
    pub fn asks(&mut self) {
        let since_last = self.asked.replace(self.now).map_or(0, |last| self.now - last);
        if since_last > STALE_AFTER {
            (self.looking_since, self.went_on) = (self.now, Some(self.now));
        } else {
            let pause = paused_time(Duration::from_millis(since_last), LOOK_INTERVAL);
            self.health.note_lateness(Duration::from_millis(self.now), pause);
        }
    }

    /// Returns the time to wait instead of `time`, which a manager that is never late would wait.
    fn scaled_wait(&self, time: Ms) -> Ms {
        self.health.stretched_wait(Duration::from_millis(time)).as_millis() as u64
    }

    fn silence_of(&self, sighting: &Sighting) -> Ms {
        self.polled.map_or(0, |polled| polled.saturating_sub(sighting.changed))
    }

    pub fn viewers_at(&self, reader: usize) -> u64 {
        self.readers.get(&reader).map_or(0, |it| it.record.held.iter().map(|held| held.viewers).sum())
    }

    /// Returns the readers that accept new videos.
    pub fn open(&self) -> Vec<usize> {
        let alive = |reader: &usize| self.reader_status(&self.names[*reader]) == Some(ReaderStatus::Alive);
        self.readers.keys().copied().filter(alive).collect()
    }

    /// Returns the reader to choose for a video: the one with most of its viewers, else the least used one.
    pub fn choose(&self, video: &VideoId, besides: &[ReaderShare]) -> Option<ReaderId> {
        let at = |reader: usize| self.held.get(&(reader, video.clone())).map_or(0, |held| held.viewers);
        let is_beside = |at: &usize| besides.iter().all(|share| share.reader != self.names[*at]);
        let has_room = |reader: usize| self.room(&self.names[reader]) > 0;
        let open = self.open();
        let best = open.into_iter().filter(is_beside).max_by_key(|reader| {
            (has_room(*reader), at(*reader), u64::MAX - self.viewers_at(*reader), usize::MAX - reader)
        })?;
        Some(self.names[best].clone())
    }

    /// Returns the reader with the most room that does not serve the video; `None` if there is none.
    pub fn roomiest_other(&self, assigned: &AssignedReaders) -> Option<ReaderId> {
        let others = self.open().into_iter().map(|reader| self.names[reader].clone());
        let has_room = |reader: &ReaderId| assigned.share_of(reader).is_none() && self.room(reader) > 0;
        others.filter(has_room).max_by_key(|reader| self.room(reader))
    }

    /// Returns the number of viewers for whom open readers have room.
    pub fn room_elsewhere(&self) -> u64 {
        self.open().into_iter().map(|reader| self.room(&self.names[reader])).sum()
    }

    pub fn put(&mut self, video: VideoId, assigned: AssignedReaders) {
        self.highest_epoch = self.highest_epoch.max(assigned.epoch);
        self.assigned.insert(video, assigned);
    }

    /// Returns the highest epoch that this manager or any reader has seen.
    pub fn seen(&self) -> u64 {
        let readers = self.readers.values().map(|sighting| sighting.record.highest_epoch).max();
        self.highest_epoch.max(readers.unwrap_or(0))
    }

    /// Whether this process was paused a moment ago: messages that come now may have waited for it.
    pub fn stood_still(&self) -> bool {
        let within = |at: Ms, time: Ms| self.now - at <= time;
        self.asked.is_some_and(|asked| !within(asked, STALE_AFTER))
            || self.went_on.is_some_and(|at| within(at, HEARTBEAT_INTERVAL))
    }

    /// Notes a heartbeat that this manager received itself.
    pub fn heard(&mut self, record: Record) {
        let (now, since) = (self.now, self.looking_since);
        let is_awake = self.asked.is_some_and(|asked| now - asked <= STALE_AFTER)
            && self.polled.is_some()
            && now - since > HEARTBEAT_INTERVAL;
        self.saw(now, record, is_awake);
    }

    /// Notes a reader's record. `is_current` says that it was written just now: viewers are not sent to a reader
    /// because of a record of unknown age.
    fn saw(&mut self, at: Ms, mut record: Record, is_current: bool) {
        if !is_current {
            record.held.iter_mut().for_each(|held| held.ready = false);
        }
        let reader = record.reader;
        self.held.retain(|(of, _), _| *of != reader);
        for held in &record.held {
            self.held.insert((reader, held.video.clone()), held.clone());
        }
        let probe = ProbeTime::Running;
        let sighting = Sighting { record, changed: at, said: at, probed: None, answered: false, probe };
        self.readers.insert(reader, sighting);
        let mut viewers: HashMap<&VideoId, (u64, bool)> = HashMap::new();
        // Records of readers that are gone are not counted.
        let is_there = |reader: &usize| self.reader_status(&self.names[*reader]) != Some(ReaderStatus::Gone);
        for ((reader, video), held) in self.held.iter().filter(|((reader, _), _)| is_there(reader)) {
            let (viewers, handed_over) = viewers.entry(video).or_default();
            *viewers += held.viewers;
            let assigned = self.assigned.get(video);
            *handed_over |= assigned.is_some_and(|it| it.must_hand_over(&self.names[*reader], held));
        }
        for (video, (viewers, handed_over)) in viewers {
            let peak = self.peaks.entry(video.clone()).or_default();
            peak.note(Duration::from_millis(at), viewers, handed_over);
        }
    }

    /// Notes that a reader has a video ready, ahead of its report.
    pub fn ready(&mut self, reader: &ReaderId, video: &VideoId) {
        let key = (index(reader.as_str()), video.clone());
        if self.readers.contains_key(&key.0) {
            let fresh =
                || HeldVideo { video: video.clone(), viewers: 0, epoch: 0, ready: true, shedding: false };
            self.held.entry(key).or_insert_with(fresh).ready = true;
        }
    }

    pub fn judge(&mut self) {
        let counts = |it: &&Sighting| !it.record.draining && !self.removed.contains(&it.record.reader);
        let missing = |it: &&Sighting| {
            (!it.answered && self.silence_of(it) >= self.scaled_wait(MISSING_AFTER))
                || self.is_unreachable(it)
        };
        let all = self.readers.values().filter(counts).count();
        let gone = self.readers.values().filter(counts).filter(missing).count();
        self.too_many = gone > (all / 3).max(1);
    }

    /// Notes the store's records of the readers; the store was asked at `sent`.
    pub fn observe(&mut self, sent: Ms, records: Vec<Record>, removed: BTreeSet<usize>) {
        // Questions overlap here: a lost one is not sent again, as TCP would do. A manager asks one after the other,
        // so an answer to an earlier question undoes nothing.
        if self.polled.is_none_or(|polled| polled <= sent) {
            self.removed = removed;
        }
        let blind = self.polled.map(|polled| sent.saturating_sub(polled));
        if let Some(gap) = blind.filter(|gap| *gap <= STALE_AFTER) {
            let pause = paused_time(Duration::from_millis(gap), LOOK_INTERVAL);
            for sighting in self.readers.values_mut() {
                sighting.excuse(pause.as_millis() as u64, sent);
            }
        }
        if blind.is_none_or(|blind| blind > STALE_AFTER) {
            self.looking_since = sent;
            for sighting in self.readers.values_mut() {
                sighting.excuse(blind.unwrap_or(0), sent);
                (sighting.probed, sighting.probe) = (None, ProbeTime::Running);
            }
        }
        let is_break = blind.is_none_or(|blind| blind > STALE_AFTER);
        for record in records {
            let known = self.readers.get(&record.reader).map(|it| it.record.beat);
            if known.is_none_or(|beat| beat < record.beat) {
                self.saw(sent, record, known.is_some() && !is_break);
            }
        }
        self.polled = self.polled.max(Some(sent));
        self.judge();
    }
}
