//! All readers of a video that is spread over several are replaced, one after the other, as an upgrade does it: nobody is
//! moved twice. A small model of readers that report every second, viewers that need up to three to come back, and a
//! manager that goes by [`coordinator::answer`] and [`coordinator::route`] on what was reported.

use std::collections::BTreeMap;
use std::time::Duration;

use liverank_core::handover::coordinator::{ClusterView, Pace, ReaderStatus, answer, route};
use liverank_core::handover::peak::Peak;
use liverank_core::handover::{Assigned, HandOver, Held, Share};
use liverank_core::{ReaderId, VideoId};
use proptest::prelude::*;

const TICK: Duration = Duration::from_millis(100);
const TICKS_A_REPORT: u64 = 10;
/// A thousandth of what a reader holds.
const CAPACITY_THOUSANDTH: u64 = 10;
/// How long an order of a heartbeat's answer holds.
const ORDER_HOLDS: u64 = 30;
const LONGEST_AWAY: u64 = 30;
/// Between a reader that is told to leave and the compare-and-set that takes the video from it.
const SWAPPED_AFTER: u64 = 15;
/// Between one that is empty and the next that is told to leave.
const NEXT_AFTER: u64 = 50;
/// Ticks in which all is to be over.
const AT_MOST: u64 = 6_000;

/// What the manager knows.
struct Known {
    video: VideoId,
    assigned: Assigned,
    standing: BTreeMap<ReaderId, ReaderStatus>,
    closed: Vec<ReaderId>,
    reported: BTreeMap<ReaderId, Held>,
    peak: Peak,
}

impl ClusterView for Known {
    fn assigned(&self, _: &VideoId) -> Option<&Assigned> {
        Some(&self.assigned)
    }
    fn standing(&self, reader: &ReaderId) -> Option<ReaderStatus> {
        self.standing.get(reader).copied()
    }
    fn address(&self, reader: &ReaderId) -> Option<String> {
        Some(reader.to_string())
    }
    fn held(&self, reader: &ReaderId, _: &VideoId) -> Option<&Held> {
        self.reported.get(reader)
    }
    fn usage(&self, reader: &ReaderId) -> u64 {
        self.reported.get(reader).map_or(0, |held| held.viewers / CAPACITY_THOUSANDTH)
    }
    fn is_open(&self, reader: &ReaderId) -> bool {
        !self.closed.contains(reader)
    }
    fn viewers(&self, _: &VideoId) -> u64 {
        self.peak.most()
    }
}

struct Viewer {
    at: ReaderId,
    /// When it comes back, and where it was told to go, where it goes by that.
    away: Option<(u64, Option<ReaderId>)>,
    direct: bool,
    moves: u32,
}

struct Model {
    known: Known,
    viewers: Vec<Viewer>,
    orders: BTreeMap<ReaderId, (u64, HandOver)>,
    tick: u64,
    rng: u64,
}

fn reader(kind: &str, at: usize) -> ReaderId {
    ReaderId::parse(&format!("{kind}-{at}")).expect("a name")
}

impl Model {
    fn new(weights: &[u32], viewers: usize, seed: u64) -> Self {
        let readers = weights.iter().enumerate();
        let readers: Vec<Share> =
            readers.map(|(at, weight)| Share { reader: reader("old", at), weight: *weight }).collect();
        let all: u64 = weights.iter().map(|it| u64::from(*it)).sum();
        let mut model = Self {
            known: Known {
                video: VideoId::parse("v").expect("a name"),
                standing: readers.iter().map(|it| (it.reader.clone(), ReaderStatus::Alive)).collect(),
                closed: readers.iter().map(|it| it.reader.clone()).collect(),
                reported: BTreeMap::new(),
                peak: Peak::default(),
                assigned: Assigned { epoch: 1, readers },
            },
            viewers: Vec::new(),
            orders: BTreeMap::new(),
            tick: 0,
            rng: seed | 1,
        };
        for nth in 0..viewers {
            // As many at each as its weight says.
            let mut place = (nth as u64 * 7_919) % all;
            let share = model.known.assigned.readers.iter().find(|share| {
                let weight = u64::from(share.weight);
                place < weight || {
                    place -= weight;
                    false
                }
            });
            let at = share.expect("one of them").reader.clone();
            model.viewers.push(Viewer { at, away: None, direct: nth % 2 == 0, moves: 0 });
        }
        model
    }

    fn random(&mut self) -> u32 {
        // xorshift64 (Marsaglia 2003).
        self.rng ^= self.rng << 13;
        self.rng ^= self.rng >> 7;
        self.rng ^= self.rng << 17;
        (self.rng >> 32) as u32
    }

