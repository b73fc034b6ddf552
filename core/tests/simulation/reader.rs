//! A simulated reader around the [`ReaderAgent`]: its channels, its heartbeats and its questions to managers.

use std::collections::BTreeMap;
use std::time::Duration;

use liverank_core::ReaderId;
use liverank_core::handover::reader_agent::{Admission, AgentLimits, ReaderAgent};
use liverank_core::handover::{AssignmentNotice, HandOver, HeldVideo};

use crate::net::{Item, Ms, Msg, Net, Node, Record, Timer, index};
use crate::room::{Channel, ViewerConnection, write};

const HEARTBEAT_INTERVAL: Ms = 1_000;
const TELL_TIMEOUT: Ms = 800;
const ASK_TIMEOUT: Ms = 800;
const HEADS_INTERVAL: Ms = 1_000;
const TICK_INTERVAL: Ms = 100;
pub const GRACE: Ms = 10_000;
/// The duration of the last phase, in milliseconds, of a reader with as few viewers as here.
const LAST_PHASE: Ms = 1_000;
const BOUNDS: AgentLimits = AgentLimits {
    notice_cache_time: Duration::from_secs(2),
    max_stale_notice_time: Duration::from_secs(30),
    keep_warm_for: Duration::from_secs(10),
    keep_empty_for: Duration::from_secs(2),
    hand_over_valid_for: Duration::from_secs(3),
    max_videos: 1_000,
};

/// A viewer who connects.
struct ConnectingViewer {
    conn: u64,
    from: (Node, u32),
    position: Option<u64>,
    under: Option<u64>,
}

struct PendingQuestion {
    video: usize,
    tries: u32,
    /// The epoch that was known when the question was asked.
    known: u64,
    /// The viewers who wait for the answer.
    waiting: Vec<ConnectingViewer>,
}

pub struct Reader {
    at: usize,
    node: Node,
    id: ReaderId,
    holder: ReaderAgent,
    rooms: BTreeMap<usize, Channel>,
    asking: BTreeMap<u64, PendingQuestion>,
    manager: usize,
    /// A number that is greater the later the process began.
    incarnation: u64,
    /// The number of the last heartbeat; the first one of a process is random.
    beat: u64,
    /// The number of the timer of the last heartbeat, and whether a manager has answered that heartbeat.
    telling: (u64, bool),
    /// The time at which the last heartbeat was sent.
    heartbeat_sent_at: Duration,
    ticking: bool,
    /// The highest epoch that the reader was ever told of each video, by any message.
    heard: BTreeMap<usize, u64>,
    pub drained: bool,
    /// Whether the reader's last heartbeat said that it has no room.
    told_full: bool,
    /// The number of managers that were sent the last heartbeat without an answer.
    managers_told: usize,
    /// The time at which the reader's last phase begins: then it sends viewers away whether or not others have room.
    last_phase_at: Ms,
    reach: u64,
}

impl Reader {
    pub fn new(at: usize, id: ReaderId, reach: u64) -> Self {
        let node = Node::Reader(at);
        Self {
            at,
            node,
            id,
            holder: ReaderAgent::new(BOUNDS),
            rooms: BTreeMap::new(),
            asking: BTreeMap::new(),
            manager: at,
            incarnation: 0,
            beat: 0,
            telling: (0, false),
            heartbeat_sent_at: Duration::ZERO,
            ticking: false,
            heard: BTreeMap::new(),
            drained: false,
            told_full: false,
            managers_told: 0,
            last_phase_at: 0,
            reach,
        }
    }

    pub fn boot(&mut self, net: &mut Net) {
        self.manager = net.rng.index(net.managers);
        // 0 would say that the reader does not tell when it began.
        (self.incarnation, self.beat) = (net.now + 1, net.rng.next() >> 2);
        let after = net.rng.below(300);
        net.timer(self.node, after, Timer::Beat);
        net.timer(self.node, HEADS_INTERVAL, Timer::Heads);
    }

