//! The decaying board `trending`: forward decay (Cormode, Shkapenyuk, Srivastava, Xu, 2009), stored as a logarithm.
//!
//! An event of weight `w` at time `t` is worth `w · 2^((t − now) / h)` at time `now`. Dividing by `2^(now / h)`, which
//! is the same for all videos, does not change their order: each video stores `log2 Σ w · 2^(t / h)`, which never has
//! to be recomputed as time passes, and does not overflow in any year to come.

use crate::Millis;

/// The greatest age of an event by the log's own time, in milliseconds: one day. Older events count as this old.
pub const MAX_AGE_MS: Millis = 24 * 3600 * 1000;

/// Returns `log2(2^a + 2^b)`: the sum of two numbers that are given as logarithms, without overflow.
pub fn log2_sum(a: f64, b: f64) -> f64 {
    let (high, low) = if a >= b { (a, b) } else { (b, a) };
    if low == f64::NEG_INFINITY { high } else { high + (low - high).exp2().ln_1p() / std::f64::consts::LN_2 }
}

/// The binary places to which a sum of worths is exact. The logarithms are about 10^5 today, so a double has 36 places
/// after their point.
const BINARY_PLACES: f64 = 32.0;

/// Returns `log2(2^sum − 2^part)`: what is left of a sum when a part of it is subtracted. If that is too little to be
/// told from zero, it is `2^-32` of the sum: a video that still has something stays on the board, at its end.
pub fn log2_difference(sum: f64, part: f64) -> f64 {
    if part == f64::NEG_INFINITY {
        return sum;
    }
    let left = -((part - sum) * std::f64::consts::LN_2).exp_m1();
    sum + left.max((-BINARY_PLACES).exp2()).log2()
}

/// Computes the binary logarithm of the worth that an event adds to a video's score. Many events share few weights, so
/// each weight's logarithm is cached.
#[derive(Debug, Default)]
pub struct Log2Worths(Vec<(i64, f64)>);

impl Log2Worths {
    /// Returns the binary logarithm of the worth that one event adds; `None` if the event weighs nothing.
    ///
    /// The time `event` is clamped to the range from one day before the log's time `broker` up to `broker`: a wrong
    /// clock can neither push a video down nor keep it on top.
    pub fn log2_worth(
        &mut self,
        thousandths: i64,
        event: Millis,
        broker: Millis,
        half_life_ms: u64,
    ) -> Option<f64> {
        if thousandths <= 0 {
            return None;
        }
        let known = self.0.iter().find(|(worth, _)| *worth == thousandths).map(|(_, log2)| *log2);
        let log2 = known.unwrap_or_else(|| {
            let log2 = (thousandths as f64 / 1000.0).log2();
            self.0.push((thousandths, log2));
            log2
        });
        let at = event.clamp(broker.saturating_sub(MAX_AGE_MS), broker);
        Some(log2 + at as f64 / half_life_ms.max(1) as f64)
    }
}

/// The number of steps per half-life at which shown points change. Between two steps they stay the same, so that lists
/// in which nothing happened are equal; shown points are at most 1.1 % too high.
const SHOWN_STEPS_PER_HALF_LIFE: u64 = 64;
/// The exponent down to which points are shown as a power of two; below it they fall more slowly, and never to zero.
const LEAST_EXPONENT: f64 = -1000.0;

/// Returns the time for which points are computed that are shown to clients: `now`, rounded down to the last step.
pub fn shown_time(now: Millis, half_life_ms: u64) -> Millis {
    let step = (half_life_ms / SHOWN_STEPS_PER_HALF_LIFE).max(1) as Millis;
    now.div_euclid(step) * step
}

/// Converts a stored logarithm to points at the time `at`, for people to read.
///
/// Points have the same order as the logarithms, also if a power of two would be too small for an `f64`: clients sort
/// by the points that they are shown.
pub fn shown_points(log2: f64, at: Millis, half_life_ms: u64) -> f64 {
    let exponent = log2 - at as f64 / half_life_ms.max(1) as f64;
    if exponent >= LEAST_EXPONENT {
        // Events are never later than the log's own clock, so the result is far from the largest `f64`.
        return exponent.min(1023.0).exp2();
    }
    LEAST_EXPONENT.exp2() / (1.0 + LEAST_EXPONENT - exponent)
}

