//! A reader around the [`ReaderAgent`]: its rooms, its heartbeats, its questions.

use std::collections::BTreeMap;
use std::time::Duration;

use liverank_core::ReaderId;
use liverank_core::handover::reader_agent::{Admission, Bounds, ReaderAgent};
use liverank_core::handover::{AssignmentNotice, HandOver, HeldVideo};

use crate::net::{HeartbeatRecord, Ms, NodeId, SimMessage, SimNetwork, SimTimer, StreamItem, name_to_index};
use crate::room::{SimulatedRoom, ViewerSeat, write_item};

const HEARTBEAT_INTERVAL: Ms = 1_000;
const TELL_TIMEOUT: Ms = 800;
const ASK_TIMEOUT: Ms = 800;
const HEADS_INTERVAL: Ms = 1_000;
const TICK_INTERVAL: Ms = 100;
pub const LEAVE_GRACE: Ms = 10_000;
const BOUNDS: Bounds = Bounds {
    fresh: Duration::from_secs(2),
    stale: Duration::from_secs(30),
    warm: Duration::from_secs(10),
    linger: Duration::from_secs(2),
    order: Duration::from_secs(3),
    videos: 1_000,
};

/// A viewer who comes.
struct ComingViewer {
    conn: u64,
    from: (NodeId, u32),
    position: Option<u64>,
    under: Option<u64>,
}

struct PendingQuestion {
    video: usize,
    tries: u32,
    /// The epoch that was known when it was asked.
    known: u64,
    /// Connections that wait for the answer.
    waiting: Vec<ComingViewer>,
}

pub struct SimulatedReader {
    at: usize,
    node: NodeId,
    id: ReaderId,
    holder: ReaderAgent,
    rooms: BTreeMap<usize, SimulatedRoom>,
    asking: BTreeMap<u64, PendingQuestion>,
    manager: usize,
    beat: u64,
    answered: u64,
    ticking: bool,
    /// The highest epoch it was ever told of a video, by whatever word.
    heard: BTreeMap<usize, u64>,
    pub drained: bool,
    reach: u64,
}

impl SimulatedReader {
    pub fn new(at: usize, id: ReaderId, reach: u64) -> Self {
        let node = NodeId::Reader(at);
        Self {
            at,
            node,
            id,
            holder: ReaderAgent::new(BOUNDS),
            rooms: BTreeMap::new(),
            asking: BTreeMap::new(),
            manager: at,
            beat: 0,
            answered: 0,
            ticking: false,
            heard: BTreeMap::new(),
            drained: false,
            reach,
        }
    }

    pub fn start_process(&mut self, net: &mut SimNetwork) {
        self.manager = net.rng.random_index(net.managers);
        let after = net.rng.number_below(300);
        net.set_timer(self.node, after, SimTimer::Beat);
        net.set_timer(self.node, HEADS_INTERVAL, SimTimer::Heads);
    }

    pub fn viewer_count(&self) -> u64 {
        self.rooms.values().map(|room| room.seats.len() as u64).sum()
    }

    /// Whether its ring of a video stands.
    pub fn is_ready(&self, video: usize) -> bool {
        self.rooms.get(&video).is_some_and(|room| room.head.is_some())
    }

    pub fn all_seats(&self) -> impl Iterator<Item = (u64, &ViewerSeat)> {
        self.rooms.values().flat_map(|room| &room.seats).map(|(conn, seat)| (*conn, seat))
    }

    /// SIGTERM.
    pub fn begin_leaving(&mut self, net: &mut SimNetwork) {
        self.holder.leave(net.time_since_start(), Duration::from_millis(LEAVE_GRACE), false);
        self.send_heartbeat(net);
        self.keep_ticking(net);
    }

    pub const fn is_leaving(&self) -> bool {
        self.holder.is_leaving()
    }

    pub fn on_timer(&mut self, net: &mut SimNetwork, timer: SimTimer) {
        match timer {
            SimTimer::Beat => {
                self.send_heartbeat(net);
                net.set_timer(self.node, HEARTBEAT_INTERVAL, timer);
            }
            SimTimer::Heads => {
                self.compare_heads(net);
                net.set_timer(self.node, HEADS_INTERVAL, timer);
            }
            SimTimer::Tick => {
                self.ticking = false;
                self.close_due_viewers(net);
            }
            // No manager answered the heartbeat, or the question.
            SimTimer::Late(rid) if rid == self.beat && rid == self.answered => {}
            SimTimer::Late(rid) if rid == self.beat => self.manager = (self.manager + 1) % net.managers,
            SimTimer::Late(rid) => self.handle_unanswered(net, rid),
            _ => {}
        }
    }

