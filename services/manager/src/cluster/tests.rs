use std::collections::BTreeMap;
use std::time::Duration;

use liverank_adapters::assignment_store::{AssignmentSnapshot, VideoAssignment, ZonedViewers};
use liverank_core::canary::CANARY_ID;
use liverank_core::handover::ReaderShare;

use super::*;
use crate::adoptions::AdoptionBudgets;
use crate::liveness::ProbeOutcome;

fn reader_id(name: &str) -> ReaderId {
    ReaderId::parse(name).unwrap()
}

fn video(name: &str) -> VideoId {
    VideoId::parse(name).unwrap()
}

fn held(name: &str, viewers: u64, epoch: u64) -> HeldVideo {
    HeldVideo { video: video(name), viewers, epoch, ready: true, shedding: false }
}

fn share(name: &str) -> ReaderShare {
    ReaderShare { reader: reader_id(name), weight: 1 }
}

fn record(name: &str, viewers: u64, videos: &[(&str, u64)]) -> ReaderRecord {
    ReaderRecord {
        id: reader_id(name),
        public_url: format!("http://{name}"),
        internal_url: format!("http://{name}.internal"),
        beat: 1,
        capacity: 1_000,
        viewers,
        draining: false,
        highest_epoch: 0,
        videos: videos.iter().map(|(name, viewers)| held(name, *viewers, 0)).collect(),
        messages_sent: 0,
        grace_ms: 0,
        reconnects: 0,
        reconnect_errors: 0,
        incarnation: 1,
        zone: None,
        viewers_by_zone: ZonedViewers::default(),
        ticket: None,
    }
}

fn assignment(name: &str, readers: &[&str], epoch: u64) -> VideoAssignment {
    let readers = readers.iter().map(|reader| share(reader)).collect();
    VideoAssignment { video_id: video(name), assigned_readers: AssignedReaders { epoch, readers } }
}

fn cluster(now: Instant, records: Vec<ReaderRecord>, assignments: Vec<VideoAssignment>) -> KnownCluster {
    let mut cluster = KnownCluster::default();
    cluster.assignment_view.replace_all(now, AssignmentSnapshot { version: 1, assignments });
    // Records that are only found in the store make no reader ready; here the readers were asked and answered.
    let ready = |record: &ReaderRecord| {
        let held = record.videos.iter().filter(|held| held.ready);
        held.map(|held| (record.id.clone(), held.video.clone())).collect::<Vec<_>>()
    };
    let ready: Vec<(ReaderId, VideoId)> = records.iter().flat_map(ready).collect();
    cluster.note_records(now, records);
    for (reader, video) in &ready {
        cluster.reader_watch.note_video_ready(reader, video);
    }
    cluster
}

fn assign_decision(expected: Option<u64>, reader: &str, seen: u64) -> VideoDecision {
    VideoDecision::Assign { expected, readers: vec![share(reader)], seen }
}

fn cordon(name: &str, closing: CordonLevel) -> ReaderCordon {
    ReaderCordon { reader: reader_id(name), closing, why: String::new() }
}

/// Polls the same records until the view is settled; the readers' beats change if `alive`.
fn poll_until_settled(
    cluster: &mut KnownCluster,
    start: Instant,
    records: &[ReaderRecord],
    alive: bool,
) -> Instant {
    let mut now = start;
    for beat in 1..=12 {
        now += Duration::from_millis(500);
        let beat = if alive { beat } else { 1 };
        let polled = records.iter().map(|record| ReaderRecord { beat: record.beat + beat, ..record.clone() });
        cluster.note_records(now, polled.collect());
    }
    now
}

#[test]
fn a_new_video_goes_to_the_least_loaded_reader() {
    let now = Instant::now();
    let cluster = cluster(now, vec![record("a", 10, &[]), record("b", 5, &[])], vec![]);
    assert_eq!(cluster.decide_readers(now, &video("v"), 0), assign_decision(None, "b", 0));
}

#[test]
fn a_burst_of_registrations_spreads() {
    let now = Instant::now();
    let mut cluster = cluster(now, vec![record("a", 10, &[]), record("b", 0, &[])], vec![]);
    let mut given = BTreeMap::<String, u64>::new();
    for number in 0..110 {
        let VideoDecision::Assign { readers, .. } =
            cluster.decide_readers(now, &video(&format!("v{number}")), 0)
        else {
            panic!("nobody took video {number}");
        };
        cluster.note_viewer_sent(now, &readers[0].reader, true);
        *given.entry(readers[0].reader.to_string()).or_default() += 1;
    }
    assert_eq!(given, [("a".to_owned(), 50), ("b".to_owned(), 60)].into());
}

#[test]
fn a_video_that_lost_its_assignment_goes_where_its_viewers_are() {
    let now = Instant::now();
    let records = vec![record("a", 500, &[("v", 300)]), record("b", 1, &[("v", 1)]), record("c", 0, &[])];
    let cluster = cluster(now, records, vec![]);
    assert_eq!(cluster.decide_readers(now, &video("v"), 0), assign_decision(None, "a", 0));
    let budgets = AdoptionBudgets::new(now);
    assert_eq!(cluster.videos_to_adopt(now, 10, &budgets), [(video("v"), reader_id("a"))]);
    assert_eq!(cluster.viewer_count_of(&video("v")), 301);
}

