//! The policies of giving videos to readers. All of them see the same facts; only the planner spreads one video over
//! several readers.

use liverank_core::Millis;
use liverank_core::placement::{PlanLimits, ViewerMoveBudget, make_plan};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::scenario::Scenario;
use crate::world::World;

/// The name of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum PolicyName {
    /// Each new video goes to the next reader in turn, as in the comments seed.
    RoundRobin,
    /// Consistent hashing (Karger et al. 1997), 100 points a reader.
    ConsistentHash,
    /// Consistent hashing with bounded loads (Mirrokni et al. 2018): no reader above 1.25 times the mean.
    BoundedLoad,
    /// The less loaded of two readers drawn at random (Mitzenmacher 1996), when the video begins.
    TwoChoices,
    /// liverank's own planner.
    Planner,
}

impl PolicyName {
    /// All policies, in the order of the table.
    pub const ALL: [Self; 5] =
        [Self::RoundRobin, Self::ConsistentHash, Self::BoundedLoad, Self::TwoChoices, Self::Planner];

    /// Returns the title of the policy in the table.
    pub const fn title(self) -> &'static str {
        match self {
            Self::RoundRobin => "round robin",
            Self::ConsistentHash => "consistent hashing",
            Self::BoundedLoad => "bounded-load hashing",
            Self::TwoChoices => "power of two choices",
            Self::Planner => "liverank planner",
        }
    }

    /// Creates the policy for a scenario; `seed` is for its random choices.
    pub fn create_policy(self, scenario: &Scenario, seed: u64) -> Box<dyn Policy> {
        match self {
            Self::RoundRobin => Box::new(RoundRobin { next_reader: 0 }),
            Self::ConsistentHash => {
                Box::new(ConsistentHashing { load_bound: None, ring: Vec::new(), ring_readers: Vec::new() })
            }
            Self::BoundedLoad => Box::new(ConsistentHashing {
                load_bound: Some(1.25),
                ring: Vec::new(),
                ring_readers: Vec::new(),
            }),
            Self::TwoChoices => Box::new(TwoRandomChoices { random: StdRng::seed_from_u64(seed) }),
            Self::Planner => Box::new(LiverankPlanner::new(scenario)),
        }
    }
}

/// A policy that gives videos to readers, once in each tick.
pub trait Policy {
    /// Gives readers to waiting viewers, and moves other viewers if the policy wants that. Returns the number of
    /// viewers that were moved from one reader to another.
    fn place_videos(&mut self, world: &mut World, now: Millis) -> u64;
}

/// Admits the viewers that a full reader has refused, beyond its capacity: a policy that gives each video one reader
/// has no other reader for them.
fn admit_refused(world: &mut World) {
    for video in &mut world.situation.videos {
        if let [part] = &mut video.parts[..] {
            part.viewers += std::mem::take(&mut video.waiting);
        }
    }
}

/// Returns the indices of videos that have no reader.
fn videos_without_reader(world: &World) -> Vec<usize> {
    let lacks = |at: &usize| world.situation.videos[*at].parts.is_empty();
    (0..world.situation.videos.len()).filter(lacks).collect()
}

struct RoundRobin {
    next_reader: usize,
}

impl Policy for RoundRobin {
    fn place_videos(&mut self, world: &mut World, _now: Millis) -> u64 {
        admit_refused(world);
        for video in videos_without_reader(world) {
            let readers = world.situation.readers.len();
            if readers > 0 {
                world.give_video(video, self.next_reader % readers);
                self.next_reader += 1;
            }
        }
        0
    }
}

struct TwoRandomChoices {
    random: StdRng,
}

impl Policy for TwoRandomChoices {
    fn place_videos(&mut self, world: &mut World, _now: Millis) -> u64 {
        admit_refused(world);
        let mut loads = world.reader_loads();
        for video in videos_without_reader(world) {
            if loads.is_empty() {
                return 0;
            }
            let (a, b) = (self.random.random_range(0..loads.len()), self.random.random_range(0..loads.len()));
            let to = if loads[b] < loads[a] { b } else { a };
            loads[to] += world.situation.videos[video].viewers();
            world.give_video(video, to);
        }
        0
    }
}

/// Consistent hashing, with a bound on a reader's load (`load_bound`, a multiple of the mean) or without.
struct ConsistentHashing {
    load_bound: Option<f64>,
    ring: Vec<(u64, usize)>,
    /// The names of the readers for which the ring was made.
    ring_readers: Vec<String>,
}

/// The number of points of each reader on the ring: with 100 points, the readers' parts of the ring are within some ten
/// per cent of each other.
const POINTS_A_READER: usize = 100;

