//! The model that a plan works on: where every viewer would be after the decisions made so far.

use std::collections::HashMap;

use super::shares::{PlacementSlot, counted_viewers, parts_of};
use crate::placement::plan::{ChangeKind, OrderReason, ReachedLimit, RejectedChange, ViewerBalance};
use crate::placement::situation::{PlacementVideo, PlanLimits, ReaderAvailability, Situation};

/// A reader, its load, and the thresholds for that load, all in viewers.
#[derive(Debug, Clone)]
pub(super) struct ReaderLoad {
    pub availability: ReaderAvailability,
    pub capacity: u64,
    pub viewers_planned: u64,
    /// The number of videos, by which readers are evened out if there are no viewers to count.
    pub video_count: u32,
    /// The reader's part of all viewers, in proportion to its capacity.
    pub fair_share: u64,
    /// The load above which the reader has to give viewers.
    pub overloaded_above: u64,
    /// The load below which the reader has to get viewers.
    pub underloaded_below: u64,
    /// The load down to which a giver gives and up to which a taker takes: half the tolerance above the fair share,
    /// and at most the capacity.
    pub upper_target: u64,
    /// The load up to which a taker takes at least, and below which a giver does not go: half the tolerance below the
    /// fair share.
    pub lower_target: u64,
    /// The most viewers of one video that the reader may have.
    pub video_viewers_limit: u64,
}

impl ReaderLoad {
    pub fn is_open(&self) -> bool {
        self.availability == ReaderAvailability::Open
    }

    /// Returns the number of viewers that the reader can take without exceeding `mark` or its capacity.
    pub fn room_up_to(&self, mark: u64) -> u64 {
        mark.min(self.capacity).saturating_sub(self.viewers_planned)
    }

    /// Returns the number of viewers above the reader's fair share; negative if the load is below it.
    pub fn viewers_above_fair(&self) -> i128 {
        i128::from(self.viewers_planned) - i128::from(self.fair_share)
    }

    /// Returns the number of viewers that the reader may have and can hold.
    pub fn usable_capacity(&self) -> u64 {
        self.overloaded_above.min(self.capacity)
    }

    /// Returns the number of a video's viewers that the reader gets when the video is spread: a fifth below the limit,
    /// so that the next few viewers do not spread it again.
    pub fn spread_target(&self) -> u64 {
        self.video_viewers_limit - self.video_viewers_limit / 5
    }
}

/// A video, reduced to what planning needs, in one cache line.
#[derive(Debug)]
pub(super) struct PlannedVideo {
    pub placement: PlacementSlot,
    pub viewer_count: u64,
    pub epoch: u64,
    /// The video's position in [`Model::changed_videos`] plus one; 0 if it was not changed.
    changed_position: u32,
}

/// A video that the plan has changed: its placement before, and the first reason for changing it. No reason is needed,
/// and it is `None`, if no reader served the video.
#[derive(Debug)]
pub(super) struct ChangedVideo {
    pub video: u32,
    pub placement_before: PlacementSlot,
    pub first_reason: Option<Box<OrderReason>>,
}

pub(super) struct Model<'a> {
    pub situation: &'a Situation,
    pub limits: &'a PlanLimits,
    pub readers: Vec<ReaderLoad>,
    pub videos: Vec<PlannedVideo>,
    /// The zone number of each reader; empty if there are not two zones to choose from.
    pub zones: Vec<Option<u32>>,
    /// The changed videos, in the order in which they were first changed.
    pub changed_videos: Vec<ChangedVideo>,
    /// The most viewers of one video that a reader of average size may have, before the video counts as hot.
    pub mean_video_viewers_limit: u64,
    /// The number of viewers moved step by step: at least as many as the plan moves in the end.
    budget_spent: u64,
    /// The viewers, by video, who had no reader and were given one: their first move costs no budget.
    viewers_placed: HashMap<u32, u64>,
    /// The number of moves made in the model so far.
    pub shift_count: u64,
    pub reached_limits: Vec<ReachedLimit>,
    pub rejected: Vec<RejectedChange>,
}