#[test]
fn an_assigned_video_stays_where_it_is() {
    let now = Instant::now();
    let held = assignment("v", &["a"], 7);
    let cluster = cluster(now, vec![record("a", 900, &[]), record("b", 0, &[])], vec![held.clone()]);
    assert_eq!(cluster.decide_readers(now, &video("v"), 0), VideoDecision::UseCurrent(held));
    assert!(cluster.videos_to_move(now, 10).is_empty());
    assert!(cluster.videos_to_adopt(now, 10, &AdoptionBudgets::new(now)).is_empty());
}

#[test]
fn a_reader_that_reports_invented_videos_uses_up_its_own_budget_alone() {
    let (now, mut budgets) = (Instant::now(), AdoptionBudgets::new(Instant::now()));
    let mut adopted = 0;
    // Other videos in each heartbeat.
    for heartbeat in 0..8 {
        let ids: Vec<String> = (0..10_000).map(|number| format!("invented-{heartbeat}-{number}")).collect();
        let videos: Vec<(&str, u64)> = ids.iter().map(|id| (id.as_str(), 1)).collect();
        let records = vec![record("stolen", 1, &videos), record("honest", 1, &[("lost", 1)])];
        let cluster = cluster(now, records, vec![]);
        let videos = cluster.videos_to_adopt(now, 20_000, &budgets);
        assert!(videos.contains(&(video("lost"), reader_id("honest"))), "{heartbeat}");
        adopted += videos.len() - 1;
        for (_, reader) in videos {
            budgets.count_adopted(reader);
        }
    }
    assert_eq!(adopted, 50_000);
}

#[test]
fn a_reader_that_claims_the_viewers_of_others_does_not_keep_their_video_from_being_adopted() {
    let (now, mut budgets) = (Instant::now(), AdoptionBudgets::new(Instant::now()));
    for _ in 0..50_000 {
        budgets.count_adopted(reader_id("stolen"));
    }
    let records = vec![
        record("stolen", 1, &[("invented", 9), ("lost", 1000)]),
        record("honest", 1, &[("lost", 1)]),
        record("other", 1, &[("lost", 0)]),
    ];
    let adopted = cluster(now, records, vec![]).videos_to_adopt(now, 10, &budgets);
    assert_eq!(adopted, [(video("lost"), reader_id("honest"))]);
}

/// Makes a cluster whose readers send their heartbeats to this manager.
fn cluster_with_heartbeats(
    now: Instant,
    records: Vec<ReaderRecord>,
    assignments: Vec<VideoAssignment>,
) -> KnownCluster {
    let mut cluster = cluster(now, records.clone(), assignments);
    for record in records {
        cluster.note_heartbeat(now, record);
    }
    cluster
}

fn drains_as_text(cluster: &KnownCluster, now: Instant, per_minute: u64) -> Vec<(String, Vec<String>)> {
    let named = |drain: drains::DrainMove| {
        let readers = drain.order.readers.iter().map(|share| share.reader.to_string());
        (drain.order.video.to_string(), readers.collect())
    };
    cluster.drain_moves(now, per_minute, 0, |_| false).into_iter().map(named).collect()
}

#[test]
fn a_draining_reader_s_videos_leave_it_the_most_watched_first() {
    let now = Instant::now();
    let leaving = ReaderRecord { draining: true, ..record("a", 9, &[("busy", 9), ("calm", 1)]) };
    let held = ["calm", "busy", "other"].map(|name| assignment(name, &["a"], 1));
    let cluster =
        cluster_with_heartbeats(now, vec![leaving, record("b", 5, &[]), record("c", 0, &[])], held.to_vec());
    let order = drains_as_text(&cluster, now, 6_000);
    assert_eq!(order[0], ("busy".to_owned(), vec!["c".to_owned()]));
    assert_eq!(order.len(), 3);
    // The viewers that one video brings count when the reader of the next is chosen.
    assert_eq!(order[1], ("calm".to_owned(), vec!["b".to_owned()]));
    // A watched video is not moved before a reader has made it ready, unless a new viewer asks: nobody is sent to a
    // reader that leaves.
    assert!(cluster.videos_to_move(now, 10).is_empty());
    assert_eq!(cluster.decide_readers(now, &video("busy"), 0), assign_decision(Some(1), "c", 1));
}

#[test]
fn a_removed_reader_is_given_out_no_more_whatever_it_reports_and_whoever_has_just_begun() {
    let now = Instant::now();
    let held = assignment("v", &["a"], 1);
    let mut cluster = KnownCluster::default();
    // A manager that has just started knows only what the store holds.
    cluster.planner_orders.cordons = vec![cordon("a", CordonLevel::Removed)];
    cluster.assignment_view.replace_all(now, AssignmentSnapshot { version: 1, assignments: vec![held] });
    cluster.note_records(now, vec![record("a", 0, &[]), record("b", 900, &[])]);
    assert_eq!(cluster.decide_readers(now, &video("v"), 0), assign_decision(Some(1), "b", 1));
    assert_eq!(cluster.decide_readers(now, &video("new"), 0), assign_decision(None, "b", 1));
    assert_eq!(cluster.videos_to_move(now, 10), [video("v")]);
    // The removed reader continues to send heartbeats, and does not become usable by that.
    cluster.note_heartbeat(now, ReaderRecord { beat: 2, ..record("a", 0, &[]) });
    assert_eq!(cluster.decide_readers(now, &video("v"), 0), assign_decision(Some(1), "b", 1));
    assert!(cluster.readers_to_forget(now).is_empty(), "its word stays as long as it reports itself");
    let records = [record("a", 0, &[])];
    let later = poll_until_settled(&mut cluster, now, &records, false);
    assert_eq!(cluster.readers_to_forget(later).len(), 1);
}

