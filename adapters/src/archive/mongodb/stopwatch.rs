//! Measures the duration of a commit's steps and shows them in one line of the process's own log, at level `debug`.

use std::fmt;
use std::time::{Duration, Instant};

/// The durations of a commit's steps.
pub(super) struct Stopwatch {
    last_step_end: Instant,
    laps: Vec<(&'static str, Duration)>,
}

impl Default for Stopwatch {
    fn default() -> Self {
        Self { last_step_end: Instant::now(), laps: Vec::new() }
    }
}

impl Stopwatch {
    /// Ends a step: its duration is the time since the step before it ended.
    pub(super) fn end_step(&mut self, step: &'static str) {
        let now = Instant::now();
        self.laps.push((step, now - self.last_step_end));
        self.last_step_end = now;
    }
}

impl fmt::Display for Stopwatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let laps = self.laps.iter().map(|(step, took)| format!("{step} {}", took.as_millis()));
        f.write_str(&laps.collect::<Vec<_>>().join(", "))
    }
}
