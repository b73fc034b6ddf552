//! Limits on how many comments of one user and of one video may wait for the hook, so that a flood is refused instead
//! of everybody else's comments.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use liverank_core::comment::UnnumberedComment;
use liverank_core::{UserId, VideoId};

use super::MAX_WAITING_COMMENTS;

/// The maximum number of one user's comments that wait for the hook: nobody types faster, and a program that posts does
/// so for many users.
const MAX_WAITING_PER_USER: usize = 16;
/// The maximum number of one video's comments that wait for the hook: half of [`MAX_WAITING_COMMENTS`] remain for the
/// other videos.
const MAX_WAITING_PER_VIDEO: usize = MAX_WAITING_COMMENTS / 2;

#[derive(Default)]
struct WaitingCounts {
    users: HashMap<UserId, usize>,
    videos: HashMap<VideoId, usize>,
}

/// The limits on the comments of each user and each video that wait for the hook, with the present counts. Clones share
/// the counts. There are never more entries than waiting comments.
#[derive(Clone, Default)]
pub(super) struct WaitingLimits(Arc<Mutex<WaitingCounts>>);

/// The permit of one comment to wait for the hook; dropping it lets another comment wait.
pub(super) struct WaitingPermit {
    limits: WaitingLimits,
    user: UserId,
    video: VideoId,
}

impl WaitingLimits {
    /// Returns a permit for this comment to wait; `None` if its user or its video has its share of waiting comments
    /// already.
    pub(super) fn acquire(&self, comment: &UnnumberedComment) -> Option<WaitingPermit> {
        let mut counts = self.lock();
        let has_room = counts.users.get(&comment.user_id).is_none_or(|count| *count < MAX_WAITING_PER_USER)
            && counts.videos.get(&comment.video_id).is_none_or(|count| *count < MAX_WAITING_PER_VIDEO);
        if !has_room {
            return None;
        }
        let (user, video) = (comment.user_id.clone(), comment.video_id.clone());
        *counts.users.entry(user.clone()).or_default() += 1;
        *counts.videos.entry(video.clone()).or_default() += 1;
        drop(counts);
        Some(WaitingPermit { limits: self.clone(), user, video })
    }

    fn lock(&self) -> MutexGuard<'_, WaitingCounts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for WaitingPermit {
    fn drop(&mut self) {
        let mut counts = self.limits.lock();
        decrement_count(&mut counts.users, &self.user);
        decrement_count(&mut counts.videos, &self.video);
    }
}

fn decrement_count<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::batches::tests::comment;
    use super::*;

    #[test]
    fn a_flood_leaves_room_for_others_and_nothing_behind() {
        let shares = WaitingLimits::default();
        let by = |user: &str, video: &str| shares.acquire(&comment(user, video, 1));
        let mut places: Vec<WaitingPermit> =
            (0..MAX_WAITING_PER_USER).map(|_| by("ann", "cat").unwrap()).collect();
        assert!(by("ann", "dog").is_none(), "a user has its share");
        places.extend(
            (MAX_WAITING_PER_USER..MAX_WAITING_PER_VIDEO).map(|at| by(&format!("user {at}"), "cat").unwrap()),
        );
        assert!(by("ben", "cat").is_none(), "a video has its share");
        places.push(by("ben", "dog").unwrap());
        places.remove(0);
        assert!(by("ben", "cat").is_some(), "a place that is given back is free");
        drop(places);
        let counts = shares.lock();
        assert!(counts.users.is_empty() && counts.videos.is_empty());
    }
}
