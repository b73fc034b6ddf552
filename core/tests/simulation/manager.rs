//! A simulated manager around the [`Coordinator`]: its view of readers and assignments, and its messages to the store.

use std::collections::BTreeMap;
use std::time::Duration;

use liverank_core::VideoId;
use liverank_core::handover::coordinator::{
    self, AssignmentOrder, ClusterView, Coordinator, HandOverPace, OrderStep, ReaderStatus, VideoNeed,
};
use liverank_core::handover::{AssignedReaders, ReaderShare};
use liverank_core::liveness::ProbeOutcome;

use crate::net::{Ms, Msg, Net, Node, Record, Timer, index};
use crate::view::View;

mod watching;

use watching::Watching;

/// The interval at which a manager continues orders and empties readers, in milliseconds.
const CARRY_EVERY: Ms = 250;
const LOAD_EVERY: Ms = 4_000;
/// The longest time that a manager waits for a reader that it asked to make a video ready, in milliseconds.
const WARM_WITHIN: Ms = 4_000;
const STORE_WITHIN: Ms = 1_000;
const PACE: HandOverPace =
    HandOverPace { target_duration: Duration::from_secs(2), min_per_second: 2, max_per_second: 50 };

/// A request that waits for a video to have readers.
#[derive(Clone)]
struct WaitingAsker {
    asker: Option<((Node, u32), u64)>,
    known: u64,
}

enum PendingRequest {
    /// An assignment of the manager's own, with the requests that wait for it.
    Ensure(Vec<WaitingAsker>),
    Order(AssignmentOrder),
}

struct PendingSwap {
    video: usize,
    pending: PendingRequest,
}

/// A heartbeat that is being written to the store.
struct UnsavedHeartbeat {
    from: (Node, u32),
    record: Record,
    /// The time at which the store was told.
    began: Ms,
}

pub struct Manager {
    node: Node,
    view: View,
    watching: Watching,
    pub coordinator: Coordinator,
    cas: BTreeMap<u64, PendingSwap>,
    /// The heartbeats that are being written to the store, by the number of the request.
    unsaved_heartbeats: BTreeMap<u64, UnsavedHeartbeat>,
    last_load: u64,
    planners: BTreeMap<usize, (Node, u32)>,
}

impl Manager {
    pub fn new(net: &Net, at: usize) -> Self {
        Self {
            node: Node::Manager(at),
            view: View::new(net.instant(net.now), net.readers.clone()),
            watching: Watching::default(),
            coordinator: Coordinator::default(),
            cas: BTreeMap::new(),
            unsaved_heartbeats: BTreeMap::new(),
            last_load: 0,
            planners: BTreeMap::new(),
        }
    }

    pub fn boot(&mut self, net: &mut Net) {
        for timer in [Timer::Poll, Timer::Load, Timer::Sweep, Timer::Carry] {
            let after = net.rng.below(50);
            net.timer(self.node, after, timer);
        }
    }

    pub fn believes(&self, video: &VideoId) -> Option<&AssignedReaders> {
        self.view.assigned.get(video)
    }

    pub fn on_timer(&mut self, net: &mut Net, timer: Timer) {
        self.view.now = net.instant(net.now);
        match timer {
            Timer::Poll => self.poll(net),
            Timer::PollOver(sent) => self.end_poll(net, sent),
            Timer::Load => {
                self.last_load = net.unused_number();
                net.send(self.node, Node::Store, Msg::Load { rid: self.last_load });
                net.timer(self.node, if self.view.loaded { LOAD_EVERY } else { 300 }, timer);
            }
            Timer::Sweep => self.begin_sweep(net),
            Timer::ProbeOver(rid) => self.look_once_more(net, rid),
            Timer::LastLook(rid) => self.end_probe(net, rid, ProbeOutcome::Late),
            Timer::Carry => {
                self.empty_leaving_readers(net);
                self.advance_orders(net);
                net.timer(self.node, CARRY_EVERY, timer);
            }
            // The store did not answer: what is known stays in force, and whoever asks again is answered from it.
            Timer::Late(rid) => match self.cas.remove(&rid) {
                Some(PendingSwap { pending: PendingRequest::Order(order), .. }) => {
                    self.coordinator.note_swap_done(&order);
                }
                Some(PendingSwap { video, pending: PendingRequest::Ensure(waiting) }) => {
                    self.answer_waiting(net, video, waiting, false);
                }
                None => {}
            },
            _ => {}
        }
    }

