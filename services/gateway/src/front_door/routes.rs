//! The routes of videos: which reader serves a video, as the managers answered in the last second.
//!
//! When a reader dies, all its viewers ask for a route at once; the viewers of one video share one request to the
//! managers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use liverank_core::handover::routing::{RouteOption, choose_route_reader};
use liverank_core::{ReaderId, VideoId};
use liverank_protocol::{Route, RouteReader, RouteRequest};
use liverank_runtime::peer::PeerError;
use tokio::sync::OnceCell;

use crate::dependency::PeerService;

/// Time for which a route is used for other viewers: viewers that arrive together share it. A move is noticed within
/// this time at most, through the old reader's 307.
const ROUTE_LIFETIME: Duration = Duration::from_secs(1);
/// Time for which a failure to get a route is kept: while the managers are away, they are asked a few times a second
/// for each video, not once for each viewer.
const FAILED_ROUTE_LIFETIME: Duration = Duration::from_millis(250);
/// Maximum number of cached routes, one for each video whose viewers came within the last second. If the cache is full,
/// the request of each viewer of another video goes to the managers.
const MAX_CACHED_ROUTES: usize = 10_000;

/// A request for a video's route, with its answer once there is one.
#[derive(Clone)]
struct CachedRoute {
    asked_at: Instant,
    route_answer: Arc<OnceCell<Option<Arc<KnownRoute>>>>,
}

impl CachedRoute {
    fn requested_now() -> Self {
        Self { asked_at: Instant::now(), route_answer: Arc::default() }
    }

    fn is_fresh(&self) -> bool {
        let keep = if matches!(self.route_answer.get(), Some(None)) {
            FAILED_ROUTE_LIFETIME
        } else {
            ROUTE_LIFETIME
        };
        self.asked_at.elapsed() < keep
    }
}

/// A route, with the numbers of viewers that were sent to its readers since it was asked for.
pub(super) struct KnownRoute {
    route: Route,
    /// The number of viewers that were sent to each reader, in the order of the route's readers.
    viewers_sent: Mutex<Vec<u64>>,
}

impl KnownRoute {
    fn new(route: Route) -> Self {
        let viewers_sent = Mutex::new(vec![0; route.readers.len()]);
        Self { route, viewers_sent }
    }

    /// The epoch of the video's assignment.
    pub(super) const fn epoch(&self) -> u64 {
        self.route.epoch
    }

    /// Returns the reader for the `choice`-th attempt of a viewer, by [`choose_route_reader`], and counts the viewer there;
    /// `None` if there is no reader. `is_preferred` says of a reader, and of the number of viewers that were sent to it,
    /// whether it is preferred for its zone.
    pub(super) fn choose_reader(
        &self,
        is_preferred: impl Fn(&RouteReader, u64) -> bool,
        tried: &[ReaderId],
        choice: u32,
        lots: [u32; 2],
    ) -> Option<&RouteReader> {
        let mut sent = self.viewers_sent.lock().unwrap_or_else(PoisonError::into_inner);
        let option = |(reader, sent)| -> RouteOption<'_> {
            let (reader, sent): (&RouteReader, &u64) = (reader, sent);
            RouteOption {
                reader: &reader.id,
                takes_viewers: reader.takes,
                load_thousandths: reader.load,
                wanted_viewers: reader.wanted,
                spare_viewers: reader.spare,
                sent_viewers: *sent,
                is_near: is_preferred(reader, *sent),
            }
        };
        let options: Vec<RouteOption<'_>> = self.route.readers.iter().zip(sent.iter()).map(option).collect();
        let chosen = choose_route_reader(&options, tried, choice, lots)?;
        sent[chosen] += 1;
        drop(sent);
        Some(&self.route.readers[chosen])
    }
}

/// The routes of the last second, by video.
#[derive(Default)]
pub(crate) struct RouteCache(Mutex<HashMap<VideoId, CachedRoute>>);

