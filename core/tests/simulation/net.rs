//! Virtual time, a network that loses, delays, repeats and reorders messages, and the processes that are up.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::{Duration, Instant};

use liverank_core::handover::{AssignedReaders, HandOver, HeldVideo, ReaderShare};
use liverank_core::liveness::ReaderReport;
use liverank_core::{ReaderId, VideoId};

use crate::checks::Checks;
use crate::rng::Rng;

/// The delay above which a message counts as slow, in milliseconds.
const SLOW_MS: Ms = 20;

/// The time after which a message that the network lost is sent again, as TCP does, where its sender waits for nothing
/// else meanwhile, in milliseconds.
const SENT_AGAIN_AFTER: Ms = 200;

/// The number of viewers that a reader accepts: more than there are.
pub const CAPACITY: u64 = 1_000;

/// Milliseconds since the start of the run.
pub type Ms = u64;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Node {
    Store,
    Archive,
    Manager(usize),
    Reader(usize),
    Viewer(usize),
    Planner(usize),
    Chaos,
}

/// A reader's heartbeat.
#[derive(Debug, Clone)]
pub struct Record {
    pub id: ReaderId,
    /// A number that is greater the later the reader's process began.
    pub incarnation: u64,
    /// The number of the heartbeat: a process counts its heartbeats up, from a random number.
    pub beat: u64,
    pub draining: bool,
    /// The number of viewers that the reader accepts.
    pub capacity: u64,
    pub highest_epoch: u64,
    pub held: Vec<HeldVideo>,
}

impl Record {
    /// Returns the number of the reader.
    pub fn reader(&self) -> usize {
        index(self.id.as_str())
    }
}

impl ReaderReport for Record {
    fn reader_id(&self) -> &ReaderId {
        &self.id
    }

    fn beat(&self) -> u64 {
        self.beat
    }

    fn incarnation(&self) -> u64 {
        self.incarnation
    }

    fn is_leaving(&self) -> bool {
        self.draining
    }

    fn viewers(&self) -> u64 {
        self.held.iter().map(|held| held.viewers).sum()
    }

    fn highest_epoch(&self) -> u64 {
        self.highest_epoch
    }

    fn held_videos(&self) -> &[HeldVideo] {
        &self.held
    }

    fn held_videos_mut(&mut self) -> &mut Vec<HeldVideo> {
        &mut self.held
    }
}

/// An item of a comment stream.
#[derive(Debug, Clone, Copy)]
pub enum Item {
    Connected(u64),
    Comment(u64),
    Gap(u64, u64),
    Alive,
    End,
}

