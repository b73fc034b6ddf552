//! The reader agent: decides in a reader which viewers are accepted, which are closed and how fast, and which videos
//! are kept.
//!
//! A reader can deliver any video, and does so if no manager can be asked: assignments are about load, never about
//! correctness. A reader does not undo what it has heard under an epoch because of a message from a process that has
//! not heard of that epoch yet.

use std::collections::HashMap;
use std::time::Duration;

use super::leaving::ReaderExit;
use super::{AssignmentNotice, ElapsedTime, HandOver};
use crate::VideoId;

/// The times and bounds that a reader agent keeps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgentLimits {
    /// The time for which a manager's notice is used without asking again.
    pub notice_cache_time: Duration,
    /// The time for which an older notice is still used if no manager answers.
    pub max_stale_notice_time: Duration,
    /// The time for which a video is kept ready for viewers who are to be sent here: longer than an order takes.
    pub keep_warm_for: Duration,
    /// The time for which a video is kept after its last viewer left.
    pub keep_empty_for: Duration,
    /// The time for which a hand-over order is valid: some heartbeats. After that, no manager confirms that its target
    /// is alive.
    pub hand_over_valid_for: Duration,
    /// The most videos that are remembered.
    pub max_videos: usize,
}

/// The decision on a viewer who connects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// The viewer is accepted.
    Accept,
    /// The viewer is redirected to another reader, at this address.
    Redirect(String),
    /// The managers must be asked first, with the epoch known here, below which they do not answer. After their
    /// answer, call [`ReaderAgent::note_assignment`] and [`ReaderAgent::admit_after_answer`].
    AskManagers {
        /// The highest epoch heard of for the video, here or by the process that sent the viewer.
        known: u64,
    },
    /// The viewer is not served here, and no other reader is known: the viewer has to try again.
    Refuse,
}

#[derive(Debug, Clone, Default)]
struct VideoEntry {
    /// The highest epoch heard of for the video.
    epoch: u64,
    /// The notice that came under the epoch, and the time at which it came.
    last_notice: Option<(AssignmentNotice, ElapsedTime)>,
    /// The time up to which the video is kept ready.
    keep_warm_until: Option<ElapsedTime>,
    hand_over: Option<ActiveHandOver>,
}

/// A hand-over order that is being carried out.
#[derive(Debug, Clone)]
struct ActiveHandOver {
    order: HandOver,
    /// The time at which the order was last confirmed.
    last_order_time: ElapsedTime,
    /// The time at which viewers were last closed, and the credit left from then, in thousandths of a viewer.
    last_step: (ElapsedTime, u64),
}

/// The decisions of one reader about hand-overs.
#[derive(Debug)]
pub struct ReaderAgent {
    agent_limits: AgentLimits,
    videos: HashMap<VideoId, VideoEntry>,
    highest_epoch: u64,
    exit: Option<ReaderExit>,
}

impl ReaderAgent {
    /// Makes an agent that knows no video yet.
    pub fn new(bounds: AgentLimits) -> Self {
        Self { agent_limits: bounds, videos: HashMap::new(), highest_epoch: 0, exit: None }
    }

    /// Returns the highest epoch heard of, over all videos.
    pub const fn highest_epoch(&self) -> u64 {
        self.highest_epoch
    }

    /// Returns the highest epoch heard of for a video; 0 for none.
    pub fn video_epoch(&self, video: &VideoId) -> u64 {
        self.videos.get(video).map_or(0, |place| place.epoch)
    }

    /// Decides about a viewer who connects. `sent_under` is the epoch under which the viewer was sent here, if it is
    /// known.
    pub fn admit_viewer(&self, now: ElapsedTime, video: &VideoId, sent_under: Option<u64>) -> Admission {
        let place = self.videos.get(video);
        let known = place.map_or(0, |place| place.epoch);
        let fresh = place.and_then(|place| place.notice_within(now, self.agent_limits.notice_cache_time));
        let sent_under = sent_under.unwrap_or(0);
        match fresh {
            Some(told) if sent_under <= known => self.decide_admission(now, place, told),
            _ => Admission::AskManagers { known: known.max(sent_under) },
        }
    }

