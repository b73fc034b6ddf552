//! A simulated cluster with its managers and viewers, second by second, as far as adding and removing readers depends
//! on them: stores that lag, writes that fail, managers that fall silent or contradict each other, viewers in transit.

use std::collections::{BTreeMap, HashMap};

use liverank_core::handover::coordinator::ReaderStatus;
use liverank_core::handover::{CordonLevel, ReaderShare};
use liverank_core::{Millis, ReaderId, VideoId};
use liverank_protocol::{
    AssignedVideoState, ClusterLoad, CordonRequest, MoveRequest, ReaderState, ZonedViewers,
};

use crate::readers::{
    ManagerReport, ObservedReader, ReaderDrain, ReaderPod, ReaderSelfReport, ReaderSettings, ReaderStep,
    RoundInput,
};

/// The way in which managers answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ManagerAnswers {
    Well,
    Silent,
    Blind,
    Holding,
    /// The second manager reports three times as many viewers.
    Contradicting,
}

#[derive(Debug, Clone)]
pub struct SimulatedDeployment {
    pub uid: String,
    pub template: String,
    pub created: Millis,
    pub drain: Option<ReaderDrain>,
    /// The time at which the reader's pod serves; `None`: never.
    pub serves: Option<Millis>,
}

#[derive(Debug, Clone)]
pub struct SimulatedViewer {
    pub video: usize,
    /// The reader at which the viewer is, or to which it is going.
    pub at: Option<String>,
    /// The time at which the viewer arrives; it is counted nowhere before.
    pub arrives_at: Millis,
    /// Number of moves of the viewer since the template last changed.
    pub moved: u32,
    /// Whether the viewer does not follow when it is told to move.
    pub stuck: bool,
}

#[derive(Debug, Clone)]
pub struct SimulatedAssignment {
    pub epoch: u64,
    pub readers: Vec<(String, u32)>,
    pub changed: Millis,
}

#[derive(Debug, Clone)]
pub struct SimulatedCluster {
    pub now: Millis,
    pub settings: ReaderSettings,
    pub template: String,
    pub upgrade_held_reason: Option<String>,
    pub readers: BTreeMap<String, SimulatedDeployment>,
    /// The content of the store in the last seconds, the latest last.
    shown: Vec<BTreeMap<String, SimulatedDeployment>>,
    pub lag: usize,
    /// The template of readers that never serve.
    pub broken: Option<String>,
    pub viewers: Vec<SimulatedViewer>,
    counts: HashMap<(usize, String), u64>,
    pub videos: usize,
    pub assignments: BTreeMap<usize, SimulatedAssignment>,
    pub cordons: BTreeMap<String, CordonLevel>,
    /// The times at which the last pods of readers without a Deployment end.
    pub ending: BTreeMap<String, Millis>,
    /// The times at which readers that are gone fell silent.
    pub gone: BTreeMap<String, Millis>,
    /// Readers without a Deployment, with the time until which their processes run on.
    pub orphans: BTreeMap<String, Millis>,
    pub answers: ManagerAnswers,
    /// Percentage of moved viewers who fail.
    pub failing: u64,
    /// The reconnects: the time of arrival, the reader, and whether the viewer failed.
    reconnects: Vec<(Millis, String, bool)>,
    next: u64,
    random: u64,
    /// Number of orders carried out.
    pub ordered: usize,
}

pub const START_TIME: Millis = 1_800_000_000_000;
/// Milliseconds from a Deployment to a reader that the managers hear.
const READER_START_MS: Millis = 5_000;

pub fn video(at: usize) -> VideoId {
    VideoId::parse(&format!("v{at}")).unwrap()
}

impl SimulatedCluster {
    pub fn new(settings: ReaderSettings, seed: u64) -> Self {
        Self {
            now: START_TIME,
            settings,
            template: "t1".to_owned(),
            upgrade_held_reason: None,
            readers: BTreeMap::new(),
            shown: vec![BTreeMap::new()],
            lag: 0,
            broken: None,
            viewers: Vec::new(),
            counts: HashMap::new(),
            videos: 30,
            assignments: BTreeMap::new(),
            cordons: BTreeMap::new(),
            ending: BTreeMap::new(),
            gone: BTreeMap::new(),
            orphans: BTreeMap::new(),
            answers: ManagerAnswers::Well,
            failing: 0,
            reconnects: Vec::new(),
            next: 0,
            random: seed.wrapping_mul(2).wrapping_add(1),
            ordered: 0,
        }
    }

