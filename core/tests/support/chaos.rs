//! Chaos runs for the planner: rounds in which loads drift, videos come and go, one goes viral and gets half of all
//! viewers, and readers join, leave and die. After each round the planner plans once.

use liverank_core::placement::{
    PlacementReader, PlacementVideo, Plan, PlanLimits, ReaderAvailability, Situation, VideoPart,
    ViewerMoveBudget, WHOLE_SHARE, make_plan,
};
use liverank_core::{ReaderId, VideoId};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// The time of a round, in milliseconds: one minute, so that each round has a full budget.
const ROUND_MS: i64 = 60_000;
/// The least and the greatest number of readers, and the number at the start.
const READER_COUNTS: (usize, usize, usize) = (80, 120, 100);

/// The number of viewers that a reader can hold.
const READER_CAPACITY: u64 = 20_000;

/// The settings of a chaos run.
pub struct Chaos {
    pub seed: u64,
    pub rounds: usize,
    pub videos: usize,
    pub limits: PlanLimits,
}

/// The result of one round.
pub struct Round {
    /// The fullest reader's load over its fair share, in millionths, after the round's changes and before its plan.
    pub before: u64,
    /// The fullest reader's load over its fair share, in millionths, after the round's plan.
    pub after: u64,
    /// The number of all viewers.
    pub viewers: u64,
    /// The number of viewers that the plan moved.
    pub moved: u64,
    /// The number of orders in the plan.
    pub orders: usize,
    /// The event of the round: `join`, `leave`, `die`, `viral`, `start`, or `drift` if nothing else happened.
    pub event: &'static str,
}

/// Returns limits for the planner with a tolerance of 1 % and without a budget of moves.
pub fn tight() -> PlanLimits {
    PlanLimits {
        tolerance: 10,
        floor_viewers: 0,
        budget: ViewerMoveBudget::without_limit(),
        ..PlanLimits::default()
    }
}

struct ChaosSystem {
    random: StdRng,
    situation: Situation,
    viral: Option<(usize, usize)>,
    next_reader: usize,
}

/// Runs the rounds, and calls `check` with every situation and plan.
pub fn run(chaos: &Chaos, mut check: impl FnMut(&Situation, &Plan)) -> Vec<Round> {
    let mut system = ChaosSystem::new(chaos);
    (0..chaos.rounds)
        .map(|round| {
            let event = system.disturb_system(round);
            let situation = &mut system.situation;
            situation.now += ROUND_MS;
            let plan = make_plan(situation, &chaos.limits);
            check(situation, &plan);
            let now = situation.now;
            situation.apply_plan(&plan, now);
            Round {
                before: plan.before.max_over_mean,
                after: plan.after.max_over_mean,
                viewers: plan.before.viewers,
                moved: plan.moved,
                orders: plan.orders.len(),
                event,
            }
        })
        .collect()
}

/// Draws a number of viewers with a heavy tail: Pareto with exponent 1.1, at most 20,000.
pub fn heavy_tail(random: &mut StdRng) -> u64 {
    let uniform: f64 = random.random_range(1e-9..1.0);
    (5.0 * uniform.powf(-1.0 / 1.1)).min(20_000.0) as u64
}

impl ChaosSystem {
    fn new(chaos: &Chaos) -> Self {
        let mut random = StdRng::seed_from_u64(chaos.seed);
        let videos = (0..chaos.videos).map(|at| video(at, heavy_tail(&mut random))).collect();
        let readers = (0..READER_COUNTS.2).map(reader).collect();
        let situation = Situation { now: 1_800_000_000_000, readers, videos }.sorted_by_name();
        Self { random, situation, viral: None, next_reader: READER_COUNTS.2 }
    }

