use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::join::viewers_to_send;
use super::*;
use crate::handover::{AssignedReaders, ElapsedTime, HandOver, HeldVideo, ReaderShare};
use crate::{ReaderId, VideoId};

/// Returns the names of [`readers_to_join`], in their order.
fn readers_for_new_viewer(
    seen: &FakeCluster,
    video: &VideoId,
    assigned: &AssignedReaders,
    lots: [u32; 2],
) -> Vec<ReaderId> {
    readers_to_join(seen, video, assigned, lots).into_iter().map(|it| it.reader).collect()
}

#[derive(Default)]
struct FakeCluster {
    assigned: BTreeMap<VideoId, AssignedReaders>,
    standing: BTreeMap<ReaderId, ReaderStatus>,
    held: BTreeMap<(ReaderId, VideoId), HeldVideo>,
    usage: BTreeMap<ReaderId, u64>,
    room: BTreeMap<ReaderId, u64>,
    closed: BTreeSet<ReaderId>,
    on_their_way: u64,
}

impl ClusterView for FakeCluster {
    fn assigned_readers(&self, video: &VideoId) -> Option<&AssignedReaders> {
        self.assigned.get(video)
    }
    fn reader_status(&self, reader: &ReaderId) -> Option<ReaderStatus> {
        self.standing.get(reader).copied()
    }
    fn viewer_url(&self, reader: &ReaderId) -> Option<String> {
        Some(format!("http://{reader}"))
    }
    fn held_video(&self, reader: &ReaderId, video: &VideoId) -> Option<&HeldVideo> {
        self.held.get(&(reader.clone(), video.clone()))
    }
    fn usage_thousandths(&self, reader: &ReaderId) -> u64 {
        self.usage.get(reader).copied().unwrap_or(0)
    }
    fn room(&self, reader: &ReaderId) -> u64 {
        let room = if self.usage_thousandths(reader) >= FULL_USAGE_THOUSANDTHS { 0 } else { u64::MAX };
        self.room.get(reader).copied().unwrap_or(room)
    }
    fn reported_usage(&self, reader: &ReaderId) -> (u64, u64) {
        (CAPACITY, CAPACITY.saturating_sub(self.room(reader)))
    }
    fn is_open(&self, reader: &ReaderId) -> bool {
        !self.closed.contains(reader) && self.reader_status(reader) == Some(ReaderStatus::Alive)
    }
    fn viewers(&self, video: &VideoId) -> u64 {
        let held = self.held.values().filter(|held| held.video == *video);
        self.on_their_way + held.map(|held| held.viewers).sum::<u64>()
    }
}

const CAPACITY: u64 = 1_000;
const PACE: HandOverPace =
    HandOverPace { target_duration: Duration::from_secs(10), min_per_second: 5, max_per_second: 1_000 };

fn video() -> VideoId {
    VideoId::parse("v").unwrap()
}

fn reader(name: &str) -> ReaderId {
    ReaderId::parse(name).unwrap()
}

fn shares(names: &[(&str, u32)]) -> Vec<ReaderShare> {
    names.iter().map(|(name, weight)| ReaderShare { reader: reader(name), weight: *weight }).collect()
}

fn held(viewers: u64, epoch: u64) -> HeldVideo {
    HeldVideo { video: video(), viewers, epoch, ready: true, shedding: false }
}

impl FakeCluster {
    fn with_assignment(epoch: u64, names: &[(&str, u32)]) -> Self {
        let mut seen = Self::default();
        for name in ["a", "b", "c"] {
            seen.standing.insert(reader(name), ReaderStatus::Alive);
        }
        seen.assigned.insert(video(), AssignedReaders { epoch, readers: shares(names) });
        seen
    }

    fn with_held(mut self, name: &str, held: HeldVideo) -> Self {
        self.held.insert((reader(name), video()), held);
        self
    }

    fn with_status(mut self, name: &str, standing: ReaderStatus) -> Self {
        self.standing.insert(reader(name), standing);
        self
    }

