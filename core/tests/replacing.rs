//! All readers of a video that is spread over several are replaced, one after the other, as an upgrade does it: nobody is
//! moved twice. A small model of readers that report every second and refuse whom they have no room for, viewers that need
//! up to three to come back and go on to the next reader where they are refused, a manager that goes by
//! [`answer_heartbeat`], [`order_off_emptied_readers`] and [`readers_to_join`] on what was reported, and a gateway that asks for a
//! route once a second and chooses among its readers by [`choose_route_reader`].
//!
//! The machines may be too busy: viewers then need up to seven and a half, and a fifth of the reports do not come.
//!
//! What it begins with is what an upgrade may find: viewers who lie otherwise than the shares say, for some left and
//! nobody balances; readers that are nearly full; one that was emptied a moment ago and whose process goes on reporting.

use std::collections::BTreeMap;
use std::time::Duration;

use liverank_core::handover::coordinator::{
    ClusterView, HandOverPace, ReaderStatus, ReaderToJoin, answer_heartbeat, order_off_emptied_readers,
    readers_to_join,
};
use liverank_core::handover::peak::RecentPeak;
use liverank_core::handover::reserved::ReservedCapacity;
use liverank_core::handover::routing::{RouteOption, choose_route_reader};
use liverank_core::handover::{AssignedReaders, HandOver, HeldVideo, ReaderShare};
use liverank_core::{ReaderId, VideoId};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

const TICK_INTERVAL: Duration = Duration::from_millis(100);
const TICKS_A_REPORT: u64 = 10;
/// How long a gateway uses a route for all who come.
const TICKS_A_ROUTE: u64 = 10;
/// How long an order of a heartbeat's answer holds.
const ORDER_TICKS: u64 = 30;
const MAX_TICKS_AWAY: u64 = 30;
/// The same where the machines are too busy: what a viewer asks for is answered seconds later.
const MAX_TICKS_AWAY_WHEN_BUSY: u64 = 75;
/// Between a reader that is told to leave and the compare-and-set that takes the video from it.
const SWAP_AFTER_TICKS: u64 = 15;
/// Between one that is empty and the next that is told to leave: the operator waits as long.
const NEXT_READER_AFTER_TICKS: u64 = 100;
/// Ticks in which all is to be over.
const MAX_TICKS: u64 = 8_000;

/// What the manager knows.
struct ManagerKnowledge {
    video: VideoId,
    assigned: AssignedReaders,
    standing: BTreeMap<ReaderId, ReaderStatus>,
    closed: Vec<ReaderId>,
    reported: BTreeMap<ReaderId, HeldVideo>,
    peak: RecentPeak,
    reserved: ReservedCapacity,
    capacity: u64,
}

impl ClusterView for ManagerKnowledge {
    fn assigned_readers(&self, _: &VideoId) -> Option<&AssignedReaders> {
        Some(&self.assigned)
    }
    fn reader_status(&self, reader: &ReaderId) -> Option<ReaderStatus> {
        self.standing.get(reader).copied()
    }
    fn viewer_url(&self, reader: &ReaderId) -> Option<String> {
        Some(reader.to_string())
    }
    fn held_video(&self, reader: &ReaderId, _: &VideoId) -> Option<&HeldVideo> {
        self.reported.get(reader)
    }
    fn usage_thousandths(&self, reader: &ReaderId) -> u64 {
        let viewers = self.reported.get(reader).map_or(0, |held| held.viewers);
        (viewers + self.reserved.reserved_for(reader)) * 1_000 / self.capacity
    }
    fn room(&self, reader: &ReaderId) -> u64 {
        let viewers = self.reported.get(reader).map_or(0, |held| held.viewers);
        self.capacity.saturating_sub(viewers + self.reserved.reserved_for(reader))
    }
    fn reported_usage(&self, reader: &ReaderId) -> (u64, u64) {
        (self.capacity, self.reported.get(reader).map_or(0, |held| held.viewers))
    }
    fn is_open(&self, reader: &ReaderId) -> bool {
        !self.closed.contains(reader) && self.reader_status(reader) == Some(ReaderStatus::Alive)
    }
    fn viewers(&self, _: &VideoId) -> u64 {
        self.peak.greatest()
    }
}

struct SimulatedViewer {
    at: ReaderId,
    /// When it comes back, and where it was told to go, where it goes by that.
    away: Option<(u64, Option<ReaderId>)>,
    direct: bool,
    moves: u32,
}

