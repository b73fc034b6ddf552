//! The freshness of the boards, measured end to end: the time from a request with an interaction until the boards show
//! it.
//!
//! Freshness is measured with real interactions: from time to time an interaction that the log accepted is followed,
//! by its position in the log, until the boards' offsets are behind it. Nothing is sent for the measurement, so
//! nothing of it is on a board.

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

/// Pause between the end of one sample and the next: for each sample the boards are asked a few times.
const SAMPLE_EVERY: Duration = Duration::from_secs(2);
/// The age with which an interaction is recorded that is not on the boards by then.
const MAX_AGE: Duration = Duration::from_mins(1);
/// Number of looks at the boards in the time that has passed: the pause between two looks is a twentieth of it, so a
/// measurement is exact to a twentieth.
const LOOKS_PER_AGE: u32 = 20;
const MIN_PAUSE: Duration = Duration::from_millis(5);
/// Number of recent samples that are kept for the operate page.
const MAX_SAMPLES: usize = 30;

/// Measures the time that interactions take until the boards show them.
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
    /// Takes an accepted interaction as the next sample, if one is wanted. The log has it at `position`, and its
    /// request came at `asked`. Costs one atomic read if no sample is wanted.
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

    /// Returns the number, the median and the maximum of the recent samples, in milliseconds; null if there are none
    /// yet.
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

/// Measures how fresh the boards are, one sample after another, for ever.
pub(crate) async fn measure_forever(gateway: Arc<Gateway>) {
    let freshness = &gateway.metrics.freshness;
    loop {
        let (position, asked) = freshness.latest_append().await;
        let shown = timeout(MAX_AGE, wait_for_boards(&*gateway.backends.ranking, position, asked)).await;
        freshness.note_age(if shown.is_ok() { asked.elapsed() } else { MAX_AGE });
        sleep(SAMPLE_EVERY).await;
    }
}

/// Waits until the boards show the record at `position`. The pause between two looks grows with the time since
/// `asked`.
pub(crate) async fn wait_for_boards(boards: &dyn RankingStore, position: RecordPosition, asked: Instant) {
    loop {
        // A store that is away is asked again: its boards show nothing fresh.
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
