//! What a reader knows of who serves which video.
//!
//! Managers decide; a reader asks them, remembers for a moment, and hears of moves with its heartbeats. While no
//! manager answers it serves what it is asked for, for any reader can deliver any video, unless it knows better.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use liverank_core::{ReaderId, VideoId};
use liverank_shell::Health;
use liverank_shell::peer::{PeerError, Replicas};
use liverank_shell::wire::{Moved, Route};
use serde_json::json;

/// How long a manager's answer is believed: a move is heard of with the next heartbeat anyway.
const FRESH: Duration = Duration::from_secs(2);
/// How long it is still better than nothing when no manager answers.
const STALE: Duration = Duration::from_secs(30);
/// How long a viewer may be kept waiting for a manager.
const ASK_WITHIN: Duration = Duration::from_secs(2);
/// After no manager answered, how long none is asked: viewers who come meanwhile are served at once.
const AWAY: Duration = Duration::from_secs(1);
/// Videos remembered: more than a reader ever serves, so that forgetting all of them hardly ever happens.
const MAX_ROUTES: usize = 50_000;

/// Where a viewer of a video belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Here.
    Here,
    /// At the reader with this public address.
    Elsewhere(String),
    /// Not here, and it is not known where.
    Nowhere,
}

/// See the module.
pub struct Placement {
    me: ReaderId,
    managers: Option<Replicas>,
    health: Health,
    routes: Mutex<HashMap<VideoId, Arc<Entry>>>,
    highest_epoch: AtomicU64,
    away_until: Mutex<Option<Instant>>,
}

#[derive(Default)]
struct Entry {
    /// One asks, the others wait and then find the answer.
    asking: tokio::sync::Mutex<()>,
    known: Mutex<Option<Known>>,
}

#[derive(Debug, Clone)]
struct Known {
    epoch: u64,
    /// Whether this reader is one of them.
    here: bool,
    /// The best of the others.
    elsewhere: Option<String>,
    at: Instant,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Known {
    fn verdict(self, leaving: bool) -> Verdict {
        match self.elsewhere {
            _ if self.here && !leaving => Verdict::Here,
            Some(url) => Verdict::Elsewhere(url),
            None => Verdict::Nowhere,
        }
    }
}

impl Placement {
    /// Of reader `me`; without managers it serves everything.
    pub fn new(me: ReaderId, managers: Option<Replicas>, health: Health) -> Self {
        Self {
            me,
            managers,
            health,
            routes: Mutex::default(),
            highest_epoch: AtomicU64::new(0),
            away_until: Mutex::default(),
        }
    }

    /// The highest epoch heard of.
    pub fn highest_epoch(&self) -> u64 {
        self.highest_epoch.load(Ordering::Relaxed)
    }

    /// Where a viewer of `video` belongs. `leaving`: this reader takes no new viewers.
    pub async fn verdict(&self, video: &VideoId, leaving: bool) -> Verdict {
        let alone = if leaving { Verdict::Nowhere } else { Verdict::Here };
        let Some(managers) = &self.managers else { return alone };
        let entry = self.entry(video);
        if let Some(known) = entry.known_for(FRESH) {
            return known.verdict(leaving);
        }
        let _one_at_a_time = entry.asking.lock().await;
        if entry.known_for(FRESH).is_none() && !self.managers_are_away() {
            match self.ask(managers, video).await {
                Ok(route) => self.learn(&entry, &route),
                // It refused to place the video: then nobody is better placed than us.
                Err(PeerError::Refused { .. }) => return alone,
                Err(PeerError::Unavailable(_)) => {
                    *lock(&self.away_until) = Some(Instant::now() + AWAY);
                }
            }
        }
        entry.known_for(STALE).map_or(alone, |known| known.verdict(leaving))
    }

    async fn ask(&self, managers: &Replicas, video: &VideoId) -> Result<Route, PeerError> {
        let question = json!({ "videoid": video });
        let asked = managers.post(&["route"], &question);
        let answer = tokio::time::timeout(ASK_WITHIN, asked)
            .await
            .unwrap_or_else(|_| Err(PeerError::Unavailable("no answer in time".into())));
        let state = match &answer {
            Err(PeerError::Unavailable(reason)) => Err(reason.clone()),
            _ => Ok(()),
        };
        self.health.dependency("manager", state);
        answer
    }

    fn managers_are_away(&self) -> bool {
        lock(&self.away_until).is_some_and(|until| Instant::now() < until)
    }