    fn answer(&self, name: &str) -> HeartbeatOutcome {
        let held = self.held.get(&(reader(name), video())).cloned();
        answer_heartbeat(self, &reader(name), held.as_slice(), &PACE)
    }
}

fn order(expected: u64, names: &[(&str, u32)]) -> AssignmentOrder {
    AssignmentOrder { video: video(), expected_epoch: expected, readers: shares(names) }
}

fn at_second(seconds: u64) -> ElapsedTime {
    Duration::from_secs(seconds)
}

#[test]
fn an_asker_is_never_given_an_older_epoch_than_it_knows() {
    let seen = FakeCluster::with_assignment(5, &[("a", 1), ("b", 1)]);
    assert_eq!(decide_need(&seen, &video(), 5, |_| None, |_| None), VideoNeed::AlreadyServed);
    let again = VideoNeed::Assign { expected: Some(5), readers: shares(&[("a", 1), ("b", 1)]), seen: 9 };
    assert_eq!(decide_need(&seen, &video(), 9, |_| None, |_| None), again);
    let lost = VideoNeed::Assign { expected: None, readers: shares(&[("c", 1)]), seen: 9 };
    assert_eq!(decide_need(&FakeCluster::default(), &video(), 9, |_| Some(reader("c")), |_| None), lost);
    assert_eq!(decide_need(&FakeCluster::default(), &video(), 9, |_| None, |_| None), VideoNeed::NoReader);
}

#[test]
fn gone_readers_are_removed_and_replaced_when_none_is_left() {
    let seen = FakeCluster::with_assignment(5, &[("a", 1), ("b", 2)]).with_status("a", ReaderStatus::Gone);
    let rest = VideoNeed::Assign { expected: Some(5), readers: shares(&[("b", 2)]), seen: 5 };
    assert_eq!(decide_need(&seen, &video(), 0, |_| None, |_| None), rest);
    let seen = seen.with_status("b", ReaderStatus::Gone);
    assert_eq!(decide_need(&seen, &video(), 0, |_| None, |_| None), VideoNeed::AlreadyServed);
    let other = VideoNeed::Assign { expected: Some(5), readers: shares(&[("c", 1)]), seen: 5 };
    assert_eq!(decide_need(&seen, &video(), 0, |_| Some(reader("c")), |_| None), other);
}

#[test]
fn a_video_whose_readers_are_full_is_given_one_more_and_nobody_moves() {
    let mut seen = FakeCluster::with_assignment(5, &[("a", 1), ("b", 2)])
        .with_held("a", held(100, 5))
        .with_held("b", held(200, 5));
    let decided = |seen: &FakeCluster, relief: Option<&str>| {
        decide_need(seen, &video(), 5, |_| None, |_| relief.map(reader))
    };
    seen.usage = [(reader("a"), 1_000), (reader("b"), 999)].into();
    assert_eq!(decided(&seen, Some("c")), VideoNeed::AlreadyServed);
    seen.usage.insert(reader("b"), 1_000);
    assert_eq!(decided(&seen, None), VideoNeed::AlreadyServed);
    let readers = shares(&[("a", 300_000), ("b", 600_000), ("c", 100_000)]);
    let more = VideoNeed::Assign { expected: Some(5), readers: readers.clone(), seen: 5 };
    assert_eq!(decided(&seen, Some("c")), more);
    // New viewers go to the new reader, also beyond its share, and no viewer is moved to the full ones.
    seen.assigned.insert(video(), AssignedReaders { epoch: 6, readers });
    let seen = seen.with_held("c", held(90, 6));
    let assigned = seen.assigned[&video()].clone();
    assert_eq!(readers_for_new_viewer(&seen, &video(), &assigned, [0, 0])[0], reader("c"));
    for name in ["a", "b", "c"] {
        assert!(seen.answer(name).hand_overs.is_empty(), "{name}");
    }
}