    pub fn viewers(&self) -> u64 {
        self.rooms.values().map(|room| room.seats.len() as u64).sum()
    }

    /// Whether the reader's ring of a video is filled.
    pub fn is_ready(&self, video: usize) -> bool {
        self.rooms.get(&video).is_some_and(|room| room.head.is_some())
    }

    pub fn all_seats(&self) -> impl Iterator<Item = (u64, &ViewerConnection)> {
        self.rooms.values().flat_map(|room| &room.seats).map(|(conn, seat)| (*conn, seat))
    }

    /// Begins to leave, as on SIGTERM.
    pub fn leave(&mut self, net: &mut Net) {
        let by =
            self.holder.begin_leaving(net.time(), Duration::from_millis(GRACE), false).as_millis() as u64;
        self.last_phase_at = by - LAST_PHASE;
        self.send_heartbeat(net);
        self.keep_ticking(net);
    }

    pub const fn is_leaving(&self) -> bool {
        self.holder.is_leaving()
    }

    pub fn on_timer(&mut self, net: &mut Net, timer: Timer) {
        match timer {
            Timer::Beat => {
                self.managers_told = 0;
                self.send_heartbeat(net);
                net.timer(self.node, HEARTBEAT_INTERVAL, timer);
            }
            Timer::Heads => {
                self.compare_heads(net);
                net.timer(self.node, HEADS_INTERVAL, timer);
            }
            Timer::Tick => {
                self.ticking = false;
                self.close_due_viewers(net);
            }
            // No manager has answered the heartbeat, or the question.
            Timer::Late(rid) if (rid, true) == self.telling => {}
            Timer::Late(rid) if (rid, false) == self.telling => self.tell_next_manager(net),
            Timer::Late(rid) => self.handle_unanswered(net, rid),
            _ => {}
        }
    }

    /// Sends an unanswered heartbeat to the next manager at once, until each has been tried (`send_heartbeat` in
    /// `services/reader/src/heartbeat.rs`).
    fn tell_next_manager(&mut self, net: &mut Net) {
        self.manager = (self.manager + 1) % net.managers;
        self.managers_told += 1;
        if self.managers_told < net.managers {
            self.send_heartbeat(net);
        }
    }

    /// Sends a heartbeat at once when the reader refuses a viewer because it is full, if its last heartbeat did not
    /// say so.
    fn send_early_heartbeat(&mut self, net: &mut Net) {
        if !std::mem::replace(&mut self.told_full, true) {
            self.send_heartbeat(net);
        }
    }

    fn send_heartbeat(&mut self, net: &mut Net) {
        (self.beat, self.heartbeat_sent_at) = (self.beat + 1, net.time());
        self.telling = (net.unused_number(), false);
        let held = |(video, room): (&usize, &Channel)| HeldVideo {
            video: net.videos[*video].clone(),
            viewers: room.seats.len() as u64,
            epoch: self.holder.video_epoch(&net.videos[*video]),
            ready: room.head.is_some(),
            shedding: self.holder.is_shedding(net.time(), &net.videos[*video]),
        };
        let record = Record {
            id: self.id.clone(),
            incarnation: self.incarnation,
            beat: self.beat,
            draining: self.holder.is_leaving(),
            capacity: net.capacity(self.at),
            highest_epoch: self.holder.highest_epoch(),
            held: self.rooms.iter().map(held).collect(),
        };
        self.told_full = self.viewers() >= record.capacity;
        net.send(self.node, Node::Manager(self.manager), Msg::Beat(record));
        net.timer(self.node, TELL_TIMEOUT, Timer::Late(self.telling.0));
    }

