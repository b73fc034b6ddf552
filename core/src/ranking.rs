//! Ranked lists of videos: their order, kept up to date as scores change, and the difference between two lists.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use crate::{UserId, VideoId};

mod ordered;

use ordered::OrderedSet;

/// A score with the total order by which lists are sorted. Never NaN.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score(f64);

impl Score {
    /// Makes a score; NaN, which no store returns, becomes negative infinity.
    pub const fn new(score: f64) -> Self {
        Self(if score.is_nan() { f64::NEG_INFINITY } else { score })
    }

    /// Returns the score as a number.
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl Eq for Score {}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Score {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // -0.0 and 0.0 are the same score, as they are to Redis.
        (self.0 + 0.0).total_cmp(&(other.0 + 0.0))
    }
}

/// A video in a ranked list, with its score and its owner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RankedVideo {
    /// The id of the video.
    pub video_id: VideoId,
    /// The video's score on the board, in points.
    pub score: f64,
    /// The user who owns the video.
    pub user_id: UserId,
}

impl RankedVideo {
    /// Returns the key by which lists are sorted, in descending order: the score, then the video's id.
    fn sort_key(&self) -> (Score, VideoId) {
        (Score::new(self.score), self.video_id.clone())
    }
}

/// A board in memory: all its videos in order, and each owner's videos in the same order.
///
/// Setting a score and finding a position cost `O(log n)`; reading `k` lines from a position costs `O(k)` more.
#[derive(Debug, Clone, Default)]
pub struct Ranking {
    sorted_keys: OrderedSet<(Score, VideoId)>,
    entries: HashMap<VideoId, (Score, UserId)>,
    keys_by_owner: HashMap<UserId, BTreeSet<(Score, VideoId)>>,
}

impl Ranking {
    /// Returns the number of videos on the board.
    pub fn len(&self) -> usize {
        self.sorted_keys.len()
    }

    /// Whether the board has no videos.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds a video with its score and owner, or changes the score and owner of one that is on the board. Returns
    /// whether anything changed.
    pub fn set_score(&mut self, line: &RankedVideo) -> bool {
        let key = line.sort_key();
        if let Some((score, owner)) = self.entries.get(&line.video_id) {
            if *score == key.0 && *owner == line.user_id {
                return false;
            }
            let old = (*score, line.video_id.clone());
            let owner = owner.clone();
            self.sorted_keys.remove(&old);
            self.remove_owner_key(&owner, &old);
        }
        self.entries.insert(line.video_id.clone(), (key.0, line.user_id.clone()));
        self.keys_by_owner.entry(line.user_id.clone()).or_default().insert(key.clone());
        self.sorted_keys.insert(key);
        true
    }

    /// Removes a video from the board. Returns whether it was there.
    pub fn remove(&mut self, video: &VideoId) -> bool {
        let Some((score, owner)) = self.entries.remove(video) else { return false };
        let key = (score, video.clone());
        self.sorted_keys.remove(&key);
        self.remove_owner_key(&owner, &key);
        true
    }

    fn remove_owner_key(&mut self, owner: &UserId, key: &(Score, VideoId)) {
        if let Some(owned) = self.keys_by_owner.get_mut(owner) {
            owned.remove(key);
            if owned.is_empty() {
                self.keys_by_owner.remove(owner);
            }
        }
    }

    /// Returns the best `limit` videos, best first; all videos if `limit` is `None`.
    pub fn best_videos(&self, limit: Option<usize>) -> Vec<RankedVideo> {
        self.lines_of_keys(self.sorted_keys.descending(0).take(limit.unwrap_or(usize::MAX)))
    }

    /// Returns the position of a video, from 0: the number of videos above it. `None` if the video is not on the
    /// board.
    pub fn position_of(&self, video: &VideoId) -> Option<usize> {
        let (score, _) = self.entries.get(video)?;
        Some(self.sorted_keys.count_above(&(*score, video.clone())))
    }

    /// Returns the position behind a line with this `score` and `video`, whether or not the board still has that line.
    pub fn position_after(&self, score: f64, video: &VideoId) -> usize {
        let score = Score::new(score);
        let stands = self.entries.get(video).is_some_and(|(now, _)| *now == score);
        self.sorted_keys.count_above(&(score, video.clone())) + usize::from(stands)
    }

