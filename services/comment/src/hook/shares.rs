//! Limits on how many comments of one user and of one video may wait for the hook, so that a flood is refused instead
//! of everybody else's comments.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use liverank_core::comment::UnnumberedComment;
use liverank_core::{UserId, VideoId};

use super::WAITING;

/// The maximum number of one user's comments that wait: nobody types faster, and a service that posts does so for many
/// users.
const OF_USER: usize = 16;
/// The maximum number of one video's comments that wait: half of all places remain for the other videos, however much
/// is posted on this one.
const OF_VIDEO: usize = WAITING / 2;

#[derive(Default)]
struct Counts {
    users: HashMap<UserId, usize>,
    videos: HashMap<VideoId, usize>,
}

/// Counts the waiting comments of each user and video. Clones share the counts. There are never more entries than
/// waiting comments.
#[derive(Clone, Default)]
pub(super) struct Shares(Arc<Mutex<Counts>>);

/// The place of one waiting comment, which is freed when it is dropped.
pub(super) struct Place {
    shares: Shares,
    user: UserId,
    video: VideoId,
}

impl Shares {
    /// A place for this comment; none where its user or its video has its share.
    pub(super) fn place(&self, comment: &UnnumberedComment) -> Option<Place> {
        let mut counts = self.lock();
        let has_room = counts.users.get(&comment.user_id).is_none_or(|count| *count < OF_USER)
            && counts.videos.get(&comment.video_id).is_none_or(|count| *count < OF_VIDEO);
        if !has_room {
            return None;
        }
        let (user, video) = (comment.user_id.clone(), comment.video_id.clone());
        *counts.users.entry(user.clone()).or_default() += 1;
        *counts.videos.entry(video.clone()).or_default() += 1;
        drop(counts);
        Some(Place { shares: self.clone(), user, video })
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.shares.lock();
        one_less(&mut counts.users, &self.user);
        one_less(&mut counts.videos, &self.video);
    }
}

fn one_less<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: &K) {
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
        let shares = Shares::default();
        let by = |user: &str, video: &str| shares.place(&comment(user, video, 1));
        let mut places: Vec<Place> = (0..OF_USER).map(|_| by("ann", "cat").unwrap()).collect();
        assert!(by("ann", "dog").is_none(), "a user has its share");
        places.extend((OF_USER..OF_VIDEO).map(|at| by(&format!("user {at}"), "cat").unwrap()));
        assert!(by("ben", "cat").is_none(), "a video has its share");
        places.push(by("ben", "dog").unwrap());
        places.remove(0);
        assert!(by("ben", "cat").is_some(), "a place that is given back is free");
        drop(places);
        let counts = shares.lock();
        assert!(counts.users.is_empty() && counts.videos.is_empty());
    }
}
