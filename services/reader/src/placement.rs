//! The reader's decision whether it serves a viewer: a [`ReaderAgent`] with a clock, and the requests to managers.
//!
//! Managers decide which reader serves which video. A reader asks the managers, remembers an answer for a moment, and
//! learns in the answers to its heartbeats which viewers it has to hand over. While no manager answers, the reader
//! serves every video that it is asked for, because any reader can deliver any video, unless it remembers a better
//! reader.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use liverank_core::epoch::is_plausible_epoch;
use liverank_core::handover::reader_agent::{Admission, AgentLimits, ReaderAgent};
use liverank_core::handover::{AssignmentNotice, HandOver};
use liverank_core::{ReaderId, VideoId};
use liverank_protocol::{Route, RouteRequest};
use liverank_runtime::peer::{PeerError, ServiceReplicas};
use liverank_runtime::{Health, now_micros};

/// The time for which a manager's answer is trusted without asking again: the next heartbeat reports a move anyway.
const ANSWER_FRESH_FOR: Duration = Duration::from_secs(2);
/// The time for which a manager's answer is still used if no manager answers.
const STALE_ANSWER_USABLE_FOR: Duration = Duration::from_secs(30);
/// The time for which a video is kept ready for viewers who are to be sent here: several times the duration of a
/// hand-over order.
const WARM_FOR: Duration = Duration::from_secs(30);
/// The time for which an order to hand viewers over is valid: three heartbeats.
const HAND_OVER_VALID_FOR: Duration = Duration::from_secs(3);
/// The time that a viewer may be kept waiting for a manager's answer.
const MANAGER_ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// The time for which no manager is asked after none answered: viewers who come meanwhile are served at once.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// The maximum number of videos remembered: more than a reader ever serves, so that one is hardly ever forgotten.
const MAX_VIDEOS: usize = 50_000;

/// The reader to which a viewer of a video belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ViewerPlacement {
    /// This reader serves the video.
    Here,
    /// Another reader serves the video; the text is its public URL.
    Elsewhere(String),
    /// This reader does not serve the video, and no other reader is known that does.
    Nowhere,
    /// Nobody knows the video, and too many new videos were asked for from the viewer's address.
    TooManyNewVideos,
}

/// Decides by the managers' answers whether a viewer belongs to this reader.
pub struct PlacementAgent {
    own_id: ReaderId,
    managers: Option<ServiceReplicas>,
    health: Health,
    start: Instant,
    reader_agent: Mutex<ReaderAgent>,
    /// One lock for each video that managers are being asked about: one task asks, the others wait for the lock and
    /// then find the answer. There are at most as many entries as connections.
    running_queries: Mutex<HashMap<VideoId, Arc<tokio::sync::Mutex<()>>>>,
    managers_away_until: Mutex<Option<Instant>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the placement that an admission decides by itself; `None` if it leaves the decision to a manager.
fn placement_of_admission(admission: Admission) -> Option<ViewerPlacement> {
    match admission {
        Admission::Accept => Some(ViewerPlacement::Here),
        Admission::Redirect(url) if url.is_empty() => Some(ViewerPlacement::Nowhere),
        Admission::Redirect(url) => Some(ViewerPlacement::Elsewhere(url)),
        Admission::Refuse => Some(ViewerPlacement::Nowhere),
        Admission::AskManagers { .. } => None,
    }
}

impl PlacementAgent {
    /// Creates the agent that places the viewers of reader `me`; the reader keeps a video for `linger` after its last
    /// viewer has left. Without managers the reader serves all videos.
    pub fn new(me: ReaderId, managers: Option<ServiceReplicas>, health: Health, linger: Duration) -> Self {
        let bounds = AgentLimits {
            notice_cache_time: ANSWER_FRESH_FOR,
            max_stale_notice_time: STALE_ANSWER_USABLE_FOR,
            keep_warm_for: WARM_FOR,
            keep_empty_for: linger,
            hand_over_valid_for: HAND_OVER_VALID_FOR,
            max_videos: MAX_VIDEOS,
        };
        Self {
            own_id: me,
            managers,
            health,
            start: Instant::now(),
            reader_agent: Mutex::new(ReaderAgent::new(bounds)),
            running_queries: Mutex::default(),
            managers_away_until: Mutex::default(),
        }
    }