    /// Returns up to `limit` videos, best first, after leaving out the first `skip`.
    pub fn page(&self, skip: usize, limit: usize) -> Vec<RankedVideo> {
        self.lines_of_keys(self.sorted_keys.descending(skip).take(limit))
    }

    /// Returns the videos of an owner, best first; at most `limit` if it is given.
    pub fn videos_of_owner(&self, owner: &UserId, limit: Option<usize>) -> Vec<RankedVideo> {
        self.keys_by_owner
            .get(owner)
            .map(|owned| self.lines_of_keys(owned.iter().rev().take(limit.unwrap_or(usize::MAX))))
            .unwrap_or_default()
    }

    fn lines_of_keys<'a>(&'a self, keys: impl Iterator<Item = &'a (Score, VideoId)>) -> Vec<RankedVideo> {
        keys.map(|(score, id)| RankedVideo {
            video_id: id.clone(),
            score: score.get(),
            user_id: self.entries[id].1.clone(),
        })
        .collect()
    }
}

/// Returns the index at which a list of `limit` lines begins that has the line at `position` in its middle, on a board
/// of `total` lines. Near an end of the board, the line is as close to the middle as a full list allows.
pub fn first_index_around(position: usize, total: usize, limit: usize) -> usize {
    position.saturating_sub(limit.saturating_sub(1) / 2).min(total.saturating_sub(limit))
}

/// The change from one ranked list to the next. To apply it to the first list: remove, then set, then sort.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RankingDelta {
    /// The videos that are no longer in the list.
    pub remove: Vec<VideoId>,
    /// The videos that are new in the list, or whose score or owner changed.
    pub set: Vec<RankedVideo>,
}

impl RankingDelta {
    /// Returns the change that turns `before` into `after`.
    pub fn delta_between(before: &[RankedVideo], after: &[RankedVideo]) -> Self {
        let old: HashMap<&VideoId, &RankedVideo> = before.iter().map(|line| (&line.video_id, line)).collect();
        let kept: std::collections::HashSet<&VideoId> = after.iter().map(|line| &line.video_id).collect();
        Self {
            remove: before
                .iter()
                .map(|line| &line.video_id)
                .filter(|id| !kept.contains(id))
                .cloned()
                .collect(),
            set: after.iter().filter(|line| old.get(&line.video_id) != Some(line)).cloned().collect(),
        }
    }

