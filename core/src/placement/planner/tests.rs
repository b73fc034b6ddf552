use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::placement::situation::{
    PlacementReader, PlacementVideo, ReaderAvailability, VideoPart, ViewerMoveBudget, WHOLE_SHARE,
};
use crate::placement::{ChangeKind, OrderReason, PlannedOrder, plan_in_zones};
use crate::{ReaderId, VideoId};

const NOW: i64 = 1_800_000_000_000;

fn reader(at: usize, capacity: u64, standing: ReaderAvailability) -> PlacementReader {
    PlacementReader { id: ReaderId::parse(&format!("r{at:03}")).unwrap(), capacity, standing }
}

/// A video with these viewers on these readers; without parts, it has waiting viewers only.
fn video(at: usize, parts: &[(usize, u64)], waiting: u64) -> PlacementVideo {
    let share = WHOLE_SHARE / parts.len().max(1) as u32;
    let part = |&(reader, viewers): &(usize, u64)| VideoPart { reader, viewers, share };
    PlacementVideo {
        id: VideoId::parse(&format!("v{at:03}")).unwrap(),
        epoch: if parts.is_empty() { 0 } else { 7 },
        changed: 0,
        waiting,
        moving: false,
        parts: parts.iter().map(part).collect(),
    }
}

/// Open readers with a capacity of 20,000, and a video for each entry of `videos`.
fn situation(readers: usize, videos: &[&[(usize, u64)]]) -> Situation {
    Situation {
        now: NOW,
        readers: (0..readers).map(|at| reader(at, 20_000, ReaderAvailability::Open)).collect(),
        videos: videos.iter().enumerate().map(|(at, parts)| video(at, parts, 0)).collect(),
    }
}

fn limits() -> PlanLimits {
    PlanLimits { floor_viewers: 0, budget: ViewerMoveBudget::without_limit(), ..PlanLimits::default() }
}

fn kinds(plan: &Plan) -> Vec<(usize, ChangeKind)> {
    plan.orders.iter().map(|order| (order.video, order.kind)).collect()
}

fn order_viewers(order: &PlannedOrder) -> Vec<(usize, u64)> {
    order.to.iter().map(|part| (part.reader, part.viewers)).collect()
}

#[test]
fn viewers_without_a_reader_come_first_and_cost_nothing() {
    let mut situation = situation(2, &[&[(0, 500)], &[], &[]]);
    situation.videos[1].waiting = 300;
    situation.videos[2].waiting = 200;
    let none = PlanLimits { budget: ViewerMoveBudget { available: 0, full: 0 }, ..limits() };
    let plan = make_plan(&situation, &none);
    assert_eq!(kinds(&plan), [(1, ChangeKind::Place), (2, ChangeKind::Place)]);
    assert_eq!(
        (order_viewers(&plan.orders[0]), order_viewers(&plan.orders[1])),
        (vec![(1, 300)], vec![(1, 200)])
    );
    assert_eq!((plan.moved, plan.after.waiting, plan.after.max_over_mean), (0, 0, 1_000_000));
    assert!(plan.orders[0].explain(&situation).contains("300 viewers wait"));
}

#[test]
fn a_draining_reader_is_emptied_also_of_videos_nobody_watches() {
    let mut situation =
        situation(3, &[&[(0, 400)], &[(0, 300)], &[(0, 0)], &[(0, 100), (1, 100)], &[(2, 400)]]);
    situation.readers[0].standing = ReaderAvailability::Draining;
    situation.videos[0].moving = true;
    let plan = make_plan(&situation, &PlanLimits { rebalance: false, ..limits() });
    assert_eq!(plan.orders.len(), 4);
    assert!(plan.orders.iter().all(|order| order.kind == ChangeKind::Drain));
    assert_eq!((plan.after.on_draining, plan.moved), (0, 800));
    assert_eq!(order_viewers(plan.orders.iter().find(|order| order.video == 3).unwrap()), [(1, 200)]);
    assert_eq!(plan.bound_by, [ReachedLimit::SafetyOnly]);
}

