use liverank_core::counting::apply_batch;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const BEGIN_TIME: Millis = 1_700_000_000_000;

fn record(partition: u32, offset: u64, value: &Value) -> LogRecord {
    let broker_time = BEGIN_TIME + offset as Millis;
    let event = Interaction::parse(value, broker_time).unwrap();
    LogRecord { partition, offset, broker_time, event }
}

fn told(records: &[LogRecord]) -> BTreeMap<VideoId, VideoByLog> {
    let mut tally = LogTally::new(CountingRules::default(), []);
    tally.count_records(records, Vec::new());
    tally.into_videos()
}

fn told_of_video<'a>(told: &'a BTreeMap<VideoId, VideoByLog>, video: &str) -> &'a VideoByLog {
    &told[&VideoId::parse(video).unwrap()]
}

#[test]
fn the_owner_of_a_video_on_two_partitions_may_be_the_first_of_either() {
    let by = |user: &str, owner: Option<&str>| json!({"video_id": "v", "user_id": user, "type": "view", "owner_id": owner});
    let owners = |records: &[LogRecord]| {
        let mut owners: Vec<String> =
            told_of_video(&told(records), "v").other_owners.iter().map(ToString::to_string).collect();
        owners.sort();
        owners
    };
    let one = [record(0, 0, &by("a", None)), record(0, 1, &by("b", None))];
    assert!(owners(&one).is_empty());
    let two = [record(0, 0, &by("a", None)), record(1, 0, &by("b", None)), record(1, 1, &by("c", None))];
    assert_eq!(owners(&two), ["a", "b"]);
    let given = [
        record(0, 0, &by("a", None)),
        record(0, 1, &by("b", Some("o"))),
        record(0, 2, &by("b", Some("p"))),
        record(1, 0, &by("c", None)),
    ];
    assert_eq!(owners(&given), ["o"]);
}

#[test]
fn one_identity_for_different_events_is_reported() {
    let event = |video: &str, kind: &str| json!({"video_id": video, "user_id": "u", "type": kind, "event_id": "e", "timestamp": 1});
    let records =
        |second: Value, partition: u32| [record(0, 0, &event("v", "view")), record(partition, 1, &second)];
    let same = told(&records(event("v", "view"), 1));
    assert!(!told_of_video(&same, "v").is_ambiguous && !told_of_video(&same, "v").has_ambiguous_times);
    assert_eq!(told_of_video(&same, "v").counted_state.counters.views, 1);
    let ordered = told(&records(event("v", "like"), 0));
    assert!(!told_of_video(&ordered, "v").is_ambiguous, "one partition has an order");
    assert!(told_of_video(&told(&records(event("v", "like"), 1)), "v").is_ambiguous);
    let mut later = event("v", "view");
    later["timestamp"] = json!(2);
    assert!(told_of_video(&told(&records(later, 1)), "v").has_ambiguous_times);
}

#[test]
fn counting_goes_on_from_a_snapshot() {
    let view = json!({"video_id": "v", "user_id": "u", "type": "view", "event_id": "e"});
    let first = apply_batch(&[record(0, 0, &view)], [], Vec::new(), &CountingRules::default());
    let mut tally = LogTally::new(CountingRules::default(), [(0, 3)]);
    tally.add_initial_videos(first.videos);
    let mut other = view.clone();
    other["event_id"] = json!("f");
    tally.count_records(&[record(0, 1, &view), record(0, 2, &other)], first.new_identities);
    assert_eq!(tally.event_counts(), (1, 1));
    assert_eq!(told_of_video(&tally.into_videos(), "v").counted_state.counters.views, 2);
}

#[test]
fn identities_of_an_earlier_release_mark_repeats_within_their_window() {
    let view = json!({"video_id": "v", "user_id": "u", "type": "view", "event_id": "e"});
    let mut tally = LogTally::new(CountingRules::default(), [(0, 3)]);
    let mut last = record(0, 2, &view);
    last.broker_time = BEGIN_TIME + REPEAT_WINDOW_MS;
    tally.count_records(&[record(0, 1, &view), last], vec![("e:e".to_owned(), BEGIN_TIME)]);
    assert_eq!(tally.event_counts(), (1, 1));
}

#[test]
fn identities_are_forgotten_once_no_partition_can_repeat_them() {
    let mut tally = LogTally::new(CountingRules::default(), [(0, 1_000_000), (1, 1)]);
    let event =
        |id: u64| json!({"video_id": "v", "user_id": "u", "type": "view", "event_id": format!("e{id}")});
    let mut batch: Vec<LogRecord> = (0..PRUNE_EVERY).map(|at| record(0, at, &event(at))).collect();
    for record in &mut batch[1..] {
        record.broker_time += 2 * REPEAT_WINDOW_MS;
    }
    tally.count_records(&batch, Vec::new());
    assert_eq!(tally.first_sightings.len() as u64, PRUNE_EVERY, "partition 1 may still repeat the first");
    tally.count_records(&[record(1, 0, &event(0))], Vec::new());
    assert_eq!(tally.event_counts(), (PRUNE_EVERY, 1));
    for record in &mut batch {
        record.offset += PRUNE_EVERY;
        record.broker_time += 1;
    }
    tally.count_records(&batch, Vec::new());
    assert!((tally.first_sightings.len() as u64) < PRUNE_EVERY, "the first is forgotten");
}

proptest! {
    /// Checks that counting partition after partition, or mixed, changes nothing but the owners, which are among those
    /// that are said to be possible.
    #[test]
    fn the_order_of_partitions_changes_owners_only(
        events in proptest::collection::vec((0..2u32, 0..3usize, 0..4usize, 0..4u8), 1..60), piece in 1..20usize,
    ) {
        let mut next = [0, 0];
        let records: Vec<LogRecord> = events.iter().map(|(partition, video, kind, user)| {
            let value = json!({"video_id": format!("v{video}"), "user_id": format!("u{user}"),
                "type": liverank_core::Kind::ALL[*kind].name()});
            let at = &mut next[*partition as usize];
            *at += 1;
            record(*partition, *at - 1, &value)
        }).collect();
        let whole = told(&records);
        let mut sorted = records.clone();
        sorted.sort_by_key(|record| (record.partition, record.offset));
        let mut tally = LogTally::new(CountingRules::default(), [(0, next[0]), (1, next[1])]);
        for piece in sorted.chunks(piece) {
            tally.count_records(piece, Vec::new());
        }
        let pieces = tally.into_videos();
        prop_assert_eq!(whole.len(), pieces.len());
        for (id, told) in &pieces {
            prop_assert_eq!(told.counted_state.counters, whole[id].counted_state.counters);
            prop_assert!((told.counted_state.trending_log2 - whole[id].counted_state.trending_log2).abs() < 1e-6);
            let owner = &whole[id].counted_state.owner;
            prop_assert!(told.counted_state.owner == *owner || told.other_owners.contains(owner));
        }
    }
}
