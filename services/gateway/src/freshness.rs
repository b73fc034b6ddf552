//! How fresh the boards are, end to end: from a request with an interaction to the boards that show it.
//!
//! Measured by real interactions: now and then one that the log has taken is followed, by its place in the log, until the
//! boards stand behind it. Nothing is sent for it, so nothing of it is on a board.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use liverank_adapters::RankingStore;
use liverank_adapters::event_log::RecordPosition;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::Gateway;

/// Between the end of one sample and the next: the boards are asked a few times for each.
const SAMPLE_EVERY: Duration = Duration::from_secs(2);
/// An interaction that is not on the boards by then counts as this old.
const MAX_AGE: Duration = Duration::from_mins(1);
/// Between two looks: a twentieth of the time that has passed, so that what is measured is right to that part of it.
const LOOKS_PER_AGE: u32 = 20;
const MIN_PAUSE: Duration = Duration::from_millis(5);
/// Samples that are remembered, for people to look at.
const MAX_SAMPLES: usize = 30;

/// Measures how long an interaction takes until the boards have it.
pub(crate) struct Freshness {
    sample_wanted: AtomicBool,
    taken_sample: Mutex<Option<(RecordPosition, Instant)>>,
    sample_found: Notify,
    recent_samples: Mutex<VecDeque<Duration>>,
    pub(crate) histogram: Histogram,
}

impl Default for Freshness {
    fn default() -> Self {
        Self {
            sample_wanted: AtomicBool::new(false),
            taken_sample: Mutex::default(),
            sample_found: Notify::new(),
            recent_samples: Mutex::default(),
            histogram: Histogram::new(exponential_buckets(0.005, 2.0, 14)),
        }
    }
}

impl Freshness {
    /// The log has taken, at `position`, what was asked for at `asked`. Costs one atomic where no sample is wanted.
    pub(crate) fn note(&self, position: RecordPosition, asked: Instant) {
        if self.sample_wanted.load(Relaxed) && self.sample_wanted.swap(false, Relaxed) {
            *self.taken_sample.lock().unwrap_or_else(PoisonError::into_inner) = Some((position, asked));
            self.sample_found.notify_one();
        }
    }

    async fn latest_append(&self) -> (RecordPosition, Instant) {
        self.sample_wanted.store(true, Relaxed);
        loop {
            self.sample_found.notified().await;
            if let Some(taken) = self.taken_sample.lock().unwrap_or_else(PoisonError::into_inner).take() {
                return taken;
            }
        }
    }

    fn note_age(&self, age: Duration) {
        self.histogram.observe(age.as_secs_f64());
        let mut last = self.recent_samples.lock().unwrap_or_else(PoisonError::into_inner);
        last.push_back(age);
        if last.len() > MAX_SAMPLES {
            last.pop_front();
        }
    }

    /// The last samples in milliseconds: the middle one and the worst one; null where there is none yet.
    pub(crate) fn shown(&self) -> Value {
        let last = self.recent_samples.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ages: Vec<u64> = last.iter().map(|age| age.as_millis() as u64).collect();
        ages.sort_unstable();
        ages.last().map_or(
            Value::Null,
            |worst| json!({ "samples": ages.len(), "median_ms": ages[ages.len() / 2], "worst_ms": worst }),
        )
    }
}

/// Measures again and again. Never returns.
pub(crate) async fn measure_forever(gateway: Arc<Gateway>) {
    let freshness = &gateway.metrics.freshness;
    loop {
        let (position, asked) = freshness.latest_append().await;
        let shown = timeout(MAX_AGE, wait_for_boards(&*gateway.backends.ranking, position, asked)).await;
        freshness.note_age(if shown.is_ok() { asked.elapsed() } else { MAX_AGE });
        sleep(SAMPLE_EVERY).await;
    }
}

/// Completes when the boards show what is at `position`.
pub(crate) async fn wait_for_boards(boards: &dyn RankingStore, position: RecordPosition, asked: Instant) {
    loop {
        // A store that is away is waited for: what it does not show is not fresh.
        if let Ok(standing) = boards.checkpoint().await
            && standing
                .offsets
                .iter()
                .any(|(partition, next)| *partition == position.partition && *next > position.offset)
        {
            return;
        }
        sleep((asked.elapsed() / LOOKS_PER_AGE).max(MIN_PAUSE)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_latest_append_is_sampled() {
        let freshness = Freshness::default();
        let at = |offset| RecordPosition { partition: 0, offset };
        freshness.note(at(1), Instant::now());
        assert!(freshness.taken_sample.lock().unwrap().is_none(), "none is wanted");
        let asked = Instant::now();
        let sampled = tokio::join!(freshness.latest_append(), async {
            freshness.note(at(2), asked);
            freshness.note(at(3), Instant::now());
        });
        assert_eq!(sampled.0, (at(2), asked));
    }

    #[test]
    fn median_and_worst_of_the_last_samples_are_shown() {
        let freshness = Freshness::default();
        assert_eq!(freshness.shown(), Value::Null);
        for ms in [9_000, 9_000].into_iter().chain(1..=MAX_SAMPLES as u64) {
            freshness.note_age(Duration::from_millis(ms));
        }
        assert_eq!(freshness.shown(), json!({ "samples": MAX_SAMPLES, "median_ms": 16, "worst_ms": 30 }));
    }
}