    /// Moves videos off readers that leave.
    fn empty_leaving_readers(&mut self, net: &mut Net) {
        for video in 0..net.videos.len() {
            let id = net.videos[video].clone();
            let Some(assigned) = self.view.assigned.get(&id) else { continue };
            let leaves =
                |share: &ReaderShare| self.view.reader_status(&share.reader) == Some(ReaderStatus::Leaving);
            if self.view.is_fresh() && assigned.readers.iter().any(leaves) {
                self.drain_video(net, &id);
            }
        }
    }

    fn drain_video(&mut self, net: &mut Net, video: &VideoId) {
        if self.coordinator.is_moving(video) {
            return;
        }
        let order = coordinator::order_to_empty_readers(&self.view, video, |besides| {
            self.view.choose(video, besides)
        });
        let Some(order) = order else { return };
        let _ = self.coordinator.accept_order(net.time(), None, order, &self.view);
    }

    fn advance_orders(&mut self, net: &mut Net) {
        for step in self.coordinator.next_steps(net.time(), &self.view) {
            match step {
                OrderStep::WarmUpReader { reader, video } => {
                    let msg = Msg::Warm { video: index(video.as_str()), sent: net.now };
                    net.send(self.node, Node::Reader(index(reader.as_str())), msg);
                }
                OrderStep::SwapAssignment(order) => {
                    let (video, expected) = (index(order.video.as_str()), Some(order.expected_epoch));
                    let current = self.view.assigned.get(&order.video);
                    let has =
                        |share: &ReaderShare| current.is_some_and(|it| it.share_of(&share.reader).is_some());
                    let new = order.readers.iter().filter(|share| !has(share));
                    net.checks.given.extend(new.map(|share| (video, index(share.reader.as_str()))));
                    let readers = order.readers.clone();
                    self.swap_assignment(net, video, expected, readers, 0, PendingRequest::Order(order));
                }
                OrderStep::Dropped(_) => {}
            }
        }
    }

    fn swap_assignment(
        &mut self,
        net: &mut Net,
        video: usize,
        expected: Option<u64>,
        readers: Vec<ReaderShare>,
        seen: u64,
        pending: PendingRequest,
    ) {
        let rid = net.unused_number();
        let seen = seen.max(self.view.seen());
        net.send(self.node, Node::Store, Msg::Cas { rid, video, expected, readers, seen });
        net.timer(self.node, STORE_WITHIN, Timer::Late(rid));
        self.cas.insert(rid, PendingSwap { video, pending });
    }

    /// Makes sure that a video has usable readers, and answers the requests that wait for it.
    fn ensure_readers(&mut self, net: &mut Net, video: usize, mut waiting: Vec<WaitingAsker>) {
        let under_way = self.cas.values_mut().find_map(|cas| match &mut cas.pending {
            PendingRequest::Ensure(others) if cas.video == video => Some(others),
            _ => None,
        });
        if let Some(others) = under_way {
            others.append(&mut waiting);
            return;
        }
        let id = net.videos[video].clone();
        let known = waiting.iter().map(|it| it.known).max().unwrap_or(0);
        let choose = |besides: &[ReaderShare]| self.view.choose(&id, besides);
        match coordinator::decide_need(&self.view, &id, known, choose, |assigned| {
            self.view.roomiest_other(assigned)
        }) {
            VideoNeed::AlreadyServed => self.answer_waiting(net, video, waiting, true),
            VideoNeed::NoReader => {}
            // Before the first load, a video without a known assignment may have one all the same: only the store
            // knows.
            VideoNeed::Assign { expected, readers, seen } => {
                match expected {
                    Some(epoch) if known > epoch => net.checks.counts.reminted += 1,
                    Some(_) => net.checks.counts.reassigned += 1,
                    None => {}
                }
                self.swap_assignment(net, video, expected, readers, seen, PendingRequest::Ensure(waiting));
            }
        }
    }

