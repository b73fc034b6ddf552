//! Rate limits: token buckets, one per caller, in bounded memory.
//!
//! A bucket is one number, the time at which it is full again (the "virtual scheduling" form of the leaky bucket,
//! GCRA). A full bucket says nothing about its caller, so it need not be kept.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

/// A rate limit: the number of tokens a second, and the number that may be taken at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateQuota {
    per_second: u64,
    burst: u64,
}

impl RateQuota {
    /// Makes a quota of `per_second` tokens a second and a burst of `burst` tokens; a value of 0 counts as 1.
    pub const fn new(per_second: u64, burst: u64) -> Self {
        Self {
            per_second: if per_second == 0 { 1 } else { per_second },
            burst: if burst == 0 { 1 } else { burst },
        }
    }

    /// Returns the time in which `count` tokens come back, in nanoseconds.
    const fn refill_nanos(self, count: u64) -> u64 {
        (count as u128 * 1_000_000_000 / self.per_second as u128) as u64
    }
}

/// Token buckets, one per caller, in bounded memory.
#[derive(Debug)]
pub struct TokenBuckets<K> {
    quota: RateQuota,
    /// The time at which the bucket of each caller is full again, in nanoseconds.
    full_at: HashMap<K, u64>,
    /// The greatest number of callers with a bucket of their own.
    capacity: usize,
    /// The time at which the bucket that all other callers share is full again, in nanoseconds.
    shared_bucket: u64,
}

impl<K: Eq + Hash> TokenBuckets<K> {
    /// Makes full buckets for up to `capacity` callers at once. Callers beyond that number share one bucket.
    pub fn new(quota: RateQuota, capacity: usize) -> Self {
        Self { quota, full_at: HashMap::new(), capacity, shared_bucket: 0 }
    }

    /// Takes `count` tokens from the bucket of `caller`. `now` may come from any clock that does not go back.
    ///
    /// # Errors
    /// The time to wait, if the bucket holds too few tokens; nothing is taken in that case. A `count` above the burst
    /// waits for a full bucket and is then taken from it.
    pub fn take_tokens(&mut self, caller: K, count: u64, now: Duration) -> Result<(), Duration> {
        let now = now.as_nanos() as u64;
        if self.full_at.len() >= self.capacity && !self.full_at.contains_key(&caller) {
            self.full_at.retain(|_, full_at| *full_at > now);
            if self.full_at.len() >= self.capacity {
                return draw_from_bucket(&mut self.shared_bucket, self.quota, count, now);
            }
        }
        draw_from_bucket(self.full_at.entry(caller).or_default(), self.quota, count, now)
    }

    /// Returns the number of callers with a bucket of their own.
    pub fn len(&self) -> usize {
        self.full_at.len()
    }

    /// Whether no caller has a bucket of its own.
    pub fn is_empty(&self) -> bool {
        self.full_at.is_empty()
    }
}

fn draw_from_bucket(full_at: &mut u64, quota: RateQuota, count: u64, now: u64) -> Result<(), Duration> {
    let from = (*full_at).max(now);
    // The time at which the bucket would be full again after `count` tokens are taken.
    let then = from.saturating_add(quota.refill_nanos(count));
    let allowed = now.saturating_add(quota.refill_nanos(quota.burst.max(count)));
    if then > allowed {
        return Err(Duration::from_nanos(then - allowed));
    }
    *full_at = then;
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_bucket_allows_a_burst_and_then_the_rate() {
        let mut buckets = TokenBuckets::new(RateQuota::new(10, 20), 10);
        for _ in 0..20 {
            assert_eq!(buckets.take_tokens("a", 1, SECOND), Ok(()));
        }
        assert_eq!(buckets.take_tokens("a", 1, SECOND), Err(Duration::from_millis(100)));
        assert_eq!(buckets.take_tokens("b", 20, SECOND), Ok(()), "each has its own");
        assert_eq!(buckets.take_tokens("a", 1, SECOND + Duration::from_millis(100)), Ok(()));
        assert_eq!(buckets.take_tokens("c", 25, SECOND), Ok(()), "more than a burst waits for a full bucket");
        // The five tokens that were taken beyond the burst come back first.
        let half = SECOND + Duration::from_millis(500);
        assert_eq!(buckets.take_tokens("c", 1, half), Err(Duration::from_millis(100)));
        assert_eq!(buckets.take_tokens("c", 1, half + Duration::from_millis(100)), Ok(()));
    }

    #[test]
    fn callers_beyond_the_bound_share_a_bucket_and_full_buckets_are_evicted() {
        let mut buckets = TokenBuckets::new(RateQuota::new(1, 2), 3);
        for caller in 0..3 {
            buckets.take_tokens(caller, 1, SECOND).unwrap();
        }
        assert_eq!(
            [3, 4, 5].map(|caller| buckets.take_tokens(caller, 1, SECOND).is_ok()),
            [true, true, false]
        );
        assert_eq!(buckets.len(), 3);
        assert!(buckets.take_tokens(6, 1, SECOND * 3).is_ok());
        assert_eq!(buckets.len(), 1);
    }

    proptest! {
        #[test]
        fn a_bucket_never_allows_more_than_burst_and_rate(
            (rate, burst) in (1u64..50, 1u64..50), steps in proptest::collection::vec((0u64..300, 1u64..5), 1..200),
        ) {
            let mut buckets = TokenBuckets::new(RateQuota::new(rate, burst), 4);
            let (mut now, mut taken) = (SECOND, 0);
            for (pause, count) in steps {
                now += Duration::from_millis(pause);
                let count = count.min(burst);
                if let Err(wait) = buckets.take_tokens((), count, now) {
                    now += wait;
                    prop_assert_eq!(buckets.take_tokens((), count, now), Ok(()), "after the time that was told");
                }
                taken += count;
                let allowed = burst as f64 + now.checked_sub(SECOND).unwrap().as_secs_f64() * rate as f64 + 1e-3;
                prop_assert!(taken as f64 <= allowed, "{taken} of {allowed}");
            }
        }
    }
}