/// Converts a stored logarithm to its exact worth at `now`, in points.
#[cfg(test)]
pub(crate) fn value_at(log2: f64, now: Millis, half_life_ms: u64) -> f64 {
    (log2 - now as f64 / half_life_ms.max(1) as f64).exp2()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HALF_LIFE: u64 = 6 * 3600 * 1000;
    const NOW: Millis = 1_800_000_000_000;

    fn log2_worth(thousandths: i64, event: Millis, broker: Millis, half_life_ms: u64) -> Option<f64> {
        Log2Worths::default().log2_worth(thousandths, event, broker, half_life_ms)
    }

    #[test]
    fn a_half_life_halves() {
        let log2 = log2_worth(1000, NOW, NOW, HALF_LIFE).unwrap();
        assert!((value_at(log2, NOW, HALF_LIFE) - 1.0).abs() < 1e-6);
        assert!((value_at(log2, NOW + HALF_LIFE as Millis, HALF_LIFE) - 0.5).abs() < 1e-6);
    }

    #[test]
    fn wrong_clocks_are_clamped() {
        let worth = |event| log2_worth(1000, event, NOW, HALF_LIFE).unwrap();
        assert_eq!(worth(NOW + 1_000_000_000).to_bits(), worth(NOW).to_bits());
        assert_eq!(worth(0).to_bits(), worth(NOW - MAX_AGE_MS).to_bits());
        assert_eq!(log2_worth(0, NOW, NOW, HALF_LIFE), None);
    }

    proptest! {
        #[test]
        fn remembered_worths_are_those_that_are_computed(events in proptest::collection::vec((-2i64..5, 0i64..NOW), 0..20)) {
            let mut worths = Log2Worths::default();
            for (weight, at) in events {
                let remembered = worths.log2_worth(weight * 500, at, NOW, HALF_LIFE).map(f64::to_bits);
                prop_assert_eq!(remembered, log2_worth(weight * 500, at, NOW, HALF_LIFE).map(f64::to_bits));
            }
        }

        #[test]
        fn decay_agrees_with_a_direct_computation(
            events in proptest::collection::vec((1i64..10_000, 0i64..MAX_AGE_MS), 1..50), later in 0i64..MAX_AGE_MS,
        ) {
            let mut log2 = f64::NEG_INFINITY;
            let mut direct = 0.0;
            for (weight, age) in events {
                log2 = log2_sum(log2, log2_worth(weight, NOW - age, NOW, HALF_LIFE).unwrap());
                direct += weight as f64 / 1000.0 * (-((age + later) as f64) / HALF_LIFE as f64).exp2();
            }
            let value = value_at(log2, NOW + later, HALF_LIFE);
            prop_assert!((value - direct).abs() <= direct * 1e-6, "{value} {direct}");
        }

        #[test]
        fn shown_points_keep_the_order(a in -5_000f64..1_000.0, gap in 1e-6f64..100.0, at in 0i64..NOW) {
            let base = at as f64 / HALF_LIFE as f64;
            let shown = |exponent: f64| shown_points(base + exponent, at, HALF_LIFE);
            prop_assert!(shown(a) > 0.0 && shown(a + gap).is_finite());
            prop_assert!(shown(a) < shown(a + gap), "{} {}", shown(a), shown(a + gap));
        }

        #[test]
        fn shown_points_stand_still_within_a_step_and_are_close(age in 0i64..MAX_AGE_MS, log2 in 0f64..30.0) {
            let log2 = log2 + (NOW - age) as f64 / HALF_LIFE as f64;
            let at = shown_time(NOW, HALF_LIFE);
            prop_assert_eq!(shown_time(at, HALF_LIFE), at);
            prop_assert!(at <= NOW && NOW - at <= (HALF_LIFE / SHOWN_STEPS_PER_HALF_LIFE) as Millis);
            let (shown, exact) = (shown_points(log2, at, HALF_LIFE), value_at(log2, NOW, HALF_LIFE));
            prop_assert!(shown >= exact * 0.999_999 && shown <= exact * 1.011, "{shown} {exact}");
        }

        #[test]
        fn what_is_taken_off_again_changes_nothing(a in 80_000f64..80_020.0, b in 80_000f64..80_020.0) {
            let left = log2_difference(log2_sum(a, b), b);
            // Exact to a millionth of the larger one.
            let scale = a.max(b);
            prop_assert!(((left - scale).exp2() - (a - scale).exp2()).abs() < 1e-6, "{left} {a}");
            prop_assert!(left <= log2_sum(a, b) && left.is_finite());
            prop_assert_eq!(log2_difference(a, f64::NEG_INFINITY).to_bits(), a.to_bits());
            prop_assert!((log2_difference(a, a) - (a - 32.0)).abs() < 1e-6);
        }

        #[test]
        fn it_only_grows(a in -1e6f64..1e6, b in -1e6f64..1e6) {
            prop_assert!(log2_sum(a, b) >= a.max(b));
        }
    }
}