    /// Returns a random number below `below`.
    pub fn random_below(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 16) % below
    }

    /// Sets the number of viewers, most of whom watch the first videos.
    pub fn set_audience(&mut self, count: usize) {
        while self.viewers.len() > count {
            let at = self.random_below(self.viewers.len() as u64) as usize;
            self.viewers.swap_remove(at);
        }
        while self.viewers.len() < count {
            let (a, b) = (self.random_below(self.videos as u64), self.random_below(self.videos as u64));
            let video = (a * b) as usize / self.videos;
            self.viewers.push(SimulatedViewer { video, at: None, arrives_at: 0, moved: 0, stuck: false });
        }
    }

    pub fn change_template(&mut self, template: &str) {
        template.clone_into(&mut self.template);
        self.viewers.iter_mut().for_each(|viewer| viewer.moved = 0);
    }

    fn is_serving(&self, name: &str) -> bool {
        // The process runs on as far as the managers see.
        if self.orphans.contains_key(name) {
            return true;
        }
        let reader = self.readers.get(name);
        reader.and_then(|reader| reader.serves).is_some_and(|at| at <= self.now)
    }

    /// Counts viewers anew; viewers in transit are counted where they go.
    fn recount_viewers(&mut self) {
        self.counts.clear();
        for viewer in &self.viewers {
            if let Some(at) = &viewer.at {
                *self.counts.entry((viewer.video, at.clone())).or_default() += 1;
            }
        }
    }

    fn viewers_of(&self, video: usize, reader: &str) -> u64 {
        self.counts.get(&(video, reader.to_owned())).copied().unwrap_or(0)
    }

    /// Sends a viewer to a reader.
    fn send_viewer(&mut self, viewer: usize, to: Option<String>, arrives: Millis) {
        let viewer = &mut self.viewers[viewer];
        if let Some(from) = viewer.at.take() {
            *self.counts.entry((viewer.video, from)).or_default() -= 1;
        }
        if let Some(to) = &to {
            *self.counts.entry((viewer.video, to.clone())).or_default() += 1;
        }
        (viewer.at, viewer.arrives_at) = (to, arrives);
    }

    fn cordon_of(&self, name: &str) -> Option<CordonLevel> {
        self.cordons.get(name).copied()
    }

    fn is_open(&self, name: &str) -> bool {
        self.is_serving(name) && self.cordon_of(name).is_none()
    }

    pub fn connected_viewers(&self, name: &str) -> u64 {
        let here =
            |viewer: &&SimulatedViewer| viewer.at.as_deref() == Some(name) && viewer.arrives_at <= self.now;
        self.viewers.iter().filter(here).count() as u64
    }

    /// Returns the open reader with the fewest viewers.
    fn emptiest_reader(&self, besides: &[(String, u32)]) -> Option<String> {
        let known = self.readers.keys().chain(self.orphans.keys());
        let open = known.filter(|name| self.is_open(name));
        let open = open.filter(|name| besides.iter().all(|(reader, _)| reader != *name));
        open.min_by_key(|name| {
            let coming: u64 = (0..self.videos).map(|video| self.viewers_of(video, name)).sum();
            let assigned = self.assignments.values().filter(|it| it.readers.iter().any(|(r, _)| r == *name));
            (coming, assigned.count())
        })
        .cloned()
    }

    /// Advances the simulation by a second.
    pub fn advance_a_second(&mut self) {
        self.now += 1000;
        self.shown.push(self.readers.clone());
        let keep = self.shown.len().saturating_sub(self.lag + 1);
        self.shown.drain(..keep);
        let now = self.now;
        let ended: Vec<String> =
            self.orphans.iter().filter(|(_, until)| **until <= now).map(|(name, _)| name.clone()).collect();
        for name in ended {
            self.orphans.remove(&name);
            self.gone.insert(name, now);
        }
        // A removed reader is forgotten soon.
        let removed = |name: &str| self.cordons.get(name) == Some(&CordonLevel::Removed);
        let remembered = |name: &str| if removed(name) { 5_000 } else { 60_000 };
        self.gone = std::mem::take(&mut self.gone)
            .into_iter()
            .filter(|(name, at)| now - *at < remembered(name))
            .collect();
        self.reconnects.retain(|(at, _, _)| now - *at < 60_000);
        self.recount_viewers();
        self.drain_readers();
        self.hand_over_viewers();
        self.connect_viewers();
    }

    /// Returns whether the reader's process has ended.
    fn is_lost(&self, name: &str) -> bool {
        !self.readers.contains_key(name) && !self.orphans.contains_key(name)
    }

    /// Takes videos off readers that are gone or to be emptied, as managers do.
    fn drain_readers(&mut self) {
        let videos: Vec<usize> = self.assignments.keys().copied().collect();
        for video in videos {
            let current = self.assignments[&video].clone();
            let leaves = |name: &String| {
                self.is_lost(name) || self.cordon_of(name).is_some_and(|cordon| cordon != CordonLevel::Closed)
            };
            let mut readers: Vec<(String, u32)> =
                current.readers.iter().filter(|(name, _)| !leaves(name)).cloned().collect();
            for (_, weight) in current.readers.iter().filter(|(name, _)| leaves(name)) {
                if let Some(taker) = self.emptiest_reader(&readers) {
                    readers.push((taker, *weight));
                }
            }
            if !readers.is_empty() && readers != current.readers {
                self.assign_video(video, readers);
            }
        }
    }

    fn assign_video(&mut self, video: usize, readers: Vec<(String, u32)>) {
        self.next += 1;
        self.assignments.insert(video, SimulatedAssignment { epoch: self.next, readers, changed: self.now });
    }

    /// Returns the reader to which a viewer of the video goes: among the video's readers that accept viewers, the one
    /// with the fewest for its weight.
    fn route_viewer(&self, video: usize) -> Option<String> {
        let assigned = self.assignments.get(&video)?;
        let takes = |name: &String| {
            self.is_serving(name) && self.cordon_of(name).is_none_or(|cordon| cordon == CordonLevel::Closed)
        };
        let readers = assigned.readers.iter().filter(|(name, _)| takes(name));
        readers
            .min_by_key(|(name, weight)| self.viewers_of(video, name) * 1_000_000 / u64::from(*weight))
            .map(|(name, _)| name.clone())
    }

    /// Moves viewers whose reader does not serve their video any more, or has more than its part of it; as many as may
    /// be moved in a second.
    fn hand_over_viewers(&mut self) {
        let mut budget = self.settings.viewers_per_minute / 60;
        for at in 0..self.viewers.len() {
            let viewer = &self.viewers[at];
            let Some(reader) = viewer.at.clone().filter(|_| viewer.arrives_at <= self.now) else { continue };
            let Some(assigned) = self.assignments.get(&viewer.video) else { continue };
            let stays = assigned.readers.iter().any(|(name, _)| *name == reader)
                && !self.has_too_many(viewer.video, &reader);
            if stays || viewer.stuck || budget == 0 {
                continue;
            }
            let Some(to) = self.route_viewer(viewer.video).filter(|to| *to != reader) else { continue };
            budget -= 1;
            let failed = self.random_below(100) < self.failing;
            let arrives = self.now + 1000;
            self.send_viewer(at, Some(to.clone()), arrives);
            self.viewers[at].moved += 1;
            self.reconnects.push((arrives, to, failed));
        }
    }

    fn has_too_many(&self, video: usize, reader: &str) -> bool {
        let assigned = &self.assignments[&video].readers;
        let weights: u64 = assigned.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let Some((_, weight)) = assigned.iter().find(|(name, _)| name == reader) else { return true };
        let readers = self.readers.keys().chain(self.gone.keys());
        let all: u64 = readers.map(|reader| self.viewers_of(video, reader)).sum();
        let here = self.viewers_of(video, reader);
        let part = (all * u64::from(*weight)).div_ceil(weights);
        assigned.len() > 1 && here > part + (part / 10).max(10)
    }

    /// Connects viewers who have no reader, or whose reader is gone.
    fn connect_viewers(&mut self) {
        for at in 0..self.viewers.len() {
            let viewer = &self.viewers[at];
            // No viewer reaches a process whose Service is gone.
            let lost = viewer.at.as_ref().is_none_or(|name| {
                !self.is_serving(name)
                    || (self.orphans.contains_key(name) && viewer.arrives_at > self.now - 1000)
            });
            if !lost {
                continue;
            }
            let video = viewer.video;
            if !self.assignments.contains_key(&video)
                && let Some(reader) = self.emptiest_reader(&[])
            {
                self.assign_video(video, vec![(reader, 1)]);
            }
            let to = self.route_viewer(video);
            // The viewer is routed now, and arrives a little later.
            let arrives = self.now + 1000 * (1 + self.random_below(2) as i64);
            self.send_viewer(at, to, arrives);
        }
    }

    /// Returns what a leader observes.
    pub fn seen(&mut self) -> RoundInput {
        let shown = self.shown.first().cloned().unwrap_or_default();
        let reader = |(name, it): (&String, &SimulatedDeployment)| {
            let serves = it.serves.is_some_and(|at| at - 1000 <= self.now);
            ObservedReader {
                name: name.clone(),
                uid: it.uid.clone(),
                template: it.template.clone(),
                created: it.created,
                deleting: false,
                drain: it.drain,
                pod: Some(ReaderPod {
                    ready: serves,
                    since: it.serves.filter(|_| serves).unwrap_or(it.created),
                    terminating: false,
                    unschedulable: false,
                    node: None,
                    zone: None,
                    reason: None,
                }),
                own: serves.then(|| ReaderSelfReport { viewers: self.connected_viewers(name), at: self.now }),
            }
        };
        RoundInput {
            now: self.now,
            cluster: "x".to_owned(),
            settings: self.settings.clone(),
            template: self.template.clone(),
            held: self.upgrade_held_reason.clone(),
            readers: shown.iter().map(reader).collect(),
            orphans: self
                .orphans
                .iter()
                .chain(&self.ending)
                .filter(|(_, end)| **end > self.now)
                .map(|(name, _)| (name.clone(), false))
                .collect(),
            approved: std::collections::BTreeSet::new(),
            managers: self.manager_reports(),
        }
    }

    fn manager_reports(&self) -> Vec<ManagerReport> {
        let heard = |manager: &str, load: ClusterLoad| ManagerReport {
            manager: manager.to_owned(),
            at: self.now - 200,
            load,
        };
        let load = self.load();
        let mut other = load.clone();
        match self.answers {
            ManagerAnswers::Silent => {
                return vec![ManagerReport { at: self.now - 60_000, ..heard("a", load) }];
            }
            ManagerAnswers::Blind => return vec![heard("a", ClusterLoad { fresh: false, ..load })],
            ManagerAnswers::Holding => other.hold = Some("2 of 3 readers seem gone".to_owned()),
            ManagerAnswers::Contradicting => {
                other.readers.iter_mut().for_each(|reader| reader.viewers = reader.viewers * 3 + 50);
            }
            ManagerAnswers::Well => {}
        }
        vec![heard("a", load), heard("b", other)]
    }

    pub fn load(&self) -> ClusterLoad {
        let mut here: BTreeMap<&str, BTreeMap<usize, u64>> = BTreeMap::new();
        let (mut all, mut moving) = (vec![0; self.videos], vec![false; self.videos]);
        for viewer in &self.viewers {
            all[viewer.video] += 1;
            moving[viewer.video] |= viewer.arrives_at > self.now;
            if let Some(at) = viewer.at.as_deref().filter(|_| viewer.arrives_at <= self.now) {
                *here.entry(at).or_default().entry(viewer.video).or_default() += 1;
            }
        }
        let known = self.readers.keys().chain(self.orphans.keys()).filter(|name| self.is_serving(name));
        let known = known.chain(self.gone.keys());
        let cordon = |(name, cordon): (&String, &CordonLevel)| CordonRequest {
            reader: ReaderId::parse(name).unwrap(),
            cordon: Some((*cordon).into()),
            why: String::new(),
        };
        let assigned = self.assignments.iter().map(|(at, it)| AssignedVideoState {
            videoid: video(*at),
            epoch: it.epoch,
            readers: it
                .readers
                .iter()
                .map(|(name, weight)| ReaderShare { reader: ReaderId::parse(name).unwrap(), weight: *weight })
                .collect(),
            viewers: all[*at],
            changed_ms: (self.now - it.changed) as u64,
            moving: moving[*at],
        });
        ClusterLoad {
            readers: known.map(|name| self.state(name, &here)).collect(),
            videos: self.assignments.len() as u64,
            assignments: Some(assigned.collect()),
            fresh: true,
            viewers_per_minute: self.settings.viewers_per_minute,
            cordons: self.cordons.iter().map(cordon).collect(),
            ..ClusterLoad::default()
        }
    }

    fn state(&self, name: &str, here: &BTreeMap<&str, BTreeMap<usize, u64>>) -> ReaderState {
        let is_gone = self.is_lost(name);
        let videos = here.get(name).into_iter().flatten().map(|(at, viewers)| (video(*at), *viewers));
        let videos: Vec<(VideoId, u64)> = videos.collect();
        let came = || self.reconnects.iter().filter(|(at, reader, _)| reader == name && *at <= self.now);
        ReaderState {
            id: ReaderId::parse(name).unwrap(),
            public_url: String::new(),
            internal_url: String::new(),
            state: if is_gone { ReaderStatus::Gone } else { ReaderStatus::Alive }.into(),
            cordon: self.cordon_of(name).map(Into::into),
            silent_ms: if is_gone { 10_000 } else { 500 },
            fresh: !is_gone,
            unreachable: false,
            drain_overdue: false,
            grace_ms: 0,
            viewers: videos.iter().map(|(_, viewers)| viewers).sum(),
            zone: None,
            viewers_by_zone: ZonedViewers::default(),
            capacity: self.settings.viewers_per_reader,
            assigned: self
                .assignments
                .values()
                .filter(|it| it.readers.iter().any(|(reader, _)| reader == name))
                .count() as u64,
            highest_epoch: self.next,
            reconnects: came().count() as u64,
            reconnect_errors: came().filter(|(_, _, failed)| *failed).count() as u64,
            videos,
        }
    }

    /// Carries a step out.
    pub fn apply_step(&mut self, step: &ReaderStep) {
        match step {
            ReaderStep::CreateReader { name } => self.create_reader(name),
            ReaderStep::Annotate { name, uid, drain } => {
                if let Some(reader) = self.readers.get_mut(name).filter(|reader| reader.uid == *uid) {
                    reader.drain = *drain;
                }
            }
            ReaderStep::Cordon { reader, cordon, .. } if self.answers != ManagerAnswers::Silent => {
                match cordon {
                    Some(cordon) => drop(self.cordons.insert(reader.to_string(), *cordon)),
                    None => drop(self.cordons.remove(reader.as_str())),
                }
            }
            ReaderStep::Cordon { .. } => {}
            ReaderStep::DeleteReader { name, uid, .. } => {
                if self.readers.get(name).is_some_and(|reader| reader.uid == *uid) {
                    let lingers = self.random_below(20) as Millis * 1000;
                    if self.is_serving(name) && lingers > 0 {
                        self.readers.remove(name);
                        self.orphans.insert(name.clone(), self.now + lingers);
                    } else {
                        self.lose_reader(name);
                    }
                }
            }
            ReaderStep::Moves { moves } => moves.iter().for_each(|order| self.apply_move(order)),
        }
    }

    fn create_reader(&mut self, name: &str) {
        if self.readers.contains_key(name) {
            return;
        }
        let ends = self.ending.remove(name).unwrap_or(self.now);
        assert!(
            ends <= self.now,
            "{name} is there twice: its old pod ends in {} s",
            (ends - self.now) / 1000
        );
        self.next += 1;
        let serves = (self.broken.as_ref() != Some(&self.template)).then_some(self.now + READER_START_MS);
        let reader = SimulatedDeployment {
            uid: format!("uid-{}", self.next),
            template: self.template.clone(),
            created: self.now,
            drain: None,
            serves,
        };
        self.readers.insert(name.to_owned(), reader);
        self.gone.remove(name);
    }

    /// Removes a reader's Deployment and its process.
    pub fn lose_reader(&mut self, name: &str) {
        if self.is_serving(name) {
            self.gone.insert(name.to_owned(), self.now);
        }
        if self.readers.remove(name).is_some() {
            // A grace period may be ten minutes; the managers have forgotten the reader by then.
            let takes = 1000 * self.random_below(600) as i64;
            self.ending.insert(name.to_owned(), self.now + takes);
        }
    }

    fn apply_move(&mut self, order: &MoveRequest) {
        let at: usize = order.videoid.as_str()[1..].parse().unwrap();
        if self.assignments.get(&at).is_none_or(|it| it.epoch != order.expected) {
            return;
        }
        let readers: Vec<(String, u32)> =
            order.readers.iter().map(|share| (share.reader.to_string(), share.weight)).collect();
        let had = &self.assignments[&at].readers;
        let fits =
            |(name, _): &(String, u32)| self.is_open(name) || had.iter().any(|(reader, _)| reader == name);
        if !readers.is_empty() && readers.iter().all(fits) {
            self.assign_video(at, readers);
            self.ordered += 1;
        }
    }
}