    /// Decides about a viewer after the managers were asked, whether they answered or not. A notice older than the
    /// epoch under which the viewer was sent here is ignored: a manager that has not heard of a move would send the
    /// viewer back and forth.
    pub fn admit_after_answer(
        &self,
        now: ElapsedTime,
        video: &VideoId,
        sent_under: Option<u64>,
    ) -> Admission {
        let place = self.videos.get(video);
        let believed = place
            .and_then(|place| place.notice_within(now, self.agent_limits.max_stale_notice_time))
            .filter(|told| sent_under.is_none_or(|epoch| epoch <= told.epoch));
        match believed {
            Some(told) => self.decide_admission(now, place, told),
            None if self.exit.is_some() => Admission::Refuse,
            None => Admission::Accept,
        }
    }

    fn decide_admission(
        &self,
        now: ElapsedTime,
        place: Option<&VideoEntry>,
        told: &AssignmentNotice,
    ) -> Admission {
        let sheds = place
            .and_then(|place| place.order_in_force(now, self.agent_limits.hand_over_valid_for))
            .is_some();
        // A reader that leaves and is the video's only one accepts viewers until it begins to send its own away: there
        // is no other reader for them.
        let closing = self.exit.is_some_and(|exit| exit.is_sending_viewers_away());
        match &told.other_reader_url {
            _ if told.includes_this_reader && !sheds && self.exit.is_none() => Admission::Accept,
            Some(address) => Admission::Redirect(address.clone()),
            None if told.includes_this_reader && !closing => Admission::Accept,
            None => Admission::Refuse,
        }
    }

    /// Returns the address of another reader of a video that accepts viewers, by a manager's recent notice; for a
    /// viewer for whom this reader has no room.
    pub fn other_accepting_reader(&self, now: ElapsedTime, video: &VideoId) -> Option<&str> {
        let told = self.videos.get(video)?.notice_within(now, self.agent_limits.notice_cache_time)?;
        told.other_reader_url.as_deref().filter(|_| told.other_accepts_viewers)
    }

    /// Stores a manager's notice about the assignment of `video`. Returns `false` and changes nothing if the notice is
    /// older than what this reader knows.
    pub fn note_assignment(&mut self, now: ElapsedTime, video: &VideoId, told: AssignmentNotice) -> bool {
        let Some(place) = self.entry_if_not_older(now, video, told.epoch) else { return false };
        place.hand_over.take_if(|leaving| leaving.order.epoch < told.epoch);
        place.last_notice = Some((told, now));
        true
    }

    /// Replaces all hand-over orders by those of a heartbeat's answer. `asked` is the time at which the heartbeat was
    /// sent: the answer may have waited for this process since then, and its targets may have died meanwhile.
    pub fn set_hand_overs(&mut self, now: ElapsedTime, asked: ElapsedTime, orders: Vec<HandOver>) {
        for order in orders {
            let Some(place) = self.entry_if_not_older(asked, &order.video, order.epoch) else { continue };
            let told = AssignmentNotice {
                epoch: order.epoch,
                includes_this_reader: order.here,
                other_reader_url: Some(order.to.clone()),
                other_accepts_viewers: true,
            };
            place.last_notice = Some((told, asked));
            let step = place.hand_over.as_ref().map_or((now, 0), |leaving| leaving.last_step);
            place.hand_over = Some(ActiveHandOver { order, last_order_time: asked, last_step: step });
        }
        // Orders that were repeated go on as before; all others are over.
        for place in self.videos.values_mut() {
            place.hand_over.take_if(|leaving| leaving.last_order_time != asked);
        }
    }

    /// Returns the entry of a video, to note an assignment of `epoch`; `None` if a newer epoch is known.
    fn entry_if_not_older(
        &mut self,
        now: ElapsedTime,
        video: &VideoId,
        epoch: u64,
    ) -> Option<&mut VideoEntry> {
        self.highest_epoch = self.highest_epoch.max(epoch);
        if self.videos.len() >= self.agent_limits.max_videos && !self.videos.contains_key(video) {
            self.forget_unused_videos(now);
        }
        let place = self.videos.entry(video.clone()).or_default();
        if epoch < place.epoch {
            return None;
        }
        place.epoch = epoch;
        Some(place)
    }

    /// Forgets the videos that are not in use, and if those are too few, all. The epochs of forgotten videos no longer
    /// fence here; the managers still mint above [`ReaderAgent::highest_epoch`].
    fn forget_unused_videos(&mut self, now: ElapsedTime) {
        let bounds = self.agent_limits;
        let in_use = |place: &VideoEntry| {
            place.hand_over.is_some()
                || place.keep_warm_until.is_some_and(|until| now < until)
                || place.notice_within(now, bounds.notice_cache_time).is_some()
        };
        self.videos.retain(|_, place| in_use(place));
        if self.videos.len() >= bounds.max_videos {
            self.videos.clear();
        }
    }