#[test]
fn viewers_go_to_readers_that_are_alive_and_have_not_more_than_their_share() {
    let seen = FakeCluster::with_assignment(5, &[("a", 1), ("b", 1), ("c", 1)])
        .with_held("a", held(900, 5))
        .with_held("b", held(100, 5))
        .with_status("c", ReaderStatus::Suspect);
    let assigned = seen.assigned[&video()].clone();
    for lots in [[0, 0], [1, 2], [7, 3]] {
        assert_eq!(
            readers_for_new_viewer(&seen, &video(), &assigned, lots),
            [reader("b"), reader("a"), reader("c")]
        );
    }
}

#[test]
fn viewers_for_whom_a_reader_has_no_place_go_to_those_that_have() {
    // "a" is 9 viewers below its share and has one place: the other eight are sent to a reader with places, although
    // "b" has its share.
    assert_eq!(viewers_to_send(&[(9, 1), (0, 250)]), [1, 8]);
    assert_eq!(viewers_to_send(&[(9, 1), (0, 30), (0, 10)]), [1, 6, 2]);
    assert_eq!(viewers_to_send(&[(9, 100), (3, 100)]), [9, 3], "where there are places, shares decide");
    assert_eq!(viewers_to_send(&[(9, 2), (0, 3)]), [2, 3], "nobody is sent more than it has places for");
    assert_eq!(viewers_to_send(&[(9, 0), (0, 0)]), [0, 0]);
    assert_eq!(viewers_to_send(&[(u64::MAX, 5), (u64::MAX, u64::MAX)]), [5, u64::MAX]);
    let mut seen = FakeCluster::with_assignment(1, &[("a", 9), ("b", 1)])
        .with_held("a", held(17, 1))
        .with_held("b", held(3, 1));
    seen.on_their_way = 10;
    seen.room.extend([(reader("a"), 1), (reader("b"), 250)]);
    let sent_to_b = |lot: u32| {
        readers_for_new_viewer(&seen, &video(), &seen.assigned[&video()], [lot, 0])[0] == reader("b")
    };
    assert!(sent_to_b(u32::MAX / 2) && sent_to_b(u32::MAX));
}

#[test]
fn a_gateway_is_told_to_whom_viewers_are_to_come_and_who_takes_them() {
    let joined = |seen: &FakeCluster| {
        let mut readers = readers_to_join(seen, &video(), &seen.assigned[&video()], [0, 0]);
        readers.sort_by(|one, other| one.reader.cmp(&other.reader));
        readers.iter().map(|it| (it.wanted_viewers, it.takes_viewers)).collect::<Vec<_>>()
    };
    let spare = |seen: &FakeCluster| {
        let mut readers = readers_to_join(seen, &video(), &seen.assigned[&video()], [0, 0]);
        readers.sort_by(|one, other| one.reader.cmp(&other.reader));
        readers.iter().map(|it| it.spare_viewers).collect::<Vec<_>>()
    };
    let mut seen = FakeCluster::with_assignment(5, &[("a", 1), ("b", 1), ("c", 1)])
        .with_held("a", held(100, 5))
        .with_held("b", held(60, 5))
        .with_held("c", held(80, 5));
    assert_eq!(joined(&seen), [(0, true), (20, true), (0, true)], "each has 80 as its share");
    assert_eq!(
        spare(&seen),
        [0, 4, 4],
        "a twentieth of the share, where a reader has not more than that already"
    );
    let over = FakeCluster::with_assignment(5, &[("a", 1), ("b", 1), ("c", 1)])
        .with_held("a", held(83, 5))
        .with_held("b", held(77, 5))
        .with_held("c", held(80, 5));
    assert_eq!((joined(&over)[0], spare(&over)), ((0, true), vec![1, 4, 4]));
    seen.closed.insert(reader("c"));
    assert_eq!(
        joined(&seen),
        [(0, true), (20, true), (0, false)],
        "whoever goes to a closed one is moved again"
    );
    seen.closed.extend([reader("a"), reader("b")]);
    assert_eq!(joined(&seen), [(0, true), (20, true), (0, true)], "all of them are closed");
    let sheds = FakeCluster::with_assignment(5, &[("a", 1), ("b", 1)])
        .with_held("a", held(100, 5))
        .with_held("b", held(10, 5));
    assert_eq!(joined(&sheds), [(0, false), (45, true)], "one that sends viewers away takes none");
    assert_eq!(spare(&sheds), [0, 2]);
    let alone = FakeCluster::with_assignment(5, &[("a", 1)]).with_held("a", held(100, 5));
    assert_eq!(joined(&alone), [(MAX_WANTED_VIEWERS, true)]);
    assert_eq!(spare(&alone), [0]);
}

