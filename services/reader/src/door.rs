//! Letting newcomers in: at once in a calm, a few at a time while those who are here wait for what they are due.

use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// Newcomers who are held back at once.
const TURNS: usize = 64;
/// How long each is held back: some 2,500 a second are let in then.
const HELD_BACK: Duration = Duration::from_millis(25);
/// How long a newcomer waits for its turn at most. Those whose reader was killed have waited for others to notice that,
/// and for their `retry:`, up to 6 s together, and nobody is to be without a stream for 10 s.
const LONGEST_WAIT: Duration = Duration::from_secs(3);

/// See the module.
pub struct Door(Semaphore);

impl Default for Door {
    fn default() -> Self {
        Self(Semaphore::new(TURNS))
    }
}

impl Door {
    /// Waits for a newcomer's turn, in the order in which they came. `is_late` says whether others wait for what they
    /// are due.
    pub async fn turn(&self, is_late: impl Fn() -> bool) {
        // Who has waited long enough goes in beside those whose turn it is.
        let Ok(_turn) = timeout(LONGEST_WAIT, self.0.acquire()).await else { return };
        if is_late() {
            sleep(HELD_BACK).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use futures::stream::FuturesUnordered;
    use tokio::time::Instant;

    use super::*;

    /// How long each of `newcomers` who come at once is kept waiting, the shortest time first.
    async fn waited(newcomers: usize, late: bool) -> Vec<Duration> {
        let (door, start) = (Door::default(), Instant::now());
        let one = |_| async {
            door.turn(|| late).await;
            start.elapsed()
        };
        (0..newcomers).map(one).collect::<FuturesUnordered<_>>().collect().await
    }

    #[tokio::test(start_paused = true)]
    async fn in_a_calm_nobody_waits() {
        assert!(waited(15_000, false).await.iter().all(Duration::is_zero));
    }

    #[tokio::test(start_paused = true)]
    async fn a_storm_comes_in_at_a_measured_pace_and_nobody_waits_long() {
        let waited = waited(15_000, true).await;
        let within = |time| waited.iter().filter(|waited| **waited <= time).count();
        let second = within(Duration::from_secs(1));
        assert!((2_000..=3_000).contains(&second), "{second} in the first second");
        assert_eq!(within(LONGEST_WAIT + 2 * HELD_BACK), 15_000);
    }
}
