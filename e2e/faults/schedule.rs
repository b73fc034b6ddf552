//! The schedule of faults: drawn from the seed alone.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

/// One in so many faults begins while the fault before it still lasts.
const OVERLAP_DIVISOR: u32 = 4;
/// The longest delay between the beginning of a group and an overlapping fault, in milliseconds.
const MAX_OVERLAP_DELAY_MS: u64 = 1500;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, clap::ValueEnum)]
pub enum Kind {
    /// SIGKILL of a gateway.
    KillGateway,
    /// SIGKILL of a consumer.
    KillConsumer,
    /// SIGKILL of a websocket server.
    KillWebsocket,
    /// SIGKILL of a comment service.
    KillComment,
    /// SIGKILL of a reader.
    KillReader,
    /// SIGKILL of a manager.
    KillManager,
    /// SIGKILL of the statistics service.
    KillStatistics,
    /// SIGSTOP of a consumer past its session timeout, then SIGCONT: a zombie.
    StopConsumer,
    /// A consumer joins or leaves, under load.
    Rebalance,
    /// SIGKILL of Kafka, and a start on its data.
    KafkaRestart,
    /// SIGKILL of Redis, and a start on its data.
    RedisRestart,
    /// SIGKILL of Redis, and a start without data.
    RedisEmpty,
    /// SIGKILL of Redis, and a start on an older copy of its data.
    RedisOld,
    /// SIGKILL of a member of the replica set, and a start on its data.
    MongodbKill,
    /// The primary steps down.
    MongodbStepDown,
    /// The network to Kafka is cut.
    CutKafka,
    /// The network to Redis is cut.
    CutRedis,
    /// The network to MongoDB, or to its primary, is cut.
    CutMongodb,
    /// The network to Kafka is slow.
    SlowKafka,
    /// The network to Redis is slow.
    SlowRedis,
    /// The network to MongoDB is slow.
    SlowMongodb,
    /// The disk of the embedded stores is full.
    DiskFull,
    /// The clocks of our processes jump.
    ClockJump,
}

/// The part that a fault strikes. Faults on the same part do not overlap, because the repair of one would end the
/// other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum On {
    /// The processes of a role, by the role's name.
    Role(&'static str),
    /// Kafka, or the network to it.
    Kafka,
    /// Redis, or the network to it.
    Redis,
    /// MongoDB, or the network to it.
    Mongodb,
    /// The separate process on embedded stores, with its disk.
    Disk,
    /// The clocks of our processes.
    Clock,
}

impl Kind {
    /// Returns all kinds of faults.
    pub fn all() -> &'static [Self] {
        clap::ValueEnum::value_variants()
    }

    /// Returns the name of the kind, as on the command line.
    pub fn name(self) -> String {
        let value = clap::ValueEnum::to_possible_value(&self).expect("no kind is hidden");
        value.get_name().to_owned()
    }

    /// Returns the part that a fault of this kind strikes.
    pub const fn on(self) -> On {
        match self {
            Self::KillGateway => On::Role("gateway"),
            Self::KillConsumer | Self::StopConsumer | Self::Rebalance => On::Role("consumer"),
            Self::KillWebsocket => On::Role("websocket"),
            Self::KillComment => On::Role("comment"),
            Self::KillReader => On::Role("reader"),
            Self::KillManager => On::Role("manager"),
            Self::KillStatistics => On::Role("statistics"),
            Self::KafkaRestart | Self::CutKafka | Self::SlowKafka => On::Kafka,
            Self::RedisRestart | Self::RedisEmpty | Self::RedisOld | Self::CutRedis | Self::SlowRedis => {
                On::Redis
            }
            Self::MongodbKill | Self::MongodbStepDown | Self::CutMongodb | Self::SlowMongodb => On::Mongodb,
            Self::DiskFull => On::Disk,
            Self::ClockJump => On::Clock,
        }
    }

    /// Returns the shortest and the longest duration of a fault of this kind, in milliseconds.
    const fn duration_range_ms(self) -> (u64, u64) {
        match self {
            // Longer than the session timeout of 6 s.
            Self::StopConsumer => (7_000, 10_000),
            Self::Rebalance => (2_000, 4_000),
            Self::CutKafka | Self::CutRedis | Self::CutMongodb => (500, 6_000),
            Self::SlowKafka | Self::SlowRedis | Self::SlowMongodb => (2_000, 5_000),
            Self::DiskFull | Self::ClockJump => (1_000, 4_000),
            _ => (0, 2_000),
        }
    }
}