#[test]
fn of_two_drawn_readers_the_less_used_is_chosen() {
    let mut seen = FakeCluster::with_assignment(5, &[("a", 1), ("b", 1), ("c", 1)]);
    seen.usage = [(reader("a"), 300), (reader("b"), 200), (reader("c"), 100)].into();
    let assigned = seen.assigned[&video()].clone();
    let best = |lots| readers_for_new_viewer(&seen, &video(), &assigned, lots)[0].clone();
    // The readers in the order of their usage: c, b, a.
    assert_eq!([best([2, 1]), best([0, 2]), best([2, 2])], [reader("b"), reader("c"), reader("a")]);
}

#[test]
fn viewers_are_handed_over_once_the_target_is_ready() {
    let seen = FakeCluster::with_assignment(6, &[("b", 1)]).with_held("a", held(1_000, 5));
    let answer = seen.answer("a");
    assert_eq!((answer.hand_overs, answer.warm_up_requests), (vec![], vec![(reader("b"), video())]));
    let seen = seen.with_held("b", HeldVideo { ready: false, ..held(0, 6) });
    assert!(seen.answer("a").hand_overs.is_empty());
    let seen = seen.with_held("b", held(0, 6));
    let to = "http://b".to_owned();
    let expected = HandOver { video: video(), epoch: 6, to, here: false, keep: 0, pace: 100 };
    assert_eq!(seen.answer("a").hand_overs, [expected]);
    assert!(seen.with_status("b", ReaderStatus::Suspect).answer("a").hand_overs.is_empty());
}

#[test]
fn a_reader_a_fifth_over_its_share_sheds_down_to_a_tenth_over() {
    let at = |viewers| {
        FakeCluster::with_assignment(6, &[("a", 1), ("b", 3)])
            .with_held("a", held(viewers, 6))
            .with_held("b", held(1_000 - viewers, 6))
    };
    assert!(at(300).answer("a").hand_overs.is_empty());
    assert_eq!(at(301).answer("a").hand_overs[0].keep, 275);
    let begun = |viewers| at(viewers).with_held("a", HeldVideo { shedding: true, ..held(viewers, 6) });
    assert_eq!(begun(276).answer("a").hand_overs[0].keep, 275);
    assert!(begun(275).answer("a").hand_overs.is_empty());
    let order = &at(600).answer("a").hand_overs[0];
    assert_eq!((order.keep, order.here, order.pace), (275, true, 32));
    // A draining reader does not shed viewers to the others: the assignment that replaces it is waited for.
    assert!(at(600).with_status("a", ReaderStatus::Draining).answer("a").hand_overs.is_empty());
}

#[test]
fn viewers_on_their_way_and_at_draining_readers_are_counted() {
    // The viewers of "c" have not arrived at "a" yet.
    let mut seen = FakeCluster::with_assignment(6, &[("a", 1), ("b", 1)])
        .with_held("a", held(0, 6))
        .with_held("b", held(100, 6));
    assert_eq!(seen.answer("b").hand_overs[0].keep, 60);
    seen.on_their_way = 100;
    assert!(seen.answer("b").hand_overs.is_empty());
    seen.on_their_way = 0;
    let seen = seen.with_held("c", held(100, 5));
    assert!(seen.answer("b").hand_overs.is_empty());
    assert_eq!(seen.answer("c").hand_overs[0].to, "http://a");
}

