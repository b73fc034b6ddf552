//! The freshness of the lists that clients are sent, measured with real interactions.
//!
//! Each change of the boards has the time at which the log accepted the change's newest record. From time to time, a
//! sample is taken when a list with a newer record has been written to its first client: the age of the record at that
//! moment. Nothing is sent for the measurement.

use std::sync::{Mutex, PoisonError};

use liverank_core::Millis;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

/// The shortest time between two samples, in ms: a list goes to many clients, ten times a second.
const SAMPLE_EVERY: Millis = 2_000;

/// Measures how old records are when a client is sent a list with them.
pub(crate) struct ListFreshness {
    last_sample: Mutex<LastSample>,
    pub(crate) histogram: Histogram,
}

/// The time of the last sample, and the time at which the log took the newest record that was sent.
#[derive(Default)]
struct LastSample {
    taken_at: Millis,
    logged_at: Millis,
}

impl Default for ListFreshness {
    fn default() -> Self {
        // From 5 ms to 41 s, as the freshness of the boards has it.
        Self { last_sample: Mutex::default(), histogram: Histogram::new(exponential_buckets(0.005, 2.0, 14)) }
    }
}

impl ListFreshness {
    /// Takes a sample, if one is due: a list with a record that the log took at `logged_at` has been sent at `now`. A
    /// record is sampled once.
    pub(crate) fn note_sent(&self, logged_at: Millis, now: Millis) {
        let mut last = self.last_sample.lock().unwrap_or_else(PoisonError::into_inner);
        if logged_at <= last.logged_at {
            return;
        }
        // Also of a record that is not sampled: the next client that is sent it may be a slow one.
        last.logged_at = logged_at;
        if now < last.taken_at.saturating_add(SAMPLE_EVERY) {
            return;
        }
        last.taken_at = now;
        drop(last);
        // The log's clock may be ahead of ours: a negative age counts as zero.
        self.histogram.observe(now.saturating_sub(logged_at).max(0) as f64 / 1000.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_sampled_once_and_one_each_two_seconds() {
        let freshness = ListFreshness::default();
        let count = || {
            let mut registry = prometheus_client::registry::Registry::default();
            registry.register("age", "Age", freshness.histogram.clone());
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            let line = text.lines().find_map(|line| line.strip_prefix("age_count ")).unwrap();
            line.parse::<u64>().unwrap()
        };
        freshness.note_sent(10_000, 10_040);
        assert_eq!(count(), 1);
        freshness.note_sent(10_000, 20_000);
        assert_eq!(count(), 1, "the same record again, to another client");
        freshness.note_sent(20_000, 12_039);
        assert_eq!(count(), 1, "less than two seconds after the one before");
        freshness.note_sent(20_000, 30_000);
        assert_eq!(count(), 1, "that record again, to a slow client");
        freshness.note_sent(30_001, 30_000);
        assert_eq!(count(), 2, "a record from a clock that is ahead");
    }
}
