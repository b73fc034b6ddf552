//! Follows a seldom changing list in a store: each poll reads only the entries that have changed since the last poll,
//! by their revision.
//!
//! The store may be rebuilt from the log (a new *generation*). Revisions then begin anew, and entries that were known
//! before may not be in force any more. While the store does not answer, the entries that were read last stay in force.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// The largest number of changes that one poll reads at once: some hundred kilobytes.
pub const MAX_CHANGES_PER_PAGE: usize = 1000;
/// The time between two checks whether the store was rebuilt; each check also forgets entries that have ended.
const TIDY_INTERVAL: Duration = Duration::from_secs(5);

/// A list in a store that `follow_list` keeps up to date. The methods that read from the store have a time limit of
/// their own.
pub trait FollowedList {
    /// The error with which the store did not answer.
    type Error;

    /// Reads the changes after the last known one, at most [`MAX_CHANGES_PER_PAGE`]. Returns the number of changes that
    /// were read.
    fn read_page(&mut self) -> impl Future<Output = Result<usize, Self::Error>> + Send;

    /// Returns the generation of the store: a new one each time the store is rebuilt from the log. `None` if the store
    /// has none or does not answer.
    fn generation(&mut self) -> impl Future<Output = Option<u64>> + Send;

    /// Forgets all known entries, because the store was rebuilt from a log that may not have all of them any more.
    fn forget_all(&mut self);

    /// Forgets the entries whose time is over.
    fn forget_ended(&mut self);

    /// Notes the result of a poll, and returns the time to wait before the next poll.
    fn pause_after_poll(&mut self, look: Result<(), Self::Error>) -> Duration;
}

async fn read_all_changes<L: FollowedList>(list: &mut L) -> Result<(), L::Error> {
    while list.read_page().await? >= MAX_CHANGES_PER_PAGE {}
    Ok(())
}

/// Polls the store for changes of the list, for ever.
pub async fn follow_list(mut list: impl FollowedList) {
    let (mut known, mut tidied) = (None, None::<Instant>);
    loop {
        if tidied.is_none_or(|tidied| tidied.elapsed() >= TIDY_INTERVAL) {
            tidied = Some(Instant::now());
            list.forget_ended();
            if let Some(generation) = list.generation().await
                && known.replace(generation).is_some_and(|before| before != generation)
            {
                list.forget_all();
            }
        }
        let look = read_all_changes(&mut list).await;
        let pause = list.pause_after_poll(look);
        sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A followed list whose store holds numbers.
    #[derive(Default)]
    struct Numbers {
        stored: usize,
        generation: Option<u64>,
        known: usize,
        is_away: bool,
        pages: Vec<usize>,
        anew: u32,
        tidied: usize,
        looks: Vec<bool>,
    }

    impl FollowedList for &mut Numbers {
        type Error = ();

        async fn read_page(&mut self) -> Result<usize, ()> {
            if self.is_away {
                return Err(());
            }
            let page = (self.stored - self.known).min(MAX_CHANGES_PER_PAGE);
            self.known += page;
            self.pages.push(page);
            Ok(page)
        }

        async fn generation(&mut self) -> Option<u64> {
            self.generation.filter(|_| !self.is_away)
        }

        fn forget_all(&mut self) {
            self.known = 0;
            self.anew += 1;
        }

        fn forget_ended(&mut self) {
            self.tidied += 1;
        }

        /// Changes the store in another way after each poll.
        fn pause_after_poll(&mut self, look: Result<(), ()>) -> Duration {
            self.looks.push(look.is_ok());
            match self.looks.len() {
                1 => self.stored += 7,
                2 => self.is_away = true,
                3 => (self.is_away, self.generation) = (false, Some(2)),
                _ => {}
            }
            TIDY_INTERVAL
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_changes_are_read_and_all_of_it_again_after_another_count() {
        let mut numbers = Numbers { stored: 1_200, generation: Some(1), ..Numbers::default() };
        let looks = TIDY_INTERVAL * 7 / 2;
        assert!(tokio::time::timeout(looks, follow_list(&mut numbers)).await.is_err(), "it never returns");
        assert_eq!(numbers.looks, [true, true, false, true]);
        assert_eq!(numbers.pages, [1000, 200, 7, 1000, 207]);
        assert_eq!((numbers.anew, numbers.known, numbers.tidied), (1, 1_207, numbers.looks.len()));
    }
}
