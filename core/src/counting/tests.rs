use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::canary;

fn record(offset: u64, value: &Value) -> LogRecord {
    let broker_time = 1_700_000_000_000 + offset as Millis;
    LogRecord { partition: 0, offset, broker_time, event: Interaction::parse(value, broker_time).unwrap() }
}

fn comment_record(offset: u64, video: &str, id: &str) -> LogRecord {
    let value =
        json!({"video_id": video, "user_id": "u", "type": "comment", "comment_id": id, "comment": "hi"});
    record(offset, &value)
}

fn no_sightings() -> Vec<(String, Millis)> {
    Vec::new()
}

#[test]
fn a_repeat_counts_once_within_the_window_and_again_after_it() {
    let view = json!({"video_id": "v", "user_id": "u", "type": "view", "event_id": "e"});
    let mut late = record(2, &view);
    late.broker_time += REPEAT_WINDOW_MS;
    let records = [record(0, &view), record(1, &view), late];
    let effects = apply_batch(&records, [], no_sightings(), &CountingRules::default());
    assert_eq!((effects.counted_event_count, effects.repeated_event_count), (2, 1));
    assert_eq!(effects.videos[0].counters.views, 2);
    for name in event_identities(&records[0].event) {
        let seen = [(name, records[0].broker_time)];
        assert_eq!(apply_batch(&records[..2], [], seen, &CountingRules::default()).counted_event_count, 0);
    }
}

#[test]
fn an_event_id_is_scoped_to_its_user_and_video() {
    let of = |video: &str, user: &str| json!({"video_id": video, "user_id": user, "type": "view", "event_id": "e"});
    let records = [of("v", "ana"), of("v", "ben"), of("w", "ana"), of("v", "ana")];
    let records: Vec<_> = records.iter().enumerate().map(|(at, it)| record(at as u64, it)).collect();
    let effects = apply_batch(&records, [], no_sightings(), &CountingRules::default());
    assert_eq!(
        (effects.counted_event_count, effects.repeated_event_count, effects.new_identities.len()),
        (3, 1, 3)
    );
}

#[test]
fn identities_of_an_earlier_release_are_recognised_within_their_window() {
    let view = json!({"video_id": "v", "user_id": "u", "type": "view", "event_id": "e"});
    let (now, mut later) = (record(0, &view), record(1, &view));
    later.broker_time = now.broker_time + REPEAT_WINDOW_MS;
    let seen = || [("e:e".to_owned(), now.broker_time)];
    assert_eq!(
        apply_batch(std::slice::from_ref(&now), [], seen(), &CountingRules::default()).repeated_event_count,
        1
    );
    let effects = apply_batch(std::slice::from_ref(&later), [], seen(), &CountingRules::default());
    assert_eq!(effects.counted_event_count, 1);
    assert_eq!(effects.new_identities[0].0, "e:v\nu\ne", "remembered under the new name");
    let batch = Batch { records: vec![now], ..Batch::default() };
    assert!(batch.event_identities().contains("e:e"), "the archive is asked for it");
}

#[test]
fn comments_are_numbered_after_the_last_one_of_the_video() {
    let first = apply_batch(
        &[comment_record(0, "v", "a"), comment_record(1, "w", "b")],
        [],
        no_sightings(),
        &CountingRules::default(),
    );
    assert_eq!(first.comments.iter().map(|c| c.comment.seq).collect::<Vec<_>>(), [1, 1]);
    let again = [comment_record(2, "v", "c"), comment_record(3, "v", "c"), comment_record(4, "v", "d")];
    let second = apply_batch(&again, first.videos, no_sightings(), &CountingRules::default());
    assert_eq!(second.comments.iter().map(|c| c.comment.seq).collect::<Vec<_>>(), [2, 3]);
    assert_eq!((second.videos.len(), second.videos[0].counters.comments), (1, 3));
}

#[test]
fn the_first_body_of_a_comment_wins() {
    let mut other = comment_record(1, "v", "a");
    other.event.comment.as_mut().unwrap().text = "later".into();
    let effects =
        apply_batch(&[comment_record(0, "v", "a"), other], [], no_sightings(), &CountingRules::default());
    assert_eq!(effects.comments.len(), 1);
    assert_eq!(effects.comments[0].comment.text, "hi");
}

#[test]
fn the_owner_is_the_first_given_else_the_first_user() {
    let by = |user: &str, owner: Option<&str>| json!({"video_id": "v", "user_id": user, "type": "view", "owner_id": owner});
    let run = |values: &[Value]| {
        let records: Vec<_> = values.iter().enumerate().map(|(at, value)| record(at as u64, value)).collect();
        apply_batch(&records, [], no_sightings(), &CountingRules::default()).videos[0].owner.to_string()
    };
    assert_eq!(run(&[by("a", None), by("b", None)]), "a");
    assert_eq!(run(&[by("a", None), by("b", Some("o"))]), "o");
    assert_eq!(run(&[by("a", Some("o")), by("b", Some("p"))]), "o");
}

