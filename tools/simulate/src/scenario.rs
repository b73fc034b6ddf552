//! The scenarios: the audiences at the beginning, and the events after that.

use std::time::Duration;

use crate::traffic::{Event, GeneratedTraffic, Traffic};

/// The scenarios that come with the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ScenarioName {
    /// The comments seed's own simulation, continued over time.
    Seed,
    /// The traffic that the comments seed expects.
    Expected,
}

/// A scenario: readers, videos and traffic.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// The name of the scenario.
    pub name: String,
    /// The number of readers at the beginning.
    pub reader_count: usize,
    /// The number of viewers that each reader can hold.
    pub capacity: u64,
    /// The number of viewers of each video at the beginning.
    pub video_audiences: Vec<u64>,
    /// The names of the videos; empty if they are named by their numbers.
    pub video_names: Vec<String>,
    /// The viewers that come and go after the beginning.
    pub traffic: Traffic,
    /// The number of viewers from which on the planner spreads a video over several readers.
    pub hot_video_viewers: u64,
    /// The planner's tolerance, in thousandths of a reader's fair share.
    pub tolerance: u32,
    /// The number of viewers that the planner may move in a minute.
    pub max_moved_per_minute: u64,
}

/// The length of a tick of the simulated clock: the interval at which the manager plans.
const TICK_TIME: Duration = Duration::from_secs(10);
/// The average time for which a viewer stays: that of a visit to a live stream.
const MEAN_VIEWER_STAY: Duration = Duration::from_mins(10);

impl Scenario {
    /// Returns a built-in scenario that lasts for `time` of simulated time.
    pub fn built_in(name: ScenarioName, time: Duration) -> Self {
        match name {
            ScenarioName::Seed => seed_scenario(time),
            ScenarioName::Expected => expected_scenario(time),
        }
    }

    /// Returns the name of video `at`. The names sort like their numbers.
    pub fn video_name(&self, at: usize) -> String {
        self.video_names.get(at).cloned().unwrap_or_else(|| format!("video-{at:06}"))
    }
}

/// Returns the comments seed's simulation: 100 videos, 2,500 viewers and 5 readers, with three tiers of videos (one
/// hot, ten popular, 89 others). The seed gives out videos in turn, which left its readers with 275, 280, 312, 233 and
/// 1,400 viewers. The order of the videos here makes round robin give the same result.
fn seed_scenario(duration: Duration) -> Scenario {
    const READERS: usize = 5;
    const VIDEOS: usize = 100;
    const READER_LOADS: [u64; READERS] = [275, 280, 312, 233, 1400];
    const HOT_VIDEO_VIEWERS: u64 = 1100;
    const POPULAR_VIDEO_VIEWERS: u64 = 45;
    let mut video_audiences = vec![0; VIDEOS];
    for (reader, load) in READER_LOADS.into_iter().enumerate() {
        let mut own: Vec<usize> = (reader..VIDEOS).step_by(READERS).collect();
        let mut left = load;
        if reader == READERS - 1 {
            video_audiences[own.remove(0)] = HOT_VIDEO_VIEWERS;
            left -= HOT_VIDEO_VIEWERS;
        }
        for at in own.drain(..2) {
            video_audiences[at] = POPULAR_VIDEO_VIEWERS;
            left -= POPULAR_VIDEO_VIEWERS;
        }
        let others = own.len() as u64;
        for (nth, at) in own.into_iter().enumerate() {
            video_audiences[at] = left / others + u64::from((nth as u64) < left % others);
        }
    }
    Scenario {
        name: "the comments seed's simulation".into(),
        reader_count: READERS,
        capacity: 2_000,
        traffic: Traffic::Generated(GeneratedTraffic {
            tick_length: TICK_TIME,
            duration,
            mean_stay: MEAN_VIEWER_STAY,
            events: viral_events(duration, 50, 800, 1),
        }),
        video_audiences,
        video_names: Vec::new(),
        hot_video_viewers: 15_000,
        tolerance: 100,
        max_moved_per_minute: 20_000,
    }
}