    /// Notes a manager's request to keep a video ready: the caller opens its channel, and answers when its ring is
    /// filled.
    pub fn keep_warm(&mut self, now: ElapsedTime, video: &VideoId) {
        let until = now + self.agent_limits.keep_warm_for;
        // An epoch of 0 is never news: the call only finds or makes the entry.
        self.entry_if_not_older(now, video, 0);
        if let Some(place) = self.videos.get_mut(video) {
            place.keep_warm_until = Some(until);
        }
    }

    /// Whether a channel that has been without viewers for `empty_for` may be dropped.
    pub fn may_drop_video(&self, now: ElapsedTime, video: &VideoId, empty_for: Duration) -> bool {
        let warm =
            self.videos.get(video).and_then(|place| place.keep_warm_until).is_some_and(|until| now < until);
        !warm && empty_for >= self.agent_limits.keep_empty_for
    }

    /// Notes that this reader's process ends after `grace`. The managers learn it from its heartbeats; viewers whom
    /// they do not move are sent away by the reader itself ([`leaving`](super::leaving)). `alone` means that there are
    /// no managers. Returns the time by which the reader is empty.
    pub fn begin_leaving(&mut self, now: ElapsedTime, grace: Duration, alone: bool) -> ElapsedTime {
        self.exit.get_or_insert_with(|| ReaderExit::new(now, grace, alone)).deadline()
    }

    /// Notes the number of viewers for which other readers have room, from a manager's answer to the heartbeat sent at
    /// `asked`.
    pub fn note_room_elsewhere(&mut self, asked: ElapsedTime, viewers: u64) {
        if let Some(exit) = &mut self.exit {
            exit.note_room_elsewhere(asked, viewers, self.agent_limits.hand_over_valid_for);
        }
    }

    /// Whether the reader is shutting down.
    pub const fn is_leaving(&self) -> bool {
        self.exit.is_some()
    }

    /// Whether the reader sends away viewers of a video that it still serves, because they are above its share.
    pub fn is_shedding(&self, now: ElapsedTime, video: &VideoId) -> bool {
        let place = self.videos.get(video);
        place
            .and_then(|place| place.order_in_force(now, self.agent_limits.hand_over_valid_for))
            .is_some_and(|order| order.here)
    }

    /// Returns the hand-over orders in force.
    pub fn active_hand_overs(&self, now: ElapsedTime) -> impl Iterator<Item = &HandOver> {
        let holds = self.agent_limits.hand_over_valid_for;
        self.videos.values().filter_map(move |place| place.order_in_force(now, holds))
    }

    /// Returns how many of a video's viewers to close now; the caller chooses them at random. The caller calls this
    /// several times a second. The number is never more than a second's worth, even after a longer pause.
    pub fn viewers_to_close(&mut self, now: ElapsedTime, video: &VideoId, viewers: u64) -> u64 {
        let holds = self.agent_limits.hand_over_valid_for;
        let Some(place) = self.videos.get_mut(video) else { return 0 };
        let Some(leaving) =
            place.hand_over.as_mut().filter(|leaving| now.saturating_sub(leaving.last_order_time) < holds)
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

    /// Returns how many viewers to close now, over all videos, because the reader is shutting down. The caller calls
    /// this several times a second.
    pub fn viewers_to_close_on_exit(&mut self, now: ElapsedTime, viewers: u64) -> u64 {
        let holds = self.agent_limits.hand_over_valid_for;
        self.exit.as_mut().map_or(0, |exit| exit.viewers_to_close(now, viewers, holds))
    }
}

impl VideoEntry {
    fn notice_within(&self, now: ElapsedTime, time: Duration) -> Option<&AssignmentNotice> {
        self.last_notice.as_ref().filter(|(_, at)| now.saturating_sub(*at) < time).map(|(told, _)| told)
    }

    fn order_in_force(&self, now: ElapsedTime, holds: Duration) -> Option<&HandOver> {
        self.hand_over
            .as_ref()
            .filter(|it| now.saturating_sub(it.last_order_time) < holds)
            .map(|it| &it.order)
    }
}

#[cfg(test)]
mod tests;
