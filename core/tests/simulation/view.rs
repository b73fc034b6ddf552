//! What a manager sees of assignments and readers: who is alive, who is suspect, and who is gone.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use liverank_core::handover::coordinator::{self, ClusterView, ReaderStatus};
use liverank_core::handover::local_health::{LocalHealth, paused};
use liverank_core::handover::peak::Peak;
use liverank_core::handover::{HeldVideo, Share, VideoAssignment};
use liverank_core::{ReaderId, VideoId};

use crate::net::{HeartbeatRecord, Ms, name_to_index};

pub const SUSPECT_AFTER: Ms = 3_000;
/// How often the store is asked.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
const MISSING_AFTER: Ms = 2_000;
const STALE_AFTER: Ms = 1_500;
const PROBE_TIMEOUT: Ms = 500;
const SETTLED_AFTER: Ms = 3_000;

pub struct ReaderSighting {
    pub record: HeartbeatRecord,
    pub changed: Ms,
    /// The same by the clock: time in which nobody looked counts.
    pub said: Ms,
    /// When it was last probed in this silence.
    pub probed: Option<Ms>,
    pub answered: bool,
}

/// Whether a reader can be reached, whatever it reports.
#[derive(Default)]
pub struct Reachability {
    /// When viewers were last sent there, and when it was last tried.
    pub sent: Option<Ms>,
    pub tried: Option<Ms>,
    /// How often in a row it could not be reached.
    pub failed: u32,
}

impl Reachability {
    pub const fn is_lost(&self) -> bool {
        self.failed >= 2
    }
}

/// What it sees.
#[derive(Default)]
pub struct SimulatedView {
    pub now: Ms,
    pub loaded: bool,
    pub assigned: HashMap<VideoId, VideoAssignment>,
    pub highest_epoch: u64,
    pub readers: BTreeMap<usize, ReaderSighting>,
    pub held: HashMap<(usize, VideoId), HeldVideo>,
    /// The same for readers that said so too long ago.
    pub old: HashMap<(usize, VideoId), HeldVideo>,
    /// The most viewers of each video lately.
    pub peaks: HashMap<VideoId, Peak>,
    pub names: Vec<ReaderId>,
    pub polled: Option<Ms>,
    /// When the store was last asked, with success or not.
    pub asked: Option<Ms>,
    /// How well the manager itself runs.
    pub health: LocalHealth,
    pub looking_since: Ms,
    pub too_many: bool,
    /// Readers that the operator has removed, by the store.
    pub removed: BTreeSet<usize>,
    pub reach: BTreeMap<usize, Reachability>,
}

impl ClusterView for SimulatedView {
    fn assigned(&self, video: &VideoId) -> Option<&VideoAssignment> {
        self.assigned.get(video)
    }

    fn standing(&self, reader: &ReaderId) -> Option<ReaderStatus> {
        if self.removed.contains(&name_to_index(reader.as_str())) {
            return Some(ReaderStatus::Gone);
        }
        let Some(sighting) = self.readers.get(&name_to_index(reader.as_str())) else {
            let settled = self.is_fresh() && self.now - self.looking_since >= self.scaled_wait(SETTLED_AFTER);
            return settled.then_some(ReaderStatus::Gone);
        };
        let silent = self.silence_of(sighting) >= self.scaled_wait(SUSPECT_AFTER);
        let unanswered = sighting.probed.is_some_and(|at| self.now - at >= self.scaled_wait(PROBE_TIMEOUT));
        let is_lost = (silent && unanswered && !sighting.answered) || self.is_unreachable(sighting);
        let may_act = self.is_fresh() && (!self.too_many || sighting.record.draining);
        Some(match sighting.record.draining {
            _ if is_lost && may_act => ReaderStatus::Gone,
            true => ReaderStatus::Leaving,
            _ if silent || self.is_unreachable(sighting) => ReaderStatus::Suspect,
            false => ReaderStatus::Alive,
        })
    }

    fn address(&self, reader: &ReaderId) -> Option<String> {
        Some(reader.as_str().to_owned())
    }

    fn held(&self, reader: &ReaderId, video: &VideoId) -> Option<&HeldVideo> {
        let key = (name_to_index(reader.as_str()), video.clone());
        let is_old = self.readers.get(&key.0).is_none_or(|it| self.now - it.said >= SUSPECT_AFTER);
        if is_old { self.old.get(&key) } else { self.held.get(&key) }
    }

    fn usage(&self, reader: &ReaderId) -> u64 {
        self.viewers_at(name_to_index(reader.as_str()))
    }

    fn is_open(&self, reader: &ReaderId) -> bool {
        self.standing(reader) == Some(ReaderStatus::Alive)
    }

    fn viewers(&self, video: &VideoId) -> u64 {
        self.peaks.get(video).map_or(0, Peak::most)
    }
}

impl SimulatedView {
    pub fn is_fresh(&self) -> bool {
        self.polled.is_some_and(|polled| self.now - polled <= STALE_AFTER)
    }

    fn is_unreachable(&self, sighting: &ReaderSighting) -> bool {
        self.reach.get(&sighting.record.reader).is_some_and(Reachability::is_lost)
    }

    /// The readers of a video that viewers are sent to, the best first.
    pub fn route_viewer(&mut self, video: &VideoId, lots: [u32; 2]) -> Vec<usize> {
        let Some(assigned) = self.assigned.get(video) else { return Vec::new() };
        let readers = coordinator::route(self, video, assigned, lots);
        let readers: Vec<usize> = readers.iter().map(|reader| name_to_index(reader.as_str())).collect();
        // One that is not known has no address.
        let readers: Vec<usize> =
            readers.into_iter().filter(|reader| self.readers.contains_key(reader)).collect();
        if let Some(best) = readers.first() {
            self.reach.entry(*best).or_default().sent = Some(self.now);
        }
        readers
    }