    /// Answers waiting requests. `decided` says that the assignment in force was found usable, and is not merely all
    /// that is known.
    fn answer_waiting(&mut self, net: &mut Net, video: usize, waiting: Vec<WaitingAsker>, decided: bool) {
        let id = net.videos[video].clone();
        for it in waiting {
            let Some((asker, rid)) = it.asker else { continue };
            let lots = [net.rng.next() as u32, net.rng.next() as u32];
            // While the store is away, this manager's knowledge may be older than the caller's.
            let epoch = self.view.assigned.get(&id).map(|assigned| assigned.epoch);
            let epoch = epoch.filter(|epoch| *epoch >= it.known);
            let readers = epoch.map(|_| self.view.route(&id, lots)).unwrap_or_default();
            if let Some(best) = readers.first().filter(|_| decided && self.view.is_fresh()) {
                self.check_given_out(net, video, *best);
            }
            let answer = match epoch.filter(|_| !readers.is_empty()) {
                Some(epoch) => Msg::Routed { rid, video, epoch, readers, stale: !self.view.is_fresh() },
                None => Msg::NoRoute { rid },
            };
            net.answer(self.node, asker, answer);
        }
    }

    /// Checks that no viewer is sent to a reader that leaves, was removed or cannot be reached, as far as the manager
    /// was told, while another reader accepts viewers.
    fn check_given_out(&self, net: &mut Net, video: usize, best: usize) {
        let id = &net.readers[best];
        let takes_nobody =
            self.view.record(id).is_some_and(|record| record.draining) || self.view.is_removed(id);
        let others = self.view.open().into_iter().any(|other| {
            let reader = &net.readers[other];
            let is_recent = self.view.watch.get(reader).is_some_and(|it| it.has_recent_record(self.view.now));
            let is_alive = self.view.reader_status(reader) == Some(ReaderStatus::Alive);
            other != best && is_recent && is_alive && self.view.room(reader) > 0
        });
        net.checks.require(!takes_nobody || !others, || {
            format!(
                "a viewer of v{video} is sent to r{best}, which leaves or was removed, and there are others"
            )
        });
    }

    pub fn on(&mut self, net: &mut Net, from: (Node, u32), msg: Msg) {
        self.view.now = net.instant(net.now);
        match msg {
            Msg::CasDone { rid, video, stored, current } => {
                self.handle_swap_result(net, rid, video, stored, current);
            }
            Msg::State { rid, assignments } if rid == self.last_load => {
                self.view.loaded = true;
                self.view.assigned.clear();
                for (video, assigned) in assignments {
                    net.checks.believed("a manager", video, &assigned);
                    self.view.put_assignment(net.videos[video].clone(), assigned);
                }
            }
            Msg::AssignmentChanged { video, assigned } => {
                let id = net.videos[video].clone();
                if self.view.assigned.get(&id).is_none_or(|known| known.epoch < assigned.epoch) {
                    self.view.put_assignment(id, assigned);
                }
            }
            Msg::Records { sent, records, term, removed } => {
                self.coordinator.note_term(term);
                self.note_poll_answer(net, sent, records, removed);
            }
            Msg::Beat(record) => self.take_heartbeat(net, from, record),
            Msg::Saved { rid } => self.answer_heartbeat(net, rid),
            Msg::Route { rid, video, known } => {
                self.ensure_readers(net, video, vec![WaitingAsker { asker: Some((from, rid)), known }]);
            }
            Msg::Warmed { video, reader, sent } if net.now - sent <= WARM_WITHIN => {
                let (video, reader) = (net.videos[video].clone(), net.readers[reader].clone());
                self.view.ready(&reader, &video);
                self.coordinator.note_warmed(&video, &reader);
                self.advance_orders(net);
            }
            Msg::Probed { rid, .. } => self.end_probe(net, rid, ProbeOutcome::Answered),
            _ => self.handle_planner_message(net, from, msg),
        }
    }

