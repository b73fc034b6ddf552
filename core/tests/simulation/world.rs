//! The simulated world: all nodes together, the faults in it, and the checks that need to see all of it.

use std::collections::BTreeMap;

use crate::checks::Counts;
use crate::manager::Manager;
use crate::net::{Ms, Msg, Net, Node, SimulationEvent, Timer};
use crate::planner::RandomPlanner;
use crate::reader::Reader;
use crate::store::{Archive, Store};
use crate::viewer::Viewer;

mod faults;

/// The time up to which faults happen, in milliseconds; orders and comments go on a little longer.
const FAULTS_END: Ms = 22_000;
const LAST_ORDER_AT: Ms = 24_000;
const LAST_COMMENT_AT: Ms = 26_000;
const SIMULATION_END: Ms = 38_000;
/// The time that a viewer who is sent to another reader takes to watch there if nothing is lost, in milliseconds: its
/// pause, and the ways of a question, an answer, a request and a greeting, each of which may be slow.
const LAST_MOVE_MS: Ms = 4_000;
/// The number of viewers in a run with a crowd; a crowd comes to the first video in one of `CROWD_SEED_INTERVAL`
/// seeds.
const CROWD_VIEWERS: usize = 60;
const CROWD_SEED_INTERVAL: u64 = 16;
/// The greatest age of a manager's knowledge of a reader, in milliseconds: a heartbeat, its way, and a restart of the
/// reader in between.
const MAX_VIEW_AGE_MS: Ms = 6_000;

/// The greatest age of the room that a reader knows of when it sends viewers away, in milliseconds: a silent reader is
/// believed for three seconds, and so is an answer to a heartbeat.
const MAX_ROOM_AGE_MS: Ms = 6_500;
/// The time in milliseconds for which a manager must have been able to observe a dead reader before the reader has to
/// be replaced: as long as managers promise.
const ABLE_AFTER_MS: Ms = 5_000;
/// The interval of checks whether any manager is able to act, in milliseconds: such a check takes longer than most
/// events.
const LOOK_AT_MANAGERS_MS: Ms = 100;

pub struct World {
    net: Net,
    store: Store,
    archive: Archive,
    managers: Vec<Manager>,
    readers: Vec<Reader>,
    viewers: Vec<Viewer>,
    planners: Vec<RandomPlanner>,
    /// The time at which each reader was last seen to have each video ready, by reader and video.
    ready: BTreeMap<(usize, usize), Ms>,
    down: Vec<Node>,
    /// The time at which each reader last came back.
    back: Vec<Ms>,
    /// The time at which a reader that accepts viewers was last seen to have room.
    room_seen: Ms,
    /// The time since which no manager has been able to act; `None` while one is.
    unable_since: Option<Ms>,
    /// The time of the last check whether a manager is able to act.
    looked_at_managers: Ms,
}

impl World {
    pub fn new(seed: u64, traced: bool) -> Self {
        let mut net = Net::new(seed, 3, 4 + (seed % 3) as usize, 2 + (seed % 2) as usize, traced);
        let reach = net.rng.between(5, 30);
        (net.checks.heads, net.checks.reach) = (vec![0; net.videos.len()], reach);
        let names = net.readers.clone();
        let few = net.rng.between(8, 20) as usize;
        // With fewer viewers on one video, no reader is so far above its share that it sheds any.
        let crowd = seed.is_multiple_of(CROWD_SEED_INTERVAL);
        let viewers = if crowd { CROWD_VIEWERS } else { few };
        let watched = |at: usize| if crowd && at >= few { 0 } else { [0, 0, 1, 1, 2][at % 5] };
        let mut world = Self {
            store: Store::default(),
            archive: Archive::new(net.videos.len(), names.len(), reach, LAST_COMMENT_AT),
            managers: (0..net.managers).map(|at| Manager::new(&net, at)).collect(),
            readers: names.iter().enumerate().map(|(at, id)| Reader::new(at, id.clone(), reach)).collect(),
            viewers: (0..viewers).map(|at| Viewer::new(at, watched(at), at % 2 == 1)).collect(),
            planners: (0..2).map(RandomPlanner::new).collect(),
            ready: BTreeMap::new(),
            down: Vec::new(),
            back: vec![0; names.len()],
            room_seen: 0,
            unable_since: None,
            looked_at_managers: 0,
            net,
        };
        world.start_all();
        world
    }

