//! Tests that after replicas start, stop and die all shards are led soon and evenly, and that nothing moves then any
//! more.

use proptest::prelude::*;

use super::*;
use crate::run::shard::lease_holder;

/// The length of one step of the simulation.
const STEP: Duration = Duration::from_millis(250);
const LEASE_LASTS: Duration = Duration::from_secs(15);
/// Number of steps between two renewals of a Lease, at which its holder sees a request for it.
const RENEW_EVERY: u32 = 20;
/// Number of steps after the last event within which all shards have to be led evenly: a Lease runs out, and each
/// request takes a renewal.
const SETTLED_AFTER: u32 = 4 * 120;
/// Number of steps after that in which nothing may move.
const CALM_FOR: u32 = 4 * 60;

#[derive(Debug, Clone)]
struct Truth {
    holder: Option<usize>,
    free_from: Instant,
    asked: Option<(String, Instant)>,
    version: u64,
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Comes,
    Stops(usize),
    Dies(usize),
}

struct World {
    now: Instant,
    /// The present state and the states in the steps before, because others see a state late.
    seats: Vec<Vec<Truth>>,
    /// By replica: whether it lives, and since when it has been ready.
    replicas: Vec<(bool, Instant)>,
    /// Number of times that a Lease was taken.
    taken: u32,
    /// Number of steps so far.
    step: u32,
}

impl World {
    fn new(shards: usize) -> Self {
        let now = Instant::now();
        let free = Truth { holder: None, free_from: now, asked: None, version: 0 };
        Self { now, seats: vec![vec![free; shards]], replicas: Vec::new(), taken: 0, step: 0 }
    }

    fn name(replica: usize, shards: usize) -> String {
        lease_holder(&format!("pod-{replica}"), shards as u32)
    }

    fn seats(&mut self) -> &mut Vec<Truth> {
        self.seats.last_mut().unwrap()
    }

    fn happens(&mut self, event: Event) {
        let now = self.now;
        let living: Vec<usize> = (0..self.replicas.len()).filter(|at| self.replicas[*at].0).collect();
        let (replica, free_from) = match event {
            Event::Comes => return self.replicas.push((true, now)),
            // One replica always stays.
            Event::Stops(_) | Event::Dies(_) if living.len() < 2 => return,
            Event::Stops(nth) => (living[nth % living.len()], now),
            Event::Dies(nth) => (living[nth % living.len()], now + LEASE_LASTS),
        };
        self.replicas[replica].0 = false;
        for seat in self.seats().iter_mut().filter(|seat| seat.holder == Some(replica)) {
            seat.free_from = free_from;
            seat.version += 1;
        }
    }

    /// Returns the knowledge of `replica`: the present state of its own Leases, and the state of others `late` steps
    /// ago.
    fn view(&self, replica: usize, late: usize) -> LeaseView {
        let now = self.seats.last().unwrap();
        let shards = now.len();
        let then = &self.seats[self.seats.len().saturating_sub(1 + late)];
        let seat = |(now, then): (&Truth, &Truth)| {
            let mine = now.holder == Some(replica);
            let seen = if mine { now } else { then };
            ShardLease {
                own_state: if mine { OwnState::Holding } else { OwnState::Waiting },
                holder: seen.holder.map(|holder| Self::name(holder, shards)),
                free_from: seen.free_from,
                asked_by: seen.asked.clone(),
            }
        };
        LeaseView {
            replica_name: Self::name(replica, shards),
            ready_since: Some(self.replicas[replica].1),
            leases: now.iter().zip(then).map(seat).collect(),
        }
    }

    fn acts(&mut self, replica: usize, shard: usize, late: usize) {
        let then = self.seats[self.seats.len().saturating_sub(1 + late)][shard].version;
        let (now, shards) = (self.now, self.seats().len());
        let held = self.seats()[shard].holder == Some(replica);
        if held && !self.step.is_multiple_of(RENEW_EVERY) {
            return;
        }
        let step = self.view(replica, late).next_step(shard, now);
        let seat = &mut self.seats()[shard];
        // Writes are guarded by the version that was seen.
        if !held && seat.version != then {
            return;
        }
        match step {
            LeaseStep::Take => {
                assert!(now >= seat.free_from, "nobody takes what another holds");
                *seat = Truth {
                    holder: Some(replica),
                    // The Lease is renewed as long as its holder lives.
                    free_from: now + Duration::from_hours(24),
                    asked: None,
                    version: seat.version + 1,
                };
                self.taken += 1;
            }
            LeaseStep::Ask => {
                seat.asked = Some((Self::name(replica, shards), now));
                seat.version += 1;
            }
            LeaseStep::HandOver => {
                seat.holder = None;
                seat.free_from = now;
                seat.version += 1;
            }
            LeaseStep::WaitUntil(_) => {}
        }
    }

    /// Does one step: all living replicas look at all Leases, in the order and as late as `chance` says.
    fn goes_on(&mut self, chance: &mut impl FnMut(usize) -> usize) {
        self.now += STEP;
        self.step += 1;
        let last = self.seats.last().unwrap().clone();
        self.seats.push(last);
        if self.seats.len() > 4 {
            self.seats.remove(0);
        }
        let living = (0..self.replicas.len()).filter(|at| self.replicas[*at].0);
        let shards = self.seats[0].len();
        let mut turns: Vec<(usize, usize)> =
            living.flat_map(|replica| (0..shards).map(move |shard| (replica, shard))).collect();
        while !turns.is_empty() {
            let (replica, shard) = turns.swap_remove(chance(turns.len()));
            self.acts(replica, shard, chance(3));
        }
    }

