//! Faults of the simulated world: processes die, leave, are removed, are paused or come back, and the store fails
//! over.

use super::{FAULTS_END, MAX_ROOM_AGE_MS, SIMULATION_END, World};
use crate::manager::Manager;
use crate::net::{Ms, Msg, Node, Timer};
use crate::reader::{GRACE, Reader};

/// The time after which no reader begins to leave, in milliseconds: its viewers must have their streams elsewhere by
/// the end.
const LAST_LEAVE_AT: Ms = SIMULATION_END - 6_000;
/// The longest single pause of a starved process, in milliseconds: a longer one is a break.
const MAX_STARVED_MS: Ms = 1_400;
/// The time for which all readers are full before one of them is told to end, in milliseconds: longer than any reader
/// relies on earlier room.
const FULL_BEFORE_LEAVE_MS: Ms = MAX_ROOM_AGE_MS + 500;

impl World {
    /// Makes all readers but one full: a viewer who loses its stream may find its own place again, but there is none
    /// for anybody else. Then that one reader is told to end, and some seconds later there is room.
    fn drain_crowded_reader(&mut self, reader: usize) {
        let are_watched = self.viewers.iter().all(|viewer| viewer.watches_at().is_some());
        // Another reader replaces it some time before the end.
        let is_late = self.net.now + FULL_BEFORE_LEAVE_MS + GRACE > SIMULATION_END - 3_000;
        if self.readers[reader].viewers() == 0 || !are_watched || !self.down.is_empty() || is_late {
            return self.drain_reader(reader);
        }
        let others = (0..self.readers.len()).filter(|at| *at != reader);
        let seats = others.map(|at| (at, self.readers[at].viewers())).collect();
        let (now, leaves) = (self.net.now, FULL_BEFORE_LEAVE_MS);
        let until = now + leaves + self.net.rng.between(4_000, 7_000);
        self.net.crowded = (seats, until);
        // A viewer whose place somebody else has taken finds none.
        self.net.checks.away.push((now, until));
        self.net.checks.counts.crowded_leaves += 1;
        self.net.trace(|| format!("all readers are full but r{reader}, until {until}"));
        self.down.push(Node::Reader(reader));
        self.net.timer(Node::Reader(reader), leaves, Timer::Leave);
        self.net.timer(Node::Reader(reader), leaves + GRACE, Timer::Restart);
    }

    pub(super) fn cause_fault(&mut self, timer: Timer) {
        if timer == Timer::Calm {
            self.net.weather.lost = 0;
            return;
        }
        let next = self.net.rng.between(500, 4_000);
        if self.net.now + next < FAULTS_END {
            self.net.timer(Node::Chaos, next, timer);
        }
        let readers_down = self.down.iter().filter(|node| matches!(node, Node::Reader(_))).count();
        let managers_down = self.down.len() - readers_down;
        let leaving = self.readers.iter().filter(|reader| reader.is_leaving()).count();
        let away = self.store.is_away(self.net.now);
        let reader = self.net.rng.index(self.readers.len());
        let is_crowded = self.net.now < self.net.crowded.1;
        let spare = self.readers.len() - readers_down - leaving > 2 && !is_crowded;
        match self.net.rng.below(20) {
            0..=3 if readers_down == 0 && spare => self.stop_reader(reader, 20_000),
            4 if readers_down <= 1 && spare => self.stop_reader(reader, 2_500),
            5 if leaving == 0 && spare && self.net.is_up(Node::Reader(reader)) => {
                self.drain_reader(reader);
            }
            6 if leaving == 0 && spare && self.net.is_up(Node::Reader(reader)) => {
                self.drain_crowded_reader(reader);
            }
            7 if self.net.cuts.last().is_none_or(|(_, until)| *until < self.net.now) => self.stop_manager(),
            8 | 9 => {
                let behind = self.net.rng.chance(700).then(|| self.net.rng.index(12));
                self.store.fail_over(behind);
                self.net.checks.counts.failovers += 1;
                self.net.trace(|| format!("the store fails over, {behind:?} changes behind"));
            }
            10 if !away => {
                let (from, to) = (self.net.now, self.net.now + self.net.rng.between(500, 4_000));
                self.store.away_until = to;
                self.net.checks.away.push((from, to));
                self.net.trace(|| format!("the store is away until {to}"));
            }
            // A manager is cut off from the store and hears nothing of what happens.
            11 | 12 if managers_down == 0 => {
                let manager = self.net.rng.index(self.managers.len());
                let until = self.net.now + self.net.rng.between(1_000, 6_000);
                self.net.cuts.push((Node::Manager(manager), until));
                self.net.trace(|| format!("manager {manager} is cut off from the store until {until}"));
            }
            14 if leaving == 0 && readers_down == 0 && spare => self.remove_reader(reader, true),
            15 if leaving == 0 && readers_down == 0 && spare => self.remove_reader(reader, false),
            16 | 17 if leaving > 0 && managers_down == 0 => self.replace_managers(),
            18 => self.end_empty_leaver(),
            13 if !away && self.net.paused_processes.iter().all(|it| it.2 < self.net.now) => {
                self.starve_managers();
            }
            19 if !away && self.net.paused_processes.iter().all(|it| it.2 < self.net.now) => {
                self.stop_machine();
            }
            _ => {}
        }
    }

