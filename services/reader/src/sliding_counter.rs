//! Counters over the last minute.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

const WINDOW_SECONDS: u64 = 60;

#[derive(Debug, Clone, Copy, Default)]
struct SecondCount {
    second: u64,
    counts: [u64; 2],
}

/// Counts events of two kinds over the last minute, in steps of a second.
#[derive(Debug)]
pub struct SlidingCounter {
    start: Instant,
    seconds: Mutex<[SecondCount; WINDOW_SECONDS as usize]>,
}

impl SlidingCounter {
    /// Creates a counter that has counted nothing yet.
    pub fn new(now: Instant) -> Self {
        Self { start: now, seconds: Mutex::new([SecondCount::default(); WINDOW_SECONDS as usize]) }
    }

    fn second_number(&self, now: Instant) -> u64 {
        // Numbers begin at 1, so that an unused slot, whose number is 0, is not taken for the first second.
        1 + now.saturating_duration_since(self.start).as_secs()
    }

    /// Counts one event of the first kind, and if `also` is set one of the second kind.
    pub fn count_event(&self, now: Instant, also: bool) {
        let number = self.second_number(now);
        let mut seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        let second = &mut seconds[(number % WINDOW_SECONDS) as usize];
        if second.second != number {
            *second = SecondCount { second: number, counts: [0; 2] };
        }
        second.counts[0] += 1;
        second.counts[1] += u64::from(also);
    }

    /// Returns the number of events of each kind in the last 60 seconds.
    pub fn counts_of_window(&self, now: Instant) -> [u64; 2] {
        let number = self.second_number(now);
        let seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        let recent =
            seconds.iter().filter(|second| second.second > 0 && second.second + WINDOW_SECONDS > number);
        recent.fold([0; 2], |[one, other], second| [one + second.counts[0], other + second.counts[1]])
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn counts_older_than_a_minute_are_forgotten() {
        let start = Instant::now();
        let minute = SlidingCounter::new(start);
        for second in 0..90 {
            minute.count_event(start + Duration::from_secs(second), second % 2 == 0);
        }
        assert_eq!(minute.counts_of_window(start + Duration::from_secs(89)), [60, 30]);
        assert_eq!(minute.counts_of_window(start + Duration::from_secs(139)), [10, 5]);
        assert_eq!(minute.counts_of_window(start + Duration::from_secs(500)), [0, 0]);
    }
}