#[test]
fn viewers_are_sent_to_a_closed_reader_only_where_there_is_no_other() {
    let mut seen = FakeCluster::with_assignment(6, &[("a", 1), ("b", 1)])
        .with_held("a", held(40, 6))
        .with_held("b", held(10, 6));
    seen.closed.insert(reader("b"));
    let seen = seen.with_held("c", held(100, 5));
    let assigned = seen.assigned[&video()].clone();
    assert_eq!(readers_for_new_viewer(&seen, &video(), &assigned, [0, 0]), [reader("a"), reader("b")]);
    assert_eq!(seen.answer("c").hand_overs[0].to, "http://a");
    let mut alone =
        FakeCluster::with_assignment(6, &[("b", 1)]).with_held("b", held(0, 6)).with_held("c", held(100, 5));
    alone.closed.insert(reader("b"));
    assert_eq!(alone.answer("c").hand_overs[0].to, "http://b");
    // A closed reader is not filled up to its share by rebalancing, either.
    let mut uneven = FakeCluster::with_assignment(6, &[("a", 1), ("b", 1)])
        .with_held("a", held(900, 6))
        .with_held("b", held(100, 6));
    uneven.closed.insert(reader("b"));
    assert!(uneven.answer("a").hand_overs.is_empty());
}

#[test]
fn a_reader_that_knows_a_later_epoch_gets_no_hand_over_order() {
    let seen =
        FakeCluster::with_assignment(6, &[("b", 1)]).with_held("a", held(10, 7)).with_held("b", held(0, 6));
    let answer = seen.answer("a");
    assert_eq!((answer.outdated_videos, answer.hand_overs), (vec![(video(), 7)], vec![]));
}

#[test]
fn an_order_warms_then_swaps() {
    let (seen, mut coordinator) = (FakeCluster::with_assignment(5, &[("a", 1)]), Coordinator::default());
    let split = order(5, &[("a", 1), ("b", 1)]);
    coordinator.accept_order(at_second(0), Some(1), split.clone(), &seen).unwrap();
    let warm = [OrderStep::WarmUpReader { reader: reader("b"), video: video() }];
    assert_eq!(coordinator.next_steps(at_second(0), &seen), warm);
    assert_eq!(coordinator.next_steps(Duration::from_millis(999), &seen), []);
    assert_eq!(coordinator.next_steps(at_second(1), &seen), warm);
    coordinator.note_warmed(&video(), &reader("b"));
    assert_eq!(coordinator.next_steps(at_second(1), &seen), [OrderStep::SwapAssignment(split.clone())]);
    assert_eq!(coordinator.next_steps(at_second(1), &seen), []);
    coordinator.note_swap_done(&split);
    assert!(!coordinator.is_moving(&video()));
}

#[test]
fn an_order_is_given_up_when_it_takes_too_long_or_something_else_is_in_force() {
    let (mut seen, mut coordinator) = (FakeCluster::with_assignment(5, &[("a", 1)]), Coordinator::default());
    let moved = order(5, &[("b", 1)]);
    coordinator.accept_order(at_second(0), None, moved.clone(), &seen).unwrap();
    assert_eq!(coordinator.next_steps(WARM_UP_TIMEOUT, &seen), [OrderStep::Dropped(moved.clone())]);
    coordinator.accept_order(at_second(9), None, moved.clone(), &seen).unwrap();
    seen.assigned.insert(video(), AssignedReaders { epoch: 6, readers: shares(&[("c", 1)]) });
    assert_eq!(coordinator.next_steps(at_second(9), &seen), [OrderStep::Dropped(moved)]);
}