    fn start_all(&mut self) {
        let net = &mut self.net;
        self.managers.iter_mut().for_each(|manager| manager.boot(net));
        self.readers.iter_mut().for_each(|reader| reader.boot(net));
        self.planners.iter_mut().for_each(|planner| planner.boot(net));
        for video in 0..net.videos.len() {
            let after = net.rng.between(200, 9_000);
            net.timer(Node::Archive, after, Timer::Comment(video));
        }
        for viewer in 0..self.viewers.len() {
            let after = net.rng.between(1_500, 6_000);
            net.timer(Node::Viewer(viewer), after, Timer::Restart);
        }
        net.timer(Node::Chaos, 3_000, Timer::Hiccup);
        net.timer(Node::Chaos, FAULTS_END, Timer::Calm);
    }

    /// Runs to the end, or to the first violation, which is the error.
    pub fn run(&mut self) -> Result<Counts, String> {
        while let Some(happening) = self.net.next(SIMULATION_END) {
            self.net.checks.counts.events += 1;
            self.handle_event(happening);
            self.check_closing();
            self.note_able();
            if let Some(violation) = self.net.checks.violation.take() {
                return Err(format!("at {} ms: {violation}", self.net.now));
            }
        }
        self.check_end();
        self.check_viewers();
        self.net.checks.violation.take().map_or(Ok(self.net.checks.counts), Err)
    }

    pub fn trace(&mut self) -> Vec<String> {
        self.net.take_trace()
    }

    fn handle_event(&mut self, happening: SimulationEvent) {
        let net = &mut self.net;
        match happening {
            SimulationEvent::Message { from, from_inc, to, msg, .. } => {
                if !matches!(msg, Msg::Sent { .. } | Msg::Publish { .. }) {
                    net.trace(|| format!("{from:?} -> {to:?}: {msg:?}"));
                }
                let sender = (from, from_inc);
                match to {
                    Node::Store => self.store.on(net, sender, msg),
                    Node::Archive => self.archive.on(net, sender, msg),
                    Node::Manager(at) => self.managers[at].on(net, sender, msg),
                    Node::Reader(at) => self.readers[at].on(net, sender, msg),
                    Node::Viewer(at) => self.viewers[at].on(net, sender, msg),
                    Node::Planner(at) => self.planners[at].on(net, msg),
                    Node::Chaos => {}
                }
                if let Node::Reader(at) = to {
                    self.note_ready_videos(at);
                }
            }
            SimulationEvent::Timer { node, timer: Timer::Restart, .. } => self.restart_node(node),
            SimulationEvent::Timer { node, timer, .. } => match node {
                Node::Archive => self.archive.on_timer(net, timer),
                Node::Manager(at) => self.managers[at].on_timer(net, timer),
                Node::Reader(at) => {
                    if timer == Timer::Leave {
                        net.trace(|| format!("r{at} is told to end"));
                        self.readers[at].leave(net);
                    }
                    self.readers[at].on_timer(net, timer);
                    self.note_ready_videos(at);
                }
                Node::Viewer(at) => self.viewers[at].on_timer(net, timer),
                Node::Planner(at) => self.planners[at].on_timer(net, LAST_ORDER_AT),
                Node::Chaos => self.cause_fault(timer),
                Node::Store => {}
            },
        }
    }

    /// Notes the times in which no manager has been up, running and connected to the store for long enough: then no
    /// viewer can get another reader.
    fn note_able(&mut self) {
        let now = self.net.now;
        if now < self.looked_at_managers + LOOK_AT_MANAGERS_MS {
            return;
        }
        self.looked_at_managers = now;
        let is_able = (0..self.managers.len()).any(|at| self.net.is_able_for(at, ABLE_AFTER_MS));
        match (is_able, self.unable_since) {
            (true, _) => self.unable_since = None,
            (false, None) => self.unable_since = Some(now),
            (false, Some(since)) => {
                let away = &mut self.net.checks.away;
                match away.iter_mut().find(|it| it.0 == since) {
                    Some(it) => it.1 = it.1.max(now),
                    None => away.push((since, now)),
                }
            }
        }
    }