    fn watching(&self, reader: &ReaderId) -> u64 {
        self.viewers.iter().filter(|viewer| viewer.at == *reader && viewer.away.is_none()).count() as u64
    }

    fn step(&mut self, pace: &Pace) {
        self.tick += 1;
        let readers: Vec<ReaderId> = self.known.standing.keys().cloned().collect();
        for (at, reader) in readers.iter().enumerate() {
            if (self.tick + at as u64 * 3).is_multiple_of(TICKS_A_REPORT) {
                self.report(reader, pace);
            }
            self.close(reader);
        }
        for at in 0..self.viewers.len() {
            let Some((until, to)) = self.viewers[at].away.clone() else { continue };
            if until > self.tick {
                continue;
            }
            let lots = [self.random(), self.random()];
            let known = &self.known;
            let to = to.unwrap_or_else(|| route(known, &known.video, &known.assigned, lots)[0].clone());
            let viewer = &mut self.viewers[at];
            viewer.moves += u32::from(viewer.at != to);
            (viewer.at, viewer.away) = (to, None);
        }
    }

    fn report(&mut self, reader: &ReaderId, pace: &Pace) {
        let (video, epoch) = (self.known.video.clone(), self.known.assigned.epoch);
        let shedding = self.orders.get(reader).is_some_and(|(until, order)| *until > self.tick && order.here);
        let held = Held { video, viewers: self.watching(reader), epoch, ready: true, shedding };
        self.known.reported.insert(reader.clone(), held.clone());
        let all = self.known.reported.values().map(|held| held.viewers).sum();
        self.known.peak.note(TICK * self.tick as u32, all);
        match answer(&self.known, reader, &[held], pace).hand_over.pop() {
            Some(order) => self.orders.insert(reader.clone(), (self.tick + ORDER_HOLDS, order)),
            None => self.orders.remove(reader),
        };
    }

    /// Ends as many streams as are due.
    fn close(&mut self, reader: &ReaderId) {
        let Some((until, order)) = self.orders.get(reader).cloned() else { return };
        let due = u64::from(order.pace).div_ceil(10).min(self.watching(reader).saturating_sub(order.keep));
        if until < self.tick {
            return;
        }
        let to = ReaderId::parse(&order.to).expect("a name");
        for _ in 0..due {
            let nth = self.random() as usize % self.watching(reader) as usize;
            let away = self.tick + 1 + u64::from(self.random()) % LONGEST_AWAY;
            let mut here = self.viewers.iter_mut().filter(|it| it.at == *reader && it.away.is_none());
            let viewer = here.nth(nth).expect("one of them");
            viewer.away = Some((away, viewer.direct.then(|| to.clone())));
        }
    }

    fn stands(&mut self, reader: &ReaderId, standing: ReaderStatus) {
        self.known.standing.insert(reader.clone(), standing);
    }

    /// One after the other leaves, and a new one takes its place. Answers whether all came to an end.
    fn replace_all(&mut self, pace: &Pace) -> bool {
        for _ in 0..50 {
            self.step(pace);
        }
        for at in 0..self.known.assigned.readers.len() {
            let (old, new) = (reader("old", at), reader("new", at));
            self.stands(&new, ReaderStatus::Alive);
            self.stands(&old, ReaderStatus::Draining);
            for _ in 0..SWAPPED_AFTER {
                self.step(pace);
            }
            let share = self.known.assigned.readers.iter_mut().find(|share| share.reader == old);
            share.expect("it serves it").reader = new;
            self.known.assigned.epoch += 1;
            while self.watching(&old) > 0 {
                self.step(pace);
                if self.tick > AT_MOST {
                    return false;
                }
            }
            self.known.standing.remove(&old);
            self.known.reported.remove(&old);
            // The pod goes and another starts: by then who was sent away is back.
            for _ in 0..NEXT_AFTER {
                self.step(pace);
            }
        }
        // Whatever else would be moved is moved by then.
        for _ in 0..200 {
            self.step(pace);
        }
        true
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_upgrade_moves_nobody_twice(
        weights in prop::collection::vec(1_u32..10, 1..6),
        viewers in 1_usize..1_500,
        per_second in 20_u32..2_000,
        seed in any::<u64>(),
    ) {
        let pace = Pace { within: Duration::from_secs(1), least: 1, most: per_second };
        let mut model = Model::new(&weights, viewers, seed);
        prop_assert!(model.replace_all(&pace), "after {} ticks viewers have not left", model.tick);
        let moves: Vec<u32> = model.viewers.iter().map(|viewer| viewer.moves).collect();
        prop_assert!(moves.iter().all(|moves| *moves == 1), "{:?} were moved otherwise than once",
            moves.iter().filter(|moves| **moves != 1).count());
    }
}
