//! Decides when new events are written to viewers: each event at once under light load, several events joined in one
//! write under heavy load.
//!
//! A write to a socket costs the same for one event as for ten. So while a reader has fewer deliveries (events times
//! viewers) a second than it can write one by one, each event is written at once. Above that, a channel's events wait
//! until a gap has passed since the channel's last write. The gap is chosen so that all channels together stay within
//! the budget of writes. The first event after a time of light load never waits.

use std::time::{Duration, Instant};

/// The number of writes a second that a thread makes without strain: about half of a core, measured with
/// `examples/fan_out.rs`. The other half is for accepting connections, and for slower machines, on which a write costs
/// more.
pub const MAX_WRITES_PER_SECOND: u64 = 100_000;
/// The shortest gap between a channel's writes: a shorter one would join next to nothing.
const SHORTEST_GAP: Duration = Duration::from_millis(10);
/// The longest gap between a channel's writes: people would notice a longer one.
const LONGEST_GAP: Duration = Duration::from_millis(250);
/// The length of the window in which deliveries are counted to tell light load from heavy load.
const DELIVERY_WINDOW: Duration = Duration::from_millis(250);
const WINDOWS_PER_SECOND: u64 = 4;

/// The number of the last window in which a channel was counted, so that its viewers are counted once in a window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LastCountedWindow(u64);

/// Measures a reader's load of deliveries, and computes from it the gap between a channel's writes.
#[derive(Debug)]
pub struct WritePacer {
    /// The number of writes a second that must not be exceeded.
    budget: u64,
    window_number: u64,
    window_began_at: Instant,
    /// Deliveries (events times viewers) in this window.
    deliveries: u64,
    /// Viewers of the channels that had events in this window: the number of writes that one flush of each of these
    /// channels makes.
    viewers_reached: u64,
    /// The gap that the previous window's load required.
    gap: Duration,
}

impl WritePacer {
    /// Makes a pacer without load, for a reader that makes `budget` writes a second without strain.
    pub const fn new(now: Instant, budget: u64) -> Self {
        Self {
            budget,
            window_number: 1,
            window_began_at: now,
            deliveries: 0,
            viewers_reached: 0,
            gap: Duration::ZERO,
        }
    }

    /// Notes `events` for a channel of `viewers`, and returns the least time between the channel's last write and its
    /// next one.
    pub fn wait_after_write(
        &mut self,
        now: Instant,
        events: u64,
        viewers: u64,
        counted: &mut LastCountedWindow,
    ) -> Duration {
        let age = now.saturating_duration_since(self.window_began_at);
        if age >= DELIVERY_WINDOW {
            self.gap = if age < 2 * DELIVERY_WINDOW { self.gap_for_now() } else { Duration::ZERO };
            self.window_number += 1;
            (self.window_began_at, self.deliveries, self.viewers_reached) = (now, 0, 0);
        }
        if counted.0 != self.window_number {
            counted.0 = self.window_number;
            self.viewers_reached += viewers;
        }
        self.deliveries += events * viewers;
        // The current window counts too, so that a burst is noticed while it lasts, not a window later.
        self.gap.max(self.gap_for_now())
    }

    fn gap_for_now(&self) -> Duration {
        if self.deliveries * WINDOWS_PER_SECOND <= self.budget {
            return Duration::ZERO;
        }
        Duration::from_millis(self.viewers_reached * 1000 / self.budget).clamp(SHORTEST_GAP, LONGEST_GAP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITES_BUDGET: u64 = 50_000;

    /// Returns the gap after `seconds` of `per_second` events to one channel of `viewers`.
    fn gap_at(per_second: u64, viewers: u64, seconds: u64) -> Duration {
        let start = Instant::now();
        let (mut pace, mut counted) = (WritePacer::new(start, WRITES_BUDGET), LastCountedWindow::default());
        let mut gap = Duration::ZERO;
        for event in 0..per_second * seconds {
            let now = start + Duration::from_micros(event * 1_000_000 / per_second);
            gap = pace.wait_after_write(now, 1, viewers, &mut counted);
        }
        gap
    }

    #[test]
    fn a_calm_channel_is_shown_at_once() {
        assert_eq!(gap_at(10, 2_000, 3), Duration::ZERO);
        assert_eq!(gap_at(200, 100, 3), Duration::ZERO);
    }

    #[test]
    fn a_hot_channel_waits_to_keep_within_the_write_budget() {
        assert_eq!(gap_at(50, 2_000, 3), Duration::from_millis(40));
        assert_eq!(gap_at(50, 100_000, 3), LONGEST_GAP);
        assert_eq!(gap_at(10_000, 10, 3), SHORTEST_GAP);
    }

    #[test]
    fn many_small_channels_share_the_write_budget() {
        let start = Instant::now();
        let mut pace = WritePacer::new(start, WRITES_BUDGET);
        let mut rooms = vec![LastCountedWindow::default(); 100];
        let mut last = Duration::ZERO;
        for tick in 0..100 {
            for room in &mut rooms {
                last = pace.wait_after_write(start + Duration::from_millis(tick * 10), 1, 20, room);
            }
        }
        assert_eq!(last, Duration::from_millis(40));
    }

    #[test]
    fn a_burst_is_noticed_within_its_window_and_forgotten_after_a_calm() {
        let start = Instant::now();
        let (mut pace, mut counted) = (WritePacer::new(start, WRITES_BUDGET), LastCountedWindow::default());
        for _ in 0..20 {
            pace.wait_after_write(start, 1, 5_000, &mut counted);
        }
        assert_eq!(pace.wait_after_write(start, 1, 5_000, &mut counted), Duration::from_millis(100));
        let later = start + Duration::from_secs(1);
        assert_eq!(pace.wait_after_write(later, 1, 5_000, &mut counted), Duration::ZERO);
    }
}
