//! The spread of shards over replicas: each replica holds as many shards as the others, and a replica without others
//! holds all.
//!
//! Replicas know of each other only through the shards' Leases. A free Lease is taken first by the replica that holds
//! the fewest: the others wait a little for each Lease that they hold. A replica that holds at least two fewer than
//! another asks for one of the other's Leases, in an annotation of that Lease. The holder gives it up if that makes the
//! numbers more even, and ends its work for that shard first. So no Lease is ever taken from its holder, and a replica
//! that dies or starts moves only the shards that have to move.
//!
//! With one shard no replica ever has two fewer than another: nothing is asked for, and a free Lease is taken at once.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::shard::shards_of_holder;

/// The time for which a replica leaves a free Lease to others, for each Lease that it holds: twice the time of a write
/// on a busy API server.
const WAIT_PER_HELD_LEASE: Duration = Duration::from_millis(500);
/// The longest time that a replica leaves a free Lease to others: a replica without others holds all shards soon.
const LONGEST_WAIT: Duration = Duration::from_secs(3);
/// The time for which a Lease that was given up is reserved for the replica that asked for it.
const LEASE_RESERVED_FOR: Duration = Duration::from_secs(3);
/// The time for which a replica must have been ready before it requests a Lease: during a rollout, holders give up
/// their Leases by themselves.
const REQUEST_LEASE_AFTER: Duration = Duration::from_secs(10);
/// The time for which a request for a Lease is valid, before another one may be made; the answer comes with the next
/// renewal.
const REQUEST_VALID_FOR: Duration = Duration::from_secs(30);

/// The state of this replica with respect to a shard's Lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnState {
    /// The replica does not hold the Lease and waits for it.
    Waiting,
    /// The replica is about to take the Lease.
    Taking,
    /// The replica holds the Lease.
    Holding,
    /// The replica ends its work for the shard, to give the Lease up.
    Leaving,
}

/// A shard's Lease, as this replica knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardLease {
    /// The state of this replica with respect to the Lease.
    pub own_state: OwnState,
    /// The holder that the Lease names, whether it still lives or not.
    pub holder: Option<String>,
    /// The time from which the Lease belongs to nobody if it does not change.
    pub free_from: Instant,
    /// The replica that requests the Lease, and the time since which it does.
    pub asked_by: Option<(String, Instant)>,
}

/// The Leases of all shards, as one replica knows them.
#[derive(Debug, Clone)]
pub struct LeaseView {
    /// The replica's name as a holder of Leases.
    pub replica_name: String,
    /// The time since which the replica has been ready to manage clusters; `None` before.
    pub ready_since: Option<Instant>,
    /// The Leases, indexed by shard.
    pub leases: Vec<ShardLease>,
}

/// The next step of a replica about a Lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseStep {
    /// Take the Lease, which is free.
    Take,
    /// Request that the holder gives the Lease up.
    Ask,
    /// Give the Lease up, because a replica with fewer Leases asks for it.
    HandOver,
    /// Do nothing before this time, unless something changes.
    WaitUntil(Instant),
}

impl LeaseView {
    /// Returns the next step of this replica about the Lease of `shard`.
    pub fn next_step(&self, shard: usize, now: Instant) -> LeaseStep {
        let seat = &self.leases[shard];
        match seat.own_state {
            OwnState::Holding if self.must_hand_over(seat, now) => LeaseStep::HandOver,
            OwnState::Taking | OwnState::Holding | OwnState::Leaving => {
                LeaseStep::WaitUntil(now + LONGEST_WAIT)
            }
            OwnState::Waiting => {
                let at = self.may_take_from(seat);
                if now >= at {
                    return LeaseStep::Take;
                }
                match self.may_ask_from(shard, now) {
                    Some(ask) if now >= ask => LeaseStep::Ask,
                    Some(ask) => LeaseStep::WaitUntil(at.min(ask)),
                    None => LeaseStep::WaitUntil(at),
                }
            }
        }
    }

    /// Returns how many Leases the replica `name` holds at this moment.
    fn count_leases_held_by(&self, name: &str, now: Instant) -> usize {
        let holds = |seat: &&ShardLease| match seat.own_state {
            OwnState::Taking | OwnState::Holding => name == self.replica_name,
            OwnState::Leaving => false,
            OwnState::Waiting => {
                now < seat.free_from && name != self.replica_name && seat.holder.as_deref() == Some(name)
            }
        };
        self.leases.iter().filter(holds).count()
    }

    fn count_own_leases(&self) -> usize {
        self.leases
            .iter()
            .filter(|seat| matches!(seat.own_state, OwnState::Taking | OwnState::Holding))
            .count()
    }

    fn must_hand_over(&self, seat: &ShardLease, now: Instant) -> bool {
        let Some((asker, _)) = &seat.asked_by else { return false };
        // A replica with another number of shards divides namespaces differently: giving it a Lease would even out
        // nothing.
        *asker != self.replica_name
            && self.has_our_shard_count(asker)
            && self.count_own_leases() >= self.count_leases_held_by(asker, now) + 2
    }

    fn has_our_shard_count(&self, name: &str) -> bool {
        shards_of_holder(name) == shards_of_holder(&self.replica_name)
    }

