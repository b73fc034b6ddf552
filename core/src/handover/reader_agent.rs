//! A reader's side: which viewers it takes, whom it closes and how fast, what it keeps.
//!
//! It can deliver any video, and where no manager can be asked it does: who serves what is a matter of load, never of
//! being right. What it has heard under an epoch is not undone by the word of somebody who has not heard it yet.

use std::collections::HashMap;
use std::time::Duration;

use super::leaving::ReaderExit;
use super::{AssignmentNotice, ElapsedTime, HandOver};
use crate::VideoId;

/// The times and bounds that a reader agent keeps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgentLimits {
    /// How long a manager's word is believed without asking again.
    pub answer_fresh_for: Duration,
    /// How long it is still better than nothing where no manager answers.
    pub answer_usable_for: Duration,
    /// How long a video is held ready for viewers who are to be sent here: longer than an order takes.
    pub keep_warm_for: Duration,
    /// How long a video is held after its last viewer left.
    pub keep_empty_for: Duration,
    /// How long an order to hand over holds: some heartbeats. After that nobody vouches for its target any more.
    pub hand_over_valid_for: Duration,
    /// The greatest number of videos that are remembered.
    pub max_videos: usize,
}

/// The decision on a viewer who comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// The viewer is accepted.
    Accept,
    /// Another reader has it: this address.
    Redirect(String),
    /// The managers are to be asked first, and told the epoch known here: they do not answer with less. Then
    /// [`ReaderAgent::note_assignment`] and [`ReaderAgent::admit_after_answer`].
    Ask {
        /// The highest epoch heard of for the video, here or by whoever sent the viewer.
        known: u64,
    },
    /// Not here, and it is not known where: it is to try again.
    Refuse,
}

#[derive(Debug, Clone, Default)]
struct VideoPlace {
    /// The highest epoch heard of.
    epoch: u64,
    /// The notice that came under the epoch, and when it came.
    last_notice: Option<(AssignmentNotice, ElapsedTime)>,
    /// Held ready up to then.
    warm: Option<ElapsedTime>,
    leaving: Option<LeavingViewers>,
}

/// Viewers on their way out.
#[derive(Debug, Clone)]
struct LeavingViewers {
    order: HandOver,
    /// The time of the last order.
    last_order_time: ElapsedTime,
    /// When viewers were last let go, and how many thousandths of one more may be.
    last_step: (ElapsedTime, u64),
}

/// The decisions of a reader about a hand-over.
#[derive(Debug)]
pub struct ReaderAgent {
    agent_limits: AgentLimits,
    places: HashMap<VideoId, VideoPlace>,
    highest_epoch: u64,
    exit: Option<ReaderExit>,
}

impl ReaderAgent {
    /// A reader that knows nothing yet.
    pub fn new(bounds: AgentLimits) -> Self {
        Self { agent_limits: bounds, places: HashMap::new(), highest_epoch: 0, exit: None }
    }

    /// The highest epoch heard of, over all videos.
    pub const fn highest_epoch(&self) -> u64 {
        self.highest_epoch
    }

    /// The highest epoch heard of for a video; 0 for none.
    pub fn video_epoch(&self, video: &VideoId) -> u64 {
        self.places.get(video).map_or(0, |place| place.epoch)
    }

    /// What becomes of a viewer who comes, and was sent here under `sent_under` where that is known.
    pub fn admit_viewer(&self, now: ElapsedTime, video: &VideoId, sent_under: Option<u64>) -> Admission {
        let place = self.places.get(video);
        let known = place.map_or(0, |place| place.epoch);
        let fresh =
            place.and_then(|place| place.notice_no_older_than(now, self.agent_limits.answer_fresh_for));
        let sent_under = sent_under.unwrap_or(0);
        match fresh {
            Some(told) if sent_under <= known => self.judge_admission(now, place, told),
            _ => Admission::Ask { known: known.max(sent_under) },
        }
    }

    /// The same after the managers were asked, whether they answered or not. What is older than what the viewer was
    /// sent here under is not held against it: a manager that has not heard of a move would send it back and forth.
    pub fn admit_after_answer(
        &self,
        now: ElapsedTime,
        video: &VideoId,
        sent_under: Option<u64>,
    ) -> Admission {
        let place = self.places.get(video);
        let believed = place
            .and_then(|place| place.notice_no_older_than(now, self.agent_limits.answer_usable_for))
            .filter(|told| sent_under.is_none_or(|epoch| epoch <= told.epoch));
        match believed {
            Some(told) => self.judge_admission(now, place, told),
            None if self.exit.is_some() => Admission::Refuse,
            None => Admission::Accept,
        }
    }

