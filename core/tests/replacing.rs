//! Checks that no viewer is moved twice while an upgrade replaces all readers of a video, one after the other. The
//! model has readers that report every second and refuse viewers for whom they have no room; viewers that need up to
//! three seconds to come back and try the next reader if one refuses them; a manager that decides from the reports, by
//! [`answer_heartbeat`], [`order_to_empty_readers`] and [`readers_to_join`]; and a gateway that asks for a route once a
//! second and chooses among the route's readers by [`choose_route_reader`], or two gateways in each of three zones.
//!
//! In some runs the machines are too busy: viewers then need up to seven and a half seconds to come back, and up to a
//! fifth of the reports are lost.
//!
//! A run begins with a situation that an upgrade may find: viewers who are not spread as the shares say, because some
//! left and nobody balances; readers that are nearly full; and a reader that was emptied a moment ago and whose process
//! goes on reporting.

use std::collections::BTreeMap;
use std::time::Duration;

use liverank_core::handover::coordinator::{
    ClusterView, HandOverPace, ReaderStatus, ReaderToJoin, answer_heartbeat, order_to_empty_readers,
    readers_to_join,
};
use liverank_core::handover::peak::RecentPeak;
use liverank_core::handover::reserved::ReservedCapacity;
use liverank_core::handover::routing::{RouteOption, choose_route_reader, is_preferred_for_zone};
use liverank_core::handover::{AssignedReaders, HandOver, HeldVideo, ReaderShare};
use liverank_core::{ReaderId, VideoId};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

const TICK_INTERVAL: Duration = Duration::from_millis(100);
const TICKS_A_REPORT: u64 = 10;
/// The number of ticks for which a gateway uses the same route for all viewers that connect.
const TICKS_A_ROUTE: u64 = 10;
/// The number of zones over which readers and gateways are spread.
const ZONES: u8 = 3;
/// The number of ticks for which a reader follows the order in a heartbeat's answer.
const ORDER_TICKS: u64 = 30;
const MAX_TICKS_AWAY: u64 = 30;
/// The longest time, in ticks, that a viewer needs to come back if the machines are too busy, so that its requests are
/// answered seconds later.
const MAX_TICKS_AWAY_WHEN_BUSY: u64 = 75;
/// The number of ticks between the order to a reader to leave and the compare-and-set that takes the video from the
/// reader.
const SWAP_AFTER_TICKS: u64 = 15;
/// The number of ticks between the moment at which a reader is empty and the order to the next reader to leave: the
/// operator waits as long.
const NEXT_READER_AFTER_TICKS: u64 = 100;
/// The number of ticks within which all readers must be replaced.
const MAX_TICKS: u64 = 8_000;

/// The manager's view of the readers: their states, reports and reserved capacity, and the video's assignment.
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
    /// The tick at which the viewer comes back, and the reader to which it was told to go (`None` for viewers of a
    /// gateway); `None` while it watches.
    away: Option<(u64, Option<ReaderId>)>,
    direct: bool,
    /// The index of the gateway through which the viewer connects.
    gateway: usize,
    moves: u32,
}

struct ReplacementSimulation {
    initial_conditions: UpgradeStart,
    known: ManagerKnowledge,
    viewers: Vec<SimulatedViewer>,
    orders: BTreeMap<ReaderId, (u64, HandOver)>,
    gateways: Vec<GatewayRoute>,
    tick: u64,
    rng: u64,
}

/// The route that a gateway got last from the manager, and the viewers that it has sent to the route's readers since
/// then.
#[derive(Default)]
struct GatewayRoute {
    asked: u64,
    /// The readers of the route, each with its usage in thousandths of its capacity.
    readers: Vec<(ReaderToJoin, u64)>,
    /// The number of viewers that the gateway has sent to each of `readers` since it got the route.
    sent: Vec<u64>,
    zone: Option<u8>,
}