#[test]
fn most_readers_may_have_been_removed_and_the_rest_is_looked_after() {
    let start = Instant::now();
    let names = ["a", "b", "c", "d"];
    let records: Vec<ReaderRecord> = names.iter().map(|name| record(name, 0, &[])).collect();
    let held = names.map(|name| assignment(name, &[name], 1));
    let mut cluster = cluster(start, records.clone(), held.to_vec());
    cluster.planner_orders.cordons =
        vec![cordon("a", CordonLevel::Removed), cordon("b", CordonLevel::Removed)];
    let now = poll_until_settled(&mut cluster, start, &records, false);
    cluster.note_heartbeat(now, ReaderRecord { beat: 50, ..record("d", 0, &[]) });
    for name in ["a", "b", "c"] {
        cluster.reader_watch.note_probe(now, &reader_id(name), 2, ProbeOutcome::Late);
    }
    assert_eq!(cluster.decide_about_readers(now), None, "c alone is missing");
    assert_eq!(cluster.videos_to_move(now, 10).len(), 3);
}

#[test]
fn a_reader_that_cannot_be_reached_is_replaced_although_it_reports_itself() {
    let now = Instant::now();
    let records = ["a", "b", "c"].map(|name| record(name, 0, &[]));
    let mut cluster = cluster(now, records.to_vec(), vec![assignment("v", &["a"], 1)]);
    let due = |cluster: &KnownCluster, now| {
        cluster
            .reader_watch
            .readers_to_probe(now)
            .iter()
            .map(|it| it.last_record.id.to_string())
            .collect::<Vec<_>>()
    };
    let beat = |cluster: &mut KnownCluster, now, beat| {
        cluster.note_records(now, records.iter().map(|it| ReaderRecord { beat, ..it.clone() }).collect());
    };
    beat(&mut cluster, now, 2);
    assert!(due(&cluster, now).is_empty());
    cluster.note_viewer_sent(now, &reader_id("a"), false);
    assert_eq!(due(&cluster, now), ["a"]);
    cluster.reader_watch.note_probe(now, &reader_id("a"), 2, ProbeOutcome::Unreachable);
    cluster.decide_about_readers(now);
    assert!(
        matches!(cluster.decide_readers(now, &video("v"), 0), VideoDecision::UseCurrent(_)),
        "once may be a mishap"
    );
    let later = now + Duration::from_secs(1);
    beat(&mut cluster, later, 3);
    assert_eq!(due(&cluster, later), ["a"]);
    cluster.reader_watch.note_probe(later, &reader_id("a"), 3, ProbeOutcome::Unreachable);
    cluster.decide_about_readers(later);
    let in_vain = "the store was not seen since: it may be this manager that is cut off";
    assert!(
        matches!(cluster.decide_readers(later, &video("v"), 0), VideoDecision::UseCurrent(_)),
        "{in_vain}"
    );
    beat(&mut cluster, later, 4);
    assert_eq!(cluster.decide_readers(later, &video("v"), 0), assign_decision(Some(1), "b", 1));
    // A reader that merely answers late is overloaded and keeps its videos; one that answers again is reachable.
    cluster.reader_watch.note_probe(later, &reader_id("b"), 3, ProbeOutcome::Late);
    cluster.reader_watch.note_probe(later, &reader_id("b"), 3, ProbeOutcome::Late);
    cluster.decide_about_readers(later);
    assert!(cluster.is_reader_open(&reader_id("b")));
    cluster.reader_watch.note_probe(later, &reader_id("a"), 3, ProbeOutcome::Answered);
    cluster.decide_about_readers(later);
    assert!(cluster.is_reader_open(&reader_id("a")));
}

#[test]
fn when_no_reader_can_be_reached_it_is_this_manager_that_is_cut_off() {
    let now = Instant::now();
    let records = ["a", "b", "c"].map(|name| record(name, 0, &[]));
    let held = ["a", "b", "c"].map(|name| assignment(name, &[name], 1));
    let mut cluster = cluster(now, records.to_vec(), held.to_vec());
    for _ in 0..2 {
        for name in ["a", "b", "c"] {
            cluster.reader_watch.note_probe(now, &reader_id(name), 1, ProbeOutcome::Unreachable);
        }
        cluster.note_records(now, records.to_vec());
    }
    assert_eq!(cluster.decide_about_readers(now), Some(HoldReason::TooManyGone { missing: 3, readers: 3 }));
    assert!(cluster.videos_to_move(now, 10).is_empty());
}

