//! A simulated viewer around the [`ViewerSession`]: behind a gateway, which asks a manager whenever the stream ends,
//! or direct, which follows redirects as a browser does. The viewer remembers everything it is sent.

use std::time::Duration;

use liverank_core::handover::viewer_session::{RetryPolicy, SessionStep, ViewerSession};
use liverank_core::{CommentEpoch, StreamPosition};

use crate::checks::WITHOUT_ROUTE;
use crate::net::{Item, Ms, Msg, Net, Node, Timer};

const RETRY_POLICY: RetryPolicy = RetryPolicy {
    first_pause: Duration::from_millis(250),
    longest_pause: Duration::from_secs(1),
    stable_after: Duration::from_secs(2),
    give_up_after: Duration::from_mins(1),
};
/// The read timeout of a gateway, scaled to the simulation, in milliseconds.
const READ_TIMEOUT: Ms = 5_000;
/// The most redirects in a row that a direct viewer follows before it asks a manager instead: readers that disagree
/// will have been told by then.
const MAX_HOPS: u32 = 2;
const ROUTE_TIMEOUT: Ms = 800;
/// The time to wait for a host that is dead, in milliseconds: less than for a reader, which may have to ask and to
/// fetch.
const CONNECT_TIMEOUT: Ms = 1_000;
const DIAL_TIMEOUT: Ms = 2_500;

