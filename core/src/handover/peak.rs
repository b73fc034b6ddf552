//! The recent peak of a number.
//!
//! Between leaving one reader and arriving at another, a viewer is counted nowhere. If shares were computed from a
//! total that dips meanwhile, readers would send away viewers who have just come; so shares are computed from the
//! recent peak.

use std::time::Duration;

use super::ElapsedTime;

/// The time for which a viewer who was sent to another reader may be missing in all reports: up to 3 s until the viewer
/// connects again (the `retry` of a stream that ends), one second until the reader reports the viewer, another until
/// the manager reads the report, and as long again on busy machines.
const PEAK_WINDOW: Duration = Duration::from_secs(10);

/// The greatest value of the last 10 to 20 s, if a value is noted every second: the maximum over two windows, kept in
/// two numbers. During hand-overs and for 10 s after them, no value expires.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct RecentPeak {
    window_start: ElapsedTime,
    window_greatest: u64,
    previous_greatest: u64,
}

impl RecentPeak {
    /// Notes a number. `now` must not go back. `handed_over` says that viewers are being sent from one reader to
    /// another; see [`AssignedReaders::must_hand_over`](super::AssignedReaders::must_hand_over).
    pub fn note_number(&mut self, now: ElapsedTime, number: u64, handed_over: bool) {
        if handed_over {
            (self.previous_greatest, self.window_greatest, self.window_start) =
                (self.greatest().max(number), 0, now);
            return;
        }
        let passed = now.saturating_sub(self.window_start);
        if passed >= PEAK_WINDOW {
            self.previous_greatest = if passed < PEAK_WINDOW * 2 { self.window_greatest } else { 0 };
            (self.window_greatest, self.window_start) = (0, now);
        }
        self.window_greatest = self.window_greatest.max(number);
    }

    /// Returns the greatest number that was noted recently.
    pub fn greatest(&self) -> u64 {
        self.window_greatest.max(self.previous_greatest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// No value of the last window is forgotten, and none older than three windows is remembered: one window that
        /// began late because nothing was noted for a while, and the one before it. During a hand-over, no value
        /// expires.
        #[test]
        fn the_peak_is_the_maximum_of_the_last_windows(
            steps in prop::collection::vec((0_u64..4_000, 0_u64..100, prop::bool::weighted(0.3)), 1..60)
        ) {
            let (mut peak, mut now, mut noted) = (RecentPeak::default(), Duration::ZERO, Vec::new());
            for (passed, number, handed_over) in steps {
                now += Duration::from_millis(passed);
                let most = peak.greatest();
                peak.note_number(now, number, handed_over);
                if handed_over {
                    prop_assert_eq!(peak.greatest(), most.max(number));
                    noted.push((now, most));
                }
                noted.push((now, number));
                let since = |window: Duration| {
                    noted.iter().filter(|(at, _)| *at + window > now).map(|it| it.1).max().unwrap_or(0)
                };
                prop_assert!((since(PEAK_WINDOW)..=since(PEAK_WINDOW * 3)).contains(&peak.greatest()));
            }
        }
    }
}
