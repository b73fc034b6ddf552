//! Which shards a replica holds: as many as the others, and all where there is no other.
//!
//! Replicas know nothing of each other but what the shards' Leases say. Of a Lease that is free, whoever holds the fewest
//! takes it first: the others wait a little for each that they hold. A replica that holds at least two fewer than another
//! asks for one of the other's Leases, in an annotation of it; the holder gives it up where that evens things out, and
//! ends its work for that shard first. So no Lease is ever taken from somebody who holds it, and a replica that dies or
//! comes moves only what has to move.
//!
//! With one shard nobody ever has two fewer than another: nothing is asked for, and a free Lease is taken at once.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::shard::shards_of_holder;

/// How long a replica leaves a free Lease to others for each that it holds: twice what a write takes on a busy API server.
const WAIT_FOR_EACH_HELD: Duration = Duration::from_millis(500);
/// It waits no longer than this: a replica that is alone holds all shards soon.
const LONGEST_WAIT: Duration = Duration::from_secs(3);
/// A Lease that was given up for somebody is left to it for this long.
const RESERVED_FOR: Duration = Duration::from_secs(3);
/// A replica asks for nothing until it has been ready for this long: during a rollout, those who hold shards end by themselves.
const ASK_AFTER: Duration = Duration::from_secs(10);
/// An answer comes with the next renewal. After this long the question is another's to ask.
const ASKED_FOR: Duration = Duration::from_secs(30);

/// What this replica does about a Lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnState {
    /// Nothing; but it waits for the Lease.
    Waits,
    /// It is about to take it.
    Takes,
    /// It holds it.
    Holds,
    /// It ends its work, to give it up.
    Leaves,
}

/// A shard's Lease, as this replica knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// What this replica does about it.
    pub own_state: OwnState,
    /// Whom it names as its holder, whether that one lives or not.
    pub holder: Option<String>,
    /// The time from which the Lease belongs to nobody if it does not change.
    pub free_from: Instant,
    /// Who asks for it, and since when.
    pub asked_by: Option<(String, Instant)>,
}

/// All shards' Leases, as one replica knows them.
#[derive(Debug, Clone)]
pub struct View {
    /// What the replica is called in Leases.
    pub replica_name: String,
    /// Since when it could look after clusters.
    pub ready: Option<Instant>,
    /// The seats, indexed by shard.
    pub seats: Vec<Seat>,
}

/// What a replica does next about a Lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Takes it: it is free.
    Take,
    /// Asks its holder for it.
    Ask,
    /// Gives it up: somebody with fewer asks for it.
    HandOver,
    /// Nothing before this moment, unless something changes.
    WaitUntil(Instant),
}

impl View {
    /// Decides the next step about the Lease of `shard`.
    pub fn next_step(&self, shard: usize, now: Instant) -> Step {
        let seat = &self.seats[shard];
        match seat.own_state {
            OwnState::Holds if self.must_hand_over(seat, now) => Step::HandOver,
            OwnState::Takes | OwnState::Holds | OwnState::Leaves => Step::WaitUntil(now + LONGEST_WAIT),
            OwnState::Waits => {
                let at = self.may_take_from(seat);
                if now >= at {
                    return Step::Take;
                }
                match self.asks_from(shard, now) {
                    Some(ask) if now >= ask => Step::Ask,
                    Some(ask) => Step::WaitUntil(at.min(ask)),
                    None => Step::WaitUntil(at),
                }
            }
        }
    }

    /// How many Leases `name` holds at this moment.
    fn held_by(&self, name: &str, now: Instant) -> usize {
        let holds = |seat: &&Seat| match seat.own_state {
            OwnState::Takes | OwnState::Holds => name == self.replica_name,
            OwnState::Leaves => false,
            OwnState::Waits => {
                now < seat.free_from && name != self.replica_name && seat.holder.as_deref() == Some(name)
            }
        };
        self.seats.iter().filter(holds).count()
    }

    fn held_by_me(&self) -> usize {
        self.seats.iter().filter(|seat| matches!(seat.own_state, OwnState::Takes | OwnState::Holds)).count()
    }

    fn must_hand_over(&self, seat: &Seat, now: Instant) -> bool {
        let Some((asker, _)) = &seat.asked_by else { return false };
        // Who goes by another number of shards looks after other namespaces: that would even out nothing.
        *asker != self.replica_name
            && self.goes_by_ours(asker)
            && self.held_by_me() >= self.held_by(asker, now) + 2
    }

    fn goes_by_ours(&self, name: &str) -> bool {
        shards_of_holder(name) == shards_of_holder(&self.replica_name)
    }

    /// Returns the time from which this replica may take the Lease if it stays free.
    fn may_take_from(&self, seat: &Seat) -> Instant {
        let held = u32::try_from(self.held_by_me()).unwrap_or(u32::MAX);
        let wait = WAIT_FOR_EACH_HELD.saturating_mul(held).min(LONGEST_WAIT);
        let reserved = seat.asked_by.as_ref().is_some_and(|(asker, _)| *asker != self.replica_name);
        seat.free_from + wait + if reserved { RESERVED_FOR } else { Duration::ZERO }
    }

