//! Viewers that come and go: generated from a seed, and the same for every policy.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::recording::RecordedTraffic;

/// The viewers that come and go after the beginning.
#[derive(Debug, Clone)]
pub enum Traffic {
    /// Traffic that is generated from a seed.
    Generated(GeneratedTraffic),
    /// Traffic from a recording.
    Recorded(RecordedTraffic),
}

/// The parameters of generated traffic.
#[derive(Debug, Clone)]
pub struct GeneratedTraffic {
    /// The length of a tick.
    pub tick_length: Duration,
    /// The length of the whole traffic.
    pub duration: Duration,
    /// The average time for which a viewer stays.
    pub mean_stay: Duration,
    /// The events with their times since the beginning, ascending.
    pub events: Vec<(Duration, Event)>,
}

/// An event of the traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A video goes viral: its audience grows by `viewers` within minutes.
    AudienceGrows {
        /// The number of the video that goes viral.
        video: usize,
        /// The number of viewers that come.
        viewers: u64,
    },
    /// The audience of a video goes back to its usual size.
    AudienceReturns {
        /// The number of the video.
        video: usize,
    },
    /// A reader dies, and its viewers lose it.
    ReaderDies {
        /// The number of the reader.
        reader: usize,
    },
    /// A reader comes back, without viewers.
    ReaderReturns {
        /// The number of the reader.
        reader: usize,
    },
}

/// The changes in one tick of the simulated clock.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrafficTick {
    /// The viewers that come and leave, one entry for each video that changes.
    pub changes: Vec<ViewerChange>,
    /// The numbers of the readers that die.
    pub dead_readers: Vec<usize>,
    /// The numbers of the readers that come back.
    pub returned_readers: Vec<usize>,
}

/// The viewers of one video that come and leave in a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ViewerChange {
    /// The number of the video.
    pub video: usize,
    /// The number of viewers that come.
    pub arriving_viewers: u64,
    /// The number of viewers that leave.
    pub leaving_viewers: u64,
}

/// The time within which an audience follows an event: about two thirds of the change happens within a minute.
const AUDIENCE_CHANGE_TIME: Duration = Duration::from_mins(1);

impl Traffic {
    /// Returns the number of ticks.
    pub fn tick_count(&self) -> usize {
        match self {
            Self::Generated(made) => (made.duration.as_millis() / made.tick_length.as_millis()) as usize,
            Self::Recorded(recorded) => recorded.steps.len(),
        }
    }

    /// Returns the length of a tick.
    pub const fn tick_length(&self) -> Duration {
        match self {
            Self::Generated(made) => made.tick_length,
            Self::Recorded(recorded) => recorded.tick_length,
        }
    }

    /// Returns the ticks, for videos that begin with the numbers of viewers in `begin`.
    pub fn ticks<'a>(&'a self, begin: &[u64], seed: u64) -> Box<dyn Iterator<Item = TrafficTick> + 'a> {
        match self {
            Self::Generated(made) => Box::new(TrafficGenerator::new(made, begin, seed)),
            Self::Recorded(recorded) => Box::new(recorded.ticks(begin)),
        }
    }
}

/// Generates ticks: each viewer leaves after a random time, and others come, so that each audience stays near its
/// wanted size.
struct TrafficGenerator<'a> {
    parameters: &'a GeneratedTraffic,
    now: Duration,
    events: std::iter::Peekable<std::slice::Iter<'a, (Duration, Event)>>,
    random: StdRng,
    /// The audience of each video at the beginning, which is its usual size.
    usual_audiences: Vec<u64>,
    /// The size that each video's audience should have now.
    wanted_audiences: Vec<f64>,
    /// The size that each video's audience has now.
    audiences: Vec<u64>,
    /// The videos whose audience changes by an event, each with the size that it changes to.
    changing_audiences: Vec<(usize, f64)>,
}

impl<'a> TrafficGenerator<'a> {
    fn new(parameters: &'a GeneratedTraffic, begin: &[u64], seed: u64) -> Self {
        Self {
            parameters,
            now: Duration::ZERO,
            events: parameters.events.iter().peekable(),
            random: StdRng::seed_from_u64(seed),
            usual_audiences: begin.to_vec(),
            wanted_audiences: begin.iter().map(|viewers| *viewers as f64).collect(),
            audiences: begin.to_vec(),
            changing_audiences: Vec::new(),
        }
    }