    fn learn(&self, entry: &Entry, route: &Route) {
        let others = route.readers.iter().filter(|reader| reader.id != self.me);
        entry.note(Known {
            epoch: route.epoch,
            here: route.readers.iter().any(|reader| reader.id == self.me),
            elsewhere: others.map(|reader| reader.public_url.clone()).next(),
            at: Instant::now(),
        });
        self.highest_epoch.fetch_max(route.epoch, Ordering::Relaxed);
    }

    /// Notes that a video has moved away. `false`: that is the word of somebody who has not heard of a later move.
    pub fn moved(&self, moved: &Moved) -> bool {
        self.highest_epoch.fetch_max(moved.epoch, Ordering::Relaxed);
        self.entry(&moved.videoid).note(Known {
            epoch: moved.epoch,
            here: false,
            elsewhere: Some(moved.reader_url.clone()).filter(|url| !url.is_empty()),
            at: Instant::now(),
        })
    }

    /// Forgets what is known, because this reader is about to leave and will be left out of every route.
    pub fn forget(&self) {
        lock(&self.routes).clear();
    }

    fn entry(&self, video: &VideoId) -> Arc<Entry> {
        let mut routes = lock(&self.routes);
        if routes.len() >= MAX_ROUTES && !routes.contains_key(video) {
            routes.retain(|_, entry| entry.known_for(FRESH).is_some());
            if routes.len() >= MAX_ROUTES {
                routes.clear();
            }
        }
        Arc::clone(routes.entry(video.clone()).or_default())
    }
}

impl Entry {
    fn known_for(&self, time: Duration) -> Option<Known> {
        lock(&self.known).as_ref().filter(|known| known.at.elapsed() < time).cloned()
    }

    /// An older epoch than the one known is the word of somebody who has not heard yet: it changes nothing, and is
    /// asked again before long. Answers whether it was news.
    fn note(&self, news: Known) -> bool {
        let mut known = lock(&self.known);
        if known.as_ref().is_some_and(|old| old.epoch > news.epoch && old.at.elapsed() < STALE) {
            return false;
        }
        *known = Some(news);
        true
    }
}

#[cfg(test)]
mod tests {
    use liverank_shell::wire::RouteReader;

    use super::*;

    fn placement() -> Placement {
        Placement::new(ReaderId::parse("me").unwrap(), None, Health::default())
    }

    fn video() -> VideoId {
        VideoId::parse("v").unwrap()
    }

    fn route(epoch: u64, readers: &[&str]) -> Route {
        let reader = |id: &&str| RouteReader {
            id: ReaderId::parse(id).unwrap(),
            public_url: format!("http://{id}"),
            internal_url: String::new(),
        };
        Route { videoid: video(), epoch, readers: readers.iter().map(reader).collect() }
    }

    fn verdict(placement: &Placement, leaving: bool) -> Option<Verdict> {
        placement.entry(&video()).known_for(FRESH).map(|known| known.verdict(leaving))
    }

    #[test]
    fn one_of_its_readers_serves_it_and_sends_viewers_to_another_when_leaving() {
        let placement = placement();
        placement.learn(&placement.entry(&video()), &route(3, &["me", "other"]));
        assert_eq!(verdict(&placement, false), Some(Verdict::Here));
        assert_eq!(verdict(&placement, true), Some(Verdict::Elsewhere("http://other".into())));
        placement.learn(&placement.entry(&video()), &route(4, &["me"]));
        assert_eq!(verdict(&placement, true), Some(Verdict::Nowhere));
        assert_eq!(placement.highest_epoch(), 4);
    }

    #[test]
    fn an_older_epoch_changes_nothing() {
        let placement = placement();
        let moved = Moved { videoid: video(), epoch: 7, reader_url: "http://other".into() };
        assert!(placement.moved(&moved));
        placement.learn(&placement.entry(&video()), &route(6, &["me"]));
        assert_eq!(verdict(&placement, false), Some(Verdict::Elsewhere("http://other".into())));
        placement.learn(&placement.entry(&video()), &route(8, &["me"]));
        assert_eq!(verdict(&placement, false), Some(Verdict::Here));
        assert!(!placement.moved(&moved));
        assert_eq!(verdict(&placement, false), Some(Verdict::Here));
    }

    #[tokio::test]
    async fn without_managers_it_serves_everything_until_it_leaves() {
        let placement = placement();
        assert_eq!(placement.verdict(&video(), false).await, Verdict::Here);
        assert_eq!(placement.verdict(&video(), true).await, Verdict::Nowhere);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let placement = placement();
        for at in 0..=MAX_ROUTES {
            placement.entry(&VideoId::parse(&format!("v{at}")).unwrap());
        }
        assert!(lock(&placement.routes).len() <= MAX_ROUTES);
    }
}