impl<'a> Model<'a> {
    pub fn new(situation: &'a Situation, limits: &'a PlanLimits) -> Self {
        let videos = situation.videos.len();
        let seats = situation.readers.iter().map(|reader| ReaderLoad {
            availability: reader.standing,
            capacity: reader.capacity.max(1),
            viewers_planned: 0,
            video_count: 0,
            fair_share: 0,
            overloaded_above: 0,
            underloaded_below: 0,
            upper_target: 0,
            lower_target: 0,
            video_viewers_limit: 1,
        });
        let mut model = Self {
            situation,
            limits,
            readers: seats.collect(),
            videos: Vec::with_capacity(videos),
            zones: Vec::new(),
            changed_videos: Vec::new(),
            mean_video_viewers_limit: 1,
            budget_spent: 0,
            viewers_placed: HashMap::new(),
            shift_count: 0,
            reached_limits: Vec::new(),
            rejected: Vec::new(),
        };
        let mut homeless = 0_u64;
        for video in &situation.videos {
            homeless = homeless.saturating_add(model.add_video(video));
        }
        model.set_thresholds(homeless);
        model
    }

    /// Adds a video. Returns the number of its viewers if no reader serves it, otherwise 0.
    fn add_video(&mut self, video: &PlacementVideo) -> u64 {
        let viewer_count = video.viewers();
        let readers = self.readers.len();
        let mut assigned = video.parts.iter().filter(|part| part.share > 0 && part.reader < readers);
        let placement = match (assigned.next(), assigned.next()) {
            (None, _) => PlacementSlot::Unplaced,
            (Some(only), None) => PlacementSlot::One(only.reader as u32),
            _ => PlacementSlot::Several(counted_viewers(video, viewer_count, readers)),
        };
        match &placement {
            PlacementSlot::Unplaced => {}
            PlacementSlot::One(reader) => self.readers[*reader as usize].add_viewers(viewer_count),
            PlacementSlot::Several(parts) => {
                for &(reader, part) in parts {
                    self.readers[reader as usize].add_viewers(part);
                }
            }
        }
        let homeless = if placement == PlacementSlot::Unplaced { viewer_count } else { 0 };
        self.videos.push(PlannedVideo { placement, viewer_count, epoch: video.epoch, changed_position: 0 });
        homeless
    }

    /// Sets the fair shares and thresholds of all readers. Viewers on closed readers cannot be moved, so they and
    /// their readers do not count.
    fn set_thresholds(&mut self, homeless: u64) {
        let in_play = self.readers.iter().filter(|seat| seat.availability != ReaderAvailability::Closed);
        let total = in_play.fold(homeless, |sum, seat| sum.saturating_add(seat.viewers_planned));
        let open = self.readers.iter().filter(|seat| seat.is_open());
        let (count, capacity) =
            open.fold((0_u64, 0_u128), |(count, sum), seat| (count + 1, sum + u128::from(seat.capacity)));
        let limits = self.limits;
        let slack_of = |fair: u64| {
            let part = u128::from(fair) * u128::from(limits.tolerance) / 1000;
            (part as u64).max(limits.floor_viewers)
        };
        for seat in self.readers.iter_mut().filter(|seat| seat.is_open()) {
            let fair = (u128::from(total) * u128::from(seat.capacity) / capacity.max(1)) as u64;
            let slack = slack_of(fair);
            seat.fair_share = fair;
            seat.overloaded_above = fair.saturating_add(slack).min(seat.capacity.max(fair));
            seat.underloaded_below = fair.saturating_sub(slack).min(seat.capacity);
            seat.upper_target = fair.saturating_add(slack / 2).min(seat.capacity);
            seat.lower_target = fair.saturating_sub(slack / 2).min(seat.capacity);
            seat.video_viewers_limit = limits.hot_video_viewers.min(fair.saturating_add(slack)).max(1);
        }
        let mean = total / count.max(1);
        self.mean_video_viewers_limit =
            limits.hot_video_viewers.min(mean.saturating_add(slack_of(mean))).max(1);
    }

