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
pub enum FaultKind {
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
pub enum FaultTarget {
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

impl FaultKind {
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
    pub const fn target(self) -> FaultTarget {
        match self {
            Self::KillGateway => FaultTarget::Role("gateway"),
            Self::KillConsumer | Self::StopConsumer | Self::Rebalance => FaultTarget::Role("consumer"),
            Self::KillWebsocket => FaultTarget::Role("websocket"),
            Self::KillComment => FaultTarget::Role("comment"),
            Self::KillReader => FaultTarget::Role("reader"),
            Self::KillManager => FaultTarget::Role("manager"),
            Self::KillStatistics => FaultTarget::Role("statistics"),
            Self::KafkaRestart | Self::CutKafka | Self::SlowKafka => FaultTarget::Kafka,
            Self::RedisRestart | Self::RedisEmpty | Self::RedisOld | Self::CutRedis | Self::SlowRedis => {
                FaultTarget::Redis
            }
            Self::MongodbKill | Self::MongodbStepDown | Self::CutMongodb | Self::SlowMongodb => {
                FaultTarget::Mongodb
            }
            Self::DiskFull => FaultTarget::Disk,
            Self::ClockJump => FaultTarget::Clock,
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
    pub kind: FaultKind,
    /// The delay after the beginning of the fault's group.
    pub delay: Duration,
    /// The duration of the fault.
    pub duration: Duration,
    /// A random number that selects the victim and the variant of the fault, if there are several.
    pub random_number: u64,
}

/// A generator of rounds of faults, without an end.
pub struct Schedule {
    random: StdRng,
    kinds: Vec<FaultKind>,
    deck: Vec<FaultKind>,
    faults_per_round: usize,
}

impl Schedule {
    /// Creates the schedule of this seed, with faults of these kinds, `faults_per_round` faults in a round.
    pub fn new(seed: u64, kinds: &[FaultKind], faults_per_round: usize) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            kinds: kinds.to_vec(),
            deck: Vec::new(),
            faults_per_round,
        }
    }

    /// Draws the next round, of at most `most` faults. The groups follow each other; the faults within a group
    /// overlap.
    pub fn next_round(&mut self, most: usize) -> Vec<Vec<Fault>> {
        let mut groups: Vec<Vec<Fault>> = Vec::new();
        for _ in 0..self.faults_per_round.min(most) {
            let fault = self.draw_fault();
            let overlaps = self.random.random_range(0..OVERLAP_DIVISOR) == 0;
            match groups.last_mut() {
                Some(group)
                    if overlaps && group.iter().all(|other| other.kind.target() != fault.kind.target()) =>
                {
                    group.push(fault);
                }
                _ => groups.push(vec![Fault { delay: Duration::ZERO, ..fault }]),
            }
        }
        groups
    }

    fn draw_fault(&mut self) -> Fault {
        // Each kind is drawn once before any kind is drawn again, so that all kinds are equally frequent.
        if self.deck.is_empty() {
            self.deck.clone_from(&self.kinds);
            self.deck.shuffle(&mut self.random);
        }
        let kind = self.deck.pop().expect("there are kinds, and the deck was filled");
        let (from, to) = kind.duration_range_ms();
        Fault {
            kind,
            delay: Duration::from_millis(self.random.random_range(0..MAX_OVERLAP_DELAY_MS)),
            duration: Duration::from_millis(self.random.random_range(from..=to)),
            random_number: self.random.random(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn draw_rounds(seed: u64, count: usize) -> Vec<Vec<Vec<Fault>>> {
        let mut schedule = Schedule::new(seed, FaultKind::all(), 6);
        (0..count).map(|_| schedule.next_round(usize::MAX)).collect()
    }

    #[test]
    fn a_seed_makes_the_same_schedule_and_another_one_another() {
        assert_eq!(draw_rounds(3, 20), draw_rounds(3, 20));
        assert_ne!(draw_rounds(3, 20), draw_rounds(4, 20));
    }

    #[test]
    fn each_kind_comes_as_often_as_the_others() {
        let mut counts: HashMap<FaultKind, u32> = HashMap::new();
        let mut schedule = Schedule::new(9, FaultKind::all(), 1);
        for _ in 0..10 * FaultKind::all().len() {
            *counts.entry(schedule.next_round(1)[0][0].kind).or_default() += 1;
        }
        assert!(FaultKind::all().iter().all(|kind| counts[kind] == 10), "{counts:?}");
    }

    #[test]
    fn faults_overlap_sometimes_and_never_on_the_same_part() {
        let groups: Vec<Vec<Fault>> = draw_rounds(5, 50).into_iter().flatten().collect();
        assert!(groups.iter().any(|group| group.len() > 1));
        assert!(groups.iter().any(|group| group.len() == 1));
        for group in groups {
            let mut on: Vec<FaultTarget> = group.iter().map(|fault| fault.kind.target()).collect();
            let all = on.len();
            on.dedup();
            assert_eq!(on.len(), all);
            assert_eq!(group[0].delay, Duration::ZERO);
        }
    }

    #[test]
    fn a_round_is_no_longer_than_asked_for() {
        let mut schedule = Schedule::new(1, &[FaultKind::KillReader], 6);
        assert_eq!(schedule.next_round(4).iter().map(Vec::len).sum::<usize>(), 4);
        assert_eq!(schedule.next_round(40).iter().map(Vec::len).sum::<usize>(), 6);
    }
}