#[test]
fn drains_come_before_balance_and_within_the_budget() {
    let mut situation = situation(4, &[&[(0, 600)], &[(0, 500)], &[(1, 900)], &[(1, 800)], &[(1, 700)]]);
    situation.readers[0].standing = ReaderAvailability::Draining;
    let budget = ViewerMoveBudget { available: 700, full: 20_000 };
    let plan = make_plan(&situation, &PlanLimits { budget, ..limits() });
    assert_eq!(kinds(&plan), [(0, ChangeKind::Drain)]);
    assert_eq!((plan.moved, &plan.bound_by[..]), (600, &[ReachedLimit::Budget][..]));
    assert_eq!((plan.rejected[0].viewers, plan.rejected[0].kind), (500, ChangeKind::Drain));
    assert!(plan.rejected[0].explain(&situation).contains("budget"));
}

#[test]
fn a_full_bucket_admits_one_order_larger_than_itself() {
    let mut situation = situation(3, &[&[(0, 600)], &[(0, 500)], &[(1, 1000)]]);
    situation.readers[0].standing = ReaderAvailability::Draining;
    let with = |available| PlanLimits { budget: ViewerMoveBudget { available, full: 400 }, ..limits() };
    assert_eq!(make_plan(&situation, &with(399)).orders, []);
    assert_eq!(kinds(&make_plan(&situation, &with(400))), [(0, ChangeKind::Drain)]);
}

#[test]
fn a_hot_video_is_spread_and_a_cooled_one_drawn_together() {
    let mut situation = situation(4, &[&[(0, 4000)], &[(1, 1000)], &[(2, 1000)], &[(3, 1000)]]);
    let made = make_plan(&situation, &limits());
    let split = made.orders.iter().find(|order| order.video == 0).unwrap();
    assert_eq!(split.kind, ChangeKind::Split);
    assert!(split.to.len() >= 3, "{split:?}");
    let OrderReason::Hot { limit, by_share, .. } = split.why else { panic!("{:?}", split.why) };
    assert_eq!((limit, by_share), (1925, true));
    assert!(made.after.max_over_mean <= 1_100_000);
    situation.apply_plan(&made, NOW - 60_000);
    // With half the viewers on the same readers, joining waits; with a quarter of them, it does not.
    for (part, joined) in [(800, false), (100, true)] {
        situation.videos[0].parts.iter_mut().for_each(|held| held.viewers = part);
        let plan = make_plan(&situation, &limits());
        let order = plan.orders.iter().find(|order| order.video == 0 && order.kind == ChangeKind::Join);
        assert_eq!(order.is_some(), joined, "{plan:?}");
    }
}

#[test]
fn a_video_is_hot_by_the_configured_limit() {
    let limits = PlanLimits { hot_video_viewers: 100, tolerance: 1000, ..limits() };
    let situation = situation(3, &[&[(0, 150)], &[(1, 100)], &[(2, 100)]]);
    let plan = make_plan(&situation, &limits);
    assert_eq!(kinds(&plan), [(0, ChangeKind::Split)]);
    assert!(plan.orders[0].explain(&situation).contains("hot video may have 100"));
    assert!(plan.orders[0].to.iter().all(|part| part.viewers <= 100));
}

#[test]
fn an_exchange_balances_what_no_single_move_can() {
    // The loads are 1,050 and 950, and no single video can move; exchanging 500 for 450 evens them out.
    let situation = situation(2, &[&[(0, 550)], &[(0, 500)], &[(1, 500)], &[(1, 450)]]);
    let plan = make_plan(&situation, &PlanLimits { tolerance: 40, ..limits() });
    assert_eq!(plan.orders.len(), 2, "{plan:?}");
    assert!(plan.orders.iter().all(|order| order.kind == ChangeKind::Swap));
    assert_eq!(plan.after.max_over_mean, 1_000_000);
    assert!(plan.orders[0].explain(&situation).contains("changes places"));
}