    fn send_heartbeat(&mut self, net: &mut SimNetwork) {
        self.beat = net.fresh_number();
        let held = |(video, room): (&usize, &SimulatedRoom)| HeldVideo {
            video: net.videos[*video].clone(),
            viewers: room.seats.len() as u64,
            epoch: self.holder.epoch(&net.videos[*video]),
            ready: room.head.is_some(),
            shedding: self.holder.sheds(net.time_since_start(), &net.videos[*video]),
        };
        let record = HeartbeatRecord {
            reader: self.at,
            beat: self.beat,
            draining: self.holder.is_leaving(),
            highest_epoch: self.holder.highest_epoch(),
            held: self.rooms.iter().map(held).collect(),
        };
        net.send_message(self.node, NodeId::Manager(self.manager), SimMessage::Beat(record));
        net.set_timer(self.node, TELL_TIMEOUT, SimTimer::Late(self.beat));
    }

    /// Compares heads with the archive, and lets go of what nobody watches.
    fn compare_heads(&mut self, net: &mut SimNetwork) {
        let (now, holder) = (net.now, &self.holder);
        self.rooms.retain(|video, room| {
            let empty = Duration::from_millis(now - room.empty_since);
            let keep = !room.seats.is_empty()
                || !holder.may_drop(net.time_since_start(), &net.videos[*video], empty);
            if !keep {
                net.trace_line(|| format!("r{} lets go of v{video}", self.at));
            }
            keep
        });
        let wanted: Vec<(usize, Option<u64>)> =
            self.rooms.iter().map(|(it, room)| (*it, room.head)).collect();
        for (video, after) in wanted {
            net.send_message(self.node, NodeId::Archive, SimMessage::Fetch { video, after });
        }
        for video in 0..net.videos.len() {
            for seat in self.rooms.get_mut(&video).into_iter().flat_map(|room| room.seats.iter_mut()) {
                write_item(net, self.node, *seat.0, seat.1, StreamItem::Alive);
            }
        }
    }

    fn room(&mut self, net: &mut SimNetwork, video: usize) -> &mut SimulatedRoom {
        self.rooms.entry(video).or_insert_with(|| {
            net.send_message(
                NodeId::Reader(self.at),
                NodeId::Archive,
                SimMessage::Fetch { video, after: None },
            );
            SimulatedRoom::new(net.now)
        })
    }

    pub fn handle_message(&mut self, net: &mut SimNetwork, from: (NodeId, u32), msg: SimMessage) {
        match msg {
            SimMessage::BeatAnswer { beat, orders } if beat == self.beat => {
                self.answered = beat;
                self.take_hand_overs(net, orders);
            }
            SimMessage::Routed { rid, video, epoch, readers, .. } => {
                self.handle_route(net, rid, video, epoch, &readers)
            }
            SimMessage::NoRoute { rid } => self.handle_unanswered(net, rid),
            SimMessage::Warm { video } => {
                self.holder.warm(net.time_since_start(), &net.videos[video]);
                let at = self.at;
                let room = self.room(net, video);
                if room.head.is_some() {
                    net.answer_process(NodeId::Reader(at), from, SimMessage::Warmed { video, reader: at });
                } else {
                    room.warming.push(from);
                }
            }
            SimMessage::Probe { beat } => {
                net.answer_process(self.node, from, SimMessage::Probed { beat, reader: self.at })
            }
            SimMessage::Publish { video, seq } => {
                let Some(room) = self.rooms.get_mut(&video) else { return };
                room.take_published(seq);
                if let Some(after) = room.last_before_gap() {
                    net.send_message(
                        self.node,
                        NodeId::Archive,
                        SimMessage::Fetch { video, after: Some(after) },
                    );
                }
                self.tell_viewers(net, video);
            }
            SimMessage::Fetched { video, after, head } => {
                let Some(room) = self.rooms.get_mut(&video) else { return };
                room.take_fetched(after, head);
                for manager in std::mem::take(&mut room.warming) {
                    net.answer_process(self.node, manager, SimMessage::Warmed { video, reader: self.at });
                }
                self.tell_viewers(net, video);
            }
            SimMessage::Connect { conn, video, position, under } => {
                let admission = self.holder.admit(net.time_since_start(), &net.videos[video], under);
                self.carry_out_admission(net, admission, video, ComingViewer { conn, from, position, under });
            }
            SimMessage::Close { conn } => self.remove_viewer(net, conn),
            _ => {}
        }
    }