#[test]
fn orders_that_do_not_fit_are_refused() {
    let (seen, mut coordinator) = (
        FakeCluster::with_assignment(5, &[("a", 1)]).with_status("c", ReaderStatus::Draining),
        Coordinator::default(),
    );
    coordinator.note_term(3);
    let mut refused = |term, order| coordinator.accept_order(at_second(0), Some(term), order, &seen).err();
    assert_eq!(refused(2, order(5, &[("b", 1)])), Some(OrderRefusal::OldTerm { highest: 3 }));
    assert_eq!(refused(3, order(4, &[("b", 1)])), Some(OrderRefusal::OldEpoch { current: Some(5) }));
    for bad in [&[][..], &[("c", 1)], &[("b", 0)], &[("b", 1), ("b", 1)], &[("nobody", 1)]] {
        assert_eq!(refused(3, order(5, bad)), Some(OrderRefusal::BadReaders), "{bad:?}");
    }
    assert_eq!(refused(4, order(5, &[("b", 1)])), None);
    assert_eq!(refused(4, order(5, &[("b", 1)])), Some(OrderRefusal::VideoBusy));
    assert_eq!(refused(3, order(5, &[("b", 1)])), Some(OrderRefusal::OldTerm { highest: 4 }));
}

#[test]
fn viewers_are_not_sent_to_a_leaving_reader_when_another_can_serve() {
    let seen = FakeCluster::with_assignment(5, &[("a", 3)]).with_status("a", ReaderStatus::Leaving);
    let other = VideoNeed::Assign { expected: Some(5), readers: shares(&[("c", 3)]), seen: 5 };
    let choose = |_: &[ReaderShare]| Some(reader("c"));
    assert_eq!(decide_need(&seen, &video(), 0, choose, |_| None), other);
    // "a" is the only reader of the video, and no other can be chosen.
    assert_eq!(decide_need(&seen, &video(), 0, |_| None, |_| None), VideoNeed::AlreadyServed);
    // The video's other reader gets new viewers; a move takes the video from the leaving one.
    let two = FakeCluster::with_assignment(5, &[("a", 3), ("b", 1)]).with_status("a", ReaderStatus::Leaving);
    assert_eq!(decide_need(&two, &video(), 0, choose, |_| None), VideoNeed::AlreadyServed);
    assert_eq!(readers_for_new_viewer(&two, &video(), &two.assigned[&video()], [0, 0])[0], reader("b"));
    // If several readers are leaving, each of them is replaced.
    let both = two.with_status("b", ReaderStatus::Leaving);
    let others = |besides: &[ReaderShare]| besides.is_empty().then(|| reader("c"));
    let one = VideoNeed::Assign { expected: Some(5), readers: shares(&[("c", 3)]), seen: 5 };
    assert_eq!(decide_need(&both, &video(), 0, others, |_| None), one);
    // A suspect reader gets no new viewers, and keeps its share.
    let silent =
        FakeCluster::with_assignment(5, &[("a", 3), ("b", 1)]).with_status("a", ReaderStatus::Leaving);
    let silent = silent.with_status("b", ReaderStatus::Suspect);
    let besides_b = |besides: &[ReaderShare]| (besides == shares(&[("b", 1)])).then(|| reader("c"));
    let with_it = VideoNeed::Assign { expected: Some(5), readers: shares(&[("b", 1), ("c", 3)]), seen: 5 };
    assert_eq!(decide_need(&silent, &video(), 0, besides_b, |_| None), with_it);
    assert_eq!(decide_need(&silent, &video(), 0, |_| None, |_| None), VideoNeed::AlreadyServed);
    // If no reader is leaving, a suspect one is waited for.
    let quiet = FakeCluster::with_assignment(5, &[("b", 1)]).with_status("b", ReaderStatus::Suspect);
    assert_eq!(decide_need(&quiet, &video(), 0, choose, |_| None), VideoNeed::AlreadyServed);
    // A reader that a planner is draining continues to serve until its videos have moved.
    let drained = FakeCluster::with_assignment(5, &[("a", 3)]).with_status("a", ReaderStatus::Draining);
    assert_eq!(decide_need(&drained, &video(), 0, choose, |_| None), VideoNeed::AlreadyServed);
}

