//! Which reader serves a video, as the managers said a moment ago.
//!
//! When a reader dies, all its viewers ask at once: those of one video share one question.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use liverank_core::VideoId;
use liverank_protocol::{Route, RouteRequest};
use liverank_runtime::peer::PeerError;
use tokio::sync::OnceCell;

use crate::dependency::Peer;

/// How long an answer is used for others: a crowd that arrives together shares it; a move is noticed through the old
/// reader's 307 within this time at most.
const KEEP_ROUTE: Duration = Duration::from_secs(1);
/// How long a failure is: a manager that is away is asked a few times a second a video, not once a viewer.
const KEEP_FAILURE: Duration = Duration::from_millis(250);
/// Answers kept: videos whose viewers come within one second. Past it viewers ask for themselves.
const MAX_KEPT: usize = 10_000;

/// A question, and its answer once there is one.
#[derive(Clone)]
struct AskedRoute {
    asked_at: Instant,
    route_answer: Arc<OnceCell<Option<Arc<Route>>>>,
}

impl AskedRoute {
    fn asked_now() -> Self {
        Self { asked_at: Instant::now(), route_answer: Arc::default() }
    }

    fn is_fresh(&self) -> bool {
        let keep = if matches!(self.route_answer.get(), Some(None)) { KEEP_FAILURE } else { KEEP_ROUTE };
        self.asked_at.elapsed() < keep
    }
}

/// The answers of the last second.
#[derive(Default)]
pub(crate) struct RouteCache(Mutex<HashMap<VideoId, AskedRoute>>);

impl RouteCache {
    /// Where `video` is served, as asked at `since` or later; `None` where no manager knows a reader for it.
    pub(super) async fn find_route(
        &self,
        managers: &Peer,
        video: &VideoId,
        since: Option<Instant>,
    ) -> Option<Arc<Route>> {
        let asked = self.asked(video, since);
        asked.route_answer.get_or_init(|| ask_managers(managers, video)).await.clone()
    }

    fn asked(&self, video: &VideoId, since: Option<Instant>) -> AskedRoute {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(asked) = kept.get(video)
            && asked.is_fresh()
            && since.is_none_or(|since| asked.asked_at >= since)
        {
            return asked.clone();
        }
        let asked = AskedRoute::asked_now();
        if kept.len() >= MAX_KEPT {
            kept.retain(|_, asked| asked.is_fresh());
        }
        if kept.len() < MAX_KEPT {
            kept.insert(video.clone(), asked.clone());
        }
        asked
    }
}

async fn ask_managers(managers: &Peer, video: &VideoId) -> Option<Arc<Route>> {
    let replicas = managers.replicas.as_ref()?;
    // A manager that is cut off from the store would send viewers to where the video was before.
    let question = RouteRequest { videoid: video.clone(), epoch: None };
    match replicas.post_for(&["route"], &question, |route: &Route| !route.stale).await {
        Ok(route) => {
            managers.dependency.answered();
            (!route.readers.is_empty()).then(|| Arc::new(route))
        }
        // A manager that answers and knows no reader is not away; both are tried again.
        Err(PeerError::Refused { .. }) => None,
        Err(PeerError::Unavailable(reason)) => {
            managers.dependency.failed(managers.name, reason);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn video(id: &str) -> VideoId {
        VideoId::parse(id).unwrap()
    }

    #[test]
    fn a_route_lookup_is_shared_until_a_newer_one_is_needed() {
        let cache = RouteCache::default();
        let first = cache.asked(&video("v"), None);
        let same = cache.asked(&video("v"), None);
        assert!(Arc::ptr_eq(&first.route_answer, &same.route_answer));
        let later = cache.asked(&video("v"), Some(Instant::now()));
        assert!(!Arc::ptr_eq(&first.route_answer, &later.route_answer));
        let also_later = cache.asked(&video("v"), Some(later.asked_at));
        assert!(Arc::ptr_eq(&later.route_answer, &also_later.route_answer));
    }

    #[test]
    fn cached_routes_are_bounded() {
        let cache = RouteCache::default();
        for n in 0..MAX_KEPT + 10 {
            cache.asked(&video(&n.to_string()), None);
        }
        assert!(cache.0.lock().unwrap().len() <= MAX_KEPT);
    }
}