    fn remove_viewer(&mut self, net: &SimNetwork, conn: u64) {
        for room in self.rooms.values_mut() {
            if room.seats.remove(&conn).is_some() && room.seats.is_empty() {
                room.empty_since = net.now;
            }
        }
    }

    fn tell_viewers(&mut self, net: &mut SimNetwork, video: usize) {
        let Some(room) = self.rooms.get_mut(&video) else { return };
        for (conn, item) in room.items_to_tell(self.reach) {
            if let (StreamItem::Comment(seq), true) = (item, net.checks.violation.is_none()) {
                let held = room.has_comment(seq);
                net.checks.require(held, || format!("a reader sends v{video} {seq}, which it does not hold"));
            }
            let Some(seat) = room.seats.get_mut(&conn) else { continue };
            write_item(net, self.node, conn, seat, item);
        }
    }

    fn carry_out_admission(
        &mut self,
        net: &mut SimNetwork,
        admission: Admission,
        video: usize,
        viewer: ComingViewer,
    ) {
        let ComingViewer { conn, from, position, .. } = viewer;
        match admission {
            Admission::Accept => {
                let node = self.node;
                let arrives = net.now;
                let seat = ViewerSeat { viewer: from, seen: None, position, arrives };
                self.room(net, video).seats.insert(conn, seat);
                net.trace_line(|| format!("{node:?} takes {from:?} of v{video} at {position:?}"));
                self.tell_viewers(net, video);
            }
            Admission::Redirect(to) => {
                let to = name_to_index(&to);
                net.reply_on_connection(self.node, from, SimMessage::Redirect { conn, to });
            }
            Admission::Refuse => net.reply_on_connection(self.node, from, SimMessage::Refuse { conn }),
            Admission::Ask { known } => {
                if let Some(asking) = self.asking.values_mut().find(|asking| asking.video == video) {
                    asking.waiting.push(viewer);
                } else {
                    self.ask_manager(net, PendingQuestion { video, tries: 0, known, waiting: vec![viewer] });
                }
            }
        }
    }

    fn ask_manager(&mut self, net: &mut SimNetwork, asking: PendingQuestion) {
        let rid = net.fresh_number();
        let (video, known) = (asking.video, asking.known);
        net.send_message(self.node, NodeId::Manager(self.manager), SimMessage::Route { rid, video, known });
        net.set_timer(self.node, ASK_TIMEOUT, SimTimer::Late(rid));
        self.asking.insert(rid, asking);
    }

    fn handle_unanswered(&mut self, net: &mut SimNetwork, rid: u64) {
        let Some(mut asking) = self.asking.remove(&rid) else { return };
        self.manager = (self.manager + 1) % net.managers;
        asking.tries += 1;
        if asking.tries < 2 {
            asking.known = asking.known.max(self.holder.epoch(&net.videos[asking.video]));
            return self.ask_manager(net, asking);
        }
        self.admit_after_asking(net, asking);
    }

    fn admit_after_asking(&mut self, net: &mut SimNetwork, asking: PendingQuestion) {
        for viewer in asking.waiting {
            let admission =
                self.holder.admit_told(net.time_since_start(), &net.videos[asking.video], viewer.under);
            self.carry_out_admission(net, admission, asking.video, viewer);
        }
    }

    fn handle_route(&mut self, net: &mut SimNetwork, rid: u64, video: usize, epoch: u64, readers: &[usize]) {
        let Some(asking) = self.asking.remove(&rid) else { return };
        net.checks.require(epoch >= asking.known, || {
            format!("a manager answers epoch {epoch} of v{video} to one who knows {}", asking.known)
        });
        let others = readers.iter().find(|reader| **reader != self.at);
        let told = AssignmentNotice {
            epoch,
            here: readers.contains(&self.at),
            elsewhere: others.map(|reader| net.readers[*reader].to_string()),
        };
        let news = self.holder.told(net.time_since_start(), &net.videos[video], told);
        net.checks.counts.old_words += u64::from(!news);
        self.check_epoch_heard(net, video, epoch);
        self.admit_after_asking(net, asking);
    }

