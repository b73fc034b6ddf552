//! Local health: how late this process itself is, and how much longer it therefore waits before it takes silence for a
//! failure.
//!
//! On an overloaded machine, heartbeats come late because the process that receives them is late. So a process first
//! checks itself: the times at which it wanted to do work, and those at which it did. The greater its own delays, the
//! longer it waits for others. The rule is that of Lifeguard (Dadgar, Phillips, Currey: "Lifeguard: Local Health
//! Awareness for More Accurate Failure Detection", 2018): a score that multiplies the time limits. A very long delay
//! is a pause of this process, and that time does not count as anybody's silence: see [`paused_time`].

use std::time::Duration;

use super::ElapsedTime;

/// The delay of a piece of work above which this process counts as late: half of the time between two checks of the
/// readers.
pub const LATE_THRESHOLD: Duration = Duration::from_millis(250);
/// The highest score, of a process that was late again and again: it waits three times as long.
const MAX_SCORE: u32 = 4;
/// The least time between two rises of the score: many pieces of work that are late together say no more than one.
const SCORE_RISE_INTERVAL: Duration = Duration::from_millis(500);
/// The time without lateness after which the score falls by one: less than the time given to a silent reader, so that
/// a single delay postpones little.
const SCORE_FALL_INTERVAL: Duration = Duration::from_secs(1);

/// Returns the time for which this process was paused since its last check, `since_last` ago, if it should have checked
/// after `every`; zero if it was hardly late. A reader's silence during that time does not count.
pub fn paused_time(since_last: Duration, every: Duration) -> Duration {
    let late = since_last.saturating_sub(every);
    if late > LATE_THRESHOLD { late } else { Duration::ZERO }
}

/// The recent lateness of this process: a score from 0 to [`MAX_SCORE`].
#[derive(Debug, Default, Clone, Copy)]
pub struct LocalHealth {
    score: u32,
    /// The time at which the score last rose or fell, or would have done so if it were not at its bound.
    last_change_time: ElapsedTime,
}

impl LocalHealth {
    /// Notes that some work of this process was done `late`. `now` must not go back.
    pub fn note_lateness(&mut self, now: ElapsedTime, late: Duration) {
        let passed = now.saturating_sub(self.last_change_time);
        if late > LATE_THRESHOLD {
            if self.score == 0 || passed >= SCORE_RISE_INTERVAL {
                (self.score, self.last_change_time) = ((self.score + 1).min(MAX_SCORE), now);
            }
            return;
        }
        let fallen = u32::try_from(passed.as_millis() / SCORE_FALL_INTERVAL.as_millis()).unwrap_or(u32::MAX);
        if fallen > 0 {
            self.score = self.score.saturating_sub(fallen);
            self.last_change_time = now;
        }
    }

    /// Returns the time to wait instead of `time`, which a process that is never late would wait: one and a half times
    /// as long after one delay, three times as long at most.
    pub fn scaled_wait(&self, time: Duration) -> Duration {
        time + time * self.score / 2
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn repeated_lateness_lengthens_waits_until_it_ends() {
        let (mut health, mut now) = (LocalHealth::default(), SECOND);
        assert_eq!(health.scaled_wait(3 * SECOND), 3 * SECOND);
        health.note_lateness(now, LATE_THRESHOLD * 2);
        assert_eq!(health.scaled_wait(2 * SECOND), 3 * SECOND);
        health.note_lateness(now, LATE_THRESHOLD * 2);
        assert_eq!(health.scaled_wait(2 * SECOND), 3 * SECOND, "what is late together counts once");
        for _ in 0..20 {
            now += SCORE_RISE_INTERVAL;
            health.note_lateness(now, LATE_THRESHOLD * 2);
        }
        assert_eq!(health.scaled_wait(3 * SECOND), 9 * SECOND);
        health.note_lateness(now + SCORE_FALL_INTERVAL * MAX_SCORE, Duration::ZERO);
        assert_eq!(health.scaled_wait(3 * SECOND), 3 * SECOND);
    }

    #[test]
    fn a_small_delay_does_not_count_as_a_pause() {
        assert_eq!(paused_time(SECOND / 2 + LATE_THRESHOLD, SECOND / 2), Duration::ZERO);
        assert_eq!(paused_time(2 * SECOND, SECOND / 2), SECOND * 3 / 2);
    }

    proptest! {
        #[test]
        fn a_scaled_wait_is_bounded_both_ways(steps in prop::collection::vec((0_u64..3_000, 0_u64..1_000), 1..80)) {
            let (mut health, mut now) = (LocalHealth::default(), Duration::ZERO);
            for (passed, late) in steps {
                now += Duration::from_millis(passed);
                health.note_lateness(now, Duration::from_millis(late));
                prop_assert!((SECOND..=3 * SECOND).contains(&health.scaled_wait(SECOND)));
            }
        }
    }
}