    fn apply_due_events(&mut self, tick: &mut TrafficTick) {
        while let Some((_, event)) = self.events.next_if(|(at, _)| *at <= self.now) {
            match *event {
                Event::AudienceGrows { video, viewers } => {
                    let to = (self.usual_audiences[video] + viewers) as f64;
                    self.changing_audiences.retain(|(rushing, _)| *rushing != video);
                    self.changing_audiences.push((video, to));
                }
                Event::AudienceReturns { video } => {
                    let to = self.usual_audiences[video] as f64;
                    self.changing_audiences.retain(|(rushing, _)| *rushing != video);
                    self.changing_audiences.push((video, to));
                }
                Event::ReaderDies { reader } => tick.dead_readers.push(reader),
                Event::ReaderReturns { reader } => tick.returned_readers.push(reader),
            }
        }
        let step =
            1.0 - (-self.parameters.tick_length.as_secs_f64() / AUDIENCE_CHANGE_TIME.as_secs_f64()).exp();
        for (video, to) in &self.changing_audiences {
            self.wanted_audiences[*video] += (to - self.wanted_audiences[*video]) * step;
        }
    }

    /// Returns a random whole number whose mean is `expected`; 0 if that is negative.
    fn random_with_mean(&mut self, expected: f64) -> u64 {
        let whole = expected.max(0.0);
        whole as u64 + u64::from(self.random.random_bool(whole.fract()))
    }
}

impl Iterator for TrafficGenerator<'_> {
    type Item = TrafficTick;

    fn next(&mut self) -> Option<TrafficTick> {
        self.now += self.parameters.tick_length;
        if self.now > self.parameters.duration {
            return None;
        }
        let mut tick = TrafficTick::default();
        self.apply_due_events(&mut tick);
        let turnover = 1.0
            - (-self.parameters.tick_length.as_secs_f64() / self.parameters.mean_stay.as_secs_f64()).exp();
        for video in 0..self.audiences.len() {
            let viewers = self.audiences[video];
            let rushing = self.changing_audiences.iter().any(|(rushing, _)| *rushing == video);
            // The audience of a viral video follows its wanted size at once; other viewers come and leave one by one.
            let (leaving, coming) = if rushing {
                let gap = self.wanted_audiences[video] - viewers as f64;
                (viewers as f64 * turnover + (-gap).max(0.0), viewers as f64 * turnover + gap.max(0.0))
            } else {
                (viewers as f64 * turnover, self.wanted_audiences[video] * turnover)
            };
            let leaving_viewers = self.random_with_mean(leaving).min(viewers);
            let arriving_viewers = self.random_with_mean(coming);
            self.audiences[video] = viewers - leaving_viewers + arriving_viewers;
            if leaving_viewers > 0 || arriving_viewers > 0 {
                tick.changes.push(ViewerChange { video, arriving_viewers, leaving_viewers });
            }
        }
        Some(tick)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Scenario, ScenarioName};

    fn play_example(seed: u64) -> Vec<TrafficTick> {
        let scenario = Scenario::built_in(ScenarioName::Seed, Duration::from_mins(20));
        scenario.traffic.ticks(&scenario.video_audiences, seed).collect()
    }

    #[test]
    fn a_seed_is_one_course_of_events() {
        assert_eq!(play_example(7), play_example(7));
        assert_ne!(play_example(7), play_example(8));
        assert_eq!(play_example(7).len(), 120);
    }

    #[test]
    fn an_audience_stays_about_what_it_is_but_for_the_rush() {
        let mut viewers = Scenario::built_in(ScenarioName::Seed, Duration::ZERO).video_audiences;
        let mut most = 0;
        for tick in play_example(3) {
            for change in tick.changes {
                viewers[change.video] =
                    viewers[change.video] + change.arriving_viewers - change.leaving_viewers;
            }
            most = most.max(viewers[50]);
        }
        assert!((750..950).contains(&most), "{most}");
        let all: u64 = viewers.iter().sum();
        assert!((2300..2700).contains(&all), "{all}");
    }
}