    /// Starves processes, as on an overloaded machine: one manager is paused for long, or all managers and readers are
    /// paused again and again.
    fn starve_managers(&mut self) {
        let now = self.net.now;
        if self.net.rng.chance(300) {
            let manager = Node::Manager(self.net.rng.index(self.managers.len()));
            let until = (now + self.net.rng.between(3_000, 20_000)).min(FAULTS_END + 1_000);
            self.net.paused_processes.push((manager, now, until));
            self.net.checks.counts.managers_paused += 1;
            self.net.trace(|| format!("{manager:?} stands still until {until}"));
            return;
        }
        let until = (now + self.net.rng.between(4_000, 10_000)).min(FAULTS_END + 1_000);
        let managers = (0..self.managers.len()).map(Node::Manager);
        for node in managers.chain((0..self.readers.len()).map(Node::Reader)) {
            let mut at = now + self.net.rng.below(500);
            while at < until {
                let paused = self.net.rng.between(300, MAX_STARVED_MS);
                self.net.paused_processes.push((node, at, at + paused));
                at += paused + self.net.rng.between(5, 100);
            }
        }
        self.net.checks.counts.managers_starved += 1;
        self.net.trace(|| format!("all starve until {until}"));
    }

    /// Stops the machine on which everything but the viewers runs, for a while.
    fn stop_machine(&mut self) {
        let (from, to) = (self.net.now, (self.net.now + 5_000).min(FAULTS_END + 1_000));
        let managers = (0..self.managers.len()).map(Node::Manager);
        let all =
            managers.chain((0..self.readers.len()).map(Node::Reader)).chain([Node::Store, Node::Archive]);
        self.net.paused_processes.extend(all.map(|node| (node, from, to)));
        self.net.checks.counts.machine_stops += 1;
        self.net.trace(|| format!("the machine stops until {to}"));
    }

    /// Removes a reader as the operator does. With `said`, the managers are told first; without, somebody else removed
    /// it. Then the reader's address leads nowhere, some seconds later its process is told to end, and then it ends.
    fn remove_reader(&mut self, reader: usize, said: bool) {
        if !self.net.is_up(Node::Reader(reader)) || self.readers[reader].is_leaving() {
            return;
        }
        self.net.trace(|| format!("r{reader} is removed, said: {said}"));
        if said {
            self.net.checks.counts.removals += 1;
            self.store.removed.insert(reader);
        } else {
            self.net.checks.counts.unreachable += 1;
            // The route to the reader is gone, and its viewers' connections with it; the reader still sends
            // heartbeats.
            self.end_reader(reader);
        }
        self.net.unresolved.insert(reader);
        self.down.push(Node::Reader(reader));
        let lingers = self.net.rng.between(500, if said { 9_000 } else { 16_000 });
        let lingers = lingers.min(LAST_LEAVE_AT - self.net.now);
        self.net.timer(Node::Reader(reader), lingers, Timer::Leave);
        self.net.timer(Node::Reader(reader), lingers + GRACE, Timer::Restart);
    }

    /// Replaces all managers, one soon after the other.
    fn replace_managers(&mut self) {
        self.net.checks.counts.managers_replaced += 1;
        for at in 0..self.managers.len() {
            self.stop_node_for(Node::Manager(at), 600);
        }
    }

