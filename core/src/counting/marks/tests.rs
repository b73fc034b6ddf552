use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::super::{
    BatchEffects, CountingRules, CountingSetup, LogRecord, StoredModeration, VideoState,
    apply_moderated_batch,
};
use super::*;
use crate::decays::CountedDecays;
use crate::score::{Counters, Weights};
use crate::windows::CountedWindows;

const BEGIN_TIME: Millis = 1_700_000_000_000;

fn rules() -> CountingRules {
    CountingRules { unique: "like,share".parse().unwrap(), ..CountingRules::default() }
}

fn record(offset: u64, video: &str, user: &str, kind: &str) -> LogRecord {
    let value = json!({"video_id": video, "user_id": user, "type": kind, "watch_time": 1});
    let broker_time = BEGIN_TIME + offset as Millis;
    LogRecord { partition: 0, offset, broker_time, event: Interaction::parse(&value, broker_time).unwrap() }
}

/// An archive in memory.
#[derive(Default)]
struct ModelArchive {
    videos: BTreeMap<String, VideoState>,
    marks: BTreeMap<MarkKey, UniqueMark>,
}

impl ModelArchive {
    fn commit(&mut self, records: &[LogRecord], rules: &CountingRules) -> BatchEffects {
        let keys: Vec<_> =
            records.iter().filter_map(|record| mark_key(&record.event, rules.unique)).collect();
        let marks: BTreeMap<_, _> =
            keys.into_iter().filter_map(|key| Some((key, self.marks.get(&key)?.clone()))).collect();
        let known: Vec<_> = self.videos.values().cloned().collect();
        let (windows, decays) = (&CountedWindows::default(), &CountedDecays::default());
        let in_force = CountingSetup { rules, windows, decays };
        let effects =
            apply_moderated_batch(records, known, Vec::new(), StoredModeration::default(), marks, in_force);
        for state in &effects.videos {
            self.videos.insert(state.video_id.to_string(), state.clone());
        }
        for change in &effects.mark_changes {
            assert_eq!(self.marks.contains_key(&change.key), change.is_stored);
            match change.new_value.clone() {
                Some(value) => self.marks.insert(change.key, value),
                None => self.marks.remove(&change.key),
            };
        }
        effects
    }

    fn counters(&self, video: &str) -> Counters {
        self.videos[video].counters
    }
}

#[test]
fn a_user_likes_a_video_once_and_takes_it_back_once() {
    let mut store = ModelArchive::default();
    let log = ["like", "like", "unlike", "unlike", "like", "view", "view"];
    let log: Vec<_> = log.iter().enumerate().map(|(at, kind)| record(at as u64, "v", "ana", kind)).collect();
    let likes: Vec<i64> = log
        .iter()
        .map(|record| {
            store.commit(std::slice::from_ref(record), &rules());
            store.counters("v").likes
        })
        .collect();
    assert_eq!(likes, [1, 1, 0, 0, 1, 1, 1]);
    assert_eq!((store.counters("v").views, store.marks.len()), (2, 1));
    let mut at_once = ModelArchive::default();
    let effects = at_once.commit(&log, &rules());
    assert_eq!((effects.counted_event_count, effects.repeated_event_count), (5, 2));
    assert_eq!((&at_once.videos, &at_once.marks), (&store.videos, &store.marks));
}

#[test]
fn unique_marks_are_separate_by_user_video_and_type() {
    let mut store = ModelArchive::default();
    let log = [
        record(0, "v", "ana", "like"),
        record(1, "v", "ben", "like"),
        record(2, "w", "ana", "like"),
        record(3, "v", "ana", "share"),
        record(4, "v", "ana", "unshare"),
        record(5, "v", "cid", "unlike"),
    ];
    store.commit(&log, &rules());
    let (v, w) = (store.counters("v"), store.counters("w"));
    assert_eq!((v.likes, v.shares, w.likes, store.marks.len()), (2, 0, 1, 3));
}

#[test]
fn an_unlike_is_ignored_where_likes_count_each_time() {
    let mut store = ModelArchive::default();
    let log = [record(0, "v", "ana", "like"), record(1, "v", "ana", "like"), record(2, "v", "ana", "unlike")];
    let effects = store.commit(&log, &CountingRules::default());
    assert_eq!(
        (store.counters("v").likes, effects.counted_event_count, effects.repeated_event_count),
        (2, 2, 1)
    );
    assert!(effects.mark_changes.is_empty());
    let nothing = store.commit(&[record(3, "new", "ana", "unlike")], &rules());
    assert!(nothing.videos.is_empty(), "an unlike makes no video");
}

