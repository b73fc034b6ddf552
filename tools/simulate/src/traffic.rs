//! Viewers that come and go: generated from a seed, and the same for every policy.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::recording::Recorded;

/// The viewers that come and go after the beginning.
#[derive(Debug, Clone)]
pub enum Traffic {
    /// Traffic that is generated from a seed.
    Generated(GeneratedTraffic),
    /// Traffic from a recording.
    Recorded(Recorded),
}

/// The parameters of generated traffic.
#[derive(Debug, Clone)]
pub struct GeneratedTraffic {
    /// The length of a tick.
    pub tick: Duration,
    /// The length of the whole traffic.
    pub time: Duration,
    /// The average time for which a viewer stays.
    pub stay: Duration,
    /// The events with their times since the beginning, ascending.
    pub events: Vec<(Duration, Event)>,
}

/// An event of the traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A video goes viral: its audience grows by `viewers` within minutes.
    Rush {
        /// The number of the video that goes viral.
        video: usize,
        /// The number of viewers that come.
        viewers: u64,
    },
    /// The audience of a video goes back to its usual size.
    Ebb {
        /// The number of the video.
        video: usize,
    },
    /// A reader dies, and its viewers lose it.
    Death {
        /// The number of the reader.
        reader: usize,
    },
    /// A reader comes back, without viewers.
    Return {
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
    pub deaths: Vec<usize>,
    /// The numbers of the readers that come back.
    pub returns: Vec<usize>,
}

/// The viewers of one video that come and leave in a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ViewerChange {
    /// The number of the video.
    pub video: usize,
    /// The number of viewers that come.
    pub come: u64,
    /// The number of viewers that leave.
    pub leave: u64,
}

/// The time within which an audience follows an event: about two thirds of the change happens within a minute.
const AUDIENCE_CHANGE_TIME: Duration = Duration::from_mins(1);

impl Traffic {
    /// Returns the number of ticks.
    pub fn tick_count(&self) -> usize {
        match self {
            Self::Generated(made) => (made.time.as_millis() / made.tick.as_millis()) as usize,
            Self::Recorded(recorded) => recorded.steps.len(),
        }
    }

    /// Returns the length of a tick.
    pub const fn tick_length(&self) -> Duration {
        match self {
            Self::Generated(made) => made.tick,
            Self::Recorded(recorded) => recorded.tick,
        }
    }

    /// Returns the ticks, for videos that begin with the numbers of viewers in `begin`.
    pub fn play<'a>(&'a self, begin: &[u64], seed: u64) -> Box<dyn Iterator<Item = TrafficTick> + 'a> {
        match self {
            Self::Generated(made) => Box::new(TrafficPlay::new(made, begin, seed)),
            Self::Recorded(recorded) => Box::new(recorded.play(begin)),
        }
    }
}

/// Generates ticks: each viewer leaves after a random time, and others come, so that each audience stays near its
/// wanted size.
struct TrafficPlay<'a> {
    made: &'a GeneratedTraffic,
    at: Duration,
    events: std::iter::Peekable<std::slice::Iter<'a, (Duration, Event)>>,
    random: StdRng,
    /// The audience of each video at the beginning, which is its usual size.
    base: Vec<u64>,
    /// The size that each video's audience should have now.
    wanted: Vec<f64>,
    /// The size that each video's audience has now.
    viewers: Vec<u64>,
    /// The videos whose audience changes by an event, each with the size that it changes to.
    rushes: Vec<(usize, f64)>,
}

impl<'a> TrafficPlay<'a> {
    fn new(made: &'a GeneratedTraffic, begin: &[u64], seed: u64) -> Self {
        Self {
            made,
            at: Duration::ZERO,
            events: made.events.iter().peekable(),
            random: StdRng::seed_from_u64(seed),
            base: begin.to_vec(),
            wanted: begin.iter().map(|viewers| *viewers as f64).collect(),
            viewers: begin.to_vec(),
            rushes: Vec::new(),
        }
    }

    fn apply_due_events(&mut self, tick: &mut TrafficTick) {
        while let Some((_, event)) = self.events.next_if(|(at, _)| *at <= self.at) {
            match *event {
                Event::Rush { video, viewers } => {
                    let to = (self.base[video] + viewers) as f64;
                    self.rushes.retain(|(rushing, _)| *rushing != video);
                    self.rushes.push((video, to));
                }
                Event::Ebb { video } => {
                    let to = self.base[video] as f64;
                    self.rushes.retain(|(rushing, _)| *rushing != video);
                    self.rushes.push((video, to));
                }
                Event::Death { reader } => tick.deaths.push(reader),
                Event::Return { reader } => tick.returns.push(reader),
            }
        }
        let step = 1.0 - (-self.made.tick.as_secs_f64() / AUDIENCE_CHANGE_TIME.as_secs_f64()).exp();
        for (video, to) in &self.rushes {
            self.wanted[*video] += (to - self.wanted[*video]) * step;
        }
    }

    /// Returns a random whole number whose mean is `expected`; 0 if that is negative.
    fn random_about(&mut self, expected: f64) -> u64 {
        let whole = expected.max(0.0);
        whole as u64 + u64::from(self.random.random_bool(whole.fract()))
    }
}

impl Iterator for TrafficPlay<'_> {
    type Item = TrafficTick;

    fn next(&mut self) -> Option<TrafficTick> {
        self.at += self.made.tick;
        if self.at > self.made.time {
            return None;
        }
        let mut tick = TrafficTick::default();
        self.apply_due_events(&mut tick);
        let turnover = 1.0 - (-self.made.tick.as_secs_f64() / self.made.stay.as_secs_f64()).exp();
        for video in 0..self.viewers.len() {
            let viewers = self.viewers[video];
            let rushing = self.rushes.iter().any(|(rushing, _)| *rushing == video);
            // The audience of a viral video follows its wanted size at once; other viewers come and leave one by one.
            let (leaving, coming) = if rushing {
                let gap = self.wanted[video] - viewers as f64;
                (viewers as f64 * turnover + (-gap).max(0.0), viewers as f64 * turnover + gap.max(0.0))
            } else {
                (viewers as f64 * turnover, self.wanted[video] * turnover)
            };
            let leave = self.random_about(leaving).min(viewers);
            let come = self.random_about(coming);
            self.viewers[video] = viewers - leave + come;
            if leave > 0 || come > 0 {
                tick.changes.push(ViewerChange { video, come, leave });
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
        let scenario = Scenario::named(ScenarioName::Seed, Duration::from_mins(20));
        scenario.traffic.play(&scenario.videos, seed).collect()
    }

    #[test]
    fn a_seed_is_one_course_of_events() {
        assert_eq!(play_example(7), play_example(7));
        assert_ne!(play_example(7), play_example(8));
        assert_eq!(play_example(7).len(), 120);
    }

    #[test]
    fn an_audience_stays_about_what_it_is_but_for_the_rush() {
        let mut viewers = Scenario::named(ScenarioName::Seed, Duration::ZERO).videos;
        let mut most = 0;
        for tick in play_example(3) {
            for change in tick.changes {
                viewers[change.video] = viewers[change.video] + change.come - change.leave;
            }
            most = most.max(viewers[50]);
        }
        assert!((750..950).contains(&most), "{most}");
        let all: u64 = viewers.iter().sum();
        assert!((2300..2700).contains(&all), "{all}");
    }
}
