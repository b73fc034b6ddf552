//! Epochs and terms: how they are minted, and which epochs, terms and counts that come from outside are plausible.
//!
//! Of two messages about a video, the one with the greater epoch is the later one; of two planners, the one with the
//! greater term. The store mints epochs and terms. All videos share one counter, so that an epoch names one assignment
//! for ever: microseconds since 1970 that never go back ([`mint_epoch`]). An epoch that is far ahead of the clock was
//! therefore never minted: it is a mistake or an attack, and would block all later ones if it were accepted.

use crate::Invalid;

/// The greatest epoch and term, 2^53 − 1: every part of the system (JSON and Lua among them) holds it exactly. In
/// microseconds, it is the year 2255.
pub const MAX_EPOCH: u64 = (1 << 53) - 1;
/// The time by which epochs and terms may be ahead of the clock that they are minted from, in microseconds: 30 days,
/// more than a hundred of the jumps that a store makes when another of its servers takes over.
pub const MAX_AHEAD_MICROS: u64 = 30 * 24 * 3_600 * 1_000_000;
/// The time by which two clocks of a system may differ, in microseconds: an hour, so that what is minted at one clock is
/// plausible at the others.
pub const MAX_CLOCK_SKEW_MICROS: u64 = 3_600_000_000;
/// The greatest count that may be reported: more than there are people, and the sum of 30,000 such counts still stays
/// below 2^53.
pub const MAX_REPORTED_COUNT: u64 = 10_000_000_000;

/// Returns the next epoch or term: greater than `counter` (the store's last one), greater than `seen` (the highest one
/// that the caller knows), and greater than the microseconds since 1970 on the store's clock, `now_micros` (a hybrid
/// logical clock, as in Kulkarni et al., 2014). So a store that lost its data goes on above what it minted before,
/// even if nobody is left who has seen those epochs.
///
/// A replica that takes over may not have the last epochs, and its clock may be behind. So `other_server` is given, and
/// adds a jump, if a replica may have taken over; it is the first byte of the identity of the server process.
/// `other_server` must be given if the counter last moved on another server, or if `seen` is greater than `counter`
/// (then another server minted `seen`, and may have minted more that the caller has not seen). No jump leads to an
/// epoch that is implausible by another clock of the system: such an epoch, once stored, would count as absent, and
/// epochs would go back. Reading the counter and minting are one atomic step. Redis does the same in
/// `adapters/src/assignment_store/redis/state.lua`.
pub fn mint_epoch(counter: u64, seen: u64, now_micros: u64, other_server: Option<u8>) -> u64 {
    // A clock that is centuries ahead must not use up all numbers.
    let next = counter.max(seen).max(now_micros.min(MAX_EPOCH / 2)).saturating_add(1);
    let jumped = next.saturating_add(other_server.map_or(0, new_server_jump_micros));
    next.max(jumped.min(latest_possible_epoch(now_micros).saturating_sub(MAX_CLOCK_SKEW_MICROS)))
}

/// Returns the amount, in microseconds, by which the first epoch on another server process is higher: 1 to 256
/// minutes, more than can have been minted and lost unseen. The jump differs from process to process, because two in a
/// row may both start from the same old copy.
pub const fn new_server_jump_micros(server: u8) -> u64 {
    (server as u64 + 1) * 60_000_000
}

/// Returns the greatest epoch or term that can have been minted by `now_micros`.
pub const fn latest_possible_epoch(now_micros: u64) -> u64 {
    let latest = now_micros.saturating_add(MAX_AHEAD_MICROS);
    if latest < MAX_EPOCH { latest } else { MAX_EPOCH - 1 }
}

/// Whether an epoch or term can have been minted by `now_micros`; 0 means "no epoch" and is plausible, too.
pub const fn is_plausible_epoch(epoch: u64, now_micros: u64) -> bool {
    epoch <= latest_possible_epoch(now_micros)
}

/// Returns `epoch` if it is plausible; `field` is the name of its field in the error.
///
/// # Errors
/// Returns an error for an epoch or term that is too far ahead of the clock to have been minted.
pub fn check_epoch(field: &'static str, epoch: u64, now_micros: u64) -> Result<u64, Invalid> {
    if is_plausible_epoch(epoch, now_micros) {
        return Ok(epoch);
    }
    Err(Invalid::new(field, "must be one that can have been minted: it is too far ahead of the clock"))
}

/// Returns `count` if it is plausible; `field` is the name of its field in the error.
///
/// # Errors
/// Returns an error for a count above [`MAX_REPORTED_COUNT`].
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
        // Even with a wildly wrong clock, the greatest number is refused.
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
    fn no_jump_makes_an_epoch_that_is_implausible() {
        let latest = latest_possible_epoch(NOW);
        for counter in [latest - 1, latest - MAX_CLOCK_SKEW_MICROS, latest - MAX_CLOCK_SKEW_MICROS - 5] {
            let minted = mint_epoch(counter, 0, NOW, Some(u8::MAX));
            assert!(minted > counter && is_plausible_epoch(minted, NOW), "{counter} {minted}");
        }
        let seen = latest - MAX_CLOCK_SKEW_MICROS - 5;
        assert_eq!(mint_epoch(0, seen, NOW, Some(9)), latest - MAX_CLOCK_SKEW_MICROS, "as far as it may");
    }

    #[test]
    fn thirty_thousand_of_the_greatest_counts_add_up_without_overflow() {
        assert!(MAX_REPORTED_COUNT.checked_mul(30_000).is_some());
        assert_eq!(check_count("viewers", MAX_REPORTED_COUNT), Ok(MAX_REPORTED_COUNT));
        assert_eq!(check_count("viewers", MAX_REPORTED_COUNT + 1).unwrap_err().field, "viewers");
    }
}