    /// Ends the process of a reader that leaves and is empty, without a last heartbeat that says so.
    fn end_empty_leaver(&mut self) {
        let empty = (0..self.readers.len()).find(|at| {
            let reader = &self.readers[*at];
            self.net.is_up(Node::Reader(*at)) && reader.is_leaving() && reader.drained
        });
        if let Some(at) = empty {
            self.net.checks.counts.early_ends += 1;
            self.net.trace(|| format!("r{at} ends"));
            self.net.stop(Node::Reader(at));
        }
    }

    fn stop_manager(&mut self) {
        let down = self.down.iter().filter(|node| matches!(node, Node::Manager(_))).count();
        let node = Node::Manager(self.net.rng.index(self.managers.len()));
        if down + 1 < self.managers.len() && self.net.is_up(node) {
            self.net.checks.counts.manager_crashes += 1;
            self.stop_node_for(node, 5_000);
        }
    }

    fn stop_reader(&mut self, reader: usize, for_at_most: Ms) {
        let node = Node::Reader(reader);
        // If a reader dies again and again, no bound can hold for its viewers.
        let just_back = self.back[reader] > 0 && self.net.now - self.back[reader] < 8_000;
        if just_back || !self.net.is_up(node) || self.readers[reader].is_leaving() {
            return;
        }
        self.net.checks.counts.reader_crashes += 1;
        self.note_death(reader);
        self.end_reader(reader);
        self.stop_node_for(node, for_at_most);
    }

    /// Notes the videos for which another reader has to be found.
    fn note_death(&mut self, reader: usize) {
        let (id, now) = (&self.net.readers[reader], self.net.now);
        let assigned =
            self.store.assignments().iter().filter(|(_, assigned)| assigned.share_of(id).is_some());
        self.net.checks.last_death.extend(assigned.map(|(video, _)| (*video, now)));
    }

    fn stop_node_for(&mut self, node: Node, for_at_most: Ms) {
        self.net.trace(|| format!("{node:?} dies"));
        self.net.stop(node);
        self.down.push(node);
        let back = self.net.rng.between(300, for_at_most);
        let back = back.min((FAULTS_END + 1_000).saturating_sub(self.net.now).max(300));
        self.net.timer(node, back, Timer::Restart);
    }

    fn drain_reader(&mut self, reader: usize) {
        self.net.trace(|| format!("r{reader} is told to leave"));
        self.net.checks.counts.drains += 1;
        self.readers[reader].leave(&mut self.net);
        // At that time the process exits, empty or not, and comes back after a while.
        self.down.push(Node::Reader(reader));
        self.net.timer(Node::Reader(reader), GRACE, Timer::Restart);
    }

    /// Ends the connections of a dead reader. The kernel tells most peers of a dead process; a dead host tells nobody.
    fn end_reader(&mut self, reader: usize) {
        let told = self.net.rng.chance(700);
        let ends: Vec<_> =
            self.readers[reader].all_seats().map(|(conn, seat)| (conn, seat.viewer.0)).collect();
        for (conn, viewer) in ends.into_iter().filter(|_| told) {
            let at = self.net.now + self.net.delay() + 600;
            self.net.deliver(at, Node::Reader(reader), viewer, None, Msg::Reset { conn });
        }
    }

    /// Starts a node: what was down comes back, a reader that was leaving is replaced under the same name, and a
    /// viewer arrives.
    pub(super) fn restart_node(&mut self, node: Node) {
        let was_down = self.down.contains(&node);
        if !was_down && !matches!(node, Node::Viewer(_)) {
            // Another process has replaced it already, before the time planned for that.
            return;
        }
        self.down.retain(|down| *down != node);
        self.net.trace(|| format!("{node:?} starts"));
        match node {
            Node::Reader(at) => {
                if self.net.is_up(node) {
                    self.end_reader(at);
                    self.net.stop(node);
                }
                self.net.unresolved.remove(&at);
                self.store.removed.remove(&at);
                for subscribers in &mut self.archive.subscribers {
                    subscribers[at] = false;
                }
                self.net.start(node);
                self.back[at] = self.net.now;
                let id = self.net.readers[at].clone();
                self.readers[at] = Reader::new(at, id, self.archive.reach);
                self.readers[at].boot(&mut self.net);
            }
            Node::Manager(at) => {
                self.net.start(node);
                self.managers[at] = Manager::new(&self.net, at);
                self.managers[at].boot(&mut self.net);
            }
            Node::Viewer(at) => self.viewers[at].boot(&mut self.net),
            _ => {}
        }
    }
}