/// The reason why there is no stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LossReason {
    /// The stream ended, broke or fell silent.
    Ended,
    /// No reader accepted the viewer, or no manager could name one.
    Failed,
    /// The reader named another one.
    Redirected(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ViewerPhase {
    Pausing {
        rid: u64,
        choice: u32,
    },
    /// `stale` is the epoch and reader from a manager that cannot reach the store. `before` is the number of managers
    /// that were asked before this one.
    Asking {
        rid: u64,
        choice: u32,
        stale: Option<(u64, usize)>,
        before: usize,
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

pub struct Viewer {
    node: Node,
    at: usize,
    pub video: usize,
    direct: bool,
    session: ViewerSession,
    /// The time at which the stream last brought anything.
    heard: Ms,
    /// The number of redirects followed in a row.
    hops: u32,
    phase: ViewerPhase,
    manager: usize,
    numbering: CommentEpoch,
    /// The last sequence number that the viewer was sent or told that it has missed.
    pub last: Option<u64>,
    comments: u64,
    pub without_since: Option<Ms>,
    streams: u64,
}

impl Viewer {
    pub fn new(at: usize, video: usize, direct: bool) -> Self {
        Self {
            node: Node::Viewer(at),
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

    pub fn boot(&mut self, net: &mut Net) {
        self.manager = net.rng.index(net.managers);
        self.without_since = Some(net.now);
        self.session = ViewerSession::new(net.time(), String::new(), RETRY_POLICY);
        self.carry_out_step(net, SessionStep::AskForReader { at: net.time(), choice: 0 });
        net.timer(self.node, 1_000, Timer::Beat);
        let after = net.rng.between(1_000, 20_000);
        net.timer(self.node, after, Timer::Hiccup);
    }

    /// Returns the reader of the viewer's stream; `None` if it has none.
    pub const fn watches_at(&self) -> Option<usize> {
        match self.phase {
            ViewerPhase::Watching { reader, .. } if self.without_since.is_none() => Some(reader),
            _ => None,
        }
    }

    fn carry_out_step(&mut self, net: &mut Net, step: SessionStep) {
        match step {
            SessionStep::AskForReader { at, choice } => {
                let rid = net.unused_number();
                self.phase = ViewerPhase::Pausing { rid, choice };
                net.timer(self.node, (at.as_millis() as u64).saturating_sub(net.now), Timer::Late(rid));
            }
            SessionStep::GiveUp => {
                let at = self.at;
                net.checks.fail(|| format!("viewer {at} gives up"));
            }
        }
    }

    fn ask_manager(&mut self, net: &mut Net, choice: u32, stale: Option<(u64, usize)>, before: usize) {
        let rid = net.unused_number();
        self.phase = ViewerPhase::Asking { rid, choice, stale, before };
        let ask = Msg::Route { rid, video: self.video, known: 0 };
        net.send(self.node, Node::Manager(self.manager), ask);
        net.timer(self.node, ROUTE_TIMEOUT, Timer::Late(rid));
    }

    /// Asks the next manager, until one answers that can reach the store, as a gateway does (`first_answer` in
    /// `runtime/src/peer.rs`). The manager that answered last time is asked first. If none can reach the store, the
    /// answer of one that cannot is used.
    fn handle_unanswered(&mut self, net: &mut Net, choice: u32, stale: Option<(u64, usize)>, before: usize) {
        if before + 1 < net.managers {
            self.manager = (self.manager + 1) % net.managers;
            return self.ask_manager(net, choice, stale, before + 1);
        }
        match stale {
            Some((epoch, reader)) => self.dial_reader(net, reader, Some(epoch)),
            None => self.handle_loss(net, LossReason::Failed),
        }
    }

    fn dial_reader(&mut self, net: &mut Net, reader: usize, under: Option<u64>) {
        let conn = net.unused_number();
        self.phase = ViewerPhase::Dialing { conn, reader };
        let position = StreamPosition::parse(self.session.last_id()).ok().map(|position| position.seq);
        let connect = Msg::Connect { conn, video: self.video, position, under };
        // TCP repeats nothing, and sends lost packets again after a second. If the process is dead and its host is
        // not, the kernel refuses the connection.
        let again = if net.rng.chance(net.weather.lost) { 1_000 } else { 0 };
        let at = net.now + net.delay() + again;
        if !net.leads_to(Node::Reader(reader)) {
            net.deliver(net.now + 1, Node::Reader(reader), self.node, None, Msg::Reset { conn });
        } else if net.is_up(Node::Reader(reader)) {
            net.deliver(at, self.node, Node::Reader(reader), None, connect);
        } else if net.rng.chance(700) {
            net.deliver(at, Node::Reader(reader), self.node, None, Msg::Reset { conn });
        }
        let within = if net.is_up(Node::Reader(reader)) { DIAL_TIMEOUT } else { CONNECT_TIMEOUT };
        net.timer(self.node, within, Timer::Late(conn));
    }

    fn handle_loss(&mut self, net: &mut Net, why: LossReason) {
        if self.without_since.is_none() {
            self.without_since = Some(net.now);
        }
        let lot = net.rng.next() as u32;
        // A gateway does not follow readers' redirects: it asks a manager.
        if let LossReason::Redirected(reader) = why
            && self.direct
            && self.hops < MAX_HOPS
        {
            self.hops += 1;
            return self.dial_reader(net, reader, None);
        }
        self.hops = 0;
        let step = self.session.next_step_after_loss(net.time(), lot);
        self.carry_out_step(net, step);
    }

    pub fn on_timer(&mut self, net: &mut Net, timer: Timer) {
        match (timer, self.phase) {
            (Timer::Late(late), ViewerPhase::Pausing { rid, choice }) if late == rid => {
                self.ask_manager(net, choice, None, 0);
            }
            (Timer::Late(late), ViewerPhase::Asking { rid, choice, stale, before }) if late == rid => {
                self.handle_unanswered(net, choice, stale, before);
            }
            (Timer::Late(late), ViewerPhase::Dialing { conn, reader }) if late == conn => {
                net.send(self.node, Node::Reader(reader), Msg::Close { conn });
                self.handle_loss(net, LossReason::Failed);
            }
            (Timer::Beat, _) => {
                let watches = matches!(self.phase, ViewerPhase::Watching { .. });
                if watches && net.now.saturating_sub(self.heard) >= READ_TIMEOUT {
                    self.handle_loss(net, LossReason::Ended);
                }
                self.check_route(net);
                net.timer(self.node, 1_000, timer);
            }
            (Timer::Hiccup, phase) => {
                if net.weather.lost == 0 {
                    return;
                }
                if let ViewerPhase::Watching { conn, reader } = phase {
                    net.send(self.node, Node::Reader(reader), Msg::Close { conn });
                    self.handle_loss(net, LossReason::Ended);
                }
                let after = net.rng.between(8_000, 30_000);
                net.timer(self.node, after, timer);
            }
            _ => {}
        }
    }

    fn check_route(&self, net: &mut Net) {
        let Some(lost) = self.without_since else { return };
        // If the reader that the viewer was to go to died as well, its video has to be given to another one once more.
        let since = lost.max(net.checks.last_death.get(&self.video).copied().unwrap_or(0));
        // Nobody can be given another reader while the managers cannot reach their store.
        let waited = (net.now - since).saturating_sub(net.checks.excused(since, net.now));
        net.checks.counts.longest_without = net.checks.counts.longest_without.max(waited);
        let (at, video, phase) = (self.at, self.video, self.phase);
        net.checks.require(waited <= WITHOUT_ROUTE, || {
            format!("viewer {at} of v{video} has been without a stream for {waited} ms: {phase:?}")
        });
    }

    pub fn on(&mut self, net: &mut Net, from: (Node, u32), msg: Msg) {
        let sender = from.0;
        match (msg, self.phase) {
            (
                Msg::Routed { rid, epoch, readers, stale: is_stale, .. },
                ViewerPhase::Asking { rid: asked, choice, stale, before },
            ) if rid == asked => {
                let reader = readers[choice as usize % readers.len()];
                if is_stale {
                    let stale = stale.or(Some((epoch, reader)));
                    return self.handle_unanswered(net, choice, stale, before);
                }
                self.dial_reader(net, reader, Some(epoch));
            }
            (Msg::NoRoute { rid }, ViewerPhase::Asking { rid: asked, choice, stale, before })
                if rid == asked =>
            {
                self.handle_unanswered(net, choice, stale, before);
            }
            (Msg::Redirect { conn, to }, ViewerPhase::Dialing { conn: dialed, .. }) if conn == dialed => {
                self.handle_loss(net, LossReason::Redirected(to));
            }
            (Msg::Refuse { conn }, ViewerPhase::Dialing { conn: dialed, .. }) if conn == dialed => {
                self.handle_loss(net, LossReason::Failed);
            }
            (
                Msg::Reset { conn },
                ViewerPhase::Dialing { conn: mine, .. } | ViewerPhase::Watching { conn: mine, .. },
            ) if conn == mine => {
                self.handle_loss(net, LossReason::Ended);
            }
            (Msg::Sent { conn, item }, ViewerPhase::Dialing { conn: mine, reader }) if conn == mine => {
                self.phase = ViewerPhase::Watching { conn, reader };
                self.session.note_stream_opened(net.time());
                self.hops = 0;
                self.take_item(net, item);
            }
            (Msg::Sent { conn, item }, ViewerPhase::Watching { conn: mine, .. }) if conn == mine => {
                self.take_item(net, item);
            }
            // The item is of a stream that is over for this viewer, so its connection is closed.
            (Msg::Sent { conn, item }, _) if !matches!(item, Item::End) => {
                net.send(self.node, sender, Msg::Close { conn });
            }
            _ => {}
        }
    }

    fn take_item(&mut self, net: &mut Net, item: Item) {
        self.heard = net.now;
        let id = |seq| StreamPosition { comment_epoch: self.numbering.clone(), seq }.to_string();
        // As in a gateway, only the first greeting is for the client, and each event that is passed on has an id.
        match item {
            Item::Alive => return,
            Item::End => return self.handle_loss(net, LossReason::Ended),
            Item::Connected(seq) if self.session.note_greeting() => self.session.note_position(&id(seq)),
            Item::Connected(_) => {}
            Item::Comment(seq) | Item::Gap(_, seq) => self.session.note_position(&id(seq)),
        }
        let (at, last) = (self.at, self.last);
        net.trace(|| format!("viewer {at} {item:?}"));
        match item {
            Item::Connected(head) => {
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
            Item::Comment(seq) => {
                net.checks.counts.comments_seen += 1;
                self.comments += 1;
                net.checks.require(last.is_some_and(|last| last + 1 == seq), || {
                    format!("viewer {at} has seen {last:?} and is sent {seq}")
                });
                self.last = Some(seq);
            }
            Item::Gap(from, to) => {
                net.checks.counts.gaps += 1;
                let beyond = net.checks.heads[self.video].saturating_sub(net.checks.reach);
                net.checks.require(last.is_some_and(|last| last + 1 == from) && to <= beyond, || {
                    format!(
                        "viewer {at} has seen {last:?}; a gap from {from} to {to} is more than it must miss"
                    )
                });
                self.last = Some(to);
            }
            Item::Alive | Item::End => {}
        }
    }

    /// Describes the viewer's position in a video that has comments up to `head`.
    pub fn describe(&self, head: u64) -> String {
        let (at, video, last, phase) = (self.at, self.video, self.last, self.phase);
        format!("viewer {at} of v{video} stands at {last:?} of {head}: {phase:?}")
    }
}
