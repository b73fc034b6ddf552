//! Admission of new viewers: at once while writes to viewers are on time, a few at a time while they are late.
//!
//! The more viewers are waiting, the more are admitted a second: nobody is to wait long, and what the viewers who are
//! already connected notice is how many are admitted at once, not how many are waiting.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// The number of new viewers that are held back at the same time.
const MAX_HELD_BACK: u32 = 64;
/// The longest time for which each new viewer is held back while writes are late: at 64 at a time, some 2,500 viewers a
/// second are admitted.
const HOLD_TIME: Duration = Duration::from_millis(25);
/// The time within which all waiting viewers are to be admitted: if there are too many for `HOLD_TIME`, each is held
/// back for less.
const MAX_TIME_FOR_ALL: Duration = Duration::from_millis(2_500);
/// The longest time that a new viewer waits for its turn, however slow the machine is. Viewers whose reader was killed
/// have already waited up to 6 s, until the failure was noticed and for their `retry:`, and nobody is to be without a
/// stream for 10 s.
const LONGEST_WAIT: Duration = Duration::from_secs(3);

/// Admits new viewers a few at a time while the threads that write to viewers are late.
pub struct AdmissionThrottle {
    turn_permits: Semaphore,
    /// The number of new viewers that wait for admission now.
    waiting_viewers: AtomicU32,
    /// The greatest value of `waiting_viewers` since it was last 0.
    peak_waiting_viewers: AtomicU32,
}

impl Default for AdmissionThrottle {
    fn default() -> Self {
        let turns = Semaphore::new(MAX_HELD_BACK as usize);
        Self {
            turn_permits: turns,
            waiting_viewers: AtomicU32::new(0),
            peak_waiting_viewers: AtomicU32::new(0),
        }
    }
}

/// Counts one waiting viewer until it is dropped, because clients may hang up while they wait.
struct WaitingNewcomer<'a>(&'a AdmissionThrottle);

impl Drop for WaitingNewcomer<'_> {
    fn drop(&mut self) {
        if self.0.waiting_viewers.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.peak_waiting_viewers.store(0, Ordering::Relaxed);
        }
    }
}

impl AdmissionThrottle {
    /// Waits until a new viewer may be admitted, in the order of arrival, for at most `LONGEST_WAIT` and the hold
    /// time. `is_late` returns whether writes to the connected viewers are late.
    pub async fn wait_for_turn(&self, is_late: impl Fn() -> bool) {
        let waiting = self.waiting_viewers.fetch_add(1, Ordering::Relaxed) + 1;
        self.peak_waiting_viewers.fetch_max(waiting, Ordering::Relaxed);
        let _newcomer = WaitingNewcomer(self);
        // A viewer that has waited for the longest time is admitted without a permit.
        let Ok(_turn) = timeout(LONGEST_WAIT, self.turn_permits.acquire()).await else { return };
        if is_late() {
            let crowd = self.peak_waiting_viewers.load(Ordering::Relaxed).max(1);
            sleep(HOLD_TIME.min(MAX_TIME_FOR_ALL * MAX_HELD_BACK / crowd)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use futures::stream::FuturesUnordered;
    use tokio::time::Instant;

    use super::*;

    /// Returns the waiting time of each of `newcomers` viewers who come at the same time.
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
