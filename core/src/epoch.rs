//! Epochs and terms: how they are minted, and which of those that come from outside can be true; and the same of counts.
//!
//! An epoch tells which of two words about a video is the later one, a term which of two planners. The store mints them,
//! all videos sharing one counter, so that an epoch names one assignment for ever: microseconds since 1970 that never go
//! back ([`mint_epoch`]). So one that is far ahead of the clock was never minted: it is a mistake or an attack, and would stop
//! all later ones if it were believed.

use crate::Invalid;

/// The greatest epoch and term: what every part (JSON and Lua among them) holds exactly; in microseconds, the year 2255.
pub const MAX_EPOCH: u64 = (1 << 53) - 1;
/// How far epochs and terms may run ahead of the clock they are minted from, in microseconds: 30 days, which is more than a
/// hundred of the jumps that a store makes when another of its servers takes over.
pub const MAX_AHEAD_MICROS: u64 = 30 * 24 * 3_600 * 1_000_000;
/// The greatest count that anybody may report: more than people live, and 30,000 of them still add up.
pub const MAX_REPORTED_COUNT: u64 = 10_000_000_000;

/// The next epoch or term after `counter`, greater than `seen`, which is the highest that the one who asks knows, and than
/// the microseconds since 1970 on the store's own clock (a hybrid logical clock, as in Kulkarni et al., 2014). A store that
/// lost what it held thus goes on above what it minted before, also where nobody is left who has seen it.
///
/// A copy that takes over may not have heard of the last epochs, and its clock may be behind: `other_server` is the first
/// byte of the identity of the server process, where the counter last moved on another one, or where `seen` is more than it
/// counted: then another one minted it, and may have minted more that the asker has not seen. Looking and minting are one
/// atomic step. Redis does the same in `adapters/src/assignment_store/redis/state.lua`.
pub fn mint_epoch(counter: u64, seen: u64, now_micros: u64, other_server: Option<u8>) -> u64 {
    // A clock that is centuries ahead must not use up all numbers.
    let next = counter.max(seen).max(now_micros.min(MAX_EPOCH / 2)).saturating_add(1);
    next.saturating_add(other_server.map_or(0, new_server_jump_micros))
}

/// How much higher the first epoch on a server process is: 1 to 256 minutes of the clock, which is more than can have been
/// minted and lost unseen. It differs from process to process: two in a row may both start from the same old copy.
pub const fn new_server_jump_micros(server: u8) -> u64 {
    (server as u64 + 1) * 60_000_000
}

/// The greatest epoch or term that can have been minted by now.
pub const fn latest_possible_epoch(now_micros: u64) -> u64 {
    let latest = now_micros.saturating_add(MAX_AHEAD_MICROS);
    if latest < MAX_EPOCH { latest } else { MAX_EPOCH - 1 }
}

/// Whether an epoch or term can have been minted by now; 0 stands for none and can.
pub const fn is_plausible_epoch(epoch: u64, now_micros: u64) -> bool {
    epoch <= latest_possible_epoch(now_micros)
}

/// An epoch or term that stands in `field`.
///
/// # Errors
/// An epoch that cannot have been minted by now.
pub fn check_epoch(field: &'static str, epoch: u64, now_micros: u64) -> Result<u64, Invalid> {
    if is_plausible_epoch(epoch, now_micros) {
        return Ok(epoch);
    }
    Err(Invalid::new(field, "must be one that can have been minted: it is too far ahead of the clock"))
}

/// A count that stands in `field`.
///
/// # Errors
/// One above [`MAX_REPORTED_COUNT`].
pub fn check_count(field: &'static str, count: u64) -> Result<u64, Invalid> {
    if count <= MAX_REPORTED_COUNT {
        Ok(count)
    } else {
        Err(Invalid::new(field, format!("must be at most {MAX_REPORTED_COUNT}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026 in microseconds.
    const NOW: u64 = 1_790_000_000_000_000;

    #[test]
    fn an_epoch_far_ahead_of_the_clock_is_implausible() {
        for good in [0, 1, NOW, NOW + MAX_AHEAD_MICROS] {
            assert_eq!(check_epoch("epoch", good, NOW), Ok(good));
        }
        for bad in [NOW + MAX_AHEAD_MICROS + 1, 1 << 52, MAX_EPOCH - 1, MAX_EPOCH, u64::MAX] {
            assert_eq!(check_epoch("epoch", bad, NOW).unwrap_err().field, "epoch", "{bad}");
        }
        // A clock that has gone mad does not make the greatest number a good one.
        assert!(is_plausible_epoch(MAX_EPOCH - 1, u64::MAX) && !is_plausible_epoch(MAX_EPOCH, u64::MAX));
    }

    #[test]
    fn epochs_grow_past_everything_seen_and_the_clock() {
        assert_eq!(mint_epoch(4, 3, 0, None), 5);
        assert_eq!(mint_epoch(4, 9, 0, None), 10);
        assert_eq!(mint_epoch(4, 9, NOW, None), NOW + 1);
        assert_eq!(mint_epoch(NOW, 9, 5, None), NOW + 1, "a clock that fell behind");
        assert_eq!(mint_epoch(4, 9, u64::MAX, None), MAX_EPOCH / 2 + 1, "a clock that has gone mad");
        assert_eq!(mint_epoch(4, 9, NOW, Some(2)), NOW + 1 + new_server_jump_micros(2));
    }

    #[test]
    fn servers_that_start_from_the_same_copy_mint_apart() {
        let first = |server| mint_epoch(7, 0, 0, Some(server));
        for (a, b) in [(0, 1), (0, u8::MAX), (100, 101)] {
            assert!(first(a).abs_diff(first(b)) >= new_server_jump_micros(0));
        }
        let most = mint_epoch(NOW, NOW, NOW, Some(u8::MAX));
        assert!(
            is_plausible_epoch(most + 100 * new_server_jump_micros(u8::MAX), NOW),
            "a hundred fail-overs make nothing unbelievable"
        );
    }

    #[test]
    fn thirty_thousand_of_the_greatest_counts_add_up_without_overflow() {
        assert!(MAX_REPORTED_COUNT.checked_mul(30_000).is_some());
        assert_eq!(check_count("viewers", MAX_REPORTED_COUNT), Ok(MAX_REPORTED_COUNT));
        assert_eq!(check_count("viewers", MAX_REPORTED_COUNT + 1).unwrap_err().field, "viewers");
    }
}
