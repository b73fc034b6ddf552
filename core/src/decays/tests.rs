use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::counting::{
    BatchEffects, CountingSetup, MarkKey, StoredModeration, UniqueMark, VideoState, apply_moderated_batch,
    mark_key,
};
use crate::trending::{MAX_AGE_MS, value_at};
use crate::windows::CountedWindows;
use crate::{Interaction, Kind};

const BEGIN: Millis = 1_700_000_000_000;
const HOUR: Millis = 3_600_000;

fn decay(text: &str) -> Decay {
    Decay::parse(text).unwrap()
}

/// Two decays: one hour with the weights of all boards, and two hours in which only a like is worth something, half a
/// point.
fn counted() -> CountedDecays {
    let mut run = 6;
    CountedDecays::default().with_wanted_decays(&[decay("60"), decay("120 0 500 0 0 0 0")], None, || {
        run += 1;
        run
    })
}

fn unique() -> CountingRules {
    CountingRules { unique: "like,share".parse().unwrap(), ..CountingRules::default() }
}

fn record(offset: u64, event_time: Millis, who: &str, kind: &str) -> LogRecord {
    let value = json!({"video_id": "v", "user_id": who, "type": kind, "watch_time": 3});
    let broker_time = BEGIN + offset as Millis;
    let mut event = Interaction::parse(&value, broker_time).unwrap();
    event.timestamp = event_time;
    LogRecord { partition: 0, offset, broker_time, event }
}

/// An archive in memory.
#[derive(Default)]
struct ModelArchive {
    video: Option<VideoState>,
    marks: BTreeMap<MarkKey, UniqueMark>,
}

impl ModelArchive {
    fn commit(
        &mut self,
        records: &[LogRecord],
        rules: &CountingRules,
        decays: &CountedDecays,
    ) -> BatchEffects {
        let keys = records.iter().filter_map(|record| mark_key(&record.event, rules.unique));
        let marks: BTreeMap<_, _> =
            keys.filter_map(|key| Some((key, self.marks.get(&key)?.clone()))).collect();
        let in_force = CountingSetup { rules, windows: &CountedWindows::default(), decays };
        let effects = apply_moderated_batch(
            records,
            self.video.take(),
            [],
            StoredModeration::default(),
            marks,
            in_force,
        );
        self.video = effects.videos.first().cloned();
        for change in effects.mark_changes.clone() {
            match change.new_value {
                Some(mark) => self.marks.insert(change.key, mark),
                None => self.marks.remove(&change.key),
            };
        }
        effects
    }

    fn score(&self, of: &str) -> Option<DecayedScore> {
        self.video.as_ref()?.decayed_scores.iter().find(|score| score.decay == decay(of)).copied()
    }

    fn events(&self, of: &str) -> u64 {
        self.score(of).map_or(0, |score| score.event_count)
    }
}

#[test]
fn a_decay_is_read_as_it_is_written() {
    for text in ["1", "525600", "60 1 2 3 4 5 6"] {
        assert_eq!(decay(text).to_string(), text);
    }
    for (wrong, field) in
        [("", "halfLifeMinutes"), ("0", "halfLifeMinutes"), ("525601", "halfLifeMinutes"), ("1 2", "weights")]
    {
        assert_eq!(Decay::parse(wrong).unwrap_err().field, field, "{wrong}");
    }
}

#[test]
fn what_is_taken_back_leaves_nothing_and_others_what_was_theirs() {
    let mut store = ModelArchive::default();
    let (decays, rules) = (counted(), unique());
    store.commit(&[record(0, BEGIN, "ana", "like")], &rules, &decays);
    let one = store.score("120 0 500 0 0 0 0").unwrap();
    assert!((value_at(one.log2, BEGIN, one.decay.half_life_ms()) - 0.5).abs() < 1e-6);
    store.commit(
        &[record(1, BEGIN - HOUR, "ben", "like"), record(2, BEGIN, "ben", "unlike")],
        &rules,
        &decays,
    );
    assert_eq!((store.events("60"), store.events("120 0 500 0 0 0 0")), (1, 1));
    let left = store.score("120 0 500 0 0 0 0").unwrap();
    assert!((left.log2 - one.log2).abs() < 1e-6, "{left:?} {one:?}");
    store.commit(&[record(3, BEGIN, "ana", "unlike")], &rules, &decays);
    assert_eq!(store.video.as_ref().unwrap().decayed_scores, DecayedScores::default());
    // A view is worth nothing by the weights of the second decay.
    store.commit(&[record(4, BEGIN, "ana", "view")], &rules, &decays);
    assert_eq!((store.events("60"), store.events("120 0 500 0 0 0 0")), (1, 0));
}

#[test]
fn what_was_counted_without_a_decay_is_not_taken_from_it() {
    let rules = unique();
    let first = counted().with_wanted_decays(&[decay("60")], None, || unreachable!());
    let mut store = ModelArchive::default();
    store.commit(&[record(0, BEGIN, "ana", "like")], &rules, &CountedDecays::default());
    store.commit(&[record(1, BEGIN, "ben", "like"), record(2, BEGIN, "ana", "unlike")], &rules, &first);
    assert_eq!(
        (store.events("60"), store.video.as_ref().unwrap().counters.likes),
        (1, 1),
        "ana's was not in it"
    );
    // After a gap, it is unknown what happened to the marks from before.
    let second = first.with_counting_gap(Some(BEGIN + 9), || 99);
    let of = second.find(&decay("60")).unwrap();
    assert_eq!((of.run, of.complete_after), (99, Some(BEGIN + 9)));
    store.commit(&[record(3, BEGIN, "cid", "like"), record(4, BEGIN, "ben", "unlike")], &rules, &second);
    assert_eq!(store.events("60"), 2, "ben's stays, as it may be gone already");
    store.commit(&[record(5, BEGIN, "cid", "unlike")], &rules, &second);
    assert_eq!(store.events("60"), 1);
}