#[test]
fn a_reader_hears_of_viewers_elsewhere_where_there_are_any() {
    let now = Instant::now();
    let one = record("a", 9, &[("alone", 2), ("empty here", 0), ("shared", 7)]);
    let two = record("b", 9, &[("empty here", 4), ("shared", 5)]);
    let three = record("c", 1, &[("shared", 1)]);
    let served = [("alone", &["a", "c"][..]), ("empty here", &["a", "b"]), ("shared", &["a", "b", "c"])];
    let served = served.map(|(name, readers)| assignment(name, readers, 1)).into();
    let cluster = cluster(now, vec![one.clone(), two.clone(), three], served);
    assert_eq!(cluster.viewers_elsewhere(&one), [(video("shared"), 6)]);
    assert_eq!(cluster.viewers_elsewhere(&two), [(video("shared"), 8)]);
    // Also for a video of which the reader has only just got viewers.
    let more = record("c", 3, &[("alone", 2), ("shared", 1)]);
    assert_eq!(cluster.viewers_elsewhere(&more), [(video("alone"), 2), (video("shared"), 12)]);
    // Not of one that it does not serve, whatever it says.
    let curious = record("b", 9, &[("alone", 1)]);
    assert_eq!(cluster.viewers_elsewhere(&curious), []);
}

#[test]
fn an_arrived_viewer_is_not_counted_twice() {
    let now = Instant::now();
    let mut cluster = cluster(now, vec![record("a", 0, &[])], vec![assignment("v", &["a", "b"], 1)]);
    (0..400).for_each(|_| cluster.note_viewer_sent(now, &reader_id("a"), true));
    assert_eq!(cluster.reader_usage_thousandths(&reader_id("a")), 400);
    cluster.note_heartbeat(now, ReaderRecord { beat: 2, ..record("a", 390, &[("v", 390)]) });
    assert_eq!(cluster.reader_usage_thousandths(&reader_id("a")), 400);
}

#[test]
fn a_viewer_who_asks_in_vain_does_not_keep_a_reader_full() {
    let now = Instant::now();
    let mut cluster = cluster(now, vec![record("a", 999, &[("v", 999)])], vec![assignment("v", &["a"], 1)]);
    (0..3).for_each(|_| cluster.note_viewer_sent(now, &reader_id("a"), true));
    assert_eq!(
        cluster.reader_usage_thousandths(&reader_id("a")),
        1_000,
        "the first one is on its way, the others are not"
    );
}

#[test]
fn the_last_place_of_a_reader_is_for_the_viewer_for_whom_it_was_chosen() {
    let now = Instant::now();
    let records = vec![record("a", 1_000, &[("v", 1_000)]), record("b", 999, &[])];
    let mut cluster = cluster(now, records, vec![assignment("v", &["a"], 1)]);
    let VideoDecision::Assign { readers, .. } = cluster.decide_and_count(now, &video("v"), 0) else {
        panic!("the full reader is given another one beside it")
    };
    let names: Vec<&str> = readers.iter().map(|share| share.reader.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    let takes = |cluster: &KnownCluster| {
        let assigned = AssignedReaders { epoch: 2, readers: readers.clone() };
        let routes = cluster.routes_of(
            now,
            &VideoAssignment { video_id: video("v"), assigned_readers: assigned },
            [0, 0],
        );
        routes.iter().find(|route| route.id == reader_id("b")).is_some_and(|route| route.takes)
    };
    assert!(!takes(&cluster), "whoever else asks meanwhile finds it full");
    cluster.release_asking_viewer(&readers);
    assert!(takes(&cluster));
}

#[test]
fn viewers_on_their_way_are_counted_while_a_hand_over_lasts() {
    let start = Instant::now();
    let there = [record("a", 900, &[("v", 900)]), record("b", 300, &[("v", 300)])];
    let mut cluster = cluster(start, there.to_vec(), vec![assignment("v", &["b", "c"], 2)]);
    let mut at = |seconds: u64, viewers: [u64; 3]| {
        let record = |(name, viewers): (&str, u64)| {
            let videos = [("v", viewers)];
            ReaderRecord { beat: seconds + 2, ..record(name, viewers, &videos) }
        };
        let now = start + Duration::from_secs(seconds);
        cluster.note_records(now, ["a", "b", "c"].into_iter().zip(viewers).map(record).collect());
        cluster.view_at(now).viewers(&video("v"))
    };
    for second in 1..30 {
        // A hundred viewers are in hand-over all the time.
        assert_eq!(at(second, [900 - 30 * second, 300, 30 * second - 100_u64.min(30 * second)]), 1_200);
    }
    assert_eq!(at(30, [0, 300, 890]), 1_200, "the last ones are coming");
    for second in 31..42 {
        at(second, [0, 300, 890]);
    }
    assert_eq!(at(42, [0, 300, 890]), 1_190, "ten have really left");
}

#[test]
fn where_all_readers_are_closed_a_new_video_goes_to_one_of_them() {
    let now = Instant::now();
    let mut cluster = cluster(now, vec![record("a", 5, &[]), record("b", 0, &[])], vec![]);
    cluster.planner_orders.cordons =
        vec![cordon("a", CordonLevel::Closed), cordon("b", CordonLevel::Draining)];
    assert_eq!(cluster.decide_readers(now, &video("v"), 0), assign_decision(None, "a", 0));
}

#[test]
fn drains_keep_to_the_budget_unless_the_reader_has_less_time_than_that() {
    let now = Instant::now();
    let names: Vec<String> = (0..100).map(|number| format!("v{number:02}")).collect();
    let videos: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 10)).collect();
    let held: Vec<VideoAssignment> = names.iter().map(|name| assignment(name, &["a"], 1)).collect();
    let leaving = ReaderRecord { draining: true, ..record("a", 1_000, &videos) };
    let of = |grace_ms| {
        let leaving = ReaderRecord { grace_ms, ..leaving.clone() };
        cluster_with_heartbeats(now, vec![leaving, record("b", 0, &[])], held.clone())
    };
    // At 600 viewers a minute: 100 within the ten seconds that may be in hand-over.
    assert_eq!(drains_as_text(&of(0), now, 600).len(), 10);
    assert_eq!(drains_as_text(&of(600_000), now, 600).len(), 10);
    // With 20 s of grace, the viewers have to leave at 100 a second.
    assert_eq!(drains_as_text(&of(20_000), now, 600).len(), 50);
}

