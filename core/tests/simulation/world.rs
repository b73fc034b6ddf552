//! Everything together, what goes wrong in it, and the checks that need to see all of it.

use std::collections::BTreeMap;

use crate::checks::Counts;
use crate::manager::Manager;
use crate::net::{Happening, Ms, Msg, Net, Node, Timer};
use crate::planner::Planner;
use crate::reader::{GRACE, Reader};
use crate::store::{Archive, Store};
use crate::viewer::Viewer;

/// Faults happen up to then; orders and comments go on a little longer.
const FAULTS_END: Ms = 22_000;
const LAST_ORDER_AT: Ms = 24_000;
const LAST_COMMENT_AT: Ms = 26_000;
const SIMULATION_END: Ms = 38_000;
/// Nobody begins to leave later than this: by the end its viewers have their stream elsewhere.
const LAST_LEAVE_AT: Ms = SIMULATION_END - 6_000;
/// Viewers of the first video in every so many-th seed.
const CROWD_VIEWERS: usize = 60;
const CROWD_SEED_INTERVAL: u64 = 16;
/// How long a process that starves may stand still at once: what is longer is a break.
const MAX_STARVED_MS: Ms = 1_400;
/// How old what a manager knows of a reader may be: a heartbeat, its way and a reader that is restarted in between.
const MAX_VIEW_AGE_MS: Ms = 6_000;

pub struct World {
    net: Net,
    store: Store,
    archive: Archive,
    managers: Vec<Manager>,
    readers: Vec<Reader>,
    viewers: Vec<Viewer>,
    planners: Vec<Planner>,
    /// When a reader was last seen to hold a video ready, or was last (re)started.
    ready: BTreeMap<(usize, usize), Ms>,
    down: Vec<Node>,
    /// When each reader last came back.
    back: Vec<Ms>,
}