#[test]
fn several_videos_move_where_none_alone_is_enough() {
    let small: Vec<[(usize, u64); 1]> = (0..20).map(|_| [(0, 50)]).collect();
    let videos: Vec<&[(usize, u64)]> = small.iter().map(|video| &video[..]).collect();
    let plan = make_plan(&situation(4, &videos), &limits());
    assert_eq!((plan.orders.len(), plan.moved, plan.after.max_over_mean), (15, 750, 1_000_000));
}

#[test]
fn excess_passes_through_a_reader_with_small_videos() {
    // Reader 0 is too full by 60, with two large videos; the free room is in tens on readers 2 to 7.
    let mut videos: Vec<Vec<(usize, u64)>> = vec![vec![(0, 530)], vec![(0, 530)]];
    videos.extend((0..100).map(|_| vec![(1, 10)]));
    videos.extend((2..8).map(|reader| vec![(reader, 990)]));
    let videos: Vec<&[(usize, u64)]> = videos.iter().map(|video| &video[..]).collect();
    let plan = make_plan(&situation(8, &videos), &PlanLimits { tolerance: 20, ..limits() });
    assert_eq!(plan.after.outside, 0, "{:?}", plan.after);
}

#[test]
fn a_recently_moved_video_rests_except_for_drains() {
    let mut situation = situation(2, &[&[(0, 500)], &[(0, 500)]]);
    situation.videos.iter_mut().for_each(|video| video.changed = NOW - 29_999);
    let resting = make_plan(&situation, &limits());
    assert_eq!((&resting.orders[..], &resting.bound_by[..]), (&[][..], &[ReachedLimit::Rest][..]));
    situation.now += 1;
    assert_eq!(kinds(&make_plan(&situation, &limits())).len(), 1);
    situation.now -= 1;
    situation.readers[0].standing = ReaderAvailability::Draining;
    assert_eq!(kinds(&make_plan(&situation, &limits())).len(), 2);
}

#[test]
fn nobody_is_moved_for_a_handful_of_viewers() {
    let situation = situation(2, &[&[(0, 10)], &[(0, 10)]]);
    assert_eq!(make_plan(&situation, &PlanLimits { floor_viewers: 25, ..limits() }).orders, []);
    assert_eq!(make_plan(&situation, &limits()).orders.len(), 1);
}

#[test]
fn readers_are_loaded_in_proportion_to_capacity() {
    let mut situation = situation(2, &[&[(0, 100)], &[(0, 100)], &[(0, 100)], &[(0, 100)]]);
    situation.readers[0].capacity = 300;
    situation.readers[1].capacity = 900;
    let plan = make_plan(&situation, &limits());
    assert_eq!((plan.orders.len(), plan.after.max_over_mean), (3, 1_000_000));
}

#[test]
fn nothing_is_moved_when_no_reader_has_room() {
    let mut situation = situation(2, &[&[(0, 900)], &[(1, 900)]]);
    situation.readers.iter_mut().for_each(|reader| reader.capacity = 1000);
    situation.readers[0].standing = ReaderAvailability::Draining;
    let made = make_plan(&situation, &limits());
    assert_eq!((&made.orders[..], made.bound_by[0]), (&[][..], ReachedLimit::Capacity));
    situation.readers[1].standing = ReaderAvailability::Closed;
    assert_eq!(make_plan(&situation, &limits()).bound_by, [ReachedLimit::NoOpenReader]);
}

/// The zone of each reader; `None` if it is not known.
fn zones(situation: &Situation, of: impl Fn(usize) -> Option<usize>) -> ReaderZones {
    let readers = situation.readers.iter().enumerate();
    readers.filter_map(|(at, reader)| Some((reader.id.clone(), format!("zone-{}", of(at)?)))).collect()
}