#[test]
fn a_reader_that_reports_to_another_manager_is_not_drained_here() {
    let now = Instant::now();
    let leaving = ReaderRecord { draining: true, ..record("a", 9, &[("v", 9)]) };
    let cluster = cluster(now, vec![leaving, record("b", 0, &[])], vec![assignment("v", &["a"], 1)]);
    assert!(drains_as_text(&cluster, now, 600).is_empty());
}

#[test]
fn another_takes_the_place_of_one_that_leaves_a_shared_video() {
    let now = Instant::now();
    let leaving = ReaderRecord { draining: true, ..record("a", 9, &[]) };
    let held = vec![assignment("hot", &["a", "b"], 4)];
    let cluster_of_three = cluster_with_heartbeats(
        now,
        vec![leaving.clone(), record("b", 0, &[]), record("c", 0, &[])],
        held.clone(),
    );
    assert_eq!(
        drains_as_text(&cluster_of_three, now, 600),
        [("hot".to_owned(), vec!["b".to_owned(), "c".to_owned()])]
    );
    let of_two = cluster_with_heartbeats(now, vec![leaving, record("b", 0, &[])], held);
    assert_eq!(drains_as_text(&of_two, now, 600), [("hot".to_owned(), vec!["b".to_owned()])]);
}

#[test]
fn a_video_stays_when_no_reader_can_take_it() {
    let now = Instant::now();
    let leaving = ReaderRecord { draining: true, ..record("a", 9, &[]) };
    let held = assignment("v", &["a"], 1);
    let cluster = cluster_with_heartbeats(now, vec![leaving], vec![held.clone()]);
    assert_eq!(cluster.decide_readers(now, &video("v"), 0), VideoDecision::UseCurrent(held));
    assert!(drains_as_text(&cluster, now, 600).is_empty());
    assert_eq!(cluster.decide_readers(now, &video("new"), 0), VideoDecision::NoReader);
}

#[test]
fn a_closed_reader_keeps_what_it_has_and_gets_nothing_new() {
    let now = Instant::now();
    let held = assignment("v", &["a"], 1);
    let mut cluster =
        cluster_with_heartbeats(now, vec![record("a", 0, &[]), record("b", 500, &[])], vec![held.clone()]);
    cluster.note_cordon(&reader_id("a"), Some(cordon("a", CordonLevel::Closed)));
    assert_eq!(cluster.decide_readers(now, &video("v"), 0), VideoDecision::UseCurrent(held));
    assert_eq!(cluster.decide_readers(now, &video("new"), 0), assign_decision(None, "b", 1));
    assert!(drains_as_text(&cluster, now, 600).is_empty());
    cluster.note_cordon(&reader_id("a"), Some(cordon("a", CordonLevel::Draining)));
    assert_eq!(drains_as_text(&cluster, now, 600), [("v".to_owned(), vec!["b".to_owned()])]);
    cluster.note_cordon(&reader_id("a"), None);
    assert_eq!(cluster.decide_readers(now, &video("new"), 0), assign_decision(None, "a", 1));
}

#[test]
fn an_asker_is_never_given_an_older_epoch_than_it_knows() {
    let now = Instant::now();
    let cluster = cluster(now, vec![record("a", 0, &[])], vec![assignment("v", &["a"], 7)]);
    assert_eq!(cluster.decide_readers(now, &video("v"), 9), assign_decision(Some(7), "a", 9));
    assert!(matches!(cluster.decide_readers(now, &video("v"), 7), VideoDecision::UseCurrent(_)));
}

#[test]
fn videos_of_a_reader_never_seen_move_once_settled() {
    let start = Instant::now();
    let records = vec![record("b", 0, &[])];
    let mut cluster = cluster(start, records.clone(), vec![assignment("v", &["unknown"], 3)]);
    assert!(cluster.videos_to_move(start, 10).is_empty());
    let now = poll_until_settled(&mut cluster, start, &records, true);
    assert_eq!(cluster.videos_to_move(now, 10), [video("v")]);
    assert_eq!(cluster.decide_readers(now, &video("v"), 0), assign_decision(Some(3), "b", 3));
    // Nothing is moved on a view that has become stale, either.
    assert!(cluster.videos_to_move(now + Duration::from_secs(2), 10).is_empty());
}

