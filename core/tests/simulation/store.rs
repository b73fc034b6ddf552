//! The simulated store that managers share, with its failures: it is away at times, fails over to a copy that lags
//! behind, or comes back empty. The module also has the archive, which keeps every comment.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use liverank_core::epoch;
use liverank_core::handover::AssignedReaders;

use crate::net::{Ms, Msg, Net, Node, Record, Timer};

/// The most copies that are kept as targets of a fail-over.
const MAX_COPIES: usize = 30;

#[derive(Clone, Default)]
struct EpochCounter {
    last: u64,
    /// The server on which the counter last moved.
    on: u16,
}

impl EpochCounter {
    fn mint_epoch(&mut self, seen: u64, server: u16, now: Ms) -> u64 {
        let [identity, _] = server.to_be_bytes();
        let is_other = self.on != server || seen > self.last;
        let clock = server_clock_micros(server, now);
        self.last = epoch::mint_epoch(self.last, seen, clock, is_other.then_some(identity));
        self.on = server;
        self.last
    }
}

/// Returns a server's clock, in microseconds. Only one server of four has the right time; the clocks of the others
/// stand still, because with a common clock it would be too easy to mint new epochs.
const fn server_clock_micros(server: u16, now: Ms) -> u64 {
    if server % 4 == 3 { now * 1_000 } else { 0 }
}

#[derive(Clone, Default)]
struct StoreCopy {
    assignments: BTreeMap<usize, AssignedReaders>,
    epoch: EpochCounter,
    term: EpochCounter,
    records: BTreeMap<usize, Record>,
}

#[derive(Default)]
pub struct Store {
    kept: StoreCopy,
    copies: VecDeque<StoreCopy>,
    /// The number of the server process that runs now.
    server: u16,
    pub away_until: Ms,
    /// The readers that the operator has removed. Managers repeat removals to a store that has lost them; here the
    /// store loses none.
    pub removed: BTreeSet<usize>,
}

impl Store {
    pub fn is_away(&self, now: Ms) -> bool {
        now < self.away_until
    }

    /// Lets another server take over, with a copy that is `behind` changes old (`None`: an empty one).
    pub fn fail_over(&mut self, behind: Option<usize>) {
        let at = behind.and_then(|behind| self.copies.len().checked_sub(behind + 1));
        self.kept = at.and_then(|at| self.copies.get(at)).cloned().unwrap_or_default();
        self.server = self.server.wrapping_add(7_919);
        self.copies.clear();
    }

    pub fn assignments(&self) -> &BTreeMap<usize, AssignedReaders> {
        &self.kept.assignments
    }

    fn copy_before_change(&mut self) {
        self.copies.push_back(self.kept.clone());
        if self.copies.len() > MAX_COPIES {
            self.copies.pop_front();
        }
    }

    pub fn on(&mut self, net: &mut Net, from: (Node, u32), msg: Msg) {
        if self.is_away(net.now) {
            return;
        }
        match msg {
            Msg::Cas { rid, video, expected, readers, seen } => {
                let current = self.kept.assignments.get(&video);
                let fits = current.map(|it| it.epoch) == expected;
                if fits {
                    self.copy_before_change();
                }
                let stored = fits.then(|| self.kept.epoch.mint_epoch(seen, self.server, net.now));
                if let Some(epoch) = stored {
                    let assigned = AssignedReaders { epoch, readers };
                    net.checks.note_minted_epoch(video, &assigned);
                    net.trace(|| format!("store v{video}: {assigned:?}"));
                    for manager in 0..net.managers {
                        let news = Msg::AssignmentChanged { video, assigned: assigned.clone() };
                        net.send(Node::Store, Node::Manager(manager), news);
                    }
                    self.kept.assignments.insert(video, assigned);
                }
                let current = self.kept.assignments.get(&video).cloned();
                let done = Msg::CasDone { rid, video, stored: stored.is_some(), current };
                net.answer(Node::Store, from, done);
            }
            Msg::Load { rid } => {
                let state = Msg::State { rid, assignments: self.kept.assignments.clone() };
                net.answer(Node::Store, from, state);
            }
            Msg::SaveBeat { rid, record } => {
                net.answer(Node::Store, from, Msg::Saved { rid });
                self.kept.records.insert(record.reader(), record);
            }
            Msg::Poll { sent } => {
                let records = self.kept.records.values().cloned().collect();
                net.answer(
                    Node::Store,
                    from,
                    Msg::Records { sent, records, term: self.kept.term.last, removed: self.removed.clone() },
                );
            }
            Msg::MintTerm { planner, seen } => {
                self.copy_before_change();
                let term = self.kept.term.mint_epoch(seen, self.server, net.now);
                net.checks.term(term, planner);
                net.answer(Node::Store, from, Msg::Minted { planner, term });
            }
            _ => {}
        }
    }
}

/// The archive of comments: it numbers them, and knows which readers may have subscribed. The heads are in the checks.
pub struct Archive {
    pub subscribers: Vec<Vec<bool>>,
    pub reach: u64,
    /// The time up to which comments are written.
    pub until: Ms,
}

impl Archive {
    pub fn new(videos: usize, readers: usize, reach: u64, until: Ms) -> Self {
        Self { subscribers: vec![vec![false; readers]; videos], reach, until }
    }

    /// Writes one comment or a burst of them to a video.
    pub fn on_timer(&mut self, net: &mut Net, timer: Timer) {
        let Timer::Comment(video) = timer else { return };
        if net.now > self.until {
            return;
        }
        // The last video is quiet for long: its viewers come and go before they have seen any comment.
        let quiet = video + 1 == net.checks.heads.len();
        let burst = if quiet || !net.rng.chance(50) { 1 } else { net.rng.between(2, 2 * self.reach) };
        for _ in 0..burst {
            net.checks.heads[video] += 1;
            let seq = net.checks.heads[video];
            for reader in 0..net.readers.len() {
                if self.subscribers[video][reader] {
                    net.send(Node::Archive, Node::Reader(reader), Msg::Publish { video, seq });
                }
            }
        }
        let (from, to) = if quiet { (4_000, 12_000) } else { (100, 1_500) };
        let pause = net.rng.between(from, to);
        net.timer(Node::Archive, pause, timer);
    }

    pub fn on(&mut self, net: &mut Net, from: (Node, u32), msg: Msg) {
        let (Msg::Fetch { video, room, after }, Node::Reader(reader)) = (msg, from.0) else { return };
        // A reader asks because it has a viewer or warms the video: from now on it is sent new comments.
        self.subscribers[video][reader] = true;
        let head = net.checks.heads[video];
        let after = after.unwrap_or_else(|| head.saturating_sub(self.reach)).min(head);
        net.answer(Node::Archive, from, Msg::Fetched { video, room, after, head });
    }
}