/// Hashes a text by FNV-1a with a final mix, because similar names must not be neighbours on the ring.
fn hash(text: &str) -> u64 {
    let folded = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (folded ^ (folded >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ (mixed >> 33)
}

impl ConsistentHashing {
    fn make_ring(&mut self, world: &World) {
        let names: Vec<String> = world.situation.readers.iter().map(|reader| reader.id.to_string()).collect();
        if names == self.ring_readers {
            return;
        }
        let points = |(at, name): (usize, &String)| {
            (0..POINTS_A_READER).map(move |point| (hash(&format!("{name}/{point}")), at)).collect::<Vec<_>>()
        };
        self.ring = names.iter().enumerate().flat_map(points).collect();
        self.ring.sort_unstable();
        self.ring_readers = names;
    }

    /// Returns the readers in the order of the ring, from the video's place on it.
    fn readers_on_ring_from(&self, video: &str) -> impl Iterator<Item = usize> {
        let place = hash(video);
        let first = self.ring.partition_point(|(point, _)| *point < place);
        self.ring[first..].iter().chain(&self.ring[..first]).map(|(_, reader)| *reader)
    }
}

impl Policy for ConsistentHashing {
    fn place_videos(&mut self, world: &mut World, _now: Millis) -> u64 {
        self.make_ring(world);
        if self.ring.is_empty() {
            return 0;
        }
        let viewers: u64 =
            world.situation.videos.iter().map(liverank_core::placement::PlacementVideo::viewers).sum();
        let cap = self
            .load_bound
            .map(|cap| (viewers as f64 / world.situation.readers.len() as f64 * cap).ceil() as u64);
        let mut loads = vec![0; world.situation.readers.len()];
        let mut moved = 0;
        for at in 0..world.situation.videos.len() {
            let video = &world.situation.videos[at];
            let (count, mut walk) = (video.viewers(), self.readers_on_ring_from(video.id.as_str()));
            let home = walk.next().unwrap_or_default();
            // A video larger than the bound goes to a reader that has no viewers yet, or stays at its first reader.
            let fits =
                |reader: &usize| cap.is_none_or(|cap| loads[*reader] == 0 || loads[*reader] + count <= cap);
            let to = std::iter::once(home).chain(walk).find(fits).unwrap_or(home);
            loads[to] += count;
            if video.waiting > 0 || video.parts.first().map(|part| part.reader) != Some(to) {
                moved += world.give_video(at, to);
            }
        }
        moved
    }
}

/// liverank's own planner, with its budget of moves as a token bucket that fills over time.
struct LiverankPlanner {
    limits: PlanLimits,
    move_budget: i64,
    last_plan_at: Millis,
}

impl LiverankPlanner {
    fn new(scenario: &Scenario) -> Self {
        let limits = PlanLimits {
            hot_video_viewers: scenario.hot_video_viewers,
            tolerance: scenario.tolerance,
            // The same value as in the managers' autopilot.
            rest_ms: 10_000,
            budget: ViewerMoveBudget::full_bucket(scenario.max_moved_per_minute),
            ..PlanLimits::default()
        };
        Self { limits, move_budget: scenario.max_moved_per_minute as i64, last_plan_at: 0 }
    }
}

impl Policy for LiverankPlanner {
    fn place_videos(&mut self, world: &mut World, now: Millis) -> u64 {
        let full = self.limits.budget.full;
        let filled = (now - self.last_plan_at).max(0) as u64 * full / 60_000;
        self.last_plan_at = now;
        self.move_budget = (self.move_budget + filled as i64).min(full as i64);
        self.limits.budget.available = self.move_budget.max(0) as u64;
        world.situation.now = now;
        let plan = make_plan(&world.situation, &self.limits);
        world.situation.apply_plan(&plan, now);
        self.move_budget -= plan.moved as i64;
        plan.moved
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::scenario::ScenarioName;

    fn first_loads(name: PolicyName) -> Vec<u64> {
        let scenario = Scenario::built_in(ScenarioName::Seed, Duration::ZERO);
        let mut world = World::new(&scenario);
        name.create_policy(&scenario, 1).place_videos(&mut world, 0);
        world.reader_loads()
    }

    #[test]
    fn everybody_gets_a_reader_from_every_policy() {
        for name in PolicyName::ALL {
            assert_eq!(first_loads(name).iter().sum::<u64>(), 2500, "{name:?}");
        }
    }

    #[test]
    fn round_robin_reproduces_the_seed_s_run() {
        assert_eq!(first_loads(PolicyName::RoundRobin), [275, 280, 312, 233, 1400]);
    }

    #[test]
    fn consistent_hashing_keeps_videos_when_another_reader_dies() {
        let scenario = Scenario::built_in(ScenarioName::Seed, Duration::ZERO);
        let mut world = World::new(&scenario);
        let mut policy = PolicyName::ConsistentHash.create_policy(&scenario, 1);
        policy.place_videos(&mut world, 0);
        world.fail_reader(2);
        assert_eq!(policy.place_videos(&mut world, 1), 0);
    }

    #[test]
    fn bounded_hashing_keeps_readers_within_the_bound() {
        // One video has 1,100 of the 2,500 viewers: it is alone on its reader, and the other readers keep to the bound.
        let mut loads = first_loads(PolicyName::BoundedLoad);
        loads.sort_unstable();
        assert!(loads[..4].iter().all(|load| *load <= 625), "{loads:?}");
    }
}