    /// Compares heads with the archive, and drops channels without viewers.
    fn compare_heads(&mut self, net: &mut Net) {
        let (now, holder) = (net.now, &self.holder);
        self.rooms.retain(|video, room| {
            let empty = Duration::from_millis(now - room.empty_since);
            let keep =
                !room.seats.is_empty() || !holder.may_drop_video(net.time(), &net.videos[*video], empty);
            if !keep {
                net.trace(|| format!("r{} lets go of v{video}", self.at));
            }
            keep
        });
        for (video, room) in &self.rooms {
            let fetch = Msg::Fetch { video: *video, room: room.number, after: room.head };
            net.send(self.node, Node::Archive, fetch);
        }
        for video in 0..net.videos.len() {
            for seat in self.rooms.get_mut(&video).into_iter().flat_map(|room| room.seats.iter_mut()) {
                write(net, self.node, *seat.0, seat.1, Item::Alive);
            }
        }
    }

    fn room(&mut self, net: &mut Net, video: usize) -> &mut Channel {
        self.rooms.entry(video).or_insert_with(|| {
            let number = net.unused_number();
            net.send(Node::Reader(self.at), Node::Archive, Msg::Fetch { video, room: number, after: None });
            Channel::new(number, net.now)
        })
    }

    pub fn on(&mut self, net: &mut Net, from: (Node, u32), msg: Msg) {
        match msg {
            Msg::BeatAnswer { beat, orders, room } if beat == self.beat => {
                self.telling.1 = true;
                if let Some(room) = room {
                    self.holder.note_room_elsewhere(self.heartbeat_sent_at, room);
                }
                self.take_hand_overs(net, orders);
            }
            Msg::Routed { rid, video, epoch, readers, .. } => {
                self.handle_route(net, rid, video, epoch, &readers);
            }
            Msg::NoRoute { rid } => self.handle_unanswered(net, rid),
            Msg::Warm { video, sent } => {
                self.holder.keep_warm(net.time(), &net.videos[video]);
                let at = self.at;
                let room = self.room(net, video);
                if room.head.is_some() {
                    net.answer(Node::Reader(at), from, Msg::Warmed { video, reader: at, sent });
                } else {
                    room.warming.push((from, sent));
                }
            }
            Msg::Probe { rid } => net.answer(self.node, from, Msg::Probed { rid, reader: self.at }),
            Msg::Publish { video, seq } => {
                let Some(room) = self.rooms.get_mut(&video) else { return };
                room.published(seq);
                if let Some(after) = room.hole() {
                    let fetch = Msg::Fetch { video, room: room.number, after: Some(after) };
                    net.send(self.node, Node::Archive, fetch);
                }
                self.tell_viewers(net, video);
            }
            Msg::Fetched { video, room: number, after, head } => {
                let room = self.rooms.get_mut(&video).filter(|room| room.number == number);
                let Some(room) = room else { return };
                room.fetched(after, head);
                for (manager, sent) in std::mem::take(&mut room.warming) {
                    net.answer(self.node, manager, Msg::Warmed { video, reader: self.at, sent });
                }
                self.tell_viewers(net, video);
            }
            Msg::Connect { conn, video, position, under } => {
                let admission = self.holder.admit_viewer(net.time(), &net.videos[video], under);
                self.carry_out_admission(
                    net,
                    admission,
                    video,
                    ConnectingViewer { conn, from, position, under },
                );
            }
            Msg::Close { conn } => self.remove_viewer(net, conn),
            _ => {}
        }
    }

    fn remove_viewer(&mut self, net: &Net, conn: u64) {
        for room in self.rooms.values_mut() {
            if room.seats.remove(&conn).is_some() && room.seats.is_empty() {
                room.empty_since = net.now;
            }
        }
    }

    fn tell_viewers(&mut self, net: &mut Net, video: usize) {
        let Some(room) = self.rooms.get_mut(&video) else { return };
        for (conn, item) in room.tell(self.reach) {
            if let (Item::Comment(seq), true) = (item, net.checks.violation.is_none()) {
                let held = room.holds(seq);
                net.checks.require(held, || format!("a reader sends v{video} {seq}, which it does not hold"));
            }
            let Some(seat) = room.seats.get_mut(&conn) else { continue };
            write(net, self.node, conn, seat, item);
        }
    }

