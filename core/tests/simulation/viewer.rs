//! A viewer around the [`ViewerSession`]: behind a gateway, which asks a manager after every end, or direct, which follows
//! redirects as a browser does. Remembers everything it is sent.

use std::time::Duration;

use liverank_core::handover::viewer_session::{RetryPolicy, Step, ViewerSession};
use liverank_core::{CommentEpoch, Position};

use crate::checks::MAX_MS_WITHOUT_ROUTE;
use crate::net::{Ms, NodeId, SimMessage, SimNetwork, SimTimer, StreamItem};

const RETRY_POLICY: RetryPolicy = RetryPolicy {
    first_pause: Duration::from_millis(250),
    longest_pause: Duration::from_secs(1),
    settled: Duration::from_secs(2),
    gives_up: Duration::from_mins(1),
};
/// What a gateway's read timeout is, on the simulation's scale.
const READ_TIMEOUT: Ms = 5_000;
/// Sent on so often in a row, a direct viewer asks a manager instead: readers that do not agree will have been told by
/// then.
const MAX_HOPS: u32 = 2;
const ROUTE_TIMEOUT: Ms = 800;
/// A host that is dead is not waited for as long as a reader that may have to ask and to fetch.
const CONNECT_TIMEOUT: Ms = 1_000;
const DIAL_TIMEOUT: Ms = 2_500;

