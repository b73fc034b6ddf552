//! The plan of a run: which viewer watches which video, and what is posted when, all computed from the seed.

use std::time::Duration;

use liverank_core::Kind;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

/// The number of users that post interactions and comments.
const USER_COUNT: u32 = 10_000;
/// The number of videos of one owner.
const VIDEOS_PER_OWNER: usize = 5;
/// The share of each kind of interaction, in hundredths: mostly views, as on real platforms.
const KIND_HUNDREDTHS: [(Kind, u32); 5] =
    [(Kind::View, 55), (Kind::WatchTime, 25), (Kind::Like, 12), (Kind::Share, 4), (Kind::Comment, 4)];
/// The longest watch time, in milliseconds: watch times lie on both sides of the threshold of 2 s.
const MAX_WATCH_MS: u64 = 6_000;

/// Draws numbers by Zipf's law: 0 most often, and each further number less often.
#[derive(Debug, Clone)]
pub struct ZipfLaw {
    /// The cumulated probabilities of the numbers, ascending; the last is 1.
    cumulative_probabilities: Vec<f64>,
}

impl ZipfLaw {
    /// Creates the law for the numbers 0 to `n - 1`, where number `k` has the weight `1 / (k + 1)^exponent`. An `n` of
    /// 0 is taken as 1.
    pub fn new(n: usize, exponent: f64) -> Self {
        let weights = (1..=n.max(1)).map(|rank| (rank as f64).powf(-exponent));
        let mut cumulative_probabilities: Vec<f64> = weights
            .scan(0.0, |sum, weight| {
                *sum += weight;
                Some(*sum)
            })
            .collect();
        let total = cumulative_probabilities.last().copied().unwrap_or(1.0);
        for sum in &mut cumulative_probabilities {
            *sum /= total;
        }
        Self { cumulative_probabilities }
    }

    /// Returns the number that belongs to `at`, a random value from 0 up to (not including) 1.
    pub fn number_at(&self, at: f64) -> usize {
        self.cumulative_probabilities
            .partition_point(|sum| *sum <= at)
            .min(self.cumulative_probabilities.len() - 1)
    }
}

/// The content of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PostAction {
    /// An interaction of this kind; for `watch_time`, the second value is the time watched, in milliseconds.
    Interact(Kind, u64),
    /// A comment, whose text is made from its number.
    Comment,
}

/// One event that is posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostEvent {
    /// The event's identity, by which the system counts it once however often it is posted.
    pub id: String,
    /// The number of the event, from 0: a comment is counted among all comments, an interaction among all interactions.
    pub event_index: usize,
    /// The time at which the event is posted, after the start of the posting.
    pub post_after: Duration,
    /// The number of the video.
    pub video: usize,
    /// The number of the user.
    pub user_number: u32,
    /// The content of the event.
    pub post_action: PostAction,
}

/// The plan of all events that a run will post.
#[derive(Debug, Clone)]
pub struct PostingPlan {
    name_prefix: String,
    video_count: usize,
    zipf: ZipfLaw,
    seed: u64,
    /// True if each interaction is posted by a user of its own.
    has_user_per_interaction: bool,
}

impl PostingPlan {
    /// Creates a plan over `videos` videos. `prefix` begins all their names, so that nobody else uses these videos.
    pub fn new(prefix: String, videos: usize, exponent: f64, seed: u64) -> Self {
        let zipf = ZipfLaw::new(videos, exponent);
        Self { name_prefix: prefix, video_count: videos.max(1), zipf, seed, has_user_per_interaction: false }
    }

    /// Returns the plan with a user of its own for each interaction, so that all interactions count, also those of
    /// types that count once per user.
    #[must_use]
    pub fn with_user_per_interaction(self) -> Self {
        Self { has_user_per_interaction: true, ..self }
    }

    /// Returns the number of videos that viewers and posters use, without the probe's.
    pub const fn video_count(&self) -> usize {
        self.video_count
    }

    /// Returns the number of the video that only the probe uses; it comes after all others.
    pub const fn probe_video(&self) -> usize {
        self.video_count
    }

    /// Returns the prefix of all names of this run.
    pub fn prefix(&self) -> &str {
        &self.name_prefix
    }

    /// Returns the id of a video.
    pub fn video_id(&self, video: usize) -> String {
        format!("{}-v{video}", self.name_prefix)
    }

    /// Returns the user id of a video's owner.
    pub fn owner_of(&self, video: usize) -> String {
        format!("{}-o{}", self.name_prefix, video / VIDEOS_PER_OWNER)
    }