    fn carry_out_admission(
        &mut self,
        net: &mut Net,
        admission: Admission,
        video: usize,
        viewer: ConnectingViewer,
    ) {
        let ConnectingViewer { conn, from, position, .. } = viewer;
        match admission {
            Admission::Accept if self.viewers() >= net.capacity(self.at) => {
                net.checks.counts.refused_full += 1;
                self.send_early_heartbeat(net);
                net.reply(self.node, from, Msg::Refuse { conn });
            }
            Admission::Accept => {
                let node = self.node;
                let arrives = net.now;
                let seat = ViewerConnection { viewer: from, seen: None, position, arrives };
                self.room(net, video).seats.insert(conn, seat);
                net.trace(|| format!("{node:?} takes {from:?} of v{video} at {position:?}"));
                self.tell_viewers(net, video);
            }
            Admission::Redirect(to) => {
                let to = index(&to);
                net.reply(self.node, from, Msg::Redirect { conn, to });
            }
            Admission::Refuse => net.reply(self.node, from, Msg::Refuse { conn }),
            Admission::AskManagers { known } => {
                if let Some(asking) = self.asking.values_mut().find(|asking| asking.video == video) {
                    asking.waiting.push(viewer);
                } else {
                    self.ask_manager(net, PendingQuestion { video, tries: 0, known, waiting: vec![viewer] });
                }
            }
        }
    }

    fn ask_manager(&mut self, net: &mut Net, asking: PendingQuestion) {
        let rid = net.unused_number();
        let (video, known) = (asking.video, asking.known);
        net.send(self.node, Node::Manager(self.manager), Msg::Route { rid, video, known });
        net.timer(self.node, ASK_TIMEOUT, Timer::Late(rid));
        self.asking.insert(rid, asking);
    }

    fn handle_unanswered(&mut self, net: &mut Net, rid: u64) {
        let Some(mut asking) = self.asking.remove(&rid) else { return };
        self.manager = (self.manager + 1) % net.managers;
        asking.tries += 1;
        if asking.tries < 2 {
            asking.known = asking.known.max(self.holder.video_epoch(&net.videos[asking.video]));
            return self.ask_manager(net, asking);
        }
        self.admit_after_asking(net, asking);
    }

    fn admit_after_asking(&mut self, net: &mut Net, asking: PendingQuestion) {
        for viewer in asking.waiting {
            let admission =
                self.holder.admit_after_answer(net.time(), &net.videos[asking.video], viewer.under);
            self.carry_out_admission(net, admission, asking.video, viewer);
        }
    }

    fn handle_route(&mut self, net: &mut Net, rid: u64, video: usize, epoch: u64, readers: &[usize]) {
        let Some(asking) = self.asking.remove(&rid) else { return };
        net.checks.require(epoch >= asking.known, || {
            format!("a manager answers epoch {epoch} of v{video} to one who knows {}", asking.known)
        });
        let others = readers.iter().find(|reader| **reader != self.at);
        let told = AssignmentNotice {
            epoch,
            includes_this_reader: readers.contains(&self.at),
            other_reader_url: others.map(|reader| net.readers[*reader].to_string()),
            other_accepts_viewers: others.is_some(),
        };
        let news = self.holder.note_assignment(net.time(), &net.videos[video], told);
        net.checks.counts.old_words += u64::from(!news);
        self.check_epoch_heard(net, video, epoch);
        self.admit_after_asking(net, asking);
    }