    /// Returns the time from which this replica asks for the Lease. `None` where it does not ask for it now.
    fn asks_from(&self, shard: usize, now: Instant) -> Option<Instant> {
        let asks = self.ready? + ASK_AFTER;
        let fresh = |seat: &Seat| {
            let asked = seat.asked_by.as_ref().filter(|(_, since)| now < *since + ASKED_FOR);
            asked.map(|(asker, _)| asker.clone())
        };
        let waits_for_answer =
            |seat: &Seat| now < seat.free_from && fresh(seat).as_ref() == Some(&self.replica_name);
        if self.seats.iter().any(waits_for_answer) {
            return None;
        }
        let holders =
            self.seats.iter().filter(|seat| seat.own_state == OwnState::Waits && now < seat.free_from);
        let holders = holders.filter_map(|seat| seat.holder.as_deref()).filter(|it| self.goes_by_ours(it));
        let most = holders.max_by_key(|name| (self.held_by(name, now), std::cmp::Reverse(*name)))?;
        if self.held_by(most, now) < self.held_by_me() + 2 {
            return None;
        }
        let is_choice = |seat: &Seat| {
            let held = seat.own_state == OwnState::Waits && now < seat.free_from;
            held && seat.holder.as_deref() == Some(most) && fresh(seat).is_none()
        };
        (self.seats.iter().position(is_choice)? == shard).then_some(asks)
    }
}

/// What the candidates of one replica, one for each shard, tell each other.
pub struct Spread {
    view: Mutex<View>,
    changed: watch::Sender<()>,
}

impl Spread {
    /// For the replica `me` that knows nothing yet of any Lease.
    pub fn new(me: &str, shards: u32) -> Self {
        let unknown =
            Seat { own_state: OwnState::Waits, holder: None, free_from: Instant::now(), asked_by: None };
        let seats = (0..shards).map(|_| unknown.clone()).collect();
        let view = View { replica_name: me.to_owned(), ready: None, seats };
        Self { view: Mutex::new(view), changed: watch::Sender::default() }
    }

    /// Tells when something has changed on which [`View::next_step`] depends.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// This replica can look after clusters from now on.
    pub fn note_ready(&self) {
        self.update(|view| view.ready = Some(Instant::now()));
    }

    /// Notes what the Lease of `shard` says: its holder, from when on it is free, and who asks for it.
    pub fn note_lease(&self, shard: usize, holder: Option<&str>, free_from: Instant, asked: Option<&str>) {
        self.update(|view| {
            let seat = &mut view.seats[shard];
            seat.holder = holder.map(str::to_owned);
            seat.free_from = free_from;
            let before = seat.asked_by.take();
            seat.asked_by = asked.map(|asker| match before {
                Some((same, since)) if same == asker => (same, since),
                _ => (asker.to_owned(), Instant::now()),
            });
        });
    }

    /// Notes that this replica has asked for the Lease of `shard`.
    pub fn note_asked(&self, shard: usize) {
        self.update(|view| view.seats[shard].asked_by = Some((view.replica_name.clone(), Instant::now())));
    }

    /// Notes what this replica does about the Lease of `shard`.
    pub fn note_own_state(&self, shard: usize, own: OwnState) {
        self.update(|view| view.seats[shard].own_state = own);
    }

    /// Returns the next step about the Lease of `shard`, without taking it.
    pub fn peek_step(&self, shard: usize) -> Step {
        self.lock().next_step(shard, Instant::now())
    }

    /// Decides the next step about the Lease of `shard`, and notes it where that is to take it or to give it up: two
    /// candidates never decide on the same state.
    pub fn next_step(&self, shard: usize) -> Step {
        let mut view = self.lock();
        let step = view.next_step(shard, Instant::now());
        let own = match step {
            Step::Take => OwnState::Takes,
            Step::HandOver => OwnState::Leaves,
            Step::Ask | Step::WaitUntil(_) => return step,
        };
        view.seats[shard].own_state = own;
        drop(view);
        self.changed.send_replace(());
        step
    }

    fn update(&self, change: impl FnOnce(&mut View)) {
        let mut view = self.lock();
        let before = view.seats.clone();
        let was_ready = view.ready;
        change(&mut view);
        // A renewal changes nothing for anybody who does not wait for just this Lease.
        let counts = |seats: &[Seat]| -> Vec<_> {
            seats.iter().map(|seat| (seat.own_state, seat.holder.clone(), seat.asked_by.clone())).collect()
        };
        let news = counts(&before) != counts(&view.seats) || was_ready != view.ready;
        drop(view);
        if news {
            self.changed.send_replace(());
        }
    }

    fn lock(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