    /// Returns the number of the video that each viewer watches.
    pub fn watched_videos(&self, viewers: usize) -> Vec<usize> {
        let mut random = self.seeded_rng(1);
        (0..viewers).map(|_| self.zipf.number_at(random.random())).collect()
    }

    /// Returns one view of every video, posted before all else: from then on each video exists and has its owner.
    pub fn opening_views(&self) -> impl Iterator<Item = PostEvent> + Send + use<> {
        let prefix = self.name_prefix.clone();
        (0..=self.video_count).map(move |video| PostEvent {
            id: format!("{prefix}-s{video}"),
            event_index: 0,
            post_after: Duration::ZERO,
            video,
            user_number: 0,
            post_action: PostAction::Interact(Kind::View, 0),
        })
    }

    /// Returns the interactions of the run, `rate` a second.
    pub fn interaction_events(
        &self,
        rate: f64,
        duration: Duration,
    ) -> impl Iterator<Item = PostEvent> + Send + use<> {
        let (mut random, zipf, prefix) = (self.seeded_rng(2), self.zipf.clone(), self.name_prefix.clone());
        let has_a_user_for_each = self.has_user_per_interaction;
        even_times(rate, duration).enumerate().map(move |(number, at)| {
            let (video, user) = (zipf.number_at(random.random()), random.random_range(1..=USER_COUNT));
            let user = if has_a_user_for_each { number as u32 + 1 } else { user };
            let kind = kind_at(random.random_range(0..100));
            let watched = random.random_range(0..=MAX_WATCH_MS);
            let action = PostAction::Interact(kind, if kind == Kind::WatchTime { watched } else { 0 });
            PostEvent {
                id: format!("{prefix}-i{number}"),
                event_index: number,
                post_after: at,
                video,
                user_number: user,
                post_action: action,
            }
        })
    }

    /// Returns the comments of the run, `rate` a second.
    pub fn comment_events(
        &self,
        rate: f64,
        duration: Duration,
    ) -> impl Iterator<Item = PostEvent> + Send + use<> {
        let (mut random, zipf, prefix) = (self.seeded_rng(3), self.zipf.clone(), self.name_prefix.clone());
        even_times(rate, duration).enumerate().map(move |(number, at)| {
            let (video, user) = (zipf.number_at(random.random()), random.random_range(1..=USER_COUNT));
            PostEvent {
                id: format!("{prefix}-c{number}"),
                event_index: number,
                post_after: at,
                video,
                user_number: user,
                post_action: PostAction::Comment,
            }
        })
    }

    /// Returns a view of the probe's own video.
    pub fn probe_event(&self, number: usize) -> PostEvent {
        let action = PostAction::Interact(Kind::View, 0);
        PostEvent {
            id: format!("{}-p{number}", self.name_prefix),
            event_index: number,
            post_after: Duration::ZERO,
            video: self.probe_video(),
            user_number: if self.has_user_per_interaction { number as u32 + 1 } else { 0 },
            post_action: action,
        }
    }

    /// Returns the path to which an event is posted, and the JSON body.
    pub fn request_of(&self, event: &PostEvent) -> (&'static str, Value) {
        let (video, user) =
            (self.video_id(event.video), format!("{}-u{}", self.name_prefix, event.user_number));
        match event.post_action {
            PostAction::Comment => {
                let comment = comment_text(event.event_index);
                let body = json!({"videoid": video, "userid": user, "comment": comment, "idempotency_key": event.id});
                ("/comment", body)
            }
            PostAction::Interact(kind, watch_ms) => {
                let owner = self.owner_of(event.video);
                let mut body = json!({
                    "video_id": video, "user_id": user, "owner_id": owner, "type": kind.name(), "event_id": event.id,
                });
                if kind == Kind::WatchTime {
                    body["watch_time"] = (watch_ms as f64 / 1000.0).into();
                }
                ("/interact", body)
            }
        }
    }

    fn seeded_rng(&self, stream: u64) -> StdRng {
        StdRng::seed_from_u64(self.seed.wrapping_mul(8).wrapping_add(stream))
    }
}

/// Returns the text of comment `number`. The text contains the number, so that the comment is recognised whatever id
/// the system gives it.
pub fn comment_text(number: usize) -> String {
    format!("comment {number} of this run: \"schön\" & good 🎬")
}

/// Returns the number of the comment with this text; `None` if it is no comment of a run.
pub fn comment_number(text: &str) -> Option<usize> {
    let number = text.strip_prefix("comment ")?.split_once(' ')?.0.parse().ok()?;
    (comment_text(number) == text).then_some(number)
}