    /// Checks that the reader's epoch of a video does not fall behind any that it was told.
    fn check_epoch_heard(&mut self, net: &mut Net, video: usize, epoch: u64) {
        let heard = self.heard.entry(video).or_default();
        *heard = epoch.max(*heard);
        let (heard, held) = (*heard, self.holder.video_epoch(&net.videos[video]));
        let at = self.at;
        net.checks.require(heard == held, || {
            format!("r{at} goes by epoch {held} of v{video} and has heard of {heard}")
        });
    }

    fn take_hand_overs(&mut self, net: &mut Net, orders: Vec<HandOver>) {
        let epochs: Vec<(usize, u64)> =
            orders.iter().map(|it| (index(it.video.as_str()), it.epoch)).collect();
        for order in &orders {
            let assigned = net.checks.minted_as(order.epoch);
            let fits = assigned.is_some_and(|it| it.readers.iter().any(|it| it.reader.as_str() == order.to));
            net.checks.require(fits, || format!("{order:?} sends viewers to a reader that is none of it"));
        }
        self.holder.set_hand_overs(net.time(), self.heartbeat_sent_at, orders);
        for (video, epoch) in epochs {
            let old = self.heard.get(&video).is_some_and(|heard| *heard > epoch);
            net.checks.counts.old_words += u64::from(old);
            self.check_epoch_heard(net, video, epoch);
        }
        self.keep_ticking(net);
    }

    fn keep_ticking(&mut self, net: &mut Net) {
        let busy = self.holder.is_leaving() || self.holder.active_hand_overs(net.time()).next().is_some();
        if busy && !self.ticking {
            self.ticking = true;
            net.timer(self.node, TICK_INTERVAL, Timer::Tick);
        }
    }

    /// Closes as many viewers as are due.
    fn close_due_viewers(&mut self, net: &mut Net) {
        let mut orders: Vec<HandOver> = self.holder.active_hand_overs(net.time()).cloned().collect();
        orders.sort_by(|a, b| a.video.cmp(&b.video));
        for order in orders {
            let video = index(order.video.as_str());
            let Some(viewers) = self.rooms.get(&video).map(|room| room.seats.len() as u64) else { continue };
            for _ in 0..self.holder.viewers_to_close(net.time(), &order.video, viewers) {
                self.close_for_order(net, video, &order);
            }
        }
        for _ in 0..self.holder.viewers_to_close_on_exit(net.time(), self.viewers()) {
            let watched: Vec<usize> =
                self.rooms.iter().filter(|(_, room)| !room.seats.is_empty()).map(|(it, _)| *it).collect();
            if let Some(video) = net.rng.pick(&watched).copied() {
                net.checks.sent_away.extend((net.now < self.last_phase_at).then_some(self.at));
                net.checks.counts.sent_away += 1;
                self.close_any_viewer(net, video);
            }
        }
        let id = &self.id;
        if self.holder.is_leaving() && self.rooms.values().all(|room| room.seats.is_empty()) {
            net.trace(|| format!("{id} is empty"));
            self.drained = true;
        }
        self.keep_ticking(net);
    }

    fn close_for_order(&mut self, net: &mut Net, video: usize, order: &HandOver) {
        let heard = self.heard.get(&video).copied().unwrap_or(0);
        net.checks.require(order.epoch >= heard, || {
            format!("{order:?} is carried out by one who has heard of epoch {heard}")
        });
        net.checks.counts.handed_over += 1;
        net.checks.counts.shed += u64::from(order.here);
        net.checks.closing.push((video, index(&order.to)));
        self.close_any_viewer(net, video);
    }

    fn close_any_viewer(&mut self, net: &mut Net, video: usize) {
        let Some(room) = self.rooms.get_mut(&video) else { return };
        let conns: Vec<u64> = room.seats.keys().copied().collect();
        let Some(conn) = net.rng.pick(&conns) else { return };
        if let Some(mut seat) = room.seats.remove(conn) {
            write(net, self.node, *conn, &mut seat, Item::End);
        }
        if room.seats.is_empty() {
            room.empty_since = net.now;
        }
    }
}