/// Returns the traffic that the comments seed expects: 90,000 concurrent streams with 2,000,000 viewers, on 200 readers
/// of 20,000.
fn expected_scenario(duration: Duration) -> Scenario {
    const VIDEOS: usize = 90_000;
    const VIEWERS: u64 = 2_000_000;
    /// The numbers of viewers of the three most watched videos, which stand for streams of celebrities. The audiences
    /// of other videos are proportional to one divided by the video's rank, as real audiences are.
    const CELEBRITY_AUDIENCES: [u64; 3] = [160_000, 130_000, 105_000];
    let rest = VIEWERS - CELEBRITY_AUDIENCES.iter().sum::<u64>();
    let weights: Vec<f64> =
        (CELEBRITY_AUDIENCES.len()..VIDEOS).map(|rank| 1.0 / (rank as f64 + 8.0)).collect();
    // Each video gets one viewer, so that no stream is empty; the rest of the viewers is spread by weight.
    let spread = (rest - weights.len() as u64) as f64 / weights.iter().sum::<f64>();
    let mut video_audiences = CELEBRITY_AUDIENCES.to_vec();
    video_audiences.extend(weights.iter().map(|weight| 1 + (weight * spread) as u64));
    let short = VIEWERS - video_audiences.iter().sum::<u64>();
    for viewers in video_audiences.iter_mut().skip(CELEBRITY_AUDIENCES.len()).take(short as usize) {
        *viewers += 1;
    }
    Scenario {
        name: "the traffic that the comments seed expects".into(),
        reader_count: 200,
        capacity: 20_000,
        traffic: Traffic::Generated(GeneratedTraffic {
            tick_length: TICK_TIME,
            duration,
            mean_stay: MEAN_VIEWER_STAY,
            events: viral_events(duration, 5_000, 200_000, 2),
        }),
        video_audiences,
        video_names: Vec::new(),
        hot_video_viewers: 15_000,
        tolerance: 100,
        max_moved_per_minute: 20_000,
    }
}

/// Returns the events of a scenario. A video goes viral after a quarter of the time, and its audience goes back after
/// half of it. `readers` readers die after five eighths and come back after three quarters.
fn viral_events(time: Duration, video: usize, viewers: u64, readers: usize) -> Vec<(Duration, Event)> {
    let mut events = vec![
        (time / 4, Event::AudienceGrows { video, viewers }),
        (time / 2, Event::AudienceReturns { video }),
    ];
    events.extend((0..readers).map(|reader| (time / 8 * 5, Event::ReaderDies { reader })));
    events.extend((0..readers).map(|reader| (time / 4 * 3, Event::ReaderReturns { reader })));
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_s_simulation_has_its_figures() {
        let scenario = Scenario::built_in(ScenarioName::Seed, Duration::from_mins(1));
        assert_eq!(
            (scenario.video_audiences.len(), scenario.video_audiences.iter().sum::<u64>()),
            (100, 2500)
        );
        let loads: Vec<u64> =
            (0..5).map(|reader| scenario.video_audiences.iter().skip(reader).step_by(5).sum()).collect();
        assert_eq!(loads, [275, 280, 312, 233, 1400]);
    }

    #[test]
    fn the_expected_traffic_has_its_figures() {
        let scenario = Scenario::built_in(ScenarioName::Expected, Duration::from_mins(1));
        assert_eq!(
            (scenario.video_audiences.len(), scenario.video_audiences.iter().sum::<u64>()),
            (90_000, 2_000_000)
        );
        assert_eq!(scenario.video_audiences.iter().filter(|viewers| **viewers > 100_000).count(), 3);
        assert!(scenario.video_audiences.iter().all(|viewers| *viewers > 0));
    }
}
