//! What the planner would do if the system were another one: more or fewer readers, a video that many come to watch.
//!
//! It is asked by people, of the situation as it is now. Nothing is changed by it: [`forecast`] plans minute by minute, each
//! minute with a full budget and on what the minute before led to, until nothing is left to be done or [`MAX_PLANNED_MINUTES`] are over.

use super::plan::{MetLimit, Plan};
use super::planner::make_plan;
use super::situation::{
    PlacementReader, PlacementVideo, PlanLimits, ReaderAvailability, Situation, ViewerMoveBudget,
};
use crate::{Millis, ReaderId, VideoId};

/// Minutes that are planned: who asks waits for the answer, and a plan for a large system takes a tenth of a second.
pub const MAX_PLANNED_MINUTES: usize = 10;
/// Readers that may be asked for: the most that the planner is measured with, several times over.
pub const MAX_ASKED_READERS: usize = 1_000;
/// Videos that may be changed in one question.
pub const MAX_CHANGED_VIDEOS: usize = 10;
/// Viewers that may come to one video.
pub const MAX_VIEWERS_OF_A_VIDEO: u64 = 10_000_000;
/// What a new reader holds where there is none to compare it with.
const DEFAULT_READER_CAPACITY: u64 = 20_000;
const MINUTE_MS: Millis = 60_000;

/// The changes to a situation that a forecast is made for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WhatIfChanges {
    /// How many readers take viewers, 1 to [`MAX_ASKED_READERS`]; `None`: as many as there are.
    pub readers: Option<usize>,
    /// Viewers that come to videos, in addition to those that are there.
    pub viewers: Vec<(VideoId, u64)>,
}

/// The plans that would be made, and where they lead.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forecast {
    /// The situation that the first plan is made for. Every plan's positions of readers and videos are those in it.
    pub start: Situation,
    /// The plans, one a minute. One without orders may stand before others: videos rest after a change.
    pub plans: Vec<Plan>,
    /// The situation after the last plan.
    pub end: Situation,
    /// Whether nothing was left to be done, before [`MAX_PLANNED_MINUTES`] were over.
    pub is_settled: bool,
}

/// Plans for the situation with the changes made. `limits.budget.full` is what may be moved in a minute.
pub fn forecast(situation: Situation, limits: &PlanLimits, changes: &WhatIfChanges) -> Forecast {
    let mut from = situation;
    for (video, viewers) in &changes.viewers {
        add_viewers(&mut from, video, *viewers);
    }
    if let Some(readers) = changes.readers {
        set_reader_count(&mut from, readers.clamp(1, MAX_ASKED_READERS));
    }
    let from = from.in_name_order();
    let mut to = from.clone();
    let (mut plans, mut settled) = (Vec::new(), false);
    let limits = PlanLimits { budget: ViewerMoveBudget::full_bucket(limits.budget.full), ..*limits };
    while plans.len() < MAX_PLANNED_MINUTES && !settled {
        let made = make_plan(&to, &limits);
        // What only rests now is looked at again in the next minute.
        settled = made.orders.is_empty() && !made.bound_by.contains(&MetLimit::Rest);
        to.apply_plan(&made, to.now);
        // Everything has come to rest by the next look: the forecast counts minutes, not seconds.
        to.now += MINUTE_MS.max(limits.rest_ms);
        to.videos.iter_mut().for_each(|video| video.moving = false);
        plans.push(made);
    }
    Forecast { start: from, plans, end: to, is_settled: settled }
}

/// Viewers come to a video: to its readers by their shares, or they wait where it has none.
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
        // What the division left over.
        Some(first) => first.viewers = first.viewers.saturating_add(left),
        None => video.waiting = video.waiting.saturating_add(left),
    }
}

/// New readers hold as much as the middle one of those that are open; the last ones by their names are emptied.
fn set_reader_count(situation: &mut Situation, wanted: usize) {
    let mut open: Vec<usize> = (0..situation.readers.len())
        .filter(|at| situation.readers[*at].standing == ReaderAvailability::Open)
        .collect();
    // `reader-10` comes after `reader-9`.
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

    /// `viewers` of each reader, each with a video of its own.
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
                // A full budget admits one order that is larger than itself.
                prop_assert!(plan.moved <= budget || plan.orders.iter().filter(|order| order.moved > 0).count() == 1);
            }
        }
    }
}