/// The number of readers that a video has in each zone.
fn by_zone(order: &PlannedOrder, of: impl Fn(usize) -> usize) -> Vec<usize> {
    let mut counts = vec![0; 3];
    order.to.iter().for_each(|part| counts[of(part.reader)] += 1);
    counts
}

#[test]
fn a_hot_videos_next_reader_is_in_another_zone_where_that_costs_no_balance() {
    // By name alone it would be the second reader, and then the third.
    let of = |at: usize| [0, 0, 0, 1, 1, 2][at];
    let hot: &[&[(usize, u64)]] =
        &[&[(0, 3600)], &[(1, 900)], &[(2, 900)], &[(3, 900)], &[(4, 900)], &[(5, 900)]];
    let mut now = situation(6, hot);
    let with = zones(&now, |at| Some(of(at)));
    let (plain, made) = (make_plan(&now, &limits()), plan_in_zones(&now, &limits(), &with));
    let of_hot = |plan: &Plan| plan.orders.iter().find(|order| order.video == 0).unwrap().clone();
    assert_eq!((made.moved, made.after), (plain.moved, plain.after), "neither dearer nor less even");
    assert_eq!(of_hot(&plain).to.len(), of_hot(&made).to.len());
    let counts = by_zone(&of_hot(&made), of);
    assert!(counts.iter().all(|count| *count >= 1), "{counts:?} of {:?}", of_hot(&made));
    assert_ne!(of_hot(&plain), of_hot(&made));
    // The readers in the other zones are full: balance comes first.
    for video in [3, 4, 5] {
        now.videos[video].parts[0].viewers = 3000;
    }
    let made = plan_in_zones(&now, &limits(), &with);
    assert_eq!(of_hot(&made), of_hot(&make_plan(&now, &limits())));
}

/// Checks the properties that every plan must have, for any situation.
fn check_plan(situation: &Situation, limits: &PlanLimits, plan: &Plan) -> Result<(), TestCaseError> {
    let mut seen = HashSet::new();
    let mut gains = vec![false; situation.readers.len()];
    let mut moved = 0;
    for order in &plan.orders {
        let video = &situation.videos[order.video];
        prop_assert!(seen.insert(order.video));
        prop_assert_eq!(order.epoch, video.epoch);
        prop_assert_ne!(&order.from, &order.to);
        prop_assert_eq!(order.to.iter().map(|part| part.share).sum::<u32>(), WHOLE_SHARE);
        prop_assert!(order.to.iter().all(|part| part.share > 0));
        prop_assert!(order.to.is_sorted_by(|a, b| a.reader < b.reader));
        prop_assert!(order.to.len() <= limits.max_readers_per_video.max(order.from.len()));
        prop_assert_eq!(order.to.iter().map(|part| part.viewers).sum::<u64>(), video.viewers());
        prop_assert!(!order.explain(situation).is_empty());
        let mut gained = 0;
        for part in &order.to {
            let had = order.from.iter().find(|had| had.reader == part.reader);
            let more = part.viewers.saturating_sub(had.map_or(0, |had| had.viewers));
            gained += more;
            if had.is_none() || more > 0 {
                prop_assert_eq!(situation.readers[part.reader].standing, ReaderAvailability::Open);
                gains[part.reader] |= more > 0;
            }
        }
        let cost = if order.from.is_empty() { 0 } else { gained.saturating_sub(video.waiting) };
        prop_assert_eq!(order.moved, cost);
        moved += order.moved;
    }
    prop_assert_eq!(plan.moved, moved);
    let paying = plan.orders.iter().filter(|order| order.moved > 0).count();
    let oversize = paying == 1 && limits.budget.available >= limits.budget.full;
    prop_assert!(moved <= limits.budget.available || oversize, "{} moved", moved);
    let mut after = situation.clone();
    after.apply_plan(plan, 0);
    // The viewers have arrived; while they move, they would count by the shares, and might be one viewer elsewhere.
    plan.orders.iter().for_each(|order| after.videos[order.video].moving = false);
    let after = Model::new(&after, limits);
    for seat in after.readers.iter().zip(gains).filter(|(_, gains)| *gains).map(|(seat, _)| seat) {
        prop_assert!(seat.viewers_planned <= seat.capacity, "{seat:?} in {plan:?}");
    }
    prop_assert!(plan.rejected.len() <= Plan::MAX_REJECTED);
    prop_assert!(plan.rejected.iter().all(|rejected| !rejected.explain(situation).is_empty()));
    Ok(())
}

