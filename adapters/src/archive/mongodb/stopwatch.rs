//! How long the steps of a commit take, for whoever asks where the time goes: a line of the log at `debug`.

use std::fmt;
use std::time::{Duration, Instant};

/// How long each step of a commit took.
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
    /// Ends a step.
    pub(super) fn lap(&mut self, step: &'static str) {
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