#[test]
fn a_decay_that_is_counted_no_more_goes_with_the_next_change() {
    let mut store = ModelArchive::default();
    store.commit(&[record(0, BEGIN, "ana", "like")], &unique(), &counted());
    let fewer = counted().with_wanted_decays(&[decay("60")], Some(BEGIN), || unreachable!());
    store.commit(&[record(1, BEGIN, "ben", "like")], &unique(), &fewer);
    assert_eq!((store.events("60"), store.events("120 0 500 0 0 0 0")), (2, 0));
    let again = fewer.with_wanted_decays(&[decay("60"), decay("30")], Some(BEGIN + 1), || 98);
    assert_eq!(again.find(&decay("60")), fewer.find(&decay("60")), "it is counted on");
    assert_eq!(again.find(&decay("30")).unwrap().complete_after, Some(BEGIN + 1));
}

#[test]
fn without_decays_nothing_is_kept() {
    let mut store = ModelArchive::default();
    let effects = store.commit(&[record(0, BEGIN, "ana", "like")], &unique(), &CountedDecays::default());
    assert!(effects.videos[0].decayed_scores.is_empty());
    assert_eq!(effects.mark_changes[0].new_value.as_ref().unwrap().decay_contributions, []);
}

/// Computes the score by its definition: each event in force, at its time as bounded by the log.
fn by_definition(log: &[LogRecord], weights: &str, now: Millis) -> (u64, f64) {
    let rules = unique();
    let own = decay(weights);
    let all = own.weights.map_or(rules.weights, |weights| weights.to_weights(&rules.weights));
    let mut marks: BTreeMap<(String, Kind), f64> = BTreeMap::new();
    let mut sum = (0, 0.0);
    for record in log {
        let event = &record.event;
        let at = event.timestamp.clamp(record.broker_time - MAX_AGE_MS, record.broker_time);
        let points = thousandths_added(event, &all) as f64 / 1000.0;
        let value = points * (-((now - at) as f64) / own.half_life_ms() as f64).exp2();
        let user = event.user_id.to_string();
        if let Some(kind) = event.kind.kind_taken_back() {
            marks.remove(&(user, kind));
        } else if rules.unique.contains(event.kind) {
            marks.entry((user, event.kind)).or_insert(value);
        } else if points > 0.0 {
            sum = (sum.0 + 1, sum.1 + value);
        }
    }
    marks.values().filter(|value| **value > 0.0).fold(sum, |(events, sum), value| (events + 1, sum + value))
}

proptest! {
    /// In any order of events, and for any split of the log into batches, each event is in each score once, counted or
    /// taken back.
    #[test]
    fn scores_are_those_of_the_events_in_force(
        events in proptest::collection::vec((0..3u8, 0..crate::Kind::ALL.len(), 0..3 * HOUR), 1..60), step in 1..20usize,
    ) {
        let log: Vec<_> = events.iter().zip(0..).map(|((user, kind, age), offset)| {
            record(offset, BEGIN - age, &format!("u{user}"), Kind::ALL[*kind].name())
        }).collect();
        let mut store = ModelArchive::default();
        for records in log.chunks(step) {
            let before = store.video.clone();
            store.commit(records, &unique(), &counted());
            store.video = store.video.take().or(before);
        }
        let (last, mut whole) = (BEGIN + log.len() as Millis, ModelArchive::default());
        whole.commit(&log, &unique(), &counted());
        for own in ["60", "120 0 500 0 0 0 0"] {
            let (events, expected) = by_definition(&log, own, last);
            prop_assert_eq!((store.events(own), whole.score(own)), (events, store.score(own)));
            let found = store.score(own).map_or(0.0, |score| value_at(score.log2, last, score.decay.half_life_ms()));
            prop_assert!((found - expected).abs() <= 1e-5 * expected.max(1.0), "{} {}", found, expected);
        }
    }

    #[test]
    fn the_order_of_events_does_not_matter(
        ages in proptest::collection::vec(0..3 * HOUR, 1..30), seed in any::<usize>(),
    ) {
        let of = |ages: &[Millis]| {
            let log: Vec<_> = ages.iter().zip(0..).map(|(age, at)| record(at, BEGIN - age, "ana", "view")).collect();
            let mut store = ModelArchive::default();
            store.commit(&log, &unique(), &counted());
            store.score("60").unwrap()
        };
        let mut turned = ages.clone();
        turned.rotate_left(seed % ages.len());
        turned.reverse();
        let (one, other) = (of(&ages), of(&turned));
        prop_assert_eq!(one.event_count, other.event_count);
        prop_assert!((one.log2 - other.log2).abs() < 1e-9 * one.log2, "{} {}", one.log2, other.log2);
    }
}