impl RouteCache {
    /// Returns the route of `video`, from a request to the managers made at `since` or later; `None` if no manager
    /// knows a reader for it.
    pub(super) async fn find_route(
        &self,
        managers: &PeerService,
        video: &VideoId,
        since: Option<Instant>,
    ) -> Option<Arc<KnownRoute>> {
        let asked = self.cached_or_new_route(video, since);
        asked.route_answer.get_or_init(|| ask_managers(managers, video)).await.clone()
    }

    fn cached_or_new_route(&self, video: &VideoId, since: Option<Instant>) -> CachedRoute {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(asked) = kept.get(video)
            && asked.is_fresh()
            && since.is_none_or(|since| asked.asked_at >= since)
        {
            return asked.clone();
        }
        let asked = CachedRoute::requested_now();
        if kept.len() >= MAX_CACHED_ROUTES {
            kept.retain(|_, asked| asked.is_fresh());
        }
        if kept.len() < MAX_CACHED_ROUTES {
            kept.insert(video.clone(), asked.clone());
        }
        asked
    }
}

async fn ask_managers(managers: &PeerService, video: &VideoId) -> Option<Arc<KnownRoute>> {
    let replicas = managers.replicas.as_ref()?;
    // A manager that is cut off from the store would send viewers to where the video was before.
    let question = RouteRequest { videoid: video.clone(), epoch: None, viewer_address: None };
    match replicas.post_until_accepted(&["route"], &question, |route: &Route| !route.stale).await {
        Ok(route) => {
            managers.dependency.note_answered();
            (!route.readers.is_empty()).then(|| Arc::new(KnownRoute::new(route)))
        }
        // A manager that answers but knows no reader is not away; in both cases the viewer tries again.
        Err(PeerError::Refused { .. }) => None,
        Err(PeerError::Unavailable(reason)) => {
            managers.dependency.note_failed(reason);
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
        let first = cache.cached_or_new_route(&video("v"), None);
        let same = cache.cached_or_new_route(&video("v"), None);
        assert!(Arc::ptr_eq(&first.route_answer, &same.route_answer));
        let later = cache.cached_or_new_route(&video("v"), Some(Instant::now()));
        assert!(!Arc::ptr_eq(&first.route_answer, &later.route_answer));
        let also_later = cache.cached_or_new_route(&video("v"), Some(later.asked_at));
        assert!(Arc::ptr_eq(&later.route_answer, &also_later.route_answer));
    }

    #[test]
    fn a_preferred_reader_comes_first_and_no_reader_gets_more_than_it_lacks() {
        let reader = |id: &str, wanted: u64| RouteReader {
            id: ReaderId::parse(id).unwrap(),
            public_url: String::new(),
            internal_url: String::new(),
            load: 0,
            takes: true,
            wanted,
            spare: 0,
            zone: None,
            pass_key: None,
        };
        let chosen = |is_preferred: &dyn Fn(&RouteReader, u64) -> bool| -> Vec<String> {
            let readers = vec![reader("a", 2), reader("b", 3), reader("c", 1)];
            let route = KnownRoute::new(Route { videoid: video("v"), epoch: 1, readers, stale: false });
            let choose = |nth: u32| route.choose_reader(is_preferred, &[], 0, [nth << 29, 0]).unwrap();
            (0..6).map(|nth| choose(nth).id.to_string()).collect()
        };
        assert_eq!(chosen(&|reader, _| reader.id.as_str() == "b")[..3], ["b", "b", "b"]);
        let at_most_one = chosen(&|reader, sent| reader.id.as_str() == "b" && sent < 1);
        assert_eq!(at_most_one[..2], ["b", "a"]);
        for mut all in [chosen(&|_, _| false), chosen(&|reader, _| reader.id.as_str() == "c"), at_most_one] {
            all.sort();
            assert_eq!(all, ["a", "a", "b", "b", "b", "c"]);
        }
    }

    #[test]
    fn cached_routes_are_bounded() {
        let cache = RouteCache::default();
        for n in 0..MAX_CACHED_ROUTES + 10 {
            cache.cached_or_new_route(&video(&n.to_string()), None);
        }
        assert!(cache.0.lock().unwrap().len() <= MAX_CACHED_ROUTES);
    }
}