#[test]
fn draining_one_reader_moves_no_viewers_of_the_others() {
    let without =
        |seen: &FakeCluster| order_to_empty_readers(seen, &video(), |_| Some(reader("d"))).unwrap().readers;
    let uneven = |a: u64, b: u64, c: u64| {
        FakeCluster::with_assignment(6, &[("a", 1), ("b", 1), ("c", 1)])
            .with_held("a", held(a, 6))
            .with_held("b", held(b, 6))
            .with_held("c", held(c, 6))
            .with_status("c", ReaderStatus::Draining)
    };
    assert_eq!(without(&uneven(100, 95, 105)), shares(&[("a", 1), ("b", 1), ("d", 1)]));
    // The shares follow the viewers; a reader below its share keeps it, because its viewers may be on their way.
    assert_eq!(without(&uneven(150, 50, 100)), shares(&[("a", 150), ("b", 100), ("d", 100)]));
    assert!(
        super::order_to_empty_readers(&FakeCluster::with_assignment(6, &[("a", 1)]), &video(), |_| Some(
            reader("d")
        ))
        .is_none()
    );
}

#[test]
fn no_rebalancing_while_a_reader_of_the_video_is_closed_or_leaving() {
    let uneven = || {
        FakeCluster::with_assignment(6, &[("a", 1), ("b", 1), ("c", 1)])
            .with_held("a", held(900, 6))
            .with_held("b", held(0, 6))
            .with_held("c", held(0, 6))
    };
    assert_eq!(uneven().answer("a").hand_overs.len(), 1);
    for standing in [ReaderStatus::Draining, ReaderStatus::Leaving, ReaderStatus::Suspect] {
        assert!(uneven().with_status("c", standing).answer("a").hand_overs.is_empty(), "{standing:?}");
    }
    let mut closed = uneven();
    closed.closed.insert(reader("c"));
    assert!(closed.answer("a").hand_overs.is_empty());
}

#[test]
fn viewers_stay_where_they_are_while_the_videos_readers_have_no_room() {
    let mut seen =
        FakeCluster::with_assignment(6, &[("b", 1)]).with_held("a", held(100, 5)).with_held("b", held(0, 6));
    seen.usage.insert(reader("b"), FULL_USAGE_THOUSANDTHS);
    let answer = seen.answer("a");
    assert_eq!((answer.hand_overs, answer.videos_without_room), (vec![], vec![(video(), 100)]));
    seen.usage.clear();
    seen.room.insert(reader("b"), 30);
    let answer = seen.answer("a");
    assert_eq!((answer.hand_overs[0].keep, answer.videos_without_room), (70, vec![(video(), 70)]));
    // Two videos that go to the same reader share its free places.
    let other = VideoId::parse("w").unwrap();
    let assigned = seen.assigned[&video()].clone();
    seen.assigned.insert(other.clone(), assigned);
    seen.held.insert((reader("b"), other.clone()), HeldVideo { video: other.clone(), ..held(0, 6) });
    let reports = [held(100, 5), HeldVideo { video: other.clone(), ..held(9, 5) }];
    let answer = answer_to(&seen, &reports);
    let kept: Vec<u64> = answer.hand_overs.iter().map(|order| order.keep).collect();
    assert_eq!((kept, answer.videos_without_room), (vec![70], vec![(video(), 70), (other, 9)]));
}

fn answer_to(seen: &FakeCluster, reports: &[HeldVideo]) -> HeartbeatOutcome {
    answer_heartbeat(seen, &reader("a"), reports, &PACE)
}

#[test]
fn a_full_reader_takes_nobodys_place_that_still_serves() {
    let mut seen = FakeCluster::with_assignment(5, &[("a", 3)]).with_status("a", ReaderStatus::Leaving);
    seen.usage.insert(reader("c"), FULL_USAGE_THOUSANDTHS);
    let choose = |_: &[ReaderShare]| Some(reader("c"));
    assert_eq!(decide_need(&seen, &video(), 0, choose, |_| None), VideoNeed::AlreadyServed);
    assert_eq!(order_to_empty_readers(&seen, &video(), choose), None);
    // If nobody serves the video any more, a full reader is better than none.
    let seen = seen.with_status("a", ReaderStatus::Gone);
    let full = VideoNeed::Assign { expected: Some(5), readers: shares(&[("c", 1)]), seen: 5 };
    assert_eq!(decide_need(&seen, &video(), 0, choose, |_| None), full);
}