#[test]
fn videos_of_a_gone_reader_move_and_on_a_stale_view_they_do_not() {
    let start = Instant::now();
    let records = vec![record("a", 70, &[("v", 70)]), record("b", 0, &[])];
    let mut cluster = cluster(start, records.clone(), vec![assignment("v", &["a"], 3)]);
    let mut now = poll_until_settled(&mut cluster, start, &records, false);
    cluster.note_heartbeat(now, ReaderRecord { beat: 50, ..record("b", 0, &[]) });
    assert_eq!(cluster.lost_viewers(&video("v")), 0);
    cluster.reader_watch.note_probe(now, &reader_id("a"), 2, ProbeOutcome::Late);
    assert_eq!(cluster.lost_viewers(&video("v")), 70);
    now += Duration::from_millis(500);
    cluster.decide_about_readers(now);
    assert_eq!(cluster.decide_readers(now, &video("v"), 0), assign_decision(Some(3), "b", 3));
    let later = now + Duration::from_secs(2);
    assert_eq!(
        cluster.decide_readers(later, &video("v"), 0),
        VideoDecision::UseCurrent(assignment("v", &["a"], 3))
    );
    // After this time the lost viewers are back, at whichever reader, and must not be counted a second time.
    for beat in 60..=90 {
        now += Duration::from_millis(500);
        cluster.note_records(
            now,
            vec![
                ReaderRecord { beat: 2, ..records[0].clone() },
                ReaderRecord { beat, ..record("b", 70, &[("v", 70)]) },
            ],
        );
    }
    assert_eq!(cluster.reader_watch.reader_status(&reader_id("a")), Some(ReaderStatus::Gone));
    assert_eq!(cluster.lost_viewers(&video("v")), 0);
}

#[test]
fn a_gone_reader_s_crowd_is_spread_over_all_others_before_anything_is_stored() {
    let start = Instant::now();
    let names = ["u", "v", "w", "x", "y", "z"];
    let mut records = vec![record("a", 600, &names.map(|name| (name, 100)))];
    records.extend(["b", "c", "d"].map(|name| record(name, 10, &[])));
    let mut cluster = cluster(start, records.clone(), names.map(|name| assignment(name, &["a"], 3)).to_vec());
    let now = poll_until_settled(&mut cluster, start, &records, false);
    for name in ["b", "c", "d"] {
        cluster.note_heartbeat(now, ReaderRecord { beat: 50, ..record(name, 10, &[]) });
    }
    cluster.reader_watch.note_probe(now, &reader_id("a"), 2, ProbeOutcome::Late);
    cluster.decide_about_readers(now);
    let mut given = BTreeMap::<ReaderId, usize>::new();
    for name in names {
        let VideoDecision::Assign { readers, .. } = cluster.decide_and_count(now, &video(name), 0) else {
            panic!("{name}")
        };
        *given.entry(readers[0].reader.clone()).or_default() += 1;
    }
    assert_eq!(given, ["b", "c", "d"].map(|name| (reader_id(name), 2)).into());
}

#[test]
fn a_reader_hears_which_of_its_videos_others_serve_once_these_hold_them_ready() {
    let now = Instant::now();
    let a = record("a", 3, &[("mine", 1), ("nobody's", 1), ("theirs", 1)]);
    let records = vec![a.clone(), record("b", 0, &[])];
    let held = vec![assignment("mine", &["a"], 1), assignment("theirs", &["b"], 2)];
    let mut cluster = cluster(now, records, held);
    let answer = cluster.answer_heartbeat(now, &a, 600);
    assert_eq!(
        (answer.hand_overs.len(), answer.warm_up_requests),
        (0, vec![(reader_id("b"), video("theirs"))])
    );
    assert_eq!(cluster.pending_hand_overs.viewers, 1);
    cluster.reader_watch.note_video_ready(&reader_id("b"), &video("theirs"));
    let answer = cluster.answer_heartbeat(now, &a, 600);
    let [order] = &answer.hand_overs[..] else { panic!("{answer:?}") };
    assert_eq!((&order.video, order.epoch, order.to.as_str()), (&video("theirs"), 2, "http://b"));
    assert_eq!((order.keep, order.here), (0, false));
}

#[test]
fn viewers_are_not_sent_to_a_reader_that_was_not_heard_of_lately() {
    let now = Instant::now();
    let a = record("a", 3, &[("v", 3)]);
    let records = vec![a.clone(), record("b", 0, &[("v", 0)])];
    let mut cluster = cluster(now, records, vec![assignment("v", &["b"], 2)]);
    assert_eq!(cluster.answer_heartbeat(now, &a, 600).hand_overs.len(), 1);
    // The time in which the store was unavailable counts as nobody's silence: the reader is not suspect, but viewers
    // are not sent there either.
    let later = now + Duration::from_secs(5);
    cluster.note_heartbeat(later, ReaderRecord { beat: 2, ..a.clone() });
    assert!(cluster.answer_heartbeat(later, &a, 600).hand_overs.is_empty());
}