struct ReplacementSimulation {
    start: UpgradeStart,
    known: ManagerKnowledge,
    viewers: Vec<SimulatedViewer>,
    orders: BTreeMap<ReaderId, (u64, HandOver)>,
    route: GatewayRoute,
    tick: u64,
    rng: u64,
}

/// What the gateway was last told.
#[derive(Default)]
struct GatewayRoute {
    asked: u64,
    /// Each with its usage.
    readers: Vec<(ReaderToJoin, u64)>,
}

impl GatewayRoute {
    /// The readers for a viewer, in the order in which it is sent to them.
    fn readers_for_viewer(&self, lots: [u32; 2]) -> Vec<ReaderId> {
        let options: Vec<RouteOption<'_>> = self
            .readers
            .iter()
            .map(|(join, load)| RouteOption {
                reader: &join.reader,
                takes: join.takes,
                load: *load,
                wanted: join.wanted,
            })
            .collect();
        let mut tried = Vec::new();
        for choice in 0..options.len() {
            let at = choose_route_reader(&options, &tried, choice as u32, lots).expect("there are readers");
            tried.push(options[at].reader.clone());
        }
        tried
    }
}

fn reader(kind: &str, at: usize) -> ReaderId {
    ReaderId::parse(&format!("{kind}-{at}")).expect("a name")
}

/// What an upgrade finds.
#[derive(Debug, Clone)]
struct UpgradeStart {
    /// The readers' parts of the video.
    weights: Vec<u32>,
    viewers: usize,
    /// By how much, in percent, a reader may have more or less than its part.
    drift: u32,
    /// Viewers that a reader holds, in percent of those that the fullest has.
    room: u64,
    /// Ticks that a viewer needs to come back, at most.
    ticks_away: u64,
    /// Reports that do not come in time, in percent.
    lost_reports: u32,
}

/// Emptied a moment ago. Its process goes on for a while; the managers were told that it is removed.
const EMPTIED_READER: &str = "emptied";

impl ReplacementSimulation {
    fn new(start: &UpgradeStart, seed: u64) -> Self {
        let readers = start.weights.iter().enumerate();
        let readers: Vec<ReaderShare> =
            readers.map(|(at, weight)| ReaderShare { reader: reader("old", at), weight: *weight }).collect();
        let mut model = Self {
            start: start.clone(),
            known: ManagerKnowledge {
                video: VideoId::parse("v").expect("a name"),
                standing: readers.iter().map(|it| (it.reader.clone(), ReaderStatus::Alive)).collect(),
                closed: Vec::new(),
                reported: BTreeMap::new(),
                peak: RecentPeak::default(),
                assigned: AssignedReaders { epoch: 1, readers: readers.clone() },
                reserved: ReservedCapacity::default(),
                capacity: 1,
            },
            viewers: Vec::new(),
            orders: BTreeMap::new(),
            route: GatewayRoute::default(),
            tick: 0,
            rng: seed | 1,
        };
        model.known.standing.insert(reader(EMPTIED_READER, 0), ReaderStatus::Gone);
        // As many at each as its weight says, more or less.
        let drifted: Vec<u64> = readers
            .iter()
            .map(|share| {
                let percent = 100 - start.drift + model.random_number() % (2 * start.drift + 1);
                u64::from(share.weight) * u64::from(percent)
            })
            .collect();
        let all: u64 = drifted.iter().sum();
        for nth in 0..start.viewers {
            let mut place = (nth as u64 * 7_919 * 7_919) % all;
            let at = drifted.iter().position(|weight| {
                let here = place < *weight;
                place = place.saturating_sub(*weight);
                here
            });
            let at = reader("old", at.expect("one of them"));
            model.viewers.push(SimulatedViewer { at, away: None, direct: nth % 2 == 0, moves: 0 });
        }
        let most = readers.iter().map(|share| model.viewers_watching(&share.reader)).max().unwrap_or(0);
        model.known.capacity = (most * start.room / 100).max(most + 1);
        model
    }

    fn random_number(&mut self) -> u32 {
        // xorshift64 (Marsaglia 2003).
        self.rng ^= self.rng << 13;
        self.rng ^= self.rng >> 7;
        self.rng ^= self.rng << 17;
        (self.rng >> 32) as u32
    }

