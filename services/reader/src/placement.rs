//! What a reader knows of who serves which video: [`ReaderAgent`] with a clock, and the asking of managers.
//!
//! Managers decide; a reader asks them, remembers for a moment, and hears with its heartbeats whom it is to hand over.
//! While no manager answers it serves what it is asked for, for any reader can deliver any video, unless it knows better.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use liverank_core::epoch::is_plausible_epoch;
use liverank_core::handover::reader_agent::{Admission, AgentLimits, ReaderAgent};
use liverank_core::handover::{AssignmentNotice, HandOver};
use liverank_core::{ReaderId, VideoId};
use liverank_protocol::{Route, RouteRequest};
use liverank_runtime::peer::{PeerError, ServiceReplicas};
use liverank_runtime::{Health, now_micros};

/// How long a manager's answer is believed: a move is heard of with the next heartbeat anyway.
const ANSWER_FRESH_FOR: Duration = Duration::from_secs(2);
/// How long it is still better than nothing when no manager answers.
const STALE_ANSWER_USABLE_FOR: Duration = Duration::from_secs(30);
/// How long a video is held ready for viewers who are to be sent here: several times what an order takes.
const WARM_FOR: Duration = Duration::from_secs(30);
/// How long an order to hand over holds: three heartbeats.
const HAND_OVER_VALID_FOR: Duration = Duration::from_secs(3);
/// How long a viewer may be kept waiting for a manager.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// After no manager answered, how long none is asked: viewers who come meanwhile are served at once.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Videos remembered: more than a reader ever serves, so that forgetting hardly ever happens.
const MAX_VIDEOS: usize = 50_000;

/// Where a viewer of a video belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ViewerPlacement {
    /// This reader serves the video.
    Here,
    /// Another reader serves the video; this is its public address.
    Elsewhere(String),
    /// Not here, and it is not known where.
    Nowhere,
}

/// Decides whether a viewer belongs to this reader, by what managers say.
pub struct PlacementAgent {
    own_id: ReaderId,
    managers: Option<ServiceReplicas>,
    health: Health,
    start: Instant,
    holder: Mutex<ReaderAgent>,
    /// Videos that managers are being asked about: one asks, the others wait and then find the answer. Those who wait
    /// hold it; as many as there are connections.
    asking: Mutex<HashMap<VideoId, Arc<tokio::sync::Mutex<()>>>>,
    away_until: Mutex<Option<Instant>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What an admission comes to where nobody can be asked (any more).
fn verdict(admission: Admission) -> Option<ViewerPlacement> {
    match admission {
        Admission::Accept => Some(ViewerPlacement::Here),
        Admission::Redirect(url) if url.is_empty() => Some(ViewerPlacement::Nowhere),
        Admission::Redirect(url) => Some(ViewerPlacement::Elsewhere(url)),
        Admission::Refuse => Some(ViewerPlacement::Nowhere),
        Admission::Ask { .. } => None,
    }
}

impl PlacementAgent {
    /// Makes the placement of reader `me`. It keeps a video for `linger` after the last viewer left. Without managers it serves all
    /// videos.
    pub fn new(me: ReaderId, managers: Option<ServiceReplicas>, health: Health, linger: Duration) -> Self {
        let bounds = AgentLimits {
            answer_fresh_for: ANSWER_FRESH_FOR,
            answer_usable_for: STALE_ANSWER_USABLE_FOR,
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
            holder: Mutex::new(ReaderAgent::new(bounds)),
            asking: Mutex::default(),
            away_until: Mutex::default(),
        }
    }

    /// Acts on the holder, with the time.
    pub fn with_agent<T>(&self, act: impl FnOnce(&mut ReaderAgent, Duration) -> T) -> T {
        let mut holder = lock(&self.holder);
        // Under the lock, so that time never goes back in there.
        act(&mut holder, self.start.elapsed())
    }