/// Returns the number of events in `duration` at `rate` a second.
pub fn events_in(rate: f64, duration: Duration) -> usize {
    (rate.max(0.0) * duration.as_secs_f64()).floor() as usize
}

fn even_times(rate: f64, duration: Duration) -> impl Iterator<Item = Duration> + Send {
    (0..events_in(rate, duration)).map(move |number| Duration::from_secs_f64(number as f64 / rate))
}

fn kind_at(mut hundredth: u32) -> Kind {
    for (kind, share) in KIND_HUNDREDTHS {
        if hundredth < share {
            return kind;
        }
        hundredth -= share;
    }
    Kind::View
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(seed: u64) -> PostingPlan {
        PostingPlan::new("load-x".into(), 10, 1.1, seed)
    }

    #[test]
    fn every_kind_is_posted_but_those_that_take_another_back() {
        for kind in Kind::ALL {
            let part =
                KIND_HUNDREDTHS.iter().filter(|(of, _)| *of == kind).map(|(_, part)| part).sum::<u32>();
            assert_eq!(part > 0, kind.kind_taken_back().is_none(), "{} in KIND_HUNDREDTHS", kind.name());
        }
        assert_eq!(KIND_HUNDREDTHS.map(|(_, part)| part).iter().sum::<u32>(), 100);
    }

    #[test]
    fn zipf_gives_each_its_share() {
        let zipf = ZipfLaw::new(4, 1.0);
        let mut counts = [0; 4];
        (0..25_000).for_each(|n| counts[zipf.number_at(f64::from(n) / 25_000.0)] += 1);
        // The weights are 12, 6, 4 and 3 parts of 25.
        assert_eq!(counts.map(|count: u32| (count + 500) / 1000), [12, 6, 4, 3]);
        assert_eq!(zipf.number_at(1.0), 3);
        assert_eq!(ZipfLaw::new(0, 1.1).number_at(0.5), 0);
    }

    #[test]
    fn a_seed_makes_the_same_plan_and_another_one_another() {
        let all = |seed| -> Vec<PostEvent> {
            let plan = plan(seed);
            let second = Duration::from_secs(1);
            plan.interaction_events(100.0, second).chain(plan.comment_events(50.0, second)).collect()
        };
        assert_eq!(all(7), all(7));
        assert_ne!(all(7), all(8));
        assert_eq!(plan(7).watched_videos(100), plan(7).watched_videos(100));
    }

    #[test]
    fn posts_are_spread_evenly_and_each_has_its_own_identity() {
        let events: Vec<PostEvent> = plan(1).interaction_events(4.0, Duration::from_secs(3)).collect();
        assert_eq!((events.len(), events[11].post_after), (12, Duration::from_millis(2750)));
        let ids: std::collections::HashSet<_> = plan(1)
            .opening_views()
            .chain(events)
            .chain(plan(1).comment_events(4.0, Duration::from_secs(3)))
            .map(|event| event.id)
            .collect();
        assert_eq!(ids.len(), 11 + 12 + 12);
        assert_eq!(plan(1).interaction_events(0.0, Duration::from_secs(3)).count(), 0);
    }

    #[test]
    fn each_interaction_is_another_user_s_where_that_is_asked_for() {
        let users = |plan: PostingPlan| -> std::collections::HashSet<u32> {
            plan.interaction_events(1_000.0, Duration::from_secs(1)).map(|event| event.user_number).collect()
        };
        assert_eq!(users(plan(1).with_user_per_interaction()).len(), 1_000);
        assert!(users(plan(1)).len() < 1_000);
    }

    #[test]
    fn a_comment_tells_which_one_it_is() {
        assert_eq!(comment_number(&comment_text(1234)), Some(1234));
        for other in ["", "comment", "comment x of", "hello", "comment 5 of another run"] {
            assert_eq!(comment_number(other), None, "{other}");
        }
    }

    #[test]
    fn every_kind_occurs_and_only_watching_takes_time() {
        let mut kinds: Vec<Kind> = (0..100).map(kind_at).collect();
        kinds.sort_unstable();
        kinds.dedup();
        assert_eq!(kinds.len(), KIND_HUNDREDTHS.len());
        for event in plan(3).interaction_events(1000.0, Duration::from_secs(1)) {
            let (_, body) = plan(3).request_of(&event);
            assert_eq!(body.get("watch_time").is_some(), body["type"] == "watch_time", "{body}");
        }
    }
}