    fn viewers_watching(&self, reader: &ReaderId) -> u64 {
        self.viewers.iter().filter(|viewer| viewer.at == *reader && viewer.away.is_none()).count() as u64
    }

    fn advance_a_tick(&mut self, pace: &HandOverPace) {
        self.tick += 1;
        let readers: Vec<ReaderId> = self.known.standing.keys().cloned().collect();
        for (at, reader) in readers.iter().enumerate() {
            let is_due = (self.tick + at as u64 * 3).is_multiple_of(TICKS_A_REPORT);
            if is_due && self.random_number() % 100 >= self.start.lost_reports {
                self.report_heartbeat(reader, pace);
            }
            self.close_due_streams(reader);
        }
        for at in 0..self.viewers.len() {
            let Some((until, to)) = self.viewers[at].away.clone() else { continue };
            if until > self.tick {
                continue;
            }
            let lots = [self.random_number(), self.random_number()];
            let ways = if self.viewers[at].direct {
                let readers = readers_to_join(&self.known, &self.known.video, &self.known.assigned, lots);
                readers.into_iter().map(|join| join.reader).collect()
            } else {
                self.ask_for_route(lots);
                self.route.readers_for_viewer(lots)
            };
            let mut takes =
                to.into_iter().chain(ways).filter(|to| self.viewers_watching(to) < self.known.capacity);
            let Some(to) = takes.next() else {
                self.viewers[at].away = Some((self.tick + TICKS_A_REPORT, None));
                continue;
            };
            self.known.reserved.reserve(TICK_INTERVAL * self.tick as u32, &to, 1);
            let viewer = &mut self.viewers[at];
            viewer.moves += u32::from(viewer.at != to);
            (viewer.at, viewer.away) = (to, None);
        }
    }

    /// As a gateway does: what was asked for less than a second ago is used again.
    fn ask_for_route(&mut self, lots: [u32; 2]) {
        if !self.route.readers.is_empty() && self.tick < self.route.asked + TICKS_A_ROUTE {
            return;
        }
        let known = &self.known;
        let readers = readers_to_join(known, &known.video, &known.assigned, lots);
        let readers = readers.into_iter().map(|join| {
            let load = known.usage_thousandths(&join.reader);
            (join, load)
        });
        self.route = GatewayRoute { asked: self.tick, readers: readers.collect() };
    }

    fn report_heartbeat(&mut self, reader: &ReaderId, pace: &HandOverPace) {
        let (video, epoch) = (self.known.video.clone(), self.known.assigned.epoch);
        let shedding = self.orders.get(reader).is_some_and(|(until, order)| *until > self.tick && order.here);
        let held = HeldVideo { video, viewers: self.viewers_watching(reader), epoch, ready: true, shedding };
        let before = self.known.reported.insert(reader.clone(), held.clone()).map_or(0, |held| held.viewers);
        self.known.reserved.note_arrived(reader, held.viewers.saturating_sub(before));
        self.known.reserved.expire(TICK_INTERVAL * self.tick as u32);
        let reported = &self.known.reported;
        let all = reported.values().map(|held| held.viewers).sum();
        let handed_over =
            reported.iter().any(|(reader, held)| self.known.assigned.must_hand_over(reader, held));
        self.known.peak.note(TICK_INTERVAL * self.tick as u32, all, handed_over);
        match answer_heartbeat(&self.known, reader, &[held], pace).hand_overs.pop() {
            Some(order) => self.orders.insert(reader.clone(), (self.tick + ORDER_TICKS, order)),
            None => self.orders.remove(reader),
        };
    }

    /// Ends as many streams as are due.
    fn close_due_streams(&mut self, reader: &ReaderId) {
        let Some((until, order)) = self.orders.get(reader).cloned() else { return };
        let due =
            u64::from(order.pace).div_ceil(10).min(self.viewers_watching(reader).saturating_sub(order.keep));
        if until < self.tick {
            return;
        }
        let to = ReaderId::parse(&order.to).expect("a name");
        for _ in 0..due {
            let nth = self.random_number() as usize % self.viewers_watching(reader) as usize;
            let away = self.tick + 1 + u64::from(self.random_number()) % self.start.ticks_away;
            let mut here = self.viewers.iter_mut().filter(|it| it.at == *reader && it.away.is_none());
            let viewer = here.nth(nth).expect("one of them");
            viewer.away = Some((away, viewer.direct.then(|| to.clone())));
        }
    }

