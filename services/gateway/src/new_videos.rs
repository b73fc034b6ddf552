//! The limit of new videos: how many videos one caller may be the first to name in an hour.
//!
//! Every video that somebody names for the first time uses memory for as long as there is an archive: there, on the
//! boards, in every mirror of them, and in the managers' assignments. So each caller has a budget of new videos. A
//! gateway knows a video that was named at it lately; every gateway knows a video that is on a board. The boards are
//! asked only about videos over a budget. So videos that everybody watches are never refused, and a gateway that has
//! just started asks the store nothing.
//!
//! Owners need no budget of their own: a video has at most one owner, and the first one stays.

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
use crate::limits::{MAX_CALLERS, Sender, limit_problem};

/// Tokens that one video takes out of its caller's bucket. The bucket gets as many tokens a second as videos are
/// allowed an hour.
const TOKENS_PER_VIDEO: u64 = 3600;
/// Maximum number of lately named videos that are remembered, as hashes of eight bytes: 16 MB at most.
const MAX_REMEMBERED_VIDEOS: usize = 1_000_000;
/// Maximum number of queries to the boards at once, about videos over a budget: a flood of them must not slow down the
/// store for others.
const MAX_BOARD_QUERIES_AT_ONCE: usize = 16;
/// Maximum time for the boards to answer a query about a video over a budget.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);

/// The limits of new videos: the budgets of all callers, and the videos that requests named lately, which are not new.
pub(crate) struct NewVideoLimits {
    budgets: Option<Mutex<TokenBuckets<Sender>>>,
    named_videos: Mutex<NamedVideos>,
    board_queries: Semaphore,
    start: Instant,
}

impl NewVideoLimits {
    /// Creates a budget of `per_hour` videos for each caller, which may be used all at once; 0 means no limit.
    pub(crate) fn new(per_hour: u32) -> Self {
        let per_hour = u64::from(per_hour);
        let quota = RateQuota::new(per_hour, per_hour * TOKENS_PER_VIDEO);
        Self {
            budgets: (per_hour > 0).then(|| Mutex::new(TokenBuckets::new(quota, MAX_CALLERS))),
            named_videos: Mutex::new(NamedVideos::new(MAX_REMEMBERED_VIDEOS)),
            board_queries: Semaphore::new(MAX_BOARD_QUERIES_AT_ONCE),
            start: Instant::now(),
        }
    }

    /// Returns true if there is any limit of new videos.
    pub(crate) const fn has_limit(&self) -> bool {
        self.budgets.is_some()
    }

    /// Checks that a caller may name this video.
    ///
    /// # Errors
    /// Returns 429 if the video is not known, and the caller has brought as many new videos as it may.
    pub(crate) async fn admit(
        &self,
        gateway: &Gateway,
        caller: &Caller,
        exchange: &RequestExchange,
        video: &VideoId,
    ) -> Result<(), Problem> {
        let Err(wait) = self.charge_video(Sender::of(caller, exchange), video, self.start.elapsed()) else {
            return Ok(());
        };
        if self.is_on_a_board(gateway, video).await {
            self.lock_named_videos().add_video(video);
            return Ok(());
        }
        gateway.metrics.new_videos_refused.inc();
        let detail = "one caller names too many videos that nobody has named before: name known ones, or come back later";
        Err(limit_problem("new-videos-per-caller", detail, wait))
    }

    /// Takes a video out of a caller's budget, unless it was named at this gateway lately. If the budget is empty,
    /// returns the time until it has room.
    fn charge_video(&self, sender: Sender, video: &VideoId, now: Duration) -> Result<(), Duration> {
        let Some(budgets) = &self.budgets else { return Ok(()) };
        // Both locks are held at once, so that of two requests that name the same new video only one is charged.
        let mut named = self.lock_named_videos();
        if named.has_video(video) {
            return Ok(());
        }
        budgets.lock().unwrap_or_else(PoisonError::into_inner).take_tokens(sender, TOKENS_PER_VIDEO, now)?;
        named.add_video(video);
        Ok(())
    }

    /// Returns true if the video is on the board `global`. Returns false, too, if the store of the boards is
    /// unavailable or busy: then a caller over its budget has to wait.
    async fn is_on_a_board(&self, gateway: &Gateway, video: &VideoId) -> bool {
        let Ok(_place) = self.board_queries.try_acquire() else { return false };
        let asked =
            tokio::time::timeout(ANSWER_TIMEOUT, gateway.backends.ranking.ranks_of_video(video)).await;
        asked.is_ok_and(|places| places.is_ok_and(|places| places.global.rank.is_some()))
    }

    fn lock_named_videos(&self) -> MutexGuard<'_, NamedVideos> {
        self.named_videos.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The videos that were named lately, as keyed hashes. Two videos with the same hash count as one; because the hash is
/// keyed, nobody can bring that about.
struct NamedVideos {
    hasher: RandomState,
    /// Maximum number of hashes in each of the two sets.
    max_per_set: usize,
    recent_set: HashSet<u64>,
    previous_set: HashSet<u64>,
}

impl NamedVideos {
    fn new(remembered: usize) -> Self {
        let (recent_set, before) = (HashSet::new(), HashSet::new());
        Self { hasher: RandomState::new(), max_per_set: remembered / 2, recent_set, previous_set: before }
    }

    /// Returns true if a video was named lately; if it was, it counts as named now.
    fn has_video(&mut self, video: &VideoId) -> bool {
        let hash = self.hasher.hash_one(video.as_str());
        if self.recent_set.contains(&hash) {
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
        if self.recent_set.len() >= self.max_per_set {
            self.previous_set = std::mem::take(&mut self.recent_set);
        }
        self.recent_set.insert(hash);
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
        let budgets = NewVideoLimits::new(60);
        let now = Duration::from_secs(1);
        assert!((0..60).all(|number| budgets.charge_video(host_sender(1), &video(number), now).is_ok()));
        assert_eq!(budgets.charge_video(host_sender(1), &video(60), now), Err(Duration::from_mins(1)));
        assert!(
            (0..60).all(|number| budgets.charge_video(host_sender(1), &video(number), now).is_ok()),
            "known ones are free"
        );
        assert!(budgets.charge_video(host_sender(2), &video(60), now).is_ok(), "each caller has its own");
        assert!(
            budgets.charge_video(host_sender(1), &video(60), now).is_ok(),
            "what another has brought is known"
        );
        let later = now + Duration::from_mins(1);
        assert!(budgets.charge_video(host_sender(1), &video(61), later).is_ok());
        assert!(budgets.charge_video(host_sender(1), &video(62), later).is_err());
        assert!(
            (0..1000).all(|number| NewVideoLimits::new(0)
                .charge_video(host_sender(1), &video(number), now)
                .is_ok())
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
        assert!(named.recent_set.len() + named.previous_set.len() <= 100);
    }
}