impl GatewayRoute {
    /// Returns the reader for the next attempt of a viewer who was refused by the readers in `tried`; `held` is the
    /// number of this gateway's viewers at each reader.
    fn choose_reader(
        &mut self,
        held: &BTreeMap<ReaderId, u64>,
        tried: &[ReaderId],
        lots: [u32; 2],
    ) -> ReaderId {
        let option = |((join, load), sent): (&'_ (ReaderToJoin, u64), &u64)| (join.clone(), *load, *sent);
        let known: Vec<(ReaderToJoin, u64, u64)> = self.readers.iter().zip(&self.sent).map(option).collect();
        let options: Vec<RouteOption<'_>> = known
            .iter()
            .map(|(join, load, sent)| RouteOption {
                reader: &join.reader,
                takes_viewers: join.takes_viewers,
                load_thousandths: *load,
                wanted_viewers: join.wanted_viewers,
                spare_viewers: join.spare_viewers,
                sent_viewers: *sent,
                is_near: self.zone.is_some_and(|zone| zone == zone_of(&join.reader))
                    && is_preferred_for_zone(*sent, held.get(&join.reader).copied().unwrap_or(0)),
            })
            .collect();
        let at = choose_route_reader(&options, tried, tried.len() as u32, lots).expect("there are readers");
        self.sent[at] += 1;
        options[at].reader.clone()
    }
}

/// Returns the zone of a reader, a number below [`ZONES`]. A new reader is in another zone than the reader that it
/// replaces.
fn zone_of(reader: &ReaderId) -> u8 {
    let (kind, at) = reader.as_str().split_once('-').expect("a name with a number");
    let at: u8 = at.parse().expect("a number");
    (at + u8::from(kind == "new")) % ZONES
}

fn reader(kind: &str, at: usize) -> ReaderId {
    ReaderId::parse(&format!("{kind}-{at}")).expect("a name")
}

/// The situation that an upgrade finds at its start.
#[derive(Debug, Clone)]
struct UpgradeStart {
    /// The weights by which the readers share the video's viewers.
    weights: Vec<u32>,
    viewers: usize,
    /// The largest difference between a reader's number of viewers and its share, in percent of the share.
    drift: u32,
    /// The capacity of each reader, in percent of the number of viewers at the fullest reader.
    room: u64,
    /// The largest number of ticks that a viewer needs to come back.
    ticks_away: u64,
    /// The percentage of readers' reports that are lost.
    lost_reports: u32,
    /// Whether readers and gateways know their zones. If they do, there are two gateways in each zone.
    zones: bool,
}

impl UpgradeStart {
    fn gateways(&self) -> Vec<GatewayRoute> {
        let gateway = |zone| GatewayRoute { zone, ..GatewayRoute::default() };
        if !self.zones {
            return vec![gateway(None)];
        }
        (0..2 * ZONES).map(|at| gateway(Some(at % ZONES))).collect()
    }
}

/// The kind of a reader that was emptied a moment ago. The reader's process goes on for a while, and the managers were
/// told that the reader is removed.
const EMPTIED_READER: &str = "emptied";

impl ReplacementSimulation {
    fn new(start: &UpgradeStart, seed: u64) -> Self {
        let readers = start.weights.iter().enumerate();
        let readers: Vec<ReaderShare> =
            readers.map(|(at, weight)| ReaderShare { reader: reader("old", at), weight: *weight }).collect();
        let mut model = Self {
            initial_conditions: start.clone(),
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
            gateways: start.gateways(),
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
            // Half of them come by the first gateway: no zone has as many viewers as its readers have room for.
            let gateway = if nth % 4 == 1 { 0 } else { nth / 4 % model.gateways.len() };
            model.viewers.push(SimulatedViewer { at, away: None, direct: nth % 2 == 0, gateway, moves: 0 });
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
            if is_due && self.random_number() % 100 >= self.initial_conditions.lost_reports {
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
            let takes = |to: &ReaderId| self.viewers_watching(to) < self.known.capacity;
            let to = match to.filter(takes) {
                Some(to) => Some(to),
                None if self.viewers[at].direct => {
                    let readers = readers_to_join(&self.known, &self.known.video, &self.known.assigned, lots);
                    readers.into_iter().map(|join| join.reader).find(takes)
                }
                None => self.reader_by_gateway(self.viewers[at].gateway, lots),
            };
            let Some(to) = to else {
                self.viewers[at].away = Some((self.tick + TICKS_A_REPORT, None));
                continue;
            };
            self.known.reserved.reserve(TICK_INTERVAL * self.tick as u32, &to, 1);
            let viewer = &mut self.viewers[at];
            viewer.moves += u32::from(viewer.at != to);
            (viewer.at, viewer.away) = (to, None);
        }
    }

    /// Returns the reader that accepts a viewer who connects through this gateway, which tries one reader after the
    /// other; `None` if all refuse.
    fn reader_by_gateway(&mut self, gateway: usize, lots: [u32; 2]) -> Option<ReaderId> {
        self.ask_for_route(gateway, lots);
        let mut held = BTreeMap::new();
        for viewer in self.viewers.iter().filter(|viewer| viewer.gateway == gateway && viewer.away.is_none())
        {
            *held.entry(viewer.at.clone()).or_default() += u64::from(!viewer.direct);
        }
        let mut tried = Vec::new();
        while tried.len() < self.gateways[gateway].readers.len() {
            let to = self.gateways[gateway].choose_reader(&held, &tried, lots);
            if self.viewers_watching(&to) < self.known.capacity {
                return Some(to);
            }
            tried.push(to);
        }
        None
    }

    /// Asks for a route unless the gateway got one less than a second ago, which it then uses again.
    fn ask_for_route(&mut self, gateway: usize, lots: [u32; 2]) {
        let (known, route) = (&self.known, &mut self.gateways[gateway]);
        if !route.readers.is_empty() && self.tick < route.asked + TICKS_A_ROUTE {
            return;
        }
        let readers = readers_to_join(known, &known.video, &known.assigned, lots);
        let readers = readers.into_iter().map(|join| {
            let load = known.usage_thousandths(&join.reader);
            (join, load)
        });
        route.readers = readers.collect();
        (route.asked, route.sent) = (self.tick, vec![0; route.readers.len()]);
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
        self.known.peak.note_number(TICK_INTERVAL * self.tick as u32, all, handed_over);
        match answer_heartbeat(&self.known, reader, &[held], pace).hand_overs.pop() {
            Some(order) => self.orders.insert(reader.clone(), (self.tick + ORDER_TICKS, order)),
            None => self.orders.remove(reader),
        };
    }

    /// Ends as many of a reader's streams as its order demands in this tick.
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
            let away = self.tick + 1 + u64::from(self.random_number()) % self.initial_conditions.ticks_away;
            let mut here = self.viewers.iter_mut().filter(|it| it.at == *reader && it.away.is_none());
            let viewer = here.nth(nth).expect("one of them");
            viewer.away = Some((away, viewer.direct.then(|| to.clone())));
        }
    }

    fn set_status(&mut self, reader: &ReaderId, standing: ReaderStatus) {
        self.known.standing.insert(reader.clone(), standing);
    }

    /// Replaces the readers one after the other by new ones. Returns false if viewers are left at an old reader after
    /// [`MAX_TICKS`].
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
            let order = order_to_empty_readers(known, &known.video, taker).expect("a new reader takes it");
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

/// Replaces all readers, and returns an error unless each viewer was moved exactly once.
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

/// The hand-over of one reader lasts longer than a viewer needs to come back, so that at any time some viewers are
/// counted at no reader.
#[test]
fn a_slow_upgrade_moves_no_viewer_twice() {
    let start = UpgradeStart {
        weights: vec![1, 3],
        viewers: 971,
        drift: 22,
        room: 106,
        ticks_away: MAX_TICKS_AWAY,
        lost_reports: 0,
        zones: false,
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
        zones in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let start = UpgradeStart { weights, viewers, drift, room, ticks_away, lost_reports, zones };
        let moved = check_each_moves_once(&start, per_second, seed);
        prop_assert!(moved.is_ok(), "{}", moved.unwrap_err());
    }
}