    pub fn open_readers(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.readers.len() as u32).filter(|&reader| self.readers[reader as usize].is_open())
    }

    /// Whether the video rests: it changed a short time ago or is being moved, and may be changed for safety only.
    pub fn is_resting(&self, video: u32) -> bool {
        let video = &self.situation.videos[video as usize];
        let age = self.situation.now.abs_diff(video.changed);
        video.moving || (video.epoch > 0 && age < self.limits.rest_ms.max(0) as u64)
    }

    /// Returns the number of the video's viewers on one reader.
    pub fn viewers_on(&self, video: u32, reader: u32) -> u64 {
        match &self.videos[video as usize].placement {
            PlacementSlot::One(at) if *at == reader => self.videos[video as usize].viewer_count,
            PlacementSlot::Several(parts) => {
                parts.iter().find(|part| part.0 == reader).map_or(0, |part| part.1)
            }
            _ => 0,
        }
    }

    pub fn is_video_on_reader(&self, video: u32, reader: u32) -> bool {
        match &self.videos[video as usize].placement {
            PlacementSlot::Unplaced => false,
            PlacementSlot::One(at) => *at == reader,
            PlacementSlot::Several(parts) => parts.iter().any(|part| part.0 == reader),
        }
    }

    pub fn viewers_by_reader(&self, video: u32) -> Vec<(u32, u64)> {
        parts_of(&self.videos[video as usize].placement, self.videos[video as usize].viewer_count)
    }

    /// Returns how many of the open readers that the video is on are in the zone of `reader`; `usize::MAX` if that
    /// zone is not known.
    pub fn readers_in_zone_of(&self, video: u32, reader: u32) -> usize {
        let zone_of = |reader: u32| self.zones.get(reader as usize).copied().flatten();
        let Some(zone) = zone_of(reader) else { return usize::MAX };
        let parts = self.viewers_by_reader(video);
        let open = parts.iter().filter(|part| self.readers[part.0 as usize].is_open());
        open.filter(|part| zone_of(part.0) == Some(zone)).count()
    }

    /// Returns the number of readers that the video is on.
    pub fn reader_count(&self, video: u32) -> usize {
        match &self.videos[video as usize].placement {
            PlacementSlot::Unplaced => 0,
            PlacementSlot::One(_) => 1,
            PlacementSlot::Several(parts) => parts.len(),
        }
    }

    /// Returns the number of viewers at or below which a video on `readers` readers is joined onto one fewer. The same
    /// threshold decides whether balance may spread a video onto that many readers, so that joining and balance never
    /// undo each other.
    pub fn join_threshold(&self, readers: usize) -> u64 {
        let most = u128::from(self.mean_video_viewers_limit) * readers.saturating_sub(1) as u128;
        (most * u128::from(self.limits.join_below.min(1000)) / 1000) as u64
    }

    /// Whether balance may put a part of the video onto one more reader.
    pub fn may_spread(&self, video: u32) -> bool {
        let on = self.reader_count(video);
        let viewers = self.videos[video as usize].viewer_count;
        let hot = if on == 1 {
            viewers > self.mean_video_viewers_limit
        } else {
            viewers > self.join_threshold(on + 1)
        };
        hot && on < self.limits.max_readers_per_video
    }

    /// Returns the number of viewers that this plan may still move.
    pub fn budget_left(&self) -> u64 {
        self.limits.budget.available.saturating_sub(self.budget_spent)
    }

    /// Takes `viewers` from the budget. Returns whether the budget had so many.
    pub fn take_from_budget(&mut self, viewers: u64) -> bool {
        let budget = self.limits.budget;
        let oversize = self.budget_spent == 0 && budget.available >= budget.full && viewers > budget.full;
        let admitted = viewers == 0 || viewers <= self.budget_left() || (oversize && budget.full > 0);
        if admitted {
            self.budget_spent = self.budget_spent.saturating_add(viewers);
        } else {
            self.note_reached_limit(ReachedLimit::Budget);
        }
        admitted
    }

    /// Returns the number of the video's viewers who have no reader yet and were given none by this plan.
    pub fn waiting_viewers(&self, video: u32) -> u64 {
        let sent = self.viewers_placed.get(&video).copied().unwrap_or(0);
        self.situation.videos[video as usize].waiting.saturating_sub(sent)
    }

    pub fn take_waiting_viewers(&mut self, video: u32, viewers: u64) {
        *self.viewers_placed.entry(video).or_default() += viewers;
    }

    pub fn note_reached_limit(&mut self, bound: ReachedLimit) {
        if !self.reached_limits.contains(&bound) {
            self.reached_limits.push(bound);
        }
    }

    pub fn note_rejected(
        &mut self,
        kind: ChangeKind,
        video: Option<u32>,
        reader: Option<u32>,
        viewers: u64,
        because: ReachedLimit,
    ) {
        self.note_reached_limit(because);
        let (video, reader) = (video.map(|at| at as usize), reader.map(|at| at as usize));
        self.rejected.push(RejectedChange { kind, video, reader, viewers, because });
    }

    /// Moves `amount` of a video's viewers in the model. A reader that is left with none of them no longer serves the
    /// video. All changes of placements go through this function.
    pub fn move_viewers(&mut self, video: u32, from: Option<u32>, to: u32, amount: u64, why: OrderReason) {
        self.shift_count += 1;
        let at = video as usize;
        if self.videos[at].changed_position == 0 {
            let before = self.videos[at].placement.clone();
            let why = (before != PlacementSlot::Unplaced).then(|| Box::new(why));
            self.changed_videos.push(ChangedVideo { video, placement_before: before, first_reason: why });
            self.videos[at].changed_position = self.changed_videos.len() as u32;
        }
        if self.shift_whole_video(at, from, to, amount) {
            return;
        }
        let mut parts = self.viewers_by_reader(video);
        if let Some(from) = from {
            let part =
                parts.iter_mut().find(|part| part.0 == from).expect("viewers leave a reader that has them");
            part.1 -= amount;
            let seat = &mut self.readers[from as usize];
            seat.viewers_planned -= amount;
            if part.1 == 0 {
                seat.video_count -= 1;
                parts.retain(|part| part.0 != from);
            }
        }
        let seat = &mut self.readers[to as usize];
        seat.viewers_planned += amount;
        match parts.binary_search_by_key(&to, |part| part.0) {
            Ok(found) => parts[found].1 += amount,
            Err(place) => {
                seat.video_count += 1;
                parts.insert(place, (to, amount));
            }
        }
        // While waiting viewers are being spread, one part may not be all of them.
        let all_here = parts.len() == 1 && parts[0].1 == self.videos[at].viewer_count;
        self.videos[at].placement =
            if all_here { PlacementSlot::One(parts[0].0) } else { PlacementSlot::Several(parts) };
    }

    /// Moves a whole video from nowhere, or from its only reader, to one other reader: the common case. Returns
    /// whether this was such a case.
    fn shift_whole_video(&mut self, at: usize, from: Option<u32>, to: u32, amount: u64) -> bool {
        if amount != self.videos[at].viewer_count || from == Some(to) {
            return false;
        }
        match (&self.videos[at].placement, from) {
            (PlacementSlot::Unplaced, None) => {}
            (PlacementSlot::One(reader), Some(from)) if *reader == from => {
                let seat = &mut self.readers[from as usize];
                seat.viewers_planned -= amount;
                seat.video_count -= 1;
            }
            _ => return false,
        }
        self.readers[to as usize].add_viewers(amount);
        self.videos[at].placement = PlacementSlot::One(to);
        true
    }

    /// Undoes the placement of a video that had no reader, as if nothing had been decided about it.
    pub fn undo_placement(&mut self, video: u32) {
        for (reader, viewers) in self.viewers_by_reader(video) {
            let seat = &mut self.readers[reader as usize];
            seat.viewers_planned -= viewers;
            seat.video_count -= 1;
        }
        self.videos[video as usize].placement = PlacementSlot::Unplaced;
    }

    pub fn viewer_balance(&self) -> ViewerBalance {
        let mut balance = ViewerBalance::default();
        for seat in &self.readers {
            balance.viewers = balance.viewers.saturating_add(seat.viewers_planned);
            if seat.availability == ReaderAvailability::Draining {
                balance.on_draining += seat.viewers_planned;
            }
        }
        let nowhere = self.videos.iter().filter(|planned| planned.placement == PlacementSlot::Unplaced);
        balance.waiting = nowhere.fold(0, |sum, planned| planned.viewer_count.saturating_add(sum));
        balance.viewers = balance.viewers.saturating_add(balance.waiting);
        let open: Vec<&ReaderLoad> = self.readers.iter().filter(|seat| seat.is_open()).collect();
        let ratio = |seat: &&ReaderLoad| {
            (u128::from(seat.viewers_planned) * 1_000_000 / u128::from(seat.fair_share.max(1))) as u64
        };
        balance.readers = open.len();
        balance.outside = open
            .iter()
            .filter(|seat| {
                seat.viewers_planned > seat.overloaded_above || seat.viewers_planned < seat.underloaded_below
            })
            .count();
        balance.max_over_mean = open.iter().map(ratio).max().unwrap_or(0);
        balance.min_over_mean = open.iter().map(ratio).min().unwrap_or(0);
        balance.excess = open.iter().map(|seat| seat.viewers_planned.saturating_sub(seat.fair_share)).sum();
        let utilisation =
            |seat: &&ReaderLoad| (u128::from(seat.viewers_planned) * 1000 / u128::from(seat.capacity)) as u64;
        balance.max_utilisation = open.iter().map(utilisation).max().unwrap_or(0);
        balance
    }
}

impl ReaderLoad {
    fn add_viewers(&mut self, viewers: u64) {
        self.viewers_planned = self.viewers_planned.saturating_add(viewers);
        self.video_count += 1;
    }
}