    fn set_status(&mut self, reader: &ReaderId, standing: ReaderStatus) {
        self.known.standing.insert(reader.clone(), standing);
    }

    /// One after the other leaves, and a new one takes its place. Answers whether all came to an end.
    fn replace_all_readers(&mut self, pace: &HandOverPace) -> bool {
        // What goes on before, goes on: an upgrade waits for nothing.
        for _ in 0..50 {
            self.advance_a_tick(pace);
        }
        let old: Vec<ReaderId> = self.known.assigned.readers.iter().map(|it| it.reader.clone()).collect();
        // All are closed at once; the first new one takes a while to come. By then who was sent away before is back.
        self.known.closed.clone_from(&old);
        for _ in 0..NEXT_READER_AFTER_TICKS {
            self.advance_a_tick(pace);
        }
        self.viewers.iter_mut().for_each(|viewer| viewer.moves = 0);
        for (at, old) in old.iter().enumerate() {
            self.set_status(&reader("new", at), ReaderStatus::Alive);
            self.set_status(old, ReaderStatus::Draining);
            for _ in 0..SWAP_AFTER_TICKS {
                self.advance_a_tick(pace);
            }
            let known = &self.known;
            let taker = |besides: &[ReaderShare]| {
                let open = known.standing.keys().filter(|it| known.is_open(it));
                let beside = |it: &&ReaderId| besides.iter().all(|share| share.reader != **it);
                open.filter(beside).min_by_key(|it| known.usage_thousandths(it)).cloned()
            };
            let order = order_off_emptied_readers(known, &known.video, taker).expect("a new reader takes it");
            self.known.assigned =
                AssignedReaders { epoch: self.known.assigned.epoch + 1, readers: order.readers };
            while self.viewers_watching(old) > 0 {
                self.advance_a_tick(pace);
                if self.tick > MAX_TICKS {
                    return false;
                }
            }
            self.known.standing.remove(old);
            self.known.reported.remove(old);
            // The pod goes and another starts: by then who was sent away is back.
            for _ in 0..NEXT_READER_AFTER_TICKS {
                self.advance_a_tick(pace);
            }
        }
        self.known.closed.clear();
        // Whatever else would be moved is moved by then.
        for _ in 0..200 {
            self.advance_a_tick(pace);
        }
        true
    }
}

/// Replaces all readers, and requires that each viewer is moved once.
fn check_each_moves_once(start: &UpgradeStart, per_second: u32, seed: u64) -> Result<(), String> {
    let pace = HandOverPace {
        target_duration: Duration::from_secs(1),
        min_per_second: 1,
        max_per_second: per_second,
    };
    let mut model = ReplacementSimulation::new(start, seed);
    if !model.replace_all_readers(&pace) {
        return Err(format!("after {} ticks viewers have not left", model.tick));
    }
    match model.viewers.iter().filter(|viewer| viewer.moves != 1).count() {
        0 => Ok(()),
        others => Err(format!("{others} were moved otherwise than once")),
    }
}

/// The hand-over of one reader lasts longer than a viewer needs: all the time some are counted nowhere.
#[test]
fn a_slow_upgrade_moves_no_viewer_twice() {
    let start = UpgradeStart {
        weights: vec![1, 3],
        viewers: 971,
        drift: 22,
        room: 106,
        ticks_away: MAX_TICKS_AWAY,
        lost_reports: 0,
    };
    check_each_moves_once(&start, 81, 9_748_012_876_064_597_756).expect("each once");
}

proptest! {
    // Integration tests have no lib.rs beside them, so the file for what failed is named.
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("proptest-regressions/replacing.txt"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn an_upgrade_moves_no_viewer_twice(
        weights in prop::collection::vec(1_u32..10, 1..6),
        viewers in 1_usize..1_500,
        (drift, room) in (0_u32..60, 100_u64..200),
        per_second in 20_u32..2_000,
        (ticks_away, lost_reports) in prop_oneof![
            Just((MAX_TICKS_AWAY, 0)),
            (MAX_TICKS_AWAY..=MAX_TICKS_AWAY_WHEN_BUSY, 0_u32..20),
        ],
        seed in any::<u64>(),
    ) {
        let start = UpgradeStart { weights, viewers, drift, room, ticks_away, lost_reports };
        let moved = check_each_moves_once(&start, per_second, seed);
        prop_assert!(moved.is_ok(), "{}", moved.unwrap_err());
    }
}
