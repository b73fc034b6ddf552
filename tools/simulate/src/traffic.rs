//! Viewers that come and go: from a seed, and the same for every policy.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::recording::Recorded;

/// How viewers come and go after the beginning.
#[derive(Debug, Clone)]
pub enum Traffic {
    /// Made up from a seed.
    Generated(GeneratedTraffic),
    /// Traffic from a recording.
    Recorded(Recorded),
}

/// Made-up traffic.
#[derive(Debug, Clone)]
pub struct GeneratedTraffic {
    /// The clock's steps.
    pub tick: Duration,
    /// How long in all.
    pub time: Duration,
    /// How long a viewer stays, on average.
    pub stay: Duration,
    /// What happens when, ascending.
    pub events: Vec<(Duration, Event)>,
}

/// Something that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A video goes viral: its audience grows by this number within minutes.
    Rush {
        /// The video.
        video: usize,
        /// Viewers that come.
        viewers: u64,
    },
    /// Its audience goes back to what it was.
    Ebb {
        /// The video.
        video: usize,
    },
    /// A reader dies.
    Death {
        /// The number of the reader.
        reader: usize,
    },
    /// The reader comes back, without viewers.
    Return {
        /// The number of the reader.
        reader: usize,
    },
}

/// One step of the clock.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrafficTick {
    /// Viewers of a video that come and that leave; each video once.
    pub changes: Vec<ViewerChange>,
    /// Readers that die.
    pub deaths: Vec<usize>,
    /// Readers that come back.
    pub returns: Vec<usize>,
}

/// Viewers of one video that come and that leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ViewerChange {
    /// The video.
    pub video: usize,
    /// How many come.
    pub come: u64,
    /// How many leave.
    pub leave: u64,
}

/// How fast an audience follows an event: most of the change happens within this time.
const AUDIENCE_CHANGE_TIME: Duration = Duration::from_mins(1);

impl Traffic {
    /// How many steps it has.
    pub fn tick_count(&self) -> usize {
        match self {
            Self::Generated(made) => (made.time.as_millis() / made.tick.as_millis()) as usize,
            Self::Recorded(recorded) => recorded.steps.len(),
        }
    }

    /// How long a step is.
    pub const fn tick_length(&self) -> Duration {
        match self {
            Self::Generated(made) => made.tick,
            Self::Recorded(recorded) => recorded.tick,
        }
    }

    /// The steps, for videos that begin with these numbers of viewers.
    pub fn play<'a>(&'a self, begin: &[u64], seed: u64) -> Box<dyn Iterator<Item = TrafficTick> + 'a> {
        match self {
            Self::Generated(made) => Box::new(TrafficPlay::new(made, begin, seed)),
            Self::Recorded(recorded) => Box::new(recorded.play(begin)),
        }
    }
}

/// Each viewer leaves after a while, and others come so that the audience stays about what it is to be.
struct TrafficPlay<'a> {
    made: &'a GeneratedTraffic,
    at: Duration,
    events: std::iter::Peekable<std::slice::Iter<'a, (Duration, Event)>>,
    random: StdRng,
    /// What each video's audience was at first, is to be now, and is.
    base: Vec<u64>,
    wanted: Vec<f64>,
    viewers: Vec<u64>,
    /// Videos whose audience is not the usual one, and what it is on its way to.
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

    /// A whole number whose mean is `expected`.
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
            // A crowd comes and goes as fast as its occasion; everybody else one by one.
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
