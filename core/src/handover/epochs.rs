//! Epochs: numbers that tell which of two words about a video is the later one.
//!
//! The store mints them, all videos sharing one counter, so that an epoch names one assignment for ever. A store that
//! fails over to a copy, or comes back empty, does not know what it has forgotten, and somebody may have heard of an
//! epoch that it would mint again. Two things keep that from happening:
//!
//! 1. Whoever asks for one says the highest that it has seen, and readers tell managers the highest that they have.
//! 2. The store remembers, beside its counter, on which server process it counted (Redis: `run_id`). The first epoch
//!    minted on another one is [`JUMP`] higher, which is more than can have been minted and lost unseen. Looking and
//!    minting are one atomic step.

/// More assignments than can be made between a copy and its original's end: Redis replicates within a second, and a
/// thousand assignments a second for a quarter of an hour are fewer.
pub const JUMP: u64 = 1_000_000;
/// The greatest epoch: what every part (JSON and Lua among them) holds exactly. Enough for nine thousand million jumps.
pub const MAX: u64 = (1 << 53) - 1;

/// The next epoch (or term) after `counter`, greater than `seen`; `None` where there are no more, which means that
/// `seen` is somebody's mistake. `same_store`: the server is the one on which the counter was last moved.
pub fn mint(counter: u64, seen: u64, same_store: bool) -> Option<u64> {
    let jump = if same_store { 0 } else { JUMP };
    counter.max(seen).checked_add(jump + 1).filter(|epoch| *epoch <= MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_grow_past_everything_seen() {
        assert_eq!(mint(4, 3, true), Some(5));
        assert_eq!(mint(4, 9, true), Some(10));
        assert_eq!(mint(4, 9, false), Some(10 + JUMP));
        assert_eq!(mint(0, 0, true), Some(1));
    }

    #[test]
    fn what_cannot_have_been_minted_is_refused() {
        assert_eq!(mint(MAX, 0, true), None);
        assert_eq!(mint(0, u64::MAX, true), None);
        assert_eq!(mint(MAX - 1, 0, true), Some(MAX));
    }
}