    fn judge_admission(
        &self,
        now: ElapsedTime,
        place: Option<&VideoPlace>,
        told: &AssignmentNotice,
    ) -> Admission {
        let sheds = place
            .and_then(|place| place.order_in_force(now, self.agent_limits.hand_over_valid_for))
            .is_some();
        // One that leaves and is the only one still takes viewers until it begins to send them away: where else could they
        // go?
        let closing = self.exit.is_some_and(|exit| exit.sends_away());
        match &told.elsewhere {
            _ if told.here && !sheds && self.exit.is_none() => Admission::Accept,
            Some(address) => Admission::Redirect(address.clone()),
            None if told.here && !closing => Admission::Accept,
            None => Admission::Refuse,
        }
    }

    /// Another reader of a video that takes viewers, as a manager has said lately: for a viewer for whom there is no room here.
    pub fn other_that_takes(&self, now: ElapsedTime, video: &VideoId) -> Option<&str> {
        let told = self.places.get(video)?.notice_no_older_than(now, self.agent_limits.answer_fresh_for)?;
        told.elsewhere.as_deref().filter(|_| told.elsewhere_takes)
    }

    /// Takes a manager's word. `false`: it is older than what is known, and changes nothing.
    pub fn note_assignment(&mut self, now: ElapsedTime, video: &VideoId, told: AssignmentNotice) -> bool {
        let Some(place) = self.place_if_newer(now, video, told.epoch) else { return false };
        place.leaving.take_if(|leaving| leaving.order.epoch < told.epoch);
        place.last_notice = Some((told, now));
        true
    }

    /// Takes a heartbeat's answer: all that is to be handed over, and nothing else. `asked` is when the heartbeat was sent: the
    /// answer may have waited for this process since then, and its targets may have died meanwhile.
    pub fn set_hand_overs(&mut self, now: ElapsedTime, asked: ElapsedTime, orders: Vec<HandOver>) {
        for order in orders {
            let Some(place) = self.place_if_newer(asked, &order.video, order.epoch) else { continue };
            let told = AssignmentNotice {
                epoch: order.epoch,
                here: order.here,
                elsewhere: Some(order.to.clone()),
                elsewhere_takes: true,
            };
            place.last_notice = Some((told, asked));
            let step = place.leaving.as_ref().map_or((now, 0), |leaving| leaving.last_step);
            place.leaving = Some(LeavingViewers { order, last_order_time: asked, last_step: step });
        }
        // What was said again goes on as it was; what was not is over.
        for place in self.places.values_mut() {
            place.leaving.take_if(|leaving| leaving.last_order_time != asked);
        }
    }

    /// Returns the entry of a video, to note an assignment of `epoch`. `None` where a newer one is known.
    fn place_if_newer(&mut self, now: ElapsedTime, video: &VideoId, epoch: u64) -> Option<&mut VideoPlace> {
        self.highest_epoch = self.highest_epoch.max(epoch);
        if self.places.len() >= self.agent_limits.max_videos && !self.places.contains_key(video) {
            self.forget_oldest(now);
        }
        let place = self.places.entry(video.clone()).or_default();
        if epoch < place.epoch {
            return None;
        }
        place.epoch = epoch;
        Some(place)
    }

    /// Forgets what was heard longest ago. What an epoch fences is forgotten with it, and the managers mint above
    /// [`ReaderAgent::highest_epoch`] all the same.
    fn forget_oldest(&mut self, now: ElapsedTime) {
        let bounds = self.agent_limits;
        let in_use = |place: &VideoPlace| {
            place.leaving.is_some()
                || place.warm.is_some_and(|until| now < until)
                || place.notice_no_older_than(now, bounds.answer_fresh_for).is_some()
        };
        self.places.retain(|_, place| in_use(place));
        if self.places.len() >= bounds.max_videos {
            self.places.clear();
        }
    }