impl World {
    pub fn new(seed: u64, traced: bool) -> Self {
        let mut net = Net::new(seed, 3, 4 + (seed % 3) as usize, 2 + (seed % 2) as usize, traced);
        let reach = net.rng.between(5, 30);
        (net.checks.heads, net.checks.reach) = (vec![0; net.videos.len()], reach);
        let names = net.readers.clone();
        let few = net.rng.between(8, 20) as usize;
        // Below so many on one video no reader has so much above its share that it sheds any.
        let crowd = seed.is_multiple_of(CROWD_SEED_INTERVAL);
        let viewers = if crowd { CROWD_VIEWERS } else { few };
        let watched = |at: usize| if crowd && at >= few { 0 } else { [0, 0, 1, 1, 2][at % 5] };
        let mut world = Self {
            store: Store::default(),
            archive: Archive::new(net.videos.len(), names.len(), reach, LAST_COMMENT_AT),
            managers: (0..net.managers).map(|at| Manager::new(at, names.clone())).collect(),
            readers: names.iter().enumerate().map(|(at, id)| Reader::new(at, id.clone(), reach)).collect(),
            viewers: (0..viewers).map(|at| Viewer::new(at, watched(at), at % 2 == 1)).collect(),
            planners: (0..2).map(Planner::new).collect(),
            ready: BTreeMap::new(),
            down: Vec::new(),
            back: vec![0; names.len()],
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

    /// Runs to the end, or to the first violation.
    pub fn run(&mut self) -> Result<Counts, String> {
        while let Some(happening) = self.net.next(SIMULATION_END) {
            self.net.checks.counts.events += 1;
            self.handle_event(happening);
            self.check_closing();
            if let Some(violation) = self.net.checks.violation.take() {
                return Err(format!("at {} ms: {violation}", self.net.now));
            }
        }
        self.check_end();
        self.net.checks.violation.take().map_or(Ok(self.net.checks.counts), Err)
    }

    pub fn trace(&mut self) -> Vec<String> {
        self.net.take_trace()
    }

    fn handle_event(&mut self, happening: Happening) {
        let net = &mut self.net;
        match happening {
            Happening::Message { from, from_inc, to, msg, .. } => {
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
            Happening::Timer { node, timer: Timer::Restart, .. } => self.restart_node(node),
            Happening::Timer { node, timer, .. } => match node {
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

    fn note_ready_videos(&mut self, reader: usize) {
        for video in 0..self.net.videos.len() {
            if self.readers[reader].is_ready(video) {
                self.ready.insert((reader, video), self.net.now);
            }
        }
    }

    /// No viewer is closed for a move before the reader it goes to is warm.
    fn check_closing(&mut self) {
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

    fn cause_fault(&mut self, timer: Timer) {
        if timer == Timer::Calm {
            self.net.weather.lost = 0;
            return;
        }
        let next = self.net.rng.between(500, 4_000);
        if self.net.now + next < FAULTS_END {
            self.net.timer(Node::Chaos, next, timer);
        }
        let readers_down = self.down.iter().filter(|node| matches!(node, Node::Reader(_))).count();
        let managers_down = self.down.len() - readers_down;
        let leaving = self.readers.iter().filter(|reader| reader.is_leaving()).count();
        let away = self.store.is_away(self.net.now);
        let reader = self.net.rng.index(self.readers.len());
        let spare = self.readers.len() - readers_down - leaving > 2;
        match self.net.rng.below(20) {
            0..=3 if readers_down == 0 && spare => self.stop_reader(reader, 20_000),
            4 if readers_down <= 1 && spare => self.stop_reader(reader, 2_500),
            5 | 6 if leaving == 0 && spare && self.net.is_up(Node::Reader(reader)) => {
                self.drain_reader(reader);
            }
            7 if self.net.cut.is_none_or(|(_, until)| until < self.net.now) => self.stop_manager(),
            8 | 9 => {
                let behind = self.net.rng.chance(700).then(|| self.net.rng.index(12));
                self.store.fail_over(behind);
                self.net.checks.counts.failovers += 1;
                self.net.trace(|| format!("the store fails over, {behind:?} changes behind"));
            }
            10 if !away => {
                let (from, to) = (self.net.now, self.net.now + self.net.rng.between(500, 4_000));
                self.store.away_until = to;
                self.net.checks.away.push((from, to));
                self.net.trace(|| format!("the store is away until {to}"));
            }
            // A manager that does not hear of what happens.
            11 | 12 if managers_down == 0 => {
                let manager = self.net.rng.index(self.managers.len());
                let until = self.net.now + self.net.rng.between(1_000, 6_000);
                self.net.cut = Some((Node::Manager(manager), until));
                self.net.trace(|| format!("manager {manager} is cut off from the store until {until}"));
            }
            14 if leaving == 0 && readers_down == 0 && spare => self.remove_reader(reader, true),
            15 if leaving == 0 && readers_down == 0 && spare => self.remove_reader(reader, false),
            16 | 17 if leaving > 0 && managers_down == 0 => self.replace_managers(),
            18 => self.end_empty_leaver(),
            13 if !away && self.net.pauses.iter().all(|it| it.2 < self.net.now) => self.starve_managers(),
            19 if !away && self.net.pauses.iter().all(|it| it.2 < self.net.now) => self.stop_machine(),
            _ => {}
        }
    }

    /// A machine with too much to do: one manager stands still for long, or all managers and readers do again and again.
    fn starve_managers(&mut self) {
        let now = self.net.now;
        if self.net.rng.chance(300) {
            let manager = Node::Manager(self.net.rng.index(self.managers.len()));
            let until = (now + self.net.rng.between(3_000, 20_000)).min(FAULTS_END + 1_000);
            self.net.pauses.push((manager, now, until));
            self.net.checks.counts.managers_paused += 1;
            return;
        }
        let until = (now + self.net.rng.between(4_000, 10_000)).min(FAULTS_END + 1_000);
        let managers = (0..self.managers.len()).map(Node::Manager);
        for node in managers.chain((0..self.readers.len()).map(Node::Reader)) {
            let mut at = now + self.net.rng.below(500);
            while at < until {
                let paused = self.net.rng.between(300, MAX_STARVED_MS);
                self.net.pauses.push((node, at, at + paused));
                at += paused + self.net.rng.between(5, 100);
            }
        }
        self.net.checks.away.push((now, until + MAX_STARVED_MS));
        self.net.checks.counts.managers_starved += 1;
        self.net.trace(|| format!("all starve until {until}"));
    }

    /// The machine on which everything runs but the viewers stops for a while.
    fn stop_machine(&mut self) {
        let (from, to) = (self.net.now, (self.net.now + 5_000).min(FAULTS_END + 1_000));
        let managers = (0..self.managers.len()).map(Node::Manager);
        let all =
            managers.chain((0..self.readers.len()).map(Node::Reader)).chain([Node::Store, Node::Archive]);
        self.net.pauses.extend(all.map(|node| (node, from, to)));
        self.net.checks.away.push((from, to));
        self.net.checks.counts.machine_stops += 1;
        self.net.trace(|| format!("the machine stops until {to}"));
    }

    /// The operator takes a reader away: first its word to the managers (or somebody else did it, without one), then its
    /// address leads nowhere, some seconds later its process is told to end, and then it does.
    fn remove_reader(&mut self, reader: usize, said: bool) {
        if !self.net.is_up(Node::Reader(reader)) || self.readers[reader].is_leaving() {
            return;
        }
        self.net.trace(|| format!("r{reader} is removed, said: {said}"));
        if said {
            self.net.checks.counts.removals += 1;
            self.store.removed.insert(reader);
        } else {
            self.net.checks.counts.unreachable += 1;
            // Whatever led to it is gone, and its viewers' connections with it; it goes on reporting itself.
            self.end_reader(reader);
        }
        self.net.unresolved.insert(reader);
        self.down.push(Node::Reader(reader));
        let lingers = self.net.rng.between(500, if said { 9_000 } else { 16_000 });
        let lingers = lingers.min(LAST_LEAVE_AT - self.net.now);
        self.net.timer(Node::Reader(reader), lingers, Timer::Leave);
        self.net.timer(Node::Reader(reader), lingers + GRACE, Timer::Restart);
    }

    /// All managers are replaced, one soon after the other.
    fn replace_managers(&mut self) {
        self.net.checks.counts.managers_replaced += 1;
        for at in 0..self.managers.len() {
            self.stop_node_for(Node::Manager(at), 600);
        }
    }

    /// The process of a reader that leaves ends as soon as it is empty; its record says nothing of that.
    fn end_empty_leaver(&mut self) {
        let empty = (0..self.readers.len()).find(|at| {
            let reader = &self.readers[*at];
            self.net.is_up(Node::Reader(*at)) && reader.is_leaving() && reader.drained
        });
        if let Some(at) = empty {
            self.net.checks.counts.early_ends += 1;
            self.net.trace(|| format!("r{at} ends"));
            self.net.stop(Node::Reader(at));
        }
    }

    fn stop_manager(&mut self) {
        let down = self.down.iter().filter(|node| matches!(node, Node::Manager(_))).count();
        let node = Node::Manager(self.net.rng.index(self.managers.len()));
        if down + 1 < self.managers.len() && self.net.is_up(node) {
            self.net.checks.counts.manager_crashes += 1;
            self.stop_node_for(node, 5_000);
        }
    }

    fn stop_reader(&mut self, reader: usize, for_at_most: Ms) {
        let node = Node::Reader(reader);
        // Where one dies again and again, no bound can hold for its viewers.
        let just_back = self.back[reader] > 0 && self.net.now - self.back[reader] < 8_000;
        if just_back || !self.net.is_up(node) || self.readers[reader].is_leaving() {
            return;
        }
        self.net.checks.counts.reader_crashes += 1;
        self.end_reader(reader);
        self.stop_node_for(node, for_at_most);
    }

    fn stop_node_for(&mut self, node: Node, for_at_most: Ms) {
        self.net.trace(|| format!("{node:?} dies"));
        self.net.stop(node);
        self.down.push(node);
        let back = self.net.rng.between(300, for_at_most);
        let back = back.min((FAULTS_END + 1_000).saturating_sub(self.net.now).max(300));
        self.net.timer(node, back, Timer::Restart);
    }

    fn drain_reader(&mut self, reader: usize) {
        self.net.trace(|| format!("r{reader} is told to leave"));
        self.net.checks.counts.drains += 1;
        self.readers[reader].leave(&mut self.net);
        // By then it exits, empty or not, and comes back after a while.
        self.down.push(Node::Reader(reader));
        self.net.timer(Node::Reader(reader), GRACE, Timer::Restart);
    }

    /// The kernel tells most peers of a dead process; a dead host tells nobody.
    fn end_reader(&mut self, reader: usize) {
        let told = self.net.rng.chance(700);
        let ends: Vec<_> =
            self.readers[reader].all_seats().map(|(conn, seat)| (conn, seat.viewer.0)).collect();
        for (conn, viewer) in ends.into_iter().filter(|_| told) {
            let at = self.net.now + self.net.delay() + 600;
            self.net.deliver(at, Node::Reader(reader), viewer, None, Msg::Reset { conn });
        }
    }

    /// What was down comes back; a reader that was leaving goes, and another takes its name; a viewer arrives.
    fn restart_node(&mut self, node: Node) {
        self.down.retain(|down| *down != node);
        self.net.trace(|| format!("{node:?} starts"));
        match node {
            Node::Reader(at) => {
                if self.net.is_up(node) {
                    self.end_reader(at);
                    self.net.stop(node);
                }
                self.net.unresolved.remove(&at);
                self.store.removed.remove(&at);
                for subscribers in &mut self.archive.subscribers {
                    subscribers[at] = false;
                }
                self.net.start(node);
                self.back[at] = self.net.now;
                let id = self.net.readers[at].clone();
                self.readers[at] = Reader::new(at, id, self.archive.reach);
                self.readers[at].boot(&mut self.net);
            }
            Node::Manager(at) => {
                self.net.start(node);
                self.managers[at] = Manager::new(at, self.net.readers.clone());
                self.managers[at].boot(&mut self.net);
            }
            Node::Viewer(at) => self.viewers[at].boot(&mut self.net),
            _ => {}
        }
    }

    /// When all is calm, everybody agrees, and everybody has everything.
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
            let head = self.net.checks.heads[video];
            for viewer in self.viewers.iter().filter(|viewer| viewer.video == video) {
                viewer.check_end(&mut self.net, head);
                let at = viewer.watches_at().map(|at| self.net.readers[at].clone());
                let fits = at.as_ref().is_some_and(|at| stored.share(at).is_some());
                self.net
                    .checks
                    .require(fits, || format!("at the end v{video} is watched at {at:?} under {stored:?}"));
            }
        }
    }
}