fn any_situation() -> impl Strategy<Value = (Situation, PlanLimits)> {
    let standing = prop_oneof![6 => Just(ReaderAvailability::Open), 1 => Just(ReaderAvailability::Closed), 1 => Just(ReaderAvailability::Draining)];
    let capacity = prop_oneof![Just(1000_u64), Just(4000), 0_u64..2000];
    let viewers = prop_oneof![6 => 0_u64..40, 3 => 0_u64..400, 1 => 0_u64..3000];
    let parts = prop::collection::btree_map(0_usize..12, viewers.clone(), 0..4);
    let seats = prop::collection::vec((capacity, standing), 1..12);
    let films = prop::collection::vec(
        (parts, prop_oneof![4 => Just(0), 1 => viewers], prop::bool::weighted(0.1)),
        0..60,
    );
    let bounds = (0_u32..300, prop_oneof![Just(0_u64), Just(25)], 30_u64..2000, 1_usize..6);
    (seats, films, bounds).prop_map(|(seats, films, (tolerance, floor_viewers, hot_video_viewers, most))| {
        let readers = seats.iter().enumerate();
        let readers: Vec<PlacementReader> =
            readers.map(|(at, &(capacity, standing))| reader(at, capacity, standing)).collect();
        let film = |(at, (parts, waiting, moving)): (usize, &(_, u64, bool))| {
            let parts: &std::collections::BTreeMap<usize, u64> = parts;
            let parts: Vec<(usize, u64)> = parts
                .iter()
                .filter(|part| *part.0 < readers.len())
                .map(|(at, viewers)| (*at, *viewers))
                .collect();
            PlacementVideo { moving: *moving, ..video(at, &parts, *waiting) }
        };
        let videos = films.iter().enumerate().map(film).collect();
        let base = limits();
        let limits = PlanLimits {
            tolerance,
            floor_viewers,
            hot_video_viewers,
            max_readers_per_video: most.max(3),
            ..base
        };
        (Situation { now: NOW, readers, videos }, limits)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn every_plan_is_sound((situation, limits) in any_situation(), available in 0_u64..3000, full in 1000_u64..3000) {
        check_plan(&situation, &limits, &make_plan(&situation, &limits))?;
        let tight = PlanLimits { budget: ViewerMoveBudget { available: available.min(full), full }, ..limits };
        check_plan(&situation, &tight, &make_plan(&situation, &tight))?;
        let safety = PlanLimits { rebalance: false, ..limits };
        let safe = make_plan(&situation, &safety);
        check_plan(&situation, &safety, &safe)?;
        prop_assert!(safe.orders.iter().all(|order| matches!(order.kind, ChangeKind::Place | ChangeKind::Drain)));
    }

    #[test]
    fn equal_readers_of_a_hot_video_are_spread_over_zones_at_no_cost(
        in_zones in prop::collection::vec(1_usize..5, 2..4),
        hot in 120_u64..900,
    ) {
        let zone_of: Vec<usize> =
            in_zones.iter().enumerate().flat_map(|(zone, readers)| vec![zone; *readers]).collect();
        let mut videos: Vec<Vec<(usize, u64)>> = vec![vec![(0, hot)]];
        videos.extend((1..zone_of.len()).flat_map(|at| vec![vec![(at, 60)]; 10]));
        let videos: Vec<&[(usize, u64)]> = videos.iter().map(Vec::as_slice).collect();
        let situation = situation(zone_of.len(), &videos);
        // With a tolerance this wide, balance, which does not know zones, has nothing to do.
        let limits = PlanLimits { hot_video_viewers: 100, tolerance: 1000, ..limits() };
        let with = zones(&situation, |at| Some(zone_of[at]));
        let (plain, made) = (make_plan(&situation, &limits), plan_in_zones(&situation, &limits, &with));
        prop_assert_eq!((made.moved, &made.after), (plain.moved, &plain.after));
        let order = made.orders.iter().find(|order| order.video == 0).expect("it is hot");
        let counts = by_zone(order, |at| zone_of[at]);
        // A zone has two readers more than another zone only if that one has no further reader.
        for (zone, count) in counts.iter().enumerate().take(in_zones.len()) {
            let most = counts.iter().max().unwrap();
            prop_assert!(count + 1 >= *most || *count == in_zones[zone], "{:?} of {:?}", counts, in_zones);
        }
    }

    #[test]
    fn zones_that_leave_no_choice_change_nothing((situation, limits) in any_situation(), known in 0_usize..3) {
        let one = zones(&situation, |at| (at % 3 < known).then_some(1));
        prop_assert_eq!(plan_in_zones(&situation, &limits, &one), make_plan(&situation, &limits));
    }

    #[test]
    fn plans_in_zones_are_sound_and_change_nothing_when_made_again(
        (situation, limits) in any_situation(),
        number in 2_usize..4,
        unknown in 0_usize..6,
    ) {
        let mut situation = situation;
        situation.videos.iter_mut().for_each(|video| video.moving = false);
        let with = zones(&situation, |at| (at % 5 != unknown).then_some(at % number));
        let first = plan_in_zones(&situation, &limits, &with);
        check_plan(&situation, &limits, &first)?;
        situation.apply_plan(&first, 0);
        let second = plan_in_zones(&situation, &limits, &with);
        prop_assert!(second.orders.is_empty(), "{:?}", second);
    }

    #[test]
    fn planning_again_on_its_own_result_changes_nothing((situation, limits) in any_situation()) {
        // Videos that had to rest may be worth moving once their viewers have arrived.
        let mut situation = situation;
        situation.videos.iter_mut().for_each(|video| video.moving = false);
        let first = make_plan(&situation, &limits);
        situation.apply_plan(&first, 0);
        let second = make_plan(&situation, &limits);
        prop_assert!(second.orders.is_empty(), "{:?}", second);
    }

    #[test]
    fn plans_within_a_budget_come_to_an_end((situation, limits) in any_situation()) {
        let limits = PlanLimits { budget: ViewerMoveBudget::full_bucket(200), ..limits };
        let mut situation = situation;
        situation.videos.iter_mut().for_each(|video| video.moving = false);
        for round in 0.. {
            prop_assert!(round < 1000, "no end");
            let made = make_plan(&situation, &limits);
            if made.orders.is_empty() {
                break;
            }
            situation.apply_plan(&made, 0);
        }
    }

    #[test]
    fn the_order_of_the_input_does_not_change_the_plan((situation, limits) in any_situation()) {
        let mut turned = situation.clone();
        turned.readers.reverse();
        turned.videos.reverse();
        let last = turned.readers.len() - 1;
        for part in turned.videos.iter_mut().flat_map(|video| &mut video.parts) {
            part.reader = last - part.reader;
        }
        let (one, other) = (situation.sorted_by_name(), turned.sorted_by_name());
        prop_assert_eq!(&one, &other);
        prop_assert_eq!(make_plan(&one, &limits), make_plan(&other, &limits));
    }
}
