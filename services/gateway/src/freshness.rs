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
use liverank_core::trace::TraceContext;
use liverank_protocol::BoardFreshness;
use liverank_runtime::TracedHistogram;
use liverank_runtime::traces::current_context;
use prometheus_client::metrics::histogram::exponential_buckets;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::Gateway;

/// Pause between the end of one sample and the next: for each sample the boards are asked a few times.
const SAMPLE_EVERY: Duration = Duration::from_secs(2);
/// The age with which an interaction is recorded that is not on the boards by then.
const MAX_AGE: Duration = Duration::from_mins(1);
/// The pause between two looks at the boards is the time since the request divided by this number, so a measurement is
/// exact to a twentieth.
const LOOKS_PER_ELAPSED_TIME: u32 = 20;
const MIN_PAUSE: Duration = Duration::from_millis(5);
/// Number of recent samples that are kept for the operate page.
const MAX_SAMPLES: usize = 30;

/// Measures the time that interactions take until the boards show them.
pub(crate) struct Freshness {
    sample_wanted: AtomicBool,
    taken_sample: Mutex<Option<FreshnessSample>>,
    sample_found: Notify,
    recent_samples: Mutex<VecDeque<Duration>>,
    pub(crate) histogram: TracedHistogram,
}

/// An accepted interaction that is followed to the boards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FreshnessSample {
    /// The position of the interaction's record in the log.
    position: RecordPosition,
    /// The time at which the interaction's request came.
    requested_at: Instant,
    /// The context of the request's span, if the span is recorded.
    trace: Option<TraceContext>,
}

impl Default for Freshness {
    fn default() -> Self {
        Self {
            sample_wanted: AtomicBool::new(false),
            taken_sample: Mutex::default(),
            sample_found: Notify::new(),
            recent_samples: Mutex::default(),
            histogram: TracedHistogram::new(exponential_buckets(0.005, 2.0, 14)),
        }
    }
}

impl Freshness {
    /// Takes an accepted interaction as the next sample, if one is wanted. The log has it at `position`, and its
    /// request came at `requested_at`. Costs one atomic read if no sample is wanted.
    pub(crate) fn offer_sample(&self, position: RecordPosition, requested_at: Instant) {
        if self.sample_wanted.load(Relaxed) && self.sample_wanted.swap(false, Relaxed) {
            *self.taken_sample.lock().unwrap_or_else(PoisonError::into_inner) =
                Some(FreshnessSample { position, requested_at, trace: current_context() });
            self.sample_found.notify_one();
        }
    }

    async fn next_sample(&self) -> FreshnessSample {
        self.sample_wanted.store(true, Relaxed);
        loop {
            self.sample_found.notified().await;
            if let Some(taken) = self.taken_sample.lock().unwrap_or_else(PoisonError::into_inner).take() {
                return taken;
            }
        }
    }

    fn note_age(&self, age: Duration, trace: Option<TraceContext>) {
        self.histogram.observe(age.as_secs_f64(), trace);
        let mut last = self.recent_samples.lock().unwrap_or_else(PoisonError::into_inner);
        last.push_back(age);
        if last.len() > MAX_SAMPLES {
            last.pop_front();
        }
    }

    /// Returns the number, the median and the maximum of the recent samples, in milliseconds; `None` if there are none
    /// yet.
    pub(crate) fn summary_json(&self) -> Option<BoardFreshness> {
        let last = self.recent_samples.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ages: Vec<u64> = last.iter().map(|age| age.as_millis() as u64).collect();
        ages.sort_unstable();
        ages.last().map(|worst| BoardFreshness {
            samples: ages.len() as u64,
            median_ms: ages[ages.len() / 2],
            worst_ms: *worst,
        })
    }
}

/// Measures how fresh the boards are, one sample after another, for ever.
pub(crate) async fn measure_forever(gateway: Arc<Gateway>) {
    let freshness = &gateway.metrics.freshness;
    loop {
        let FreshnessSample { position, requested_at, trace } = freshness.next_sample().await;
        let shown =
            timeout(MAX_AGE, wait_for_boards(&*gateway.backends.ranking, position, requested_at)).await;
        freshness.note_age(if shown.is_ok() { requested_at.elapsed() } else { MAX_AGE }, trace);
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
        sleep((asked.elapsed() / LOOKS_PER_ELAPSED_TIME).max(MIN_PAUSE)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_latest_append_is_sampled() {
        let freshness = Freshness::default();
        let at = |offset| RecordPosition { partition: 0, offset };
        freshness.offer_sample(at(1), Instant::now());
        assert!(freshness.taken_sample.lock().unwrap().is_none(), "none is wanted");
        let requested_at = Instant::now();
        let sampled = tokio::join!(freshness.next_sample(), async {
            freshness.offer_sample(at(2), requested_at);
            freshness.offer_sample(at(3), Instant::now());
        });
        assert_eq!(sampled.0, FreshnessSample { position: at(2), requested_at, trace: None });
    }

    #[test]
    fn median_and_worst_of_the_last_samples_are_shown() {
        let freshness = Freshness::default();
        assert_eq!(freshness.summary_json(), None);
        for ms in [9_000, 9_000].into_iter().chain(1..=MAX_SAMPLES as u64) {
            freshness.note_age(Duration::from_millis(ms), None);
        }
        let shown = BoardFreshness { samples: MAX_SAMPLES as u64, median_ms: 16, worst_ms: 30 };
        assert_eq!(freshness.summary_json(), Some(shown));
    }
}