    /// A manager asks for a video to be held ready: the caller opens its room, and answers when its ring stands.
    pub fn keep_warm(&mut self, now: ElapsedTime, video: &VideoId) {
        let until = now + self.agent_limits.keep_warm_for;
        // An epoch of 0 is no news: this only finds or makes the place.
        self.place_if_newer(now, video, 0);
        if let Some(place) = self.places.get_mut(video) {
            place.warm = Some(until);
        }
    }

    /// Whether a room that has been without viewers for `empty_for` may be let go.
    pub fn may_drop_video(&self, now: ElapsedTime, video: &VideoId, empty_for: Duration) -> bool {
        let warm = self.places.get(video).and_then(|place| place.warm).is_some_and(|until| now < until);
        !warm && empty_for >= self.agent_limits.keep_empty_for
    }

    /// This reader's process ends after `grace`. The managers hear of it by its heartbeats; whom they do not move it sends
    /// away by itself ([`leaving`](super::leaving)). `alone`: there are no managers. Returns the time by which it is empty.
    pub fn begin_leaving(&mut self, now: ElapsedTime, grace: Duration, alone: bool) -> ElapsedTime {
        self.exit.get_or_insert_with(|| ReaderExit::new(now, grace, alone)).by()
    }

    /// A manager says for how many viewers of this reader others have room, in the answer to the heartbeat sent at `asked`.
    pub fn hear_room(&mut self, asked: ElapsedTime, viewers: u64) {
        if let Some(exit) = &mut self.exit {
            exit.hear_room(asked, viewers, self.agent_limits.hand_over_valid_for);
        }
    }

    /// Whether it is leaving.
    pub const fn is_leaving(&self) -> bool {
        self.exit.is_some()
    }

    /// Whether it sends viewers of a video elsewhere that it still serves: they are more than its share.
    pub fn is_shedding(&self, now: ElapsedTime, video: &VideoId) -> bool {
        let place = self.places.get(video);
        place
            .and_then(|place| place.order_in_force(now, self.agent_limits.hand_over_valid_for))
            .is_some_and(|order| order.here)
    }

    /// Videos that have viewers to be closed under an order.
    pub fn active_hand_overs(&self, now: ElapsedTime) -> impl Iterator<Item = &HandOver> {
        let holds = self.agent_limits.hand_over_valid_for;
        self.places.values().filter_map(move |place| place.order_in_force(now, holds))
    }

    /// How many of a video's viewers to close now, whichever: the caller draws lots. To be asked several times a
    /// second. Never more at once than a second's worth, however long nobody asked.
    pub fn viewers_to_close(&mut self, now: ElapsedTime, video: &VideoId, viewers: u64) -> u64 {
        let holds = self.agent_limits.hand_over_valid_for;
        let Some(place) = self.places.get_mut(video) else { return 0 };
        let Some(leaving) =
            place.leaving.as_mut().filter(|leaving| now.saturating_sub(leaving.last_order_time) < holds)
        else {
            return 0;
        };
        let per_second = u64::from(leaving.order.pace.max(1));
        let (last, rest) = leaving.last_step;
        let passed = now.saturating_sub(last).min(Duration::from_secs(1));
        let credit = rest + passed.as_millis() as u64 * per_second;
        let due = (credit / 1_000).min(viewers.saturating_sub(leaving.order.keep));
        leaving.last_step = (now, (credit - due * 1_000).min(1_000));
        due
    }

    /// How many viewers to close now, over all videos, because the reader is leaving. To be asked several times a second.
    pub fn viewers_to_close_on_exit(&mut self, now: ElapsedTime, viewers: u64) -> u64 {
        let holds = self.agent_limits.hand_over_valid_for;
        self.exit.as_mut().map_or(0, |exit| exit.due(now, viewers, holds))
    }
}

impl VideoPlace {
    fn notice_no_older_than(&self, now: ElapsedTime, time: Duration) -> Option<&AssignmentNotice> {
        self.last_notice.as_ref().filter(|(_, at)| now.saturating_sub(*at) < time).map(|(told, _)| told)
    }

    fn order_in_force(&self, now: ElapsedTime, holds: Duration) -> Option<&HandOver> {
        self.leaving.as_ref().filter(|it| now.saturating_sub(it.last_order_time) < holds).map(|it| &it.order)
    }
}

#[cfg(test)]
mod tests;