/// A fault of the schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The kind of the fault.
    pub kind: Kind,
    /// The delay after the beginning of the fault's group.
    pub after: Duration,
    /// The duration of the fault.
    pub lasts: Duration,
    /// A random number that selects the victim and the variant of the fault, if there are several.
    pub draw: u64,
}

/// A generator of rounds of faults, without an end.
pub struct Schedule {
    random: StdRng,
    kinds: Vec<Kind>,
    deck: Vec<Kind>,
    a_round: usize,
}

impl Schedule {
    /// Creates the schedule of this seed, with faults of these kinds, `a_round` faults in a round.
    pub fn new(seed: u64, kinds: &[Kind], a_round: usize) -> Self {
        Self { random: StdRng::seed_from_u64(seed), kinds: kinds.to_vec(), deck: Vec::new(), a_round }
    }

    /// Draws the next round, of at most `most` faults. The groups follow each other; the faults within a group
    /// overlap.
    pub fn round(&mut self, most: usize) -> Vec<Vec<Fault>> {
        let mut groups: Vec<Vec<Fault>> = Vec::new();
        for _ in 0..self.a_round.min(most) {
            let fault = self.fault();
            let overlaps = self.random.random_range(0..OVERLAP_DIVISOR) == 0;
            match groups.last_mut() {
                Some(group) if overlaps && group.iter().all(|other| other.kind.on() != fault.kind.on()) => {
                    group.push(fault);
                }
                _ => groups.push(vec![Fault { after: Duration::ZERO, ..fault }]),
            }
        }
        groups
    }

    fn fault(&mut self) -> Fault {
        // Each kind is drawn once before any kind is drawn again, so that all kinds are equally frequent.
        if self.deck.is_empty() {
            self.deck.clone_from(&self.kinds);
            self.deck.shuffle(&mut self.random);
        }
        let kind = self.deck.pop().expect("there are kinds, and the deck was filled");
        let (from, to) = kind.duration_range_ms();
        Fault {
            kind,
            after: Duration::from_millis(self.random.random_range(0..MAX_OVERLAP_DELAY_MS)),
            lasts: Duration::from_millis(self.random.random_range(from..=to)),
            draw: self.random.random(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn draw_rounds(seed: u64, count: usize) -> Vec<Vec<Vec<Fault>>> {
        let mut schedule = Schedule::new(seed, Kind::all(), 6);
        (0..count).map(|_| schedule.round(usize::MAX)).collect()
    }

    #[test]
    fn a_seed_makes_the_same_schedule_and_another_one_another() {
        assert_eq!(draw_rounds(3, 20), draw_rounds(3, 20));
        assert_ne!(draw_rounds(3, 20), draw_rounds(4, 20));
    }

    #[test]
    fn each_kind_comes_as_often_as_the_others() {
        let mut counts: HashMap<Kind, u32> = HashMap::new();
        let mut schedule = Schedule::new(9, Kind::all(), 1);
        for _ in 0..10 * Kind::all().len() {
            *counts.entry(schedule.round(1)[0][0].kind).or_default() += 1;
        }
        assert!(Kind::all().iter().all(|kind| counts[kind] == 10), "{counts:?}");
    }

    #[test]
    fn faults_overlap_sometimes_and_never_on_the_same_part() {
        let groups: Vec<Vec<Fault>> = draw_rounds(5, 50).into_iter().flatten().collect();
        assert!(groups.iter().any(|group| group.len() > 1));
        assert!(groups.iter().any(|group| group.len() == 1));
        for group in groups {
            let mut on: Vec<On> = group.iter().map(|fault| fault.kind.on()).collect();
            let all = on.len();
            on.dedup();
            assert_eq!(on.len(), all);
            assert_eq!(group[0].after, Duration::ZERO);
        }
    }

    #[test]
    fn a_round_is_no_longer_than_asked_for() {
        let mut schedule = Schedule::new(1, &[Kind::KillReader], 6);
        assert_eq!(schedule.round(4).iter().map(Vec::len).sum::<usize>(), 4);
        assert_eq!(schedule.round(40).iter().map(Vec::len).sum::<usize>(), 6);
    }
}
