//! Letting newcomers in: at once in a calm, a few at a time while those who are here wait for what they are due.
//!
//! The larger the crowd at the door, the faster it comes in: nobody is to wait long, and what those who are here notice
//! of a crowd is how many come in at once, not how many there are.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// Newcomers who are held back at once.
const MAX_HELD_BACK: u32 = 64;
/// How long each is held back: some 2,500 a second are let in then,
const HOLD_TIME: Duration = Duration::from_millis(25);
/// or as many more as it takes for all who are at the door to be in by then.
const MIN_TIME_FOR_ALL: Duration = Duration::from_millis(2_500);
/// How long a newcomer waits for its turn at most, however slow the machine is. Those whose reader was killed have waited
/// for others to notice that, and for their `retry:`, up to 6 s together, and nobody is to be without a stream for 10 s.
const LONGEST_WAIT: Duration = Duration::from_secs(3);

/// Lets newcomers in one after the other while the writing threads are late.
pub struct AdmissionThrottle {
    turn_permits: Semaphore,
    /// Newcomers here,
    waiting: AtomicU32,
    /// and how many that were at the most since there was nobody.
    crowd: AtomicU32,
}

impl Default for AdmissionThrottle {
    fn default() -> Self {
        let turns = Semaphore::new(MAX_HELD_BACK as usize);
        Self { turn_permits: turns, waiting: AtomicU32::new(0), crowd: AtomicU32::new(0) }
    }
}

/// A newcomer at the door. Gone when dropped: peers hang up while they wait.
struct WaitingNewcomer<'a>(&'a AdmissionThrottle);

impl Drop for WaitingNewcomer<'_> {
    fn drop(&mut self) {
        if self.0.waiting.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.crowd.store(0, Ordering::Relaxed);
        }
    }
}

impl AdmissionThrottle {
    /// Waits for a newcomer's turn, in the order in which they came. `is_late` says whether others wait for what they
    /// are due.
    pub async fn wait_for_turn(&self, is_late: impl Fn() -> bool) {
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed) + 1;
        self.crowd.fetch_max(waiting, Ordering::Relaxed);
        let _newcomer = WaitingNewcomer(self);
        // Who has waited long enough goes in beside those whose turn it is.
        let Ok(_turn) = timeout(LONGEST_WAIT, self.turn_permits.acquire()).await else { return };
        if is_late() {
            let crowd = self.crowd.load(Ordering::Relaxed).max(1);
            sleep(HOLD_TIME.min(MIN_TIME_FOR_ALL * MAX_HELD_BACK / crowd)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use futures::stream::FuturesUnordered;
    use tokio::time::Instant;

    use super::*;

    /// How long each of `newcomers` who come at once is kept waiting.
    async fn waiting_times(door: &AdmissionThrottle, newcomers: usize, late: bool) -> Vec<Duration> {
        let start = Instant::now();
        let one = |_| async {
            door.wait_for_turn(|| late).await;
            start.elapsed()
        };
        (0..newcomers).map(one).collect::<FuturesUnordered<_>>().collect().await
    }

    fn admitted_within(seconds: u64, waited: &[Duration]) -> usize {
        waited.iter().filter(|waited| **waited <= Duration::from_secs(seconds)).count()
    }

    #[tokio::test(start_paused = true)]
    async fn newcomers_do_not_wait_when_writing_is_on_time() {
        assert!(
            waiting_times(&AdmissionThrottle::default(), 15_000, false).await.iter().all(Duration::is_zero)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_is_admitted_evenly_and_faster_when_larger() {
        let door = AdmissionThrottle::default();
        let small = waiting_times(&door, 5_000, true).await;
        let first = admitted_within(1, &small);
        assert!((2_000..=3_000).contains(&first), "{first} of 5,000 in the first second");
        assert_eq!(admitted_within(3, &small), 5_000);
        let storm = waiting_times(&door, 15_000, true).await;
        let first = admitted_within(1, &storm);
        assert!((5_000..=7_000).contains(&first), "{first} of 15,000 in the first second");
        assert_eq!(admitted_within(3, &storm), 15_000);
        let small = waiting_times(&door, 5_000, true).await;
        assert!(admitted_within(1, &small) <= 3_000, "a storm that is over makes nobody hurry");
    }

    #[tokio::test(start_paused = true)]
    async fn no_newcomer_waits_longer_than_the_limit() {
        let door = AdmissionThrottle::default();
        let _stuck = door.turn_permits.acquire_many(MAX_HELD_BACK).await.expect("never closed");
        let start = Instant::now();
        door.wait_for_turn(|| true).await;
        assert!(start.elapsed() <= LONGEST_WAIT + Duration::from_millis(10));
    }
}