    /// Returns the time from which this replica may take the Lease if it stays free.
    fn may_take_from(&self, seat: &ShardLease) -> Instant {
        let held = u32::try_from(self.count_own_leases()).unwrap_or(u32::MAX);
        let wait = WAIT_PER_HELD_LEASE.saturating_mul(held).min(LONGEST_WAIT);
        let reserved = seat.asked_by.as_ref().is_some_and(|(asker, _)| *asker != self.replica_name);
        seat.free_from + wait + if reserved { LEASE_RESERVED_FOR } else { Duration::ZERO }
    }

    /// Returns the time from which this replica may request the Lease; `None` if it does not request this Lease now.
    fn may_ask_from(&self, shard: usize, now: Instant) -> Option<Instant> {
        let asks = self.ready_since? + REQUEST_LEASE_AFTER;
        let fresh = |seat: &ShardLease| {
            let asked = seat.asked_by.as_ref().filter(|(_, since)| now < *since + REQUEST_VALID_FOR);
            asked.map(|(asker, _)| asker.clone())
        };
        let waits_for_answer =
            |seat: &ShardLease| now < seat.free_from && fresh(seat).as_ref() == Some(&self.replica_name);
        if self.leases.iter().any(waits_for_answer) {
            return None;
        }
        let holders =
            self.leases.iter().filter(|seat| seat.own_state == OwnState::Waiting && now < seat.free_from);
        let holders =
            holders.filter_map(|seat| seat.holder.as_deref()).filter(|it| self.has_our_shard_count(it));
        let most =
            holders.max_by_key(|name| (self.count_leases_held_by(name, now), std::cmp::Reverse(*name)))?;
        if self.count_leases_held_by(most, now) < self.count_own_leases() + 2 {
            return None;
        }
        let is_choice = |seat: &ShardLease| {
            let held = seat.own_state == OwnState::Waiting && now < seat.free_from;
            held && seat.holder.as_deref() == Some(most) && fresh(seat).is_none()
        };
        (self.leases.iter().position(is_choice)? == shard).then_some(asks)
    }
}

/// The state that the candidates of one replica, one for each shard, share.
pub struct ReplicaCandidates {
    view: Mutex<LeaseView>,
    changed: watch::Sender<()>,
}

impl ReplicaCandidates {
    /// Creates the state of the replica `me`, which knows nothing of any Lease yet.
    pub fn new(me: &str, shards: u32) -> Self {
        let unknown = ShardLease {
            own_state: OwnState::Waiting,
            holder: None,
            free_from: Instant::now(),
            asked_by: None,
        };
        let leases = (0..shards).map(|_| unknown.clone()).collect();
        let view = LeaseView { replica_name: me.to_owned(), ready_since: None, leases };
        Self { view: Mutex::new(view), changed: watch::Sender::default() }
    }

    /// Returns a receiver that is notified when something changes on which [`LeaseView::next_step`] depends.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Notes that this replica is ready to manage clusters.
    pub fn note_ready(&self) {
        self.update(|view| view.ready_since = Some(Instant::now()));
    }

    /// Notes the content of the Lease of `shard`: its holder, the time from which it is free, and the replica that
    /// requests it.
    pub fn note_lease(&self, shard: usize, holder: Option<&str>, free_from: Instant, asked: Option<&str>) {
        self.update(|view| {
            let seat = &mut view.leases[shard];
            seat.holder = holder.map(str::to_owned);
            seat.free_from = free_from;
            let before = seat.asked_by.take();
            seat.asked_by = asked.map(|asker| match before {
                Some((same, since)) if same == asker => (same, since),
                _ => (asker.to_owned(), Instant::now()),
            });
        });
    }

    /// Notes that this replica has requested the Lease of `shard`.
    pub fn note_asked(&self, shard: usize) {
        self.update(|view| view.leases[shard].asked_by = Some((view.replica_name.clone(), Instant::now())));
    }

    /// Notes the state of this replica with respect to the Lease of `shard`.
    pub fn note_own_state(&self, shard: usize, own: OwnState) {
        self.update(|view| view.leases[shard].own_state = own);
    }

    /// Returns the next step about the Lease of `shard`, without noting it.
    pub fn peek_step(&self, shard: usize) -> LeaseStep {
        self.lock().next_step(shard, Instant::now())
    }

    /// Returns the next step about the Lease of `shard`, and notes it if the Lease is to be taken or given up: two
    /// candidates never decide on the same state.
    pub fn next_step(&self, shard: usize) -> LeaseStep {
        let mut view = self.lock();
        let step = view.next_step(shard, Instant::now());
        let own = match step {
            LeaseStep::Take => OwnState::Taking,
            LeaseStep::HandOver => OwnState::Leaving,
            LeaseStep::Ask | LeaseStep::WaitUntil(_) => return step,
        };
        view.leases[shard].own_state = own;
        drop(view);
        self.changed.send_replace(());
        step
    }

    fn update(&self, change: impl FnOnce(&mut LeaseView)) {
        let mut view = self.lock();
        let before = view.leases.clone();
        let was_ready = view.ready_since;
        change(&mut view);
        // A renewal changes nothing for candidates that do not wait for this very Lease.
        let counts = |seats: &[ShardLease]| -> Vec<_> {
            seats.iter().map(|seat| (seat.own_state, seat.holder.clone(), seat.asked_by.clone())).collect()
        };
        let news = counts(&before) != counts(&view.leases) || was_ready != view.ready_since;
        drop(view);
        if news {
            self.changed.send_replace(());
        }
    }

    fn lock(&self) -> MutexGuard<'_, LeaseView> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
