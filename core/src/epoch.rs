//! Which epochs, terms and counts can be true: the one check for all that comes from outside.
//!
//! Epochs and terms are microseconds since 1970 that never go back (see the assignment store). So one that is far ahead of
//! the clock was never minted: it is a mistake or an attack, and would stop all later ones if it were believed.

use crate::Invalid;

/// The greatest epoch and term: what every part (JSON and Lua among them) holds exactly; in microseconds, the year 2255.
pub const MAX_EPOCH: u64 = (1 << 53) - 1;
/// How far epochs and terms may run ahead of the clock they are minted from, in microseconds: 30 days, which is more than a
/// hundred of the jumps that a store makes when another of its servers takes over.
pub const AHEAD_MICROS: u64 = 30 * 24 * 3_600 * 1_000_000;
/// The greatest count that anybody may report: more than people live, and 30,000 of them still add up.
pub const MAX_COUNT: u64 = 10_000_000_000;

/// The greatest epoch or term that can have been minted by now.
pub const fn latest(now_micros: u64) -> u64 {
    let latest = now_micros.saturating_add(AHEAD_MICROS);
    if latest < MAX_EPOCH { latest } else { MAX_EPOCH - 1 }
}

/// Whether an epoch or term can have been minted by now; 0 stands for none and can.
pub const fn is_plausible(epoch: u64, now_micros: u64) -> bool {
    epoch <= latest(now_micros)
}

/// An epoch or term that stands in `field`.
///
/// # Errors
/// One that cannot have been minted by now.
pub fn plausible(field: &'static str, epoch: u64, now_micros: u64) -> Result<u64, Invalid> {
    if is_plausible(epoch, now_micros) {
        return Ok(epoch);
    }
    Err(Invalid::new(field, "must be one that can have been minted: it is too far ahead of the clock"))
}

/// A count that stands in `field`.
///
/// # Errors
/// One above [`MAX_COUNT`].
pub fn countable(field: &'static str, count: u64) -> Result<u64, Invalid> {
    if count <= MAX_COUNT {
        Ok(count)
    } else {
        Err(Invalid::new(field, format!("must be at most {MAX_COUNT}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026 in microseconds.
    const NOW: u64 = 1_790_000_000_000_000;

    #[test]
    fn what_is_far_ahead_of_the_clock_was_never_minted() {
        for good in [0, 1, NOW, NOW + AHEAD_MICROS] {
            assert_eq!(plausible("epoch", good, NOW), Ok(good));
        }
        for bad in [NOW + AHEAD_MICROS + 1, 1 << 52, MAX_EPOCH - 1, MAX_EPOCH, u64::MAX] {
            assert_eq!(plausible("epoch", bad, NOW).unwrap_err().field, "epoch", "{bad}");
        }
        // A clock that has gone mad does not make the greatest number a good one.
        assert!(is_plausible(MAX_EPOCH - 1, u64::MAX) && !is_plausible(MAX_EPOCH, u64::MAX));
    }

    #[test]
    fn thirty_thousand_counts_add_up() {
        assert!(MAX_COUNT.checked_mul(30_000).is_some());
        assert_eq!(countable("viewers", MAX_COUNT), Ok(MAX_COUNT));
        assert_eq!(countable("viewers", MAX_COUNT + 1).unwrap_err().field, "viewers");
    }
}
