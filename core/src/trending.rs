//! The decaying board: forward decay (Cormode, Shkapenyuk, Srivastava, Xu, 2009), kept as a logarithm.
//!
//! An event of weight `w` at time `t` is worth `w · 2^((t − now) / h)` at time `now`. Dividing by `2^(now / h)`,
//! which is the same for all videos, leaves the order alone: each video keeps `log2 Σ w · 2^(t / h)`, which only
//! grows, never has to be recomputed while time passes, and does not overflow in any year to come.

use crate::Millis;

/// Event time counts from this long before the log's own time; older events count as this old.
pub const MAX_AGE_MS: Millis = 24 * 3600 * 1000;

/// `log2(2^a + 2^b)` without leaving the logarithms.
pub fn log2_sum(a: f64, b: f64) -> f64 {
    let (high, low) = if a >= b { (a, b) } else { (b, a) };
    if low == f64::NEG_INFINITY { high } else { high + (low - high).exp2().ln_1p() / std::f64::consts::LN_2 }
}

/// What one event adds, as a logarithm: `None` where it weighs nothing.
///
/// `event` is clamped to the log's time `broker` minus a day … `broker`: a wrong clock can neither bury a video
/// nor keep it on top.
pub fn log2_worth(thousandths: i64, event: Millis, broker: Millis, half_life_ms: u64) -> Option<f64> {
    if thousandths <= 0 {
        return None;
    }
    let at = event.clamp(broker.saturating_sub(MAX_AGE_MS), broker);
    Some((thousandths as f64 / 1000.0).log2() + at as f64 / half_life_ms.max(1) as f64)
}

/// The stored logarithm as what it is worth at `now`, in points.
pub fn value_at(log2: f64, now: Millis, half_life_ms: u64) -> f64 {
    (log2 - now as f64 / half_life_ms.max(1) as f64).exp2()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HALF_LIFE: u64 = 6 * 3600 * 1000;
    const NOW: Millis = 1_800_000_000_000;

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
        fn it_only_grows(a in -1e6f64..1e6, b in -1e6f64..1e6) {
            prop_assert!(log2_sum(a, b) >= a.max(b));
        }
    }
}