#[derive(Debug, Clone)]
pub enum Msg {
    Cas { rid: u64, video: usize, expected: Option<u64>, readers: Vec<ReaderShare>, seen: u64 },
    CasDone { rid: u64, video: usize, stored: bool, current: Option<AssignedReaders> },
    Load { rid: u64 },
    State { rid: u64, assignments: BTreeMap<usize, AssignedReaders> },
    AssignmentChanged { video: usize, assigned: AssignedReaders },
    SaveBeat { rid: u64, record: Record },
    Saved { rid: u64 },
    Poll { sent: Ms },
    Records { sent: Ms, records: Vec<Record>, term: u64, removed: BTreeSet<usize> },
    MintTerm { planner: usize, seen: u64 },
    Minted { planner: usize, term: u64 },
    Beat(Record),
    BeatAnswer { beat: u64, orders: Vec<HandOver>, room: Option<u64> },
    Route { rid: u64, video: usize, known: u64 },
    Routed { rid: u64, video: usize, epoch: u64, readers: Vec<usize>, stale: bool },
    NoRoute { rid: u64 },
    Warm { video: usize, sent: Ms },
    Warmed { video: usize, reader: usize, sent: Ms },
    Probe { rid: u64 },
    Probed { rid: u64, reader: usize },
    WantTerm,
    Term(u64),
    WhatIs,
    Situation { assignments: Vec<(usize, AssignedReaders)>, open: Vec<usize> },
    Order { term: u64, video: usize, expected: u64, readers: Vec<ReaderShare> },
    Ordered { accepted: bool },
    Publish { video: usize, seq: u64 },
    Fetch { video: usize, room: u64, after: Option<u64> },
    Fetched { video: usize, room: u64, after: u64, head: u64 },
    Connect { conn: u64, video: usize, position: Option<u64>, under: Option<u64> },
    Redirect { conn: u64, to: usize },
    Refuse { conn: u64 },
    Sent { conn: u64, item: Item },
    Reset { conn: u64 },
    Close { conn: u64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timer {
    /// The regular work of a node.
    Beat,
    Sweep,
    /// The time of the probe with this number is over; what has arrived is checked once more.
    ProbeOver(u64),
    /// The probe with this number has not been answered, and nothing has arrived after its time either.
    LastLook(u64),
    /// A manager's orders and drains.
    Carry,
    Poll,
    /// The store has not answered the poll that was sent at this time.
    PollOver(Ms),
    Load,
    Tick,
    Heads,
    /// A reader's process is told to end.
    Leave,
    /// The request with this number has not been answered in time.
    Late(u64),
    Restart,
    Comment(usize),
    Hiccup,
    Calm,
}

pub enum SimulationEvent {
    Message { from: Node, from_inc: u32, to: Node, to_inc: Option<u32>, msg: Msg },
    Timer { node: Node, inc: u32, timer: Timer },
}

struct QueuedEvent {
    at: Ms,
    number: u64,
    what: SimulationEvent,
}

impl PartialEq for QueuedEvent {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}
impl Eq for QueuedEvent {}
impl PartialOrd for QueuedEvent {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for QueuedEvent {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// Returns the number in a name such as `v3` or `r0`.
pub fn index(name: &str) -> usize {
    name[1..].parse().expect("a letter and a number")
}

/// The faults of the network, in thousandths of messages.
#[derive(Clone, Copy)]
pub struct NetworkFaults {
    pub lost: u64,
    pub repeated: u64,
    pub slow: u64,
}

/// Everything that the nodes share: the time, the network, and the checks.
pub struct Net {
    pub now: Ms,
    /// The time at which the run began, for what counts in instants: which one it is changes nothing.
    origin: Instant,
    pub rng: Rng,
    pub checks: Checks,
    pub weather: NetworkFaults,
    /// The managers that cannot reach the store, each with the end of the cut; only the last entry can be in force
    /// now.
    pub cuts: Vec<(Node, Ms)>,
    /// The readers whose addresses lead nowhere, whatever their processes do.
    pub unresolved: BTreeSet<usize>,
    /// The numbers of viewers at which readers are full for a while, and the end of that time.
    pub crowded: (BTreeMap<usize, u64>, Ms),
    pub videos: Vec<VideoId>,
    pub readers: Vec<ReaderId>,
    pub managers: usize,
    /// The pauses of processes, with begin and end: messages and timers for a paused process wait, and then come all
    /// at once.
    pub paused_processes: Vec<(Node, Ms, Ms)>,
    /// The time at which a probe of each reader, or its answer, was last lost or slow.
    probes_lost: BTreeMap<usize, Ms>,
    /// The time at which each process began.
    began: BTreeMap<Node, Ms>,
    /// The number of the process that runs as each node, and whether it is up.
    up: BTreeMap<Node, (u32, bool)>,
    queue: BinaryHeap<QueuedEvent>,
    number: u64,
    trace: Option<Vec<String>>,
}

/// Returns the instant from which a run's times are counted.
#[expect(clippy::disallowed_methods, reason = "times are counted from it; which one it is changes nothing")]
fn any_time() -> Instant {
    Instant::now()
}

impl Net {
    pub fn new(seed: u64, videos: usize, readers: usize, managers: usize, traced: bool) -> Self {
        Self {
            now: 0,
            origin: any_time(),
            rng: Rng::new(seed),
            checks: Checks::default(),
            weather: NetworkFaults { lost: 20, repeated: 20, slow: 70 },
            cuts: Vec::new(),
            unresolved: BTreeSet::new(),
            crowded: (BTreeMap::new(), 0),
            videos: (0..videos).map(|at| VideoId::parse(&format!("v{at}")).expect("a name")).collect(),
            readers: (0..readers).map(|at| ReaderId::parse(&format!("r{at}")).expect("a name")).collect(),
            managers,
            paused_processes: Vec::new(),
            probes_lost: BTreeMap::new(),
            began: BTreeMap::new(),
            up: BTreeMap::new(),
            queue: BinaryHeap::new(),
            number: 0,
            trace: traced.then(Vec::new),
        }
    }

    /// Returns the time as the hand-over machines take it.
    pub const fn time(&self) -> Duration {
        Duration::from_millis(self.now)
    }

    /// Returns the instant that is `at` milliseconds after the start of the run.
    pub fn instant(&self, at: Ms) -> Instant {
        self.origin + Duration::from_millis(at)
    }

    /// Returns a number that nothing else has.
    pub const fn unused_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    pub fn is_up(&self, node: Node) -> bool {
        self.up.get(&node).is_none_or(|(_, up)| *up)
    }

    /// Whether a node's address leads to the node.
    pub fn leads_to(&self, node: Node) -> bool {
        !matches!(node, Node::Reader(at) if self.unresolved.contains(&at))
    }

    pub fn inc(&self, node: Node) -> u32 {
        self.up.get(&node).map_or(0, |(inc, _)| *inc)
    }

    pub fn stop(&mut self, node: Node) {
        let inc = self.inc(node);
        self.up.insert(node, (inc + 1, false));
    }

    pub fn start(&mut self, node: Node) {
        let inc = self.inc(node);
        self.up.insert(node, (inc, true));
        self.began.insert(node, self.now);
    }

    /// Whether a node has been up for `time`.
    pub fn is_up_for(&self, node: Node, time: Ms) -> bool {
        self.is_up(node) && self.now - self.began.get(&node).copied().unwrap_or(0) >= time
    }

    /// Whether a manager has been up, running and connected to the store for `time`.
    pub fn is_able_for(&self, manager: usize, time: Ms) -> bool {
        let (node, since) = (Node::Manager(manager), self.now.saturating_sub(time));
        let stood_still =
            self.paused_processes.iter().any(|it| it.0 == node && it.1 <= self.now && it.2 > since);
        let was_cut = self.cuts.iter().any(|(it, until)| *it == node && *until > since);
        self.is_up_for(node, time) && !stood_still && !was_cut
    }

    /// Returns the number of viewers that a reader accepts now.
    pub fn capacity(&self, reader: usize) -> u64 {
        let (crowded, until) = &self.crowded;
        crowded.get(&reader).filter(|_| self.now < *until).map_or(CAPACITY, |capacity| *capacity)
    }

    /// Whether this is the only reader that is not full now.
    pub fn is_the_roomy_one(&self, reader: usize) -> bool {
        self.now < self.crowded.1 && !self.crowded.0.contains_key(&reader)
    }

    /// Returns the time up to which a node is paused; `None` if it is running.
    fn paused_until(&self, node: Node) -> Option<Ms> {
        let now = |it: &&(Node, Ms, Ms)| it.0 == node && (it.1..it.2).contains(&self.now);
        self.paused_processes.iter().filter(now).map(|(_, _, until)| *until).max()
    }

    pub fn trace(&mut self, line: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{now:>6} {}", line()));
        }
    }

    pub fn take_trace(&mut self) -> Vec<String> {
        self.trace.take().unwrap_or_default()
    }

    pub fn delay(&mut self) -> Ms {
        if self.rng.chance(self.weather.slow) { self.rng.between(20, 900) } else { self.rng.between(1, 20) }
    }

    /// Sends a message to the process that runs as `to` when the message arrives.
    pub fn send(&mut self, from: Node, to: Node, msg: Msg) {
        self.send_to(from, to, None, msg);
    }

    /// Answers the process that asked, and no process that has replaced it.
    pub fn answer(&mut self, from: Node, to: (Node, u32), msg: Msg) {
        self.send_to(from, to.0, Some(to.1), msg);
    }

    /// Replies on an open connection, without loss or repeats.
    pub fn reply(&mut self, from: Node, to: (Node, u32), msg: Msg) {
        let at = self.now + self.delay();
        self.deliver(at, from, to.0, Some(to.1), msg);
    }

    fn send_to(&mut self, from: Node, to: Node, to_inc: Option<u32>, msg: Msg) {
        let cut = self.cuts.last().filter(|(_, until)| self.now < *until).map(|(node, _)| *node);
        let ends = [(from, to), (to, from)];
        let is_cut = cut.is_some_and(|manager| ends.contains(&(manager, Node::Store)));
        // An answer goes back on the connection of its question, so it needs no address.
        let is_found = to_inc.is_some() || self.leads_to(to) || !matches!(from, Node::Manager(_));
        let probed = match (&msg, to) {
            (Msg::Probe { .. }, Node::Reader(reader)) => Some(reader),
            (Msg::Probed { reader, .. }, _) => Some(*reader),
            _ => None,
        };
        let is_lost = self.rng.chance(self.weather.lost);
        let is_sent_again = matches!(msg, Msg::Poll { .. } | Msg::Records { .. });
        if is_cut || !is_found || (is_lost && !is_sent_again) {
            self.probes_lost.extend(probed.map(|reader| (reader, self.now)));
            return;
        }
        if self.rng.chance(self.weather.repeated) {
            let at = self.now + self.delay();
            self.deliver(at, from, to, to_inc, msg.clone());
        }
        let at = self.now + self.delay() + if is_lost { SENT_AGAIN_AFTER } else { 0 };
        if at > self.now + SLOW_MS {
            self.probes_lost.extend(probed.map(|reader| (reader, self.now)));
        }
        self.deliver(at, from, to, to_inc, msg);
    }

    /// Whether the network delivers probes of a reader now: none was lost or slow lately, and no manager is cut off.
    pub fn carries_probes(&self, reader: usize) -> bool {
        let is_over = |last: Ms| last + 3_000 < self.now;
        self.probes_lost.get(&reader).is_none_or(|last| is_over(*last))
            && self.cuts.last().is_none_or(|(_, until)| is_over(*until))
    }

    /// Delivers a message at the time `at`, without loss or repeats: as TCP does for a stream, as long as the
    /// connection lives.
    pub fn deliver(&mut self, at: Ms, from: Node, to: Node, to_inc: Option<u32>, msg: Msg) {
        let from_inc = self.inc(from);
        self.push_event(at, SimulationEvent::Message { from, from_inc, to, to_inc, msg });
    }

    pub fn timer(&mut self, node: Node, after: Ms, timer: Timer) {
        let inc = self.inc(node);
        self.push_event(self.now + after, SimulationEvent::Timer { node, inc, timer });
    }

    fn push_event(&mut self, at: Ms, what: SimulationEvent) {
        let number = self.unused_number();
        self.queue.push(QueuedEvent { at, number, what });
    }

    /// Returns the next message or timer for a process that is still there; `None` if nothing is left up to `until`.
    pub fn next(&mut self, until: Ms) -> Option<SimulationEvent> {
        loop {
            if self.queue.peek()?.at > until {
                return None;
            }
            let QueuedEvent { at, what, .. } = self.queue.pop()?;
            self.now = at;
            let (SimulationEvent::Message { to: node, .. } | SimulationEvent::Timer { node, .. }) = &what;
            if let Some(until) = self.paused_until(*node) {
                self.push_event(until, what);
                continue;
            }
            let is_for_somebody = match &what {
                SimulationEvent::Message { to, to_inc, .. } => {
                    self.is_up(*to) && to_inc.is_none_or(|inc| inc == self.inc(*to))
                }
                // A node that is down is restarted by a timer.
                SimulationEvent::Timer { timer: Timer::Restart, .. } => true,
                SimulationEvent::Timer { node, inc, .. } => self.is_up(*node) && *inc == self.inc(*node),
            };
            if is_for_somebody {
                return Some(what);
            }
        }
    }
}