    fn note_ready_videos(&mut self, reader: usize) {
        for video in 0..self.net.videos.len() {
            if self.readers[reader].is_ready(video) {
                self.ready.insert((reader, video), self.net.now);
            }
        }
    }

    /// Checks that no viewer is closed for a move before the target reader is warm.
    fn check_closing(&mut self) {
        self.note_room();
        let closing = std::mem::take(&mut self.net.checks.closing).into_iter();
        let given = std::mem::take(&mut self.net.checks.given).into_iter();
        let sent = closing.map(|it| (it, "a viewer is sent to it"));
        for ((video, reader), why) in sent.chain(given.map(|it| (it, "it is given the video"))) {
            let last = self.ready.get(&(reader, video)).copied();
            let (now, up) = (self.net.now, self.readers[reader].is_ready(video));
            self.net.checks.require(up || last.is_some_and(|last| now - last <= MAX_VIEW_AGE_MS), || {
                format!("r{reader} does not hold v{video} (last: {last:?}), and {why}")
            });
        }
    }

    /// Notes when readers last had room, and checks that no reader that is shutting down sends viewers away before its
    /// last phase while no other reader has room.
    fn note_room(&mut self) {
        let now = self.net.now;
        let has_room = |at: &usize| {
            let reader = &self.readers[*at];
            // The reader that is about to leave is no place for its own viewers.
            let leaves = reader.is_leaving() || self.net.is_the_roomy_one(*at);
            !leaves && self.net.is_up(Node::Reader(*at)) && reader.viewers() < self.net.capacity(*at)
        };
        if (0..self.readers.len()).any(|at| has_room(&at)) {
            self.room_seen = now;
        }
        for reader in std::mem::take(&mut self.net.checks.sent_away) {
            let seen = self.room_seen;
            self.net.checks.require(now - seen <= MAX_ROOM_AGE_MS, || {
                format!("r{reader} leaves and sends a viewer away, and nobody has had room since {seen}")
            });
        }
    }

    /// Checks at the end, when all is calm, that all managers agree with the store.
    fn check_end(&mut self) {
        for video in 0..self.net.videos.len() {
            let Some(stored) = self.store.assignments().get(&video).cloned() else {
                self.net.checks.fail(|| format!("at the end nobody serves v{video}"));
                continue;
            };
            let id = self.net.videos[video].clone();
            for manager in &self.managers {
                let believes = manager.believes(&id).cloned();
                self.net.checks.require(
                    believes.as_ref() == Some(&stored) && !manager.coordinator.is_moving(&id),
                    || {
                        format!(
                            "at the end a manager believes {believes:?} of v{video}; in force is {stored:?}"
                        )
                    },
                );
            }
        }
    }

    /// Checks at the end, when all is calm, that each viewer watches at a reader of its video and has every comment.
    /// Moves for evenness still go on, so a viewer may be on its way at the very end: the run continues for as long as
    /// a move takes, until each viewer was seen at its reader.
    fn check_viewers(&mut self) {
        let mut late: Vec<usize> = (0..self.viewers.len()).collect();
        loop {
            late.retain(|at| !self.has_everything(*at));
            if late.is_empty() {
                return;
            }
            let Some(happening) = self.net.next(SIMULATION_END + LAST_MOVE_MS) else { break };
            self.handle_event(happening);
            self.check_closing();
        }
        for at in late {
            let (viewer, stored) = (&self.viewers[at], self.store.assignments());
            let head = self.net.checks.heads[viewer.video];
            let why = format!("{} under {:?}", viewer.describe(head), stored.get(&viewer.video));
            self.net.checks.fail(|| format!("at the end {why}"));
        }
    }

    /// Whether a viewer watches at one of its video's readers and has all comments.
    fn has_everything(&self, at: usize) -> bool {
        let viewer = &self.viewers[at];
        let stored = self.store.assignments().get(&viewer.video);
        let reader = viewer.watches_at().map(|at| &self.net.readers[at]);
        let fits = stored.zip(reader).is_some_and(|(stored, reader)| stored.share_of(reader).is_some());
        fits && viewer.last == Some(self.net.checks.heads[viewer.video])
    }
}
