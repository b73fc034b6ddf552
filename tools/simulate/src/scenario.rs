//! Who watches what at the beginning, and what happens then.

use std::time::Duration;

use crate::traffic::{Event, GeneratedTraffic, Traffic};

/// The scenarios that come with the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ScenarioName {
    /// The comments seed's own simulation, then with time.
    Seed,
    /// The traffic that the comments seed expects.
    Expected,
}

/// A scenario: readers, videos and traffic.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// Readers at the beginning.
    pub readers: usize,
    /// Viewers that each can hold.
    pub capacity: u64,
    /// Viewers of each video at the beginning.
    pub videos: Vec<u64>,
    /// The videos' names, where they have other ones than their numbers.
    pub names: Vec<String>,
    /// What happens then.
    pub traffic: Traffic,
    /// The planner spreads a video over several readers from this many viewers on.
    pub hot_video_viewers: u64,
    /// The planner's tolerance, in thousandths of a fair share.
    pub tolerance: u32,
    /// Viewers that the planner may move a minute.
    pub budget: u64,
}

/// How long the simulated clock's steps are: as often as the manager plans.
const TICK_TIME: Duration = Duration::from_secs(10);
/// How long a viewer stays, on average: a live stream's visit.
const MEAN_VIEWER_STAY: Duration = Duration::from_mins(10);

impl Scenario {
    /// A scenario of the program, over a length of simulated time.
    pub fn named(name: ScenarioName, time: Duration) -> Self {
        match name {
            ScenarioName::Seed => seed_scenario(time),
            ScenarioName::Expected => expected_scenario(time),
        }
    }

    /// Video `at`'s name. Names sort like numbers.
    pub fn video_name(&self, at: usize) -> String {
        self.names.get(at).cloned().unwrap_or_else(|| format!("video-{at:06}"))
    }
}

/// The comments seed's simulation: 100 videos, 2,500 viewers and 5 readers, in three tiers (one hot video, ten popular
/// ones, 89 others). Videos are given out in turn there, which left its readers with 275, 280, 312, 233 and 1,400
/// viewers; the tiers here are laid so that they do so again.
fn seed_scenario(time: Duration) -> Scenario {
    const READERS: usize = 5;
    const VIDEOS: usize = 100;
    const READER_LOADS: [u64; READERS] = [275, 280, 312, 233, 1400];
    const HOT_VIDEO_VIEWERS: u64 = 1100;
    const POPULAR_VIDEO_VIEWERS: u64 = 45;
    let mut videos = vec![0; VIDEOS];
    for (reader, load) in READER_LOADS.into_iter().enumerate() {
        let mut own: Vec<usize> = (reader..VIDEOS).step_by(READERS).collect();
        let mut left = load;
        if reader == READERS - 1 {
            videos[own.remove(0)] = HOT_VIDEO_VIEWERS;
            left -= HOT_VIDEO_VIEWERS;
        }
        for at in own.drain(..2) {
            videos[at] = POPULAR_VIDEO_VIEWERS;
            left -= POPULAR_VIDEO_VIEWERS;
        }
        let others = own.len() as u64;
        for (nth, at) in own.into_iter().enumerate() {
            videos[at] = left / others + u64::from((nth as u64) < left % others);
        }
    }
    Scenario {
        name: "the comments seed's simulation".into(),
        readers: READERS,
        capacity: 2_000,
        traffic: Traffic::Generated(GeneratedTraffic {
            tick: TICK_TIME,
            time,
            stay: MEAN_VIEWER_STAY,
            events: viral_events(time, 50, 800, 1),
        }),
        videos,
        names: Vec::new(),
        hot_video_viewers: 15_000,
        tolerance: 100,
        budget: 20_000,
    }
}

/// What the comments seed expects: 90,000 concurrent streams with 2,000,000 viewers, on 200 readers of 20,000.
fn expected_scenario(time: Duration) -> Scenario {
    const VIDEOS: usize = 90_000;
    const VIEWERS: u64 = 2_000_000;
    /// Celebrities; the others fall off as one over their rank, as audiences do.
    const CELEBRITY_AUDIENCES: [u64; 3] = [160_000, 130_000, 105_000];
    let rest = VIEWERS - CELEBRITY_AUDIENCES.iter().sum::<u64>();
    let weights: Vec<f64> =
        (CELEBRITY_AUDIENCES.len()..VIDEOS).map(|rank| 1.0 / (rank as f64 + 8.0)).collect();
    // One viewer each, so that no stream is empty, and the others by weight.
    let spread = (rest - weights.len() as u64) as f64 / weights.iter().sum::<f64>();
    let mut videos = CELEBRITY_AUDIENCES.to_vec();
    videos.extend(weights.iter().map(|weight| 1 + (weight * spread) as u64));
    let short = VIEWERS - videos.iter().sum::<u64>();
    for viewers in videos.iter_mut().skip(CELEBRITY_AUDIENCES.len()).take(short as usize) {
        *viewers += 1;
    }
    Scenario {
        name: "the traffic that the comments seed expects".into(),
        readers: 200,
        capacity: 20_000,
        traffic: Traffic::Generated(GeneratedTraffic {
            tick: TICK_TIME,
            time,
            stay: MEAN_VIEWER_STAY,
            events: viral_events(time, 5_000, 200_000, 2),
        }),
        videos,
        names: Vec::new(),
        hot_video_viewers: 15_000,
        tolerance: 100,
        budget: 20_000,
    }
}

/// A video goes viral after a quarter of the time and cools after half of it; readers die after five eighths and come
/// back after three quarters.
fn viral_events(time: Duration, video: usize, viewers: u64, readers: usize) -> Vec<(Duration, Event)> {
    let mut events = vec![(time / 4, Event::Rush { video, viewers }), (time / 2, Event::Ebb { video })];
    events.extend((0..readers).map(|reader| (time / 8 * 5, Event::Death { reader })));
    events.extend((0..readers).map(|reader| (time / 4 * 3, Event::Return { reader })));
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_s_simulation_has_its_figures() {
        let scenario = Scenario::named(ScenarioName::Seed, Duration::from_mins(1));
        assert_eq!((scenario.videos.len(), scenario.videos.iter().sum::<u64>()), (100, 2500));
        let loads: Vec<u64> =
            (0..5).map(|reader| scenario.videos.iter().skip(reader).step_by(5).sum()).collect();
        assert_eq!(loads, [275, 280, 312, 233, 1400]);
    }

    #[test]
    fn the_expected_traffic_has_its_figures() {
        let scenario = Scenario::named(ScenarioName::Expected, Duration::from_mins(1));
        assert_eq!((scenario.videos.len(), scenario.videos.iter().sum::<u64>()), (90_000, 2_000_000));
        assert_eq!(scenario.videos.iter().filter(|viewers| **viewers > 100_000).count(), 3);
        assert!(scenario.videos.iter().all(|viewers| *viewers > 0));
    }
}