    /// Asks the store what it holds of the readers. A question that comes late is the manager's own delay; one that is not
    /// answered is not.
    pub fn note_question(&mut self) {
        let since_last = self.asked.replace(self.now).map_or(0, |last| self.now - last);
        if since_last <= STALE_AFTER {
            let pause = paused(Duration::from_millis(since_last), LOOK_INTERVAL);
            self.health.worked(Duration::from_millis(self.now), pause);
        }
    }

    /// How long it waits for what one would wait for so long that is never late itself.
    fn scaled_wait(&self, time: Ms) -> Ms {
        self.health.wait(Duration::from_millis(time)).as_millis() as u64
    }

    fn silence_of(&self, sighting: &ReaderSighting) -> Ms {
        self.polled.map_or(0, |polled| polled.saturating_sub(sighting.changed))
    }

    pub fn viewers_at(&self, reader: usize) -> u64 {
        self.readers.get(&reader).map_or(0, |it| it.record.held.iter().map(|held| held.viewers).sum())
    }

    /// Readers that take new videos.
    pub fn open_readers(&self) -> Vec<usize> {
        let alive = |reader: &usize| self.standing(&self.names[*reader]) == Some(ReaderStatus::Alive);
        self.readers.keys().copied().filter(alive).collect()
    }

    /// The reader for a video: where most of its viewers are, else the least used.
    pub fn choose_reader(&self, video: &VideoId, besides: &[Share]) -> Option<ReaderId> {
        let at = |reader: usize| self.held.get(&(reader, video.clone())).map_or(0, |held| held.viewers);
        let is_beside = |at: &usize| besides.iter().all(|share| share.reader != self.names[*at]);
        let open = self.open_readers();
        let best = open
            .into_iter()
            .filter(is_beside)
            .max_by_key(|reader| (at(*reader), u64::MAX - self.viewers_at(*reader), usize::MAX - reader))?;
        Some(self.names[best].clone())
    }

    pub fn put_assignment(&mut self, video: VideoId, assigned: VideoAssignment) {
        self.highest_epoch = self.highest_epoch.max(assigned.epoch);
        self.assigned.insert(video, assigned);
    }

    /// The highest epoch that anybody has seen.
    pub fn highest_epoch_seen(&self) -> u64 {
        let readers = self.readers.values().map(|sighting| sighting.record.highest_epoch).max();
        self.highest_epoch.max(readers.unwrap_or(0))
    }

    pub fn note_heartbeat(&mut self, at: Ms, record: HeartbeatRecord) {
        let reader = record.reader;
        self.held.retain(|(of, _), _| *of != reader);
        self.old.retain(|(of, _), _| *of != reader);
        for held in &record.held {
            self.held.insert((reader, held.video.clone()), held.clone());
            self.old.insert((reader, held.video.clone()), HeldVideo { ready: false, ..held.clone() });
        }
        let sighting = ReaderSighting { record, changed: at, said: at, probed: None, answered: false };
        self.readers.insert(reader, sighting);
        let mut viewers: HashMap<&VideoId, (u64, bool)> = HashMap::new();
        // What one said that is gone is said of nobody.
        let is_there = |reader: &usize| self.standing(&self.names[*reader]) != Some(ReaderStatus::Gone);
        for ((reader, video), held) in self.held.iter().filter(|((reader, _), _)| is_there(reader)) {
            let (viewers, handed_over) = viewers.entry(video).or_default();
            *viewers += held.viewers;
            let assigned = self.assigned.get(video);
            *handed_over |= assigned.is_some_and(|it| it.hands_over(&self.names[*reader], held));
        }
        for (video, (viewers, handed_over)) in viewers {
            let peak = self.peaks.entry(video.clone()).or_default();
            peak.note(Duration::from_millis(at), viewers, handed_over);
        }
    }

    pub fn judge_readers(&mut self) {
        let counts = |it: &&ReaderSighting| !it.record.draining && !self.removed.contains(&it.record.reader);
        let missing = |it: &&ReaderSighting| {
            (!it.answered && self.silence_of(it) >= self.scaled_wait(MISSING_AFTER))
                || self.is_unreachable(it)
        };
        let all = self.readers.values().filter(counts).count();
        let gone = self.readers.values().filter(counts).filter(missing).count();
        self.too_many = gone > (all / 3).max(1);
    }

    /// Takes over what the store holds of the readers; it was asked at `sent`.
    pub fn observe_store(&mut self, sent: Ms, records: Vec<HeartbeatRecord>, removed: BTreeSet<usize>) {
        self.removed = removed;
        let blind = self.polled.map(|polled| sent.saturating_sub(polled));
        if let Some(gap) = blind.filter(|gap| *gap <= STALE_AFTER) {
            let pause = paused(Duration::from_millis(gap), LOOK_INTERVAL);
            for sighting in self.readers.values_mut() {
                sighting.changed = (sighting.changed + pause.as_millis() as u64).min(sent);
            }
        }
        if blind.is_none_or(|blind| blind > STALE_AFTER) {
            self.looking_since = sent;
            for sighting in self.readers.values_mut() {
                sighting.changed = (sighting.changed + blind.unwrap_or(0)).min(sent);
                sighting.probed = None;
            }
        }
        for record in records {
            let known = self.readers.get(&record.reader).map(|it| it.record.beat);
            if known.is_none_or(|beat| beat < record.beat) {
                self.note_heartbeat(sent, record);
            }
        }
        self.polled = self.polled.max(Some(sent));
        self.judge_readers();
    }
}