    /// Calls `act` with the reader's agent and the time since the start.
    pub fn with_agent<T>(&self, act: impl FnOnce(&mut ReaderAgent, Duration) -> T) -> T {
        let mut holder = lock(&self.reader_agent);
        // The time is read under the lock, so that the agent never sees it go back.
        act(&mut holder, self.start.elapsed())
    }

    /// Returns the reader to which a viewer of `video` belongs; asks a manager if that is not known. `sent_under` is
    /// the assignment epoch under which a gateway sent the viewer here. `direct_address` is the address of a viewer who
    /// connects directly, for which a manager counts new videos.
    pub async fn place_viewer(
        &self,
        video: &VideoId,
        sent_under: Option<u64>,
        direct_address: Option<IpAddr>,
    ) -> ViewerPlacement {
        let Some(managers) = &self.managers else {
            return if self.with_agent(|holder, _| holder.is_leaving()) {
                ViewerPlacement::Nowhere
            } else {
                ViewerPlacement::Here
            };
        };
        let admit = || self.with_agent(|holder, now| holder.admit_viewer(now, video, sent_under));
        if let Some(verdict) = placement_of_admission(admit()) {
            return verdict;
        }
        let turn = Arc::clone(lock(&self.running_queries).entry(video.clone()).or_default());
        let asked = {
            let _one_at_a_time = turn.lock().await;
            match admit() {
                Admission::AskManagers { known } if !self.managers_are_away() => {
                    let question = RouteRequest {
                        videoid: video.clone(),
                        epoch: Some(known),
                        viewer_address: direct_address,
                    };
                    Some(self.ask_managers(managers, question).await)
                }
                _ => None,
            }
        };
        lock(&self.running_queries).retain(|_, turn| Arc::strong_count(turn) > 1);
        match asked {
            // Of a viewer who comes by a gateway, the gateway has counted the new videos.
            Some(Err(PeerError::Refused { status: StatusCode::TOO_MANY_REQUESTS, .. }))
                if direct_address.is_some() =>
            {
                ViewerPlacement::TooManyNewVideos
            }
            // The manager refused to place the video: then no reader is better than this one, unless this one is
            // leaving.
            Some(Err(PeerError::Refused { .. })) if !self.with_agent(|holder, _| holder.is_leaving()) => {
                ViewerPlacement::Here
            }
            _ => placement_of_admission(
                self.with_agent(|holder, now| holder.admit_after_answer(now, video, sent_under)),
            )
            .unwrap_or(ViewerPlacement::Nowhere),
        }
    }

    async fn ask_managers(
        &self,
        managers: &ServiceReplicas,
        question: RouteRequest,
    ) -> Result<(), PeerError> {
        let asked = managers.post(&["route"], &question);
        let answer: Result<Route, PeerError> = tokio::time::timeout(MANAGER_ANSWER_TIMEOUT, asked)
            .await
            .unwrap_or_else(|_| Err(PeerError::Unavailable("no answer in time".into())));
        let state = match &answer {
            Err(PeerError::Unavailable(reason)) => {
                *lock(&self.managers_away_until) = Some(Instant::now() + ASK_AGAIN_AFTER);
                Err(reason.clone())
            }
            _ => Ok(()),
        };
        self.health.note_dependency("manager", state);
        let answer = answer?;
        // An implausible epoch is not trusted, because it would exclude every later one.
        if is_plausible_epoch(answer.epoch, now_micros()) {
            self.learn_route(&question.videoid, &answer);
        }
        Ok(())
    }

    fn managers_are_away(&self) -> bool {
        lock(&self.managers_away_until).is_some_and(|until| Instant::now() < until)
    }