#[test]
fn the_canary_is_counted_and_published_but_not_archived() {
    let own = |kind: &str| json!({"video_id": canary::CANARY_ID, "user_id": canary::CANARY_ID, "type": kind, "comment_id": "a", "comment": "hi"});
    let mut view = own("view");
    view.as_object_mut().unwrap().remove("comment_id");
    let mut view = record(0, &view);
    // The reader of records refuses this record; here it would not matter either.
    (view.event.user_id, view.event.owner_id) = ("mallory".parse().unwrap(), "mallory".parse().ok());
    let records = [view, record(1, &own("comment")), comment_record(2, "v", "b")];
    let effects = apply_batch(&records, [], no_sightings(), &CountingRules::default());
    let [own, other] = effects.videos.as_slice() else { panic!("{:?}", effects.videos) };
    assert_eq!((own.owner.as_str(), own.counters.views, own.last_seq), (canary::CANARY_ID, 1, 1));
    assert!(own.is_off_boards() && !other.is_off_boards());
    assert_eq!(effects.comments.len(), 2, "both are published");
    let archived: Vec<_> = effects.archived_comments().map(|it| it.comment.id.as_str()).collect();
    assert_eq!(archived, ["b"]);
}

#[test]
fn an_event_and_a_comment_with_the_same_id_both_count() {
    let view = json!({"video_id": "v", "user_id": "u", "type": "view", "event_id": "x"});
    let effects = apply_batch(
        &[record(0, &view), comment_record(1, "v", "x")],
        [],
        no_sightings(),
        &CountingRules::default(),
    );
    assert_eq!(effects.counted_event_count, 2);
}

#[test]
fn a_batch_continues_from_the_state_of_the_batch_before() {
    let view = json!({"video_id": "v", "user_id": "u", "type": "view"});
    let mark = |digest| Some(RecordFingerprint { broker_time: 1, digest });
    let span = |partition, from, next, last| OffsetRange { partition, first: from, next, last_record: last };
    let mut batch = Batch { offset_ranges: vec![span(0, 3, 5, mark(1))], records: vec![record(3, &view)] };
    let next = vec![span(0, 5, 9, mark(2)), span(7, 0, 1, mark(3))];
    batch.append(Batch { offset_ranges: next, records: vec![record(6, &view)] });
    batch.append(Batch { offset_ranges: vec![span(0, 9, 9, None)], records: Vec::new() });
    assert_eq!(batch.offset_ranges, [span(0, 3, 9, mark(2)), span(7, 0, 1, mark(3))]);
    assert_eq!(batch.records.len(), 2);
    batch.drop_partitions(&[0]);
    assert_eq!((batch.offset_ranges, batch.records.len()), (vec![span(7, 0, 1, mark(3))], 0));
}

proptest! {
    /// The result is the same for any split of the log into batches.
    #[test]
    fn splitting_the_log_into_other_batches_gives_the_same_result(
        events in proptest::collection::vec((0..3usize, 0..crate::Kind::ALL.len(), proptest::option::of(0..6u8)), 1..40),
        cut in any::<prop::sample::Index>(),
    ) {
        let records: Vec<_> = events.iter().enumerate().map(|(at, (video, kind, id))| {
            let kind = crate::Kind::ALL[*kind].name();
            let mut value = json!({"video_id": format!("v{video}"), "user_id": "u", "type": kind,
                "watch_time": 1.5, "event_id": id.map(|id| format!("e{id}"))});
            if kind == "comment" {
                value["comment_id"] = json!(format!("c{}", id.unwrap_or(at as u8 + 10)));
                value["comment"] = json!("text");
            }
            record(at as u64, &value)
        }).collect();
        let rules = CountingRules::default();
        let whole = apply_batch(&records, [], no_sightings(), &rules);
        let (head, tail) = records.split_at(cut.index(records.len()));
        let first = apply_batch(head, [], no_sightings(), &rules);
        let second = apply_batch(tail, first.videos.clone(), first.new_identities.clone(), &rules);
        let mut merged: BTreeMap<_, _> = first.videos.into_iter().map(|v| (v.video_id.clone(), v)).collect();
        merged.extend(second.videos.into_iter().map(|v| (v.video_id.clone(), v)));
        prop_assert_eq!(merged.into_values().collect::<Vec<_>>(), whole.videos);
        let comments: Vec<_> = first.comments.into_iter().chain(second.comments).collect();
        prop_assert_eq!(comments, whole.comments);
        prop_assert_eq!(first.counted_event_count + second.counted_event_count, whole.counted_event_count);
    }
}
