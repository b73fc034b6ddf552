//! What-if forecasts: what the planner would do in another system, with more or fewer readers, or with a crowd at one
//! video.
//!
//! People ask for forecasts from the current situation; a forecast changes nothing. [`forecast`] plans minute by
//! minute, each minute with a full budget and from the result of the minute before, until nothing is left to do or
//! [`MAX_PLANNED_MINUTES`] have passed.

use super::plan::{Plan, ReachedLimit};
use super::planner::make_plan;
use super::situation::{
    PlacementReader, PlacementVideo, PlanLimits, ReaderAvailability, Situation, ViewerMoveBudget,
};
use crate::{Millis, ReaderId, VideoId};

/// The most minutes that are planned: the caller waits for the answer, and a plan for a large system takes a tenth of
/// a second.
pub const MAX_PLANNED_MINUTES: usize = 10;
/// The most readers that a forecast may be asked for: several times the most with which the planner is measured.
pub const MAX_ASKED_READERS: usize = 1_000;
/// The most videos that one request for a forecast may change.
pub const MAX_CHANGED_VIDEOS: usize = 10;
/// The most viewers that one request for a forecast may add to a video.
pub const MAX_VIEWERS_OF_A_VIDEO: u64 = 10_000_000;
/// The capacity of a new reader, in viewers, if there is no open reader to compare it with.
const DEFAULT_READER_CAPACITY: u64 = 20_000;
const MINUTE_MS: Millis = 60_000;

/// The changes to the current situation that a forecast assumes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WhatIfChanges {
    /// The number of readers that accept viewers, 1 to [`MAX_ASKED_READERS`]; `None` to keep the present number.
    pub readers: Option<usize>,
    /// The numbers of viewers that are added to videos.
    pub viewers: Vec<(VideoId, u64)>,
}

/// A forecast: the plans that would be made, and the situation after them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forecast {
    /// The situation for which the first plan is made. The positions of readers and videos in all plans refer to this
    /// situation.
    pub start: Situation,
    /// The plans, one per minute. A plan without orders may come before others: videos rest after a change.
    pub plans: Vec<Plan>,
    /// The situation after the last plan.
    pub end: Situation,
    /// Whether nothing was left to do before [`MAX_PLANNED_MINUTES`] had passed.
    pub is_settled: bool,
}

/// Forecasts the plans for the situation after `changes`. `limits.budget.full` is the number of viewers that may be
/// moved in a minute.
pub fn forecast(situation: Situation, limits: &PlanLimits, changes: &WhatIfChanges) -> Forecast {
    let mut from = situation;
    for (video, viewers) in &changes.viewers {
        add_viewers(&mut from, video, *viewers);
    }
    if let Some(readers) = changes.readers {
        set_reader_count(&mut from, readers.clamp(1, MAX_ASKED_READERS));
    }
    let from = from.sorted_by_name();
    let mut to = from.clone();
    let (mut plans, mut settled) = (Vec::new(), false);
    let limits = PlanLimits { budget: ViewerMoveBudget::full_bucket(limits.budget.full), ..*limits };
    while plans.len() < MAX_PLANNED_MINUTES && !settled {
        let made = make_plan(&to, &limits);
        // A video that only rests now is considered again in the next minute.
        settled = made.orders.is_empty() && !made.bound_by.contains(&ReachedLimit::Rest);
        to.apply_plan(&made, to.now);
        // All moves have ended and rested by the next plan: the forecast counts minutes, not seconds.
        to.now += MINUTE_MS.max(limits.rest_ms);
        to.videos.iter_mut().for_each(|video| video.moving = false);
        plans.push(made);
    }
    Forecast { start: from, plans, end: to, is_settled: settled }
}

