//! Limits how often a list is sent: the first change after a calm time at once, then once in each interval.

use std::time::{Duration, Instant};

/// The shortest time between two states of a list: ten a second are what an eye can follow, and bound a burst of
/// changes.
pub(crate) const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// Decides when a list may be sent again. The current time is an argument.
#[derive(Debug)]
pub(crate) struct ListPacer {
    interval: Duration,
    last_sent: Option<Instant>,
}

impl ListPacer {
    pub(crate) const fn new(interval: Duration) -> Self {
        Self { interval, last_sent: None }
    }

    /// Returns the time to wait from `now` on; zero if the last list was sent an interval ago or earlier.
    pub(crate) fn wait_time(&self, now: Instant) -> Duration {
        self.last_sent
            .map_or(Duration::ZERO, |last| self.interval.saturating_sub(now.saturating_duration_since(last)))
    }

    /// Waits until a list may be sent. Returns at once if no list was sent for long enough: even a sleep of zero would
    /// take a millisecond.
    pub(crate) async fn wait_until_allowed(&self) {
        let wait = self.wait_time(Instant::now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    /// Notes that a list went out at `now`.
    pub(crate) const fn note_sent(&mut self, now: Instant) {
        self.last_sent = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the times in ms at which lists are sent, if something changes at each of `changes` (ms).
    fn sent_times(changes: &[u64]) -> Vec<u64> {
        let start = Instant::now();
        let mut pace = ListPacer::new(MIN_INTERVAL);
        let mut sent: Vec<u64> = Vec::new();
        for change in changes {
            if sent.last().is_some_and(|last| last >= change) {
                continue; // It is in the list that is waiting to go out.
            }
            let now = start + Duration::from_millis(*change);
            let at = now + pace.wait_time(now);
            pace.note_sent(at);
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
        let mut pace = ListPacer::new(MIN_INTERVAL);
        let now = Instant::now();
        pace.note_sent(now + Duration::from_secs(5));
        assert_eq!(pace.wait_time(now), MIN_INTERVAL);
    }
}