#[test]
fn a_like_that_was_taken_back_leaves_no_trending_score() {
    let mut store = ModelArchive::default();
    store.commit(&[record(0, "v", "ana", "like"), record(1, "v", "ana", "unlike")], &rules());
    assert!(store.videos["v"].trending_log2.is_infinite());
}

#[test]
fn unique_kind_names_round_trip() {
    for text in ["", "like", "view,like,share"] {
        assert_eq!(text.parse::<UniqueKinds>().unwrap().to_string(), text);
    }
    assert_eq!(" share, like ".parse::<UniqueKinds>().unwrap().to_string(), "like,share");
    for wrong in ["likes", "comment", "like;share", "unlike"] {
        assert_eq!(wrong.parse::<UniqueKinds>().unwrap_err().field, "unique", "{wrong}");
    }
    let of = |text: &str| text.parse::<UniqueKinds>().unwrap();
    assert!(of("like,share").includes_all(of("like")) && !of("like").includes_all(of("like,share")));
    assert!(of("").includes_all(of("")) && of("").is_empty() && !of("view").is_empty());
}

/// Computes the counts by their definition: the last of a user's likes and unlikes decides.
fn count_by_definition(log: &[LogRecord]) -> BTreeMap<String, (Counters, f64)> {
    let weights = Weights::default();
    let mut counters: BTreeMap<String, Counters> = BTreeMap::new();
    let mut marks: BTreeMap<(String, String, Kind), Millis> = BTreeMap::new();
    let mut worth: BTreeMap<String, f64> = BTreeMap::new();
    for record in log {
        let event = &record.event;
        let (video, user) = (event.video_id.to_string(), event.user_id.to_string());
        if let Some(kind) = event.kind.kind_taken_back() {
            marks.remove(&(video, user, kind));
        } else if rules().unique.contains(event.kind) {
            counters.entry(video.clone()).or_default();
            marks.entry((video, user, event.kind)).or_insert(event.timestamp);
        } else {
            counters.entry(video.clone()).or_default().count_event(event, &weights);
            *worth.entry(video).or_default() += crate::score::thousandths_added(event, &weights) as f64;
        }
    }
    for (video, _, kind) in marks.into_keys() {
        let counted = counters.get_mut(&video).unwrap();
        let points = if kind == Kind::Like {
            counted.likes += 1;
            weights.like
        } else {
            counted.shares += 1;
            weights.share
        };
        *worth.entry(video).or_default() += points as f64;
    }
    counters
        .into_iter()
        .map(|(video, counted)| {
            let worth = worth.get(&video).copied().unwrap_or_default();
            (video, (counted, worth))
        })
        .collect()
}

proptest! {
    /// For any split of a log of likes and unlikes into batches, each counts once and can be taken back once.
    #[test]
    fn likes_and_unlikes_count_once_by_the_model(
        events in proptest::collection::vec((0..2u8, 0..3u8, 0..crate::Kind::ALL.len()), 1..80), step in 1..20usize,
    ) {
        let log: Vec<_> = events.iter().enumerate().map(|(at, (video, user, kind))| {
            record(at as u64, &format!("v{video}"), &format!("u{user}"), Kind::ALL[*kind].name())
        }).collect();
        let mut store = ModelArchive::default();
        let mut revisions: BTreeMap<String, u64> = BTreeMap::new();
        for records in log.chunks(step) {
            let before = store.videos.clone();
            for state in store.commit(records, &rules()).videos {
                let id = state.video_id.to_string();
                let was = before.get(&id);
                // The boards tell a later state from an earlier one by the revision.
                if was != Some(&state) {
                    prop_assert!(state.revision() > revisions.get(&id).copied().unwrap_or(0));
                }
                revisions.insert(id, state.revision());
            }
        }
        let expected = count_by_definition(&log);
        prop_assert_eq!(store.videos.len(), expected.len());
        for (video, (counters, worth)) in expected {
            let state = &store.videos[&video];
            prop_assert_eq!(state.counters, counters);
            // All events are at the same moment, as far as the half-life can tell.
            let shown = crate::trending::value_at(state.trending_log2, BEGIN_TIME, rules().half_life_ms) * 1000.0;
            prop_assert!((shown - worth).abs() <= worth.max(1.0) * 1e-4, "{} {}", shown, worth);
        }
    }
}
