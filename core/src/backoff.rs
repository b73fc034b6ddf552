//! The wait before a failed operation is tried again.

use std::time::Duration;

/// Returns the wait before the next try: `first`, doubled for each of the `failures` that came before the last one,
/// and at most `most`. The caller adds jitter, so that clients that failed together do not retry together.
pub fn wait_after_failures(failures: u32, first: Duration, most: Duration) -> Duration {
    first.saturating_mul(1 << failures.min(16)).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_bound() {
        let (first, most) = (Duration::from_millis(50), Duration::from_secs(2));
        let waits: Vec<u128> =
            (0..8).map(|failures| wait_after_failures(failures, first, most).as_millis()).collect();
        assert_eq!(waits, [50, 100, 200, 400, 800, 1600, 2000, 2000]);
        assert_eq!(wait_after_failures(u32::MAX, first, most), most);
        assert_eq!(wait_after_failures(16, Duration::MAX, Duration::MAX), Duration::MAX);
    }
}
