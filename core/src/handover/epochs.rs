//! Epochs: numbers that tell which of two words about a video is the later one.
//!
//! The store mints them, all videos sharing one counter, so that an epoch names one assignment for ever. A store that
//! fails over to a copy, or comes back empty, does not know what it has forgotten, and somebody may have heard of an
//! epoch that it would mint again. Two things keep that from happening:
//!
//! 1. Whoever asks for one says the highest that it has seen, and readers tell managers the highest that they have.
//! 2. The store remembers, beside its counter, on which server process it counted (Redis: `run_id`). The first epoch
//!    minted on another one is higher by a [`jump`], which is more than can have been minted and lost unseen, and which
//!    differs from server to server: two of them in a row may both start from the same old copy. Looking and minting
//!    are one atomic step.
//!
//! This is the rule for a store without a clock, and what the simulation holds the protocol to. The stores that run have
//! a clock and start from it as well, so that also an empty one with nobody left who has seen an epoch goes on above;
//! their jump is in minutes of that clock (ADR 009).

/// More assignments than can be made between a copy and its original's end: Redis replicates within a second, and a
/// thousand assignments a second for two minutes are fewer.
const STRIDE: u64 = 1 << 17;
/// The greatest epoch: what every part (JSON and Lua among them) holds exactly. Enough for a million jumps.
pub const MAX: u64 = (1 << 53) - 1;

/// How much higher the first epoch on a server is. `server`: 16 bits of its process's identity.
pub const fn jump(server: u16) -> u64 {
    (server as u64 + 1) * STRIDE
}

/// The next epoch (or term) after `counter`, greater than `seen`; `None` where there are no more, which means that
/// `seen` is somebody's mistake. `new_server`: the server, where it is not the one on which the counter last moved.
pub fn mint(counter: u64, seen: u64, new_server: Option<u16>) -> Option<u64> {
    let higher = new_server.map_or(0, jump);
    counter.max(seen).checked_add(higher + 1).filter(|epoch| *epoch <= MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_grow_past_everything_seen() {
        assert_eq!(mint(4, 3, None), Some(5));
        assert_eq!(mint(4, 9, None), Some(10));
        assert_eq!(mint(0, 0, None), Some(1));
        assert_eq!(mint(4, 9, Some(2)), Some(10 + jump(2)));
    }

    #[test]
    fn servers_that_start_from_the_same_copy_mint_apart() {
        let first = |server| mint(7, 0, Some(server)).unwrap();
        for (a, b) in [(0, 1), (0, u16::MAX), (500, 501)] {
            assert!(first(a).abs_diff(first(b)) >= STRIDE);
        }
    }

    #[test]
    fn what_cannot_have_been_minted_is_refused() {
        assert_eq!(mint(MAX, 0, None), None);
        assert_eq!(mint(0, u64::MAX, Some(0)), None);
        assert_eq!(mint(MAX - 1, 0, None), Some(MAX));
    }
}
