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
pub struct Zipf {
    /// Ascending, the last is 1.
    cumulated: Vec<f64>,
}

impl Zipf {
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
    pub fn at(&self, at: f64) -> usize {
        self.cumulated.partition_point(|sum| *sum <= at).min(self.cumulated.len() - 1)
    }
}

/// The content of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// An interaction; `watch_time` has the time watched.
    Interact(Kind, u64),
    /// A comment with a text.
    Comment,
}

/// One post.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its own identity, by which it counts once.
    pub id: String,
    /// For comments, which one of all comments, from 0.
    pub number: usize,
    /// When, after the start.
    pub at: Duration,
    /// Which video.
    pub video: usize,
    /// Which user.
    pub user: u32,
    /// The content of the event.
    pub action: Action,
}

/// All events that a run will post, and when.
#[derive(Debug, Clone)]
pub struct Plan {
    prefix: String,
    videos: usize,
    zipf: Zipf,
    seed: u64,
}

impl Plan {
    /// A plan over `videos` videos that nobody else uses, by the prefix of their names.
    pub fn new(prefix: String, videos: usize, exponent: f64, seed: u64) -> Self {
        Self { prefix, videos: videos.max(1), zipf: Zipf::new(videos, exponent), seed }
    }

    /// Videos that viewers and posters use.
    pub const fn videos(&self) -> usize {
        self.videos
    }

    /// The video that only the probe touches; it comes after all others.
    pub const fn probe(&self) -> usize {
        self.videos
    }

    /// What all names of this run begin with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// A video's id.
    pub fn video(&self, video: usize) -> String {
        format!("{}-v{video}", self.prefix)
    }

    /// A video's owner.
    pub fn owner(&self, video: usize) -> String {
        format!("{}-o{}", self.prefix, video / VIDEOS_PER_OWNER)
    }

    /// The video that each viewer watches.
    pub fn watched(&self, viewers: usize) -> Vec<usize> {
        let mut random = self.random_stream(1);
        (0..viewers).map(|_| self.zipf.at(random.random())).collect()
    }

    /// One view of every video, before all else: from then on each exists and has its owner.
    pub fn opening(&self) -> impl Iterator<Item = Event> + Send + use<> {
        let prefix = self.prefix.clone();
        (0..=self.videos).map(move |video| Event {
            id: format!("{prefix}-s{video}"),
            number: 0,
            at: Duration::ZERO,
            video,
            user: 0,
            action: Action::Interact(Kind::View, 0),
        })
    }

    /// Interactions, `rate` a second.
    pub fn interaction_events(
        &self,
        rate: f64,
        duration: Duration,
    ) -> impl Iterator<Item = Event> + Send + use<> {
        let (mut random, zipf, prefix) = (self.random_stream(2), self.zipf.clone(), self.prefix.clone());
        even_times(rate, duration).enumerate().map(move |(number, at)| {
            let (video, user) = (zipf.at(random.random()), random.random_range(1..=USER_COUNT));
            let kind = kind_at(random.random_range(0..100));
            let watched = random.random_range(0..=MAX_WATCH_MS);
            let action = Action::Interact(kind, if kind == Kind::WatchTime { watched } else { 0 });
            Event { id: format!("{prefix}-i{number}"), number, at, video, user, action }
        })
    }

    /// Comments, `rate` a second.
    pub fn comments(&self, rate: f64, duration: Duration) -> impl Iterator<Item = Event> + Send + use<> {
        let (mut random, zipf, prefix) = (self.random_stream(3), self.zipf.clone(), self.prefix.clone());
        even_times(rate, duration).enumerate().map(move |(number, at)| {
            let (video, user) = (zipf.at(random.random()), random.random_range(1..=USER_COUNT));
            Event { id: format!("{prefix}-c{number}"), number, at, video, user, action: Action::Comment }
        })
    }

    /// The probe's view of its own video.
    pub fn probing(&self, number: usize) -> Event {
        let action = Action::Interact(Kind::View, 0);
        Event {
            id: format!("{}-p{number}", self.prefix),
            number,
            at: Duration::ZERO,
            video: self.probe(),
            user: 0,
            action,
        }
    }

    /// Where an event is posted, and its body.
    pub fn request(&self, event: &Event) -> (&'static str, Value) {
        let (video, user) = (self.video(event.video), format!("{}-u{}", self.prefix, event.user));
        match event.action {
            Action::Comment => {
                let comment = comment_text(event.number);
                let body = json!({"videoid": video, "userid": user, "comment": comment, "idempotency_key": event.id});
                ("/comment", body)
            }
            Action::Interact(kind, watch_ms) => {
                let owner = self.owner(event.video);
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
pub fn count(rate: f64, duration: Duration) -> usize {
    (rate.max(0.0) * duration.as_secs_f64()).floor() as usize
}

fn even_times(rate: f64, duration: Duration) -> impl Iterator<Item = Duration> + Send {
    (0..count(rate, duration)).map(move |number| Duration::from_secs_f64(number as f64 / rate))
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

    fn plan(seed: u64) -> Plan {
        Plan::new("load-x".into(), 10, 1.1, seed)
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
        let zipf = Zipf::new(4, 1.0);
        let mut counts = [0; 4];
        (0..25_000).for_each(|n| counts[zipf.at(f64::from(n) / 25_000.0)] += 1);
        // 12, 6, 4 and 3 parts of 25.
        assert_eq!(counts.map(|count: u32| (count + 500) / 1000), [12, 6, 4, 3]);
        assert_eq!(zipf.at(1.0), 3);
        assert_eq!(Zipf::new(0, 1.1).at(0.5), 0);
    }

    #[test]
    fn a_seed_makes_the_same_plan_and_another_one_another() {
        let all = |seed| -> Vec<Event> {
            let plan = plan(seed);
            let second = Duration::from_secs(1);
            plan.interaction_events(100.0, second).chain(plan.comments(50.0, second)).collect()
        };
        assert_eq!(all(7), all(7));
        assert_ne!(all(7), all(8));
        assert_eq!(plan(7).watched(100), plan(7).watched(100));
    }

    #[test]
    fn posts_are_spread_evenly_and_each_has_its_own_identity() {
        let events: Vec<Event> = plan(1).interaction_events(4.0, Duration::from_secs(3)).collect();
        assert_eq!((events.len(), events[11].at), (12, Duration::from_millis(2750)));
        let ids: std::collections::HashSet<_> = plan(1)
            .opening()
            .chain(events)
            .chain(plan(1).comments(4.0, Duration::from_secs(3)))
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
            let (_, body) = plan(3).request(&event);
            assert_eq!(body.get("watch_time").is_some(), body["type"] == "watch_time", "{body}");
        }
    }
}