    fn held(&self) -> Vec<usize> {
        let seats = self.seats.last().unwrap();
        let living = (0..self.replicas.len()).filter(|at| self.replicas[*at].0);
        living.map(|at| seats.iter().filter(|seat| seat.holder == Some(at)).count()).collect()
    }
}

fn event() -> impl Strategy<Value = (u32, Event)> {
    let what = prop_oneof![
        Just(Event::Comes),
        (0_usize..8).prop_map(Event::Stops),
        (0_usize..8).prop_map(Event::Dies),
    ];
    (0_u32..120, what)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn all_shards_are_led_evenly_soon_and_then_nothing_moves(
        shards in 1_usize..=16,
        replicas in 1_usize..=5,
        events in prop::collection::vec(event(), 0..6),
        seed in any::<u64>(),
    ) {
        let mut state = seed | 1;
        let mut chance = |below: usize| {
            // This is xorshift: any order will do.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below as u64) as usize
        };
        let mut world = World::new(shards);
        for _ in 0..replicas {
            world.happens(Event::Comes);
        }
        for (after, event) in events {
            for _ in 0..after {
                world.goes_on(&mut chance);
            }
            world.happens(event);
        }
        for _ in 0..SETTLED_AFTER {
            world.goes_on(&mut chance);
        }
        let held = world.held();
        prop_assert_eq!(held.iter().sum::<usize>(), shards, "{:?}", &held);
        let spread = held.iter().max().unwrap() - held.iter().min().unwrap();
        prop_assert!(spread <= 1, "{:?}", held);
        let before = world.taken;
        for _ in 0..CALM_FOR {
            world.goes_on(&mut chance);
        }
        prop_assert_eq!(world.taken, before, "Leases go on changing hands");
    }

    #[test]
    fn a_replica_that_is_alone_holds_all_soon(shards in 1_usize..=16) {
        let mut world = World::new(shards);
        world.happens(Event::Comes);
        for _ in 0..=LONGEST_WAIT.div_duration_f64(STEP) as u32 {
            world.goes_on(&mut |_| 0);
        }
        prop_assert_eq!(world.held(), [shards]);
    }
}

#[test]
fn what_a_dead_replica_held_is_led_within_the_leases_time_and_only_that_moves() {
    let mut world = World::new(6);
    for _ in 0..3 {
        world.happens(Event::Comes);
    }
    for _ in 0..SETTLED_AFTER {
        world.goes_on(&mut |_| 0);
    }
    assert_eq!(world.held(), [2, 2, 2]);
    let before = world.taken;
    world.happens(Event::Dies(1));
    let most = (LEASE_LASTS + LONGEST_WAIT).div_duration_f64(STEP) as u32;
    for _ in 0..most {
        world.goes_on(&mut |_| 0);
    }
    assert_eq!((world.held(), world.taken - before), (vec![3, 3], 2));
}

#[test]
fn one_shard_is_taken_at_once_and_nobody_asks_for_it() {
    let now = Instant::now();
    let free = ShardLease { own_state: OwnState::Waiting, holder: None, free_from: now, asked_by: None };
    let view = |seat: ShardLease| LeaseView {
        replica_name: "me".into(),
        ready_since: Some(now),
        leases: vec![seat],
    };
    assert_eq!(view(free.clone()).next_step(0, now), LeaseStep::Take);
    let later = now + Duration::from_hours(1);
    let held = ShardLease { holder: Some("other".into()), free_from: later, ..free };
    assert_eq!(view(held.clone()).next_step(0, later - STEP), LeaseStep::WaitUntil(later));
    assert_eq!(view(held).next_step(0, later), LeaseStep::Take);
}

#[test]
fn who_goes_by_another_number_of_shards_is_asked_for_nothing_and_given_nothing() {
    let now = Instant::now();
    let seat = |own, holder: &str, asked: Option<&str>| ShardLease {
        own_state: own,
        holder: Some(holder.into()),
        free_from: now + Duration::from_hours(1),
        asked_by: asked.map(|name| (name.to_owned(), now)),
    };
    let view = |leases| LeaseView {
        replica_name: "me/2".into(),
        ready_since: Some(now - REQUEST_LEASE_AFTER),
        leases,
    };
    let asks = |holder: &str| {
        view(vec![seat(OwnState::Waiting, holder, None), seat(OwnState::Waiting, holder, None)])
    };
    assert_eq!(asks("other/2").next_step(0, now), LeaseStep::Ask);
    assert!(matches!(asks("other/3").next_step(0, now), LeaseStep::WaitUntil(_)));
    let asked = |by: &str| {
        view(vec![seat(OwnState::Holding, "me/2", Some(by)), seat(OwnState::Holding, "me/2", None)])
    };
    assert_eq!(asked("other/2").next_step(0, now), LeaseStep::HandOver);
    assert!(matches!(asked("other/3").next_step(0, now), LeaseStep::WaitUntil(_)));
}