/// Adds viewers to a video: to its readers by their shares; if it has no reader, they wait.
fn add_viewers(situation: &mut Situation, id: &VideoId, viewers: u64) {
    let known = situation.videos.iter().position(|video| video.id == *id);
    let at = known.unwrap_or_else(|| {
        situation.videos.push(PlacementVideo {
            id: id.clone(),
            epoch: 0,
            changed: Millis::MIN / 2,
            waiting: 0,
            moving: false,
            parts: Vec::new(),
        });
        situation.videos.len() - 1
    });
    let video = &mut situation.videos[at];
    let whole: u64 = video.parts.iter().map(|part| u64::from(part.share)).sum();
    let mut left = viewers;
    for part in video.parts.iter_mut().filter(|part| part.share > 0) {
        let own = (u128::from(viewers) * u128::from(part.share) / u128::from(whole)) as u64;
        part.viewers = part.viewers.saturating_add(own);
        left -= own;
    }
    match video.parts.iter_mut().find(|part| part.share > 0) {
        // The first reader gets the remainder of the division.
        Some(first) => first.viewers = first.viewers.saturating_add(left),
        None => video.waiting = video.waiting.saturating_add(left),
    }
}

/// Sets the number of open readers. New readers get the median capacity of the open ones; surplus ones, the last by
/// name, are drained.
fn set_reader_count(situation: &mut Situation, wanted: usize) {
    let mut open: Vec<usize> = (0..situation.readers.len())
        .filter(|at| situation.readers[*at].standing == ReaderAvailability::Open)
        .collect();
    // Shorter names come first, so that `reader-10` comes after `reader-9`.
    open.sort_by_key(|at| (situation.readers[*at].id.as_str().len(), situation.readers[*at].id.clone()));
    for at in open.iter().skip(wanted) {
        situation.readers[*at].standing = ReaderAvailability::Draining;
    }
    let mut capacities: Vec<u64> = open.iter().map(|at| situation.readers[*at].capacity).collect();
    capacities.sort_unstable();
    let capacity = capacities.get(capacities.len() / 2).copied().unwrap_or(DEFAULT_READER_CAPACITY);
    let missing = wanted.saturating_sub(open.len());
    let names = (1..).filter_map(|number| ReaderId::parse(&format!("new-reader-{number}")).ok());
    let taken: Vec<ReaderId> = situation.readers.iter().map(|reader| reader.id.clone()).collect();
    for id in names.filter(|id| !taken.contains(id)).take(missing) {
        situation.readers.push(PlacementReader { id, capacity, standing: ReaderAvailability::Open });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::placement::situation::{VideoPart, WHOLE_SHARE};

    fn video(name: &str) -> VideoId {
        VideoId::parse(name).unwrap()
    }

    /// Makes a situation of one reader for each number in `viewers`, each with a video of its own that has so many
    /// viewers.
    fn situation(viewers: &[u64]) -> Situation {
        let reader = |at: usize| PlacementReader {
            id: ReaderId::parse(&format!("reader-{}", at + 1)).unwrap(),
            capacity: 1_000,
            standing: ReaderAvailability::Open,
        };
        let videos = viewers.iter().enumerate().map(|(reader, viewers)| PlacementVideo {
            id: video(&format!("video-{reader}")),
            epoch: 1,
            changed: -1_000_000,
            waiting: 0,
            moving: false,
            parts: vec![VideoPart { reader, viewers: *viewers, share: WHOLE_SHARE }],
        });
        Situation { now: 0, readers: (0..viewers.len()).map(reader).collect(), videos: videos.collect() }
    }

    fn viewers_of_reader(situation: &Situation, name: &str) -> u64 {
        let at = situation.readers.iter().position(|reader| reader.id.as_str() == name).unwrap();
        let parts = situation.videos.iter().flat_map(|video| &video.parts);
        parts.filter(|part| part.reader == at).map(|part| part.viewers).sum()
    }

    #[test]
    fn a_video_that_goes_viral_is_split_and_nothing_else_happens_without_a_change() {
        let now = situation(&[100, 100, 100]);
        let nothing = forecast(now.clone(), &PlanLimits::default(), &WhatIfChanges::default());
        assert_eq!((nothing.plans.len(), nothing.plans[0].orders.len()), (1, 0));
        let changes =
            WhatIfChanges { readers: None, viewers: vec![(video("video-0"), 900), (video("new"), 30)] };
        let viral = forecast(now, &PlanLimits::default(), &changes);
        let orders = &viral.plans[0].orders;
        assert!(orders.iter().any(|order| order.kind == crate::placement::ChangeKind::Split), "{orders:?}");
        assert!(orders.iter().any(|order| order.kind == crate::placement::ChangeKind::Place), "{orders:?}");
        assert_eq!(viral.plans.last().unwrap().after.viewers, 1_230);
        assert_eq!(viral.plans.last().unwrap().after.outside, 0);
    }

    #[test]
    fn a_video_that_rests_now_is_moved_in_a_later_minute() {
        let mut now = situation(&[100, 100, 100]);
        now.videos.iter_mut().for_each(|video| video.changed = -1);
        now.videos[0].moving = true;
        let changes = WhatIfChanges { readers: None, viewers: vec![(video("video-0"), 900)] };
        let viral = forecast(now, &PlanLimits::default(), &changes);
        assert_eq!(viral.plans[0].orders.len(), 0, "it rests");
        assert!(
            viral.is_settled && viral.plans.iter().any(|plan| !plan.orders.is_empty()),
            "{:?}",
            viral.plans
        );
        assert_eq!(viral.plans.last().unwrap().after.outside, 0);
    }

    #[test]
    fn readers_are_added_and_taken_away_and_the_last_names_go_first() {
        let fewer = forecast(
            situation(&[90, 90, 90]),
            &PlanLimits::default(),
            &WhatIfChanges { readers: Some(2), viewers: vec![] },
        );
        assert_eq!(viewers_of_reader(&fewer.end, "reader-3"), 0);
        assert_eq!(
            viewers_of_reader(&fewer.end, "reader-1") + viewers_of_reader(&fewer.end, "reader-2"),
            270
        );
        let more = forecast(
            situation(&[900, 900]),
            &PlanLimits::default(),
            &WhatIfChanges { readers: Some(3), viewers: vec![] },
        );
        assert!(viewers_of_reader(&more.end, "new-reader-1") > 400, "{:?}", more.plans);
        let none = forecast(
            Situation::default(),
            &PlanLimits::default(),
            &WhatIfChanges { readers: Some(1), viewers: vec![(video("v"), 5)] },
        );
        assert_eq!(viewers_of_reader(&none.end, "new-reader-1"), 5);
    }

    proptest! {
        #[test]
        fn a_forecast_loses_no_viewers_and_keeps_to_the_budget(
            viewers in prop::collection::vec(0_u64..2_000, 1..6),
            readers in prop::option::of(1_usize..8),
            coming in 0_u64..3_000,
            budget in 1_u64..2_000,
        ) {
            let changes = WhatIfChanges { readers, viewers: vec![(video("video-0"), coming)] };
            let limits = PlanLimits { budget: ViewerMoveBudget::full_bucket(budget), ..PlanLimits::default() };
            let forecast = forecast(situation(&viewers), &limits, &changes);
            let all = |situation: &Situation| situation.videos.iter().map(PlacementVideo::viewers).sum::<u64>();
            prop_assert_eq!(all(&forecast.start), viewers.iter().sum::<u64>() + coming);
            prop_assert_eq!(all(&forecast.end), all(&forecast.start));
            prop_assert!((1..=MAX_PLANNED_MINUTES).contains(&forecast.plans.len()));
            for plan in &forecast.plans {
                // A full budget admits one order that is larger than the budget.
                prop_assert!(plan.moved <= budget || plan.orders.iter().filter(|order| order.moved > 0).count() == 1);
            }
        }
    }
}