    fn handle_planner_message(&mut self, net: &mut Net, from: (Node, u32), msg: Msg) {
        match msg {
            Msg::WantTerm => {
                let Node::Planner(planner) = from.0 else { return };
                self.planners.insert(planner, from);
                let seen = self.coordinator.term();
                net.send(self.node, Node::Store, Msg::MintTerm { planner, seen });
            }
            Msg::Minted { planner, term } => {
                self.coordinator.note_term(term);
                if let Some(to) = self.planners.get(&planner) {
                    net.answer(self.node, *to, Msg::Term(term));
                }
            }
            Msg::WhatIs => {
                let known = |video: usize| Some((video, self.view.assigned.get(&net.videos[video])?.clone()));
                let assignments = (0..net.videos.len()).filter_map(known).collect();
                let open = self.view.open();
                net.answer(self.node, from, Msg::Situation { assignments, open });
            }
            Msg::Order { term, video, expected, readers } => {
                let order =
                    AssignmentOrder { video: net.videos[video].clone(), expected_epoch: expected, readers };
                let taken = self.coordinator.accept_order(net.time(), Some(term), order, &self.view);
                if let Err(refused) = &taken {
                    net.trace(|| format!("an order for v{video} is refused: {refused}"));
                }
                net.answer(self.node, from, Msg::Ordered { accepted: taken.is_ok() });
                self.advance_orders(net);
            }
            _ => {}
        }
    }

    fn handle_swap_result(
        &mut self,
        net: &mut Net,
        rid: u64,
        video: usize,
        stored: bool,
        current: Option<AssignedReaders>,
    ) {
        let Some(PendingSwap { pending, .. }) = self.cas.remove(&rid) else { return };
        let id = net.videos[video].clone();
        match current {
            Some(current) => self.view.put_assignment(id, current),
            None => drop(self.view.assigned.remove(&id)),
        }
        match pending {
            PendingRequest::Order(order) => {
                net.checks.counts.swaps += u64::from(stored);
                net.checks.counts.races_lost += u64::from(!stored);
                self.coordinator.note_swap_done(&order);
            }
            PendingRequest::Ensure(waiting) => self.ensure_readers(net, video, waiting),
        }
    }

    /// Takes a heartbeat, as `heartbeat` in `services/manager/src/http.rs` does. A heartbeat that is refused is not
    /// answered.
    fn take_heartbeat(&mut self, net: &mut Net, from: (Node, u32), record: Record) {
        let watch = &self.view.watch;
        let is_refused = watch.was_suspended(self.view.now)
            || watch.name_refusal(&record).is_some()
            || watch.is_outdated(&record);
        if is_refused {
            return;
        }
        let rid = net.unused_number();
        net.send(self.node, Node::Store, Msg::SaveBeat { rid, record: record.clone() });
        // The process that sent an earlier one waits for it no longer.
        self.unsaved_heartbeats.retain(|_, unsaved| unsaved.record.id != record.id);
        let unsaved = UnsavedHeartbeat { from, record: record.clone(), began: net.now };
        self.unsaved_heartbeats.insert(rid, unsaved);
        self.view.note_heartbeat(record);
    }

    /// Answers a heartbeat after the store has saved it. A heartbeat that could not be saved is not answered, and the
    /// reader then tells another manager: `heartbeat` in `services/manager/src/http.rs` waits for the store before it
    /// answers.
    fn answer_heartbeat(&mut self, net: &mut Net, rid: u64) {
        let Some(UnsavedHeartbeat { from, record, began }) = self.unsaved_heartbeats.remove(&rid) else {
            return;
        };
        self.view.watch.note_lateness(self.view.now, Duration::from_millis(net.now - began));
        let (name, beat, held) = (record.id, record.beat, record.held);
        let answer = coordinator::answer_heartbeat(&self.view, &name, &held, &PACE);
        for (reader, video) in answer.warm_up_requests {
            let msg = Msg::Warm { video: index(video.as_str()), sent: net.now };
            net.send(self.node, Node::Reader(index(reader.as_str())), msg);
        }
        let crowded = answer.videos_without_room.into_iter().map(|(video, _)| (video, 0));
        for (video, known) in answer.outdated_videos.into_iter().chain(crowded) {
            self.ensure_readers(net, index(video.as_str()), vec![WaitingAsker { asker: None, known }]);
        }
        for held in held.iter().filter(|held| held.viewers > 0) {
            if self.view.loaded && !self.view.assigned.contains_key(&held.video) {
                let waiting = WaitingAsker { asker: None, known: held.epoch };
                self.ensure_readers(net, index(held.video.as_str()), vec![waiting]);
            }
        }
        let room = record.draining.then(|| self.view.room_elsewhere());
        net.answer(self.node, from, Msg::BeatAnswer { beat, orders: answer.hand_overs, room });
    }
}