    /// Where a viewer of `video` belongs who was sent here under the epoch `sent_under`, where that is known.
    pub async fn place_viewer(&self, video: &VideoId, sent_under: Option<u64>) -> ViewerPlacement {
        let Some(managers) = &self.managers else {
            return if self.with_agent(|holder, _| holder.is_leaving()) {
                ViewerPlacement::Nowhere
            } else {
                ViewerPlacement::Here
            };
        };
        let admit = || self.with_agent(|holder, now| holder.admit_viewer(now, video, sent_under));
        if let Some(verdict) = verdict(admit()) {
            return verdict;
        }
        let turn = Arc::clone(lock(&self.asking).entry(video.clone()).or_default());
        let asked = {
            let _one_at_a_time = turn.lock().await;
            match admit() {
                Admission::Ask { known } if !self.managers_are_away() => {
                    Some(self.ask_managers(managers, video, known).await)
                }
                _ => None,
            }
        };
        lock(&self.asking).retain(|_, turn| Arc::strong_count(turn) > 1);
        match asked {
            // It refused to place the video: then nobody is better placed than us, unless we are about to leave.
            Some(Err(PeerError::Refused { .. })) if !self.with_agent(|holder, _| holder.is_leaving()) => {
                ViewerPlacement::Here
            }
            _ => verdict(self.with_agent(|holder, now| holder.admit_after_answer(now, video, sent_under)))
                .unwrap_or(ViewerPlacement::Nowhere),
        }
    }

    async fn ask_managers(
        &self,
        managers: &ServiceReplicas,
        video: &VideoId,
        known: u64,
    ) -> Result<(), PeerError> {
        let question = RouteRequest { videoid: video.clone(), epoch: Some(known) };
        let asked = managers.post(&["route"], &question);
        let answer: Result<Route, PeerError> = tokio::time::timeout(ASK_TIMEOUT, asked)
            .await
            .unwrap_or_else(|_| Err(PeerError::Unavailable("no answer in time".into())));
        let state = match &answer {
            Err(PeerError::Unavailable(reason)) => {
                *lock(&self.away_until) = Some(Instant::now() + ASK_AGAIN_AFTER);
                Err(reason.clone())
            }
            _ => Ok(()),
        };
        self.health.note_dependency("manager", state);
        let answer = answer?;
        // Believed, one that was never minted would keep every later one out.
        if is_plausible_epoch(answer.epoch, now_micros()) {
            self.learn_route(video, &answer);
        }
        Ok(())
    }

    fn managers_are_away(&self) -> bool {
        lock(&self.away_until).is_some_and(|until| Instant::now() < until)
    }

    fn learn_route(&self, video: &VideoId, route: &Route) {
        let others = || route.readers.iter().filter(|reader| reader.id != self.own_id);
        let open = others().find(|reader| reader.takes).or_else(|| others().next());
        let told = AssignmentNotice {
            epoch: route.epoch,
            here: route.readers.iter().any(|reader| reader.id == self.own_id),
            elsewhere: open.map(|reader| reader.public_url.clone()),
            elsewhere_takes: open.is_some_and(|reader| reader.takes),
        };
        self.with_agent(|holder, now| holder.note_assignment(now, video, told));
    }

    /// The public address of another reader of the video that takes viewers, where a manager has named one lately.
    pub fn other_that_takes(&self, video: &VideoId) -> Option<String> {
        self.with_agent(|holder, now| holder.other_that_takes(now, video).map(str::to_owned))
            .filter(|url| !url.is_empty())
    }

    /// The videos whose viewers are to be handed over now.
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
            pass_key: None,
        };
        let route =
            Route { videoid: video(), epoch, readers: readers.iter().map(reader).collect(), stale: false };
        placement.learn_route(&video(), &route);
    }

    fn known_verdict(placement: &PlacementAgent) -> Option<ViewerPlacement> {
        verdict(placement.with_agent(|holder, now| holder.admit_viewer(now, &video(), None)))
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
        assert_eq!(placement.other_that_takes(&video()), None);
        learn_route(&placement, 3, &[("me", false), ("shut", false)]);
        assert_eq!(placement.other_that_takes(&video()), None);
        learn_route(&placement, 4, &[("shut", false), ("me", false), ("other", true)]);
        assert_eq!(placement.other_that_takes(&video()), Some("http://other".into()));
    }

    #[tokio::test]
    async fn without_managers_a_reader_serves_every_video_until_it_leaves() {
        let placement = placement();
        assert_eq!(placement.place_viewer(&video(), None).await, ViewerPlacement::Here);
        placement.with_agent(|holder, now| holder.begin_leaving(now, Duration::from_secs(4), true));
        assert_eq!(placement.place_viewer(&video(), None).await, ViewerPlacement::Nowhere);
    }
}