/// Why there is no stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LossReason {
    /// It ended, broke or fell silent.
    Ended,
    /// Nobody took the viewer, or could say who does.
    Failed,
    /// A reader names another one.
    Redirected(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ViewerPhase {
    Pausing {
        rid: u64,
        choice: u32,
    },
    /// `stale`: the epoch and reader that a manager named which does not see the store.
    Asking {
        rid: u64,
        choice: u32,
        stale: Option<(u64, usize)>,
    },
    Dialing {
        conn: u64,
        reader: usize,
    },
    Watching {
        conn: u64,
        reader: usize,
    },
}

pub struct SimulatedViewer {
    node: NodeId,
    at: usize,
    pub video: usize,
    direct: bool,
    session: ViewerSession,
    /// When its stream said something last.
    heard: Ms,
    /// Redirects followed in a row.
    hops: u32,
    phase: ViewerPhase,
    manager: usize,
    numbering: CommentEpoch,
    /// The last number it was sent or told that it misses.
    pub last: Option<u64>,
    comments: u64,
    pub without_since: Option<Ms>,
    streams: u64,
}

impl SimulatedViewer {
    pub fn new(at: usize, video: usize, direct: bool) -> Self {
        Self {
            node: NodeId::Viewer(at),
            at,
            video,
            direct,
            session: ViewerSession::new(Duration::ZERO, String::new(), RETRY_POLICY),
            heard: 0,
            hops: 0,
            phase: ViewerPhase::Pausing { rid: 0, choice: 0 },
            manager: at,
            numbering: CommentEpoch::parse("n").expect("a numbering"),
            last: None,
            comments: 0,
            without_since: None,
            streams: 0,
        }
    }

    pub fn start_process(&mut self, net: &mut SimNetwork) {
        self.manager = net.rng.random_index(net.managers);
        self.without_since = Some(net.now);
        self.session = ViewerSession::new(net.time_since_start(), String::new(), RETRY_POLICY);
        self.carry_out_step(net, Step::Ask { at: net.time_since_start(), choice: 0 });
        net.set_timer(self.node, 1_000, SimTimer::Beat);
        let after = net.rng.number_between(1_000, 20_000);
        net.set_timer(self.node, after, SimTimer::Hiccup);
    }

    /// The reader that it has a stream of.
    pub const fn watches_at(&self) -> Option<usize> {
        match self.phase {
            ViewerPhase::Watching { reader, .. } if self.without_since.is_none() => Some(reader),
            _ => None,
        }
    }

    fn carry_out_step(&mut self, net: &mut SimNetwork, step: Step) {
        match step {
            Step::Ask { at, choice } => {
                let rid = net.fresh_number();
                self.phase = ViewerPhase::Pausing { rid, choice };
                net.set_timer(
                    self.node,
                    (at.as_millis() as u64).saturating_sub(net.now),
                    SimTimer::Late(rid),
                );
            }
            Step::GiveUp => {
                let at = self.at;
                net.checks.fail(|| format!("viewer {at} gives up"));
            }
        }
    }

    fn ask_manager(&mut self, net: &mut SimNetwork, choice: u32, stale: Option<(u64, usize)>) {
        let rid = net.fresh_number();
        self.phase = ViewerPhase::Asking { rid, choice, stale };
        let ask = SimMessage::Route { rid, video: self.video, known: 0 };
        net.send_message(self.node, NodeId::Manager(self.manager), ask);
        net.set_timer(self.node, ROUTE_TIMEOUT, SimTimer::Late(rid));
    }

    /// No manager knows better than the one that does not see the store.
    fn handle_unanswered(&mut self, net: &mut SimNetwork, stale: Option<(u64, usize)>) {
        match stale {
            Some((epoch, reader)) => self.dial_reader(net, reader, Some(epoch)),
            None => self.handle_loss(net, LossReason::Failed),
        }
    }

    fn dial_reader(&mut self, net: &mut SimNetwork, reader: usize, under: Option<u64>) {
        let conn = net.fresh_number();
        self.phase = ViewerPhase::Dialing { conn, reader };
        let position = Position::parse(self.session.last_id()).ok().map(|position| position.seq);
        let connect = SimMessage::Connect { conn, video: self.video, position, under };
        // TCP repeats nothing, and tries again after a second what was lost. Where the process is dead and its host
        // is not, the kernel refuses.
        let again = if net.rng.happens_per_mille(net.weather.lost) { 1_000 } else { 0 };
        let at = net.now + net.random_delay() + again;
        if !net.address_leads_to(NodeId::Reader(reader)) {
            net.deliver_at(net.now + 1, NodeId::Reader(reader), self.node, None, SimMessage::Reset { conn });
        } else if net.is_up(NodeId::Reader(reader)) {
            net.deliver_at(at, self.node, NodeId::Reader(reader), None, connect);
        } else if net.rng.happens_per_mille(700) {
            net.deliver_at(at, NodeId::Reader(reader), self.node, None, SimMessage::Reset { conn });
        }
        let within = if net.is_up(NodeId::Reader(reader)) { DIAL_TIMEOUT } else { CONNECT_TIMEOUT };
        net.set_timer(self.node, within, SimTimer::Late(conn));
    }

    fn handle_loss(&mut self, net: &mut SimNetwork, why: LossReason) {
        if self.without_since.is_none() {
            self.without_since = Some(net.now);
        }
        // Whoever sent it where there is no stream may be cut off and know of no move.
        if !matches!(why, LossReason::Ended) || matches!(self.phase, ViewerPhase::Dialing { .. }) {
            self.manager = (self.manager + 1) % net.managers;
        }
        let lot = net.rng.next_number() as u32;
        // A gateway does not follow readers' redirects: it asks a manager.
        if let LossReason::Redirected(reader) = why
            && self.direct
            && self.hops < MAX_HOPS
        {
            self.hops += 1;
            return self.dial_reader(net, reader, None);
        }
        self.hops = 0;
        let step = self.session.lost(net.time_since_start(), lot);
        self.carry_out_step(net, step);
    }

    pub fn on_timer(&mut self, net: &mut SimNetwork, timer: SimTimer) {
        match (timer, self.phase) {
            (SimTimer::Late(late), ViewerPhase::Pausing { rid, choice }) if late == rid => {
                self.ask_manager(net, choice, None);
            }
            (SimTimer::Late(late), ViewerPhase::Asking { rid, stale, .. }) if late == rid => {
                self.handle_unanswered(net, stale);
            }
            (SimTimer::Late(late), ViewerPhase::Dialing { conn, reader }) if late == conn => {
                net.send_message(self.node, NodeId::Reader(reader), SimMessage::Close { conn });
                self.handle_loss(net, LossReason::Failed);
            }
            (SimTimer::Beat, _) => {
                let watches = matches!(self.phase, ViewerPhase::Watching { .. });
                if watches && net.now.saturating_sub(self.heard) >= READ_TIMEOUT {
                    self.handle_loss(net, LossReason::Ended);
                }
                self.check_route(net);
                net.set_timer(self.node, 1_000, timer);
            }
            (SimTimer::Hiccup, phase) => {
                if net.weather.lost == 0 {
                    return;
                }
                if let ViewerPhase::Watching { conn, reader } = phase {
                    net.send_message(self.node, NodeId::Reader(reader), SimMessage::Close { conn });
                    self.handle_loss(net, LossReason::Ended);
                }
                let after = net.rng.number_between(8_000, 30_000);
                net.set_timer(self.node, after, timer);
            }
            _ => {}
        }
    }

    fn check_route(&self, net: &mut SimNetwork) {
        let Some(since) = self.without_since else { return };
        // Nobody can be given another reader while what the managers share cannot be reached.
        let waited = (net.now - since).saturating_sub(net.checks.excused_ms(since, net.now));
        net.checks.counts.longest_without = net.checks.counts.longest_without.max(waited);
        let (at, video, phase) = (self.at, self.video, self.phase);
        net.checks.require(waited <= MAX_MS_WITHOUT_ROUTE, || {
            format!("viewer {at} of v{video} has been without a stream for {waited} ms: {phase:?}")
        });
    }

    pub fn handle_message(&mut self, net: &mut SimNetwork, from: (NodeId, u32), msg: SimMessage) {
        let sender = from.0;
        match (msg, self.phase) {
            (
                SimMessage::Routed { rid, epoch, readers, stale: is_stale, .. },
                ViewerPhase::Asking { rid: asked, choice, stale },
            ) if rid == asked => {
                let reader = readers[choice as usize % readers.len()];
                match stale {
                    None if is_stale => {
                        self.manager = (self.manager + 1) % net.managers;
                        self.ask_manager(net, choice, Some((epoch, reader)));
                    }
                    Some((epoch, first)) if is_stale => self.dial_reader(net, first, Some(epoch)),
                    _ => self.dial_reader(net, reader, Some(epoch)),
                }
            }
            (SimMessage::NoRoute { rid }, ViewerPhase::Asking { rid: asked, stale, .. }) if rid == asked => {
                self.handle_unanswered(net, stale);
            }
            (SimMessage::Redirect { conn, to }, ViewerPhase::Dialing { conn: dialed, .. })
                if conn == dialed =>
            {
                self.handle_loss(net, LossReason::Redirected(to));
            }
            (SimMessage::Refuse { conn }, ViewerPhase::Dialing { conn: dialed, .. }) if conn == dialed => {
                self.handle_loss(net, LossReason::Failed);
            }
            (
                SimMessage::Reset { conn },
                ViewerPhase::Dialing { conn: mine, .. } | ViewerPhase::Watching { conn: mine, .. },
            ) if conn == mine => {
                self.handle_loss(net, LossReason::Ended);
            }
            (SimMessage::Sent { conn, item }, ViewerPhase::Dialing { conn: mine, reader })
                if conn == mine =>
            {
                self.phase = ViewerPhase::Watching { conn, reader };
                self.session.opened(net.time_since_start());
                self.hops = 0;
                self.take_item(net, item);
            }
            (SimMessage::Sent { conn, item }, ViewerPhase::Watching { conn: mine, .. }) if conn == mine => {
                self.take_item(net, item);
            }
            // Of a stream that is over for this viewer: nobody listens there any more.
            (SimMessage::Sent { conn, item }, _) if !matches!(item, StreamItem::End) => {
                net.send_message(self.node, sender, SimMessage::Close { conn });
            }
            _ => {}
        }
    }

    fn take_item(&mut self, net: &mut SimNetwork, item: StreamItem) {
        self.heard = net.now;
        let id = |seq| Position { numbering: self.numbering.clone(), seq }.to_string();
        // As a gateway does: the first greeting is for the client, and each event that it passes on has an id.
        match item {
            StreamItem::Alive => return,
            StreamItem::End => return self.handle_loss(net, LossReason::Ended),
            StreamItem::Connected(seq) if self.session.greeted() => self.session.stands_at(&id(seq)),
            StreamItem::Connected(_) => {}
            StreamItem::Comment(seq) | StreamItem::Gap(_, seq) => self.session.stands_at(&id(seq)),
        }
        let (at, last) = (self.at, self.last);
        net.trace_line(|| format!("viewer {at} {item:?}"));
        match item {
            StreamItem::Connected(head) => {
                self.without_since = None;
                self.streams += 1;
                net.checks.counts.streams += 1;
                net.checks.counts.resumed += u64::from(last.is_some());
                net.checks.counts.before_any_comment += u64::from(last.is_some() && self.comments == 0);
                net.checks.require(last.is_none_or(|last| last == head), || {
                    format!("viewer {at} has seen {last:?} and is resumed at {head}")
                });
                self.last = self.last.or(Some(head));
            }
            StreamItem::Comment(seq) => {
                net.checks.counts.comments_seen += 1;
                self.comments += 1;
                net.checks.require(last.is_some_and(|last| last + 1 == seq), || {
                    format!("viewer {at} has seen {last:?} and is sent {seq}")
                });
                self.last = Some(seq);
            }
            StreamItem::Gap(from, to) => {
                net.checks.counts.gaps += 1;
                let beyond = net.checks.heads[self.video].saturating_sub(net.checks.reach);
                net.checks.require(last.is_some_and(|last| last + 1 == from) && to <= beyond, || {
                    format!(
                        "viewer {at} has seen {last:?}; a gap from {from} to {to} is more than it must miss"
                    )
                });
                self.last = Some(to);
            }
            StreamItem::Alive | StreamItem::End => {}
        }
    }

    /// At the end nothing may be missing.
    pub fn check_end(&self, net: &mut SimNetwork, head: u64) {
        let (at, video, last, phase) = (self.at, self.video, self.last, self.phase);
        net.checks.require(self.watches_at().is_some() && last == Some(head), || {
            format!("at the end viewer {at} of v{video} stands at {last:?} of {head}: {phase:?}")
        });
    }
}
