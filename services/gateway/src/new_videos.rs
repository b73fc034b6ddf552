//! New videos: how many one caller may bring in an hour.
//!
//! Every video that somebody names for the first time takes room for as long as there is an archive: there, on the boards, in
//! every mirror of them, and in the managers' assignments. So a caller has a budget of them. A video is known to this gateway
//! where it has been named here lately, and to all where it is on a board; the boards are asked only about what is over a
//! budget, so that what everybody watches is never refused, and a gateway that has just started asks nothing of the store.
//!
//! Owners need no budget of their own: a video has one at most, and the first one stays.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use liverank_core::VideoId;
use liverank_core::limits::{RateQuota, TokenBuckets};
use liverank_runtime::Problem;
use liverank_runtime::server::RequestExchange;
use tokio::sync::Semaphore;

use crate::Gateway;
use crate::auth::Caller;
use crate::limits::{MAX_CALLERS, Sender, too_much};

/// What one video takes out of a bucket that is filled by as much a second as videos are allowed an hour.
const UNITS_A_VIDEO: u64 = 3600;
/// Videos named lately that are remembered, in hashes of eight bytes: 16 MB at most.
const MAX_REMEMBERED: usize = 1_000_000;
/// Questions to the boards at once, about videos over a budget: a flood of those must not keep the store from others.
const MAX_QUESTIONS_AT_ONCE: usize = 16;
/// How long one may take.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);

/// The budgets of all callers.
pub(crate) struct NewVideos {
    budgets: Option<Mutex<TokenBuckets<Sender>>>,
    named: Mutex<NamedVideos>,
    questions: Semaphore,
    start: Instant,
}

impl NewVideos {
    /// `per_hour` for each caller, all of them at once if need be; 0: no limit.
    pub(crate) fn new(per_hour: u32) -> Self {
        let per_hour = u64::from(per_hour);
        let quota = RateQuota::new(per_hour, per_hour * UNITS_A_VIDEO);
        Self {
            budgets: (per_hour > 0).then(|| Mutex::new(TokenBuckets::new(quota, MAX_CALLERS))),
            named: Mutex::new(NamedVideos::new(MAX_REMEMBERED)),
            questions: Semaphore::new(MAX_QUESTIONS_AT_ONCE),
            start: Instant::now(),
        }
    }

    /// Whether there is any limit.
    pub(crate) const fn are_limited(&self) -> bool {
        self.budgets.is_some()
    }

    /// Lets a caller name a video.
    ///
    /// # Errors
    /// 429 where nobody knows the video, and the caller has brought as many as it may.
    pub(crate) async fn admit(
        &self,
        gateway: &Gateway,
        caller: &Caller,
        exchange: &RequestExchange,
        video: &VideoId,
    ) -> Result<(), Problem> {
        let Err(wait) = self.take_video(Sender::of(caller, exchange), video, self.start.elapsed()) else {
            return Ok(());
        };
        if self.is_on_a_board(gateway, video).await {
            self.named().add_video(video);
            return Ok(());
        }
        gateway.metrics.new_videos_refused.inc();
        let detail = "one caller names too many videos that nobody has named before: name known ones, or come back later";
        Err(too_much("new-videos-per-caller", detail, wait))
    }

    /// Takes a video out of a caller's budget, unless it has been named here lately.
    fn take_video(&self, sender: Sender, video: &VideoId, now: Duration) -> Result<(), Duration> {
        let Some(budgets) = &self.budgets else { return Ok(()) };
        // One after the other, so that of two requests that name the same new video one is charged.
        let mut named = self.named();
        if named.has_video(video) {
            return Ok(());
        }
        budgets.lock().unwrap_or_else(PoisonError::into_inner).take_tokens(sender, UNITS_A_VIDEO, now)?;
        named.add_video(video);
        Ok(())
    }

    /// Where the store is away, nothing is known: a caller who is over its budget then waits for it.
    async fn is_on_a_board(&self, gateway: &Gateway, video: &VideoId) -> bool {
        let Ok(_place) = self.questions.try_acquire() else { return false };
        let asked =
            tokio::time::timeout(ANSWER_TIMEOUT, gateway.backends.ranking.places_of_video(video)).await;
        asked.is_ok_and(|places| places.is_ok_and(|places| places.global.rank.is_some()))
    }

    fn named(&self) -> MutexGuard<'_, NamedVideos> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Videos named lately, by keyed hashes. Of two videos with the same hash one is taken for the other, which nobody can
/// bring about.
struct NamedVideos {
    hasher: RandomState,
    /// How many each of the two sets may have.
    max_per_set: usize,
    lately: HashSet<u64>,
    previous_set: HashSet<u64>,
}

impl NamedVideos {
    fn new(remembered: usize) -> Self {
        let (lately, before) = (HashSet::new(), HashSet::new());
        Self { hasher: RandomState::new(), max_per_set: remembered / 2, lately, previous_set: before }
    }

    /// Whether a video is among them; it is then one of the latest.
    fn has_video(&mut self, video: &VideoId) -> bool {
        let hash = self.hasher.hash_one(video.as_str());
        if self.lately.contains(&hash) {
            return true;
        }
        let known = self.previous_set.contains(&hash);
        if known {
            self.insert_hash(hash);
        }
        known
    }

    fn add_video(&mut self, video: &VideoId) {
        self.insert_hash(self.hasher.hash_one(video.as_str()));
    }

    fn insert_hash(&mut self, hash: u64) {
        if self.lately.len() >= self.max_per_set {
            self.previous_set = std::mem::take(&mut self.lately);
        }
        self.lately.insert(hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn video(number: usize) -> VideoId {
        VideoId::parse(&format!("v{number}")).unwrap()
    }

    fn host_sender(last: u8) -> Sender {
        Sender::Address([192, 0, 2, last].into())
    }

    #[test]
    fn the_budget_of_new_videos_refills_within_an_hour() {
        let budgets = NewVideos::new(60);
        let now = Duration::from_secs(1);
        assert!((0..60).all(|number| budgets.take_video(host_sender(1), &video(number), now).is_ok()));
        assert_eq!(budgets.take_video(host_sender(1), &video(60), now), Err(Duration::from_mins(1)));
        assert!(
            (0..60).all(|number| budgets.take_video(host_sender(1), &video(number), now).is_ok()),
            "known ones are free"
        );
        assert!(budgets.take_video(host_sender(2), &video(60), now).is_ok(), "each caller has its own");
        assert!(
            budgets.take_video(host_sender(1), &video(60), now).is_ok(),
            "what another has brought is known"
        );
        let later = now + Duration::from_mins(1);
        assert!(budgets.take_video(host_sender(1), &video(61), later).is_ok());
        assert!(budgets.take_video(host_sender(1), &video(62), later).is_err());
        assert!(
            (0..1000).all(|number| NewVideos::new(0).take_video(host_sender(1), &video(number), now).is_ok())
        );
    }

    #[test]
    fn known_videos_are_remembered_within_a_bound() {
        let mut named = NamedVideos::new(100);
        let often = video(0);
        named.add_video(&often);
        for number in 1..10_000 {
            named.add_video(&video(number));
            assert!(named.has_video(&often) && named.has_video(&video(number)));
        }
        assert!(!named.has_video(&video(1)));
        assert!(named.lately.len() + named.previous_set.len() <= 100);
    }
}
