use std::collections::BTreeMap;

use liverank_adapters::assignment_store::State;

use super::*;

fn id(name: &str) -> ReaderId {
    ReaderId::parse(name).unwrap()
}

fn video(name: &str) -> VideoId {
    VideoId::parse(name).unwrap()
}

fn record(name: &str, viewers: u64, videos: &[(&str, u64)]) -> ReaderRecord {
    ReaderRecord {
        id: id(name),
        public_url: format!("http://{name}"),
        internal_url: format!("http://{name}.internal"),
        beat: 1,
        capacity: 1_000,
        viewers,
        draining: false,
        highest_epoch: 0,
        videos: videos.iter().map(|(name, viewers)| (video(name), *viewers)).collect(),
        messages_sent: 0,
    }
}

fn assignment(name: &str, readers: &[&str], epoch: u64) -> Assignment {
    Assignment { video_id: video(name), readers: readers.iter().map(|reader| id(reader)).collect(), epoch }
}

fn cluster(now: Instant, records: Vec<ReaderRecord>, assignments: Vec<Assignment>) -> Cluster {
    let mut cluster = Cluster::default();
    cluster.view.load(now, State { version: 1, assignments });
    cluster.observe(now, records);
    cluster
}

fn assign(expected: Option<u64>, reader: &str) -> Decision {
    Decision::Assign { expected, readers: vec![id(reader)] }
}

/// Lets the same records be polled until the view is settled; readers beat if `alive`.
fn settle(cluster: &mut Cluster, start: Instant, records: &[ReaderRecord], alive: bool) -> Instant {
    let mut now = start;
    for beat in 1..=12 {
        now += Duration::from_millis(500);
        let beat = if alive { beat } else { 1 };
        let polled = records.iter().map(|record| ReaderRecord { beat: record.beat + beat, ..record.clone() });
        cluster.observe(now, polled.collect());
    }
    now
}

#[test]
fn a_new_video_goes_to_the_least_loaded_reader() {
    let now = Instant::now();
    let cluster = cluster(now, vec![record("a", 10, &[]), record("b", 5, &[])], vec![]);
    assert_eq!(cluster.decide(now, &video("v")), assign(None, "b"));
}

#[test]
fn a_burst_of_registrations_spreads() {
    let now = Instant::now();
    let mut cluster = cluster(now, vec![record("a", 10, &[]), record("b", 0, &[])], vec![]);
    let mut given = BTreeMap::<String, u64>::new();
    for number in 0..110 {
        let Decision::Assign { readers, .. } = cluster.decide(now, &video(&format!("v{number}"))) else {
            panic!("nobody took video {number}");
        };
        cluster.promises.give(now, &readers[0]);
        *given.entry(readers[0].to_string()).or_default() += 1;
    }
    assert_eq!(given, [("a".to_owned(), 50), ("b".to_owned(), 60)].into());
}

#[test]
fn a_video_that_lost_its_assignment_goes_where_its_viewers_are() {
    let now = Instant::now();
    let records = vec![record("a", 500, &[("v", 300)]), record("b", 1, &[("v", 1)]), record("c", 0, &[])];
    let cluster = cluster(now, records, vec![]);
    assert_eq!(cluster.decide(now, &video("v")), assign(None, "a"));
    assert_eq!(cluster.to_adopt(now, 10), [video("v")]);
    assert_eq!(cluster.viewers(&video("v")), 301);
}

#[test]
fn what_is_assigned_stays() {
    let now = Instant::now();
    let held = assignment("v", &["a"], 7);
    let cluster = cluster(now, vec![record("a", 900, &[]), record("b", 0, &[])], vec![held.clone()]);
    assert_eq!(cluster.decide(now, &video("v")), Decision::Serve(held));
    assert!(cluster.to_move(now, 10).is_empty() && cluster.to_adopt(now, 10).is_empty());
}

#[test]
fn a_draining_reader_s_videos_move_the_most_watched_first() {
    let now = Instant::now();
    let leaving = ReaderRecord { draining: true, ..record("a", 9, &[("busy", 9)]) };
    let held = ["calm", "busy", "other"].map(|name| assignment(name, &["a"], 1));
    let mut cluster = cluster(now, vec![leaving, record("b", 0, &[])], held.to_vec());
    cluster.judge(now);
    assert_eq!(cluster.to_move(now, 2)[0], video("busy"));
    assert_eq!(cluster.to_move(now, 10).len(), 3);
    assert_eq!(cluster.decide(now, &video("busy")), assign(Some(1), "b"));
}

#[test]
fn a_reader_that_leaves_a_shared_video_leaves_it_to_the_others() {
    let now = Instant::now();
    let leaving = ReaderRecord { draining: true, ..record("a", 9, &[]) };
    let held = vec![assignment("hot", &["a", "b"], 4)];
    let cluster = cluster(now, vec![leaving, record("b", 0, &[]), record("c", 0, &[])], held);
    assert_eq!(cluster.decide(now, &video("hot")), assign(Some(4), "b"));
}