#[test]
fn all_hand_over_paces_together_keep_to_the_budget() {
    let now = Instant::now();
    let (a, c) = (record("a", 900, &[("v", 900)]), record("c", 300, &[("w", 100), ("x", 200)]));
    let taker = record("b", 0, &[("v", 0), ("w", 0), ("x", 0)]);
    let held = ["v", "w", "x"].map(|name| assignment(name, &["b"], 2));
    let cluster = cluster(now, vec![a.clone(), taker, c.clone()], held.to_vec());
    assert_eq!(cluster.pending_hand_overs.viewers, 1_200);
    let pace = |record: &ReaderRecord| -> Vec<u32> {
        cluster.answer_heartbeat(now, record, 6_000).hand_overs.iter().map(|order| order.pace).collect()
    };
    // 100 viewers a second, in proportion to what each reader has to hand over.
    assert_eq!((pace(&a), pace(&c)), (vec![75], vec![17, 8]));
    let hurried = ReaderRecord { draining: true, grace_ms: 9_000, ..a };
    assert_eq!(pace(&hurried), [200], "half of its grace");
}

/// Returns, second by second, how many of a video's `viewers` one of its two readers still has, if viewers whom it
/// sends away take three seconds to arrive at the other.
fn viewers_shed_by_second(mut here: u64) -> Vec<u64> {
    let start = Instant::now();
    let (mut there, mut on_the_way) = (0, [0; 3]);
    let mut seen = vec![here];
    let mut cluster = cluster(start, vec![], vec![assignment("v", &["a", "b"], 2)]);
    let mut shedding = false;
    for second in 0..100 {
        let now = start + Duration::from_secs(second);
        let roomy = |record| ReaderRecord { beat: second + 1, capacity: 100_000, ..record };
        let mut a = roomy(record("a", here, &[("v", here)]));
        a.videos[0].shedding = shedding;
        let b = roomy(record("b", there, &[("v", there)]));
        cluster.note_records(now, vec![a.clone(), b]);
        let answer = cluster.answer_heartbeat(now, &a, 1_000_000);
        shedding = !answer.hand_overs.is_empty();
        let going = answer.hand_overs.first().map_or(0, |order| order.pace.into()).min(here);
        here -= going;
        there += on_the_way[0];
        on_the_way = [on_the_way[1], on_the_way[2], going];
        seen.push(here);
    }
    seen
}

#[test]
fn a_split_is_over_soon_and_takes_nobody_below_its_share() {
    for viewers in [200, 4_000, 15_000] {
        let left = viewers_shed_by_second(viewers);
        let end = left[left.len() - 1];
        let took = left.iter().position(|left| *left == end).unwrap();
        assert!(took <= 15, "{viewers} viewers: {took} s: {left:?}");
        assert!((viewers / 2..=viewers * 3 / 5).contains(&end), "{viewers} viewers: {left:?}");
    }
}

#[test]
fn many_small_audiences_do_not_add_up_to_more_than_the_pace() {
    let now = Instant::now();
    let names: Vec<String> = (0..500).map(|number| format!("v{number:03}")).collect();
    let videos: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    let none: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 0)).collect();
    let held: Vec<VideoAssignment> = names.iter().map(|name| assignment(name, &["b"], 1)).collect();
    let a = record("a", 500, &videos);
    let cluster = cluster(now, vec![a.clone(), record("b", 0, &none)], held);
    let answer = cluster.answer_heartbeat(now, &a, 600);
    assert_eq!(answer.hand_overs.iter().map(|order| order.pace).sum::<u32>(), 10);
}

#[test]
fn viewers_are_not_sent_to_a_reader_that_is_leaving_too() {
    let now = Instant::now();
    let other = ReaderRecord { draining: true, ..record("b", 0, &[("v", 0)]) };
    let a = record("a", 1, &[("v", 1)]);
    let cluster = cluster(now, vec![a.clone(), other], vec![assignment("v", &["b"], 2)]);
    assert!(cluster.answer_heartbeat(now, &a, 600).hand_overs.is_empty());
}

#[test]
fn the_best_reader_comes_first() {
    let now = Instant::now();
    let draining = ReaderRecord { draining: true, ..record("a", 0, &[]) };
    let cluster = cluster(now, vec![draining, record("b", 9, &[]), record("c", 5, &[])], vec![]);
    let reached = cluster.routes_of(now, &assignment("v", &["a", "b", "c", "unknown"], 1), [0, 1]);
    assert_eq!(reached.iter().map(|reader| reader.id.as_str()).collect::<Vec<_>>(), ["c", "b", "a"]);
    assert_eq!(reached.iter().map(|reader| reader.takes).collect::<Vec<_>>(), [true, true, false]);
    assert_eq!(reached[1].load, 9);
}