    /// Whether the change is empty, because the two lists are the same.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty()
    }

    /// Returns the list that results from applying this change to the list `before`.
    pub fn applied_to(&self, before: &[RankedVideo]) -> Vec<RankedVideo> {
        let mut lines: BTreeMap<&VideoId, &RankedVideo> =
            before.iter().map(|line| (&line.video_id, line)).collect();
        for id in &self.remove {
            lines.remove(id);
        }
        lines.extend(self.set.iter().map(|line| (&line.video_id, line)));
        let mut list: Vec<RankedVideo> = lines.into_values().cloned().collect();
        list.sort_by_cached_key(|line| std::cmp::Reverse(line.sort_key()));
        list
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(id: &str, score: f64, owner: &str) -> RankedVideo {
        RankedVideo { video_id: VideoId::parse(id).unwrap(), score, user_id: UserId::parse(owner).unwrap() }
    }

    fn ids(list: &[RankedVideo]) -> Vec<&str> {
        list.iter().map(|line| line.video_id.as_str()).collect()
    }

    #[test]
    fn ties_stand_in_descending_byte_order() {
        let mut ranking = Ranking::default();
        for id in ["a", "B", "ä", "b"] {
            ranking.set_score(&line(id, 1.0, "o"));
        }
        ranking.set_score(&line("c", 0.5, "o"));
        assert_eq!(ids(&ranking.best_videos(None)), ["ä", "b", "a", "B", "c"]);
        assert_eq!(ids(&ranking.best_videos(Some(2))), ["ä", "b"]);
    }

    #[test]
    fn an_owner_s_list_follows_scores_and_owners() {
        let mut ranking = Ranking::default();
        ranking.set_score(&line("a", 1.0, "o"));
        ranking.set_score(&line("b", 2.0, "o"));
        ranking.set_score(&line("a", 3.0, "o"));
        let owner = UserId::parse("o").unwrap();
        assert_eq!(ids(&ranking.videos_of_owner(&owner, None)), ["a", "b"]);
        ranking.set_score(&line("a", 3.0, "p"));
        assert_eq!(ids(&ranking.videos_of_owner(&owner, None)), ["b"]);
        assert!(!ranking.set_score(&line("a", 3.0, "p")));
    }

    #[test]
    fn a_list_goes_on_after_a_place_that_need_not_be_taken() {
        let mut ranking = Ranking::default();
        for (id, score) in [("a", 1.0), ("c", 1.0), ("d", 2.0), ("e", 0.0)] {
            ranking.set_score(&line(id, score, "o"));
        }
        let after = |score, id| ranking.page(ranking.position_after(score, &VideoId::parse(id).unwrap()), 2);
        assert_eq!(ids(&after(2.0, "d")), ["c", "a"]);
        assert_eq!(ids(&after(1.0, "b")), ["a", "e"]);
        assert_eq!(ids(&after(-0.0, "f")), ["e"]);
        assert!(after(0.0, "e").is_empty());
    }

    #[test]
    fn a_list_around_a_line_is_full_wherever_it_can_be() {
        let around = |position, limit| first_index_around(position, 10, limit);
        assert_eq!([0, 1, 2, 5, 8, 9].map(|position| around(position, 5)), [0, 0, 0, 3, 5, 5]);
        assert_eq!([4, 9].map(|position| around(position, 4)), [3, 6]);
        assert_eq!(
            [(0, 1), (9, 1), (9, 10), (5, 99)].map(|(position, limit)| around(position, limit)),
            [0, 9, 0, 0]
        );
    }

    proptest! {
        #[test]
        fn a_list_around_a_line_has_it(total in 1..500usize, at in any::<proptest::sample::Index>(), limit in 1..60usize) {
            let position = at.index(total);
            let first = first_index_around(position, total, limit);
            prop_assert!(first <= position && position < first + limit);
            prop_assert!(first + limit <= total || first == 0);
        }

        #[test]
        fn positions_are_those_in_the_list(updates in proptest::collection::vec((0..30u8, -3i8..3), 1..200)) {
            let mut ranking = Ranking::default();
            for (id, score) in updates {
                ranking.set_score(&line(&format!("v{id}"), f64::from(score), "o"));
            }
            for (at, line) in ranking.best_videos(None).iter().enumerate() {
                prop_assert_eq!(ranking.position_of(&line.video_id), Some(at));
                prop_assert_eq!(ranking.position_after(line.score, &line.video_id), at + 1);
            }
            prop_assert_eq!(ranking.position_of(&VideoId::parse("other").unwrap()), None);
        }

        #[test]
        fn the_order_is_that_of_a_sort(updates in proptest::collection::vec((0..30u8, -3i8..4), 0..200)) {
            let mut ranking = Ranking::default();
            let mut model = BTreeMap::new();
            for (id, score) in updates {
                let line = line(&format!("v{id}"), f64::from(score), "o");
                if score == 3 {
                    prop_assert_eq!(ranking.remove(&line.video_id), model.remove(&line.video_id).is_some());
                    continue;
                }
                ranking.set_score(&line);
                model.insert(line.video_id.clone(), line);
            }
            prop_assert_eq!(ranking.len(), model.len());
            let owned = ranking.videos_of_owner(&UserId::parse("o").unwrap(), None);
            prop_assert_eq!(owned, ranking.best_videos(None));
            let mut sorted: Vec<_> = model.into_values().collect();
            sorted.sort_by(|a, b| {
                b.score.total_cmp(&a.score).then_with(|| b.video_id.as_str().as_bytes().cmp(a.video_id.as_str().as_bytes()))
            });
            prop_assert_eq!(ranking.best_videos(None), sorted);
        }

        #[test]
        fn deltas_rebuild_the_list(
            steps in proptest::collection::vec(proptest::collection::vec((0..12u8, 0..4u8), 0..6), 1..20), k in 1..8usize,
        ) {
            let mut ranking = Ranking::default();
            let mut held = ranking.best_videos(Some(k));
            let mut previous = held.clone();
            for step in steps {
                for (id, score) in step {
                    ranking.set_score(&line(&format!("v{id}"), f64::from(score), "o"));
                }
                let list = ranking.best_videos(Some(k));
                held = RankingDelta::delta_between(&previous, &list).applied_to(&held);
                prop_assert_eq!(&held, &list);
                previous = list;
            }
        }
    }
}