#[test]
fn where_nobody_can_take_it_a_video_stays() {
    let now = Instant::now();
    let leaving = ReaderRecord { draining: true, ..record("a", 9, &[]) };
    let held = assignment("v", &["a"], 1);
    let cluster = cluster(now, vec![leaving], vec![held.clone()]);
    assert_eq!(cluster.decide(now, &video("v")), Decision::Serve(held));
    assert!(cluster.to_move(now, 10).is_empty());
    assert_eq!(cluster.decide(now, &video("new")), Decision::NoReader);
}

#[test]
fn videos_of_a_reader_never_seen_move_once_settled() {
    let start = Instant::now();
    let records = vec![record("b", 0, &[])];
    let mut cluster = cluster(start, records.clone(), vec![assignment("v", &["unknown"], 3)]);
    assert!(cluster.to_move(start, 10).is_empty());
    let now = settle(&mut cluster, start, &records, true);
    assert_eq!(cluster.to_move(now, 10), [video("v")]);
    assert_eq!(cluster.decide(now, &video("v")), assign(Some(3), "b"));
    // Nor on a view that has grown stale.
    assert!(cluster.to_move(now + Duration::from_secs(2), 10).is_empty());
}

#[test]
fn videos_of_a_gone_reader_move_and_on_a_stale_view_they_do_not() {
    let start = Instant::now();
    let records = vec![record("a", 0, &[]), record("b", 0, &[])];
    let mut cluster = cluster(start, records.clone(), vec![assignment("v", &["a"], 3)]);
    let mut now = settle(&mut cluster, start, &records, false);
    cluster.heard(now, ReaderRecord { beat: 50, ..record("b", 0, &[]) });
    cluster.watch.probed(now, &id("a"), 2, false);
    now += Duration::from_millis(500);
    cluster.judge(now);
    assert_eq!(cluster.decide(now, &video("v")), assign(Some(3), "b"));
    let later = now + Duration::from_secs(2);
    assert_eq!(cluster.decide(later, &video("v")), Decision::Serve(assignment("v", &["a"], 3)));
}

#[test]
fn a_reader_hears_which_of_its_videos_others_serve() {
    let now = Instant::now();
    let records = vec![record("a", 2, &[("mine", 1), ("theirs", 1), ("nobody's", 1)]), record("b", 0, &[])];
    let held = vec![assignment("mine", &["a"], 1), assignment("theirs", &["b"], 2)];
    let cluster = cluster(now, records.clone(), held);
    let moved = cluster.moved(&records[0]);
    assert_eq!(moved, [Moved { videoid: video("theirs"), epoch: 2, reader_url: "http://b".into() }]);
}

#[test]
fn viewers_are_not_sent_to_a_reader_that_is_leaving_too() {
    let now = Instant::now();
    let other = ReaderRecord { draining: true, ..record("b", 0, &[]) };
    let records = vec![record("a", 1, &[("v", 1)]), other];
    let cluster = cluster(now, records.clone(), vec![assignment("v", &["b"], 2)]);
    assert!(cluster.moved(&records[0]).is_empty());
}

#[test]
fn the_best_reader_comes_first() {
    let now = Instant::now();
    let draining = ReaderRecord { draining: true, ..record("a", 0, &[]) };
    let cluster = cluster(now, vec![draining, record("b", 9, &[]), record("c", 5, &[])], vec![]);
    let reached = cluster.reach(&assignment("v", &["a", "b", "c", "unknown"], 1));
    assert_eq!(reached.iter().map(|reader| reader.id.as_str()).collect::<Vec<_>>(), ["c", "b", "a"]);
}

#[test]
fn the_unwatched_are_let_go_and_the_watched_are_not() {
    let start = Instant::now();
    let records = vec![record("a", 1, &[("watched", 1)])];
    let held = ["watched", "idle"].map(|name| assignment(name, &["a"], 5));
    let mut cluster = cluster(start, records.clone(), held.to_vec());
    assert!(cluster.to_remove(start, Duration::ZERO, 10).is_empty(), "not before it is settled");
    let now = settle(&mut cluster, start, &records, true);
    let idle = now.duration_since(start);
    assert_eq!(cluster.to_remove(now, idle, 10), [(video("idle"), 5)]);
}

#[test]
fn an_epoch_that_cannot_be_does_not_stop_placement() {
    let now = Instant::now();
    let mistaken = ReaderRecord { highest_epoch: u64::MAX, ..record("a", 0, &[]) };
    let cluster = cluster(now, vec![mistaken], vec![assignment("v", &["a"], 12)]);
    assert_eq!(cluster.highest_epoch(), 12);
}
