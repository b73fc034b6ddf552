//! How often a list goes out: the first change after a calm at once, then one an interval.

use std::time::{Duration, Instant};

/// At most ten lists a second: what an eye follows, and what bounds a burst.
pub(crate) const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// When something may happen again. The decision takes the time as an argument.
#[derive(Debug)]
pub(crate) struct Pace {
    interval: Duration,
    last_sent: Option<Instant>,
}

impl Pace {
    pub(crate) const fn new(interval: Duration) -> Self {
        Self { interval, last_sent: None }
    }

    /// How long to wait from `now` on; zero after a calm.
    pub(crate) fn wait(&self, now: Instant) -> Duration {
        self.last_sent
            .map_or(Duration::ZERO, |last| self.interval.saturating_sub(now.saturating_duration_since(last)))
    }

    /// Waits until it may happen. After a calm that is at once: even a sleep of nothing would take a millisecond.
    pub(crate) async fn rest(&self) {
        let wait = self.wait(Instant::now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    /// Notes that a list went out at `now`.
    pub(crate) const fn happened(&mut self, now: Instant) {
        self.last_sent = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When lists go out, in milliseconds, if something changed at each of `changes`.
    fn sent_times(changes: &[u64]) -> Vec<u64> {
        let start = Instant::now();
        let mut pace = Pace::new(MIN_INTERVAL);
        let mut sent: Vec<u64> = Vec::new();
        for change in changes {
            if sent.last().is_some_and(|last| last >= change) {
                continue; // It is in the list that is waiting to go out.
            }
            let now = start + Duration::from_millis(*change);
            let at = now + pace.wait(now);
            pace.happened(at);
            sent.push((at - start).as_millis() as u64);
        }
        sent
    }

    #[test]
    fn the_first_list_after_a_calm_is_sent_at_once() {
        assert_eq!(sent_times(&[0, 250, 1000]), [0, 250, 1000]);
    }

    #[test]
    fn a_burst_of_changes_is_sent_ten_times_a_second() {
        let burst: Vec<u64> = (0..1000).collect();
        assert_eq!(sent_times(&burst), (0..=10).map(|n| n * 100).collect::<Vec<_>>());
        assert_eq!(sent_times(&[0, 1]), [0, 100]);
    }

    #[test]
    fn a_clock_that_stands_still_is_waited_for_no_longer_than_the_interval() {
        let mut pace = Pace::new(MIN_INTERVAL);
        let now = Instant::now();
        pace.happened(now + Duration::from_secs(5));
        assert_eq!(pace.wait(now), MIN_INTERVAL);
    }
}