    fn learn_route(&self, video: &VideoId, route: &Route) {
        let others = || route.readers.iter().filter(|reader| reader.id != self.own_id);
        let open = others().find(|reader| reader.takes).or_else(|| others().next());
        let told = AssignmentNotice {
            epoch: route.epoch,
            includes_this_reader: route.readers.iter().any(|reader| reader.id == self.own_id),
            other_reader_url: open.map(|reader| reader.public_url.clone()),
            other_accepts_viewers: open.is_some_and(|reader| reader.takes),
        };
        self.with_agent(|holder, now| holder.note_assignment(now, video, told));
    }

    /// Returns the public URL of another reader of the video that accepts viewers; `None` if no manager has named one
    /// lately.
    pub fn other_accepting_reader(&self, video: &VideoId) -> Option<String> {
        self.with_agent(|holder, now| holder.other_accepting_reader(now, video).map(str::to_owned))
            .filter(|url| !url.is_empty())
    }

    /// Returns the orders that are in force to hand over the viewers of a video.
    pub fn active_hand_overs(&self) -> Vec<HandOver> {
        self.with_agent(|holder, now| holder.active_hand_overs(now).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use liverank_protocol::RouteReader;

    use super::*;

    fn placement() -> PlacementAgent {
        PlacementAgent::new(ReaderId::parse("me").unwrap(), None, Health::default(), Duration::ZERO)
    }

    fn video() -> VideoId {
        VideoId::parse("v").unwrap()
    }

    fn learn_route(placement: &PlacementAgent, epoch: u64, readers: &[(&str, bool)]) {
        let reader = |(id, takes): &(&str, bool)| RouteReader {
            id: ReaderId::parse(id).unwrap(),
            public_url: format!("http://{id}"),
            internal_url: String::new(),
            load: 0,
            takes: *takes,
            wanted: 0,
            spare: 0,
            zone: None,
            pass_key: None,
        };
        let route =
            Route { videoid: video(), epoch, readers: readers.iter().map(reader).collect(), stale: false };
        placement.learn_route(&video(), &route);
    }

    fn known_verdict(placement: &PlacementAgent) -> Option<ViewerPlacement> {
        placement_of_admission(placement.with_agent(|holder, now| holder.admit_viewer(now, &video(), None)))
    }

    #[test]
    fn a_reader_of_the_video_serves_it_and_redirects_when_leaving() {
        let placement = placement();
        learn_route(&placement, 3, &[("me", true), ("shut", false), ("other", true)]);
        assert_eq!(known_verdict(&placement), Some(ViewerPlacement::Here));
        placement.with_agent(|holder, now| holder.begin_leaving(now, Duration::from_secs(40), false));
        assert_eq!(known_verdict(&placement), Some(ViewerPlacement::Elsewhere("http://other".into())));
        learn_route(&placement, 2, &[("me", true)]);
        assert_eq!(known_verdict(&placement), Some(ViewerPlacement::Elsewhere("http://other".into())));
        assert_eq!(placement.with_agent(|holder, _| holder.highest_epoch()), 3);
    }

    #[test]
    fn a_full_reader_names_another_one_only_where_that_takes_viewers() {
        let placement = placement();
        assert_eq!(placement.other_accepting_reader(&video()), None);
        learn_route(&placement, 3, &[("me", false), ("shut", false)]);
        assert_eq!(placement.other_accepting_reader(&video()), None);
        learn_route(&placement, 4, &[("shut", false), ("me", false), ("other", true)]);
        assert_eq!(placement.other_accepting_reader(&video()), Some("http://other".into()));
    }

    #[tokio::test]
    async fn without_managers_a_reader_serves_every_video_until_it_leaves() {
        let placement = placement();
        assert_eq!(placement.place_viewer(&video(), None, None).await, ViewerPlacement::Here);
        placement.with_agent(|holder, now| holder.begin_leaving(now, Duration::from_secs(4), true));
        assert_eq!(placement.place_viewer(&video(), None, None).await, ViewerPlacement::Nowhere);
    }
}
