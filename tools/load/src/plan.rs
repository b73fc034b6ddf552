//! Who watches what, and what is posted when: all of it from the seed.

use std::time::Duration;

use liverank_core::Kind;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

/// Users that interactions and comments come from.
const USER_COUNT: u32 = 10_000;
/// Videos an owner has.
const VIDEOS_PER_OWNER: usize = 5;
/// How often each kind comes, in hundredths: mostly views, as everywhere.
const KIND_HUNDREDTHS: [(Kind, u32); 5] =
    [(Kind::View, 55), (Kind::WatchTime, 25), (Kind::Like, 12), (Kind::Share, 4), (Kind::Comment, 4)];
/// Watch times go up to this, so that both sides of the threshold of 2 s occur.
const MAX_WATCH_MS: u64 = 6_000;

/// Numbers drawn by Zipf's law: the first of `n` most often.
#[derive(Debug, Clone)]
pub struct ZipfLaw {
    /// Ascending, the last is 1.
    cumulated: Vec<f64>,
}

impl ZipfLaw {
    /// Over 0 to `n - 1`, the k-th with weight `1 / (k + 1)^exponent`. `n` is at least 1.
    pub fn new(n: usize, exponent: f64) -> Self {
        let weights = (1..=n.max(1)).map(|rank| (rank as f64).powf(-exponent));
        let mut cumulated: Vec<f64> = weights
            .scan(0.0, |sum, weight| {
                *sum += weight;
                Some(*sum)
            })
            .collect();
        let total = cumulated.last().copied().unwrap_or(1.0);
        for sum in &mut cumulated {
            *sum /= total;
        }
        Self { cumulated }
    }

    /// The number at `at`, from 0 up to 1.
    pub fn number_at(&self, at: f64) -> usize {
        self.cumulated.partition_point(|sum| *sum <= at).min(self.cumulated.len() - 1)
    }
}

/// The content of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PostAction {
    /// An interaction; `watch_time` has the time watched.
    Interact(Kind, u64),
    /// A comment with a text.
    Comment,
}

/// One post.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostEvent {
    /// Its own identity, by which it counts once.
    pub id: String,
    /// For comments, which one of all comments, from 0.
    pub comment_index: usize,
    /// When, after the start.
    pub post_after: Duration,
    /// The number of the video.
    pub video: usize,
    /// The number of the user.
    pub user_number: u32,
    /// The content of the event.
    pub post_action: PostAction,
}

/// All events that a run will post, and when.
#[derive(Debug, Clone)]
pub struct PostingPlan {
    name_prefix: String,
    videos: usize,
    zipf: ZipfLaw,
    seed: u64,
}

impl PostingPlan {
    /// A plan over `videos` videos that nobody else uses, by the prefix of their names.
    pub fn new(prefix: String, videos: usize, exponent: f64, seed: u64) -> Self {
        Self { name_prefix: prefix, videos: videos.max(1), zipf: ZipfLaw::new(videos, exponent), seed }
    }

    /// Videos that viewers and posters use.
    pub const fn videos(&self) -> usize {
        self.videos
    }

    /// The video that only the probe touches; it comes after all others.
    pub const fn probe_video(&self) -> usize {
        self.videos
    }

    /// What all names of this run begin with.
    pub fn prefix(&self) -> &str {
        &self.name_prefix
    }

    /// A video's id.
    pub fn video(&self, video: usize) -> String {
        format!("{}-v{video}", self.name_prefix)
    }

    /// A video's owner.
    pub fn owner_of(&self, video: usize) -> String {
        format!("{}-o{}", self.name_prefix, video / VIDEOS_PER_OWNER)
    }

    /// The video that each viewer watches.
    pub fn watched_videos(&self, viewers: usize) -> Vec<usize> {
        let mut random = self.random_stream(1);
        (0..viewers).map(|_| self.zipf.number_at(random.random())).collect()
    }

