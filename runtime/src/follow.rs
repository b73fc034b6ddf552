//! Following a list in a store that changes seldom: only what has changed since the last look is read, by its revision.
//!
//! The store may be counted anew from the log (another *generation*): revisions then begin anew, and what was known before is
//! not known to be in force any more. While the store is away, what was read last is in force.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Changes read at once: some hundred kilobytes.
pub const CHANGES_A_PAGE: usize = 1000;
/// Between two looks whether the store was counted anew; what has ended is forgotten then, too.
const TIDY_INTERVAL: Duration = Duration::from_secs(5);

/// A list that is followed. The methods that read ask the store within a time limit of their own.
pub trait FollowedList {
    /// Why the store did not answer.
    type Error;

    /// Reads the changes after the last one that is known, at most [`CHANGES_A_PAGE`]. Returns how many there were.
    fn read_page(&mut self) -> impl Future<Output = Result<usize, Self::Error>> + Send;

    /// Which count of the log the store holds; `None` where it holds none or does not answer.
    fn generation(&mut self) -> impl Future<Output = Option<u64>> + Send;

    /// Forgets all that is known: the store was counted anew, from a log that may not have all of it any more.
    fn begin_anew(&mut self);

    /// Forgets what has ended.
    fn forget_ended(&mut self);

    /// A look is over. Returns how long to wait for the next one.
    fn pause_after(&mut self, look: Result<(), Self::Error>) -> Duration;
}

async fn read_changes<L: FollowedList>(list: &mut L) -> Result<(), L::Error> {
    while list.read_page().await? >= CHANGES_A_PAGE {}
    Ok(())
}

/// Follows a list. Never returns.
pub async fn follow(mut list: impl FollowedList) {
    let (mut known, mut tidied) = (None, None::<Instant>);
    loop {
        if tidied.is_none_or(|tidied| tidied.elapsed() >= TIDY_INTERVAL) {
            tidied = Some(Instant::now());
            list.forget_ended();
            if let Some(generation) = list.generation().await
                && known.replace(generation).is_some_and(|before| before != generation)
            {
                list.begin_anew();
            }
        }
        let look = read_changes(&mut list).await;
        let pause = list.pause_after(look);
        sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store whose changes are numbers, and what is known of them.
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
            let page = (self.stored - self.known).min(CHANGES_A_PAGE);
            self.known += page;
            self.pages.push(page);
            Ok(page)
        }

        async fn generation(&mut self) -> Option<u64> {
            self.generation.filter(|_| !self.is_away)
        }

        fn begin_anew(&mut self) {
            self.known = 0;
            self.anew += 1;
        }

        fn forget_ended(&mut self) {
            self.tidied += 1;
        }

        /// Another thing happens after each look.
        fn pause_after(&mut self, look: Result<(), ()>) -> Duration {
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
        assert!(tokio::time::timeout(looks, follow(&mut numbers)).await.is_err(), "it never returns");
        assert_eq!(numbers.looks, [true, true, false, true]);
        assert_eq!(numbers.pages, [1000, 200, 7, 1000, 207]);
        assert_eq!((numbers.anew, numbers.known, numbers.tidied), (1, 1_207, numbers.looks.len()));
    }
}