    fn disturb_system(&mut self, round: usize) -> &'static str {
        self.drift_videos();
        self.fall_silent();
        match self.random.random_range(0..10) {
            _ if round == 0 => "start",
            0 => self.add_reader(),
            1 => self.close_reader(ReaderAvailability::Draining),
            2 => self.kill_reader(),
            3 => self.go_viral(),
            _ => "drift",
        }
    }

    /// Changes the viewers of every video by up to a tenth; one video in a hundred is replaced by another.
    fn drift_videos(&mut self) {
        for at in 0..self.situation.videos.len() {
            if self.viral.is_some_and(|viral| viral.0 == at) {
                continue;
            }
            let viewers = if self.random.random_ratio(1, 100) {
                heavy_tail(&mut self.random)
            } else {
                let factor = self.random.random_range(0.9..1.1);
                (self.situation.videos[at].viewers() as f64 * factor).round() as u64
            };
            resize_video(&mut self.situation.videos[at], viewers);
        }
        // Drained readers that are empty end.
        let gone: Vec<usize> = (0..self.situation.readers.len())
            .filter(|&reader| self.situation.readers[reader].standing == ReaderAvailability::Draining)
            .filter(|&reader| {
                self.situation.videos.iter().all(|video| video.parts.iter().all(|part| part.reader != reader))
            })
            .collect();
        gone.into_iter().rev().for_each(|reader| self.remove_reader(reader));
    }

    /// Ends a viral video as suddenly as it began, when its rounds are over.
    fn fall_silent(&mut self) {
        if let Some((video, rounds)) = self.viral {
            self.viral = (rounds > 1).then(|| (video, rounds - 1));
            if rounds == 1 {
                let viewers = heavy_tail(&mut self.random);
                resize_video(&mut self.situation.videos[video], viewers);
            }
        }
    }

    fn go_viral(&mut self) -> &'static str {
        if self.viral.is_some() {
            return "drift";
        }
        let video = self.random.random_range(0..self.situation.videos.len());
        let others = self.situation.videos.iter().enumerate().filter(|(at, _)| *at != video);
        let others = others.map(|(_, video)| video.viewers()).sum();
        resize_video(&mut self.situation.videos[video], others);
        self.viral = Some((video, self.random.random_range(1..=5)));
        "viral"
    }

    fn open_readers(&self) -> Vec<usize> {
        (0..self.situation.readers.len())
            .filter(|&reader| self.situation.readers[reader].standing == ReaderAvailability::Open)
            .collect()
    }

    fn add_reader(&mut self) -> &'static str {
        if self.open_readers().len() >= READER_COUNTS.1 {
            return "drift";
        }
        self.situation.readers.push(reader(self.next_reader));
        self.next_reader += 1;
        "join"
    }

    fn close_reader(&mut self, standing: ReaderAvailability) -> &'static str {
        let open = self.open_readers();
        if open.len() <= READER_COUNTS.0 {
            return "drift";
        }
        let reader = open[self.random.random_range(0..open.len())];
        self.situation.readers[reader].standing = standing;
        "leave"
    }

    fn kill_reader(&mut self) -> &'static str {
        let open = self.open_readers();
        if open.len() <= READER_COUNTS.0 {
            return "drift";
        }
        let reader = open[self.random.random_range(0..open.len())];
        self.remove_reader(reader);
        "die"
    }

    fn remove_reader(&mut self, reader: usize) {
        self.situation.readers.remove(reader);
        for video in &mut self.situation.videos {
            video.parts.retain(|part| {
                let stays = part.reader != reader;
                if !stays {
                    video.waiting += part.viewers;
                }
                stays
            });
            for part in video.parts.iter_mut().filter(|part| part.reader > reader) {
                part.reader -= 1;
            }
        }
    }
}

fn reader(at: usize) -> PlacementReader {
    let id = ReaderId::parse(&format!("reader-{at:06}")).expect("short and plain");
    PlacementReader { id, capacity: READER_CAPACITY, standing: ReaderAvailability::Open }
}

fn video(at: usize, viewers: u64) -> PlacementVideo {
    let id = VideoId::parse(&format!("video-{at:06}")).expect("short and plain");
    PlacementVideo { id, epoch: 0, changed: 0, waiting: viewers, moving: false, parts: Vec::new() }
}

/// Gives a video another number of viewers, who come to its readers and leave them in proportion. Viewers beyond a
/// reader's capacity wait.
fn resize_video(video: &mut PlacementVideo, viewers: u64) {
    let old: u64 = video.parts.iter().map(|part| part.viewers).sum();
    let Some(parts) = video.parts.len().checked_sub(1) else {
        video.waiting = viewers;
        return;
    };
    let mut left = viewers;
    for (at, part) in video.parts.iter_mut().enumerate() {
        let weight = if old == 0 {
            f64::from(part.share) / f64::from(WHOLE_SHARE)
        } else {
            part.viewers as f64 / old as f64
        };
        let here = if at == parts { left } else { ((viewers as f64 * weight).round() as u64).min(left) };
        *part = VideoPart { viewers: here.min(READER_CAPACITY), ..*part };
        left -= here;
    }
    video.waiting = viewers - video.parts.iter().map(|part| part.viewers).sum::<u64>();
}

/// Returns the value below which `per_mille` thousandths of the values are.
pub fn percentile(values: &mut [u64], per_mille: usize) -> u64 {
    values.sort_unstable();
    values[((values.len() - 1) * per_mille).div_ceil(1000)]
}