    /// Whatever it is told, it must not fall behind what it was told before.
    fn check_epoch_heard(&mut self, net: &mut SimNetwork, video: usize, epoch: u64) {
        let heard = self.heard.entry(video).or_default();
        *heard = epoch.max(*heard);
        let (heard, held) = (*heard, self.holder.epoch(&net.videos[video]));
        let at = self.at;
        net.checks.require(heard == held, || {
            format!("r{at} goes by epoch {held} of v{video} and has heard of {heard}")
        });
    }

    fn take_hand_overs(&mut self, net: &mut SimNetwork, orders: Vec<HandOver>) {
        let epochs: Vec<(usize, u64)> =
            orders.iter().map(|it| (name_to_index(it.video.as_str()), it.epoch)).collect();
        for order in &orders {
            let assigned = net.checks.minted_assignment(order.epoch);
            let fits = assigned.is_some_and(|it| it.readers.iter().any(|it| it.reader.as_str() == order.to));
            net.checks.require(fits, || format!("{order:?} sends viewers to a reader that is none of it"));
        }
        self.holder.ordered(net.time_since_start(), orders);
        for (video, epoch) in epochs {
            let old = self.heard.get(&video).is_some_and(|heard| *heard > epoch);
            net.checks.counts.old_words += u64::from(old);
            self.check_epoch_heard(net, video, epoch);
        }
        self.keep_ticking(net);
    }

    fn keep_ticking(&mut self, net: &mut SimNetwork) {
        let busy =
            self.holder.is_leaving() || self.holder.handing_over(net.time_since_start()).next().is_some();
        if busy && !self.ticking {
            self.ticking = true;
            net.set_timer(self.node, TICK_INTERVAL, SimTimer::Tick);
        }
    }

    /// Lets go of as many viewers as are due.
    fn close_due_viewers(&mut self, net: &mut SimNetwork) {
        let mut orders: Vec<HandOver> = self.holder.handing_over(net.time_since_start()).cloned().collect();
        orders.sort_by(|a, b| a.video.cmp(&b.video));
        for order in orders {
            let video = name_to_index(order.video.as_str());
            let Some(viewers) = self.rooms.get(&video).map(|room| room.seats.len() as u64) else { continue };
            for _ in 0..self.holder.close_now(net.time_since_start(), &order.video, viewers) {
                self.close_for_order(net, video, &order);
            }
        }
        for _ in 0..self.holder.exit_now(net.time_since_start(), self.viewer_count()) {
            let watched: Vec<usize> =
                self.rooms.iter().filter(|(_, room)| !room.seats.is_empty()).map(|(it, _)| *it).collect();
            if let Some(video) = net.rng.pick_one(&watched).copied() {
                self.close_any_viewer(net, video);
            }
        }
        let id = &self.id;
        if self.holder.is_leaving() && self.rooms.values().all(|room| room.seats.is_empty()) {
            net.trace_line(|| format!("{id} is empty"));
            self.drained = true;
        }
        self.keep_ticking(net);
    }

    fn close_for_order(&mut self, net: &mut SimNetwork, video: usize, order: &HandOver) {
        let heard = self.heard.get(&video).copied().unwrap_or(0);
        net.checks.require(order.epoch >= heard, || {
            format!("{order:?} is carried out by one who has heard of epoch {heard}")
        });
        net.checks.counts.handed_over += 1;
        net.checks.counts.shed += u64::from(order.here);
        net.checks.closing.push((video, name_to_index(&order.to)));
        self.close_any_viewer(net, video);
    }

    fn close_any_viewer(&mut self, net: &mut SimNetwork, video: usize) {
        let Some(room) = self.rooms.get_mut(&video) else { return };
        let conns: Vec<u64> = room.seats.keys().copied().collect();
        let Some(conn) = net.rng.pick_one(&conns) else { return };
        if let Some(mut seat) = room.seats.remove(conn) {
            write_item(net, self.node, *conn, &mut seat, StreamItem::End);
        }
        if room.seats.is_empty() {
            room.empty_since = net.now;
        }
    }
}