    /// One view of every video, before all else: from then on each exists and has its owner.
    pub fn opening_views(&self) -> impl Iterator<Item = PostEvent> + Send + use<> {
        let prefix = self.name_prefix.clone();
        (0..=self.videos).map(move |video| PostEvent {
            id: format!("{prefix}-s{video}"),
            comment_index: 0,
            post_after: Duration::ZERO,
            video,
            user_number: 0,
            post_action: PostAction::Interact(Kind::View, 0),
        })
    }

    /// Interactions, `rate` a second.
    pub fn interaction_events(
        &self,
        rate: f64,
        duration: Duration,
    ) -> impl Iterator<Item = PostEvent> + Send + use<> {
        let (mut random, zipf, prefix) = (self.random_stream(2), self.zipf.clone(), self.name_prefix.clone());
        even_times(rate, duration).enumerate().map(move |(number, at)| {
            let (video, user) = (zipf.number_at(random.random()), random.random_range(1..=USER_COUNT));
            let kind = kind_at(random.random_range(0..100));
            let watched = random.random_range(0..=MAX_WATCH_MS);
            let action = PostAction::Interact(kind, if kind == Kind::WatchTime { watched } else { 0 });
            PostEvent {
                id: format!("{prefix}-i{number}"),
                comment_index: number,
                post_after: at,
                video,
                user_number: user,
                post_action: action,
            }
        })
    }

    /// Comments, `rate` a second.
    pub fn comment_events(
        &self,
        rate: f64,
        duration: Duration,
    ) -> impl Iterator<Item = PostEvent> + Send + use<> {
        let (mut random, zipf, prefix) = (self.random_stream(3), self.zipf.clone(), self.name_prefix.clone());
        even_times(rate, duration).enumerate().map(move |(number, at)| {
            let (video, user) = (zipf.number_at(random.random()), random.random_range(1..=USER_COUNT));
            PostEvent {
                id: format!("{prefix}-c{number}"),
                comment_index: number,
                post_after: at,
                video,
                user_number: user,
                post_action: PostAction::Comment,
            }
        })
    }

    /// The probe's view of its own video.
    pub fn probe_event(&self, number: usize) -> PostEvent {
        let action = PostAction::Interact(Kind::View, 0);
        PostEvent {
            id: format!("{}-p{number}", self.name_prefix),
            comment_index: number,
            post_after: Duration::ZERO,
            video: self.probe_video(),
            user_number: 0,
            post_action: action,
        }
    }

    /// Where an event is posted, and its body.
    pub fn request_of(&self, event: &PostEvent) -> (&'static str, Value) {
        let (video, user) = (self.video(event.video), format!("{}-u{}", self.name_prefix, event.user_number));
        match event.post_action {
            PostAction::Comment => {
                let comment = comment_text(event.comment_index);
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

    fn random_stream(&self, stream: u64) -> StdRng {
        StdRng::seed_from_u64(self.seed.wrapping_mul(8).wrapping_add(stream))
    }
}

/// A comment's text says which one it is, so that it is recognised whatever identity the system gives it.
pub fn comment_text(number: usize) -> String {
    format!("comment {number} of this run: \"schön\" & good 🎬")
}

/// Which comment a text is.
pub fn comment_number(text: &str) -> Option<usize> {
    let number = text.strip_prefix("comment ")?.split_once(' ')?.0.parse().ok()?;
    (comment_text(number) == text).then_some(number)
}

/// How many of `rate` a second come within `duration`.
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
            assert_eq!(part > 0, kind.takes_back().is_none(), "{}", kind.name());
        }
        assert_eq!(KIND_HUNDREDTHS.map(|(_, part)| part).iter().sum::<u32>(), 100);
    }

    #[test]
    fn zipf_gives_each_its_share() {
        let zipf = ZipfLaw::new(4, 1.0);
        let mut counts = [0; 4];
        (0..25_000).for_each(|n| counts[zipf.number_at(f64::from(n) / 25_000.0)] += 1);
        // 12, 6, 4 and 3 parts of 25.
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
        assert_eq!(kinds.len(), 5);
        for event in plan(3).interaction_events(1000.0, Duration::from_secs(1)) {
            let (_, body) = plan(3).request_of(&event);
            assert_eq!(body.get("watch_time").is_some(), body["type"] == "watch_time", "{body}");
        }
    }
}
