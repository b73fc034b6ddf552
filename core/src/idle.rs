//! Which videos are idle: nobody has interacted with them for so long that boards and mirrors need not hold them.
//!
//! The decayed score of a video ([`crate::trending`]) is at least what its last event added. So a video whose score is
//! less than what the least event adds at some time has had no event since that time. No further number has to be
//! stored for it. A video with many points passes that line later than one with few: by one half-life for each
//! doubling of its points.

use crate::Millis;
use crate::counting::CountingRules;
use crate::trending::MAX_AGE_MS;

/// Returns the decayed score below which a video has had no event of weight for `idle_ms` milliseconds before `now`, the
/// log's time. `None` if no event has a weight, because then nothing tells how old a video is.
///
/// An event may count as one day older than it is ([`MAX_AGE_MS`]), so the returned score allows for one more day of
/// decay.
pub fn idle_score_threshold(now: Millis, idle_ms: Millis, rules: &CountingRules) -> Option<f64> {
    let weights = &rules.weights;
    let all =
        [weights.view, weights.like, weights.comment, weights.share, weights.watch_short, weights.watch_long];
    let least = all.into_iter().filter(|weight| *weight > 0).min()?;
    let since = now.saturating_sub(idle_ms).saturating_sub(MAX_AGE_MS);
    Some((least as f64 / 1000.0).log2() + since as f64 / rules.half_life_ms.max(1) as f64)
}

/// Whether a video with this decayed score is below the line of [`idle_score_threshold`]. A video without a decayed
/// score is not idle, because nothing tells how old it is.
pub fn is_idle(trending: Option<f64>, line: Option<f64>) -> bool {
    trending.zip(line).is_some_and(|(trending, line)| trending.is_finite() && trending < line)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::score::Weights;
    use crate::trending::{Log2Worths, log2_sum};

    const NOW: Millis = 1_800_000_000_000;
    const DAY: Millis = 24 * 3600 * 1000;

    proptest! {
        #[test]
        fn a_video_with_an_event_within_the_time_is_never_idle(
            events in proptest::collection::vec((0usize..6, 0i64..100 * DAY, 0i64..3 * DAY), 1..20),
            idle in 0i64..90 * DAY, minutes in 1u64..100_000, view in 0i64..3000,
        ) {
            let weights = Weights { view, ..Weights::default() };
            let rules = CountingRules { weights, half_life_ms: minutes * 60_000, ..CountingRules::default() };
            let worths = [weights.view, weights.like, weights.comment, weights.share, weights.watch_short, weights.watch_long];
            let mut trending = f64::NEG_INFINITY;
            let mut newest = Millis::MIN;
            for (kind, age, late) in events {
                // The log took the event at `broker`; its own clock says an earlier time.
                let broker = NOW - age;
                let added = Log2Worths::default().log2_worth(worths[kind], broker - late, broker, rules.half_life_ms);
                if let Some(added) = added {
                    trending = log2_sum(trending, added);
                    newest = newest.max(broker);
                }
            }
            let line = idle_score_threshold(NOW, idle, &rules);
            if is_idle(Some(trending), line) {
                prop_assert!(newest < NOW - idle, "{trending} {line:?}");
            }
        }
    }

    #[test]
    fn a_video_is_idle_a_day_and_its_half_lives_after_the_time() {
        let rules = CountingRules::default();
        let half_life = rules.half_life_ms as Millis;
        let worth = |at| Log2Worths::default().log2_worth(8000, at, at, rules.half_life_ms);
        let idle_at = |age: Millis| is_idle(worth(NOW - age), idle_score_threshold(NOW, 30 * DAY, &rules));
        // Eight points are three half-lives above the least event.
        let end = 31 * DAY + 3 * half_life;
        assert!(!idle_at(30 * DAY) && !idle_at(end - 1000) && idle_at(end + 1000));
    }

    #[test]
    fn what_has_no_age_is_not_idle() {
        let rules = CountingRules::default();
        let line = idle_score_threshold(NOW, DAY, &rules);
        assert!(line.is_some());
        assert!(!is_idle(None, line) && !is_idle(Some(f64::NEG_INFINITY), line) && !is_idle(Some(0.0), None));
        let weightless = Weights {
            view: 0,
            like: 0,
            comment: 0,
            share: 0,
            watch_short: 0,
            watch_long: 0,
            ..Weights::default()
        };
        assert_eq!(idle_score_threshold(NOW, DAY, &CountingRules { weights: weightless, ..rules }), None);
    }
}