#[test]
fn only_unwatched_videos_are_removed() {
    let start = Instant::now();
    let records = vec![record("a", 1, &[("watched", 1)])];
    let held = ["watched", "idle"].map(|name| assignment(name, &["a"], 5));
    let mut cluster = cluster(start, records.clone(), held.to_vec());
    assert!(cluster.videos_to_remove(start, Duration::ZERO, 10).is_empty(), "not before it is settled");
    let now = poll_until_settled(&mut cluster, start, &records, true);
    let idle = now.duration_since(start);
    assert_eq!(cluster.videos_to_remove(now, idle, 10), [(video("idle"), 5)]);
}

#[test]
fn an_impossible_epoch_does_not_stop_placement() {
    let now = Instant::now();
    let mistaken = ReaderRecord { highest_epoch: u64::MAX, ..record("a", 0, &[]) };
    let cluster = cluster(now, vec![mistaken], vec![assignment("v", &["a"], 12)]);
    assert_eq!(cluster.highest_epoch(), 12);
}

#[test]
fn a_viewer_is_routed_to_a_reader_with_room() {
    let now = Instant::now();
    let full = record("a", 1_000, &[("v", 400), ("w", 600)]);
    let assignments = vec![assignment("v", &["a"], 7), assignment("w", &["a"], 8)];
    let cluster = cluster(now, vec![full.clone(), record("b", 5, &[])], assignments.clone());
    let VideoDecision::Assign { expected: Some(7), readers, .. } =
        cluster.decide_readers(now, &video("v"), 0)
    else {
        panic!("the full reader is left alone");
    };
    assert_eq!(readers.iter().map(|share| share.reader.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let alone = self::cluster(now, vec![full], assignments);
    assert!(matches!(alone.decide_readers(now, &video("v"), 0), VideoDecision::UseCurrent(_)));
}

/// Returns the record of a reader with capacity for four viewers, as [`record`] does.
fn small_record(name: &str, videos: &[(&str, u64)]) -> ReaderRecord {
    let viewers = videos.iter().map(|(_, viewers)| viewers).sum();
    ReaderRecord { capacity: 4, ..record(name, viewers, videos) }
}

#[test]
fn the_canary_s_viewers_are_no_load() {
    let now = Instant::now();
    let records = vec![small_record("a", &[(CANARY_ID, 1), ("v", 3)]), small_record("b", &[(CANARY_ID, 2)])];
    let mut cluster =
        cluster(now, records.clone(), vec![assignment(CANARY_ID, &["a"], 1), assignment("v", &["a"], 1)]);
    let load = cluster.cluster_load(now, 600, true);
    let told: Vec<_> = load.readers.into_iter().map(|it| (it.viewers, it.assigned, it.videos)).collect();
    assert_eq!(told, [(3, 2, vec![(video("v"), 3)]), (0, 0, vec![])], "the canary has its reader still");
    let told = load.assignments.into_iter().flatten().map(|it| (it.videoid.to_string(), it.viewers));
    assert_eq!(told.collect::<BTreeMap<_, _>>(), [(CANARY_ID.into(), 0), ("v".into(), 3)].into());
    assert_eq!((load.unlisted, cluster.watched_count(), cluster.hottest_videos(9).len()), (None, 1, 1));
    let watched: Vec<VideoId> = cluster.certain_viewer_counts(now).into_iter().map(|(id, _)| id).collect();
    assert_eq!(watched, [video("v")]);
    // A reader that only the canary's viewers are left at is as good as empty.
    cluster.drain_clock = DrainClock::new(Some(Duration::ZERO));
    cluster.planner_orders.cordons = ["a", "b"].map(|name| cordon(name, CordonLevel::Draining)).to_vec();
    cluster.note_records(now, records);
    let overdue = cluster.overdue_drains(now + Duration::from_millis(1));
    let overdue: Vec<(&str, u64)> = overdue.iter().map(|it| (it.reader.as_str(), it.viewers)).collect();
    assert_eq!(overdue, [("a", 3)]);
}

#[test]
fn the_canary_s_viewers_take_room_and_are_handed_over() {
    let now = Instant::now();
    let full = small_record("a", &[(CANARY_ID, 1), ("v", 3)]);
    let records = vec![full.clone(), small_record("b", &[(CANARY_ID, 0), ("v", 0)])];
    let held = vec![assignment(CANARY_ID, &["b"], 2), assignment("v", &["a"], 1)];
    let seen = cluster(now, records, held);
    let a = reader_id("a");
    assert_eq!((seen.reader_usage_thousandths(&a), seen.room_of_reader(&a)), (1_000, 0));
    let answer = seen.answer_heartbeat(now, &full, 600);
    let [order] = &answer.hand_overs[..] else { panic!("{answer:?}") };
    assert_eq!((&order.video, order.to.as_str(), order.keep), (&video(CANARY_ID), "http://b", 0));
    assert_eq!(seen.viewer_count_of(&video(CANARY_ID)), 1, "so that its next reader is made ready first");
    // Where it is assigned to a reader that leaves, it is moved with its viewers.
    let leaving = ReaderRecord { draining: true, ..full };
    let records = vec![leaving, small_record("b", &[])];
    let cluster = cluster_with_heartbeats(now, records, vec![assignment(CANARY_ID, &["a"], 1)]);
    let moved: Vec<u64> = cluster.drain_moves(now, 6_000, 0, |_| false).iter().map(|it| it.viewers).collect();
    assert_eq!(moved, [1]);
}
